//! Scalar code as C++: registers are constants of their scope, loops are loops.
//!
//! A thread runs the code of a point; where it holds long loops, a warp does, or the whole block. All lanes of such a group do
//! the same, but share out the iterations of a loop whose stores meet in no element; its sums are added in a fixed order,
//! and stores outside of such loops are the first lane's. An address out of range, which only a register can bring about,
//! reads not a number and stores nothing.

use super::emitter::Emitter;
use crate::jet::ranges::{Range, Ranges};
use crate::jet::{Address, Binary, Fold, Instruction, Pointwise, Register, Source, Unary, ValueId};
use std::collections::HashMap;

/// Iterations that are shared out, at least.
const LONG: i64 = 8;
/// Iterations that a block shares out, at least.
const VERY_LONG: i64 = 192;
/// Points of a tile above which a warp takes each, however long the loops.
const FEW_POINTS: usize = 4;

/// Every real holds all whole numbers below this.
const EXACT: i64 = 1 << 24;

/// More functions than these are called, not compiled each where it stands: that takes NVRTC seconds.
const MANY: usize = 4;

/// Who runs the code of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Group {
    Thread,
    Warp,
    Block,
}

struct Writer<'a, 'b> {
    emitter: &'a mut Emitter<'b>,
    code: &'a Pointwise,
    group: Group,
    /// Its functions are called.
    calls: bool,
    value: ValueId,
    next: u32,
    constants: HashMap<u32, f64>,
    ranges: Ranges,
    /// Within a loop that is shared out.
    shared: bool,
    /// The result's elements are written once each.
    once: bool,
    /// Lanes have stored since they last waited for each other, each its own elements.
    many: bool,
    /// The first lane has.
    first: bool,
    addresses: usize,
}

impl Emitter<'_> {
    pub fn pointwise(&mut self, k: usize, code: &Pointwise) {
        if code.rows * code.features == 0 {
            return;
        }
        let group = match code {
            code if is_own(code) => Group::Thread,
            code if by_block(code, self.layout.tile) => Group::Block,
            _ => Group::Warp,
        };
        self.line(match group {
            Group::Thread => "for (int p = threadIdx.x; p < n; p += blockDim.x) {",
            Group::Warp => "for (int p = threadIdx.x / 32; p < n; p += blockDim.x / 32) {",
            Group::Block => "for (int p = 0; p < n; ++p) {",
        });
        match group {
            Group::Thread => {}
            Group::Warp => self.line("const int lane = threadIdx.x % 32, lanes = 32;"),
            Group::Block => self.line("const int lane = threadIdx.x, lanes = blockDim.x;"),
        }
        let once = covers(code);
        let ranges = Ranges::of(code, self.program, &self.types);
        let mut writer = Writer {
            emitter: self,
            code,
            group,
            calls: functions(&code.code) > MANY,
            value: ValueId(k as u32),
            next: 0,
            constants: HashMap::new(),
            ranges,
            shared: false,
            once,
            many: false,
            first: false,
            addresses: 0,
        };
        if !once {
            writer.clear();
        }
        writer.block(&code.code);
        self.line("}");
    }
}

impl Writer<'_, '_> {
    fn line(&mut self, line: impl AsRef<str>) {
        self.emitter.line(line);
    }

    /// All elements 0.
    fn clear(&mut self) {
        let (rows, features, k, pitch) =
            (self.code.rows, self.code.features, self.value.0, self.emitter.pitch(self.value));
        let loop_ = match self.group {
            Group::Thread => format!("for (int e = 0; e < {}; ++e) {{", rows * features),
            _ => format!("for (int e = lane; e < {}; e += lanes) {{", rows * features),
        };
        self.line(loop_);
        self.line(format!("v{k}[(e / {features} * n + p) * {pitch} + e % {features}] = 0;"));
        self.line("}");
        self.many = self.group != Group::Thread;
    }

    /// The lanes wait for each other.
    fn wait(&mut self) {
        self.line(if self.group == Group::Warp { "__syncwarp();" } else { "__syncthreads();" });
        (self.many, self.first) = (false, false);
    }

    fn define(&mut self) -> u32 {
        self.next += 1;
        self.next - 1
    }

    fn block(&mut self, code: &[Instruction]) {
        for instruction in code {
            self.instruction(instruction);
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        let value = match instruction {
            Instruction::Constant(c) => {
                self.constants.insert(self.next, *c);
                self.emitter.literal(*c)
            }
            Instruction::Load { input, row, feature } => self.load(*input as usize, row, feature),
            Instruction::Index(address) => self.index(address),
            Instruction::Unary(f, a) if self.calls && is_long(*f) => {
                unary(*f, &format!("r{a}")).replacen("jet_", "call_", 1)
            }
            Instruction::Unary(f, a) => unary(*f, &format!("r{a}")),
            Instruction::Binary(f, a, b) => match self.constants.get(b) {
                Some(e) if *f == Binary::Pow && e.fract() == 0.0 && e.abs() <= 32.0 => format!("jet_power(r{a}, {e})"),
                _ => binary(*f, &format!("r{a}"), &format!("r{b}")),
            },
            Instruction::Store { row, feature, value } => return self.store(row, feature, *value),
            Instruction::Loop { var, lo, hi, body, reductions } => {
                return self.repeat(*var, *lo, *hi, body, reductions);
            }
        };
        let r = self.define();
        self.line(format!("const real r{r} = {value};"));
    }

    /// The range of an address that holds a register, where all of it is exact.
    fn range(&self, address: &Address) -> Option<Range> {
        let exact = |r: &Range| r.0.abs().max(r.1.abs()) < EXACT;
        self.ranges.register(address.register?).filter(exact)?;
        self.ranges.address(address).filter(exact)
    }

    /// An address as a number.
    fn index(&self, address: &Address) -> String {
        if address.terms.is_empty() && self.range(address).is_some() {
            return text(address, |r| format!("r{r}"));
        }
        format!("(real)({})", text(address, whole))
    }

    /// Declares an address that holds a register; its name.
    fn checked(&mut self, address: &Address) -> String {
        self.addresses += 1;
        let name = format!("at{}", self.addresses);
        self.line(format!("const long long {name} = {};", text(address, whole)));
        name
    }

    /// The address as text, and what must hold for it to be in range.
    fn place(&mut self, address: &Address, size: usize) -> (String, Option<String>) {
        let fits = |r: Range| 0 <= r.0 && r.1 < size as i64;
        if address.register.is_none() || self.range(address).is_some_and(fits) {
            return (text(address, |r| format!("(int)r{r}")), None);
        }
        let name = self.checked(address);
        let inside = format!("{name} >= 0 && {name} < {size}");
        (name, Some(inside))
    }

    fn load(&mut self, input: usize, row: &Address, feature: &Address) -> String {
        let Some(source) = self.code.inputs.get(input).copied() else {
            let width = self.emitter.wide.as_ref().map_or(0, |w| w.columns.len());
            let sums = self.emitter.named("column_sums");
            return format!("{sums}[(size_t)(first + p) * {width} + {}]", text(feature, whole));
        };
        let (element, inside) = match source {
            Source::Tensor(t) => {
                let size = self.emitter.program.tensors[t.index()].len();
                let (feature, inside) = self.place(feature, size);
                (format!("{}[{feature}]", self.emitter.tensor(t)), vec![inside])
            }
            Source::Value(v) if self.emitter.is_made(v) => {
                if let Some(place) = self.emitter.pad.place(self.next) {
                    return place;
                }
                let features = self.emitter.shape(v).1;
                let (feature, inside) = self.place(feature, features);
                let source = self.emitter.wide.as_ref().map_or(String::new(), |w| w.source.clone());
                (format!("{source}_at({feature}, first + p, s, scale[first + p])"), vec![inside])
            }
            Source::Value(v) => {
                let ((rows, features), pitch) = (self.emitter.shape(v), self.emitter.pitch(v));
                let (row, row_inside) = self.place(row, rows);
                let (feature, inside) = self.place(feature, features);
                (element(v, &row, &feature, pitch), vec![row_inside, inside])
            }
        };
        let inside: Vec<String> = inside.into_iter().flatten().collect();
        if inside.is_empty() { element } else { format!("{} ? {element} : not_a_number()", inside.join(" && ")) }
    }

    fn store(&mut self, row: &Address, feature: &Address, value: u32) {
        let pitch = self.emitter.pitch(self.value);
        let (row, row_inside) = self.place(row, self.code.rows);
        let (feature, inside) = self.place(feature, self.code.features);
        let lane = (self.group != Group::Thread && !self.shared).then(|| "lane == 0".to_string());
        let guards: Vec<String> = lane.into_iter().chain(row_inside).chain(inside).collect();
        let guard = if guards.is_empty() { String::new() } else { format!("if ({}) ", guards.join(" && ")) };
        let target = element(self.value, &row, &feature, pitch);
        if !self.shared && self.many {
            self.wait();
        }
        let sign = if self.once { "=" } else { "+=" };
        self.line(format!("{guard}{target} {sign} r{value};"));
        self.first |= self.group != Group::Thread && !self.shared;
    }

    fn repeat(&mut self, var: u32, lo: i64, hi: i64, body: &[Instruction], reductions: &[(Fold, u32)]) {
        let split = self.group != Group::Thread && !self.shared && hi - lo >= LONG && is_split(var, body);
        let stores = has_stores(body);
        if split && stores {
            // other loops may share out elements in another way
            if self.many || self.first {
                self.wait();
            }
        } else if !self.shared && stores && self.many {
            self.wait();
        }
        let mut results = Vec::new();
        for (fold, _) in reductions {
            self.addresses += 1;
            let name = format!("fold{}", self.addresses);
            let start = if *fold == Fold::Sum { "0" } else { "-infinity()" };
            self.line(format!("real {name} = {start};"));
            results.push(name);
        }
        match split {
            true => self.line(format!("for (int i{var} = {lo} + lane; i{var} < {hi}; i{var} += lanes) {{")),
            false => self.line(format!("for (int i{var} = {lo}; i{var} < {hi}; ++i{var}) {{")),
        }
        if !split && !self.shared && self.group != Group::Thread && stores {
            // what the last iteration has left
            self.first = true;
            self.many |= longest(body) > 0;
        }
        self.shared |= split;
        self.block(body);
        for (name, (fold, r)) in results.iter().zip(reductions) {
            self.line(match fold {
                Fold::Sum => format!("{name} += r{r};"),
                Fold::Max => format!("{name} = jet_max({name}, r{r});"),
            });
        }
        if split {
            self.shared = false;
            self.many |= stores;
        }
        self.line("}");
        let group = if self.group == Group::Warp { ("warp", "") } else { ("block", ", pad") };
        for (name, (fold, _)) in results.into_iter().zip(reductions) {
            let fold = if *fold == Fold::Sum { "sum" } else { "max" };
            let r = self.define();
            match split {
                true => self.line(format!("const real r{r} = {}_{fold}({name}{});", group.0, group.1)),
                false => self.line(format!("const real r{r} = {name};")),
            }
        }
    }
}

/// An element of a value of the tile.
pub(super) fn element(v: ValueId, row: &str, feature: &str, pitch: usize) -> String {
    let row = match row {
        "0" => String::from("p"),
        row if row.bytes().all(|b| b.is_ascii_alphanumeric()) => format!("({row} * n + p)"),
        row => format!("(({row}) * n + p)"),
    };
    let scaled = if pitch == 1 { row } else { format!("{row} * {pitch}") };
    if feature == "0" { format!("v{}[{scaled}]", v.0) } else { format!("v{}[{scaled} + {feature}]", v.0) }
}

/// The whole number nearest to a register, wherever it is.
fn whole(r: Register) -> String {
    format!("whole(r{r})")
}

/// An address as an expression, with its register as that says.
pub(super) fn text(address: &Address, register: impl Fn(Register) -> String) -> String {
    let mut parts: Vec<String> = address.register.into_iter().map(register).collect();
    for (var, c) in address.terms.iter().filter(|t| t.1 != 0) {
        parts.push(if *c == 1 { format!("i{var}") } else { format!("{c} * i{var}") });
    }
    if address.offset != 0 || parts.is_empty() {
        parts.push(address.offset.to_string());
    }
    parts.join(" + ").replace("+ -", "- ")
}

/// Whether a thread does all of a point, the thread of its number.
pub(super) fn is_own(code: &Pointwise) -> bool {
    longest(&code.code) < LONG
}

/// Whether the whole block does each point, of tiles of so many.
pub(super) fn by_block(code: &Pointwise, tile: usize) -> bool {
    longest(&code.code) >= VERY_LONG && tile <= FEW_POINTS
}

/// The most iterations of a loop that can be shared out.
fn longest(code: &[Instruction]) -> i64 {
    let one = |i: &Instruction| match i {
        Instruction::Loop { var, lo, hi, body, .. } if is_split(*var, body) && hi - lo >= LONG => hi - lo,
        Instruction::Loop { body, .. } => longest(body),
        _ => 0,
    };
    code.iter().map(one).max().unwrap_or(0)
}

fn has_stores(code: &[Instruction]) -> bool {
    code.iter().any(|i| match i {
        Instruction::Store { .. } => true,
        Instruction::Loop { body, .. } => has_stores(body),
        _ => false,
    })
}

/// Whether different iterations of a loop store into different elements: rows, or features, of all stores are one function
/// of its variable, and of what does not change within.
fn is_split(var: u32, body: &[Instruction]) -> bool {
    let mut stores = Vec::new();
    let mut inner = Vec::new();
    collect(body, &mut stores, &mut inner);
    let function = |a: &Address| {
        let moves = a.terms.iter().filter(|t| t.0 == var).map(|t| t.1).sum::<i64>() != 0;
        moves && a.register.is_none() && !a.terms.iter().any(|t| inner.contains(&t.0) && t.1 != 0)
    };
    let same = |pick: &dyn Fn(&(Address, Address)) -> Address| {
        let first = stores.first().map(pick);
        stores.iter().all(|s| function(&pick(s)) && Some(pick(s)) == first)
    };
    same(&|s| s.0.clone()) || same(&|s| s.1.clone())
}

fn collect(code: &[Instruction], stores: &mut Vec<(Address, Address)>, vars: &mut Vec<u32>) {
    for instruction in code {
        match instruction {
            Instruction::Store { row, feature, .. } => stores.push((row.clone(), feature.clone())),
            Instruction::Loop { var, body, .. } => {
                vars.push(*var);
                collect(body, stores, vars);
            }
            _ => {}
        }
    }
}

/// Whether the code stores each element of the result exactly once, outside of loops.
fn covers(code: &Pointwise) -> bool {
    let mut places: Vec<(i64, i64)> = Vec::new();
    for instruction in &code.code {
        match instruction {
            Instruction::Store { row, feature, .. } => {
                let fixed = |a: &Address| a.register.is_none() && a.terms.iter().all(|t| t.1 == 0);
                if !fixed(row) || !fixed(feature) {
                    return false;
                }
                places.push((row.offset, feature.offset));
            }
            Instruction::Loop { body, .. } if has_stores(body) => return false,
            _ => {}
        }
    }
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    count == places.len() && count == code.rows * code.features
}

/// How many functions of many instructions the code has.
fn functions(code: &[Instruction]) -> usize {
    let one = |i: &Instruction| match i {
        Instruction::Unary(f, _) => usize::from(is_long(*f)),
        Instruction::Loop { body, .. } => functions(body),
        _ => 0,
    };
    code.iter().map(one).sum()
}

fn is_long(f: Unary) -> bool {
    !matches!(f, Unary::Neg | Unary::Recip | Unary::Sqrt | Unary::Abs | Unary::Sign)
}

pub(super) fn unary(f: Unary, a: &str) -> String {
    let name = match f {
        Unary::Neg => return format!("-{a}"),
        Unary::Recip => return format!("1 / {a}"),
        Unary::Sqrt => "jet_sqrt",
        Unary::Exp => "jet_exp",
        Unary::Log => "jet_log",
        Unary::Sin => "jet_sin",
        Unary::Cos => "jet_cos",
        Unary::Tan => "jet_tan",
        Unary::Sinh => "jet_sinh",
        Unary::Cosh => "jet_cosh",
        Unary::Tanh => "jet_tanh",
        Unary::Atan => "jet_atan",
        Unary::Erf => "jet_erf",
        Unary::Abs => "jet_abs",
        Unary::Sign => "jet_sign",
    };
    format!("{name}({a})")
}

pub(super) fn binary(f: Binary, a: &str, b: &str) -> String {
    match f {
        Binary::Add => format!("{a} + {b}"),
        Binary::Sub => format!("{a} - {b}"),
        Binary::Mul => format!("{a} * {b}"),
        Binary::Div => format!("{a} / {b}"),
        Binary::Min => format!("jet_min({a}, {b})"),
        Binary::Max => format!("jet_max({a}, {b})"),
        Binary::Pow => format!("jet_pow({a}, {b})"),
        Binary::AtLeast => format!("{a} >= {b} ? real(1) : real(0)"),
    }
}

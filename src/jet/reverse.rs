//! The adjoint of scalar code: reverse mode over registers. A loop becomes a loop that computes its body again and
//! then runs it backwards; what the body contributes to registers outside is summed over the iterations.

use super::assemble::{Item, assemble, items};
use super::{Address, Binary, Fold, Instruction, Pointwise, Register, Source, Unary, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Scalar code of the adjoint of input number `wrt`, which has these rows and features; `bar` is the adjoint of the
/// result of `code`.
pub fn reverse(code: &Pointwise, wrt: usize, rows: usize, features: usize, bar: ValueId) -> Pointwise {
    let mut inputs = code.inputs.clone();
    inputs.push(Source::Value(bar));
    let mut r = Reverse {
        wrt: wrt as u32,
        bar: inputs.len() as u32 - 1,
        active: HashSet::new(),
        next: 0,
        loops: count_loops(&code.code),
    };
    let forward = items(&code.code, &mut r.next);
    r.mark(&forward);
    let mut items = without_stores(&forward);
    r.backward(&forward, &mut Bars::new(), &mut items);
    Pointwise { inputs, rows, features, code: assemble(items) }
}

fn without_stores(items: &[Item]) -> Vec<Item> {
    let keep = |i: &Item| match i {
        Item::Store(..) => None,
        Item::Define(..) => Some(i.clone()),
        Item::Loop { var, lo, hi, body, reductions } => {
            Some(Item::Loop { var: *var, lo: *lo, hi: *hi, body: without_stores(body), reductions: reductions.clone() })
        }
    };
    items.iter().filter_map(keep).collect()
}

fn has_stores(items: &[Item]) -> bool {
    items.iter().any(|i| match i {
        Item::Store(..) => true,
        Item::Loop { body, .. } => has_stores(body),
        Item::Define(..) => false,
    })
}

pub fn count_loops(code: &[Instruction]) -> u32 {
    let next = |i: &Instruction| match i {
        Instruction::Loop { var, body, .. } => (var + 1).max(count_loops(body)),
        _ => 0,
    };
    code.iter().map(next).max().unwrap_or(0)
}

struct Reverse {
    wrt: u32,
    bar: u32,
    /// Registers that depend on the input.
    active: HashSet<Register>,
    next: Register,
    loops: u32,
}

type Bars = BTreeMap<Register, Register>;

impl Reverse {
    fn fresh(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    fn mark(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Define(r, i) => {
                    let is = match i {
                        Instruction::Load { input, .. } => *input == self.wrt,
                        Instruction::Unary(f, a) => *f != Unary::Sign && self.active.contains(a),
                        Instruction::Binary(f, a, b) => {
                            *f != Binary::AtLeast && (self.active.contains(a) || self.active.contains(b))
                        }
                        _ => false,
                    };
                    if is {
                        self.active.insert(*r);
                    }
                }
                Item::Loop { body, reductions, .. } => {
                    self.mark(body);
                    for (_, inner, out) in reductions {
                        if self.active.contains(inner) {
                            self.active.insert(*out);
                        }
                    }
                }
                Item::Store(..) => {}
            }
        }
    }

    fn define(&mut self, out: &mut Vec<Item>, i: Instruction) -> Register {
        let r = self.fresh();
        out.push(Item::Define(r, i));
        r
    }
    fn constant(&mut self, out: &mut Vec<Item>, v: f64) -> Register {
        self.define(out, Instruction::Constant(v))
    }
    fn unary(&mut self, out: &mut Vec<Item>, f: Unary, a: Register) -> Register {
        self.define(out, Instruction::Unary(f, a))
    }
    fn binary(&mut self, out: &mut Vec<Item>, f: Binary, a: Register, b: Register) -> Register {
        self.define(out, Instruction::Binary(f, a, b))
    }
    fn contribute(&mut self, out: &mut Vec<Item>, bars: &mut Bars, to: Register, what: Register) {
        if !self.active.contains(&to) {
            return;
        }
        let sum = match bars.get(&to) {
            Some(old) => self.binary(out, Binary::Add, *old, what),
            None => what,
        };
        bars.insert(to, sum);
    }

    /// Appends the adjoint of a block, last item first.
    fn backward(&mut self, items: &[Item], bars: &mut Bars, out: &mut Vec<Item>) {
        for item in items.iter().rev() {
            match item {
                Item::Store(row, feature, value) => {
                    if self.active.contains(value) {
                        let load = Instruction::Load { input: self.bar, row: row.clone(), feature: feature.clone() };
                        let b = self.define(out, load);
                        self.contribute(out, bars, *value, b);
                    }
                }
                Item::Define(r, i) => {
                    if let Some(b) = bars.remove(r) {
                        self.instruction(*r, i, b, bars, out);
                    }
                }
                Item::Loop { var, lo, hi, body, reductions } => {
                    let seeded = reductions.iter().any(|r| bars.contains_key(&r.2));
                    if seeded || has_stores(body) {
                        self.backward_loop(*var, (*lo, *hi), body, reductions, bars, out);
                    }
                }
            }
        }
    }

    fn backward_loop(
        &mut self,
        var: u32,
        range: (i64, i64),
        body: &[Item],
        reductions: &[(Fold, Register, Register)],
        bars: &mut Bars,
        out: &mut Vec<Item>,
    ) {
        let mut renaming = Renaming::default();
        let number = renaming.var(self, var);
        let again = renaming.block(self, body);
        let mut inner = without_stores(&again);
        let mut inner_bars = Bars::new();
        for (fold, r, outer) in reductions {
            let Some(b) = bars.remove(outer) else { continue };
            let r = renaming.register(*r);
            let b = match fold {
                Fold::Sum => b,
                Fold::Max => {
                    let attained = self.binary(&mut inner, Binary::AtLeast, r, *outer);
                    self.binary(&mut inner, Binary::Mul, b, attained)
                }
            };
            self.contribute(&mut inner, &mut inner_bars, r, b);
        }
        self.backward(&again, &mut inner_bars, &mut inner);
        // what is left belongs to registers outside the loop
        let outside: Vec<(Register, Register, Register)> =
            inner_bars.into_iter().map(|(r, b)| (r, b, self.fresh())).collect();
        let sums = outside.iter().map(|(_, b, total)| (Fold::Sum, *b, *total)).collect();
        out.push(Item::Loop { var: number, lo: range.0, hi: range.1, body: inner, reductions: sums });
        for (r, _, total) in outside {
            self.contribute(out, bars, r, total);
        }
    }

    /// The adjoint of one instruction r = i(..), where b is the adjoint of r.
    fn instruction(&mut self, r: Register, i: &Instruction, b: Register, bars: &mut Bars, out: &mut Vec<Item>) {
        match i {
            Instruction::Load { input, row, feature } if *input == self.wrt => {
                out.push(Item::Store(row.clone(), feature.clone(), b));
            }
            Instruction::Unary(f, a) => {
                let d = self.unary_adjoint(*f, *a, r, b, out);
                self.contribute(out, bars, *a, d);
            }
            Instruction::Binary(f, x, y) => self.binary_adjoint(*f, (*x, *y), r, b, bars, out),
            _ => {}
        }
    }

    fn unary_adjoint(&mut self, f: Unary, a: Register, r: Register, b: Register, out: &mut Vec<Item>) -> Register {
        let square = |s: &mut Self, out: &mut Vec<Item>, x| s.binary(out, Binary::Mul, x, x);
        // b times 1 + sign x^2, or over it
        let around_one = |s: &mut Self, out: &mut Vec<Item>, op, x, combine| {
            let x2 = square(s, out, x);
            let one = s.constant(out, 1.0);
            let d = s.binary(out, op, one, x2);
            s.binary(out, combine, b, d)
        };
        match f {
            Unary::Neg => self.unary(out, Unary::Neg, b),
            Unary::Recip => {
                let r2 = square(self, out, r);
                let d = self.binary(out, Binary::Mul, b, r2);
                self.unary(out, Unary::Neg, d)
            }
            Unary::Sqrt => {
                let half = self.constant(out, 0.5);
                let d = self.binary(out, Binary::Div, half, r);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Exp => self.binary(out, Binary::Mul, b, r),
            Unary::Log => self.binary(out, Binary::Div, b, a),
            Unary::Sin => {
                let d = self.unary(out, Unary::Cos, a);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Cos => {
                let s = self.unary(out, Unary::Sin, a);
                let d = self.unary(out, Unary::Neg, s);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Tan => around_one(self, out, Binary::Add, r, Binary::Mul),
            Unary::Tanh => around_one(self, out, Binary::Sub, r, Binary::Mul),
            Unary::Atan => around_one(self, out, Binary::Add, a, Binary::Div),
            Unary::Sinh => {
                let d = self.unary(out, Unary::Cosh, a);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Cosh => {
                let d = self.unary(out, Unary::Sinh, a);
                self.binary(out, Binary::Mul, b, d)
            }
            // 2/sqrt(pi) exp(-a^2)
            Unary::Erf => {
                let a2 = square(self, out, a);
                let minus = self.unary(out, Unary::Neg, a2);
                let e = self.unary(out, Unary::Exp, minus);
                let c = self.constant(out, std::f64::consts::FRAC_2_SQRT_PI);
                let d = self.binary(out, Binary::Mul, c, e);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Abs => {
                let d = self.unary(out, Unary::Sign, a);
                self.binary(out, Binary::Mul, b, d)
            }
            Unary::Sign => self.constant(out, 0.0),
        }
    }

    fn binary_adjoint(
        &mut self,
        f: Binary,
        (x, y): (Register, Register),
        r: Register,
        b: Register,
        bars: &mut Bars,
        out: &mut Vec<Item>,
    ) {
        match f {
            Binary::Add => {
                self.contribute(out, bars, x, b);
                self.contribute(out, bars, y, b);
            }
            Binary::Sub => {
                self.contribute(out, bars, x, b);
                let minus = self.unary(out, Unary::Neg, b);
                self.contribute(out, bars, y, minus);
            }
            Binary::Mul => {
                let dx = self.binary(out, Binary::Mul, b, y);
                self.contribute(out, bars, x, dx);
                let dy = self.binary(out, Binary::Mul, b, x);
                self.contribute(out, bars, y, dy);
            }
            Binary::Div => {
                let dx = self.binary(out, Binary::Div, b, y);
                self.contribute(out, bars, x, dx);
                let t = self.binary(out, Binary::Mul, dx, r);
                let dy = self.unary(out, Unary::Neg, t);
                self.contribute(out, bars, y, dy);
            }
            Binary::Min | Binary::Max => {
                let order = if f == Binary::Max { (x, y) } else { (y, x) };
                let first = self.binary(out, Binary::AtLeast, order.0, order.1);
                let dx = self.binary(out, Binary::Mul, b, first);
                self.contribute(out, bars, x, dx);
                let dy = self.binary(out, Binary::Sub, b, dx);
                self.contribute(out, bars, y, dy);
            }
            Binary::Pow => {
                if self.active.contains(&x) {
                    let one = self.constant(out, 1.0);
                    let less = self.binary(out, Binary::Sub, y, one);
                    let power = self.binary(out, Binary::Pow, x, less);
                    let slope = self.binary(out, Binary::Mul, y, power);
                    let dx = self.binary(out, Binary::Mul, b, slope);
                    self.contribute(out, bars, x, dx);
                }
                if self.active.contains(&y) {
                    let log = self.unary(out, Unary::Log, x);
                    let slope = self.binary(out, Binary::Mul, r, log);
                    let dy = self.binary(out, Binary::Mul, b, slope);
                    self.contribute(out, bars, y, dy);
                }
            }
            Binary::AtLeast => {}
        }
    }
}

/// New names for the registers and loop variables that a copied block defines.
#[derive(Default)]
struct Renaming {
    registers: HashMap<Register, Register>,
    vars: HashMap<u32, u32>,
}

impl Renaming {
    fn register(&self, r: Register) -> Register {
        self.registers.get(&r).copied().unwrap_or(r)
    }
    fn define(&mut self, code: &mut Reverse, r: Register) -> Register {
        let new = code.fresh();
        self.registers.insert(r, new);
        if code.active.contains(&r) {
            code.active.insert(new);
        }
        new
    }
    fn var(&mut self, code: &mut Reverse, var: u32) -> u32 {
        let new = code.loops;
        code.loops += 1;
        self.vars.insert(var, new);
        new
    }
    fn address(&self, a: &Address) -> Address {
        Address {
            offset: a.offset,
            terms: a.terms.iter().map(|(v, c)| (self.vars.get(v).copied().unwrap_or(*v), *c)).collect(),
            register: a.register.map(|r| self.register(r)),
        }
    }
    fn block(&mut self, code: &mut Reverse, items: &[Item]) -> Vec<Item> {
        let mut out = Vec::new();
        for item in items {
            out.push(match item {
                Item::Define(r, i) => {
                    let i = match i {
                        Instruction::Load { input, row, feature } => {
                            Instruction::Load { input: *input, row: self.address(row), feature: self.address(feature) }
                        }
                        Instruction::Index(a) => Instruction::Index(self.address(a)),
                        Instruction::Unary(f, a) => Instruction::Unary(*f, self.register(*a)),
                        Instruction::Binary(f, a, b) => Instruction::Binary(*f, self.register(*a), self.register(*b)),
                        other => other.clone(),
                    };
                    Item::Define(self.define(code, *r), i)
                }
                Item::Store(row, feature, v) => {
                    Item::Store(self.address(row), self.address(feature), self.register(*v))
                }
                Item::Loop { var, lo, hi, body, reductions } => {
                    let var = self.var(code, *var);
                    let body = self.block(code, body);
                    let mut renamed = Vec::new();
                    for (f, inner, outer) in reductions {
                        let inner = self.register(*inner);
                        renamed.push((*f, inner, self.define(code, *outer)));
                    }
                    Item::Loop { var, lo: *lo, hi: *hi, body, reductions: renamed }
                }
            });
        }
        out
    }
}

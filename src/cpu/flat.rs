//! Scalar code, made ready to run: loops become a pair of jumps, constants move to the front, sums become one operation, registers
//! are allotted by their lifetimes.

use super::activation::Lane;
use super::elementwise;
use super::linear::combined;
use super::real::Real;
use crate::jet::{self, Binary, Fold, Instruction, Pointwise, Source, Unary};

/// offset + sum of coefficient times loop variable + register
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub offset: i64,
    pub terms: Vec<(usize, i64)>,
    pub register: Option<usize>,
}

/// How a loop ends up in a register: fold, what of the body, the sum of the current part, the result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reduction {
    pub fold: Fold,
    pub body: usize,
    pub part: usize,
    pub total: usize,
}

/// A number times one register or two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    pub factor: f64,
    pub of: usize,
    pub by: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Code {
    Constant {
        y: usize,
        value: f64,
    },
    Load {
        y: usize,
        input: usize,
        row: Address,
        feature: Address,
    },
    Index {
        y: usize,
        address: Address,
    },
    Unary {
        f: Unary,
        y: usize,
        a: usize,
    },
    Binary {
        f: Binary,
        y: usize,
        a: usize,
        b: usize,
    },
    /// A sum.
    Sum {
        y: usize,
        terms: Vec<Term>,
    },
    /// A power with a small whole exponent.
    Power {
        y: usize,
        a: usize,
        exponent: i32,
    },
    /// Goes to `end` where there is nothing to do.
    Begin {
        var: usize,
        lo: i64,
        hi: i64,
        end: usize,
        reductions: Vec<Reduction>,
    },
    /// Goes back behind `begin` until `var` reaches `hi`.
    End {
        var: usize,
        lo: i64,
        hi: i64,
        begin: usize,
        reductions: Vec<Reduction>,
    },
    Store {
        row: Address,
        feature: Address,
        a: usize,
    },
    /// All features of a row, a few.
    StoreRow {
        row: usize,
        values: Vec<usize>,
    },
}

impl Code {
    /// Registers that are written, and those that are read.
    pub(super) fn registers(&mut self, mut each: impl FnMut(&mut usize, bool)) {
        let mut read = |address: &mut Address| address.register.iter_mut().for_each(|r| each(r, false));
        match self {
            Code::Constant { y, .. } => each(y, true),
            Code::Load { y, row, feature, .. } => {
                read(row);
                read(feature);
                each(y, true);
            }
            Code::Index { y, address } => {
                read(address);
                each(y, true);
            }
            Code::Unary { y, a, .. } | Code::Power { y, a, .. } => {
                each(a, false);
                each(y, true);
            }
            Code::Binary { y, a, b, .. } => {
                each(a, false);
                each(b, false);
                each(y, true);
            }
            Code::Sum { y, terms } => {
                for Term { of, by, .. } in terms {
                    each(of, false);
                    by.iter_mut().for_each(|by| each(by, false));
                }
                each(y, true);
            }
            Code::Begin { reductions, .. } => {
                for r in reductions {
                    each(&mut r.part, true);
                    each(&mut r.total, true);
                }
            }
            Code::End { reductions, .. } => {
                for r in reductions {
                    each(&mut r.body, false);
                    each(&mut r.part, false);
                    each(&mut r.total, false);
                }
            }
            Code::Store { row, feature, a } => {
                read(row);
                read(feature);
                each(a, false);
            }
            Code::StoreRow { values, .. } => values.iter_mut().for_each(|a| each(a, false)),
        }
    }
}

/// Scalar code, ready to run.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What loads refer to.
    pub inputs: Vec<Source>,
    pub(super) features: usize,
    pub(super) code: Vec<Code>,
    pub(super) registers: usize,
    pub(super) vars: usize,
    /// Features that it does the same to, where that is all it does.
    pub(super) each: Option<usize>,
    /// Whether each result is stored once, so that nothing has to be there before.
    pub(super) is_whole: bool,
}

impl Compiled {
    /// Of code that the validator accepts.
    pub fn new(source: &Pointwise) -> Self {
        let mut flat =
            Flattener { constants: vec![], code: vec![], values: vec![], next: 0, temporaries: 0, vars: vec![] };
        flat.block(&source.code);
        let shift = flat.constants.len();
        let mut code = flat.constants;
        code.extend(flat.code);
        for c in &mut code[shift..] {
            if let Code::Begin { end: at, .. } | Code::End { begin: at, .. } = c {
                *at += shift;
            }
        }
        let code = combined(code);
        let (inputs, features, each) = (source.inputs.clone(), source.features, elementwise::features(&code));
        let is_whole = is_whole(&code, source.rows, features);
        let mut code = if is_whole && each.is_none() { row_by_row(code, features) } else { code };
        let registers = allot(&mut code);
        Compiled { inputs, features, code, registers, vars: flat.vars.len(), each, is_whole }
    }
}

/// Features of a row that are loaded and stored together, at most.
pub(super) const TOGETHER: usize = 4;
/// Numbers of temporaries (the parts of sums) start here, out of the way of the program's registers.
const TEMPORARY: usize = 1 << 40;

struct Flattener {
    constants: Vec<Code>,
    code: Vec<Code>,
    /// By register: its value, where it is a constant.
    values: Vec<(usize, f64)>,
    next: usize,
    temporaries: usize,
    vars: Vec<u32>,
}

impl Flattener {
    fn define(&mut self) -> usize {
        self.next += 1;
        self.next - 1
    }

    fn address(&self, address: &jet::Address) -> Address {
        // the innermost of that name: loops that were unrolled repeat theirs
        let place = |var| self.vars.iter().rposition(|v| *v == var).unwrap_or(0);
        Address {
            offset: address.offset,
            terms: address.terms.iter().map(|&(var, c)| (place(var), c)).collect(),
            register: address.register.map(|r| r as usize),
        }
    }

    /// The value of a register that holds a constant: sorted, because registers are defined in order.
    fn constant(&self, register: usize) -> Option<f64> {
        self.values.binary_search_by_key(&register, |v| v.0).ok().map(|i| self.values[i].1)
    }

    fn block(&mut self, source: &[Instruction]) {
        for instruction in source {
            let code = match instruction {
                Instruction::Constant(value) => {
                    let y = self.define();
                    self.values.push((y, *value));
                    self.constants.push(Code::Constant { y, value: *value });
                    continue;
                }
                Instruction::Load { input, row, feature } => {
                    let (row, feature) = (self.address(row), self.address(feature));
                    Code::Load { y: self.define(), input: *input as usize, row, feature }
                }
                Instruction::Index(address) => {
                    let address = self.address(address);
                    Code::Index { y: self.define(), address }
                }
                Instruction::Unary(f, a) => Code::Unary { f: *f, y: self.define(), a: *a as usize },
                Instruction::Binary(f, a, b) => {
                    let (a, b, y) = (*a as usize, *b as usize, self.define());
                    let whole = self.constant(b).filter(|e| *f == Binary::Pow && e.fract() == 0.0 && e.abs() <= 32.0);
                    match whole {
                        Some(e) => Code::Power { y, a, exponent: e as i32 },
                        None => Code::Binary { f: *f, y, a, b },
                    }
                }
                Instruction::Store { row, feature, value } => {
                    Code::Store { row: self.address(row), feature: self.address(feature), a: *value as usize }
                }
                Instruction::Loop { var, lo, hi, body, reductions } => {
                    let (lo, hi, v) = (*lo, *hi, self.vars.len());
                    self.vars.push(*var);
                    let begin = self.code.len();
                    self.code.push(Code::Begin { var: v, lo, hi, end: 0, reductions: vec![] });
                    self.block(body);
                    let results: Vec<_> = reductions
                        .iter()
                        .map(|(fold, body)| {
                            self.temporaries += 1;
                            let (part, total) = (TEMPORARY + self.temporaries, self.define());
                            Reduction { fold: *fold, body: *body as usize, part, total }
                        })
                        .collect();
                    let after = self.code.len() + 1;
                    if let Code::Begin { end, reductions, .. } = &mut self.code[begin] {
                        (*end, *reductions) = (after, results.clone());
                    }
                    Code::End { var: v, lo, hi, begin, reductions: results }
                }
            };
            self.code.push(code);
        }
    }
}

/// Whether code stores each of so many rows and features once: one at a time outside of loops, or all features of a row in a loop over them.
fn is_whole(code: &[Code], rows: usize, features: usize) -> bool {
    let (mut loops, mut stored) = (Vec::new(), vec![false; rows * features]);
    let is_first = |code: &Code| match code {
        Code::Begin { var, lo, hi, .. } => (loops.push((*var, *lo, *hi)), true).1,
        Code::End { .. } => (loops.pop(), true).1,
        Code::Store { row, feature, .. } => {
            let places = match (loops.as_slice(), feature.terms.as_slice()) {
                ([], []) => feature.constant().map(|f| f..f + 1),
                ([(var, 0, hi)], [(moves, 1)]) if var == moves && *hi == features as i64 => {
                    (feature.offset == 0 && feature.register.is_none()).then_some(0..features)
                }
                _ => None,
            };
            let row = row.constant().filter(|row| *row < rows);
            let places = row.zip(places.filter(|places| places.end <= features));
            let stored = places.map(|(row, places)| &mut stored[row * features..][places]);
            stored.is_some_and(|stored| stored.iter_mut().all(|s| !std::mem::replace(s, true)))
        }
        _ => true,
    };
    code.iter().all(is_first) && stored.iter().all(|s| *s)
}

/// The same code without loops, with one store of all features of a row, where those are a few: numbers that lie one beside the other are
/// best written together.
fn row_by_row(code: Vec<Code>, features: usize) -> Vec<Code> {
    if !(2..=TOGETHER).contains(&features) || code.iter().any(|code| matches!(code, Code::Begin { .. })) {
        return code;
    }
    let (mut out, mut rows) = (Vec::with_capacity(code.len()), std::collections::BTreeMap::new());
    for code in code {
        match code {
            Code::Store { row, feature, a } => {
                let row = row.constant().unwrap_or(0);
                let values = rows.entry(row).or_insert_with(Vec::new);
                values.push((feature.constant(), a));
                if values.len() == features {
                    values.sort();
                    out.push(Code::StoreRow { row, values: values.iter().map(|v| v.1).collect() });
                }
            }
            code => out.push(code),
        }
    }
    out
}

/// Gives each register a place, such that those alive at the same time have different ones. Returns how many.
/// What is defined before a loop and read inside lives to the loop's end; an instruction never writes what it reads.
fn allot(code: &mut [Code]) -> usize {
    use std::collections::BTreeMap;
    // Register: (written first, read last).
    let mut lives: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut loops: Vec<(usize, usize)> = Vec::new();
    for (at, code) in code.iter_mut().enumerate() {
        if let Code::Begin { end, .. } = code {
            loops.push((at, *end - 1));
        }
        code.registers(|register, _| {
            let life = lives.entry(*register).or_insert((at, at));
            // The outermost loop that began after the definition.
            let end = loops.iter().find(|l| l.0 > life.0).map_or(at, |l| l.1);
            life.1 = life.1.max(end);
        });
        while loops.last().is_some_and(|l| l.1 <= at) {
            loops.pop();
        }
    }
    let (mut free, mut total) = (Vec::new(), 0);
    let mut places: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ends: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, code) in code.iter_mut().enumerate() {
        code.registers(|register, _| {
            *register = *places.entry(*register).or_insert_with(|| {
                let place = free.pop().unwrap_or_else(|| {
                    total += 1;
                    total - 1
                });
                ends.entry(lives[register].1).or_default().push(place);
                place
            });
        });
        free.extend(ends.remove(&at).unwrap_or_default());
    }
    total
}

impl Address {
    /// The address where it never changes.
    fn constant(&self) -> Option<usize> {
        usize::try_from(self.offset).ok().filter(|_| self.terms.is_empty() && self.register.is_none())
    }

    /// The address but for its register.
    #[inline(always)]
    pub fn fixed(&self, vars: &[i64]) -> i64 {
        let mut sum = self.offset;
        for (var, c) in &self.terms {
            sum += c * vars[*var];
        }
        sum
    }

    /// The address in one lane.
    #[inline(always)]
    pub fn of<T: Real>(&self, vars: &[i64], lanes: &[Lane<T>], l: usize) -> i64 {
        let drawn = self.register.map_or(0, |r| lanes[r][l].to_i64());
        self.fixed(vars).saturating_add(drawn)
    }
}

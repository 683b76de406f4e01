//! Takes what runs over the columns out of scalar code.
//!
//! A loop over columns that only sums becomes a sum of [`Columns`], and its result a load from the input behind the code's own,
//! [1, sums]. Short loops around such loops (over the draws) are unrolled. Code that fills a table with an element for each
//! column, as the components of a direction, becomes a vector, and is not run at all.

use super::columns::{Argument, Columns, Directions, Drawn, Node, Sum, Vector};
use crate::jet::{Address, Binary, Fold, Instruction, Pointwise, Source, ValueId};
use std::collections::HashMap;

/// Largest shift, and largest whole exponent, that is served.
const LARGEST: i64 = 32;
/// Rounds of a loop that is unrolled, at most.
const ROUNDS: i64 = 128;

/// Values with an element for each column: directions and their components, [k, len].
#[derive(Clone, Debug, Default)]
pub struct Dense {
    /// By value: the column of element 0, and how it is drawn (none where code fills it).
    pub values: HashMap<ValueId, (usize, Option<Directions>)>,
    /// Those that code fills: by value and row.
    pub tables: HashMap<(ValueId, usize), Vector>,
}

impl Dense {
    /// A row of such a value as a vector. None where it is not known.
    pub fn vector(&self, columns: &mut Columns, value: ValueId, slot: usize) -> Option<Vector> {
        let (first, drawn) = *self.values.get(&value)?;
        let Some(of) = drawn else { return self.tables.get(&(value, slot)).copied() };
        let drawn = Drawn { value, slot, of, first };
        let at = columns.directions.iter().position(|d| *d == drawn).unwrap_or_else(|| {
            columns.directions.push(drawn);
            columns.directions.len() - 1
        });
        Some(Vector { node: columns.node(Node::Direction(at)), shift: 0, lo: first, hi: first + of.len })
    }
}

/// Scalar code without its loops over columns. `is_points` says what the points are. None where such a loop cannot be taken out
/// and reads what is never stored.
pub fn sums(
    columns: &mut Columns,
    dense: &Dense,
    code: &Pointwise,
    is_points: &dyn Fn(Source) -> bool,
) -> Option<Pointwise> {
    let body = Hoist::new(columns, dense, code, is_points).block(&code.code, true)?;
    Some(Pointwise { code: body, ..code.clone() })
}

/// Whether loops read the points column by column: those that [`sums`] left. Those over draws may.
#[cfg(any(feature = "compiler", feature = "cuda"))]
pub fn has_reading_loops(code: &Pointwise, is_points: &dyn Fn(Source) -> bool) -> bool {
    fn reads(body: &[Instruction], within: bool, is_points: &dyn Fn(u32) -> bool) -> bool {
        body.iter().any(|i| match i {
            Instruction::Load { input, feature, .. } => within && feature.register.is_none() && is_points(*input),
            Instruction::Loop { body, .. } => reads(body, true, is_points),
            _ => false,
        })
    }
    // the input behind the code's own is that of the sums
    reads(&code.code, false, &|input| code.inputs.get(input as usize).is_some_and(|s| is_points(*s)))
}

/// The rows of a table, by number, as vectors; the element at 0 is for column `first`. None where it is not filled column by column.
pub fn table(
    columns: &mut Columns,
    dense: &Dense,
    code: &Pointwise,
    first: usize,
    is_points: &dyn Fn(Source) -> bool,
) -> Option<HashMap<usize, Vector>> {
    let mut rows = HashMap::new();
    Hoist::new(columns, dense, code, is_points).rows(&code.code, first as i64, &mut rows)?;
    Some(rows)
}

/// A value of scalar code as a function of i: node(i + shift).
#[derive(Clone, Copy)]
struct Value {
    node: usize,
    shift: i64,
}

/// One walk through scalar code.
struct Hoist<'a> {
    columns: &'a mut Columns,
    dense: &'a Dense,
    inputs: &'a [Source],
    is_points: &'a dyn Fn(Source) -> bool,
    /// By register of the code: its value, where it is one of the columns or the same everywhere.
    old: Vec<Option<Value>>,
    /// By register of the code: its number in the new code.
    new: Vec<u32>,
    /// Registers of the new code.
    next: u32,
    /// Variables of unrolled loops, and their values.
    bound: Vec<(u32, i64)>,
}

impl<'a> Hoist<'a> {
    fn new(
        columns: &'a mut Columns,
        dense: &'a Dense,
        code: &'a Pointwise,
        is_points: &'a dyn Fn(Source) -> bool,
    ) -> Self {
        let inputs = &code.inputs;
        Hoist { columns, dense, inputs, is_points, old: vec![], new: vec![], next: 0, bound: vec![] }
    }

    /// The code with its loops taken out.
    fn block(&mut self, code: &[Instruction], outermost: bool) -> Option<Vec<Instruction>> {
        let mut out = Vec::new();
        for instruction in code {
            if let Instruction::Loop { var, lo, hi, body, reductions } = instruction {
                let begin = self.old.len();
                if outermost && let Some(sums) = self.sums(*var, (*lo, *hi), body, reductions) {
                    sums.into_iter().for_each(|sum| self.load(sum, &mut out));
                    continue;
                }
                self.forget(begin);
                let is_short = (1..=ROUNDS).contains(&(hi - lo));
                if outermost && is_short && self.has_long_loops(body) {
                    out.extend(self.unrolled((*var, *lo, *hi), body, reductions)?);
                    continue;
                }
                let body = self.block(body, false)?;
                let reductions = reductions.iter().map(|(f, r)| (*f, self.new[*r as usize])).collect::<Vec<_>>();
                for _ in &reductions {
                    self.define(None, true);
                }
                out.push(Instruction::Loop { var: *var, lo: *lo, hi: *hi, body, reductions });
                continue;
            }
            if let Some(value) = self.dense_load(instruction) {
                let Instruction::Load { row, feature, .. } = instruction else { return None };
                let sum = self.element(value, row, feature).filter(|_| outermost)?;
                self.load(sum, &mut out);
                continue;
            }
            let value = if outermost { self.value(instruction, None) } else { None };
            out.push(self.renumbered(instruction));
            if !matches!(instruction, Instruction::Store { .. }) {
                self.define(value, true);
            }
        }
        Some(out)
    }

    /// A load of a sum.
    fn load(&mut self, sum: usize, out: &mut Vec<Instruction>) {
        let input = self.inputs.len() as u32;
        out.push(Instruction::Load { input, row: Address::fixed(0), feature: Address::fixed(sum) });
        self.define(None, true);
    }

    /// The dense value that an instruction reads.
    fn dense_load(&self, instruction: &Instruction) -> Option<ValueId> {
        let Instruction::Load { input, .. } = instruction else { return None };
        match self.inputs[*input as usize] {
            Source::Value(v) if self.dense.values.contains_key(&v) => Some(v),
            _ => None,
        }
    }

    /// One element of a dense value, as a sum over one column.
    fn element(&mut self, value: ValueId, row: &Address, feature: &Address) -> Option<usize> {
        let (row, feature) = (self.fixed(row)?, self.fixed(feature)?);
        let vector = self.dense.vector(self.columns, value, row)?;
        let column = self.dense.values[&value].0 + feature;
        let at = usize::try_from(column as i64 + vector.shift).ok()?;
        (vector.lo..vector.hi).contains(&column).then_some(())?;
        Some(self.columns.sum(Sum { fold: Fold::Sum, lo: at, hi: at + 1, node: vector.node }))
    }

    /// A loop, round by round.
    fn unrolled(
        &mut self,
        (var, lo, hi): (u32, i64, i64),
        body: &[Instruction],
        reductions: &[(Fold, u32)],
    ) -> Option<Vec<Instruction>> {
        let (begin, mut out) = (self.old.len(), Vec::new());
        let mut totals: Vec<Option<u32>> = vec![None; reductions.len()];
        for round in lo..hi {
            self.forget(begin);
            self.bound.push((var, round));
            let body = self.block(body, true);
            self.bound.pop();
            out.extend(body?);
            for ((fold, register), total) in reductions.iter().zip(&mut totals) {
                let part = self.new[*register as usize];
                *total = Some(match *total {
                    None => part,
                    Some(before) => {
                        let f = if *fold == Fold::Sum { Binary::Add } else { Binary::Max };
                        out.push(Instruction::Binary(f, before, part));
                        self.next += 1;
                        self.next - 1
                    }
                });
            }
        }
        for total in totals {
            self.old.push(None);
            self.new.push(total?);
        }
        Some(out)
    }

    /// Whether there are loops over columns inside: those that read the points or a dense value at their own variable.
    fn has_long_loops(&self, body: &[Instruction]) -> bool {
        let reads = |var: u32, body: &[Instruction]| {
            body.iter().any(|i| match i {
                Instruction::Load { input, feature, .. } => {
                    let given = (self.is_points)(self.inputs[*input as usize]) || self.dense_load(i).is_some();
                    given && feature.terms.iter().any(|t| t.0 == var)
                }
                _ => false,
            })
        };
        body.iter().any(|i| match i {
            Instruction::Loop { var, body, .. } => reads(*var, body) || self.has_long_loops(body),
            _ => false,
        })
    }

    /// The rows of a table: see [`table`].
    fn rows(&mut self, code: &[Instruction], first: i64, rows: &mut HashMap<usize, Vector>) -> Option<()> {
        for instruction in code {
            let Instruction::Loop { var, lo, hi, body, reductions } = instruction else {
                let value = self.value(instruction, None)?;
                self.define(Some(value), false);
                continue;
            };
            let is_store = |i: &Instruction| match i {
                Instruction::Store { feature, .. } => feature.terms == [(*var, 1)] && feature.register.is_none(),
                _ => false,
            };
            if !reductions.is_empty() || hi - lo < 1 {
                return None;
            }
            let begin = self.old.len();
            if !body.iter().any(is_store) {
                (hi - lo <= ROUNDS).then_some(())?;
                for round in *lo..*hi {
                    self.forget(begin);
                    self.bound.push((*var, round));
                    let done = self.rows(body, first, rows);
                    self.bound.pop();
                    done?;
                }
                continue;
            }
            for instruction in body {
                let Instruction::Store { row, feature, value } = instruction else {
                    let value = self.value(instruction, Some(*var))?;
                    self.define(Some(value), false);
                    continue;
                };
                is_store(instruction).then_some(())?;
                let (value, row) = ((*self.old.get(*value as usize)?)?, self.fixed(row)?);
                // element i + offset belongs to column i + by
                let by = feature.offset + first;
                let vector = Vector {
                    node: value.node,
                    shift: value.shift - by,
                    lo: usize::try_from(lo + by).ok()?,
                    hi: usize::try_from(hi + by).ok()?,
                };
                if rows.insert(row, vector).is_some() {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Forgets registers.
    fn forget(&mut self, from: usize) {
        self.old.truncate(from);
        self.new.truncate(from);
    }

    /// The next register of the code; `kept` where it is one of the new code too.
    fn define(&mut self, value: Option<Value>, kept: bool) {
        self.old.push(value);
        self.new.push(if kept { self.next } else { u32::MAX });
        self.next += u32::from(kept);
    }

    /// The sums that a loop computes. The registers of its body are defined in any case.
    fn sums(
        &mut self,
        var: u32,
        (lo, hi): (i64, i64),
        body: &[Instruction],
        reductions: &[(Fold, u32)],
    ) -> Option<Vec<usize>> {
        if hi <= lo {
            return None;
        }
        for instruction in body {
            let value = self.value(instruction, Some(var))?;
            self.define(Some(value), false);
        }
        let mut sums = Vec::new();
        for (fold, register) in reductions {
            let value = self.old[*register as usize]?;
            let (lo, hi) = (usize::try_from(lo + value.shift).ok()?, usize::try_from(hi + value.shift).ok()?);
            // All that is read must be there.
            if hi > self.columns.columns {
                return None;
            }
            sums.push(Sum { fold: *fold, lo, hi, node: value.node });
        }
        Some(sums.into_iter().map(|s| self.columns.sum(s)).collect())
    }

    /// An address with the variables of unrolled loops in its offset.
    fn bound(&self, address: &Address) -> Address {
        let mut out = Address { terms: vec![], ..address.clone() };
        for (var, c) in &address.terms {
            match self.bound.iter().find(|b| b.0 == *var) {
                Some((_, value)) => out.offset += c * value,
                None => out.terms.push((*var, *c)),
            }
        }
        out
    }

    /// An address that is the same everywhere.
    fn fixed(&self, address: &Address) -> Option<usize> {
        let address = self.bound(address);
        (address.terms.is_empty() && address.register.is_none()).then_some(())?;
        usize::try_from(address.offset).ok()
    }

    /// A function of i (the loop variable), or of nothing.
    fn value(&mut self, instruction: &Instruction, var: Option<u32>) -> Option<Value> {
        // None: the same for all i.
        let shift = |address: &Address| match (&address.terms[..], address.register) {
            ([], None) => Some(None),
            ([(v, 1)], None) if Some(*v) == var && address.offset.abs() <= LARGEST => Some(Some(address.offset)),
            _ => None,
        };
        let fixed = |address: &Address| usize::try_from(address.offset).ok();
        match instruction {
            Instruction::Constant(c) => self.make(Node::Constant(c.to_bits()), 0),
            Instruction::Load { input, row, feature } => {
                let (source, feature) = (self.inputs[*input as usize], self.bound(feature));
                let at = shift(&feature)?;
                if let Some(value) = self.dense_load(instruction) {
                    let (by, row) = (self.dense.values[&value].0 as i64 + at?, self.fixed(row)?);
                    let vector = self.dense.vector(self.columns, value, row)?;
                    return Some(Value { node: vector.node, shift: vector.shift + by });
                }
                if self.fixed(row) != Some(0) {
                    return None;
                }
                match (source, at) {
                    (source, Some(shift)) if (self.is_points)(source) => self.make(Node::Points, shift),
                    (source, None) if (self.is_points)(source) => self.make(Node::Fixed(fixed(&feature)?), 0),
                    (Source::Tensor(t), Some(shift)) => self.make(Node::Tensor(t), shift),
                    (Source::Tensor(t), None) => self.make(Node::Element(t, fixed(&feature)?), 0),
                    _ => None,
                }
            }
            Instruction::Index(address) => {
                let address = self.bound(address);
                match shift(&address)? {
                    Some(shift) => self.make(Node::Index, shift),
                    None => self.make(Node::Constant((address.offset as f64).to_bits()), 0),
                }
            }
            Instruction::Unary(f, a) => {
                let a = (*self.old.get(*a as usize)?)?;
                self.make(Node::Unary(*f, Argument { node: a.node, shift: 0 }), a.shift)
            }
            Instruction::Binary(f, a, b) => {
                let (a, b) = ((*self.old.get(*a as usize)?)?, (*self.old.get(*b as usize)?)?);
                if *f == Binary::Pow
                    && let Node::Constant(bits) = self.columns.nodes[b.node]
                    && f64::from_bits(bits).fract() == 0.0
                    && f64::from_bits(bits).abs() <= LARGEST as f64
                {
                    let exponent = f64::from_bits(bits) as i32;
                    return self.make(Node::Power(exponent, Argument { node: a.node, shift: 0 }), a.shift);
                }
                let uniform = |v: Value| self.columns.uniform[v.node];
                let base = match (uniform(a), uniform(b)) {
                    (true, true) => 0,
                    (true, false) => b.shift,
                    (false, true) => a.shift,
                    (false, false) => a.shift.min(b.shift),
                };
                let argument = |v: Value| {
                    let shift = if uniform(v) { 0 } else { usize::try_from(v.shift - base).unwrap_or(0) };
                    Argument { node: v.node, shift }
                };
                let (mut a, mut b) = (argument(a), argument(b));
                if matches!(f, Binary::Add | Binary::Mul) && b < a {
                    (a, b) = (b, a);
                }
                self.make(Node::Binary(*f, a, b), base)
            }
            Instruction::Loop { .. } | Instruction::Store { .. } => None,
        }
    }

    fn make(&mut self, node: Node, shift: i64) -> Option<Value> {
        Some(Value { node: self.columns.node(node), shift })
    }

    /// An instruction on the new registers.
    fn renumbered(&self, instruction: &Instruction) -> Instruction {
        let register = |r: &u32| self.new.get(*r as usize).copied().unwrap_or(u32::MAX);
        let address = |a: &Address| Address { register: a.register.as_ref().map(register), ..self.bound(a) };
        match instruction {
            Instruction::Load { input, row, feature } => {
                Instruction::Load { input: *input, row: address(row), feature: address(feature) }
            }
            Instruction::Index(a) => Instruction::Index(address(a)),
            Instruction::Unary(f, a) => Instruction::Unary(*f, register(a)),
            Instruction::Binary(f, a, b) => Instruction::Binary(*f, register(a), register(b)),
            Instruction::Store { row, feature, value } => {
                Instruction::Store { row: address(row), feature: address(feature), value: register(value) }
            }
            Instruction::Constant(_) | Instruction::Loop { .. } => instruction.clone(),
        }
    }
}

//! Sums over the columns of the points, block by block.
//!
//! The loops of scalar code that only read columns `i + shift` of the points and of tensors become one list of nodes, each a
//! function of i for all i at once. A node is normalised so that it reads nothing before column i: cos(x[i + 1]) is the
//! node cos(x[.]) at shift 1, and equal nodes are one, whichever loop and shift they came from. Values lie as [columns, points],
//! so that reading a node at a shift is reading it from an offset, and every operation runs along contiguous numbers.
//!
//! A block is gone through in strips, few enough columns for the second cache. Sums over a block are in the precision
//! of the numbers, in two levels; the caller adds blocks in f64.

use super::math;
use super::pointwise::{binary, max, power, unary};
use super::real::{Kernel, Real};
use crate::jet::{Address, Binary, Fold, Instruction, Pointwise, Source, TensorId, Unary};
use std::collections::HashMap;
use std::ops::Range;

/// Numbers of a node that are worked out together, about.
const STRIP: usize = 1024;
/// Largest shift, and largest whole exponent, that is served.
const LARGEST: i64 = 32;

/// A node at a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Argument {
    node: usize,
    shift: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    /// A number, by its bits.
    Constant(u64),
    /// x[i]
    Points,
    /// x[column], the same for all i.
    Fixed(usize),
    /// Element i of a tensor.
    Tensor(TensorId),
    /// An element of a tensor, the same for all i.
    Element(TensorId, usize),
    /// i
    Index,
    Unary(Unary, Argument),
    /// A power with a whole exponent.
    Power(i32, Argument),
    Binary(Binary, Argument, Argument),
}

/// A reduction of node(i) over lo <= i < hi.
#[derive(Clone, Debug, PartialEq)]
struct Sum {
    fold: Fold,
    lo: usize,
    hi: usize,
    node: usize,
}

/// What all scalar code of a program asks of the columns.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    nodes: Vec<Node>,
    /// By node: does not depend on i.
    uniform: Vec<bool>,
    /// By node: columns beyond a strip that others read; none where nothing reads it.
    reach: Vec<Option<usize>>,
    /// By node: the cosine of what this is the sine of, or the other way round; the earlier one works out both.
    partner: Vec<Option<usize>>,
    sums: Vec<Sum>,
    known: HashMap<Node, usize>,
    columns: usize,
}

/// Code whose loops over columns are loads of their results, [1, sums], from the input behind its own.
pub type Hoisted = Pointwise;

impl Columns {
    /// For points with so many columns.
    pub fn new(columns: usize) -> Self {
        Columns { columns, ..Default::default() }
    }

    /// How many sums there are.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// How each sum is combined.
    pub fn folds(&self) -> impl Iterator<Item = Fold> {
        self.sums.iter().map(|s| s.fold)
    }

    /// Columns beyond a block that must be at hand.
    pub fn reach(&self) -> usize {
        self.reach.iter().flatten().copied().max().unwrap_or(0)
    }

    /// Takes the loops of scalar code that read the points (`is_points`) over. None where one cannot be.
    pub fn hoist(&mut self, code: &Pointwise, is_points: &dyn Fn(Source) -> bool) -> Option<Hoisted> {
        let mut hoist = Hoist { columns: self, inputs: &code.inputs, is_points, old: vec![], new: vec![], next: 0 };
        let body = hoist.block(&code.code, true)?;
        Some(Pointwise { code: body, ..code.clone() })
    }

    /// To be called after the last `hoist`: what reads what, and how far.
    pub fn finish(&mut self) {
        self.reach = vec![None; self.nodes.len()];
        for sum in &self.sums {
            self.reach[sum.node].get_or_insert(0);
        }
        self.partner = vec![None; self.nodes.len()];
        for k in 0..self.nodes.len() {
            let other = match self.nodes[k] {
                Node::Unary(Unary::Sin, a) => Node::Unary(Unary::Cos, a),
                Node::Unary(Unary::Cos, a) => Node::Unary(Unary::Sin, a),
                _ => continue,
            };
            self.partner[k] = self.known.get(&other).copied();
        }
        for k in (0..self.nodes.len()).rev() {
            // Both of a pair are worked out where the earlier one stands.
            let both = self.partner[k].and_then(|p| self.reach[p]);
            let reach = self.reach[k].max(both);
            self.reach[k] = reach;
            let Some(reach) = reach else { continue };
            for a in self.nodes[k].arguments() {
                let needed = reach + a.shift;
                self.reach[a.node] = Some(self.reach[a.node].map_or(needed, |r| r.max(needed)));
            }
        }
    }

    fn node(&mut self, node: Node) -> usize {
        if let Some(known) = self.known.get(&node) {
            return *known;
        }
        let uniform = match &node {
            Node::Constant(_) | Node::Fixed(_) | Node::Element(..) => true,
            Node::Points | Node::Tensor(_) | Node::Index => false,
            other => other.arguments().iter().all(|a| self.uniform[a.node]),
        };
        self.known.insert(node.clone(), self.nodes.len());
        self.nodes.push(node);
        self.uniform.push(uniform);
        self.nodes.len() - 1
    }

    fn sum(&mut self, sum: Sum) -> usize {
        let known = self.sums.iter().position(|s| *s == sum);
        known.unwrap_or_else(|| {
            self.sums.push(sum);
            self.sums.len() - 1
        })
    }
}

impl Node {
    fn arguments(&self) -> Vec<Argument> {
        match self {
            Node::Unary(_, a) | Node::Power(_, a) => vec![*a],
            Node::Binary(_, a, b) => vec![*a, *b],
            _ => vec![],
        }
    }
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
    inputs: &'a [Source],
    is_points: &'a dyn Fn(Source) -> bool,
    /// By register of the code: its value, where it is one of the columns or the same everywhere.
    old: Vec<Option<Value>>,
    /// By register of the code: its number in the new code.
    new: Vec<u32>,
    /// Registers of the new code.
    next: u32,
}

impl Hoist<'_> {
    /// The code with its loops taken out.
    fn block(&mut self, code: &[Instruction], outermost: bool) -> Option<Vec<Instruction>> {
        let mut out = Vec::new();
        for instruction in code {
            if let Instruction::Loop { var, lo, hi, body, reductions } = instruction {
                let begin = self.old.len();
                if outermost && let Some(sums) = self.sums(*var, (*lo, *hi), body, reductions) {
                    for sum in sums {
                        let feature = Address::fixed(sum);
                        let input = self.inputs.len() as u32;
                        out.push(Instruction::Load { input, row: Address::fixed(0), feature });
                        self.define(None, true);
                    }
                    continue;
                }
                if self.reads_points(body) {
                    return None;
                }
                self.old.truncate(begin);
                self.new.truncate(begin);
                let body = self.block(body, false)?;
                let reductions = reductions.iter().map(|(f, r)| (*f, self.new[*r as usize])).collect::<Vec<_>>();
                for _ in &reductions {
                    self.define(None, true);
                }
                out.push(Instruction::Loop { var: *var, lo: *lo, hi: *hi, body, reductions });
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

    /// The next register of the code; `kept` where it is one of the new code too.
    fn define(&mut self, value: Option<Value>, kept: bool) {
        self.old.push(value);
        self.new.push(if kept { self.next } else { u32::MAX });
        self.next += u32::from(kept);
    }

    fn reads_points(&self, body: &[Instruction]) -> bool {
        body.iter().any(|i| match i {
            Instruction::Load { input, .. } => (self.is_points)(self.inputs[*input as usize]),
            Instruction::Loop { body, .. } => self.reads_points(body),
            _ => false,
        })
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
                if *row != Address::fixed(0) {
                    return None;
                }
                let (source, at) = (self.inputs[*input as usize], shift(feature)?);
                match (source, at) {
                    (source, Some(shift)) if (self.is_points)(source) => self.make(Node::Points, shift),
                    (source, None) if (self.is_points)(source) => self.make(Node::Fixed(fixed(feature)?), 0),
                    (Source::Tensor(t), Some(shift)) => self.make(Node::Tensor(t), shift),
                    (Source::Tensor(t), None) => self.make(Node::Element(t, fixed(feature)?), 0),
                    _ => None,
                }
            }
            Instruction::Index(address) => match shift(address)? {
                Some(shift) => self.make(Node::Index, shift),
                None => self.make(Node::Constant((address.offset as f64).to_bits()), 0),
            },
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
        let address = |a: &Address| Address { register: a.register.as_ref().map(register), ..a.clone() };
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

/// Room to work in, kept between blocks.
#[derive(Debug, Default)]
pub struct Strips<T> {
    nodes: Vec<Vec<T>>,
    /// [sums, points]
    parts: Vec<T>,
}

/// Adds the columns of one block to the sums.
pub struct Block<'a, T> {
    /// What is summed.
    pub columns: &'a Columns,
    /// [columns of the block and as many behind it as there are and are in reach, points]
    pub x: &'a [T],
    /// The columns of the block.
    pub range: Range<usize>,
    /// How many points.
    pub points: usize,
    /// All tensors of the program.
    pub tensors: &'a [&'a [T]],
    /// A fixed column of all points, for code that reads one.
    pub fixed: &'a dyn Fn(usize, &mut [T]),
    /// Scratch.
    pub strips: &'a mut Strips<T>,
    /// [sums, points]
    pub totals: &'a mut [f64],
}

impl<T: Real> Kernel for Block<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Block { columns, x, range, points, tensors, fixed, strips, totals } = self;
        if columns.sums.is_empty() || points == 0 {
            return;
        }
        let width = (STRIP / points).clamp(1, range.len().max(1));
        let capacity = (width + columns.reach()) * points;
        let Strips { nodes, parts } = strips;
        nodes.resize_with(columns.nodes.len(), Vec::new);
        parts.clear();
        for sum in &columns.sums {
            let start = if sum.fold == Fold::Sum { T::zero() } else { -T::one() / T::zero() };
            parts.resize(parts.len() + points, start);
        }
        for uniform in [true, false] {
            let strip = if uniform { 1 } else { width };
            let first_of_all = range.start;
            for first in range.clone().step_by(strip.max(1)) {
                if uniform && first > first_of_all {
                    break;
                }
                let count = width.min(range.end - first);
                for k in 0..columns.nodes.len() {
                    let Some(reach) = columns.reach[k].filter(|_| columns.uniform[k] == uniform) else { continue };
                    if columns.nodes[k] == Node::Points || columns.partner[k].is_some_and(|p| p < k) {
                        continue;
                    }
                    let mut y = std::mem::take(&mut nodes[k]);
                    y.resize(capacity, T::zero());
                    let len = if uniform { capacity } else { (count + reach) * points };
                    let y_now = &mut y[..len];
                    let argument = |a: Argument, nodes: &[Vec<T>]| -> (usize, usize) {
                        let _ = nodes;
                        (a.node, a.shift * points)
                    };
                    macro_rules! read {
                        ($a:expr) => {{
                            let (node, offset) = argument($a, nodes);
                            if columns.nodes[node] == Node::Points {
                                let from = (first - range.start) * points + offset;
                                // Behind the last column there is nothing, and nothing is summed.
                                let end = (from + len).min(x.len());
                                &x[from.min(end)..end]
                            } else {
                                let values = &nodes[node];
                                &values[offset..(offset + len).min(values.len())]
                            }
                        }};
                    }
                    match &columns.nodes[k] {
                        Node::Points => {}
                        Node::Constant(bits) => y_now.fill(T::lit(f64::from_bits(*bits))),
                        Node::Fixed(column) => {
                            for y in y_now.chunks_exact_mut(points) {
                                fixed(*column, y);
                            }
                        }
                        Node::Element(t, at) => {
                            let value = tensors[t.index()].get(*at).copied();
                            y_now.fill(value.unwrap_or(T::lit(f64::NAN)));
                        }
                        Node::Tensor(t) => {
                            for (c, y) in y_now.chunks_exact_mut(points).enumerate() {
                                let value = tensors[t.index()].get(first + c).copied();
                                y.fill(value.unwrap_or(T::lit(f64::NAN)));
                            }
                        }
                        Node::Index => {
                            for (c, y) in y_now.chunks_exact_mut(points).enumerate() {
                                y.fill(T::lit((first + c) as f64));
                            }
                        }
                        Node::Unary(f, a) => {
                            if let Some(p) = columns.partner[k] {
                                let mut z = std::mem::take(&mut nodes[p]);
                                z.resize(capacity, T::zero());
                                let a = read!(*a);
                                let len = a.len();
                                let (sin, cos) = match f {
                                    Unary::Sin => (&mut y_now[..len], &mut z[..len]),
                                    _ => (&mut z[..len], &mut y_now[..len]),
                                };
                                math::sin_cos_each(a, |l, s, c| (sin[l], cos[l]) = (s, c));
                                nodes[p] = z;
                            } else {
                                let a = read!(*a);
                                unary(*f, a, &mut y_now[..a.len()]);
                            }
                        }
                        Node::Power(exponent, a) => {
                            let a = read!(*a);
                            power(*exponent, a, &mut y_now[..a.len()]);
                        }
                        Node::Binary(f, a, b) => {
                            let (a, b) = (read!(*a), read!(*b));
                            binary(*f, a, b, y_now);
                        }
                    }
                    nodes[k] = y;
                }
                if uniform {
                    continue;
                }
                for (sum, part) in columns.sums.iter().zip(parts.chunks_exact_mut(points)) {
                    let lo = sum.lo.clamp(first, first + count) - first;
                    let hi = sum.hi.clamp(first, first + count) - first;
                    let values = match columns.nodes[sum.node] {
                        Node::Points => &x[(first - range.start) * points..],
                        _ => &nodes[sum.node],
                    };
                    if hi <= lo {
                        continue;
                    }
                    for values in values[lo * points..hi * points].chunks_exact(points) {
                        match sum.fold {
                            Fold::Sum => part.iter_mut().zip(values).for_each(|(s, x)| *s += *x),
                            Fold::Max => part.iter_mut().zip(values).for_each(|(s, x)| *s = max(*s, *x)),
                        }
                    }
                }
            }
        }
        let parts = parts.chunks_exact(points).zip(totals.chunks_exact_mut(points));
        for (sum, (part, total)) in columns.sums.iter().zip(parts) {
            match sum.fold {
                Fold::Sum => total.iter_mut().zip(part).for_each(|(t, p)| *t += p.to_f64()),
                Fold::Max => total.iter_mut().zip(part).for_each(|(t, p)| *t = max(*t, p.to_f64())),
            }
        }
    }
}

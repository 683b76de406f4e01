//! Sums over the columns of the points, block by block.
//!
//! The loops of scalar code that only read columns `i + shift` of the points and of tensors become one list of nodes, each a
//! function of i for all i at once. A node is normalised so that it reads nothing before column i: cos(x[i + 1]) is the
//! node cos(x[.]) at shift 1, and equal nodes are one, whichever loop and shift they came from. A backend works them out.

use crate::jet::{Address, Binary, Fold, Instruction, Pointwise, Source, TensorId, Unary};
use std::collections::HashMap;

/// The slot of what has none.
pub const NOWHERE: usize = usize::MAX;
/// Largest shift, and largest whole exponent, that is served.
const LARGEST: i64 = 32;

/// A node at a shift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Argument {
    pub node: usize,
    pub shift: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
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
pub struct Sum {
    pub fold: Fold,
    pub lo: usize,
    pub hi: usize,
    pub node: usize,
}

/// f(g(a, b), c), or f(c, g(a, b)) where not `first`.
#[derive(Clone, Copy, Debug)]
pub struct Inner {
    pub g: Binary,
    pub a: Argument,
    pub b: Argument,
    pub c: Argument,
    pub first: bool,
}

/// What all scalar code of a program asks of the columns.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    pub nodes: Vec<Node>,
    /// By node: does not depend on i.
    pub uniform: Vec<bool>,
    /// By node: columns beyond a strip that others read; none where nothing reads it.
    pub reach: Vec<Option<usize>>,
    /// By node: the cosine of what this is the sine of, or the other way round; the earlier one works out both.
    pub partner: Vec<Option<usize>>,
    /// By node: the product or sum of two others that is worked out along with it, as its first or second argument.
    pub inner: Vec<Option<Inner>>,
    /// By sum: a product that is added up as it is worked out.
    pub product: Vec<Option<(Argument, Argument)>>,
    /// By node: where its values are, shared with nodes that are never needed at the same time.
    pub slots: Vec<usize>,
    /// By node: sums that can be added to when it was worked out.
    pub ready: Vec<Vec<usize>>,
    pub sums: Vec<Sum>,
    pub known: HashMap<Node, usize>,
    pub columns: usize,
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
        self.fuse();
        self.reach = vec![None; self.nodes.len()];
        for (sum, product) in self.sums.iter().zip(&self.product) {
            match product {
                Some((a, b)) => {
                    [a, b].into_iter().for_each(|a| self.reach[a.node] = self.reach[a.node].max(Some(a.shift)))
                }
                None => self.reach[sum.node] = self.reach[sum.node].max(Some(0)),
            }
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
            for a in self.arguments(k) {
                let needed = reach + a.shift;
                self.reach[a.node] = Some(self.reach[a.node].map_or(needed, |r| r.max(needed)));
            }
        }
        self.allot();
    }

    /// Finds products and sums that only one other node, or one sum over the columns, reads: they are worked out there.
    fn fuse(&mut self) {
        let count = self.nodes.len();
        // What is read at all, and how often.
        let (mut needed, mut uses) = (vec![false; count], vec![0usize; count]);
        self.sums.iter().for_each(|s| (needed[s.node], uses[s.node]) = (true, uses[s.node] + 1));
        for k in (0..count).rev() {
            if needed[k] {
                self.nodes[k]
                    .arguments()
                    .iter()
                    .for_each(|a| (needed[a.node], uses[a.node]) = (true, uses[a.node] + 1));
            }
        }
        let cheap = |f: Binary| matches!(f, Binary::Add | Binary::Sub | Binary::Mul);
        let alone = |k: usize| uses[k] == 1 && !self.uniform[k];
        let product = |s: &Sum| match self.nodes[s.node] {
            Node::Binary(Binary::Mul, a, b) if s.fold == Fold::Sum && alone(s.node) => Some((a, b)),
            _ => None,
        };
        self.product = self.sums.iter().map(product).collect();
        self.inner = vec![None; count];
        let mut taken = vec![false; count];
        for k in (0..count).rev().filter(|k| needed[*k] && !self.uniform[*k]) {
            let Node::Binary(f, a, b) = self.nodes[k] else { continue };
            if taken[k] || !cheap(f) || self.sums.iter().zip(&self.product).any(|(s, p)| s.node == k && p.is_some()) {
                continue;
            }
            for (inner, c, first) in [(a, b, true), (b, a, false)] {
                if let Node::Binary(g, p, q) = self.nodes[inner.node]
                    && cheap(g)
                    && alone(inner.node)
                {
                    // A shift of what is the same everywhere is none.
                    let shifted = |x: Argument| match self.uniform[x.node] {
                        true => x,
                        false => Argument { shift: x.shift + inner.shift, ..x },
                    };
                    taken[inner.node] = true;
                    self.inner[k] = Some(Inner { g, a: shifted(p), b: shifted(q), c, first });
                    break;
                }
            }
        }
    }

    /// What a node reads.
    fn arguments(&self, k: usize) -> Vec<Argument> {
        match self.inner[k] {
            Some(i) => vec![i.a, i.b, i.c],
            None => self.nodes[k].arguments(),
        }
    }

    /// The node at which a node's values are there: the earlier one of a pair.
    fn ready_at(&self, k: usize) -> usize {
        self.partner[k].map_or(k, |p| p.min(k))
    }

    /// Slots by lifetimes: what is the same for all i lives on, everything else until it was read last.
    fn allot(&mut self) {
        let count = self.nodes.len();
        self.ready = vec![vec![]; count];
        for (s, sum) in self.sums.iter().enumerate() {
            // A sum that works its product out is ready when both factors are.
            let at = self.product[s].map_or(sum.node, |(a, b)| self.ready_at(a.node).max(self.ready_at(b.node)));
            self.ready[at].push(s);
        }
        let mut last: Vec<usize> = (0..count).map(|k| if self.uniform[k] { count } else { k }).collect();
        for k in (0..count).filter(|k| self.reach[*k].is_some()) {
            // A pair is worked out where its earlier node stands.
            let at = self.partner[k].map_or(k, |p| p.min(k));
            self.arguments(k).iter().for_each(|a| last[a.node] = last[a.node].max(at));
        }
        for (k, sums) in self.ready.iter().enumerate() {
            for (a, b) in sums.iter().filter_map(|s| self.product[*s]) {
                [a, b].into_iter().for_each(|a| last[a.node] = last[a.node].max(k));
            }
        }
        let (mut free, mut slots) = (Vec::new(), 0);
        let mut ends: Vec<Vec<usize>> = vec![vec![]; count + 1];
        self.slots = vec![NOWHERE; count];
        for k in 0..count {
            for node in [Some(k), self.partner[k].filter(|p| *p > k)].into_iter().flatten() {
                if self.reach[k].is_none() || self.slots[node] != NOWHERE || self.nodes[node] == Node::Points {
                    continue;
                }
                self.slots[node] = free.pop().unwrap_or_else(|| {
                    slots += 1;
                    slots - 1
                });
                ends[last[node].max(k)].push(self.slots[node]);
            }
            free.append(&mut ends[k]);
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

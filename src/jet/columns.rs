//! Sums over the columns of the points, and vectors with an element for each column, block by block.
//!
//! The loops of scalar code that only read columns `i + shift` of the points, of random directions and of tensors become one list
//! of nodes, each a function of i for all i at once. A node is normalised so that it reads nothing before column i: cos(x[i + 1])
//! is the node cos(x[.]) at shift 1, and equal nodes are one, whichever loop and shift they came from. [`super::hoist`] finds
//! them in scalar code, a backend works them out.

use crate::jet::{Binary, Fold, TensorId, Unary, ValueId};
use std::collections::HashMap;

/// The slot of what has none.
pub const NOWHERE: usize = usize::MAX;

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
    /// Element i of a random direction, by position among the directions; 0 where it has none.
    Direction(usize),
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

/// The random directions of one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directions {
    /// Generator stream.
    pub stream: u32,
    /// Elements of a direction.
    pub len: usize,
    /// Normal numbers, else signs.
    pub gaussian: bool,
}

/// A random direction that nodes read.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawn {
    /// The operation that draws it.
    pub value: ValueId,
    /// Its number there.
    pub slot: usize,
    /// How it is drawn.
    pub of: Directions,
    /// The column of its first element.
    pub first: usize,
}

/// A vector whose element for column c is the node at c + shift, for lo <= c < hi, else 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vector {
    pub node: usize,
    pub shift: i64,
    pub lo: usize,
    pub hi: usize,
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
    /// By node: vectors that can be copied when it was worked out.
    pub copied: Vec<Vec<usize>>,
    pub sums: Vec<Sum>,
    pub vectors: Vec<Vector>,
    pub directions: Vec<Drawn>,
    pub known: HashMap<Node, usize>,
    pub columns: usize,
}

impl Columns {
    /// For points with so many columns.
    pub fn new(columns: usize) -> Self {
        Columns { columns, ..Default::default() }
    }

    /// The least shift of a vector: nodes at i are worked out for the columns i - `base()`.
    pub fn base(&self) -> i64 {
        self.vectors.iter().map(|v| v.shift).min().unwrap_or(0)
    }

    /// Where a vector reads its node.
    pub fn argument(&self, vector: &Vector) -> Argument {
        let shift = if self.uniform[vector.node] { 0 } else { vector.shift - self.base() };
        Argument { node: vector.node, shift: usize::try_from(shift).unwrap_or(0) }
    }

    /// The tensors that are read.
    pub fn tensors(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().zip(&self.reach).filter_map(|(node, reach)| match node {
            Node::Tensor(t) | Node::Element(t, _) if reach.is_some() => Some(t.index()),
            _ => None,
        })
    }

    /// Whether points are read.
    pub fn reads_points(&self) -> bool {
        self.nodes.iter().zip(&self.reach).any(|(node, reach)| *node == Node::Points && reach.is_some())
    }

    /// Whether a node's values are given, not worked out.
    pub fn is_given(&self, k: usize) -> bool {
        matches!(self.nodes[k], Node::Points | Node::Direction(_))
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
        for a in self.vectors.iter().map(|v| self.argument(v)).collect::<Vec<_>>() {
            self.reach[a.node] = self.reach[a.node].max(Some(a.shift));
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
        let roots = self.sums.iter().map(|s| s.node).chain(self.vectors.iter().map(|v| v.node));
        roots.for_each(|k| (needed[k], uses[k]) = (true, uses[k] + 1));
        // what a vector holds is worked out by itself
        self.vectors.iter().for_each(|v| uses[v.node] += 1);
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
        self.copied = vec![vec![]; count];
        for (v, vector) in self.vectors.iter().enumerate() {
            let at = if self.uniform[vector.node] { count - 1 } else { self.ready_at(vector.node) };
            self.copied[at].push(v);
        }
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
        for (k, vectors) in self.copied.iter().enumerate() {
            vectors.iter().for_each(|v| last[self.vectors[*v].node] = last[self.vectors[*v].node].max(k));
        }
        let (mut free, mut slots) = (Vec::new(), 0);
        let mut ends: Vec<Vec<usize>> = vec![vec![]; count + 1];
        self.slots = vec![NOWHERE; count];
        // What is the same for all i is worked out before everything else, wherever it stands: its slot is its own.
        for k in (0..count).filter(|k| self.uniform[*k] && self.reach[*k].is_some()) {
            self.slots[k] = slots;
            slots += 1;
        }
        for k in 0..count {
            for node in [Some(k), self.partner[k].filter(|p| *p > k)].into_iter().flatten() {
                if self.reach[k].is_none() || self.slots[node] != NOWHERE || self.is_given(node) {
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

    /// The number of a node, made if it is new.
    pub fn node(&mut self, node: Node) -> usize {
        if let Some(known) = self.known.get(&node) {
            return *known;
        }
        let uniform = match &node {
            Node::Constant(_) | Node::Fixed(_) | Node::Element(..) => true,
            Node::Points | Node::Direction(_) | Node::Tensor(_) | Node::Index => false,
            other => other.arguments().iter().all(|a| self.uniform[a.node]),
        };
        self.known.insert(node.clone(), self.nodes.len());
        self.nodes.push(node);
        self.uniform.push(uniform);
        self.nodes.len() - 1
    }

    /// The number of a sum, made if it is new.
    pub fn sum(&mut self, sum: Sum) -> usize {
        let known = self.sums.iter().position(|s| *s == sum);
        known.unwrap_or_else(|| {
            self.sums.push(sum);
            self.sums.len() - 1
        })
    }
}

impl Node {
    /// The nodes that it is a function of.
    pub fn arguments(&self) -> Vec<Argument> {
        match self {
            Node::Unary(_, a) | Node::Power(_, a) => vec![*a],
            Node::Binary(_, a, b) => vec![*a, *b],
            _ => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is the same everywhere is worked out first, so that nothing may use its slot before or after it is read.
    #[test]
    fn what_is_the_same_everywhere_has_a_slot_of_its_own() {
        let mut columns = Columns::new(10);
        let at = |node| Argument { node, shift: 0 };
        let x = columns.node(Node::Points);
        let square = columns.node(Node::Binary(Binary::Mul, at(x), at(x)));
        let root = columns.node(Node::Unary(Unary::Sqrt, at(square)));
        // made when the slot of the square is free again
        let constant = columns.node(Node::Constant(0.05f64.to_bits()));
        let scaled = columns.node(Node::Binary(Binary::Mul, at(x), at(constant)));
        for node in [root, scaled] {
            columns.sum(Sum { fold: Fold::Sum, lo: 0, hi: 10, node });
        }
        columns.finish();
        let slot = columns.slots[constant];
        assert_ne!(slot, NOWHERE);
        for other in [square, root, scaled] {
            assert_ne!(columns.slots[other], slot, "node {other}");
        }
    }
}

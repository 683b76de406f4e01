//! Residuals as a graph of scalar expressions, hash-consed: equal expressions are the same [`Id`].
//!
//! The constructors keep a canonical form: sums are flat with rational coefficients and like terms collected,
//! products are flat with whole exponents, a numeric factor lives in the enclosing sum (`3*a*b` is a sum of one
//! term), reductions pull out what does not depend on their index, are linear in their body, contract Kronecker
//! deltas, and split their range where an index condition changes. Children come before parents.
//!
//! A derivative of a network output is one node, an [`Atom`]; a derivative of anything else is a node
//! [`Node::Derivative`] until [`Graph::expand`] applies the chain and product rules.

use super::index::{Index, LoopVar, Slot, Symbol};
use crate::program::{CoefId, DataId, Function, NetId, ParamId, Reduction};
use indexmap::IndexSet;
use num_rational::BigRational;
use std::collections::{HashMap, HashSet};

/// A node of a [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u32);

impl Id {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A partial derivative of one output of a network call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Atom {
    /// Position in [`Graph::calls`].
    pub call: u32,
    /// Which output.
    pub component: u32,
    /// Along what, ascending; empty for the value itself.
    pub symbols: Vec<Symbol>,
}

/// A network applied to arguments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkCall {
    /// Which network.
    pub net: NetId,
    /// Its concatenated arguments.
    pub arguments: Vec<Argument>,
    /// 0; another number tells apart applications that would be the same.
    pub copy: u32,
}

/// One argument of a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// Adjacent columns of the point.
    Columns {
        /// First column.
        first: usize,
        /// How many.
        len: usize,
    },
    /// Any scalar expression of the point and parameters.
    Scalar(Id),
}

/// Scalar functions beyond those of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Func {
    /// One of the language.
    Of(Function),
    /// -1, 0, 1
    Sign,
    /// (a, b): 1 where a >= b, else 0
    AtLeast,
}

/// Scalar expressions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    /// A number.
    Num(BigRational),
    /// pi
    Pi,
    /// A parameter.
    Param(ParamId),
    /// A column of the point.
    Point(Index),
    /// An element of a random direction: its component along a column.
    Direction {
        /// Which sampler.
        sampler: u32,
        /// Which of its draws.
        slot: Slot,
        /// Column.
        column: Index,
    },
    /// Z / (k |w|) of a weighted draw: what a term is worth, so that the sum over the draws estimates the sum over all.
    Worth {
        /// Position in [`Graph::weightings`].
        weighting: u32,
        /// Which of its draws.
        slot: Slot,
    },
    /// An entry of a coefficient table.
    Coef(CoefId, Index),
    /// A column of the data row.
    Data(DataId, u32),
    /// Component of the outward normal (at points of a boundary) along a space column.
    Normal(Index),
    /// An index as a number.
    IndexValue(Index),
    /// 1 where the index is 0, else 0: a Kronecker delta of an index that could not be contracted (yet).
    Delta(Index),
    /// 1 where lo <= index < hi, else 0.
    Inside(Index, i64, i64),
    /// A derivative of a network output.
    Atom(Atom),
    /// A linear functional of network outputs, found by `fold`: position, and the values of its family indices.
    Functional(u32, Vec<Index>),
    /// A row of a network call's output jet, placed by the planner: call, row, component.
    Row(u32, Index, u32),
    /// Terms with coefficients (not 0, ids ascending) plus a number.
    Add(Vec<(Id, BigRational)>, BigRational),
    /// Factors with exponents (not 0, ids ascending; no number, no product, among them).
    Mul(Vec<(Id, i32)>),
    /// Real power.
    Power(Id, Id),
    /// A function.
    Call(Func, Vec<Id>),
    /// A reduction over lo <= var < hi, where in a closed reduction var is `Bound`; a sampled sum knows its sampler.
    Reduce {
        /// Sum or maximum.
        reduction: Reduction,
        /// The variable.
        var: LoopVar,
        /// First index.
        lo: i64,
        /// One past the last.
        hi: i64,
        /// What is reduced.
        body: Id,
        /// By which sampler a sum is estimated.
        sampler: Option<u32>,
    },
    /// A derivative that is not expanded.
    Derivative(Symbol, Id),
}

/// A source of indices or directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// As the user named it.
    pub name: String,
    /// How.
    pub kind: SamplerKind,
    /// First index that can be drawn, or first column of a direction.
    pub lo: i64,
    /// One past the last.
    pub hi: i64,
}

/// Kinds of samplers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SamplerKind {
    /// k indices without replacement.
    Sparse {
        /// How many.
        k: usize,
        /// One draw for all points.
        shared: bool,
    },
    /// k random vectors.
    Dense {
        /// How many.
        k: usize,
        /// Gaussian, else signs.
        gaussian: bool,
    },
    /// The first or the second index of the pairs that a weighting draws.
    Weighted {
        /// Position in [`Graph::weightings`].
        weighting: u32,
        /// The second index.
        second: bool,
    },
    /// Of a sum that is carried out in the variables of the first layer ([`crate::operator::compress`]); with k random
    /// directions there.
    Compressed {
        /// How many directions; none: all, which is exact.
        k: Option<usize>,
    },
    /// Vectors q whose images W q are columns of L, L L^T = W W^T, with the columns lo..hi of the first layer's weight W; with
    /// k, their k combinations by random signs.
    Factor {
        /// Whose first layer.
        call: u32,
        /// Columns of L.
        rank: usize,
        /// How many combinations; none: the columns.
        k: Option<usize>,
    },
    /// k vectors by their components.
    Vectors {
        /// How many.
        k: usize,
        /// Which vector, and which column: the free variables of the component.
        slot: LoopVar,
        /// See `slot`.
        column: LoopVar,
        /// The component; it holds no derivative and no network.
        component: Id,
    },
}

/// Pairs of indices drawn with replacement, with probabilities in proportion to |weight|.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighting {
    /// As the user named it.
    pub name: String,
    /// How many pairs are drawn.
    pub k: usize,
    /// Ranges and free variables of the two indices; the second range of an index that stands alone is 0..1.
    pub indices: [(LoopVar, i64, i64); 2],
    /// The weight.
    pub weight: Id,
}

/// The arena, with what its nodes refer to.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: IndexSet<Node>,
    /// For each node: free loop variables (ascending), and the largest bound number in it.
    free: Vec<(Vec<LoopVar>, u32)>,
    has_atom: Vec<bool>,
    pub(super) next_free: u32,
    pub(super) ranges: HashMap<LoopVar, (i64, i64)>,
    pub(super) derivatives: HashMap<(Id, Symbol), Id>,
    pub(super) expansions: HashMap<Id, Id>,
    /// Whether an estimate was derived whose directions vary with the point. Their own derivatives are missing then.
    pub derives_directions: bool,
    /// Network applications that atoms refer to.
    pub calls: IndexSet<NetworkCall>,
    /// What sampled sums, drawn indices and directions refer to.
    pub samplers: Vec<Sampler>,
    /// What weighted samplers refer to.
    pub weightings: Vec<Weighting>,
}

impl Graph {
    /// The node of an id.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }
    /// The largest bound number in a node.
    pub(super) fn height(&self, id: Id) -> u32 {
        self.free[id.index()].1
    }
    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
    /// True for a graph without nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
    /// Free loop variables of a node, ascending.
    pub fn free_vars(&self, id: Id) -> &[LoopVar] {
        &self.free[id.index()].0
    }
    /// True if a node depends on networks.
    pub fn has_atom(&self, id: Id) -> bool {
        self.has_atom[id.index()]
    }
    /// Children in order.
    pub fn children(&self, id: Id) -> Vec<Id> {
        children(self.node(id))
    }

    /// Interns a node as it is. Use the constructors below instead wherever a canonical form matters.
    pub fn intern(&mut self, node: Node) -> Id {
        if let Some(k) = self.nodes.get_index_of(&node) {
            return Id(k as u32);
        }
        let mut vars: Vec<LoopVar> = match &node {
            Node::Point(i) | Node::Coef(_, i) | Node::Normal(i) | Node::IndexValue(i) | Node::Delta(i) => {
                i.loop_vars().collect()
            }
            Node::Inside(i, ..) | Node::Row(_, i, _) => i.loop_vars().collect(),
            Node::Direction { slot, column, .. } => {
                let slot = Symbol::Direction { sampler: 0, slot: *slot };
                column.loop_vars().chain(slot.loop_vars()).collect()
            }
            Node::Worth { slot: Slot::Loop(v), .. } => vec![*v],
            Node::Atom(a) => a.symbols.iter().flat_map(|s| s.loop_vars()).collect(),
            Node::Functional(_, indices) => indices.iter().flat_map(|i| i.loop_vars().collect::<Vec<_>>()).collect(),
            Node::Derivative(s, _) => s.loop_vars(),
            _ => Vec::new(),
        };
        let mut height = 0;
        let mut atom = matches!(node, Node::Atom(_) | Node::Functional(..) | Node::Row(..));
        for c in children(&node) {
            vars.extend(self.free_vars(c));
            height = height.max(self.free[c.index()].1);
            atom |= self.has_atom(c);
        }
        if let Node::Reduce { var, .. } = &node {
            vars.retain(|v| v != var);
            if let LoopVar::Bound(h) = var {
                height = height.max(*h);
            }
        }
        vars.sort_unstable();
        vars.dedup();
        let (k, _) = self.nodes.insert_full(node);
        self.free.push((vars, height));
        self.has_atom.push(atom);
        Id(k as u32)
    }

    /// The number of a sampler, which is added if it is new.
    pub fn sampler(&mut self, name: &str, kind: SamplerKind, lo: i64, hi: i64) -> u32 {
        let sampler = Sampler { name: name.to_string(), kind, lo, hi };
        let known = self.samplers.iter().position(|s| *s == sampler);
        known.unwrap_or_else(|| {
            self.samplers.push(sampler);
            self.samplers.len() - 1
        }) as u32
    }

    /// Free variables, slot and column, for the component of k vectors over the columns lo..hi: the same ones each time, so
    /// that equal vectors are one sampler.
    pub fn vector_vars(&mut self, k: usize, lo: i64, hi: i64) -> (LoopVar, LoopVar) {
        let known = self.samplers.iter().find_map(|s| match s.kind {
            SamplerKind::Vectors { k: n, slot, column, .. } if (n, s.lo, s.hi) == (k, lo, hi) => Some((slot, column)),
            _ => None,
        });
        known.unwrap_or_else(|| (self.fresh(0, k as i64), self.fresh(lo, hi)))
    }

    /// Whether a sampler's directions are known by their images under a first layer only.
    pub fn is_factor(&self, sampler: u32) -> bool {
        matches!(self.samplers[sampler as usize].kind, SamplerKind::Factor { .. })
    }

    /// Whether a derivative of a network occurs.
    pub fn holds_derivative(&self, id: Id) -> bool {
        self.any(id, |node| match node {
            Node::Derivative(_, of) => self.has_atom(*of),
            Node::Atom(a) => !a.symbols.is_empty(),
            _ => false,
        })
    }
    /// Whether a sum that this sampler estimates occurs.
    pub fn is_sampled_by(&self, id: Id, sampler: u32) -> bool {
        self.any(id, |node| matches!(node, Node::Reduce { sampler: Some(s), .. } if *s == sampler))
    }
    /// Whether some node on a way to a network is like this.
    pub(super) fn any(&self, id: Id, is: impl Fn(&Node) -> bool) -> bool {
        self.find(id, |id| self.has_atom(id), |id| is(self.node(id)))
    }
    /// Whether some node of an expression is like this.
    pub fn holds(&self, id: Id, is: impl Fn(&Node) -> bool) -> bool {
        self.find(id, |_| true, |id| is(self.node(id)))
    }
    /// Whether some reduction in an expression depends on a variable.
    pub fn holds_reduction_over(&self, id: Id, var: LoopVar) -> bool {
        let depends = |id: Id| matches!(self.node(id), Node::Reduce { .. }) && self.free_vars(id).contains(&var);
        self.find(id, |_| true, depends)
    }
    /// Whether some node is like this that is reached by way of nodes that are entered.
    pub(super) fn find(&self, id: Id, enter: impl Fn(Id) -> bool, is: impl Fn(Id) -> bool) -> bool {
        let (mut todo, mut seen) = (vec![id], HashSet::new());
        while let Some(id) = todo.pop() {
            if enter(id) && seen.insert(id) {
                if is(id) {
                    return true;
                }
                todo.extend(self.children(id));
            }
        }
        false
    }

    /// Another application of the network with the same arguments, told apart by its number.
    pub fn duplicate_call(&mut self, call: u32) -> u32 {
        let mut copy = self.calls[call as usize].clone();
        copy.copy = self.calls.len() as u32;
        self.calls.insert_full(copy).0 as u32
    }
}

pub(super) fn children(node: &Node) -> Vec<Id> {
    match node {
        Node::Add(terms, _) => terms.iter().map(|t| t.0).collect(),
        Node::Mul(factors) => factors.iter().map(|f| f.0).collect(),
        Node::Power(a, b) => vec![*a, *b],
        Node::Call(_, arguments) => arguments.clone(),
        Node::Reduce { body, .. } => vec![*body],
        Node::Derivative(_, of) => vec![*of],
        _ => Vec::new(),
    }
}

pub(super) fn with_children(node: &Node, new: &[Id]) -> Node {
    match node {
        Node::Add(terms, k) => {
            Node::Add(new.iter().copied().zip(terms.iter().map(|t| t.1.clone())).collect(), k.clone())
        }
        Node::Mul(factors) => Node::Mul(new.iter().copied().zip(factors.iter().map(|f| f.1)).collect()),
        Node::Power(..) => Node::Power(new[0], new[1]),
        Node::Call(f, _) => Node::Call(*f, new.to_vec()),
        Node::Reduce { reduction, var, lo, hi, sampler, .. } => {
            Node::Reduce { reduction: *reduction, var: *var, lo: *lo, hi: *hi, body: new[0], sampler: *sampler }
        }
        Node::Derivative(s, _) => Node::Derivative(s.clone(), new[0]),
        leaf => leaf.clone(),
    }
}

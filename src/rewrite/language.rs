//! The expressions of the e-graph: those of [`Graph`](crate::operator::Graph), with e-classes for children.
//!
//! Sums and products are flat, with exact coefficients and whole exponents beside the children, as in the graph:
//! commutativity and associativity hold by form, so no rule has to permute anything. [`Build`](super::build::Build)
//! makes them in canonical order; a union can spoil that, and the rules `collect ...` mend it.
//!
//! There are no binders in an e-graph. A loop variable is a name that stands for its height and its range
//! ([`Facts::loop_var`](super::facts::Facts::loop_var)), so that equal reductions are equal forms; rules that move
//! something across a reduction look at the free variables first.

use crate::operator::{self, Func, LoopVar, Symbol};
use crate::program::Reduction;
use egg::{Id, Language};
use num_rational::BigRational;
use std::mem::Discriminant;

/// An e-node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// A number.
    Num(BigRational),
    /// A node of the graph without children: a parameter, a column, an atom, a delta, ...
    Leaf(operator::Id),
    /// Sum of coefficient times term, plus a number.
    Add(Vec<BigRational>, BigRational, Vec<Id>),
    /// Product of factors to whole powers.
    Mul(Vec<i32>, Vec<Id>),
    /// Real power: base, exponent.
    Power([Id; 2]),
    /// A function.
    Call(Func, Vec<Id>),
    /// A reduction of its child over an index.
    Reduce(Loop, Id),
    /// The derivative of its child, not carried out.
    D(Symbol, Id),
}

/// What a reduction runs over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loop {
    /// True for a maximum, false for a sum.
    pub max: bool,
    /// The variable, free in the body.
    pub var: LoopVar,
    /// First index.
    pub lo: i64,
    /// One past the last.
    pub hi: i64,
    /// By which sampler a sum is estimated.
    pub sampler: Option<u32>,
}

impl Loop {
    /// Sum or maximum.
    pub fn reduction(&self) -> Reduction {
        if self.max { Reduction::Max } else { Reduction::Sum }
    }
}

impl Language for Form {
    type Discriminant = Discriminant<Form>;

    fn discriminant(&self) -> Self::Discriminant {
        std::mem::discriminant(self)
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Form::Num(a), Form::Num(b)) => a == b,
            (Form::Leaf(a), Form::Leaf(b)) => a == b,
            (Form::Add(a, j, x), Form::Add(b, k, y)) => a == b && j == k && x.len() == y.len(),
            (Form::Mul(a, x), Form::Mul(b, y)) => a == b && x.len() == y.len(),
            (Form::Power(_), Form::Power(_)) => true,
            (Form::Call(f, x), Form::Call(g, y)) => f == g && x.len() == y.len(),
            (Form::Reduce(a, _), Form::Reduce(b, _)) => a == b,
            (Form::D(a, _), Form::D(b, _)) => a == b,
            _ => false,
        }
    }

    fn children(&self) -> &[Id] {
        match self {
            Form::Num(_) | Form::Leaf(_) => &[],
            Form::Add(_, _, c) | Form::Mul(_, c) | Form::Call(_, c) => c,
            Form::Power(c) => c,
            Form::Reduce(_, c) | Form::D(_, c) => std::slice::from_ref(c),
        }
    }

    fn children_mut(&mut self) -> &mut [Id] {
        match self {
            Form::Num(_) | Form::Leaf(_) => &mut [],
            Form::Add(_, _, c) | Form::Mul(_, c) | Form::Call(_, c) => c,
            Form::Power(c) => c,
            Form::Reduce(_, c) | Form::D(_, c) => std::slice::from_mut(c),
        }
    }
}

impl Form {
    /// Terms of a sum with their coefficients.
    pub fn terms(&self) -> Vec<(Id, BigRational)> {
        match self {
            Form::Add(c, _, t) => t.iter().copied().zip(c.iter().cloned()).collect(),
            _ => Vec::new(),
        }
    }
    /// Factors of a product with their exponents.
    pub fn factors(&self) -> Vec<(Id, i32)> {
        match self {
            Form::Mul(e, f) => f.iter().copied().zip(e.iter().copied()).collect(),
            _ => Vec::new(),
        }
    }
}

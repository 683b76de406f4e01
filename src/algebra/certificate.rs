//! The lower bound as a proof that can be checked again: independent derivatives of the targets.
//!
//! A scheme that knows p(D)(h^2) for a target p must keep functionals whose span holds all derivatives of p. At some
//! values of the coefficients 1 and the listed derivatives are linearly independent over Q; so they are at almost all
//! values, and every such scheme keeps at least so many rows there.

use super::Rational;
use super::constant::echelon;
use super::monomial::Monomial;
use super::polynomial::Polynomial;
use super::span::{Span, value_of};
use std::collections::BTreeSet;

/// Derivatives of the targets that are linearly independent, together with 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// (coefficient symbol, value) at which they are independent, ordered by symbol.
    pub values: Vec<(u32, u64)>,
    /// (target, along what it is differentiated).
    pub derivatives: Vec<(usize, Monomial)>,
}

impl Certificate {
    pub(super) fn new(targets: &[Polynomial], span: &Span) -> Certificate {
        let symbols: BTreeSet<u32> = targets.iter().flat_map(Polynomial::coefficient_symbols).collect();
        Certificate {
            values: symbols.into_iter().map(|symbol| (symbol, value_of(symbol))).collect(),
            derivatives: span.members.iter().map(|m| (m.target, m.path.clone())).collect(),
        }
    }

    /// Rows that are needed at least: one for the value itself, and one for each derivative.
    pub fn rank(&self) -> usize {
        self.derivatives.len() + 1
    }

    /// Checks the independence again, over Q.
    pub fn holds(&self, targets: &[Polynomial]) -> bool {
        let value = |symbol: u32| match self.values.binary_search_by_key(&symbol, |v| v.0) {
            Ok(at) => Rational::from_integer(self.values[at].1.into()),
            Err(_) => Rational::from_integer(0.into()),
        };
        let derivatives = self.derivatives.iter().map(|(target, path)| {
            Some(targets.get(*target)?.map(|c| c.evaluate(&value).into()).derivative_along(path).without_constant())
        });
        let derivatives: Option<Vec<Polynomial>> = derivatives.collect();
        derivatives.is_some_and(|rows| echelon(&rows, &Monomial::cmp).len() == rows.len())
    }
}

//! Gradient terms of a loss: derivatives of residuals along space, so scaled that the mean of the sum of their squares is
//! weight |grad R|^2.
//!
//! All columns, or k of them at random, or k random directions of signs: E (v.grad R)^2 = |grad R|^2 too. A column that the
//! residual is differentiated along anyway has rows in its algebra already; the planner takes what needs less work.

use super::Planner;
use crate::diagnostic::{Diagnostic, Span};
use crate::operator::{Graph, Id, Index, IndexVar, SamplerKind, Slot, Symbol};
use crate::program::{Function, GradientTerm};
use num_rational::BigRational;

/// Largest gradient whose components are all taken.
const MAX_COMPONENTS: i64 = 64;

impl Planner<'_> {
    /// Whether random directions are an alternative for a gradient term.
    pub(super) fn can_be_dense(&self, term: Option<GradientTerm>) -> bool {
        term.and_then(|t| t.directions).is_some_and(|k| k < self.program.space_dimension())
    }

    /// The terms of residuals, one after the other.
    pub(super) fn gradient_terms(
        &self,
        graph: &mut Graph,
        residuals: &[Id],
        term: GradientTerm,
        dense: bool,
        span: Span,
    ) -> Result<Vec<Id>, Diagnostic> {
        let space: Vec<(i64, i64)> = self.program.space().map(|g| (g.first as i64, (g.first + g.len) as i64)).collect();
        let dimension: i64 = space.iter().map(|(lo, hi)| hi - lo).sum();
        let every = || space.iter().flat_map(|(lo, hi)| *lo..*hi).map(|c| Symbol::Column(Index::constant(c)));
        let (symbols, each): (Vec<Symbol>, f64) = match (term.directions, &space[..]) {
            (Some(k), &[(lo, hi)]) if (k as i64) < dimension => {
                let kind = match dense {
                    true => SamplerKind::Dense { k, gaussian: false },
                    false => SamplerKind::Sparse { k, shared: false },
                };
                let sampler = graph.sampler("gradient", kind, lo, hi);
                let symbol = |s: u32| match dense {
                    true => Symbol::Direction { sampler, slot: Slot::Fixed(s) },
                    false => Symbol::Column(Index::var(IndexVar::Drawn { sampler, slot: Slot::Fixed(s) })),
                };
                let mean = if dense { 1.0 } else { dimension as f64 };
                ((0..k as u32).map(symbol).collect(), mean / k as f64)
            }
            _ if dimension > MAX_COMPONENTS => {
                return Err(Diagnostic::error(span, format!("the gradient of a residual in {dimension} dimensions"))
                    .note("sample it: `gradient(weight = 0.1, dirs = 16)`"));
            }
            _ => (every().collect(), 1.0),
        };
        let weight = BigRational::from_float(term.weight * each).unwrap_or_default();
        let weight = graph.num(weight);
        let root = graph.call(Function::Sqrt, vec![weight]);
        let mut out = Vec::new();
        for r in residuals {
            for symbol in &symbols {
                let d = graph.derivative(*r, symbol);
                out.push(graph.mul(root, d));
            }
        }
        Ok(out)
    }
}

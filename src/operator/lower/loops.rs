//! Sums and maxima: with a loop variable where their terms can be indexed by one, else term by term.

use super::{Lowered, Lowering, children};
use crate::diagnostic::Diagnostic;
use crate::operator::index::Index;
use crate::program::{ExprId, IndexId, Kind, Reduction, Shape};
use num_rational::BigRational;
use num_traits::One;

impl Lowering<'_> {
    /// sum of f(i) over lo <= i < hi; with a loop variable if the terms can be indexed by one, else term by term.
    pub(super) fn sum_over(
        &mut self,
        lo: i64,
        hi: i64,
        symbolic: bool,
        e: ExprId,
        f: &mut dyn FnMut(&mut Self, &Index) -> Lowered,
    ) -> Lowered {
        if symbolic {
            let var = self.graph.fresh(lo, hi);
            let body = f(self, &Index::of_loop(var))?;
            return Ok(self.graph.reduce(Reduction::Sum, var, lo, hi, body, None));
        }
        self.bounded(hi - lo, e)?;
        let mut terms = Vec::new();
        for i in lo..hi {
            terms.push((f(self, &Index::constant(i))?, BigRational::one()));
        }
        Ok(self.graph.linear(terms))
    }

    #[allow(clippy::too_many_arguments)] // the parts of one node
    pub(super) fn reduction(
        &mut self,
        e: ExprId,
        reduction: Reduction,
        index: IndexId,
        lo: i64,
        hi: i64,
        body: ExprId,
        at: &[Index],
    ) -> Lowered {
        if self.indexable(body, index) {
            let var = self.graph.fresh(lo, hi);
            self.env.insert(index, Index::of_loop(var));
            let value = self.component(body, at)?;
            return Ok(self.graph.reduce(reduction, var, lo, hi, value, None));
        }
        self.bounded(hi - lo, e)?;
        let mut terms = Vec::new();
        for i in lo..hi {
            self.env.insert(index, Index::constant(i));
            terms.push(self.component(body, at)?);
        }
        if reduction == Reduction::Max && terms.is_empty() {
            return Err(Diagnostic::error(self.span(e), "the maximum of nothing"));
        }
        Ok(self.graph.combine(reduction, terms))
    }

    /// Whether the components of an expression can be indexed by a loop variable.
    pub(super) fn symbolic(&self, e: ExprId) -> bool {
        let p = self.program;
        match &p.expr(e).kind {
            _ if p.shape(e) == Shape::Scalar => true,
            Kind::Coordinates(_) | Kind::Coef(_) => true,
            Kind::Network { .. } | Kind::List(_) | Kind::Curl(_) => false,
            Kind::Gradient(of) => self.space_run().is_some() && self.symbolic(*of),
            Kind::Hessian(_) => self.space_run().is_some(),
            kind => children(kind).into_iter().all(|c| self.symbolic(c)),
        }
    }

    /// Whether an index variable is only used where a loop variable can stand.
    fn indexable(&mut self, e: ExprId, index: IndexId) -> bool {
        if !self.vars_of(e).contains(&index) {
            return true;
        }
        let p = self.program;
        let kind = &p.expr(e).kind;
        let here = match kind {
            Kind::Element { of, index: i } => !i.terms.iter().any(|t| t.0 == index) || self.symbolic(*of),
            _ => true,
        };
        here && children(kind).into_iter().all(|c| self.indexable(c, index))
    }

    /// The index variables that occur free in an expression.
    pub(super) fn vars_of(&mut self, e: ExprId) -> Vec<IndexId> {
        if let Some(done) = self.index_vars.get(&e) {
            return done.clone();
        }
        let kind = &self.program.expr(e).kind;
        let mut out: Vec<IndexId> = match kind {
            Kind::IndexValue(i) | Kind::Element { index: i, .. } => i.terms.iter().map(|t| t.0).collect(),
            Kind::Partial { along, .. } => along.iter().flat_map(|c| c.index.terms.iter().map(|t| t.0)).collect(),
            _ => Vec::new(),
        };
        for c in children(kind) {
            out.extend(self.vars_of(c));
        }
        if let Kind::Reduce { index, .. } = kind {
            out.retain(|v| v != index);
        }
        out.sort_unstable();
        out.dedup();
        self.index_vars.insert(e, out.clone());
        out
    }
}

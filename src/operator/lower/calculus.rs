//! Vector calculus as sums over columns.

use super::{Lowered, Lowering, lengths};
use crate::diagnostic::Diagnostic;
use crate::operator::graph::Node;
use crate::operator::index::{Index, Symbol};
use crate::program::{ExprId, Method, Region, Shape};
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::One;

impl Lowering<'_> {
    pub(super) fn norm2(&mut self, e: ExprId, a: ExprId, at: &[Index]) -> Lowered {
        let (lengths, symbolic) = (lengths(self.program.shape(a)), self.symbolic(a));
        match lengths.get(at.len()) {
            None => {
                let x = self.component(a, at)?;
                Ok(self.graph.powi(x, 2))
            }
            Some(n) => self.sum_over(0, *n, symbolic, e, &mut |l, i| {
                let mut inner = at.to_vec();
                inner.push(i.clone());
                l.norm2(e, a, &inner)
            }),
        }
    }

    pub(super) fn laplacian(&mut self, e: ExprId, of: ExprId, at: &[Index]) -> Lowered {
        let value = self.component(of, at)?;
        let mut runs = self.space_runs();
        let method = self.operator_estimate(e).or_else(|| self.scope.clone()).map(|s| s.method);
        if matches!(method, Some(Method::Rademacher { .. } | Method::Gaussian { .. })) {
            // directions do not care where one coordinate ends and the next begins
            runs = join(&runs);
        }
        let mut terms = Vec::new();
        for (first, len, indexed) in runs {
            let sum = self.sum_over(first, first + len, indexed, e, &mut |l, column| {
                let symbol = Symbol::Column(column.clone());
                let d = l.graph.derivative(value, &symbol);
                Ok(l.graph.derivative(d, &symbol))
            })?;
            terms.push((sum, BigRational::one()));
        }
        Ok(self.graph.linear(terms))
    }

    pub(super) fn curl(&mut self, e: ExprId, of: ExprId, at: &[Index]) -> Lowered {
        let d = |l: &mut Self, component: &[Index], along: i64| -> Lowered {
            let value = l.component(of, component)?;
            let column = l.space_column(&Index::constant(along), e)?;
            Ok(l.graph.derivative(value, &Symbol::Column(column)))
        };
        let k = |n: i64| [Index::constant(n)];
        match (self.program.shape(of), at) {
            // (u_y, -u_x)
            (Shape::Scalar, [i]) => {
                let i = self.constant_index(i, e)?;
                let out = d(self, &[], 1 - i)?;
                Ok(if i == 0 { out } else { self.graph.scale(-BigRational::one(), out) })
            }
            (Shape::Vector(2), _) => {
                let (a, b) = (d(self, &k(1), 0)?, d(self, &k(0), 1)?);
                Ok(self.graph.sub(a, b))
            }
            _ => {
                let i = self.constant_index(&at[0], e)?;
                let (j, m) = ((i + 1) % 3, (i + 2) % 3);
                let (a, b) = (d(self, &k(m), j)?, d(self, &k(j), m)?);
                Ok(self.graph.sub(a, b))
            }
        }
    }

    pub(super) fn normal_derivative(&mut self, e: ExprId, of: ExprId, at: &[Index]) -> Lowered {
        let value = self.component(of, at)?;
        match self.region.clone() {
            Some(Region::Face { coordinate, outward, .. }) if outward != 0 => {
                let column = self.column_of(&coordinate);
                let d = self.graph.derivative(value, &Symbol::Column(column));
                Ok(self.graph.scale(BigRational::from_integer(BigInt::from(outward)), d))
            }
            Some(Region::Boundary) => {
                let mut terms = Vec::new();
                for (first, len, indexed) in self.space_runs() {
                    let sum = self.sum_over(first, first + len, indexed, e, &mut |l, i| {
                        let normal = l.graph.intern(Node::Normal(i.clone()));
                        let d = l.graph.derivative(value, &Symbol::Column(i.clone()));
                        Ok(l.graph.mul(normal, d))
                    })?;
                    terms.push((sum, BigRational::one()));
                }
                Ok(self.graph.linear(terms))
            }
            _ => Err(Diagnostic::error(self.span(e), "a normal derivative where there is no outward normal")
                .note("`d_n` belongs to a condition `on boundary` or on a face of the domain such as `on x = 0`")),
        }
    }

    /// By cofactors of the first row.
    pub(super) fn determinant(&mut self, m: ExprId, row: i64, columns: &[usize]) -> Lowered {
        if columns.is_empty() {
            return Ok(self.graph.int(1));
        }
        let mut terms = Vec::new();
        for (k, c) in columns.iter().enumerate() {
            let entry = self.component(m, &[Index::constant(row), Index::constant(*c as i64)])?;
            let rest: Vec<usize> = columns.iter().copied().filter(|o| o != c).collect();
            let minor = self.determinant(m, row + 1, &rest)?;
            let sign = BigRational::from_integer(BigInt::from(if k % 2 == 0 { 1 } else { -1 }));
            terms.push((self.graph.mul(entry, minor), sign));
        }
        Ok(self.graph.linear(terms))
    }
}

/// Runs of columns that touch, as one.
fn join(runs: &[(i64, i64, bool)]) -> Vec<(i64, i64, bool)> {
    let mut out: Vec<(i64, i64, bool)> = Vec::new();
    for &(first, len, _) in runs {
        match out.last_mut() {
            Some((f, l, _)) if *f + *l == first => *l += len,
            _ => out.push((first, len, true)),
        }
    }
    out
}

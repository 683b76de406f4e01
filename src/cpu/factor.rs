//! Factors of first layers: Gram matrices by blocks, and what is injected into a layer.

use super::lift::{matrix, matrix_mut};
use super::product::product;
use super::real::Real;
use crate::jet::Seed;
use crate::jet::factor::Factor;
use ndarray::{ArrayView2, Axis};
use rayon::prelude::*;

/// A factor of a call.
#[derive(Debug, Default)]
pub struct Factored<T> {
    /// As found, in f64.
    pub factor: Factor,
    /// L^T, [rank, out].
    pub turned: Vec<T>,
}

/// The most partial sums of a Gram matrix, each added in order.
const PARTS: usize = 16;
/// Columns of a product, whose sums are added in f64.
const BLOCK: usize = 512;

impl<T: Real> Factored<T> {
    /// Of the columns of a weight [out, len].
    pub fn new(weight: ArrayView2<T>, rank: usize) -> Self {
        let (out, len) = weight.dim();
        let part = len.div_ceil(PARTS).next_multiple_of(BLOCK).max(1);
        let parts: Vec<Vec<f64>> = (0..len.div_ceil(part))
            .into_par_iter()
            .map(|p| {
                let end = len.min((p + 1) * part);
                let mut sums = vec![0.0; out * out];
                let mut block = vec![T::zero(); out * out];
                for first in (p * part..end).step_by(BLOCK) {
                    let columns = weight.slice(ndarray::s![.., first..end.min(first + BLOCK)]);
                    product(T::one(), columns, columns.t(), false, matrix_mut(&mut block, out));
                    sums.iter_mut().zip(&block).for_each(|(s, b)| *s += b.to_f64());
                }
                sums
            })
            .collect();
        let mut gram = vec![0.0; out * out];
        for part in parts {
            gram.iter_mut().zip(part).for_each(|(g, p)| *g += p);
        }
        let factor = Factor::new(&gram, out, rank);
        let turned = (0..rank * out).map(|e| T::lit(factor.l[e % out * rank + e / out])).collect();
        Factored { factor, turned }
    }

    /// M with the weight's adjoint M W, for the factor's adjoint [out, rank]: [out, out].
    pub fn pull_back(&self, bar: &[T], out: usize) -> Vec<T> {
        let bar: Vec<f64> = bar.iter().map(|b| b.to_f64()).collect();
        self.factor.pull_back(&bar, out).into_iter().map(T::lit).collect()
    }

    /// Adds what seeds mean to rows y: [rows, n, out]. Directions are [k, n, rank].
    pub fn inject(&self, seeds: &[Seed], directions: Option<&[T]>, n: usize, y: &mut [T]) {
        let rank = self.factor.rank;
        let out = self.turned.len().checked_div(rank).unwrap_or(0);
        for seed in seeds {
            let y = &mut y[seed.row as usize * n * out..][..n * out];
            let (value, at) = (T::lit(seed.value), seed.at as usize);
            match directions {
                None => {
                    let column = &self.turned[at * out..][..out];
                    for y in y.chunks_exact_mut(out.max(1)) {
                        y.iter_mut().zip(column).for_each(|(y, l)| *y += value * *l);
                    }
                }
                Some(d) => {
                    let d = matrix(&d[at * n * rank..][..n * rank], n);
                    product(value, d, matrix(&self.turned, rank), true, matrix_mut(y, n));
                }
            }
        }
    }
}

/// Adds the adjoint of what was injected, summed over n points, to sum: [out, rank].
pub fn inject_adjoint<T: Real>(
    seeds: &[Seed],
    directions: Option<&[T]>,
    bar: &[T],
    n: usize,
    out: usize,
    sum: &mut [T],
) {
    let rank = sum.len().checked_div(out).unwrap_or(0);
    let mut sum = matrix_mut(sum, out);
    for seed in seeds {
        let bar = matrix(&bar[seed.row as usize * n * out..][..n * out], n);
        let (value, at) = (T::lit(seed.value), seed.at as usize);
        match directions {
            None => sum.column_mut(at).scaled_add(value, &bar.sum_axis(Axis(0))),
            Some(d) => {
                let d = matrix(&d[at * n * rank..][..n * rank], n);
                product(value, bar.t(), d, true, sum.view_mut());
            }
        }
    }
}

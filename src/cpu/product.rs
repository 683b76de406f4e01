//! Matrix products of a tile, and sums of its rows.

use super::activation::LANES;
use super::gemm::Plus;
use super::real::{Kernel, Real};
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Columns that are summed at a time.
const GROUP: usize = 32;
/// Rows that are summed before they go into a sum in f64.
const FEW: usize = 8;

/// c = alpha a b, or c += alpha a b where `add`; for a [m, k], b [k, n], c [m, n] with contiguous rows or columns.
///
/// `gemm` does it where it can, else `matrixmultiply` (through ndarray).
pub fn product<T: Real>(alpha: T, a: ArrayView2<T>, b: ArrayView2<T>, add: bool, mut c: ArrayViewMut2<T>) {
    if c.is_empty() {
        return;
    }
    if c.strides()[1] != 1 && c.strides()[0] == 1 {
        return product(alpha, b.t(), a.t(), add, c.reversed_axes());
    }
    if T::gemm(alpha, &a, &b, if add { Plus::Itself } else { Plus::Nothing }, &mut c) {
        return;
    }
    general_mat_mul(alpha, &a, &b, if add { T::one() } else { T::zero() }, &mut c);
}

/// c = a b + row in every row; for a [m, k], b [k, n], c [m, n] and row [n], c with contiguous rows.
pub fn affine<T: Real>(a: ArrayView2<T>, b: ArrayView2<T>, row: &[T], mut c: ArrayViewMut2<T>) {
    if c.is_empty() || T::gemm(T::one(), &a, &b, Plus::Row(&row[..c.ncols()]), &mut c) {
        return;
    }
    general_mat_mul(T::one(), &a, &b, T::zero(), &mut c);
    if let Some(y) = c.as_slice_mut() {
        T::add_to_each(AddToEach { row, y });
    }
}

/// y = a + b
pub struct AddPair<'a, T> {
    /// A term.
    pub a: &'a [T],
    /// The other.
    pub b: &'a [T],
    /// Sums.
    pub y: &'a mut [T],
}

impl<T: Real> Kernel for AddPair<'_, T> {
    #[inline(always)]
    fn run(self) {
        for ((y, a), b) in self.y.iter_mut().zip(self.a).zip(self.b) {
            *y = *a + *b;
        }
    }
}

/// y += row, for each row of y: [n, row.len()].
pub struct AddToEach<'a, T> {
    /// What is added.
    pub row: &'a [T],
    /// Sums.
    pub y: &'a mut [T],
}

impl<T: Real> Kernel for AddToEach<'_, T> {
    #[inline(always)]
    fn run(self) {
        for y in self.y.chunks_exact_mut(self.row.len().max(1)) {
            let x = &self.row[..y.len()];
            for k in 0..y.len() {
                y[k] += x[k];
            }
        }
    }
}

/// sums += the sum of the rows: [n, sums.len()].
pub struct AddColumns<'a, T> {
    /// What is added.
    pub rows: &'a [T],
    /// Sums.
    pub sums: &'a mut [T],
}

impl<T: Real> Kernel for AddColumns<'_, T> {
    #[inline(always)]
    fn run(self) {
        let width = self.sums.len().max(1);
        if GROUP.is_multiple_of(width) {
            // whole rows side by side
            let mut part = [0.0; GROUP];
            let (whole, rest) = self.rows.as_chunks::<GROUP>();
            add_groups(whole.iter(), &mut part);
            part.iter_mut().zip(rest).for_each(|(p, x)| *p += x.to_f64());
            for (k, p) in part.into_iter().enumerate().skip(width) {
                part[k % width] += p;
            }
            self.sums.iter_mut().zip(part).for_each(|(s, p)| *s += T::lit(p));
            return;
        }
        for (first, sums) in (0..width).step_by(GROUP).zip(self.sums.chunks_mut(GROUP)) {
            let mut part = [0.0; GROUP];
            if sums.len() == GROUP {
                add_groups(self.rows.chunks_exact(width).filter_map(|row| row[first..].first_chunk()), &mut part);
            } else {
                for row in self.rows.chunks_exact(width) {
                    part.iter_mut().zip(&row[first..]).for_each(|(p, x)| *p += x.to_f64());
                }
            }
            sums.iter_mut().zip(part).for_each(|(s, p)| *s += T::lit(p));
        }
    }
}

/// part += the sum of the groups: a few by themselves, all in f64, because sums of many tiles are large against one point.
#[inline(always)]
fn add_groups<'a, T: Real>(mut groups: impl Iterator<Item = &'a [T; GROUP]>, part: &mut [f64; GROUP]) {
    while let Some(first) = groups.next() {
        let mut few = *first;
        for _ in 1..FEW {
            let Some(group) = groups.next() else { break };
            for k in 0..GROUP {
                few[k] += group[k];
            }
        }
        for k in 0..GROUP {
            part[k] += few[k].to_f64();
        }
    }
}

/// y[to..] += value x[from..], a row each, for each (to, from, value).
pub struct AddRows<'a, T> {
    /// Where rows start, and their factors.
    pub places: &'a [(usize, usize, T)],
    /// Length of a row.
    pub width: usize,
    /// What is added.
    pub x: &'a [T],
    /// Sums.
    pub y: &'a mut [T],
}

impl<T: Real> Kernel for AddRows<'_, T> {
    #[inline(always)]
    fn run(self) {
        for (to, from, value) in self.places {
            let (y, x) = (&mut self.y[*to..][..self.width], &self.x[*from..][..self.width]);
            for (y, x) in y.iter_mut().zip(x) {
                *y += *value * *x;
            }
        }
    }
}

/// y = scale times the sum of the parts, in f64, part by part.
pub struct SumParts<'a, T> {
    /// The factor.
    pub scale: f64,
    /// Each as long as y.
    pub parts: &'a [&'a [T]],
    /// Sums.
    pub y: &'a mut [T],
}

impl<T: Real> Kernel for SumParts<'_, T> {
    #[inline(always)]
    fn run(self) {
        for (first, y) in (0..self.y.len()).step_by(LANES).zip(self.y.chunks_mut(LANES)) {
            let mut sum = [0.0; LANES];
            for part in self.parts {
                for (s, x) in sum.iter_mut().zip(&part[first..][..y.len()]) {
                    *s += x.to_f64();
                }
            }
            for (y, s) in y.iter_mut().zip(sum) {
                *y = T::lit(self.scale * s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_is_the_product(
            m in 1..15usize, k in 0..300usize, n in 1..9usize, turned in 0..4usize, add: bool, alpha in 1..3usize, swap: bool,
        ) {
            let (m, n) = if swap { (n * 7, m) } else { (m, n * 7) };
            let fill = |r, c, s: f64| Array2::from_shape_fn((r, c), |(i, j)| ((i * 7 + j * 13) as f64 * s).sin());
            let make = |r, c, s: f64, turn| if turn { fill(c, r, s).reversed_axes() } else { fill(r, c, s) };
            let (a, b) = (make(m, k, 0.3, turned & 1 == 1), make(k, n, 0.7, turned & 2 == 2));
            let mut c = fill(m, n, 1.1);
            let alpha = alpha as f64;
            let expected = Array2::from_shape_fn((m, n), |(i, j)| {
                alpha * (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum::<f64>() + if add { c[[i, j]] } else { 0.0 }
            });
            product(alpha, a.view(), b.view(), add, c.view_mut());
            prop_assert!((&c - &expected).iter().all(|e| e.abs() < 1e-12), "{c} {expected}");
        }

        #[test]
        fn a_row_is_added_to_every_row(m in 1..100usize, k in 0..300usize, n in 1..40usize) {
            let fill = |r, c, s: f64| Array2::from_shape_fn((r, c), |(i, j)| ((i * 7 + j * 13) as f64 * s).sin());
            let (a, b) = (fill(m, k, 0.3), fill(k, n, 0.7));
            let row: Vec<f64> = (0..n).map(|j| (j as f64).cos()).collect();
            let mut c = fill(m, n, 1.1);
            affine(a.view(), b.view(), &row, c.view_mut());
            let expected =
                Array2::from_shape_fn((m, n), |(i, j)| row[j] + (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum::<f64>());
            prop_assert!((&c - &expected).iter().all(|e| e.abs() < 1e-12), "{c} {expected}");
        }
    }
}

//! Matrix products of a tile.
//!
//! `gemm` does the work where it can, else `matrixmultiply` (through ndarray); products with one very short side are plain loops.

use super::activation::LANES;
use super::real::{Kernel, Real};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

/// Columns that are summed at a time.
const GROUP: usize = 32;
/// Sides up to this length are looped over.
const SHORT: usize = 3;

/// c = a b + beta c, for a [m, k], b [k, n], c [m, n] with contiguous rows or columns.
pub fn product<T: Real>(alpha: T, a: ArrayView2<T>, b: ArrayView2<T>, beta: T, mut c: ArrayViewMut2<T>) {
    if c.is_empty() {
        return;
    }
    if c.strides()[1] != 1 && c.strides()[0] == 1 {
        return product(alpha, b.t(), a.t(), beta, c.reversed_axes());
    }
    if b.ncols() <= SHORT && a.strides()[1] == 1 && b.strides()[0] == 1 {
        return T::inner(Inner { alpha, a, b, beta, c });
    }
    if b.ncols() <= SHORT && a.strides()[1] == 1 {
        let mut columns = Vec::with_capacity(b.len());
        for column in 0..b.ncols() {
            for k in 0..b.nrows() {
                columns.push(b[[k, column]]);
            }
        }
        if let Ok(turned) = ArrayView2::from_shape((b.ncols(), b.nrows()), &columns) {
            return T::inner(Inner { alpha, a, b: turned.reversed_axes(), beta, c });
        }
    }
    let plain = alpha == T::one() && (beta == T::zero() || beta == T::one());
    if plain && b.ncols() <= SHORT && a.strides()[0] == 1 {
        // few rows by many columns
        let mut turned = Array2::zeros((b.ncols(), a.nrows()));
        if T::gemm(&b.t(), &a.t(), false, &mut turned.view_mut()) {
            let add = beta == T::one();
            for i in 0..c.nrows() {
                for j in 0..c.ncols() {
                    let (c, x) = (&mut c[[i, j]], turned[[j, i]]);
                    *c = if add { *c + x } else { x };
                }
            }
            return;
        }
    }
    if plain && T::gemm(&a, &b, beta == T::one(), &mut c) {
        return;
    }
    if a.ncols().min(a.nrows()) <= SHORT && b.strides()[1] == 1 {
        return T::outer(Outer { alpha, a, b, beta, c });
    }
    general_mat_mul(alpha, &a, &b, beta, &mut c);
}

/// Row by row of c, a sum of rows of b.
pub struct Outer<'a, T> {
    alpha: T,
    a: ArrayView2<'a, T>,
    b: ArrayView2<'a, T>,
    beta: T,
    c: ArrayViewMut2<'a, T>,
}

impl<T: Real> Kernel for Outer<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        for (a, mut c) in self.a.rows().into_iter().zip(self.c.rows_mut()) {
            if self.beta == T::zero() {
                c.fill(T::zero());
            } else if self.beta != T::one() {
                for c in c.iter_mut() {
                    *c *= self.beta;
                }
            }
            let Some(c) = c.as_slice_mut() else { continue };
            for (a, b) in a.iter().zip(self.b.rows()) {
                let (a, Some(b)) = (self.alpha * *a, b.to_slice()) else { continue };
                for (c, b) in c.iter_mut().zip(b) {
                    *c += a * *b;
                }
            }
        }
    }
}

/// Element by element of c, a dot product of rows of a and columns of b.
pub struct Inner<'a, T> {
    alpha: T,
    a: ArrayView2<'a, T>,
    b: ArrayView2<'a, T>,
    beta: T,
    c: ArrayViewMut2<'a, T>,
}

impl<T: Real> Kernel for Inner<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        let width = self.c.ncols();
        for (k, b) in self.b.columns().into_iter().enumerate() {
            let Some(b) = b.to_slice() else { continue };
            if let (Some(a), Some(c)) = (self.a.to_slice(), self.c.as_slice_mut()) {
                // views of rows cost more than short sums
                for (row, a) in a.chunks_exact(b.len().max(1)).enumerate() {
                    let c = &mut c[row * width + k];
                    let old = if self.beta == T::zero() { T::zero() } else { self.beta * *c };
                    *c = self.alpha * dot(a, b) + old;
                }
                continue;
            }
            for (a, c) in self.a.rows().into_iter().zip(self.c.column_mut(k)) {
                let Some(a) = a.to_slice() else { continue };
                let old = if self.beta == T::zero() { T::zero() } else { self.beta * *c };
                *c = self.alpha * dot(a, b) + old;
            }
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
        // The tile by itself first, in f64: the sums of many tiles are large against one point.
        for (first, sums) in (0..width).step_by(GROUP).zip(self.sums.chunks_mut(GROUP)) {
            let mut part = [0.0; GROUP];
            for row in self.rows.chunks_exact(width) {
                match row[first..].first_chunk::<GROUP>() {
                    // of a known length, so that the sums stay in registers
                    Some(row) => {
                        for k in 0..GROUP {
                            part[k] += row[k].to_f64();
                        }
                    }
                    None => {
                        for (p, x) in part.iter_mut().zip(&row[first..]) {
                            *p += x.to_f64();
                        }
                    }
                }
            }
            for (s, p) in sums.iter_mut().zip(part) {
                *s += T::lit(p);
            }
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

/// The sum of sixteen numbers. Apart from [`dot`], whose loop over them the compiler would else cut into pairs.
#[inline(never)]
fn total<T: Real>(sums: &[T; 16]) -> T {
    let mut sums = *sums;
    let mut step = 8;
    while step > 0 {
        for l in 0..step {
            let other = sums[l + step];
            sums[l] += other;
        }
        step /= 2;
    }
    sums[0]
}

/// Dot product in sixteen interleaved sums.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::zero(); 16];
    let (a_chunks, a_rest) = a.as_chunks::<16>();
    let (b_chunks, b_rest) = b.as_chunks::<16>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for l in 0..16 {
            sums[l] += a[l] * b[l];
        }
    }
    let mut sum = total(&sums);
    for (a, b) in a_rest.iter().zip(b_rest) {
        sum += *a * *b;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_path_is_the_product(
            m in 1..15usize, k in 0..300usize, n in 1..9usize, turned in 0..4usize, beta in 0..3usize, alpha in 1..3usize, swap: bool,
        ) {
            let (m, n) = if swap { (n * 7, m) } else { (m, n * 7) };
            let fill = |r, c, s: f64| Array2::from_shape_fn((r, c), |(i, j)| ((i * 7 + j * 13) as f64 * s).sin());
            let make = |r, c, s: f64, turn| if turn { fill(c, r, s).reversed_axes() } else { fill(r, c, s) };
            let (a, b) = (make(m, k, 0.3, turned & 1 == 1), make(k, n, 0.7, turned & 2 == 2));
            let mut c = fill(m, n, 1.1);
            let (alpha, beta) = (alpha as f64, [0.0, 1.0, -0.5][beta]);
            let expected = Array2::from_shape_fn((m, n), |(i, j)| {
                alpha * (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum::<f64>() + beta * c[[i, j]]
            });
            product(alpha, a.view(), b.view(), beta, c.view_mut());
            prop_assert!((&c - &expected).iter().all(|e| e.abs() < 1e-12), "{c} {expected}");
        }
    }
}

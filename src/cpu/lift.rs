//! A first layer on the jet of the points, without that jet.
//!
//! Row 0 of a lift is a piece of the points, so its products are with the points as they lie. The other rows hold
//! constant seeds: a fixed column gives a combination of weight columns that is the same at every point, a drawn column a
//! gathered weight column, a direction a dense product. [points, rows, columns] is never stored, unless another operation
//! than a layer reads the lift ([`fill`]).
//!
//! A first layer with very many columns has another path, [`super::wide`]: here its gradient is dense, once per chunk.

use super::product::{AddRows, product};
use super::real::Real;
use crate::jet::Seed;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};

/// A draw that seeds refer to, on one tile.
#[derive(Clone, Copy)]
pub enum Draw<'a, T> {
    /// Column numbers: [points, k]
    Columns(&'a [T], usize),
    /// Row 0 of the lift.
    Row0,
    /// Directions: [k, points, len], in the columns of the lift from the first number on, and len.
    Directions(&'a [T], usize, usize),
    /// Not the directions, but their products with the weight, without bias: direction k at point p is at k times the second
    /// number + p times the features.
    Products(&'a [T], usize),
}

/// Row 0 of a lift.
#[derive(Clone, Copy)]
pub enum Row0<'a, T> {
    /// [points, columns of the lift]
    Points(ArrayView2<'a, T>),
    /// Not there, but its product with the weight is: [points, out].
    Product(&'a [T]),
}

/// A lift on one tile.
pub struct Lift<'a, T> {
    /// Row 0.
    pub row0: Row0<'a, T>,
    /// How many points.
    pub n: usize,
    /// First column.
    pub first: usize,
    /// How many columns.
    pub columns: usize,
    /// Elements of the rows beyond 0.
    pub seeds: &'a [Seed],
    /// What sampled seeds refer to.
    pub draws: Vec<Draw<'a, T>>,
}

/// Where elements of a block of columns are.
#[derive(Clone, Copy)]
struct Piece {
    row: usize,
    point: usize,
    block: usize,
    /// The first of them, within the block.
    at: usize,
}

/// Sum over the fixed seeds of value times weight column, the same at every point: [rows, out].
pub fn fixed<T: Real>(rows: usize, seeds: &[Seed], weight: ArrayView2<T>) -> Vec<T> {
    let out = weight.nrows();
    let mut sums = vec![T::zero(); rows * out];
    for seed in seeds.iter().filter(|s| s.sample.is_none()) {
        let row = &mut sums[seed.row as usize * out..][..out];
        let value = T::lit(seed.value);
        row.iter_mut().zip(weight.column(seed.at as usize)).for_each(|(y, w)| *y += value * *w);
    }
    sums
}

impl<'a, T: Real> Lift<'a, T> {
    /// The column, within the lift, that a sampled seed means at a point.
    fn column(&self, columns: &[T], k: usize, point: usize, at: u32) -> usize {
        columns[point * k + at as usize].to_i64() as usize - self.first
    }

    fn direction(&self, directions: &'a [T], len: usize, at: u32) -> ArrayView2<'a, T> {
        let n = self.n;
        matrix(&directions[at as usize * n * len..][..n * len], n)
    }

    /// y = W x, without bias: [rows, points, out]. `weight` is [in, out]; `fixed` is what the function of that name gives.
    pub fn linear(&self, weight: ArrayView2<T>, fixed: &[T], y: &mut [T]) {
        let (n, out) = (self.n, weight.ncols());
        if n * out == 0 {
            return;
        }
        let (row0, rest) = y.split_at_mut(n * out);
        match self.row0 {
            Row0::Points(points) => product(T::one(), points, weight, false, matrix_mut(row0, n)),
            Row0::Product(y) => row0.copy_from_slice(y),
        }
        for (y, fixed) in rest.chunks_exact_mut(n * out).zip(fixed[out..].chunks_exact(out)) {
            y.chunks_exact_mut(out).for_each(|y| y.copy_from_slice(fixed));
        }
        for seed in self.seeds {
            let Some(sample) = seed.sample else { continue };
            let y = &mut rest[(seed.row as usize - 1) * n * out..][..n * out];
            let value = T::lit(seed.value);
            match self.draws[sample as usize] {
                Draw::Columns(columns, k) => {
                    if let Some(x) = weight.to_slice() {
                        let from = |p| self.column(columns, k, p, seed.at) * out;
                        let places: Vec<_> = (0..n).map(|p| (p * out, from(p), value)).collect();
                        T::add_rows(AddRows { places: &places, width: out, x, y });
                        continue;
                    }
                    for (p, y) in y.chunks_exact_mut(out).enumerate() {
                        let column = weight.row(self.column(columns, k, p, seed.at));
                        y.iter_mut().zip(column).for_each(|(y, w)| *y += value * *w);
                    }
                }
                Draw::Row0 => y.iter_mut().zip(&*row0).for_each(|(y, x)| *y += value * *x),
                Draw::Directions(d, first, len) => {
                    let weight = weight.slice(s![first..first + len, ..]);
                    product(value, self.direction(d, len, seed.at), weight, true, matrix_mut(y, n));
                }
                Draw::Products(products, all) => {
                    let products = &products[seed.at as usize * all..][..n * out];
                    y.iter_mut().zip(products).for_each(|(y, x)| *y += value * *x);
                }
            }
        }
    }

    /// gradient += sum over points and rows of bar x^T: [out, columns of the lift].
    pub fn weight_adjoint(&self, bar: &[T], mut gradient: ArrayViewMut2<T>) {
        let (n, out) = (self.n, gradient.nrows());
        let Row0::Points(points) = self.row0 else { return };
        if n * out == 0 {
            return;
        }
        product(T::one(), matrix(&bar[..n * out], n).t(), points, true, gradient.view_mut());
        let mut sums: Option<(u32, Vec<T>)> = None;
        for seed in self.seeds {
            let bar = matrix(&bar[seed.row as usize * n * out..][..n * out], n);
            let value = T::lit(seed.value);
            match seed.sample.map(|s| self.draws[s as usize]) {
                None => {
                    // Seeds of a row share the sum over the points.
                    if sums.as_ref().is_none_or(|s| s.0 != seed.row) {
                        sums = Some((seed.row, bar.sum_axis(Axis(0)).to_vec()));
                    }
                    let sums = sums.iter().flat_map(|s| &s.1);
                    gradient.column_mut(seed.at as usize).iter_mut().zip(sums).for_each(|(g, s)| *g += value * *s);
                }
                Some(Draw::Columns(columns, k)) => {
                    for (p, bar) in bar.rows().into_iter().enumerate() {
                        let mut column = gradient.column_mut(self.column(columns, k, p, seed.at));
                        column.iter_mut().zip(bar).for_each(|(g, b)| *g += value * *b);
                    }
                }
                Some(Draw::Row0) => product(value, bar.t(), points, true, gradient.view_mut()),
                Some(Draw::Directions(d, first, len)) => {
                    let gradient = gradient.slice_mut(s![.., first..first + len]);
                    product(value, bar.t(), self.direction(d, len, seed.at), true, gradient);
                }
                // only where the gradient is made elsewhere
                Some(Draw::Products(..)) => {}
            }
        }
    }

    /// One linear function of each block of columns, without bias: [rows, points, blocks].
    pub fn share(&self, weight: &[T], y: &mut [T]) {
        y.fill(T::zero());
        let (block, n) = (weight.len(), self.n);
        let blocks = self.columns.div_ceil(block);
        if let Row0::Product(row0) = self.row0 {
            return self.share_product(row0, weight, blocks, y);
        }
        self.each_block(block, &mut |Piece { row, point: p, block: j, at }, x| {
            let sum = x.iter().zip(&weight[at..]).fold(T::zero(), |s, (x, w)| s + *x * *w);
            y[(row * n + p) * blocks + j] += sum;
        });
    }

    /// The same from the products of what is dense.
    fn share_product(&self, row0: &[T], weight: &[T], blocks: usize, y: &mut [T]) {
        let (block, n) = (weight.len(), self.n);
        let one = n * blocks;
        y[..one].copy_from_slice(row0);
        for seed in self.seeds {
            let (y, value) = (&mut y[seed.row as usize * one..][..one], T::lit(seed.value));
            let mut all = |x: &[T]| y.iter_mut().zip(x).for_each(|(y, x)| *y += value * *x);
            match seed.sample.map(|s| self.draws[s as usize]) {
                Some(Draw::Row0) => all(row0),
                Some(Draw::Products(products, each)) => all(&products[seed.at as usize * each..][..one]),
                other => {
                    for (p, y) in y.chunks_exact_mut(blocks).enumerate() {
                        let column = match other {
                            Some(Draw::Columns(columns, k)) => self.column(columns, k, p, seed.at),
                            _ => seed.at as usize,
                        };
                        y[column / block] += value * weight[column % block];
                    }
                }
            }
        }
    }

    /// sum += over points and rows of bar times the block: [block]. `bar` is [rows, points, blocks].
    pub fn share_adjoint(&self, bar: &[T], sum: &mut [T]) {
        let n = self.n;
        let blocks = self.columns.div_ceil(sum.len());
        self.each_block(sum.len(), &mut |Piece { row, point: p, block: j, at }, x| {
            let bar = bar[(row * n + p) * blocks + j];
            sum[at..].iter_mut().zip(x).for_each(|(s, x)| *s += bar * *x);
        });
    }

    /// Calls a function with what there is of each block: elements, which are to be added up.
    fn each_block(&self, block: usize, f: &mut dyn FnMut(Piece, &[T])) {
        let Row0::Points(points) = self.row0 else { return };
        let mut scaled = Vec::new();
        let mut dense = |row: usize, p: usize, first: usize, value: T, x: &mut dyn Iterator<Item = T>| {
            scaled.clear();
            scaled.extend(x.map(|x| value * x));
            let mut done = 0;
            while done < scaled.len() {
                let column = first + done;
                let end = scaled.len().min(done + block - column % block);
                let piece = Piece { row, point: p, block: column / block, at: column % block };
                f(piece, &scaled[done..end]);
                done = end;
            }
        };
        for (p, x) in points.rows().into_iter().enumerate() {
            dense(0, p, 0, T::one(), &mut x.iter().copied());
        }
        for seed in self.seeds {
            let (row, value) = (seed.row as usize, T::lit(seed.value));
            for (p, x) in points.rows().into_iter().enumerate() {
                match seed.sample.map(|s| self.draws[s as usize]) {
                    None => dense(row, p, seed.at as usize, value, &mut std::iter::once(T::one())),
                    Some(Draw::Columns(columns, k)) => {
                        dense(row, p, self.column(columns, k, p, seed.at), value, &mut std::iter::once(T::one()));
                    }
                    Some(Draw::Row0) => dense(row, p, 0, value, &mut x.iter().copied()),
                    Some(Draw::Directions(d, first, len)) => {
                        dense(row, p, first, value, &mut self.direction(d, len, seed.at).row(p).iter().copied());
                    }
                    Some(Draw::Products(..)) => {}
                }
            }
        }
    }

    /// The jet itself: [rows, points, columns of the lift].
    pub fn fill(&self, y: &mut [T]) {
        let (n, features) = (self.n, self.columns);
        let Row0::Points(points) = self.row0 else { return };
        y.fill(T::zero());
        matrix_mut(&mut y[..n * features], n).assign(&points);
        for seed in self.seeds {
            let mut y = matrix_mut(&mut y[seed.row as usize * n * features..][..n * features], n);
            let value = T::lit(seed.value);
            match seed.sample.map(|s| self.draws[s as usize]) {
                None => y.column_mut(seed.at as usize).iter_mut().for_each(|y| *y += value),
                Some(Draw::Columns(columns, k)) => {
                    (0..n).for_each(|p| y[[p, self.column(columns, k, p, seed.at)]] += value);
                }
                Some(Draw::Row0) => y.scaled_add(value, &points),
                Some(Draw::Directions(d, first, len)) => {
                    y.slice_mut(s![.., first..first + len]).scaled_add(value, &self.direction(d, len, seed.at));
                }
                Some(Draw::Products(..)) => {}
            }
        }
    }
}

/// Columns `first..first + features` of rows that lie one behind the other.
pub fn columns<T>(rows: &[T], n: usize, first: usize, features: usize) -> ArrayView2<'_, T> {
    matrix(rows, n).slice_move(s![.., first..first + features])
}

/// A matrix of n rows.
pub fn matrix<T>(elements: &[T], n: usize) -> ArrayView2<'_, T> {
    let shape = (n, elements.len().checked_div(n).unwrap_or(0));
    // Sound: so many elements are there, row by row. (`from_shape` looks at strides as well, which takes as long as a small product.)
    unsafe { ArrayView2::from_shape_ptr(shape, elements.as_ptr()) }
}

/// The elements of a matrix column by column, copied in blocks that stay in the first cache.
pub fn transposed<T: Real>(matrix: ArrayView2<T>) -> Vec<T> {
    const SIDE: usize = 16;
    let (rows, columns) = matrix.dim();
    let Some(from) = matrix.as_slice() else { return matrix.t().iter().copied().collect() };
    let mut out = vec![T::zero(); rows * columns];
    for first in (0..columns).step_by(SIDE) {
        let width = SIDE.min(columns - first);
        for (r, row) in from.chunks_exact(columns).enumerate() {
            let to = out[first * rows + r..].iter_mut().step_by(rows);
            to.zip(&row[first..first + width]).for_each(|(y, x)| *y = *x);
        }
    }
    out
}

/// A matrix of n rows, to write to.
pub fn matrix_mut<T>(elements: &mut [T], n: usize) -> ArrayViewMut2<'_, T> {
    let shape = (n, elements.len().checked_div(n).unwrap_or(0));
    // Sound: as for `matrix`, and the elements are borrowed as long as the matrix.
    unsafe { ArrayViewMut2::from_shape_ptr(shape, elements.as_mut_ptr()) }
}

//! A layer that blocks of columns share, streamed: one linear function of each block, [points, blocks].
//!
//! Like the layers of `wide`, but the weight is one block long, so its gradient is a sum over all columns, made as a whole.

use super::PointSource;
use super::real::Real;
use super::vectors::{Context, Room, Vectors};
use crate::jet::{Seed, TensorId};
use rayon::prelude::*;
use std::ops::Range;

/// The layer.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The operation.
    pub op: usize,
    /// [1, block]
    pub weight: TensorId,
    /// Columns of the points.
    pub columns: Range<usize>,
    /// Columns of a block.
    pub block: usize,
    /// Numbers of the vectors that it is applied to.
    pub vectors: Range<usize>,
}

/// Its products with some columns: the first block, and [1 + vectors, blocks from there on, points].
pub struct Part<T> {
    first: usize,
    blocks: usize,
    products: Vec<T>,
}

impl Shared {
    /// How many blocks.
    pub fn blocks(&self) -> usize {
        self.columns.len().div_ceil(self.block)
    }

    /// The products with some columns, at 0.
    pub fn part<T: Real>(&self, columns: &Range<usize>, points: usize) -> Part<T> {
        let here = columns.start.max(self.columns.start)..columns.end.min(self.columns.end);
        if here.is_empty() {
            return Part { first: 0, blocks: 0, products: vec![] };
        }
        let first = (here.start - self.columns.start) / self.block;
        let blocks = (here.end - self.columns.start).div_ceil(self.block) - first;
        Part { first, blocks, products: vec![T::zero(); (1 + self.vectors.len()) * blocks * points] }
    }

    /// Adds a block of columns, of the points and the vectors: each [columns, points].
    pub fn add<'a, T: Real>(
        &self,
        weight: &[T],
        columns: &Range<usize>,
        inputs: impl Iterator<Item = &'a [T]>,
        points: usize,
        part: &mut Part<T>,
    ) {
        let here = columns.start.max(self.columns.start)..columns.end.min(self.columns.end);
        for (x, y) in inputs.zip(part.products.chunks_exact_mut((part.blocks * points).max(1))) {
            for column in here.clone() {
                let (block, at) = self.place(column);
                let y = &mut y[(block - part.first) * points..][..points];
                let (w, x) = (weight[at], &x[(column - columns.start) * points..][..points]);
                y.iter_mut().zip(x).for_each(|(y, x)| *y += w * *x);
            }
        }
    }

    /// All products from those of the parts: [1 + vectors, points, blocks].
    pub fn combine<'a, T: Real>(&self, parts: impl Iterator<Item = &'a Part<T>>, points: usize) -> Vec<T> {
        let blocks = self.blocks();
        let mut all = vec![T::zero(); (1 + self.vectors.len()) * points * blocks];
        for part in parts.filter(|p| p.blocks > 0) {
            for (v, products) in part.products.chunks_exact(part.blocks * points).enumerate() {
                for (j, values) in products.chunks_exact(points).enumerate() {
                    for (p, value) in values.iter().enumerate() {
                        all[(v * points + p) * blocks + part.first + j] += *value;
                    }
                }
            }
        }
        all
    }

    /// The block of a column, and its place there.
    fn place(&self, column: usize) -> (usize, usize) {
        ((column - self.columns.start) / self.block, (column - self.columns.start) % self.block)
    }
}

/// What a draw of seeds stands for.
#[derive(Clone, Debug)]
pub enum Drawn {
    /// The points.
    Points,
    /// Columns: position among the stored values, numbers per point, and where the columns start among them.
    Columns(usize, usize, usize),
    /// Vectors, from this number on.
    Vectors(usize),
}

/// The gradient of such a layer's weight.
#[derive(Clone, Debug)]
pub struct SharedGradient {
    /// The operation.
    pub op: usize,
    /// Position among the gradients of the program.
    pub position: usize,
    /// Position of the adjoint among the stored values.
    pub bar: usize,
    /// Rows of the adjoint.
    pub rows: usize,
    /// Columns of the points.
    pub columns: Range<usize>,
    /// Columns of a block.
    pub block: usize,
    /// Of the lift.
    pub seeds: Vec<Seed>,
    /// By draw of the seeds.
    pub draws: Vec<Drawn>,
}

impl SharedGradient {
    /// The mean over the points: [block].
    pub fn whole<T: Real>(&self, vectors: &Vectors, context: Context<T>, stored: &[Vec<T>]) -> Vec<T> {
        let (n, block) = (context.count, self.block);
        let blocks = self.columns.len().div_ceil(block);
        let bar = |p: usize, row: u32| &stored[self.bar][(p * self.rows + row as usize) * blocks..][..blocks];
        let mut gradient = vec![0.0; block];
        // Row by row of what is dense: the adjoint as [blocks, points].
        let mut dense: Vec<Vec<T>> = vec![vec![]; 1 + vectors.len()];
        let add = |row: u32, value: f64, to: &mut Vec<T>| {
            to.resize(blocks * n, T::zero());
            for p in 0..n {
                bar(p, row).iter().enumerate().for_each(|(j, b)| to[j * n + p] += T::lit(value) * *b);
            }
        };
        add(0, 1.0, &mut dense[0]);
        for seed in &self.seeds {
            match seed.sample.map(|s| &self.draws[s as usize]) {
                None => {
                    let (j, at) = (seed.at as usize / block, seed.at as usize % block);
                    gradient[at] += seed.value * (0..n).map(|p| bar(p, seed.row)[j].to_f64()).sum::<f64>();
                }
                Some(Drawn::Points) => add(seed.row, seed.value, &mut dense[0]),
                Some(Drawn::Vectors(first)) => add(seed.row, seed.value, &mut dense[1 + first + seed.at as usize]),
                Some(Drawn::Columns(draw, all, first)) => {
                    for p in 0..n {
                        let column = stored[*draw][p * all + first + seed.at as usize].to_i64() as usize;
                        let at = column - self.columns.start;
                        gradient[at % block] += seed.value * bar(p, seed.row)[at / block].to_f64();
                    }
                }
            }
        }
        // Pieces of whole blocks, the same for any number of threads.
        const PIECE: usize = 4096;
        let piece = block * (PIECE / block).max(1);
        let starts: Vec<usize> = self.columns.clone().step_by(piece).collect();
        let parts: Vec<Vec<f64>> = starts
            .into_par_iter()
            .map_init(Room::default, |room, first| {
                self.piece(vectors, context, &dense, first..self.columns.end.min(first + piece), room)
            })
            .collect();
        for part in parts {
            gradient.iter_mut().zip(part).for_each(|(g, x)| *g += x);
        }
        let scale = if n == 0 { 0.0 } else { 1.0 / n as f64 };
        gradient.into_iter().map(|g| T::lit(g * scale)).collect()
    }

    fn piece<T: Real>(
        &self,
        vectors: &Vectors,
        context: Context<T>,
        dense: &[Vec<T>],
        columns: Range<usize>,
        room: &mut Room<T>,
    ) -> Vec<f64> {
        const BLOCK: usize = 128;
        let (n, mut sums, mut scratch) = (context.count, vec![0.0; self.block], Vec::new());
        for first in columns.clone().step_by(BLOCK) {
            let here = first..columns.end.min(first + BLOCK);
            if dense[1..].iter().any(|d| !d.is_empty()) {
                vectors.make(context, here.clone(), room);
            }
            let source: &dyn PointSource<T> = context.source;
            let x = source.block(here.clone(), &mut scratch);
            let inputs = std::iter::once(x).chain(room.vectors.iter().map(Vec::as_slice));
            for (x, bar) in inputs.zip(dense).filter(|d| !d.1.is_empty()) {
                for column in here.clone() {
                    let at = column - self.columns.start;
                    let (x, bar) = (&x[(column - first) * n..][..n], &bar[at / self.block * n..][..n]);
                    sums[at % self.block] += dot(x, bar).to_f64();
                }
            }
        }
        sums
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
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
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

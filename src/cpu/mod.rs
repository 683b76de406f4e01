//! Runs a [`JetProgram`] on the CPU, in f32 or f64.
//!
//! Points are worked on in tiles whose values stay in the second cache. Within a tile a value is [rows, points, features], so
//! that a layer is one matrix product over rows and points together, and pointwise work runs along contiguous numbers.
//! Tiles are grouped into at most [`CHUNKS`] chunks, which rayon runs in parallel; each chunk adds up its reduced values
//! in order, and the chunks are added in order (in f64). The borders of tiles and chunks depend on nothing but the
//! program and the number of points, so the results have the same bits whatever the number of threads.
//!
//! - `schedule`: where values live;  - `table`, `activation`: activations in an algebra;  - `lift`: first layers;
//! - `factor`: factors of first layers;  - `product`, `gemm`: matrix products;  - `pointwise`: scalar code;  - `math`, `real`: functions and precisions.

mod activation;
mod factor;
mod gemm;
mod lift;
mod math;
mod pointwise;
mod product;
mod real;
mod schedule;
mod table;
#[cfg(test)]
mod tests;
mod tile;

pub use real::Real;

use crate::jet::{Invalid, JetProgram, Op, Type, ValueId};
use factor::Factored;
use pointwise::Compiled;
use rayon::prelude::*;
use schedule::{Home, Schedule};
use std::sync::Mutex;
use table::Table;
use thiserror::Error;
use tile::{Run, Workspace};

/// The most copies of the reduced values that exist at a time.
pub const CHUNKS: usize = 16;

/// A layer with more inputs is not transposed: that would cost more than it saves.
const MANY: usize = 4096;

/// A program, compiled for this CPU: slots planned, algebras prepared, scalar code flattened.
#[derive(Debug)]
pub struct Executor<T> {
    program: JetProgram,
    types: Vec<Type>,
    schedule: Schedule,
    tables: Vec<Table>,
    /// By operation: its scalar code.
    scalar: Vec<Option<Compiled>>,
    /// Workspaces of earlier calls.
    pool: Mutex<Vec<Workspace<T>>>,
}

/// What a program is run on; everything row-major.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a, T> {
    /// How many points.
    pub count: usize,
    /// [count, columns]
    pub points: &'a [T],
    /// [count, data_columns]
    pub data: &'a [T],
    /// In the order of the program's tensors.
    pub tensors: &'a [&'a [T]],
    /// For `Sample` and `Directions`.
    pub seed: u64,
    /// For `Sample` and `Directions`.
    pub step: u64,
}

/// An argument of a call has the wrong length.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: {found} where {expected} are expected")]
pub struct ShapeError {
    /// Which argument.
    pub what: String,
    /// How many numbers (or arrays) it should hold.
    pub expected: usize,
    /// How many it holds.
    pub found: usize,
}

impl<T: Real> Executor<T> {
    /// Compiles a program.
    ///
    /// # Errors
    /// Where the program breaks a rule of the representation.
    pub fn new(program: &JetProgram) -> Result<Self, Invalid> {
        let types = program.types()?;
        let scalar = program.ops.iter().map(|op| match op {
            Op::Pointwise(code) => Some(Compiled::new(code)),
            _ => None,
        });
        Ok(Executor {
            schedule: Schedule::new(program, &types),
            tables: program.algebras.iter().map(Table::new).collect(),
            scalar: scalar.collect(),
            types,
            program: program.clone(),
            pool: Mutex::default(),
        })
    }

    /// The program that this runs.
    pub fn program(&self) -> &JetProgram {
        &self.program
    }

    /// Runs the program on all points of a call.
    ///
    /// `outputs[k]` becomes output k, [count, rows * features] or the reduced value, `gradients[k]` entry k of the program's
    /// gradients; both are resized. Means over no points are 0. NaN in, NaN out.
    ///
    /// # Errors
    /// Where a length is wrong; nothing is computed then.
    pub fn run(&self, call: &Call<T>, outputs: &mut [Vec<T>], gradients: &mut [Vec<T>]) -> Result<(), ShapeError> {
        self.check(call, outputs, gradients)?;
        let points = call.count;
        for ((_, value), output) in self.program.outputs.iter().zip(outputs.iter_mut()) {
            // Every number is overwritten below.
            output.resize(self.per_point(*value).map_or(0, |n| n * points), T::zero());
        }
        let tile = self.schedule.tile(points, size_of::<T>());
        let tiles = points.div_ceil(tile);
        let chunks = tiles.min(CHUNKS);
        let bounds: Vec<usize> = (0..=chunks).map(|c| (c * tiles / chunks.max(1) * tile).min(points)).collect();
        let factors = self.factors(call);
        let run = Run { executor: self, call, tile, fixed: self.fixed(call), turned: self.turned(call), factors };
        let mut jobs: Vec<(usize, usize, Vec<&mut [T]>)> = bounds.windows(2).map(|w| (w[0], w[1], vec![])).collect();
        for ((_, value), output) in self.program.outputs.iter().zip(outputs.iter_mut()) {
            let per_point = self.per_point(*value).unwrap_or(0);
            let mut rest = output.as_mut_slice();
            for (first, end, pieces) in &mut jobs {
                let (piece, after) = rest.split_at_mut((*end - *first) * per_point);
                pieces.push(piece);
                rest = after;
            }
        }
        let done: Vec<Workspace<T>> = jobs
            .into_par_iter()
            .map(|(first, end, mut pieces)| {
                let mut workspace = self.workspace(tile);
                run.chunk(first, end, &mut pieces, &mut workspace);
                workspace
            })
            .collect();
        let reduced = self.combine(&run, &done, points);
        if let Ok(mut pool) = self.pool.lock() {
            pool.extend(done);
        }
        let results = self.program.outputs.iter().map(|o| o.1).zip(outputs.iter_mut());
        for (value, result) in results.chain(self.program.gradients.iter().map(|g| g.1).zip(gradients.iter_mut())) {
            if let Some(reduced) = &reduced[value.index()] {
                result.clone_from(reduced);
            }
        }
        Ok(())
    }

    /// Numbers per point of a value, none for a reduced one.
    fn per_point(&self, value: ValueId) -> Option<usize> {
        match &self.types[value.index()] {
            Type::PerPoint { rows, features } => Some(rows * features),
            Type::Reduced { .. } => None,
        }
    }

    fn check(&self, call: &Call<T>, outputs: &[Vec<T>], gradients: &[Vec<T>]) -> Result<(), ShapeError> {
        let program = &self.program;
        let expect = |what: &str, expected, found| match expected == found {
            true => Ok(()),
            false => Err(ShapeError { what: what.into(), expected, found }),
        };
        expect("points", call.count * program.columns, call.points.len())?;
        expect("data", call.count * program.data_columns, call.data.len())?;
        expect("tensors", program.tensors.len(), call.tensors.len())?;
        for (tensor, elements) in program.tensors.iter().zip(call.tensors) {
            expect(&tensor.name, tensor.len(), elements.len())?;
        }
        expect("outputs", program.outputs.len(), outputs.len())?;
        expect("gradients", program.gradients.len(), gradients.len())
    }

    /// By operation: what the fixed seeds of a fused lift contribute to a layer, [rows, out].
    fn fixed(&self, call: &Call<T>) -> Vec<Vec<T>> {
        let layer = |op: &Op| match op {
            Op::Linear { x, weight, .. } if self.schedule.homes[x.index()] == Home::Fused => {
                let Op::Lift { rows, seeds, .. } = &self.program.ops[x.index()] else { return vec![] };
                let out = self.program.tensors[weight.index()].shape[0];
                lift::fixed(*rows, seeds, lift::matrix(call.tensors[weight.index()], out))
            }
            _ => vec![],
        };
        self.program.ops.iter().map(layer).collect()
    }

    /// By tensor: the weights of layers, transposed to [in, out], but those of a first layer with very many columns.
    fn turned(&self, call: &Call<T>) -> Vec<Vec<T>> {
        let mut turned = vec![vec![]; self.program.tensors.len()];
        for op in &self.program.ops {
            let Op::Linear { weight, .. } = op else { continue };
            let shape = &self.program.tensors[weight.index()].shape;
            if shape[1] <= MANY && turned[weight.index()].is_empty() {
                let weight_t = lift::matrix(call.tensors[weight.index()], shape[0]).reversed_axes();
                turned[weight.index()] = weight_t.iter().copied().collect();
            }
        }
        turned
    }

    /// By operation: the factors of weights.
    fn factors(&self, call: &Call<T>) -> Vec<Option<Factored<T>>> {
        let one = |(op, home): (&Op, &Home)| match op {
            Op::Factor { weight, first, len, rank } if *home == Home::Factor => {
                let out = self.program.tensors[weight.index()].shape[0];
                let weight = lift::matrix(call.tensors[weight.index()], out);
                Some(Factored::new(weight.slice_move(ndarray::s![.., *first..first + len]), *rank))
            }
            _ => None,
        };
        self.program.ops.iter().zip(&self.schedule.homes).map(one).collect()
    }

    /// The gradient of a weight through its factor.
    fn factor_adjoint(&self, run: &Run<T>, factor: ValueId, bar: &[T]) -> Vec<T> {
        let Op::Factor { weight, first, len, .. } = &self.program.ops[factor.index()] else { return vec![] };
        let Some(factored) = &run.factors[factor.index()] else { return vec![] };
        let tensor = &self.program.tensors[weight.index()];
        let (out, mut gradient) = (tensor.shape[0], vec![T::zero(); tensor.len()]);
        let bar: Vec<f64> = bar.iter().map(|b| b.to_f64()).collect();
        let map: Vec<T> = factored.factor.pull_back(&bar, out).into_iter().map(T::lit).collect();
        let columns = ndarray::s![.., *first..first + len];
        let rows = lift::matrix(run.call.tensors[weight.index()], out).slice_move(columns);
        let into = lift::matrix_mut(&mut gradient, out).slice_move(columns);
        product::product(T::one(), lift::matrix(&map, out), rows, T::zero(), into);
        gradient
    }

    /// A workspace with slots for a tile, and sums at 0.
    fn workspace(&self, tile: usize) -> Workspace<T> {
        let used = self.pool.lock().ok().and_then(|mut pool| pool.pop());
        let mut workspace = used.unwrap_or_default();
        workspace.prepare(&self.schedule, tile);
        workspace
    }

    /// The means, by value: chunks added in order.
    fn combine(&self, run: &Run<T>, done: &[Workspace<T>], points: usize) -> Vec<Option<Vec<T>>> {
        let scale = if points == 0 { 0.0 } else { 1.0 / points as f64 };
        let mut reduced: Vec<Option<Vec<T>>> = Vec::new();
        for (op, home) in self.program.ops.iter().zip(&self.schedule.homes) {
            let value = match (home, op) {
                (Home::Late, Op::FactorAdjoint { factor, bar }) => {
                    reduced[bar.index()].as_ref().map(|bar| self.factor_adjoint(run, *factor, bar))
                }
                (Home::Sum(sum), _) => Some(
                    (0..self.schedule.sums[*sum])
                        .map(|i| T::lit(done.iter().map(|w| w.sums[*sum][i].to_f64()).sum::<f64>() * scale))
                        .collect(),
                ),
                (Home::Late, Op::Add { a, b }) => match (&reduced[a.index()], &reduced[b.index()]) {
                    (Some(a), Some(b)) => Some(a.iter().zip(b).map(|(a, b)| *a + *b).collect()),
                    _ => None,
                },
                _ => None,
            };
            reduced.push(value);
        }
        reduced
    }
}

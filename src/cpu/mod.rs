//! Runs a [`JetProgram`] on the CPU, in f32 or f64.
//!
//! Points are worked on in tiles whose values stay in the second cache. Within a tile a value is [rows, points, features], so
//! that a layer is one matrix product over rows and points together, and pointwise work runs along contiguous numbers.
//! Tiles are grouped into at most [`CHUNKS`] chunks, which rayon runs in parallel; each chunk adds up its reduced values
//! in order, and the chunks are added in order (in f64). The borders of tiles and chunks depend on nothing but the
//! program and the number of points, so the results have the same bits whatever the number of threads.
//!
//! A first layer with very many columns is streamed: see `wide`.
//!
//! - `schedule`: where values live;  - `table`, `activation`: activations in an algebra;  - `term`: along a curve;  - `lift`: first layers;
//! - `factor`: factors of first layers;  - `turned`: weights read the other way round;  - `product`, `gemm`: matrix products;
//! - `flat`, `linear`, `pointwise`, `elementwise`: scalar code;
//! - `wide`, `strips`, `vectors`, `directions`, `shared`: points and weights in blocks of columns;
//! - `math`, `real`: functions and precisions.

mod activation;
mod directions;
mod elementwise;
mod factor;
mod flat;
mod gemm;
mod lift;
mod linear;
mod math;
mod pointwise;
mod product;
mod real;
mod schedule;
mod shared;
mod strips;
mod table;
mod term;
#[cfg(test)]
pub(crate) mod tests;
mod tile;
mod turned;
mod vectors;
mod wide;
#[cfg(test)]
mod wide_tests;

#[cfg(feature = "cli")]
pub(crate) use product::product;
pub use real::Real;
pub use wide::Streamed;

use crate::jet::powers::Powers;
use crate::jet::{Invalid, JetProgram, Op, TensorId, Type, ValueId};
use crate::net::{Element, WIDE, is_turned};
use crate::pool;
use factor::Factored;
use flat::Compiled;
use product::SumParts;
use rayon::prelude::*;
use schedule::{Home, Schedule};
use std::mem::take;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use thiserror::Error;
use tile::{Run, Workspace};
use turned::Turned;
use wide::Wide;

/// The most copies of the reduced values that exist at a time.
pub const CHUNKS: usize = 16;

/// The fewest tiles of a call that several threads work on.
const SHARES: usize = 8;

/// Numbers that are added up by the thread that needs the sums, at most.
const FEW: usize = 1 << 17;

/// Numbers that a streamed call keeps for its backward phase, at most: a call of more points is not streamed.
const KEPT: usize = 1 << 26;

/// The precisions in which programs run.
pub trait Number: Real + Element {}
impl Number for f32 {}
impl Number for f64 {}

/// A program, compiled for this CPU: slots planned, algebras prepared, scalar code flattened.
#[derive(Debug)]
pub struct Executor<T> {
    program: JetProgram,
    types: Vec<Type>,
    schedule: Schedule,
    tables: Vec<Powers>,
    /// By operation: its scalar code.
    scalar: Vec<Option<Compiled>>,
    /// By operation: its result is the gradient of a weight that lies as [in, out], and lies so too.
    turned: Vec<bool>,
    /// Weights that operations read the other way round than they lie.
    across: Vec<TensorId>,
    /// Weights of first layers with more inputs than this lie as [in, out].
    wide_from: usize,
    /// How first layers with very many columns are run.
    wide: Option<Wide>,
    /// The same program not streamed, for calls of very many points.
    tall: Option<Box<Executor<T>>>,
    /// A call is worked on by the thread that makes it.
    alone: bool,
    /// Workspaces of earlier chunks, with the thread that each was used by: its values are in that thread's cache.
    pool: Mutex<Vec<(Option<usize>, Workspace<T>)>>,
    /// Sums of earlier chunks.
    sums: Mutex<Vec<Vec<Vec<T>>>>,
    /// Of the last call, where each is worked on by the thread that makes it.
    turned_before: Mutex<Option<Arc<Turned<T>>>>,
}

/// One array each of several things.
type Arrays<T> = Vec<Vec<T>>;

/// What a chunk is to do.
#[derive(Default)]
struct Job<'a, T> {
    points: Range<usize>,
    /// By output: its part.
    pieces: Vec<&'a mut [T]>,
    /// By output: all of it, where it is worked out in place; there is one chunk then.
    whole: Arrays<T>,
}

/// Points that are made where they are needed, the same however often and in whatever blocks.
pub trait PointSource<T>: Sync {
    /// Some columns of all points of a call: [columns, points]; in `scratch`, or where they lie already.
    fn block<'a>(&'a self, columns: Range<usize>, scratch: &'a mut Vec<T>) -> &'a [T];
    /// Some columns of some points: [columns, points].
    fn part(&self, points: Range<usize>, columns: Range<usize>, out: &mut Vec<T>);
    /// One number.
    fn at(&self, point: usize, column: usize) -> T;
}

/// The points of a call.
#[derive(Clone, Copy)]
pub enum Points<'a, T> {
    /// Row by row: [count, columns].
    Rows(&'a [T]),
    /// `count` points with as many columns as the program wants.
    Made(&'a dyn PointSource<T>),
}

/// What a program is run on; everything row-major.
#[derive(Clone, Copy)]
pub struct Call<'a, T> {
    /// How many points.
    pub count: usize,
    /// [count, columns]
    pub points: Points<'a, T>,
    /// [count, data_columns]
    pub data: &'a [T],
    /// In the order of the program's tensors. The weight of a first layer with more inputs than [`WIDE`] is given as [in, out],
    /// and so is its gradient. The empty weight of a layer stands for zeros.
    pub tensors: &'a [&'a [T]],
    /// For `Sample` and `Directions`.
    pub random: Random,
    /// What else there is, where there is something.
    pub beside: Beside<'a, T>,
}

/// What a call has beside points and data.
#[derive(Clone, Copy, Default)]
pub struct Beside<'a, T> {
    /// What another program has worked out for the points: [count, rows, features] each.
    pub given: &'a [&'a [T]],
    /// Numbers of the points among those that are drawn for, from `random.first`; none where they are 0, 1, ..
    pub numbers: &'a [usize],
}

/// Which of the generator's numbers are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Random {
    /// Seed.
    pub seed: u64,
    /// Step.
    pub step: u64,
    /// Number of the first point, where these points are some of many.
    pub first: usize,
}

impl From<(u64, u64)> for Random {
    fn from((seed, step): (u64, u64)) -> Self {
        Random { seed, step, first: 0 }
    }
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
        Self::with_wide(program, WIDE)
    }

    /// The same, where another number of inputs than [`WIDE`] is many.
    ///
    /// # Errors
    /// Where the program breaks a rule of the representation.
    pub fn with_wide(program: &JetProgram, wide_from: usize) -> Result<Self, Invalid> {
        let mut executor = Self::build(program, wide_from, true)?;
        if executor.wide.is_some() {
            executor.tall = Some(Box::new(Self::build(program, wide_from, false)?));
        }
        Ok(executor)
    }

    fn build(program: &JetProgram, wide_from: usize, streamed: bool) -> Result<Self, Invalid> {
        let types = program.types()?;
        let is_turned = |t: TensorId| {
            let tensor = &program.tensors[t.index()];
            is_turned(&tensor.name, &tensor.shape, wide_from)
        };
        let (wide, hoisted) = Wide::new(program, &types, &is_turned, wide_from).filter(|_| streamed).unzip();
        let scalar = program.ops.iter().enumerate().map(|(k, op)| match (op, &hoisted) {
            (Op::Pointwise(_), Some(hoisted)) => hoisted[k].as_ref().map(Compiled::new),
            (Op::Pointwise(code), None) => Some(Compiled::new(code)),
            _ => None,
        });
        let scalar = scalar.collect();
        let mut turned = vec![false; program.ops.len()];
        program.gradients.iter().for_each(|(t, v)| turned[v.index()] = is_turned(*t));
        for (k, op) in program.ops.iter().enumerate().rev() {
            if let (Op::Add { a, b }, true) = (op, turned[k]) {
                [a, b].into_iter().for_each(|v| turned[v.index()] = true);
            }
        }
        let streamed = |k: usize| wide.as_ref().is_some_and(|w: &Wide| w.is_streamed(program, k));
        Ok(Executor {
            schedule: Schedule::new(program, &types, &streamed, false),
            tables: program.algebras.iter().map(Powers::new).collect(),
            scalar,
            types,
            turned,
            across: turned::across(program, &is_turned),
            wide_from,
            wide,
            tall: None,
            alone: false,
            program: program.clone(),
            pool: Mutex::default(),
            sums: Mutex::default(),
            turned_before: Mutex::default(),
        })
    }

    /// The same, for many calls at a time: each is worked on by the thread that makes it, where it is not streamed.
    pub fn alone(self) -> Self {
        let tall = self.tall.map(|tall| Box::new(tall.alone()));
        let streamed = |k: usize| self.wide.as_ref().is_some_and(|w| w.is_streamed(&self.program, k));
        let schedule = Schedule::new(&self.program, &self.types, &streamed, self.wide.is_none());
        Executor { alone: true, tall, schedule, ..self }
    }

    /// The program that this runs.
    pub fn program(&self) -> &JetProgram {
        &self.program
    }

    /// Whether a call of so many points is streamed: they are best given as [`Points::Made`] then, and never stored.
    pub fn is_streamed(&self, count: usize) -> bool {
        let Some(wide) = &self.wide else { return false };
        let stored: usize = wide.stored.iter().filter_map(|v| self.per_point(*v)).sum();
        count.saturating_mul(stored + wide.kept()) <= KEPT
    }

    /// Positions of the gradients that a call of so many points makes in pieces.
    pub fn streamed(&self, count: usize) -> Vec<usize> {
        self.wide.iter().filter(|_| self.is_streamed(count)).flat_map(Wide::streamed).collect()
    }

    /// Runs the program on all points of a call.
    ///
    /// `outputs[k]` becomes output k, [count, rows * features] or the reduced value, `gradients[k]` entry k of the program's
    /// gradients, empty where the result makes it in pieces; all are resized. Means over no points are 0. NaN in, NaN out.
    ///
    /// # Errors
    /// Where a length is wrong; nothing is computed then.
    pub fn run(
        &self,
        call: &Call<T>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<Streamed<T>, ShapeError> {
        let is_streamed = self.is_streamed(call.count) && call.beside.numbers.is_empty();
        if let Some(tall) = self.tall.as_ref().filter(|_| !is_streamed) {
            return tall.run(call, outputs, gradients);
        }
        self.check(call, outputs, gradients)?;
        let values: Vec<ValueId> = self.program.outputs.iter().map(|o| o.1).collect();
        let Some(wide) = &self.wide else {
            let mut rows = Vec::new();
            let points = match call.points {
                Points::Rows(points) => points,
                Points::Made(source) => {
                    collect(source, call.count, self.program.columns, &mut rows);
                    &rows
                }
            };
            self.tiles(call, (points, None), &values, outputs, gradients);
            return Ok(Streamed::default());
        };
        let rows;
        let source: &dyn PointSource<T> = match call.points {
            Points::Made(source) => source,
            Points::Rows(points) => {
                rows = Rows { points, columns: self.program.columns };
                &rows
            }
        };
        let made = wide.forward(&self.program, call, source);
        let mut results: Vec<Vec<T>> = outputs.iter_mut().map(std::mem::take).collect();
        results.resize_with(results.len() + wide.stored.len(), Vec::new);
        let values = [values, wide.stored.clone()].concat();
        let maps = self.tiles(call, (&[], Some(made)), &values, &mut results, gradients);
        let stored = results.split_off(outputs.len());
        outputs.iter_mut().zip(results).for_each(|(to, from)| *to = from);
        wide.streamed().for_each(|k| gradients[k].clear());
        wide.shared(call, source, &stored).into_iter().for_each(|(k, gradient)| gradients[k] = gradient);
        Ok(wide.streamed_parts(call, stored, &maps))
    }

    /// The same, with all gradients whole.
    ///
    /// # Errors
    /// Where a length is wrong; nothing is computed then.
    pub fn run_whole(
        &self,
        call: &Call<T>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), ShapeError> {
        let streamed = self.run(call, outputs, gradients)?;
        let rows;
        let source: &dyn PointSource<T> = match call.points {
            Points::Made(source) => source,
            Points::Rows(points) => {
                rows = Rows { points, columns: self.program.columns };
                &rows
            }
        };
        for ((t, _), (k, gradient)) in self.program.gradients.iter().zip(gradients.iter_mut().enumerate()) {
            let tensor = &self.program.tensors[t.index()];
            if gradient.is_empty() && !tensor.is_empty() {
                gradient.resize(tensor.len(), T::zero());
                let weight = call.tensors[t.index()];
                streamed.rows(k, 0..tensor.shape[1], source, weight, gradient);
            }
        }
        Ok(())
    }

    /// Runs all tiles, from the points or from what was made of them; the first of `outputs` are the program's. Gives, by
    /// operation if it is streamed, what the weight is multiplied with in a factor's adjoint that is streamed.
    fn tiles(
        &self,
        call: &Call<T>,
        (points, made): (&[T], Option<wide::Made<T>>),
        values: &[ValueId],
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Vec<Vec<T>> {
        let count = call.count;
        for (value, output) in values.iter().zip(outputs.iter_mut()) {
            // Every number is overwritten below.
            output.resize(self.per_point(*value).map_or(0, |n| n * count), T::zero());
        }
        let tile = self.schedule.tile(count, size_of::<T>(), if self.alone { 1 } else { SHARES });
        let tiles = count.div_ceil(tile);
        let chunks = if self.alone { tiles.min(1) } else { tiles.min(CHUNKS) };
        let bound = |c: usize| match tiles == chunks {
            // each a tile: of one size, so that no thread waits for the last point of another
            true => c * count / chunks.max(1),
            false => (c * tiles / chunks * tile).min(count),
        };
        let bounds: Vec<usize> = (0..=chunks).map(bound).collect();
        let (fixed, turned, factors) = (self.fixed(call), self.turned(call), self.factors(call));
        let turned = &turned.weights;
        let is_copied = |k: &usize| self.per_point(values[*k]).is_some() && !self.is_in_place(values[*k], *k);
        let mut order: Vec<usize> = (0..values.len()).filter(is_copied).collect();
        order.sort_by_key(|k| values[*k]);
        let run = Run { executor: self, call, tile, fixed, turned, points, made, results: values, order, factors };
        let mut jobs: Vec<Job<T>> = bounds.windows(2).map(|w| Job { points: w[0]..w[1], ..Job::default() }).collect();
        for (k, (value, output)) in values.iter().zip(outputs.iter_mut()).enumerate() {
            if let (true, Some(job)) = (self.is_in_place(*value, k), jobs.first_mut()) {
                job.whole.resize_with(values.len(), Vec::new);
                job.whole[k] = take(output);
                job.pieces.push(&mut []);
                continue;
            }
            let per_point = self.per_point(*value).unwrap_or(0);
            let mut rest = output.as_mut_slice();
            for Job { points: Range { start: first, end }, pieces, .. } in &mut jobs {
                let (piece, after) = rest.split_at_mut((*end - *first) * per_point);
                pieces.push(piece);
                rest = after;
            }
        }
        let work = |Job { points, mut pieces, whole }: Job<T>| {
            let mut workspace = self.workspace(tile);
            workspace.outputs = whole;
            run.chunk(points, &mut pieces, &mut workspace);
            let (sums, whole) = (take(&mut workspace.sums), take(&mut workspace.outputs));
            if let Ok(mut pool) = self.pool.lock() {
                pool.push((rayon::current_thread_index(), workspace));
            }
            (sums, whole)
        };
        let done: Vec<(Arrays<T>, Arrays<T>)> = match self.alone {
            true => jobs.into_iter().map(work).collect(),
            false => pool::each(jobs, work),
        };
        let (done, whole): (Vec<Arrays<T>>, Vec<Arrays<T>>) = done.into_iter().unzip();
        for (k, output) in whole.into_iter().flatten().enumerate().filter(|(k, _)| self.is_in_place(values[*k], *k)) {
            outputs[k] = output;
        }
        let reduced = self.combine(&run, &done, count);
        if let Ok(mut sums) = self.sums.lock() {
            sums.extend(done);
        }
        let results = self.program.outputs.iter().map(|o| o.1).zip(outputs.iter_mut());
        for (value, result) in results.chain(self.program.gradients.iter().map(|g| g.1).zip(gradients.iter_mut())) {
            if let Some(reduced) = &reduced[value.index()] {
                result.clone_from(reduced);
            }
        }
        let map = |(op, home): (&Op, &Home)| match (op, home) {
            (Op::FactorAdjoint { factor, bar }, Home::Streamed) => {
                let (factored, bar) = (run.factors[factor.index()].as_ref(), reduced[bar.index()].as_ref());
                let out = |bar: &Vec<T>| bar.len() / factored.map_or(1, |f| f.factor.rank.max(1));
                factored.zip(bar).map_or(vec![], |(f, bar)| f.pull_back(bar, out(bar)))
            }
            _ => vec![],
        };
        match self.wide {
            Some(_) => self.program.ops.iter().zip(&self.schedule.homes).map(map).collect(),
            None => vec![],
        }
    }

    /// Whether a value is worked out where the output of this number will lie.
    fn is_in_place(&self, value: ValueId, output: usize) -> bool {
        self.schedule.homes[value.index()] == Home::Output(output)
    }

    /// A weight as [out, in].
    fn weight<'a>(&self, tensor: TensorId, call: &Call<'a, T>) -> ndarray::ArrayView2<'a, T> {
        let (elements, shape) = (call.tensors[tensor.index()], &self.program.tensors[tensor.index()].shape);
        match self.is_turned(tensor) {
            true => lift::matrix(elements, shape[1]).reversed_axes(),
            false => lift::matrix(elements, shape[0]),
        }
    }

    /// Whether a weight lies as [in, out].
    fn is_turned(&self, tensor: TensorId) -> bool {
        let tensor = &self.program.tensors[tensor.index()];
        is_turned(&tensor.name, &tensor.shape, self.wide_from)
    }

    /// Numbers per point of a value, none for a reduced one.
    fn per_point(&self, value: ValueId) -> Option<usize> {
        match &self.types[value.index()] {
            Type::PerPoint { rows, features } => Some(rows * features),
            Type::Reduced { .. } => None,
        }
    }

    /// An error where an argument of a call has the wrong size.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self, call: &Call<T>, outputs: &[Vec<T>], gradients: &[Vec<T>]) -> Result<(), ShapeError> {
        let program = &self.program;
        let expect = |what: &str, expected, found| match expected == found {
            true => Ok(()),
            false => Err(ShapeError { what: what.into(), expected, found }),
        };
        if let Points::Rows(points) = call.points {
            expect("points", call.count * program.columns, points.len())?;
        }
        expect("data", call.count * program.data_columns, call.data.len())?;
        let given = program.ops.iter().filter_map(|op| match op {
            Op::Given { rows, features, .. } => Some(rows * features),
            _ => None,
        });
        expect("given", given.clone().count(), call.beside.given.len())?;
        given.zip(call.beside.given).try_for_each(|(n, given)| expect("given", call.count * n, given.len()))?;
        expect("tensors", program.tensors.len(), call.tensors.len())?;
        for (tensor, elements) in program.tensors.iter().zip(call.tensors) {
            let is_layer =
                |op: &Op| matches!(op, Op::Linear { weight, .. } if program.tensors[weight.index()] == *tensor);
            let is_zero = elements.is_empty() && program.ops.iter().any(is_layer);
            expect(&tensor.name, if is_zero { 0 } else { tensor.len() }, elements.len())?;
        }
        expect("outputs", program.outputs.len(), outputs.len())?;
        expect("gradients", program.gradients.len(), gradients.len())
    }

    /// By operation, if a lift is fused: what its fixed seeds contribute to a layer, [rows, out].
    fn fixed(&self, call: &Call<T>) -> Vec<Vec<T>> {
        let layer = |op: &Op| match op {
            Op::Linear { x, weight, .. } if self.schedule.homes[x.index()] == Home::Fused => {
                let Op::Lift { rows, seeds, .. } = &self.program.ops[x.index()] else { return vec![] };
                if call.tensors[weight.index()].is_empty() {
                    return vec![];
                }
                lift::fixed(*rows, seeds, self.weight(*weight, call))
            }
            _ => vec![],
        };
        match self.schedule.homes.contains(&Home::Fused) {
            true => self.program.ops.iter().map(layer).collect(),
            false => vec![],
        }
    }

    /// By operation, if there is one: the factors of weights.
    fn factors(&self, call: &Call<T>) -> Vec<Option<Factored<T>>> {
        let one = |(op, home): (&Op, &Home)| match op {
            Op::Factor { weight, first, len, rank } if *home == Home::Factor => {
                // A weight that is not given is zero.
                let columns = ndarray::s![.., *first..first + len];
                let is_given = !call.tensors[weight.index()].is_empty();
                is_given.then(|| Factored::new(self.weight(*weight, call).slice_move(columns), *rank))
            }
            _ => None,
        };
        match self.schedule.homes.contains(&Home::Factor) {
            true => self.program.ops.iter().zip(&self.schedule.homes).map(one).collect(),
            false => vec![],
        }
    }

    /// The gradient of a weight through its factor.
    fn factor_adjoint(&self, run: &Run<T>, factor: ValueId, bar: &[T]) -> Vec<T> {
        let Op::Factor { weight, first, len, .. } = &self.program.ops[factor.index()] else { return vec![] };
        let Some(factored) = &run.factors[factor.index()] else { return vec![] };
        let tensor = &self.program.tensors[weight.index()];
        let (out, mut gradient) = (tensor.shape[0], vec![T::zero(); tensor.len()]);
        let map = factored.pull_back(bar, out);
        let columns = ndarray::s![.., *first..first + len];
        let rows = self.weight(*weight, run.call).slice_move(columns);
        let into = match self.is_turned(*weight) {
            true => lift::matrix_mut(&mut gradient, tensor.shape[1]).reversed_axes(),
            false => lift::matrix_mut(&mut gradient, out),
        };
        product::product(T::one(), lift::matrix(&map, out), rows, false, into.slice_move(columns));
        gradient
    }

    /// A workspace with slots for a tile, and sums at 0.
    fn workspace(&self, tile: usize) -> Workspace<T> {
        let used = self.pool.lock().ok().and_then(|mut pool| {
            let own = pool.iter().rposition(|w| w.0 == rayon::current_thread_index());
            own.map(|k| pool.swap_remove(k)).or_else(|| pool.pop())
        });
        let mut workspace = used.unwrap_or_default().1;
        workspace.sums = self.sums.lock().ok().and_then(|mut sums| sums.pop()).unwrap_or_default();
        workspace.prepare(&self.schedule, tile);
        workspace
    }

    /// The means, by value: chunks added in order.
    fn combine(&self, run: &Run<T>, done: &[Vec<Vec<T>>], points: usize) -> Vec<Option<Vec<T>>> {
        let scale = if points == 0 { 0.0 } else { 1.0 / points as f64 };
        let mut means: Vec<Vec<T>> = self.schedule.sums.iter().map(|n| vec![T::zero(); *n]).collect();
        // pieces of all sums in one parallel loop
        const PIECE: usize = 2048;
        let mut pieces = Vec::new();
        for (sum, mean) in means.iter_mut().enumerate() {
            pieces.extend(mean.chunks_mut(PIECE).enumerate().map(|(k, mean)| (sum, k, mean)));
        }
        let work = |(sum, k, mean): (usize, usize, &mut [T])| {
            let parts: Vec<&[T]> = done.iter().map(|sums| &sums[sum][k * PIECE..][..mean.len()]).collect();
            T::sum_parts(SumParts { scale, parts: &parts, y: mean });
        };
        // to share a few takes longer than to add them
        let is_small = done.len() * self.schedule.sums.iter().sum::<usize>() <= FEW;
        match self.alone || is_small {
            true => pieces.into_iter().for_each(work),
            false => pieces.into_par_iter().for_each(work),
        }
        let mut reduced: Vec<Option<Vec<T>>> = Vec::new();
        for (op, home) in self.program.ops.iter().zip(&self.schedule.homes) {
            let value = match (home, op) {
                (Home::Late, Op::FactorAdjoint { factor, bar }) => {
                    reduced[bar.index()].as_ref().map(|bar| self.factor_adjoint(run, *factor, bar))
                }
                (Home::Sum(sum), _) => Some(take(&mut means[*sum])),
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

/// Points that lie row by row.
struct Rows<'a, T> {
    points: &'a [T],
    columns: usize,
}

impl<T: Real> PointSource<T> for Rows<'_, T> {
    fn block<'a>(&'a self, columns: Range<usize>, scratch: &'a mut Vec<T>) -> &'a [T] {
        scratch.clear();
        for column in columns {
            scratch.extend(self.points.iter().skip(column).step_by(self.columns));
        }
        scratch
    }

    fn part(&self, points: Range<usize>, columns: Range<usize>, out: &mut Vec<T>) {
        out.clear();
        for column in columns {
            out.extend(points.clone().map(|p| self.points[p * self.columns + column]));
        }
    }

    fn at(&self, point: usize, column: usize) -> T {
        self.points[point * self.columns + column]
    }
}

/// All points of a source, row by row.
fn collect<T: Real>(source: &dyn PointSource<T>, count: usize, columns: usize, rows: &mut Vec<T>) {
    rows.resize(count * columns, T::zero());
    let mut scratch = Vec::new();
    for first in (0..columns).step_by(64) {
        let block = source.block(first..columns.min(first + 64), &mut scratch);
        for (c, column) in block.chunks_exact(count.max(1)).enumerate() {
            rows.iter_mut().skip(first + c).step_by(columns).zip(column).for_each(|(x, y)| *x = *y);
        }
    }
}

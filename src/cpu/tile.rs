//! One chunk of points, tile by tile, operation by operation.

use super::activation::Lane;
use super::factor::{Factored, inject_adjoint};
use super::lift::{self, Draw, Lift, Row0, matrix, matrix_mut};
use super::pointwise::{Input, Registers, Scalar};
use super::product::{AddColumns, AddPair, AddToEach, affine, product};
use super::real::Real;
use super::schedule::{Home, Schedule};
use super::table::{Apply, Lanes, Shape, Task};
use super::term::{Along, MOST};
use super::wide::Made;
use super::{Call, Executor};
use crate::jet::random::Words;
use crate::jet::{self, Op, Source, TensorId, Type, ValueId};
use smallvec::SmallVec;
use std::mem::take;
use std::ops::Range;

/// Values that an operation reads without memory being asked for.
const FEW: usize = 8;

/// What one chunk works with.
#[derive(Debug, Default)]
pub struct Workspace<T> {
    slots: Vec<Vec<T>>,
    /// Reduced values: sums over the points of the chunk.
    pub sums: Vec<Vec<T>>,
    /// By output: all of it, where it is worked out in place.
    pub outputs: Vec<Vec<T>>,
    lanes: Lanes<T>,
    terms: Vec<Lane<T>>,
    registers: Registers<T>,
    columns: Vec<usize>,
}

impl<T: Real> Workspace<T> {
    /// Slots for tiles of this many points, at least; sums at 0.
    pub fn prepare(&mut self, schedule: &Schedule, tile: usize) {
        self.slots.resize_with(schedule.slots.len(), Vec::new);
        for (slot, size) in self.slots.iter_mut().zip(&schedule.slots) {
            // never shrunk: small tiles follow large ones, and the other way round
            slot.resize(slot.len().max(size * tile), T::zero());
        }
        self.sums.resize_with(schedule.sums.len(), Vec::new);
        for (sum, size) in self.sums.iter_mut().zip(&schedule.sums) {
            sum.clear();
            sum.resize(*size, T::zero());
        }
    }
}

/// A call under way.
pub struct Run<'a, T> {
    /// The program.
    pub executor: &'a Executor<T>,
    /// Its arguments.
    pub call: &'a Call<'a, T>,
    /// Points of a tile.
    pub tile: usize,
    /// By operation: see [`lift::fixed`].
    pub fixed: Vec<Vec<T>>,
    /// By tensor: weights as [in, out], or empty where they lie so already.
    pub turned: &'a [Vec<T>],
    /// All points, row by row: [count, columns]; empty where they are made.
    pub points: &'a [T],
    /// What is made block by block, in place of the points.
    pub made: Option<Made<'a, T>>,
    /// Values that the caller gets, one number or more per point.
    pub results: &'a [ValueId],
    /// Which of them there are for each point, by value.
    pub order: Vec<usize>,
    /// By operation: factors of weights.
    pub factors: Vec<Option<Factored<T>>>,
}

/// Points `first..first + n`.
#[derive(Clone, Copy)]
struct Tile {
    first: usize,
    n: usize,
}

impl<T: Real> Run<'_, T> {
    /// Some points; `outputs` are their pieces of the outputs.
    pub fn chunk(
        &self,
        Range { start: first, end }: Range<usize>,
        outputs: &mut [&mut [T]],
        workspace: &mut Workspace<T>,
    ) {
        for start in (first..end).step_by(self.tile) {
            let tile = Tile { first: start, n: self.tile.min(end - start) };
            let mut results = self.order.iter().peekable();
            for k in 0..self.executor.program.ops.len() {
                self.op(k, tile, workspace);
                while let Some(result) = results.next_if(|r| self.results[**r].index() == k) {
                    let (value, output) = (self.results[*result], &mut outputs[*result]);
                    let (rows, features) = self.shape(value);
                    let output = &mut output[(start - first) * rows * features..][..tile.n * rows * features];
                    scatter(self.value(value, tile, workspace), rows, tile.n, features, output);
                }
            }
        }
    }

    /// Rows and features of a value.
    fn shape(&self, value: ValueId) -> (usize, usize) {
        match self.executor.types[value.index()] {
            Type::PerPoint { rows, features } => (rows, features),
            Type::Reduced { .. } => (0, 0),
        }
    }

    /// A value on a tile: [rows, points, features].
    fn value<'a>(&'a self, value: ValueId, tile: Tile, workspace: &'a Workspace<T>) -> &'a [T] {
        let (rows, features) = self.shape(value);
        match self.executor.schedule.homes[value.index()] {
            Home::Points => &self.points[tile.first * features..][..tile.n * features],
            Home::Data => &self.call.data[tile.first * features..][..tile.n * features],
            Home::Given(number) => &self.call.beside.given[number][tile.first * features..][..tile.n * features],
            Home::Slot(slot) => &workspace.slots[slot][..rows * tile.n * features],
            Home::Output(output) => &workspace.outputs[output][tile.first * features..][..tile.n * features],
            _ => &[],
        }
    }

    /// A weight as [out, in].
    fn weight(&self, tensor: TensorId) -> ndarray::ArrayView2<'_, T> {
        self.executor.weight(tensor, self.call)
    }

    /// A weight as [in, out], with contiguous rows: it has been transposed where it lies the other way round.
    fn turned(&self, tensor: TensorId) -> ndarray::ArrayView2<'_, T> {
        match self.turned[tensor.index()].as_slice() {
            turned if !turned.is_empty() && !self.executor.is_turned(tensor) => {
                matrix(turned, self.executor.program.tensors[tensor.index()].shape[1])
            }
            _ => self.weight(tensor).reversed_axes(),
        }
    }

    /// A weight as [out, in], with contiguous rows but for a large first layer's.
    fn upright(&self, tensor: TensorId) -> ndarray::ArrayView2<'_, T> {
        match self.turned[tensor.index()].as_slice() {
            turned if !turned.is_empty() && self.executor.is_turned(tensor) => {
                matrix(turned, self.executor.program.tensors[tensor.index()].shape[0])
            }
            _ => self.weight(tensor),
        }
    }

    fn op(&self, k: usize, tile: Tile, workspace: &mut Workspace<T>) {
        match self.executor.schedule.homes[k] {
            Home::Slot(slot) => {
                // Taken out, so that the operation can read the other slots while it writes this one.
                let mut buffer = take(&mut workspace.slots[slot]);
                let (rows, features) = self.shape(ValueId(k as u32));
                self.per_point(k, tile, workspace, &mut buffer[..rows * tile.n * features]);
                workspace.slots[slot] = buffer;
            }
            Home::Output(output) => {
                let mut buffer = take(&mut workspace.outputs[output]);
                let features = self.shape(ValueId(k as u32)).1;
                let here = tile.first * features..(tile.first + tile.n) * features;
                self.per_point(k, tile, workspace, &mut buffer[here]);
                workspace.outputs[output] = buffer;
            }
            Home::Sum(sum) | Home::Part(sum) => {
                let mut buffer = take(&mut workspace.sums[sum]);
                self.accumulate(k, tile, workspace, &mut buffer);
                workspace.sums[sum] = buffer;
            }
            _ => {}
        }
    }

    /// An operation with a value per point, into y: [rows, points, features].
    fn per_point(&self, k: usize, tile: Tile, workspace: &mut Workspace<T>, y: &mut [T]) {
        let n = tile.n;
        match &self.executor.program.ops[k] {
            Op::Sample { stream, first, len, k, shared } => {
                workspace.columns.resize(*k, 0);
                for p in 0..n {
                    if p == 0 || !shared {
                        let point = if *shared { 0 } else { self.number(tile, p) };
                        self.words(*stream, point).sample(*first, *len, &mut workspace.columns);
                    }
                    let y = &mut y[p * k..][..*k];
                    y.iter_mut().zip(&workspace.columns).for_each(|(y, c)| *y = T::lit(*c as f64));
                }
            }
            Op::SampleWeighted { stream, weights, k, first } => {
                let (rows, m) = self.shape(*weights);
                let elements = self.value(*weights, tile, workspace);
                let mut table = vec![0.0; rows * m];
                for p in 0..n {
                    for (r, row) in table.chunks_exact_mut(m).enumerate() {
                        let from = &elements[(r * n + p) * m..][..m];
                        row.iter_mut().zip(from).for_each(|(t, w)| *t = w.to_f64());
                    }
                    let put = |s: usize, e: usize, factor: f64| {
                        let draw = [(first[0] + e / m) as f64, (first[1] + e % m) as f64, factor];
                        draw.into_iter().enumerate().for_each(|(row, v)| y[(row * n + p) * k + s] = T::lit(v));
                    };
                    self.words(*stream, self.number(tile, p)).weighted(*k, &table, put);
                }
            }
            Op::Given { number, rows, features } => {
                let from = &self.call.beside.given[*number][tile.first * rows * features..][..n * rows * features];
                gather(from, *rows, n, *features, y);
            }
            Op::Directions { stream, len, k, gaussian } => {
                for p in 0..n {
                    let put = |e: usize, v: f64| y[(e / len * n + p) * len + e % len] = T::lit(v);
                    self.words(*stream, self.number(tile, p)).directions(*gaussian, put, k * len);
                }
            }
            Op::Pointwise(_) => {
                let Some(code) = &self.executor.scalar[k] else { return };
                let mut registers = take(&mut workspace.registers);
                let mut inputs: SmallVec<[Input<T>; FEW]> = SmallVec::new();
                inputs.extend(code.inputs.iter().map(|source| match *source {
                    Source::Value(v) => {
                        let (rows, features) = self.shape(v);
                        if let (Home::Points, Some(made)) = (self.executor.schedule.homes[v.index()], &self.made) {
                            return Input::Points(made.source, tile.first, features);
                        }
                        Input::Value { elements: self.value(v, tile, workspace), rows, features }
                    }
                    Source::Tensor(t) => Input::Tensor(self.call.tensors[t.index()]),
                }));
                if let Some(made) = &self.made {
                    let elements = &made.sums[tile.first * made.width..][..n * made.width];
                    inputs.push(Input::Value { elements, rows: 1, features: made.width });
                }
                T::scalar(Scalar { code, inputs: &inputs, points: n, registers: &mut registers, y });
                drop(inputs);
                workspace.registers = registers;
            }
            Op::Lift { .. } => {
                if let Some(lift) = self.lift(ValueId(k as u32), tile, workspace, None) {
                    lift.fill(y);
                }
            }
            Op::Share { x, weight, bias } => {
                let blocks = self.shape(ValueId(k as u32)).1;
                if let Some(lift) = self.lift(*x, tile, workspace, Some((k, blocks))) {
                    lift.share(self.call.tensors[weight.index()], y);
                }
                let bias = self.call.tensors[bias.index()][0];
                let row0 = n * self.shape(ValueId(k as u32)).1;
                y[..row0].iter_mut().for_each(|y| *y += bias);
            }
            Op::Linear { weight, bias, .. } if self.call.tensors[weight.index()].is_empty() => {
                // A weight that is not given is zero.
                let (bias, rows) = (self.call.tensors[bias.index()], self.shape(ValueId(k as u32)).0);
                y.fill(T::zero());
                let row0 = y.len() / rows.max(1);
                T::add_to_each(AddToEach { row: bias, y: &mut y[..row0] });
            }
            Op::Linear { x, weight, bias } => {
                let (weight, bias) = (self.turned(*weight), self.call.tensors[bias.index()]);
                let (rows, out) = self.shape(ValueId(k as u32));
                let row0 = if rows > 0 { n * out } else { 0 };
                if self.executor.schedule.homes[x.index()] == Home::Fused {
                    if let Some(lift) = self.lift(*x, tile, workspace, Some((k, out))) {
                        lift.linear(weight, &self.fixed[k], y);
                    }
                    T::add_to_each(AddToEach { row: bias, y: &mut y[..row0] });
                } else {
                    let x = self.value(*x, tile, workspace);
                    let (x0, rest) = x.split_at(x.len().checked_div(rows).unwrap_or(0));
                    let (y0, more) = y.split_at_mut(row0);
                    affine(matrix(x0, n), weight, bias, matrix_mut(y0, n));
                    let count = n * rows.saturating_sub(1);
                    product(T::one(), matrix(rest, count), weight, false, matrix_mut(more, count));
                }
            }
            Op::LinearPart { x, weight } => {
                let rows = self.shape(*x).0 * n;
                let x = matrix(self.value(*x, tile, workspace), rows);
                product(T::one(), x, self.turned(*weight), false, matrix_mut(y, rows));
            }
            Op::Term { x, y: below, activation } => {
                self.along(*activation, [x, below, &[]], tile, workspace, y);
            }
            Op::TermAdjoint { x, y: terms, bars, activation } => {
                self.along(*activation, [x, terms, bars], tile, workspace, y);
            }
            Op::Inject { x, factor, directions, seeds } => {
                y.copy_from_slice(self.value(*x, tile, workspace));
                if let Some(factored) = &self.factors[factor.index()] {
                    factored.inject(seeds, directions.map(|d| self.value(d, tile, workspace)), n, y);
                }
            }
            Op::LinearAdjoint { bar, weight } => {
                let rows = self.shape(*bar).0 * n;
                let bar = matrix(self.value(*bar, tile, workspace), rows);
                product(T::one(), bar, self.upright(*weight), false, matrix_mut(y, rows));
            }
            Op::Activate { .. } | Op::ActivateAdjoint { .. } | Op::CoefficientAdjoint { .. } => {
                let mut lanes = take(&mut workspace.lanes);
                self.activation(k, tile, workspace, &mut lanes, y);
                workspace.lanes = lanes;
            }
            Op::Add { a, b } => {
                let (a, b) = (self.value(*a, tile, workspace), self.value(*b, tile, workspace));
                T::add_pair(AddPair { a, b, y });
            }
            // reduced, or in the caller's arrays
            _ => {}
        }
    }

    /// A coefficient of an activation along a curve, or the adjoint of one.
    fn along(
        &self,
        activation: jet::Activation,
        values: [&[ValueId]; 3],
        tile: Tile,
        workspace: &mut Workspace<T>,
        out: &mut [T],
    ) {
        let mut lanes = take(&mut workspace.terms);
        // what is not needed may be gone
        let gone = match (activation.is_autonomous(), values[2].is_empty()) {
            (true, true) => values[1].len().min(1),
            (true, false) => values[0].len(),
            _ => 0,
        };
        let mut slices = [[&[][..]; MOST]; 3];
        for (k, (slices, values)) in slices.iter_mut().zip(values).enumerate() {
            let slices = slices.iter_mut().zip(values).skip(if k == 0 { gone } else { 0 });
            slices.for_each(|(slice, v)| *slice = self.value(*v, tile, workspace));
        }
        let [x, y, bars] = std::array::from_fn(|k| &slices[k][..values[k].len()]);
        T::along(Along { activation, x, y, bars, lanes: &mut lanes, out });
        workspace.terms = lanes;
    }

    /// Operation k, an activation or an adjoint of one.
    fn activation(&self, k: usize, tile: Tile, workspace: &Workspace<T>, lanes: &mut Lanes<T>, y: &mut [T]) {
        let value = |v: ValueId| self.value(v, tile, workspace);
        let (x, algebra, activation, coefficients, task) = match &self.executor.program.ops[k] {
            Op::Activate { x, algebra, activation, coefficients } => {
                (*x, algebra, activation, *coefficients, Task::Forward)
            }
            Op::ActivateAdjoint { x, bar, algebra, activation, coefficients } => {
                (*x, algebra, activation, *coefficients, Task::Adjoint(value(*bar)))
            }
            Op::CoefficientAdjoint { x, bar, algebra, activation, coefficients } => {
                y.fill(T::zero());
                (*x, algebra, activation, Some(*coefficients), Task::Coefficients(value(*bar)))
            }
            _ => return,
        };
        let features = self.shape(x).1;
        T::apply(Apply {
            table: &self.executor.tables[algebra.index()],
            activation: *activation,
            x: value(x),
            shape: Shape { width: tile.n * features, features },
            coefficients: coefficients.map_or(&[], value),
            m: coefficients.map_or(0, |c| self.shape(c).1),
            lanes,
            task,
            y,
        });
    }

    /// An operation with a reduced value: adds the tile's points.
    fn accumulate(&self, k: usize, tile: Tile, workspace: &Workspace<T>, sum: &mut [T]) {
        match &self.executor.program.ops[k] {
            Op::WeightAdjoint { bar, x } => {
                let (rows, out) = self.shape(*bar);
                let bar = self.value(*bar, tile, workspace);
                let sum = match self.executor.turned[k] {
                    true => matrix_mut(sum, self.shape(*x).1).reversed_axes(),
                    false => matrix_mut(sum, out),
                };
                if self.executor.schedule.homes[x.index()] == Home::Fused {
                    if let Some(lift) = self.lift(*x, tile, workspace, None) {
                        lift.weight_adjoint(bar, sum);
                    }
                } else {
                    let x = matrix(self.value(*x, tile, workspace), rows * tile.n);
                    product(T::one(), matrix(bar, rows * tile.n).t(), x, true, sum);
                }
            }
            Op::ShareAdjoint { bar, x, .. } => {
                if let Some(lift) = self.lift(*x, tile, workspace, None) {
                    lift.share_adjoint(self.value(*bar, tile, workspace), sum);
                }
            }
            Op::InjectAdjoint { bar, directions, seeds, .. } => {
                let directions = directions.map(|d| self.value(d, tile, workspace));
                let out = self.shape(*bar).1;
                inject_adjoint(seeds, directions, self.value(*bar, tile, workspace), tile.n, out, sum);
            }
            Op::BiasAdjoint { bar: x } | Op::Mean { x, .. } => {
                let row0 = &self.value(*x, tile, workspace)[..tile.n * sum.len()];
                T::add_columns(AddColumns { rows: row0, sums: sum });
            }
            _ => {}
        }
    }

    /// The lift that an operation is, on a tile; `layer` is what reads it, and its features, where products with vectors that are
    /// not at hand are.
    fn lift<'a>(
        &'a self,
        value: ValueId,
        tile: Tile,
        workspace: &'a Workspace<T>,
        layer: Option<(usize, usize)>,
    ) -> Option<Lift<'a, T>> {
        let Op::Lift { points, first, features, seeds, samples, .. } = &self.executor.program.ops[value.index()] else {
            return None;
        };
        let made = self.made.as_ref().zip(self.executor.wide.as_ref()).zip(layer);
        let draw = |sample: &jet::Draw| {
            if let (jet::Draw::Directions { value, .. }, Some(((made, wide), (op, out)))) = (sample, made) {
                let products = wide.product(made, op, Some(*value));
                return Draw::Products(&products[tile.first * out..], self.call.count * out);
            }
            let elements = sample.value().map_or(&[][..], |v| self.value(v, tile, workspace));
            let features = sample.value().map_or(0, |v| self.shape(v).1);
            match *sample {
                jet::Draw::Points => Draw::Row0,
                jet::Draw::Columns { row, .. } => {
                    let len = tile.n * features;
                    Draw::Columns(&elements[row as usize * len..][..len], features)
                }
                jet::Draw::Directions { first, .. } => Draw::Directions(elements, first as usize, features),
            }
        };
        Some(Lift {
            row0: match made {
                Some(((made, wide), (op, out))) => {
                    Row0::Product(&wide.product(made, op, None)[tile.first * out..][..tile.n * out])
                }
                None => Row0::Points(lift::columns(self.value(*points, tile, workspace), tile.n, *first, *features)),
            },
            n: tile.n,
            first: *first,
            columns: *features,
            seeds,
            draws: samples.iter().map(draw).collect(),
        })
    }

    /// The number of a tile's point.
    fn number(&self, tile: Tile, point: usize) -> usize {
        let (own, number) = (tile.first + point, self.call.beside.numbers);
        self.call.random.first + number.get(own).copied().unwrap_or(own)
    }

    fn words(&self, stream: u32, point: usize) -> Words {
        let random = self.call.random;
        Words::new(random.seed, random.step, stream, point)
    }
}

/// From [points, rows, features] to [rows, points, features].
fn gather<T: Copy>(from: &[T], rows: usize, n: usize, features: usize, to: &mut [T]) {
    for r in 0..rows {
        for p in 0..n {
            let from = &from[(p * rows + r) * features..][..features];
            to[(r * n + p) * features..][..features].copy_from_slice(from);
        }
    }
}

/// From [rows, points, features] to [points, rows, features].
fn scatter<T: Copy>(from: &[T], rows: usize, n: usize, features: usize, to: &mut [T]) {
    if rows == 1 {
        return to.copy_from_slice(from);
    }
    for r in 0..rows {
        for p in 0..n {
            let to = &mut to[(p * rows + r) * features..][..features];
            to.copy_from_slice(&from[(r * n + p) * features..][..features]);
        }
    }
}

//! A first layer with very many columns, streamed.
//!
//! Points, directions and the gradient of the layer are never stored: all are made in blocks of columns, where they are used. A
//! step has three phases. *Forward*, over blocks of columns in parallel: make a block of the points and of the directions, add
//! their products with the weight to the layer's, and their part to the sums of scalar code ([`crate::jet::columns`]). *Tiles* of
//! points as ever, with these at hand; the adjoint of the layer is stored, the columns that a draw needs are gathered from the
//! weight. *Backward*, whenever the caller asks for some rows of the gradient ([`Streamed`]): make these columns again, and
//! multiply with the adjoint. The weight lies as [in, out], so that a block of columns is contiguous.
//!
//! Blocks and the order in which they are added depend on the program and the number of points alone.

use super::lift::{matrix, matrix_mut};
use super::product::{AddRows, SumParts, product};
use super::real::Real;
use super::shared::{Drawn, Part as SharedPart, Shared, SharedGradient};
use super::strips::{Block, Given, Strips};
use super::vectors::{Context, Room, Vectors, fill};
use super::{Call, PointSource, Random};
use crate::jet::columns::{Columns, Directions};
use crate::jet::hoist::{self, Dense};
use crate::jet::{Draw, Fold, JetProgram, Op, Pointwise, Seed, Source, TensorId, Type, ValueId};
use rayon::prelude::*;
use std::ops::Range;

/// Columns of a block, at most: a block of points and one of the weight stay in the second cache.
const BLOCK: usize = 128;
/// The columns are cut into at most so many slabs, each with sums of its own.
const SLABS: usize = 32;
/// Numbers in all sums of the slabs, at most (but for two slabs).
const SUMS: usize = 1 << 24;

/// How a program is run in blocks of columns.
#[derive(Clone, Debug)]
pub struct Wide {
    layers: Vec<Layer>,
    gradients: Vec<Gradient>,
    factors: Vec<FactorGradient>,
    shared: Vec<Shared>,
    shared_gradients: Vec<SharedGradient>,
    columns: Columns,
    vectors: Vectors,
    /// Values that are vectors, and never stored.
    dense: Vec<ValueId>,
    /// Values that the tiles keep for the backward phase: [points, rows, features].
    pub stored: Vec<ValueId>,
}

/// A layer on a lift.
#[derive(Clone, Debug)]
struct Layer {
    op: usize,
    weight: TensorId,
    /// Columns of the points.
    columns: Range<usize>,
    out: usize,
    /// Numbers of the vectors that it is applied to.
    vectors: Range<usize>,
}

/// The gradient of such a layer's weight.
#[derive(Clone, Debug)]
struct Gradient {
    /// Position among the gradients of the program.
    position: usize,
    /// Position of the adjoint among the stored values.
    bar: usize,
    rows: usize,
    out: usize,
    columns: Range<usize>,
    seeds: Vec<Seed>,
    /// By draw of the seeds.
    draws: Vec<Drawn>,
}

/// The gradient of a weight through its factor.
#[derive(Clone, Debug)]
struct FactorGradient {
    op: usize,
    /// Position among the gradients of the program.
    position: usize,
    columns: Range<usize>,
}

/// What the forward phase leaves for the tiles.
pub struct Made<'a, T> {
    /// The points.
    pub source: &'a dyn PointSource<T>,
    /// By operation: a layer without bias, of the points and of each of its vectors, [1 + vectors, points, out].
    pub layers: Vec<Vec<T>>,
    /// [points, sums]
    pub sums: Vec<T>,
    /// How many sums.
    pub width: usize,
}

impl Wide {
    /// How to run a program in blocks, and its scalar code without loops over columns, by operation. None where it
    /// reads the points in another way, or has no layer with a turned weight, nor a shared one of more than `many` columns.
    pub fn new(
        program: &JetProgram,
        types: &[Type],
        turned: &dyn Fn(TensorId) -> bool,
        many: usize,
    ) -> Option<(Wide, Vec<Option<Pointwise>>)> {
        let is_input = |v: ValueId| matches!(program.ops[v.index()], Op::Points | Op::Lift { .. });
        if program.outputs.iter().any(|o| is_input(o.1)) {
            return None;
        }
        let mut columns = Columns::new(program.columns);
        let mut dense = dense(program)?;
        let mut scalar = Vec::new();
        for (k, op) in program.ops.iter().enumerate() {
            let mut code = None;
            match op {
                Op::Lift { .. } | Op::Linear { .. } | Op::WeightAdjoint { .. } | Op::FactorAdjoint { .. } => {}
                Op::Share { .. } | Op::ShareAdjoint { .. } => {}
                Op::Pointwise(source) => {
                    let is_lift =
                        |s: &Source| matches!(s, Source::Value(v) if matches!(program.ops[v.index()], Op::Lift { .. }));
                    if source.inputs.iter().any(is_lift) {
                        return None;
                    }
                    let is_points =
                        |s: Source| matches!(s, Source::Value(v) if matches!(program.ops[v.index()], Op::Points));
                    let value = ValueId(k as u32);
                    if let Some((first, None)) = dense.values.get(&value) {
                        let rows = hoist::table(&mut columns, &dense, source, *first, &is_points)?;
                        dense.tables.extend(rows.into_iter().map(|(row, vector)| ((value, row), vector)));
                    } else {
                        code = Some(hoist::sums(&mut columns, &dense, source, &is_points)?);
                    }
                }
                other => {
                    let is_given = |v: ValueId| is_input(v) || dense.values.contains_key(&v);
                    if other.arguments().into_iter().any(is_given) {
                        return None;
                    }
                }
            }
            scalar.push(code);
        }
        let mut rows = Vec::new();
        for value in lifted(program) {
            let Type::PerPoint { rows: slots, .. } = types[value.index()] else { return None };
            for slot in 0..slots {
                let vector = dense.vector(&mut columns, value, slot)?;
                columns.vectors.push(vector);
                rows.push((value, slot));
            }
        }
        let vectors = Vectors::new(&columns, rows);
        columns.vectors.clear();
        columns.finish();
        let mut wide = Wide {
            layers: vec![],
            gradients: vec![],
            factors: vec![],
            shared: vec![],
            shared_gradients: vec![],
            columns,
            vectors,
            dense: dense.values.keys().copied().collect(),
            stored: vec![],
        };
        for (k, op) in program.ops.iter().enumerate() {
            wide.layer(program, types, (k, op), turned, many)?;
        }
        (!wide.layers.is_empty() || !wide.shared.is_empty()).then_some((wide, scalar))
    }

    /// Takes an operation on a lift or a factor over.
    fn layer(
        &mut self,
        program: &JetProgram,
        types: &[Type],
        (k, op): (usize, &Op),
        turned: &dyn Fn(TensorId) -> bool,
        many: usize,
    ) -> Option<()> {
        match op {
            Op::Share { x, weight, .. } => {
                let Op::Lift { first, features, samples, .. } = &program.ops[x.index()] else { return None };
                (*features > many).then_some(())?;
                let block = program.tensors[weight.index()].len();
                let (columns, vectors) = (*first..first + features, self.all_numbers(types, samples));
                self.shared.push(Shared { op: k, weight: *weight, columns, block, vectors });
            }
            Op::ShareAdjoint { bar, x, block } => {
                let Op::Lift { first, features, seeds, samples, .. } = &program.ops[x.index()] else { return None };
                let Type::PerPoint { rows, .. } = types[bar.index()] else { return None };
                let position = program.gradients.iter().position(|(_, v)| v.index() == k)?;
                let draws = self.draws(types, samples)?;
                let (bar, columns, seeds) = (self.store(*bar), *first..first + features, seeds.clone());
                let block = *block;
                self.shared_gradients.push(SharedGradient { op: k, position, bar, rows, columns, block, seeds, draws });
            }
            Op::Linear { x, weight, .. } => {
                if let Op::Lift { first, features, samples, .. } = &program.ops[x.index()] {
                    turned(*weight).then_some(())?;
                    let out = program.tensors[weight.index()].shape[0];
                    let columns = *first..first + features;
                    let vectors = self.all_numbers(types, samples);
                    self.layers.push(Layer { op: k, weight: *weight, columns, out, vectors });
                }
            }
            Op::FactorAdjoint { factor, .. } => {
                let Op::Factor { first, len, .. } = program.ops[factor.index()] else { return None };
                let position = program.gradients.iter().position(|(t, v)| v.index() == k && turned(*t));
                self.factors.push(FactorGradient { op: k, position: position?, columns: first..first + len });
            }
            Op::WeightAdjoint { bar, x } => {
                if let Op::Lift { .. } = program.ops[x.index()] {
                    self.gradient(program, types, k, *bar, *x, turned)?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The numbers of the vectors that a draw refers to.
    fn numbers(&self, types: &[Type], draw: Draw) -> Option<Range<usize>> {
        let Draw::Directions { value, .. } = draw else { return None };
        let Type::PerPoint { rows, .. } = types[value.index()] else { return None };
        let first = self.vectors.number(value, 0)?;
        Some(first..first + rows)
    }

    /// Those of all draws: they are numbered by value.
    fn all_numbers(&self, types: &[Type], samples: &[Draw]) -> Range<usize> {
        let all = samples.iter().filter_map(|d| self.numbers(types, *d));
        all.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0)
    }

    /// What the draws of a lift stand for in the backward phase.
    fn draws(&mut self, types: &[Type], samples: &[Draw]) -> Option<Vec<Drawn>> {
        let draws = samples.iter().map(|draw| match draw {
            Draw::Columns { value, row } => match types[value.index()] {
                Type::PerPoint { rows, features } => {
                    Some(Drawn::Columns(self.store(*value), rows * features, *row as usize * features))
                }
                Type::Reduced { .. } => None,
            },
            Draw::Points => Some(Drawn::Points),
            Draw::Directions { .. } => self.numbers(types, *draw).map(|n| Drawn::Vectors(n.start)),
        });
        draws.collect()
    }

    fn gradient(
        &mut self,
        program: &JetProgram,
        types: &[Type],
        op: usize,
        bar: ValueId,
        lift: ValueId,
        turned: &dyn Fn(TensorId) -> bool,
    ) -> Option<()> {
        let position = program.gradients.iter().position(|(t, v)| v.index() == op && turned(*t))?;
        let Op::Lift { first, features, seeds, samples, .. } = &program.ops[lift.index()] else { return None };
        let Type::PerPoint { rows, features: out } = types[bar.index()] else { return None };
        let draws = self.draws(types, samples)?;
        let bar = self.store(bar);
        let (columns, seeds) = (*first..first + features, seeds.clone());
        self.gradients.push(Gradient { position, bar, rows, out, columns, seeds, draws });
        Some(())
    }

    fn store(&mut self, value: ValueId) -> usize {
        let known = self.stored.iter().position(|v| *v == value);
        known.unwrap_or_else(|| {
            self.stored.push(value);
            self.stored.len() - 1
        })
    }

    /// Numbers per point that the forward phase leaves.
    pub fn kept(&self) -> usize {
        self.width() + self.shared.iter().map(|l| l.blocks() * (1 + l.vectors.len())).sum::<usize>()
    }

    /// Numbers per point in each slab of the forward phase.
    fn width(&self) -> usize {
        self.layers.iter().map(|l| l.out * (1 + l.vectors.len())).sum::<usize>() + self.columns.len()
    }

    /// The operations whose results are asked for in pieces.
    pub fn is_streamed(&self, program: &JetProgram, op: usize) -> bool {
        self.dense.iter().any(|v| v.index() == op)
            || self.shared_gradients.iter().any(|g| g.op == op)
            || self.streamed().any(|k| program.gradients[k].1.index() == op)
    }

    /// The product of a layer with the points that the tiles are about, and with the rows of a value: [points, out], and
    /// [rows, points, out].
    pub fn product<'a, T>(&self, made: &'a Made<T>, op: usize, value: Option<ValueId>) -> &'a [T] {
        let layers = self.layers.iter().map(|l| (l.op, &l.vectors));
        let all = layers.chain(self.shared.iter().map(|l| (l.op, &l.vectors)));
        let Some((_, vectors)) = all.into_iter().find(|l| l.0 == op) else { return &[] };
        let one = made.layers[op].len() / (1 + vectors.len());
        let skip = value.and_then(|v| self.vectors.number(v, 0)).map_or(0, |k| 1 + k - vectors.start);
        &made.layers[op][skip * one..]
    }

    /// The positions of the gradients that are asked for in pieces.
    pub fn streamed(&self) -> impl Iterator<Item = usize> {
        self.gradients.iter().map(|g| g.position).chain(self.factors.iter().map(|f| f.position))
    }

    /// The gradients of shared layers, whole, by position among the program's.
    pub fn shared<T: Real>(
        &self,
        call: &Call<T>,
        source: &dyn PointSource<T>,
        stored: &[Vec<T>],
    ) -> Vec<(usize, Vec<T>)> {
        let context = Context { tensors: call.tensors, random: call.random, count: call.count, source };
        self.shared_gradients.iter().map(|g| (g.position, g.whole(&self.vectors, context, stored))).collect()
    }

    /// The forward phase.
    pub fn forward<'a, T: Real>(
        &self,
        program: &JetProgram,
        call: &Call<T>,
        source: &'a dyn PointSource<T>,
    ) -> Made<'a, T> {
        let (n, width) = (call.count, self.columns.len());
        let per_slab = n * self.width();
        let block = program.columns.div_ceil(16).next_multiple_of(16).min(BLOCK);
        let blocks = program.columns.div_ceil(block);
        let slabs = SLABS.min(blocks).min((SUMS / per_slab.max(1)).max(2)).max(1);
        let slab = |s: usize| (s * blocks / slabs * block).min(program.columns);
        let done: Vec<Slab<T>> = (0..slabs)
            .into_par_iter()
            .map(|s| self.slab(call, source, (slab(s)..slab(s + 1), block), program.columns))
            .collect();
        let mut layers = vec![vec![]; program.ops.len()];
        for (k, layer) in self.layers.iter().enumerate() {
            let mut sum = vec![T::zero(); (1 + layer.vectors.len()) * n * layer.out];
            sum.par_chunks_mut(4096).enumerate().for_each(|(c, sum)| {
                let parts: Vec<&[T]> = done.iter().map(|d| &d.layers[k][c * 4096..][..sum.len()]).collect();
                T::sum_parts(SumParts { scale: 1.0, parts: &parts, y: sum });
            });
            layers[layer.op] = sum;
        }
        for (k, layer) in self.shared.iter().enumerate() {
            layers[layer.op] = layer.combine(done.iter().map(|d| &d.shared[k]), n);
        }
        let mut sums = vec![T::zero(); n * width];
        for (k, fold) in self.columns.folds().enumerate() {
            for p in 0..n {
                let parts = done.iter().map(|d| d.sums[k * n + p]);
                sums[p * width + k] = T::lit(match fold {
                    Fold::Sum => parts.sum(),
                    Fold::Max => parts.fold(f64::NEG_INFINITY, super::pointwise::max),
                });
            }
        }
        Made { source, layers, sums, width }
    }

    fn slab<T: Real>(
        &self,
        call: &Call<T>,
        source: &dyn PointSource<T>,
        (slab, block): (Range<usize>, usize),
        columns: usize,
    ) -> Slab<T> {
        let n = call.count;
        let start = |fold| if fold == Fold::Sum { 0.0 } else { f64::NEG_INFINITY };
        let mut sums = Vec::new();
        self.columns.folds().for_each(|fold| sums.resize(sums.len() + n, start(fold)));
        let layers = self.layers.iter().map(|l| vec![T::zero(); (1 + l.vectors.len()) * n * l.out]).collect();
        let shared = self.shared.iter().map(|l| l.part(&slab, n)).collect();
        let mut done = Slab { layers, shared, sums };
        let (mut scratch, mut strips) = (Vec::new(), Strips::default());
        let (mut directions, mut vectors) = (Vec::new(), Vec::new());
        let fixed = |column: usize, out: &mut [T]| {
            out.iter_mut().enumerate().for_each(|(p, x)| *x = source.at(p, column));
        };
        let context = Context { tensors: call.tensors, random: call.random, count: n, source };
        let (before, behind) = self.vectors.margins();
        let behind = behind.max(self.columns.reach());
        for first in slab.clone().step_by(block) {
            let block = first..slab.end.min(first + block);
            let start = first.saturating_sub(before);
            let around = start..columns.min(block.end + behind);
            let given = source.block(around.clone(), &mut scratch);
            fill(&self.columns.directions, context.random, n, around, &mut directions);
            let given = Given { start, x: given, directions: &directions, points: n };
            let x = &given.x[(first - start) * n..];
            if self.vectors.len() > 0 {
                self.vectors.work_out(context, given, block.clone(), &mut strips, &mut vectors);
            }
            for (layer, y) in self.layers.iter().zip(&mut done.layers) {
                let here = block.start.max(layer.columns.start)..block.end.min(layer.columns.end);
                let weight = call.tensors[layer.weight.index()];
                if here.is_empty() || weight.is_empty() || n * layer.out == 0 {
                    continue;
                }
                let weight = &weight[(here.start - layer.columns.start) * layer.out..][..here.len() * layer.out];
                let of = |x: &[T], y: &mut [T]| {
                    let x = matrix(&x[(here.start - first) * n..][..here.len() * n], here.len());
                    product(T::one(), x.t(), matrix(weight, here.len()), true, matrix_mut(y, n));
                };
                let (row0, rest) = y.split_at_mut(n * layer.out);
                of(x, row0);
                for (vector, y) in vectors[layer.vectors.clone()].iter().zip(rest.chunks_exact_mut(n * layer.out)) {
                    of(vector, y);
                }
            }
            for (layer, part) in self.shared.iter().zip(&mut done.shared) {
                let inputs = vectors.get(layer.vectors.clone()).unwrap_or(&[]).iter().map(Vec::as_slice);
                let inputs = std::iter::once(x).chain(inputs);
                layer.add(call.tensors[layer.weight.index()], &block, inputs, n, part);
            }
            let (strips, totals) = (&mut strips, &mut done.sums[..]);
            T::columns(Block {
                columns: &self.columns,
                given,
                range: block,
                tensors: call.tensors,
                fixed: &fixed,
                strips,
                totals,
                vectors: &mut [],
            });
        }
        done
    }

    /// What the backward phase needs, of a call, the stored values and the factors' maps, by operation.
    pub fn streamed_parts<T: Real>(&self, call: &Call<T>, stored: Vec<Vec<T>>, maps: &[Vec<T>]) -> Streamed<T> {
        let count = call.count;
        let scale = if count == 0 { 0.0 } else { 1.0 / count as f64 };
        let parts = self.gradients.iter().map(|g| {
            let (bar, row) = (&stored[g.bar], g.rows * g.out);
            let mut bar0: Vec<T> =
                bar.chunks_exact(row.max(1)).flat_map(|b| &b[..g.out]).map(|b| *b * T::lit(scale)).collect();
            let (mut fixed, mut drawn) = (Vec::new(), Vec::new());
            let mut dense: Vec<Vec<T>> = vec![vec![]; self.vectors.len()];
            for seed in &g.seeds {
                let (offset, value) = (seed.row as usize * g.out, seed.value * scale);
                match seed.sample.map(|s| &g.draws[s as usize]) {
                    None => {
                        let mut sums = vec![0.0; g.out];
                        for b in bar.chunks_exact(row.max(1)) {
                            sums.iter_mut().zip(&b[offset..]).for_each(|(s, b)| *s += b.to_f64());
                        }
                        let sums: Vec<T> = sums.into_iter().map(|s| T::lit(s * value)).collect();
                        fixed.push((seed.at as usize, sums));
                    }
                    // rows along the points go with row 0
                    Some(Drawn::Points) => {
                        let rows = bar.chunks_exact(row.max(1)).map(|b| &b[offset..offset + g.out]);
                        bar0.iter_mut().zip(rows.flatten()).for_each(|(b, r)| *b += T::lit(value) * *r);
                    }
                    Some(Drawn::Vectors(first)) => {
                        let sum = &mut dense[first + seed.at as usize];
                        sum.resize(count * g.out, T::zero());
                        let rows = bar.chunks_exact(row.max(1)).map(|b| &b[offset..offset + g.out]);
                        sum.iter_mut().zip(rows.flatten()).for_each(|(b, r)| *b += T::lit(value) * *r);
                    }
                    Some(Drawn::Columns(draw, all, first)) => drawn.extend((0..count).map(|p| {
                        let at = p * all + first + seed.at as usize;
                        let column = stored[*draw][at].to_i64() as usize - g.columns.start;
                        (column, p * row + offset, T::lit(value))
                    })),
                }
            }
            drawn.sort_by_key(|d| d.0);
            Part { gradient: g.clone(), bar0, fixed, drawn, dense }
        });
        let parts = parts.collect();
        let factors = self.factors.iter().map(|f| {
            let map = &maps[f.op];
            let out = map.len().isqrt();
            (f.clone(), matrix(map, out).t().iter().copied().collect())
        });
        let vectors = (self.vectors.len() > 0).then(|| {
            let mut tensors = vec![vec![]; call.tensors.len()];
            self.vectors.tensors().for_each(|t| tensors[t] = call.tensors[t].to_vec());
            Remade { vectors: self.vectors.clone(), tensors, random: call.random }
        });
        Streamed { parts, factors: factors.collect(), stored, vectors }
    }
}

/// The sums over some columns.
struct Slab<T> {
    /// By layer: [points, out]
    layers: Vec<Vec<T>>,
    /// By shared layer.
    shared: Vec<SharedPart<T>>,
    /// [sums, points]
    sums: Vec<f64>,
}

/// Gradients of wide layers, of which rows are worked out when they are asked for.
#[derive(Debug, Default)]
pub struct Streamed<T> {
    parts: Vec<Part<T>>,
    /// With the transposed map of each: [out, out].
    factors: Vec<(FactorGradient, Vec<T>)>,
    stored: Vec<Vec<T>>,
    vectors: Option<Remade<T>>,
}

/// Vectors, and what of the call they were made from: it may have changed since.
#[derive(Debug)]
struct Remade<T> {
    vectors: Vectors,
    /// By tensor: its elements, where they are read.
    tensors: Vec<Vec<T>>,
    random: Random,
}

#[derive(Debug)]
struct Part<T> {
    gradient: Gradient,
    /// Row 0 of the adjoint over the number of points: [points, out].
    bar0: Vec<T>,
    /// Column and what is added to it.
    fixed: Vec<(usize, Vec<T>)>,
    /// Column, where the adjoint starts that is added to it, times what; sorted by column.
    drawn: Vec<(usize, usize, T)>,
    /// By vector: its row of the adjoint over the number of points, [points, out]; empty where there is none.
    dense: Vec<Vec<T>>,
}

impl<T: Real> Streamed<T> {
    /// Columns `rows` of a wide layer's gradient (number `position` of the program's), into out: [rows, out]. `source` are the
    /// points of the call that this came from, `weight` these columns of its weight, [rows, out]. False where that gradient
    /// is not made in pieces; nothing is written then.
    pub fn rows(
        &self,
        position: usize,
        rows: Range<usize>,
        source: &dyn PointSource<T>,
        weight: &[T],
        out: &mut [T],
    ) -> bool {
        if let Some((gradient, map)) = self.factors.iter().find(|f| f.0.position == position) {
            out.fill(T::zero());
            let width = out.len() / rows.len().max(1);
            let here = rows.start.max(gradient.columns.start)..rows.end.min(gradient.columns.end);
            if here.is_empty() || map.is_empty() {
                return true;
            }
            let (first, n) = ((here.start - rows.start) * width, here.len());
            let weight = matrix(&weight[first..][..n * width], n);
            let y = matrix_mut(&mut out[first..][..n * width], n);
            product(T::one(), weight, matrix(map, width), false, y);
            return true;
        }
        let Some(part) = self.parts.iter().find(|p| p.gradient.position == position) else { return false };
        let (width, first) = (part.gradient.out, part.gradient.columns.start);
        let points = part.bar0.len() / width.max(1);
        if points == 0 || rows.is_empty() {
            out.fill(T::zero());
            return true;
        }
        let mut scratch = Vec::new();
        let x = source.block(first + rows.start..first + rows.end, &mut scratch);
        product(T::one(), matrix(x, rows.len()), matrix(&part.bar0, points), false, matrix_mut(out, rows.len()));
        if let Some(made) = self.vectors.as_ref().filter(|_| part.dense.iter().any(|d| !d.is_empty())) {
            let tensors: Vec<&[T]> = made.tensors.iter().map(Vec::as_slice).collect();
            let context = Context { tensors: &tensors, random: made.random, count: points, source };
            let mut room = Room::default();
            made.vectors.make(context, first + rows.start..first + rows.end, &mut room);
            for (vector, bar) in room.vectors.iter().zip(&part.dense).filter(|d| !d.1.is_empty()) {
                let y = matrix_mut(out, rows.len());
                product(T::one(), matrix(vector, rows.len()), matrix(bar, points), true, y);
            }
        }
        for (column, values) in part.fixed.iter().filter(|f| rows.contains(&f.0)) {
            let out = &mut out[(column - rows.start) * width..][..width];
            out.iter_mut().zip(values).for_each(|(y, v)| *y += *v);
        }
        let bars = &self.stored[part.gradient.bar];
        let begin = part.drawn.partition_point(|d| d.0 < rows.start);
        let drawn = part.drawn[begin..].iter().take_while(|d| d.0 < rows.end);
        let places: Vec<_> = drawn.map(|(column, at, value)| ((column - rows.start) * width, *at, *value)).collect();
        T::add_rows(AddRows { places: &places, width, x: bars, y: out });
        true
    }
}

/// The values that are directions of a lift.
fn lifted(program: &JetProgram) -> Vec<ValueId> {
    let samples = program.ops.iter().filter_map(|op| match op {
        Op::Lift { samples, .. } => Some(samples),
        _ => None,
    });
    let mut values: Vec<ValueId> = samples
        .flatten()
        .filter_map(|d| match d {
            Draw::Directions { value, .. } => Some(*value),
            _ => None,
        })
        .collect();
    values.sort();
    values.dedup();
    values
}

/// The values that are directions of a lift, by where their columns begin. None where that is not the same for all lifts, or
/// where they are neither random nor filled by code.
fn dense(program: &JetProgram) -> Option<Dense> {
    let mut dense = Dense::default();
    for op in &program.ops {
        let Op::Lift { first, samples, .. } = op else { continue };
        for draw in samples {
            let Draw::Directions { value, first: at } = draw else { continue };
            let drawn = match &program.ops[value.index()] {
                Op::Directions { stream, len, gaussian, .. } => {
                    Some(Directions { stream: *stream, len: *len, gaussian: *gaussian })
                }
                Op::Pointwise(_) => None,
                _ => return None,
            };
            let entry = (first + *at as usize, drawn);
            if dense.values.insert(*value, entry).is_some_and(|old| old != entry) {
                return None;
            }
        }
    }
    // the components of directions may be those of random ones
    for op in &program.ops {
        let Op::Directions { stream, len, gaussian, .. } = op else { continue };
        let value = ValueId(program.ops.iter().position(|o| o == op)? as u32);
        let drawn = Directions { stream: *stream, len: *len, gaussian: *gaussian };
        let read = dense.values.iter().filter_map(|(table, (first, _))| match &program.ops[table.index()] {
            Op::Pointwise(code) if code.inputs.contains(&Source::Value(value)) => Some(*first),
            _ => None,
        });
        // as far to the right as any, so that no table reads before its own column
        if let Some(first) = read.max() {
            dense.values.entry(value).or_insert((first, Some(drawn)));
        }
    }
    Some(dense)
}

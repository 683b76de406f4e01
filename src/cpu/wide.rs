//! A first layer with very many columns, streamed.
//!
//! Points and the gradient of the layer are never stored: both are made in blocks of columns, where they are used. A step has
//! three phases. *Forward*, over blocks of columns in parallel: make a block of the points, add its products with the weight
//! to row 0 of the layer and its part to the sums of scalar code ([`crate::jet::columns`]). *Tiles* of points as ever, with
//! these two at hand; the adjoint of the layer is stored, the columns that a draw needs are gathered from the weight.
//! *Backward*, whenever the caller asks for some rows of the gradient ([`Streamed`]): make these columns again, and
//! multiply with the adjoint. The weight lies as [in, out], so that a block of columns is contiguous.
//!
//! Blocks and the order in which they are added depend on the program and the number of points alone.

use super::lift::matrix;
use super::product::product;
use super::real::Real;
use super::strips::{Block, Strips};
use super::{Call, PointSource};
use crate::jet::columns::Columns;
use crate::jet::{Draw, Fold, JetProgram, Op, Pointwise, Seed, Source, TensorId, Type, ValueId};
use ndarray::ArrayViewMut2;
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
    columns: Columns,
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
    /// By draw of the seeds: position among the stored values, numbers per point, and where the columns start among them.
    draws: Vec<Option<(usize, usize, usize)>>,
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
    /// By operation: row 0 of a layer without bias, [points, out].
    pub layers: Vec<Vec<T>>,
    /// [points, sums]
    pub sums: Vec<T>,
    /// How many sums.
    pub width: usize,
}

impl Wide {
    /// How to run a program in blocks, and its scalar code without loops over columns, by operation. None where it
    /// reads the points in another way, or has no layer with a turned weight.
    pub fn new(
        program: &JetProgram,
        types: &[Type],
        turned: &dyn Fn(TensorId) -> bool,
    ) -> Option<(Wide, Vec<Option<Pointwise>>)> {
        let mut wide = Wide {
            layers: vec![],
            gradients: vec![],
            factors: vec![],
            columns: Columns::new(program.columns),
            stored: vec![],
        };
        let mut results = program.outputs.iter().map(|o| o.1);
        let is_input = |v: ValueId| matches!(program.ops[v.index()], Op::Points | Op::Lift { .. });
        if results.any(is_input) {
            return None;
        }
        let mut scalar = Vec::new();
        for (k, op) in program.ops.iter().enumerate() {
            let mut code = None;
            match op {
                Op::Lift { samples, .. } => {
                    samples.iter().all(|d| !matches!(d, Draw::Directions { .. })).then_some(())?;
                }
                Op::Linear { x, weight, .. } => {
                    if let Op::Lift { first, features, .. } = program.ops[x.index()] {
                        turned(*weight).then_some(())?;
                        let out = program.tensors[weight.index()].shape[0];
                        wide.layers.push(Layer { op: k, weight: *weight, columns: first..first + features, out });
                    }
                }
                Op::FactorAdjoint { factor, .. } => {
                    let Op::Factor { first, len, .. } = program.ops[factor.index()] else { return None };
                    let position = program.gradients.iter().position(|(t, v)| v.index() == k && turned(*t));
                    wide.factors.push(FactorGradient { op: k, position: position?, columns: first..first + len });
                }
                Op::WeightAdjoint { bar, x } => {
                    if let Op::Lift { .. } = program.ops[x.index()] {
                        wide.gradient(program, types, k, *bar, *x, turned)?;
                    }
                }
                Op::Pointwise(source) => {
                    let is_lift =
                        |s: &Source| matches!(s, Source::Value(v) if matches!(program.ops[v.index()], Op::Lift { .. }));
                    if source.inputs.iter().any(is_lift) {
                        return None;
                    }
                    let is_points =
                        |s: Source| matches!(s, Source::Value(v) if matches!(program.ops[v.index()], Op::Points));
                    code = Some(wide.columns.hoist(source, &is_points)?);
                }
                other if other.arguments().into_iter().any(is_input) => return None,
                _ => {}
            }
            scalar.push(code);
        }
        wide.columns.finish();
        (!wide.layers.is_empty()).then_some((wide, scalar))
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
        let draws = samples.iter().map(|draw| match draw {
            Draw::Columns { value, row } => match types[value.index()] {
                Type::PerPoint { rows, features } => {
                    Some(Some((self.store(*value), rows * features, *row as usize * features)))
                }
                Type::Reduced { .. } => None,
            },
            Draw::Points => Some(None),
            Draw::Directions { .. } => None,
        });
        let draws = draws.collect::<Option<Vec<_>>>()?;
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

    /// Numbers per point that the forward phase makes.
    pub fn width(&self) -> usize {
        self.layers.iter().map(|l| l.out).sum::<usize>() + self.columns.len()
    }

    /// The operations whose results are asked for in pieces.
    pub fn is_streamed(&self, program: &JetProgram, op: usize) -> bool {
        self.streamed().any(|k| program.gradients[k].1.index() == op)
    }

    /// The positions of the gradients that are asked for in pieces.
    pub fn streamed(&self) -> impl Iterator<Item = usize> {
        self.gradients.iter().map(|g| g.position).chain(self.factors.iter().map(|f| f.position))
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
            let mut sum = vec![T::zero(); n * layer.out];
            sum.par_chunks_mut(4096).enumerate().for_each(|(c, sum)| {
                for (i, y) in sum.iter_mut().enumerate() {
                    *y = T::lit(done.iter().map(|d| d.layers[k][c * 4096 + i].to_f64()).sum());
                }
            });
            layers[layer.op] = sum;
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
        let layers = self.layers.iter().map(|l| vec![T::zero(); n * l.out]).collect();
        let mut done = Slab { layers, sums };
        let (mut scratch, mut strips) = (Vec::new(), Strips::default());
        let fixed = |column: usize, out: &mut [T]| {
            out.iter_mut().enumerate().for_each(|(p, x)| *x = source.at(p, column));
        };
        for first in slab.clone().step_by(block) {
            let block = first..slab.end.min(first + block);
            let x = source.block(first..columns.min(block.end + self.columns.reach()), &mut scratch);
            for (layer, y) in self.layers.iter().zip(&mut done.layers) {
                let here = block.start.max(layer.columns.start)..block.end.min(layer.columns.end);
                let weight = call.tensors[layer.weight.index()];
                if here.is_empty() || weight.is_empty() || n * layer.out == 0 {
                    continue;
                }
                let x = matrix(&x[(here.start - first) * n..][..here.len() * n], here.len());
                let weight = &weight[(here.start - layer.columns.start) * layer.out..][..here.len() * layer.out];
                let y = super::lift::matrix_mut(y, n);
                product(T::one(), x.t(), matrix(weight, here.len()), T::one(), y);
            }
            let (strips, totals) = (&mut strips, &mut done.sums[..]);
            let tensors = call.tensors;
            T::columns(Block {
                columns: &self.columns,
                x,
                range: block,
                points: n,
                tensors,
                fixed: &fixed,
                strips,
                totals,
            });
        }
        done
    }

    /// What the backward phase needs, of the stored values and the factors' maps, by operation.
    pub fn streamed_parts<T: Real>(&self, count: usize, stored: Vec<Vec<T>>, maps: &[Vec<T>]) -> Streamed<T> {
        let scale = if count == 0 { 0.0 } else { 1.0 / count as f64 };
        let parts = self.gradients.iter().map(|g| {
            let (bar, row) = (&stored[g.bar], g.rows * g.out);
            let mut bar0: Vec<T> =
                bar.chunks_exact(row.max(1)).flat_map(|b| &b[..g.out]).map(|b| *b * T::lit(scale)).collect();
            let (mut fixed, mut drawn) = (Vec::new(), Vec::new());
            for seed in &g.seeds {
                let (offset, value) = (seed.row as usize * g.out, seed.value * scale);
                match seed.sample.map(|s| g.draws[s as usize]) {
                    None => {
                        let mut sums = vec![0.0; g.out];
                        for b in bar.chunks_exact(row.max(1)) {
                            sums.iter_mut().zip(&b[offset..]).for_each(|(s, b)| *s += b.to_f64());
                        }
                        let sums: Vec<T> = sums.into_iter().map(|s| T::lit(s * value)).collect();
                        fixed.push((seed.at as usize, sums));
                    }
                    // rows along the points go with row 0
                    Some(None) => {
                        let rows = bar.chunks_exact(row.max(1)).map(|b| &b[offset..offset + g.out]);
                        bar0.iter_mut().zip(rows.flatten()).for_each(|(b, r)| *b += T::lit(value) * *r);
                    }
                    Some(Some((draw, all, first))) => drawn.extend((0..count).map(|p| {
                        let at = p * all + first + seed.at as usize;
                        let column = stored[draw][at].to_i64() as usize - g.columns.start;
                        (column, p * row + offset, T::lit(value))
                    })),
                }
            }
            drawn.sort_by_key(|d| d.0);
            Part { gradient: g.clone(), bar0, fixed, drawn }
        });
        let parts = parts.collect();
        let factors = self.factors.iter().map(|f| {
            let map = &maps[f.op];
            let out = map.len().isqrt();
            (f.clone(), matrix(map, out).t().iter().copied().collect())
        });
        Streamed { parts, factors: factors.collect(), stored }
    }
}

/// The sums over some columns.
struct Slab<T> {
    /// By layer: [points, out]
    layers: Vec<Vec<T>>,
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
            let y = super::lift::matrix_mut(&mut out[first..][..n * width], n);
            product(T::one(), weight, matrix(map, width), T::zero(), y);
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
        let y: ArrayViewMut2<T> = super::lift::matrix_mut(out, rows.len());
        product(T::one(), matrix(x, rows.len()), matrix(&part.bar0, points), T::zero(), y);
        for (column, values) in part.fixed.iter().filter(|f| rows.contains(&f.0)) {
            let out = &mut out[(column - rows.start) * width..][..width];
            out.iter_mut().zip(values).for_each(|(y, v)| *y += *v);
        }
        let bars = &self.stored[part.gradient.bar];
        let begin = part.drawn.partition_point(|d| d.0 < rows.start);
        for (column, at, value) in part.drawn[begin..].iter().take_while(|d| d.0 < rows.end) {
            let out = &mut out[(column - rows.start) * width..][..width];
            out.iter_mut().zip(&bars[*at..]).for_each(|(y, b)| *y += *value * *b);
        }
        true
    }
}

//! What `report` statements ask for.

use super::evaluator::{Error, Evaluator, Tensors};
use super::objective::KEEP;
use crate::cpu::{Number, Points};
use crate::net::Role;
use crate::plan::plan_expressions;
use crate::program::{Program, Report, ReportKind};
use crate::train::{Batch, Measurement, Sampler, Table};
use std::sync::Arc;

/// Numbers that are in memory at a time: points times columns.
const CHUNK_NUMBERS: usize = 1 << 22;
/// Points at a time where they are made block by block: each time, all weights are read.
const CHUNK_WIDE: usize = 512;
/// Networks with more outputs in all than this get no best constant.
const MAX_CONSTANTS: usize = 16;

/// One report, compiled.
pub struct Meter<T> {
    report: Report,
    evaluator: Evaluator<T>,
    source: Source,
    columns: usize,
    seed: u64,
    /// Numbers per point of the measured expression; the exact one follows.
    width: usize,
    /// The best constant networks' error does not change.
    best_constant: Option<Option<f64>>,
}

enum Source {
    /// Fresh points.
    Test(Sampler),
    /// The rows of a data set.
    Data(Arc<Table>),
    /// One point.
    Point(Vec<f64>),
}

impl<T: Number> Meter<T> {
    /// All reports of a program.
    pub fn all(program: &Program, data: &[Arc<Table>], seed: u64) -> Result<Vec<Meter<T>>, Error> {
        let reports = program.reports.iter().enumerate();
        reports.map(|(k, r)| Meter::new(program, k, r, data, seed)).collect()
    }

    fn new(program: &Program, number: usize, report: &Report, data: &[Arc<Table>], seed: u64) -> Result<Self, Error> {
        let (expressions, source) = match &report.kind {
            ReportKind::Error { value, exact, data: set } => {
                let source = match set {
                    Some(d) => Source::Data(data[d.index()].clone()),
                    None => Source::Test(Sampler::test(program, number, report.points, seed)?),
                };
                (vec![*value, *exact], source)
            }
            ReportKind::Value { value, at, .. } => {
                // a value that depends on no coordinate names none
                let point = if at.is_empty() { vec![0.0; program.columns()] } else { at.clone() };
                (vec![*value], Source::Point(point))
            }
        };
        let set = plan_expressions(program, &report.label, &expressions)?;
        let evaluator = Evaluator::new(&set.program)?;
        Ok(Meter {
            report: report.clone(),
            width: evaluator.width() / expressions.len(),
            evaluator,
            source,
            columns: program.columns(),
            seed,
            best_constant: None,
        })
    }

    /// As written.
    pub fn label(&self) -> &str {
        &self.report.label
    }

    /// Measures.
    pub fn measure(&mut self, parameters: &Tensors<'_, T>) -> Result<Measurement, Error> {
        let mut out = Measurement { label: self.report.label.clone(), ..Measurement::default() };
        match &self.report.kind {
            ReportKind::Value { reference, .. } => {
                let mut value = None;
                self.chunks(parameters, &mut |v| value = v.first().map(|v| v.f64()))?;
                (out.value, out.reference) = (value, *reference);
            }
            ReportKind::Error { .. } => {
                let width = self.width;
                let mut sums = [0.0; 4];
                self.chunks(parameters, &mut |values| {
                    for point in values.chunks(2 * width) {
                        for k in 0..width {
                            let (u, exact) = (point[k].f64(), point[width + k].f64());
                            sums[0] += (u - exact).powi(2);
                            sums[1] += exact.powi(2);
                            sums[2] += (u - exact).abs();
                            sums[3] += exact.abs();
                        }
                    }
                })?;
                out.l2_relative = Some((sums[0] / sums[1]).sqrt());
                out.l1_relative = Some(sums[2] / sums[3]);
                if self.best_constant.is_none() {
                    self.best_constant = Some(self.best_constant(parameters)?);
                }
                out.best_constant = self.best_constant.flatten();
            }
        }
        Ok(out)
    }

    /// Runs over all points, some at a time.
    fn chunks(&self, parameters: &Tensors<'_, T>, f: &mut dyn FnMut(&[T])) -> Result<(), Error> {
        let cast = |v: &[f64]| v.iter().map(|x| T::of(*x)).collect::<Vec<T>>();
        let (total, data_width) = match &self.source {
            Source::Test(sampler) => (sampler.count(), 0),
            Source::Data(table) => (table.rows, table.width()),
            Source::Point(_) => (1, 0),
        };
        let made = self.evaluator.is_streamed(CHUNK_WIDE) && matches!(self.source, Source::Test(_));
        let chunk = if made { CHUNK_WIDE } else { (CHUNK_NUMBERS / self.columns.max(1)).max(1) };
        let (mut outputs, mut gradients) = self.evaluator.buffers();
        let mut batch = Batch::default();
        let mut first = 0;
        while first < total {
            let end = (first + chunk).min(total);
            let points;
            match &self.source {
                Source::Test(_) if made => {}
                Source::Test(sampler) => sampler.sample_rows(0, first..end, &mut batch),
                Source::Data(table) => {
                    batch.points = cast(&table.points[first * self.columns..end * self.columns]);
                    batch.data = cast(&table.values[first * data_width..end * data_width]);
                }
                Source::Point(p) => batch.points = cast(p),
            }
            let rows = match &self.source {
                Source::Test(sampler) if made => {
                    let keep = (end - first) * self.columns * size_of::<T>() <= KEEP;
                    let keep = keep.then(Vec::new);
                    points = sampler.points(0, first..end, keep);
                    Points::Made(&points)
                }
                _ => Points::Rows(&batch.points),
            };
            let inputs = (end - first, rows, batch.data.as_slice());
            self.evaluator.run_streamed(parameters, inputs, (self.seed, 0), &mut outputs, &mut gradients)?;
            f(&outputs[0]);
            first = end;
        }
        Ok(())
    }

    /// The error of the best constant network: weights 0, last biases c, where the expression is affine in c; by the
    /// normal equations of |u_0 + sum c_k u_k - exact|^2.
    fn best_constant(&self, parameters: &Tensors<'_, T>) -> Result<Option<f64>, Error> {
        // Weights of layers are left out, which means zero; everything else of a network is zero but for one bias.
        let mut still = parameters.clone();
        let mut biases: Vec<Vec<T>> = vec![Vec::new(); still.specs.len()];
        let mut outputs = Vec::new();
        for (k, spec) in parameters.specs.iter().enumerate() {
            let last = |net: crate::program::NetId, layer: Option<usize>| {
                let layers = parameters.specs.iter().filter_map(|s| match s.role {
                    Role::Bias { net: n, layer } if n == net => layer,
                    _ => None,
                });
                layers.max() == layer
            };
            match spec.role {
                Role::Bias { net, layer } => {
                    if last(net, layer) {
                        outputs.extend((0..spec.len()).map(|i| (k, i)));
                    }
                    biases[k].resize(spec.len(), T::of(0.0));
                }
                Role::Weight { layer: Some(_), .. } => still.values[k] = &[],
                Role::Weight { layer: None, .. } => biases[k].resize(spec.len(), T::of(0.0)),
                Role::Param(_) | Role::Coef(_) => {}
            }
        }
        if outputs.is_empty() || outputs.len() > MAX_CONSTANTS {
            return Ok(None);
        }
        let m = outputs.len();
        let width = self.width;
        // columns: u_0, then u at each unit constant, then u at twice the first (a check that u is affine)
        let mut columns: Vec<Vec<f64>> = vec![Vec::new(); m + 2];
        let mut exact = Vec::new();
        for (k, column) in columns.iter_mut().enumerate() {
            let (position, value) = if k <= m { (k.checked_sub(1), 1.0) } else { (Some(0), 2.0) };
            if let Some((tensor, i)) = position.map(|p| outputs[p]) {
                biases[tensor][i] = T::of(value);
            }
            let mut now = still.clone();
            biases.iter().enumerate().filter(|b| !b.1.is_empty()).for_each(|(k, b)| now.values[k] = b);
            self.chunks(&now, &mut |values| {
                for point in values.chunks(2 * width) {
                    column.extend(point[..width].iter().map(|v| v.f64()));
                    if k == 0 {
                        exact.extend(point[width..].iter().map(|v| v.f64()));
                    }
                }
            })?;
            if let Some((tensor, i)) = position.map(|p| outputs[p]) {
                biases[tensor][i] = T::of(0.0);
            }
        }
        let size = exact.iter().map(|e| e.abs()).fold(0.0, f64::max);
        let affine = (0..exact.len()).all(|p| {
            let (zero, one, two) = (columns[0][p], columns[1][p], columns[m + 1][p]);
            (two - 2.0 * one + zero).abs() <= 1e-4 * (size + one.abs() + zero.abs())
        });
        if !affine {
            return Ok(None);
        }
        let slope = |k: usize, p: usize| columns[k + 1][p] - columns[0][p];
        let rest = |p: usize| exact[p] - columns[0][p];
        let mut matrix = vec![vec![0.0; m + 1]; m];
        for p in 0..exact.len() {
            for (i, row) in matrix.iter_mut().enumerate() {
                for (j, entry) in row.iter_mut().enumerate() {
                    *entry += slope(i, p) * if j < m { slope(j, p) } else { rest(p) };
                }
            }
        }
        let c = solve(matrix);
        let error: f64 =
            (0..exact.len()).map(|p| (rest(p) - (0..m).map(|k| c[k] * slope(k, p)).sum::<f64>()).powi(2)).sum();
        let norm: f64 = exact.iter().map(|e| e * e).sum();
        Ok(Some((error / norm).sqrt()))
    }
}

/// A small symmetric system [matrix | right side] by elimination; unknowns that do not matter are 0.
fn solve(mut a: Vec<Vec<f64>>) -> Vec<f64> {
    let m = a.len();
    let scale = (0..m).map(|k| a[k][k].abs()).fold(0.0, f64::max);
    let mut pivots = Vec::new();
    for k in 0..m {
        if a[k][k].abs() <= 1e-12 * scale {
            continue;
        }
        pivots.push(k);
        for i in 0..m {
            if i != k {
                let factor = a[i][k] / a[k][k];
                let row = a[k].clone();
                a[i].iter_mut().zip(row).for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
    (0..m).map(|k| if pivots.contains(&k) { a[k][m] / a[k][k] } else { 0.0 }).collect()
}

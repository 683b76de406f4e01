//! The variance of estimators, measured: residuals are evaluated with many draws at the same points.
//!
//! The variance of a residual is that of one estimate, summed over the residual's components and averaged over points.
//! Since the error of a mean over n estimates is variance/n and their cost n times that of one, methods are compared by
//! variance times work.

use super::evaluator::{Error, Evaluator};
use super::objective::load_data;
use crate::jet::Op;
use crate::net::{Parameters, Philox, Purpose};
use crate::plan::{Options, PointSet, plan_condition, plan_outputs};
use crate::program::{Estimate, EstimateTarget, Method, Program, Region};
use crate::train::{Batch, Sampler};
use std::path::Path;

/// Points, and draws at each, where the numbers of one evaluation fit.
const POINTS: usize = 64;
const DRAWS: usize = 64;
/// Numbers that the points of an evaluation may take.
const MOST: usize = 1 << 22;
/// Operations of one method's measurement, about; there are at least 8 points and 8 draws.
const WORK: f64 = 2e10;
/// Samples of the alternatives, where the program names no number.
const SAMPLES: usize = 16;

/// The methods for one condition, or for the outputs.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The condition, or `outputs`.
    pub name: String,
    /// How many points.
    pub points: usize,
    /// Draws at each, at most.
    pub draws: usize,
    /// As the program says first, then alternatives.
    pub methods: Vec<(String, Result<Measured, String>)>,
}

/// One method.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Rows of the largest algebra.
    pub rows: usize,
    /// Of the residual; 0 for an exact one.
    pub variance: f64,
    /// Mean over points of the square of the mean over draws; not a number where nothing is drawn.
    pub mean_square: f64,
    /// Operations per step and point, gradient included where there is one.
    pub flops: f64,
}

/// Compares methods for every condition that holds an estimate, or could.
///
/// # Errors
/// Where the program as it is cannot be planned or run. An alternative that cannot is listed with its reason.
pub fn variances(
    program: &Program,
    parameters: &Parameters<f64>,
    folder: &Path,
    seed: u64,
) -> Result<Vec<Comparison>, Error> {
    let mut out = Vec::new();
    if !program.outputs.is_empty() {
        out.extend(compare(program, parameters, None, folder, seed)?);
    }
    for k in 0..program.conditions.len() {
        out.extend(compare(program, parameters, Some(k), folder, seed)?);
    }
    Ok(out)
}

fn compare(
    program: &Program,
    parameters: &Parameters<f64>,
    condition: Option<usize>,
    folder: &Path,
    seed: u64,
) -> Result<Option<Comparison>, Error> {
    let planned = |program: &Program| match condition {
        Some(k) => plan_condition(program, k, Options::default()),
        None => plan_outputs(program, Options::default()),
    };
    let set = planned(program)?;
    let count = condition.map_or(POINTS, |k| program.conditions[k].count).clamp(1, POINTS);
    let affordable = (WORK / DRAWS as f64 / set.cost.flops_per_point.max(1.0)) as usize;
    let count = count.min(MOST / program.columns().max(1)).min(affordable.max(8)).max(1);
    let draws = DRAWS;
    let batch = points(program, &set, count, folder, seed)?;
    let count = batch.points.len().checked_div(program.columns()).unwrap_or(1);
    let run = |set: &PointSet| measure(set, parameters, &batch, (count, draws), seed);
    let first = run(&set)?;
    let methods = alternatives(program);
    let written = match program.estimates.iter().find(|e| concerns(e, condition)) {
        Some(e) => format!("{} (as written)", e.method),
        None => "as planned".to_string(),
    };
    let mut rows = vec![(written, Ok(first))];
    for method in methods {
        let planned = planned(&with(program, condition, method));
        let measured = match planned {
            Ok(set) => run(&set).map_err(|e| e.to_string()),
            Err(e) => Err(e.message),
        };
        rows.push((method.to_string(), measured));
    }
    let varies = rows.iter().any(|(_, m)| m.as_ref().is_ok_and(|m| m.variance > 0.0));
    Ok(varies.then_some(Comparison { name: set.name.clone(), points: count, draws, methods: rows }))
}

fn concerns(estimate: &Estimate, condition: Option<usize>) -> bool {
    match estimate.target {
        EstimateTarget::Expression(_) => true,
        EstimateTarget::Output(_) => condition.is_none(),
        EstimateTarget::Condition(k) => condition == Some(k),
    }
}

/// Every method, with the number of samples that the program uses.
fn alternatives(program: &Program) -> Vec<Method> {
    let samples = program.estimates.iter().find_map(|e| match e.method {
        Method::Sparse { k, .. } | Method::Importance { k } | Method::Rademacher { k } => Some(k),
        Method::Gaussian { k } | Method::Compressed { k: Some(k) } => Some(k),
        _ => None,
    });
    let k = samples.unwrap_or(SAMPLES).min(program.space_dimension().max(1));
    vec![
        Method::Exact,
        Method::Compressed { k: None },
        Method::Sparse { k, shared: false },
        Method::Importance { k },
        Method::Rademacher { k },
        Method::Gaussian { k },
        Method::Compressed { k: Some(k) },
    ]
}

/// The program with all estimates of a condition made by one method.
fn with(program: &Program, condition: Option<usize>, method: Method) -> Program {
    let mut program = program.clone();
    let mut found = false;
    for e in program.estimates.iter_mut().filter(|e| concerns(e, condition)) {
        e.method = method;
        e.unbiased = false;
        found = true;
    }
    if !found {
        let targets: Vec<EstimateTarget> = match condition {
            Some(k) => vec![EstimateTarget::Condition(k)],
            None => (0..program.outputs.len()).map(EstimateTarget::Output).collect(),
        };
        let estimate = |target| Estimate { target, method, unbiased: false, span: Default::default() };
        program.estimates.extend(targets.into_iter().map(estimate));
    }
    program
}

/// Points of the condition, or uniform in (-1, 1) for outputs.
fn points(program: &Program, set: &PointSet, count: usize, folder: &Path, seed: u64) -> Result<Batch<f64>, Error> {
    let mut batch = Batch::default();
    let Some(k) = set.condition else {
        let uniform = Philox::new(seed, Purpose::Test.stream(0), 0);
        batch.points = vec![0.0; count * program.columns()];
        uniform.fill_uniform(0, &mut batch.points);
        batch.points.iter_mut().for_each(|x| *x = 2.0 * *x - 1.0);
        return Ok(batch);
    };
    let table = match program.conditions[k].region {
        Region::Data(d) => Some(load_data(program, folder)?[d.index()].clone()),
        _ => None,
    };
    let mut sampler = Sampler::new(program, k, seed, table)?;
    if set.normals {
        sampler = sampler.with_normals();
    }
    sampler.sample_rows(0, 0..count.min(sampler.count()), &mut batch);
    Ok(batch)
}

fn measure(
    set: &PointSet,
    parameters: &Parameters<f64>,
    batch: &Batch<f64>,
    (count, draws): (usize, usize),
    seed: u64,
) -> Result<Measured, Error> {
    let rows = set.networks.iter().map(|n| n.rows).max().unwrap_or(1);
    let p = count as f64;
    let flops = set.cost.flops_per_point + set.cost.flops_per_step / p;
    if !set.program.ops.iter().any(Op::is_draw) {
        return Ok(Measured { rows, variance: 0.0, mean_square: f64::NAN, flops });
    }
    let evaluator = Evaluator::<f64>::new(&set.program)?;
    let data = if batch.normals.is_empty() { &batch.data } else { &batch.normals };
    let width = evaluator.width() / if set.is_unbiased { 2 } else { 1 };
    let mut sums = vec![[0.0; 2]; count * width];
    // deviations from the first draw: squares of large residuals would drown them
    let mut base: Vec<f64> = Vec::new();
    let affordable = (WORK / p / set.cost.flops_per_point.max(1.0)) as usize;
    let draws = draws.min(affordable).max(8);
    for draw in 0..draws {
        let values = evaluator.run(parameters, count, &batch.points, data, seed, draw as u64)?;
        let values: Vec<f64> = values.chunks(evaluator.width().max(1)).flat_map(|v| v[..width].to_vec()).collect();
        if draw == 0 {
            base = values.clone();
        }
        for ((sum, v), b) in sums.iter_mut().zip(values).zip(&base) {
            sum[0] += v - b;
            sum[1] += (v - b) * (v - b);
        }
    }
    let n = draws as f64;
    let variance = sums.iter().map(|[s, q]| (q - s * s / n).max(0.0) / (n - 1.0)).sum::<f64>() / p;
    let mean_square = sums.iter().zip(&base).map(|([s, _], b)| (b + s / n).powi(2)).sum::<f64>() / p;
    // rounding is no variance
    let variance = if variance <= 1e-24 * mean_square { 0.0 } else { variance };
    Ok(Measured { rows, variance, mean_square, flops })
}

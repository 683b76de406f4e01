//! The program that runs against another way to the same numbers, in f64: values against the full multivariate jet
//! (up to [`FULL_JET`] coordinates; above, against every derivative by itself), gradients against central differences.

use super::evaluator::{Error, Evaluator};
use crate::diagnostic::Diagnostic;
use crate::jet::{JetProgram, Op, ValueId};
use crate::net::{Parameters, Philox, Purpose};
use crate::plan::{Algebras, Options, Plan, PointSet, plan};
use crate::program::{Domain, Program};

/// Most coordinates for which the full jet is compared.
pub const FULL_JET: usize = 10;
/// Random points per point set.
pub(super) const POINTS: usize = 8;
/// Elements of each tensor whose difference quotient is compared.
const ELEMENTS: usize = 6;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Point set.
    pub name: String,
    /// What was compared: `values against the full jet`, `gradient of N.0.weight`.
    pub what: String,
    /// Norm of the difference over the norm.
    pub relative: f64,
    /// Largest `relative` that passes.
    pub tolerance: f64,
}

impl Verification {
    /// Whether they agree.
    pub fn passed(&self) -> bool {
        self.relative <= self.tolerance
    }
}

/// Verifies all point sets at random points, for the given parameters. The outer errors are those of planning.
pub fn verify(
    program: &Program,
    parameters: &Parameters<f64>,
    seed: u64,
) -> Result<Result<Vec<Verification>, Error>, Vec<Diagnostic>> {
    let here = plan(program, Options::default())?;
    let full = program.columns() <= FULL_JET;
    let algebras = if full { Algebras::FullJet } else { Algebras::PerDerivative };
    let other = plan(program, Options { algebras, explain: false })?;
    Ok(compare(program, parameters, seed, &here, &other, full))
}

fn compare(
    program: &Program,
    parameters: &Parameters<f64>,
    seed: u64,
    here: &Plan,
    other: &Plan,
    full: bool,
) -> Result<Vec<Verification>, Error> {
    let mut out = Vec::new();
    for (k, (a, b)) in here.sets.iter().zip(&other.sets).enumerate() {
        let points = random_points(program, seed, k);
        let data = random_data(a.program.data_columns, seed, k);
        let x = Evaluator::new(&a.program)?.run(parameters, POINTS, &points, &data, seed, 0)?;
        let y = Evaluator::new(&b.program)?.run(parameters, POINTS, &points, &data, seed, 0)?;
        let what = if full { "values against the full jet" } else { "values against single derivatives" };
        out.push(Verification { name: a.name.clone(), what: what.into(), relative: relative(&x, &y), tolerance: 1e-9 });
        gradients(a, parameters, (&points, &data), seed, &mut out)?;
    }
    Ok(out)
}

pub(super) fn relative(a: &[f64], b: &[f64]) -> f64 {
    let difference: f64 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    let norm: f64 = b.iter().map(|y| y * y).sum();
    if difference == 0.0 { 0.0 } else { (difference / norm.max(f64::MIN_POSITIVE)).sqrt() }
}

/// The gradient of the loss against central differences, some elements of each tensor.
fn gradients(
    set: &PointSet,
    parameters: &Parameters<f64>,
    (points, data): (&[f64], &[f64]),
    seed: u64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let Some(training) = &set.training else { return Ok(()) };
    let evaluator = Evaluator::<f64>::new(training)?;
    let (mut outputs, mut gradients) = evaluator.buffers();
    let inputs = (POINTS, points, data);
    let random = (seed, 0);
    evaluator.run_into(parameters, inputs, random, &mut outputs, &mut gradients)?;
    let names: std::collections::BTreeSet<&str> =
        training.gradients.iter().map(|(t, _)| training.tensors[t.index()].name.as_str()).collect();
    for name in names {
        let len = parameters.get(name).map_or(0, <[f64]>::len);
        if moves(training, name) {
            continue;
        }
        let mut analytic = Vec::new();
        let mut quotient = Vec::new();
        for e in 0..ELEMENTS.min(len) {
            let at = e * len / ELEMENTS.min(len);
            let mine = training.gradients.iter().zip(&gradients);
            let mine = mine.filter(|((t, _), _)| training.tensors[t.index()].name == name);
            analytic.push(mine.map(|(_, g)| g[at]).sum::<f64>());
            let loss = |shift: f64| -> Result<f64, Error> {
                let mut moved = parameters.clone();
                let k = moved.position(name).ok_or_else(|| Error::Tensor(name.into()))?;
                moved.values_mut()[k][at] += shift;
                let (mut outputs, mut gradients) = evaluator.buffers();
                evaluator.run_into(&moved, inputs, random, &mut outputs, &mut gradients)?;
                Ok(outputs.last().map_or(0.0, |l| l[0]))
            };
            // fourth-order central difference
            let h = 1e-3 * (1.0 + parameters.get(name).map_or(0.0, |v| v[at].abs()));
            let near = loss(h)? - loss(-h)?;
            let far = loss(2.0 * h)? - loss(-2.0 * h)?;
            quotient.push((8.0 * near - far) / (12.0 * h));
        }
        let what = format!("gradient of {name} against differences");
        let relative = relative(&analytic, &quotient);
        out.push(Verification { name: set.name.clone(), what, relative, tolerance: 1e-5 });
    }
    Ok(())
}

/// Whether a tensor is a weight whose factor carries random directions. They are directions of the points that stay where
/// they are when the weight is differentiated; a difference quotient would turn them with the factor.
fn moves(program: &JetProgram, tensor: &str) -> bool {
    let carried = |op: &Op| match op {
        Op::Inject { factor, directions: Some(_), .. } => Some(*factor),
        _ => None,
    };
    let is_named = |factor: ValueId| match &program.ops[factor.index()] {
        Op::Factor { weight, .. } => program.tensors[weight.index()].name == tensor,
        _ => false,
    };
    program.ops.iter().filter_map(carried).any(is_named)
}

pub(super) fn random_points(program: &Program, seed: u64, set: usize) -> Vec<f64> {
    let random = Philox::new(seed, Purpose::Test.stream(set), 1);
    let mut out = Vec::new();
    for _ in 0..POINTS {
        for g in &program.groups {
            let (lo, hi) = match g.domain {
                Domain::Interval(lo, hi) => (lo, hi),
                Domain::Ball { radius, .. } => {
                    let r = radius / (g.len as f64).sqrt();
                    (-r, r)
                }
                Domain::Normal | Domain::Brownian { .. } | Domain::None => (-1.0, 1.0),
            };
            for _ in 0..g.len {
                out.push(lo + (hi - lo) * random.uniform(out.len() as u64));
            }
        }
    }
    out
}

pub(super) fn random_data(columns: usize, seed: u64, set: usize) -> Vec<f64> {
    let random = Philox::new(seed, Purpose::Test.stream(set), 2);
    (0..POINTS * columns).map(|k| random.uniform(k as u64)).collect()
}

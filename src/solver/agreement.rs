//! A device against the CPU: values, gradients and the losses of training steps, in both precisions.

use super::device::{DeviceStepper, on_device};
use super::evaluator::{Error, Evaluator};
use super::flow::agreement as flow;
use super::objective::SolverObjective;
use super::verify::{POINTS, Verification, random_data, random_points, relative};
use crate::cpu::Number;
use crate::cuda::{Device, Options, precision};
use crate::net::Parameters;
use crate::plan::{FlowPlan, Plan, PointSet};
use crate::program::Program;
use crate::train::{self, Silent, train, train_with};
use std::path::Path;

/// Training steps that are compared.
pub(super) const STEPS: usize = 10;

/// What is compared on a device, and where.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The device.
    pub device: &'a Device,
    /// The program.
    pub program: &'a Program,
    /// Its tensors; they are cast to f32 for the half in f32.
    pub parameters: &'a Parameters<f64>,
    /// Where its data files are.
    pub folder: &'a Path,
    /// Of random points and draws.
    pub seed: u64,
}

/// How a program is compiled.
#[derive(Clone, Copy, Debug)]
pub enum Planned<'a> {
    /// Outputs and conditions.
    Sets(&'a Plan),
    /// A flow.
    Flow(&'a FlowPlan),
}

/// Compares all point sets at random points, or a rollout from such points; and the first training steps.
///
/// # Errors
/// Where it cannot be evaluated, data is missing, or the device fails.
pub fn agreement(on: &Compared<'_>, planned: Planned<'_>) -> Result<Vec<Verification>, Error> {
    let mut out = Vec::new();
    in_precision::<f64>(on, planned, 1e-9, &mut out)?;
    in_precision::<f32>(on, planned, 1e-3, &mut out)?;
    Ok(out)
}

fn in_precision<T: Number>(
    on: &Compared<'_>,
    planned: Planned<'_>,
    tolerance: f64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    match planned {
        Planned::Sets(plan) => sets::<T>(on, plan, tolerance, out),
        Planned::Flow(plan) => flow::compare::<T>(on, plan, tolerance, out),
    }
}

impl Compared<'_> {
    /// A run of a few steps that writes nothing; none without a `train` statement.
    pub(super) fn options(&self) -> Option<train::Options> {
        let mut training = self.program.training.clone()?;
        training.steps = STEPS;
        let mut options = train::Options::new(training, "");
        (options.out, options.record_every, options.seed) = (None, Some(1), self.seed);
        Some(options)
    }
}

fn sets<T: Number>(on: &Compared<'_>, plan: &Plan, tolerance: f64, out: &mut Vec<Verification>) -> Result<(), Error> {
    let &Compared { device, program, parameters: exact, folder, seed } = on;
    let parameters = exact.cast::<T>();
    for (k, set) in plan.sets.iter().enumerate() {
        let points = random_points(program, seed, k);
        let data = random_data(set.program.data_columns, seed, k);
        values::<T>(device, set, (exact, &parameters), (&points, &data), seed, tolerance, out)?;
    }
    let trains = plan.sets.iter().any(|s| s.training.is_some());
    let Some(options) = on.options().filter(|_| trains) else { return Ok(()) };
    let mut objective = SolverObjective::new(program, plan, &parameters, folder, seed)?;
    let here = train(&mut objective, &mut parameters.clone(), &options, &mut Silent);
    let mut stepper = DeviceStepper::new(device, program, plan, &parameters, (folder, seed), &options.training)?;
    let there = train_with(&mut stepper, &mut parameters.clone(), &options, &mut Silent);
    out.push(training::<T>(there, here, tolerance));
    Ok(())
}

/// Compares the losses of two runs.
pub(super) fn training<T: Number>(
    there: Result<train::Outcome, train::Error>,
    here: Result<train::Outcome, train::Error>,
    tolerance: f64,
) -> Verification {
    let losses = |outcome: Result<train::Outcome, train::Error>| -> Vec<f64> {
        // a run that fails agrees with nothing
        outcome.ok().and_then(|o| o.history.column("loss")).unwrap_or_else(|| vec![f64::NAN; STEPS])
    };
    let what = format!("losses of {STEPS} steps in {}", T::NAME);
    Verification { name: "training".into(), what, relative: relative(&losses(there), &losses(here)), tolerance }
}

fn values<T: Number>(
    device: &Device,
    set: &PointSet,
    (exact, parameters): (&Parameters<f64>, &Parameters<T>),
    (points, data): (&[f64], &[f64]),
    seed: u64,
    tolerance: f64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let cast = |v: &[f64]| -> Vec<T> { v.iter().map(|x| T::of(*x)).collect() };
    let f64s = |v: &[Vec<T>]| -> Vec<f64> { v.iter().flatten().map(|x| x.f64()).collect() };
    let programs = [Some(&set.program), set.training.as_ref()].into_iter().flatten();
    for program in programs {
        let evaluator = Evaluator::<f64>::new(program)?;
        let (mut outputs, mut gradients) = evaluator.buffers();
        evaluator.run_into(exact, (POINTS, points, data), (seed, 0), &mut outputs, &mut gradients)?;
        let mut there = on_device(device, program, &Options::new(precision::<T>()), parameters, POINTS)?;
        let found = there.run(&cast(points), &cast(data), (seed, 0))?;
        let mut push = |what: &str, found: &[Vec<T>], truth: &[Vec<f64>]| {
            let what = format!("{what} in {}", T::NAME);
            let relative = relative(&f64s(found), &truth.concat());
            out.push(Verification { name: set.name.clone(), what, relative, tolerance });
        };
        if gradients.is_empty() {
            push("values", &found.0, &outputs);
        } else {
            push("gradients", &found.1, &gradients);
        }
    }
    Ok(())
}

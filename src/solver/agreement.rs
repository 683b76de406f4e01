//! A device against the CPU: values, gradients and the losses of training steps, in both precisions.

use super::device::{DeviceStepper, on_device};
use super::evaluator::{Error, Evaluator};
use super::objective::SolverObjective;
use super::verify::{POINTS, Verification, random_data, random_points, relative};
use crate::cpu::Number;
use crate::cuda::{Device, Options, precision};
use crate::net::Parameters;
use crate::plan::{Plan, PointSet};
use crate::program::Program;
use crate::train::{self, Silent, train, train_with};
use std::path::Path;

/// Training steps that are compared.
const STEPS: usize = 10;

/// Compares all point sets at random points, and the first training steps. `parameters` are cast to f32 for the half in f32.
///
/// # Errors
/// Where a set cannot be evaluated, or the device fails.
pub fn agreement(
    device: &Device,
    program: &Program,
    plan: &Plan,
    parameters: &Parameters<f64>,
    place: (&Path, u64),
) -> Result<Vec<Verification>, Error> {
    let mut out = Vec::new();
    in_precision::<f64>(device, program, plan, parameters, place, 1e-9, &mut out)?;
    in_precision::<f32>(device, program, plan, parameters, place, 1e-3, &mut out)?;
    Ok(out)
}

fn in_precision<T: Number>(
    device: &Device,
    program: &Program,
    plan: &Plan,
    exact: &Parameters<f64>,
    (folder, seed): (&Path, u64),
    tolerance: f64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let parameters = exact.cast::<T>();
    for (k, set) in plan.sets.iter().enumerate() {
        let points = random_points(program, seed, k);
        let data = random_data(set.program.data_columns, seed, k);
        values::<T>(device, set, (exact, &parameters), (&points, &data), seed, tolerance, out)?;
    }
    let Some(mut training) = program.training.clone() else { return Ok(()) };
    if plan.sets.iter().all(|s| s.training.is_none()) {
        return Ok(());
    }
    training.steps = STEPS;
    let mut options = train::Options::new(training.clone(), "");
    (options.out, options.record_every, options.seed) = (None, Some(1), seed);
    let mut objective = SolverObjective::new(program, plan, &parameters, folder, seed)?;
    let here = train(&mut objective, &mut parameters.clone(), &options, &mut Silent);
    let mut stepper = DeviceStepper::new(device, program, plan, &parameters, (folder, seed), &training)?;
    let there = train_with(&mut stepper, &mut parameters.clone(), &options, &mut Silent);
    out.push(losses_agree::<T>(there, here, STEPS, tolerance));
    Ok(())
}

/// Compares the losses of two runs of so many steps.
pub(super) fn losses_agree<T: Number>(
    there: Result<train::Outcome, train::Error>,
    here: Result<train::Outcome, train::Error>,
    steps: usize,
    tolerance: f64,
) -> Verification {
    let losses = |outcome: Result<train::Outcome, train::Error>| -> Vec<f64> {
        // a run that fails agrees with nothing
        outcome.ok().and_then(|o| o.history.column("loss")).unwrap_or_else(|| vec![f64::NAN; steps])
    };
    let what = format!("losses of {steps} steps in {}", T::NAME);
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

//! A device against the CPU, for a flow: rollouts, and the losses of training steps, in both precisions.

use super::objective::FlowObjective;
use super::runner::{Interval, Runner};
use super::verify::random_start;
use crate::cuda::Device;
use crate::net::Parameters;
use crate::plan::FlowPlan;
use crate::program::Program;
use crate::solver::agreement::losses_agree;
use crate::solver::verify::relative;
use crate::solver::{DeviceStepper, Error, Number, Tensors, Verification};
use crate::train::{self, Objective, Silent, train, train_with};
use std::path::Path;

/// Steps of a rollout that is compared, and of training.
const STEPS: usize = 10;
/// The time of a rollout whose flow does not say how long a step is.
const TIME: f64 = 0.5;

/// Compares a rollout from random points and the first training steps, where the device takes them. `parameters` are cast to f32 for
/// the half in f32.
///
/// # Errors
/// Where data is missing, or the device fails.
pub fn flow_agreement(
    device: &Device,
    program: &Program,
    plan: &FlowPlan,
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
    plan: &FlowPlan,
    exact: &Parameters<f64>,
    (folder, seed): (&Path, u64),
    tolerance: f64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let parameters = exact.cast::<T>();
    let runner = Runner::<T>::new(program, plan.clone())?;
    let start = random_start(program, seed);
    let count = start.len() / program.columns().max(1);
    let time = program.flow.as_ref().and_then(|f| f.step).map_or(TIME, |step| step * STEPS as f64);
    let mut there = start.clone();
    if let Some(rolled) = runner.roll(device, &parameters, &mut there, time, seed) {
        let lengths = vec![time; count];
        let (mut here, interval) = (start, Interval { inputs: &[], lengths: &lengths });
        let end = runner.advance(&Tensors::of(&parameters), &mut here, interval, None, (seed, 0))?;
        // both stop, or neither
        let relative = if rolled?.is_ok() == end.is_ok() { relative(&there, &here) } else { f64::INFINITY };
        let what = format!("states after {time} in {}", T::NAME);
        out.push(Verification { name: "rollout".into(), what, relative, tolerance });
    }
    let (Some(mut training), true) = (program.training.clone(), program.fit.is_some()) else { return Ok(()) };
    training.steps = STEPS;
    let mut options = train::Options::new(training.clone(), "");
    (options.out, options.record_every, options.seed) = (None, Some(1), seed);
    let mut objective = FlowObjective::new(program, plan.clone(), &parameters, folder, training.batch, seed)?;
    let Ok(condition) = objective.on_device() else { return Ok(()) };
    let there = {
        let reports = (objective.reports(), objective.measures());
        let mut stepper = DeviceStepper::on(device, vec![condition], &parameters, (&training, seed), reports)?;
        train_with(&mut stepper, &mut parameters.clone(), &options, &mut Silent)
    };
    let here = train(&mut objective, &mut parameters.clone(), &options, &mut Silent);
    out.push(losses_agree::<T>(there, here, STEPS, tolerance));
    Ok(())
}

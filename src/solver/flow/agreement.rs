//! A device against the CPU, for a flow: rollouts, and the losses of training steps.

use super::objective::FlowObjective;
use super::runner::{Interval, Runner};
use super::verify::{random_inputs, random_start};
use crate::plan::FlowPlan;
use crate::solver::agreement::{Compared, STEPS, training};
use crate::solver::verify::relative;
use crate::solver::{Error, Number, Tensors, Verification};
use crate::train::{Silent, train, train_with};

/// The time of a rollout whose flow does not say how long a step is.
const TIME: f64 = 0.5;

/// Compares a rollout from random points, and the first training steps.
pub fn compare<T: Number>(
    on: &Compared<'_>,
    plan: &FlowPlan,
    tolerance: f64,
    out: &mut Vec<Verification>,
) -> Result<(), Error> {
    let (program, seed, parameters) = (on.program, on.seed, on.parameters.cast::<T>());
    let (here, there) = (Runner::<T>::new(program, plan.clone())?, Runner::<T>::on(on.device, program, plan.clone())?);
    let start = random_start(program, seed);
    let count = start.len() / program.columns().max(1);
    let time = program.flow.as_ref().and_then(|f| f.step).map_or(TIME, |step| step * STEPS as f64);
    let (lengths, inputs) = (vec![time; count], random_inputs(plan, seed));
    let interval = Interval { inputs: &inputs, lengths: &lengths };
    let mut ends = Vec::new();
    for runner in [&there, &here] {
        let mut points = start.clone();
        let end = runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (seed, 0))?;
        ends.push((points, end.is_ok()));
    }
    // both stop, or neither
    let relative = if ends[0].1 == ends[1].1 { relative(&ends[0].0, &ends[1].0) } else { f64::INFINITY };
    let what = format!("states after {time} in {}", T::NAME);
    out.push(Verification { name: "rollout".into(), what, relative, tolerance });
    let (Some(options), true) = (on.options(), program.fit.is_some()) else { return Ok(()) };
    let batch = options.training.batch;
    let make = || FlowObjective::new(program, plan.clone(), &parameters, on.folder, batch, seed);
    let (mut objective, mut own) = (make()?, make()?);
    let mut stepper = objective.stepper(on.device, &parameters, &options.training)?;
    let there = train_with(&mut *stepper, &mut parameters.clone(), &options, &mut Silent);
    let here = train(&mut own, &mut parameters.clone(), &options, &mut Silent);
    out.push(training::<T>(there, here, tolerance));
    Ok(())
}

//! Rollouts on a device that runs CUDA modules.

use super::runner::{Runner, cast};
use crate::cuda::{self, Device, OnDevice, Options, precision};
use crate::net::Parameters;
use crate::plan::FlowPlan;
use crate::program::Flow;
use crate::solver::{Error, Number, Tensors};

/// How a device takes steps of a flow; none where their length is chosen on the way, or inputs change.
pub fn steps_of(flow: &Flow, plan: &FlowPlan) -> Option<cuda::Rollout> {
    let is_fixed = !plan.has_error_control && flow.tolerance.is_none() && plan.inputs.is_none();
    is_fixed.then_some(cuda::Rollout { state: plan.state, time: plan.time, length: plan.step.data_columns - 1 })
}

impl<T: Number> Runner<T> {
    /// Moves points, [count, columns], over a time on a device, by one launch of one kernel. Gives, where a number was not finite,
    /// after which part of that time, at the point where it was first. None where a device does not take this flow's steps.
    ///
    /// # Errors
    /// Where the device refuses, or fails.
    pub fn roll(
        &self,
        device: &Device,
        parameters: &Parameters<T>,
        points: &mut [f64],
        time: f64,
        seed: u64,
    ) -> Option<Result<Option<f64>, Error>> {
        let rollout = steps_of(self.flow(), &self.plan)?;
        Some(self.rolled(rollout, device, parameters, points, (time, seed)))
    }

    fn rolled(
        &self,
        rollout: cuda::Rollout,
        device: &Device,
        parameters: &Parameters<T>,
        points: &mut [f64],
        (time, seed): (f64, u64),
    ) -> Result<Option<f64>, Error> {
        let count = points.len() / self.plan.step.columns.max(1);
        let steps = self.steps(time).unwrap_or(1);
        let options = Options::new(precision::<T>());
        let step = &self.plan.step;
        let tensors = Tensors::of(parameters).of_program(step)?;
        let mut there = OnDevice::load(device, &cuda::rollout(step, rollout, &options)?, &tensors, count)?;
        let data = vec![T::of(time / steps as f64); count];
        let (moved, left) = there.roll(&cast::<T>(points), &data, steps as u32, seed)?;
        points.iter_mut().zip(moved).for_each(|(p, x)| *p = x.f64());
        let first = left.into_iter().filter(|step| *step > 0).min();
        Ok(first.map(|step| f64::from(step) / steps as f64))
    }
}

//! Rollouts on a device that runs CUDA modules.

use super::control::{ARRIVED, Control, MOST, Stopped};
use super::runner::{Runner, cast};
use crate::cuda::{self, Device, OnDevice, Options, precision};
use crate::net::Parameters;
use crate::plan::FlowPlan;
use crate::program::Flow;
use crate::solver::{Error, Number, Tensors};

/// How a device takes steps of a flow; none where inputs change.
pub fn steps_of(flow: &Flow, plan: &FlowPlan) -> Option<cuda::Rollout> {
    let control = Control::of(flow, plan).map(|c| cuda::Tolerance {
        relative: c.rtol,
        absolute: c.atol,
        exponent: c.exponent,
        longest: c.longest,
    });
    let length = plan.step.data_columns - 1;
    plan.inputs.is_none().then_some(cuda::Rollout { state: plan.state, time: plan.time, length, control })
}

impl<T: Number> Runner<T> {
    /// Moves points, [count, columns], over a time on a device, by one launch of one kernel. None where a device does not take this
    /// flow's steps.
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
    ) -> Option<Result<Result<(), Stopped>, Error>> {
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
    ) -> Result<Result<(), Stopped>, Error> {
        let count = points.len() / self.plan.step.columns.max(1);
        let options = Options::new(precision::<T>());
        let step = &self.plan.step;
        let tensors = Tensors::of(parameters).of_program(step)?;
        let mut there = OnDevice::load(device, &cuda::rollout(step, rollout, &options)?, &tensors, count)?;
        let control = Control::of(self.flow(), &self.plan);
        let (first, steps) = match control {
            Some(control) => (control.first(time), MOST),
            None => {
                let steps = self.steps(time).unwrap_or(1);
                (1.0 / steps as f64, steps)
            }
        };
        let clock = |point: &[f64]| [0.0, first, time, 0.0, rollout.time.map_or(0.0, |t| point[t])];
        let clocks: Vec<f64> = match control {
            Some(_) => points.chunks(step.columns.max(1)).flat_map(clock).collect(),
            None => Vec::new(),
        };
        let data = vec![T::of(time * first); count];
        let rolled = there.roll(&cast::<T>(points), &data, &clocks, steps as u32, seed)?;
        points.iter_mut().zip(rolled.points).for_each(|(p, x)| *p = x.f64());
        if control.is_none() {
            self.count(self.plan.evaluations * steps);
            let left = rolled.left.iter().enumerate().filter(|(_, step)| **step > 0);
            let first = left.min_by_key(|(_, step)| **step);
            let why = |(point, step): (usize, &u32)| Stopped::NotFinite { at: f64::from(*step) / steps as f64, point };
            return Ok(first.map_or(Ok(()), |first| Err(why(first))));
        }
        let clocks = rolled.clocks.as_chunks::<{ cuda::CLOCK }>().0;
        let tries: f64 = clocks.iter().map(|c| c[3]).sum();
        self.count(self.plan.evaluations * (tries / count.max(1) as f64).ceil() as usize);
        let stopped = clocks.iter().zip(&rolled.left).enumerate().find_map(|(point, ([at, ..], left))| match left {
            0 if *at >= 1.0 - ARRIVED => None,
            1 => Some(Stopped::NotFinite { at: *at, point }),
            _ => Some(Stopped::TooSmall { at: *at, point }),
        });
        Ok(stopped.map_or(Ok(()), Err))
    }
}

//! Rollouts on a device: many trajectories over an interval by one launch of one kernel.

use super::control::{ARRIVED, Control, MOST, Stopped};
use super::runner::{Interval, Runner, cast};
use crate::cuda::{self, CLOCK, Device, Options, precision};
use crate::plan::FlowPlan;
use crate::program::Flow;
use crate::solver::placed::{Resident, filled};
use crate::solver::{Error, Number, Tensors};

/// How a device takes steps of a flow.
pub fn steps_of(flow: &Flow, plan: &FlowPlan) -> cuda::Rollout {
    let control = Control::of(flow, plan).map(|c| cuda::Tolerance {
        relative: c.rtol,
        absolute: c.atol,
        exponent: c.exponent,
        longest: c.longest,
    });
    cuda::Rollout { state: plan.state, time: plan.time, length: plan.step.data_columns - 1, control }
}

/// The kernel of a flow's rollouts.
pub(super) struct Kernel<T> {
    resident: Resident<T>,
    control: Option<Control>,
}

impl<T: Number> Kernel<T> {
    /// It is compiled when it is called first.
    pub fn new(device: &Device, flow: &Flow, plan: &FlowPlan) -> Result<Self, Error> {
        let options = Options::new(precision::<T>());
        let module = cuda::rollout(&plan.step, steps_of(flow, plan), &options)?;
        Ok(Kernel { resident: Resident::new(device, module), control: Control::of(flow, plan) })
    }

    /// Moves points, [count, columns], over an interval.
    pub fn roll(
        &self,
        runner: &Runner<T>,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        let (plan, lengths) = (&runner.plan, interval.lengths);
        let longest = interval.longest();
        let steps = self.control.map_or_else(|| runner.steps(longest).unwrap_or(1), |_| MOST);
        let first = |length: f64| self.control.map_or(1.0 / steps as f64, |control| control.first(length));
        let count = lengths.len();
        let rows: Vec<usize> = (0..count).collect();
        let data = runner.data(interval, &rows, |k| lengths[k] * first(lengths[k]));
        let columns = plan.step.columns;
        let clock = |(length, point): (&f64, &[f64])| {
            let time = plan.time.map_or(0.0, |t| point[t]);
            [0.0, first(*length), *length, 0.0, time, 0.0, 0.0] as [f64; CLOCK]
        };
        let clocks: Vec<f64> = match self.control {
            Some(_) => lengths.iter().zip(points.chunks(columns.max(1))).flat_map(clock).collect(),
            None => Vec::new(),
        };
        let tensors = tensors.of_program(&plan.step)?;
        let rolled = self.resident.with(&tensors, count, |there, room| {
            let points = filled(&cast::<T>(points), columns, room);
            let data = filled(&data, plan.step.data_columns, room);
            let clocks = filled(&clocks, clocks.len() / count.max(1), room);
            there.roll(&points, &data, &clocks, steps as u32, random)
        })?;
        let rows = points.chunks_mut(columns.max(1)).zip(rolled.points.chunks(columns.max(1)));
        for ((point, moved), length) in rows.zip(lengths) {
            // the kernel adds up times in its own precision
            let time = plan.time.map(|t| (t, point[t] + length));
            point.iter_mut().zip(moved).for_each(|(p, x)| *p = x.f64());
            time.into_iter().for_each(|(t, time)| point[t] = time);
        }
        if self.control.is_none() {
            runner.count(plan.evaluations * steps);
            let left = rolled.left[..count].iter().enumerate().filter(|(_, step)| **step > 0);
            let first = left.min_by_key(|(_, step)| **step);
            let why = |(point, step): (usize, &u32)| Stopped::NotFinite { at: f64::from(*step) / steps as f64, point };
            return Ok(first.map_or(Ok(()), |first| Err(why(first))));
        }
        let clocks = &rolled.clocks.as_chunks::<CLOCK>().0[..count];
        let tries: f64 = clocks.iter().map(|c| c[3]).sum();
        runner.count((plan.evaluations * tries as usize).div_ceil(count.max(1)));
        let stopped = clocks.iter().zip(&rolled.left).enumerate().filter_map(|(point, ([at, ..], left))| match left {
            0 if *at >= 1.0 - ARRIVED => None,
            1 => Some(Stopped::NotFinite { at: *at, point }),
            _ => Some(Stopped::TooSmall { at: *at, point }),
        });
        // the one that came least far
        let first = stopped.min_by(|a, b| a.place().0.total_cmp(&b.place().0));
        Ok(first.map_or(Ok(()), Err))
    }
}

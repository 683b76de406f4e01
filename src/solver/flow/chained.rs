//! A step that begins with what the one before it has worked out at its end.

use super::tape::Values;
use crate::cpu::{Beside, Random};
use crate::cuda::Device;
use crate::jet::{Chain, JetProgram, Part};
use crate::solver::placed::Placed;
use crate::solver::{Error, Evaluator, Number, Tensors};
use std::mem::take;

/// Points of a call, and their data rows: [count, ..] each.
pub(super) type Inputs<'a, T> = (usize, &'a [T], &'a [T]);

/// A step whose length is chosen: by itself, and where it can be, behind another.
pub struct Stepping<T> {
    pub(super) alone: Placed<T>,
    pub(super) chained: Option<Chained<T>>,
}

/// A step behind another.
pub(super) struct Chained<T> {
    start: Evaluator<T>,
    step: Evaluator<T>,
    /// What is kept of a step, for the way back.
    kept: Vec<Part>,
}

/// What a step gives.
pub(super) struct Step<T> {
    /// The next states and the estimates: [count, 2n].
    pub out: Vec<T>,
    /// What is kept of what else it has worked out, by value; where it is chained, of that what it was not given.
    pub values: Values<T>,
    /// What the next step is given, where it is chained.
    pub ends: Values<T>,
}

impl<T: Number> Stepping<T> {
    /// On this CPU.
    pub fn here(step: &JetProgram, chain: Option<&Chain>) -> Result<Self, Error> {
        let chained = chain.map(Chained::new).transpose()?;
        Ok(Stepping { alone: Placed::Here(Evaluator::alone(step)?.into()), chained })
    }

    /// On a device.
    pub fn there(device: &Device, step: &JetProgram) -> Result<Self, Error> {
        Ok(Stepping { alone: Placed::there(device, step, step.data_columns)?, chained: None })
    }
}

impl<T: Number> Chained<T> {
    pub fn new(chain: &Chain) -> Result<Self, Error> {
        Ok(Chained {
            start: Evaluator::alone(&chain.start)?,
            step: Evaluator::alone(&chain.step)?,
            kept: chain.outputs.clone(),
        })
    }

    /// What the first step of some points is given.
    pub fn begin(
        &self,
        tensors: &Tensors<'_, T>,
        inputs: Inputs<'_, T>,
        (random, numbers): (Random, &[usize]),
    ) -> Result<Values<T>, Error> {
        let (mut outputs, mut gradients) = self.start.buffers();
        let beside = Beside { numbers, given: &[] };
        self.start.run_beside(tensors, inputs, beside, random, &mut outputs, &mut gradients)?;
        Ok(outputs)
    }

    /// A step. `room` is that of another, whose values are no longer needed.
    pub fn step(
        &self,
        tensors: &Tensors<'_, T>,
        inputs: Inputs<'_, T>,
        given: &[Vec<T>],
        (random, numbers): (Random, &[usize]),
        room: Values<T>,
    ) -> Result<Step<T>, Error> {
        let (mut values, mut gradients) = self.step.buffers();
        let own = values.len() - given.len();
        for (part, room) in self.kept.iter().zip(room) {
            match part {
                Part::Own(k) => values[*k] = room,
                Part::Given(k) => values[own + *k] = room,
            }
        }
        let given: Vec<&[T]> = given.iter().map(Vec::as_slice).collect();
        let beside = Beside { numbers, given: &given };
        self.step.run_beside(tensors, inputs, beside, random, &mut values, &mut gradients)?;
        let ends = values.split_off(own);
        let out = values.remove(0);
        Ok(Step { out, values, ends })
    }

    /// What is kept of a step, in the order in which the way back is given it.
    pub fn kept(&self, mut given: Values<T>, mut own: Values<T>) -> Values<T> {
        let part = |part: &Part| match part {
            // output 0 is the step
            Part::Own(k) => take(&mut own[*k - 1]),
            Part::Given(k) => take(&mut given[*k]),
        };
        self.kept.iter().map(part).collect()
    }
}

/// Copies some rows, of so many, from one value to another.
pub(super) fn copy_rows<T: Copy>(from: &[Vec<T>], to: &mut [Vec<T>], count: usize, rows: &[usize]) {
    for (from, to) in from.iter().zip(to) {
        let width = from.len() / count;
        rows.iter().map(|k| k * width..(k + 1) * width).for_each(|row| to[row.clone()].copy_from_slice(&from[row]));
    }
}

/// Keeps some rows, in ascending order, of so many.
pub(super) fn retain_rows<T: Copy>(values: &mut [Vec<T>], count: usize, rows: &[usize]) {
    for value in values {
        let width = value.len() / count;
        for (to, from) in rows.iter().enumerate() {
            value.copy_within(from * width..(from + 1) * width, to * width);
        }
        value.truncate(rows.len() * width);
    }
}

//! A program and where it runs: on this CPU, or on a device.

use super::evaluator::{Error, Evaluator, Tensors};
use crate::cpu::{Beside, Number, Random};
use crate::cuda::{self, Device, Module, OnDevice, Options, precision};
use crate::jet::{JetProgram, Type, ValueId};
use std::sync::{Mutex, PoisonError};

/// A program, ready to run.
pub enum Placed<T> {
    /// On this CPU.
    Here(Box<Evaluator<T>>),
    /// On a device.
    There(Box<There<T>>),
}

/// A program on a device. A call with fewer points than there is room for is filled up.
pub struct There<T> {
    program: JetProgram,
    /// By output: its numbers per point, where it is made for each point.
    widths: Vec<Option<usize>>,
    resident: Resident<T>,
    /// Data columns that points which fill up copy; the others are zero there. They are cotangents: such points add nothing.
    copied: usize,
}

impl<T: Number> Placed<T> {
    /// A program on a device, whose data columns from `copied` on are cotangents.
    ///
    /// # Errors
    /// Where the program breaks a rule of the representation.
    pub fn there(device: &Device, program: &JetProgram, copied: usize) -> Result<Self, Error> {
        let module = cuda::emit(program, &Options::new(precision::<T>()))?;
        let types = program.types()?;
        let width = |(_, value): &(String, ValueId)| match &types[value.index()] {
            Type::PerPoint { rows, features } => Some(rows * features),
            Type::Reduced { .. } => None,
        };
        let widths = program.outputs.iter().map(width).collect();
        let resident = Resident::new(device, module);
        Ok(Placed::There(There { program: program.clone(), widths, resident, copied }.into()))
    }

    /// The program that runs.
    pub fn program(&self) -> &JetProgram {
        match self {
            Placed::Here(evaluator) => evaluator.program(),
            Placed::There(there) => &there.program,
        }
    }

    /// Room for all outputs and gradients.
    pub fn buffers(&self) -> (Vec<Vec<T>>, Vec<Vec<T>>) {
        let program = self.program();
        (vec![Vec::new(); program.outputs.len()], vec![Vec::new(); program.gradients.len()])
    }

    /// All outputs and gradients; gradients are means over the `count` points. Draws are those of the points with these numbers from
    /// `random.first`, or where there are none, and on a device, of the first.
    ///
    /// # Errors
    /// Where a tensor is missing, a length is wrong, or the device refuses or fails.
    pub fn run(
        &self,
        tensors: &Tensors<'_, T>,
        (count, points, data): (usize, &[T], &[T]),
        (random, numbers): (Random, &[usize]),
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        let there = match self {
            Placed::Here(evaluator) => {
                let beside = Beside { given: &[], numbers };
                return evaluator.run_beside(tensors, (count, points, data), beside, random, outputs, gradients);
            }
            Placed::There(there) => there,
        };
        let tensors = tensors.of_program(&there.program)?;
        let (results, room) = there.resident.with(&tensors, count, |loaded, room| {
            let points = filled(points, there.program.columns, room);
            let (width, mut data) = (there.program.data_columns, filled(data, there.program.data_columns, room));
            for row in data.chunks_mut(width.max(1)).skip(count) {
                row[there.copied..].fill(T::of(0.0));
            }
            Ok((loaded.run(&points, &data, (random.seed, random.step))?, room))
        })?;
        for ((output, mut found), width) in outputs.iter_mut().zip(results.0).zip(&there.widths) {
            found.truncate(width.map_or(found.len(), |width| width * count));
            *output = found;
        }
        let share = T::of(room as f64 / count as f64);
        for (gradient, mut found) in gradients.iter_mut().zip(results.1) {
            found.iter_mut().for_each(|g| *g *= share);
            *gradient = found;
        }
        Ok(())
    }
}

/// A module that stays on a device between calls, with room for the most points that it was called with.
pub struct Resident<T> {
    device: Device,
    module: Module,
    loaded: Mutex<Option<Loaded<T>>>,
}

struct Loaded<T> {
    there: OnDevice<T>,
    room: usize,
    /// What was written last.
    tensors: Vec<Vec<T>>,
}

impl<T: Number> Resident<T> {
    /// Nothing is loaded before the first call.
    pub fn new(device: &Device, module: Module) -> Self {
        Resident { device: device.clone(), module, loaded: Mutex::new(None) }
    }

    /// Calls `work` with the module where it has room for `count` points, and these tensors; and how many it has room for.
    ///
    /// # Errors
    /// Where the device refuses or fails.
    pub fn with<R>(
        &self,
        tensors: &[&[T]],
        count: usize,
        work: impl FnOnce(&mut OnDevice<T>, usize) -> Result<R, cuda::Error>,
    ) -> Result<R, Error> {
        // after a panic elsewhere the module is still whole: everything is written before a call
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = loaded.take().filter(|l| l.room >= count);
        let mut now = match kept {
            Some(mut kept) => {
                if !kept.tensors.iter().zip(tensors).all(|(a, b)| a == b) {
                    kept.there.write_tensors(tensors)?;
                    kept.tensors = tensors.iter().map(|t| t.to_vec()).collect();
                }
                kept
            }
            None => Loaded {
                there: OnDevice::load(&self.device, &self.module, tensors, count)?,
                room: count,
                tensors: tensors.iter().map(|t| t.to_vec()).collect(),
            },
        };
        let done = work(&mut now.there, now.room)?;
        *loaded = Some(now);
        Ok(done)
    }
}

/// Rows of so many columns, and copies of the first of them up to `room` rows.
pub fn filled<N: Copy>(rows: &[N], columns: usize, room: usize) -> Vec<N> {
    let mut out = rows.to_vec();
    while out.len() < columns * room {
        out.extend_from_within(..columns);
    }
    out
}

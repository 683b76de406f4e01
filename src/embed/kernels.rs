//! A program on a device that runs kernels, for any number of points, from several threads.

use super::Error;
use crate::cpu::{Call, Number};
use crate::cuda::{self, Module, OnDevice, precision};
use crate::device::Device;
use crate::jet::{JetProgram, Type};
use std::fmt;
use std::sync::{Mutex, PoisonError};

/// Fewest points that memory is made for.
const FEWEST: usize = 32;
/// For how many numbers of points memory is held.
const HELD: usize = 3;

/// A device that was looked for and found.
#[derive(Clone, Debug)]
pub struct Opened(cuda::Device);

impl Opened {
    /// The device that is asked for. An explicit device never falls back to another one.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn new(device: Device) -> Result<Self, Error> {
        let failed = |e: cuda::Error| Error::Device { name: device.to_string(), source: e.into() };
        Ok(Opened(cuda::Device::open(device).map_err(failed)?))
    }

    /// The CPU.
    pub fn cpu() -> Self {
        Opened(cuda::Device::Cpu { why: None })
    }

    /// The device, as the rooms below know it.
    #[cfg(feature = "compiler")]
    pub fn device(&self) -> &cuda::Device {
        &self.0
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kernels of a program. Memory is made for powers of two of points; calls wait for one another.
pub struct Kernels<T> {
    device: Opened,
    module: Module,
    /// By output: whether it has a value for each point.
    per_point: Vec<bool>,
    loaded: Mutex<Vec<(usize, OnDevice<T>)>>,
}

impl<T> fmt::Debug for Kernels<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("device", &self.device).field("module", &self.module.name).finish()
    }
}

impl<T: Number> Kernels<T> {
    /// Those of a program; none where the device is the CPU.
    ///
    /// # Errors
    /// [`Error::Device`] where the program has something that kernels do not have.
    pub fn of(device: &Opened, program: &JetProgram) -> Result<Option<Self>, Error> {
        if !device.0.runs_modules() {
            return Ok(None);
        }
        let failed = |e: crate::jet::Invalid| Error::Device { name: device.to_string(), source: e.into() };
        let module = cuda::emit(program, &cuda::Options::new(precision::<T>())).map_err(failed)?;
        let types = program.types()?;
        let per_point = program.outputs.iter().map(|o| matches!(types[o.1.index()], Type::PerPoint { .. })).collect();
        Ok(Some(Kernels { device: device.clone(), module, per_point, loaded: Mutex::default() }))
    }

    /// All outputs and gradients of a call at points, row by row, as the CPU gives them.
    ///
    /// # Errors
    /// [`Error::Device`] where the device refuses, or fails.
    pub fn run(
        &self,
        points: &[T],
        call: &Call<'_, T>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        let failed = |e: cuda::Error| Error::Device { name: self.device.to_string(), source: e.into() };
        let (mut outs, mut grads) = self.on_device(points, call).map_err(failed)?;
        let capacity = capacity(call.count);
        for (values, _) in outs.iter_mut().zip(&self.per_point).filter(|(_, p)| **p) {
            values.truncate(values.len() / capacity * call.count);
        }
        // means over all points that there is room for, where those that were not asked for have no cotangent
        let scale = T::of(capacity as f64 / call.count as f64);
        grads.iter_mut().flatten().for_each(|g| *g *= scale);
        outputs.iter_mut().zip(outs).for_each(|(to, from)| *to = from);
        gradients.iter_mut().zip(grads).for_each(|(to, from)| *to = from);
        Ok(())
    }

    fn on_device(&self, rows: &[T], call: &Call<'_, T>) -> Result<cuda::Results<T>, cuda::Error> {
        let (count, capacity) = (call.count, capacity(call.count));
        // the room that is left holds the last point again, with no cotangent
        let mut points = rows.to_vec();
        points.extend(rows[rows.len() - rows.len() / count..].repeat(capacity - count));
        let mut data = call.data.to_vec();
        data.resize(data.len() / count * capacity, T::of(0.0));
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, mut program) = match loaded.iter().position(|(c, _)| *c == capacity) {
            Some(k) => {
                let mut found = loaded.remove(k);
                found.1.write_tensors(call.tensors)?;
                found
            }
            None => (capacity, OnDevice::load(&self.device.0, &self.module, call.tensors, capacity)?),
        };
        let results = program.run(&points, &data, (call.random.seed, call.random.step));
        if loaded.len() >= HELD {
            loaded.remove(0);
        }
        loaded.push((capacity, program));
        results
    }
}

fn capacity(count: usize) -> usize {
    count.next_power_of_two().max(FEWEST)
}

//! A program on a device: its tensors, points and results.

use super::device::Device;
use super::error::Error;
use super::module::{BufferId, Module, Precision, Role};
use super::runner::{self, Runner};
use crate::cpu::Number;
use std::marker::PhantomData;

/// How a device computes what the CPU computes in this precision: as accurately.
pub fn precision<T: Number>() -> Precision {
    match T::NAME {
        "f64" => Precision::Fp64,
        _ => Precision::Tf32x3,
    }
}

/// What a checkpoint says of the numbers of a run on a device.
pub fn arithmetic<T: Number>() -> String {
    format!("{} by CUDA kernels", T::NAME)
}

/// All outputs and all gradients of a program.
pub type Results<T> = (Vec<Vec<T>>, Vec<Vec<T>>);

/// A program on a device, with memory for a number of points.
pub struct OnDevice<T> {
    runner: Box<dyn Runner>,
    real: PhantomData<T>,
}

impl<T: Number> OnDevice<T> {
    /// Loads the module of a program, with memory for so many points, and writes its tensors, in the program's order.
    ///
    /// # Errors
    /// Where there are too few tensors, a length is wrong, or the device refuses.
    pub fn load(device: &Device, module: &Module, tensors: &[&[T]], count: usize) -> Result<Self, Error> {
        let count = u32::try_from(count).map_err(|_| Error::Driver {
            what: format!("{count} points"),
            reason: format!("a device takes at most {} at a time", u32::MAX),
        })?;
        let mut loaded = OnDevice { runner: device.load(module, count)?, real: PhantomData };
        loaded.write_tensors(tensors)?;
        Ok(loaded)
    }

    /// Writes the tensors, in the program's order.
    ///
    /// # Errors
    /// As [`OnDevice::load`].
    pub fn write_tensors(&mut self, tensors: &[&[T]]) -> Result<(), Error> {
        for (id, role) in roles(self.runner.module()) {
            if let Role::Tensor(k) = role {
                let module = &self.runner.module().name;
                let missing =
                    || Error::Module { module: module.clone(), what: format!("tensor {k} among those given") };
                let values = tensors.get(k as usize).ok_or_else(missing)?;
                runner::upload(&mut *self.runner, id, values)?;
            }
        }
        Ok(())
    }

    /// What runs.
    pub fn runner(&mut self) -> &mut dyn Runner {
        &mut *self.runner
    }

    /// Writes points [count, columns], data [count, data columns], seed and step.
    ///
    /// # Errors
    /// Where a length is wrong, or the device fails.
    pub fn write(&mut self, points: &[T], data: &[T], (seed, step): (u64, u64)) -> Result<(), Error> {
        for (id, role) in roles(self.runner.module()) {
            match role {
                Role::Points => runner::upload(&mut *self.runner, id, points)?,
                Role::Data => runner::upload(&mut *self.runner, id, data)?,
                Role::State => runner::upload_words(&mut *self.runner, id, &[seed, step])?,
                _ => {}
            }
        }
        self.runner.start()
    }

    /// Takes points, [count, columns], through so many steps of a rollout, or with control through as many as they need, up to that.
    ///
    /// # Errors
    /// Where a length is wrong, or the device fails.
    pub fn roll(
        &mut self,
        points: &[T],
        data: &[T],
        clocks: &[f64],
        steps: u32,
        random: (u64, u64),
    ) -> Result<Rolled<T>, Error> {
        let count = self.runner.bound().count as usize;
        for (id, role) in roles(self.runner.module()) {
            match role {
                Role::Steps => runner::upload_words(&mut *self.runner, id, &[steps.into()])?,
                Role::Left => runner::upload_words(&mut *self.runner, id, &vec![0; count])?,
                Role::Clocks => runner::upload(&mut *self.runner, id, clocks)?,
                _ => {}
            }
        }
        self.write(points, data, random)?;
        self.runner.call(1)?;
        let missing = |what: &str| Error::Module { module: String::new(), what: what.into() };
        let module = self.runner.module();
        let points = runner::buffer(module, Role::Points).ok_or_else(|| missing("points"))?;
        let left = runner::buffer(module, Role::Left).ok_or_else(|| missing("left"))?;
        let clocks = runner::buffer(module, Role::Clocks);
        let mut bytes = vec![0; 4 * count];
        self.runner.download(left, &mut bytes)?;
        let left = bytes.as_chunks().0.iter().map(|b| u32::from_ne_bytes(*b)).collect();
        let clocks = match clocks {
            Some(id) => runner::download(&mut *self.runner, id)?,
            None => Vec::new(),
        };
        Ok(Rolled { points: runner::download(&mut *self.runner, points)?, left, clocks })
    }

    /// Runs once; all outputs and gradients.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn run(&mut self, points: &[T], data: &[T], random: (u64, u64)) -> Result<Results<T>, Error> {
        self.write(points, data, random)?;
        self.runner.call(1)?;
        let all = roles(self.runner.module());
        let mut get = |wanted: &dyn Fn(Role) -> Option<u32>| -> Result<Vec<Vec<T>>, Error> {
            let mut found: Vec<_> = all.iter().filter_map(|(id, role)| Some((wanted(*role)?, *id))).collect();
            found.sort();
            found.into_iter().map(|(_, id)| runner::download(&mut *self.runner, id)).collect()
        };
        let outputs = get(&|role| if let Role::Output(k) = role { Some(k) } else { None })?;
        let gradients = get(&|role| if let Role::Gradient(k) = role { Some(k) } else { None })?;
        Ok((outputs, gradients))
    }
}

/// Where a rollout ended.
#[derive(Clone, Debug)]
pub struct Rolled<T> {
    /// [count, columns]
    pub points: Vec<T>,
    /// As [`Role::Left`] says.
    pub left: Vec<u32>,
    /// As [`Role::Clocks`] says; none without control.
    pub clocks: Vec<f64>,
}

/// The buffers of a module, and what each is for.
pub fn roles(module: &Module) -> Vec<(BufferId, Role)> {
    module.buffers.iter().enumerate().map(|(k, b)| (BufferId(k as u32), b.role)).collect()
}

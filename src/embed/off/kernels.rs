//! Devices and kernels in a build that has neither compiler nor CUDA: there is the CPU.

use crate::cpu::{Call, Number};
use crate::device::Device;
use crate::embed::Error;
use crate::jet::JetProgram;
use std::fmt;
use std::marker::PhantomData;

/// The CPU.
#[derive(Clone, Debug)]
pub struct Opened(());

impl Opened {
    /// The device that is asked for.
    ///
    /// # Errors
    /// [`Error::Device`] for others than the CPU.
    pub fn new(device: Device) -> Result<Self, Error> {
        match device {
            Device::Auto | Device::Cpu => Ok(Opened::cpu()),
            Device::Cuda(_) | Device::Host => Err(Error::Device {
                name: device.to_string(),
                source: "jetc was built without CUDA; build it with the feature `cuda`, or take the CPU".into(),
            }),
        }
    }

    /// The CPU.
    pub fn cpu() -> Self {
        Opened(())
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cpu")
    }
}

/// The kernels of a program: no value of this type exists.
#[derive(Debug)]
pub struct Kernels<T>(std::convert::Infallible, PhantomData<T>);

impl<T: Number> Kernels<T> {
    /// None.
    ///
    /// # Errors
    /// Never.
    pub fn of(_: &Opened, _: &JetProgram) -> Result<Option<Self>, Error> {
        Ok(None)
    }

    /// Runs them.
    ///
    /// # Errors
    /// Never called.
    pub fn run(&self, _: &[T], _: &Call<'_, T>, _: &mut [Vec<T>], _: &mut [Vec<T>]) -> Result<(), Error> {
        match self.0 {}
    }
}

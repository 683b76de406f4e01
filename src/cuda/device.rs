//! The device that is asked for, if it is there, and why not if not.

use super::compile::Arch;
use super::driver;
use super::error::Error;
use super::gpu::Gpu;
use super::module::Module;
use super::nvrtc::Nvrtc;
use super::runner::Runner;
use super::simulated::simulate;
use crate::device::Device as Choice;
use std::fmt;
use std::sync::Arc;

/// A device of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its number.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// What it runs.
    pub arch: Arch,
    /// Bytes of its memory.
    pub memory: u64,
    /// Multiprocessors.
    pub processors: u32,
    /// Most shared memory of a block, in bytes.
    pub shared: u64,
}

/// A device to run on.
#[derive(Clone, Debug)]
pub enum Device {
    /// The CPU; `why` where a GPU was wanted if possible.
    Cpu {
        /// Why there is none.
        why: Option<String>,
    },
    /// A GPU.
    Cuda(Arc<Gpu>),
    /// Kernels on the CPU.
    Host,
}

impl Device {
    /// The device that is asked for.
    ///
    /// # Errors
    /// Where a GPU is asked for and it, its driver or NVRTC is missing: what, and how to get it. `Auto` never fails.
    pub fn open(choice: Choice) -> Result<Device, Error> {
        match choice {
            Choice::Cpu => Ok(Device::Cpu { why: None }),
            Choice::Host => Ok(Device::Host),
            Choice::Cuda(ordinal) => gpu(ordinal),
            Choice::Auto => Ok(gpu(0).unwrap_or_else(|e| Device::Cpu { why: Some(e.to_string()) })),
        }
    }

    /// Whether modules run there.
    pub fn runs_modules(&self) -> bool {
        !matches!(self, Device::Cpu { .. })
    }

    /// A module with memory for so many points.
    ///
    /// # Errors
    /// Where it does not compile, does not fit, or the driver refuses it; on a device that runs no modules.
    pub fn load(&self, module: &Module, count: u32) -> Result<Box<dyn Runner>, Error> {
        match self {
            Device::Cuda(gpu) => gpu.load(module, count),
            Device::Host => simulate(module, count),
            Device::Cpu { .. } => Err(Error::missing("the CPU runs no CUDA modules", "use --device cuda:0 or host")),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu { .. } => f.write_str("cpu"),
            Device::Cuda(gpu) => write!(f, "cuda:{} ({})", gpu.info().ordinal, gpu.info().name),
            Device::Host => f.write_str("host"),
        }
    }
}

fn gpu(ordinal: u32) -> Result<Device, Error> {
    driver::version()?;
    Nvrtc::find()?;
    Ok(Device::Cuda(Gpu::open(ordinal)?))
}

/// What a build without CUDA says.
#[allow(dead_code, reason = "said only by a build without the feature, or on a system that has no loader")]
pub fn left_out() -> Error {
    Error::missing("jetc was built without CUDA", "build it with the feature `cuda`, or use --device cpu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_never_fails_and_the_cpu_needs_no_reason() {
        assert!(matches!(Device::open(Choice::Cpu), Ok(Device::Cpu { why: None })));
        match Device::open(Choice::Auto) {
            Ok(Device::Cpu { why }) => assert!(why.is_some_and(|w| !w.is_empty())),
            Ok(Device::Cuda(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

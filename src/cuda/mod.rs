//! CUDA kernels from the same [`JetProgram`](crate::jet::JetProgram)s that the CPU runs.
//!
//! - `module`: what is made, and what runs it has to know;  - `runner`: what runs a module;  - `device`: which device;
//! - `gpu`, `driver`: the driver and its devices;  - `simulated`, `host`: the same kernels on the CPU, to check them;
//! - `load`: from a module to code, by way of `cache` and `nvrtc`;  - `folders`: where these lie;  - `off`: the same names
//!   in a build without CUDA.

pub mod cache;
pub mod compile;
pub mod device;
mod error;
pub mod folders;
#[cfg(all(feature = "cuda", unix))]
pub mod host;
pub mod load;
mod module;
pub mod runner;

// a build without CUDA has the same types; each says so
#[cfg_attr(not(feature = "cuda"), path = "off/driver.rs")]
pub mod driver;
#[cfg_attr(not(feature = "cuda"), path = "off/gpu.rs")]
pub mod gpu;
#[cfg_attr(not(feature = "cuda"), path = "off/nvrtc.rs")]
pub mod nvrtc;
#[cfg_attr(not(all(feature = "cuda", unix)), path = "off/simulated.rs")]
pub mod simulated;

pub use device::{Choice, Device};
pub use error::Error;
pub use module::{Bound, Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, LOSSES, Module, Precision, Role};
pub use runner::Runner;

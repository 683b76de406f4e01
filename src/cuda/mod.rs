//! CUDA kernels from the same [`JetProgram`](crate::jet::JetProgram)s that the CPU runs.

#[cfg(all(feature = "cuda", unix))]
pub mod host;
mod module;

pub use module::{Bound, Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, LOSSES, Module, Precision, Role};

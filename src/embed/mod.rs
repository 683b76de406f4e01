//! The library's surface: everything that an embedding program needs, exported at the root of the crate, whose page has the design.
//!
//! All but `compiled`, `flow_map` and `training` are there without the compiler.

mod artifact;
#[cfg(feature = "compiler")]
mod compiled;
mod error;
#[cfg(feature = "compiler")]
mod flow_map;
mod inputs;
// a build without compiler and CUDA has the same types; they know the CPU
#[cfg_attr(not(any(feature = "compiler", feature = "cuda")), path = "off/kernels.rs")]
mod kernels;
mod operator;
mod solver;
#[cfg(feature = "compiler")]
mod training;

pub use crate::device::{Device, UnknownDevice};
pub use artifact::{Artifact, ArtifactError, FORMAT, Of, Part};
#[cfg(feature = "compiler")]
pub use compiled::{Compiled, Compiler, artifact};
pub use error::Error;
#[cfg(feature = "compiler")]
pub use flow_map::FlowMap;
pub use inputs::{Domain, Input, Place, Quantity};
pub use operator::{Gradient, Operator};
pub use solver::Solver;
#[cfg(feature = "compiler")]
pub use training::{TrainOptions, Trained, TrainedFlow};

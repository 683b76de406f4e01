//! CUDA kernels from the same [`JetProgram`](crate::jet::JetProgram)s that the CPU runs, and what runs them.
//!
//! [`emit`] makes one text per program: factors of first layers, a main kernel in which each block takes tiles of points through
//! all operations, and what is added up over the blocks afterwards. The building blocks are in `kernels/`.
//!
//! - `layout`: where values live;  - `emitter`: buffers, kernels, the main kernel;  - `layers`, `lifts`, `activations`,
//!   `scalar`, `gather`: operations;  - `turns`: loops of what repeats;  - `late`: what comes before and after the points;  - `text`: lines and numbers;
//! - `step`, `points`, `wide`, `wide_pass`, `pack_pass`, `intervals`: a whole training step;  - `rollout`: many steps of a flow;
//! - `module`: what is made, for those who run it;  - `lanes`: what of it may run at the same time;  - `runner`: what runs a module;  - `on_device`: a program
//!   there;  - `device`: which device;
//! - `gpu`, `driver`: the driver and its devices;  - `simulated`, `host`: the same kernels on the CPU, as a check;
//! - `ceilings`: what a device can do at most;
//! - `load`: from a module to code, by way of `cache` and `nvrtc`;  - `folders`: where these lie;  - `off`: the same names
//!   in a build without CUDA.

mod activations;
pub mod cache;
pub mod ceilings;
pub mod compile;
pub mod device;
mod emitter;
mod error;
pub mod folders;
mod gather;
#[cfg(all(feature = "cuda", unix))]
pub mod host;
#[cfg(feature = "compiler")]
mod intervals;
pub mod lanes;
mod late;
mod layers;
mod layout;
mod lifts;
pub mod load;
mod module;
mod on_device;
#[cfg(feature = "compiler")]
mod pack_pass;
#[cfg(feature = "compiler")]
mod points;
mod rollout;
pub mod runner;
mod scalar;
#[cfg(feature = "compiler")]
mod step;
#[cfg(all(test, feature = "compiler", feature = "cuda", unix))]
mod tests;
mod text;
mod turns;
mod wide;
#[cfg(feature = "compiler")]
mod wide_pass;

// a build without CUDA has the same types; each says so
#[cfg_attr(not(feature = "cuda"), path = "off/driver.rs")]
pub mod driver;
#[cfg_attr(not(feature = "cuda"), path = "off/gpu.rs")]
pub mod gpu;
#[cfg_attr(not(feature = "cuda"), path = "off/nvrtc.rs")]
pub mod nvrtc;
#[cfg_attr(not(all(feature = "cuda", unix)), path = "off/simulated.rs")]
pub mod simulated;

pub use device::Device;
pub use emitter::emit;
pub use error::Error;
pub use module::{Bound, Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, LOSSES, Module, Precision, Role};
pub use on_device::{OnDevice, Results, Rolled, arithmetic, precision, roles};
pub use rollout::{CLOCK, Rollout, Tolerance, rollout};
pub use runner::Runner;
use std::collections::BTreeMap;
#[cfg(feature = "compiler")]
pub use step::{Condition, Training, step};

/// The file that programs came from.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name.
    pub file: String,
    /// By program: the line of its statement, from 1.
    pub lines: BTreeMap<String, u32>,
}

impl SourceFile {
    /// The line of a program; the first one where it is not known.
    pub fn line(&self, program: &str) -> u32 {
        self.lines.get(program).copied().unwrap_or(1)
    }
}

/// How text is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// How products and scalar code are computed.
    pub precision: Precision,
    /// Points of a tile, where the emitter is not to choose: few keep a small call on many processors, many save traffic.
    pub tile: Option<usize>,
    /// Most blocks of a kernel that works through tiles, where the emitter is not to choose.
    pub blocks: Option<u32>,
    /// What errors of the compiler are to name.
    pub source: Option<SourceFile>,
}

impl Options {
    /// Of a precision, the rest as the emitter chooses.
    pub fn new(precision: Precision) -> Self {
        Options { precision, tile: None, blocks: None, source: None }
    }

    fn bytes(&self) -> usize {
        Element::Real.bytes(self.precision) as usize
    }
}

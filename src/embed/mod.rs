//! The library's surface: everything that an embedding program needs, exported at the root of the crate.
//!
//! ```text
//! text or file ─Compiler→ Compiled ─outputs, fields, residual→ Operator ┐
//!                            │                                          ├→ values, gradients
//!                            ├─parameters(seed)→ Parameters ────────────┤
//!                            └─train→ Solver ←─load, save─→ artifact ───┘
//! ```
//!
//! - A [`Compiled`] is a program that was checked and planned. It is made at run time by a [`Compiler`], which also takes what
//!   the command line could change in a file.
//! - An [`Operator`] is a function of points *and* parameters: `lap(u)` of a network, a field, a residual. It owns nothing that
//!   training changes, so one operator serves many threads and many sets of weights. `eval` gives the values, `vjp` the gradient with
//!   respect to points and parameters: enough for a caller's own loss and optimiser.
//! - [`Parameters`] are named tensors. They belong to the caller.
//! - A [`Solver`] is an operator with its parameters and its domain, and the one thing that can be written to a file, an artifact.
//!   Loading one needs no compiler. Points outside of the domain are an error (`eval`) or flagged (`eval_flagged`).
//! - [`Compiled::train`] is the loop of `jetc train`; an [`Observer`](crate::train::Observer), or a closure, sees each step, sets the rate and stops it.
//! - An [`Error`] says what was wrong, where, and what was expected. There is no global state: threads come from rayon's pool, and
//!   `rayon::ThreadPool::install` gives another one.
//!
//! Everything here is generic over the precision, `f32` or `f64`, and `Send + Sync`. Points and values are ndarray's (re-exported as
//! [`ndarray`]), row by row: [points, columns].

mod artifact;
#[cfg(feature = "compiler")]
mod compiled;
mod device;
mod error;
mod inputs;
mod operator;
mod solver;
#[cfg(feature = "compiler")]
mod training;

pub use artifact::{Artifact, ArtifactError, FORMAT, Of, Part};
#[cfg(feature = "compiler")]
pub use compiled::{Compiled, Compiler, artifact};
pub use device::Device;
pub use error::Error;
pub use inputs::{Domain, Input, Place, Quantity};
pub use operator::{Gradient, Operator};
pub use solver::Solver;
#[cfg(feature = "compiler")]
pub use training::{TrainOptions, Trained};

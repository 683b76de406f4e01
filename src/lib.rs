//! jetc: from differential operators of neural networks to Taylor propagation, and solvers on top of it.
//!
//! The way data flows, one module each (`CONTRIBUTING.md` has the map):
//! text → [`syntax`] → tree → [`program`] → resolved program → [`operator`] → expressions in derivatives → [`rewrite`] → the
//! cheapest equal ones → [`plan`], with [`algebra`] → [`jet`] programs → [`cpu`]. [`solver`] joins them with the parameters of
//! [`net`] and the loop of [`train`].
//!
//! # For programs that embed it
//!
//! They need none of these rooms: what they use is at the root of the crate.
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
//! - A [`FlowMap`] is a flow as a function of points and parameters: points after a time, the gradient of that, and its training.
//! - [`Compiled::train`] is the loop of `jetc train`; an [`Observer`](train::Observer), or a closure, sees each step, sets the rate and stops it.
//! - An [`Error`] says what was wrong, where, and what was expected. There is no global state: threads come from rayon's pool, and
//!   `rayon::ThreadPool::install` gives another one.
//!
//! Everything here is generic over the precision, `f32` or `f64`, and `Send + Sync`. Points and values are ndarray's (re-exported as
//! [`ndarray`]), row by row: [points, columns].
//!
//! `default-features = false` leaves loading, evaluation and gradients; the feature `compiler` adds text, training and build scripts.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "compiler")] {
//! use jetc::{Compiled, ndarray::array};
//!
//! let text = "space x, y\n\
//!             net N = mlp(width = 16, depth = 3, activation = tanh)\n\
//!             field u = N(x, y)\n\
//!             output r = lap(u) + d_xy(u)\n";
//! let compiled = Compiled::from_text(text)?;
//! // u, two directions and the operator: four numbers per neuron
//! assert_eq!(compiled.plan().sets[0].networks[0].rows, 4);
//! let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters(0));
//! let values = operator.eval(&parameters, array![[0.1, 0.2], [0.3, 0.4]].view())?;
//! assert_eq!(values.dim(), (2, 1));
//! # }
//! # Ok::<(), jetc::Error>(())
//! ```

#[cfg(feature = "compiler")]
pub mod algebra;
#[cfg(feature = "compiler")]
pub mod build;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
#[cfg(any(feature = "compiler", feature = "cuda"))] // the compiler emits text without a driver, too
#[cfg_attr(not(all(feature = "compiler", feature = "cuda")), allow(dead_code))] // what only training or a driver uses
pub mod cuda;
mod device;
pub mod diagnostic;
mod embed;
mod ids;
pub mod jet;
pub mod net;
#[cfg(feature = "compiler")]
pub mod operator;
mod plain;
#[cfg(feature = "compiler")]
pub mod plan;
mod pool;
#[cfg(feature = "compiler")]
pub mod program;
#[cfg(feature = "compiler")]
pub mod rewrite;
#[cfg(feature = "compiler")]
pub mod solver;
#[cfg(feature = "compiler")]
pub mod syntax;
#[cfg(feature = "compiler")]
pub mod train;
mod vector;

pub use cpu::Number;
pub use embed::*;
pub use ndarray;
pub use net::Parameters;

/// The Rust programs of the book.
#[cfg(all(doctest, feature = "compiler"))]
#[doc = include_str!("../docs/src/embedding.md")]
pub struct Book;

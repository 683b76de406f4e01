//! jetc: from differential operators of neural networks to Taylor propagation, and solvers on top of it.
//!
//! The way data flows, one module each (`CONTRIBUTING.md` has the map):
//! text → [`syntax`] → tree → [`program`] → resolved program → [`operator`] → expressions in derivatives → [`rewrite`] → the
//! cheapest equal ones → [`plan`], with [`algebra`] → [`jet`] programs → [`cpu`]. [`solver`] joins them with the parameters of
//! [`net`] and the loop of [`train`].
//!
//! # Example
//!
//! ```
//! use jetc::{net::Parameters, plan::{Options, plan}, program::Overrides, solver::{Evaluator, compile}};
//!
//! let text = "space x, y\n\
//!             net N = mlp(width = 16, depth = 3, activation = tanh)\n\
//!             field u = N(x, y)\n\
//!             output r = lap(u) + d_xy(u)\n";
//! let (program, diagnostics) = compile(text, &Overrides::default());
//! let program = program.ok_or_else(|| format!("{diagnostics:?}"))?;
//! let plan = plan(&program, Options::default()).map_err(|e| format!("{e:?}"))?;
//! // u, two directions and the operator: four numbers per neuron
//! assert_eq!(plan.sets[0].networks[0].rows, 4);
//! let evaluator = Evaluator::<f64>::new(&plan.sets[0].program)?;
//! let parameters = Parameters::initial(&program, 0);
//! let values = evaluator.run(&parameters, 1, &[0.1, 0.2], &[], 0, 0)?;
//! assert_eq!(values.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "compiler")]
pub mod algebra;
#[cfg(feature = "compiler")]
pub mod build;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod cuda;
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

pub use embed::*;
pub use cpu::Number;
pub use ndarray;
pub use net::Parameters;

/// The Rust programs of the book.
#[cfg(all(doctest, feature = "compiler"))]
#[doc = include_str!("../docs/src/embedding.md")]
pub struct Book;

//! jetc: from differential operators of neural networks to Taylor propagation, and solvers on top of it.
//!
//! The way data flows, one module each (`CONTRIBUTING.md` has the map):
//! text → [`syntax`] → tree → [`program`] → resolved program → [`operator`] → expressions in derivatives → [`rewrite`] → the
//! cheapest equal ones → [`plan`], with [`algebra`] → [`jet`] programs → [`cpu`]. [`solver`] joins them with the parameters of
//! [`net`] and the loop of [`train`].
//!
//! Programs that embed jetc need none of these rooms: what they use is at the root of the crate. `embed` has the design in half a
//! page; `default-features = false` leaves loading, evaluation and gradients, the feature `compiler` adds text and training.
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
#[cfg(feature = "cuda")]
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

pub use cpu::Number;
pub use embed::*;
pub use ndarray;
pub use net::Parameters;

/// The Rust programs of the book.
#[cfg(all(doctest, feature = "compiler"))]
#[doc = include_str!("../docs/src/embedding.md")]
pub struct Book;

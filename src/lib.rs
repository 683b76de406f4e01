//! jetc: from differential operators of neural networks to Taylor-propagation kernels, and solvers on top of them.

pub mod algebra;
#[cfg(feature = "cli")]
pub mod cli;
pub mod cpu;
pub mod diagnostic;
pub mod jet;
pub mod net;
pub mod operator;
pub mod plan;
pub mod program;
pub mod rewrite;
pub mod solver;
pub mod syntax;
pub mod train;

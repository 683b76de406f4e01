//! Differential operators: multi-indices, symbols, chain and product rule.

mod construct;
mod derive;
mod display;
mod draw;
mod estimate;
mod fold;
mod graph;
mod index;
mod lower;
mod reduce;
mod series;
mod substitute;
pub use display::Printer;
pub use estimate::{Unfit, compress};
pub use fold::{CoefficientTensor, Folded, Term, fold};
pub use graph::*;
pub use index::*;
pub use lower::{Lowering, MAX_UNROLLED};
pub use series::Curve;

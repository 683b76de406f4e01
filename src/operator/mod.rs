//! Differential operators: multi-indices, symbols, chain and product rule.

mod derive;
mod graph;
mod index;
pub use graph::*;
pub use index::*;

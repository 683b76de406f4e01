//! The intermediate representation: types, validator, text form, and the adjoint transformation.

mod adjoint;
pub(crate) mod assemble;
#[cfg(feature = "compiler")]
mod chain;
pub(crate) mod columns;
pub mod factor;
mod fuse;
pub(crate) mod hoist;
mod interpreter;
#[cfg(feature = "compiler")]
mod keep;
mod parse;
pub mod powers;
pub mod random;
pub mod ranges;
#[cfg(feature = "compiler")]
pub(crate) mod reroll;
mod reverse;
mod text;
mod types;
mod validate;

pub use adjoint::{adjoint, mean_square, summed, vjp};
#[cfg(test)]
pub(crate) mod tests;

#[cfg(feature = "compiler")]
pub use chain::{Chain, Link, Part, chain};
#[cfg(feature = "compiler")]
pub(crate) use fuse::fuse;
pub use interpreter::{Inputs, interpret};
#[cfg(test)]
pub(crate) use interpreter::{binary, unary};
#[cfg(feature = "compiler")]
pub use keep::{Forward, Kept, keep};
pub use parse::ParseError;
pub use types::*;
pub(crate) use validate::needed;
pub use validate::{Invalid, MAX_ORDER};

//! The intermediate representation: types, validator, text form, and the adjoint transformation.

mod interpreter;
mod parse;
pub mod random;
mod text;
mod types;
mod validate;

#[cfg(test)]
pub(crate) mod tests;

pub use interpreter::{Inputs, interpret};
pub use parse::ParseError;
pub use types::*;
pub use validate::{Invalid, MAX_ORDER};

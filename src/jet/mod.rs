//! The intermediate representation: types, validator, text form, and the adjoint transformation.

mod types;
pub use types::*;

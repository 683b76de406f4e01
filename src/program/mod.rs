//! Names resolved, shapes checked: from [`crate::syntax::ast::Ast`] to [`Program`], with diagnostics.
//! How derivatives are computed is not known here.

mod types;
pub use types::*;


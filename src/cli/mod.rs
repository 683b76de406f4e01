//! The command line: arguments, progress, pictures, and how diagnostics look. Everything else is in the library.

pub mod plot;
pub mod render;

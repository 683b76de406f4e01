//! cpu

mod math;
mod real;

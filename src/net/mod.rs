//! Parameters of a program: names, shapes, initial values, and safetensors files in and out.

mod philox;

pub use philox::{Philox, Purpose, philox4x32};

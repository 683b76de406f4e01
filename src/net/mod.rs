//! Parameters of a program: names, shapes, initial values, and safetensors files in and out.
//!
//! [`layout`] says which tensors a program has, [`Parameters`] holds their values, [`Philox`] makes every random number.

mod atomic;
mod block;
mod element;
mod layout;
mod npy;
mod parameters;
pub mod philox;
mod weights;

pub use atomic::{beside, replace, write_atomically};
pub use element::Element;
pub use layout::{Role, TensorSpec, WIDE, is_turned, layout};
pub use npy::read_matrix;
pub use parameters::Parameters;
pub use philox::{Philox, Purpose, philox4x32, row};
pub use weights::{Entry, Loaded, Metadata, Opened, TensorFile, WeightsError, write_tensors};

#[cfg(test)]
mod tests;

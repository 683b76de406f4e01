//! Parameters of a program: names, shapes, initial values, and safetensors files in and out.
//!
//! [`layout`] says which tensors a program has, [`Parameters`] holds their values, [`Philox`] makes every random number.

mod atomic;
mod block;
pub mod checksum;
mod element;
#[cfg(feature = "compiler")]
mod initial;
#[cfg(feature = "compiler")]
mod layout;
#[cfg(feature = "compiler")]
mod npy;
mod parameters;
pub mod philox;
mod spec;
mod weights;

pub use atomic::{beside, replace, sweep, write_atomically};
pub use element::Element;
#[cfg(feature = "compiler")]
pub use layout::layout;
#[cfg(feature = "compiler")]
pub use npy::read_matrix;
pub use parameters::Parameters;
pub use philox::{Philox, Purpose, philox4x32, row};
pub use spec::{Role, TensorSpec, WIDE, is_turned};
pub use weights::{Entry, Loaded, Metadata, Opened, TensorFile, WeightsError, write_tensors};

#[cfg(all(test, feature = "compiler"))]
mod tests;

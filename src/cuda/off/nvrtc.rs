//! NVRTC, where jetc was built without the feature `cuda`: it is never there.

use crate::cuda::compile::{CompileError, Compiled, Request};
use crate::cuda::device::left_out;
use crate::cuda::error::Error;
use std::path::Path;

/// The compiler: no value of this type exists.
#[derive(Debug)]
pub enum Nvrtc {}

impl Nvrtc {
    /// The compiler of this machine.
    ///
    /// # Errors
    /// Always.
    pub fn find() -> Result<&'static Nvrtc, Error> {
        Err(left_out())
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match *self {}
    }

    /// Version.
    pub fn version(&self) -> (u32, u32) {
        match *self {}
    }

    /// Numbers of the processors that it knows.
    pub fn known(&self) -> &[u32] {
        match *self {}
    }

    /// Compiles a module.
    ///
    /// # Errors
    /// Never called.
    pub fn compile(&self, _: &Request<'_>) -> Result<Compiled, CompileError> {
        match *self {}
    }
}

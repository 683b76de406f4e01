//! GPUs, where jetc was built without the feature `cuda`: there are none.

use crate::cuda::device::{DeviceInfo, left_out};
use crate::cuda::error::Error;
use crate::cuda::module::Module;
use crate::cuda::runner::Runner;
use std::sync::Arc;

/// A device that is in use: no value of this type exists.
#[derive(Debug)]
pub enum Gpu {}

impl Gpu {
    /// Device number `ordinal`.
    ///
    /// # Errors
    /// Always.
    pub fn open(_: u32) -> Result<Arc<Gpu>, Error> {
        Err(left_out())
    }

    /// What it is.
    pub fn info(&self) -> &DeviceInfo {
        match *self {}
    }

    /// Bytes of memory that are free, and all.
    ///
    /// # Errors
    /// Never called.
    pub fn memory(&self) -> Result<(u64, u64), Error> {
        match *self {}
    }

    /// Loads a module.
    ///
    /// # Errors
    /// Never called.
    pub fn load(self: &Arc<Self>, _: &Module, _: u32) -> Result<Box<dyn Runner>, Error> {
        match **self {}
    }
}

//! The driver, where jetc was built without the feature `cuda`: it is never there.

use crate::cuda::device::{DeviceInfo, left_out};
use crate::cuda::error::Error;

/// The CUDA version that the driver supports.
///
/// # Errors
/// Always.
pub fn version() -> Result<(u32, u32), Error> {
    Err(left_out())
}

/// The devices.
///
/// # Errors
/// Always.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    Err(left_out())
}

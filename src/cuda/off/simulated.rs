//! Modules on the CPU, where jetc was built without the feature `cuda`, or cannot load what a compiler makes.

use crate::cuda::device::left_out;
use crate::cuda::error::Error;
use crate::cuda::module::Module;
use crate::cuda::runner::Runner;

/// Builds a module, with memory for so many points.
///
/// # Errors
/// Always.
pub fn simulate(_: &Module, _: u32) -> Result<Box<dyn Runner>, Error> {
    Err(left_out())
}

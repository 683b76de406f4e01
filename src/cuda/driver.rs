//! The NVIDIA driver: whether there is one, and what devices it has. Everything here may be asked on any machine.

use super::compile::Arch;
use super::device::DeviceInfo;
use super::error::Error;
use cudarc::driver::{DriverError, result, sys};
use std::ffi::c_int;
use sys::CUdevice_attribute as Attribute;

/// The oldest CUDA version that a driver has to support: (12, 0).
const OLDEST: (u32, u32) = (12, 0);

/// The CUDA version that the driver supports: (12, 8).
///
/// # Errors
/// Where there is no driver, or none that can be used.
pub fn version() -> Result<(u32, u32), Error> {
    // SAFETY: tries to load the driver by its usual names, nothing else. Everything below is called only where that worked.
    if !unsafe { sys::is_culib_present() } {
        return Err(Error::missing("there is no NVIDIA driver", "install one for your GPU, or use --device cpu"));
    }
    let mut version: c_int = 0;
    // SAFETY: may be called at any time; writes one number.
    let done = unsafe { sys::cuDriverGetVersion(&mut version) };
    done.result().map_err(failed("asking the driver for its version"))?;
    let version = ((version / 1000) as u32, (version % 1000 / 10) as u32);
    if version < OLDEST {
        return Err(Error::missing(
            format!("the NVIDIA driver supports CUDA {}.{} only", version.0, version.1),
            format!("CUDA {}.{} or newer is needed: update the driver, or use --device cpu", OLDEST.0, OLDEST.1),
        ));
    }
    Ok(version)
}

/// The devices.
///
/// # Errors
/// Where there is no driver, or it has no device.
pub fn devices() -> Result<Vec<DeviceInfo>, Error> {
    version()?;
    result::init().map_err(|e| match e.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => Error::missing(
            "the NVIDIA driver finds no device",
            "is one there, and CUDA_VISIBLE_DEVICES right? Or use --device cpu",
        ),
        _ => failed("starting the NVIDIA driver")(e),
    })?;
    let count = result::device::get_count().map_err(failed("counting devices"))?;
    (0..count).map(|k| info(k).map_err(failed(&format!("asking about device {k}")))).collect()
}

fn info(ordinal: c_int) -> Result<DeviceInfo, DriverError> {
    let device = result::device::get(ordinal)?;
    // SAFETY: the device is one that the driver gave.
    let ask = |attribute| unsafe { result::device::get_attribute(device, attribute) };
    let major = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    Ok(DeviceInfo {
        ordinal: ordinal as u32,
        name: result::device::get_name(device)?,
        arch: Arch::of(major as u32, minor as u32),
        // SAFETY: likewise.
        memory: unsafe { result::device::total_mem(device)? } as u64,
        processors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as u32,
        shared: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as u64,
    })
}

/// An error of the driver, with what was tried.
pub fn failed(what: &str) -> impl Fn(DriverError) -> Error + use<> {
    let what = what.to_string();
    move |e| {
        let text =
            |t: Result<&std::ffi::CStr, DriverError>| t.map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
        let reason = format!("{} ({})", text(e.error_string()), text(e.error_name()));
        Error::Driver { what: what.clone(), reason }
    }
}

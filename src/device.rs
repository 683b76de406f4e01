//! Which device is asked for. What there is, [`cuda`](crate::cuda) knows.

use std::fmt;
use std::str::FromStr;

/// Where programs run.
///
/// ```
/// use jetc::Device;
///
/// assert_eq!("cuda:1".parse(), Ok(Device::Cuda(1)));
/// assert_eq!(Device::default().to_string(), "cpu");
/// let error = "gpu".parse::<Device>().unwrap_err();
/// assert_eq!(error.to_string(), "there is no device `gpu`: expected auto, cpu, cuda:0 (or another number), or host");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A GPU where everything is there for it, else the CPU.
    Auto,
    /// All cores of the CPU.
    #[default]
    Cpu,
    /// This GPU and no other.
    Cuda(u32),
    /// The kernels of a GPU, built for the CPU by the C++ compiler of this machine: slow, to check them.
    Host,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
            Device::Host => f.write_str("host"),
        }
    }
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no device `{0}`: expected auto, cpu, cuda:0 (or another number), or host")]
pub struct UnknownDevice(pub String);

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let number = |n: &str| n.parse().ok().filter(|_| n.bytes().all(|b| b.is_ascii_digit()));
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "host" => Ok(Device::Host),
            "cuda" => Ok(Device::Cuda(0)),
            other => {
                let ordinal = other.strip_prefix("cuda:").and_then(number);
                ordinal.map(Device::Cuda).ok_or_else(|| UnknownDevice(other.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        let read = |text: &str| text.parse::<Device>().ok();
        for device in [Device::Auto, Device::Cpu, Device::Host, Device::Cuda(0), Device::Cuda(12)] {
            assert_eq!(read(&device.to_string()), Some(device));
        }
        assert_eq!(read("cuda"), Some(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda:99999999999", "CUDA:0"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}

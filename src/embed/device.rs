//! Where programs run.

use super::Error;
use std::fmt;
use std::str::FromStr;

/// Where programs run.
///
/// ```
/// let device: jetc::Device = "auto".parse()?;
/// assert_eq!(device.to_string(), "auto");
/// assert!("gpu".parse::<jetc::Device>().is_err());
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best that there is.
    #[default]
    Auto,
    /// All cores of the CPU.
    Cpu,
    /// A CUDA device by its number.
    Cuda(u32),
}

impl Device {
    /// An error where this build or this machine does not have the device. An explicit device never falls back to another one.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn find(self) -> Result<(), Error> {
        match self {
            Device::Auto | Device::Cpu => Ok(()),
            Device::Cuda(_) => {
                let reason = "compiled programs run on the CPU in this version; take `cpu` or `auto`".into();
                Err(Error::Device { name: self.to_string(), reason })
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => write!(f, "auto"),
            Device::Cpu => write!(f, "cpu"),
            Device::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = |rest: &str| rest.strip_prefix(':').and_then(|n| n.parse().ok());
        match (text, text.strip_prefix("cuda")) {
            ("auto", _) => Ok(Device::Auto),
            ("cpu", _) => Ok(Device::Cpu),
            (_, Some("")) => Ok(Device::Cuda(0)),
            (_, Some(rest)) if number(rest).is_some() => Ok(Device::Cuda(number(rest).unwrap_or(0))),
            _ => Err(Error::Device { name: text.into(), reason: "expected auto, cpu or cuda:0".into() }),
        }
    }
}

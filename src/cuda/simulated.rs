//! A module on the CPU, as a [`Runner`]: slow, for checking what a GPU would run.

use super::error::Error;
use super::host::{Host, HostError, Memory, Order};
use super::module::{Bound, BufferId, Module};
use super::runner::{Runner, check_length};

/// Builds a module, with memory for so many points.
///
/// # Errors
/// Where there is no C++ compiler, or it refuses the text.
pub fn simulate(module: &Module, count: u32) -> Result<Box<dyn Runner>, Error> {
    Ok(Box::new(Simulated::new(module, count, Order::Ascending)?))
}

/// A module that the C++ compiler of this machine has built, with its memory.
#[derive(Debug)]
pub struct Simulated {
    host: Host,
    memory: Memory,
    order: Order,
}

impl Simulated {
    /// Builds a module, with memory for so many points.
    ///
    /// # Errors
    /// Where there is no C++ compiler, or it refuses the text.
    pub fn new(module: &Module, count: u32, order: Order) -> Result<Self, Error> {
        let host = Host::new(module)?;
        let memory = host.memory(count);
        Ok(Simulated { host, memory, order })
    }
}

impl From<HostError> for Error {
    fn from(e: HostError) -> Self {
        match e {
            HostError::Compiler => {
                Error::missing("there is no C++ compiler", "install g++ or clang++, or name one in CXX")
            }
            e => Error::Host(e.to_string()),
        }
    }
}

impl Runner for Simulated {
    fn module(&self) -> &Module {
        self.host.module()
    }

    fn bound(&self) -> &Bound {
        self.memory.bound()
    }

    fn device(&self) -> String {
        "host (kernels on the CPU)".into()
    }

    fn upload(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), Error> {
        check_length(self.host.module(), self.memory.bound(), buffer, bytes.len())?;
        Ok(self.memory.write(buffer, bytes)?)
    }

    fn download(&mut self, buffer: BufferId, bytes: &mut [u8]) -> Result<(), Error> {
        check_length(self.host.module(), self.memory.bound(), buffer, bytes.len())?;
        bytes.copy_from_slice(self.memory.bytes(buffer));
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        Ok(self.host.start(&mut self.memory, self.order)?)
    }

    fn call(&mut self, times: u64) -> Result<(), Error> {
        (0..times).try_for_each(|_| Ok(self.host.call(&mut self.memory, self.order)?))
    }
}

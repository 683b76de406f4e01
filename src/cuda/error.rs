//! What can go wrong between the text of a kernel and its result: data, with what to do about it.

use super::compile::CompileError;
use thiserror::Error;

/// Why a module cannot be run, or stopped.
#[derive(Debug, Error)]
pub enum Error {
    /// Something that a CUDA device needs is not there.
    #[error("{what}; {remedy}")]
    Missing {
        /// What was looked for and not found.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// The text of a module does not compile, or NVRTC failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The driver refused.
    #[error("{what}: {reason}")]
    Driver {
        /// What was tried: a launch is named by kernel, blocks, threads and shared memory.
        what: String,
        /// The driver's name for the error, and what it means.
        reason: String,
    },
    /// More device memory is needed than is free.
    #[error("`{module}` needs {} of device memory{}; {} are free of {}",
        amount(*.needed), points(*.count), amount(*.free), amount(*.total))]
    Memory {
        /// Name of the module.
        module: String,
        /// Points that it was to be bound to.
        count: u32,
        /// Bytes.
        needed: u64,
        /// Bytes.
        free: u64,
        /// Bytes.
        total: u64,
    },
    /// A buffer was given the wrong number of bytes.
    #[error("the buffer `{buffer}` has {expected} bytes, not {found}")]
    Length {
        /// Name of the buffer.
        buffer: String,
        /// Bytes that it has.
        expected: u64,
        /// Bytes that were given.
        found: u64,
    },
    /// A module lacks what its use needs: a defect of the emitter.
    #[error("internal: the module `{module}` has no {what}")]
    Module {
        /// Its name.
        module: String,
        /// What it lacks.
        what: String,
    },
    /// A kernel that runs on the CPU did what it must not do.
    #[error("{0}")]
    Host(String),
}

fn points(count: u32) -> String {
    if count > 1 { format!(" for {count} points") } else { String::new() }
}

/// Bytes in the unit that leaves few digits.
fn amount(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.2} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.2} MB", b / 1e6),
        _ => format!("{bytes} bytes"),
    }
}

impl Error {
    /// Something is not there.
    pub fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Missing { what: what.into(), remedy: remedy.into() }
    }
}

//! What can go wrong, in one enum.

use super::artifact::ArtifactError;
use crate::cpu::ShapeError;
use crate::device::UnknownDevice;
use crate::diagnostic::Diagnostic;
use crate::jet::Invalid;
use crate::net::WeightsError;
use std::io;
use std::path::PathBuf;

/// Why something cannot be compiled, loaded, evaluated or trained.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Error};
/// match Compiled::from_text("space x\noutput r = lpa(x)\n") {
///     Err(Error::Program { diagnostics, rendered }) => {
///         assert_eq!(diagnostics.len(), 1);
///         assert!(rendered.contains("did you mean `lap`?"));
///     }
///     other => panic!("{other:?}"),
/// }
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program has errors.
    #[error("{rendered}")]
    Program {
        /// Errors and warnings, with their places.
        diagnostics: Vec<Diagnostic>,
        /// The same for people: `file:line:column: error: ...`, the line underlined.
        rendered: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is no artifact, or a damaged one.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// Weights cannot be read or written, or are those of another program.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// An array has the wrong size.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A point lies outside of the domain.
    #[error("point {point} is outside of the domain: {coordinate} = {value}, {expected}")]
    Outside {
        /// Its number.
        point: usize,
        /// Which coordinate: `x`, `x[1]`; for a ball, its norm: `|x|`.
        coordinate: String,
        /// Its value.
        value: f64,
        /// Where it should be.
        expected: String,
    },
    /// A coordinate of a point is infinite or NaN.
    #[error("point {point} is not finite: {coordinate} = {value}")]
    NotFinite {
        /// Its number.
        point: usize,
        /// Which coordinate.
        coordinate: String,
        /// Its value.
        value: f64,
    },
    /// A trajectory of a flow ends before its time.
    #[error("point {point} stops at time {time:.6}: {why}")]
    Left {
        /// Its number.
        point: usize,
        /// When, from the start.
        time: f64,
        /// Why.
        why: &'static str,
    },
    /// Something that was asked for is not there.
    #[error("there is no {what} `{name}`{}", hint(found))]
    Missing {
        /// A tensor, the outputs, ...
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        found: Vec<String>,
    },
    /// A device that this build or this machine does not have, or that failed.
    #[error("device `{name}`: {source}")]
    Device {
        /// As it was asked for.
        name: String,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A text that names no device.
    #[error(transparent)]
    UnknownDevice(#[from] UnknownDevice),
    /// The program reads what is not given at evaluation, or cannot be differentiated.
    #[error("{0}")]
    Unsupported(String),
    /// A compiled program breaks a rule of the representation: a defect of the compiler.
    #[error("internal: {0}")]
    Internal(#[from] Invalid),
    /// Training failed.
    #[error("training: {0}")]
    Training(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn hint(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!("; there is {}", found.join(", ")) }
}

//! What a run is given, what it shows, and how it ends.

use super::checkpoint::{CheckpointError, Identity};
use super::history::History;
use super::report::Measurement;
use crate::net::{Metadata, WeightsError};
use crate::program::Training;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What is minimised: made by the rooms that know programs and devices.
pub trait Objective<T>: Send + Sync {
    /// Names and shapes of the learned tensors, in the order of `step`'s arguments.
    fn tensors(&self) -> Vec<(String, Vec<usize>)>;
    /// Names of the conditions, in the order of `losses`.
    fn conditions(&self) -> Vec<String>;
    /// Labels of the reports, in the order of `measure`'s result.
    fn reports(&self) -> Vec<String>;
    /// How it computes, where not by this CPU: a run is resumed only by the same.
    fn arithmetic(&self) -> Option<String> {
        None
    }
    /// Weighted loss of each condition at step `step`, and the gradient of their sum for each tensor but those that have a
    /// `row_length`.
    fn step(
        &mut self,
        step: u64,
        tensors: &[Vec<T>],
        gradients: &mut [Vec<T>],
        losses: &mut [f64],
    ) -> Result<(), ObjectiveError>;
    /// Length of a row of a tensor whose gradient is too large to exist as a whole: `gradient_rows` gives it.
    fn row_length(&self, _tensor: usize) -> Option<usize> {
        None
    }
    /// Rows of such a gradient at the last step, into `out`; `values` are these rows of the tensor, as they were then (others
    /// may have changed since).
    fn gradient_rows(&self, _tensor: usize, _rows: Range<usize>, _values: &[T], _out: &mut [T]) {}
    /// Whether a tensor and its moments stay as they are at step `step`.
    fn rests(&self, _step: u64, _tensor: usize) -> bool {
        false
    }
    /// All reports, in the order of the program.
    fn measure(&mut self, tensors: &[Vec<T>]) -> Result<Vec<Measurement>, ObjectiveError>;
}

/// An error of an objective: of a device, or of data.
pub type ObjectiveError = Box<dyn std::error::Error + Send + Sync>;

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rate, schedule, steps.
    pub training: Training,
    /// Of all random numbers.
    pub seed: u64,
    /// Folder of the results; made if missing. None: nothing is written.
    pub out: Option<PathBuf>,
    /// Continue from the checkpoint in `out`, if there is one.
    pub resume: bool,
    /// At least this long between checkpoints (longer where writing takes long), but for those at the end and before a measurement.
    pub checkpoint_every: Duration,
    /// Steps between measurements; none: at the end only.
    pub measure_every: Option<usize>,
    /// Steps between rows of the history; none: about a thousand rows.
    pub record_every: Option<usize>,
    /// Program text with everything that changes its meaning, as text: must be the same to resume.
    pub program: String,
    /// The [`fingerprint`](super::fingerprint) of its data: likewise.
    pub data: Option<String>,
    /// Name of the device, for the report.
    pub device: String,
    /// Metadata of `solver.safetensors`.
    pub metadata: Metadata,
}

impl Options {
    /// Defaults for a `train` statement: seed 0, checkpoints every ten seconds, no resuming.
    pub fn new(training: Training, out: impl Into<PathBuf>) -> Self {
        Options {
            training,
            seed: 0,
            out: Some(out.into()),
            resume: false,
            checkpoint_every: Duration::from_secs(10),
            measure_every: None,
            record_every: None,
            program: String::new(),
            data: None,
            device: "cpu".into(),
            metadata: Metadata::new(),
        }
    }

    pub(super) fn identity(&self, arithmetic: String) -> Identity {
        let steps = self.training.decay.depends_on_steps().then_some(self.training.steps);
        Identity {
            program: self.program.clone(),
            seed: self.seed,
            steps,
            precision: arithmetic,
            data: self.data.clone(),
        }
    }
}

/// Where a run is; given to the observer after every step.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Updates done.
    pub step: u64,
    /// Updates in all.
    pub steps: u64,
    /// Sum of the losses.
    pub loss: f64,
    /// Names of the conditions.
    pub conditions: &'a [String],
    /// Weighted loss of each.
    pub losses: &'a [f64],
    /// The latest measurements; empty before the first.
    pub measurements: &'a [Measurement],
    /// Learning rate of this step.
    pub rate: f64,
    /// Seconds of all sessions.
    pub seconds: f64,
    /// Estimated seconds to the end.
    pub remaining: f64,
    /// True where this step made a row of the history.
    pub recorded: bool,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Yes.
    Continue,
    /// No: save a checkpoint and return.
    Stop,
}

/// Who watches a run.
pub trait Observer {
    /// Called once if the run continues an earlier one.
    fn resumed(&mut self, _step: u64) {}
    /// The learning rate of a step (from 0); `planned` is that of the schedule.
    fn rate(&mut self, _step: u64, planned: f64) -> f64 {
        planned
    }
    /// Whether the run has to stop after the very step at which it is told to; else some quick steps may be made, and reported,
    /// together.
    fn stops_exactly(&self) -> bool {
        true
    }
    /// Called after every step: be quick.
    fn progress(&mut self, progress: &Progress<'_>) -> Flow;
}

/// A closure watches.
impl<F: FnMut(&Progress<'_>) -> Flow> Observer for F {
    fn progress(&mut self, progress: &Progress<'_>) -> Flow {
        self(progress)
    }
}

/// Nobody watches.
pub struct Silent;

impl Observer for Silent {
    fn stops_exactly(&self) -> bool {
        false
    }

    fn progress(&mut self, _: &Progress<'_>) -> Flow {
        Flow::Continue
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Updates done.
    pub step: u64,
    /// False if the observer stopped it.
    pub finished: bool,
    /// Loss of the last step; none if there was none.
    pub loss: Option<f64>,
    /// The last measurements.
    pub measurements: Vec<Measurement>,
    /// All rows.
    pub history: History,
    /// Seconds of all sessions.
    pub seconds: f64,
    /// Of this session, measurements and checkpoints aside; none if it made no step.
    pub steps_per_second: Option<f64>,
    /// Where this session began, if it resumed one.
    pub resumed_from: Option<u64>,
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loss became infinite or NaN.
    #[error("the loss of `{condition}` is {loss} at step {step}{}", kept(.checkpoint))]
    Loss {
        /// The step, from 0.
        step: u64,
        /// The condition.
        condition: String,
        /// Its loss.
        loss: f64,
        /// Step of the checkpoint that is kept.
        checkpoint: Option<u64>,
    },
    /// A gradient became infinite or NaN though the losses are finite.
    #[error("the gradient with respect to `{tensor}` is not finite at step {step} (all losses are){}", kept(.checkpoint))]
    Gradient {
        /// The step, from 0.
        step: u64,
        /// The tensor.
        tensor: String,
        /// Step of the checkpoint that is kept.
        checkpoint: Option<u64>,
    },
    /// The objective wants a tensor that the parameters do not have in that shape, or a logarithm of what is not positive.
    #[error("{0}")]
    Parameters(String),
    /// The device or the data failed.
    #[error("step {step}: {source}")]
    Objective {
        /// The step, from 0.
        step: u64,
        /// Why.
        source: ObjectiveError,
    },
    /// Resuming or saving failed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Writing the weights failed.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Another run writes into the folder.
    #[error("another run writes into {}; wait for it, or train into another folder", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Writing a result failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

fn kept(checkpoint: &Option<u64>) -> String {
    match checkpoint {
        Some(step) => format!("; the checkpoint of step {step} is kept"),
        None => String::new(),
    }
}

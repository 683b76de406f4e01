//! Training: points, data, optimiser, schedule, the loop, checkpoints, reports. How a gradient is made is not known here.
//!
//! [`train`] drives an [`Objective`] on the host, [`train_with`] any [`Stepper`]. Random numbers are functions of (seed, condition, step, point, column), so a run that
//! was stopped and resumed ends in the same bits as one that was not.

mod adam;
mod checkpoint;
mod data;
mod descent;
mod history;
mod lock;
mod permutation;
mod points;
mod report;
mod run;
mod scaling;
mod schedule;
mod step_points;
mod stepper;
mod types;

pub use adam::{Adam, Moments, Update};
pub use checkpoint::{CheckpointError, Identity};
pub use data::{DataError, Table, fingerprint};
pub use descent::descend;
pub use history::History;
pub use permutation::dealt;
pub(crate) use points::Place;
pub use points::{Batch, Sampler};
pub use report::{Measurement, RolloutFacts, peak_memory_bytes};
pub use run::{train, train_with};
pub use step_points::StepPoints;
pub use stepper::{Beginning, OnHost, Stepper, Stuck};
pub use types::{Error, Flow, Objective, ObjectiveError, Observer, Options, Outcome, Progress, Silent};

#[cfg(test)]
mod tests;

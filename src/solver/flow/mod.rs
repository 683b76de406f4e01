//! Flows at work: trajectories of data, rollouts of many states at once, gradients through time, reports.
//!
//! - `trajectories`: runs of a data set, and windows of them; `deal`: which of these a step takes;
//! - `runner`: states over an interval by the compiled step, forwards, and backwards with its vector-Jacobian product;
//! - `tape`: what is kept for that;
//! - `kernel`: rollouts on a device, an interval at a time;
//! - `control`: steps of lengths chosen by the error estimate; `chained`: where each begins with what the one before has worked out;
//! - `objective`: what training minimises; `rollout`: what the report of that name measures;
//! - `verify`: the step against its definition in small steps, its gradient against differences; `agreement`: a device against the CPU.

pub(super) mod agreement;
mod chained;
mod control;
mod deal;
mod kernel;
mod objective;
mod rollout;
mod runner;
mod tape;
#[cfg(test)]
mod tests;
mod trajectories;
mod verify;

pub use control::Stopped;
pub use kernel::steps_of;
pub use objective::FlowObjective;
pub use rollout::{Rollout, rollout};
pub use runner::{Interval, Runner};
pub use tape::{Pace, Tape};
pub use trajectories::Trajectories;
pub use verify::verify_flow;

use crate::net::{Metadata, checksum};
use crate::plan::{FlowPlan, flow_json};

/// What goes with the weights of a flow: its text and its plan.
pub fn metadata(plan: &FlowPlan, text: &str, overrides: &str) -> Metadata {
    Metadata::from([
        ("jetc.program".to_string(), text.to_string()),
        ("jetc.overrides".to_string(), overrides.to_string()),
        ("jetc.plan".to_string(), flow_json(plan).to_string()),
        ("jetc.version".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        (checksum::KEY.to_string(), checksum::NONE.to_string()),
    ])
}

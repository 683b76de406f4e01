//! A rollout: one kernel that takes many trajectories through many steps.
//!
//! It is the main kernel of a step's program with a loop around its operations. The points of a tile stay with their block, so
//! blocks never wait for each other; the host reads states after the last step only. With control, each trajectory has steps of its own
//! lengths, and its block goes on until all of its trajectories have arrived.

use super::emitter::rolled;
use super::{Module, Options};
use crate::jet::{Invalid, JetProgram};

/// Numbers of a clock: [`Role::Clocks`](super::Role::Clocks), and `kernels/rollout.cuh`.
pub const CLOCK: usize = 7;

/// How output 0 of a step's program, [1, n or more], becomes the next point.
#[derive(Clone, Copy, Debug)]
pub struct Rollout {
    /// First column of the state, and how many it has.
    pub state: (usize, usize),
    /// The column of time.
    pub time: Option<usize>,
    /// The data column with the length of a step, which is added to the time.
    pub length: usize,
    /// How lengths are chosen, where they are.
    pub control: Option<Tolerance>,
}

/// What a step with control keeps to. Output 0 of the step's program then is [1, 2n]: the next state and the estimates of its error.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Relative to the state.
    pub relative: f64,
    /// Absolute.
    pub absolute: f64,
    /// The estimate is of the order h^exponent.
    pub exponent: usize,
    /// The longest step.
    pub longest: f64,
}

/// Makes the module of a rollout. Its call takes as many steps as the buffer with the role
/// [`Steps`](super::Role::Steps) says, or with control as many as are needed, up to that; points are read and written.
///
/// # Errors
/// Where the program breaks a rule of the representation.
pub fn rollout(program: &JetProgram, rollout: Rollout, options: &Options) -> Result<Module, Invalid> {
    rolled(program, rollout, options)
}

//! A rollout: one kernel that takes many trajectories through many steps.
//!
//! It is the main kernel of a step's program with a loop around its operations. The points of a tile stay with their block, so
//! blocks never wait for each other; the host reads states after the last step only.

use super::emitter::rolled;
use super::{Module, Options};
use crate::jet::{Invalid, JetProgram};

/// How output 0 of a step's program, [1, n or more], becomes the next point.
#[derive(Clone, Copy, Debug)]
pub struct Rollout {
    /// First column of the state, and how many it has.
    pub state: (usize, usize),
    /// The column of time.
    pub time: Option<usize>,
    /// The data column with the length of a step, which is added to the time.
    pub length: usize,
}

/// Makes the module of a rollout. Its call takes as many steps as the buffer with the role
/// [`Steps`](super::Role::Steps) says; points are read and written.
///
/// # Errors
/// Where the program breaks a rule of the representation.
pub fn rollout(program: &JetProgram, rollout: Rollout, options: &Options) -> Result<Module, Invalid> {
    rolled(program, rollout, options)
}

//! What is known of a tensor: its name, its shape, what it is in its program, how it lies in memory.

use crate::plain::{CoefId, Learning, NetId, ParamId};
use serde::{Deserialize, Serialize};

/// The weight of a first layer with more inputs than this is kept as [in, out] in memory, so that a block of its columns is
/// contiguous.
pub const WIDE: usize = 48;

/// Whether a tensor is the weight of a first layer, of shape [out, in], with more than `wide` inputs.
pub fn is_turned(name: &str, shape: &[usize], wide: usize) -> bool {
    matches!(shape, [_, inputs] if *inputs > wide) && name.ends_with(".0.weight")
}

/// What a tensor is in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Weight of a layer; `layer` none: the shared block layer.
    Weight {
        /// The network.
        net: NetId,
        /// Layer, from 0.
        layer: Option<usize>,
    },
    /// Bias of a layer.
    Bias {
        /// The network.
        net: NetId,
        /// Layer, from 0.
        layer: Option<usize>,
    },
    /// A scalar parameter.
    Param(ParamId),
    /// A table of fixed random coefficients.
    Coef(CoefId),
}

/// Name, shape and role of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// `N.0.weight`, `N.0.bias`, `nu`, `c`.
    pub name: String,
    /// `[out, in]`, `[out]`, `[]`, `[n]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Whether and how it is learned: tensors of networks always, tables never.
    pub learning: Learning,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
    /// Whether its values are kept as [in, out], see [`WIDE`].
    pub fn is_turned(&self) -> bool {
        is_turned(&self.name, &self.shape, WIDE)
    }
    /// True where the shape holds a zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// True where training changes it.
    pub fn is_learned(&self) -> bool {
        self.learning != Learning::Fixed
    }
}

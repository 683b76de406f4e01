//! Which tensors a program has: the single place that knows their names, shapes and order.
//!
//! In order: for every network that is used, layer by layer, `NET.LAYER.weight` [out, in] and `NET.LAYER.bias` [out]
//! (with `share = block(b)`: first `NET.share.weight` [1, b] and `NET.share.bias` [1], and layer 0 takes one input per
//! block); then the scalar parameters by their names, shape []; then the coefficient tables, shape [n].

use crate::program::{CoefId, Learning, NetId, ParamId, Program};

/// The weight of a first layer with more inputs than this is kept as [in, out] in memory, so that a block of its columns is
/// contiguous.
pub const WIDE: usize = 48;

/// Whether a tensor is the weight of a first layer, of shape [out, in], with more than `wide` inputs.
pub fn is_turned(name: &str, shape: &[usize], wide: usize) -> bool {
    matches!(shape, [_, inputs] if *inputs > wide) && name.ends_with(".0.weight")
}

/// What a tensor is in its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// The tensors of a program, in order.
pub fn layout(program: &Program) -> Vec<TensorSpec> {
    let mut specs = Vec::new();
    let mut push = |name: String, shape: Vec<usize>, role, learning| {
        specs.push(TensorSpec { name, shape, role, learning });
    };
    for (n, net) in program.nets.iter().enumerate().filter(|(_, net)| net.inputs > 0) {
        let id = NetId(n as u32);
        let mut linear = |layer: Option<usize>, outputs: usize, inputs: usize| {
            let prefix = match layer {
                Some(l) => format!("{}.{l}", net.name),
                None => format!("{}.share", net.name),
            };
            let role = Role::Weight { net: id, layer };
            push(format!("{prefix}.weight"), vec![outputs, inputs], role, Learning::Linear);
            push(format!("{prefix}.bias"), vec![outputs], Role::Bias { net: id, layer }, Learning::Linear);
        };
        let mut sizes = net.sizes();
        if let Some(block) = net.share {
            linear(None, 1, block);
            sizes[0] = net.inputs.div_ceil(block.max(1));
        }
        for (layer, ends) in sizes.windows(2).enumerate() {
            linear(Some(layer), ends[1], ends[0]);
        }
    }
    for (p, param) in program.params.iter().enumerate() {
        push(param.name.clone(), vec![], Role::Param(ParamId(p as u32)), param.learn);
    }
    for (c, coef) in program.coefs.iter().enumerate() {
        push(coef.name.clone(), vec![coef.len], Role::Coef(CoefId(c as u32)), Learning::Fixed);
    }
    specs
}

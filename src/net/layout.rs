//! Which tensors a program has: the single place that knows their names, shapes and order.
//!
//! In order: for every network that is used, layer by layer, `NET.LAYER.weight` [out, in] and `NET.LAYER.bias` [out]
//! (with `share = block(b)`: first `NET.share.weight` [1, b] and `NET.share.bias` [1], and layer 0 takes one input per
//! block); then the scalar parameters by their names, shape []; then the coefficient tables, shape [n].

use super::spec::{Role, TensorSpec};
use crate::program::{CoefId, Learning, NetId, ParamId, Program};

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

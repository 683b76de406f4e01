//! A vector-Jacobian product in two programs: the first keeps what it works out, the second reads it and works out nothing again.
//!
//! Reverse mode wants values of the way forward. A caller that goes forward through many steps before it goes back can have them
//! worked out twice, which [`vjp`](super::vjp) does, or kept in between: more memory, less work.

use super::adjoint::unfused_vjp;
use super::chain::{Chain, Link, chain};
use super::fuse::{fuse, swept};
use super::validate::needed;
use super::{Invalid, JetProgram, Op, Type, ValueId};
use std::collections::HashMap;

/// The two programs.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The outputs of the program, then what is kept: per point, in the order of the second program's `given`.
    pub forward: Forward,
    /// The points-bar of [`vjp`](super::vjp) alone, and its gradients, of the same points and data rows.
    pub backward: JetProgram,
}

/// The way forward.
#[derive(Clone, Debug)]
pub enum Forward {
    /// By itself.
    Alone(JetProgram),
    /// Behind another step like it.
    Chained(Chain),
}

/// The vector-Jacobian product of output 0 of `program`, where `whole` runs forward: a program of the same tensors that works out
/// what `program` does, and more; chained, where its link is given. None where a value that is needed is one for all points, or it
/// cannot be chained.
///
/// # Errors
/// Those of [`vjp`](super::vjp).
pub fn keep(whole: &JetProgram, link: Option<&Link>, program: &JetProgram) -> Result<Option<Kept>, Invalid> {
    let joint = unfused_vjp(program, false)?;
    let Some((backward, values)) = backward(&joint, program.ops.len())? else { return Ok(None) };
    let Some(forward) = forward(whole, program, &values) else { return Ok(None) };
    let forward = match link {
        Some(link) => chain(&forward, link).map(Forward::Chained),
        None => Some(Forward::Alone(fuse(forward))),
    };
    Ok(forward.map(|forward| Kept { forward, backward }))
}

/// What is worked out again: it is there already, or costs nothing.
pub(super) fn is_made_again(op: &Op) -> bool {
    matches!(op, Op::Points | Op::Data | Op::Lift { .. } | Op::Factor { .. })
}

/// The part of a product behind its first `count` operations, and those of their values that it is given.
fn backward(joint: &JetProgram, count: usize) -> Result<Option<(JetProgram, Vec<ValueId>)>, Invalid> {
    let types = joint.types()?;
    let mut out = JetProgram { ops: vec![], outputs: vec![], ..joint.clone() };
    let bar = joint.outputs.iter().filter(|(name, _)| name == "points-bar");
    out.outputs.extend(bar.cloned());
    let is_here = |k: usize| k >= count || is_made_again(&joint.ops[k]);
    let results = out.outputs.iter().map(|o| o.1).chain(out.gradients.iter().map(|g| g.1));
    let needed = needed(&joint.ops, results, is_here);
    let mut places: HashMap<ValueId, ValueId> = HashMap::new();
    let mut values = Vec::new();
    for (k, op) in joint.ops.iter().enumerate().filter(|(k, _)| needed[*k]) {
        let op = match (is_here(k), &types[k]) {
            (true, _) => moved(op.clone(), &places),
            (false, Type::PerPoint { rows, features }) => {
                values.push(ValueId(k as u32));
                Op::Given { number: values.len() - 1, rows: *rows, features: *features }
            }
            (false, Type::Reduced { .. }) => return Ok(None),
        };
        places.insert(ValueId(k as u32), ValueId(out.ops.len() as u32));
        out.ops.push(op);
    }
    let place = |v: &mut ValueId| *v = places[v];
    out.outputs.iter_mut().for_each(|(_, v)| place(v));
    out.gradients.iter_mut().for_each(|(_, v)| place(v));
    // scalar code says what it reads when it is fused
    let mut out = swept(fuse(out), &|op| matches!(op, Op::Given { .. }));
    let mut read = Vec::new();
    for op in &mut out.ops {
        if let Op::Given { number, .. } = op {
            read.push(values[*number]);
            *number = read.len() - 1;
        }
    }
    Ok(Some((out, read)))
}

/// `whole`, and the values of `program` after its outputs. None where the two are not of the same tensors.
fn forward(whole: &JetProgram, program: &JetProgram, values: &[ValueId]) -> Option<JetProgram> {
    if whole.tensors != program.tensors || whole.algebras != program.algebras {
        return None;
    }
    let needed = needed(&program.ops, values.iter().copied(), |_| true);
    let mut out = whole.clone();
    // what is worked out in the same way is the same
    let mut known: HashMap<String, ValueId> = HashMap::new();
    for (k, op) in whole.ops.iter().enumerate() {
        known.entry(format!("{op:?}")).or_insert(ValueId(k as u32));
    }
    let mut places: HashMap<ValueId, ValueId> = HashMap::new();
    for (k, op) in program.ops.iter().enumerate().filter(|(k, _)| needed[*k]) {
        let op = moved(op.clone(), &places);
        let place = known.get(&format!("{op:?}")).copied().unwrap_or_else(|| {
            out.ops.push(op);
            ValueId(out.ops.len() as u32 - 1)
        });
        places.insert(ValueId(k as u32), place);
    }
    out.outputs.extend(values.iter().enumerate().map(|(k, v)| (format!("kept {k}"), places[v])));
    Some(out)
}

/// An operation where its arguments have other places.
pub(super) fn moved(mut op: Op, places: &HashMap<ValueId, ValueId>) -> Op {
    if let Op::TermAdjoint { x, .. } = &mut op {
        // not needed beside y where it is not there
        if x.iter().any(|x| !places.contains_key(x)) {
            x.clear();
        }
    }
    op.values_mut(&mut |v| *v = places[v]);
    op
}

//! Steps that follow each other: what a step works out at its end is what the next one works out at its start ("first same as last",
//! Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, II.5), and it is the same however often a step is tried.
//!
//! The program of a step is taken apart: one works it out at a first point, the other is given it, and works it out at the end.

use super::fuse::{fuse, swept};
use super::keep::{is_made_again, moved};
use super::validate::needed;
use super::{JetProgram, Op, Type, ValueId};
use std::collections::HashMap;

/// Where the program of a step begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// So many of its operations are for the start alone.
    pub start: usize,
    /// The slope there.
    pub first: ValueId,
    /// The point at the end: [1, columns].
    pub end: ValueId,
    /// The slope at the end: a `Given`, of whatever number; what works it out is put in its place.
    pub last: ValueId,
}

/// A step that is given what is worked out at its start.
#[derive(Clone, Debug)]
pub struct Chain {
    /// What is worked out at a first point, by output.
    pub start: JetProgram,
    /// The step, given that: output 0, the others that are its own, and what `start` would give at its end.
    pub step: JetProgram,
    /// By output of the program behind the first: which it is.
    pub outputs: Vec<Part>,
}

/// Where an output of a program is, of which a chain was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the step is given, by number.
    Given(usize),
    /// What it works out itself, by output.
    Own(usize),
}

/// Takes the program of a step apart, of which output 0 is for each point. None where there is nothing for the step to be given, or
/// it is one number for all points.
pub fn chain(program: &JetProgram, link: &Link) -> Option<Chain> {
    let types = program.types().ok()?;
    let is_here = |k: usize| k >= link.start || is_made_again(&program.ops[k]);
    let results = program.outputs.iter().map(|o| o.1).chain([link.end, link.first]);
    let wanted = needed(&program.ops, results, is_here);
    // in ascending order
    let given: Vec<ValueId> =
        (0..link.start).filter(|k| wanted[*k] && !is_here(*k)).map(|k| ValueId(k as u32)).collect();
    let sizes: Option<Vec<(usize, usize)>> = given.iter().map(|v| size(&types[v.index()])).collect();
    let sizes = sizes?;
    if !given.contains(&link.first) || is_made_again(&program.ops[program.outputs[0].1.index()]) {
        return None;
    }
    let first = needed(&program.ops, given.iter().copied(), |_| true);
    let empty = JetProgram { ops: vec![], outputs: vec![], gradients: vec![], ..program.clone() };
    let (mut start, mut step) = (empty.clone(), empty);
    let places = copied(program, &first, &mut start, HashMap::new());
    let name = |k: usize| format!("carried {k}");
    start.outputs = given.iter().enumerate().map(|(k, v)| (name(k), places[v])).collect();

    let (mut places, mut ends) = (HashMap::new(), HashMap::new());
    for (k, op) in program.ops.iter().enumerate().filter(|(k, _)| wanted[*k] || *k == link.last.index()) {
        let value = ValueId(k as u32);
        if value == link.last {
            // the same at the end, of the same data
            let there = |(k, op): (usize, &Op)| {
                let value = ValueId(k as u32);
                match op {
                    Op::Points => Some((value, places[&link.end])),
                    Op::Data => places.get(&value).map(|place| (value, *place)),
                    _ => None,
                }
            };
            let known = program.ops.iter().enumerate().filter_map(there).collect();
            ends = copied(program, &first, &mut step, known);
            places.insert(value, ends[&link.first]);
            continue;
        }
        let op = match given.binary_search(&value) {
            Ok(number) => Op::Given { number, rows: sizes[number].0, features: sizes[number].1 },
            Err(_) => moved(op.clone(), &places),
        };
        places.insert(value, push(&mut step, op));
    }
    step.outputs.push((program.outputs[0].0.clone(), places[&program.outputs[0].1]));
    let mut outputs = Vec::new();
    for (name, value) in &program.outputs[1..] {
        outputs.push(match given.binary_search(value) {
            Ok(number) => Part::Given(number),
            Err(_) => {
                step.outputs.push((name.clone(), places[value]));
                Part::Own(step.outputs.len() - 1)
            }
        });
    }
    step.outputs.extend(given.iter().enumerate().map(|(k, v)| (name(k), ends[v])));
    let [start, step] = [start, step].map(|program| swept(fuse(program), &|op| matches!(op, Op::Data | Op::Points)));
    // an operation may insist on points that are given
    step.types().ok()?;
    Some(Chain { start, step, outputs })
}

/// Appends the operations of `from` that are wanted, but for those that have a place already; the places of all of them.
fn copied(
    from: &JetProgram,
    wanted: &[bool],
    to: &mut JetProgram,
    mut places: HashMap<ValueId, ValueId>,
) -> HashMap<ValueId, ValueId> {
    for (k, op) in from.ops.iter().enumerate().filter(|(k, _)| wanted[*k]) {
        let value = ValueId(k as u32);
        if !places.contains_key(&value) {
            let op = moved(op.clone(), &places);
            places.insert(value, push(to, op));
        }
    }
    places
}

fn push(program: &mut JetProgram, op: Op) -> ValueId {
    program.ops.push(op);
    ValueId(program.ops.len() as u32 - 1)
}

/// Rows and features of what there is for each point.
fn size(ty: &Type) -> Option<(usize, usize)> {
    match ty {
        Type::PerPoint { rows, features } => Some((*rows, *features)),
        Type::Reduced { .. } => None,
    }
}

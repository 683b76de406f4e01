//! The values of draws: columns and directions that symbols and scalar code refer to.

use super::builder::{Builder, DrawSource};
use super::scalar::table;
use crate::jet::{Draw, Op, ValueId};
use crate::operator::{Argument, Graph, Index, IndexVar, LoopVar, Node, SamplerKind, Slot, Symbol};

/// The value that holds what a sampler of indices draws, and its row there. With `by`, that is added to the indices:
/// columns of a network that does not begin at column 0.
pub fn columns(graph: &mut Graph, builder: &mut Builder, sampler: u32, by: i64) -> (ValueId, u32) {
    let s = graph.samplers[sampler as usize].clone();
    builder.samplers.insert(sampler);
    match s.kind {
        SamplerKind::Sparse { k, shared } => {
            let stream = builder.stream(DrawSource::Sampler(sampler));
            let op = Op::Sample { stream, first: (s.lo + by) as usize, len: (s.hi - s.lo) as usize, k, shared };
            (builder.once((DrawSource::Sampler(sampler), by), |b| b.push(op)), 0)
        }
        SamplerKind::Weighted { weighting, second } => (pairs(graph, builder, weighting, by), second as u32),
        _ => unreachable!("directions are no indices"),
    }
}

/// Indices and worths of a weighting: [3, k].
pub fn pairs(graph: &mut Graph, builder: &mut Builder, weighting: u32, by: i64) -> ValueId {
    let w = graph.weightings[weighting as usize].clone();
    let source = DrawSource::Weighting(weighting);
    builder.once((source, by), |builder| {
        let weight = graph.expand(w.weight);
        let code = table(graph, builder, w.indices[0], w.indices[1], weight);
        let weights = builder.push(Op::Pointwise(code));
        let first = w.indices.map(|(_, lo, _)| (lo + by).max(0) as usize);
        let stream = builder.stream(source);
        builder.push(Op::SampleWeighted { stream, weights, k: w.k, first })
    })
}

/// Random or computed vectors: [k, len].
pub fn directions(graph: &mut Graph, builder: &mut Builder, sampler: u32) -> ValueId {
    let s = graph.samplers[sampler as usize].clone();
    let source = DrawSource::Sampler(sampler);
    builder.samplers.insert(sampler);
    match s.kind {
        SamplerKind::Dense { k, gaussian } => {
            let op = Op::Directions { stream: builder.stream(source), len: (s.hi - s.lo) as usize, k, gaussian };
            builder.once((source, 0), |b| b.push(op))
        }
        SamplerKind::Vectors { k, slot, column, component } => builder.once((source, 0), |builder| {
            let component = graph.expand(component);
            let code = table(graph, builder, (slot, 0, k as i64), (column, s.lo, s.hi), component);
            builder.push(Op::Pointwise(code))
        }),
        _ => unreachable!("indices are no directions"),
    }
}

/// The factor of a first layer, and the random directions that combine its columns, if there are any.
pub fn factor(graph: &Graph, builder: &mut Builder, sampler: u32) -> (ValueId, Option<ValueId>) {
    let s = graph.samplers[sampler as usize].clone();
    builder.samplers.insert(sampler);
    let SamplerKind::Factor { call, rank, k } = s.kind else { unreachable!("it is a factor") };
    let application = graph.calls[call as usize].clone();
    let [Argument::Columns { first, .. }] = application.arguments[..] else { unreachable!("it reads columns") };
    let (weight, _) = builder.layer(application.net, 0);
    let op = Op::Factor { weight, first: s.lo as usize - first, len: (s.hi - s.lo) as usize, rank };
    let value = builder.push(op);
    let stream = builder.stream(DrawSource::Sampler(sampler));
    let directions = k.map(|k| builder.push(Op::Directions { stream, len: rank, k, gaussian: false }));
    (value, directions)
}

/// What a seed along a symbol refers to, for a lift of the columns `first..`: the position in the draw, and the draw (none
/// for a fixed column). None if the symbol is not this simple.
pub fn seed(
    graph: &mut Graph,
    builder: &mut Builder,
    symbol: &Symbol,
    (first, len): (usize, usize),
) -> Option<(u32, Option<Draw>)> {
    match symbol {
        Symbol::Column(index) => match (index.as_constant(), &index.terms[..]) {
            (Some(column), _) => Some((column as u32 - first as u32, None)),
            (None, &[(IndexVar::Drawn { sampler, slot: Slot::Fixed(k) }, 1)]) => {
                let s = &graph.samplers[sampler as usize];
                let (lo, hi) = (s.lo + index.offset - first as i64, s.hi + index.offset - first as i64);
                // a draw may be of a column that is not lifted
                if lo < 0 || hi > len as i64 {
                    return None;
                }
                let (value, row) = columns(graph, builder, sampler, index.offset);
                Some((k, Some(Draw::Columns { value, row })))
            }
            _ => None,
        },
        Symbol::Direction { sampler, slot: Slot::Fixed(k) } => {
            let s = &graph.samplers[*sampler as usize];
            let (lo, hi) = (s.lo - first as i64, s.hi - first as i64);
            if lo < 0 || hi > len as i64 {
                return None;
            }
            if is_points(graph, *sampler) && (lo, hi) == (0, len as i64) {
                builder.samplers.insert(*sampler);
                return Some((0, Some(Draw::Points)));
            }
            let value = directions(graph, builder, *sampler);
            Some((*k, Some(Draw::Directions { value, first: lo as u32 })))
        }
        _ => None,
    }
}

/// Whether vectors are the points themselves.
fn is_points(graph: &Graph, sampler: u32) -> bool {
    let SamplerKind::Vectors { column, component, .. } = graph.samplers[sampler as usize].kind else { return false };
    matches!(graph.node(component), Node::Point(index) if *index == Index::of_loop(column))
}

/// A loop variable with its range.
pub type Range = (LoopVar, i64, i64);

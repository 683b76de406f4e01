//! Importance sampling: a term of coefficient c is drawn with probability |c|/Z, Z = sum |c|, and counts Z/(k|c|).
//!
//! The variance of the estimate of sum c_a D_a is (Z sum |c_a| D_a^2 - (sum c_a D_a)^2)/k: less than that of equal
//! probabilities where large coefficients go with large terms.

use super::terms::{Term, collect};
use super::{Estimate, Unfit, mark};
use crate::operator::graph::{Graph, Id, Node, SamplerKind, Weighting};
use crate::operator::index::{Index, IndexVar, Slot};
use crate::program::Reduction;
use num_rational::BigRational;
use num_traits::One;

pub fn estimate(graph: &mut Graph, id: Id, how: &Estimate, k: usize) -> Result<Id, Unfit> {
    let terms = collect(graph, id, how, &mut |g, c| estimate(g, c, how, k))?;
    let mut sum = Vec::new();
    for term in terms {
        sum.push((one(graph, term, how, k)?, BigRational::one()));
    }
    Ok(graph.linear(sum))
}

fn one(graph: &mut Graph, term: Term, how: &Estimate, k: usize) -> Result<Id, Unfit> {
    let holds_derivative = term.factors.iter().any(|f| !f.symbols.is_empty() || graph.holds_derivative(f.field));
    let varies = |graph: &Graph, id: Id| graph.free_vars(id).iter().any(|v| term.ranges.iter().any(|r| r.0 == *v));
    if !holds_derivative || term.ranges.is_empty() {
        return Ok(term.exact(graph));
    }
    let factors = match graph.node(term.coefficient) {
        Node::Mul(factors) => factors.clone(),
        _ => vec![(term.coefficient, 1)],
    };
    let (weight, rest): (Vec<_>, Vec<_>) = factors.into_iter().partition(|f| varies(graph, f.0));
    if weight.is_empty() {
        // equal weights: without replacement is better
        let exact = term.exact(graph);
        return Ok(mark(graph, exact, how, SamplerKind::Sparse { k, shared: false }));
    }
    let (weight, rest) = (graph.product(weight), graph.product(rest));
    let (first, second) = match term.ranges[..] {
        [first] => (first, (graph.fresh(0, 1), 0, 1)),
        [first, second] => (first, second),
        _ => return Err(Unfit("importance sampling draws the terms of sums over one or two indices".into())),
    };
    if first.1 < 0 || second.1 < 0 {
        return Err(Unfit("an index of the sum is negative".into()));
    }
    let weighting = graph.weightings.len() as u32;
    graph.weightings.push(Weighting { name: how.name.to_string(), k, indices: [first, second], weight });
    let slot = graph.fresh(0, k as i64);
    let mut drawn = term.clone();
    drawn.coefficient = weight;
    for (range, is_second) in [(first, false), (second, true)] {
        let (var, lo, hi) = range;
        let kind = SamplerKind::Weighted { weighting, second: is_second };
        let sampler = graph.sampler(how.name, kind, lo, hi);
        let by = Index::var(IndexVar::Drawn { sampler, slot: Slot::Loop(slot) });
        drawn.coefficient = graph.substitute(drawn.coefficient, var, &by);
        for factor in &mut drawn.factors {
            factor.field = graph.substitute(factor.field, var, &by);
            factor.symbols.iter_mut().for_each(|s| *s = s.substitute(var, &by));
        }
    }
    let worth = graph.intern(Node::Worth { weighting, slot: Slot::Loop(slot) });
    let derivatives = drawn.derivatives(graph);
    let body = graph.product([(drawn.coefficient, 1), (worth, 1), (derivatives, 1)]);
    let sum = graph.reduce(Reduction::Sum, slot, 0, k as i64, body, None);
    Ok(graph.mul(rest, sum))
}

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
        let groups = groups(&term);
        if groups.iter().all(|g| *g == 0) {
            let exact = term.exact(graph);
            return Ok(mark(graph, exact, how, SamplerKind::Sparse { k, shared: false }));
        }
        return Ok(independent(graph, term, &groups, how, k));
    }
    let (weight, rest) = (graph.product(weight), graph.product(rest));
    if term.holds_outer(graph, weight) {
        let why = "a coefficient holds the index of a sum around it, in a function that is not linear";
        return Err(Unfit(why.into()));
    }
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

/// By range: the number of its group. Ranges whose indices stand in one factor are in one group; the sum over the ranges of
/// different groups is a product of sums.
fn groups(term: &Term) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..term.ranges.len()).collect();
    for factor in &term.factors {
        let vars: Vec<_> = factor.symbols.iter().flat_map(|s| s.loop_vars()).collect();
        let here: Vec<usize> =
            (0..groups.len()).filter(|r| vars.contains(&term.ranges[*r].0)).map(|r| groups[r]).collect();
        let least = here.iter().min().copied();
        groups.iter_mut().filter(|g| here.contains(g)).for_each(|g| *g = least.unwrap_or(*g));
    }
    groups
}

/// A product of sums, each by draws of its own: the mean of a product is that of the means.
fn independent(graph: &mut Graph, term: Term, groups: &[usize], how: &Estimate, k: usize) -> Id {
    let derivatives = term.derivatives(graph);
    let mut body = graph.mul(term.coefficient, derivatives);
    for (r, (var, lo, hi)) in term.ranges.iter().enumerate().rev() {
        // sums inside each other share their draws, as long as there are draws to tell apart
        let around = groups[..r].iter().filter(|g| **g == groups[r]).count();
        let own = if around < k { 0 } else { around };
        let name = match (groups[r], own) {
            (0, 0) => how.name.to_string(),
            (group, own) => format!("{} {group} {own}", how.name),
        };
        let kind = SamplerKind::Sparse { k, shared: false };
        let sampler = ((k as i64) < hi - lo).then(|| graph.sampler(&name, kind, *lo, *hi));
        body = graph.reduce(Reduction::Sum, *var, *lo, *hi, body, sampler);
    }
    body
}

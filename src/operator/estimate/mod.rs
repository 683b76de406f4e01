//! Estimators: passes over expressions whose derivatives are not expanded yet. Each replaces sums that hold derivatives of
//! networks by random sums of the same mean.
//!
//! - `sparse(k)` marks sums as sampled ([`Graph::draw`] puts the draws in);
//! - `importance(k)` draws the terms of a sum with probabilities in proportion to their coefficients ([`weighted`]);
//! - `rademacher(k)`, `gaussian(k)` contract pairs of derivatives with random directions ([`dense`]).
//!
//! - `compressed` marks sums as carried out in the variables of the first layer ([`compress`] puts the directions in).
//!
//! `importance` and the random directions see an operator as [`Term`]s: coefficient, ranges of indices, and derivatives of fields.

mod compressed;
mod dense;
mod terms;
mod weighted;

pub use compressed::compress;

use super::graph::{Graph, Id, Node, SamplerKind};
use super::index::Symbol;
use crate::program::{Method, ParamId, Reduction};
use std::collections::{HashMap, HashSet};

/// Why an expression cannot be estimated this way.
#[derive(Clone, Debug)]
pub struct Unfit(pub String);

/// How to estimate.
pub struct Estimate<'a> {
    /// The method.
    pub method: Method,
    /// Names the draws: estimates of one name and range share them.
    pub name: &'a str,
    /// Sums that an estimate of their own has been found for.
    pub settled: &'a HashSet<Id>,
    /// Whether a parameter is learned.
    pub learned: &'a dyn Fn(ParamId) -> bool,
}

/// The expression with its outermost sums of derivatives of networks estimated.
pub fn estimate(graph: &mut Graph, id: Id, how: &Estimate) -> Result<Id, Unfit> {
    match how.method {
        Method::Auto | Method::Exact => Ok(id),
        Method::Compressed { k } => Ok(mark(graph, id, how, SamplerKind::Compressed { k })),
        Method::Sparse { k, shared } => Ok(mark(graph, id, how, SamplerKind::Sparse { k, shared })),
        Method::Importance { k } => weighted::estimate(graph, id, how, k),
        Method::Rademacher { k } => dense::estimate(graph, id, how, k, false),
        Method::Gaussian { k } => dense::estimate(graph, id, how, k, true),
    }
}

/// The sums that occur in an expression.
pub fn sums(graph: &Graph, id: Id, found: &mut HashSet<Id>) {
    let mut todo = vec![id];
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            if let Node::Reduce { .. } = graph.node(id) {
                found.insert(id);
            }
            todo.extend(graph.children(id));
        }
    }
}

/// Sums inside each other by one sampler at most: the weights of deeper ones grow too complicated.
const MAX_NESTED: usize = 3;

/// Marks the outermost sums of derivatives, and those inside.
fn mark(graph: &mut Graph, id: Id, how: &Estimate, kind: SamplerKind) -> Id {
    Mark { how, kind, memo: HashMap::new() }.apply(graph, id, &[])
}

struct Mark<'a> {
    how: &'a Estimate<'a>,
    kind: SamplerKind,
    memo: HashMap<(Id, Vec<(i64, i64)>), Id>,
}

impl Mark<'_> {
    /// Marks the sums; `outer` are the ranges of the marked sums around the expression. Sums over one range share their
    /// draws, also inside each other, as long as there are draws to tell apart.
    fn apply(&mut self, graph: &mut Graph, id: Id, outer: &[(i64, i64)]) -> Id {
        if self.how.settled.contains(&id) || !graph.holds_derivative(id) {
            return id;
        }
        let key = (id, outer.to_vec());
        if let Some(done) = self.memo.get(&key) {
            return *done;
        }
        // how many sums inside each other can share their draws: random directions none, exact ones all
        let (draws, nested) = match self.kind {
            SamplerKind::Sparse { k, .. } => (k, MAX_NESTED.min(k)),
            SamplerKind::Compressed { k: None } => (1, usize::MAX),
            _ => (1, 1),
        };
        let out = match *graph.node(id) {
            Node::Reduce { reduction: Reduction::Sum, lo, hi, sampler: None, .. } if (draws as i64) < hi - lo => {
                let (var, body) = graph.open(id).expect("a reduction");
                let around = outer.iter().filter(|range| **range == (lo, hi)).count();
                let inner: Vec<_> = outer.iter().copied().chain([(lo, hi)]).collect();
                let body = self.apply(graph, body, &inner);
                let name = match around < nested {
                    true => self.how.name.to_string(),
                    false => format!("{} {around}", self.how.name),
                };
                let sampler = graph.sampler(&name, self.kind, lo, hi);
                graph.reduce(Reduction::Sum, var, lo, hi, body, Some(sampler))
            }
            Node::Reduce { sampler: Some(_), .. } => id,
            _ => graph.map_children(id, &mut |g, c| self.apply(g, c, outer), Symbol::clone),
        };
        self.memo.insert(key, out);
        out
    }
}

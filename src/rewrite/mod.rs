//! The e-graph: makes equal residuals equal, finds the form that needs the fewest algebra rows and then the fewest
//! pointwise flops, and says why two forms are equal.
//!
//! - `language`: the forms, those of [`Graph`] over e-classes
//! - `facts`: what is known of a class; the way from the graph into the e-graph and back
//! - `build`: how rules look at classes and add forms
//! - `rules`: the tables
//! - `cost`, `extract`: which forms are best
//! - `proof`: explanations
//!
//! Everything is bounded by counts, never by the clock, and ordered: the same input gives the same output anywhere.

mod build;
mod cost;
mod extract;
mod facts;
mod language;
mod proof;
mod rules;
#[cfg(test)]
mod tests;

pub use proof::{explain, prove};

use crate::operator::{Graph, Id};
use egg::{BackoffScheduler, Runner, StopReason};
use extract::Extractor;
use facts::{Classes, Facts, import_with};
use indexmap::{IndexMap, IndexSet};
use language::Form;
use rules::{Use, rewrites};
use std::time::Duration;

/// Saturation stops at about this many e-nodes. Residuals with less code than a two-body source saturate or have found
/// their best form by then; three times as many cost three times the time and found nothing better worth it.
const NODE_LIMIT: usize = 3_000;
/// Rounds of saturation. New forms come from the first few; later ones find the same forms in other places.
const ITERATION_LIMIT: usize = 8;
/// Larger programs are compiled as they are.
const MAX_NODES: usize = 2_000;
/// In the search for forms with few rows, a derivative of a network costs more than any pointwise code.
const PER_ATOM: f64 = 1e9;

/// What [`rewrite`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Rewritten {
    /// The residuals, without `Node::Derivative`.
    pub roots: Vec<Id>,
    /// How it went.
    pub report: Report,
}

/// What rewriting did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Size of the e-graph in e-nodes.
    pub nodes: usize,
    /// Size of the e-graph in e-classes.
    pub classes: usize,
    /// Rounds of saturation.
    pub iterations: usize,
    /// Why it stopped: `saturated`, `iteration limit`, `node limit` or `too big`.
    pub stop: &'static str,
    /// Of the expanded residuals.
    pub before: Cost,
    /// Of the result: never more.
    pub after: Cost,
    /// Expressions of the result that are used more than once.
    pub shared: usize,
}

/// Compared by rows, then by flops.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Cost {
    /// Rows of the algebra.
    pub rows: usize,
    /// Pointwise flops of one point.
    pub flops: f64,
}

/// Finds cheaper forms of residuals.
///
/// `raw[k]` is a residual with its derivatives not carried out, `expanded[k]` the same residual with chain and product
/// rule applied down to atoms; `rows` gives the number of algebra rows that roots need. The result is one of the forms
/// of each residual, all together the cheapest that was found; where nothing is cheaper than `expanded`, it is that.
pub fn rewrite(graph: &mut Graph, raw: &[Id], expanded: &[Id], rows: &dyn Fn(&mut Graph, &[Id]) -> usize) -> Rewritten {
    let mut report = Report { stop: "too big", ..Report::default() };
    let mut candidates: Vec<Vec<Id>> = vec![expanded.to_vec()];
    if reachable(graph, raw.iter().chain(expanded)) <= MAX_NODES {
        let mut egraph = Classes::new(Facts::of(std::mem::take(graph), NODE_LIMIT));
        let mut memo = IndexMap::new();
        let roots: Vec<egg::Id> = expanded.iter().map(|e| import_with(&mut egraph, *e, &mut memo)).collect();
        let input: Vec<(egg::Id, Form)> = memo.values().map(|id| (*id, egraph.id_to_node(*id).clone())).collect();
        for (r, root) in raw.iter().zip(&roots) {
            let id = import_with(&mut egraph, *r, &mut memo);
            egraph.union_trusted(id, *root, proof::EXPAND);
        }
        egraph.rebuild();
        let runner = saturate(egraph, &rewrites(|r| r.used == Use::Rewriting), ITERATION_LIMIT, None);
        report.iterations = runner.iterations.len();
        report.stop = match runner.stop_reason {
            Some(StopReason::Saturated) => "saturated",
            Some(StopReason::NodeLimit(_)) => "node limit",
            _ => "iteration limit",
        };
        let mut egraph = runner.egraph;
        report.nodes = egraph.total_number_of_nodes();
        report.classes = egraph.number_of_classes();
        let mut extractor = Extractor::new(&mut egraph, &roots);
        candidates.extend(extractor.extract(&input, 0.0));
        candidates.extend(extractor.extract(&input, PER_ATOM));
        *graph = std::mem::take(&mut egraph.analysis.graph);
    }
    let mut best: Option<(Cost, Vec<Id>, usize)> = None;
    for (k, roots) in candidates.into_iter().enumerate() {
        let (flops, shared, _) = cost::of_terms(graph, &roots);
        if best.as_ref().is_some_and(|b| b.1 == roots) {
            continue;
        }
        let cost = Cost { rows: rows(graph, &roots), flops };
        if k == 0 {
            report.before = cost;
        }
        if best.as_ref().is_none_or(|b| cost < b.0) {
            best = Some((cost, roots, shared));
        }
    }
    let (after, roots, shared) = best.unwrap_or_default();
    report.after = after;
    report.shared = shared;
    Rewritten { roots, report }
}

/// Applies the rules until nothing is new, a limit is reached, or two classes are equal.
fn saturate(
    egraph: Classes,
    rules: &[egg::Rewrite<Form, Facts>],
    iterations: usize,
    goal: Option<(egg::Id, egg::Id)>,
) -> Runner<Form, Facts> {
    let limit = egraph.analysis.node_limit;
    Runner::new(Facts::default())
        .with_egraph(egraph)
        .with_node_limit(limit)
        .with_iter_limit(iterations)
        .with_time_limit(Duration::MAX)
        .with_scheduler(BackoffScheduler::default())
        .with_hook(move |runner| match goal {
            Some((a, b)) if runner.egraph.find(a) == runner.egraph.find(b) => Err("proved".to_string()),
            _ => Ok(()),
        })
        .run(rules)
}

/// Name and algebra of every rule, in the order in which they are applied.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    rules::table().map(|r| (r.name, r.algebra))
}

/// Number of nodes below some roots.
fn reachable<'i>(graph: &Graph, roots: impl Iterator<Item = &'i Id>) -> usize {
    let mut seen: IndexSet<Id> = roots.copied().collect();
    let mut next = 0;
    while let Some(id) = seen.get_index(next).copied() {
        seen.extend(graph.children(id));
        next += 1;
    }
    seen.len()
}

/// True if a derivative is left below some roots.
#[cfg(test)]
fn has_derivative(graph: &Graph, roots: &[Id]) -> bool {
    let mut todo = roots.to_vec();
    while let Some(id) = todo.pop() {
        if matches!(graph.node(id), crate::operator::Node::Derivative(..)) {
            return true;
        }
        todo.extend(graph.children(id));
    }
    false
}

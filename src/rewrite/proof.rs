//! Why two expressions are equal: the steps of a proof, one line each.

use super::facts::{Classes, Facts, import};
use super::language::Form;
use super::rules::{Use, rewrites};
use super::saturate;
use crate::operator::{Func, Graph, Id as Term, Index, Symbol};
use egg::FlatTerm;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use std::collections::{BTreeMap, BTreeSet};

/// The name of the step from a residual to its expansion.
pub(super) const EXPAND: &str = "expand";
/// A proof may look further than rewriting does: it is made on request, for one pair.
const NODE_LIMIT: usize = 6_000;
const ITERATION_LIMIT: usize = 12;

/// Lines `form   [rule]` from `a` to `b`; none if the rules do not show that they are equal. `leaf` names the nodes
/// without children. Where the rules alone do not get there, `expand` (chain and product rule at once) is one step, and
/// only what is used in rewriting is tried from there: what rewriting found, it finds again.
pub fn explain(graph: &mut Graph, leaf: &dyn Fn(&Graph, Term) -> String, a: Term, b: Term) -> Option<Vec<String>> {
    attempt(graph, leaf, a, b, false).or_else(|| attempt(graph, leaf, a, b, true))
}

fn attempt(
    graph: &mut Graph,
    leaf: &dyn Fn(&Graph, Term) -> String,
    a: Term,
    b: Term,
    expand: bool,
) -> Option<Vec<String>> {
    let expansions = expand.then(|| [a, b].map(|t| graph.expand(t)));
    let mut egraph = Classes::new(Facts::of(std::mem::take(graph), NODE_LIMIT)).with_explanations_enabled();
    let [x, y] = [a, b].map(|t| import(&mut egraph, t));
    for (id, t) in [x, y].into_iter().zip(expansions.into_iter().flatten()) {
        let t = import(&mut egraph, t);
        egraph.union_trusted(id, t, EXPAND);
    }
    egraph.rebuild();
    let rules = rewrites(|r| !expand || r.used == Use::Rewriting);
    let mut egraph = saturate(egraph, &rules, ITERATION_LIMIT, Some((x, y))).egraph;
    let names = bound_names(&mut egraph);
    let lines = (egraph.find(x) == egraph.find(y)).then(|| {
        let mut explanation = egraph.explain_id_equivalence(x, y);
        let steps = explanation.make_flat_explanation();
        let writer = Writer { facts: &egraph.analysis, names: &names, leaf };
        let mut lines: Vec<String> = Vec::new();
        for step in steps {
            let text = writer.text(step, 0);
            match step_rule(step) {
                Some(rule) => lines.push(format!("{text}   [{rule}]")),
                None => lines.push(text),
            }
        }
        lines
    });
    *graph = egraph.analysis.graph;
    lines
}

/// True if the rules alone show that two expressions are equal.
pub fn prove(graph: &mut Graph, a: Term, b: Term) -> bool {
    let mut egraph = Classes::new(Facts::of(std::mem::take(graph), NODE_LIMIT));
    let [x, y] = [a, b].map(|t| import(&mut egraph, t));
    egraph.rebuild();
    let egraph = saturate(egraph, &rewrites(|_| true), ITERATION_LIMIT, Some((x, y))).egraph;
    let equal = egraph.find(x) == egraph.find(y);
    *graph = egraph.analysis.graph;
    equal
}

/// The rule that led to a step, wherever in the expression it was applied.
fn step_rule(step: &FlatTerm<Form>) -> Option<String> {
    if let Some(rule) = &step.forward_rule {
        return Some(rule.to_string());
    }
    if let Some(rule) = &step.backward_rule {
        return Some(format!("{rule}, read backwards"));
    }
    step.children.iter().find_map(step_rule)
}

/// For each leaf with open variables of the e-graph, the same leaf with the bound variables that they stand for.
fn bound_names(egraph: &mut Classes) -> BTreeMap<Term, Term> {
    let leaves: BTreeSet<Term> =
        egraph.nodes().iter().filter_map(|f| if let Form::Leaf(id) = f { Some(*id) } else { None }).collect();
    let facts = &mut egraph.analysis;
    let mut names = BTreeMap::new();
    for leaf in leaves {
        let mut named = leaf;
        for var in facts.graph.free_vars(leaf).to_vec() {
            let by = Index::of_loop(facts.bound(var));
            named = facts.graph.substitute(named, var, &by);
        }
        names.insert(leaf, named);
    }
    names
}

struct Writer<'w> {
    facts: &'w Facts,
    names: &'w BTreeMap<Term, Term>,
    leaf: &'w dyn Fn(&Graph, Term) -> String,
}

impl Writer<'_> {
    /// Text of a term; precedence 0 in a sum, 1 in a product, 2 in a power.
    fn text(&self, term: &FlatTerm<Form>, precedence: u8) -> String {
        let child = |k: usize, precedence| self.text(&term.children[k], precedence);
        let wrap = |own: u8, text: String| if own < precedence { format!("({text})") } else { text };
        match &term.node {
            Form::Num(v) if v.is_negative() || !v.is_integer() => wrap(0, v.to_string()),
            Form::Num(v) => v.to_string(),
            Form::Leaf(id) => (self.leaf)(&self.facts.graph, *self.names.get(id).unwrap_or(id)),
            Form::Add(c, k, _) => {
                let mut out = String::new();
                for (n, c) in c.iter().enumerate() {
                    join(&mut out, c.is_negative());
                    if !c.abs().is_one() {
                        out += &format!("{}*", factor(&c.abs()));
                    }
                    out += &child(n, 1);
                }
                if !k.is_zero() {
                    join(&mut out, k.is_negative());
                    out += &k.abs().to_string();
                }
                wrap(0, out)
            }
            Form::Mul(e, _) => {
                let factors: Vec<String> = e
                    .iter()
                    .enumerate()
                    .map(|(n, e)| match e {
                        1 => child(n, 2),
                        e if *e < 0 => format!("{}^({e})", child(n, 3)),
                        e => format!("{}^{e}", child(n, 3)),
                    })
                    .collect();
                wrap(1, factors.join("*"))
            }
            Form::Power(_) => wrap(2, format!("{}^{}", child(0, 3), child(1, 3))),
            Form::Call(f, a) => {
                let name = match f {
                    Func::Of(f) => format!("{f:?}").to_lowercase(),
                    Func::Sign => "sign".to_string(),
                    Func::AtLeast => "at_least".to_string(),
                };
                let arguments: Vec<String> = (0..a.len()).map(|k| child(k, 0)).collect();
                format!("{name}({})", arguments.join(", "))
            }
            Form::Reduce(l, _) => {
                let name = if l.max { "max" } else { "sum" };
                format!("{name}({} in {}..{}: {})", self.facts.bound(l.var), l.lo, l.hi, child(0, 0))
            }
            Form::D(s, _) => format!("d({}, {})", child(0, 0), self.symbol(s)),
        }
    }

    fn symbol(&self, s: &Symbol) -> String {
        // bound names for the open variables of the e-graph
        let shown = s.loop_vars().into_iter().fold(s.clone(), |s, v| {
            let by = Index::of_loop(self.facts.bound(v));
            s.substitute(v, &by)
        });
        match shown {
            Symbol::Column(i) => format!("x[{i}]"),
            Symbol::Direction { sampler, slot } => format!("direction{sampler}[{slot}]"),
        }
    }
}

fn join(out: &mut String, negative: bool) {
    *out += match (out.is_empty(), negative) {
        (true, true) => "-",
        (true, false) => "",
        (false, true) => " - ",
        (false, false) => " + ",
    };
}

fn factor(c: &BigRational) -> String {
    if c.is_integer() { c.to_string() } else { format!("({c})") }
}

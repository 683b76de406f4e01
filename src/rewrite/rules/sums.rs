//! Sums over an index. A sampled sum is estimated by the same draws wherever it stands, so it is linear too.

use super::{On, Rule, proof, rule};
use crate::operator::Node;
use crate::rewrite::build::Build;
use crate::rewrite::facts::{import, one, varies_with};
use crate::rewrite::language::{Form, Loop};
use egg::Id;
use num_rational::BigRational;
use num_traits::Zero;

pub const RULES: &[Rule] = &[
    rule("sum is linear", On::Reduce, "sum_i (p a + q b + r) = p sum_i a + q sum_i b + n r", linear),
    rule(
        "factor out of a sum",
        On::Reduce,
        "sum_i a b = a sum_i b where neither i nor its draws occur in a",
        factor_out,
    ),
    rule("contract delta", On::Reduce, "sum_i delta(i - j) a_i = [lo <= j < hi] a_j", contract),
    rule("rename index", On::Reduce, "sum_i a_i = sum_j a_j: the lowest name that is free", rename),
    rule("maximum of a constant", On::Reduce, "max_i a = a where a does not depend on i", constant_max),
    proof("join sums", On::Add, "p sum_i a + q sum_i b = sum_i (p a + q b)", join),
];

/// The number of terms of a sum.
fn length(l: &Loop) -> i64 {
    (l.hi - l.lo).max(0)
}

fn linear(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Reduce(l @ Loop { max: false, .. }, body) = form else { return vec![] };
    let sums = b.forms(*body, |f| match f {
        Form::Add(_, k, _) => Some((f.terms(), k.clone())),
        _ => None,
    });
    let mut out = Vec::new();
    for (terms, k) in sums {
        let terms: Vec<_> = terms.into_iter().map(|(t, c)| (b.reduce(l, t), c)).collect();
        out.push(b.linear(terms, k * BigRational::from_integer(length(l).into())));
    }
    out
}

fn factor_out(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Reduce(l @ Loop { max: false, .. }, body) = form else { return vec![] };
    let mut out = Vec::new();
    for factors in b.products(*body) {
        let (inner, outer): (Vec<_>, Vec<_>) = factors.into_iter().partition(|f| {
            let term = b.fact(f.0).term;
            b.varies(f.0, l.var) || l.sampler.is_some_and(|s| b.egraph.analysis.graph.is_sampled_by(term, s))
        });
        if outer.is_empty() {
            continue;
        }
        let rest = if inner.is_empty() {
            b.int(length(l))
        } else {
            let inner = b.product(inner);
            b.reduce(l, inner)
        };
        out.push(b.product(outer.into_iter().chain([(rest, 1)])));
    }
    out
}

fn contract(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Reduce(l @ Loop { max: false, .. }, body) = form else { return vec![] };
    let mut out = Vec::new();
    for factors in b.products(*body) {
        let is_delta = |f: &Form| match f {
            Form::Leaf(leaf) => {
                matches!(b.egraph.analysis.graph.node(*leaf), Node::Delta(i) if varies_with(i, l.var))
            }
            _ => false,
        };
        if !factors.iter().any(|f| b.egraph[f.0].nodes.iter().any(is_delta)) {
            continue;
        }
        // an index is substituted in a term, not in a class
        let terms: Vec<_> = factors.iter().map(|f| (b.fact(f.0).term, f.1)).collect();
        let graph = &mut b.egraph.analysis.graph;
        let product = graph.product(terms);
        let contracted = graph.reduce(l.reduction(), l.var, l.lo, l.hi, product, l.sampler);
        out.push(import(b.egraph, contracted));
    }
    out
}

fn rename(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Reduce(l, body) = form else { return vec![] };
    let body = b.fact(*body).term;
    let graph = &mut b.egraph.analysis.graph;
    let sum = graph.reduce(l.reduction(), l.var, l.lo, l.hi, body, l.sampler);
    let Node::Reduce { var, lo, hi, .. } = *graph.node(sum) else { return vec![] };
    if b.egraph.analysis.loop_var(var, lo, hi) == l.var { vec![] } else { vec![import(b.egraph, sum)] }
}

fn constant_max(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Reduce(l @ Loop { max: true, .. }, body) = form else { return vec![] };
    if l.hi > l.lo && !b.varies(*body, l.var) { vec![*body] } else { vec![] }
}

fn join(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    let terms = form.terms();
    let sums: Vec<Vec<(Loop, Id)>> = terms
        .iter()
        .map(|t| {
            b.forms(t.0, |f| match f {
                Form::Reduce(l, body) if !l.max => Some((l.clone(), *body)),
                _ => None,
            })
        })
        .collect();
    let mut out = Vec::new();
    for n in 0..terms.len() {
        for m in 0..n {
            for (l, x) in &sums[n] {
                for (_, y) in sums[m].iter().filter(|(k, _)| k == l) {
                    let body = b.linear([(*x, terms[n].1.clone()), (*y, terms[m].1.clone())], BigRational::zero());
                    let sum = b.reduce(l, body);
                    let others = (0..terms.len()).filter(|k| *k != n && *k != m).map(|k| terms[k].clone());
                    let all: Vec<_> = others.chain([(sum, one())]).collect();
                    out.push(b.linear(all, k.clone()));
                }
            }
        }
    }
    out
}

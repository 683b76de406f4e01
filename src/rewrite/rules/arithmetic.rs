//! Sums and products.

use super::{On, Rule, rule};
use crate::rewrite::build::Build;
use crate::rewrite::facts::one;
use crate::rewrite::language::Form;
use egg::Id;
use num_rational::BigRational;
use num_traits::Zero;
use std::collections::BTreeMap;

pub const RULES: &[Rule] = &[
    rule("collect terms", On::Add, "2 a + 3 a = 5 a", collect_terms),
    rule("collect factors", On::Mul, "a^2 a^3 = a^5", collect_factors),
    rule("flatten sum", On::Add, "a + (b + c) = a + b + c", flatten_sum),
    rule("flatten product", On::Mul, "a (b c)^n = a b^n c^n", flatten_product),
    rule("distribute", On::Mul, "a (b + c) = a b + a c", distribute),
    rule("factor", On::Add, "a b + a c = a (b + c); in a polynomial, Horner's form", factor),
];

/// Sums longer than this are not multiplied out, nor searched for common factors.
const MAX_TERMS: usize = 12;

fn collect_terms(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    vec![b.linear(form.terms(), k.clone())]
}

fn collect_factors(b: &mut Build, form: &Form) -> Vec<Id> {
    vec![b.product(form.factors())]
}

fn flatten_sum(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    let terms = form.terms();
    let mut out = Vec::new();
    for (n, (t, c)) in terms.iter().enumerate() {
        for (inner, constant) in b.sums(*t) {
            let others = terms.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, t)| t.clone());
            let inner = inner.into_iter().map(|(t, ci)| (t, ci * c));
            let all: Vec<_> = others.chain(inner).collect();
            out.push(b.linear(all, k + constant * c));
        }
    }
    out
}

fn flatten_product(b: &mut Build, form: &Form) -> Vec<Id> {
    let factors = form.factors();
    let mut out = Vec::new();
    for (n, (f, e)) in factors.iter().enumerate() {
        let products = b.products(*f);
        for inner in &products[..products.len() - 1] {
            let others = factors.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, f)| *f);
            let all: Vec<_> = others.chain(inner.iter().map(|(f, k)| (*f, k * e))).collect();
            out.push(b.product(all));
        }
    }
    out
}

fn distribute(b: &mut Build, form: &Form) -> Vec<Id> {
    let factors = form.factors();
    let mut out = Vec::new();
    for (n, (f, e)) in factors.iter().enumerate() {
        if !(1..=3).contains(e) {
            continue;
        }
        for (terms, constant) in b.sums(*f) {
            if terms.len() > MAX_TERMS {
                continue;
            }
            let mut rest = factors.clone();
            rest[n].1 -= 1;
            let rest = b.product(rest);
            let mut all: Vec<(Id, BigRational)> = terms.into_iter().map(|(t, c)| (b.times(rest, t), c)).collect();
            all.push((rest, constant));
            out.push(b.linear(all, BigRational::zero()));
        }
    }
    out
}

/// The exponent of a factor in a product that holds it, and the product.
type Holder<'p> = (i32, &'p [(Id, i32)]);

fn factor(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, t) = form else { return vec![] };
    if t.len() < 2 || t.len() > MAX_TERMS {
        return vec![];
    }
    let terms = form.terms();
    let products: Vec<Vec<Vec<(Id, i32)>>> = terms.iter().map(|(t, _)| b.products(*t)).collect();
    // for each factor: the terms that hold it, with the exponent and the product in which it was seen
    let mut found: BTreeMap<Id, BTreeMap<usize, Holder>> = BTreeMap::new();
    for (n, forms) in products.iter().enumerate() {
        for product in forms {
            for (f, e) in product {
                found.entry(b.egraph.find(*f)).or_default().entry(n).or_insert((*e, product));
            }
        }
    }
    let mut out = Vec::new();
    for (f, holders) in found.into_iter().filter(|(_, h)| h.len() > 1) {
        let least = holders.values().map(|h| h.0).min().unwrap_or(0);
        let most = holders.values().map(|h| h.0).max().unwrap_or(0);
        let common = match (least > 0, most < 0) {
            (true, _) => least,
            (_, true) => most,
            _ => continue,
        };
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for (n, (t, c)) in terms.iter().enumerate() {
            match holders.get(&n) {
                Some((_, product)) => {
                    let rest = b.product(product.iter().copied().chain([(f, -common)]));
                    inner.push((rest, c.clone()));
                }
                None => outer.push((*t, c.clone())),
            }
        }
        let inner = b.linear(inner, BigRational::zero());
        let product = b.product([(f, common), (inner, 1)]);
        outer.push((product, one()));
        out.push(b.linear(outer, k.clone()));
    }
    out
}

//! Derivatives. `div(grad(u)) = lap(u)` and `curl(grad(u)) = 0` are consequences of linearity and commuting partials.

use super::{On, Rule, proof, rule};
use crate::operator::{Atom, Func, Node, Symbol};
use crate::program::{Function, Reduction};
use crate::rewrite::build::Build;
use crate::rewrite::facts::{import, one};
use crate::rewrite::language::{Form, Loop};
use egg::Id;
use num_rational::BigRational;
use num_traits::Zero;

pub const RULES: &[Rule] = &[
    rule("constant", On::D, "d_s a = 0 where a does not depend on s", constant),
    rule("leaf", On::D, "d_j x_i = delta(i - j); d_s of an atom is an atom", leaf),
    rule("linearity", On::D, "d(p a + q b + r) = p d(a) + q d(b) for numbers p, q, r", linearity),
    rule("product rule", On::D, "d(a^m b^n) = m a^(m-1) b^n d(a) + n a^m b^(n-1) d(b)", product_rule),
    rule("power rule", On::D, "d(a^b) = b a^(b-1) d(a) + a^b log(a) d(b)", power_rule),
    rule("chain rule", On::D, "d(f(a)) = f'(a) d(a)", chain_rule),
    rule("commuting partials", On::D, "d_s d_t a = d_t d_s a, the smaller symbol inside", commute),
    rule("derivative of a sum", On::D, "d sum_i a = sum_i d(a)", through_sum),
    rule("derivative of a maximum", On::D, "d max_i a = sum_i [a >= max_i a] d(a)", through_max),
    proof("linearity, back", On::Add, "p d(a) + q d(b) = d(p a + q b)", join_sum),
    proof("product rule, back", On::Add, "d(a) b + a d(b) = d(a b)", join_product),
    proof("power rule, back", On::Mul, "a^n d(a) = d(a^(n+1))/(n+1)", join_power),
    proof("leaf, back", On::Leaf, "an atom is a derivative of an atom", split_atom),
];

fn constant(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    if b.fact(*a).support.excludes(s) { vec![b.int(0)] } else { vec![] }
}

fn leaf(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for leaf in b.forms(*a, |f| if let Form::Leaf(l) = f { Some(*l) } else { None }) {
        let d = b.egraph.analysis.graph.derive(leaf, s);
        out.push(import(b.egraph, d));
    }
    out
}

fn linearity(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for terms in b.forms(*a, |f| matches!(f, Form::Add(..)).then(|| f.terms())) {
        let terms: Vec<_> = terms.into_iter().map(|(t, c)| (b.d(s, t), c)).collect();
        out.push(b.linear(terms, BigRational::zero()));
    }
    out
}

fn product_rule(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for factors in b.forms(*a, |f| matches!(f, Form::Mul(..)).then(|| f.factors())) {
        let mut terms = Vec::new();
        for (n, (f, e)) in factors.iter().enumerate() {
            let df = b.d(s, *f);
            let mut rest = factors.clone();
            rest[n].1 -= 1;
            rest.push((df, 1));
            terms.push((b.product(rest), BigRational::from_integer((*e).into())));
        }
        out.push(b.linear(terms, BigRational::zero()));
    }
    out
}

fn power_rule(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for [base, exponent] in b.forms(*a, |f| if let Form::Power(p) = f { Some(*p) } else { None }) {
        let (d_base, d_exponent) = (b.d(s, base), b.d(s, exponent));
        let less = b.affine(-1, 1, exponent);
        let lower = b.power(base, less);
        let mut sum = b.product([(exponent, 1), (lower, 1), (d_base, 1)]);
        if b.number(d_exponent).is_none_or(|v| !v.is_zero()) {
            let log = b.call(Function::Log, base);
            let second = b.product([(*a, 1), (log, 1), (d_exponent, 1)]);
            sum = b.plus(sum, second);
        }
        out.push(sum);
    }
    out
}

fn chain_rule(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, of) = form else { return vec![] };
    let mut out = Vec::new();
    for (f, a) in b.forms(*of, |f| if let Form::Call(f, a) = f { Some((*f, a.clone())) } else { None }) {
        out.push(match (f, &a[..]) {
            (Func::Sign | Func::AtLeast, _) => b.int(0),
            (Func::Of(f @ (Function::Min | Function::Max)), [x, y]) => {
                let first = if f == Function::Max { b.at_least(*x, *y) } else { b.at_least(*y, *x) };
                let second = b.affine(1, -1, first);
                let (dx, dy) = (b.d(s, *x), b.d(s, *y));
                let (dx, dy) = (b.times(first, dx), b.times(second, dy));
                b.plus(dx, dy)
            }
            (Func::Of(f), [x]) => {
                let Some(outer) = outer_derivative(b, f, *of, *x) else { continue };
                let inner = b.d(s, *x);
                b.times(outer, inner)
            }
            _ => continue,
        });
    }
    out
}

/// f'(x), where `fx` is the class of f(x); none for a function of more arguments.
fn outer_derivative(b: &mut Build, f: Function, fx: Id, x: Id) -> Option<Id> {
    use Function::*;
    Some(match f {
        // 1/(2 sqrt(x))
        Sqrt => {
            let r = b.powi(fx, -1);
            b.scale(BigRational::new(1.into(), 2.into()), r)
        }
        Exp => fx,
        Log => b.powi(x, -1),
        Sin => b.call(Cos, x),
        Cos => {
            let sin = b.call(Sin, x);
            b.affine(0, -1, sin)
        }
        // 1 + tan^2
        Tan => {
            let square = b.powi(fx, 2);
            b.affine(1, 1, square)
        }
        Sinh => b.call(Cosh, x),
        Cosh => b.call(Sinh, x),
        // 1 - tanh^2
        Tanh => {
            let square = b.powi(fx, 2);
            b.affine(1, -1, square)
        }
        // 1/(1 + x^2)
        Atan => {
            let square = b.powi(x, 2);
            let sum = b.affine(1, 1, square);
            b.powi(sum, -1)
        }
        // 2/sqrt(pi) exp(-x^2)
        Erf => {
            let square = b.powi(x, 2);
            let minus = b.affine(0, -1, square);
            let exp = b.call(Exp, minus);
            let pi = b.egraph.analysis.graph.intern(Node::Pi);
            let pi = import(b.egraph, pi);
            let root = b.call(Sqrt, pi);
            let out = b.product([(exp, 1), (root, -1)]);
            b.affine(0, 2, out)
        }
        Abs => b.add(Form::Call(Func::Sign, vec![x])),
        Min | Max => return None,
    })
}

fn commute(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let inner = b.forms(*a, |f| match f {
        Form::D(t, a) if s < t => Some((t.clone(), *a)),
        _ => None,
    });
    let mut out = Vec::new();
    for (t, a) in inner {
        let d = b.d(s, a);
        out.push(b.d(&t, d));
    }
    out
}

/// The reductions of a class that a derivative along a symbol can enter.
fn reductions(b: &Build, id: Id, max: bool, s: &Symbol) -> Vec<(Loop, Id)> {
    b.forms(id, |f| match f {
        Form::Reduce(l, body) if l.max == max && !s.loop_vars().contains(&l.var) => Some((l.clone(), *body)),
        _ => None,
    })
}

fn through_sum(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for (l, body) in reductions(b, *a, false, s) {
        let d = b.d(s, body);
        out.push(b.reduce(&l, d));
    }
    out
}

fn through_max(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::D(s, a) = form else { return vec![] };
    let mut out = Vec::new();
    for (l, body) in reductions(b, *a, true, s) {
        // the maximum stands inside the new sum, which changes the height of its index: a matter for the graph
        let [maximum, body] = [*a, body].map(|c| b.fact(c).term);
        let graph = &mut b.egraph.analysis.graph;
        let attained = graph.intern(Node::Call(Func::AtLeast, vec![body, maximum]));
        let d = graph.intern(Node::Derivative(s.clone(), body));
        let product = graph.mul(attained, d);
        let sum = graph.reduce(Reduction::Sum, l.var, l.lo, l.hi, product, None);
        out.push(import(b.egraph, sum));
    }
    out
}

/// The derivatives among the forms of a class.
fn derivatives(b: &Build, id: Id) -> Vec<(Symbol, Id)> {
    b.forms(id, |f| if let Form::D(s, a) = f { Some((s.clone(), *a)) } else { None })
}

/// All but two positions of a list.
fn without<T: Clone>(list: &[T], n: usize, m: usize) -> Vec<T> {
    list.iter().enumerate().filter(|(k, _)| *k != n && *k != m).map(|(_, x)| x.clone()).collect()
}

fn join_sum(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    let terms = form.terms();
    let mut out = Vec::new();
    for n in 0..terms.len() {
        for m in 0..n {
            for (s, x) in derivatives(b, terms[n].0) {
                for (_, y) in derivatives(b, terms[m].0).into_iter().filter(|(t, _)| *t == s) {
                    let inner = b.linear([(x, terms[n].1.clone()), (y, terms[m].1.clone())], BigRational::zero());
                    let mut all = without(&terms, n, m);
                    all.push((b.d(&s, inner), one()));
                    out.push(b.linear(all, k.clone()));
                }
            }
        }
    }
    out
}

fn join_product(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    let terms = form.terms();
    let mut out = Vec::new();
    for n in 0..terms.len() {
        for (factors, p, q, s, a) in derivative_factors(b, terms[n].0) {
            // term n = rest d(a) y; is a term rest a d(y) there with the same coefficient?
            let (rest, y) = (without(&factors, p, q), factors[q].0);
            let dy = b.d(&s, y);
            let partner = b.product(rest.iter().copied().chain([(a, 1), (dy, 1)]));
            let partner = b.egraph.find(partner);
            let found = (0..terms.len())
                .find(|m| *m != n && terms[*m].1 == terms[n].1 && b.egraph.find(terms[*m].0) == partner);
            if let Some(m) = found {
                let product = b.times(a, y);
                let joined = b.d(&s, product);
                let joined = b.product(rest.into_iter().chain([(joined, 1)]));
                let mut all = without(&terms, n, m);
                all.push((joined, terms[n].1.clone()));
                out.push(b.linear(all, k.clone()));
            }
        }
    }
    out
}

type DerivativeFactor = (Vec<(Id, i32)>, usize, usize, Symbol, Id);

/// The ways to read a class as a product with a derivative d_s(a) at position p and another factor at q.
fn derivative_factors(b: &Build, id: Id) -> Vec<DerivativeFactor> {
    let mut out = Vec::new();
    for factors in b.products(id) {
        for p in (0..factors.len()).filter(|p| factors[*p].1 == 1) {
            for (s, a) in derivatives(b, factors[p].0) {
                for q in (0..factors.len()).filter(|q| *q != p && factors[*q].1 == 1) {
                    out.push((factors.clone(), p, q, s.clone(), a));
                }
            }
        }
    }
    out
}

fn join_power(b: &mut Build, form: &Form) -> Vec<Id> {
    let factors = form.factors();
    let mut out = Vec::new();
    for p in (0..factors.len()).filter(|p| factors[*p].1 == 1) {
        for (s, a) in derivatives(b, factors[p].0) {
            let a = b.egraph.find(a);
            if let Some(q) =
                (0..factors.len()).find(|q| *q != p && b.egraph.find(factors[*q].0) == a && factors[*q].1 >= 1)
            {
                let n = factors[q].1 + 1;
                let power = b.powi(a, n);
                let d = b.d(&s, power);
                let product = b.product(without(&factors, p, q).into_iter().chain([(d, 1)]));
                out.push(b.scale(BigRational::new(1.into(), n.into()), product));
            }
        }
    }
    out
}

fn split_atom(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Leaf(leaf) = form else { return vec![] };
    let Node::Atom(atom) = b.egraph.analysis.graph.node(*leaf).clone() else { return vec![] };
    let mut out = Vec::new();
    for n in 0..atom.symbols.len() {
        let mut symbols = atom.symbols.clone();
        let s = symbols.remove(n);
        let graph = &mut b.egraph.analysis.graph;
        let less = graph.intern(Node::Atom(Atom { symbols, ..atom.clone() }));
        // where the network may not depend on the symbol, the derivative is not the atom alone
        if graph.derive(less, &s) == *leaf {
            let less = import(b.egraph, less);
            out.push(b.d(&s, less));
        }
    }
    out
}

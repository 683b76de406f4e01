//! Identities of functions. What is not known to hold of signs is not used.

use super::{On, Rule, rule};
use crate::operator::Func;
use crate::program::Function;
use crate::rewrite::build::Build;
use crate::rewrite::facts::one;
use crate::rewrite::language::Form;
use egg::Id;
use num_rational::BigRational;
use num_traits::{Signed, Zero};

pub const RULES: &[Rule] = &[
    rule("sin^2 + cos^2", On::Add, "p sin(a)^2 r + q cos(a)^2 r = (p - q) sin(a)^2 r + q r", circle),
    rule("cosh^2 - sinh^2", On::Add, "p sinh(a)^2 r + q cosh(a)^2 r = (p + q) sinh(a)^2 r + q r", hyperbola),
    rule("product of exp", On::Mul, "exp(a)^m exp(b)^n = exp(m a + n b)", product_of_exp),
    rule("square of sqrt", On::Mul, "sqrt(a)^2 = a where a >= 0", square_of_sqrt),
    rule("inverse function", On::Call, "log(exp(a)) = a; exp(log(a)) = a where a > 0", inverse),
    rule("sqrt of a square", On::Call, "sqrt(a^2) = |a|", sqrt_of_square),
    rule("absolute value", On::Call, "|a| = a where a >= 0", absolute),
    rule("log of a product", On::Call, "log(a^m b^n) = m log(a) + n log(b) where a, b > 0", log_of_product),
    rule("odd or even", On::Call, "f(-a) = -f(a) for sin, tan, sinh, tanh, atan, erf; f(a) for cos, cosh, abs", parity),
];

fn circle(b: &mut Build, form: &Form) -> Vec<Id> {
    squares(b, form, Function::Sin, Function::Cos, |p, q| p - q)
}

fn hyperbola(b: &mut Build, form: &Form) -> Vec<Id> {
    squares(b, form, Function::Sinh, Function::Cosh, |p, q| p + q)
}

/// p f(a)^2 r + q g(a)^2 r = new(p, q) f(a)^2 r + q r
fn squares(
    b: &mut Build,
    form: &Form,
    f: Function,
    g: Function,
    new: fn(&BigRational, &BigRational) -> BigRational,
) -> Vec<Id> {
    let Form::Add(_, k, _) = form else { return vec![] };
    let terms = form.terms();
    let mut out = Vec::new();
    for (n, (t, p)) in terms.iter().enumerate() {
        for factors in b.products(*t) {
            for at in (0..factors.len()).filter(|at| factors[*at].1 >= 2) {
                let Some(a) = b.argument(factors[at].0, f) else { continue };
                let mut rest = factors.clone();
                rest[at].1 -= 2;
                let rest = b.product(rest);
                let other = b.call(g, a);
                let partner = b.product([(other, 2), (rest, 1)]);
                let partner = b.egraph.find(partner);
                let Some(m) = (0..terms.len()).find(|m| *m != n && b.egraph.find(terms[*m].0) == partner) else {
                    continue;
                };
                let q = &terms[m].1;
                let others = (0..terms.len()).filter(|k| *k != n && *k != m).map(|k| terms[k].clone());
                let all: Vec<_> = others.chain([(*t, new(p, q)), (rest, q.clone())]).collect();
                out.push(b.linear(all, k.clone()));
            }
        }
    }
    out
}

fn product_of_exp(b: &mut Build, form: &Form) -> Vec<Id> {
    let (mut arguments, mut rest) = (Vec::new(), Vec::new());
    for (f, e) in form.factors() {
        match b.argument(f, Function::Exp) {
            Some(a) => arguments.push((a, BigRational::from_integer(e.into()))),
            None => rest.push((f, e)),
        }
    }
    if arguments.is_empty() {
        return vec![];
    }
    let sum = b.linear(arguments, BigRational::zero());
    let exp = b.call(Function::Exp, sum);
    vec![b.product(rest.into_iter().chain([(exp, 1)]))]
}

fn square_of_sqrt(b: &mut Build, form: &Form) -> Vec<Id> {
    let (mut all, mut found) = (Vec::new(), false);
    for (f, e) in form.factors() {
        match b.argument(f, Function::Sqrt).filter(|a| e.abs() >= 2 && b.fact(*a).nonnegative) {
            Some(a) => {
                all.extend([(a, e / 2), (f, e % 2)]);
                found = true;
            }
            None => all.push((f, e)),
        }
    }
    if found { vec![b.product(all)] } else { vec![] }
}

fn inverse(b: &mut Build, form: &Form) -> Vec<Id> {
    match form {
        Form::Call(Func::Of(Function::Log), a) => b.argument(a[0], Function::Exp).into_iter().collect(),
        Form::Call(Func::Of(Function::Exp), a) => {
            b.argument(a[0], Function::Log).filter(|x| b.fact(*x).positive()).into_iter().collect()
        }
        _ => vec![],
    }
}

/// The products among the forms of a class.
fn proper_products(b: &Build, id: Id) -> Vec<Vec<(Id, i32)>> {
    b.forms(id, |f| matches!(f, Form::Mul(..)).then(|| f.factors()))
}

fn sqrt_of_square(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Call(Func::Of(Function::Sqrt), a) = form else { return vec![] };
    let mut out = Vec::new();
    for factors in proper_products(b, a[0]) {
        if factors.iter().all(|f| f.1 % 2 == 0) {
            let root = b.product(factors.into_iter().map(|(f, e)| (f, e / 2)));
            out.push(b.call(Function::Abs, root));
        }
    }
    out
}

fn absolute(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Call(Func::Of(Function::Abs), a) = form else { return vec![] };
    if b.fact(a[0]).nonnegative { vec![a[0]] } else { vec![] }
}

fn log_of_product(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Call(Func::Of(Function::Log), a) = form else { return vec![] };
    let mut out = Vec::new();
    for factors in proper_products(b, a[0]) {
        if factors.iter().all(|f| b.fact(f.0).positive()) {
            let terms: Vec<_> = factors
                .into_iter()
                .map(|(f, e)| (b.call(Function::Log, f), BigRational::from_integer(e.into())))
                .collect();
            out.push(b.linear(terms, BigRational::zero()));
        }
    }
    out
}

fn parity(b: &mut Build, form: &Form) -> Vec<Id> {
    use Function::*;
    let Form::Call(Func::Of(f), a) = form else { return vec![] };
    let sign = match f {
        Sin | Tan | Sinh | Tanh | Atan | Erf => -one(),
        Cos | Cosh | Abs => one(),
        _ => return vec![],
    };
    let negative = b.forms(a[0], |f| match f {
        Form::Add(c, k, _) if c.iter().all(|c| c.is_negative()) && !k.is_positive() => Some((f.terms(), k.clone())),
        _ => None,
    });
    let mut out = Vec::new();
    for (terms, k) in negative {
        let opposite = b.linear(terms.into_iter().map(|(t, c)| (t, -c)).collect::<Vec<_>>(), -k);
        let call = b.call(*f, opposite);
        out.push(b.scale(sign.clone(), call));
    }
    out
}

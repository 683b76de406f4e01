//! Cheaper operations. Whole powers are products by form, and a division is a factor with a negative exponent (all of
//! a product share one division: see [`crate::rewrite::cost`]); what is left is to avoid real powers and repeated
//! transcendental functions.

use super::{On, Rule, rule};
use crate::operator::Func;
use crate::program::Function;
use crate::rewrite::build::Build;
use crate::rewrite::language::Form;
use egg::Id;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

pub const RULES: &[Rule] = &[
    rule("half power", On::Power, "a^(n + 1/2) = a^n sqrt(a)", half_power),
    rule("power of exp", On::Power, "exp(a)^b = exp(a b)", power_of_exp),
    rule("power of a power", On::Power, "(a^b)^c = a^(b c) where a > 0", power_of_power),
    rule("join powers", On::Mul, "a^b a^c = a^(b + c) where a > 0", join_powers),
    rule("share exp", On::Call, "exp(n a) = exp(a)^n where exp(a) is there already", share_exp),
    rule("share sin and cos", On::Call, "tan(a) = sin(a)/cos(a)", share_tan),
];

/// exp(n a) becomes a power up to this n.
const MAX_SHARED: i32 = 8;

/// Base and exponent of the real powers in a class.
fn powers(b: &Build, id: Id) -> Vec<[Id; 2]> {
    b.forms(id, |f| if let Form::Power(p) = f { Some(*p) } else { None })
}

fn half_power(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Power([a, e]) = form else { return vec![] };
    let Some(e) = b.number(*e) else { return vec![] };
    let Some(n) = e.trunc().to_integer().to_i32() else { return vec![] };
    if e.is_integer() {
        return vec![b.powi(*a, n)];
    }
    if *e.denom() != 2.into() {
        return vec![];
    }
    // n is rounded towards 0, so both factors have the sign of the exponent
    let root = b.call(Function::Sqrt, *a);
    vec![b.product([(*a, n), (root, if e.is_negative() { -1 } else { 1 })])]
}

fn power_of_exp(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Power([a, e]) = form else { return vec![] };
    let Some(x) = b.argument(*a, Function::Exp) else { return vec![] };
    let product = b.times(x, *e);
    vec![b.call(Function::Exp, product)]
}

fn power_of_power(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Power([a, c]) = form else { return vec![] };
    let mut out = Vec::new();
    for [base, e] in powers(b, *a) {
        if b.fact(base).positive() {
            let e = b.times(e, *c);
            out.push(b.power(base, e));
        }
    }
    out
}

fn join_powers(b: &mut Build, form: &Form) -> Vec<Id> {
    let factors = form.factors();
    let mut out = Vec::new();
    for (n, (power, e)) in factors.iter().enumerate() {
        for [base, exponent] in powers(b, *power) {
            if !b.fact(base).positive() {
                continue;
            }
            let base = b.egraph.find(base);
            let mut exponents = vec![(exponent, BigRational::from_integer((*e).into()))];
            let (mut constant, mut rest) = (BigRational::zero(), Vec::new());
            for (_, (f, k)) in factors.iter().enumerate().filter(|(m, _)| *m != n) {
                let same = powers(b, *f).into_iter().find(|p| b.egraph.find(p[0]) == base);
                let times = BigRational::from_integer((*k).into());
                match same {
                    _ if b.egraph.find(*f) == base => constant += times,
                    Some([_, e]) => exponents.push((e, times)),
                    None => rest.push((*f, *k)),
                }
            }
            if rest.len() + 1 < factors.len() || *e != 1 {
                let exponent = b.linear(exponents, constant);
                let power = b.power(base, exponent);
                out.push(b.product(rest.into_iter().chain([(power, 1)])));
            }
        }
    }
    out
}

fn share_exp(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Call(Func::Of(Function::Exp), a) = form else { return vec![] };
    let sums = b.forms(a[0], |f| match f {
        Form::Add(_, k, _) => Some((f.terms(), k.clone())),
        _ => None,
    });
    let mut out = Vec::new();
    for (terms, k) in sums {
        for n in (2..=MAX_SHARED).chain((1..=MAX_SHARED).map(|n| -n)) {
            let by = BigRational::new(1.into(), n.into());
            let part: Vec<_> = terms.iter().map(|(t, c)| (*t, c * &by)).collect();
            // looked up, not added: otherwise every exp would get a chain of roots
            let Some(part) = b.find_linear(part, &k * &by) else { continue };
            let exp = Form::Call(Func::Of(Function::Exp), vec![part]);
            if b.egraph.lookup(exp.clone()).is_some() {
                let exp = b.add(exp);
                out.push(b.product([(exp, n)]));
            }
        }
    }
    out
}

fn share_tan(b: &mut Build, form: &Form) -> Vec<Id> {
    let Form::Call(Func::Of(Function::Tan), a) = form else { return vec![] };
    let (sin, cos) = (b.call(Function::Sin, a[0]), b.call(Function::Cos, a[0]));
    vec![b.product([(sin, 1), (cos, -1)])]
}

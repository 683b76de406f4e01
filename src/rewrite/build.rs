//! How rules look at classes and add forms to the e-graph: the counterpart of the graph's constructors.
//!
//! Sums and products come out in canonical order, numbers folded, like terms collected, numeric factors in the
//! enclosing sum. `x/x` is 1, as in the graph: exponents add up and cancel.

use super::facts::{Classes, Fact, one, sum_form};
use super::language::{Form, Loop};
use crate::operator::{Func, LoopVar, Symbol};
use crate::program::Function;
use egg::Id;
use num_rational::BigRational;
use num_traits::{One, Pow, ToPrimitive, Zero};
use std::collections::BTreeMap;

/// Of the forms of one kind in a class, rules look at this many: those that were there first.
const MAX_FORMS: usize = 2;
/// Numbers are raised to powers up to this.
const MAX_EXPONENT: u32 = 64;

/// Access to the e-graph for a rule.
pub struct Build<'e> {
    /// The e-graph.
    pub egraph: &'e mut Classes,
}

impl Build<'_> {
    /// What is known of a class.
    pub fn fact(&self, id: Id) -> &Fact {
        &self.egraph[id].data
    }
    /// The number that a class is.
    pub fn number(&self, id: Id) -> Option<BigRational> {
        self.egraph.analysis.graph.as_num(self.fact(id).term).cloned()
    }
    /// True if the value may depend on a loop variable.
    pub fn varies(&self, id: Id, var: LoopVar) -> bool {
        self.fact(id).free.contains(&var)
    }
    /// The forms of a class that a function accepts, at most two.
    pub fn forms<T>(&self, id: Id, accept: impl Fn(&Form) -> Option<T>) -> Vec<T> {
        self.egraph[id].nodes.iter().filter_map(accept).take(MAX_FORMS).collect()
    }
    /// The class as a sum of at least two terms: terms and constant.
    pub fn sums(&self, id: Id) -> Vec<(Vec<(Id, BigRational)>, BigRational)> {
        self.forms(id, |f| match f {
            Form::Add(_, k, t) if t.len() > 1 || !k.is_zero() => Some((f.terms(), k.clone())),
            _ => None,
        })
    }
    /// The class as a product, itself alone included (last).
    pub fn products(&self, id: Id) -> Vec<Vec<(Id, i32)>> {
        let mut out = self.forms(id, |f| matches!(f, Form::Mul(..)).then(|| f.factors()));
        out.push(vec![(self.egraph.find(id), 1)]);
        out
    }
    /// The class as a number times another class.
    pub fn scaled(&self, id: Id) -> (BigRational, Id) {
        self.fact(id).scaled.clone().unwrap_or((one(), id))
    }
    /// The arguments of a function, where the class is one.
    pub fn argument(&self, id: Id, function: Function) -> Option<Id> {
        self.egraph[id].nodes.iter().find_map(|f| match f {
            Form::Call(Func::Of(g), a) if *g == function => Some(a[0]),
            _ => None,
        })
    }

    /// Adds a form as it is.
    pub fn add(&mut self, form: Form) -> Id {
        self.egraph.add_uncanonical(form)
    }
    /// A number.
    pub fn num(&mut self, value: BigRational) -> Id {
        self.add(Form::Num(value))
    }
    /// A whole number.
    pub fn int(&mut self, value: i64) -> Id {
        self.num(BigRational::from_integer(value.into()))
    }
    /// Sum of coefficient times term, plus a number.
    pub fn linear(&mut self, terms: impl IntoIterator<Item = (Id, BigRational)>, mut constant: BigRational) -> Id {
        let mut collected: BTreeMap<Id, BigRational> = BTreeMap::new();
        for (id, c) in terms {
            if let Some(v) = self.number(id) {
                constant += v * c;
                continue;
            }
            let (k, id) = self.scaled(id);
            *collected.entry(self.egraph.find(id)).or_insert_with(BigRational::zero) += k * c;
        }
        collected.retain(|_, c| !c.is_zero());
        if collected.is_empty() {
            return self.num(constant);
        }
        if let (1, true, Some((id, c))) = (collected.len(), constant.is_zero(), collected.first_key_value())
            && c.is_one()
        {
            return *id;
        }
        self.add(sum_form(collected.into_iter().collect(), constant))
    }
    /// The class of terms (no numbers among them, distinct) plus a number, if it is there already.
    pub fn find_linear(&self, terms: Vec<(Id, BigRational)>, constant: BigRational) -> Option<Id> {
        match &terms[..] {
            [(id, c)] if c.is_one() && constant.is_zero() => Some(self.egraph.find(*id)),
            _ => {
                let terms = terms.into_iter().map(|(t, c)| (self.egraph.find(t), c)).collect();
                self.egraph.lookup(sum_form(terms, constant))
            }
        }
    }
    /// a + b
    pub fn plus(&mut self, a: Id, b: Id) -> Id {
        self.linear([(a, one()), (b, one())], BigRational::zero())
    }
    /// c a
    pub fn scale(&mut self, c: BigRational, a: Id) -> Id {
        self.linear([(a, c)], BigRational::zero())
    }
    /// constant + c a
    pub fn affine(&mut self, constant: i64, c: i64, a: Id) -> Id {
        let q = |n: i64| BigRational::from_integer(n.into());
        self.linear([(a, q(c))], q(constant))
    }
    /// Product of factors to whole powers.
    pub fn product(&mut self, factors: impl IntoIterator<Item = (Id, i32)>) -> Id {
        let mut coefficient = one();
        let mut collected: BTreeMap<Id, i32> = BTreeMap::new();
        for (id, e) in factors {
            if e == 0 {
                continue;
            }
            let (k, inner) = match self.number(id) {
                Some(v) if v.is_zero() && e < 0 => (one(), Some(id)),
                Some(v) => (v, None),
                None => {
                    let (k, inner) = self.scaled(id);
                    (k, Some(inner))
                }
            };
            match inner {
                _ if e.unsigned_abs() > MAX_EXPONENT => *collected.entry(self.egraph.find(id)).or_insert(0) += e,
                None => coefficient *= k.pow(e),
                Some(inner) => {
                    coefficient *= k.pow(e);
                    *collected.entry(self.egraph.find(inner)).or_insert(0) += e;
                }
            }
        }
        collected.retain(|_, e| *e != 0);
        if coefficient.is_zero() {
            return self.int(0);
        }
        let body = match collected.len() {
            0 => return self.num(coefficient),
            1 if collected.values().all(|e| *e == 1) => *collected.keys().next().expect("one"),
            _ => {
                let (f, e) = collected.into_iter().unzip();
                self.add(Form::Mul(e, f))
            }
        };
        if coefficient.is_one() { body } else { self.scale(coefficient, body) }
    }
    /// a b
    pub fn times(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, 1), (b, 1)])
    }
    /// a^n
    pub fn powi(&mut self, a: Id, n: i32) -> Id {
        self.product([(a, n)])
    }
    /// a^b
    pub fn power(&mut self, a: Id, b: Id) -> Id {
        match self.number(b).filter(|v| v.is_integer()).and_then(|v| v.to_integer().to_i32()) {
            Some(n) => self.powi(a, n),
            None => self.add(Form::Power([a, b])),
        }
    }
    /// f(a)
    pub fn call(&mut self, f: Function, a: Id) -> Id {
        self.add(Form::Call(Func::Of(f), vec![a]))
    }
    /// 1 where a >= b, else 0
    pub fn at_least(&mut self, a: Id, b: Id) -> Id {
        self.add(Form::Call(Func::AtLeast, vec![a, b]))
    }
    /// A reduction.
    pub fn reduce(&mut self, l: &Loop, body: Id) -> Id {
        self.add(Form::Reduce(l.clone(), body))
    }
    /// A derivative; 0 at once where the value does not depend on the symbol.
    pub fn d(&mut self, symbol: &Symbol, of: Id) -> Id {
        if self.fact(of).support.excludes(symbol) {
            return self.int(0);
        }
        self.add(Form::D(symbol.clone(), of))
    }
}

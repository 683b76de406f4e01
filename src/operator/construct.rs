//! Constructors that keep the canonical form of sums, products, powers and indicators.

use super::graph::{Func, Graph, Id, Node, SamplerKind};
use super::index::{Index, IndexVar, Slot};
use crate::program::{Function, Reduction};
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::BTreeMap;

/// A whole number.
pub(super) fn rational(n: i64) -> BigRational {
    BigRational::from_integer(n.into())
}

/// n / d
pub(super) fn ratio(n: i64, d: i64) -> BigRational {
    BigRational::new(n.into(), d.into())
}

impl Graph {
    /// A number.
    pub fn num(&mut self, value: BigRational) -> Id {
        self.intern(Node::Num(value))
    }
    /// A whole number.
    pub fn int(&mut self, value: i64) -> Id {
        self.num(rational(value))
    }
    /// The number that a node is.
    pub fn as_num(&self, id: Id) -> Option<&BigRational> {
        match self.node(id) {
            Node::Num(v) => Some(v),
            _ => None,
        }
    }
    /// True for the number 0.
    pub fn is_zero(&self, id: Id) -> bool {
        self.as_num(id).is_some_and(|v| v.is_zero())
    }

    /// Sum of coefficient times term.
    pub fn linear(&mut self, terms: impl IntoIterator<Item = (Id, BigRational)>) -> Id {
        let mut constant = BigRational::zero();
        let mut collected: BTreeMap<Id, BigRational> = BTreeMap::new();
        for (id, c) in terms {
            match self.node(id) {
                Node::Num(v) => constant += v * &c,
                Node::Add(inner, k) => {
                    constant += k * &c;
                    for (i, ci) in inner {
                        *collected.entry(*i).or_insert_with(BigRational::zero) += ci * &c;
                    }
                }
                _ => *collected.entry(id).or_insert_with(BigRational::zero) += c,
            }
        }
        collected.retain(|_, c| !c.is_zero());
        if collected.is_empty() {
            return self.num(constant);
        }
        if constant.is_zero()
            && collected.len() == 1
            && let Some((id, c)) = collected.first_key_value()
            && c.is_one()
        {
            return *id;
        }
        self.intern(Node::Add(collected.into_iter().collect(), constant))
    }
    /// a + b
    pub fn add(&mut self, a: Id, b: Id) -> Id {
        self.linear([(a, BigRational::one()), (b, BigRational::one())])
    }
    /// a - b
    pub fn sub(&mut self, a: Id, b: Id) -> Id {
        self.linear([(a, BigRational::one()), (b, -BigRational::one())])
    }
    /// c a
    pub fn scale(&mut self, c: BigRational, a: Id) -> Id {
        self.linear([(a, c)])
    }

    /// Product of factors with whole exponents.
    pub fn product(&mut self, factors: impl IntoIterator<Item = (Id, i32)>) -> Id {
        let mut coefficient = BigRational::one();
        // exponents of products of products may exceed 32 bits; such powers are real ones
        let mut collected: BTreeMap<Id, i64> = BTreeMap::new();
        let mut todo: Vec<(Id, i64)> = factors.into_iter().map(|(id, e)| (id, e.into())).collect();
        todo.reverse();
        while let Some((id, e)) = todo.pop() {
            if e == 0 {
                continue;
            }
            match self.node(id) {
                // 0^-1 stays as it is: it evaluates to infinity, as the user would expect of 1/x at x = 0
                Node::Num(v) if !(v.is_zero() && e < 0) && e.unsigned_abs() <= 4096 => {
                    coefficient *= num_traits::Pow::pow(v, e as i32);
                }
                Node::Mul(inner) if i32::try_from(e).is_ok() => {
                    todo.extend(inner.iter().map(|(i, k)| (*i, i64::from(*k) * e)));
                }
                Node::Add(terms, k) if k.is_zero() && terms.len() == 1 && e.unsigned_abs() <= 4096 => {
                    coefficient *= num_traits::Pow::pow(&terms[0].1, e as i32);
                    todo.push((terms[0].0, e));
                }
                // an indicator is its own square
                Node::Delta(_) | Node::Inside(..) if e > 0 => {
                    collected.insert(id, 1);
                }
                _ => {
                    let sum = collected.entry(id).or_insert(0);
                    *sum = sum.saturating_add(e);
                }
            }
        }
        if coefficient.is_zero() {
            return self.int(0);
        }
        let mut powers: BTreeMap<Id, i32> = BTreeMap::new();
        for (id, e) in collected {
            match i32::try_from(e) {
                Ok(0) => {}
                Ok(e) => *powers.entry(id).or_insert(0) += e,
                Err(_) => {
                    let exponent = self.int(e);
                    let power = self.intern(Node::Power(id, exponent));
                    *powers.entry(power).or_insert(0) += 1;
                }
            }
        }
        powers.retain(|_, e| *e != 0);
        let collected = powers;
        let body = match collected.len() {
            0 => return self.num(coefficient),
            1 if collected.values().all(|e| *e == 1) => *collected.first_key_value().expect("one").0,
            _ => self.intern(Node::Mul(collected.into_iter().collect())),
        };
        self.scale(coefficient, body)
    }
    /// a b
    pub fn mul(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, 1), (b, 1)])
    }
    /// a / b
    pub fn div(&mut self, a: Id, b: Id) -> Id {
        self.product([(a, 1), (b, -1)])
    }
    /// a^n
    pub fn powi(&mut self, a: Id, n: i32) -> Id {
        self.product([(a, n)])
    }
    /// a^b
    pub fn power(&mut self, a: Id, b: Id) -> Id {
        if let Some(e) = self.as_num(b)
            && e.is_integer()
            && let Some(n) = e.to_integer().to_i32()
        {
            return self.powi(a, n);
        }
        if self.as_num(a).is_some_and(|v| v.is_one()) {
            return a;
        }
        self.intern(Node::Power(a, b))
    }
    /// A function of the language.
    pub fn call(&mut self, f: Function, arguments: Vec<Id>) -> Id {
        if let [a] = arguments[..]
            && let Some(v) = self.as_num(a)
        {
            let (zero, one) = (v.is_zero(), v.is_one());
            match f {
                Function::Sqrt | Function::Sin | Function::Tan | Function::Sinh if zero => return a,
                Function::Tanh | Function::Atan | Function::Erf if zero => return a,
                Function::Exp | Function::Cos | Function::Cosh if zero => return self.int(1),
                Function::Log if one => return self.int(0),
                Function::Sqrt if one => return a,
                Function::Abs => {
                    let v = v.abs();
                    return self.num(v);
                }
                _ => {}
            }
        }
        self.intern(Node::Call(Func::Of(f), arguments))
    }
    /// 1 where the index is 0.
    pub fn delta(&mut self, index: Index) -> Id {
        if let Some(k) = index.as_constant() {
            return self.int((k == 0) as i64);
        }
        // draws without replacement are distinct: equal indices are equal slots
        if let [(IndexVar::Drawn { sampler: a, slot: s }, x), (IndexVar::Drawn { sampler: b, slot: t }, y)] =
            index.terms[..]
            && a == b
            && matches!(self.samplers[a as usize].kind, SamplerKind::Sparse { .. })
            && x + y == 0
            && index.offset == 0
        {
            let of = |slot| match slot {
                Slot::Fixed(k) => Index::constant(k as i64),
                Slot::Loop(l) => Index::of_loop(l),
            };
            return self.delta(of(s).plus(-1, &of(t)));
        }
        if self.extremes(&index).is_some_and(|(first, last)| last < 0 || 0 < first) {
            return self.int(0);
        }
        if index.terms[0].1 < 0 {
            return self.intern(Node::Delta(Index::default().plus(-1, &index)));
        }
        self.intern(Node::Delta(index))
    }
    /// 1 where lo <= index < hi.
    pub fn inside(&mut self, index: Index, lo: i64, hi: i64) -> Id {
        if let Some(k) = index.as_constant() {
            return self.int((lo <= k && k < hi) as i64);
        }
        if let Some((first, last)) = self.extremes(&index) {
            if lo <= first && last < hi {
                return self.int(1);
            }
            if last < lo || hi <= first {
                return self.int(0);
            }
        }
        self.intern(Node::Inside(Index { offset: 0, ..index.clone() }, lo - index.offset, hi - index.offset))
    }
    /// Smallest and largest value of an index, if the ranges of its variables are known.
    pub fn extremes(&self, index: &Index) -> Option<(i64, i64)> {
        let mut out = (index.offset, index.offset);
        for &(v, c) in &index.terms {
            let (lo, hi) = match v {
                IndexVar::Loop(l) => *self.ranges.get(&l)?,
                IndexVar::Drawn { sampler, .. } => {
                    (self.samplers[sampler as usize].lo, self.samplers[sampler as usize].hi)
                }
            };
            let ends = (c * lo, c * (hi - 1));
            out = (out.0 + ends.0.min(ends.1), out.1 + ends.0.max(ends.1));
        }
        Some(out)
    }

    /// The sum or the maximum of expressions.
    pub fn combine(&mut self, reduction: Reduction, parts: Vec<Id>) -> Id {
        match reduction {
            Reduction::Sum => self.linear(parts.into_iter().map(|p| (p, BigRational::one()))),
            Reduction::Max => {
                let max = parts.into_iter().reduce(|a, b| self.call(Function::Max, vec![a, b]));
                max.unwrap_or_else(|| self.int(0))
            }
        }
    }

    /// The value of an expression without points, tables and networks.
    pub fn constant_value(&self, id: Id) -> Option<f64> {
        Some(match self.node(id) {
            Node::Num(v) => v.to_f64()?,
            Node::Pi => std::f64::consts::PI,
            Node::Add(terms, k) => {
                let mut sum = k.to_f64()?;
                for (t, c) in terms {
                    sum += c.to_f64()? * self.constant_value(*t)?;
                }
                sum
            }
            Node::Mul(factors) => {
                let mut product = 1.0;
                for (f, e) in factors {
                    product *= self.constant_value(*f)?.powi(*e);
                }
                product
            }
            Node::Power(a, b) => self.constant_value(*a)?.powf(self.constant_value(*b)?),
            Node::Call(Func::Of(f), arguments) => {
                let first = self.constant_value(*arguments.first()?)?;
                let second = match arguments.get(1) {
                    Some(a) => self.constant_value(*a)?,
                    None => 0.0,
                };
                f.value(first, second)
            }
            _ => return None,
        })
    }
}

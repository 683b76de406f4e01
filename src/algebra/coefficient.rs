//! Coefficients: polynomials over Q in opaque coefficient symbols.
//!
//! A coefficient symbol stands for a number that varies by point or is learned, and may be zero anywhere. There is
//! therefore no division here but the exact one, whose result is again a polynomial.
//! Invariants: `varying` holds neither zero values nor the empty monomial; a constant has an empty `varying`, which
//! allocates nothing.

use super::Rational;
use super::monomial::Monomial;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};

/// A polynomial over Q in coefficient symbols.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coefficient {
    constant: Rational,
    varying: BTreeMap<Monomial, Rational>,
}

impl Coefficient {
    /// 0
    pub fn zero() -> Self {
        Self::constant(Rational::zero())
    }

    /// 1
    pub fn one() -> Self {
        Self::constant(Rational::one())
    }

    /// A rational number.
    pub fn constant(value: Rational) -> Self {
        Coefficient { constant: value, varying: BTreeMap::new() }
    }

    /// A whole number.
    pub fn integer(value: i64) -> Self {
        Self::constant(Rational::from_integer(value.into()))
    }

    /// A coefficient symbol.
    pub fn symbol(symbol: u32) -> Self {
        Self::term(Monomial::symbol(symbol), Rational::one())
    }

    /// A number times a monomial of coefficient symbols.
    pub fn term(monomial: Monomial, value: Rational) -> Self {
        let mut out = Self::zero();
        out.add_term(&monomial, &value);
        out
    }

    /// True for 0.
    pub fn is_zero(&self) -> bool {
        self.varying.is_empty() && self.constant.is_zero()
    }

    /// True where no symbol occurs.
    pub fn is_constant(&self) -> bool {
        self.varying.is_empty()
    }

    /// The number, where no symbol occurs.
    pub fn as_constant(&self) -> Option<&Rational> {
        self.is_constant().then_some(&self.constant)
    }

    /// The nonzero terms, lowest monomial first.
    pub fn terms(&self) -> impl Iterator<Item = (Monomial, &Rational)> {
        let constant = (!self.constant.is_zero()).then(|| (Monomial::one(), &self.constant));
        constant.into_iter().chain(self.varying.iter().map(|(m, c)| (m.clone(), c)))
    }

    /// The numbers of the nonzero terms, lowest monomial first.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Rational> {
        (!self.constant.is_zero()).then_some(&self.constant).into_iter().chain(self.varying.values())
    }

    /// The symbols that occur.
    pub fn symbols(&self) -> BTreeSet<u32> {
        self.varying.keys().flat_map(|m| m.factors().iter().map(|f| f.0)).collect()
    }

    /// Times a number.
    pub fn scale(&self, factor: &Rational) -> Self {
        if factor.is_zero() {
            return Self::zero();
        }
        Coefficient {
            constant: &self.constant * factor,
            varying: self.varying.iter().map(|(m, c)| (m.clone(), c * factor)).collect(),
        }
    }

    /// A power.
    pub fn pow(&self, exponent: u32) -> Self {
        (0..exponent).fold(Self::one(), |product, _| &product * self)
    }

    /// The quotient, where it is a polynomial; none for division by zero.
    pub fn divide(&self, divisor: &Coefficient) -> Option<Coefficient> {
        if let Some(number) = divisor.as_constant() {
            return (!number.is_zero()).then(|| self.scale(&number.recip()));
        }
        let (lead, lead_value) = divisor.varying.last_key_value()?;
        let (mut rest, mut quotient) = (self.clone(), Coefficient::zero());
        while let Some((top, value)) = rest.varying.last_key_value() {
            let (monomial, value) = (top.over(lead)?, value / lead_value);
            for (m, c) in divisor.terms() {
                rest.add_term(&m.times(&monomial), &-(c * &value));
            }
            quotient.add_term(&monomial, &value);
        }
        rest.constant.is_zero().then_some(quotient)
    }

    /// The greatest monomial that divides every term; 1 for 0.
    pub fn monomial_content(&self) -> Monomial {
        if !self.constant.is_zero() {
            return Monomial::one();
        }
        let mut terms = self.varying.keys();
        let first = terms.next().cloned().unwrap_or_default();
        terms.fold(first, |content, m| content.gcd(m))
    }

    /// The value at rational values of the symbols.
    pub fn evaluate(&self, value: &dyn Fn(u32) -> Rational) -> Rational {
        self.varying.iter().fold(self.constant.clone(), |sum, (m, c)| {
            sum + m.factors().iter().fold(c.clone(), |p, &(s, e)| p * num_traits::pow(value(s), e as usize))
        })
    }

    /// The value at floating-point values of the symbols.
    pub fn evaluate_f64(&self, value: &dyn Fn(u32) -> f64) -> f64 {
        let number = |r: &Rational| r.to_f64().unwrap_or(f64::NAN);
        self.varying.iter().fold(number(&self.constant), |sum, (m, c)| {
            sum + m.factors().iter().fold(number(c), |p, &(s, e)| p * value(s).powi(e as i32))
        })
    }

    fn add_term(&mut self, monomial: &Monomial, value: &Rational) {
        if monomial.is_one() {
            self.constant += value;
            return;
        }
        let sum = match self.varying.get(monomial) {
            Some(old) => old + value,
            None => value.clone(),
        };
        if sum.is_zero() {
            self.varying.remove(monomial);
        } else {
            self.varying.insert(monomial.clone(), sum);
        }
    }
}

impl Default for Coefficient {
    fn default() -> Self {
        Self::zero()
    }
}

impl From<Rational> for Coefficient {
    fn from(value: Rational) -> Self {
        Self::constant(value)
    }
}

impl Add for &Coefficient {
    type Output = Coefficient;
    fn add(self, other: &Coefficient) -> Coefficient {
        let mut out = self.clone();
        out.constant += &other.constant;
        for (m, c) in &other.varying {
            out.add_term(m, c);
        }
        out
    }
}

impl Neg for &Coefficient {
    type Output = Coefficient;
    fn neg(self) -> Coefficient {
        self.scale(&-Rational::one())
    }
}

impl Sub for &Coefficient {
    type Output = Coefficient;
    fn sub(self, other: &Coefficient) -> Coefficient {
        self + &-other
    }
}

impl Mul for &Coefficient {
    type Output = Coefficient;
    fn mul(self, other: &Coefficient) -> Coefficient {
        if let Some(number) = self.as_constant() {
            return other.scale(number);
        }
        if let Some(number) = other.as_constant() {
            return self.scale(number);
        }
        let mut out = Coefficient::zero();
        for (a, x) in self.terms() {
            for (b, y) in other.terms() {
                out.add_term(&a.times(&b), &(x * y));
            }
        }
        out
    }
}

impl fmt::Display for Coefficient {
    /// `3/2 c_0^2 - c_1`, highest term first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms: Vec<_> = self.terms().collect();
        terms.reverse();
        if terms.is_empty() {
            return write!(f, "0");
        }
        for (k, (m, c)) in terms.into_iter().enumerate() {
            let sign = match (k, c.is_negative()) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            write!(f, "{sign}")?;
            let size = c.abs();
            if m.is_one() || !size.is_one() {
                write!(f, "{size}{}", if m.is_one() { "" } else { " " })?;
            }
            m.write(f, "c")?;
        }
        Ok(())
    }
}

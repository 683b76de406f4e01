//! Polynomials in direction symbols xi_i = d/dx_i: a differential operator is p(D) for such a p.
//!
//! Invariant: no zero coefficients are stored. Monomials are sparse, so thousands of symbols cost nothing.

use super::coefficient::Coefficient;
use super::monomial::Monomial;
use num_rational::BigRational;
use num_traits::{One, Signed};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::{Add, Mul, Sub};

/// A polynomial in direction symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Polynomial {
    terms: BTreeMap<Monomial, Coefficient>,
}

impl Polynomial {
    /// 0
    pub fn zero() -> Self {
        Self::default()
    }

    /// 1: the value itself.
    pub fn one() -> Self {
        Self::constant(Coefficient::one())
    }

    /// A multiple of 1.
    pub fn constant(value: Coefficient) -> Self {
        Self::term(Monomial::one(), value)
    }

    /// xi_symbol: the derivative along one coordinate.
    pub fn symbol(symbol: u32) -> Self {
        Self::term(Monomial::symbol(symbol), Coefficient::one())
    }

    /// One term.
    pub fn term(monomial: Monomial, value: Coefficient) -> Self {
        Self::from_terms([(monomial, value)])
    }

    /// The sum of the terms; monomials may repeat.
    pub fn from_terms(terms: impl IntoIterator<Item = (Monomial, Coefficient)>) -> Self {
        let mut out = Self::zero();
        for (monomial, value) in terms {
            out.add_term(monomial, &value);
        }
        out
    }

    /// True for 0.
    pub fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    /// True where all coefficients are constants.
    pub fn has_constant_coefficients(&self) -> bool {
        self.terms.values().all(Coefficient::is_constant)
    }

    /// Number of terms.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// True for 0.
    pub fn is_empty(&self) -> bool {
        self.is_zero()
    }

    /// The nonzero terms, lowest monomial first.
    pub fn terms(&self) -> impl DoubleEndedIterator<Item = (&Monomial, &Coefficient)> {
        self.terms.iter()
    }

    /// The coefficient of a monomial, none for 0.
    pub fn coefficient(&self, monomial: &Monomial) -> Option<&Coefficient> {
        self.terms.get(monomial)
    }

    /// Largest total degree, 0 for 0.
    pub fn degree(&self) -> usize {
        self.terms.keys().next_back().map_or(0, |m| m.degree() as usize)
    }

    /// The direction symbols that occur.
    pub fn symbols(&self) -> BTreeSet<u32> {
        self.terms.keys().flat_map(|m| m.factors().iter().map(|f| f.0)).collect()
    }

    /// The coefficient symbols that occur.
    pub fn coefficient_symbols(&self) -> BTreeSet<u32> {
        self.terms.values().flat_map(Coefficient::symbols).collect()
    }

    /// Derivative with respect to xi_symbol.
    pub fn derivative(&self, symbol: u32) -> Self {
        self.derivative_along(&Monomial::symbol(symbol))
    }

    /// Repeated derivative, once per factor of the monomial.
    pub fn derivative_along(&self, path: &Monomial) -> Self {
        let terms = self.terms.iter().filter_map(|(m, c)| {
            let rest = m.over(path)?;
            let falling = BigRational::new(m.factorial(), rest.factorial());
            Some((rest, c.scale(&falling)))
        });
        Polynomial { terms: terms.collect() }
    }

    /// Times a coefficient.
    pub fn scale(&self, factor: &Coefficient) -> Self {
        if factor.is_zero() {
            return Self::zero();
        }
        Polynomial { terms: self.terms.iter().map(|(m, c)| (m.clone(), c * factor)).collect() }
    }

    /// A power.
    pub fn pow(&self, exponent: u32) -> Self {
        (0..exponent).fold(Self::one(), |product, _| &product * self)
    }

    /// Without the constant term.
    pub fn without_constant(mut self) -> Self {
        self.terms.remove(&Monomial::one());
        self
    }

    /// Without the terms of some monomials.
    pub(crate) fn without(&self, monomials: &BTreeSet<Monomial>) -> Self {
        let terms = self.terms.iter().filter(|(m, _)| !monomials.contains(m));
        Polynomial { terms: terms.map(|(m, c)| (m.clone(), c.clone())).collect() }
    }

    /// With every coefficient replaced.
    pub(crate) fn map(&self, f: impl Fn(&Coefficient) -> Coefficient) -> Self {
        let terms = self.terms.iter().map(|(m, c)| (m.clone(), f(c))).filter(|(_, c)| !c.is_zero());
        Polynomial { terms: terms.collect() }
    }

    /// self -= factor * other.
    pub(crate) fn subtract_multiple(&mut self, factor: &Coefficient, other: &Polynomial) {
        let minus = -factor;
        for (m, c) in &other.terms {
            self.add_term(m.clone(), &(c * &minus));
        }
    }

    pub(crate) fn add_term(&mut self, monomial: Monomial, value: &Coefficient) {
        use std::collections::btree_map::Entry;
        if value.is_zero() {
            return;
        }
        match self.terms.entry(monomial) {
            Entry::Vacant(place) => {
                place.insert(value.clone());
            }
            Entry::Occupied(mut place) => {
                let sum = place.get() + value;
                if sum.is_zero() {
                    place.remove();
                } else {
                    place.insert(sum);
                }
            }
        }
    }
}

impl Add for &Polynomial {
    type Output = Polynomial;
    fn add(self, other: &Polynomial) -> Polynomial {
        let mut out = self.clone();
        for (m, c) in &other.terms {
            out.add_term(m.clone(), c);
        }
        out
    }
}

impl Sub for &Polynomial {
    type Output = Polynomial;
    fn sub(self, other: &Polynomial) -> Polynomial {
        let mut out = self.clone();
        out.subtract_multiple(&Coefficient::one(), other);
        out
    }
}

impl Mul for &Polynomial {
    type Output = Polynomial;
    fn mul(self, other: &Polynomial) -> Polynomial {
        let mut out = Polynomial::zero();
        for (a, x) in &self.terms {
            for (b, y) in &other.terms {
                out.add_term(a.times(b), &(x * y));
            }
        }
        out
    }
}

impl fmt::Display for Polynomial {
    /// `xi_0^2 - 1/3 xi_1 + (c_0 + 1) xi_2`, highest term first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return write!(f, "0");
        }
        for (k, (m, c)) in self.terms.iter().rev().enumerate() {
            let single = c.terms().count() == 1;
            let negative = single && c.terms().any(|(_, value)| value.is_negative());
            let size = if negative { -c } else { c.clone() };
            let sign = match (k, negative) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            write!(f, "{sign}")?;
            if m.is_one() || !size.as_constant().is_some_and(|value| value.is_one()) {
                match single {
                    true => write!(f, "{size}")?,
                    false => write!(f, "({size})")?,
                }
                write!(f, "{}", if m.is_one() { "" } else { " " })?;
            }
            m.write(f, "xi")?;
        }
        Ok(())
    }
}

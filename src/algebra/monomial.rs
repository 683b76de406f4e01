//! Monomials in opaque symbols: products of powers, with the zeroth power left out.
//!
//! Invariants: symbols strictly increase, exponents are positive, `degree` is their sum. The order is graded
//! lexicographic (symbol 0 is the largest), a monomial order: a < b implies a m < b m, which exact division relies on.

use num_bigint::BigInt;
use std::cmp::Ordering;

/// A product of powers of symbols, `x_0^2 x_7`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Monomial {
    degree: u32,
    factors: Vec<(u32, u32)>,
}

impl Monomial {
    /// The empty product.
    pub fn one() -> Self {
        Self::default()
    }

    /// One symbol.
    pub fn symbol(symbol: u32) -> Self {
        Monomial { degree: 1, factors: vec![(symbol, 1)] }
    }

    /// From (symbol, exponent) pairs in any order; repeated symbols multiply, zero exponents vanish.
    pub fn new(pairs: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let mut factors: Vec<(u32, u32)> = pairs.into_iter().filter(|&(_, e)| e > 0).collect();
        factors.sort_unstable();
        factors.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        Monomial { degree: factors.iter().map(|f| f.1).sum(), factors }
    }

    /// Sum of the exponents.
    pub fn degree(&self) -> u32 {
        self.degree
    }

    /// True for the empty product.
    pub fn is_one(&self) -> bool {
        self.degree == 0
    }

    /// (symbol, exponent), symbols increasing, exponents positive.
    pub fn factors(&self) -> &[(u32, u32)] {
        &self.factors
    }

    /// Exponent of a symbol, 0 where it does not occur.
    pub fn exponent(&self, symbol: u32) -> u32 {
        match self.factors.binary_search_by_key(&symbol, |f| f.0) {
            Ok(at) => self.factors[at].1,
            Err(_) => 0,
        }
    }

    /// The product.
    pub fn times(&self, other: &Monomial) -> Monomial {
        if self.is_one() {
            return other.clone();
        }
        if other.is_one() {
            return self.clone();
        }
        Monomial::new(self.factors.iter().chain(&other.factors).copied())
    }

    /// The quotient, where `other` divides.
    pub fn over(&self, other: &Monomial) -> Option<Monomial> {
        let mut factors = self.factors.clone();
        for &(symbol, exponent) in &other.factors {
            let at = factors.binary_search_by_key(&symbol, |f| f.0).ok()?;
            factors[at].1 = factors[at].1.checked_sub(exponent)?;
        }
        factors.retain(|f| f.1 > 0);
        Some(Monomial { degree: self.degree - other.degree, factors })
    }

    /// The greatest common divisor.
    pub fn gcd(&self, other: &Monomial) -> Monomial {
        Monomial::new(self.factors.iter().map(|&(s, e)| (s, e.min(other.exponent(s)))))
    }

    /// All pairs (s, m/s) of a divisor s of this monomial m with the binomial coefficient m! / (s! (m/s)!):
    /// the terms of (xi + eta)^m.
    pub fn splits(&self) -> Vec<(Monomial, Monomial, BigInt)> {
        let mut out = vec![(Vec::new(), Vec::new(), BigInt::from(1))];
        for &(symbol, exponent) in &self.factors {
            let mut next = Vec::with_capacity(out.len() * (exponent as usize + 1));
            for (left, right, ways) in &out {
                for k in 0..=exponent {
                    let (mut left, mut right): (Vec<_>, Vec<_>) = (left.clone(), right.clone());
                    left.extend((k > 0).then_some((symbol, k)));
                    right.extend((k < exponent).then_some((symbol, exponent - k)));
                    next.push((left, right, ways * num_integer::binomial(u64::from(exponent), u64::from(k))));
                }
            }
            out = next;
        }
        let monomial = |factors: Vec<(u32, u32)>| Monomial { degree: factors.iter().map(|f| f.1).sum(), factors };
        out.into_iter().map(|(l, r, c)| (monomial(l), monomial(r), c)).collect()
    }

    /// Product of the factorials of the exponents.
    pub fn factorial(&self) -> BigInt {
        self.factors.iter().flat_map(|f| 1..=f.1).fold(BigInt::from(1), |product, k| product * k)
    }

    /// Lexicographic comparison, symbol 0 most significant, without regard to the degree.
    pub fn lexicographic(&self, other: &Monomial) -> Ordering {
        for (a, b) in self.factors.iter().zip(&other.factors) {
            match b.0.cmp(&a.0).then(a.1.cmp(&b.1)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
        }
        self.factors.len().cmp(&other.factors.len())
    }

    /// Writes the product with the given name of the symbols, `x_0^2 x_7`.
    pub(crate) fn write(&self, f: &mut std::fmt::Formatter<'_>, name: &str) -> std::fmt::Result {
        for (k, (symbol, exponent)) in self.factors.iter().enumerate() {
            let space = if k > 0 { " " } else { "" };
            match exponent {
                1 => write!(f, "{space}{name}_{symbol}")?,
                _ => write!(f, "{space}{name}_{symbol}^{exponent}")?,
            }
        }
        Ok(())
    }
}

impl Ord for Monomial {
    fn cmp(&self, other: &Self) -> Ordering {
        self.degree.cmp(&other.degree).then_with(|| self.lexicographic(other))
    }
}

impl PartialOrd for Monomial {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

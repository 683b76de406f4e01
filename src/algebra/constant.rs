//! Bases for constant coefficients: reduced echelon forms of the span, in several orders of the monomials.
//!
//! In reduced echelon form each element alone holds its pivot, so c_ij of v is the coefficient of (pivot_i pivot_j) in v
//! up to binomials: sparse elements give sparse tables. Which order is best depends on the targets; the form with the
//! fewest structure constants is kept.

use super::blocks::simplified;
use super::coefficient::Coefficient;
use super::monomial::Monomial;
use super::polynomial::Polynomial;
use super::{JetAlgebra, Rational, quadratic};
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, Zero};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Terms of all derivatives together beyond which only one order is tried.
const SEARCH_TERMS: usize = 20_000;

/// Largest whole coefficient that a basis element is scaled to; beyond that its largest coefficient becomes 1.
const WHOLE: u32 = 64;

type Order = fn(&Monomial, &Monomial) -> Ordering;

/// The orders that are tried; pivots are largest monomials.
const ORDERS: [Order; 5] = [
    Monomial::cmp,
    |a, b| a.lexicographic(b),
    |a, b| a.degree().cmp(&b.degree()).then_with(|| b.lexicographic(a)),
    |a, b| a.factors().len().cmp(&b.factors().len()).then_with(|| a.cmp(b)),
    |a, b| b.factors().len().cmp(&a.factors().len()).then_with(|| a.cmp(b)),
];

/// An algebra on the span of 1 and linearly independent polynomials without constant terms (closed under derivatives,
/// constant coefficients), with few structure constants. None where the span is not closed after all.
pub(crate) fn algebra(span: &[Polynomial]) -> Option<JetAlgebra> {
    let span = simplified(span);
    let large = span.iter().map(Polynomial::len).sum::<usize>() > SEARCH_TERMS;
    let orders = if large { &ORDERS[..1] } else { &ORDERS[..] };
    let mut best: Option<JetAlgebra> = None;
    let mut seen: Vec<Vec<Polynomial>> = Vec::new();
    for order in orders {
        let mut basis: Vec<Polynomial> = echelon(&span, order).iter().map(scaled).collect();
        basis.sort_by(order_of_elements);
        basis.insert(0, Polynomial::one());
        if seen.contains(&basis) {
            continue;
        }
        let candidate = JetAlgebra::from_basis(basis.clone())?;
        seen.push(basis);
        let terms = |algebra: &JetAlgebra| algebra.basis.iter().map(Polynomial::len).sum::<usize>();
        let cost = |algebra: &JetAlgebra| (algebra.products(), terms(algebra));
        if best.as_ref().is_none_or(|best| cost(&candidate) < cost(best)) {
            best = Some(candidate);
        }
    }
    best.map(quadratic::diagonalised)
}

/// By degree, then by highest monomial, symbol 0 first.
pub(crate) fn order_of_elements(a: &Polynomial, b: &Polynomial) -> Ordering {
    let lead = |p: &Polynomial| p.terms().next_back().map(|(m, _)| m.clone()).unwrap_or_default();
    a.degree().cmp(&b.degree()).then_with(|| lead(b).cmp(&lead(a)))
}

/// Reduced echelon form over Q of polynomials with constant coefficients: as many as their rank, each with coefficient 1
/// at its largest monomial, which no other holds.
pub(crate) fn echelon(rows: &[Polynomial], order: &dyn Fn(&Monomial, &Monomial) -> Ordering) -> Vec<Polynomial> {
    let mut monomials: Vec<&Monomial> =
        rows.iter().flat_map(|p| p.terms().map(|(m, _)| m)).collect::<BTreeSet<_>>().into_iter().collect();
    monomials.sort_by(|a, b| order(b, a));
    let index: std::collections::HashMap<&Monomial, u32> =
        monomials.iter().enumerate().map(|(k, &m)| (m, k as u32)).collect();
    let mut by_length: Vec<&Polynomial> = rows.iter().collect();
    by_length.sort_by_key(|p| p.len());
    // Pivot (smallest index in the row) to the rest of the row, scaled to 1 at the pivot.
    let mut pivots: BTreeMap<u32, BTreeMap<u32, Rational>> = BTreeMap::new();
    for p in by_length {
        let mut row: BTreeMap<u32, Rational> =
            p.terms().filter_map(|(m, c)| Some((index[m], c.as_constant()?.clone()))).collect();
        while let Some((lead, factor)) = row.pop_first() {
            if let Some(pivot_row) = pivots.get(&lead) {
                subtract(&mut row, &factor, pivot_row);
                continue;
            }
            if !factor.is_one() {
                row.values_mut().for_each(|value| *value = &*value / &factor);
            }
            pivots.insert(lead, row);
            break;
        }
    }
    // Back substitution: rows below a pivot are reduced before it is.
    let leads: Vec<u32> = pivots.keys().rev().copied().collect();
    for lead in leads {
        let Some(mut row) = pivots.remove(&lead) else {
            continue;
        };
        let held: Vec<u32> = row.keys().filter(|k| pivots.contains_key(k)).copied().collect();
        for k in held {
            if let Some(factor) = row.remove(&k) {
                subtract(&mut row, &factor, &pivots[&k]);
            }
        }
        pivots.insert(lead, row);
    }
    let monomial = |k: u32| monomials[k as usize].clone();
    let polynomial = |(lead, row): (u32, BTreeMap<u32, Rational>)| {
        let rest = row.into_iter().map(|(k, value)| (monomial(k), Coefficient::from(value)));
        Polynomial::from_terms(rest.chain([(monomial(lead), Coefficient::one())]))
    };
    pivots.into_iter().map(polynomial).collect()
}

fn subtract(row: &mut BTreeMap<u32, Rational>, factor: &Rational, other: &BTreeMap<u32, Rational>) {
    for (&k, value) in other {
        let difference = row.get(&k).cloned().unwrap_or_else(Rational::zero) - factor * value;
        if difference.is_zero() {
            row.remove(&k);
        } else {
            row.insert(k, difference);
        }
    }
}

/// The multiple of a polynomial by a number that reads best and is safe in floating point: small whole numbers without
/// common factor where there is one, else a largest number of 1; the leading one is positive.
pub(crate) fn scaled(p: &Polynomial) -> Polynomial {
    let values: Vec<&Rational> = p.terms().flat_map(|(_, c)| c.values()).collect();
    let (Some(lead), Some(largest)) = (values.last(), values.iter().map(|v| v.abs()).max()) else {
        return p.clone();
    };
    let denominators = values.iter().fold(BigInt::one(), |lcm, v| lcm.lcm(v.denom()));
    let content = values.iter().fold(BigInt::zero(), |gcd, v| gcd.gcd(&(v.numer() * (&denominators / v.denom()))));
    let mut factor = Rational::new(denominators, content);
    if &largest * &factor > Rational::from_integer(WHOLE.into()) {
        factor = largest.recip();
    }
    if lead.is_negative() {
        factor = -factor;
    }
    p.scale(&factor.into())
}

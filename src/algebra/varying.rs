//! Bases where coefficients vary: as few rows as the generic rank, without dividing by what may vanish.
//!
//! Over the field of fractions of the coefficients any basis would do; at a point where a pivot vanishes it would not.
//! So the structure constants and the coordinates of the targets have to be polynomials in the coefficients. In order:
//!
//! 1. *Constant hull.* Each target is a sum of constant polynomials times monomials of coefficients. Where the closure
//!    of those parts has no more rows than the generic rank, it is the answer, with constant structure.
//! 2. *Module basis.* Independent derivatives by increasing degree, reduced by elements with constant pivots, split
//!    into blocks that share monomials. A block of full rank is replaced by its monomials (2 c_i xi_i by xi_i); what is
//!    left keeps its varying coefficients, without their common factor. Parts that lie in the span anyway come first.
//! 3. *Mixed.* The module basis, with one target split into its parts.
//! 4. The constant hull, with more rows than the bound: valid always.
//!
//! Common factors are sought among monomials only: ((1 + a) d_x + (1 + b) d_y)^2 u ends in step 4.

use super::blocks::full_monomials;
use super::coefficient::Coefficient;
use super::constant::{self, order_of_elements};
use super::monomial::Monomial;
use super::polynomial::Polynomial;
use super::span::{Failure, PRIMES, Span};
use super::{JetAlgebra, MAX_ROWS, Rational, RowCount};
use std::collections::BTreeMap;

/// Targets of which one at a time is split (step 3), at most.
const MIXED_TARGETS: usize = 16;

/// The smallest algebra that this room finds, from the span of all derivatives of the targets. `Ok(None)` where the span
/// is not closed over Q; an error where only too many rows would do.
pub(crate) fn smallest(targets: &[Polynomial], mut span: Span) -> Result<Option<JetAlgebra>, RowCount> {
    let reads = |algebra: &JetAlgebra| targets.iter().all(|p| algebra.read(p).is_some());
    if targets.iter().all(Polynomial::has_constant_coefficients) {
        return Ok(constant::algebra(&derivatives(targets, &span)).filter(reads));
    }
    let parts: Vec<Vec<Polynomial>> = targets.iter().map(parts).collect();
    let inside: Vec<Polynomial> = parts.iter().flatten().filter(|p| span.contains(p)).cloned().collect();
    let all_parts: Vec<Polynomial> = parts.iter().flatten().cloned().collect();
    if inside.len() == all_parts.len()
        && let Ok(hull) = hull(&all_parts)
        && let Some(algebra) = hull.filter(reads)
        && algebra.rows() == span.rank()
    {
        return Ok(Some(algebra));
    }
    let with_inside = |targets: &[Polynomial]| [&inside[..], targets].concat();
    if let Some(algebra) = module(&with_inside(targets)).filter(reads) {
        return Ok(Some(algebra));
    }
    let hull = hull(&all_parts).map(|hull| hull.filter(reads));
    let mut best = hull.as_ref().ok().and_then(Clone::clone);
    if targets.len() <= MIXED_TARGETS {
        for (split, split_parts) in parts.iter().enumerate() {
            let kept = targets.iter().enumerate().filter(|&(k, _)| k != split).map(|(_, p)| p.clone());
            let mixed: Vec<Polynomial> = split_parts.iter().cloned().chain(kept).collect();
            if let Some(algebra) = module(&with_inside(&mixed)).filter(reads)
                && best.as_ref().is_none_or(|best| algebra.rows() < best.rows())
            {
                best = Some(algebra);
            }
        }
    }
    match (best, hull) {
        (Some(algebra), _) => Ok(Some(algebra)),
        (None, Ok(_)) => Ok(None),
        (None, Err(_)) => Err(RowCount::MoreThan(span.rank().saturating_sub(1))),
    }
}

/// The independent derivatives themselves, modulo 1.
fn derivatives(targets: &[Polynomial], span: &Span) -> Vec<Polynomial> {
    span.members.iter().map(|m| targets[m.target].derivative_along(&m.path).without_constant()).collect()
}

/// The constant polynomials of which p is the combination with monomials of coefficients.
fn parts(p: &Polynomial) -> Vec<Polynomial> {
    let mut parts: BTreeMap<Monomial, Polynomial> = BTreeMap::new();
    for (m, c) in p.terms() {
        for (factor, value) in c.terms() {
            parts.entry(factor).or_default().add_term(m.clone(), &Coefficient::constant(value.clone()));
        }
    }
    parts.into_values().collect()
}

/// The closure of constant polynomials.
fn hull(parts: &[Polynomial]) -> Result<Option<JetAlgebra>, Failure> {
    let span = Span::closure(parts, PRIMES[0], MAX_ROWS, u64::MAX)?;
    Ok(constant::algebra(&derivatives(parts, &span)))
}

/// An element on its way into the module basis; with a pivot where it has a constant coefficient there, 1.
struct Element {
    p: Polynomial,
    pivot: Option<Monomial>,
}

/// The module basis; none where its structure constants would need a division.
fn module(targets: &[Polynomial]) -> Option<JetAlgebra> {
    let span = Span::closure(targets, PRIMES[0], MAX_ROWS, u64::MAX).ok()?;
    let mut elements: Vec<Polynomial> = derivatives(targets, &span);
    // A second round sees what a reduction within a higher degree uncovered in a lower one.
    for _ in 0..3 {
        let next = reduced(&elements);
        let done = next == elements;
        elements = next;
        if done {
            break;
        }
    }
    elements.sort_by(order_of_elements);
    elements.insert(0, Polynomial::one());
    JetAlgebra::from_basis(elements)
}

/// Reduces by increasing degree; the result spans the same, over the field of fractions.
fn reduced(elements: &[Polynomial]) -> Vec<Polynomial> {
    let mut by_degree: BTreeMap<usize, Vec<Polynomial>> = BTreeMap::new();
    for p in elements {
        by_degree.entry(p.degree()).or_default().push(p.clone());
    }
    let mut done: Vec<Element> = Vec::new();
    for (_, mut group) in by_degree {
        for p in &mut group {
            for Element { p: lower, pivot } in &done {
                if let Some(factor) = pivot.as_ref().and_then(|m| p.coefficient(m)).cloned() {
                    p.subtract_multiple(&factor, lower);
                }
            }
        }
        let group = eliminated(group.iter().filter(|p| !p.is_zero()).map(primitive).collect());
        let polynomials: Vec<&Polynomial> = group.iter().map(|e| &e.p).collect();
        let full = full_monomials(&polynomials);
        let monomial = |m: Monomial| Element { p: Polynomial::term(m.clone(), Coefficient::one()), pivot: Some(m) };
        done.extend(group.into_iter().filter(|e| e.p.terms().any(|(m, _)| !full.contains(m))));
        done.extend(full.into_iter().map(monomial));
    }
    done.into_iter().map(|e| constant::scaled(&e.p)).collect()
}

/// Gaussian elimination with constant pivots only, constant elements first.
fn eliminated(mut rest: Vec<Polynomial>) -> Vec<Element> {
    let mut done: Vec<Element> = Vec::new();
    let rank = |p: &Polynomial| (!p.has_constant_coefficients(), p.len());
    let pivot = |p: &Polynomial| p.terms().rev().find(|(_, c)| c.is_constant()).map(|(m, _)| m.clone());
    loop {
        let candidates = rest.iter().enumerate().filter_map(|(k, p)| Some((rank(p), k, pivot(p)?)));
        let Some((_, k, m)) = candidates.min_by_key(|c| (c.0, c.1)) else {
            break;
        };
        let p = rest.swap_remove(k);
        let Some(p) = p.coefficient(&m).and_then(|c| Some(p.scale(&Coefficient::one().divide(c)?))) else {
            break;
        };
        for other in &mut rest {
            if let Some(factor) = other.coefficient(&m).cloned() {
                other.subtract_multiple(&factor, &p);
                *other = primitive(other);
            }
        }
        for Element { p: other, .. } in &mut done {
            if let Some(factor) = other.coefficient(&m).cloned() {
                other.subtract_multiple(&factor, &p);
            }
        }
        rest.retain(|p| !p.is_zero());
        done.push(Element { p, pivot: Some(m) });
    }
    done.extend(rest.into_iter().map(|p| Element { p, pivot: None }));
    done
}

/// Without the monomial that divides all its coefficients.
fn primitive(p: &Polynomial) -> Polynomial {
    let mut contents = p.terms().map(|(_, c)| c.monomial_content());
    let first = contents.next().unwrap_or_default();
    let content = contents.fold(first, |gcd, m| gcd.gcd(&m));
    let divisor = Coefficient::term(content, Rational::from_integer(1.into()));
    p.map(|c| c.divide(&divisor).unwrap_or_else(|| c.clone()))
}

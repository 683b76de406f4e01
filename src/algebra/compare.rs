//! Rows of other methods for the same targets, for display.
//!
//! - *Full jet*: all derivatives up to the order: C(n + k, k).
//! - *Nested forward Laplacian*: the n + 2 rows of one pass for every two orders, n + 1 for an odd one.
//! - *Taylor mode* (Griewank, Utke, Walther 2000): a mixed derivative of degree m is interpolated from univariate Taylor
//!   polynomials along the directions j with |j| = m supported in its symbols; a pure one needs its own axis alone.
//!   One row for the value, and m for each ray; rays are shared, and keep the largest order.
//! - *Collapsed Taylor mode* (Dangel et al. 2025): highest coefficients enter the result linearly, so those of a family
//!   (one pattern of exponents in the top degree of one target) are summed into one row.

use super::polynomial::Polynomial;
use std::collections::{BTreeMap, BTreeSet};

/// Supports (subsets of the symbols of a monomial) that are told apart; beyond, each monomial counts for itself.
const SUPPORTS: u64 = 1 << 18;

/// Number of rows of other methods. Numbers saturate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Univariate Taylor polynomials, interpolated.
    pub taylor: u128,
    /// The same with summed highest coefficients.
    pub collapsed_taylor: u128,
    /// Forward Laplacians inside each other.
    pub nested_forward_laplacian: u128,
    /// All derivatives.
    pub full_jet: u128,
}

/// Rows of other methods for the targets.
pub fn compare(targets: &[Polynomial]) -> Compared {
    let symbols: BTreeSet<u32> = targets.iter().flat_map(Polynomial::symbols).collect();
    let (n, order) = (symbols.len() as u128, targets.iter().map(Polynomial::degree).max().unwrap_or(0) as u32);
    let odd = if order % 2 == 1 { n + 1 } else { 1 };
    let taylor = taylor(targets, false);
    Compared {
        taylor,
        collapsed_taylor: self::taylor(targets, true).min(taylor),
        nested_forward_laplacian: (n + 2).saturating_pow(order / 2).saturating_mul(odd),
        full_jet: binomial(n + u128::from(order), u128::from(order)),
    }
}

/// What is needed of the rays whose support is one set of symbols.
#[derive(Default)]
struct Needed {
    /// Degrees of the monomials that need them.
    degrees: BTreeSet<u32>,
    /// Targets of which that is the top degree.
    top: BTreeMap<u32, BTreeSet<usize>>,
}

fn taylor(targets: &[Polynomial], collapsed: bool) -> u128 {
    let mut supports: BTreeMap<Vec<u32>, Needed> = BTreeMap::new();
    let mut extra = 0u128;
    for (k, target) in targets.iter().enumerate() {
        for (m, _) in target.terms().filter(|(m, _)| !m.is_one()) {
            let (degree, top) = (m.degree(), m.degree() as usize == target.degree());
            let support: Vec<u32> = m.factors().iter().map(|f| f.0).collect();
            let size = support.len() as u32;
            if size > 20 || (supports.len() as u64).saturating_add(1 << size) > SUPPORTS {
                let rays = binomial(u128::from(degree + size - 1), u128::from(degree));
                extra = extra.saturating_add(rays.saturating_mul(u128::from(degree - u32::from(collapsed && top))));
                continue;
            }
            // A pure power needs its axis, a mixed monomial every subset of its symbols.
            for subset in 1..1u64 << size {
                let chosen = (0..size).filter(|bit| subset >> bit & 1 == 1).map(|bit| support[bit as usize]);
                let chosen: Vec<u32> = chosen.collect();
                if chosen.len() <= degree as usize {
                    let needed = supports.entry(chosen).or_default();
                    needed.degrees.insert(degree);
                    if top {
                        needed.top.entry(degree).or_default().insert(k);
                    }
                }
            }
        }
    }
    let mut rows = extra.saturating_add(1);
    let mut families: BTreeSet<(usize, u32, usize)> = BTreeSet::new();
    for (support, needed) in &supports {
        let size = support.len() as u32;
        let largest = needed.degrees.last().copied().unwrap_or(0);
        for weight in size..=largest {
            // A ray of coprime exponents with this sum serves the degrees that it divides.
            let Some(&order) = needed.degrees.iter().rev().find(|&&degree| degree.is_multiple_of(weight)) else {
                continue;
            };
            let summed = collapsed && needed.top.contains_key(&order);
            rows = rows.saturating_add(coprime(weight, size).saturating_mul(u128::from(order - u32::from(summed))));
        }
        for (&degree, targets) in &needed.top {
            families.extend(targets.iter().map(|&k| (k, degree, support.len())));
        }
    }
    if collapsed {
        let patterns = families.iter().map(|&(_, degree, size)| partitions(degree as usize, size));
        rows = patterns.fold(rows, u128::saturating_add);
    }
    rows
}

/// Ways to write `sum` as an ordered sum of `count` positive numbers without common divisor (by Moebius inversion).
fn coprime(sum: u32, count: u32) -> u128 {
    let all = binomial(u128::from(sum - 1), u128::from(count - 1));
    let multiples = (2..=sum).filter(|d| sum.is_multiple_of(*d) && sum / d >= count).map(|d| coprime(sum / d, count));
    multiples.fold(all, u128::saturating_sub)
}

/// Ways to write `sum` as an unordered sum of `count` positive numbers.
fn partitions(sum: usize, count: usize) -> u128 {
    // Of numbers up to `count`, at least one of them `count`: the conjugate partitions.
    let Some(rest) = sum.checked_sub(count) else {
        return 0;
    };
    let mut ways = vec![0u128; rest + 1];
    ways[0] = 1;
    for part in 1..=count {
        for total in part..=rest {
            ways[total] = ways[total].saturating_add(ways[total - part]);
        }
    }
    ways[rest]
}

fn binomial(n: u128, k: u128) -> u128 {
    let k = k.min(n - k);
    let mut out = 1u128;
    for i in 0..k {
        // out = C(n, i) makes the division exact.
        out = match out.checked_mul(n - i) {
            Some(product) => product / (i + 1),
            None => return u128::MAX,
        };
    }
    out
}

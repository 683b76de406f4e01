//! Blocks of polynomials that share monomials, directly or through others.
//!
//! Where a block of linearly independent polynomials has as many members as monomials, it spans what the monomials
//! span, and they are the simplest basis: found by counting, without elimination, whatever the coefficients are.

use super::coefficient::Coefficient;
use super::monomial::Monomial;
use super::polynomial::Polynomial;
use std::collections::{BTreeMap, BTreeSet};

/// The monomials of all blocks of full rank. The polynomials must be linearly independent.
pub(crate) fn full_monomials(independent: &[&Polynomial]) -> BTreeSet<Monomial> {
    // Union-find over the polynomials; the root of a block is its first member.
    let mut parent: Vec<usize> = (0..independent.len()).collect();
    fn root(parent: &mut [usize], mut k: usize) -> usize {
        while parent[k] != k {
            parent[k] = parent[parent[k]];
            k = parent[k];
        }
        k
    }
    let mut holder: BTreeMap<&Monomial, usize> = BTreeMap::new();
    for (k, p) in independent.iter().enumerate() {
        for (m, _) in p.terms() {
            let (a, b) = (root(&mut parent, *holder.entry(m).or_insert(k)), root(&mut parent, k));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut surplus = vec![0isize; independent.len()];
    for k in 0..independent.len() {
        surplus[root(&mut parent, k)] -= 1;
    }
    for &k in holder.values() {
        surplus[root(&mut parent, k)] += 1;
    }
    let full = holder.into_iter().filter(|&(_, k)| surplus[root(&mut parent, k)] == 0);
    full.map(|(m, _)| m.clone()).collect()
}

/// A simpler basis of the same span: by increasing degree, full blocks become their monomials, which then vanish from
/// everything else.
pub(crate) fn simplified(independent: &[Polynomial]) -> Vec<Polynomial> {
    let mut by_degree: BTreeMap<usize, Vec<Polynomial>> = BTreeMap::new();
    for p in independent {
        by_degree.entry(p.degree()).or_default().push(p.clone());
    }
    let mut done: BTreeSet<Monomial> = BTreeSet::new();
    let mut rest: Vec<Polynomial> = Vec::new();
    for group in by_degree.into_values() {
        let group: Vec<Polynomial> = group.iter().map(|p| p.without(&done)).collect();
        let full = full_monomials(&group.iter().collect::<Vec<_>>());
        rest.extend(group.into_iter().filter(|p| p.terms().any(|(m, _)| !full.contains(m))));
        done.extend(full);
    }
    let rest = rest.iter().map(|p| p.without(&done)).collect::<Vec<_>>();
    done.into_iter().map(|m| Polynomial::term(m, Coefficient::one())).chain(rest).collect()
}

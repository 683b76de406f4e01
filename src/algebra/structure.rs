//! A jet algebra from its basis: reading polynomials off the basis, and the structure table.
//!
//! **Reading.** `p = sum x_k v_k` is solved by peeling: an element that alone (among those left) holds some monomial has
//! its coordinate fixed by that monomial; it is subtracted and the rest goes on. Peeling is triangular, exact, and
//! divides only where the quotient is a polynomial. Every basis that this room makes peels, except elements of
//! highest degree with varying coefficients; those are tried one at a time at the end.
//!
//! **Structure.** (xi + eta)^m expands by the binomial theorem, so v(xi + eta) = sum over s of xi^s T_s(eta). Each T_s is
//! read off the basis, T_s = sum y_sj v_j; then each sum over s of y_sj xi^s is. What comes out is the coproduct
//! v(xi + eta) = sum c_ij v_i(xi) v_j(eta), proved by having been read exactly; it is the product rule of the rows.

use super::coefficient::Coefficient;
use super::monomial::Monomial;
use super::polynomial::Polynomial;
use super::{Entry, Rational};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How to read polynomials off a basis.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    /// (basis element, the monomial that fixes its coordinate), in the order of peeling.
    steps: Vec<(usize, Monomial)>,
    /// Monomial to its step. Only looked up, never walked through.
    step_of: HashMap<Monomial, usize>,
    /// Elements that do not peel.
    core: Vec<usize>,
}

impl Reader {
    pub fn new(basis: &[Polynomial]) -> Reader {
        // For each monomial: how many unpeeled elements hold it, and the sum of their numbers.
        let mut holders: HashMap<&Monomial, (usize, usize)> = HashMap::new();
        for (k, v) in basis.iter().enumerate() {
            for (m, _) in v.terms() {
                let holder = holders.entry(m).or_default();
                *holder = (holder.0 + 1, holder.1 + k);
            }
        }
        // Constant pivots first: they always divide.
        let class = |k: usize, m: &Monomial| basis[k].coefficient(m).is_none_or(|c| !c.is_constant());
        let mut ready: BTreeSet<(bool, usize, &Monomial)> = BTreeSet::new();
        for (k, v) in basis.iter().enumerate() {
            ready.extend(v.terms().filter(|(m, _)| holders[m].0 == 1).map(|(m, _)| (class(k, m), k, m)));
        }
        let mut peeled = vec![false; basis.len()];
        let mut steps = Vec::with_capacity(basis.len());
        while let Some((_, k, pivot)) = ready.pop_first() {
            if std::mem::replace(&mut peeled[k], true) {
                continue;
            }
            steps.push((k, pivot.clone()));
            for (m, _) in basis[k].terms() {
                let Some(holder) = holders.get_mut(m) else {
                    continue;
                };
                *holder = (holder.0 - 1, holder.1 - k);
                if holder.0 == 1 {
                    ready.insert((class(holder.1, m), holder.1, m));
                }
            }
        }
        let step_of = steps.iter().enumerate().map(|(step, (_, m))| (m.clone(), step)).collect();
        let core = (0..basis.len()).filter(|&k| !peeled[k]).collect();
        Reader { steps, step_of, core }
    }

    /// Coordinates of p, ordered by element; none where p is no combination (or where it takes a division by a coefficient).
    pub fn read(&self, basis: &[Polynomial], p: &Polynomial) -> Option<Vec<(usize, Coefficient)>> {
        let mut rest = p.clone();
        let mut out = BTreeMap::new();
        let mut todo: BTreeSet<usize> = p.terms().filter_map(|(m, _)| self.step_of.get(m).copied()).collect();
        while let Some(step) = todo.pop_first() {
            let (element, pivot) = &self.steps[step];
            let Some(have) = rest.coefficient(pivot) else {
                continue;
            };
            let v = &basis[*element];
            let factor = have.divide(v.coefficient(pivot)?)?;
            rest.subtract_multiple(&factor, v);
            todo.extend(v.terms().filter_map(|(m, _)| self.step_of.get(m).copied()).filter(|&s| s > step));
            out.insert(*element, factor);
        }
        for &element in &self.core {
            let Some((m, have)) = rest.terms().next_back() else {
                break;
            };
            let v = &basis[element];
            let Some(factor) = v.coefficient(m).and_then(|c| have.divide(c)) else {
                continue;
            };
            let mut left = rest.clone();
            left.subtract_multiple(&factor, v);
            if left.is_zero() {
                rest = left;
                out.insert(element, factor);
            }
        }
        rest.is_zero().then(|| out.into_iter().collect())
    }
}

/// The structure table of the span of the basis (1 first, no constant terms elsewhere), sorted by (out, a, b); none where
/// the span is not closed, or not without dividing by a coefficient.
pub(crate) fn structure(basis: &[Polynomial], reader: &Reader) -> Option<Vec<Entry>> {
    let rows: Option<Vec<Vec<Entry>>> = (1..basis.len()).map(|out| row_structure(basis, reader, out)).collect();
    Some(rows?.into_iter().flatten().collect())
}

/// The part of the table for one row.
pub(crate) fn row_structure(basis: &[Polynomial], reader: &Reader, out: usize) -> Option<Vec<Entry>> {
    let mut columns: BTreeMap<usize, Polynomial> = BTreeMap::new();
    for (left, right) in reduced_coproduct(&basis[out]) {
        for (element, value) in reader.read(basis, &right)? {
            columns.entry(element).or_default().add_term(left.clone(), &value);
        }
    }
    let mut table = Vec::new();
    for (b, column) in columns {
        let read = reader.read(basis, &column)?.into_iter();
        table.extend(read.filter(|(a, _)| *a <= b).map(|(a, c)| Entry { out, a, b, c }));
    }
    table.sort_by_key(|e| (e.a, e.b));
    Some(table)
}

/// v(xi + eta) - v(xi) - v(eta) + v(0) = sum over s of xi^s T_s(eta): the T_s, none of which has a constant term.
pub(crate) fn reduced_coproduct(v: &Polynomial) -> BTreeMap<Monomial, Polynomial> {
    let mut out: BTreeMap<Monomial, Polynomial> = BTreeMap::new();
    for (m, c) in v.terms().filter(|(m, _)| m.degree() > 1) {
        for (left, right, ways) in m.splits() {
            if !left.is_one() && !right.is_one() {
                out.entry(left).or_default().add_term(right, &c.scale(&Rational::from_integer(ways)));
            }
        }
    }
    out
}

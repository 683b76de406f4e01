//! Fewer products at order 2: quadratic rows as sums of squares.
//!
//! In an algebra of order 2 the reduced coproduct of a row is a symmetric bilinear form on the linear rows. Symmetric
//! elimination (L D L^T over Q, with 2 x 2 pivots where the diagonal vanishes) gives linear forms in which it has as many
//! entries as its rank at most: d instead of d (d + 1) / 2 for trace(A hess u). Several forms rarely become diagonal
//! together, so each change of basis is tried on the whole algebra and kept only where the whole gets smaller.

use super::coefficient::Coefficient;
use super::polynomial::Polynomial;
use super::structure::{Reader, row_structure};
use super::{Entry, JetAlgebra, Rational};
use num_traits::{Signed, Zero};
use std::collections::BTreeMap;

/// Forms on more linear rows than this are left alone.
const LARGEST_FORM: usize = 128;

/// Numbers with more bits than this end the elimination: it would take seconds.
const LARGEST_NUMBER: u64 = 2048;

/// Multipliers beyond this would cost digits in floating point.
const LARGEST_MULTIPLIER: i64 = 8;

/// The same span on a basis with fewer structure constants, where diagonalising helps.
pub(crate) fn diagonalised(mut algebra: JetAlgebra) -> JetAlgebra {
    if algebra.order != 2 {
        return algebra;
    }
    for out in 1..algebra.rows() {
        if let Some(better) = with_squares(&algebra, out)
            && better.products() < algebra.products()
        {
            algebra = better;
        }
    }
    algebra
}

/// The algebra on linear rows that diagonalise row `out`; none where that is no gain, or too large.
fn with_squares(algebra: &JetAlgebra, out: usize) -> Option<JetAlgebra> {
    let Diagonal { rows, elements, entries } = diagonal(algebra, out)?;
    let mut basis = algebra.basis.clone();
    for (&row, element) in rows.iter().zip(elements) {
        basis[row] = element;
    }
    let reader = Reader::new(&basis);
    let mut table: Vec<Entry> = Vec::new();
    for k in 1..basis.len() {
        let old = algebra.table.iter().filter(|e| e.out == k);
        if k == out {
            table.extend(entries.iter().cloned());
        } else if old.clone().any(|e| rows.contains(&e.a) || rows.contains(&e.b)) {
            table.extend(row_structure(&basis, &reader, k)?);
        } else {
            table.extend(old.cloned());
        }
    }
    Some(JetAlgebra { basis, order: algebra.order, table, certificate: Default::default(), reader })
}

/// Linear rows in which a form is diagonal.
struct Diagonal {
    /// Which rows are replaced.
    rows: Vec<usize>,
    /// By what.
    elements: Vec<Polynomial>,
    /// The table of the form, sorted.
    entries: Vec<Entry>,
}

fn diagonal(algebra: &JetAlgebra, out: usize) -> Option<Diagonal> {
    let mut form: BTreeMap<(usize, usize), Rational> = BTreeMap::new();
    for Entry { a, b, c, .. } in algebra.table.iter().filter(|e| e.out == out) {
        form.insert((*a, *b), c.as_constant()?.clone());
        form.insert((*b, *a), c.as_constant()?.clone());
    }
    let mut rows: Vec<usize> = form.keys().map(|k| k.0).collect();
    rows.dedup();
    if form.keys().all(|(a, b)| a == b) || rows.len() > LARGEST_FORM {
        return None;
    }
    let at = |a, b| form.get(&(a, b)).cloned().unwrap_or_default();
    let mut s: Vec<Vec<Rational>> = rows.iter().map(|&a| rows.iter().map(|&b| at(a, b)).collect()).collect();
    let old: Vec<&Polynomial> = rows.iter().map(|&row| &algebra.basis[row]).collect();
    let mut elements: Vec<Polynomial> = old.iter().map(|&v| v.clone()).collect();
    let mut entries = Vec::new();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while let Some((p, q)) = pivot(&s, &left) {
        // form = s_pq new_p new_q (twice, symmetrised, where p != q) + a form on the rows that are left, with
        // new_p = p + sum of s_qa / s_pq a, and new_q the same with p and q exchanged.
        let c = s[p][q].clone();
        let (a, b) = (rows[p].min(rows[q]), rows[p].max(rows[q]));
        entries.push(Entry { out, a, b, c: c.clone().into() });
        left.retain(|&a| a != p && a != q);
        let pairs = if p == q { vec![(p, q)] } else { vec![(p, q), (q, p)] };
        let changes: Vec<(Vec<Rational>, Vec<Rational>)> = pairs
            .iter()
            .map(|&(p, q)| (left.iter().map(|&a| &s[q][a] / &c).collect(), left.iter().map(|&a| s[p][a].clone()).collect()))
            .collect();
        for (&(to, _), (multipliers, others)) in pairs.iter().zip(&changes) {
            for (&a, multiplier) in left.iter().zip(multipliers).filter(|(_, x)| !x.is_zero()) {
                let bits = multiplier.numer().bits().max(multiplier.denom().bits());
                if multiplier.abs() > Rational::from_integer(LARGEST_MULTIPLIER.into()) || bits > LARGEST_NUMBER {
                    return None;
                }
                elements[to].subtract_multiple(&Coefficient::constant(-multiplier), old[a]);
                for (&b, other) in left.iter().zip(others).filter(|(_, x)| !x.is_zero()) {
                    s[a][b] -= multiplier * other;
                }
            }
        }
    }
    entries.sort_by_key(|e| (e.a, e.b));
    Some(Diagonal { rows, elements, entries })
}

/// The largest diagonal element, else the first nonzero one off the diagonal.
fn pivot(s: &[Vec<Rational>], left: &[usize]) -> Option<(usize, usize)> {
    let diagonal = left.iter().copied().filter(|&a| !s[a][a].is_zero());
    let largest = diagonal.reduce(|best, a| if s[a][a].abs() > s[best][best].abs() { a } else { best });
    let off_diagonal = || {
        let mut pairs = left.iter().flat_map(|&a| left.iter().map(move |&b| (a, b)));
        pairs.find(|&(a, b)| !s[a][b].is_zero())
    };
    largest.map(|a| (a, a)).or_else(off_diagonal)
}

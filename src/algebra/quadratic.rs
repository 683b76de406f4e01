//! Fewer products at order 2: quadratic rows as sums of squares.
//!
//! In an algebra of order 2 the reduced coproduct of a row is a symmetric bilinear form on the linear rows. Symmetric
//! elimination (L D L^T over Q, with 2 x 2 pivots where the diagonal vanishes) gives linear forms in which it has as many
//! entries as its rank at most: d instead of d (d + 1) / 2 for trace(A hess u). Several forms rarely become diagonal
//! together, so each change of basis is tried on the whole algebra and kept only where the whole gets smaller.

use super::polynomial::Polynomial;
use super::structure::{Reader, row_structure};
use super::{Entry, JetAlgebra, Rational};
use num_bigint::BigInt;
use num_integer::Integer;
use num_traits::{One, Signed, Zero};
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
    // Fraction-free (Bareiss): what is left of the form is s / (minor * denominator), with s whole numbers.
    let denominator = form.values().fold(BigInt::one(), |lcm, v| lcm.lcm(v.denom()));
    let at = |a, b| form.get(&(a, b)).map_or_else(BigInt::zero, |v| v.numer() * (&denominator / v.denom()));
    let mut s: Vec<Vec<BigInt>> = rows.iter().map(|&a| rows.iter().map(|&b| at(a, b)).collect()).collect();
    let mut minor = BigInt::one();
    let old: Vec<&Polynomial> = rows.iter().map(|&row| &algebra.basis[row]).collect();
    let mut elements: Vec<Polynomial> = old.iter().map(|&v| v.clone()).collect();
    let mut entries = Vec::new();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while let Some((p, q)) = pivot(&s, &left) {
        // form = s_pq new_p new_q (twice, symmetrised, where p != q) + a form on the rows that are left, with
        // new_p = p + sum of s_qa / s_pq a, and new_q the same with p and q exchanged.
        let c = s[p][q].clone();
        let value = Rational::new(c.clone(), &minor * &denominator);
        entries.push(Entry { out, a: rows[p].min(rows[q]), b: rows[p].max(rows[q]), c: value.into() });
        left.retain(|&a| a != p && a != q);
        for (to, from) in if p == q { vec![(p, p)] } else { vec![(p, q), (q, p)] } {
            for &a in left.iter().filter(|&&a| !s[from][a].is_zero()) {
                if s[from][a].abs() > c.abs() * LARGEST_MULTIPLIER || s[from][a].bits() > LARGEST_NUMBER {
                    return None;
                }
                let minus = Rational::new(-&s[from][a], c.clone());
                elements[to].subtract_multiple(&minus.into(), old[a]);
            }
        }
        for (at, &a) in left.iter().enumerate() {
            for &b in &left[at..] {
                // Minors of one row more, or two; the divisions are exact (Sylvester's identity).
                let next = if p == q {
                    (&c * &s[a][b] - &s[p][a] * &s[p][b]) / &minor
                } else {
                    -&c * (&c * &s[a][b] - &s[p][a] * &s[q][b] - &s[q][a] * &s[p][b]) / (&minor * &minor)
                };
                s[b][a] = next.clone();
                s[a][b] = next;
            }
        }
        minor = if p == q { c } else { -(&c * &c) / &minor };
    }
    entries.sort_by_key(|e| (e.a, e.b));
    Some(Diagonal { rows, elements, entries })
}

/// The largest diagonal element, else the first nonzero one off the diagonal.
fn pivot(s: &[Vec<BigInt>], left: &[usize]) -> Option<(usize, usize)> {
    let diagonal = left.iter().copied().filter(|&a| !s[a][a].is_zero());
    let largest = diagonal.reduce(|best, a| if s[a][a].magnitude() > s[best][best].magnitude() { a } else { best });
    let off_diagonal = || {
        let mut pairs = left.iter().flat_map(|&a| left.iter().map(move |&b| (a, b)));
        pairs.find(|&(a, b)| !s[a][b].is_zero())
    };
    largest.map(|a| (a, a)).or_else(off_diagonal)
}

//! Fewer products at order 2: quadratic rows as sums of squares.
//!
//! In an algebra of order 2 the reduced coproduct of a row is a symmetric bilinear form on the linear rows. Symmetric
//! elimination (L D L^T over Q, with 2 x 2 pivots where the diagonal vanishes) gives linear forms in which it has as many
//! entries as its rank at most: d instead of d (d + 1) / 2 for trace(A hess u). Several forms rarely become diagonal
//! together, so each change of basis is tried on the whole algebra and kept only where the whole gets smaller.

use super::coefficient::Coefficient;
use super::constant::order_of_elements;
use super::{JetAlgebra, Rational};
use num_traits::{Signed, Zero};
use std::collections::BTreeMap;

/// Forms on more linear rows than this are left alone: elimination over Q would take seconds.
const LARGEST_FORM: usize = 64;

/// Multipliers beyond this would cost digits in floating point.
const LARGEST_MULTIPLIER: i64 = 8;

/// The same span on a basis with fewer structure constants, where diagonalising helps.
pub(crate) fn diagonalised(mut algebra: JetAlgebra) -> JetAlgebra {
    if algebra.order != 2 {
        return algebra;
    }
    // From the top, since replaced elements keep their places among the rows below.
    for out in 1..algebra.rows() {
        if let Some(better) = with_squares(&algebra, out)
            && better.products() < algebra.products()
        {
            algebra = better;
        }
    }
    let mut basis = algebra.basis.clone();
    basis[1..].sort_by(order_of_elements);
    if basis == algebra.basis { algebra } else { JetAlgebra::from_basis(basis).unwrap_or(algebra) }
}

/// The algebra on linear rows that diagonalise row `out`; none where that is no gain, or too large.
fn with_squares(algebra: &JetAlgebra, out: usize) -> Option<JetAlgebra> {
    let mut form: BTreeMap<(usize, usize), Rational> = BTreeMap::new();
    for entry in algebra.table.iter().filter(|e| e.out == out) {
        form.insert((entry.a, entry.b), entry.c.as_constant()?.clone());
        form.insert((entry.b, entry.a), entry.c.as_constant()?.clone());
    }
    let mut rows: Vec<usize> = form.keys().map(|k| k.0).collect();
    rows.dedup();
    if form.keys().all(|(a, b)| a == b) || rows.len() > LARGEST_FORM {
        return None;
    }
    let mut s: Vec<Vec<Rational>> =
        rows.iter().map(|&a| rows.iter().map(|&b| form.get(&(a, b)).cloned().unwrap_or_default()).collect()).collect();
    let mut basis = algebra.basis.clone();
    let mut left: Vec<usize> = (0..rows.len()).collect();
    while let Some((p, q)) = pivot(&s, &left) {
        // With pivot (p, q): form = sum over the pivot's entries of new_p (x) new_q + what is left.
        let scale = s[p][q].recip();
        let multipliers = |r: usize| -> Vec<Rational> { (0..rows.len()).map(|a| &s[r][a] * &scale).collect() };
        let (by_p, by_q) = (multipliers(p), multipliers(q));
        left.retain(|&a| a != p && a != q);
        for &a in &left {
            for (to, multiplier) in [(p, &by_q[a]), (q, &by_p[a])] {
                if multiplier.abs() > Rational::from_integer(LARGEST_MULTIPLIER.into()) {
                    return None;
                }
                if !multiplier.is_zero() && (to == p || p != q) {
                    let old = algebra.basis[rows[a]].clone();
                    basis[rows[to]].subtract_multiple(&Coefficient::constant(-multiplier), &old);
                }
                if p == q {
                    break;
                }
            }
        }
        let pivot_rows = (s[p].clone(), s[q].clone());
        for &a in &left {
            for &b in &left {
                let mut change = &by_p[a] * &pivot_rows.1[b];
                if p != q {
                    change += &by_q[a] * &pivot_rows.0[b];
                }
                s[a][b] -= change;
            }
        }
    }
    JetAlgebra::from_basis(basis)
}

/// The largest diagonal element, else the first nonzero one off the diagonal.
fn pivot(s: &[Vec<Rational>], left: &[usize]) -> Option<(usize, usize)> {
    let diagonal = left.iter().copied().filter(|&a| !s[a][a].is_zero());
    let largest = diagonal.reduce(|best, a| if s[a][a].abs() > s[best][best].abs() { a } else { best });
    let off_diagonal = || {
        let pairs = left.iter().flat_map(|&a| left.iter().map(move |&b| (a, b)));
        pairs.into_iter().find(|&(a, b)| !s[a][b].is_zero())
    };
    largest.map(|a| (a, a)).or_else(off_diagonal)
}

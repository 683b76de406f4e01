//! A structure table made ready for activations: which rows of the powers of an element there are, and how they come about.
//!
//! Lane r < rows is row r of the argument x (so rows >= 1 are the nilpotent part n = x - x_0); behind them stand the rows of
//! n^2, n^3, ... that are not zero by the structure of the table, computed by n^k = n n^(k-1).

use super::{Algebra, Coefficient};

/// A factor of a term: a number, times a varying constant where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The number.
    pub scale: f64,
    /// Which varying constant.
    pub varying: Option<usize>,
}

/// `lane[out] (+)= factor lane[a] lane[b]`
#[derive(Clone, Copy, Debug)]
pub struct Term {
    /// A lane of a power.
    pub out: usize,
    /// A lane before it.
    pub a: usize,
    /// Another one.
    pub b: usize,
    /// Their factor.
    pub factor: Factor,
    /// The first term of a lane overwrites it.
    pub first: bool,
}

/// An algebra, prepared.
#[derive(Clone, Debug)]
pub struct Powers {
    /// Rows of the algebra.
    pub rows: usize,
    /// Its order.
    pub order: usize,
    /// Rows of the argument and of its powers.
    pub lanes: usize,
    /// In an order in which `a` and `b` are ready, and less than `out`.
    pub terms: Vec<Term>,
    /// By row: (k, lane of (n^k)_row) for k >= 2.
    pub powers: Vec<Vec<(usize, usize)>>,
    /// The table itself: (out, a, b).
    pub entries: Vec<(usize, usize, usize, Factor)>,
    /// One more than the last varying constant, 0 without any.
    pub varying: usize,
}

impl Powers {
    /// Works out which rows of the powers can be nonzero.
    pub fn new(algebra: &Algebra) -> Self {
        let entries: Vec<_> = algebra
            .entries
            .iter()
            .map(|e| {
                let factor = match e.c {
                    Coefficient::Constant(scale) => Factor { scale, varying: None },
                    Coefficient::Varying(v) => Factor { scale: 1.0, varying: Some(v as usize) },
                };
                (e.out as usize, e.a as usize, e.b as usize, factor)
            })
            .filter(|e| e.3.scale != 0.0)
            .collect();
        let varying = entries.iter().filter_map(|e| e.3.varying).map(|v| v + 1).max().unwrap_or(0);
        let rows = algebra.rows;
        let mut table = Powers {
            rows,
            order: algebra.order,
            lanes: rows,
            terms: vec![],
            powers: vec![vec![]; rows],
            entries,
            varying,
        };
        // Lane of each row of n^(k-1).
        let mut last: Vec<Option<usize>> = (0..rows).map(|r| (r > 0).then_some(r)).collect();
        for k in 2..=algebra.order {
            let mut next = vec![None; rows];
            for (out, slot) in next.iter_mut().enumerate() {
                let mut products: Vec<(usize, usize, Factor)> = Vec::new();
                for &(_, a, b, factor) in table.entries.iter().filter(|e| e.0 == out) {
                    if k == 2 {
                        let scale = if a == b { factor.scale } else { 2.0 * factor.scale };
                        products.push((a, b, Factor { scale, ..factor }));
                        continue;
                    }
                    products.extend(last[a].map(|lane| (lane, b, factor)));
                    if a != b {
                        products.extend(last[b].map(|lane| (lane, a, factor)));
                    }
                }
                if products.is_empty() {
                    continue;
                }
                for (i, (a, b, factor)) in products.into_iter().enumerate() {
                    table.terms.push(Term { out: table.lanes, a, b, factor, first: i == 0 });
                }
                table.powers[out].push((k, table.lanes));
                *slot = Some(table.lanes);
                table.lanes += 1;
            }
            last = next;
        }
        table
    }
}

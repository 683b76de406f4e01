//! Runge-Kutta methods.

use crate::program::Scheme;
use num_rational::BigRational;

/// An explicit Runge-Kutta method: nodes, rows of the matrix, weights.
pub(super) struct Tableau {
    pub nodes: &'static [(i64, i64)],
    pub matrix: &'static [&'static [(i64, i64)]],
    pub weights: &'static [(i64, i64)],
    pub order: usize,
}

/// The tableau of a method.
pub(super) fn tableau(scheme: Scheme) -> Tableau {
    match scheme {
        Scheme::Euler => Tableau { nodes: &[(0, 1)], matrix: &[&[]], weights: &[(1, 1)], order: 1 },
        Scheme::Heun => {
            Tableau { nodes: &[(0, 1), (1, 1)], matrix: &[&[], &[(1, 1)]], weights: &[(1, 2), (1, 2)], order: 2 }
        }
        Scheme::Midpoint => {
            Tableau { nodes: &[(0, 1), (1, 2)], matrix: &[&[], &[(1, 2)]], weights: &[(0, 1), (1, 1)], order: 2 }
        }
        Scheme::Bosh3 => Tableau {
            nodes: &[(0, 1), (1, 2), (3, 4)],
            matrix: &[&[], &[(1, 2)], &[(0, 1), (3, 4)]],
            weights: &[(2, 9), (1, 3), (4, 9)],
            order: 3,
        },
        Scheme::Rk4 => Tableau {
            nodes: &[(0, 1), (1, 2), (1, 2), (1, 1)],
            matrix: &[&[], &[(1, 2)], &[(0, 1), (1, 2)], &[(0, 1), (0, 1), (1, 1)]],
            weights: &[(1, 6), (1, 3), (1, 3), (1, 6)],
            order: 4,
        },
    }
}

/// A fraction of a tableau.
pub(super) fn fraction((n, d): (i64, i64)) -> BigRational {
    BigRational::new(n.into(), d.into())
}

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

/// The method of Dormand and Prince (J. Comput. Appl. Math. 6, 1980), RK5(4)7M.
pub(super) const DOPRI5: Tableau = Tableau {
    nodes: &[(0, 1), (1, 5), (3, 10), (4, 5), (8, 9), (1, 1), (1, 1)],
    matrix: &[
        &[],
        &[(1, 5)],
        &[(3, 40), (9, 40)],
        &[(44, 45), (-56, 15), (32, 9)],
        &[(19372, 6561), (-25360, 2187), (64448, 6561), (-212, 729)],
        &[(9017, 3168), (-355, 33), (46732, 5247), (49, 176), (-5103, 18656)],
        &[(35, 384), (0, 1), (500, 1113), (125, 192), (-2187, 6784), (11, 84)],
    ],
    weights: &[(35, 384), (0, 1), (500, 1113), (125, 192), (-2187, 6784), (11, 84)],
    order: 5,
};

/// Evaluations of the right side in a step of it, with the estimate.
pub const DOPRI5_EVALUATIONS: usize = DOPRI5.nodes.len();

/// Its weights less those of order 4: what estimates the error of a step.
pub(super) const DOPRI5_ERROR: &[(i64, i64)] =
    &[(71, 57600), (0, 1), (-71, 16695), (71, 1920), (-17253, 339200), (22, 525), (-1, 40)];

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

//! Which numbers the nodes of [`Columns`] can hold.

use crate::jet::columns::{Columns, Node};
use crate::jet::{Binary, Unary};

/// The least and the greatest number.
pub type Interval = (f64, f64);

const ALL: Interval = (f64::NEG_INFINITY, f64::INFINITY);

/// By node, where the points' numbers are in `points`. In exact arithmetic: rounding leads out of it by as much.
pub fn of(columns: &Columns, points: Interval) -> Vec<Interval> {
    let mut known: Vec<Interval> = Vec::with_capacity(columns.nodes.len());
    for node in &columns.nodes {
        let interval = match node {
            Node::Constant(bits) => (f64::from_bits(*bits), f64::from_bits(*bits)),
            Node::Points | Node::Fixed(_) => points,
            // beyond the columns, too, where it is read ahead
            Node::Index => (0.0, f64::INFINITY),
            Node::Unary(f, a) => unary(*f, known[a.node]),
            Node::Power(exponent, a) => power(*exponent, known[a.node]),
            Node::Binary(f, a, b) => binary(*f, known[a.node], known[b.node]),
            Node::Direction(_) | Node::Tensor(_) | Node::Element(..) => ALL,
        };
        known.push(if interval.0.is_nan() || interval.1.is_nan() { ALL } else { interval });
    }
    known
}

/// The greatest size.
pub fn size((low, high): Interval) -> f64 {
    low.abs().max(high.abs())
}

fn unary(f: Unary, (low, high): Interval) -> Interval {
    let monotone = |f: fn(f64) -> f64| (f(low), f(high));
    match f {
        Unary::Neg => (-high, -low),
        Unary::Exp => monotone(f64::exp),
        Unary::Sinh => monotone(f64::sinh),
        Unary::Tanh => monotone(f64::tanh),
        Unary::Atan => monotone(f64::atan),
        Unary::Sin | Unary::Cos | Unary::Erf | Unary::Sign => (-1.0, 1.0),
        Unary::Sqrt if low >= 0.0 => monotone(f64::sqrt),
        Unary::Abs => (0.0, size((low, high))),
        _ => ALL,
    }
}

fn power(exponent: i32, a: Interval) -> Interval {
    let most = size(a).powi(exponent);
    match exponent {
        ..0 => ALL,
        _ if exponent % 2 == 0 => (0.0, most),
        _ => (-most, most),
    }
}

fn binary(f: Binary, (a, b): Interval, (c, d): Interval) -> Interval {
    match f {
        Binary::Add => (a + c, b + d),
        Binary::Sub => (a - d, b - c),
        Binary::Mul => {
            let products = [a * c, a * d, b * c, b * d];
            if products.iter().any(|p| p.is_nan()) {
                return ALL;
            }
            (products.into_iter().fold(f64::INFINITY, f64::min), products.into_iter().fold(f64::NEG_INFINITY, f64::max))
        }
        Binary::Min => (a.min(c), b.min(d)),
        Binary::Max => (a.max(c), b.max(d)),
        Binary::AtLeast => (0.0, 1.0),
        Binary::Div | Binary::Pow => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::columns::Argument;
    use proptest::prelude::*;

    const UNARY: [Unary; 15] = [
        Unary::Neg,
        Unary::Recip,
        Unary::Sqrt,
        Unary::Exp,
        Unary::Log,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Tanh,
        Unary::Atan,
        Unary::Erf,
        Unary::Abs,
        Unary::Sign,
    ];
    const BINARY: [Binary; 7] =
        [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max, Binary::AtLeast];

    fn value(node: &Node, x: f64, known: &[f64]) -> f64 {
        match node {
            Node::Constant(bits) => f64::from_bits(*bits),
            Node::Unary(f, a) => crate::jet::unary(*f, known[a.node]),
            Node::Power(n, a) => known[a.node].powi(*n),
            Node::Binary(f, a, b) => crate::jet::binary(*f, known[a.node], known[b.node]),
            _ => x,
        }
    }

    proptest! {
        /// No node leaves its interval, whatever the number of the points is.
        #[test]
        fn numbers_are_where_they_should_be(
            steps in prop::collection::vec((0..3usize, 0..15usize, 0..100usize, 0..100usize, -3.0..3.0f64), 1..20),
            (low, width, part) in (-2.0..2.0f64, 0.0..3.0f64, 0.0..=1.0f64),
        ) {
            let mut columns = Columns::new(10);
            columns.node(Node::Points);
            for (kind, f, a, b, c) in steps {
                let at = |k: usize| Argument { node: k % columns.nodes.len(), shift: 0 };
                let node = match kind {
                    0 => Node::Unary(UNARY[f], at(a)),
                    1 => Node::Binary(BINARY[f % 7], at(a), at(b)),
                    _ if f < 8 => Node::Power(f as i32 - 2, at(a)),
                    _ => Node::Constant(c.to_bits()),
                };
                columns.node(node);
            }
            let (x, intervals) = (low + part * width, of(&columns, (low, low + width)));
            let mut known = vec![];
            for (node, (low, high)) in columns.nodes.iter().zip(intervals) {
                let y = value(node, x, &known);
                let slack = 1e-9 * (1.0 + size((low, high)).min(1e300));
                prop_assert!(y.is_nan() || (low - slack <= y && y <= high + slack), "{node:?}: {y} in {low} to {high}");
                known.push(y);
            }
        }
    }
}

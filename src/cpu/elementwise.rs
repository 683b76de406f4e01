//! Scalar code that does the same to every feature, run for points and features together.
//!
//! A row of a value is [points, features], so where a loop over all features reads and writes feature by feature, the numbers of
//! consecutive points lie one behind the other: a register holds `LANES` of those, instead of one feature of as many points.

use super::activation::{LANES, Lane};
use super::pointwise::{Address, Code, Input, Scalar, arithmetic};
use super::real::Real;

/// Features that are worth it, at least: fewer are taken apart for many points at once.
const FEATURES: i64 = 16;

/// How many features the loops of such code have; none where some code does not do the same to each of them, or does costly things
/// once for all.
pub fn features(code: &[Code]) -> Option<usize> {
    let mut found = None;
    let mut inside = None;
    let moves = |address: &Address, inside: Option<usize>| match (address.register, &address.terms[..]) {
        (None, []) => Some(false),
        (None, [(var, 1)]) if Some(*var) == inside => Some(true),
        _ => None,
    };
    for code in code {
        let is_fine = match code {
            Code::Begin { var, lo: 0, hi, reductions, .. } if reductions.is_empty() && inside.is_none() => {
                inside = Some(*var);
                *hi >= FEATURES && *found.get_or_insert(*hi) == *hi
            }
            Code::End { .. } => {
                inside = None;
                true
            }
            Code::Load { row, feature, .. } => moves(row, inside) == Some(false) && moves(feature, inside).is_some(),
            Code::Store { row, feature, .. } => {
                moves(row, inside) == Some(false) && moves(feature, inside) == Some(true)
            }
            Code::Unary { f, .. } => inside.is_some() || f.is_cheap(),
            Code::Constant { .. } | Code::Power { .. } | Code::Binary { .. } => true,
            Code::Begin { .. } | Code::Index { .. } => false,
        };
        if !is_fine {
            return None;
        }
    }
    found.map(|n| n as usize)
}

impl<T: Real> Scalar<'_, T> {
    /// Runs code whose loops have `n` features. No points are made on the way.
    #[inline(always)]
    pub(super) fn each_feature(self, n: usize) {
        let lanes = &mut self.registers.lanes;
        for first in (0..self.points * n).step_by(LANES) {
            let w = LANES.min(self.points * n - first);
            for code in &self.code.code {
                match code {
                    Code::Load { y, input, row, feature } => {
                        let place = Place { first, n, row: row.offset as usize, feature: feature.offset as usize };
                        place.load(&self.inputs[*input], self.points, !feature.terms.is_empty(), &mut lanes[*y][..w]);
                    }
                    Code::Store { row, feature, a } => {
                        let place = Place { first, n, row: row.offset as usize, feature: feature.offset as usize };
                        place.add(&lanes[*a], w, self.points, self.code.features, self.y);
                    }
                    code => arithmetic(code, w, lanes),
                }
            }
        }
    }
}

/// Features of consecutive points: the number of the first, how many a point has, and what is added to row and feature.
struct Place {
    first: usize,
    n: usize,
    row: usize,
    feature: usize,
}

impl Place {
    /// For each point: where its numbers lie in a value of so many features, and in the lanes.
    #[inline(always)]
    fn each(&self, w: usize, points: usize, features: usize, mut f: impl FnMut(usize, std::ops::Range<usize>)) {
        let (mut point, mut i, mut at) = (self.first / self.n, self.first % self.n, 0);
        while at < w {
            let len = (self.n - i).min(w - at);
            f((self.row * points + point) * features + self.feature + i, at..at + len);
            (point, i, at) = (point + 1, 0, at + len);
        }
    }

    #[inline(always)]
    fn load<T: Real>(&self, input: &Input<T>, points: usize, moves: bool, y: &mut [T]) {
        match *input {
            Input::Value { elements, features, .. } if moves && features == self.n && self.feature == 0 => {
                y.copy_from_slice(&elements[self.row * points * features + self.first..][..y.len()]);
            }
            Input::Value { elements, features, .. } if moves => self.each(y.len(), points, features, |from, lanes| {
                let len = lanes.len();
                y[lanes].copy_from_slice(&elements[from..from + len]);
            }),
            Input::Value { elements, features, .. } => self.each(y.len(), points, features, |from, lanes| {
                y[lanes.clone()].fill(elements[from - (self.first + lanes.start) % self.n]);
            }),
            Input::Tensor(elements) if moves => self.each(y.len(), 0, 0, |from, lanes| {
                let len = lanes.len();
                y[lanes].copy_from_slice(&elements[from..from + len]);
            }),
            Input::Tensor(elements) => y.fill(elements[self.feature]),
            Input::Points(..) => y.fill(T::lit(f64::NAN)),
        }
    }

    #[inline(always)]
    fn add<T: Real>(&self, a: &Lane<T>, w: usize, points: usize, features: usize, y: &mut [T]) {
        if features == self.n && self.feature == 0 {
            let y = &mut y[self.row * points * features + self.first..][..w];
            return y.iter_mut().zip(&a[..w]).for_each(|(y, a)| *y += *a);
        }
        self.each(w, points, features, |to, lanes| {
            let len = lanes.len();
            y[to..to + len].iter_mut().zip(&a[lanes]).for_each(|(y, a)| *y += *a);
        });
    }
}

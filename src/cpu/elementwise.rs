//! Scalar code that does the same to every feature, run for points and features together.
//!
//! A row of a value is [points, features], so where a loop over all features reads and writes feature by feature, the numbers of
//! consecutive points lie one behind the other: a register holds `BLOCK` of those, instead of one feature of as many points.

use super::flat::{Address, Code};
use super::pointwise::{Input, Scalar, arithmetic};
use super::real::Real;
use std::ops::Range;

/// Features that are worth it, at least: fewer are taken apart for many points at once.
const FEATURES: i64 = 16;
/// Numbers of a register: many, so that little time goes to what is done once for all of them, and few enough that some registers
/// stay in the first cache.
const BLOCK: usize = 256;

/// A register.
pub type Block<T> = [T; BLOCK];

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
            Code::Binary { f, .. } => inside.is_some() || f.is_cheap(),
            Code::Power { .. } => inside.is_some(),
            Code::Constant { .. } | Code::Sum { .. } => true,
            Code::Begin { .. } | Code::Index { .. } | Code::StoreRow { .. } => false,
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
        let lanes = &mut self.registers.blocks;
        // what an earlier call has left is overwritten before it is read
        if lanes.len() < self.code.registers {
            lanes.resize(self.code.registers, [T::zero(); BLOCK]);
        }
        let (points, features) = (self.points, self.code.features);
        let (mut point, mut feature) = (0, 0);
        for first in (0..points * n).step_by(BLOCK) {
            let w = BLOCK.min(points * n - first);
            let at = |row: &Address, offset: &Address| Place {
                n,
                points,
                at: (point, feature),
                to: (row.offset as usize, offset.offset as usize),
            };
            for code in &self.code.code {
                match code {
                    Code::Load { y, input, row, feature } => {
                        let y = &mut lanes[*y][..w];
                        at(row, feature).load(&self.inputs[*input], !feature.terms.is_empty(), y);
                    }
                    Code::Store { row, a, .. } if self.code.is_whole => {
                        let y = &mut self.y[row.offset as usize * points * n + first..][..w];
                        y.copy_from_slice(&lanes[*a][..w]);
                    }
                    Code::Store { row, feature, a } => at(row, feature).add(&lanes[*a][..w], features, self.y),
                    code => arithmetic(code, w, lanes),
                }
            }
            feature += w;
            while feature >= n {
                (point, feature) = (point + 1, feature - n);
            }
        }
    }
}

/// Some features of consecutive points.
struct Place {
    /// Features of a point.
    n: usize,
    points: usize,
    /// Point and feature that they begin with.
    at: (usize, usize),
    /// What is added to row and feature.
    to: (usize, usize),
}

impl Place {
    /// For each point: where its row begins in a value of so many features, its feature, and where its numbers are in the lanes.
    #[inline(always)]
    fn each(&self, w: usize, features: usize, mut f: impl FnMut(usize, usize, Range<usize>)) {
        let ((mut point, mut feature), mut begin) = (self.at, 0);
        while begin < w {
            let len = (self.n - feature).min(w - begin);
            f((self.to.0 * self.points + point) * features + self.to.1, feature, begin..begin + len);
            (point, feature, begin) = (point + 1, 0, begin + len);
        }
    }

    #[inline(always)]
    fn load<T: Real>(&self, input: &Input<T>, moves: bool, y: &mut [T]) {
        match *input {
            // one behind the other
            Input::Value { elements, features, .. } if moves && features == self.n && self.to.1 == 0 => {
                let from = (self.to.0 * self.points + self.at.0) * features + self.at.1;
                y.copy_from_slice(&elements[from..][..y.len()]);
            }
            Input::Value { elements, features, .. } => self.each(y.len(), features, |row, feature, lanes| {
                let y = &mut y[lanes];
                match moves {
                    true => y.copy_from_slice(&elements[row + feature..][..y.len()]),
                    false => y.fill(elements[row]),
                }
            }),
            Input::Tensor(elements) if moves => self.each(y.len(), 0, |row, feature, lanes| {
                let y = &mut y[lanes];
                y.copy_from_slice(&elements[row + feature..][..y.len()]);
            }),
            Input::Tensor(elements) => y.fill(elements[self.to.1]),
            Input::Points(..) => y.fill(T::lit(f64::NAN)),
        }
    }

    #[inline(always)]
    fn add<T: Real>(&self, a: &[T], features: usize, y: &mut [T]) {
        self.each(a.len(), features, |row, feature, lanes| {
            let a = &a[lanes];
            y[row + feature..][..a.len()].iter_mut().zip(a).for_each(|(y, a)| *y += *a);
        });
    }
}

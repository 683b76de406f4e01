//! Random directions in blocks of columns: [columns, points], the numbers that `jet::random` defines.
//!
//! Lanes run over points. A number is made where it is needed, and is the same however the blocks are cut.

use super::real::{Kernel, Real};
use crate::jet::columns::Directions;
use crate::net::philox4x32;
use std::ops::Range;

/// Points that are worked on together.
const LANES: usize = 16;

/// Elements of one direction at some points, to be made.
pub struct Fill<'a, T> {
    /// Of which operation.
    pub directions: Directions,
    /// Which of its directions.
    pub slot: usize,
    /// The first column of the direction: others are 0.
    pub first: usize,
    /// Seed and step.
    pub random: (u64, u64),
    /// Numbers of the points.
    pub points: Range<usize>,
    /// Columns of the points.
    pub columns: Range<usize>,
    /// [columns, points]
    pub out: &'a mut [T],
}

impl<T: Real> Kernel for Fill<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Fill { directions: Directions { stream, len, gaussian }, slot, first, random, points, columns, out } = self;
        let (seed, step) = random;
        let key = [seed as u32, (seed >> 32) as u32];
        let n = points.len();
        let here = columns.start.max(first)..columns.end.min(first + len).max(first);
        if here.len() < columns.len() {
            out.fill(T::zero());
        }
        // Element e of the operation is element e mod `per` of a block of random words.
        let per = if gaussian { 4 } else { 128 };
        for lane in (0..n).step_by(LANES) {
            let lanes = LANES.min(n - lane);
            let mut column = here.start;
            while column < here.end {
                let e = slot * len + (column - first);
                let (block, at) = (e / per, e % per);
                let count = (per - at).min(here.end - column);
                let drawn: [[u32; 4]; LANES] = std::array::from_fn(|l| {
                    let point = (points.start + lane + l) as u32;
                    philox4x32([block as u32, point, step as u32, stream], key)
                });
                let words: [[u32; LANES]; 4] = std::array::from_fn(|k| drawn.map(|w| w[k]));
                let mut put = |c: usize, value: &dyn Fn(usize) -> T| {
                    let y = &mut out[(column - columns.start + c) * n + lane..][..lanes];
                    y.iter_mut().enumerate().for_each(|(l, y)| *y = value(l));
                };
                if gaussian {
                    let mut normal = [[T::zero(); LANES]; 4];
                    for k in [0, 2] {
                        for l in 0..LANES {
                            [normal[k][l], normal[k + 1][l]] = T::gaussian_pair(words[k][l], words[k + 1][l]);
                        }
                    }
                    (0..count).for_each(|c| put(c, &|l| normal[at + c][l]));
                } else {
                    for c in 0..count {
                        let (word, bit) = (&words[(at + c) / 32], (at + c) % 32);
                        put(c, &|l| T::sign_of(word[l] >> bit & 1));
                    }
                }
                column += count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::random::Words;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_the_numbers_of_the_definition(
            gaussian: bool, len in 1..300usize, k in 1..4usize, first in 0..5usize, n in 0..40usize, from in 0..200usize, count in 0..200usize,
        ) {
            let directions = Directions { stream: 3, len, gaussian };
            let columns = from..from + count;
            let mut single = vec![9.0f32; count * n];
            for slot in 0..k {
                let mut ours = vec![9.0f64; count * n];
                let fill = |out| Fill { directions, slot, first, random: (7, 2), points: 5..5 + n, columns: columns.clone(), out };
                <f64 as super::super::real::Kernels>::fill(fill(&mut ours));
                let fill = Fill { directions, slot, first, random: (7, 2), points: 5..5 + n, columns: columns.clone(), out: &mut single };
                <f32 as super::super::real::Kernels>::fill(fill);
                for p in 0..n {
                    let mut all = vec![0.0; k * len];
                    Words::new(7, 2, 3, 5 + p).directions(gaussian, |e, v| all[e] = v, k * len);
                    for (c, column) in columns.clone().enumerate() {
                        let expected = if (first..first + len).contains(&column) { all[slot * len + column - first] } else { 0.0 };
                        prop_assert_eq!(ours[c * n + p], expected);
                        prop_assert!((f64::from(single[c * n + p]) - expected).abs() < 3e-5, "{expected}");
                    }
                }
            }
        }
    }
}

//! Random numbers of a block of points and columns, vectorised: [columns, points].
//!
//! Number (p, c) is uniform or normal number `row(p) + offset + c` of a stream (see [`Philox`]). Lanes run over points, because
//! the four words of a Philox block are four columns of one point. In f32 the normal numbers come from polynomials in single
//! precision, within 1e-6 of those in f64, and to the same bits on every machine, one by one or in blocks.

use super::element::Element;
use super::philox::{Philox, row};
use crate::vector::{Kernel, dispatch};
use std::ops::Range;

/// Points that are worked on together.
const LANES: usize = 64;

/// A block of numbers to be made.
struct Block<'a, T, F> {
    stream: &'a Philox,
    first_point: u32,
    points: usize,
    columns: Range<u64>,
    /// Two words to two numbers.
    pair: F,
    out: &'a mut [T],
}

impl<T: Element, F: Fn(u32, u32) -> [T; 2]> Kernel for Block<'_, T, F> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "one index for four arrays: this becomes vector code")]
    fn run(self) {
        let Block { stream, first_point, points, columns, pair, out } = self;
        let (mut words, mut numbers) = ([[0u32; LANES]; 4], [[T::zero(); LANES]; 4]);
        for first in (0..points).step_by(LANES) {
            let lanes = LANES.min(points - first);
            for group in columns.start / 4..columns.end.div_ceil(4) {
                for l in 0..lanes {
                    let at = row(first_point + (first + l) as u32) / 4 + group;
                    let block = stream.block(at);
                    for k in 0..4 {
                        words[k][l] = block[k];
                    }
                }
                for k in [0, 2] {
                    for l in 0..lanes {
                        let [a, b] = pair(words[k][l], words[k + 1][l]);
                        (numbers[k][l], numbers[k + 1][l]) = (a, b);
                    }
                }
                for (k, numbers) in numbers.iter().enumerate() {
                    let column = 4 * group + k as u64;
                    if columns.contains(&column) {
                        let at = (column - columns.start) as usize * points + first;
                        out[at..at + lanes].copy_from_slice(&numbers[..lanes]);
                    }
                }
            }
        }
    }
}

impl Philox {
    /// Number (c, p) of `out`, [columns, points], becomes normal number `row(points.start + p) + columns.start + c`.
    pub fn normals<T: Element>(&self, points: Range<usize>, columns: Range<u64>, out: &mut [T]) {
        self.numbers(points, columns, T::normal_pair, out);
    }

    /// Number (c, p) of `out`, [columns, points], becomes map of uniform number `row(points.start + p) + columns.start + c`.
    pub fn uniforms<T: Element>(
        &self,
        points: Range<usize>,
        columns: Range<u64>,
        map: impl Fn(f64) -> T,
        out: &mut [T],
    ) {
        let uniform = |word: u32| (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0);
        self.numbers(points, columns, |a, b| [map(uniform(a)), map(uniform(b))], out);
    }

    fn numbers<T: Element>(
        &self,
        points: Range<usize>,
        columns: Range<u64>,
        pair: impl Fn(u32, u32) -> [T; 2],
        out: &mut [T],
    ) {
        debug_assert_eq!(out.len() as u64, points.len() as u64 * (columns.end - columns.start));
        dispatch(Block { stream: self, first_point: points.start as u32, points: points.len(), columns, pair, out });
    }
}

/// Box and Muller's pair of two words, in single precision.
#[inline(always)]
pub fn normal_pair_f32(a: u32, b: u32) -> [f32; 2] {
    let r = (-2.0 * log_uniform(a)).sqrt();
    // A whole number of quarter turns, and what is left: |rest| <= 1/8 turn.
    let turn = b.wrapping_add(1 << 29);
    let rest = (turn & ((1 << 30) - 1)) as i32 - (1 << 29);
    let x = (rest as f32 + 0.5) * (std::f32::consts::TAU / 4_294_967_296.0);
    let z = x * x;
    let s = z.mul_add(2.755_731_9e-6, -1.984_127e-4);
    let s = z.mul_add(s, 8.333_333e-3);
    let s = z.mul_add(s, -0.166_666_67);
    let sin = (x * z).mul_add(s, x);
    let c = z.mul_add(-2.755_732e-7, 2.480_158_7e-5);
    let c = z.mul_add(c, -1.388_888_9e-3);
    let c = z.mul_add(c, 4.166_666_8e-2);
    let c = z.mul_add(c, -0.5);
    let cos = z.mul_add(c, 1.0);
    let swapped = turn & (1 << 30) != 0;
    let (s, c) = if swapped { (cos, sin) } else { (sin, cos) };
    // Signs by quadrant: cos is negative in the second and third, sin in the third and fourth.
    let sign = |x: f32, bit: u32| f32::from_bits(x.to_bits() ^ (bit & 1 << 31));
    [r * sign(c, turn << 1 ^ turn), r * sign(s, turn)]
}

/// ln((a + 1/2) / 2^32), with all its digits also where the argument is near 1.
#[inline(always)]
fn log_uniform(a: u32) -> f32 {
    // Above sqrt(1/2), by the distance from 1; below, by mantissa and exponent.
    let near = a >= 0xb504_f334;
    let x = (if near { !a } else { a }) as f32 + 0.5;
    const ROOT: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let bits = x.to_bits().wrapping_add(0x3f80_0000 - ROOT);
    let k = (bits >> 23) as i32 - (127 + 32);
    let m = f32::from_bits((bits & 0x007f_ffff) + ROOT);
    let f = if near { x * (-1.0 / 4_294_967_296.0) } else { m - 1.0 };
    let k = if near { 0.0 } else { k as f32 };
    let s = f / (f + 2.0);
    let z = s * s;
    let p = z.mul_add(0.090_909_09, 0.111_111_11);
    let p = z.mul_add(p, 0.142_857_15);
    let p = z.mul_add(p, 0.2);
    let p = z.mul_add(p, 0.333_333_34);
    let atanh = (s * z).mul_add(p, s);
    k.mul_add(std::f32::consts::LN_2, atanh + atanh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Single precision against double, over words near all the corners and in between.
    #[test]
    fn single_precision_normals_are_those_of_double() {
        let corners = [0u32, 1, 2, 1 << 29, 1 << 30, 1 << 31, 0xb504_f333, 0xb504_f334, 0xb504_f335, 3 << 30, u32::MAX];
        let mut words: Vec<u32> = corners.iter().flat_map(|c| [c.wrapping_sub(1), *c, c.wrapping_add(1)]).collect();
        let stream = Philox::new(3, 1, 4);
        words.extend((0..400).map(|i| stream.word(i)));
        for &a in &words {
            for &b in &words {
                let (ours, exact) = (normal_pair_f32(a, b), f64::normal_pair(a, b));
                let size = exact[0].hypot(exact[1]);
                for k in 0..2 {
                    let error = (f64::from(ours[k]) - exact[k]).abs();
                    assert!(error <= 4e-7 * size, "{a:x} {b:x}: {ours:?} for {exact:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_block_is_its_numbers(seed: u64, point in 0usize..1000, n in 0usize..140, first in 0u64..1 << 33, len in 0u64..11) {
            let stream = Philox::new(seed, 5, 6);
            let mut normal = vec![0.0f64; n * len as usize];
            let mut uniform = normal.clone();
            let mut single = vec![0.0f32; n * len as usize];
            stream.normals(point..point + n, first..first + len, &mut normal);
            stream.normals(point..point + n, first..first + len, &mut single);
            stream.uniforms(point..point + n, first..first + len, |u| u, &mut uniform);
            for c in 0..len {
                for p in 0..n {
                    let (at, i) = (row((point + p) as u32) + first + c, c as usize * n + p);
                    prop_assert_eq!(normal[i], stream.normal(at));
                    prop_assert_eq!(uniform[i], stream.uniform(at));
                    let mut alone = [0.0f32];
                    stream.normals(point + p..point + p + 1, first + c..first + c + 1, &mut alone);
                    prop_assert_eq!(single[i], alone[0]);
                }
            }
        }
    }
}

//! Philox4x32-10, the counter-based generator behind every random number of a run.
//!
//! Word `i` of a stream is a function of (seed, stream, substream, i) alone: nothing is stored, any number can be
//! had out of order, and a GPU repeats the same numbers. The layout, shared with the kernels:
//!
//! - key = the seed (low word, high word); counter = (i/4 low word, i/4 high word, substream, stream); word i is
//!   word i mod 4 of that block. What belongs to a point starts at [`row`] of its number, so that the counter reads
//!   (column/4, point, step, stream);
//! - uniform i = (word i + 1/2) / 2^32, inside the open interval (0, 1);
//! - normal 2p and 2p + 1 = r cos(a), r sin(a) with r = sqrt(-2 ln uniform(2p)), a = 2 pi uniform(2p + 1) (Box-Muller).
//!
//! `libm` in pure Rust is used instead of the platform's, so that the numbers are the same on every machine.

use rand::TryRng;
use rand::rand_core::{Infallible, utils};

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of Philox4x32-10: four words from a counter and a key.
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for round in 0..ROUNDS {
        if round > 0 {
            k0 = k0.wrapping_add(WEYL[0]);
            k1 = k1.wrapping_add(WEYL[1]);
        }
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c0);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c2);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
    }
    [c0, c1, c2, c3]
}

/// Position of column 0 of a point: every point has 2^34 numbers of its own.
pub fn row(point: u32) -> u64 {
    u64::from(point) << 34
}

/// What a stream of random numbers is for; keeps the streams of one seed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; number = tensor.
    Weights = 1,
    /// Fixed coefficient tables (the table's own seed).
    Coefficients = 2,
    /// Coordinates of training points; number = condition, substream = step.
    Points = 3,
    /// Strata, faces, permutations of training points; number = condition, substream = step or epoch.
    Strata = 4,
    /// Index sets and directions of estimators; number = condition or output, substream = step.
    Estimator = 5,
    /// Points at which errors are measured; number = report.
    Test = 6,
    /// Points and directions of `verify` and `bench`.
    Verify = 7,
}

impl Purpose {
    /// The stream of the `number`-th object with this purpose (numbers wrap at 2^24).
    pub fn stream(self, number: usize) -> u32 {
        (self as u32) << 24 | (number as u32 & 0x00FF_FFFF)
    }
}

/// A stream of random numbers: random access by position, and a sequence behind rand's traits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
    substream: u32,
    position: u64,
}

impl Philox {
    /// The stream (`stream`, `substream`) of a seed, at position 0. See [`Purpose::stream`].
    pub fn new(seed: u64, stream: u32, substream: u32) -> Self {
        Philox { key: [seed as u32, (seed >> 32) as u32], stream, substream, position: 0 }
    }

    /// Words 4b .. 4b + 4.
    #[inline(always)]
    pub fn block(&self, b: u64) -> [u32; 4] {
        philox4x32([b as u32, (b >> 32) as u32, self.substream, self.stream], self.key)
    }

    /// Word `i`.
    #[inline]
    pub fn word(&self, i: u64) -> u32 {
        self.block(i / 4)[(i % 4) as usize]
    }

    /// Uniform number `i`, in the open interval (0, 1), a multiple of 2^-33.
    #[inline]
    pub fn uniform(&self, i: u64) -> f64 {
        to_uniform(self.word(i))
    }

    /// Standard normal number `i`.
    pub fn normal(&self, i: u64) -> f64 {
        let block = self.block(i / 4);
        let at = (i % 4) as usize & 2;
        normal_pair(block[at], block[at + 1])[(i % 2) as usize]
    }

    /// Uniform integer below `n` (`n` > 0), number `i`; bias at most n / 2^32.
    #[inline]
    pub fn below(&self, i: u64, n: u32) -> u32 {
        ((u64::from(self.word(i)) * u64::from(n)) >> 32) as u32
    }

    /// `out[j] = uniform(first + j)`.
    pub fn fill_uniform(&self, first: u64, out: &mut [f64]) {
        self.fill(first, out, |block| block.map(to_uniform));
    }

    /// `out[j] = normal(first + j)`.
    pub fn fill_normal(&self, first: u64, out: &mut [f64]) {
        self.fill(first, out, |[a, b, c, d]| {
            let ([p, q], [r, s]) = (normal_pair(a, b), normal_pair(c, d));
            [p, q, r, s]
        });
    }

    /// Block by block, whatever the alignment of `first`.
    #[inline(always)]
    fn fill(&self, first: u64, out: &mut [f64], map: impl Fn([u32; 4]) -> [f64; 4]) {
        let head = ((4 - first % 4) % 4).min(out.len() as u64) as usize;
        let (head, body) = out.split_at_mut(head);
        if !head.is_empty() {
            let skip = (first % 4) as usize;
            head.copy_from_slice(&map(self.block(first / 4))[skip..skip + head.len()]);
        }
        let block = first.div_ceil(4);
        for (k, chunk) in body.chunks_mut(4).enumerate() {
            chunk.copy_from_slice(&map(self.block(block + k as u64))[..chunk.len()]);
        }
    }
}

#[inline(always)]
fn to_uniform(word: u32) -> f64 {
    (f64::from(word) + 0.5) * (1.0 / 4_294_967_296.0)
}

/// Box and Muller's pair of two words.
#[inline(always)]
pub fn normal_pair(a: u32, b: u32) -> [f64; 2] {
    let r = (-2.0 * libm::log(to_uniform(a))).sqrt();
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * to_uniform(b));
    [r * cos, r * sin]
}

impl TryRng for Philox {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let word = self.word(self.position);
        self.position = self.position.wrapping_add(1);
        Ok(word)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let low = u64::from(self.try_next_u32()?);
        Ok(low | u64::from(self.try_next_u32()?) << 32)
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        utils::fill_bytes_via_next_word(out, || self.try_next_u32())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::Rng;

    #[test]
    fn known_answers_of_random123() {
        let ones = u32::MAX;
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox4x32([ones; 4], [ones; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        assert_eq!(
            philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]),
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]
        );
    }

    #[test]
    fn the_sequence_is_the_words() {
        let mut rng = Philox::new(7, 3, 1);
        let words = rng.clone();
        assert_eq!(rng.next_u32(), words.word(0));
        assert_eq!(rng.next_u64(), u64::from(words.word(1)) | u64::from(words.word(2)) << 32);
        let mut bytes = [0; 6];
        rng.fill_bytes(&mut bytes);
        assert_eq!(bytes[..4], words.word(3).to_le_bytes());
        assert_eq!(bytes[4..], words.word(4).to_le_bytes()[..2]);
    }

    #[test]
    fn streams_and_seeds_differ() {
        let words = [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1 << 32 | 1, 2, 3)]
            .map(|(seed, a, b)| Philox::new(seed, a, b).block(0));
        for i in 0..words.len() {
            assert!(!words[..i].contains(&words[i]));
        }
        assert_ne!(Purpose::Points.stream(0), Purpose::Test.stream(0));
    }

    #[test]
    fn the_counter_is_column_point_step_stream() {
        let word = Philox::new(9, 4, 3).word(row(2) + 5);
        assert_eq!(word, philox4x32([1, 2, 3, 4], [9, 0])[1]);
    }

    #[test]
    fn uniform_is_open_at_both_ends() {
        assert!(to_uniform(0) > 0.0 && to_uniform(u32::MAX) < 1.0);
    }

    /// Means of powers against the moments, within five standard deviations of the mean.
    #[test]
    fn moments() {
        const N: usize = 200_000;
        let rng = Philox::new(11, 0, 0);
        let mut sample = vec![0.0; N];
        let within = |sample: &[f64], power: i32, moment: f64, moment2: f64| {
            let mean = sample.iter().map(|x| x.powi(power)).sum::<f64>() / N as f64;
            let deviation = ((moment2 - moment * moment) / N as f64).sqrt();
            assert!((mean - moment).abs() < 5.0 * deviation, "E[x^{power}] = {mean}, expected {moment} +- {deviation}");
        };
        rng.fill_uniform(0, &mut sample);
        within(&sample, 1, 1.0 / 2.0, 1.0 / 3.0);
        within(&sample, 2, 1.0 / 3.0, 1.0 / 5.0);
        rng.fill_normal(0, &mut sample);
        within(&sample, 1, 0.0, 1.0);
        within(&sample, 2, 1.0, 3.0);
        within(&sample, 3, 0.0, 15.0);
        within(&sample, 4, 3.0, 105.0);
        // The two numbers of a Box-Muller pair are uncorrelated.
        let covariance = sample.chunks_exact(2).map(|p| p[0] * p[1]).sum::<f64>() / (N / 2) as f64;
        assert!(covariance.abs() < 5.0 / ((N / 2) as f64).sqrt());
    }

    proptest! {
        #[test]
        fn filling_is_random_access(seed: u64, first in 0u64..1 << 40, len in 0usize..20) {
            let rng = Philox::new(seed, 5, 6);
            let (mut uniform, mut normal) = (vec![0.0; len], vec![0.0; len]);
            rng.fill_uniform(first, &mut uniform);
            rng.fill_normal(first, &mut normal);
            for j in 0..len {
                prop_assert_eq!(uniform[j], rng.uniform(first + j as u64));
                prop_assert_eq!(normal[j], rng.normal(first + j as u64));
            }
        }

        #[test]
        fn below_is_below(seed: u64, n in 1u32.., i: u64) {
            prop_assert!(Philox::new(seed, 0, 0).below(i, n) < n);
        }
    }
}

//! Random permutations by position: where i of 0..n goes is computed, not looked up.
//!
//! A Feistel network of six rounds (more for small n, where a round mixes few bits) permutes 0..4^h, the smallest such range that holds n; numbers that land at n or above
//! are sent on until they land below (at most a few times on average, since 4^h < 4 n).

use crate::vector::{Kernel, dispatch};
use std::ops::Range;

/// A permutation of 0..n, chosen by a key.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    n: u32,
    half_bits: u32,
    key: [u32; 4],
}

impl Permutation {
    /// The permutation of 0..n with this key; n at most 2^31.
    pub fn new(n: u32, key: [u32; 4]) -> Self {
        let bits = 32 - n.saturating_sub(1).leading_zeros();
        Permutation { n, half_bits: bits.div_ceil(2), key }
    }

    /// Where `i` < n goes.
    pub fn at(&self, i: u32) -> u32 {
        if self.n < 2 {
            return 0;
        }
        let mut x = self.network(i);
        while x >= self.n {
            x = self.network(x);
        }
        x
    }

    /// Where the numbers of a range go, appended to `out`.
    fn images(&self, range: Range<u32>, out: &mut Vec<u32>) {
        let first = out.len();
        out.extend(range);
        if self.n < 2 {
            return out[first..].fill(0);
        }
        let images = &mut out[first..];
        // those on their way, and their places, in vectors: what is behind them in the last one goes with them, and is not looked at
        let mut x = images.to_vec();
        x.resize(images.len().next_multiple_of(VECTOR), 0);
        let mut places: Vec<usize> = (0..images.len()).collect();
        let mut count = images.len();
        while count > 0 {
            dispatch(Networks { permutation: self, x: &mut x[..count.next_multiple_of(VECTOR)] });
            let mut left = 0;
            for k in 0..count {
                let (place, to) = (places[k], x[k]);
                images[place] = to;
                // without a branch: who goes on is random
                (places[left], x[left]) = (place, to);
                left += usize::from(to >= self.n);
            }
            count = left;
        }
    }

    #[inline]
    fn network(&self, x: u32) -> u32 {
        self.networks([x])[0]
    }

    /// The network of some numbers at once.
    #[inline(always)]
    fn networks<const N: usize>(&self, x: [u32; N]) -> [u32; N] {
        let mask = (1u32 << self.half_bits) - 1;
        let (mut left, mut right) = ([0; N], [0; N]);
        for l in 0..N {
            (left[l], right[l]) = (x[l] >> self.half_bits, x[l] & mask);
        }
        for round in 0..6.max(24 / self.half_bits) {
            let key = self.key[round as usize % 4].wrapping_add(round);
            for l in 0..N {
                (left[l], right[l]) = (right[l], left[l] ^ (mix(right[l] ^ key) >> 8 & mask));
            }
        }
        for l in 0..N {
            left[l] = left[l] << self.half_bits | right[l];
        }
        left
    }
}

/// Numbers `numbers` of a sequence of permutations of 0..n, one after the other, of which number e has the key `key(e)`.
pub fn dealt(n: u32, numbers: Range<u64>, key: impl Fn(u32) -> [u32; 4]) -> Vec<u32> {
    let mut out = Vec::with_capacity((numbers.end - numbers.start) as usize);
    let mut next = numbers.start;
    while next < numbers.end {
        let (epoch, first) = (next / u64::from(n), (next % u64::from(n)) as u32);
        let end = u64::from(n).min(u64::from(first) + (numbers.end - next)) as u32;
        Permutation::new(n, key(epoch as u32)).images(first..end, &mut out);
        next += u64::from(end - first);
    }
    out
}

/// Numbers of the widest vectors.
const VECTOR: usize = 16;

/// Puts the network of each number in its place, of whole vectors.
struct Networks<'a> {
    permutation: &'a Permutation,
    x: &'a mut [u32],
}

impl Kernel for Networks<'_> {
    #[inline(always)]
    fn run(self) {
        for x in self.x.as_chunks_mut::<VECTOR>().0 {
            *x = self.permutation.networks(*x);
        }
    }
}

/// Every bit of the result depends on every bit of the argument.
#[inline(always)]
fn mix(mut x: u32) -> u32 {
    x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
    x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
    x ^ x >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Philox;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_is_hit_once(n in 1u32..3000, key: [u32; 4]) {
            let permutation = Permutation::new(n, key);
            let mut hit = vec![false; n as usize];
            for i in 0..n {
                let to = permutation.at(i) as usize;
                prop_assert!(!std::mem::replace(&mut hit[to], true));
            }
        }

        #[test]
        fn what_is_dealt_is_one_permutation_after_the_other(n in 1u32..300, first in 0u64..1000, count in 0u64..700, key: [u32; 4]) {
            let key = |epoch: u32| key.map(|k| k.wrapping_add(epoch));
            let one = |k: u64| Permutation::new(n, key((k / u64::from(n)) as u32)).at((k % u64::from(n)) as u32);
            let expected: Vec<u32> = (first..first + count).map(one).collect();
            prop_assert_eq!(dealt(n, first..first + count, key), expected);
        }
    }

    /// Over many keys, the pair (image of 0, image of 1) takes each of its n (n - 1) values equally often: chi-square
    /// within five standard deviations of its mean.
    #[test]
    fn pairs_are_uniform() {
        for n in [2u32, 3, 4, 7, 13, 16, 40] {
            let keys = Philox::new(3, 0, n);
            let trials = 20_000;
            let mut counts = vec![0f64; (n * n) as usize];
            for k in 0..trials {
                let permutation = Permutation::new(n, keys.block(k));
                counts[(permutation.at(0) * n + permutation.at(1)) as usize] += 1.0;
            }
            let cells = f64::from(n * (n - 1));
            let expected = trials as f64 / cells;
            let sum: f64 = counts.iter().map(|c| (c - expected).powi(2) / expected).sum();
            let chi_square = sum - f64::from(n) * expected; // the n impossible pairs
            let freedom = cells - 1.0;
            assert!((chi_square - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "n = {n}: {chi_square} of {freedom}");
        }
    }
}

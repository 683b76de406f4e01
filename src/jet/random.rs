//! What `Sample` and `Directions` draw. Every backend repeats this to the bit (Gaussian directions: to rounding).
//!
//! A word is `philox4x32([block, point, step, stream], seed)[word]`: the key is the seed, low half first; `step` is
//! taken modulo 2^32; `point` is the position of the point in the call, 0 for a shared draw; `block` counts within the
//! point. So a draw depends on nothing but its counter, and can be made again where it is needed.
//!
//! - `Sample`: draw i takes the 64-bit number u of words 2i (low half) and 2i + 1 (high half) of the point, and the
//!   position r_i = i + floor(u (len - i) / 2^64). A Fisher-Yates shuffle swaps places i and r_i and keeps place i. What
//!   stands there follows from the earlier positions alone: start with q = r_i; for s = i - 1 down to 0, where r_s = q set
//!   q = s. The column is first + q.
//! - `SampleWeighted`: draw s takes words 2s (low) and 2s + 1 (high) as u, t = Z u / 2^64, and the first element whose running
//!   sum of absolute weights exceeds t (the last one of nonzero weight where rounding leaves none).
//! - `Directions`, signs: element e = s len + j is -1 where bit e mod 32 of word floor(e / 32) is set, else 1.
//! - `Directions`, Gaussian: elements 2i and 2i + 1 come from words (2i, 2i + 1) = (a, b) by Box and Muller:
//!   r = sqrt(-2 log((a + 1) / 2^32)), and r cos(2 pi b / 2^32), r sin(2 pi b / 2^32).

use crate::net::philox::philox4x32;
use std::collections::HashMap;

/// A source of the words of one point.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    point: u32,
    step: u32,
    stream: u32,
    key: [u32; 2],
}

impl Words {
    /// The words of a point in one step of a run.
    pub fn new(seed: u64, step: u64, stream: u32, point: usize) -> Self {
        Words { point: point as u32, step: step as u32, stream, key: [seed as u32, (seed >> 32) as u32] }
    }

    /// The four words of a block.
    fn block(self, block: u32) -> [u32; 4] {
        philox4x32([block, self.point, self.step, self.stream], self.key)
    }

    /// `columns.len()` different columns of `first..first + len`, in random order.
    pub fn sample(self, first: usize, len: usize, columns: &mut [usize]) {
        let k = columns.len();
        let mut words = [0; 4];
        // Above this, the backward scan of the definition gives way to a map with the same answers.
        const SCAN: usize = 64;
        let mut moved: HashMap<usize, usize> = HashMap::new();
        for (i, column) in columns.iter_mut().enumerate() {
            if i % 2 == 0 {
                words = self.block((i / 2) as u32);
            }
            let half = 2 * (i % 2);
            let u = words[half] as u64 | (words[half + 1] as u64) << 32;
            let r = i + ((u as u128 * (len - i) as u128) >> 64) as usize;
            if k <= SCAN {
                *column = r;
            } else {
                let drawn = moved.get(&r).copied().unwrap_or(r);
                let here = moved.get(&i).copied().unwrap_or(i);
                moved.insert(r, here);
                *column = first + drawn;
            }
        }
        if k <= SCAN {
            for i in (0..k).rev() {
                columns[i] = first + (0..i).rev().fold(columns[i], |q, s| if columns[s] == q { s } else { q });
            }
        }
    }

    /// Draws of elements with probabilities in proportion to |weight|: which draw, which element, and Z / (k |weight|).
    /// Where all weights are 0, element 0 and the factor 0.
    pub fn weighted(self, k: usize, weights: &[f64], mut put: impl FnMut(usize, usize, f64)) {
        let mut total = 0.0;
        let sums: Vec<f64> = weights
            .iter()
            .map(|w| {
                total += w.abs();
                total
            })
            .collect();
        let mut words = [0; 4];
        for s in 0..k {
            if s % 2 == 0 {
                words = self.block((s / 2) as u32);
            }
            let half = 2 * (s % 2);
            let u = words[half] as u64 | (words[half + 1] as u64) << 32;
            let t = total * (u as f64 / 18446744073709551616.0);
            let mut e = sums.partition_point(|sum| *sum <= t).min(weights.len().saturating_sub(1));
            while e > 0 && weights[e] == 0.0 {
                e -= 1;
            }
            let weight = weights.get(e).map_or(0.0, |w| w.abs());
            put(s, e, if weight > 0.0 { total / (k as f64 * weight) } else { 0.0 });
        }
    }

    /// Elements of the directions of a point, flat [k, len].
    pub fn directions(self, gaussian: bool, mut put: impl FnMut(usize, f64), elements: usize) {
        let mut e = 0;
        while e < elements {
            if gaussian {
                let w = self.block((e / 4) as u32);
                for (a, b) in [(w[0], w[1]), (w[2], w[3])] {
                    for value in gaussian_pair(a, b) {
                        if e < elements {
                            put(e, value);
                        }
                        e += 1;
                    }
                }
            } else {
                let w = self.block((e / 128) as u32);
                for bit in 0..128.min(elements - e) {
                    put(e + bit, if w[bit / 32] >> (bit % 32) & 1 == 1 { -1.0 } else { 1.0 });
                }
                e += 128;
            }
        }
    }
}

/// Two elements of a Gaussian direction from two words.
pub fn gaussian_pair(a: u32, b: u32) -> [f64; 2] {
    const TURN: f64 = std::f64::consts::TAU / 4294967296.0;
    let radius = (-2.0 * ((a as f64 + 1.0) / 4294967296.0).ln()).sqrt();
    let (sin, cos) = (b as f64 * TURN).sin_cos();
    [radius * cos, radius * sin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn draws_are_different_columns_and_follow_the_swaps(
            seed: u64, step in 0..9u64, first in 0..50usize, len in 1..200usize, share in 0.0..1.0,
        ) {
            let k = (len as f64 * share) as usize;
            let words = Words::new(seed, step, 3, 7);
            let mut columns = vec![0; k];
            words.sample(first, len, &mut columns);
            // The shuffle itself, on the whole list.
            let mut places: Vec<usize> = (first..first + len).collect();
            for i in 0..k {
                let w = philox4x32([i as u32 / 2, 7, step as u32, 3], [seed as u32, (seed >> 32) as u32]);
                let u = w[2 * (i % 2)] as u128 + ((w[2 * (i % 2) + 1] as u128) << 32);
                places.swap(i, i + ((u * (len - i) as u128) >> 64) as usize);
            }
            prop_assert_eq!(&columns, &places[..k]);
            columns.sort();
            columns.dedup();
            prop_assert_eq!(columns.len(), k);
        }
    }

    #[test]
    fn columns_are_equally_likely() {
        let mut counts = [0usize; 10];
        for point in 0..20_000 {
            let mut columns = [0; 3];
            Words::new(1, 0, 0, point).sample(0, 10, &mut columns);
            columns.iter().for_each(|&c| counts[c] += 1);
        }
        // Mean 6000, standard deviation 65.
        assert!(counts.iter().all(|c| c.abs_diff(6000) < 330), "{counts:?}");
    }

    #[test]
    fn directions_have_the_moments_of_their_kind() {
        for (gaussian, fourth) in [(true, 3.0), (false, 1.0)] {
            let mut moments = [0.0; 4];
            let n = 200_001;
            Words::new(5, 1, 2, 0).directions(
                gaussian,
                |_, v| (0..4).for_each(|m| moments[m] += v.powi(m as i32 + 1)),
                n,
            );
            let m = moments.map(|m| m / n as f64);
            assert!(m[0].abs() < 0.01 && (m[1] - 1.0).abs() < 0.02 && m[2].abs() < 0.05, "{m:?}");
            assert!((m[3] - fourth).abs() < 0.15, "{m:?}");
        }
    }
}

//! The factor of a first layer: L with L L^T = W W^T for W [out, len], by Cholesky with pivots on the diagonal, in f64.
//!
//! Where W has lost rank the remaining diagonal is rounding; it stops there, and the columns of L that are left are 0.
//! With the rows at the pivots, L = [L1; L2] and W = L Q where Q = L1^-1 W_pivots has orthonormal rows. The derivative of
//! what depends on W through L L^T alone is (L-bar Q): the q are directions that stay where they are.

/// A factor, and how it was found.
#[derive(Clone, Debug, Default)]
pub struct Factor {
    /// L, [out, rank].
    pub l: Vec<f64>,
    /// Columns of `l`.
    pub rank: usize,
    /// Rows of W in the order of their elimination: as many as the numerical rank.
    pivots: Vec<usize>,
}

impl Factor {
    /// Of a Gram matrix [out, out], with at most `rank` columns.
    pub fn new(gram: &[f64], out: usize, rank: usize) -> Factor {
        // what is left on the diagonal of an exactly singular matrix after `out` eliminations
        let largest = (0..out).map(|i| gram[i * out + i]).fold(0.0, f64::max);
        let tolerance = largest * out as f64 * f64::EPSILON;
        let mut rest: Vec<f64> = (0..out).map(|i| gram[i * out + i]).collect();
        let mut factor = Factor { l: vec![0.0; out * rank], rank, pivots: Vec::new() };
        for c in 0..rank.min(out) {
            let free = (0..out).filter(|i| !factor.pivots.contains(i));
            let Some(pivot) = free.reduce(|a, b| if rest[b] > rest[a] { b } else { a }) else { break };
            if rest[pivot] <= tolerance {
                break;
            }
            let root = rest[pivot].sqrt();
            for i in (0..out).filter(|i| *i == pivot || !factor.pivots.contains(i)) {
                let known: f64 = (0..c).map(|m| factor.l[i * rank + m] * factor.l[pivot * rank + m]).sum();
                let value = if i == pivot { root } else { (gram[i * out + pivot] - known) / root };
                factor.l[i * rank + c] = value;
                rest[i] -= value * value;
            }
            factor.pivots.push(pivot);
        }
        factor
    }

    /// M with (L-bar Q) = M W for L-bar [out, rank]: [out, out], where only columns at pivots are not 0.
    pub fn pull_back(&self, bar: &[f64], out: usize) -> Vec<f64> {
        let (rank, count) = (self.rank, self.pivots.len());
        let mut map = vec![0.0; out * out];
        for o in 0..out {
            // x L1 = bar: L1 is lower triangular
            let mut x = bar[o * rank..][..count].to_vec();
            for c in (0..count).rev() {
                let later: f64 = (c + 1..count).map(|m| x[m] * self.l[self.pivots[m] * rank + c]).sum();
                x[c] = (x[c] - later) / self.l[self.pivots[c] * rank + c];
            }
            self.pivots.iter().zip(x).for_each(|(p, x)| map[o * out + p] = x);
        }
        map
    }
}

/// W W^T of rows that lie at a distance of `stride`, their elements `first..first + len`: [out, out].
pub fn gram(weight: impl Fn(usize, usize) -> f64, out: usize, len: usize) -> Vec<f64> {
    let mut gram = vec![0.0; out * out];
    for i in 0..out {
        for j in 0..=i {
            let sum: f64 = (0..len).map(|k| weight(i, k) * weight(j, k)).sum();
            gram[i * out + j] = sum;
            gram[j * out + i] = sum;
        }
    }
    gram
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn product(a: &[f64], b: &[f64], [n, m, k]: [usize; 3]) -> Vec<f64> {
        (0..n * k).map(|e| (0..m).map(|i| a[e / k * m + i] * b[i * k + e % k]).sum()).collect()
    }

    proptest! {
        #[test]
        fn the_factor_of_a_matrix_of_any_rank(
            [out, true_rank, len] in [1..9usize, 1..9usize, 1..9usize], seed in prop::collection::vec(-1.0..1.0, 200),
        ) {
            let (a, b) = seed.split_at(100);
            let w = product(a, b, [out, true_rank, len]);
            let gram = gram(|i, k| w[i * len + k], out, len);
            let rank = out.min(len);
            let factor = Factor::new(&gram, out, rank);
            prop_assert!(factor.pivots.len() <= rank.min(true_rank));
            let turned: Vec<f64> = (0..rank * out).map(|e| factor.l[e % out * rank + e / out]).collect();
            let back = product(&factor.l, &turned, [out, rank, out]);
            let size = gram.iter().fold(0.0, |m: f64, g| m.max(g.abs()));
            for (x, y) in back.iter().zip(&gram) {
                prop_assert!((x - y).abs() <= 1e-13 * size, "{x} for {y} of {size}");
            }
            // the derivative of tr(H W W^T) = tr(L^T H L) is 2 H W
            let h: Vec<f64> = (0..out * out).map(|e| seed[(e / out).min(e % out)] + seed[(e / out).max(e % out)]).collect();
            let bar: Vec<f64> = product(&h, &factor.l, [out, out, rank]).iter().map(|x| 2.0 * x).collect();
            let gradient = product(&factor.pull_back(&bar, out), &w, [out, out, len]);
            for (x, y) in gradient.iter().zip(product(&h, &w, [out, out, len])) {
                // what is below the square root of the rounding of the Gram matrix is lost
                prop_assert!((x - 2.0 * y).abs() <= 1e-6 * size.sqrt(), "{x} for {}", 2.0 * y);
            }
        }
    }
}

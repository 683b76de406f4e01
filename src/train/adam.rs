//! Adam with bias correction, on flat tensors.
//!
//! m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, w <- w - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon),
//! t = 1 at the first update. Elements are independent: threads do not change a bit.

use crate::net::Element;
use crate::program::Training;
use crate::vector::{Kernel, dispatch};

/// Elements that one thread updates at a time.
pub const CHUNK: usize = 1 << 12;

/// The optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
}

/// First and second moments of every tensor, shaped like them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments<T> {
    /// First moments.
    pub first: Vec<Vec<T>>,
    /// Second moments.
    pub second: Vec<Vec<T>>,
}

impl<T: Element> Moments<T> {
    /// Zeros for tensors of these lengths.
    pub fn zeros(lengths: impl Iterator<Item = usize>) -> Self {
        let zeros = |n: &usize| vec![T::zero(); *n];
        let lengths: Vec<usize> = lengths.collect();
        Moments { first: lengths.iter().map(zeros).collect(), second: lengths.iter().map(zeros).collect() }
    }
}

impl Adam {
    /// The constants of a `train` statement.
    pub fn new(training: &Training) -> Self {
        Adam { beta1: training.beta1, beta2: training.beta2, epsilon: training.epsilon }
    }

    /// What changes from update to update, of number `t` (from 1): rate / (1 - b1^t) and 1 / (1 - b2^t).
    pub fn factors(&self, t: u64, rate: f64) -> [f64; 2] {
        let correction = |beta: f64| 1.0 - libm::pow(beta, t as f64);
        [rate / correction(self.beta1), 1.0 / correction(self.beta2)]
    }

    /// The constants of update number `t` (from 1).
    pub fn at<T: Element>(&self, t: u64, rate: f64) -> Update<T> {
        let ([scale, unbias], of) = (self.factors(t, rate), |x: f64| T::of(x));
        Update {
            scale: of(scale),
            unbias: of(unbias),
            keep: [self.beta1, self.beta2].map(of),
            take: [1.0 - self.beta1, 1.0 - self.beta2].map(of),
            epsilon: of(self.epsilon),
        }
    }
}

/// One update, to be applied to pieces of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Update<T> {
    scale: T,
    unbias: T,
    keep: [T; 2],
    take: [T; 2],
    epsilon: T,
}

impl<T: Element> Update<T> {
    /// Updates a piece on this thread; all slices have one length. False where a number of the gradient is not finite.
    pub fn run(&self, w: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) -> bool {
        let mut finite = true;
        dispatch(Piece { update: *self, w, g, m, v, finite: &mut finite });
        finite
    }
}

struct Piece<'a, T> {
    update: Update<T>,
    w: &'a mut [T],
    g: &'a [T],
    m: &'a mut [T],
    v: &'a mut [T],
    finite: &'a mut bool,
}

impl<T: Element> Kernel for Piece<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Update { scale, unbias, keep, take, epsilon } = self.update;
        let mut wrong = false;
        for (((w, &g), m), v) in self.w.iter_mut().zip(self.g).zip(self.m).zip(self.v) {
            *m = keep[0] * *m + take[0] * g;
            *v = keep[1] * *v + take[1] * g * g;
            *w = *w - scale * *m / ((*v * unbias).sqrt() + epsilon);
            wrong |= !g.is_finite();
        }
        *self.finite = !wrong;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADAM: Adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

    /// Two updates by hand: g = 2 then g = -1, rate 0.1.
    #[test]
    fn hand_computed() {
        let (mut w, mut m, mut v) = ([1.0], [0.0], [0.0]);
        ADAM.at(1, 0.1).run(&mut w, &[2.0], &mut m, &mut v);
        assert!((m[0] - 0.2f64).abs() < 1e-16 && (v[0] - 0.004f64).abs() < 1e-16);
        // The first step is the rate times the sign of the gradient.
        assert!((w[0] - (1.0 - 0.1 * 2.0 / (2.0 + 1e-8))).abs() < 1e-12);
        ADAM.at(2, 0.1).run(&mut w, &[-1.0], &mut m, &mut v);
        // m = 0.9*0.2 - 0.1 = 0.08, v = 0.999*0.004 + 0.001 = 0.004996; m/0.19 = 0.421052..., v/0.001999 = 2.499249...
        assert!((m[0] - 0.08).abs() < 1e-15 && (v[0] - 0.004996).abs() < 1e-15);
        assert!((w[0] - (0.9 - 0.1 * 0.421052631579 / 2.499249624812f64.sqrt())).abs() < 1e-8);
    }

    #[test]
    fn zero_gradients_move_nothing_and_precisions_agree() {
        let (mut w, mut m, mut v) = ([1.0f32], [0.0], [0.0]);
        ADAM.at(1, 0.1).run(&mut w, &[0.0], &mut m, &mut v);
        assert_eq!(w, [1.0]);
        let n = CHUNK + 3;
        let g: Vec<f64> = (0..n).map(|i| (i as f64 * 0.37).sin()).collect();
        let (mut w, mut m, mut v) = (vec![0.5f64; n], vec![0.0; n], vec![0.0; n]);
        let g32: Vec<f32> = g.iter().map(|x| *x as f32).collect();
        let (mut w32, mut m32, mut v32) = (vec![0.5f32; n], vec![0.0f32; n], vec![0.0f32; n]);
        for t in 1..4 {
            ADAM.at(t, 1e-2).run(&mut w, &g, &mut m, &mut v);
            ADAM.at(t, 1e-2).run(&mut w32, &g32, &mut m32, &mut v32);
        }
        assert!(w.iter().zip(&w32).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-5));
        assert!(w[CHUNK + 1] != 0.5, "the last chunk is updated too");
    }
}

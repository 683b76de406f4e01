//! Taylor coefficients of the activations, for many numbers at once.
//!
//! `taylor` gives s_k = sigma^(k)(x) / k! by the recurrence of each function's differential equation: y' = 1 - y^2 for
//! tanh, y' = y - y^2 for the sigmoid, phi' = -x phi for the normal density; an antiderivative shifts and divides, a factor x
//! is one step of Leibniz. Every coefficient beyond the first is a sum of products of coefficients, so the recurrences lose
//! nothing where a function saturates.

use super::math;
use super::real::{Kernel, Real};
use crate::jet::Activation;

/// Numbers that are worked on together: few enough that all rows of an algebra stay in the first cache.
pub const LANES: usize = 64;

/// One number of each of `LANES` computations.
pub type Lane<T> = [T; LANES];

/// s[k] = sigma^(k)(x) / k! for every k < s.len(), which is at least 1.
pub struct Taylor<'a, T> {
    /// sigma
    pub activation: Activation,
    /// Arguments.
    pub x: &'a Lane<T>,
    /// Coefficients.
    pub s: &'a mut [Lane<T>],
}

impl<T: Real> Kernel for Taylor<'_, T> {
    #[inline(always)]
    fn run(self) {
        taylor(self.activation, self.x, self.s);
    }
}

/// `each!(y, l => e)`: y[l] = e for every l. Not a function: its closure might be compiled for another target than its caller.
macro_rules! each {
    ($y:expr, $l:ident => $value:expr) => {{
        let y: &mut Lane<T> = $y;
        for $l in 0..LANES {
            y[$l] = $value;
        }
    }};
}

#[inline(always)]
fn taylor<T: Real>(activation: Activation, x: &Lane<T>, s: &mut [Lane<T>]) {
    match activation {
        Activation::Tanh => {
            each!(&mut s[0], l => math::tanh(x[l]));
            if s.len() > 1 {
                let (first, rest) = s.split_at_mut(1);
                each!(&mut rest[0], l => (T::one() - first[0][l]) * (T::one() + first[0][l]));
            }
            riccati(T::zero(), s);
        }
        Activation::Sigmoid => sigmoid(x, s),
        Activation::Softplus => {
            each!(&mut s[0], l => math::softplus(x[l]));
            if s.len() > 1 {
                sigmoid(x, &mut s[1..]);
                for (k, s) in s.iter_mut().enumerate().skip(2) {
                    scale(s, 1.0 / k as f64);
                }
            }
        }
        Activation::Swish => {
            sigmoid(x, s);
            times_argument(x, s);
        }
        Activation::Gelu => {
            each!(&mut s[0], l => math::normal_cdf(x[l]));
            if s.len() > 1 {
                each!(&mut s[1], l => math::normal_pdf(x[l]));
            }
            for k in 2..s.len() {
                let (low, high) = s.split_at_mut(k);
                let (a, b) = (T::lit(-1.0 / k as f64), T::lit(-((k - 2) as f64) / ((k - 1) * k) as f64));
                each!(&mut high[0], l => a * (x[l] * low[k - 1][l]) + b * low[k - 2][l]);
            }
            times_argument(x, s);
        }
        Activation::Sin => {
            let mut cos = [T::zero(); LANES];
            let sin = &mut s[0];
            math::sin_cos_each(x, |l, a, b| (sin[l], cos[l]) = (a, b));
            let mut factor = 1.0;
            for k in 1..s.len() {
                factor /= k as f64;
                let (low, high) = s.split_at_mut(k);
                let c = T::lit(if k % 4 < 2 { factor } else { -factor });
                let base = if k % 2 == 0 { &low[0] } else { &cos };
                each!(&mut high[0], l => base[l] * c);
            }
        }
        Activation::Exp => {
            each!(&mut s[0], l => math::exp(x[l]));
            for k in 1..s.len() {
                let (low, high) = s.split_at_mut(k);
                let c = T::lit(1.0 / k as f64);
                each!(&mut high[0], l => low[k - 1][l] * c);
            }
        }
        Activation::Identity | Activation::Relu => {
            // Not "x > 0", which would turn a NaN into 0.
            let relu = activation == Activation::Relu;
            each!(&mut s[0], l => if relu && x[l] <= T::zero() { T::zero() } else { x[l] });
            for (k, s) in s.iter_mut().enumerate().skip(1) {
                each!(s, l => if k == 1 && !(relu && x[l] <= T::zero()) { T::one() } else { T::zero() });
            }
        }
    }
}

#[inline(always)]
fn scale<T: Real>(y: &mut Lane<T>, c: f64) {
    let c = T::lit(c);
    for y in y.iter_mut() {
        *y *= c;
    }
}

#[inline(always)]
fn sigmoid<T: Real>(x: &Lane<T>, s: &mut [Lane<T>]) {
    each!(&mut s[0], l => math::sigmoids(x[l]).0);
    if s.len() > 1 {
        each!(&mut s[1], l => {
            let (here, there) = math::sigmoids(x[l]);
            here * there
        });
    }
    riccati(T::one(), s);
}

/// Continues y' = const + b y - y^2 from its first two coefficients: (k + 1) y_(k+1) = b y_k - sum of y_i y_(k-i).
#[inline(always)]
fn riccati<T: Real>(b: T, s: &mut [Lane<T>]) {
    for k in 1..s.len().saturating_sub(1) {
        let (low, high) = s.split_at_mut(k + 1);
        let next = &mut high[0];
        each!(next, l => b * low[k][l]);
        for i in 0..k.div_ceil(2) {
            let (p, q) = (&low[i], &low[k - i]);
            for (l, y) in next.iter_mut().enumerate() {
                *y = *y - (p[l] + p[l]) * q[l];
            }
        }
        if k % 2 == 0 {
            let p = &low[k / 2];
            for (l, y) in next.iter_mut().enumerate() {
                *y = *y - p[l] * p[l];
            }
        }
        scale(next, 1.0 / (k + 1) as f64);
    }
}

/// The series of x f(x) from that of f: x f_k + f_(k-1).
#[inline(always)]
fn times_argument<T: Real>(x: &Lane<T>, s: &mut [Lane<T>]) {
    for k in (1..s.len()).rev() {
        let (low, high) = s.split_at_mut(k);
        let y = &mut high[0];
        for l in 0..LANES {
            y[l] = x[l] * y[l] + low[k - 1][l];
        }
    }
    for l in 0..LANES {
        s[0][l] *= x[l];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The function itself, by `std`.
    fn value(activation: Activation, x: f64) -> f64 {
        match activation {
            Activation::Tanh => x.tanh(),
            Activation::Sin => x.sin(),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Gelu => x * 0.5 * libm::erfc(-x / 2f64.sqrt()),
            Activation::Swish => x / (1.0 + (-x).exp()),
            Activation::Exp => x.exp(),
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
        }
    }

    const ALL: [Activation; 9] = [
        Activation::Tanh,
        Activation::Sin,
        Activation::Sigmoid,
        Activation::Softplus,
        Activation::Gelu,
        Activation::Swish,
        Activation::Exp,
        Activation::Identity,
        Activation::Relu,
    ];

    #[test]
    fn the_series_sums_to_the_function_nearby() {
        for activation in ALL {
            let x: Lane<f64> = std::array::from_fn(|l| (l as f64 - 31.3) * 0.11);
            let mut s = [[0.0; LANES]; 18];
            taylor(activation, &x, &mut s);
            for h in [-0.13, 0.0, 0.11] {
                for l in 0..LANES {
                    if activation == Activation::Relu && (x[l] > 0.0) != (x[l] + h > 0.0) {
                        continue; // across its corner
                    }
                    let sum = s.iter().rev().fold(0.0, |sum, s| sum * h + s[l]);
                    let exact = value(activation, x[l] + h);
                    assert!(
                        (sum - exact).abs() <= 4e-15 * (1.0 + exact.abs()),
                        "{activation:?} {} {h}: {sum} {exact}",
                        x[l]
                    );
                }
            }
        }
    }

    #[test]
    fn single_precision_follows_double() {
        for activation in ALL {
            let x: Lane<f32> = std::array::from_fn(|l| (l as f32 - 31.3) * 0.17);
            let (mut s, mut t) = ([[0.0f32; LANES]; 8], [[0.0f64; LANES]; 8]);
            taylor(activation, &x, &mut s);
            taylor(activation, &x.map(|x| x as f64), &mut t);
            for k in 0..8 {
                let size = t[k].iter().fold(0.0, |m: f64, v| m.max(v.abs()));
                for l in 0..LANES {
                    assert!((s[k][l] as f64 - t[k][l]).abs() <= 1e-6 * size, "{activation:?} {k} {l}");
                }
            }
        }
    }
}

//! Single coefficients of sigma along a curve, and their adjoints.
//!
//! With y = sigma(x) and d = sigma'(x) along x = x_0 + x_1 u + ..., y' = d x' gives k y_k = sum over i of i x_i d_(k-i), and the
//! adjoint of x_i is the sum over m of d_m times that of y_(i+m). So d is all that is needed: from the coefficients of y where
//! sigma' is a function of sigma, else from the Taylor coefficients of sigma' at x_0 by Horner's rule.

use super::activation::{LANES, Lane, Taylor};
use super::math;
use super::real::{Kernel, Real};
use crate::jet::{Activation, MAX_ORDER};

/// The most coefficients.
pub const MOST: usize = MAX_ORDER + 2;

/// A coefficient of sigma(x), or the adjoint of a coefficient of x where there are `bars`.
pub struct Along<'a, T> {
    /// sigma
    pub activation: Activation,
    /// x_0 .. x_k, by points and features; those that sigma' does not need may be empty, or not there.
    pub x: &'a [&'a [T]],
    /// Likewise: the coefficients of y below k, or with `bars` up to k.
    pub y: &'a [&'a [T]],
    /// Adjoints of y_i .. y_(i+k), or none.
    pub bars: &'a [&'a [T]],
    /// Scratch.
    pub lanes: &'a mut Vec<Lane<T>>,
    /// Result.
    pub out: &'a mut [T],
}

impl<T: Real> Kernel for Along<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Along { activation, x, y, bars, lanes, out } = self;
        let count = if bars.is_empty() { y.len() } else { bars.len() };
        let zero = [T::zero(); LANES];
        lanes.resize(2 * MOST + 1, zero);
        let (d, s) = lanes.split_at_mut(MOST);
        let (d, s) = (&mut d[..count], &mut s[..=count]);
        for start in (0..out.len()).step_by(LANES) {
            // the last block may begin in the one before: what is worked out twice is the same
            let start = start.min(out.len().saturating_sub(LANES));
            let Some(to) = out[start..].first_chunk_mut() else { continue };
            // of a known count, all of it stays in registers
            match count {
                // the commonest, without a call for every block
                0 if activation == Activation::Tanh => each_tanh(lane(x, 0, start), to),
                1 if activation.is_autonomous() => known::<T, 1>(activation, [x, y, bars], start, to),
                2 if activation.is_autonomous() => known::<T, 2>(activation, [x, y, bars], start, to),
                3 if activation.is_autonomous() => known::<T, 3>(activation, [x, y, bars], start, to),
                4 if activation.is_autonomous() => known::<T, 4>(activation, [x, y, bars], start, to),
                _ => block(activation, [x, y, bars], start, d, s, to),
            }
        }
        if out.len() < LANES {
            let padded = |from: &&[T]| {
                let mut pad = zero;
                pad.iter_mut().zip(from.iter()).for_each(|(to, from)| *to = *from);
                pad
            };
            let pads = [x, y, bars].map(|values| values.iter().map(padded).collect::<Vec<_>>());
            let pads = pads.each_ref().map(|pads| pads.iter().map(|pad| pad.as_slice()).collect::<Vec<_>>());
            let mut last = zero;
            block(activation, [&pads[0], &pads[1], &pads[2]], 0, d, s, &mut last);
            out.copy_from_slice(&last[..out.len()]);
        }
    }
}

/// Numbers `start..start + LANES`, where sigma' is a function of sigma and C coefficients of it are needed.
#[inline(always)]
fn known<T: Real, const C: usize>(activation: Activation, [x, y, bars]: [&[&[T]]; 3], start: usize, out: &mut Lane<T>) {
    let zero = [T::zero(); LANES];
    let (mut coefficients, mut factors) = ([&zero; C], [&zero; C]);
    let mut weights = [T::one(); C];
    for k in 0..C {
        coefficients[k] = lane(y, k, start);
        if bars.is_empty() {
            weights[k] = T::lit((C - k) as f64 / C as f64);
            factors[k] = lane(x, C - k, start);
        } else {
            factors[k] = lane(bars, k, start);
        }
    }
    // a macro, because closures might be compiled for another target than their caller
    macro_rules! each {
        ($slopes:ident) => {
            for l in 0..LANES {
                let (mut y, mut sum) = ([T::zero(); C], T::zero());
                for k in 0..C {
                    y[k] = coefficients[k][l];
                }
                let d = $slopes(y);
                for k in 0..C {
                    sum = (weights[k] * factors[k][l]).mul_add(d[k], sum);
                }
                out[l] = sum;
            }
        };
    }
    match activation {
        Activation::Tanh => each!(tanh_slopes),
        _ => each!(exp_slopes),
    }
}

/// The coefficients of 1 - y^2.
#[inline(always)]
fn tanh_slopes<T: Real, const C: usize>(y: [T; C]) -> [T; C] {
    let mut d = [T::zero(); C];
    d[0] = (T::one() - y[0]) * (T::one() + y[0]);
    for k in 1..C {
        let mut half = T::zero();
        for i in 0..k.div_ceil(2) {
            half = y[i].mul_add(y[k - i], half);
        }
        d[k] = -(half + half);
        if k.is_multiple_of(2) {
            d[k] = (-y[k / 2]).mul_add(y[k / 2], d[k]);
        }
    }
    d
}

/// Those of y.
#[inline(always)]
fn exp_slopes<T: Real, const C: usize>(y: [T; C]) -> [T; C] {
    y
}

/// Numbers `start..start + LANES`.
#[inline(always)]
fn block<T: Real>(
    activation: Activation,
    [x, y, bars]: [&[&[T]]; 3],
    start: usize,
    d: &mut [Lane<T>],
    s: &mut [Lane<T>],
    out: &mut Lane<T>,
) {
    let count = d.len();
    if count == 0 {
        T::taylor(Taylor { activation, x: lane(x, 0, start), s: std::slice::from_mut(out) });
        return;
    }
    slopes(activation, x, y, start, d, s);
    *out = [T::zero(); LANES];
    if bars.is_empty() {
        for i in 1..=count {
            add_product(out, T::lit(i as f64 / count as f64), lane(x, i, start), &d[count - i]);
        }
    } else {
        for (m, d) in d.iter().enumerate() {
            add_product(out, T::one(), lane(bars, m, start), d);
        }
    }
}

#[inline(always)]
fn lane<'a, T>(values: &[&'a [T]], k: usize, start: usize) -> &'a Lane<T> {
    match values[k][start..].first_chunk() {
        Some(lane) => lane,
        None => unreachable!("blocks are whole"),
    }
}

/// sum += c a b. Loops over lanes have functions of their own: a compiler that knows their arguments to be apart vectorises them.
#[inline(always)]
fn add_product<T: Real>(sum: &mut Lane<T>, c: T, a: &Lane<T>, b: &Lane<T>) {
    for l in 0..LANES {
        sum[l] += c * (a[l] * b[l]);
    }
}

/// to = 1 - y^2
#[inline(always)]
fn one_minus_square<T: Real>(to: &mut Lane<T>, y: &Lane<T>) {
    for l in 0..LANES {
        to[l] = (T::one() - y[l]) * (T::one() + y[l]);
    }
}

/// to = tanh(x)
#[inline(always)]
fn each_tanh<T: Real>(x: &Lane<T>, to: &mut Lane<T>) {
    for l in 0..LANES {
        to[l] = math::tanh(x[l]);
    }
}

/// to = c x
#[inline(always)]
fn scaled<T: Real>(to: &mut Lane<T>, c: T, x: &Lane<T>) {
    for l in 0..LANES {
        to[l] = c * x[l];
    }
}

/// The coefficients of sigma'(x).
#[inline(always)]
fn slopes<T: Real>(activation: Activation, x: &[&[T]], y: &[&[T]], start: usize, d: &mut [Lane<T>], s: &mut [Lane<T>]) {
    match activation {
        // 1 - y^2
        Activation::Tanh => {
            one_minus_square(&mut d[0], lane(y, 0, start));
            for (k, d) in d.iter_mut().enumerate().skip(1) {
                *d = [T::zero(); LANES];
                for i in 0..=k {
                    add_product(d, -T::one(), lane(y, i, start), lane(y, k - i, start));
                }
            }
        }
        Activation::Exp => (0..d.len()).for_each(|k| d[k] = *lane(y, k, start)),
        _ => {
            T::taylor(Taylor { activation, x: lane(x, 0, start), s });
            for m in (0..d.len()).rev() {
                for k in (1..d.len() - m).rev() {
                    let (low, high) = d.split_at_mut(k);
                    high[0] = [T::zero(); LANES];
                    for i in 1..=k {
                        add_product(&mut high[0], T::one(), lane(x, i, start), &low[k - i]);
                    }
                }
                scaled(&mut d[0], T::lit((m + 1) as f64), &s[m + 1]);
            }
        }
    }
}

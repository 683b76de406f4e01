//! Elementary functions without branches or calls, so that a loop over them becomes vector code.
//!
//! Accuracy over the whole range: f64 within 1e-15, f32 within 3e-7, relative (sine and cosine: absolute, and relative away
//! from their zeros). Not a number in, not a number out; infinities as in `std`. Each function is a reduction of the argument
//! and a truncated Taylor series, with as many terms as the precision needs ([`Terms`](super::real::Terms)); tanh in f32 a quotient of
//! polynomials.

use super::real::Real;

/// 1 / k!
const FACTORIALS: [f64; 20] = {
    let mut table = [1.0; 20];
    let mut k = 1;
    let mut factorial = 1.0;
    while k < 20 {
        factorial *= k as f64;
        table[k] = 1.0 / factorial;
        k += 1;
    }
    table
};

/// log(2)^k / k!
const BINARY: [f64; 20] = {
    let mut table = FACTORIALS;
    let mut k = 1;
    let mut power = 1.0;
    while k < 20 {
        power *= std::f64::consts::LN_2;
        table[k] *= power;
        k += 1;
    }
    table
};

/// NaN stays NaN.
#[inline(always)]
fn clamp<T: Real>(x: T, lo: T, hi: T) -> T {
    let y = if x > hi { hi } else { x };
    if y < lo { lo } else { y }
}

/// The nearest whole number of |x| < 2^22 (f32), 2^51 (f64).
#[inline(always)]
fn round<T: Real>(x: T) -> T {
    (x + T::MAGIC) - T::MAGIC
}

/// x = k log 2 + r: (k, r), |r| <= log(2) / 2, k whole.
#[inline(always)]
fn reduce<T: Real>(x: T) -> (T, T) {
    let k = round(x * T::lit(std::f64::consts::LOG2_E));
    // log 2 in two pieces: the first with so few bits that k times it is exact in f32 too.
    let r = x - k * T::lit(0.693359375);
    (k, r - k * T::lit(-2.121_944_400_546_905_8e-4))
}

/// (exp(r) - 1) for a reduced argument.
#[inline(always)]
fn expm1_reduced<T: Real>(r: T) -> T {
    let mut p = T::lit(FACTORIALS[T::TERMS.exp]);
    for k in (2..T::TERMS.exp).rev() {
        p = p.mul_add(r, T::lit(FACTORIALS[k]));
    }
    p.mul_add(r * r, r)
}

/// 2^f - 1, |f| <= 1/2.
#[inline(always)]
fn exp2m1_reduced<T: Real>(f: T) -> T {
    let mut p = T::lit(BINARY[T::TERMS.exp]);
    for k in (1..T::TERMS.exp).rev() {
        p = p.mul_add(f, T::lit(BINARY[k]));
    }
    p * f
}

/// e^x
#[inline(always)]
pub fn exp<T: Real>(x: T) -> T {
    let (k, r) = reduce(clamp(x, T::EXP_MIN, T::EXP_MAX));
    // In two factors: 2^k alone may be beyond the exponents.
    let half = round(k * T::lit(0.5));
    ((expm1_reduced(r) + T::one()) * T::exp2_whole(half)) * T::exp2_whole(k - half)
}

/// e^x - 1 for x <= 0: 2^(k + f) - 1. The error of the factor's last digit grows with |x|, and e^x falls faster.
#[inline(always)]
fn expm1_negative<T: Real>(x: T) -> T {
    // From here on the result is -1.
    let x = if x < T::lit(-60.0) { T::lit(-60.0) } else { x };
    let factor = T::lit(std::f64::consts::LOG2_E);
    let k = x.mul_add(factor, T::MAGIC) - T::MAGIC;
    let f = x.mul_add(factor, -k);
    let scale = T::exp2_whole(k);
    exp2m1_reduced(f).mul_add(scale, scale - T::one())
}

/// atanh(s) by its series.
#[inline(always)]
fn atanh<T: Real>(s: T, terms: usize) -> T {
    let z = s * s;
    let mut p = T::lit(1.0 / (2 * terms - 1) as f64);
    for k in (1..terms - 1).rev() {
        p = p * z + T::lit(1.0 / (2 * k + 1) as f64);
    }
    s + s * (z * p)
}

/// Natural logarithm.
#[inline(always)]
pub fn log<T: Real>(x: T) -> T {
    let lift = T::lit(18014398509481984.0); // 2^54
    let small = x < T::TINY;
    let (m, k) = (if small { x * lift } else { x }).split();
    let k = if small { k - T::lit(54.0) } else { k };
    let f = m - T::one();
    let s = f / (f + T::lit(2.0));
    let y = k * T::lit(0.693359375) + (k * T::lit(-2.121_944_400_546_905_8e-4) + atanh(s, T::TERMS.log) * T::lit(2.0));
    let infinity = T::one() / T::zero();
    let y = if Real::abs(x) < infinity { y } else { x };
    if x > T::zero() {
        y
    } else if x == T::zero() {
        -infinity
    } else {
        // Negative or not a number.
        T::lit(f64::NAN)
    }
}

/// log(1 + e), 0 <= e <= 1.
#[inline(always)]
fn log1p<T: Real>(e: T) -> T {
    atanh(e / (e + T::lit(2.0)), T::TERMS.log1p) * T::lit(2.0)
}

/// Sine and cosine where |x| <= `T::TURNS`.
#[inline(always)]
fn sin_cos_reduced<T: Real>(x: T) -> (T, T) {
    let turns = x * T::lit(std::f64::consts::FRAC_2_PI) + T::MAGIC;
    let r = x.less_quarter_turns(turns - T::MAGIC);
    let z = r * r;
    let terms = T::TERMS.sin;
    let sign = |k: usize| if k.is_multiple_of(2) { 1.0 } else { -1.0 };
    let mut s = T::lit(sign(terms - 1) * FACTORIALS[2 * terms - 1]);
    let mut c = T::lit(sign(terms) * FACTORIALS[2 * terms]);
    for k in (1..terms - 1).rev() {
        s = s.mul_add(z, T::lit(sign(k) * FACTORIALS[2 * k + 1]));
    }
    for k in (2..terms).rev() {
        c = c.mul_add(z, T::lit(sign(k) * FACTORIALS[2 * k]));
    }
    let s = r + r * (z * s);
    let c = T::one() - (z * T::lit(0.5) - z * z * c);
    let q = T::quadrant(turns);
    let (a, b) = if q & 1 == 0 { (s, c) } else { (c, s) };
    (if q & 2 == 0 { a } else { -a }, if (q + 1) & 2 == 0 { b } else { -b })
}

/// sin and cos of each number; those far out one by one.
#[inline(always)]
pub fn sin_cos_each<T: Real>(x: &[T], mut put: impl FnMut(usize, T, T)) {
    for (i, &x) in x.iter().enumerate() {
        let (s, c) = sin_cos_reduced(x);
        put(i, s, c);
    }
    let mut far = false;
    for x in x {
        far |= x.abs() > T::TURNS;
    }
    if far {
        for (i, &x) in x.iter().enumerate() {
            if x.abs() > T::TURNS {
                let (s, c) = x.to_f64().sin_cos();
                put(i, T::lit(s), T::lit(c));
            }
        }
    }
}

/// -1, 0 or 1; NaN of NaN.
#[inline(always)]
pub fn sign<T: Real>(x: T) -> T {
    if x > T::zero() {
        T::one()
    } else if x < T::zero() {
        -T::one()
    } else {
        x + T::zero()
    }
}

/// x P(x^2) / Q(x^2), from the constant terms on, is tanh(x) to 3e-8, relative and but for rounding, where |x| <= [`END`]; found by linear programs that minimise
/// the largest |P - tanh(x)/x Q| / Q, each with the Q of the one before. All are positive, so that nothing cancels.
const TANH: [[f64; 5]; 2] = [
    [1.0, 0.13397488827258053, 0.003515338843852975, 2.0946075254414637e-5, 1.3853405541090015e-8],
    [1.0, 0.4673081220803576, 0.02595156329838402, 3.318397074737748e-4, 7.97342358942111e-7],
];
/// From here on tanh is taken for 1, in f32: it is to 1e-7.
const END: f64 = 8.4;

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<T: Real>(x: T) -> T {
    if T::EPSILON > 1e-10 {
        let (size, sign, end) = (x.abs(), x, T::lit(END));
        let x = if size > end { end } else { size };
        let z = x * x;
        let [mut p, mut q] = [T::lit(TANH[0][4]), T::lit(TANH[1][4])];
        for k in (0..4).rev() {
            (p, q) = (p.mul_add(z, T::lit(TANH[0][k])), q.mul_add(z, T::lit(TANH[1][k])));
        }
        let y = (x * p) / q;
        let y = if size >= end || y > T::one() { T::one() } else { y };
        return y.flip_sign(sign);
    }
    let e = expm1_negative(x.abs() * T::lit(-2.0));
    (e / (T::lit(-2.0) - e)).flip_sign(x)
}

/// Half of e^|x|, and half of e^-|x|: the first without overflow where it can be.
#[inline(always)]
fn halves<T: Real>(x: T) -> (T, T) {
    let half = exp(x.abs() * T::lit(0.5));
    ((half * T::lit(0.5)) * half, T::lit(0.5) / half / half)
}

/// Hyperbolic sine.
#[inline(always)]
pub fn sinh<T: Real>(x: T) -> T {
    let (grown, shrunk) = halves(x);
    // Near 0, where the difference cancels: -(e + e / (1 + e)) / 2 with e = exp(-|x|) - 1.
    let e = expm1_negative(-x.abs());
    let near = (e + e / (e + T::one())) * T::lit(-0.5);
    (if x.abs() < T::one() { near } else { grown - shrunk }).flip_sign(x)
}

/// Hyperbolic cosine.
#[inline(always)]
pub fn cosh<T: Real>(x: T) -> T {
    let (grown, shrunk) = halves(x);
    grown + shrunk
}

/// 1 / (1 + e^-x), and its value at -x: the two never cancel.
#[inline(always)]
pub fn sigmoids<T: Real>(x: T) -> (T, T) {
    let e = exp(-x.abs());
    let large = T::one() / (e + T::one());
    let small = e * large;
    if x < T::zero() { (small, large) } else { (large, small) }
}

/// log(1 + e^x)
#[inline(always)]
pub fn softplus<T: Real>(x: T) -> T {
    let base = if x < T::zero() { T::zero() } else { x };
    base + log1p(exp(-x.abs()))
}

/// Error function (a call: not vectorised).
#[inline(always)]
pub fn erf<T: Real>(x: T) -> T {
    T::lit(libm::erf(x.to_f64()))
}

/// Distribution function of the normal distribution (a call: not vectorised).
#[inline(always)]
pub fn normal_cdf<T: Real>(x: T) -> T {
    T::lit(0.5 * libm::erfc(x.to_f64() * -std::f64::consts::FRAC_1_SQRT_2))
}

/// Density of the normal distribution.
#[inline(always)]
pub fn normal_pdf<T: Real>(x: T) -> T {
    exp(x * x * T::lit(-0.5)) * T::lit(0.398_942_280_401_432_7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sin<T: Real>(x: T) -> T {
        let mut y = x;
        sin_cos_each(&[x], |_, s, _| y = s);
        y
    }
    fn cos<T: Real>(x: T) -> T {
        let mut y = x;
        sin_cos_each(&[x], |_, _, c| y = c);
        y
    }

    /// A dense grid, every exponent, and the ends of the line.
    fn grid<T: Real>() -> Vec<T> {
        let mut grid: Vec<f64> = (-40_000..=40_000).map(|i| i as f64 * 0.0005).collect();
        for e in -1070..1024 {
            for m in [1.0, 1.3, 1.9999] {
                grid.extend([
                    m * 2f64.powi(e / 2) * 2f64.powi(e - e / 2),
                    -m * 2f64.powi(e / 2) * 2f64.powi(e - e / 2),
                ]);
            }
        }
        grid.extend((-8000..8000).map(|i| i as f64 * 0.1));
        grid.extend([
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::MAX,
            709.78,
            710.2,
            710.48,
            88.7,
            89.1,
        ]);
        grid.into_iter().map(T::lit).collect()
    }

    fn compare<T: Real>(name: &str, tolerance: f64, absolute: f64, ours: fn(T) -> T, truth: fn(f64) -> f64) {
        let mut worst = (0.0, 0.0, 0.0, 0.0);
        for x in grid::<T>() {
            let (y, exact) = (ours(x).to_f64(), truth(x.to_f64()));
            let rounded = T::lit(exact).to_f64();
            if rounded.is_nan() || rounded.is_infinite() || y.is_infinite() {
                // Overflow within the tolerance of the largest number is no error.
                let near =
                    exact.abs() > T::lit(f64::MAX).to_f64().min(if tolerance > 1e-10 { 3.4028e38 } else { 1.797e308 });
                assert!(
                    y.is_nan() == rounded.is_nan() && (y == rounded || y.is_nan() || near),
                    "{name}({x:?}) = {y}, not {exact}"
                );
                continue;
            }
            let slack = absolute + 2.0 * if tolerance > 1e-10 { 1.5e-45 } else { 5e-324 };
            let error = ((y - rounded).abs() - slack).max(0.0) / exact.abs().max(1e-320);
            if error > worst.0 {
                worst = (error, x.to_f64(), y, exact);
            }
        }
        assert!(worst.0 <= tolerance, "{name}: relative error {} at {}: {} for {}", worst.0, worst.1, worst.2, worst.3);
    }

    fn all<T: Real>(tolerance: f64) {
        let fine = tolerance * 0.2;
        compare::<T>("exp", tolerance, 0.0, exp, f64::exp);
        compare::<T>("log", tolerance, 0.0, log, f64::ln);
        compare::<T>("sin", tolerance, fine, sin, f64::sin);
        compare::<T>("cos", tolerance, fine, cos, f64::cos);
        compare::<T>("tanh", tolerance, 0.0, tanh, f64::tanh);
        compare::<T>("sinh", tolerance, 0.0, sinh, f64::sinh);
        compare::<T>("cosh", tolerance, 0.0, cosh, f64::cosh);
        compare::<T>(
            "sigmoid",
            tolerance,
            0.0,
            |x| sigmoids(x).0,
            |x| {
                if x < -700.0 { x.exp() } else { 1.0 / (1.0 + (-x).exp()) }
            },
        );
        compare::<T>("softplus", tolerance, 0.0, softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p());
        compare::<T>("erf", tolerance, 0.0, erf, libm::erf);
    }

    #[test]
    fn f64_functions_agree_with_std() {
        all::<f64>(1e-15);
    }

    #[test]
    fn f32_functions_agree_with_std() {
        all::<f32>(3e-7);
    }

    #[test]
    fn small_arguments_keep_their_digits() {
        for e in 1..300 {
            let x = 10f64.powi(-e) * 1.37;
            assert!((tanh(x) / x.tanh() - 1.0).abs() < 5e-16, "{x}");
            assert!((sinh(x) / x.sinh() - 1.0).abs() < 5e-16, "{x}");
        }
        assert_eq!(tanh(-0.0f64), 0.0);
        for x in [8.4f32, 9.5, 20.0, f32::MAX, f32::INFINITY] {
            assert_eq!([tanh(x), tanh(-x)], [1.0, -1.0]);
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}

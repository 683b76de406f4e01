//! The two precisions, and the kernels that are compiled for each.

use super::activation::Taylor;
use super::directions::Fill;
use super::gemm::Gemm;
use super::pointwise::Scalar;
use super::product::{AddColumns, AddPair, AddRows, AddToEach, SumParts};
use super::strips::Block;
use super::table::Apply;
use super::term::Along;
use super::turned::Same;
pub use crate::vector::Kernel;
use crate::vector::dispatch;
use ndarray::LinalgScalar;
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{AddAssign, MulAssign, Neg};

/// f32 or f64: arithmetic, and the pieces of a binary representation that `math` builds its functions from.
pub trait Real:
    LinalgScalar + Kernels + AddAssign + MulAssign + Neg<Output = Self> + PartialOrd + Default + Debug + Send + Sync + Sum
{
    /// 1.5 * 2^(mantissa bits): adding it rounds to a whole number, whose two's complement ends the bits of the sum.
    const MAGIC: Self;
    /// Terms of the series for exp, log (arguments up to sqrt 2), log1p (up to 1), sin and cos.
    const TERMS: Terms;
    /// Above this, exp is infinite; below minus this (and some), it is 0.
    const EXP_MAX: Self;
    /// Below this, exp is 0.
    const EXP_MIN: Self;
    /// The smallest normal number.
    const TINY: Self;
    /// Twice the relative error of a rounding.
    const EPSILON: f64;
    /// Where the argument reduction of sin and cos ends.
    const TURNS: Self;

    /// The nearest number.
    fn lit(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// Nearest whole number.
    fn to_i64(self) -> i64;
    /// |x|
    fn abs(self) -> Self;
    /// self, or -self where the other number has a minus.
    fn flip_sign(self, other: Self) -> Self;
    /// Whether it has other bits.
    fn is_other(self, than: Self) -> bool;
    /// Square root.
    fn sqrt(self) -> Self;
    /// self * a + b, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// 2^k of a whole number k within the exponents of normal numbers.
    fn exp2_whole(k: Self) -> Self;
    /// x = m 2^k with m in [sqrt(1/2), sqrt(2)), of a normal positive x.
    fn split(self) -> (Self, Self);
    /// The two last bits of the whole number in x + MAGIC.
    fn quadrant(magic_sum: Self) -> u32;
    /// x minus k quarter turns, for |x| <= TURNS.
    fn less_quarter_turns(self, k: Self) -> Self;
    /// Two elements of a Gaussian direction from two random words (see `jet::random`).
    fn gaussian_pair(a: u32, b: u32) -> [Self; 2];
    /// -1 where the bit is set, else 1.
    fn sign_of(bit: u32) -> Self;
}

/// Lengths of the series in `math`.
pub struct Terms {
    /// exp(r), |r| <= log(2) / 2
    pub exp: usize,
    /// atanh(s) / s in s^2, |s| <= 0.172
    pub log: usize,
    /// atanh(s) / s in s^2, |s| <= 1/3
    pub log1p: usize,
    /// sin(r) / r and cos(r) in r^2, |r| <= pi / 4
    pub sin: usize,
}

impl Real for f64 {
    const MAGIC: f64 = 6755399441055744.0;
    const TERMS: Terms = Terms { exp: 13, log: 12, log1p: 18, sin: 9 };
    const EXP_MAX: f64 = 710.0;
    const EXP_MIN: f64 = -746.0;
    const TINY: f64 = f64::MIN_POSITIVE;
    const EPSILON: f64 = f64::EPSILON;
    const TURNS: f64 = 1e6;

    #[inline(always)]
    fn lit(x: f64) -> f64 {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self.round_ties_even() as i64
    }
    #[inline(always)]
    fn abs(self) -> f64 {
        f64::from_bits(self.to_bits() & !(1 << 63))
    }
    #[inline(always)]
    fn flip_sign(self, other: f64) -> f64 {
        f64::from_bits(self.to_bits() ^ other.to_bits() & 1 << 63)
    }
    #[inline(always)]
    fn is_other(self, than: f64) -> bool {
        self.to_bits() != than.to_bits()
    }
    #[inline(always)]
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f64, b: f64) -> f64 {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn exp2_whole(k: f64) -> f64 {
        f64::from_bits((k + (Self::MAGIC + 1023.0)).to_bits() << 52)
    }
    #[inline(always)]
    fn split(self) -> (f64, f64) {
        // Mantissas above sqrt(2) carry into the exponent; the exponent is read as the end of 2^52 + k.
        let bits = self.to_bits() + (0x3ff0_0000_0000_0000 - std::f64::consts::FRAC_1_SQRT_2.to_bits());
        let k = f64::from_bits(0x4330_0000_0000_0000 | (bits >> 52)) - (4503599627370496.0 + 1023.0);
        let m = (bits & 0x000f_ffff_ffff_ffff) + std::f64::consts::FRAC_1_SQRT_2.to_bits();
        (f64::from_bits(m), k)
    }
    #[inline(always)]
    fn quadrant(magic_sum: f64) -> u32 {
        magic_sum.to_bits() as u32 & 3
    }
    #[inline(always)]
    fn less_quarter_turns(self, k: f64) -> f64 {
        // pi/2 in pieces, the first two of 33 bits, so that their products with k < 2^20 are exact.
        const A: f64 = f64::from_bits(0x3ff9_21fb_5440_0000);
        const B: f64 = f64::from_bits(0x3dd0_b461_1a60_0000);
        const C: f64 = f64::from_bits(0x3ba3_198a_2e03_7073);
        ((self - k * A) - k * B) - k * C
    }
    #[inline(always)]
    fn gaussian_pair(a: u32, b: u32) -> [f64; 2] {
        crate::jet::random::gaussian_pair(a, b)
    }
    #[inline(always)]
    fn sign_of(bit: u32) -> f64 {
        f64::from_bits(1f64.to_bits() | u64::from(bit) << 63)
    }
}

impl Real for f32 {
    const MAGIC: f32 = 12582912.0;
    const TERMS: Terms = Terms { exp: 7, log: 6, log1p: 9, sin: 6 };
    const EXP_MAX: f32 = 89.0;
    const EXP_MIN: f32 = -104.0;
    const TINY: f32 = f32::MIN_POSITIVE;
    const EPSILON: f64 = f32::EPSILON as f64;
    const TURNS: f32 = 1e6;

    #[inline(always)]
    fn lit(x: f64) -> f32 {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn to_i64(self) -> i64 {
        self.round_ties_even() as i64
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::from_bits(self.to_bits() & !(1 << 31))
    }
    #[inline(always)]
    fn flip_sign(self, other: f32) -> f32 {
        f32::from_bits(self.to_bits() ^ other.to_bits() & 1 << 31)
    }
    #[inline(always)]
    fn is_other(self, than: f32) -> bool {
        self.to_bits() != than.to_bits()
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn mul_add(self, a: f32, b: f32) -> f32 {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn exp2_whole(k: f32) -> f32 {
        f32::from_bits((k + (Self::MAGIC + 127.0)).to_bits() << 23)
    }
    #[inline(always)]
    fn split(self) -> (f32, f32) {
        let bits = self.to_bits() + (0x3f80_0000 - std::f32::consts::FRAC_1_SQRT_2.to_bits());
        let k = f32::from_bits(0x4b00_0000 | (bits >> 23)) - (8388608.0 + 127.0);
        let m = (bits & 0x007f_ffff) + std::f32::consts::FRAC_1_SQRT_2.to_bits();
        (f32::from_bits(m), k)
    }
    #[inline(always)]
    fn quadrant(magic_sum: f32) -> u32 {
        magic_sum.to_bits() & 3
    }
    #[inline(always)]
    fn less_quarter_turns(self, k: f32) -> f32 {
        // pi/2 in three numbers of this precision; each product is exact before it is rounded with the difference.
        const A: f32 = std::f32::consts::FRAC_PI_2;
        const B: f32 = (std::f64::consts::FRAC_PI_2 - A as f64) as f32;
        const C: f32 = (std::f64::consts::FRAC_PI_2 - A as f64 - B as f64) as f32;
        f32::mul_add(-k, C, f32::mul_add(-k, B, f32::mul_add(-k, A, self)))
    }
    #[inline(always)]
    fn gaussian_pair(a: u32, b: u32) -> [f32; 2] {
        // half a unit of the last place of the words aside, which single precision does not see
        <f32 as crate::net::Element>::normal_pair(a, b)
    }
    #[inline(always)]
    fn sign_of(bit: u32) -> f32 {
        f32::from_bits(1f32.to_bits() | bit << 31)
    }
}

macro_rules! kernels {
    ($($method:ident $kernel:ident)*) => {
        /// Every kernel, compiled once for each precision: crates that use this one do not compile them again.
        pub trait Kernels: Gemm {
            $(fn $method(kernel: $kernel<Self>);)*
        }
        kernels!(f32 $($method $kernel)*);
        kernels!(f64 $($method $kernel)*);
    };
    ($float:ident $($method:ident $kernel:ident)*) => {
        impl Kernels for $float {
            $(
                fn $method(kernel: $kernel<Self>) {
                    dispatch(kernel);
                }
            )*
        }
    };
}
kernels!(taylor Taylor apply Apply scalar Scalar add_pair AddPair add_to_each AddToEach add_columns AddColumns columns Block fill Fill add_rows AddRows sum_parts SumParts along Along same Same);

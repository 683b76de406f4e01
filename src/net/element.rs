//! The two precisions in which numbers are stored.

use super::block::normal_pair_f32;
use super::philox::normal_pair;
use num_traits::Float;
use safetensors::Dtype;
use std::iter::Sum;

/// `f32` or `f64`: what tensors and points are made of.
pub trait Element: Float + Sum + Default + Send + Sync + std::fmt::Debug + 'static {
    /// Name of the precision: `f32` or `f64`.
    const NAME: &'static str;
    /// Type tag in a safetensors file.
    const DTYPE: Dtype;
    /// Nearest number of this precision.
    fn of(x: f64) -> Self;
    /// The same number in f64.
    fn f64(self) -> f64;
    /// The next number above.
    fn next_up(self) -> Self;
    /// The next number below.
    fn next_down(self) -> Self;
    /// The two standard normal numbers of two random words (Box and Muller), see [`super::philox`].
    fn normal_pair(a: u32, b: u32) -> [Self; 2];
    /// Appends the little-endian bytes.
    fn push_bytes(self, bytes: &mut Vec<u8>);

    /// `x` rounded, but strictly inside (lo, hi): rounding must not put an interior point on the boundary.
    fn inside(x: f64, lo: f64, hi: f64) -> Self {
        let rounded = Self::of(x);
        if rounded.f64() <= lo {
            let mut y = Self::of(lo);
            while y.f64() <= lo {
                y = y.next_up();
            }
            y
        } else if rounded.f64() >= hi {
            let mut y = Self::of(hi);
            while y.f64() >= hi {
                y = y.next_down();
            }
            y
        } else {
            rounded
        }
    }
}

macro_rules! element {
    ($($float:ident $dtype:ident $pair:path)*) => {$(
        impl Element for $float {
            const NAME: &'static str = stringify!($float);
            const DTYPE: Dtype = Dtype::$dtype;
            #[inline(always)]
            fn of(x: f64) -> Self { x as $float }
            #[inline(always)]
            #[allow(clippy::useless_conversion)]
            fn f64(self) -> f64 { f64::from(self) }
            #[inline(always)]
            fn normal_pair(a: u32, b: u32) -> [Self; 2] { $pair(a, b) }
            fn next_up(self) -> Self { $float::next_up(self) }
            fn next_down(self) -> Self { $float::next_down(self) }
            fn push_bytes(self, bytes: &mut Vec<u8>) { bytes.extend_from_slice(&self.to_le_bytes()) }
        }
    )*};
}
element!(f32 F32 normal_pair_f32 f64 F64 normal_pair);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interior_points_stay_inside() {
        let below_one = 1.0 - 2f64.powi(-34);
        assert_eq!(f32::of(below_one), 1.0);
        assert!(f32::inside(below_one, 0.0, 1.0) < 1.0);
        assert!(f32::inside(2f64.powi(-40) + 0.1, 0.1, 1.0).f64() > 0.1);
        assert_eq!(f32::inside(0.25, 0.0, 1.0), 0.25);
        assert_eq!(f64::inside(below_one, 0.0, 1.0), below_one);
    }
}

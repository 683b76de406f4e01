//! Matrix products with AVX-512 or AVX2, for the matrices of a tile: a few hundred rows, tens to hundreds of columns.
//!
//! c = a b or c += a b, where a has any strides (so that it may be a transpose) and the rows of b and c are contiguous.
//! All of it lies in the second cache, so nothing is packed: a block of `ROWS` rows and two vectors of columns of c is held in
//! registers, and for each k one number of each row of a is broadcast against two vectors of row k of b. Columns that do
//! not fill two vectors go through a padded copy.
//!
//! Every element of c is one sum over k, in order, in pieces of [`DEPTH`]: how rows are blocked changes no bit.

use ndarray::{ArrayView2, ArrayViewMut2};

/// Summands that are taken in one go: panels of a and b of this depth stay in the first cache.
const DEPTH: usize = 256;
/// Rows of a that are gone through for each panel of b.
const BLOCK: usize = 64;
/// Rows of c in registers.
const ROWS: usize = 8;

/// Up to `ROWS` rows of a by `width` columns of b, into c.
struct Panel<T> {
    depth: usize,
    /// First element; distance between rows; distance between columns.
    a: (*const T, isize, isize),
    /// First element; distance between rows.
    b: (*const T, isize),
    c: (*mut T, isize),
    /// Adds to c.
    add: bool,
}

/// A type with a kernel on this processor.
pub trait Gemm: Sized {
    /// c = a b, or c += a b where `add`. False where the processor or the layout is not served; c is as before then.
    fn gemm(a: &ArrayView2<Self>, b: &ArrayView2<Self>, add: bool, c: &mut ArrayViewMut2<Self>) -> bool;
}

/// Rows of c that are left by blocks of `ROWS` are done in pieces of these lengths.
macro_rules! rows {
    ($micro:ident, $left:expr, $panel:expr) => {
        match $left {
            ROWS.. => ($micro::<8>($panel), 8).1,
            4.. => ($micro::<4>($panel), 4).1,
            2.. => ($micro::<2>($panel), 2).1,
            _ => ($micro::<1>($panel), 1).1,
        }
    };
}

/// A kernel with a vector of `$lanes` numbers.
macro_rules! kernel {
    ($name:ident $float:ident $lanes:literal $features:literal $zero:ident $load:ident $store:ident $splat:ident $fma:ident $sum:ident) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;
            use std::arch::x86_64::*;

            /// Two vectors.
            pub const WIDTH: usize = 2 * $lanes;

            /// `R` rows by `WIDTH` columns.
            ///
            /// # Safety
            /// The panel's matrices have R rows (a, c), `depth` columns of a and rows of b, and `WIDTH` columns (b, c).
            #[target_feature(enable = $features)]
            unsafe fn micro<const R: usize>(p: &Panel<$float>) {
                // Sound: every address is inside the matrices that the caller vouches for.
                unsafe {
                    let mut sums = [[$zero(); 2]; R];
                    let (mut a, mut b) = (p.a.0, p.b.0);
                    for _ in 0..p.depth {
                        let (b0, b1) = ($load(b), $load(b.add($lanes)));
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let x = $splat(*a.offset(r as isize * p.a.1));
                            *sum = [$fma(x, b0, sum[0]), $fma(x, b1, sum[1])];
                        }
                        (a, b) = (a.wrapping_offset(p.a.2), b.wrapping_offset(p.b.1));
                    }
                    for (r, sum) in sums.iter().enumerate() {
                        let c = p.c.0.offset(r as isize * p.c.1);
                        for (c, sum) in [(c, sum[0]), (c.add($lanes), sum[1])] {
                            $store(c, if p.add { $sum($load(c), sum) } else { sum });
                        }
                    }
                }
            }

            /// `rows` rows by `WIDTH` columns.
            ///
            /// # Safety
            /// As for `micro`, with `rows` for R.
            #[target_feature(enable = $features)]
            pub unsafe fn panel(rows: usize, mut p: Panel<$float>) {
                let mut left = rows;
                while left > 0 {
                    // Sound: the piece is at most as long as what is left.
                    unsafe {
                        let done = rows!(micro, left, &p);
                        p.a.0 = p.a.0.wrapping_offset(done as isize * p.a.1);
                        p.c.0 = p.c.0.wrapping_offset(done as isize * p.c.1);
                        left -= done;
                    }
                }
            }
        }
    };
}
kernel!(wide_f32 f32 16 "avx512f" _mm512_setzero_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps _mm512_fmadd_ps _mm512_add_ps);
kernel!(wide_f64 f64 8 "avx512f" _mm512_setzero_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_set1_pd _mm512_fmadd_pd _mm512_add_pd);
kernel!(narrow_f32 f32 8 "avx2,fma" _mm256_setzero_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps _mm256_fmadd_ps _mm256_add_ps);
kernel!(narrow_f64 f64 4 "avx2,fma" _mm256_setzero_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_set1_pd _mm256_fmadd_pd _mm256_add_pd);

macro_rules! gemm {
    ($float:ident $wide:ident $narrow:ident) => {
        impl Gemm for $float {
            #[cfg(target_arch = "x86_64")]
            fn gemm(a: &ArrayView2<Self>, b: &ArrayView2<Self>, add: bool, c: &mut ArrayViewMut2<Self>) -> bool {
                // Sound: the features are there, and `blocks` keeps what a panel asks for.
                if is_x86_feature_detected!("avx512f") {
                    blocks(a, b, add, c, $wide::WIDTH, |rows, p| unsafe { $wide::panel(rows, p) })
                } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    blocks(a, b, add, c, $narrow::WIDTH, |rows, p| unsafe { $narrow::panel(rows, p) })
                } else {
                    false
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            fn gemm(_: &ArrayView2<Self>, _: &ArrayView2<Self>, _: bool, _: &mut ArrayViewMut2<Self>) -> bool {
                false
            }
        }
    };
}
gemm!(f32 wide_f32 narrow_f32);
gemm!(f64 wide_f64 narrow_f64);

/// Cuts a product into panels of `width` columns; `panel` gets matrices of the size that it is told.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn blocks<T: Copy + Default + std::ops::Add<Output = T>>(
    a: &ArrayView2<T>,
    b: &ArrayView2<T>,
    add: bool,
    c: &mut ArrayViewMut2<T>,
    width: usize,
    panel: impl Fn(usize, Panel<T>),
) -> bool {
    let ((m, depth), n) = (a.dim(), b.ncols());
    if b.strides()[1] != 1 || c.strides()[1] != 1 || b.nrows() != depth || c.dim() != (m, n) || depth == 0 {
        return false;
    }
    let (a_row, a_k) = (a.strides()[0], a.strides()[1]);
    let (b_row, c_row) = (b.strides()[0], c.strides()[0]);
    let whole = n / width * width;
    // columns that do not fill two vectors
    let (mut padded, mut result) = (Vec::new(), Vec::new());
    if whole < n {
        padded.resize(DEPTH.min(depth) * width, T::default());
        result.resize(BLOCK.min(m) * width, T::default());
    }
    for first in (0..depth).step_by(DEPTH) {
        let depth = DEPTH.min(depth - first);
        let add = add || first > 0;
        if whole < n {
            for (k, to) in padded.chunks_exact_mut(width).take(depth).enumerate() {
                (whole..n).for_each(|j| to[j - whole] = b[[first + k, j]]);
            }
        }
        for i in (0..m).step_by(BLOCK) {
            let rows = BLOCK.min(m - i);
            let a = (a.as_ptr().wrapping_offset(i as isize * a_row + first as isize * a_k), a_row, a_k);
            for j in (0..whole).step_by(width) {
                let b = b.as_ptr().wrapping_offset(first as isize * b_row + j as isize);
                let c = c.as_mut_ptr().wrapping_offset(i as isize * c_row + j as isize);
                panel(rows, Panel { depth, a, b: (b, b_row), c: (c, c_row), add });
            }
            if whole < n {
                let (b, c_row) = ((padded.as_ptr(), width as isize), width as isize);
                panel(rows, Panel { depth, a, b, c: (result.as_mut_ptr(), c_row), add: false });
                for (r, from) in result.chunks_exact(width).take(rows).enumerate() {
                    for j in whole..n {
                        let (c, x) = (&mut c[[i + r, j]], from[j - whole]);
                        *c = if add { *c + x } else { x };
                    }
                }
            }
        }
    }
    true
}

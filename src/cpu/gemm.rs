//! Matrix products with AVX-512 or AVX2, for the matrices of a tile: a few hundred rows, up to hundreds of columns.
//!
//! c = alpha a b or c += alpha a b, where a has any strides (so that it may be a transpose) and the rows of b and c are
//! contiguous, or those of a copy of b. All of it lies in the second cache, so nothing is packed: a block of a few rows and one or two vectors of
//! columns of c is held in registers, and for each k one number of each row of a is broadcast against row k of b. Columns that
//! do not fill a vector are masked.
//!
//! Every element of c is one sum over k, in order, in pieces of [`DEPTH`]: how rows are blocked changes no bit.

use ndarray::{ArrayView2, ArrayViewMut2};

/// Summands that are taken in one go: panels of a and b of this depth stay in the first cache.
const DEPTH: usize = 256;
/// Rows of a that are gone through for each panel of b.
const BLOCK: usize = 64;
/// Numbers of a matrix b that is copied where its rows are not contiguous.
const COPIED: usize = 1 << 16;

/// Some rows of a by one or two vectors of columns of b, into c.
struct Panel<T> {
    depth: usize,
    /// First element; distance between rows; distance between columns.
    a: (*const T, isize, isize),
    /// First element; distance between rows.
    b: (*const T, isize),
    c: (*mut T, isize),
    alpha: T,
    /// Adds to c.
    add: bool,
}

/// A type with a kernel on this processor.
pub trait Gemm: Sized {
    /// c = alpha a b, or c += alpha a b where `add`. False where the processor or the layout is not served; c is as before then.
    fn gemm(alpha: Self, a: &ArrayView2<Self>, b: &ArrayView2<Self>, add: bool, c: &mut ArrayViewMut2<Self>) -> bool;
}

/// A kernel with `$rows` rows of c in registers, and vectors of `$lanes` numbers: how many are zero, the same, multiplied, loaded, ...;
/// a mask stands for the first so many of a vector.
macro_rules! kernel {
    ($name:ident $float:ident $lanes:literal $features:literal rows $($rows:literal)*;
     $zero:ident $splat:ident $fma:ident $mul:ident $add:ident;
     mask $n:ident => $mask:expr;
     load $from:ident $of:ident => $load:expr;
     store $to:ident $under:ident $what:ident => $store:expr) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;
            use std::arch::x86_64::*;

            /// Numbers of a vector.
            pub const LANES: usize = $lanes;
            /// Rows of c in registers.
            const ROWS: usize = [$($rows),*].len();

            /// `R` rows by `V` vectors, of which the last has so many columns.
            ///
            /// # Safety
            /// The panel's matrices have R rows (a, c), `depth` columns of a and rows of b, and `LANES (V - 1) + last` columns (b, c).
            #[target_feature(enable = $features)]
            unsafe fn micro<const R: usize, const V: usize>(p: &Panel<$float>, last: usize) {
                // Sound: every address is inside the matrices that the caller vouches for; what a mask leaves out is not touched.
                unsafe {
                    let full = { let $n = LANES; $mask };
                    let part = { let $n = last; $mask };
                    let mut sums = [[$zero(); V]; R];
                    let (mut a, mut b) = (p.a.0, p.b.0);
                    for _ in 0..p.depth {
                        let mut row = [$zero(); V];
                        for (v, row) in row.iter_mut().enumerate() {
                            let ($from, $of) = (b.wrapping_add(v * LANES), if v + 1 < V { full } else { part });
                            *row = $load;
                        }
                        // not zipped: that would not stay in registers
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let x = $splat(*a.offset(r as isize * p.a.1));
                            for (v, sum) in sums.iter_mut().enumerate() {
                                *sum = $fma(x, row[v], *sum);
                            }
                        }
                        (a, b) = (a.wrapping_offset(p.a.2), b.wrapping_offset(p.b.1));
                    }
                    let alpha = $splat(p.alpha);
                    for (r, sums) in sums.iter().enumerate() {
                        for (v, sum) in sums.iter().enumerate() {
                            let $to = p.c.0.wrapping_offset(r as isize * p.c.1).wrapping_add(v * LANES);
                            let $under = if v + 1 < V { full } else { part };
                            let mut $what = $mul(alpha, *sum);
                            if p.add {
                                let ($from, $of) = ($to.cast_const(), $under);
                                $what = $add($load, $what);
                            }
                            $store;
                        }
                    }
                }
            }

            /// `rows` rows by `columns` columns, at most two vectors.
            ///
            /// # Safety
            /// As for `micro`, with `rows` for R.
            #[target_feature(enable = $features)]
            pub unsafe fn panel(rows: usize, columns: usize, mut p: Panel<$float>) {
                let mut left = rows;
                while left > 0 {
                    // in equal pieces: a single row waits for its sums
                    let done = left.div_ceil(left.div_ceil(ROWS));
                    // Sound: the piece is at most as long as what is left.
                    unsafe {
                        match (columns > LANES, done) {
                            $((true, $rows) => micro::<$rows, 2>(&p, columns - LANES),
                            (false, $rows) => micro::<$rows, 1>(&p, columns),)*
                            _ => unreachable!("a piece has at most {ROWS} rows"),
                        }
                    }
                    p.a.0 = p.a.0.wrapping_offset(done as isize * p.a.1);
                    p.c.0 = p.c.0.wrapping_offset(done as isize * p.c.1);
                    left -= done;
                }
            }
        }
    };
}
kernel!(wide_f32 f32 16 "avx512f" rows 1 2 3 4 5 6 7 8;
    _mm512_setzero_ps _mm512_set1_ps _mm512_fmadd_ps _mm512_mul_ps _mm512_add_ps;
    mask n => ((1u32 << n) - 1) as __mmask16;
    load p mask => _mm512_maskz_loadu_ps(mask, p);
    store p mask x => _mm512_mask_storeu_ps(p, mask, x));
kernel!(wide_f64 f64 8 "avx512f" rows 1 2 3 4 5 6 7 8;
    _mm512_setzero_pd _mm512_set1_pd _mm512_fmadd_pd _mm512_mul_pd _mm512_add_pd;
    mask n => ((1u32 << n) - 1) as __mmask8;
    load p mask => _mm512_maskz_loadu_pd(mask, p);
    store p mask x => _mm512_mask_storeu_pd(p, mask, x));
kernel!(narrow_f32 f32 8 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_ps _mm256_set1_ps _mm256_fmadd_ps _mm256_mul_ps _mm256_add_ps;
    mask n => _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    load p mask => _mm256_maskload_ps(p, mask);
    store p mask x => _mm256_maskstore_ps(p, mask, x));
kernel!(narrow_f64 f64 4 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_pd _mm256_set1_pd _mm256_fmadd_pd _mm256_mul_pd _mm256_add_pd;
    mask n => _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3));
    load p mask => _mm256_maskload_pd(p, mask);
    store p mask x => _mm256_maskstore_pd(p, mask, x));

macro_rules! gemm {
    ($float:ident $wide:ident $narrow:ident) => {
        impl Gemm for $float {
            #[cfg(target_arch = "x86_64")]
            fn gemm(
                alpha: Self,
                a: &ArrayView2<Self>,
                b: &ArrayView2<Self>,
                add: bool,
                c: &mut ArrayViewMut2<Self>,
            ) -> bool {
                // Sound: the features are there, and `blocks` keeps what a panel asks for.
                if is_x86_feature_detected!("avx512f") {
                    blocks(alpha, a, b, add, c, 2 * $wide::LANES, |m, n, p| unsafe { $wide::panel(m, n, p) })
                } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    blocks(alpha, a, b, add, c, 2 * $narrow::LANES, |m, n, p| unsafe { $narrow::panel(m, n, p) })
                } else {
                    false
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            fn gemm(_: Self, _: &ArrayView2<Self>, _: &ArrayView2<Self>, _: bool, _: &mut ArrayViewMut2<Self>) -> bool {
                false
            }
        }
    };
}
gemm!(f32 wide_f32 narrow_f32);
gemm!(f64 wide_f64 narrow_f64);

/// Cuts a product into panels of at most `width` columns; `panel` gets matrices of the size that it is told.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn blocks<T: Copy>(
    alpha: T,
    a: &ArrayView2<T>,
    b: &ArrayView2<T>,
    add: bool,
    c: &mut ArrayViewMut2<T>,
    width: usize,
    panel: impl Fn(usize, usize, Panel<T>),
) -> bool {
    let ((m, depth), n) = (a.dim(), b.ncols());
    let has_rows = |strides: &[isize]| n == 1 || strides[1] == 1;
    let is_copied = !has_rows(b.strides());
    let is_served = has_rows(c.strides()) && (!is_copied || b.len() <= COPIED);
    if !is_served || b.nrows() != depth || c.dim() != (m, n) || depth == 0 {
        return false;
    }
    let b = if is_copied { b.as_standard_layout() } else { b.into() };
    let (a_row, a_k) = (a.strides()[0], a.strides()[1]);
    let (b_row, c_row) = (b.strides()[0], c.strides()[0]);
    for first in (0..depth).step_by(DEPTH) {
        let depth = DEPTH.min(depth - first);
        let add = add || first > 0;
        for i in (0..m).step_by(BLOCK) {
            let rows = BLOCK.min(m - i);
            let a = (a.as_ptr().wrapping_offset(i as isize * a_row + first as isize * a_k), a_row, a_k);
            for j in (0..n).step_by(width) {
                let b = b.as_ptr().wrapping_offset(first as isize * b_row + j as isize);
                let c = c.as_mut_ptr().wrapping_offset(i as isize * c_row + j as isize);
                panel(rows, width.min(n - j), Panel { depth, a, b: (b, b_row), c: (c, c_row), alpha, add });
            }
        }
    }
    true
}

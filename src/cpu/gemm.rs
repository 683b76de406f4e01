//! Matrix products with AVX-512 or AVX2, for the matrices of a tile: a few hundred rows, up to hundreds of columns.
//!
//! c = alpha a b or c += alpha a b, where a has any strides (so that it may be a transpose) and the rows of b and c are
//! contiguous, or those of a copy of b. All of it lies in the second cache, so nothing is packed: a block of a few rows and one or two vectors of
//! columns of c is held in registers, and for each k one number of each row of a is broadcast against row k of b. Columns that
//! do not fill a vector are masked.
//!
//! A c of a few columns would leave most of a vector empty. Where the rows of a are contiguous, its elements are dot products along them;
//! where a's columns are, the transpose of c is what is multiplied.
//!
//! Every element of c is one sum over k, in order, in pieces of [`DEPTH`] (in dot products of [`SHORT`], and one for each number of a vector):
//! how rows are blocked changes no bit.

use ndarray::{ArrayView2, ArrayViewMut2, LinalgScalar, s};
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Summands that are taken in one go: panels of a and b of this depth stay in the first cache.
const DEPTH: usize = 256;
/// Rows of a that are gone through for each panel of b.
const BLOCK: usize = 64;
/// The same for dot products, whose columns of b are copied.
const SHORT: usize = 128;
/// Numbers of a matrix b that is copied where its rows are not contiguous.
const COPIED: usize = 1 << 16;
/// The most columns of c that are a few.
const FEW: usize = 4;

/// Some rows of a by one or two vectors of columns of b, into c.
struct Panel<T> {
    depth: usize,
    /// First element; distance between rows; distance between columns.
    a: (*const T, isize, isize),
    /// First element; distance between rows.
    b: (*const T, isize),
    c: (*mut T, isize),
    alpha: T,
    /// What the product is added to: first element; distance between rows.
    plus: Option<(*const T, isize)>,
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub enum Plus<'a, T> {
    /// Nothing.
    Nothing,
    /// What is in c already.
    Itself,
    /// The same row in every row, as long as those of c.
    Row(&'a [T]),
}

/// A type with a kernel on this processor.
pub trait Gemm: Sized {
    /// c = alpha a b and what is added. False where the processor or the layout is not served; c is as before then.
    fn gemm(
        alpha: Self,
        a: &ArrayView2<Self>,
        b: &ArrayView2<Self>,
        plus: Plus<Self>,
        c: &mut ArrayViewMut2<Self>,
    ) -> bool;
}

/// Some rows of a by a few columns of b, which lie as rows, into c.
struct Dots<T> {
    depth: usize,
    /// First element; distance between rows. Those of a row follow each other.
    a: (*const T, isize),
    /// First element; distance between columns. Those of a column follow each other.
    b: (*const T, isize),
    /// First element; distance between rows. Those of a row follow each other.
    c: (*mut T, isize),
    /// What the product is added to: first element; distance between rows.
    plus: Option<(*const T, isize)>,
}

/// A kernel with `$rows` rows of c in registers, and vectors of `$lanes` numbers: how many are zero, the same, multiplied, summed, ...;
/// how the first n numbers of a vector are loaded and stored.
macro_rules! kernel {
    ($name:ident $float:ident $lanes:literal $features:literal rows $($rows:literal)*;
     $zero:ident $splat:ident $fma:ident $mul:ident $add:ident $sum:ident;
     load $from:ident $of:ident => $load:expr;
     store $to:ident $under:ident $what:ident => $store:expr) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;

            /// Numbers of a vector.
            pub const LANES: usize = $lanes;
            /// Rows of c in registers.
            const ROWS: usize = [$($rows),*].len();

            /// `R` rows by `V` vectors, of which the last has so many columns: if `WHOLE`, all.
            ///
            /// # Safety
            /// The panel's matrices have R rows (a, c), `depth` columns of a and rows of b, and `LANES (V - 1) + last` columns (b, c).
            #[target_feature(enable = $features)]
            unsafe fn micro<const R: usize, const V: usize, const WHOLE: bool>(p: &Panel<$float>, last: usize) {
                // Sound: every address is inside the matrices that the caller vouches for; what is not loaded or stored is not touched.
                unsafe {
                    let last = if WHOLE { LANES } else { last };
                    let mut sums = [[$zero(); V]; R];
                    let (mut a, mut b) = (p.a.0, p.b.0);
                    for _ in 0..p.depth {
                        let mut row = [$zero(); V];
                        for (v, row) in row.iter_mut().enumerate() {
                            let ($from, $of) = (b.wrapping_add(v * LANES), if v + 1 < V { LANES } else { last });
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
                            let $under = if v + 1 < V { LANES } else { last };
                            let mut $what = $mul(alpha, *sum);
                            if let Some(plus) = p.plus {
                                let $from = plus.0.wrapping_offset(r as isize * plus.1).wrapping_add(v * LANES);
                                let $of = $under;
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
                        match (columns > LANES, columns.is_multiple_of(LANES), done) {
                            $((true, true, $rows) => micro::<$rows, 2, true>(&p, LANES),
                            (true, false, $rows) => micro::<$rows, 2, false>(&p, columns - LANES),
                            (false, true, $rows) => micro::<$rows, 1, true>(&p, LANES),
                            (false, false, $rows) => micro::<$rows, 1, false>(&p, columns),)*
                            _ => unreachable!("a piece has at most {ROWS} rows"),
                        }
                    }
                    p.a.0 = p.a.0.wrapping_offset(done as isize * p.a.1);
                    p.c.0 = p.c.0.wrapping_offset(done as isize * p.c.1);
                    if let Some(plus) = &mut p.plus {
                        plus.0 = plus.0.wrapping_offset(done as isize * plus.1);
                    }
                    left -= done;
                }
            }

            /// `R` rows by `N` columns.
            ///
            /// # Safety
            /// Each of the R rows of a and the N columns of b has `depth` numbers; c is R by N.
            #[target_feature(enable = $features)]
            unsafe fn dot<const R: usize, const N: usize>(p: &Dots<$float>) {
                // Sound: every address is inside the matrices that the caller vouches for; what is not loaded is not touched.
                unsafe {
                    let mut sums = [[$zero(); N]; R];
                    let (whole, last) = (p.depth / LANES * LANES, p.depth % LANES);
                    macro_rules! add {
                        ($k:expr, $count:expr) => {
                            let $of = $count;
                            let mut columns = [$zero(); N];
                            for (n, column) in columns.iter_mut().enumerate() {
                                let $from = p.b.0.offset(n as isize * p.b.1).add($k);
                                *column = $load;
                            }
                            for (r, sums) in sums.iter_mut().enumerate() {
                                let $from = p.a.0.offset(r as isize * p.a.1).add($k);
                                let x = $load;
                                for (n, sum) in sums.iter_mut().enumerate() {
                                    *sum = $fma(x, columns[n], *sum);
                                }
                            }
                        };
                    }
                    for k in (0..whole).step_by(LANES) {
                        add!(k, LANES);
                    }
                    if last > 0 {
                        add!(whole, last);
                    }
                    for (r, sums) in sums.iter().enumerate() {
                        for (n, sum) in sums.iter().enumerate() {
                            let mut sum = $sum(*sum);
                            if let Some(plus) = p.plus {
                                sum += *plus.0.offset(r as isize * plus.1).add(n);
                            }
                            *p.c.0.offset(r as isize * p.c.1).add(n) = sum;
                        }
                    }
                }
            }

            /// So many rows by so many columns, at most [`FEW`].
            ///
            /// # Safety
            /// As for `dot`.
            #[target_feature(enable = $features)]
            pub unsafe fn dots(mut rows: usize, columns: usize, mut p: Dots<$float>) {
                while rows > 0 {
                    // Sound: the piece is at most as long as what is left.
                    let done = unsafe {
                        match (columns, rows) {
                            (1, 8..) => (dot::<8, 1>(&p), 8).1,
                            (1, _) => (dot::<1, 1>(&p), 1).1,
                            (2, 4..) => (dot::<4, 2>(&p), 4).1,
                            (2, _) => (dot::<1, 2>(&p), 1).1,
                            (3, 3..) => (dot::<3, 3>(&p), 3).1,
                            (3, _) => (dot::<1, 3>(&p), 1).1,
                            (_, 2..) => (dot::<2, 4>(&p), 2).1,
                            (_, _) => (dot::<1, 4>(&p), 1).1,
                        }
                    };
                    p.a.0 = p.a.0.wrapping_offset(done as isize * p.a.1);
                    p.c.0 = p.c.0.wrapping_offset(done as isize * p.c.1);
                    if let Some(plus) = &mut p.plus {
                        plus.0 = plus.0.wrapping_offset(done as isize * plus.1);
                    }
                    rows -= done;
                }
            }
        }
    };
}
kernel!(wide_f32 f32 16 "avx512f" rows 1 2 3 4 5 6 7 8;
    _mm512_setzero_ps _mm512_set1_ps _mm512_fmadd_ps _mm512_mul_ps _mm512_add_ps _mm512_reduce_add_ps;
    load p n => _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p);
    store p n x => _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, x));
kernel!(wide_f64 f64 8 "avx512f" rows 1 2 3 4 5 6 7 8;
    _mm512_setzero_pd _mm512_set1_pd _mm512_fmadd_pd _mm512_mul_pd _mm512_add_pd _mm512_reduce_add_pd;
    load p n => _mm512_maskz_loadu_pd(((1u32 << n) - 1) as __mmask8, p);
    store p n x => _mm512_mask_storeu_pd(p, ((1u32 << n) - 1) as __mmask8, x));
kernel!(narrow_f32 f32 8 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_ps _mm256_set1_ps _mm256_fmadd_ps _mm256_mul_ps _mm256_add_ps sum_f32;
    load p n => _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    store p n x => store_part(p, n, x));
kernel!(narrow_f64 f64 4 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_pd _mm256_set1_pd _mm256_fmadd_pd _mm256_mul_pd _mm256_add_pd sum_f64;
    load p n => _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)));
    store p n x => store_part(p.cast(), 2 * n, _mm256_castpd_ps(x)));

/// The sum of a vector's numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_f32(x: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// The same in f64.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_f64(x: __m256d) -> f64 {
    let pairs = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
    _mm_cvtsd_f64(_mm_add_sd(pairs, _mm_unpackhi_pd(pairs, pairs)))
}

/// Stores the first `n` numbers of a vector, in pieces: a masked store takes many times as long on some processors. A number in f64 is two
/// of them.
///
/// # Safety
/// So many numbers may be written at `p`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn store_part(mut p: *mut f32, n: usize, x: __m256) {
    // Sound: the pieces have n numbers together.
    unsafe {
        if n == 8 {
            return _mm256_storeu_ps(p, x);
        }
        let mut rest = _mm256_castps256_ps128(x);
        if n & 4 != 0 {
            _mm_storeu_ps(p, rest);
            (p, rest) = (p.wrapping_add(4), _mm256_extractf128_ps::<1>(x));
        }
        if n & 2 != 0 {
            _mm_storel_pd(p.cast(), _mm_castps_pd(rest));
            (p, rest) = (p.wrapping_add(2), _mm_movehl_ps(rest, rest));
        }
        if n & 1 != 0 {
            _mm_store_ss(p, rest);
        }
    }
}

macro_rules! gemm {
    ($float:ident $wide:ident $narrow:ident) => {
        impl Gemm for $float {
            #[cfg(target_arch = "x86_64")]
            fn gemm(
                alpha: Self,
                a: &ArrayView2<Self>,
                b: &ArrayView2<Self>,
                plus: Plus<Self>,
                c: &mut ArrayViewMut2<Self>,
            ) -> bool {
                // Sound: the features are there, and `blocks` and `few` keep what a panel and dots ask for.
                if is_x86_feature_detected!("avx512f") {
                    few(alpha, a, b, plus, c, $wide::LANES, |m, n, p| unsafe { $wide::dots(m, n, p) })
                        || blocks(alpha, a, b, plus, c, 2 * $wide::LANES, |m, n, p| unsafe { $wide::panel(m, n, p) })
                } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    few(alpha, a, b, plus, c, $narrow::LANES, |m, n, p| unsafe { $narrow::dots(m, n, p) })
                        || blocks(alpha, a, b, plus, c, 2 * $narrow::LANES, |m, n, p| unsafe {
                            $narrow::panel(m, n, p)
                        })
                } else {
                    false
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            fn gemm(
                _: Self,
                _: &ArrayView2<Self>,
                _: &ArrayView2<Self>,
                _: Plus<Self>,
                _: &mut ArrayViewMut2<Self>,
            ) -> bool {
                false
            }
        }
    };
}
gemm!(f32 wide_f32 narrow_f32);
gemm!(f64 wide_f64 narrow_f64);

/// What the summands from `first` on are added to, in the columns of c from `column` on.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn under<T>(plus: Plus<T>, first: usize, column: usize, c: (*const T, isize)) -> Option<(*const T, isize)> {
    match plus {
        _ if first > 0 => Some(c),
        Plus::Nothing => None,
        Plus::Itself => Some(c),
        Plus::Row(row) => Some((row[column..].as_ptr(), 0)),
    }
}

/// A product of a few columns, fewer than a vector has, as dot products along the rows of a, or as its transpose along the columns of a.
/// False where neither serves.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn few<T: Gemm + LinalgScalar>(
    alpha: T,
    a: &ArrayView2<T>,
    b: &ArrayView2<T>,
    plus: Plus<T>,
    c: &mut ArrayViewMut2<T>,
    lanes: usize,
    dots: impl Fn(usize, usize, Dots<T>),
) -> bool {
    let ((m, depth), n) = (a.dim(), b.ncols());
    let has_rows = n == 1 || c.strides()[1] == 1;
    if n > FEW || n >= lanes || m < lanes || depth < lanes || !has_rows || b.nrows() != depth || c.dim() != (m, n) {
        return false;
    }
    if a.strides()[0] == 1 {
        let mut turned = [T::zero(); FEW * BLOCK];
        for first in (0..m).step_by(BLOCK) {
            let rows = first..m.min(first + BLOCK);
            let Ok(mut part) = ArrayViewMut2::from_shape((n, rows.len()), &mut turned[..n * rows.len()]) else {
                return false;
            };
            T::gemm(alpha, &b.t(), &a.slice(s![rows.clone(), ..]).t(), Plus::Nothing, &mut part);
            for (j, column) in turned.chunks_exact(rows.len()).take(n).enumerate() {
                let to = c.slice_mut(s![rows.clone(), j]);
                let each = to.into_iter().zip(column);
                match plus {
                    Plus::Nothing => each.for_each(|(y, x)| *y = *x),
                    Plus::Itself => each.for_each(|(y, x)| *y = *y + *x),
                    Plus::Row(row) => each.for_each(|(y, x)| *y = row[j] + *x),
                }
            }
        }
        return true;
    }
    if a.strides()[1] != 1 {
        return false;
    }
    let (a_row, c_row) = (a.strides()[0], c.strides()[0]);
    let mut columns = [T::zero(); FEW * SHORT];
    for first in (0..depth).step_by(SHORT) {
        let depth = SHORT.min(depth - first);
        for (j, column) in columns.chunks_exact_mut(SHORT).take(n).enumerate() {
            let from = b.slice(s![first..first + depth, j]);
            column.iter_mut().zip(from).for_each(|(to, from)| *to = alpha * *from);
        }
        let (a, b) = (a.as_ptr().wrapping_add(first), columns.as_ptr());
        let (c, plus) = (c.as_mut_ptr(), under(plus, first, 0, (c.as_ptr(), c_row)));
        dots(m, n, Dots { depth, a: (a, a_row), b: (b, SHORT as isize), c: (c, c_row), plus });
    }
    true
}

/// Cuts a product into panels of at most `width` columns; `panel` gets matrices of the size that it is told.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
fn blocks<T: Copy>(
    alpha: T,
    a: &ArrayView2<T>,
    b: &ArrayView2<T>,
    plus: Plus<T>,
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
        for i in (0..m).step_by(BLOCK) {
            let rows = BLOCK.min(m - i);
            let a = (a.as_ptr().wrapping_offset(i as isize * a_row + first as isize * a_k), a_row, a_k);
            for j in (0..n).step_by(width) {
                let b = b.as_ptr().wrapping_offset(first as isize * b_row + j as isize);
                let c = c.as_mut_ptr().wrapping_offset(i as isize * c_row + j as isize);
                let plus = under(plus, first, j, (c, c_row));
                panel(rows, width.min(n - j), Panel { depth, a, b: (b, b_row), c: (c, c_row), alpha, plus });
            }
        }
    }
    true
}

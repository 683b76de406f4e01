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

/// A kernel with `$rows` rows of c in registers, and vectors of `$lanes` numbers: how many are zero, the same, multiplied, ...; the sum of each of
/// as many;
/// how the first n numbers of a vector are loaded and stored.
macro_rules! kernel {
    ($name:ident $float:ident $lanes:literal $features:literal rows $($rows:literal)*;
     $zero:ident $splat:ident $fma:ident $mul:ident $add:ident $sums:ident;
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

            /// `R` rows by `N` columns, R N numbers of a vector at most; if not `WHOLE`, the first `rows` of the rows.
            ///
            /// # Safety
            /// Each of the rows of a and the N columns of b has `depth` numbers; c is rows by N.
            #[target_feature(enable = $features)]
            unsafe fn dot<const R: usize, const N: usize, const WHOLE: bool>(p: &Dots<$float>, rows: usize) {
                // Sound: every address is inside the matrices that the caller vouches for; what is not loaded is not touched.
                unsafe {
                    let rows = if WHOLE { R } else { rows };
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
                                // for rows that are not there, the last one
                                let $from = p.a.0.offset(r.min(rows - 1) as isize * p.a.1).add($k);
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
                    let mut all = [$zero(); LANES];
                    all.iter_mut().zip(sums.as_flattened()).for_each(|(to, sum)| *to = *sum);
                    let mut sums = [0.0; LANES];
                    let ($to, $under, $what) = (sums.as_mut_ptr(), LANES, $sums(all));
                    $store;
                    for (r, sums) in sums.chunks_exact(N).take(rows).enumerate() {
                        for (n, sum) in sums.iter().enumerate() {
                            let plus = p.plus.map_or(0.0, |plus| *plus.0.offset(r as isize * plus.1).add(n));
                            *p.c.0.offset(r as isize * p.c.1).add(n) = plus + *sum;
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
                    let done = rows.min(LANES / columns);
                    // Sound: the piece is at most as long as what is left.
                    unsafe {
                        match (columns, done == LANES / columns) {
                            (1, true) => dot::<LANES, 1, true>(&p, done),
                            (1, false) => dot::<LANES, 1, false>(&p, done),
                            (2, true) => dot::<{ LANES / 2 }, 2, true>(&p, done),
                            (2, false) => dot::<{ LANES / 2 }, 2, false>(&p, done),
                            (3, true) => dot::<{ LANES / 3 }, 3, true>(&p, done),
                            (3, false) => dot::<{ LANES / 3 }, 3, false>(&p, done),
                            (_, true) => dot::<{ LANES / 4 }, 4, true>(&p, done),
                            (_, false) => dot::<{ LANES / 4 }, 4, false>(&p, done),
                        }
                    }
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
    _mm512_setzero_ps _mm512_set1_ps _mm512_fmadd_ps _mm512_mul_ps _mm512_add_ps wide_sums_f32;
    load p n => _mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p);
    store p n x => _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, x));
kernel!(wide_f64 f64 8 "avx512f" rows 1 2 3 4 5 6 7 8;
    _mm512_setzero_pd _mm512_set1_pd _mm512_fmadd_pd _mm512_mul_pd _mm512_add_pd wide_sums_f64;
    load p n => _mm512_maskz_loadu_pd(((1u32 << n) - 1) as __mmask8, p);
    store p n x => _mm512_mask_storeu_pd(p, ((1u32 << n) - 1) as __mmask8, x));
kernel!(narrow_f32 f32 8 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_ps _mm256_set1_ps _mm256_fmadd_ps _mm256_mul_ps _mm256_add_ps narrow_sums_f32;
    load p n => _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)));
    store p n x => store_part(p, n, x));
kernel!(narrow_f64 f64 4 "avx2,fma" rows 1 2 3 4 5;
    _mm256_setzero_pd _mm256_set1_pd _mm256_fmadd_pd _mm256_mul_pd _mm256_add_pd narrow_sums_f64;
    load p n => _mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3)));
    store p n x => store_part(p.cast(), 2 * n, _mm256_castpd_ps(x)));

/// Of each vector the sum of its numbers, as a vector. With every addition two vectors become one that has the sums of both, of pieces of
/// 128 bits first: fewer additions than for one sum after the other.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn wide_sums_f32(x: [__m512; 16]) -> __m512 {
    let pairs = |a, b| _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let fours = |k: usize| {
        let (a, b) = (_mm512_castps_pd(pairs(x[k], x[k + 1])), _mm512_castps_pd(pairs(x[k + 2], x[k + 3])));
        _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
    };
    let across = |a, b| _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
    across(across(fours(0), fours(4)), across(fours(8), fours(12)))
}

/// The same in f64.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn wide_sums_f64(x: [__m512d; 8]) -> __m512d {
    let pairs = |k: usize| _mm512_add_pd(_mm512_unpacklo_pd(x[k], x[k + 1]), _mm512_unpackhi_pd(x[k], x[k + 1]));
    let across = |a, b| _mm512_add_pd(_mm512_shuffle_f64x2::<0x88>(a, b), _mm512_shuffle_f64x2::<0xdd>(a, b));
    across(across(pairs(0), pairs(2)), across(pairs(4), pairs(6)))
}

/// With vectors of half the length.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn narrow_sums_f32(x: [__m256; 8]) -> __m256 {
    let fours = |k: usize| _mm256_hadd_ps(_mm256_hadd_ps(x[k], x[k + 1]), _mm256_hadd_ps(x[k + 2], x[k + 3]));
    let (a, b) = (fours(0), fours(4));
    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(a, b), _mm256_permute2f128_ps::<0x31>(a, b))
}

/// The same in f64.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn narrow_sums_f64(x: [__m256d; 4]) -> __m256d {
    let (a, b) = (_mm256_hadd_pd(x[0], x[1]), _mm256_hadd_pd(x[2], x[3]));
    _mm256_add_pd(_mm256_permute2f128_pd::<0x20>(a, b), _mm256_permute2f128_pd::<0x31>(a, b))
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
            let mut part = c.slice_mut(s![rows.clone(), ..]);
            // the commonest
            if let (Plus::Itself, 2, Some(c)) = (plus, n, part.as_slice_mut()) {
                let (first, second) = turned.split_at(rows.len());
                let each = c.as_chunks_mut().0.iter_mut().zip(first).zip(second);
                each.for_each(|(([c, d], x), y)| (*c, *d) = (*c + *x, *d + *y));
                continue;
            }
            for (j, column) in turned.chunks_exact(rows.len()).take(n).enumerate() {
                let each = part.column_mut(j).into_iter().zip(column);
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Products of all kinds by both kernels of a type, whatever the processor would choose.
    macro_rules! agrees {
        ($name:ident $float:ident $wide:ident $narrow:ident $tolerance:literal) => {
            #[test]
            fn $name() {
                let fill = |r, c, s: f64| {
                    Array2::from_shape_fn((r, c), |(i, j)| ((i * 7 + j * 13) as f64 * s).sin() as $float)
                };
                for (m, k, n) in
                    [(16, 16, 1), (17, 40, 2), (35, 130, 3), (23, 19, 4), (70, 33, 2), (9, 3, 21), (64, 300, 32)]
                {
                    for turned in 0..3 {
                        let a = if turned & 1 == 1 { fill(k, m, 0.3).reversed_axes() } else { fill(m, k, 0.3) };
                        let b = if turned & 2 == 2 { fill(n, k, 0.7).reversed_axes() } else { fill(k, n, 0.7) };
                        let (row, before) = (fill(1, n, 0.9), fill(m, n, 1.1));
                        let row = row.as_slice().unwrap_or(&[]);
                        for plus in [Plus::Nothing, Plus::Itself, Plus::Row(row)] {
                            let exact = Array2::from_shape_fn((m, n), |(i, j)| {
                                let plus = match plus {
                                    Plus::Nothing => 0.0,
                                    Plus::Itself => before[[i, j]],
                                    Plus::Row(row) => row[j],
                                };
                                plus + (0..k).map(|l| a[[i, l]] * b[[l, j]]).sum::<$float>()
                            });
                            // Sound: the features are there, and `blocks` and `few` keep what a panel and dots ask for.
                            macro_rules! by {
                                ($kernel:ident) => {{
                                    let mut c = before.clone();
                                    let (a, b) = (&a.view(), &b.view());
                                    let done =
                                        few(1.0, a, b, plus, &mut c.view_mut(), $kernel::LANES, |m, n, p| unsafe {
                                            $kernel::dots(m, n, p)
                                        }) || blocks(
                                            1.0,
                                            a,
                                            b,
                                            plus,
                                            &mut c.view_mut(),
                                            2 * $kernel::LANES,
                                            |m, n, p| unsafe { $kernel::panel(m, n, p) },
                                        );
                                    assert!(
                                        done && (&c - &exact).iter().all(|e| e.abs() < $tolerance),
                                        "{m} {k} {n} {turned}: {c} {exact}"
                                    );
                                }};
                            }
                            if is_x86_feature_detected!("avx512f") {
                                by!($wide);
                            }
                            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                                by!($narrow);
                            }
                        }
                    }
                }
            }
        };
    }
    agrees!(every_kernel_is_the_product_in_f32 f32 wide_f32 narrow_f32 1e-4);
    agrees!(every_kernel_is_the_product_in_f64 f64 wide_f64 narrow_f64 1e-12);
}

//! Scalar code, run for many points at once.
//!
//! A register of flattened code (see [`flat`](super::flat)) holds one number of each of up to `LANES` points, so that one dispatch
//! serves all of them, and nothing is allocated while the code runs. Sums are kept in two levels, a part of 256 summands and the rest, so that a sum of a
//! million numbers in f32 keeps its digits. An address out of range, which only a register can bring about, reads NaN and
//! stores nothing.

use super::PointSource;
use super::activation::{LANES, Lane};
use super::elementwise::Block;
use super::flat::{Code, Compiled, Reduction, TOGETHER, Term};
use super::math;
use super::real::{Kernel, Real};
use crate::jet::{Binary, Fold, Unary};

/// Where a load reads from.
#[derive(Clone, Copy)]
pub enum Input<'a, T> {
    /// [rows, points, features]
    Value { elements: &'a [T], rows: usize, features: usize },
    /// Flat.
    Tensor(&'a [T]),
    /// Points that are made where they are read: number of the tile's first, columns.
    Points(&'a dyn PointSource<T>, usize, usize),
}

/// Registers and loop variables, kept between calls.
#[derive(Debug, Default)]
pub struct Registers<T> {
    lanes: Vec<Lane<T>>,
    /// Of code that does the same to each feature.
    pub(super) blocks: Vec<Block<T>>,
    vars: Vec<i64>,
    /// Columns of points that a loop reads: [columns, points], and the first of them.
    window: (Vec<T>, usize),
}

/// A run over a tile.
pub struct Scalar<'a, T> {
    /// What to run.
    pub code: &'a Compiled,
    /// In the order of its inputs.
    pub inputs: &'a [Input<'a, T>],
    /// Points of the tile.
    pub points: usize,
    /// Scratch.
    pub registers: &'a mut Registers<T>,
    /// [rows, points, features]
    pub y: &'a mut [T],
}

/// Numbers of the widest vectors.
const VECTOR: usize = 16;
/// Summands of a part.
const PART: i64 = 256;
/// Columns of points that a loop makes at a time.
const WINDOW: usize = 64;

impl<T: Real> Kernel for Scalar<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Compiled { code, registers, vars, features, each, .. } = self.code;
        if self.y.is_empty() {
            return;
        }
        let each = each.filter(|_| !self.inputs.iter().any(|i| matches!(i, Input::Points(..))));
        let is_whole = self.code.is_whole;
        if !is_whole {
            self.y.fill(T::zero());
        }
        if let Some(n) = each {
            return self.each_feature(n);
        }
        let lanes = &mut self.registers.lanes;
        // what an earlier call has left is overwritten before it is read
        if lanes.len() < *registers {
            lanes.resize(*registers, [T::zero(); LANES]);
        }
        let vars_now = &mut self.registers.vars;
        let window = &mut self.registers.window;
        vars_now.clear();
        vars_now.resize(*vars, 0);
        for first in (0..self.points).step_by(LANES) {
            let w = LANES.min(self.points - first);
            window.0.clear();
            let mut at = 0;
            while let Some(instruction) = code.get(at) {
                at += 1;
                match instruction {
                    Code::Load { y, input, row, feature } => {
                        if row.register.is_none() && feature.register.is_none() {
                            let place = (row.fixed(vars_now), feature.fixed(vars_now));
                            if let (Input::Points(source, before, columns), false) =
                                (&self.inputs[*input], feature.terms.is_empty())
                                && let Ok(column) = usize::try_from(place.1)
                                && column < *columns
                            {
                                let (made, start) = &mut *window;
                                if !(*start..*start + made.len() / w).contains(&column) {
                                    let end = (column + WINDOW).min(*columns);
                                    source.part(before + first..before + first + w, column..end, made);
                                    *start = column;
                                }
                                lanes[*y][..w].copy_from_slice(&made[(column - *start) * w..][..w]);
                                continue;
                            }
                            load(&self.inputs[*input], self.points, first, place, &mut lanes[*y][..w]);
                        } else {
                            for l in 0..w {
                                let place = (row.of(vars_now, lanes, l), feature.of(vars_now, lanes, l));
                                load(&self.inputs[*input], self.points, first + l, place, &mut lanes[*y][l..l + 1]);
                            }
                        }
                    }
                    Code::Index { y, address } => {
                        if address.register.is_none() {
                            lanes[*y] = [T::lit(address.fixed(vars_now) as f64); LANES];
                        } else {
                            for l in 0..w {
                                lanes[*y][l] = T::lit(address.of(vars_now, lanes, l) as f64);
                            }
                        }
                    }
                    Code::Begin { var, lo, hi, end, reductions } => {
                        for r in reductions {
                            let start = if r.fold == Fold::Sum { T::zero() } else { -T::one() / T::zero() };
                            lanes[r.total] = [start; LANES];
                            lanes[r.part] = [T::zero(); LANES];
                        }
                        vars_now[*var] = *lo;
                        if lo >= hi {
                            at = *end;
                        }
                    }
                    Code::End { var, lo, hi, begin, reductions } => {
                        vars_now[*var] += 1;
                        let i = vars_now[*var];
                        let flush = i == *hi || (i - lo) % PART == 0;
                        for r in reductions {
                            reduce(r, flush, w, lanes);
                        }
                        if i < *hi {
                            at = *begin + 1;
                        }
                    }
                    Code::Store { row, feature, a } if row.register.is_none() && feature.register.is_none() => {
                        let (row, feature) = (row.fixed(vars_now), feature.fixed(vars_now));
                        if row < 0 || feature < 0 || feature as usize >= *features {
                            continue;
                        }
                        let place = (row as usize * self.points + first) * features + feature as usize;
                        if let Some(y) = self.y.get_mut(place..place + (w - 1) * features + 1) {
                            let a = &lanes[*a][..w];
                            match (features, is_whole) {
                                (1, true) => y.copy_from_slice(a),
                                (_, true) => (0..w).for_each(|l| y[l * features] = a[l]),
                                (_, false) => (0..w).for_each(|l| y[l * features] += a[l]),
                            }
                        }
                    }
                    Code::Store { row, feature, a } => {
                        for l in 0..w {
                            let (row, feature) = (row.of(vars_now, lanes, l), feature.of(vars_now, lanes, l));
                            if row < 0 || feature < 0 || feature as usize >= *features {
                                continue;
                            }
                            let place = (row as usize * self.points + first + l) * features + feature as usize;
                            if let Some(y) = self.y.get_mut(place) {
                                *y += lanes[*a][l];
                            }
                        }
                    }
                    Code::StoreRow { row, values } => {
                        let y = &mut self.y[(row * self.points + first) * features..][..w * features];
                        match values[..] {
                            [a, b] => scatter([a, b].map(|a| &lanes[a]), y),
                            [a, b, c] => scatter([a, b, c].map(|a| &lanes[a]), y),
                            [a, b, c, d] => scatter([a, b, c, d].map(|a| &lanes[a]), y),
                            _ => unreachable!("2 to {TOGETHER} features are stored together"),
                        }
                    }
                    instruction => arithmetic(instruction, w, lanes),
                }
            }
        }
    }
}

/// What only reads and writes registers, in the first `w` lanes; what is vector code, in some behind them, too, which nobody reads.
#[inline(always)]
pub(super) fn arithmetic<T: Real, const N: usize>(code: &Code, w: usize, lanes: &mut [[T; N]]) {
    let w = match code {
        // number by number, all or those that are far from 0
        Code::Unary { f: Unary::Atan | Unary::Sin | Unary::Cos | Unary::Tan, .. }
        | Code::Binary { f: Binary::Pow, .. } => w,
        _ => w.next_multiple_of(VECTOR),
    };
    match code {
        Code::Constant { y, value } => lanes[*y][..w].fill(T::lit(*value)),
        Code::Unary { f, y, a } => {
            if let Ok([y, a]) = lanes.get_disjoint_mut([*y, *a]) {
                unary(*f, &a[..w], &mut y[..w]);
            }
        }
        Code::Sum { y, terms } => sum(terms, w, lanes, *y),
        Code::Power { y, a, exponent } => {
            if let Ok([y, a]) = lanes.get_disjoint_mut([*y, *a]) {
                power(*exponent, &a[..w], &mut y[..w]);
            }
        }
        Code::Binary { f, y, a, b } if a == b => {
            if let Ok([y, a]) = lanes.get_disjoint_mut([*y, *a]) {
                binary(*f, &a[..w], &a[..w], &mut y[..w]);
            }
        }
        Code::Binary { f, y, a, b } => {
            if let Ok([y, a, b]) = lanes.get_disjoint_mut([*y, *a, *b]) {
                binary(*f, &a[..w], &b[..w], &mut y[..w]);
            }
        }
        _ => {}
    }
}

/// One element at each of `y.len()` points from `first` on.
#[inline(always)]
fn load<T: Real>(input: &Input<T>, points: usize, first: usize, (row, feature): (i64, i64), y: &mut [T]) {
    let (Ok(row), Ok(feature)) = (usize::try_from(row), usize::try_from(feature)) else {
        return y.fill(T::lit(f64::NAN));
    };
    match *input {
        Input::Value { elements, rows, features } if row < rows && feature < features => {
            let from = &elements[(row * points + first) * features..][..y.len() * features];
            // known distances are vectors that are taken apart
            match (features, feature) {
                (1, _) => y.copy_from_slice(from),
                (2, 0) => gather::<_, 2, 0>(from, y),
                (2, _) => gather::<_, 2, 1>(from, y),
                (3, 0) => gather::<_, 3, 0>(from, y),
                (3, 1) => gather::<_, 3, 1>(from, y),
                (3, _) => gather::<_, 3, 2>(from, y),
                (4, 0) => gather::<_, 4, 0>(from, y),
                (4, 1) => gather::<_, 4, 1>(from, y),
                (4, 2) => gather::<_, 4, 2>(from, y),
                (4, _) => gather::<_, 4, 3>(from, y),
                _ => y.iter_mut().zip(from.chunks_exact(features)).for_each(|(y, from)| *y = from[feature]),
            }
        }
        Input::Points(source, before, columns) if row == 0 && feature < columns => {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = source.at(before + first + i, feature));
        }
        Input::Tensor(elements) if row == 0 && feature < elements.len() => y.fill(elements[feature]),
        _ => y.fill(T::lit(f64::NAN)),
    }
}

/// y_l = number F of row l; rows of S numbers.
#[inline(always)]
fn gather<T: Real, const S: usize, const F: usize>(from: &[T], y: &mut [T]) {
    let rows = from.as_chunks::<S>().0;
    for start in (0..y.len()).step_by(VECTOR) {
        // the last block may begin in the one before
        let start = start.min(y.len().saturating_sub(VECTOR));
        match (y[start..].first_chunk_mut::<VECTOR>(), rows[start..].first_chunk::<VECTOR>()) {
            (Some(y), Some(rows)) => (0..VECTOR).for_each(|l| y[l] = rows[l][F]),
            _ => y.iter_mut().zip(rows).for_each(|(y, row)| *y = row[F]),
        }
    }
}

/// Number f of row l = a_f,l
#[inline(always)]
fn scatter<T: Real, const S: usize>(a: [&Lane<T>; S], to: &mut [T]) {
    let rows = to.as_chunks_mut::<S>().0;
    for start in (0..rows.len()).step_by(VECTOR) {
        let start = start.min(rows.len().saturating_sub(VECTOR));
        match rows[start..].first_chunk_mut::<VECTOR>() {
            Some(rows) => put(a, start, rows),
            None => put(a, start, rows),
        }
    }
}

/// Number f of row l = a_f,(start + l)
#[inline(always)]
fn put<T: Real, const S: usize>(a: [&Lane<T>; S], start: usize, rows: &mut [[T; S]]) {
    let n = rows.len();
    let a = a.map(|a| &a[start..start + n]);
    for l in 0..n {
        for f in 0..S {
            rows[l][f] = a[f][l];
        }
    }
}

#[inline(always)]
fn reduce<T: Real>(r: &Reduction, flush: bool, w: usize, lanes: &mut [Lane<T>]) {
    if r.fold == Fold::Max {
        if let Ok([total, body]) = lanes.get_disjoint_mut([r.total, r.body]) {
            for (t, b) in total[..w].iter_mut().zip(&body[..w]) {
                *t = max(*t, *b);
            }
        }
        return;
    }
    if let Ok([part, body]) = lanes.get_disjoint_mut([r.part, r.body]) {
        for (p, b) in part[..w].iter_mut().zip(&body[..w]) {
            *p += *b;
        }
    }
    if flush && let Ok([part, total]) = lanes.get_disjoint_mut([r.part, r.total]) {
        for (p, t) in part[..w].iter_mut().zip(&mut total[..w]) {
            *t += *p;
            *p = T::zero();
        }
    }
}

/// NaN where one of the two is.
#[inline(always)]
pub fn max<T: Real>(a: T, b: T) -> T {
    if a <= b {
        b
    } else if b <= a {
        a
    } else {
        a + b
    }
}

#[inline(always)]
fn map<T: Real>(a: &[T], y: &mut [T], f: impl Fn(T) -> T) {
    let n = y.len().min(a.len());
    let (a, y) = (&a[..n], &mut y[..n]);
    for l in 0..n {
        y[l] = f(a[l]);
    }
}

#[inline(always)]
pub fn unary<T: Real>(f: Unary, a: &[T], y: &mut [T]) {
    match f {
        Unary::Neg => map(a, y, |x| -x),
        Unary::Recip => map(a, y, |x| T::one() / x),
        Unary::Sqrt => map(a, y, Real::sqrt),
        Unary::Exp => map(a, y, math::exp),
        Unary::Log => map(a, y, math::log),
        Unary::Sin => math::sin_cos_each(a, |l, s, _| y[l] = s),
        Unary::Cos => math::sin_cos_each(a, |l, _, c| y[l] = c),
        Unary::Tan => math::sin_cos_each(a, |l, s, c| y[l] = s / c),
        Unary::Sinh => map(a, y, math::sinh),
        Unary::Cosh => map(a, y, math::cosh),
        Unary::Tanh => map(a, y, math::tanh),
        Unary::Atan => map(a, y, |x| T::lit(x.to_f64().atan())),
        Unary::Erf => map(a, y, math::erf),
        Unary::Abs => map(a, y, Real::abs),
        Unary::Sign => map(a, y, math::sign),
    }
}

#[inline(always)]
pub fn binary<T: Real>(f: Binary, a: &[T], b: &[T], y: &mut [T]) {
    #[inline(always)]
    fn zip<T: Real>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T) -> T) {
        let n = y.len().min(a.len()).min(b.len());
        let (a, b, y) = (&a[..n], &b[..n], &mut y[..n]);
        for l in 0..n {
            y[l] = f(a[l], b[l]);
        }
    }
    match f {
        Binary::Add => zip(a, b, y, |a, b| a + b),
        Binary::Sub => zip(a, b, y, |a, b| a - b),
        Binary::Mul => zip(a, b, y, |a, b| a * b),
        Binary::Div => zip(a, b, y, |a, b| a / b),
        Binary::Min => zip(a, b, y, |a, b| -max(-a, -b)),
        Binary::Max => zip(a, b, y, max),
        Binary::Pow => zip(a, b, y, |a, b| T::lit(a.to_f64().powf(b.to_f64()))),
        Binary::AtLeast => zip(a, b, y, |a, b| if a >= b { T::one() } else { T::zero() }),
    }
}

/// The sum of terms, in their order; w is a multiple of a vector.
#[inline(always)]
fn sum<T: Real, const N: usize>(terms: &[Term], w: usize, lanes: &mut [[T; N]], y: usize) {
    lanes[y][..w].fill(T::zero());
    for Term { factor, of, by } in terms {
        let c = T::lit(*factor);
        match by.filter(|by| by != of) {
            Some(by) => {
                if let Ok([y, a, b]) = lanes.get_disjoint_mut([y, *of, by]) {
                    add_products(&mut y[..w], c, &a[..w], &b[..w]);
                }
            }
            None => {
                if let Ok([y, a]) = lanes.get_disjoint_mut([y, *of]) {
                    match by {
                        Some(_) => add_products(&mut y[..w], c, &a[..w], &a[..w]),
                        None => add_multiples(&mut y[..w], c, &a[..w]),
                    }
                }
            }
        }
    }
}

/// y += c a
#[inline(always)]
fn add_multiples<T: Real>(y: &mut [T], c: T, a: &[T]) {
    for (y, a) in y.as_chunks_mut::<VECTOR>().0.iter_mut().zip(a.as_chunks::<VECTOR>().0) {
        for l in 0..VECTOR {
            y[l] = c.mul_add(a[l], y[l]);
        }
    }
}

/// y += c a b
#[inline(always)]
fn add_products<T: Real>(y: &mut [T], c: T, a: &[T], b: &[T]) {
    let vectors = a.as_chunks::<VECTOR>().0.iter().zip(b.as_chunks::<VECTOR>().0);
    for (y, (a, b)) in y.as_chunks_mut::<VECTOR>().0.iter_mut().zip(vectors) {
        for l in 0..VECTOR {
            y[l] = (c * a[l]).mul_add(b[l], y[l]);
        }
    }
}

/// Repeated squaring.
#[inline(always)]
pub fn power<T: Real>(exponent: i32, a: &[T], y: &mut [T]) {
    y.fill(T::one());
    for bit in (0..6).rev() {
        for y in y.iter_mut() {
            *y = *y * *y;
        }
        if exponent.unsigned_abs() >> bit & 1 == 1 {
            for (y, a) in y.iter_mut().zip(a) {
                *y *= *a;
            }
        }
    }
    if exponent < 0 {
        for y in y.iter_mut() {
            *y = T::one() / *y;
        }
    }
}

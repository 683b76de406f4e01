//! Sums over the columns of a block of points: the nodes of [`crate::jet::columns`], strip by strip.
//!
//! Values lie as [columns, points], so that reading a node at a shift is reading it from an offset, and every operation runs
//! along contiguous numbers. A strip has few enough columns for its nodes to stay in the first caches. Sums over a block are
//! in the precision of the numbers; the caller adds blocks in f64.

use super::math;
use super::pointwise::{binary, max, power, unary};
use super::real::{Kernel, Real};
use crate::jet::columns::{Argument, Columns, NOWHERE, Node, Sum};
use crate::jet::{Binary, Fold, TensorId, Unary};
use std::ops::Range;

/// Numbers of a node that are worked out together, about.
const STRIP: usize = 512;

/// Room to work in, kept between blocks.
#[derive(Debug, Default)]
pub struct Strips<T> {
    /// [columns of a strip and those in reach, points]
    slots: Vec<Vec<T>>,
    /// [sums, points]
    parts: Vec<T>,
}

/// Adds the columns of one block to the sums.
pub struct Block<'a, T> {
    /// What is summed.
    pub columns: &'a Columns,
    /// [columns of the block and as many behind it as there are and are in reach, points]
    pub x: &'a [T],
    /// The columns of the block.
    pub range: Range<usize>,
    /// How many points.
    pub points: usize,
    /// All tensors of the program.
    pub tensors: &'a [&'a [T]],
    /// A fixed column of all points, for code that reads one.
    pub fixed: &'a dyn Fn(usize, &mut [T]),
    /// Scratch.
    pub strips: &'a mut Strips<T>,
    /// [sums, points]
    pub totals: &'a mut [f64],
}

impl<T: Real> Kernel for Block<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Block { columns, x, range, points, tensors, fixed, strips, totals } = self;
        if columns.sums.is_empty() || points == 0 {
            return;
        }
        let Strips { slots, parts } = strips;
        let width = (STRIP / points).clamp(1, range.len().max(1));
        let capacity = (width + columns.reach()) * points;
        slots.resize_with(columns.slots.iter().map(|s| s + 1).max().unwrap_or(0), Vec::new);
        slots.iter_mut().for_each(|slot| slot.resize(capacity, T::zero()));
        parts.clear();
        for sum in &columns.sums {
            let start = if sum.fold == Fold::Sum { T::zero() } else { -T::one() / T::zero() };
            parts.resize(parts.len() + points, start);
        }
        let all = 0..columns.nodes.len();
        let mut strip = Strip { columns, x, points, tensors, fixed, start: range.start, first: range.start, slots };
        for k in all.clone().filter(|k| columns.uniform[*k] && columns.slots[*k] != NOWHERE) {
            strip.node(k, capacity);
        }
        for first in range.clone().step_by(width) {
            strip.first = first;
            let count = width.min(range.end - first);
            for k in all.clone() {
                match columns.reach[k] {
                    Some(reach) if !columns.uniform[k] => strip.node(k, (count + reach) * points),
                    _ => {}
                }
                for &s in &columns.ready[k] {
                    strip.add(s, count, &mut parts[s * points..][..points]);
                }
            }
        }
        let parts = parts.chunks_exact(points).zip(totals.chunks_exact_mut(points));
        for (sum, (part, total)) in columns.sums.iter().zip(parts) {
            match sum.fold {
                Fold::Sum => total.iter_mut().zip(part).for_each(|(t, p)| *t += p.to_f64()),
                Fold::Max => total.iter_mut().zip(part).for_each(|(t, p)| *t = max(*t, p.to_f64())),
            }
        }
    }
}

/// Some columns of a block.
struct Strip<'a, T> {
    columns: &'a Columns,
    x: &'a [T],
    points: usize,
    tensors: &'a [&'a [T]],
    fixed: &'a dyn Fn(usize, &mut [T]),
    /// First column of `x`.
    start: usize,
    /// First column of the strip.
    first: usize,
    slots: &'a mut Vec<Vec<T>>,
}

impl<T: Real> Strip<'_, T> {
    /// Up to `len` values of an argument: behind the last column there is nothing, and nothing is summed.
    #[inline(always)]
    fn read(&self, a: Argument, len: usize) -> &[T] {
        let offset = a.shift * self.points;
        let (values, from) = match self.columns.nodes[a.node] {
            Node::Points => (self.x, (self.first - self.start) * self.points + offset),
            _ => (&self.slots[self.columns.slots[a.node]][..], offset),
        };
        let end = (from + len).min(values.len());
        &values[from.min(end)..end]
    }

    /// Works out `len` values of a node.
    #[inline(always)]
    fn node(&mut self, k: usize, len: usize) {
        let Columns { nodes, slots, partner, inner, .. } = self.columns;
        if nodes[k] == Node::Points || partner[k].is_some_and(|p| p < k) {
            return;
        }
        // Taken out, so that the node can read the other slots while it writes this one.
        let mut buffer = std::mem::take(&mut self.slots[slots[k]]);
        let y = &mut buffer[..len];
        let element = |t: TensorId, at: usize| self.tensors[t.index()].get(at).copied().unwrap_or(T::lit(f64::NAN));
        let each = |y: &mut [T], value: &dyn Fn(usize) -> T| {
            y.chunks_exact_mut(self.points).enumerate().for_each(|(c, y)| y.fill(value(self.first + c)));
        };
        match &nodes[k] {
            Node::Points => {}
            Node::Constant(bits) => y.fill(T::lit(f64::from_bits(*bits))),
            Node::Fixed(column) => y.chunks_exact_mut(self.points).for_each(|y| (self.fixed)(*column, y)),
            Node::Element(t, at) => y.fill(element(*t, *at)),
            Node::Tensor(t) => each(y, &|i| element(*t, i)),
            Node::Index => each(y, &|i| T::lit(i as f64)),
            Node::Unary(f, a) => match partner[k] {
                Some(p) => {
                    let mut other = std::mem::take(&mut self.slots[slots[p]]);
                    let a = self.read(*a, len);
                    let (y, z) = (&mut y[..a.len()], &mut other[..a.len()]);
                    let (sin, cos) = if *f == Unary::Sin { (y, z) } else { (z, y) };
                    math::sin_cos_each(a, |l, s, c| (sin[l], cos[l]) = (s, c));
                    self.slots[slots[p]] = other;
                }
                None => {
                    let a = self.read(*a, len);
                    unary(*f, a, &mut y[..a.len()]);
                }
            },
            Node::Power(exponent, a) => {
                let a = self.read(*a, len);
                power(*exponent, a, &mut y[..a.len()]);
            }
            Node::Binary(f, a, b) => match inner[k] {
                Some(i) => {
                    ternary((i.g, *f, i.first), self.read(i.a, len), self.read(i.b, len), self.read(i.c, len), y)
                }
                None => binary(*f, self.read(*a, len), self.read(*b, len), y),
            },
        }
        self.slots[slots[k]] = buffer;
    }

    /// Adds the strip's columns to a sum.
    #[inline(always)]
    fn add(&self, sum: usize, count: usize, part: &mut [T]) {
        let Sum { fold, lo, hi, node } = self.columns.sums[sum];
        let lo = lo.clamp(self.first, self.first + count) - self.first;
        let hi = hi.clamp(self.first, self.first + count) - self.first;
        let len = hi.saturating_sub(lo) * self.points;
        if let Some((a, b)) = self.columns.product[sum] {
            let at = |a: Argument| match self.columns.uniform[a.node] {
                true => a,
                false => Argument { shift: a.shift + lo, ..a },
            };
            let (a, b) = (self.read(at(a), len), self.read(at(b), len));
            for (a, b) in a.chunks_exact(self.points).zip(b.chunks_exact(self.points)) {
                part.iter_mut().zip(a).zip(b).for_each(|((s, a), b)| *s += *a * *b);
            }
            return;
        }
        let values = self.read(Argument { node, shift: lo }, len);
        for values in values.chunks_exact(self.points) {
            match fold {
                Fold::Sum => part.iter_mut().zip(values).for_each(|(s, x)| *s += *x),
                Fold::Max => part.iter_mut().zip(values).for_each(|(s, x)| *s = max(*s, *x)),
            }
        }
    }
}

/// y = f(g(a, b), c) or f(c, g(a, b)), of sums, differences and products.
#[inline(always)]
fn ternary<T: Real>((g, f, first): (Binary, Binary, bool), a: &[T], b: &[T], c: &[T], y: &mut [T]) {
    macro_rules! each {
        ($g:tt $f:tt) => {
            if first {
                y.iter_mut().zip(a).zip(b).zip(c).for_each(|(((y, a), b), c)| *y = (*a $g *b) $f *c)
            } else {
                y.iter_mut().zip(a).zip(b).zip(c).for_each(|(((y, a), b), c)| *y = *c $f (*a $g *b))
            }
        };
    }
    match (g, f) {
        (Binary::Mul, Binary::Mul) => each!(* *),
        (Binary::Mul, Binary::Add) => each!(* +),
        (Binary::Mul, Binary::Sub) => each!(* -),
        (Binary::Add, Binary::Mul) => each!(+ *),
        (Binary::Add, Binary::Add) => each!(+ +),
        (Binary::Add, Binary::Sub) => each!(+ -),
        (Binary::Sub, Binary::Mul) => each!(- *),
        (Binary::Sub, Binary::Add) => each!(- +),
        (Binary::Sub, Binary::Sub) => each!(- -),
        _ => {}
    }
}

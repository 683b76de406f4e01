//! A structure table made ready for activations: straight-line code over lanes.
//!
//! Lane r < rows is row r of the argument x (so rows >= 1 are the nilpotent part n = x - x_0); behind them stand the rows of
//! n^2, n^3, ... that are not zero by the structure of the table, computed by n^k = n n^(k-1). Everything else is a sum
//! over lanes: sigma(x)_r = s_1 n_r + sum over k of s_k (n^k)_r.
//!
//! The adjoint of the activation is the transposed product with g = sigma'(x) = sum of (k + 1) s_(k+1) n^k, because a
//! commutative associative algebra has d sigma(x) = sigma'(x) dx.
//!
//! The derivative by a structure constant: let the product mu change by dmu(u, v) = e_o (u_a v_b + u_b v_a) (for a < b; u_a v_a
//! for a = b). Then d(n^k) = dmu(n, n^(k-1)) + n d(n^(k-1)), so d(n^k) = sum over j of n^j dmu(n, n^(k-1-j)), and with
//! i = k - 1 - j: d sigma(x) = sum over i >= 1 of h_i dmu(n, n^i), h_i = sum over j of s_(i+j+1) n^j. Against an
//! adjoint that is sum over i of (B_i)_o (n_a (n^i)_b + n_b (n^i)_a), where B_i is the transposed product of the adjoint with h_i.
//! (How n^k is bracketed matters off the variety of associative tables only: any constants that move along it give the same total.)

use super::activation::{LANES, Lane, taylor};
use super::real::{Kernel, Real};
use crate::jet::{Activation, Algebra, Coefficient};

/// A factor of a term: a number, times a varying constant where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Factor {
    scale: f64,
    varying: Option<usize>,
}

/// lane[out] (+)= factor lane[a] lane[b]
#[derive(Clone, Copy, Debug)]
struct Term {
    out: usize,
    a: usize,
    b: usize,
    factor: Factor,
    /// The first term of a lane overwrites it.
    first: bool,
}

/// An algebra, prepared.
#[derive(Clone, Debug)]
pub struct Table {
    rows: usize,
    order: usize,
    /// Rows of the argument and of its powers.
    lanes: usize,
    /// In an order in which `a` and `b` are ready, and less than `out`.
    terms: Vec<Term>,
    /// By row: (k, lane of (n^k)_row) for k >= 2.
    powers: Vec<Vec<(usize, usize)>>,
    /// The table itself: (out, a, b).
    entries: Vec<(usize, usize, usize, Factor)>,
    /// One more than the last varying constant, 0 without any.
    varying: usize,
}

impl Table {
    /// Works out which rows of the powers can be nonzero.
    pub fn new(algebra: &Algebra) -> Self {
        let entries: Vec<_> = algebra
            .entries
            .iter()
            .map(|e| {
                let factor = match e.c {
                    Coefficient::Constant(scale) => Factor { scale, varying: None },
                    Coefficient::Varying(v) => Factor { scale: 1.0, varying: Some(v as usize) },
                };
                (e.out as usize, e.a as usize, e.b as usize, factor)
            })
            .filter(|e| e.3.scale != 0.0)
            .collect();
        let varying = entries.iter().filter_map(|e| e.3.varying).map(|v| v + 1).max().unwrap_or(0);
        let rows = algebra.rows;
        let mut table =
            Table { rows, order: algebra.order, lanes: rows, terms: vec![], powers: vec![vec![]; rows], entries, varying };
        // Lane of each row of n^(k-1).
        let mut last: Vec<Option<usize>> = (0..rows).map(|r| (r > 0).then_some(r)).collect();
        for k in 2..=algebra.order {
            let mut next = vec![None; rows];
            for (out, slot) in next.iter_mut().enumerate() {
                let mut products: Vec<(usize, usize, Factor)> = Vec::new();
                for &(_, a, b, factor) in table.entries.iter().filter(|e| e.0 == out) {
                    if k == 2 {
                        let scale = if a == b { factor.scale } else { 2.0 * factor.scale };
                        products.push((a, b, Factor { scale, ..factor }));
                        continue;
                    }
                    products.extend(last[a].map(|lane| (lane, b, factor)));
                    if a != b {
                        products.extend(last[b].map(|lane| (lane, a, factor)));
                    }
                }
                if products.is_empty() {
                    continue;
                }
                for (i, (a, b, factor)) in products.into_iter().enumerate() {
                    table.terms.push(Term { out: table.lanes, a, b, factor, first: i == 0 });
                }
                table.powers[out].push((k, table.lanes));
                *slot = Some(table.lanes);
                table.lanes += 1;
            }
            last = next;
        }
        table
    }

    /// Fills the lanes of the powers.
    #[inline(always)]
    fn raise<T: Real>(&self, n: &mut [Lane<T>], varying: &[Lane<T>]) {
        for term in &self.terms {
            let (low, high) = n.split_at_mut(term.out);
            let (a, b, out) = (&low[term.a], &low[term.b], &mut high[0]);
            match (term.factor.varying, term.first) {
                (None, true) => {
                    let c = T::lit(term.factor.scale);
                    (0..LANES).for_each(|l| out[l] = a[l] * b[l] * c);
                }
                (None, false) => {
                    let c = T::lit(term.factor.scale);
                    (0..LANES).for_each(|l| out[l] += a[l] * b[l] * c);
                }
                (Some(v), first) => {
                    let (c, v) = (T::lit(term.factor.scale), &varying[v]);
                    if first {
                        *out = [T::zero(); LANES];
                    }
                    (0..LANES).for_each(|l| out[l] += a[l] * b[l] * (c * v[l]));
                }
            }
        }
    }

    /// y_r = sum over k of coefficients_k (n^k)_r, row r > 0.
    #[inline(always)]
    fn combine<T: Real>(&self, r: usize, n: &[Lane<T>], coefficients: &[Lane<T>], y: &mut Lane<T>) {
        let (s, x) = (&coefficients[1], &n[r]);
        (0..LANES).for_each(|l| y[l] = s[l] * x[l]);
        for &(k, lane) in self.powers[r].iter().take_while(|p| p.0 < coefficients.len()) {
            let (s, p) = (&coefficients[k], &n[lane]);
            (0..LANES).for_each(|l| y[l] += s[l] * p[l]);
        }
    }

    /// All rows of sum over k of coefficients_k n^k.
    #[inline(always)]
    fn element<T: Real>(&self, n: &[Lane<T>], coefficients: &[Lane<T>], y: &mut [Lane<T>]) {
        y[0] = coefficients[0];
        for (r, y) in y.iter_mut().enumerate().take(self.rows).skip(1) {
            if coefficients.len() > 1 {
                self.combine(r, n, coefficients, y);
            } else {
                *y = [T::zero(); LANES];
            }
        }
    }

    /// v = transposed product with g, of bar.
    #[inline(always)]
    fn transposed<T: Real>(&self, g: &[Lane<T>], bar: &[Lane<T>], varying: &[Lane<T>], v: &mut [Lane<T>]) {
        (0..LANES).for_each(|l| v[0][l] = g[0][l] * bar[0][l]);
        for r in 1..self.rows {
            let (low, high) = v.split_at_mut(r);
            let (first, here, g0, gr, bar) = (&mut low[0], &mut high[0], &g[0], &g[r], &bar[r]);
            for l in 0..LANES {
                here[l] = g0[l] * bar[l];
                first[l] += gr[l] * bar[l];
            }
        }
        for &(out, a, b, factor) in &self.entries {
            // The product with g takes v_b to out by c g_a, and v_a by c g_b.
            for (to, g) in [(b, &g[a]), (a, &g[b])].into_iter().take(if a == b { 1 } else { 2 }) {
                let (bar, v, c) = (&bar[out], &mut v[to], T::lit(factor.scale));
                match factor.varying {
                    None => (0..LANES).for_each(|l| v[l] += c * g[l] * bar[l]),
                    Some(u) => (0..LANES).for_each(|l| v[l] += c * varying[u][l] * g[l] * bar[l]),
                }
            }
        }
    }
}

/// Lanes to work in, kept between calls.
#[derive(Debug, Default)]
pub struct Lanes<T> {
    n: Vec<Lane<T>>,
    s: Vec<Lane<T>>,
    g: Vec<Lane<T>>,
    bar: Vec<Lane<T>>,
    v: Vec<Lane<T>>,
    varying: Vec<Lane<T>>,
    q: Vec<Lane<T>>,
}

/// A tile of values: rows of `width` numbers, which are points of `features` numbers each.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Numbers in a row.
    pub width: usize,
    /// Numbers in a row of a point.
    pub features: usize,
}

/// What is computed.
pub enum Task<'a, T> {
    /// y = sigma(x): [rows, width]
    Forward {
        /// Result.
        y: &'a mut [T],
    },
    /// y = transposed product with sigma'(x) of bar: [rows, width]
    Adjoint {
        /// Adjoint of the result.
        bar: &'a [T],
        /// Adjoint of the argument.
        y: &'a mut [T],
    },
    /// y = adjoint of the varying constants: [points, m], added to.
    Coefficients {
        /// Adjoint of the result.
        bar: &'a [T],
        /// Adjoint of the constants.
        y: &'a mut [T],
    },
}

/// An activation or an adjoint of one, over a tile.
pub struct Apply<'a, T> {
    /// The algebra.
    pub table: &'a Table,
    /// sigma
    pub activation: Activation,
    /// [rows, width]
    pub x: &'a [T],
    /// How x is laid out.
    pub shape: Shape,
    /// [points, m]
    pub coefficients: &'a [T],
    /// m
    pub m: usize,
    /// Scratch.
    pub lanes: &'a mut Lanes<T>,
    /// What to do.
    pub task: Task<'a, T>,
}

/// Row-wise copy of up to LANES numbers from `start`, zeros behind them.
#[inline(always)]
fn load<T: Real>(from: &[T], width: usize, start: usize, count: usize, to: &mut [Lane<T>]) {
    for (r, lane) in to.iter_mut().enumerate() {
        let row = &from[r * width + start..][..count];
        if count < LANES {
            lane[count..].fill(T::zero());
        }
        lane[..count].copy_from_slice(row);
    }
}

impl<T: Real> Kernel for Apply<'_, T> {
    #[inline(always)]
    fn run(mut self) {
        let Apply { table, activation, x, shape: Shape { width, features }, coefficients, m, .. } = self;
        let (rows, order) = (table.rows, table.order);
        let zero = [T::zero(); LANES];
        let Lanes { n, s, g, bar: b, v, varying, q } = self.lanes;
        n.resize(table.lanes, zero);
        s.resize(order + 2, zero);
        for lanes in [&mut *g, b, v] {
            lanes.resize(rows, zero);
        }
        varying.resize(table.varying, zero);
        q.resize(m, zero);
        for start in (0..width).step_by(LANES) {
            let count = LANES.min(width - start);
            load(x, width, start, count, &mut n[..rows]);
            for l in 0..if table.varying > 0 { count } else { 0 } {
                let point = (start + l) / features;
                varying.iter_mut().enumerate().for_each(|(u, lane)| lane[l] = coefficients[point * m + u]);
            }
            table.raise(n, varying);
            match &mut self.task {
                Task::Forward { y } => {
                    taylor(activation, &n[0], &mut s[..order + 1]);
                    y[start..start + count].copy_from_slice(&s[0][..count]);
                    for r in 1..rows {
                        table.combine(r, n, &s[..order + 1], &mut v[0]);
                        y[r * width + start..][..count].copy_from_slice(&v[0][..count]);
                    }
                }
                Task::Adjoint { bar, y } => {
                    taylor(activation, &n[0], &mut s[..order + 2]);
                    for (k, s) in s.iter_mut().enumerate().skip(2) {
                        let k = T::lit(k as f64);
                        s.iter_mut().for_each(|s| *s *= k);
                    }
                    table.element(n, &s[1..order + 2], g);
                    load(bar, width, start, count, b);
                    table.transposed(g, b, varying, v);
                    for r in 0..rows {
                        y[r * width + start..][..count].copy_from_slice(&v[r][..count]);
                    }
                }
                Task::Coefficients { bar, y } => {
                    taylor(activation, &n[0], &mut s[..order + 1]);
                    load(bar, width, start, count, b);
                    q.fill(zero);
                    for i in 1..order {
                        table.element(n, &s[i + 1..order + 1], g);
                        table.transposed(g, b, varying, v);
                        let power = |row: usize| match i {
                            1 => Some(row),
                            _ => table.powers[row].iter().find(|p| p.0 == i).map(|p| p.1),
                        };
                        for &(out, first, second, factor) in &table.entries {
                            let Some(u) = factor.varying else { continue };
                            let both = [(first, second), (second, first)];
                            for (row, other) in both.into_iter().take(if first == second { 1 } else { 2 }) {
                                let Some(lane) = power(other) else { continue };
                                (0..LANES).for_each(|l| q[u][l] += v[out][l] * n[row][l] * n[lane][l]);
                            }
                        }
                    }
                    for l in 0..count {
                        let point = (start + l) / features;
                        q.iter().enumerate().for_each(|(u, q)| y[point * m + u] += q[l]);
                    }
                }
            }
        }
    }
}

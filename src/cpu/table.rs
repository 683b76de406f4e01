//! Activations in an algebra: straight-line code over lanes, in the order of [`Powers`]. Everything but the powers is a sum
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

use super::activation::{LANES, Lane, Taylor};
use super::real::{Kernel, Real};
use crate::jet::Activation;
use crate::jet::powers::Powers;

impl Powers {
    /// Fills the lanes of the powers, which start with the first lane behind the rows.
    #[inline(always)]
    fn raise<T: Real>(&self, x: &Rows<T>, powers: &mut [Lane<T>], varying: &[Lane<T>]) {
        for term in &self.terms {
            let (low, high) = powers.split_at_mut(term.out - self.rows);
            let (a, b, out) = (self.lane(x, low, term.a), self.lane(x, low, term.b), &mut high[0]);
            let c = T::lit(term.factor.scale);
            match (term.factor.varying, term.first) {
                (None, true) => {
                    for l in 0..LANES {
                        out[l] = a[l] * b[l] * c;
                    }
                }
                (None, false) => {
                    for l in 0..LANES {
                        out[l] += a[l] * b[l] * c;
                    }
                }
                (Some(v), true) => {
                    for l in 0..LANES {
                        out[l] = a[l] * b[l] * (c * varying[v][l]);
                    }
                }
                (Some(v), false) => {
                    for l in 0..LANES {
                        out[l] += a[l] * b[l] * (c * varying[v][l]);
                    }
                }
            }
        }
    }

    /// Row `row` of n^i, i >= 1, where it can be nonzero.
    #[inline(always)]
    fn power<'a, T: Real>(&self, x: &Rows<'a, T>, powers: &'a [Lane<T>], i: usize, row: usize) -> Option<&'a Lane<T>> {
        match i {
            1 => Some(x.row(row)),
            _ => self.powers[row].iter().find(|p| p.0 == i).map(|p| self.lane(x, powers, p.1)),
        }
    }

    /// A row of the argument or of a power of it.
    #[inline(always)]
    fn lane<'a, T: Real>(&self, x: &Rows<'a, T>, powers: &'a [Lane<T>], lane: usize) -> &'a Lane<T> {
        if lane < self.rows { x.row(lane) } else { &powers[lane - self.rows] }
    }

    /// y_r = sum over k of coefficients_k (n^k)_r, row r > 0.
    #[inline(always)]
    fn combine<T: Real>(&self, r: usize, x: &Rows<T>, powers: &[Lane<T>], coefficients: &[Lane<T>], y: &mut Lane<T>) {
        let (s, x) = (&coefficients[1], x.row(r));
        for l in 0..LANES {
            y[l] = s[l] * x[l];
        }
        for &(k, lane) in self.powers[r].iter().take_while(|p| p.0 < coefficients.len()) {
            let (s, p) = (&coefficients[k], &powers[lane - self.rows]);
            for l in 0..LANES {
                y[l] += s[l] * p[l];
            }
        }
    }

    /// All rows of sum over k of coefficients_k n^k.
    #[inline(always)]
    fn element<T: Real>(&self, x: &Rows<T>, powers: &[Lane<T>], coefficients: &[Lane<T>], y: &mut [Lane<T>]) {
        y[0] = coefficients[0];
        for (r, y) in y.iter_mut().enumerate().take(self.rows).skip(1) {
            if coefficients.len() > 1 {
                self.combine(r, x, powers, coefficients, y);
            } else {
                *y = [T::zero(); LANES];
            }
        }
    }

    /// v = transposed product with g, of bar.
    #[inline(always)]
    fn transposed<T: Real>(&self, g: &[Lane<T>], bar: &Rows<T>, varying: &[Lane<T>], v: &mut RowsMut<T>) {
        let (first, g0, bar0) = (v.row(0), &g[0], bar.row(0));
        for l in 0..LANES {
            first[l] = g0[l] * bar0[l];
        }
        for (r, gr) in g.iter().enumerate().skip(1) {
            let (bar, first) = (bar.row(r), v.row(0));
            for l in 0..LANES {
                first[l] += gr[l] * bar[l];
            }
            let here = v.row(r);
            for l in 0..LANES {
                here[l] = g0[l] * bar[l];
            }
        }
        for &(out, a, b, factor) in &self.entries {
            // The product with g takes v_b to out by c g_a, and v_a by c g_b.
            for (to, g) in [(b, &g[a]), (a, &g[b])].into_iter().take(if a == b { 1 } else { 2 }) {
                let (bar, v, c) = (bar.row(out), v.row(to), T::lit(factor.scale));
                match factor.varying {
                    None => {
                        for l in 0..LANES {
                            v[l] += c * g[l] * bar[l];
                        }
                    }
                    Some(u) => {
                        for l in 0..LANES {
                            v[l] += c * varying[u][l] * g[l] * bar[l];
                        }
                    }
                }
            }
        }
    }
}

/// `LANES` numbers of each row, which are `stride` apart.
#[derive(Clone, Copy)]
struct Rows<'a, T> {
    elements: &'a [T],
    stride: usize,
    at: usize,
}

impl<'a, T> Rows<'a, T> {
    #[inline(always)]
    fn row(&self, r: usize) -> &'a Lane<T> {
        self.elements[r * self.stride + self.at..].first_chunk().expect("rows hold a lane")
    }
}

/// The same, to write to.
struct RowsMut<'a, T> {
    elements: &'a mut [T],
    stride: usize,
    at: usize,
}

impl<T> RowsMut<'_, T> {
    #[inline(always)]
    fn row(&mut self, r: usize) -> &mut Lane<T> {
        self.elements[r * self.stride + self.at..].first_chunk_mut().expect("rows hold a lane")
    }
}

/// Room to work in, kept between calls.
#[derive(Debug, Default)]
pub struct Lanes<T> {
    powers: Vec<Lane<T>>,
    s: Vec<Lane<T>>,
    g: Vec<Lane<T>>,
    v: Vec<Lane<T>>,
    varying: Vec<Lane<T>>,
    q: Vec<Lane<T>>,
    /// Ends of rows that fill no lane.
    x: Vec<Lane<T>>,
    bar: Vec<Lane<T>>,
}

/// A tile of values: rows of `width` numbers, which are points of `features` numbers each.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Numbers in a row.
    pub width: usize,
    /// Numbers in a row of a point.
    pub features: usize,
}

/// What is computed, from the adjoint of the result where there is one: [rows, width].
#[derive(Clone, Copy)]
pub enum Task<'a, T> {
    /// y = sigma(x): [rows, width]
    Forward,
    /// y = transposed product with sigma'(x) of the adjoint: [rows, width]
    Adjoint(&'a [T]),
    /// y = adjoint of the varying constants: [points, m], added to.
    Coefficients(&'a [T]),
}

/// An activation or an adjoint of one, over a tile.
pub struct Apply<'a, T> {
    /// The algebra.
    pub table: &'a Powers,
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
    /// Result.
    pub y: &'a mut [T],
}

/// Where a row is whole, the lanes from `start` on; else a copy in `pad` with zeros behind it.
#[inline(always)]
fn lanes<'a, T: Real>(from: &'a [T], width: usize, start: usize, pad: &'a mut [Lane<T>]) -> Rows<'a, T> {
    if start + LANES <= width {
        return Rows { elements: from, stride: width, at: start };
    }
    let count = width - start;
    for (row, lane) in from.chunks_exact(width).zip(pad.iter_mut()) {
        lane[count..].fill(T::zero());
        lane[..count].copy_from_slice(&row[start..]);
    }
    Rows { elements: pad.as_flattened(), stride: LANES, at: 0 }
}

impl<T: Real> Kernel for Apply<'_, T> {
    #[inline(always)]
    fn run(self) {
        let Apply { table, activation, x, shape: Shape { width, features }, coefficients, m, task, y, .. } = self;
        let (rows, order) = (table.rows, table.order);
        let zero = [T::zero(); LANES];
        let Lanes { powers, s, g, v, varying, q, x: x_pad, bar: bar_pad } = self.lanes;
        powers.resize(table.lanes - rows, zero);
        s.resize(order + 2, zero);
        for lanes in [&mut *g, v, x_pad, bar_pad] {
            lanes.resize(rows, zero);
        }
        varying.resize(table.varying, zero);
        q.resize(m, zero);
        for start in (0..width).step_by(LANES) {
            let count = LANES.min(width - start);
            let whole = count == LANES;
            let x = lanes(x, width, start, x_pad);
            for l in 0..if table.varying > 0 { count } else { 0 } {
                let point = (start + l) / features;
                for (lane, c) in varying.iter_mut().zip(&coefficients[point * m..]) {
                    lane[l] = *c;
                }
            }
            table.raise(&x, powers, varying);
            let terms = if matches!(task, Task::Adjoint(_)) { order + 2 } else { order + 1 };
            let s = &mut s[..terms];
            T::taylor(Taylor { activation, x: x.row(0), s });
            if let Task::Coefficients(bar) = task {
                let bar = lanes(bar, width, start, bar_pad);
                q.fill(zero);
                for i in 1..order {
                    table.element(&x, powers, &s[i + 1..], g);
                    let v = &mut RowsMut { elements: v.as_flattened_mut(), stride: LANES, at: 0 };
                    table.transposed(g, &bar, varying, v);
                    for &(out, first, second, factor) in &table.entries {
                        let Some(u) = factor.varying else { continue };
                        let both = [(first, second), (second, first)];
                        for (row, other) in both.into_iter().take(if first == second { 1 } else { 2 }) {
                            let Some(p) = table.power(&x, powers, i, other) else { continue };
                            let (n, v, q) = (x.row(row), v.row(out), &mut q[u]);
                            for l in 0..LANES {
                                q[l] += v[l] * n[l] * p[l];
                            }
                        }
                    }
                }
                for l in 0..count {
                    let point = (start + l) / features;
                    for (y, q) in y[point * m..].iter_mut().zip(q.iter()) {
                        *y += q[l];
                    }
                }
                continue;
            }
            let mut to = match whole {
                true => RowsMut { elements: &mut *y, stride: width, at: start },
                false => RowsMut { elements: v.as_flattened_mut(), stride: LANES, at: 0 },
            };
            if let Task::Adjoint(bar) = task {
                for (k, s) in s.iter_mut().enumerate().skip(2) {
                    let k = T::lit(k as f64);
                    for s in s.iter_mut() {
                        *s *= k;
                    }
                }
                table.element(&x, powers, &s[1..], g);
                table.transposed(g, &lanes(bar, width, start, bar_pad), varying, &mut to);
            } else {
                *to.row(0) = s[0];
                for r in 1..rows {
                    table.combine(r, &x, powers, s, to.row(r));
                }
            }
            if !whole {
                for (y, v) in y.chunks_exact_mut(width).zip(v.iter()) {
                    y[start..].copy_from_slice(&v[..count]);
                }
            }
        }
    }
}

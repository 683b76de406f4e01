//! Taylor coefficients of expressions along a curve: univariate arithmetic on the graph.
//!
//! A [`Curve`] knows the coefficients of what moves: columns of the point, and rows of network outputs. Coefficient k of an
//! expression is an expression in those of order at most k. Products are Cauchy sums; a function g of one number has
//! k y_k = sum over i of i a_i g'(a)_(k-i), where g' is the graph's own derivative. Coefficients are computed once, so all up
//! to order p cost O(p^2) operations for each node of the expression.

use super::construct::ratio;
use super::graph::{Func, Graph, Id, Node};
use super::index::Symbol;
use crate::program::Function;
use num_rational::BigRational;
use num_traits::One;
use std::collections::HashMap;

/// A curve through the point, as far as its coefficients are known.
#[derive(Default)]
pub struct Curve {
    /// By column: its coefficients, 0 beyond those that are there; none where the column rests.
    pub columns: Vec<Vec<Id>>,
    /// By network call: where the rows of each coefficient of its output are: the number of a value, and the first row there.
    pub calls: HashMap<u32, Vec<(u32, usize)>>,
    known: HashMap<Id, Vec<Id>>,
    moves: HashMap<Id, bool>,
}

impl Curve {
    /// A curve whose columns have these coefficients.
    pub fn new(columns: Vec<Vec<Id>>) -> Self {
        Curve { columns, ..Curve::default() }
    }

    /// Coefficient k of an expanded expression without reductions over what moves.
    pub fn coefficient(&mut self, graph: &mut Graph, id: Id, k: usize) -> Id {
        while self.known.get(&id).map_or(0, Vec::len) <= k {
            let order = self.known.get(&id).map_or(0, Vec::len);
            let next = self.next(graph, id, order);
            self.known.entry(id).or_default().push(next);
        }
        self.known[&id][k]
    }

    fn moves(&mut self, graph: &Graph, id: Id) -> bool {
        if let Some(done) = self.moves.get(&id) {
            return *done;
        }
        let moves = match graph.node(id) {
            Node::Point(index) => index.as_constant().is_none_or(|column| !self.columns[column as usize].is_empty()),
            Node::Row(..) => true,
            _ => graph.children(id).into_iter().any(|c| self.moves(graph, c)),
        };
        self.moves.insert(id, moves);
        moves
    }

    /// Coefficient k, where all lower ones are known.
    fn next(&mut self, graph: &mut Graph, id: Id, k: usize) -> Id {
        if !self.moves(graph, id) {
            return if k == 0 { id } else { graph.int(0) };
        }
        match graph.node(id).clone() {
            Node::Point(index) => {
                let column = index.as_constant().expect("reductions over columns are written out") as usize;
                self.columns[column].get(k).copied().unwrap_or_else(|| graph.int(0))
            }
            Node::Row(call, row, component) => {
                let (value, first) = self.calls[&call][k];
                graph.intern(Node::Row(value, row.shift(first as i64), component))
            }
            Node::Add(terms, constant) => {
                let constant = if k == 0 { constant } else { BigRational::from_integer(0.into()) };
                let mut out = vec![(graph.int(1), constant)];
                for (term, c) in terms {
                    out.push((self.coefficient(graph, term, k), c));
                }
                graph.linear(out)
            }
            Node::Mul(factors) => match factors[..] {
                [(base, -1)] => self.reciprocal(graph, id, base, k),
                [(base, e)] => {
                    // halves: high powers are few products
                    let (first, rest) = (graph.powi(base, e / 2), graph.powi(base, e - e / 2));
                    self.product(graph, first, rest, k)
                }
                _ => {
                    let first = graph.product(factors[..1].iter().copied());
                    let rest = graph.product(factors[1..].iter().copied());
                    self.product(graph, first, rest, k)
                }
            },
            Node::Power(base, exponent) if self.moves(graph, exponent) => {
                let log = graph.call(Function::Log, vec![base]);
                let product = graph.mul(exponent, log);
                let power = graph.call(Function::Exp, vec![product]);
                self.coefficient(graph, power, k)
            }
            Node::Power(base, exponent) => {
                let first = self.coefficient(graph, base, 0);
                if k == 0 {
                    return graph.power(first, exponent);
                }
                let one = graph.int(1);
                let less = graph.sub(exponent, one);
                let power = graph.power(base, less);
                let slope = graph.mul(exponent, power);
                self.chain(graph, base, slope, k)
            }
            Node::Call(Func::Of(f @ (Function::Min | Function::Max)), a) => {
                let x = self.coefficient(graph, a[0], 0);
                let y = self.coefficient(graph, a[1], 0);
                if k == 0 {
                    return graph.call(f, vec![x, y]);
                }
                let [first, second] = graph.choice(f == Function::Max, x, y);
                let (x, y) = (self.coefficient(graph, a[0], k), self.coefficient(graph, a[1], k));
                let (x, y) = (graph.mul(first, x), graph.mul(second, y));
                graph.add(x, y)
            }
            Node::Call(f, a) if k == 0 => {
                let a: Vec<Id> = a.iter().map(|a| self.coefficient(graph, *a, 0)).collect();
                match f {
                    Func::Of(f) => graph.call(f, a),
                    _ => graph.intern(Node::Call(f, a)),
                }
            }
            Node::Call(f, a) => {
                let slope = graph.slope(id, f, &a);
                self.chain(graph, a[0], slope, k)
            }
            node => unreachable!("{node:?} does not move, or was expanded"),
        }
    }

    fn product(&mut self, graph: &mut Graph, a: Id, b: Id, k: usize) -> Id {
        let mut terms = Vec::new();
        for i in 0..=k {
            let (x, y) = (self.coefficient(graph, a, i), self.coefficient(graph, b, k - i));
            terms.push((graph.mul(x, y), BigRational::one()));
        }
        graph.linear(terms)
    }

    /// r = 1/a: r_0 = 1/a_0, r_k = -r_0 sum over i >= 1 of a_i r_(k-i). The lower coefficients are those of `id`.
    fn reciprocal(&mut self, graph: &mut Graph, id: Id, a: Id, k: usize) -> Id {
        let first = self.coefficient(graph, a, 0);
        let first = graph.powi(first, -1);
        if k == 0 {
            return first;
        }
        let mut terms = Vec::new();
        for i in 1..=k {
            let (x, r) = (self.coefficient(graph, a, i), self.known[&id][k - i]);
            terms.push((graph.mul(x, r), -BigRational::one()));
        }
        let sum = graph.linear(terms);
        graph.mul(first, sum)
    }

    /// y_k = 1/k sum over i >= 1 of i a_i d_(k-i), for y' = d a'.
    fn chain(&mut self, graph: &mut Graph, a: Id, slope: Id, k: usize) -> Id {
        let mut terms = Vec::new();
        for i in 1..=k {
            let x = self.coefficient(graph, a, i);
            if graph.is_zero(x) {
                continue;
            }
            let d = self.coefficient(graph, slope, k - i);
            terms.push((graph.mul(x, d), ratio(i as i64, k as i64)));
        }
        graph.linear(terms)
    }
}

impl Graph {
    /// Writes out every reduction that depends on columns of the point or rows of networks.
    pub fn without_reductions(&mut self, id: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let moves = |node: &Node| matches!(node, Node::Point(_) | Node::Row(..) | Node::Atom(_));
        let out = match *self.node(id) {
            _ if !self.holds(id, moves) => id,
            Node::Reduce { reduction, lo, hi, .. } => {
                let (var, body) = self.open(id).expect("a reduction");
                let mut parts = Vec::new();
                for k in lo..hi {
                    let part = self.substitute(body, var, &super::index::Index::constant(k));
                    parts.push(self.without_reductions(part, memo));
                }
                self.combine(reduction, parts)
            }
            _ => self.map_children(id, &mut |g, c| g.without_reductions(c, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
    }
}

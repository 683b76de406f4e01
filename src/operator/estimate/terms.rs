//! An operator as a sum of terms: coefficient times derivatives of fields, over ranges of indices.

use super::{Estimate, Unfit};
use crate::operator::graph::{Atom, Graph, Id, Node};
use crate::operator::index::{Index, IndexVar, LoopVar, Symbol};
use crate::program::Reduction;
use num_traits::Zero;

/// More terms than this are not collected.
const MAX_TERMS: usize = 1000;
/// Highest power of a derivative.
const MAX_POWER: i32 = 8;

/// sum over ranges of coefficient times a product of derivatives.
#[derive(Clone, Debug)]
pub struct Term {
    /// Holds no network.
    pub coefficient: Id,
    /// Variable, first index, one past the last.
    pub ranges: Vec<(LoopVar, i64, i64)>,
    /// The derivatives.
    pub factors: Vec<Factor>,
}

/// The derivative of a field along symbols.
#[derive(Clone, Debug)]
pub struct Factor {
    /// Along what; empty for the field itself.
    pub symbols: Vec<Symbol>,
    /// An expression that is not taken apart.
    pub field: Id,
}

/// A symbol that an index of a range runs through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Position among the factors.
    pub factor: usize,
    /// Position among the symbols of the factor.
    pub symbol: usize,
    /// Position among the ranges.
    pub range: usize,
    /// The column is the index plus this.
    pub offset: i64,
}

impl Term {
    /// A term of one factor.
    fn field(graph: &mut Graph, field: Id) -> Term {
        Term { coefficient: graph.int(1), ranges: vec![], factors: vec![Factor { symbols: vec![], field }] }
    }

    /// Where indices of the ranges stand; an error if one stands anywhere but in a coefficient or alone in a symbol.
    pub fn places(&self, graph: &Graph) -> Result<Vec<Place>, Unfit> {
        let unfit = || Unfit("an index stands in a field, or together with another one".into());
        let of = |var: LoopVar| self.ranges.iter().position(|r| r.0 == var);
        let mut places = Vec::new();
        for (f, factor) in self.factors.iter().enumerate() {
            if graph.free_vars(factor.field).iter().any(|v| of(*v).is_some()) {
                return Err(unfit());
            }
            for (s, symbol) in factor.symbols.iter().enumerate() {
                if !symbol.loop_vars().into_iter().any(|v| of(v).is_some()) {
                    continue;
                }
                let Symbol::Column(Index { offset, terms }) = symbol else { return Err(unfit()) };
                let [(IndexVar::Loop(var), 1)] = terms[..] else { return Err(unfit()) };
                let range = of(var).ok_or_else(unfit)?;
                places.push(Place { factor: f, symbol: s, range, offset: *offset });
            }
        }
        Ok(places)
    }

    /// Whether an expression holds an index of a sum around the term.
    pub fn holds_outer(&self, graph: &Graph, id: Id) -> bool {
        graph.free_vars(id).iter().any(|v| !self.ranges.iter().any(|r| r.0 == *v))
    }

    /// The product of the derivatives.
    pub fn derivatives(&self, graph: &mut Graph) -> Id {
        let mut factors = Vec::new();
        for factor in &self.factors {
            let d = factor.symbols.iter().fold(factor.field, |d, symbol| graph.along(d, symbol));
            factors.push((d, 1));
        }
        graph.product(factors)
    }

    /// The term as it is: nothing estimated.
    pub fn exact(&self, graph: &mut Graph) -> Id {
        let derivatives = self.derivatives(graph);
        let body = graph.mul(self.coefficient, derivatives);
        self.ranges.iter().rev().fold(body, |b, (var, lo, hi)| graph.reduce(Reduction::Sum, *var, *lo, *hi, b, None))
    }

    fn times(&self, other: &Term, graph: &mut Graph) -> Term {
        Term {
            coefficient: graph.mul(self.coefficient, other.coefficient),
            ranges: self.ranges.iter().chain(&other.ranges).copied().collect(),
            factors: self.factors.iter().chain(&other.factors).cloned().collect(),
        }
    }

    /// The product rule.
    fn derive(&self, graph: &mut Graph, symbol: &Symbol, out: &mut Vec<Term>) {
        let d = graph.derivative(self.coefficient, symbol);
        let d = graph.expand(d);
        if !graph.is_zero(d) {
            out.push(Term { coefficient: d, ..self.clone() });
        }
        for k in 0..self.factors.len() {
            let mut term = self.clone();
            term.factors[k].symbols.push(symbol.clone());
            out.push(term);
        }
    }
}

/// The terms of an expression. Sums inside functions that are not linear are estimated by `inside`, and the whole is a field.
pub fn collect(
    graph: &mut Graph,
    id: Id,
    how: &Estimate,
    inside: &mut dyn FnMut(&mut Graph, Id) -> Result<Id, Unfit>,
) -> Result<Vec<Term>, Unfit> {
    if !graph.has_atom(id) {
        return Ok(vec![Term { coefficient: id, ranges: vec![], factors: vec![] }]);
    }
    if !graph.holds_derivative(id) || how.settled.contains(&id) {
        return Ok(vec![Term::field(graph, id)]);
    }
    let mut out = Vec::new();
    match graph.node(id).clone() {
        Node::Add(terms, constant) => {
            for (t, c) in terms {
                for mut term in collect(graph, t, how, inside)? {
                    term.coefficient = graph.scale(c.clone(), term.coefficient);
                    out.push(term);
                }
            }
            if !constant.is_zero() {
                out.push(Term { coefficient: graph.num(constant), ranges: vec![], factors: vec![] });
            }
        }
        Node::Mul(factors)
            if factors.iter().all(|(f, e)| !graph.holds_derivative(*f) || (0..=MAX_POWER).contains(e)) =>
        {
            out.push(Term { coefficient: graph.int(1), ranges: vec![], factors: vec![] });
            for (f, e) in factors {
                let (f, times) = if graph.holds_derivative(f) { (f, e) } else { (graph.powi(f, e), 1) };
                for _ in 0..times {
                    // opened anew each time, so that the indices of a square differ
                    let right = collect(graph, f, how, inside)?;
                    let pairs = out.iter().flat_map(|a| right.iter().map(move |b| (a, b)));
                    out = pairs.map(|(a, b)| a.times(b, graph)).collect();
                }
            }
        }
        Node::Reduce { reduction: Reduction::Sum, lo, hi, sampler: None, .. } => {
            let (var, body) = graph.open(id).expect("a reduction");
            for mut term in collect(graph, body, how, inside)? {
                term.ranges.insert(0, (var, lo, hi));
                out.push(term);
            }
        }
        Node::Derivative(symbol, of) => {
            for term in collect(graph, of, how, inside)? {
                term.derive(graph, &symbol, &mut out);
            }
        }
        Node::Atom(atom) => {
            let field = graph.intern(Node::Atom(Atom { symbols: vec![], ..atom.clone() }));
            out.push(Term::field(graph, field));
            out[0].factors[0].symbols = atom.symbols;
        }
        Node::Reduce { .. } => out.push(Term::field(graph, id)),
        _ => {
            let mut children = Vec::new();
            for c in graph.children(id) {
                children.push(inside(graph, c)?);
            }
            let mut children = children.into_iter();
            let field = graph.map_children(id, &mut |_, c| children.next().unwrap_or(c), Symbol::clone);
            out.push(Term::field(graph, field));
        }
    }
    match out.len() <= MAX_TERMS {
        true => Ok(out),
        false => Err(Unfit(format!("it has more than {MAX_TERMS} terms"))),
    }
}

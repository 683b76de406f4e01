//! Random directions: a pair of derivatives along one index, sum_i c_i A(i) B(i), is the mean of A(a) B(b) over random
//! directions a, b with E[a b^T] = diag(c); a pair along two indices likewise with E[a b^T] = C.
//!
//! With r of independent components of mean 0 and variance 1, signs or Gaussian:
//!
//! - c = 1: a = b = r;
//! - c >= 0 for certain: a = b = sqrt(c) r;
//! - other c: a = sqrt|c| r, b = sign(c) sqrt|c| r;
//! - C: a = C r, b = r;
//! - several pairs: each its own r, but for sum_ij D_iijj u, from fourth moments of one r: E_gauss[D_r^4 u]/3, or
//!   (E_signs[D_r^4 u] + 2 sum_i D_iiii u)/3, which has less variance;
//! - sum_i D_iiii u = (E_gauss - E_signs)[D_r^4 u]/2.
//!
//! The trace of a Jacobian, sum_j c_j d_j G_j of many fields, is the mean of sum_j c_j r_j D_r G_j (Hutchinson; Skilling).
//!
//! A derivative along one index alone, sum_i b_i A(i), is the derivative along b, exactly.

use super::terms::{Place, Term, collect};
use super::{Estimate, Unfit, mark};
use crate::operator::construct::ratio;
use crate::operator::graph::{Func, Graph, Id, Node, SamplerKind};
use crate::operator::index::{Index, LoopVar, Slot, Symbol};
use crate::program::{Function, Reduction};
use num_rational::BigRational;
use num_traits::{One, Signed};
use std::collections::{HashMap, HashSet};

pub fn estimate(graph: &mut Graph, id: Id, how: &Estimate, k: usize, gaussian: bool) -> Result<Id, Unfit> {
    let terms = collect(graph, id, how, &mut |g, c| estimate(g, c, how, k, gaussian))?;
    let mut sum = Vec::new();
    let (trace, terms): (Vec<_>, Vec<_>) = terms.into_iter().partition(|t| component(graph, t).is_some());
    let terms = match is_trace(graph, &trace, k) {
        true => {
            sum.push((Dense { graph, how, k, gaussian }.trace(&trace), BigRational::one()));
            terms
        }
        false => trace.into_iter().chain(terms).collect(),
    };
    for term in terms {
        let value = Dense { graph, how, k, gaussian }.term(term)?;
        sum.push((value, BigRational::one()));
    }
    Ok(graph.linear(sum))
}

/// Of a term c_j d_j G_j without ranges: the column j, and G_j.
fn component(graph: &Graph, term: &Term) -> Option<(i64, Id)> {
    let ([factor], true) = (&term.factors[..], term.ranges.is_empty()) else { return None };
    match &factor.symbols[..] {
        [Symbol::Column(index)] if matches!(graph.node(factor.field), Node::Atom(_)) => {
            Some((index.as_constant()?, factor.field))
        }
        _ => None,
    }
}

/// Whether terms are the trace of a Jacobian: each along a column of its own, of a field of its own, and more than k.
fn is_trace(graph: &Graph, terms: &[Term], k: usize) -> bool {
    let parts: Vec<(i64, Id)> = terms.iter().filter_map(|t| component(graph, t)).collect();
    let columns: HashSet<i64> = parts.iter().map(|p| p.0).collect();
    let fields: HashSet<Id> = parts.iter().map(|p| p.1).collect();
    parts.len() > k && columns.len() == parts.len() && fields.len() == parts.len()
}

fn unfit(why: &str) -> Unfit {
    Unfit(why.into())
}

struct Dense<'g, 'h> {
    graph: &'g mut Graph,
    how: &'h Estimate<'h>,
    k: usize,
    gaussian: bool,
}

/// Ranges, and the factors that their indices stand in.
type Shared = (Vec<usize>, Vec<(Id, i32)>);

/// Ranges whose indices meet in one coefficient.
struct Group {
    ranges: Vec<usize>,
    coefficient: Id,
    places: Vec<Place>,
}

impl Dense<'_, '_> {
    fn term(&mut self, mut term: Term) -> Result<Id, Unfit> {
        let places = term.places(self.graph)?;
        if places.is_empty() {
            return Ok(term.exact(self.graph));
        }
        let (rest, groups) = self.groups(&term, &places)?;
        let pairs: Vec<&Group> = groups.iter().filter(|g| g.places.len() == 2).collect();
        if groups.len() == 2 && pairs.len() == 2 && self.biharmonic(&pairs, &term) {
            let sum = self.fourth(&term, pairs[0], pairs[1])?;
            return Ok(self.graph.mul(rest, sum));
        }
        let slot = self.graph.fresh(0, self.k as i64);
        let mut number = 0;
        let mut random = false;
        for group in &groups {
            match group.places[..] {
                [place] => {
                    let symbol = self.along(&term, group, place)?;
                    term.factors[place.factor].symbols[place.symbol] = symbol;
                }
                [a, b] => {
                    random = true;
                    let [x, y] = self.pair(&term, group, [a, b], slot, number)?;
                    number += 1;
                    term.factors[a.factor].symbols[a.symbol] = x;
                    term.factors[b.factor].symbols[b.symbol] = y;
                }
                [p, q, r, s] if groups.len() == 1 && self.one_index(group) => {
                    let sum = self.quartic(&term, [p, q, r, s])?;
                    return Ok(self.graph.mul(rest, sum));
                }
                _ => return Err(unfit("an index stands in three derivatives, or in more than four")),
            }
        }
        let body = term.derivatives(self.graph);
        let value = if random { self.mean(slot, body) } else { body };
        Ok(self.graph.mul(rest, value))
    }

    /// sum_j c_j d_j G_j as the mean of sum_j c_j r_j D_r G_j.
    fn trace(&mut self, terms: &[Term]) -> Id {
        let columns: Vec<i64> = terms.iter().filter_map(|t| Some(component(self.graph, t)?.0)).collect();
        let (lo, hi) = columns.iter().fold((i64::MAX, i64::MIN), |(lo, hi), c| (lo.min(*c), hi.max(*c + 1)));
        let sampler = self.directions(lo, hi, self.gaussian, 0);
        let slot = self.graph.fresh(0, self.k as i64);
        let mut sum = Vec::new();
        for (term, column) in terms.iter().zip(columns) {
            let mut term = term.clone();
            term.factors[0].symbols[0] = Symbol::Direction { sampler, slot: Slot::Loop(slot) };
            let column = Index::constant(column);
            let r = self.graph.intern(Node::Direction { sampler, slot: Slot::Loop(slot), column });
            let along = term.derivatives(self.graph);
            let weight = self.graph.mul(term.coefficient, r);
            sum.push((self.graph.mul(weight, along), BigRational::one()));
        }
        let body = self.graph.linear(sum);
        self.mean(slot, body)
    }

    /// 1/k times the sum over the slots.
    fn mean(&mut self, slot: LoopVar, body: Id) -> Id {
        let k = self.k as i64;
        let sum = self.graph.reduce(Reduction::Sum, slot, 0, k, body, None);
        self.graph.scale(ratio(1, k), sum)
    }

    /// The coefficient, split: what depends on no index, and one group for each set of ranges that share a factor. An
    /// index that stands in no derivative is summed over at once.
    fn groups(&mut self, term: &Term, places: &[Place]) -> Result<(Id, Vec<Group>), Unfit> {
        let mut coefficient = term.coefficient;
        for (r, &(var, lo, hi)) in term.ranges.iter().enumerate() {
            if places.iter().all(|p| p.range != r) {
                coefficient = self.graph.reduce(Reduction::Sum, var, lo, hi, coefficient, None);
            }
        }
        let factors = match self.graph.node(coefficient) {
            Node::Mul(factors) => factors.clone(),
            _ => vec![(coefficient, 1)],
        };
        let used = |r: &usize| places.iter().any(|p| p.range == *r);
        let mut sets: Vec<Shared> = (0..term.ranges.len()).filter(used).map(|r| (vec![r], vec![])).collect();
        let mut rest = Vec::new();
        for (f, e) in factors {
            let vars = self.graph.free_vars(f);
            let holds = |set: &Shared| set.0.iter().any(|r| vars.contains(&term.ranges[*r].0));
            let (touched, others): (Vec<_>, Vec<_>) = sets.into_iter().partition(holds);
            sets = others;
            if touched.is_empty() {
                rest.push((f, e));
                continue;
            }
            let mut joined = (vec![], vec![(f, e)]);
            for (ranges, factors) in touched {
                joined.0.extend(ranges);
                joined.1.extend(factors);
            }
            sets.push(joined);
        }
        let rest = self.graph.product(rest);
        let mut groups = Vec::new();
        for (mut ranges, factors) in sets {
            ranges.sort_unstable();
            let coefficient = self.graph.product(factors);
            if self.graph.holds(coefficient, |n| matches!(n, Node::Param(p) if (self.how.learned)(*p))) {
                return Err(unfit("a coefficient that varies with the index holds a learned parameter"));
            }
            if term.holds_outer(self.graph, coefficient) {
                return Err(unfit(
                    "a coefficient holds the index of a sum around it, in a function that is not linear",
                ));
            }
            let places: Vec<Place> = places.iter().filter(|p| ranges.contains(&p.range)).copied().collect();
            groups.push(Group { ranges, coefficient, places });
        }
        groups.sort_by_key(|g| g.ranges[0]);
        Ok((rest, groups))
    }

    /// One index, and the same coefficient for all its values.
    fn one_index(&self, group: &Group) -> bool {
        group.ranges.len() == 1 && self.graph.as_num(group.coefficient).is_some()
    }

    /// Two pairs of derivatives of one field along all columns of one range, without coefficients.
    fn biharmonic(&self, pairs: &[&Group], term: &Term) -> bool {
        let places: Vec<&Place> = pairs.iter().flat_map(|g| &g.places).collect();
        let range = |p: &Place| {
            let (_, lo, hi) = term.ranges[p.range];
            (lo + p.offset, hi + p.offset)
        };
        pairs.iter().all(|g| self.one_index(g))
            && places.iter().all(|p| p.factor == places[0].factor && range(p) == range(places[0]))
    }

    /// The sampler of random directions over the columns lo..hi.
    fn directions(&mut self, lo: i64, hi: i64, gaussian: bool, number: usize) -> u32 {
        let name = match number {
            0 => self.how.name.to_string(),
            n => format!("{} {n}", self.how.name),
        };
        self.graph.sampler(&name, SamplerKind::Dense { k: self.k, gaussian }, lo, hi)
    }

    /// k vectors over the columns lo..hi, given a function from column and slot to the component.
    fn vectors(
        &mut self,
        (k, lo, hi): (usize, i64, i64),
        component: impl FnOnce(&mut Self, LoopVar, LoopVar) -> Id,
    ) -> u32 {
        let (slot, column) = self.graph.vector_vars(k, lo, hi);
        let component = component(self, column, slot);
        let kind = SamplerKind::Vectors { k, slot, column, component };
        self.graph.sampler(self.how.name, kind, lo, hi)
    }

    /// sum_i b_i A(i): the derivative along b.
    fn along(&mut self, term: &Term, group: &Group, place: Place) -> Result<Symbol, Unfit> {
        let [range] = group.ranges[..] else { return Err(unfit("an index stands in a coefficient only")) };
        let (var, lo, hi) = term.ranges[range];
        let sampler = self.vectors((1, lo + place.offset, hi + place.offset), |this, column, _| {
            this.graph.substitute(group.coefficient, var, &Index::of_loop(column).shift(-place.offset))
        });
        Ok(Symbol::Direction { sampler, slot: Slot::Fixed(0) })
    }

    /// The directions of a pair.
    fn pair(
        &mut self,
        term: &Term,
        group: &Group,
        [a, b]: [Place; 2],
        slot: LoopVar,
        number: usize,
    ) -> Result<[Symbol; 2], Unfit> {
        let of = |sampler| Symbol::Direction { sampler, slot: Slot::Loop(slot) };
        let (c, k) = (group.coefficient, self.k);
        // the columns of the second derivative carry r
        let (y, y_lo, y_hi) = term.ranges[b.range];
        let random = self.directions(y_lo + b.offset, y_hi + b.offset, self.gaussian, number);
        let component = |g: &mut Graph, slot: LoopVar, column: Index| {
            g.intern(Node::Direction { sampler: random, slot: Slot::Loop(slot), column })
        };
        if group.ranges.len() == 2 {
            let (x, lo, hi) = term.ranges[a.range];
            let sampler = self.vectors((k, lo + a.offset, hi + a.offset), |this, column, slot| {
                let c = this.graph.substitute(c, x, &Index::of_loop(column).shift(-a.offset));
                let r = component(this.graph, slot, Index::of_loop(y).shift(b.offset));
                let body = this.graph.mul(c, r);
                this.graph.reduce(Reduction::Sum, y, y_lo, y_hi, body, None)
            });
            return Ok([of(sampler), of(random)]);
        }
        if self.graph.as_num(c).is_some() && a.offset == b.offset {
            return Ok([of(random), of(random)]);
        }
        let scaled = |this: &mut Self, place: Place, factor: &mut dyn FnMut(&mut Graph) -> Id| {
            let factor = factor(this.graph);
            let range = (k, y_lo + place.offset, y_hi + place.offset);
            this.vectors(range, |this, column, slot| {
                let index = Index::of_loop(column).shift(-place.offset);
                let factor = this.graph.substitute(factor, y, &index);
                let r = component(this.graph, slot, index.shift(b.offset));
                this.graph.mul(factor, r)
            })
        };
        if self.is_positive(c, &mut HashMap::new()) {
            let root = |g: &mut Graph| g.call(Function::Sqrt, vec![c]);
            let first = scaled(self, a, &mut { root });
            let second = if a.offset == b.offset { first } else { scaled(self, b, &mut { root }) };
            return Ok([of(first), of(second)]);
        }
        let root = |g: &mut Graph| {
            let size = g.call(Function::Abs, vec![c]);
            g.call(Function::Sqrt, vec![size])
        };
        let first = scaled(self, a, &mut { root });
        let second = scaled(self, b, &mut |g| {
            let root = root(g);
            let sign = g.intern(Node::Call(Func::Sign, vec![c]));
            g.mul(sign, root)
        });
        Ok([of(first), of(second)])
    }

    /// Whether an expression is nonnegative whatever the point.
    fn is_positive(&self, id: Id, known: &mut HashMap<Id, bool>) -> bool {
        if let Some(answer) = known.get(&id) {
            return *answer;
        }
        let answer = match self.graph.node(id) {
            Node::Num(v) => !v.is_negative(),
            Node::Pi | Node::Delta(_) | Node::Inside(..) => true,
            Node::Add(terms, constant) => {
                !constant.is_negative() && terms.iter().all(|(t, c)| !c.is_negative() && self.is_positive(*t, known))
            }
            Node::Mul(factors) => factors.iter().all(|(f, e)| e % 2 == 0 || self.is_positive(*f, known)),
            Node::Power(base, _) => self.is_positive(*base, known),
            Node::Call(Func::AtLeast, _) => true,
            Node::Call(Func::Of(f), _) => matches!(f, Function::Exp | Function::Sqrt | Function::Abs | Function::Cosh),
            Node::Reduce { body, .. } => self.is_positive(*body, known),
            _ => false,
        };
        known.insert(id, answer);
        answer
    }

    /// The term with one symbol at all these places.
    fn everywhere(&mut self, term: &Term, places: &[Place], symbol: &Symbol) -> Id {
        let mut term = term.clone();
        for p in places {
            term.factors[p.factor].symbols[p.symbol] = symbol.clone();
        }
        term.derivatives(self.graph)
    }

    /// The mean of a fourth derivative along random directions.
    fn moment(&mut self, term: &Term, places: &[Place], gaussian: bool) -> Id {
        let (_, lo, hi) = term.ranges[places[0].range];
        let offset = places[0].offset;
        let sampler = self.directions(lo + offset, hi + offset, gaussian, 0);
        let slot = self.graph.fresh(0, self.k as i64);
        let body = self.everywhere(term, places, &Symbol::Direction { sampler, slot: Slot::Loop(slot) });
        self.mean(slot, body)
    }

    /// sum_ij D_iijj.
    fn fourth(&mut self, term: &Term, first: &Group, second: &Group) -> Result<Id, Unfit> {
        let places: Vec<Place> = first.places.iter().chain(&second.places).copied().collect();
        let mean = self.moment(term, &places, self.gaussian);
        let mut sum = vec![(mean, ratio(1, 3))];
        if !self.gaussian {
            let (_, lo, hi) = term.ranges[places[0].range];
            let offset = places[0].offset;
            let var = self.graph.fresh(lo, hi);
            let body = self.everywhere(term, &places, &Symbol::Column(Index::of_loop(var).shift(offset)));
            let diagonal = self.graph.reduce(Reduction::Sum, var, lo, hi, body, None);
            // exact while it is small
            let kind = SamplerKind::Sparse { k: self.k.max(MAX_DIAGONAL), shared: false };
            sum.push((mark(self.graph, diagonal, self.how, kind), ratio(2, 3)));
        }
        Ok(self.graph.linear(sum))
    }

    /// sum_i D_iiii.
    fn quartic(&mut self, term: &Term, places: [Place; 4]) -> Result<Id, Unfit> {
        if places.iter().any(|p| p.factor != places[0].factor || p.offset != places[0].offset) {
            return Err(unfit("an index stands in four derivatives that are not of one field along one column"));
        }
        let (gauss, signs) = (self.moment(term, &places, true), self.moment(term, &places, false));
        Ok(self.graph.linear([(gauss, ratio(1, 2)), (signs, ratio(-1, 2))]))
    }
}

/// Largest diagonal of a fourth derivative that is not sampled.
const MAX_DIAGONAL: usize = 16;

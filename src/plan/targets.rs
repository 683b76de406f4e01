//! Functionals to polynomials: sums and families are written out over numbered symbols, and coefficients become
//! polynomials in opaque coefficient symbols.

use crate::algebra::{Coefficient, Monomial, Polynomial};
use crate::operator::{CoefficientTensor, Graph, Id, Index, LoopVar, Node, Symbol};
use indexmap::IndexSet;
use num_rational::BigRational;
use std::collections::{BTreeMap, HashMap};

/// More terms than this are not written out.
pub const MAX_TERMS: usize = 50_000;

/// Larger coefficient polynomials count as one opaque symbol.
const MAX_COEFFICIENT_TERMS: usize = 64;
/// Highest power of a sum, and of anything else, in a coefficient; what is beyond is a symbol of its own.
const MAX_SUM_POWER: i32 = 16;
const MAX_POWER: i32 = 1024;

/// A functional, or one member of a family, as polynomials: one for each output of each network call.
pub type Member = BTreeMap<(u32, u32), Polynomial>;

/// The numbering of symbols.
#[derive(Default)]
pub struct Targets {
    /// Direction symbols of each call: symbol number k is entry k.
    pub symbols: BTreeMap<u32, IndexSet<Symbol>>,
    /// Coefficient symbols: opaque expressions.
    pub coefficients: IndexSet<Id>,
    /// Members of each functional, in the order of its family indices (last fastest).
    pub members: Vec<Vec<Member>>,
    /// Expressions that were written out, or are too large for it: a graph shares what a tree would repeat.
    polynomials: HashMap<Id, Option<Coefficient>>,
}

/// There are too many terms to write out: at least this many.
pub struct TooMany(pub usize);

impl Targets {
    /// Writes out functionals.
    pub fn new(graph: &mut Graph, functionals: &[CoefficientTensor]) -> Result<Targets, TooMany> {
        let mut out = Targets::default();
        let length = |ranges: &[(LoopVar, i64, i64)]| -> usize {
            ranges.iter().fold(1, |n, (_, lo, hi)| n.saturating_mul((hi - lo).max(0) as usize))
        };
        let count = |f: &CoefficientTensor| {
            let terms = f.terms.iter().fold(0usize, |n, t| n.saturating_add(length(&t.ranges)));
            terms.saturating_mul(length(&f.family))
        };
        let total = functionals.iter().map(count).fold(0usize, usize::saturating_add);
        if total > MAX_TERMS {
            return Err(TooMany(total));
        }
        for f in functionals {
            let mut members = Vec::new();
            for at in assignments(&f.family) {
                let mut member = Member::new();
                for t in &f.terms {
                    for inner in assignments(&t.ranges) {
                        out.term(graph, t, at.iter().chain(&inner), &mut member);
                    }
                }
                members.push(member);
            }
            out.members.push(members);
        }
        Ok(out)
    }

    fn term<'a>(
        &mut self,
        graph: &mut Graph,
        term: &crate::operator::Term,
        at: impl Iterator<Item = &'a (LoopVar, i64)>,
        member: &mut Member,
    ) {
        let mut coefficient = term.coefficient;
        let mut symbols = term.atom.symbols.clone();
        for (var, value) in at {
            let by = Index::constant(*value);
            coefficient = graph.substitute(coefficient, *var, &by);
            symbols = symbols.iter().map(|s| s.substitute(*var, &by)).collect();
        }
        let call = term.atom.call;
        let numbers = self.symbols.entry(call).or_default();
        let monomial = Monomial::new(symbols.into_iter().map(|s| (numbers.insert_full(s).0 as u32, 1)));
        let coefficient = self.coefficient(graph, coefficient);
        member.entry((call, term.atom.component)).or_default().add_term(monomial, &coefficient);
    }

    /// A coefficient expression as a polynomial in opaque symbols.
    fn coefficient(&mut self, graph: &Graph, id: Id) -> Coefficient {
        match self.polynomial(graph, id) {
            Some(c) => c,
            None => self.opaque(id),
        }
    }
    fn opaque(&mut self, id: Id) -> Coefficient {
        Coefficient::symbol(self.coefficients.insert_full(id).0 as u32)
    }
    fn polynomial(&mut self, graph: &Graph, id: Id) -> Option<Coefficient> {
        if let Some(done) = self.polynomials.get(&id) {
            return done.clone();
        }
        let out = self.written_out(graph, id);
        self.polynomials.insert(id, out.clone());
        out
    }
    fn written_out(&mut self, graph: &Graph, id: Id) -> Option<Coefficient> {
        let out = match graph.node(id) {
            Node::Num(v) => Coefficient::constant(v.clone()),
            Node::Add(terms, constant) => {
                let mut sum = Coefficient::constant(constant.clone());
                for (t, c) in terms {
                    sum = &sum + &self.polynomial(graph, *t)?.scale(c);
                }
                sum
            }
            Node::Mul(factors) if factors.iter().all(|f| f.1 > 0) => {
                let mut product = Coefficient::one();
                for (f, e) in factors {
                    let factor = self.polynomial(graph, *f)?;
                    if *e > if factor.terms().count() > 1 { MAX_SUM_POWER } else { MAX_POWER } {
                        return None;
                    }
                    product = &product * &factor.pow(*e as u32);
                    if product.terms().count() > MAX_COEFFICIENT_TERMS {
                        return None;
                    }
                }
                product
            }
            _ => self.opaque(id),
        };
        (out.terms().count() <= MAX_COEFFICIENT_TERMS).then_some(out)
    }

    /// A coefficient polynomial as an expression.
    pub fn expression(&self, graph: &mut Graph, c: &Coefficient) -> Id {
        let mut terms: Vec<(Id, BigRational)> = Vec::new();
        for (monomial, value) in c.terms() {
            let factors = monomial.factors().iter().map(|(s, e)| (self.coefficients[*s as usize], *e as i32));
            let factors: Vec<_> = factors.collect();
            terms.push((graph.product(factors), value.clone()));
        }
        if terms.is_empty() {
            return graph.int(0);
        }
        graph.linear(terms)
    }
}

/// All values of some loop variables, the last running fastest.
pub fn assignments(ranges: &[(LoopVar, i64, i64)]) -> Vec<Vec<(LoopVar, i64)>> {
    let mut out = vec![Vec::new()];
    for (var, lo, hi) in ranges {
        let longer = |prefix: &Vec<(LoopVar, i64)>| {
            let extend = |k| {
                let mut next = prefix.clone();
                next.push((*var, k));
                next
            };
            (*lo..*hi).map(extend).collect::<Vec<_>>()
        };
        out = out.iter().flat_map(longer).collect();
    }
    out
}

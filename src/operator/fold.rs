//! Fold first: what a residual needs of its networks is a set of linear functionals.
//!
//! A residual F(atoms) needs the span of dF over all values of the atoms. Its linear part, with coefficients that are
//! constants, parameters or functions of the point, is one functional; so is every linear expression inside a nonlinear
//! one (`(u_xx + u_yy)^2` needs lap(u) alone). A last step works on polynomials in functionals with constant
//! coefficients: the span of their gradients is computed exactly, so that the expanded `u_xx^2 + 2 u_xx u_yy + u_yy^2`
//! needs lap(u) alone too.

use super::graph::{Argument, Atom, Graph, Id, Node};
use super::index::{FUNCTIONAL, Index, IndexVar, LoopVar, Symbol};
use crate::program::Reduction;
use indexmap::IndexMap;
use num_rational::BigRational;
use num_traits::{One, Zero};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A linear functional of network outputs, or a family of them: its symbol p(xi), sparse and symmetric, as a sum of
/// coefficient times product of xi over index ranges.
#[derive(Clone, Debug, PartialEq)]
pub struct CoefficientTensor {
    /// The indices that number the members of a family: variable, first, one past the last.
    pub family: Vec<(LoopVar, i64, i64)>,
    /// The terms.
    pub terms: Vec<Term>,
}

/// sum over ranges of coefficient times a derivative of a network output.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Summed indices: variable, first, one past the last.
    pub ranges: Vec<(LoopVar, i64, i64)>,
    /// A function of the point, parameters and indices; no networks in it.
    pub coefficient: Id,
    /// The derivative.
    pub atom: Atom,
}

/// Residuals as functions of functionals.
#[derive(Clone, Debug, Default)]
pub struct Folded {
    /// What [`Node::Functional`] refers to.
    pub functionals: Vec<CoefficientTensor>,
    /// The residuals, without atoms.
    pub roots: Vec<Id>,
}

/// Folds expanded residuals (no [`Node::Derivative`] in them).
pub fn fold(graph: &mut Graph, roots: &[Id]) -> Folded {
    let mut folder = Folder { graph, functionals: Vec::new(), done: HashMap::new(), splits: HashMap::new() };
    // the linear part of each residual is left out of the polynomial step: nothing can be gained from it
    let parts: Vec<(Option<Id>, Id)> = roots
        .iter()
        .map(|r| {
            let (linear, rest) = folder.split(*r);
            (folder.functional(linear, &[]), folder.nonlinear(rest, &[]))
        })
        .collect();
    let rests: Vec<Id> = parts.iter().map(|p| p.1).collect();
    let rests = folder.reduce_span(&rests);
    let mut out = Vec::new();
    for ((linear, _), rest) in parts.into_iter().zip(rests) {
        out.push(match linear {
            Some(l) => folder.graph.add(l, rest),
            None => rest,
        });
    }
    let functionals = folder.functionals;
    drop_unused(graph, Folded { functionals, roots: out })
}

type Context = [(LoopVar, i64, i64)];

/// Where a column stands, whichever of its draws it is: an offset, and the samplers that are added.
type Place = (i64, Vec<u32>);

fn place(symbol: &Symbol) -> Option<Place> {
    let Symbol::Column(index) = symbol else { return None };
    let sampler = |v: &(IndexVar, i64)| match v.0 {
        IndexVar::Drawn { sampler, .. } => Some(sampler),
        IndexVar::Loop(_) => None,
    };
    Some((index.offset, index.terms.iter().map(sampler).collect::<Option<_>>()?))
}

/// A network of more columns has many.
const MANY: usize = 64;

struct Folder<'g> {
    graph: &'g mut Graph,
    functionals: Vec<CoefficientTensor>,
    /// Folded expressions, by their context: a graph shares what a tree would repeat.
    done: HashMap<(Id, Vec<LoopVar>), Id>,
    /// Split expressions, likewise. A sum is opened once, so that what its terms have in common can be collected.
    splits: HashMap<Id, (Vec<Term>, Id)>,
}

impl Folder<'_> {
    /// Splits an expression into its linear part in atoms and the rest.
    fn split(&mut self, id: Id) -> (Vec<Term>, Id) {
        if !self.graph.has_atom(id) {
            return (Vec::new(), id);
        }
        if let Some(done) = self.splits.get(&id) {
            return done.clone();
        }
        let split = self.split_anew(id);
        self.splits.insert(id, split.clone());
        split
    }

    fn split_anew(&mut self, id: Id) -> (Vec<Term>, Id) {
        let zero = self.graph.int(0);
        match self.graph.node(id).clone() {
            Node::Atom(atom) => {
                let coefficient = self.graph.int(1);
                (vec![Term { ranges: Vec::new(), coefficient, atom }], zero)
            }
            Node::Add(terms, constant) => {
                let mut linear = Vec::new();
                let mut rest = vec![(self.graph.int(1), constant)];
                for (t, c) in terms {
                    let (l, r) = self.split(t);
                    for mut term in l {
                        term.coefficient = self.graph.scale(c.clone(), term.coefficient);
                        linear.push(term);
                    }
                    rest.push((r, c));
                }
                (self.collect(linear), self.graph.linear(rest))
            }
            Node::Mul(factors) => {
                let with: Vec<_> = factors.iter().filter(|f| self.graph.has_atom(f.0)).copied().collect();
                let [(inner, 1)] = with[..] else { return (Vec::new(), id) };
                let others = self.graph.product(factors.iter().copied().filter(|f| f.0 != inner));
                let (mut linear, rest) = self.split(inner);
                if linear.is_empty() {
                    return (linear, id);
                }
                for term in &mut linear {
                    term.coefficient = self.graph.mul(others, term.coefficient);
                }
                (linear, self.graph.mul(others, rest))
            }
            Node::Reduce { reduction: Reduction::Sum, lo, hi, sampler: None, .. } => {
                let (var, body) = self.graph.open(id).expect("a reduction");
                let (mut linear, rest) = self.split(body);
                if linear.is_empty() {
                    return (linear, id);
                }
                for term in &mut linear {
                    term.ranges.push((var, lo, hi));
                }
                (linear, self.graph.reduce(Reduction::Sum, var, lo, hi, rest, None))
            }
            _ => (Vec::new(), id),
        }
    }

    /// Collects terms of one atom and the same ranges: first those without, by their atoms, then the sums in their order.
    fn collect(&mut self, terms: Vec<Term>) -> Vec<Term> {
        let mut plain: BTreeMap<Atom, Id> = BTreeMap::new();
        let mut sums: IndexMap<(Vec<_>, Atom), Id> = IndexMap::new();
        for Term { ranges, coefficient, atom } in terms {
            let place = match ranges.is_empty() {
                true => plain.entry(atom).or_insert_with(|| self.graph.int(0)),
                false => sums.entry((ranges, atom)).or_insert_with(|| self.graph.int(0)),
            };
            *place = self.graph.add(*place, coefficient);
        }
        let plain = plain.into_iter().map(|(atom, coefficient)| Term { ranges: Vec::new(), coefficient, atom });
        let sums = sums.into_iter().map(|((ranges, atom), coefficient)| Term { ranges, coefficient, atom });
        plain.chain(sums).filter(|term| !self.graph.is_zero(term.coefficient)).collect()
    }

    /// The node of a functional whose terms may depend on the context's variables. First derivatives of a network of many
    /// columns that have coefficients of their own at each point are functionals by themselves, where no higher derivative
    /// needs them anyway: their sum would be a direction in all columns that is different at each point, and has to be stored.
    fn functional(&mut self, terms: Vec<Term>, context: &Context) -> Option<Id> {
        let higher: Vec<(u32, Place)> = terms
            .iter()
            .filter(|t| t.atom.symbols.len() > 1)
            .flat_map(|t| t.atom.symbols.iter().filter_map(|s| Some((t.atom.call, place(s)?))))
            .collect();
        let (apart, terms): (Vec<Term>, Vec<Term>) = terms.into_iter().partition(|t| self.is_apart(t, &higher));
        let mut sum = self.tensor(terms, context);
        for Term { ranges, coefficient, atom } in apart {
            let inner = [context, &ranges[..]].concat();
            let one = Term { ranges: Vec::new(), coefficient: self.graph.int(1), atom };
            let derivative = self.tensor(vec![one], &inner)?;
            let mut term = self.graph.mul(coefficient, derivative);
            for (var, lo, hi) in ranges {
                term = self.graph.reduce(Reduction::Sum, var, lo, hi, term, None);
            }
            sum = Some(sum.map_or(term, |s| self.graph.add(s, term)));
        }
        sum
    }

    fn is_apart(&self, term: &Term, higher: &[(u32, Place)]) -> bool {
        let [symbol @ Symbol::Column(index)] = &term.atom.symbols[..] else { return false };
        if place(symbol).is_some_and(|p| higher.contains(&(term.atom.call, p))) {
            return false;
        }
        let is_wide = |a: &Argument| matches!(a, Argument::Columns { len, .. } if *len > MANY);
        (index.is_drawn() || index.as_constant().is_some())
            && self.graph.constant_value(term.coefficient).is_none()
            && self.graph.calls[term.atom.call as usize].arguments.iter().any(is_wide)
    }

    /// The node of one functional.
    fn tensor(&mut self, terms: Vec<Term>, context: &Context) -> Option<Id> {
        if terms.is_empty() {
            return None;
        }
        let occurs = |v: LoopVar| {
            terms.iter().any(|t| {
                self.graph.free_vars(t.coefficient).contains(&v)
                    || t.atom.symbols.iter().any(|s| s.loop_vars().contains(&v))
            })
        };
        let family: Vec<_> = context.iter().copied().filter(|c| occurs(c.0)).collect();
        let tensor = self.canonical(CoefficientTensor { family: family.clone(), terms });
        let position = match self.functionals.iter().position(|f| *f == tensor) {
            Some(k) => k,
            None => {
                self.functionals.push(tensor);
                self.functionals.len() - 1
            }
        };
        let indices = family.iter().map(|f| Index::of_loop(f.0)).collect();
        Some(self.graph.intern(Node::Functional(position as u32, indices)))
    }

    /// The same tensor with variables numbered from the outside in, so that equal ones are equal. The numbers are
    /// bound ones above any that a reduction in a coefficient uses.
    fn canonical(&mut self, tensor: CoefficientTensor) -> CoefficientTensor {
        let mut out = tensor;
        let family = out.family.clone();
        for (k, (var, lo, hi)) in family.into_iter().enumerate() {
            let to = LoopVar::Bound(FUNCTIONAL + k as u32);
            out.family[k] = (to, lo, hi);
            for t in &mut out.terms {
                self.rename(t, var, to);
            }
        }
        let start = FUNCTIONAL + out.family.len() as u32;
        for t in &mut out.terms {
            for k in 0..t.ranges.len() {
                let (var, lo, hi) = t.ranges[k];
                let to = LoopVar::Bound(start + k as u32);
                self.rename(t, var, to);
                t.ranges[k] = (to, lo, hi);
            }
        }
        out
    }

    fn rename(&mut self, t: &mut Term, var: LoopVar, to: LoopVar) {
        let by = Index::of_loop(to);
        t.coefficient = self.graph.substitute(t.coefficient, var, &by);
        t.atom.symbols = t.atom.symbols.iter().map(|s| s.substitute(var, &by)).collect();
        t.atom.symbols.sort();
    }

    /// Replaces what is linear inside an expression without linear part by functionals.
    fn nonlinear(&mut self, id: Id, context: &Context) -> Id {
        if !self.graph.has_atom(id) {
            return id;
        }
        match *self.graph.node(id) {
            Node::Reduce { reduction, lo, hi, sampler, .. } => {
                let (var, body) = self.graph.open(id).expect("a reduction");
                let mut inner = context.to_vec();
                inner.push((var, lo, hi));
                let body = self.expression(body, &inner);
                self.graph.reduce(reduction, var, lo, hi, body, sampler)
            }
            Node::Add(..) => {
                let Node::Add(terms, constant) = self.graph.node(id).clone() else { unreachable!() };
                let mut out = vec![(self.graph.int(1), constant)];
                for (t, c) in terms {
                    out.push((self.nonlinear(t, context), c));
                }
                self.graph.linear(out)
            }
            Node::Atom(_) => self.expression(id, context),
            _ => {
                let children = self.graph.children(id);
                let new: HashMap<Id, Id> = children.iter().map(|c| (*c, self.expression(*c, context))).collect();
                self.graph.map_children(id, &mut |_, c| new[&c], Symbol::clone)
            }
        }
    }

    fn expression(&mut self, id: Id, context: &Context) -> Id {
        let key = (id, context.iter().map(|c| c.0).collect());
        if let Some(done) = self.done.get(&key) {
            return *done;
        }
        let (linear, rest) = self.split(id);
        let rest = self.nonlinear(rest, context);
        let out = match self.functional(linear, context) {
            Some(l) => self.graph.add(l, rest),
            None => rest,
        };
        self.done.insert(key, out);
        out
    }

    /// The polynomial step: where residuals depend on functionals only through fewer combinations of them with constant
    /// coefficients, those combinations become the functionals.
    fn reduce_span(&mut self, roots: &[Id]) -> Vec<Id> {
        let mut gradients =
            Gradients { graph: self.graph, rows: Vec::new(), seen: BTreeSet::new(), polynomials: HashMap::new() };
        let mut polynomials = true;
        for r in roots {
            polynomials &= gradients.of(*r).is_some();
        }
        let rows = gradients.rows;
        let members: BTreeSet<u32> = rows.iter().flat_map(|r| r.keys().copied()).collect();
        if !polynomials || members.len() < 2 {
            return roots.to_vec();
        }
        let basis = echelon(rows);
        if basis.len() == members.len() {
            return roots.to_vec();
        }
        // at a point of the quotient: the pivot functional takes the value of the combination, the others 0
        let mut values: HashMap<u32, Id> = HashMap::new();
        for m in &members {
            values.insert(*m, self.graph.int(0));
        }
        for (pivot, row) in &basis {
            let mut terms = Vec::new();
            for (m, c) in row {
                for t in self.functionals[*m as usize].terms.clone() {
                    let coefficient = self.graph.scale(c.clone(), t.coefficient);
                    terms.push(Term { coefficient, ..t });
                }
            }
            let terms = self.collect(terms);
            if let Some(id) = self.functional(terms, &[]) {
                values.insert(*pivot, id);
            }
        }
        let mut memo = HashMap::new();
        roots
            .iter()
            .map(|r| {
                self.graph.transform(*r, &mut memo, &mut |g, id| match g.node(id) {
                    Node::Functional(f, _) => values.get(f).copied(),
                    _ => None,
                })
            })
            .collect()
    }
}

/// Coefficient vectors of the gradient of expressions with respect to functionals without family.
struct Gradients<'g> {
    graph: &'g Graph,
    rows: Vec<BTreeMap<u32, BigRational>>,
    seen: BTreeSet<Id>,
    polynomials: HashMap<Id, Option<Expanded>>,
}

/// A polynomial in functionals and opaque factors: (functionals with exponents, opaque factors with exponents) -> coefficient.
type Monomial = (BTreeMap<u32, i32>, BTreeMap<Id, i32>);
type Expanded = BTreeMap<Monomial, BigRational>;

/// Larger polynomials are left alone: their residuals are compiled with the functionals as they stand.
const MAX_MONOMIALS: usize = 500;
/// Products of polynomials of more pairs of monomials than this, and higher powers than [`MAX_POWER`], too.
const MAX_PAIRS: usize = 50_000;
const MAX_POWER: i32 = 256;

impl Gradients<'_> {
    fn of(&mut self, id: Id) -> Option<()> {
        if !self.graph.has_atom(id) || !self.seen.insert(id) {
            return Some(());
        }
        let polynomial = self.polynomial(id)?;
        let mut gradient: BTreeMap<Monomial, BTreeMap<u32, BigRational>> = BTreeMap::new();
        for ((functionals, opaque), c) in &polynomial {
            for (f, e) in functionals {
                let mut lower = functionals.clone();
                match e {
                    1 => lower.remove(f),
                    e => lower.insert(*f, e - 1),
                };
                let entry = gradient.entry((lower, opaque.clone())).or_default();
                *entry.entry(*f).or_insert_with(BigRational::zero) += c * BigRational::from_integer((*e).into());
            }
        }
        self.rows.extend(gradient.into_values());
        let is_plain = |node: &Node| matches!(node, Node::Functional(_, indices) if indices.is_empty());
        for (_, opaque) in polynomial.into_keys() {
            for id in opaque.into_keys() {
                if !self.graph.has_atom(id) {
                    continue;
                }
                // a sum over an index holds families, which this step does not combine
                match self.graph.node(id) {
                    Node::Reduce { .. } if self.graph.any(id, is_plain) => return None,
                    Node::Reduce { .. } | Node::Functional(..) => {}
                    _ => {
                        for c in self.graph.children(id) {
                            self.of(c)?;
                        }
                    }
                }
            }
        }
        Some(())
    }

    fn polynomial(&mut self, id: Id) -> Option<Expanded> {
        if let Some(done) = self.polynomials.get(&id) {
            return done.clone();
        }
        let out = self.expanded(id);
        self.polynomials.insert(id, out.clone());
        out
    }

    fn expanded(&mut self, id: Id) -> Option<Expanded> {
        let one = || BTreeMap::from([((BTreeMap::new(), BTreeMap::new()), BigRational::one())]);
        match self.graph.node(id) {
            Node::Functional(f, indices) if indices.is_empty() => {
                Some(BTreeMap::from([((BTreeMap::from([(*f, 1)]), BTreeMap::new()), BigRational::one())]))
            }
            Node::Num(v) => Some(BTreeMap::from([((BTreeMap::new(), BTreeMap::new()), v.clone())])),
            Node::Add(terms, constant) => {
                let mut out: Expanded = one();
                out.values_mut().for_each(|v| *v = constant.clone());
                for (t, c) in terms {
                    for (m, v) in self.polynomial(*t)? {
                        *out.entry(m).or_insert_with(BigRational::zero) += v * c;
                    }
                }
                out.retain(|_, v| !v.is_zero());
                (out.len() <= MAX_MONOMIALS).then_some(out)
            }
            Node::Mul(factors) => {
                let mut out = one();
                for (f, e) in factors {
                    if *e < 0 || !self.graph.has_atom(*f) {
                        let key = (BTreeMap::new(), BTreeMap::from([(*f, *e)]));
                        out = product(&out, &BTreeMap::from([(key, BigRational::one())]))?;
                        continue;
                    }
                    if *e > MAX_POWER {
                        return None;
                    }
                    let p = self.polynomial(*f)?;
                    for _ in 0..*e {
                        out = product(&out, &p)?;
                    }
                }
                Some(out)
            }
            _ => Some(BTreeMap::from([((BTreeMap::new(), BTreeMap::from([(id, 1)])), BigRational::one())])),
        }
    }
}

fn product(a: &Expanded, b: &Expanded) -> Option<Expanded> {
    fn join<K: Ord + Clone>(a: &BTreeMap<K, i32>, b: &BTreeMap<K, i32>) -> BTreeMap<K, i32> {
        let mut out = a.clone();
        for (k, e) in b {
            *out.entry(k.clone()).or_insert(0) += e;
        }
        out.retain(|_, e| *e != 0);
        out
    }
    if a.len() * b.len() > MAX_PAIRS {
        return None;
    }
    let mut out = Expanded::new();
    for ((fa, oa), x) in a {
        for ((fb, ob), y) in b {
            *out.entry((join(fa, fb), join(oa, ob))).or_insert_with(BigRational::zero) += x * y;
        }
        if out.len() > MAX_MONOMIALS {
            return None;
        }
    }
    out.retain(|_, v| !v.is_zero());
    Some(out)
}

/// Reduced row echelon form: (pivot, row with 1 at the pivot).
fn echelon(rows: Vec<BTreeMap<u32, BigRational>>) -> Vec<(u32, BTreeMap<u32, BigRational>)> {
    let mut basis: Vec<(u32, BTreeMap<u32, BigRational>)> = Vec::new();
    let subtract = |row: &mut BTreeMap<u32, BigRational>, pivot: u32, other: &BTreeMap<u32, BigRational>| {
        if let Some(c) = row.get(&pivot).cloned() {
            for (k, v) in other {
                *row.entry(*k).or_insert_with(BigRational::zero) -= &c * v;
            }
            row.retain(|_, v| !v.is_zero());
        }
    };
    for mut row in rows {
        row.retain(|_, v| !v.is_zero());
        for (pivot, other) in &basis {
            subtract(&mut row, *pivot, other);
        }
        let Some((&pivot, lead)) = row.iter().next() else { continue };
        let lead = lead.clone();
        row.values_mut().for_each(|v| *v /= &lead);
        for (_, other) in &mut basis {
            subtract(other, pivot, &row);
        }
        basis.push((pivot, row));
    }
    basis
}

/// Renumbers the functionals that the roots still use.
fn drop_unused(graph: &mut Graph, folded: Folded) -> Folded {
    let mut order: Vec<u32> = Vec::new();
    let mut memo = HashMap::new();
    let roots = folded
        .roots
        .iter()
        .map(|r| {
            graph.transform(*r, &mut memo, &mut |g, id| {
                let Node::Functional(f, indices) = g.node(id).clone() else { return None };
                let position = order.iter().position(|o| *o == f).unwrap_or_else(|| {
                    order.push(f);
                    order.len() - 1
                });
                Some(g.intern(Node::Functional(position as u32, indices)))
            })
        })
        .collect();
    let functionals = order.iter().map(|f| folded.functionals[*f as usize].clone()).collect();
    Folded { functionals, roots }
}

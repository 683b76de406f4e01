//! What is known of each e-class: the e-class analysis.
//!
//! All facts are of the *value* that the forms of a class share, so a fact that one form shows holds for all of them:
//! on a union, what the class may depend on is intersected, and what is known of its sign is joined. `term` is the
//! smallest expression of the graph that was seen for the class, built by the graph's constructors: it folds constants
//! ([`Facts::modify`] adds the number to its class), and it is what index substitution works on.

use super::language::{Form, Loop};
use crate::operator::{Argument, Func, Graph, Id as Term, Index, IndexVar, LoopVar, Node, Symbol};
use crate::program::Function;
use egg::{Analysis, DidMerge, EGraph, Id};
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};
use std::collections::{BTreeMap, HashSet};

/// The e-graph of this room.
pub type Classes = EGraph<Form, Facts>;

/// The analysis; it owns the graph while the e-graph lives.
#[derive(Debug, Default)]
pub struct Facts {
    /// The graph that leaves and terms refer to.
    pub graph: Graph,
    /// One open variable for each height and range.
    loops: BTreeMap<(LoopVar, i64, i64), LoopVar>,
    /// Which rule saw which form, with children of which sizes.
    seen: HashSet<(&'static str, Form, Vec<usize>)>,
    /// Rules add nothing beyond this many e-nodes.
    pub node_limit: usize,
}

/// Of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Smallest expression seen.
    pub term: Term,
    /// Its size as a tree.
    pub size: u32,
    /// Loop variables that the value may depend on, ascending.
    pub free: Vec<LoopVar>,
    /// Columns of the point that it may depend on.
    pub support: Support,
    /// True if it is nowhere negative.
    pub nonnegative: bool,
    /// True if it is nowhere 0.
    pub nonzero: bool,
    /// The class as a number times another class, if it has such a form.
    pub scaled: Option<(BigRational, Id)>,
}

impl Fact {
    /// True if the value is everywhere greater than 0.
    pub fn positive(&self) -> bool {
        self.nonnegative && self.nonzero
    }
}

/// The columns that a value may depend on.
#[derive(Clone, Debug, PartialEq)]
pub enum Support {
    /// These, ascending.
    Columns(Vec<i64>),
    /// Any.
    Any,
}

/// A list of columns longer than this is `Any`.
const MAX_COLUMNS: usize = 16;
/// A derivative that is not carried out is the last choice for a term.
const DERIVATIVE_SIZE: u32 = 10_000;

impl Support {
    fn none() -> Self {
        Support::Columns(Vec::new())
    }
    fn of_index(index: &Index) -> Self {
        index.as_constant().map_or(Support::Any, |k| Support::Columns(vec![k]))
    }
    fn join(self, other: Support) -> Support {
        match (self, other) {
            (Support::Columns(mut a), Support::Columns(b)) => {
                a.extend(b);
                a.sort_unstable();
                a.dedup();
                if a.len() > MAX_COLUMNS { Support::Any } else { Support::Columns(a) }
            }
            _ => Support::Any,
        }
    }
    /// Both hold.
    fn meet(&self, other: &Support) -> Support {
        match (self, other) {
            (Support::Columns(a), Support::Columns(b)) => {
                Support::Columns(a.iter().copied().filter(|k| b.contains(k)).collect())
            }
            (Support::Any, s) | (s, Support::Any) => s.clone(),
        }
    }
    /// True if a derivative along the symbol is 0 for certain.
    pub fn excludes(&self, symbol: &Symbol) -> bool {
        match (self, symbol) {
            (Support::Any, _) => false,
            (Support::Columns(c), _) if c.is_empty() => true,
            (Support::Columns(c), Symbol::Column(i)) => i.as_constant().is_some_and(|k| !c.contains(&k)),
            (Support::Columns(_), Symbol::Direction { .. }) => false,
        }
    }
}

impl Facts {
    /// Takes a graph over.
    pub fn of(graph: Graph, node_limit: usize) -> Self {
        Facts { graph, node_limit, ..Facts::default() }
    }

    /// The variable that stands for a bound one in the e-graph.
    pub fn loop_var(&mut self, bound: LoopVar, lo: i64, hi: i64) -> LoopVar {
        let graph = &mut self.graph;
        *self.loops.entry((bound, lo, hi)).or_insert_with(|| graph.fresh(lo, hi))
    }

    /// True if a rule did not see a form with children of these sizes before.
    pub fn first_time(&mut self, rule: &'static str, form: &Form, sizes: &[usize]) -> bool {
        self.seen.insert((rule, form.clone(), sizes.to_vec()))
    }

    /// How it is shown: the bound variable that it stands for.
    pub fn bound(&self, var: LoopVar) -> LoopVar {
        self.loops.iter().find(|(_, v)| **v == var).map_or(var, |(k, _)| k.0)
    }

    /// Number of rounds of the loop over a variable.
    pub fn rounds(&self, var: LoopVar) -> f64 {
        self.graph.extremes(&Index::of_loop(var)).map_or(1.0, |(lo, hi)| (hi - lo + 1) as f64)
    }

    /// A form over terms of the graph, by the graph's constructors.
    pub fn term(&mut self, form: &Form, child: &dyn Fn(Id) -> Term) -> Term {
        let graph = &mut self.graph;
        match form {
            Form::Num(v) => graph.num(v.clone()),
            Form::Leaf(id) => *id,
            Form::Add(c, k, t) => {
                let one = graph.int(1);
                let terms = t.iter().map(|t| child(*t)).zip(c.iter().cloned());
                graph.linear(terms.chain([(one, k.clone())]))
            }
            Form::Mul(e, f) => graph.product(f.iter().map(|f| child(*f)).zip(e.iter().copied())),
            Form::Power([a, b]) => graph.power(child(*a), child(*b)),
            Form::Call(Func::Of(f), a) => graph.call(*f, a.iter().map(|a| child(*a)).collect()),
            Form::Call(f, a) => {
                let arguments = a.iter().map(|a| child(*a)).collect();
                graph.intern(Node::Call(*f, arguments))
            }
            Form::Reduce(l, body) => {
                let Loop { var, lo, hi, sampler, .. } = *l;
                graph.reduce(l.reduction(), var, lo, hi, child(*body), sampler)
            }
            Form::D(s, of) => graph.intern(Node::Derivative(s.clone(), child(*of))),
        }
    }

    fn leaf_support(&self, leaf: Term) -> Support {
        match self.graph.node(leaf) {
            Node::Point(i) => Support::of_index(i),
            Node::Atom(a) => {
                let mut all = Support::none();
                for argument in &self.graph.calls[a.call as usize].arguments {
                    all = all.join(match argument {
                        Argument::Columns { first, len } if *len <= MAX_COLUMNS => {
                            Support::Columns((*first as i64..(*first + *len) as i64).collect())
                        }
                        _ => Support::Any,
                    });
                }
                all
            }
            // the derivative of every other leaf is 0, as in Graph::derive
            _ => Support::none(),
        }
    }
}

impl Analysis<Form> for Facts {
    type Data = Fact;

    fn make(egraph: &mut Classes, form: &Form, _: Id) -> Fact {
        let facts: Vec<(Id, Fact)> =
            egg::Language::children(form).iter().map(|c| (*c, egraph[*c].data.clone())).collect();
        let of = |id: Id| &facts.iter().find(|(c, _)| *c == id).expect("a child").1;
        let term = egraph.analysis.term(form, &|c| of(c).term);
        let mut size = facts.iter().fold(1u32, |s, (_, f)| s.saturating_add(f.size));
        let mut free: Vec<LoopVar> = facts.iter().flat_map(|(_, f)| f.free.iter().copied()).collect();
        let mut support = facts.iter().fold(Support::none(), |s, (_, f)| s.join(f.support.clone()));
        match form {
            Form::Leaf(id) => {
                free = egraph.analysis.graph.free_vars(*id).to_vec();
                support = egraph.analysis.leaf_support(*id);
            }
            Form::D(s, _) => {
                free.extend(s.loop_vars());
                size = size.saturating_add(DERIVATIVE_SIZE);
            }
            Form::Reduce(l, _) => free.retain(|v| *v != l.var),
            _ => {}
        }
        if let Some(v) = egraph.analysis.graph.as_num(term) {
            let (nonnegative, nonzero) = (!v.is_negative(), !v.is_zero());
            let (free, support) = (Vec::new(), Support::none());
            return Fact { term, size: 1, free, support, nonnegative, nonzero, scaled: None };
        }
        free.sort_unstable();
        free.dedup();
        let (nonnegative, nonzero) = sign(&egraph.analysis.graph, form, &of);
        let scaled = match form {
            Form::Add(c, k, t) if t.len() == 1 && k.is_zero() => Some((c[0].clone(), t[0])),
            _ => None,
        };
        Fact { term, size, free, support, nonnegative, nonzero, scaled }
    }

    fn merge(&mut self, a: &mut Fact, b: Fact) -> DidMerge {
        let before = a.clone();
        if (b.size, b.term) < (a.size, a.term) {
            (a.size, a.term) = (b.size, b.term);
        }
        a.free.retain(|v| b.free.contains(v));
        a.support = a.support.meet(&b.support);
        a.nonnegative |= b.nonnegative;
        a.nonzero |= b.nonzero;
        if a.scaled.is_none() {
            a.scaled = b.scaled.clone();
        }
        DidMerge(*a != before, *a != b)
    }

    fn modify(egraph: &mut Classes, id: Id) {
        let term = egraph[id].data.term;
        if let Some(v) = egraph.analysis.graph.as_num(term) {
            let number = egraph.add_uncanonical(Form::Num(v.clone()));
            egraph.union_trusted(id, number, "constant folding");
        }
    }
}

/// What a form shows of its sign: nowhere negative, nowhere 0. Where a form is not a number (`log(-1)`), nothing is said.
fn sign<'f>(graph: &Graph, form: &Form, of: &impl Fn(Id) -> &'f Fact) -> (bool, bool) {
    match form {
        Form::Num(v) => (!v.is_negative(), !v.is_zero()),
        Form::Leaf(id) => match graph.node(*id) {
            Node::Pi => (true, true),
            Node::Delta(_) | Node::Inside(..) => (true, false),
            Node::IndexValue(i) => {
                let from = graph.extremes(i).map(|e| e.0);
                (from.is_some_and(|lo| lo >= 0), from.is_some_and(|lo| lo > 0))
            }
            _ => (false, false),
        },
        Form::Add(c, k, t) => {
            let nonnegative = !k.is_negative() && c.iter().zip(t).all(|(c, t)| c.is_positive() && of(*t).nonnegative);
            (nonnegative, nonnegative && (!k.is_zero() || t.iter().any(|t| of(*t).nonzero)))
        }
        Form::Mul(e, f) => {
            (e.iter().zip(f).all(|(e, f)| e % 2 == 0 || of(*f).nonnegative), f.iter().all(|f| of(*f).nonzero))
        }
        Form::Power([a, _]) => (of(*a).nonnegative, of(*a).positive()),
        Form::Call(Func::Of(f), a) => match f {
            Function::Exp | Function::Cosh => (true, true),
            Function::Sqrt => (true, of(a[0]).nonzero),
            Function::Abs => (true, of(a[0]).nonzero),
            Function::Sinh | Function::Tanh | Function::Atan | Function::Erf => {
                (of(a[0]).nonnegative, of(a[0]).nonzero)
            }
            Function::Max => (a.iter().any(|a| of(*a).nonnegative), a.iter().any(|a| of(*a).positive())),
            Function::Min => (a.iter().all(|a| of(*a).nonnegative), a.iter().all(|a| of(*a).positive())),
            _ => (false, false),
        },
        Form::Call(Func::AtLeast, _) => (true, false),
        Form::Call(Func::Sign, a) => (of(a[0]).nonnegative, of(a[0]).nonzero),
        Form::Reduce(l, body) => {
            let fact = of(*body);
            (fact.nonnegative && l.hi > l.lo, fact.positive() && l.hi > l.lo)
        }
        Form::D(..) => (false, false),
    }
}

/// Adds an expression of the graph to the e-graph, as it is.
pub fn import(egraph: &mut Classes, term: Term) -> Id {
    import_with(egraph, term, &mut Default::default())
}

/// The same for several expressions that share: `memo` keeps what was added for each.
pub fn import_with(egraph: &mut Classes, term: Term, memo: &mut indexmap::IndexMap<Term, Id>) -> Id {
    if let Some(done) = memo.get(&term) {
        return *done;
    }
    let node = egraph.analysis.graph.node(term).clone();
    let form = match node {
        Node::Num(v) => Form::Num(v),
        Node::Add(terms, k) => {
            let children: Vec<Id> = terms.iter().map(|t| import_with(egraph, t.0, memo)).collect();
            return finish(
                egraph,
                term,
                sum_form(children.into_iter().zip(terms.into_iter().map(|t| t.1)).collect(), k),
                memo,
            );
        }
        Node::Mul(factors) => {
            let mut f: Vec<(Id, i32)> = factors.iter().map(|f| (import_with(egraph, f.0, memo), f.1)).collect();
            f.sort();
            let (f, e) = f.into_iter().unzip();
            Form::Mul(e, f)
        }
        Node::Power(a, b) => Form::Power([import_with(egraph, a, memo), import_with(egraph, b, memo)]),
        Node::Call(f, a) => Form::Call(f, a.into_iter().map(|a| import_with(egraph, a, memo)).collect()),
        Node::Derivative(s, of) => Form::D(s, import_with(egraph, of, memo)),
        Node::Reduce { reduction, var, lo, hi, body, sampler } => {
            let mut open = egraph.analysis.loop_var(var, lo, hi);
            let mut name = var;
            // the variable of a loop around this one, which stands free in the body, must not be taken for its own
            while let (true, LoopVar::Bound(n)) = (egraph.analysis.graph.free_vars(body).contains(&open), name) {
                name = LoopVar::Bound(n + 1);
                open = egraph.analysis.loop_var(name, lo, hi);
            }
            let body = egraph.analysis.graph.substitute(body, var, &Index::of_loop(open));
            let body = import_with(egraph, body, memo);
            let max = reduction == crate::program::Reduction::Max;
            Form::Reduce(Loop { max, var: open, lo, hi, sampler }, body)
        }
        _ => Form::Leaf(term),
    };
    finish(egraph, term, form, memo)
}

fn finish(egraph: &mut Classes, term: Term, form: Form, memo: &mut indexmap::IndexMap<Term, Id>) -> Id {
    let id = egraph.add_uncanonical(form);
    memo.insert(term, id);
    id
}

/// A sum with its terms in order of their ids.
pub fn sum_form(mut terms: Vec<(Id, BigRational)>, constant: BigRational) -> Form {
    terms.sort();
    let (t, c) = terms.into_iter().unzip();
    Form::Add(c, constant, t)
}

/// True if an index varies with a variable.
pub fn varies_with(index: &Index, var: LoopVar) -> bool {
    index.terms.iter().any(|(v, _)| *v == IndexVar::Loop(var))
}

/// 1
pub fn one() -> BigRational {
    BigRational::one()
}

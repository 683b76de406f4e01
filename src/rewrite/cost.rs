//! What expressions cost, before anything is planned: pointwise flops of the graph of shared nodes.
//!
//! Every node counts once, times the rounds of the loops whose variables it depends on (what does not depend on a loop
//! variable is computed outside that loop; loops over the same range count as one). Derivatives of networks cost
//! nothing here: they are counted in rows, by the algebra. A derivative that is not carried out cannot be computed.

use super::facts::{Classes, Facts, import_with};
use super::language::Form;
use crate::operator::{Func, Graph, Id as Term, LoopVar, Node};
use crate::program::Function;
use egg::{Id, Language};
use indexmap::IndexMap;
use num_traits::{One, Signed, Zero};

/// Flops of an exponential, a sine, ...
const TRANSCENDENTAL: f64 = 20.0;
/// Flops of a real power: a logarithm and an exponential.
const REAL_POWER: f64 = 40.0;
/// Flops of a division or a square root.
const DIVISION: f64 = 4.0;

/// Flops of a form, its children given.
pub fn flops(form: &Form, graph: &Graph) -> f64 {
    match form {
        Form::Num(_) => 0.0,
        Form::Leaf(id) => match graph.node(*id) {
            Node::Delta(_) | Node::Inside(..) | Node::IndexValue(_) => 1.0,
            _ => 0.0,
        },
        Form::Add(c, k, t) => {
            let scaled = c.iter().filter(|c| !c.abs().is_one()).count();
            let negated = (t.len() == 1 && k.is_zero() && scaled == 0) as usize;
            (t.len() - 1 + !k.is_zero() as usize + scaled + negated) as f64
        }
        Form::Mul(exponents, _) => {
            let product = |e: &mut dyn Iterator<Item = u32>| {
                let factors: Vec<f64> = e.map(|e| (e.ilog2() + e.count_ones() - 1) as f64).collect();
                factors.iter().sum::<f64>() + factors.len().saturating_sub(1) as f64
            };
            let above = product(&mut exponents.iter().filter(|e| **e > 0).map(|e| e.unsigned_abs()));
            let below = product(&mut exponents.iter().filter(|e| **e < 0).map(|e| e.unsigned_abs()));
            above + below + if exponents.iter().any(|e| *e < 0) { DIVISION } else { 0.0 }
        }
        Form::Power(_) => REAL_POWER,
        Form::Call(Func::Of(f), _) => match f {
            Function::Abs | Function::Min | Function::Max => 1.0,
            Function::Sqrt => DIVISION,
            _ => TRANSCENDENTAL,
        },
        Form::Call(..) => 1.0,
        Form::Reduce(..) => 1.0,
        Form::D(..) => f64::INFINITY,
    }
}

/// One choice of a form for each class: what [`dag_cost`] walks over.
pub struct Choice<'c> {
    /// Forms of each class, numbered from 0.
    pub options: &'c [Vec<Candidate>],
    /// Rounds of each loop.
    pub rounds: &'c [f64],
}

/// A form of a class, reduced to what its cost needs.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Flops of one evaluation; infinite if it cannot be evaluated.
    pub flops: f64,
    /// Classes of the children.
    pub children: Vec<usize>,
    /// Loops whose variables occur in the form itself, one bit each.
    pub free: u64,
    /// The loop that it closes.
    pub closes: u64,
    /// True for a derivative of a network.
    pub atom: bool,
}

/// A set of loops as bits; those from the 64th on share one.
pub fn loop_bit(loops: &mut IndexMap<LoopVar, f64>, var: LoopVar, facts: &Facts) -> u64 {
    let (k, _) = loops.insert_full(var, facts.rounds(var));
    1 << k.min(63)
}

impl Candidate {
    /// Of a form.
    pub fn new(
        form: &Form,
        facts: &Facts,
        class: &dyn Fn(Id) -> usize,
        loops: &mut IndexMap<LoopVar, f64>,
    ) -> Candidate {
        let mut children: Vec<usize> = form.children().iter().map(|c| class(*c)).collect();
        children.sort_unstable();
        children.dedup();
        let free = match form {
            Form::Leaf(id) => facts.graph.free_vars(*id).to_vec(),
            Form::D(s, _) => s.loop_vars(),
            _ => Vec::new(),
        };
        let free = free.into_iter().fold(0, |bits, v| bits | loop_bit(loops, v, facts));
        let closes = match form {
            Form::Reduce(l, _) => loop_bit(loops, l.var, facts),
            _ => 0,
        };
        let atom = matches!(form, Form::Leaf(id) if matches!(facts.graph.node(*id), Node::Atom(_)));
        Candidate { flops: flops(form, &facts.graph), children, free, closes, atom }
    }
}

/// What a choice costs: [`Walk::cost`] of all roots together.
pub struct Walk {
    state: Vec<u8>,
    free: Vec<u64>,
    touched: Vec<usize>,
    /// Number of classes visited so far, over all walks.
    pub visited: usize,
}

impl Walk {
    /// For a number of classes.
    pub fn new(classes: usize) -> Self {
        Walk { state: vec![0; classes], free: vec![0; classes], touched: Vec::new(), visited: 0 }
    }

    /// Flops of everything below the roots, plus `per_atom` for each derivative of a network; infinite where the choice
    /// has a cycle or a derivative that is not carried out. `chosen[class]` is a position in `options[class]`.
    pub fn cost(&mut self, choice: &Choice, chosen: &[usize], roots: &[usize], per_atom: f64) -> f64 {
        let mut sum = 0.0;
        for r in roots {
            sum += self.visit(choice, chosen, *r, per_atom);
        }
        for k in self.touched.drain(..) {
            self.state[k] = 0;
        }
        sum
    }

    fn visit(&mut self, choice: &Choice, chosen: &[usize], class: usize, per_atom: f64) -> f64 {
        match self.state[class] {
            2 => return 0.0,
            1 => return f64::INFINITY,
            _ => {}
        }
        self.state[class] = 1;
        self.touched.push(class);
        self.visited += 1;
        let Some(form) = choice.options[class].get(chosen[class]) else { return f64::INFINITY };
        let (mut sum, mut free) = (0.0, form.free);
        for c in &form.children {
            sum += self.visit(choice, chosen, *c, per_atom);
            if sum.is_infinite() {
                return sum;
            }
            free |= self.free[*c];
        }
        sum += form.flops * rounds(choice.rounds, free) + if form.atom { per_atom } else { 0.0 };
        self.free[class] = free & !form.closes;
        self.state[class] = 2;
        sum
    }

    /// The classes that the last call of a walk would visit, children first.
    pub fn reached(&mut self, choice: &Choice, chosen: &[usize], roots: &[usize]) -> Vec<usize> {
        for r in roots {
            self.visit(choice, chosen, *r, 0.0);
        }
        let out = std::mem::take(&mut self.touched);
        for k in &out {
            self.state[*k] = 0;
        }
        out
    }
}

/// Rounds of a set of loops.
pub fn rounds(of: &[f64], set: u64) -> f64 {
    of.iter().enumerate().filter(|(k, _)| set & (1 << k.min(&63)) != 0).map(|(_, n)| n).product()
}

/// Cost of expressions as they stand: flops, number of shared nodes (used more than once), number of nodes.
pub fn of_terms(graph: &mut Graph, roots: &[Term]) -> (f64, usize, usize) {
    let mut egraph = Classes::new(Facts::of(std::mem::take(graph), usize::MAX));
    let mut memo = IndexMap::new();
    let ids: Vec<Id> = roots.iter().map(|r| import_with(&mut egraph, *r, &mut memo)).collect();
    // no rule has run: classes are nodes
    let position: IndexMap<Id, usize> = egraph.classes().enumerate().map(|(k, c)| (c.id, k)).collect();
    let class = |id: Id| position[&egraph.find(id)];
    let mut loops = IndexMap::new();
    let options: Vec<Vec<Candidate>> = egraph
        .classes()
        .map(|c| c.nodes.iter().map(|f| Candidate::new(f, &egraph.analysis, &class, &mut loops)).collect())
        .collect();
    let rounds: Vec<f64> = loops.into_values().collect();
    let choice = Choice { options: &options, rounds: &rounds };
    // a number may stand beside the form that it was folded from
    let chosen: Vec<usize> =
        options.iter().map(|o| o.iter().position(|c| c.children.is_empty()).unwrap_or(0)).collect();
    let roots: Vec<usize> = ids.iter().map(|id| class(*id)).collect();
    let mut walk = Walk::new(options.len());
    let cost = walk.cost(&choice, &chosen, &roots, 0.0);
    let reached = walk.reached(&choice, &chosen, &roots);
    let mut uses = vec![0usize; options.len()];
    for k in &reached {
        for c in &options[*k][chosen[*k]].children {
            uses[*c] += 1;
        }
    }
    let inner = |k: &usize| !options[*k][chosen[*k]].children.is_empty();
    let shared = reached.iter().filter(|k| uses[**k] > 1 && inner(k)).count();
    *graph = egraph.analysis.graph;
    (cost, shared, reached.len())
}

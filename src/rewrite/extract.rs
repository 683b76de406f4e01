//! The cheapest forms of an e-graph, all roots together, shared classes counted once.
//!
//! egg's own extraction counts a shared class as often as it is used. Here that tree cost is only the seed: from it, and
//! from the input, single classes change their form as long as the true cost of all roots falls. Classes are visited in
//! a fixed order, and the work is bounded by a count, so the result is the same on every machine.

use super::cost::{Candidate, Choice, Walk, rounds};
use super::facts::Classes;
use super::language::Form;
use crate::operator::Id as Term;
use egg::Id;
use indexmap::IndexMap;

/// Passes over all classes.
const MAX_PASSES: usize = 6;
/// Class visits of one climb.
const MAX_VISITS: usize = 2_000_000;

/// An e-graph prepared for extraction.
pub struct Extractor<'e> {
    egraph: &'e mut Classes,
    position: IndexMap<Id, usize>,
    forms: Vec<Vec<Form>>,
    options: Vec<Vec<Candidate>>,
    rounds: Vec<f64>,
    roots: Vec<usize>,
}

impl<'e> Extractor<'e> {
    /// For the roots of an e-graph.
    pub fn new(egraph: &'e mut Classes, roots: &[Id]) -> Self {
        let mut ids: Vec<Id> = egraph.classes().map(|c| c.id).collect();
        ids.sort_unstable();
        let position: IndexMap<Id, usize> = ids.iter().enumerate().map(|(k, id)| (*id, k)).collect();
        let class = |id: Id| position[&egraph.find(id)];
        let mut loops = IndexMap::new();
        let (mut forms, mut options) = (Vec::new(), Vec::new());
        for (k, id) in ids.iter().enumerate() {
            let mut own: Vec<Form> = egraph[*id].nodes.iter().filter(|f| !matches!(f, Form::D(..))).cloned().collect();
            // a number beats all other forms of its class
            if let Some(number) = own.iter().position(|f| matches!(f, Form::Num(_))) {
                own = vec![own.swap_remove(number)];
            }
            let candidates: Vec<Candidate> =
                own.iter().map(|f| Candidate::new(f, &egraph.analysis, &class, &mut loops)).collect();
            let keep: Vec<bool> = candidates.iter().map(|c| !c.children.contains(&k)).collect();
            forms.push(own.into_iter().zip(&keep).filter(|(_, k)| **k).map(|(f, _)| f).collect());
            options.push(candidates.into_iter().zip(&keep).filter(|(_, k)| **k).map(|(c, _)| c).collect());
        }
        let rounds = loops.into_values().collect();
        let roots = roots.iter().map(|r| class(*r)).collect();
        Extractor { egraph, position, forms, options, rounds, roots }
    }

    /// The choice with the smallest tree costs; where a class has no form that can be computed, none.
    fn greedy(&self, per_atom: f64) -> Vec<usize> {
        let n = self.options.len();
        let mut best = vec![f64::INFINITY; n];
        let mut free = vec![0u64; n];
        let mut chosen = vec![usize::MAX; n];
        loop {
            let mut changed = false;
            for class in 0..n {
                for (k, form) in self.options[class].iter().enumerate() {
                    let below: f64 = form.children.iter().map(|c| best[*c]).sum();
                    let all = form.children.iter().fold(form.free, |bits, c| bits | free[*c]);
                    let own = form.flops * rounds(&self.rounds, all) + if form.atom { per_atom } else { 0.0 };
                    // a little for each form, so that a cycle is never free
                    let cost = below + own + 1e-3;
                    if cost < best[class] {
                        (best[class], free[class], chosen[class]) = (cost, all & !form.closes, k);
                        changed = true;
                    }
                }
            }
            if !changed {
                return chosen;
            }
        }
    }

    /// A seed changed so that the given forms are chosen for their classes.
    fn with_forms(&self, mut seed: Vec<usize>, given: &[(Id, Form)]) -> Vec<usize> {
        use egg::Language;
        for (id, form) in given {
            let class = self.position[&self.egraph.find(*id)];
            let form = form.clone().map_children(|c| self.egraph.find(c));
            if let Some(k) = self.forms[class].iter().position(|f| *f == form) {
                seed[class] = k;
            }
        }
        seed
    }

    /// The cheapest choice found, as expressions of the graph; none if some root cannot be computed. `input` is a
    /// choice to start from, `per_atom` what a derivative of a network costs.
    pub fn extract(&mut self, input: &[(Id, Form)], per_atom: f64) -> Option<Vec<Term>> {
        let greedy = self.greedy(per_atom);
        let seeds = [greedy.clone(), self.with_forms(greedy, input)];
        let mut best: Option<(f64, Vec<usize>)> = None;
        for seed in seeds {
            let (cost, chosen) = self.climb(seed, per_atom);
            if cost.is_finite() && best.as_ref().is_none_or(|b| cost < b.0) {
                best = Some((cost, chosen));
            }
        }
        let chosen = best?.1;
        Some(self.build(&chosen))
    }

    /// Changes one class at a time while that makes all roots together cheaper.
    fn climb(&self, mut chosen: Vec<usize>, per_atom: f64) -> (f64, Vec<usize>) {
        let choice = Choice { options: &self.options, rounds: &self.rounds };
        let mut walk = Walk::new(self.options.len());
        let mut cost = walk.cost(&choice, &chosen, &self.roots, per_atom);
        if cost.is_infinite() {
            return (cost, chosen);
        }
        for _ in 0..MAX_PASSES {
            let before = cost;
            let reached = walk.reached(&choice, &chosen, &self.roots);
            for class in reached.into_iter().rev() {
                let mut own = chosen[class];
                for k in 0..self.options[class].len() {
                    if k == own || walk.visited > MAX_VISITS {
                        continue;
                    }
                    chosen[class] = k;
                    let new = walk.cost(&choice, &chosen, &self.roots, per_atom);
                    if new < cost {
                        (cost, own) = (new, k);
                    }
                }
                chosen[class] = own;
            }
            if cost >= before {
                break;
            }
        }
        (cost, chosen)
    }

    fn build(&mut self, chosen: &[usize]) -> Vec<Term> {
        let mut done: IndexMap<usize, Term> = IndexMap::new();
        let roots = self.roots.clone();
        roots.iter().map(|r| self.term(*r, chosen, &mut done)).collect()
    }

    fn term(&mut self, class: usize, chosen: &[usize], done: &mut IndexMap<usize, Term>) -> Term {
        if let Some(t) = done.get(&class) {
            return *t;
        }
        for c in self.options[class][chosen[class]].children.clone() {
            self.term(c, chosen, done);
        }
        let form = &self.forms[class][chosen[class]];
        let child = |id: Id| done[&self.position[&self.egraph.find(id)]];
        let children: IndexMap<Id, Term> = egg::Language::children(form).iter().map(|c| (*c, child(*c))).collect();
        let term = self.egraph.analysis.term(form, &|c| children[&c]);
        done.insert(class, term);
        term
    }
}

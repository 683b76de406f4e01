//! Reductions in canonical form: they are linear, pull out what does not depend on their index, contract Kronecker
//! deltas, and split where an indicator changes.

use super::construct::rational;
use super::graph::{Graph, Id, Node};
use super::index::{Index, IndexVar, LoopVar, Symbol};
use crate::program::Reduction;
use num_rational::BigRational;
use num_traits::One;
use std::collections::{HashMap, HashSet};

/// What is summed over, and what has been: a graph shares what a tree would repeat.
struct Sum {
    var: LoopVar,
    lo: i64,
    hi: i64,
    sampler: Option<u32>,
    /// By body.
    done: HashMap<Id, Id>,
}

impl Sum {
    fn over(var: LoopVar, lo: i64, hi: i64, sampler: Option<u32>) -> Self {
        Sum { var, lo, hi, sampler, done: HashMap::new() }
    }
}

impl Graph {
    /// A new variable for a reduction that is being built or taken apart.
    pub fn fresh(&mut self, lo: i64, hi: i64) -> LoopVar {
        self.next_free += 1;
        let var = LoopVar::Free(self.next_free);
        self.ranges.insert(var, (lo, hi));
        var
    }

    /// Closes a reduction over a free variable.
    pub fn reduce(
        &mut self,
        reduction: Reduction,
        var: LoopVar,
        lo: i64,
        hi: i64,
        body: Id,
        sampler: Option<u32>,
    ) -> Id {
        match reduction {
            Reduction::Sum => self.sum(&mut Sum::over(var, lo, hi, sampler), body),
            Reduction::Max if !self.free_vars(body).contains(&var) => body,
            Reduction::Max => self.bind(reduction, var, lo, hi, body, None),
        }
    }

    fn sum(&mut self, over: &mut Sum, body: Id) -> Id {
        if let Some(done) = over.done.get(&body) {
            return *done;
        }
        let out = self.sum_anew(over, body);
        over.done.insert(body, out);
        out
    }

    fn sum_anew(&mut self, over: &mut Sum, body: Id) -> Id {
        let Sum { var, lo, hi, sampler, .. } = *over;
        if hi <= lo {
            return self.int(0);
        }
        if !self.free_vars(body).contains(&var) {
            return self.scale(rational(hi - lo), body);
        }
        if hi - lo == 1 && sampler.is_none() {
            return self.substitute(body, var, &Index::constant(lo));
        }
        if let Node::Add(terms, constant) = self.node(body).clone() {
            let mut out = vec![];
            for (t, c) in terms {
                let s = self.sum(over, t);
                out.push((s, c));
            }
            let one = self.int(1);
            out.push((one, constant * rational(hi - lo)));
            return self.linear(out);
        }
        let factors = match self.node(body) {
            Node::Mul(f) => f.clone(),
            _ => vec![(body, 1)],
        };
        // a sum by the same sampler has other weights inside than outside
        let stays = |f: Id| self.free_vars(f).contains(&var) || sampler.is_some_and(|s| self.is_sampled_by(f, s));
        let (inner, outer): (Vec<_>, Vec<_>) = factors.into_iter().partition(|(f, _)| stays(*f));
        if !outer.is_empty() {
            let inner = self.product(inner);
            let s = self.sum(over, inner);
            return self.product(outer.into_iter().chain([(s, 1)]));
        }
        // contract a Kronecker delta: sum_i delta(i - e) f(i) = f(e) where lo <= e < hi
        for &(f, _) in &inner {
            if let Node::Delta(index) = self.node(f)
                && let Some(&(_, c)) = index.terms.iter().find(|(v, _)| *v == IndexVar::Loop(var))
                && c.abs() == 1
            {
                let rest = index.plus(-c, &Index::of_loop(var));
                let solution = Index::default().plus(-c, &rest);
                let others = inner.iter().copied().filter(|(g, _)| *g != f).collect::<Vec<_>>();
                let others = self.product(others);
                if let Some(value) = self.try_substitute(others, var, &solution) {
                    let guard = self.inside(solution, lo, hi);
                    return self.mul(guard, value);
                }
            }
        }
        // a factor that is a sum with deltas in it (the derivative of a local function) is distributed, so that they are
        // factors of their own
        if let Some((f, e)) =
            inner.iter().copied().find(|(f, e)| *e > 0 && self.sums_deltas(*f, var, &mut HashSet::new()))
        {
            let Node::Add(terms, constant) = self.node(f).clone() else { unreachable!("it sums") };
            let mut rest: Vec<(Id, i32)> = inner.iter().copied().filter(|(g, _)| *g != f).collect();
            rest.push((f, e - 1));
            let mut parts = Vec::new();
            let one = self.int(1);
            for (t, c) in terms.into_iter().chain([(one, constant)]) {
                let term = self.product(rest.iter().copied().chain([(t, 1)]));
                parts.push((self.sum(over, term), c));
            }
            return self.linear(parts);
        }
        // split the range where a condition on the index changes
        if sampler.is_none() {
            let mut cuts = Vec::new();
            self.breakpoints(body, var, &mut cuts, &mut Default::default());
            cuts.retain(|c| lo < *c && *c < hi);
            cuts.sort_unstable();
            cuts.dedup();
            if !cuts.is_empty() {
                let mut ends = vec![lo];
                ends.extend(&cuts);
                ends.push(hi);
                let mut pieces = Vec::new();
                for w in ends.windows(2) {
                    let piece = self.fresh(w[0], w[1]);
                    let b = self.substitute(body, var, &Index::of_loop(piece));
                    let s = self.sum(&mut Sum::over(piece, w[0], w[1], None), b);
                    pieces.push((s, BigRational::one()));
                }
                return self.linear(pieces);
            }
        }
        self.bind(Reduction::Sum, var, lo, hi, body, sampler)
    }

    fn bind(&mut self, reduction: Reduction, var: LoopVar, lo: i64, hi: i64, body: Id, sampler: Option<u32>) -> Id {
        let bound = LoopVar::Bound(self.height(body) + 1);
        let body = self.rename(body, var, bound);
        self.intern(Node::Reduce { reduction, var: bound, lo, hi, body, sampler })
    }

    /// Whether an expression is a sum in which some term has a delta of `var` as a factor, however deep in sums and products.
    fn sums_deltas(&self, id: Id, var: LoopVar, seen: &mut HashSet<Id>) -> bool {
        let Node::Add(terms, _) = self.node(id) else { return false };
        terms.iter().any(|(t, _)| self.has_delta_factor(*t, var, seen))
    }
    /// `seen` have none.
    fn has_delta_factor(&self, id: Id, var: LoopVar, seen: &mut HashSet<Id>) -> bool {
        self.free_vars(id).contains(&var)
            && seen.insert(id)
            && match self.node(id) {
                Node::Delta(index) => index.terms.iter().any(|(v, c)| *v == IndexVar::Loop(var) && c.abs() == 1),
                Node::Mul(factors) => factors.iter().any(|(f, e)| *e > 0 && self.has_delta_factor(*f, var, seen)),
                Node::Add(..) => self.sums_deltas(id, var, seen),
                _ => false,
            }
    }

    /// The values of `var` at which an indicator in the expression changes.
    fn breakpoints(&self, id: Id, var: LoopVar, out: &mut Vec<i64>, seen: &mut HashSet<Id>) {
        if !self.free_vars(id).contains(&var) || !seen.insert(id) {
            return;
        }
        match self.node(id) {
            Node::Inside(index, lo, hi) if index.terms.len() == 1 && index.terms[0].1.abs() == 1 => {
                if index.terms[0].1 == 1 {
                    out.extend([*lo, *hi]);
                } else {
                    out.extend([1 - hi, 1 - lo]);
                }
            }
            Node::Delta(index) if index.terms.len() == 1 && index.terms[0].1.abs() == 1 => {
                let at = -index.offset * index.terms[0].1;
                out.extend([at, at + 1]);
            }
            _ => {
                for c in self.children(id) {
                    self.breakpoints(c, var, out, seen);
                }
            }
        }
    }

    /// Takes a closed reduction apart: its body with a fresh free variable.
    pub fn open(&mut self, id: Id) -> Option<(LoopVar, Id)> {
        let Node::Reduce { var, lo, hi, body, .. } = *self.node(id) else { return None };
        let fresh = self.fresh(lo, hi);
        Some((fresh, self.rename(body, var, fresh)))
    }

    /// Writes out the reductions that hold derivatives of networks.
    pub fn write_out(&mut self, id: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.has_atom(id) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let out = match *self.node(id) {
            Node::Reduce { reduction, lo, hi, .. } => {
                let (var, body) = self.open(id).expect("a reduction");
                let mut parts = Vec::new();
                for k in lo..hi {
                    let part = self.substitute(body, var, &Index::constant(k));
                    parts.push(self.write_out(part, memo));
                }
                self.combine(reduction, parts)
            }
            _ => self.map_children(id, &mut |g, c| g.write_out(c, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
    }
}

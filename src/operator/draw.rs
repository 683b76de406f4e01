//! Sampled sums to sums over draws.

use super::construct::ratio;
use super::graph::{Graph, Id, Node, SamplerKind};
use super::index::{Index, IndexVar, LoopVar, Slot, Symbol};
use crate::program::{MAX_ESTIMATES_MULTIPLIED, Reduction};
use num_rational::BigRational;
use num_traits::One;
use std::collections::{BTreeMap, HashMap};

/// A sum over draws around an expression.
#[derive(Clone, Copy, Debug)]
struct Drawn {
    /// As it was marked.
    sampler: u32,
    slot: LoopVar,
}

impl Graph {
    /// Takes the sums that hold no network out of the sampling: the Laplacian of the known part of u = t^2 N(x, t) + g(x), or
    /// that of g in u = g(x) N(x). They cost no more than a source does, and their variance is gone. (What could be lost is that
    /// terms of one draw cancel; but networks have small derivatives along one of many coordinates, known functions large ones.)
    ///
    /// A double sum whose terms depend on both indices stays sampled.
    pub fn carry_out_known(&mut self, id: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let mut out = match self.has_atom(id) {
            false => self.without_draws(id, memo),
            true => self.map_children(id, &mut |g, c| g.carry_out_known(c, memo), Symbol::clone),
        };
        if let Node::Reduce { reduction, lo, hi, sampler: Some(sampler), .. } = *self.node(out) {
            let (var, body) = self.open(out).expect("a reduction");
            let (networks, known) = self.parts(body, &mut HashMap::new());
            if self.has_atom(networks) && !self.is_zero(known) {
                let sampled = self.reduce(reduction, var, lo, hi, networks, Some(sampler));
                let known = self.reduce(reduction, var, lo, hi, known, Some(sampler));
                let known = self.without_draws(known, memo);
                out = self.add(sampled, known);
            }
        }
        memo.insert(id, out);
        out
    }

    /// An expression as a sum of what holds networks and what does not.
    fn parts(&mut self, id: Id, memo: &mut HashMap<Id, (Id, Id)>) -> (Id, Id) {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let zero = self.int(0);
        let out = match self.node(id).clone() {
            _ if !self.has_atom(id) => (zero, id),
            Node::Add(terms, constant) => {
                let one = self.int(1);
                let (mut networks, mut known) = (Vec::new(), vec![(one, constant)]);
                for (term, c) in terms {
                    let (n, k) = self.parts(term, memo);
                    networks.push((n, c.clone()));
                    known.push((k, c));
                }
                (self.linear(networks), self.linear(known))
            }
            Node::Mul(factors) => {
                let (networks, known): (Vec<_>, Vec<_>) = factors.into_iter().partition(|f| self.has_atom(f.0));
                match networks[..] {
                    [(factor, 1)] => {
                        let (n, k) = self.parts(factor, memo);
                        let known = self.product(known);
                        (self.mul(known, n), self.mul(known, k))
                    }
                    _ => (id, zero),
                }
            }
            _ => (id, zero),
        };
        memo.insert(id, out);
        out
    }

    /// An expression without networks, with every sum carried out: what [`Graph::carry_out_known`] makes of it, too.
    fn without_draws(&mut self, id: Id, memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let out = match *self.node(id) {
            _ if !self.is_sampled(id) => id,
            Node::Reduce { reduction, lo, hi, sampler: Some(sampler), .. }
                if matches!(self.samplers[sampler as usize].kind, SamplerKind::Sparse { .. }) =>
            {
                let (var, body) = self.open(id).expect("a reduction");
                let body = self.without_draws(body, memo);
                match self.is_sampled(body) || self.holds_reduction_over(body, var) {
                    true => id,
                    false => self.reduce(reduction, var, lo, hi, body, None),
                }
            }
            _ => self.map_children(id, &mut |g, c| g.without_draws(c, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
    }

    fn is_sampled(&self, id: Id) -> bool {
        self.holds(id, |n| matches!(n, Node::Reduce { sampler: Some(_), .. }))
    }

    /// Replaces every sampled sum over n indices by a weighted sum over the k draws of its sampler. Call it on expanded
    /// expressions, last.
    ///
    /// A term is divided by the probability that its index is drawn, k/n. Inside another sum by the same sampler that is
    /// the probability given the outer indices: 1 for an index that equals one of the c different outer ones,
    /// (k - c)/(n - c) for another. So b draws give b^2 terms of a double sum, and the mean is the whole sum. A product of
    /// two sums by one sampler is the double sum of the products.
    ///
    /// As many draws tell as many indices apart. Where more sums by one sampler are inside each other, further ones have draws of their own.
    pub fn draw(&mut self, id: Id) -> Id {
        self.draw_within(id, &[], &mut HashMap::new())
    }

    fn draw_within(&mut self, id: Id, outer: &[Drawn], memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let out = match *self.node(id) {
            Node::Reduce { reduction, lo, hi, sampler: Some(sampler), .. } => {
                let SamplerKind::Sparse { k, .. } = self.samplers[sampler as usize].kind else {
                    unreachable!("sums are sampled by indices without replacement")
                };
                let one = self.int(1);
                self.sum_of_draws(id, (reduction, lo, hi), (sampler, k as i64), outer, one)
            }
            Node::Mul(_) => {
                let Node::Mul(factors) = self.node(id).clone() else { unreachable!() };
                let (mut known, mut degrees) = (HashMap::new(), Vec::new());
                for factor in &factors {
                    degrees.push(self.degrees(*factor, &mut known));
                }
                match self.shared(&factors, &degrees) {
                    Some(at) => self.product_of_draws(factors, at, outer),
                    None if let Some(at) = self.distributed(&factors, &degrees) => {
                        self.draw_distributed(factors, at, outer, memo)
                    }
                    None => self.map_children(id, &mut |g, c| g.draw_within(c, outer, memo), Symbol::clone),
                }
            }
            _ => self.map_children(id, &mut |g, c| g.draw_within(c, outer, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
    }

    /// The sum over the draws of a sampled sum times a factor.
    fn sum_of_draws(
        &mut self,
        id: Id,
        (reduction, lo, hi): (Reduction, i64, i64),
        (sampler, k): (u32, i64),
        outer: &[Drawn],
        times: Id,
    ) -> Id {
        let (var, body) = self.open(id).expect("a reduction");
        let slot = self.fresh(0, k);
        // those around it, a chunk of k after the other: only the last one has draws left
        let around: Vec<&Drawn> = outer.iter().filter(|o| o.sampler == sampler).collect();
        let chunk = around.len() / k as usize;
        let by = match chunk {
            0 => sampler,
            chunk => {
                let s = self.samplers[sampler as usize].clone();
                self.sampler(&format!("{}, {}", s.name, chunk + 1), s.kind, s.lo, s.hi)
            }
        };
        let same: Vec<LoopVar> = around[chunk * k as usize..].iter().map(|o| o.slot).collect();
        let drawn = Index::var(IndexVar::Drawn { sampler: by, slot: Slot::Loop(slot) });
        let body = self.substitute(body, var, &drawn);
        let body = self.mul(times, body);
        let inner: Vec<Drawn> = outer.iter().copied().chain([Drawn { sampler, slot }]).collect();
        let body = self.draw_within(body, &inner, &mut HashMap::new());
        let weight = self.inverse_probability(hi - lo, k, &same, slot);
        let body = self.mul(weight, body);
        self.reduce(reduction, slot, 0, k, body, None)
    }

    /// A factor that is a sum by a sampler and holds, or is, a sum by one of which another factor holds a sum too (or the same once more).
    fn shared(&self, factors: &[(Id, i32)], degrees: &[BTreeMap<u32, u32>]) -> Option<usize> {
        factors.iter().enumerate().position(|(at, (f, e))| {
            let Node::Reduce { reduction: Reduction::Sum, sampler: Some(s), .. } = self.node(*f) else { return false };
            let holds = |other: &BTreeMap<u32, u32>| degrees[at].keys().any(|s| other.contains_key(s));
            let others = degrees.iter().enumerate().any(|(o, other)| o != at && holds(other));
            matches!(self.samplers[*s as usize].kind, SamplerKind::Sparse { .. }) && *e > 0 && (*e > 1 || others)
        })
    }

    /// A factor like a + S, S a sampled sum, or a sum over all indices of such, where another factor holds a sum by the same sampler.
    fn distributed(&self, factors: &[(Id, i32)], degrees: &[BTreeMap<u32, u32>]) -> Option<usize> {
        let is_product = |at: usize, s: &u32| {
            let total = degrees.iter().filter_map(|d| d.get(s)).fold(0, |a: u32, b| a.saturating_add(*b));
            let again = factors[at].1 > 1 || degrees.iter().enumerate().any(|(o, d)| o != at && d.contains_key(s));
            again && total <= MAX_ESTIMATES_MULTIPLIED
        };
        (0..factors.len()).find(|at| {
            let is_sum = matches!(
                self.node(factors[*at].0),
                Node::Add(..) | Node::Reduce { reduction: Reduction::Sum, sampler: None, .. }
            );
            is_sum && factors[*at].1 > 0 && degrees[*at].keys().any(|s| is_product(*at, s))
        })
    }

    /// A product with one of its sums written out: so that products of sampled sums stand alone.
    fn draw_distributed(
        &mut self,
        mut factors: Vec<(Id, i32)>,
        at: usize,
        outer: &[Drawn],
        memo: &mut HashMap<Id, Id>,
    ) -> Id {
        let sum = factors[at].0;
        factors[at].1 -= 1;
        let rest = self.product(factors);
        if let Node::Reduce { reduction, lo, hi, .. } = *self.node(sum) {
            let (var, body) = self.open(sum).expect("a reduction");
            let body = self.mul(body, rest);
            // before it is closed: that takes out what does not depend on the index
            let body = self.draw_within(body, outer, &mut HashMap::new());
            return self.reduce(reduction, var, lo, hi, body, None);
        }
        let Node::Add(terms, constant) = self.node(sum).clone() else { unreachable!("it is a sum") };
        let one = self.int(1);
        let terms: Vec<_> = terms.into_iter().chain([(one, constant)]).map(|(t, c)| (self.mul(t, rest), c)).collect();
        let sum = self.linear(terms);
        self.draw_within(sum, outer, memo)
    }

    /// The degree of a power as a polynomial in the sums by each sampler.
    fn degrees(&self, (id, exponent): (Id, i32), memo: &mut HashMap<Id, BTreeMap<u32, u32>>) -> BTreeMap<u32, u32> {
        if !self.has_atom(id) || exponent < 0 {
            return BTreeMap::new();
        }
        if !memo.contains_key(&id) {
            let mut out = BTreeMap::new();
            match self.node(id) {
                Node::Reduce { reduction: Reduction::Sum, sampler, body, .. } => {
                    out.extend(self.degrees((*body, 1), memo));
                    let is_sparse = |s: &u32| matches!(self.samplers[*s as usize].kind, SamplerKind::Sparse { .. });
                    if let Some(s) = sampler.filter(is_sparse) {
                        let total = out.entry(s).or_insert(0u32);
                        *total = total.saturating_add(1);
                    }
                }
                Node::Add(terms, _) => {
                    for (s, d) in terms.iter().flat_map(|t| self.degrees((t.0, 1), memo)) {
                        let most = out.entry(s).or_insert(d);
                        *most = d.max(*most);
                    }
                }
                Node::Mul(factors) => {
                    for (s, d) in factors.iter().flat_map(|f| self.degrees(*f, memo)) {
                        let total = out.entry(s).or_insert(0u32);
                        *total = total.saturating_add(d);
                    }
                }
                _ => {}
            }
            memo.insert(id, out);
        }
        memo[&id].iter().map(|(s, d)| (*s, d.saturating_mul(exponent as u32))).collect()
    }

    /// A product with one of its sums as the outer one.
    fn product_of_draws(&mut self, mut factors: Vec<(Id, i32)>, at: usize, outer: &[Drawn]) -> Id {
        let sum = factors[at].0;
        factors[at].1 -= 1;
        let times = self.product(factors);
        let Node::Reduce { reduction, lo, hi, sampler: Some(sampler), .. } = *self.node(sum) else {
            unreachable!("it is a sampled sum")
        };
        let SamplerKind::Sparse { k, .. } = self.samplers[sampler as usize].kind else {
            unreachable!("sums are sampled by indices without replacement")
        };
        self.sum_of_draws(sum, (reduction, lo, hi), (sampler, k as i64), outer, times)
    }

    /// One over the probability that one of n indices is among k draws, given the indices of `outer` slots, as an
    /// expression in the slots.
    fn inverse_probability(&mut self, n: i64, k: i64, outer: &[LoopVar], slot: LoopVar) -> Id {
        let equal = |g: &mut Graph, a: LoopVar, b: LoopVar| g.delta(Index::of_loop(a).plus(-1, &Index::of_loop(b)));
        // among the first m outer slots: whether `slot` is one of them, and the weight that it has if not
        let one = self.int(1);
        let mut known = self.int(0);
        let mut distinct: Vec<Id> = vec![one];
        for (m, s) in outer.iter().enumerate() {
            // is this outer slot a repetition of an earlier one?
            let mut repeated = self.int(0);
            for earlier in &outer[..m] {
                let e = equal(self, *s, *earlier);
                let fresh = self.sub(one, repeated);
                let term = self.mul(fresh, e);
                repeated = self.add(repeated, term);
            }
            let new = self.sub(one, repeated);
            let e = equal(self, slot, *s);
            let hit = self.mul(new, e);
            known = self.add(known, hit);
            // indicators of exactly c different outer slots, c = 0..=m + 1
            let mut next = vec![self.int(0); distinct.len() + 1];
            for (c, d) in distinct.iter().enumerate() {
                let (stay, go) = (self.mul(repeated, *d), self.mul(new, *d));
                next[c] = self.add(next[c], stay);
                next[c + 1] = self.add(next[c + 1], go);
            }
            distinct = next;
        }
        let mut otherwise = Vec::new();
        for (c, d) in distinct.into_iter().enumerate().take(k as usize) {
            otherwise.push((d, ratio(n - c as i64, k - c as i64)));
        }
        let otherwise = self.linear(otherwise);
        let unknown = self.sub(one, known);
        let rest = self.mul(unknown, otherwise);
        self.linear([(known, BigRational::one()), (rest, BigRational::one())])
    }
}

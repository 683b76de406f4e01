//! Sampled sums to sums over draws.

use super::construct::ratio;
use super::graph::{Graph, Id, Node, SamplerKind};
use super::index::{Index, IndexVar, LoopVar, Slot, Symbol};
use num_rational::BigRational;
use num_traits::One;
use std::collections::HashMap;

impl Graph {
    /// Replaces every sampled sum over n indices by a weighted sum over the k draws of its sampler. Call it on expanded
    /// expressions, last.
    ///
    /// A term is divided by the probability that its index is drawn, k/n. Inside another sum by the same sampler that is
    /// the probability given the outer indices: 1 for an index that equals one of the c different outer ones,
    /// (k - c)/(n - c) for another. So b draws give b^2 terms of a double sum, and the mean is the whole sum.
    pub fn draw(&mut self, id: Id) -> Id {
        self.draw_within(id, &[], &mut HashMap::new())
    }

    fn draw_within(&mut self, id: Id, outer: &[(u32, LoopVar)], memo: &mut HashMap<Id, Id>) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let out = match *self.node(id) {
            Node::Reduce { reduction, lo, hi, sampler: Some(sampler), .. } => {
                let SamplerKind::Sparse { k, .. } = self.samplers[sampler as usize].kind else {
                    unreachable!("sums are sampled by indices without replacement")
                };
                let (var, body) = self.open(id).expect("a reduction");
                let slot = self.fresh(0, k as i64);
                let drawn = Index::var(IndexVar::Drawn { sampler, slot: Slot::Loop(slot) });
                let body = self.substitute(body, var, &drawn);
                let inner: Vec<(u32, LoopVar)> = outer.iter().copied().chain([(sampler, slot)]).collect();
                let body = self.draw_within(body, &inner, &mut HashMap::new());
                let same: Vec<LoopVar> = outer.iter().filter(|o| o.0 == sampler).map(|o| o.1).collect();
                let weight = self.inverse_probability(hi - lo, k as i64, &same, slot);
                let body = self.mul(weight, body);
                self.reduce(reduction, slot, 0, k as i64, body, None)
            }
            _ => self.map_children(id, &mut |g, c| g.draw_within(c, outer, memo), Symbol::clone),
        };
        memo.insert(id, out);
        out
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

//! Scalar code that repeats itself becomes loops (loop rerolling).
//!
//! An estimator writes an expression for each of its draws; they differ in nothing but the rows and columns that they read. Where
//! such expressions are the terms of one sum, or are stored in elements a constant apart, and all their addresses are offset +
//! stride times k, one loop over k does the same. Sums and products change the order of their terms, and so their rounding.
//!
//! - `order`: equal code looks equal;  - `view`: a block by register, its sums and products;
//! - `groups`: what one loop can do;  - `copy`: the body of that loop.

mod copy;
mod groups;
mod order;
#[cfg(test)]
mod tests;
mod view;

use super::assemble::{Item, assemble, items, share, sweep};
use super::{Fold, Pointwise, Register};
use copy::Copy;
use groups::{Group, Target};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use view::{Chain, Joined, View};

/// Shorter code stays as it is,
const LONG: usize = 64;
/// unless it stores so many features.
const VECTOR: usize = 16;
/// Rounds of a loop, at least.
const ROUNDS: usize = 4;
/// Instructions that a loop saves, at least.
const SAVES: usize = 24;

/// How often chains are put in order.
const SORTS: usize = 2;

/// The same code with loops, where it is long or stores a vector, and repeats itself.
pub fn reroll(code: Pointwise) -> Pointwise {
    if code.code.len() < LONG && code.features < VECTOR { code } else { rolled(code) }
}

fn rolled(code: Pointwise) -> Pointwise {
    let mut next = 0;
    let mut block = items(&code.code, &mut next);
    share(&mut block, &mut HashMap::new());
    let mut reroll = Reroll { next, loops: super::reverse::count_loops(&code.code) };
    // what turns out to be equal is shared, which makes other chains shorter
    for _ in 0..SORTS {
        block = reroll.sorted(&block);
        share(&mut block, &mut HashMap::new());
        sweep(&mut block, &mut HashSet::new());
    }
    let block = reroll.block(block, &[], &[]);
    Pointwise { code: assemble(block), ..code }
}

/// Code that becomes loops: the next register and the next loop variable.
struct Reroll {
    next: Register,
    loops: u32,
}

impl Reroll {
    fn fresh(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    /// Rolls one group after the other, the one that saves most first; then the bodies of the loops, which may compute again
    /// what the definitions of `outer` blocks do. `live` are the block's registers that are read outside.
    fn block(&mut self, mut block: Vec<Item>, outer: &[Item], live: &[Register]) -> Vec<Item> {
        let sweep = |block: &mut Vec<Item>| sweep(block, &mut live.iter().copied().collect());
        sweep(&mut block);
        while let Some(better) = self.best(&block, outer) {
            block = better;
            sweep(&mut block);
        }
        let mut outer = outer.to_vec();
        for item in &mut block {
            match item {
                Item::Define(..) => outer.push(item.clone()),
                Item::Loop { body, reductions, .. } => {
                    let live: Vec<Register> = reductions.iter().map(|r| r.1).collect();
                    *body = self.block(std::mem::take(body), &outer, &live);
                }
                Item::Store(..) => {}
            }
        }
        block
    }

    fn best(&mut self, block: &[Item], outer: &[Item]) -> Option<Vec<Item>> {
        let view = View::new(block, outer);
        let chains = view.chains(Joined::Sum, ROUNDS);
        let mut groups = view.stores();
        groups.extend(chains.iter().flat_map(|c| view.sums(c)));
        let sizes: Vec<usize> = groups.iter().map(|g| view.pairs(&[g]).0.len() * (g.terms.len() - 1)).collect();
        let best = (0..groups.len()).max_by_key(|k| (sizes[*k], usize::MAX - k)).filter(|k| sizes[*k] >= SAVES)?;
        let place = |g: &Group| g.terms.iter().map(|t| view.at(*t)).max().unwrap_or(0);
        // other groups of as many rounds share the loop, where it can stand before all sums and behind all terms
        let mut chosen = vec![&groups[best]];
        let mut from = place(&groups[best]);
        for (k, group) in groups.iter().enumerate() {
            let to = from.max(place(group));
            let waits = |g: &Group| match g.target {
                Target::Stores(_) => true,
                Target::Sum { of, .. } => view.at(of) > to,
            };
            let fits = k != best && group.terms.len() == groups[best].terms.len() && sizes[k] > 0;
            if fits && waits(group) && chosen.iter().all(|c| waits(c)) {
                chosen.push(group);
                from = to;
            }
        }
        Some(self.with_loop(block, &view, &chains, &chosen, from))
    }

    /// The block with a loop for these groups, behind the item at `from`.
    fn with_loop(
        &mut self,
        block: &[Item],
        view: &View<'_>,
        chains: &[Chain],
        groups: &[&Group],
        from: usize,
    ) -> Vec<Item> {
        let var = self.loops;
        self.loops += 1;
        let (pairs, loops) = view.pairs(groups);
        let mut copy = Copy { reroll: self, view, var, pairs, loops, names: HashMap::new(), vars: vec![] };
        let mut body = copy.block(view.outer, None, None);
        body.extend(copy.block(block, None, None));
        let (mut reductions, mut removed) = (Vec::new(), Vec::new());
        // by sum: what is left of it, and the registers of the loop
        let mut sums: IndexMap<Register, Vec<(bool, Register)>> = IndexMap::new();
        for group in groups {
            let value = copy.register(group.terms[0], group.terms[1]);
            match &group.target {
                Target::Stores(places) => {
                    let (Item::Store(row, feature, _), Item::Store(row_1, feature_1, _)) =
                        (&block[places[0]], &block[places[1]])
                    else {
                        continue;
                    };
                    body.push(Item::Store(copy.address(row, row_1), copy.address(feature, feature_1), value));
                    removed.extend_from_slice(places);
                }
                Target::Sum { of, negative } => {
                    let total = copy.reroll.fresh();
                    reductions.push((Fold::Sum, value, total));
                    sums.entry(*of).or_default().push((*negative, total));
                }
            }
        }
        let rounds = groups[0].terms.len() as i64;
        let mut rolled = Some(Item::Loop { var, lo: 0, hi: rounds, body, reductions });
        let mut out = Vec::with_capacity(block.len());
        for (at, item) in block.iter().enumerate() {
            match item {
                Item::Define(r, _) if sums.contains_key(r) => {
                    let inside = |t: Register| {
                        let of = |g: &&&Group| matches!(g.target, Target::Sum { of, .. } if of == *r);
                        groups.iter().filter(of).any(|g| g.terms.contains(&t))
                    };
                    let chain = chains.iter().find(|c| c.of == *r);
                    let left = chain.into_iter().flat_map(|c| c.terms.iter().copied().filter(|t| !inside(t.1)));
                    let terms = left.chain(sums[r].iter().copied()).collect();
                    let sum = Chain { of: *r, joined: Joined::Sum, terms };
                    sum.define(&mut || self.fresh(), &mut out);
                }
                _ if removed.contains(&at) => {}
                _ => out.push(item.clone()),
            }
            if at == from {
                out.extend(rolled.take());
            }
        }
        out
    }
}

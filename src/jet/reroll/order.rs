//! Equal code looks equal: instructions that do the same are shared, and the terms of a sum and the factors of a product stand in an
//! order that does not depend on names.

use super::Reroll;
use super::view::{Chain, Joined, View};
use crate::jet::assemble::Item;
use crate::jet::{Binary, Instruction, Register};
use rustc_hash::FxHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

impl Reroll {
    /// The block with the terms of each sum, and the factors of each product, in an order that does not depend on names.
    pub fn sorted(&mut self, block: &[Item]) -> Vec<Item> {
        let mut view = View::new(block, &[]);
        let shapes = view.shapes();
        let chains = view.chains(Joined::Sum, 2).into_iter().chain(view.chains(Joined::Product, 2));
        let mut chains: HashMap<Register, Chain> = chains.map(|c| (c.of, c)).collect();
        let mut out = Vec::with_capacity(block.len());
        for item in block {
            match item {
                Item::Define(r, _) if chains.contains_key(r) => {
                    let Some(mut chain) = chains.remove(r) else { continue };
                    chain.terms.sort_by_cached_key(|(negative, t)| {
                        let (tokens, offsets) = view.describe(None, *t);
                        let tokens = mixed(&|h| tokens.hash(h));
                        (*negative, shapes.get(t).copied().unwrap_or(0), tokens, offsets)
                    });
                    view.orders.insert(*r, chain.terms.iter().map(|t| t.1).collect());
                    chain.define(&mut || self.fresh(), &mut out);
                }
                _ => out.push(item.clone()),
            }
        }
        out
    }
}

impl View<'_> {
    /// By register: a number that is the same for expressions that differ in offsets and in the order of terms and factors.
    fn shapes(&self) -> HashMap<Register, u64> {
        let mut shapes = HashMap::new();
        for item in self.outer.iter().chain(self.block) {
            shape(item, &mut shapes);
        }
        shapes
    }
}

/// One number of some parts.
fn mixed(parts: &dyn Fn(&mut FxHasher)) -> u64 {
    let mut hasher = FxHasher::default();
    parts(&mut hasher);
    hasher.finish()
}

fn shape(item: &Item, shapes: &mut HashMap<Register, u64>) {
    let of = |r: &Register, shapes: &HashMap<Register, u64>| shapes.get(r).copied().unwrap_or(u64::from(*r));
    match item {
        Item::Define(r, instruction) => {
            let inner: Vec<u64> = instruction.operands().iter().map(|r| of(r, shapes)).collect();
            let value = match instruction {
                // sums are of their terms, in any order
                Instruction::Binary(Binary::Add, ..) => inner[0].wrapping_add(inner[1]),
                Instruction::Binary(Binary::Sub, ..) => inner[0].wrapping_sub(inner[1]),
                Instruction::Binary(Binary::Mul, ..) => (inner[0] | 1).wrapping_mul(inner[1] | 1),
                Instruction::Load { input, row, feature } => {
                    mixed(&|h| (1, input, &row.terms, &feature.terms, &inner).hash(h))
                }
                Instruction::Constant(c) => mixed(&|h| (2, c.to_bits()).hash(h)),
                Instruction::Index(a) => mixed(&|h| (3, &a.terms, &inner).hash(h)),
                Instruction::Unary(f, _) => mixed(&|h| (4, f, &inner).hash(h)),
                Instruction::Binary(f, ..) => mixed(&|h| (5, f, &inner).hash(h)),
                Instruction::Loop { .. } | Instruction::Store { .. } => 0,
            };
            shapes.insert(*r, value);
        }
        Item::Loop { lo, hi, body, reductions, .. } => {
            body.iter().for_each(|i| shape(i, shapes));
            for (fold, inner, out) in reductions {
                let inner = of(inner, shapes);
                shapes.insert(*out, mixed(&|h| (6, fold, lo, hi, inner).hash(h)));
            }
        }
        Item::Store(..) => {}
    }
}

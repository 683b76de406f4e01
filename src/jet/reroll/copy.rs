//! The body of a loop, copied from its first two rounds: what differs between them is offset + stride times the round.

use super::Reroll;
use super::groups::{Group, Target};
use super::view::{Source, View};
use crate::jet::assemble::Item;
use crate::jet::{Address, Instruction, Register};
use indexmap::{IndexMap, IndexSet};
use std::collections::HashMap;

/// By register of the first expression: those of the second that stand for it. And by loop of the first: loops of the second,
/// with the reductions of both.
pub type Pairs = (IndexSet<(Register, Register)>, IndexMap<(u32, u32), IndexSet<(Register, Register)>>);

impl View<'_> {
    /// The registers of the first round that vary, each with that of the second.
    pub fn pairs(&self, groups: &[&Group]) -> Pairs {
        let mut pairs = IndexSet::new();
        let mut loops: IndexMap<(u32, u32), IndexSet<(Register, Register)>> = IndexMap::new();
        let mut stack: Vec<(Register, Register)> = groups.iter().map(|g| (g.terms[0], g.terms[1])).collect();
        for group in groups {
            if let Target::Stores(places) = &group.target
                && let (Item::Store(row, feature, _), Item::Store(row_1, feature_1, _)) =
                    (&self.block[places[0]], &self.block[places[1]])
            {
                stack.extend(row.register.zip(row_1.register));
                stack.extend(feature.register.zip(feature_1.register));
            }
        }
        while let Some((a, b)) = stack.pop() {
            if self.stays(a, b) || !pairs.insert((a, b)) {
                continue;
            }
            let (Some(da), Some(db)) = (self.defined.get(&a), self.defined.get(&b)) else { continue };
            match (da.source, db.source) {
                (Source::Instruction(x), Source::Instruction(y)) => {
                    stack.extend(x.operands().into_iter().zip(y.operands()))
                }
                (Source::Reduction(x, _, inner_x), Source::Reduction(y, _, inner_y)) => {
                    loops.entry((x.var, y.var)).or_default().insert((a, b));
                    stack.push((inner_x, inner_y));
                }
                _ => {}
            }
        }
        (pairs, loops)
    }
}

/// The body of a new loop, from the first two rounds.
pub struct Copy<'a, 'b> {
    pub reroll: &'a mut Reroll,
    pub view: &'a View<'b>,
    /// Variable of the new loop.
    pub var: u32,
    pub pairs: IndexSet<(Register, Register)>,
    pub loops: IndexMap<(u32, u32), IndexSet<(Register, Register)>>,
    pub names: HashMap<(Register, Register), Register>,
    /// Variables of the loops that are copied: old and new.
    pub vars: Vec<(u32, u32)>,
}

impl Copy<'_, '_> {
    pub fn register(&self, a: Register, b: Register) -> Register {
        self.names.get(&(a, b)).copied().unwrap_or(a)
    }

    /// offset + stride times the round.
    pub fn address(&self, a: &Address, b: &Address) -> Address {
        let new = |v: u32| self.vars.iter().rev().find(|w| w.0 == v).map_or(v, |w| w.1);
        let mut terms: Vec<(u32, i64)> = a.terms.iter().map(|(v, c)| (new(*v), *c)).collect();
        if a.offset != b.offset {
            terms.push((self.var, b.offset - a.offset));
        }
        let register = a.register.zip(b.register).map(|(a, b)| self.register(a, b));
        Address { offset: a.offset, terms, register }
    }

    /// Copies what varies of a block; `of` and `with` are the loops that it is the body of, in both rounds.
    pub fn block(&mut self, block: &[Item], of: Option<u32>, with: Option<u32>) -> Vec<Item> {
        let mut by_first: HashMap<Register, Vec<Register>> = HashMap::new();
        for (a, b) in &self.pairs {
            let within = |r: &Register| self.view.defined.get(r).and_then(|d| d.within);
            if within(a) == of && within(b) == with {
                by_first.entry(*a).or_default().push(*b);
            }
        }
        let mut out = Vec::new();
        for item in block {
            match item {
                Item::Define(a, x) => {
                    for b in by_first.get(a).cloned().unwrap_or_default() {
                        let Some(Source::Instruction(y)) = self.view.defined.get(&b).map(|d| d.source) else {
                            continue;
                        };
                        let copied = self.instruction(x, y);
                        let r = self.reroll.fresh();
                        self.names.insert((*a, b), r);
                        out.push(Item::Define(r, copied));
                    }
                }
                Item::Loop { var, lo, hi, body, reductions } => {
                    // a loop of the second round belongs where the registers of its sums do
                    let here = |r: &IndexSet<(Register, Register)>| {
                        r.first().and_then(|(_, b)| self.view.defined.get(b)).is_some_and(|d| d.within == with)
                    };
                    let wanted = self.loops.iter().filter(|(l, r)| l.0 == *var && here(r));
                    let wanted: Vec<_> = wanted.map(|(l, r)| (l.1, r.clone())).collect();
                    for (other, registers) in wanted {
                        let new = self.reroll.loops;
                        self.reroll.loops += 1;
                        self.vars.push((*var, new));
                        let body = self.block(body, Some(*var), Some(other));
                        self.vars.pop();
                        let mut folds = Vec::new();
                        for (a, b) in registers {
                            let inner = |r: Register| match self.view.defined.get(&r).map(|d| d.source) {
                                Some(Source::Reduction(_, _, inner)) => inner,
                                _ => r,
                            };
                            let Some((fold, ..)) = reductions.iter().find(|r| r.2 == a) else { continue };
                            let r = self.reroll.fresh();
                            folds.push((*fold, self.register(inner(a), inner(b)), r));
                            self.names.insert((a, b), r);
                        }
                        out.push(Item::Loop { var: new, lo: *lo, hi: *hi, body, reductions: folds });
                    }
                }
                Item::Store(..) => {}
            }
        }
        out
    }

    pub fn instruction(&self, x: &Instruction, y: &Instruction) -> Instruction {
        match (x, y) {
            (Instruction::Load { input, row, feature }, Instruction::Load { row: row_1, feature: feature_1, .. }) => {
                let (row, feature) = (self.address(row, row_1), self.address(feature, feature_1));
                Instruction::Load { input: *input, row, feature }
            }
            (Instruction::Index(a), Instruction::Index(b)) => Instruction::Index(self.address(a, b)),
            (Instruction::Unary(f, a), Instruction::Unary(_, b)) => Instruction::Unary(*f, self.register(*a, *b)),
            (Instruction::Binary(f, a, c), Instruction::Binary(_, b, d)) => {
                Instruction::Binary(*f, self.register(*a, *b), self.register(*c, *d))
            }
            _ => x.clone(),
        }
    }
}

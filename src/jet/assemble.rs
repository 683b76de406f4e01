//! Scalar code under construction: items with provisional register numbers, and their final form without dead code.

use super::{Address, Fold, Instruction, Register};
use std::collections::{HashMap, HashSet};

/// An instruction whose result has a provisional number.
#[derive(Clone, Debug)]
pub enum Item {
    /// Any instruction that defines one register.
    Define(Register, Instruction),
    /// A loop; each reduction folds an inner register into an outer one.
    Loop {
        /// Loop variable.
        var: u32,
        /// First.
        lo: i64,
        /// One past the last.
        hi: i64,
        /// The body.
        body: Vec<Item>,
        /// How, of which register of the body, into which outer register.
        reductions: Vec<(Fold, Register, Register)>,
    },
    /// Row, feature, value.
    Store(Address, Address, Register),
}

/// Code with explicit register numbers: its own, from `next` on.
pub fn items(code: &[Instruction], next: &mut Register) -> Vec<Item> {
    let fresh = |next: &mut Register| {
        *next += 1;
        *next - 1
    };
    let item = |i: &Instruction| match i {
        Instruction::Store { row, feature, value } => Item::Store(row.clone(), feature.clone(), *value),
        Instruction::Loop { var, lo, hi, body, reductions } => {
            let body = items(body, next);
            let reductions = reductions.iter().map(|(f, r)| (*f, *r, fresh(next))).collect();
            Item::Loop { var: *var, lo: *lo, hi: *hi, body, reductions }
        }
        other => Item::Define(fresh(next), other.clone()),
    };
    code.iter().map(item).collect()
}

/// Drops what no store needs and numbers the registers in the order of their definition.
pub fn assemble(mut items: Vec<Item>) -> Vec<Instruction> {
    sweep(&mut items, &mut HashSet::new());
    let mut numbering = Numbering::default();
    numbering.block(items)
}

fn use_address(a: &Address, live: &mut HashSet<Register>) {
    live.extend(a.register);
}

/// Removes dead items of a block, last first; `live` are the registers that are read later.
pub fn sweep(items: &mut Vec<Item>, live: &mut HashSet<Register>) {
    let mut kept = Vec::new();
    while let Some(mut item) = items.pop() {
        match &mut item {
            Item::Define(r, instruction) => {
                if !live.contains(r) {
                    continue;
                }
                live.extend(instruction.operands());
            }
            Item::Loop { body, reductions, .. } => {
                reductions.retain(|(_, _, out)| live.contains(out));
                live.extend(reductions.iter().map(|r| r.1));
                sweep(body, live);
                if reductions.is_empty() && !stores(body) {
                    continue;
                }
            }
            Item::Store(row, feature, value) => {
                use_address(row, live);
                use_address(feature, live);
                live.insert(*value);
            }
        }
        kept.push(item);
    }
    kept.reverse();
    *items = kept;
}

/// Gives equal instructions of a block one register. `names` has the registers that are replaced.
pub fn share(block: &mut Vec<Item>, names: &mut HashMap<Register, Register>) {
    let mut known: HashMap<String, Register> = HashMap::new();
    block.retain_mut(|item| {
        if let Item::Loop { body, .. } = item {
            share(body, names);
        }
        rename(item, &|r| names.get(&r).copied().unwrap_or(r));
        let Item::Define(r, instruction) = item else { return true };
        let first = *known.entry(format!("{instruction:?}")).or_insert(*r);
        if first != *r {
            names.insert(*r, first);
        }
        first == *r
    });
}

/// Other names for the registers that an item reads.
pub fn rename(item: &mut Item, new: &dyn Fn(Register) -> Register) {
    let each = |r: &mut Register| *r = new(*r);
    match item {
        Item::Define(_, Instruction::Load { row, feature, .. }) => {
            [row, feature].into_iter().flat_map(|a| &mut a.register).for_each(each);
        }
        Item::Define(_, Instruction::Index(a)) => a.register.iter_mut().for_each(each),
        Item::Define(_, Instruction::Unary(_, a)) => each(a),
        Item::Define(_, Instruction::Binary(_, a, b)) => [a, b].into_iter().for_each(each),
        Item::Define(..) => {}
        Item::Loop { body, reductions, .. } => {
            body.iter_mut().for_each(|item| rename(item, new));
            reductions.iter_mut().map(|r| &mut r.1).for_each(each);
        }
        Item::Store(row, feature, value) => {
            [&mut row.register, &mut feature.register].into_iter().flatten().chain([value]).for_each(each);
        }
    }
}

fn stores(items: &[Item]) -> bool {
    items.iter().any(|i| match i {
        Item::Store(..) => true,
        Item::Loop { body, .. } => stores(body),
        Item::Define(..) => false,
    })
}

#[derive(Default)]
struct Numbering {
    next: Register,
    names: HashMap<Register, Register>,
}

impl Numbering {
    fn block(&mut self, items: Vec<Item>) -> Vec<Instruction> {
        items.into_iter().map(|item| self.item(item)).collect()
    }
    fn define(&mut self, provisional: Register) {
        self.names.insert(provisional, self.next);
        self.next += 1;
    }
    fn address(&self, a: Address) -> Address {
        Address { register: a.register.map(|r| self.names[&r]), ..a }
    }
    fn item(&mut self, item: Item) -> Instruction {
        match item {
            Item::Define(r, instruction) => {
                let out = match instruction {
                    Instruction::Load { input, row, feature } => {
                        Instruction::Load { input, row: self.address(row), feature: self.address(feature) }
                    }
                    Instruction::Index(a) => Instruction::Index(self.address(a)),
                    Instruction::Unary(f, a) => Instruction::Unary(f, self.names[&a]),
                    Instruction::Binary(f, a, b) => Instruction::Binary(f, self.names[&a], self.names[&b]),
                    other => other,
                };
                self.define(r);
                out
            }
            Item::Store(row, feature, value) => {
                Instruction::Store { row: self.address(row), feature: self.address(feature), value: self.names[&value] }
            }
            Item::Loop { var, lo, hi, body, reductions } => {
                let body = self.block(body);
                let inner: Vec<_> = reductions.iter().map(|(f, r, _)| (*f, self.names[r])).collect();
                for (_, _, out) in &reductions {
                    self.define(*out);
                }
                Instruction::Loop { var, lo, hi, body, reductions: inner }
            }
        }
    }
}

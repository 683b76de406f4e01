//! A block of scalar code by register: where each comes from, and the sums and products that it holds.

use crate::jet::assemble::Item;
use crate::jet::{Binary, Fold, Instruction, Register, Unary};
use indexmap::IndexSet;
use std::collections::HashMap;

/// Where a register of a block comes from.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    Instruction(&'a Instruction),
    /// A reduction of this loop.
    Reduction(Loop, Fold, Register),
}

#[derive(Clone, Copy)]
pub struct Loop {
    pub var: u32,
    pub lo: i64,
    pub hi: i64,
}

/// A register of a block: its source, the variables of the loops around it, and its place in the code.
#[derive(Clone, Copy)]
pub struct Definition<'a> {
    pub source: Source<'a>,
    /// The innermost loop of the block around it.
    pub within: Option<u32>,
    pub at: usize,
}

/// How the links of a chain are joined.
#[derive(Clone, Copy, PartialEq)]
pub enum Joined {
    /// By additions and subtractions.
    Sum,
    Product,
}

impl Joined {
    pub fn has(self, f: Binary) -> bool {
        match self {
            Joined::Sum => matches!(f, Binary::Add | Binary::Sub),
            Joined::Product => f == Binary::Mul,
        }
    }
}

/// A sum or a product of several: its terms, and whether they are subtracted.
pub struct Chain {
    pub of: Register,
    pub joined: Joined,
    pub terms: Vec<(bool, Register)>,
}

/// A block, its loops included, by register.
pub struct View<'a> {
    pub block: &'a [Item],
    /// Definitions of outer blocks.
    pub outer: &'a [Item],
    pub defined: HashMap<Register, Definition<'a>>,
    /// How often a register is read.
    pub uses: HashMap<Register, usize>,
    /// Chains that are in order, for [`View::describe`].
    pub orders: HashMap<Register, Vec<Register>>,
}

impl<'a> View<'a> {
    pub fn new(block: &'a [Item], outer: &'a [Item]) -> Self {
        let mut view = View { block, outer, defined: HashMap::new(), uses: HashMap::new(), orders: HashMap::new() };
        outer.iter().for_each(|item| view.item(item, 0, None));
        // only the block's own count
        view.uses.clear();
        for (at, item) in block.iter().enumerate() {
            view.item(item, at, None);
        }
        view
    }

    fn item(&mut self, item: &'a Item, at: usize, within: Option<u32>) {
        match item {
            Item::Define(r, instruction) => {
                self.defined.insert(*r, Definition { source: Source::Instruction(instruction), within, at });
                for r in instruction.operands() {
                    *self.uses.entry(r).or_default() += 1;
                }
            }
            Item::Loop { var, lo, hi, body, reductions } => {
                body.iter().for_each(|i| self.item(i, at, Some(*var)));
                let of = Loop { var: *var, lo: *lo, hi: *hi };
                for (fold, inner, out) in reductions {
                    self.defined.insert(*out, Definition { source: Source::Reduction(of, *fold, *inner), within, at });
                    *self.uses.entry(*inner).or_default() += 1;
                }
            }
            Item::Store(row, feature, value) => {
                for r in row.register.iter().chain(&feature.register).chain([value]) {
                    *self.uses.entry(*r).or_default() += 1;
                }
            }
        }
    }

    /// The place of a register: that of the item of the block that defines it, 0 for what is outside.
    pub fn at(&self, r: Register) -> usize {
        self.defined.get(&r).map_or(0, |d| d.at)
    }

    /// The same for every round: defined outside of what is copied.
    pub fn stays(&self, a: Register, b: Register) -> bool {
        a == b && self.defined.get(&a).is_none_or(|d| d.within.is_none())
    }

    /// The sums or products of the block, of so many terms at least.
    pub fn chains(&self, joined: Joined, least: usize) -> Vec<Chain> {
        let link = |r: Register| match self.defined.get(&r)?.source {
            Source::Instruction(Instruction::Binary(f, a, b)) if joined.has(*f) => Some((*f, *a, *b)),
            _ => None,
        };
        // those that are links of others
        let mut inner = IndexSet::new();
        let mut found = Vec::new();
        for item in self.block.iter().rev() {
            let Item::Define(of, _) = item else { continue };
            if inner.contains(of) || link(*of).is_none() {
                continue;
            }
            let (mut terms, mut at) = (Vec::new(), *of);
            while let Some((f, a, b)) = link(at) {
                terms.push((f == Binary::Sub, b));
                let single = self.uses.get(&a) == Some(&1);
                at = a;
                if !single {
                    break;
                }
                inner.insert(a);
            }
            terms.push((false, at));
            terms.reverse();
            if terms.len() >= least {
                found.push(Chain { of: *of, joined, terms });
            }
        }
        found
    }
}

impl Chain {
    /// Appends what defines it; registers on the way are new.
    pub fn define(self, fresh: &mut dyn FnMut() -> Register, out: &mut Vec<Item>) {
        let Chain { of, joined, mut terms } = self;
        // what is subtracted comes last, so that nothing need be negated
        terms.sort_by_key(|t| t.0);
        let (negative, mut sum) = terms[0];
        let mut define = |last: bool, instruction: Instruction| {
            let r = if last { of } else { fresh() };
            out.push(Item::Define(r, instruction));
            r
        };
        if negative {
            sum = define(terms.len() == 1, Instruction::Unary(Unary::Neg, sum));
        } else if terms.len() == 1 {
            let zero = define(false, Instruction::Constant(0.0));
            define(true, Instruction::Binary(Binary::Add, sum, zero));
        }
        for (k, (negative, term)) in terms.iter().enumerate().skip(1) {
            let f = match joined {
                Joined::Product => Binary::Mul,
                Joined::Sum if *negative => Binary::Sub,
                Joined::Sum => Binary::Add,
            };
            sum = define(k + 1 == terms.len(), Instruction::Binary(f, sum, *term));
        }
    }
}

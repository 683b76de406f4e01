//! Scalar code that repeats itself becomes loops (loop rerolling).
//!
//! An estimator writes an expression for each of its draws; they differ in nothing but the rows and columns that they read. Where
//! such expressions are the terms of one sum, or are stored in elements a constant apart, and all their addresses are offset +
//! stride times k, one loop over k does the same. Terms keep their order within a loop, not between loops: sums are rounded
//! differently.

use super::assemble::{Item, assemble, items, sweep};
use super::{Address, Binary, Fold, Instruction, Pointwise, Register, Unary};
use indexmap::{IndexMap, IndexSet};
use rustc_hash::FxHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

/// Shorter code stays as it is.
const LONG: usize = 512;
/// Rounds of a loop, at least.
const ROUNDS: usize = 4;
/// Instructions that a loop saves, at least.
const SAVES: usize = 24;

/// How often chains are put in order.
const SORTS: usize = 2;

/// The same code with loops, where it is long and repeats itself.
pub fn reroll(code: Pointwise) -> Pointwise {
    if code.code.len() < LONG { code } else { rolled(code) }
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

/// Gives equal instructions of a block one register. `names` has the registers that are replaced.
fn share(block: &mut Vec<Item>, names: &mut HashMap<Register, Register>) {
    let mut known: HashMap<String, Register> = HashMap::new();
    block.retain_mut(|item| match item {
        Item::Define(r, instruction) => {
            rename(instruction, names);
            let first = *known.entry(format!("{instruction:?}")).or_insert(*r);
            if first != *r {
                names.insert(*r, first);
            }
            first == *r
        }
        Item::Loop { body, reductions, .. } => {
            share(body, names);
            reductions.iter_mut().for_each(|(_, r, _)| *r = names.get(r).copied().unwrap_or(*r));
            true
        }
        Item::Store(row, feature, value) => {
            for r in [&mut row.register, &mut feature.register].into_iter().flatten().chain([value]) {
                *r = names.get(r).copied().unwrap_or(*r);
            }
            true
        }
    });
}

fn rename(instruction: &mut Instruction, names: &HashMap<Register, Register>) {
    let new = |r: &mut Register| *r = names.get(r).copied().unwrap_or(*r);
    match instruction {
        Instruction::Load { row, feature, .. } => {
            [row, feature].into_iter().flat_map(|a| &mut a.register).for_each(new)
        }
        Instruction::Index(a) => a.register.iter_mut().for_each(new),
        Instruction::Unary(_, a) => new(a),
        Instruction::Binary(_, a, b) => [a, b].into_iter().for_each(new),
        Instruction::Constant(_) | Instruction::Loop { .. } | Instruction::Store { .. } => {}
    }
}

/// Where a register of a block comes from.
#[derive(Clone, Copy)]
enum Source<'a> {
    Instruction(&'a Instruction),
    /// A reduction of this loop.
    Reduction(Loop, Fold, Register),
}

#[derive(Clone, Copy)]
struct Loop {
    var: u32,
    lo: i64,
    hi: i64,
}

/// A register of a block: its source, the variables of the loops around it, and its place in the code.
#[derive(Clone, Copy)]
struct Definition<'a> {
    source: Source<'a>,
    /// The innermost loop of the block around it.
    within: Option<u32>,
    at: usize,
}

/// What an expression does, but for the offsets of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// A register of an outer block.
    Outer(Register),
    /// What came before, by its number.
    Again(usize),
    Constant(u64),
    Load(u32, Vec<(u32, i64)>, Vec<(u32, i64)>),
    Index(Vec<(u32, i64)>),
    Unary(Unary),
    Binary(Binary),
    Reduction(Fold, i64, i64, usize),
    Store(Vec<(u32, i64)>, Vec<(u32, i64)>),
}

/// Expressions that differ in offsets only, each a stride from the one before.
#[derive(Clone)]
struct Group {
    /// The expressions.
    terms: Vec<Register>,
    /// What becomes of them.
    target: Target,
}

#[derive(Clone)]
enum Target {
    /// Stored by the items at these places.
    Stores(Vec<usize>),
    /// Added to, or subtracted in, the sum that this register is.
    Sum { of: Register, negative: bool },
}

/// How the links of a chain are joined.
#[derive(Clone, Copy, PartialEq)]
enum Joined {
    /// By additions and subtractions.
    Sum,
    Product,
}

impl Joined {
    fn has(self, f: Binary) -> bool {
        match self {
            Joined::Sum => matches!(f, Binary::Add | Binary::Sub),
            Joined::Product => f == Binary::Mul,
        }
    }
}

/// A sum or a product of several: its terms, and whether they are subtracted.
struct Chain {
    of: Register,
    joined: Joined,
    terms: Vec<(bool, Register)>,
}

struct Reroll {
    next: Register,
    loops: u32,
}

impl Reroll {
    fn fresh(&mut self) -> Register {
        self.next += 1;
        self.next - 1
    }

    /// The block with the terms of each sum, and the factors of each product, in an order that does not depend on names.
    fn sorted(&mut self, block: &[Item]) -> Vec<Item> {
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
                        (*negative, shapes.get(t).copied().unwrap_or(0), view.describe(None, *t).1)
                    });
                    view.orders.insert(*r, chain.terms.iter().map(|t| t.1).collect());
                    self.chain(chain, &mut out);
                }
                _ => out.push(item.clone()),
            }
        }
        out
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
                    self.chain(Chain { of: *r, joined: Joined::Sum, terms }, &mut out);
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

    /// Defines a register as a chain.
    fn chain(&mut self, Chain { of, joined, mut terms }: Chain, out: &mut Vec<Item>) {
        // what is subtracted comes last, so that nothing need be negated
        terms.sort_by_key(|t| t.0);
        let (negative, mut sum) = terms[0];
        let mut define = |last: bool, instruction: Instruction, reroll: &mut Self| {
            let r = if last { of } else { reroll.fresh() };
            out.push(Item::Define(r, instruction));
            r
        };
        if negative {
            sum = define(terms.len() == 1, Instruction::Unary(Unary::Neg, sum), self);
        } else if terms.len() == 1 {
            let zero = define(false, Instruction::Constant(0.0), self);
            define(true, Instruction::Binary(Binary::Add, sum, zero), self);
        }
        for (k, (negative, term)) in terms.iter().enumerate().skip(1) {
            let f = match joined {
                Joined::Product => Binary::Mul,
                Joined::Sum if *negative => Binary::Sub,
                Joined::Sum => Binary::Add,
            };
            sum = define(k + 1 == terms.len(), Instruction::Binary(f, sum, *term), self);
        }
    }
}

/// A block, its loops included, by register.
struct View<'a> {
    block: &'a [Item],
    /// Definitions of outer blocks.
    outer: &'a [Item],
    defined: HashMap<Register, Definition<'a>>,
    /// How often a register is read.
    uses: HashMap<Register, usize>,
    /// Chains that are in order, for [`View::describe`].
    orders: HashMap<Register, Vec<Register>>,
}

/// By register of the first expression: those of the second that stand for it. And by loop of the first: loops of the second,
/// with the reductions of both.
type Pairs = (IndexSet<(Register, Register)>, IndexMap<(u32, u32), IndexSet<(Register, Register)>>);

impl<'a> View<'a> {
    fn new(block: &'a [Item], outer: &'a [Item]) -> Self {
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
                for r in operands(instruction) {
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
    fn at(&self, r: Register) -> usize {
        self.defined.get(&r).map_or(0, |d| d.at)
    }

    /// The same for every round: defined outside of what is copied.
    fn stays(&self, a: Register, b: Register) -> bool {
        a == b && self.defined.get(&a).is_none_or(|d| d.within.is_none())
    }

    /// By register: a number that is the same for expressions that differ in offsets and in the order of terms and factors.
    fn shapes(&self) -> HashMap<Register, u64> {
        let mut shapes = HashMap::new();
        for item in self.outer.iter().chain(self.block) {
            shape(item, &mut shapes);
        }
        shapes
    }

    /// What an expression does, and its offsets.
    fn describe(&self, store: Option<(&Address, &Address)>, root: Register) -> (Vec<Token>, Vec<i64>) {
        let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
        let mut seen: HashMap<Register, usize> = HashMap::new();
        let mut vars: HashMap<u32, u32> = HashMap::new();
        // variables of loops within are numbered from the end, so that they are not mistaken for outer ones
        let terms = |a: &Address, vars: &HashMap<u32, u32>| -> Vec<(u32, i64)> {
            a.terms.iter().map(|(v, c)| (vars.get(v).map_or(*v, |n| u32::MAX - n), *c)).collect()
        };
        let mut stack = vec![root];
        if let Some((row, feature)) = store {
            tokens.push(Token::Store(terms(row, &vars), terms(feature, &vars)));
            offsets.extend([row.offset, feature.offset]);
            stack.extend(row.register.iter().chain(&feature.register));
        }
        while let Some(r) = stack.pop() {
            let Some(definition) = self.defined.get(&r) else {
                tokens.push(Token::Outer(r));
                continue;
            };
            if let Some(number) = seen.get(&r) {
                tokens.push(Token::Again(*number));
                continue;
            }
            seen.insert(r, seen.len());
            match definition.source {
                Source::Reduction(of, fold, inner) => {
                    let count = vars.len() as u32;
                    let number = *vars.entry(of.var).or_insert(count);
                    tokens.push(Token::Reduction(fold, of.lo, of.hi, number as usize));
                    stack.push(inner);
                }
                Source::Instruction(instruction) => {
                    tokens.push(match instruction {
                        Instruction::Constant(c) => Token::Constant(c.to_bits()),
                        Instruction::Load { input, row, feature } => {
                            offsets.extend([row.offset, feature.offset]);
                            Token::Load(*input, terms(row, &vars), terms(feature, &vars))
                        }
                        Instruction::Index(a) => {
                            offsets.push(a.offset);
                            Token::Index(terms(a, &vars))
                        }
                        Instruction::Unary(f, _) => Token::Unary(*f),
                        Instruction::Binary(f, ..) => Token::Binary(*f),
                        Instruction::Loop { .. } | Instruction::Store { .. } => Token::Outer(r),
                    });
                    let operands = self.orders.get(&r).cloned().unwrap_or_else(|| operands(instruction));
                    stack.extend(operands.into_iter().rev());
                }
            }
        }
        (tokens, offsets)
    }

    /// The sums or products of the block, of so many terms at least.
    fn chains(&self, joined: Joined, least: usize) -> Vec<Chain> {
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

    /// Groups of the terms of a sum.
    fn sums(&self, chain: &Chain) -> Vec<Group> {
        let mut classes = Classes::default();
        for (negative, term) in &chain.terms {
            let (tokens, offsets) = self.describe(None, *term);
            classes.entry((*negative, tokens)).or_default().push(((*term, 0), offsets));
        }
        let target = |negative: bool| Target::Sum { of: chain.of, negative };
        groups(&classes, |negative, _| target(negative))
    }

    /// Groups of the stores of the block.
    fn stores(&self) -> Vec<Group> {
        let mut classes = Classes::default();
        for (at, item) in self.block.iter().enumerate() {
            if let Item::Store(row, feature, value) = item {
                let (tokens, offsets) = self.describe(Some((row, feature)), *value);
                classes.entry((false, tokens)).or_default().push(((*value, at), offsets));
            }
        }
        groups(&classes, |_, places| Target::Stores(places))
    }

    /// The registers of the first round that vary, each with that of the second.
    fn pairs(&self, groups: &[&Group]) -> Pairs {
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
                    stack.extend(operands(x).into_iter().zip(operands(y)))
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

fn shape(item: &Item, shapes: &mut HashMap<Register, u64>) {
    let mixed = |parts: &dyn Fn(&mut FxHasher)| {
        let mut hasher = FxHasher::default();
        parts(&mut hasher);
        hasher.finish()
    };
    let of = |r: &Register, shapes: &HashMap<Register, u64>| shapes.get(r).copied().unwrap_or(u64::from(*r));
    match item {
        Item::Define(r, instruction) => {
            let inner: Vec<u64> = operands(instruction).iter().map(|r| of(r, shapes)).collect();
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

/// An expression and the place of its item, with its offsets.
type Member = ((Register, usize), Vec<i64>);

/// Expressions that differ in offsets only, by what they do and whether they are subtracted.
type Classes = IndexMap<(bool, Vec<Token>), Vec<Member>>;

/// The groups of some classes; what becomes of one follows from whether it is subtracted, and from the places of its items.
fn groups(classes: &Classes, target: impl Fn(bool, Vec<usize>) -> Target) -> Vec<Group> {
    let mut out = Vec::new();
    for ((negative, _), members) in classes {
        for run in runs(members) {
            let (terms, places) = run.iter().map(|m| m.0).unzip();
            out.push(Group { terms, target: target(*negative, places) });
        }
    }
    out
}

/// Runs of members whose offsets grow by the same strides.
fn runs(members: &[Member]) -> Vec<&[Member]> {
    let strides = |k: usize| -> Vec<i64> { members[k + 1].1.iter().zip(&members[k].1).map(|(b, a)| b - a).collect() };
    let (mut out, mut begin) = (Vec::new(), 0);
    while begin + ROUNDS <= members.len() {
        let stride = strides(begin);
        let more = (begin + 1..members.len() - 1).take_while(|k| strides(*k) == stride).count();
        let end = begin + 2 + more;
        if end - begin >= ROUNDS {
            out.push(&members[begin..end]);
            begin = end;
        } else {
            begin += 1;
        }
    }
    out
}

fn operands(instruction: &Instruction) -> Vec<Register> {
    match instruction {
        Instruction::Load { row, feature, .. } => row.register.into_iter().chain(feature.register).collect(),
        Instruction::Index(a) => a.register.into_iter().collect(),
        Instruction::Unary(_, a) => vec![*a],
        Instruction::Binary(_, a, b) => vec![*a, *b],
        Instruction::Constant(_) | Instruction::Loop { .. } | Instruction::Store { .. } => vec![],
    }
}

/// The body of a new loop, from the first two rounds.
struct Copy<'a, 'b> {
    reroll: &'a mut Reroll,
    view: &'a View<'b>,
    /// Variable of the new loop.
    var: u32,
    pairs: IndexSet<(Register, Register)>,
    loops: IndexMap<(u32, u32), IndexSet<(Register, Register)>>,
    names: HashMap<(Register, Register), Register>,
    /// Variables of the loops that are copied: old and new.
    vars: Vec<(u32, u32)>,
}

impl Copy<'_, '_> {
    fn register(&self, a: Register, b: Register) -> Register {
        self.names.get(&(a, b)).copied().unwrap_or(a)
    }

    /// offset + stride times the round.
    fn address(&self, a: &Address, b: &Address) -> Address {
        let new = |v: u32| self.vars.iter().rev().find(|w| w.0 == v).map_or(v, |w| w.1);
        let mut terms: Vec<(u32, i64)> = a.terms.iter().map(|(v, c)| (new(*v), *c)).collect();
        if a.offset != b.offset {
            terms.push((self.var, b.offset - a.offset));
        }
        let register = a.register.zip(b.register).map(|(a, b)| self.register(a, b));
        Address { offset: a.offset, terms, register }
    }

    /// Copies what varies of a block; `of` and `with` are the loops that it is the body of, in both rounds.
    fn block(&mut self, block: &[Item], of: Option<u32>, with: Option<u32>) -> Vec<Item> {
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
                    let wanted: Vec<_> =
                        self.loops.iter().filter(|(l, _)| l.0 == *var).map(|(l, r)| (l.1, r.clone())).collect();
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

    fn instruction(&self, x: &Instruction, y: &Instruction) -> Instruction {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jet::{Inputs, JetProgram, Op, Source as Input, Tensor, TensorId, ValueId, interpret};
    use proptest::prelude::*;

    const ROUNDS: usize = 6;
    const COLUMNS: usize = 24;

    /// Code under construction.
    #[derive(Default)]
    struct Code {
        items: Vec<Item>,
        next: Register,
    }

    impl Code {
        fn define(&mut self, instruction: Instruction) -> Register {
            self.items.push(Item::Define(self.next, instruction));
            self.next += 1;
            self.next - 1
        }
    }

    fn load(input: u32, feature: Address) -> Instruction {
        Instruction::Load { input, row: Address::fixed(0), feature }
    }

    /// An expression of every round, written once for each: a sum over the rounds and a store for each. `swap` says where the
    /// arguments of a sum or a product are the other way round.
    fn repeated(template: &[(usize, usize, usize)], swap: &[bool]) -> Pointwise {
        let mut code = Code::default();
        let shared = code.define(load(0, Address::fixed(3)));
        let number = code.define(Instruction::Constant(0.75));
        let (mut total, mut last) = (shared, Vec::new());
        for k in 0..ROUNDS {
            let drawn = code.define(load(1, Address::fixed(k)));
            let near = code.define(Instruction::Index(Address { offset: 1, terms: vec![], register: Some(drawn) }));
            let (var, inner, dot) = (k as u32, code.next, code.next + 2);
            code.next += 3;
            let column = Address { offset: k as i64, terms: vec![(var, 1)], register: None };
            let body = vec![
                Item::Define(inner, load(0, column.clone())),
                Item::Define(inner + 1, Instruction::Binary(Binary::Mul, inner, near)),
            ];
            code.items.push(Item::Loop { var, lo: 0, hi: 5, body, reductions: vec![(Fold::Sum, inner + 1, dot)] });
            let at_drawn = Address { offset: 2, terms: vec![], register: Some(drawn) };
            let mut values = vec![
                shared,
                number,
                dot,
                code.define(load(0, Address::fixed(2 * k + 1))),
                code.define(load(0, at_drawn)),
                code.define(load(1, Address::fixed(ROUNDS + k))),
            ];
            for (n, (f, x, y)) in template.iter().enumerate() {
                let (mut x, mut y) = (values[x % values.len()], values[y % values.len()]);
                let f = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max][f % 4];
                if swap[(n + k) % swap.len()] && matches!(f, Binary::Add | Binary::Mul) {
                    (x, y) = (y, x);
                }
                values.push(code.define(Instruction::Binary(f, x, y)));
            }
            let value = values[values.len() - 1];
            total = code.define(Instruction::Binary(Binary::Sub, total, value));
            last.push(value);
        }
        for (feature, value) in [total].into_iter().chain(last).enumerate() {
            code.items.push(Item::Store(Address::fixed(0), Address::fixed(feature), value));
        }
        let inputs = vec![Input::Value(ValueId(0)), Input::Tensor(TensorId(0))];
        Pointwise { inputs, rows: 1, features: ROUNDS + 1, code: assemble(code.items) }
    }

    fn values(code: &Pointwise) -> Vec<f64> {
        let tensors = vec![Tensor { name: "w".into(), shape: vec![2 * ROUNDS], learned: false }];
        let ops = vec![Op::Points, Op::Pointwise(code.clone())];
        let program = JetProgram { name: "p".into(), columns: COLUMNS, tensors, ops, ..JetProgram::default() };
        let columns = [5.0, 0.0, 12.0, 3.0, 7.0, 9.0];
        let inputs = Inputs {
            count: 2,
            points: (0..2 * COLUMNS).map(|k| (k as f64 * 0.7).sin()).collect(),
            tensors: vec![columns.into_iter().chain((0..ROUNDS).map(|k| (k as f64).cos())).collect()],
            ..Inputs::default()
        };
        interpret(&program, &inputs).expect("valid").remove(1)
    }

    fn length(code: &[Instruction]) -> usize {
        let one = |i: &Instruction| match i {
            Instruction::Loop { body, .. } => 1 + length(body),
            _ => 1,
        };
        code.iter().map(one).sum()
    }

    proptest! {
        #[test]
        fn what_is_repeated_becomes_a_loop_of_the_same_value(
            template in prop::collection::vec((0usize..4, 0usize..40, 0usize..40), 8..24),
            swap in prop::collection::vec(any::<bool>(), 1..9),
        ) {
            let code = repeated(&template, &swap);
            let rolled = rolled(code.clone());
            for (a, b) in values(&code).iter().zip(values(&rolled)) {
                prop_assert!((a - b).abs() <= 1e-9 * (1.0 + a.abs()), "{a} {b}");
            }
            // dead code is gone, so what is left and long is what varies
            if length(&code.code) > 150 {
                prop_assert!(length(&rolled.code) < length(&code.code), "{} of {}", length(&rolled.code), length(&code.code));
            }
        }
    }

    #[test]
    fn short_code_stays() {
        let code = repeated(&[(2, 2, 3)], &[false]);
        assert_eq!(reroll(code.clone()), code);
    }
}

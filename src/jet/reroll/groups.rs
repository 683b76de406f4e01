//! Expressions that differ in the offsets of their addresses only, each a stride from the one before: what one loop can do.

use super::ROUNDS;
use super::view::{Chain, Source, View};
use crate::jet::assemble::Item;
use crate::jet::{Address, Binary, Fold, Instruction, Register, Unary};
use indexmap::IndexMap;
use std::collections::HashMap;

/// Expressions that differ in offsets only, each a stride from the one before.
#[derive(Clone)]
pub struct Group {
    /// The expressions.
    pub terms: Vec<Register>,
    /// What becomes of them.
    pub target: Target,
}

#[derive(Clone)]
pub enum Target {
    /// Stored by the items at these places.
    Stores(Vec<usize>),
    /// Added to, or subtracted in, the sum that this register is.
    Sum { of: Register, negative: bool },
}

/// What an expression does, but for the offsets of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
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

impl View<'_> {
    /// What an expression does, and its offsets.
    pub fn describe(&self, store: Option<(&Address, &Address)>, root: Register) -> (Vec<Token>, Vec<i64>) {
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
                    let operands = self.orders.get(&r).cloned().unwrap_or_else(|| instruction.operands());
                    stack.extend(operands.into_iter().rev());
                }
            }
        }
        (tokens, offsets)
    }

    /// Groups of the terms of a sum.
    pub fn sums(&self, chain: &Chain) -> Vec<Group> {
        let mut classes = Classes::default();
        for (negative, term) in &chain.terms {
            let (tokens, offsets) = self.describe(None, *term);
            classes.entry((*negative, tokens)).or_default().push(((*term, 0), offsets));
        }
        let target = |negative: bool| Target::Sum { of: chain.of, negative };
        groups(&classes, |negative, _| target(negative))
    }

    /// Groups of the stores of the block.
    pub fn stores(&self) -> Vec<Group> {
        let mut classes = Classes::default();
        for (at, item) in self.block.iter().enumerate() {
            if let Item::Store(row, feature, value) = item {
                let (tokens, offsets) = self.describe(Some((row, feature)), *value);
                classes.entry((false, tokens)).or_default().push(((*value, at), offsets));
            }
        }
        groups(&classes, |_, places| Target::Stores(places))
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

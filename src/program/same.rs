//! Structural equality of expressions, up to spans and the names of index variables.

use super::types::*;
use std::collections::HashMap;

/// Compares expressions of one program and remembers what it found: many comparisons cost little more than one.
pub struct Sameness<'p> {
    program: &'p Program,
    /// Verdicts. Sound across binders because an index variable belongs to one reduction: under which pairs of
    /// variables a pair of bodies is compared is determined by the pair.
    known: HashMap<(ExprId, ExprId), bool>,
    /// Variables bound at the same time, innermost last.
    bound: Vec<(IndexId, IndexId)>,
}

impl<'p> Sameness<'p> {
    /// Nothing compared yet.
    pub fn new(program: &'p Program) -> Self {
        Sameness { program, known: HashMap::new(), bound: Vec::new() }
    }

    /// True if both are the same expression, spans aside.
    pub fn same(&mut self, a: ExprId, b: ExprId) -> bool {
        if a == b && self.bound.is_empty() {
            return true;
        }
        let (left, right) = (self.program.expr(a), self.program.expr(b));
        if left.shape != right.shape || std::mem::discriminant(&left.kind) != std::mem::discriminant(&right.kind) {
            return false;
        }
        if let Some(&verdict) = self.known.get(&(a, b)) {
            return verdict;
        }
        let verdict = self.compare(&left.kind, &right.kind);
        self.known.insert((a, b), verdict);
        verdict
    }

    fn compare(&mut self, a: &Kind, b: &Kind) -> bool {
        let own = match (a, b) {
            (
                Kind::Reduce { reduction: ra, index: ia, lo: la, hi: ha, body: ba },
                Kind::Reduce { reduction: rb, index: ib, lo: lb, hi: hb, body: bb },
            ) => {
                if (ra, la, ha) != (rb, lb, hb) {
                    return false;
                }
                self.bound.push((*ia, *ib));
                let verdict = self.same(*ba, *bb);
                self.bound.pop();
                return verdict;
            }
            (Kind::Network { net: a, .. }, Kind::Network { net: b, .. }) => a == b,
            (Kind::Element { index: a, .. }, Kind::Element { index: b, .. }) => self.same_index(a, b),
            (Kind::IndexValue(a), Kind::IndexValue(b)) => self.same_index(a, b),
            (Kind::Slice { lo: la, hi: ha, .. }, Kind::Slice { lo: lb, hi: hb, .. }) => (la, ha) == (lb, hb),
            (Kind::Sum(a), Kind::Sum(b)) | (Kind::Product(a), Kind::Product(b)) => {
                a.iter().map(|(sign, _)| sign).eq(b.iter().map(|(sign, _)| sign))
            }
            (Kind::Call(a, _), Kind::Call(b, _)) => a == b,
            (Kind::Partial { along: a, .. }, Kind::Partial { along: b, .. }) => {
                a.len() == b.len()
                    && a.iter().zip(b).all(|(a, b)| a.group == b.group && self.same_index(&a.index, &b.index))
            }
            // Leaves carry all they are; the other operators carry nothing but operands.
            _ => is_operator_of_operands(a) || a == b,
        };
        if !own {
            return false;
        }
        let (mut left, mut right) = (Vec::new(), Vec::new());
        a.for_each_child(|child| left.push(child));
        b.for_each_child(|child| right.push(child));
        left.len() == right.len() && left.into_iter().zip(right).all(|(a, b)| self.same(a, b))
    }

    fn same_index(&self, a: &IndexExpr, b: &IndexExpr) -> bool {
        let mut renamed: Vec<(IndexId, i64)> = a.terms.iter().map(|&(id, c)| (self.partner(id), c)).collect();
        renamed.sort();
        a.offset == b.offset && renamed == b.terms
    }

    fn partner(&self, id: IndexId) -> IndexId {
        self.bound.iter().rev().find(|(a, _)| *a == id).map_or(id, |(_, b)| *b)
    }
}

fn is_operator_of_operands(kind: &Kind) -> bool {
    let mut any = matches!(kind, Kind::List(_));
    kind.for_each_child(|_| any = true);
    any
}

impl Program {
    /// Structural equality, spans and names of index variables aside. For many comparisons use one [`Sameness`].
    pub fn same(&self, a: ExprId, b: ExprId) -> bool {
        Sameness::new(self).same(a, b)
    }
}

//! Walks that rebuild expressions: loop variables replaced, children mapped.

use super::graph::{Atom, Func, Graph, Id, Node, children, with_children};
use super::index::{Index, IndexVar, LoopVar, Slot, Symbol};
use std::collections::HashMap;

impl Graph {
    /// Replaces a variable by another one, without changing the form.
    pub fn rename(&mut self, id: Id, from: LoopVar, to: LoopVar) -> Id {
        let by = Index::of_loop(to);
        let mut memo = HashMap::new();
        self.rename_with(id, from, &by, &mut memo)
    }
    fn rename_with(&mut self, id: Id, from: LoopVar, by: &Index, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.free_vars(id).contains(&from) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let node = self.node(id).clone();
        let new = match leaf_substitute(&node, from, by) {
            Some(leaf) => self.intern(leaf),
            None => {
                let children: Vec<Id> =
                    children(&node).into_iter().map(|c| self.rename_with(c, from, by, memo)).collect();
                let node = match with_children(&node, &children) {
                    Node::Derivative(s, of) => Node::Derivative(s.substitute(from, by), of),
                    // ids order the terms of sums and products
                    Node::Add(mut t, k) => {
                        t.sort_by_key(|(i, _)| *i);
                        Node::Add(t, k)
                    }
                    Node::Mul(mut f) => {
                        f.sort_by_key(|(i, _)| *i);
                        Node::Mul(f)
                    }
                    other => other,
                };
                self.intern(node)
            }
        };
        memo.insert(id, new);
        new
    }

    /// Replaces a free loop variable by an index, and simplifies.
    pub fn substitute(&mut self, id: Id, var: LoopVar, by: &Index) -> Id {
        let mut memo = HashMap::new();
        self.substitute_with(id, var, by, &mut memo)
    }
    /// The same; none where a draw would have to be numbered by something that is not a slot.
    pub(super) fn try_substitute(&mut self, id: Id, var: LoopVar, by: &Index) -> Option<Id> {
        let plain = by.as_constant().is_some() || (by.offset == 0 && matches!(by.terms[..], [(IndexVar::Loop(_), 1)]));
        if !plain && self.numbers_draws(id, var) {
            return None;
        }
        Some(self.substitute(id, var, by))
    }
    fn numbers_draws(&self, id: Id, var: LoopVar) -> bool {
        let slot = |s: &Slot| *s == Slot::Loop(var);
        let index = |i: &Index| i.terms.iter().any(|(v, _)| matches!(v, IndexVar::Drawn { slot: s, .. } if slot(s)));
        let numbers = |id: Id| match self.node(id) {
            Node::Point(i) | Node::Coef(_, i) | Node::Normal(i) | Node::IndexValue(i) => index(i),
            Node::Delta(i) | Node::Inside(i, ..) => index(i),
            Node::Direction { slot: s, column, .. } => slot(s) || index(column),
            Node::Worth { slot: s, .. } => slot(s),
            Node::Atom(a) => a.symbols.iter().any(|s| match s {
                Symbol::Column(i) => index(i),
                Symbol::Direction { slot: s, .. } => slot(s),
            }),
            _ => false,
        };
        self.find(id, |id| self.free_vars(id).contains(&var), numbers)
    }
    fn substitute_with(&mut self, id: Id, var: LoopVar, by: &Index, memo: &mut HashMap<Id, Id>) -> Id {
        if !self.free_vars(id).contains(&var) {
            return id;
        }
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let node = self.node(id).clone();
        let new = match leaf_substitute(&node, var, by) {
            Some(leaf) => self.leaf(leaf),
            None => self.map_children(id, &mut |g, c| g.substitute_with(c, var, by, memo), |s| s.substitute(var, by)),
        };
        memo.insert(id, new);
        new
    }
    fn leaf(&mut self, node: Node) -> Id {
        match node {
            Node::Delta(i) => self.delta(i),
            Node::Inside(i, lo, hi) => self.inside(i, lo, hi),
            Node::IndexValue(i) => match i.as_constant() {
                Some(k) => self.int(k),
                None => self.intern(Node::IndexValue(i)),
            },
            Node::Atom(mut a) => {
                a.symbols.sort();
                self.intern(Node::Atom(a))
            }
            other => self.intern(other),
        }
    }

    /// Rebuilds a node with the constructors after a function was applied to its children. Reductions are opened
    /// for the function, and closed again.
    pub fn map_children(
        &mut self,
        id: Id,
        f: &mut dyn FnMut(&mut Graph, Id) -> Id,
        symbol: impl Fn(&Symbol) -> Symbol,
    ) -> Id {
        if let Node::Reduce { reduction, lo, hi, sampler, .. } = *self.node(id) {
            let (var, body) = self.open(id).expect("a reduction");
            let body = f(self, body);
            return self.reduce(reduction, var, lo, hi, body, sampler);
        }
        let old = self.children(id);
        let new: Vec<Id> = old.iter().map(|c| f(self, *c)).collect();
        let node = self.node(id).clone();
        match &node {
            Node::Derivative(s, _) => self.intern(Node::Derivative(symbol(s), new[0])),
            _ if new == old => id,
            Node::Add(terms, constant) => {
                let one = self.int(1);
                let t: Vec<_> = new.iter().copied().zip(terms.iter().map(|t| t.1.clone())).collect();
                self.linear(t.into_iter().chain([(one, constant.clone())]))
            }
            Node::Mul(factors) => self.product(new.iter().copied().zip(factors.iter().map(|f| f.1))),
            Node::Power(..) => self.power(new[0], new[1]),
            Node::Call(Func::Of(f), _) => self.call(*f, new),
            node => self.intern(with_children(node, &new)),
        }
    }

    /// Applies a function to every node of an expression, children first, and rebuilds what changed. The function
    /// gets the graph and the node with its new children (reductions closed), and may return a replacement.
    pub fn transform(
        &mut self,
        id: Id,
        memo: &mut HashMap<Id, Id>,
        f: &mut dyn FnMut(&mut Graph, Id) -> Option<Id>,
    ) -> Id {
        if let Some(done) = memo.get(&id) {
            return *done;
        }
        let rebuilt = self.map_children(id, &mut |g, c| g.transform(c, memo, f), Symbol::clone);
        let out = f(self, rebuilt).unwrap_or(rebuilt);
        memo.insert(id, out);
        out
    }
}

/// A leaf with a loop variable replaced; none for a node with children.
fn leaf_substitute(node: &Node, var: LoopVar, by: &Index) -> Option<Node> {
    Some(match node {
        Node::Point(i) => Node::Point(i.substitute(var, by)),
        Node::Coef(c, i) => Node::Coef(*c, i.substitute(var, by)),
        Node::Normal(i) => Node::Normal(i.substitute(var, by)),
        Node::IndexValue(i) => Node::IndexValue(i.substitute(var, by)),
        Node::Delta(i) => Node::Delta(i.substitute(var, by)),
        Node::Inside(i, lo, hi) => Node::Inside(i.substitute(var, by), *lo, *hi),
        Node::Row(c, i, k) => Node::Row(*c, i.substitute(var, by), *k),
        Node::Direction { sampler, slot, column } => {
            Node::Direction { sampler: *sampler, slot: slot.substitute(var, by), column: column.substitute(var, by) }
        }
        Node::Worth { weighting, slot } => Node::Worth { weighting: *weighting, slot: slot.substitute(var, by) },
        Node::Atom(a) => {
            Node::Atom(Atom { symbols: a.symbols.iter().map(|s| s.substitute(var, by)).collect(), ..a.clone() })
        }
        Node::Functional(f, indices) => Node::Functional(*f, indices.iter().map(|i| i.substitute(var, by)).collect()),
        _ => return None,
    })
}

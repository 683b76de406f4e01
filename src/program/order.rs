//! The order in which declarations are resolved: each after all that it mentions. A cycle is an error that shows it.
//!
//! Nothing here recurses over declarations, so a chain of a million of them needs no stack.

use super::names::{Declared, is_builtin_function};
use super::resolver::Resolver;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{Argument, Expr, ExprKind};

/// A declaration, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Symbol(usize),
    Operator(usize),
}

/// A name where it is used.
struct Mention<'a> {
    name: &'a str,
    span: Span,
    called: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

impl<'a> Resolver<'a> {
    /// All declarations, each after those that it mentions; coordinates first, for derivatives need all of them.
    /// Members of cycles are reported and left out.
    pub fn order(&mut self) -> Vec<Node> {
        let symbols = self.symbols.len();
        let count = symbols + self.operators.len();
        let mut state = vec![State::New; count];
        let mut order = Vec::with_capacity(count);
        let groups =
            |i: &usize| self.symbols.get_index(*i).is_some_and(|(_, s)| matches!(s.declared, Declared::Group(..)));
        let mut roots: Vec<usize> = (0..symbols).filter(groups).collect();
        roots.extend(0..count);
        for root in roots {
            if state[root] != State::New {
                continue;
            }
            state[root] = State::Open;
            let mut path = vec![(root, self.uses(root))];
            while let Some((node, uses)) = path.last_mut() {
                let node = *node;
                let Some((next, span)) = uses.pop() else {
                    state[node] = State::Done;
                    order.push(if node < symbols { Node::Symbol(node) } else { Node::Operator(node - symbols) });
                    path.pop();
                    continue;
                };
                match state[next] {
                    State::Done => {}
                    State::Open => {
                        let start = path.iter().position(|(open, _)| *open == next).unwrap_or(0);
                        let cycle: Vec<usize> = path[start..].iter().map(|(node, _)| *node).collect();
                        self.report_cycle(&cycle, span);
                    }
                    State::New => {
                        state[next] = State::Open;
                        let uses = self.uses(next);
                        path.push((next, uses));
                    }
                }
            }
        }
        // What is in a cycle stays unsound, and so silent.
        order.retain(|node| match *node {
            Node::Symbol(i) => !self.cyclic.contains(&i),
            Node::Operator(i) => self.operators[i].sound,
        });
        order
    }

    fn report_cycle(&mut self, cycle: &[usize], span: Span) {
        let symbols = self.symbols.len();
        let mut names = Vec::new();
        let mut places = Vec::new();
        for &node in cycle {
            let (name, place) = match self.symbols.get_index(node) {
                Some((name, symbol)) => (*name, symbol.span),
                None => self.operators.get_index(node - symbols).map_or(("", span), |(name, op)| (*name, op.span)),
            };
            names.push(format!("`{name}`"));
            places.push((place, name));
            match node.checked_sub(symbols) {
                Some(operator) => self.operators[operator].sound = false,
                None => _ = self.cyclic.insert(node),
            }
        }
        let first = names[0].clone();
        let mut diagnostic = Diagnostic::error(span, format!("{first} depends on itself"));
        if cycle.len() > 1 {
            if names.len() > 8 {
                names.splice(4..names.len() - 3, ["..".to_owned()]);
            }
            diagnostic = diagnostic.note(format!("{} -> {first}", names.join(" -> ")));
            for (place, name) in places.into_iter().take(8) {
                diagnostic = diagnostic.also(place, format!("`{name}`"));
            }
        }
        self.report(diagnostic);
    }

    /// The declarations that a declaration mentions, with places, last mention first. Unknown names in operators are
    /// reported here, because an operator that is not used is never resolved.
    fn uses(&mut self, node: usize) -> Vec<(usize, Span)> {
        let symbols = self.symbols.len();
        let mut mentions = Vec::new();
        let mut bound: Vec<&'a str> = Vec::new();
        if let Some(operator) = node.checked_sub(symbols) {
            let operator = self.operators[operator];
            bound.extend(operator.parameters.iter().map(|p| p.text.as_str()));
            walk(operator.body, &mut bound, &mut mentions);
            for mention in &mentions {
                let known = if mention.called { self.is_known_function(mention.name) } else { self.is_known(mention) };
                if !known {
                    let unknown = match mention.called {
                        true => self.unknown_function(mention.name, mention.span),
                        false => self.unknown_value(mention.name, mention.span),
                    };
                    self.report(unknown);
                }
            }
        } else {
            match self.symbols[node].declared {
                Declared::Const(value) | Declared::Param(_, value) => {
                    let value = self.value_set(node).unwrap_or(value);
                    walk(value, &mut bound, &mut mentions);
                }
                Declared::Field(value) | Declared::Let(value) => walk(value, &mut bound, &mut mentions),
                Declared::Group(_, length) => {
                    length.into_iter().for_each(|length| walk(length, &mut bound, &mut mentions))
                }
                Declared::Coef(_, length, distribution) => {
                    walk(length, &mut bound, &mut mentions);
                    walk_arguments(&distribution.arguments, &mut bound, &mut mentions);
                }
                Declared::Net(_, architecture) => {
                    walk_arguments(&architecture.arguments, &mut bound, &mut mentions);
                }
                Declared::Data(_) => {}
            }
        }
        let target = |mention: &Mention| {
            let operator = || mention.called.then(|| self.operators.get_index_of(mention.name)).flatten();
            let node = operator().map(|i| i + symbols).or_else(|| self.symbols.get_index_of(mention.name))?;
            Some((node, mention.span))
        };
        mentions.iter().rev().filter_map(target).collect()
    }

    fn is_known(&self, mention: &Mention) -> bool {
        mention.name == "pi" || self.symbols.contains_key(mention.name)
    }

    fn is_known_function(&self, name: &str) -> bool {
        is_builtin_function(name)
            || name.starts_with("d_")
            || self.operators.contains_key(name)
            || self.symbols.get(name).is_some_and(|symbol| matches!(symbol.declared, Declared::Net(..)))
    }
}

fn walk_arguments<'a>(arguments: &'a [Argument], bound: &mut Vec<&'a str>, out: &mut Vec<Mention<'a>>) {
    for argument in arguments {
        walk(&argument.value, bound, out);
        argument.end.iter().for_each(|end| walk(end, bound, out));
    }
}

fn walk<'a>(expr: &'a Expr, bound: &mut Vec<&'a str>, out: &mut Vec<Mention<'a>>) {
    match &expr.kind {
        ExprKind::Number(_) => {}
        ExprKind::Name(name) if bound.contains(&name.as_str()) => {}
        ExprKind::Name(name) => out.push(Mention { name, span: expr.span, called: false }),
        ExprKind::Negate(a) => walk(a, bound, out),
        ExprKind::Sum(first, rest) | ExprKind::Product(first, rest) => {
            walk(first, bound, out);
            rest.iter().for_each(|(_, term)| walk(term, bound, out));
        }
        ExprKind::Power(a, b) | ExprKind::Index(a, b) => {
            walk(a, bound, out);
            walk(b, bound, out);
        }
        ExprKind::Call(name, arguments) => {
            out.push(Mention { name: &name.text, span: name.span, called: true });
            walk_arguments(arguments, bound, out);
        }
        ExprKind::Reduce { index, lo, hi, body, .. } => {
            walk(lo, bound, out);
            walk(hi, bound, out);
            bound.push(&index.text);
            walk(body, bound, out);
            bound.pop();
        }
        ExprKind::Slice(a, lo, hi) => {
            walk(a, bound, out);
            walk(lo, bound, out);
            walk(hi, bound, out);
        }
        ExprKind::Member(a, _) => walk(a, bound, out),
        ExprKind::List(items) => items.iter().for_each(|item| walk(item, bound, out)),
    }
}

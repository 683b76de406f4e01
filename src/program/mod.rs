//! Names resolved, shapes checked: from [`crate::syntax::ast::Ast`] to [`Program`], with diagnostics.
//! How derivatives are computed is not known here.
//!
//! The way through: declarations are collected (`names`) and put in an order in which each depends only on
//! earlier ones (`order`); each is then resolved (`declarations`, `expressions`, `calls`, `operators`) into
//! the arena, with constants folded (`fold`); the statements that use them follow (`conditions`, `estimates`,
//! `training`). An expression that is wrong is reported once and becomes `None`; whatever contains it stays silent.
//!
//! Invariants of a [`Program`] that `resolve` returns:
//! - children stand before their parents in the arena, and no expression is nested deeper than [`MAX_DEPTH`];
//! - shapes agree, constant indices and the extremes of index variables are in range;
//! - an index variable is bound by exactly one reduction;
//! - numbers are exact and need at most [`MAX_BITS`] bits; what was a real number in the text (weights, rates, ends
//!   of intervals) is finite;
//! - nothing has the size of a coordinate group: a million coordinates cost what three do.

mod arguments;
mod calls;
mod conditions;
mod declarations;
mod dump;
mod estimates;
mod eval;
mod expressions;
mod flow;
mod fold;
mod names;
mod operators;
mod order;
mod regions;
mod resolver;
mod same;
mod text;
mod training;
mod types;
mod walk;

#[cfg(test)]
mod tests;

pub use fold::MAX_BITS;
pub use names::{FUNCTIONS, OPERATORS};
pub use resolver::MAX_DEPTH;
pub use same::Sameness;
pub use types::*;

use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Ast, ItemKind};
use resolver::Resolver;

/// What the command line changes in a file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--set name=value`: of a const or param, in order; the last one of a name counts.
    pub set: Vec<(String, String)>,
    /// `--estimate NAME=METHOD`: NAME is an output, a condition or an expression such as `lap(u)`.
    pub estimates: Vec<(String, String)>,
}

impl Overrides {
    /// As text: part of what a run must have in common with the one that it resumes.
    pub fn text(&self) -> String {
        self.set.iter().chain(&self.estimates).map(|(name, value)| format!("\n{name}={value}")).collect()
    }
}

/// Resolves a tree. The program is there if and only if no diagnostic is an error; warnings may come with it.
///
/// Messages about overrides point at the declaration that is set, or at the start of the file, and say so in a note.
pub fn resolve(ast: &Ast, overrides: &Overrides) -> (Option<Program>, Vec<Diagnostic>) {
    let parsed = ParsedOverrides::new(overrides);
    std::thread::scope(|scope| {
        // Resolution recurses up to MAX_DEPTH expressions deep; the stack of a caller's thread may be small.
        let run = || {
            let mut resolver = Resolver::new(&parsed);
            resolver.run(ast);
            resolver.finish()
        };
        match std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => (None, vec![Diagnostic::error(Span::default(), format!("no thread to resolve in: {error}"))]),
        }
    })
}

/// Enough for [`MAX_DEPTH`] nested expressions in an unoptimised build; reserved, not touched.
const STACK: usize = 64 << 20;

/// Overrides as trees. What does not parse is a diagnostic.
#[derive(Default)]
struct ParsedOverrides {
    set: Vec<(String, ast::Expr)>,
    estimates: Vec<(ast::Expr, ast::Expr, String)>,
    diagnostics: Vec<Diagnostic>,
}

impl ParsedOverrides {
    fn new(overrides: &Overrides) -> Self {
        let mut parsed = ParsedOverrides::default();
        for (name, value) in &overrides.set {
            if let Some(value) = parsed.parse(value, &format!("--set {name}={value}")) {
                parsed.set.push((name.clone(), value));
            }
        }
        for (target, method) in &overrides.estimates {
            let origin = format!("--estimate {target}={method}");
            let (target, method) = (parsed.parse(target, &origin), parsed.parse(method, &origin));
            if let (Some(target), Some(method)) = (target, method) {
                parsed.estimates.push((target, method, origin));
            }
        }
        parsed
    }

    fn parse(&mut self, text: &str, origin: &str) -> Option<ast::Expr> {
        match crate::syntax::parse_expr(text) {
            Ok(expr) => Some(expr),
            Err(diagnostics) => {
                for diagnostic in diagnostics {
                    self.diagnostics.push(elsewhere(diagnostic, Span::default(), origin));
                }
                None
            }
        }
    }
}

/// A diagnostic about text that is not in the file: its places become one place of the file.
fn elsewhere(mut diagnostic: Diagnostic, place: Span, origin: &str) -> Diagnostic {
    diagnostic.labels.truncate(1);
    if let Some(label) = diagnostic.labels.first_mut() {
        label.0 = place;
    }
    diagnostic.note(format!("in `{origin}`"))
}

impl<'a> Resolver<'a> {
    /// All stages, in order.
    fn run(&mut self, ast: &'a Ast) {
        self.declare(ast);
        let order = self.order();
        self.define_all(&order);
        self.settle(ast);
        for item in &ast.items {
            match &item.kind {
                ItemKind::Output { name, value } => self.output(name, value),
                ItemKind::Solve { name, region, left, right, clauses } => {
                    self.condition(item.span, name, region.as_ref(), left, right, clauses)
                }
                ItemKind::Flow { left, right, method } => self.flow(item.span, left, right, method),
                _ => {}
            }
        }
        for item in &ast.items {
            match &item.kind {
                ItemKind::Sample { counts } => self.sample(counts),
                ItemKind::Estimate { target, method, unbiased } => self.estimate(item.span, target, method, *unbiased),
                ItemKind::Train { optimizer, options } => self.train(item.span, optimizer, options),
                ItemKind::Report { entries } => self.report_statement(entries),
                ItemKind::Fit { data, options } => self.fit(item.span, data, options),
                _ => {}
            }
        }
        self.estimate_overrides();
        self.judge_overrides();
        self.judge_estimates();
        self.judge_whole(ast);
    }

    /// What only the whole file shows.
    fn judge_whole(&mut self, ast: &Ast) {
        let has = |test: fn(&ItemKind) -> bool| ast.items.iter().find(|item| test(&item.kind)).map(|item| item.span);
        let solve = has(|kind| matches!(kind, ItemKind::Solve { .. }));
        let flow = has(|kind| matches!(kind, ItemKind::Flow { .. }));
        if solve.or(flow).or(has(|kind| matches!(kind, ItemKind::Output { .. }))).is_none() {
            let place = ast.items.last().map(|item| item.span).unwrap_or_default();
            self.report(
                Diagnostic::error(place, "this file asks for nothing")
                    .note("it needs an `output`, a `solve` or a `flow`, such as `output r = lap(u)`"),
            );
        }
        if let (Some(place), None, None) = (has(|kind| matches!(kind, ItemKind::Train { .. })), solve, flow) {
            self.report(Diagnostic::warning(place, "nothing is trained: there is no `solve` and no `flow`"));
        }
        if let (Some(place), Some(flow)) = (solve, flow) {
            let error = Diagnostic::error(flow, "a file has conditions to solve or a flow, not both");
            self.report(error.also(place, "a condition").note("write two files"));
        }
        self.judge_inputs();
        self.judge_shares();
        if self.failed() {
            return;
        }
        for group in
            self.program.groups.iter().zip(&self.used_groups).filter(|(_, used)| !**used).map(|(group, _)| group)
        {
            let message = format!("the coordinate `{}` is never used", group.name);
            self.diagnostics.push(Diagnostic::warning(group.span, message));
        }
        for net in self.program.nets.iter().zip(&self.used_nets).filter(|(_, used)| !**used).map(|(net, _)| net) {
            let message = format!("the network `{}` is never applied", net.name);
            self.diagnostics.push(Diagnostic::warning(net.span, message));
        }
    }
}

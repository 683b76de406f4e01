//! The state of resolution: the arena under construction, what is known of each expression, and the messages.

use super::ParsedOverrides;
use super::elsewhere;
use super::names::{Operator, Symbol};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use indexmap::IndexMap;
use std::collections::{BTreeSet, HashSet};

/// Deepest nesting of resolved expressions: later stages recurse over them.
pub const MAX_DEPTH: usize = 1000;

/// Most expressions in a program: a chain of operators can double them at each step.
const MAX_EXPRESSIONS: usize = 1 << 18;

/// What an expression depends on, itself included: bits of [`Facts::flags`].
pub(super) mod depends {
    /// Coordinates.
    pub const COORDINATE: u16 = 1;
    /// A network.
    pub const NETWORK: u16 = 2;
    /// A learnable parameter.
    pub const LEARNED: u16 = 4;
    /// A parameter of any kind.
    pub const PARAM: u16 = 8;
    /// Random coefficients.
    pub const COEF: u16 = 16;
    /// A column of a data set.
    pub const DATA: u16 = 32;
    /// A normal derivative.
    pub const NORMAL: u16 = 64;
    /// A derivative.
    pub const DERIVATIVE: u16 = 128;
    /// Space coordinates.
    pub const SPACE: u16 = 256;
}

/// What is known of an expression without looking into it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Height of its tree; a leaf has 1.
    pub depth: u32,
    /// Bits of [`depends`].
    pub flags: u16,
}

/// What a local name stands for.
#[derive(Clone, Copy)]
pub(super) enum Binding {
    /// An argument of an operator; none if it was wrong.
    Value(Option<ExprId>),
    /// The variable of a reduction.
    Index(IndexId),
}

/// Resolution in progress.
pub(super) struct Resolver<'a> {
    pub program: Program,
    /// Beside [`Program::exprs`].
    pub facts: Vec<Facts>,
    pub diagnostics: Vec<Diagnostic>,
    said: HashSet<(Span, String)>,
    /// The namespace of values.
    pub symbols: IndexMap<&'a str, Symbol<'a>>,
    /// Symbols that depend on themselves, by position.
    pub cyclic: BTreeSet<usize>,
    /// User-defined operators: with networks and builtins, the namespace of functions.
    pub operators: IndexMap<&'a str, Operator<'a>>,
    /// The namespace of outputs and conditions.
    pub results: IndexMap<String, (Span, ResultName)>,
    /// Local names, innermost last.
    pub locals: Vec<(&'a str, Span, Binding)>,
    /// lo, hi of each index variable; none while its bounds are wrong or the range is empty.
    pub ranges: Vec<Option<(i64, i64)>>,
    /// Operator uses that are being expanded: name, place.
    pub expanding: Vec<(&'a str, Span)>,
    /// Operator expansions by operator and arguments.
    pub expanded: IndexMap<(usize, Vec<ExprId>), Option<ExprId>>,
    /// Nesting of the expression that is being resolved.
    pub level: usize,
    /// True once all coordinates have their lengths: before, there are no derivatives.
    pub space_known: bool,
    /// False if the length of a coordinate is wrong: the dimension of space says nothing then.
    pub space_sound: bool,
    /// False if a domain is wrong: whether coordinates have one says nothing then.
    pub domains_sound: bool,
    /// True once there are too many expressions: nothing is resolved any more.
    pub full: bool,
    pub used_groups: Vec<bool>,
    pub used_nets: Vec<bool>,
    /// Where the inputs of each network were first counted.
    pub first_use: Vec<Option<Span>>,
    /// Where each condition's count was given.
    pub sampled: IndexMap<String, Span>,
    /// Whether the file has a `flow`.
    pub has_flow: bool,
    pub overrides: &'a ParsedOverrides,
    /// The text that is being resolved is not in the file: the place to name instead, and what it is.
    pub origin: Option<(Span, String)>,
}

/// What a name in the namespace of outputs and conditions is, by position; none where the statement is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum ResultName {
    Output(Option<usize>),
    Condition(Option<usize>),
}

impl<'a> Resolver<'a> {
    pub fn new(overrides: &'a ParsedOverrides) -> Self {
        Resolver {
            program: Program::default(),
            facts: Vec::new(),
            diagnostics: overrides.diagnostics.clone(),
            said: HashSet::new(),
            symbols: IndexMap::new(),
            cyclic: BTreeSet::new(),
            operators: IndexMap::new(),
            results: IndexMap::new(),
            locals: Vec::new(),
            ranges: Vec::new(),
            expanding: Vec::new(),
            expanded: IndexMap::new(),
            level: 0,
            space_known: false,
            space_sound: true,
            domains_sound: true,
            full: false,
            used_groups: Vec::new(),
            used_nets: Vec::new(),
            first_use: Vec::new(),
            sampled: IndexMap::new(),
            has_flow: false,
            overrides,
            origin: None,
        }
    }

    /// The program, if it has no error, and the messages in the order of the text.
    pub fn finish(mut self) -> (Option<Program>, Vec<Diagnostic>) {
        self.diagnostics.sort_by_key(Diagnostic::span);
        let program = (!self.failed()).then_some(self.program);
        (program, self.diagnostics)
    }

    /// True if there is an error.
    pub fn failed(&self) -> bool {
        self.diagnostics.iter().any(Diagnostic::is_error)
    }

    /// Says something once. Inside an expansion, the use of the operator is shown too.
    pub fn report(&mut self, mut diagnostic: Diagnostic) {
        if let Some(&(name, place)) = self.expanding.first() {
            diagnostic = diagnostic.also(place, format!("in this use of `{name}`"));
        }
        if let Some((place, origin)) = &self.origin {
            diagnostic = elsewhere(diagnostic, *place, origin);
        }
        if self.said.insert((diagnostic.span(), diagnostic.message.clone())) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Reports an error; the value of what is wrong.
    pub fn fail<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.report(diagnostic);
        None
    }

    /// Resolves text that is not in the file.
    pub fn in_other_text<T>(&mut self, place: Span, origin: String, run: impl FnOnce(&mut Self) -> T) -> T {
        let outer = self.origin.replace((place, origin));
        let result = run(self);
        self.origin = outer;
        result
    }

    /// Adds an expression whose shape has been checked.
    pub fn push(&mut self, kind: Kind, shape: Shape, span: Span) -> Option<ExprId> {
        let mut facts = Facts { depth: 0, flags: self.own_flags(&kind) };
        kind.for_each_child(|child| {
            let of = self.facts[child.index()];
            facts.depth = facts.depth.max(of.depth);
            facts.flags |= of.flags;
        });
        facts.depth += 1;
        if facts.depth as usize > MAX_DEPTH {
            return self.fail(self.too_deep(span));
        }
        if self.program.exprs.len() >= MAX_EXPRESSIONS {
            self.full = true;
            let message = format!("the program expands to more than {MAX_EXPRESSIONS} expressions");
            return self.fail(Diagnostic::error(span, message));
        }
        let span = self.origin.as_ref().map_or(span, |(place, _)| *place);
        let id = ExprId(self.program.exprs.len() as u32);
        self.program.exprs.push(Expr { kind, shape, span });
        self.facts.push(facts);
        Some(id)
    }

    /// The error of expressions that are nested too deep.
    pub fn too_deep(&self, span: Span) -> Diagnostic {
        Diagnostic::error(span, format!("expressions are nested deeper than {MAX_DEPTH}"))
            .note("chains of `let`, `field` and `operator` count with what they stand for")
    }

    fn own_flags(&self, kind: &Kind) -> u16 {
        use depends::*;
        match kind {
            Kind::Coordinates(group) => match self.program.groups[group.index()].kind {
                GroupKind::Space => COORDINATE | SPACE,
                _ => COORDINATE,
            },
            Kind::Network { .. } => NETWORK,
            Kind::Param(id) if self.program.params[id.index()].learn != Learning::Fixed => PARAM | LEARNED,
            Kind::Param(_) => PARAM,
            Kind::Coef(_) => COEF,
            Kind::Data { .. } => DATA,
            Kind::NormalDerivative(_) => NORMAL | DERIVATIVE,
            kind if kind.is_derivative() => DERIVATIVE,
            _ => 0,
        }
    }

    pub fn shape(&self, id: ExprId) -> Shape {
        self.program.shape(id)
    }

    /// True if the expression depends on any of these ([`depends`]).
    pub fn depends(&self, id: ExprId, on: u16) -> bool {
        self.facts[id.index()].flags & on != 0
    }
}

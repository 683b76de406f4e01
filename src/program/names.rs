//! Names: what the statements declare, in which namespace, and what to say about a name that is not there.
//!
//! Three namespaces: values (constants, coordinates, parameters, coefficients, networks, fields, lets, data, the
//! builtin `pi`), functions (builtins, operators, networks when called), and results (outputs, conditions).
//! Index variables and the parameters of operators are local values; only the latter may hide a global one.

use super::resolver::{Binding, Resolver, ResultName};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Ast, ItemKind, Name};

/// Columns of a run's history besides those of conditions and reports.
const HISTORY: [&str; 4] = ["step", "loss", "lr", "seconds"];

/// A global value.
pub(super) struct Symbol<'a> {
    /// Its name in the declaration.
    pub span: Span,
    pub declared: Declared<'a>,
    /// What a mention of it is, for those that are one expression: none until defined, or if it is wrong.
    pub value: Option<ExprId>,
    /// False while not defined, or if the declaration is wrong: mentions are silent then.
    pub sound: bool,
}

/// What a global value is declared as.
#[derive(Clone, Copy)]
pub(super) enum Declared<'a> {
    Const(&'a ast::Expr),
    Field(&'a ast::Expr),
    Let(&'a ast::Expr),
    Param(ParamId, &'a ast::Expr),
    Group(GroupId, Option<&'a ast::Expr>),
    Coef(CoefId, &'a ast::Expr, &'a ast::Call),
    Net(NetId, &'a ast::Call),
    Data(DataId),
}

impl Declared<'_> {
    /// What it is, for messages.
    pub fn noun(&self) -> &'static str {
        match self {
            Declared::Const(_) => "a const",
            Declared::Field(_) => "a field",
            Declared::Let(_) => "a let",
            Declared::Param(..) => "a parameter",
            Declared::Group(..) => "a coordinate",
            Declared::Coef(..) => "a table of coefficients",
            Declared::Net(..) => "a network",
            Declared::Data(_) => "a data set",
        }
    }
}

/// A user-defined operator.
#[derive(Clone, Copy)]
pub(super) struct Operator<'a> {
    pub span: Span,
    pub parameters: &'a [Name],
    pub body: &'a ast::Expr,
    /// False if it depends on itself.
    pub sound: bool,
}

/// Builtin functions of numbers.
pub const FUNCTIONS: [(&str, Function); 14] = [
    ("sqrt", Function::Sqrt),
    ("exp", Function::Exp),
    ("log", Function::Log),
    ("sin", Function::Sin),
    ("cos", Function::Cos),
    ("tan", Function::Tan),
    ("sinh", Function::Sinh),
    ("cosh", Function::Cosh),
    ("tanh", Function::Tanh),
    ("atan", Function::Atan),
    ("erf", Function::Erf),
    ("abs", Function::Abs),
    ("min", Function::Min),
    ("max", Function::Max),
];

/// Builtin operators (beside `d_xy`, whose letters are coordinates, and `d_n`).
pub const OPERATORS: [&str; 12] =
    ["d", "lap", "grad", "div", "curl", "hess", "trace", "det", "dot", "norm2", "advect", "concat"];

/// True if functions of this name cannot be declared.
pub(super) fn is_builtin_function(name: &str) -> bool {
    name == "sum" || OPERATORS.contains(&name) || FUNCTIONS.iter().any(|(f, _)| *f == name)
}

impl<'a> Resolver<'a> {
    /// Collects the declarations. A second declaration of a name is an error and otherwise ignored.
    pub fn declare(&mut self, ast: &'a Ast) {
        for item in &ast.items {
            match &item.kind {
                ItemKind::Const { name, value } => {
                    self.symbol(name, Declared::Const(value));
                }
                ItemKind::Field { name, value } => {
                    self.symbol(name, Declared::Field(value));
                }
                ItemKind::Let { name, value } => {
                    self.symbol(name, Declared::Let(value));
                }
                ItemKind::Param { name, value, learn } => {
                    let id = ParamId(self.program.params.len() as u32);
                    if self.symbol(name, Declared::Param(id, value)) {
                        let learn = match learn {
                            None => Learning::Fixed,
                            Some(learn) if learn.log => Learning::Log,
                            Some(_) => Learning::Linear,
                        };
                        let (name, span) = (name.text.clone(), name.span);
                        self.program.params.push(Param { name, span, value: 0.0, learn });
                    }
                }
                ItemKind::Space { coordinates, periodic, domain } => {
                    for coordinate in coordinates {
                        self.group(&coordinate.name, coordinate.length.as_ref(), GroupKind::Space);
                    }
                    self.periodic(coordinates, periodic, domain.as_ref());
                }
                ItemKind::Time { name, .. } => {
                    if let Some(first) = self.program.groups.iter().find(|group| group.kind == GroupKind::Time) {
                        let place = first.span;
                        self.report(
                            Diagnostic::error(name.span, "there is a time coordinate already")
                                .also(place, "the first one"),
                        );
                    }
                    self.group(name, None, GroupKind::Time);
                }
                ItemKind::State { coordinate } => {
                    self.group(&coordinate.name, coordinate.length.as_ref(), GroupKind::State)
                }
                ItemKind::Coef { name, length, distribution } => {
                    let id = CoefId(self.program.coefs.len() as u32);
                    if self.symbol(name, Declared::Coef(id, length, distribution)) {
                        let (name, span, distribution) = (name.text.clone(), name.span, CoefDistribution::Normal);
                        self.program.coefs.push(Coef { name, span, len: 0, seed: 0, distribution });
                    }
                }
                ItemKind::Net { name, architecture } => self.net_name(name, architecture),
                ItemKind::Data { name, path, .. } => {
                    let id = DataId(self.program.data.len() as u32);
                    if ["interior", "boundary"].contains(&name.text.as_str()) {
                        let message = format!("a data set cannot be called `{}`", name.text);
                        self.report(Diagnostic::error(name.span, message).note("that is a region of the domain"));
                    }
                    if self.symbol(name, Declared::Data(id)) {
                        let (name, span, path) = (name.text.clone(), name.span, path.clone());
                        self.program.data.push(Data { name, span, path, ..Data::default() });
                    }
                }
                ItemKind::Operator { name, parameters, body } => self.operator(name, parameters, body),
                ItemKind::Output { name, .. } => self.result(name, ResultName::Output(None)),
                ItemKind::Solve { name, .. } => {
                    if HISTORY.contains(&name.text.as_str()) {
                        let message = format!("a condition cannot be called `{}`", name.text);
                        self.report(Diagnostic::error(name.span, message).note("that is a column of a run's history"));
                    }
                    self.result(name, ResultName::Condition(None));
                }
                ItemKind::Flow { .. } => self.has_flow = true,
                _ => {}
            }
        }
    }

    /// Enters a value; false if the name is taken.
    fn symbol(&mut self, name: &'a Name, declared: Declared<'a>) -> bool {
        let text = name.text.as_str();
        if text == "pi" {
            self.report(Diagnostic::error(name.span, "`pi` is a builtin constant").note("choose another name"));
            return false;
        }
        if let Some(first) = self.symbols.get(text) {
            let (place, noun) = (first.span, first.declared.noun());
            self.report(duplicate(name, noun, place));
            return false;
        }
        self.symbols.insert(text, Symbol { span: name.span, declared, value: None, sound: false });
        true
    }

    fn group(&mut self, name: &'a Name, length: Option<&'a ast::Expr>, kind: GroupKind) {
        let id = GroupId(self.program.groups.len() as u32);
        if self.symbol(name, Declared::Group(id, length)) {
            self.program.groups.push(Group {
                name: name.text.clone(),
                span: name.span,
                kind,
                first: 0,
                len: 1,
                is_vector: length.is_some(),
                domain: Domain::None,
                periodic: false,
            });
            self.used_groups.push(false);
        }
    }

    /// Marks periodic groups: known before any network counts its inputs.
    fn periodic(&mut self, coordinates: &'a [ast::Coordinate], names: &'a [Name], domain: Option<&'a ast::Domain>) {
        for name in names {
            if !coordinates.iter().any(|coordinate| coordinate.name.text == name.text) {
                let here = coordinates.iter().map(|coordinate| coordinate.name.text.as_str());
                let message = format!("`{}` is not a coordinate of this statement", name.text);
                self.report(Diagnostic::error(name.span, message).suggest(&name.text, here));
            } else if !domain.is_some_and(|domain| domain.bounded && domain.call.name.text == "box") {
                let message = format!("`{}` cannot be periodic: it has no interval", name.text);
                self.report(Diagnostic::error(name.span, message).note("a period is an interval: `in box(0..1)`"));
            } else if let Some(group) = self.program.groups.iter_mut().find(|group| group.name == name.text) {
                group.periodic = true;
            }
        }
    }

    fn net_name(&mut self, name: &'a Name, architecture: &'a ast::Call) {
        let id = NetId(self.program.nets.len() as u32);
        if self.may_be_function(name) && self.symbol(name, Declared::Net(id, architecture)) {
            self.program.nets.push(Net {
                name: name.text.clone(),
                span: name.span,
                inputs: 0,
                width: 1,
                depth: 1,
                outputs: 1,
                activation: Activation::Identity,
                share: None,
            });
            self.used_nets.push(false);
            self.first_use.push(None);
        }
    }

    fn operator(&mut self, name: &'a Name, parameters: &'a [Name], body: &'a ast::Expr) {
        for (i, parameter) in parameters.iter().enumerate() {
            if let Some(first) = parameters[..i].iter().find(|earlier| earlier.text == parameter.text) {
                self.report(duplicate(parameter, "a parameter of this operator", first.span));
            }
        }
        if self.may_be_function(name) {
            self.operators.insert(&name.text, Operator { span: name.span, parameters, body, sound: true });
        }
    }

    /// True if a function may have this name.
    fn may_be_function(&mut self, name: &'a Name) -> bool {
        let text = name.text.as_str();
        if is_builtin_function(text) {
            let message = format!("`{text}` is a builtin function");
            self.report(Diagnostic::error(name.span, message).note("choose another name"));
            return false;
        }
        if let Some(place) = self.operators.get(text).map(|operator| operator.span) {
            self.report(duplicate(name, "an operator", place));
            return false;
        }
        if let Some(net) = self.program.nets.iter().find(|net| net.name == text) {
            let place = net.span;
            self.report(duplicate(name, "a network", place));
            return false;
        }
        true
    }

    fn result(&mut self, name: &Name, what: ResultName) {
        if let Some((place, first)) = self.results.get(&name.text) {
            let noun = match first {
                ResultName::Output(_) => "an output",
                ResultName::Condition(_) => "a condition",
            };
            let message = duplicate(name, noun, *place);
            self.report(message);
        } else {
            self.results.insert(name.text.clone(), (name.span, what));
        }
    }

    /// The error of a value that is not there.
    pub fn unknown_value(&self, name: &str, span: Span) -> Diagnostic {
        let unknown = Diagnostic::error(span, format!("there is no `{name}`"));
        if self.is_function(name) {
            return unknown.note(format!("there is a function of that name: `{name}(..)`"));
        }
        if self.results.contains_key(name) {
            return unknown.note("an output or condition of that name is not a value: name its expression by `let`");
        }
        let locals = self.locals.iter().rev().map(|(name, ..)| *name);
        unknown.suggest(name, locals.chain(self.symbols.keys().copied()).chain(["pi"]))
    }

    /// The error of a function that is not there.
    pub fn unknown_function(&self, name: &str, span: Span) -> Diagnostic {
        let unknown = Diagnostic::error(span, format!("there is no function `{name}`"));
        if let Some((.., binding)) = self.locals.iter().rev().find(|(local, ..)| *local == name) {
            let noun = match binding {
                Binding::Value(_) => "a parameter of the operator",
                Binding::Index(_) => "an index",
            };
            return unknown.note(format!("`{name}` is {noun}: write `{name}` or `{name}*(..)`"));
        }
        if let Some(symbol) = self.symbols.get(name) {
            let noun = symbol.declared.noun();
            return unknown.note(format!("`{name}` is {noun}: write `{name}` alone, or `{name}*(..)` for a product"));
        }
        unknown.suggest(name, self.function_names())
    }

    fn is_function(&self, name: &str) -> bool {
        is_builtin_function(name) || self.operators.contains_key(name)
    }

    fn function_names(&self) -> impl Iterator<Item = &str> {
        let nets = self.program.nets.iter().map(|net| net.name.as_str());
        let functions = FUNCTIONS.iter().map(|(name, _)| *name);
        self.operators.keys().copied().chain(nets).chain(OPERATORS).chain(functions).chain(["sum"])
    }
}

/// The error of a second declaration.
pub(super) fn duplicate(name: &Name, noun: &str, first: Span) -> Diagnostic {
    Diagnostic::error(name.span, format!("`{}` is declared twice", name.text)).also(first, format!("{noun} already"))
}

//! `train` and `report`.

use super::arguments::{CallRef, Sign};
use super::names::Declared;
use super::resolver::{Resolver, depends};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Argument, ExprKind, ReportEntry};

/// Steps of training where none are given.
const STEPS: usize = 10_000;
/// Test points where none are given.
const POINTS: usize = 4000;
/// Most coordinates of a point that is written down.
const MAX_POINT: usize = 1 << 26;

impl<'a> Resolver<'a> {
    /// `train adam(..), steps = N`
    pub fn train(&mut self, span: Span, optimizer: &'a ast::Call, options: &'a [Argument]) {
        if let Some(first) = &self.program.training {
            let place = first.span;
            self.report(Diagnostic::error(span, "there is a `train` already").also(place, "the first one"));
            return;
        }
        if optimizer.name.text != "adam" {
            let name = &optimizer.name.text;
            let error = Diagnostic::error(optimizer.name.span, format!("there is no optimizer `{name}`"));
            self.report(error.suggest(name, ["adam"]).note("choose `adam`"));
        }
        let adam = self.arguments(optimizer.into(), &["lr", "beta1", "beta2", "epsilon", "decay"], &[]);
        let rest = CallRef { name: "train", name_span: span, arguments: options, span };
        let rest = self.arguments(rest, &["steps", "batch"], &[]);
        let mut real = |name: &'static str, what, default| match adam.get(name) {
            None => default,
            Some(expr) => self.real(expr, what, Sign::Positive).unwrap_or(default),
        };
        let rate = real("lr", "a learning rate", 1e-3);
        let epsilon = real("epsilon", "epsilon", 1e-8);
        let beta1 = self.beta(adam.get("beta1"), 0.9);
        let beta2 = self.beta(adam.get("beta2"), 0.999);
        let decay = adam.get("decay").and_then(|expr| self.decay(expr)).unwrap_or(Decay::Constant);
        let steps = rest.get("steps").and_then(|expr| self.count(expr, "the number of steps", 1)).unwrap_or(STEPS);
        let batch = rest.get("batch").and_then(|expr| self.count(expr, "a batch", 1));
        if let Some(expr) = rest.get("batch").filter(|_| !self.has_flow) {
            let warning = Diagnostic::warning(expr.span, "`batch` changes nothing: there is no `flow`");
            self.report(warning.note("the points of a condition are counted by `sample`"));
        }
        self.program.training = Some(Training { rate, decay, beta1, beta2, epsilon, steps, batch, span });
    }

    fn beta(&mut self, expr: Option<&'a ast::Expr>, default: f64) -> f64 {
        let Some(expr) = expr else { return default };
        match self.real(expr, "the decay of a moment", Sign::NotNegative) {
            Some(beta) if beta < 1.0 => beta,
            Some(beta) => {
                let error = Diagnostic::error(expr.span, "the decay of a moment must be less than 1");
                self.report(error.label(format!("this is {beta}")));
                default
            }
            None => default,
        }
    }

    fn decay(&mut self, expr: &'a ast::Expr) -> Option<Decay> {
        if let Some(call) = CallRef::of(expr).filter(|call| call.name == "exponential") {
            let arguments = self.arguments(call, &["factor"], &[]);
            let Some(factor) = arguments.get("factor") else {
                let error = Diagnostic::error(call.span, "`exponential` needs a factor per step");
                return self.fail(error.note("write `exponential(0.9995)`"));
            };
            return match self.real(factor, "a factor", Sign::Positive)? {
                value if value > 1.0 => {
                    let error = Diagnostic::error(factor.span, "a factor of decay is at most 1");
                    self.fail(error.label(format!("this is {value}")))
                }
                value => Some(Decay::Exponential(value)),
            };
        }
        let words = [("constant", Decay::Constant), ("linear", Decay::Linear), ("cosine", Decay::Cosine)];
        match CallRef::of(expr) {
            Some(call) if !words.iter().any(|(word, _)| *word == call.name) => {
                let error = Diagnostic::error(call.name_span, format!("there is no schedule `{}`", call.name));
                let error = error.suggest(call.name, ["constant", "linear", "cosine", "exponential"]);
                self.fail(error.note("choose from `constant`, `linear`, `cosine`, `exponential(factor)`"))
            }
            _ => self.word(expr, "schedule", &words),
        }
    }

    /// `report error(u, exact), value(nu), points = 4000`: options belong to all calls of the statement.
    pub fn report_statement(&mut self, entries: &'a [ReportEntry]) {
        let (mut points, mut every, mut reference) = (POINTS, None, None);
        let has = |wanted: &str| {
            entries.iter().any(|entry| matches!(entry, ReportEntry::Call(call) if call.name.text == wanted))
        };
        let mut given: Vec<&str> = Vec::new();
        for entry in entries {
            let ReportEntry::Option { name, value } = entry else {
                continue;
            };
            let text = name.text.as_str();
            if given.contains(&text) {
                self.report(Diagnostic::error(name.span, format!("`{text}` is given twice")));
            }
            given.push(text);
            match text {
                "points" => points = self.count(value, "the number of test points", 1).unwrap_or(POINTS),
                "every" => every = self.count(value, "the number of steps between reports", 1),
                "reference" => {
                    reference = self.real(value, "a reference", Sign::Any);
                    if !has("value") {
                        let error = Diagnostic::error(name.span, "`reference` is the known result of a `value`");
                        self.report(error.note("there is none in this statement"));
                    }
                }
                _ => {
                    let error = Diagnostic::error(name.span, format!("a report has no option `{text}`"));
                    let error = error.suggest(text, ["points", "every", "reference"]);
                    self.report(error.note("it has `points`, `every`, `reference`"));
                }
            }
        }
        for entry in entries {
            let ReportEntry::Call(call) = entry else {
                continue;
            };
            let kind = match call.name.text.as_str() {
                "error" => self.error_report(call),
                "value" => self.value_report(call, reference),
                "rollout" => self.rollout(call),
                other => {
                    let error = Diagnostic::error(call.name.span, format!("there is no report `{other}`"));
                    let error = error.suggest(other, ["error", "value", "rollout"]);
                    self.fail(error.note("choose from `error(u, exact)`, `value(u, x = 0)`, `rollout(data)`"))
                }
            };
            if let Some(kind) = kind {
                let label = self.label(call);
                self.program.reports.push(Report { label, kind, points, every });
            }
        }
    }

    fn label(&self, call: &ast::Call) -> String {
        let arguments: Vec<String> = call
            .arguments
            .iter()
            .map(|argument| match &argument.name {
                Some(name) => format!("{} = {}", name.text, argument.value),
                None => argument.value.to_string(),
            })
            .collect();
        format!("{}({})", call.name.text, arguments.join(", "))
    }

    /// `error(u, exact)`, `error(u, obs.u)`
    fn error_report(&mut self, call: &'a ast::Call) -> Option<ReportKind> {
        let arguments = self.arguments(call.into(), &["value", "exact"], &[]);
        let (Some(value), Some(exact)) = (arguments.get("value"), arguments.get("exact")) else {
            let error = Diagnostic::error(call.span, "`error` compares two expressions");
            return self.fail(error.note("write `error(u, exact)`"));
        };
        let (v, e) = (self.expr(value), self.expr(exact));
        let (v, e) = (v?, e?);
        let (a, b) = (self.shape(v), self.shape(e));
        if a != b {
            let error = Diagnostic::error(exact.span, format!("a {b} is not compared to a {a}"));
            return self.fail(error.label(b.to_string()).also(value.span, a.to_string()));
        }
        self.no_normal(v, value.span)?;
        self.no_normal(e, exact.span)?;
        let mut data = None;
        for id in self.program.reachable([v, e]) {
            let Kind::Data { data: set, .. } = self.program.expr(id).kind else {
                continue;
            };
            if *data.get_or_insert(set) != set {
                let error = Diagnostic::error(call.span, "this compares the points of two data sets");
                return self.fail(error.note("an error is measured over one of them"));
            }
        }
        if data.is_none() {
            self.judge_domains(None, call.span, "an error over fresh points")?;
        }
        Some(ReportKind::Error { value: v, exact: e, data })
    }

    fn no_normal(&mut self, id: ExprId, span: Span) -> Option<()> {
        if !self.depends(id, depends::NORMAL) {
            return Some(());
        }
        self.fail(Diagnostic::error(span, "`d_n` has no meaning here").note("test points are not on a face"))
    }

    /// `value(nu)`, `value(u, x = 0, t = 0)`
    fn value_report(&mut self, call: &'a ast::Call, reference: Option<f64>) -> Option<ReportKind> {
        let mut positional = call.arguments.iter().filter(|argument| argument.name.is_none());
        let (Some(argument), None) = (positional.next(), positional.next()) else {
            let error = Diagnostic::error(call.span, "`value` takes one expression and a point");
            return self.fail(error.note("write `value(nu)` or `value(u, x = 0, t = 0)`"));
        };
        let id = self.expr(&argument.value);
        let mut given: Vec<(GroupId, Vec<f64>)> = Vec::new();
        let mut sound = true;
        for argument in &call.arguments {
            let Some(name) = &argument.name else { continue };
            match self.symbols.get(name.text.as_str()).map(|symbol| symbol.declared) {
                Some(Declared::Group(group, _)) => match self.point(group, &argument.value) {
                    Some(_) if given.iter().any(|(known, _)| *known == group) => {
                        sound = false;
                        self.report(Diagnostic::error(name.span, format!("`{}` is given twice", name.text)));
                    }
                    Some(values) => given.push((group, values)),
                    None => sound = false,
                },
                _ => {
                    sound = false;
                    let names = self.program.groups.iter().map(|group| group.name.as_str());
                    let error = Diagnostic::error(name.span, format!("there is no coordinate `{}`", name.text));
                    let error = error.suggest(&name.text, names);
                    self.report(match name.text.as_str() {
                        "points" | "every" | "reference" => error.note("options stand after the call"),
                        _ => error,
                    });
                }
            }
        }
        let id = id.filter(|_| sound)?;
        if self.shape(id) != Shape::Scalar {
            let shape = self.shape(id).to_string();
            let error = Diagnostic::error(argument.value.span, "`value` reports a number").label(shape);
            return self.fail(error.note("name one element of it"));
        }
        self.no_normal(id, argument.value.span)?;
        if self.depends(id, depends::DATA) {
            return self.fail(Diagnostic::error(argument.value.span, "a value at a point cannot read data"));
        }
        for below in self.program.reachable([id]) {
            let Kind::Coordinates(group) = self.program.expr(below).kind else {
                continue;
            };
            if !given.iter().any(|(known, _)| *known == group) {
                let name = &self.program.groups[group.index()].name;
                let error = Diagnostic::error(call.span, format!("this value depends on `{name}`: where is it taken?"));
                return self.fail(error.note(format!("write `value(.., {name} = 0)`")));
            }
        }
        let columns = self.program.columns();
        if given.is_empty() {
            return Some(ReportKind::Value { value: id, at: Vec::new(), reference });
        }
        if columns > MAX_POINT {
            let message = format!("a point of {columns} coordinates is too long to report a value at");
            return self.fail(Diagnostic::error(call.span, message));
        }
        let mut at = vec![0.0; columns];
        for (group, values) in given {
            let Group { first, len, .. } = self.program.groups[group.index()];
            match values[..] {
                [value] => at[first..first + len].fill(value),
                _ => at[first..first + len].copy_from_slice(&values),
            }
        }
        Some(ReportKind::Value { value: id, at, reference })
    }

    /// One number, which fills a group, or a list as long as it.
    fn point(&mut self, group: GroupId, expr: &'a ast::Expr) -> Option<Vec<f64>> {
        let Group { len, is_vector, .. } = self.program.groups[group.index()];
        let what = "a coordinate of a point";
        let ExprKind::List(items) = &expr.kind else {
            return self.real(expr, what, Sign::Any).map(|value| vec![value]);
        };
        if !is_vector || items.len() != len {
            let message = format!("this point has {} coordinates where there are {len}", items.len());
            return self.fail(Diagnostic::error(expr.span, message));
        }
        let values: Vec<Option<f64>> = items.iter().map(|item| self.real(item, what, Sign::Any)).collect();
        values.into_iter().collect()
    }
}

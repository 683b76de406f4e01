//! `flow`, `fit flow to`, and the report `rollout`.
//!
//! A flow has one state, and perhaps a time; every other number that its right side reads is the same along a trajectory
//! (parameters) or over a step (columns of the data set that the flow is fitted to: inputs). Data sets of flows have a
//! column of time, `t` unless a time coordinate has another name, and a column `run`.

use super::arguments::{CallRef, Sign, listed};
use super::names::Declared;
use super::resolver::Resolver;
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Argument, ExprKind};

/// Highest order of a Taylor method: the remainder's algebra has one more.
const MAX_TAYLOR: usize = 12;
/// Tolerance of the solver that a midpoint is fitted to.
const MIDPOINT_TOLERANCE: f64 = 1e-6;

impl<'a> Resolver<'a> {
    /// `flow d_t(s) = F(s) by taylor_lagrange(..)`
    pub fn flow(&mut self, span: Span, left: &'a ast::Expr, right: &'a ast::Expr, method: &'a ast::Call) {
        if let Some(first) = &self.program.flow {
            let place = first.span;
            let error = Diagnostic::error(span, "there is a `flow` already").also(place, "the first one");
            return self.report(error.note("one state may be a vector: `state s[3]`"));
        }
        let state = self.flow_state(left);
        let right = match state {
            Some(state) => self.flow_value(right, state, left.span),
            None => {
                self.expr(right);
                None
            }
        };
        let method = self.integrator(method, state);
        if let (Some(state), Some(right), Some((integrator, step, substeps, tolerance))) = (state, right, method) {
            self.program.flow = Some(Flow { state, right, integrator, step, substeps, tolerance, span });
        }
    }

    fn flow_state(&mut self, left: &'a ast::Expr) -> Option<GroupId> {
        let name = match &left.kind {
            ExprKind::Call(name, arguments) if name.text == "d_t" && arguments.len() == 1 => {
                match &arguments[0].value.kind {
                    ExprKind::Name(state) => Some(state),
                    _ => None,
                }
            }
            _ => None,
        };
        let is = |group: &Group| group.kind == GroupKind::State && Some(&group.name) == name;
        let Some(position) = self.program.groups.iter().position(is) else {
            let error = Diagnostic::error(left.span, "the left side of a flow is the derivative of a state");
            return self.fail(error.note("such as `flow d_t(s) = F(s) by ..` after `state s[2]`"));
        };
        self.used_groups[position] = true;
        for group in 0..self.program.groups.len() {
            let Group { kind, span, name, .. } = self.program.groups[group].clone();
            if group != position && kind != GroupKind::Time {
                let error = Diagnostic::error(left.span, format!("`{name}` does not move in this flow"));
                return self.fail(error.also(span, "declared here").note("a file of a flow has one state, and a time"));
            }
        }
        Some(GroupId(position as u32))
    }

    /// An expression of the shape of the state.
    fn flow_value(&mut self, right: &'a ast::Expr, state: GroupId, left: Span) -> Option<ExprId> {
        let (id, shape) = (self.expr(right)?, self.state_shape(state));
        let found = self.shape(id);
        if found != shape {
            let error = Diagnostic::error(right.span, format!("a {found} cannot be the derivative of a {shape}"));
            let note = match (found, shape) {
                (Shape::Scalar, Shape::Vector(1)) => "a state of one number is declared without `[1]`".into(),
                (_, Shape::Vector(n)) => {
                    format!("the right side has as many components as the state: of a network, `outputs = {n}`")
                }
                _ => "a state of several numbers is declared with how many: `state s[2]`".into(),
            };
            return self.fail(error.label(found.to_string()).also(left, shape.to_string()).note(note));
        }
        Some(id)
    }

    fn state_shape(&self, state: GroupId) -> Shape {
        let Group { is_vector, len, .. } = self.program.groups[state.index()];
        if is_vector { Shape::Vector(len) } else { Shape::Scalar }
    }

    /// The method, its step, how many make one, and the tolerance of a rollout.
    #[allow(clippy::type_complexity)]
    fn integrator(
        &mut self,
        method: &'a ast::Call,
        state: Option<GroupId>,
    ) -> Option<(Integrator, Option<f64>, usize, Option<f64>)> {
        let call = CallRef::from(method);
        let scheme = Scheme::NAMES.iter().find(|(name, _)| *name == call.name).map(|(_, scheme)| *scheme);
        let names: &[&'static str] = match call.name {
            "taylor_lagrange" => &["order", "midpoint", "step", "substeps", "tolerance"],
            "taylor" => &["order", "step", "substeps", "tolerance"],
            "hypersolver" => &["method", "correction", "step", "substeps"],
            "dopri5" => &["rtol", "atol"],
            _ if scheme.is_some() => &["step", "substeps"],
            other => {
                let names = ["taylor", "taylor_lagrange", "hypersolver", "dopri5"];
                let names: Vec<&str> = names.into_iter().chain(Scheme::NAMES.iter().map(|s| s.0)).collect();
                let error = Diagnostic::error(call.name_span, format!("there is no integrator `{other}`"));
                let error = error.suggest(other, names.iter().copied());
                return self.fail(error.note(format!("choose from {}", listed(&names))));
            }
        };
        let arguments = self.arguments(call, names, &[]);
        let need = |this: &mut Self, name: &str, example: &str| match arguments.get(name) {
            Some(expr) => Some(expr),
            None => {
                let error = Diagnostic::error(call.span, format!("`{}` has no `{name}`", call.name));
                this.fail(error.note(format!("write `{name} = {example}`")))
            }
        };
        let tolerance = |this: &mut Self, name: &str, default: Option<f64>| match arguments.get(name) {
            Some(expr) => this.real(expr, "a tolerance", Sign::Positive).map(Some),
            None => Some(default),
        };
        let integrator = match call.name {
            "dopri5" => {
                let (rtol, atol) = (tolerance(self, "rtol", Some(1e-6)), tolerance(self, "atol", Some(1e-8)));
                return Some((Integrator::Dopri5 { rtol: rtol??, atol: atol?? }, None, 1, None));
            }
            "taylor" | "taylor_lagrange" => {
                let order = need(self, "order", "2").and_then(|expr| self.taylor_order(expr));
                if call.name == "taylor" {
                    order.map(|order| Integrator::Taylor { order })
                } else {
                    let midpoint = need(self, "midpoint", "G");
                    let midpoint = midpoint.zip(state).and_then(|(expr, state)| self.learned(expr, state, true));
                    order.zip(midpoint).map(|(order, midpoint)| Integrator::TaylorLagrange { order, midpoint })
                }
            }
            "hypersolver" => {
                let base = need(self, "method", "heun").and_then(|e| self.word(e, "method", &Scheme::NAMES));
                let correction = need(self, "correction", "G");
                let correction = correction.zip(state).and_then(|(expr, state)| self.learned(expr, state, false));
                base.zip(correction).map(|(base, correction)| Integrator::Hypersolver { base, correction })
            }
            _ => scheme.map(Integrator::RungeKutta),
        };
        let step = need(self, "step", "0.01").and_then(|expr| self.real(expr, "a step", Sign::Positive));
        let substeps = match arguments.get("substeps") {
            Some(expr) => self.count(expr, "the number of sub-steps", 1),
            None => Some(1),
        };
        let tolerance = tolerance(self, "tolerance", None);
        Some((integrator?, Some(step?), substeps?, tolerance?))
    }

    fn taylor_order(&mut self, expr: &'a ast::Expr) -> Option<usize> {
        let order = self.count(expr, "the order of an integrator", 1)?;
        if order > MAX_TAYLOR {
            let error = Diagnostic::error(expr.span, format!("the order of an integrator is at most {MAX_TAYLOR}"));
            return self.fail(error.label(format!("this is {order}")));
        }
        Some(order)
    }

    /// The midpoint of a step, or the correction of one: a network, which is applied to the state (and the time, where there
    /// is one), or any expression.
    fn learned(&mut self, expr: &'a ast::Expr, state: GroupId, is_midpoint: bool) -> Option<ExprId> {
        let network = match &expr.kind {
            ExprKind::Name(name) => self.symbols.get(name.as_str()).and_then(|symbol| match symbol.declared {
                Declared::Net(net, _) => Some((net, symbol.sound)),
                _ => None,
            }),
            _ => None,
        };
        let id = match network {
            Some((_, false)) => return None,
            Some((net, true)) => {
                let mut arguments = Vec::new();
                for k in 0..self.program.groups.len() {
                    let shape = self.state_shape(GroupId(k as u32));
                    self.used_groups[k] = true;
                    arguments.push((self.push(Kind::Coordinates(GroupId(k as u32)), shape, expr.span)?, expr.span));
                }
                self.network(net, arguments, expr.span)?
            }
            None => self.expr(expr)?,
        };
        let n = self.program.groups[state.index()].len;
        let has_time = self.program.groups.iter().any(|group| group.kind == GroupKind::Time);
        let found = self.shape(id);
        let fits = match found {
            Shape::Scalar => n == 1 || is_midpoint,
            Shape::Vector(m) => m == n || is_midpoint && (m == n * n || has_time && (m == n + 1 || m == n * n + 1)),
            Shape::Matrix(a, b) => is_midpoint && (a, b) == (n, n),
        };
        if !fits {
            let what = if is_midpoint { "midpoint" } else { "correction" };
            let error = Diagnostic::error(expr.span, format!("a {found} is no {what} of a state of {n} components"));
            let note = match (is_midpoint, has_time) {
                (false, _) => format!("it has {n} outputs"),
                (true, false) => format!("it has {n} outputs, or {} for a matrix", n * n),
                (true, true) => format!("it has {n} outputs, or {} for a matrix, or one more for time", n * n),
            };
            return self.fail(error.label(found.to_string()).note(note));
        }
        Some(id)
    }

    /// An error where a flow reads inputs of several data sets, or of another one than it is fitted to.
    pub fn judge_inputs(&mut self) {
        let Some(flow) = &self.program.flow else { return };
        let span = flow.span;
        let mut roots = vec![flow.right];
        roots.extend(flow.learned());
        let mut sets: Vec<DataId> = Vec::new();
        for id in self.program.reachable(roots) {
            if let Kind::Data { data, .. } = self.program.expr(id).kind
                && !sets.contains(&data)
            {
                sets.push(data);
            }
        }
        sets.extend(self.program.fit.as_ref().map(|fit| fit.data).filter(|d| !sets.is_empty() && !sets.contains(d)));
        if sets.len() > 1 {
            let error = Diagnostic::error(span, "a flow reads inputs of another data set than it is fitted to");
            self.report(error.note("inputs are columns of the data set that the flow is fitted to"));
        }
    }

    /// `fit flow to DATA, horizon = 1`
    pub fn fit(&mut self, span: Span, data: &'a ast::Name, options: &'a [Argument]) {
        if let Some(first) = &self.program.fit {
            let place = first.span;
            return self.report(Diagnostic::error(span, "there is a `fit` already").also(place, "the first one"));
        }
        if !self.has_flow {
            self.report(Diagnostic::error(data.span, "there is no `flow` to fit"));
        }
        let set = self.flow_data(&data.text, data.span);
        let call = CallRef { name: "fit", name_span: data.span, arguments: options, span: data.span };
        let names = ["horizon", "loss", "remainder_weight", "midpoint_every", "midpoint_tolerance"];
        let arguments = self.arguments(call, &names, &[]);
        let count = |this: &mut Self, name: &str, what: &str| match arguments.get(name) {
            Some(expr) => this.count(expr, what, 1).map(Some),
            None => Some(None),
        };
        let horizon = count(self, "horizon", "a horizon").map(|horizon| horizon.unwrap_or(1));
        let midpoint_every = count(self, "midpoint_every", "the number of steps between two fits");
        let loss = match arguments.get("loss") {
            Some(expr) => self.fit_loss(expr).map(Some),
            None => Some(None),
        };
        let remainder_weight = match arguments.get("remainder_weight") {
            Some(expr) => self.real(expr, "a weight", Sign::NotNegative),
            None => Some(0.0),
        };
        let midpoint_tolerance = match arguments.get("midpoint_tolerance") {
            Some(expr) => self.real(expr, "a tolerance", Sign::Positive),
            None => Some(MIDPOINT_TOLERANCE),
        };
        let learned = self.program.flow.as_ref().is_some_and(|flow| flow.learned().is_some());
        if let (Some(expr), true, false) = (arguments.get("midpoint_every"), self.program.flow.is_some(), learned) {
            let error = Diagnostic::error(expr.span, "this method has no midpoint and no correction to fit");
            self.report(error.note("`taylor_lagrange` and `hypersolver` have one"));
        }
        let numbers = horizon.zip(midpoint_every).zip(remainder_weight).zip(midpoint_tolerance);
        if let (Some(data), Some(loss), Some(numbers)) = (set, loss, numbers) {
            let (((horizon, midpoint_every), remainder_weight), midpoint_tolerance) = numbers;
            self.program.fit =
                Some(Fit { data, horizon, loss, remainder_weight, midpoint_every, midpoint_tolerance, span });
        }
    }

    fn fit_loss(&mut self, expr: &'a ast::Expr) -> Option<ExprId> {
        let id = self.expr(expr)?;
        match self.shape(id) {
            Shape::Scalar => Some(id),
            shape => self.fail(Diagnostic::error(expr.span, "a loss is a number").label(shape.to_string())),
        }
    }

    /// `rollout(data)`
    pub fn rollout(&mut self, call: &'a ast::Call) -> Option<ReportKind> {
        if !self.has_flow {
            self.report(Diagnostic::error(call.span, "`rollout` needs a `flow`"));
        }
        let arguments = self.arguments(call.into(), &["data"], &[]);
        match arguments.get("data").map(|expr| (&expr.kind, expr.span)) {
            Some((ExprKind::Name(name), span)) => {
                let data = self.flow_data(name, span)?;
                Some(ReportKind::Rollout { data })
            }
            _ => self.fail(Diagnostic::error(call.span, "`rollout` needs a data set").note("write `rollout(data)`")),
        }
    }

    /// A data set of trajectories: besides the coordinates it has `run`, and `t` where no time is declared.
    fn flow_data(&mut self, name: &str, span: Span) -> Option<DataId> {
        let Some(Declared::Data(id)) = self.symbols.get(name).map(|symbol| symbol.declared) else {
            let names = self.program.data.iter().map(|data| data.name.as_str());
            return self.fail(Diagnostic::error(span, format!("there is no data set `{name}`")).suggest(name, names));
        };
        let has_time = self.program.groups.iter().any(|group| group.kind == GroupKind::Time);
        let columns = &mut self.program.data[id.index()].columns;
        for column in if has_time { &["run"][..] } else { &["t", "run"] } {
            if !columns.iter().any(|known| known == column) {
                columns.push((*column).to_string());
            }
        }
        Some(id)
    }
}

impl Program {
    /// The same flow, where what it reads from data is in the points: coordinates behind the others. It is fitted to nothing.
    pub fn with_inputs_in_points(&self) -> Program {
        let mut out = Program { fit: None, training: None, reports: Vec::new(), ..self.clone() };
        let roots = self.flow.iter().flat_map(|flow| std::iter::once(flow.right).chain(flow.learned()));
        for id in self.reachable(roots) {
            let kind = &self.expr(id).kind;
            let Kind::Data { data, column } = *kind else { continue };
            if !matches!(out.expr(id).kind, Kind::Data { .. }) {
                continue;
            }
            let set = &self.data[data.index()];
            let name = format!("{}.{}", set.name, set.columns[column]);
            let (first, group, domain) = (out.columns(), GroupId(out.groups.len() as u32), Domain::None);
            let (span, is_vector, periodic) = (set.span, false, false);
            out.groups.push(Group { name, span, kind: GroupKind::Input, first, len: 1, is_vector, domain, periodic });
            // what estimates name are expressions of their own
            let same = out.exprs.iter_mut().filter(|expr| expr.kind == *kind);
            same.for_each(|expr| expr.kind = Kind::Coordinates(group));
        }
        out
    }
}

impl Flow {
    /// The midpoint or the correction.
    pub fn learned(&self) -> Option<ExprId> {
        match self.integrator {
            Integrator::TaylorLagrange { midpoint, .. } => Some(midpoint),
            Integrator::Hypersolver { correction, .. } => Some(correction),
            _ => None,
        }
    }
}

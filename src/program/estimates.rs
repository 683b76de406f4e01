//! Estimates: what is sampled, how, and whether that is sound.

use super::arguments::CallRef;
use super::resolver::{Resolver, ResultName, depends};
use super::same::Sameness;
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, ExprKind};
use num_traits::ToPrimitive;
use std::collections::HashMap;

const METHODS: [&str; 7] = ["auto", "exact", "compressed", "sparse", "importance", "rademacher", "gaussian"];

impl<'a> Resolver<'a> {
    /// `estimate TARGET by METHOD [unbiased]`
    pub fn estimate(&mut self, span: Span, target: &'a ast::Expr, call: &'a ast::Call, unbiased: Option<Span>) {
        let goal = self.target(target);
        let method = self.method(call.into(), goal.as_ref().and_then(|goal| goal.as_ref()));
        if let (Some(place), Some(Some(EstimateTarget::Output(_)))) = (unbiased, &goal) {
            let warning = Diagnostic::warning(place, "`unbiased` changes nothing in an output");
            self.report(warning.note("it multiplies two estimates in the loss of a condition"));
        }
        let (Some(Some(target)), Some(method)) = (goal, method) else {
            return;
        };
        if let Some(first) = self.program.estimates.iter().find(|known| self.same_target(&known.target, &target)) {
            let place = first.span;
            self.report(Diagnostic::error(span, "this is estimated twice").also(place, "the first estimate"));
            return;
        }
        self.program.estimates.push(Estimate { target, method, unbiased: unbiased.is_some(), span });
    }

    /// `--estimate NAME=METHOD`: the last one of a target counts, and replaces that of the file.
    pub fn estimate_overrides(&mut self) {
        let overrides = self.overrides;
        for (target, method, origin) in &overrides.estimates {
            let found = self.in_other_text(Span::default(), origin.clone(), |this| {
                let goal = this.target(target);
                let Some(call) = CallRef::of(method) else {
                    return this.fail(Diagnostic::error(method.span, "this is not a method of estimation"));
                };
                let method = this.method(call, goal.as_ref().and_then(|goal| goal.as_ref()));
                Some((goal??, method?))
            });
            let Some((target, method)) = found else {
                continue;
            };
            let old = self.program.estimates.iter().position(|known| self.same_target(&known.target, &target));
            let unbiased = old.is_some_and(|position| self.program.estimates.remove(position).unbiased);
            self.program.estimates.push(Estimate { target, method, unbiased, span: Span::default() });
        }
    }

    fn same_target(&self, a: &EstimateTarget, b: &EstimateTarget) -> bool {
        match (a, b) {
            (EstimateTarget::Expression(a), EstimateTarget::Expression(b)) => self.program.same(*a, *b),
            (EstimateTarget::Output(a), EstimateTarget::Output(b)) => a == b,
            (EstimateTarget::Condition(a), EstimateTarget::Condition(b)) => a == b,
            _ => false,
        }
    }

    /// The target; `Some(None)` where it is a statement that has been found wrong.
    fn target(&mut self, target: &'a ast::Expr) -> Option<Option<EstimateTarget>> {
        if let ExprKind::Name(name) = &target.kind {
            if let Some((_, result)) = self.results.get(name) {
                return Some(match *result {
                    ResultName::Output(position) => position.map(EstimateTarget::Output),
                    ResultName::Condition(position) => position.map(EstimateTarget::Condition),
                });
            }
            if !self.symbols.contains_key(name.as_str()) {
                let error = Diagnostic::error(target.span, format!("there is no output or condition `{name}`"));
                let error = error.suggest(name, self.results.keys().map(String::as_str));
                return self.fail(error.note("an operator of a field can be estimated too: `estimate lap(u) by ..`"));
            }
        }
        let id = self.expr(target)?;
        if !self.depends(id, depends::DERIVATIVE) {
            let error = Diagnostic::error(target.span, "there is no derivative in this to be estimated");
            return self.fail(error.note("name an operator of a field, such as `lap(u)`, or an output or condition"));
        }
        Some(Some(EstimateTarget::Expression(id)))
    }

    /// Number of terms of the sum that is estimated.
    fn dimension(&self, target: Option<&EstimateTarget>) -> usize {
        if let Some(EstimateTarget::Expression(id)) = target
            && let Kind::Reduce { lo, hi, .. } = self.program.expr(*id).kind
        {
            return hi.abs_diff(lo) as usize;
        }
        match self.program.space_dimension() {
            0 => self.program.columns().max(1),
            space => space,
        }
    }

    fn method(&mut self, call: CallRef<'a>, target: Option<&EstimateTarget>) -> Option<Method> {
        match call.name {
            "auto" | "exact" => {
                self.arguments(call, &[], &[]);
                Some(if call.name == "auto" { Method::Auto } else { Method::Exact })
            }
            "compressed" => {
                let arguments = self.arguments(call, &["k"], &[]);
                let k = match arguments.get("k") {
                    Some(k) => Some(self.count(k, "the number of samples", 1)?),
                    None => None,
                };
                Some(Method::Compressed { k })
            }
            "sparse" => {
                let arguments = self.arguments(call, &["k", "shared"], &[]);
                let k = self.samples(call, arguments.get("k"));
                let shared = match arguments.get("shared") {
                    None => Some(false),
                    Some(expr) => self.word(expr, "truth value", &[("true", true), ("false", false)]),
                };
                let (k, shared) = (k?, shared?);
                let k = self.at_most(k, self.dimension(target).max(1), call.span, "terms");
                Some(Method::Sparse { k, shared })
            }
            "importance" | "rademacher" | "gaussian" => {
                let arguments = self.arguments(call, &["k"], &[]);
                let k = self.samples(call, arguments.get("k"))?;
                Some(match call.name {
                    "importance" => Method::Importance { k },
                    "gaussian" => Method::Gaussian { k },
                    _ => Method::Rademacher { k },
                })
            }
            other => {
                let error = Diagnostic::error(call.name_span, format!("there is no estimator `{other}`"));
                let error = error.suggest(other, METHODS);
                self.fail(
                    error.note(
                        "choose from `auto`, `exact`, `compressed`, `compressed(k)`, `sparse(k)`, `importance(k)`, `rademacher(k)`, `gaussian(k)`",
                    ),
                )
            }
        }
    }

    fn samples(&mut self, call: CallRef<'a>, k: Option<&'a ast::Expr>) -> Option<usize> {
        match k {
            Some(k) => self.count(k, "the number of samples", 1),
            None => {
                let name = call.name;
                let error = Diagnostic::error(call.span, format!("`{name}` needs the number of samples"));
                self.fail(error.note(format!("write `{name}(16)`")))
            }
        }
    }

    /// Warnings: an estimate of what does not occur, an estimate inside a nonlinear function.
    pub fn judge_estimates(&mut self) {
        if self.failed() {
            return;
        }
        let mut warnings = Vec::new();
        let program = &self.program;
        let mut same = Sameness::new(program);
        let results = program.outputs.iter().map(|output| output.value);
        let flow = program.flow.iter().flat_map(|f| std::iter::once(f.right).chain(f.learned()));
        let flow = flow.chain(program.fit.iter().filter_map(|fit| fit.loss));
        let conditions = program.conditions.iter().map(|c| c.residual);
        let reachable = program.reachable(results.chain(conditions).chain(flow));
        for estimate in &program.estimates {
            if let EstimateTarget::Expression(target) = estimate.target
                && !reachable.iter().any(|id| same.same(*id, target))
            {
                let text = program.text(target);
                let warning = Diagnostic::warning(
                    estimate.span,
                    format!("`{text}` occurs in no output, no condition and no flow"),
                );
                warnings.push(warning.note("the estimate does nothing"));
            }
        }
        let samples = |method: Method| match method {
            Method::Sparse { .. } => MAX_ESTIMATES_MULTIPLIED,
            _ => 1,
        };
        let random = program.estimates.iter().map(|e| e.method).filter(|m| m.is_random());
        let samples = random.map(samples).min().unwrap_or(1);
        let mut bias = Bias { resolver: self, same, whole: false, samples, degrees: HashMap::new(), found: Vec::new() };
        for (i, output) in program.outputs.iter().enumerate() {
            bias.judge(output.value, |target| matches!(target, EstimateTarget::Output(n) if *n == i));
        }
        for (i, condition) in program.conditions.iter().enumerate() {
            bias.judge(condition.residual, |target| matches!(target, EstimateTarget::Condition(n) if *n == i));
        }
        for (place, why) in bias.found {
            let warning = Diagnostic::warning(place, "this estimate is biased").label(why);
            warnings.push(warning.note("the mean of a nonlinear function is not the function of the mean"));
        }
        warnings.into_iter().for_each(|warning| self.report(warning));
    }
}

/// More than the degree of any polynomial.
const NONLINEAR: u32 = u32::MAX;

/// Finds where residuals are no polynomials in what is estimated, or of a higher degree than estimates are multiplied: a product of m sums
/// by one sampler is a sum over m indices, of which k >= m draws find any, and further draws the rest. The degree of an expression that
/// holds no estimate is 0.
struct Bias<'r, 'a> {
    resolver: &'r Resolver<'a>,
    same: Sameness<'r>,
    /// Every sum over coordinates is estimated.
    whole: bool,
    /// Products of so many estimates are unbiased.
    samples: u32,
    degrees: HashMap<ExprId, u32>,
    found: Vec<(Span, &'static str)>,
}

impl Bias<'_, '_> {
    fn judge(&mut self, root: ExprId, named: impl Fn(&EstimateTarget) -> bool) {
        let estimates = &self.resolver.program.estimates;
        self.whole = estimates.iter().any(|estimate| estimate.method.is_random() && named(&estimate.target));
        self.degrees.clear();
        // Operands come first; what is below an estimated sum is found linear or not too, but belongs to it.
        for id in self.resolver.program.reachable([root]) {
            let degree = self.degree(id);
            self.degrees.insert(id, degree);
        }
    }

    fn is_estimated(&mut self, id: ExprId) -> bool {
        let program = &self.resolver.program;
        let estimated = program.estimates.iter().any(|estimate| match &estimate.target {
            EstimateTarget::Expression(target) => estimate.method.is_random() && self.same.same(*target, id),
            _ => false,
        });
        estimated || self.whole && self.is_sum_of_derivatives(id)
    }

    fn is_sum_of_derivatives(&self, id: ExprId) -> bool {
        let derivative = |id: ExprId| self.resolver.depends(id, depends::DERIVATIVE);
        if !self.resolver.depends(id, depends::NETWORK) {
            return false;
        }
        match &self.resolver.program.expr(id).kind {
            Kind::Laplacian(_) | Kind::Divergence(_) | Kind::Advection(..) => true,
            Kind::Reduce { reduction: Reduction::Sum, body, .. } => derivative(*body),
            Kind::Dot(a, b) => derivative(*a) || derivative(*b),
            Kind::Norm2(of) | Kind::Trace(of) => derivative(*of),
            _ => false,
        }
    }

    fn degree(&mut self, id: ExprId) -> u32 {
        if self.is_estimated(id) {
            return 1;
        }
        let program = &self.resolver.program;
        let of = |id: &ExprId| self.degrees.get(id).copied().unwrap_or(0);
        let expr = program.expr(id);
        let mut most = 0;
        expr.kind.for_each_child(|child| most = most.max(of(&child)));
        // Linear in its operands, whatever they are; what is not linear is reported where it happens.
        let (degree, why) = match &expr.kind {
            _ if most == 0 => return 0,
            Kind::Product(factors) if factors.iter().any(|(divided, factor)| *divided && of(factor) > 0) => {
                (NONLINEAR, "divided by what is estimated")
            }
            Kind::Product(factors) => {
                (factors.iter().map(|f| of(&f.1)).fold(0, u32::saturating_add), "a product of estimates")
            }
            Kind::MatrixProduct(a, b) | Kind::Dot(a, b) | Kind::Advection(a, b) => {
                (of(a).saturating_add(of(b)), "a product of estimates")
            }
            Kind::Power(base, exponent) => {
                let exponent = match &program.expr(*exponent).kind {
                    Kind::Number(n) if n.is_integer() => n.to_integer().to_u32(),
                    _ => None,
                };
                (exponent.map_or(NONLINEAR, |e| of(base).saturating_mul(e)), "a power of what is estimated")
            }
            Kind::Norm2(base) => (of(base).saturating_mul(2), "a square of what is estimated"),
            Kind::Call(..) | Kind::Network { .. } => (NONLINEAR, "a nonlinear function of what is estimated"),
            Kind::Determinant(_) => (NONLINEAR, "a determinant of what is estimated"),
            Kind::Reduce { reduction: Reduction::Max, .. } => (NONLINEAR, "the maximum of what is estimated"),
            _ => return most,
        };
        if degree <= self.samples {
            return degree;
        }
        if most < NONLINEAR {
            self.found.push((expr.span, why));
        }
        NONLINEAR
    }
}

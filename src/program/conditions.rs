//! Outputs, conditions and how many points they have.

use super::arguments::Sign;
use super::resolver::{Resolver, ResultName, depends};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Clause, Name};

/// Points per step of a condition in the interior.
const INTERIOR_POINTS: usize = 1024;
/// Points per step elsewhere.
const OTHER_POINTS: usize = 256;

impl<'a> Resolver<'a> {
    /// `output r = EXPR`
    pub fn output(&mut self, name: &'a Name, value: &'a ast::Expr) {
        let Some(id) = self.expr(value) else { return };
        if self.depends(id, depends::DATA) {
            let span = self.find(id, |kind| matches!(kind, Kind::Data { .. })).unwrap_or(value.span);
            self.report(
                Diagnostic::error(span, "an output cannot read data").note("data belong to conditions `on` them"),
            );
            return;
        }
        if self.depends(id, depends::NORMAL) && self.judge_normal(id, None).is_none() {
            return;
        }
        let position = self.program.outputs.len();
        self.program.outputs.push(Named { name: name.text.clone(), span: name.span, value: id });
        self.settle_result(name, ResultName::Output(Some(position)));
    }

    fn settle_result(&mut self, name: &Name, what: ResultName) {
        if let Some((span, entry)) = self.results.get_mut(&name.text)
            && *span == name.span
        {
            *entry = what;
        }
    }

    /// `solve NAME on REGION: LEFT = RIGHT CLAUSES`
    pub fn condition(
        &mut self,
        span: Span,
        name: &'a Name,
        region: Option<&'a ast::Region>,
        left: &'a ast::Expr,
        right: &'a ast::Expr,
        clauses: &'a [Clause],
    ) {
        let region = self.region(region);
        let residual = self.residual(left, right);
        let clauses = self.clauses(clauses);
        let (Some(region), Some(residual)) = (region, residual) else {
            return;
        };
        if self.judge_residual(residual, &region, left.span.to(right.span)).is_none() {
            return;
        }
        let fixed = match &region {
            Region::Face { coordinate, .. } if !self.program.groups[coordinate.group.index()].is_vector => {
                Some(coordinate.group)
            }
            _ => None,
        };
        let data = matches!(region, Region::Data(_));
        if !data && self.judge_domains(fixed, name.span, &format!("`{}`", name.text)).is_none() {
            return;
        }
        let count = if region == Region::Interior { INTERIOR_POINTS } else { OTHER_POINTS };
        let (weight, enhance, matching) = clauses;
        let position = self.program.conditions.len();
        let name_text = name.text.clone();
        self.program.conditions.push(Condition {
            name: name_text,
            span,
            region,
            residual,
            weight,
            enhance,
            matching,
            count,
        });
        self.settle_result(name, ResultName::Condition(Some(position)));
    }

    /// left - right; a side that is 0 is left out, whatever the shape of the other.
    fn residual(&mut self, left: &'a ast::Expr, right: &'a ast::Expr) -> Option<ExprId> {
        let (l, r) = (self.expr(left), self.expr(right));
        let (l, r) = (l?, r?);
        let zero = |this: &Self, id| this.as_number(id).is_some_and(num_traits::Zero::is_zero);
        let span = left.span.to(right.span);
        if zero(self, r) {
            return Some(l);
        }
        if zero(self, l) {
            return self.sum(&[(true, r, right.span)], self.shape(r), span);
        }
        let (a, b) = (self.shape(l), self.shape(r));
        if a != b {
            let error = Diagnostic::error(right.span, format!("a {a} cannot equal a {b}"));
            return self.fail(error.label(b.to_string()).also(left.span, a.to_string()));
        }
        self.sum(&[(false, l, left.span), (true, r, right.span)], a, span)
    }

    fn judge_residual(&mut self, residual: ExprId, region: &Region, span: Span) -> Option<()> {
        if !self.depends(residual, depends::NETWORK | depends::LEARNED) {
            let error = Diagnostic::error(span, "this condition depends on no network and no learnable parameter");
            return self.fail(error.note("there is nothing that training could change"));
        }
        if self.depends(residual, depends::NORMAL) {
            self.judge_normal(residual, Some(region))?;
        }
        if self.depends(residual, depends::DATA) {
            let allowed = match region {
                Region::Data(id) => Some(*id),
                _ => None,
            };
            let foreign = |kind: &Kind| matches!(kind, Kind::Data { data, .. } if Some(*data) != allowed);
            if let Some(place) = self.find(residual, foreign) {
                let error = Diagnostic::error(place, "this data set is not the region of the condition");
                return self.fail(error.note("its columns are known at its own points: `solve NAME on DATA: ..`"));
            }
        }
        Some(())
    }

    fn clauses(&mut self, clauses: &'a [Clause]) -> (f64, Option<GradientTerm>, Option<GradientTerm>) {
        let (mut weight, mut enhance, mut matching) = (None, None, None);
        for clause in clauses {
            let (twice, span, word) = match clause {
                Clause::Weight(expr) => {
                    let given = Some(self.real(expr, "a weight", Sign::Positive).unwrap_or(1.0));
                    (std::mem::replace(&mut weight, given).is_some(), expr.span, "weight")
                }
                Clause::Enhance(call) => {
                    let given = Some(self.gradient(call));
                    (std::mem::replace(&mut enhance, given).is_some(), call.span, "enhance")
                }
                Clause::Match(call) => {
                    let given = Some(self.gradient(call));
                    (std::mem::replace(&mut matching, given).is_some(), call.span, "match")
                }
            };
            if twice {
                self.report(Diagnostic::error(span, format!("`{word}` is given twice")));
            }
        }
        (weight.unwrap_or(1.0), enhance.flatten(), matching.flatten())
    }

    /// `gradient(weight = 0.1, dirs = 16)`
    fn gradient(&mut self, call: &'a ast::Call) -> Option<GradientTerm> {
        if call.name.text != "gradient" {
            let message = format!("there is no such term as `{}`", call.name.text);
            let error = Diagnostic::error(call.name.span, message).suggest(&call.name.text, ["gradient"]);
            return self.fail(error.note("write `gradient(weight = 0.1, dirs = 16)`"));
        }
        let arguments = self.arguments(call.into(), &["weight", "dirs"], &[]);
        let weight = match arguments.get("weight") {
            None => Some(1.0),
            Some(expr) => self.real(expr, "a weight", Sign::Positive),
        };
        let space = self.program.space_dimension();
        if space == 0 {
            return self.fail(Diagnostic::error(call.span, "a gradient needs a space coordinate"));
        }
        let directions = match arguments.get("dirs") {
            None => None,
            Some(expr) => {
                let k = self.count(expr, "the number of directions", 1)?;
                Some(self.at_most(k, space, expr.span, "directions"))
            }
        };
        Some(GradientTerm { weight: weight?, directions })
    }

    /// Not more samples than there are coordinates: a smaller dimension set on the command line is fine.
    pub fn at_most(&mut self, k: usize, dimension: usize, span: Span, what: &str) -> usize {
        if k > dimension && self.space_sound {
            let message = format!("{k} {what} are asked for where there are {dimension}");
            self.report(Diagnostic::warning(span, message).note(format!("{dimension} are taken")));
        }
        k.min(dimension)
    }

    /// `sample interior = 1024, edge = 128`
    pub fn sample(&mut self, counts: &'a [(Name, ast::Expr)]) {
        for (name, expr) in counts {
            let count = self.count(expr, "the number of points", 1);
            if let Some(first) = self.sampled.insert(name.text.clone(), name.span) {
                let message = format!("the points of `{}` are given twice", name.text);
                self.report(Diagnostic::error(name.span, message).also(first, "here first"));
                continue;
            }
            match self.results.get(&name.text) {
                Some((_, ResultName::Condition(position))) => {
                    if let (Some(position), Some(count)) = (*position, count) {
                        self.program.conditions[position].count = count;
                    }
                }
                Some((place, ResultName::Output(_))) => {
                    let message = format!("`{}` is an output: its points come from outside", name.text);
                    let error = Diagnostic::error(name.span, message).also(*place, "declared here");
                    self.report(error);
                }
                None => {
                    let conditions = |what: &ResultName| matches!(what, ResultName::Condition(_));
                    let names = self.results.iter().filter(|(_, (_, what))| conditions(what));
                    let error = Diagnostic::error(name.span, format!("there is no condition `{}`", name.text))
                        .suggest(&name.text, names.map(|(name, _)| name.as_str()));
                    self.report(error);
                }
            }
        }
    }
}

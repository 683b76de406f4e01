//! Calls that are not expressions: `mlp(width = 64, ..)`, `ball(radius = 1)`, `sparse(16)`, and the constants in them.

use super::resolver::{Resolver, depends};
use super::types::*;
use crate::diagnostic::{Diagnostic, Span};
use crate::syntax::ast::{self, Argument, ExprKind};
use num_traits::ToPrimitive;

/// A call, wherever it was written: as [`ast::Call`] or as an expression.
#[derive(Clone, Copy)]
pub(super) struct CallRef<'a> {
    pub name: &'a str,
    pub name_span: Span,
    pub arguments: &'a [Argument],
    pub span: Span,
}

impl<'a> From<&'a ast::Call> for CallRef<'a> {
    fn from(call: &'a ast::Call) -> Self {
        CallRef { name: &call.name.text, name_span: call.name.span, arguments: &call.arguments, span: call.span }
    }
}

impl<'a> CallRef<'a> {
    /// `name` or `name(..)` as a call.
    pub fn of(expr: &'a ast::Expr) -> Option<Self> {
        match &expr.kind {
            ExprKind::Name(name) => Some(CallRef { name, name_span: expr.span, arguments: &[], span: expr.span }),
            ExprKind::Call(name, arguments) => {
                Some(CallRef { name: &name.text, name_span: name.span, arguments, span: expr.span })
            }
            _ => None,
        }
    }
}

/// The arguments of a call by the names of its signature.
pub(super) struct Arguments<'a> {
    slots: Vec<(&'static str, Option<&'a Argument>)>,
}

impl<'a> Arguments<'a> {
    /// The argument of this name, with its range if it is one.
    pub fn argument(&self, name: &str) -> Option<&'a Argument> {
        self.slots.iter().find(|(slot, _)| *slot == name).and_then(|(_, argument)| *argument)
    }
    /// The value of the argument of this name.
    pub fn get(&self, name: &str) -> Option<&'a ast::Expr> {
        self.argument(name).map(|argument| &argument.value)
    }
}

/// Which numbers are meant.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sign {
    Any,
    NotNegative,
    Positive,
}

impl<'a> Resolver<'a> {
    /// Sorts arguments into the slots of a signature: positional ones in order, named ones by name.
    /// Ranges are allowed only in the slots named in `ranges`.
    pub fn arguments(&mut self, call: CallRef<'a>, names: &[&'static str], ranges: &[&str]) -> Arguments<'a> {
        let mut slots: Vec<(&'static str, Option<&'a Argument>)> = names.iter().map(|name| (*name, None)).collect();
        let mut position = 0;
        for argument in call.arguments {
            let slot = match &argument.name {
                Some(name) => slots.iter().position(|(slot, _)| *slot == name.text),
                None => {
                    position += 1;
                    Some(position - 1).filter(|p| *p < slots.len())
                }
            };
            let Some(slot) = slot else {
                let error = match &argument.name {
                    Some(name) => {
                        Diagnostic::error(name.span, format!("`{}` has no option `{}`", call.name, name.text))
                            .suggest(&name.text, names.iter().copied())
                    }
                    None => Diagnostic::error(argument.value.span, format!("too many arguments of `{}`", call.name)),
                };
                self.report(if names.is_empty() {
                    error.note("it has none")
                } else {
                    error.note(format!("it has {}", listed(names)))
                });
                continue;
            };
            let (name, taken) = &mut slots[slot];
            if taken.is_some() {
                let message = format!("`{name}` is given twice");
                self.report(Diagnostic::error(argument.value.span, message));
                continue;
            }
            if let Some(end) = argument.end.as_ref().filter(|_| !ranges.contains(name)) {
                let message = format!("`{name}` is not a range");
                self.report(Diagnostic::error(argument.value.span.to(end.span), message));
                continue;
            }
            *taken = Some(argument);
        }
        Arguments { slots }
    }

    /// A constant scalar; `what` names it in the error.
    pub fn constant(&mut self, expr: &'a ast::Expr, what: &str) -> Option<ExprId> {
        let id = self.expr(expr)?;
        self.check_constant(id, expr.span, what)?;
        if self.shape(id) != Shape::Scalar {
            let message = format!("{what} is a number");
            return self.fail(Diagnostic::error(expr.span, message).label(self.shape(id).to_string()));
        }
        Some(id)
    }

    /// An error unless the expression is the same everywhere and always.
    pub fn check_constant(&mut self, id: ExprId, span: Span, what: &str) -> Option<()> {
        use depends::*;
        for (flag, noun) in [
            (COORDINATE, "a coordinate"),
            (NETWORK, "a network"),
            (PARAM, "a parameter"),
            (DATA, "a data set"),
            (COEF, "random coefficients"),
        ] {
            if self.depends(id, flag) {
                let message = format!("{what} must be constant, but this depends on {noun}");
                return self.fail(Diagnostic::error(span, message));
            }
        }
        Some(())
    }

    /// A constant real number: finite, and of this sign.
    pub fn real(&mut self, expr: &'a ast::Expr, what: &str, sign: Sign) -> Option<f64> {
        let id = self.constant(expr, what)?;
        let Some(value) = self.program.constant(id) else {
            return self.fail(Diagnostic::error(expr.span, format!("{what} cannot be computed")));
        };
        let wrong = match sign {
            _ if !value.is_finite() => "a finite number",
            Sign::NotNegative if value < 0.0 => "at least 0",
            Sign::Positive if value <= 0.0 => "more than 0",
            _ => return Some(value),
        };
        self.fail(Diagnostic::error(expr.span, format!("{what} must be {wrong}")).label(format!("this is {value}")))
    }

    /// A constant whole number.
    pub fn whole(&mut self, expr: &'a ast::Expr, what: &str) -> Option<i64> {
        let id = self.constant(expr, what)?;
        if let Kind::IndexValue(_) = self.program.expr(id).kind {
            let message = format!("{what} must be constant, but this depends on an index");
            return self.fail(Diagnostic::error(expr.span, message));
        }
        let text = match &self.program.expr(id).kind {
            Kind::Number(value) if value.is_integer() => match value.to_integer().to_i64() {
                Some(whole) => return Some(whole),
                None => "too large".to_owned(),
            },
            _ => format!("this is {}", self.program.text(id)),
        };
        self.fail(Diagnostic::error(expr.span, format!("{what} must be a whole number")).label(text))
    }

    /// A constant whole number that counts something: at least `least`, at most [`MAX_COUNT`].
    pub fn count(&mut self, expr: &'a ast::Expr, what: &str, least: i64) -> Option<usize> {
        let whole = self.whole(expr, what)?;
        let label = format!("this is {whole}");
        if whole < least {
            let message = format!("{what} must be at least {least}");
            return self.fail(Diagnostic::error(expr.span, message).label(label));
        }
        if whole > MAX_COUNT {
            let message = format!("{what} must be at most {MAX_COUNT}");
            return self.fail(Diagnostic::error(expr.span, message).label(label));
        }
        Some(whole as usize)
    }

    /// The depth of a network.
    pub fn layers(&mut self, expr: &'a ast::Expr) -> Option<usize> {
        let what = "the depth of a network";
        let depth = self.count(expr, what, 1)?;
        if depth > MAX_LAYERS {
            let message = format!("{what} must be at most {MAX_LAYERS}");
            let label = format!("this is {depth}");
            return self.fail(Diagnostic::error(expr.span, message).label(label));
        }
        Some(depth)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, expr: &'a ast::Expr, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        let word = CallRef::of(expr).filter(|call| call.arguments.is_empty());
        if let Some((_, value)) = word.and_then(|call| words.iter().find(|(word, _)| *word == call.name)) {
            return Some(*value);
        }
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let error = match word {
            Some(call) => Diagnostic::error(expr.span, format!("there is no {what} `{}`", call.name))
                .suggest(call.name, names.iter().copied()),
            None => Diagnostic::error(expr.span, format!("this does not name any {what}")),
        };
        self.fail(error.note(format!("choose from {}", listed(&names))))
    }
}

/// Largest count or length: products of two of them fit in 128 bits, sums of many in 64.
pub(super) const MAX_COUNT: i64 = 1 << 40;

/// Most layers of a network: each is some operations of the compiled program, written out.
const MAX_LAYERS: usize = 1000;

/// `a`, `b` and `c` in code quotes.
pub(super) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

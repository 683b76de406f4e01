//! The grammar's actions that are more than a constructor: what an LR grammar cannot say by itself.

use super::ast::*;
use super::lexer::Kind;
use super::number;
use crate::diagnostic::{Diagnostic, Span};
use lalrpop_util::ParseError;

/// What an action that may refuse returns.
type Built<T> = Result<T, ParseError<usize, Kind, Diagnostic>>;

fn refuse<T>(diagnostic: Diagnostic) -> Built<T> {
    Err(ParseError::User { error: diagnostic })
}

pub(super) fn expr(start: usize, end: usize, kind: ExprKind) -> Expr {
    Expr { kind, span: Span::new(start, end) }
}

pub(super) fn prepend<T>(first: T, mut rest: Vec<T>) -> Vec<T> {
    rest.insert(0, first);
    rest
}

pub(super) fn number(text: &str, span: Span) -> Built<Expr> {
    match number::parse(&text[span.range()]) {
        Ok(value) => Ok(Expr { kind: ExprKind::Number(value), span }),
        Err(why) => refuse(Diagnostic::error(span, why)),
    }
}

/// `sum` and `max` are ordinary names; only their use with an index is special.
pub(super) fn reduce(name: Name, index: Name, lo: Expr, hi: Expr, body: Expr, span: Span) -> Built<Expr> {
    let reduction = match name.text.as_str() {
        "sum" => Reduction::Sum,
        "max" => Reduction::Max,
        other => {
            let message = format!("`{other}` does not run over an index");
            return refuse(
                Diagnostic::error(name.span, message)
                    .note("`sum(i in 0..n: ...)` and `max(i in 0..n: ...)` do")
                    .suggest(other, ["sum", "max"]),
            );
        }
    };
    Ok(Expr {
        kind: ExprKind::Reduce { reduction, index, lo: Box::new(lo), hi: Box::new(hi), body: Box::new(body) },
        span,
    })
}

pub(super) fn learn(word: Option<Name>, span: Span) -> Built<Learn> {
    match word {
        Some(word) if word.text != "log" => {
            let message = format!("expected `log` or the end of the line after `learn`, found `{}`", word.text);
            refuse(Diagnostic::error(word.span, message).suggest(&word.text, ["log"]))
        }
        word => Ok(Learn { log: word.is_some(), span }),
    }
}

pub(super) fn fit(what: Name, data: Name, options: Vec<Argument>) -> Built<ItemKind> {
    if what.text != "flow" {
        let message = format!("expected `flow` after `fit`, found `{}`", what.text);
        return refuse(Diagnostic::error(what.span, message).note("a flow is fitted to data by `fit flow to DATA`"));
    }
    Ok(ItemKind::Fit { data, options })
}

pub(super) fn region(place: Expr, value: Option<Expr>) -> Built<Region> {
    let is_name = |e: &Expr| matches!(e.kind, ExprKind::Name(_));
    match (place.kind, value) {
        (ExprKind::Name(text), None) => Ok(Region::Named(Name { text, span: place.span })),
        (kind @ ExprKind::Name(_), Some(value)) => {
            Ok(Region::Face { coordinate: Expr { kind, span: place.span }, value })
        }
        (ExprKind::Index(of, index), Some(value)) if is_name(&of) => {
            Ok(Region::Face { coordinate: Expr { kind: ExprKind::Index(of, index), span: place.span }, value })
        }
        _ => refuse(
            Diagnostic::error(place.span, "this is not a place where a condition can hold")
                .note("`on boundary`, `on DATA`, or a face such as `on t = 0` or `on x[3] = 1`"),
        ),
    }
}

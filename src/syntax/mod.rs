//! Text to tree: tokens (`lexer`), statements (`layout`), grammar (`grammar/jet.lalrpop`), [`ast`], and back ([`printer`]).
//! This room does not know what any name means.
//!
//! Parsing never fails: it gives the tree of what could be read and says what could not. Each statement
//! is parsed by itself, so that an error in one does not hide the errors of the next.
//!
//! ```
//! let (ast, diagnostics) = jetc::syntax::parse("space x, y\noutput r = (x^2)*y  # a monomial\n");
//! assert!(diagnostics.is_empty());
//! assert_eq!(ast.to_string(), "space x, y\noutput r = x^2*y\n");
//! ```

pub mod ast;
mod layout;
mod lexer;
mod message;
mod number;
pub mod printer;
mod tree;

#[allow(clippy::all, unused_imports, dead_code)]
mod grammar {
    lalrpop_util::lalrpop_mod!(generated, "/jet.rs");
    pub(super) use generated::{ExpressionParser, StatementParser};
}

use crate::diagnostic::{Diagnostic, Span};
use ast::{Ast, Call, Expr, ExprKind};
use lexer::{Kind, Token};
use std::borrow::Cow;

/// Words that begin a statement, for "did you mean".
pub fn statement_words() -> impl Iterator<Item = &'static str> {
    lexer::STATEMENT_WORDS.iter().map(|(word, _)| *word)
}

/// The tree of a file, and everything that is wrong with its form, in the order of the text.
/// Statements with errors are left out of the tree: stop before resolving names if any error is reported.
pub fn parse(text: &str) -> (Ast, Vec<Diagnostic>) {
    let mut ast = Ast::default();
    if let Err(too_long) = check_length(text) {
        return (ast, vec![too_long]);
    }
    let (tokens, mut diagnostics) = lexer::lex(text);
    let (statements, broken) = layout::statements(text, &tokens);
    diagnostics.extend(broken);
    let parser = grammar::StatementParser::new();
    for statement in &statements {
        match parser.parse(text, triples(statement)) {
            Ok(item) => ast.items.push(item),
            Err(error) => diagnostics.extend(message::refused(text, statement, error)),
        }
    }
    if ast.items.is_empty() && diagnostics.is_empty() {
        diagnostics.push(
            Diagnostic::error(Span::default(), "this file holds no statement")
                .note("the smallest program has a `space`, a `net`, a `field` and an `output`"),
        );
    }
    diagnostics.sort_by_key(Diagnostic::span);
    (ast, diagnostics)
}

/// One expression by itself, such as the value of `--set name=value`. Spans refer to `text`.
pub fn parse_expr(text: &str) -> Result<Expr, Vec<Diagnostic>> {
    check_length(text).map_err(|d| vec![d])?;
    let (tokens, diagnostics) = lexer::lex(text);
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let tokens = layout::expression(text, &tokens)?;
    let parser = grammar::ExpressionParser::new();
    parser.parse(text, triples(&tokens)).map_err(|error| message::refused(text, &tokens, error).into_iter().collect())
}

/// One call by itself, such as the method of `--estimate name=sparse(16)`. Spans refer to `text`.
pub fn parse_call(text: &str) -> Result<Call, Vec<Diagnostic>> {
    let Expr { kind, span } = parse_expr(text)?;
    match kind {
        ExprKind::Name(text) => {
            Ok(Call { name: ast::Name { text, span }, arguments: Vec::new(), brackets: false, span })
        }
        ExprKind::Call(name, arguments) => Ok(Call { name, arguments, brackets: true, span }),
        _ => Err(vec![Diagnostic::error(span, "expected a name with arguments, such as `sparse(16)`")]),
    }
}

/// The text of a file. Bytes that are not UTF-8 are reported by line and column, and replaced, so
/// that the text can still be shown.
pub fn decode(bytes: &[u8]) -> (Cow<'_, str>, Vec<Diagnostic>) {
    let Err(error) = std::str::from_utf8(bytes) else {
        return (String::from_utf8_lossy(bytes), Vec::new());
    };
    let text = String::from_utf8_lossy(bytes);
    let at = error.valid_up_to();
    let before = &text[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = format!("the file is not UTF-8: byte 0x{:02x} at {line}:{column}", bytes[at]);
    let span = Span::new(at, at + char::REPLACEMENT_CHARACTER.len_utf8());
    (text, vec![Diagnostic::error(span, message).note("save the file as UTF-8")])
}

fn check_length(text: &str) -> Result<(), Diagnostic> {
    if text.len() < u32::MAX as usize {
        Ok(())
    } else {
        Err(Diagnostic::error(Span::default(), "a program is shorter than 4 GiB"))
    }
}

fn triples(tokens: &[Token]) -> impl Iterator<Item = Result<(usize, Kind, usize), Diagnostic>> + '_ {
    tokens.iter().map(|t| Ok((t.span.start as usize, t.kind, t.span.end as usize)))
}

#[cfg(test)]
mod tests;

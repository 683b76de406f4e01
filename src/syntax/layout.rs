//! Tokens to statements: where each statement ends, which words are keywords, whether brackets match.
//!
//! - A line end ends a statement, except inside brackets.
//! - A word is a keyword in two places only: the first word of a statement, and a clause word right
//!   after something that ends an operand (`u = 0 weight 10`), where no name could stand. Everywhere
//!   else it is a name, so that any word may be used as one.
//! - The nesting of a statement is bounded *here*, before any tree is built: every later stage may
//!   recurse over an expression.
//!
//! A statement that breaks a rule of this file is reported and dropped; the others go on to the grammar.

use super::ast::MAX_NESTING;
use super::lexer::{CLAUSE_WORDS, Kind, STATEMENT_WORDS, Token};
use crate::diagnostic::{Diagnostic, Span};

/// The well-bracketed statements of a file, each ended by a [`Kind::End`] token, and what is wrong with the others.
pub fn statements(text: &str, tokens: &[Token]) -> (Vec<Vec<Token>>, Vec<Diagnostic>) {
    let mut layout = Layout { text, ..Layout::default() };
    for (at, token) in tokens.iter().enumerate() {
        match token.kind {
            Kind::Newline if layout.open.is_empty() || begins_statement(text, &tokens[at + 1..]) => {
                layout.finish(token.span)
            }
            Kind::Newline => {}
            _ => layout.push(*token),
        }
    }
    layout.finish(Span::new(text.len(), text.len()));
    (layout.done, layout.diagnostics)
}

/// One expression, ended by a [`Kind::End`] token; line ends count for nothing.
pub fn expression(text: &str, tokens: &[Token]) -> Result<Vec<Token>, Vec<Diagnostic>> {
    let mut layout = Layout { text, expression: true, ..Layout::default() };
    for token in tokens.iter().filter(|t| t.kind != Kind::Newline) {
        layout.push(*token);
    }
    let end = Span::new(text.len(), text.len());
    if layout.current.is_empty() {
        return Err(vec![Diagnostic::error(end, "expected an expression, found nothing")]);
    }
    layout.finish(end);
    layout.done.pop().ok_or(layout.diagnostics)
}

/// Inside brackets: true if a new statement surely begins here, so that an unclosed bracket does not
/// swallow the rest of the file. Two words in a row are never part of an expression.
fn begins_statement(text: &str, rest: &[Token]) -> bool {
    match rest {
        [first, second, ..] if first.kind == Kind::Name && second.kind == Kind::Name => {
            word(text, first, &STATEMENT_WORDS).is_some() && word(text, second, &CLAUSE_WORDS).is_none()
        }
        _ => false,
    }
}

fn word(text: &str, token: &Token, words: &[(&str, Kind)]) -> Option<Kind> {
    let name = &text[token.span.range()];
    words.iter().find(|(w, _)| *w == name).map(|(_, kind)| *kind)
}

/// An open bracket, and the nesting without brackets (signs, powers, postfixes) around it.
struct Open {
    kind: Kind,
    span: Span,
    chain: usize,
    postfix: bool,
}

#[derive(Default)]
struct Layout<'t> {
    text: &'t str,
    /// A lone expression: its first word is not a keyword.
    expression: bool,
    done: Vec<Vec<Token>>,
    diagnostics: Vec<Diagnostic>,
    current: Vec<Token>,
    broken: bool,
    open: Vec<Open>,
    /// Prefix signs, powers and postfixes since the last infix operator or separator at this level.
    chain: usize,
    /// Sum of the chains of all open levels but this one.
    outer: usize,
}

impl Layout<'_> {
    fn push(&mut self, mut token: Token) {
        let previous = self.current.last().map(|t| t.kind);
        let after_operand = previous.is_some_and(Kind::ends_operand);
        if token.kind == Kind::Name {
            let words = match previous {
                None if !self.expression => &STATEMENT_WORDS[..],
                Some(_) if after_operand => &CLAUSE_WORDS[..],
                _ => &[],
            };
            token.kind = word(self.text, &token, words).unwrap_or(Kind::Name);
        }
        match token.kind {
            Kind::OpenRound | Kind::OpenSquare => {
                self.open.push(Open { kind: token.kind, span: token.span, chain: self.chain, postfix: after_operand });
                self.outer += self.chain;
                self.chain = 0;
            }
            Kind::CloseRound | Kind::CloseSquare => self.close(token),
            Kind::Plus | Kind::Minus if !after_operand => self.chain += 1,
            Kind::Caret | Kind::Dot => self.chain += 1,
            Kind::Name | Kind::Number | Kind::Text | Kind::Error => {}
            _ => self.chain = 0,
        }
        if !self.broken && self.open.len() + self.outer + self.chain > MAX_NESTING {
            self.broken = true;
            self.diagnostics.push(
                Diagnostic::error(token.span, format!("nested deeper than {MAX_NESTING} levels"))
                    .note("brackets, signs, powers and indices count; name a part with `let`"),
            );
        }
        self.current.push(token);
    }

    fn close(&mut self, token: Token) {
        let Some(open) = self.open.pop() else {
            self.report(Diagnostic::error(
                token.span,
                format!("no open bracket belongs to this `{}`", &self.text[token.span.range()]),
            ));
            return;
        };
        self.outer -= open.chain;
        // An index or a call around what came before it is one level of the tree.
        self.chain = open.chain + usize::from(open.postfix);
        let wanted = if open.kind == Kind::OpenRound { Kind::CloseRound } else { Kind::CloseSquare };
        if token.kind != wanted {
            let found = &self.text[token.span.range()];
            let opened = &self.text[open.span.range()];
            self.report(
                Diagnostic::error(token.span, format!("`{opened}` is closed by `{found}`"))
                    .also(open.span, "the bracket was opened here"),
            );
        }
    }

    /// Says one thing about the brackets of a statement; more would only follow from it.
    fn report(&mut self, diagnostic: Diagnostic) {
        if !self.broken {
            self.diagnostics.push(diagnostic);
        }
        self.broken = true;
    }

    fn finish(&mut self, end: Span) {
        if let Some(open) = self.open.last() {
            let bracket = &self.text[open.span.range()];
            self.report(Diagnostic::error(open.span, format!("this `{bracket}` is never closed")));
        }
        let mut statement = std::mem::take(&mut self.current);
        if !self.broken && !statement.is_empty() {
            statement.push(Token { kind: Kind::End, span: end });
            self.done.push(statement);
        }
        self.broken = false;
        self.open.clear();
        self.chain = 0;
        self.outer = 0;
    }
}

//! The parser's complaints in human words: what was found, and what could have stood there.

use super::lexer::{CLAUSE_WORDS, Kind, STATEMENT_WORDS, Token};
use crate::diagnostic::{Diagnostic, Span};
use lalrpop_util::ParseError;

/// The diagnostic for a statement that the grammar refuses; none where the lexer has already spoken.
pub(super) fn refused(
    text: &str,
    statement: &[Token],
    error: ParseError<usize, Kind, Diagnostic>,
) -> Option<Diagnostic> {
    let (span, kind, expected) = match error {
        ParseError::User { error } => return Some(error),
        ParseError::UnrecognizedToken { token: (l, kind, r), expected } => (Span::new(l, r), kind, expected),
        ParseError::ExtraToken { token: (l, kind, r) } => (Span::new(l, r), kind, Vec::new()),
        ParseError::UnrecognizedEof { location, expected } => (Span::new(location, location), Kind::End, expected),
        ParseError::InvalidToken { location } => (Span::new(location, location), Kind::Error, Vec::new()),
    };
    if kind == Kind::Error {
        return None;
    }
    let previous = statement.iter().rev().find(|t| t.span.end <= span.start && t.kind != Kind::End);
    if matches!(statement, [first, ..] if first.span == span) {
        return Some(not_a_statement(text, span, kind));
    }
    let found = &text[span.range()];
    let (span, shown) = match (kind, previous) {
        // The end of a line is shown right after its last token.
        (Kind::End, Some(last)) => {
            (Span { start: last.span.end, end: last.span.end }, "the end of the line".to_string())
        }
        (Kind::End, None) => (span, "the end of the line".to_string()),
        _ => (span, format!("`{found}`")),
    };
    let wanted = human(&expected);
    let message = match wanted.as_slice() {
        [] => format!("unexpected {shown}"),
        _ => format!("expected {}, found {shown}", either(&wanted)),
    };
    let mut diagnostic = Diagnostic::error(span, message);
    if kind == Kind::Name {
        let words = CLAUSE_WORDS.iter().map(|(w, _)| *w).filter(|w| expected.iter().any(|e| e.trim_matches('"') == *w));
        diagnostic = diagnostic.suggest(found, words);
    }
    if let Some(word) = previous.filter(|t| t.kind == Kind::Name).map(|t| &text[t.span.range()])
        && CLAUSE_WORDS.iter().any(|(w, _)| *w == word)
    {
        diagnostic = diagnostic.note(format!("`{word}` stands where a name is expected, and is taken as one"));
    }
    let before = previous.map(|t| t.kind);
    let adjacent = previous.is_some_and(|t| t.span.end == span.start);
    let after_number = statement.windows(2).any(|w| Some(&w[1]) == previous && w[0].kind == Kind::Number);
    Some(match (before, kind) {
        (Some(Kind::Number), Kind::Name) if adjacent => diagnostic.note("a product is written with `*`"),
        (Some(Kind::Star), Kind::Star) if adjacent => diagnostic.note("a power is written `^`"),
        (Some(Kind::Equals), Kind::Equals) if adjacent => diagnostic.note("an equation is written with one `=`"),
        (Some(Kind::Dot), _) if after_number => diagnostic.note("a number needs a digit after its dot"),
        (Some(Kind::Dots), _) => diagnostic.note("a range has two ends, as in `0..n` and `sum(i in 0..n: x[i])`"),
        (_, Kind::Dot) if wanted.iter().any(|w| w == "an expression") => {
            diagnostic.note("a number needs a digit before its dot")
        }
        (Some(before), Kind::End) if infix(before) || before == Kind::Comma => {
            diagnostic.note("a statement ends with its line; only inside brackets does it go on")
        }
        _ => diagnostic,
    })
}

/// A line that begins with no keyword.
fn not_a_statement(text: &str, span: Span, kind: Kind) -> Diagnostic {
    let found = &text[span.range()];
    let words = STATEMENT_WORDS.iter().map(|(w, _)| *w);
    if kind == Kind::Name {
        let all: Vec<String> = words.clone().map(|w| format!("`{w}`")).collect();
        let diagnostic = Diagnostic::error(span, format!("no statement begins with `{found}`"));
        let count = diagnostic.notes.len();
        let diagnostic = diagnostic.suggest(found, words);
        return if diagnostic.notes.len() > count {
            diagnostic
        } else {
            diagnostic.note(format!("statements begin with {}", either(&all)))
        };
    }
    let diagnostic = Diagnostic::error(span, format!("no statement begins with `{found}`"));
    if infix(kind) {
        diagnostic.note("a statement ends with its line; only inside brackets does it go on")
    } else {
        diagnostic
    }
}

fn infix(kind: Kind) -> bool {
    matches!(kind, Kind::Plus | Kind::Minus | Kind::Star | Kind::Slash | Kind::Caret | Kind::Equals)
}

/// The grammar's terminals, grouped: all that can begin an expression is "an expression", infix signs are "an operator".
fn human(expected: &[String]) -> Vec<String> {
    let has = |terminal: &str| expected.iter().any(|e| e == terminal);
    let expression = has("NUMBER");
    let operator = has(r#""*""#);
    let mut words = Vec::new();
    if expression {
        words.push("an expression".to_string());
    } else if has("NAME") {
        words.push("a name".to_string());
    }
    if operator {
        words.push("an operator".to_string());
    }
    let mut end = false;
    for terminal in expected {
        match terminal.as_str() {
            "NAME" | "NUMBER" | "ERROR" => {}
            "END" => end = true,
            "TEXT" => words.push("a path in quotes".to_string()),
            r#""+""# | r#""-""# if expression || operator => {}
            r#""*""# | r#""/""# | r#""^""# | r#"".""# if operator => {}
            r#""(""# | r#""[""# if expression || operator => {}
            other => words.push(format!("`{}`", other.trim_matches('"'))),
        }
    }
    if end {
        words.push("the end of the line".to_string());
    }
    words
}

/// `a`, `a or b`, `a, b or c`.
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

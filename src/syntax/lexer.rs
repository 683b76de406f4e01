//! Text to tokens. A token is a kind and a place; its text is the slice at that place.
//!
//! Lexing never fails: a character that is not of the language becomes a [`Kind::Error`] token and a
//! diagnostic, so that the rest of the file is still read. Every word is a [`Kind::Name`] here:
//! which of them are keywords depends on their neighbours and is decided in [`super::layout`].

use crate::diagnostic::{Diagnostic, Span};
use logos::Logos;

/// What a token is. The variants of words (`Const` ... `Periodic`) and `End` are made by the layout.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(skip r"[ \t\x0c\u{feff}]+")]
#[logos(skip(r"#[^\r\n]*", allow_greedy = true))]
pub enum Kind {
    /// The end of a line.
    #[regex(r"\r\n|\n|\r")]
    Newline,
    /// `name`
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Name,
    /// `10`, `0.5`, `1e-3`; a digit must follow the dot.
    #[regex(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")]
    Number,
    /// `"text"`, on one line, without escapes.
    #[regex(r#""[^"\r\n]*""#)]
    Text,
    /// A string without its second quote.
    #[regex(r#""[^"\r\n]*"#)]
    OpenText,
    /// `+`
    #[token("+")]
    Plus,
    /// `-`
    #[token("-")]
    Minus,
    /// `*`
    #[token("*")]
    Star,
    /// `/`
    #[token("/")]
    Slash,
    /// `^`
    #[token("^")]
    Caret,
    /// `=`
    #[token("=")]
    Equals,
    /// `~`
    #[token("~")]
    Tilde,
    /// `,`
    #[token(",")]
    Comma,
    /// `:`
    #[token(":")]
    Colon,
    /// `.`
    #[token(".")]
    Dot,
    /// `..`
    #[token("..")]
    Dots,
    /// `(`
    #[token("(")]
    OpenRound,
    /// `)`
    #[token(")")]
    CloseRound,
    /// `[`
    #[token("[")]
    OpenSquare,
    /// `]`
    #[token("]")]
    CloseSquare,
    /// Something that is not of the language (a path in single quotes, say); already reported.
    #[regex(r"'[^'\r\n]*'")]
    Error,
    /// The end of a statement.
    End,

    // Words that begin a statement.
    /// `const`
    Const,
    /// `space`
    Space,
    /// `time`
    Time,
    /// `state`
    State,
    /// `param`
    Param,
    /// `coef`
    Coef,
    /// `net`
    Net,
    /// `field`
    Field,
    /// `let`
    Let,
    /// `operator`
    Operator,
    /// `data`
    Data,
    /// `output`
    Output,
    /// `solve`
    Solve,
    /// `sample`
    Sample,
    /// `estimate`
    Estimate,
    /// `train`
    Train,
    /// `report`
    Report,
    /// `flow`
    Flow,
    /// `fit`
    Fit,

    // Words inside a statement.
    /// `in`
    In,
    /// `from`
    From,
    /// `on`
    On,
    /// `by`
    By,
    /// `to`
    To,
    /// `learn`
    Learn,
    /// `weight`
    Weight,
    /// `enhance`
    Enhance,
    /// `match`
    Match,
    /// `unbiased`
    Unbiased,
    /// `periodic`
    Periodic,
}

/// The words that begin a statement.
pub const STATEMENT_WORDS: [(&str, Kind); 19] = [
    ("const", Kind::Const),
    ("space", Kind::Space),
    ("time", Kind::Time),
    ("state", Kind::State),
    ("param", Kind::Param),
    ("coef", Kind::Coef),
    ("net", Kind::Net),
    ("field", Kind::Field),
    ("let", Kind::Let),
    ("operator", Kind::Operator),
    ("data", Kind::Data),
    ("output", Kind::Output),
    ("solve", Kind::Solve),
    ("sample", Kind::Sample),
    ("estimate", Kind::Estimate),
    ("train", Kind::Train),
    ("report", Kind::Report),
    ("flow", Kind::Flow),
    ("fit", Kind::Fit),
];

/// The words that join the parts of a statement.
pub const CLAUSE_WORDS: [(&str, Kind); 11] = [
    ("in", Kind::In),
    ("from", Kind::From),
    ("on", Kind::On),
    ("by", Kind::By),
    ("to", Kind::To),
    ("learn", Kind::Learn),
    ("weight", Kind::Weight),
    ("enhance", Kind::Enhance),
    ("match", Kind::Match),
    ("unbiased", Kind::Unbiased),
    ("periodic", Kind::Periodic),
];

impl Kind {
    /// True where an operand may end with this token: no name may follow it directly.
    pub fn ends_operand(self) -> bool {
        matches!(self, Kind::Name | Kind::Number | Kind::Text | Kind::CloseRound | Kind::CloseSquare)
    }
}

/// A kind and a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// All tokens of a text, line ends included, and what could not be read.
/// The text must be shorter than 4 GiB (places are 32 bits wide).
pub fn lex(text: &str) -> (Vec<Token>, Vec<Diagnostic>) {
    let mut tokens: Vec<Token> = Vec::new();
    let mut diagnostics = Vec::new();
    for (kind, range) in Kind::lexer(text).spanned() {
        let span = Span::new(range.start, range.end);
        match kind {
            Ok(Kind::OpenText) => {
                diagnostics.push(Diagnostic::error(span, "this string has no closing quote"));
                tokens.push(Token { kind: Kind::Error, span });
            }
            Ok(kind) => tokens.push(Token { kind, span }),
            // A run of strange characters is one error.
            Err(()) => match tokens.last_mut() {
                Some(last) if last.kind == Kind::Error && last.span.end == span.start => last.span.end = span.end,
                _ => tokens.push(Token { kind: Kind::Error, span }),
            },
        }
    }
    for token in tokens.iter().filter(|t| t.kind == Kind::Error) {
        let found = &text[token.span.range()];
        if !found.starts_with('"') {
            diagnostics.push(strange(token.span, found));
        }
    }
    diagnostics.sort_by_key(|d| d.span());
    (tokens, diagnostics)
}

/// The message for characters that no token begins with.
fn strange(span: Span, found: &str) -> Diagnostic {
    let mut shown = String::new();
    for c in found.chars().take(20) {
        if c.is_control() || c.is_whitespace() {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    if found.chars().nth(20).is_some() {
        shown.push_str("...");
    }
    let diagnostic = Diagnostic::error(span, format!("`{shown}` is not part of the language"));
    let first = found.chars().next().unwrap_or(' ');
    match first {
        '\u{2212}' | '\u{2013}' | '\u{2014}' => diagnostic.note("a minus sign is written `-`"),
        '\u{b7}' | '\u{d7}' | '\u{22c5}' => diagnostic.note("a product is written `*`"),
        '\u{b2}' | '\u{b3}' | '\u{2070}'..='\u{207f}' => diagnostic.note("a power is written `^`"),
        '\'' | '\u{201c}' | '\u{201d}' | '\u{2018}' | '\u{2019}' => {
            diagnostic.note("a path stands between straight double quotes: \"data.csv\"")
        }
        ';' => diagnostic.note("a statement ends with its line"),
        '{' | '}' => diagnostic.note("brackets are `(` `)` and, for lists and indices, `[` `]`"),
        '\u{a0}' => diagnostic.note("this is a no-break space; use an ordinary one"),
        c if c.is_alphabetic() => diagnostic.note("names are made of the letters a-z and A-Z, digits and `_`"),
        _ => diagnostic,
    }
}

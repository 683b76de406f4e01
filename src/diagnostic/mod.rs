//! What is said to the user about a program: data with spans, rendered in one place (`render`).

#[cfg(feature = "compiler")]
mod render;

#[cfg(feature = "compiler")]
pub use render::render;

use std::fmt;
use std::ops::Range;

/// Byte range of a piece of program text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The span `start..end`.
    pub fn new(start: usize, end: usize) -> Self {
        Span { start: start as u32, end: end as u32 }
    }
    /// The smallest span that holds both.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
    /// The same as a range of byte offsets.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The program means nothing as it stands; exit code 2.
    Error,
    /// The program is run as written, but that may not be what was meant.
    Warning,
}

/// One message about a program. `labels[0]` is the place; further labels give context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// One sentence: what is wrong.
    pub message: String,
    /// Where, and what is there (may be an empty string: the underline says enough).
    pub labels: Vec<(Span, String)>,
    /// What was expected, and what to do.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(span: Span, message: impl Into<String>) -> Self {
        Self::at(Severity::Error, span, message)
    }
    /// A warning at a place.
    pub fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::at(Severity::Warning, span, message)
    }
    fn at(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Diagnostic { severity, message: message.into(), labels: vec![(span, String::new())], notes: Vec::new() }
    }
    /// Says what stands at the main place.
    pub fn label(mut self, text: impl Into<String>) -> Self {
        self.labels[0].1 = text.into();
        self
    }
    /// A second place that belongs to the message.
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push((span, text.into()));
        self
    }
    /// What to do about it.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }
    /// A "did you mean" note, if one of the candidates is close to the name.
    pub fn suggest<'a>(self, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let close = candidates
            .into_iter()
            .filter(|c| *c != name)
            .map(|c| (strsim::damerau_levenshtein(name, c), c))
            .filter(|(distance, c)| *distance <= 1 + c.len().min(name.len()) / 4)
            // Two different letters have nothing in common.
            .filter(|(distance, c)| *distance < c.len().min(name.len()) || c.eq_ignore_ascii_case(name))
            .min();
        match close {
            Some((_, c)) => self.note(format!("did you mean `{c}`?")),
            None => self,
        }
    }
    /// True for an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
    /// The main place.
    pub fn span(&self) -> Span {
        self.labels[0].0
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{kind}: {}", self.message)?;
        for note in &self.notes {
            write!(f, "; {note}")?;
        }
        Ok(())
    }
}

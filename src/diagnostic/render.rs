//! Diagnostics to text, for people: `file:line:column: error: message`, then the lines of the program
//! with their labels, then the notes. Columns count characters, from 1.

use super::{Diagnostic, Severity, Span};
use codespan_reporting::diagnostic as report;
use codespan_reporting::files::SimpleFile;
use codespan_reporting::term::termcolor::Buffer;
use codespan_reporting::term::{self, Config, DisplayStyle};
use std::ops::Range;

/// A line longer than this (in bytes) is named, but not shown.
const LONGEST_SHOWN_LINE: usize = 400;

/// All diagnostics in the order given, an empty line between them. `text` is the program that the
/// spans refer to; a span outside of it is moved inside. With `color`, ANSI escapes are included.
pub fn render(file_name: &str, text: &str, diagnostics: &[Diagnostic], color: bool) -> String {
    let file = SimpleFile::new(file_name, printable(text));
    diagnostics.iter().map(|d| one(&file, d, color)).collect::<Vec<_>>().join("\n")
}

fn one(file: &SimpleFile<&str, String>, diagnostic: &Diagnostic, color: bool) -> String {
    let text = file.source();
    let severity = match diagnostic.severity {
        Severity::Error => report::Severity::Error,
        Severity::Warning => report::Severity::Warning,
    };
    let labels = diagnostic.labels.iter().enumerate().map(|(at, (span, message))| {
        let style = if at == 0 { report::LabelStyle::Primary } else { report::LabelStyle::Secondary };
        report::Label::new(style, (), within(text, *span)).with_message(message)
    });
    let header = report::Diagnostic::new(severity).with_message(diagnostic.message.replace(['\n', '\r'], " "));
    let place = report::Label::primary((), within(text, diagnostic.span()));
    let full = header.clone().with_labels(labels.collect()).with_notes(diagnostic.notes.clone());

    let mut out = emit(file, &header.clone().with_label(place), DisplayStyle::Short, color);
    if full.labels.iter().all(|label| line_around(text, &label.range) <= LONGEST_SHOWN_LINE) {
        // The rich form says the header again, without a place, on its first line.
        let rich = emit(file, &full, DisplayStyle::Rich, color);
        out.push_str(rich.split_once('\n').map_or("", |(_, body)| body).trim_end());
        out.push('\n');
    } else {
        diagnostic.notes.iter().for_each(|note| out.push_str(&format!("  = {note}\n")));
    }
    out
}

fn emit(
    file: &SimpleFile<&str, String>,
    diagnostic: &report::Diagnostic<()>,
    style: DisplayStyle,
    color: bool,
) -> String {
    let config = Config { display_style: style, ..Config::default() };
    let mut buffer = if color { Buffer::ansi() } else { Buffer::no_color() };
    match term::emit_to_write_style(&mut buffer, &config, file, diagnostic) {
        Ok(()) => String::from_utf8_lossy(buffer.as_slice()).into_owned(),
        // Unreachable: the spans lie within the text, and a buffer takes everything.
        Err(error) => format!("{}: {} ({error})\n", file.name(), diagnostic.message),
    }
}

/// The text with the same places, free of what a terminal would obey; every line end holds a `\n`.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        out.push(match c {
            '\r' if characters.peek() != Some(&'\n') => '\n',
            '\n' | '\r' | '\t' => c,
            c if c.is_ascii_control() => '?',
            c => c,
        });
    }
    out
}

/// The span moved into the text, onto character boundaries.
fn within(text: &str, span: Span) -> Range<usize> {
    let start = text.floor_char_boundary(span.range().start);
    let end = text.ceil_char_boundary(span.range().end);
    start..end.max(start)
}

/// Bytes of the lines that a range touches.
fn line_around(text: &str, range: &Range<usize>) -> usize {
    let before = text[..range.start].bytes().rev().take_while(|b| *b != b'\n').count();
    let after = text[range.end..].bytes().take_while(|b| *b != b'\n').count();
    before + range.len() + after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_line(text: &str, span: Span) -> String {
        let out = render("a.jet", text, &[Diagnostic::error(span, "wrong")], false);
        out.lines().next().unwrap_or_default().to_string()
    }

    #[test]
    fn first_line_names_the_place() {
        assert_eq!(first_line("ab\ncd e\n", Span::new(6, 7)), "a.jet:2:4: error: wrong");
        assert_eq!(first_line("", Span::new(0, 0)), "a.jet:1:1: error: wrong");
    }

    #[test]
    fn columns_count_characters() {
        let text = "# \u{3b1}\u{1f600}\u{65e5} x\n";
        let x = text.find('x').unwrap();
        assert_eq!(first_line(text, Span::new(x, x + 1)), "a.jet:1:7: error: wrong");
    }

    #[test]
    fn any_span_is_shown() {
        let text = "a\u{1f600}b\r\n\u{1f600}\rc";
        for start in 0..text.len() + 4 {
            for end in 0..text.len() + 4 {
                assert!(first_line(text, Span::new(start, end)).starts_with("a.jet:"));
            }
        }
        assert_eq!(first_line("ab", Span::new(2, 2)), "a.jet:1:3: error: wrong");
        assert_eq!(first_line("ab\n", Span::new(3, 3)), "a.jet:2:1: error: wrong");
    }

    #[test]
    fn escapes_of_the_program_are_not_obeyed() {
        let out = render("a.jet", "x \u{1b}[31m", &[Diagnostic::error(Span::new(0, 1), "wrong")], false);
        assert!(!out.contains('\u{1b}'));
        assert!(render("a.jet", "x", &[Diagnostic::error(Span::new(0, 1), "wrong")], true).contains('\u{1b}'));
    }

    #[test]
    fn long_lines_are_named_only() {
        let text = format!("output r = {}1 ?", "1 + ".repeat(10_000));
        let at = text.len() - 1;
        let out = render("a.jet", &text, &[Diagnostic::error(Span::new(at, at + 1), "wrong").note("do this")], false);
        assert_eq!(out, format!("a.jet:1:{}: error: wrong\n  = do this\n", at + 1));
    }

    #[test]
    fn labels_and_notes() {
        let text = "space x, y\noutput r = f(x\n";
        let warning = Diagnostic::warning(Span::new(23, 24), "odd")
            .label("here")
            .also(Span::new(6, 7), "declared here")
            .note("do this");
        let error = Diagnostic::error(Span::new(26, 26), "the end");
        insta::assert_snapshot!(render("a.jet", text, &[warning, error], false));
    }
}

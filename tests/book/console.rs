//! A console block is a list of commands with what they print, as a reader would see it:
//!
//! ```console
//! $ jetc check wrong.jet
//! wrong.jet:1:1: error: no statement begins with `spce`
//! ...
//! ? 2
//! ```
//!
//! A line `...` stands for any lines, `[..]` for anything in a line, `? N` for the exit code where it is not 0.

use std::path::Path;
use std::process::{Command, Stdio};

/// One command and what the page says it prints.
pub struct Step {
    /// The line after `$ `.
    pub command: String,
    /// Lines that are expected.
    pub expected: Vec<String>,
}

/// The commands of a block.
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.into(), expected: Vec::new() }),
            (None, Some(step)) => step.expected.push(line.to_string()),
            (None, None) => panic!("a console block begins with a command: {line}"),
        }
    }
    steps
}

/// Runs a command line in a folder; what it prints (errors too), and `? N` where it fails.
pub fn run(command: &str, folder: &Path) -> Vec<String> {
    let binary = Path::new(env!("CARGO_BIN_EXE_jetc"));
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = binary.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&folders));
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(folders).unwrap())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_string()).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    match output.status.code() {
        Some(0) => {}
        code => lines.push(format!("? {}", code.map_or("signal".into(), |n| n.to_string()))),
    }
    lines
}

/// True if the lines are those expected, `...` and `[..]` aside.
pub fn agree(expected: &[String], found: &[String]) -> bool {
    match expected.split_first() {
        None => found.is_empty(),
        Some((line, rest)) if line == "..." => (0..=found.len()).any(|skipped| agree(rest, &found[skipped..])),
        Some((line, rest)) => found.split_first().is_some_and(|(first, others)| line_agrees(line, first) && agree(rest, others)),
    }
}

fn line_agrees(expected: &str, found: &str) -> bool {
    let mut parts = expected.trim_end().split("[..]");
    let Some(mut left) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return left.is_empty() };
    for part in middle {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[test]
fn wildcards() {
    let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    let agree = |expected: &str, found: &str| agree(&lines(expected), &lines(found));
    assert!(agree("a\n...\nc", "a\nb\nb\nc") && agree("a\n...\nc", "a\nc") && agree("...", ""));
    assert!(!agree("a\n...\nc", "a\nb") && !agree("a", "a\nb") && !agree("a\nb", "a"));
    assert!(agree("in [..] s, [..]/s", "in 0.9 s, 12/s") && agree("[..]x", "x") && agree("x[..]", "x"));
    assert!(!agree("in [..] s", "in 0.9 m") && !agree("ab[..]b", "ab") && !agree("a [..]", "b 1"));
    assert_eq!(run("echo a; exit 2", Path::new(".")), ["a", "? 2"]);
}

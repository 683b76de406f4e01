//! The room's contract: the tour parses, printing keeps the tree, and nothing makes the parser panic.

use super::*;

/// The tree of a text that must be free of errors.
fn tree(text: &str) -> Ast {
    let (ast, diagnostics) = parse(text);
    assert!(diagnostics.is_empty(), "{text}\n{diagnostics:#?}");
    ast
}

#[test]
fn tour_parses() {
    for entry in std::fs::read_dir("examples").unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(tree(&text).items.len() > 3);
    }
}

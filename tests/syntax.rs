//! The syntax room by its text: every example as a tree, every malformed file as its diagnostics.

use jetc::syntax::{parse, printer};
use std::fs;

#[test]
fn examples() {
    insta::glob!("../examples", "*.jet", |path| {
        let (ast, diagnostics) = parse(&fs::read_to_string(path).unwrap());
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        let (again, _) = parse(&ast.to_string());
        assert!(printer::same(&ast, &again), "{ast}");
        assert_eq!(ast.to_string(), again.to_string());
        insta::assert_snapshot!(printer::bracketed(&ast));
    });
}

#[cfg(feature = "cli")]
#[test]
fn malformed() {
    insta::glob!("diagnostics/syntax/*.jet", |path| {
        let text = fs::read_to_string(path).unwrap();
        let (_, diagnostics) = parse(&text);
        assert!(diagnostics.iter().any(|d| d.is_error()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        insta::assert_snapshot!(jetc::diagnostic::render(&name, &text, &diagnostics, false));
    });
}

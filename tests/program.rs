//! The program room by its text: every example as a program, every wrong file as its diagnostics.

use jetc::program::{Overrides, Program, resolve};
use jetc::syntax::parse;
use std::fs;

#[test]
fn examples() {
    insta::glob!("../examples", "*.jet", |path| {
        let (ast, diagnostics) = parse(&fs::read_to_string(path).unwrap());
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        let (program, diagnostics) = resolve(&ast, &Overrides::default());
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        insta::assert_snapshot!(program.as_ref().map_or_else(String::new, Program::to_string));
    });
}

#[cfg(feature = "cli")]
#[test]
fn wrong() {
    insta::glob!("diagnostics/program/*.jet", |path| {
        let text = fs::read_to_string(path).unwrap();
        let (ast, diagnostics) = parse(&text);
        assert!(diagnostics.is_empty(), "{diagnostics:#?}");
        let (program, diagnostics) = resolve(&ast, &Overrides::default());
        assert!(!diagnostics.is_empty());
        assert_eq!(program.is_none(), diagnostics.iter().any(|d| d.is_error()));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        insta::assert_snapshot!(jetc::diagnostic::render(&name, &text, &diagnostics, false));
    });
}

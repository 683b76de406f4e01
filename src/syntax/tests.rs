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
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "jet") {
            assert!(tree(&std::fs::read_to_string(path).unwrap()).items.len() > 3);
        }
    }
}

/// What a text prints as, all brackets shown.
fn brackets(expr: &str) -> String {
    let ast = tree(&format!("let e = {expr}"));
    let text = printer::bracketed(&ast);
    text.trim_end().strip_prefix("let e = ").unwrap().to_string()
}

#[test]
fn precedence() {
    for (text, meaning) in [
        ("-x^2", "(-(x^2))"),
        ("x^-2", "(x^(-2))"),
        ("x^-y^z", "(x^(-(y^z)))"),
        ("x^y^z", "(x^(y^z))"),
        ("(x^y)^z", "((x^y)^z)"),
        ("-x*y", "((-x)*y)"),
        ("a - b + c*d/e", "(a - b + (c*d/e))"),
        ("a - (b - c)", "(a - (b - c))"),
        ("a*-b", "(a*(-b))"),
        ("+a - +b", "(a - b)"),
        ("--a", "(-(-a))"),
        ("u[0][1..d].v^2", "(u[0][1..d].v^2)"),
        ("f(x)[i]", "f(x)[i]"),
        ("[[1, 2], [3, 4],]", "[[1, 2], [3, 4]]"),
        ("f(a, b = c, 0..d,)", "f(a, b = c, 0..d)"),
        ("max(i in 0..d: x[i])", "max(i in 0..d: x[i])"),
        ("max(a, b)", "max(a, b)"),
        ("sum", "sum"),
        ("sum(i in 0..d-1: sum(j in i..d: 0.3^abs(i-j)))", "sum(i in 0..(d - 1): sum(j in i..d: (0.3^abs((i - j)))))"),
        ("1e-3*2.5E1", "(0.001*25)"),
        ("f(\n a,\n\n b # why\n)", "f(a, b)"),
        ("(\n  a\n  + b\n)", "(a + b)"),
    ] {
        assert_eq!(brackets(text), meaning, "{text}");
    }
}

#[test]
fn any_word_may_be_a_name() {
    let words = lexer::STATEMENT_WORDS.iter().chain(&lexer::CLAUSE_WORDS).map(|(word, _)| *word);
    for w in words.chain(["log", "flow", "sum", "max", "box"]) {
        let text = format!(
            "const {w} = {w}\nspace {w}, x[{w}] in {w}({w} = {w}..{w}) periodic({w}, {w})\nspace {w} from {w}\n\
             time {w} in {w}..{w}\nstate {w}[{w}]\nparam {w} = {w} learn log\nparam {w} = {w} learn\ncoef {w}[{w}] ~ {w}\n\
             net {w} = {w}({w} = {w})\nfield {w} = {w}\nlet {w} = {w}.{w}[{w}]\noperator {w}({w}, {w}) = {w}({w})\ndata {w} = \"{w}\"\n\
             output {w} = sum({w} in {w}..{w}: {w})\nsolve {w} on {w}: {w} = {w} weight {w} enhance {w} match {w}({w})\n\
             solve {w} on {w} = {w}: {w} = {w}\nsample {w} = {w}, {w} = {w}\nestimate {w} by {w} unbiased\n\
             train {w}, {w} = {w}\nreport {w}({w}), {w} = {w}, {w}\nflow {w}({w}) = {w} by {w}\nfit flow to {w}, {w} = {w}\n"
        );
        let ast = tree(&text);
        assert_eq!(ast.to_string(), text, "{w}");
    }
}

#[test]
fn clauses_in_any_order() {
    let ast = tree("solve a: u = 0 match m(1) weight 2 enhance e");
    let ast::ItemKind::Solve { clauses, .. } = &ast.items[0].kind else { panic!("{ast:?}") };
    assert!(matches!(clauses.as_slice(), [ast::Clause::Match(_), ast::Clause::Weight(_), ast::Clause::Enhance(_)]));
}

#[test]
fn spans_are_places_in_the_text() {
    let text = "\u{feff}# \u{e9}\r\nlet e = f(a) + (b - c)  # end\r\n";
    let ast = tree(text);
    let item = &ast.items[0];
    assert_eq!(&text[item.span.range()], "let e = f(a) + (b - c)");
    let ast::ItemKind::Let { value: Expr { kind: ExprKind::Sum(first, rest), .. }, .. } = &item.kind else {
        panic!("{ast:?}")
    };
    assert_eq!(&text[first.span.range()], "f(a)");
    assert_eq!(&text[rest[0].1.span.range()], "(b - c)");
}

#[test]
fn line_ends() {
    let a = tree("let a = 1\nlet b = 2\n");
    for text in
        ["let a = 1\r\nlet b = 2", "\r\n\r\nlet a = 1\rlet b = 2\r", "\u{feff}let a = 1 # one\n\n  \n\tlet b = 2"]
    {
        assert!(printer::same(&a, &tree(text)), "{text:?}");
    }
}

#[test]
fn an_error_does_not_hide_the_next() {
    let (ast, diagnostics) =
        parse("let a = (1 + \nfield u = 2\nlet b = \nnet = 3\nsovle x: u = 0\noutput r = $u\nlet c = 4");
    let messages: Vec<_> = diagnostics.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "this `(` is never closed",
            "expected an expression, found the end of the line",
            "expected a name, found `=`",
            "no statement begins with `sovle`",
            "`$` is not part of the language",
        ]
    );
    assert_eq!(ast.to_string(), "field u = 2\nlet c = 4\n");
}

#[test]
fn nothing_to_read() {
    for text in ["", "\n\n", "# only words\n", "\u{feff}"] {
        let (_, diagnostics) = parse(text);
        assert!(diagnostics.len() == 1 && diagnostics[0].is_error(), "{text:?}");
    }
}

#[test]
fn one_expression_or_call() {
    assert_eq!(parse_expr("1 +\n 2").unwrap().to_string(), "1 + 2");
    assert_eq!(parse_expr("const").unwrap().to_string(), "const");
    assert_eq!(parse_call("sparse(16)").unwrap().to_string(), "sparse(16)");
    assert_eq!(parse_call("exact").unwrap().to_string(), "exact");
    for bad in ["", "# no", "1 +", "a b", "1)", "(1", "a = 1", "1e999", "$", "a weight 1"] {
        assert!(parse_expr(bad).is_err_and(|d| !d.is_empty()), "{bad}");
    }
    assert!(parse_call("1 + f(2)").is_err());
}

#[test]
fn bytes_that_are_not_utf8() {
    let (text, diagnostics) = decode(b"let a = 1\nlet \xc3\xa9 = \xff");
    assert!(text.starts_with("let a"));
    assert_eq!(diagnostics[0].message, "the file is not UTF-8: byte 0xff at 2:9");
    assert_eq!(&text[diagnostics[0].span().range()], "\u{fffd}");
    assert!(decode("let \u{e9}".as_bytes()).1.is_empty());
}

/// `output r = ` with `n` levels of nesting of each kind.
fn nested(n: usize) -> Vec<String> {
    let wrap =
        |open: &str, middle: &str, close: &str| format!("output r = {}{middle}{}", open.repeat(n), close.repeat(n));
    vec![
        wrap("(", "u", ")"),
        wrap("f(", "u", ")"),
        wrap("[", "u", "]"),
        wrap("x[", "0", "]"),
        wrap("-", "u", ""),
        wrap("+", "u", ""),
        wrap("u^", "2", ""),
        wrap("", "u", "[0]"),
        wrap("", "u", ".v"),
    ]
}

#[test]
fn nesting_is_bounded() {
    for text in nested(ast::MAX_NESTING) {
        tree(&text);
    }
    // The highest tree per level: a call in a product in a sum.
    let steep = format!("output r = {}u{}", "1 + 2*f(".repeat(ast::MAX_NESTING), ")".repeat(ast::MAX_NESTING));
    assert!(printer::same(&tree(&steep), &tree(&tree(&steep).to_string())));
    for text in nested(ast::MAX_NESTING + 1).into_iter().chain(nested(20_000)) {
        let (ast, diagnostics) = parse(&text);
        assert!(ast.items.is_empty());
        assert_eq!(diagnostics.len(), 1);
        assert!(diagnostics[0].message.starts_with("nested deeper"), "{}", diagnostics[0]);
    }
    for mixed in ["(-", "u^-", "2^(", "sum(i in 0..1: ", "f(a)[", "u[0].v[", "-f(x)^"] {
        let (_, diagnostics) = parse(&format!("output r = {}", mixed.repeat(20_000)));
        assert_eq!(diagnostics.len(), 1, "{mixed}");
    }
    let (_, diagnostics) = parse(&")".repeat(20_000));
    assert_eq!(diagnostics.len(), 1);
}

#[test]
fn long_chains_are_flat() {
    for (infix, count) in [("+", 100_000), ("*", 100_000), ("-", 1_000), ("/", 1_000)] {
        let text = format!("output r = 1{}", format!("{infix}1").repeat(count));
        let ast = tree(&text);
        let ast::ItemKind::Output { value, .. } = &ast.items[0].kind else { panic!() };
        let (ExprKind::Sum(_, rest) | ExprKind::Product(_, rest)) = &value.kind else { panic!() };
        assert_eq!(rest.len(), count);
    }
    tree(&format!("output r = f({})", "x[0]^2, ".repeat(10_000)));
}

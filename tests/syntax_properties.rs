//! Random trees survive printing and parsing; random text survives parsing.

use jetc::diagnostic::Span;
use jetc::syntax::ast::*;
use jetc::syntax::{decode, parse, parse_expr, printer, statement_words};
use num_rational::BigRational;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

const NOWHERE: Span = Span { start: 0, end: 0 };

/// Words, those of the grammar among them.
fn word() -> impl Strategy<Value = String> {
    let mut words: Vec<&str> = statement_words().collect();
    words.extend([
        "in", "on", "from", "by", "to", "learn", "log", "weight", "match", "enhance", "unbiased", "periodic", "sum",
        "max",
    ]);
    prop_oneof![select(words).prop_map(String::from), "[a-zA-Z_][a-zA-Z0-9_]{0,3}"]
}

fn name() -> impl Strategy<Value = Name> {
    word().prop_map(|text| Name { text, span: NOWHERE })
}

fn node(kind: ExprKind) -> Expr {
    Expr { kind, span: NOWHERE }
}

/// Decimal fractions of any size that has a numeral.
fn numeral() -> impl Strategy<Value = Expr> {
    (0u64.., -300i32..300).prop_map(|(digits, exponent)| {
        let power = BigRational::from_integer(10.into()).pow(exponent);
        node(ExprKind::Number(BigRational::from_integer(digits.into()) * power))
    })
}

fn arguments(value: impl Strategy<Value = Expr> + Clone + 'static) -> impl Strategy<Value = Vec<Argument>> {
    let argument = (option::of(name()), value.clone(), option::weighted(0.2, value));
    vec(argument.prop_map(|(name, value, end)| Argument { name, value, end }), 0..4)
}

fn chain(operand: BoxedStrategy<Expr>, infix: [Infix; 2]) -> impl Strategy<Value = (Box<Expr>, Vec<(Infix, Expr)>)> {
    (operand.clone(), vec((select(infix.to_vec()), operand), 1..4)).prop_map(|(first, rest)| (Box::new(first), rest))
}

fn expr() -> BoxedStrategy<Expr> {
    let leaf = prop_oneof![3 => word().prop_map(|w| node(ExprKind::Name(w))), 1 => numeral()];
    leaf.prop_recursive(5, 40, 4, |e| {
        let e = e.boxed();
        let boxed = || e.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(|a| node(ExprKind::Negate(a))),
            chain(e.clone(), [Infix::Add, Infix::Sub]).prop_map(|(first, rest)| node(ExprKind::Sum(first, rest))),
            chain(e.clone(), [Infix::Mul, Infix::Div]).prop_map(|(first, rest)| node(ExprKind::Product(first, rest))),
            (boxed(), boxed()).prop_map(|(a, b)| node(ExprKind::Power(a, b))),
            (name(), arguments(e.clone())).prop_map(|(f, a)| node(ExprKind::Call(f, a))),
            (select(vec![Reduction::Sum, Reduction::Max]), name(), boxed(), boxed(), boxed())
                .prop_map(|(reduction, index, lo, hi, body)| node(ExprKind::Reduce { reduction, index, lo, hi, body })),
            (boxed(), boxed()).prop_map(|(a, i)| node(ExprKind::Index(a, i))),
            (boxed(), boxed(), boxed()).prop_map(|(a, lo, hi)| node(ExprKind::Slice(a, lo, hi))),
            (boxed(), name()).prop_map(|(a, m)| node(ExprKind::Member(a, m))),
            vec(e.clone(), 1..4).prop_map(|elements| node(ExprKind::List(elements))),
        ]
    })
    .boxed()
}

fn call() -> impl Strategy<Value = Call> {
    let brackets = option::of(arguments(expr()));
    (name(), brackets).prop_map(|(name, given)| Call {
        name,
        brackets: given.is_some(),
        arguments: given.unwrap_or_default(),
        span: NOWHERE,
    })
}

fn coordinate() -> impl Strategy<Value = Coordinate> {
    (name(), option::of(expr())).prop_map(|(name, length)| Coordinate { name, length })
}

fn options() -> impl Strategy<Value = Vec<Argument>> {
    vec((name(), expr()).prop_map(|(name, value)| Argument { name: Some(name), value, end: None }), 0..3)
}

fn region() -> impl Strategy<Value = Region> {
    let place = (word(), option::of(expr())).prop_map(|(text, index)| {
        let of = node(ExprKind::Name(text));
        match index {
            Some(index) => node(ExprKind::Index(Box::new(of), Box::new(index))),
            None => of,
        }
    });
    prop_oneof![
        name().prop_map(Region::Named),
        (place, expr()).prop_map(|(coordinate, value)| Region::Face { coordinate, value })
    ]
}

fn clause() -> impl Strategy<Value = Clause> {
    prop_oneof![expr().prop_map(Clause::Weight), call().prop_map(Clause::Enhance), call().prop_map(Clause::Match)]
}

fn statement() -> impl Strategy<Value = ItemKind> {
    let defined = || (name(), expr());
    let domain = (any::<bool>(), call()).prop_map(|(bounded, call)| Domain { bounded, call });
    let learn = option::of(any::<bool>().prop_map(|log| Learn { log, span: NOWHERE }));
    let entry = prop_oneof![
        call().prop_map(ReportEntry::Call),
        defined().prop_map(|(name, value)| ReportEntry::Option { name, value })
    ];
    prop_oneof![
        defined().prop_map(|(name, value)| ItemKind::Const { name, value }),
        (vec(coordinate(), 1..3), option::of(domain), vec(name(), 0..3))
            .prop_map(|(coordinates, domain, periodic)| ItemKind::Space { coordinates, domain, periodic }),
        (name(), option::of((expr(), expr()))).prop_map(|(name, range)| ItemKind::Time { name, range }),
        coordinate().prop_map(|coordinate| ItemKind::State { coordinate }),
        (name(), expr(), learn).prop_map(|(name, value, learn)| ItemKind::Param { name, value, learn }),
        (name(), expr(), call()).prop_map(|(name, length, distribution)| ItemKind::Coef { name, length, distribution }),
        (name(), call()).prop_map(|(name, architecture)| ItemKind::Net { name, architecture }),
        defined().prop_map(|(name, value)| ItemKind::Field { name, value }),
        defined().prop_map(|(name, value)| ItemKind::Let { name, value }),
        (name(), vec(name(), 0..3), expr())
            .prop_map(|(name, parameters, body)| { ItemKind::Operator { name, parameters, body } }),
        (name(), "[^\"\r\n]{0,12}").prop_map(|(name, path)| ItemKind::Data { name, path, path_span: NOWHERE }),
        defined().prop_map(|(name, value)| ItemKind::Output { name, value }),
        (name(), option::of(region()), expr(), expr(), vec(clause(), 0..3))
            .prop_map(|(name, region, left, right, clauses)| ItemKind::Solve { name, region, left, right, clauses }),
        vec(defined(), 1..3).prop_map(|counts| ItemKind::Sample { counts }),
        (expr(), call(), option::of(Just(NOWHERE)))
            .prop_map(|(target, method, unbiased)| { ItemKind::Estimate { target, method, unbiased } }),
        (call(), options()).prop_map(|(optimizer, options)| ItemKind::Train { optimizer, options }),
        vec(entry, 1..4).prop_map(|entries| ItemKind::Report { entries }),
        (expr(), expr(), call()).prop_map(|(left, right, method)| ItemKind::Flow { left, right, method }),
        (name(), options()).prop_map(|(data, options)| ItemKind::Fit { data, options }),
    ]
}

fn file() -> impl Strategy<Value = Ast> {
    vec(statement(), 1..5)
        .prop_map(|kinds| Ast { items: kinds.into_iter().map(|kind| Item { kind, span: NOWHERE }).collect() })
}

/// Pieces of the language and of what it is not, in any order.
fn soup() -> impl Strategy<Value = String> {
    let pieces = "( ( ) ) [ ] , : = ~ . .. + - * / ^ 0 1.5 1e-3 1e999 x u d_xy sum max lap in on by weight learn log \"a\" \" $ \u{e9} \u{2212} #";
    let mut pieces: Vec<&str> = pieces.split(' ').collect();
    pieces.extend(["\n", "\n", "\n", "\r\n", "\r", "\t", "\u{feff}"]);
    pieces.extend(statement_words());
    vec((select(pieces), any::<bool>()), 0..60)
        .prop_map(|words| words.iter().map(|(w, gap)| format!("{w}{}", if *gap { " " } else { "" })).collect())
}

/// Every diagnostic points into the text, and there is one wherever there is no tree.
fn survives(text: &str) {
    let (ast, diagnostics) = parse(text);
    assert!(!ast.items.is_empty() || !diagnostics.is_empty());
    let _ = parse_expr(text);
    for (span, _) in diagnostics.iter().flat_map(|d| &d.labels) {
        assert!(text.get(span.range()).is_some(), "{span:?} in {text:?}");
    }
    let (again, clean) = parse(&ast.to_string());
    assert!(ast.items.is_empty() || clean.is_empty() && printer::same(&ast, &again), "{text:?}");
    #[cfg(feature = "cli")]
    jetc::diagnostic::render("soup.jet", text, &diagnostics, false);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_trees_read_back(ast in file()) {
        let text = ast.to_string();
        let (again, diagnostics) = parse(&text);
        prop_assert!(diagnostics.is_empty(), "{text}\n{diagnostics:#?}");
        prop_assert_eq!(printer::bracketed(&ast), printer::bracketed(&again));
        prop_assert_eq!(&text, &again.to_string());
        // The text with all brackets is of the language too, and means the same.
        let (full, diagnostics) = parse(&printer::bracketed(&ast));
        prop_assert!(diagnostics.is_empty());
        prop_assert!(printer::same(&ast, &full));
    }

    #[test]
    fn token_soup_is_survived(text in soup()) {
        survives(&text);
    }

    #[test]
    fn bytes_are_survived(bytes in vec(any::<u8>(), 0..200)) {
        let (text, _) = decode(&bytes);
        survives(&text);
    }

    #[test]
    fn cut_programs_are_survived(ast in file(), cut in any::<prop::sample::Index>()) {
        let text = ast.to_string();
        let mut at = cut.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        survives(&text[..at]);
        survives(&text[at..]);
    }
}

//! The room's contract beyond its snapshots: folding, equality, overrides, sizes, depth.

use super::*;
use num_rational::BigRational;
use proptest::prelude::*;

const HEAD: &str = "net N = mlp(width = 8, depth = 3, activation = tanh)\n";

fn resolved(text: &str, set: &[(&str, &str)], estimates: &[(&str, &str)]) -> (Option<Program>, Vec<Diagnostic>) {
    let (ast, diagnostics) = crate::syntax::parse(text);
    assert!(diagnostics.is_empty(), "{text}\n{diagnostics:#?}");
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    resolve(&ast, &Overrides { set: pairs(set), estimates: pairs(estimates) })
}

/// The program of a text without errors; warnings are let pass.
fn program(text: &str) -> Program {
    let (program, diagnostics) = resolved(text, &[], &[]);
    program.unwrap_or_else(|| panic!("{text}\n{diagnostics:#?}"))
}

/// The text of the value that `expr` resolves to.
fn value(expr: &str) -> String {
    let program = program(&format!("space x[5]\ntime t\n{HEAD}field u = N(x, t)\noutput r = {expr}\n"));
    program.text(program.outputs[0].value)
}

fn messages(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

#[test]
fn constants_fold_exactly() {
    for (expr, expected) in [
        ("0.1 + 0.2", "0.3"),
        ("1/3 + 1/6", "0.5"),
        ("2^-3", "0.125"),
        ("(2/3)^2*9", "4"),
        ("-2^2", "-4"),
        ("(-1)^(10^30)", "1"),
        ("0^0", "1"),
        ("sqrt(9/4)", "1.5"),
        ("sqrt(2)", "sqrt(2)"),
        ("max(1/3, 0.3)", "1/3"),
        ("abs(-2) + cos(0) + log(1)", "3"),
        ("2*t*3", "6*t"),
        ("t/3", "t/3"),
        ("1/t", "1/t"),
        ("0*t", "0"),
        ("t + 1 - 1", "t"),
        ("t - 3", "t - 3"),
        ("t^1 + t^0", "t + 1"),
        ("-t", "-t"),
        ("sum(i in 0..0: x[i])", "0"),
        ("sum(i in 0..2: x[2*(i + 1) - 1]*(3 - i))", "sum(i in 0..2: x[2*i + 1]*(-i + 3))"),
        ("[t, 2*t, 5][2]", "5"),
        ("[[1, 2], [3, 4]][1][0]", "3"),
        ("d_tt(u) + d(u, x[0], t)", "d_tt(u) + d(u, x[0], t)"),
        ("(t + 1)*(t - 1)/(2*t*5)", "(t + 1)*(t - 1)/(10*t)"),
        ("(t^2)^3 + (t + 1)^(t*2)", "(t^2)^3 + (t + 1)^(t*2)"),
    ] {
        assert_eq!(value(expr), expected, "{expr}");
    }
}

#[test]
fn values_of_constants() {
    let text = "const A = [[1, 2], [3, 4]]\noutput r = sqrt(2)*pi + trace(A)^0.5 + sum(i in 0..4: 0.5^i) \
                + dot(A[0], A[1]) + norm2(A) + max(i in 0..3: sin(i)) + erf(1)\n";
    let program = program(text);
    let expected = 2f64.sqrt() * std::f64::consts::PI
        + 5f64.sqrt()
        + 1.875
        + 11.0
        + 30.0
        + 2f64.sin().max(1f64.sin())
        + 0.842_700_792_949_714_9; // erf(1), Abramowitz and Stegun, table 7.1
    let value = program.constant(program.outputs[0].value).unwrap();
    assert!((value - expected).abs() < 1e-13, "{value} {expected}");
}

#[test]
fn what_is_not_constant_has_no_value() {
    let program =
        program(&format!("space x[2]\nparam k = 1\n{HEAD}output r = k\noutput s = N(x)\noutput v = [1, 2]\n"));
    assert!(program.outputs.iter().all(|output| program.constant(output.value).is_none()));
}

#[test]
fn names_are_shared_and_order_is_free() {
    let program = program(
        "output r = L(u) + d(v, x[d - 1])\noperator L(u) = lap(u) + k*u\nfield v = u\nfield u = N(x)\n\
         const k = d/2\nspace x[d]\nconst d = 4\nnet N = mlp(width = d, depth = 2, activation = tanh)\n",
    );
    assert_eq!(program.fields[0].value, program.fields[1].value);
    // `k*u` resolves its own `u`, the parameter, which is bound to the field of that name.
    assert_eq!(program.text(program.outputs[0].value), "(lap(v) + 2*v) + d(v, x[3])");
}

#[test]
fn operators_are_hygienic() {
    let text = "space x[3]\nlet w = x[1]\noperator L(v) = sum(j in 0..3: v*w*x[j])\n\
                output r = sum(i in 0..3: L(x[i]))\n";
    let program = program(text);
    assert_eq!(program.text(program.outputs[0].value), "sum(i in 0..3: sum(j in 0..3: x[i]*w*x[j]))");
}

#[test]
fn a_word_in_two_namespaces() {
    let program = program(&format!(
        "const d = 2\nconst sin = 3\nspace x[d]\n{HEAD}field u = N(x)\noutput u = d*d(u, x[0]) + sin*sin(u)\n"
    ));
    assert_eq!(program.text(program.outputs[0].value), "2*d(u, x[0]) + 3*sin(u)");
}

#[test]
fn equality_is_of_structure() {
    let program = program(&format!(
        "space x[4]\n{HEAD}field u = N(x)\n\
         output a = sum(i in 0..4: x[i]*d(u, x[i], x[i])) + lap(N(x))\n\
         output b = sum(k in 0..4: x[k]*d(u, x[k], x[k])) + lap(u)\n\
         output c = sum(k in 0..4: x[k]*d(u, x[k], x[0])) + lap(u)\n\
         output e = sum(i in 0..2: sum(j in 0..2: x[i]*x[j + 2]))\n\
         output f = sum(i in 0..2: sum(j in 0..2: x[j]*x[i + 2]))\n\
         output g = sum(j in 0..2: sum(i in 0..2: x[j]*x[i + 2]))\n"
    ));
    let same = |a: usize, b: usize| program.same(program.outputs[a].value, program.outputs[b].value);
    assert!(same(0, 1) && !same(1, 2) && !same(3, 4) && same(3, 5));
}

#[test]
fn equality_of_shared_expressions_is_fast() {
    // As trees, these have 2^300 leaves.
    let chain = |name: &str| -> String {
        let step = |i: usize| format!("let {name}{} = sin({name}{i})*{name}{i}\n", i + 1);
        format!("let {name}0 = N(x)\n") + &(0..300).map(step).collect::<String>()
    };
    let text = format!("space x\n{HEAD}{}{}output a = a300\noutput b = b300\n", chain("a"), chain("b"));
    let program = program(&text);
    assert!(program.same(program.outputs[0].value, program.outputs[1].value));
    assert!(!program.to_string().is_empty());
}

#[test]
fn the_size_of_space_costs_nothing() {
    let text = format!(
        "const d = 10^12\nspace x[d] in ball(radius = 1)\ncoef c[d - 1] ~ normal(seed = 3)\n{HEAD}\
         field u = (1 - norm2(x))*N(x)\nlet e = sum(i in 0..d - 1: c[i]*x[i + 1])\n\
         solve interior: lap(u) + trace(hess(u)) = lap(e)\nestimate lap(u) by sparse(16)\nreport error(u, e)\n"
    );
    let program = program(&text);
    assert_eq!(program.columns(), 1_000_000_000_000);
    assert_eq!(program.nets[0].inputs, program.columns());
    assert!(program.exprs.len() < 100);
}

#[test]
fn long_sums_and_chains() {
    let terms = vec!["x"; 100_000].join(" + ");
    assert!(resolved(&format!("space x\noutput r = {terms}\n"), &[], &[]).0.is_some());
    let mut aliases: Vec<String> = (0..100_000).map(|i| format!("let a{} = a{i}\n", i + 1)).collect();
    aliases.reverse();
    let text = format!("space x\n{}let a0 = x\noutput r = a100000\n", aliases.concat());
    assert!(resolved(&text, &[], &[]).0.is_some());
}

#[test]
fn depth_does_not_depend_on_the_order() {
    let chain = |n: usize, reversed: bool| {
        let mut lines: Vec<String> = (1..n).map(|i| format!("let a{} = sin(a{i})\n", i + 1)).collect();
        if reversed {
            lines.reverse();
        }
        format!("space x\noutput r = a{n}\nlet a1 = x\n{}", lines.concat())
    };
    let operators = |n: usize| {
        let lines: String = (1..n).map(|i| format!("operator A{}(w) = sin(A{i}(w))\n", i + 1)).collect();
        format!("space x\noutput r = A{n}(x)\noperator A1(w) = w\n{lines}")
    };
    for (n, fits) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
        for text in [chain(n, false), chain(n, true), operators(n)] {
            let (program, diagnostics) = resolved(&text, &[], &[]);
            assert_eq!(program.is_some(), fits, "{n}: {}", messages(&diagnostics));
        }
    }
}

#[test]
fn letters_prefer_long_names() {
    let text = "space t, h, th, e, theta\nnet N = mlp(width = 2, depth = 1, activation = sin)\n\
                field u = N(t, h, th, e, theta)\n";
    let names = |call: &str| {
        let program = program(&format!("{text}output r = {call}\n"));
        match &program.expr(program.outputs[0].value).kind {
            Kind::Partial { along, .. } => {
                along.iter().map(|c| program.coordinate_text(c)).collect::<Vec<_>>().join(" ")
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(names("d_theta(u)"), "theta");
    assert_eq!(names("d_thetae(u)"), "theta e");
    assert_eq!(names("d_eth(u)"), "e th");
    assert_eq!(names("d_tthh(u)"), "t th h");
}

#[test]
fn n_may_be_a_coordinate() {
    let program = program(&format!("space n in box(0..1)\n{HEAD}solve a: d_n(N(n)) = 0\n"));
    assert!(matches!(program.expr(program.conditions[0].residual).kind, Kind::Partial { .. }));
}

#[test]
fn periodic_coordinates_count_twice() {
    let text = "space x[3], y in box(0..1) periodic(x)\nnet N = mlp(width = 2, depth = 1, activation = sin)\n";
    let inputs = |arguments: &str| program(&format!("{text}output r = N({arguments}) + y\n")).nets[0].inputs;
    assert_eq!(inputs("x, y"), 7);
    assert_eq!(inputs("x[0], y, x[1..3]"), 7);
    assert_eq!(inputs("2*x, sin(x[0])"), 4);
}

#[test]
fn outward_signs() {
    let text = format!(
        "const T = 0.3\nspace x[2] in box(-1..2)\ntime t in 0..T\n{HEAD}field u = N(x, t)\nsolve a on t = 0: u = 0\n\
         solve b on t = T: u = 0\nsolve c on x[1] = 2: d_n(u) = 0\nsolve e on x[0] = 0: u = 0\n\
         solve f on boundary: d_n(u) = 0\n"
    );
    let program = program(&text);
    let outward = |condition: &Condition| match condition.region {
        Region::Face { outward, .. } => outward,
        _ => 7,
    };
    assert_eq!(program.conditions.iter().map(outward).collect::<Vec<_>>(), [-1, 1, 1, 0, 7]);
}

const SOLVE: &str = "const d = 100\nconst k = d/2\nparam nu = 1\nspace x[d] in box(0..1)\n\
    net N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = N(x)\nsolve interior: nu*lap(u) + k*u = 0\n\
    estimate lap(u) by sparse(16)\n";

#[test]
fn overrides_set_values() {
    let (program, diagnostics) = resolved(SOLVE, &[("d", "9"), ("d", "2*2"), ("nu", "k/4")], &[]);
    let program = program.unwrap();
    assert_eq!(program.columns(), 4);
    assert_eq!(program.params[0].value, 0.5);
    assert_eq!(program.text(program.conditions[0].residual), "nu*lap(u) + 2*u");
    assert!(matches!(program.estimates[0].method, Method::Sparse { k: 4, .. }));
    insta::assert_snapshot!(messages(&diagnostics), @"warning: 16 terms are asked for where there are 4; 4 are taken");
}

#[test]
fn overrides_of_estimates() {
    let estimates = [("lap(u)", "gaussian(3)"), ("interior", "compressed"), ("lap(u)", "sparse(2, shared = true)")];
    let program = resolved(SOLVE, &[], &estimates).0.unwrap();
    let methods: Vec<String> = program.estimates.iter().map(|estimate| estimate.method.to_string()).collect();
    assert_eq!(methods, ["compressed", "sparse(2, shared = true)"]);
}

#[test]
fn wrong_overrides() {
    let set = [("D", "3"), ("u", "3"), ("d", "2.5"), ("nu", "1 +"), ("k", "x[0]")];
    let (program, diagnostics) =
        resolved(SOLVE, &set, &[("edge", "exact"), ("lap(u)", "sprase(2)"), ("lap(v)", "exact")]);
    assert!(program.is_none());
    insta::assert_snapshot!(messages(&diagnostics));
    assert!(diagnostics.iter().all(|d| d.span().end as usize <= SOLVE.len()));
}

#[test]
fn relu_is_not_judged_here() {
    let text = "space x\nnet N = mlp(width = 8, depth = 3, activation = relu)\noutput r = lap(N(x))\n";
    assert_eq!(program(text).nets[0].activation, Activation::Relu);
}

/// Numbers, with the text of an expression and its exact value; none where it divides by zero.
fn arithmetic() -> impl Strategy<Value = (String, Option<BigRational>)> {
    let leaf = (-9i64..10).prop_map(|n| (format!("({n})"), Some(BigRational::from_integer(n.into()))));
    leaf.prop_recursive(5, 40, 2, |inner| {
        (inner.clone(), inner, 0usize..4).prop_map(|((a, x), (b, y), operator)| {
            let value = x.zip(y).and_then(|(x, y)| match operator {
                0 => Some(x + y),
                1 => Some(x - y),
                2 => Some(x * y),
                _ => (y != BigRational::from_integer(0.into())).then(|| x / y),
            });
            (format!("({a} {} {b})", ["+", "-", "*", "/"][operator]), value)
        })
    })
}

proptest! {
    #[test]
    fn arithmetic_is_exact((text, expected) in arithmetic()) {
        let (program, diagnostics) = resolved(&format!("output r = {text}\n"), &[], &[]);
        match expected {
            None => prop_assert!(messages(&diagnostics).contains("division by zero")),
            Some(expected) => {
                let program = program.unwrap();
                prop_assert_eq!(&program.expr(program.outputs[0].value).kind, &Kind::Number(expected));
            }
        }
    }

    /// Any statements of the examples, shuffled and cut: no panic, and a program exactly where there is no error.
    #[test]
    fn statements_of_any_kind(picks in proptest::collection::vec((0usize..14, 0usize..40), 1..12)) {
        let mut files: Vec<_> = std::fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "jet"));
        files.sort();
        let mut ast = Ast::default();
        for (file, statement) in picks {
            let text = std::fs::read_to_string(&files[file % files.len()]).unwrap();
            let items = crate::syntax::parse(&text).0.items;
            ast.items.push(items[statement % items.len()].clone());
        }
        let (program, diagnostics) = resolve(&ast, &Overrides::default());
        prop_assert_eq!(program.is_none(), diagnostics.iter().any(Diagnostic::is_error));
    }
}

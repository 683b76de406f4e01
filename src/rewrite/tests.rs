//! Each rule on an instance, cases that must not hold, and what rewriting promises as a whole.

mod world;

use super::facts::{Classes, Facts, import};
use super::rules::{rewrites, table};
use super::{Rewritten, explain, has_derivative, prove, rewrite, saturate};
use crate::operator::{Graph, Id, Node};
use indexmap::IndexSet;
use proptest::prelude::*;
use world::World;

/// True if some of the rules show that two expressions are equal.
fn proved_by(world: &mut World, names: &[&str], a: Id, b: Id) -> bool {
    let mut egraph = Classes::new(Facts::of(world.graph.clone(), 5_000));
    let [x, y] = [a, b].map(|t| import(&mut egraph, t));
    egraph.rebuild();
    let egraph = saturate(egraph, &rewrites(|r| names.contains(&r.name)), 10, Some((x, y))).egraph;
    egraph.find(x) == egraph.find(y)
}

/// The rule, the rules that it needs beside it, and two forms that are equal by it and not without it.
const INSTANCES: &[(&str, &[&str], &str, &str)] = &[
    ("constant", &[], "(d x (* a (q 3)))", "0"),
    ("constant", &[], "(d x (exp t))", "0"),
    ("leaf", &[], "(d x x)", "1"),
    ("leaf", &[], "(d x y)", "0"),
    ("leaf", &[], "(d x (d y u))", "(d y (d x u))"),
    ("linearity", &[], "(d x (+ (* 3 u) (* -2 v) 7))", "(- (* 3 (d x u)) (* 2 (d x v)))"),
    ("product rule", &[], "(d x (* a u v))", "(+ (* a v (d x u)) (* a u (d x v)))"),
    ("product rule", &[], "(d x (/ u v))", "(- (/ (d x u) v) (/ (* u (d x v)) (^ v 2)))"),
    ("power rule", &[], "(d x (^ u a))", "(* a (^ u (- a 1)) (d x u))"),
    ("power rule", &[], "(d x (^ a u))", "(* (^ a u) (log a) (d x u))"),
    ("chain rule", &[], "(d x (sin u))", "(* (cos u) (d x u))"),
    ("chain rule", &[], "(d x (cos u))", "(* -1 (sin u) (d x u))"),
    ("chain rule", &[], "(d x (exp u))", "(* (exp u) (d x u))"),
    ("chain rule", &["flatten product"], "(d x (log u))", "(/ (d x u) u)"),
    ("chain rule", &["flatten product"], "(d x (sqrt u))", "(* 1/2 (/ (d x u) (sqrt u)))"),
    ("chain rule", &[], "(d x (tan u))", "(* (+ 1 (^ (tan u) 2)) (d x u))"),
    ("chain rule", &[], "(d x (sinh u))", "(* (cosh u) (d x u))"),
    ("chain rule", &[], "(d x (cosh u))", "(* (sinh u) (d x u))"),
    ("chain rule", &[], "(d x (tanh u))", "(* (- 1 (^ (tanh u) 2)) (d x u))"),
    ("chain rule", &["flatten product"], "(d x (atan u))", "(/ (d x u) (+ 1 (^ u 2)))"),
    ("chain rule", &["flatten product"], "(d x (erf u))", "(* 2 (/ (* (exp (- (^ u 2))) (d x u)) (sqrt pi)))"),
    ("chain rule", &[], "(d x (abs u))", "(* (sign u) (d x u))"),
    ("chain rule", &[], "(d x (max u v))", "(+ (* (at_least u v) (d x u)) (* (- 1 (at_least u v)) (d x v)))"),
    ("chain rule", &[], "(d x (min u v))", "(+ (* (at_least v u) (d x u)) (* (- 1 (at_least v u)) (d x v)))"),
    ("commuting partials", &[], "(d x (d y (* u v)))", "(d y (d x (* u v)))"),
    (
        "derivative of a sum",
        &["chain rule"],
        "(d x (sum i 0 3 (sin (* u (q i)))))",
        "(sum i 0 3 (* (cos (* u (q i))) (d x (* u (q i)))))",
    ),
    (
        "derivative of a maximum",
        &[],
        "(d t (max i 0 3 (* t (x i))))",
        "(sum i 0 3 (* (at_least (* t (x i)) (max j 0 3 (* t (x j)))) (d t (* t (x i)))))",
    ),
    ("linearity, back", &[], "(+ (d x (* u v)) (* 2 (d x (sin u))))", "(d x (+ (* u v) (* 2 (sin u))))"),
    ("product rule, back", &[], "(+ (* (d x (sin u)) v) (* (sin u) (d x v)))", "(d x (* v (sin u)))"),
    ("power rule, back", &[], "(* (^ u 2) (d x u))", "(* 1/3 (d x (^ u 3)))"),
    ("leaf, back", &["power rule, back", "collect terms"], "(* 2 u (D x u))", "(d x (^ u 2))"),
    // log(exp(...)) hides a form from the constructors of the graph, which would apply the same algebra at once
    (
        "sum is linear",
        &["inverse function"],
        "(sum i 0 3 (log (exp (+ (x i) (* 2 (sin (x i)))))))",
        "(+ (sum i 0 3 (x i)) (* 2 (sum i 0 3 (sin (x i)))))",
    ),
    ("factor out of a sum", &["inverse function"], "(sum i 0 3 (log (exp (* a (x i)))))", "(* a (sum i 0 3 (x i)))"),
    ("contract delta", &["leaf"], "(sum i 0 3 (* (q i) (d (x i) (x 2))))", "(q 2)"),
    (
        "rename index",
        &["inverse function", "factor out of a sum"],
        "(sum i 0 3 (log (exp (* (x i) (sum j 0 3 (q j))))))",
        "(* (sum i 0 3 (x i)) (sum i 0 3 (q i)))",
    ),
    ("maximum of a constant", &["sin^2 + cos^2"], "(max i 0 3 (+ a (^ (sin (x i)) 2) (^ (cos (x i)) 2)))", "(+ a 1)"),
    (
        "join sums",
        &["inverse function"],
        "(+ (sum i 0 3 (sin (x i))) (sum i 0 3 (cos (x i))))",
        "(sum i 0 3 (log (exp (+ (sin (x i)) (cos (x i))))))",
    ),
    ("collect terms", &["sqrt of a square"], "(+ (sqrt (^ a 2)) (abs a))", "(* 2 (abs a))"),
    ("collect factors", &["sqrt of a square"], "(* (sqrt (^ a 2)) (abs a))", "(^ (abs a) 2)"),
    ("flatten sum", &["inverse function"], "(+ c (log (exp (+ a b))))", "(+ a b c)"),
    ("flatten product", &["inverse function"], "(* c (log (exp (* a b))))", "(* a b c)"),
    ("flatten product", &["inverse function"], "(/ c (log (exp (* a b))))", "(/ c (* a b))"),
    ("distribute", &[], "(* a (+ b c 2))", "(+ (* a b) (* a c) (* 2 a))"),
    ("distribute", &["flatten sum"], "(^ (+ a b) 2)", "(+ (^ a 2) (* 2 a b) (^ b 2))"),
    ("factor", &[], "(+ (* a b) (* 3 a c) k)", "(+ k (* a (+ b (* 3 c))))"),
    ("factor", &[], "(+ a (^ a 2) (^ a 3))", "(* a (+ 1 (* a (+ 1 a))))"),
    ("factor", &[], "(+ (/ a c) (/ b c))", "(/ (+ a b) c)"),
    ("sin^2 + cos^2", &[], "(+ (^ (sin u) 2) (^ (cos u) 2))", "1"),
    ("sin^2 + cos^2", &[], "(+ (* 3 a (^ (sin u) 2)) (* 2 a (^ (cos u) 2)))", "(+ (* a (^ (sin u) 2)) (* 2 a))"),
    ("cosh^2 - sinh^2", &[], "(- (^ (cosh u) 2) (^ (sinh u) 2))", "1"),
    ("product of exp", &[], "(* a (exp u) (exp v))", "(* a (exp (+ u v)))"),
    ("product of exp", &[], "(/ (exp u) (exp v))", "(exp (- u v))"),
    ("square of sqrt", &[], "(^ (sqrt (+ 1 (^ u 2))) 3)", "(* (+ 1 (^ u 2)) (sqrt (+ 1 (^ u 2))))"),
    ("inverse function", &[], "(log (exp u))", "u"),
    ("inverse function", &[], "(exp (log (cosh u)))", "(cosh u)"),
    ("sqrt of a square", &[], "(sqrt (* (^ a 2) (^ b 4)))", "(abs (* a (^ b 2)))"),
    ("absolute value", &[], "(abs (+ 1 (^ u 2)))", "(+ 1 (^ u 2))"),
    ("log of a product", &[], "(log (* (exp u) (^ (cosh v) 2)))", "(+ (log (exp u)) (* 2 (log (cosh v))))"),
    ("odd or even", &[], "(sin (- (* -2 u) 1))", "(- (sin (+ (* 2 u) 1)))"),
    ("odd or even", &[], "(cosh (- u))", "(cosh u)"),
    ("half power", &[], "(^ u 1/2)", "(sqrt u)"),
    ("half power", &[], "(^ u -3/2)", "(/ 1 (* u (sqrt u)))"),
    ("power of exp", &[], "(^ (exp u) a)", "(exp (* a u))"),
    ("power of a power", &[], "(^ (^ (cosh u) a) b)", "(^ (cosh u) (* a b))"),
    ("join powers", &[], "(* (^ (cosh u) a) (^ (cosh u) b) (cosh u))", "(^ (cosh u) (+ a b 1))"),
    ("share exp", &[], "(+ (exp u) (exp (* 3 u)))", "(+ (exp u) (^ (exp u) 3))"),
    ("share exp", &[], "(+ (exp u) (exp (* -1 u)))", "(+ (exp u) (^ (exp u) -1))"),
    ("share sin and cos", &["flatten product"], "(* a (tan u))", "(/ (* a (sin u)) (cos u))"),
];

#[test]
fn every_rule_proves_its_instance_and_nothing_else_does() {
    let mut failed = Vec::new();
    for (rule, others, a, b) in INSTANCES {
        let mut world = World::new();
        let (x, y) = (world.read(a), world.read(b));
        let what = format!("{rule}: {a} = {b}");
        world.assert_equal_values(x, y, &what);
        let with: Vec<&str> = others.iter().copied().chain([*rule]).collect();
        match (proved_by(&mut world, &with, x, y), proved_by(&mut world, others, x, y)) {
            (true, false) => {}
            (false, _) => failed.push(format!("not proved: {what}")),
            (_, true) => failed.push(format!("holds without the rule: {what}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// What must not be shown: false somewhere, or a number made undefined.
const FALSE: &[(&str, &str)] = &[
    ("(sqrt (^ u 2))", "u"),
    ("(^ (sqrt u) 2)", "u"),
    ("(exp (log u))", "u"),
    ("(abs u)", "u"),
    ("(log (* u v))", "(+ (log u) (log v))"),
    ("(log (^ u 2))", "(* 2 (log u))"),
    ("(* (^ u 1/3) (^ u 2/3))", "u"),
    ("(^ (^ u 2) 1/2)", "u"),
    ("(sin (+ u v))", "(+ (sin u) (sin v))"),
    ("(sin (- u v))", "(sin (- v u))"),
    ("(cos (- u))", "(- (cos u))"),
    ("(d x (* u v))", "(* (d x u) (d x v))"),
    ("(d x (sin u))", "(cos u)"),
    ("(d x (d y u))", "(d x (d x u))"),
    ("(d x (^ u 2))", "(* 2 u)"),
    ("(d t (sum i 0 3 (sin (* t (x i)))))", "(sum i 0 3 (d (x i) (sin (* t (x i)))))"),
    ("(sum i 0 3 (* (x i) (sum j 0 3 (sin (x j)))))", "(sum i 0 3 (* (x i) (sin (x i))))"),
    ("(sum i 0 3 (* (x i) (d (x i) x)))", "(x 1)"),
    ("(sum i 0 3 (* (x i) (q i)))", "(* (sum i 0 3 (x i)) (sum i 0 3 (q i)))"),
    ("(sum i 0 3 (^ (x i) 2))", "(sum i 0 4 (^ (x i) 2))"),
    ("(max i 0 3 (+ (x i) (q i)))", "(+ (max i 0 3 (x i)) (max i 0 3 (q i)))"),
    ("(+ (^ (sin u) 2) (^ (cos v) 2))", "1"),
    ("(+ (^ (cosh u) 2) (^ (sinh u) 2))", "1"),
    ("(* (exp u) (exp v))", "(exp (* u v))"),
    ("(tan u)", "(/ (cos u) (sin u))"),
    ("(exp (* 2 u))", "(exp (^ u 2))"),
];

#[test]
fn what_is_false_is_not_proved() {
    for (a, b) in FALSE {
        let mut world = World::new();
        let (x, y) = (world.read(a), world.read(b));
        let (ex, ey) = (world.graph.expand(x), world.graph.expand(y));
        // the claim is really false, or the left side is a number where the right is none, or the other way round
        let differs = (0..12).any(|s| {
            let (x, y) = (world.value(ex, s), world.value(ey, s));
            let near = (x - y).abs() <= 1e-9;
            (x.is_finite() || y.is_finite()) && !near
        });
        assert!(differs, "{a} = {b} is true");
        assert!(!prove(&mut world.graph, x, y), "{a} = {b}");
    }
}

/// Consequences: nobody wrote these rules.
const IDENTITIES: &[(&str, &str, &str)] = &[
    ("div grad", "(+ (d x (d x u)) (d y (d y u)))", "(+ (D x (D x u)) (D y (D y u)))"),
    ("div grad in many dimensions", "(sum i 0 9 (d (x i) (d (x i) u)))", "(sum i 0 9 (D (x i) (D (x i) u)))"),
    ("curl grad", "(- (d y (d z (* u v))) (d z (d y (* u v))))", "0"),
    ("div curl", "(+ (d x (- (d y w) (d z v))) (d y (- (d z u) (d x w))) (d z (- (d x v) (d y u))))", "0"),
    ("product rule twice", "(d x (d x (* u v)))", "(+ (* u (d x (d x v))) (* 2 (d x u) (d x v)) (* v (d x (d x u))))"),
    ("conservation form", "(d x (* 1/2 (^ u 2)))", "(* u (d x u))"),
    ("div (a grad u)", "(d x (* a (exp x) (d x u)))", "(* a (exp x) (+ (d x u) (d x (d x u))))"),
    ("gradient of a norm", "(d x (sum i 0 9 (^ (x i) 2)))", "(* 2 x)"),
    (
        "gradient of a norm, open",
        "(sum j 0 9 (^ (d (x j) (sum i 0 9 (^ (x i) 2))) 2))",
        "(* 4 (sum i 0 9 (^ (x i) 2)))",
    ),
    ("laplacian of a norm", "(sum j 0 9 (d (x j) (d (x j) (sum i 0 9 (^ (x i) 2)))))", "18"),
    ("heat kernel", "(- (d t (* (exp (- (* k t))) (sin x))) (* k (d x (d x (* (exp (- (* k t))) (sin x))))))", "0"),
    ("quotient", "(d x (tanh x))", "(- 1 (^ (tanh x) 2))"),
    ("logarithmic derivative", "(d x (log (exp (* u v))))", "(+ (* u (d x v)) (* v (d x u)))"),
    ("tangent", "(d x (tan x))", "(/ 1 (^ (cos x) 2))"),
];

#[test]
fn identities_of_vector_calculus_follow() {
    let mut failed = Vec::new();
    for (name, a, b) in IDENTITIES {
        let mut world = World::new();
        let (x, y) = (world.read(a), world.read(b));
        world.assert_equal_values(x, y, name);
        if !prove(&mut world.graph, x, y) {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn every_rule_has_an_instance() {
    for rule in table() {
        assert!(INSTANCES.iter().any(|i| i.0 == rule.name), "{}", rule.name);
    }
}

/// As the compiler calls it, with the number of distinct atoms for rows.
fn rewritten(world: &mut World, residuals: &[&str]) -> (Vec<Id>, Vec<Id>, Rewritten) {
    let raw: Vec<Id> = residuals.iter().map(|r| world.read(r)).collect();
    let expanded: Vec<Id> = raw.iter().map(|r| world.graph.expand(*r)).collect();
    let out = rewrite(&mut world.graph, &raw, &expanded, &atoms);
    (raw, expanded, out)
}

fn atoms(graph: &mut Graph, roots: &[Id]) -> usize {
    let mut seen: IndexSet<Id> = roots.iter().copied().collect();
    let mut next = 0;
    while let Some(id) = seen.get_index(next).copied() {
        seen.extend(graph.children(id));
        next += 1;
    }
    seen.iter().filter(|id| matches!(graph.node(**id), Node::Atom(_))).count()
}

const TWO_BODY: &str = "(sum i 0 9 (* (q i) (sin (+ (x i) (cos (x (+ i 1))) (* (x (+ i 1)) (cos (x i)))))))";

/// Residuals as they are met in practice.
fn residuals() -> Vec<(&'static str, Vec<String>)> {
    let ball = "(- 1 (sum k 0 10 (^ (x k) 2)))";
    let exact = format!("(* {ball} {TWO_BODY})");
    vec![
        ("burgers", vec!["(- (+ (d t u) (* u (d x u))) (* k (d x (d x u))))".into()]),
        ("kdv", vec!["(+ (d t u) (* 6 u (d x u)) (d x (d x (d x u))))".into()]),
        ("conservative", vec!["(+ (d t u) (d x (- (* 1/2 (^ u 2)) (* k (d x u)))))".into()]),
        ("minimal surface", vec![
            "(+ (d x (/ (d x u) (sqrt (+ 1 (^ (d x u) 2) (^ (d y u) 2))))) (d y (/ (d y u) (sqrt (+ 1 (^ (d x u) 2) (^ (d y u) 2))))))".into(),
        ]),
        ("navier-stokes", vec![
            "(- (+ (d t u) (* u (d x u)) (* v (d y u)) (d x w)) (* k (+ (d x (d x u)) (d y (d y u)))))".into(),
            "(- (+ (d t v) (* u (d x v)) (* v (d y v)) (d y w)) (* k (+ (d x (d x v)) (d y (d y v)))))".into(),
            "(+ (d x u) (d y v))".into(),
        ]),
        ("kp source", vec![
            "(+ (d t (d x (* (cosh t) (+ (sinh x) (sinh y))))) (* 6 (d x (* (* (cosh t) (+ (sinh x) (sinh y))) (d x (* (cosh t) (+ (sinh x) (sinh y))))))) (* 3 (d y (d y (* (cosh t) (+ (sinh x) (sinh y)))))))".into(),
        ]),
        ("two body", vec![format!(
            "(- (+ (sum j 0 10 (d (x j) (d (x j) (* {ball} u)))) (sin (* {ball} u))) (+ (sum j 0 10 (d (x j) (d (x j) {exact}))) (sin {exact})))"
        )]),
        ("pinned", vec!["(- (* (+ (d x u) (d y u)) a) (* a (d y u)))".into(), "(+ (^ (sin u) 2) (^ (cos u) 2))".into()]),
    ]
}

#[test]
fn rewriting_keeps_values_and_is_never_worse() {
    for (name, texts) in residuals() {
        let mut world = World::new();
        let texts: Vec<&str> = texts.iter().map(|t| t.as_str()).collect();
        let (raw, expanded, out) = rewritten(&mut world, &texts);
        assert!(!has_derivative(&world.graph, &out.roots), "{name}");
        assert!(out.report.after <= out.report.before, "{name}");
        for ((r, e), o) in raw.iter().zip(&expanded).zip(&out.roots) {
            world.assert_equal_values(*r, *o, name);
            world.assert_equal_values(*e, *o, name);
        }
    }
}

#[test]
fn the_same_input_gives_the_same_output() {
    for (name, texts) in residuals() {
        let texts: Vec<&str> = texts.iter().map(|t| t.as_str()).collect();
        let [a, b] = [0, 1].map(|_| rewritten(&mut World::new(), &texts).2);
        assert_eq!(a, b, "{name}");
    }
}

/// Residuals, and what their best form costs, counted by hand: a transcendental function 20, a division 4.
const BEST: &[(&[&str], f64)] = &[
    // shared between roots: one sine, not two
    (&["(sin u)", "(* 2 (sin u))"], 21.0),
    // one exponential and a cube instead of two exponentials
    (&["(exp u)", "(exp (* 3 u))"], 22.0),
    (&["(+ (^ (sin u) 2) (^ (cos u) 2))"], 0.0),
    // a (b + c): one product less
    (&["(+ (* a b) (* a c))"], 2.0),
    // Horner: a (1 + a (1 + a))
    (&["(+ a (^ a 2) (^ a 3))"], 4.0),
    // one division
    (&["(+ (/ a c) (/ b c))"], 5.0),
    // sin/cos beside a sine and a cosine
    (&["(+ (sin u) (* 2 (cos u)) (tan u))"], 47.0),
    (&["(^ (+ 1 (^ u 2)) 3/2)"], 7.0),
    // what does not depend on the index is computed outside the sum: 9 sines and products, 9 additions, one exponential
    (&["(sum i 0 9 (* (exp u) (q i) (sin (x i))))"], 20.0 + 1.0 + 9.0 * 22.0),
];

#[test]
fn the_best_form_is_found() {
    for (texts, flops) in BEST {
        let mut world = World::new();
        let report = rewritten(&mut world, texts).2.report;
        assert_eq!(report.after.flops, *flops, "{texts:?}: {report:?}");
    }
}

#[test]
fn rows_come_before_flops() {
    // the factored form has fewer flops, the expanded one fewer atoms
    let mut world = World::new();
    let out = rewritten(&mut world, &["(- (* a (+ (d x u) (d y u))) (* a (d y u)))"]).2;
    assert_eq!((out.report.before.rows, out.report.after.rows), (2, 1));
    // a judge that likes nothing but the input gets the input
    let raw = world.read("(+ (^ (sin u) 2) (^ (cos u) 2))");
    let judge = |_: &mut Graph, roots: &[Id]| (roots != [raw]) as usize;
    assert_eq!(rewrite(&mut world.graph, &[raw], &[raw], &judge).roots, [raw]);
}

#[test]
fn too_big_is_left_alone() {
    let mut world = World::new();
    let terms: Vec<String> = (0..1100).map(|k| format!("(sin (* {k} x))")).collect();
    let (_, expanded, out) = rewritten(&mut world, &[&format!("(+ {})", terms.join(" "))]);
    assert_eq!((out.report.stop, &out.roots), ("too big", &expanded));
}

#[test]
fn proofs_read_well() {
    let mut text = String::new();
    for (name, a, b) in [
        ("product rule", "(d x (* a u v))", "(+ (* a v (d x u)) (* a u (d x v)))"),
        ("conservation form", "(d x (* 1/2 (^ u 2)))", "(* u (d x u))"),
        ("curl grad", "(- (d y (d z (* u v))) (d z (d y (* u v))))", "0"),
        ("gradient of a norm", "(d x (sum i 0 9 (^ (x i) 2)))", "(* 2 x)"),
        ("circle", "(+ 1 (^ (sin u) 2) (^ (cos u) 2))", "2"),
    ] {
        let mut world = World::new();
        let (x, y) = (world.read(a), world.read(b));
        let lines = explain(&mut world.graph, &World::name, x, y).expect(name);
        text += &format!("{name}\n  {}\n", lines.join("\n  "));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_rewriting_did_is_explained() {
    for (name, texts) in residuals() {
        let mut world = World::new();
        let texts: Vec<&str> = texts.iter().map(|t| t.as_str()).collect();
        let (raw, _, out) = rewritten(&mut world, &texts);
        for (r, o) in raw.iter().zip(&out.roots) {
            let lines = explain(&mut world.graph, &World::name, *r, *o);
            assert!(lines.is_some_and(|l| !l.is_empty()), "{name}");
        }
    }
}

#[test]
fn no_proof_of_what_is_false() {
    let mut world = World::new();
    let (x, y) = (world.read("(sqrt (^ u 2))"), world.read("u"));
    assert_eq!(explain(&mut world.graph, &World::name, x, y), None);
    // the graph is as it was, and more
    assert_eq!(world.read("u"), y);
}

fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["x", "t", "u", "v", "a", "b", "2", "-1/3"]).prop_map(String::from);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let i = inner.clone();
        prop_oneof![
            prop::collection::vec(i.clone(), 2..4).prop_map(|a| format!("(+ {})", a.join(" "))),
            prop::collection::vec(i.clone(), 2..4).prop_map(|a| format!("(* {})", a.join(" "))),
            (i.clone(), i.clone()).prop_map(|(a, b)| format!("(- {a} {b})")),
            (i.clone(), i.clone()).prop_map(|(a, b)| format!("(/ {a} (+ 2 (^ {b} 2)))")),
            (prop::sample::select(vec!["sin", "cos", "tanh", "atan", "abs", "erf"]), i.clone())
                .prop_map(|(f, a)| format!("({f} {a})")),
            i.clone().prop_map(|a| format!("(sqrt (+ 1 (^ {a} 2)))")),
            i.clone().prop_map(|a| format!("(exp (sin {a}))")),
            i.clone().prop_map(|a| format!("(^ {a} 2)")),
            i.clone().prop_map(|a| format!("(sum i 0 4 (* (x i) {a}))")),
            i.prop_map(|a| format!("(sum j 0 3 (sin (+ (q j) (* (x (+ j 1)) {a}))))")),
            inner.prop_map(|a| format!("(d x {a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn random_residuals_keep_their_values(a in expressions(), b in expressions()) {
        let mut world = World::new();
        let (_, expanded, out) = rewritten(&mut world, &[&a, &b]);
        prop_assert!(out.report.after <= out.report.before);
        prop_assert!(!has_derivative(&world.graph, &out.roots));
        for (e, o) in expanded.iter().zip(&out.roots) {
            for seed in 0..4 {
                let (x, y) = (world.value(*e, seed), world.value(*o, seed));
                prop_assert!(!x.is_finite() || (x - y).abs() <= 1e-7 * (1.0 + x.abs()), "{} != {}", x, y);
            }
        }
    }
}

//! Estimators have the right mean. Where draws are discrete all of them are enumerated, and their mean is the exact operator
//! to rounding; where they are not (Gaussian), the mean of many lies within what its own variance allows.

use jetc::jet::{Inputs, JetProgram, Op, ValueId, interpret};
use jetc::net::Parameters;
use jetc::plan::{Options, plan};
use jetc::program::Overrides;
use jetc::solver::{Evaluator, compile, variances};
use std::collections::BTreeMap;

const FIELD: &str = "space x[4]\ncoef c[4] ~ uniform(-1..2, seed = 3)\n\
    net N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x)\n";
const CONSTRAINED: &str =
    "space x[4]\nnet N = mlp(width = 6, depth = 2, activation = sin)\nfield u = (1 - norm2(x))*N(x)\n";
const TIMED: &str = "space x[4]\ntime t\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x, t)\n";

/// What output `a` of a program is at many points that differ in their draws only: draws and values.
fn draws_and_values(text: &str, points: usize) -> (JetProgram, Vec<(Vec<f64>, f64)>) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let parameters = Parameters::<f64>::initial(&program, 3);
    let mut jet = plan.sets[0].program.clone();
    let is_draw = |op: &Op| matches!(op, Op::Sample { .. } | Op::SampleWeighted { .. } | Op::Directions { .. });
    for (k, _) in plan.sets[0].program.ops.iter().enumerate().filter(|(_, op)| is_draw(op)) {
        jet.outputs.push((format!("draw {k}"), ValueId(k as u32)));
    }
    let evaluator = Evaluator::<f64>::new(&jet).expect("a draw can be an output");
    let x: Vec<f64> = (0..16).map(|k| ((k * 37 + 11) % 23) as f64 / 23.0 - 0.4).collect();
    let columns = program.columns();
    let all: Vec<f64> = (0..points).flat_map(|_| x[..columns].iter().copied()).collect();
    let (mut outputs, mut gradients) = evaluator.buffers();
    evaluator.run_into(&parameters, (points, &all, &[]), (5, 0), &mut outputs, &mut gradients).expect("shapes fit");
    let one = |p: usize| {
        let piece = |o: &Vec<f64>| {
            let width = o.len() / points;
            o[p * width..][..width].to_vec()
        };
        (outputs[1..].iter().flat_map(piece).collect(), outputs[0][p])
    };
    let values = (0..points).map(one).collect();
    (jet, values)
}

/// The exact value of an operator at the point of `draws_and_values`.
fn exact(head: &str, operator: &str) -> f64 {
    draws_and_values(&format!("{head}output a = {operator}\n"), 1).1[0].1
}

fn estimated(head: &str, operator: &str, method: &str) -> String {
    format!("{head}output a = {operator}\nestimate a by {method}\n")
}

/// The mean over all draws that occur, each as often as any other.
#[track_caller]
fn enumerated(head: &str, operator: &str, method: &str, draws: usize) {
    let (_, values) = draws_and_values(&estimated(head, operator, method), 60 * draws);
    let mut seen: BTreeMap<Vec<i64>, f64> = BTreeMap::new();
    for (draw, value) in values {
        seen.insert(draw.iter().map(|d| *d as i64).collect(), value);
    }
    assert_eq!(seen.len(), draws, "{operator} by {method}");
    let mean = seen.values().sum::<f64>() / draws as f64;
    let exact = exact(head, operator);
    assert!((mean - exact).abs() < 1e-11 * (1.0 + exact.abs()), "{operator} by {method}: {mean} for {exact}");
}

/// The mean over all draws of one pair, by their probabilities.
#[track_caller]
fn weighted(head: &str, operator: &str, draws: usize) {
    let (_, values) = draws_and_values(&estimated(head, operator, "importance(1)"), 400 * draws);
    let mut seen: BTreeMap<Vec<i64>, (f64, f64)> = BTreeMap::new();
    for (draw, value) in values {
        seen.insert(vec![draw[0] as i64, draw[1] as i64], (1.0 / draw[2], value));
    }
    assert_eq!(seen.len(), draws, "{operator}");
    let total: f64 = seen.values().map(|(p, _)| p).sum();
    assert!((total - 1.0).abs() < 1e-12, "{operator}: the probabilities add up to {total}");
    let mean: f64 = seen.values().map(|(p, v)| p * v).sum();
    let exact = exact(head, operator);
    assert!((mean - exact).abs() < 1e-11 * (1.0 + exact.abs()), "{operator}: {mean} for {exact}");
}

/// The mean of many draws, within five standard errors of it.
#[track_caller]
fn within_its_error(head: &str, operator: &str, method: &str) {
    let (_, values) = draws_and_values(&estimated(head, operator, method), 20_000);
    let n = values.len() as f64;
    let mean = values.iter().map(|v| v.1).sum::<f64>() / n;
    let variance = values.iter().map(|v| (v.1 - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let exact = exact(head, operator);
    assert!(variance > 0.0, "{operator} by {method} does not vary");
    let error = (mean - exact).abs() / (variance / n).sqrt();
    assert!(error < 5.0, "{operator} by {method}: {mean} for {exact}, {error:.1} standard errors");
}

#[test]
fn subsets_of_sums() {
    enumerated(FIELD, "lap(u)", "sparse(2)", 12);
    enumerated(FIELD, "u*lap(u) + d(u, x[0])", "sparse(3)", 24);
    enumerated(FIELD, "norm2(grad(u))", "sparse(1)", 4);
    enumerated(FIELD, "dot(x, grad(u)) + sum(i in 0..4: c[i]*d(u, x[i], x[i], x[i]))", "sparse(2)", 12);
    enumerated(FIELD, "sum(i in 0..3: d(u, x[i], x[i+1]))", "sparse(2)", 6);
    enumerated(CONSTRAINED, "lap(u)", "sparse(2)", 12);
    enumerated(TIMED, "d_t(u) + lap(u)", "sparse(2)", 12);
    enumerated(TIMED, "d_t(lap(u))", "sparse(1)", 4);
}

#[test]
fn subsets_of_nested_sums() {
    enumerated(FIELD, "lap(lap(u))", "sparse(2)", 12);
    enumerated(CONSTRAINED, "lap(lap(u))", "sparse(2)", 12);
    enumerated(FIELD, "lap(lap(lap(u)))", "sparse(3)", 24);
    enumerated(FIELD, "sum(i in 0..4: sum(j in 0..4: 0.3^abs(i - j)*d(u, x[i], x[j])))", "sparse(2)", 12);
    enumerated(FIELD, "sum(i in 0..4: sum(j in 0..4: x[i]*x[j]*d(u, x[i], x[j])))", "sparse(2)", 12);
    // p-Laplacian, p = 4
    enumerated(FIELD, "div(norm2(grad(u))*grad(u))", "sparse(2)", 12);
    // sums of values that come out of a nested sum
    enumerated(CONSTRAINED, "lap(dot(x, grad(u)))", "sparse(2)", 12);
    // products of sums are double sums
    enumerated(FIELD, "norm2(grad(u))*lap(u)", "sparse(2)", 12);
    enumerated(FIELD, "lap(u)^2", "sparse(3)", 24);
    enumerated(FIELD, "x[1]*lap(u)*sum(i in 0..4: c[i]*d(u, x[i], x[i], x[i]))*d(u, x[0])", "sparse(2)", 12);
    // also where they stand beside other terms, and where a sum has a factor
    enumerated(CONSTRAINED, "norm2(grad(u))*lap(u)", "sparse(2)", 12);
    enumerated(CONSTRAINED, "lap(u)^2 + u*lap(u)", "sparse(2)", 12);
    enumerated(CONSTRAINED, "(lap(u) + u)^3", "sparse(3)", 24);
    enumerated(FIELD, "(x[0]*lap(u) + u)*(dot(x, grad(u)) - 1)", "sparse(2)", 12);
    // one draw cannot tell an index from itself: the inner sum draws its own
    enumerated(FIELD, "lap(lap(u))", "sparse(1)", 16);
    enumerated(FIELD, "lap(u)^2", "sparse(1)", 16);
    enumerated(FIELD, "norm2(x*lap(u))", "sparse(1)", 16);
    enumerated(FIELD, "norm2(grad(lap(u)))", "sparse(1)", 64);
    // more indices than draws
    enumerated(FIELD, "norm2(grad(lap(u)))", "sparse(2)", 12 * 12);
    enumerated(FIELD, "lap(u)^3", "sparse(2)", 12 * 12);
    // what is inside of the factors of a product, with draws of its own
    enumerated(FIELD, "lap(lap(u))^2", "sparse(1)", 256);
    enumerated(FIELD, "lap(u)*sum(j in 0..3: d(lap(u), x[j]))", "sparse(2)", 12 * 6);
    // sums over different ranges draw for themselves
    enumerated(FIELD, "sum(i in 0..4: sum(j in 0..3: c[i]*d(u, x[i], x[j])))", "sparse(2)", 12 * 6);
}

/// A product of an estimate and a sum over all indices of what holds the same one.
#[test]
fn estimates_inside_of_whole_sums() {
    for operator in [
        "sum(i in 0..4: x[i]*d(lap(u), x[i]))*lap(u)",
        "sum(i in 0..4: x[i]*d(lap(u), x[i]))*sum(i in 0..4: d(lap(u), x[i]))",
        "sum(i in 0..4: x[i]*d(lap(u), x[i]))^2",
    ] {
        for k in [1, 3] {
            let text = format!("{FIELD}output a = {operator}\nestimate lap(u) by sparse({k})\n");
            let (_, values) = draws_and_values(&text, 40_000);
            let n = values.len() as f64;
            let mean = values.iter().map(|v| v.1).sum::<f64>() / n;
            let variance = values.iter().map(|v| (v.1 - mean).powi(2)).sum::<f64>() / (n - 1.0);
            let error = (mean - exact(FIELD, operator)).abs() / (variance / n).sqrt();
            assert!(variance > 0.0 && error < 5.0, "{operator} by {k}: {mean}, {error:.1} standard errors");
        }
    }
}

/// A network of some of the columns that are drawn.
#[test]
fn networks_of_a_part_of_the_columns() {
    let part = "space x[3]\nnet N = mlp(width = 4, depth = 3, activation = tanh)\nfield u = x[0]*N(x[1..3])\n";
    enumerated(part, "lap(u)", "sparse(1)", 3);
    enumerated(part, "lap(u)", "sparse(2)", 6);
}

#[test]
fn normals_in_random_directions() {
    let head = "space x[3] in box(0..1)\nnet N = mlp(width = 4, depth = 3, activation = tanh)\nfield u = N(x)\n\
                solve edge on boundary: d_n(u) + u = 1\nsample edge = 10\n";
    for method in ["rademacher(3)", "gaussian(2)", "importance(2)"] {
        let (program, diagnostics) = compile(&format!("{head}estimate edge by {method}\n"), &Overrides::default());
        let plan = plan(&program.expect("it resolves"), Options::default());
        assert!(plan.expect("it is planned").sets[0].normals, "{method} {diagnostics:?}");
    }
}

/// Directions that vary with the point have derivatives of their own.
#[test]
fn estimates_that_cannot_be_derived_are_refused() {
    let field = FIELD.replace("space x[4]", "space x[4] from normal()");
    let inner = |coefficient: &str| {
        format!(
            "output a = d(sum(i in 0..4: {coefficient}*d(u, x[i], x[i])), x[0])\n\
                 estimate sum(i in 0..4: {coefficient}*d(u, x[i], x[i])) by rademacher(2)\n"
        )
    };
    let enhanced = |by: &str| {
        format!("solve r: dot(x, grad(u)) = 1 enhance gradient(weight = 1)\nsample r = 10\nestimate r by {by}\n")
    };
    for (text, is_fine) in [
        (inner("x[i]^2"), false),
        (inner("c[i]"), true),
        (enhanced("rademacher(2)"), false),
        (enhanced("sparse(2)"), true),
    ] {
        let (program, diagnostics) = compile(&format!("{field}{text}"), &Overrides::default());
        let result = plan(&program.unwrap_or_else(|| panic!("{diagnostics:?}")), Options::default());
        let message = result.as_ref().err().map_or("", |e| e[0].message.as_str());
        assert!(if is_fine { result.is_ok() } else { message.contains("vary with the point") }, "{text} {message}");
    }
}

/// Estimates deviate as if the field had no known part: its sums are carried out.
#[test]
fn known_parts_are_not_sampled() {
    let known = "sum(i in 0..4: c[i]*exp(3*x[i]))";
    for operator in ["lap(u)", "dot(x, grad(u)) + d(u, x[1])", "lap(lap(u))"] {
        for factor in ["1", "(1 - norm2(x))"] {
            let head = |field: &str| FIELD.replace("u = N(x)", &format!("u = {field}"));
            let deviations = |field: &str| -> Vec<f64> {
                let exact = exact(&head(field), operator);
                let (_, values) = draws_and_values(&estimated(&head(field), operator, "sparse(2)"), 12);
                values.iter().map(|v| v.1 - exact).collect()
            };
            let (with, without) =
                (deviations(&format!("{factor}*N(x) + {known}")), deviations(&format!("{factor}*N(x)")));
            let largest = without.iter().fold(0f64, |m, d| m.max(d.abs()));
            assert!(largest > 1e-3, "{operator} does not vary");
            for (a, b) in with.iter().zip(&without) {
                assert!((a - b).abs() < 1e-10 * (1.0 + largest), "{operator} of {factor}*N + known: {a} for {b}");
            }
        }
    }
}

#[test]
fn weighted_terms() {
    weighted(FIELD, "sum(i in 0..4: c[i]*d(u, x[i], x[i]))", 4);
    weighted(FIELD, "d(u, x[1]) + 2*sum(i in 0..4: x[i]^2*d(u, x[i], x[i]))", 4);
    weighted(FIELD, "sum(i in 0..4: sum(j in 0..4: 0.3^abs(i - j)*d(u, x[i], x[j])))", 16);
    weighted(FIELD, "sum(i in 0..4: sum(j in 0..3: (i - 2*j + 0.5)*d(u, x[i], x[j])))", 12);
    weighted(CONSTRAINED, "sum(i in 0..4: (i - 1.5)*d(u, x[i], x[i]))", 4);
    weighted(TIMED, "d_t(u) + sum(i in 0..4: x[i]*d(u, x[i]))", 4);
    // equal weights: without replacement
    enumerated(FIELD, "lap(u)", "importance(2)", 12);
    // a product of sums of equal weights
    within_its_error(FIELD, "div(norm2(grad(u))*grad(u))", "importance(2)");
    within_its_error(FIELD, "norm2(grad(u))*lap(u)", "importance(1)");
    // two draws are two halves
    within_its_error(FIELD, "sum(i in 0..4: c[i]*d(u, x[i], x[i]))", "importance(2)");
}

#[test]
fn signs() {
    enumerated(FIELD, "lap(u)", "rademacher(1)", 16);
    enumerated(FIELD, "lap(u)", "rademacher(2)", 256);
    enumerated(CONSTRAINED, "lap(u)", "rademacher(1)", 16);
    enumerated(FIELD, "norm2(grad(u))", "rademacher(1)", 16);
    enumerated(TIMED, "d_t(u) + lap(u)", "rademacher(1)", 16);
    enumerated(TIMED, "d_t(lap(u))", "rademacher(1)", 16);
    // positive, indefinite, full and shifted coefficients
    enumerated(FIELD, "sum(i in 0..4: x[i]^2*d(u, x[i], x[i]))", "rademacher(1)", 16);
    enumerated(FIELD, "sum(i in 0..4: c[i]*d(u, x[i], x[i]))", "rademacher(1)", 16);
    enumerated(FIELD, "div(exp(sum(i in 0..4: c[i]*x[i]))*grad(u))", "rademacher(1)", 16);
    enumerated(FIELD, "sum(i in 0..4: sum(j in 0..4: 0.3^abs(i - j)*d(u, x[i], x[j])))", "rademacher(1)", 16);
    enumerated(FIELD, "sum(i in 0..3: d(u, x[i], x[i+1]))", "rademacher(1)", 8);
    // fourth order
    enumerated(FIELD, "lap(lap(u))", "rademacher(1)", 16);
    enumerated(CONSTRAINED, "lap(lap(u))", "rademacher(1)", 16);
    // pairs of their own directions
    enumerated(FIELD, "div(norm2(grad(u))*grad(u))", "rademacher(1)", 256);
    let scalars = "space x, y, z\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x, y, z)\n";
    enumerated(scalars, "lap(u)", "rademacher(1)", 8);
    // the trace of a Jacobian
    let vector = "space x[4]\nnet N = mlp(width = 5, depth = 2, activation = tanh, outputs = 4)\nlet f = N(x)\n";
    enumerated(vector, "sum(i in 0..4: d(f[i], x[i]))", "rademacher(1)", 16);
    enumerated(vector, "div(f)", "rademacher(1)", 16);
    enumerated(vector, "x[1]*d(f[0], x[0]) - 2*d(f[3], x[1]) + f[2]*x[0]", "rademacher(1)", 4);
}

#[test]
fn gaussian_directions() {
    within_its_error(FIELD, "lap(u)", "gaussian(2)");
    within_its_error(FIELD, "lap(lap(u))", "gaussian(3)");
    within_its_error(FIELD, "sum(i in 0..4: c[i]*d(u, x[i], x[i]))", "gaussian(1)");
    within_its_error(FIELD, "sum(i in 0..4: d(u, x[i], x[i], x[i], x[i]))", "gaussian(2)");
    within_its_error(FIELD, "sum(i in 0..4: d(u, x[i], x[i], x[i], x[i]))", "rademacher(2)");
}

/// The closed forms: sparse (d^2/k)(1 - k/d) S^2 with the sample variance S^2 of the diagonal, signs
/// (2/k)(|H|^2 - sum H_ii^2), Gaussian (2/k)|H|^2, weighted (Z sum |c| D^2 - (sum c D)^2)/k.
#[test]
fn variances_are_those_of_the_closed_forms() {
    let hessian: Vec<f64> = (0..16).map(|k| exact(FIELD, &format!("d(u, x[{}], x[{}])", k / 4, k % 4))).collect();
    let diagonal: Vec<f64> = (0..4).map(|i| hessian[5 * i]).collect();
    let c: Vec<f64> = (0..4).map(|i| exact(FIELD, &format!("c[{i}] + 0*d(u, x[0])"))).collect();
    let square = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>();
    let mean = diagonal.iter().sum::<f64>() / 4.0;
    let s2 = diagonal.iter().map(|h| (h - mean).powi(2)).sum::<f64>() / 3.0;
    let z: f64 = c.iter().map(|c| c.abs()).sum();
    let second: f64 = z * c.iter().zip(&diagonal).map(|(c, h)| c.abs() * h * h).sum::<f64>();
    let first: f64 = c.iter().zip(&diagonal).map(|(c, h)| c * h).sum();
    let cases = [
        ("lap(u)", "sparse(2)", 16.0 / 2.0 * (1.0 - 2.0 / 4.0) * s2),
        ("lap(u)", "sparse(3)", 16.0 / 3.0 * (1.0 - 3.0 / 4.0) * s2),
        ("lap(u)", "rademacher(2)", square(&hessian) - square(&diagonal)),
        ("lap(u)", "gaussian(2)", square(&hessian)),
        ("sum(i in 0..4: c[i]*d(u, x[i], x[i]))", "importance(2)", (second - first * first) / 2.0),
    ];
    for (operator, method, expected) in cases {
        let (_, values) = draws_and_values(&estimated(FIELD, operator, method), 100_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|v| v.1).sum::<f64>() / n;
        let moment = |p: i32| values.iter().map(|v| (v.1 - mean).powi(p)).sum::<f64>() / n;
        let error = (moment(2) - expected).abs() / ((moment(4) - moment(2).powi(2)) / n).sqrt();
        assert!(error < 5.0, "{operator} by {method}: {} for {expected}, {error:.1} standard errors", moment(2));
    }
}

#[test]
fn what_cannot_be_estimated_is_refused() {
    for (head, operator, method) in [
        (FIELD, "sum(i in 0..4: c[i]*d(u, x[i], x[i], x[i]))", "rademacher(2)"),
        (FIELD, "sum(i in 0..4: sum(j in 0..4: sum(k in 0..4: (i + j*k)*d(u, x[i], x[j], x[k]))))", "importance(2)"),
        (FIELD, "sum(i in 0..4: tanh(sum(j in 0..4: (x[i] + x[j])*d(u, x[j]))))", "rademacher(2)"),
        (FIELD, "sum(i in 0..4: tanh(sum(j in 0..4: (x[i] + x[j])*d(u, x[j]))))", "importance(2)"),
    ] {
        let (program, _) = compile(&estimated(head, operator, method), &Overrides::default());
        let errors = plan(&program.expect("it resolves"), Options::default()).expect_err("it is refused");
        assert!(errors[0].message.contains("cannot estimate this"), "{errors:?}");
    }
}

/// The mean of the loss at one point over many draws.
fn mean_loss(statement: &str) -> f64 {
    mean_loss_of(&format!("solve interior: lap(u) + norm2(grad(u)) = 1\n{statement}\n"))
}

/// Random directions are held fixed while the weight is differentiated; the mean of that is the gradient of the mean.
#[test]
fn gradients_through_a_factor_have_the_right_mean() {
    let gradient = |method: &str, points: usize| {
        let text = format!(
            "space x[12] in box(-1..1)\nnet N = mlp(width = 5, depth = 3, activation = tanh)\nfield u = N(x)\n\
             solve interior: lap(u) = 1\nestimate lap(u) by {method}\n"
        );
        let (program, _) = compile(&text, &Overrides::default());
        let program = program.expect("it resolves");
        let training = planned(&text).training.expect("a condition");
        let evaluator = Evaluator::<f64>::new(&training).expect("it was planned");
        let parameters = Parameters::<f64>::initial(&program, 3);
        let point: Vec<f64> = (0..12).map(|k| ((k * 37 + 11) % 23) as f64 / 23.0 - 0.4).collect();
        let points = (points, point.repeat(points));
        let (mut outputs, mut gradients) = evaluator.buffers();
        evaluator
            .run_into(&parameters, (points.0, &points.1, &[]), (5, 0), &mut outputs, &mut gradients)
            .expect("shapes fit");
        let mut sum = vec![0.0; 60];
        for ((t, _), g) in training.gradients.iter().zip(&gradients) {
            if training.tensors[t.index()].name == "N.0.weight" {
                sum.iter_mut().zip(g).for_each(|(s, g)| *s += g);
            }
        }
        sum
    };
    let (exact, mean) = (gradient("exact", 1), gradient("compressed(1) unbiased", 200_000));
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let difference: Vec<f64> = exact.iter().zip(&mean).map(|(a, b)| a - b).collect();
    assert!(norm(&difference) < 0.02 * norm(&exact), "{} of {}", norm(&difference), norm(&exact));
}

/// The same of a condition and its estimates.
fn mean_loss_of(condition: &str) -> f64 {
    let text = format!(
        "space x[4] in box(-1..1)\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x)\n{condition}"
    );
    let (program, diagnostics) = compile(&text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let training = plan.sets[0].training.as_ref().expect("a condition");
    let loss = training.outputs.iter().position(|o| o.0 == "loss").expect("it has a loss");
    let evaluator = Evaluator::<f64>::new(training).expect("it was planned");
    let parameters = Parameters::<f64>::initial(&program, 3);
    let points = [0.31, -0.42, 0.17, 0.55].repeat(100_000);
    let (mut outputs, mut gradients) = evaluator.buffers();
    let inputs = (100_000, points.as_slice(), &[][..]);
    evaluator.run_into(&parameters, inputs, (5, 0), &mut outputs, &mut gradients).expect("shapes fit");
    outputs[loss][0]
}

#[test]
fn an_unbiased_loss_has_no_variance_in_it() {
    let exact = mean_loss("");
    let (biased, unbiased) =
        (mean_loss("estimate lap(u) by sparse(1)"), mean_loss("estimate lap(u) by sparse(1) unbiased"));
    let added = biased - exact;
    assert!(added > 0.01 * exact, "{biased} for {exact}");
    assert!((unbiased - exact).abs() < 0.05 * added, "{unbiased} for {exact}, {biased} where it is biased");
    let all = mean_loss("estimate interior by rademacher(2) unbiased");
    assert!((all - exact).abs() < 0.05 * added, "{all} for {exact}");
}

/// Twelve dimensions through a layer of width 5.
const WIDE: &str = "space x[12] in box(-1..1)\ntime t in 0..1\ncoef c[12] ~ uniform(-1..2, seed = 3)\n\
    net N = mlp(width = 5, depth = 3, activation = tanh)\nfield u = N(x, t)\nfield v = (1 - norm2(x))*N(x, t)\n";

/// The loss of `residual = 1` and its gradient, with parameters whose first weight is changed by a function.
fn loss_and_gradient(residual: &str, method: &str, change: fn(&mut [f64])) -> (f64, Vec<Vec<f64>>) {
    let text = format!("{WIDE}solve interior: {residual} = 1\nestimate interior by {method}\n");
    let (program, diagnostics) = compile(&text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let training = plan.sets[0].training.as_ref().expect("a condition");
    let loss = training.outputs.iter().position(|o| o.0 == "loss").expect("it has a loss");
    let evaluator = Evaluator::<f64>::new(training).expect("it was planned");
    let mut parameters = Parameters::<f64>::initial(&program, 3);
    let first = parameters.position("N.0.weight").expect("there is a first layer");
    change(&mut parameters.values_mut()[first]);
    let points: Vec<f64> = (0..13 * 7).map(|k| ((k * 37 + 11) % 23) as f64 / 23.0 - 0.4).collect();
    let (mut outputs, mut gradients) = evaluator.buffers();
    evaluator.run_into(&parameters, (7, &points, &[]), (5, 0), &mut outputs, &mut gradients).expect("shapes fit");
    // a tensor that is used several times has several gradients, to be added
    let mut sums: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for ((tensor, _), g) in training.gradients.iter().zip(gradients) {
        let sum = sums.entry(tensor.0).or_insert_with(|| vec![0.0; g.len()]);
        sum.iter_mut().zip(g).for_each(|(s, g)| *s += g);
    }
    let named = |t: &u32| training.tensors[*t as usize].name.clone();
    let mut named: Vec<(String, Vec<f64>)> = sums.iter().map(|(t, g)| (named(t), g.clone())).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    (outputs[loss][0], named.into_iter().map(|g| g.1).collect())
}

#[test]
fn compressed_operators_are_exact_and_so_are_their_gradients() {
    let keep: fn(&mut [f64]) = |_| {};
    // rows 1 and 2 are multiples of row 0, row 3 is 0: rank 2
    let lose_rank: fn(&mut [f64]) = |w| {
        let row: Vec<f64> = w[..13].to_vec();
        row.iter().enumerate().for_each(|(k, x)| (w[13 + k], w[26 + k], w[39 + k]) = (2.0 * x, -x, 0.0));
    };
    for residual in [
        "lap(u)",
        "d_t(u) + lap(u) + sin(u)",
        "norm2(grad(u)) + u*lap(u)",
        "dot(x, grad(u)) + lap(v)",
        "lap(v) + norm2(grad(v))",
        "sum(i in 3..12: d(u, x[i], x[i])) + sum(i in 0..12: c[i]*d(u, x[i]))",
        "div((1 + norm2(x))*grad(u))",
        // factors with two neighbours, of which the last has one
        "lap(sum(i in 0..11: x[i]*x[i+1])*u)",
        "lap(sum(i in 1..12: x[i]*x[i-1]^2)*u)",
    ] {
        for change in [keep, lose_rank] {
            let (exact, exact_gradients) = loss_and_gradient(residual, "exact", change);
            let (loss, gradients) = loss_and_gradient(residual, "compressed", change);
            assert!((loss - exact).abs() < 1e-12 * exact, "{residual}: {loss} for {exact}");
            let size = exact_gradients.iter().flatten().fold(0.0, |m: f64, g| m.max(g.abs()));
            for (x, y) in gradients.iter().flatten().zip(exact_gradients.iter().flatten()) {
                assert!((x - y).abs() < 1e-11 * size, "{residual}: {x} for {y}");
            }
        }
    }
}

#[test]
fn compressed_signs() {
    enumerated(WIDE, "lap(u)", "compressed(1)", 32);
    enumerated(WIDE, "d_t(u) + norm2(grad(u)) + lap(v)", "compressed(1)", 32);
    let narrow = "space x[9]\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = N(x)\n";
    enumerated(narrow, "lap(lap(u))", "compressed(1)", 256);
    let square = |v: f64| v * v;
    // less variance than signs in all dimensions
    let spread = |method: &str| {
        let (_, values) = draws_and_values(&estimated(WIDE, "lap(u)", method), 20_000);
        let mean = values.iter().map(|v| v.1).sum::<f64>() / 20_000.0;
        values.iter().map(|v| square(v.1 - mean)).sum::<f64>()
    };
    assert!(spread("compressed(1)") < spread("rademacher(1)"));
}

#[test]
fn what_cannot_be_compressed_is_refused() {
    for operator in [
        "sum(i in 0..12: c[i]*d(u, x[i], x[i]))",
        "sum(i in 0..12: d(u, x[i], x[i], x[i]))",
        "sum(i in 0..12: sum(j in 0..12: 0.3^abs(i - j)*d(u, x[i], x[j])))",
        "sum(j in 0..3: sum(i in 0..12: 0.3^abs(i - j)*d(u, x[i]))^2)",
    ] {
        let (program, _) = compile(&estimated(WIDE, operator, "compressed"), &Overrides::default());
        let errors = plan(&program.expect("it resolves"), Options::default()).expect_err("it is refused");
        assert!(errors[0].message.contains("`compressed` cannot carry this out"), "{errors:?}");
    }
}

/// The oracle runs the operations by their definitions.
#[test]
fn the_cpu_agrees_with_the_interpreter() {
    let shared = "space x[7] in box(-1..1)\ntime t in 0..1\n\
        net N = mlp(width = 5, depth = 3, activation = tanh, share = block(3))\nfield u = N(x, t)\n";
    for (head, residual, method) in [
        (WIDE, "lap(v) + u*norm2(grad(u))", "sparse(3) unbiased"),
        (WIDE, "sum(i in 0..12: sum(j in 0..12: (i - j)*d(u, x[i], x[j])))", "importance(4)"),
        (WIDE, "sum(i in 0..12: c[i]*x[i]*d(u, x[i], x[i]))", "rademacher(2)"),
        (WIDE, "lap(v) + lap(u)", "gaussian(2)"),
        (WIDE, "lap(v) + norm2(grad(u))", "compressed"),
        (WIDE, "lap(v) + norm2(grad(u))", "compressed(3)"),
        (shared, "d_t(u) + lap(u)", "exact"),
        (shared, "d_t(u) + lap(u)", "sparse(2)"),
        (shared, "d_t(u) + lap(u)", "rademacher(2)"),
    ] {
        let text = format!("{head}solve interior: {residual} = 1\nestimate interior by {method}\n");
        let (program, diagnostics) = compile(&text, &Overrides::default());
        let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
        let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
        let training = plan.sets[0].training.as_ref().expect("a condition");
        assert_eq!(training.to_string().parse::<JetProgram>().as_ref(), Ok(training));
        let parameters = Parameters::<f64>::initial(&program, 3);
        let points: Vec<f64> = (0..program.columns() * 5).map(|k| ((k * 37 + 11) % 23) as f64 / 23.0 - 0.4).collect();
        let evaluator = Evaluator::<f64>::new(training).expect("it was planned");
        let (mut outputs, mut gradients) = evaluator.buffers();
        evaluator.run_into(&parameters, (5, &points, &[]), (7, 2), &mut outputs, &mut gradients).expect("shapes fit");
        let tensors = training.tensors.iter().map(|t| parameters.get(&t.name).expect("its own").to_vec()).collect();
        let inputs = Inputs { count: 5, points, data: vec![], tensors, seed: 7, step: 2, given: vec![] };
        let values = interpret(training, &inputs).expect("it was planned");
        let results = training.outputs.iter().map(|o| o.1).zip(&outputs);
        for (value, ours) in results.chain(training.gradients.iter().map(|g| g.1).zip(&gradients)) {
            let size = values[value.index()].iter().fold(1e-12, |m: f64, x| m.max(x.abs()));
            for (x, y) in ours.iter().zip(&values[value.index()]) {
                assert!((x - y).abs() < 1e-10 * size, "{residual} by {method}: {x} for {y}");
            }
        }
    }
}

/// A gradient term estimates weight |grad R|^2 by columns, by directions and by all components.
#[test]
fn gradient_terms_have_the_same_mean() {
    let exact = mean_loss("");
    let with = |k: usize| {
        mean_loss_of(&format!(
            "solve interior: lap(u) + norm2(grad(u)) = 1   enhance gradient(weight = 0.1, dirs = {k})\n"
        ))
    };
    let all = with(4);
    assert!(all > 1.001 * exact, "the term counts: {all} for {exact}");
    let sampled = with(2);
    assert!((sampled - all).abs() < 0.02 * (all - exact), "{sampled} for {all}");
}

fn planned(text: &str) -> jetc::plan::PointSet {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}")).sets.remove(0)
}

/// min(d, width) + 2 rows in any dimension, and what is cheap enough stays exact.
#[test]
fn the_planner_chooses() {
    let text = |d: usize, statement: &str| {
        format!(
            "space x[{d}] in ball(radius = 1)\nnet N = mlp(width = 9, depth = 3, activation = tanh)\nfield u = N(x)\n\
             solve interior: lap(u) = 1\n{statement}\nsample interior = 100\n"
        )
    };
    let rows = |d, statement: &str| planned(&text(d, statement)).networks[0].rows;
    assert_eq!(rows(5, ""), 7);
    assert_eq!(rows(50, ""), 52);
    assert_eq!(rows(100_000, ""), 11);
    assert_eq!(rows(100_000, "estimate interior by compressed"), 11);
    assert_eq!(rows(100_000, "estimate lap(u) by sparse(16)"), 18);
    assert_eq!(rows(100_000, "estimate lap(u) by auto"), 11);
    // a layer that is wide makes the exact operator too dear for `auto`
    let dear = text(300, "estimate lap(u) by auto").replace("width = 9", "width = 200");
    assert_eq!(planned(&dear).networks[0].rows, 18);
    assert!(planned(&dear).estimators.iter().any(|e| e.contains("compressed(16)")), "{:?}", planned(&dear).estimators);
}

/// What `plan --variance` prints is the variance that the closed forms give.
#[test]
fn measured_variances() {
    let text = format!("{FIELD}output a = lap(u)\nestimate a by sparse(2)\n");
    let (program, _) = compile(&text, &Overrides::default());
    let program = program.expect("it resolves");
    let parameters = Parameters::<f64>::initial(&program, 3);
    let comparisons = variances(&program, &parameters, std::path::Path::new(""), 1).expect("it runs");
    let [c] = &comparisons[..] else { panic!("{comparisons:?}") };
    let of = |name: &str| {
        let found = c.methods.iter().find(|m| m.0 == name).unwrap_or_else(|| panic!("no {name} in {c:?}"));
        found.1.clone().unwrap_or_else(|e| panic!("{name}: {e}")).variance
    };
    assert_eq!(of("exact"), 0.0);
    assert_eq!(of("sparse(2) (as written)"), of("sparse(2)"));
    assert!(of("sparse(2)") > 0.0);
    // 2/k |H|^2 against 2/k (|H|^2 - sum H_ii^2)
    assert!(of("gaussian(2)") > of("rademacher(2)"));
}

/// The plan of a condition on normal points.
fn condition_by(head: &str, operator: &str, method: &str) -> Result<jetc::plan::Plan, String> {
    let rest = format!("solve r: {operator} = 0\nsample r = 10\nestimate r by {method}\n");
    let text = format!("{head}{rest}").replace("space x[4]", "space x[4] from normal()");
    let (program, diagnostics) = compile(&text, &Overrides::default());
    let program = program.ok_or_else(|| format!("{diagnostics:?}"))?;
    plan(&program, Options::default()).map_err(|e| format!("{e:?}"))
}

#[test]
fn only_unbiased_estimates_are_made_twice() {
    let operator = "sum(i in 0..4: c[i]*d(u, x[i], x[i]))";
    for method in ["sparse(2)", "importance(2)", "rademacher(2)", "gaussian(2)"] {
        assert!(!condition_by(FIELD, operator, method).unwrap().sets[0].is_unbiased, "{method}");
        assert!(condition_by(FIELD, operator, &format!("{method} unbiased")).unwrap().sets[0].is_unbiased, "{method}");
    }
}

#[test]
fn coefficients_of_two_indices_are_not_compressed() {
    let wide = FIELD.replace("[4]", "[9]");
    let operator = "sum(i in 0..9: sum(j in 0..9: 0.5^abs(i - j)*d(u, x[i], x[j])))";
    let error =
        condition_by(&wide.replace("space x[9]", "space x[9] from normal()"), operator, "compressed").unwrap_err();
    assert!(error.contains("the indices of two sums"), "{error}");
}

//! Vector-Jacobian products against central differences: with respect to points, data and learned tensors.

use jetc::jet::{JetProgram, vjp};
use jetc::net::Parameters;
use jetc::plan::{Options, plan};
use jetc::program::{Overrides, Program};
use jetc::solver::{Evaluator, compile};
use std::fs;

const POINTS: usize = 3;

fn planned(text: &str) -> (Program, JetProgram) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let mut plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    (program, plan.sets.swap_remove(0).program)
}

/// Numbers in (-0.5, 0.5) that follow no pattern.
fn numbers(n: usize, seed: usize) -> Vec<f64> {
    (0..n).map(|k| ((k * 37 + seed * 101 + 11) % 229) as f64 / 229.0 - 0.5).collect()
}

/// All products of a program with a cotangent, against differences of the sum over points of cotangent times values.
#[track_caller]
fn check(text: &str) {
    let (program, jet) = planned(text);
    let product = vjp(&jet, true).unwrap_or_else(|e| panic!("{text}\n{e}"));
    let values = Evaluator::<f64>::new(&jet).expect("a valid program");
    let evaluator = Evaluator::<f64>::new(&product).expect("a valid program");
    let parameters = Parameters::<f64>::initial(&program, 3);
    let (columns, own, width) = (jet.columns, jet.data_columns, values.width());
    let points = numbers(POINTS * columns, 1);
    let data = numbers(POINTS * own, 2);
    let cotangent = numbers(POINTS * width, 3);
    let rows: Vec<f64> =
        (0..POINTS).flat_map(|p| [&data[p * own..][..own], &cotangent[p * width..][..width]].concat()).collect();
    let (mut outputs, mut gradients) = evaluator.buffers();
    evaluator
        .run_into(&parameters, (POINTS, &points, &rows), (7, 0), &mut outputs, &mut gradients)
        .expect("shapes fit");
    let sum = |parameters: &Parameters<f64>, points: &[f64], data: &[f64]| -> f64 {
        let values = values.run(parameters, POINTS, points, data, 7, 0).expect("shapes fit");
        values.iter().zip(&cotangent).map(|(v, c)| v * c).sum()
    };
    let here = sum(&parameters, &points, &data);
    let again: f64 = outputs[0].iter().zip(&cotangent).map(|(v, c)| v * c).sum();
    assert!((here - again).abs() < 1e-12 * (1.0 + here.abs()), "{text}: {here} and {again}");
    let difference = |f: &dyn Fn(f64) -> f64| {
        let h = 1e-3;
        (8.0 * (f(h) - f(-h)) - (f(2.0 * h) - f(-2.0 * h))) / (12.0 * h)
    };
    let compare = |what: String, found: f64, wanted: f64, scale: f64| {
        assert!((found - wanted).abs() < 1e-6 * (1.0 + scale), "{text}: {what}: {found}, by differences {wanted}");
    };
    let moved = |of: &[f64], k: usize, h: f64| {
        let mut of = of.to_vec();
        of[k] += h;
        of
    };
    let scale = |bar: &[f64]| bar.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let bar = |name: &str| product.outputs.iter().position(|o| o.0 == name).map(|k| outputs[k].clone());
    let points_bar = bar("points-bar").expect("always there");
    assert_eq!(points_bar.len(), points.len());
    for k in 0..points.len() {
        let wanted = difference(&|h| sum(&parameters, &moved(&points, k, h), &data));
        compare(format!("points-bar {k}"), points_bar[k], wanted, scale(&points_bar));
    }
    if own > 0 {
        let data_bar = bar("data-bar").expect("the program reads data");
        assert_eq!(data_bar.len(), data.len());
        for k in 0..data.len() {
            let wanted = difference(&|h| sum(&parameters, &points, &moved(&data, k, h)));
            compare(format!("data-bar {k}"), data_bar[k], wanted, scale(&data_bar));
        }
    }
    for (t, spec) in parameters.specs().iter().enumerate().filter(|(_, s)| s.is_learned()) {
        let mine = product.gradients.iter().zip(&gradients);
        let mine: Vec<&Vec<f64>> =
            mine.filter(|((t, _), _)| product.tensors[t.index()].name == spec.name).map(|m| m.1).collect();
        let len = parameters.values()[t].len();
        for e in (0..len).step_by(len.div_ceil(4).max(1)) {
            let found = POINTS as f64 * mine.iter().map(|g| g[e]).sum::<f64>();
            let wanted = difference(&|h| {
                let mut moved = parameters.clone();
                moved.values_mut()[t][e] += h;
                sum(&moved, &points, &data)
            });
            compare(format!("gradient of {} {e}", spec.name), found, wanted, wanted.abs());
        }
    }
}

#[test]
fn products_of_reference_programs() {
    for entry in fs::read_dir("tests/reference").expect("reference programs") {
        let case = entry.expect("an entry").path().join("case.jet");
        check(&fs::read_to_string(case).expect("a program"));
    }
}

const FIELD: &str = "space x[5]\nnet N = mlp(width = 6, depth = 3, activation = tanh)\n";

#[test]
fn products_of_estimates() {
    let ball = "field u = (1 - norm2(x))*N(x)\noutput a = lap(u) + sin(u)*x[1]\nestimate a by";
    for method in ["sparse(2)", "rademacher(2)", "gaussian(3)", "compressed"] {
        check(&format!("{FIELD}{ball} {method}\n"));
    }
    let along = "output a = sum(i in 0..5: sum(j in 0..5: x[i]*x[j]*d(N(x), x[i], x[j])))\nestimate a by";
    for method in ["sparse(3)", "rademacher(2)", "gaussian(2)"] {
        check(&format!("{FIELD}{along} {method}\n"));
    }
    check("space x[7]\nnet N = mlp(width = 6, depth = 3, activation = sin, share = block(3))\noutput a = lap(N(x))\n");
}

#[test]
fn products_with_learned_coefficients_and_several_outputs() {
    let text = "space x, y\nparam nu = 0.3 learn log\nnet N = mlp(width = 6, depth = 3, activation = gelu, outputs = 2)\n\
                field v = N(x, y)\noutput a = v[0]*d_x(v[0]) - nu*(1 + x^2)*lap(v[0])\noutput b = div(v)\noutput c = max(x, y)*v[1]\n";
    check(text);
}

#[test]
fn products_with_respect_to_data() {
    let text = "space x\ndata obs = \"obs.csv\"\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x)\n\
                solve fit on obs: u*exp(obs.b) = sin(obs.a)*d_xx(u)\n\
                sample fit = 10\ntrain adam(lr = 1e-3), steps = 10\n";
    check(text);
}

#[test]
fn draws_whose_probabilities_move_with_the_point_have_no_product() {
    let text = format!("{FIELD}output a = sum(i in 0..5: x[i]^2*d(N(x), x[i], x[i]))\nestimate a by importance(2)\n");
    let (_, jet) = planned(&text);
    let error = vjp(&jet, true).expect_err("not differentiable").to_string();
    assert!(error.contains("probabilities"), "{error}");
}

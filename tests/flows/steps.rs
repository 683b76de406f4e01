//! Steps and rollouts: closed forms, orders of convergence, a solver of somebody else.

use super::*;

/// The solver of somebody else, on an oscillator.
#[test]
fn the_reference_is_sound() {
    let s = reference(|_, s| vec![s[1], -s[0]], 0.3, &[0.0, 1.0], 2.0);
    assert!(distance(&s, &[2f64.sin(), 2f64.cos()]) < 1e-9, "{s:?}");
}

/// On s' = l s with order 1 the exact midpoint g, in steps, satisfies e^z = 1 + z + z^2/2 (1 + g z), z = l h: about 0.0820 at
/// z = -10 and 0.3325 at z = -0.01. With it, one step is exact.
#[test]
fn the_closed_form_of_a_midpoint() {
    for (l, known) in [(-1000.0f64, 0.0820), (-1.0, 0.3325)] {
        let z = l * 0.01;
        let g = ((z.exp() - 1.0 - z) * 2.0 / (z * z) - 1.0) / z;
        assert!((g - known).abs() < 5e-5, "{g}");
        let text =
            format!("state s\nflow d_t(s) = {l} * s by taylor_lagrange(order = 1, midpoint = {g:.17}, step = 0.01)\n");
        let s = after(&text, &[1.5], 0.01)[0];
        assert!((s - 1.5 * z.exp()).abs() < 1e-12, "{s} {}", 1.5 * z.exp());
    }
}

/// A matrix midpoint mixes components: the same in the coordinates of a rotated system.
#[test]
fn a_matrix_midpoint_turns_with_the_system() {
    let diagonal =
        "state s[2]\nflow d_t(s) = [-3*s[0], -s[1]] by taylor_lagrange(order = 1, midpoint = [0.1, 0.3], step = 0.1)\n";
    // s = R z with R a rotation by 45 degrees: A = R diag(-3, -1) R^T, G = R diag(0.1, 0.3) R^T
    let turned = "state s[2]\nflow d_t(s) = [-2*s[0] - s[1], -s[0] - 2*s[1]] by taylor_lagrange(order = 1, midpoint = [[0.2, -0.1], [-0.1, 0.2]], step = 0.1)\n";
    let z = after(diagonal, &[1.0, 2.0], 0.1);
    let c = 0.5f64.sqrt();
    // columns of R: (1, 1)/sqrt 2 for -3, (-1, 1)/sqrt 2 for -1
    let rotate = |z: &[f64]| vec![c * (z[0] - z[1]), c * (z[0] + z[1])];
    let s = after(turned, &rotate(&[1.0, 2.0]), 0.1);
    assert!(distance(&s, &rotate(&z)) < 1e-14, "{s:?}");
}

/// Every function of the language, time, real powers and quotients: Taylor series against a solver that knows none.
const FUNCTIONS: &str = "time t\nstate s[3]\nlet p = 2 + s[0]^2\n\
    flow d_t(s) = [sin(s[1]) * exp(-t) - atan(s[0]) + tanh(s[2] * t) / p, \
                   cos(s[0] * s[2]) + sqrt(p) - log(p)*s[1] + erf(s[0]) - sinh(0.3*s[1]), \
                   s[0]^3 / (1 + s[1]^2) - p^1.3 + p^(0.2*s[0]) + cosh(0.2*s[2]) + tan(0.3*s[1]) + sum(i in 0..3: 0.1 * s[i]^2) + abs(2 + t) + max(s[0] + 3, s[1] - 9)]";

fn functions(t: f64, s: &[f64]) -> Vec<f64> {
    let p = 2.0 + s[0] * s[0];
    // erf by its series
    let erf = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for k in 1..60 {
            term *= -x * x / k as f64;
            sum += term / (2 * k + 1) as f64;
        }
        2.0 / std::f64::consts::PI.sqrt() * sum
    };
    vec![
        s[1].sin() * (-t).exp() - s[0].atan() + (s[2] * t).tanh() / p,
        (s[0] * s[2]).cos() + p.sqrt() - p.ln() * s[1] + erf(s[0]) - (0.3 * s[1]).sinh(),
        s[0].powi(3) / (1.0 + s[1] * s[1]) - p.powf(1.3)
            + p.powf(0.2 * s[0])
            + (0.2 * s[2]).cosh()
            + (0.3 * s[1]).tan()
            + 0.1 * (s[0] * s[0] + s[1] * s[1] + s[2] * s[2])
            + (2.0 + t).abs()
            + (s[0] + 3.0).max(s[1] - 9.0),
    ]
}

#[test]
fn orders_of_convergence() {
    let start = [0.3, 0.4, -0.2, 0.5];
    let methods = [
        ("euler(step = H)", 1),
        ("heun(step = H)", 2),
        ("midpoint(step = H)", 2),
        ("bosh3(step = H)", 3),
        ("rk4(step = H)", 4),
        ("taylor(order = 1, step = H)", 1),
        ("taylor(order = 2, step = H)", 2),
        ("taylor(order = 5, step = H)", 5),
        ("taylor_lagrange(order = 1, midpoint = 0.4, step = H)", 2),
        ("taylor_lagrange(order = 3, midpoint = [0.1, 0.2, 0.3], step = H)", 4),
        ("hypersolver(method = euler, correction = [0.3, 0.2, 0.1], step = H)", 1),
        ("hypersolver(method = heun, correction = [0.3, 0.2, 0.1], step = H)", 2),
        ("hypersolver(method = midpoint, correction = [0.3, 0.2, 0.1], step = H)", 2),
        ("hypersolver(method = bosh3, correction = [3, 2, 1], step = H)", 3),
        ("hypersolver(method = rk4, correction = [30, 20, 10], step = H)", 4),
        // the midpoint that is right as h tends to 0: an order more
        ("taylor_lagrange(order = 2, midpoint = 0.25, step = H)", 4),
    ];
    let exact = reference(functions, 0.3, &start[1..], 0.4);
    for (method, order) in methods {
        let error = |step: f64| {
            let text = format!("{FUNCTIONS} by {}\n", method.replace('H', &step.to_string()));
            distance(&after(&text, &start, 0.4)[1..], &exact)
        };
        let (coarse, fine) = (error(0.05), error(0.025));
        let found = (coarse / fine).log2();
        assert!((found - f64::from(order)).abs() < 0.35, "{method}: order {found}, errors {coarse:.2e} {fine:.2e}");
    }
}

#[test]
fn error_control_keeps_to_its_tolerance() {
    // Lotka and Volterra
    let field = |_: f64, s: &[f64]| vec![1.5 * s[0] - s[0] * s[1], s[0] * s[1] - 3.0 * s[1]];
    let text = "state s[2]\nflow d_t(s) = [1.5*s[0] - s[0]*s[1], s[0]*s[1] - 3*s[1]]";
    let start = [4.0, 1.0];
    let exact = reference(field, 0.0, &start, 5.0);
    for (method, most) in [
        ("dopri5(rtol = 1e-9, atol = 1e-9)", 1e-6),
        ("taylor(order = 6, step = 1, tolerance = 1e-8)", 1e-5),
        ("taylor_lagrange(order = 4, midpoint = 0.1667, step = 1, tolerance = 1e-8)", 1e-5),
    ] {
        let error = distance(&after(&format!("{text} by {method}\n"), &start, 5.0), &exact);
        assert!(error < most, "{method}: {error:.2e}");
    }
    // without control, these steps are far too long
    let error = distance(&after(&format!("{text} by taylor(order = 6, step = 1)\n"), &start, 5.0), &exact);
    assert!(error > 1e-2, "{error:.2e}");
}

/// Trajectories that need short steps do not shorten those of others: together they move as each does alone.
#[test]
fn each_trajectory_has_steps_of_its_own() {
    let points = [0.1, 3.0, 2.0, -40.0, 0.5, 0.01];
    for method in ["dopri5(rtol = 1e-4, atol = 1e-4)", "taylor(order = 3, step = 1, tolerance = 1e-4)"] {
        let text = format!("state s[2]\nflow d_t(s) = [s[1], -s[0]^3 - 0.1*s[1]] by {method}\n");
        let together = after(&text, &points, 3.0);
        let alone: Vec<f64> = points.chunks(2).flat_map(|p| after(&text, p, 3.0)).collect();
        assert_eq!(together, alone, "{method}");
        let field = |_: f64, s: &[f64]| vec![s[1], -s[0].powi(3) - 0.1 * s[1]];
        for (start, end) in points.chunks(2).zip(together.chunks(2)) {
            let exact = reference(field, 0.0, start, 3.0);
            assert!(distance(end, &exact) < 0.05 * distance(&exact, &[0.0; 2]), "{method} {end:?} {exact:?}");
        }
    }
}

/// What cannot be reached in the precision at hand is not tried for ever: tolerances are never finer than rounding.
#[test]
fn tolerances_finer_than_rounding() {
    for (method, most) in [
        ("dopri5(rtol = 1e-12, atol = 1e-14)", 1000),
        ("dopri5(rtol = 1e-300, atol = 1e-300)", 1000),
        ("taylor(order = 4, step = 1, tolerance = 1e-12)", 1000),
    ] {
        let text = format!("state s[2]\nflow d_t(s) = [s[1], -s[0]] by {method}\n");
        let (program, plan) = flow(&text);
        let runner = Runner::<f32>::new(&program, plan).unwrap();
        let parameters = Parameters::initial(&program, 0);
        let mut points = [1.0, 0.0, 0.0, 2.0];
        let interval = Interval { inputs: &[], lengths: &[1.0, 1.0] };
        let done = runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (0, 0)).unwrap();
        assert_eq!(done, Ok(()), "{method}");
        let (sin, cos) = 1f64.sin_cos();
        assert!(distance(&points, &[cos, -sin, 2.0 * sin, 2.0 * cos]) < 1e-5, "{method} {points:?}");
        assert!(runner.evaluations() < most, "{method}: {} evaluations", runner.evaluations());
    }
}

/// A continuous normalising flow: the logarithm of the density moves by the divergence of the field, whose networks have rows
/// for their derivatives too. Against the divergence by differences.
#[test]
fn a_density_moves_by_the_divergence() {
    let text = |div: &str| {
        format!(
            "state s[3]\nnet F = mlp(width = 8, depth = 3, activation = tanh, outputs = 2)\n\
             let f = F(s[0], s[1])\nflow d_t(s) = [f[0], f[1], {div}] by METHOD\n"
        )
    };
    let exact = text("-d(f[0], s[0]) - d(f[1], s[1])");
    let difference = text(
        "-(F(s[0] + 1e-4, s[1])[0] - F(s[0] - 1e-4, s[1])[0] + F(s[0], s[1] + 1e-4)[1] - F(s[0], s[1] - 1e-4)[1])/2e-4",
    );
    let start = [0.3, -0.8, 0.0, 1.0, 0.2, 0.1];
    for method in
        ["rk4(step = 0.1)", "taylor(order = 4, step = 0.1)", "taylor_lagrange(order = 2, midpoint = 0.25, step = 0.1)"]
    {
        let (a, b) = (exact.replace("METHOD", method), difference.replace("METHOD", method));
        let (a, b) = (after(&a, &start, 1.0), after(&b, &start, 1.0));
        assert!(distance(&a, &b) < 1e-6, "{method}: {a:?} {b:?}");
        assert!((a[2]).abs() > 1e-3, "{a:?}");
    }
}

/// Leaving the finite numbers is said with a place: s' = s^2 from 1 ends at time 1.
#[test]
fn blow_up_is_located() {
    for (method, slack) in [("dopri5(rtol = 1e-6, atol = 1e-9)", 1e-3), ("rk4(step = 0.001)", 0.02)] {
        let (program, plan) = flow(&format!("state s\nflow d_t(s) = s^2 by {method}\n"));
        let runner = Runner::<f64>::new(&program, plan).unwrap();
        let parameters = Parameters::initial(&program, 0);
        let interval = Interval { inputs: &[], lengths: &[2.0] };
        let done = runner.advance(&Tensors::of(&parameters), &mut [1.0], interval, None, (0, 0)).unwrap();
        use jetc::solver::flow::Stopped::{NotFinite, TooSmall};
        let (NotFinite { at, point } | TooSmall { at, point }) = done.unwrap_err();
        assert_eq!(point, 0);
        assert!((2.0 * at - 1.0).abs() < slack, "{method}: {at}");
        // the trajectory that does it is named: from 0.8 it ends at 1.25, from -1 never
        let interval = Interval { inputs: &[], lengths: &[2.0; 3] };
        let mut points = [-1.0, 0.8, 0.1];
        let done = runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (0, 0)).unwrap();
        let (NotFinite { at, point } | TooSmall { at, point }) = done.unwrap_err();
        assert!(point == 1 && (2.0 * at - 1.25).abs() < slack, "{method}: {at} of {point}");
    }
}

#[test]
fn the_program_of_a_step() {
    let (_, plan) = flow(
        "state s[2]\nnet F = mlp(width = 4, depth = 2, activation = tanh, outputs = 2)\n\
         flow d_t(s) = F(s) by taylor(order = 2, step = 0.1)\n",
    );
    insta::assert_snapshot!(plan.step);
}

/// The divergence by random directions: fewer rows, and the mean of the log-density is the exact one's.
#[test]
fn a_divergence_can_be_estimated() {
    let text = |estimate: &str| {
        format!(
            "state s[7]\nnet F = mlp(width = 12, depth = 3, activation = tanh, outputs = 6)\n\
             let f = F(s[0], s[1], s[2], s[3], s[4], s[5])\nlet trace = sum(i in 0..6: d(f[i], s[i]))\n\
             flow d_t(s) = [f[0], f[1], f[2], f[3], f[4], f[5], -trace] by heun(step = 0.1)\n{estimate}\n"
        )
    };
    const COUNT: usize = 3000;
    let points = [0.3, -0.7, 0.9, 0.1, -0.2, 0.5, 0.0].repeat(COUNT);
    let density =
        |estimate: &str| -> Vec<f64> { after(&text(estimate), &points, 0.3).into_iter().skip(6).step_by(7).collect() };
    let exact = density("")[0];
    for method in ["rademacher(2)", "gaussian(2)"] {
        let estimate = format!("estimate trace by {method}");
        let rows = flow(&text(&estimate)).1.step.algebras.iter().map(|a| a.rows).max();
        assert_eq!(rows, Some(3), "the value and two directions");
        let found = density(&estimate);
        let mean = found.iter().sum::<f64>() / COUNT as f64;
        let variance = found.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (COUNT - 1) as f64;
        assert!(
            variance > 1e-6 && (mean - exact).abs() < 4.0 * (variance / COUNT as f64).sqrt(),
            "{mean}, not {exact}"
        );
    }
}

/// Hamilton's equations of a network: the right side is its derivatives, and keeps it, up to the error of the method.
#[test]
fn a_hamiltonian_keeps_its_energy() {
    let right = |energy: &str| format!("flow d_t(s) = [d({energy}, s[1]), -d({energy}, s[0])] by rk4(step = 0.01)\n");
    let pendulum = format!("state s[2]\nlet e = s[1]^2/2 - cos(s[0])\n{}", right("e"));
    let exact = reference(|_, s| vec![s[1], -s[0].sin()], 0.0, &[1.2, -0.4], 3.0);
    assert!(distance(&after(&pendulum, &[1.2, -0.4], 3.0), &exact) < 1e-8);
    let text = format!(
        "state s[2]\nnet H = mlp(width = 16, depth = 3, activation = tanh)\nlet e = 4*H(s[0], s[1])\n{}output energy = e\n",
        right("e")
    );
    let (start, end) = ([1.0, 0.5, -0.7, 0.2], after(&text, &[1.0, 0.5, -0.7, 0.2], 3.0));
    let (program, _) = flow(&text);
    let energy = jetc::plan::plan(&program, jetc::plan::Options::default()).unwrap();
    let energy = jetc::solver::Evaluator::<f64>::new(&energy.sets[0].program).unwrap();
    let of = |points: &[f64]| energy.run(&Parameters::initial(&program, 3), 2, points, &[], 0, 0).unwrap();
    assert!(distance(&start, &end) > 0.5, "{end:?}");
    assert!(distance(&of(&start), &of(&end)) < 1e-8, "{:?} {:?}", of(&start), of(&end));
}

/// What a chained step gives at its end is what the first step of a trajectory that starts there is given; draws are the same.
#[test]
fn a_chain_goes_on_where_it_came() {
    use jetc::jet::{Inputs, JetProgram, interpret};
    let (_, plan) = flow(
        "state s[2]\ntime t\nnet F = mlp(width = 7, depth = 3, activation = sin, outputs = 2)\nparam k = 0.7 learn\n\
         let f = F(s, t)\nlet trace = d(f[0], s[0]) + d(f[1], s[1])\n\
         flow d_t(s) = [f[0]*cos(t) - k*s[1], f[1] + trace*s[0]] by dopri5(rtol = 1e-6, atol = 1e-6)\nestimate trace by rademacher(1)\n",
    );
    let chain = plan.chain.expect("it is chained");
    let noise = |first: usize, count: usize| (0..count).map(|k| ((first + k) as f64 * 1.7).sin()).collect::<Vec<_>>();
    let run = |program: &JetProgram, points: Vec<f64>, given: Vec<Vec<f64>>| {
        let sizes = program.tensors.iter().map(|t| t.shape.iter().product::<usize>());
        let tensors = sizes.enumerate().map(|(k, n)| noise(100 * k, n)).collect();
        let inputs = Inputs { count: 3, points, data: vec![0.2; 3], tensors, given, seed: 5, step: 1 };
        let values = interpret(program, &inputs).unwrap_or_else(|e| panic!("{e}: {program}"));
        program.outputs.iter().map(|(_, v)| values[v.index()].clone()).collect::<Vec<_>>()
    };
    let points = noise(3, 9);
    let whole = run(&plan.step, points.clone(), vec![]);
    let start = run(&chain.start, points.clone(), vec![]);
    let step = run(&chain.step, points.clone(), start.clone());
    assert!(distance(&step[0], &whole[0]) <= 1e-13 * distance(&whole[0], &[0.0; 12]));
    let mut end = points;
    for (point, out) in end.chunks_mut(3).zip(step[0].chunks(4)) {
        (point[0], point[1], point[2]) = (out[0], out[1], point[2] + 0.2);
    }
    let next = run(&chain.start, end, vec![]);
    let ends = &step[step.len() - start.len()..];
    for ((a, b), before) in ends.iter().zip(&next).zip(&start) {
        assert!(distance(a, b) <= 1e-13 * distance(b, &vec![0.0; b.len()]).max(1.0), "{a:?} {b:?}");
        assert_eq!(a.len(), before.len());
    }
    assert!(ends.iter().zip(&start).any(|(a, b)| distance(a, b) > 1e-3));
}

/// An estimate whose directions have the state in them is taken where a stage is, not where its step began: methods agree on what the
/// flow is. The first is along one vector, and so exact.
#[test]
fn estimates_along_vectors_that_move() {
    let start = [0.5, -0.3, 0.8, 0.4, 0.9, -0.6];
    let first = "let a = sum(i in 0..3: s[i]*d(g(s), s[i]))\n";
    let second = "let a = sum(i in 0..3: (1 + s[i]^2)*d(g(s), s[i], s[i]))\n";
    for (operator, estimate) in [(first, "rademacher(1)"), (second, "rademacher(2)")] {
        let text = |method: &str, estimate: &str| {
            format!(
                "state s[3]\nnet g = mlp(width = 8, depth = 2, activation = tanh)\n{operator}\
                 flow d_t(s) = [a, s[0]*a, -s[1]] by {method}\n{estimate}"
            )
        };
        let estimate = format!("estimate a by {estimate}\n");
        let expected = after(&text("dopri5(rtol = 1e-11, atol = 1e-12)", &estimate), &start, 1.0);
        for (method, bound) in [("rk4(step = 0.01)", 1e-7), ("taylor(order = 4, step = 0.01)", 1e-7)] {
            let found = after(&text(method, &estimate), &start, 1.0);
            assert!(distance(&found, &expected) < bound, "{method}, {estimate}: {found:?} {expected:?}");
        }
        let exact = after(&text("dopri5(rtol = 1e-11, atol = 1e-12)", ""), &start, 1.0);
        let is_exact = !estimate.contains("rademacher(2)");
        assert_eq!(distance(&exact, &expected) < 1e-9, is_exact, "{estimate}: {exact:?} {expected:?}");
    }
}

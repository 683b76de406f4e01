//! Flows: steps against closed forms and orders of convergence, rollouts against a solver of somebody else, gradients against
//! differences. The systems here are not those of the examples.

use jetc::net::Parameters;
use jetc::plan::{FlowPlan, plan_flow};
use jetc::program::{Overrides, Program};
use jetc::solver::flow::{Interval, Runner, verify_flow};
use jetc::solver::{Tensors, compile};
use ode_solvers::{DVector, Rk4};

fn flow(text: &str) -> (Program, FlowPlan) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{diagnostics:#?}"));
    let plan = plan_flow(&program).unwrap_or_else(|e| panic!("{e:?}")).expect("there is a flow");
    (program, plan)
}

/// States after an interval.
fn after(text: &str, points: &[f64], length: f64) -> Vec<f64> {
    let (program, plan) = flow(text);
    let columns = plan.step.columns;
    let runner = Runner::<f64>::new(&program, plan).unwrap();
    let parameters = Parameters::initial(&program, 3);
    let mut points = points.to_vec();
    let lengths = vec![length; points.len() / columns];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let done = runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (0, 0)).unwrap();
    assert_eq!(done, Ok(()));
    points
}

/// By very many steps of Rk4 of the crate ode_solvers; its end is a little early, so that rounding adds no step.
fn reference(field: impl Fn(f64, &[f64]) -> Vec<f64>, t: f64, start: &[f64], length: f64) -> Vec<f64> {
    struct System<F>(F);
    impl<F: Fn(f64, &[f64]) -> Vec<f64>> ode_solvers::System<f64, DVector<f64>> for System<F> {
        fn system(&self, t: f64, y: &DVector<f64>, dy: &mut DVector<f64>) {
            dy.copy_from_slice(&(self.0)(t, y.as_slice()));
        }
    }
    let start = DVector::from_column_slice(start);
    const STEPS: usize = 4000;
    let end = t + length * (1.0 - 1e-7);
    let mut solver = Rk4::new(System(field), t, start, end, length / STEPS as f64);
    solver.integrate().unwrap();
    solver.y_out().last().unwrap().as_slice().to_vec()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum::<f64>().sqrt()
}

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

/// Steps of every kind through networks, against small steps and difference quotients.
#[test]
fn gradients_are_those_of_the_discrete_step() {
    let head = "time t\nstate s[2]\nparam a = 0.7 learn\nnet F = mlp(width = 6, depth = 3, activation = tanh, outputs = 2)\n\
                net G = mlp(width = 5, depth = 2, activation = softplus, outputs = NG)\n\
                flow d_t(s) = F(s[1] * s[0], s, t) * sin(a * s[0]) - [s[1]^3, a/(2 + s[0]^2)]";
    for (method, outputs) in [
        ("euler(step = 0.2)", 2),
        ("heun(step = 0.2)", 2),
        ("midpoint(step = 0.2)", 2),
        ("bosh3(step = 0.2)", 2),
        ("rk4(step = 0.2, substeps = 2)", 2),
        ("hypersolver(method = euler, correction = G, step = 0.2)", 2),
        ("hypersolver(method = midpoint, correction = G, step = 0.2)", 2),
        ("hypersolver(method = bosh3, correction = G, step = 0.2)", 2),
        ("hypersolver(method = rk4, correction = G, step = 0.2)", 2),
        ("taylor(order = 3, step = 0.2)", 2),
        ("taylor_lagrange(order = 1, midpoint = G, step = 0.2)", 3),
        ("taylor_lagrange(order = 2, midpoint = G, step = 0.2)", 5),
        ("hypersolver(method = heun, correction = G, step = 0.2)", 2),
        ("dopri5(rtol = 1e-9, atol = 1e-11)", 2),
    ] {
        let text = format!("{} by {method}\n", head.replace("NG", &outputs.to_string()));
        let (program, _) = flow(&text);
        let found = verify_flow(&program, &Parameters::initial(&program, 5), 1).unwrap().unwrap();
        assert!(found.len() >= 7, "{method}: {found:#?}");
        assert!(found.iter().all(|v| v.passed()), "{method}: {found:#?}");
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

/// A rollout by one kernel, on the CPU as a check, is the one by the CPU; and it says where numbers leave the finite ones.
#[test]
#[cfg(all(feature = "cuda", unix))]
fn a_rollout_by_a_kernel() {
    use jetc::cuda::Device;
    use jetc::solver::flow::Stopped;
    let methods = [
        "euler(step = 0.1)",
        "rk4(step = 0.1, substeps = 2)",
        "taylor(order = 3, step = 0.1)",
        "taylor_lagrange(order = 2, midpoint = G(s, t), step = 0.1)",
        "hypersolver(method = heun, correction = G(s, t), step = 0.1)",
        "dopri5(rtol = 1e-5, atol = 1e-7)",
        "taylor(order = 4, step = 0.5, tolerance = 1e-6)",
    ];
    for method in methods {
        let text = format!(
            "state s[2]\ntime t\nnet F = mlp(width = 9, depth = 3, activation = tanh, outputs = 2)\n\
             net G = mlp(width = 5, depth = 2, activation = swish, outputs = 2)\n\
             flow d_t(s) = [s[1], -sin(s[0])] + 0.1*F(s, t)*cos(t) by {method}\n"
        );
        let (program, plan) = flow(&text);
        let points: Vec<f64> = (0..3 * 67).map(|k| f64::from(k * 37 % 101) / 50.0 - 1.0).collect();
        let expected = after(&text, &points, 1.0);
        let here = Runner::<f64>::new(&program, plan.clone()).unwrap();
        let there = Runner::<f64>::on(&Device::Host, &program, plan).unwrap();
        let parameters = Parameters::initial(&program, 3);
        let interval = Interval { inputs: &[], lengths: &[1.0; 67] };
        here.advance(&Tensors::of(&parameters), &mut points.clone(), interval, None, (0, 0)).unwrap().unwrap();
        let mut found = points.clone();
        there.advance(&Tensors::of(&parameters), &mut found, interval, None, (0, 0)).unwrap().unwrap();
        assert_eq!(there.evaluations(), here.evaluations(), "{method}");
        // fewer points than there is room for
        let some = Interval { inputs: &[], lengths: &[1.0; 5] };
        let mut fewer = points[..15].to_vec();
        there.advance(&Tensors::of(&parameters), &mut fewer, some, None, (0, 0)).unwrap().unwrap();
        assert_eq!(fewer, found[..15], "{method}");
        assert!(distance(&found, &expected) < 1e-11 * distance(&expected, &[0.0; 201]), "{method}");
    }
    let (program, plan) = flow("state s\nflow d_t(s) = s^2 by euler(step = 0.5)\n");
    let runner = Runner::<f64>::on(&Device::Host, &program, plan).unwrap();
    let roll = |start: &mut [f64]| {
        let (none, lengths) = (Parameters::initial(&program, 0), vec![5.0; start.len()]);
        let interval = Interval { inputs: &[], lengths: &lengths };
        runner.advance(&Tensors::of(&none), start, interval, None, (0, 0)).unwrap()
    };
    assert_eq!(roll(&mut [-0.5, 0.1]), Ok(()));
    // 10^20 squares to 5 10^39, 1.25 10^79, 7.8 10^157, infinity: after the fourth of ten steps
    assert_eq!(roll(&mut [-0.5, 1e20, 0.1]), Err(Stopped::NotFinite { at: 0.4, point: 1 }));
    // time is not summed up in f32
    let (program, plan) =
        flow("state s\ntime t\nflow d_t(s) = -50*(s - cos(t)) by dopri5(rtol = 1e-9, atol = 1e-12)\n");
    let runner = Runner::<f32>::on(&Device::Host, &program, plan.clone()).unwrap();
    let mut point: Vec<f64> = vec![0.0; 2];
    point[plan.state.0] = 0.3;
    let interval = Interval { inputs: &[], lengths: &[2.0] };
    let none = Parameters::initial(&program, 0);
    runner.advance(&Tensors::of(&none), &mut point, interval, None, (0, 0)).unwrap().unwrap();
    assert_eq!(point[plan.time.unwrap()], 2.0);
    // 1 / (1 - t) has no value at 1, and steps get ever smaller before
    let (program, plan) = flow("state s\nflow d_t(s) = s^2 by dopri5(rtol = 1e-6, atol = 1e-6)\n");
    let runner = Runner::<f64>::on(&Device::Host, &program, plan).unwrap();
    let (none, interval) = (Parameters::initial(&program, 0), Interval { inputs: &[], lengths: &[1.5; 3] });
    match runner.advance(&Tensors::of(&none), &mut [-1.0, 1.0, 0.5], interval, None, (0, 0)).unwrap() {
        Err(Stopped::TooSmall { at, point: 1 } | Stopped::NotFinite { at, point: 1 }) => {
            assert!((1.5 * at - 1.0).abs() < 1e-5, "{at}");
        }
        other => panic!("{other:?}"),
    }
}

/// A window of the data as one program is the same loss and the same gradient as steps taken one by one.
#[test]
fn windows_are_steps() {
    use jetc::net::Parameters;
    use jetc::solver::flow::FlowObjective;
    use jetc::train::Objective;
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..30)
        .map(|k| {
            format!("{},{},{},{},{}\n", k % 10, (k as f64).cos(), (k as f64 * 0.7).sin(), k / 10, 0.1 * (k % 7) as f64)
        })
        .collect();
    std::fs::write(folder.path().join("runs.csv"), format!("t,s0,s1,run,push\n{rows}")).unwrap();
    for method in
        ["rk4(step = 0.5)", "taylor_lagrange(order = 2, midpoint = G(s), step = 1)", "taylor(order = 2, step = 1)"]
    {
        let text = |loss: &str| {
            format!(
                "state s[2]\ntime t\nparam k = 0.7 learn\nnet F = mlp(width = 7, depth = 2, activation = tanh, outputs = 2)\n\
                 net G = mlp(width = 5, depth = 2, activation = tanh, outputs = 2)\n\
                 net L = mlp(width = 4, depth = 2, activation = sin)\ndata runs = \"runs.csv\"\n\
                 flow d_t(s) = 0.2*F(s, runs.push) - k*s*cos(t) by {method}\n\
                 fit flow to runs, horizon = 3, remainder_weight = 0.3{loss}\ntrain adam(lr = 1e-2), steps = 3, batch = 11\n"
            )
        };
        // the second loss is the mean square again
        let losses = [
            "",
            ", loss = 0.5*((s[0] - runs.s0)^2 + (s[1] - runs.s1)^2)",
            ", loss = (L(s) - runs.push)^2 + d(L(s), s[1])*t",
        ];
        let found = losses.map(|loss| {
            let (program, plan) = flow(&text(loss));
            let parameters = Parameters::<f64>::initial(&program, 1);
            let make = || FlowObjective::new(&program, plan.clone(), &parameters, folder.path(), Some(11), 5).unwrap();
            assert!(make().condition().is_some(), "{method}");
            let found = [make(), make().step_by_step()].map(|mut objective| {
                let tensors: Vec<Vec<f64>> = parameters.values().to_vec();
                let mut gradients = vec![vec![]; tensors.len()];
                let mut losses = vec![0.0; objective.conditions().len()];
                objective.step(2, &tensors, &mut gradients, &mut losses).unwrap();
                [losses, gradients.concat()].concat()
            });
            let scale = distance(&found[1], &vec![0.0; found[1].len()]);
            assert!(scale > 0.1 && distance(&found[0], &found[1]) < 1e-12 * scale, "{method} {loss} {found:?}");
            found[0].clone()
        });
        assert!(distance(&found[0], &found[1]) < 1e-12 && distance(&found[0], &found[2]) > 0.1);
    }
}

/// The error estimate of dopri5 in the loss. Tolerances are wide, so that each interval is one step, whose length parameters do not change.
#[test]
fn the_estimate_of_adaptive_steps_can_be_weighed() {
    use jetc::solver::flow::FlowObjective;
    use jetc::train::Objective;
    let folder = tempfile::tempdir().unwrap();
    let rows: String = (0..12).map(|k| format!("{},{},{}\n", k % 4, (k as f64).cos(), k / 4)).collect();
    std::fs::write(folder.path().join("runs.csv"), format!("t,s,run\n{rows}")).unwrap();
    let (program, plan) = flow(
        "state s\ntime t\nparam k = 1.7 learn\nnet F = mlp(width = 5, depth = 2, activation = tanh)\ndata runs = \"runs.csv\"\n\
         flow d_t(s) = F(s, t) - k*s*cos(3*t) by dopri5(rtol = 10, atol = 10)\n\
         fit flow to runs, horizon = 2, remainder_weight = 0.5\ntrain adam(lr = 1e-2), steps = 3, batch = 5\n",
    );
    let parameters = Parameters::<f64>::initial(&program, 1);
    let mut objective = FlowObjective::new(&program, plan, &parameters, folder.path(), Some(5), 5).unwrap();
    assert_eq!(objective.conditions(), ["data", "remainder"]);
    let mut losses = |tensors: &[Vec<f64>], gradients: &mut [Vec<f64>]| {
        let mut losses = vec![0.0; 2];
        objective.step(0, tensors, gradients, &mut losses).unwrap();
        losses
    };
    let tensors = parameters.values().to_vec();
    let mut gradients = vec![vec![]; tensors.len()];
    let found = losses(&tensors, &mut gradients);
    assert!(found.iter().all(|loss| *loss > 1e-4), "{found:?}");
    let mut scrap = gradients.clone();
    for (k, gradient) in gradients.iter().enumerate() {
        let mut shifted = |h: f64| {
            let mut tensors = tensors.clone();
            tensors[k][0] += h;
            losses(&tensors, &mut scrap)
        };
        let (above, below) = (shifted(1e-5), shifted(-1e-5));
        let quotients = [(above[0] - below[0]) / 2e-5, (above[1] - below[1]) / 2e-5];
        assert!((gradient[0] - quotients[0] - quotients[1]).abs() < 1e-8, "{k}: {} {quotients:?}", gradient[0]);
        assert!(quotients[1].abs() > 1e-5, "{k}: {quotients:?}");
    }
}

/// Classification by a neural ODE: the digits in scikit-learn's wheel, one fifth of them left out of training. Chance is 0.1.
#[test]
fn digits_are_recognised() {
    use jetc::plan::{Options as PlanOptions, plan};
    use jetc::solver::{Evaluator, flow::FlowObjective};
    use jetc::train::{Options, Silent, train};
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("digits");
    if !folder.join("digits_test.csv").exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let script = std::process::Command::new("python3").arg("examples/flows/digits.py").arg(&folder).status();
        assert!(script.unwrap().success(), "the digits need python3 with pip, and the internet, once");
    }
    let text = std::fs::read_to_string("examples/flows/digits.jet").unwrap() + "\noutput class = z\n";
    let (program, flow_plan) = flow(&text);
    let mut parameters = Parameters::<f32>::initial(&program, 0);
    let mut objective = FlowObjective::new(
        &program,
        flow_plan.clone(),
        &parameters,
        &folder,
        program.training.as_ref().unwrap().batch,
        0,
    )
    .unwrap();
    let out = tempfile::tempdir().unwrap();
    let mut options = Options::new(program.training.clone().unwrap(), out.path());
    options.training.steps = 150;
    train(&mut objective, &mut parameters, &options, &mut Silent).unwrap();
    let rows = std::fs::read_to_string(folder.join("digits_test.csv")).unwrap();
    let rows: Vec<Vec<f64>> =
        rows.lines().skip(1).step_by(2).map(|l| l.split(',').map(|x| x.parse().unwrap()).collect()).collect();
    let mut points: Vec<f64> = rows.iter().flat_map(|r| r[1..65].to_vec()).collect();
    let lengths = vec![1.0; rows.len()];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let runner = Runner::<f32>::new(&program, flow_plan).unwrap();
    runner.advance(&Tensors::of(&parameters), &mut points, interval, None, (0, 0)).unwrap().unwrap();
    let readout = plan(&program, PlanOptions::default()).unwrap();
    let readout = Evaluator::<f32>::new(&readout.sets[0].program).unwrap();
    let points: Vec<f32> = points.iter().map(|x| *x as f32).collect();
    let values = readout.run(&parameters, rows.len(), &points, &[], 0, 0).unwrap();
    let right = values.chunks(10).zip(&rows).filter(|(values, row)| {
        let best = (0..10).max_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap();
        row[66 + best] == 1.0
    });
    let part = right.count() as f64 / rows.len() as f64;
    assert!(part > 0.9, "{part} of {} images", rows.len());
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

/// A normalising flow in 43 dimensions with its divergence estimated: `examples/flows/miniboone.jet` on points that are made up.
/// A model that learns nothing, the standard normal distribution, has a negative log-likelihood of 43/2 (1 + log 2 pi) = 61.01.
#[test]
fn a_density_in_43_dimensions_is_learned() {
    use jetc::solver::flow::FlowObjective;
    use jetc::train::{Options, Silent, train};
    let folder = tempfile::tempdir().unwrap();
    let script = std::process::Command::new("python3").arg("examples/flows/miniboone.py").arg(folder.path()).status();
    assert!(script.unwrap().success());
    let (program, plan) = flow(&std::fs::read_to_string("examples/flows/miniboone.jet").unwrap());
    let mut parameters = Parameters::<f32>::initial(&program, 0);
    let training = program.training.clone().unwrap();
    let objective = FlowObjective::new(&program, plan, &parameters, folder.path(), training.batch, 0);
    let mut options = Options::new(training, folder.path());
    (options.training.steps, options.record_every, options.training.rate) = (200, Some(1), 1e-2);
    let outcome = train(&mut objective.unwrap(), &mut parameters, &options, &mut Silent).unwrap();
    let losses = outcome.history.column("loss").unwrap();
    let last = losses[180..].iter().sum::<f64>() / 20.0;
    assert!(losses[0] > 61.0 && last < 60.6, "{} to {last}", losses[0]);
}

#[test]
fn derivatives_that_a_network_does_not_have_are_refused_where_they_are_taken() {
    let text = |method: &str| {
        format!("state s\nnet F = mlp(width = 8, depth = 2, activation = relu)\nflow d_t(s) = F(s) by {method}\n")
    };
    let (program, _) = compile(&text("taylor(order = 3, step = 0.1)"), &Overrides::default());
    let error = plan_flow(&program.expect("it resolves")).expect_err("relu has no second derivative");
    assert!(error.message.contains("`relu` has no derivative of order 2"), "{error:?}");
    for method in ["rk4(step = 0.1)", "taylor(order = 2, step = 0.1)"] {
        let (program, _) = compile(&text(method), &Overrides::default());
        let program = program.expect("it resolves");
        plan_flow(&program).expect("no second derivative is taken");
        // its gradient is that between the corners, which differences cross
        let found = verify_flow(&program, &Parameters::initial(&program, 1), 2).unwrap().unwrap();
        let gradient =
            |layer| found.iter().find(|v| v.what == format!("gradient of F.{layer}.weight against differences"));
        let error = |layer| gradient(layer).unwrap().relative;
        assert!(error(1) < 1e-6 && error(0) < 0.03, "{found:?}");
    }
}

/// A device takes the rollouts and the training steps of a flow as the CPU does.
#[test]
#[cfg(all(feature = "cuda", unix))]
fn a_device_agrees_with_the_cpu() {
    use jetc::cuda::Device;
    use jetc::solver::{Compared, Planned, agreement};
    let folder = tempfile::tempdir().unwrap();
    let row =
        |k: u32| format!("{},{},{},{}\n", 0.1 * f64::from(k % 10), f64::from(k).cos(), f64::from(k).sin(), k / 10);
    std::fs::write(folder.path().join("runs.csv"), format!("t,s0,s1,run\n{}", (0..30).map(row).collect::<String>()))
        .unwrap();
    for method in ["rk4(step = 0.1)", "dopri5(rtol = 1e-4, atol = 1e-4)"] {
        let (program, plan) = flow(&format!(
            "state s[2]\nnet F = mlp(width = 7, depth = 2, activation = tanh, outputs = 2)\ndata runs = \"runs.csv\"\n\
             flow d_t(s) = F(s) by {method}\nfit flow to runs, horizon = 2\ntrain adam(lr = 1e-2), steps = 3, batch = 5\n"
        ));
        let parameters = Parameters::<f64>::initial(&program, 1);
        let (device, folder) = (&Device::Host, folder.path());
        let on = Compared { device, program: &program, parameters: &parameters, folder, seed: 4 };
        let found = agreement(&on, Planned::Flow(&plan)).unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
        assert!(found.iter().all(|v| v.passed()), "{found:?}");
    }
}

/// What no single module trains, programs on a device train in turn: steps of lengths of their own, windows of many steps, midpoints that are
/// fitted to an accurate solver; with inputs, losses of one's own and weights of the estimates.
#[test]
#[cfg(all(feature = "cuda", unix))]
fn steps_of_training_are_the_same_on_a_device() {
    use jetc::cuda::Device;
    use jetc::net::Parameters;
    use jetc::solver::flow::FlowObjective;
    use jetc::train::Objective;
    let folder = tempfile::tempdir().unwrap();
    let row = |k: u32| {
        let x = f64::from(k);
        format!("{},{},{},{},{}\n", 0.1 * f64::from(k % 10), x.cos(), x.sin(), k / 10, 0.3 * f64::from(k % 7))
    };
    let rows: String = (0..60).map(row).collect();
    std::fs::write(folder.path().join("runs.csv"), format!("t,s0,s1,run,push\n{rows}")).unwrap();
    let own = "loss = (L(s) - runs.push)^2 + d(L(s), s[1])*t, remainder_weight = 0.3";
    for (method, fit) in [
        ("dopri5(rtol = 1e-3, atol = 1e-3)", "horizon = 3"),
        ("dopri5(rtol = 1e-4, atol = 1e-5)", own),
        ("rk4(step = 0.005)", "horizon = 3"),
        ("taylor(order = 2, step = 0.001)", own),
        (
            "taylor_lagrange(order = 2, midpoint = G(s), step = 0.1)",
            "horizon = 2, midpoint_every = 2, remainder_weight = 0.3",
        ),
        ("taylor_lagrange(order = 1, midpoint = G(s), step = 0.004)", "horizon = 2, midpoint_every = 2"),
    ] {
        let (program, plan) = flow(&format!(
            "state s[2]\ntime t\nparam k = 0.7 learn\nnet F = mlp(width = 7, depth = 2, activation = tanh, outputs = 2)\n\
             net G = mlp(width = 5, depth = 2, activation = tanh, outputs = 2)\nnet L = mlp(width = 4, depth = 2, activation = sin)\n\
             data runs = \"runs.csv\"\nflow d_t(s) = 2*F(s, runs.push) - k*s*cos(t) by {method}\n\
             fit flow to runs, {fit}\ntrain adam(lr = 1e-2), steps = 3, batch = 37\n"
        ));
        let parameters = Parameters::<f64>::initial(&program, 1);
        let make = || FlowObjective::new(&program, plan.clone(), &parameters, folder.path(), Some(37), 5).unwrap();
        assert!(make().condition().is_none(), "{method}");
        let [here, there] = [make(), make().on(&Device::Host).unwrap()].map(|mut objective| {
            let tensors: Vec<Vec<f64>> = parameters.values().to_vec();
            let mut gradients = vec![vec![]; tensors.len()];
            let mut losses = vec![0.0; objective.conditions().len()];
            objective.step(2, &tensors, &mut gradients, &mut losses).unwrap();
            (losses, gradients.concat(), objective.runner().evaluations(), objective.arithmetic())
        });
        assert!(
            here.0[0] > 1e-3 && distance(&here.0, &there.0) < 1e-12 * here.0[0],
            "{method} {fit}: {here:?} {there:?}"
        );
        let scale = distance(&here.1, &vec![0.0; here.1.len()]);
        assert!(
            scale > 1e-3 && distance(&here.1, &there.1) < 1e-11 * scale,
            "{method} {fit}: {scale} {here:?} {there:?}"
        );
        assert_eq!((here.3, there.3.as_deref()), (None, Some("f64 by CUDA kernels")));
        if !method.starts_with("dopri5") {
            assert_eq!(here.2, there.2, "{method}");
        }
    }
}

/// What a step keeps for its way back is what the vector-Jacobian product works out again: by the oracle, the products are the same.
/// Without a derivative and with one, with draws, with a value that is not its activation's slope.
#[test]
fn what_is_kept_is_what_is_worked_out_again() {
    use jetc::jet::{Inputs, JetProgram, Op, Type, interpret, summed};
    let nets = |activation: &str| {
        format!(
            "state s[3]\nnet F = mlp(width = 5, depth = 3, activation = {activation}, outputs = 2)\n\
             net G = mlp(width = 4, depth = 2, activation = tanh, outputs = 3)\nparam k = 0.7 learn\nlet f = F(s[0], s[1])\n"
        )
    };
    let plain = "flow d_t(s) = [f[0], f[1] - k*s[2]^2, k*f[0]*s[2]]";
    let divergence = "let trace = d(f[0], s[0]) + d(f[1], s[1])\nflow d_t(s) = [f[0], f[1], -k*trace*s[2]]";
    let programs = [
        format!("{}{plain} by dopri5(rtol = 1e-6, atol = 1e-6)\n", nets("tanh")),
        format!("{}{plain} by rk4(step = 0.1)\n", nets("sin")),
        format!("{}{plain} by taylor_lagrange(order = 2, midpoint = G(s), step = 0.1)\n", nets("tanh")),
        format!("{}{plain} by taylor(order = 3, step = 0.1)\n", nets("softplus")),
        format!("{}{divergence} by dopri5(rtol = 1e-6, atol = 1e-6)\n", nets("tanh")),
        format!("{}{divergence} by heun(step = 0.1)\nestimate trace by rademacher(1)\n", nets("tanh")),
    ];
    let noise =
        |first: usize, count: usize| -> Vec<f64> { (0..count).map(|k| ((first + k) as f64 * 1.7).sin()).collect() };
    for text in programs {
        let plan = flow(&text).1;
        let kept = plan.kept.unwrap_or_else(|| panic!("nothing is kept of {text}"));
        let run = |program: &JetProgram, given: Vec<Vec<f64>>| {
            let sizes = program.tensors.iter().map(|t| t.shape.iter().product::<usize>());
            let tensors = sizes.enumerate().map(|(k, n)| noise(100 * k, n)).collect();
            let (points, data) = (noise(7, 4 * program.columns), noise(50, 4 * program.data_columns));
            let inputs = Inputs { count: 4, points, data, tensors, given, seed: 5, step: 1 };
            interpret(program, &inputs).unwrap_or_else(|e| panic!("{e}: {program}"))
        };
        // the way forward reads the step's data, which the cotangents follow
        let own = plan.step.data_columns;
        let mut forward = kept.forward.clone();
        forward.data_columns = kept.backward.data_columns;
        let rows = forward.data_columns;
        forward.ops.iter().for_each(|op| assert!(!matches!(op, Op::Given { .. })));
        let values = run(&forward, vec![]);
        let given: Vec<Vec<f64>> = forward.outputs[1..].iter().map(|(_, v)| values[v.index()].clone()).collect();
        assert!(given.len() > 2 && rows > own);
        let (backward, whole) = (summed(kept.backward), summed(plan.step_adjoint));
        let makes =
            |op: &Op| matches!(op, Op::Linear { .. } | Op::LinearPart { .. } | Op::Term { .. } | Op::Activate { .. });
        assert!(whole.ops.iter().any(makes) && !backward.ops.iter().any(makes), "{backward}");
        let (found, expected) = (run(&backward, given), run(&whole, vec![]));
        let results = |program: &JetProgram, values: &[Vec<f64>]| -> Vec<(String, Vec<f64>)> {
            let bar = program.outputs.iter().filter(|o| o.0 == "points-bar").map(|(name, v)| (name.clone(), *v));
            let gradients = program.gradients.iter().map(|(t, v)| (program.tensors[t.index()].name.clone(), *v));
            bar.chain(gradients).map(|(name, v)| (name, values[v.index()].clone())).collect()
        };
        let (found, expected) = (results(&backward, &found), results(&whole, &expected));
        assert_eq!(found.len(), expected.len());
        for ((name, a), (other, b)) in found.iter().zip(&expected) {
            assert_eq!(name, other);
            assert!(
                distance(a, b) <= 1e-12 * distance(b, &vec![0.0; b.len()]).max(1e-9),
                "{name} of {text}: {a:?}, not {b:?}"
            );
        }
        let per_point = |ty: &Type| matches!(ty, Type::PerPoint { .. });
        assert!(forward.outputs.iter().all(|o| per_point(&forward.types().unwrap()[o.1.index()])));
    }
}

/// Each trajectory has steps and draws of its own: those of the way back are those of the way there.
#[test]
fn gradients_of_adaptive_steps_with_draws() {
    let (program, _) = flow(
        "state s[5]\nnet F = mlp(width = 9, depth = 3, activation = tanh, outputs = 4)\n\
         let f = F(s[0], s[1], s[2], s[3])\nlet trace = sum(i in 0..4: d(f[i], s[i]))\n\
         flow d_t(s) = [40*f[0], 20*f[1], 40*f[2], 20*f[3], -10*s[4]*trace*s[0]] by dopri5(rtol = 1e-10, atol = 1e-10)\n\
         estimate trace by rademacher(1)\n",
    );
    let parameters = Parameters::initial(&program, 3);
    let found = verify_flow(&program, &parameters, 3).unwrap().unwrap();
    assert_eq!(found.len(), 6);
    for comparison in found {
        assert!(comparison.relative < 1e-7, "{} {}", comparison.what, comparison.relative);
    }
}

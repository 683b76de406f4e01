//! What a device does is what the CPU does.

use super::*;

/// A rollout by one kernel, on the CPU as a check, is the one by the CPU; and it says where numbers leave the finite ones.
#[test]
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
        if !method.starts_with("dopri5") {
            assert_eq!(there.evaluations(), here.evaluations(), "{method}");
        }
        // of one trajectory; here the last of seven slopes is the first of the next step
        let alone = Interval { inputs: &[], lengths: &[1.0] };
        let count = |runner: &Runner<f64>| {
            let before = runner.evaluations();
            runner.advance(&Tensors::of(&parameters), &mut points[..3].to_vec(), alone, None, (0, 0)).unwrap().unwrap();
            runner.evaluations() - before
        };
        let (of_device, of_cpu) = (count(&there), count(&here));
        let steps_of_seven = if method.starts_with("dopri5") { of_device / 7 - 1 } else { 0 };
        assert_eq!(of_cpu + steps_of_seven, of_device, "{method}");
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

/// A device takes the rollouts and the training steps of a flow as the CPU does.
#[test]
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
        let [here, there] = [Device::Cpu { why: None }, Device::Host].map(|device| {
            let mut objective = make();
            objective.place(&device).unwrap();
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

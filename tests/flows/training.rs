//! Gradients through steps, against differences, and what is learned by them.

use super::*;

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

/// A cubic decay in a hundred dimensions is several times faster along the state than elsewhere: its order shows with shorter steps.
#[test]
fn an_order_shows_with_short_steps() {
    let (program, _) = flow("state s[100]\nflow d_t(s) = -0.3*dot(s, s)*s by rk4(step = 0.05)\n");
    let found = verify_flow(&program, &Parameters::initial(&program, 5), 1).unwrap().unwrap();
    assert!(found.iter().all(|v| v.passed()), "{found:#?}");
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

/// What a step keeps for its way back is what the vector-Jacobian product works out again: by the oracle, the products are the same.
/// Without a derivative and with one, with draws, with a value that is not its activation's slope.
#[test]
fn what_is_kept_is_what_is_worked_out_again() {
    use jetc::jet::{Forward, Inputs, JetProgram, Op, Part, Type, interpret, summed};
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
        let rows = kept.backward.data_columns;
        let there = |program: &JetProgram, given: Vec<Vec<f64>>| {
            let program = JetProgram { data_columns: rows, ..program.clone() };
            let types = program.types().unwrap();
            assert!(program.outputs.iter().all(|o| matches!(types[o.1.index()], Type::PerPoint { .. })), "{program}");
            let values = run(&program, given);
            program.outputs.iter().map(|(_, v)| values[v.index()].clone()).collect::<Vec<_>>()
        };
        let given: Vec<Vec<f64>> = match &kept.forward {
            Forward::Alone(forward) => {
                assert!(forward.ops.iter().all(|op| !matches!(op, Op::Given { .. })));
                there(forward, vec![])[1..].to_vec()
            }
            Forward::Chained(chain) => {
                let start = there(&chain.start, vec![]);
                let own = there(&chain.step, start.clone());
                let of = |part: &Part| match part {
                    Part::Given(k) => start[*k].clone(),
                    Part::Own(k) => own[*k].clone(),
                };
                // the states and estimates, and at the end what would be worked out there
                let alone = there(&plan.step, vec![]);
                assert!(distance(&own[0], &alone[0]) <= 1e-12 * distance(&alone[0], &[0.0; 24]), "{text}");
                chain.outputs.iter().map(of).collect()
            }
        };
        assert!(given.len() > 2 && rows > plan.step.data_columns);
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

/// A network of parameters alone is the same in all stages of a step: it is worked out once, and given to the way back once.
#[test]
fn gradients_of_what_does_not_move() {
    use jetc::jet::Op;
    let text = "state s[2]\nnet F = mlp(width = 7, depth = 2, activation = tanh, outputs = 2)\n\
                net G = mlp(width = 5, depth = 2, activation = tanh, outputs = 2)\nparam k = 0.7 learn\n\
                flow d_t(s) = F(s) + G(k, k^2) by dopri5(rtol = 1e-9, atol = 1e-9)\n";
    let (program, plan) = flow(text);
    let backward = plan.kept.expect("it is kept").backward;
    let given = backward.ops.iter().filter(|op| matches!(op, Op::Given { features: 5, .. })).count();
    assert_eq!(given, 1, "{backward}");
    let tensor = |t: jetc::jet::TensorId| plan.step.tensors[t.index()].name.as_str();
    let applied = |op: &&Op| matches!(op, Op::Linear { weight, .. } if tensor(*weight) == "G.0.weight");
    assert_eq!(plan.step.ops.iter().filter(applied).count(), 1, "{}", plan.step);
    let found = verify_flow(&program, &Parameters::initial(&program, 3), 3).unwrap().unwrap();
    assert!(found.len() > 6);
    for comparison in found {
        assert!(comparison.relative < 1e-7, "{} {}", comparison.what, comparison.relative);
    }
}

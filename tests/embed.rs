//! The library's surface: values, gradients, layouts, threads, training, and what is said about wrong arguments.

use jetc::ndarray::{Array2, ArrayView2, Axis, ShapeBuilder, array, s};
use jetc::train::{Flow, Observer, Progress};
use jetc::{Compiled, Compiler, Device, Error, FlowMap, Of, Operator, Parameters, Place, Solver, TrainOptions};

const TEXT: &str = "space x, y in box(0..1, 0..1)\n\
                    param nu = 0.5 learn\n\
                    coef c[2] ~ normal(seed = 3)\n\
                    net N = mlp(width = 8, depth = 3, activation = tanh)\n\
                    field u = x*(1 - x)*N(x, y)\n\
                    output r = nu*lap(u) + c[0]*d_xy(u)\noutput g = grad(u)\n";

fn points(n: usize) -> Array2<f64> {
    Array2::from_shape_fn((n, 2), |(p, c)| ((7 * p + 3 * c) % 11) as f64 / 11.0 + 0.01)
}

#[test]
fn everything_is_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Solver<f32>>();
    check::<Solver<f64>>();
    check::<Operator<f32>>();
    check::<Parameters<f64>>();
    check::<Compiled>();
    check::<Compiler>();
    check::<FlowMap<f32>>();
    check::<Error>();
}

/// u = x^2 y has lap 2y, gradient (2xy, x^2); nothing is learned.
#[test]
fn closed_forms_in_both_precisions() {
    let compiled = Compiled::from_text("space x, y\nlet u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n").unwrap();
    let operator = compiled.outputs::<f64>().unwrap();
    let names: Vec<_> = operator.quantities().iter().map(|q| (q.name.as_str(), q.shape.clone())).collect();
    assert_eq!(names, [("r", vec![]), ("g", vec![2])]);
    let p = array![[2.0, 3.0], [-1.0, 0.5]];
    let weights = compiled.parameters(0);
    assert_eq!(operator.eval(&weights, p.view()).unwrap(), array![[6.0, 12.0, 4.0], [1.0, -1.0, 1.0]]);
    let single = compiled.outputs::<f32>().unwrap().eval(&compiled.parameters(0), p.mapv(|x| x as f32).view()).unwrap();
    assert_eq!(single, array![[6.0, 12.0, 4.0], [1.0, -1.0, 1.0]]);
    // the cotangent (1, 10, 100): d/dx = 10*2y + 100*2x, d/dy = 2 + 10*2x
    let gradient = operator.vjp(&weights, p.view(), array![[1.0, 10.0, 100.0], [1.0, 10.0, 100.0]].view()).unwrap();
    assert_eq!(gradient.points, array![[460.0, 42.0], [-190.0, -18.0]]);
    assert!(gradient.parameters.specs().is_empty());
}

fn two() -> (Compiled, Operator<f64>, Parameters<f64>) {
    let compiled = Compiled::from_text(TEXT).unwrap();
    let operator = compiled.outputs().unwrap();
    let parameters = compiled.parameters(1);
    (compiled, operator, parameters)
}

#[test]
fn gradients_are_limits_of_difference_quotients() {
    let (_, operator, parameters) = two();
    let p = points(5);
    let cotangent = Array2::from_shape_fn((5, 3), |(k, c)| (k as f64 - 1.7) * (c as f64 + 0.3));
    let loss = |w: &Parameters<f64>, p: ArrayView2<'_, f64>| (operator.eval(w, p).unwrap() * &cotangent).sum();
    let gradient = operator.vjp(&parameters, p.view(), cotangent.view()).unwrap();
    assert_eq!(gradient.values, operator.eval(&parameters, p.view()).unwrap());
    let h = 1e-5;
    let close = |ours: f64, high: f64, low: f64, what: &str| {
        let theirs = (high - low) / (2.0 * h);
        assert!((ours - theirs).abs() <= 1e-6 * (1.0 + theirs.abs()), "{what}: {ours} and {theirs}");
    };
    for k in 0..5 {
        for c in 0..2 {
            let (mut high, mut low) = (p.clone(), p.clone());
            (high[[k, c]], low[[k, c]]) = (p[[k, c]] + h, p[[k, c]] - h);
            let (high, low) = (loss(&parameters, high.view()), loss(&parameters, low.view()));
            close(gradient.points[[k, c]], high, low, "a point");
        }
    }
    let mut seen = Vec::new();
    for (spec, values) in gradient.parameters.specs().iter().zip(gradient.parameters.values()) {
        seen.push(spec.name.as_str());
        for (i, ours) in values.iter().enumerate().step_by(3) {
            let (mut high, mut low) = (parameters.clone(), parameters.clone());
            let at = parameters.position(&spec.name).unwrap();
            high.values_mut()[at][i] += h;
            low.values_mut()[at][i] -= h;
            close(*ours, loss(&high, p.view()), loss(&low, p.view()), &spec.name);
        }
    }
    assert!(seen.contains(&"nu") && seen.contains(&"N.2.weight") && !seen.contains(&"c"));
}

#[test]
fn any_layout_gives_the_same_numbers() {
    let (_, operator, parameters) = two();
    let p = points(9);
    let expected = operator.eval(&parameters, p.view()).unwrap();
    let mut columns = Array2::zeros((9, 2).f());
    columns.assign(&p);
    assert_eq!(operator.eval(&parameters, columns.view()).unwrap(), expected);
    let mut spread = Array2::zeros((18, 4));
    spread.slice_mut(s![..;2, 1..;2]).assign(&p);
    assert_eq!(operator.eval(&parameters, spread.slice(s![..;2, 1..;2])).unwrap(), expected);
    let back = operator.eval(&parameters, p.slice(s![..;-1, ..])).unwrap();
    assert_eq!(back.slice(s![..;-1, ..]), expected);
    assert_eq!(operator.eval(&parameters, p.slice(s![..0, ..])).unwrap().dim(), (0, 3));
    // the memory of the result is used again
    let mut out = operator.eval(&parameters, p.view()).unwrap();
    let before = out.as_ptr();
    operator.eval_into(&parameters, p.view(), &mut out).unwrap();
    assert_eq!((out.as_ptr(), &out), (before, &expected));
}

#[test]
fn eight_threads_get_the_same_bits() {
    let (compiled, _, parameters) = two();
    let solver = compiled.solver(parameters).unwrap();
    let p = points(200);
    let expected = solver.eval(p.view()).unwrap();
    let cotangent = Array2::ones(expected.dim());
    let gradient = solver.vjp(p.view(), cotangent.view()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(solver.eval(p.view()).unwrap(), expected);
                    assert_eq!(solver.vjp(p.view(), cotangent.view()).unwrap(), gradient);
                }
            });
        }
    });
}

#[test]
fn wide_weights_keep_their_shape() {
    let text = "space x[60]\nnet N = mlp(width = 5, depth = 2, activation = tanh)\noutput r = sum(i in 0..60: d(N(x), x[i]))\n";
    let compiled = Compiled::from_text(text).unwrap();
    let mut parameters = compiled.parameters::<f64>(0);
    assert_eq!(parameters.view("N.0.weight").unwrap().shape(), [5, 60]);
    // N = w1 . tanh(W0 x): at x = 0 the sum of derivatives is sum_o w1[o] sum_i W0[o, i]
    let sum = |p: &Parameters<f64>| {
        let (w0, w1) = (p.view("N.0.weight").unwrap(), p.view("N.1.weight").unwrap());
        (0..5).map(|o| w1[[0, o]] * w0.index_axis(Axis(0), o).sum()).sum::<f64>()
    };
    let operator = compiled.outputs::<f64>().unwrap();
    let origin = Array2::zeros((1, 60));
    parameters.view_mut("N.0.weight").unwrap()[[3, 59]] = 7.0;
    let value = operator.eval(&parameters, origin.view()).unwrap()[[0, 0]];
    assert!((value - sum(&parameters)).abs() < 1e-12, "{value} and {}", sum(&parameters));
    // its gradient with respect to W0[o, i] is w1[o]
    let gradient = operator.vjp(&parameters, origin.view(), array![[1.0]].view()).unwrap().parameters;
    let (g, w1) = (gradient.view("N.0.weight").unwrap(), parameters.view("N.1.weight").unwrap());
    for o in 0..5 {
        assert!((0..60).all(|i| (g[[o, i]] - w1[[0, o]]).abs() < 1e-12));
    }
}

#[test]
fn estimators_draw_what_the_caller_says() {
    let text = "space x[30]\nnet N = mlp(width = 5, depth = 2, activation = tanh)\noutput r = lap(N(x))\n";
    let compiled = Compiler::new().estimate("r", "sparse(4)").text(text).unwrap();
    let (operator, parameters) = (compiled.outputs::<f64>().unwrap(), compiled.parameters(0));
    let p = Array2::from_elem((1, 30), 0.3);
    let at = |seed, step| operator.with_draw(seed, step).eval(&parameters, p.view()).unwrap()[[0, 0]];
    assert_eq!(at(1, 2), at(1, 2));
    assert_ne!(at(1, 2), at(1, 3));
    assert_ne!(at(1, 2), at(2, 2));
}

#[test]
fn a_solver_knows_its_domain() {
    let (compiled, _, parameters) = two();
    let solver = compiled.solver(parameters).unwrap();
    let p = array![[0.5, 0.5], [1.5, 0.5], [0.5, f64::NAN]];
    assert!(matches!(solver.eval(p.view()), Err(Error::Outside { point: 1, .. })));
    assert!(matches!(solver.eval(p.slice(s![2.., ..])), Err(Error::NotFinite { point: 0, .. })));
    let ones = Array2::ones((3, 3));
    assert!(matches!(solver.vjp(p.view(), ones.view()), Err(Error::Outside { .. })));
    let (values, places) = solver.eval_flagged(p.view()).unwrap();
    assert_eq!(places, [Place::Inside, Place::Outside, Place::NotFinite]);
    assert!(values[[0, 0]].is_finite() && values[[1, 0]].is_finite() && values[[2, 0]].is_nan());
    let fields = solver.showing(Of::Fields).unwrap();
    assert_eq!(fields.quantities()[0].name, "u");
    assert_eq!(fields.at(&[0.0, 0.3]).unwrap(), 0.0);
    let single = fields.cast::<f32>().unwrap().at(&[0.5, 0.5]).unwrap();
    assert!((f64::from(single) - fields.at(&[0.5, 0.5]).unwrap()).abs() < 1e-6);
}

#[test]
fn wrong_arguments_are_errors() {
    let (compiled, operator, parameters) = two();
    let text = |e: Error| e.to_string();
    let narrow = operator.eval(&parameters, array![[1.0]].view()).unwrap_err();
    assert_eq!(text(narrow), "columns of the points (x, y): 1 where 2 are expected");
    let solver = compiled.solver(parameters.clone()).unwrap();
    assert!(matches!(solver.eval(array![[1.0, 0.0, 0.0]].view()), Err(Error::Shape(_))));
    assert!(matches!(solver.at(&[0.1]), Err(Error::Shape(_))));
    let one = array![[0.1, 0.2]];
    assert!(matches!(operator.vjp(&parameters, one.view(), array![[1.0]].view()), Err(Error::Shape(_))));
    let mut short = parameters.clone();
    short.values_mut()[0].pop();
    assert!(matches!(operator.eval(&short, one.view()), Err(Error::Shape(_))));
    let other = Compiled::from_text("space x\nnet M = mlp(width = 2, depth = 2, activation = sin)\noutput r = M(x)\n");
    let foreign = other.unwrap().parameters(0);
    assert!(text(operator.eval(&foreign, one.view()).unwrap_err()).starts_with("there is no tensor `"));
    assert!(matches!(compiled.solver(foreign), Err(Error::Missing { .. })));
    assert!(matches!(compiled.residual::<f64>("interior"), Err(Error::Missing { .. })));
    assert!(matches!(Compiler::new().device(Device::Cuda(9)).text(TEXT), Err(Error::Device { .. })));
    assert!(matches!(Compiled::from_file("no/such/file.jet"), Err(Error::Read { .. })));
    assert!(
        text(compiled.train::<f64>(&TrainOptions::default(), &mut jetc::train::Silent).unwrap_err())
            .contains("no `solve`")
    );
}

const POISSON: &str = "space x in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\n\
                       let exact = x*(x - 1)/2\nsolve interior: lap(u) = 1\nsample interior = 32\n\
                       train adam(lr = 1e-2), steps = 60\nreport error(u, exact)\n";

#[test]
fn training_reports_stops_and_takes_a_schedule() {
    let compiled = Compiled::from_text(POISSON).unwrap();
    let options = TrainOptions { seed: 4, ..TrainOptions::default() };
    let mut losses = Vec::new();
    let trained = compiled.train::<f64>(&options, &mut |p: &Progress<'_>| {
        losses.push(p.loss);
        Flow::Continue
    });
    let trained = trained.unwrap();
    assert!(trained.outcome.finished && losses.len() == 60 && losses[59] < 0.1 * losses[0], "{losses:?}");
    let error = trained.outcome.measurements[0].l2_relative.unwrap();
    assert!(error < 0.1, "{error}");
    // u'' = 1 with zero ends: u(1/2) = -1/8
    let middle = trained.solver.at(&[0.5]).unwrap();
    assert!((middle + 0.125).abs() < 0.02, "{middle}");
    // a rate of zero changes nothing; stopping leaves what was reached
    struct Still(u64);
    impl Observer for Still {
        fn rate(&mut self, _: u64, planned: f64) -> f64 {
            assert_eq!(planned, 1e-2);
            0.0
        }
        fn progress(&mut self, p: &Progress<'_>) -> Flow {
            if p.step < self.0 { Flow::Continue } else { Flow::Stop }
        }
    }
    let still = compiled.train::<f64>(&options, &mut Still(10)).unwrap();
    assert!(!still.outcome.finished && still.outcome.step == 10);
    assert_eq!(*still.solver.parameters(), compiled.parameters(4));
}

/// The loss of `jetc train` is the mean square of the residual: its gradient is the operator's.
#[test]
fn residuals_are_there_for_other_losses() {
    let compiled = Compiled::from_text(POISSON).unwrap();
    let residual = compiled.residual::<f64>("interior").unwrap();
    let mut parameters = compiled.parameters::<f64>(2);
    let p = Array2::from_shape_fn((16, 1), |(k, _)| (k as f64 + 0.5) / 16.0);
    let loss = |w: &Parameters<f64>| residual.eval(w, p.view()).unwrap().mapv(|r| r * r).mean().unwrap();
    let first = loss(&parameters);
    for _ in 0..200 {
        let r = residual.eval(&parameters, p.view()).unwrap();
        let gradient = residual.vjp(&parameters, p.view(), (2.0 / 16.0 * r).view()).unwrap();
        for (name, w) in parameters.learned_mut() {
            let g = gradient.parameters.get(name).unwrap();
            w.iter_mut().zip(g).for_each(|(w, g)| *w -= 0.05 * g);
        }
    }
    assert!(loss(&parameters) < 0.1 * first, "{first} to {}", loss(&parameters));
}

/// The kernels of a GPU, on the CPU: the same values and gradients for any number of points, and from threads.
#[cfg(all(feature = "cuda", unix))]
#[test]
fn a_device_gives_what_the_cpu_gives() {
    let (here, operator, parameters) = two();
    let there = Compiler::new().device(Device::Host).text(TEXT).unwrap();
    let kernels = there.outputs::<f64>().unwrap();
    assert_eq!((operator.device().as_str(), kernels.device().as_str()), ("cpu", "host"));
    let close = |a: &Array2<f64>, b: &Array2<f64>| {
        assert_eq!(a.dim(), b.dim());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12 * (1.0 + b.abs())), "{a}\n{b}");
    };
    for n in [1, 5, 33, 32, 0] {
        let p = points(n);
        let cotangent = Array2::from_shape_fn((n, 3), |(k, c)| (k as f64 - 1.7) * (c as f64 + 0.3));
        close(&kernels.eval(&parameters, p.view()).unwrap(), &operator.eval(&parameters, p.view()).unwrap());
        let [a, b] = [&kernels, &operator].map(|o| o.vjp(&parameters, p.view(), cotangent.view()).unwrap());
        close(&a.values, &b.values);
        close(&a.points, &b.points);
        for (a, b) in a.parameters.values().iter().flatten().zip(b.parameters.values().iter().flatten()) {
            assert!((a - b).abs() < 1e-11 * (1.0 + b.abs()), "{n} points: {a} {b}");
        }
    }
    // other weights, several threads and other numbers of points at once
    std::thread::scope(|scope| {
        for k in 0..3 {
            let (here, there, operator, kernels) = (&here, &there, &operator, &kernels);
            scope.spawn(move || {
                let (p, w) = (points(20 * k + 1), here.parameters::<f64>(k as u64));
                close(&kernels.eval(&w, p.view()).unwrap(), &operator.eval(&w, p.view()).unwrap());
                assert_eq!(there.parameters::<f64>(k as u64), w);
            });
        }
    });
    let solver = here.solver(parameters).unwrap();
    let moved = solver.on(Device::Host).unwrap();
    assert_eq!(moved.operator().device(), "host");
    close(&moved.eval(points(4).view()).unwrap(), &solver.eval(points(4).view()).unwrap());
    assert_eq!(moved.cast::<f32>().unwrap().operator().device(), "host");
    let p = points(4);
    assert!(matches!(kernels.eval(&solver.parameters().clone(), p.slice(s![.., 1..])), Err(Error::Shape(_))));
    let mut short = solver.parameters().clone();
    short.values_mut()[0].pop();
    assert!(matches!(kernels.eval(&short, p.view()), Err(Error::Shape(_))));
}

#[cfg(all(feature = "cuda", unix))]
#[test]
fn training_on_a_device_ends_where_the_cpu_ends() {
    let options = TrainOptions { steps: Some(5), seed: 4, ..TrainOptions::default() };
    let train = |device: Device| {
        let compiled = Compiler::new().device(device).text(POISSON).unwrap();
        compiled.train::<f64>(&options, &mut jetc::train::Silent).unwrap().solver
    };
    let (here, there) = (train(Device::Cpu), train(Device::Host));
    assert_eq!(there.operator().device(), "host");
    for (a, b) in here.parameters().values().iter().flatten().zip(there.parameters().values().iter().flatten()) {
        assert!((a - b).abs() < 1e-9, "{a} {b}");
    }
}

/// A rotation: the state after a time is known, the declared time goes on, and a device gives the same.
#[test]
fn flow_maps() {
    let text = "state s[2]\ntime t\nflow d_t(s) = [s[1], -s[0]]*(1 + 0*t) by dopri5(rtol = 1e-10, atol = 1e-12)\n";
    let flow = Compiler::new().flow::<f64>(text).unwrap();
    assert_eq!(flow.inputs().iter().map(|i| i.len).sum::<usize>(), 3);
    let columns: Vec<&str> = flow.inputs().iter().map(|i| i.name.as_str()).collect();
    let time = flow.inputs().iter().take_while(|i| i.name != "t").map(|i| i.len).sum::<usize>();
    assert!(columns.contains(&"t"));
    let mut start = Array2::zeros((2, 3));
    let state = if time == 0 { 1 } else { 0 };
    (start[[0, state]], start[[1, state + 1]], start[[1, time]]) = (1.0, 1.0, 5.0);
    let parameters = flow.parameters(0);
    let end = flow.advance(&parameters, start.view(), 2.0).unwrap();
    let (c, s) = (2f64.cos(), 2f64.sin());
    let expected = [[c, -s, 2.0], [s, c, 7.0]];
    for (row, [a, b, t]) in end.rows().into_iter().zip(expected) {
        assert!((row[state] - a).abs() < 1e-8 && (row[state + 1] - b).abs() < 1e-8, "{row}");
        assert!((row[time] - t).abs() < 1e-12, "{row}");
    }
    assert_eq!(flow.advance(&parameters, start.view(), 0.0).unwrap(), start);
    assert_eq!(flow.advance(&parameters, Array2::zeros((0, 3)).view(), 1.0).unwrap().dim(), (0, 3));
    assert!(matches!(flow.advance(&parameters, array![[1.0]].view(), 1.0), Err(Error::Shape(_))));
    assert!(matches!(flow.advance(&parameters, start.view(), -1.0), Err(Error::Unsupported(_))));
    #[cfg(all(feature = "cuda", unix))]
    {
        let there = Compiler::new().device(Device::Host).flow::<f64>(text).unwrap();
        let moved = there.advance(&parameters, start.view(), 2.0).unwrap();
        assert!((&moved - &end).iter().all(|x| x.abs() < 1e-12), "{moved} {end}");
    }
    let text = "space x\noutput r = d_x(x)\n";
    assert!(matches!(Compiler::new().flow::<f64>(text), Err(Error::Missing { .. })));
}

/// A driven pendulum with an unknown friction, on the way that it has with 0.3.
fn swing(k: usize) -> [f64; 2] {
    let flow = Compiler::new().flow::<f64>(PENDULUM).unwrap();
    let mut exact = flow.parameters(0);
    exact.get_mut("k").unwrap()[0] = 0.3;
    let end = flow.advance(&exact, array![[1.0, 0.0, 0.0, 0.2]].view(), 0.1 * k as f64).unwrap();
    [end[[0, 0]], end[[0, 1]]]
}

const PENDULUM: &str = "state s[2]\ntime t\nparam k = 1 learn\ndata runs = \"runs.csv\"\n\
                        flow d_t(s) = [s[1], runs.push*cos(t) - sin(s[0]) - k*s[1]] by dopri5(rtol = 1e-9, atol = 1e-9)\n\
                        fit flow to runs, horizon = 4\ntrain adam(lr = 3e-2), steps = 150, batch = 8\n";

#[test]
fn flows_are_trained_on_what_is_in_memory() {
    let header = ["runs.push", "t", "s[0]", "unused", "s1", "run"];
    let row = |k: usize| {
        let [s, v] = swing(k);
        [0.2, 0.1 * k as f64, s, 7.0, v, 0.0]
    };
    let rows = Array2::from_shape_vec((20, 6), (0..20).flat_map(row).collect()).unwrap();
    let compiler = Compiler::new().data("runs", header.map(|name| name.trim_start_matches("runs.")), rows.clone());
    let flow = compiler.flow::<f64>(PENDULUM).unwrap();
    let mut seen = 0;
    let watch = &mut |p: &Progress<'_>| {
        seen = p.step;
        Flow::Continue
    };
    let trained = flow.train(&TrainOptions::default(), watch).unwrap();
    let found = trained.parameters.get("k").unwrap()[0];
    assert!((found - 0.3).abs() < 1e-3 && seen == 150 && trained.outcome.finished, "{found}");

    // the same from a file, in two parts
    let folder = tempfile::tempdir().unwrap();
    let line = |row: ndarray::ArrayView1<'_, f64>| row.iter().map(|x| format!("{x:?}")).collect::<Vec<_>>().join(",");
    let lines: Vec<String> = rows.outer_iter().map(line).collect();
    std::fs::write(folder.path().join("runs.csv"), format!("push,t,s0,unused,s1,run\n{}\n", lines.join("\n"))).unwrap();
    std::fs::write(folder.path().join("swing.jet"), PENDULUM).unwrap();
    let flow = Compiler::new().flow_file::<f64>(folder.path().join("swing.jet")).unwrap();
    let out = Some(folder.path().join("run"));
    let options = TrainOptions { out, ..TrainOptions::default() };
    let early = &mut |p: &Progress<'_>| if p.step < 40 { Flow::Continue } else { Flow::Stop };
    assert_eq!(flow.train(&options, early).unwrap().outcome.step, 40);
    let rest = flow.train(&TrainOptions { resume: true, ..options }, &mut jetc::train::Silent).unwrap();
    assert_eq!((rest.outcome.resumed_from, &rest.parameters), (Some(40), &trained.parameters));
    let mut loaded = flow.parameters(5);
    loaded.load(&folder.path().join("run/solver.safetensors")).unwrap();
    assert_eq!(loaded, trained.parameters);
}

#[test]
fn data_in_memory_that_do_not_fit() {
    let error = |name: &str, columns: &[&str], rows: Array2<f64>| {
        let flow = Compiler::new().data(name, columns.iter().copied(), rows).flow::<f64>(PENDULUM);
        let trained = flow.and_then(|flow| flow.train(&TrainOptions::default(), &mut jetc::train::Silent));
        trained.map(|_| ()).unwrap_err().to_string()
    };
    let all = ["t", "s0", "s1", "push", "run"];
    assert_eq!(error("rnus", &all, Array2::zeros((9, 5))), "there is no data set `rnus`; there is runs");
    assert_eq!(error("runs", &all[1..], Array2::zeros((9, 5))), "training: data set `runs`: 5 columns have 4 names");
    let missing = error("runs", &all[..3], Array2::zeros((9, 3)));
    assert!(missing.contains("data set `runs`: there is no column `push`"), "{missing}");
    let mut rows = Array2::zeros((9, 5));
    rows[[2, 1]] = f64::NAN;
    let nan = error("runs", &all, rows);
    assert!(nan.contains("data set `runs`: row 2 (from 0): column `s0` holds `NaN`"), "{nan}");
    let twice = error("runs", &all, Array2::zeros((9, 5)));
    assert!(twice.contains("data set `runs`: run 0 has two rows of time 0"), "{twice}");
    let none = Compiler::new().flow::<f64>("state s\nflow d_t(s) = -s by rk4(step = 0.1)\n").unwrap();
    let none = none.train(&TrainOptions::default(), &mut jetc::train::Silent).unwrap_err();
    assert!(matches!(&none, Error::Unsupported(text) if text.contains("add `fit flow to DATA")), "{none}");
}

/// Of points (state, time, inputs) and parameters, by all kinds of steps, on the CPU and by kernels.
#[test]
fn gradients_of_flow_maps() {
    let methods = [
        "dopri5(rtol = 1e-10, atol = 1e-12)",
        "rk4(step = 0.07)",
        "taylor(order = 3, step = 0.1, tolerance = 1e-8)",
        "taylor_lagrange(order = 2, midpoint = G(s), step = 0.1)",
    ];
    for method in methods {
        let text = format!(
            "state s[2]\ntime t\nparam k = 0.7 learn\nnet F = mlp(width = 7, depth = 2, activation = tanh, outputs = 2)\n\
             net G = mlp(width = 5, depth = 2, activation = tanh, outputs = 2)\ndata runs = \"runs.csv\"\n\
             flow d_t(s) = 2*F(s, runs.push) - k*s*cos(t*runs.rate) by {method}\n"
        );
        let here = Compiler::new().flow::<f64>(&text).unwrap();
        let columns: Vec<&str> = here.inputs().iter().map(|i| i.name.as_str()).collect();
        assert_eq!(columns, ["s", "t", "runs.push", "runs.rate"]);
        let w = here.parameters(3);
        let x = Array2::from_shape_fn((19, 5), |(p, c)| ((5 * p + 3 * c) % 13) as f64 / 7.0 - 0.8);
        let bar = Array2::from_shape_fn((19, 5), |(p, c)| ((3 * p + 5 * c) % 11) as f64 / 5.0 - 1.0);
        let value = |w: &Parameters<f64>, x: &Array2<f64>| (&here.advance(w, x.view(), 0.43).unwrap() * &bar).sum();
        let gradient = here.vjp(&w, x.view(), 0.43, bar.view()).unwrap();
        assert_eq!(gradient.values, here.advance(&w, x.view(), 0.43).unwrap(), "{method}");
        let h = 1e-4;
        for (p, c) in [(0, 0), (3, 1), (7, 2), (18, 3), (11, 4)] {
            let quotient = |h: f64| {
                let (mut a, mut b) = (x.clone(), x.clone());
                (a[[p, c]], b[[p, c]]) = (x[[p, c]] + h, x[[p, c]] - h);
                (value(&w, &a) - value(&w, &b)) / (2.0 * h)
            };
            let (exact, found) = (quotient(h), gradient.points[[p, c]]);
            assert!((exact - found).abs() < 1e-5 * exact.abs().max(0.1), "{method} {p} {c}: {exact} {found}");
        }
        for name in ["k", "F.0.weight", "F.1.bias"] {
            let quotient = |h: f64| {
                let (mut a, mut b) = (w.clone(), w.clone());
                a.get_mut(name).unwrap()[0] += h;
                b.get_mut(name).unwrap()[0] -= h;
                (value(&a, &x) - value(&b, &x)) / (2.0 * h)
            };
            let (exact, found) = (quotient(h), gradient.parameters.get(name).unwrap()[0]);
            assert!((exact - found).abs() < 1e-5 * exact.abs().max(0.1), "{method} {name}: {exact} {found}");
        }
        if cfg!(feature = "cuda") {
            let there = Compiler::new().device(Device::Host).flow::<f64>(&text).unwrap();
            let other = there.vjp(&w, x.view(), 0.43, bar.view()).unwrap();
            let far = |a: &Array2<f64>, b: &Array2<f64>| (a - b).mapv(|d| d * d).sum().sqrt();
            assert!(
                far(&other.points, &gradient.points) < 1e-9 && far(&other.values, &gradient.values) < 1e-9,
                "{method}"
            );
            let end = there.advance(&w, x.view(), 0.43).unwrap();
            assert!(far(&end, &gradient.values) < 1e-9, "{method}: {end} {}", gradient.values);
        }
        // nothing moves in no time
        let still = here.vjp(&w, x.view(), 0.0, bar.view()).unwrap();
        assert!(
            still.points == bar && still.values == x && still.parameters.values().iter().flatten().all(|g| *g == 0.0)
        );
        assert!(matches!(here.vjp(&w, x.view(), 0.1, bar.slice(s![1.., ..])), Err(Error::Shape(_))));
    }
}

/// What the map does with inputs in its points is what training does with them in its data.
#[test]
fn inputs_of_flow_maps() {
    let flow = |text: &str| Compiler::new().flow::<f64>(&format!("data d = \"d.csv\"\n{text}"));
    // an exponent that is an input, of a negative base: s' = -s^2 from -1 is -1/(1 - t)
    let power = flow("state s\nflow d_t(s) = -s^d.p by rk4(step = 0.01)\n").unwrap();
    let w = power.parameters(0);
    let end =
        power.vjp(&w, array![[-1.0, 2.0], [0.0, 2.0]].view(), 0.5, array![[1.0, 0.0], [1.0, 0.0]].view()).unwrap();
    assert!((end.values[[0, 0]] + 2.0).abs() < 1e-4 && end.values[[1, 0]] == 0.0, "{}", end.values);
    assert!((end.points[[0, 0]] - 4.0).abs() < 1e-3 && (end.points[[1, 0]] - 1.0).abs() < 1e-12, "{}", end.points);

    // an estimate that names an expression of inputs is one in the map, too
    let trace = "sum(i in 0..8: d(F(s, d.u)[i], s[i]))";
    let estimated = format!(
        "state s[8]\nnet F = mlp(width = 6, depth = 2, activation = tanh, outputs = 8)\n\
         estimate {trace} by rademacher(2)\nflow d_t(s) = ({trace})*s by rk4(step = 0.1)\n"
    );
    let map = flow(&estimated).unwrap();
    let (w, x) = (map.parameters(0), Array2::from_shape_fn((3, 9), |(p, c)| 0.1 * (p + c) as f64));
    let end = |draw| map.with_draw(1, draw).advance(&w, x.view(), 0.1).unwrap();
    assert!(end(1) == end(1) && end(1) != end(2));

    // weights of an estimate that are inputs: no map, but training
    let text = "state s[4]\nnet N = mlp(width = 4, depth = 2, activation = tanh)\n\
                let q = sum(i in 0..4: (i + 1 + d.w)*d(d(N(s), s[i]), s[i]))\nestimate q by importance(2)\n\
                flow d_t(s) = q*s by rk4(step = 0.1)\nfit flow to d, horizon = 1\ntrain adam(lr = 1e-3), steps = 2\n";
    let header = ["run", "t", "w", "s0", "s1", "s2", "s3"];
    let rows =
        Array2::from_shape_fn((5, 7), |(p, c)| [0.0, 0.1 * p as f64, 0.5][c.min(2)] + 0.1 * (c.max(2) - 2) as f64);
    let given = Compiler::new().data("d", header, rows).flow::<f64>(&format!("data d = \"d.csv\"\n{text}")).unwrap();
    assert_eq!(given.train(&TrainOptions::default(), &mut jetc::train::Silent).unwrap().outcome.step, 2);
    let refused = given.advance(&given.parameters(0), Array2::zeros((1, 5)).view(), 0.1).unwrap_err().to_string();
    assert!(
        refused.contains("program.jet: with its inputs in the points: ") && refused.contains("probabilities"),
        "{refused}"
    );
}

fn compiler_of(device: Device, text: &str) -> FlowMap<f64> {
    Compiler::new().device(device).flow(text).unwrap()
}

#[test]
fn wrong_arguments_of_flow_maps() {
    let text = |width: usize| {
        format!(
            "state s\ndata d = \"d.csv\"\nnet F = mlp(width = {width}, depth = 2, activation = tanh)\n\
             flow d_t(s) = F(s) - s/d.tau by rk4(step = 1e-3)\nfit flow to d, horizon = 1\ntrain adam(lr = 1e-3), steps = 2\n"
        )
    };
    let rows = array![[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 0.9], [0.0, 0.2, 1.0, 0.8]];
    let devices = if cfg!(feature = "cuda") { vec![Device::Cpu, Device::Host] } else { vec![Device::Cpu] };
    for device in devices {
        let compiler = Compiler::new().device(device).data("d", ["run", "t", "tau", "s"], rows.clone());
        let (flow, other) = (compiler.flow::<f64>(&text(16)).unwrap(), compiler.flow::<f64>(&text(4)).unwrap());
        let (good, narrow, silent) = (flow.parameters(0), other.parameters(0), &mut jetc::train::Silent);
        let narrow = flow.train_from(narrow.clone(), &TrainOptions::default(), silent).map(|_| ()).unwrap_err();
        assert_eq!(
            narrow.to_string(),
            "elements of tensor `F.0.weight`, of shape [16, 1] and not [4, 1]: 4 where 16 are expected"
        );
        let none = compiler.flow::<f64>("data d = \"d.csv\"\nstate s\nflow d_t(s) = -s by rk4(step = 0.1)\n").unwrap();
        let none = flow.advance(&none.parameters(0), array![[1.0, 1.0]].view(), 0.1).unwrap_err();
        assert!(matches!(none, Error::Missing { .. }), "{none}");
        let infinite = flow.advance(&good, array![[1.0, 1.0], [1.0, f64::INFINITY]].view(), 0.1).unwrap_err();
        assert_eq!(infinite.to_string(), "point 1 is not finite: d.tau = inf");
        let far = flow.vjp(&good, array![[1.0, 1.0]].view(), 1e9, array![[1.0, 1.0]].view()).unwrap_err();
        assert!(matches!(&far, Error::Unsupported(why) if why.contains("1e12 steps")), "{far}");
        let cotangent = flow.vjp(&good, array![[1.0, 1.0]].view(), 0.1, array![[1.0]].view()).unwrap_err();
        assert_eq!(cotangent.to_string(), "columns of the cotangent: 1 where 2 are expected");
        // what is learned does not matter to a map, nor the interval that is meant
        let bounded = "state s\ntime t in 0..1\nparam k = 1 learn\nflow d_t(s) = -k*s by rk4(step = 0.1)\n";
        let [learned, fixed] = [bounded, &bounded.replace(" learn", "")].map(|text| compiler_of(device, text));
        let end = fixed.advance(&learned.parameters(0), array![[1.0, 1.5]].view(), 0.5).unwrap();
        assert!((end[[0, 0]] - (-0.5f64).exp()).abs() < 1e-5 && (end[[0, 1]] - 2.0).abs() < 1e-12, "{end}");
        // the first that leaves, wherever it is: 1/(1/s - t)
        let blow = "state s\nflow d_t(s) = s^2 by dopri5(rtol = 1e-8, atol = 1e-8)\n";
        let blow = Compiler::new().device(device).flow::<f64>(blow).unwrap();
        let starts = Array2::from_shape_fn((200, 1), |(p, _)| {
            [0.6, 0.1, 2.0][if p == 0 { 0 } else { 1 + usize::from(p == 150) }]
        });
        let left = blow.advance(&blow.parameters(0), starts.view(), 2.0).unwrap_err();
        assert!(matches!(left, Error::Left { point: 150, time, .. } if (time - 0.5).abs() < 1e-4), "{left}");
    }
}

//! Training through the whole compiler: a stopped and resumed run ends in the same bits as an unbroken one, whatever the
//! number of threads; a solved problem is solved.

use jetc::net::Parameters;
use jetc::plan::{Options as PlanOptions, plan};
use jetc::program::Overrides;
use jetc::solver::{SolverObjective, compile, picture};
use jetc::train::{Flow, Observer, Options, Outcome, Progress, train};
use std::path::Path;

const PROBLEM: &str = "space x in box(0..1)\ntime t in 0..1\nparam k = 0.3 learn log\n\
    net N = mlp(width = 12, depth = 3, activation = tanh)\nfield u = N(x, t)\nlet exact = exp(-t)*sin(pi*x)\n\
    solve interior: d_t(u) = k*d_xx(u)\nsolve edge on boundary: u = 0  weight 10\n\
    solve start on t = 0: u = sin(pi*x)  weight 10\nsample interior = 300, edge = 20, start = 50\n\
    train adam(lr = 1e-2, decay = cosine), steps = 60\nreport error(u, exact), value(k), points = 200, every = 25\n";

/// A first layer that is streamed: one network in two conditions, one of them with a factor of that layer.
const WIDE: &str = "space x[70] in ball(radius = 1)\ntime t in 0..1\nparam k = 0.3 learn log\n\
    net N = mlp(width = 9, depth = 3, activation = tanh)\nfield u = (1 - norm2(x))*N(x, t)\n\
    let exact = (1 - norm2(x))*sum(i in 0..69: sin(x[i]*x[i+1] + t))\n\
    solve interior: d_t(u) - k*lap(u) = d_t(exact) - lap(exact)\nsolve start on t = 0: lap(u) + u = exact  weight 0.1\n\
    sample interior = 40, start = 11\nestimate interior by sparse(5)\nestimate start by compressed\n\
    train adam(lr = 1e-2, decay = cosine), steps = 60\nreport error(u, exact), value(k), points = 700, every = 25\n";

struct StopAt(u64);

impl Observer for StopAt {
    fn progress(&mut self, p: &Progress<'_>) -> Flow {
        if p.step == self.0 { Flow::Stop } else { Flow::Continue }
    }
}

fn run(text: &str, out: &Path, threads: usize, resume: bool, stop: u64) -> (Parameters<f32>, Outcome) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    pool.install(|| {
        let (program, diagnostics) = compile(text, &Overrides::default());
        let program = program.unwrap_or_else(|| panic!("{diagnostics:?}"));
        let plan = plan(&program, PlanOptions::default()).unwrap_or_else(|e| panic!("{e:?}"));
        let mut parameters = Parameters::<f32>::initial(&program, 4);
        let mut objective =
            SolverObjective::new(&program, &plan, &parameters, Path::new("examples"), 4).expect("it compiles");
        let mut options = Options::new(program.training.clone().expect("it trains"), out);
        options.seed = 4;
        options.resume = resume;
        options.program = text.into();
        options.measure_every = Some(25);
        let outcome = train(&mut objective, &mut parameters, &options, &mut StopAt(stop)).expect("it runs");
        (parameters, outcome)
    })
}

fn bits(p: &Parameters<f32>) -> Vec<Vec<u32>> {
    p.values().iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
}

#[test]
fn resuming_ends_in_the_same_bits_with_any_number_of_threads() {
    resuming(PROBLEM, "narrow");
}

#[test]
fn so_does_resuming_with_a_streamed_layer() {
    resuming(WIDE, "wide");
}

fn resuming(problem: &str, kind: &str) {
    let folder = |name: &str| {
        let path = std::env::temp_dir().join(format!("jetc-training-{}-{kind}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    };
    let (whole, parts) = (folder("whole"), folder("parts"));
    let (unbroken, outcome) = run(problem, &whole, 2, false, u64::MAX);
    assert!(outcome.finished);
    let (_, first) = run(problem, &parts, 1, false, 23);
    assert!(!first.finished);
    assert_eq!(first.step, 23);
    let (resumed, second) = run(problem, &parts, 3, true, u64::MAX);
    assert_eq!(second.resumed_from, Some(23));
    assert_eq!(bits(&unbroken), bits(&resumed));
    assert_ne!(
        bits(&unbroken)[0],
        bits(&Parameters::initial(&compile(problem, &Overrides::default()).0.expect("right"), 4))[0]
    );
    // the history is that of one run, but for the clock
    let columns = |o: &Outcome| -> Vec<Vec<f64>> { o.history.rows.iter().map(|r| r[..r.len() - 1].to_vec()).collect() };
    assert_eq!(format!("{:?}", columns(&outcome)), format!("{:?}", columns(&second)));
    for file in ["solver.safetensors", "history.csv", "report.json", "checkpoint.safetensors"] {
        assert!(whole.join(file).is_file(), "{file}");
    }
    for path in [whole, parts] {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[test]
fn a_solution_is_found_and_reported_beside_the_best_constant_network() {
    let text = "space x in box(0..1)\nnet N = mlp(width = 16, depth = 3, activation = tanh)\nfield u = x*(1 - x)*N(x)\n\
        let exact = sin(pi*x)\nsolve interior: lap(u) = lap(exact)\nsample interior = 64\n\
        train adam(lr = 5e-3, decay = cosine), steps = 600\nreport error(u, exact), points = 500\n";
    let out = std::env::temp_dir().join(format!("jetc-solution-{}", std::process::id()));
    let (parameters, outcome) = run(text, &out, 2, false, u64::MAX);
    let m = &outcome.measurements[0];
    let (error, constant) = (m.l2_relative.expect("measured"), m.best_constant.expect("affine in the network"));
    // c x (1 - x) against sin(pi x) in least squares
    let exact_constant = {
        let pi = std::f64::consts::PI;
        // <x(1-x), sin> = 4/pi^3, |x(1-x)|^2 = 1/30, |sin|^2 = 1/2
        (1.0 - (4.0 / pi.powi(3)).powi(2) * 30.0 / 0.5).sqrt()
    };
    assert!((constant - exact_constant).abs() < 0.1 * exact_constant, "{constant} {exact_constant}");
    assert!(error < 0.1 * constant, "{error} {constant}");
    let (program, _) = compile(text, &Overrides::default());
    let picture = picture(&program.expect("right"), &parameters).expect("it evaluates").expect("one coordinate");
    assert_eq!((picture.solution.len(), picture.exact.as_ref().map(Vec::len)), (401, Some(401)));
    assert!(picture.solution[0].abs() < 1e-6);
    let _ = std::fs::remove_dir_all(out);
}

/// A streamed layer is kept turned in memory, and written as everyone reads it.
#[test]
fn wide_weights_survive_their_file() {
    let (program, _) = compile(WIDE, &Overrides::default());
    let program = program.expect("right");
    let parameters = Parameters::<f32>::initial(&program, 3);
    let path = std::env::temp_dir().join(format!("jetc-wide-{}.safetensors", std::process::id()));
    parameters.save(&path, &Default::default()).expect("it is written");
    let mut loaded = Parameters::<f32>::initial(&program, 5);
    loaded.load(&path).expect("it is read");
    assert_eq!(bits(&parameters), bits(&loaded));
    let bytes = std::fs::read(&path).expect("it is there");
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).expect("JSON");
    assert_eq!(header["N.0.weight"]["shape"], serde_json::json!([9, 71]));
    let at = |row: usize, column: usize| {
        let first = start + header["N.0.weight"]["data_offsets"][0].as_u64().expect("an offset") as usize;
        let from = first + 4 * (71 * row + column);
        f32::from_le_bytes(bytes[from..from + 4].try_into().expect("four bytes"))
    };
    let kept = parameters.get("N.0.weight").expect("there");
    for (row, column) in [(0, 0), (1, 0), (0, 1), (8, 70), (3, 44)] {
        assert_eq!(at(row, column), kept[column * 9 + row]);
    }
    let _ = std::fs::remove_file(path);
}

//! Trains the same flow by several methods and prints a table: loss, error, evaluations, times, remainder, distance to an
//! accurate solution of the field that was learned. Pictures of a trajectory and of what was learned of the step go into a
//! folder.
//!
//!     cargo run --release --example flow_data -- all examples/flows
//!     python3 examples/flows/digits.py examples/flows
//!     cargo run --release --example flow_table -- all 1000 runs/table

use jetc::cli::plot;
use jetc::net::Parameters;
use jetc::plan::{FlowPlan, Options as PlanOptions, plan, plan_flow};
use jetc::program::{Integrator, Overrides, Program};
use jetc::solver::flow::{FlowObjective, Interval, Pace, Rollout, Runner, Tape, Trajectories, rollout};
use jetc::solver::{Evaluator, Tensors, compile};
use jetc::train::{Options, Silent, Table, train};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Methods by their names in the table; H is the step of the problem. Those with a comma are for classification. The second tolerance, and
/// order 1 with two steps, are what the programs use that belong to the paper on Taylor-Lagrange networks (Djeumou et al., IJCAI 2022).
const METHODS: [(&str, &str); 10] = [
    ("dopri5", "dopri5(rtol = 1e-5, atol = 1e-7)"),
    ("dopri5 1.4e-8", "dopri5(rtol = 1.4e-8, atol = 1.4e-8)"),
    ("rk4", "rk4(step = H)"),
    ("heun", "heun(step = H)"),
    ("euler", "euler(step = H)"),
    ("taylor 2", "taylor(order = 2, step = H)"),
    ("taylor-lagrange 1", "taylor_lagrange(order = 1, midpoint = G, step = H)"),
    ("taylor-lagrange 1, 2 H", "taylor_lagrange(order = 1, midpoint = G, step = 2*H)"),
    ("taylor-lagrange 2, 4 H", "taylor_lagrange(order = 2, midpoint = G, step = 4*H)"),
    ("hypersolver", "hypersolver(method = heun, correction = G, step = H)"),
];

/// A problem: data, step, the right side, the declarations that it needs.
struct Problem {
    name: &'static str,
    state: usize,
    step: &'static str,
    declarations: &'static str,
    right: &'static str,
    /// A midpoint or correction is fitted to an accurate solver after so many steps of training.
    every: usize,
    /// Of a classification: the loss, and what the greatest of gives the class.
    readout: Option<(&'static str, &'static str)>,
}

const PROBLEMS: [Problem; 4] = [
    Problem {
        name: "stiff",
        state: 2,
        readout: None,
        step: "0.01",
        declarations: "net F = mlp(width = 32, depth = 3, activation = tanh, outputs = 2)",
        right: "F(s)",
        every: 10,
    },
    Problem {
        name: "van_der_pol",
        state: 2,
        readout: None,
        step: "0.05",
        declarations: "net F = mlp(width = 64, depth = 3, activation = tanh)",
        right: "[s[1], 8*F(s)]",
        every: 10,
    },
    Problem {
        name: "brusselator",
        state: 2,
        readout: None,
        step: "0.05",
        declarations: "net F = mlp(width = 32, depth = 3, activation = tanh, outputs = 2)",
        right: "F(s)",
        every: 10,
    },
    Problem {
        name: "digits",
        state: 64,
        readout: Some((
            ", loss = log(sum(i in 0..10: exp(z[i]))) - traj.c0*z[0] - traj.c1*z[1] - traj.c2*z[2] - traj.c3*z[3] \
             - traj.c4*z[4] - traj.c5*z[5] - traj.c6*z[6] - traj.c7*z[7] - traj.c8*z[8] - traj.c9*z[9]",
            "z",
        )),
        step: "0.25",
        declarations: "net F = mlp(width = 64, depth = 2, activation = tanh, outputs = 64)\n\
                       net L = mlp(width = 10, depth = 1, activation = identity, outputs = 10)\nlet z = L(s)",
        right: "F(s)",
        every: 50,
    },
];

fn text(problem: &Problem, method: &str, steps: usize) -> String {
    let fitted = if method.contains("G") { format!(", midpoint_every = {}", problem.every) } else { String::new() };
    let fitted = if method.contains("lagrange") { format!("{fitted}, remainder_weight = 1e-4") } else { fitted };
    let n = problem.state;
    let learned = match method.contains("G") {
        true => format!("net G = mlp(width = 16, depth = 2, activation = tanh, outputs = {n})\n"),
        false => String::new(),
    };
    let (loss, end) = match problem.readout {
        Some((loss, output)) => (loss, format!("output class = {output}\n")),
        None => ("", "report rollout(traj), points = 100\n".into()),
    };
    format!(
        "state s[{n}]\n{}\n{learned}data traj = \"{}.csv\"\nflow d_t(s) = {} by {}\nfit flow to traj, horizon = 1{fitted}{loss}\n\
         train adam(lr = 1e-2, decay = exponential({})), steps = {steps}, batch = 500\n{end}",
        problem.declarations,
        problem.name,
        problem.right,
        method.replace('H', problem.step),
        0.01f64.powf(1.0 / steps as f64),
    )
}

fn resolved(text: &str) -> Result<Program, Box<dyn Error>> {
    let (program, diagnostics) = compile(text, &Overrides::default());
    program.ok_or_else(|| format!("{diagnostics:?}").into())
}

fn planned(program: &Program) -> Result<FlowPlan, Box<dyn Error>> {
    let plan = plan_flow(program).map_err(|e| e.message)?;
    Ok(plan.ok_or("there is no flow")?)
}

fn distance(a: &Rollout, b: &Rollout) -> f64 {
    let square: f64 = a.points.iter().zip(&b.points).map(|(x, y)| (x - y).powi(2)).sum();
    let norm: f64 = b.points.iter().map(|y| y * y).sum();
    if a.left_at.is_some() || b.left_at.is_some() { f64::INFINITY } else { (square / norm).sqrt() }
}

/// A prediction is timed so often, after a first one; the median counts.
const PREDICTIONS: usize = 21;

fn row(problem: &Problem, (name, method): (&str, &str), steps: usize, out: &Path) -> Result<String, Box<dyn Error>> {
    let folder = PathBuf::from("examples/flows");
    let program = resolved(&text(problem, method, steps))?;
    let plan = planned(&program)?;
    let mut parameters = Parameters::<f32>::initial(&program, 0);
    let training = program.training.clone().ok_or("no training")?;
    let batch = training.batch;
    let mut objective = FlowObjective::new(&program, plan.clone(), &parameters, &folder, batch, 0)?;
    let results = out.join(format!("{}_{}", problem.name, name.replace(", ", "_").replace(' ', "_")));
    let start = Instant::now();
    let outcome = train(&mut objective, &mut parameters, &Options::new(training, &results), &mut Silent)?;
    let trained = start.elapsed().as_secs_f64();
    let tensors = Tensors::of(&parameters);
    let table = Table::load(&program, program.fit.as_ref().ok_or("no fit")?.data, &folder)?;
    let rows = Trajectories::new(&program, program.fit.as_ref().ok_or("no fit")?.data, &table, &folder)?;
    let runner = Runner::<f32>::new(&program, plan)?;
    let mut found = rollout(&runner, &tensors, &rows, 100, 0)?;
    let mut times = Vec::new();
    for _ in 0..PREDICTIONS {
        let start = Instant::now();
        found = rollout(&runner, &tensors, &rows, 100, 0)?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let predicted = times[PREDICTIONS / 2];
    // the same field by an accurate solver, in double precision
    let mut accurate = program.clone();
    if let Some(flow) = &mut accurate.flow {
        flow.integrator = Integrator::Dopri5 { rtol: 1e-8, atol: 1e-10 };
    }
    let doubles = parameters.cast::<f64>();
    let fine = Runner::<f64>::new(&accurate, planned(&accurate)?)?;
    let exact = rollout(&fine, &Tensors::of(&doubles), &rows, 100, 0)?;
    let estimate = match runner.plan.has_estimate {
        true => format!("{:.1e}", estimate(&runner, &tensors, &rows, problem.step.parse()?)?),
        false => "".into(),
    };
    pictures(&results, &runner, &parameters, &rows)?;
    let quality = match problem.readout {
        Some(_) => format!("{:.1} %", 100.0 * accuracy(problem, &runner, &program, &parameters)?),
        None => format!("{:.3e}", outcome.measurements.first().and_then(|m| m.l2_relative).unwrap_or(f64::NAN)),
    };
    Ok(format!(
        "| {name} | {:.2e} | {quality} | {} | {trained:.1} | {:.1} | {estimate} | {:.1e} |",
        outcome.loss.unwrap_or(f64::NAN),
        found.evaluations,
        1e3 * predicted,
        distance(&found, &exact),
    ))
}

/// The part of the images that were left out whose class is found.
fn accuracy(
    problem: &Problem,
    runner: &Runner<f32>,
    program: &Program,
    parameters: &Parameters<f32>,
) -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string(format!("examples/flows/{}_test.csv", problem.name))?;
    let row = |line: &str| line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>();
    let rows: Vec<Vec<f64>> = text.lines().skip(1).step_by(2).map(row).collect::<Result<_, _>>()?;
    let n = problem.state;
    let mut points: Vec<f64> = rows.iter().flat_map(|r| r[1..1 + n].to_vec()).collect();
    let lengths = vec![1.0; rows.len()];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let done = runner.advance(&Tensors::of(parameters), &mut points, interval, None, (0, 0))?;
    done.map_err(|why| format!("{why:?}"))?;
    let plan = plan(program, PlanOptions::default()).map_err(|e| format!("{e:?}"))?;
    let evaluator = Evaluator::<f32>::new(&plan.sets[0].program)?;
    let points: Vec<f32> = points.iter().map(|x| *x as f32).collect();
    let values = evaluator.run(parameters, rows.len(), &points, &[], 0, 0)?;
    let greatest = |v: &[f64]| (0..v.len()).max_by(|a, b| v[*a].total_cmp(&v[*b]));
    let right = values.chunks(evaluator.width()).zip(&rows).filter(|(values, row)| {
        let values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
        greatest(&values) == greatest(&row[n + 2..])
    });
    Ok(right.count() as f64 / rows.len() as f64)
}

/// The mean absolute error estimate of a step at the rows of the data.
fn estimate(
    runner: &Runner<f32>,
    tensors: &Tensors<'_, f32>,
    rows: &Trajectories,
    step: f64,
) -> Result<f64, Box<dyn Error>> {
    let count = rows.times.len();
    let lengths = vec![step; count];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let (mut points, mut tape) = (rows.points.clone(), Tape::of(Pace::Once));
    let _ = runner.advance(tensors, &mut points, interval, Some(&mut tape), (0, 0))?;
    Ok(tape.remainder() / (count * runner.plan.state.1) as f64)
}

fn pictures(
    out: &Path,
    runner: &Runner<f32>,
    parameters: &Parameters<f32>,
    rows: &Trajectories,
) -> Result<(), Box<dyn Error>> {
    let mut first = rows.clone();
    first.runs.truncate(1);
    let found = rollout(runner, &Tensors::of(parameters), &first, usize::MAX, 0)?;
    let times: Vec<f64> = found.rows.iter().map(|r| rows.times[*r]).collect();
    let named: Vec<plot::Named> = (0..runner.plan.state.1)
        .map(|c| {
            let predicted = found.points.iter().skip(c).step_by(rows.columns).copied().collect();
            (format!("s[{c}]"), predicted, Some(found.rows.iter().map(|r| rows.point(*r)[c]).collect()))
        })
        .collect();
    plot::trajectories(&out.join("trajectory.png"), "rollout (lines) and data (dashes)", &times, &named)?;
    if let Some(learned) = &runner.plan.learned {
        let evaluator = Evaluator::<f32>::new(learned)?;
        let points: Vec<f32> = found.points.iter().map(|x| *x as f32).collect();
        let values = evaluator.run(parameters, times.len(), &points, &vec![0.0; times.len()], 0, 0)?;
        let m = evaluator.width();
        let of = |c: usize| values.iter().skip(c).step_by(m).map(|v| f64::from(*v)).collect();
        let named: Vec<plot::Named> = (0..m).map(|c| (format!("g[{c}]"), of(c), None)).collect();
        plot::trajectories(&out.join("midpoint.png"), "midpoint or correction along the rollout", &times, &named)?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "usage: flow_table PROBLEM|all STEPS FOLDER";
    let [name, steps, out] = &arguments[..] else { return Err(usage.into()) };
    let names: Vec<&str> = PROBLEMS.iter().map(|p| p.name).collect();
    let chosen: Vec<&Problem> = PROBLEMS.iter().filter(|p| p.name == *name || name == "all").collect();
    if chosen.is_empty() {
        return Err(format!("there is no problem `{name}`: choose from {}, all", names.join(", ")).into());
    }
    for problem in chosen {
        let quality = if problem.readout.is_some() { "accuracy" } else { "rollout, relative L2" };
        println!("\n{}, {steps} steps\n", problem.name);
        println!(
            "| method | loss | {quality} | evaluations | training, s | prediction, ms | estimate | from dopri5 |\n|{}",
            "---|".repeat(8)
        );
        // where rows of the data are one step apart there are no longer ones
        for method in METHODS.into_iter().filter(|m| problem.readout.is_some() || !m.0.contains(',')) {
            match row(problem, method, steps.parse()?, Path::new(out)) {
                Ok(row) => println!("{row}"),
                Err(why) => println!("| {} | {why} | | | | | | |", method.0),
            }
        }
    }
    Ok(())
}

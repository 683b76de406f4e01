//! What `check`, `plan`, `emit`, `eval` and `bench` do with a file that has a `flow`.

use super::args::{self, Target};
use super::bench::{measure, steps_there};
use super::source::{Loaded, warn_of_cache, write_or_print};
use super::{Done, Failure, print};
use crate::cuda::{self, Device};
use crate::net::Parameters;
use crate::plan::{FlowPlan, flow_json, plan_flow};
use crate::program::Program;
use crate::solver::flow::{FlowObjective, Interval, Runner, Stopped, steps_of};
use crate::solver::{DeviceStepper, Number, Tensors, training_module};
use crate::train::Objective;
use std::fmt::Write;
use std::time::Instant;

/// The plan of the file's flow.
pub fn planned(loaded: &Loaded) -> Result<FlowPlan, Failure> {
    let plan = plan_flow(&loaded.program).map_err(|e| loaded.say(&[e]))?;
    plan.ok_or_else(|| Failure::Input(format!("{}: there is no `flow`", loaded.name)))
}

/// `jetc plan` of a flow.
pub fn plan(args: &args::Plan, loaded: &Loaded) -> Done {
    let plan = planned(loaded)?;
    let text = if args.json { format!("{:#}\n", flow_json(&plan)) } else { text(&loaded.program, &plan) };
    write_or_print(args.out.as_deref(), &text)
}

fn text(program: &Program, plan: &FlowPlan) -> String {
    let mut out = String::new();
    let listing = program.to_string();
    let flow = listing.lines().find(|l| l.starts_with("flow ")).unwrap_or("flow");
    let _ = writeln!(out, "{flow}");
    let estimate = match (plan.has_estimate, plan.has_error_control) {
        (_, true) => format!("error estimate of order h^{}, which chooses the steps", plan.exponent),
        (true, _) => format!("error estimate of order h^{}", plan.exponent),
        _ => "no error estimate".to_string(),
    };
    let _ = writeln!(out, "  {:<12}order {} before anything is learned; {estimate}", "method", plan.order);
    let (evaluations, rows, ops) = (plan.evaluations, plan.rows, plan.step.ops.len());
    let _ = writeln!(
        out,
        "  {:<12}{evaluations} evaluations of the right side, {rows} Taylor coefficients of it; {ops} operations",
        "one step"
    );
    for a in &plan.step.algebras {
        let _ = writeln!(out, "  {:<12}{} rows, order {}, {} products", "algebra", a.rows, a.order, a.entries.len());
    }
    let _ = writeln!(
        out,
        "  {:<12}{:.3e} flops per trajectory and step, {:.3e} for its vector-Jacobian product",
        "cost", plan.cost.flops_per_point, plan.adjoint_cost.flops_per_point
    );
    out
}

/// `jetc emit` of a flow: the program of a step, or of its vector-Jacobian product; as CUDA a rollout, or the step of training.
pub fn emit(args: &args::Emit, loaded: &Loaded) -> Done {
    let plan = planned(loaded)?;
    let refused = |why: &str| Failure::Input(format!("{}: {why}", loaded.name));
    match args.target {
        Target::Jet => {}
        Target::Rust => return Err(refused("a flow has no module of Rust yet; it is printed as --target jet or cuda")),
        _ if args.gradient => return Err(refused("what trains a flow on a device is printed with --step")),
        _ => {
            let options = super::emit::options(args, loaded);
            let module = match (args.step, &loaded.program.flow) {
                (false, Some(flow)) => {
                    cuda::rollout(&plan.step, steps_of(flow, &plan), &options).map_err(|e| loaded.failure(e.into()))?
                }
                _ => training_step(loaded, plan, &options)?,
            };
            return super::emit::deliver(args, &[module]);
        }
    }
    let program = if args.gradient { &plan.step_adjoint } else { &plan.step };
    write_or_print(args.out.as_deref(), &format!("{program}\n"))
}

/// The module that trains the flow.
fn training_step(loaded: &Loaded, plan: FlowPlan, options: &cuda::Options) -> Result<cuda::Module, Failure> {
    let program = &loaded.program;
    let (Some(training), true) = (&program.training, program.fit.is_some()) else {
        return Err(Failure::Input(format!("{}: there is no `fit`, or no `train` statement", loaded.name)));
    };
    let parameters = Parameters::<f32>::initial(program, 0);
    let objective = FlowObjective::new(program, plan, &parameters, &loaded.folder(), training.batch, 0);
    let Some(condition) = objective.map_err(|e| loaded.failure(e))?.condition() else {
        let why = "steps of lengths of their own, long windows and `midpoint_every` are trained by several modules in turn, not by one";
        return Err(Failure::Input(format!("{}: {why}", loaded.name)));
    };
    training_module(&[condition], (parameters.specs(), training), options).map_err(|e| loaded.failure(e))
}

/// `jetc eval` of a flow: states after `--until`, from initial points.
pub fn eval<T: Number>(
    loaded: &Loaded,
    parameters: &Parameters<T>,
    points: &[f64],
    args: &args::Eval,
    device: &Device,
) -> Result<Vec<f64>, Failure> {
    let (until, seed) = (args.until, args.seed);
    let plan = planned(loaded)?;
    if plan.inputs.is_some() {
        let why = "the flow reads inputs from a data set, which belong to `fit` and `rollout`";
        return Err(Failure::Input(format!("{}: {why}", loaded.name)));
    }
    let step = loaded.program.flow.as_ref().and_then(|f| f.step);
    let Some(until) = until.or(step) else {
        return Err(Failure::Input(format!("{}: say for how long the flow runs: --until T", loaded.name)));
    };
    let columns = plan.step.columns;
    let runner = Runner::<T>::on(device, &loaded.program, plan)?;
    let mut points = points.to_vec();
    let lengths = vec![until; points.len() / columns.max(1)];
    let interval = Interval { inputs: &[], lengths: &lengths };
    let done = runner.advance(&Tensors::of(parameters), &mut points, interval, None, (seed, 0));
    warn_of_cache();
    match done.map_err(|e| loaded.failure(e))? {
        Ok(()) => Ok(points),
        Err(Stopped::NotFinite { at, .. }) => {
            Err(Failure::Work(format!("a state is not finite after {:.6} of {until}", at * until)))
        }
        Err(Stopped::TooSmall { at, .. }) => Err(Failure::Work(format!(
            "the steps became too small after {:.6} of {until}: the flow is stiff there",
            at * until
        ))),
    }
}

/// `jetc bench` of a flow: steps of trajectories, and of training where the data are there.
pub fn bench<T: Number>(args: &args::Bench, loaded: &Loaded, device: &Device) -> Done {
    let start = Instant::now();
    let plan = planned(loaded)?;
    print(&format!("compiled in {:.3} s; on {device}", start.elapsed().as_secs_f64()))?;
    let program = &loaded.program;
    let parameters = Parameters::<T>::initial(program, 0);
    let tensors = Tensors::of(&parameters);
    let count = args.points;
    // points and what moves, more than once
    loaded.make_room::<T>(1, count.saturating_mul(8))?;
    let (columns, width) = (plan.step.columns, plan.inputs.map_or(0, |(_, n)| n));
    let (flops, evaluations) = (plan.cost.flops_per_point, plan.evaluations);
    let points: Vec<f64> = (0..count * columns).map(|k| (k % 997) as f64 / 997.0).collect();
    let inputs = vec![0.0; count * width];
    let lengths = vec![program.flow.as_ref().and_then(|f| f.step).unwrap_or(0.01); count];
    let interval = Interval { inputs: &inputs, lengths: &lengths };
    let runner = Runner::<T>::on(device, program, plan.clone())?;
    let (rate, _) = measure(args.seconds, &mut || {
        let mut moved = points.clone();
        let _ = runner.advance(&tensors, &mut moved, interval, None, (0, 0))?;
        Ok(())
    })?;
    let steps = rate * count as f64;
    print(&format!(
        "rollout: {steps:.3e} trajectory steps/s ({count} at a time, {evaluations} evaluations each), {:.2} GFLOP/s",
        steps * flops / 1e9
    ))?;
    let Some(mut training) = program.training.clone().filter(|_| program.fit.is_some()) else { return Ok(()) };
    let objective = FlowObjective::<T>::new(program, plan, &parameters, &loaded.folder(), training.batch, 0);
    let Ok(mut objective) = objective else {
        print("training is not measured: the data set cannot be read")?;
        return Ok(());
    };
    if let Some(condition) = objective.condition().filter(|_| device.runs_modules()) {
        training.steps = training.steps.max(1 << 20);
        let reports = (objective.reports(), objective.measures());
        let mut stepper = DeviceStepper::on(device, vec![condition], &parameters, (&training, 0), reports)
            .map_err(|e| loaded.failure(e))?;
        let batch = if matches!(device, Device::Cuda(_)) { 256 } else { 1 };
        let (rate, _) = steps_there(args.seconds, &mut stepper, &parameters, &training, batch)?;
        print(&format!("training step (rollout, loss, gradient, update): {rate:.1} steps/s"))?;
        return Ok(());
    }
    objective.place(device)?;
    let learned = parameters.specs().iter().zip(parameters.values()).filter(|(s, _)| s.is_learned());
    let tensors: Vec<Vec<T>> = learned.map(|(_, v)| v.clone()).collect();
    let mut gradients = vec![vec![]; tensors.len()];
    let mut losses = vec![0.0; objective.conditions().len()];
    let mut step = 0;
    let (rate, _) = measure(args.seconds, &mut || {
        step += 1;
        objective.step(step, &tensors, &mut gradients, &mut losses).map_err(|e| Failure::Work(e.to_string()))
    })?;
    print(&format!("training step (rollout, loss, gradient): {rate:.1} steps/s"))?;
    Ok(())
}

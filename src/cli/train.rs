//! `train`: the run, its progress bar, its pictures.

use super::args::{Precision, Train};
use super::source::{Loaded, device, load, warn_of_cache};
use super::{Done, Failure, note, print};
use crate::cuda::Device;
use crate::plan::{Options as PlanOptions, Plan, plan};
use crate::solver::flow::{FlowObjective, metadata};
use crate::solver::{DeviceStepper, Number, SolverObjective};
use crate::train::{self as training, Flow, Measurement, Observer, Options, Outcome, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Measurements during a run whose program does not say how many.
const MEASUREMENTS: usize = 20;
/// Up to this many numbers of test points are measured without being asked for.
const CHEAP: usize = 1_000_000;

/// `jetc train FILE`
pub fn train(args: &Train) -> Done {
    let loaded = load(&args.source)?;
    let device = device(args.device)?;
    if loaded.program.flow.is_some() && loaded.program.fit.is_none() {
        return Err(Failure::Input(format!(
            "{}: there is nothing to train the flow on; add `fit flow to DATA, horizon = 1`",
            loaded.name
        )));
    }
    if loaded.program.conditions.is_empty() && loaded.program.flow.is_none() {
        return Err(Failure::Input(format!("{}: there is no `solve` to train", loaded.name)));
    }
    if loaded.program.training.is_none() {
        return Err(Failure::Input(format!(
            "{}: there is no `train` statement; add `train adam(lr = 1e-3), steps = 3000`",
            loaded.name
        )));
    }
    if loaded.program.flow.is_some() {
        return match args.precision {
            Precision::F32 => run_flow::<f32>(args, &loaded, &device),
            Precision::F64 => run_flow::<f64>(args, &loaded, &device),
        };
    }
    let plan = plan(&loaded.program, PlanOptions::default()).map_err(|e| loaded.say(&e))?;
    match args.precision {
        Precision::F32 => run::<f32>(args, &loaded, &plan, &device),
        Precision::F64 => run::<f64>(args, &loaded, &plan, &device),
    }
}

fn run<T: Number>(args: &Train, loaded: &Loaded, plan: &Plan, device: &Device) -> Done {
    let program = &loaded.program;
    // weights, both moments, gradient
    loaded.make_room::<T>(4, program.conditions.iter().map(|c| c.count).sum())?;
    let mut parameters = loaded.beginning::<T>(beginning(args), args.seed)?;
    let out = folder(args);
    let mut options = options(args, loaded, &out)?;
    let artifact = crate::artifact(&loaded.program, plan, &loaded.text, &loaded.overrides);
    options.metadata = artifact.map_err(|d| loaded.say(&[d]))?.metadata;
    options.metadata.extend(weights(args));
    options.device = device.to_string();
    let place = (&*loaded.folder(), args.seed);
    let outcome = if device.runs_modules() {
        let stepper = DeviceStepper::new(device, program, plan, &parameters, place, &options.training);
        warn_of_cache();
        let mut stepper = stepper.map_err(|e| loaded.failure(e))?;
        drive(args, &options, |watcher| training::train_with(&mut stepper, &mut parameters, &options, watcher))?
    } else {
        let objective = SolverObjective::new(program, plan, &parameters, place.0, place.1);
        let mut objective = objective.map_err(|e| loaded.failure(e))?;
        drive(args, &options, |watcher| training::train(&mut objective, &mut parameters, &options, watcher))?
    };
    #[cfg(feature = "plot")]
    super::pictures::pictures(loaded, &parameters, &outcome, &out)?;
    summary(&outcome, &out)?;
    ended(&outcome)
}

fn run_flow<T: Number>(args: &Train, loaded: &Loaded, device: &Device) -> Done {
    let program = &loaded.program;
    loaded.make_room::<T>(4, 0)?;
    let plan = super::flow::planned(loaded)?;
    let mut parameters = loaded.beginning::<T>(beginning(args), args.seed)?;
    let out = folder(args);
    let mut options = options(args, loaded, &out)?;
    options.metadata = metadata(&plan, &loaded.text, &loaded.overrides);
    options.metadata.extend(weights(args));
    let batch = options.training.batch;
    let mut objective = FlowObjective::new(program, plan, &parameters, &loaded.folder(), batch, args.seed)
        .map_err(|e| loaded.failure(e))?;
    options.device = device.to_string();
    let stepper = objective.stepper(device, &parameters, &options.training);
    warn_of_cache();
    let mut stepper = stepper.map_err(|e| loaded.failure(e))?;
    let outcome =
        drive(args, &options, |watcher| training::train_with(&mut *stepper, &mut parameters, &options, watcher))?;
    drop(stepper);
    #[cfg(feature = "plot")]
    super::pictures::flow(loaded, &objective, &parameters, &outcome, (&out, args.seed))?;
    summary(&outcome, &out)?;
    ended(&outcome)
}

/// Runs, with a progress bar, until the end or an interrupt.
fn drive(
    args: &Train,
    options: &Options,
    run: impl FnOnce(&mut Watcher) -> Result<Outcome, training::Error>,
) -> Result<Outcome, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let quiet = args.quiet;
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            // asked twice: the last checkpoint is whole
            std::process::exit(130);
        }
        if !quiet {
            note("stopping after this step, with a checkpoint; again to stop at once");
        }
    })?;
    let mut watcher = Watcher { bar: bar(options.training.steps, args.quiet), stop };
    let result = run(&mut watcher);
    watcher.bar.finish_and_clear();
    result.map_err(|e| match e {
        e @ (training::Error::Loss { .. } | training::Error::Gradient { .. } | training::Error::Objective { .. }) => {
            Failure::Work(e.to_string())
        }
        e => e.into(),
    })
}

/// A run that was interrupted has not done what was asked for, and can go on.
fn ended(outcome: &Outcome) -> Done {
    if outcome.finished {
        return Ok(());
    }
    print(&format!("stopped at step {}; continue with --resume", outcome.step))?;
    Err(Failure::Stopped)
}

/// Whether there is something to resume.
fn has_run(out: &Path) -> bool {
    out.join("checkpoint.safetensors").exists()
}

/// The weights that it begins with, unless it goes on.
fn beginning(args: &Train) -> Option<&Path> {
    args.weights.as_deref().filter(|_| !(args.resume && has_run(&folder(args))))
}

/// The weights that it begins with, for the metadata of those that it ends with.
fn weights(args: &Train) -> Option<(String, String)> {
    args.weights.as_ref().map(|path| ("jetc.weights".into(), path.display().to_string()))
}

/// Where the results go.
fn folder(args: &Train) -> PathBuf {
    let stem = args.source.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(stem))
}

fn options(args: &Train, loaded: &Loaded, out: &Path) -> Result<Options, Failure> {
    let mut training = loaded.program.training.clone().expect("checked by the caller");
    if let Some(steps) = args.steps {
        training.steps = steps;
    }
    let mut options = Options::new(training, out);
    options.seed = args.seed;
    options.resume = args.resume;
    options.measure_every = loaded.program.reports.iter().filter_map(|r| r.every).min().or_else(|| {
        // the progress bar shows an error where it costs little to measure
        let numbers = |r: &crate::program::Report| r.points.saturating_mul(loaded.program.columns());
        let cheap = loaded.program.reports.iter().map(numbers).sum::<usize>() <= CHEAP;
        cheap.then_some((options.training.steps / MEASUREMENTS).max(1))
    });
    options.program = format!("{}{}", loaded.text, loaded.overrides);
    options.data =
        training::fingerprint(&loaded.program, &loaded.folder()).map_err(|e| Failure::Input(e.to_string()))?;
    if args.resume && !has_run(out) {
        note(&format!("note: there is no run in {} to resume: this begins one", out.display()));
    }
    Ok(options)
}

struct Watcher {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

fn bar(steps: usize, quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(10) };
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

impl Observer for Watcher {
    fn stops_exactly(&self) -> bool {
        false
    }

    fn resumed(&mut self, step: u64) {
        self.bar.println(format!("continuing at step {step}"));
    }

    fn progress(&mut self, p: &Progress<'_>) -> Flow {
        self.bar.set_position(p.step);
        if p.step.is_multiple_of(16) || p.step == p.steps {
            let error = p.measurements.iter().find_map(Measurement::headline);
            let error = error.map_or(String::new(), |e| format!("  error {e:.2e}"));
            let rate = self.bar.per_sec();
            self.bar.set_message(format!("loss {:.3e}{error}  {rate:.0}/s  {:.0} s left", p.loss, p.remaining));
        }
        if self.stop.load(Ordering::SeqCst) { Flow::Stop } else { Flow::Continue }
    }
}

fn summary(outcome: &Outcome, out: &Path) -> Done {
    for m in &outcome.measurements {
        print(&measurement_line(m))?;
    }
    let rate = outcome.steps_per_second.map_or(String::new(), |r| format!(", {r:.1} steps/s"));
    print(&format!("{} steps in {:.1} s{rate}; results in {}", outcome.step, outcome.seconds, out.display()))
}

fn measurement_line(m: &Measurement) -> String {
    let mut line = m.label.clone();
    if let Some(v) = m.value {
        line += &format!(" = {v:.6}");
    }
    if let (Some(v), Some(r)) = (m.value, m.reference) {
        line += &format!(" (reference {r}, relative difference {:.2e})", ((v - r) / r).abs());
    }
    if let Some(e) = m.l2_relative {
        line += &format!(": relative L2 {e:.3e}");
    }
    if let Some(e) = m.l1_relative {
        line += &format!(", L1 {e:.3e}");
    }
    if let Some(r) = &m.rollout {
        line += &format!(", {} evaluations, stiffness {:.2}", r.evaluations, r.stiffness);
        if let Some(t) = r.left_at {
            line += &format!("; left the finite numbers, or its steps became too small, about time {t:.6}");
        }
    }
    if let Some(e) = m.best_constant {
        line += &format!("; best constant network {e:.3e}");
    }
    line
}

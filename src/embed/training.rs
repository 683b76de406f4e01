//! The loop of `jetc train`, for programs that embed it.

use super::compiled::check_tensors;
use super::flow_map::Shared;
use super::kernels::Opened;
use super::{Compiled, Error, FlowMap, Solver};
use crate::cpu::Number;
use crate::net::{Metadata, Parameters};
use crate::program::Program;
use crate::solver::flow::{FlowObjective, metadata};
use crate::solver::{DeviceStepper, SolverObjective};
use crate::train::{self, Observer, Options, Outcome};
use std::path::{Path, PathBuf};

/// How to train. The defaults: the steps of the file, seed 0, nothing is written.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, TrainOptions, train::Silent};
/// # let compiled = Compiled::from_text("space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsample interior = 8\ntrain adam(lr = 1e-2), steps = 20\n")?;
/// let options = TrainOptions { steps: Some(3), seed: 1, ..TrainOptions::default() };
/// assert_eq!(compiled.train::<f32>(&options, &mut Silent)?.outcome.step, 3);
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TrainOptions {
    /// Steps, instead of those of the file.
    pub steps: Option<usize>,
    /// Of all random numbers.
    pub seed: u64,
    /// Steps between measurements of the reports; none: at the end only.
    pub measure_every: Option<usize>,
    /// Folder for checkpoint, history, report and artifact; none: nothing is written.
    pub out: Option<PathBuf>,
    /// Continue the run in that folder.
    pub resume: bool,
}

/// A trained solver, and how it was trained.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, TrainOptions, train::Silent};
/// # let compiled = Compiled::from_text("space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsample interior = 8\ntrain adam(lr = 1e-2), steps = 20\n")?;
/// let trained = compiled.train::<f64>(&TrainOptions::default(), &mut Silent)?;
/// assert!(trained.outcome.finished);
/// println!("u(0.5) = {}", trained.solver.at(&[0.5])?);
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trained<T> {
    /// The solver.
    pub solver: Solver<T>,
    /// Steps, losses, measurements, history.
    pub outcome: Outcome,
}

/// A trained flow's parameters, for the map that trained it, and how they were trained.
///
/// ```
/// use jetc::{Compiler, TrainOptions, ndarray::array, train::Silent};
///
/// let text = "state s\nparam a = 0 learn\ndata seen = \"seen.csv\"\nflow d_t(s) = a*s by rk4(step = 0.1)\n\
///             fit flow to seen, horizon = 1\ntrain adam(lr = 1e-1), steps = 300\n";
/// let rows = array![[0.0, 0.0, 1.0], [0.0, 1.0, 0.5], [0.0, 2.0, 0.25]];
/// let flow = Compiler::new().data("seen", ["run", "t", "s"], rows).flow::<f64>(text)?;
/// let trained = flow.train(&TrainOptions::default(), &mut Silent)?;
/// let end = flow.advance(&trained.parameters, array![[1.0]].view(), 3.0)?;
/// assert!((end[[0, 0]] - 0.125).abs() < 1e-3);
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct TrainedFlow<T> {
    /// The tensors.
    pub parameters: Parameters<T>,
    /// Steps, losses, measurements, history.
    pub outcome: Outcome,
}

impl TrainOptions {
    /// How a program is trained on a device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a `train` statement.
    fn run(
        &self,
        (name, folder): (&str, &Path),
        program: &Program,
        metadata: Metadata,
        device: &Opened,
    ) -> Result<Options, Error> {
        let Some(mut training) = program.training.clone() else {
            return Err(Error::Unsupported(format!(
                "{name}: there is no `train` statement; add `train adam(lr = 1e-3), steps = 3000`"
            )));
        };
        training.steps = self.steps.unwrap_or(training.steps);
        let text = |key: &str| metadata.get(key).map_or("", String::as_str);
        Ok(Options {
            out: self.out.clone(),
            seed: self.seed,
            resume: self.resume,
            measure_every: self.measure_every,
            program: format!("{}{}", text("jetc.program"), text("jetc.overrides")),
            data: match self.out {
                Some(_) => train::fingerprint(program, folder).map_err(failed)?,
                None => None,
            },
            metadata,
            device: device.to_string(),
            ..Options::new(training, "")
        })
    }
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Training(error.into())
}

impl<T: Number> FlowMap<T> {
    /// Trains from initial parameters, as [`Compiled::train`] does.
    ///
    /// # Errors
    /// [`Error::Missing`] and [`Error::Shape`] for tensors; [`Error::Unsupported`] without `fit` or `train`; [`Error::Training`] where data cannot be read, a trajectory leaves the finite
    /// numbers, or a result cannot be written.
    pub fn train(&self, options: &TrainOptions, observer: &mut dyn Observer) -> Result<TrainedFlow<T>, Error> {
        self.train_from(self.parameters(options.seed), options, observer)
    }

    /// The same from given parameters.
    ///
    /// # Errors
    /// As [`FlowMap::train`].
    pub fn train_from(
        &self,
        mut parameters: Parameters<T>,
        options: &TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<TrainedFlow<T>, Error> {
        let Shared { name, text, folder, overrides, program, plan, device, specs, .. } = &*self.shared;
        check_tensors(specs, &parameters)?;
        if program.fit.is_none() {
            return Err(Error::Unsupported(format!(
                "{name}: there is nothing to train the flow on; add `fit flow to DATA, horizon = 1`"
            )));
        }
        let run = options.run((name, folder), program, metadata(plan, text, overrides), device)?;
        let (batch, seed) = (run.training.batch, options.seed);
        let objective = FlowObjective::new(program, plan.clone(), &parameters, folder, batch, seed);
        let mut objective = objective.map_err(failed)?;
        let mut stepper = objective.stepper(device.device(), &parameters, &run.training).map_err(failed)?;
        let outcome = train::train_with(&mut *stepper, &mut parameters, &run, observer).map_err(failed)?;
        drop(stepper);
        Ok(TrainedFlow { parameters, outcome })
    }
}

impl Compiled {
    /// Trains from initial parameters. The observer, which may be a closure, sees every step and may stop.
    ///
    /// ```
    /// use jetc::{Compiled, TrainOptions, train::Flow};
    ///
    /// let compiled = Compiled::from_text(
    ///     "space x in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\n\
    ///      solve interior: lap(u) = 1\nsample interior = 32\ntrain adam(lr = 1e-2), steps = 50\n",
    /// )?;
    /// let mut losses = Vec::new();
    /// let trained = compiled.train::<f32>(&TrainOptions::default(), &mut |p: &jetc::train::Progress<'_>| {
    ///     losses.push(p.loss);
    ///     if p.step < 20 { Flow::Continue } else { Flow::Stop }
    /// })?;
    /// assert_eq!((losses.len(), trained.outcome.finished), (20, false));
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// A schedule of the caller's own is an observer's `rate`:
    ///
    /// ```
    /// use jetc::train::{Flow, Observer, Progress};
    ///
    /// struct Warm;
    /// impl Observer for Warm {
    ///     fn rate(&mut self, step: u64, planned: f64) -> f64 {
    ///         planned * (step as f64 / 100.0).min(1.0)
    ///     }
    ///     fn progress(&mut self, _: &Progress<'_>) -> Flow {
    ///         Flow::Continue
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] where there is nothing to train, or no `train` statement; [`Error::Training`] where data cannot be
    /// read, a loss is not finite, or a result cannot be written.
    pub fn train<T: Number>(&self, options: &TrainOptions, observer: &mut dyn Observer) -> Result<Trained<T>, Error> {
        self.train_from(self.parameters(options.seed), options, observer)
    }

    /// The same from given parameters.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, TrainOptions, train::Silent};
    /// # let compiled = Compiled::from_text("space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsample interior = 8\ntrain adam(lr = 1e-2), steps = 20\n")?;
    /// let options = TrainOptions { steps: Some(5), ..TrainOptions::default() };
    /// let first = compiled.train::<f64>(&options, &mut Silent)?;
    /// let next = compiled.train_from(first.solver.parameters().clone(), &options, &mut Silent)?;
    /// assert_ne!(first.solver.parameters(), next.solver.parameters());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiled::train`].
    pub fn train_from<T: Number>(
        &self,
        mut parameters: Parameters<T>,
        options: &TrainOptions,
        observer: &mut dyn Observer,
    ) -> Result<Trained<T>, Error> {
        if self.program.conditions.is_empty() {
            return Err(Error::Unsupported(format!("{}: there is no `solve` to train", self.name)));
        }
        let solver = self.solver(parameters.clone())?;
        let run = options.run((&self.name, &self.folder), &self.program, solver.metadata().clone(), &self.device)?;
        let (program, plan, place) = (&self.program, &self.plan, (&*self.folder, options.seed));
        let device = self.device.device();
        let outcome = if device.runs_modules() {
            let stepper = DeviceStepper::new(device, program, plan, &parameters, place, &run.training);
            train::train_with(&mut stepper.map_err(failed)?, &mut parameters, &run, observer)
        } else {
            let objective = SolverObjective::new(program, plan, &parameters, place.0, place.1);
            train::train(&mut objective.map_err(failed)?, &mut parameters, &run, observer)
        };
        let outcome = outcome.map_err(failed)?;
        let mut solver = solver;
        *solver.parameters_mut() = parameters;
        Ok(Trained { solver, outcome })
    }
}

//! The loop. It has steps made by a [`Stepper`] and does not know how.
//!
//! Step s (from 0) evaluates the objective at the current tensors and updates them; a row of the history with number s + 1
//! holds the losses of that evaluation and, where measured, the errors after the update. Everything that reaches the tensors
//! is a function of (program, seed, s): the clock decides only when checkpoints are written and progress is shown.

use super::adam::Moments;
use super::checkpoint::{self, Identity, State};
use super::history::{History, HistoryFile};
use super::lock::{Lock, lock};
use super::report::{self, Measurement};
use super::stepper::{Beginning, OnHost, Stepper, Stuck};
use super::types::{Error, Flow, Objective, Observer, Options, Outcome, Progress};
use crate::net::{Element, Parameters};
use crate::program::Learning;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// Seconds of work that are saved before a measurement.
const PITY: Duration = Duration::from_secs(2);

/// Trains `parameters` in place and writes `checkpoint.safetensors`, `history.csv`, `report.json` and
/// `solver.safetensors` into the folder. Stopping or failing leaves a checkpoint from which the run continues.
pub fn train<T: Element>(
    objective: &mut dyn Objective<T>,
    parameters: &mut Parameters<T>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    train_with(&mut OnHost::new(objective), parameters, options, observer)
}

/// The same, whatever makes the steps.
pub fn train_with<T: Element>(
    stepper: &mut dyn Stepper<T>,
    parameters: &mut Parameters<T>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    let (mut run, values, moments) = Run::start(stepper, parameters, options)?;
    if let Some(step) = run.resumed_from {
        observer.resumed(step);
    }
    let finished = run.begin(stepper, values, moments).and_then(|()| run.go(stepper, observer));
    // They are with the parameters or with the stepper, never with both: they may be most of the memory.
    run.give_back(stepper, parameters);
    let finished = finished?;
    run.finish(parameters, finished)
}

/// A run under way.
struct Run<'a> {
    options: &'a Options,
    identity: Identity,
    tensors: Vec<(String, Vec<usize>)>,
    /// The same with the shapes in which they are kept.
    kept: Vec<(String, Vec<usize>)>,
    /// Which tensors are kept as their logarithms.
    logarithmic: Vec<bool>,
    conditions: Vec<String>,
    state: State,
    /// Of the latest step.
    losses: Vec<f64>,
    measurements: Vec<Measurement>,
    file: Option<HistoryFile>,
    /// Step of the checkpoint on disk, when it was written, how long that took.
    saved: Option<u64>,
    /// Whether its history is that up to this step.
    saved_whole: bool,
    saved_at: Instant,
    save_cost: Duration,
    /// Seconds spent in steps in this session, and how many.
    stepping: Duration,
    stepped: u64,
    resumed_from: Option<u64>,
    /// No other run writes into the folder while this is open.
    _lock: Option<Lock>,
}

/// A run, and the tensors and moments that it begins with.
type Started<'a, T> = (Run<'a>, Vec<Vec<T>>, Moments<T>);

impl<'a> Run<'a> {
    fn start<T: Element>(
        stepper: &mut dyn Stepper<T>,
        parameters: &mut Parameters<T>,
        options: &'a Options,
    ) -> Result<Started<'a, T>, Error> {
        let tensors = stepper.tensors();
        let conditions = stepper.conditions();
        let identity = options.identity(stepper.arithmetic());
        let mut logarithmic = logarithmic(parameters, &tensors)?;
        logarithmic.iter_mut().for_each(|l| *l &= stepper.keeps_logarithms());
        if let Some(out) = &options.out {
            std::fs::create_dir_all(out).map_err(write_error(out))?;
        }
        let lock = options.out.as_deref().map(lock).transpose()?.flatten();
        let kept = as_kept(parameters, &tensors);
        let checkpoint = options.out.as_ref().map(|out| out.join("checkpoint.safetensors"));
        let checkpoint = checkpoint.filter(|path| options.resume && path.exists());
        let resume = checkpoint.is_some();
        let (state, values, moments) = match checkpoint {
            Some(path) => {
                let at: Vec<usize> = tensors.iter().filter_map(|t| parameters.position(&t.0)).collect();
                let mut values: Vec<Vec<T>> =
                    at.iter().map(|k| std::mem::take(&mut parameters.values_mut()[*k])).collect();
                let columns = columns(&conditions, &stepper.reports());
                match checkpoint::load(&path, &identity, (&kept, &columns), &mut values) {
                    Ok((state, moments)) => (state, values, moments),
                    Err(e) => {
                        at.into_iter().zip(values).for_each(|(k, v)| parameters.values_mut()[k] = v);
                        return Err(e.into());
                    }
                }
            }
            None => {
                let history = History::new(columns(&conditions, &stepper.reports()));
                let moments = Moments::zeros(tensors.iter().map(|t| t.1.iter().product()));
                (State { step: 0, history, seconds: 0.0 }, vec![], moments)
            }
        };
        let resumed_from = resume.then_some(state.step);
        let history = options.out.as_ref().map(|out| out.join("history.csv"));
        let file = match history.as_ref().map(|path| HistoryFile::start(path, &state.history)).transpose() {
            Ok(file) => file,
            Err(e) => {
                for ((name, _), values) in tensors.iter().zip(values) {
                    if let Some(at) = parameters.position(name) {
                        parameters.values_mut()[at] = values;
                    }
                }
                return Err(write_error(&history.unwrap_or_default())(e));
            }
        };
        let run = Run {
            losses: vec![0.0; conditions.len()],
            measurements: Vec::new(),
            saved: resumed_from,
            saved_whole: true,
            saved_at: Instant::now(),
            save_cost: Duration::ZERO,
            stepping: Duration::ZERO,
            stepped: 0,
            options,
            identity,
            tensors,
            kept,
            logarithmic,
            conditions,
            state,
            file,
            resumed_from,
            _lock: lock,
        };
        // Nothing can fail any more.
        let values = if resume { values } else { run.take(parameters) };
        Ok((run, values, moments))
    }

    /// Takes the values of the tensors out of the parameters.
    fn take<T: Element>(&self, parameters: &mut Parameters<T>) -> Vec<Vec<T>> {
        let mut taken = Vec::new();
        for ((name, _), is_log) in self.tensors.iter().zip(&self.logarithmic) {
            let at = parameters.position(name).expect("the tensors were found before");
            let mut values = std::mem::take(&mut parameters.values_mut()[at]);
            if *is_log {
                values.iter_mut().for_each(|x| *x = T::of(libm::log(x.f64())));
            }
            taken.push(values);
        }
        taken
    }

    fn begin<T: Element>(
        &self,
        stepper: &mut dyn Stepper<T>,
        values: Vec<Vec<T>>,
        moments: Moments<T>,
    ) -> Result<(), Error> {
        let (step, logarithmic, training) = (self.state.step, &self.logarithmic, &self.options.training);
        let begun = stepper.begin(Beginning { step, values, moments, logarithmic, training });
        begun.map_err(|source| Error::Objective { step, source })
    }

    /// Steps to the end, or until the observer stops; a checkpoint and the last measurement. True at the end.
    fn go<T: Element>(&mut self, stepper: &mut dyn Stepper<T>, observer: &mut dyn Observer) -> Result<bool, Error> {
        self.fill(stepper)?;
        let finished = self.steps(stepper, observer)?;
        // first of all: to measure may take long
        if self.saved != Some(self.state.step) || !self.saved_whole {
            self.save(stepper)?;
        }
        if self.measurements.is_empty() {
            self.measure(stepper)?;
        }
        Ok(finished)
    }

    /// Measures what a run that was killed while it measured has not got.
    fn fill<T: Element>(&mut self, stepper: &mut dyn Stepper<T>) -> Result<(), Error> {
        let step = self.state.step;
        let cells = 3 + self.conditions.len()..self.state.history.columns.len().saturating_sub(1);
        let row = self.state.history.rows.last().filter(|row| row[0] == step as f64);
        let is_missing = row.is_some_and(|row| row[cells.clone()].iter().all(|x| x.is_nan()));
        if self.resumed_from.is_none() || cells.is_empty() || !is_missing || !self.is_measured(step) {
            return Ok(());
        }
        self.measure(stepper)?;
        let found: Vec<f64> = self.measurements.iter().map(|m| m.headline().unwrap_or(f64::NAN)).collect();
        if let Some(row) = self.state.history.rows.last_mut() {
            row[cells].iter_mut().zip(found).for_each(|(cell, x)| *cell = x);
        }
        self.saved_whole = false;
        if let Some(out) = &self.options.out {
            let path = out.join("history.csv");
            self.file = Some(HistoryFile::start(&path, &self.state.history).map_err(write_error(&path))?);
        }
        Ok(())
    }

    /// Gives the tensors back to the parameters.
    fn give_back<T: Element>(&self, stepper: &mut dyn Stepper<T>, parameters: &mut Parameters<T>) {
        for (((name, _), mut values), is_log) in self.tensors.iter().zip(stepper.end()).zip(&self.logarithmic) {
            if *is_log {
                values.iter_mut().for_each(|x| *x = T::of(libm::exp(x.f64())));
            }
            if let Some(at) = parameters.position(name) {
                parameters.values_mut()[at] = values;
            }
        }
    }

    /// Steps until the end or until the observer stops; true at the end.
    fn steps<T: Element>(&mut self, stepper: &mut dyn Stepper<T>, observer: &mut dyn Observer) -> Result<bool, Error> {
        let steps = self.options.training.steps as u64;
        let (began, before) = (Instant::now(), self.state.seconds);
        let mut losses = Vec::new();
        while self.state.step < steps {
            let first = self.state.step;
            let rates: Vec<f64> = (first..first + self.at_once(stepper, observer.stops_exactly()))
                .map(|step| observer.rate(step, self.options.training.rate_at(step)))
                .collect();
            let started = Instant::now();
            losses.clear();
            let made = stepper.run(&rates, &mut losses);
            self.stepping += started.elapsed();
            if let Err(Stuck::Failed(source)) = made {
                return Err(Error::Objective { step: first, source });
            }
            let mut flow = Flow::Continue;
            let width = self.conditions.len().max(1);
            let last = (losses.len() / width).saturating_sub(1);
            let mut unwritten = None;
            for (n, (losses, rate)) in losses.chunks(width).zip(&rates).enumerate() {
                let step = self.state.step;
                self.losses.copy_from_slice(losses);
                self.state.step += 1;
                if let Some(i) = losses.iter().position(|loss| !loss.is_finite()) {
                    self.record(*rate, false)?;
                    let condition = self.conditions[i].clone();
                    return Err(Error::Loss { step, condition, loss: losses[i], checkpoint: self.saved });
                }
                if let (Err(Stuck::Gradient(k)), true) = (&made, n == last) {
                    return Err(Error::Gradient { step, tensor: self.tensors[*k].0.clone(), checkpoint: self.saved });
                }
                self.stepped += 1;
                let done = self.state.step;
                let measured = self.is_measured(done);
                if measured {
                    self.state.seconds = before + began.elapsed().as_secs_f64();
                    self.save_before(stepper, *rate)?;
                    self.measure(stepper)?;
                }
                self.state.seconds = before + began.elapsed().as_secs_f64();
                let recorded = measured || self.is_recorded(done);
                if recorded && let Err(e) = self.record(*rate, measured) {
                    self.file = None;
                    unwritten = Some(e);
                }
                let wanted = observer.progress(&Progress {
                    step: done,
                    steps,
                    loss: self.losses.iter().sum(),
                    conditions: &self.conditions,
                    losses: &self.losses,
                    measurements: &self.measurements,
                    rate: *rate,
                    seconds: self.state.seconds,
                    remaining: began.elapsed().as_secs_f64() / self.stepped as f64 * (steps - done) as f64,
                    recorded,
                });
                // steps that were made at once are all reported
                flow = if wanted == Flow::Stop { wanted } else { flow };
            }
            if let Some(e) = unwritten {
                // there may be room for a checkpoint
                let _ = self.save(stepper);
                return Err(e);
            }
            let is_last = self.state.step == steps;
            if flow == Flow::Stop && !is_last {
                return Ok(false);
            }
            // Writing takes at most a twentieth of the time.
            let wait = self.options.checkpoint_every.max(20 * self.save_cost);
            if !is_last && self.saved_at.elapsed() >= wait {
                self.save(stepper)?;
            }
        }
        Ok(true)
    }

    /// How many steps are made now: up to the next measurement, and so that the observer is asked often.
    fn at_once<T: Element>(&self, stepper: &dyn Stepper<T>, exactly: bool) -> u64 {
        const PAUSE: f64 = 0.1;
        let (step, steps) = (self.state.step, self.options.training.steps as u64);
        let most = stepper.at_once(exactly).min(steps - step).max(1);
        let quick = match self.stepped {
            // to know how long a step takes
            0 => 1,
            n => (PAUSE * n as f64 / self.stepping.as_secs_f64().max(1e-9)).clamp(1.0, most as f64) as u64,
        };
        let every = self.options.measure_every.map(|n| n.max(1) as u64);
        every.map_or(most, |n| most.min(n - step % n)).min(quick)
    }

    /// Whether the reports are measured after so many steps.
    fn is_measured(&self, done: u64) -> bool {
        let every = self.options.measure_every.is_some_and(|n| done.is_multiple_of(n.max(1) as u64));
        every || done == self.options.training.steps as u64
    }

    /// Whether there is a row of the history anyway.
    fn is_recorded(&self, done: u64) -> bool {
        let every = self.options.record_every.unwrap_or(self.options.training.steps / 1000).max(1) as u64;
        done == 1 || done.is_multiple_of(every)
    }

    fn measure<T: Element>(&mut self, stepper: &mut dyn Stepper<T>) -> Result<(), Error> {
        let result = stepper.measure();
        self.measurements = result.map_err(|source| Error::Objective { step: self.state.step, source })?;
        Ok(())
    }

    /// The row of the history for this step.
    fn row(&self, rate: f64, measured: bool) -> Vec<f64> {
        let mut row = vec![self.state.step as f64, self.losses.iter().sum()];
        row.extend_from_slice(&self.losses);
        row.push(rate);
        let errors = self.state.history.columns.len() - row.len() - 1;
        let headlines = self.measurements.iter().map(|m| m.headline().unwrap_or(f64::NAN));
        row.extend(headlines.filter(|_| measured).chain(std::iter::repeat(f64::NAN)).take(errors));
        row.push(self.state.seconds);
        row
    }

    fn record(&mut self, rate: f64, measured: bool) -> Result<(), Error> {
        let row = self.row(rate, measured);
        self.state.history.rows.push(row.clone());
        if let (Some(file), Some(out)) = (&mut self.file, &self.options.out) {
            file.push(&row).map_err(write_error(&out.join("history.csv")))?;
        }
        Ok(())
    }

    /// Saves before a measurement, which may take long, where it would be a pity; the history lacks what is measured then.
    fn save_before<T: Element>(&mut self, stepper: &mut dyn Stepper<T>, rate: f64) -> Result<(), Error> {
        if self.options.out.is_none() || self.saved_at.elapsed() < PITY.max(20 * self.save_cost) {
            return Ok(());
        }
        let row = self.row(rate, false);
        self.state.history.rows.push(row);
        let saved = self.save(stepper);
        self.state.history.rows.pop();
        self.saved_whole = false;
        saved
    }

    fn save<T: Element>(&mut self, stepper: &mut dyn Stepper<T>) -> Result<(), Error> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let started = Instant::now();
        let path = out.join("checkpoint.safetensors");
        let step = self.state.step;
        let (values, moments) = stepper.state().map_err(|source| Error::Objective { step, source })?;
        checkpoint::save(&path, &self.identity, &self.kept, &self.state, values, moments)?;
        (self.saved, self.saved_whole) = (Some(self.state.step), true);
        (self.saved_at, self.save_cost) = (Instant::now(), started.elapsed());
        Ok(())
    }

    /// Writes what remains.
    fn finish<T: Element>(self, parameters: &Parameters<T>, finished: bool) -> Result<Outcome, Error> {
        let loss = self.state.history.rows.last().map(|row| row[1]);
        let outcome = Outcome {
            step: self.state.step,
            finished,
            loss: if self.stepped > 0 { Some(self.losses.iter().sum()) } else { loss },
            measurements: self.measurements,
            history: self.state.history,
            seconds: self.state.seconds,
            steps_per_second: (self.stepped > 0).then(|| self.stepped as f64 / self.stepping.as_secs_f64()),
            resumed_from: self.resumed_from,
        };
        let Some(out) = &self.options.out else { return Ok(outcome) };
        let mut metadata = self.options.metadata.clone();
        metadata.insert("step".into(), outcome.step.to_string());
        metadata.insert("seed".into(), self.options.seed.to_string());
        parameters.save(&out.join("solver.safetensors"), &metadata)?;
        let path = out.join("report.json");
        let report = report::to_json(&outcome, &self.options.device, self.options.seed);
        report::write(&path, &report).map_err(write_error(&path))?;
        Ok(outcome)
    }
}

/// Columns of the history.
fn columns(conditions: &[String], reports: &[String]) -> Vec<String> {
    let named = ["step", "loss"].map(str::to_owned).into_iter();
    named
        .chain(conditions.iter().cloned())
        .chain(["lr".to_owned()])
        .chain(reports.iter().cloned())
        .chain(["seconds".to_owned()])
        .collect()
}

/// Which of the objective's tensors are learned in their logarithms; an error where one is missing, or not positive.
fn logarithmic<T: Element>(parameters: &Parameters<T>, tensors: &[(String, Vec<usize>)]) -> Result<Vec<bool>, Error> {
    let mut logarithmic = Vec::new();
    for (name, shape) in tensors {
        let found = parameters.position(name).filter(|at| parameters.specs()[*at].shape == *shape);
        let at =
            found.ok_or_else(|| Error::Parameters(format!("the parameters have no `{name}` of shape {shape:?}")))?;
        let is_log = parameters.specs()[at].learning == Learning::Log;
        let wrong = parameters.values()[at].iter().find(|x| is_log && **x <= T::zero());
        if let Some(x) = wrong {
            return Err(Error::Parameters(format!(
                "`{name}` is learned in its logarithm but its value is {}; give it a positive one",
                x.f64()
            )));
        }
        logarithmic.push(is_log);
    }
    Ok(logarithmic)
}

/// Names and shapes of tensors as their values are kept.
fn as_kept<T: Element>(parameters: &Parameters<T>, tensors: &[(String, Vec<usize>)]) -> Vec<(String, Vec<usize>)> {
    let mut kept = tensors.to_vec();
    for (name, shape) in &mut kept {
        if parameters.position(name).is_some_and(|at| parameters.specs()[at].is_turned()) {
            shape.reverse();
        }
    }
    kept
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Write { path: path.into(), source }
}

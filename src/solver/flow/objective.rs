//! What training minimises for a flow: predictions over windows of the data, and the gradient of the discrete steps.
//!
//! loss = mean over windows, rows and components of (prediction - data)^2, or the mean of the loss of `fit`,
//!      + remainder_weight times the mean absolute error estimate of all steps.
//!
//! With `midpoint_every = K` the midpoint (or correction) learns nothing from the data: at every K-th step it is fitted to an
//! accurate solver on the first interval of the same windows, by the mean absolute difference, and it rests in between.

use super::chained::Stepping;
use super::control::Stopped;
use super::deal::{Batch, Deal};
use super::rollout::Roll;
use super::runner::{Group, Interval, Runner, cast, pull, sign};
use super::tape::{Pace, Tape, Trail};
use super::trajectories::Trajectories;
use crate::cpu::{CHUNKS, Random};
use crate::cuda::{Device, arithmetic};
use crate::diagnostic::Diagnostic;
use crate::jet::{JetProgram, summed};
use crate::net::{Parameters, TensorSpec};
use crate::plan::{FlowPlan, FlowWindow, plan_window};
use crate::pool::{Ahead, each};
use crate::program::{Fit, Program, ReportKind, Training};
use crate::solver::measure::Meter;
use crate::solver::objective::{all, load_data};
use crate::solver::placed::Placed;
use crate::solver::{DeviceStepper, Error, Evaluator, Measure, Number, Tensors, Trained};
use crate::train::{Measurement, Objective, ObjectiveError, OnHost, Sampler, Stepper, Table};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Windows per step where the program names no `batch`.
const BATCH: usize = 256;

/// What `train` minimises for the flow of a program.
pub struct FlowObjective<T> {
    program: Program,
    runner: Runner<T>,
    fit: Fit,
    deal: Arc<Deal>,
    /// The vector-Jacobian product of the loss at a row, where it is not the mean square.
    loss: Option<Placed<T>>,
    /// Whole windows, where they are short.
    window: Option<Window<T>>,
    specs: Vec<TensorSpec>,
    fixed: Vec<Vec<T>>,
    learned: Vec<usize>,
    /// A step of an accurate solver, where the midpoint is fitted to one.
    accurate: Option<Stepping<T>>,
    /// By learned tensor: whether it belongs to the midpoint or correction alone.
    is_midpoint: Vec<bool>,
    meters: Vec<Report<T>>,
}

/// A window as one program, and what it needs.
struct Window<T> {
    plan: FlowWindow,
    evaluator: Placed<T>,
    /// The windows of the step that is taken.
    now: Batch<T>,
    /// Those of the one after.
    next: Option<Ahead<Batch<T>>>,
    outputs: Vec<Vec<T>>,
    gradients: Vec<Vec<T>>,
}

enum Report<T> {
    Plain(Box<Meter<T>>),
    Rollout(Box<Roll>),
}

/// What is learned of a step, by learned tensor.
struct Sums<'a, T> {
    names: Vec<&'a str>,
    gradients: &'a mut [Vec<T>],
    /// What gradients are multiplied with.
    share: T,
}

/// A group of windows on its way: forward over all rows of the horizon, and back.
struct Journey<T> {
    /// By row of the horizon.
    trails: Vec<Trail<T>>,
    /// By row: cotangents of the states there, [windows, n].
    bars: Vec<Vec<f64>>,
    /// Sum over the windows.
    loss: f64,
    /// Of the right side, at all windows together.
    evaluations: usize,
    /// By learned tensor.
    gradients: Vec<Vec<T>>,
}

/// How many rows a group came, and what ended its way.
type Halt = (usize, Stopped);

impl<T: Number> Window<T> {
    fn new(plan: FlowWindow) -> Result<Self, Error> {
        let evaluator = Evaluator::new(&summed(plan.program.clone()))?;
        let (outputs, gradients) = evaluator.buffers();
        let (evaluator, now) = (Placed::Here(evaluator.into()), Batch::default());
        Ok(Window { plan, evaluator, now, next: None, outputs, gradients })
    }

    /// Inputs and steps of an interval.
    fn interval(&self) -> (usize, usize) {
        (self.plan.interval - 1, self.plan.steps)
    }
}

impl<T: Number> Sums<'_, T> {
    fn add(&mut self, name: &str, gradient: &[T], takes: impl Fn(usize) -> bool) {
        if let Some(k) = self.names.iter().position(|n| *n == name).filter(|k| takes(*k)) {
            self.gradients[k].iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g * self.share);
        }
    }

    fn add_all(&mut self, gradients: Vec<Vec<T>>) {
        for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
}

impl<T: Number> FlowObjective<T> {
    /// Compiles a plan and loads data; `batch` windows per step. `parameters` give the tensors that are not learned.
    ///
    /// # Errors
    /// Where data is missing or damaged, or no run is as long as the horizon.
    pub fn new(
        program: &Program,
        plan: FlowPlan,
        parameters: &Parameters<T>,
        folder: &Path,
        batch: Option<usize>,
        seed: u64,
    ) -> Result<Self, Error> {
        let tables = load_data(program, folder)?;
        let fit = program.fit.clone().ok_or_else(|| Error::Tensor("fit".into()))?;
        let data = Trajectories::new(program, fit.data, &tables[fit.data.index()], folder)?;
        let windows = data.windows(fit.horizon);
        if windows.is_empty() {
            let set = &program.data[fit.data.index()];
            let rows = fit.horizon + 1;
            let reason = format!("no run has {rows} rows, which a horizon of {} needs", fit.horizon);
            return Err(crate::train::DataError::Format { file: set.place(folder), reason }.into());
        }
        let specs = parameters.specs().to_vec();
        let learned: Vec<usize> = (0..specs.len()).filter(|k| specs[*k].is_learned()).collect();
        let reads = |program: &JetProgram, name: &str| program.tensors.iter().any(|t| t.name == name);
        let is_midpoint = learned.iter().map(|k| {
            let name = &specs[*k].name;
            plan.learned.as_ref().is_some_and(|l| reads(l, name)) && !reads(&plan.field, name)
        });
        let is_midpoint: Vec<bool> = is_midpoint.collect();
        let rows = windows.iter().flat_map(|w| *w..*w + fit.horizon);
        let longest = rows.map(|row| data.interval(row)).fold(0.0, f64::max);
        let runner = Runner::new(program, plan.clone())?;
        let names: Vec<&str> = learned.iter().map(|k| specs[*k].name.as_str()).collect();
        let takes = |name: &str| {
            let known = names.iter().position(|n| *n == name);
            known.is_some_and(|k| !(fit.midpoint_every.is_some() && is_midpoint[k]))
        };
        let window = match runner.steps(longest).map(|steps| plan_window(program, steps, &takes)).transpose() {
            Ok(Some(Some(window))) => Some(Window::new(window)?),
            Ok(_) => None,
            // the flow was planned before
            Err(e) => return Err(Error::Tensor(e.message)),
        };
        let batch = batch.unwrap_or(BATCH).min(windows.len());
        if let (None, Some(steps)) = (&window, runner.steps(longest)) {
            // points, data and estimates of each step are kept for the way back: of all windows, or of those that are under way
            let numbers = (plan.step.columns + plan.step.data_columns + plan.state.1) as f64;
            let kept = if fit.remainder_weight > 0.0 { batch } else { batch.min(Runner::<T>::UNDER_WAY) };
            let bytes = steps as f64 * fit.horizon as f64 * kept as f64 * numbers * size_of::<T>() as f64;
            if bytes > isize::MAX as f64 || Vec::<u8>::new().try_reserve_exact(bytes as usize).is_err() {
                let message = format!(
                    "{steps:.0e} steps from a row of the data to the next, {} rows and {batch} windows need {:.0e} GB of memory, more than there is",
                    fit.horizon,
                    bytes / 1e9
                );
                return Err(Diagnostic::error(fit.span, message).into());
            }
        }
        let here = |program: Result<Evaluator<T>, Error>| Ok::<_, Error>(Placed::Here(program?.into()));
        let accurate = plan.accurate.as_ref().map(|(step, chain)| Stepping::here(step, chain.as_ref())).transpose()?;
        let loss = plan.loss.as_ref().map(|(_, adjoint)| here(Evaluator::alone(adjoint))).transpose()?;
        let mut meters = Vec::new();
        for (k, report) in program.reports.iter().enumerate() {
            meters.push(match report.kind {
                ReportKind::Rollout { data } => {
                    let rows = Trajectories::new(program, data, &tables[data.index()], folder)?;
                    Report::Rollout(Box::new(Roll { label: report.label.clone(), rows, most: report.points }))
                }
                _ => Report::Plain(Box::new(Meter::new(program, k, report, &tables, seed)?)),
            });
        }
        let fixed = specs.iter().zip(parameters.values());
        let fixed = fixed.map(|(s, v)| if s.is_learned() { vec![] } else { v.clone() }).collect();
        let compared = if fit.loss.is_some() { None } else { Some(runner.plan.state) };
        let deal = Arc::new(Deal { data, windows, batch, seed, horizon: fit.horizon, compared });
        let program = program.clone();
        Ok(FlowObjective {
            program,
            runner,
            window,
            deal,
            fit,
            loss,
            specs,
            fixed,
            learned,
            accurate,
            is_midpoint,
            meters,
        })
    }

    /// What trains the flow on a device: one module where [`FlowObjective::condition`] is all of a step, else this with all programs
    /// there, and Adam here.
    ///
    /// # Errors
    /// Where a module cannot be compiled, or does not fit.
    pub fn stepper<'a>(
        &'a mut self,
        device: &Device,
        parameters: &Parameters<T>,
        training: &Training,
    ) -> Result<Box<dyn Stepper<T> + 'a>, Error> {
        let condition = if device.runs_modules() { self.condition() } else { None };
        if let Some(condition) = condition {
            let seed = self.deal.seed;
            let reports = (self.reports(), self.measures());
            let stepper = DeviceStepper::on(device, vec![condition], parameters, (training, seed), reports)?;
            return Ok(Box::new(stepper));
        }
        self.place(device)?;
        Ok(Box::new(OnHost::new(self)))
    }

    /// Puts all programs on a device, if it runs modules. For what [`FlowObjective::condition`] says no to.
    ///
    /// # Errors
    /// Where a program breaks a rule of the representation: a defect of the compiler.
    pub fn place(&mut self, device: &Device) -> Result<(), Error> {
        if !device.runs_modules() {
            return Ok(());
        }
        let plan = self.runner.plan.clone();
        let there = |program: &JetProgram, copied: usize| Placed::there(device, program, copied);
        self.accurate = plan.accurate.as_ref().map(|(step, _)| Stepping::there(device, step)).transpose()?;
        self.loss = plan.loss.as_ref().map(|(loss, adjoint)| there(adjoint, loss.data_columns)).transpose()?;
        if let Some(window) = &mut self.window {
            let program = &window.plan.program;
            window.evaluator = there(program, program.data_columns)?;
            (window.outputs, window.gradients) = window.evaluator.buffers();
        }
        self.runner = Runner::on(device, &self.program, plan)?;
        Ok(())
    }

    /// Takes steps one by one, as for windows that are too long for one program. The results are the same within rounding.
    pub fn step_by_step(mut self) -> Self {
        self.window = None;
        self
    }

    /// The first run of the data.
    pub fn first_run(&self) -> Trajectories {
        let mut rows = self.deal.data.clone();
        rows.runs.truncate(1);
        rows
    }

    /// Measures the reports.
    ///
    /// # Errors
    /// Where a measurement fails.
    pub fn reported(&mut self, tensors: &Tensors<'_, T>) -> Result<Vec<Measurement>, ObjectiveError> {
        let mut out = Vec::new();
        for m in &mut self.meters {
            out.push(match m {
                Report::Plain(m) => m.measure(tensors)?,
                Report::Rollout(roll) => roll.measure(&self.runner, tensors, self.deal.seed)?,
            });
        }
        Ok(out)
    }

    /// The same, for a device that trains.
    pub fn measures(&mut self) -> Measure<'_, T> {
        Box::new(|tensors| self.reported(tensors))
    }

    /// The runner, which counts evaluations.
    pub fn runner(&self) -> &Runner<T> {
        &self.runner
    }

    /// Gradients to add to, by learned tensor.
    fn zeros(&self) -> Vec<Vec<T>> {
        self.learned.iter().map(|k| vec![T::of(0.0); self.specs[*k].len()]).collect()
    }

    fn gather(&self, rows: &[usize], offset: usize) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let mut points = Vec::with_capacity(rows.len() * self.deal.data.columns);
        rows.iter().for_each(|r| points.extend_from_slice(self.deal.data.point(r + offset)));
        let mut inputs = Vec::new();
        if self.runner.plan.inputs.is_some() {
            rows.iter().for_each(|r| inputs.extend_from_slice(self.deal.data.values(r + offset)));
        }
        let lengths = rows.iter().map(|r| self.deal.data.interval(r + offset)).collect();
        (points, inputs, lengths)
    }

    /// The loss at one row of the windows, of predictions `points`: its sum, and cotangents of the points, [count, columns],
    /// whose mean over points is the gradient's.
    fn row_loss(
        &self,
        tensors: &Tensors<'_, T>,
        points: &[f64],
        rows: &[usize],
        offset: usize,
        sums: &mut Sums<'_, T>,
    ) -> Result<(f64, Vec<f64>), Error> {
        let (first, n) = self.runner.plan.state;
        let columns = self.deal.data.columns;
        let horizon = self.fit.horizon as f64;
        let mut sum = 0.0;
        let Some(adjoint) = &self.loss else {
            let scale = 1.0 / (horizon * n as f64);
            let mut bars = vec![0.0; points.len()];
            for ((p, bar), row) in points.chunks(columns).zip(bars.chunks_mut(columns)).zip(rows) {
                let exact = self.deal.data.point(row + offset);
                for k in first..first + n {
                    sum += scale * (p[k] - exact[k]).powi(2);
                    bar[k] = 2.0 * scale * (p[k] - exact[k]);
                }
            }
            return Ok((sum, bars));
        };
        let mut data: Vec<T> = Vec::new();
        for row in rows {
            data.extend(self.deal.data.values(row + offset).iter().map(|x| T::of(*x)));
            data.push(T::of(1.0 / horizon));
        }
        let points: Vec<T> = cast(points);
        let take = &mut |name: &str, g: &[T]| sums.add(name, g, |_| true);
        let (values, bars) = pull(adjoint, tensors, &points, &data, (self.deal.seed, 0), take)?;
        sum += values.iter().sum::<f64>() / horizon;
        Ok((sum, bars))
    }

    /// A condition that is all of a training step, for a module that trains by itself; none where steps are of lengths of their own,
    /// windows too long for one program, or a midpoint is fitted to an accurate solver.
    pub fn condition(&self) -> Option<Trained<'static>> {
        let window = self.window.as_ref().filter(|_| self.fit.midpoint_every.is_none())?;
        let Deal { windows, batch, seed, .. } = &*self.deal;
        let mut table = Table { rows: windows.len(), ..Table::default() };
        self.deal.gather(window.interval(), windows, |x| x, (&mut table.points, &mut table.values));
        let sampler = Sampler::rows(&self.program, Arc::new(table), *batch, *seed);
        Some(Trained { name: "data".into(), program: Cow::Owned(window.plan.program.clone()), sampler })
    }

    /// The loss and its gradient by the program of windows. None where a number is not finite: steps taken one by one say when.
    fn evaluate_window(
        &self,
        window: &mut Window<T>,
        step: u64,
        tensors: &Tensors<'_, T>,
        sums: &mut Sums<'_, T>,
    ) -> Result<Option<[f64; 2]>, ObjectiveError> {
        let (interval, seed) = (window.interval(), self.deal.seed);
        let Window { evaluator, now, next, outputs, gradients, .. } = window;
        let before = std::mem::replace(now, next.take().and_then(Ahead::end).unwrap_or_default());
        if now.step != Some(step) {
            *now = self.deal.batch(interval, step, std::mem::take(now));
        }
        let rows = &now.rows;
        let call = (rows.len(), now.points.as_slice(), now.data.as_slice());
        let deal = self.deal.clone();
        *next = Some(Ahead::begin(move || deal.batch(interval, step + 1, before)));
        evaluator.run(tensors, call, ((seed, step).into(), &[]), outputs, gradients)?;
        let mut found = [0.0; 2];
        for parts in window.outputs[0].chunks(2) {
            found.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part.f64() / rows.len() as f64);
        }
        if !found.iter().all(|x| x.is_finite()) {
            return Ok(None);
        }
        let program = window.evaluator.program();
        for ((tensor, _), gradient) in program.gradients.iter().zip(&window.gradients) {
            sums.add(&program.tensors[tensor.index()].name, gradient, |_| true);
        }
        self.runner.count(window.plan.evaluations);
        if self.fit.midpoint_every.is_some_and(|every| step.is_multiple_of(every as u64)) {
            self.fit_midpoint(rows, tensors, sums, (seed, step))?;
        }
        Ok(Some(found))
    }

    /// The loss and its gradient, step by step. A group of windows goes its way and back by itself, so that what it keeps stays in a
    /// cache; only where the estimates of all steps are weighed it waits for the others before it goes back.
    fn evaluate(
        &self,
        step: u64,
        tensors: &Tensors<'_, T>,
        sums: &mut Sums<'_, T>,
    ) -> Result<[f64; 2], ObjectiveError> {
        let rows = self.deal.rows(step);
        let (count, random) = (rows.len(), (self.deal.seed, step));
        let groups = self.runner.groups(count);
        let longest = |j| rows.iter().map(|r| self.deal.data.interval(r + j)).fold(0.0, f64::max);
        let longest: Vec<f64> = (0..self.fit.horizon).map(longest).collect();
        let weighs = self.fit.remainder_weight > 0.0;
        let go = |windows: &Range<usize>| {
            let mut way = self.there(tensors, (&rows, &longest), (windows.clone(), groups.len()), random)?;
            if let (Ok(way), false) = (&mut way, weighs) {
                self.back(tensors, way, count, (0.0, random))?;
            }
            Ok::<_, Error>(way)
        };
        let mut ways = Vec::with_capacity(groups.len());
        let mut halted: Option<Halt> = None;
        // few enough that their gradients have room
        for groups in groups.chunks(CHUNKS) {
            for way in each(groups.iter().collect(), go) {
                match way? {
                    Ok(mut way) => {
                        sums.add_all(std::mem::take(&mut way.gradients));
                        ways.push(way);
                    }
                    Err(halt) => {
                        // the one that came least far
                        let is_first = |(j, why): &Halt| (halt.0, halt.1.place().0) < (*j, why.place().0);
                        halted = Some(halted.filter(|old| !is_first(old)).unwrap_or(halt));
                    }
                }
            }
        }
        if let Some((j, why)) = halted {
            return Err(self.stopped(why, &rows, j));
        }
        let mut remainder = 0.0;
        if weighs {
            let trails = || ways.iter().flat_map(|way| &way.trails);
            let steps = trails().map(Trail::steps).sum::<usize>() as f64 / count as f64;
            let weight = self.fit.remainder_weight / (steps * self.runner.plan.state.1 as f64);
            remainder = trails().map(Trail::remainder).sum::<f64>() * weight / count as f64;
            for ways in ways.chunks_mut(CHUNKS) {
                let back = |way: &mut Journey<T>| {
                    self.back(tensors, way, count, (weight, random))?;
                    Ok::<_, Error>(std::mem::take(&mut way.gradients))
                };
                for gradients in each(ways.iter_mut().collect(), back) {
                    sums.add_all(gradients?);
                }
            }
        }
        let evaluations = ways.iter().map(|way| way.evaluations).sum::<usize>();
        self.runner.count(evaluations.div_ceil(count.max(1)));
        if self.fit.midpoint_every.is_some_and(|every| step.is_multiple_of(every as u64)) {
            self.fit_midpoint(&rows, tensors, sums, random)?;
        }
        Ok([ways.iter().map(|way| way.loss).sum::<f64>() / count as f64, remainder])
    }

    /// A group of windows, one of so many, over the horizon. `rows` are the first of all windows, `longest` the longest interval to each
    /// row behind them.
    fn there(
        &self,
        tensors: &Tensors<'_, T>,
        (rows, longest): (&[usize], &[f64]),
        (windows, groups): (Range<usize>, usize),
        (seed, step): (u64, u64),
    ) -> Result<Result<Journey<T>, Halt>, Error> {
        let own = &rows[windows.clone()];
        let mut gradients = self.zeros();
        let share = T::of(own.len() as f64 / rows.len() as f64);
        let mut sums = Sums { names: names(&self.learned, &self.specs), gradients: &mut gradients, share };
        let (mut points, ..) = self.gather(own, 0);
        let (mut trails, mut bars, mut loss, mut evaluations) = (Vec::new(), Vec::new(), 0.0, 0);
        for (j, longest) in longest.iter().enumerate() {
            let (_, inputs, lengths) = self.gather(own, j);
            let mut group = Group {
                points: &mut points,
                interval: Interval { inputs: &inputs, lengths: &lengths },
                kept: Some(Trail::one_of(groups * self.fit.horizon, windows.clone())),
                random: Random { seed, step, first: windows.start },
            };
            let (here, end) = self.runner.go(tensors, &mut group, *longest)?;
            trails.extend(group.kept);
            if let Err(why) = end {
                return Ok(Err((j, why.behind(windows.start))));
            }
            let (sum, bar) = self.row_loss(tensors, &points, own, j + 1, &mut sums)?;
            loss += sum;
            evaluations += here;
            bars.push(bar);
        }
        Ok(Ok(Journey { trails, bars, loss, evaluations, gradients }))
    }

    /// Takes a group back to its start; `count` windows are a mean. What it has kept is gone then.
    fn back(
        &self,
        tensors: &Tensors<'_, T>,
        way: &mut Journey<T>,
        count: usize,
        (weight, random): (f64, (u64, u64)),
    ) -> Result<(), Error> {
        if way.gradients.is_empty() {
            way.gradients = self.zeros();
        }
        let mut sums =
            Sums { names: names(&self.learned, &self.specs), gradients: &mut way.gradients, share: T::of(1.0) };
        // where the midpoint is fitted to a solver, the data say nothing to it
        let own = self.fit.midpoint_every.is_some();
        let mut cotangents = vec![0.0; way.bars.first().map_or(0, Vec::len)];
        for (bars, trail) in way.bars.iter().zip(std::mem::take(&mut way.trails)).rev() {
            cotangents.iter_mut().zip(bars).for_each(|(c, b)| *c += b);
            let take = &mut |name: &str, g: &[T]| sums.add(name, g, |k| !(own && self.is_midpoint[k]));
            self.runner.trail_back(tensors, trail, &mut cotangents, count, (weight, random), take)?;
        }
        Ok(())
    }

    /// The gradient of the mean absolute difference to an accurate solver, of the midpoint's tensors.
    fn fit_midpoint(
        &self,
        rows: &[usize],
        tensors: &Tensors<'_, T>,
        sums: &mut Sums<'_, T>,
        random: (u64, u64),
    ) -> Result<(), ObjectiveError> {
        let Some(accurate) = &self.accurate else { return Ok(()) };
        let (first, n) = self.runner.plan.state;
        let (start, inputs, lengths) = self.gather(rows, 0);
        // one step is compared: errors do not build up
        let longest = lengths.iter().copied().fold(0.0, f64::max);
        let steps = self.runner.steps(longest).unwrap_or(1) as f64;
        let lengths: Vec<f64> = lengths.iter().map(|l| l / steps).collect();
        let interval = Interval { inputs: &inputs, lengths: &lengths };
        let mut exact = start.clone();
        let tolerance = self.fit.midpoint_tolerance;
        let done = self.runner.accurate((accurate, tensors), &mut exact, interval, tolerance)?;
        done.map_err(|why| self.stopped(why, rows, 0))?;
        let (mut points, mut tape) = (start, Tape::of(Pace::Once));
        let done = self.runner.advance(tensors, &mut points, interval, Some(&mut tape), random)?;
        done.map_err(|why| self.stopped(why, rows, 0))?;
        let mut bars = vec![0.0; points.len()];
        let columns = self.deal.data.columns;
        for ((p, e), bar) in points.chunks(columns).zip(exact.chunks(columns)).zip(bars.chunks_mut(columns)) {
            (first..first + n).for_each(|c| bar[c] = sign(p[c] - e[c]) / n as f64);
        }
        let is_midpoint = &self.is_midpoint;
        let take = &mut |name: &str, g: &[T]| sums.add(name, g, |k| is_midpoint[k]);
        Ok(self.runner.back(tensors, tape, &mut bars, (0.0, random), take)?)
    }

    /// What ended an integration `offset` rows after the first of the windows, with its time.
    fn stopped(&self, why: Stopped, rows: &[usize], offset: usize) -> ObjectiveError {
        let (at, point) = why.place();
        let row = rows[point] + offset;
        let time = self.deal.data.times[row] + at * self.deal.data.interval(row);
        match why {
            Stopped::NotFinite { .. } => format!("a prediction is not finite about time {time:.6}").into(),
            Stopped::TooSmall { .. } => {
                format!("the steps became too small about time {time:.6}: the flow is stiff there").into()
            }
        }
    }
}

/// The names of tensors.
fn names<'a>(which: &[usize], specs: &'a [TensorSpec]) -> Vec<&'a str> {
    which.iter().map(|k| specs[*k].name.as_str()).collect()
}

impl<T: Number> Objective<T> for FlowObjective<T> {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        self.learned.iter().map(|k| (self.specs[*k].name.clone(), self.specs[*k].shape.clone())).collect()
    }

    fn conditions(&self) -> Vec<String> {
        let remainder = self.fit.remainder_weight > 0.0 && self.runner.plan.has_estimate;
        if remainder { vec!["data".into(), "remainder".into()] } else { vec!["data".into()] }
    }

    fn reports(&self) -> Vec<String> {
        let label = |m: &Report<T>| match m {
            Report::Plain(m) => m.label().to_string(),
            Report::Rollout(r) => r.label.clone(),
        };
        self.meters.iter().map(label).collect()
    }

    fn arithmetic(&self) -> Option<String> {
        self.runner.is_there().then(arithmetic::<T>)
    }

    fn step(
        &mut self,
        step: u64,
        tensors: &[Vec<T>],
        gradients: &mut [Vec<T>],
        losses: &mut [f64],
    ) -> Result<(), ObjectiveError> {
        for (g, t) in gradients.iter_mut().zip(tensors) {
            g.clear();
            g.resize(t.len(), T::of(0.0));
        }
        let mut sums = Sums { names: names(&self.learned, &self.specs), gradients, share: T::of(1.0) };
        let tensors = all(&self.specs, &self.fixed, &self.learned, tensors);
        let mut window = self.window.take();
        let found = window.as_mut().map(|w| self.evaluate_window(w, step, &tensors, &mut sums)).transpose();
        self.window = window;
        let found = match found?.flatten() {
            Some(found) => found,
            None => self.evaluate(step, &tensors, &mut sums)?,
        };
        losses.iter_mut().zip(found).for_each(|(loss, found)| *loss = found);
        Ok(())
    }

    fn rests(&self, step: u64, tensor: usize) -> bool {
        self.is_midpoint[tensor] && self.fit.midpoint_every.is_some_and(|every| !step.is_multiple_of(every as u64))
    }

    fn measure(&mut self, tensors: &[Vec<T>]) -> Result<Vec<Measurement>, ObjectiveError> {
        let (specs, fixed) = (std::mem::take(&mut self.specs), std::mem::take(&mut self.fixed));
        let found = self.reported(&all(&specs, &fixed, &self.learned.clone(), tensors));
        (self.specs, self.fixed) = (specs, fixed);
        found
    }
}

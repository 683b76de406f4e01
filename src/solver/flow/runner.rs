//! States over an interval, by the compiled step or with error control; and back, with gradients.

use super::dopri5::{Control, Stopped, integrate};
use crate::cpu::Points;
use crate::plan::FlowPlan;
use crate::program::{Flow, Integrator, Program};
use crate::solver::{Error, Evaluator, Number, Tensors};
use std::sync::atomic::{AtomicU64, Ordering};

/// A flow, compiled for this CPU.
pub struct Runner<T> {
    /// What runs.
    pub plan: FlowPlan,
    flow: Flow,
    step: Evaluator<T>,
    step_adjoint: Evaluator<T>,
    field: Evaluator<T>,
    field_adjoint: Evaluator<T>,
    evaluations: AtomicU64,
}

/// What many points do between two times.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Inputs, [count, plan's input columns], the same over the interval.
    pub inputs: &'a [f64],
    /// Its length for each point.
    pub lengths: &'a [f64],
}

/// What is kept of an interval for the way back.
#[derive(Clone, Debug, Default)]
pub struct Tape<T> {
    /// Points and data rows of each step.
    steps: Vec<(Vec<T>, Vec<T>)>,
    /// Signs of the error estimates of each step: [count, n].
    signs: Vec<Vec<f64>>,
    /// Sum of the absolute estimates.
    pub remainder: f64,
    /// The points at the end.
    end: Vec<f64>,
}

impl<T> Tape<T> {
    /// How many steps there were; 0 with error control.
    pub fn steps(&self) -> usize {
        self.steps.len()
    }
}

/// Gradients of the tensors that an adjoint has, by name.
pub type Gradients<'a, T> = dyn FnMut(&str, &[T]) + 'a;

impl<T: Number> Runner<T> {
    /// Compiles the programs of a plan.
    ///
    /// # Errors
    /// Where a program breaks a rule of the representation: a defect of the compiler.
    pub fn new(program: &Program, plan: FlowPlan) -> Result<Self, Error> {
        let flow = program.flow.clone().ok_or_else(|| Error::Tensor("flow".into()))?;
        Ok(Runner {
            step: Evaluator::new(&plan.step)?,
            step_adjoint: Evaluator::new(&plan.step_adjoint)?,
            field: Evaluator::new(&plan.field)?,
            field_adjoint: Evaluator::new(&plan.field_adjoint)?,
            evaluations: AtomicU64::new(0),
            flow,
            plan,
        })
    }

    /// The flow.
    pub(super) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Evaluations of the right side so far, of each trajectory.
    pub fn evaluations(&self) -> u64 {
        self.evaluations.load(Ordering::Relaxed)
    }
    pub(super) fn count(&self, evaluations: usize) {
        self.evaluations.fetch_add(evaluations as u64, Ordering::Relaxed);
    }

    /// How many equal steps an interval of this length has; none with error control.
    pub fn steps(&self, length: f64) -> Option<usize> {
        let step = self.flow.step?;
        Some(((length / step - 1e-6).ceil() as usize).max(1) * self.flow.substeps)
    }

    /// Moves points, [count, columns], over an interval. With a tape, steps are never chosen by `tolerance`.
    pub fn advance(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        tape: Option<&mut Tape<T>>,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        let longest = interval.lengths.iter().copied().fold(0.0, f64::max);
        let done = match (&self.flow.integrator, self.flow.tolerance, &tape) {
            (Integrator::Dopri5 { rtol, atol }, ..) => {
                let control = Control { rtol: *rtol, atol: *atol, first: 0.1 };
                let done = self.accurate(tensors, points, interval, control)?;
                if let Some(tape) = tape {
                    tape.end = points.to_vec();
                }
                return Ok(done);
            }
            (_, Some(tolerance), None) => self.controlled(tensors, points, interval, tolerance, random)?,
            _ => {
                let steps = self.steps(longest).unwrap_or(1);
                self.fixed(tensors, points, interval, steps, tape, random)?
            }
        };
        Ok(done)
    }

    /// One step of the flow's method over the whole interval.
    pub fn single(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        tape: &mut Tape<T>,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        self.fixed(tensors, points, interval, 1, Some(tape), random)
    }

    /// Dormand and Prince, whatever the method of the flow.
    pub fn accurate(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        mut control: Control,
    ) -> Result<Result<(), Stopped>, Error> {
        let (first, n) = self.plan.state;
        let count = interval.lengths.len();
        let start = points.to_vec();
        let mut y: Vec<f64> = self.states(points);
        let done = integrate(&mut y, n, &mut control, &mut |u, y| {
            let at = self.points(&start, y, interval, u);
            let f = self.slope(tensors, &at, interval)?;
            let slope = f.iter().enumerate().map(|(k, f)| f * interval.lengths[k / n]).collect();
            Ok::<_, Error>((slope, Vec::new()))
        })?;
        let columns = points.len() / count.max(1);
        for (p, y) in points.chunks_mut(columns).zip(y.chunks(n)) {
            p[first..first + n].copy_from_slice(y);
        }
        self.pass_time(points, interval, 1.0);
        Ok(done.map(|_| ()))
    }

    /// The right side at points: [count, n].
    pub fn slope(&self, tensors: &Tensors<'_, T>, points: &[f64], interval: Interval<'_>) -> Result<Vec<f64>, Error> {
        self.count(1);
        let data = self.data(interval, |_| 0.0);
        let (mut outputs, mut gradients) = self.field.buffers();
        let points: Vec<T> = cast(points);
        let inputs = (interval.lengths.len(), Points::Rows(&points), data.as_slice());
        self.field.run_streamed(tensors, inputs, (0, 0), &mut outputs, &mut gradients)?;
        Ok(outputs[0].iter().map(|x| x.f64()).collect())
    }

    fn states(&self, points: &[f64]) -> Vec<f64> {
        let (first, n) = self.plan.state;
        points.chunks(self.plan.step.columns).flat_map(|p| p[first..first + n].to_vec()).collect()
    }

    /// Points with these states, at a fraction of the interval from `start`.
    fn points(&self, start: &[f64], states: &[f64], interval: Interval<'_>, u: f64) -> Vec<f64> {
        let (first, n) = self.plan.state;
        let mut out = start.to_vec();
        for (p, s) in out.chunks_mut(self.plan.step.columns).zip(states.chunks(n)) {
            p[first..first + n].copy_from_slice(s);
        }
        self.pass_time(&mut out, interval, u);
        out
    }

    fn pass_time(&self, points: &mut [f64], interval: Interval<'_>, u: f64) {
        if let Some(time) = self.plan.time {
            let times = points.iter_mut().skip(time).step_by(self.plan.step.columns);
            times.zip(interval.lengths).for_each(|(t, length)| *t += u * length);
        }
    }

    fn data(&self, interval: Interval<'_>, h: impl Fn(f64) -> f64) -> Vec<T> {
        let width = self.plan.inputs.map_or(0, |(_, columns)| columns);
        let mut out = Vec::with_capacity((width + 1) * interval.lengths.len());
        for (k, length) in interval.lengths.iter().enumerate() {
            out.extend(interval.inputs[k * width..(k + 1) * width].iter().map(|x| T::of(*x)));
            out.push(T::of(h(*length)));
        }
        out
    }

    /// One step: the next states and the estimates, [count, n] each.
    fn one(&self, tensors: &Tensors<'_, T>, points: &[T], data: &[T], random: (u64, u64)) -> Result<Vec<T>, Error> {
        let (mut outputs, mut gradients) = self.step.buffers();
        let inputs = (data.len() / self.plan.step.data_columns, Points::Rows(points), data);
        self.step.run_streamed(tensors, inputs, random, &mut outputs, &mut gradients)?;
        self.count(self.plan.evaluations);
        Ok(outputs.swap_remove(0))
    }

    fn fixed(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        steps: usize,
        mut tape: Option<&mut Tape<T>>,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        let (first, n) = self.plan.state;
        let data = self.data(interval, |length| length / steps as f64);
        let width = self.step.width();
        for k in 0..steps {
            let at: Vec<T> = cast(points);
            let out = self.one(tensors, &at, &data, random)?;
            for (p, s) in points.chunks_mut(self.plan.step.columns).zip(out.chunks(width)) {
                p[first..first + n].iter_mut().zip(s).for_each(|(p, s)| *p = s.f64());
            }
            self.pass_time(points, interval, 1.0 / steps as f64);
            if let Some(tape) = tape.as_deref_mut() {
                let estimates = out.chunks(width).flat_map(|s| &s[n..]).map(|r| r.f64());
                let mut signs = Vec::new();
                for r in estimates {
                    tape.remainder += r.abs();
                    signs.push(if r > 0.0 {
                        1.0
                    } else if r < 0.0 {
                        -1.0
                    } else {
                        0.0
                    });
                }
                tape.signs.push(signs);
                tape.steps.push((at, data.clone()));
            }
            if !points.iter().all(|x| x.is_finite()) {
                return Ok(Err(Stopped::NotFinite { at: (k + 1) as f64 / steps as f64 }));
            }
        }
        Ok(Ok(()))
    }

    /// Steps by the error estimate, the same fraction of the interval for all points.
    fn controlled(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        tolerance: f64,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        let (first, n) = self.plan.state;
        let longest = interval.lengths.iter().copied().fold(0.0, f64::max);
        let most = (self.flow.step.unwrap_or(longest) / self.flow.substeps as f64 / longest).min(1.0);
        let (mut at, mut h) = (0.0, most);
        let width = self.step.width();
        while at < 1.0 - 1e-12 {
            h = f64::min(h, 1.0 - at);
            let here: Vec<T> = cast(points);
            let out = self.one(tensors, &here, &self.data(interval, |length| h * length), random)?;
            let mut worst = 0.0f64;
            for s in out.chunks(width) {
                for (s, r) in s[..n].iter().zip(&s[n..]) {
                    let ratio = r.f64().abs() / (tolerance * (1.0 + s.f64().abs()));
                    worst = if ratio.is_finite() { worst.max(ratio) } else { f64::INFINITY };
                }
            }
            if worst <= 1.0 {
                for (p, s) in points.chunks_mut(self.plan.step.columns).zip(out.chunks(width)) {
                    p[first..first + n].iter_mut().zip(s).for_each(|(p, s)| *p = s.f64());
                }
                self.pass_time(points, interval, h);
                at += h;
            }
            let factor = if worst == 0.0 { 5.0 } else { 0.9 * worst.powf(-1.0 / self.plan.exponent as f64) };
            h = (h * factor.clamp(0.2, 5.0)).min(most);
            if h < 1e-12 {
                let stopped = if worst.is_finite() { Stopped::TooSmall { at } } else { Stopped::NotFinite { at } };
                return Ok(Err(stopped));
            }
        }
        Ok(Ok(()))
    }

    /// From cotangents of the states at the end of an interval, [count, n], to those at its start. `weight` is that of every
    /// absolute estimate. Gradients are means over the points.
    pub fn back(
        &self,
        tensors: &Tensors<'_, T>,
        tape: &Tape<T>,
        interval: Interval<'_>,
        cotangents: &mut Vec<f64>,
        (weight, random): (f64, (u64, u64)),
        gradients: &mut Gradients<'_, T>,
    ) -> Result<Result<(), Stopped>, Error> {
        if let Integrator::Dopri5 { rtol, atol } = self.flow.integrator {
            let control = Control { rtol, atol, first: 0.1 };
            return self.adjoint(tensors, tape, interval, cotangents, control, gradients);
        }
        let n = self.plan.state.1;
        let own = self.plan.step.data_columns;
        for ((points, data), signs) in tape.steps.iter().zip(&tape.signs).rev() {
            let mut rows = Vec::with_capacity(data.len() * 3);
            for (k, (data, bar)) in data.chunks(own).zip(cotangents.chunks(n)).enumerate() {
                rows.extend_from_slice(data);
                rows.extend(bar.iter().map(|x| T::of(*x)));
                if self.plan.has_estimate {
                    rows.extend(signs[k * n..(k + 1) * n].iter().map(|s| T::of(weight * s)));
                }
            }
            let bars = pull(&self.step_adjoint, tensors, points, &rows, random, gradients)?;
            *cotangents = self.states(&bars.1);
        }
        Ok(Ok(()))
    }

    /// The adjoint equation, with the state integrated backwards beside it.
    fn adjoint(
        &self,
        tensors: &Tensors<'_, T>,
        tape: &Tape<T>,
        interval: Interval<'_>,
        cotangents: &mut Vec<f64>,
        mut control: Control,
        gradients: &mut Gradients<'_, T>,
    ) -> Result<Result<(), Stopped>, Error> {
        let n = self.plan.state.1;
        let states = self.states(&tape.end);
        let mut y: Vec<f64> = states.chunks(n).zip(cotangents.chunks(n)).flat_map(|(s, a)| [s, a].concat()).collect();
        let program = &self.plan.field_adjoint;
        let names: Vec<String> =
            program.gradients.iter().map(|(t, _)| program.tensors[t.index()].name.clone()).collect();
        let done = integrate(&mut y, 2 * n, &mut control, &mut |v, y| {
            let s: Vec<f64> = y.chunks(2 * n).flat_map(|y| y[..n].to_vec()).collect();
            let at = self.points(&tape.end, &s, interval, -v);
            let data = self.data(interval, |_| 0.0);
            let own = self.plan.field.data_columns;
            let mut rows: Vec<T> = Vec::new();
            for ((data, y), length) in data.chunks(own).zip(y.chunks(2 * n)).zip(interval.lengths) {
                rows.extend_from_slice(data);
                rows.extend(y[n..].iter().map(|a| T::of(a * length)));
            }
            self.count(1);
            let mut carried = Vec::new();
            let points: Vec<T> = cast(&at);
            let keep = &mut |_: &str, g: &[T]| carried.push(g.iter().map(|x| x.f64()).collect());
            let (f, bars) = pull(&self.field_adjoint, tensors, &points, &rows, (0, 0), keep)?;
            let mut slope = Vec::with_capacity(y.len());
            for ((f, bar), length) in f.chunks(n).zip(self.states(&bars).chunks(n)).zip(interval.lengths) {
                slope.extend(f.iter().map(|f| -f * length));
                slope.extend(bar);
            }
            Ok::<_, Error>((slope, carried))
        })?;
        Ok(done.map(|sums| {
            for (name, sum) in names.iter().zip(sums) {
                let sum: Vec<T> = cast(&sum);
                gradients(name, &sum);
            }
            *cotangents = y.chunks(2 * n).flat_map(|y| y[n..].to_vec()).collect();
        }))
    }
}

pub(super) fn cast<T: Number>(numbers: &[f64]) -> Vec<T> {
    numbers.iter().map(|x| T::of(*x)).collect()
}

/// Runs a vector-Jacobian product: output 0 and the product with respect to the points.
pub(super) fn pull<T: Number>(
    adjoint: &Evaluator<T>,
    tensors: &Tensors<'_, T>,
    points: &[T],
    rows: &[T],
    random: (u64, u64),
    gradients: &mut Gradients<'_, T>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let program = adjoint.program();
    let (mut outputs, mut results) = adjoint.buffers();
    let count = points.len() / program.columns.max(1);
    adjoint.run_whole(tensors, (count, points, rows), random, &mut outputs, &mut results)?;
    for ((tensor, _), gradient) in program.gradients.iter().zip(&results) {
        gradients(&program.tensors[tensor.index()].name, gradient);
    }
    let bar = program.outputs.iter().position(|(name, _)| name == "points-bar").unwrap_or(0);
    let numbers = |k: usize| outputs[k].iter().map(|x| x.f64()).collect();
    Ok((numbers(0), numbers(bar)))
}

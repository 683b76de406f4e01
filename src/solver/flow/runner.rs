//! States over an interval, by the compiled step or with error control; and back, with gradients.

use super::control::{Control, Stopped};
use crate::cpu::Points;
use crate::plan::{DOPRI5_EVALUATIONS, FlowPlan};
use crate::program::{Flow, Program};
use crate::solver::{Error, Evaluator, Number, Tensors};
use crate::train::in_pool;
use std::sync::atomic::{AtomicU64, Ordering};

/// A flow, compiled for this CPU.
pub struct Runner<T> {
    /// What runs.
    pub plan: FlowPlan,
    flow: Flow,
    step: Evaluator<T>,
    step_adjoint: Evaluator<T>,
    field: Evaluator<T>,
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
    taken: Vec<Taken<T>>,
    /// Sum of the absolute estimates.
    pub remainder: f64,
    /// Steps of all points together.
    pub steps: usize,
}

/// A step that some of the points took.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken<T> {
    /// Which.
    rows: Vec<usize>,
    /// Where they were, and their data rows.
    points: Vec<T>,
    data: Vec<T>,
    /// The error estimates: [count, n].
    estimates: Vec<T>,
}

impl<T: Number> Taken<T> {
    /// One point more.
    pub fn add(&mut self, row: usize, point: &[T], data: &[T], estimates: &[T]) {
        self.rows.push(row);
        self.points.extend_from_slice(point);
        self.data.extend_from_slice(data);
        self.estimates.extend_from_slice(estimates);
    }
}

impl<T: Number> Tape<T> {
    /// One step more.
    pub(super) fn push(&mut self, taken: Taken<T>) {
        self.remainder += taken.estimates.iter().map(|r| r.f64().abs()).sum::<f64>();
        self.steps += taken.rows.len();
        self.taken.push(taken);
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
        // a step of few points is short against the entry into the pool
        in_pool(|| {
            let is_controlled = self.plan.has_error_control || tape.is_none();
            let control = match Control::of(&self.flow, &self.plan).filter(|_| is_controlled) {
                Some(control) => control,
                None => {
                    let longest = interval.lengths.iter().copied().fold(0.0, f64::max);
                    let steps = self.steps(longest).unwrap_or(1);
                    return self.fixed(tensors, points, interval, steps, tape, random);
                }
            };
            self.controlled((&self.step, tensors), points, interval, control, tape, random)
        })
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

    /// Dormand and Prince, a step of which is given, within a relative tolerance.
    pub fn accurate(
        &self,
        (step, tensors): (&Evaluator<T>, &Tensors<'_, T>),
        points: &mut [f64],
        interval: Interval<'_>,
        rtol: f64,
    ) -> Result<Result<(), Stopped>, Error> {
        let (exponent, longest, evaluations) = (5, f64::INFINITY, DOPRI5_EVALUATIONS);
        let control = Control { rtol, atol: 0.01 * rtol, exponent, longest, evaluations };
        self.controlled((step, tensors), points, interval, control, None, (0, 0))
    }

    /// The right side at points: [count, n].
    pub fn slope(&self, tensors: &Tensors<'_, T>, points: &[f64], interval: Interval<'_>) -> Result<Vec<f64>, Error> {
        self.count(1);
        let rows: Vec<usize> = (0..interval.lengths.len()).collect();
        let data = self.data(interval, &rows, |_| 0.0);
        let (mut outputs, mut gradients) = self.field.buffers();
        let points: Vec<T> = cast(points);
        let inputs = (rows.len(), Points::Rows(&points), data.as_slice());
        self.field.run_streamed(tensors, inputs, (0, 0), &mut outputs, &mut gradients)?;
        Ok(outputs[0].iter().map(|x| x.f64()).collect())
    }

    /// Data rows of some points: inputs, and the length of the step.
    pub(super) fn data(&self, interval: Interval<'_>, rows: &[usize], length: impl Fn(usize) -> f64) -> Vec<T> {
        let width = self.plan.inputs.map_or(0, |(_, columns)| columns);
        let mut out = Vec::with_capacity((width + 1) * rows.len());
        for k in rows {
            out.extend(interval.inputs[k * width..(k + 1) * width].iter().map(|x| T::of(*x)));
            out.push(T::of(length(*k)));
        }
        out
    }

    /// Moves a point to the next state, which the output of a step begins with.
    pub(super) fn moved(&self, point: &mut [f64], next: &[T], length: f64) {
        let (first, n) = self.plan.state;
        point[first..first + n].iter_mut().zip(next).for_each(|(p, s)| *p = s.f64());
        if let Some(time) = self.plan.time {
            point[time] += length;
        }
    }

    /// One step: the next states and the estimates, [count, n] each.
    pub(super) fn one(
        &self,
        step: &Evaluator<T>,
        tensors: &Tensors<'_, T>,
        (points, data): (&[T], &[T]),
        random: (u64, u64),
    ) -> Result<Vec<T>, Error> {
        let (mut outputs, mut gradients) = step.buffers();
        let inputs = (data.len() / self.plan.step.data_columns, Points::Rows(points), data);
        step.run_streamed(tensors, inputs, random, &mut outputs, &mut gradients)?;
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
        let (n, columns) = (self.plan.state.1, self.plan.step.columns);
        let rows: Vec<usize> = (0..interval.lengths.len()).collect();
        let data = self.data(interval, &rows, |k| interval.lengths[k] / steps as f64);
        let width = self.step.width();
        for k in 0..steps {
            let at: Vec<T> = cast(points);
            let out = self.one(&self.step, tensors, (&at, &data), random)?;
            self.count(self.plan.evaluations);
            for ((p, s), length) in points.chunks_mut(columns).zip(out.chunks(width)).zip(interval.lengths) {
                self.moved(p, s, length / steps as f64);
            }
            if let Some(tape) = tape.as_deref_mut() {
                let estimates = out.chunks(width).flat_map(|s| &s[n..]).copied().collect();
                tape.push(Taken { rows: rows.clone(), points: at, data: data.clone(), estimates });
            }
            if let Some(number) = points.iter().position(|x| !x.is_finite()) {
                return Ok(Err(Stopped::NotFinite { at: (k + 1) as f64 / steps as f64, point: number / columns }));
            }
        }
        Ok(Ok(()))
    }

    /// From cotangents of the states at the end of an interval, [count, n], to those at its start: exact for the steps that were
    /// taken. `weight` is that of every absolute estimate, where the plan weighs them. Gradients are means over the points.
    pub fn back(
        &self,
        tensors: &Tensors<'_, T>,
        tape: &Tape<T>,
        cotangents: &mut [f64],
        (weight, random): (f64, (u64, u64)),
        gradients: &mut Gradients<'_, T>,
    ) -> Result<(), Error> {
        let (first, n) = self.plan.state;
        let (own, columns) = (self.plan.step.data_columns, self.plan.step.columns);
        let count = cotangents.len() / n;
        for Taken { rows, points, data, estimates } in tape.taken.iter().rev().filter(|t| !t.rows.is_empty()) {
            let mut given = Vec::with_capacity(data.len() * 3);
            for (i, (k, data)) in rows.iter().zip(data.chunks(own)).enumerate() {
                given.extend_from_slice(data);
                given.extend(cotangents[k * n..(k + 1) * n].iter().map(|x| T::of(*x)));
                if self.plan.weighs_estimate {
                    given.extend(estimates[i * n..(i + 1) * n].iter().map(|r| T::of(weight * sign(r.f64()))));
                }
            }
            // a mean over the points that took the step
            let share = T::of(rows.len() as f64 / count as f64);
            let take = &mut |name: &str, g: &[T]| match rows.len() == count {
                true => gradients(name, g),
                false => gradients(name, &g.iter().map(|g| *g * share).collect::<Vec<T>>()),
            };
            let bars = pull(&self.step_adjoint, tensors, points, &given, random, take)?;
            for (k, bar) in rows.iter().zip(bars.1.chunks(columns)) {
                cotangents[k * n..(k + 1) * n].copy_from_slice(&bar[first..first + n]);
            }
        }
        Ok(())
    }
}

/// The derivative of the absolute value; 0 at 0.
pub(super) fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
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

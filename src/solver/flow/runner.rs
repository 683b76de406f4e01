//! States over an interval, by the compiled step or with error control; and back, with gradients.
//!
//! Points go their way in groups of about [`GROUP`], each by itself from the start of the interval to its end and on one thread: a step
//! of few points is short against the wait for other threads. The groups depend on nothing but the number of points. On a device
//! all points are one group.

use super::chained::{Chained, Inputs, Step, Stepping};
use super::control::{Control, Stopped};
use super::kernel::Kernel;
use super::tape::{Pace, Taken, Tape, Trail, Values};
use crate::cpu::{Beside, CHUNKS, Random};
use crate::cuda::Device;
use crate::diagnostic::Diagnostic;
use crate::jet::{self, Op, summed};
use crate::plan::{DOPRI5_EVALUATIONS, FlowPlan};
use crate::pool::each;
use crate::program::{Flow, Program};
use crate::solver::placed::Placed;
use crate::solver::{Error, Evaluator, Number, Tensors};
use rayon::current_thread_index;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A flow, compiled for this CPU or a device.
pub struct Runner<T> {
    /// What runs.
    pub plan: FlowPlan,
    flow: Flow,
    step: Stepping<T>,
    step_adjoint: Placed<T>,
    /// The two for a way whose values are kept.
    keeping: Option<Keeping<T>>,
    /// Room of values that were kept, with the thread that each was used by: it is in that thread's cache.
    pool: Mutex<Vec<(Option<usize>, Values<T>)>>,
    field: Evaluator<T>,
    /// Takes whole intervals at once, where nothing is kept for the way back.
    kernel: Option<Kernel<T>>,
    /// Whether a step has random numbers of its own for each point.
    pub(super) draws: bool,
    evaluations: AtomicU64,
}

/// A step and its vector-Jacobian product, where what the first works out is kept for the second.
struct Keeping<T> {
    forward: Forward<T>,
    backward: Evaluator<T>,
    /// Numbers that are kept for a point.
    width: usize,
}

/// How a step whose values are kept is taken.
enum Forward<T> {
    Alone(Box<Evaluator<T>>),
    Chained(Box<Chained<T>>),
}

impl<T: Number> Keeping<T> {
    fn new(kept: &jet::Kept) -> Result<Self, Error> {
        let given = kept.backward.ops.iter().filter_map(|op| match op {
            Op::Given { rows, features, .. } => Some(rows * features),
            _ => None,
        });
        Ok(Keeping {
            width: given.sum(),
            forward: match &kept.forward {
                jet::Forward::Alone(step) => Forward::Alone(Evaluator::alone(step)?.into()),
                jet::Forward::Chained(chain) => Forward::Chained(Chained::new(chain)?.into()),
            },
            backward: Evaluator::alone(&summed(kept.backward.clone()))?,
        })
    }
}

/// What many points do between two times.
#[derive(Clone, Copy, Debug)]
pub struct Interval<'a> {
    /// Inputs, [count, plan's input columns], the same over the interval.
    pub inputs: &'a [f64],
    /// Its length for each point.
    pub lengths: &'a [f64],
}

impl Interval<'_> {
    /// The longest of all points.
    pub(super) fn longest(&self) -> f64 {
        self.lengths.iter().copied().fold(0.0, f64::max)
    }
}

/// Equal steps to the end of an interval, at most.
const MOST_EQUAL: usize = 1_000_000_000;
/// Points of a group, at most.
const GROUP: usize = 64;
/// Groups that several threads share, at most, where there are few points; and the points that each of them has at least.
const SHARED: (usize, usize) = (8, 16);
/// A group on its way.
pub(super) struct Group<'a, T> {
    /// [count, columns]
    pub points: &'a mut [f64],
    pub interval: Interval<'a>,
    /// What is kept, where something is.
    pub kept: Option<Trail<T>>,
    pub random: Random,
}

/// How far a group came: evaluations of the right side at all its points together, and what ended it early.
pub(super) type Way = Result<(usize, Result<(), Stopped>), Error>;

/// Gradients of the tensors that an adjoint has, by name.
pub type Gradients<'a, T> = dyn FnMut(&str, &[T]) + 'a;

impl<T: Number> Runner<T> {
    /// Compiles the programs of a plan for this CPU.
    ///
    /// # Errors
    /// Where a program breaks a rule of the representation: a defect of the compiler.
    pub fn new(program: &Program, plan: FlowPlan) -> Result<Self, Error> {
        let step = Stepping::here(&plan.step, plan.chain.as_ref())?;
        let adjoint = Placed::Here(Evaluator::alone(&summed(plan.step_adjoint.clone()))?.into());
        let keeping = plan.kept.as_ref().map(Keeping::new).transpose()?;
        Ok(Runner { keeping, ..Self::of(program, plan, (step, adjoint), None)? })
    }

    /// The same for a device, if it runs modules. They are loaded when they are called first.
    ///
    /// # Errors
    /// Likewise.
    pub fn on(device: &Device, program: &Program, plan: FlowPlan) -> Result<Self, Error> {
        if !device.runs_modules() {
            return Self::new(program, plan);
        }
        let step = Stepping::there(device, &plan.step)?;
        let adjoint = Placed::there(device, &plan.step_adjoint, plan.step.data_columns)?;
        let kernel = program.flow.as_ref().map(|flow| Kernel::new(device, flow, &plan)).transpose()?;
        Self::of(program, plan, (step, adjoint), kernel)
    }

    fn of(
        program: &Program,
        plan: FlowPlan,
        (step, step_adjoint): (Stepping<T>, Placed<T>),
        kernel: Option<Kernel<T>>,
    ) -> Result<Self, Error> {
        let flow = program.flow.clone().ok_or_else(|| Error::Tensor("flow".into()))?;
        Ok(Runner {
            draws: plan.step.ops.iter().any(Op::is_draw),
            step,
            step_adjoint,
            kernel,
            keeping: None,
            pool: Mutex::default(),
            field: Evaluator::new(&plan.field)?,
            evaluations: AtomicU64::new(0),
            flow,
            plan,
        })
    }

    /// Points whose ways are kept at a time, at most, on the CPU.
    pub(super) const UNDER_WAY: usize = GROUP * CHUNKS;

    /// Whether a device takes the steps.
    pub(super) fn is_there(&self) -> bool {
        self.kernel.is_some()
    }

    /// Keeps the room of values for others.
    pub(super) fn recycle(&self, values: Values<T>) {
        if let Ok(mut pool) = self.pool.lock() {
            pool.push((current_thread_index(), values));
        }
    }

    /// What draws go by, where there are some.
    pub(super) fn numbers<'a>(&self, rows: &'a [usize]) -> &'a [usize] {
        if self.draws { rows } else { &[] }
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
        Some(((length / step - 1e-6).ceil() as usize).max(1).saturating_mul(self.flow.substeps))
    }

    /// Moves points, [count, columns], over an interval: as a rollout does, or by the steps that a tape is of.
    pub fn advance(
        &self,
        tensors: &Tensors<'_, T>,
        points: &mut [f64],
        interval: Interval<'_>,
        tape: Option<&mut Tape<T>>,
        random: (u64, u64),
    ) -> Result<Result<(), Stopped>, Error> {
        let longest = interval.longest();
        if let Some(steps) = self.steps(longest).filter(|steps| *steps > MOST_EQUAL) {
            let message = format!("{steps:.0e} steps to a time of {longest} are too many; at most {MOST_EQUAL:.0e}");
            return Err(Diagnostic::error(self.flow.span, message).into());
        }
        if let (Some(kernel), None) = (&self.kernel, &tape) {
            return kernel.roll(self, tensors, points, interval, random);
        }
        let pace = tape.as_ref().map_or(Pace::Rollout, |tape| tape.pace);
        self.grouped(points, interval, tape, random, &|group| match pace {
            Pace::Training => self.go(tensors, group, longest),
            Pace::Rollout => self.chosen(tensors, group, longest),
            Pace::Once => self.fixed(tensors, group, 1),
        })
    }

    /// Moves a group over its interval, where the longest of all groups is so long, by the steps of training.
    pub(super) fn go(&self, tensors: &Tensors<'_, T>, group: &mut Group<'_, T>, longest: f64) -> Way {
        match self.plan.has_error_control {
            true => self.chosen(tensors, group, longest),
            false => self.fixed(tensors, group, self.steps(longest).unwrap_or(1)),
        }
    }

    /// The same by those of a rollout.
    fn chosen(&self, tensors: &Tensors<'_, T>, group: &mut Group<'_, T>, longest: f64) -> Way {
        match Control::of(&self.flow, &self.plan) {
            Some(control) => self.controlled((&self.step, tensors), group, (control, self.plan.evaluations)),
            None => self.fixed(tensors, group, self.steps(longest).unwrap_or(1)),
        }
    }

    /// The groups that so many points are.
    pub(super) fn groups(&self, count: usize) -> Vec<Range<usize>> {
        let groups = match self.is_there() {
            true => 1,
            false => count.div_ceil(GROUP).max((count / SHARED.1).min(SHARED.0)),
        };
        (0..groups).map(|k| k * count / groups..(k + 1) * count / groups).collect()
    }

    /// Dormand and Prince, a step of which is given, within a relative tolerance.
    pub fn accurate(
        &self,
        (step, tensors): (&Stepping<T>, &Tensors<'_, T>),
        points: &mut [f64],
        interval: Interval<'_>,
        rtol: f64,
    ) -> Result<Result<(), Stopped>, Error> {
        let control = Control { rtol, atol: 0.01 * rtol, exponent: 5, longest: f64::INFINITY };
        let way = |group: &mut Group<'_, T>| self.controlled((step, tensors), group, (control, DOPRI5_EVALUATIONS));
        self.grouped(points, interval, None, (0, 0), &way)
    }

    /// All groups over an interval. Counts the evaluations.
    fn grouped(
        &self,
        points: &mut [f64],
        interval: Interval<'_>,
        tape: Option<&mut Tape<T>>,
        (seed, step): (u64, u64),
        way: &(dyn Fn(&mut Group<'_, T>) -> Way + Sync),
    ) -> Result<Result<(), Stopped>, Error> {
        let (count, columns) = (interval.lengths.len(), self.plan.step.columns);
        let width = interval.inputs.len() / count.max(1);
        let groups = self.groups(count);
        let room = tape.as_ref().map(|tape| tape.room / groups.len().max(1));
        let (mut work, mut rest) = (Vec::with_capacity(groups.len()), points);
        for range in groups {
            let (here, after) = rest.split_at_mut(range.len() * columns);
            rest = after;
            let inputs = &interval.inputs[range.start * width..range.end * width];
            work.push(Group {
                points: here,
                interval: Interval { inputs, lengths: &interval.lengths[range.clone()] },
                kept: room.map(|room| Trail::new(range.clone(), room)),
                random: Random { seed, step, first: range.start },
            });
        }
        let one = |mut group: Group<'_, T>| (way(&mut group), group.random.first, group.kept);
        let done = each(work, one);
        let (mut evaluations, mut kept) = (0, Vec::new());
        let mut stopped: Result<(), Stopped> = Ok(());
        for (way, first, group) in done {
            let (here, end) = way?;
            evaluations += here;
            let end = end.map_err(|why| why.behind(first));
            // the one that came least far
            stopped = match (stopped, end) {
                (Err(a), Err(b)) => Err(if b.place().0 < a.place().0 { b } else { a }),
                (a, b) => a.and(b),
            };
            kept.extend(group);
        }
        self.count(evaluations.div_ceil(count.max(1)));
        if let Some(tape) = tape {
            tape.groups.extend(kept);
        }
        Ok(stopped)
    }

    /// The right side at points: [count, n].
    pub fn slope(&self, tensors: &Tensors<'_, T>, points: &[f64], interval: Interval<'_>) -> Result<Vec<f64>, Error> {
        self.count(1);
        let rows: Vec<usize> = (0..interval.lengths.len()).collect();
        let data = self.data(interval, &rows, |_| 0.0);
        let (mut outputs, mut gradients) = self.field.buffers();
        let points: Vec<T> = cast(points);
        self.field.run_whole(tensors, (rows.len(), &points, &data), (0, 0), &mut outputs, &mut gradients)?;
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

    /// The step that a group takes behind another, where there is one; what it works out is kept or not.
    pub(super) fn chained<'a>(&'a self, step: &'a Stepping<T>, is_kept: bool) -> Option<&'a Chained<T>> {
        match self.keeping.as_ref().filter(|_| is_kept).map(|keeping| &keeping.forward) {
            Some(Forward::Chained(chained)) => Some(chained),
            Some(Forward::Alone(_)) => None,
            None => step.chained.as_ref(),
        }
    }

    /// Whether what a step of so many points works out is kept, where there is room for so many numbers.
    pub(super) fn keeps(&self, count: usize, room: Option<usize>) -> bool {
        self.keeping.as_ref().zip(room).is_some_and(|(keeping, room)| room >= count * keeping.width)
    }

    /// Room of values that are no longer needed.
    fn used(&self) -> Values<T> {
        let used = self.pool.lock().ok().and_then(|mut pool| {
            let own = pool.iter().rposition(|(thread, _)| *thread == current_thread_index());
            own.map(|k| pool.swap_remove(k).1)
        });
        used.unwrap_or_default()
    }

    /// One step of some points of a group, behind another where that is given with what it has worked out. What it works out beside is
    /// given where it is to be kept.
    pub(super) fn one(
        &self,
        (step, tensors): (&Stepping<T>, &Tensors<'_, T>),
        (rows, points, data): (&[usize], &[T], &[T]),
        random: Random,
        room: Option<usize>,
        behind: Option<(&Chained<T>, &[Vec<T>])>,
    ) -> Result<Step<T>, Error> {
        let (count, numbers, is_kept) = (rows.len(), self.numbers(rows), self.keeps(rows.len(), room));
        let inputs: Inputs<'_, T> = (count, points, data);
        if let Some((chained, given)) = behind {
            let used = if is_kept { self.used() } else { Vec::new() };
            return chained.step(tensors, inputs, given, (random, numbers), used);
        }
        let ends = Vec::new();
        let Some(Keeping { forward: Forward::Alone(forward), .. }) = self.keeping.as_ref().filter(|_| is_kept) else {
            let (mut outputs, mut gradients) = step.alone.buffers();
            step.alone.run(tensors, inputs, (random, numbers), &mut outputs, &mut gradients)?;
            return Ok(Step { out: outputs.swap_remove(0), values: Vec::new(), ends });
        };
        let mut outputs = self.used();
        outputs.resize_with(forward.program().outputs.len() - 1, Vec::new);
        outputs.insert(0, Vec::new());
        let mut gradients = Vec::new();
        let beside = Beside { numbers, given: &[] };
        forward.run_beside(tensors, inputs, beside, random, &mut outputs, &mut gradients)?;
        let values = outputs.split_off(1);
        Ok(Step { out: outputs.swap_remove(0), values, ends })
    }

    fn fixed(&self, tensors: &Tensors<'_, T>, group: &mut Group<'_, T>, steps: usize) -> Way {
        let (n, columns) = (self.plan.state.1, self.plan.step.columns);
        let interval = group.interval;
        let rows: Vec<usize> = (0..interval.lengths.len()).collect();
        let data = self.data(interval, &rows, |k| interval.lengths[k] / steps as f64);
        for k in 0..steps {
            let at: Vec<T> = cast(group.points);
            let room = group.kept.as_ref().map(|kept| kept.room);
            let inputs: (&[usize], &[T], &[T]) = (&rows, &at, &data);
            let Step { out, values, .. } = self.one((&self.step, tensors), inputs, group.random, room, None)?;
            let width = out.len() / rows.len().max(1);
            for ((p, s), length) in group.points.chunks_mut(columns).zip(out.chunks(width)).zip(interval.lengths) {
                self.moved(p, s, length / steps as f64);
            }
            if let Some(kept) = &mut group.kept {
                let estimates = out.chunks(width).flat_map(|s| &s[n..]).copied().collect();
                let (rows, data) = (rows.clone(), data.clone());
                kept.push(Taken { rows, points: at, data, estimates, values, ..Taken::default() });
            }
            if let Some(number) = group.points.iter().position(|x| !x.is_finite()) {
                let why = Stopped::NotFinite { at: (k + 1) as f64 / steps as f64, point: number / columns };
                return Ok(((k + 1) * rows.len() * self.plan.evaluations, Err(why)));
            }
        }
        Ok((steps * rows.len() * self.plan.evaluations, Ok(())))
    }

    /// From cotangents of the points at the end of an interval, [count, columns], to those at its start: exact for the steps that were
    /// taken. `weight` is that of every absolute estimate, where the plan weighs them. Gradients are means over the points.
    pub fn back(
        &self,
        tensors: &Tensors<'_, T>,
        tape: Tape<T>,
        cotangents: &mut [f64],
        (weight, random): (f64, (u64, u64)),
        gradients: &mut Gradients<'_, T>,
    ) -> Result<(), Error> {
        let columns = self.plan.step.columns;
        let count = cotangents.len() / columns.max(1);
        let mut rest = cotangents;
        let mut groups = tape.groups.into_iter().peekable();
        while groups.peek().is_some() {
            let mut work = Vec::new();
            // few enough that their gradients have room
            for kept in groups.by_ref().take(CHUNKS) {
                let (here, after) = rest.split_at_mut(kept.points.len() * columns);
                rest = after;
                work.push((kept, here));
            }
            let one =
                |(kept, here): (Trail<T>, &mut [f64])| self.group_back(tensors, kept, here, count, (weight, random));
            for sums in each(work, one) {
                self.named(sums?, gradients);
            }
        }
        Ok(())
    }

    /// The same of one group, of means over `count` points.
    pub(super) fn trail_back(
        &self,
        tensors: &Tensors<'_, T>,
        trail: Trail<T>,
        cotangents: &mut [f64],
        count: usize,
        (weight, random): (f64, (u64, u64)),
        gradients: &mut Gradients<'_, T>,
    ) -> Result<(), Error> {
        self.named(self.group_back(tensors, trail, cotangents, count, (weight, random))?, gradients);
        Ok(())
    }

    /// Gives gradients with their names.
    fn named(&self, sums: Vec<Vec<T>>, gradients: &mut Gradients<'_, T>) {
        let program = self.step_adjoint.program();
        for ((tensor, _), sum) in program.gradients.iter().zip(sums) {
            gradients(&program.tensors[tensor.index()].name, &sum);
        }
    }

    /// A group's part of the gradients, of means over `count` points.
    fn group_back(
        &self,
        tensors: &Tensors<'_, T>,
        kept: Trail<T>,
        cotangents: &mut [f64],
        count: usize,
        (weight, (seed, step)): (f64, (u64, u64)),
    ) -> Result<Vec<Vec<T>>, Error> {
        let (first, n) = self.plan.state;
        let (own, columns) = (self.plan.step.data_columns, self.plan.step.columns);
        let program = self.step_adjoint.program();
        let random = Random { seed, step, first: kept.points.start };
        let lengths = program.gradients.iter().map(|(tensor, _)| program.tensors[tensor.index()].len());
        let mut sums: Vec<Vec<T>> = lengths.map(|len| vec![T::of(0.0); len]).collect();
        for Taken { rows, points, data, estimates, values, .. } in
            kept.taken.into_iter().rev().filter(|t| !t.rows.is_empty())
        {
            let mut given = Vec::with_capacity(data.len() * 3);
            for (i, (k, data)) in rows.iter().zip(data.chunks(own)).enumerate() {
                given.extend_from_slice(data);
                given.extend(cotangents[k * columns + first..][..n].iter().map(|x| T::of(*x)));
                if self.plan.weighs_estimate {
                    given.extend(estimates[i * n..(i + 1) * n].iter().map(|r| T::of(weight * sign(r.f64()))));
                }
            }
            // a mean over the points that took the step
            let share = T::of(rows.len() as f64 / count as f64);
            let (numbers, inputs) = (self.numbers(&rows), (rows.len(), points.as_slice(), given.as_slice()));
            let keeping = self.keeping.as_ref().filter(|_| !values.is_empty());
            let buffers = keeping.map(|keeping| keeping.backward.buffers());
            let (mut outputs, mut gradients) = buffers.unwrap_or_else(|| self.step_adjoint.buffers());
            match keeping {
                Some(Keeping { backward, .. }) => {
                    let given: Vec<&[T]> = values.iter().map(Vec::as_slice).collect();
                    let beside = Beside { given: &given, numbers };
                    backward.run_beside(tensors, inputs, beside, random, &mut outputs, &mut gradients)?;
                    self.recycle(values);
                }
                None => self.step_adjoint.run(tensors, inputs, (random, numbers), &mut outputs, &mut gradients)?,
            }
            for (sum, gradient) in sums.iter_mut().zip(&gradients) {
                sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += *g * share);
            }
            let bars = outputs.pop().unwrap_or_default();
            for (k, bar) in rows.iter().zip(bars.chunks(columns)) {
                let own = &mut cotangents[k * columns..(k + 1) * columns];
                // the state at the end is another; a time moves with its start, and all else is as it was
                own[first..first + n].fill(0.0);
                own.iter_mut().zip(bar).for_each(|(c, bar)| *c += bar.f64());
            }
        }
        Ok(sums)
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
    adjoint: &Placed<T>,
    tensors: &Tensors<'_, T>,
    points: &[T],
    rows: &[T],
    random: impl Into<Random>,
    gradients: &mut Gradients<'_, T>,
) -> Result<(Vec<f64>, Vec<f64>), Error> {
    let program = adjoint.program();
    let (mut outputs, mut results) = adjoint.buffers();
    let count = points.len() / program.columns.max(1);
    adjoint.run(tensors, (count, points, rows), (random.into(), &[]), &mut outputs, &mut results)?;
    for ((tensor, _), gradient) in program.gradients.iter().zip(&results) {
        gradients(&program.tensors[tensor.index()].name, gradient);
    }
    let bar = program.outputs.iter().position(|(name, _)| name == "points-bar").unwrap_or(0);
    let numbers = |k: usize| outputs[k].iter().map(|x| x.f64()).collect();
    Ok((numbers(0), numbers(bar)))
}

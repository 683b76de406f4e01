//! Steps whose lengths are chosen by the error estimate, for each trajectory by itself.
//!
//! All trajectories that are not at the end of their interval take a step together, each of a length of its own. A step whose
//! error is within the tolerances is accepted; the next, or the same again, is as long as the error allows (Hairer, Norsett, Wanner,
//! Solving Ordinary Differential Equations I, II.4), and as its trend from one accepted step to the next lets expect (Gustafsson, ACM
//! Trans. Math. Software 20, 1994; Hairer, Wanner, the same II, IV.8).

use super::chained::{Step, Stepping, copy_rows, retain_rows};
use super::runner::{Group, Runner, Way, cast};
use super::tape::Taken;
use crate::plan::FlowPlan;
use crate::program::{Flow, Integrator};
use crate::solver::{Number, Tensors};

/// Why an integration ended early.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stopped {
    /// A number is not finite.
    NotFinite {
        /// Where, as a fraction of the interval.
        at: f64,
        /// Of which trajectory.
        point: usize,
    },
    /// The steps became too small, or too many: the problem is stiff, or singular.
    TooSmall {
        /// Where, as a fraction of the interval.
        at: f64,
        /// Of which trajectory.
        point: usize,
    },
}

impl Stopped {
    /// Where, as a fraction of the interval, and of which trajectory.
    pub fn place(self) -> (f64, usize) {
        let (Stopped::NotFinite { at, point } | Stopped::TooSmall { at, point }) = self;
        (at, point)
    }

    /// The same, where this many trajectories come first.
    pub(super) fn behind(mut self, first: usize) -> Self {
        let (Stopped::NotFinite { point, .. } | Stopped::TooSmall { point, .. }) = &mut self;
        *point += first;
        self
    }
}

/// Most steps of a trajectory in one interval, with those that are not accepted.
pub(super) const MOST: usize = 100_000;
/// What is left of an interval where a trajectory is at its end.
pub(super) const ARRIVED: f64 = 1e-12;
/// Steps that are a smaller part of their interval end the integration.
const SMALLEST: f64 = 1e-13;
/// A step may be longer by so much to reach the end: its error is still as expected of one that is accepted, 0.9^5 1.1^5 < 1.
const STRETCH: f64 = 1.1;
/// Errors are no smaller, in units of what is tolerated: longer steps are tried all the same.
const LEAST: f64 = 1e-6;

/// What is tolerated.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    /// Relative to the state.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
    /// The estimate is of the order h^exponent.
    pub exponent: usize,
    /// The longest step, which is also tried first.
    pub longest: f64,
}

impl Control {
    /// That of a flow whose steps are chosen by the error estimate.
    pub(super) fn of(flow: &Flow, plan: &FlowPlan) -> Option<Control> {
        let exponent = plan.exponent;
        match (&flow.integrator, flow.tolerance) {
            (Integrator::Dopri5 { rtol, atol }, _) => {
                Some(Control { rtol: *rtol, atol: *atol, exponent, longest: f64::INFINITY })
            }
            (_, Some(tolerance)) => {
                let longest = flow.step.unwrap_or(f64::INFINITY) / flow.substeps as f64;
                Some(Control { rtol: tolerance, atol: tolerance, exponent, longest })
            }
            _ => None,
        }
    }

    /// The first step, as a fraction of an interval of this length.
    pub(super) fn first(&self, length: f64) -> f64 {
        (self.longest / length).min(1.0)
    }

    /// The root mean square over the components of the estimates, each in units of what is tolerated; [`LEAST`] at least. Tolerances
    /// that are finer than the rounding of a state are as fine as that.
    fn error<T: Number>(&self, before: &[f64], after: &[T], estimates: &[T]) -> f64 {
        if !after.iter().chain(estimates).all(|x| x.f64().is_finite()) {
            return f64::INFINITY;
        }
        let rtol = self.rtol.max(2.0 * T::EPSILON);
        let mut sum = 0.0;
        for ((a, b), r) in before.iter().zip(after).zip(estimates) {
            sum += (r.f64() / (self.atol + rtol * a.abs().max(b.f64().abs()))).powi(2);
        }
        let error = (sum / before.len().max(1) as f64).sqrt();
        if error.is_finite() { error.max(LEAST) } else { f64::INFINITY }
    }

    /// The step after one that was tried; if it is accepted, behind the last one that was.
    fn next(&self, tried: Tried, last: Option<Tried>) -> f64 {
        // what a step of some length costs in error changes as it did before
        let trend = match last {
            Some(last) => (tried.length * tried.allowed / (last.length * last.allowed)).clamp(0.5, 2.0),
            None => 1.0,
        };
        tried.length * (0.9 * tried.allowed * trend).clamp(0.1, 5.0)
    }
}

/// A step that was tried: its length, as a fraction of its interval, and by how much longer it could have been.
#[derive(Clone, Copy)]
struct Tried {
    length: f64,
    allowed: f64,
}

/// How far a trajectory is, and its next step, as fractions of its interval; and the last step that was accepted.
#[derive(Clone, Copy)]
struct Clock {
    at: f64,
    step: f64,
    last: Option<Tried>,
}

impl Clock {
    fn has_arrived(&self) -> bool {
        self.at >= 1.0 - ARRIVED
    }

    /// The next step is to end with its interval, or before. One that leaves little is made longer.
    fn fit(&mut self, longest: f64) {
        let rest = 1.0 - self.at;
        self.step = if rest <= (STRETCH * self.step).min(longest) { rest } else { self.step.min(rest) };
    }
}

impl<T: Number> Runner<T> {
    /// Moves a group over its interval by a step that gives an estimate, and has so many evaluations.
    pub(super) fn controlled(
        &self,
        (step, tensors): (&Stepping<T>, &Tensors<'_, T>),
        group: &mut Group<'_, T>,
        (control, evaluations): (Control, usize),
    ) -> Way {
        let Group { points, interval, kept, random } = group;
        let interval = *interval;
        // draws of a device are for the points in their order: those that rest take steps of no length
        let rests = self.is_there() && self.draws;
        let (columns, (first, n)) = (self.plan.step.columns, self.plan.state);
        let clock = |length: &f64| Clock { at: 0.0, step: control.first(*length), last: None };
        let mut clocks: Vec<Clock> = interval.lengths.iter().map(clock).collect();
        let mut under_way: Vec<usize> = (0..clocks.len()).collect();
        let all = under_way.clone();
        let chained = self.chained(step, kept.is_some());
        // by value, for the points that are under way
        let mut carried = match chained {
            Some(chained) => {
                let (at, data): (Vec<T>, Vec<T>) = (cast(points), self.data(interval, &all, |_| 0.0));
                chained.begin(tensors, (all.len(), &at, &data), (*random, self.numbers(&all)))?
            }
            None => Vec::new(),
        };
        // evaluations: the first slopes, and one less in every step
        let (mut taken, evaluations) = match chained {
            Some(_) => (all.len(), evaluations - 1),
            None => (0, evaluations),
        };
        for _ in 0..MOST {
            if under_way.is_empty() {
                break;
            }
            for k in &under_way {
                clocks[*k].fit(control.first(interval.lengths[*k]));
            }
            let rows = if rests { &all } else { &under_way };
            let mut here: Vec<T> = Vec::with_capacity(rows.len() * columns);
            for k in rows {
                here.extend(points[k * columns..][..columns].iter().map(|x| T::of(*x)));
            }
            let length = |k: usize| if clocks[k].has_arrived() { 0.0 } else { clocks[k].step * interval.lengths[k] };
            let data = self.data(interval, rows, length);
            let room = kept.as_ref().map(|kept| kept.room);
            let behind = chained.map(|chained| (chained, carried.as_slice()));
            let done = self.one((step, tensors), (rows, &here, &data), *random, room, behind)?;
            let Step { out, values, mut ends } = done;
            let mut again = Vec::new();
            let mut accepted = Taken::default();
            let width = self.plan.step.data_columns;
            if kept.is_some() {
                accepted.reserve(rows.len(), [columns, width, n]);
            }
            for (i, (k, out)) in rows.iter().zip(out.chunks(2 * n)).enumerate() {
                let (clock, point) = (&mut clocks[*k], &mut points[k * columns..][..columns]);
                let keep = |accepted: &mut Taken<T>| {
                    if kept.is_some() {
                        accepted.add(*k, &here[i * columns..][..columns], &data[i * width..][..width], &out[n..]);
                    }
                };
                if clock.has_arrived() {
                    keep(&mut accepted);
                    accepted.rest(n);
                    continue;
                }
                let error = control.error(&point[first..first + n], &out[..n], &out[n..]);
                let length = clock.step;
                let tried = Tried { length, allowed: error.powf(-1.0 / control.exponent as f64) };
                let is_accepted = error <= 1.0;
                let last = clock.last.filter(|_| is_accepted);
                clock.step = control.next(tried, last).min(control.first(interval.lengths[*k]));
                if is_accepted {
                    clock.at += length;
                    clock.last = Some(tried);
                    self.moved(point, out, length * interval.lengths[*k]);
                    keep(&mut accepted);
                } else {
                    again.push(i);
                    if rests {
                        keep(&mut accepted);
                        accepted.rest(n);
                    }
                }
                if clock.step < SMALLEST && !clock.has_arrived() {
                    let (at, point) = (clock.at, *k);
                    let is_finite = out.iter().all(|x| x.f64().is_finite());
                    let why =
                        if is_finite { Stopped::TooSmall { at, point } } else { Stopped::NotFinite { at, point } };
                    return Ok((taken + under_way.len() * evaluations, Err(why)));
                }
            }
            // a step that is tried again starts where it did
            copy_rows(&carried, &mut ends, rows.len(), &again);
            let starts = std::mem::replace(&mut carried, ends);
            let values = match chained {
                Some(chained) if self.keeps(rows.len(), room) => chained.kept(starts, values),
                Some(_) => Vec::new(),
                None => values,
            };
            let stays: Vec<usize> = (0..rows.len()).filter(|i| !clocks[rows[*i]].has_arrived()).collect();
            retain_rows(&mut carried, rows.len(), &stays);
            match accepted.is_empty() {
                true if values.is_empty() => {}
                true => self.recycle(values),
                false => accepted.keep(values, rows),
            }
            taken += under_way.len() * evaluations;
            under_way.retain(|k| !clocks[*k].has_arrived());
            if let Some(kept) = kept {
                kept.push(accepted);
            }
        }
        let end = match under_way.first() {
            Some(k) => Err(Stopped::TooSmall { at: clocks[*k].at, point: *k }),
            None => Ok(()),
        };
        Ok((taken, end))
    }
}

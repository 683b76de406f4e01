//! What is kept of a way, for the way back: the steps that were taken, and what they worked out.

use super::chained::retain_rows;
use crate::solver::Number;
use std::ops::Range;

/// What a step has worked out, by value: [points, ..].
pub(super) type Values<T> = Vec<Vec<T>>;

/// Numbers that are kept for the way back, at most; what does not fit is worked out again.
const KEPT: usize = 1 << 26;

/// Which steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Those of a rollout.
    Rollout,
    /// Those of training: the same, but never chosen by `tolerance`.
    Training,
    /// One over the whole interval.
    Once,
}

/// What is kept of an interval for the way back.
#[derive(Clone, Debug)]
pub struct Tape<T> {
    pub(super) pace: Pace,
    pub(super) groups: Vec<Trail<T>>,
    /// Numbers that there is room for.
    pub(super) room: usize,
}

/// What is kept of a group.
#[derive(Clone, Debug)]
pub(super) struct Trail<T> {
    /// Which points.
    pub points: Range<usize>,
    pub taken: Vec<Taken<T>>,
    /// Numbers that there still is room for.
    pub room: usize,
}

/// A step that some points of a group took.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken<T> {
    /// Which of them; those that rest are among them.
    pub rows: Vec<usize>,
    /// How many those are.
    pub resting: usize,
    /// Where they were, and their data rows.
    pub points: Vec<T>,
    pub data: Vec<T>,
    /// The error estimates: [count, n].
    pub estimates: Vec<T>,
    /// What the step has worked out, by value; none where it is worked out again.
    pub values: Values<T>,
}

impl<T: Number> Taken<T> {
    /// Makes room for so many points, of so many columns, data and components each.
    pub fn reserve(&mut self, count: usize, [columns, width, n]: [usize; 3]) {
        self.rows.reserve(count);
        self.points.reserve(count * columns);
        self.data.reserve(count * width);
        self.estimates.reserve(count * n);
    }

    /// One point more.
    pub fn add(&mut self, row: usize, point: &[T], data: &[T], estimates: &[T]) {
        self.rows.push(row);
        self.points.extend_from_slice(point);
        self.data.extend_from_slice(data);
        self.estimates.extend_from_slice(estimates);
    }

    /// The last point, of n components, took a step of no length: the adjoint of that leaves its cotangent as it is.
    pub fn rest(&mut self, n: usize) {
        self.resting += 1;
        self.data.last_mut().into_iter().for_each(|length| *length = T::of(0.0));
        self.estimates.iter_mut().rev().take(n).for_each(|estimate| *estimate = T::of(0.0));
    }

    /// Whether no point took the step.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Keeps what was worked out for some points, those of this step among them.
    pub fn keep(&mut self, values: Values<T>, all: &[usize]) {
        self.values = values;
        if self.rows.len() == all.len() {
            return;
        }
        let mut rows = self.rows.iter().peekable();
        let is_here = |(_, row): &(usize, &usize)| rows.next_if_eq(row).is_some();
        let here: Vec<usize> = all.iter().enumerate().filter(is_here).map(|(k, _)| k).collect();
        retain_rows(&mut self.values, all.len(), &here);
    }
}

impl<T: Number> Trail<T> {
    /// Nothing yet of some points; one of so many that exist at a time.
    pub fn one_of(count: usize, points: Range<usize>) -> Self {
        Trail::new(points, KEPT / count.max(1))
    }

    /// Nothing yet of some points, with room for so many numbers.
    pub fn new(points: Range<usize>, room: usize) -> Self {
        Trail { points, taken: Vec::new(), room }
    }

    /// A step more.
    pub fn push(&mut self, taken: Taken<T>) {
        self.room = self.room.saturating_sub(taken.values.iter().map(Vec::len).sum());
        self.taken.push(taken);
    }

    /// Sum of the absolute estimates.
    pub fn remainder(&self) -> f64 {
        self.taken.iter().map(|t| t.estimates.iter().map(|r| r.f64().abs()).sum::<f64>()).sum()
    }

    /// Steps of all points together.
    pub fn steps(&self) -> usize {
        self.taken.iter().map(|t| t.rows.len() - t.resting).sum()
    }
}

impl<T: Number> Tape<T> {
    /// Nothing kept yet of such steps.
    pub fn of(pace: Pace) -> Self {
        Tape { pace, groups: Vec::new(), room: KEPT }
    }

    /// Sum of the absolute estimates.
    pub fn remainder(&self) -> f64 {
        self.groups.iter().map(Trail::remainder).sum()
    }
}

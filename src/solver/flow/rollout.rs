//! Predictions from the first row of each run, compared with its other rows.

use super::runner::{Interval, Runner};
use super::trajectories::Trajectories;
use crate::pool::in_pool;
use crate::solver::{Error, Number, Tensors};
use crate::train::{Measurement, RolloutFacts};

/// A report `rollout(data)`.
pub struct Roll {
    /// As written.
    pub label: String,
    /// What it is compared with.
    pub rows: Trajectories,
    /// Rows of a run, at most.
    pub most: usize,
}

/// Predicted rows.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// Positions of the rows in the data.
    pub rows: Vec<usize>,
    /// The predicted points there, [rows, columns]; not numbers after a run has left the finite ones.
    pub points: Vec<f64>,
    /// Time at which the first run left the finite numbers, or its steps became too small.
    pub left_at: Option<f64>,
    /// The largest |df| / |ds| times the length of a step, along the trajectories: explicit methods are stable up to about 2.
    pub stiffness: f64,
    /// Evaluations of the right side for each trajectory, on average over its rows times their number.
    pub evaluations: u64,
}

/// Predicts up to `most` rows of every run from its first row.
///
/// # Errors
/// Where a tensor is missing.
pub fn rollout<T: Number>(
    runner: &Runner<T>,
    tensors: &Tensors<'_, T>,
    rows: &Trajectories,
    most: usize,
    seed: u64,
) -> Result<Rollout, Error> {
    // a step of few trajectories is short against the entry into the pool
    in_pool(|| predicted(runner, tensors, rows, most, seed))
}

fn predicted<T: Number>(
    runner: &Runner<T>,
    tensors: &Tensors<'_, T>,
    rows: &Trajectories,
    most: usize,
    seed: u64,
) -> Result<Rollout, Error> {
    let columns = rows.columns;
    // runs that have a next row: the row at hand, and the end
    let mut active: Vec<(usize, usize)> =
        rows.runs.iter().map(|r| (r.start, r.end.min(r.start.saturating_add(most)))).collect();
    let numbers = columns * active.iter().map(|(row, end)| end - row).sum::<usize>();
    let first = active.iter().map(|(row, _)| *row);
    let mut out = Rollout { rows: first.collect(), points: Vec::with_capacity(numbers), ..Rollout::default() };
    out.rows.iter().for_each(|row| out.points.extend_from_slice(rows.point(*row)));
    let before = runner.evaluations();
    // where their points begin
    let mut block = 0;
    let mut slopes: Option<Vec<f64>> = None;
    let mut probes = 0;
    loop {
        let (from, at) = (block, out.points.len());
        for k in (0..active.len()).filter(|k| active[*k].0 + 1 < active[*k].1) {
            out.points.extend_from_within(from + k * columns..from + (k + 1) * columns);
        }
        let count = active.len();
        active.retain(|(row, end)| row + 1 < *end);
        if active.is_empty() {
            break;
        }
        if active.len() < count {
            slopes = None;
        }
        block = at;
        let inputs: Vec<f64> = match runner.plan.inputs {
            Some(_) => active.iter().flat_map(|(row, _)| rows.values(*row)).copied().collect(),
            None => Vec::new(),
        };
        let lengths: Vec<f64> = active.iter().map(|(row, _)| rows.interval(*row)).collect();
        let interval = Interval { inputs: &inputs, lengths: &lengths };
        // how stiff it is here: slopes at two states that follow each other
        let last = slopes.take();
        if last.is_some() || active.iter().all(|(row, end)| row + 2 < *end) {
            let (earlier, here) = out.points[from..].split_at(at - from);
            let slope = runner.slope(tensors, here, interval)?;
            probes += 1;
            if let Some(last) = last {
                let here = (here, &slope[..]);
                out.stiffness = out.stiffness.max(stiffness(runner, (earlier, &last), here, &lengths));
            }
            slopes = Some(slope);
        }
        let done = runner.advance(tensors, &mut out.points[at..], interval, None, (seed, 0))?;
        if let Err(why) = done {
            let (time, point) = why.place();
            let (row, _) = active[point];
            out.left_at = Some(rows.times[row] + time * rows.interval(row));
            out.points.truncate(at);
            break;
        }
        active.iter_mut().for_each(|(row, _)| *row += 1);
        out.rows.extend(active.iter().map(|(row, _)| *row));
    }
    out.evaluations = runner.evaluations() - before - probes;
    Ok(out)
}

/// The largest |df| / |ds| times the length of a step, from points and slopes to those that follow.
fn stiffness<T: Number>(
    runner: &Runner<T>,
    (points, slopes): (&[f64], &[f64]),
    (next, next_slopes): (&[f64], &[f64]),
    lengths: &[f64],
) -> f64 {
    let (first, n) = runner.plan.state;
    let columns = next.len() / lengths.len();
    let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (b - a).powi(2)).sum::<f64>();
    let mut largest = 0.0f64;
    for (k, length) in lengths.iter().enumerate() {
        let (slope, state) = (k * n..(k + 1) * n, k * columns + first..k * columns + first + n);
        let (df, ds) =
            (square(&slopes[slope.clone()], &next_slopes[slope]), square(&points[state.clone()], &next[state]));
        if ds > 0.0 && df.is_finite() {
            largest = largest.max((df / ds).sqrt() * length / runner.steps(*length).unwrap_or(1) as f64);
        }
    }
    largest
}

impl Roll {
    /// Relative distance of the predicted rows to those of the data.
    pub fn measure<T: Number>(
        &self,
        runner: &Runner<T>,
        tensors: &Tensors<'_, T>,
        seed: u64,
    ) -> Result<Measurement, Error> {
        let out = rollout(runner, tensors, &self.rows, self.most, seed)?;
        let (first, n) = runner.plan.state;
        let columns = self.rows.columns;
        let mut sums = [0.0; 4];
        for (row, point) in out.rows.iter().zip(out.points.chunks(columns)) {
            let exact = self.rows.point(*row);
            for c in first..first + n {
                sums[0] += (point[c] - exact[c]).powi(2);
                sums[1] += exact[c].powi(2);
                sums[2] += (point[c] - exact[c]).abs();
                sums[3] += exact[c].abs();
            }
        }
        let is_whole = out.left_at.is_none();
        let facts = RolloutFacts { evaluations: out.evaluations, stiffness: out.stiffness, left_at: out.left_at };
        Ok(Measurement {
            label: self.label.clone(),
            l2_relative: Some(if is_whole { (sums[0] / sums[1]).sqrt() } else { f64::INFINITY }),
            l1_relative: Some(if is_whole { sums[2] / sums[3] } else { f64::INFINITY }),
            rollout: Some(facts),
            ..Measurement::default()
        })
    }
}

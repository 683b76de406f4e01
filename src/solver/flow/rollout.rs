//! Predictions from the first row of each run, compared with its other rows.

use super::runner::{Interval, Runner};
use super::trajectories::Trajectories;
use crate::solver::{Error, Number, Tensors};
use crate::train::{Measurement, RolloutFacts, in_pool};

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
    let (first, n) = runner.plan.state;
    let columns = rows.columns;
    let mut out = Rollout::default();
    let before = runner.evaluations();
    let mut active: Vec<(usize, usize)> = rows.runs.iter().map(|r| (r.start, r.end.min(r.start + most))).collect();
    let mut points: Vec<f64> = active.iter().flat_map(|(row, _)| rows.point(*row).to_vec()).collect();
    let mut slopes: Option<(Vec<f64>, Vec<f64>)> = None;
    let mut probes = 0;
    loop {
        out.rows.extend(active.iter().map(|(row, _)| *row));
        out.points.extend(&points);
        // runs that have a next row go on
        let goes_on: Vec<bool> = active.iter().map(|(row, end)| row + 1 < *end).collect();
        points = points.chunks(columns).zip(&goes_on).filter(|(_, g)| **g).flat_map(|(p, _)| p.to_vec()).collect();
        if goes_on.iter().any(|g| !g) {
            slopes = None;
        }
        active = active.into_iter().zip(goes_on).filter(|(_, g)| *g).map(|(a, _)| a).collect();
        if active.is_empty() {
            break;
        }
        let inputs: Vec<f64> = match runner.plan.inputs {
            Some(_) => active.iter().flat_map(|(row, _)| rows.values(*row).to_vec()).collect(),
            None => Vec::new(),
        };
        let lengths: Vec<f64> = active.iter().map(|(row, _)| rows.interval(*row)).collect();
        let interval = Interval { inputs: &inputs, lengths: &lengths };
        // how stiff it is here: slopes at two states that follow each other
        let slope = runner.slope(tensors, &points, interval)?;
        probes += 1;
        if let Some((s, f)) = &slopes {
            for (k, length) in lengths.iter().enumerate() {
                let steps = runner.steps(*length).unwrap_or(1) as f64;
                let (mut df, mut ds) = (0.0, 0.0);
                for i in 0..n {
                    df += (slope[k * n + i] - f[k * n + i]).powi(2);
                    ds += (points[k * columns + first + i] - s[k * columns + first + i]).powi(2);
                }
                if ds > 0.0 && df.is_finite() {
                    out.stiffness = out.stiffness.max((df / ds).sqrt() * length / steps);
                }
            }
        }
        slopes = Some((points.clone(), slope));
        let done = runner.advance(tensors, &mut points, interval, None, (seed, 0))?;
        if let Err(why) = done {
            let (at, point) = why.place();
            let (row, _) = active[point];
            out.left_at = Some(rows.times[row] + at * rows.interval(row));
            break;
        }
        active.iter_mut().for_each(|(row, _)| *row += 1);
    }
    out.evaluations = runner.evaluations() - before - probes;
    Ok(out)
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

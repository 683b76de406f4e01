//! A data set of trajectories: rows in the order of runs and times.

use crate::program::{DataId, GroupKind, Program};
use crate::solver::Error;
use crate::train::{DataError, Table};
use std::ops::Range;
use std::path::Path;

/// Rows of a data set, run by run, times ascending within each.
#[derive(Clone, Debug)]
pub struct Trajectories {
    /// Coordinates, [rows, columns of a point].
    pub points: Vec<f64>,
    /// All mentioned columns, [rows, width].
    pub values: Vec<f64>,
    /// Time of each row.
    pub times: Vec<f64>,
    /// The rows of each run.
    pub runs: Vec<Range<usize>>,
    /// Columns of a point.
    pub columns: usize,
    /// Mentioned columns.
    pub width: usize,
}

impl Trajectories {
    /// Sorts the rows of a table.
    ///
    /// # Errors
    /// Where two rows of a run have the same time.
    pub fn new(program: &Program, data: DataId, table: &Table, folder: &Path) -> Result<Self, Error> {
        let set = &program.data[data.index()];
        let (columns, width) = (program.columns(), set.columns.len());
        let column = |name: &str| set.columns.iter().position(|c| c == name);
        let time = program.groups.iter().find(|g| g.kind == GroupKind::Time).map(|g| g.first);
        let time_of = |row: usize| match (time, column("t")) {
            (Some(at), _) => table.points[row * columns + at],
            (None, at) => table.values[row * width + at.unwrap_or(0)],
        };
        let run_of = |row: usize| table.values[row * width + column("run").unwrap_or(0)];
        let mut order: Vec<usize> = (0..table.rows).collect();
        order.sort_by(|a, b| run_of(*a).total_cmp(&run_of(*b)).then(time_of(*a).total_cmp(&time_of(*b))));
        let mut out = Trajectories {
            points: Vec::with_capacity(table.points.len()),
            values: Vec::with_capacity(table.values.len()),
            times: Vec::new(),
            runs: Vec::new(),
            columns,
            width,
        };
        let mut first = 0;
        for (k, row) in order.iter().enumerate() {
            if k > 0 && run_of(*row) != run_of(order[k - 1]) {
                out.runs.push(first..k);
                first = k;
            } else if k > 0 && time_of(*row) == time_of(order[k - 1]) {
                let (file, t, run) = (set.place(folder), time_of(*row), run_of(*row));
                let reason =
                    format!("run {run} has two rows of time {t}; rows of different trajectories differ in `run`");
                return Err(DataError::Format { file, reason }.into());
            }
            out.points.extend(&table.points[row * columns..(row + 1) * columns]);
            out.values.extend(&table.values[row * width..(row + 1) * width]);
            out.times.push(time_of(*row));
        }
        out.runs.push(first..order.len());
        Ok(out)
    }

    /// The first rows of all windows of `horizon` + 1 rows of one run.
    pub fn windows(&self, horizon: usize) -> Vec<usize> {
        self.runs.iter().flat_map(|run| run.start..run.end.saturating_sub(horizon).max(run.start)).collect()
    }

    /// The point of a row.
    pub fn point(&self, row: usize) -> &[f64] {
        &self.points[row * self.columns..(row + 1) * self.columns]
    }

    /// The mentioned columns of a row.
    pub fn values(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// Time from a row to the next.
    pub fn interval(&self, row: usize) -> f64 {
        self.times[row + 1] - self.times[row]
    }
}

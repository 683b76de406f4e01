//! Which windows of the data a step takes, and their numbers as the program of windows reads them.

use super::trajectories::Trajectories;
use crate::net::{Philox, Purpose};
use crate::solver::Number;
use crate::train::dealt;

/// The windows of the data, and which of them a step takes.
pub struct Deal {
    pub data: Trajectories,
    /// Their first rows.
    pub windows: Vec<usize>,
    /// How many a step takes.
    pub batch: usize,
    pub seed: u64,
    /// Rows behind the first.
    pub horizon: usize,
    /// Columns of what is compared with the points, where that is not all that is known of a row: the first, and how many.
    pub compared: Option<(usize, usize)>,
}

/// The windows of a step: their first rows, points and data rows.
#[derive(Default)]
pub struct Batch<T> {
    pub step: Option<u64>,
    pub rows: Vec<usize>,
    pub points: Vec<T>,
    pub data: Vec<T>,
}

impl Deal {
    /// The first rows of the windows of a step: every window once in an epoch.
    pub fn rows(&self, step: u64) -> Vec<usize> {
        let first = step * self.batch as u64;
        let key = |epoch| Philox::new(self.seed, Purpose::Strata.stream(0), epoch).block(0);
        let rows = dealt(self.windows.len() as u32, first..first + self.batch as u64, key);
        rows.into_iter().map(|k| self.windows[k as usize]).collect()
    }

    /// Points and data rows of the windows that begin at these rows: for each interval `inputs` numbers, and the length of one of so many
    /// `steps`; and what is compared.
    pub fn gather<N: Clone>(
        &self,
        (inputs, steps): (usize, usize),
        rows: &[usize],
        of: impl Fn(f64) -> N,
        (points, data): (&mut Vec<N>, &mut Vec<N>),
    ) {
        let compared = self.compared.map_or(self.data.width, |(_, n)| n);
        let (columns, width) = (self.data.columns, self.horizon * (inputs + 1 + compared));
        points.resize(rows.len() * columns, of(0.0));
        data.resize(rows.len() * width, of(0.0));
        let put = |to: &mut [N], from: &[f64]| to.iter_mut().zip(from).for_each(|(to, x)| *to = of(*x));
        for ((row, point), data) in rows.iter().zip(points.chunks_exact_mut(columns)).zip(data.chunks_exact_mut(width))
        {
            put(point, self.data.point(*row));
            let (intervals, ends) = data.split_at_mut(self.horizon * (inputs + 1));
            for (j, to) in (*row..).zip(intervals.chunks_exact_mut(inputs + 1)) {
                put(&mut to[..inputs], self.data.values(j));
                to[inputs] = of(self.data.interval(j) / steps as f64);
            }
            for (j, to) in (row + 1..).zip(ends.chunks_exact_mut(compared.max(1))) {
                put(to, self.compared.map_or(self.data.values(j), |(first, _)| &self.data.point(j)[first..]));
            }
        }
    }

    /// The windows of a step.
    pub fn batch<T: Number>(&self, interval: (usize, usize), step: u64, mut batch: Batch<T>) -> Batch<T> {
        (batch.step, batch.rows) = (Some(step), self.rows(step));
        self.gather(interval, &batch.rows, T::of, (&mut batch.points, &mut batch.data));
        batch
    }
}

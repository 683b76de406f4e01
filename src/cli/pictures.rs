//! The pictures of a training run.

use super::Done;
use super::plot::{self, Curve, Grid};
use super::source::Loaded;
use crate::net::Parameters;
use crate::solver::{Number, Picture, picture};
use crate::train::Outcome;
use std::path::Path;

/// `loss.png`, and `solution.png` where the field can be drawn.
pub fn pictures<T: Number>(loaded: &Loaded, parameters: &Parameters<T>, outcome: &Outcome, out: &Path) -> Done {
    let program = &loaded.program;
    let history = &outcome.history;
    let column = |name: &str| history.column(name).unwrap_or_default();
    let conditions: Vec<(String, Vec<f64>)> =
        program.conditions.iter().map(|c| (c.name.clone(), column(&c.name))).collect();
    let errors: Vec<(String, Vec<f64>)> = outcome
        .measurements
        .iter()
        .filter(|m| m.l2_relative.is_some())
        .map(|m| (m.label.clone(), column(&m.label)))
        .collect();
    fn curves(columns: &[(String, Vec<f64>)]) -> Vec<Curve<'_>> {
        columns.iter().map(|(name, values)| Curve { name, values }).collect()
    }
    let path = out.join("loss.png");
    plot::loss(&path, &column("step"), &column("loss"), &curves(&conditions), &curves(&errors))?;
    match picture(program, parameters).map_err(|e| loaded.failure(e))? {
        Some(p) => Ok(draw(&p, &out.join("solution.png"))?),
        None => Ok(()),
    }
}

fn draw(p: &Picture, path: &Path) -> Result<(), plot::PlotError> {
    if let [axis] = &p.axes[..] {
        let (lo, hi) = p.ranges[0];
        let n = p.counts[0];
        let x: Vec<f64> = (0..n).map(|k| lo + (hi - lo) * k as f64 / (n - 1) as f64).collect();
        return plot::line(path, axis, &p.field, &x, &p.solution, p.exact.as_deref());
    }
    let grid =
        Grid { axes: [&p.axes[0], &p.axes[1]], ranges: [p.ranges[0], p.ranges[1]], counts: [p.counts[0], p.counts[1]] };
    plot::heat(path, &p.field, &grid, &p.solution, p.exact.as_deref())
}

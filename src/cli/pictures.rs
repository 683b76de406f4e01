//! The pictures of a training run.

use super::Done;
use super::plot::{self, Curve, Grid};
use super::source::Loaded;
use crate::net::Parameters;
use crate::solver::flow::{FlowObjective, rollout};
use crate::solver::{Evaluator, Number, Picture, Tensors, picture};
use crate::train::{Objective, Outcome};
use std::path::Path;

/// `loss.png`, and `solution.png` where the field can be drawn.
pub fn pictures<T: Number>(loaded: &Loaded, parameters: &Parameters<T>, outcome: &Outcome, out: &Path) -> Done {
    let program = &loaded.program;
    let names: Vec<String> = program.conditions.iter().map(|c| c.name.clone()).collect();
    loss(&names, outcome, out)?;
    match picture(program, parameters).map_err(|e| loaded.failure(e))? {
        Some(p) => Ok(draw(&p, &out.join("solution.png"))?),
        None => Ok(()),
    }
}

fn loss(names: &[String], outcome: &Outcome, out: &Path) -> Result<(), plot::PlotError> {
    let history = &outcome.history;
    let column = |name: &str| history.column(name).unwrap_or_default();
    let conditions: Vec<(String, Vec<f64>)> = names.iter().map(|name| (name.clone(), column(name))).collect();
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
    plot::loss(&path, &column("step"), &column("loss"), &curves(&conditions), &curves(&errors))
}

/// `loss.png`; `trajectory.png`: the first run of the data that it was fitted to beside its rollout; `midpoint.png`: what was learned of
/// the step along it.
pub fn flow<T: Number>(
    loaded: &Loaded,
    objective: &FlowObjective<T>,
    parameters: &Parameters<T>,
    outcome: &Outcome,
    (out, seed): (&Path, u64),
) -> Done {
    loss(&objective.conditions(), outcome, out)?;
    let (runner, rows) = (objective.runner(), objective.first_run());
    let tensors = Tensors::of(parameters);
    let found = rollout(runner, &tensors, &rows, usize::MAX, seed)?;
    let (first, n) = runner.plan.state;
    let state = loaded.program.flow.as_ref().map_or("s", |f| loaded.program.groups[f.state.index()].name.as_str());
    let shown = n.min(SHOWN);
    let times: Vec<f64> = found.rows.iter().map(|row| rows.times[*row]).collect();
    let series = |points: &dyn Fn(usize) -> f64| (0..found.rows.len()).map(points).collect::<Vec<f64>>();
    let mut named = Vec::new();
    for c in 0..shown {
        let column = |p: &[f64]| p[first + c];
        let predicted = series(&|k| column(&found.points[k * rows.columns..(k + 1) * rows.columns]));
        named.push((format!("{state}[{c}]"), predicted, Some(series(&|k| column(rows.point(found.rows[k]))))));
    }
    plot::trajectories(&out.join("trajectory.png"), "rollout (lines) and data (dashes)", &times, &named)?;
    if let Some(learned) = &runner.plan.learned {
        let evaluator = Evaluator::<T>::new(learned)?;
        let points: Vec<T> = found.points.iter().map(|x| T::of(*x)).collect();
        let mut data = Vec::new();
        for row in &found.rows {
            data.extend(runner.plan.inputs.iter().flat_map(|_| rows.values(*row)).map(|x| T::of(*x)));
            data.push(T::of(0.0));
        }
        let values = evaluator.run(parameters, found.rows.len(), &points, &data, seed, 0)?;
        let m = evaluator.width();
        let named: Vec<_> =
            (0..m.min(SHOWN)).map(|c| (format!("g[{c}]"), series(&|k| values[k * m + c].f64()), None)).collect();
        plot::trajectories(&out.join("midpoint.png"), "midpoint or correction along the rollout", &times, &named)?;
    }
    Ok(())
}

/// Components in a picture.
const SHOWN: usize = 6;

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

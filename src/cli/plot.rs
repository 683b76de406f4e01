//! Pictures of a run: its losses, and its solution where there are at most two coordinates. Inputs are plain arrays;
//! whatever is in them (nothing, NaN, constants) there is a picture and no panic.

mod axis;
mod canvas;
mod colour;
mod panel;

use axis::Axis;
use colour::{DIVERGING, INK, MAIN, PALETTE, VIRIDIS};
use panel::Panel;
use std::path::{Path, PathBuf};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Drawing failed.
    #[error("cannot draw: {0}")]
    Draw(String),
    /// Writing failed.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A named column of numbers.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// Its name in the legend.
    pub name: &'a str,
    /// Its numbers; NaN where there is none.
    pub values: &'a [f64],
}

/// `loss.png`: the loss and its parts over the steps, and below them the errors where there are any; both logarithmic.
pub fn loss(
    path: &Path,
    steps: &[f64],
    total: &[f64],
    conditions: &[Curve<'_>],
    errors: &[Curve<'_>],
) -> Result<(), PlotError> {
    let has_errors = errors.iter().any(|e| e.values.iter().any(|x| x.is_finite() && *x > 0.0));
    let size = if has_errors { (1000.0, 760.0) } else { (1000.0, 500.0) };
    canvas::draw(path, size, |canvas| {
        let middle = if has_errors { 460.0 } else { 430.0 };
        let last = steps.iter().copied().filter(|s| s.is_finite()).fold(1.0, f64::max);
        let x = Axis::exact(0.0, last);
        let all = conditions.iter().flat_map(|c| c.values).chain(total).copied();
        let panel = Panel { canvas, edges: [95.0, 40.0, 770.0, middle], x, y: Axis::log(all) };
        panel.axes("loss", if has_errors { "" } else { "step" }, "", true)?;
        let parts = if conditions.len() > 1 { conditions } else { &[] };
        let mut legend = vec![("loss".to_owned(), INK, false)];
        for (part, colour) in parts.iter().zip(PALETTE.iter().cycle()) {
            panel.line(steps, part.values, *colour, 1.3, false)?;
            legend.push((part.name.to_owned(), *colour, false));
        }
        panel.line(steps, total, INK, 1.6, false)?;
        panel.legend(&legend)?;
        if !panel.shows(total) {
            panel.note("no losses")?;
        }
        if has_errors {
            let y = Axis::log(errors.iter().flat_map(|e| e.values).copied());
            let panel = Panel { canvas, edges: [95.0, middle + 50.0, 770.0, 700.0], x, y };
            panel.axes("relative error", "step", "", true)?;
            let mut legend = Vec::new();
            for (error, colour) in errors.iter().zip(PALETTE[1..].iter().cycle()) {
                panel.marks(steps, error.values, *colour, 1.6)?;
                legend.push((error.name.to_owned(), *colour, false));
            }
            panel.legend(&legend)?;
        }
        Ok(())
    })
}

/// Measured curves over one parameter, with a logarithmic vertical axis.
pub fn curves(path: &Path, title: &str, x_name: &str, x: &[f64], curves: &[Curve<'_>]) -> Result<(), PlotError> {
    canvas::draw(path, (1000.0, 500.0), |canvas| {
        let finite = || x.iter().copied().filter(|v| v.is_finite());
        let range = Axis::exact(finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let y = Axis::log(curves.iter().flat_map(|c| c.values).copied());
        let panel = Panel { canvas, edges: [95.0, 40.0, 700.0, 430.0], x: range, y };
        panel.axes(title, x_name, "", true)?;
        let mut legend = Vec::new();
        for (curve, colour) in curves.iter().zip(PALETTE.iter().cycle()) {
            panel.marks(x, curve.values, *colour, 2.0)?;
            legend.push((curve.name.to_owned(), *colour, false));
        }
        panel.legend(&legend)
    })
}

/// A name, its values over time, and what they are compared with.
pub type Named = (String, Vec<f64>, Option<Vec<f64>>);

/// Components of a trajectory over time; dashes where they are compared with data.
pub fn trajectories(path: &Path, title: &str, times: &[f64], named: &[Named]) -> Result<(), PlotError> {
    canvas::draw(path, (1000.0, 500.0), |canvas| {
        let finite = || times.iter().copied().filter(|v| v.is_finite());
        let x = Axis::exact(finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let all = named.iter().flat_map(|(_, values, exact)| values.iter().chain(exact.iter().flatten()).copied());
        let y = Axis::around(all.collect::<Vec<f64>>().into_iter());
        let panel = Panel { canvas, edges: [95.0, 40.0, 820.0, 430.0], x, y };
        panel.axes(title, "t", "", true)?;
        let mut legend = Vec::new();
        for ((name, values, exact), colour) in named.iter().zip(PALETTE.iter().cycle()) {
            panel.line(times, values, *colour, 2.0, false)?;
            if let Some(exact) = exact {
                panel.line(times, exact, *colour, 1.2, true)?;
            }
            legend.push((name.clone(), *colour, false));
        }
        panel.legend(&legend)
    })
}

/// A field of one coordinate `axis` at the points `x` (ascending); with the exact solution also their difference.
pub fn line(
    path: &Path,
    axis: &str,
    field: &str,
    x: &[f64],
    solution: &[f64],
    exact: Option<&[f64]>,
) -> Result<(), PlotError> {
    let size = if exact.is_some() { (1000.0, 760.0) } else { (1000.0, 500.0) };
    canvas::draw(path, size, |canvas| {
        let bottom = if exact.is_some() { 470.0 } else { 430.0 };
        let finite = |x: &&f64| x.is_finite();
        let lo = x.iter().filter(finite).copied().fold(f64::INFINITY, f64::min);
        let hi = x.iter().filter(finite).copied().fold(f64::NEG_INFINITY, f64::max);
        let x_axis = Axis::exact(lo, hi);
        let y = Axis::around(solution.iter().chain(exact.into_iter().flatten()).copied());
        let panel = Panel { canvas, edges: [95.0, 40.0, 820.0, bottom], x: x_axis, y };
        panel.axes(field, if exact.is_some() { "" } else { axis }, "", true)?;
        let mut legend = vec![("solution".to_owned(), MAIN, false)];
        panel.line(x, solution, MAIN, 2.4, false)?;
        if let Some(exact) = exact {
            panel.line(x, exact, PALETTE[0], 1.6, true)?;
            legend.push(("exact".to_owned(), PALETTE[0], true));
        }
        panel.legend(&legend)?;
        if !panel.shows(solution) {
            panel.note("no numbers")?;
        }
        if let Some(exact) = exact {
            let difference: Vec<f64> = solution.iter().zip(exact).map(|(a, b)| a - b).collect();
            let y = Axis::around(difference.iter().copied().chain([0.0]));
            let panel = Panel { canvas, edges: [95.0, bottom + 50.0, 820.0, 700.0], x: x_axis, y };
            panel.axes("", axis, "", true)?;
            panel.line(&[x_axis.lo, x_axis.hi], &[0.0, 0.0], colour::FRAME, 1.0, false)?;
            panel.line(x, &difference, PALETTE[2], 1.8, false)?;
            panel.legend(&[("difference".to_owned(), PALETTE[2], false)])?;
        }
        Ok(())
    })
}

/// A regular grid of two coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a> {
    /// Their names.
    pub axes: [&'a str; 2],
    /// Their first and last values.
    pub ranges: [(f64, f64); 2],
    /// How many of each, ends included.
    pub counts: [usize; 2],
}

impl Grid<'_> {
    /// The field between the grid points, bilinear, at (u, v) in the unit square; `values` [counts[1], counts[0]].
    fn interpolate(&self, values: &[f64], u: f64, v: f64) -> f64 {
        let [nx, ny] = self.counts;
        let split = |t: f64, n: usize| {
            let position = t * n.saturating_sub(1) as f64;
            let i = (position as usize).min(n.saturating_sub(2));
            (i, position - i as f64)
        };
        let ((i, a), (j, b)) = (split(u, nx), split(v, ny));
        let (i1, j1) = ((i + 1).min(nx.saturating_sub(1)), (j + 1).min(ny.saturating_sub(1)));
        let at = |i: usize, j: usize| values.get(j * nx + i).copied().unwrap_or(f64::NAN);
        let mix = |p: f64, q: f64, t: f64| if t == 0.0 { p } else { p + (q - p) * t };
        mix(mix(at(i, j), at(i1, j), a), mix(at(i, j1), at(i1, j1), a), b)
    }
}

/// A field of two coordinates as a heat map; with the exact solution also that and the difference.
/// `solution` and `exact` are `[counts[1], counts[0]]`, the second coordinate upwards.
pub fn heat(
    path: &Path,
    field: &str,
    grid: &Grid<'_>,
    solution: &[f64],
    exact: Option<&[f64]>,
) -> Result<(), PlotError> {
    const SIDE: f64 = 300.0;
    const STRIDE: f64 = 470.0;
    let panels = if exact.is_some() { 3.0 } else { 1.0 };
    canvas::draw(path, (STRIDE * panels, 420.0), |canvas| {
        let values = extent_of(solution.iter().chain(exact.into_iter().flatten()).copied());
        let map = |k: usize, title: &str, colours: &colour::Map, range: Axis, values: &[f64]| {
            let left = 80.0 + STRIDE * k as f64;
            let [x, y] = grid.ranges.map(|(lo, hi)| Axis::exact(lo, hi));
            let panel = Panel { canvas, edges: [left, 45.0, left + SIDE, 45.0 + SIDE], x, y };
            panel.field(colours, range, |u, v| grid.interpolate(values, u, v))?;
            panel.axes(title, grid.axes[0], grid.axes[1], false)?;
            if panel.shows(values) { Ok(()) } else { panel.note("no numbers") }
        };
        map(0, field, VIRIDIS, values, solution)?;
        if let Some(exact) = exact {
            map(1, "exact", VIRIDIS, values, exact)?;
            let difference: Vec<f64> = solution.iter().zip(exact).map(|(a, b)| a - b).collect();
            let largest = difference.iter().map(|d| d.abs()).filter(|d| d.is_finite()).fold(0.0, f64::max);
            let range = if largest > 0.0 { Axis::exact(-largest, largest) } else { Axis::exact(-1.0, 1.0) };
            map(2, "difference", DIVERGING, range, &difference)?;
        }
        Ok(())
    })
}

/// The range of the finite numbers without a margin; with one where they are all the same.
fn extent_of(numbers: impl Iterator<Item = f64> + Clone) -> Axis {
    let finite = numbers.clone().filter(|x| x.is_finite());
    let lo = finite.clone().fold(f64::INFINITY, f64::min);
    let hi = finite.fold(f64::NEG_INFINITY, f64::max);
    if hi - lo > 1e-12 * lo.abs().max(hi.abs()) { Axis::exact(lo, hi) } else { Axis::around(numbers) }
}

#[cfg(test)]
mod tests;

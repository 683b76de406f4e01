//! One rectangle with axes, lines or a field.

use super::PlotError;
use super::axis::{Axis, Scale};
use super::canvas::{Anchor, Canvas};
use super::colour::{self, FRAME, GRID, Map};
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, VPos};

/// Size of labels.
pub const SMALL: f64 = 15.0;
/// Size of titles.
pub const LARGE: f64 = 18.0;
const TICK: f64 = 4.0;

/// Where a panel is and what its axes mean; pixels, y downwards.
pub struct Panel<'a, 'b> {
    /// The canvas.
    pub canvas: &'a Canvas<'b>,
    /// Left, top, right, bottom.
    pub edges: [f64; 4],
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
}

impl Panel<'_, '_> {
    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let [left, top, right, bottom] = self.edges;
        let (u, v) = (self.x.position(x)?, self.y.position(y)?);
        Some((left + (right - left) * u, bottom + (top - bottom) * v))
    }

    fn frame(&self) -> Result<(), PlotError> {
        let [l, t, r, b] = self.edges;
        let corners = [(l, t), (r, t), (r, b), (l, b), (l, t)];
        corners.windows(2).try_for_each(|side| self.canvas.hair(side[0], side[1], FRAME))
    }

    /// Grid, frame, ticks, names. An empty x name leaves out the numbers along x.
    pub fn axes(&self, title: &str, x_name: &str, y_name: &str, grid: bool) -> Result<(), PlotError> {
        let [left, top, right, bottom] = self.edges;
        let (x_ticks, x_factor) = self.x.ticks(((right - left) / 65.0) as usize);
        let (y_ticks, y_factor) = self.y.ticks(((bottom - top) / 50.0) as usize);
        for (value, label) in &x_ticks {
            let Some((x, _)) = self.place(*value, self.y.lo) else { continue };
            if grid {
                self.canvas.hair((x, top), (x, bottom), GRID)?;
            }
            self.canvas.hair((x, bottom), (x, bottom + TICK), FRAME)?;
            if !x_name.is_empty() {
                self.canvas.text(label, (x, bottom + TICK + 3.0), SMALL, (HPos::Center, VPos::Top))?;
            }
        }
        let mut widest: f64 = 0.0;
        for (value, label) in &y_ticks {
            let Some((_, y)) = self.place(self.x.lo, *value) else { continue };
            if grid {
                self.canvas.hair((left, y), (right, y), GRID)?;
            }
            self.canvas.hair((left - TICK, y), (left, y), FRAME)?;
            self.canvas.text(label, (left - TICK - 4.0, y), SMALL, (HPos::Right, VPos::Center))?;
            widest = widest.max(self.canvas.text_width(label, SMALL));
        }
        for y in self.y.minor().into_iter().filter_map(|value| Some(self.place(self.x.lo, value)?.1)) {
            self.canvas.hair((left - 0.5 * TICK, y), (left, y), FRAME)?;
        }
        self.frame()?;
        self.canvas.text(title, (left, top - 8.0), LARGE, (HPos::Left, VPos::Bottom))?;
        self.canvas.text(&y_factor, (left - TICK, top - 8.0), SMALL, (HPos::Right, VPos::Bottom))?;
        if !x_name.is_empty() {
            let below = bottom + TICK + 26.0;
            self.canvas.text(x_name, ((left + right) / 2.0, below), SMALL, (HPos::Center, VPos::Top))?;
            self.canvas.text(&x_factor, (right, below), SMALL, (HPos::Right, VPos::Top))?;
        }
        let beside = (left - TICK - widest - 18.0, (top + bottom) / 2.0);
        match y_name.chars().count() {
            0..=2 => self.canvas.text(y_name, beside, SMALL, (HPos::Center, VPos::Center)),
            _ => self.canvas.upright(y_name, beside, SMALL),
        }
    }

    /// A line through the points that have a place, broken where one has none; a lone point is a dot.
    pub fn line(&self, x: &[f64], y: &[f64], colour: RGBColor, width: f64, dashed: bool) -> Result<(), PlotError> {
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (x, y) in x.iter().zip(y).map(|(x, y)| (*x, *y)).chain([(f64::NAN, f64::NAN)]) {
            match self.place(x, y) {
                Some(point) => points.push(point),
                None => {
                    match points.as_slice() {
                        [point] => self.canvas.dot(*point, colour, 1.5 * width)?,
                        _ if dashed => dashes(&points).iter().try_for_each(|d| self.canvas.path(d, colour, width))?,
                        points => self.canvas.path(points, colour, width)?,
                    }
                    points.clear();
                }
            }
        }
        Ok(())
    }

    /// Points of a series that has a number here and there only, joined.
    pub fn marks(&self, x: &[f64], y: &[f64], colour: RGBColor, width: f64) -> Result<(), PlotError> {
        let points: Vec<_> = x.iter().zip(y).filter_map(|(x, y)| self.place(*x, *y)).collect();
        self.canvas.path(&points, colour, width)?;
        let every = points.len().div_ceil(60).max(1);
        points.iter().step_by(every).try_for_each(|p| self.canvas.dot(*p, colour, 1.5 * width))
    }

    /// A field of (u, v) in the unit square, with a colour bar beside the panel.
    pub fn field(&self, map: &Map, range: Axis, value: impl Fn(f64, f64) -> f64) -> Result<(), PlotError> {
        let [left, top, right, bottom] = self.edges;
        let paint = |value: f64| colour::at(map, (value - range.lo) / (range.hi - range.lo));
        self.canvas.image((left, bottom), (right, top), |u, v| paint(value(u, v)))?;
        let bar = Panel {
            canvas: self.canvas,
            edges: [right + 12.0, top, right + 26.0, bottom],
            x: Axis::exact(0.0, 1.0),
            y: range,
        };
        let [bar_left, _, bar_right, _] = bar.edges;
        self.canvas.image((bar_left, bottom), (bar_right, top), |_, v| colour::at(map, v))?;
        bar.frame()?;
        let (ticks, factor) = range.ticks(((bottom - top) / 50.0) as usize);
        for (value, label) in ticks {
            let Some((_, y)) = bar.place(0.0, value) else { continue };
            self.canvas.hair((bar_right, y), (bar_right + TICK, y), FRAME)?;
            self.canvas.text(&label, (bar_right + TICK + 4.0, y), SMALL, (HPos::Left, VPos::Center))?;
        }
        self.canvas.text(&factor, (bar_left, top - 8.0), SMALL, (HPos::Left, VPos::Bottom))
    }

    /// Names of lines, to the right of the panel.
    pub fn legend(&self, entries: &[(String, RGBColor, bool)]) -> Result<(), PlotError> {
        let [_, top, right, bottom] = self.edges;
        const STEP: f64 = 22.0;
        let room = ((bottom - top) / STEP).max(1.0) as usize;
        for (i, (name, colour, dashed)) in entries.iter().take(room).enumerate() {
            let (x, y) = (right + 16.0, top + 10.0 + STEP * i as f64);
            let stroke = [(x, y), (x + 24.0, y)];
            let strokes = if *dashed { dashes(&stroke) } else { vec![stroke.to_vec()] };
            strokes.iter().try_for_each(|s| self.canvas.path(s, *colour, 2.0))?;
            let anchor: Anchor = (HPos::Left, VPos::Center);
            self.canvas.text(&shortened(name), (x + 32.0, y), SMALL, anchor)?;
        }
        Ok(())
    }

    /// Says in the middle that there is nothing to see.
    pub fn note(&self, text: &str) -> Result<(), PlotError> {
        let [left, top, right, bottom] = self.edges;
        let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
        self.canvas.text(text, middle, LARGE, (HPos::Center, VPos::Center))
    }

    /// True where a number has a place along y.
    pub fn shows(&self, y: &[f64]) -> bool {
        y.iter().any(|y| y.is_finite() && (self.y.scale == Scale::Linear || *y > 0.0))
    }
}

fn shortened(name: &str) -> String {
    const LONGEST: usize = 18;
    if name.chars().count() <= LONGEST {
        return name.to_owned();
    }
    name.chars().take(LONGEST - 1).chain(['\u{2026}']).collect()
}

/// Cuts a path into strokes of 7 pixels with gaps of 5.
fn dashes(points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    const PATTERN: [f64; 2] = [7.0, 5.0];
    let (mut strokes, mut stroke) = (Vec::new(), Vec::new());
    let (mut on, mut left) = (true, PATTERN[0]);
    for pair in points.windows(2) {
        let [(mut x, mut y), (x1, y1)] = [pair[0], pair[1]];
        if on && stroke.is_empty() {
            stroke.push((x, y));
        }
        loop {
            let rest = (x1 - x).hypot(y1 - y);
            if rest <= left {
                left -= rest;
                if on {
                    stroke.push((x1, y1));
                }
                break;
            }
            (x, y) = (x + (x1 - x) * left / rest, y + (y1 - y) * left / rest);
            stroke.push((x, y));
            if on {
                strokes.push(std::mem::take(&mut stroke));
            }
            on = !on;
            left = PATTERN[usize::from(!on)];
        }
    }
    strokes.push(stroke);
    strokes
}

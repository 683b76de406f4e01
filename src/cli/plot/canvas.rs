//! A picture under way. Units are 1/SCALE pixels of the result; lines are drawn by their distance to each pixel's centre,
//! so that they are smooth and equally wide in all directions.

use super::PlotError;
use crate::net::{beside, replace};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};
use std::path::Path;
use std::sync::OnceLock;

/// Pixels per unit.
const SCALE: f64 = 1.5;
const FONT: &str = "jetc sans";

/// Where a text stands relative to its point: horizontally and vertically.
pub type Anchor = (HPos, VPos);

/// The picture.
pub struct Canvas<'a> {
    area: DrawingArea<BitMapBackend<'a>, Shift>,
}

fn error<E: std::fmt::Display>(e: E) -> PlotError {
    PlotError::Draw(e.to_string())
}

/// Draws a picture of a size in units and writes it as PNG, atomically.
pub fn draw(
    path: &Path,
    size: (f64, f64),
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), PlotError>,
) -> Result<(), PlotError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    if !REGISTERED.get_or_init(|| register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok()) {
        return Err(PlotError::Draw("the font cannot be read".into()));
    }
    let write = |source| PlotError::Write { path: path.into(), source };
    let temporary = beside(path).map_err(write)?;
    {
        let (width, height) = pixels(size);
        let area = BitMapBackend::new(temporary.path(), (width as u32, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(error)?;
        let canvas = Canvas { area };
        draw(&canvas)?;
        canvas.area.present().map_err(error)?;
    }
    replace(temporary, path).map_err(write)
}

/// Nearest whole pixels.
fn pixels((x, y): (f64, f64)) -> (i32, i32) {
    let scale = |v: f64| (v.clamp(-1e5, 1e5) * SCALE).round() as i32;
    (scale(x), scale(y))
}

impl Canvas<'_> {
    /// A text.
    pub fn text(&self, text: &str, at: (f64, f64), size: f64, anchor: Anchor) -> Result<(), PlotError> {
        self.styled_text(text, at, size, anchor, FontTransform::None)
    }

    /// A text that reads upwards, centred on its point.
    pub fn upright(&self, text: &str, at: (f64, f64), size: f64) -> Result<(), PlotError> {
        self.styled_text(text, at, size, (HPos::Center, VPos::Center), FontTransform::Rotate270)
    }

    fn styled_text(
        &self,
        text: &str,
        at: (f64, f64),
        size: f64,
        (h, v): Anchor,
        transform: FontTransform,
    ) -> Result<(), PlotError> {
        if text.is_empty() {
            return Ok(());
        }
        let font = (FONT, size * SCALE).into_font().transform(transform);
        let style = font.color(&super::colour::INK).pos(Pos::new(h, v));
        self.area.draw_text(text, &style, pixels(at)).map_err(error)
    }

    /// Width of a text.
    pub fn text_width(&self, text: &str, size: f64) -> f64 {
        let style = (FONT, size * SCALE).into_font().into();
        self.area.estimate_text_size(text, &style).map_or(0.0, |(w, _)| f64::from(w) / SCALE)
    }

    /// A thin straight line, horizontal or vertical, on whole pixels.
    pub fn hair(&self, from: (f64, f64), to: (f64, f64), colour: RGBColor) -> Result<(), PlotError> {
        self.area.draw(&PathElement::new([pixels(from), pixels(to)], colour.stroke_width(1))).map_err(error)
    }

    /// Straight lines from point to point with round ends.
    pub fn path(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Result<(), PlotError> {
        let radius = 0.5 * width * SCALE;
        let reach = radius + 1.0;
        let points: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x * SCALE, y * SCALE)).collect();
        let (width, height) = self.area.dim_in_pixel();
        // The part of the picture that the path can touch, and how much of each pixel there it covers.
        let span = |numbers: &mut dyn Iterator<Item = f64>, end: u32| {
            let (lo, hi) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), x| (lo.min(x), hi.max(x)));
            (lo - reach).max(0.0) as usize..((hi + reach).max(0.0) as usize + 1).min(end as usize)
        };
        let columns = span(&mut points.iter().map(|p| p.0), width);
        let rows = span(&mut points.iter().map(|p| p.1), height);
        let mut coverage = vec![0f32; columns.len() * rows.len()];
        for pair in points.windows(2) {
            let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
            let (dx, dy) = (x1 - x0, y1 - y0);
            let length2 = dx * dx + dy * dy;
            for y in span(&mut [y0, y1].into_iter(), height) {
                for x in span(&mut [x0, x1].into_iter(), width) {
                    let (px, py) = (x as f64 + 0.5 - x0, y as f64 + 0.5 - y0);
                    let t = if length2 > 0.0 { ((px * dx + py * dy) / length2).clamp(0.0, 1.0) } else { 0.0 };
                    let distance = (px - t * dx).hypot(py - t * dy);
                    let cover = (radius + 0.5 - distance).clamp(0.0, 1.0) as f32;
                    let pixel = &mut coverage[(y - rows.start) * columns.len() + x - columns.start];
                    *pixel = pixel.max(cover);
                }
            }
        }
        for (i, cover) in coverage.into_iter().enumerate().filter(|(_, cover)| *cover > 0.0) {
            let at = ((columns.start + i % columns.len()) as i32, (rows.start + i / columns.len()) as i32);
            self.area.draw_pixel(at, &colour.mix(f64::from(cover))).map_err(error)?;
        }
        Ok(())
    }

    /// A dot.
    pub fn dot(&self, at: (f64, f64), colour: RGBColor, radius: f64) -> Result<(), PlotError> {
        self.path(&[at, at], colour, 2.0 * radius)
    }

    /// A picture of a function of (u, v) in the unit square, v upwards, over the rectangle between two corners.
    pub fn image(
        &self,
        low: (f64, f64),
        high: (f64, f64),
        colour: impl Fn(f64, f64) -> RGBColor,
    ) -> Result<(), PlotError> {
        let ((x0, y1), (x1, y0)) = (pixels(low), pixels(high));
        let (width, height) = ((x1 - x0).max(1), (y1 - y0).max(1));
        let mut picture = Vec::with_capacity((3 * width * height) as usize);
        for j in 0..height {
            for i in 0..width {
                let u = (f64::from(i) + 0.5) / f64::from(width);
                let v = 1.0 - (f64::from(j) + 0.5) / f64::from(height);
                let RGBColor(r, g, b) = colour(u, v);
                picture.extend_from_slice(&[r, g, b]);
            }
        }
        let size = (width as u32, height as u32);
        match BitMapElement::<_, plotters::backend::RGBPixel>::with_owned_buffer((x0, y0), size, picture) {
            Some(element) => self.area.draw(&element).map_err(error),
            None => Ok(()),
        }
    }
}

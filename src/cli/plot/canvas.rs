//! A picture under way, in pixels of the result. It is drawn at twice the size and scaled down, for smooth edges.

use super::PlotError;
use crate::net::{beside, replace};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};
use std::path::Path;
use std::sync::OnceLock;

const SCALE: u32 = 2;
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

/// Draws a picture and writes it as PNG, atomically.
pub fn draw(
    path: &Path,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Result<(), PlotError>,
) -> Result<(), PlotError> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    if !REGISTERED.get_or_init(|| register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok()) {
        return Err(PlotError::Draw("the font cannot be read".into()));
    }
    let mut large = vec![0; (3 * SCALE * SCALE * width * height) as usize];
    {
        let area = BitMapBackend::with_buffer(&mut large, (SCALE * width, SCALE * height)).into_drawing_area();
        area.fill(&WHITE).map_err(error)?;
        draw(&Canvas { area })?;
    }
    let small = shrink(&large, width as usize, height as usize);
    let write = |source| PlotError::Write { path: path.into(), source };
    let temporary = beside(path).map_err(write)?;
    let mut picture = BitMapBackend::new(temporary.path(), (width, height));
    picture.blit_bitmap((0, 0), (width, height), &small).map_err(error)?;
    picture.present().map_err(error)?;
    drop(picture);
    replace(temporary, path).map_err(write)
}

/// Means of blocks of pixels.
fn shrink(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let scale = SCALE as usize;
    let mut small = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let sum: usize = (0..scale * scale)
                    .map(|k| (y * scale + k / scale) * width * scale + x * scale + k % scale)
                    .map(|pixel| usize::from(large[3 * pixel + channel]))
                    .sum();
                small.push((sum / (scale * scale)) as u8);
            }
        }
    }
    small
}

fn scaled((x, y): (f64, f64)) -> (i32, i32) {
    let scale = |v: f64| (v.clamp(-1e5, 1e5) * f64::from(SCALE)).round() as i32;
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
        let font = (FONT, size * f64::from(SCALE)).into_font().transform(transform);
        let style = font.color(&super::colour::INK).pos(Pos::new(h, v));
        self.area.draw_text(text, &style, scaled(at)).map_err(error)
    }

    /// Width of a text in pixels.
    pub fn text_width(&self, text: &str, size: f64) -> f64 {
        let style = (FONT, size * f64::from(SCALE)).into_font().into();
        self.area.estimate_text_size(text, &style).map_or(0.0, |(w, _)| f64::from(w) / f64::from(SCALE))
    }

    /// Straight lines from point to point.
    pub fn path(&self, points: &[(f64, f64)], colour: RGBColor, width: f64) -> Result<(), PlotError> {
        if points.len() < 2 {
            return Ok(());
        }
        let style = colour.stroke_width((width * f64::from(SCALE)).round().max(1.0) as u32);
        let points: Vec<(i32, i32)> = points.iter().map(|p| scaled(*p)).collect();
        self.area.draw(&PathElement::new(points, style)).map_err(error)
    }

    /// A dot.
    pub fn dot(&self, at: (f64, f64), colour: RGBColor, radius: f64) -> Result<(), PlotError> {
        let radius = (radius * f64::from(SCALE)).round() as i32;
        self.area.draw(&Circle::new(scaled(at), radius, colour.filled())).map_err(error)
    }

    /// A picture of a function of (u, v) in the unit square, v upwards, over the rectangle between two corners.
    pub fn image(
        &self,
        low: (f64, f64),
        high: (f64, f64),
        colour: impl Fn(f64, f64) -> RGBColor,
    ) -> Result<(), PlotError> {
        let ((x0, y1), (x1, y0)) = (scaled(low), scaled(high));
        let (width, height) = ((x1 - x0).max(1), (y1 - y0).max(1));
        let mut pixels = Vec::with_capacity((3 * width * height) as usize);
        for j in 0..height {
            for i in 0..width {
                let u = (f64::from(i) + 0.5) / f64::from(width);
                let v = 1.0 - (f64::from(j) + 0.5) / f64::from(height);
                let RGBColor(r, g, b) = colour(u, v);
                pixels.extend_from_slice(&[r, g, b]);
            }
        }
        let size = (width as u32, height as u32);
        match BitMapElement::<_, plotters::backend::RGBPixel>::with_owned_buffer((x0, y0), size, pixels) {
            Some(element) => self.area.draw(&element).map_err(error),
            None => Ok(()),
        }
    }
}

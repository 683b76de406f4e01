//! Colours: one palette for lines, two maps for fields.

use plotters::style::RGBColor;

/// Text.
pub const INK: RGBColor = RGBColor(0x2b, 0x2b, 0x2b);
/// Frames and ticks.
pub const FRAME: RGBColor = RGBColor(0x8a, 0x8a, 0x8a);
/// Grid lines.
pub const GRID: RGBColor = RGBColor(0xe8, 0xe8, 0xe8);
/// What is not a number.
pub const NOTHING: RGBColor = RGBColor(0xd0, 0xd0, 0xd0);
/// The main line.
pub const MAIN: RGBColor = RGBColor(0x00, 0x5f, 0xa3);

/// Okabe and Ito's colours, which readers with colour blindness can tell apart.
pub const PALETTE: [RGBColor; 7] = [
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x8c, 0x6d, 0x31),
];

/// A colour map: colours at equal distances, linear between them.
pub type Map = [u32];

/// Viridis: from dark blue to yellow, even in lightness.
pub const VIRIDIS: &Map =
    &[0x440154, 0x482878, 0x3e4989, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6ece58, 0xb5de2b, 0xfde725];

/// Blue through white to red, for numbers around zero.
pub const DIVERGING: &Map =
    &[0x053061, 0x2166ac, 0x4393c3, 0x92c5de, 0xd1e5f0, 0xf7f7f7, 0xfddbc7, 0xf4a582, 0xd6604d, 0xb2182b, 0x67001f];

/// The colour at `u` in [0, 1]; beyond the ends, the ends.
pub fn at(map: &Map, u: f64) -> RGBColor {
    if !u.is_finite() || map.is_empty() {
        return NOTHING;
    }
    let position = u.clamp(0.0, 1.0) * (map.len() - 1) as f64;
    let i = (position as usize).min(map.len().saturating_sub(2));
    let (a, b) = (map[i], map[(i + 1).min(map.len() - 1)]);
    let part = |shift: u32| {
        let [a, b] = [a, b].map(|c| f64::from(c >> shift & 0xff));
        (a + (b - a) * (position - i as f64)).round() as u8
    };
    RGBColor(part(16), part(8), part(0))
}

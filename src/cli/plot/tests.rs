//! Pictures of good and bad data. `JETC_PLOTS=DIR cargo test plot` keeps the good ones for looking at.

use super::*;
use std::f64::consts::PI;

/// Draws into a file, and gives its size in pixels from the PNG header.
fn drawn(name: &str, draw: impl FnOnce(&Path) -> Result<(), PlotError>) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let keep = std::env::var_os("JETC_PLOTS").map(PathBuf::from);
    let path = keep.as_deref().unwrap_or(folder.path()).join(name);
    draw(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes[..8], *b"\x89PNG\r\n\x1a\n");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn losses_with_and_without_errors() {
    let steps: Vec<f64> = (1..=1000).map(|s| f64::from(s) * 10.0).collect();
    let noise = |s: f64, k: f64| (0.3 * (s * 0.37 + k).sin() + 0.2 * (s * 1.7 + k * k).cos()).exp();
    let falling = |k: f64| -> Vec<f64> {
        steps.iter().map(|s| k * noise(*s, k) * (10.0 / s + 1e-4 * (-s / 4000.0).exp())).collect()
    };
    let (interior, edge, start) = (falling(3.0), falling(0.8), falling(0.05));
    let total: Vec<f64> = (0..1000).map(|i| interior[i] + edge[i] + start[i]).collect();
    let error: Vec<f64> = steps.iter().map(|s| if s % 500.0 == 0.0 { 2.0 / s } else { f64::NAN }).collect();
    let conditions = [("interior", &interior), ("edge", &edge), ("start", &start)];
    let conditions = conditions.map(|(name, values)| Curve { name, values });
    let errors = [Curve { name: "error(u, exact)", values: &error }];
    assert_eq!(drawn("loss.png", |p| loss(p, &steps, &total, &conditions, &errors)), (1500, 1140));
    assert_eq!(drawn("loss_only.png", |p| loss(p, &steps, &total, &conditions[..1], &[])), (1500, 750));
}

#[test]
fn solutions_of_one_coordinate() {
    let x: Vec<f64> = (0..=200).map(|i| f64::from(i) / 200.0).collect();
    let exact: Vec<f64> = x.iter().map(|x| (PI * x).sin()).collect();
    let solution: Vec<f64> = x.iter().map(|x| (PI * x).sin() + 2e-4 * (9.0 * x).sin()).collect();
    assert_eq!(drawn("line.png", |p| line(p, "x", "u", &x, &solution, Some(&exact))), (1500, 1140));
    assert_eq!(drawn("line_only.png", |p| line(p, "x", "u", &x, &solution, None)), (1500, 750));
}

#[test]
fn solutions_of_two_coordinates() {
    let grid = Grid { axes: ["x", "t"], ranges: [(-1.0, 1.0), (0.0, 0.5)], counts: [81, 61] };
    let at = |k: usize| (-1.0 + (k % 81) as f64 / 40.0, (k / 81) as f64 / 120.0);
    let exact: Vec<f64> = (0..81 * 61).map(at).map(|(x, t)| -(PI * x).sin() * (-2.0 * t).exp()).collect();
    let solution: Vec<f64> =
        (0..81 * 61).map(at).zip(&exact).map(|((x, t), e)| e + 3e-3 * (5.0 * x).cos() * (t - 0.2)).collect();
    assert_eq!(drawn("heat.png", |p| heat(p, "u", &grid, &solution, Some(&exact))), (2115, 630));
    assert_eq!(drawn("heat_only.png", |p| heat(p, "u", &grid, &solution, None)), (705, 630));
}

/// Interpolation is exact at the grid points and for bilinear fields between them.
#[test]
fn interpolation() {
    let grid = Grid { axes: ["x", "y"], ranges: [(0.0, 1.0); 2], counts: [5, 3] };
    let f = |u: f64, v: f64| 1.0 + 2.0 * u - v + 3.0 * u * v;
    let values: Vec<f64> = (0..15).map(|k| f((k % 5) as f64 / 4.0, (k / 5) as f64 / 2.0)).collect();
    for (u, v) in [(0.0, 0.0), (1.0, 1.0), (0.25, 0.5), (0.1, 0.9), (0.77, 0.33)] {
        assert!((grid.interpolate(&values, u, v) - f(u, v)).abs() < 1e-14);
    }
}

#[test]
fn bad_data_makes_a_picture_all_the_same() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let columns: [&[f64]; 7] =
        [&[], &[nan, nan], &[0.0, 0.0], &[1.0], &[inf, -inf, 5.0], &[1e308, -1e308], &[5e-324, 1.0, nan]];
    for values in columns {
        let curve = [Curve { name: "a condition with a very long name, longer than the legend", values }];
        drawn("bad.png", |p| loss(p, &[1.0, 2.0, 3.0], values, &curve, &curve));
        drawn("bad.png", |p| line(p, "x", "u", &[0.0, 1.0, 2.0], values, Some(values)));
        drawn("bad.png", |p| line(p, "", "", values, values, None));
        let grid = Grid { axes: ["x", "y"], ranges: [(0.0, 1.0), (nan, inf)], counts: [3, 1] };
        drawn("bad.png", |p| heat(p, "u", &grid, values, None));
    }
    for counts in [[0, 0], [2, 2], [1000, 1000]] {
        let grid = Grid { axes: ["x", "y"], ranges: [(0.0, 0.0), (nan, inf)], counts };
        drawn("bad.png", |p| heat(p, "u", &grid, &[-1.0, nan, 2.0], Some(&[1.0])));
    }
    let gone = line(Path::new("no/such/folder/x.png"), "x", "u", &[], &[], None);
    assert!(matches!(gone, Err(PlotError::Write { .. })));
}

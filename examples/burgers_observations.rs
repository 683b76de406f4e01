//! Makes `examples/burgers_observations.csv`: Burgers' equation u_t + u u_x = nu u_xx on (-1, 1) with u = 0 at both
//! ends and u(x, 0) = -sin(pi x), for nu = 0.02, at a grid of points.
//!
//!     cargo run --release --example burgers_observations
//!
//! Central differences in space, the classical Runge-Kutta method in time; the result is compared with the exact
//! solution by Cole (1951) and Hopf (1950), as an integral, before it is written.

use std::f64::consts::PI;
use std::fmt::Write;

const NU: f64 = 0.02;
/// Cells of the solver's grid.
const CELLS: usize = 1600;
/// Observed points in x and in t (t = 0 aside).
const OBSERVED: (usize, usize) = (65, 32);

fn main() -> std::io::Result<()> {
    let dx = 2.0 / CELLS as f64;
    // the stability limit of the method for diffusion is 2.78 dx^2 / (4 nu)
    let per_output = (1.0 / OBSERVED.1 as f64 / (0.5 * dx * dx / NU)).ceil() as usize;
    let dt = 1.0 / (OBSERVED.1 * per_output) as f64;
    let x = |i: usize| -1.0 + i as f64 * dx;
    let mut u: Vec<f64> = (0..=CELLS).map(|i| -(PI * x(i)).sin()).collect();
    let mut csv = String::from("x,t,u\n");
    let mut worst: f64 = 0.0;
    for n in 0..=OBSERVED.1 {
        let t = n as f64 / OBSERVED.1 as f64;
        for k in 0..OBSERVED.0 {
            let i = k * CELLS / (OBSERVED.0 - 1);
            let _ = writeln!(csv, "{},{},{:.9}", x(i), t, u[i]);
            if n > 0 {
                worst = worst.max((u[i] - exact(x(i), t)).abs());
            }
        }
        for _ in 0..per_output {
            step(&mut u, dx, dt);
        }
    }
    println!("largest difference to the exact solution: {worst:.1e}");
    assert!(worst < 2e-4, "the solver is not accurate enough");
    std::fs::write("examples/burgers_observations.csv", csv)
}

/// One Runge-Kutta step.
fn step(u: &mut [f64], dx: f64, dt: f64) {
    let shifted = |u: &[f64], k: &[f64], h: f64| -> Vec<f64> { u.iter().zip(k).map(|(u, k)| u + h * k).collect() };
    let k1 = slope(u, dx);
    let k2 = slope(&shifted(u, &k1, dt / 2.0), dx);
    let k3 = slope(&shifted(u, &k2, dt / 2.0), dx);
    let k4 = slope(&shifted(u, &k3, dt), dx);
    for i in 0..u.len() {
        u[i] += dt / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]);
    }
}

/// nu u_xx - (u^2/2)_x, and 0 at the ends.
fn slope(u: &[f64], dx: f64) -> Vec<f64> {
    let mut out = vec![0.0; u.len()];
    for i in 1..u.len() - 1 {
        let (l, m, r) = (u[i - 1], u[i], u[i + 1]);
        out[i] = NU * (l - 2.0 * m + r) / (dx * dx) - (r * r - l * l) / (4.0 * dx);
    }
    out
}

/// u = -int sin(pi y) f(y) K / int f(y) K, f(y) = exp(-cos(pi y)/(2 pi nu)), K the heat kernel at x - y, by the
/// trapezoidal rule (both integrands are smooth and vanish at infinity).
fn exact(x: f64, t: f64) -> f64 {
    let width = (4.0 * NU * t).sqrt();
    let (mut above, mut below) = (0.0, 0.0);
    for k in -600..=600 {
        let s = 8.0 * k as f64 / 600.0;
        let y = x - width * s;
        // the constant in the exponent keeps the numbers of order one
        let f = (-((PI * y).cos() + 1.0) / (2.0 * PI * NU) - s * s).exp();
        above += (PI * y).sin() * f;
        below += f;
    }
    -above / below
}

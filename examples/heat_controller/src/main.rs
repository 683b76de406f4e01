//! Keeps the middle of a heated bar at a target, with a trained solver as the model.
//!
//! Every half second of simulated time the controller asks the solver what the middle will be for many heating powers, all in
//! one call, and takes the best one. The plant is a finite-difference simulation that the controller knows nothing of.
//!
//!     jetc train bar.jet --out runs && cargo run --release -- runs/solver.safetensors

use jetc::ndarray::{Array2, ArrayView2};
use jetc::{Error, Solver};
use std::time::Instant;

const PERIOD: f64 = 0.5;
const POWERS: usize = 101;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give the artifact: runs/solver.safetensors")?;
    let solver = Solver::<f64>::load(&path)?;
    let mut plant = Plant::new(0.2);
    let mut points = Array2::zeros((POWERS, 4));
    let mut values = Array2::zeros((0, 0));
    let mut asked = 0.0;
    let mut worst = 0.0f64;
    println!("{:>5} {:>8} {:>8} {:>8}", "time", "target", "middle", "power");
    for period in 0..24 {
        let target = if period < 12 { 1.0 } else { 0.6 };
        for (k, mut point) in points.outer_iter_mut().enumerate() {
            let power = -1.0 + 4.0 * k as f64 / (POWERS - 1) as f64;
            for (x, y) in point.iter_mut().zip([0.5, plant.middle(), power, PERIOD]) {
                *x = y;
            }
        }
        let started = Instant::now();
        solver.eval_into(points.view(), &mut values)?;
        asked += started.elapsed().as_secs_f64();
        let distance = |k: &usize| (values[[*k, 0]] - target).abs();
        let best = (0..POWERS).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0);
        let power = points[[best, 2]];
        plant.run(power, PERIOD);
        println!("{:>5.1} {target:>8.2} {:>8.4} {power:>8.2}", (period + 1) as f64 * PERIOD, plant.middle());
        // the last periods before a change of the target
        if period % 12 >= 8 {
            worst = worst.max((plant.middle() - target).abs());
        }
    }
    println!("{:.1} microseconds for {POWERS} answers, on average; at most {worst:.4} from the target", asked / 24.0 * 1e6);
    // the solver knows what it was trained for
    let far = solver.eval(ArrayView2::from(&[[0.5, 0.2, 9.0, PERIOD]]));
    assert!(matches!(far, Err(Error::Outside { .. })), "a power of 9 is outside of the domain");
    if worst > 0.05 {
        return Err(format!("the controller does not hold the target: {worst}").into());
    }
    Ok(())
}

/// u_t = k u_xx + q sin(pi x) on a grid, ends at 0; a little heat is lost in a way that the solver was not told.
struct Plant {
    u: Vec<f64>,
}

impl Plant {
    const CELLS: usize = 40;

    fn new(middle: f64) -> Self {
        let sine = |i: usize| (std::f64::consts::PI * i as f64 / Self::CELLS as f64).sin();
        Plant { u: (0..=Self::CELLS).map(|i| middle * sine(i)).collect() }
    }

    fn middle(&self) -> f64 {
        self.u[Self::CELLS / 2]
    }

    fn run(&mut self, power: f64, seconds: f64) {
        let h = 1.0 / Self::CELLS as f64;
        let steps = (seconds / (h * h)).ceil();
        let dt = seconds / steps;
        for _ in 0..steps as usize {
            let old = self.u.clone();
            for i in 1..Self::CELLS {
                let curvature = (old[i - 1] - 2.0 * old[i] + old[i + 1]) / (h * h);
                let heat = power * (std::f64::consts::PI * i as f64 * h).sin() - 0.02 * old[i];
                self.u[i] += dt * (0.1 * curvature + heat);
            }
        }
    }
}

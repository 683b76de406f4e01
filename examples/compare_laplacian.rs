//! The Laplacian of a network in d dimensions: compiled, against nested forward-mode differentiation of the same network
//! (two dual numbers deep, once per dimension) on the same processor, one thread, f64. A table and a plot.
//!
//!     cargo run --release --example compare_laplacian

mod nested;

use nested::{Dual, compare, report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let mut rows = Vec::new();
    for d in [1, 2, 3, 5, 10, 20] {
        let text = format!(
            "space x[{d}]\nnet N = mlp(width = 64, depth = 4, activation = tanh)\nfield u = N(x)\noutput r = lap(u)\n"
        );
        let laplacian = |network: &nested::Network, x: &[f64]| -> f64 {
            (0..d)
                .map(|i| {
                    let seeded = x.iter().enumerate().map(|(k, v)| {
                        let along = f64::from(k == i);
                        Dual {
                            value: Dual { value: *v, derivative: along },
                            derivative: Dual { value: along, derivative: 0.0 },
                        }
                    });
                    network.apply(&seeded.collect::<Vec<_>>()).derivative.derivative
                })
                .sum()
        };
        rows.push((d, compare(&text, 1024, laplacian)));
    }
    report(&rows, "d", "Laplacian: microseconds per point, one thread", "compare_laplacian.png")
}

//! The k-th derivative of a network of one variable: compiled (k + 1 rows), against k-fold nested dual numbers
//! (2^k numbers each) of the same network on the same processor, one thread, f64. A table and a plot.
//!
//!     cargo run --release --example compare_orders

mod nested;

use nested::{Comparison, Dual, Network, Scalar, compare, report};

/// A number with k nested derivatives along the only coordinate.
trait Nested: Scalar {
    fn variable(x: f64) -> Self;
    /// The innermost, highest derivative.
    fn highest(self) -> f64;
}

impl Nested for f64 {
    fn variable(x: f64) -> Self {
        x
    }
    fn highest(self) -> f64 {
        self
    }
}

impl<S: Nested> Nested for Dual<S> {
    fn variable(x: f64) -> Self {
        Dual { value: S::variable(x), derivative: S::constant(1.0) }
    }
    fn highest(self) -> f64 {
        self.derivative.highest()
    }
}

fn measure<S: Nested>(order: usize) -> (usize, Comparison) {
    let letters = "x".repeat(order);
    let text = format!(
        "space x\nnet N = mlp(width = 64, depth = 4, activation = tanh)\nfield u = N(x)\noutput r = d_{letters}(u)\n"
    );
    let nested = |network: &Network, x: &[f64]| network.apply(&[S::variable(x[0])]).highest();
    (order, compare(&text, 1024, nested))
}

type D1 = Dual<f64>;
type D2 = Dual<D1>;
type D3 = Dual<D2>;
type D4 = Dual<D3>;
type D5 = Dual<D4>;
type D6 = Dual<D5>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let rows =
        [measure::<D1>(1), measure::<D2>(2), measure::<D3>(3), measure::<D4>(4), measure::<D5>(5), measure::<D6>(6)];
    report(&rows, "order", "k-th derivative: microseconds per point, one thread", "compare_orders.png")
}

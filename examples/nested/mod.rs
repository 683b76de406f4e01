//! What the examples compare with: nested forward-mode differentiation of a tanh network, by dual numbers of dual
//! numbers, f64.

use std::ops::{Add, Mul};

/// A number that can go through a network.
pub trait Scalar: Copy + Add<Output = Self> + Mul<Output = Self> {
    /// Without derivatives.
    fn constant(x: f64) -> Self;
    /// tanh
    fn tanh(self) -> Self;
}

impl Scalar for f64 {
    fn constant(x: f64) -> Self {
        x
    }
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
}

/// value + derivative * eps, eps^2 = 0.
#[derive(Clone, Copy)]
pub struct Dual<S> {
    pub value: S,
    pub derivative: S,
}

impl<S: Scalar> Add for Dual<S> {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Dual { value: self.value + o.value, derivative: self.derivative + o.derivative }
    }
}

impl<S: Scalar> Mul for Dual<S> {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Dual { value: self.value * o.value, derivative: self.derivative * o.value + self.value * o.derivative }
    }
}

impl<S: Scalar> Scalar for Dual<S> {
    fn constant(x: f64) -> Self {
        Dual { value: S::constant(x), derivative: S::constant(0.0) }
    }
    fn tanh(self) -> Self {
        let t = self.value.tanh();
        let slope = S::constant(1.0) + S::constant(-1.0) * (t * t);
        Dual { value: t, derivative: slope * self.derivative }
    }
}

/// A network: weights [out, in] row-major and biases of each layer.
pub struct Network {
    pub layers: Vec<(Vec<f64>, Vec<f64>)>,
}

impl Network {
    /// The first output at one point.
    pub fn apply<S: Scalar>(&self, x: &[S]) -> S {
        let mut h = x.to_vec();
        for (k, (weight, bias)) in self.layers.iter().enumerate() {
            let inputs = h.len();
            let next: Vec<S> = bias
                .iter()
                .enumerate()
                .map(|(o, b)| {
                    let mut sum = S::constant(*b);
                    for (i, x) in h.iter().enumerate() {
                        sum = sum + S::constant(weight[o * inputs + i]) * *x;
                    }
                    if k + 1 < self.layers.len() { sum.tanh() } else { sum }
                })
                .collect();
            h = next;
        }
        h[0]
    }

    /// The network of a program's parameters.
    pub fn of(parameters: &jetc::net::Parameters<f64>) -> Network {
        let tensors: Vec<&Vec<f64>> = parameters.values().iter().collect();
        Network { layers: tensors.chunks_exact(2).map(|l| (l[0].clone(), l[1].clone())).collect() }
    }
}

/// One compared operator.
pub struct Comparison {
    pub rows: usize,
    /// Microseconds per point, one thread.
    pub compiled: f64,
    pub nested: f64,
    /// Norm of the difference over the norm.
    pub difference: f64,
}

/// Runs a program with one output and a nested implementation at the same points, one thread, f64.
pub fn compare(text: &str, points: usize, nested: impl Fn(&Network, &[f64]) -> f64) -> Comparison {
    use jetc::program::Overrides;
    use std::time::Instant;
    let (program, diagnostics) = jetc::solver::compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let plan = jetc::plan::plan(&program, Default::default()).unwrap_or_else(|e| panic!("{e:?}"));
    let parameters = jetc::net::Parameters::<f64>::initial(&program, 1);
    let network = Network::of(&parameters);
    let d = program.columns();
    let x: Vec<f64> = (0..points * d).map(|k| ((k * 7919 % 1009) as f64 / 1009.0) - 0.5).collect();
    let evaluator = jetc::solver::Evaluator::new(&plan.sets[0].program).expect("it was planned");
    let run = || evaluator.run(&parameters, points, &x, &[], 0, 0).expect("shapes fit");
    let mine = run();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        std::hint::black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
    }
    // nested differentiation is slow: fewer points do
    let few = points.min(64);
    let mut slow = f64::INFINITY;
    let mut theirs = Vec::new();
    for _ in 0..3 {
        let start = Instant::now();
        theirs = x.chunks(d).take(few).map(|p| nested(&network, p)).collect();
        slow = slow.min(start.elapsed().as_secs_f64());
    }
    let norm: f64 = theirs.iter().map(|v| v * v).sum();
    let difference: f64 = mine.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2)).sum();
    Comparison {
        rows: plan.sets[0].networks[0].rows,
        compiled: best / points as f64 * 1e6,
        nested: slow / few as f64 * 1e6,
        difference: (difference / norm).sqrt(),
    }
}

/// The table of an example, and its plot.
pub fn report(
    rows: &[(usize, Comparison)],
    what: &str,
    title: &str,
    file: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    println!(
        "{what:>6} {:>6} {:>16} {:>16} {:>8} {:>12}",
        "rows", "compiled us/pt", "nested us/pt", "ratio", "difference"
    );
    for (k, c) in rows {
        let ratio = c.nested / c.compiled;
        println!("{k:>6} {:>6} {:>16.3} {:>16.3} {ratio:>8.1} {:>12.1e}", c.rows, c.compiled, c.nested, c.difference);
    }
    let x: Vec<f64> = rows.iter().map(|r| r.0 as f64).collect();
    let column = |f: fn(&Comparison) -> f64| rows.iter().map(|r| f(&r.1)).collect::<Vec<f64>>();
    let (compiled, nested) = (column(|c| c.compiled), column(|c| c.nested));
    let curves = [
        jetc::cli::plot::Curve { name: "nested differentiation", values: &nested },
        jetc::cli::plot::Curve { name: "compiled (jetc)", values: &compiled },
    ];
    jetc::cli::plot::curves(std::path::Path::new(file), title, what, &x, &curves)?;
    println!("plot written to {file}");
    Ok(())
}

//! Training through an operator, with a loss and an optimiser that jetc does not have.
//!
//! The data of a Poisson problem are wrong at some places. Mean squares follow the outliers; the loss here is log(cosh(r)), whose
//! gradient is tanh(r), so that a residual counts for at most 1. The optimiser is gradient descent with momentum on normalised
//! gradients. jetc gives values and vector-Jacobian products, nothing else.

use jetc::ndarray::{Array2, Zip};
use jetc::{Compiled, Error, Parameters};
use std::f64::consts::PI;

const PROGRAM: &str = "
space x in 0..1
net N = mlp(width = 24, depth = 3, activation = tanh)
field u = x*(1 - x)*N(x)
output r = lap(u)
";

fn main() -> Result<(), Error> {
    let compiled = Compiled::from_text(PROGRAM)?;
    let (laplacian, field) = (compiled.outputs::<f64>()?, compiled.fields::<f64>()?);
    let n = 200;
    let points = Array2::from_shape_fn((n, 1), |(k, _)| (k as f64 + 0.5) / n as f64);
    // -pi^2 sin(pi x), but every 20th number is off by 100
    let source = Array2::from_shape_fn((n, 1), |(k, _)| {
        let x = (k as f64 + 0.5) / n as f64;
        -PI * PI * (PI * x).sin() + if k % 20 == 7 { 100.0 } else { 0.0 }
    });
    let train = |slope: fn(f64) -> f64| -> Result<f64, Error> {
        let mut weights = compiled.parameters::<f64>(0);
        let mut momentum = weights.zeros_of_learned();
        let steps = 3000;
        for step in 0..steps {
            let values = laplacian.eval(&weights, points.view())?;
            let cotangent = Zip::from(&values).and(&source).map_collect(|r, f| slope(r - f) / n as f64);
            let gradient = laplacian.vjp(&weights, points.view(), cotangent.view())?.parameters;
            let rate = 1e-2 * (1.0 - step as f64 / steps as f64);
            descend(&mut weights, &mut momentum, &gradient, rate);
        }
        let u = field.eval(&weights, points.view())?;
        let exact = points.mapv(|x| (PI * x).sin());
        Ok(((&u - &exact).mapv(|e| e * e).sum() / exact.mapv(|e| e * e).sum()).sqrt())
    };
    let squares = train(|r| r)?;
    let robust = train(f64::tanh)?;
    println!("relative L2 error with 5 % outliers: {squares:.3} by mean squares, {robust:.5} by log(cosh)");
    if robust > 0.02 || robust > 0.1 * squares {
        return Err(Error::Unsupported(format!("the robust loss ends at {robust}")));
    }
    Ok(())
}

/// Momentum, then a step of a length that does not depend on the size of the gradient.
fn descend(
    weights: &mut Parameters<f64>,
    momentum: &mut Parameters<f64>,
    gradient: &Parameters<f64>,
    rate: f64,
) {
    let mut norm = 0.0;
    for (m, g) in momentum.values_mut().iter_mut().zip(gradient.values()) {
        for (m, g) in m.iter_mut().zip(g) {
            *m = 0.9 * *m + 0.1 * g;
            norm += *m * *m;
        }
    }
    let scale = rate / norm.sqrt().max(1e-12);
    for ((_, w), m) in weights.learned_mut().zip(momentum.values()) {
        w.iter_mut().zip(m).for_each(|(w, m)| *w -= scale * m);
    }
}

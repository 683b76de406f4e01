//! Initial values of a program's tensors.
//!
//! Element i of tensor number n is a function of (seed, n, i) alone. Weights are Glorot-uniform,
//! |w| <= sqrt(6 / (in + out)), with zero biases. A layer whose result goes through `sin` has |w| <= sqrt(6 / in), which
//! keeps the variance of its argument near one whatever the width, and the biases of layer 0 are uniform phases in
//! (-pi, pi): the network starts as a sum of random Fourier features. Coefficient tables come from their own seeds.

use super::element::Element;
use super::layout::layout;
use super::parameters::Parameters;
use super::philox::{Philox, Purpose};
use super::spec::{Role, TensorSpec};
use crate::program::{Activation, CoefDistribution, Program};
use rayon::prelude::*;
use std::f64::consts::PI;

impl<T: Element> Parameters<T> {
    /// Initial values: random weights from the seed, parameters and tables as the program says.
    pub fn initial(program: &Program, seed: u64) -> Self {
        let specs = layout(program);
        let values = specs.iter().enumerate().map(|(n, spec)| initial_values(program, spec, n, seed)).collect();
        Parameters::of(specs, values)
    }
}

fn initial_values<T: Element>(program: &Program, spec: &TensorSpec, number: usize, seed: u64) -> Vec<T> {
    let weights = Philox::new(seed, Purpose::Weights.stream(number), 0);
    match spec.role {
        Role::Weight { net, layer } => {
            let (out, inputs) = (spec.shape[0] as f64, spec.shape[1] as f64);
            let net = &program.nets[net.index()];
            let feeds_sine = net.activation == Activation::Sin && layer.is_some_and(|l| l + 1 < net.depth);
            let bound = if feeds_sine { (6.0 / inputs).sqrt() } else { (6.0 / (inputs + out)).sqrt() };
            if spec.is_turned() {
                turned(&weights, &spec.shape, bound)
            } else {
                uniform(&weights, spec.len(), -bound, bound)
            }
        }
        Role::Bias { net, layer } => {
            let net = &program.nets[net.index()];
            if net.activation == Activation::Sin && layer == Some(0) && net.depth > 1 {
                uniform(&weights, spec.len(), -PI, PI)
            } else {
                vec![T::zero(); spec.len()]
            }
        }
        Role::Param(param) => vec![T::of(program.params[param.index()].value)],
        Role::Coef(coef) => {
            let coef = &program.coefs[coef.index()];
            let table = Philox::new(coef.seed, Purpose::Coefficients.stream(0), 0);
            match coef.distribution {
                CoefDistribution::Normal => generate(coef.len, |first, out| table.fill_normal(first, out)),
                CoefDistribution::Uniform(lo, hi) => uniform(&table, coef.len, lo, hi),
            }
        }
    }
}

fn uniform<T: Element>(rng: &Philox, len: usize, lo: f64, hi: f64) -> Vec<T> {
    generate(len, |first, out| {
        rng.fill_uniform(first, out);
        out.iter_mut().for_each(|x| *x = lo + (hi - lo) * *x);
    })
}

/// The numbers of a weight of shape [out, in], kept as [in, out].
fn turned<T: Element>(rng: &Philox, shape: &[usize], bound: f64) -> Vec<T> {
    const CHUNK: usize = 64;
    let (out, inputs) = (shape[0], shape[1]);
    let mut values = vec![T::zero(); out * inputs];
    values.par_chunks_mut(CHUNK * out).enumerate().for_each(|(k, chunk)| {
        let mut scratch = [0.0; CHUNK];
        for o in 0..out {
            let scratch = &mut scratch[..chunk.len() / out];
            rng.fill_uniform((o * inputs + k * CHUNK) as u64, scratch);
            for (x, u) in chunk.iter_mut().skip(o).step_by(out).zip(scratch) {
                *x = T::of(-bound + 2.0 * bound * *u);
            }
        }
    });
    values
}

/// Fills in parallel, chunk by chunk; `fill` gets the number of the first element.
fn generate<T: Element>(len: usize, fill: impl Fn(u64, &mut [f64]) + Sync) -> Vec<T> {
    const CHUNK: usize = 1 << 12;
    let mut values = vec![T::zero(); len];
    values.par_chunks_mut(CHUNK).enumerate().for_each(|(k, chunk)| {
        let mut scratch = [0.0; CHUNK];
        let scratch = &mut scratch[..chunk.len()];
        fill((k * CHUNK) as u64, scratch);
        chunk.iter_mut().zip(scratch).for_each(|(value, x)| *value = T::of(*x));
    });
    values
}

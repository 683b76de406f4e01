//! Streamed first layers against the oracle: real programs, all distributions of points.

use super::*;
use crate::jet::{Inputs, interpret};
use crate::net::{Element, Parameters};
use crate::plan::{Options, PointSet, plan};
use crate::program::{Overrides, Program};
use crate::solver::compile;
use crate::train::Sampler;

/// From this many columns on, in these tests.
const WIDE_HERE: usize = 8;

const TAIL: &str = "net N = mlp(width = 7, depth = 3, activation = tanh)\n";

/// Header, fields and conditions of programs in 41 columns.
fn programs() -> Vec<String> {
    let two_body = "field u = (1 - norm2(x)) * N(x)\ncoef c[40] ~ normal(seed = 0)\n\
        let exact = (1 - norm2(x)) * sum(i in 0..40: c[i]*sin(x[i] + cos(x[i+1]) + x[i+1]*cos(x[i])))\n\
        solve interior: lap(u) + sin(u) = lap(exact) + sin(exact)\nsample interior = 21\nestimate lap(u) by sparse(5)\n";
    let three_body = "field u = (1 - norm2(x)) * N(x)\ncoef c[39] ~ uniform(-1..1, seed = 0)\n\
        let exact = (1 - norm2(x)) * sum(i in 0..39: c[i]*exp(x[i]*x[i+1]*x[i+2]))\n\
        solve interior: lap(u) + u - u^3 = lap(exact)\nsample interior = 9\nestimate lap(u) by sparse(3)\n";
    let compressed = "field u = N(x)\nsolve interior: lap(u) + u*norm2(grad(u)) = norm2(x) - x[7]\n\
        sample interior = 9\nestimate interior by compressed\n";
    let exact = "field u = N(x)\nsolve interior: d(u, x[3], x[3]) + d(u, x[40]) + x[2]*u = sum(i in 1..41: i*x[i-1]^3/(2 + x[i]))\nsample interior = 5\n";
    let boundary = "solve edge on boundary: u = max(i in 0..41: x[i]) + norm2(x)\nsample edge = 70\n";
    let time = "field u = N(x, t)\nsolve interior: d_t(u) + lap(u) = t*u + norm2(x)\nsample interior = 17\n\
        estimate lap(u) by sparse(4)\nsolve end on t = 0.3: u = atan(max(i in 0..40: x[i]))\nsample end = 6\n";
    let dense = "field u = (1 - norm2(x)) * N(x)\ncoef c[41] ~ normal(seed = 0)\n\
        solve interior: sum(i in 0..41: c[i]*d(u, x[i], x[i])) + sum(i in 0..40: d(u, x[i], x[i+1])) + sin(u) = 1\n\
        sample interior = 21\n";
    let varying = "field u = N(x)\ncoef c[41] ~ uniform(0..1, seed = 0)\n\
        solve interior: sum(i in 0..41: (1 + c[i]*x[i]^2)*d(u, x[i], x[i])) + sum(i in 0..40: (x[i+1]^3 + i)*d(u, x[i])) = u\n\
        sample interior = 19\n";
    let fourth = "field u = N(x)\nsolve interior: lap(lap(u)) + u = x[2]\nsample interior = 5\n";
    let before = "field u = N(t, x) + sum(i in 0..40: sinh(x[i]))\ncoef c[40] ~ uniform(0..1, seed = 0)\n\
        solve interior: d_t(u) + sum(i in 0..40: exp(c[i])*d(u, x[i], x[i])) + sum(i in 0..39: c[i]*x[i]*d(u, x[i+1])) = t*u\n\
        sample interior = 17\n";
    let estimates = [
        (dense, "rademacher(3)"),
        (dense, "gaussian(2)"),
        (dense, "gaussian(2) unbiased"),
        (varying, "rademacher(2)"),
        (varying, "gaussian(3)"),
        (fourth, "gaussian(3)"),
        (fourth, "rademacher(2)"),
    ];
    let estimated = estimates
        .iter()
        .map(|(text, method)| format!("space x[41] from normal()\n{TAIL}{text}estimate interior by {method}\n"));
    let varying = varying.replace("41", "70").replace("40", "69");
    let apart = ["sparse(3)", "importance(3)"]
        .map(|method| format!("space x[70] from normal()\n{TAIL}{varying}estimate interior by {method}\n"));
    let timed = ["sparse(3)", "rademacher(2)", "gaussian(2)"].map(|method| {
        let space = "time t in 0..0.3\nspace x[70] from brownian(scale = sqrt(2))\n";
        let before = before.replace("40", "70").replace("39", "69");
        format!("{space}{TAIL}{before}estimate interior by {method}\n")
    });
    let shares = ["sparse(3)", "rademacher(2)", "exact"].map(|method| {
        let net = TAIL.replace("tanh)", "tanh, share = block(6))");
        let rest = "field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) + d(u, x[4]) + sin(u) = norm2(x)\nsample interior = 19\n";
        format!("space x[41] from normal()\n{net}{rest}estimate interior by {method}\n")
    });
    let ball = |measure: &str| format!("space x[41] in ball(radius = 1.5{measure})\n{TAIL}");
    let first = vec![
        format!("{}{two_body}", ball("")),
        format!("{}{three_body}", ball(", measure = volume")),
        format!("space x[41] in box(-1..2)\n{TAIL}{exact}{boundary}"),
        format!("space x[41] from normal()\n{TAIL}{two_body}"),
        format!("space x[41] from normal()\n{TAIL}{compressed}"),
        format!("space x[40] from brownian(scale = sqrt(2))\ntime t in 0..0.3\n{TAIL}{time}"),
        format!("{}{}", ball(""), two_body.replace("sparse(5)", "rademacher(3)")),
    ];
    first.into_iter().chain(estimated).chain(timed).chain(shares).chain(apart).collect()
}

fn program(text: &str) -> (Program, Vec<PointSet>) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}{diagnostics:?}"));
    let sets = plan(&program, Options::default()).unwrap().sets;
    (program, sets)
}

fn turned<T: Copy>(values: &[T], rows: usize) -> Vec<T> {
    lift::matrix(values, rows).t().iter().copied().collect()
}

/// Losses and gradients of a condition's training program at a step, streamed.
fn streamed<T: Real + Element>(program: &Program, set: &PointSet, seed: u64, kept: bool) -> Vec<Vec<T>> {
    let jet = set.training.as_ref().unwrap();
    let executor = Executor::<T>::with_wide(jet, WIDE_HERE).unwrap();
    assert!(executor.is_streamed(100), "{jet}");
    let sampler = Sampler::new(program, set.condition.unwrap(), seed, None).unwrap();
    let points = sampler.points::<T>(3, 0..sampler.count(), kept.then(Vec::new));
    let parameters = Parameters::<T>::initial(program, seed);
    let values = jet.tensors.iter().map(|t| {
        let values = parameters.get(&t.name).unwrap().to_vec();
        if is_turned(&t.name, &t.shape, WIDE_HERE) { turned(&values, t.shape[0]) } else { values }
    });
    let values: Vec<Vec<T>> = values.collect();
    let tensors: Vec<&[T]> = values.iter().map(Vec::as_slice).collect();
    let call = Call {
        count: sampler.count(),
        points: Points::Made(&points),
        data: &[],
        tensors: &tensors,
        random: (seed, 3).into(),
        beside: Beside::default(),
    };
    let (mut outputs, mut gradients) = (vec![vec![]; jet.outputs.len()], vec![vec![]; jet.gradients.len()]);
    executor.run_whole(&call, &mut outputs, &mut gradients).unwrap();
    for ((t, _), g) in jet.gradients.iter().zip(&mut gradients) {
        let tensor = &jet.tensors[t.index()];
        if is_turned(&tensor.name, &tensor.shape, WIDE_HERE) {
            *g = turned(g, tensor.shape[1]);
        }
    }
    [outputs, gradients].concat()
}

#[test]
fn streamed_layers_are_what_the_oracle_says() {
    for text in programs() {
        let (program, sets) = program(&text);
        for set in &sets {
            let jet = set.training.as_ref().unwrap();
            let sampler = Sampler::new(&program, set.condition.unwrap(), 4, None).unwrap();
            let mut batch = crate::train::Batch::default();
            sampler.sample(3, &mut batch);
            let parameters = Parameters::<f64>::initial(&program, 4);
            let tensors = jet.tensors.iter().map(|t| parameters.get(&t.name).unwrap().to_vec()).collect();
            let count = sampler.count();
            let truth = interpret(
                jet,
                &Inputs { count, points: batch.points, data: vec![], tensors, seed: 4, step: 3, given: vec![] },
            );
            let truth = truth.unwrap();
            let results = jet.outputs.iter().map(|o| o.1).chain(jet.gradients.iter().map(|g| g.1));
            for (tolerance, ours) in [
                (1e-11, streamed::<f64>(&program, set, 4, true)),
                (1e-11, streamed::<f64>(&program, set, 4, false)),
                (
                    2e-4,
                    streamed::<f32>(&program, set, 4, false)
                        .iter()
                        .map(|v| v.iter().map(|x| f64::from(*x)).collect())
                        .collect(),
                ),
            ] {
                for (value, ours) in results.clone().zip(&ours) {
                    let truth = &truth[value.index()];
                    assert_eq!(truth.len(), ours.len());
                    let size = truth.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
                    for (a, b) in truth.iter().zip(ours) {
                        assert!((a - b).abs() <= tolerance * size, "{} {value:?}: {b}, not {a}\n{text}{jet}", set.name);
                    }
                }
            }
        }
    }
}

#[test]
fn bits_of_streamed_layers_do_not_depend_on_threads_or_on_keeping_the_points() {
    for text in programs() {
        let (program, sets) = program(&text);
        let run = |threads, kept| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let all = sets.iter().flat_map(|set| streamed::<f32>(&program, set, 9, kept));
                all.flatten().map(f32::to_bits).collect::<Vec<u32>>()
            })
        };
        let one = run(1, false);
        assert!(one == run(2, true) && one == run(3, false) && one == run(5, true), "{text}");
    }
}

//! `bench`: how fast a program runs here.

use super::args::{Bench, Precision};
use super::source::{Loaded, load};
use super::{Done, print};
use crate::net::Parameters;
use crate::plan::{Options, plan};
use crate::solver::{Evaluator, Number, SolverObjective};
use crate::train::{Adam, Moments, Objective, descend};
use std::time::Instant;

/// `jetc bench FILE`
pub fn bench(args: &Bench) -> Done {
    let loaded = load(&args.source)?;
    if loaded.program.flow.is_some() {
        return match args.precision {
            Precision::F32 => super::flow::bench::<f32>(args, &loaded),
            Precision::F64 => super::flow::bench::<f64>(args, &loaded),
        };
    }
    match args.precision {
        Precision::F32 => run::<f32>(args, &loaded),
        Precision::F64 => run::<f64>(args, &loaded),
    }
}

fn run<T: Number>(args: &Bench, loaded: &Loaded) -> Done {
    let program = &loaded.program;
    let start = Instant::now();
    let plan = plan(program, Options::default()).map_err(|e| loaded.say(&e))?;
    print(&format!("compiled in {:.3} s", start.elapsed().as_secs_f64()));
    let peak = gemm_peak::<T>();
    print(&format!("matrix product peak of this machine, all threads: {:.1} GFLOP/s", peak / 1e9));
    loaded.make_room::<T>(4, args.points.max(program.conditions.iter().map(|c| c.count).sum()))?;
    let parameters = Parameters::<T>::initial(program, 0);
    if let Some(set) = plan.sets.iter().find(|s| s.condition.is_none()) {
        let evaluator = Evaluator::<T>::new(&set.program)?;
        let n = args.points * program.columns();
        let points: Vec<T> = (0..n).map(|k| T::of((k % 997) as f64 / 997.0)).collect();
        let (rate, _) = measure(args.seconds, &mut || {
            let done = evaluator.run(&parameters, args.points, &points, &[], 0, 0);
            done.map(|_| ()).map_err(|e| loaded.failure(e))
        })?;
        let rows = set.networks.iter().map(|n| n.rows).sum::<usize>() as f64;
        let points = rate * args.points as f64;
        let flops = points * set.cost.flops_per_point + set.cost.flops_per_step;
        print(&format!(
            "{}: {points:.3e} points/s ({} at a time), {:.3e} rows/s, {:.2} GFLOP/s, {:.0} % of the peak",
            set.name,
            args.points,
            points * rows,
            flops / 1e9,
            100.0 * flops / peak
        ));
    }
    if plan.sets.iter().any(|s| s.training.is_some()) {
        let mut objective = SolverObjective::<T>::new(program, &plan, &parameters, &loaded.folder(), 0)
            .map_err(|e| loaded.failure(e))?;
        let learned = parameters.specs().iter().zip(parameters.values()).filter(|(s, _)| s.is_learned());
        let mut tensors: Vec<Vec<T>> = learned.map(|(_, v)| v.clone()).collect();
        drop(parameters);
        let mut moments = Moments::zeros(tensors.iter().map(Vec::len));
        let adam = Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        let mut gradients = vec![vec![]; tensors.len()];
        let mut losses = vec![0.0; objective.conditions().len()];
        let mut step = 0;
        let (rate, first) = measure(args.seconds, &mut || {
            step += 1;
            let done = objective.step(step, &tensors, &mut gradients, &mut losses);
            done.map_err(|e| super::Failure::Work(e.to_string()))?;
            // So slowly that the problem stays as it is.
            let done = descend(&objective, &adam, (step, 1e-6), &mut tensors, &gradients, &mut moments);
            done.map_err(|_| super::Failure::Work("a gradient is not finite".into()))
        })?;
        let flops: f64 = plan
            .sets
            .iter()
            .filter_map(|s| {
                s.condition.map(|k| s.cost.flops_per_point * program.conditions[k].count as f64 + s.cost.flops_per_step)
            })
            .sum();
        let bytes =
            plan.sets.iter().filter(|s| s.condition.is_some()).map(|s| s.cost.bytes_per_step).fold(0.0, f64::max);
        let bytes = bytes * size_of::<T>() as f64 / 4.0;
        print(&format!(
            "training step (points, residuals, loss, gradient, update): {rate:.1} steps/s, {:.2} GFLOP/s, {:.0} % of the peak, {:.2} GB/s of parameters and moments; the first step took {:.1} ms",
            rate * flops / 1e9,
            100.0 * rate * flops / peak,
            rate * bytes / 1e9,
            1e3 * first
        ));
    }
    Ok(())
}

/// Calls per second, the first one aside, and the seconds that the first one takes.
fn measure(seconds: f64, f: &mut dyn FnMut() -> Done) -> Result<(f64, f64), super::Failure> {
    let start = Instant::now();
    f()?;
    let first = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut calls = 0;
    while calls == 0 || start.elapsed().as_secs_f64() < seconds {
        f()?;
        calls += 1;
    }
    Ok((calls as f64 / start.elapsed().as_secs_f64(), first))
}

/// Flops per second of independent products of the size of a layer, one per thread: the best of a few rounds.
fn gemm_peak<T: Number>() -> f64 {
    use ndarray::{Array2, linalg::general_mat_mul};
    use rayon::prelude::*;
    const SIZE: (usize, usize, usize) = (1024, 128, 128);
    const REPEAT: usize = 20;
    let threads = rayon::current_num_threads();
    let flops = 2.0 * (SIZE.0 * SIZE.1 * SIZE.2 * REPEAT * threads) as f64;
    let mut best: f64 = 0.0;
    for _ in 0..5 {
        let start = Instant::now();
        (0..threads).into_par_iter().for_each(|_| {
            let a = Array2::from_elem((SIZE.0, SIZE.1), T::of(0.5));
            let b = Array2::from_elem((SIZE.1, SIZE.2), T::of(0.25));
            let mut c = Array2::from_elem((SIZE.0, SIZE.2), T::of(0.0));
            for _ in 0..REPEAT {
                general_mat_mul(T::of(1.0), &a, &b, T::of(0.0), &mut c);
            }
            std::hint::black_box(&c);
        });
        best = best.max(flops / start.elapsed().as_secs_f64());
    }
    best
}

//! `bench`: how fast a program runs here.

use super::args::{Bench, Precision};
use super::source::{Loaded, device, load};
use super::{Done, print};
use crate::cuda::{self, Device, ceilings};
use crate::net::Parameters;
use crate::plan::{Options, plan};
use crate::program::Training;
use crate::solver::{DeviceStepper, Evaluator, Number, SolverObjective, on_device};
use crate::train::{Adam, Beginning, Moments, Objective, ObjectiveError, Stepper, Stuck, descend};
use std::time::Instant;

/// `jetc bench FILE`
pub fn bench(args: &Bench) -> Done {
    let loaded = load(&args.source)?;
    let device = device(Some(args.device))?;
    if loaded.program.flow.is_some() {
        return match args.precision {
            Precision::F32 => super::flow::bench::<f32>(args, &loaded, &device),
            Precision::F64 => super::flow::bench::<f64>(args, &loaded, &device),
        };
    }
    if device.runs_modules() {
        return match args.precision {
            Precision::F32 => there::<f32>(args, &loaded, &device),
            Precision::F64 => there::<f64>(args, &loaded, &device),
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
    print(&format!("compiled in {:.3} s", start.elapsed().as_secs_f64()))?;
    let peak = gemm_peak::<T>();
    print(&format!("matrix product peak of this machine, all threads: {:.1} GFLOP/s", peak / 1e9))?;
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
        ))?;
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
        let (flops, bytes) = work(program, &plan);
        let bytes = bytes * size_of::<T>() as f64 / 4.0;
        print(&format!(
            "training step (points, residuals, loss, gradient, update): {rate:.1} steps/s, {:.2} GFLOP/s, {:.0} % of the peak, {:.2} GB/s of parameters and moments; the first step took {:.1} ms",
            rate * flops / 1e9,
            100.0 * rate * flops / peak,
            rate * bytes / 1e9,
            1e3 * first
        ))?;
    }
    Ok(())
}

/// The same on a device.
fn there<T: Number>(args: &Bench, loaded: &Loaded, device: &Device) -> Done {
    let program = &loaded.program;
    let plan = plan(program, Options::default()).map_err(|e| loaded.say(&e))?;
    let parameters = Parameters::<T>::initial(program, 0);
    // a device that is only simulated has no ceilings worth knowing
    let measured = matches!(device, Device::Cuda(_)).then(|| ceilings::measure(device)).transpose()?;
    if let Some(c) = measured {
        let (bytes, flops) = (c.bytes / 1e9, c.flops / 1e12);
        print(&format!("{device}: measured ceilings {bytes:.0} GB/s, {flops:.1} TFLOP/s in f32 without tensor cores"))?;
    }
    let shares = |flops: f64, bytes: f64| match measured {
        Some(c) => format!(
            ", {:.0} % of {:.0} GB/s, {:.0} % of f32 flops",
            100.0 * bytes / c.bytes,
            c.bytes / 1e9,
            100.0 * flops / c.flops
        ),
        None => String::new(),
    };
    if let Some(set) = plan.sets.iter().find(|s| s.condition.is_none()) {
        let options = cuda::Options::new(cuda::precision::<T>());
        let mut on =
            on_device(device, &set.program, &options, &parameters, args.points).map_err(|e| loaded.failure(e))?;
        let points: Vec<T> = (0..args.points * program.columns()).map(|k| T::of((k % 997) as f64 / 997.0)).collect();
        on.write(&points, &[], (0, 0)).map_err(|e| loaded.failure(e.into()))?;
        let batch = if measured.is_some() { ((1 << 22) / args.points.max(1)).clamp(1, 64) as u64 } else { 1 };
        let (rate, _) = measure(args.seconds, &mut || Ok(on.runner().call(batch)?))?;
        let points = rate * batch as f64 * args.points as f64;
        let flops = points * set.cost.flops_per_point;
        let memory = on.runner().module().bytes(args.points as u32) as f64 / 1e6;
        print(&format!(
            "{}: {points:.3e} points/s ({} at a time), {:.2} GFLOP/s{}, {memory:.1} MB",
            set.name,
            args.points,
            flops / 1e9,
            shares(flops, 0.0)
        ))?;
    }
    if plan.sets.iter().any(|s| s.training.is_some()) {
        let mut training = program
            .training
            .clone()
            .ok_or_else(|| super::Failure::Input(format!("{}: there is no `train` statement", loaded.name)))?;
        training.steps = training.steps.max(1 << 20);
        let mut stepper =
            DeviceStepper::<T>::new(device, program, &plan, &parameters, (&loaded.folder(), 0), &training)
                .map_err(|e| loaded.failure(e))?;
        let memory = stepper.bytes() as f64 / 1e6;
        let batch = if measured.is_some() { 256 } else { 1 };
        let (rate, first) = steps_there(args.seconds, &mut stepper, &parameters, &training, batch)?;
        let (flops, bytes) = work(program, &plan);
        let bytes = bytes * size_of::<T>() as f64 / 4.0;
        print(&format!(
            "training step (points, residuals, loss, gradient, update): {rate:.1} steps/s, {:.2} GFLOP/s, {:.2} GB/s of parameters and moments{}, {memory:.1} MB; the first {batch} took {:.1} ms",
            rate * flops / 1e9,
            rate * bytes / 1e9,
            shares(rate * flops, rate * bytes),
            1e3 * first
        ))?;
    }
    Ok(())
}

/// Training steps per second of a device, `batch` a call, and the seconds that the first call takes.
pub(super) fn steps_there<T: Number>(
    seconds: f64,
    stepper: &mut DeviceStepper<T>,
    parameters: &Parameters<T>,
    training: &Training,
    batch: usize,
) -> Result<(f64, f64), super::Failure> {
    let learned = parameters.specs().iter().zip(parameters.values()).filter(|(s, _)| s.is_learned());
    let values: Vec<Vec<T>> = learned.map(|(_, v)| v.clone()).collect();
    let moments = Moments::zeros(values.iter().map(Vec::len));
    let logarithmic = vec![false; values.len()];
    let failed = |e: ObjectiveError| super::Failure::Work(e.to_string());
    stepper.begin(Beginning { step: 0, values, moments, logarithmic: &logarithmic, training }).map_err(failed)?;
    // So slowly that the problem stays as it is.
    let rates = vec![1e-6; batch];
    let mut losses = Vec::new();
    let (rate, first) = measure(seconds, &mut || {
        losses.clear();
        stepper.run(&rates, &mut losses).map_err(|e| match e {
            Stuck::Failed(e) => failed(e),
            Stuck::Gradient(_) => super::Failure::Work("a gradient is not finite".into()),
        })
    })?;
    Ok((rate * batch as f64, first))
}

/// Calls per second, the first one aside, and the seconds that the first one takes.
pub(super) fn measure(seconds: f64, f: &mut dyn FnMut() -> Done) -> Result<(f64, f64), super::Failure> {
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

/// Flops per second of independent products of the size of a layer, one per thread, by the CPU backend's own kernels where nothing else
/// is done: the best of a few rounds.
fn gemm_peak<T: Number>() -> f64 {
    use ndarray::Array2;
    use rayon::prelude::*;
    const SIZE: (usize, usize, usize) = (1024, 128, 128);
    const REPEAT: usize = 60;
    let threads = rayon::current_num_threads();
    let flops = 2.0 * (SIZE.0 * SIZE.1 * SIZE.2 * REPEAT * threads) as f64;
    let mut best: f64 = 0.0;
    for _ in 0..10 {
        let start = Instant::now();
        (0..threads).into_par_iter().for_each(|_| {
            let a = Array2::from_elem((SIZE.0, SIZE.1), T::of(0.5));
            let b = Array2::from_elem((SIZE.1, SIZE.2), T::of(0.25));
            let mut c = Array2::from_elem((SIZE.0, SIZE.2), T::of(0.0));
            for _ in 0..REPEAT {
                crate::cpu::product(T::of(1.0), a.view(), b.view(), false, c.view_mut());
            }
            std::hint::black_box(&c);
        });
        best = best.max(flops / start.elapsed().as_secs_f64());
    }
    best
}

/// Operations of a training step, and bytes of parameters and moments in f32.
fn work(program: &crate::program::Program, plan: &crate::plan::Plan) -> (f64, f64) {
    let conditions = plan.sets.iter().filter_map(|s| Some((s, s.condition?)));
    let flops = |(s, k): (&crate::plan::PointSet, usize)| {
        s.cost.flops_per_point * program.conditions[k].count as f64 + s.cost.flops_per_step
    };
    let bytes = conditions.clone().map(|(s, _)| s.cost.bytes_per_step).fold(0.0, f64::max);
    (conditions.map(flops).sum(), bytes)
}

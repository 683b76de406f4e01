//! Emitted kernels, built by the host's C++ compiler and run on the CPU: values, gradients and training steps agree with the
//! CPU backend, whatever the order of threads and blocks.
#![cfg(all(feature = "cuda", unix))]

use jetc::cpu::{Beside, Call, Executor, Points};
use jetc::cuda::host::{Host, HostError, Memory, Order};
use jetc::cuda::{BufferId, Module, Options, Precision, Role, emit};
use jetc::jet::JetProgram;
use jetc::net::Parameters;
use jetc::plan::{Plan, plan};
use jetc::program::{Overrides, Program, Region};
use jetc::solver::{Number, SolverObjective, compile};
use jetc::train::{Adam, Batch, Moments, Objective, Sampler, Table, descend};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ORDERS: [Order; 3] = [Order::Ascending, Order::Descending, Order::Shuffled(7)];
const SEED: u64 = 3;

/// A program with everything that it is run on.
struct Case {
    name: String,
    program: JetProgram,
    count: usize,
    points: Vec<f64>,
    data: Vec<f64>,
    tensors: Vec<Vec<f64>>,
}

/// By threads of a pool: the C++ compiler takes most of the time.
fn in_parallel<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync + Send) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
    pool.install(|| cases.par_iter().for_each(check));
}

fn planned(text: &str, count: usize) -> (Program, Plan) {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let mut program = program.unwrap_or_else(|| panic!("{text}: {diagnostics:?}"));
    program.conditions.iter_mut().for_each(|c| c.count = count);
    let plan = plan(&program, Default::default()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    (program, plan)
}

/// Values at the first points of every case in `tests/reference`.
fn references(count: usize) -> Vec<Case> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("tests/reference")
        .expect("the folder is part of the repository")
        .map(|e| e.expect("readable").path())
        .collect();
    folders.sort();
    let load = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("case.jet")).expect("readable");
        let (program, plan) = planned(&text, 1);
        let mut parameters = Parameters::<f64>::initial(&program, 0);
        if !program.nets.is_empty() {
            parameters.load(&folder.join("weights.safetensors")).expect("readable");
        }
        let points: ndarray::Array2<f64> = ndarray_npy::read_npy(folder.join("points.npy")).expect("an array");
        let count = count.min(points.nrows());
        Case {
            name: folder.file_name().expect("named").to_string_lossy().into_owned(),
            count,
            points: points.iter().copied().take(count * points.ncols()).collect(),
            data: vec![],
            tensors: tensors(&plan.sets[0].program, &parameters),
            program: plan.sets[0].program.clone(),
        }
    };
    folders.iter().map(load).collect()
}

fn tensors(program: &JetProgram, parameters: &Parameters<f64>) -> Vec<Vec<f64>> {
    program.tensors.iter().map(|t| parameters.get(&t.name).expect("named").to_vec()).collect()
}

/// The conditions of a program at points of a step.
fn conditions(name: &str, text: &str, count: usize) -> Vec<Case> {
    let (program, plan) = planned(text, count);
    let parameters = Parameters::<f64>::initial(&program, SEED);
    let samplers = samplers(&program, &plan);
    let sets = plan.sets.iter().filter(|s| s.training.is_some());
    let case = |(set, sampler): (&jetc::plan::PointSet, Sampler)| {
        let mut batch = Batch::default();
        sampler.sample(2, &mut batch);
        let training = set.training.clone().expect("filtered");
        Case {
            name: format!("{name} {}", set.name),
            count,
            data: if batch.normals.is_empty() { batch.data } else { batch.normals },
            points: batch.points,
            tensors: tensors(&training, &parameters),
            program: training,
        }
    };
    sets.zip(samplers).map(case).collect()
}

/// Of the conditions.
fn samplers(program: &Program, plan: &Plan) -> Vec<Sampler> {
    let sampler = |set: &jetc::plan::PointSet| {
        let k = set.condition.filter(|_| set.training.is_some())?;
        let table = match program.conditions[k].region {
            Region::Data(d) => Some(Arc::new(Table::load(program, d, Path::new("examples")).expect("readable"))),
            _ => None,
        };
        let sampler = Sampler::new(program, k, SEED, table).expect("it has a domain");
        Some(if set.normals { sampler.with_normals() } else { sampler })
    };
    plan.sets.iter().filter_map(sampler).collect()
}

fn find(module: &Module, role: Role) -> Option<BufferId> {
    module.buffers.iter().position(|b| b.role == role).map(|k| BufferId(k as u32))
}

fn bytes(words: [u64; 2]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_ne_bytes()).collect()
}

/// All outputs and gradients of a case, one after the other; without a barrier.
fn on_host(case: &Case, host: &Host, order: Order, skip: Option<u32>) -> Result<Vec<Vec<f64>>, HostError> {
    let module = host.module();
    let mut memory = host.memory(case.count as u32);
    memory.skip = skip;
    let write = |memory: &mut Memory, role, numbers: &[f64]| match find(module, role) {
        Some(id) => memory.write_reals(id, numbers),
        None => Ok(()),
    };
    write(&mut memory, Role::Points, &case.points)?;
    write(&mut memory, Role::Data, &case.data)?;
    case.tensors.iter().enumerate().try_for_each(|(k, t)| write(&mut memory, Role::Tensor(k as u32), t))?;
    memory.write(find(module, Role::State).expect("it has one"), &bytes([SEED, 2]))?;
    host.start(&mut memory, order)?;
    // the second call must not depend on what the first one left
    host.call(&mut memory, order)?;
    host.call(&mut memory, order)?;
    let outputs = (0..case.program.outputs.len()).map(|k| Role::Output(k as u32));
    let roles = outputs.chain((0..case.program.gradients.len()).map(|k| Role::Gradient(k as u32)));
    Ok(roles.map(|role| memory.reals(find(module, role).expect("it has one"))).collect())
}

fn on_cpu<T: Number>(case: &Case) -> Vec<Vec<f64>> {
    let of = |x: &[f64]| -> Vec<T> { x.iter().map(|x| <T as jetc::net::Element>::of(*x)).collect() };
    let executor = Executor::<T>::new(&case.program).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let (points, data) = (of(&case.points), of(&case.data));
    let tensors: Vec<Vec<T>> = case.tensors.iter().map(|t| of(t)).collect();
    let tensors: Vec<&[T]> = tensors.iter().map(Vec::as_slice).collect();
    let call = Call {
        count: case.count,
        points: Points::Rows(&points),
        data: &data,
        tensors: &tensors,
        random: (SEED, 2).into(),
        beside: Beside::default(),
    };
    let mut outputs = vec![vec![]; case.program.outputs.len()];
    let mut gradients = vec![vec![]; case.program.gradients.len()];
    executor.run_whole(&call, &mut outputs, &mut gradients).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    outputs.iter().chain(&gradients).map(|x| x.iter().map(|x| jetc::net::Element::f64(*x)).collect()).collect()
}

/// Norm of the difference over the norm.
fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    difference / norm(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

fn bits(values: &[Vec<f64>]) -> Vec<Vec<u64>> {
    values.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
}

fn check<T: Number>(case: &Case, precision: Precision, tolerance: f64) {
    let module = emit(&case.program, &Options::new(precision)).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let host = Host::new(&module).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let expected = on_cpu::<T>(case);
    let run = |order| on_host(case, &host, order, None).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let found = run(Order::Ascending);
    let errors: Vec<f64> = found.iter().zip(&expected).map(|(f, e)| relative(f, e)).collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    println!("{:<50} {precision:?} {worst:.1e}", case.name);
    assert!(worst <= tolerance, "{} {precision:?}: {errors:?}", case.name);
    for order in &ORDERS[1..] {
        assert_eq!(bits(&run(*order)), bits(&found), "{} {order:?}", case.name);
    }
}

fn example(name: &str) -> String {
    std::fs::read_to_string(format!("examples/{name}.jet")).expect("readable")
}

/// Problems of the examples that are small enough, by file.
const EXAMPLES: [&str; 8] = [
    "burgers",
    "heat",
    "helmholtz_robin",
    "kadomtsev_petviashvili",
    "poisson_1d",
    "poisson_2d",
    "biharmonic_dense",
    "operator",
];

/// Sizes that fit no tile: one point, one layer, odd widths, one dimension, and many.
fn odd() -> Vec<Case> {
    let problem = |d: usize, net: &str, estimate: &str| {
        format!(
            "space x[{d}] in ball(radius = 1)\nnet N = mlp({net}, activation = tanh)\nfield u = (1 - norm2(x))*N(x)\n\
             solve pde: lap(u) + sin(u) = 1\n{estimate}\ntrain adam(lr = 1e-2), steps = 10\n"
        )
    };
    let mut cases = conditions("d = 1", &problem(1, "width = 7, depth = 3", ""), 1);
    cases.extend(conditions("one layer", &problem(3, "width = 5, depth = 1", ""), 5));
    cases.extend(conditions("two layers", &problem(2, "width = 33, depth = 2", ""), 9));
    cases.extend(conditions("wide", &problem(5, "width = 130, depth = 3", ""), 3));
    let many = |estimate: &str| problem(1003, "width = 9, depth = 3", estimate);
    cases.extend(conditions("d = 1003, sparse", &many("estimate pde by sparse(3)"), 6));
    cases.extend(conditions("d = 1003, rademacher", &many("estimate pde by rademacher(2)"), 3));
    cases.extend(conditions("d = 1003, compressed", &many("estimate pde by compressed"), 2));
    cases
}

#[test]
fn values_agree_in_f64() {
    in_parallel(&references(5), |case| check::<f64>(case, Precision::Fp64, 1e-10));
}

#[test]
fn values_agree_in_f32() {
    in_parallel(&references(5), |case| check::<f32>(case, Precision::Fp32, 1e-4));
}

#[test]
fn values_agree_on_tensor_cores() {
    in_parallel(&references(3), |case| check::<f32>(case, Precision::Tf32x3, 1e-4));
}

/// A gradient-enhanced problem whose code is loops over its draws, small.
fn enhanced() -> String {
    let smaller =
        [("d = 100", "d = 24"), ("width = 128, depth = 4", "width = 12, depth = 2"), ("dirs = 16", "dirs = 8")];
    let text = example("allen_cahn_three_body_gpinn").replace("sparse(16)", "sparse(6)");
    smaller.iter().fold(text, |text, (from, to)| {
        assert!(text.contains(from), "the example has changed");
        text.replace(from, to)
    })
}

#[test]
fn gradients_agree() {
    let mut cases = odd();
    cases.extend(conditions("gradient-enhanced", &enhanced(), 3));
    cases.extend(EXAMPLES.iter().flat_map(|name| conditions(name, &example(name), 5)));
    in_parallel(&cases, |case| check::<f64>(case, Precision::Fp64, 1e-9));
}

#[test]
fn gradients_agree_on_tensor_cores() {
    in_parallel(&odd(), |case| check::<f32>(case, Precision::Tf32x3, 1e-3));
}

/// A training step on the host.
struct Stepped<T> {
    host: Host,
    program: Program,
    plan: Plan,
    parameters: Parameters<T>,
}

impl<T: Number> Stepped<T> {
    fn new(text: &str, count: usize, options: &Options) -> Self {
        let (program, plan) = planned(text, count);
        let parameters = Parameters::<T>::initial(&program, SEED);
        let samplers = samplers(&program, &plan);
        let sets = plan.sets.iter().filter_map(|s| s.training.as_ref()).zip(&samplers);
        let conditions =
            sets.map(|(program, sampler)| jetc::cuda::Condition { program, loss: program.outputs.len() - 1, sampler });
        let training = jetc::cuda::Training {
            name: "step",
            tensors: parameters.specs(),
            conditions: conditions.collect(),
            adam: Adam::new(program.training.as_ref().expect("it trains")),
            steps: 10,
        };
        let module = jetc::cuda::step(&training, options).unwrap_or_else(|e| panic!("{text}: {e}"));
        let host = Host::new(&module).unwrap_or_else(|e| panic!("{text}: {e}"));
        Stepped { host, program, plan, parameters }
    }

    /// Losses of so many steps, and the tensors after them; without a barrier.
    fn run(&self, steps: u64, order: Order, skip: Option<u32>) -> Result<Vec<Vec<f64>>, HostError> {
        let id = |role| find(self.host.module(), role).expect("it has one");
        let training = self.program.training.as_ref().expect("it trains");
        let mut memory = self.host.memory(0);
        memory.skip = skip;
        for (k, values) in self.parameters.values().iter().enumerate() {
            let values: Vec<f64> = values.iter().map(|x| jetc::net::Element::f64(*x)).collect();
            memory.write_reals(id(Role::Tensor(k as u32)), &values)?;
        }
        memory.write(id(Role::State), &bytes([SEED, 0]))?;
        let adam = Adam::new(training);
        let factors: Vec<f64> = (0..10).flat_map(|s| adam.factors(s + 1, training.rate_at(s))).collect();
        memory.write_reals(id(Role::Rates), &factors)?;
        self.host.start(&mut memory, order)?;
        (0..steps).try_for_each(|_| self.host.call(&mut memory, order))?;
        assert_eq!(memory.bytes(id(Role::State)), bytes([SEED, steps]));
        let conditions = self.plan.sets.iter().filter(|s| s.training.is_some()).count();
        let mut all = vec![memory.reals(id(Role::Losses))[..steps as usize * conditions].to_vec()];
        let tensors = (0..self.parameters.specs().len()).map(|k| id(Role::Tensor(k as u32)));
        all.extend(tensors.map(|id| memory.reals(id)));
        Ok(all)
    }
}

/// Ten training steps on the CPU and on the host; losses and tensors.
fn steps<T: Number>(name: &str, text: &str, count: usize, precision: Precision, tolerance: f64) {
    // few blocks, so that each has several tiles
    let mut stepped = Stepped::<T>::new(text, count, &Options { blocks: Some(2), ..Options::new(precision) });
    let run = |order| stepped.run(10, order, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    let found = run(Order::Ascending);
    for order in &ORDERS[1..] {
        assert_eq!(bits(&run(*order)), bits(&found), "{name} {order:?}");
    }
    let adam = Adam::new(stepped.program.training.as_ref().expect("it trains"));
    let expected = on_cpu_steps(&stepped.program, &stepped.plan, &mut stepped.parameters, adam);
    let errors: Vec<f64> = found.iter().zip(&expected).map(|(f, e)| relative(f, e)).collect();
    let worst = errors.iter().copied().fold(0.0, f64::max);
    println!("{name:<50} {precision:?} {worst:.1e}");
    assert!(worst <= tolerance, "{name} {precision:?}: {errors:?}\n{:?}\n{:?}", found[0], expected[0]);
}

/// Losses of ten steps, and the tensors after them.
fn on_cpu_steps<T: Number>(
    program: &Program,
    plan: &Plan,
    parameters: &mut Parameters<T>,
    adam: Adam,
) -> Vec<Vec<f64>> {
    use jetc::net::Element;
    let training = program.training.clone().expect("it trains");
    let mut objective =
        SolverObjective::new(program, plan, parameters, Path::new("examples"), SEED).expect("it compiles");
    let tensors = Objective::<T>::tensors(&objective);
    let at: Vec<usize> = tensors.iter().map(|t| parameters.position(&t.0).expect("named")).collect();
    let is_log: Vec<bool> =
        at.iter().map(|k| parameters.specs()[*k].learning == jetc::program::Learning::Log).collect();
    let mut values: Vec<Vec<T>> = at.iter().map(|k| parameters.values()[*k].clone()).collect();
    let mut moments = Moments::zeros(values.iter().map(Vec::len));
    let mut gradients: Vec<Vec<T>> = values.iter().map(|v| vec![<T as num_traits::Zero>::zero(); v.len()]).collect();
    let mut all = vec![vec![]];
    for s in 0..10 {
        let mut losses = vec![0.0; Objective::<T>::conditions(&objective).len()];
        objective.step(s, &values, &mut gradients, &mut losses).expect("it runs");
        all[0].extend(losses);
        for k in (0..values.len()).filter(|k| is_log[*k]) {
            gradients[k].iter_mut().zip(&values[k]).for_each(|(g, p)| *g *= *p);
            values[k].iter_mut().for_each(|p| *p = T::of(Element::f64(*p).ln()));
        }
        descend(&objective, &adam, (s + 1, training.rate_at(s)), &mut values, &gradients, &mut moments)
            .expect("finite");
        for k in (0..values.len()).filter(|k| is_log[*k]) {
            values[k].iter_mut().for_each(|p| *p = T::of(Element::f64(*p).exp()));
        }
    }
    let mut tensors: Vec<Vec<T>> = parameters.values().to_vec();
    at.iter().zip(values).for_each(|(k, v)| tensors[*k] = v);
    all.extend(tensors.iter().map(|t| t.iter().map(|x| Element::f64(*x)).collect::<Vec<f64>>()));
    all
}

/// Every way of drawing points, learned parameters, an estimate, several conditions.
const DRAWN: [(&str, &str); 9] = [
    (
        "box, faces, logarithm",
        "space x[2] in box(-1..2)\ntime t in 0..1\nparam k = 0.3 learn log\nparam c = 0.1 learn\n\
         net N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x, t)\n\
         solve pde: d_t(u) = k*lap(u) + c\nsolve wall on boundary: d_n(u) = 0  weight 3\n\
         solve start on t = 0: u = sin(pi*x[0])\ntrain adam(lr = 1e-2, decay = cosine), steps = 10\n",
    ),
    (
        "ball in volume, sparse",
        "space x[40] in ball(radius = 2, measure = volume)\nnet N = mlp(width = 8, depth = 3, activation = tanh)\n\
         field u = (1 - norm2(x))*N(x)\nsolve pde: lap(u) = sum(i in 0..39: x[i]*x[i+1])\nestimate pde by sparse(4)\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "Brownian",
        "space x[5] from brownian(scale = 0.7)\ntime t in 0..2\nnet N = mlp(width = 8, depth = 2, activation = sin)\n\
         field u = N(x, t)\nsolve pde: d_t(u) + lap(u) = u\nsolve end on t = 2: u = norm2(x)\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "streamed, sparse",
        "space x[301] in ball(radius = 1)\nnet N = mlp(width = 8, depth = 3, activation = tanh)\n\
         let exact = (1 - norm2(x))*sum(i in 0..300: sin(x[i] + cos(x[i+1]) + x[i+1]*cos(x[i])))\n\
         field u = (1 - norm2(x))*N(x)\nsolve pde: lap(u) + sin(u) = lap(exact) + sin(exact)\nestimate pde by sparse(4)\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "streamed, coefficients ahead of the points",
        "space x[301] in ball(radius = 1)\ncoef c[301] ~ normal(seed = 0)\n\
         net N = mlp(width = 16, depth = 3, activation = tanh)\nfield u = (1 - norm2(x))*N(x)\n\
         solve pde: lap(u) + sin(u) = 1000*sum(i in 0..300: (1 + c[i]*c[i+1])*x[i]^2)\nestimate pde by sparse(4)\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "streamed, two conditions, compressed",
        "space x[270] in ball(radius = 1)\ntime t in 0..1\nparam k = 0.3 learn log\n\
         net N = mlp(width = 9, depth = 3, activation = tanh)\nfield u = (1 - norm2(x))*N(x, t)\n\
         let exact = (1 - norm2(x))*sum(i in 0..269: sin(x[i]*x[i+1] + t))\n\
         solve interior: d_t(u) - k*lap(u) = d_t(exact) - lap(exact)\nsolve start on t = 0: lap(u) + u = exact  weight 0.1\n\
         estimate interior by sparse(5)\nestimate start by compressed\ntrain adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "many columns in a box",
        "space x[60] in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = N(x)\n\
         solve pde: lap(u) = 1\nsolve wall on boundary: u = 0\nestimate pde by compressed\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
    (
        "layers in loops",
        "space x[2] in box(0..1)\nnet N = mlp(width = 6, depth = 14, activation = sin)\nfield u = N(x)\n\
         solve pde: lap(u) = sin(x[0]) + u^3\nsolve wall on boundary: u = 0\ntrain adam(lr = 1e-2), steps = 10\n",
    ),
    // coefficients and parameters are called what kernels call their own
    (
        "names",
        "space x[300] in ball(radius = 1)\ncoef w[300] ~ normal(seed = 0)\nparam n = 2 learn\nparam count = 1\n\
         net N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = (1 - norm2(x))*N(x)\n\
         solve pde: lap(u) = n*count*sin(sum(i in 0..300: w[i]*x[i]))\nestimate pde by sparse(3)\nsample pde = 7\n\
         train adam(lr = 1e-2), steps = 10\n",
    ),
];

#[test]
fn ten_steps_agree() {
    let mut problems: Vec<(&str, String)> = DRAWN.iter().map(|(name, text)| (*name, (*text).to_string())).collect();
    problems.extend(["burgers", "heat", "poisson_2d"].map(|name| (name, example(name))));
    problems.push(("gradient-enhanced", enhanced()));
    in_parallel(&problems, |(name, text)| steps::<f64>(name, text, 7, Precision::Fp64, 1e-9));
}

#[test]
fn ten_steps_agree_in_f32() {
    in_parallel(&DRAWN, |(name, text)| steps::<f32>(name, text, 7, Precision::Tf32x3, 2e-3));
}

/// Whether something holds, found out by a process of its own: without a barrier a kernel may follow garbage out of its memory,
/// or for ever.
fn holds(what: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child is this thread alone. It takes no lock that another thread might have held (the library's own lock is
    // this thread's), and ends without running anything of the parent's.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(30);
            libc::_exit(i32::from(!what()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(child, &mut status, 0), child, "a child process");
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

/// The barriers that can be left out: no order of the threads gives other bits or an error. By their lines in the text.
fn needless(
    name: &str,
    host: &Host,
    run: impl Fn(Order, Option<u32>) -> Result<Vec<Vec<f64>>, HostError>,
) -> Vec<String> {
    let orders = [Order::Shuffled(1), Order::Descending, Order::Ascending, Order::Shuffled(2)];
    let truth = bits(&run(Order::Ascending, None).unwrap_or_else(|e| panic!("{name}: {e}")));
    let text = &host.module().text;
    let mut needless = vec![];
    let barriers: Vec<Option<u32>> = std::iter::once(None).chain(host.barriers().into_iter().map(Some)).collect();
    for barrier in barriers {
        let is_same = |order| holds(|| run(order, barrier).is_ok_and(|found| bits(&found) == truth));
        let Some(barrier) = barrier else {
            assert!(orders.into_iter().all(is_same), "{name}: with all barriers the orders agree");
            continue;
        };
        if orders.into_iter().all(is_same) {
            let at = text.match_indices("__sync").filter(|m| !is_comment(text, m.0)).nth(barrier as usize);
            let line = at.map_or(0, |m| text[..m.0].lines().count());
            let around: Vec<&str> = text.lines().skip(line.saturating_sub(6)).take(9).collect();
            needless.push(format!("{name}, line {line}:\n{}", around.join("\n")));
        }
    }
    needless
}

/// A barrier that is left out is noticed: none is needless.
#[test]
fn barriers_that_are_left_out_are_noticed() {
    let narrow = "space x in box(0..1)\ntime t in 0..1\nnet N = mlp(width = 20, depth = 3, activation = tanh)\n\
                  field u = N(x, t)\nsolve pde: d_t(u) + u*d_x(u) = d_xx(u)\nsample pde = 12\n\
                  train adam(lr = 1e-2), steps = 10\n";
    let ball = |width: usize, how: &str| {
        format!(
            "space x[300] in ball(radius = 1)\nnet N = mlp(width = {width}, depth = 3, activation = tanh)\n\
             field u = (1 - norm2(x))*N(x)\nsolve pde: lap(u) + sin(u) = 1\nestimate pde by {how}\n\
             train adam(lr = 1e-2), steps = 10\n"
        )
    };
    let problems = [
        ("narrow", narrow.to_string(), Precision::Fp32),
        ("sparse", ball(8, "sparse(5)"), Precision::Fp32),
        ("compressed", ball(8, "compressed"), Precision::Fp32),
        ("packs", ball(16, "sparse(5)"), Precision::Tf32x3),
        ("loops", narrow.replace("width = 20, depth = 3", "width = 8, depth = 12"), Precision::Fp32),
    ];
    let found = std::sync::Mutex::new(vec![]);
    in_parallel(&problems, |(name, text, precision)| {
        // several tiles of two points for each block
        let options = Options { blocks: Some(2), tile: Some(2), ..Options::new(*precision) };
        let stepped = Stepped::<f32>::new(text, 9, &options);
        let more = needless(name, &stepped.host, |order, skip| stepped.run(2, order, skip));
        found.lock().expect("no panic").extend(more);
    });
    let found = found.into_inner().expect("no panic");
    assert!(found.is_empty(), "{} barriers are not needed:\n{}", found.len(), found.join("\n\n"));
}

fn is_comment(text: &str, at: usize) -> bool {
    text[..at].lines().next_back().is_some_and(|line| line.contains("//"))
}

/// An index that is off by one is noticed.
#[test]
fn an_index_that_is_off_is_noticed() {
    let case = &conditions("narrow", DRAWN[0].1, 7)[0];
    let module = emit(&case.program, &Options::new(Precision::Fp32)).expect("it emits");
    let mutations = [
        ("(first + p) * ROWS + r", "(first + p + 1) * ROWS + r"),
        ("const unsigned first = tile * ", "const unsigned first = 1 + tile * "),
    ];
    for (from, to) in mutations {
        assert!(module.text.contains(from), "{from}");
        let mutated = Module { text: module.text.replace(from, to), ..module.clone() };
        let host = Host::new(&mutated).expect("it compiles");
        let error = on_host(case, &host, Order::Ascending, None).expect_err(to);
        println!("{error}");
    }
}

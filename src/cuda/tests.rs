//! Emitted text, run by the host C++ compiler, against the oracle.

use super::host::{Host, Order};
use super::*;
use crate::cpu::tests::{SMOOTH, activation_program, inputs, network, scalar_program, truncated};
use crate::jet::*;
use proptest::prelude::*;

const ALL: [(Precision, f64); 4] =
    [(Precision::Fp64, 1e-10), (Precision::Fp32, 1e-4), (Precision::Tf32x3, 1e-4), (Precision::Tf32, 3e-2)];

/// Outputs and gradients of a program by its kernels.
fn run(program: &JetProgram, inputs: &Inputs, options: &Options, order: Order) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let module = emit(program, options).unwrap();
    if let Ok(folder) = std::env::var("JETC_TEST_CUDA") {
        let name = format!("{folder}/{}_{:?}_{}.cu", program.name, options.precision, module.text.len());
        std::fs::write(name, &module.text).unwrap();
    }
    let host = Host::new(&module).unwrap_or_else(|e| panic!("{e}"));
    let mut memory = host.memory(inputs.count as u32);
    memory.is_strict = false;
    let (mut outputs, mut gradients) = (vec![vec![]; program.outputs.len()], vec![vec![]; program.gradients.len()]);
    for (k, buffer) in module.buffers.iter().enumerate() {
        let id = BufferId(k as u32);
        match buffer.role {
            Role::Points => memory.write_reals(id, &inputs.points).unwrap(),
            Role::Data => memory.write_reals(id, &inputs.data).unwrap(),
            Role::Tensor(t) => {
                let (tensor, values) = (&program.tensors[t as usize], &inputs.tensors[t as usize]);
                memory.write_reals(id, &turned(tensor, values, false)).unwrap();
            }
            Role::State => {
                let bytes: Vec<u8> = [inputs.seed, inputs.step].iter().flat_map(|w| w.to_ne_bytes()).collect();
                memory.write(id, &bytes).unwrap();
            }
            _ => {}
        }
    }
    // Twice, so that what a first call leaves behind would show.
    for _ in 0..2 {
        host.start(&mut memory, order).unwrap();
        host.call(&mut memory, order).unwrap_or_else(|e| panic!("{e}"));
    }
    for (k, buffer) in module.buffers.iter().enumerate() {
        let id = BufferId(k as u32);
        match buffer.role {
            Role::Output(o) => outputs[o as usize] = memory.reals(id),
            Role::Gradient(g) => {
                let tensor = &program.tensors[program.gradients[g as usize].0.index()];
                gradients[g as usize] = turned(tensor, &memory.reals(id), true);
            }
            _ => {}
        }
    }
    (outputs, gradients)
}

/// From [out, in] to the order in which a backend keeps a tensor, or back.
fn turned(tensor: &Tensor, values: &[f64], back: bool) -> Vec<f64> {
    if !crate::net::is_turned(&tensor.name, &tensor.shape, crate::net::WIDE) {
        return values.to_vec();
    }
    let (out, inputs) = (tensor.shape[0], tensor.shape[1]);
    let (rows, columns) = if back { (inputs, out) } else { (out, inputs) };
    (0..rows * columns).map(|e| values[e % rows * columns + e / rows]).collect()
}

fn close(name: &str, ours: &[f64], truth: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), truth.len(), "{name}");
    let size = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(truth).enumerate() {
        let same = a == b || (a.is_nan() && b.is_nan());
        assert!(same || (a - b).abs() <= tolerance * size.max(1e-3), "{name}[{i}]: {a:?}, not {b}");
    }
}

/// Every output and gradient in a precision.
fn agrees(program: &JetProgram, inputs: &Inputs, options: &Options, tolerance: f64, order: Order) {
    let truth = interpret(program, inputs).unwrap();
    let (outputs, gradients) = run(program, inputs, options, order);
    let p = options.precision;
    for ((name, value), ours) in program.outputs.iter().zip(&outputs) {
        let op = program.ops[value.index()].name();
        close(&format!("{name} ({op}) {p:?}"), ours, &truth[value.index()], tolerance);
    }
    for ((tensor, value), ours) in program.gradients.iter().zip(&gradients) {
        let name = &program.tensors[tensor.index()].name;
        close(&format!("gradient of {name} {p:?}"), ours, &truth[value.index()], tolerance);
    }
}

/// The program of a problem's first point set, with the gradient of the mean square of its first output.
fn planned(text: &str, set: usize) -> (JetProgram, JetProgram) {
    let (program, diagnostics) = crate::solver::compile(text, &Default::default());
    let program = program.unwrap_or_else(|| panic!("{diagnostics:?}"));
    let plan = crate::plan::plan(&program, Default::default()).unwrap();
    let value = plan.sets[set].program.clone();
    let (squared, loss) = mean_square(&value, 0.7, false).unwrap();
    (value, adjoint(&squared, loss).unwrap())
}

fn reference(names: &[&str]) {
    for entry in std::fs::read_dir("tests/reference").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !names.iter().any(|n| name.starts_with(n)) {
            continue;
        }
        let text = std::fs::read_to_string(path.join("case.jet")).unwrap();
        let (_, mut program) = planned(&text, 0);
        program.name = name.clone();
        if program.tensors.iter().all(|t| !t.learned) {
            continue;
        }
        let inputs = inputs(&program, 5, 3);
        for (precision, tolerance) in ALL {
            if std::env::var("JETC_TEST_QUICK").is_ok() && precision == Precision::Fp32 {
                continue;
            }
            println!("{name} {precision:?}");
            agrees(&program, &inputs, &Options::new(precision), tolerance, Order::Shuffled(7));
        }
    }
}

#[test]
fn reference_programs_a_to_g() {
    reference(&["a", "bu", "bl", "biharmonic_2", "c"]);
}

#[test]
fn reference_programs_h_to_l() {
    reference(&["h", "k", "l"]);
}

#[test]
fn reference_programs_m_to_z() {
    reference(&["m", "n", "s", "v", "w"]);
}

#[test]
fn reference_programs_large() {
    reference(&["biharmonic_5", "t"]);
}

#[test]
fn estimators() {
    for (how, d) in [
        ("exact", 60),
        ("compressed", 60),
        ("compressed(3)", 60),
        ("sparse(5)", 60),
        ("sparse(5)", 9),
        ("importance(4)", 60),
        ("rademacher(3)", 60),
        ("gaussian(3)", 7),
        ("gaussian(3)", 60),
    ] {
        let text = format!(
            "const d = {d}\nspace x[d] in ball(radius = 1)\nnet N = mlp(width = 16, depth = 3, activation = tanh)\n\
             field u = (1 - norm2(x))*N(x)\nsolve inside: lap(u) + sin(u) = sum(i in 0..d: cos(x[i]))\n\
             estimate lap(u) by {how}\nsample inside = 10\ntrain adam(lr = 1e-3), steps = 10\n"
        );
        let (_, mut program) = planned(&text, 0);
        program.name = format!("estimator_{}", how.replace(['(', ')'], "_"));
        let inputs = inputs(&program, 5, 3);
        for (precision, tolerance) in ALL {
            println!("{how} {d} {precision:?}");
            agrees(&program, &inputs, &Options::new(precision), tolerance, Order::Shuffled(7));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn every_operation_is_what_the_oracle_says(
        variables in 1..4usize, order in 1..5usize, activation in 0..8usize, varying: bool, shared: bool,
        shape in (1..70usize, 1..40usize, 1..4usize), count in 0..40usize, seed in 0..1000u64, how in 0..4usize,
    ) {
        let order = if variables == 3 { order.min(3) } else { order };
        let (algebra, coefficients) = truncated(variables, order, seed, varying);
        let shape = [shape.0, shape.1, shape.2.min(shape.0)];
        let mut program = network(algebra, coefficients.len(), SMOOTH[activation], shape, shared);
        let mut inputs = inputs(&program, count, seed);
        for row in inputs.data.chunks_exact_mut(program.data_columns) {
            row[..coefficients.len()].copy_from_slice(&coefficients);
        }
        let (precision, tolerance) = ALL[how];
        let order = [Order::Ascending, Order::Descending, Order::Shuffled(seed)][seed as usize % 3];
        agrees(&program, &inputs, &Options::new(precision), tolerance, order);
        program.outputs = (0..program.ops.len()).map(|k| (format!("v{k}"), ValueId(k as u32))).collect();
        agrees(&program, &inputs, &Options::new(precision), tolerance, order);
    }

    #[test]
    fn activations_of_any_algebra(
        variables in 1..4usize, order in 1..5usize, activation in 0..8usize, seed in 0..10_000u64, count in 0..9usize,
    ) {
        let (algebra, coefficients) = truncated(variables, order.min(6 - variables), seed, true);
        let m = coefficients.len();
        let rows = algebra.rows;
        let program = activation_program(algebra, m, SMOOTH[activation]);
        let mut inputs = inputs(&program, count, seed);
        for row in inputs.data.chunks_exact_mut(program.data_columns) {
            row[4 * rows..].copy_from_slice(&coefficients);
        }
        agrees(&program, &inputs, &Options::new(Precision::Fp64), 1e-10, Order::Ascending);
    }

    #[test]
    fn scalar_code_is_what_the_oracle_says(seed: u64, count in 0..50usize) {
        let code = crate::jet::tests::scalar_code(&mut crate::jet::tests::Choices::new(seed), ValueId(0), (1, 4));
        let program = scalar_program(code, 4);
        let inputs = inputs(&program, count, seed % 1000);
        agrees(&program, &inputs, &Options::new(Precision::Fp64), 1e-10, Order::Shuffled(seed));
    }
}

//! Emitted text, run by the host C++ compiler, against the oracle.

use super::host::{Host, Order};
use super::*;
use crate::cpu::tests::{SMOOTH, activation_program, curve_program, inputs, network, scalar_program, truncated};
use crate::jet::*;
use proptest::prelude::*;

const ALL: [(Precision, f64); 4] =
    [(Precision::Fp64, 1e-10), (Precision::Fp32, 1e-4), (Precision::Tf32x3, 1e-4), (Precision::Tf32, 3e-2)];

/// Outputs and gradients of a program by its kernels.
fn run(program: &JetProgram, inputs: &Inputs, options: &Options, order: Order) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let module = emit(program, options).unwrap();
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
            // a gradient that is an output too lies as the gradient does
            Role::Output(o) => {
                let value = program.outputs[o as usize].1;
                let tensor = program.gradients.iter().find(|g| g.1 == value).map(|g| &program.tensors[g.0.index()]);
                let found = memory.reals(id);
                outputs[o as usize] = tensor.map_or(found.clone(), |t| turned(t, &found, true));
            }
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
        for (precision, tolerance) in [ALL[0], ALL[2], ALL[3]] {
            agrees(&program, &inputs, &Options::new(precision), tolerance, Order::Shuffled(7));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn every_operation_is_what_the_oracle_says(
        variables in 1..4usize, order in 1..5usize, activation in 0..8usize, varying: bool, shared: bool,
        shape in (1..70usize, 1..40usize, 1..4usize), count in 0..40usize, seed in 0..1000u64, how in 0..3usize,
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
    fn terms_of_a_curve(
        terms in 1..6usize, activation in 0..8usize, shape in (1..5usize, 1..40usize), count in 1..40usize, seed in 0..1000u64,
        how in 0..3usize,
    ) {
        let program = curve_program(terms, SMOOTH[activation], [shape.0, shape.1], true);
        let inputs = inputs(&program, count, seed);
        let (precision, tolerance) = ALL[how];
        agrees(&program, &inputs, &Options::new(precision), tolerance, Order::Shuffled(seed));
    }

    #[test]
    fn scalar_code_is_what_the_oracle_says(seed: u64, count in 0..50usize) {
        let code = crate::jet::tests::scalar_code(&mut crate::jet::tests::Choices::new(seed), ValueId(0), (1, 4));
        let program = scalar_program(code, 4);
        let inputs = inputs(&program, count, seed % 1000);
        agrees(&program, &inputs, &Options::new(Precision::Fp64), 1e-10, Order::Shuffled(seed));
    }
}

/// What follows the building blocks, and the header.
fn text_of(program: &JetProgram, precision: Precision) -> String {
    let module = emit(program, &Options::new(precision)).unwrap();
    assert_eq!(module, emit(program, &Options::new(precision)).unwrap());
    let own = module.text.rfind("// --- ").unwrap_or_default();
    let header = module.text.find("\n\n").unwrap_or_default();
    let mut text = format!("{}\n...\n{}", &module.text[..header], &module.text[own..]);
    for (kernel, bound) in module.kernels.iter().zip(module.bind(100).blocks) {
        text += &format!("\n{}: {:?}, {bound} blocks for 100 points", kernel.name, kernel.grid);
    }
    text
}

#[test]
fn text_of_a_laplacian() {
    let text =
        "space x, y\nnet N = mlp(width = 64, depth = 3, activation = tanh)\nfield u = N(x, y)\noutput r = lap(u)\n";
    insta::assert_snapshot!(text_of(&planned(text, 0).0, Precision::Tf32x3));
}

#[test]
fn text_of_burgers_with_its_gradient() {
    let text = std::fs::read_to_string("tests/reference/burgers/case.jet").unwrap();
    insta::assert_snapshot!(text_of(&planned(&text, 0).1, Precision::Fp64));
}

#[test]
fn text_of_an_estimator_with_its_gradient() {
    let text = "const d = 1000\nspace x[d] in ball(radius = 1)\nnet N = mlp(width = 128, depth = 4, activation = tanh)\n\
                field u = (1 - norm2(x))*N(x)\nsolve inside: lap(u) + sin(u) = sum(i in 0..d: cos(x[i]))\n\
                estimate lap(u) by sparse(16)\nsample inside = 100\ntrain adam(lr = 1e-3), steps = 10\n";
    insta::assert_snapshot!(text_of(&planned(text, 0).1, Precision::Tf32x3));
}

#[test]
fn text_of_a_deep_network_with_its_gradient() {
    let text = "space x\nnet N = mlp(width = 16, depth = 16, activation = tanh)\nfield u = N(x)\noutput r = d_xx(u)\n";
    insta::assert_snapshot!(text_of(&planned(text, 0).1, Precision::Tf32x3));
}

//! The executor against the oracle, and both against calculus.

use super::*;
use crate::jet::random::Words;
use crate::jet::*;
use proptest::prelude::*;

/// Numbers in (-1, 1) that depend on a seed only.
pub fn noise(seed: u64, len: usize) -> Vec<f64> {
    let mut numbers = vec![0.0; len];
    Words::new(seed, 0, 9, 0).directions(true, |e, v| numbers[e] = (v * 0.7).tanh(), len);
    numbers
}

/// Polynomials in `variables`, cut off above `order`, in the basis of scaled monomials. With `varying`, every third
/// constant refers to a coefficient; the second result holds their values.
pub fn truncated(variables: usize, order: usize, seed: u64, varying: bool) -> (Algebra, Vec<f64>) {
    let mut monomials = vec![vec![0; variables]];
    let mut at = 0;
    while at < monomials.len() {
        for v in 0..variables {
            let mut next = monomials[at].clone();
            next[v] += 1;
            if next.iter().sum::<usize>() <= order && !monomials.contains(&next) {
                monomials.push(next);
            }
        }
        at += 1;
    }
    let rows = monomials.len();
    let scale: Vec<f64> = noise(seed, rows).iter().map(|v| 1.0 + 0.5 * v).collect();
    let (mut entries, mut values) = (Vec::new(), Vec::new());
    for a in 1..rows {
        for b in a..rows {
            let sum: Vec<usize> = monomials[a].iter().zip(&monomials[b]).map(|(a, b)| a + b).collect();
            let Some(out) = monomials.iter().position(|m| *m == sum) else { continue };
            let c = scale[a] * scale[b] / scale[out];
            let c = if varying && entries.len() % 3 == 0 {
                values.push(c);
                Coefficient::Varying(values.len() as u32 - 1)
            } else {
                Coefficient::Constant(c)
            };
            entries.push(Entry { out: out as u32, a: a as u32, b: b as u32, c });
        }
    }
    entries.sort_by_key(|e| (e.out, e.a, e.b));
    (Algebra { rows, order, entries }, values)
}

/// Columns `first..` of a value, as [rows, features].
fn unpack(source: ValueId, first: usize, rows: usize, features: usize) -> Op {
    let flat = |c| Address { offset: first as i64, terms: vec![(0, c), (1, 1)], register: None };
    let at = |var| Address { offset: 0, terms: vec![(var, 1)], register: None };
    let inner = vec![
        Instruction::Load { input: 0, row: Address::fixed(0), feature: flat(features as i64) },
        Instruction::Store { row: at(0), feature: at(1), value: 0 },
    ];
    let inner = Instruction::Loop { var: 1, lo: 0, hi: features as i64, body: inner, reductions: vec![] };
    let code = vec![Instruction::Loop { var: 0, lo: 0, hi: rows as i64, body: vec![inner], reductions: vec![] }];
    Op::Pointwise(Pointwise { inputs: vec![Source::Value(source)], rows, features, code })
}

fn tensor(name: &str, shape: &[usize]) -> Tensor {
    Tensor { name: name.into(), shape: shape.to_vec(), learned: true }
}

pub fn inputs(program: &JetProgram, count: usize, seed: u64) -> Inputs {
    let tensors = program.tensors.iter().enumerate().map(|(k, t)| noise(seed + 10 + k as u64, t.len())).collect();
    let points = noise(seed, count * program.columns);
    let given = program.ops.iter().filter_map(|op| match op {
        Op::Given { number, rows, features } => Some(noise(seed + 5 + *number as u64, count * rows * features)),
        _ => None,
    });
    let (given, data) = (given.collect(), noise(seed + 1, count * program.data_columns));
    Inputs { count, points, data, tensors, seed, step: 3, given }
}

type Results<T> = (Vec<Vec<T>>, Vec<Vec<T>>);

/// Runs a program on the inputs of the oracle.
pub fn execute<T: Real>(program: &JetProgram, inputs: &Inputs) -> Results<T> {
    let cast = |v: &[f64]| -> Vec<T> { v.iter().map(|x| T::lit(*x)).collect() };
    let tensors: Vec<Vec<T>> = inputs.tensors.iter().map(|t| cast(t)).collect();
    let tensors: Vec<&[T]> = tensors.iter().map(Vec::as_slice).collect();
    let (points, data) = (cast(&inputs.points), cast(&inputs.data));
    let given: Vec<Vec<T>> = inputs.given.iter().map(|g| cast(g)).collect();
    let given: Vec<&[T]> = given.iter().map(Vec::as_slice).collect();
    let call = Call {
        count: inputs.count,
        points: Points::Rows(&points),
        data: &data,
        tensors: &tensors,
        random: (inputs.seed, inputs.step).into(),
        beside: Beside { given: &given, numbers: &[] },
    };
    let executor = Executor::<T>::new(program).unwrap();
    let mut results = (vec![vec![]; program.outputs.len()], vec![vec![]; program.gradients.len()]);
    // Twice, so that what a first call leaves behind would show.
    for _ in 0..2 {
        executor.run_whole(&call, &mut results.0, &mut results.1).unwrap();
    }
    let (alone, mut same) = (executor.alone(), results.clone());
    for _ in 0..2 {
        alone.run_whole(&call, &mut same.0, &mut same.1).unwrap();
    }
    let pairs = results.0.iter().chain(&results.1).zip(same.0.iter().chain(&same.1));
    for (all, alone) in pairs {
        let all: Vec<f64> = all.iter().map(|x| x.to_f64()).collect();
        close("alone", alone, &all, if size_of::<T>() == 4 { 1e-4 } else { 1e-11 });
    }
    results
}

fn close(name: &str, ours: &[impl Real], truth: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), truth.len(), "{name}");
    let size = truth.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(truth).enumerate() {
        let error = (a.to_f64() - b).abs();
        // infinities are equal, and have no difference; not a number in both is right too
        let same = a.to_f64() == *b || (a.to_f64().is_nan() && b.is_nan());
        assert!(same || error <= tolerance * size.max(1e-3), "{name}[{i}]: {a:?}, not {b}");
    }
}

/// Every value of the program, in both precisions, alone and all together.
fn agrees_with_oracle(mut program: JetProgram, inputs: &Inputs) {
    let truth = interpret(&program, inputs).unwrap();
    program.outputs = (0..program.ops.len()).map(|k| (format!("v{k}"), ValueId(k as u32))).collect();
    let mut programs = vec![program.clone()];
    for output in &program.outputs {
        programs.push(JetProgram { outputs: vec![output.clone()], ..program.clone() });
    }
    for program in programs {
        let double = execute::<f64>(&program, inputs);
        let single = execute::<f32>(&program, inputs);
        for (k, (name, value)) in program.outputs.iter().enumerate() {
            let what = format!("{name} ({}) of {}", program.ops[value.index()].name(), program.outputs.len());
            close(&what, &double.0[k], &truth[value.index()], 1e-11);
            close(&what, &single.0[k], &truth[value.index()], 1e-4);
        }
    }
}

/// A program with every operation but scalar code of note: a lift with fixed, drawn and dense seeds, two layers, and adjoints.
pub fn network(
    algebra: Algebra,
    coefficients: usize,
    activation: Activation,
    [inputs, width, k]: [usize; 3],
    shared: bool,
) -> JetProgram {
    let rows = algebra.rows;
    let samples = vec![Draw::Columns { value: ValueId(2), row: 0 }, Draw::Directions { value: ValueId(3), first: 0 }];
    let seeds = (1..rows as u32)
        .flat_map(|row| {
            let fixed = Seed { row, at: row % inputs as u32, sample: None, value: 0.5 + 0.1 * row as f64 };
            let sample = Some(row % 2);
            [fixed, Seed { row, at: row % k as u32, sample, value: 0.8 }, Seed { value: -0.3, ..fixed }]
                .into_iter()
                .take(1 + row as usize % 3)
        })
        .collect();
    let v = ValueId;
    let coefficients = (coefficients > 0).then_some(v(1));
    let mut ops = vec![
        Op::Points,
        Op::Data,
        Op::Sample { stream: 1, first: 1, len: inputs, k, shared },
        Op::Directions { stream: 2, len: inputs, k, gaussian: shared },
        Op::Lift { points: v(0), first: 1, features: inputs, rows, seeds, samples },
        Op::Linear { x: v(4), weight: TensorId(0), bias: TensorId(1) },
        Op::Activate { x: v(5), algebra: AlgebraId(0), activation, coefficients },
        Op::Linear { x: v(6), weight: TensorId(2), bias: TensorId(3) },
        unpack(v(1), 0, rows, 2),
        Op::LinearAdjoint { bar: v(8), weight: TensorId(2) },
        Op::WeightAdjoint { bar: v(8), x: v(6) },
        Op::BiasAdjoint { bar: v(8) },
        Op::ActivateAdjoint { x: v(5), bar: v(9), algebra: AlgebraId(0), activation, coefficients },
        Op::WeightAdjoint { bar: v(12), x: v(4) },
        Op::Add { a: v(12), b: v(9) },
        Op::BiasAdjoint { bar: v(14) },
        Op::Add { a: v(15), b: v(15) },
        unpack(v(0), 0, 1, 1),
        Op::Mean { x: v(17), scalar: true },
        Op::Mean { x: v(0), scalar: false },
    ];
    if let Some(coefficients) = coefficients {
        ops.push(Op::CoefficientAdjoint { x: v(5), bar: v(14), algebra: AlgebraId(0), activation, coefficients });
    }
    JetProgram {
        name: "network".into(),
        columns: inputs + 2,
        data_columns: (2 * rows).max(coefficients.map_or(0, |_| rows * rows)),
        tensors: vec![
            tensor("N.0.weight", &[width, inputs]),
            tensor("N.0.bias", &[width]),
            tensor("N.1.weight", &[2, width]),
            tensor("N.1.bias", &[2]),
        ],
        algebras: vec![algebra],
        ops,
        outputs: vec![],
        gradients: vec![(TensorId(0), v(13)), (TensorId(2), v(10)), (TensorId(3), v(11)), (TensorId(1), v(16))],
    }
}

/// A program that is given something too, in one row and in several.
fn with_given(mut program: JetProgram, rows: usize, width: usize) -> JetProgram {
    let v = |k: usize| ValueId(k as u32);
    let next = program.ops.len();
    program.ops.extend([
        Op::Given { number: 0, rows, features: width },
        Op::Given { number: 1, rows: 1, features: 3 },
        Op::Add { a: v(12), b: v(next) },
        unpack(v(next + 1), 0, 1, 3),
    ]);
    program
}

pub const SMOOTH: [Activation; 8] = [
    Activation::Tanh,
    Activation::Sin,
    Activation::Sigmoid,
    Activation::Softplus,
    Activation::Gelu,
    Activation::Swish,
    Activation::Exp,
    Activation::Identity,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_operation_is_what_the_oracle_says(
        variables in 1..4usize, order in 1..5usize, activation in 0..8usize, varying: bool, shared: bool,
        shape in (1..6usize, 1..12usize, 1..4usize), count in 0..40usize, seed in 0..1000u64,
    ) {
        let order = if variables == 3 { order.min(3) } else { order };
        let (algebra, coefficients) = truncated(variables, order, seed, varying);
        let shape = [shape.0, shape.1, shape.2.min(shape.0)];
        let rows = algebra.rows;
        let program = network(algebra, coefficients.len(), SMOOTH[activation], shape, shared);
        let program = with_given(program, rows, shape[1]);
        let mut inputs = inputs(&program, count, seed);
        for row in inputs.data.chunks_exact_mut(program.data_columns) {
            row[..coefficients.len()].copy_from_slice(&coefficients);
        }
        agrees_with_oracle(program, &inputs);
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let (algebra, _) = truncated(2, 2, 1, false);
    let mut program = network(algebra, 0, Activation::Tanh, [5, 33, 2], false);
    program.outputs = vec![("u".into(), ValueId(7)), ("m".into(), ValueId(19))];
    let inputs = inputs(&program, 1003, 5);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (double, single) = pool.install(|| (execute::<f64>(&program, &inputs), execute::<f32>(&program, &inputs)));
        assert!(double.0.iter().chain(&double.1).all(|r| !r.is_empty()));
        let bits = |r: Vec<Vec<f64>>| r.concat().into_iter().map(f64::to_bits).collect::<Vec<_>>();
        let single: Vec<u32> = single.0.concat().into_iter().chain(single.1.concat()).map(f32::to_bits).collect();
        (bits(double.0), bits(double.1), single)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(3));
}

/// An activation, its adjoint and that of its constants, on x, bar and constants read from the data.
pub fn activation_program(algebra: Algebra, m: usize, activation: Activation) -> JetProgram {
    let rows = algebra.rows;
    let v = ValueId;
    let (x, bar, c) = (v(1), v(2), Some(v(3)));
    let ops = vec![
        Op::Data,
        unpack(v(0), 0, rows, 2),
        unpack(v(0), 2 * rows, rows, 2),
        unpack(v(0), 4 * rows, 1, m),
        Op::Activate { x, algebra: AlgebraId(0), activation, coefficients: c },
        Op::ActivateAdjoint { x, bar, algebra: AlgebraId(0), activation, coefficients: c },
        Op::CoefficientAdjoint { x, bar, algebra: AlgebraId(0), activation, coefficients: v(3) },
    ];
    let outputs = (4..7).map(|k| (format!("{k}"), v(k))).collect();
    JetProgram { data_columns: 4 * rows + m, algebras: vec![algebra], ops, outputs, ..Default::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn adjoints_are_derivatives(
        variables in 1..4usize, order in 1..5usize, activation in 0..8usize, seed in 0..10_000u64,
    ) {
        let (algebra, coefficients) = truncated(variables, order.min(5 - variables), seed, true);
        let (rows, m) = (algebra.rows, coefficients.len());
        let program = activation_program(algebra, m, SMOOTH[activation]);
        let mut data = noise(seed + 1, 4 * rows);
        data.extend(coefficients);
        let run = |data: &[f64]| {
            let inputs = Inputs { count: 1, data: data.to_vec(), ..Default::default() };
            execute::<f64>(&program, &inputs).0
        };
        let adjoints = run(&data);
        let h = 1e-5;
        for (place, value) in (0..2 * rows).map(|i| (i, adjoints[1][i])).chain((0..m).map(|i| (4 * rows + i, adjoints[2][i]))) {
            let shifted = |h: f64| {
                let mut data = data.clone();
                data[place] += h;
                let y = &run(&data)[0];
                y.iter().zip(&data[2 * rows..]).map(|(y, b)| y * b).sum::<f64>()
            };
            let slope = (shifted(h) - shifted(-h)) / (2.0 * h);
            prop_assert!((slope - value).abs() < 1e-7 * (1.0 + value.abs()), "{place}: {value}, difference {slope}");
        }
    }
}

/// Two layers along a curve with `terms` coefficients, which are columns of the points, and the vector-Jacobian product:
/// coefficient by coefficient, or all at once in the algebra of polynomials.
pub fn curve_program(terms: usize, activation: Activation, [inputs, width]: [usize; 2], single: bool) -> JetProgram {
    let mut ops = vec![Op::Points];
    let mut push = |op| {
        ops.push(op);
        ValueId(ops.len() as u32 - 1)
    };
    let tensors = vec![
        tensor("N.0.weight", &[width, inputs]),
        tensor("b", &[width]),
        tensor("v", &[2, width]),
        tensor("c", &[2]),
    ];
    let t = TensorId;
    let value = if single {
        let (mut x, mut y, mut code, mut read) = (vec![], vec![], vec![], vec![]);
        for k in 0..terms {
            let point = push(unpack(ValueId(0), k * inputs, 1, inputs));
            x.push(push(match k {
                0 => Op::Linear { x: point, weight: t(0), bias: t(1) },
                _ => Op::LinearPart { x: point, weight: t(0) },
            }));
            y.push(push(Op::Term { x: x.clone(), y: y.clone(), activation }));
            read.push(Source::Value(push(match k {
                0 => Op::Linear { x: y[0], weight: t(2), bias: t(3) },
                _ => Op::LinearPart { x: y[k], weight: t(2) },
            })));
            for feature in 0..2 {
                let (row, feature) = (Address::fixed(0), Address::fixed(feature));
                code.push(Instruction::Load { input: k as u32, row: row.clone(), feature: feature.clone() });
                let value = code.iter().filter(|c| matches!(c, Instruction::Load { .. })).count() as u32 - 1;
                code.push(Instruction::Store { row: Address::fixed(k), feature, value });
            }
        }
        push(Op::Pointwise(Pointwise { inputs: read, rows: terms, features: 2, code }))
    } else {
        let x = push(unpack(ValueId(0), 0, terms, inputs));
        let x = push(Op::Linear { x, weight: t(0), bias: t(1) });
        let x = push(Op::Activate { x, algebra: AlgebraId(0), activation, coefficients: None });
        push(Op::Linear { x, weight: t(2), bias: t(3) })
    };
    let program = JetProgram {
        columns: terms * inputs,
        tensors,
        algebras: vec![Algebra::polynomials(terms)],
        ops,
        outputs: vec![("y".into(), value)],
        ..Default::default()
    };
    vjp(&program, true).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Coefficient by coefficient is all at once: values, gradients of weights and of points, by the oracle and by the executor.
    #[test]
    fn terms_of_a_curve_are_what_the_algebra_says(
        terms in 1..6usize, activation in 0..8usize, shape in (1..5usize, 1..90usize), count in 1..20usize, seed in 0..1000u64,
    ) {
        let [single, whole] =
            [true, false].map(|single| curve_program(terms, SMOOTH[activation], [shape.0, shape.1], single));
        let inputs = inputs(&whole, count, seed);
        let truth = interpret(&whole, &inputs).unwrap();
        let ours = interpret(&single, &inputs).unwrap();
        for (a, b) in single.outputs.iter().zip(&whole.outputs) {
            close(&a.0, &ours[a.1.index()], &truth[b.1.index()], 1e-12);
        }
        for (k, tensor) in whole.tensors.iter().enumerate() {
            let sum = |program: &JetProgram, values: &[Vec<f64>]| {
                let mut sum = vec![0.0; tensor.len()];
                for (_, v) in program.gradients.iter().filter(|g| g.0.index() == k) {
                    sum.iter_mut().zip(&values[v.index()]).for_each(|(s, v)| *s += v);
                }
                sum
            };
            close(&tensor.name, &sum(&single, &ours), &sum(&whole, &truth), 1e-12);
        }
        sums_are_sums_of_entries(&single, &inputs, &ours);
        agrees_with_oracle(single, &inputs);
    }
}

/// Gradients that are added up where they are made, however weights lie, by one thread and by several.
fn sums_are_sums_of_entries(program: &JetProgram, inputs: &Inputs, truth: &[Vec<f64>]) {
    let together = summed(program.clone());
    let mut calls = (vec![vec![]; together.outputs.len()], vec![vec![]; together.gradients.len()]);
    for wide_from in [0, WIDE] {
        let lies = |tensor: &Tensor, values: &[f64]| match is_turned(&tensor.name, &tensor.shape, wide_from) {
            true => lift::matrix(values, tensor.shape[0]).t().iter().copied().collect(),
            false => values.to_vec(),
        };
        let tensors: Vec<Vec<f64>> = together.tensors.iter().zip(&inputs.tensors).map(|(t, v)| lies(t, v)).collect();
        let tensors: Vec<&[f64]> = tensors.iter().map(Vec::as_slice).collect();
        let random = (inputs.seed, inputs.step).into();
        let points = Points::Rows(&inputs.points);
        let call = Call {
            count: inputs.count,
            points,
            data: &inputs.data,
            tensors: &tensors,
            random,
            beside: Beside::default(),
        };
        let executor = || Executor::<f64>::with_wide(&together, wide_from).unwrap();
        for executor in [executor(), executor().alone()] {
            executor.run_whole(&call, &mut calls.0, &mut calls.1).unwrap();
            for ((t, _), gradient) in together.gradients.iter().zip(&calls.1) {
                let tensor = &program.tensors[t.index()];
                let mut sum = vec![0.0; tensor.len()];
                for (_, v) in program.gradients.iter().filter(|g| g.0 == *t) {
                    sum.iter_mut().zip(&truth[v.index()]).for_each(|(s, v)| *s += v);
                }
                close(&tensor.name, gradient, &lies(tensor, &sum), 1e-12);
            }
        }
    }
}

/// A first layer whose weight lies as [in, out] is read both ways, and anew when it has changed.
#[test]
fn a_turned_weight_is_read_both_ways() {
    let layer = Op::Linear { x: ValueId(0), weight: TensorId(0), bias: TensorId(1) };
    let program = JetProgram {
        columns: 3,
        tensors: vec![tensor("n.0.weight", &[5, 3]), tensor("n.0.bias", &[5])],
        ops: vec![Op::Points, layer, Op::LinearAdjoint { bar: ValueId(1), weight: TensorId(0) }],
        outputs: vec![("y".into(), ValueId(1)), ("x-bar".into(), ValueId(2))],
        ..Default::default()
    };
    let executor = || Executor::<f64>::with_wide(&program, 0).unwrap();
    for executor in [executor(), executor().alone()] {
        for seed in [3, 4, 3] {
            let inputs = inputs(&program, 20, seed);
            let truth = interpret(&program, &inputs).unwrap();
            let weight: Vec<f64> = lift::matrix(&inputs.tensors[0], 5).t().iter().copied().collect();
            let (random, beside) = (Random::default(), Beside::default());
            let (points, tensors) = (Points::Rows(&inputs.points), [&weight[..], &inputs.tensors[1]]);
            let call = Call { count: 20, points, data: &[], tensors: &tensors, random, beside };
            let mut outputs = [vec![], vec![]];
            executor.run_whole(&call, &mut outputs, &mut []).unwrap();
            close("y", &outputs[0], &truth[1], 1e-14);
            close("x-bar", &outputs[1], &truth[2], 1e-14);
        }
    }
}

#[test]
fn second_derivatives_of_a_composition() {
    // u(t) = tanh(g(t)), rows u, u', u'': (ab)'' = a''b + 2a'b' + ab''.
    let entries = vec![Entry { out: 2, a: 1, b: 1, c: Coefficient::Constant(2.0) }];
    let program = activation_program(Algebra { rows: 3, order: 2, entries }, 1, Activation::Tanh);
    let (g, g1, g2) = (0.3f64, 0.7, -0.4);
    let mut data = vec![0.0; program.data_columns];
    (data[0], data[2], data[4]) = (g, g1, g2);
    let inputs = Inputs { count: 1, data, ..Default::default() };
    let y = &execute::<f64>(&program, &inputs).0[0];
    let (t, s) = (g.tanh(), 1.0 - g.tanh().powi(2));
    let expected = [t, s * g1, s * g2 - 2.0 * t * s * g1 * g1];
    for (r, e) in expected.iter().enumerate() {
        assert!((y[2 * r] - e).abs() < 1e-15, "{r}: {} {e}", y[2 * r]);
    }
}

#[test]
fn wrong_lengths_are_errors_and_nan_passes() {
    let program = JetProgram {
        columns: 2,
        tensors: vec![tensor("c", &[3])],
        ops: vec![Op::Points, Op::Mean { x: ValueId(0), scalar: false }],
        outputs: vec![("p".into(), ValueId(0)), ("m".into(), ValueId(1))],
        ..Default::default()
    };
    let executor = Executor::<f64>::new(&program).unwrap();
    let (points, c) = ([1.0, f64::NAN], [0.0; 3]);
    let (random, beside) = (Random::default(), Beside::default());
    let call = Call { count: 1, points: Points::Rows(&points), data: &[], tensors: &[&c], random, beside };
    let mut outputs = vec![vec![], vec![]];
    executor.run(&call, &mut outputs, &mut []).unwrap();
    assert!(outputs[0][0] == 1.0 && outputs[0][1].is_nan() && outputs[1][0] == 1.0 && outputs[1][1].is_nan());
    let wrong = |call: Call<f64>| executor.run(&call, &mut [vec![], vec![]], &mut []).unwrap_err();
    assert_eq!(wrong(Call { count: 2, ..call }).to_string(), "points: 2 where 4 are expected");
    assert_eq!(wrong(Call { tensors: &[&c[..1]], ..call }).to_string(), "c: 1 where 3 are expected");
    assert_eq!(wrong(Call { tensors: &[], ..call }).what, "tensors");
    assert_eq!(executor.run(&call, &mut [], &mut []).unwrap_err().what, "outputs");
    let none = Call { count: 0, points: Points::Rows(&[]), ..call };
    executor.run(&none, &mut outputs, &mut []).unwrap();
    assert_eq!(outputs, [vec![], vec![0.0, 0.0]]);
}

pub fn scalar_program(code: Pointwise, columns: usize) -> JetProgram {
    JetProgram {
        columns,
        tensors: vec![tensor("c", &[7])],
        ops: vec![Op::Points, Op::Pointwise(code)],
        outputs: vec![("y".into(), ValueId(1))],
        ..Default::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn scalar_code_is_what_the_oracle_says(seed: u64, count in 0..150usize) {
        let code = crate::jet::tests::scalar_code(&mut crate::jet::tests::Choices::new(seed), ValueId(0), (1, 4));
        let program = scalar_program(code, 4);
        let inputs = inputs(&program, count, seed % 1000);
        let truth = interpret(&program, &inputs).unwrap();
        close("y", &execute::<f64>(&program, &inputs).0[0], &truth[1], 1e-10);
    }
}

/// Code that does the same to each of `n` features: functions of two things known, each stored in a row and from a feature on.
/// Known are a constant, and reads of the points and of a tensor: from a feature on, and always the same.
fn vector_code(n: usize, first: [usize; 4], functions: &[(usize, usize, usize)], stores: &[[usize; 2]]) -> Pointwise {
    let (mut code, mut next) = (vec![], 0);
    let mut define = |code: &mut Vec<Instruction>, instruction| {
        code.push(instruction);
        next += 1;
        next - 1
    };
    let constant = define(&mut code, Instruction::Constant(0.75));
    for i in 0..n {
        let mut known = vec![constant];
        for (input, feature) in [(0, first[0] + i), (0, first[1]), (1, first[2] + i), (1, first[3])] {
            let (row, feature) = (Address::fixed(0), Address::fixed(feature));
            known.push(define(&mut code, Instruction::Load { input, row, feature }));
        }
        for (f, a, b) in functions {
            let (a, b) = (known[a % known.len()], known[b % known.len()]);
            let instruction = match f {
                0 => Instruction::Unary(Unary::Sin, a),
                f => Instruction::Binary([Binary::Add, Binary::Sub, Binary::Mul][f - 1], a, b),
            };
            known.push(define(&mut code, instruction));
        }
        for ([row, feature], value) in stores.iter().zip(known.into_iter().rev()) {
            let (row, feature) = (Address::fixed(*row), Address::fixed(feature + i));
            code.push(Instruction::Store { row, feature, value });
        }
    }
    Pointwise { inputs: vec![Source::Value(ValueId(0)), Source::Tensor(TensorId(0))], rows: 2, features: n + 3, code }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn what_is_done_to_each_feature_is_what_the_oracle_says(
        (n, seed, count) in (16..70usize, any::<u64>(), 0..20usize),
        first in prop::array::uniform4(0..3usize),
        functions in prop::collection::vec((0..4usize, 0..64usize, 0..64usize), 4..9),
        stores in prop::collection::vec(prop::array::uniform2(0..2usize), 1..4),
    ) {
        let straight = vector_code(n, first, &functions, &stores);
        let mut program = scalar_program(straight.clone(), n + 2);
        program.tensors[0].shape = vec![n + 2];
        let inputs = inputs(&program, count, seed % 1000);
        let truth = interpret(&program, &inputs).unwrap();
        program.ops[1] = Op::Pointwise(crate::jet::reroll::reroll(straight));
        close("y", &execute::<f64>(&program, &inputs).0[0], &truth[1], 1e-12);
    }
}

#[test]
fn sums_and_products_are_taken_feature_by_feature() {
    let rolled =
        |functions: &[_]| crate::jet::reroll::reroll(vector_code(20, [1, 0, 2, 1], functions, &[[0, 0], [1, 3]]));
    let products = [(3, 1, 2), (1, 5, 3), (2, 6, 4), (3, 7, 0)];
    assert_eq!(Compiled::new(&rolled(&products)).each, Some(20));
    // a sine of what all features share is not worked out for each of them
    let shared = [(0, 2, 2), (3, 5, 1), (1, 6, 3), (2, 7, 4)];
    assert_eq!(Compiled::new(&rolled(&shared)).each, None);
}

#[test]
fn a_long_sum_keeps_its_digits_and_drawn_addresses_are_checked() {
    let d = 200_000;
    let square = |feature| {
        vec![Instruction::Load { input: 0, row: Address::fixed(0), feature }, Instruction::Binary(Binary::Mul, 0, 0)]
    };
    let all = Address { offset: 0, terms: vec![(0, 1)], register: None };
    let code = vec![
        Instruction::Loop { var: 0, lo: 0, hi: d as i64, body: square(all), reductions: vec![(Fold::Sum, 1)] },
        Instruction::Store { row: Address::fixed(0), feature: Address::fixed(0), value: 2 },
        // Column c[0], c[1], c[2] as numbers.
        Instruction::Loop {
            var: 1,
            lo: 0,
            hi: 3,
            body: vec![
                Instruction::Load {
                    input: 1,
                    row: Address::fixed(0),
                    feature: Address { offset: 0, terms: vec![(1, 1)], register: None },
                },
                Instruction::Load {
                    input: 0,
                    row: Address::fixed(0),
                    feature: Address { offset: 0, terms: vec![], register: Some(3) },
                },
                Instruction::Store {
                    row: Address::fixed(0),
                    feature: Address { offset: 1, terms: vec![(1, 1)], register: None },
                    value: 4,
                },
            ],
            reductions: vec![],
        },
    ];
    let inputs_of = vec![Source::Value(ValueId(0)), Source::Tensor(TensorId(0))];
    let program = scalar_program(Pointwise { inputs: inputs_of, rows: 1, features: 4, code }, d);
    let mut inputs = inputs(&program, 2, 3);
    inputs.points.iter_mut().for_each(|x| *x = x.abs());
    inputs.tensors[0][..3].copy_from_slice(&[5.0, -1.0, d as f64]);
    let y = &execute::<f32>(&program, &inputs).0[0];
    for p in 0..2 {
        let exact: f64 = inputs.points[p * d..][..d].iter().map(|x| (*x as f32 as f64).powi(2)).sum();
        assert!((y[4 * p] as f64 / exact - 1.0).abs() < 2e-6, "{} {exact}", y[4 * p]);
        assert_eq!(y[4 * p + 1], inputs.points[p * d + 5] as f32);
        assert!(y[4 * p + 2].is_nan() && y[4 * p + 3].is_nan());
    }
}

//! Operators of networks against values that someone else computed (`tests/reference`: program, weights, points,
//! values).

use jetc::jet::{Inputs, interpret};
use jetc::net::Parameters;
use jetc::program::{Overrides, resolve};
use ndarray::Array2;
use std::path::Path;

fn cases() -> Vec<std::path::PathBuf> {
    let mut out: Vec<_> = std::fs::read_dir("tests/reference")
        .expect("the folder is part of the repository")
        .map(|e| e.expect("readable").path())
        .collect();
    out.sort();
    out
}

fn load(path: &Path) -> Array2<f64> {
    ndarray_npy::read_npy(path).expect("a 2-D array of f64")
}

/// Norm of the difference over the norm of the expected values, the worst column.
fn relative(values: &[f64], expected: &Array2<f64>) -> f64 {
    let (points, columns) = expected.dim();
    (0..columns)
        .map(|c| {
            let difference: f64 = (0..points).map(|p| (values[p * columns + c] - expected[[p, c]]).powi(2)).sum();
            let norm: f64 = (0..points).map(|p| expected[[p, c]].powi(2)).sum();
            (difference / norm).sqrt()
        })
        .fold(0.0, f64::max)
}

#[test]
fn the_interpreter_agrees_with_the_reference() {
    for case in cases() {
        let text = std::fs::read_to_string(case.join("case.jet")).expect("readable");
        let (ast, diagnostics) = jetc::syntax::parse(&text);
        assert!(diagnostics.is_empty(), "{case:?}: {diagnostics:?}");
        let (program, diagnostics) = resolve(&ast, &Overrides::default());
        let program = program.unwrap_or_else(|| panic!("{case:?}: {diagnostics:?}"));
        let plan = jetc::plan::plan(&program, Default::default()).unwrap_or_else(|e| panic!("{case:?}: {e:?}"));
        let set = &plan.sets[0];
        let mut parameters = Parameters::<f64>::initial(&program, 0);
        if !program.nets.is_empty() {
            parameters.load(&case.join("weights.safetensors")).unwrap_or_else(|e| panic!("{case:?}: {e}"));
        }
        let (points, expected) = (load(&case.join("points.npy")), load(&case.join("expected.npy")));
        let tensors = set.program.tensors.iter().map(|t| parameters.get(&t.name).expect("named").to_vec()).collect();
        let inputs =
            Inputs { count: points.nrows(), points: points.iter().copied().collect(), tensors, ..Inputs::default() };
        let values = interpret(&set.program, &inputs).unwrap_or_else(|e| panic!("{case:?}: {e}"));
        let error = relative(&values[set.program.outputs[0].1.index()], &expected);
        let rows: Vec<_> = set.networks.iter().map(|n| (n.rows, n.lower_bound, n.products)).collect();
        println!("{:<30} {error:.1e} {rows:?}", case.file_name().expect("named").to_string_lossy());
        assert!(error < 1e-9, "{case:?}: {error:e}\n{:#?}", set.folded);
    }
}

/// The CPU backend in a precision: the worst case of all.
fn cpu<T: jetc::solver::Number>(tolerance: f64) {
    for case in cases() {
        let text = std::fs::read_to_string(case.join("case.jet")).expect("readable");
        let (program, diagnostics) = jetc::solver::compile(&text, &Overrides::default());
        let program = program.unwrap_or_else(|| panic!("{case:?}: {diagnostics:?}"));
        let plan = jetc::plan::plan(&program, Default::default()).unwrap_or_else(|e| panic!("{case:?}: {e:?}"));
        let mut parameters = Parameters::<T>::initial(&program, 0);
        if !program.nets.is_empty() {
            parameters.load(&case.join("weights.safetensors")).unwrap_or_else(|e| panic!("{case:?}: {e}"));
        }
        let (points, expected) = (load(&case.join("points.npy")), load(&case.join("expected.npy")));
        let evaluator = jetc::solver::Evaluator::<T>::new(&plan.sets[0].program).expect("it was planned");
        let flat: Vec<T> = points.iter().map(|x| T::of(*x)).collect();
        let values = evaluator.run(&parameters, points.nrows(), &flat, &[], 0, 0).expect("shapes fit");
        let values: Vec<f64> = values.iter().map(|v| v.f64()).collect();
        let error = relative(&values, &expected);
        assert!(error < tolerance, "{case:?}: {error:e}");
    }
}

#[test]
fn the_cpu_agrees_with_the_reference_in_f64() {
    cpu::<f64>(1e-9);
}

#[test]
fn the_cpu_agrees_with_the_reference_in_f32() {
    cpu::<f32>(1e-4);
}

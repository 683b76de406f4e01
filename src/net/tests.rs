//! Layout, initial values, and what weight files must and must not do.

use super::*;
use crate::diagnostic::Span;
use crate::program::{Activation, Coef, CoefDistribution, Learning, Net, Param, Program};
use proptest::prelude::*;

fn net(name: &str, inputs: usize, width: usize, activation: Activation) -> Net {
    Net { name: name.into(), span: Span::default(), inputs, width, depth: 3, outputs: 1, activation, share: None }
}

fn param(name: &str, value: f64, learn: Learning) -> Param {
    Param { name: name.into(), span: Span::default(), value, learn }
}

fn program() -> Program {
    Program {
        nets: vec![net("N", 2, 8, Activation::Tanh), net("unused", 0, 8, Activation::Tanh)],
        params: vec![param("nu", 0.1, Learning::Log), param("k", 2.0, Learning::Fixed)],
        coefs: vec![Coef {
            name: "c".into(),
            span: Span::default(),
            len: 5,
            seed: 3,
            distribution: CoefDistribution::Normal,
        }],
        ..Default::default()
    }
}

#[test]
fn names_and_shapes() {
    let mut program = program();
    let text = |program: &Program| {
        let line = |s: TensorSpec| format!("{} {:?}{}", s.name, s.shape, if s.is_learned() { " learned" } else { "" });
        layout(program).into_iter().map(line).collect::<Vec<_>>()
    };
    let expected = [
        "N.0.weight [8, 2] learned",
        "N.0.bias [8] learned",
        "N.1.weight [8, 8] learned",
        "N.1.bias [8] learned",
        "N.2.weight [1, 8] learned",
        "N.2.bias [1] learned",
        "nu [] learned",
        "k []",
        "c [5]",
    ];
    assert_eq!(text(&program), expected);
    program.nets[0] = Net { share: Some(50), ..net("N", 1000, 8, Activation::Tanh) };
    let shared = text(&program);
    assert_eq!(
        shared[..3],
        ["N.share.weight [1, 50] learned", "N.share.bias [1] learned", "N.0.weight [8, 20] learned"]
    );
}

#[test]
fn initial_values_follow_the_seed_and_glorot() {
    let mut program = program();
    program.nets[0] = net("N", 30, 200, Activation::Tanh);
    let a = Parameters::<f64>::initial(&program, 1);
    assert_eq!(a, Parameters::<f64>::initial(&program, 1));
    assert_ne!(a.get("N.0.weight"), Parameters::<f64>::initial(&program, 2).get("N.0.weight"));
    assert_eq!(a.get("c"), Parameters::<f64>::initial(&program, 2).get("c"), "a table has its own seed");
    assert_ne!(a.get("N.0.weight").unwrap()[..9], a.get("N.1.weight").unwrap()[..9], "tensors differ");
    assert_eq!(a.get("nu"), Some(&[0.1][..]));
    assert!(a.get("N.1.bias").unwrap().iter().all(|b| *b == 0.0));
    let weights = a.get("N.1.weight").unwrap();
    let bound = (6.0f64 / 400.0).sqrt();
    assert!(weights.iter().all(|w| w.abs() < bound));
    // Variance of the uniform distribution, within five of its own standard deviations.
    let square = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
    let deviation = bound * bound * (4.0 / 45.0 / weights.len() as f64).sqrt();
    assert!((square - bound * bound / 3.0).abs() < 5.0 * deviation);
}

#[test]
fn sine_networks_start_with_unit_variance_and_phases() {
    let program = Program { nets: vec![net("N", 3, 400, Activation::Sin)], ..Default::default() };
    let p = Parameters::<f64>::initial(&program, 0);
    assert!(p.get("N.0.bias").unwrap().iter().any(|b| b.abs() > 2.0));
    let square = p.get("N.1.weight").unwrap().iter().map(|w| w * w).sum::<f64>() / 160_000.0;
    assert!((square * 400.0 - 2.0).abs() < 0.02, "argument variance 400 * E[w^2] * E[sin^2] = 1");
}

fn saved<T: Element>(parameters: &Parameters<T>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let metadata = Metadata::from([("program".into(), "space x".into()), ("a".into(), "1".into())]);
    parameters.save(&path, &metadata).unwrap();
    (folder, path)
}

#[test]
fn saving_and_loading_is_the_identity_in_both_precisions() {
    let program = program();
    let p = Parameters::<f64>::initial(&program, 5);
    let (_folder, path) = saved(&p);
    let mut q = Parameters::<f64>::initial(&program, 6);
    let loaded = q.load(&path).unwrap();
    assert_eq!(p, q);
    assert_eq!((loaded.ignored.len(), loaded.warning()), (0, None));
    assert_eq!(loaded.metadata["program"], "space x");
    let mut single = Parameters::<f32>::initial(&program, 6);
    single.load(&path).unwrap();
    assert_eq!(single.values()[..7], p.cast::<f32>().values()[..7]);
    // And an F32 file into f64.
    let (_folder, path) = saved(&single);
    q.load(&path).unwrap();
    assert_eq!(q.get("N.1.weight"), single.cast::<f64>().get("N.1.weight"));
}

#[test]
fn the_same_tensors_give_the_same_bytes() {
    let p = Parameters::<f32>::initial(&program(), 5);
    let ((_a, a), (_b, b)) = (saved(&p), saved(&p));
    assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
}

#[test]
fn tensors_without_a_name_in_the_program_are_ignored_aloud() {
    let mut big = program();
    big.nets[1].inputs = 1;
    let (_folder, path) = saved(&Parameters::<f64>::initial(&big, 0));
    let loaded = Parameters::<f64>::initial(&program(), 0).load(&path).unwrap();
    assert_eq!(loaded.ignored.len(), 6);
    assert!(loaded.warning().unwrap().contains("unused.2.bias"));
}

#[test]
fn errors_say_what_was_expected_and_what_was_found() {
    let (_folder, path) = saved(&Parameters::<f64>::initial(&program(), 0));
    let mut wide = program();
    wide.nets[0].inputs = 3;
    let mut renamed = program();
    renamed.nets[0].name = "M".into();
    let message = |program: &Program| {
        let mut p = Parameters::<f64>::initial(program, 0);
        let before = p.clone();
        let text = p.load(&path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE");
        assert_eq!(p, before, "a failed load changes nothing");
        text
    };
    assert_eq!(message(&wide), "tensor `N.0.weight` of FILE has shape [8, 2], but the program needs [8, 3]");
    assert_eq!(
        message(&renamed),
        "FILE has no tensor `M.0.weight` of shape [8, 2]; did you mean `N.0.weight`? \
         (it holds N.0.bias, N.0.weight, N.1.bias, N.1.weight, N.2.bias, N.2.weight, c, k, and 1 more)"
    );
    let gone = Parameters::<f64>::initial(&program(), 0).load(std::path::Path::new("no/such.safetensors"));
    assert!(matches!(gone, Err(WeightsError::Read { .. })));
}

#[test]
fn whole_numbers_are_refused_by_name() {
    let header = br#"{"N.0.weight":{"dtype":"I64","shape":[8,2],"data_offsets":[0,128]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + 128, 0);
    let error = Parameters::<f64>::initial(&program(), 0).load_bytes("ints", bytes).unwrap_err();
    assert_eq!(error.to_string(), "tensor `N.0.weight` of ints is stored as I64; F64 or F32 is needed");
}

proptest! {
    /// Whatever is cut off or flipped: an error or a load, never a panic, and a cut is always an error.
    #[test]
    fn damaged_files_are_errors(cut in 0usize..1500, flip in 0usize..1500, mask in 1u8..) {
        let (_folder, path) = saved(&Parameters::<f64>::initial(&program(), 0));
        let mut bytes = std::fs::read(path).unwrap();
        let mut p = Parameters::<f64>::initial(&program(), 0);
        let cut_bytes = bytes[..cut.min(bytes.len() - 1)].to_vec();
        let error = p.load_bytes("cut", cut_bytes);
        let is_of_the_file = matches!(error, Err(WeightsError::Format { .. } | WeightsError::Length { .. }));
        prop_assert!(is_of_the_file);
        let at = flip % bytes.len();
        bytes[at] ^= mask;
        let _ = p.load_bytes("flipped", bytes);
    }
}

#[test]
fn what_a_file_has_is_taken() {
    let program = program();
    let p = Parameters::<f64>::initial(&program, 5);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let (name, values) = ("N.1.weight", p.get("N.1.weight").unwrap().to_vec());
    let shape = p.view(name).unwrap().shape().to_vec();
    let write = |name: &str, values: &[f64]| {
        let entries = [("more", &[2][..], &[1.0, 2.0][..]), (name, &shape, values)];
        let entries = entries.map(|(name, shape, values)| Entry { name, shape, values, turned: false });
        write_tensors(&path, &entries, &Metadata::new()).unwrap();
    };
    write(name, &values);
    let (mut q, before) = (Parameters::<f64>::initial(&program, 6), Parameters::<f64>::initial(&program, 6));
    let loaded = q.load_known(&path).unwrap();
    assert_eq!((loaded.ignored.as_slice(), q.get(name)), (&["more".to_string()][..], p.get(name)));
    let learned: Vec<&str> = q.specs().iter().filter(|s| s.is_learned()).map(|s| s.name.as_str()).collect();
    assert!(loaded.kept.len() == learned.len() - 1 && loaded.kept.iter().all(|k| q.get(k) == before.get(k)));
    // nothing that is known: an error, as for all of them
    write("other", &values);
    assert!(matches!(q.load_known(&path), Err(WeightsError::Missing { .. })));
    assert!(matches!(q.load(&path), Err(WeightsError::Missing { .. })));
}

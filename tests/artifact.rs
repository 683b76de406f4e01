//! Artifacts: what is written is read; what is damaged is refused, each kind with its own error; nothing panics.

use jetc::ndarray::array;
use jetc::net::{TensorFile, checksum};
use jetc::{ArtifactError, Compiled, Error, Solver, TrainOptions, train::Silent};
use proptest::prelude::*;
use std::io::Write;
use std::sync::OnceLock;

const TEXT: &str = "space x, y in box(0..1, 0..1)\nparam nu = 0.5\nnet N = mlp(width = 4, depth = 2, activation = tanh)\n\
                    field u = N(x, y)\noutput r = nu*lap(u)\n";

fn bytes() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.solver");
        let compiled = Compiled::from_text(TEXT).unwrap();
        compiled.solver(compiled.parameters::<f64>(0)).unwrap().save(&path).unwrap();
        std::fs::read(path).unwrap()
    })
}

fn refused(bytes: &[u8]) -> ArtifactError {
    match Solver::<f64>::from_bytes(bytes) {
        Err(Error::Artifact(e)) => e,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was loaded"),
    }
}

/// The header as JSON, and the tensors behind it.
fn parts(bytes: &[u8]) -> (serde_json::Value, Vec<u8>) {
    let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + size]).unwrap(), bytes[8 + size..].to_vec())
}

/// A file of a header and tensors, with the checksum that it has.
fn file(header: &serde_json::Value, tensors: &[u8]) -> Vec<u8> {
    let header = serde_json::to_vec(header).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(&header);
    let head = bytes.len();
    bytes.extend(tensors);
    sign(&mut bytes, head);
    bytes
}

fn sign(bytes: &mut [u8], head: usize) {
    let Some(digits) = checksum::find(&bytes[..head]) else { return };
    bytes[digits.clone()].fill(b'0');
    let mut hash = checksum::Hashed::new(std::io::sink());
    hash.write_all(bytes).unwrap();
    bytes[digits].copy_from_slice(hash.digits().as_bytes());
}

fn changed(change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
    let (mut header, tensors) = parts(bytes());
    change(header["__metadata__"].as_object_mut().unwrap());
    file(&header, &tensors)
}

#[test]
fn what_is_written_is_read() {
    let solver = Solver::<f64>::from_bytes(bytes()).unwrap();
    let compiled = Compiled::from_text(TEXT).unwrap();
    let p = array![[0.1, 0.2], [0.3, 0.9]];
    let expected = compiled.outputs::<f64>().unwrap().eval(&compiled.parameters(0), p.view()).unwrap();
    assert_eq!(solver.eval(p.view()).unwrap(), expected);
    assert_eq!((solver.program(), solver.inputs().len()), (TEXT, 2));
    // written again it is the same, byte for byte; and so is a file that is put together anew
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.solver");
    solver.save(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), bytes());
    assert!(Solver::<f32>::load(&path).is_ok() && Solver::<f64>::from_bytes(&changed(|_| ())).is_ok());
    // it serves as a file of weights
    let loaded = compiled.parameters::<f64>(7).load(&path).unwrap();
    assert!(loaded.ignored.is_empty(), "{:?}", loaded.ignored);
}

#[test]
fn a_training_run_leaves_an_artifact() {
    let text = "space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\n\
                solve interior: lap(u) = 1\nsample interior = 8\ntrain adam(lr = 1e-2), steps = 3\n";
    let folder = tempfile::tempdir().unwrap();
    let options = TrainOptions { out: Some(folder.path().into()), ..TrainOptions::default() };
    let trained = Compiled::from_text(text).unwrap().train::<f32>(&options, &mut Silent).unwrap();
    let loaded = Solver::<f32>::load(folder.path().join("solver.safetensors")).unwrap();
    assert_eq!(loaded.at(&[0.4]).unwrap(), trained.solver.at(&[0.4]).unwrap());
    assert_eq!(loaded.metadata()["step"], "3");
}

#[test]
fn every_damage_has_its_error() {
    use ArtifactError as E;
    let whole = bytes();
    assert!(matches!(refused(&whole[..whole.len() - 1]), E::Truncated { .. }));
    assert!(matches!(refused(&whole[..100]), E::Truncated { .. }));
    assert!(matches!(refused(b""), E::Truncated { .. }));
    assert!(matches!(refused(&[whole, b"x"].concat()), E::Truncated { .. }));
    let mut broken = whole.to_vec();
    broken[9] = b'!';
    assert!(matches!(refused(&broken), E::Damaged { .. }));
    let mut flipped = whole.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(refused(&flipped), E::Checksum { .. }));
    assert!(matches!(refused(&changed(|m| drop(m.insert("jetc.format".into(), "2".into())))), E::Version { .. }));
    assert!(matches!(refused(&changed(|m| drop(m.remove("jetc.format")))), E::Foreign { .. }));
    for key in ["jetc.checksum", "jetc.inputs", "jetc.tensors"] {
        assert!(matches!(refused(&changed(|m| drop(m.remove(key)))), E::Metadata { .. }), "{key}");
    }
    let nothing = changed(|m| {
        m.remove("jetc.outputs");
        m.remove("jetc.fields");
    });
    assert!(matches!(refused(&nothing), E::Metadata { .. }));
    assert!(matches!(Solver::<f64>::load("no/such.solver"), Err(Error::Artifact(E::Tensor(_)))));
    // a tensor is not there
    let (mut header, tensors) = parts(whole);
    let entry = header.as_object_mut().unwrap().remove("N.1.weight").unwrap();
    header["gone"] = entry;
    let error = refused(&file(&header, &tensors));
    assert!(error.to_string().contains("has no tensor `N.1.weight`"), "{error}");
    // shapes that would need all the memory there is
    for shape in ["[4, 99999999999]", "[18446744073709551615, 3]"] {
        let absurd = changed(|m| {
            let specs = m["jetc.tensors"].as_str().unwrap().replacen("[4,2]", shape, 1);
            m.insert("jetc.tensors".into(), specs.into());
        });
        assert!(matches!(refused(&absurd), E::Metadata { .. } | E::Tensor(_)));
    }
    // columns whose end has no room in a number
    let (from, to) = ("lift %0 from 0 features 2", "lift %0 from 18446744073709551615 features 2");
    let far = changed(|m| {
        let text = m["jetc.outputs"].as_str().unwrap();
        assert!(text.contains(from), "{text}");
        let text = text.replacen(from, to, 1);
        m.insert("jetc.outputs".into(), text.into());
    });
    assert!(refused(&far).to_string().contains("columns 18446744073709551615.."));
    // a program that is none
    let bad = changed(|m| drop(m.insert("jetc.outputs".into(), r#"{"quantities": [], "program": "program"}"#.into())));
    assert!(refused(&bad).to_string().contains("`jetc.outputs` in its metadata"));
}

proptest! {
    #[test]
    fn no_changed_bit_is_overlooked(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut damaged = bytes().to_vec();
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        refused(&damaged);
    }

    #[test]
    fn no_part_is_taken_for_the_whole(len in any::<prop::sample::Index>()) {
        refused(&bytes()[..len.index(bytes().len())]);
    }

    /// Damage under a checksum that fits: an error, or a solver that evaluates without a panic.
    #[test]
    fn nothing_panics(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut damaged = bytes().to_vec();
        let head = 8 + u64::from_le_bytes(damaged[..8].try_into().unwrap()) as usize;
        for (at, byte) in edits {
            damaged[8 + at.index(head - 8)] = byte;
        }
        sign(&mut damaged, head);
        if let Ok(solver) = Solver::<f64>::from_bytes(&damaged) {
            let _ = solver.eval_flagged(array![[0.1, 0.2]].view());
        }
    }

    #[test]
    fn soup_is_no_artifact(soup in prop::collection::vec(any::<u8>(), 0..300)) {
        refused(&soup);
        assert!(TensorFile::from_bytes("soup", soup).checksums().is_ok_and(|c| c.is_none()));
    }

    /// Digits in the compiled program are changed: sizes, positions, numbers of operations.
    #[test]
    fn changed_programs_do_not_panic(pick in any::<prop::sample::Index>(), digit in 0u8..10, more in 0usize..12) {
        let damaged = changed(|m| {
            let text = m["jetc.outputs"].as_str().unwrap().to_string();
            let digits: Vec<usize> = text.char_indices().filter(|c| c.1.is_ascii_digit()).map(|c| c.0).collect();
            let at = digits[pick.index(digits.len())];
            let text = format!("{}{}{}{}", &text[..at], digit, "9".repeat(more), &text[at + 1..]);
            m.insert("jetc.outputs".into(), text.into());
        });
        if let Ok(solver) = Solver::<f64>::from_bytes(&damaged) {
            let _ = solver.eval_flagged(array![[0.1, 0.2]].view());
        }
    }
}

/// A file that the first version wrote: it must load, or this says why not. u = exp(-k pi^2 t) sin(pi x), solved.
#[test]
fn old_files_are_read() {
    let solver = Solver::<f64>::load("examples/embedded/src/heat.safetensors").unwrap();
    assert_eq!(solver.metadata()["jetc.format"], "1");
    for (x, t) in [(0.5f64, 0.5f64), (0.2, 1.0), (0.9, 0.1)] {
        let exact = (-0.1 * std::f64::consts::PI.powi(2) * t).exp() * (std::f64::consts::PI * x).sin();
        assert!((solver.at(&[x, t]).unwrap() - exact).abs() < 2e-3);
    }
}

/// What a build script writes is a module beside an artifact; what is wrong with the program is said as `jetc check` says it.
#[test]
fn build_scripts_write_a_module() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my_plane.jet");
    std::fs::write(&file, TEXT).unwrap();
    let written = jetc::build::compile(&file).set("nu", "2").write_to(folder.path()).unwrap();
    assert!(written.warnings[0].contains("no weights"), "{:?}", written.warnings);
    let module = std::fs::read_to_string(&written.module).unwrap();
    assert!(module.contains("pub struct MyPlane {") && module.contains("include_bytes!(\"my_plane.solver\")"));
    let kernels = std::fs::read_to_string(written.kernels.unwrap()).unwrap();
    assert!(module.contains("include_str!(\"my_plane.cu\")") && kernels.contains("__global__"));
    let (solver, half) = (Solver::<f64>::load(&written.solver).unwrap(), Solver::<f64>::from_bytes(bytes()).unwrap());
    let p = [0.3, 0.7];
    assert!((solver.at(&p).unwrap() - 4.0 * half.at(&p).unwrap()).abs() < 1e-12);
    std::fs::write(&file, TEXT.replace("lap(u)", "lpa(u)")).unwrap();
    let error = jetc::build::compile(&file).write_to(folder.path()).unwrap_err().to_string();
    assert!(error.contains("my_plane.jet:5:15: error:") && error.contains("did you mean `lap`?"), "{error}");
    assert!(matches!(jetc::build::compile("no/such.jet").write_to(folder.path()), Err(Error::Read { .. })));
}

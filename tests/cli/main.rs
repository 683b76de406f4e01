//! The `jetc` command with bad input: it exits with 2, says where and what, is quick about it, and leaves no half file.

#![cfg(feature = "cli")]

mod programs;

use programs::{ball, refused};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Two space coordinates and a field, in four lines.
const PLANE: &str = "space x, y in box(0..1, 0..1)\nnet N = mlp(width = 8, depth = 3, activation = tanh)\n\
                     field u = N(x, y)\n# the fourth line\n";
/// Long even for an unoptimised build on a busy machine; what hangs takes forever.
const LIMIT: Duration = Duration::from_secs(60);

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `jetc` in a folder. A run that takes too long is killed, and has no code.
fn jetc(folder: &Path, arguments: &[&str]) -> Run {
    // files, so that nothing waits for a full pipe
    let (out, err) = (folder.join(".out"), folder.join(".err"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_jetc"))
        .args(arguments)
        .current_dir(folder)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let code = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status.code(),
            None if start.elapsed() > LIMIT => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let read = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    Run { code, out: read(out), err: read(err) }
}

/// Exit code 2, one `error:` that holds these words, and no other file than before.
#[track_caller]
fn fails(folder: &Path, arguments: &[&str], words: &[&str]) {
    let before = files(folder);
    let run = jetc(folder, arguments);
    let shown = &run.err[..run.err.floor_char_boundary(1000)];
    assert_eq!(run.code, Some(2), "{arguments:?}: {shown}");
    assert!(shown.contains("error: "), "{arguments:?}: {shown}");
    words.iter().for_each(|word| assert!(shown.contains(word), "{arguments:?}: no `{word}` in {shown}"));
    assert_eq!(files(folder), before, "{arguments:?}");
}

fn files(folder: &Path) -> Vec<String> {
    let name = |e: std::io::Result<fs::DirEntry>| e.unwrap().file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(name).filter(|n| n != ".out" && n != ".err").collect();
    names.sort();
    names
}

/// What was printed and is not there is an error, unless nobody wanted to read on.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("a.jet"),
        "space x\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = lap(N(x))\n",
    )
    .unwrap();
    for arguments in [&["check", "a.jet"][..], &["plan", "a.jet"], &["emit", "a.jet"], &["doctor"]] {
        let run = |to: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_jetc"));
            let command = command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).stdout(to);
            command.stderr(Stdio::piped()).spawn().unwrap()
        };
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = run(full.into()).wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&full.stderr);
        assert_eq!(full.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.contains("cannot write to standard output: No space left on device"), "{arguments:?}: {err}");
        let mut closed = run(Stdio::piped());
        drop(closed.stdout.take());
        assert_eq!(closed.wait().unwrap().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn arguments() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let text = "const d = 10\n".to_string()
        + &ball("d", "N(x)", "solve interior: lap(u) = 1\nsample interior = 8\nestimate lap(u) by sparse(4)")
        + "train adam(lr = 1e-3), steps = 2\n";
    fs::write(at.join("a.jet"), text).unwrap();
    fs::create_dir(at.join("folder")).unwrap();
    for command in ["check", "plan", "emit", "train", "verify", "bench"] {
        fails(at, &[command, "none.jet"], &["none.jet", "No such file"]);
        fails(at, &[command, "folder"], &["folder", "directory"]);
        fails(at, &[command, "a.jet", "--set", "d=-1"], &["a.jet:2:", "at least 1", "-1"]);
    }
    for (set, words) in [
        ("nope=1", &["no const or param `nope`"][..]),
        ("u=1", &["`u` is a field"]),
        ("d", &["NAME=VALUE"]),
        ("d=", &["NAME=VALUE"]),
        ("d=(", &["never closed"]),
        ("d=abc", &["there is no `abc`"]),
        ("d=1/0", &["division by zero"]),
        ("d=x", &["depends on itself"]),
        ("d=1.5", &["whole number"]),
    ] {
        fails(at, &["plan", "a.jet", "--set", set], words);
    }
    for (estimate, words) in [
        ("nope=sparse(4)", &["no output or condition `nope`"][..]),
        ("interior=nope(4)", &["no estimator `nope`"]),
        ("lap(u)=sparse(0)", &["at least 1"]),
        ("lap(u)=sparse", &["number of samples"]),
        ("lap(u)=3", &["not a method"]),
        ("lap(w)=sparse(4)", &["there is no `w`"]),
        ("lap(u=sparse(4)", &["never closed"]),
        ("u=sparse(4)", &["no derivative"]),
        ("lap(u)", &["NAME=VALUE"]),
    ] {
        fails(at, &["plan", "a.jet", "--estimate", estimate], words);
    }
    assert_eq!(jetc(at, &["plan", "a.jet", "--set", "d=1e9"]).code, Some(0));
    fails(at, &["plan", "a.jet", "--set", "d=10^12"], &["a.jet:2:7", "1000000000000 coordinates"]);
    fails(at, &["train", "a.jet", "--set", "d=4*10^9"], &["GB of memory"]);
    fails(at, &["plan", "a.jet", "-o", "folder"], &["cannot write folder"]);
    fails(at, &["plan", "a.jet", "-o", "none/plan.txt"], &["cannot write none/plan.txt"]);
    fails(at, &["train", "a.jet", "--out", "a.jet"], &["cannot write a.jet"]);
    fails(at, &["train", "a.jet", "--out", "a.jet/run"], &["cannot write a.jet/run"]);
    fails(at, &["train", "a.jet", "--device", "gpu"], &["auto, cpu, cuda:0"]);
    fails(at, &["plan", "a.jet", "--threads", "100000"], &["1024"]);
    fails(at, &["nope"], &["nope"]);
}

/// A safetensors file of F64 tensors, all zero.
fn tensors(list: &[(&str, &[usize])]) -> Vec<u8> {
    let (mut header, mut at) = (Vec::new(), 0);
    for (name, shape) in list {
        let end = at + 8 * shape.iter().product::<usize>();
        header.push(format!("\"{name}\":{{\"dtype\":\"F64\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}}"));
        at = end;
    }
    let header = format!("{{{}}}", header.join(","));
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header.bytes());
    out.resize(out.len() + at, 0);
    out
}

/// An NPY file with this header and as many bytes of data.
fn npy(descr: &str, shape: &str, bytes: usize) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{header:<117}\n");
    let mut out = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    out.extend(header.bytes());
    out.resize(out.len() + bytes, 0);
    out
}

#[test]
fn weights_and_points() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("a.jet"), PLANE.replace("depth = 3", "depth = 2") + "output r = lap(u)\n").unwrap();
    let whole: [(&str, &[usize]); 4] =
        [("N.0.weight", &[8, 2]), ("N.0.bias", &[8]), ("N.1.weight", &[1, 8]), ("N.1.bias", &[1])];
    let write = |name: &str, bytes: Vec<u8>| fs::write(at.join(name), bytes).unwrap();
    write("w", tensors(&whole));
    write("p", npy("<f8", "(3, 2)", 48));
    let good = jetc(at, &["eval", "a.jet", "--points", "p", "--weights", "w"]);
    assert_eq!((good.code, good.out.as_str()), (Some(0), "0.0\n0.0\n0.0\n"), "{}", good.err);

    write("missing", tensors(&whole[..3]));
    write("shape", tensors(&[whole[0], whole[1], ("N.1.weight", &[8, 1]), whole[3]]));
    write("short", tensors(&whole)[..200].to_vec());
    write("long", [tensors(&whole), vec![0]].concat());
    write("huge", [(1u64 << 62).to_le_bytes().to_vec(), b"{}".to_vec()].concat());
    write("empty", Vec::new());
    for (weights, words) in [
        ("missing", &["`N.1.bias`", "[1]"][..]),
        ("shape", &["`N.1.weight`", "[8, 1]", "[1, 8]"]),
        ("short", &["not a whole safetensors file"]),
        ("long", &["not a whole safetensors file"]),
        ("huge", &["not a whole safetensors file"]),
        ("empty", &["not a whole safetensors file"]),
        ("none", &["cannot read none", "No such file"]),
    ] {
        fails(at, &["eval", "a.jet", "--points", "p", "--out", "r.npy", "--weights", weights], words);
    }

    write("wide", npy("<f8", "(3, 3)", 72));
    write("flat", npy("<f8", "(6,)", 48));
    write("ints", npy("<i8", "(3, 2)", 48));
    write("cut", npy("<f8", "(3, 2)", 40));
    write("promise", npy("<f8", "(1000000000000, 2)", 0));
    for (points, words) in [
        ("wide", &["3 columns", "2", "x, y"][..]),
        ("flat", &["[6]", "[points, coordinates]"]),
        ("ints", &["<i8", "f32 or f64"]),
        ("cut", &["cut"]),
        ("promise", &["cut off"]),
        ("empty", &["[points, coordinates]"]),
        ("none", &["none", "No such file"]),
    ] {
        fails(at, &["eval", "a.jet", "--points", points, "--out", "r.npy", "--weights", "w"], words);
    }
    for out in ["none/r.npy", "."] {
        fails(at, &["eval", "a.jet", "--points", "p", "--weights", "w", "--out", out], &["cannot write"]);
    }
    // a point that is no number has a value that is none
    write("nan", npy("<f8", "(1, 2)", 0).into_iter().chain(f64::NAN.to_le_bytes().repeat(2)).collect());
    write("w1", {
        let mut w = tensors(&whole);
        let start = w.len() - 8 * 33;
        w[start..].chunks_mut(8).for_each(|x| x.copy_from_slice(&1f64.to_le_bytes()));
        w
    });
    let run = jetc(at, &["eval", "a.jet", "--points", "nan", "--weights", "w1"]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), "NaN\n"), "{}", run.err);
}

/// `train --weights`: from another program's run, in another precision; a step of rate 0 changes nothing.
#[test]
fn training_begins_with_weights() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let text = "space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\n\
                field u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsample interior = 8\n\
                train adam(lr = 1e-2), steps = 5\n";
    fs::write(at.join("easy.jet"), text).unwrap();
    let harder = text.replace("lr = 1e-2", "lr = 1e-30").replace("lap(u)", "nu*lap(u)");
    let harder = format!("param nu = 0.5 learn log\n{harder}report value(nu)\n");
    fs::write(at.join("hard.jet"), &harder).unwrap();
    fs::write(at.join("wide.jet"), harder.replace("width = 4", "width = 5")).unwrap();
    let first = jetc(at, &["train", "easy.jet", "--quiet"]);
    assert_eq!(first.code, Some(0), "{}", first.err);
    let weights = "runs/easy/solver.safetensors";
    let next = ["train", "hard.jet", "--quiet", "--precision", "f64", "--weights", weights];
    let next = jetc(at, &next);
    assert_eq!(next.code, Some(0), "{}", next.err);
    assert!(next.err.contains("easy/solver.safetensors lacks nu: initial values (seed 0)"), "{}", next.err);
    assert!(next.out.contains("value(nu) = 0.500000"), "{}", next.out);
    let read = |path: &str| {
        let program = jetc::Compiled::from_text(&harder).unwrap();
        let mut parameters = program.parameters::<f64>(3);
        let loaded = parameters.load_known(&at.join(path)).unwrap();
        (parameters.get("N.0.weight").unwrap().to_vec(), loaded.metadata.get("jetc.weights").cloned())
    };
    let (trained, began) = (read(weights), read("runs/hard/solver.safetensors"));
    assert_eq!((&began.0, began.1.as_deref(), &trained.1), (&trained.0, Some(weights), &None));
    fails(at, &["train", "wide.jet", "--weights", weights], &["`N.0.weight`", "[4, 1]", "[5, 1]"]);
    fails(at, &["train", "hard.jet", "--weights", "gone"], &["cannot read gone"]);
    // what the refusal says to do
    let refused = jetc(at, &["train", "easy.jet", "--quiet", "--resume", "--precision", "f64"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.contains("; --weights runs/easy/solver.safetensors begins with what it learned"),
        "{}",
        refused.err
    );
}

/// What was found by attacking it.
#[cfg(target_os = "linux")]
#[test]
fn attacks() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let text = "space x in box(0..1)\nnet N = mlp(width = 4, depth = 2, activation = tanh)\ndata obs = \"obs.csv\"\n\
                field u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\nsolve seen on obs: u = obs.u\nsample interior = 8\n\
                train adam(lr = 1e-2), steps = 40\n";
    fs::write(at.join("a.jet"), text).unwrap();
    fs::write(at.join("obs.csv"), "x,u\n0.5,1\n").unwrap();
    fs::write(at.join("p.csv"), "x\n0.5\n").unwrap();

    // nobody listens
    let deaf = |arguments: &[&str], out: Stdio, err: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jetc"));
        let command = command.args(arguments).current_dir(at).stdin(Stdio::null()).stdout(out).stderr(err);
        command.status().unwrap().code()
    };
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(deaf(&["eval", "a.jet", "--points", "p.csv"], Stdio::null(), full()), Some(0));
    assert_eq!(deaf(&["check", "gone.jet"], Stdio::null(), full()), Some(2));
    assert_eq!(deaf(&["completions", "bash"], full(), Stdio::null()), Some(2));

    // what is no file stays what it is
    std::os::unix::fs::symlink("/dev/null", at.join("null")).unwrap();
    assert_eq!(jetc(at, &["eval", "a.jet", "--points", "p.csv", "--out", "null"]).code, Some(0));
    assert!(at.join("null").is_symlink() && !Path::new("/dev/null").is_file());
    fails(at, &["eval", "a.jet", "--points", "p.csv", "--out", "."], &["cannot write"]);

    // a run goes on with its own data only, and alone in its folder
    let train = ["train", "a.jet", "--quiet", "--out", "run", "--resume", "--steps"];
    let first = jetc(at, &[&train[..], &["20"]].concat());
    assert!(first.code == Some(0) && first.err.contains("no run in run to resume"), "{}", first.err);
    fs::write(at.join("obs.csv"), "x,u\n0.5,2\n").unwrap();
    fails(at, &[&train[..], &["40"]].concat(), &["cannot resume", "other data"]);
    fs::write(at.join("obs.csv"), "x,u\n0.5,1\n").unwrap();
    let other = fs::File::open(at.join("run")).unwrap();
    other.lock().unwrap();
    fails(at, &[&train[..], &["40"]].concat(), &["another run writes into run"]);
    drop(other);
    let left = fs::File::create(at.join("run/.jetc-aB3dE6.csv")).unwrap();
    left.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
    let next = jetc(at, &[&train[..], &["40"]].concat());
    assert!(next.code == Some(0) && !at.join("run/.jetc-aB3dE6.csv").exists(), "{}", next.err);

    // bytes that are not those that were written
    let mut bytes = fs::read(at.join("run/solver.safetensors")).unwrap();
    let place = bytes.len() - 10;
    bytes[place] ^= 0x10;
    fs::write(at.join("flipped"), bytes).unwrap();
    fails(at, &["eval", "a.jet", "--points", "p.csv", "--weights", "flipped"], &["flipped is damaged", "checksum"]);

    // a history that is not that of the program
    let mut wrong_bytes = fs::read(at.join("run/checkpoint.safetensors")).unwrap();
    let wrong = wrong_bytes.windows(9).position(|bytes| bytes == b"step,loss").expect("its history");
    wrong_bytes[wrong + 5] = b'L';
    fs::write(at.join("run/checkpoint.safetensors"), wrong_bytes).unwrap();
    fails(
        at,
        &[&train[..], &["60"]].concat(),
        &["cannot resume", "a history of step, Loss", "a history of step, loss"],
    );

    // more steps than there can be
    let decay = "state s\ndata d = \"d.csv\"\nparam k = 1 learn\nflow d_t(s) = -k*s by rk4(step = 1e-12)\n\
                 fit flow to d, horizon = 1\ntrain adam(lr = 1e-3), steps = 2\n";
    fs::write(at.join("d.jet"), decay).unwrap();
    fs::write(at.join("d.csv"), "run,t,s\n0,0,1\n0,1e3,0.5\n").unwrap();
    fs::write(at.join("s.csv"), "s\n1\n").unwrap();
    fails(at, &["eval", "d.jet", "--points", "s.csv", "--until", "1e300"], &["steps to a time of", "too many"]);
    fails(at, &["train", "d.jet"], &["GB of memory"]);
    fails(at, &["bench", "d.jet", "--points", "1000000000000000"], &["GB of memory"]);
    fails(at, &["bench", "d.jet", "--seconds", "nan"], &["--seconds", "more than 0"]);
    fs::write(
        at.join("n.jet"),
        "space x in box(0..1)\nparam a = 0 learn\nfield u = sqrt(-1 - a^2)*x\nsolve r: u = 1\n",
    )
    .unwrap();
    let singular = jetc(at, &["verify", "n.jet"]);
    assert!(
        singular.code == Some(1) && singular.err.contains("a number is not finite"),
        "{} {}",
        singular.out,
        singular.err
    );
    refused(
        "space x in box(0..1)\nparam a = 1 learn\nfield u = a*x\nsolve loss: u = 1\n",
        4,
        &["cannot be called `loss`"],
    );
}

#[test]
fn data_files() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    let program = |file: &str| {
        PLANE.replace("# the fourth line", &format!("data obs = \"{file}\""))
            + "solve fit on obs: u = obs.v\nsample fit = 4\ntrain adam(lr = 1e-3), steps = 2\nreport error(u, obs.v)\n"
    };
    for (file, text, words) in [
        ("none.csv", None, &["none.csv", "No such file"][..]),
        ("column.csv", Some("x,y,w\n1,2,3\n"), &["column.csv:1", "no column `v`"]),
        ("text.csv", Some("x,y,v\n1,2,3\n1,2,abc\n"), &["text.csv:3", "`v`", "`abc`"]),
        ("nan.csv", Some("x,y,v\n1,2,nan\n"), &["nan.csv:2", "finite"]),
        ("short.csv", Some("x,y,v\n1,2\n"), &["short.csv", "line 2"]),
        ("empty.csv", Some(""), &["empty.csv"]),
        ("header.csv", Some("x,y,v\n"), &["header.csv", "no rows"]),
        ("promise.npy", Some("\u{93}"), &["promise.npy"]),
    ] {
        text.inspect(|text| fs::write(at.join(file), text).unwrap());
        fs::write(at.join("a.jet"), program(file)).unwrap();
        for command in ["check", "plan"] {
            assert_eq!(jetc(at, &[command, "a.jet"]).code, Some(0), "{command} opens {file}");
        }
        fails(at, &["train", "a.jet", "--out", "run"], words);
    }
}

#[test]
fn examples_are_accepted() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut count = 0;
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "jet") {
            continue;
        }
        let folder = TempDir::new().unwrap();
        let file = path.to_str().unwrap();
        let run = jetc(folder.path(), &["check", file]);
        assert_eq!(run.code, Some(0), "{file}: {}", run.err);
        let run = jetc(folder.path(), &["plan", file]);
        assert_eq!(run.code, Some(0), "{file}: {}", run.err);
        count += 1;
    }
    assert!(count >= 14, "{count} examples");
    let folder = TempDir::new().unwrap();
    let file = examples.join("sine_gordon_two_body.jet");
    let run = jetc(folder.path(), &["plan", file.to_str().unwrap(), "--set", "d=1000000", "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.out.contains("\"rows\": 18"), "{}", run.out);
}

/// `build` writes what the library loads, of the weights that it was given; `emit` prints the module for it.
#[test]
fn built_artifacts_are_loaded() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("plane.jet"), format!("{PLANE}output r = lap(u)\n")).unwrap();
    let run = jetc(folder.path(), &["build", "plane.jet", "--seed", "3", "-o", "plane.solver"]);
    assert_eq!((run.code, run.out.trim()), (Some(0), "plane.solver: r, u"), "{}", run.err);
    let solver = jetc::Solver::<f64>::load(folder.path().join("plane.solver")).unwrap();
    let value = solver.at(&[0.25, 0.5]).unwrap();
    // the artifact is a file of weights too
    fs::write(folder.path().join("p.csv"), "x,y\n0.25,0.5\n").unwrap();
    let run = jetc(folder.path(), &["eval", "plane.jet", "--points", "p.csv", "--weights", "plane.solver"]);
    assert_eq!(
        (run.code, run.out.trim().lines().last()),
        (Some(0), Some(format!("{value:?}").as_str())),
        "{}",
        run.err
    );
    assert_eq!(run.err, "");
    let again = jetc(folder.path(), &["build", "plane.jet", "--weights", "plane.solver", "-o", "again.solver"]);
    assert_eq!(again.code, Some(0));
    let bytes = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert_eq!(bytes("again.solver"), bytes("plane.solver"));
    let run = jetc(folder.path(), &["emit", "plane.jet", "--target", "rust"]);
    assert!(run.out.contains("pub struct Plane {") && run.out.contains("pub r: f64,"), "{}", run.out);
    // nothing to evaluate, or nowhere to write
    fs::write(
        folder.path().join("none.jet"),
        format!("{}solve interior: lap(N(x, y)) = 1\n", PLANE.replace("field u = N(x, y)", "")),
    )
    .unwrap();
    let run = jetc(folder.path(), &["build", "none.jet", "-o", "none.solver"]);
    assert!(run.code == Some(2) && run.err.contains("no output and no field"), "{}", run.err);
    let run = jetc(folder.path(), &["emit", "none.jet", "--target", "rust"]);
    assert!(run.code == Some(2) && run.err.contains("no output and no field"), "{}", run.err);
    // into a pipe, which has no way back
    #[cfg(target_os = "linux")]
    {
        let line =
            format!("{} build plane.jet --seed 3 -o /dev/stdout | cat > piped.solver", env!("CARGO_BIN_EXE_jetc"));
        assert!(Command::new("sh").arg("-c").arg(line).current_dir(folder.path()).output().unwrap().status.success());
        let piped = bytes("piped.solver");
        assert!(piped.starts_with(&bytes("plane.solver")), "{} bytes", piped.len());
    }
    let run = jetc(folder.path(), &["build", "plane.jet", "-o", "no/such/folder.solver"]);
    assert!(run.code == Some(2) && run.err.contains("cannot write"), "{}", run.err);
}

#[test]
fn damaged_weights_of_a_flow_are_noticed() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("s.csv"), "t,s,run\n0,1,0\n0.1,0.9,0\n0.2,0.8,0\n").unwrap();
    let text = "state s\nnet F = mlp(width = 4, depth = 2, activation = tanh)\ndata d = \"s.csv\"\n\
                flow d_t(s) = F(s) by rk4(step = 0.1)\nfit flow to d, horizon = 1\ntrain adam(lr = 1e-3), steps = 2\n";
    fs::write(folder.path().join("fl.jet"), text).unwrap();
    let run = jetc(folder.path(), &["train", "fl.jet", "--quiet", "--out", "out"]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    fs::write(folder.path().join("p.csv"), "s\n0.5\n").unwrap();
    let path = folder.path().join("out/solver.safetensors");
    let arguments = ["eval", "fl.jet", "--points", "p.csv", "--until", "1", "--weights", "out/solver.safetensors"];
    assert_eq!(jetc(folder.path(), &arguments).code, Some(0));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    fails(folder.path(), &arguments, &["damaged"]);
}

/// A run that is asked to end writes what it has, says so, and goes on from there.
#[test]
#[cfg(unix)]
fn stopping() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = "space x in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = x*(1 - x)*N(x)\n\
                solve pde: lap(u) = 1\nsample pde = 64\ntrain adam(lr = 1e-3), steps = 100000000\n";
    fs::write(at.join("long.jet"), text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetc"));
    command.args(["train", "long.jet", "--quiet", "--out", "run"]).current_dir(at);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !at.join("run").exists() && start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    // SAFETY: the process is our child, and has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let step =
        said.split("stopped at step ").nth(1).and_then(|s| s.split(';').next()).unwrap_or_else(|| panic!("{said}"));
    let step: u64 = step.parse().unwrap();
    assert!(step > 0);
    let more = (step + 7).to_string();
    let resumed = jetc(at, &["train", "long.jet", "--quiet", "--out", "run", "--resume", "--steps", &more]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.err);
    let report = fs::read_to_string(at.join("run/report.json")).unwrap();
    assert!(report.contains(&format!("\"steps\": {more},")), "{report}");
}

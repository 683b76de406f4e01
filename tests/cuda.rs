//! Kernels by NVRTC, without a GPU; the program on a machine without a driver; training steps by kernels on the CPU.
//!
//! NVRTC comes from the Python package index, once, into `target/nvrtc`. `JETC_NVRTC` names another one.
#![cfg(all(feature = "cli", feature = "cuda", unix))]

use jetc::cuda::cache::{Cache, Key};
use jetc::cuda::compile::{Arch, CompileError, Kind, Request, resources};
use jetc::cuda::nvrtc::Nvrtc;
use jetc::cuda::{self, Module, Precision, folders};
use jetc::net::layout;
use jetc::plan::{Options, plan, plan_flow};
use jetc::program::{Overrides, Program};
use jetc::solver::flow::steps_of;
use jetc::solver::{compile, conditions, training_module};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";
const ARCHS: [&str; 3] = ["sm_80", "sm_90", "sm_100"];

/// The file of NVRTC.
fn library() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        if let Some(named) = std::env::var_os("JETC_NVRTC") {
            let named = PathBuf::from(named);
            return folders::libraries(&named).into_iter().next().unwrap_or(named);
        }
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("nvrtc");
        let libraries = || folders::libraries(&target.join("nvidia/cuda_nvrtc/lib")).into_iter().next();
        libraries().unwrap_or_else(|| {
            fetch(&target);
            libraries().unwrap_or_else(|| panic!("{WHEEL} has no library where it is expected"))
        })
    })
}

fn fetch(target: &Path) {
    let help = format!(
        "these tests need NVRTC, once: connect to the internet, or unpack {WHEEL} into {}, or set JETC_NVRTC",
        target.display()
    );
    let fresh = tempfile::tempdir_in(target.parent().expect("a folder")).expect("a folder");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    let done = pip.arg(fresh.path()).arg(WHEEL).output().unwrap_or_else(|e| panic!("python3: {e}; {help}"));
    assert!(done.status.success(), "{}\n{help}", String::from_utf8_lossy(&done.stderr));
    // another process may have been quicker
    let _ = std::fs::rename(fresh.path(), target);
}

fn nvrtc() -> &'static Nvrtc {
    static OPEN: OnceLock<Nvrtc> = OnceLock::new();
    OPEN.get_or_init(|| Nvrtc::open(library()).expect("NVRTC loads"))
}

fn program(text: &str) -> Program {
    let (program, diagnostics) = compile(text, &Overrides::default());
    program.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn poisson(width: usize) -> String {
    format!(
        "space x, y in box(0..1, 0..1)\nnet N = mlp(width = {width}, depth = 4, activation = tanh)\nfield u = N(x, y)\n\
         solve inside: lap(u) = sin(pi*x)*sin(pi*y)\nsample inside = 512\ntrain adam(lr = 1e-3), steps = 100\n"
    )
}

/// The module of the whole training step.
fn step(text: &str, precision: Precision) -> Module {
    let program = program(text);
    let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{e:?}"));
    let training = program.training.clone().expect("it trains");
    let (specs, options) = (layout(&program), cuda::Options::new(precision));
    let conditions = conditions(&program, &plan, (Path::new("."), 0)).expect("they are sampled");
    training_module(&conditions, (&specs, &training), &options).expect("it is emitted")
}

fn request<'a>(module: &'a Module, arch: &str) -> Request<'a> {
    Request { module, arch: arch.parse().expect("known"), kind: Kind::Cubin, part: None }
}

/// Nothing spills. Registers and shared memory on a Hopper are in the snapshot.
#[test]
fn training_steps_compile_for_every_architecture_without_spills() {
    let mut table = String::new();
    for width in [16, 32, 64, 128] {
        let module = step(&poisson(width), Precision::Tf32x3);
        for arch in &ARCHS {
            let compiled = nvrtc().compile(&request(&module, arch)).unwrap_or_else(|e| panic!("{e}"));
            let found = resources(&compiled.log);
            assert_eq!(found.len(), module.kernels.len(), "{}", compiled.log);
            for r in &found {
                assert_eq!(r.spills, (0, 0), "{} at width {width} for {arch}", r.kernel);
                let kernel = module.kernels.iter().find(|k| k.name == r.kernel).expect("a kernel of the module");
                let threads = u64::from(kernel.threads) * u64::from(r.registers);
                assert!(threads <= 65536, "{}: a block has more registers than a processor", r.kernel);
                if *arch == "sm_90" {
                    let (name, threads, shared) = (&kernel.name, kernel.threads, kernel.shared);
                    let line = format!("width {width:<4}{name:<28}{threads:>4} threads{:>4} registers", r.registers);
                    table += &format!("{line}{shared:>8} bytes shared\n");
                }
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// The parts of a module that a device compiles at a time have all kernels between them, each once, and spill no more than the whole.
#[test]
fn the_parts_of_a_module_are_the_whole() {
    let module = step(&(poisson(64) + "solve wall on boundary: u = 0\n"), Precision::Tf32x3);
    let (parts, mut kernels) = (module.parts(), Vec::new());
    assert!(parts.len() >= 3 && parts.len() < module.kernels.len(), "{parts:?}");
    for part in &parts {
        let compiled = nvrtc().compile(&Request { part: Some(part), ..request(&module, "sm_90") });
        let found = resources(&compiled.unwrap_or_else(|e| panic!("{e}")).log);
        assert_eq!(found.len(), part.len(), "{found:?}");
        assert!(found.iter().all(|r| r.spills == (0, 0)), "{found:?}");
        kernels.extend(found.into_iter().map(|r| r.kernel));
    }
    kernels.sort();
    let mut all: Vec<String> = module.kernels.iter().map(|k| k.name.clone()).collect();
    all.sort();
    assert_eq!(kernels, all);
}

/// Estimators, with points that are stored and with a first layer that is streamed: nothing spills.
#[test]
fn estimators_compile_without_spills() {
    for how in
        ["exact", "compressed", "compressed(16)", "sparse(16)", "importance(16)", "rademacher(16)", "gaussian(16)"]
    {
        let text = format!(
            "const d = 100\nspace x[d] in ball(radius = 1)\nnet N = mlp(width = 128, depth = 4, activation = tanh)\n\
             field u = (1 - norm2(x))*N(x)\nsolve inside: lap(u) + sin(u) = sum(i in 0..d: cos(x[i]))\n\
             estimate lap(u) by {how}\nsample inside = 100\ntrain adam(lr = 1e-3), steps = 10\n"
        );
        let module = step(&text, Precision::Tf32x3);
        for arch in ["sm_80", "sm_100"] {
            let compiled = nvrtc().compile(&request(&module, arch)).unwrap_or_else(|e| panic!("{how}: {e}"));
            for r in resources(&compiled.log) {
                assert_eq!(r.spills, (0, 0), "{} by {how} for {arch}", r.kernel);
            }
        }
    }
}

/// Whatever the number of points and of columns, a step asks for no more shared memory than sm_80 gives a block.
#[test]
fn streamed_layers_fit_shared_memory() {
    for (d, points) in [(49, 1), (49, 128), (2113, 128), (30_000, 100), (30_000, 128), (30_000, 129)] {
        let text = format!(
            "const d = {d}\nspace x[d] in ball(radius = 1)\nnet N = mlp(width = 128, depth = 4, activation = tanh)\n\
             field u = (1 - norm2(x))*N(x)\nsolve inside: lap(u) + sin(u) = sum(i in 0..d: cos(x[i]))\n\
             estimate lap(u) by sparse(16)\nsample inside = {points}\ntrain adam(lr = 1e-3), steps = 10\n"
        );
        for kernel in step(&text, Precision::Tf32x3).kernels {
            assert!(kernel.shared <= 163 << 10, "{} with {d} columns and {points} points", kernel.name);
        }
    }
}

/// A rollout compiles, without spills.
#[test]
fn rollouts_compile_without_spills() {
    for (width, method) in [
        (16, "rk4(step = 0.1)"),
        (128, "taylor_lagrange(order = 2, midpoint = 0.3*G(s), step = 0.1)"),
        (64, "dopri5(rtol = 1e-4, atol = 1e-6)"),
    ] {
        let text = format!(
            "state s[3]\nnet F = mlp(width = {width}, depth = 4, activation = tanh, outputs = 3)\n\
             net G = mlp(width = 16, depth = 2, activation = tanh, outputs = 3)\nflow d_t(s) = F(s) by {method}\n"
        );
        let program = program(&text);
        let plan = plan_flow(&program).expect("it is planned").expect("there is a flow");
        let steps = steps_of(program.flow.as_ref().expect("a flow"), &plan);
        let module = cuda::rollout(&plan.step, steps, &cuda::Options::new(Precision::Tf32x3)).expect("it is emitted");
        assert_eq!(module.kernels.len(), 1, "one kernel");
        for arch in ARCHS {
            let compiled = nvrtc().compile(&request(&module, arch)).unwrap_or_else(|e| panic!("{method}: {e}"));
            let found = resources(&compiled.log);
            assert_eq!(found.len(), 1, "{}", compiled.log);
            assert_eq!(found[0].spills, (0, 0), "{method} for {arch}");
        }
    }
}

/// Double precision compiles, and the same text gives the same bytes.
#[test]
fn the_same_text_gives_the_same_code() {
    let module = step(&poisson(16), Precision::Fp64);
    assert_eq!(module.text, step(&poisson(16), Precision::Fp64).text);
    let [first, second] =
        [(); 2].map(|()| nvrtc().compile(&request(&module, "sm_80")).unwrap_or_else(|e| panic!("{e}")));
    assert_eq!(first.image, second.image);
    assert!(first.took.is_some());
}

fn tiny(text: &str) -> Module {
    let mut module = step(&poisson(4), Precision::Fp32);
    module.text = text.into();
    module
}

#[test]
fn errors_are_data_and_name_the_line_of_the_user() {
    let wrong = tiny("#line 7 \"mine.jet\"\nextern \"C\" __global__ void k(float* x) { x[0] = y; }\n");
    match nvrtc().compile(&request(&wrong, "sm_90")) {
        Err(CompileError::Text { log, .. }) => assert!(log.contains("mine.jet(7): error"), "{log}"),
        other => panic!("{other:?}"),
    }
    let fine = tiny("extern \"C\" __global__ void k(float* x) { x[0] = 1.0f; }\n");
    let unknown = Request { arch: Arch { number: 999, suffix: None }, ..request(&fine, "sm_90") };
    assert!(matches!(nvrtc().compile(&unknown), Err(CompileError::Arch { arch, .. }) if arch.number == 999));
    let ptx = Request { kind: Kind::Ptx, ..request(&fine, "sm_90") };
    let ptx = nvrtc().compile(&ptx).expect("it compiles");
    assert!(String::from_utf8_lossy(&ptx.image).contains(".target sm_90"));
    assert_eq!(ptx.image.last(), Some(&0), "the driver reads up to a zero byte");
}

/// Each kernel of a text points at the statement that it came from.
#[test]
fn kernels_name_the_line_of_their_statement() {
    let folder = folder();
    let two = poisson(8) + "solve wall on boundary: u = 0\n";
    let line = 1 + two.lines().position(|l| l.starts_with("solve wall")).expect("it is there");
    std::fs::write(folder.path().join("two.jet"), &two).expect("written");
    let emitted = text(&jetc(folder.path(), &["emit", "two.jet", "--target", "cuda", "--step"]));
    let of = |name: &str| {
        let kernel = emitted.find(name).unwrap_or_else(|| panic!("{name} in {emitted}"));
        emitted[..kernel].lines().rev().find(|l| l.starts_with("#line")).expect("a line").to_string()
    };
    assert_eq!(of("training_inside_0_main("), "#line 4 \"two.jet\"");
    assert_eq!(of("training_wall_1_main("), format!("#line {line} \"two.jet\""));
}

/// Whatever changes the code changes the key.
#[test]
fn keys_of_compilations_differ() {
    let (a, b) = (tiny("// a\n"), tiny("// b\n"));
    let base = request(&a, "sm_90");
    let all = [
        Key::of(&base, (12, 9)),
        Key::of(&base, (13, 0)),
        Key::of(&Request { kind: Kind::Ptx, ..base }, (12, 9)),
        Key::of(&request(&a, "sm_80"), (12, 9)),
        Key::of(&request(&b, "sm_90"), (12, 9)),
        Key::of(&Request { part: Some(&[]), ..base }, (12, 9)),
    ];
    for (i, a) in all.iter().enumerate() {
        assert!(all[..i].iter().all(|b| a != b), "{i}");
    }
}

/// `jetc` with a folder of its own for everything.
fn jetc(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jetc"));
    command.args(args).current_dir(folder).env("JETC_NVRTC", library()).env("JETC_CACHE_DIR", folder.join("cache"));
    command.output().expect("it starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let output = "space x\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = N(x)\noutput r = d_xx(u)\n";
    std::fs::write(folder.path().join("a.jet"), output).expect("written");
    std::fs::write(folder.path().join("p.csv"), "x\n0.5\n0.25\n").expect("written");
    std::fs::write(folder.path().join("t.jet"), poisson(8).replace("512", "5")).expect("written");
    folder
}

/// Damage is repaired, an unwritable folder is a warning, and the code is the same.
#[test]
fn emitted_code_goes_through_the_cache() {
    let folder = folder();
    let at = folder.path();
    let emit = |out: &str| jetc(at, &["emit", "a.jet", "--target", "cubin", "--arch", "sm_80", "-o", out]);
    let first = emit("1");
    assert!(first.status.success(), "{}", text(&first));
    let code = std::fs::read(at.join("1")).expect("code");
    assert_eq!(&code[..4], b"\x7fELF");
    let entries = Cache::new(Some(at.join("cache"))).entries().expect("readable");
    assert_eq!(entries.len(), 1);
    assert!(text(&jetc(at, &["cache", "verify"])).contains("1 of 1 entries are whole"));
    let mut damaged = std::fs::read(&entries[0].path).expect("an entry");
    *damaged.last_mut().expect("not empty") ^= 1;
    std::fs::write(&entries[0].path, damaged).expect("written");
    let verify = jetc(at, &["cache", "verify"]);
    assert_eq!(verify.status.code(), Some(1), "{}", text(&verify));
    assert!(emit("2").status.success());
    assert_eq!(std::fs::read(at.join("2")).expect("code"), code);
    assert!(text(&jetc(at, &["cache", "verify"])).contains("1 of 1 entries are whole"));
    assert!(text(&jetc(at, &["cache", "clear"])).contains("1 files deleted"));
    std::fs::remove_dir(at.join("cache")).expect("it is empty");
    std::fs::write(at.join("cache"), "in the way").expect("written");
    let third = emit("3");
    assert!(third.status.success(), "{}", text(&third));
    assert_eq!(text(&third).matches("warning: compiled kernels are kept in memory only").count(), 1);
    assert_eq!(std::fs::read(at.join("3")).expect("code"), code);
}

/// Where there is no driver `auto` says so and goes on; a device that was asked for is an error, and nothing is written.
#[test]
fn without_a_driver() {
    if cuda::driver::version().is_ok() {
        return;
    }
    let folder = folder();
    let at = folder.path();
    let auto = jetc(at, &["eval", "a.jet", "--points", "p.csv", "--device", "auto"]);
    assert_eq!(text(&jetc(at, &["eval", "a.jet", "--points", "p.csv"])).matches("runs on the CPU").count(), 0);
    assert!(auto.status.success(), "{}", text(&auto));
    assert!(text(&auto).contains("this runs on the CPU: there is no NVIDIA driver"), "{}", text(&auto));
    let cpu = jetc(at, &["eval", "a.jet", "--points", "p.csv", "--device", "cpu"]);
    assert_eq!(auto.stdout, cpu.stdout);
    for command in [&["eval", "a.jet", "--points", "p.csv"][..], &["train", "t.jet", "--out", "run"]] {
        let output = jetc(at, &[command, &["--device", "cuda:0"]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains("there is no NVIDIA driver; install one"), "{}", text(&output));
    }
    assert!(!at.join("run").exists());
    let doctor = text(&jetc(at, &["doctor"]));
    assert!(doctor.contains("NVIDIA driver     not usable") && doctor.contains("libnvrtc"), "{doctor}");
}

/// The same stepper that drives a GPU, over kernels on the CPU: losses as on the CPU, and resuming ends in the same bits.
#[test]
fn training_by_kernels_is_training_on_the_cpu_and_can_be_resumed() {
    let folder = folder();
    let at = folder.path();
    let train = |out: &str, steps: &str, more: &[&str]| {
        let base = ["train", "t.jet", "--quiet", "--precision", "f64", "--out", out, "--steps", steps];
        let output = jetc(at, &[&base[..], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        let history = std::fs::read_to_string(at.join(out).join("history.csv")).expect("a history");
        let losses = history.lines().skip(1).filter_map(|l| l.split(',').nth(1)?.parse::<f64>().ok());
        losses.collect::<Vec<f64>>()
    };
    let here = train("here", "6", &["--device", "cpu"]);
    let there = train("there", "6", &["--device", "host"]);
    assert_eq!((here.len(), there.len()), (6, 6));
    for (a, b) in here.iter().zip(&there) {
        assert!((a - b).abs() <= 1e-9 * a.abs(), "{here:?} {there:?}");
    }
    assert_eq!(train("parts", "3", &["--device", "host"]), there[..3]);
    assert_eq!(train("parts", "6", &["--device", "host", "--resume"]), there);
    let weights = |out: &str| std::fs::read(at.join(out).join("solver.safetensors")).expect("weights");
    assert_eq!(weights("parts"), weights("there"));
    // a flow, whose windows are rows of a table
    let rows: String = (0..12).map(|k| format!("{k},{},{},0\n", (k as f64).cos(), (k as f64).sin())).collect();
    std::fs::write(at.join("circle.csv"), format!("t,s0,s1,run\n{rows}")).expect("written");
    let flow = "state s[2]\nnet F = mlp(width = 8, depth = 2, activation = tanh, outputs = 2)\n\
                net G = mlp(width = 8, depth = 2, activation = tanh, outputs = 2)\ndata circle = \"circle.csv\"\n\
                flow d_t(s) = F(s) by taylor_lagrange(order = 1, midpoint = G(s), step = 0.5)\n\
                fit flow to circle, horizon = 2, remainder_weight = 0.1\n\
                train adam(lr = 1e-2), steps = 4, batch = 7\nreport rollout(circle)\n";
    std::fs::write(at.join("f.jet"), flow).expect("written");
    let run = |out: &str, device: &str| {
        let base = ["train", "f.jet", "--quiet", "--precision", "f64", "--out", out, "--device", device];
        let output = jetc(at, &base);
        assert!(output.status.success(), "{}", text(&output));
        let history = std::fs::read_to_string(at.join(out).join("history.csv")).expect("a history");
        let losses = history.lines().skip(1).filter_map(|l| l.split(',').nth(1)?.parse::<f64>().ok());
        losses.collect::<Vec<f64>>()
    };
    let agree = |here: &str, there: &str| {
        let (here, there) = (run(here, "cpu"), run(there, "host"));
        assert_eq!((here.len(), there.len()), (4, 4));
        for (a, b) in here.iter().zip(&there) {
            assert!((a - b).abs() <= 1e-9 * a.abs(), "{here:?} {there:?}");
        }
    };
    agree("flow", "flow_there");
    // steps that are chosen for each trajectory, and draws of its own
    let adaptive = "state s[2]\nnet F = mlp(width = 8, depth = 2, activation = tanh, outputs = 2)\ndata circle = \"circle.csv\"\n\
                    let f = F(s)\nlet trace = sum(i in 0..2: d(f[i], s[i]))\n\
                    flow d_t(s) = [8*f[0] + trace*s[1], f[1]] by dopri5(rtol = 1e-6, atol = 1e-6)\n\
                    estimate trace by rademacher(1)\nfit flow to circle, horizon = 2\n\
                    train adam(lr = 1e-2), steps = 4, batch = 7\nreport rollout(circle)\n";
    std::fs::write(at.join("f.jet"), adaptive).expect("written");
    agree("adaptive", "adaptive_there");
    std::fs::write(at.join("f.jet"), flow).expect("written");
    // what is measured is the device that was asked for
    for (device, step) in [("cpu", "gradient): "), ("host", "update): ")] {
        let output = jetc(at, &["bench", "f.jet", "--points", "9", "--seconds", "0.01", "--device", device]);
        let said = text(&output);
        assert!(output.status.success() && said.contains(&format!("; on {device}\nrollout: ")), "{said}");
        assert!(said.contains(step), "{said}");
    }
    // bits depend on what computes them: no other device goes on from there
    let other = jetc(at, &["train", "t.jet", "--precision", "f64", "--out", "parts", "--resume", "--device", "cpu"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other).contains("precision = f64 by CUDA kernels, this run has precision = f64"), "{}", text(&other));
}

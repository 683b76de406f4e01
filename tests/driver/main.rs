//! The whole way to a GPU without one: driver and NVRTC are stand-ins, `driver.cc` and `nvrtc.cc`, which run launches on the CPU
//! and are stricter than the real ones. What `--device cuda:0` gives is what `--device host` gives, bit for bit; all that was
//! taken is given back; and whatever fails is an error that says what failed, exit code 2, never a panic.
#![cfg(all(feature = "cuda", feature = "cli", target_os = "linux"))]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The folder of the header over which launches run.
const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/host");

/// The libraries, built once.
struct StandIns {
    folder: TempDir,
}

impl StandIns {
    fn get() -> &'static StandIns {
        static BUILT: OnceLock<StandIns> = OnceLock::new();
        BUILT.get_or_init(|| {
            let folder = TempDir::new().expect("a folder");
            for (source, library) in [("driver.cc", "libcuda.so.1"), ("nvrtc.cc", "libnvrtc.so")] {
                let done = Command::new(jetc::cuda::host::compiler().expect("a C++ compiler"))
                    .args(["-std=gnu++17", "-O1", "-fPIC", "-shared", "-Wall", "-Werror", "-I", SHIM])
                    .arg(Path::new("tests/driver").join(source))
                    .args(["-ldl", "-o"])
                    .arg(folder.path().join(library))
                    .output()
                    .expect("it runs");
                assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            }
            fs::create_dir(folder.path().join("built")).expect("writable");
            StandIns { folder }
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// How a command ended.
struct Ended {
    code: Option<i32>,
    text: String,
    /// What the driver said at the end: what is alive, and what was done.
    log: String,
}

/// A folder with a program, its points and what commands write.
struct Place {
    folder: TempDir,
}

const PLANE: &str =
    "space x, y in box(0..1, 0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = N(x, y)\n";

impl Place {
    fn new(program: &str) -> Place {
        let place = Place { folder: TempDir::new().expect("a folder") };
        fs::write(place.path("a.jet"), program).expect("writable");
        let columns = 2;
        let points = ndarray::Array2::from_shape_fn((37, columns), |(i, j)| 0.02 * i as f64 + 0.1 * j as f64);
        ndarray_npy::write_npy(place.path("p.npy"), &points).expect("writable");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// `jetc` beside the stand-ins.
    fn command(&self, arguments: &str) -> Command {
        let stand_ins = StandIns::get();
        let mut command = Command::new(env!("CARGO_BIN_EXE_jetc"));
        command
            .args(arguments.split(' '))
            .current_dir(self.folder.path())
            .env("LD_LIBRARY_PATH", stand_ins.folder.path())
            .env("JETC_NVRTC", stand_ins.path("libnvrtc.so"))
            .env("JETC_CACHE_DIR", self.path("cache"))
            .env("JETC_TEST_SHIM", SHIM)
            .env("JETC_TEST_BUILT", stand_ins.path("built"))
            .env("JETC_TEST_LOG", self.path("log"));
        command
    }

    /// Runs it, with other settings where named.
    fn run(&self, arguments: &str, settings: &[(&str, &str)]) -> Ended {
        let _ = fs::remove_file(self.path("log"));
        let done = self.command(arguments).envs(settings.iter().copied()).output().expect("it runs");
        self.ended(done)
    }

    fn ended(&self, done: Output) -> Ended {
        Ended {
            code: done.status.code(),
            text: String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned(),
            log: fs::read_to_string(self.path("log")).unwrap_or_default(),
        }
    }
}

const NOTHING: &str = "alive: 0 contexts, 0 memories, 0 modules, 0 streams, 0 events, 0 graphs;";

impl Ended {
    #[track_caller]
    fn well(self) -> Ended {
        assert_eq!(self.code, Some(0), "{}", self.text);
        self.kept_nothing()
    }

    /// All is given back that was taken from the driver, if it was loaded.
    #[track_caller]
    fn kept_nothing(self) -> Ended {
        assert!(self.log.is_empty() || self.log.starts_with(NOTHING), "{}", self.log);
        self
    }

    /// It failed as it should: with 2 before anything was computed, else 1; these words, and nothing kept.
    #[track_caller]
    fn badly(self, words: &[&str]) {
        assert!(matches!(self.code, Some(1 | 2)), "{:?} {}", self.code, self.text);
        assert!(!self.text.contains("panicked"), "{}", self.text);
        for word in words {
            assert!(self.text.contains(word), "no `{word}` in {}", self.text);
        }
        self.kept_nothing();
    }
}

fn weights(folder: &str) -> String {
    format!("{folder}/solver.safetensors")
}

/// Trains on the device and on the host: the same losses, and the same weights.
#[track_caller]
fn trains(program: &str, steps: usize, options: &str) -> Ended {
    let place = Place::new(program);
    let run = |device: &str| {
        place.run(&format!("train a.jet --steps {steps} --device {device} --out {device}{options}"), &[]).well()
    };
    let ended = run("cuda:0");
    run("host");
    same(place.bytes(&weights("cuda:0")), place.bytes(&weights("host")));
    ended
}

/// One condition inside, one on the boundary.
fn poisson() -> String {
    format!(
        "{PLANE}solve interior: lap(u) + u^2 = sin(x)*y\nsolve boundary: u = x*y\nsample interior = 40, boundary = 20\n\
         train adam(lr = 1e-3), steps = 40\n"
    )
}

fn operator() -> String {
    format!("{PLANE}output r = lap(u) + d_xy(u)\n")
}

/// A failure does not print them.
#[track_caller]
fn same(a: Vec<u8>, b: Vec<u8>) {
    assert!(a == b, "the bytes differ");
}

#[test]
fn training_is_what_it_is_on_the_host_and_is_replayed() {
    let log = trains(&poisson(), 40, "").log;
    let replays: usize = log.rsplit(", ").next().and_then(|r| r.split(' ').next()?.parse().ok()).expect("a number");
    // the first step kernel by kernel, then graphs of one or many steps
    assert!((1..40).contains(&replays), "{log}");
}

#[test]
fn so_it_is_in_double_precision() {
    trains(&poisson(), 20, " --precision f64");
}

#[test]
fn so_it_is_where_the_first_layer_is_streamed() {
    let program = "const d = 300\nspace x[d] in ball(radius = 1)\nnet N = mlp(width = 16, depth = 2, activation = tanh)\n\
                   field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) + sin(u) = 1\nsample interior = 12\n\
                   estimate lap(u) by sparse(4)\ntrain adam(lr = 1e-3), steps = 20\n";
    trains(program, 20, "");
    trains(&program.replace("sparse(4)", "compressed"), 5, "");
}

#[test]
fn a_stopped_run_goes_on_to_the_same_bits() {
    let place = Place::new(&poisson());
    let mut command = place.command("train a.jet --quiet --steps 1000000 --device cuda:0 --out parts");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let start = Instant::now();
    let has_begun = || fs::metadata(place.path("parts/history.csv")).is_ok_and(|m| m.len() > 0);
    while !has_begun() && start.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(1));
    // SAFETY: the process is our child, and has not been waited for.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let stopped = place.ended(child.wait_with_output().expect("it ends"));
    assert_eq!(stopped.code, Some(130), "{}", stopped.text);
    assert!(stopped.log.starts_with(NOTHING), "{}", stopped.log);
    let step = stopped.text.split("stopped at step ").nth(1).and_then(|s| s.split(';').next()?.parse::<u64>().ok());
    let step = step.filter(|step| *step > 0).unwrap_or_else(|| panic!("{}", stopped.text));
    let more = step + 5;
    place.run(&format!("train a.jet --steps {more} --device cuda:0 --out parts --resume"), &[]).well();
    place.run(&format!("train a.jet --steps {more} --device cuda:0 --out whole"), &[]).well();
    same(place.bytes(&weights("whole")), place.bytes(&weights("parts")));
}

#[test]
fn values_are_what_they_are_on_the_host() {
    let place = Place::new(&operator());
    place.run("eval a.jet --points p.npy --device cuda:0 --out cuda.npy", &[]).well();
    place.run("eval a.jet --points p.npy --device host --out host.npy", &[]).well();
    same(place.bytes("cuda.npy"), place.bytes("host.npy"));
    let verified = place.run("verify a.jet --device cuda:0", &[]).well();
    assert!(verified.text.contains("agrees") && !verified.text.contains("differs"), "{}", verified.text);
}

#[test]
fn rollouts_are_what_they_are_on_the_host() {
    for method in ["rk4(step = 0.1)", "dopri5(rtol = 1e-4, atol = 1e-6)"] {
        let flow = "state s[2]\nnet F = mlp(width = 8, depth = 2, activation = tanh, outputs = 2)\n\
                    flow d_t(s) = F(s) by ";
        let place = Place::new(&format!("{flow}{method}\n"));
        for device in ["cuda:0", "host"] {
            let ended =
                place.run(&format!("eval a.jet --points p.npy --until 0.5 --device {device} --out {device}.npy"), &[]);
            assert_eq!(ended.code, Some(0), "{}", ended.text);
        }
        same(place.bytes("cuda:0.npy"), place.bytes("host.npy"));
    }
}

#[test]
fn where_no_machine_code_loads_ptx_does() {
    let place = Place::new(&operator());
    place.run("eval a.jet --points p.npy --device cuda:0 --out a.npy", &[]).well();
    place.run("eval a.jet --points p.npy --device cuda:0 --out b.npy", &[("JETC_TEST_REFUSES", "cubin")]).well();
    // an NVRTC that is older than the processor
    place.run("eval a.jet --points p.npy --device cuda:0 --out c.npy", &[("JETC_TEST_KNOWS", "86")]).well();
    same(place.bytes("a.npy"), place.bytes("b.npy"));
    same(place.bytes("a.npy"), place.bytes("c.npy"));
    let neither = [("JETC_TEST_REFUSES", "cubin ptx")];
    place
        .run("eval a.jet --points p.npy --device cuda:0 --out d.npy", &neither)
        .badly(&["CUDA_ERROR_NO_BINARY_FOR_GPU"]);
}

#[test]
fn whatever_fails_is_said_and_all_is_given_back() {
    let place = Place::new(&poisson());
    let asked =
        ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2", "cuDeviceGetAttribute"];
    let made = ["cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemsetD8Async"];
    let loaded =
        ["cuModuleLoadData", "cuModuleGetFunction", "cuFuncGetAttribute", "cuStreamCreate", "cuMemcpyHtoDAsync_v2"];
    let ran =
        ["cuLaunchKernel", "cuStreamSynchronize", "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphLaunch"];
    let last =
        ["cuGraphInstantiateWithFlags", "cuMemcpyDtoHAsync_v2", "cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"];
    for function in [&asked[..], &made, &loaded, &ran, &last].concat() {
        for nth in [1, 2, 9] {
            let fails = format!("{function}:{nth}");
            let ended = place.run("train a.jet --steps 40 --device cuda:0 --out out", &[("JETC_TEST_FAILS", &fails)]);
            match ended.code {
                // it is not called so often, or there is a second way
                Some(0) => drop(ended.well()),
                // where the context cannot be made current nothing can be freed
                _ if function == "cuCtxSetCurrent" => assert!(ended.text.contains("making the context current")),
                _ => ended.badly(&["CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"]),
            }
        }
    }
}

#[test]
fn a_failed_launch_names_its_kernel() {
    let place = Place::new(&operator());
    let words =
        ["kernel `outputs_main`", "blocks of", "bytes of shared memory", "too many resources requested for launch"];
    let fails = [("JETC_TEST_FAILS", "cuLaunchKernel:1")];
    place.run("eval a.jet --points p.npy --device cuda:0 --out r.npy", &fails).badly(&words);
    assert!(!place.path("r.npy").exists());
}

#[test]
fn too_much_memory_is_refused_with_the_figure() {
    let place = Place::new(&operator());
    let small = [("JETC_TEST_MEMORY", "500")];
    place.run("eval a.jet --points p.npy --device cuda:0 --out r.npy", &small).badly(&["500 bytes are free"]);
    assert!(!place.path("r.npy").exists());
}

#[test]
fn what_is_missing_is_said_and_how_to_get_it() {
    let place = Place::new(&operator());
    let eval = |device: &str, settings: &[(&str, &str)]| {
        place.run(&format!("eval a.jet --points p.npy --device {device} --out r.npy"), settings)
    };
    let old = [("JETC_TEST_VERSION", "11080")];
    eval("cuda:0", &old).badly(&["CUDA 11.8", "update the driver"]);
    let no_compiler = [("JETC_NVRTC", "/nowhere")];
    eval("cuda:0", &no_compiler).badly(&["NVRTC", "doctor --install-nvrtc"]);
    eval("cuda:1", &[]).badly(&["no device cuda:1", "1 device"]);
    for settings in [&old[..], &no_compiler] {
        let ended = eval("auto", settings).well();
        assert!(ended.text.contains("runs on the CPU"), "{}", ended.text);
    }
}

//! `doctor`: what this machine has, and what is missing for what; and how NVRTC is fetched.

use super::args::Doctor;
use super::{Done, Failure, print};
use crate::cuda::{cache::Cache, driver, folders, nvrtc::Nvrtc};
use std::path::Path;
use std::process::Command;

/// The wheel that has NVRTC, for drivers of CUDA 12 and newer.
const WHEEL: &str = "nvidia-cuda-nvrtc-cu12";

/// `jetc doctor`
pub fn doctor(args: &Doctor) -> Done {
    if args.install_nvrtc {
        return install();
    }
    line("jetc", format!("{} ({} {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH))?;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    line("processor", format!("{cores} threads; {}", cpu_features()))?;
    line("CPU backend", "ready: nothing more is needed to check, plan, evaluate and train".into())?;
    cuda()?;
    let compiler = std::env::var("CXX").ok().filter(|c| !c.is_empty());
    let compiler = compiler.into_iter().chain(["c++", "g++", "clang++"].map(String::from)).find_map(|c| version(&c));
    let without = "not found; needed only to run kernels on the CPU (--device host), to check them";
    line("C++ compiler", compiler.unwrap_or_else(|| without.into()))?;
    line("Python", version("python3").unwrap_or_else(|| "not found; needed only by --install-nvrtc".into()))?;
    Ok(())
}

fn line(what: &str, found: String) -> Done {
    print(&format!("{what:<18}{found}"))
}

/// Driver, devices, NVRTC and the cache of kernels.
fn cuda() -> Done {
    match driver::version() {
        Ok((major, minor)) => line("NVIDIA driver", format!("supports CUDA {major}.{minor}"))?,
        Err(e) => line("NVIDIA driver", format!("not usable: {e}"))?,
    }
    if driver::version().is_ok() {
        match driver::devices() {
            Ok(devices) => {
                for d in devices {
                    let memory = d.memory as f64 / 1e9;
                    let what = format!("{}, {}, {memory:.1} GB, {} multiprocessors", d.name, d.arch, d.processors);
                    line(&format!("cuda:{}", d.ordinal), what)?;
                }
            }
            Err(e) => line("GPU", format!("not usable: {e}"))?,
        }
    }
    match Nvrtc::find() {
        Ok(found) => {
            let (major, minor) = found.version();
            let known = |n: Option<&u32>| n.map_or("nothing".into(), |n| format!("sm_{n}"));
            let range = format!("{} to {}", known(found.known().first()), known(found.known().last()));
            line("NVRTC", format!("{major}.{minor}, {range}: {}", found.path().display()))?;
        }
        Err(e) => line("NVRTC", format!("not usable: {e}"))?,
    }
    let cache = Cache::shared();
    let what = match (cache.folder(), cache.entries()) {
        (Some(folder), Ok(entries)) => format!("{} ({} entries)", folder.display(), entries.len()),
        (Some(folder), Err(e)) => format!("{}: {e}", folder.display()),
        (None, _) => "none: there is no home folder; set JETC_CACHE_DIR".into(),
    };
    line("kernel cache", what)
}

/// Fetches NVRTC from the Python package index, with pip, into jetc's own folder.
fn install() -> Done {
    let folder = folders::nvrtc().ok_or_else(|| {
        Failure::Input(
            "there is no home folder to install NVRTC into; set XDG_DATA_HOME, or JETC_NVRTC to a library".into(),
        )
    })?;
    let by_hand = |folder: &Path| {
        format!("fetch it yourself: python3 -m pip install --target {} --no-deps {WHEEL}", folder.display())
    };
    let wrong = |what: String| Failure::Input(format!("{what}; {}", by_hand(&folder)));
    let parent = folder.parent().unwrap_or(&folder);
    std::fs::create_dir_all(parent).map_err(|e| wrong(format!("cannot write {}: {e}", parent.display())))?;
    // into a new folder beside its place first: what is there stays until the new one is whole
    let fresh = tempfile::Builder::new().prefix(".nvrtc-").tempdir_in(parent);
    let fresh = fresh.map_err(|e| wrong(format!("cannot write {}: {e}", parent.display())))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]);
    let done = pip.arg(fresh.path()).arg(WHEEL).output().map_err(|e| wrong(format!("python3 cannot be run: {e}")))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let last = said.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing");
        return Err(wrong(format!("pip failed: {}", last.trim())));
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| wrong(format!("cannot replace {}: {e}", folder.display())))?;
    }
    std::fs::rename(fresh.path(), &folder).map_err(|e| wrong(format!("cannot write {}: {e}", folder.display())))?;
    print(&format!("installed {WHEEL} into {} (delete that folder to undo it)", folder.display()))?;
    match Nvrtc::find() {
        Ok(found) => {
            print(&format!("NVRTC {}.{} is used: {}", found.version().0, found.version().1, found.path().display()))
        }
        Err(e) => Err(Failure::Work(e.to_string())),
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> String {
    let mut out = Vec::new();
    for (name, found) in [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ] {
        if found {
            out.push(name);
        }
    }
    if out.is_empty() { "no vector extensions that are used".into() } else { format!("uses {}", out.join(", ")) }
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> String {
    "vector extensions as the compiler assumes them".into()
}

fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_string())
}

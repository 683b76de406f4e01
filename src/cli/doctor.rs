//! `doctor`: what this machine has, and what is missing for what.

use super::{Done, print};
use std::process::Command;

/// `jetc doctor`
pub fn doctor() -> Done {
    let line = |what: &str, found: String| print(&format!("{what:<18}{found}"));
    line("jetc", format!("{} ({} {})", env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH));
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    line("processor", format!("{cores} threads; {}", cpu_features()));
    line("CPU backend", "ready: nothing more is needed to check, plan, evaluate and train".into());
    for (what, found) in cuda() {
        line(what, found);
    }
    let tool = |name: &str, use_: &str| match version(name) {
        Some(v) => v,
        None => format!("not found; {use_}"),
    };
    line("C++ compiler", tool("c++", "needed by nothing in this version"));
    line("Python", tool("python3", "needed only to fetch NVRTC from a package registry"));
    Ok(())
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

/// What is there of CUDA. cudarc panics where a library is missing, so it is asked only whether one is there.
#[cfg(feature = "cuda")]
fn cuda() -> Vec<(&'static str, String)> {
    // SAFETY: the probes only try to load a library by its usual names and tell whether that worked.
    let (driver, nvrtc) = unsafe { (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present()) };
    let say = |there: bool, missing: &str| if there { "found".to_string() } else { format!("not found: {missing}") };
    vec![
        ("NVIDIA driver", say(driver, "programs run on the CPU")),
        ("NVRTC", say(nvrtc, "`pip install nvidia-cuda-nvrtc-cu12` has it; needed only to compile kernels")),
        ("CUDA backend", "not part of this version: programs run on the CPU".into()),
    ]
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<(&'static str, String)> {
    vec![("CUDA backend", "left out when jetc was built (feature `cuda`)".into())]
}

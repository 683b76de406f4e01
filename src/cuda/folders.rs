//! Where things lie on a machine: the kernel cache, what `doctor` installs, and where NVRTC may be.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the kernel cache: `JETC_CACHE_DIR`, else `jetc` in the user's cache folder; none without a home.
pub fn cache() -> Option<PathBuf> {
    variable("JETC_CACHE_DIR").or_else(|| Some(user("XDG_CACHE_HOME", ".cache", "LOCALAPPDATA")?.join("jetc")))
}

/// The folder into which `doctor --install-nvrtc` installs.
pub fn nvrtc() -> Option<PathBuf> {
    Some(user("XDG_DATA_HOME", ".local/share", "LOCALAPPDATA")?.join("jetc").join("nvrtc"))
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from)
}

fn user(xdg: &str, below_home: &str, windows: &str) -> Option<PathBuf> {
    // a relative path is to be ignored, says the specification of these variables
    let named = variable(xdg).filter(|p| p.is_absolute());
    let windows = || variable(windows).filter(|_| cfg!(windows));
    named.or_else(windows).or_else(|| Some(std::env::home_dir().filter(|h| h.is_absolute())?.join(below_home)))
}

/// Files that may be NVRTC, the likeliest first; names without a folder are for the loader to find.
pub fn nvrtc_candidates() -> impl Iterator<Item = PathBuf> {
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let toolkits =
        toolkits.flat_map(|t| ["lib64", "lib", "targets/x86_64-linux/lib", "bin", "bin/x64"].map(|l| t.join(l)));
    let names: &[&str] = match cfg!(windows) {
        true => &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"],
        false => &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
    };
    let own = nvrtc().into_iter();
    // asked for last, as it takes a process
    let python = std::iter::once_with(site_packages).flatten();
    toolkits
        .flat_map(|f| libraries(&f))
        .chain(names.iter().map(PathBuf::from))
        .chain(own.chain(python).flat_map(|f| wheel_folders(&f)).flat_map(|f| libraries(&f)))
}

/// Folders into which wheels of NVIDIA put libraries.
fn wheel_folders(packages: &Path) -> Vec<PathBuf> {
    ["cu13/lib", "cuda_nvrtc/lib", "cu13/bin/x86_64", "cuda_nvrtc/bin"].map(|f| packages.join("nvidia").join(f)).into()
}

/// The package folders of the Python that is found first.
fn site_packages() -> Vec<PathBuf> {
    let program = "import site, sysconfig\nprint(sysconfig.get_path('purelib'), *site.getsitepackages(), site.getusersitepackages(), sep='\\n')";
    let run =
        |python: &str| Command::new(python).args(["-I", "-c", program]).output().ok().filter(|o| o.status.success());
    let Some(output) = run("python3").or_else(|| run("python")) else { return vec![] };
    let mut out: Vec<PathBuf> = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from) {
        if !out.contains(&line) {
            out.push(line);
        }
    }
    out
}

/// The NVRTC libraries in a folder, the highest version first.
pub fn libraries(folder: &Path) -> Vec<PathBuf> {
    let is_nvrtc = |name: &str| {
        let other = name.contains("builtins") || name.contains(".alt.") || name.contains("static");
        !other && (name.starts_with("libnvrtc.so") || name.starts_with("nvrtc64_") && name.ends_with(".dll"))
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|n| is_nvrtc(n)).collect();
    let numbers = |name: &str| -> Vec<u32> { name.split(['.', '_']).filter_map(|p| p.parse().ok()).collect() };
    names.sort_by(|a, b| numbers(b).cmp(&numbers(a)).then_with(|| b.cmp(a)));
    names.into_iter().map(|n| folder.join(n)).collect()
}

/// Where the loader found a library that was loaded by its name; the name, where that is not known.
pub fn loaded_from(file: &Path, name: &str) -> PathBuf {
    if file.is_absolute() {
        return file.into();
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let found = maps.lines().filter_map(|l| l.split_once('/')).map(|(_, path)| PathBuf::from(format!("/{path}")));
    let is_it = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name));
    found.into_iter().find(is_it).unwrap_or_else(|| file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in
            ["libnvrtc.so", "libnvrtc.so.12", "libnvrtc.so.13", "libnvrtc-builtins.so.13.0", "libnvrtc.alt.so.13"]
        {
            std::fs::write(folder.path().join(name), "").expect("a file");
        }
        let names = libraries(folder.path());
        let names: Vec<_> = names.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(names, ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]);
        assert_eq!(libraries(&folder.path().join("missing")), Vec::<PathBuf>::new());
    }
}

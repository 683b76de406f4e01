//! The header is the one that cbindgen makes, and a C program that uses it does what it says.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Keeps the crate, whose library the C program is linked with, among what is built for this test.
use jetc_c as _;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_current() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new().with_src(root().join("src/lib.rs")).with_config(config).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    let path = root().join("include/jetc.h");
    if std::env::var_os("JETC_UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read(&path).unwrap_or_default();
    assert!(text == committed, "include/jetc.h is not what cbindgen makes; set JETC_UPDATE=1 to write it");
}

#[test]
fn the_c_program_runs() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("laplacian");
    // beside the test's own file are the libraries of this build
    let test = std::env::current_exe().unwrap();
    let libraries = test.parent().and_then(Path::parent).unwrap();
    let output = Command::new(std::env::var("CC").unwrap_or("cc".into()))
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(root().join("examples/laplacian.c"))
        .arg(format!("-I{}", root().join("include").display()))
        .arg(libraries.join("libjetc_c.a"))
        .args(["-lm", "-lpthread", "-ldl"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = Command::new(&program).arg(folder.path().join("u.solver")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("did you mean `lap`?"));
}

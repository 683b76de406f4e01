//! Generates the parser from `grammar/jet.lalrpop` into `OUT_DIR`, where there is a compiler.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    parser()
}

#[cfg(feature = "compiler")]
fn parser() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::var("OUT_DIR")?;
    lalrpop::Configuration::new().set_in_dir("grammar").set_out_dir(out).emit_rerun_directives(true).process()
}

#[cfg(not(feature = "compiler"))]
fn parser() -> Result<(), Box<dyn std::error::Error>> {
    Ok(())
}

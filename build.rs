//! Generates the parser from `grammar/jet.lalrpop`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}

//! The `jetc` command: see `jetc --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    jetc::cli::main()
}

//! The command line: arguments, progress, pictures, and how diagnostics look. Everything else is in the library.
//!
//! Exit codes: 0 done; 1 the work failed (a loss that is not finite, a comparison that does not hold); 2 bad input.

mod args;
mod bench;
mod build;
mod cache;
mod doctor;
mod emit;
mod eval;
mod flow;
#[cfg(feature = "plot")]
mod pictures;
mod plan;
#[cfg(feature = "plot")]
pub mod plot;
mod source;
mod train;
mod variance;
mod verify;

use args::{Args, Command};
use clap::{CommandFactory, Parser};
use std::process::ExitCode;

/// Why a command ends early.
#[derive(Debug)]
pub enum Failure {
    /// Bad input: what to say (nothing if it was said already). Exit code 2.
    Input(String),
    /// The work failed. Exit code 1.
    Work(String),
    /// Somebody stopped it before its end, and it can be continued. Exit code 130, as of other programs that an interrupt ends.
    Stopped,
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(e: E) -> Self {
        // the messages of this program's errors hold those of their causes
        Failure::Input(e.to_string())
    }
}

type Done = Result<(), Failure>;

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(threads) = args.threads {
        // fails only if a pool exists already, which would be ours
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(message)) => {
            complain(&message);
            ExitCode::from(2)
        }
        Err(Failure::Work(message)) => {
            complain(&message);
            ExitCode::from(1)
        }
        Err(Failure::Stopped) => ExitCode::from(130),
    }
}

/// Says something on standard error. Where that cannot be written nobody reads it.
pub(crate) fn note(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn complain(message: &str) {
    if !message.is_empty() {
        note(&format!("error: {message}"));
    }
}

fn run(command: Command) -> Done {
    match command {
        Command::Check(a) => plan::check(&a),
        Command::Plan(a) => plan::plan(&a),
        Command::Emit(a) => emit::emit(&a),
        Command::Build(a) => build::build(&a),
        Command::Eval(a) => eval::eval(&a),
        Command::Train(a) => train::train(&a),
        Command::Verify(a) => verify::verify(&a),
        Command::Bench(a) => bench::bench(&a),
        Command::Doctor(a) => doctor::doctor(&a),
        Command::Cache(a) => cache::cache(&a),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "jetc", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Man { directory } => {
            let failed = |e| Failure::Input(format!("cannot write man pages into {}: {e}", directory.display()));
            clap_mangen::generate_to(Args::command(), &directory).map_err(failed)?;
            print(&format!("man pages written to {}", directory.display()))
        }
    }
}

/// Prints to standard output; a closed pipe (`jetc plan ... | head`) is no error, a full disk is.
pub(crate) fn print(text: &str) -> Done {
    use std::io::{ErrorKind, Write};
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::Input(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

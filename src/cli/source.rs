//! Reading a program file, and saying what is wrong with it.

use super::args;
use super::{Failure, note, print};
use crate::cuda::{Device, cache::Cache, driver};
use crate::device::Device as Choice;
use crate::diagnostic::{Diagnostic, Span, render};
use crate::net::{Element, Loaded as Taken, Parameters, layout, write_atomically};
use crate::program::{Overrides, Program};
use crate::solver::compile;
use crate::syntax;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// A program that has no errors.
pub struct Loaded {
    /// The program.
    pub program: Program,
    /// Its text.
    pub text: String,
    /// Its file, and the name of that for messages.
    pub path: PathBuf,
    pub name: String,
    /// What the command line changed, as text: part of the identity of a run.
    pub overrides: String,
}

/// Reads and resolves a program. Diagnostics go to standard error; errors end the command.
pub fn load(source: &args::Source) -> Result<Loaded, Failure> {
    let name = source.file.display().to_string();
    let bytes = std::fs::read(&source.file).map_err(|e| Failure::Input(format!("cannot read {name}: {e}")))?;
    let (text, broken) = syntax::decode(&bytes);
    let text = text.into_owned();
    if !broken.is_empty() {
        return Err(say(&name, &text, &broken));
    }
    let overrides = Overrides { set: source.set.clone(), estimates: source.estimate.clone() };
    let (program, diagnostics) = compile(&text, &overrides);
    let failure = say(&name, &text, &diagnostics);
    let program = program.ok_or(failure)?;
    Ok(Loaded { program, text, path: source.file.clone(), name, overrides: overrides.text() })
}

/// Prints diagnostics to standard error.
pub fn say(name: &str, text: &str, diagnostics: &[Diagnostic]) -> Failure {
    if !diagnostics.is_empty() {
        let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let _ = write!(std::io::stderr(), "{}", render(name, text, diagnostics, color));
    }
    Failure::Input(String::new())
}

impl Loaded {
    /// Prints diagnostics of a later stage.
    pub fn say(&self, diagnostics: &[Diagnostic]) -> Failure {
        say(&self.name, &self.text, diagnostics)
    }

    /// The failure of a later stage: a diagnostic with a place is shown there.
    pub fn failure(&self, error: crate::solver::Error) -> Failure {
        match error {
            crate::solver::Error::Diagnostic(d) if d.span() != Span::default() => self.say(&[d]),
            other => other.into(),
        }
    }

    /// The folder that data paths are relative to.
    pub fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// An error where `copies` of the parameters, and `points` points, do not fit in memory.
    pub fn make_room<T: Element>(&self, copies: usize, points: usize) -> Result<(), Failure> {
        let numbers = |shape: &[usize]| shape.iter().map(|n| *n as f64).product::<f64>();
        // Gradients of wide weights, and the points that go with them, are made in pieces.
        const PIECES: f64 = (1 << 24) as f64;
        let (mut parameters, mut all) = (0.0, 0.0);
        let mut points = numbers(&[points, self.program.columns()]);
        for spec in layout(&self.program) {
            let streamed = copies > 3 && spec.is_turned();
            parameters += numbers(&spec.shape);
            all += numbers(&spec.shape) * if streamed { 3.0 } else { copies as f64 };
            points = if streamed { points.min(PIECES) } else { points };
        }
        let bytes = (all + points) * size_of::<T>() as f64;
        let fits = bytes < isize::MAX as f64 && Vec::<u8>::new().try_reserve_exact(bytes as usize).is_ok();
        if fits {
            return Ok(());
        }
        Err(Failure::Input(format!(
            "{}: {parameters:.1e} parameters and {points:.1e} coordinates of points need {:.1} GB of memory, more than there is",
            self.name,
            bytes / 1e9
        )))
    }

    /// What training begins with: initial parameters, or those of a file as far as it has them.
    pub fn beginning<T: Element>(&self, weights: Option<&Path>, seed: u64) -> Result<Parameters<T>, Failure> {
        let mut parameters = Parameters::initial(&self.program, seed);
        let Some(path) = weights else { return Ok(parameters) };
        let taken = parameters.load_known(path)?;
        warn_of_ignored(path, &taken);
        if !taken.kept.is_empty() {
            let names = taken.kept.join(", ");
            note(&format!("note: {} lacks {names}: initial values (seed {seed})", path.display()));
        }
        Ok(parameters)
    }

    /// Initial parameters, or those of a file.
    pub fn parameters<T: Element>(&self, weights: Option<&Path>, seed: u64) -> Result<Parameters<T>, Failure> {
        self.make_room::<T>(1, 0)?;
        let mut parameters = Parameters::initial(&self.program, seed);
        match weights {
            Some(path) => warn_of_ignored(path, &parameters.load(path)?),
            None if !self.program.nets.is_empty() => {
                note(&format!("note: no --weights: the networks have their initial values (seed {seed})"));
            }
            None => {}
        }
        Ok(parameters)
    }
}

fn warn_of_ignored(path: &Path, taken: &Taken) {
    if let Some(warning) = taken.warning() {
        note(&format!("warning: {}: {warning}", path.display()));
    }
}

/// Writes text to a file, whole or not at all, or prints it.
pub fn write_or_print(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    match out {
        None => print(text.trim_end()),
        Some(path) => write_atomically(path, |file| file.write_all(text.as_bytes()))
            .map_err(|e| Failure::Input(format!("cannot write {}: {e}", path.display()))),
    }
}

/// The device that a `--device` argument means; a GPU if possible where there is none. Where it is not possible that is said,
/// unless nobody asked and there is no driver either.
pub fn device(choice: Option<Choice>) -> Result<Device, Failure> {
    let device = Device::open(choice.unwrap_or(Choice::Auto))?;
    if let Device::Cpu { why: Some(why) } = &device
        && (choice.is_some() || driver::version().is_ok())
    {
        note(&format!("note: this runs on the CPU: {why}"));
    }
    Ok(device)
}

/// Says why compiled kernels are not kept, if they are not.
pub fn warn_of_cache() {
    if let Some(warning) = Cache::shared().take_warning() {
        note(&format!("warning: {warning}"));
    }
}

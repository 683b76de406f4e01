//! `.jet` files at build time: a build script compiles them into a typed module, with program and weights embedded.
//!
//! In `Cargo.toml`:
//!
//! ```toml
//! [dependencies]
//! jetc = { version = "0.1", default-features = false }
//! [build-dependencies]
//! jetc = { version = "0.1", default-features = false, features = ["compiler"] }
//! ```
//!
//! In `build.rs`:
//!
//! ```no_run
//! jetc::build::compile("src/heat.jet").weights("src/heat.safetensors").run();
//! ```
//!
//! In the program, where `Heat` is a struct with the names of the file as its inputs and outputs:
//!
//! ```ignore
//! mod heat {
//!     include!(concat!(env!("OUT_DIR"), "/heat.rs"));
//! }
//! let heat = heat::Heat::new()?;
//! let u = heat.at(heat::Input { x: 0.3, t: 0.1 })?.u;
//! ```
//!
//! A mistake in the `.jet` file ends the build with the diagnostic that `jetc check` gives.

mod module;

pub use module::{Precision, module};

use crate::cuda;
use crate::net::{Parameters, WeightsError, write_atomically};
use crate::{Compiler, Error, Solver};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Starts with a `.jet` file; paths are relative to the package's folder.
pub fn compile(file: impl Into<PathBuf>) -> Build {
    Build { file: file.into(), weights: None, compiler: Compiler::new(), precision: Precision::F64 }
}

/// One file to be compiled by a build script.
#[derive(Clone, Debug)]
pub struct Build {
    file: PathBuf,
    weights: Option<PathBuf>,
    compiler: Compiler,
    precision: Precision,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The module, `NAME.rs`.
    pub module: PathBuf,
    /// The artifact beside it, `NAME.solver`.
    pub solver: PathBuf,
    /// CUDA text of its values, `NAME.cu`; none where the program has something that kernels do not have.
    pub kernels: Option<PathBuf>,
    /// What the program may not have meant, and that there are no weights.
    pub warnings: Vec<String>,
}

impl Build {
    /// Weights (safetensors, or an artifact) for the networks. Without them they have their initial values.
    pub fn weights(mut self, file: impl Into<PathBuf>) -> Self {
        self.weights = Some(file.into());
        self
    }

    /// Sets a const or param, like `--set name=value`.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.compiler = self.compiler.set(name, value);
        self
    }

    /// Sets an estimator, like `--estimate "lap(u)=sparse(16)"`.
    pub fn estimate(mut self, target: impl Into<String>, method: impl Into<String>) -> Self {
        self.compiler = self.compiler.estimate(target, method);
        self
    }

    /// Numbers of the module, and of the weights in it: f64 unless said otherwise.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// For build scripts: writes into `OUT_DIR`, tells cargo which files it depends on, and ends the build where something
    /// is wrong.
    pub fn run(self) {
        println!("cargo::rerun-if-changed={}", self.file.display());
        if let Some(weights) = &self.weights {
            println!("cargo::rerun-if-changed={}", weights.display());
        }
        let Some(out) = std::env::var_os("OUT_DIR") else {
            eprintln!("there is no OUT_DIR: this belongs into a build script; elsewhere call `write_to`");
            std::process::exit(1);
        };
        match self.write_to(Path::new(&out)) {
            Ok(written) => {
                written.warnings.iter().for_each(|w| println!("cargo::warning={}", w.replace('\n', " ")));
            }
            Err(error) => {
                eprintln!("{error}");
                std::process::exit(1);
            }
        }
    }

    /// Writes `NAME.rs` and `NAME.solver` into a folder, where NAME is that of the `.jet` file.
    ///
    /// # Errors
    /// Those of compiling, of the weights, and of writing.
    pub fn write_to(&self, folder: &Path) -> Result<Written, Error> {
        match self.precision {
            Precision::F32 => self.write::<f32>(folder),
            Precision::F64 => self.write::<f64>(folder),
        }
    }

    fn write<T: crate::cpu::Number>(&self, folder: &Path) -> Result<Written, Error> {
        let compiled = self.compiler.file(&self.file)?;
        let mut warnings: Vec<String> = compiled.warnings().iter().map(ToString::to_string).collect();
        let mut parameters: Parameters<T> = compiled.parameters(0);
        match &self.weights {
            Some(file) => warnings.extend(parameters.load(file)?.warning()),
            None if parameters.learned_len() > 0 => {
                warnings.push(format!("{}: no weights: the networks have their initial values", self.file.display()));
            }
            None => {}
        }
        let solver: Solver<T> = compiled.solver(parameters)?;
        let stem = self.file.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        let kernels = cuda::emit(solver.operator().program(), &cuda::Options::new(cuda::precision::<T>())).ok();
        let text = module(&stem, solver.inputs(), solver.quantities(), self.precision, kernels.is_some())?;
        let written = Written {
            module: folder.join(format!("{stem}.rs")),
            solver: folder.join(format!("{stem}.solver")),
            kernels: kernels.as_ref().map(|_| folder.join(format!("{stem}.cu"))),
            warnings,
        };
        solver.save(&written.solver)?;
        if let (Some(path), Some(kernels)) = (&written.kernels, kernels) {
            write(path, &kernels.text)?;
        }
        write(&written.module, &text)?;
        Ok(written)
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let written = write_atomically(path, |file| file.write_all(text.as_bytes()));
    Ok(written.map_err(|source| WeightsError::Write { path: path.into(), source })?)
}

//! The arguments.

use crate::cuda::compile::Arch;
use crate::device::Device;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Differential operators of neural networks, compiled.
///
/// A .jet file says what is wanted: an operator of a network, or a differential equation with its boundary.
/// `jetc train examples/poisson_2d.jet` solves one; `jetc plan FILE` says what will be computed, and at what cost.
#[derive(Parser, Debug)]
#[command(name = "jetc", version, max_term_width = 100)]
pub struct Args {
    /// Threads to use; all cores by default. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Parse and check a program: every error and warning, with its place
    Check(Source),
    /// Say what will be computed: residuals, algebra and certificate, rows against other methods, estimators, cost
    Plan(Plan),
    /// Print the compiled program
    Emit(Emit),
    /// Write a program and its weights as one file that can be evaluated without the compiler
    Build(Build),
    /// Evaluate the outputs (or fields) of a program at points
    Eval(Eval),
    /// Train the networks of a program and write weights, history, report and pictures
    Train(Train),
    /// Check the compiled program against the full jet, and its gradient against difference quotients, in f64
    Verify(Verify),
    /// Measure steps (or points) per second
    Bench(Bench),
    /// Say what this machine has, and what is missing for what
    Doctor(Doctor),
    /// The compiled kernels that are kept on disk
    #[command(subcommand)]
    Cache(Cache),
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder
        directory: PathBuf,
    },
}

/// A program and what the command line changes in it.
#[derive(ClapArgs, Debug)]
pub struct Source {
    /// The program: a .jet file
    pub file: PathBuf,
    /// Set a const or param: --set d=1000000
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// Set the estimator of an output, a condition or an operator: --estimate "lap(u)=sparse(16)"
    #[arg(long = "estimate", value_name = "NAME=METHOD", value_parser = pair)]
    pub estimate: Vec<(String, String)>,
}

fn threads(text: &str) -> Result<usize, String> {
    const MOST: usize = 1024;
    match text.parse() {
        Ok(n) if (1..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("expected a number from 1 to {MOST}")),
    }
}

fn duration(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(t) if f64::is_finite(t) && t > 0.0 => Ok(t),
        _ => Err("expected a time, more than 0".into()),
    }
}

/// Of a measurement: 0 for one round.
fn seconds(text: &str) -> Result<f64, String> {
    if text == "0" { Ok(0.0) } else { duration(text) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.trim().is_empty() || value.trim().is_empty() {
        return Err("expected NAME=VALUE".into());
    }
    Ok((name.trim().to_string(), value.trim().to_string()))
}

/// `jetc plan`
#[derive(ClapArgs, Debug)]
pub struct Plan {
    #[command(flatten)]
    pub source: Source,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Say why the rewritten forms are equal to the written ones
    #[arg(long)]
    pub explain: bool,
    /// Measure the variance of the estimators, and compare methods by variance times work
    #[arg(long)]
    pub variance: bool,
    /// Tensors of the networks whose variance is measured, instead of random ones
    #[arg(long, value_name = "PATH", requires = "variance")]
    pub weights: Option<PathBuf>,
    /// Of random weights, points and draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Write to a file instead of the screen
    #[arg(short, long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// `jetc doctor`
#[derive(ClapArgs, Debug)]
pub struct Doctor {
    /// Fetch NVRTC, which compiles kernels, from the Python package index into jetc's own folder
    #[arg(long)]
    pub install_nvrtc: bool,
}

/// `jetc cache`
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Cache {
    /// Print the folder: JETC_CACHE_DIR, or jetc in the user's cache folder
    Path,
    /// List the entries
    Ls,
    /// Delete all entries
    Clear,
    /// Check every entry against its hash
    Verify,
}

/// What to print.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The intermediate representation
    Jet,
    /// A typed Rust module that reads the file of `jetc build`
    Rust,
    /// CUDA C++ text
    Cuda,
    /// PTX, by NVRTC
    Ptx,
    /// Machine code, by NVRTC
    Cubin,
}

/// How kernels compute.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// f32
    Fp32,
    /// f32, products as three products of tensor cores: as accurate
    #[value(name = "3xtf32")]
    Tf32x3,
    /// f32, products rounded to ten bits
    Tf32,
    /// f64
    Fp64,
}

/// `jetc emit`
#[derive(ClapArgs, Debug)]
pub struct Emit {
    #[command(flatten)]
    pub source: Source,
    /// What to print
    #[arg(long, value_enum, default_value = "jet")]
    pub target: Target,
    /// The programs of the training step (residual, loss, gradient) instead of the values
    #[arg(long)]
    pub gradient: bool,
    /// The whole training step as one module: points, losses, gradients, update
    #[arg(long, conflicts_with = "gradient")]
    pub step: bool,
    /// The processor that PTX and machine code are for
    #[arg(long, value_name = "ARCH", default_value = "sm_90")]
    pub arch: Arch,
    /// How kernels compute
    #[arg(long, value_enum, default_value = "3xtf32")]
    pub precision: Products,
    /// Write to a file instead of the screen
    #[arg(short, long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// Floating-point precision.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Single
    F32,
    /// Double
    F64,
}

/// `jetc build`
#[derive(ClapArgs, Debug)]
pub struct Build {
    #[command(flatten)]
    pub source: Source,
    /// Weights (safetensors); without them the initial ones of the seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// Where the artifact goes
    #[arg(short, long, value_name = "NAME.solver")]
    pub out: PathBuf,
    /// Precision of the tensors in it
    #[arg(long, value_enum, default_value = "f64")]
    pub precision: Precision,
    /// Seed of initial weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `jetc eval`
#[derive(ClapArgs, Debug)]
pub struct Eval {
    #[command(flatten)]
    pub source: Source,
    /// Points: an NPY file [points, coordinates], f32 or f64, columns in the order of the declarations; or a CSV file
    /// whose first line names them
    #[arg(long, value_name = "P.npy")]
    pub points: PathBuf,
    /// Weights (safetensors); without them the initial ones of the seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// For a flow: how long it runs from the points; by default one step. The values are the points at the end
    #[arg(long, value_name = "T", value_parser = duration)]
    pub until: Option<f64>,
    /// Where the values go: NPY [points, components]; without it they are printed as CSV
    #[arg(long, value_name = "R.npy")]
    pub out: Option<PathBuf>,
    /// Precision of the computation
    #[arg(long, value_enum, default_value = "f64")]
    pub precision: Precision,
    /// auto, cpu, cuda:0, or host: kernels of a GPU on the CPU, slowly, to check them [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Seed of estimators and initial weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `jetc train`
#[derive(ClapArgs, Debug)]
pub struct Train {
    #[command(flatten)]
    pub source: Source,
    /// Steps, instead of those of the file
    #[arg(long)]
    pub steps: Option<usize>,
    /// Weights (safetensors) to begin with, of a run of this program or of another with the same networks
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// auto, cpu, cuda:0, or host: kernels of a GPU on the CPU, slowly, to check them [default: auto]
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
    /// Precision of the computation
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: Precision,
    /// Folder of the results [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Continue the run in that folder
    #[arg(long)]
    pub resume: bool,
    /// No progress bar
    #[arg(long)]
    pub quiet: bool,
}

/// `jetc verify`
#[derive(ClapArgs, Debug)]
pub struct Verify {
    #[command(flatten)]
    pub source: Source,
    /// Weights (safetensors); without them the initial ones of the seed
    #[arg(long, value_name = "W.safetensors")]
    pub weights: Option<PathBuf>,
    /// Seed of points, weights and estimators
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Compare this device with the CPU instead: cuda:0, or host for kernels on the CPU
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<Device>,
}

/// `jetc bench`
#[derive(ClapArgs, Debug)]
pub struct Bench {
    #[command(flatten)]
    pub source: Source,
    /// Points, for a program without conditions
    #[arg(long, default_value_t = 4096)]
    pub points: usize,
    /// Seconds to measure for
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// Precision of the computation
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: Precision,
    /// cpu, cuda:0, or host
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
}

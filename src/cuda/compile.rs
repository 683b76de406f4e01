//! What compiling a module takes and gives, whoever compiles.

use super::module::{KernelId, Module};
use super::text::without;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

/// The oldest processor that kernels are made for: its tensor cores take tf32.
pub const OLDEST: u32 = 80;

/// The processor that machine code is for: `sm_90`, `sm_100a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Arch {
    /// Ten times the major number, plus the minor one.
    pub number: u32,
    /// `a` or `f` where features of this processor (or family) only may be used.
    pub suffix: Option<char>,
}

impl Arch {
    /// The processor of a device of this compute capability.
    pub fn of(major: u32, minor: u32) -> Self {
        Arch { number: 10 * major + minor, suffix: None }
    }

    /// The name of its virtual processor, for PTX: `compute_90`.
    pub fn compute(self) -> String {
        self.to_string().replacen("sm", "compute", 1)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}", self.number)?;
        self.suffix.map_or(Ok(()), |c| write!(f, "{c}"))
    }
}

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("sm_").or_else(|| text.strip_prefix("compute_")).unwrap_or(text);
        let suffix = digits.chars().last().filter(|c| matches!(c, 'a' | 'f'));
        let digits = digits.trim_end_matches(['a', 'f']);
        match digits.parse() {
            Ok(number @ OLDEST..=999) if digits.len() <= 3 => Ok(Arch { number, suffix }),
            _ => Err(format!("expected an architecture from sm_{OLDEST} on, such as sm_80, sm_90 or sm_100")),
        }
    }
}

/// What is made of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Machine code of one processor: any driver that knows the processor runs it.
    Cubin,
    /// Text that the driver assembles; its version must not be above the driver's.
    Ptx,
}

impl Kind {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cubin => "cubin",
            Kind::Ptx => "ptx",
        }
    }
}

/// What one compilation is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The text.
    pub module: &'a Module,
    /// For which processor.
    pub arch: Arch,
    /// What.
    pub kind: Kind,
    /// Which kernels of the module; none: all.
    pub part: Option<&'a [KernelId]>,
}

impl Request<'_> {
    /// The compiler's options.
    pub fn options(&self) -> Vec<String> {
        let target = match self.kind {
            Kind::Cubin => self.arch.to_string(),
            Kind::Ptx => self.arch.compute(),
        };
        let mut options = vec![
            format!("--gpu-architecture={target}"),
            "--std=c++17".into(),
            "--generate-line-info".into(),
            // registers and spills of every kernel, into the log
            "--ptxas-options=-v".into(),
        ];
        let kernels = self.module.kernels.iter().enumerate();
        let others = kernels.filter(|(k, _)| self.part.is_some_and(|part| !part.contains(&KernelId(*k as u32))));
        options.extend(others.map(|(_, kernel)| format!("--define-macro={}", without(&kernel.name))));
        options
    }
}

/// What a compilation gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Compiled {
    /// What the image is.
    pub kind: Kind,
    /// Machine code, or text that ends in a zero byte.
    pub image: Vec<u8>,
    /// What the compiler said.
    pub log: String,
    /// How long it took; none where it came from the cache.
    pub took: Option<Duration>,
}

/// Why a module does not compile.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The compiler refuses the text.
    #[error("the kernels of `{module}` do not compile for {arch}: this is a defect of jetc; please report it with the program and this log\n{}", beginning(.log))]
    Text {
        /// Name of the module.
        module: String,
        /// For which processor.
        arch: Arch,
        /// What the compiler said.
        log: String,
    },
    /// The compiler does not know the processor.
    #[error("NVRTC {}.{} does not know {arch} (it knows {}); {}", .version.0, .version.1, list(.known), newer(*.arch, .known))]
    Arch {
        /// Version of NVRTC.
        version: (u32, u32),
        /// The processor.
        arch: Arch,
        /// What it knows.
        known: Vec<u32>,
    },
    /// The compiler itself failed.
    #[error("NVRTC failed on `{module}`: {reason}")]
    Compiler {
        /// Name of the module.
        module: String,
        /// Its error.
        reason: String,
    },
}

/// The first lines of a log: the rest mostly follows from them.
fn beginning(log: &str) -> String {
    const LINES: usize = 20;
    let left = log.lines().count().saturating_sub(LINES);
    let lines: Vec<&str> = log.lines().take(LINES).collect();
    lines.join("\n") + &if left > 0 { format!("\n({left} more lines)") } else { String::new() }
}

fn list(known: &[u32]) -> String {
    let names: Vec<String> = known.iter().map(|n| format!("sm_{n}")).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn newer(arch: Arch, known: &[u32]) -> &'static str {
    match known.iter().max() {
        Some(most) if *most < arch.number => "`jetc doctor --install-nvrtc` fetches a newer one",
        _ => "choose one of these with --arch",
    }
}

/// What a kernel takes of a processor, as its assembler says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Name of the kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Static shared memory of a block, in bytes.
    pub shared: u32,
    /// Local memory of a thread, in bytes.
    pub stack: u32,
    /// Bytes of registers that are stored to local memory, and loaded from it.
    pub spills: (u32, u32),
}

/// Reads the lines that the assembler's option `-v` makes.
pub fn resources(log: &str) -> Vec<Resources> {
    let mut out: Vec<Resources> = Vec::new();
    let before = |line: &str, mark: &str| -> u32 {
        let head = line.split(mark).next().filter(|_| line.contains(mark)).unwrap_or_default();
        head.rsplit(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let kernel = rest.split('\'').next().unwrap_or_default().to_string();
            out.push(Resources { kernel, ..Resources::default() });
        } else if let Some(last) = out.last_mut() {
            if line.contains("bytes stack frame") {
                last.stack += before(line, " bytes stack frame");
                last.spills.0 += before(line, " bytes spill stores");
                last.spills.1 += before(line, " bytes spill loads");
            } else if line.contains(" registers") {
                last.registers = before(line, " registers");
                last.shared = before(line, " bytes smem");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures() {
        assert_eq!("sm_90".parse(), Ok(Arch::of(9, 0)));
        assert_eq!("100".parse(), Ok(Arch::of(10, 0)));
        assert_eq!("sm_90a".parse::<Arch>().map(|a| a.to_string()), Ok("sm_90a".into()));
        assert_eq!("compute_80".parse::<Arch>().map(|a| a.compute()), Ok("compute_80".into()));
        for wrong in ["", "sm_", "sm_75", "90x", "sm_9", "volta", "sm_90aa0", "4000000000000"] {
            assert!(wrong.parse::<Arch>().is_err(), "{wrong}");
        }
    }

    /// Lines as the assembler of CUDA 12.9 writes them.
    #[test]
    fn the_assembler_log_is_read() {
        let log = "ptxas info    : 3 bytes gmem\n\
            ptxas info    : Compiling entry function 'one' for 'sm_90'\n\
            ptxas info    : Function properties for one\n    24 bytes stack frame, 16 bytes spill stores, 8 bytes spill loads\n\
            ptxas info    : Used 255 registers, used 1 barriers, 24 bytes cumulative stack size, 4096 bytes smem\n\
            ptxas info    : Compile time = 12.000 ms\n\
            ptxas info    : Compiling entry function 'two' for 'sm_90'\n\
            ptxas info    : Function properties for two\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
            ptxas info    : Used 12 registers, used 0 barriers\n";
        let one = Resources { kernel: "one".into(), registers: 255, shared: 4096, stack: 24, spills: (16, 8) };
        let two = Resources { kernel: "two".into(), registers: 12, ..Resources::default() };
        assert_eq!(resources(log), [one, two]);
    }
}

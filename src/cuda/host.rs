//! Runs a [`Module`] on the CPU, over `kernels/host/shim.h`: the same text, built by the C++ compiler of the machine.
//!
//! This is how kernels are checked without a GPU; it is slow. Memory that a module has not written is a signalling NaN,
//! and so are guard zones around every buffer, so that what a kernel must not do is an error that names kernel, block and
//! thread. The [`Order`] of threads and blocks must not change a bit of a result.

use super::module::{Bound, Buffer, BufferId, Element, KernelId, Module, Precision, Role};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_void};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use tempfile::TempDir;
use thiserror::Error;

const SHIM: &str = include_str!("../../kernels/host/shim.h");

/// Words of a guard zone.
const GUARD: usize = 32;

/// The order in which blocks, warps and threads run between barriers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By number.
    #[default]
    Ascending,
    /// The last first.
    Descending,
    /// Shuffled anew after every barrier, from a seed.
    Shuffled(u64),
}

/// Why a module could not be built or run.
#[derive(Debug, Error)]
pub enum HostError {
    /// No C++ compiler.
    #[error("no C++ compiler was found; install g++ or clang++, or name one in CXX")]
    Compiler,
    /// The compiler refused the text.
    #[error("{compiler} cannot build the module `{module}`:\n{log}")]
    Build {
        /// Which compiler.
        compiler: String,
        /// Name of the module.
        module: String,
        /// What it said.
        log: String,
    },
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The library could not be loaded.
    #[error("the module cannot be loaded: {0}")]
    Load(#[from] libloading::Error),
    /// A buffer was given the wrong number of elements.
    #[error("the buffer `{buffer}` has {expected} bytes, not {found}")]
    Length {
        /// Name of the buffer.
        buffer: String,
        /// Bytes that it has.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
    /// A kernel did what it must not do: the kernel, block and thread, and what.
    #[error("{0}")]
    Kernel(String),
}

/// Mirrors `Guarded` of the shim.
#[repr(C)]
struct Guarded {
    name: *const c_char,
    before: *const u32,
    after: *const u32,
}

/// Mirrors `Launch` of the shim.
#[repr(C)]
struct Launch {
    kernel: *const c_char,
    arguments: *const *mut c_void,
    guarded: *const Guarded,
    guards: u64,
    guard_words: u64,
    seed: u64,
    count: u32,
    blocks: u32,
    threads: u32,
    shared: u32,
    order: u32,
    poison: u32,
    is_double: u32,
    strict: u32,
    skip: u32,
    message: *mut c_char,
    message_size: u64,
}

type Run = unsafe extern "C" fn(*const Launch, u32) -> i32;
type Met = unsafe extern "C" fn(u32) -> i32;

/// A module, built for this machine.
#[derive(Debug)]
pub struct Host {
    module: Module,
    /// The library has one block at a time.
    library: Mutex<Library>,
    _folder: TempDir,
}

impl Host {
    /// Builds a module: with the compiler that `CXX` names, else c++, g++ or clang++.
    ///
    /// # Errors
    /// Where there is no compiler, or it refuses the text.
    pub fn new(module: &Module) -> Result<Self, HostError> {
        let folder = tempfile::Builder::new().prefix("jetc-host-").tempdir()?;
        let source = folder.path().join("module.cc");
        let library = folder.path().join(if cfg!(target_os = "macos") { "module.dylib" } else { "module.so" });
        std::fs::write(folder.path().join("shim.h"), SHIM)?;
        std::fs::write(&source, translation_unit(module))?;
        build(&module.name, &source, &library)?;
        // SAFETY: the library's initialisers are those of the shim's few plain variables.
        let library = unsafe { Library::new(&library)? };
        Ok(Host { module: module.clone(), library: Mutex::new(library), _folder: folder })
    }

    /// What it runs.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The numbers of the barriers that a thread has met in any launch.
    pub fn barriers(&self) -> Vec<u32> {
        let Ok(library) = self.library.lock() else { return vec![] };
        // SAFETY: the function has this signature, see `translation_unit`, and no launch is running.
        let was_met = |k: u32| unsafe { library.get::<Met>(b"jetc_host_met\0").is_ok_and(|met| met(k) != 0) };
        (0..4096).filter(|k| was_met(*k)).collect()
    }

    /// Memory for so many points. Constants and zeros are in place; all else is NaN until it is written.
    pub fn memory(&self, count: u32) -> Memory {
        let bound = self.module.bind(count);
        let precision = self.module.precision;
        let lengths = self.module.buffers.iter().zip(&bound.lengths);
        let buffers = lengths.map(|(b, n)| Zone::new(b, *n as usize, precision)).collect();
        Memory { bound, precision, buffers, is_strict: true, skip: None }
    }

    /// Runs what is launched once.
    ///
    /// # Errors
    /// Where a kernel does what it must not do.
    pub fn start(&self, memory: &mut Memory, order: Order) -> Result<(), HostError> {
        self.module.start.iter().try_for_each(|k| self.launch(*k, memory, order))
    }

    /// Runs what one call launches.
    ///
    /// # Errors
    /// Where a kernel does what it must not do.
    pub fn call(&self, memory: &mut Memory, order: Order) -> Result<(), HostError> {
        self.module.launches.iter().try_for_each(|k| self.launch(*k, memory, order))?;
        let results = |b: &Buffer| matches!(b.role, Role::Output(_) | Role::Gradient(_));
        let zones = self.module.buffers.iter().zip(&memory.buffers).filter(|(b, _)| results(b));
        for (buffer, zone) in zones {
            let size = buffer.element.bytes(memory.precision) as usize;
            let unwritten = unwritten(size);
            if let Some(at) = zone.bytes().chunks_exact(size).position(|x| x == unwritten) {
                return Err(HostError::Kernel(format!("element {at} of `{}` is never written", buffer.name)));
            }
        }
        Ok(())
    }

    /// Runs one kernel.
    ///
    /// # Errors
    /// Where it does what it must not do.
    pub fn launch(&self, kernel: KernelId, memory: &mut Memory, order: Order) -> Result<(), HostError> {
        let described = &self.module.kernels[kernel.index()];
        let Ok(library) = self.library.lock() else {
            return Err(HostError::Kernel("an earlier launch of the module panicked".into()));
        };
        let names: Vec<CString> = self.module.buffers.iter().map(|b| c_string(&b.name)).collect();
        let name = c_string(&described.name);
        let arguments: Vec<*mut c_void> =
            described.arguments.iter().map(|b| memory.buffers[b.index()].pointer().cast()).collect();
        let guarded: Vec<Guarded> = memory.buffers.iter().zip(&names).map(|(zone, name)| zone.guarded(name)).collect();
        let mut message = vec![0u8; 512];
        let (order, seed) = match order {
            Order::Ascending => (0, 0),
            Order::Descending => (1, 0),
            Order::Shuffled(seed) => (2, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(kernel.0)),
        };
        let is_double = self.module.precision == Precision::Fp64;
        let launch = Launch {
            kernel: name.as_ptr(),
            arguments: arguments.as_ptr(),
            guarded: guarded.as_ptr(),
            guards: guarded.len() as u64,
            guard_words: GUARD as u64,
            seed,
            count: memory.bound.counts[kernel.index()],
            blocks: memory.bound.blocks[kernel.index()],
            threads: described.threads,
            shared: described.shared,
            order,
            poison: poison(is_double),
            is_double: u32::from(is_double),
            strict: u32::from(memory.is_strict),
            skip: memory.skip.unwrap_or(u32::MAX),
            message: message.as_mut_ptr().cast(),
            message_size: message.len() as u64,
        };
        // SAFETY: `jetc_host_run` has this signature, see `translation_unit`, and `Launch` the layout that it reads; all
        // pointers live until it returns. The kernel gets as many pointers as it has parameters, or does not compile.
        let wrong = unsafe { library.get::<Run>(b"jetc_host_run\0")?(&launch, kernel.0) };
        match wrong {
            0 => Ok(()),
            _ => {
                let text = CStr::from_bytes_until_nul(&message).map(|m| m.to_string_lossy().into_owned());
                Err(HostError::Kernel(text.unwrap_or_else(|_| described.name.clone())))
            }
        }
    }
}

/// The buffers of a module for a number of points.
#[derive(Clone, Debug)]
pub struct Memory {
    bound: Bound,
    precision: Precision,
    buffers: Vec<Zone>,
    /// Whether an invalid operation (0/0, arithmetic with memory that was not written) is an error.
    pub is_strict: bool,
    /// A barrier that is left out, by its number in the text: a test that this is noticed is a test of the barrier.
    pub skip: Option<u32>,
}

impl Memory {
    /// Sizes and grids.
    pub fn bound(&self) -> &Bound {
        &self.bound
    }

    /// The bytes of a buffer, in the order of this machine.
    pub fn bytes(&self, buffer: BufferId) -> &[u8] {
        self.buffers[buffer.index()].bytes()
    }

    /// Writes all of a buffer.
    ///
    /// # Errors
    /// Where the length is not the buffer's.
    pub fn write(&mut self, buffer: BufferId, bytes: &[u8]) -> Result<(), HostError> {
        let zone = &mut self.buffers[buffer.index()];
        if zone.length != bytes.len() {
            return Err(HostError::Length { buffer: zone.name.clone(), expected: zone.length, found: bytes.len() });
        }
        zone.bytes_mut().copy_from_slice(bytes);
        Ok(())
    }

    /// Writes numbers into a buffer of reals, rounded to its precision.
    ///
    /// # Errors
    /// Where the length is not the buffer's.
    pub fn write_reals(&mut self, buffer: BufferId, numbers: &[f64]) -> Result<(), HostError> {
        let bytes: Vec<u8> = match self.buffers[buffer.index()].element.bytes(self.precision) {
            4 => numbers.iter().flat_map(|x| (*x as f32).to_ne_bytes()).collect(),
            _ => numbers.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        };
        self.write(buffer, &bytes)
    }

    /// The numbers of a buffer of reals.
    pub fn reals(&self, buffer: BufferId) -> Vec<f64> {
        let zone = &self.buffers[buffer.index()];
        match zone.element.bytes(self.precision) {
            4 => zone.bytes().as_chunks().0.iter().map(|x| f64::from(f32::from_ne_bytes(*x))).collect(),
            _ => zone.bytes().as_chunks().0.iter().map(|x| f64::from_ne_bytes(*x)).collect(),
        }
    }
}

/// Memory aligned for any access of a kernel.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
struct Line([u32; 32]);

/// A buffer between two guard zones, a line and a part of one.
#[derive(Clone, Debug)]
struct Zone {
    name: String,
    element: Element,
    /// Bytes.
    length: usize,
    lines: Vec<Line>,
}

impl Zone {
    fn new(buffer: &Buffer, elements: usize, precision: Precision) -> Self {
        let length = elements * buffer.element.bytes(precision) as usize;
        let is_double = precision == Precision::Fp64;
        let pair = [if is_double { 0 } else { poison(false) }, poison(is_double)];
        let guard = Line(std::array::from_fn(|k| pair[k % 2]));
        let lines = vec![guard; length.div_ceil(size_of::<Line>()) + 2];
        let mut zone = Zone { name: buffer.name.clone(), element: buffer.element, length, lines };
        match buffer.role {
            Role::Moment { .. } | Role::Scratch => zone.bytes_mut().fill(0),
            Role::Constant => {
                let contents = buffer.contents.iter().flat_map(|w| w.to_ne_bytes());
                zone.bytes_mut().iter_mut().zip(contents).for_each(|(to, from)| *to = from);
            }
            _ => {
                let unwritten = unwritten(buffer.element.bytes(precision) as usize);
                zone.bytes_mut().iter_mut().zip(unwritten.into_iter().cycle()).for_each(|(to, from)| *to = from);
            }
        }
        zone
    }

    fn pointer(&mut self) -> *mut u32 {
        self.lines[1..].as_mut_ptr().cast()
    }

    fn guarded(&self, name: &CStr) -> Guarded {
        let words: *const u32 = self.lines.as_ptr().cast();
        // SAFETY: a whole line lies behind the last one that the buffer reaches into.
        let after = unsafe { words.add(GUARD + self.length / 4) };
        Guarded { name: name.as_ptr(), before: words, after }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: lines are plain words, without padding, and `length` bytes of them lie behind the first.
        unsafe { std::slice::from_raw_parts(self.lines[1..].as_ptr().cast(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: lines are plain words, without padding, and `length` bytes of them lie behind the first.
        unsafe { std::slice::from_raw_parts_mut(self.lines[1..].as_mut_ptr().cast(), self.length) }
    }
}

/// A word of a signalling NaN: all of it in f32, the high word in f64.
fn poison(is_double: bool) -> u32 {
    if is_double { 0x7FF5_A5A5 } else { 0x7FA5_A5A5 }
}

/// A number of so many bytes that nobody has written.
fn unwritten(bytes: usize) -> Vec<u8> {
    match bytes {
        4 => poison(false).to_ne_bytes().to_vec(),
        _ => (u64::from(poison(true)) << 32).to_ne_bytes().to_vec(),
    }
}

fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The text between the shim and a table of its kernels.
fn translation_unit(module: &Module) -> String {
    let mut table = String::new();
    for kernel in &module.kernels {
        table += &format!("    [](void* const* a, unsigned n) {{ jetc_host::call({}, a, n); }},\n", kernel.name);
    }
    format!(
        "#include \"shim.h\"\n#line 1 \"{name}.cu\"\n{text}\n#line 1 \"kernels\"\n\
         static void (*const jetc_host_kernels[])(void* const*, unsigned) = {{\n{table}}};\n\
         #define EXPORT extern \"C\" __attribute__((visibility(\"default\")))\n\
         EXPORT int jetc_host_met(unsigned number) {{ return jetc_host::met[number]; }}\n\
         EXPORT int jetc_host_run(const jetc_host::Launch* launch, unsigned kernel) {{\n\
         \x20   return jetc_host::run(launch, jetc_host_kernels[kernel]);\n}}\n",
        name = module.name,
        text = module.text,
    )
}

fn build(module: &str, source: &Path, library: &Path) -> Result<(), HostError> {
    let compiler = compiler().ok_or(HostError::Compiler)?;
    let mut command = Command::new(&compiler);
    command.args(["-std=gnu++17", "-O1", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing"]);
    // otherwise the loader makes the `__shared__` arrays of templates one for all modules of a process
    command.arg("-fvisibility=hidden");
    if cfg!(target_arch = "x86_64") {
        command.arg("-march=native");
    }
    let done = command.arg(source).arg("-o").arg(library).output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(HostError::Build {
            compiler: compiler.display().to_string(),
            module: module.into(),
            log: String::from_utf8_lossy(&done.stderr).chars().take(4000).collect(),
        }),
    }
}

/// The C++ compiler of this machine.
pub fn compiler() -> Option<PathBuf> {
    let named = std::env::var_os("CXX").filter(|c| !c.is_empty()).map(PathBuf::from);
    let runs = |c: &PathBuf| Command::new(c).arg("--version").output().is_ok_and(|o| o.status.success());
    named.into_iter().chain(["c++", "g++", "clang++"].map(PathBuf::from)).find(runs)
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;

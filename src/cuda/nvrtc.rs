//! NVRTC, the compiler of CUDA text: a library that is looked for when it is first needed. It needs no driver and no GPU.
//!
//! The nine functions are taken from the very file that was chosen. (cudarc takes them from whatever file of that name the
//! loader has first, and panics where one is missing.)

use super::compile::{CompileError, Compiled, Kind, Request};
use super::error::Error;
use super::folders;
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;
use std::time::Instant;

/// `nvrtcResult`; 0 is success.
type Status = c_int;
/// `nvrtcProgram`.
type Handle = *mut c_void;

/// Compilation failed: the log says why.
const COMPILATION: Status = 6;

/// The compiler.
#[derive(Debug)]
pub struct Nvrtc {
    functions: Functions,
    path: PathBuf,
    version: (u32, u32),
    known: Vec<u32>,
    /// Keeps the functions where they are.
    _library: Library,
}

#[derive(Debug)]
struct Functions {
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> Status,
    destroy: unsafe extern "C" fn(*mut Handle) -> Status,
    text: unsafe extern "C" fn(Status) -> *const c_char,
    log: Bytes,
    ptx: Bytes,
    cubin: Bytes,
}

/// A function that tells a size, and one that writes so many bytes.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    size: unsafe extern "C" fn(Handle, *mut usize) -> Status,
    get: unsafe extern "C" fn(Handle, *mut c_char) -> Status,
}

impl Nvrtc {
    /// The compiler of this machine; looked for once.
    ///
    /// # Errors
    /// Where there is none: says where it was looked for and how to get it.
    pub fn find() -> Result<&'static Nvrtc, Error> {
        static FOUND: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        FOUND.get_or_init(Self::search).as_ref().map_err(|looked| {
            Error::missing(
                format!("NVRTC, which compiles kernels, was not found ({looked})"),
                "`jetc doctor --install-nvrtc` fetches it, or set JETC_NVRTC to the file of the library",
            )
        })
    }

    fn search() -> Result<Nvrtc, String> {
        if let Some(named) = std::env::var_os("JETC_NVRTC").filter(|v| !v.is_empty()) {
            // what is named is meant: nothing else will do
            let named = PathBuf::from(named);
            let files = if named.is_dir() { folders::libraries(&named) } else { vec![named.clone()] };
            let mut reasons: Vec<_> = files.iter().map(|f| Self::open(f)).collect();
            return match reasons.iter().position(Result::is_ok) {
                Some(k) => reasons.swap_remove(k),
                None => match reasons.into_iter().next() {
                    Some(Err(reason)) => Err(format!("JETC_NVRTC: {reason}")),
                    _ => Err(format!("JETC_NVRTC: {} holds no such library", named.display())),
                },
            };
        }
        let mut broken = None;
        for candidate in folders::nvrtc_candidates() {
            match Self::open(&candidate) {
                Ok(found) => return Ok(found),
                Err(reason) if candidate.is_absolute() => broken = broken.or(Some(reason)),
                Err(_) => {}
            }
        }
        let looked = "looked in CUDA_HOME, CUDA_PATH, the loader's path, jetc's own folder and Python's packages";
        Err(broken.unwrap_or_else(|| looked.into()))
    }

    /// The compiler in a file: a path, or a name that the loader finds.
    ///
    /// # Errors
    /// Where it cannot be loaded, or is something else.
    pub fn open(file: &Path) -> Result<Nvrtc, String> {
        let wrong = |e: libloading::Error| format!("{}: {e}", file.display());
        // SAFETY: the initialisers of the library are NVIDIA's; the file is one that the user, or the loader, names so.
        let library = unsafe { Library::new(file) }.map_err(wrong)?;
        /// # Safety
        /// `F` must be the type of that function.
        unsafe fn get<F: Copy>(library: &Library, name: &str) -> Result<F, libloading::Error> {
            // SAFETY: promised by the caller
            unsafe { library.get::<F>(name.as_bytes()) }.map(|f| *f)
        }
        // SAFETY: the types are those of nvrtc.h, which have not changed since CUDA 11.2; enumerations are ints.
        let found = unsafe {
            let bytes = |what: &str| -> Result<Bytes, libloading::Error> {
                Ok(Bytes {
                    size: get(&library, &format!("nvrtcGet{what}Size"))?,
                    get: get(&library, &format!("nvrtcGet{what}"))?,
                })
            };
            let functions = || -> Result<Functions, libloading::Error> {
                Ok(Functions {
                    create: get(&library, "nvrtcCreateProgram")?,
                    compile: get(&library, "nvrtcCompileProgram")?,
                    destroy: get(&library, "nvrtcDestroyProgram")?,
                    text: get(&library, "nvrtcGetErrorString")?,
                    log: bytes("ProgramLog")?,
                    ptx: bytes("PTX")?,
                    cubin: bytes("CUBIN")?,
                })
            };
            let functions = functions().map_err(wrong)?;
            let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status =
                get(&library, "nvrtcVersion").map_err(wrong)?;
            let count: unsafe extern "C" fn(*mut c_int) -> Status =
                get(&library, "nvrtcGetNumSupportedArchs").map_err(wrong)?;
            let archs: unsafe extern "C" fn(*mut c_int) -> Status =
                get(&library, "nvrtcGetSupportedArchs").map_err(wrong)?;
            let (mut major, mut minor, mut n) = (0, 0, 0);
            version(&mut major, &mut minor);
            count(&mut n);
            let mut known = vec![0; n.max(0) as usize];
            archs(known.as_mut_ptr());
            let known = known.into_iter().map(|n| n as u32).collect();
            (functions, (major as u32, minor as u32), known)
        };
        let (functions, version, known) = found;
        Ok(Nvrtc { functions, path: folders::loaded_from(file, "libnvrtc.so"), version, known, _library: library })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Version: (12, 9).
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Numbers of the processors that it knows, ascending.
    pub fn known(&self) -> &[u32] {
        &self.known
    }

    /// Compiles a module.
    ///
    /// # Errors
    /// Where the text does not compile, or the processor is not known.
    pub fn compile(&self, request: &Request<'_>) -> Result<Compiled, CompileError> {
        if !self.known.contains(&request.arch.number) {
            return Err(CompileError::Arch { version: self.version, arch: request.arch, known: self.known.clone() });
        }
        let started = Instant::now();
        let module = &request.module.name;
        let name = || CompileError::Compiler { module: module.clone(), reason: "its text holds a zero byte".into() };
        let text = CString::new(request.module.text.as_str()).map_err(|_| name())?;
        let file = CString::new(format!("{module}.cu")).map_err(|_| name())?;
        let options = request.options().into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
        let options = options.map_err(|_| name())?;
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let program = Program::new(&self.functions, &text, &file).map_err(|e| self.failed(module, e))?;
        // SAFETY: the program lives; so many options follow, each ends in a zero byte.
        let status = unsafe { (self.functions.compile)(program.handle, options.len() as c_int, options.as_ptr()) };
        let log = program.bytes(self.functions.log).map(|b| text_of(&b)).unwrap_or_default();
        match status {
            0 => {}
            COMPILATION => return Err(CompileError::Text { module: module.clone(), arch: request.arch, log }),
            other => return Err(self.failed(module, other)),
        }
        let get = match request.kind {
            Kind::Cubin => self.functions.cubin,
            Kind::Ptx => self.functions.ptx,
        };
        let image = program.bytes(get).map_err(|e| self.failed(module, e))?;
        Ok(Compiled { kind: request.kind, image, log, took: Some(started.elapsed()) })
    }

    fn failed(&self, module: &str, status: Status) -> CompileError {
        // SAFETY: any number is allowed; the text is static.
        let reason = unsafe {
            let text = (self.functions.text)(status);
            if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
        };
        CompileError::Compiler { module: module.into(), reason: format!("{reason} (error {status})") }
    }
}

/// A program of the library, destroyed at the end.
struct Program<'a> {
    functions: &'a Functions,
    handle: Handle,
}

impl<'a> Program<'a> {
    fn new(functions: &'a Functions, text: &CStr, file: &CStr) -> Result<Self, Status> {
        let mut handle = null_mut();
        // SAFETY: both texts end in a zero byte and are copied; there are no headers.
        match unsafe { (functions.create)(&mut handle, text.as_ptr(), file.as_ptr(), 0, null(), null()) } {
            0 => Ok(Program { functions, handle }),
            status => Err(status),
        }
    }

    fn bytes(&self, of: Bytes) -> Result<Vec<u8>, Status> {
        let mut size = 0;
        // SAFETY: the program lives, and so many bytes are there to be written.
        unsafe {
            match (of.size)(self.handle, &mut size) {
                0 => {}
                status => return Err(status),
            }
            let mut bytes = vec![0u8; size];
            match (of.get)(self.handle, bytes.as_mut_ptr().cast()) {
                0 => Ok(bytes),
                status => Err(status),
            }
        }
    }
}

impl Drop for Program<'_> {
    fn drop(&mut self) {
        // SAFETY: it is not used any more.
        unsafe { (self.functions.destroy)(&mut self.handle) };
    }
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').trim_end().to_string()
}

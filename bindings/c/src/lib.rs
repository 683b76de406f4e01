//! jetc for C: opaque handles, error strings, no panics across the boundary.
//!
//! Every function that can fail returns a status, or a null handle, and takes `error`: null, or a place for a string that says
//! what was wrong and must be freed with `jetc_string_free`. It is set to null where nothing was. Handles may be used from several
//! threads at once, but for the functions that free them. Arrays are row-major: [points, columns].

#![allow(non_camel_case_types)]

use jetc::ndarray::{ArrayView2, ArrayViewMut2};
use jetc::train::{Flow, Progress};
use jetc::{Compiled, Error, Place, Solver, TrainOptions};
use std::ffi::{CStr, CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// How a call ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetcStatus {
    /// Well.
    JETC_OK = 0,
    /// A null pointer, or a string that is not UTF-8.
    JETC_ARGUMENT = 1,
    /// The program has errors.
    JETC_PROGRAM = 2,
    /// A file cannot be read or written, or is damaged.
    JETC_FILE = 3,
    /// An array has the wrong size, or a tensor is missing.
    JETC_SHAPE = 4,
    /// A point is outside of the domain, or not finite.
    JETC_DOMAIN = 5,
    /// Something that this version cannot do, or a failure of training.
    JETC_FAILED = 6,
}
use JetcStatus::*;

/// Where a point lies.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetcPlace {
    /// In the domain.
    JETC_INSIDE = 0,
    /// Outside: the values are an extrapolation.
    JETC_OUTSIDE = 1,
    /// A coordinate is infinite or NaN: the values mean nothing.
    JETC_NOT_FINITE = 2,
}

/// A compiled program.
pub struct JetcProgram(Compiled);

/// An operator with weights, or a trained solution, that knows its domain.
pub struct JetcSolver {
    double: Solver<f64>,
    single: OnceLock<Solver<f32>>,
}

/// Sees every step of training: number of updates done, of updates in all, loss; the last argument is the caller's own. Training
/// goes on while it returns true.
pub type JetcObserver = Option<extern "C" fn(step: u64, steps: u64, loss: f64, context: *mut c_void) -> bool>;

struct Failure(JetcStatus, String);

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        let status = match e {
            Error::Program { .. } => JETC_PROGRAM,
            Error::Read { .. } | Error::Artifact(_) | Error::Weights(_) => JETC_FILE,
            Error::Shape(_) | Error::Missing { .. } => JETC_SHAPE,
            Error::Outside { .. } | Error::NotFinite { .. } => JETC_DOMAIN,
            _ => JETC_FAILED,
        };
        Failure(status, e.to_string())
    }
}

type Outcome<T> = Result<T, Failure>;

fn wrong(what: &str) -> Failure {
    Failure(JETC_ARGUMENT, what.into())
}

/// Runs, and says what was wrong.
///
/// # Safety
/// `error` is null or can be written.
unsafe fn guard<T>(error: *mut *mut c_char, run: impl FnOnce() -> Outcome<T>) -> Result<T, JetcStatus> {
    // A panic would be a defect of jetc; whatever it left behind is behind locks and handles that stay valid.
    let result = catch_unwind(AssertUnwindSafe(run));
    let result = result.unwrap_or_else(|_| Err(Failure(JETC_FAILED, "internal error: a panic".into())));
    let text = |message: String| CString::new(message.replace('\0', " ")).map_or(null_mut(), CString::into_raw);
    let (result, message) = match result {
        Ok(value) => (Ok(value), null_mut()),
        Err(Failure(status, message)) => (Err(status), if error.is_null() { null_mut() } else { text(message) }),
    };
    if !error.is_null() {
        // SAFETY: the caller says that it can be written.
        unsafe { *error = message };
    }
    result
}

fn handle<T>(result: Result<T, JetcStatus>) -> *mut T {
    result.map_or(null_mut(), |value| Box::into_raw(Box::new(value)))
}

fn status(result: Result<(), JetcStatus>) -> JetcStatus {
    result.err().unwrap_or(JETC_OK)
}

/// # Safety
/// `text` is null or a string that ends with zero.
unsafe fn string<'a>(text: *const c_char, what: &str) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(wrong(&format!("{what} is null")));
    }
    // SAFETY: not null, and the caller says that it ends.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|e| wrong(&format!("{what}: {e}")))
}

/// # Safety
/// `pointer` is null or valid.
unsafe fn reference<'a, T>(pointer: *const T, what: &str) -> Outcome<&'a T> {
    // SAFETY: as the caller says.
    unsafe { pointer.as_ref() }.ok_or_else(|| wrong(&format!("{what} is null")))
}

/// # Safety
/// `data` is null or holds rows * columns numbers.
unsafe fn matrix<'a, T>(data: *const T, rows: usize, columns: usize, what: &str) -> Outcome<ArrayView2<'a, T>> {
    check(data, rows, columns, what)?;
    // SAFETY: not null unless empty, aligned, and as large as the caller says.
    let data = if rows * columns == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, rows * columns) } };
    ArrayView2::from_shape((rows, columns), data).map_err(|e| wrong(&e.to_string()))
}

/// # Safety
/// `data` is null or has room for rows * columns numbers, which nothing else refers to.
unsafe fn matrix_mut<'a, T>(data: *mut T, rows: usize, columns: usize, what: &str) -> Outcome<ArrayViewMut2<'a, T>> {
    check(data, rows, columns, what)?;
    let data =
        // SAFETY: not null unless empty, aligned, and as large as the caller says.
        if rows * columns == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(data, rows * columns) } };
    ArrayViewMut2::from_shape((rows, columns), data).map_err(|e| wrong(&e.to_string()))
}

fn check<T>(data: *const T, rows: usize, columns: usize, what: &str) -> Outcome<()> {
    let bytes = rows.checked_mul(columns).and_then(|n| n.checked_mul(size_of::<T>()));
    if bytes.is_none_or(|n| n > isize::MAX as usize) {
        return Err(wrong(&format!("{what} is too large")));
    }
    if (data.is_null() && rows * columns > 0) || !data.is_aligned() {
        return Err(wrong(&format!("{what} is null or not aligned")));
    }
    Ok(())
}

fn solver(double: Solver<f64>) -> JetcSolver {
    JetcSolver { double, single: OnceLock::new() }
}

/// Compiles a program. Null on an error.
///
/// # Safety
/// `text` is a string that ends with zero; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_compile(text: *const c_char, error: *mut *mut c_char) -> *mut JetcProgram {
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, || Ok(JetcProgram(Compiled::from_text(string(text, "the text")?)?))) })
}

/// Compiles a file. Null on an error.
///
/// # Safety
/// `path` is a string that ends with zero; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_compile_file(path: *const c_char, error: *mut *mut c_char) -> *mut JetcProgram {
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, || Ok(JetcProgram(Compiled::from_file(string(path, "the path")?)?))) })
}

/// What will be computed, for people. Free it with `jetc_string_free`; null on an error.
///
/// # Safety
/// `program` is a handle; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_plan(program: *const JetcProgram, error: *mut *mut c_char) -> *mut c_char {
    let text = || {
        // SAFETY: as the caller says.
        let program = unsafe { reference(program, "the program") }?;
        CString::new(program.0.plan_text()).map_err(|e| wrong(&e.to_string()))
    };
    // SAFETY: as the caller says.
    unsafe { guard(error, text) }.map_or(null_mut(), CString::into_raw)
}

/// The program with the initial weights of a seed. Null on an error.
///
/// # Safety
/// `program` is a handle; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_initial(
    program: *const JetcProgram,
    seed: u64,
    error: *mut *mut c_char,
) -> *mut JetcSolver {
    let run = || {
        // SAFETY: as the caller says.
        let program = &unsafe { reference(program, "the program") }?.0;
        Ok(solver(program.solver(program.parameters(seed))?))
    };
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, run) })
}

/// Trains the program in f64: `steps` updates, 0 for those of its `train` statement. `out` is null or a folder for checkpoint, history
/// and report. Null on an error.
///
/// # Safety
/// `program` is a handle; `out` is null or a string that ends with zero; `observer` may be called with `context`; `error` is null
/// or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_train(
    program: *const JetcProgram,
    steps: u64,
    seed: u64,
    out: *const c_char,
    observer: JetcObserver,
    context: *mut c_void,
    error: *mut *mut c_char,
) -> *mut JetcSolver {
    let run = || {
        // SAFETY: as the caller says.
        let program = &unsafe { reference(program, "the program") }?.0;
        // SAFETY: as the caller says.
        let out = if out.is_null() { None } else { Some(PathBuf::from(unsafe { string(out, "the folder") }?)) };
        let options =
            TrainOptions { steps: (steps > 0).then_some(steps as usize), seed, out, ..TrainOptions::default() };
        let mut watch = |p: &Progress<'_>| match observer {
            Some(observer) if !observer(p.step, p.steps, p.loss, context) => Flow::Stop,
            _ => Flow::Continue,
        };
        Ok(solver(program.train(&options, &mut watch)?.solver))
    };
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, run) })
}

/// The same solver on a device: `auto` (a GPU where everything is there for it, else the CPU), `cpu`, `cuda:0`. A new handle; null
/// on an error.
///
/// # Safety
/// `solver` is a handle; `device` is a string that ends with zero; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_solver_on(
    solver: *const JetcSolver,
    device: *const c_char,
    error: *mut *mut c_char,
) -> *mut JetcSolver {
    let run = || {
        // SAFETY: as the caller says.
        let (old, device) = unsafe { (reference(solver, "the solver")?, string(device, "the device")?) };
        Ok(self::solver(old.double.on(device.parse().map_err(Error::from)?)?))
    };
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, run) })
}

/// Loads an artifact: `NAME.solver` of `jetc build`, `solver.safetensors` of `jetc train`. Null on an error.
///
/// # Safety
/// `path` is a string that ends with zero; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_load(path: *const c_char, error: *mut *mut c_char) -> *mut JetcSolver {
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, || Ok(solver(Solver::load(string(path, "the path")?)?))) })
}

/// The same from memory.
///
/// # Safety
/// `bytes` holds `len` bytes; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_load_bytes(
    bytes: *const u8,
    len: usize,
    error: *mut *mut c_char,
) -> *mut JetcSolver {
    let run = || {
        // SAFETY: as the caller says.
        let bytes = unsafe { matrix(bytes, 1, len, "the artifact") }?;
        Ok(solver(Solver::from_bytes(bytes.to_slice().unwrap_or_default())?))
    };
    // SAFETY: as the caller says.
    handle(unsafe { guard(error, run) })
}

/// Writes an artifact, atomically.
///
/// # Safety
/// `solver` is a handle; `path` is a string that ends with zero; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_save(
    solver: *const JetcSolver,
    path: *const c_char,
    error: *mut *mut c_char,
) -> JetcStatus {
    // SAFETY: as the caller says.
    status(unsafe { guard(error, || Ok(reference(solver, "the solver")?.double.save(string(path, "the path")?)?)) })
}

/// Columns of a point; 0 for null.
///
/// # Safety
/// `solver` is null or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_columns(solver: *const JetcSolver) -> usize {
    // SAFETY: as the caller says.
    unsafe { solver.as_ref() }.map_or(0, |s| s.double.operator().columns())
}

/// Columns of the values; 0 for null.
///
/// # Safety
/// `solver` is null or a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_width(solver: *const JetcSolver) -> usize {
    // SAFETY: as the caller says.
    unsafe { solver.as_ref() }.map_or(0, |s| s.double.operator().width())
}

/// Values at `count` points of the domain, in f64: `points` [count, columns] to `values` [count, width]. Here and below an array that is
/// written has no part in common with another.
///
/// # Safety
/// `solver` is a handle; the arrays are as large as said, and what is written is apart; `error` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_eval(
    solver: *const JetcSolver,
    points: *const f64,
    count: usize,
    values: *mut f64,
    error: *mut *mut c_char,
) -> JetcStatus {
    let run = || {
        // SAFETY: as the caller says.
        let solver = &unsafe { reference(solver, "the solver") }?.double;
        // SAFETY: as the caller says.
        unsafe { eval(solver, points, count, values) }
    };
    // SAFETY: as the caller says.
    status(unsafe { guard(error, run) })
}

/// The same in f32.
///
/// # Safety
/// As `jetc_eval`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_eval_f32(
    solver: *const JetcSolver,
    points: *const f32,
    count: usize,
    values: *mut f32,
    error: *mut *mut c_char,
) -> JetcStatus {
    let run = || {
        // SAFETY: as the caller says.
        let solver = unsafe { reference(solver, "the solver") }?;
        let single = match solver.single.get() {
            Some(single) => single,
            None => {
                let single = solver.double.cast()?;
                solver.single.get_or_init(|| single)
            }
        };
        // SAFETY: as the caller says.
        unsafe { eval(single, points, count, values) }
    };
    // SAFETY: as the caller says.
    status(unsafe { guard(error, run) })
}

/// # Safety
/// The arrays are as large as said.
unsafe fn eval<T: jetc::Number>(
    solver: &Solver<T>,
    points: *const T,
    count: usize,
    values: *mut T,
) -> Outcome<()> {
    let operator = solver.operator();
    // SAFETY: as the caller says.
    let points = unsafe { matrix(points, count, operator.columns(), "the array of points") }?;
    // SAFETY: as the caller says.
    let mut values = unsafe { matrix_mut(values, count, operator.width(), "the array of values") }?;
    values.assign(&solver.eval(points)?);
    Ok(())
}

/// Values at any points, in f64, and where each point lies: `places` [count].
///
/// # Safety
/// As `jetc_eval`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_eval_flagged(
    solver: *const JetcSolver,
    points: *const f64,
    count: usize,
    values: *mut f64,
    places: *mut JetcPlace,
    error: *mut *mut c_char,
) -> JetcStatus {
    let run = || {
        // SAFETY: as the caller says.
        let solver = &unsafe { reference(solver, "the solver") }?.double;
        let operator = solver.operator();
        // SAFETY: as the caller says.
        let points = unsafe { matrix(points, count, operator.columns(), "the array of points") }?;
        // SAFETY: as the caller says.
        let mut out = unsafe { matrix_mut(values, count, operator.width(), "the array of values") }?;
        // SAFETY: as the caller says; as numbers, because what is there may be no place.
        let mut flags = unsafe { matrix_mut(places.cast::<u8>(), count, 1, "the array of places") }?;
        let (values, places) = solver.eval_flagged(points)?;
        out.assign(&values);
        for (to, place) in flags.iter_mut().zip(places) {
            *to = match place {
                Place::Inside => JetcPlace::JETC_INSIDE,
                Place::Outside => JetcPlace::JETC_OUTSIDE,
                Place::NotFinite => JetcPlace::JETC_NOT_FINITE,
            } as u8;
        }
        Ok(())
    };
    // SAFETY: as the caller says.
    status(unsafe { guard(error, run) })
}

/// The gradient of sum(cotangent * values) with respect to points of the domain, in f64: `cotangent` [count, width] to `gradient`
/// [count, columns].
///
/// # Safety
/// As `jetc_eval`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_vjp(
    solver: *const JetcSolver,
    points: *const f64,
    count: usize,
    cotangent: *const f64,
    gradient: *mut f64,
    error: *mut *mut c_char,
) -> JetcStatus {
    let run = || {
        // SAFETY: as the caller says.
        let solver = &unsafe { reference(solver, "the solver") }?.double;
        let (columns, width) = (solver.operator().columns(), solver.operator().width());
        // SAFETY: as the caller says.
        let points = unsafe { matrix(points, count, columns, "the array of points") }?;
        // SAFETY: as the caller says.
        let cotangent = unsafe { matrix(cotangent, count, width, "the cotangent") }?;
        // SAFETY: as the caller says.
        let mut gradient = unsafe { matrix_mut(gradient, count, columns, "the array of the gradient") }?;
        gradient.assign(&solver.vjp(points, cotangent)?.points);
        Ok(())
    };
    // SAFETY: as the caller says.
    status(unsafe { guard(error, run) })
}

/// Frees a program; null is fine.
///
/// # Safety
/// `program` is null or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_program_free(program: *mut JetcProgram) {
    if !program.is_null() {
        // SAFETY: it came from a box, and the caller says that nobody uses it.
        drop(unsafe { Box::from_raw(program) });
    }
}

/// Frees a solver; null is fine.
///
/// # Safety
/// `solver` is null or a handle that nobody uses any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_solver_free(solver: *mut JetcSolver) {
    if !solver.is_null() {
        // SAFETY: it came from a box, and the caller says that nobody uses it.
        drop(unsafe { Box::from_raw(solver) });
    }
}

/// Frees a string that jetc gave; null is fine.
///
/// # Safety
/// `string` is null or came from jetc, and nobody uses it any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn jetc_string_free(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: it came from `CString::into_raw`, and the caller says that nobody uses it.
        drop(unsafe { CString::from_raw(string) });
    }
}

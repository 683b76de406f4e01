//! jetc for Python: thin over the library. Arrays are numpy's; the interpreter is released while jetc works.

use jetc::ndarray::{ArrayD, ArrayView2};
use jetc::net::WeightsError;
use jetc::train::{Flow, Progress};
use jetc::{
    ArtifactError as Unusable, Compiled, Compiler, Device, Error, Number, Parameters, Place, Solver, TrainOptions,
};
use numpy::{IntoPyArray, PyArray2, PyArrayDyn, PyArrayMethods, PyReadonlyArray2, PyReadonlyArrayDyn};
use pyo3::create_exception;
use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::path::PathBuf;

create_exception!(jetc, JetcError, PyValueError, "Something that jetc refuses: a program, an artifact, an argument.");
create_exception!(jetc, ProgramError, JetcError, "A program with errors: the message shows each with its place.");
create_exception!(jetc, ArtifactError, JetcError, "A file that is no artifact, or a damaged one.");
create_exception!(jetc, DomainError, JetcError, "A point outside of the domain, or not finite.");

fn raise(e: Error) -> PyErr {
    let text = e.to_string();
    match e {
        Error::Program { .. } => ProgramError::new_err(text),
        Error::Read { .. }
        | Error::Weights(WeightsError::Read { .. } | WeightsError::Write { .. })
        | Error::Artifact(Unusable::Tensor(WeightsError::Read { .. })) => PyOSError::new_err(text),
        Error::Artifact(_) => ArtifactError::new_err(text),
        Error::Outside { .. } | Error::NotFinite { .. } => DomainError::new_err(text),
        _ => JetcError::new_err(text),
    }
}

/// A compiled program.
#[pyclass(frozen, module = "jetc")]
struct Program(Compiled);

/// A solver in the precision of its parameters.
enum Both {
    F32(Solver<f32>),
    F64(Solver<f64>),
}

/// An operator with weights, or a trained solution, that knows its domain.
#[pyclass(frozen, module = "jetc", name = "Solver")]
struct PySolver(Both);

/// Does the same in either precision.
macro_rules! either {
    ($both:expr, $s:ident => $body:expr) => {
        match $both {
            Both::F32($s) => $body,
            Both::F64($s) => $body,
        }
    };
}

fn is_single(dtype: &str) -> PyResult<bool> {
    match dtype {
        "float32" => Ok(true),
        "float64" => Ok(false),
        other => Err(PyTypeError::new_err(format!("dtype {other:?}: expected 'float32' or 'float64'"))),
    }
}

/// Compiles a program from its text.
#[pyfunction]
#[pyo3(signature = (text, *, set=None, estimate=None, device="cpu"))]
fn compile(
    py: Python<'_>,
    text: &str,
    set: Option<Vec<(String, String)>>,
    estimate: Option<Vec<(String, String)>>,
    device: &str,
) -> PyResult<Program> {
    let compiler = compiler(set, estimate).device(device_of(device)?);
    py.detach(|| compiler.text(text)).map(Program).map_err(raise)
}

/// Compiles a file; data files are relative to its folder.
#[pyfunction]
#[pyo3(signature = (path, *, set=None, estimate=None, device="cpu"))]
fn compile_file(
    py: Python<'_>,
    path: PathBuf,
    set: Option<Vec<(String, String)>>,
    estimate: Option<Vec<(String, String)>>,
    device: &str,
) -> PyResult<Program> {
    let compiler = compiler(set, estimate).device(device_of(device)?);
    py.detach(|| compiler.file(path)).map(Program).map_err(raise)
}

fn device_of(name: &str) -> PyResult<Device> {
    name.parse().map_err(|e: jetc::UnknownDevice| raise(e.into()))
}

fn compiler(set: Option<Vec<(String, String)>>, estimate: Option<Vec<(String, String)>>) -> Compiler {
    let compiler = set.into_iter().flatten().fold(Compiler::new(), |c, (name, value)| c.set(name, value));
    estimate.into_iter().flatten().fold(compiler, |c, (target, method)| c.estimate(target, method))
}

/// Loads an artifact: `NAME.solver` of `jetc build`, `solver.safetensors` of `jetc train`.
#[pyfunction]
#[pyo3(signature = (path, *, dtype="float64", device="cpu"))]
fn load(py: Python<'_>, path: PathBuf, dtype: &str, device: &str) -> PyResult<PySolver> {
    let (single, device) = (is_single(dtype)?, device_of(device)?);
    let load = || -> Result<Both, Error> {
        Ok(match single {
            true => Both::F32(Solver::load(path)?.on(device)?),
            false => Both::F64(Solver::load(path)?.on(device)?),
        })
    };
    py.detach(load).map(PySolver).map_err(raise)
}

#[pymethods]
impl Program {
    /// What will be computed, for people.
    fn plan(&self) -> String {
        self.0.plan_text()
    }

    /// The same as JSON.
    fn plan_json(&self) -> String {
        self.0.plan_json()
    }

    /// What may not have been meant.
    fn warnings(&self) -> Vec<String> {
        self.0.warnings().iter().map(ToString::to_string).collect()
    }

    /// The program with initial weights.
    #[pyo3(signature = (seed=0, *, dtype="float64"))]
    fn solver(&self, py: Python<'_>, seed: u64, dtype: &str) -> PyResult<PySolver> {
        let single = is_single(dtype)?;
        let make = || -> Result<Both, Error> {
            Ok(match single {
                true => Both::F32(self.0.solver(self.0.parameters(seed))?),
                false => Both::F64(self.0.solver(self.0.parameters(seed))?),
            })
        };
        py.detach(make).map(PySolver).map_err(raise)
    }

    /// Trains from initial weights. `progress(step, steps, loss)` is called after each step; training stops where it returns False.
    #[pyo3(signature = (*, steps=None, seed=0, dtype="float32", out=None, resume=false, progress=None))]
    #[allow(clippy::too_many_arguments)]
    fn train(
        &self,
        py: Python<'_>,
        steps: Option<usize>,
        seed: u64,
        dtype: &str,
        out: Option<PathBuf>,
        resume: bool,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<PySolver> {
        let single = is_single(dtype)?;
        let options = TrainOptions { steps, seed, out, resume, measure_every: None };
        let mut raised = None;
        let trained = py.detach(|| {
            let mut watch = |p: &Progress<'_>| -> Flow {
                let call = |py: Python<'_>| -> PyResult<bool> {
                    py.check_signals()?;
                    let Some(progress) = &progress else { return Ok(true) };
                    let answer = progress.call1(py, (p.step, p.steps, p.loss))?;
                    Ok(answer.extract::<bool>(py).unwrap_or(true))
                };
                match Python::attach(call) {
                    Ok(true) => Flow::Continue,
                    Ok(false) => Flow::Stop,
                    Err(e) => {
                        raised = Some(e);
                        Flow::Stop
                    }
                }
            };
            Ok(match single {
                true => Both::F32(self.0.train(&options, &mut watch)?.solver),
                false => Both::F64(self.0.train(&options, &mut watch)?.solver),
            })
        });
        match raised {
            Some(e) => Err(e),
            None => trained.map(PySolver).map_err(raise),
        }
    }
}

#[pymethods]
impl PySolver {
    /// Names of the columns of a point, with the number of columns of each.
    #[getter]
    fn inputs(&self) -> Vec<(String, usize)> {
        either!(&self.0, s => s.inputs().iter().map(|i| (i.name.clone(), i.len)).collect())
    }

    /// Names and shapes of the results, in the order of their columns.
    #[getter]
    fn results(&self) -> Vec<(String, Vec<usize>)> {
        either!(&self.0, s => s.quantities().iter().map(|q| (q.name.clone(), q.shape.clone())).collect())
    }

    /// 'float32' or 'float64'.
    #[getter]
    fn dtype(&self) -> &'static str {
        match self.0 {
            Both::F32(_) => "float32",
            Both::F64(_) => "float64",
        }
    }

    /// The text of the program.
    #[getter]
    fn program(&self) -> String {
        either!(&self.0, s => s.program().to_string())
    }

    /// Where it runs: 'cpu', 'cuda:0 (NVIDIA H200)', 'host'.
    #[getter]
    fn device(&self) -> String {
        either!(&self.0, s => s.operator().device())
    }

    /// The same solver on a device: 'auto' (a GPU where everything is there for it, else the CPU), 'cpu', 'cuda:0', 'host'.
    fn on(&self, py: Python<'_>, device: &str) -> PyResult<PySolver> {
        let device = device_of(device)?;
        let moved = || -> Result<Both, Error> {
            Ok(match &self.0 {
                Both::F32(s) => Both::F32(s.on(device)?),
                Both::F64(s) => Both::F64(s.on(device)?),
            })
        };
        py.detach(moved).map(PySolver).map_err(raise)
    }

    /// Values at points of the domain: [points, columns] to [points, width].
    fn eval<'py>(&self, py: Python<'py>, points: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        either!(&self.0, s => eval(py, s, points))
    }

    /// Values at any points, and where each lies: 0 inside, 1 outside, 2 not finite.
    fn eval_flagged<'py>(
        &self,
        py: Python<'py>,
        points: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        either!(&self.0, s => flagged(py, s, points))
    }

    /// The gradient of sum(cotangent * values): with respect to the points, and to each learned tensor by name.
    fn vjp<'py>(
        &self,
        py: Python<'py>,
        points: &Bound<'py, PyAny>,
        cotangent: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
        either!(&self.0, s => vjp(py, s, points, cotangent))
    }

    /// All tensors by name: copies.
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        either!(&self.0, s => dictionary(py, s.parameters()))
    }

    /// The same solver with other tensors, by name; those that are not named stay.
    fn with_parameters(&self, tensors: &Bound<'_, PyDict>) -> PyResult<PySolver> {
        Ok(PySolver(match &self.0 {
            Both::F32(s) => Both::F32(replaced(s, tensors)?),
            Both::F64(s) => Both::F64(replaced(s, tensors)?),
        }))
    }

    /// Writes an artifact.
    fn save(&self, path: PathBuf) -> PyResult<()> {
        either!(&self.0, s => s.save(path)).map_err(raise)
    }
}

/// Precisions that numpy has too.
trait Real: Number + numpy::Element {}
impl Real for f32 {}
impl Real for f64 {}

/// An argument as an array of this precision: as it is, or converted by numpy.
fn array<'py, T: Real>(py: Python<'py>, any: &Bound<'py, PyAny>) -> PyResult<PyReadonlyArray2<'py, T>> {
    let converted = converted::<T>(py, any)?;
    let shape = converted.getattr("shape")?;
    let array = converted.cast_into::<PyArray2<T>>().map_err(|_| {
        PyValueError::new_err(format!("an array of shape {shape}: expected two axes, [points, columns]"))
    })?;
    Ok(array.try_readonly()?)
}

/// An argument with numbers of this precision, aligned: of a view into records, whose rows may begin anywhere, a copy.
fn converted<'py, T: Real>(py: Python<'py>, any: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    py.import("numpy")?.call_method1("require", (any, numpy::dtype::<T>(py), ["ALIGNED"]))
}

fn eval<'py, T: Real>(py: Python<'py>, s: &Solver<T>, points: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let points = array::<T>(py, points)?;
    let view: ArrayView2<'_, T> = points.as_array();
    let values = py.detach(|| s.eval(view)).map_err(raise)?;
    Ok(values.into_pyarray(py).into_any())
}

fn flagged<'py, T: Real>(
    py: Python<'py>,
    s: &Solver<T>,
    points: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let points = array::<T>(py, points)?;
    let view = points.as_array();
    let (values, places) = py.detach(|| s.eval_flagged(view)).map_err(raise)?;
    let number = |p: &Place| match p {
        Place::Inside => 0u8,
        Place::Outside => 1,
        Place::NotFinite => 2,
    };
    let places: Vec<u8> = places.iter().map(number).collect();
    Ok((values.into_pyarray(py).into_any(), places.into_pyarray(py).into_any()))
}

fn vjp<'py, T: Real>(
    py: Python<'py>,
    s: &Solver<T>,
    points: &Bound<'py, PyAny>,
    cotangent: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyDict>)> {
    let (points, cotangent) = (array::<T>(py, points)?, array::<T>(py, cotangent)?);
    let (p, c) = (points.as_array(), cotangent.as_array());
    let gradient = py.detach(|| s.vjp(p, c)).map_err(raise)?;
    Ok((gradient.points.into_pyarray(py).into_any(), dictionary(py, &gradient.parameters)?))
}

fn dictionary<'py, T: Real>(py: Python<'py>, parameters: &Parameters<T>) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    for spec in parameters.specs() {
        let Some(view) = parameters.view(&spec.name) else { continue };
        let owned: ArrayD<T> = view.as_standard_layout().into_owned();
        out.set_item(&spec.name, owned.into_pyarray(py))?;
    }
    Ok(out)
}

fn replaced<T: Real>(s: &Solver<T>, tensors: &Bound<'_, PyDict>) -> PyResult<Solver<T>> {
    let mut s = s.clone();
    for (name, value) in tensors.iter() {
        let name: String = name.extract()?;
        let value = converted::<T>(tensors.py(), &value)?.cast_into::<PyArrayDyn<T>>().map_err(PyErr::from)?;
        let value: PyReadonlyArrayDyn<'_, T> = value.try_readonly()?;
        let Some(mut to) = s.parameters_mut().view_mut(&name) else {
            return Err(JetcError::new_err(format!("there is no tensor `{name}`")));
        };
        let from = value.as_array();
        if to.shape() != from.shape() {
            let (found, expected) = (from.shape(), to.shape());
            return Err(JetcError::new_err(format!("`{name}`: shape {found:?} where {expected:?} is expected")));
        }
        to.assign(&from);
    }
    Ok(s)
}

/// The module `jetc._jetc`.
#[pymodule]
fn _jetc(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Program>()?;
    m.add_class::<PySolver>()?;
    m.add_function(wrap_pyfunction!(compile, m)?)?;
    m.add_function(wrap_pyfunction!(compile_file, m)?)?;
    m.add_function(wrap_pyfunction!(load, m)?)?;
    m.add("JetcError", m.py().get_type::<JetcError>())?;
    m.add("ProgramError", m.py().get_type::<ProgramError>())?;
    m.add("ArtifactError", m.py().get_type::<ArtifactError>())?;
    m.add("DomainError", m.py().get_type::<DomainError>())?;
    Ok(())
}

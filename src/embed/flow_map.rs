//! A flow as a map: points now to points after a time, and the gradient of that.

use super::compiled::{Compiler, check_tensors, error, inputs, read};
use super::inputs::{Input, check_finite};
use super::kernels::Opened;
use super::operator::{add_mean, check_columns, check_cotangent, rows};
use super::{Error, Gradient};
use crate::cpu::Number;
use crate::diagnostic::Diagnostic;
use crate::net::{Parameters, TensorSpec, layout};
use crate::plan::{FlowPlan, plan_flow};
use crate::program::Program;
use crate::solver::flow::{Interval, Pace, Runner, Stopped, Tape};
use crate::solver::{self, Tensors};
use ndarray::{Array2, ArrayView2};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The flow map of a program: by the method that its `flow` statement names, on the compiler's device.
///
/// ```
/// use jetc::{Compiler, ndarray::array};
///
/// let text = "state s\nflow d_t(s) = -s by dopri5(rtol = 1e-9, atol = 1e-12)\n";
/// let flow = Compiler::new().flow::<f64>(text)?;
/// let end = flow.advance(&flow.parameters(0), array![[1.0], [2.0]].view(), 1.0)?;
/// assert!((end[[1, 0]] - 2.0 * (-1f64).exp()).abs() < 1e-8);
///
/// // 1/(1 - t) ends at time 1
/// let flow = Compiler::new().flow::<f64>("state s\nflow d_t(s) = s^2 by dopri5(rtol = 1e-9, atol = 1e-12)\n")?;
/// let error = flow.advance(&flow.parameters(0), array![[0.1], [1.0]].view(), 2.0).unwrap_err();
/// assert!(matches!(error, jetc::Error::Left { point: 1, time, .. } if (time - 1.0).abs() < 1e-6), "{error}");
/// # Ok::<(), jetc::Error>(())
/// ```
pub struct FlowMap<T> {
    pub(super) shared: Arc<Shared<T>>,
    draw: (u64, u64),
}

impl<T> Clone for FlowMap<T> {
    fn clone(&self) -> Self {
        FlowMap { shared: self.shared.clone(), draw: self.draw }
    }
}

pub(super) struct Shared<T> {
    pub name: String,
    pub text: String,
    pub folder: PathBuf,
    pub overrides: String,
    /// As it is written: what is trained.
    pub program: Program,
    pub plan: FlowPlan,
    pub device: Opened,
    pub specs: Vec<TensorSpec>,
    warnings: Vec<Diagnostic>,
    inputs: Vec<Input>,
    /// Of the flow with what it reads from data in its points; or why there is none.
    runner: Result<Runner<T>, String>,
}

impl<T> fmt::Debug for FlowMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { inputs, device, .. } = &*self.shared;
        f.debug_struct("FlowMap").field("inputs", inputs).field("device", device).finish_non_exhaustive()
    }
}

impl Compiler {
    /// Compiles the flow of a text.
    ///
    /// ```
    /// use jetc::Compiler;
    ///
    /// let flow = Compiler::new().flow::<f32>("state s[2]\nflow d_t(s) = [s[1], -s[0]] by rk4(step = 0.1)\n")?;
    /// assert_eq!((flow.inputs()[0].name.as_str(), flow.inputs()[0].len), ("s", 2));
    /// assert!(Compiler::new().flow::<f32>("space x\noutput r = d_x(x)\n").is_err());
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Program`] with all errors; [`Error::Missing`] without a `flow`, or for data that were given and are not declared;
    /// [`Error::Device`].
    pub fn flow<T: Number>(&self, text: &str) -> Result<FlowMap<T>, Error> {
        self.flow_named("program.jet", text, Path::new(""))
    }

    /// Compiles the flow of a file; data files are relative to its folder.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("decay.jet");
    /// std::fs::write(&path, "state s\nflow d_t(s) = -s by euler(step = 0.1)\n").unwrap();
    /// assert_eq!(jetc::Compiler::new().flow_file::<f64>(&path)?.inputs().len(), 1);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiler::flow`], and [`Error::Read`].
    pub fn flow_file<T: Number>(&self, path: impl AsRef<Path>) -> Result<FlowMap<T>, Error> {
        let path = path.as_ref();
        let (name, text) = read(path)?;
        self.flow_named(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    fn flow_named<T: Number>(&self, name: &str, text: &str, folder: &Path) -> Result<FlowMap<T>, Error> {
        let device = Opened::new(self.device)?;
        let (program, warnings) = self.program(name, text)?;
        let plan = plan_flow(&program).map_err(|d| error(name, text, vec![d]))?;
        let Some(plan) = plan else {
            return Err(Error::Missing { what: "statement", name: "flow".into(), found: Vec::new() });
        };
        let (moving, moved) = match plan.inputs {
            Some(_) => {
                let moving = program.with_inputs_in_points();
                let moved = plan_flow(&moving);
                (moving, moved.map_err(|d| format!("{name}: with its inputs in the points: {}", d.message)))
            }
            None => (program.clone(), Ok(Some(plan.clone()))),
        };
        let runner = match moved {
            Ok(Some(moved)) => Ok(Runner::on(device.device(), &moving, moved).map_err(|e| failed(e, &device))?),
            Ok(None) => Err(format!("{name}: there is no flow")),
            Err(why) => Err(why),
        };
        let shared = Shared {
            name: name.into(),
            text: text.into(),
            folder: folder.into(),
            overrides: self.overrides.text(),
            inputs: inputs(&moving),
            specs: layout(&program),
            warnings,
            runner,
            device,
            program,
            plan,
        };
        Ok(FlowMap { shared: Arc::new(shared), draw: (0, 0) })
    }
}

impl<T: Number> FlowMap<T> {
    /// What a point is made of, in order: state and time in the order of their declarations, and what the right side reads from data,
    /// which is the same on the whole way.
    ///
    /// ```
    /// use jetc::{Compiler, ndarray::array};
    ///
    /// let text = "state s\ndata runs = \"runs.csv\"\nflow d_t(s) = runs.push by rk4(step = 0.1)\n";
    /// let flow = Compiler::new().flow::<f64>(text)?;
    /// assert_eq!(flow.inputs()[1].name, "runs.push");
    /// let end = flow.advance(&flow.parameters(0), array![[1.0, 0.5]].view(), 4.0)?;
    /// assert!((end[[0, 0]] - 3.0).abs() < 1e-12 && end[[0, 1]] == 0.5);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn inputs(&self) -> &[Input] {
        &self.shared.inputs
    }

    /// What may not have been meant.
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.shared.warnings
    }

    /// Where it runs: `cpu`, `cuda:0 (NVIDIA H200)`, `host`.
    pub fn device(&self) -> String {
        self.shared.device.to_string()
    }

    /// The same map with other random numbers in its estimators: functions of (seed, step). Without estimators nothing changes.
    ///
    /// ```
    /// use jetc::{Compiler, ndarray::Array2};
    ///
    /// let text = "state s[4]\nnet F = mlp(width = 8, depth = 2, activation = tanh, outputs = 4)\n\
    ///             let trace = sum(i in 0..4: d(F(s)[i], s[i]))\nestimate trace by rademacher(1)\nflow d_t(s) = trace*s by rk4(step = 0.1)\n";
    /// let flow = Compiler::new().flow::<f64>(text)?;
    /// let (w, x) = (flow.parameters(0), Array2::from_elem((1, 4), 0.5));
    /// let end = |step| flow.with_draw(7, step).advance(&w, x.view(), 0.1);
    /// assert_eq!(end(1)?, end(1)?);
    /// assert_ne!(end(1)?, end(2)?);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn with_draw(&self, seed: u64, step: u64) -> Self {
        FlowMap { shared: self.shared.clone(), draw: (seed, step) }
    }

    /// Initial parameters, as [`Compiled::parameters`](super::Compiled::parameters); `load` reads those of a trained run.
    ///
    /// ```
    /// use jetc::Compiler;
    ///
    /// let text = "state s\nnet F = mlp(width = 4, depth = 2, activation = tanh)\nflow d_t(s) = F(s) by rk4(step = 0.1)\n";
    /// let flow = Compiler::new().flow::<f32>(text)?;
    /// assert_eq!(flow.parameters(0).get("F.0.weight").unwrap().len(), 4);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn parameters(&self, seed: u64) -> Parameters<T> {
        Parameters::initial(&self.shared.program, seed)
    }

    /// Points, [count, columns], after a time: [count, columns]. A declared time goes on, too.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of columns, or of elements of a tensor; [`Error::NotFinite`] for a point;
    /// [`Error::Left`] where a trajectory ends before; [`Error::Missing`] for a tensor; [`Error::Unsupported`] for a time that is negative,
    /// not finite, or too many steps away, and where weights of an estimate read an input.
    pub fn advance(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        time: f64,
    ) -> Result<Array2<T>, Error> {
        let moved = self.moved(parameters, points, time, None)?;
        Ok(rows(moved.into_iter().map(T::of).collect(), points.nrows(), points.ncols()))
    }

    /// The product of a cotangent, [count, columns], with the Jacobian of [`FlowMap::advance`]: the gradient of sum(cotangent * points
    /// after the time) with respect to the points and to the learned tensors, exact for the steps that were taken.
    ///
    /// ```
    /// use jetc::{Compiler, ndarray::array};
    ///
    /// // s(t) = s(0) exp(a t)
    /// let text = "state s\nparam a = -2 learn\nflow d_t(s) = a*s by dopri5(rtol = 1e-10, atol = 1e-12)\n";
    /// let flow = Compiler::new().flow::<f64>(text)?;
    /// let gradient = flow.vjp(&flow.parameters(0), array![[3.0]].view(), 0.5, array![[1.0]].view())?;
    /// let decay = (-1f64).exp();
    /// assert!((gradient.points[[0, 0]] - decay).abs() < 1e-8);
    /// assert!((gradient.parameters.get("a").unwrap()[0] - 0.5 * 3.0 * decay).abs() < 1e-8);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`FlowMap::advance`]; [`Error::Shape`] for a cotangent of another shape.
    pub fn vjp(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        time: f64,
        cotangent: ArrayView2<'_, T>,
    ) -> Result<Gradient<T>, Error> {
        let (count, columns) = points.dim();
        check_columns(points, self.runner()?.plan.step.columns, self.inputs())?;
        check_cotangent(cotangent, (count, columns))?;
        let mut tape = Tape::of(Pace::Rollout);
        let moved = self.moved(parameters, points, time, Some(&mut tape))?;
        let mut bars: Vec<f64> = cotangent.iter().map(|x| x.f64()).collect();
        let mut sums = parameters.zeros_of_learned();
        let take = &mut |name: &str, gradient: &[T]| add_mean(&mut sums, name, gradient, count);
        let done = self.runner()?.back(&Tensors::of(parameters), tape, &mut bars, (0.0, self.draw), take);
        done.map_err(|e| failed(e, &self.shared.device))?;
        let array = |numbers: Vec<f64>| rows(numbers.into_iter().map(T::of).collect(), count, columns);
        Ok(Gradient { values: array(moved), points: array(bars), parameters: sums })
    }

    fn runner(&self) -> Result<&Runner<T>, Error> {
        self.shared.runner.as_ref().map_err(|why| Error::Unsupported(why.clone()))
    }

    /// Points after a time, and the way there.
    fn moved(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        time: f64,
        tape: Option<&mut Tape<T>>,
    ) -> Result<Vec<f64>, Error> {
        let (runner, inputs) = (self.runner()?, self.inputs());
        check_columns(points, runner.plan.step.columns, inputs)?;
        check_tensors(&self.shared.specs, parameters)?;
        points.outer_iter().enumerate().try_for_each(|(k, point)| check_finite(inputs, k, point))?;
        if !(0.0..f64::INFINITY).contains(&time) {
            return Err(Error::Unsupported(format!("a time of {time}; expected a number from 0 on")));
        }
        let mut moved: Vec<f64> = points.iter().map(|x| x.f64()).collect();
        if points.nrows() == 0 || time == 0.0 {
            return Ok(moved);
        }
        let lengths = vec![time; points.nrows()];
        let (interval, tensors) = (Interval { inputs: &[], lengths: &lengths }, Tensors::of(parameters));
        let done = runner.advance(&tensors, &mut moved, interval, tape, self.draw);
        let why = |stopped| match stopped {
            Stopped::NotFinite { .. } => "a number is not finite",
            Stopped::TooSmall { .. } => "the steps became too small: the flow is stiff or singular",
        };
        let left = |stopped: Stopped| {
            let (at, point) = stopped.place();
            Error::Left { point, time: at * time, why: why(stopped) }
        };
        done.map_err(|e| failed(e, &self.shared.device))?.map_err(left)?;
        Ok(moved)
    }
}

fn failed(error: solver::Error, device: &Opened) -> Error {
    match error {
        solver::Error::Program(invalid) => Error::Internal(invalid),
        solver::Error::Shape(shape) => Error::Shape(shape),
        solver::Error::Tensor(name) => Error::Missing { what: "tensor", name, found: Vec::new() },
        solver::Error::Diagnostic(d) => Error::Unsupported(d.message),
        solver::Error::Data(e) => Error::Unsupported(e.to_string()),
        solver::Error::Device(e) => Error::Device { name: device.to_string(), source: e.into() },
    }
}

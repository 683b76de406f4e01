//! A flow as a map: points now to points after a time, and the gradient of that.

use super::compiled::{Compiler, error, inputs, read};
use super::inputs::Input;
use super::kernels::Opened;
use super::operator::{add_mean, check_columns, check_cotangent, rows};
use super::{Error, Gradient};
use crate::cpu::Number;
use crate::net::Parameters;
use crate::plan::{FlowPlan, plan_flow};
use crate::program::Program;
use crate::solver::flow::{Interval, Pace, Runner, Stopped, Tape};
use crate::solver::{self, Tensors};
use ndarray::{Array2, ArrayView2};
use std::fmt;
use std::path::{Path, PathBuf};

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
    pub(super) name: String,
    pub(super) text: String,
    pub(super) folder: PathBuf,
    pub(super) overrides: String,
    /// As it is written: what is trained.
    pub(super) program: Program,
    pub(super) plan: FlowPlan,
    inputs: Vec<Input>,
    /// Of the flow with what it reads from data in its points.
    runner: Runner<T>,
    pub(super) device: Opened,
}

impl<T> fmt::Debug for FlowMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowMap").field("inputs", &self.inputs).field("device", &self.device).finish_non_exhaustive()
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
    /// [`Error::Program`] with all errors; [`Error::Missing`] without a `flow`; [`Error::Device`].
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
        let (program, _) = self.program(name, text)?;
        let planned = |program: &Program| {
            let plan = plan_flow(program).map_err(|d| error(name, text, vec![d]))?;
            plan.ok_or_else(|| Error::Missing { what: "statement", name: "flow".into(), found: Vec::new() })
        };
        let plan = planned(&program)?;
        let (moving, moved) = match plan.inputs {
            Some(_) => {
                let moving = program.with_inputs_in_points();
                let plan = planned(&moving)?;
                (moving, plan)
            }
            None => (program.clone(), plan.clone()),
        };
        Ok(FlowMap {
            name: name.into(),
            text: text.into(),
            folder: folder.into(),
            overrides: self.changes(),
            inputs: inputs(&moving),
            runner: Runner::on(device.device(), &moving, moved).map_err(|e| failed(e, &device))?,
            device,
            program,
            plan,
        })
    }
}

impl<T: Number> FlowMap<T> {
    /// What a point is made of, in order: the state, the time where the program declares it, and what the right side reads from data,
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
        &self.inputs
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
        Parameters::initial(&self.program, seed)
    }

    /// Points, [count, columns], after a time: [count, columns]. A declared time goes on, too.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of columns; [`Error::Left`] where a trajectory ends before; [`Error::Missing`] for a tensor;
    /// [`Error::Unsupported`] for a time that is negative or not finite.
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
        let mut tape = Tape::of(Pace::Rollout);
        let moved = self.moved(parameters, points, time, Some(&mut tape))?;
        check_cotangent(cotangent, (count, columns))?;
        let mut bars: Vec<f64> = cotangent.iter().map(|x| x.f64()).collect();
        let mut sums = parameters.zeros_of_learned();
        let take = &mut |name: &str, gradient: &[T]| add_mean(&mut sums, name, gradient, count);
        let done = self.runner.back(&Tensors::of(parameters), tape, &mut bars, (0.0, (0, 0)), take);
        done.map_err(|e| failed(e, &self.device))?;
        let array = |numbers: Vec<f64>| rows(numbers.into_iter().map(T::of).collect(), count, columns);
        Ok(Gradient { values: array(moved), points: array(bars), parameters: sums })
    }

    /// Points after a time, and the way there.
    fn moved(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        time: f64,
        tape: Option<&mut Tape<T>>,
    ) -> Result<Vec<f64>, Error> {
        check_columns(points, self.runner.plan.step.columns, &self.inputs)?;
        if !(0.0..f64::INFINITY).contains(&time) {
            return Err(Error::Unsupported(format!("a time of {time}; expected a number from 0 on")));
        }
        let mut moved: Vec<f64> = points.iter().map(|x| x.f64()).collect();
        if points.nrows() == 0 || time == 0.0 {
            return Ok(moved);
        }
        let lengths = vec![time; points.nrows()];
        let (interval, tensors) = (Interval { inputs: &[], lengths: &lengths }, Tensors::of(parameters));
        let done = self.runner.advance(&tensors, &mut moved, interval, tape, (0, 0));
        let why = |stopped| match stopped {
            Stopped::NotFinite { .. } => "a number is not finite",
            Stopped::TooSmall { .. } => "the steps became too small: the flow is stiff or singular",
        };
        let left = |stopped: Stopped| {
            let (at, point) = stopped.place();
            Error::Left { point, time: at * time, why: why(stopped) }
        };
        done.map_err(|e| failed(e, &self.device))?.map_err(left)?;
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

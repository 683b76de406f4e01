//! A flow as a map: points now to points after a time.

use super::Error;
use super::compiled::{Compiler, error, inputs};
use super::inputs::Input;
use super::kernels::Opened;
use super::operator::{check_columns, rows};
use crate::cpu::Number;
use crate::net::Parameters;
use crate::plan::plan_flow;
use crate::program::Program;
use crate::solver::flow::{Interval, Runner, Stopped};
use crate::solver::{self, Tensors};
use ndarray::{Array2, ArrayView2};
use std::fmt;
use std::path::Path;

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
    program: Program,
    inputs: Vec<Input>,
    runner: Runner<T>,
    device: Opened,
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
    /// [`Error::Program`] with all errors; [`Error::Missing`] without a `flow`; [`Error::Unsupported`] for one that reads inputs from
    /// data; [`Error::Device`].
    pub fn flow<T: Number>(&self, text: &str) -> Result<FlowMap<T>, Error> {
        self.flow_named("program.jet", text)
    }

    /// Compiles the flow of a file.
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
        let (name, text) = super::compiled::read(path.as_ref())?;
        self.flow_named(&name, &text)
    }

    fn flow_named<T: Number>(&self, name: &str, text: &str) -> Result<FlowMap<T>, Error> {
        let device = Opened::new(self.device)?;
        let (program, diagnostics) = solver::compile(text, &self.overrides);
        let Some(program) = program else { return Err(error(name, text, diagnostics)) };
        let plan = plan_flow(&program).map_err(|d| error(name, text, vec![d]))?;
        let Some(plan) = plan else {
            return Err(Error::Missing { what: "statement", name: "flow".into(), found: Vec::new() });
        };
        if plan.inputs.is_some() {
            return Err(Error::Unsupported(format!(
                "{name}: the flow reads inputs from a data set, which has none here"
            )));
        }
        let runner = Runner::on(device.device(), &program, plan).map_err(|e| failed(e, &device))?;
        Ok(FlowMap { inputs: inputs(&program), runner, device, program })
    }
}

impl<T: Number> FlowMap<T> {
    /// What a point is made of, in order: the state, and the time where the program declares it.
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
        let columns = self.program.columns();
        check_columns(points, columns, &self.inputs)?;
        if !(0.0..f64::INFINITY).contains(&time) {
            return Err(Error::Unsupported(format!("a time of {time}; expected a number from 0 on")));
        }
        let mut moved: Vec<f64> = points.iter().map(|x| x.f64()).collect();
        if points.nrows() > 0 && time > 0.0 {
            let lengths = vec![time; points.nrows()];
            let interval = Interval { inputs: &[], lengths: &lengths };
            let done = self.runner.advance(&Tensors::of(parameters), &mut moved, interval, None, (0, 0));
            done.map_err(|e| failed(e, &self.device))?.map_err(|stopped| match stopped {
                Stopped::NotFinite { at, point } => {
                    Error::Left { point, time: at * time, why: "a number is not finite" }
                }
                Stopped::TooSmall { at, point } => Error::Left {
                    point,
                    time: at * time,
                    why: "the steps became too small: the flow is stiff or singular",
                },
            })?;
        }
        Ok(rows(moved.into_iter().map(T::of).collect(), points.nrows(), columns))
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

//! A compiled function of a point and of parameters, with its vector-Jacobian product.

use super::Error;
use super::inputs::{self, Input, Quantity};
use super::kernels::{Kernels, Opened};
use crate::cpu::{Beside, Call, Executor, Number, Points, ShapeError};
use crate::jet::{JetProgram, Type, vjp};
use crate::net::Parameters;
use ndarray::{Array2, ArrayView2};
use std::sync::{Arc, OnceLock};

/// What a program computes at a point, without the values of its tensors: those are given with each call, so that a caller's
/// own optimiser can change them. Cloning is cheap; calls from several threads at once are fine.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// use jetc::{Compiled, ndarray::array};
///
/// let text = "space x, y\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = N(x, y)\noutput r = lap(u)\n";
/// let compiled = Compiled::from_text(text)?;
/// let laplacian = compiled.outputs::<f64>()?;
/// let mut weights = compiled.parameters::<f64>(0);
/// let points = array![[0.1, 0.2], [0.3, 0.4]];
/// // one step of gradient descent on the loss sum r^2
/// let values = laplacian.eval(&weights, points.view())?;
/// let gradient = laplacian.vjp(&weights, points.view(), (2.0 * &values).view())?;
/// for (name, w) in weights.learned_mut() {
///     for (w, g) in w.iter_mut().zip(gradient.parameters.get(name).unwrap()) {
///         *w -= 1e-3 * g;
///     }
/// }
/// let after = laplacian.eval(&weights, points.view())?;
/// assert!(after.mapv(|r| r * r).sum() < values.mapv(|r| r * r).sum());
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Debug)]
pub struct Operator<T> {
    shared: Arc<Shared<T>>,
    draw: (u64, u64),
}

impl<T> Clone for Operator<T> {
    fn clone(&self) -> Self {
        Operator { shared: self.shared.clone(), draw: self.draw }
    }
}

#[derive(Debug)]
struct Shared<T> {
    inputs: Vec<Input>,
    quantities: Vec<Quantity>,
    width: usize,
    device: Opened,
    values: Prepared<T>,
    gradient: OnceLock<Result<Prepared<T>, Error>>,
}

/// A program made ready: the CPU's own form of it, and kernels where another device runs it.
#[derive(Debug)]
struct Prepared<T> {
    executor: Executor<T>,
    kernels: Option<Kernels<T>>,
}

impl<T: Number> Prepared<T> {
    fn new(program: &JetProgram, device: &Opened) -> Result<Self, Error> {
        Ok(Prepared { executor: Executor::new(program)?, kernels: Kernels::of(device, program)? })
    }

    fn run(
        &self,
        points: &[T],
        call: &Call<'_, T>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        match &self.kernels {
            Some(kernels) if call.count > 0 => {
                self.executor.check(call, outputs, gradients)?;
                kernels.run(points, call, outputs, gradients)
            }
            _ => Ok(self.executor.run_whole(call, outputs, gradients)?),
        }
    }
}

/// A vector-Jacobian product.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
/// let gradient = operator.vjp(&parameters, array![[1.0, 3.0]].view(), array![[1.0, 0.0, 0.0]].view())?;
/// assert_eq!(gradient.values, array![[6.0, 6.0, 1.0]]);
/// assert_eq!(gradient.points, array![[0.0, 2.0]]);
/// assert!(gradient.parameters.specs().is_empty()); // there is nothing to learn here
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient<T> {
    /// The values themselves: [points, width].
    pub values: Array2<T>,
    /// With respect to the points: [points, columns].
    pub points: Array2<T>,
    /// With respect to the learned tensors that the function depends on, summed over the points; zero for the others. Fixed
    /// tensors are not in it.
    pub parameters: Parameters<T>,
}

impl<T: Number> Operator<T> {
    /// Prepares a program whose output 0 holds the quantities.
    ///
    /// # Errors
    /// [`Error::Device`], [`Error::Internal`], [`Error::Unsupported`] where the program reads a data set.
    pub(super) fn new(
        inputs: Vec<Input>,
        quantities: Vec<Quantity>,
        program: &JetProgram,
        device: &Opened,
    ) -> Result<Self, Error> {
        if program.data_columns > 0 {
            return Err(Error::Unsupported(
                "this reads a data set, which belongs to conditions and reports and is not there at evaluation".into(),
            ));
        }
        let width = match program.outputs.first().map(|o| o.1.index()) {
            Some(value) => match &program.types()?[value] {
                Type::PerPoint { rows, features } => rows * features,
                Type::Reduced { .. } => 0,
            },
            None => 0,
        };
        let values = Prepared::new(program, device)?;
        let device = device.clone();
        let shared = Shared { inputs, quantities, width, device, values, gradient: OnceLock::new() };
        Ok(Operator { shared: Arc::new(shared), draw: (0, 0) })
    }

    /// The coordinates of a point, in the order of their columns.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert_eq!(operator.inputs()[1].name, "y");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn inputs(&self) -> &[Input] {
        &self.shared.inputs
    }

    /// The named results, in the order of their columns.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// let names: Vec<&str> = operator.quantities().iter().map(|q| q.name.as_str()).collect();
    /// assert_eq!(names, ["r", "g"]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn quantities(&self) -> &[Quantity] {
        &self.shared.quantities
    }

    /// Columns of a point.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert_eq!(operator.columns(), 2);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn columns(&self) -> usize {
        self.program().columns
    }

    /// Columns of the values.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert_eq!(operator.width(), 3); // r, g[0], g[1]
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn width(&self) -> usize {
        self.shared.width
    }

    /// The program that runs.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert!(operator.program().to_string().contains("points"));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn program(&self) -> &JetProgram {
        self.shared.values.executor.program()
    }

    /// Where it runs: `cpu`, `cuda:0 (NVIDIA H200)`, `host`.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert_eq!(operator.device(), "cpu");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn device(&self) -> String {
        self.shared.device.to_string()
    }

    /// The same function with other random numbers in its estimators: functions of (seed, step). Without estimators nothing changes.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiler, ndarray::Array2};
    /// let compiled = Compiler::new().estimate("r", "sparse(2)").text(
    ///     "space x[9]\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = lap(N(x))\n",
    /// )?;
    /// let (operator, w) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// let x = Array2::from_elem((1, 9), 0.5);
    /// let draw = |seed, step| operator.with_draw(seed, step).eval(&w, x.view());
    /// assert_eq!(draw(7, 1)?, draw(7, 1)?);
    /// assert_ne!(draw(7, 1)?, draw(7, 2)?);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn with_draw(&self, seed: u64, step: u64) -> Self {
        Operator { shared: self.shared.clone(), draw: (seed, step) }
    }

    /// The values at points: [points, columns] to [points, width]. Points in row-major layout are not copied.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// assert_eq!(operator.eval(&parameters, array![[1.0, 3.0]].view())?, array![[6.0, 6.0, 1.0]]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of columns, or of elements of a tensor; [`Error::Missing`] for a tensor.
    pub fn eval(&self, parameters: &Parameters<T>, points: ArrayView2<'_, T>) -> Result<Array2<T>, Error> {
        let mut out = Array2::zeros((0, self.width()));
        self.eval_into(parameters, points, &mut out)?;
        Ok(out)
    }

    /// The same into an array whose memory is used again; it gets the shape [points, width].
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// let mut values = array![[]];
    /// for x in [1.0, 2.0] {
    ///     operator.eval_into(&parameters, array![[x, 3.0]].view(), &mut values)?;
    ///     assert_eq!(values, array![[6.0, 6.0 * x, x * x]]);
    /// }
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Operator::eval`]; the array is empty then.
    pub fn eval_into(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        out: &mut Array2<T>,
    ) -> Result<(), Error> {
        let (empty, count) = (Array2::zeros((0, self.width())), points.nrows());
        let mut outputs = vec![std::mem::replace(out, empty).into_raw_vec_and_offset().0];
        outputs.resize_with(self.program().outputs.len(), Vec::new);
        self.run(&self.shared.values, parameters, points, &[], &mut outputs, &mut [])?;
        *out = rows(outputs.swap_remove(0), count, self.width());
        Ok(())
    }

    /// The product of a cotangent, [points, width], with the Jacobian of the values: the gradient of sum(cotangent * values) with
    /// respect to the points and to the learned tensors.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let (operator, parameters) = (compiled.outputs::<f64>()?, compiled.parameters::<f64>(0));
    /// // d/dx and d/dy of 2xy, which is g[0]
    /// let gradient = operator.vjp(&parameters, array![[1.0, 3.0]].view(), array![[0.0, 1.0, 0.0]].view())?;
    /// assert_eq!(gradient.points, array![[6.0, 2.0]]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Operator::eval`]; [`Error::Unsupported`] where there is no derivative.
    pub fn vjp(
        &self,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        cotangent: ArrayView2<'_, T>,
    ) -> Result<Gradient<T>, Error> {
        let (count, width) = (points.nrows(), self.width());
        check_cotangent(cotangent, (count, width))?;
        let prepare = || Prepared::new(&vjp(self.program(), false)?, &self.shared.device);
        let prepared = self.shared.gradient.get_or_init(prepare);
        let prepared = prepared.as_ref().map_err(|e| Error::Unsupported(e.to_string()))?;
        let program = prepared.executor.program();
        let mut outputs = vec![Vec::new(); program.outputs.len()];
        let mut gradients = vec![Vec::new(); program.gradients.len()];
        let cotangent = cotangent.as_standard_layout();
        let data = cotangent.as_slice().unwrap_or_default();
        self.run(prepared, parameters, points, data, &mut outputs, &mut gradients)?;
        let mut sums = parameters.zeros_of_learned();
        for ((tensor, _), gradient) in program.gradients.iter().zip(gradients) {
            add_mean(&mut sums, &program.tensors[tensor.index()].name, &gradient, count);
        }
        let bar = program.outputs.iter().position(|o| o.0 == "points-bar");
        let bar = bar.map(|k| std::mem::take(&mut outputs[k])).unwrap_or_default();
        let values = std::mem::take(&mut outputs[0]);
        Ok(Gradient { values: rows(values, count, width), points: rows(bar, count, self.columns()), parameters: sums })
    }

    fn run(
        &self,
        prepared: &Prepared<T>,
        parameters: &Parameters<T>,
        points: ArrayView2<'_, T>,
        data: &[T],
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        let program = prepared.executor.program();
        check_columns(points, program.columns, self.inputs())?;
        let tensor = |t: &crate::jet::Tensor| {
            let found = || parameters.specs().iter().map(|s| s.name.clone()).collect();
            let missing = || Error::Missing { what: "tensor", name: t.name.clone(), found: found() };
            let values = parameters.get(&t.name).ok_or_else(missing)?;
            let (what, expected, found) = (t.name.clone(), t.len(), values.len());
            // an empty one would stand for zeros
            if found == expected { Ok(values) } else { Err(Error::Shape(ShapeError { what, expected, found })) }
        };
        let tensors = program.tensors.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let points = points.as_standard_layout();
        let (count, rows) = (points.nrows(), points.as_slice().unwrap_or_default());
        let (random, beside) = (self.draw.into(), Beside::default());
        let call = Call { count, points: Points::Rows(rows), data, tensors: &tensors, random, beside };
        prepared.run(rows, &call, outputs, gradients)
    }
}

/// The first inputs, for messages.
fn names(inputs: &[Input]) -> String {
    let columns = inputs::columns(inputs);
    let mut names: Vec<String> = (0..columns.min(8)).map(|c| inputs::column_name(inputs, c)).collect();
    if columns > 8 {
        names.push("...".into());
    }
    names.join(", ")
}

/// Points must have a number for each column of the inputs.
pub(super) fn check_columns<T>(points: ArrayView2<'_, T>, expected: usize, inputs: &[Input]) -> Result<(), Error> {
    match points.ncols() {
        found if found == expected => Ok(()),
        found => Err(ShapeError { what: format!("columns of the points ({})", names(inputs)), expected, found }.into()),
    }
}

/// A cotangent has a number for each of the values.
pub(super) fn check_cotangent<T>(cotangent: ArrayView2<'_, T>, (count, width): (usize, usize)) -> Result<(), Error> {
    let (what, expected, found) = match cotangent.dim() {
        (rows, _) if rows != count => ("rows of the cotangent", count, rows),
        (_, columns) if columns != width => ("columns of the cotangent", width, columns),
        _ => return Ok(()),
    };
    Err(ShapeError { what: what.into(), expected, found }.into())
}

/// Adds the gradient of a tensor, if it is among these: a mean over so many points, as programs give it, becomes a sum.
pub(super) fn add_mean<T: Number>(sums: &mut Parameters<T>, name: &str, gradient: &[T], count: usize) {
    let scale = T::of(count as f64);
    sums.get_mut(name).into_iter().flatten().zip(gradient).for_each(|(sum, g)| *sum += scale * *g);
}

/// The executor gives [count, width] numbers; a result that depends on no point may be missing.
pub(super) fn rows<T: Number>(mut values: Vec<T>, count: usize, width: usize) -> Array2<T> {
    values.resize(count * width, T::of(0.0));
    Array2::from_shape_vec((count, width), values).unwrap_or_else(|_| Array2::zeros((count, width)))
}

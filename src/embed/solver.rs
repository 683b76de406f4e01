//! An operator with its parameters and its domain: what an artifact holds.

use super::artifact::{Artifact, Of};
use super::inputs::{self, Input, Place, Quantity};
use super::kernels::Opened;
use super::operator::{Gradient, Operator};
use super::{Device, Error};
use crate::cpu::Number;
use crate::net::{Parameters, TensorFile};
use ndarray::{Array2, ArrayView2};
use std::path::Path;
use std::sync::Arc;

/// A trained solution, or an operator with weights, that knows its domain. Cloning is cheap; calls from several threads at once
/// are fine, and give the same bits whatever the number of threads.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// use jetc::{Compiled, Error, Place, Solver, ndarray::array};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("u.solver");
/// let compiled = Compiled::from_text("space x in box(0..1)\nnet N = mlp(width = 8, depth = 2, activation = tanh)\n\
///                                     field u = x*(1 - x)*N(x)\nsolve interior: lap(u) = 1\n")?;
/// compiled.solver(compiled.parameters::<f64>(0))?.save(&path)?;
///
/// // elsewhere, without the compiler
/// let solver = Solver::<f64>::load(&path)?;
/// assert_eq!(solver.eval(array![[0.0], [1.0]].view())?, array![[0.0], [0.0]]);
/// assert!(matches!(solver.eval(array![[1.5]].view()), Err(Error::Outside { point: 0, .. })));
/// let (_, places) = solver.eval_flagged(array![[0.5], [1.5]].view())?;
/// assert_eq!(places, [Place::Inside, Place::Outside]);
/// // four threads, one solver
/// std::thread::scope(|scope| {
///     for k in 0..4 {
///         let solver = &solver;
///         scope.spawn(move || solver.eval(array![[k as f64 / 4.0]].view()).unwrap());
///     }
/// });
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Solver<T> {
    artifact: Arc<Artifact>,
    parameters: Arc<Parameters<T>>,
    operator: Operator<T>,
    of: Of,
    device: Opened,
}

impl<T: Number> Solver<T> {
    /// Loads an artifact: `NAME.solver` of `jetc build`, `solver.safetensors` of `jetc train`.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("u.solver");
    /// # solver.save(&path)?;
    /// let solver = Solver::<f32>::load(&path)?;
    /// assert_eq!(solver.at(&[0.5, 0.25])?, 0.5);
    /// assert!(Solver::<f32>::load("no/such.solver").is_err());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Artifact`] for a file that is missing, cut off, damaged, or of a newer version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = TensorFile::read(path.as_ref()).map_err(super::ArtifactError::from)?;
        Self::read(&file)
    }

    /// The same from bytes, such as those of `include_bytes!`.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("u.solver");
    /// # solver.save(&path)?;
    /// # let bytes = std::fs::read(&path).unwrap();
    /// assert_eq!(Solver::<f64>::from_bytes(&bytes)?.at(&[0.5, 0.25])?, 0.5);
    /// assert!(Solver::<f64>::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Solver::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(&TensorFile::from_bytes("the artifact", bytes.to_vec()))
    }

    fn read(file: &TensorFile) -> Result<Self, Error> {
        let (artifact, parameters) = Artifact::read(file)?;
        Self::new(Arc::new(artifact), Arc::new(parameters), Opened::cpu())
    }

    pub(super) fn new(artifact: Arc<Artifact>, parameters: Arc<Parameters<T>>, device: Opened) -> Result<Self, Error> {
        let of = artifact.parts.first().map_or(Of::Fields, |p| p.of);
        let operator = Self::part(&artifact, of, &device)?;
        Ok(Solver { artifact, parameters, operator, of, device })
    }

    fn part(artifact: &Artifact, of: Of, device: &Opened) -> Result<Operator<T>, Error> {
        let Some(part) = artifact.parts.iter().find(|p| p.of == of) else {
            let found = artifact.parts.iter().map(|p| p.of.name().to_string()).collect();
            return Err(Error::Missing { what: "group of results", name: of.name().into(), found });
        };
        Operator::new(artifact.inputs.clone(), part.quantities.clone(), &part.program, device)
    }

    /// Writes the artifact, atomically, with the parameters as they are now.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("u.solver");
    /// solver.save(&path)?;
    /// assert_eq!(Solver::<f64>::load(&path)?.program(), solver.program());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Weights`] where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        Ok(self.parameters.save(path.as_ref(), &self.artifact.metadata)?)
    }

    /// The same solver on another device.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// // a GPU where everything is there for it, else the CPU
    /// let solver = solver.on(jetc::Device::Auto)?;
    /// assert_eq!(solver.at(&[0.5, 0.25])?, 0.5);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn on(&self, device: Device) -> Result<Self, Error> {
        let device = Opened::new(device)?;
        let operator = Self::part(&self.artifact, self.of, &device)?;
        Ok(Solver { device, operator, ..self.clone() })
    }

    /// The same solver in another precision.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let single: Solver<f32> = solver.cast()?;
    /// assert_eq!(single.at(&[0.5, 0.25])?, 0.5);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// None that loading would not have given.
    pub fn cast<U: Number>(&self) -> Result<Solver<U>, Error> {
        let operator = Solver::<U>::part(&self.artifact, self.of, &self.device)?;
        let parameters = Arc::new(self.parameters.cast());
        Ok(Solver { artifact: self.artifact.clone(), parameters, operator, of: self.of, device: self.device.clone() })
    }

    /// The same solver with the outputs, or the fields, as its results. A solver shows the outputs where there are some.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let field = solver.showing(jetc::Of::Fields)?;
    /// assert_eq!(field.at(&[0.5, 0.25])?, 0.0625); // x^2 y
    /// assert_eq!(solver.at(&[0.5, 0.25])?, 0.5);    // its Laplacian
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Missing`] where the program has none.
    pub fn showing(&self, of: Of) -> Result<Self, Error> {
        let operator = Self::part(&self.artifact, of, &self.device)?;
        Ok(Solver { operator, of, ..self.clone() })
    }

    /// The coordinates of a point, in the order of their columns.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.inputs()[0].domain, jetc::Domain::Interval(0.0, 1.0));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn inputs(&self) -> &[Input] {
        &self.artifact.inputs
    }

    /// The named results, in the order of their columns.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.quantities()[1].shape, [2]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn quantities(&self) -> &[Quantity] {
        self.operator.quantities()
    }

    /// The text of the program.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert!(solver.program().contains("output r = lap(u)"));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn program(&self) -> &str {
        self.artifact.metadata.get("jetc.program").map_or("", String::as_str)
    }

    /// Everything that the artifact says, by key.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.metadata()["jetc.format"], "1");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn metadata(&self) -> &crate::net::Metadata {
        &self.artifact.metadata
    }

    /// The function without parameters.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// // the same function with parameters of the caller's own, at any points
    /// let values = solver.operator().eval(solver.parameters(), array![[5.0, 5.0]].view())?;
    /// assert_eq!(values, array![[10.0, 50.0, 25.0]]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn operator(&self) -> &Operator<T> {
        &self.operator
    }

    /// The parameters.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = d_xx(N(x))\n")?;
    /// # let mut solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let names: Vec<&str> = solver.parameters().specs().iter().map(|s| s.name.as_str()).collect();
    /// assert_eq!(names, ["N.0.weight", "N.0.bias", "N.1.weight", "N.1.bias"]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// The parameters, to be changed. Clones of this solver keep theirs.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = d_xx(N(x))\n")?;
    /// # let mut solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let before = solver.clone();
    /// solver.parameters_mut().values_mut().iter_mut().flatten().for_each(|w| *w = 0.0);
    /// assert_eq!(solver.at(&[0.3])?, 0.0);
    /// assert_ne!(before.at(&[0.3])?, 0.0);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn parameters_mut(&mut self) -> &mut Parameters<T> {
        Arc::make_mut(&mut self.parameters)
    }

    /// The values at points of the domain: [points, columns] to [points, width].
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.eval(array![[0.5, 0.25]].view())?, array![[0.5, 0.25, 0.25]]);
    /// assert!(solver.eval(array![[2.0, 0.25]].view()).is_err());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Outside`] and [`Error::NotFinite`] for the first such point, [`Error::Shape`].
    pub fn eval(&self, points: ArrayView2<'_, T>) -> Result<Array2<T>, Error> {
        self.check(points)?;
        self.operator.eval(&self.parameters, points)
    }

    /// The same into an array whose memory is used again; it gets the shape [points, width].
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let mut values = array![[]];
    /// solver.eval_into(array![[0.5, 0.25]].view(), &mut values)?;
    /// assert_eq!(values, array![[0.5, 0.25, 0.25]]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Solver::eval`].
    pub fn eval_into(&self, points: ArrayView2<'_, T>, out: &mut Array2<T>) -> Result<(), Error> {
        self.check(points)?;
        self.operator.eval_into(&self.parameters, points, out)
    }

    /// The values at any points, and where each point lies. Outside of the domain the values are an extrapolation; those of
    /// points that are not finite mean nothing.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// use jetc::Place;
    /// let (values, places) = solver.eval_flagged(array![[0.5, 0.25], [2.0, 0.5], [f64::NAN, 0.0]].view())?;
    /// assert_eq!(places, [Place::Inside, Place::Outside, Place::NotFinite]);
    /// assert_eq!(values[[1, 0]], 1.0);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn eval_flagged(&self, points: ArrayView2<'_, T>) -> Result<(Array2<T>, Vec<Place>), Error> {
        let values = self.operator.eval(&self.parameters, points)?;
        Ok((values, inputs::places(self.inputs(), points)))
    }

    /// The gradient of sum(cotangent * values) with respect to points of the domain and to the learned tensors.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// let gradient = solver.vjp(array![[0.5, 0.25]].view(), array![[1.0, 0.0, 0.0]].view())?;
    /// assert_eq!(gradient.points, array![[0.0, 2.0]]);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Solver::eval`], and where there is no derivative.
    pub fn vjp(&self, points: ArrayView2<'_, T>, cotangent: ArrayView2<'_, T>) -> Result<Gradient<T>, Error> {
        self.check(points)?;
        self.operator.vjp(&self.parameters, points, cotangent)
    }

    /// One number at one point: the first column of the values.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Solver, ndarray::array};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.at(&[0.5, 0.25])?, 0.5);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Solver::eval`].
    pub fn at(&self, point: &[T]) -> Result<T, Error> {
        let view = ArrayView2::from_shape((1, point.len()), point);
        let values = self.eval(view.unwrap_or_else(|_| ArrayView2::from(&[[]; 1])))?;
        values.first().copied().ok_or(Error::Missing { what: "result", name: "0".into(), found: Vec::new() })
    }

    fn check(&self, points: ArrayView2<'_, T>) -> Result<(), Error> {
        if points.ncols() != self.operator.columns() {
            return Ok(()); // said by the operator, with names
        }
        points.outer_iter().enumerate().try_for_each(|(k, p)| inputs::check(self.inputs(), k, p))
    }
}

//! An operator with its parameters and its domain: what an artifact holds.

use super::artifact::{Artifact, Of};
use super::inputs::{self, Input, Place, Quantity};
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
/// let compiled = Compiled::from_text("space x in 0..1\nnet N = mlp(width = 8, depth = 2, activation = tanh)\n\
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
    device: Device,
}

impl<T: Number> Solver<T> {
    /// Loads an artifact: `NAME.solver` of `jetc build`, `solver.safetensors` of `jetc train`.
    ///
    /// # Errors
    /// [`Error::Artifact`] for a file that is missing, cut off, damaged, or of a newer version.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = TensorFile::read(path.as_ref()).map_err(super::ArtifactError::from)?;
        Self::read(&file)
    }

    /// The same from bytes, such as those of `include_bytes!`.
    ///
    /// # Errors
    /// As [`Solver::load`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Self::read(&TensorFile::from_bytes("the artifact", bytes.to_vec()))
    }

    fn read(file: &TensorFile) -> Result<Self, Error> {
        let (artifact, parameters) = Artifact::read(file)?;
        Self::new(Arc::new(artifact), Arc::new(parameters), Device::default())
    }

    pub(super) fn new(artifact: Arc<Artifact>, parameters: Arc<Parameters<T>>, device: Device) -> Result<Self, Error> {
        let of = artifact.parts.first().map_or(Of::Fields, |p| p.of);
        let operator = Self::part(&artifact, of, device)?;
        Ok(Solver { artifact, parameters, operator, of, device })
    }

    fn part(artifact: &Artifact, of: Of, device: Device) -> Result<Operator<T>, Error> {
        let Some(part) = artifact.parts.iter().find(|p| p.of == of) else {
            let found = artifact.parts.iter().map(|p| p.of.name().to_string()).collect();
            return Err(Error::Missing { what: "group of results", name: of.name().into(), found });
        };
        Operator::new(artifact.inputs.clone(), part.quantities.clone(), &part.program, device)
    }

    /// Writes the artifact, atomically, with the parameters as they are now.
    ///
    /// # Errors
    /// [`Error::Weights`] where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        Ok(self.parameters.save(path.as_ref(), &self.artifact.metadata)?)
    }

    /// The same solver on another device.
    ///
    /// # Errors
    /// [`Error::Device`].
    pub fn on(&self, device: Device) -> Result<Self, Error> {
        let operator = Self::part(&self.artifact, self.of, device)?;
        Ok(Solver { device, operator, ..self.clone() })
    }

    /// The same solver in another precision.
    ///
    /// # Errors
    /// None that loading would not have given.
    pub fn cast<U: Number>(&self) -> Result<Solver<U>, Error> {
        let operator = Solver::<U>::part(&self.artifact, self.of, self.device)?;
        let parameters = Arc::new(self.parameters.cast());
        Ok(Solver { artifact: self.artifact.clone(), parameters, operator, of: self.of, device: self.device })
    }

    /// The same solver with the outputs, or the fields, as its results. A solver shows the outputs where there are some.
    ///
    /// # Errors
    /// [`Error::Missing`] where the program has none.
    pub fn showing(&self, of: Of) -> Result<Self, Error> {
        let operator = Self::part(&self.artifact, of, self.device)?;
        Ok(Solver { operator, of, ..self.clone() })
    }

    /// The coordinates of a point, in the order of their columns.
    pub fn inputs(&self) -> &[Input] {
        &self.artifact.inputs
    }

    /// The named results, in the order of their columns.
    pub fn quantities(&self) -> &[Quantity] {
        self.operator.quantities()
    }

    /// The text of the program.
    pub fn program(&self) -> &str {
        self.artifact.metadata.get("jetc.program").map_or("", String::as_str)
    }

    /// Everything that the artifact says, by key.
    pub fn metadata(&self) -> &crate::net::Metadata {
        &self.artifact.metadata
    }

    /// The function without parameters.
    pub fn operator(&self) -> &Operator<T> {
        &self.operator
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters<T> {
        &self.parameters
    }

    /// The parameters, to be changed. Clones of this solver keep theirs.
    pub fn parameters_mut(&mut self) -> &mut Parameters<T> {
        Arc::make_mut(&mut self.parameters)
    }

    /// The values at points of the domain: [points, columns] to [points, width].
    ///
    /// # Errors
    /// [`Error::Outside`] and [`Error::NotFinite`] for the first such point, [`Error::Shape`].
    pub fn eval(&self, points: ArrayView2<'_, T>) -> Result<Array2<T>, Error> {
        self.check(points)?;
        self.operator.eval(&self.parameters, points)
    }

    /// The same into an array whose memory is used again; it gets the shape [points, width].
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
    /// # Errors
    /// [`Error::Shape`].
    pub fn eval_flagged(&self, points: ArrayView2<'_, T>) -> Result<(Array2<T>, Vec<Place>), Error> {
        let values = self.operator.eval(&self.parameters, points)?;
        Ok((values, inputs::places(self.inputs(), points)))
    }

    /// The gradient of sum(cotangent * values) with respect to points of the domain and to the learned tensors.
    ///
    /// # Errors
    /// As [`Solver::eval`], and where there is no derivative.
    pub fn vjp(&self, points: ArrayView2<'_, T>, cotangent: ArrayView2<'_, T>) -> Result<Gradient<T>, Error> {
        self.check(points)?;
        self.operator.vjp(&self.parameters, points, cotangent)
    }

    /// One number at one point: the first column of the values.
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

//! Values of a point set at points.

use crate::cpu::{Beside, Call, Executor, Number, Points, Random, Streamed};
use crate::jet::{Invalid, JetProgram};
use crate::net::{Element, Parameters, TensorSpec};
use crate::program::Program;

/// Why something cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program breaks a rule of the representation: a defect of the compiler.
    #[error("internal: {0}")]
    Program(#[from] Invalid),
    /// Points or tensors of the wrong size.
    #[error(transparent)]
    Shape(#[from] crate::cpu::ShapeError),
    /// The parameters lack a tensor.
    #[error("the parameters have no tensor `{0}`")]
    Tensor(String),
    /// A domain cannot be sampled, or an expression cannot be planned.
    #[error("{0}")]
    Diagnostic(crate::diagnostic::Diagnostic),
    /// A data file is missing or damaged.
    #[error(transparent)]
    Data(#[from] crate::train::DataError),
    /// A device lacks something, refuses, or failed.
    #[error(transparent)]
    Device(#[from] crate::cuda::Error),
}

impl From<crate::diagnostic::Diagnostic> for Error {
    fn from(d: crate::diagnostic::Diagnostic) -> Self {
        Error::Diagnostic(d)
    }
}

/// The values of tensors, wherever they lie: in the order of the specs, as [`Parameters`] keeps them. An empty weight is zero.
#[derive(Clone, Debug)]
pub struct Tensors<'a, T> {
    /// Names and shapes.
    pub specs: &'a [TensorSpec],
    /// Values.
    pub values: Vec<&'a [T]>,
}

impl<'a, T: Element> Tensors<'a, T> {
    /// All of some parameters.
    pub fn of(parameters: &'a Parameters<T>) -> Self {
        Tensors { specs: parameters.specs(), values: parameters.values().iter().map(Vec::as_slice).collect() }
    }

    fn get(&self, name: &str) -> Option<&'a [T]> {
        self.specs.iter().position(|s| s.name == name).map(|k| self.values[k])
    }

    /// Those of a program, in its order.
    ///
    /// # Errors
    /// [`Error::Tensor`] for one that is not there.
    pub fn of_program(&self, program: &JetProgram) -> Result<Vec<&'a [T]>, Error> {
        let named = |t: &crate::jet::Tensor| self.get(&t.name).ok_or_else(|| Error::Tensor(t.name.clone()));
        program.tensors.iter().map(named).collect()
    }
}

/// A compiled program with the names of its tensors.
#[derive(Debug)]
pub struct Evaluator<T> {
    executor: Executor<T>,
    width: usize,
}

impl<T: Number> Evaluator<T> {
    /// Compiles a program whose output 0 is per point.
    pub fn new(program: &JetProgram) -> Result<Self, Error> {
        let width = match &program.types()?[program.outputs[0].1.index()] {
            crate::jet::Type::PerPoint { rows, features } => rows * features,
            crate::jet::Type::Reduced { shape } => shape.iter().product(),
        };
        Ok(Evaluator { executor: Executor::new(program)?, width })
    }

    /// The same, for many calls at a time: each is worked on by the thread that makes it alone.
    pub fn alone(program: &JetProgram) -> Result<Self, Error> {
        let evaluator = Self::new(program)?;
        Ok(Evaluator { executor: evaluator.executor.alone(), ..evaluator })
    }

    /// Numbers per point.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The program that runs.
    pub fn program(&self) -> &JetProgram {
        self.executor.program()
    }

    /// Output 0 at `count` points: [count, width]. `points` [count, columns], `data` [count, data columns].
    pub fn run(
        &self,
        parameters: &Parameters<T>,
        count: usize,
        points: &[T],
        data: &[T],
        seed: u64,
        step: u64,
    ) -> Result<Vec<T>, Error> {
        let (mut outputs, mut gradients) = self.buffers();
        let inputs = (count, Points::Rows(points), data);
        self.run_streamed(&Tensors::of(parameters), inputs, (seed, step), &mut outputs, &mut gradients)?;
        Ok(outputs.swap_remove(0))
    }

    /// Room for all outputs and gradients.
    pub fn buffers(&self) -> (Vec<Vec<T>>, Vec<Vec<T>>) {
        let program = self.program();
        (vec![Vec::new(); program.outputs.len()], vec![Vec::new(); program.gradients.len()])
    }

    /// Whether so many points are best made block by block.
    pub fn is_streamed(&self, count: usize) -> bool {
        self.executor.is_streamed(count)
    }

    /// All outputs and gradients, whole.
    pub fn run_into(
        &self,
        parameters: &Parameters<T>,
        (count, points, data): (usize, &[T], &[T]),
        (seed, step): (u64, u64),
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        self.run_whole(&Tensors::of(parameters), (count, points, data), (seed, step), outputs, gradients)
    }

    /// The same, of tensors wherever they lie.
    pub fn run_whole(
        &self,
        tensors: &Tensors<'_, T>,
        (count, points, data): (usize, &[T], &[T]),
        random: impl Into<Random>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        self.run_beside(tensors, (count, points, data), Beside::default(), random, outputs, gradients)
    }

    /// The same, of points that have numbers of their own, or for which something is given.
    pub fn run_beside(
        &self,
        tensors: &Tensors<'_, T>,
        (count, points, data): (usize, &[T], &[T]),
        beside: Beside<'_, T>,
        random: impl Into<Random>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<(), Error> {
        let random = random.into();
        let tensors = tensors.of_program(self.program())?;
        let call = Call { count, points: Points::Rows(points), data, tensors: &tensors, random, beside };
        Ok(self.executor.run_whole(&call, outputs, gradients)?)
    }

    /// All outputs and gradients, but those that the result makes in pieces.
    pub fn run_streamed(
        &self,
        tensors: &Tensors<'_, T>,
        (count, points, data): (usize, Points<'_, T>, &[T]),
        random: impl Into<Random>,
        outputs: &mut [Vec<T>],
        gradients: &mut [Vec<T>],
    ) -> Result<Streamed<T>, Error> {
        let (tensors, random) = (tensors.of_program(self.program())?, random.into());
        Ok(self.executor.run(
            &Call { count, points, data, tensors: &tensors, random, beside: Beside::default() },
            outputs,
            gradients,
        )?)
    }

    /// The gradients that are made in pieces at so many points, by position.
    pub fn streamed(&self, count: usize) -> Vec<usize> {
        self.executor.streamed(count)
    }
}

/// The column names of points, for messages: `x[0] x[1] t`.
pub fn column_names(program: &Program) -> Vec<String> {
    let mut out = Vec::new();
    for g in &program.groups {
        if g.is_vector {
            out.extend((0..g.len.min(4)).map(|k| format!("{}[{k}]", g.name)));
            if g.len > 4 {
                out.push("...".into());
            }
        } else {
            out.push(g.name.clone());
        }
    }
    out
}

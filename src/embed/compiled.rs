//! From text to operators, at run time.

use super::artifact::{Artifact, Of, Part};
use super::inputs::{Domain, Input, Quantity};
use super::kernels::Opened;
use super::{Device, Error, Operator, Solver};
use crate::cpu::{Number, ShapeError};
use crate::diagnostic::{Diagnostic, render};
use crate::net::{Metadata, Parameters, TensorSpec, layout};
use crate::plan::{Options, Plan, check_reports, json, plan, plan_expressions, text};
use crate::program::{self, Given, Named, Overrides, Program, Shape};
use crate::{solver, syntax};
use ndarray::Array2;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a program is compiled with.
///
/// ```
/// use jetc::Compiler;
///
/// let compiled = Compiler::new()
///     .set("d", "100")
///     .estimate("r", "sparse(16)")
///     .text("const d = 3\nspace x[d]\nnet N = mlp(width = 8, depth = 2, activation = tanh)\noutput r = lap(N(x))\n")?;
/// assert_eq!(compiled.inputs()[0].len, 100);
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Compiler {
    pub(super) overrides: Overrides,
    data: Vec<(String, Arc<Given>)>,
    pub(super) device: Device,
}

impl Compiler {
    /// Programs as they are written, on the CPU.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert!(Compiler::new().text("space x\noutput r = d_x(x)\n").is_ok());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn new() -> Self {
        Compiler::default()
    }

    /// Sets a const or param, like `--set name=value`.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// let compiled = Compiler::new().set("d", "7").text("const d = 2\nspace x[d]\noutput r = norm2(x)\n")?;
    /// assert_eq!(compiled.inputs()[0].len, 7);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.overrides.set.push((name.into(), value.into()));
        self
    }

    /// Sets the estimator of an output, a condition or an operator, like `--estimate "lap(u)=sparse(16)"`.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// let text = "space x[50]\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = lap(N(x))\n";
    /// let compiled = Compiler::new().estimate("r", "sparse(4)").text(text)?;
    /// assert_eq!(compiled.plan().sets[0].networks[0].rows, 6); // value, four directions, the sum
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn estimate(mut self, target: impl Into<String>, method: impl Into<String>) -> Self {
        self.overrides.estimates.push((target.into(), method.into()));
        self
    }

    /// Gives a data set in memory, in place of the file that its statement names. Columns have the names that they have in the first line of
    /// a file, in any order; `rows` is [rows, columns].
    ///
    /// ```
    /// use jetc::{Compiler, TrainOptions, ndarray::array, train::Silent};
    ///
    /// let text = "space x in box(0..1)\nparam a = 1 learn\ndata seen = \"seen.csv\"\nfield u = a*x\n\
    ///             solve points on seen: u = seen.y\nsample points = 2\ntrain adam(lr = 1e-1), steps = 200\n";
    /// let compiled = Compiler::new().data("seen", ["x", "y"], array![[0.5, 1.5], [1.0, 3.0]]).text(text)?;
    /// let trained = compiled.train::<f64>(&TrainOptions::default(), &mut Silent)?;
    /// assert!((trained.solver.at(&[0.2])? - 0.6).abs() < 1e-3);
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// Wrong columns are an error where the data are read: in training.
    pub fn data(
        mut self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = impl Into<String>>,
        rows: Array2<f64>,
    ) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        self.data.push((name.into(), Arc::new(Given { columns, rows })));
        self
    }

    /// Where the results run, and where they are trained: the CPU unless said otherwise.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// use jetc::Device;
    /// let compiled = Compiler::new().device(Device::Auto).text("space x\noutput r = d_x(x)\n")?;
    /// println!("it runs on {}", compiled.outputs::<f32>()?.device());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn device(mut self, device: Device) -> Self {
        self.device = device;
        self
    }

    /// Compiles a text.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// let error = Compiler::new().text("space x\noutput r = d_y(x)\n").unwrap_err();
    /// assert!(error.to_string().starts_with("program.jet:2:12: error: "), "{error}");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Program`] with all errors, [`Error::Device`], [`Error::Missing`] for data that were given and are not declared.
    pub fn text(&self, text: &str) -> Result<Compiled, Error> {
        self.named("program.jet", text, Path::new(""))
    }

    /// Compiles a file; data files are relative to its folder.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("u.solver");
    /// std::fs::write(&path, "space x\noutput r = d_xx(x^3)\n").unwrap();
    /// assert_eq!(Compiler::new().file(&path)?.inputs().len(), 1);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiler::text`], and [`Error::Read`].
    pub fn file(&self, path: impl AsRef<Path>) -> Result<Compiled, Error> {
        let path = path.as_ref();
        let (name, text) = read(path)?;
        self.named(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Resolves a text; gives the data. Warnings come with it.
    pub(super) fn program(&self, name: &str, text: &str) -> Result<(Program, Vec<Diagnostic>), Error> {
        let (program, diagnostics) = solver::compile(text, &self.overrides);
        let Some(mut program) = program else { return Err(error(name, text, diagnostics)) };
        for (name, given) in &self.data {
            let found = || program.data.iter().map(|set| set.name.clone()).collect();
            let Some(k) = program.data.iter().position(|set| set.name == *name) else {
                return Err(Error::Missing { what: "data set", name: name.clone(), found: found() });
            };
            program.data[k].given = Some(given.clone());
        }
        Ok((program, diagnostics))
    }

    fn named(&self, name: &str, text: &str, folder: &Path) -> Result<Compiled, Error> {
        let device = Opened::new(self.device)?;
        let (program, warnings) = self.program(name, text)?;
        if program.flow.is_some() {
            return Err(Error::Unsupported(format!(
                "{name}: `Compiler::flow` compiles a flow; outputs and conditions are compiled here"
            )));
        }
        let plan = plan(&program, Options::default()).map_err(|e| error(name, text, e))?;
        let wrong = check_reports(&program);
        if !wrong.is_empty() {
            return Err(error(name, text, wrong));
        }
        Ok(Compiled {
            text: text.into(),
            name: name.into(),
            folder: folder.into(),
            overrides: self.overrides.text(),
            inputs: inputs(&program),
            program,
            plan,
            warnings,
            device,
        })
    }
}

/// The name and the text of a program's file.
pub(super) fn read(path: &Path) -> Result<(String, String), Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let name = path.display().to_string();
    let (text, broken) = syntax::decode(&bytes);
    if !broken.is_empty() {
        return Err(error(&name, &text, broken));
    }
    Ok((name, text.into()))
}

pub(super) fn error(name: &str, text: &str, diagnostics: Vec<Diagnostic>) -> Error {
    Error::Program { rendered: render(name, text, &diagnostics, false), diagnostics }
}

/// A program that was checked and planned: the source of operators, initial parameters and solvers.
///
/// ```
/// use jetc::{Compiled, ndarray::array};
///
/// let compiled = Compiled::from_text("space x, y\noutput r = lap(x^2*y)\n")?;
/// let values = compiled.outputs::<f32>()?.eval(&compiled.parameters(0), array![[1.0, 3.0]].view())?;
/// assert_eq!(values, array![[6.0]]);
///
/// let error = Compiled::from_text("space x\noutput r = lpa(x)\n").unwrap_err().to_string();
/// assert!(error.starts_with("program.jet:2:12: error: ") && error.contains("did you mean `lap`?"));
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Compiled {
    text: String,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    overrides: String,
    inputs: Vec<Input>,
    pub(super) program: Program,
    pub(super) plan: Plan,
    warnings: Vec<Diagnostic>,
    pub(super) device: Opened,
}

impl Compiled {
    /// Compiles a text as it is written. See [`Compiler`] for more.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::Compiled;
    /// assert_eq!(Compiled::from_text("space x\noutput r = d_xx(x^3)\n")?.inputs()[0].name, "x");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiler::text`].
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Compiler::new().text(text)
    }

    /// Compiles a file as it is written.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Error};
    /// assert!(matches!(Compiled::from_file("no/such.jet"), Err(Error::Read { .. })));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Compiler::file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        Compiler::new().file(path)
    }

    /// The program.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert_eq!(compiled.program().outputs.len(), 2);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What will be computed, and how. [`text`] and [`json`] print it.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert_eq!(compiled.plan().sets.len(), 1);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan for people, as `jetc plan` prints it.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert!(compiled.plan_text().contains("outputs"));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn plan_text(&self) -> String {
        text(&self.plan)
    }

    /// The plan as JSON.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert!(compiled.plan_json().starts_with('{'));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn plan_json(&self) -> String {
        json(&self.plan).to_string()
    }

    /// What may not have been meant.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert!(compiled.warnings().is_empty());
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn warnings(&self) -> &[Diagnostic] {
        &self.warnings
    }

    /// The coordinates of a point, in the order of their columns.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert_eq!(compiled.inputs()[1].name, "y");
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// Initial parameters: random weights from the seed, everything else as the program says.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::Compiled;
    /// # let compiled = Compiled::from_text("space x\nnet N = mlp(width = 4, depth = 2, activation = tanh)\noutput r = d_xx(N(x))\n")?;
    /// let parameters = compiled.parameters::<f32>(0);
    /// assert_eq!(parameters.get("N.0.weight").unwrap().len(), 4);
    /// assert_ne!(parameters, compiled.parameters(1));
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    pub fn parameters<T: Number>(&self, seed: u64) -> Parameters<T> {
        Parameters::initial(&self.program, seed)
    }

    /// The `output`s, together.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert_eq!(compiled.outputs::<f64>()?.width(), 3);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Missing`] where there are none; as [`Operator`]'s.
    pub fn outputs<T: Number>(&self) -> Result<Operator<T>, Error> {
        self.part(Of::Outputs)
    }

    /// The `field`s, together.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// assert_eq!(compiled.fields::<f64>()?.width(), 1);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Missing`] where there are none; [`Error::Program`] where they cannot be planned.
    pub fn fields<T: Number>(&self) -> Result<Operator<T>, Error> {
        self.part(Of::Fields)
    }

    fn part<T: Number>(&self, of: Of) -> Result<Operator<T>, Error> {
        let part = part(&self.program, &self.plan, of).map_err(|d| self.error(d))?;
        let missing = || Error::Missing { what: "statement of kind", name: of.name().into(), found: Vec::new() };
        let part = part.ok_or_else(missing)?;
        Operator::new(self.inputs.clone(), part.quantities, &part.program, &self.device)
    }

    /// The residual of a condition, left minus right, at any points; as many columns as it has components.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, ndarray::array};
    /// let compiled = Compiled::from_text("space x in box(0..1)\nparam a = 1 learn\nfield u = a*x^3\nsolve interior: lap(u) = 1\n")?;
    /// let residual = compiled.residual::<f64>("interior")?;
    /// assert_eq!(residual.eval(&compiled.parameters(0), array![[0.5]].view())?, array![[2.0]]); // 6 a x - 1
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::Unsupported`] where it reads data or outward normals.
    pub fn residual<T: Number>(&self, condition: &str) -> Result<Operator<T>, Error> {
        let Some(set) = self.plan.sets.iter().find(|s| s.condition.is_some() && s.name == condition) else {
            let found = self.program.conditions.iter().map(|c| c.name.clone()).collect();
            return Err(Error::Missing { what: "condition", name: condition.into(), found });
        };
        let types = set.program.types()?;
        let len = match set.program.outputs.first().map(|o| &types[o.1.index()]) {
            Some(crate::jet::Type::PerPoint { features, .. }) => *features,
            _ => 0,
        };
        let quantity = Quantity { name: condition.into(), shape: vec![len] };
        Operator::new(self.inputs.clone(), vec![quantity], &set.program, &self.device)
    }

    /// The outputs and fields with parameters: what can be saved.
    ///
    /// ```
    /// # #[cfg(feature = "compiler")] {
    /// # use jetc::{Compiled, Compiler};
    /// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
    /// let solver = compiled.solver(compiled.parameters::<f64>(0))?;
    /// assert_eq!(solver.at(&[0.5, 0.25])?, 0.5);
    /// # }
    /// # Ok::<(), jetc::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Program`] where they cannot be planned; [`Error::Missing`] where there are none, or for a tensor of the program
    /// that the parameters lack.
    pub fn solver<T: Number>(&self, parameters: Parameters<T>) -> Result<Solver<T>, Error> {
        check_tensors(&layout(&self.program), &parameters)?;
        let artifact = self.artifact()?;
        if artifact.parts.is_empty() {
            let why = "there is no `output` and no `field`, so that a solver of it would have no values: add one, `field u = N(x)` for example";
            return Err(Error::Unsupported(format!("{}: {why}", self.name)));
        }
        Solver::new(Arc::new(artifact), Arc::new(parameters), self.device.clone())
    }

    /// What a solver of this program says in its file.
    pub(super) fn artifact(&self) -> Result<Artifact, Error> {
        artifact(&self.program, &self.plan, &self.text, &self.overrides).map_err(|d| self.error(d))
    }

    fn error(&self, diagnostic: Diagnostic) -> Error {
        error(&self.name, &self.text, vec![diagnostic])
    }
}

/// Parameters must have the tensors of a program.
pub(super) fn check_tensors<T: Number>(specs: &[TensorSpec], parameters: &Parameters<T>) -> Result<(), Error> {
    for spec in specs {
        let Some(found) = parameters.specs().iter().find(|s| s.name == spec.name) else {
            let found = parameters.specs().iter().map(|s| s.name.clone()).collect();
            return Err(Error::Missing { what: "tensor", name: spec.name.clone(), found });
        };
        if found.shape != spec.shape {
            let what =
                format!("elements of tensor `{}`, of shape {:?} and not {:?}", spec.name, spec.shape, found.shape);
            return Err(ShapeError { what, expected: spec.len(), found: found.len() }.into());
        }
    }
    Ok(())
}

/// What a solver of a program says in its file: everything but the tensors.
///
/// # Errors
/// Where the fields cannot be planned.
pub fn artifact(program: &Program, plan: &Plan, text: &str, overrides: &str) -> Result<Artifact, Diagnostic> {
    let metadata = Metadata::from([
        ("jetc.program".to_string(), text.to_string()),
        ("jetc.overrides".to_string(), overrides.to_string()),
        ("jetc.plan".to_string(), json(plan).to_string()),
    ]);
    let mut parts = Vec::new();
    for of in Of::ALL {
        parts.extend(part(program, plan, of)?.filter(|p| p.program.data_columns == 0));
    }
    Ok(Artifact::new(inputs(program), &layout(program), parts, metadata))
}

fn part(program: &Program, plan: &Plan, of: Of) -> Result<Option<Part>, Diagnostic> {
    let quantity = |n: &Named| {
        let shape = match program.shape(n.value) {
            Shape::Scalar => vec![],
            Shape::Vector(n) => vec![n],
            Shape::Matrix(m, n) => vec![m, n],
        };
        Quantity { name: n.name.clone(), shape }
    };
    let (named, compiled) = match of {
        Of::Outputs => (&program.outputs, plan.sets.iter().find(|s| s.condition.is_none()).map(|s| s.program.clone())),
        Of::Fields if program.fields.is_empty() => (&program.fields, None),
        Of::Fields => {
            let values: Vec<_> = program.fields.iter().map(|f| f.value).collect();
            (&program.fields, Some(plan_expressions(program, "fields", &values)?.program))
        }
    };
    Ok(compiled.map(|program| Part { of, quantities: named.iter().map(quantity).collect(), program }))
}

pub(super) fn inputs(program: &Program) -> Vec<Input> {
    let input = |g: &program::Group| Input {
        name: g.name.clone(),
        len: g.len,
        is_vector: g.is_vector,
        domain: match g.domain {
            program::Domain::Interval(lo, hi) if !g.periodic => Domain::Interval(lo, hi),
            program::Domain::Ball { radius, .. } => Domain::Ball(radius),
            _ => Domain::Anywhere,
        },
    };
    program.groups.iter().map(input).collect()
}

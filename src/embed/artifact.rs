//! The artifact: one safetensors file that can be evaluated without the compiler.
//!
//! Its tensors are all those of the program, fixed ones too, as PyTorch lays them out. Its string metadata:
//!
//! | key | value |
//! |---|---|
//! | `jetc.format` | `1`; a reader refuses what is newer than itself |
//! | `jetc.version` | the version of jetc that wrote it |
//! | `jetc.checksum` | SHA-256 of the file with these 64 digits as zeros |
//! | `jetc.program`, `jetc.overrides`, `jetc.plan` | the text of the program, what was changed in it, its plan as JSON |
//! | `jetc.inputs` | JSON: the coordinates of a point and where they lie |
//! | `jetc.tensors` | JSON: names, shapes and roles of the tensors, in order |
//! | `jetc.outputs`, `jetc.fields` | JSON: names and shapes of the results, and their compiled program as text; there where the program has some |
//!
//! Nothing of a file is trusted: lengths, shapes and the compiled program are checked before anything is made of them.

use super::inputs::{Input, Quantity, columns};
use crate::cpu::Number;
use crate::jet::{JetProgram, Type};
use crate::net::{Metadata, Parameters, TensorFile, TensorSpec, WeightsError, checksum};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Most numbers of one value at one point that a compiled program may hold.
const MAX_VALUE: usize = 1 << 28;

/// Which results.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{Compiled, Solver, ndarray::array};
/// # let compiled = Compiled::from_text("space x, y in box(0..1, 0..1)\nfield u = x^2*y\noutput r = lap(u)\noutput g = grad(u)\n")?;
/// # let solver = compiled.solver(compiled.parameters::<f64>(0))?;
/// use jetc::Of;
/// assert_eq!(solver.showing(Of::Fields)?.quantities()[0].name, "u");
/// assert_eq!(Of::Outputs.name(), "outputs");
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The `output`s.
    Outputs,
    /// The `field`s.
    Fields,
}

impl Of {
    /// Both.
    pub const ALL: [Of; 2] = [Of::Outputs, Of::Fields];

    /// `outputs` or `fields`.
    pub fn name(self) -> &'static str {
        match self {
            Of::Outputs => "outputs",
            Of::Fields => "fields",
        }
    }

    fn key(self) -> String {
        format!("jetc.{}", self.name())
    }
}

/// Why a file is no artifact that can be used.
///
/// ```
/// # #[cfg(feature = "compiler")] {
/// # use jetc::{ArtifactError, Error, Solver};
/// let error = Solver::<f64>::from_bytes(b"no tensors").unwrap_err();
/// assert!(matches!(error, Error::Artifact(ArtifactError::Truncated { .. } | ArtifactError::Damaged { .. })));
/// # }
/// # Ok::<(), jetc::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// It is shorter or longer than it says.
    #[error("{file} is not whole: {reason}")]
    Truncated {
        /// The file.
        file: String,
        /// How long it is.
        reason: String,
    },
    /// Its header is none.
    #[error("{file} is damaged, or no artifact: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// A safetensors file that jetc did not write.
    #[error(
        "{file} holds tensors, but no compiled program: it is no artifact; `jetc build FILE --weights` makes one of it, \
         unless it is of a flow, which is embedded by its text and these weights (`Compiler::flow`)"
    )]
    Foreign {
        /// The file.
        file: String,
    },
    /// A format that this version does not know.
    #[error("{file} has format `{found}`, and this version reads formats up to {FORMAT}: it was written by a newer jetc{}", by(.version))]
    Version {
        /// The file.
        file: String,
        /// Its format.
        found: String,
        /// The version that wrote it.
        version: Option<String>,
    },
    /// Its bytes are not those that were written.
    #[error("{file} is damaged: its checksum is {found}, and it was written with {stated}")]
    Checksum {
        /// The file.
        file: String,
        /// What it says.
        stated: String,
        /// What it has.
        found: String,
    },
    /// An entry of the metadata is missing, or says what cannot be.
    #[error("{file}: `{key}` in its metadata: {reason}")]
    Metadata {
        /// The file.
        file: String,
        /// Which entry.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be read, or a tensor is missing or has another shape.
    #[error(transparent)]
    Tensor(WeightsError),
}

fn by(version: &Option<String>) -> String {
    version.as_ref().map_or(String::new(), |v| format!(" ({v})"))
}

impl From<WeightsError> for ArtifactError {
    fn from(e: WeightsError) -> Self {
        match e {
            WeightsError::Length { file, reason } => ArtifactError::Truncated { file, reason },
            WeightsError::Format { file, reason } => ArtifactError::Damaged { file, reason },
            other => ArtifactError::Tensor(other),
        }
    }
}

/// Named results and the program that computes them, as output 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Which.
    pub of: Of,
    /// Names and shapes.
    pub quantities: Vec<Quantity>,
    /// The program.
    pub program: JetProgram,
}

#[derive(Serialize, Deserialize)]
struct PartText {
    quantities: Vec<Quantity>,
    program: String,
}

/// What a file says, its tensors aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// The coordinates of a point.
    pub inputs: Vec<Input>,
    /// Outputs, fields: at least one of them.
    pub parts: Vec<Part>,
    /// Everything, as in the file.
    pub metadata: Metadata,
}

impl Artifact {
    /// Adds inputs, tensors and parts to metadata that say the rest.
    pub fn new(inputs: Vec<Input>, specs: &[TensorSpec], parts: Vec<Part>, mut metadata: Metadata) -> Self {
        let json = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
        metadata.insert("jetc.format".into(), FORMAT.to_string());
        metadata.insert("jetc.version".into(), env!("CARGO_PKG_VERSION").into());
        metadata.insert(checksum::KEY.into(), checksum::NONE.into());
        metadata.insert("jetc.inputs".into(), json(serde_json::to_string(&inputs)));
        metadata.insert("jetc.tensors".into(), json(serde_json::to_string(specs)));
        for part in &parts {
            let text = PartText { quantities: part.quantities.clone(), program: part.program.to_string() };
            metadata.insert(part.of.key(), json(serde_json::to_string(&text)));
        }
        Artifact { inputs, parts, metadata }
    }

    /// Reads a file, after all checks.
    pub fn read<T: Number>(file: &TensorFile) -> Result<(Self, Parameters<T>), ArtifactError> {
        let opened = file.open()?;
        let name = file.name().to_string();
        let wrong = |key: &str, reason: String| ArtifactError::Metadata { file: name.clone(), key: key.into(), reason };
        let metadata = opened.metadata.clone();
        let entry = |key: &str| metadata.get(key).ok_or_else(|| wrong(key, "it is missing".into()));
        let Some(format) = metadata.get("jetc.format") else {
            return Err(ArtifactError::Foreign { file: name });
        };
        if !format.parse::<u32>().is_ok_and(|f| (1..=FORMAT).contains(&f)) {
            let (found, version) = (format.clone(), metadata.get("jetc.version").cloned());
            return Err(ArtifactError::Version { file: name, found, version });
        }
        match file.checksums()? {
            None => return Err(wrong(checksum::KEY, "it is missing, or not 64 digits".into())),
            Some((stated, found)) if stated != found => {
                return Err(ArtifactError::Checksum { file: name, stated, found });
            }
            Some(_) => {}
        }
        let json = |key: &str, e: serde_json::Error| wrong(key, e.to_string());
        let inputs: Vec<Input> = serde_json::from_str(entry("jetc.inputs")?).map_err(|e| json("jetc.inputs", e))?;
        let specs: Vec<TensorSpec> =
            serde_json::from_str(entry("jetc.tensors")?).map_err(|e| json("jetc.tensors", e))?;
        let mut parts = Vec::new();
        for of in Of::ALL {
            let key = of.key();
            let Some(text) = metadata.get(&key) else { continue };
            let text: PartText = serde_json::from_str(text).map_err(|e| json(&key, e))?;
            let program = JetProgram::from_str(&text.program).map_err(|e| wrong(&key, e.to_string()))?;
            let part = Part { of, quantities: text.quantities, program };
            check(&part, &inputs, &specs).map_err(|reason| wrong(&key, reason))?;
            parts.push(part);
        }
        if parts.is_empty() {
            return Err(wrong("jetc.outputs", "there are neither outputs nor fields".into()));
        }
        let mut values = Vec::new();
        for spec in &specs {
            let mut tensor = Vec::new();
            match spec.is_turned() {
                true => opened.read_turned(&spec.name, &spec.shape, &mut tensor)?,
                false => opened.read(&spec.name, &spec.shape, &mut tensor)?,
            }
            values.push(tensor);
        }
        Ok((Artifact { inputs, parts, metadata }, Parameters::of(specs, values)))
    }
}

/// What is wrong with a part, if anything is.
fn check(part: &Part, inputs: &[Input], specs: &[TensorSpec]) -> Result<(), String> {
    let program = &part.program;
    let total = |lens: Vec<usize>| lens.into_iter().try_fold(0usize, usize::checked_add);
    if total(inputs.iter().map(|i| i.len).collect()) != Some(program.columns) {
        return Err(format!("the inputs do not have the {} columns of a point", program.columns));
    }
    debug_assert_eq!(columns(inputs), program.columns);
    for tensor in &program.tensors {
        if !specs.iter().any(|s| s.name == tensor.name && s.shape == tensor.shape) {
            return Err(format!("there is no tensor `{}` of shape {:?}", tensor.name, tensor.shape));
        }
    }
    let types = program.types().map_err(|e| e.to_string())?;
    let product = |shape: &[usize]| shape.iter().try_fold(1usize, |n, k| n.checked_mul(*k));
    let large = |t: &Type| match t {
        Type::PerPoint { rows, features } => product(&[*rows, *features]),
        Type::Reduced { shape } => product(shape),
    };
    if let Some(op) = types.iter().position(|t| large(t).is_none_or(|n| n > MAX_VALUE)) {
        return Err(format!("operation {op} has a value that is too large"));
    }
    let width = program.outputs.first().map(|o| &types[o.1.index()]);
    let len = |q: &Quantity| product(&q.shape).unwrap_or(usize::MAX);
    match (width, total(part.quantities.iter().map(len).collect())) {
        (Some(Type::PerPoint { rows: 1, features }), Some(n)) if n == *features => Ok(()),
        _ => Err("output 0 does not hold the results that are named".into()),
    }
}

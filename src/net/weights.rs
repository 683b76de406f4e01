//! Weight files: safetensors, little-endian, F64 or F32.
//!
//! The learned tensors of a program are read and written; fixed parameters and coefficient tables come from the program.
//! The header is written here, in order, so that the same tensors and metadata give the same bytes.

use super::atomic::write_atomically;
use super::element::Element;
use super::parameters::Parameters;
use safetensors::tensor::{SafeTensors, TensorView};
use safetensors::{Dtype, SafeTensorError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// String metadata of a file.
pub type Metadata = BTreeMap<String, String>;

/// What is wrong with a weight file.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no safetensors file, or only the beginning of one.
    #[error("{file} is not a whole safetensors file: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// A tensor of the program is not there.
    #[error("{file} has no tensor `{name}` of shape {}{}", shape_text(shape), hint(name, found))]
    Missing {
        /// The file.
        file: String,
        /// The tensor that was looked for.
        name: String,
        /// Its shape in the program.
        shape: Vec<usize>,
        /// Names in the file.
        found: Vec<String>,
    },
    /// A tensor has another shape than in the program.
    #[error(
        "tensor `{name}` of {file} has shape {}, but the program needs {}",
        shape_text(found),
        shape_text(expected)
    )]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its shape in the program.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<usize>,
    },
    /// A tensor is neither F64 nor F32.
    #[error("tensor `{name}` of {file} is stored as {found}; F64 or F32 is needed")]
    Type {
        /// The file.
        file: String,
        /// The tensor.
        name: String,
        /// Its type in the file.
        found: Dtype,
    },
}

fn shape_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}

fn hint(name: &str, found: &[String]) -> String {
    let mut text = String::new();
    let close = found.iter().map(|f| (strsim::damerau_levenshtein(name, f), f)).filter(|(d, _)| *d <= 3).min();
    if let Some((_, close)) = close {
        let _ = write!(text, "; did you mean `{close}`?");
    }
    const SHOWN: usize = 8;
    match found.len() {
        0 => text.push_str(" (it holds no tensors)"),
        n => {
            let _ = write!(text, " (it holds {}", found[..n.min(SHOWN)].join(", "));
            if n > SHOWN {
                let _ = write!(text, ", and {} more", n - SHOWN);
            }
            text.push(')');
        }
    }
    text
}

/// What came with the weights.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tensors of the file that the program does not learn, by name: they were ignored.
    pub ignored: Vec<String>,
    /// The file's metadata.
    pub metadata: Metadata,
}

impl Loaded {
    /// One sentence about the ignored tensors, if there are any.
    pub fn warning(&self) -> Option<String> {
        let names = &self.ignored;
        (!names.is_empty()).then(|| format!("tensors that the program does not name are ignored: {}", names.join(", ")))
    }
}

/// A safetensors file in memory.
pub struct TensorFile {
    name: String,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let bytes = std::fs::read(path).map_err(|source| WeightsError::Read { path: path.into(), source })?;
        Ok(TensorFile { name: path.display().to_string(), bytes })
    }

    /// Bytes that are there already; `name` is for messages.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        TensorFile { name: name.into(), bytes }
    }

    /// Checks the header.
    pub fn open(&self) -> Result<Opened<'_>, WeightsError> {
        let format = |reason: String| WeightsError::Format { file: self.name.clone(), reason };
        let error = |e: SafeTensorError| match e {
            SafeTensorError::MetadataIncompleteBuffer | SafeTensorError::InvalidHeaderLength => {
                format(format!("it is cut off or too long ({e}; it has {} bytes)", self.bytes.len()))
            }
            other => format(other.to_string()),
        };
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(error)?;
        let (_, header) = SafeTensors::read_metadata(&self.bytes).map_err(error)?;
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Opened { name: &self.name, tensors, metadata })
    }
}

/// The tensors of a [`TensorFile`].
pub struct Opened<'a> {
    name: &'a str,
    tensors: SafeTensors<'a>,
    /// The file's metadata.
    pub metadata: Metadata,
}

impl Opened<'_> {
    /// Names of the tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tensors.names().into_iter().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Reads a tensor of known shape into `out`, whatever its precision.
    pub fn read<T: Element>(&self, name: &str, shape: &[usize], out: &mut Vec<T>) -> Result<(), WeightsError> {
        let file = || self.name.to_owned();
        let Ok(tensor) = self.tensors.tensor(name) else {
            let found = self.names();
            return Err(WeightsError::Missing { file: file(), name: name.into(), shape: shape.into(), found });
        };
        if tensor.shape() != shape {
            let (expected, found) = (shape.into(), tensor.shape().into());
            return Err(WeightsError::Shape { file: file(), name: name.into(), expected, found });
        }
        decode(&tensor, out).map_err(|found| WeightsError::Type { file: file(), name: name.into(), found })
    }
}

fn decode<T: Element>(tensor: &TensorView<'_>, out: &mut Vec<T>) -> Result<(), Dtype> {
    out.clear();
    match tensor.dtype() {
        Dtype::F64 => out.extend(tensor.data().as_chunks().0.iter().map(|b| T::of(f64::from_le_bytes(*b)))),
        Dtype::F32 => out.extend(tensor.data().as_chunks().0.iter().map(|b| T::of(f32::from_le_bytes(*b).into()))),
        other => return Err(other),
    }
    Ok(())
}

/// A tensor to be written: name, shape, row-major values.
pub type Entry<'a, T> = (&'a str, &'a [usize], &'a [T]);

/// Writes tensors and metadata, atomically, in the given order.
pub fn write_tensors<T: Element>(
    path: &Path,
    tensors: &[Entry<'_, T>],
    metadata: &Metadata,
) -> Result<(), WeightsError> {
    write_atomically(path, |out| {
        let mut header = Map::new();
        if !metadata.is_empty() {
            header.insert("__metadata__".into(), json!(metadata));
        }
        let (mut offset, dtype) = (0, format!("{:?}", T::DTYPE));
        for (name, shape, values) in tensors {
            let end = offset + size_of_val(*values);
            let entry: Value = json!({"dtype": dtype, "shape": shape, "data_offsets": [offset, end]});
            header.insert((*name).into(), entry);
            offset = end;
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        let mut bytes = Vec::new();
        for chunk in tensors.iter().flat_map(|(_, _, values)| values.chunks(1 << 14)) {
            bytes.clear();
            chunk.iter().for_each(|x| x.push_bytes(&mut bytes));
            out.write_all(&bytes)?;
        }
        Ok(())
    })
    .map_err(|source| WeightsError::Write { path: path.into(), source })
}

impl<T: Element> Parameters<T> {
    /// Takes the learned tensors from a file. On an error nothing has changed.
    pub fn load(&mut self, path: &Path) -> Result<Loaded, WeightsError> {
        self.load_file(&TensorFile::read(path)?)
    }

    /// The same from bytes; `name` is for messages.
    pub fn load_bytes(&mut self, name: &str, bytes: Vec<u8>) -> Result<Loaded, WeightsError> {
        self.load_file(&TensorFile::from_bytes(name, bytes))
    }

    fn load_file(&mut self, file: &TensorFile) -> Result<Loaded, WeightsError> {
        let file = file.open()?;
        let mut ignored = file.names();
        let mut read = Vec::new();
        for (position, spec) in self.specs().iter().enumerate().filter(|(_, spec)| spec.is_learned()) {
            let mut values = Vec::new();
            file.read(&spec.name, &spec.shape, &mut values)?;
            ignored.retain(|name| *name != spec.name);
            read.push((position, values));
        }
        for (position, values) in read {
            self.values_mut()[position] = values;
        }
        Ok(Loaded { ignored, metadata: file.metadata })
    }

    /// Writes the learned tensors, atomically, with metadata.
    pub fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), WeightsError> {
        let learned = self.specs().iter().zip(self.values()).filter(|(spec, _)| spec.is_learned());
        let tensors: Vec<Entry<'_, T>> =
            learned.map(|(s, v)| (s.name.as_str(), s.shape.as_slice(), v.as_slice())).collect();
        write_tensors(path, &tensors, metadata)
    }
}

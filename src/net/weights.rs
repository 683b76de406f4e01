//! Weight files: safetensors, little-endian, F64 or F32.
//!
//! All tensors of a program are written; only the learned ones are read into a program's parameters, because fixed parameters
//! and coefficient tables come from the program.
//! The header is written here, in order, so that the same tensors and metadata give the same bytes.

use super::atomic::write_atomically;
use super::checksum::{self, Hashed};
use super::element::Element;
use super::parameters::Parameters;
use safetensors::tensor::Metadata as Header;
use safetensors::{Dtype, SafeTensorError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

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
    /// It is no safetensors file: its header says what cannot be.
    #[error("{file} is not a whole safetensors file: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What does not fit.
        reason: String,
    },
    /// It is shorter or longer than its header says: cut off, or not a safetensors file at all.
    #[error("{file} is not a whole safetensors file: {reason}")]
    Length {
        /// The file.
        file: String,
        /// How long it is.
        reason: String,
    },
    /// Its bytes are others than those that were written.
    #[error("{file} is damaged: its checksum is {found}, but it says {stated}")]
    Checksum {
        /// The file.
        file: String,
        /// The checksum in its metadata.
        stated: String,
        /// That of its bytes.
        found: String,
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
    use std::fmt::Write as _;
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
    /// Tensors of the file that the program does not name: they were ignored.
    pub ignored: Vec<String>,
    /// Learned tensors of the program that the file does not have: they are as they were.
    pub kept: Vec<String>,
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

/// A safetensors file, read piece by piece: a tensor is never in memory twice.
pub struct TensorFile {
    name: String,
    bytes: Mutex<Box<dyn Bytes>>,
    length: u64,
}

/// Where bytes are read from.
trait Bytes: Read + Seek + Send {}
impl<R: Read + Seek + Send> Bytes for R {}

impl TensorFile {
    /// Opens a file.
    pub fn read(path: &Path) -> Result<Self, WeightsError> {
        let error = |source| WeightsError::Read { path: path.into(), source };
        let file = File::open(path).map_err(error)?;
        let length = file.metadata().map_err(error)?.len();
        Ok(TensorFile { name: path.display().to_string(), bytes: Mutex::new(Box::new(file)), length })
    }

    /// Bytes that are there already; `name` is for messages.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        TensorFile { name: name.into(), bytes: Mutex::new(Box::new(Cursor::new(bytes))), length }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The checksum that a file says it has, and the one that it has; none where it says nothing. See [`checksum`].
    pub fn checksums(&self) -> Result<Option<(String, String)>, WeightsError> {
        let error = |source| WeightsError::Read { path: self.name.clone().into(), source };
        let mut hash = Hashed::new(io::sink());
        let mut stated = None;
        let mut piece = Vec::new();
        // The first piece is the header, as far as it can be one: the checksum is in it.
        let mut size = [0; 8];
        self.at(0, &mut size[..self.length.min(8) as usize]).map_err(error)?;
        let mut end = u64::from_le_bytes(size).saturating_add(8).min(self.length);
        let mut start = 0;
        while start < self.length {
            piece.resize((end - start) as usize, 0);
            self.at(start, &mut piece).map_err(error)?;
            if start == 0 {
                let Some(digits) = checksum::find(&piece) else { return Ok(None) };
                stated = Some(String::from_utf8_lossy(&piece[digits.clone()]).into_owned());
                piece[digits].fill(b'0');
            }
            hash.write_all(&piece).map_err(error)?;
            (start, end) = (end, end.saturating_add(1 << 20).min(self.length));
        }
        Ok(stated.map(|stated| (stated, hash.digits())))
    }

    fn format(&self, reason: String) -> WeightsError {
        WeightsError::Format { file: self.name.clone(), reason }
    }

    /// Bytes from a place on.
    fn at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut bytes = self.bytes.lock().map_err(|_| io::Error::other("an earlier read failed"))?;
        bytes.seek(SeekFrom::Start(offset))?;
        bytes.read_exact(out)
    }

    /// Checks the header.
    pub fn open(&self) -> Result<Opened<'_>, WeightsError> {
        let cut = |e: &dyn std::fmt::Display| {
            let reason = format!("it is cut off or too long ({e}; it has {} bytes)", self.length);
            WeightsError::Length { file: self.name.clone(), reason }
        };
        let mut head = vec![0; 8];
        self.at(0, &mut head).map_err(|e| cut(&e))?;
        let size = head.first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
        if size > self.length.saturating_sub(8) {
            return Err(cut(&SafeTensorError::InvalidHeaderLength));
        }
        head.resize(8 + size as usize, 0);
        self.at(8, &mut head[8..]).map_err(|e| cut(&e))?;
        let header: Header = serde_json::from_slice(&head[8..])
            .map_err(|e| self.format(SafeTensorError::InvalidHeaderDeserialization(e).to_string()))?;
        // The tensors lie one behind the other, to the end.
        let mut tensors: Vec<_> = header.tensors().into_iter().collect();
        tensors.sort_by_key(|(_, t)| t.data_offsets);
        let mut end = 0;
        for (name, tensor) in tensors {
            let elements = tensor.shape.iter().try_fold(1usize, |n, k| n.checked_mul(*k));
            let bytes = elements.and_then(|n| n.checked_mul(tensor.dtype.bitsize())).map(|bits| bits / 8);
            if tensor.data_offsets.0 != end || bytes.and_then(|n| n.checked_add(end)) != Some(tensor.data_offsets.1) {
                return Err(self.format(SafeTensorError::InvalidOffset(name).to_string()));
            }
            end = tensor.data_offsets.1;
        }
        if end as u64 != self.length - 8 - size {
            return Err(cut(&SafeTensorError::MetadataIncompleteBuffer));
        }
        let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        Ok(Opened { file: self, header, data: 8 + size, metadata })
    }
}

/// The tensors of a [`TensorFile`].
pub struct Opened<'a> {
    file: &'a TensorFile,
    header: Header,
    /// Where the first tensor starts.
    data: u64,
    /// The file's metadata.
    pub metadata: Metadata,
}

impl Opened<'_> {
    /// Names of the tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.header.tensors().into_keys().collect();
        names.sort();
        names
    }

    /// Shape of a tensor, none where there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.header.tensors().get(name).map(|t| t.shape.clone())
    }

    /// Reads a tensor of known shape into `out`, whatever its precision.
    pub fn read<T: Element>(&self, name: &str, shape: &[usize], out: &mut Vec<T>) -> Result<(), WeightsError> {
        out.clear();
        self.pieces(name, shape, |_, values| out.extend_from_slice(values))
    }

    /// Reads a tensor of shape [out, in] into `out` as [in, out].
    pub fn read_turned<T: Element>(&self, name: &str, shape: &[usize], out: &mut Vec<T>) -> Result<(), WeightsError> {
        self.find(name, shape)?; // before there is room for so many
        let (rows, columns) = (shape[0], shape[1]);
        out.clear();
        out.resize(rows * columns, T::zero());
        self.pieces(name, shape, |first, values| {
            for (i, x) in values.iter().enumerate() {
                out[(first + i) % columns * rows + (first + i) / columns] = *x;
            }
        })
    }

    /// Bytes of an element, and where the elements of a tensor of known shape are.
    fn find(&self, name: &str, shape: &[usize]) -> Result<(usize, (usize, usize)), WeightsError> {
        let file = || self.file.name.clone();
        let tensors = self.header.tensors();
        let Some(tensor) = tensors.get(name) else {
            return Err(WeightsError::Missing {
                file: file(),
                name: name.into(),
                shape: shape.into(),
                found: self.names(),
            });
        };
        if tensor.shape != shape {
            let (expected, found) = (shape.into(), tensor.shape.clone());
            return Err(WeightsError::Shape { file: file(), name: name.into(), expected, found });
        }
        match tensor.dtype {
            Dtype::F64 => Ok((8, tensor.data_offsets)),
            Dtype::F32 => Ok((4, tensor.data_offsets)),
            found => Err(WeightsError::Type { file: file(), name: name.into(), found }),
        }
    }

    /// Reads a tensor of known shape in pieces; `put` gets the number of a piece's first element.
    fn pieces<T: Element>(
        &self,
        name: &str,
        shape: &[usize],
        mut put: impl FnMut(usize, &[T]),
    ) -> Result<(), WeightsError> {
        const PIECE: usize = 1 << 16;
        let (size, (start, end)) = self.find(name, shape)?;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        for at in (start..end).step_by(PIECE * size) {
            bytes.resize((end - at).min(PIECE * size), 0);
            let read = self.file.at(self.data + at as u64, &mut bytes);
            read.map_err(|source| WeightsError::Read { path: self.file.name.clone().into(), source })?;
            values.clear();
            match size {
                8 => values.extend(bytes.as_chunks().0.iter().map(|b| T::of(f64::from_le_bytes(*b)))),
                _ => values.extend(bytes.as_chunks().0.iter().map(|b| T::of(f32::from_le_bytes(*b).into()))),
            }
            put((at - start) / size, &values);
        }
        Ok(())
    }
}

/// A tensor to be written.
pub struct Entry<'a, T> {
    /// Its name.
    pub name: &'a str,
    /// Its shape in the file.
    pub shape: &'a [usize],
    /// Row-major values; of a matrix that is `turned`, those of its transpose.
    pub values: &'a [T],
    /// See `values`.
    pub turned: bool,
}

/// Writes tensors and metadata, atomically, in the given order. Where the metadata have a [`checksum::KEY`], it is filled in.
pub fn write_tensors<T: Element>(
    path: &Path,
    tensors: &[Entry<'_, T>],
    metadata: &Metadata,
) -> Result<(), WeightsError> {
    let write = |out: &mut dyn Write, sum: &str| {
        let mut header = Map::new();
        let mut metadata = metadata.clone();
        if let Some(digits) = metadata.get_mut(checksum::KEY) {
            *digits = sum.into();
        }
        if !metadata.is_empty() {
            header.insert("__metadata__".into(), json!(metadata));
        }
        let (mut offset, dtype) = (0, format!("{:?}", T::DTYPE));
        for Entry { name, shape, values, .. } in tensors {
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
        let mut write = |values: &mut dyn Iterator<Item = T>| {
            bytes.clear();
            values.for_each(|x| x.push_bytes(&mut bytes));
            out.write_all(&bytes)
        };
        const PIECE: usize = 1 << 14;
        for Entry { shape, values, turned, .. } in tensors {
            if !turned {
                values.chunks(PIECE).try_for_each(|chunk| write(&mut chunk.iter().copied()))?;
                continue;
            }
            // Some rows at a time, because each cache line holds a few.
            const ROWS: usize = 8;
            let (rows, columns) = (shape[0], shape[1]);
            let mut some = vec![T::zero(); ROWS * columns];
            for first in (0..rows).step_by(ROWS) {
                let count = ROWS.min(rows - first);
                for (c, row) in values.chunks_exact(rows).enumerate() {
                    (0..count).for_each(|r| some[r * columns + c] = row[first + r]);
                }
                some[..count * columns].chunks(PIECE).try_for_each(|chunk| write(&mut chunk.iter().copied()))?;
            }
        }
        Ok(())
    };
    let sum = || {
        let mut hashed = Hashed::new(std::io::sink());
        write(&mut hashed, checksum::NONE)?;
        Ok(hashed.digits())
    };
    // before the first byte is written: a pipe has no way back
    let sum = if metadata.contains_key(checksum::KEY) { sum() } else { Ok(String::new()) };
    sum.and_then(|sum| write_atomically(path, |out| write(out, &sum)))
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

    /// The same of those learned tensors that the file has, one at least; the others stay as they are.
    pub fn load_known(&mut self, path: &Path) -> Result<Loaded, WeightsError> {
        self.take(&TensorFile::read(path)?, true)
    }

    fn load_file(&mut self, file: &TensorFile) -> Result<Loaded, WeightsError> {
        self.take(file, false)
    }

    fn take(&mut self, file: &TensorFile, known: bool) -> Result<Loaded, WeightsError> {
        if let Some((stated, found)) = file.checksums()?.filter(|(stated, found)| stated != found) {
            return Err(WeightsError::Checksum { file: file.name().into(), stated, found });
        }
        let file = file.open()?;
        let mut ignored = file.names();
        let (mut read, mut kept) = (Vec::new(), Vec::new());
        let has_some = self.specs().iter().any(|spec| spec.is_learned() && ignored.contains(&spec.name));
        for (position, spec) in self.specs().iter().enumerate().filter(|(_, spec)| spec.is_learned()) {
            if known && has_some && !ignored.contains(&spec.name) {
                kept.push(spec.name.clone());
                continue;
            }
            let mut values = Vec::new();
            match spec.is_turned() {
                true => file.read_turned(&spec.name, &spec.shape, &mut values)?,
                false => file.read(&spec.name, &spec.shape, &mut values)?,
            }
            read.push((position, values));
        }
        ignored.retain(|name| self.position(name).is_none());
        for (position, values) in read {
            self.values_mut()[position] = values;
        }
        Ok(Loaded { ignored, kept, metadata: file.metadata })
    }

    /// Writes all tensors, atomically, with metadata.
    pub fn save(&self, path: &Path, metadata: &Metadata) -> Result<(), WeightsError> {
        let tensors: Vec<Entry<'_, T>> = self
            .specs()
            .iter()
            .zip(self.values())
            .map(|(s, values)| Entry { name: &s.name, shape: &s.shape, values, turned: s.is_turned() })
            .collect();
        write_tensors(path, &tensors, metadata)
    }
}

//! Data sets: a CSV file with a header, or a 2-D NPY array, as columns that the program knows by name.
//!
//! In a CSV file the coordinates are found by name (`x`, `t`; elements of a vector as `x[0]`, `x0` or `x_0`), the
//! mentioned columns (`obs.u`) too; other columns are ignored. In an NPY file the columns are the coordinates in order, then
//! the mentioned columns in the order of their first use. A program that embeds this one can give a data set in memory, with names as
//! in a CSV file. Every number must be finite.

use crate::net::checksum::Hashed;
use crate::net::read_matrix;
use crate::program::{Data, DataId, Given, Program};
use ndarray::ArrayView2;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A data set in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Number of rows.
    pub rows: usize,
    /// Coordinates, [rows, columns of a point].
    pub points: Vec<f64>,
    /// Mentioned columns, [rows, n], in the order of [`Data::columns`].
    pub values: Vec<f64>,
}

/// What is wrong with a data file. `file` is its path.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what its name says.
    #[error("{}: {reason}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A column that the program needs is not there.
    #[error("{}:1: there is no column `{name}`{} (columns: {})", file.display(), suggestion(name, found), list(found))]
    Column {
        /// The file.
        file: PathBuf,
        /// The column.
        name: String,
        /// Columns of the file.
        found: Vec<String>,
    },
    /// A cell holds no finite number.
    #[error("{}:{line}: column `{column}` holds `{text}`, which is no finite number", file.display())]
    Cell {
        /// The file.
        file: PathBuf,
        /// Line in the file, from 1 (row of the array for NPY).
        line: u64,
        /// The column.
        column: String,
        /// What is there.
        text: String,
    },
    /// An array has too few or too many columns.
    #[error("{}: the array has {found} columns, the program needs {}: {}", file.display(), expected.len(), list(expected))]
    Width {
        /// The file.
        file: PathBuf,
        /// Columns of the array.
        found: usize,
        /// Columns that the program needs, in order.
        expected: Vec<String>,
    },
}

fn suggestion(name: &str, found: &[String]) -> String {
    let close = found.iter().map(|f| (strsim::damerau_levenshtein(name, f), f));
    let close = close.filter(|(d, f)| *d <= 1 + f.len().min(name.len()) / 4).min();
    close.map_or(String::new(), |(_, f)| format!("; did you mean `{f}`?"))
}

/// At most a dozen names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 12;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        text += &format!(", ... {} in all", names.len());
    }
    text
}

impl Table {
    /// Number of mentioned columns.
    pub fn width(&self) -> usize {
        self.values.len().checked_div(self.rows).unwrap_or(0)
    }

    /// Reads a data set of a program; relative paths start at `folder`.
    pub fn load(program: &Program, data: DataId, folder: &Path) -> Result<Table, DataError> {
        let data = &program.data[data.index()];
        let file = data.place(folder);
        let is_npy = file.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
        let table = match &data.given {
            Some(given) => from_memory(program, data, given, &file)?,
            None if is_npy => read_npy(program, data, &file)?,
            None => read_csv(program, data, &file)?,
        };
        if table.rows == 0 {
            return Err(DataError::Format { file, reason: "it has no rows".into() });
        }
        if table.rows > 1 << 31 {
            return Err(DataError::Format { file, reason: format!("{} rows are too many", table.rows) });
        }
        Ok(table)
    }

    /// Reads points alone: a CSV file whose first line names the coordinates of the program, in any order.
    pub fn points(program: &Program, file: &Path) -> Result<Table, DataError> {
        let none = Data::default();
        read_csv(program, &none, file)
    }
}

/// What tells the data of a program from others: 16 digits of the SHA-256 of all; none where there are none, or where they are no files and
/// can be read only once.
///
/// # Errors
/// Where a file cannot be read.
pub fn fingerprint(program: &Program, folder: &Path) -> Result<Option<String>, DataError> {
    let mut hash = Hashed::new(io::sink());
    for data in &program.data {
        let place = data.place(folder);
        let mut put = || {
            hash.write_all(data.name.as_bytes())?;
            if let Some(given) = &data.given {
                hash.write_all(given.columns.join(",").as_bytes())?;
                given.rows.iter().try_for_each(|x| hash.write_all(&x.to_le_bytes()))?;
                return Ok(true);
            }
            let is_file = place.metadata()?.is_file();
            if is_file {
                io::copy(&mut File::open(&place)?, &mut hash)?;
            }
            Ok(is_file)
        };
        if !put().map_err(|source| DataError::Read { file: place.clone(), source })? {
            return Ok(None);
        }
    }
    Ok((!program.data.is_empty()).then(|| hash.digits()[..16].to_string()))
}

/// Names of the columns that a program needs: for each the spellings that are accepted.
fn wanted(program: &Program, data: &Data) -> Vec<Vec<String>> {
    let spellings = |name: &str, i: usize| vec![format!("{name}[{i}]"), format!("{name}{i}"), format!("{name}_{i}")];
    let mut columns = Vec::new();
    for group in &program.groups {
        match group.is_vector {
            true => columns.extend((0..group.len).map(|i| spellings(&group.name, i))),
            false => columns.push(vec![group.name.clone()]),
        }
    }
    columns.extend(data.columns.iter().map(|name| vec![name.clone()]));
    columns
}

fn read_csv(program: &Program, data: &Data, file: &Path) -> Result<Table, DataError> {
    let bytes = std::fs::read(file).map_err(|source| DataError::Read { file: file.into(), source })?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let format = |e: csv::Error| DataError::Format { file: file.into(), reason: csv_reason(&e) };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes);
    let header: Vec<String> = reader.headers().map_err(format)?.iter().map(str::to_owned).collect();
    let columns = find(program, data, &header, file)?;
    let mut table = Table::default();
    let width = program.columns();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(format)? {
        for (i, at) in columns.iter().enumerate() {
            let text = record.get(*at).unwrap_or("");
            let number = text.parse().ok().filter(|x: &f64| x.is_finite()).ok_or_else(|| DataError::Cell {
                file: file.into(),
                line: record.position().map_or(0, |p| p.line()),
                column: header[*at].clone(),
                text: text.into(),
            })?;
            if i < width { table.points.push(number) } else { table.values.push(number) }
        }
        table.rows += 1;
    }
    Ok(table)
}

/// Where the columns that a program needs are among those that there are.
fn find(program: &Program, data: &Data, header: &[String], file: &Path) -> Result<Vec<usize>, DataError> {
    let mut positions: HashMap<&str, usize> = HashMap::new();
    for (at, name) in header.iter().enumerate() {
        positions.entry(name).or_insert(at);
    }
    let find = |spellings: Vec<String>| {
        let at = spellings.iter().find_map(|s| positions.get(s.as_str()).copied());
        at.ok_or_else(|| DataError::Column { file: file.into(), name: spellings[0].clone(), found: header.to_vec() })
    };
    wanted(program, data).into_iter().map(find).collect()
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.as_ref().map_or(0, |p| p.line());
            format!("line {line} has {len} cells, the header has {expected_len}")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            format!("line {} is not UTF-8 text", pos.as_ref().map_or(0, |p| p.line()))
        }
        _ => error.to_string(),
    }
}

fn read_npy(program: &Program, data: &Data, file: &Path) -> Result<Table, DataError> {
    let bytes = std::fs::read(file).map_err(|source| DataError::Read { file: file.into(), source })?;
    let array = read_matrix(&bytes).map_err(|e| DataError::Format {
        file: file.into(),
        reason: format!("a 2-D array of f64 or f32 is needed: {e}"),
    })?;
    let names: Vec<String> = wanted(program, data).into_iter().map(|mut spellings| spellings.swap_remove(0)).collect();
    if array.ncols() != names.len() {
        return Err(DataError::Width { file: file.into(), found: array.ncols(), expected: names });
    }
    let columns: Vec<usize> = (0..names.len()).collect();
    table(program, (&names, array.view()), &columns, file)
}

fn from_memory(program: &Program, data: &Data, given: &Given, file: &Path) -> Result<Table, DataError> {
    let Given { columns: names, rows } = given;
    if names.len() != rows.ncols() {
        let reason = format!("{} columns have {} names", rows.ncols(), names.len());
        return Err(DataError::Format { file: file.into(), reason });
    }
    let found =
        find(program, data, names, file).and_then(|columns| table(program, (names, rows.view()), &columns, file));
    // there are no lines
    found.map_err(|e| {
        let reason = match e {
            DataError::Column { name, found, .. } => {
                format!("there is no column `{name}`{} (columns: {})", suggestion(&name, &found), list(&found))
            }
            DataError::Cell { line, column, text, .. } => {
                format!("row {} (from 0): column `{column}` holds `{text}`, which is no finite number", line - 1)
            }
            other => return other,
        };
        DataError::Format { file: file.into(), reason }
    })
}

/// Some columns of an array, in this order.
fn table(
    program: &Program,
    (names, array): (&[String], ArrayView2<'_, f64>),
    columns: &[usize],
    file: &Path,
) -> Result<Table, DataError> {
    let width = program.columns();
    let mut table = Table { rows: array.nrows(), ..Default::default() };
    for (line, row) in array.outer_iter().enumerate() {
        for (i, at) in columns.iter().enumerate() {
            let x = row[*at];
            if !x.is_finite() {
                let (column, text) = (names[*at].clone(), x.to_string());
                return Err(DataError::Cell { file: file.into(), line: line as u64 + 1, column, text });
            }
            if i < width { table.points.push(x) } else { table.values.push(x) }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Span;
    use crate::program::{Domain, Group, GroupKind};
    use ndarray::array;
    use ndarray_npy::WriteNpyExt;

    /// Vector x[2], time t, and the column u of `obs`.
    fn program(path: &str) -> Program {
        let group = |name: &str, kind, first, len| Group {
            name: name.into(),
            span: Span::default(),
            kind,
            first,
            len,
            is_vector: len > 1,
            domain: Domain::None,
            periodic: false,
        };
        let groups = vec![group("x", GroupKind::Space, 0, 2), group("t", GroupKind::Time, 2, 1)];
        let data = Data { name: "obs".into(), path: path.into(), columns: vec!["u".into()], ..Data::default() };
        Program { groups, data: vec![data], ..Default::default() }
    }

    fn load(name: &str, bytes: &[u8]) -> Result<Table, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), bytes).unwrap();
        let error = |e: DataError| e.to_string().replace(&format!("{}/", folder.path().display()), "");
        Table::load(&program(name), DataId(0), folder.path()).map_err(error)
    }

    fn expected() -> Table {
        Table { rows: 2, points: vec![1.0, 2.0, 3.0, 5.0, 6.0, 7.0], values: vec![4.0, 8.0] }
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_and_spelling() {
        for header in ["u,x[0],x[1],t", "u,x0,x1,t", "\u{feff}u, x_0 ,x[1],t"] {
            let text = format!("{header},extra\n4,1,2,3,9\n\n 8 ,5,6,7.0,ten\n");
            assert_eq!(load("a.csv", text.as_bytes()), Ok(expected()));
        }
    }

    #[test]
    fn wrong_files_say_where() {
        let error = |text: &str| load("a.csv", text.as_bytes()).unwrap_err();
        assert_eq!(
            error("x[0],x[1],T,u\n1,2,3,4"),
            "a.csv:1: there is no column `t`; did you mean `T`? (columns: x[0], x[1], T, u)"
        );
        assert_eq!(
            error("x0,x1,t,u\n1,2,3,4\n1,2,oops,4"),
            "a.csv:3: column `t` holds `oops`, which is no finite number"
        );
        assert_eq!(error("x0,x1,t,u\n1,2,3,nan"), "a.csv:2: column `u` holds `nan`, which is no finite number");
        assert_eq!(error("x0,x1,t,u\n1,2,3"), "a.csv: line 2 has 3 cells, the header has 4");
        assert_eq!(error("x0,x1,t,u\n"), "a.csv: it has no rows");
        assert!(error("").contains("no column `x[0]`"));
        let gone = Table::load(&program("gone.csv"), DataId(0), Path::new("nowhere"));
        assert!(matches!(gone, Err(DataError::Read { .. })));
        assert_eq!(load("a.csv", b"x0,x1,t,u\n1,2,\xff,4").unwrap_err(), "a.csv: line 2 is not UTF-8 text");
    }

    #[test]
    fn arrays_have_their_columns_in_order() {
        let mut bytes = Vec::new();
        array![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]].write_npy(&mut bytes).unwrap();
        assert_eq!(load("a.npy", &bytes), Ok(expected()));
        bytes.clear();
        array![[1f32, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
            .reversed_axes()
            .reversed_axes()
            .write_npy(&mut bytes)
            .unwrap();
        assert_eq!(load("a.npy", &bytes), Ok(expected()));
        bytes.clear();
        array![[1.0, 2.0, 3.0]].write_npy(&mut bytes).unwrap();
        let text = load("a.npy", &bytes).unwrap_err();
        assert_eq!(text, "a.npy: the array has 3 columns, the program needs 4: x[0], x[1], t, u");
        bytes.clear();
        array![[1.0, 2.0, 3.0, f64::INFINITY]].write_npy(&mut bytes).unwrap();
        assert_eq!(load("a.npy", &bytes).unwrap_err(), "a.npy:1: column `u` holds `inf`, which is no finite number");
        assert!(load("a.npy", b"not an array").unwrap_err().starts_with("a.npy: a 2-D array of f64 or f32 is needed"));
    }
}

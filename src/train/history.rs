//! The record of a run: a table of numbers, one row per recorded step, kept as `history.csv`.
//!
//! A number that was not measured at a step is NaN here and an empty cell in the file. Numbers are written so that they
//! read back to the same bits, which lets a checkpoint carry the table as text.

use crate::net::write_atomically;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Column names and rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// `step`, `loss`, conditions, `rate`, errors, `seconds`.
    pub columns: Vec<String>,
    /// One number per column.
    pub rows: Vec<Vec<f64>>,
}

impl History {
    /// An empty table.
    pub fn new(columns: Vec<String>) -> Self {
        History { columns, rows: Vec::new() }
    }

    /// One column, if it is there.
    pub fn column(&self, name: &str) -> Option<Vec<f64>> {
        let at = self.columns.iter().position(|c| c == name)?;
        Some(self.rows.iter().map(|row| row[at]).collect())
    }

    /// The table as CSV.
    pub fn to_csv(&self) -> String {
        let quoted: Vec<String> = self.columns.iter().map(|c| quote(c)).collect();
        let mut text = quoted.join(",") + "\n";
        for row in &self.rows {
            push_row(&mut text, row);
        }
        text
    }

    /// Reads what [`History::to_csv`] wrote; none where the text is something else.
    pub fn from_csv(text: &str) -> Option<Self> {
        let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let columns = reader.headers().ok()?.iter().map(str::to_owned).collect();
        let mut history = History::new(columns);
        for record in reader.records() {
            let cell = |c: &str| if c.is_empty() { Some(f64::NAN) } else { c.parse().ok() };
            history.rows.push(record.ok()?.iter().map(cell).collect::<Option<_>>()?);
        }
        Some(history)
    }
}

fn quote(name: &str) -> String {
    if name.contains([',', '"', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

fn push_row(text: &mut String, row: &[f64]) {
    for (i, x) in row.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        if x.is_nan() {
            // An empty cell.
        } else if x.fract() == 0.0 && x.abs() < 1e15 {
            let _ = write!(text, "{x}");
        } else {
            let _ = write!(text, "{x:?}");
        }
    }
    text.push('\n');
}

/// `history.csv` while a run goes on: rows are appended and flushed as they come.
pub struct HistoryFile {
    file: File,
}

impl HistoryFile {
    /// Replaces the file by the rows so far (none for a new run, those of the checkpoint for a resumed one).
    pub fn start(path: &Path, history: &History) -> io::Result<Self> {
        write_atomically(path, |out| out.write_all(history.to_csv().as_bytes()))?;
        Ok(HistoryFile { file: OpenOptions::new().append(true).open(path)? })
    }

    /// Appends a row: one write, so that a reader never sees half of it for long.
    pub fn push(&mut self, row: &[f64]) -> io::Result<()> {
        let mut text = String::new();
        push_row(&mut text, row);
        self.file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip_is_exact() {
        let mut history = History::new(vec!["step".into(), "error(u, \"exact\")".into()]);
        history.rows = vec![vec![1.0, 0.1 + 0.2], vec![2.0, f64::NAN], vec![3.0, f64::INFINITY], vec![4.0, 5e-324]];
        let text = history.to_csv();
        assert_eq!(text.lines().next(), Some("step,\"error(u, \"\"exact\"\")\""));
        assert_eq!(text.lines().nth(2), Some("2,"));
        let back = History::from_csv(&text).unwrap();
        assert_eq!(back.columns, history.columns);
        let bits = |h: &History| h.rows.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&back), bits(&history));
        assert_eq!(History::from_csv("step\nx\n"), None);
    }

    #[test]
    fn the_file_grows_row_by_row_and_is_cut_back_on_resume() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.csv");
        let mut history = History::new(vec!["step".into(), "loss".into()]);
        let mut file = HistoryFile::start(&path, &history).unwrap();
        file.push(&[1.0, 0.5]).unwrap();
        file.push(&[2.0, 0.25]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,loss\n1,0.5\n2,0.25\n");
        history.rows.push(vec![1.0, 0.5]);
        let mut file = HistoryFile::start(&path, &history).unwrap();
        file.push(&[2.0, 0.125]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "step,loss\n1,0.5\n2,0.125\n");
    }
}

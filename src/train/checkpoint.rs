//! The whole state of a run in one file, `checkpoint.safetensors`, from which it continues with the same bits.
//!
//! Tensors `value/NAME`, `first/NAME`, `second/NAME` (as the optimiser sees them: a parameter learned in its logarithm is
//! stored as its logarithm; a wide weight as [in, out], as it is kept) in the precision of the run; everything else is string metadata. Random numbers need no state:
//! they are functions of the seed and the step.

use super::adam::Moments;
use super::history::History;
use crate::net::{Element, Entry, Metadata, TensorFile, WeightsError, write_tensors};
use std::path::{Path, PathBuf};

const FORMAT: &str = "jetc checkpoint 1";

/// What must be the same in a run that resumes another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Program text with everything that changes its meaning (overrides, estimates), as text.
    pub program: String,
    /// The seed.
    pub seed: u64,
    /// How many steps the schedule is made for; none where it does not matter.
    pub steps: Option<usize>,
    /// `f32` or `f64`.
    pub precision: String,
    /// The fingerprint of the data; none where there are none.
    pub data: Option<String>,
}

/// Where a run is after `step` updates, tensors and moments aside.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Updates done.
    pub step: u64,
    /// Rows so far.
    pub history: History,
    /// Seconds of all sessions so far.
    pub seconds: f64,
}

/// Why a run cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read or written, is damaged, or holds other tensors.
    #[error("checkpoint: {0}")]
    File(#[from] WeightsError),
    /// A safetensors file, but not written by a training run of this version.
    #[error("{} is not a checkpoint of a training run: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A checkpoint of another run.
    #[error("cannot resume from {}: it was made with {found}, this run has {expected}; train without --resume, or into another folder{}", path.display(), hint(path))]
    Changed {
        /// The file.
        path: PathBuf,
        /// What the checkpoint has.
        found: String,
        /// What this run has.
        expected: String,
    },
}

/// What of a run that cannot be resumed can be used all the same.
fn hint(checkpoint: &Path) -> String {
    let weights = checkpoint.with_file_name("solver.safetensors");
    if weights.exists() {
        format!("; --weights {} begins with what it learned", weights.display())
    } else {
        String::new()
    }
}

/// Writes the state atomically: a process that dies leaves the previous checkpoint.
pub fn save<T: Element>(
    path: &Path,
    identity: &Identity,
    names: &[(String, Vec<usize>)],
    state: &State,
    values: &[Vec<T>],
    moments: &Moments<T>,
) -> Result<(), CheckpointError> {
    let kinds = [("value", values), ("first", &moments.first), ("second", &moments.second)];
    let labels: Vec<Vec<String>> =
        kinds.iter().map(|(kind, _)| names.iter().map(|(name, _)| format!("{kind}/{name}")).collect()).collect();
    let mut entries: Vec<Entry<'_, T>> = Vec::new();
    for ((_, tensors), labels) in kinds.iter().zip(&labels) {
        for ((tensor, label), (_, shape)) in tensors.iter().zip(labels).zip(names) {
            entries.push(Entry { name: label, shape, values: tensor, turned: false });
        }
    }
    let metadata = [
        ("format", FORMAT.to_owned()),
        ("program", identity.program.clone()),
        ("seed", identity.seed.to_string()),
        ("steps", identity.steps.map_or("any".into(), |n| n.to_string())),
        ("precision", identity.precision.clone()),
        ("data", identity.data.clone().unwrap_or_default()),
        ("step", state.step.to_string()),
        ("seconds", format!("{:?}", state.seconds)),
        ("history", state.history.to_csv()),
    ];
    let metadata: Metadata = metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Ok(write_tensors(path, &entries, &metadata)?)
}

/// Reads a checkpoint of the same run, whose history has these columns. The tensors go into `values`, in place of what they hold, and not into the state:
/// they may be too large to be there twice.
pub fn load<T: Element>(
    path: &Path,
    identity: &Identity,
    (names, columns): (&[(String, Vec<usize>)], &[String]),
    values: &mut [Vec<T>],
) -> Result<(State, Moments<T>), CheckpointError> {
    let file = TensorFile::read(path)?;
    let file = file.open()?;
    let foreign = |reason: String| CheckpointError::Foreign { path: path.into(), reason };
    let text = |key: &str| {
        let value = file.metadata.get(key).map(String::as_str);
        value.ok_or_else(|| foreign(format!("its metadata has no `{key}`")))
    };
    match text("format")? {
        FORMAT => {}
        other => return Err(foreign(format!("its format is `{other}`, this version reads `{FORMAT}`"))),
    }
    same_run(path, identity, &text)?;
    let unreadable = |key: &str| foreign(format!("its `{key}` cannot be read"));
    let read = |kind: &str, all: &mut [Vec<T>]| -> Result<(), CheckpointError> {
        let one = |((name, shape), values): (&(String, Vec<usize>), &mut Vec<T>)| {
            let label = format!("{kind}/{name}");
            match (file.shape(&label), &shape[..]) {
                // a wide weight of a checkpoint from before these were kept as [in, out]
                (Some(found), [rows, columns]) if rows != columns && found == [*columns, *rows] => {
                    file.read_turned(&label, &found, values)
                }
                _ => file.read(&label, shape, values),
            }
        };
        Ok(names.iter().zip(all).try_for_each(one)?)
    };
    let new = || -> Vec<Vec<T>> { vec![Vec::new(); names.len()] };
    let mut moments = Moments { first: new(), second: new() };
    let history = History::from_csv(text("history")?).ok_or_else(|| unreadable("history"))?;
    if history.columns != columns {
        let [found, expected] = [&history.columns[..], columns].map(|c| format!("a history of {}", c.join(", ")));
        return Err(CheckpointError::Changed { path: path.into(), found, expected });
    }
    let is_time = |seconds: &f64| (0.0..f64::INFINITY).contains(seconds);
    let state = State {
        step: text("step")?.parse().map_err(|_| unreadable("step"))?,
        seconds: text("seconds")?.parse().ok().filter(is_time).ok_or_else(|| unreadable("seconds"))?,
        history,
    };
    read("value", values)?;
    read("first", &mut moments.first)?;
    read("second", &mut moments.second)?;
    Ok((state, moments))
}

fn same_run<'a>(
    path: &Path,
    identity: &Identity,
    text: &impl Fn(&str) -> Result<&'a str, CheckpointError>,
) -> Result<(), CheckpointError> {
    let changed = |found: String, expected: String| CheckpointError::Changed { path: path.into(), found, expected };
    let steps = identity.steps.map_or("any".into(), |n| n.to_string());
    let settings = [("seed", identity.seed.to_string()), ("steps", steps), ("precision", identity.precision.clone())];
    for (key, expected) in settings {
        let found = text(key)?;
        if found != expected {
            return Err(changed(format!("{key} = {found}"), format!("{key} = {expected}")));
        }
    }
    // those of earlier versions say nothing about data
    if let (Ok(found), Some(expected)) = (text("data"), &identity.data)
        && found != expected
    {
        let found = if found.is_empty() { "no data".into() } else { format!("other data ({found})") };
        return Err(changed(found, format!("data {expected}")));
    }
    let found = text("program")?;
    if found != identity.program {
        let mut lines = identity.program.lines().zip(found.lines()).enumerate();
        let place = match lines.find(|(_, (now, then))| now != then) {
            Some((n, (now, then))) => (format!("`{then}` in line {}", n + 1), format!("`{now}`")),
            None => {
                (format!("{} lines of program", found.lines().count()), identity.program.lines().count().to_string())
            }
        };
        return Err(changed(format!("another program ({})", place.0), place.1));
    }
    Ok(())
}

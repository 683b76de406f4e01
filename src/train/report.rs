//! What a run says at its end: `report.json`.

use super::types::Outcome;
use crate::net::write_atomically;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::path::Path;

/// One entry of a `report` statement, measured. Fields that do not belong to its kind are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measurement {
    /// As written: `error(u, exact)`, `value(nu)`.
    pub label: String,
    /// |u - exact| / |exact| over the test points, root of the mean square.
    pub l2_relative: Option<f64>,
    /// The same of the absolute values.
    pub l1_relative: Option<f64>,
    /// `l2_relative` of the best constant network in place of the trained one.
    pub best_constant: Option<f64>,
    /// The number that was asked for.
    pub value: Option<f64>,
    /// Its known value.
    pub reference: Option<f64>,
    /// How a rollout went.
    pub rollout: Option<RolloutFacts>,
}

/// How the rollouts of a flow went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RolloutFacts {
    /// Evaluations of the right side for each trajectory.
    pub evaluations: u64,
    /// The largest rate of change of the right side, times the length of a step: explicit methods need less than about 2.
    pub stiffness: f64,
    /// Time at which a trajectory left the finite numbers, or its steps became too small.
    pub left_at: Option<f64>,
}

impl Measurement {
    /// The one number of a progress line: the relative L2 error, or the value.
    pub fn headline(&self) -> Option<f64> {
        self.l2_relative.or(self.value)
    }
}

/// The report as JSON. `error` and `best_constant` are those of the first error report; `measurements` has all.
/// Numbers that are not finite are null.
pub fn to_json(outcome: &Outcome, device: &str, seed: u64) -> Value {
    let measurements = &outcome.measurements;
    let mut report = Map::new();
    if let Some(m) = measurements.iter().find(|m| m.l2_relative.is_some()) {
        report.insert("error".into(), json!({"l2_relative": m.l2_relative, "l1_relative": m.l1_relative}));
        report.insert("best_constant".into(), json!(m.best_constant));
    }
    let values: Map<String, Value> =
        measurements.iter().filter_map(|m| Some((m.label.clone(), json!(m.value?)))).collect();
    report.insert("values".into(), Value::Object(values));
    report.insert("measurements".into(), measurements.iter().map(measurement_json).collect());
    report.insert("loss".into(), json!(outcome.loss));
    report.insert("steps".into(), json!(outcome.step));
    report.insert("finished".into(), json!(outcome.finished));
    report.insert("seconds".into(), json!(outcome.seconds));
    report.insert("steps_per_second".into(), json!(outcome.steps_per_second));
    report.insert("peak_memory_bytes".into(), json!(peak_memory_bytes()));
    report.insert("device".into(), json!(device));
    report.insert("seed".into(), json!(seed));
    Value::Object(report)
}

fn measurement_json(m: &Measurement) -> Value {
    let fields = [
        ("l2_relative", m.l2_relative),
        ("l1_relative", m.l1_relative),
        ("best_constant", m.best_constant),
        ("value", m.value),
        ("reference", m.reference),
    ];
    let mut object = Map::from_iter([("label".to_owned(), json!(m.label))]);
    if let Some(r) = &m.rollout {
        object.insert("evaluations".into(), json!(r.evaluations));
        object.insert("stiffness".into(), json!(r.stiffness));
        object.insert("left_at".into(), json!(r.left_at));
    }
    object.extend(fields.into_iter().filter_map(|(key, x)| Some((key.to_owned(), json!(x?)))));
    Value::Object(object)
}

/// Writes the report, atomically.
pub fn write(path: &Path, report: &Value) -> io::Result<()> {
    write_atomically(path, |out| {
        serde_json::to_writer_pretty(&mut *out, report)?;
        out.write_all(b"\n")
    })
}

/// The most memory that this process has held, where the system says so.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

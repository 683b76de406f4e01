//! `plan --variance`: how noisy the estimators are, and the alternatives.

use super::source::Loaded;
use super::{Failure, args};
use crate::solver::{Comparison, Measured, variances};
use serde_json::{Value, json};
use std::fmt::Write;

/// Measures the variance of a program's estimators.
pub fn measure(args: &args::Plan, loaded: &Loaded) -> Result<Vec<Comparison>, Failure> {
    let parameters = loaded.parameters::<f64>(args.weights.as_deref(), args.seed)?;
    variances(&loaded.program, &parameters, &loaded.folder(), args.seed).map_err(|e| loaded.failure(e))
}

/// Variance times work, relative to that of the program as it is; none where either is 0.
fn efficiency(first: &Result<Measured, String>, m: &Measured) -> Option<f64> {
    let of = |m: &Measured| m.variance * m.flops;
    first.as_ref().ok().map(of).filter(|w| *w > 0.0 && m.variance > 0.0).map(|w| of(m) / w)
}

/// As JSON.
pub fn json(comparisons: &[Comparison]) -> Value {
    let one = |c: &Comparison| {
        let row = |(name, m): &(String, Result<Measured, String>)| match m {
            Ok(m) => json!({
                "method": name, "rows": m.rows, "variance": m.variance, "mean_square": m.mean_square,
                "flops_per_point": m.flops, "variance_times_work": efficiency(&c.methods[0].1, m),
            }),
            Err(why) => json!({ "method": name, "refused": why }),
        };
        let rows: Vec<Value> = c.methods.iter().map(row).collect();
        json!({ "name": c.name, "points": c.points, "draws": c.draws, "methods": rows })
    };
    comparisons.iter().map(one).collect()
}

/// For people.
pub fn text(comparisons: &[Comparison]) -> String {
    let mut out = String::new();
    if comparisons.is_empty() {
        out.push_str("variance\n  there is nothing that could be estimated: no sum over many coordinates\n");
    }
    for c in comparisons {
        let _ = writeln!(out, "variance of {} at {} points, up to {} draws at each", c.name, c.points, c.draws);
        let head = ["method", "rows", "variance", "of the square", "flops per point", "variance x work"];
        let _ = writeln!(
            out,
            "  {:<28}{:>6}{:>12}{:>15}{:>17}{:>17}",
            head[0], head[1], head[2], head[3], head[4], head[5]
        );
        for (name, measured) in &c.methods {
            match measured {
                Ok(m) => {
                    let share = if m.variance == 0.0 { 0.0 } else { m.variance / m.mean_square };
                    let work = efficiency(&c.methods[0].1, m)
                        .map_or("-".into(), |e| if e >= 0.1 { format!("{e:.2}") } else { format!("{e:.1e}") });
                    let _ = writeln!(
                        out,
                        "  {name:<28}{:>6}{:>12.3e}{share:>15.2e}{:>17.2e}{work:>17}",
                        m.rows, m.variance, m.flops
                    );
                }
                Err(why) => {
                    let _ = writeln!(out, "  {name:<28}  refused: {why}");
                }
            }
        }
    }
    out
}

//! A solution on a grid, where it has at most two coordinates.

use super::evaluator::{Error, Evaluator};
use crate::cpu::Number;
use crate::net::Parameters;
use crate::plan::plan_expressions;
use crate::program::{Domain, Program, ReportKind, Shape};

/// Grid points of a line.
const LINE: usize = 401;
/// Grid points along each side of a square.
const SIDE: usize = 101;

/// A field on a regular grid.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Name of the field.
    pub field: String,
    /// Names of the coordinates: one or two.
    pub axes: Vec<String>,
    /// Their ranges.
    pub ranges: Vec<(f64, f64)>,
    /// Grid points along each.
    pub counts: Vec<usize>,
    /// Values, the first coordinate fastest.
    pub solution: Vec<f64>,
    /// The exact solution, where a report names one.
    pub exact: Option<Vec<f64>>,
}

/// The first scalar field on a grid; none where there is no such field, or more than two coordinates or an unbounded one.
pub fn picture<T: Number>(program: &Program, parameters: &Parameters<T>) -> Result<Option<Picture>, Error> {
    let Some(field) = program.fields.iter().find(|f| program.shape(f.value) == Shape::Scalar) else {
        return Ok(None);
    };
    let mut axes = Vec::new();
    for g in &program.groups {
        let (lo, hi) = match g.domain {
            Domain::Interval(lo, hi) => (lo, hi),
            Domain::Ball { radius, .. } => (-radius, radius),
            _ => return Ok(None),
        };
        for k in 0..g.len {
            let name = if g.is_vector { format!("{}[{k}]", g.name) } else { g.name.clone() };
            axes.push((name, (lo, hi)));
            if axes.len() > 2 {
                return Ok(None);
            }
        }
    }
    if axes.is_empty() {
        return Ok(None);
    }
    let exact = program.reports.iter().find_map(|r| match r.kind {
        ReportKind::Error { value, exact, data: None } if program.same(value, field.value) => Some(exact),
        _ => None,
    });
    let counts = if axes.len() == 1 { vec![LINE] } else { vec![SIDE, SIDE] };
    let mut points = Vec::new();
    let count: usize = counts.iter().product();
    for p in 0..count {
        let mut rest = p;
        for ((_, (lo, hi)), n) in axes.iter().zip(&counts) {
            let k = rest % n;
            rest /= n;
            points.push(T::of(lo + (hi - lo) * k as f64 / (n - 1) as f64));
        }
    }
    let expressions: Vec<_> = std::iter::once(field.value).chain(exact).collect();
    let set = plan_expressions(program, &field.name, &expressions)?;
    let evaluator = Evaluator::<T>::new(&set.program)?;
    let values = evaluator.run(parameters, count, &points, &[], 0, 0)?;
    let width = evaluator.width();
    let column = |k: usize| values.iter().skip(k).step_by(width).map(|v| v.f64()).collect::<Vec<f64>>();
    Ok(Some(Picture {
        field: field.name.clone(),
        ranges: axes.iter().map(|a| a.1).collect(),
        axes: axes.into_iter().map(|a| a.0).collect(),
        counts,
        solution: column(0),
        exact: exact.map(|_| column(1)),
    }))
}

//! Where the points of a condition come from.
//!
//! Every number is a function of (seed, condition, step, point, column): any step, and any range of its points, can be had
//! on its own. With n points per step:
//!
//! - intervals are uniform; where there are at most eight such columns, each is a randomised Latin hypercube: the n points
//!   fall into n equal strata, one each, matched between columns at random. This only lowers the variance of a mean;
//! - a ball is a uniform direction times a radius (stratified), the state of a Brownian motion is scale sqrt(t) times a normal;
//! - a boundary is all faces of the box in turn, as evenly as n allows, in an order that changes from step to step;
//! - rows of data are dealt in a random order, a new one when all have been dealt.
//!
//! Stream layout: normal numbers of a point start at its row, uniform ones 2^33 further, see [`crate::net::Philox`].

use super::data::Table;
use super::step_points::StepPoints;
use crate::diagnostic::{Diagnostic, Span};
use crate::net::{Element, Purpose};
use crate::program::{Condition, Domain, Group, GroupKind, Program, Region};
use std::ops::Range;
use std::sync::Arc;

/// Most interval columns that are stratified.
const STRATIFIED: usize = 8;

/// Points of one step and what belongs to them, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch<T> {
    /// [P, columns]
    pub points: Vec<T>,
    /// [P, mentioned columns] of the data rows; empty where the points are no data.
    pub data: Vec<T>,
    /// [P, space dimension], outward; empty where not asked for. Zero where the region has no normal.
    pub normals: Vec<T>,
}

/// The points of one condition or report, at any step. It is plain data: kernels that make the points are made from it.
#[derive(Clone, Debug)]
pub struct Sampler {
    pub(crate) groups: Vec<Group>,
    /// Of a point.
    pub(crate) columns: usize,
    pub(crate) place: Place,
    pub(crate) count: usize,
    pub(crate) seed: u64,
    pub(crate) purpose: Purpose,
    pub(crate) number: usize,
    pub(crate) stratified: bool,
    pub(crate) normals: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Interior,
    /// All faces of these groups (positions), two for each column.
    Boundary(Vec<usize>),
    Face(Face),
    Data(Arc<Table>),
}

/// A fixed column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Face {
    pub(crate) column: usize,
    pub(crate) value: f64,
    pub(crate) outward: f64,
}

impl Sampler {
    /// The points of condition number `number` of a program; `data` where it holds on a data set.
    pub fn new(program: &Program, number: usize, seed: u64, data: Option<Arc<Table>>) -> Result<Self, Diagnostic> {
        let condition = &program.conditions[number];
        let place = place(program, condition, data)?;
        Self::build(program, place, condition.count, seed, (Purpose::Points, number), condition.span)
    }

    /// `count` test points of report number `number`, in the interior. They are the same at every step that is asked for once.
    pub fn test(program: &Program, number: usize, count: usize, seed: u64) -> Result<Self, Diagnostic> {
        Self::build(program, Place::Interior, count, seed, (Purpose::Test, number), Span::default())
    }

    /// `count` rows of a table per step, every row once in an epoch, in an order of the seed's.
    pub fn rows(program: &Program, table: Arc<Table>, count: usize, seed: u64) -> Self {
        Self::unchecked(program, Place::Data(table), count, seed, (Purpose::Points, 0))
    }

    /// Makes batches carry outward normals.
    pub fn with_normals(mut self) -> Self {
        self.normals = true;
        self
    }

    /// Points per step.
    pub fn count(&self) -> usize {
        self.count
    }

    fn build(
        program: &Program,
        place: Place,
        count: usize,
        seed: u64,
        (purpose, number): (Purpose, usize),
        span: Span,
    ) -> Result<Self, Diagnostic> {
        let fixed = match &place {
            Place::Face(face) => Some(face.column),
            _ => None,
        };
        if !matches!(place, Place::Data(_)) {
            program.groups.iter().try_for_each(|group| check_domain(program, group, fixed, span))?;
        }
        Ok(Self::unchecked(program, place, count, seed, (purpose, number)))
    }

    fn unchecked(
        program: &Program,
        place: Place,
        count: usize,
        seed: u64,
        (purpose, number): (Purpose, usize),
    ) -> Self {
        let intervals: usize =
            program.groups.iter().filter(|g| matches!(g.domain, Domain::Interval(..))).map(|g| g.len).sum();
        Sampler {
            groups: program.groups.clone(),
            columns: program.columns(),
            place,
            count,
            seed,
            purpose,
            number,
            stratified: intervals <= STRATIFIED,
            normals: false,
        }
    }

    /// All points of a step, in place of what `batch` holds.
    pub fn sample<T: Element>(&self, step: u64, batch: &mut Batch<T>) {
        self.sample_rows(step, 0..self.count, batch);
    }

    /// Some points of a step: the same numbers as [`Sampler::sample`] gives them.
    pub fn sample_rows<T: Element>(&self, step: u64, rows: Range<usize>, batch: &mut Batch<T>) {
        let points = self.points(step, rows, None);
        points.rows(&mut batch.points);
        (batch.data, batch.normals) = (points.data, points.normals);
    }

    /// Some points of a step, to be made block by block; with `keep` all of them are made once, into that array.
    pub fn points<T: Element>(&self, step: u64, rows: Range<usize>, keep: Option<Vec<T>>) -> StepPoints<T> {
        let rows = rows.start.min(self.count)..rows.end.min(self.count);
        StepPoints::new(self, step, rows, keep)
    }

    /// The streams of the points, and of strata, faces and permutations.
    pub(crate) fn streams(&self) -> [u32; 2] {
        // Test points have strata of their own.
        let offset = if self.purpose == Purpose::Test { 1 << 23 } else { 0 };
        [self.purpose.stream(self.number), Purpose::Strata.stream(self.number + offset)]
    }

    /// Width of the normals.
    pub(crate) fn space(&self) -> usize {
        self.groups.iter().filter(|g| g.kind == GroupKind::Space).map(|g| g.len).sum()
    }
}

fn place(program: &Program, condition: &Condition, data: Option<Arc<Table>>) -> Result<Place, Diagnostic> {
    let error = |text: String| Diagnostic::error(condition.span, text);
    match &condition.region {
        Region::Interior => Ok(Place::Interior),
        Region::Boundary => {
            let is_box = |g: &Group| g.kind == GroupKind::Space && matches!(g.domain, Domain::Interval(..));
            let groups: Vec<usize> = (0..program.groups.len())
                .filter(|g| is_box(&program.groups[*g]) && !program.groups[*g].periodic)
                .collect();
            if groups.is_empty() {
                return Err(error(format!("condition `{}` is on a boundary, but space has no faces", condition.name))
                    .note("the faces are those of a box: `space x in box(0..1)`, without the periodic coordinates"));
            }
            Ok(Place::Boundary(groups))
        }
        Region::Face { coordinate, value, outward } => {
            let group = &program.groups[coordinate.group.index()];
            let element = usize::try_from(coordinate.index.offset).ok();
            let element = element.filter(|e| *e < group.len && coordinate.index.terms.is_empty());
            let element = element.ok_or_else(|| error(format!("`{}` has no such element", group.name)))?;
            Ok(Place::Face(Face { column: group.first + element, value: *value, outward: f64::from(*outward) }))
        }
        Region::Data(_) => match data {
            Some(table) if table.rows > 0 => Ok(Place::Data(table)),
            _ => Err(error(format!("condition `{}` is on a data set that is empty or was not loaded", condition.name))),
        },
    }
}

/// A group that is sampled needs a domain, unless its only column is fixed.
fn check_domain(program: &Program, group: &Group, fixed: Option<usize>, span: Span) -> Result<(), Diagnostic> {
    let name = &group.name;
    match group.domain {
        Domain::None if group.len == 1 && fixed == Some(group.first) => Ok(()),
        Domain::None => {
            let example = match group.kind {
                GroupKind::Time => format!("time {name} in 0..1"),
                _ if group.is_vector => format!("space {name}[{}] in box(0..1)", group.len),
                _ => format!("space {name} in box(0..1)"),
            };
            let error =
                Diagnostic::error(group.span, format!("points are drawn, but `{name}` does not say from where"));
            Err(error.also(span, "drawn here").note(format!("write, for example, `{example}`")))
        }
        Domain::Brownian { .. } if !program.groups.iter().any(|g| g.kind == GroupKind::Time) => {
            let error =
                Diagnostic::error(group.span, format!("`{name}` follows a Brownian motion, but there is no time"));
            Err(error.note("declare one: `time t in 0..1`"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "points_tests.rs"]
mod tests;

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
use super::permutation::Permutation;
use crate::diagnostic::{Diagnostic, Span};
use crate::net::{Element, Philox, Purpose, row};
use crate::program::{Condition, Domain, Group, GroupKind, Program, Region};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Most interval columns that are stratified.
const STRATIFIED: usize = 8;
/// Uniform numbers of a point start here, behind its normal ones.
const UNIFORM: u64 = 1 << 33;
/// Numbers made at a time.
const CHUNK: usize = 512;

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

/// The points of one condition or report, at any step.
#[derive(Clone, Debug)]
pub struct Sampler {
    groups: Vec<Group>,
    columns: usize,
    place: Place,
    count: usize,
    seed: u64,
    purpose: Purpose,
    number: usize,
    stratified: bool,
    normals: bool,
}

#[derive(Clone, Debug)]
enum Place {
    Interior,
    /// All faces of these groups (positions), two for each column.
    Boundary(Vec<usize>),
    Face(Face),
    Data(Arc<Table>),
}

/// A fixed column.
#[derive(Clone, Copy, Debug)]
struct Face {
    column: usize,
    value: f64,
    outward: f64,
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
        let intervals: usize =
            program.groups.iter().filter(|g| matches!(g.domain, Domain::Interval(..))).map(|g| g.len).sum();
        Ok(Sampler {
            groups: program.groups.clone(),
            columns: program.columns(),
            place,
            count,
            seed,
            purpose,
            number,
            stratified: intervals <= STRATIFIED,
            normals: false,
        })
    }

    /// All points of a step, in place of what `batch` holds.
    pub fn sample<T: Element>(&self, step: u64, batch: &mut Batch<T>) {
        self.sample_rows(step, 0..self.count, batch);
    }

    /// Some points of a step: the same numbers as [`Sampler::sample`] gives them.
    pub fn sample_rows<T: Element>(&self, step: u64, rows: Range<usize>, batch: &mut Batch<T>) {
        let rows = rows.start.min(self.count)..rows.end.min(self.count);
        let clear = |out: &mut Vec<T>, width: usize| {
            out.clear();
            out.resize(rows.len() * width, T::zero());
        };
        clear(&mut batch.points, self.columns);
        clear(&mut batch.data, 0);
        clear(&mut batch.normals, if self.normals { self.space() } else { 0 });
        if let Place::Data(table) = &self.place {
            self.deal(table, step, rows, batch);
        } else if self.columns > 0 {
            let draw = Draw::new(self, step);
            let first = rows.start;
            batch.points.par_chunks_mut(self.columns).with_min_len(1 + 4096 / self.columns).enumerate().for_each(
                |(i, point)| {
                    draw.point(first + i, point);
                },
            );
            self.fill_normals(&draw, first, batch);
        }
    }

    fn space(&self) -> usize {
        self.groups.iter().filter(|g| g.kind == GroupKind::Space).map(|g| g.len).sum()
    }

    fn fill_normals<T: Element>(&self, draw: &Draw<'_>, first: usize, batch: &mut Batch<T>) {
        let width = self.space();
        if !self.normals || width == 0 {
            return;
        }
        for (i, normal) in batch.normals.chunks_mut(width).enumerate() {
            let Some((face, _)) = draw.face(first + i) else { continue };
            let mut before = 0;
            for group in self.groups.iter().filter(|g| g.kind == GroupKind::Space) {
                if (group.first..group.first + group.len).contains(&face.column) {
                    normal[before + face.column - group.first] = T::of(face.outward);
                }
                before += group.len;
            }
        }
    }

    /// Rows of a data set: point number step * count + p overall is a row of the permutation of its epoch.
    fn deal<T: Element>(&self, table: &Table, step: u64, rows: Range<usize>, batch: &mut Batch<T>) {
        let n = table.rows as u64;
        let width = table.width();
        batch.points.clear();
        let mut current = None;
        for p in rows {
            let dealt = step * self.count as u64 + p as u64;
            let (epoch, i) = (dealt / n, (dealt % n) as u32);
            let permutation = match current {
                Some((e, permutation)) if e == epoch => permutation,
                _ => {
                    let key = Philox::new(self.seed, Purpose::Strata.stream(self.number), epoch as u32).block(0);
                    current.insert((epoch, Permutation::new(n as u32, key))).1
                }
            };
            let at = permutation.at(i) as usize;
            batch.points.extend(table.points[at * self.columns..][..self.columns].iter().map(|x| T::of(*x)));
            batch.data.extend(table.values[at * width..][..width].iter().map(|x| T::of(*x)));
        }
    }
}

/// The numbers of one step.
struct Draw<'a> {
    sampler: &'a Sampler,
    points: Philox,
    strata: Philox,
    /// The order of the faces, and how many there are.
    faces: Option<(Permutation, usize)>,
}

impl<'a> Draw<'a> {
    fn new(sampler: &'a Sampler, step: u64) -> Self {
        let stream =
            |purpose: Purpose, offset| Philox::new(sampler.seed, purpose.stream(sampler.number + offset), step as u32);
        // Test points have strata of their own.
        let offset = if sampler.purpose == Purpose::Test { 1 << 23 } else { 0 };
        let strata = stream(Purpose::Strata, offset);
        let faces = match &sampler.place {
            Place::Boundary(groups) => {
                let faces = 2 * groups.iter().map(|g| sampler.groups[*g].len).sum::<usize>();
                Some((Permutation::new(faces as u32, strata.block(u64::MAX)), faces))
            }
            _ => None,
        };
        Draw { sampler, points: stream(sampler.purpose, 0), strata, faces }
    }

    /// The face of a point, and its number among all faces.
    fn face(&self, p: usize) -> Option<(Face, usize)> {
        match (&self.sampler.place, &self.faces) {
            (Place::Face(face), _) => Some((*face, 0)),
            (Place::Boundary(groups), Some((order, faces))) => {
                let number = order.at((p % faces) as u32) as usize;
                let mut element = number / 2;
                for group in groups.iter().map(|g| &self.sampler.groups[*g]) {
                    if element < group.len {
                        let Domain::Interval(lo, hi) = group.domain else { return None };
                        let (value, outward) = if number.is_multiple_of(2) { (lo, -1.0) } else { (hi, 1.0) };
                        return Some((Face { column: group.first + element, value, outward }, number));
                    }
                    element -= group.len;
                }
                None
            }
            _ => None,
        }
    }

    /// Which stratum point `p` has in a column, of how many. The points of one face are stratified among themselves.
    fn stratum(&self, p: usize, face: usize, column: u32) -> (u32, u32) {
        let faces = self.faces.as_ref().map_or(1, |(_, faces)| *faces);
        let strata = self.sampler.count.div_ceil(faces) as u32;
        let key = self.strata.block((face as u64) << 32 | u64::from(column));
        (Permutation::new(strata, key).at((p / faces) as u32), strata)
    }

    /// A uniform number that is stratified over the points.
    fn stratified(&self, p: usize, face: usize, column: usize) -> f64 {
        let (stratum, strata) = self.stratum(p, face, column as u32);
        (f64::from(stratum) + self.points.uniform(row(p as u32) + UNIFORM + column as u64)) / f64::from(strata)
    }

    fn point<T: Element>(&self, p: usize, point: &mut [T]) {
        let (face, number) = self.face(p).unzip();
        let number = number.unwrap_or(0);
        for group in &self.sampler.groups {
            if let Domain::Interval(lo, hi) = group.domain {
                self.interval(p, number, group.first, lo, hi, &mut point[group.first..][..group.len]);
            }
        }
        if let Some(face) = face {
            point[face.column] = T::of(face.value);
        }
        let time = self.sampler.groups.iter().find(|g| g.kind == GroupKind::Time).map(|g| point[g.first].f64());
        let (mut norm2, mut ball) = (0.0, None);
        for group in &self.sampler.groups {
            let values = &mut point[group.first..][..group.len];
            match group.domain {
                Domain::None | Domain::Interval(..) => {}
                Domain::Normal => {
                    self.normal(p, group.first, 1.0, values);
                }
                Domain::Brownian { scale } => {
                    self.normal(p, group.first, scale * time.unwrap_or(0.0).max(0.0).sqrt(), values);
                }
                Domain::Ball { radius, volume } => {
                    norm2 += self.normal(p, group.first, 1.0, values);
                    ball = Some((radius, volume));
                }
            }
        }
        if let Some((radius, volume)) = ball {
            self.scale_to_ball(p, number, norm2, radius, volume, point);
        }
        if let Some(face) = face {
            point[face.column] = T::of(face.value);
        }
    }

    fn interval<T: Element>(&self, p: usize, face: usize, first: usize, lo: f64, hi: f64, out: &mut [T]) {
        let place = |u: f64| T::inside(lo + (hi - lo) * u, lo, hi);
        if self.sampler.stratified {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = place(self.stratified(p, face, first + i)));
            return;
        }
        let mut scratch = [0.0; CHUNK];
        for (k, out) in out.chunks_mut(CHUNK).enumerate() {
            let scratch = &mut scratch[..out.len()];
            self.points.fill_uniform(row(p as u32) + UNIFORM + (first + k * CHUNK) as u64, scratch);
            out.iter_mut().zip(scratch).for_each(|(x, u)| *x = place(*u));
        }
    }

    /// Normal numbers times a factor; gives the sum of squares before the factor.
    fn normal<T: Element>(&self, p: usize, first: usize, factor: f64, out: &mut [T]) -> f64 {
        let mut scratch = [0.0; CHUNK];
        let mut sum = 0.0;
        for (k, out) in out.chunks_mut(CHUNK).enumerate() {
            let scratch = &mut scratch[..out.len()];
            self.points.fill_normal(row(p as u32) + (first + k * CHUNK) as u64, scratch);
            for (x, z) in out.iter_mut().zip(scratch) {
                *x = T::of(factor * *z);
                sum += *z * *z;
            }
        }
        sum
    }

    /// Scales the normal numbers of all groups of the ball, whose sum of squares is `norm2`, to their radius.
    fn scale_to_ball<T: Element>(&self, p: usize, face: usize, norm2: f64, radius: f64, volume: bool, point: &mut [T]) {
        let is_ball = |g: &&Group| matches!(g.domain, Domain::Ball { .. });
        let u = self.stratified(p, face, self.sampler.columns);
        let dimension: usize = self.sampler.groups.iter().filter(is_ball).map(|g| g.len).sum();
        let r = radius * if volume { libm::pow(u, 1.0 / dimension as f64) } else { u };
        let factor = if norm2 > 0.0 { r / norm2.sqrt() } else { 0.0 };
        for group in self.sampler.groups.iter().filter(is_ball) {
            for x in &mut point[group.first..][..group.len] {
                *x = T::of(factor * x.f64());
            }
        }
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

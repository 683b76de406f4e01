//! The points of one step, made in blocks of columns: [columns, points].
//!
//! A number is made where it is needed, and is the same however the blocks are cut. What needs all columns of a point (its
//! radius in a ball) or another column (the time of a Brownian motion) is one factor per point, worked out once.

use super::permutation::{Permutation, dealt};
use super::points::{Face, Place, Sampler};
use super::scaling::{add_squares, scale as scale_rows};
use crate::cpu::PointSource;
use crate::net::{Element, Philox, Purpose, row};
use crate::program::{Domain, Group, GroupKind};
use rayon::prelude::*;
use std::ops::Range;

/// Uniform numbers of a point start here, behind its normal ones.
const UNIFORM: u64 = 1 << 33;
/// Columns of a block in the pass over all of them.
const BLOCK: usize = 128;
/// Sums of squares are added up in so many pieces, whatever the number of threads.
const PIECES: usize = 32;

/// Some points of one step.
pub struct StepPoints<T> {
    sampler: Sampler,
    range: Range<usize>,
    points: Philox,
    strata: Philox,
    /// The order of the faces, and how many there are.
    faces: Option<(Permutation, usize)>,
    /// Rows of the data set, by point.
    dealt: Vec<usize>,
    /// By point: what the normal numbers of a ball are multiplied with.
    ball: Vec<f64>,
    /// By point: root of the time.
    root: Vec<f64>,
    /// All points: [columns, points].
    kept: Option<Vec<T>>,
    /// [points, mentioned columns] of the data rows; empty where the points are no data.
    pub data: Vec<T>,
    /// [points, space dimension], outward; empty where not asked for. Zero where the region has no normal.
    pub normals: Vec<T>,
}

impl<T: Element> StepPoints<T> {
    pub(super) fn new(sampler: &Sampler, step: u64, range: Range<usize>, keep: Option<Vec<T>>) -> Self {
        let [own, strata] = sampler.streams().map(|stream| Philox::new(sampler.seed, stream, step as u32));
        let faces = match &sampler.place {
            Place::Boundary(groups) => {
                let faces = 2 * groups.iter().map(|g| sampler.groups[*g].len).sum::<usize>();
                Some((Permutation::new(faces as u32, strata.block(u64::MAX)), faces))
            }
            _ => None,
        };
        let mut points = StepPoints {
            points: own,
            sampler: sampler.clone(),
            range,
            strata,
            faces,
            dealt: vec![],
            ball: vec![],
            root: vec![],
            kept: None,
            data: vec![],
            normals: vec![],
        };
        points.deal(step);
        points.fill_normals();
        points.factors(keep);
        points
    }

    /// How many points.
    pub fn count(&self) -> usize {
        self.range.len()
    }

    /// The array that all points are in, to be used again.
    pub fn into_kept(self) -> Vec<T> {
        self.kept.unwrap_or_default()
    }

    /// All points, row by row: [points, columns].
    pub fn rows(&self, out: &mut Vec<T>) {
        let (n, columns) = (self.count(), self.sampler.columns);
        out.clear();
        out.resize(n * columns, T::zero());
        // Points that are made together.
        let some = (1 + 4096 / columns.max(1)).next_multiple_of(16);
        out.par_chunks_mut((some * columns).max(1)).enumerate().for_each_init(Vec::new, |block, (k, out)| {
            let points = k * some..(k * some + out.len() / columns);
            for first in (0..columns).step_by(BLOCK) {
                let end = columns.min(first + BLOCK);
                block.clear();
                block.resize((end - first) * points.len(), T::zero());
                self.fill(points.clone(), first..end, block);
                for (c, column) in block.chunks_exact(points.len()).enumerate() {
                    out.iter_mut().skip(first + c).step_by(columns).zip(column).for_each(|(x, y)| *x = *y);
                }
            }
        });
    }

    /// Rows of a data set: point number step * count + p overall is a row of the permutation of its epoch.
    fn deal(&mut self, step: u64) {
        let Place::Data(table) = &self.sampler.place else { return };
        let (sampler, width) = (&self.sampler, table.width());
        let number = |p: usize| step * sampler.count as u64 + p as u64;
        let key = |epoch| Philox::new(sampler.seed, Purpose::Strata.stream(sampler.number), epoch).block(0);
        for at in dealt(table.rows as u32, number(self.range.start)..number(self.range.end), key) {
            self.data.extend(table.values[at as usize * width..][..width].iter().map(|x| T::of(*x)));
            self.dealt.push(at as usize);
        }
    }

    fn fill_normals(&mut self) {
        let width = self.sampler.space();
        if !self.sampler.normals || width == 0 || matches!(self.sampler.place, Place::Data(_)) {
            return;
        }
        let mut normals = vec![T::zero(); self.count() * width];
        for (p, normal) in self.range.clone().zip(normals.chunks_mut(width)) {
            let Some((face, _)) = self.face(p) else { continue };
            let mut before = 0;
            for group in self.sampler.groups.iter().filter(|g| g.kind == GroupKind::Space) {
                if (group.first..group.first + group.len).contains(&face.column) {
                    normal[before + face.column - group.first] = T::of(face.outward);
                }
                before += group.len;
            }
        }
        self.normals = normals;
    }

    /// What the normal numbers of each point are multiplied with, and all points where they are kept.
    fn factors(&mut self, keep: Option<Vec<T>>) {
        if matches!(self.sampler.place, Place::Data(_)) {
            return;
        }
        let groups = &self.sampler.groups;
        let is_brownian = |g: &Group| matches!(g.domain, Domain::Brownian { .. });
        if let (Some(time), true) = (groups.iter().find(|g| g.kind == GroupKind::Time), groups.iter().any(is_brownian))
        {
            let column = time.first..time.first + 1;
            let mut times = vec![T::zero(); self.count()];
            self.fill(0..self.count(), column, &mut times);
            self.root = times.iter().map(|t| t.f64().max(0.0).sqrt()).collect();
        }
        let ball = groups.iter().find_map(|g| match g.domain {
            Domain::Ball { radius, volume } => Some((radius, volume)),
            _ => None,
        });
        let (n, columns) = (self.count(), self.sampler.columns);
        if keep.is_none() && ball.is_none() || n * columns == 0 {
            return;
        }
        // One pass over all columns: sums of squares, and the numbers themselves where they are kept.
        let (keep, mut kept) = (keep.is_some(), keep.unwrap_or_default());
        kept.resize(if keep { n * columns } else { 0 }, T::zero());
        let piece = columns.div_ceil(PIECES).next_multiple_of(BLOCK);
        let pieces: Vec<usize> = (0..columns).step_by(piece).collect();
        let mut stores: Vec<&mut [T]> = match keep {
            true => kept.chunks_mut(piece * n).collect(),
            false => pieces.iter().map(|_| Default::default()).collect(),
        };
        let sums: Vec<Vec<f64>> = pieces
            .par_iter()
            .zip(&mut stores)
            .map(|(&first, store)| self.piece(first..columns.min(first + piece), store, ball.is_some()))
            .collect();
        if let Some((radius, volume)) = ball {
            let is_ball = |g: &&Group| matches!(g.domain, Domain::Ball { .. });
            let dimension: usize = groups.iter().filter(is_ball).map(|g| g.len).sum();
            self.ball = (0..n)
                .map(|p| {
                    let number = self.face(self.range.start + p).map_or(0, |f| f.1);
                    let u = self.stratified(self.range.start + p, number, columns);
                    let r = radius * if volume { libm::pow(u, 1.0 / dimension as f64) } else { u };
                    let norm2: f64 = sums.iter().map(|s| s[p]).sum();
                    if norm2 > 0.0 { r / norm2.sqrt() } else { 0.0 }
                })
                .collect();
        }
        if keep {
            kept.par_chunks_mut(BLOCK * n).enumerate().for_each(|(k, block)| {
                let first = k * BLOCK;
                self.finish(0..n, first..first + block.len() / n, block);
            });
            self.kept = Some(kept);
        }
    }

    /// Columns of all points as `raw` gives them, into `store` if it holds anything; sums of squares over the ball's columns.
    fn piece(&self, columns: Range<usize>, store: &mut [T], squares: bool) -> Vec<f64> {
        let n = self.count();
        let (mut sums, mut part, mut scratch) = (vec![0.0; n], vec![T::zero(); n], vec![]);
        for first in columns.clone().step_by(BLOCK) {
            let block = first..columns.end.min(first + BLOCK);
            let out = if store.is_empty() {
                scratch.resize(block.len() * n, T::zero());
                &mut scratch[..block.len() * n]
            } else {
                &mut store[(first - columns.start) * n..][..block.len() * n]
            };
            self.raw(0..n, block.clone(), out);
            if !squares {
                continue;
            }
            part.fill(T::zero());
            for group in self.sampler.groups.iter().filter(|g| matches!(g.domain, Domain::Ball { .. })) {
                let here = overlap(group, &block);
                add_squares(&out[(here.start - first) * n..][..here.len() * n], &mut part);
            }
            sums.iter_mut().zip(&part).for_each(|(s, x)| *s += x.f64());
        }
        sums
    }

    /// Columns of some of the points (numbered from 0): [columns, points].
    fn fill(&self, points: Range<usize>, columns: Range<usize>, out: &mut [T]) {
        self.raw(points.clone(), columns.clone(), out);
        self.finish(points, columns, out);
    }

    /// The same before factors and faces.
    fn raw(&self, points: Range<usize>, columns: Range<usize>, out: &mut [T]) {
        let n = points.len();
        if let Place::Data(table) = &self.sampler.place {
            for (column, out) in columns.zip(out.chunks_exact_mut(n.max(1))) {
                let rows = &self.dealt[points.clone()];
                out.iter_mut().zip(rows).for_each(|(x, r)| *x = T::of(table.points[r * self.sampler.columns + column]));
            }
            return;
        }
        let numbers = self.range.start + points.start..self.range.start + points.end;
        for group in &self.sampler.groups {
            let here = overlap(group, &columns);
            if here.is_empty() {
                continue;
            }
            let out = &mut out[(here.start - columns.start) * n..][..here.len() * n];
            match group.domain {
                Domain::None => out.fill(T::zero()),
                Domain::Interval(lo, hi) => self.interval(numbers.clone(), here, (lo, hi), out),
                Domain::Normal | Domain::Brownian { .. } | Domain::Ball { .. } => {
                    self.points.normals(numbers.clone(), here.start as u64..here.end as u64, out);
                }
            }
        }
    }

    fn interval(&self, numbers: Range<usize>, columns: Range<usize>, (lo, hi): (f64, f64), out: &mut [T]) {
        let n = numbers.len();
        if self.sampler.stratified {
            for (column, out) in columns.zip(out.chunks_exact_mut(n.max(1))) {
                for (p, x) in numbers.clone().zip(out) {
                    let face = self.face(p).map_or(0, |f| f.1);
                    *x = T::inside(lo + (hi - lo) * self.stratified(p, face, column), lo, hi);
                }
            }
            return;
        }
        // Rounding must not put an interior point on the boundary.
        let (least, most) = (T::inside(lo, lo, hi), T::inside(hi, lo, hi));
        let place = |u: f64| {
            let x = T::of(lo + (hi - lo) * u);
            let x = if x < least { least } else { x };
            if x > most { most } else { x }
        };
        let first = UNIFORM + columns.start as u64;
        self.points.uniforms(numbers, first..first + columns.len() as u64, place, out);
    }

    /// Factors and faces.
    fn finish(&self, points: Range<usize>, columns: Range<usize>, out: &mut [T]) {
        let n = points.len();
        if matches!(self.sampler.place, Place::Data(_)) || n == 0 {
            return;
        }
        for group in &self.sampler.groups {
            let (scale, factors) = match group.domain {
                Domain::Brownian { scale } => (scale, &self.root),
                Domain::Ball { .. } => (1.0, &self.ball),
                _ => continue,
            };
            let here = overlap(group, &columns);
            if here.is_empty() || factors.is_empty() {
                continue;
            }
            let factors: Vec<T> = factors[points.clone()].iter().map(|f| T::of(scale * f)).collect();
            scale_rows(&mut out[(here.start - columns.start) * n..][..here.len() * n], &factors);
        }
        if matches!(self.sampler.place, Place::Interior) {
            return;
        }
        for (at, p) in points.enumerate() {
            if let Some((face, _)) = self.face(self.range.start + p)
                && columns.contains(&face.column)
            {
                out[(face.column - columns.start) * n + at] = T::of(face.value);
            }
        }
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
}

impl<T: Element> PointSource<T> for StepPoints<T> {
    fn block<'a>(&'a self, columns: Range<usize>, scratch: &'a mut Vec<T>) -> &'a [T] {
        let n = self.count();
        if let Some(kept) = &self.kept {
            return &kept[columns.start * n..columns.end * n];
        }
        scratch.clear();
        scratch.resize(columns.len() * n, T::zero());
        self.fill(0..n, columns, scratch);
        scratch
    }

    fn part(&self, points: Range<usize>, columns: Range<usize>, out: &mut Vec<T>) {
        let n = self.count();
        out.clear();
        if let Some(kept) = &self.kept {
            columns.for_each(|c| out.extend_from_slice(&kept[c * n..][points.clone()]));
            return;
        }
        out.resize(columns.len() * points.len(), T::zero());
        self.fill(points, columns, out);
    }

    fn at(&self, point: usize, column: usize) -> T {
        if let Some(kept) = &self.kept {
            return kept[column * self.count() + point];
        }
        let mut out = [T::zero()];
        self.fill(point..point + 1, column..column + 1, &mut out);
        out[0]
    }
}

/// Those of the columns that belong to a group.
fn overlap(group: &Group, columns: &Range<usize>) -> Range<usize> {
    let start = group.first.max(columns.start);
    start..(group.first + group.len).min(columns.end).max(start)
}

//! Vectors with an element for each column of the points: random directions, and those that code fills. They are never
//! stored: a block of columns is made where a first layer, or its gradient, is multiplied with it.

use super::directions::Fill;
use super::real::Real;
use super::strips::{Block, Given, Strips};
use super::{PointSource, Random};
use crate::jet::ValueId;
use crate::jet::columns::{Columns, Drawn};
use std::ops::Range;

/// How the vectors of a program are made.
#[derive(Clone, Debug)]
pub struct Vectors {
    groups: Vec<Group>,
    /// By vector: whose row it is.
    rows: Vec<(ValueId, usize)>,
}

/// Vectors that read their nodes at one shift.
#[derive(Clone, Debug)]
struct Group {
    columns: Columns,
    /// Their numbers.
    numbers: Vec<usize>,
}

/// What a call gives beside points.
#[derive(Clone, Copy)]
pub struct Context<'a, T> {
    /// All tensors of the program; only those that vectors read must be there.
    pub tensors: &'a [&'a [T]],
    /// What is drawn.
    pub random: Random,
    /// How many points.
    pub count: usize,
    /// The points.
    pub source: &'a dyn PointSource<T>,
}

/// Room to work in, kept between blocks.
#[derive(Debug, Default)]
pub struct Room<T> {
    x: Vec<T>,
    /// By direction: [columns, points].
    directions: Vec<Vec<T>>,
    strips: Strips<T>,
    /// By vector: [columns of the block, points].
    pub vectors: Vec<Vec<T>>,
}

impl Vectors {
    /// The vectors among what code asks of the columns.
    pub fn new(columns: &Columns, rows: Vec<(ValueId, usize)>) -> Self {
        let mut shifts: Vec<i64> = columns.vectors.iter().map(|v| v.shift).collect();
        shifts.sort();
        shifts.dedup();
        let group = |shift: i64| {
            let numbers: Vec<usize> =
                (0..columns.vectors.len()).filter(|k| columns.vectors[*k].shift == shift).collect();
            let vectors = numbers.iter().map(|k| columns.vectors[*k]).collect();
            let mut columns = Columns { sums: vec![], vectors, ..columns.clone() };
            columns.finish();
            Group { columns, numbers }
        };
        Vectors { groups: shifts.into_iter().map(group).collect(), rows }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The number of a row of a value.
    pub fn number(&self, value: ValueId, slot: usize) -> Option<usize> {
        self.rows.iter().position(|r| *r == (value, slot))
    }

    /// The tensors that are read.
    pub fn tensors(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|g| g.columns.tensors())
    }

    /// How many columns before and behind a block are read.
    pub fn margins(&self) -> (usize, usize) {
        let before = self.groups.iter().map(|g| (-g.columns.base()).max(0) as usize).max();
        let behind = self.groups.iter().map(|g| g.columns.base().max(0) as usize + g.columns.reach()).max();
        (before.unwrap_or(0), behind.unwrap_or(0))
    }

    /// The vectors in a block of columns, into the room.
    pub fn make<T: Real>(&self, context: Context<T>, block: Range<usize>, room: &mut Room<T>) {
        let Some(columns) = self.groups.first().map(|g| &g.columns) else { return };
        let (before, behind) = self.margins();
        let needs = block.start.saturating_sub(before)..(block.end + behind).min(columns.columns);
        let Room { x, directions, strips, vectors } = room;
        fill(&columns.directions, context.random, context.count, needs.clone(), directions);
        let reads_points = self.groups.iter().any(|g| g.columns.reads_points());
        let x = if reads_points { context.source.block(needs.clone(), x) } else { &[] };
        let given = Given { start: needs.start, x, directions, points: context.count };
        self.work_out(context, given, block, strips, vectors);
    }

    /// The same, from what is given already: the block and its margins.
    pub fn work_out<T: Real>(
        &self,
        context: Context<T>,
        given: Given<T>,
        block: Range<usize>,
        strips: &mut Strips<T>,
        vectors: &mut Vec<Vec<T>>,
    ) {
        let n = context.count;
        let fixed = |column: usize, out: &mut [T]| {
            out.iter_mut().enumerate().for_each(|(p, x)| *x = context.source.at(p, column));
        };
        vectors.resize_with(self.rows.len(), Vec::new);
        for Group { columns, numbers } in &self.groups {
            let base = columns.base();
            let end = (block.end as i64 + base).max(0) as usize;
            let nodes = ((block.start as i64 + base).max(0) as usize).min(end)..end;
            let mut some: Vec<Vec<T>> = numbers.iter().map(|k| std::mem::take(&mut vectors[*k])).collect();
            for vector in &mut some {
                vector.clear();
                vector.resize(nodes.len() * n, T::zero());
            }
            // nodes before column 0 do not exist: the vectors begin behind
            let missing = (block.len() - nodes.len()) * n;
            let (tensors, range, totals, strips) = (context.tensors, nodes, &mut [][..], &mut *strips);
            T::columns(Block { columns, given, range, tensors, fixed: &fixed, strips, totals, vectors: &mut some });
            for (k, mut vector) in numbers.iter().zip(some) {
                if missing > 0 {
                    vector.splice(0..0, std::iter::repeat_n(T::zero(), missing));
                }
                vectors[*k] = vector;
            }
        }
    }
}

/// Random directions in some columns, by number: [columns, points].
pub fn fill<T: Real>(
    drawn: &[Drawn],
    random: Random,
    count: usize,
    columns: Range<usize>,
    directions: &mut Vec<Vec<T>>,
) {
    directions.resize_with(drawn.len(), Vec::new);
    for (d, out) in drawn.iter().zip(directions) {
        out.resize(columns.len() * count, T::zero());
        let (points, columns) = (random.first..random.first + count, columns.clone());
        let (directions, slot, first) = (d.of, d.slot, d.first);
        T::fill(Fill { directions, slot, first, random: (random.seed, random.step), points, columns, out });
    }
}

//! Where each value of a program lives while a tile of points is worked on.
//!
//! Values that nothing needs are not computed. Points and data lie in the caller's arrays; a lift that only layers read is
//! never stored; reduced values are sums, one set per chunk; every other value has a slot, shared with values that
//! are never alive at the same time.

use crate::jet::{JetProgram, Op, Type, ValueId, needed};

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Not needed.
    Nowhere,
    /// In the array of points.
    Points,
    /// In the array of data.
    Data,
    /// In an array that is given.
    Given(usize),
    /// A lift that the layers fuse.
    Fused,
    /// [rows, points of the tile, features] in this slot.
    Slot(usize),
    /// In the array of this output.
    Output(usize),
    /// A sum over points, by position.
    Sum(usize),
    /// Added to a sum that is another value, by position.
    Part(usize),
    /// A gradient that is worked out later, in pieces.
    Streamed,
    /// The factor of a weight, worked out at the beginning.
    Factor,
    /// A combination of other reduced values, worked out at the end.
    Late,
}

/// The layout of a program.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// By value.
    pub homes: Vec<Home>,
    /// Numbers per point in each slot.
    pub slots: Vec<usize>,
    /// Lengths of the sums.
    pub sums: Vec<usize>,
}

impl Schedule {
    /// Of a program, the types of its values, which operations are streamed, and whether what is an output is worked out where it will lie.
    pub fn new(program: &JetProgram, types: &[Type], streamed: &dyn Fn(usize) -> bool, in_place: bool) -> Self {
        let count = program.ops.len();
        let results = || program.outputs.iter().map(|o| o.1).chain(program.gradients.iter().map(|g| g.1));
        let needed = needed(&program.ops, results(), |_| true);
        let mut fused: Vec<bool> = program.ops.iter().map(|op| matches!(op, Op::Lift { .. })).collect();
        results().for_each(|v| fused[v.index()] = false);
        for (op, _) in program.ops.iter().zip(&needed).filter(|n| *n.1) {
            for argument in op.arguments() {
                let layer = match op {
                    Op::Linear { x, .. } | Op::Share { x, .. } => *x == argument,
                    Op::WeightAdjoint { x, bar } | Op::ShareAdjoint { x, bar, .. } => {
                        *x == argument && *bar != argument
                    }
                    _ => false,
                };
                fused[argument.index()] &= layer;
            }
        }
        // A layer that reads a fused lift reads the lift's draws.
        let mut last: Vec<usize> = (0..count).collect();
        for (k, op) in program.ops.iter().enumerate().filter(|(k, _)| needed[*k]) {
            let mut reads = op.arguments();
            for argument in op.arguments() {
                if fused[argument.index()] {
                    reads.extend(program.ops[argument.index()].arguments());
                }
            }
            reads.into_iter().for_each(|v: ValueId| last[v.index()] = k);
        }
        let mut schedule = Schedule { homes: vec![], slots: vec![], sums: vec![] };
        let mut free: Vec<usize> = Vec::new();
        for (k, op) in program.ops.iter().enumerate() {
            let home = match (op, &types[k]) {
                _ if !needed[k] => Home::Nowhere,
                (Op::Points, _) => Home::Points,
                (Op::Data, _) => Home::Data,
                // as it is given, row by row at each point
                (Op::Given { number, rows: 1, .. }, _) => Home::Given(*number),
                _ if fused[k] => Home::Fused,
                _ if streamed(k) => Home::Streamed,
                (Op::Factor { .. }, _) => Home::Factor,
                (Op::Add { .. } | Op::FactorAdjoint { .. }, Type::Reduced { .. }) => Home::Late,
                (_, Type::Reduced { shape }) => {
                    schedule.sums.push(shape.iter().product());
                    Home::Sum(schedule.sums.len() - 1)
                }
                (_, Type::PerPoint { rows, features }) => {
                    let output = program.outputs.iter().position(|o| o.1.index() == k);
                    match output.filter(|_| in_place && *rows == 1) {
                        Some(output) => Home::Output(output),
                        None => Home::Slot(schedule.slot(rows * features, &mut free)),
                    }
                }
            };
            schedule.homes.push(home);
            let ended = (0..=k).filter(|v| last[*v] == k).map(|v| schedule.homes[v]);
            free.extend(ended.filter_map(|home| if let Home::Slot(slot) = home { Some(slot) } else { None }));
        }
        schedule.join(program, &needed, &results().collect::<Vec<_>>());
        schedule
    }

    /// What is nothing but a term of a sum of reduced values is added up where that sum is.
    fn join(&mut self, program: &JetProgram, needed: &[bool], results: &[ValueId]) {
        let mut readers = vec![0; program.ops.len()];
        for (op, _) in program.ops.iter().zip(needed).filter(|n| *n.1) {
            op.arguments().iter().for_each(|a| readers[a.index()] += 1);
        }
        results.iter().for_each(|v| readers[v.index()] += 1);
        for (k, op) in program.ops.iter().enumerate() {
            let (Op::Add { a, b }, Home::Late) = (op, self.homes[k]) else { continue };
            let (Home::Sum(kept), Home::Sum(gone)) = (self.homes[a.index()], self.homes[b.index()]) else { continue };
            if kept == gone || readers[a.index()] > 1 || readers[b.index()] > 1 {
                continue;
            }
            self.sums[gone] = 0;
            for home in &mut self.homes {
                if [Home::Sum(kept), Home::Sum(gone), Home::Part(gone)].contains(home) {
                    *home = Home::Part(kept);
                }
            }
            self.homes[k] = Home::Sum(kept);
        }
    }

    /// The free slot that wastes least, grown where none is large enough, or a new one.
    fn slot(&mut self, size: usize, free: &mut Vec<usize>) -> usize {
        let slots = &mut self.slots;
        let waste = |slot: usize| (slots[slot] < size, slots[slot].abs_diff(size));
        match (0..free.len()).min_by_key(|i| waste(free[*i])) {
            Some(i) => {
                let slot = free.swap_remove(i);
                slots[slot] = slots[slot].max(size);
                slot
            }
            None => {
                slots.push(size);
                slots.len() - 1
            }
        }
    }

    /// Points of a tile: its slots stay in the second cache, tiles are of about one size, and a multiple of `shares`.
    pub fn tile(&self, points: usize, bytes_per_number: usize, shares: usize) -> usize {
        const CACHE: usize = 1 << 20;
        let per_point = self.slots.iter().sum::<usize>().max(1) * bytes_per_number;
        let fits = (CACHE / per_point).clamp(1, 1024);
        let tiles = points.div_ceil(fits).max(1).next_multiple_of(shares);
        points.div_ceil(tiles).max(8.min(fits)).max(1)
    }
}

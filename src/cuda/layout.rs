//! Where each value of a program lives while a block works on a tile of points.
//!
//! Values that nothing needs are not computed. Points and data lie in the caller's arrays; a lift that only layers read is
//! never stored; reduced values are sums, one set per block; every other value is [rows, points of the tile, features] in a slot
//! of its block, shared with values that are never alive at the same time. A row of a point is `pitch` numbers apart from the
//! next one: 4 more than a multiple of 8 where it is long, so that the lanes of a warp meet different banks of shared memory. Slots are in shared memory where
//! it holds them, those that are used most first, and in global memory of the block otherwise.

use super::Options;
use crate::jet::{JetProgram, Op, TensorId, Type, ValueId};
use crate::net::{WIDE, is_turned};

/// Shared memory that every device since sm_80 gives a block, in bytes.
const SMALL: usize = 99 << 10;
/// What sm_80, sm_90 and sm_100 give it, but for what else lives there.
const LARGE: usize = 160 << 10;
/// Rows of a matrix tile: so many rows times points keep tensor cores busy.
const TALL: usize = 32;

/// What is read at once starts at a multiple of so many numbers.
const PACK: usize = 4;
/// The same where nothing but values is worked out, of very many points as a rule.
const TALLER: usize = 64;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// Not needed.
    Nowhere,
    /// In the array of points.
    Points,
    /// In the array of data.
    Data,
    /// A lift that the layers fuse.
    Fused,
    /// In this slot.
    Slot(usize),
    /// A sum over points: from this number of the block's sums on.
    Sum(usize),
    /// A sum over points that is only added to others: added to what is there.
    Part(usize),
    /// All that was added there.
    Total(usize),
    /// The gradient of a layer with many inputs, worked out by columns after all points.
    Columns,
    /// The factor of a weight, worked out before all points.
    Factor,
    /// A combination of other reduced values, worked out at the end.
    Late,
}

/// Room for values.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Numbers per point.
    pub size: usize,
    /// In shared memory.
    pub shared: bool,
    /// Numbers per point before it, in its memory.
    pub offset: usize,
    /// Operations that read or write it.
    uses: usize,
}

/// The layout of a program.
#[derive(Clone, Debug)]
pub struct Layout {
    /// By value.
    pub homes: Vec<Home>,
    /// Room.
    pub slots: Vec<Slot>,
    /// Numbers per block in sums.
    pub sums: usize,
    /// Those at the beginning that several operations add to.
    pub totals: usize,
    /// Values that are kept for all points, for gradients by columns.
    pub kept: Vec<ValueId>,
    /// Points of a tile.
    pub tile: usize,
    /// Threads of a block.
    pub threads: usize,
    /// Numbers of shared memory before the slots.
    pub pad: usize,
    /// Bytes of shared memory.
    pub shared: usize,
    /// Numbers of global memory per block.
    pub scratch: usize,
    /// By operation: a barrier stands before it.
    pub barriers: Vec<bool>,
    /// By value: a barrier stands before it is written to memory that outlives the block.
    pub leaving: Vec<bool>,
    /// By operation: the gradient of a weight that lies as [in, out].
    pub turned: Vec<bool>,
}

/// Numbers from a row of a point to the next one.
pub fn pitch(features: usize) -> usize {
    if features < 8 { features } else { features.next_multiple_of(8) + 4 }
}

impl Layout {
    /// Of a program and the types of its values.
    pub fn new(program: &JetProgram, types: &[Type], options: &Options) -> Self {
        let needed = crate::jet::needed(&program.ops, results(program), |_| true);
        let fused = fused(program, &needed);
        let mut turned = vec![false; program.ops.len()];
        for (t, v) in &program.gradients {
            turned[v.index()] = is_turned_tensor(program, *t);
        }
        for (k, op) in program.ops.iter().enumerate().rev().filter(|(k, _)| matches!(types[*k], Type::Reduced { .. })) {
            if let (Op::Add { a, b }, true) = (op, turned[k]) {
                turned[a.index()] = true;
                turned[b.index()] = true;
            }
        }
        let mut layout = Layout {
            homes: vec![],
            slots: vec![],
            sums: 0,
            totals: 0,
            kept: vec![],
            tile: 1,
            threads: 256,
            pad: 0,
            shared: 0,
            scratch: 0,
            barriers: vec![],
            leaving: vec![],
            turned,
        };
        layout.place(program, types, &needed, &fused);
        layout.tile(program, types, options);
        layout.memory(options);
        layout
    }

    /// What an operation reads, a fused lift's draws in its place.
    pub fn reads(&self, program: &JetProgram, op: usize) -> Vec<ValueId> {
        let is_fused = |v: &ValueId| self.homes.get(v.index()) == Some(&Home::Fused);
        let mut reads = program.ops[op].arguments();
        for v in reads.clone().iter().filter(|v| is_fused(v)) {
            reads.extend(program.ops[v.index()].arguments());
        }
        reads
    }

    /// Whether a value per point is written to memory that outlives the block.
    pub fn leaves(&self, program: &JetProgram, value: ValueId) -> bool {
        let per_point = matches!(self.homes[value.index()], Home::Slot(_) | Home::Points | Home::Data);
        per_point && (self.kept.contains(&value) || program.outputs.iter().any(|o| o.1 == value))
    }

    fn place(&mut self, program: &JetProgram, types: &[Type], needed: &[bool], fused: &[bool]) {
        let mut last: Vec<usize> = (0..program.ops.len()).collect();
        for (k, op) in program.ops.iter().enumerate().filter(|(k, _)| needed[*k]) {
            let mut reads = op.arguments();
            for v in op.arguments().into_iter().filter(|v| fused[v.index()]) {
                reads.extend(program.ops[v.index()].arguments());
            }
            reads.into_iter().for_each(|v| last[v.index()] = k);
        }
        let mut free: Vec<usize> = Vec::new();
        for (k, op) in program.ops.iter().enumerate() {
            let home = match (op, &types[k]) {
                _ if !needed[k] => Home::Nowhere,
                (Op::Points, _) => Home::Points,
                (Op::Data, _) => Home::Data,
                _ if fused[k] => Home::Fused,
                (Op::WeightAdjoint { bar, x }, _) if fused[x.index()] && is_wide(types, *x) => {
                    self.keep(program, *bar, *x);
                    Home::Columns
                }
                (Op::Factor { .. }, _) => Home::Factor,
                (Op::Add { .. } | Op::FactorAdjoint { .. }, Type::Reduced { .. }) => Home::Late,
                (_, Type::Reduced { .. }) => Home::Sum(0),
                (op, Type::PerPoint { rows, features }) => {
                    // the swaps of a shuffle lie behind the columns
                    let extra = if let Op::Sample { k, .. } = op { *k } else { 0 };
                    Home::Slot(self.slot(rows * pitch(*features) + extra, &mut free))
                }
            };
            self.homes.push(home);
            let ended: Vec<Home> = (0..=k).filter(|v| last[*v] == k).map(|v| self.homes[v]).collect();
            free.extend(ended.iter().filter_map(|h| if let Home::Slot(slot) = h { Some(*slot) } else { None }));
        }
        self.place_sums(program, types, needed);
        for (k, needed) in needed.iter().enumerate() {
            for v in self.reads(program, k).into_iter().chain([ValueId(k as u32)]) {
                if let (Home::Slot(slot), true) = (self.homes[v.index()], *needed) {
                    self.slots[slot].uses += 1;
                }
            }
        }
    }

    /// Where sums are. Those that are only added up have one place, which all of them are added to.
    fn place_sums(&mut self, program: &JetProgram, types: &[Type], needed: &[bool]) {
        let mut uses = vec![0; program.ops.len()];
        results(program).for_each(|v| uses[v.index()] += 1);
        for (op, _) in program.ops.iter().zip(needed).filter(|n| *n.1) {
            op.arguments().into_iter().for_each(|v| uses[v.index()] += 1);
        }
        // by sum, or addition of sums: what is added up
        let mut added: Vec<Vec<usize>> = (0..program.ops.len()).map(|k| vec![k]).collect();
        for (k, op) in program.ops.iter().enumerate() {
            let Op::Add { a, b } = op else { continue };
            let is_part = |v: &ValueId| self.homes[v.index()] == Home::Sum(0) && uses[v.index()] == 1;
            if self.homes[k] == Home::Late && [a, b].into_iter().all(is_part) {
                added[k] = [a, b].into_iter().flat_map(|v| std::mem::take(&mut added[v.index()])).collect();
                self.homes[a.index()] = Home::Nowhere;
                self.homes[b.index()] = Home::Nowhere;
                self.homes[k] = Home::Sum(0);
            }
        }
        for several in [true, false] {
            for (k, parts) in added.iter().enumerate() {
                let (Home::Sum(_), Type::Reduced { shape }) = (self.homes[k], &types[k]) else { continue };
                if (parts.len() > 1) != several {
                    continue;
                }
                let at = self.sums;
                self.sums += shape.iter().product::<usize>().next_multiple_of(PACK);
                self.homes[k] = if several { Home::Total(at) } else { Home::Sum(at) };
                parts.iter().filter(|_| several).for_each(|v| self.homes[*v] = Home::Part(at));
            }
            self.totals = if several { self.sums } else { self.totals };
        }
    }

    /// A gradient by columns wants the adjoint, and draws that cannot be made again.
    fn keep(&mut self, program: &JetProgram, bar: ValueId, lift: ValueId) {
        let Op::Lift { samples, .. } = &program.ops[lift.index()] else { return };
        let draws = samples.iter().filter_map(|d| d.value());
        let stored = draws.filter(|v| !matches!(program.ops[v.index()], Op::Directions { .. }));
        for v in std::iter::once(bar).chain(stored) {
            if !self.kept.contains(&v) {
                self.kept.push(v);
            }
        }
    }

    /// The free slot that wastes least, grown where none is large enough, or a new one.
    fn slot(&mut self, size: usize, free: &mut Vec<usize>) -> usize {
        let size = size.next_multiple_of(PACK);
        let slots = &mut self.slots;
        let waste = |slot: usize| (slots[slot].size < size, slots[slot].size.abs_diff(size));
        match (0..free.len()).min_by_key(|i| waste(free[*i])) {
            Some(i) => {
                let slot = free.swap_remove(i);
                slots[slot].size = slots[slot].size.max(size);
                slot
            }
            None => {
                slots.push(Slot { size, shared: false, offset: 0, uses: 0 });
                slots.len() - 1
            }
        }
    }

    /// Points of a tile: enough rows for a matrix tile, few enough for shared memory; and threads.
    fn tile(&mut self, program: &JetProgram, types: &[Type], options: &Options) {
        let shape = |t: &Type| if let Type::PerPoint { rows, features } = t { (*rows, *features) } else { (1, 1) };
        let is_slot = |h: &Home| matches!(h, Home::Slot(_));
        let stored = || types.iter().zip(&self.homes).filter(|(_, h)| is_slot(h)).map(|(t, _)| shape(t));
        let rows = stored().map(|s| s.0).max().unwrap_or(1);
        let bytes = self.slots.iter().map(|s| s.size).sum::<usize>().max(1) * options.bytes();
        let fits = (SMALL / bytes).max(1);
        let tall = if program.gradients.is_empty() { TALLER } else { TALL };
        self.tile = options.tile.unwrap_or((tall / rows).clamp(1, 16).min(fits)).max(1);
        let largest = stored().map(|s| s.0 * s.1).max().unwrap_or(1) * self.tile;
        self.threads = if largest > 1024 { 256 } else { 128 };
        self.pad = 4 * self.threads;
    }

    fn memory(&mut self, options: &Options) {
        let per_number = options.bytes() * self.tile;
        let all = self.slots.iter().map(|s| s.size).sum::<usize>() * per_number + self.pad * options.bytes();
        let mut budget = if all <= SMALL { SMALL } else { LARGE }.saturating_sub(self.pad * options.bytes());
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        // most uses per number first
        order.sort_by_key(|s| (self.slots[*s].size * 1000 / self.slots[*s].uses.max(1), *s));
        let (mut inside, mut outside) = (0, 0);
        for s in order {
            let slot = &mut self.slots[s];
            slot.shared = slot.size * per_number <= budget;
            let offset = if slot.shared { &mut inside } else { &mut outside };
            slot.offset = *offset;
            *offset += slot.size;
            if slot.shared {
                budget -= slot.size * per_number;
            }
        }
        self.shared = inside * per_number + self.pad * options.bytes();
        self.scratch = outside * self.tile;
    }

    /// A barrier stands between two operations of which one writes what the other one reads or writes, unless both leave a point
    /// to one thread. The first operations follow the last ones, of the tile before.
    /// `own` says which operations these are.
    pub fn order(&mut self, program: &JetProgram, types: &[Type], own: impl Fn(usize) -> bool) {
        let place = |v: ValueId| {
            if let Home::Part(at) = self.homes[v.index()] {
                return Some(Access { slot: self.slots.len() + at, pitch: 0, writes: true, own: false });
            }
            let Home::Slot(slot) = self.homes[v.index()] else { return None };
            let Type::PerPoint { features, .. } = types[v.index()] else { return None };
            Some(Access { slot, pitch: pitch(features), writes: false, own: false })
        };
        let mut pending: Vec<Access> = Vec::new();
        let mut found = (vec![], vec![]);
        loop {
            let before = found.clone();
            found = (vec![], vec![]);
            let mut meets = |accesses: Vec<Access>| {
                let clash = accesses.iter().any(|a| pending.iter().any(|b| a.clashes(b)));
                if clash {
                    pending.clear();
                }
                pending.extend(accesses.into_iter().filter(|a| !pending.contains(a)).collect::<Vec<_>>());
                clash
            };
            for (k, home) in self.homes.iter().enumerate() {
                let value = ValueId(k as u32);
                let own = own(k);
                let mut accesses = Vec::new();
                if matches!(home, Home::Slot(_) | Home::Sum(_) | Home::Part(_)) {
                    let reads = self.reads(program, k).into_iter().filter_map(place);
                    accesses.extend(reads.map(|read| Access { own, ..read }));
                    accesses.extend(place(value).map(|written| Access { writes: true, own, ..written }));
                }
                found.0.push(meets(accesses));
                let single = matches!(types[k], Type::PerPoint { rows: 1, features: 1 });
                let left = place(value).filter(|_| self.leaves(program, value));
                let left = left.map(|read| Access { own: single, ..read });
                found.1.push(meets(left.into_iter().collect()));
            }
            if found == before {
                break;
            }
        }
        (self.barriers, self.leaving) = found;
    }
}

/// What an operation does with a slot.
#[derive(Clone, Copy, PartialEq)]
struct Access {
    slot: usize,
    /// Numbers from a point to the next one.
    pitch: usize,
    writes: bool,
    /// All of a point by the thread of its number.
    own: bool,
}

impl Access {
    /// Whether a barrier has to stand in between.
    fn clashes(&self, other: &Access) -> bool {
        let same_threads = self.own && other.own && self.pitch == other.pitch;
        self.slot == other.slot && (self.writes || other.writes) && !same_threads
    }
}

/// Whether a tensor lies as [in, out].
pub fn is_turned_tensor(program: &JetProgram, tensor: TensorId) -> bool {
    let tensor = &program.tensors[tensor.index()];
    is_turned(&tensor.name, &tensor.shape, WIDE)
}

fn is_wide(types: &[Type], lift: ValueId) -> bool {
    matches!(types[lift.index()], Type::PerPoint { features, .. } if features > WIDE)
}

/// Which values are lifts that only layers read.
fn fused(program: &JetProgram, needed: &[bool]) -> Vec<bool> {
    let mut fused: Vec<bool> = program.ops.iter().map(|op| matches!(op, Op::Lift { .. })).collect();
    results(program).for_each(|v| fused[v.index()] = false);
    for (op, _) in program.ops.iter().zip(needed).filter(|n| *n.1) {
        for argument in op.arguments() {
            fused[argument.index()] &= match op {
                Op::Linear { x, .. } | Op::Share { x, .. } => *x == argument,
                Op::WeightAdjoint { x, bar } | Op::ShareAdjoint { x, bar, .. } => *x == argument && *bar != argument,
                _ => false,
            };
        }
    }
    fused
}

fn results(program: &JetProgram) -> impl Iterator<Item = ValueId> + '_ {
    program.outputs.iter().map(|o| o.1).chain(program.gradients.iter().map(|g| g.1))
}

//! CUDA text and how it is launched: what the emitter makes, and what the host shim, NVRTC and the driver run.
//!
//! A module is made for a program once; neither its text nor its kernels depend on the number of points. [`Module::bind`]
//! gives sizes and launches for a number of points. Nothing here knows a device.
//!
//! Launches run as if one after the other: each sees all that the earlier ones wrote. What a call returns is a function of its
//! inputs alone: no launch may depend on the order in which its blocks run.

use super::text::without;
use crate::ids::ids;

ids! {
    /// A buffer of [`Module::buffers`].
    BufferId
    /// A kernel of [`Module::kernels`].
    KernelId
}

/// How products and scalar code are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 throughout, products by fused multiply-add.
    Fp32,
    /// f32, products as three products of tensor cores: as accurate as `Fp32`.
    Tf32x3,
    /// f32, products rounded to ten bits by tensor cores.
    Tf32,
    /// f64 throughout.
    Fp64,
}

/// What a number in a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// f32, or f64 in a module of precision `Fp64`.
    Real,
    /// f64 whatever the precision.
    Double,
    /// Unsigned, 32 bits.
    Word,
    /// Unsigned, 64 bits.
    Long,
}

/// A length: `fixed + per_point * count + per_block * blocks`, where `blocks` is the grid of the kernel that is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Numbers in any case.
    pub fixed: u64,
    /// Numbers per point.
    pub per_point: u64,
    /// Numbers per block of a kernel's grid.
    pub per_block: Option<(u64, KernelId)>,
}

/// What a buffer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Points, row by row: [count, columns]. Written by the caller, or by a launch of a module that trains; a rollout moves them.
    Points,
    /// Data rows: [count, data columns]. Likewise.
    Data,
    /// Tensor k of the program, in its order, laid out as the CPU backend lays it out. Read; updated by a module that trains.
    Tensor(u32),
    /// First or second moment of tensor k, zero at first. Updated.
    Moment {
        /// Of which tensor.
        tensor: u32,
        /// The second one.
        second: bool,
    },
    /// [seed, step]: read by whatever draws. The last launch of a training step adds one to the step.
    State,
    /// Two factors of Adam for each step of a run, f64, see [`Adam::factors`](crate::train::Adam::factors): [steps, 2]. Written by the
    /// caller.
    Rates,
    /// Output k of the program. Written.
    Output(u32),
    /// Entry k of the program's gradients. Written.
    Gradient(u32),
    /// Losses of the latest steps of a module that trains: [[`LOSSES`], conditions], f64, step s in row s % LOSSES. Written.
    Losses,
    /// Steps of a rollout, one number. Written by the caller.
    Steps,
    /// Of a rollout, for each point: after which step a number was not finite, counted from 1; else 0. With control, 1 where a number
    /// was not finite, 2 where steps became too small. The caller writes zeros.
    Left,
    /// Of a rollout with control, for each point, f64: how far it is and its next step, as fractions of its time; its time; how many
    /// steps were tried; the time at its start; the last step that was accepted and by how much longer it could have been, 0
    /// before. Written by the caller, and updated.
    Clocks,
    /// A table that the emitter made: its contents are in [`Buffer::contents`].
    Constant,
    /// Working memory; zero before the first launch, kept between calls.
    Scratch,
}

/// Steps whose losses a module that trains keeps: so many may run between two looks of the host.
pub const LOSSES: u64 = 1024;

/// Device memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Buffer {
    /// Name of the kernel argument.
    pub name: String,
    /// Of what.
    pub element: Element,
    /// How many.
    pub extent: Extent,
    /// What for.
    pub role: Role,
    /// Of a `Constant`.
    pub contents: Vec<u32>,
}

/// How many blocks a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grid {
    /// So many.
    Fixed(u32),
    /// One for so many points, but not more than `most`: blocks then take several tiles each, in a fixed order.
    Tiles {
        /// Points of a tile.
        points: u32,
        /// Most blocks.
        most: u32,
    },
}

impl Grid {
    /// Blocks for so many points; at least one.
    pub fn blocks(self, count: u64) -> u32 {
        match self {
            Grid::Fixed(n) => n,
            Grid::Tiles { points, most } => {
                count.div_ceil(u64::from(points.max(1))).clamp(1, u64::from(most.max(1))) as u32
            }
        }
    }
}

/// A `__global__` function of the text, `extern "C"`, and its launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Blocks.
    pub grid: Grid,
    /// Threads of a block; a multiple of 32.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared: u32,
    /// Its arguments: pointers, in this order; then the number of points, `unsigned int`.
    pub arguments: Vec<BufferId>,
    /// By argument: whether it writes there.
    pub written: Vec<bool>,
    /// Its number of points, where it has one of its own (of a condition of a training step), whatever the module is bound to.
    pub count: Option<u32>,
}

/// CUDA text with everything that is needed to run it.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Of the program.
    pub name: String,
    /// A translation unit without headers, the same byte for byte whenever it is emitted.
    pub text: String,
    /// How it computes.
    pub precision: Precision,
    /// All kernels of the text.
    pub kernels: Vec<Kernel>,
    /// All memory.
    pub buffers: Vec<Buffer>,
    /// What is launched once, before the first call.
    pub start: Vec<KernelId>,
    /// What one call launches: an evaluation, or a training step.
    pub launches: Vec<KernelId>,
}

/// A module for a number of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// How many points.
    pub count: u32,
    /// By buffer: how many elements.
    pub lengths: Vec<u64>,
    /// By kernel: how many blocks.
    pub blocks: Vec<u32>,
    /// By kernel: the number of points that it is launched with.
    pub counts: Vec<u32>,
}

impl Element {
    /// Bytes of one number.
    pub fn bytes(self, precision: Precision) -> u64 {
        match (self, precision) {
            (Element::Real, Precision::Fp64) | (Element::Double | Element::Long, _) => 8,
            (Element::Real | Element::Word, _) => 4,
        }
    }
}

/// Bytes of text from which a kernel is compiled by itself: a short one takes less time than to begin anew.
const LONG: usize = 4096;

impl Module {
    /// Kernels that are compiled together, in parts that take about as long: each long one by itself, and the others.
    pub fn parts(&self) -> Vec<Vec<KernelId>> {
        let length = |kernel: &Kernel| {
            let begin = self.text.find(&format!("#ifndef {}\n", without(&kernel.name)))?;
            self.text[begin..].find("#endif")
        };
        let (mut parts, mut others) = (Vec::new(), Vec::new());
        for (k, kernel) in self.kernels.iter().enumerate() {
            let id = KernelId(k as u32);
            match length(kernel) {
                Some(length) if length >= LONG => parts.push(vec![id]),
                _ => others.push(id),
            }
        }
        parts.extend((!others.is_empty()).then_some(others));
        parts
    }

    /// Lengths and grids for so many points.
    pub fn bind(&self, count: u32) -> Bound {
        let counts: Vec<u32> = self.kernels.iter().map(|k| k.count.unwrap_or(count)).collect();
        let blocks: Vec<u32> = self.kernels.iter().zip(&counts).map(|(k, n)| k.grid.blocks((*n).into())).collect();
        let length = |b: &Buffer| {
            let per_block = b.extent.per_block.map_or(0, |(n, k)| n * u64::from(blocks[k.index()]));
            b.extent.fixed + b.extent.per_point * u64::from(count) + per_block
        };
        Bound { count, lengths: self.buffers.iter().map(length).collect(), blocks, counts }
    }

    /// Bytes of device memory that so many points take.
    pub fn bytes(&self, count: u32) -> u64 {
        let bound = self.bind(count);
        self.buffers.iter().zip(bound.lengths).map(|(b, n)| n * b.element.bytes(self.precision)).sum()
    }
}

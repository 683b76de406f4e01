//! What a device can do at most, measured: bytes and operations per second. The kernels are as simple as can be.

use super::device::Device;
use super::error::Error;
use super::module::{Buffer, BufferId, Element, Extent, Grid, Kernel, KernelId, Module, Precision, Role};
use std::time::Instant;

/// Numbers that are read, and numbers that are written: far more than caches hold.
const NUMBERS: u64 = 1 << 27;
/// Threads of all blocks; each runs `CHAINS` chains of `LENGTH` multiply-adds.
const BLOCKS: u32 = 2048;
const THREADS: u32 = 256;
const CHAINS: u64 = 8;
const LENGTH: u64 = 4096;

const TEXT: &str = r#"
extern "C" __global__ void stream(const float4* from, float4* to, unsigned int count) {
    const unsigned int stride = gridDim.x * blockDim.x;
    for (unsigned int i = blockIdx.x * blockDim.x + threadIdx.x; i < count / 4; i += stride) {
        to[i] = from[i];
    }
}

extern "C" __global__ void multiply_add(float* to, unsigned int count) {
    float x[8];
    for (int k = 0; k < 8; k++) x[k] = threadIdx.x + k;
    for (int i = 0; i < 4096; i++) {
#pragma unroll
        for (int k = 0; k < 8; k++) x[k] = x[k] * 0.999f + 0.001f;
    }
    float sum = 0.0f;
    for (int k = 0; k < 8; k++) sum += x[k];
    to[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}
"#;

/// Measured ceilings of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceilings {
    /// Bytes per second, read and written together.
    pub bytes: f64,
    /// Operations per second in f32, without tensor cores.
    pub flops: f64,
}

/// Measures a device; takes about a gigabyte of its memory, and a second.
///
/// # Errors
/// Where the device fails.
pub fn measure(device: &Device) -> Result<Ceilings, Error> {
    let bytes = rate(device, "stream", 2 * 4 * NUMBERS)?;
    let flops = rate(device, "multiply_add", 2 * CHAINS * LENGTH * u64::from(BLOCKS * THREADS))?;
    Ok(Ceilings { bytes, flops })
}

/// Work per second of one kernel: the best of a few rounds.
fn rate(device: &Device, kernel: &str, work: u64) -> Result<f64, Error> {
    const ROUNDS: usize = 5;
    const CALLS: u64 = 16;
    let mut runner = device.load(&module(kernel), NUMBERS as u32)?;
    runner.call(1 + CALLS)?;
    let mut best: f64 = 0.0;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        runner.call(CALLS)?;
        best = best.max((work * CALLS) as f64 / started.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// A module that launches one of the kernels.
fn module(kernel: &str) -> Module {
    let buffer = |name: &str| Buffer {
        name: name.into(),
        element: Element::Real,
        extent: Extent { fixed: NUMBERS, ..Extent::default() },
        role: Role::Scratch,
        contents: vec![],
    };
    let streams = kernel == "stream";
    let buffers = if streams { vec![buffer("from"), buffer("to")] } else { vec![buffer("to")] };
    Module {
        name: "ceilings".into(),
        text: TEXT.into(),
        precision: Precision::Fp32,
        kernels: vec![Kernel {
            name: kernel.into(),
            grid: Grid::Fixed(BLOCKS),
            threads: THREADS,
            shared: 0,
            arguments: (0..buffers.len() as u32).map(BufferId).collect(),
            written: vec![true; buffers.len()],
            count: None,
        }],
        buffers,
        start: vec![],
        launches: vec![KernelId(0)],
    }
}

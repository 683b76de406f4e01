//! The shim must pass what is right and catch what is wrong: small kernels by hand.

use super::*;
use crate::cuda::{Extent, Grid, Kernel};

const ORDERS: [Order; 4] = [Order::Ascending, Order::Descending, Order::Shuffled(1), Order::Shuffled(2)];

/// A kernel `k` that reads `x` and writes `y`, both f32 (f64 where `precision` says so), and has a scratch of words.
fn module(text: &str, (x, y): (u64, u64), (blocks, threads, shared): (u32, u32, u32), precision: Precision) -> Module {
    let buffer = |name: &str, element, fixed, role| Buffer {
        name: name.into(),
        element,
        extent: Extent { fixed, ..Extent::default() },
        role,
        contents: vec![],
    };
    Module {
        name: "by_hand".into(),
        text: text.into(),
        precision,
        kernels: vec![Kernel {
            name: "k".into(),
            grid: Grid::Fixed(blocks),
            threads,
            shared,
            arguments: vec![BufferId(0), BufferId(1), BufferId(2)],
            written: vec![false, true, true],
            count: None,
        }],
        buffers: vec![
            buffer("x", Element::Real, x, Role::Points),
            buffer("y", Element::Real, y, Role::Output(0)),
            buffer("words", Element::Word, 5, Role::Scratch),
        ],
        start: vec![],
        launches: vec![KernelId(0)],
    }
}

fn run(host: &Host, x: &[f64], order: Order) -> Result<Vec<f64>, HostError> {
    let mut memory = host.memory(1);
    memory.write_reals(BufferId(0), x)?;
    host.call(&mut memory, order)?;
    Ok(memory.reals(BufferId(1)))
}

fn message(text: &str, lengths: (u64, u64), launch: (u32, u32, u32), order: Order) -> String {
    let host = Host::new(&module(text, lengths, launch, Precision::Fp32)).unwrap();
    let x: Vec<f64> = (0..lengths.0).map(|k| k as f64 + 1.0).collect();
    match run(&host, &x, order) {
        Ok(y) => format!("ran: {y:?}"),
        Err(e) => e.to_string(),
    }
}

const SUM: &str = r#"
extern "C" __global__ void __launch_bounds__(64) k(const float* __restrict__ x, float* y, unsigned* words, unsigned n) {
    float* s = (float*)shared_memory;
    const unsigned t = threadIdx.x;
    s[t] = x[blockIdx.x * 64 + t];
    for (unsigned h = 32; h > 0; h /= 2) {
        __syncthreads();
        if (t < h) s[t] += s[t + h];
    }
    __syncthreads();
    if (t < 4) y[blockIdx.x * 4 + t] = s[0] + t;
    if (t == 0) atomicAdd(words, 1u);
}
"#;

#[test]
fn a_block_adds_up_in_any_order() {
    let host = Host::new(&module(SUM, (192, 12), (3, 64, 256), Precision::Fp32)).unwrap();
    let x: Vec<f64> = (0..192).map(f64::from).collect();
    let expected: Vec<f64> = (0..12).map(|k| f64::from(2016 + 4096 * (k / 4) + k % 4)).collect();
    for order in ORDERS {
        let mut memory = host.memory(1);
        memory.write_reals(BufferId(0), &x).unwrap();
        host.call(&mut memory, order).unwrap();
        assert_eq!(memory.reals(BufferId(1)), expected, "{order:?}");
        assert_eq!(memory.bytes(BufferId(2))[..4], 3u32.to_ne_bytes());
    }
    assert!(matches!(host.memory(1).write_reals(BufferId(0), &x[1..]), Err(HostError::Length { .. })));
}

/// Without either barrier something is read before it is there, or too late.
#[test]
fn a_missing_barrier_is_noticed() {
    let at: Vec<usize> = SUM.match_indices("__syncthreads();").map(|m| m.0).collect();
    let x: Vec<f64> = (0..192).map(f64::from).collect();
    for (k, at) in at.into_iter().enumerate() {
        let text = format!("{};{}", &SUM[..at], &SUM[at + "__syncthreads();".len()..]);
        let host = Host::new(&module(&text, (192, 12), (3, 64, 256), Precision::Fp32)).unwrap();
        let results: Vec<_> = ORDERS.map(|o| run(&host, &x, o)).into_iter().collect();
        let differ = results.iter().any(|r| match (r, &results[0]) {
            (Ok(a), Ok(b)) => a != b,
            _ => true,
        });
        assert!(differ, "barrier {k} can be left out: {results:?}");
    }
}

/// Two modules in one process have shared memory of their own, in templates too.
#[test]
fn modules_share_nothing() {
    let text = "template <int N>\n__device__ float* room() {\n__shared__ float s[N];\nreturn s;\n}\n\
        extern \"C\" __global__ void k(const float* x, float* y, unsigned* w, unsigned n) {\n\
        y[threadIdx.x] = (float)((unsigned long long)room<4>() / 4 % (1 << 24));\n}";
    let hosts = [(), ()].map(|()| Host::new(&module(text, (64, 64), (1, 64, 0), Precision::Fp32)).unwrap());
    let [first, second] = hosts.each_ref().map(|host| run(host, &[1.0; 64], Order::Ascending).unwrap()[0]);
    assert_ne!(first, second);
}

#[test]
fn what_is_wrong_is_said() {
    let kernel = |body: &str| {
        format!("extern \"C\" __global__ void k(const float* x, float* y, unsigned* w, unsigned n) {{\n{body}\n}}")
    };
    let say = |body: &str| message(&kernel(body), (64, 65), (1, 64, 256), Order::Ascending);
    let cases = [
        say("y[threadIdx.x + 2] = 1;"),
        say("if (threadIdx.x == 0) w[5] = 1;"),
        say("if (threadIdx.x == 9) ((float*)x)[-1] = 1;"),
        say("if (threadIdx.x == 9) shared_memory[32] = 1;"),
        say(
            "float* s = (float*)shared_memory; if (threadIdx.x != 7) s[threadIdx.x] = 1; __syncthreads(); y[threadIdx.x] = 2 * s[threadIdx.x];",
        ),
        say("__shared__ float s[64]; __syncthreads(); y[threadIdx.x] = s[threadIdx.x] + 1;"),
        say("if (threadIdx.x < 63) __syncthreads();"),
        say("if (threadIdx.x < 32) {\n__syncthreads();\n} else {\n__syncthreads();\n}"),
        say("if (threadIdx.x != 40) __syncwarp();"),
        say("if (threadIdx.x < 48) y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1.0f, 16);"),
        say("if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0x0000FFFFu, 1.0f, 16);"),
        say("y[threadIdx.x] = x[threadIdx.x + 1] * 2;"),
        say("y[threadIdx.x] = sqrtf(x[threadIdx.x] - 2);"),
    ];
    insta::assert_snapshot!(cases.join("\n"));
    let wrong = Host::new(&module(&kernel("y[0] = undeclared;"), (64, 65), (1, 64, 0), Precision::Fp32));
    assert!(
        matches!(wrong, Err(HostError::Build { log, .. }) if log.contains("by_hand.cu:2") && log.contains("undeclared"))
    );
}

#[test]
fn shuffles_move_numbers_between_lanes() {
    let text = r#"
extern "C" __global__ void k(const double* x, double* y, unsigned* w, unsigned n) {
    const unsigned t = threadIdx.x;
    const double a = x[t];
    y[t] = __shfl_xor_sync(~0u, a, 5);
    y[64 + t] = __shfl_down_sync(~0u, a, 3);
    y[128 + t] = __shfl_up_sync(~0u, a, 3, 16);
    y[192 + t] = __shfl_sync(~0u, a, 9, 8);
    if (t % 2 == 0) y[256 + t] = __shfl_xor_sync(0x55555555u, a, 2); else y[256 + t] = a;
}"#;
    let host = Host::new(&module(text, (64, 320), (1, 64, 0), Precision::Fp64)).unwrap();
    let x: Vec<f64> = (0..64).map(f64::from).collect();
    let expected = |t: usize| {
        let (lane, base) = (t % 32, t / 32 * 32);
        [
            t ^ 5,
            if lane + 3 < 32 { t + 3 } else { t },
            if lane % 16 >= 3 { t - 3 } else { t },
            base + lane / 8 * 8 + 1,
            if t.is_multiple_of(2) { t ^ 2 } else { t },
        ]
    };
    for order in ORDERS {
        let y = run(&host, &x, order).unwrap();
        for t in 0..64 {
            for (k, from) in expected(t).into_iter().enumerate() {
                assert_eq!(y[64 * k + t], from as f64, "kind {k}, thread {t}, {order:?}");
            }
        }
    }
}

/// The fragments of a warp, laid out as the instruction wants them, multiply to the plain product.
#[test]
fn tensor_cores_multiply() {
    let text = r#"
extern "C" __global__ void k(const float* x, float* y, unsigned* w, unsigned n) {
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
    const float *a = x, *b = x + 128;
    unsigned fa[4], fb[2];
    float c[4] = {0, 0, 0, 0};
    fa[0] = to_tf32(a[g * 8 + t]);
    fa[1] = to_tf32(a[(g + 8) * 8 + t]);
    fa[2] = to_tf32(a[g * 8 + t + 4]);
    fa[3] = to_tf32(a[(g + 8) * 8 + t + 4]);
    fb[0] = to_tf32(b[t * 8 + g]);
    fb[1] = to_tf32(b[(t + 4) * 8 + g]);
    mma_tf32(c, fa, fb);
    mma_tf32(c, fa, fb);
    for (int k = 0; k < 4; ++k) y[(g + k / 2 * 8) * 8 + 2 * t + k % 2] = c[k];
}"#;
    let host = Host::new(&module(text, (192, 128), (1, 32, 0), Precision::Tf32)).unwrap();
    // Quarters below 256 have at most ten bits: products and sums are exact.
    let x: Vec<f64> = (0..192u32).map(|k| f64::from(k.wrapping_mul(2_654_435_761) >> 22) / 4.0 - 128.0).collect();
    for order in ORDERS {
        let y = run(&host, &x, order).unwrap();
        for (row, column) in (0..16).flat_map(|r| (0..8).map(move |c| (r, c))) {
            let sum: f64 = (0..8).map(|k| x[row * 8 + k] * x[128 + k * 8 + column]).sum();
            assert_eq!(y[row * 8 + column], 2.0 * sum, "{row} {column}");
        }
    }
}

#[test]
fn ten_bits_round_half_away() {
    let text = "extern \"C\" __global__ void k(const float* x, float* y, unsigned* w, unsigned n) {
        y[threadIdx.x] = from_tf32(to_tf32(x[threadIdx.x]));
    }";
    let host = Host::new(&module(text, (32, 32), (1, 32, 0), Precision::Tf32)).unwrap();
    let ulp = (-10f64).exp2();
    let mut x = vec![1.0 + 0.5 * ulp, -1.0 - 0.5 * ulp, 1.0 + 0.499 * ulp, 1.0 + 1.5 * ulp, 0.0, 3e38];
    x.resize(32, 1.0);
    let y = run(&host, &x, Order::Ascending).unwrap();
    assert_eq!(y[..4], [1.0 + ulp, -1.0 - ulp, 1.0, 1.0 + 2.0 * ulp]);
    assert_eq!(y[4], 0.0);
}

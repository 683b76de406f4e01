// Sums in a fixed order.

// The sum over the threads of a block, the same bits in each: in warps, then over the warps. `pad` holds a number per warp. With barriers.
__device__ inline real block_sum(real x, real* pad) {
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) pad[threadIdx.x / 32] = x;
    __syncthreads();
    real sum = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += pad[w];
    return sum;
}

__device__ inline real warp_max(real x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x = jet_max(x, __shfl_xor_sync(0xFFFFFFFFu, x, step));
    return x;
}

__device__ inline real block_max(real x, real* pad) {
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) pad[threadIdx.x / 32] = x;
    __syncthreads();
    real most = pad[0];
    for (unsigned w = 1; w < blockDim.x / 32; ++w) most = jet_max(most, pad[w]);
    return most;
}

// Element e of the mean over the points: the blocks' sums added in their order.
__device__ inline real mean_of_blocks(unsigned blocks, unsigned count, int length, int e, const real* partial) {
    double sum = 0;
    if (count == 0) return 0;
#pragma unroll 8
    for (unsigned b = 0; b < blocks; ++b) sum += partial[(size_t)b * length + e];
    return (real)(sum / count);
}

// Values of a tile, [rows, n, FEATURES], to all points: [count, rows, FEATURES].
template <int ROWS, int FEATURES, int PITCH>
__device__ inline void scatter(int n, unsigned first, const real* from, real* to) {
    for (int e = threadIdx.x; e < ROWS * n * FEATURES; e += blockDim.x) {
        const int f = e % FEATURES, p = e / FEATURES % n, r = e / FEATURES / n;
        to[((size_t)(first + p) * ROWS + r) * FEATURES + f] = from[(r * n + p) * PITCH + f];
    }
}

// Sums in a fixed order. What scalar code may ask for many times is called, not inlined, which saves NVRTC's time.

// The sum over the threads of a block, the same bits in each: in warps, then over the warps. `pad` holds a number per warp. With barriers.
static __device__ NOINLINE real block_sum(real x, real* pad) {
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

static __device__ NOINLINE real block_max(real x, real* pad) {
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) pad[threadIdx.x / 32] = x;
    __syncthreads();
    real most = pad[0];
    for (unsigned w = 1; w < blockDim.x / 32; ++w) most = jet_max(most, pad[w]);
    return most;
}

// The sum of what the blocks have made, `pitch` apart. Every lane of a warp has a number, of which each warp adds a share, then the first warp
// adds the shares. With a barrier.
template <class T>
__device__ inline double spread_sum(int blocks, size_t pitch, const T* part) {
    double* const shares = (double*)SHARED_MEMORY;
    const int warp = threadIdx.x / 32, warps = blockDim.x / 32, lane = threadIdx.x % 32;
    constexpr int AT_ONCE = 8;
    double sum = 0;
    for (int first = warp; first < blocks; first += AT_ONCE * warps) {
        T some[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int b = first + k * warps;
            some[k] = b < blocks ? part[b * pitch] : T(0);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) sum += (double)some[k];
    }
    shares[threadIdx.x] = sum;
    __syncthreads();
    if (warp > 0) return 0;
    for (int w = 1; w < warps; ++w) sum += shares[w * 32 + lane];
    return sum;
}

// Element e of the mean over the points: the blocks' sums. The first warp has it.
__device__ inline real mean_of_blocks(unsigned blocks, unsigned count, int length, int e, const real* partial) {
    if (count == 0) return 0;
    return (real)(spread_sum((int)blocks, length, partial + e) / count);
}

// to(e, from(e)) for e < length, several reads before the first write.
template <class T, class From, class To>
__device__ inline void copy_batches(int length, From from, To to) {
    constexpr int AT_ONCE = 8;
    for (int first = threadIdx.x; first < length; first += AT_ONCE * blockDim.x) {
        T some[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int e = first + k * blockDim.x;
            some[k] = e < length ? from(e) : T{};
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int e = first + k * blockDim.x;
            if (e < length) to(e, some[k]);
        }
    }
}

// Values of a tile, [rows, n, FEATURES], to all points: [count, rows, FEATURES].
template <int ROWS, int FEATURES, int PITCH>
__device__ inline void scatter(int n, unsigned first, const real* from, real* to) {
    for (int e = threadIdx.x; e < ROWS * n * FEATURES; e += blockDim.x) {
        const int f = e % FEATURES, p = e / FEATURES % n, r = e / FEATURES / n;
        to[((size_t)(first + p) * ROWS + r) * FEATURES + f] = from[(r * n + p) * PITCH + f];
    }
}

// The sums of x [n, FEATURES] over its rows, or sums += them unless `first`.
template <int FEATURES, int PITCH>
__device__ NOINLINE void features_sum(int n, bool first, const real* x, real* sums) {
    for (int f = threadIdx.x; f < FEATURES; f += blockDim.x) {
        real sum = 0;
        for (int p = 0; p < n; ++p) sum += x[p * PITCH + f];
        sums[f] = first ? sum : sums[f] + sum;
    }
}

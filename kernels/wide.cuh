// A first layer with very many inputs, in tiles of columns: its weight lies as [IN, OUT], so that a tile is contiguous.
// Points are made where they are needed.

constexpr int WIDE_TILE = 32;

// x[i PITCH + p] = number left + i of point p for i < columns (a multiple of 4), 0 from IN on; four(block, p, x) makes four columns.
template <int IN, int PITCH, class Four>
__device__ inline void tile_of_points(unsigned count, int left, int columns, Four four, real* x) {
    for (int e = threadIdx.x; e < count * (columns / 4); e += blockDim.x) {
        const int p = e % count, block = e / count;
        real numbers[4];
        four(left / 4 + block, p, numbers);
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            const int i = 4 * block + k;
            x[i * PITCH + p] = left + i < IN ? numbers[k] : real(0);
        }
    }
}

// A tile of a weight, 0 from IN on.
template <int IN, int OUT>
__device__ inline void tile_of_weight(int left, const real* weight, real* w) {
    for (int e = threadIdx.x; e < WIDE_TILE * OUT; e += blockDim.x) {
        w[e] = left + e / OUT < IN ? weight[(size_t)left * OUT + e] : real(0);
    }
}

// Adam on a tile: in shared memory, and where the weight lies.
template <int IN, int OUT>
__device__ inline void update_tile(int left, const Adam& adam, const real* gradient, real* w, real* weight, real* first,
                                   real* second) {
    for (int e = threadIdx.x; e < WIDE_TILE * OUT; e += blockDim.x) {
        if (left + e / OUT >= IN) return;
        const size_t at = (size_t)left * OUT + e;
        w[e] = adam_update(adam, w[e], gradient[e], first + at, second + at);
        weight[at] = w[e];
    }
}

// sums(p, o) += sum over the columns of the tile of x(p, i) w(i, o).
template <int OUT, int PITCH>
__device__ inline void add_products(unsigned count, const real* x, const real* w, real* sums) {
    const auto a = [=](int p, int i) { return x[i * PITCH + p]; };
    const auto b = [=](int i, int o) { return w[i * OUT + o]; };
    const auto put = [=](int p, int o, real sum) { sums[p * OUT + o] += sum; };
    product<PRODUCT, 2, 1, OUT, WIDE_TILE>(count, OUT, WIDE_TILE, a, b, put);
}

// sums[p] += the sum over the tile of of(block, p), where a block is four columns.
template <int IN, class Of>
__device__ inline void add_blocks(unsigned count, int left, Of of, double* sums) {
    const int block = threadIdx.x % (WIDE_TILE / 4), some = blockDim.x / (WIDE_TILE / 4);
    for (int first = 0; first < count; first += some) {
        const int p = first + threadIdx.x / (WIDE_TILE / 4);
        double sum = p < count && left + 4 * block < IN ? of(left / 4 + block, p) : 0.0;
#pragma unroll
        for (int step = WIDE_TILE / 8; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
        if (block == 0 && p < count) sums[p] += sum;
    }
}

// The greatest of what the blocks have made, see `spread_sum`.
__device__ inline real most_of_blocks(int blocks, size_t pitch, const real* part) {
    real most = part[0];
    for (int b = 1; b < blocks; ++b) most = jet_max(most, part[b * pitch]);
    return most;
}

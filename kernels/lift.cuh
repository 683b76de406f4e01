// A first layer on the jet of the points, without that jet: row 0 of a lift is a piece of the points, its other rows are
// seeds. Points, draws and weights are read where they lie.

// An element of a row beyond 0. `kind` -1: `value` at feature `at`; else what the draw of that number means by `at`.
struct Seed {
    int at, kind;
    real value;
};

// sums[q] = sum over l of x(p + q, l) w(l) for a warp's share of the columns, lane by lane; then over the warps, in their order.
// y [n, OUT] = x W^T: x [n, IN], points `columns` apart, W(o, i) = w[o ROW + i COLUMN]; `pad` holds 4 numbers per thread. With barriers.
template <int IN, int OUT, int ROW, int COLUMN, int PITCH_Y>
__device__ void points_layer(int n, const real* x, int columns, const real* w, const real* bias, real* pad, real* y) {
    if (IN <= 48) {
        for (int e = threadIdx.x; e < n * OUT; e += blockDim.x) {
            const int p = e / OUT, o = e % OUT;
            real sum = 0;
            for (int i = 0; i < IN; ++i) sum = jet_fma(x[(size_t)p * columns + i], w[(size_t)o * ROW + (size_t)i * COLUMN], sum);
            y[p * PITCH_Y + o] = sum + bias[o];
        }
        return;
    }
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    __syncthreads();
    for (int p = 0; p < n; p += 4) {
        for (int left = 0; left < OUT; left += 32) {
            const int o = left + lane;
            real sum[4] = {0, 0, 0, 0};
            // in parts, which keep their digits in long sums
            for (int part = 0; part < IN; part += 256 * warps) {
                real some[4] = {0, 0, 0, 0};
#pragma unroll 8
                for (int i = part + warp; i < (part + 256 * warps < IN ? part + 256 * warps : IN); i += warps) {
                    const real right = o < OUT ? w[(size_t)o * ROW + (size_t)i * COLUMN] : real(0);
#pragma unroll
                    for (int q = 0; q < 4; ++q) {
                        some[q] = jet_fma(x[(size_t)(p + q < n ? p + q : n - 1) * columns + i], right, some[q]);
                    }
                }
#pragma unroll
                for (int q = 0; q < 4; ++q) sum[q] += some[q];
            }
#pragma unroll
            for (int q = 0; q < 4; ++q) pad[(q * warps + warp) * 32 + lane] = sum[q];
            __syncthreads();
            for (int e = threadIdx.x; e < 4 * 32; e += blockDim.x) {
                const int q = e / 32, column = left + e % 32;
                real total = 0;
                for (int v = 0; v < warps; ++v) total += pad[(q * warps + v) * 32 + e % 32];
                if (p + q < n && column < OUT) y[(p + q) * PITCH_Y + column] = total + bias[column];
            }
            __syncthreads();
        }
    }
}

// Columns `left`, left + 1, ... of a gradient, in shared memory: TILE rows of OUT numbers, sums over the points.

// tile (+)= value times the sum over the points of x(i, point) bar(point, o).
template <int TILE, int OUT, class X, class Bar>
__device__ void columns_product(unsigned count, bool fresh, X x, Bar bar, real* tile) {
    // in parts, which keep their digits in long sums
    for (unsigned first = 0; first < count || first == 0; first += 1024) {
        const unsigned n = count - first < 1024 ? count - first : 1024;
        const bool start = fresh && first == 0;
        const auto put = [=](int i, int o, real sum) { tile[i * OUT + o] = start ? sum : tile[i * OUT + o] + sum; };
        const auto a = [=](int i, int l) { return x(i, first + l); };
        const auto b = [=](int l, int o) { return bar(first + l, o); };
        product<PRODUCT, 2, 1, OUT, 0>(TILE, OUT, n, a, b, put);
    }
}

// Shared memory beside the dynamic one: the same, however many ask for so much.
template <int LENGTH>
__device__ real* shared_room() {
    __shared__ real room[LENGTH];
    return room;
}

// The same for x(i, point) that are dear: each is made once. With barriers.
template <int TILE, int OUT, class X, class Bar>
__device__ void columns_product_made(unsigned count, X x, Bar bar, real* tile) {
    real* const made = shared_room<TILE * 36>();
    for (unsigned first = 0; first < count; first += 32) {
        const int n = count - first < 32 ? count - first : 32;
        __syncthreads();
        for (int e = threadIdx.x; e < TILE * n; e += blockDim.x) made[e / n * 36 + e % n] = x(e / n, first + e % n);
        __syncthreads();
        const auto put = [=](int i, int o, real sum) { tile[i * OUT + o] += sum; };
        const auto a = [=](int i, int l) { return made[i * 36 + l]; };
        const auto b = [=](int l, int o) { return bar(first + l, o); };
        product<PRODUCT, 2, 1, OUT, 0>(TILE, OUT, n, a, b, put);
    }
}

// Drawn columns: draw d < draws of column(d) adds add(d, o) to that column. `found` holds a number per thread and 1024 more. With barriers, two before
// the tile is touched.
template <int TILE, int OUT, class Column, class Add>
__device__ void columns_drawn(wide_word draws, int left, int* found, Column column, Add add, real* tile) {
    int* const list = found + blockDim.x;
    for (wide_word first = 0; first < draws; first += 1024) {
        const int each = 1024 / blockDim.x, begin = threadIdx.x * each;
        int mine = 0;
        for (int d = begin; d < begin + each && first + d < draws; ++d) {
            const int at = column(first + d) - left;
            mine += at >= 0 && at < TILE;
        }
        found[threadIdx.x] = mine;
        __syncthreads();
        int before = 0, all = 0;
        for (int t = 0; t < blockDim.x; ++t) {
            before += t < threadIdx.x ? found[t] : 0;
            all += found[t];
        }
        for (int d = begin; mine > 0 && d < begin + each && first + d < draws; ++d) {
            const int at = column(first + d) - left;
            if (at >= 0 && at < TILE) list[before++] = d;
        }
        __syncthreads();
        // in the order of the draws
        for (int o = threadIdx.x; o < OUT; o += blockDim.x) {
            for (int k = 0; k < all; ++k) {
                tile[(column(first + list[k]) - left) * OUT + o] += add(first + list[k], o);
            }
        }
    }
}

// Matrix products of a block: c(i, j) = sum over l of a(i, l) b(l, j), i < m, j < n, l < k.
//
// Operands are given by functions, of places within the matrix only; `put(i, j, sum)` is called once for each i and j. Every
// sum is added in an order that depends on the shape alone. No barriers: what is read must be there.
//
// PRODUCT = 0: fused multiply-add in the precision of `real`. 1: tensor cores, factors rounded to ten bits. 3: tensor cores, each
// factor as the sum of two such numbers, of whose products three matter: as accurate as 0.

#ifndef JETC_HOST
// The nearest number of ten bits.
__device__ inline word to_tf32(float x) {
    word y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}

// d += a b of a warp, a 16 by 8, b 8 by 8: lane 4 g + t holds a(g, t), a(g + 8, t), a(g, t + 4), a(g + 8, t + 4); b(t, g), b(t + 4, g);
// d(g, 2 t), d(g, 2 t + 1), d(g + 8, 2 t), d(g + 8, 2 t + 1).
__device__ inline void mma_tf32(float* d, const word* a, const word* b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ inline float from_tf32(word x) { return __uint_as_float(x); }
#endif

// The sum over the lanes of a warp, the same bits in each.
__device__ inline real warp_sum(real x) {
#pragma unroll
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
    return x;
}

// A thread works out four sums below each other.
template <class A, class B, class Put>
__device__ inline void product_plain(int m, int n, int k, A a, B b, Put put) {
    for (int unit = threadIdx.x; unit < (m + 3) / 4 * n; unit += blockDim.x) {
        const int i = unit / n * 4, j = unit % n, last = m - 1;
        real sum[4] = {0, 0, 0, 0};
        for (int l = 0; l < k; ++l) {
            const real right = b(l, j);
#pragma unroll
            for (int q = 0; q < 4; ++q) sum[q] = jet_fma(a(i + q < last ? i + q : last, l), right, sum[q]);
        }
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            if (i + q < m) put(i + q, j, sum[q]);
        }
    }
}

// A warp works out one sum.
template <class A, class B, class Put>
__device__ inline void product_dots(int m, int n, int k, A a, B b, Put put) {
    const int lane = threadIdx.x % 32;
    for (int unit = threadIdx.x / 32; unit < m * n; unit += blockDim.x / 32) {
        const int i = unit / n, j = unit % n;
        real sum = 0;
        for (int l = lane; l < k; l += 32) sum = jet_fma(a(i, l), b(l, j), sum);
        sum = warp_sum(sum);
        if (lane == 0) put(i, j, sum);
    }
}

// A number as the sum of two with ten bits.
struct Split {
    word high, low;
};

template <int PRODUCT>
__device__ inline Split split(float x) {
    const word high = to_tf32(x);
    return Split{high, PRODUCT == 3 ? to_tf32(x - from_tf32(high)) : 0};
}

// A warp works out 16 DOWN by 8 ACROSS sums. N and K: n and k where they are known, else 0.
template <int PRODUCT, int DOWN, int ACROSS, int N, int K, class A, class B, class Put>
__device__ inline void product_tensor(int m, int n, int k, A a, B b, Put put) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int columns = (n + 8 * ACROSS - 1) / (8 * ACROSS), units = (m + 16 * DOWN - 1) / (16 * DOWN) * columns;
    for (int unit = threadIdx.x / 32; unit < units; unit += blockDim.x / 32) {
        const int top = unit / columns * 16 * DOWN, left = unit % columns * 8 * ACROSS;
        float sums[DOWN][ACROSS][4];
#pragma unroll
        for (int e = 0; e < DOWN * ACROSS * 4; ++e) sums[e / 4 / ACROSS][e / 4 % ACROSS][e % 4] = 0;
#pragma unroll 2
        for (int first = 0; first < k; first += 8) {
            word high[ACROSS][2], low[ACROSS][2];
#pragma unroll
            for (int e = 0; e < ACROSS * 2; ++e) {
                const int j = left + e / 2 * 8 + g, l = first + t + e % 2 * 4;
                const bool inside = (N > 0 && N % (8 * ACROSS) == 0 || j < n) && (K > 0 && K % 8 == 0 || l < k);
                const Split s = split<PRODUCT>(inside ? b(l, j) : 0.0f);
                high[e / 2][e % 2] = s.high;
                low[e / 2][e % 2] = s.low;
            }
#pragma unroll
            for (int d = 0; d < DOWN; ++d) {
                if (d > 0 && top + 16 * d >= m) continue;
                word a_high[4], a_low[4];
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int i = top + 16 * d + g + e % 2 * 8, l = first + t + e / 2 * 4;
                    const bool inside = i < m && (K > 0 && K % 8 == 0 || l < k);
                    const Split s = split<PRODUCT>(inside ? a(i, l) : 0.0f);
                    a_high[e] = s.high;
                    a_low[e] = s.low;
                }
#pragma unroll
                for (int c = 0; c < ACROSS; ++c) {
                    if (PRODUCT == 3) {
                        mma_tf32(sums[d][c], a_low, high[c]);
                        mma_tf32(sums[d][c], a_high, low[c]);
                    }
                    mma_tf32(sums[d][c], a_high, high[c]);
                }
            }
        }
#pragma unroll
        for (int e = 0; e < DOWN * ACROSS * 4; ++e) {
            const int d = e / 4 / ACROSS, c = e / 4 % ACROSS, q = e % 4;
            const int i = top + 16 * d + g + q / 2 * 8, j = left + 8 * c + 2 * t + q % 2;
            if (i < m && (N > 0 && N % (8 * ACROSS) == 0 || j < n)) put(i, j, sums[d][c][q]);
        }
    }
}

// The way that suits the shape.
template <int PRODUCT, int DOWN, int ACROSS, int N, int K, class A, class B, class Put>
__device__ inline void product(int m, int n, int k, A a, B b, Put put) {
#if !JETC_DOUBLE
    if (PRODUCT > 0) return product_tensor<PRODUCT, DOWN, ACROSS, N, K>(m, n, k, a, b, put);
#endif
    product_plain(m, n, k, a, b, put);
}

// y = x W^T, + bias in the first n rows: x [m, IN], W(o, i) = w[o ROW + i COLUMN], y [m, OUT].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_X, int PITCH_Y, int ROW, int COLUMN>
__device__ void layer(int m, int n, const real* x, const real* w, const real* bias, real* y) {
    const auto a = [=](int i, int l) { return x[i * PITCH_X + l]; };
    const auto b = [=](int l, int j) { return w[j * ROW + l * COLUMN]; };
    const auto put = [=](int i, int j, real sum) { y[i * PITCH_Y + j] = i < n ? sum + bias[j] : sum; };
    if (OUT < 8 && IN >= 32) return product_dots(m, OUT, IN, a, b, put);
    if (OUT < 8 || IN < 8) return product_plain(m, OUT, IN, a, b, put);
    product<PRODUCT, DOWN, ACROSS, OUT, IN>(m, OUT, IN, a, b, put);
}

// x-bar = y-bar W: y-bar [m, OUT], x-bar [m, IN].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_Y, int PITCH_X, int ROW, int COLUMN>
__device__ void layer_adjoint(int m, const real* bar, const real* w, real* x_bar) {
    const auto a = [=](int i, int l) { return bar[i * PITCH_Y + l]; };
    const auto b = [=](int l, int j) { return w[l * ROW + j * COLUMN]; };
    const auto put = [=](int i, int j, real sum) { x_bar[i * PITCH_X + j] = sum; };
    if (IN < 8 && OUT >= 32) return product_dots(m, IN, OUT, a, b, put);
    if (OUT < 8 || IN < 8) return product_plain(m, IN, OUT, a, b, put);
    product<PRODUCT, DOWN, ACROSS, IN, OUT>(m, IN, OUT, a, b, put);
}

// G = y-bar^T x, or G += it unless `first`: y-bar [m, OUT], x [m, IN], G(o, i) = gradient[o ROW + i COLUMN].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_Y, int PITCH_X, int ROW, int COLUMN>
__device__ void weight_adjoint(int m, bool first, const real* bar, const real* x, real* gradient) {
    const auto a = [=](int i, int l) { return bar[l * PITCH_Y + i]; };
    const auto b = [=](int l, int j) { return x[l * PITCH_X + j]; };
    const auto put = [=](int i, int j, real sum) {
        real* g = gradient + i * ROW + j * COLUMN;
        *g = first ? sum : *g + sum;
    };
    if (OUT < 8 || IN < 8) return product_plain(OUT, IN, m, a, b, put);
    product<PRODUCT, DOWN, ACROSS, IN, 0>(OUT, IN, m, a, b, put);
}

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

// A number as the sum of two, of which tensor cores read ten bits. What is not a number is so in the low one.
struct Split {
    word high, low;
};

#if !JETC_DOUBLE
template <int PRODUCT>
__device__ inline Split split(float x) {
    if (PRODUCT != 3) return Split{to_tf32(x), 0};
    const word high = (__float_as_uint(x) + 0x1000u) & 0xFFFFE000u;
    return Split{high, __float_as_uint(x - __uint_as_float(high))};
}

// d(i, j) += a(i) b(j) for the blocks of a warp.
template <int PRODUCT, int DOWN, int ACROSS>
__device__ inline void mma_blocks(float (&d)[DOWN][ACROSS][4], const Split (&a)[DOWN][4], const Split (&b)[ACROSS][2]) {
    // small products first; those of one sum are far apart
#pragma unroll
    for (int kind = PRODUCT == 3 ? 0 : 2; kind < 3; ++kind) {
#pragma unroll
        for (int i = 0; i < DOWN; ++i) {
            word left[4];
#pragma unroll
            for (int e = 0; e < 4; ++e) left[e] = kind == 0 ? a[i][e].low : a[i][e].high;
#pragma unroll
            for (int j = 0; j < ACROSS; ++j) {
                const word right[2] = {kind == 1 ? b[j][0].low : b[j][0].high, kind == 1 ? b[j][1].low : b[j][1].high};
                mma_tf32(d[i][j], left, right);
            }
        }
    }
}

// Numbers that are read and written at once.
template <int N>
struct __align__(4 * N) Pack {
    float x[N];
};

template <int N>
__device__ inline Pack<N> pack(const float* x) {
    return *(const Pack<N>*)x;
}

// Which row of eight the lanes of a group take: neighbours are four rows apart, where rows of shared memory 4 more than a multiple of 8
// numbers long meet in no bank.
__device__ inline int row_of(int g) { return g / 2 + g % 2 * 4; }

// y = x W^T or, TURNED, y = x W, for packs: x [m, K] and y [m, N] in shared memory, rows of W next to each other. A warp works out 16 DOWN by 16
// sums. Within 16 terms, lane t takes those from 4 t on; the columns of its sums are next to each other.
template <int PRODUCT, int DOWN, int K, int N, int PITCH_X, int PITCH_Y, bool TURNED>
__device__ inline void product_packs(int m, int n, const float* x, const float* w, const float* bias, float* y) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const int units = (m + 16 * DOWN - 1) / (16 * DOWN) * (N / 16);
    for (int unit = threadIdx.x / 32; unit < units; unit += blockDim.x / 32) {
        const int top = unit / (N / 16) * 16 * DOWN + row_of(g), left = unit % (N / 16) * 16;
        const float* rows[DOWN][2];
#pragma unroll
        for (int e = 0; e < DOWN * 2; ++e) {
            const int i = top + 8 * e;
            rows[e / 2][e % 2] = x + (i < m ? i : m - 1) * PITCH_X + 4 * t;
        }
        const float* const right = TURNED ? w + 4 * t * N + left + 2 * g : w + (left + 2 * g) * K + 4 * t;
        float sums[DOWN][2][4] = {};
#pragma unroll(DOWN > 2 ? 2 : 4)
        for (int l = 0; l < K; l += 16) {
            Pack<4> b[2];
            if (TURNED) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const Pack<2> two = pack<2>(right + (l + e) * N);
                    b[0].x[e] = two.x[0];
                    b[1].x[e] = two.x[1];
                }
            } else {
                b[0] = pack<4>(right + l);
                b[1] = pack<4>(right + K + l);
            }
            Pack<4> a[DOWN][2];
#pragma unroll
            for (int e = 0; e < DOWN * 2; ++e) a[e / 2][e % 2] = pack<4>(rows[e / 2][e % 2] + l);
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                Split down[DOWN][4], across[2][2];
#pragma unroll
                for (int e = 0; e < 4; ++e) across[e / 2][e % 2] = split<PRODUCT>(b[e / 2].x[2 * s + e % 2]);
#pragma unroll
                for (int e = 0; e < DOWN * 4; ++e) {
                    down[e / 4][e % 4] = split<PRODUCT>(a[e / 4][e % 2].x[2 * s + e % 4 / 2]);
                }
                mma_blocks<PRODUCT, DOWN, 2>(sums, down, across);
            }
        }
        const int column = left + 4 * t;
#pragma unroll
        for (int e = 0; e < DOWN * 2; ++e) {
            const int i = top + 8 * e;
            if (i >= m) continue;
            Pack<4> sum;
#pragma unroll
            for (int c = 0; c < 4; ++c) sum.x[c] = sums[e / 2][c % 2][e % 2 * 2 + c / 2];
            if (i < n) {
                const Pack<4> more = pack<4>(bias + column);
#pragma unroll
                for (int c = 0; c < 4; ++c) sum.x[c] += more.x[c];
            }
            *(Pack<4>*)(y + i * PITCH_Y + column) = sum;
        }
    }
}

// G = y^T x, or G += it unless `first`, for packs: y [m, M], x [m, N], rows of G next to each other. A warp works out 16 DOWN by 8 ACROSS sums;
// lane g has 2 DOWN rows from 2 DOWN g on and ACROSS columns from ACROSS g on, lane t the terms 2 t and 2 t + 1.
template <int PRODUCT, int DOWN, int ACROSS, int M, int N, int PITCH_Y, int PITCH_X>
__device__ inline void product_outer(int m, bool first, const float* y, const float* x, float* gradient) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    constexpr int WIDE = N / (8 * ACROSS), UNITS = M / (16 * DOWN) * WIDE, PART = ACROSS < 4 ? ACROSS : 4;
    for (int unit = threadIdx.x / 32; unit < UNITS; unit += blockDim.x / 32) {
        const int top = unit / WIDE * 16 * DOWN + 2 * DOWN * g, left = unit % WIDE * 8 * ACROSS;
        float* const to = gradient + top * N + left + 2 * ACROSS * t;
        float sums[DOWN][ACROSS][4] = {};
        Pack<PART> old[2 * DOWN][2 * ACROSS / PART];
        if (!first) {
#pragma unroll
            for (int e = 0; e < 2 * DOWN; ++e) {
#pragma unroll
                for (int c = 0; c < 2 * ACROSS / PART; ++c) old[e][c] = pack<PART>(to + e * N + c * PART);
            }
        }
        const float *a_at = y + 2 * t * PITCH_Y + top, *b_at = x + 2 * t * PITCH_X + left + ACROSS * g;
        const int whole = m / 8 * 8;
#pragma unroll 1
        for (int l = 0; l < whole; l += 8) {
            Split down[DOWN][4], across[ACROSS][2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const Pack<2 * DOWN> a = pack<2 * DOWN>(a_at + e * PITCH_Y);
                const Pack<ACROSS> b = pack<ACROSS>(b_at + e * PITCH_X);
#pragma unroll
                for (int c = 0; c < 2 * DOWN; ++c) down[c / 2][c % 2 + 2 * e] = split<PRODUCT>(a.x[c]);
#pragma unroll
                for (int c = 0; c < ACROSS; ++c) across[c][e] = split<PRODUCT>(b.x[c]);
            }
            mma_blocks<PRODUCT, DOWN, ACROSS>(sums, down, across);
            a_at += 8 * PITCH_Y;
            b_at += 8 * PITCH_X;
        }
        if (whole < m) {
            // the last terms, 0 where there are none
            Split down[DOWN][4], across[ACROSS][2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                const bool inside = whole + 2 * t + e < m;
                const int back = inside ? 0 : whole + 2 * t + e - m + 1;
                const Pack<2 * DOWN> a = pack<2 * DOWN>(a_at + (e - back) * PITCH_Y);
                const Pack<ACROSS> b = pack<ACROSS>(b_at + (e - back) * PITCH_X);
#pragma unroll
                for (int c = 0; c < 2 * DOWN; ++c) down[c / 2][c % 2 + 2 * e] = split<PRODUCT>(inside ? a.x[c] : 0.0f);
#pragma unroll
                for (int c = 0; c < ACROSS; ++c) across[c][e] = split<PRODUCT>(b.x[c]);
            }
            mma_blocks<PRODUCT, DOWN, ACROSS>(sums, down, across);
        }
#pragma unroll
        for (int e = 0; e < 2 * DOWN; ++e) {
#pragma unroll
            for (int c = 0; c < 2 * ACROSS; ++c) {
                float* const sum = &old[e][c / PART].x[c % PART];
                const float more = sums[e / 2][c % ACROSS][e % 2 * 2 + c / ACROSS];
                *sum = first ? more : *sum + more;
            }
#pragma unroll
            for (int c = 0; c < 2 * ACROSS / PART; ++c) *(Pack<PART>*)(to + e * N + c * PART) = old[e][c];
        }
    }
}
#endif

#if !JETC_DOUBLE
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
#pragma unroll 4
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
#endif

// The way that suits the shape.
template <int PRODUCT, int DOWN, int ACROSS, int N, int K, class A, class B, class Put>
__device__ inline void product(int m, int n, int k, A a, B b, Put put) {
#if !JETC_DOUBLE
    if (PRODUCT > 0) return product_tensor<PRODUCT, DOWN, ACROSS, N, K>(m, n, k, a, b, put);
#endif
    product_plain(m, n, k, a, b, put);
}

// Whether a layer is worked out by packs.
__device__ constexpr bool are_packs(int product, int in, int out, bool rows) { return product > 0 && in % 16 == 0 && out % 16 == 0 && rows; }

// y = x W^T, + bias in the first n rows: x [m, IN], W(o, i) = w[o ROW + i COLUMN], y [m, OUT].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_X, int PITCH_Y, int ROW, int COLUMN>
__device__ NOINLINE void layer(int m, int n, const real* x, const real* w, const real* bias, real* y) {
    const auto a = [=](int i, int l) { return x[i * PITCH_X + l]; };
    const auto b = [=](int l, int j) { return w[j * ROW + l * COLUMN]; };
    const auto put = [=](int i, int j, real sum) { y[i * PITCH_Y + j] = i < n ? sum + bias[j] : sum; };
    if (OUT < 8 && IN >= 32) return product_dots(m, OUT, IN, a, b, put);
    if (OUT < 8 || IN < 8) return product_plain(m, OUT, IN, a, b, put);
#if !JETC_DOUBLE
    if constexpr (are_packs(PRODUCT, IN, OUT, ROW == IN && COLUMN == 1)) {
        return product_packs<PRODUCT, DOWN, IN, OUT, PITCH_X, PITCH_Y, false>(m, n, x, w, bias, y);
    }
#endif
    product<PRODUCT, DOWN, ACROSS, OUT, IN>(m, OUT, IN, a, b, put);
}

// x-bar = y-bar W: y-bar [m, OUT], x-bar [m, IN].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_Y, int PITCH_X, int ROW, int COLUMN>
__device__ NOINLINE void layer_adjoint(int m, const real* bar, const real* w, real* x_bar) {
    const auto a = [=](int i, int l) { return bar[i * PITCH_Y + l]; };
    const auto b = [=](int l, int j) { return w[l * ROW + j * COLUMN]; };
    const auto put = [=](int i, int j, real sum) { x_bar[i * PITCH_X + j] = sum; };
    if (IN < 8 && OUT >= 32) return product_dots(m, IN, OUT, a, b, put);
    if (OUT < 8 || IN < 8) return product_plain(m, IN, OUT, a, b, put);
#if !JETC_DOUBLE
    if constexpr (are_packs(PRODUCT, IN, OUT, ROW == IN && COLUMN == 1)) {
        return product_packs<PRODUCT, DOWN, OUT, IN, PITCH_Y, PITCH_X, true>(m, 0, bar, w, nullptr, x_bar);
    }
#endif
    product<PRODUCT, DOWN, ACROSS, IN, OUT>(m, IN, OUT, a, b, put);
}

// G = y-bar^T x, or G += it unless `first`: y-bar [m, OUT], x [m, IN], G(o, i) = gradient[o ROW + i COLUMN].
template <int PRODUCT, int DOWN, int ACROSS, int IN, int OUT, int PITCH_Y, int PITCH_X, int ROW, int COLUMN>
__device__ NOINLINE void weight_adjoint(int m, bool first, const real* bar, const real* x, real* gradient) {
    const auto a = [=](int i, int l) { return bar[l * PITCH_Y + i]; };
    const auto b = [=](int l, int j) { return x[l * PITCH_X + j]; };
    const auto put = [=](int i, int j, real sum) {
        real* g = gradient + i * ROW + j * COLUMN;
        *g = first ? sum : *g + sum;
    };
    if (OUT < 8 || IN < 8) return product_plain(OUT, IN, m, a, b, put);
#if !JETC_DOUBLE
    if constexpr (are_packs(PRODUCT, IN, OUT, ROW == IN && COLUMN == 1)) {
        return product_outer<PRODUCT, DOWN, ACROSS, OUT, IN, PITCH_Y, PITCH_X>(m, first, bar, x, gradient);
    }
#endif
    product<PRODUCT, DOWN, ACROSS, IN, 0>(OUT, IN, m, a, b, put);
}

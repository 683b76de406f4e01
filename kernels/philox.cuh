// Philox4x32-10, and what is drawn from its words: the numbers of src/net/philox.rs and src/jet/random.rs.

struct Words {
    word w[4];
};

// The high and the low word of a product. By itself NVRTC adds a zero to every high one.
__device__ inline void product_of_words(word a, word b, word* high, word* low) {
#ifdef JETC_HOST
    const wide_word p = (wide_word)a * b;
    *high = (word)(p >> 32);
    *low = (word)p;
#else
    asm("{.reg .b64 p; mul.wide.u32 p, %2, %3; mov.b64 {%0, %1}, p;}" : "=r"(*low), "=r"(*high) : "r"(a), "r"(b));
#endif
}

// Four words from a counter (block, point, step, stream) and a seed.
__device__ inline Words philox(word block, word point, wide_word step, word stream, wide_word seed) {
    word c0 = block, c1 = point, c2 = (word)step, c3 = stream;
    word k0 = (word)seed, k1 = (word)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        word high0, low0, high1, low1;
        product_of_words(c0, 0xD2511F53u, &high0, &low0);
        product_of_words(c2, 0xCD9E8D57u, &high1, &low1);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

// The 64-bit number of draw i: two words of a block, low half first.
__device__ inline wide_word draw_word(word i, word point, wide_word step, word stream, wide_word seed) {
    const Words w = philox(i / 2, point, step, stream, seed);
    return i % 2 == 0 ? w.w[0] | (wide_word)w.w[1] << 32 : w.w[2] | (wide_word)w.w[3] << 32;
}

// floor(u n / 2^64)
__device__ inline word below(wide_word u, word n) {
    return (word)(((u >> 32) * n + ((u & 0xFFFFFFFFull) * n >> 32)) >> 32);
}

// Element e of the directions of a point: a sign, or a normal number of the pair that it belongs to.
__device__ inline real sign_element(word e, word point, wide_word step, word stream, wide_word seed) {
    const Words w = philox(e / 128, point, step, stream, seed);
    const word half = e / 32 % 4;
    const word bits = half == 0 ? w.w[0] : half == 1 ? w.w[1] : half == 2 ? w.w[2] : w.w[3];
    return bits >> e % 32 & 1 ? real(-1) : real(1);
}

static __device__ NOINLINE real normal_element(word e, word point, wide_word step, word stream, wide_word seed) {
    const Words w = philox(e / 4, point, step, stream, seed);
    const word a = e % 4 < 2 ? w.w[0] : w.w[2], b = e % 4 < 2 ? w.w[1] : w.w[3];
#if JETC_DOUBLE
    const real log_uniform = log(((real)a + 1) / 4294967296.0);
    const real angle = (real)b * (6.283185307179586476925 / 4294967296.0);
#else
    // near 1 the logarithm wants the distance to 1
    const real log_uniform = a < 0x80000000u ? logf(((real)a + 1) * (1 / 4294967296.0f))
                                             : log1pf(-(real)(0xFFFFFFFFu - a) * (1 / 4294967296.0f));
    const real angle = (real)(int)b * (3.14159265358979f / 2147483648.0f);
#endif
    const real radius = jet_sqrt(-2 * log_uniform);
    return radius * (e % 2 == 0 ? jet_cos(angle) : jet_sin(angle));
}

// Directions of n points from `first` on: [k, n, length], rows of points `pitch` apart.
template <bool GAUSSIAN>
__device__ void directions(int k, int length, int n, word first, word stream, const wide_word* state, int pitch, real* y) {
    for (int e = threadIdx.x; e < k * n * length; e += blockDim.x) {
        const int row = e / length, column = e % length;
        const word element = (word)(row / n) * length + column, point = first + row % n;
        y[row * pitch + column] = GAUSSIAN ? normal_element(element, point, state[1], stream, state[0])
                                           : sign_element(element, point, state[1], stream, state[0]);
    }
}

// The place that draw i of a shuffle of `length` swaps place i with.
__device__ inline real swap_place(int i, word length, word point, word stream, const wide_word* state) {
    return (real)(i + below(draw_word(i, point, state[1], stream, state[0]), length - i));
}

// Columns drawn without replacement: [n, k]. `places`, as large, is working memory. Contains a barrier.
__device__ inline void sample(int k, int length, int from, bool shared, int n, word first, word stream,
                              const wide_word* state, int pitch, real* places, real* y) {
    for (int e = threadIdx.x; e < n * k; e += blockDim.x) {
        const int p = e / k, i = e % k;
        places[p * k + i] = swap_place(i, length, shared ? 0 : first + p, stream, state);
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n * k; e += blockDim.x) {
        const int p = e / k, i = e % k;
        const real* r = places + p * k;
        real q = r[i];
        for (int s = i - 1; s >= 0; --s) {
            if (r[s] == q) q = (real)s;
        }
        y[p * pitch + i] = (real)from + q;
    }
}

// Pairs drawn with replacement by the weights [rows, n, columns] of each point: [3, n, k], see `SampleWeighted`. A thread adds up its share
// of the weights first; `pad` holds two reals per thread. With barriers.
__device__ inline void sample_weighted(int k, int rows, int columns, int from0, int from1, int n, word first, word stream,
                                       const wide_word* state, int weight_pitch, const real* weights, real* pad, int pitch,
                                       real* y) {
    double* const shares = (double*)pad;
    const int all = rows * columns, share = (all + (int)blockDim.x - 1) / (int)blockDim.x;
    for (int p = 0; p < n; ++p) {
        const auto weight = [=](int i) {
            const double w = weights[(i / columns * n + p) * weight_pitch + i % columns];
            return w < 0 ? -w : w;
        };
        double mine = 0;
        for (int i = threadIdx.x * share; i < (int)(threadIdx.x + 1) * share && i < all; ++i) mine += weight(i);
        __syncthreads();
        shares[threadIdx.x] = mine;
        __syncthreads();
        for (int s = threadIdx.x; s < k; s += blockDim.x) {
            double total = 0;
            for (int t = 0; t < blockDim.x; ++t) total += shares[t];
            const double t = total * ((double)draw_word(s, first + p, state[1], stream, state[0]) / 18446744073709551616.0);
            double sum = 0, drawn = 0;
            int at = 0, i = 0;
            for (int c = 0; i + share < all && sum + shares[c] <= t; ++c) {
                sum += shares[c];
                i += share;
            }
            const int start = i;
            // the first element whose running sum exceeds t, else the last one of nonzero weight
            for (; i < all && sum <= t; ++i) {
                const double w = weight(i);
                sum += w;
                if (w > 0) {
                    at = i;
                    drawn = w;
                }
            }
            for (i = start - 1; i >= 0 && drawn == 0; --i) {
                drawn = weight(i);
                at = drawn > 0 ? i : 0;
            }
            y[p * pitch + s] = (real)(from0 + at / columns);
            y[(n + p) * pitch + s] = (real)(from1 + at % columns);
            y[(2 * n + p) * pitch + s] = drawn > 0 ? (real)(total / (k * drawn)) : real(0);
        }
    }
}

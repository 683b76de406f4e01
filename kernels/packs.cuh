// The pass over a first layer with very many inputs, for tensor cores: what stays the same for all tiles of a block stays where it is, the
// adjoint in shared memory, the sums in registers. A thread makes the points of one column segment after the other.

#if !JETC_DOUBLE
// Numbers of rows of shared memory: of the adjoint, [COUNT, OUT], and of the weight, [TILE, OUT].
template <int OUT>
struct Pitch {
    static constexpr int BARS = OUT + 4, WEIGHT = OUT + 2;
};

// The draws d < DRAWS whose column(d) is in a tile of this block, in their order: their numbers, then, DRAWS behind, their columns. How many
// there are. `found` holds a number per warp of THREADS. With a barrier; the lists are there after the next one.
template <int TILE, int DRAWS, int THREADS, class Column>
__device__ inline int own_draws(Column column, int* found, int* list) {
    constexpr int EACH = (DRAWS + THREADS - 1) / THREADS;
    const int begin = (int)threadIdx.x * EACH, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int columns[EACH], mine = 0;
#pragma unroll
    for (int k = 0; k < EACH; ++k) columns[k] = begin + k < DRAWS ? column(begin + k) : -1;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        if (columns[k] >= 0 && columns[k] / TILE % (int)gridDim.x != (int)blockIdx.x) columns[k] = -1;
        mine += columns[k] >= 0;
    }
    // how many the threads up to this one have, in its warp, then in all
    int before = mine, all = 0;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
        const int more = __shfl_up_sync(0xFFFFFFFFu, before, step);
        if (lane >= step) before += more;
    }
    if (lane == 31) found[warp] = before;
    __syncthreads();
    before -= mine;
#pragma unroll
    for (int w = 0; w < THREADS / 32; ++w) {
        before += w < warp ? found[w] : 0;
        all += found[w];
    }
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
        if (columns[k] < 0) continue;
        list[before] = begin + k;
        list[DRAWS + before++] = columns[k];
    }
    return all;
}

// The sum over the points of from(p), several reads before the first addition.
template <int COUNT, class From>
__device__ inline float sum_of_points(From from) {
    constexpr int AT_ONCE = 8;
    float sum = 0;
    for (int first = 0; first < COUNT; first += AT_ONCE) {
        float some[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) some[k] = first + k < COUNT ? from(first + k) : 0.0f;
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) sum += some[k];
    }
    return sum;
}

// Whether any of the listed columns is in a tile; of a whole warp.
__device__ inline bool has_draws(int listed, const int* columns, int left, int tile) {
    bool has = false;
#pragma unroll 1
    for (int d = threadIdx.x % 32; d < listed; d += 32) has |= columns[d] >= left && columns[d] < left + tile;
    return __any_sync(0xFFFFFFFFu, has);
}

// A tile of a weight, 0 from IN on.
template <int IN, int OUT, int TILE>
__device__ inline void load_weight(int left, const float* weight, float* w) {
    for (int e = threadIdx.x; e < TILE * OUT / 2; e += blockDim.x) {
        const int i = e / (OUT / 2), o = e % (OUT / 2) * 2;
        *(Pack<2>*)(w + i * Pitch<OUT>::WEIGHT + o) =
            left + i < IN ? pack<2>(weight + (size_t)(left + i) * OUT + o) : Pack<2>{};
    }
}

// Asks for a tile of an array, which lies as the weight does, before it is needed.
template <int IN, int OUT, int TILE>
__device__ inline void prefetch(int left, const float* x) {
#ifndef JETC_HOST
    constexpr int LINE = 32;  // numbers
    for (int e = threadIdx.x; e < TILE * OUT / LINE; e += blockDim.x) {
        if (left + e * LINE / OUT < IN) asm volatile("prefetch.global.L2 [%0];" ::"l"(x + (size_t)left * OUT + e * LINE));
    }
#endif
}

// Adam on a tile, in shared memory and where the weight lies; where the tile `has` more, more(i, o, g) adds it to four numbers of the gradient, all
// of which is multiplied by `scale`.
template <int IN, int OUT, int TILE, int THREADS, class More>
__device__ inline void update_packs(int left, const Adam& adam, float scale, const float* gradient, bool has, More more, float* w,
                                    float* weight, float* first, float* second) {
    constexpr int PACKS = TILE * OUT / 4, AT_ONCE = PACKS % (2 * THREADS) == 0 ? 2 : 1;
    const int inside = (IN % TILE == 0 || left + TILE <= IN ? TILE : IN - left) * (OUT / 4);
    weight += (size_t)left * OUT;
    first += (size_t)left * OUT;
    second += (size_t)left * OUT;
#pragma unroll 1
    for (int start = threadIdx.x; start < PACKS; start += AT_ONCE * THREADS) {
        Pack<4> old[AT_ONCE], m[AT_ONCE], v[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int e = start + k * THREADS;
            old[k] = Pack<4>{};
            if (IN % TILE != 0 && e >= inside) continue;
            old[k] = pack<4>(weight + 4 * e);
            m[k] = pack<4>(first + 4 * e);
            v[k] = pack<4>(second + 4 * e);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int e = start + k * THREADS, i = e / (OUT / 4);
            if (IN % TILE == 0 || e < inside) {
                Pack<4> g = pack<4>(gradient + 4 * e);
                if (has) more(left + i, e % (OUT / 4) * 4, g.x);
#pragma unroll
                for (int q = 0; q < 4; ++q) old[k].x[q] = adam_update(adam, old[k].x[q], scale * g.x[q], &m[k].x[q], &v[k].x[q]);
                *(Pack<4>*)(weight + 4 * e) = old[k];
                *(Pack<4>*)(first + 4 * e) = m[k];
                *(Pack<4>*)(second + 4 * e) = v[k];
            }
            // rows of w are as long as a weight's and `apart` numbers more
            constexpr int apart = Pitch<OUT>::WEIGHT - OUT;
            float* const to = w + 4 * e + apart * i;
            *(Pack<2>*)to = Pack<2>{old[k].x[0], old[k].x[1]};
            *(Pack<2>*)(to + 2) = Pack<2>{old[k].x[2], old[k].x[3]};
        }
    }
}

// Which sums a warp has: 16 columns from `left` on, DOWN matrix tiles of points from `top` on.
template <int COUNT, int OUT, int WARPS>
struct Share {
    static constexpr int GROUPS = OUT / 16, PARTS = WARPS / GROUPS, DOWN = ((COUNT + 15) / 16 + PARTS - 1) / PARTS;
    int left, top;
    bool has;
    __device__ Share() {
        const int warp = threadIdx.x / 32;
        left = warp % GROUPS * 16;
        top = warp / GROUPS * DOWN * 16;
        has = warp < GROUPS * PARTS && top < COUNT;
    }
};

// sums += x w: of the points of a tile, rows PITCH apart, with its weight.
template <int PRODUCT, int COUNT, int OUT, int TILE, int PITCH, int DOWN, class Which>
__device__ inline void add_forward(const Which& share, const float* x, const float* w, float (&sums)[DOWN][2][4]) {
    if (!share.has) return;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const float* const right = w + 4 * t * Pitch<OUT>::WEIGHT + share.left + 2 * g;
#pragma unroll 1
    for (int l = 0; l < TILE; l += 16) {
        Pack<4> b[2];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const Pack<2> two = pack<2>(right + (l + e) * Pitch<OUT>::WEIGHT);
            b[0].x[e] = two.x[0];
            b[1].x[e] = two.x[1];
        }
        Split across[2][2][2];
#pragma unroll
        for (int e = 0; e < 8; ++e) across[e / 4][e / 2 % 2][e % 2] = split<PRODUCT>(b[e / 2 % 2].x[e / 4 * 2 + e % 2]);
#pragma unroll
        for (int d = 0; d < DOWN; ++d) {
            Pack<4> a[2];
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int i = share.top + 16 * d + 8 * h + row_of(g);
                a[h] = pack<4>(x + (i < COUNT ? i : COUNT - 1) * PITCH + l + 4 * t);
            }
#pragma unroll
            for (int s = 0; s < 2; ++s) {
                Split down[1][4];
#pragma unroll
                for (int e = 0; e < 4; ++e) down[0][e] = split<PRODUCT>(a[e % 2].x[2 * s + e / 2]);
                float (&one)[1][2][4] = *(float (*)[1][2][4])&sums[d];
                mma_blocks<PRODUCT, 1, 2>(one, down, across[s]);
            }
        }
    }
}

// Writes the sums of a block: [COUNT, OUT].
template <int COUNT, int OUT, int DOWN, class Which>
__device__ inline void put_forward(const Which& share, const float (&sums)[DOWN][2][4], float* to) {
    if (!share.has) return;
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int e = 0; e < DOWN * 2; ++e) {
        const int i = share.top + 8 * e + row_of(g);
        if (i >= COUNT) continue;
        Pack<4> sum;
#pragma unroll
        for (int c = 0; c < 4; ++c) sum.x[c] = sums[e / 2][c % 2][e % 2 * 2 + c / 2];
        *(Pack<4>*)(to + i * OUT + share.left + 4 * t) = sum;
    }
}
#endif

// Factors of first layers: L with L L^T = W W^T for the columns of a weight, by Cholesky with pivots, in f64. See src/jet/factor.rs.

// A block's part of the Gram matrix [OUT, OUT]: columns blockIdx.x, blockIdx.x + gridDim.x, ... in groups of GROUP.
// A thread works out 4 by 4 sums.
template <int OUT, int ROW, int COLUMN, int GROUP>
__device__ void gram_part(int length, const real* w, double* part) {
    const int side = (OUT + 3) / 4;
    for (int unit = threadIdx.x; unit < side * side; unit += blockDim.x) {
        const int i = unit / side * 4, j = unit % side * 4;
        double sum[4][4] = {};
        for (int group = blockIdx.x * GROUP; group < length; group += gridDim.x * GROUP) {
            #pragma unroll 2
            for (int k = group; k < (group + GROUP < length ? group + GROUP : length); ++k) {
                double a[4], b[4];
#pragma unroll
                for (int q = 0; q < 4; ++q) {
                    a[q] = w[(size_t)(i + q < OUT ? i + q : OUT - 1) * ROW + (size_t)k * COLUMN];
                    b[q] = w[(size_t)(j + q < OUT ? j + q : OUT - 1) * ROW + (size_t)k * COLUMN];
                }
#pragma unroll
                for (int q = 0; q < 16; ++q) sum[q / 4][q % 4] += a[q / 4] * b[q % 4];
            }
        }
#pragma unroll
        for (int q = 0; q < 16; ++q) {
            if (i + q / 4 < OUT && j + q % 4 < OUT) part[(i + q / 4) * OUT + j + q % 4] = sum[q / 4][q % 4];
        }
    }
}

// The Gram matrix from its parts, in their order.
template <int OUT>
__device__ void gram_sum(int parts, const double* part, double* gram) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= OUT * OUT) return;
    double sum = 0;
#pragma unroll 8
    for (int p = 0; p < parts; ++p) sum += part[(size_t)p * OUT * OUT + e];
    gram[e] = sum;
}

// The row with most left on the diagonal of those that are not taken, the first of equals: the same in each lane of a warp.
template <int OUT>
__device__ int next_pivot(const double* diagonal, int apart, const word* taken) {
    int best = -1;
    double most = 0;
    for (int i = threadIdx.x % 32; i < OUT; i += 32) {
        const double here = diagonal[i * apart];
        if (!taken[i] && (best < 0 || here > most)) {
            best = i;
            most = here;
        }
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) {
        const int other = __shfl_xor_sync(0xFFFFFFFFu, best, step);
        const double there = __shfl_xor_sync(0xFFFFFFFFu, most, step);
        if (other >= 0 && (best < 0 || there > most || (there == most && other < best))) {
            best = other;
            most = there;
        }
    }
    // of numbers that are none lanes may think otherwise
    return __shfl_sync(0xFFFFFFFFu, best, 0);
}

// L [OUT, RANK] from the Gram matrix, by one block, column after column; `turned` is L^T. `a` holds OUT * OUT numbers, what is
// left to be factored; `column` holds OUT, `taken` as many. `pivots` has the rows in the order of their elimination, and at RANK their
// number.
template <int OUT, int RANK>
__device__ void factor(const double* gram, double* a, double* column, word* taken, word* pivots, double* l, real* turned) {
    for (int e = threadIdx.x; e < OUT * OUT; e += blockDim.x) a[e] = gram[e];
    for (int e = threadIdx.x; e < OUT; e += blockDim.x) taken[e] = 0;
    __syncthreads();
    double largest = 0;
    for (int i = 0; i < OUT; ++i) largest = a[i * OUT + i] > largest ? a[i * OUT + i] : largest;
    // what is left on the diagonal of an exactly singular matrix after OUT eliminations
    const double tolerance = largest * OUT * 2.220446049250313e-16;
    int count = 0;
    for (; count < RANK && count < OUT; ++count) {
        const int pivot = next_pivot<OUT>(a, OUT + 1, taken);
        const double left = a[pivot * OUT + pivot];
        if (left <= tolerance) break;
        const double root = sqrt(left);
        for (int i = threadIdx.x; i < OUT; i += blockDim.x) {
            const double value = i == pivot ? root : taken[i] ? 0.0 : a[i * OUT + pivot] / root;
            column[i] = value;
            l[i * RANK + count] = value;
            turned[count * OUT + i] = (real)value;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            pivots[count] = pivot;
            taken[pivot] = 1;
        }
        for (int e = threadIdx.x; e < OUT * OUT; e += blockDim.x) a[e] -= column[e / OUT] * column[e % OUT];
        __syncthreads();
    }
    if (threadIdx.x == 0) pivots[RANK] = count;
    for (int e = threadIdx.x; e < OUT * (RANK - count); e += blockDim.x) {
        l[e / (RANK - count) * RANK + count + e % (RANK - count)] = 0;
        turned[count * OUT + e] = 0;
    }
}

// The same, with what is left to be factored in the registers of 512 threads: thread t has rows t % 32 + 32 i and columns t / 32 + 16 j.
// `diagonal` holds OUT numbers.
template <int OUT, int RANK>
__device__ void factor_tiles(const double* gram, double* diagonal, double* column, word* taken, word* pivots, double* l,
                             real* turned) {
    const int row = threadIdx.x % 32, first = threadIdx.x / 32;
    double a[OUT / 32][OUT / 16];
#pragma unroll
    for (int i = 0; i < OUT / 32; ++i) {
#pragma unroll
        for (int j = 0; j < OUT / 16; ++j) {
            a[i][j] = gram[(first + 16 * j) * OUT + row + 32 * i];
            if (row + 32 * i == first + 16 * j) diagonal[row + 32 * i] = a[i][j];
        }
    }
    for (int e = threadIdx.x; e < OUT; e += blockDim.x) taken[e] = 0;
    __syncthreads();
    double largest = 0;
    for (int i = 0; i < OUT; ++i) largest = diagonal[i] > largest ? diagonal[i] : largest;
    // what is left on the diagonal of an exactly singular matrix after OUT eliminations
    const double tolerance = largest * OUT * 2.220446049250313e-16;
    int count = 0;
    for (; count < RANK && count < OUT; ++count) {
        const int pivot = next_pivot<OUT>(diagonal, 1, taken);
        const double left = diagonal[pivot];
        if (left <= tolerance) break;
#pragma unroll
        for (int j = 0; j < OUT / 16; ++j) {
            if (first + 16 * j != pivot) continue;
#pragma unroll
            for (int i = 0; i < OUT / 32; ++i) column[row + 32 * i] = taken[row + 32 * i] ? 0.0 : a[i][j];
        }
        __syncthreads();
        const double root = sqrt(left), inverse = 1 / left;
        if (threadIdx.x < OUT) {
            const double value = threadIdx.x == pivot ? root : column[threadIdx.x] / root;
            l[threadIdx.x * RANK + count] = value;
            turned[count * OUT + threadIdx.x] = (real)value;
        }
        if (threadIdx.x == 0) {
            pivots[count] = pivot;
            taken[pivot] = 1;
        }
        double scaled[OUT / 16];
#pragma unroll
        for (int j = 0; j < OUT / 16; ++j) scaled[j] = column[first + 16 * j] * inverse;
#pragma unroll
        for (int i = 0; i < OUT / 32; ++i) {
            const double here = column[row + 32 * i];
#pragma unroll
            for (int j = 0; j < OUT / 16; ++j) {
                a[i][j] -= here * scaled[j];
                if (row + 32 * i == first + 16 * j) diagonal[row + 32 * i] = a[i][j];
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) pivots[RANK] = count;
    for (int e = threadIdx.x; e < OUT * (RANK - count); e += blockDim.x) {
        l[e / (RANK - count) * RANK + count + e % (RANK - count)] = 0;
        turned[count * OUT + e] = 0;
    }
}

// M^T, where the adjoint of the weight is M W, from the adjoint of L [OUT, RANK]: x L1 = bar by rows, L1 lower triangular. A warp
// solves for a row, in `room`: RANK numbers for each warp of a block and, where L is NEAR, its eliminated rows.
template <int OUT, int RANK, bool NEAR>
__device__ void pull_back(const double* l, const word* pivots, const real* bar, double* room, real* map) {
    const int count = pivots[RANK], lane = threadIdx.x % 32, warps = blockDim.x / 32;
    double* const x = room + threadIdx.x / 32 * RANK;
    double* const rows = room + warps * RANK;
    if (NEAR) {
        // in the order of the elimination
        copy_batches<double>(count * RANK, [=](int e) { return l[pivots[e / RANK] * RANK + e % RANK]; },
                             [=](int e, double value) { rows[e] = value; });
        __syncthreads();
    }
    for (int o = blockIdx.x * warps + threadIdx.x / 32; o < OUT; o += gridDim.x * warps) {
        for (int c = lane; c < RANK; c += 32) x[c] = bar[o * RANK + c];
        for (int m = lane; m < OUT; m += 32) map[m * OUT + o] = 0;
        __syncwarp();
        for (int c = count - 1; c >= 0; --c) {
            const double* const row = NEAR ? rows + c * RANK : l + pivots[c] * RANK;
            const double value = x[c] / row[c];
            if (lane == 0) map[pivots[c] * OUT + o] = (real)value;
            for (int m = lane; m < c; m += 32) x[m] -= value * row[m];
            __syncwarp();
        }
    }
}

// Factors of first layers: L with L L^T = W W^T for the columns of a weight, by Cholesky with pivots, in f64. See src/jet/factor.rs.

// A block's part of the Gram matrix [OUT, OUT]: columns blockIdx.x, blockIdx.x + gridDim.x, ... in groups of 64. A thread works out 4 by 4 sums.
template <int OUT, int ROW, int COLUMN>
__device__ void gram_part(int length, const real* w, double* part) {
    const int side = (OUT + 3) / 4;
    for (int unit = threadIdx.x; unit < side * side; unit += blockDim.x) {
        const int i = unit / side * 4, j = unit % side * 4;
        double sum[4][4] = {};
        for (int group = blockIdx.x * 64; group < length; group += gridDim.x * 64) {
            for (int k = group; k < (group + 64 < length ? group + 64 : length); ++k) {
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

// L [OUT, RANK] from the parts of the Gram matrix, by one block; `turned` is L^T. `pivots` has the rows in the order of their
// elimination, from RANK on their number and whether each row is among them; `rest` holds OUT numbers.
template <int OUT, int RANK>
__device__ void factor(int parts, const double* part, double* gram, double* rest, word* pivots, double* l, real* turned) {
    word* const taken = pivots + RANK + 1;
    for (int e = threadIdx.x; e < OUT * OUT; e += blockDim.x) {
        double sum = 0;
        for (int p = 0; p < parts; ++p) sum += part[(size_t)p * OUT * OUT + e];
        gram[e] = sum;
    }
    for (int e = threadIdx.x; e < OUT * RANK; e += blockDim.x) l[e] = 0;
    __syncthreads();
    double largest = 0;
    for (int i = 0; i < OUT; ++i) largest = gram[i * OUT + i] > largest ? gram[i * OUT + i] : largest;
    // what is left on the diagonal of an exactly singular matrix after OUT eliminations
    const double tolerance = largest * OUT * 2.220446049250313e-16;
    for (int i = threadIdx.x; i < OUT; i += blockDim.x) {
        rest[i] = gram[i * OUT + i];
        taken[i] = 0;
    }
    __syncthreads();
    int count = 0;
    while (count < RANK && count < OUT) {
        int pivot = -1;
        for (int i = 0; i < OUT; ++i) {
            if (!taken[i] && (pivot < 0 || rest[i] > rest[pivot])) pivot = i;
        }
        const double left = rest[pivot];
        if (left <= tolerance) break;
        const double root = sqrt(left);
        __syncthreads();
        for (int i = threadIdx.x; i < OUT; i += blockDim.x) {
            if (i != pivot && taken[i]) continue;
            double known = 0;
            for (int m = 0; m < count; ++m) known += l[i * RANK + m] * l[pivot * RANK + m];
            const double value = i == pivot ? root : (gram[i * OUT + pivot] - known) / root;
            l[i * RANK + count] = value;
            rest[i] -= value * value;
        }
        // nobody has asked whether the pivot itself is taken
        if (threadIdx.x == 0) {
            pivots[count] = pivot;
            taken[pivot] = 1;
        }
        ++count;
        __syncthreads();
    }
    if (threadIdx.x == 0) pivots[RANK] = count;
    for (int e = threadIdx.x; e < OUT * RANK; e += blockDim.x) turned[e] = (real)l[e % OUT * RANK + e / OUT];
}

// M^T, where the adjoint of the weight is M W, from the adjoint of L [OUT, RANK]: x L1 = bar by rows, L1 lower triangular.
template <int OUT, int RANK>
__device__ void pull_back(const double* l, const word* pivots, const real* bar, double* x, real* map) {
    const int count = pivots[RANK];
    for (int o = blockIdx.x * blockDim.x + threadIdx.x; o < OUT; o += gridDim.x * blockDim.x) {
        for (int m = 0; m < OUT; ++m) map[m * OUT + o] = 0;
        for (int c = count - 1; c >= 0; --c) {
            double sum = bar[o * RANK + c];
            for (int m = c + 1; m < count; ++m) sum -= x[m * OUT + o] * l[pivots[m] * RANK + c];
            x[c * OUT + o] = sum / l[pivots[c] * RANK + c];
            map[pivots[c] * OUT + o] = (real)x[c * OUT + o];
        }
    }
}

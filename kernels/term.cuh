// sigma along a curve x = x_0 + x_1 u + ...: d[m], m < N, is coefficient m of sigma'(x), which is all that single coefficients of
// y = sigma(x) and their adjoints need.

// 1 - y^2
template <int N>
__device__ inline void slope_tanh(const real*, const real* y, real* d) {
    d[0] = (1 - y[0]) * (1 + y[0]);
#pragma unroll
    for (int k = 1; k < N; ++k) {
        d[k] = 0;
#pragma unroll
        for (int i = 0; i <= k; ++i) d[k] -= y[i] * y[k - i];
    }
}

template <int N>
__device__ inline void slope_exp(const real*, const real* y, real* d) {
#pragma unroll
    for (int k = 0; k < N; ++k) d[k] = y[k];
}

// From s[k] = sigma^(k)(x_0) / k!, k <= N, by Horner's rule.
template <int N>
__device__ inline void slope_of(const real* s, const real* x, real* d) {
#pragma unroll
    for (int m = N - 1; m >= 0; --m) {
#pragma unroll
        for (int k = N - 1 - m; k > 0; --k) {
            d[k] = 0;
#pragma unroll
            for (int i = 1; i <= k; ++i) d[k] += x[i] * d[k - i];
        }
        d[0] = (m + 1) * s[m + 1];
    }
}

// Coefficient N > 0 of y: N y_N = the sum over i of i x_i d_(N-i).
template <int N>
__device__ inline real term_of(const real* x, const real* d) {
    real sum = 0;
#pragma unroll
    for (int i = 1; i <= N; ++i) sum += real(i) / real(N) * (x[i] * d[N - i]);
    return sum;
}

// Adjoint of x_i, from those of y_i .. y_(i+N-1).
template <int N>
__device__ inline real term_adjoint(const real* d, const real* bar) {
    real sum = 0;
#pragma unroll
    for (int m = 0; m < N; ++m) sum += d[m] * bar[m];
    return sum;
}

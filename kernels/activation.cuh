// Taylor coefficients of the activations: s[k] = sigma^(k)(x) / k! for k < N, N >= 1.
//
// By the recurrence of each function's differential equation: y' = 1 - y^2 for tanh, y' = y - y^2 for the sigmoid, phi' = -x phi
// for the normal density; an antiderivative shifts and divides, a factor x is one step of Leibniz. Every coefficient
// beyond the first is a sum of products of coefficients, so the recurrences lose nothing where a function saturates.

// Continues y' = const + b y - y^2 from its first two coefficients.
template <int N>
__device__ inline void riccati(real b, real* s) {
#pragma unroll
    for (int k = 1; k + 1 < N; ++k) {
        real next = b * s[k];
#pragma unroll
        for (int i = 0; i <= k; ++i) next -= s[i] * s[k - i];
        s[k + 1] = next * (real(1) / real(k + 1));
    }
}

// The series of x f(x) from that of f.
template <int N>
__device__ inline void times_argument(real x, real* s) {
#pragma unroll
    for (int k = N - 1; k > 0; --k) s[k] = x * s[k] + s[k - 1];
    s[0] *= x;
}

template <int N>
__device__ inline void taylor_tanh(real x, real* s) {
    s[0] = jet_tanh(x);
    if (N > 1) s[1] = (1 - s[0]) * (1 + s[0]);
    riccati<N>(0, s);
}

template <int N>
__device__ inline void taylor_sigmoid(real x, real* s) {
    // 1 / (1 + e^-x) and its value at -x never cancel
    const real e = jet_exp(-jet_abs(x)), large = 1 / (e + 1), small = e * large;
    s[0] = x < 0 ? small : large;
    if (N > 1) s[1] = small * large;
    riccati<N>(1, s);
}

template <int N>
__device__ inline void taylor_softplus(real x, real* s) {
    s[0] = (x < 0 ? real(0) : x) + jet_log1p(jet_exp(-jet_abs(x)));
    if (N > 1) {
        taylor_sigmoid<(N > 1 ? N - 1 : 1)>(x, s + 1);
#pragma unroll
        for (int k = 2; k < N; ++k) s[k] *= real(1) / real(k);
    }
}

template <int N>
__device__ inline void taylor_swish(real x, real* s) {
    taylor_sigmoid<N>(x, s);
    times_argument<N>(x, s);
}

template <int N>
__device__ inline void taylor_gelu(real x, real* s) {
    s[0] = real(0.5) * jet_erfc(x * real(-0.70710678118654752440));
    if (N > 1) s[1] = jet_exp(x * x * real(-0.5)) * real(0.39894228040143267794);
#pragma unroll
    for (int k = 2; k < N; ++k) {
        s[k] = x * s[k - 1] * (real(-1) / real(k)) + s[k - 2] * (real(-(k - 2)) / real((k - 1) * k));
    }
    times_argument<N>(x, s);
}

template <int N>
__device__ inline void taylor_sin(real x, real* s) {
    const real sin = jet_sin(x), cos = N > 1 ? jet_cos(x) : real(0);
    s[0] = sin;
    real factor = 1;
#pragma unroll
    for (int k = 1; k < N; ++k) {
        factor *= real(1) / real(k);
        s[k] = (k % 2 == 0 ? sin : cos) * (k % 4 < 2 ? factor : -factor);
    }
}

template <int N>
__device__ inline void taylor_exp(real x, real* s) {
    s[0] = jet_exp(x);
#pragma unroll
    for (int k = 1; k < N; ++k) s[k] = s[k - 1] * (real(1) / real(k));
}

template <int N>
__device__ inline void taylor_identity(real x, real* s) {
    s[0] = x;
#pragma unroll
    for (int k = 1; k < N; ++k) s[k] = k == 1 ? real(1) : real(0);
}

template <int N>
__device__ inline void taylor_relu(real x, real* s) {
    // not "x > 0", which would turn not a number into 0
    s[0] = x <= 0 ? real(0) : x;
#pragma unroll
    for (int k = 1; k < N; ++k) s[k] = k == 1 && !(x <= 0) ? real(1) : real(0);
}

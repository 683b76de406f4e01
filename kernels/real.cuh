// Numbers, f32 or f64 by JETC_DOUBLE, and their functions: accurate, not a number in, not a number out.

#if JETC_DOUBLE
typedef double real;
#define REAL_FUNCTION(name) name
#else
typedef float real;
#define REAL_FUNCTION(name) name##f
#endif

typedef unsigned int word;
typedef unsigned long long wide_word;

// The dynamic shared memory of a block.
#ifndef JETC_HOST
extern __shared__ __align__(16) double shared_memory[];
#define SHARED_MEMORY ((real*)shared_memory)
#endif

#define CONSTANT __device__ const

// Functions that are called in several places are compiled once.
#ifdef JETC_HOST
#define NOINLINE
#else
#define NOINLINE __noinline__
#pragma nv_diag_suppress 177
#endif

__device__ inline real not_a_number() { return REAL_FUNCTION(nan)(""); }
__device__ inline real infinity() { return -REAL_FUNCTION(log)(real(0)); }
__device__ inline real jet_exp(real x) { return REAL_FUNCTION(exp)(x); }
__device__ inline real jet_log(real x) { return REAL_FUNCTION(log)(x); }
__device__ inline real jet_log1p(real x) { return REAL_FUNCTION(log1p)(x); }
__device__ inline real jet_sqrt(real x) { return REAL_FUNCTION(sqrt)(x); }
__device__ inline real jet_sin(real x) { return REAL_FUNCTION(sin)(x); }
__device__ inline real jet_cos(real x) { return REAL_FUNCTION(cos)(x); }
__device__ inline real jet_tan(real x) { return REAL_FUNCTION(tan)(x); }
__device__ inline real jet_sinh(real x) { return REAL_FUNCTION(sinh)(x); }
__device__ inline real jet_cosh(real x) { return REAL_FUNCTION(cosh)(x); }
__device__ inline real jet_tanh(real x) { return REAL_FUNCTION(tanh)(x); }
__device__ inline real jet_atan(real x) { return REAL_FUNCTION(atan)(x); }
__device__ inline real jet_erf(real x) { return REAL_FUNCTION(erf)(x); }
__device__ inline real jet_erfc(real x) { return REAL_FUNCTION(erfc)(x); }
__device__ inline real jet_abs(real x) { return REAL_FUNCTION(fabs)(x); }
__device__ inline real jet_fma(real a, real b, real c) { return REAL_FUNCTION(fma)(a, b, c); }
__device__ inline real jet_pow(real a, real b) { return REAL_FUNCTION(pow)(a, b); }

// Quotients and roots of positive numbers, to within two units of the last place: far from the ends of what `real` holds.
#if JETC_DOUBLE || defined(JETC_HOST)
__device__ inline real near_quotient(real a, real b) { return a / b; }
__device__ inline real near_sqrt(real x) { return jet_sqrt(x); }
#else
__device__ inline real near_quotient(real a, real b) {
    real y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
    return a * y;
}
__device__ inline real near_sqrt(real x) {
    real y;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#endif

// The same out of line, for scalar code with many of them: each is compiled once.
static __device__ NOINLINE real call_exp(real x) { return jet_exp(x); }
static __device__ NOINLINE real call_log(real x) { return jet_log(x); }
static __device__ NOINLINE real call_sin(real x) { return jet_sin(x); }
static __device__ NOINLINE real call_cos(real x) { return jet_cos(x); }
static __device__ NOINLINE real call_tan(real x) { return jet_tan(x); }
static __device__ NOINLINE real call_sinh(real x) { return jet_sinh(x); }
static __device__ NOINLINE real call_cosh(real x) { return jet_cosh(x); }
static __device__ NOINLINE real call_tanh(real x) { return jet_tanh(x); }
static __device__ NOINLINE real call_atan(real x) { return jet_atan(x); }
static __device__ NOINLINE real call_erf(real x) { return jet_erf(x); }

struct SineCosine {
    real sine, cosine;
};
static __device__ NOINLINE SineCosine call_sincos(real x) { return SineCosine{jet_sin(x), jet_cos(x)}; }

#if !JETC_DOUBLE
// x, its sign changed where the first bit of `turn` is set.
__device__ inline float flipped(float x, word turn) { return __uint_as_float(__float_as_uint(x) ^ (turn & 0x80000000u)); }
#endif

// Sine and cosine of one number x, |x| <= 1.
__device__ inline void sincos_small(real x, real* sine, real* cosine) {
#if JETC_DOUBLE
    *sine = sin(x);
    *cosine = cos(x);
#else
    // the least greatest error up to 1.03, in units of the last place: 1.3
    const float t = x * x;
    const float s = jet_fma(t, jet_fma(t, -1.9280845e-4f, 8.329848e-3f), -0.16666605f);
    const float c = jet_fma(t, jet_fma(t, 2.4162868e-5f, -1.3884129e-3f), 4.1666556e-2f);
    *sine = jet_fma(x * t, s, x);
    *cosine = jet_fma(t, jet_fma(t, c, -0.5f), 1.0f);
#endif
}

// The same, |x| <= 48000.
__device__ inline void sincos_near(real x, real* sine, real* cosine) {
#if JETC_DOUBLE
    *sine = sin(x);
    *cosine = cos(x);
#else
    // quarter turns: the nearest whole number is in the last bits of a sum with 1.5 2^23
    const float shifted = jet_fma(x, 0.636619772f, 12582912.0f), quarters = shifted - 12582912.0f;
    const word turn = __float_as_uint(shifted);
    float y = jet_fma(quarters, -1.57079601f, x);
    y = jet_fma(quarters, -3.13916473e-7f, y);
    y = jet_fma(quarters, -5.39030253e-15f, y);
    // the least greatest error up to pi/4, in units of the last place: 0.9
    const float t = y * y;
    float s = jet_fma(t, jet_fma(t, -1.9515149e-4f, 8.332159e-3f), -0.16666655f);
    float c = jet_fma(t, jet_fma(t, 2.4433082e-5f, -1.3887315e-3f), 4.1666646e-2f);
    s = jet_fma(y * t, s, y);
    c = jet_fma(t, jet_fma(t, c, -0.5f), 1.0f);
    const bool swapped = (turn & 1) != 0;
    *sine = flipped(swapped ? c : s, turn << 30);
    *cosine = flipped(swapped ? s : c, (turn + 1) << 30);
#endif
}

// The same, of any x.
__device__ inline void jet_sincos(real x, real* sine, real* cosine) {
    sincos_near(x, sine, cosine);
#if !JETC_DOUBLE
    if (fabsf(x) > 48000.0f) {
        const SineCosine far = call_sincos(x);
        *sine = far.sine;
        *cosine = far.cosine;
    }
#endif
}

__device__ inline real jet_sign(real x) { return x > 0 ? real(1) : x < 0 ? real(-1) : x + real(0); }
// Not a number where one of the two is none.
__device__ inline real jet_max(real a, real b) { return a <= b ? b : b <= a ? a : a + b; }
__device__ inline real jet_min(real a, real b) { return -jet_max(-a, -b); }

// A power with a whole exponent, by repeated squaring.
__device__ inline real jet_power(real a, int exponent) {
    real y = 1, square = a;
    for (int e = exponent < 0 ? -exponent : exponent; e > 0; e >>= 1) {
        if (e & 1) y *= square;
        square *= square;
    }
    return exponent < 0 ? real(1) / y : y;
}

// The nearest whole number; ties go to the even one.
__device__ inline long long whole(real x) { return (long long)REAL_FUNCTION(rint)(x); }

// The points of a training step: the numbers of src/train/points.rs, with its streams and its orders.

// A step of a condition.
struct PointStep {
    wide_word seed, step;
    word points, strata;  // streams
    unsigned count, faces;
};

__device__ inline word word_at(const Words& words, word k) {
    return k == 0 ? words.w[0] : k == 1 ? words.w[1] : k == 2 ? words.w[2] : words.w[3];
}

// Inside of (0, 1).
__device__ inline double uniform_of(word w) { return ((double)w + 0.5) * (1.0 / 4294967296.0); }

// Four uniform numbers of a point, which start behind its normal ones.
__device__ inline Words uniform_words(word block, word point, const PointStep& s) {
    return philox(0x80000000u + block, point, s.step, s.points, s.seed);
}

// Box and Muller's pair of two words.
__device__ inline void normal_pair(word a, word b, real* z) {
#if JETC_DOUBLE
    const double r = sqrt(-2 * log(uniform_of(a))), angle = 6.283185307179586476925 * uniform_of(b);
    z[0] = r * cos(angle);
    z[1] = r * sin(angle);
#else
    // ln((a + 1/2) / 2^32): above sqrt(1/2) by the distance from 1, below by mantissa and exponent
    const bool near = a >= 0xB504F334u;
    const float u = fmaf((float)(near ? ~a : a), 1 / 4294967296.0f, 0.5f / 4294967296.0f);
    const word bits = __float_as_uint(u), exponent = (bits - 0x3F3504F3u) & 0xFF800000u;
    const float f = near ? -u : __uint_as_float(bits - exponent) - 1;
    const float k = (float)(int)(near ? 0u : exponent);  // 2^23 times as much
    const float s = near_quotient(f, f + 2), q = s * s;
    float p = fmaf(q, 0.09090909f, 0.11111111f);
    p = fmaf(q, p, 0.142857149f);
    p = fmaf(q, p, 0.2f);
    p = fmaf(q, p, 0.333333343f);
    const float atanh = fmaf(s * q, p, s);
    // half of the radius, and twice the sine and the cosine
    const float r = near_sqrt(fmaf(k, -0.346573591f / 8388608.0f, -atanh));
    // quarter turns, and twice what is left
    const float y = fmaf((float)(int)(b << 2), 12.5663706f / 17179869184.0f, 6.28318531f / 4294967296.0f);
    // the series of sincos_near, in t = y^2
    const float t = y * y;
    float sine = fmaf(t, fmaf(t, -1.9515149e-4f / 64, 8.332159e-3f / 16), -0.16666655f / 4);
    float cosine = fmaf(t, fmaf(t, 2.4433082e-5f / 128, -1.3887315e-3f / 32), 4.1666646e-2f / 8);
    sine = fmaf(y * t, sine, y);
    cosine = fmaf(t, fmaf(t, cosine, -0.25f), 2.0f);
    const word turn = b + (1u << 29);
    const bool swapped = (turn & 1u << 30) != 0;
    z[0] = r * flipped(swapped ? sine : cosine, turn + (1u << 30));
    z[1] = r * flipped(swapped ? cosine : sine, turn);
#endif
}

// The normal numbers of four columns of a point.
__device__ inline void point_normals(word block, word point, const PointStep& s, real* z) {
    const Words words = philox(block, point, s.step, s.points, s.seed);
    normal_pair(words.w[0], words.w[1], z);
    normal_pair(words.w[2], words.w[3], z + 2);
}

// The sum of their squares: the radii are roots of logarithms.
__device__ inline real normal_squares(word block, word point, const PointStep& s) {
    const Words words = philox(block, point, s.step, s.points, s.seed);
#if JETC_DOUBLE
    return -2 * log(uniform_of(words.w[0]) * uniform_of(words.w[2]));
#else
    constexpr float unit = 1 / 4294967296.0f;
    return -2 * logf(fmaf((float)words.w[0], unit, 0.5f * unit) * fmaf((float)words.w[2], unit, 0.5f * unit));
#endif
}

// The nearest number, but strictly between the ends of an interval.
__device__ inline real inside(double x, double low, double high) {
    const real far = real(3e38);
    real y = (real)x;
    if ((double)y <= low) {
        y = (real)low;
        while ((double)y <= low) y = REAL_FUNCTION(nextafter)(y, far);
    } else if ((double)y >= high) {
        y = (real)high;
        while ((double)y >= high) y = REAL_FUNCTION(nextafter)(y, -far);
    }
    return y;
}

// A number of an interval that is not stratified: never on its ends.
__device__ inline real within(double u, double low, double high) {
    const real x = (real)(low + (high - low) * u), least = inside(low, low, high), most = inside(high, low, high);
    return x < least ? least : x > most ? most : x;
}

// A column on an interval.
__device__ inline real uniform_at(word column, double low, double high, word point, const PointStep& s) {
    return within(uniform_of(word_at(uniform_words(column / 4, point, s), column % 4)), low, high);
}

__device__ inline word mixed(word x) {
    x = (x ^ x >> 16) * 0x7FEB352Du;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

// Where i goes in a permutation of 0 .. n, see src/train/permutation.rs.
__device__ inline word permuted(word n, const Words& key, word i) {
    if (n < 2) return 0;
    word bits = 1;
    while ((1u << bits) < n) ++bits;
    const word half = (bits + 1) / 2, mask = (1u << half) - 1, rounds = 24 / half < 6 ? 6 : 24 / half;
    do {
        word left = i >> half, right = i & mask;
        for (word round = 0; round < rounds; ++round) {
            const word next = left ^ (mixed(right ^ (word_at(key, round % 4) + round)) >> 8 & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

// Which face a point of a boundary is on.
__device__ inline word point_face(word point, const PointStep& s) {
    return permuted(s.faces, philox(0xFFFFFFFFu, 0xFFFFFFFFu, s.step, s.strata, s.seed), point % s.faces);
}

// A uniform number that is stratified over the points of a face.
__device__ inline double stratified(word column, word face, word point, const PointStep& s) {
    const word strata = (s.count + s.faces - 1) / s.faces;
    const word stratum = permuted(strata, philox(column, face, s.step, s.strata, s.seed), point / s.faces);
    return ((double)stratum + uniform_of(word_at(uniform_words(column / 4, point, s), column % 4))) / (double)strata;
}

// Which row of a data set a point is.
__device__ inline word point_row(word rows, word point, const PointStep& s) {
    const wide_word number = s.step * s.count + point;
    return permuted(rows, philox(0, 0, number / rows, s.strata, s.seed), (word)(number % rows));
}

// The sum over the lanes that make a point.
template <int LANES>
__device__ inline double lane_sum(double x) {
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
    return x;
}

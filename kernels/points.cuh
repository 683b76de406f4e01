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
    const float x = (float)(near ? ~a : a) + 0.5f;
    const word bits = __float_as_uint(x) + (0x3F800000u - 0x3F3504F3u);
    const float m = __uint_as_float((bits & 0x007FFFFFu) + 0x3F3504F3u);
    const float f = near ? x * (-1 / 4294967296.0f) : m - 1;
    const float k = near ? 0.0f : (float)((int)(bits >> 23) - 159);
    const float s = near_quotient(f, f + 2), q = s * s;
    float p = fmaf(q, 0.09090909f, 0.11111111f);
    p = fmaf(q, p, 0.142857149f);
    p = fmaf(q, p, 0.2f);
    p = fmaf(q, p, 0.333333343f);
    const float atanh = fmaf(s * q, p, s);
    const float r = near_sqrt(-2 * fmaf(k, 0.693147182f, atanh + atanh));
    // a whole number of quarter turns, and what is left
    const word turn = b + (1u << 29);
    const float y = ((float)((int)(turn & 0x3FFFFFFFu) - (1 << 29)) + 0.5f) * (6.28318531f / 4294967296.0f);
    const float t = y * y;
    float sine = fmaf(t, 2.7557319e-6f, -1.984127e-4f);
    sine = fmaf(t, sine, 8.333333e-3f);
    sine = fmaf(t, sine, -0.16666667f);
    sine = fmaf(y * t, sine, y);
    float cosine = fmaf(t, -2.755732e-7f, 2.4801587e-5f);
    cosine = fmaf(t, cosine, -1.3888889e-3f);
    cosine = fmaf(t, cosine, 4.1666668e-2f);
    cosine = fmaf(t, cosine, -0.5f);
    cosine = fmaf(t, cosine, 1.0f);
    const bool swapped = turn >> 30 & 1;
    const float along = swapped ? sine : cosine, across = swapped ? cosine : sine;
    z[0] = r * ((turn << 1 ^ turn) >> 31 ? -along : along);
    z[1] = r * (turn >> 31 ? -across : across);
#endif
}

// The normal numbers of four columns of a point.
__device__ inline void point_normals(word block, word point, const PointStep& s, real* z) {
    const Words words = philox(block, point, s.step, s.points, s.seed);
    normal_pair(words.w[0], words.w[1], z);
    normal_pair(words.w[2], words.w[3], z + 2);
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

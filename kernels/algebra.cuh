// Activations in an algebra that is too large for straight code: loops over its structure table.
//
// Lane r < ROWS is row r of the argument x, `stride` apart in memory (rows beyond 0 are the nilpotent part n); behind them stand
// the rows of n^2, n^3, ... that can be nonzero, in memory of the thread. sigma(x)_r = s_1 n_r + sum over k of s_k (n^k)_r. The adjoint is the
// transposed product with sigma'(x) = sum of (k + 1) s_(k+1) n^k.

// lane[out] += factor lane[a] lane[b], times varying constant `varying` where that is not negative.
struct Term {
    int out, a, b, varying;
    real factor;
};

// The lane of (n^power)_row, of the row that starts where the table of starts says.
struct Power {
    int power, lane;
};

// (ROWS, order + 2 coefficients at most, lanes of the powers)
template <int ROWS, int ORDER, int LANES>
struct Table {
    const Term* terms;
    int term_count;
    const int* starts;
    const Power* powers;
    const Term* entries;
    int entry_count;

    __device__ real factor(const Term& t, const real* c) const { return t.varying < 0 ? t.factor : t.factor * c[t.varying]; }

    __device__ real lane(int l, const real* x, int stride, const real* p) const {
        return l < ROWS ? x[l * stride] : p[l - ROWS];
    }

    // Fills the lanes of the powers.
    __device__ void raise(const real* x, int stride, const real* c, real* p) const {
        for (int l = 0; l < LANES; ++l) p[l] = 0;
        for (int i = 0; i < term_count; ++i) {
            const Term t = terms[i];
            p[t.out - ROWS] += factor(t, c) * lane(t.a, x, stride, p) * lane(t.b, x, stride, p);
        }
    }

    // Row `row` of sum over k <= count of s[k] n^k.
    __device__ real element(int row, int count, const real* s, const real* x, int stride, const real* p) const {
        if (row == 0) return s[0];
        real y = count > 0 ? s[1] * x[row * stride] : real(0);
        for (int i = starts[row]; i < starts[row + 1] && powers[i].power <= count; ++i) {
            y += s[powers[i].power] * p[powers[i].lane - ROWS];
        }
        return y;
    }

    // y = sum over k of s[k] n^k.
    __device__ void apply(const real* s, const real* x, real* y, int stride, const real* c) const {
        real p[LANES > 0 ? LANES : 1];
        raise(x, stride, c, p);
        for (int r = 0; r < ROWS; ++r) y[r * stride] = element(r, ORDER, s, x, stride, p);
    }

    // y = transposed product with sum over k of g[k] n^k, of bar.
    __device__ void transpose(const real* g, const real* x, const real* bar, real* y, int stride, const real* c) const {
        real p[LANES > 0 ? LANES : 1];
        raise(x, stride, c, p);
        real first = 0;
        for (int r = 0; r < ROWS; ++r) {
            first += element(r, ORDER, g, x, stride, p) * bar[r * stride];
            y[r * stride] = g[0] * bar[r * stride];
        }
        y[0] = first;
        for (int i = 0; i < entry_count; ++i) {
            const Term t = entries[i];
            const real b = factor(t, c) * bar[t.out * stride];
            y[t.b * stride] += b * element(t.a, ORDER, g, x, stride, p);
            if (t.a != t.b) y[t.a * stride] += b * element(t.b, ORDER, g, x, stride, p);
        }
    }

    // Row `row` > 0 of the transposed product with sum over k <= count of g[k] n^k, of bar.
    __device__ real transposed(int row, int count, const real* g, const real* x, const real* bar, int stride, const real* c,
                               const real* p) const {
        real y = g[0] * bar[row * stride];
        for (int i = 0; i < entry_count; ++i) {
            const Term t = entries[i];
            if (t.a != row && t.b != row) continue;
            const int other = t.a == row ? t.b : t.a;
            y += factor(t, c) * bar[t.out * stride] * element(other, count, g, x, stride, p);
        }
        return y;
    }

    // Row `row` > 0 of n^i.
    __device__ real power(int i, int row, const real* x, int stride, const real* p) const {
        if (i == 1) return x[row * stride];
        for (int at = starts[row]; at < starts[row + 1]; ++at) {
            if (powers[at].power == i) return p[powers[at].lane - ROWS];
        }
        return 0;
    }

    // q[varying] += the adjoint of the varying constants: sum over i >= 1 of (B_i)_o (n_a (n^i)_b + n_b (n^i)_a), where B_i is
    // the transposed product of the adjoint with sum over j of s_(i+j+1) n^j.
    __device__ void constants(const real* s, const real* x, const real* bar, int stride, const real* c, real* q) const {
        real p[LANES > 0 ? LANES : 1];
        raise(x, stride, c, p);
        for (int at = 0; at < entry_count; ++at) {
            const Term t = entries[at];
            if (t.varying < 0) continue;
            for (int i = 1; i < ORDER; ++i) {
                const real b = transposed(t.out, ORDER - i - 1, s + i + 1, x, bar, stride, c, p);
                real sum = x[t.a * stride] * power(i, t.b, x, stride, p);
                if (t.a != t.b) sum += x[t.b * stride] * power(i, t.a, x, stride, p);
                q[t.varying] += b * t.factor * sum;
            }
        }
    }
};

// Algebras of one sum of squares: rows 1 .. ROWS - 2 have it, times `scale`, as their only product, in the last row.

// each(r, number of x, number of bar) for r in 1 .. ROWS - 2, several reads before the first write.
template <int ROWS, class Each>
__device__ inline void star_rows(const real* x, const real* bar, int stride, Each each) {
    constexpr int AT_ONCE = 8;
    for (int first = 1; first < ROWS - 1; first += AT_ONCE) {
        real a[AT_ONCE], b[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const int r = first + k < ROWS - 1 ? first + k : ROWS - 2;
            a[k] = x[r * stride];
            b[k] = bar[r * stride];
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (first + k < ROWS - 1) each(first + k, a[k], b[k]);
        }
    }
}

// y = sum over k <= 2 of s[k] n^k.
template <int ROWS>
__device__ inline void star_apply(const real* s, real scale, const real* x, real* y, int stride) {
    real squares = 0;
    star_rows<ROWS>(x, x, stride, [&](int r, real a, real) {
        squares = jet_fma(a, a, squares);
        y[r * stride] = s[1] * a;
    });
    y[0] = s[0];
    y[(ROWS - 1) * stride] = s[1] * x[(ROWS - 1) * stride] + s[2] * (scale * squares);
}

// y = transposed product with sum over k <= 2 of g[k] n^k, of bar.
template <int ROWS>
__device__ inline void star_transpose(const real* g, real scale, const real* x, const real* bar, real* y, int stride) {
    const real last = bar[(ROWS - 1) * stride], along = scale * g[1] * last;
    real squares = 0, first = 0;
    star_rows<ROWS>(x, bar, stride, [&](int r, real a, real b) {
        squares = jet_fma(a, a, squares);
        first = jet_fma(a, b, first);
        y[r * stride] = jet_fma(along, a, g[0] * b);
    });
    const real factor = g[1] * x[(ROWS - 1) * stride] + g[2] * (scale * squares);
    y[0] = g[0] * bar[0] + g[1] * first + factor * last;
    y[(ROWS - 1) * stride] = g[0] * last;
}

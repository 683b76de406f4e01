// A rollout: the state at the end of a step becomes the state at the start of the next one.

__device__ inline bool is_finite(real x) {
    return x == x && x != infinity() && x != -infinity();
}

// Moves the n points of a tile. `next` has the new states, `states` numbers every `pitch`; `data` has the length of a step in
// column `length` of `width`; a point has `columns` numbers, the state from `first` on, and time in column `time`, if that is
// not negative. `left` notes, for each point, the first step (from 1) after which a number was not finite.
template <int columns, int first, int states, int time, int pitch, int width, int length>
__device__ void advance_points(int n, unsigned step, const real* next, const real* data, real* points, word* left) {
    for (int p = threadIdx.x; p < n; p += blockDim.x) {
        real* const point = points + (size_t)p * columns;
        bool stays = left[p] != 0;
        for (int s = 0; s < states; ++s) stays = stays || !is_finite(next[p * pitch + s]);
        if (stays) {
            if (left[p] == 0) left[p] = step + 1;
            continue;
        }
        for (int s = 0; s < states; ++s) point[first + s] = next[p * pitch + s];
        if (time >= 0) point[time < 0 ? 0 : time] += data[(size_t)p * width + length];
    }
}

// What a step of a rollout with control keeps to: relative to the state and absolute; the estimates are of the order h^exponent;
// the longest step.
struct Tolerance {
    double relative, absolute, exponent, longest;
};

// Numbers of a clock: how far a point is and its next step, as fractions of its time; its time; how many steps were tried; the time
// at its start; the last step that was accepted and by how much longer it could have been, 0 before the first.
constexpr int CLOCK = 7;
// Fractions below which nothing is left to do, and below which steps are too small; the least error, in units of what is tolerated; by
// how much longer a step may be to reach the end.
constexpr double ARRIVED = 1e-12, SMALLEST = 1e-13, LEAST = 1e-6, STRETCH = 1.1;

// Whether a point of a tile has not arrived. `left` notes 1 where a number was not finite, 2 where steps became too small.
__device__ inline bool under_way(int n, const double* clocks, const word* left) {
    for (int p = 0; p < n; ++p) {
        if (left[p] == 0 && clocks[p * CLOCK] < 1.0 - ARRIVED) return true;
    }
    return false;
}

// Moves the points of a tile whose step is within the tolerances, and chooses their next steps by the error and its trend (Hairer,
// Norsett, Wanner, Solving Ordinary Differential Equations I, II.4; Hairer, Wanner, the same II, IV.8). Arguments are those of
// advance_points; behind the new states, `next` has the estimates.
template <int columns, int first, int states, int time, int pitch, int width, int length>
__device__ void control_points(int n, Tolerance tolerance, const real* next, real* data, real* points, word* left, double* clocks) {
    for (int p = threadIdx.x; p < n; p += blockDim.x) {
        double* const clock = clocks + p * CLOCK;
        if (left[p] != 0 || clock[0] >= 1.0 - ARRIVED) continue;
        real* const point = points + (size_t)p * columns;
        const real* const found = next + p * pitch;
        const double step = clock[1], longest = tolerance.longest / clock[2];
        bool finite = true;
        for (int s = 0; s < 2 * states; ++s) finite = finite && is_finite(found[s]);
        double sum = 0;
        for (int s = 0; finite && s < states; ++s) {
            const double a = fabs((double)point[first + s]), b = fabs((double)found[s]);
            const double part = found[states + s] / (tolerance.absolute + tolerance.relative * (a > b ? a : b));
            sum += part * part;
        }
        double error = finite ? sqrt(sum / (states > 0 ? states : 1)) : infinity();
        error = error < LEAST ? LEAST : error;
        const double allowed = pow(error, -1.0 / tolerance.exponent);
        double growth = 0.9 * allowed;
        if (error <= 1 && clock[6] > 0) {
            const double trend = step * allowed / (clock[5] * clock[6]);
            growth *= trend > 2 ? 2 : trend > 0.5 ? trend : 0.5;
        }
        growth = growth > 5 ? 5 : growth > 0.1 ? growth : 0.1;
        double other = step * growth;
        other = other < longest ? other : longest;
        other = other < 1 ? other : 1;
        clock[3] += 1;
        if (error <= 1) {
            for (int s = 0; s < states; ++s) point[first + s] = found[s];
            clock[0] += step;
            clock[5] = step;
            clock[6] = allowed;
            // not summed up in the precision of points
            if (time >= 0) point[time < 0 ? 0 : time] = (real)(clock[4] + clock[0] * clock[2]);
        }
        const double rest = 1.0 - clock[0];
        if (other < SMALLEST && rest > ARRIVED) left[p] = finite ? 2 : 1;
        const double reach = STRETCH * other < longest ? STRETCH * other : longest;
        clock[1] = rest <= reach || rest < other ? rest : other;
        data[(size_t)p * width + length] = (real)(clock[1] * clock[2]);
    }
}

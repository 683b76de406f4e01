// A rollout: the state at the end of a step becomes the state at the start of the next one.

// Moves the n points of a tile. `next` has the new states, `states` numbers every `pitch`; `data` has the length of a step in
// column `length` of `width`; a point has `columns` numbers, the state from `first` on, and time in column `time`, if that is
// not negative. `left` notes, for each point, the first step (from 1) after which a number was not finite.
template <int columns, int first, int states, int time, int pitch, int width, int length>
__device__ void advance_points(int n, unsigned step, const real* next, const real* data, real* points, word* left) {
    const real most = infinity();
    for (int p = threadIdx.x; p < n; p += blockDim.x) {
        real* const point = points + (size_t)p * columns;
        bool stays = left[p] != 0;
        for (int s = 0; s < states; ++s) {
            const real x = next[p * pitch + s];
            stays = stays || x != x || x == most || x == -most;
        }
        if (stays) {
            if (left[p] == 0) left[p] = step + 1;
            continue;
        }
        for (int s = 0; s < states; ++s) point[first + s] = next[p * pitch + s];
        if (time >= 0) point[time < 0 ? 0 : time] += data[(size_t)p * width + length];
    }
}

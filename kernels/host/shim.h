// CUDA's blocks and threads on one thread of a CPU, so that the text of a kernel can be checked without a GPU.
//
// Blocks run one after the other. The threads of a block are fibers: each runs until it comes to a barrier, a shuffle or a
// tensor-core product, and waits there for those that take part. Between two such places threads run one after the other,
// ascending, descending or shuffled, and so do warps and blocks: where a barrier is missing, the orders give different
// results. What goes wrong is said with kernel and block, and thread where it is known:
//
// - a barrier, shuffle or product that not all of its threads come to;
// - a write next to a buffer or to the shared memory (guard zones);
// - arithmetic with shared memory that was not written: it holds signalling NaN at the start of a block.
//
// What a text may use is what stands below. Shared memory is `shared_memory`, dynamic, or `__shared__` inside of functions.

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <immintrin.h>
#else
#include <fenv.h>
#endif
#if !(defined(__x86_64__) && defined(__ELF__)) || defined(JETC_HOST_UCONTEXT)
#include <ucontext.h>
#define JETC_HOST_SWITCH 0
#else
#define JETC_HOST_SWITCH 1
#endif

#define JETC_HOST 1
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static __attribute__((section("jetc_shared")))

namespace jetc_host {

// Fields are named as in CUDA; only x is used.
struct Index {
    unsigned x = 0, y = 0, z = 0;
};

// A range of memory of a launch and the guard zones around it.
struct Guarded {
    const char* name;
    const uint32_t* before;
    const uint32_t* after;
};

// A launch, as src/cuda/host.rs lays it out.
struct Launch {
    const char* kernel;
    void* const* arguments;
    const Guarded* guarded;
    uint64_t guards;
    uint64_t guard_words;
    uint64_t seed;
    uint32_t count, blocks, threads, shared;
    uint32_t order;   // of threads, warps and blocks: 0 ascending, 1 descending, 2 shuffled
    uint32_t poison;  // in unwritten memory: the words of f32, the high words of f64
    uint32_t is_double;
    uint32_t strict;  // an invalid operation is an error
    uint32_t skip;    // the number of a barrier that is left out
    char* message;
    uint64_t message_size;
};

enum class Wait : uint8_t { None, Block, Warp, Shuffle, Product, Done };

struct Fiber {
    Wait wait = Wait::None;
    int line = 0;
    uint32_t mask = 0;
    // a shuffle's value, and the lane that it is read from
    uint64_t value = 0;
    int from = 0;
    // fragments of a product
    float* c = nullptr;
    const uint32_t* a = nullptr;
    const uint32_t* b = nullptr;
#if JETC_HOST_SWITCH
    void* stack = nullptr;
#else
    ucontext_t context;
#endif
};

constexpr unsigned WARP = 32, MOST_THREADS = 1024, NO_THREAD = ~0u;
constexpr size_t STACK = 128 << 10, MOST_SHARED = 228 << 10;

// Of the running thread.
Index thread_index, block_index, block_size, grid_size;

Fiber fibers[MOST_THREADS];
Fiber* running = nullptr;
bool failed = false;
const Launch* launch = nullptr;
char* stacks = nullptr;
void (*entry)(void* const*, unsigned) = nullptr;
uint64_t random_state = 0;

inline uint64_t random() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

template <class... T>
void fail(unsigned thread, const char* format, T... rest) {
    if (failed) return;
    failed = true;
    int n = snprintf(launch->message, launch->message_size, "kernel %s, block %u", launch->kernel, block_index.x);
    if (thread != NO_THREAD) n += snprintf(launch->message + n, launch->message_size - n, ", thread %u", thread);
    n += snprintf(launch->message + n, launch->message_size - n, ": ");
    if (n > 0 && (uint64_t)n < launch->message_size) {
        snprintf(launch->message + n, launch->message_size - n, format, rest...);
    }
}

// Whether an invalid operation happened since the last call.
inline bool invalid() {
#if defined(__SSE2__)
    const unsigned csr = _mm_getcsr();
    _mm_setcsr(csr & ~0x3Fu);
    return csr & 1;
#else
    const bool is = fetestexcept(FE_INVALID);
    feclearexcept(FE_ALL_EXCEPT);
    return is;
#endif
}

#if JETC_HOST_SWITCH
// Saves what a call must keep, swaps stacks, restores.
extern "C" void jetc_host_switch(void** from, void* to) __attribute__((visibility("hidden")));
asm(R"(
    .text
    .globl jetc_host_switch
    .hidden jetc_host_switch
    .type jetc_host_switch, @function
jetc_host_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size jetc_host_switch, .-jetc_host_switch
)");
void* scheduler_stack = nullptr;
inline void to_scheduler() { jetc_host_switch(&running->stack, scheduler_stack); }
inline void to_fiber(Fiber& f) { jetc_host_switch(&scheduler_stack, f.stack); }
#else
ucontext_t scheduler_context;
inline void to_scheduler() { swapcontext(&running->context, &scheduler_context); }
inline void to_fiber(Fiber& f) { swapcontext(&scheduler_context, &f.context); }
#endif

inline void fiber_main() {
    entry(launch->arguments, launch->count);
    running->wait = Wait::Done;
    to_scheduler();
    abort();
}

inline void prepare(unsigned t) {
    Fiber& f = fibers[t];
    f.wait = Wait::None;
    f.line = 0;
    char* base = stacks + (size_t)t * STACK;
#if JETC_HOST_SWITCH
    void** top = (void**)(base + STACK);
    *--top = nullptr;  // a return address that is never used keeps the stack aligned as after a call
    *--top = (void*)&fiber_main;
    for (int k = 0; k < 6; ++k) *--top = nullptr;
    f.stack = top;
#else
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = base;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, &fiber_main, 0);
#endif
    *(uint64_t*)base = 0x5AFE57AC4B0770AAull;
}

__attribute__((noinline)) void wait(Wait kind, uint32_t mask, int line) {
    running->wait = kind;
    running->mask = mask;
    running->line = line;
    to_scheduler();
}

inline void resume(unsigned t) {
    Fiber& f = fibers[t];
    const int since = f.line;
    f.wait = Wait::None;
    running = &f;
    thread_index.x = t;
    to_fiber(f);
    if (launch->strict && invalid()) {
        fail(t, "invalid operation after line %d: not a number, or memory that was not written", since);
    }
    if (*(uint64_t*)(stacks + (size_t)t * STACK) != 0x5AFE57AC4B0770AAull) fail(t, "local memory exceeds the stack");
}

// 16 x 8 x 8 of tensor cores: exact products of numbers of ten bits, added to the accumulator, cut to f32.
inline void product(const unsigned first) {
    float a[16][8], b[8][8];
    auto number = [](uint32_t bits) {
        bits &= 0xFFFFE000u;
        float x;
        memcpy(&x, &bits, 4);
        return x;
    };
    for (unsigned lane = 0; lane < WARP; ++lane) {
        const Fiber& f = fibers[first + lane];
        const unsigned group = lane / 4, place = lane % 4;
        for (unsigned k = 0; k < 4; ++k) a[group + k % 2 * 8][place + k / 2 * 4] = number(f.a[k]);
        for (unsigned k = 0; k < 2; ++k) b[place + k * 4][group] = number(f.b[k]);
    }
    for (unsigned lane = 0; lane < WARP; ++lane) {
        Fiber& f = fibers[first + lane];
        for (unsigned k = 0; k < 4; ++k) {
            const unsigned row = lane / 4 + k / 2 * 8, column = lane % 4 * 2 + k % 2;
            double sum = f.c[k];
            for (unsigned i = 0; i < 8; ++i) sum += (double)a[row][i] * b[i][column];
            float y = (float)sum;
            if (fabs((double)y) > fabs(sum) && isfinite(y)) y = nextafterf(y, 0);
            f.c[k] = y;
        }
    }
}

// Finishes what the lanes of a warp wait for together; false where nothing could be finished.
inline bool finish(unsigned warp) {
    const unsigned first = warp * WARP;
    bool any = false;
    uint32_t seen = 0;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        const Fiber& f = fibers[first + lane];
        if (seen >> lane & 1 || (f.wait != Wait::Warp && f.wait != Wait::Shuffle && f.wait != Wait::Product)) continue;
        bool all = f.mask >> lane & 1;
        for (unsigned l = 0; l < WARP; ++l) {
            const Fiber& g = fibers[first + l];
            if (f.mask >> l & 1) all &= g.wait == f.wait && g.mask == f.mask && g.line == f.line;
        }
        if (!all) continue;
        seen |= f.mask;
        const Wait kind = f.wait;
        const uint32_t mask = f.mask;
        if (kind == Wait::Product) product(first);
        if (kind == Wait::Shuffle) {
            uint64_t values[WARP];
            for (unsigned l = 0; l < WARP; ++l) values[l] = fibers[first + l].value;
            for (unsigned l = 0; l < WARP; ++l) {
                if (!(mask >> l & 1)) continue;
                Fiber& g = fibers[first + l];
                if (!(mask >> g.from & 1)) fail(first + l, "shuffle at line %d reads lane %d, which takes no part", g.line, g.from);
                g.value = values[g.from];
            }
        }
        for (unsigned l = 0; l < WARP; ++l) {
            if (mask >> l & 1) fibers[first + l].wait = Wait::None;
        }
        any = true;
    }
    return any;
}

inline unsigned place(unsigned k, unsigned n, const unsigned* shuffled) {
    return launch->order == 0 ? k : launch->order == 1 ? n - 1 - k : shuffled[k];
}

inline void shuffle(unsigned* order, unsigned n) {
    for (unsigned k = 0; k < n; ++k) order[k] = k;
    for (unsigned k = n; k > 1; --k) {
        const unsigned other = random() % k, kept = order[k - 1];
        order[k - 1] = order[other];
        order[other] = kept;
    }
}

// Runs a warp until its lanes have ended or wait for the block.
inline void run_warp(unsigned warp) {
    const unsigned first = warp * WARP;
    unsigned order[WARP];
    do {
        if (launch->order == 2) shuffle(order, WARP);
        for (unsigned k = 0; k < WARP && !failed; ++k) {
            const unsigned t = first + place(k, WARP, order);
            if (fibers[t].wait == Wait::None) resume(t);
        }
    } while (!failed && finish(warp));
    for (unsigned lane = 0; lane < WARP && !failed; ++lane) {
        const Fiber& f = fibers[first + lane];
        if (f.wait != Wait::Block && f.wait != Wait::Done) {
            fail(first + lane, "waits at line %d for lanes that do not come", f.line);
        }
    }
}

inline void run_block() {
    const unsigned n = block_size.x, warps = n / WARP;
    unsigned order[MOST_THREADS / WARP];
    for (unsigned t = 0; t < n; ++t) prepare(t);
    for (;;) {
        if (launch->order == 2) shuffle(order, warps);
        for (unsigned w = 0; w < warps && !failed; ++w) run_warp(place(w, warps, order));
        if (failed) return;
        unsigned done = 0;
        for (unsigned t = 0; t < n; ++t) done += fibers[t].wait == Wait::Done;
        if (done == n) return;
        for (unsigned t = 0; t < n; ++t) {
            if (fibers[t].wait == Wait::Done) return fail(t, "ended while others wait at a barrier");
            if (fibers[t].line != fibers[0].line) {
                return fail(t, "waits at the barrier of line %d, thread 0 at that of line %d", fibers[t].line, fibers[0].line);
            }
            fibers[t].wait = Wait::None;
        }
    }
}

// What unwritten memory holds: a signalling NaN in every number.
inline uint32_t poison_word(const uint32_t* at) { return launch->is_double && (uintptr_t)at / 4 % 2 == 0 ? 0 : launch->poison; }

inline void poison(void* memory, size_t bytes) {
    uint32_t* words = (uint32_t*)memory;
    for (size_t k = 0; k < bytes / 4; ++k) words[k] = poison_word(words + k);
}

inline bool is_poison(const uint32_t* words, size_t n) {
    for (size_t k = 0; k < n; ++k) {
        if (words[k] != poison_word(words + k)) return false;
    }
    return true;
}

}  // namespace jetc_host

// The dynamic shared memory of a block, with a guard zone behind it.
alignas(128) double shared_memory[(jetc_host::MOST_SHARED + 1024) / 8];
#define SHARED_MEMORY ((real*)shared_memory)

// Whatever is `__shared__` in a function.
__attribute__((section("jetc_shared"), used)) static uint64_t jetc_shared_begins[2];
extern "C" char __start_jetc_shared[] __attribute__((visibility("hidden")));
extern "C" char __stop_jetc_shared[] __attribute__((visibility("hidden")));

namespace jetc_host {


template <size_t... K>
struct Places {};
template <size_t N, size_t... K>
struct Count : Count<N - 1, N - 1, K...> {};
template <size_t... K>
struct Count<0, K...> {
    typedef Places<K...> Type;
};

// The last argument is the number of points, all others are pointers.
template <class T>
T argument(void* const* arguments, size_t k, unsigned) {
    return (T)arguments[k];
}
template <>
inline unsigned argument<unsigned>(void* const*, size_t, unsigned count) {
    return count;
}
template <class... A, size_t... K>
void apply(void (*kernel)(A...), void* const* arguments, unsigned count, Places<K...>) {
    kernel(argument<A>(arguments, K, count)...);
}
template <class... A>
void call(void (*kernel)(A...), void* const* arguments, unsigned count) {
    apply(kernel, arguments, count, typename Count<sizeof...(A)>::Type());
}

inline int run(const Launch* l, void (*kernel)(void* const*, unsigned)) {
    launch = l;
    entry = kernel;
    failed = false;
    random_state = l->seed | 1;
    block_size.x = l->threads;
    grid_size.x = l->blocks;
    if (!stacks) stacks = (char*)malloc(MOST_THREADS * STACK);
    if (!stacks || l->threads > MOST_THREADS || l->threads % WARP != 0 || l->shared > MOST_SHARED) {
        fail(NO_THREAD, "%u threads and %u bytes of shared memory cannot be", l->threads, l->shared);
        return 1;
    }
    unsigned* order = (unsigned*)malloc(l->blocks * sizeof(unsigned));
    if (l->order == 2) shuffle(order, l->blocks);
    for (unsigned b = 0; b < l->blocks && !failed; ++b) {
        block_index.x = place(b, l->blocks, order);
        poison(shared_memory, (l->shared + 7) / 8 * 8 + 1024);
        poison(__start_jetc_shared, __stop_jetc_shared - __start_jetc_shared);
        invalid();
        run_block();
        if (failed) break;
        if (!is_poison((uint32_t*)shared_memory + (l->shared + 3) / 4, 200)) fail(NO_THREAD, "wrote behind the %u bytes of shared memory", l->shared);
        for (uint64_t k = 0; k < l->guards; ++k) {
            const Guarded& g = l->guarded[k];
            if (!is_poison(g.before, l->guard_words)) fail(NO_THREAD, "wrote before the buffer %s", g.name);
            if (!is_poison(g.after, l->guard_words)) fail(NO_THREAD, "wrote behind the buffer %s", g.name);
        }
    }
    free(order);
    return failed;
}

}  // namespace jetc_host

#define threadIdx jetc_host::thread_index
#define blockIdx jetc_host::block_index
#define blockDim jetc_host::block_size
#define gridDim jetc_host::grid_size
#define __syncthreads() jetc_host::sync_block(__COUNTER__, __LINE__)
#define __syncwarp(...) jetc_host::sync_warp(__COUNTER__, __LINE__, ##__VA_ARGS__)
#define __shfl_sync(mask, value, ...) jetc_host::shuffle_lanes<0>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...) jetc_host::shuffle_lanes<1>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_down_sync(mask, value, ...) jetc_host::shuffle_lanes<2>(__LINE__, mask, value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...) jetc_host::shuffle_lanes<3>(__LINE__, mask, value, __VA_ARGS__)
#define __any_sync(mask, value) jetc_host::any_lane(__LINE__, mask, value)
#define __threadfence()

namespace jetc_host {

// Barriers are numbered as they stand in the text. Whether each was met.
constexpr unsigned MOST_BARRIERS = 4096;
uint8_t met[MOST_BARRIERS];

inline void sync_block(unsigned number, int line) {
    if (number < MOST_BARRIERS) met[number] = 1;
    if (number != launch->skip) wait(Wait::Block, ~0u, line);
}

inline void sync_warp(unsigned number, int line, uint32_t mask = ~0u) {
    if (number < MOST_BARRIERS) met[number] = 1;
    if (number != launch->skip) wait(Wait::Warp, mask, line);
}

template <int KIND, class T>
T shuffle_lanes(int line, uint32_t mask, T value, int other, int width = 32) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    const int lane = thread_index.x % WARP, base = lane / width * width;
    int from = KIND == 0 ? base + (other & (width - 1)) : KIND == 1 ? lane ^ other : KIND == 2 ? lane + other : lane - other;
    if (KIND == 1 ? from >= base + width : from < base || from >= base + width) from = lane;
    Fiber& f = *running;
    f.value = 0;
    memcpy(&f.value, &value, sizeof(T));
    f.from = from;
    wait(Wait::Shuffle, mask, line);
    memcpy(&value, &f.value, sizeof(T));
    return value;
}

inline int any_lane(int line, uint32_t mask, int value) {
    for (int step = WARP / 2; step > 0; step /= 2) value |= shuffle_lanes<1>(line, mask, value, step);
    return value;
}

}  // namespace jetc_host

// mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 with c as accumulator and result: lane l holds
// a: rows l/4 and l/4 + 8 of column l%4, then of column l%4 + 4; b: rows l%4 and l%4 + 4 of column l/4;
// c: columns 2 (l%4) and 2 (l%4) + 1 of row l/4, then of row l/4 + 8.
#define mma_tf32(c, a, b) jetc_host::mma(__LINE__, c, a, b)
namespace jetc_host {
__attribute__((noinline)) void mma(int line, float* c, const uint32_t* a, const uint32_t* b) {
    running->c = c;
    running->a = a;
    running->b = b;
    wait(Wait::Product, ~0u, line);
}
}  // namespace jetc_host

template <class T>
T jetc_host_bits(const void* x) {
    T y;
    memcpy(&y, x, sizeof(T));
    return y;
}
inline uint32_t __float_as_uint(float x) { return jetc_host_bits<uint32_t>(&x); }
inline int __float_as_int(float x) { return jetc_host_bits<int>(&x); }
inline float __uint_as_float(uint32_t x) { return jetc_host_bits<float>(&x); }
inline float __int_as_float(int x) { return jetc_host_bits<float>(&x); }
inline long long __double_as_longlong(double x) { return jetc_host_bits<long long>(&x); }
inline double __longlong_as_double(long long x) { return jetc_host_bits<double>(&x); }
inline uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)((uint64_t)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(x); }
inline int __popc(uint32_t x) { return __builtin_popcount(x); }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
template <class T>
T __ldg(const T* x) {
    return *x;
}
template <class T>
T atomicAdd(T* x, T y) {
    static_assert((T)0.5 == 0, "the sum of floating-point atomics depends on their order");
    const T old = *x;
    *x += y;
    return old;
}
template <class T>
T atomicMax(T* x, T y) {
    const T old = *x;
    if (y > old) *x = y;
    return old;
}
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}
template <class T, int N>
struct alignas(sizeof(T) * N) jetc_host_vector;
template <class T>
struct alignas(sizeof(T) * 2) jetc_host_vector<T, 2> {
    T x, y;
};
template <class T>
struct alignas(sizeof(T) * 4) jetc_host_vector<T, 4> {
    T x, y, z, w;
};
typedef jetc_host_vector<float, 2> float2;
typedef jetc_host_vector<float, 4> float4;
typedef jetc_host_vector<double, 2> double2;
typedef jetc_host_vector<uint32_t, 2> uint2;
typedef jetc_host_vector<uint32_t, 4> uint4;
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }

// Rounded to ten bits, ties away from zero, as cvt.rna.tf32.f32 does.
inline uint32_t to_tf32(float x) {
    const uint32_t bits = __float_as_uint(x);
    return isfinite(x) ? (bits + 0x1000u) & 0xFFFFE000u : bits;
}
inline float from_tf32(uint32_t x) { return __uint_as_float(x); }

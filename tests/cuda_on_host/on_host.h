// CUDA on a processor: blocks one after another, the threads of a block as fibers that switch where they wait.
//
// What a GPU leaves to chance or answers with garbage is an error here: a barrier that not all threads of a block reach,
// a shuffle that not all its lanes reach, arguments of other types than the kernel's. Shared memory starts as nan. The order in which threads and blocks run can be reversed: a result that changes is a race.

#pragma once
#define ON_HOST
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // one block runs at a time
#define __align__(n) alignas(n)

template <typename A>
static inline A min(A a, A b) { return b < a ? b : a; }
template <typename A>
static inline A max(A a, A b) { return a < b ? b : a; }

struct uint3 { unsigned x, y, z; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
constexpr int SHARED = 227 * 1024;  // bytes: Hopper's
alignas(16) static float shared[SHARED / sizeof(float)];

// Numbers -------------------------------------------------------------------------------------------------

static inline float __int_as_float(int bits) { float x; std::memcpy(&x, &bits, 4); return x; }
static inline unsigned __float_as_uint(float x) { unsigned bits; std::memcpy(&bits, &x, 4); return bits; }
static inline float __uint_as_float(unsigned bits) { float x; std::memcpy(&x, &bits, 4); return x; }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (static_cast<uint64_t>(a) * b) >> 32; }
#define __expf expf
#define __logf logf
static inline float __fdividef(float a, float b) { return a / b; }
static inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

struct __half { _Float16 value; };
static inline float __half2float(__half x) { return x.value; }
static inline __half __float2half_rn(float x) { return {static_cast<_Float16>(x)}; }

struct __nv_bfloat16 { uint16_t bits; };
static inline float __bfloat162float(__nv_bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    unsigned bits = __float_as_uint(x);
    if (x != x) return {0x7fff};
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};  // to nearest, ties to even
}

// Threads -------------------------------------------------------------------------------------------------

enum Wait { NOTHING, BLOCK, LANES_OF_WARP, END };

struct Fiber {
    ucontext_t context;     // where it starts, with a stack of its own
    jmp_buf place;          // where it goes on: a jump costs a tenth of a change of context
    bool started;
    Wait wait = NOTHING;
    unsigned lanes = 0;     // of the warp, that it waits for
    int barriers = 0;       // shuffles so far
    uint3 thread;
};

struct Slot { float value[2]; };  // a shuffle writes one while the last one's may still be read

constexpr int MOST = 1024;  // threads of a block
constexpr size_t STACK = 64 * 1024;
static Fiber fibers[MOST];
static Slot slots[MOST];
static char* stacks;
static int count;
static ucontext_t origin;
static jmp_buf scheduler;
static int current;
static void (*body)(void**);
static void** arguments;
static const char* fault;

static void yield_until(Wait wait, unsigned lanes = 0) {
    Fiber& self = fibers[current];
    self.wait = wait;
    self.lanes = lanes;
    if (!_setjmp(self.place)) _longjmp(scheduler, 1);
}

__attribute__((noinline)) static void resume(Fiber& fiber) {
    if (_setjmp(scheduler)) return;  // it waits
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    swapcontext(&origin, &fiber.context);
}

static void complain(const char* what) {
    fault = what;
    yield_until(END);
}

static inline void __syncthreads() { yield_until(BLOCK); }
static inline void __syncwarp(unsigned lanes = 0xffffffffu) { yield_until(LANES_OF_WARP, lanes); }

static float shuffled(unsigned lanes, float x, int from) {
    const int lane = current % 32, first = current - lane;
    if (!(lanes >> lane & 1)) complain("a shuffle by a lane that its mask leaves out");
    const int slot = fibers[current].barriers++ % 2;
    slots[current].value[slot] = x;
    yield_until(LANES_OF_WARP, lanes);
    if (!(lanes >> from & 1)) complain("a shuffle from a lane that its mask leaves out");
    return slots[first + from].value[slot];
}

template <typename A>
static A __shfl_xor_sync(unsigned lanes, A x, int mask) {
    static_assert(sizeof(A) == 4);
    float bits, result;
    std::memcpy(&bits, &x, 4);
    result = shuffled(lanes, bits, (current % 32) ^ mask);
    std::memcpy(&x, &result, 4);
    return x;
}

template <typename A>
static A __shfl_sync(unsigned lanes, A x, int from) {
    return __shfl_xor_sync(lanes, x, (current % 32) ^ (from % 32));
}

// Tensor cores, as in mma.cuh -------------------------------------------------------------------------------

struct Fragments { const void* row; unsigned a[4], b[2]; };
static Fragments given[MOST][2];  // what a lane brings; two, as with slots

static Fragments* bring(const Fragments& mine) {
    const int which = fibers[current].barriers++ % 2;
    given[current][which] = mine;
    yield_until(LANES_OF_WARP, 0xffffffffu);
    return &given[current - current % 32][which];  // of lane i at [2 i]
}

static void matrices(unsigned (&to)[4], const void* row, bool transposed) {
    if (reinterpret_cast<uintptr_t>(row) % 16) complain("a matrix's row at no multiple of 16 bytes");
    const Fragments* of = bring({row, {}, {}});
    const int g = current % 32 / 4, t = current % 4;
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 2; ++j) {
            const int r = transposed ? 2 * t + j : g, c = transposed ? g : 2 * t + j;
            const uint16_t bits = static_cast<const uint16_t*>(of[2 * (8 * i + r)].row)[c];
            to[i] = j ? to[i] | static_cast<unsigned>(bits) << 16 : bits;
        }
}

static inline void load_matrices(unsigned (&to)[4], const void* row) { matrices(to, row, false); }
static inline void load_transposed(unsigned (&to)[4], const void* row) { matrices(to, row, true); }

template <typename A>
static float half_of(unsigned bits, int which) {
    const uint16_t half = bits >> (16 * which);
    A x;
    std::memcpy(&x, &half, 2);
    if constexpr (std::is_same_v<A, __half>) return __half2float(x);
    else return __bfloat162float(x);
}

template <typename A>
static void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    const Fragments* of = bring({nullptr, {a[0], a[1], a[2], a[3]}, {b0, b1}});
    const int g = current % 32 / 4, t = current % 4;
    for (int e = 0; e < 4; ++e) {
        const int row = g + e / 2 * 8, column = 2 * t + e % 2;
        for (int k = 0; k < 16; ++k) {
            const int lane = k % 8 / 2;  // within the four of a row of A, of a column of B
            const unsigned left = of[2 * (row % 8 * 4 + lane)].a[k / 8 * 2 + row / 8];
            const unsigned right = of[2 * (column * 4 + lane)].b[k / 8];
            c[e] += half_of<A>(left, k % 2) * half_of<A>(right, k % 2);
        }
    }
}

static void enter() {
    body(arguments);
    yield_until(END);
}

static bool release() {
    bool any = false, all = true;
    for (int i = 0; i < count; ++i) all &= fibers[i].wait == BLOCK;
    if (all) {
        for (int i = 0; i < count; ++i) fibers[i].wait = NOTHING;
        return true;
    }
    for (int first = 0; first < count; first += 32) {
        for (int lane = 0; lane < 32 && first + lane < count; ++lane) {
            const Fiber& f = fibers[first + lane];
            if (f.wait != LANES_OF_WARP) continue;
            const unsigned lanes = f.lanes;
            bool here = true;
            for (int other = 0; other < 32; ++other) {
                if (!(lanes >> other & 1)) continue;
                here &= first + other < count && fibers[first + other].wait == LANES_OF_WARP
                        && fibers[first + other].lanes == lanes;
            }
            if (!here) continue;
            any = true;
            for (int other = 0; other < 32; ++other)
                if (lanes >> other & 1) fibers[first + other].wait = NOTHING;
        }
    }
    return any;
}

static void run_block(bool reversed) {
    std::memset(shared, 0xff, sizeof shared);  // nan, until it is written
    for (int i = 0; i < count; ++i) {
        Fiber& f = fibers[i];
        f.wait = NOTHING;
        f.barriers = 0;
        f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = &stacks[i * STACK];
        f.context.uc_stack.ss_size = STACK;
        f.started = false;
        makecontext(&f.context, enter, 0);
    }
    for (;;) {
        bool left = false;
        for (int k = 0; k < count; ++k) {
            const int i = reversed ? count - 1 - k : k;
            if (fibers[i].wait == NOTHING) {
                current = i;
                threadIdx = fibers[i].thread;
                resume(fibers[i]);
                if (fault) return;
            }
            left |= fibers[i].wait != END;
        }
        if (!left) return;
        if (!release()) {
            fault = "threads wait for others that never come: not all reach the same barrier or shuffle";
            return;
        }
    }
}

// Kernels -------------------------------------------------------------------------------------------------

template <typename A>
static void describe(char*& text) {
    if (std::is_pointer_v<A>) *text++ = 'p';
    if (std::is_same_v<A, float>) *text++ = 'f';
    if (std::is_same_v<A, int>) *text++ = 'i';
    if (std::is_same_v<A, unsigned>) *text++ = 'u';
    if (std::is_same_v<A, long long>) *text++ = 'l';
    if (std::is_same_v<A, unsigned long long>) *text++ = 'L';
    if (std::is_class_v<A>) text += std::sprintf(text, "s%d", static_cast<int>(sizeof(A)));
    *text = 0;
}

template <typename... A>
static bool fits(void (*)(A...), const char* kinds) {
    char expected[16 * sizeof...(A) + 1], *end = expected;
    (describe<A>(end), ...);
    return std::strcmp(expected, kinds) == 0;
}

template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
}

template <typename... A>
static void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>{});
}

// Runs a kernel on all blocks; null, or what was wrong.
static const char* run(void (*kernel)(void**), const unsigned* grid, const unsigned* block, size_t bytes, bool reversed,
                       void** given) {
    if (bytes > SHARED) return "more shared memory than there is";
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const size_t threads = static_cast<size_t>(block[0]) * block[1] * block[2];
    if (threads > MOST) return "more than 1024 threads in a block";
    if (grid[1] > 65535 || grid[2] > 65535) return "more than 65535 blocks in the second or third dimension";
    if (!stacks) stacks = static_cast<char*>(std::malloc(MOST * STACK));
    count = threads;
    body = kernel;
    arguments = given;
    fault = nullptr;
    const size_t blocks = static_cast<size_t>(grid[0]) * grid[1] * grid[2];
    for (size_t k = 0; k < blocks && !fault; ++k) {
        const size_t i = reversed ? blocks - 1 - k : k;
        blockIdx = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]), unsigned(i / (size_t(grid[0]) * grid[1]))};
        run_block(reversed);
    }
    return fault;
}

#define KERNEL(NAME)                                                                                              \
    extern "C" const char* run_##NAME(const unsigned* grid, const unsigned* block, size_t bytes, int reversed,    \
                                      const char* kinds, void** given) {                                         \
        if (!fits(NAME, kinds)) return "arguments of other types than the kernel's";                              \
        return run([](void** all) { call(NAME, all); }, grid, block, bytes, reversed, given);                     \
    }

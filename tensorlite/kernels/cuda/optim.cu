// What is done to all parameters at once, in one launch: the norm of the gradients, a factor for them, and Adam.
//
// A list of tensors is a table in GPU memory: addresses, sizes, and for each block which tensor it works on and from which
// element on. So a model of 150 tensors is as fast as one long vector. What only the GPU knows (a factor, whether the step
// counts) it reads from its own memory: nobody waits.
//
// norm:   sqrt(Σ g²).  Bytes: n b.
// scale:  g ← factor g, and whether one of them is not finite.  Bytes: 2 n b, or none for a factor of 1.
// adam:   g' = sign g + decay p,  m += (1 - β₁) (g' - m),  v = β₂ v + (1 - β₂) g'²,  w = v, or the largest so far
//         p = shrink p - step m / (sqrt(w) + eps)        (numbers as in tensorlite/optim/adamw.py)
//         Bytes for n numbers: g n b; m, v and p of float read and written, 24 n, and the largest v, 8 n; weights of two
//         bytes beside their float32 originals, 2 n b more.

#include "common.cuh"

struct Chunk {
    int tensor;  // its place in the list
    int part;    // which CHUNK of its elements
};

constexpr int CHUNK = 16384;  // elements to a block

// The sum of the squares of each chunk.
extern "C" __global__ void norm_parts(T* const* gradients, const long long* sizes, const Chunk* chunks, float* parts) {
    const Chunk chunk = chunks[blockIdx.x];
    const T* g = gradients[chunk.tensor];
    const long long n = sizes[chunk.tensor], first = static_cast<long long>(chunk.part) * CHUNK, end = min(first + CHUNK, n);
    float sum = 0;
    for (long long i = first + threadIdx.x * LANES<T>; i < end; i += blockDim.x * LANES<T>) {
        float v[LANES<T>];
        load<T>(v, g, i, end);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) sum += v[j] * v[j];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// The norm. One block.
extern "C" __global__ void norm_total(const float* parts, int count, float* norm) {
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *norm = sqrtf(sum);
}

// found: becomes true where a product is inf or nan; null if nobody asks. All who write it write the same.
extern "C" __global__ void scale(T* const* gradients, const long long* sizes, const Chunk* chunks, const float* factor,
                                 bool* found) {
    const float by = *factor;
    if (by == 1 && !found) return;
    const Chunk chunk = chunks[blockIdx.x];
    T* g = gradients[chunk.tensor];
    const long long n = sizes[chunk.tensor], first = static_cast<long long>(chunk.part) * CHUNK, end = min(first + CHUNK, n);
    bool finite = true;
    for (long long i = first + threadIdx.x * LANES<T>; i < end; i += blockDim.x * LANES<T>) {
        float v[LANES<T>];
        load<T>(v, g, i, end);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) {
            v[j] *= by;
            finite = finite && fabsf(v[j]) < infinity();  // nan is not
        }
        store<T>(g, v, i, end);
    }
    if (found && !finite) *found = true;
}

// As many floats as 16 bytes hold of T.
__device__ inline void load_floats(float (&v)[LANES<T>], const float* array, long long i, long long end) {
#pragma unroll
    for (int j = 0; j < LANES<T>; j += 4) load<float>(reinterpret_cast<float(&)[4]>(v[j]), array, i + j, end);
}

__device__ inline void store_floats(float* array, const float (&v)[LANES<T>], long long i, long long end) {
#pragma unroll
    for (int j = 0; j < LANES<T>; j += 4) store<float>(array, reinterpret_cast<const float(&)[4]>(v[j]), i + j, end);
}

struct Numbers {
    float rest1, beta2, rest2, eps, step, shrink, decay, sign;  // rest: 1 - β, whose digits a float of β has lost
};

// table: of each tensor p, g, m, v, the largest v or 0, and the float32 original of p, or 0 where p is itself of float32.
// skip: nothing is done if it is true; null if the step counts in any case.
extern "C" __global__ void adam(void* const* table, const long long* sizes, const Chunk* chunks, const bool* skip,
                                Numbers by) {
    if (skip && *skip) return;
    const Chunk chunk = chunks[blockIdx.x];
    void* const* row = table + chunk.tensor * 6;
    T* p = static_cast<T*>(row[0]);
    const T* g = static_cast<const T*>(row[1]);
    float* m = static_cast<float*>(row[2]);
    float* v = static_cast<float*>(row[3]);
    float* largest = static_cast<float*>(row[4]);
    float* original = static_cast<float*>(row[5]);
    const long long n = sizes[chunk.tensor], first = static_cast<long long>(chunk.part) * CHUNK, end = min(first + CHUNK, n);
    constexpr int L = LANES<T>;
    for (long long i = first + threadIdx.x * L; i < end; i += blockDim.x * L) {
        float value[L], slope[L], average[L], square[L], top[L], wide[L];
        load<T>(value, p, i, end);
        load<T>(slope, g, i, end);
        load_floats(average, m, i, end);
        load_floats(square, v, i, end);
        if (largest) load_floats(top, largest, i, end);
        if (original) load_floats(wide, original, i, end);
#pragma unroll
        for (int j = 0; j < L; ++j) {
            // Where somebody has written the parameter since, its own numbers count.
            if (original && widened(narrowed<T>(wide[j])) == value[j]) value[j] = wide[j];
            const float x = by.sign * slope[j] + by.decay * value[j];
            average[j] += by.rest1 * (x - average[j]);
            square[j] = by.beta2 * square[j] + by.rest2 * x * x;
            if (largest) top[j] = top[j] > square[j] ? top[j] : square[j];
            value[j] = value[j] * by.shrink - by.step * average[j] / (sqrtf(largest ? top[j] : square[j]) + by.eps);
        }
        store<T>(p, value, i, end);
        store_floats(m, average, i, end);
        store_floats(v, square, i, end);
        if (largest) store_floats(largest, top, i, end);
        if (original) store_floats(original, value, i, end);
    }
}

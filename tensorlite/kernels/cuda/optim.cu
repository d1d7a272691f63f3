// What is done to all parameters at once, in one launch: the norm of the gradients, and AdamW.
//
// A list of tensors is a table in GPU memory: addresses, sizes, and for each block which tensor it works on and from which
// element on. So a model of 150 tensors is as fast as one long vector.
//
// norm:   sqrt(Σ g²), and scale = min(1, most / (norm + 1e-6)), in memory of the GPU, where adamw reads it: nobody waits.
//         Bytes: n b.
// adamw:  g' = g scale,  m += (1 - β₁) (g' - m),  v = β₂ v + (1 - β₂) g'²,
//         p -= lr decay p + rate m / (sqrt(v) + eps'),   rate = lr sqrt(1 - β₂ᵗ) / (1 - β₁ᵗ),  eps' = eps sqrt(1 - β₂ᵗ)
//         Bytes for n numbers: g n b; m, v and p of float read and written, 24 n; weights of half precision beside their
//         float32 originals, n b more.

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

// result[0] = the norm, result[1] = what clipping multiplies by. One block.
extern "C" __global__ void norm_total(const float* parts, int count, float most, float* result) {
    float sum = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    const float norm = sqrtf(block_sum(sum));
    if (threadIdx.x == 0) {
        const float scale = most / (norm + 1e-6f);  // PyTorch's constant
        result[0] = norm;
        result[1] = scale > 1 ? 1.0f : scale;  // nan stays nan
    }
}

// table: of each tensor p, g, m, v and the float32 original of p, the last 0 where p is itself of float32.
extern "C" __global__ void adamw(void* const* table, const long long* sizes, const Chunk* chunks, const float* scale, float beta1,
                                 float beta2, float rate, float eps, float keep) {
    const Chunk chunk = chunks[blockIdx.x];
    void* const* row = table + chunk.tensor * 5;
    T* p = static_cast<T*>(row[0]);
    const T* g = static_cast<const T*>(row[1]);
    float* m = static_cast<float*>(row[2]);
    float* v = static_cast<float*>(row[3]);
    float* original = static_cast<float*>(row[4]);
    const long long n = sizes[chunk.tensor], first = static_cast<long long>(chunk.part) * CHUNK, end = min(first + CHUNK, n);
    const float factor = scale ? *scale : 1.0f;
    constexpr int L = LANES<float>;  // what is of float32 is most of it
    for (long long i = first + threadIdx.x * L; i < end; i += blockDim.x * L) {
        float average[L], square[L], value[L];
        load<float>(average, m, i, end);
        load<float>(square, v, i, end);
        if (original) load<float>(value, original, i, end);
#pragma unroll
        for (int j = 0; j < L; ++j) {
            if (!original) value[j] = i + j < end ? widened(p[i + j]) : 0.0f;
            const float slope = i + j < end ? widened(g[i + j]) * factor : 0.0f;
            average[j] += (1 - beta1) * (slope - average[j]);
            square[j] = beta2 * square[j] + (1 - beta2) * slope * slope;
            value[j] = value[j] * keep - rate * average[j] / (sqrtf(square[j]) + eps);
            if (i + j < end) p[i + j] = narrowed<T>(value[j]);
        }
        store<float>(m, average, i, end);
        store<float>(v, square, i, end);
        if (original) store<float>(original, value, i, end);
    }
}

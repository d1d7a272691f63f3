// Dropout without a mask: y = x / (1 - p) where the number drawn for a place is at least the threshold, else 0.
//
// Place i gets word i % 4 of Philox's block i / 4, so that the backward, the same with g in the place of x, draws again
// what the forward drew. Bytes for n numbers of b bytes: 2 n b.

#include "common.cuh"
#include "philox.cuh"

extern "C" __global__ void dropout(const T* x, T* y, long long n, unsigned long long seed, unsigned threshold, float scale) {
    const long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * LANES<T>;
    if (i >= n) return;
    float v[LANES<T>];
    load<T>(v, x, i, n);
#pragma unroll
    for (int j = 0; j < LANES<T>; j += 4) {
        const uint4 drawn = philox((i + j) / 4, seed);
        const unsigned words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
#pragma unroll
        for (int k = 0; k < 4; ++k) v[j + k] = words[k] >= threshold ? v[j + k] * scale : 0.0f;
    }
    store<T>(y, v, i, n);
}

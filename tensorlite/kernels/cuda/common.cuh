// What all kernels share: numbers read and written 16 bytes at a time, and sums over a warp or a block.
//
// A module is one .cu file compiled for one element type, which is called T: float, __half or __nv_bfloat16 (-DELEMENT=…).
// Arrays are of T and arithmetic is in float, unless a parameter says otherwise. No kernel uses an atomic operation, so
// the same inputs give the same bits. Beside NVRTC a host's C++ compiler must understand every line (tests/cuda_on_host).

#include <cuda_fp16.h>
#include <cuda_bf16.h>

#ifndef ON_HOST
extern __shared__ __align__(16) float shared[];  // as much as the launch asks for
#endif

using T = ELEMENT;

constexpr int WARP = 32;
constexpr unsigned EVERY_LANE = 0xffffffffu;

template <typename A>
constexpr int LANES = 16 / sizeof(A);  // numbers in 16 bytes

__device__ inline float widened(float x) { return x; }
__device__ inline float widened(__half x) { return __half2float(x); }
__device__ inline float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename A>
__device__ inline A narrowed(float x);
template <>
__device__ inline float narrowed<float>(float x) { return x; }
template <>
__device__ inline __half narrowed<__half>(float x) { return __float2half_rn(x); }
template <>
__device__ inline __nv_bfloat16 narrowed<__nv_bfloat16>(float x) { return __float2bfloat16_rn(x); }

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

// Whether array[i] … array[i + LANES - 1] exist, from 0 to below `end`, and can be moved as one: at a multiple of 16 bytes.
template <typename A>
__device__ inline bool whole(const A* array, long long i, long long end) {
    return i >= 0 && i + LANES<A> <= end && reinterpret_cast<size_t>(array + i) % 16 == 0;
}

// array[i], …, as float; `beyond` in the place of those that do not exist.
template <typename A>
__device__ inline void load(float (&v)[LANES<A>], const A* array, long long i, long long end, float beyond = 0) {
    if (whole(array, i, end)) {
        const uint4 bits = *reinterpret_cast<const uint4*>(array + i);
        const A* narrow = reinterpret_cast<const A*>(&bits);
#pragma unroll
        for (int j = 0; j < LANES<A>; ++j) v[j] = widened(narrow[j]);
    } else {
#pragma unroll
        for (int j = 0; j < LANES<A>; ++j) v[j] = i + j >= 0 && i + j < end ? widened(array[i + j]) : beyond;
    }
}

// array[i], … = v, those that exist.
template <typename A>
__device__ inline void store(A* array, const float (&v)[LANES<A>], long long i, long long end) {
    if (whole(array, i, end)) {
        uint4 bits;
        A* narrow = reinterpret_cast<A*>(&bits);
#pragma unroll
        for (int j = 0; j < LANES<A>; ++j) narrow[j] = narrowed<A>(v[j]);
        *reinterpret_cast<uint4*>(array + i) = bits;
    } else {
#pragma unroll
        for (int j = 0; j < LANES<A>; ++j)
            if (i + j >= 0 && i + j < end) array[i + j] = narrowed<A>(v[j]);
    }
}

// The sum over the warp, in every lane, and in all of them the same bits. All 32 must take part; so below.
__device__ inline float warp_sum(float x) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(EVERY_LANE, x, distance);
    return x;
}

__device__ inline float warp_max(float x) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, distance));
    return x;
}

// The sum over a block of whole warps, in every thread.
__device__ inline float block_sum(float x) {
    __shared__ float of_warp[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = warp_sum(x);
    __syncthreads();  // nobody reads of_warp any more from the last call
    if (lane == 0) of_warp[warp] = x;
    __syncthreads();
    return warp_sum(lane < blockDim.x / WARP ? of_warp[lane] : 0.0f);
}

__device__ inline float block_max(float x) {
    __shared__ float of_warp[WARP];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = warp_max(x);
    __syncthreads();
    if (lane == 0) of_warp[warp] = x;
    __syncthreads();
    return warp_max(lane < blockDim.x / WARP ? of_warp[lane] : -infinity());
}

// e^x and a / b to about 2 units in the last place, in a few instructions.
__device__ inline float fast_sigmoid(float x) { return __fdividef(1.0f, 1.0f + __expf(-x)); }

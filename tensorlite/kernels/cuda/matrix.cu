// The sum of each column of an (N, C) array: the gradient of a bias, dbias = Σ g over the rows.
//
// In two steps, so that many blocks can work at once and the order is still always the same: each block sums a share of
// the rows into one row of a (parts, C) array of floats, then the parts are summed. Bytes: N C b, and the parts.

#include "common.cuh"

// A block of 32 x Y threads: each thread sums LANES neighbouring columns of every Y-th row of the part, and the Y sums of
// a column meet in shared memory: blockDim.x * blockDim.y * LANES floats.
template <typename In, typename Out>
__device__ void column_sum(const In* from, Out* to, int N, int C, int rows) {
    constexpr int L = LANES<In>;
    const int c = (blockIdx.x * blockDim.x + threadIdx.x) * L;
    const int first = blockIdx.y * rows, last = min(first + rows, N);
    float total[L] = {};
    if (c < C) {
#pragma unroll 4
        for (int n = first + threadIdx.y; n < last; n += blockDim.y) {
            const long long row = static_cast<long long>(n) * C;
            float v[L];
            load<In>(v, from, row + c, row + C);
#pragma unroll
            for (int j = 0; j < L; ++j) total[j] += v[j];
        }
    }
    const int width = blockDim.x * L;
#pragma unroll
    for (int j = 0; j < L; ++j) shared[threadIdx.y * width + threadIdx.x * L + j] = total[j];
    __syncthreads();
    for (int k = threadIdx.y * blockDim.x + threadIdx.x; k < width; k += blockDim.x * blockDim.y) {
        float all = 0;
        for (int y = 0; y < blockDim.y; ++y) all += shared[y * width + k];
        const int column = blockIdx.x * width + k;
        if (column < C) to[static_cast<long long>(blockIdx.y) * C + column] = narrowed<Out>(all);
    }
}

// (N, C) of T -> (parts, C) of float, `rows` rows to a part
extern "C" __global__ void column_sum_parts(const T* x, float* parts, int N, int C, int rows) {
    column_sum<T, float>(x, parts, N, C, rows);
}

// (parts, C) of float -> (C,) of T
extern "C" __global__ void column_sum_total(const float* parts, T* sum, int N, int C) {
    column_sum<float, T>(parts, sum, N, C, N);
}

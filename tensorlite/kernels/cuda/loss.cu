// Cross-entropy of (N, V) logits and N targets, weighted by row, and its gradient.
//
//   loss = weight (logsumexp(logits) - logits[target])       dlogits = g weight (softmax(logits) - onehot(target))
//
// A row whose weight is 0 has loss and gradient 0, also where its logits are not finite. A target that is no class makes
// its loss nan and takes no part in the gradient: nothing else can be said without waiting for the GPU.
//
// Bytes, an element of T being b: forward N V b, backward 2 N V b. In place, both at once: 2 N V b, and nothing is kept:
// that is the fast way, of a loss that ends in a number.

#include "common.cuh"
#include "rows.cuh"

__device__ inline float loss_of(const T* row, float logsumexp, long long target, int V, float weight) {
    if (weight == 0) return 0;
    return target >= 0 && target < V ? weight * (logsumexp - widened(row[target])) : __int_as_float(0x7fc00000);
}

// dlogits of a row, which may be the row itself: a thread writes only what it has read
__device__ inline void write_gradient(const T* row, T* out, float logsumexp, long long target, int V, float scale) {
    for (int c = first_column(row); c < V; c += blockDim.x * LANES<T>) {
        float v[LANES<T>];
        load<T>(v, row, c, V);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j)
            v[j] = scale == 0 ? 0.0f : scale * (__expf(v[j] - logsumexp) - (c + j == target ? 1.0f : 0.0f));
        store<T>(out, v, c, V);
    }
}

extern "C" __global__ void cross_entropy(const T* logits, const long long* target, const float* weight, float* loss,
                                         float* logsumexps, int V) {
    const T* row = logits + static_cast<long long>(blockIdx.x) * V;
    const float logsumexp = row_logsumexp(row, V);
    if (threadIdx.x == 0) {
        loss[blockIdx.x] = loss_of(row, logsumexp, target[blockIdx.x], V, weight ? weight[blockIdx.x] : 1.0f);
        logsumexps[blockIdx.x] = logsumexp;
    }
}

extern "C" __global__ void cross_entropy_backward(const float* g, const T* logits, const long long* target,
                                                  const float* weight, const float* logsumexps, T* dlogits, int V) {
    const long long start = static_cast<long long>(blockIdx.x) * V;
    const float scale = weight ? (weight[blockIdx.x] == 0 ? 0.0f : g[blockIdx.x] * weight[blockIdx.x]) : g[blockIdx.x];
    write_gradient(logits + start, dlogits + start, logsumexps[blockIdx.x], target[blockIdx.x], V, scale);
}

// The loss, and in the place of the logits its gradient.
extern "C" __global__ void cross_entropy_in_place(T* logits, const long long* target, const float* weight, float* loss, int V,
                                                  int gradient) {
    T* row = logits + static_cast<long long>(blockIdx.x) * V;
    const float logsumexp = row_logsumexp(row, V);
    if (threadIdx.x == 0) loss[blockIdx.x] = loss_of(row, logsumexp, target[blockIdx.x], V, weight[blockIdx.x]);
    __syncthreads();  // the target's logit has been read
    if (gradient) write_gradient(row, row, logsumexp, target[blockIdx.x], V, weight[blockIdx.x]);
}

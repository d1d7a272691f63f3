// layer_norm and rms_norm of the rows of an (N, C) array, and their gradients.
//
//   s = x + residual (or x)          m = average(s) (rms_norm: 0)       r = 1 / sqrt(average((s - m)²) + eps)
//   n = (s - m) r                    y = n weight + bias
//
// Backward, with h = g weight:  dx = r (h - average(h) - n average(h n)) + dsum,   dweight = Σ g n,   dbias = Σ g
// (rms_norm has no average(h)); dsum is the gradient that comes to s from elsewhere.
//
// Bytes that must move, an element of T being b: forward 2 N C b, with a residual 4 N C b; backward 3 N C b, with dsum
// 4 N C b. Weight, bias, m and r are small beside that.

#include "common.cuh"

// Where a warp keeps column c of a row in shared memory. A lane has LANES neighbouring columns; theirs of one number j lie
// side by side, so that the lanes of a warp never meet in a bank.
__device__ inline int place(int c) {
    constexpr int L = LANES<T>;
    const int within = c % (WARP * L);
    return c - within + within % L * WARP + within / L;
}

// 1. A block per row. It reads the row three times, twice from the cache.
extern "C" __global__ void layer_norm_forward_1(const T* x, const T* residual, const T* weight, const T* bias, T* sum, T* y,
                                                float* mean, float* rstd, int C, float eps) {
    const long long row = static_cast<long long>(blockIdx.x) * C;
    float total = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float s = widened(x[row + c]);
        if (residual) {
            sum[row + c] = narrowed<T>(s + widened(residual[row + c]));
            s = widened(sum[row + c]);  // rounded, as the backward will see it
        }
        total += s;
    }
    const T* source = residual ? sum : x;  // each thread reads what it wrote itself
    const float m = mean ? block_sum(total) / C : 0.0f;
    float squares = 0;
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        const float d = widened(source[row + c]) - m;
        squares += d * d;
    }
    const float r = 1 / sqrtf(block_sum(squares) / C + eps);
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float n = (widened(source[row + c]) - m) * r;
        if (weight) n *= widened(weight[c]);
        if (bias) n += widened(bias[c]);
        y[row + c] = narrowed<T>(n);
    }
    if (threadIdx.x == 0) {
        if (mean) mean[blockIdx.x] = m;
        rstd[blockIdx.x] = r;
    }
}

// 2. A warp per row, which waits for no other warp. The row is read once, 16 bytes a lane, and kept in shared memory:
// C floats a warp, C rounded up to a multiple of 32 LANES. Each lane reads back only what it wrote.
extern "C" __global__ void layer_norm_forward_2(const T* x, const T* residual, const T* weight, const T* bias, T* sum, T* y,
                                                float* mean, float* rstd, int N, int C, float eps) {
    constexpr int L = LANES<T>;
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP, warp = threadIdx.x / WARP;
    const int n = blockIdx.x * warps + warp;
    if (n >= N) return;  // the whole warp
    const long long row = static_cast<long long>(n) * C, end = row + C;
    float* kept = shared + static_cast<size_t>(warp) * ((C + WARP * L - 1) / (WARP * L) * (WARP * L));
    float total = 0;
    for (int c = lane * L; c < C; c += WARP * L) {
        float v[L];
        load<T>(v, x, row + c, end);
        if (residual) {
            float other[L];
            load<T>(other, residual, row + c, end);
#pragma unroll
            for (int j = 0; j < L; ++j) v[j] = widened(narrowed<T>(v[j] + other[j]));  // as the backward will see it
            store<T>(sum, v, row + c, end);
        }
#pragma unroll
        for (int j = 0; j < L; ++j) {
            kept[place(c + j)] = v[j];
            total += v[j];
        }
    }
    const float m = mean ? warp_sum(total) / C : 0.0f;
    float squares = 0;
    for (int c = lane * L; c < C; c += WARP * L) {
#pragma unroll
        for (int j = 0; j < L; ++j) {
            const float d = c + j < C ? kept[place(c + j)] - m : 0.0f;
            squares += d * d;
        }
    }
    const float r = 1 / sqrtf(warp_sum(squares) / C + eps);
    for (int c = lane * L; c < C; c += WARP * L) {
        float v[L], w[L], b[L];
        if (weight) load<T>(w, weight, c, C);
        if (bias) load<T>(b, bias, c, C);
#pragma unroll
        for (int j = 0; j < L; ++j) {
            v[j] = (kept[place(c + j)] - m) * r;
            if (weight) v[j] *= w[j];
            if (bias) v[j] += b[j];
        }
        store<T>(y, v, row + c, end);
    }
    if (lane == 0) {
        if (mean) mean[n] = m;
        rstd[n] = r;
    }
}

// A warp per row again, which goes on to others. Along the way each warp sums g n and g by column, in shared memory: 2 C
// floats a warp, C rounded up to a multiple of 32 LANES. The block adds those of its warps up and writes them as its row of
// dweights and dbiases, (blocks, C) floats each; matrix.cu's column_sum_total adds the rows.
extern "C" __global__ void layer_norm_backward(const T* g, const T* x, const T* weight, const float* mean,
                                               const float* rstd, const T* dsum, T* dx, float* dweights, float* dbiases,
                                               int N, int C) {
    constexpr int L = LANES<T>;
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP, warp = threadIdx.x / WARP;
    const int width = (C + WARP * L - 1) / (WARP * L) * (WARP * L);
    float* by_column = shared + static_cast<size_t>(warp) * 2 * width;  // of g n, then of g
    for (int c = lane * L; c < C; c += WARP * L)
#pragma unroll
        for (int j = 0; j < L; ++j) by_column[place(c + j)] = by_column[width + place(c + j)] = 0;

    for (int n = blockIdx.x * warps + warp; n < N; n += gridDim.x * warps) {
        const long long row = static_cast<long long>(n) * C, end = row + C;
        const float m = mean ? mean[n] : 0.0f, r = rstd[n];
        float of_h = 0, of_hn = 0;
        for (int c = lane * L; c < C; c += WARP * L) {
            float arriving[L], v[L], w[L];
            load<T>(arriving, g, row + c, end);
            load<T>(v, x, row + c, end);
            if (weight) load<T>(w, weight, c, C);
#pragma unroll
            for (int j = 0; j < L; ++j) {
                const float normal = (v[j] - m) * r;
                const float h = weight ? arriving[j] * w[j] : arriving[j];  // beyond C, 0
                of_h += h;
                of_hn += h * normal;
                by_column[place(c + j)] += arriving[j] * normal;
                by_column[width + place(c + j)] += arriving[j];
            }
        }
        of_h = mean ? warp_sum(of_h) / C : 0.0f;
        of_hn = warp_sum(of_hn) / C;
        for (int c = lane * L; c < C; c += WARP * L) {  // from the cache
            float arriving[L], v[L], w[L], also[L];
            load<T>(arriving, g, row + c, end);
            load<T>(v, x, row + c, end);
            if (weight) load<T>(w, weight, c, C);
            if (dsum) load<T>(also, dsum, row + c, end);
#pragma unroll
            for (int j = 0; j < L; ++j) {
                const float normal = (v[j] - m) * r;
                const float h = weight ? arriving[j] * w[j] : arriving[j];
                v[j] = r * (h - of_h - normal * of_hn);
                if (dsum) v[j] += also[j];
            }
            store<T>(dx, v, row + c, end);
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        float by_weight = 0, by_bias = 0;
        for (int k = 0; k < warps; ++k) {
            by_weight += shared[k * 2 * width + place(c)];
            by_bias += shared[k * 2 * width + width + place(c)];
        }
        if (dweights) dweights[static_cast<long long>(blockIdx.x) * C + c] = by_weight;
        if (dbiases) dbiases[static_cast<long long>(blockIdx.x) * C + c] = by_bias;
    }
}

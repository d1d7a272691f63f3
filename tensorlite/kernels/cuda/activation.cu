// GELU, SiLU and SwiGLU, and their slopes times what arrives; softmax and log_softmax of rows.
//
//   gelu, tanh form   x s  with s = sigmoid(2u), u = c (x + a x³)      slope  s + 2 x s (1 - s) c (1 + 3 a x²)
//   gelu, exact       x Φ(x)                                           slope  Φ(x) + x φ(x)
//   silu              x s  with s = sigmoid(x)                         slope  s + x s (1 - s)
//   swiglu            silu(gate) up                                    dgate = g up silu'(gate),  dup = g silu(gate)
//   softmax           y = exp(x - logsumexp)                           dx = (g - Σ g y) y
//   log_softmax       y = x - logsumexp                                dx = g - exp(y) Σ g
//
// (tanh(u) = 2 sigmoid(2u) - 1 is why the tanh form is one exponential and one division.)
// Bytes for n numbers of b bytes: forward 2 n b, backward 3 n b; swiglu 3 n b and 5 n b.

#include "common.cuh"
#include "rows.cuh"

constexpr float C = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float A = 0.044715f;
constexpr float LIMIT = 40;  // beyond, factor and slope are 0 or 1 to the last bit, and powers of x could overflow

__device__ inline float limited(float x) { return x < -LIMIT ? -LIMIT : x > LIMIT ? LIMIT : x; }  // nan stays nan

__device__ inline float gelu_tanh_of(float x) {
    const float z = limited(x);
    return x * fast_sigmoid(2 * C * (z + A * z * z * z));
}

__device__ inline float gelu_tanh_slope(float x) {
    const float z = limited(x), s = fast_sigmoid(2 * C * (z + A * z * z * z));
    return s + 2 * z * s * (1 - s) * C * (1 + 3 * A * z * z);
}

__device__ inline float below(float x) { return 0.5f * (1 + erff(x * 0.70710678f)); }  // Φ

__device__ inline float gelu_erf_of(float x) { return x * below(x); }

__device__ inline float gelu_erf_slope(float x) {
    const float z = limited(x);
    return below(z) + z * __expf(-0.5f * z * z) * 0.3989422804f;  // 1 / sqrt(2 pi)
}

__device__ inline float silu_of(float x) { return x * fast_sigmoid(x); }

__device__ inline float silu_slope(float x) {
    const float s = fast_sigmoid(x);
    return s + limited(x) * s * (1 - s);
}

// Each thread has LANES neighbours.
template <float f(float)>
__device__ void map(const T* x, T* y, long long n) {
    const long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * LANES<T>;
    if (i >= n) return;
    float v[LANES<T>];
    load<T>(v, x, i, n);
#pragma unroll
    for (int j = 0; j < LANES<T>; ++j) v[j] = f(v[j]);
    store<T>(y, v, i, n);
}

template <float slope(float)>
__device__ void map_backward(const T* g, const T* x, T* dx, long long n) {
    const long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * LANES<T>;
    if (i >= n) return;
    float v[LANES<T>], arriving[LANES<T>];
    load<T>(v, x, i, n);
    load<T>(arriving, g, i, n);
#pragma unroll
    for (int j = 0; j < LANES<T>; ++j) v[j] = arriving[j] * slope(v[j]);
    store<T>(dx, v, i, n);
}

extern "C" __global__ void gelu_tanh(const T* x, T* y, long long n) { map<gelu_tanh_of>(x, y, n); }
extern "C" __global__ void gelu_erf(const T* x, T* y, long long n) { map<gelu_erf_of>(x, y, n); }
extern "C" __global__ void silu(const T* x, T* y, long long n) { map<silu_of>(x, y, n); }

extern "C" __global__ void gelu_tanh_backward(const T* g, const T* x, T* dx, long long n) {
    map_backward<gelu_tanh_slope>(g, x, dx, n);
}
extern "C" __global__ void gelu_erf_backward(const T* g, const T* x, T* dx, long long n) {
    map_backward<gelu_erf_slope>(g, x, dx, n);
}
extern "C" __global__ void silu_backward(const T* g, const T* x, T* dx, long long n) {
    map_backward<silu_slope>(g, x, dx, n);
}

extern "C" __global__ void swiglu(const T* gate, const T* up, T* y, long long n) {
    const long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * LANES<T>;
    if (i >= n) return;
    float v[LANES<T>], factor[LANES<T>];
    load<T>(v, gate, i, n);
    load<T>(factor, up, i, n);
#pragma unroll
    for (int j = 0; j < LANES<T>; ++j) v[j] = silu_of(v[j]) * factor[j];
    store<T>(y, v, i, n);
}

extern "C" __global__ void swiglu_backward(const T* g, const T* gate, const T* up, T* dgate, T* dup, long long n) {
    const long long i = (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) * LANES<T>;
    if (i >= n) return;
    float v[LANES<T>], factor[LANES<T>], arriving[LANES<T>];
    load<T>(v, gate, i, n);
    load<T>(factor, up, i, n);
    load<T>(arriving, g, i, n);
#pragma unroll
    for (int j = 0; j < LANES<T>; ++j) {
        factor[j] *= arriving[j] * silu_slope(v[j]);
        v[j] = arriving[j] * silu_of(v[j]);
    }
    store<T>(dgate, factor, i, n);
    store<T>(dup, v, i, n);
}

// A block per row of C numbers, which is read twice, the second time from the cache.
extern "C" __global__ void softmax(const T* x, T* y, int width, int logarithm) {
    const T* row = x + static_cast<long long>(blockIdx.x) * width;
    T* out = y + static_cast<long long>(blockIdx.x) * width;
    const float logsumexp = row_logsumexp(row, width);
    for (int c = first_column(row); c < width; c += blockDim.x * LANES<T>) {
        float v[LANES<T>];
        load<T>(v, row, c, width);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) v[j] = logarithm ? v[j] - logsumexp : __expf(v[j] - logsumexp);
        store<T>(out, v, c, width);
    }
}

extern "C" __global__ void softmax_backward(const T* g, const T* y, T* dx, int width, int logarithm) {
    const long long start = static_cast<long long>(blockIdx.x) * width;
    const int first = first_column(g + start);
    float inner = 0;
    for (int c = first; c < width; c += blockDim.x * LANES<T>) {
        float v[LANES<T>], arriving[LANES<T>];
        load<T>(arriving, g + start, c, width);
        if (!logarithm) load<T>(v, y + start, c, width);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) inner += logarithm ? arriving[j] : arriving[j] * v[j];
    }
    inner = block_sum(inner);
    for (int c = first; c < width; c += blockDim.x * LANES<T>) {
        float v[LANES<T>], arriving[LANES<T>];
        load<T>(arriving, g + start, c, width);
        load<T>(v, y + start, c, width);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j)
            v[j] = logarithm ? arriving[j] - __expf(v[j]) * inner : (arriving[j] - inner) * v[j];
        store<T>(dx + start, v, c, width);
    }
}

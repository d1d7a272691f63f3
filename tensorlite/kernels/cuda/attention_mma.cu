// Attention again (attention.cu has the formulas), for half precision on tensor cores: the fast way.
//
// A block of four warps has 64 queries, 16 to a warp (for dk and dv: keys), and meets MEETS keys (queries) at a time, of
// which a tile lies in shared memory. Scores stay in registers from the first product to the second: those of a warp's
// rows are its own. For dk and dv they are computed the other way round, keys by queries, so that it is the same there.

#include "common.cuh"
#include "attention.cuh"
#include "mma.cuh"

constexpr int ROWS = 64, OWN = 16;
constexpr int MEETS = HEAD > 64 ? 32 : 64;  // fewer where sums take more registers
constexpr int PITCH = HEAD + 8;             // numbers from a row to the next in shared memory: 8 rows meet in no bank

template <int N>
using Tile = float[N / 8][4];  // 16 x N, as C in mma.cuh

__device__ inline int lane() { return threadIdx.x % WARP; }
__device__ inline int row_of(int e) { return threadIdx.x / WARP * OWN + lane() / 4 + e / 2 * 8; }  // of the block's 64
__device__ inline int column_of(int n, int e) { return n * 8 + lane() % 4 * 2 + e % 2; }

// Rows first … of a head, `count` of them; zeros where there are none, and from D on.
__device__ void load_tile(T* tile, const T* x, long long row, int first, int count, int end, int D) {
    constexpr int L = LANES<T>, PACKS = HEAD / L;
    for (int i = threadIdx.x; i < count * PACKS; i += blockDim.x) {
        const int r = i / PACKS, c = i % PACKS * L;
        const T* source = x + (first + r) * row;
        uint4 bits = {0, 0, 0, 0};
        if (first + r < end && whole(source, c, D)) {
            bits = *reinterpret_cast<const uint4*>(source + c);
        } else if (first + r < end) {
            T* each = reinterpret_cast<T*>(&bits);
            for (int j = 0; j < L; ++j) if (c + j < D) each[j] = source[c + j];
        }
        *reinterpret_cast<uint4*>(tile + r * PITCH + c) = bits;
    }
}

// c += a bᵀ: the warp's 16 rows of a with N rows of b.
template <int N>
__device__ void rows_by_rows(Tile<N>& c, const T* a, const T* b) {
    const int l = lane();
    const T* left = a + (threadIdx.x / WARP * OWN + l % 16) * PITCH + l / 16 * 8;
    const T* right = b + (l / 16 * 8 + l % 8) * PITCH + l / 8 % 2 * 8;
#pragma unroll
    for (int k = 0; k < HEAD; k += 16) {
        unsigned of_a[4], of_b[4];
        load_matrices(of_a, left + k);
#pragma unroll
        for (int n = 0; n < N; n += 16) {
            load_matrices(of_b, right + n * PITCH + k);
            mma<T>(c[n / 8], of_a, of_b[0], of_b[1]);
            mma<T>(c[n / 8 + 1], of_a, of_b[2], of_b[3]);
        }
    }
}

// c += p b: the warp's 16 x K scores, rounded, with K rows of b.
template <int K>
__device__ void scores_by_rows(Tile<HEAD>& c, const Tile<K>& p, const T* b) {
    const T* right = b + lane() % 16 * PITCH + lane() / 16 * 8;
#pragma unroll
    for (int k = 0; k < K; k += 16) {
        const float (&near)[4] = p[k / 8], (&far)[4] = p[k / 8 + 1];
        const unsigned of_p[4] = {pair<T>(near[0], near[1]), pair<T>(near[2], near[3]), pair<T>(far[0], far[1]),
                                  pair<T>(far[2], far[3])};
#pragma unroll
        for (int n = 0; n < HEAD; n += 16) {
            unsigned of_b[4];
            load_transposed(of_b, right + k * PITCH + n);
            mma<T>(c[n / 8], of_p, of_b[0], of_b[1]);
            mma<T>(c[n / 8 + 1], of_p, of_b[2], of_b[3]);
        }
    }
}

// Times scale[0] in the warp's upper eight rows, scale[1] in the lower.
__device__ void write_rows(T* x, long long row, int first, int end, int D, const Tile<HEAD>& c, float upper, float lower) {
#pragma unroll
    for (int n = 0; n < HEAD / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
            const int r = first + row_of(e), column = column_of(n, e);
            if (r >= end || column >= D) continue;
            T* at = x + r * row + column;
            const float scale = e ? lower : upper;
            if (column + 1 < D && reinterpret_cast<size_t>(at) % 4 == 0) {
                *reinterpret_cast<unsigned*>(at) = pair<T>(c[n][e] * scale, c[n][e + 1] * scale);
            } else {
                at[0] = narrowed<T>(c[n][e] * scale);
                if (column + 1 < D) at[1] = narrowed<T>(c[n][e + 1] * scale);
            }
        }
}

// Over the four lanes that share a row.
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(EVERY_LANE, x, 1);
    return x + __shfl_xor_sync(EVERY_LANE, x, 2);
}

__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, 1));
    return fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, 2));
}

extern "C" __global__ void __launch_bounds__(128) attention_mma_forward(const T* q, const T* k, const T* v, T* y,
                                                                        float* logsumexp, Problem is) {
    T *qt = reinterpret_cast<T*>(shared), *kt = qt + ROWS * PITCH, *vt = kt + MEETS * PITCH;
    const int first = (gridDim.x - 1 - blockIdx.x) * ROWS;  // those with most keys begin first
    q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H), y += is.y.start(is.H);
    load_tile(qt, q, is.q.row, first, ROWS, is.Tq, is.D);
    Tile<HEAD> out = {};
    float top[2] = {-infinity(), -infinity()}, sum[2] = {0, 0};  // of the upper row and of the lower
    for (int key = 0; key < is.keys_before(first + ROWS); key += MEETS) {
        __syncthreads();  // nobody reads the last tile any more
        load_tile(kt, k, is.k.row, key, MEETS, is.S, is.D);
        load_tile(vt, v, is.v.row, key, MEETS, is.S, is.D);
        __syncthreads();
        Tile<MEETS> s = {};
        rows_by_rows<MEETS>(s, qt, kt);
        const bool all = is.sees_all(first, first + ROWS, key, key + MEETS);
        float highest[2] = {top[0], top[1]}, base[2];
#pragma unroll
        for (int n = 0; n < MEETS / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const bool seen = all || is.sees(first + row_of(e), key + column_of(n, e));
                s[n][e] = seen ? s[n][e] * is.scale : -infinity();
                highest[e / 2] = fmaxf(highest[e / 2], s[n][e]);
            }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            highest[half] = row_max(highest[half]);
            base[half] = highest[half] == -infinity() ? 0.0f : highest[half];
            const float shrink = __expf(top[half] - base[half]);
            top[half] = highest[half];
            sum[half] *= shrink;
#pragma unroll
            for (int n = 0; n < HEAD / 8; ++n) {
                out[n][2 * half] *= shrink;
                out[n][2 * half + 1] *= shrink;
            }
        }
#pragma unroll
        for (int n = 0; n < MEETS / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float p = __expf(s[n][e] - base[e / 2]);
                sum[e / 2] += p;  // of this lane's columns
                s[n][e] = p * is.factor(first + row_of(e), key + column_of(n, e));
            }
        scores_by_rows<MEETS>(out, s, vt);
    }
    sum[0] = row_sum(sum[0]);
    sum[1] = row_sum(sum[1]);
    if (lane() % 4 == 0)
        for (int half = 0; half < 2; ++half) {
            const int row = first + row_of(2 * half);
            if (row < is.Tq) logsumexp[static_cast<long long>(blockIdx.y) * is.Tq + row] = top[half] + logf(sum[half]);
        }
    write_rows(y, is.y.row, first, is.Tq, is.D, out, 1 / sum[0], 1 / sum[1]);
}

extern "C" __global__ void __launch_bounds__(128)
attention_mma_backward_queries(const T* g, const T* q, const T* k, const T* v, const float* logsumexp, const float* delta,
                               T* dq, Problem is) {
    T *qt = reinterpret_cast<T*>(shared), *gt = qt + ROWS * PITCH, *kt = gt + ROWS * PITCH, *vt = kt + MEETS * PITCH;
    const int first = (gridDim.x - 1 - blockIdx.x) * ROWS;
    g += is.g.start(is.H), q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H);
    load_tile(qt, q, is.q.row, first, ROWS, is.Tq, is.D);
    load_tile(gt, g, is.g.row, first, ROWS, is.Tq, is.D);
    float total[2], inner[2];
    for (int half = 0; half < 2; ++half) {
        const int row = first + row_of(2 * half);
        const long long at = static_cast<long long>(blockIdx.y) * is.Tq + row;
        total[half] = row < is.Tq ? logsumexp[at] : 0;
        inner[half] = row < is.Tq ? delta[at] : 0;
    }
    Tile<HEAD> out = {};
    for (int key = 0; key < is.keys_before(first + ROWS); key += MEETS) {
        __syncthreads();
        load_tile(kt, k, is.k.row, key, MEETS, is.S, is.D);
        load_tile(vt, v, is.v.row, key, MEETS, is.S, is.D);
        __syncthreads();
        Tile<MEETS> s = {}, dp = {};
        rows_by_rows<MEETS>(s, qt, kt);
        rows_by_rows<MEETS>(dp, gt, vt);
        const bool all = is.sees_all(first, first + ROWS, key, key + MEETS);
#pragma unroll
        for (int n = 0; n < MEETS / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int query = first + row_of(e), column = key + column_of(n, e);
                const float p = all || is.sees(query, column) ? __expf(s[n][e] * is.scale - total[e / 2]) : 0.0f;
                s[n][e] = p * (dp[n][e] * is.factor(query, column) - inner[e / 2]);  // dS
            }
        scores_by_rows<MEETS>(out, s, kt);
    }
    write_rows(dq + is.dq.start(is.H), is.dq.row, first, is.Tq, is.D, out, is.scale, is.scale);
}

extern "C" __global__ void __launch_bounds__(128)
attention_mma_backward_keys(const T* g, const T* q, const T* k, const T* v, const float* logsumexp, const float* delta, T* dk,
                            T* dv, Problem is) {
    T *kt = reinterpret_cast<T*>(shared), *vt = kt + ROWS * PITCH, *qt = vt + ROWS * PITCH, *gt = qt + MEETS * PITCH;
    float *total = reinterpret_cast<float*>(gt + MEETS * PITCH), *inner = total + MEETS;  // of the queries
    const int first = blockIdx.x * ROWS;
    g += is.g.start(is.H), q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H);
    load_tile(kt, k, is.k.row, first, ROWS, is.S, is.D);
    load_tile(vt, v, is.v.row, first, ROWS, is.S, is.D);
    Tile<HEAD> of_key = {}, of_value = {};
    for (int query = is.causal ? first : 0; query < is.Tq; query += MEETS) {
        __syncthreads();
        load_tile(qt, q, is.q.row, query, MEETS, is.Tq, is.D);
        load_tile(gt, g, is.g.row, query, MEETS, is.Tq, is.D);
        for (int i = threadIdx.x; i < MEETS; i += blockDim.x) {
            const long long at = static_cast<long long>(blockIdx.y) * is.Tq + query + i;
            total[i] = query + i < is.Tq ? logsumexp[at] : 0;
            inner[i] = query + i < is.Tq ? delta[at] : 0;
        }
        __syncthreads();
        Tile<MEETS> s = {}, dp = {};  // keys by queries
        rows_by_rows<MEETS>(s, kt, qt);
        rows_by_rows<MEETS>(dp, vt, gt);
        const bool all = is.sees_all(query, query + MEETS, first, first + ROWS);
#pragma unroll
        for (int n = 0; n < MEETS / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int key = first + row_of(e), column = column_of(n, e);
                const float p = all || is.sees(query + column, key) ? __expf(s[n][e] * is.scale - total[column]) : 0.0f;
                const float factor = is.factor(query + column, key);
                s[n][e] = p * factor;
                dp[n][e] = p * (dp[n][e] * factor - inner[column]);  // dS
            }
        scores_by_rows<MEETS>(of_value, s, gt);
        scores_by_rows<MEETS>(of_key, dp, qt);
    }
    write_rows(dk + is.dk.start(is.H), is.dk.row, first, is.S, is.D, of_key, is.scale, is.scale);
    write_rows(dv + is.dv.start(is.H), is.dv.row, first, is.S, is.D, of_value, 1, 1);
}

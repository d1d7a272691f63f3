// Attention, tile by tile, so that no (T, S) array is ever in memory (Dao et al., FlashAttention, 2022; Dao,
// FlashAttention-2, 2023):
//
//   y = P v,   P = exp(scale q kᵀ - logsumexp)    (causal: query i sees keys 0 … i)
//   dv = Pᵀ g,   dS = P (g vᵀ - delta),   delta = rowsum(g y),   dq = scale dS k,   dk = scale dSᵀ q
//
// Dropout multiplies P by its factors where it stands before v and g. A block has 64 queries (or keys, for dk and dv) and
// meets 64 keys (queries) at a time; 16 x 16 threads share the tile's 64 x 64 scores, 4 x 4 each: thread (x, y) has rows
// y, y + 16, … and columns x, x + 16, …. All arithmetic is in float, on the ordinary cores; D <= HEAD, rest zeros.
//
// Operations: forward 4 B H T S D, backward 14 (10, and q kᵀ and g vᵀ once more so that nothing is added up by atomics);
// causal half of that. Bytes are few beside these.

#include "common.cuh"
#include "attention.cuh"

constexpr int TILE = 64;
constexpr int SIDE = 16;         // of the square of threads
constexpr int OWN = TILE / SIDE; // rows, and columns, of a thread
constexpr int SCORES = TILE + 4; // floats to a row of a tile of scores in shared memory

constexpr int ROW = HEAD + 4;    // and of queries, keys …: four more, so that rows start in different banks

// Rows first … first + 63 of a head, as float.
__device__ void load_tile(float* tile, const T* x, long long row, int first, int end, int D) {
    constexpr int PACKS = HEAD / LANES<T>;
    const int thread = threadIdx.y * SIDE + threadIdx.x;
    for (int i = thread; i < TILE * PACKS; i += SIDE * SIDE) {
        const int r = i / PACKS, c = i % PACKS * LANES<T>;
        float v[LANES<T>] = {};
        if (first + r < end) load<T>(v, x + (first + r) * row, c, D);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) tile[r * ROW + c + j] = v[j];
    }
}

// c += a bᵀ over rows of HEAD numbers: scores.
__device__ void rows_by_rows(float (&c)[OWN][OWN], const float* a, const float* b) {
#pragma unroll 2
    for (int d = 0; d < HEAD; d += 4) {
        float4 left[OWN], right[OWN];
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            left[i] = *reinterpret_cast<const float4*>(a + (i * SIDE + threadIdx.y) * ROW + d);
            right[i] = *reinterpret_cast<const float4*>(b + (i * SIDE + threadIdx.x) * ROW + d);
        }
#pragma unroll
        for (int i = 0; i < OWN; ++i)
#pragma unroll
            for (int j = 0; j < OWN; ++j) {
                c[i][j] += left[i].x * right[j].x + left[i].y * right[j].y;
                c[i][j] += left[i].z * right[j].z + left[i].w * right[j].w;
            }
    }
}

// c += p b, p a tile of scores, or (TRANSPOSED) pᵀ b.
template <bool TRANSPOSED>
__device__ void scores_by_rows(float (&c)[OWN][HEAD / SIDE], const float* p, const float* b) {
#pragma unroll 4
    for (int n = 0; n < TILE; ++n) {
        float left[OWN], right[HEAD / SIDE];
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const int own = i * SIDE + threadIdx.y;
            left[i] = TRANSPOSED ? p[n * SCORES + own] : p[own * SCORES + n];
        }
#pragma unroll
        for (int j = 0; j < HEAD / SIDE; ++j) right[j] = b[n * ROW + j * SIDE + threadIdx.x];
#pragma unroll
        for (int i = 0; i < OWN; ++i)
#pragma unroll
            for (int j = 0; j < HEAD / SIDE; ++j) c[i][j] += left[i] * right[j];
    }
}

// c times scale[i], as rows of a head.
__device__ void write_rows(T* x, long long row, int first, int end, int D, const float (&c)[OWN][HEAD / SIDE],
                           const float (&scale)[OWN]) {
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int r = first + i * SIDE + threadIdx.y;
#pragma unroll
        for (int j = 0; j < HEAD / SIDE; ++j) {
            const int column = j * SIDE + threadIdx.x;
            if (r < end && column < D) x[r * row + column] = narrowed<T>(c[i][j] * scale[i]);
        }
    }
}

// Over the 16 threads that share a row.
__device__ inline float row_sum(float x) {
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(EVERY_LANE, x, distance);
    return x;
}

__device__ inline float row_max(float x) {
#pragma unroll
    for (int distance = SIDE / 2; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(EVERY_LANE, x, distance));
    return x;
}

extern "C" __global__ void __launch_bounds__(256) attention_forward(const T* q, const T* k, const T* v, T* y,
                                                                    float* logsumexp, Problem is) {
    float *qt = shared, *kt = qt + TILE * ROW, *vt = kt + TILE * ROW, *pt = vt + TILE * ROW;
    const int first = (gridDim.x - 1 - blockIdx.x) * TILE;  // those with most keys begin first
    q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H), y += is.y.start(is.H);
    load_tile(qt, q, is.q.row, first, is.Tq, is.D);
    float out[OWN][HEAD / SIDE] = {}, top[OWN], sum[OWN] = {};
    for (int i = 0; i < OWN; ++i) top[i] = -infinity();
    for (int key = 0; key < is.keys_before(first + TILE); key += TILE) {
        __syncthreads();  // nobody reads the last tile any more
        load_tile(kt, k, is.k.row, key, is.S, is.D);
        load_tile(vt, v, is.v.row, key, is.S, is.D);
        __syncthreads();
        float s[OWN][OWN] = {};
        rows_by_rows(s, qt, kt);
#pragma unroll
        for (int i = 0; i < OWN; ++i) {
            const int row = i * SIDE + threadIdx.y;
            float highest = top[i];
#pragma unroll
            for (int j = 0; j < OWN; ++j) {
                const bool seen = is.sees(first + row, key + j * SIDE + threadIdx.x);
                s[i][j] = seen ? s[i][j] * is.scale : -infinity();
                highest = fmaxf(highest, s[i][j]);
            }
            highest = row_max(highest);
            const float base = highest == -infinity() ? 0.0f : highest, shrink = __expf(top[i] - base);
            top[i] = highest;
            float added = 0;
#pragma unroll
            for (int j = 0; j < OWN; ++j) {
                const int column = j * SIDE + threadIdx.x;
                const float p = __expf(s[i][j] - base);
                added += p;
                pt[row * SCORES + column] = p * is.factor(first + row, key + column);
            }
            sum[i] = sum[i] * shrink + row_sum(added);
#pragma unroll
            for (int j = 0; j < HEAD / SIDE; ++j) out[i][j] *= shrink;
        }
        __syncwarp();  // a row of scores is one warp's work
        scores_by_rows<false>(out, pt, vt);
    }
    float divided[OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int row = first + i * SIDE + threadIdx.y;
        divided[i] = 1 / sum[i];
        if (row < is.Tq && threadIdx.x == 0) logsumexp[static_cast<long long>(blockIdx.y) * is.Tq + row] = top[i] + logf(sum[i]);
    }
    write_rows(y, is.y.row, first, is.Tq, is.D, out, divided);
}

// The weights of a tile, times dropout's factors, into p, and dS into ds, by which the tile's products go on.
__device__ void weights_and_slopes(const float* qt, const float* kt, const float* vt, const float* gt, float* pt, float* st,
                                   const float* logsumexp, const float* delta, int query, int key, const Problem& is) {
    float s[OWN][OWN] = {}, dp[OWN][OWN] = {};
    rows_by_rows(s, qt, kt);
    rows_by_rows(dp, gt, vt);
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const int row = i * SIDE + threadIdx.y;
        const long long at = static_cast<long long>(blockIdx.y) * is.Tq + query + row;
        const float total = query + row < is.Tq ? logsumexp[at] : 0, inner = query + row < is.Tq ? delta[at] : 0;
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const int column = j * SIDE + threadIdx.x;
            const float p = is.sees(query + row, key + column) ? __expf(s[i][j] * is.scale - total) : 0;
            const float factor = is.factor(query + row, key + column);
            if (pt) pt[row * SCORES + column] = p * factor;
            st[row * SCORES + column] = p * (dp[i][j] * factor - inner);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256, 1)
attention_backward_queries(const T* g, const T* q, const T* k, const T* v, const float* logsumexp, const float* delta, T* dq,
                           Problem is) {
    constexpr int SIZE = TILE * ROW;
    float *qt = shared, *gt = qt + SIZE, *kt = gt + SIZE, *vt = kt + SIZE, *st = vt + SIZE;
    const int first = (gridDim.x - 1 - blockIdx.x) * TILE;
    g += is.g.start(is.H), q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H);
    load_tile(qt, q, is.q.row, first, is.Tq, is.D);
    load_tile(gt, g, is.g.row, first, is.Tq, is.D);
    float out[OWN][HEAD / SIDE] = {};
    for (int key = 0; key < is.keys_before(first + TILE); key += TILE) {
        __syncthreads();
        load_tile(kt, k, is.k.row, key, is.S, is.D);
        load_tile(vt, v, is.v.row, key, is.S, is.D);
        __syncthreads();
        weights_and_slopes(qt, kt, vt, gt, nullptr, st, logsumexp, delta, first, key, is);
        __syncwarp();  // a row of scores is one warp's work
        scores_by_rows<false>(out, st, kt);
    }
    const float scale[OWN] = {is.scale, is.scale, is.scale, is.scale};
    write_rows(dq + is.dq.start(is.H), is.dq.row, first, is.Tq, is.D, out, scale);
}

extern "C" __global__ void __launch_bounds__(256, 1)
attention_backward_keys(const T* g, const T* q, const T* k, const T* v, const float* logsumexp, const float* delta, T* dk,
                        T* dv, Problem is) {
    constexpr int SIZE = TILE * ROW;
    float *kt = shared, *vt = kt + SIZE, *qt = vt + SIZE, *gt = qt + SIZE, *pt = gt + SIZE, *st = pt + TILE * SCORES;
    const int first = blockIdx.x * TILE;
    g += is.g.start(is.H), q += is.q.start(is.H), k += is.k.start(is.H), v += is.v.start(is.H);
    load_tile(kt, k, is.k.row, first, is.S, is.D);
    load_tile(vt, v, is.v.row, first, is.S, is.D);
    float of_key[OWN][HEAD / SIDE] = {}, of_value[OWN][HEAD / SIDE] = {};
    for (int query = is.causal ? first : 0; query < is.Tq; query += TILE) {
        __syncthreads();
        load_tile(qt, q, is.q.row, query, is.Tq, is.D);
        load_tile(gt, g, is.g.row, query, is.Tq, is.D);
        __syncthreads();
        weights_and_slopes(qt, kt, vt, gt, pt, st, logsumexp, delta, query, first, is);
        __syncthreads();
        scores_by_rows<true>(of_value, pt, gt);
        scores_by_rows<true>(of_key, st, qt);
    }
    const float scale[OWN] = {is.scale, is.scale, is.scale, is.scale}, one[OWN] = {1, 1, 1, 1};
    write_rows(dk + is.dk.start(is.H), is.dk.row, first, is.S, is.D, of_key, scale);
    write_rows(dv + is.dv.start(is.H), is.dv.row, first, is.S, is.D, of_value, one);
}

// delta = rowsum(g y): a warp per row. Bytes: 2 B H T D b.
extern "C" __global__ void attention_delta(const T* g, const T* y, float* delta, Problem is) {
    const int lane = threadIdx.x % WARP, row = blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (row >= is.Tq) return;
    g += is.g.start(is.H) + row * is.g.row;
    y += is.y.start(is.H) + row * is.y.row;
    float sum = 0;
    for (int d = lane; d < is.D; d += WARP) sum += widened(g[d]) * widened(y[d]);
    sum = warp_sum(sum);
    if (lane == 0) delta[static_cast<long long>(blockIdx.y) * is.Tq + row] = sum;
}

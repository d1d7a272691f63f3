// The gradient of an embedding: row i of out, (V, C), is the sum of the rows of g, (N, C), whose token is i.
//
// `order` sorts the positions by token (stable), so that equal tokens are neighbours, a run; `tokens` are they in that
// order. Each run is added from left to right and written once, by one thread: no atomics, always the same bits. One token
// may make up a large part of a text, so runs are cut into parts of PART positions, and then put together again.
//
// Bytes, an element of T being b: N C b read, as many rows written as there are different tokens; and `out` is zeroed.

#include "common.cuh"

constexpr int PART = 32;

// A block per part and per blockDim.x * LANES columns. A run that lies within the part is finished here. Of one that goes
// on in the next part, or came from the last, the sum goes to tails[part] or heads[part] (as one that does both).
extern "C" __global__ void embedding_parts(const T* g, const long long* order, const long long* tokens, T* out,
                                           float* heads, float* tails, int N, int V, int C) {
    const int c = (blockIdx.y * blockDim.x + threadIdx.x) * LANES<T>;
    if (c >= C) return;
    const int first = blockIdx.x * PART, last = min(first + PART, N);
    const long long edge = static_cast<long long>(blockIdx.x) * C;
    bool began = first == 0 || tokens[first - 1] != tokens[first];
    float sum[LANES<T>] = {};
    for (int i = first; i < last; ++i) {
        const long long token = tokens[i], row = order[i] * C;
        float v[LANES<T>];
        load<T>(v, g + row, c, C);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) sum[j] += v[j];
        const bool ends = i + 1 == N || tokens[i + 1] != token;
        if (!ends && i + 1 < last) continue;
        if (!began)
            for (int j = 0; j < LANES<T>; ++j) { if (c + j < C) heads[edge + c + j] = sum[j]; }
        else if (!ends)
            for (int j = 0; j < LANES<T>; ++j) { if (c + j < C) tails[edge + c + j] = sum[j]; }
        else if (token >= 0 && token < V)
            store<T>(out + token * C, sum, c, C);
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) sum[j] = 0;
        began = true;
    }
}

// The runs that go on beyond a part, by the part they begin in.
extern "C" __global__ void embedding_join(const long long* tokens, T* out, const float* heads, const float* tails, int N,
                                          int V, int C) {
    const int c = blockIdx.y * blockDim.x + threadIdx.x;
    const int first = blockIdx.x * PART, last = first + PART - 1;
    if (c >= C || last + 1 >= N) return;
    const long long token = tokens[last];
    const bool begins = first == 0 || tokens[first - 1] != token || tokens[first] != token;
    if (!begins || tokens[last + 1] != token || token < 0 || token >= V) return;
    float sum = tails[static_cast<long long>(blockIdx.x) * C + c];
    for (int start = last + 1; start < N && tokens[start] == token; start += PART)
        sum += heads[static_cast<long long>(start / PART) * C + c];
    out[token * C + c] = narrowed<T>(sum);
}

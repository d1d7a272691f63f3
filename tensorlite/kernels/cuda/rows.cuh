// Long rows, a block to each: where a thread starts, and the logarithm of the sum of the exponentials of a row.

// The first column of this thread, which goes on by blockDim.x * LANES. Where the row does not start at a multiple of 16
// bytes the threads are shifted to the left, so that all but the first and the last read whole 16 bytes; it may be < 0.
__device__ inline int first_column(const T* row) {
    return static_cast<int>(threadIdx.x) * LANES<T> - static_cast<int>(reinterpret_cast<size_t>(row) % 16 / sizeof(T));
}

// logsumexp = top + log(Σ exp(x - top)), in every thread. The row is read once: a thread's sum is scaled anew when it
// meets a larger number (Milakov, Gimelshein, Online normalizer calculation for softmax, 2018).
__device__ inline float row_logsumexp(const T* row, int width) {
    float top = -infinity(), sum = 0;
    for (int c = first_column(row); c < width; c += blockDim.x * LANES<T>) {
        float v[LANES<T>];
        load<T>(v, row, c, width, -infinity());
        float higher = top;
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) higher = fmaxf(higher, v[j]);
        const float base = higher == -infinity() ? 0.0f : higher;
        sum *= __expf(top - base);
        top = higher;
#pragma unroll
        for (int j = 0; j < LANES<T>; ++j) sum += __expf(v[j] - base);
    }
    const float highest = block_max(top), base = highest == -infinity() ? 0.0f : highest;
    return base + logf(block_sum(sum * __expf(top - base)));
}

// What all attention kernels share: what is asked of them, and which weights dropout keeps.

#ifndef HEAD
#define HEAD 64  // the most numbers that a query may have; the launch says
#endif

// A (B, H, T, D) array whose rows of D numbers are contiguous: how many numbers further the next of each dimension is.
struct Strides {
    long long batch, head, row;

    __device__ long long start(int heads) const {  // of the head that blockIdx.y names
        return blockIdx.y / heads * batch + blockIdx.y % heads * head;
    }
};

// As PROBLEM in attention.py: H heads, T queries, S keys, of D numbers.
struct Problem {
    Strides q, k, v, y, g, dq, dk, dv;
    int H, Tq, S, D, causal;
    float scale;
    unsigned seed_low, seed_high, threshold;  // of dropout; threshold 0: nothing is dropped
    float larger;                             // 1 / (1 - p)

    __device__ bool sees(int query, int key) const { return query < Tq && key < S && !(causal && key > query); }

    // Whether each query from `first` to below `end` sees each key from `key` to below `last`, so that none needs asking.
    __device__ bool sees_all(int first, int end, int key, int last) const {
        return end <= Tq && last <= S && !(causal && last > first + 1);
    }

    // How many keys the queries before `end` may see.
    __device__ int keys_before(int end) const { return causal ? min(S, end) : S; }

    // What dropout multiplies a weight by. As attention_kept in tensorlite/random.py.
    __device__ float factor(unsigned query, unsigned key) const {
        if (!threshold) return 1;
        const unsigned row = mixed((mixed(blockIdx.y ^ seed_low) + query) ^ seed_high);
        return mixed(row + key * 0x9E3779B9u) >= threshold ? larger : 0.0f;
    }

    __device__ static unsigned mixed(unsigned x) {
        x ^= x >> 16;
        x *= 0x7FEB352Du;
        x ^= x >> 15;
        x *= 0x846CA68Bu;
        return x ^ x >> 16;
    }
};

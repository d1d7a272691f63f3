// Philox 4x32-10: four random words from a key and a counter, and nothing remembered in between. As tensorlite/random.py.
// Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as 1, 2, 3, 2011.

__device__ inline uint4 philox(unsigned long long counter, unsigned long long seed) {
    uint4 x = {static_cast<unsigned>(counter), static_cast<unsigned>(counter >> 32), 0, 0};
    unsigned a = static_cast<unsigned>(seed), b = static_cast<unsigned>(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const unsigned high = __umulhi(0xD2511F53u, x.x), low = 0xD2511F53u * x.x;
        const unsigned other = __umulhi(0xCD9E8D57u, x.z), lower = 0xCD9E8D57u * x.z;
        x = {other ^ x.y ^ a, lower, high ^ x.w ^ b, low};
        a += 0x9E3779B9u;
        b += 0xBB67AE85u;
    }
    return x;
}

// Tensor cores: a warp multiplies a 16 x 16 matrix with a 16 x 8 one, and adds to a 16 x 8 one of float.
//
// The matrices are spread over the lanes (PTX ISA, "Matrix fragments for mma.m16n8k16"). With g = lane / 4, t = lane % 4,
// a register of two halves holds neighbours of a row of A, of a column of B:
//
//   A   a[0] (g, 2t)   a[1] (g + 8, 2t)   a[2] (g, 2t + 8)   a[3] (g + 8, 2t + 8)
//   B   b0 (2t, g)     b1 (2t + 8, g)
//   C   c[0], c[1] (g, 2t), (g, 2t + 1)   c[2], c[3] (g + 8, 2t), (g + 8, 2t + 1)
//
// So two neighbouring C's, rounded, are an A: the scores of attention go on to the next product without leaving registers.

#ifndef ON_HOST  // where cuda_on_host/on_host.h says the same without assembler

#define MMA(TYPE)                                                                                                    \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                             \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))

template <typename A>
__device__ inline void mma(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);
template <>
__device__ inline void mma<__half>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { MMA("f16"); }
template <>
__device__ inline void mma<__nv_bfloat16>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { MMA("bf16"); }

// Four 8 x 8 matrices from shared memory, of which lane 8 i + r names row r of matrix i: in register i lane 4 g + t gets
// (g, 2t) and its right neighbour; transposed, (2t, g) and the one below.
#define LDMATRIX(HOW)                                                                                                \
    asm volatile("ldmatrix.sync.aligned.m8n8.x4" HOW ".shared.b16 {%0,%1,%2,%3}, [%4];"                              \
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])                                                \
                 : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row))) : "memory")

__device__ inline void load_matrices(unsigned (&to)[4], const void* row) { LDMATRIX(""); }
__device__ inline void load_transposed(unsigned (&to)[4], const void* row) { LDMATRIX(".trans"); }

#endif

template <typename A>
__device__ inline unsigned pair(float low, float high) {
    const A both[2] = {narrowed<A>(low), narrowed<A>(high)};
    return *reinterpret_cast<const unsigned*>(both);
}

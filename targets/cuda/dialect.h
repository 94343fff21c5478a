/* The neutral names in CUDA C++ as NVRTC sees it, without any header. Same list as
 * targets/opencl/dialect.h, which documents it. */
#define DIALECT_CUDA 1
#define KERNEL(x, y, z) extern "C" __global__ void __launch_bounds__((x) * (y) * (z))
#define KERNEL_REGS(x, y, z, registers)                                                            \
    extern "C" __global__ void __launch_bounds__((x) * (y) * (z),                                  \
                                                 K_BLOCKS((x) * (y) * (z), registers))
#define K_BLOCKS(threads, registers)                                                               \
    ((registers) == 0 || (threads) * (registers) > 65536 ? 1 : 65536 / ((threads) * (registers)))
#define FUNC static __device__ __forceinline__
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, n) __shared__ __align__(16) type name[n]
#define RESTRICT __restrict__
#define BARRIER() __syncthreads()
#if __CUDA_ARCH__ >= 900
#define AFTER_PREVIOUS()                                                                           \
    asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory")
#else
#define AFTER_PREVIOUS()
#endif
#define THREAD(d) ((int)((d) == 0 ? threadIdx.x : (d) == 1 ? threadIdx.y : threadIdx.z))
#define BLOCK(d) ((int)((d) == 0 ? blockIdx.x : (d) == 1 ? blockIdx.y : blockIdx.z))
#define BLOCKS(d) ((int)((d) == 0 ? gridDim.x : (d) == 1 ? gridDim.y : gridDim.z))
#define UNROLL _Pragma("unroll")
#define PRAGMA_(x) _Pragma(#x)
#define UNROLL_N(n) PRAGMA_(unroll n)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define CAT4_(a, b, c, d) a##b##c##d
#define CAT4(a, b, c, d) CAT4_(a, b, c, d)
typedef long long i64;
typedef unsigned long long u64;
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned char u8;

#define STORAGE(T) CAT(storage_, T)
typedef float storage_f32;
typedef u16 storage_f16;
typedef u16 storage_bf16;
typedef signed char storage_i8;
typedef int storage_i32;
typedef float storage_tf32;
typedef u8 storage_e4m3;
typedef u8 storage_e5m2;

FUNC float k_from_bf16(u16 x) { return __uint_as_float((u32)x << 16); }
FUNC u16 k_to_bf16(float x) {
#if __CUDA_ARCH__ >= 800
    u16 r;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
#else
    u32 u = __float_as_uint(x), r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (u16)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : r);
#endif
}
FUNC float k_from_f16(u16 x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
FUNC u16 k_to_f16(float x) {
    u16 r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
}
FUNC signed char k_to_i8(float x) {
    int r = __float2int_rn(x);
    return (signed char)(r < -128 ? -128 : r > 127 ? 127 : r);
}

/* 8-bit floats: two at a time by instructions where there are any, the low half first; otherwise by
 * integers as in targets/opencl/dialect.h, which explains the steps. */
#if __CUDA_ARCH__ >= 890
#define K_EIGHT(T)                                                                                 \
    FUNC u16 k_to_##T##x2(float low, float high) {                                                 \
        u16 r;                                                                                     \
        asm("cvt.rn.satfinite." #T "x2.f32 %0, %1, %2;" : "=h"(r) : "f"(high), "f"(low));          \
        return r;                                                                                  \
    }                                                                                              \
    FUNC void k_from_##T##x2(u16 x, float *low, float *high) {                                     \
        u32 r;                                                                                     \
        asm("cvt.rn.f16x2." #T "x2 %0, %1;" : "=r"(r) : "h"(x));                                   \
        *low = k_from_f16((u16)r);                                                                 \
        *high = k_from_f16((u16)(r >> 16));                                                        \
    }                                                                                              \
    FUNC u8 k_to_##T(float x) { return (u8)k_to_##T##x2(x, 0.0f); }                                \
    FUNC float k_from_##T(u8 x) {                                                                  \
        float low, high;                                                                           \
        k_from_##T##x2(x, &low, &high);                                                            \
        return low;                                                                                \
    }
K_EIGHT(e4m3)
K_EIGHT(e5m2)
#else
/* M: bits of the mantissa, D: difference of biases, SPECIAL: first pattern of NaN or infinity. */
#define K_EIGHT(T, M, D, SPECIAL, TOP, SMALLEST, MAGIC)                                            \
    FUNC float k_from_##T(u8 x) {                                                                  \
        const u32 m = x & 0x7fu, sign = (x & 0x80u) << 24;                                         \
        u32 r = (m << (23 - M)) + (D << 23);                                                       \
        if (m >= SPECIAL) r |= 0x7f800000u;                                                        \
        if (m < (1u << M)) r = __float_as_uint((float)m * SMALLEST);                               \
        return __uint_as_float(r | sign);                                                          \
    }                                                                                              \
    FUNC u8 k_to_##T(float v) {                                                                    \
        const u32 x = __float_as_uint(v), m = x & 0x7fffffffu;                                     \
        u32 r = ((m + ((1u << (22 - M)) - 1u) + ((m >> (23 - M)) & 1u)) >> (23 - M)) - (D << M);   \
        if (r > TOP) r = TOP;                                                                      \
        if (m < ((D + 1u) << 23))                                                                  \
            r = __float_as_uint(__uint_as_float(m) + MAGIC) - __float_as_uint(MAGIC);              \
        if (m > 0x7f800000u) r = 0x7fu;                                                            \
        return (u8)(r | (x >> 24 & 0x80u));                                                        \
    }                                                                                              \
    FUNC u16 k_to_##T##x2(float low, float high) {                                                 \
        return (u16)(k_to_##T(low) | (u32)k_to_##T(high) << 8);                                    \
    }                                                                                              \
    FUNC void k_from_##T##x2(u16 x, float *low, float *high) {                                     \
        *low = k_from_##T((u8)x);                                                                  \
        *high = k_from_##T((u8)(x >> 8));                                                          \
    }
K_EIGHT(e4m3, 3, 120u, 0x7fu, 0x7eu, 0x1p-9f, 16384.0f)
K_EIGHT(e5m2, 2, 112u, 0x7cu, 0x7bu, 0x1p-16f, 128.0f)
#endif

/* One element from and to its storage. */
FUNC float k_get_f32(float x) { return x; }
FUNC float k_get_f16(u16 x) { return k_from_f16(x); }
FUNC float k_get_bf16(u16 x) { return k_from_bf16(x); }
FUNC int k_get_i8(signed char x) { return x; }
FUNC int k_get_i32(int x) { return x; }
FUNC float k_get_tf32(float x) { return x; }
FUNC float k_get_e4m3(u8 x) { return k_from_e4m3(x); }
FUNC float k_get_e5m2(u8 x) { return k_from_e5m2(x); }
FUNC float k_put_f32(float x) { return x; }
FUNC u16 k_put_f16(float x) { return k_to_f16(x); }
FUNC u16 k_put_bf16(float x) { return k_to_bf16(x); }
FUNC signed char k_put_i8(float x) { return k_to_i8(x); }
FUNC u8 k_put_e4m3(float x) { return k_to_e4m3(x); }
FUNC u8 k_put_e5m2(float x) { return k_to_e5m2(x); }
FUNC int k_put_i32(int x) { return x; }
FUNC int k_put_i32(float x) { return __float2int_rn(x); }
#define READ(T, p, i) CAT(k_get_, T)((p)[i])
#define WRITE(T, p, i, v) ((p)[i] = CAT(k_put_, T)(v))

/* W elements of an array from and to their storage, in pairs where that is what a conversion takes.
 * The arrays are registers: the loops are unrolled. */
#define K_GETS_ONE(T, W, e, dst)                                                                   \
    UNROLL for (int k_i = 0; k_i < W; k_i++)(dst)[k_i] = CAT(k_get_, T)((e)[k_i])
#define K_PUTS_ONE(T, W, e, src)                                                                   \
    UNROLL for (int k_i = 0; k_i < W; k_i++)(e)[k_i] = CAT(k_put_, T)((src)[k_i])
#define K_GETS_TWO(T, W, e, dst)                                                                   \
    if ((W) % 2) (dst)[0] = CAT(k_get_, T)((e)[0]);                                                \
    UNROLL for (int k_i = (W) % 2; k_i < (W); k_i += 2) {                                          \
        float k_low, k_high;                                                                       \
        CAT4(k_from_, T, x, 2)((u16)((e)[k_i] | (u32)(e)[k_i + 1] << 8), &k_low, &k_high);         \
        (dst)[k_i] = k_low;                                                                        \
        (dst)[k_i + 1] = k_high;                                                                   \
    }
#define K_PUTS_TWO(T, W, e, src)                                                                   \
    if ((W) % 2) (e)[0] = CAT(k_put_, T)((src)[0]);                                                \
    UNROLL for (int k_i = (W) % 2; k_i < (W); k_i += 2) {                                          \
        const u16 k_two = CAT4(k_to_, T, x, 2)((src)[k_i], (src)[k_i + 1]);                        \
        (e)[k_i] = (u8)k_two;                                                                      \
        (e)[k_i + 1] = (u8)(k_two >> 8);                                                           \
    }
#define K_GETS(T, W, e, dst) CAT(K_GETS_, T)(W, e, dst)
#define K_PUTS(T, W, e, src) CAT(K_PUTS_, T)(W, e, src)
#define K_GETS_f32(W, e, dst) K_GETS_ONE(f32, W, e, dst)
#define K_GETS_tf32(W, e, dst) K_GETS_ONE(tf32, W, e, dst)
#define K_GETS_f16(W, e, dst) K_GETS_ONE(f16, W, e, dst)
#define K_GETS_bf16(W, e, dst) K_GETS_ONE(bf16, W, e, dst)
#define K_GETS_i8(W, e, dst) K_GETS_ONE(i8, W, e, dst)
#define K_GETS_i32(W, e, dst) K_GETS_ONE(i32, W, e, dst)
#define K_GETS_e4m3(W, e, dst) K_GETS_TWO(e4m3, W, e, dst)
#define K_GETS_e5m2(W, e, dst) K_GETS_TWO(e5m2, W, e, dst)
#define K_PUTS_f32(W, e, src) K_PUTS_ONE(f32, W, e, src)
#define K_PUTS_f16(W, e, src) K_PUTS_ONE(f16, W, e, src)
#define K_PUTS_bf16(W, e, src) K_PUTS_ONE(bf16, W, e, src)
#define K_PUTS_i8(W, e, src) K_PUTS_ONE(i8, W, e, src)
#define K_PUTS_i32(W, e, src) K_PUTS_ONE(i32, W, e, src)
#define K_PUTS_e4m3(W, e, src) K_PUTS_TWO(e4m3, W, e, src)
#define K_PUTS_e5m2(W, e, src) K_PUTS_TWO(e5m2, W, e, src)

/* W adjacent elements through one access of W * sizeof bytes (16 at the most; more are several). */
template <int BYTES> struct k_word { typedef uint4 type; };
template <> struct k_word<1> { typedef u8 type; };
template <> struct k_word<2> { typedef u16 type; };
template <> struct k_word<4> { typedef u32 type; };
template <> struct k_word<8> { typedef uint2 type; };
template <int W, typename S> union k_pack {
    typedef typename k_word<(W * sizeof(S) < 16 ? W * (int)sizeof(S) : 16)>::type word;
    word w[(W * sizeof(S) + 15) / 16];
    S e[W];
    __device__ k_pack() {}
};
#define READ_N(T, W, p, i, dst)                                                                    \
    do {                                                                                           \
        k_pack<W, STORAGE(T)> k_p;                                                                 \
        const k_pack<W, STORAGE(T)>::word *k_s =                                                   \
            (const k_pack<W, STORAGE(T)>::word *)((p) + (i));                                      \
        UNROLL for (int k_i = 0; k_i < (int)(sizeof k_p.w / sizeof *k_p.w); k_i++)                 \
            k_p.w[k_i] = k_s[k_i];                                                                 \
        K_GETS(T, W, k_p.e, dst);                                                                  \
    } while (0)
#define WRITE_N(T, W, p, i, src)                                                                   \
    do {                                                                                           \
        k_pack<W, STORAGE(T)> k_p;                                                                 \
        K_PUTS(T, W, k_p.e, src);                                                                  \
        k_pack<W, STORAGE(T)>::word *k_d = (k_pack<W, STORAGE(T)>::word *)((p) + (i));             \
        UNROLL for (int k_i = 0; k_i < (int)(sizeof k_p.w / sizeof *k_p.w); k_i++)                 \
            k_d[k_i] = k_p.w[k_i];                                                                 \
    } while (0)

/* The same to and from floats, with a hint (H = 1): loads through the read-only path that leave the
 * first-level cache alone, stores as streams. The asm is volatile to keep loads ahead of uses. */
template <int H, typename W> FUNC W k_load(const W *p) { return *p; }
template <int H, typename W> FUNC void k_store(W *p, W v) { *p = v; }
#define K_HINTED_WORD(H, LOAD, STORE, W, S, C)                                                     \
    template <> __device__ __forceinline__ W k_load<H, W>(const W *p) {                            \
        W r;                                                                                       \
        asm volatile(LOAD S " %0, [%1];" : "=" C(r) : "l"(p));                                     \
        return r;                                                                                  \
    }                                                                                              \
    template <> __device__ __forceinline__ void k_store<H, W>(W * p, W v) {                        \
        asm volatile(STORE S " [%0], %1;" ::"l"(p), C(v) : "memory");                              \
    }
#define K_HINTED(H, LOAD, STORE)                                                                   \
    K_HINTED_WORD(H, LOAD, STORE, u16, "u16", "h")                                                 \
    K_HINTED_WORD(H, LOAD, STORE, u32, "u32", "r")                                                 \
    template <> __device__ __forceinline__ uint2 k_load<H, uint2>(const uint2 *p) {                \
        uint2 r;                                                                                   \
        asm volatile(LOAD "v2.u32 {%0, %1}, [%2];" : "=r"(r.x), "=r"(r.y) : "l"(p));               \
        return r;                                                                                  \
    }                                                                                              \
    template <> __device__ __forceinline__ uint4 k_load<H, uint4>(const uint4 *p) {                \
        uint4 r;                                                                                   \
        asm volatile(LOAD "v4.u32 {%0, %1, %2, %3}, [%4];"                                         \
                     : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)                                  \
                     : "l"(p));                                                                    \
        return r;                                                                                  \
    }                                                                                              \
    template <> __device__ __forceinline__ void k_store<H, uint2>(uint2 * p, uint2 v) {            \
        asm volatile(STORE "v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(v.x), "r"(v.y) : "memory");      \
    }                                                                                              \
    template <> __device__ __forceinline__ void k_store<H, uint4>(uint4 * p, uint4 v) {            \
        asm volatile(STORE "v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y),          \
                     "r"(v.z), "r"(v.w)                                                            \
                     : "memory");                                                                  \
    }
K_HINTED(1, "ld.global.nc.L1::no_allocate.", "st.global.cs.")
K_HINTED(2, "ld.global.nc.", "st.global.") /* only kept where they stand */
#define READ_F(T, W, H, p, i, dst)                                                                 \
    do {                                                                                           \
        k_pack<W, STORAGE(T)> k_p;                                                                 \
        typedef k_pack<W, STORAGE(T)>::word k_word_t;                                              \
        const k_word_t *k_s = (const k_word_t *)((p) + (i));                                       \
        UNROLL for (int k_i = 0; k_i < (int)(sizeof k_p.w / sizeof *k_p.w); k_i++)                 \
            k_p.w[k_i] = k_load<H, k_word_t>(k_s + k_i);                                           \
        K_GETS(T, W, k_p.e, dst);                                                                  \
    } while (0)
/* Elements as they lie in memory: a 16-bit type takes half the registers that its floats would. */
#define HELD(T, W, name, n) k_pack<W, STORAGE(T)> name[n]
#define HOLD(T, W, H, p, i, held)                                                                  \
    do {                                                                                           \
        typedef k_pack<W, STORAGE(T)>::word k_word_t;                                              \
        const k_word_t *k_s = (const k_word_t *)((p) + (i));                                       \
        UNROLL for (int k_i = 0; k_i < (int)(sizeof(held).w / sizeof *(held).w); k_i++)(held)      \
            .w[k_i] = k_load<H, k_word_t>(k_s + k_i);                                              \
    } while (0)
#define HOLD_ONE(T, p, i, held, e_) ((held).e[e_] = (p)[i])
#define HELD_GET(T, held, e_) ((float)CAT(k_get_, T)((held).e[e_]))
#define WRITE_F(T, W, H, p, i, src)                                                                \
    do {                                                                                           \
        k_pack<W, STORAGE(T)> k_p;                                                                 \
        typedef k_pack<W, STORAGE(T)>::word k_word_t;                                              \
        K_PUTS(T, W, k_p.e, src);                                                                  \
        k_word_t *k_d = (k_word_t *)((p) + (i));                                                   \
        UNROLL for (int k_i = 0; k_i < (int)(sizeof k_p.w / sizeof *k_p.w); k_i++)                 \
            k_store<H, k_word_t>(k_d + k_i, k_p.w[k_i]);                                           \
    } while (0)

/* A pointer that is computed once, here, and not again before every use. */
#define KEEP(p) asm volatile("" : "+l"(p))
/* Brings the line of an address into the second cache. */
#define PREFETCH(p) asm volatile("prefetch.global.L2 [%0];" ::"l"(p))

#define K_INF __int_as_float(0x7f800000)
FUNC float k_combine(int o, float a, float b) {
    return o == 0 ? a + b : o == 1 ? fmaxf(a, b) : fminf(a, b);
}
#define K_LANES 32
FUNC float k_identity(int o) { return o == 0 ? 0.0f : o == 1 ? -K_INF : K_INF; }
/* Shuffles inside a warp; above 32 threads the warps meet in scratch and every warp combines what
 * is there, so that all threads get the same bits. */
FUNC float k_group_reduce_turn(int o, float x, int n, float *scratch, int turn) {
    UNROLL for (int m = 16; m > 0; m /= 2)
        if (m < n) x = k_combine(o, x, __shfl_xor_sync(0xffffffffu, x, m));
    if (n <= 32) return x;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = n / 32;
    scratch += turn * 32;
    if (lane == 0) scratch[warp] = x;
    __syncthreads();
    x = scratch[warp / warps * warps + lane % warps];
    UNROLL for (int m = 16; m > 0; m /= 2)
        if (m < warps) x = k_combine(o, x, __shfl_xor_sync(0xffffffffu, x, m));
    return x;
}
FUNC float k_group_reduce(int o, float x, int n, float *scratch) {
    if (n > 32) __syncthreads();
    return k_group_reduce_turn(o, x, n, scratch, 0);
}

/* Floats of one sign are ordered as their bits are: targets/opencl/dialect.h. */
FUNC void k_atomic_combine(int o, float *p, float x) {
    const int bits = x == 0.0f ? 0 : __float_as_int(x);
    if (o == 1) {
        if (bits >= 0) atomicMax((int *)p, bits);
        else atomicMin((u32 *)p, (u32)bits);
    } else {
        if (bits >= 0) atomicMin((int *)p, bits);
        else atomicMax((u32 *)p, (u32)bits);
    }
}

/* exp through the special unit: relative error at most 2^-22 + 1.22 |x| 2^-24 (constant and
 * product rounded), inside the family's bound of (4 + |x|) 2^-23; results below 2^-126 are 0. */
FUNC float k_exp(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x * 1.44269504f));
    return r;
}

/* a / b within 2 units in the last place over the whole range (the family's bound allows 2.5). */
FUNC float k_div(float a, float b) {
    float r;
    asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}
FUNC float k_div_row(float a, float b) {
    const float s = fabsf(b) > 0x1p100f ? 0x1p-64f : fabsf(b) < 0x1p-100f ? 0x1p64f : 1.0f;
    return (a * s) * (1.0f / (b * s));
}

/* a / b for |b| from 1 to 2^126, within 2 units: a reciprocal and a product, nothing else. */
FUNC float k_div_near(float a, float b) {
    float r;
    asm("div.approx.ftz.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
    return r;
}

/* A NaN passes, unlike with fminf. */
FUNC float k_clamp(float x, float most) {
#if __CUDA_ARCH__ >= 800
    float r;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(x), "f"(most));
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(r), "f"(-most));
    return r;
#else
    return x > most ? most : x < -most ? -most : x;
#endif
}
/* erf and tanh as x P(x^2) / Q(x^2) up to where they round to 1; targets/opencl/dialect.h says where
 * the coefficients come from. The compiler's own functions have two branches each, and a warp usually
 * takes both. */
FUNC float k_erf_ratio(float x, float *below) {
    x = k_clamp(x, 3.95f);
    const float t = x * x;
    float p = fmaf(t, 1.959601089e-8f, -1.949703107e-6f);
    p = fmaf(p, t, 1.436551802e-4f);
    p = fmaf(p, t, 3.802693575e-3f);
    p = fmaf(p, t, 5.090798599e-2f);
    p = fmaf(p, t, 0.202471703f);
    p = fmaf(p, t, 1.128379105f);
    float q = fmaf(t, 9.784945238e-4f, 1.456575995e-2f);
    q = fmaf(q, t, 0.1160479895f);
    q = fmaf(q, t, 0.5127674212f);
    q = fmaf(q, t, 1.0f);
    *below = q;
    return x * p;
}
/* With the quotient's remainder added, within 6.5 roundoffs; 8 are allowed, and tanh takes 7.9. (In
 * C, every float from 2^-15 to 16, the reciprocal a unit in the last place off to either side.) */
FUNC float k_erf(float x) {
    float q;
    const float p = k_erf_ratio(x, &q), y = k_div_near(p, q);
    return fmaf(fmaf(-y, q, p), k_div_near(1.0f, q), y);
}
FUNC float k_tanh(float x) {
    x = k_clamp(x, 9.02f);
    const float t = x * x;
    float p = fmaf(t, 1.33194331e-8f, 2.058393224e-5f);
    p = fmaf(p, t, 3.494070942e-3f);
    p = fmaf(p, t, 0.1337975179f);
    p = fmaf(p, t, 0.9999999792f);
    float q = fmaf(t, 7.762222313e-7f, 3.283145872e-4f);
    q = fmaf(q, t, 2.587122148e-2f);
    q = fmaf(q, t, 0.4671306715f);
    q = fmaf(q, t, 1.0f);
    return k_div_near(x * p, q);
}

/* 1 / (1 + 2^x): 0 above 2^126, where less than the smallest normal number is missing. */
FUNC float k_logistic(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(1.0f + r));
    return r;
}

/* x Phi(x) = max(x, 0) - |x| Phi(-|x|), and Phi(-a) = 2^q(a): log2 of it is so smooth that degree 5
 * reaches the absolute error that gelu's bound allows, where the erf itself takes a quotient of 11
 * coefficients. q: minimax for the error of 2^q on 0 <= a <= 5.2, that is of q - log2(Phi(-a))
 * weighted with Phi(-a), by Remez' exchange (scripts/fit-gelu): 4.9 roundoffs of a; with those of
 * ex2 and of the arithmetic 8, 10 are allowed (tests/test_expr.c). Beyond 5.2 it falls faster than
 * Phi does; at 20, 2^q is 0, and infinity meets a number there. NaN passes through the maximum. */
FUNC float k_gelu(float x) {
    float r, a = fminf(fabsf(x), 20.0f);
    float q = fmaf(a, -5.18858386e-4f, 7.38719974e-3f);
    q = fmaf(q, a, -5.25380154e-2f);
    q = fmaf(q, a, -0.459276685f);
    q = fmaf(q, a, -1.15108314f);
    q = fmaf(q, a, -1.00000084f);
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(q));
#if __CUDA_ARCH__ >= 800
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(q) : "f"(x));
#else
    q = x < 0 ? 0 : x;
#endif
    return fmaf(-a, r, q);
}
/* The tanh form as x / (1 + 2^y), y = -2 log2(e) sqrt(2 / pi) (x + 0.044715 x^3). */
FUNC float k_gelu_tanh(float x) {
    return x * k_logistic(x * fmaf(x * x, -0.102943240f, -2.30220819f));
}

#define K_DIV(a, b) k_div(a, b)
#define K_DIV_ROW(a, b) k_div_row(a, b)
#define K_ABS(x) fabsf(x)
#define K_EXP(x) k_exp(x)
#define K_LOG(x) logf(x)
#define K_SQRT(x) sqrtf(x)
#define K_RSQRT(x) rsqrtf(x)
#define K_TANH(x) k_tanh(x)
#define K_ERF(x) k_erf(x)
#define K_FLOOR(x) floorf(x)
#define K_RINT(x) rintf(x)
#define K_MAX2(a, b) fmaxf(a, b)
#define K_MIN2(a, b) fminf(a, b)
#define K_NEG(x) (-(x))
#define K_RELU(x) fmaxf(x, 0.0f)
#define K_SIGMOID(x) k_logistic((x) * -1.44269504f)
#define K_SILU(x) ((x) * K_SIGMOID(x))
#define K_GELU(x) k_gelu(x)
#define K_GELU_TANH(x) k_gelu_tanh(x)
#define K_LT(a, b) ((a) < (b) ? 1.0f : 0.0f)
#define K_LE(a, b) ((a) <= (b) ? 1.0f : 0.0f)
#define K_SELECT(c, a, b) ((c) != 0.0f ? (a) : (b))

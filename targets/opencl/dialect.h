/* The neutral names in OpenCL C 1.2. Put before every program; bodies use these names only.
 *
 *   KERNEL(x, y, z)    an entry with this block size: KERNEL(TX, TY, 1) NAME(main)(...) {...}
 *   KERNEL_REGS(x, y, z, n)   the same, compiled for n registers per thread where that can be asked
 *                      (0: as the compiler likes)
 *   FUNC               a device function
 *   GLOBAL LOCAL       address spaces; LOCAL_ARRAY(float, tile, 256);  GLOBAL const f32 *RESTRICT p
 *   BARRIER()          all threads of the block, local memory visible
 *   AFTER_PREVIOUS()   in a launch marked dependent, before it touches memory: the launches before it
 *                      have ended; lets the next one begin to fill the device
 *   THREAD(d) BLOCK(d) BLOCKS(d)   indices
 *   UNROLL             before a loop: unroll it completely; UNROLL_N(n): n times
 *   STORAGE(T)         what an element of type T is kept in; T is f32 f16 bf16 e4m3 e5m2 i8 i32 (a
 *                      macro that expands to one of them is fine); tf32 can be read, as f32 is
 *   READ(T, p, i)      element i as float (i8, i32: int);  WRITE(T, p, i, v) rounds to nearest even;
 *                      e4m3 and e5m2 saturate like integers, infinity too, and NaN stays NaN
 *   READ_N(T, W, p, i, dst)   W = 1 2 4 8 16 adjacent elements into dst[0..W-1], aligned to W elements
 *   WRITE_N(T, W, p, i, src)  the same out; src is float, for i32 int
 *   READ_F(T, W, H, p, i, dst)  WRITE_F(T, W, H, p, i, src)   the same, always from and to floats:
 *                      integers are converted, and saturate on the way out; H = 1: a hint that the
 *                      data is used once (only where the device has such hints)
 *   K_INF              infinity
 *   k_combine(o, a, b) a + b, max, min for o = 0 1 2; k_identity(o) its neutral element
 *   k_group_reduce(o, x, n, scratch)   combines x over each n adjacent threads (a power of two that
 *                      divides the block) and gives every one of them the result; ALL threads of
 *                      the block must call it; scratch: LOCAL, a float per thread of the block
 *   K_LANES            up to so many threads k_group_reduce combines without barrier and scratch
 *   k_group_reduce_turn(o, x, n, scratch, turn)   the same, for callers that count turn 0 1 0 1 ...
 *                      from call to call; saves a barrier where the device has two halves to swap
 *   k_atomic_combine(o, p, x)   p[0] = max or min of p[0] and x (o = 1 2), whatever others do to p[0];
 *                      x is not NaN, a zero is stored as +0: the result is the same in any order
 *   HELD(T, W, name, n)   n times W adjacent elements, kept as compactly as the device can;
 *                      HOLD(T, W, H, p, i, name[k]) reads W, HOLD_ONE(T, p, i, name[k], e) one;
 *                      HELD_GET(T, name[k], e) is a float; H = 2: without the hint, but the load
 *                      stays where it stands
 *   KEEP(p)            a pointer to global memory that is not computed again before every use
 *   PREFETCH(p)        brings the line of an address nearer
 *   K_DIV_ROW(a, b)    a / b where b is one value for the whole row; K_DIV(a, b) otherwise
 *   K_EXP(x) ...       math on REAL, which a body defines as float or as a vector of float
 */
#define DIALECT_OPENCL 1
#define KERNEL(x, y, z) __attribute__((reqd_work_group_size(x, y, z))) __kernel void
#define KERNEL_REGS(x, y, z, registers) KERNEL(x, y, z)
#define FUNC static inline
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY(type, name, n) __local type name[n]
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
#define AFTER_PREVIOUS()
#define THREAD(d) ((int)get_local_id(d))
#define BLOCK(d) ((int)get_group_id(d))
#define BLOCKS(d) ((int)get_num_groups(d))
#define UNROLL _Pragma("unroll")
#define PRAGMA_(x) _Pragma(#x)
#define UNROLL_N(n) PRAGMA_(unroll n)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define CAT4_(a, b, c, d) a##b##c##d
#define CAT4(a, b, c, d) CAT4_(a, b, c, d)
typedef long i64;
typedef ulong u64;
typedef uint u32;
typedef ushort u16;
typedef uchar u8;

#define STORAGE(T) CAT(storage_, T)
typedef float storage_f32;
typedef half storage_f16;
typedef ushort storage_bf16;
typedef char storage_i8;
typedef int storage_i32;
typedef float storage_tf32;
typedef uchar storage_e4m3;
typedef uchar storage_e5m2;

FUNC float k_from_bf16(ushort x) { return as_float((uint)x << 16); }
FUNC ushort k_to_bf16(float x) {
    uint u = as_uint(x);
    uint r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (ushort)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : r);
}

/* 8-bit floats, for a float or a vector of them (F, with its unsigned U and 8-bit B).
 *
 *     e4m3   s eeee mmm    bias 7   0x7f: NaN, no infinity    largest 448    smallest 2^-9
 *     e5m2   s eeeee mm    bias 15  0x7c: infinity, then NaN  largest 57344  smallest 2^-16
 *
 * Reading: the bits in place and the biases' difference added; all ones in the exponent of what is
 * special (from SPECIAL on); below the first normal number an integer times the smallest number.
 * Writing rounds the bits to nearest even and cuts at TOP; what becomes subnormal is rounded by
 * adding MAGIC, whose unit in the last place is the smallest number. No arithmetic is done on
 * subnormal floats, which a device may flush. M: bits of the mantissa, D: difference of biases. */
#define K_EIGHT(F, U, B, FROM, TO, M, D, SPECIAL, TOP, SMALLEST, MAGIC)                            \
    FUNC F FROM(B b) {                                                                             \
        const U x = convert_##U(b), m = x & 0x7fu;                                                 \
        const F small = convert_##F(m) * SMALLEST;                                                 \
        U r = (m << (23 - M)) + ((uint)D << 23);                                                   \
        r = m >= (U)(SPECIAL) ? r | 0x7f800000u : r;                                               \
        r = m < (U)(1u << M) ? as_##U(small) : r;                                                  \
        return as_##F(r | (x & 0x80u) << 24);                                                      \
    }                                                                                              \
    FUNC B TO(F v) {                                                                               \
        const U x = as_##U(v), m = x & 0x7fffffffu;                                                \
        const F sum = as_##F(m) + MAGIC;                                                           \
        U r = ((m + ((1u << (22 - M)) - 1u) + ((m >> (23 - M)) & 1u)) >> (23 - M)) - (D << M);     \
        r = m < (U)((D + 1u) << 23) ? as_##U(sum) - as_##U((F)(MAGIC)) : min(r, (U)(TOP));         \
        r = m > (U)(0x7f800000u) ? (U)(0x7fu) : r;                                                 \
        return convert_##B(r | (x >> 24 & 0x80u));                                                 \
    }
#define K_EIGHTS(F, U, B, N)                                                                       \
    K_EIGHT(F, U, B, k_from_e4m3##N, k_to_e4m3##N, 3, 120u, 0x7fu, 0x7eu, 0x1p-9f, 16384.0f)       \
    K_EIGHT(F, U, B, k_from_e5m2##N, k_to_e5m2##N, 2, 112u, 0x7cu, 0x7bu, 0x1p-16f, 128.0f)
K_EIGHTS(float, uint, uchar, )
K_EIGHTS(float2, uint2, uchar2, _2)
K_EIGHTS(float4, uint4, uchar4, _4)
K_EIGHTS(float8, uint8, uchar8, _8)
K_EIGHTS(float16, uint16, uchar16, _16)

#define READ(T, p, i) CAT(READ_, T)(p, i)
#define READ_f32(p, i) ((p)[i])
#define READ_f16(p, i) vload_half(i, p)
#define READ_bf16(p, i) k_from_bf16((p)[i])
#define READ_i8(p, i) ((int)(p)[i])
#define READ_i32(p, i) ((p)[i])
#define READ_tf32(p, i) ((p)[i])
#define READ_e4m3(p, i) k_from_e4m3((p)[i])
#define READ_e5m2(p, i) k_from_e5m2((p)[i])
#define WRITE(T, p, i, v) CAT(WRITE_, T)(p, i, v)
#define WRITE_f32(p, i, v) ((p)[i] = (v))
#define WRITE_f16(p, i, v) vstore_half_rte((float)(v), i, p)
#define WRITE_bf16(p, i, v) ((p)[i] = k_to_bf16(v))
#define WRITE_i8(p, i, v) ((p)[i] = convert_char_sat_rte((float)(v)))
#define WRITE_i32(p, i, v) ((p)[i] = convert_int_sat_rte(v))
#define WRITE_e4m3(p, i, v) ((p)[i] = k_to_e4m3((float)(v)))
#define WRITE_e5m2(p, i, v) ((p)[i] = k_to_e5m2((float)(v)))

/* W adjacent elements. The compiler turns the array into registers once loops are unrolled. */
#define READ_N(T, W, p, i, dst) CAT4(READ_, T, _, W)(p, i, dst)
#define WRITE_N(T, W, p, i, src) CAT4(WRITE_, T, _, W)(p, i, src)
#define READ_f32_1(p, i, d) ((d)[0] = (p)[i])
#define READ_f16_1(p, i, d) ((d)[0] = vload_half(i, p))
#define READ_bf16_1(p, i, d) ((d)[0] = k_from_bf16((p)[i]))
#define READ_i8_1(p, i, d) ((d)[0] = (p)[i])
#define READ_i32_1(p, i, d) ((d)[0] = (p)[i])
#define READ_tf32_1(p, i, d) ((d)[0] = (p)[i])
#define READ_e4m3_1(p, i, d) ((d)[0] = READ_e4m3(p, i))
#define READ_e5m2_1(p, i, d) ((d)[0] = READ_e5m2(p, i))
#define WRITE_f32_1(p, i, s) WRITE_f32(p, i, (s)[0])
#define WRITE_f16_1(p, i, s) WRITE_f16(p, i, (s)[0])
#define WRITE_bf16_1(p, i, s) WRITE_bf16(p, i, (s)[0])
#define WRITE_i8_1(p, i, s) WRITE_i8(p, i, (s)[0])
#define WRITE_i32_1(p, i, s) WRITE_i32(p, i, (s)[0])
#define WRITE_e4m3_1(p, i, s) WRITE_e4m3(p, i, (s)[0])
#define WRITE_e5m2_1(p, i, s) WRITE_e5m2(p, i, (s)[0])
#define K_READERS(W)                                                                               \
    FUNC void READ_f32_##W(const GLOBAL float *p, i64 i, float *d) {                               \
        vstore##W(*(const GLOBAL float##W *)(p + i), 0, d);                                        \
    }                                                                                              \
    FUNC void READ_f16_##W(const GLOBAL half *p, i64 i, float *d) {                                \
        vstore##W(vload_half##W(0, p + i), 0, d);                                                  \
    }                                                                                              \
    FUNC void READ_bf16_##W(const GLOBAL ushort *p, i64 i, float *d) {                             \
        vstore##W(as_float##W(convert_uint##W(*(const GLOBAL ushort##W *)(p + i)) << 16), 0, d);   \
    }                                                                                              \
    FUNC void READ_i8_##W(const GLOBAL char *p, i64 i, int *d) {                                   \
        vstore##W(convert_int##W(*(const GLOBAL char##W *)(p + i)), 0, d);                         \
    }                                                                                              \
    FUNC void READ_i32_##W(const GLOBAL int *p, i64 i, int *d) {                                   \
        vstore##W(*(const GLOBAL int##W *)(p + i), 0, d);                                          \
    }                                                                                              \
    FUNC ushort##W k_to_bf16_##W(float##W x) {                                                     \
        uint##W u = as_uint##W(x), r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;                     \
        return convert_ushort##W(                                                                  \
            select(r, u >> 16 | 0x40u, (u & 0x7fffffffu) > (uint##W)(0x7f800000u)));               \
    }                                                                                              \
    FUNC void WRITE_f32_##W(GLOBAL float *p, i64 i, const float *s) {                              \
        *(GLOBAL float##W *)(p + i) = vload##W(0, s);                                              \
    }                                                                                              \
    FUNC void WRITE_f16_##W(GLOBAL half *p, i64 i, const float *s) {                               \
        vstore_half##W##_rte(vload##W(0, s), 0, p + i);                                            \
    }                                                                                              \
    FUNC void WRITE_bf16_##W(GLOBAL ushort *p, i64 i, const float *s) {                            \
        *(GLOBAL ushort##W *)(p + i) = k_to_bf16_##W(vload##W(0, s));                              \
    }                                                                                              \
    FUNC void WRITE_i8_##W(GLOBAL char *p, i64 i, const float *s) {                                \
        *(GLOBAL char##W *)(p + i) = convert_char##W##_sat_rte(vload##W(0, s));                    \
    }                                                                                              \
    FUNC void READ_e4m3_##W(const GLOBAL uchar *p, i64 i, float *d) {                              \
        vstore##W(k_from_e4m3_##W(*(const GLOBAL uchar##W *)(p + i)), 0, d);                       \
    }                                                                                              \
    FUNC void WRITE_e4m3_##W(GLOBAL uchar *p, i64 i, const float *s) {                             \
        *(GLOBAL uchar##W *)(p + i) = k_to_e4m3_##W(vload##W(0, s));                               \
    }                                                                                              \
    FUNC void READ_e5m2_##W(const GLOBAL uchar *p, i64 i, float *d) {                              \
        vstore##W(k_from_e5m2_##W(*(const GLOBAL uchar##W *)(p + i)), 0, d);                       \
    }                                                                                              \
    FUNC void WRITE_e5m2_##W(GLOBAL uchar *p, i64 i, const float *s) {                             \
        *(GLOBAL uchar##W *)(p + i) = k_to_e5m2_##W(vload##W(0, s));                               \
    }                                                                                              \
    FUNC void READ_tf32_##W(const GLOBAL float *p, i64 i, float *d) { READ_f32_##W(p, i, d); }     \
    FUNC void WRITE_i32_##W(GLOBAL int *p, i64 i, const int *s) {                                  \
        *(GLOBAL int##W *)(p + i) = vload##W(0, s);                                                \
    }
K_READERS(2)
K_READERS(4)
K_READERS(8)
K_READERS(16)

#define READ_F(T, W, H, p, i, dst) CAT(READF_, T)(W, p, i, dst)
#define READF_f32(W, p, i, d) CAT(READ_f32_, W)(p, i, d)
#define READF_f16(W, p, i, d) CAT(READ_f16_, W)(p, i, d)
#define READF_bf16(W, p, i, d) CAT(READ_bf16_, W)(p, i, d)
#define READF_e4m3(W, p, i, d) CAT(READ_e4m3_, W)(p, i, d)
#define READF_e5m2(W, p, i, d) CAT(READ_e5m2_, W)(p, i, d)
#define READF_i8(W, p, i, d) CAT(READF_i8_, W)(p, i, d)
#define READF_i32(W, p, i, d) CAT(READF_i32_, W)(p, i, d)
#define READF_i8_1(p, i, d) ((d)[0] = (float)(p)[i])
#define READF_i32_1(p, i, d) ((d)[0] = (float)(p)[i])
#define WRITE_F(T, W, H, p, i, src) CAT(WRITEF_, T)(W, p, i, src)
#define WRITEF_f32(W, p, i, s) CAT(WRITE_f32_, W)(p, i, s)
#define WRITEF_f16(W, p, i, s) CAT(WRITE_f16_, W)(p, i, s)
#define WRITEF_bf16(W, p, i, s) CAT(WRITE_bf16_, W)(p, i, s)
#define WRITEF_e4m3(W, p, i, s) CAT(WRITE_e4m3_, W)(p, i, s)
#define WRITEF_e5m2(W, p, i, s) CAT(WRITE_e5m2_, W)(p, i, s)
#define WRITEF_i8(W, p, i, s) CAT(WRITE_i8_, W)(p, i, s)
#define WRITEF_i32(W, p, i, s) CAT(WRITEF_i32_, W)(p, i, s)
#define WRITEF_i32_1(p, i, s) WRITE_i32(p, i, (s)[0])
#define K_FLOAT_READERS(W)                                                                         \
    FUNC void READF_i8_##W(const GLOBAL char *p, i64 i, float *d) {                                \
        vstore##W(convert_float##W(*(const GLOBAL char##W *)(p + i)), 0, d);                       \
    }                                                                                              \
    FUNC void READF_i32_##W(const GLOBAL int *p, i64 i, float *d) {                                \
        vstore##W(convert_float##W(*(const GLOBAL int##W *)(p + i)), 0, d);                        \
    }                                                                                              \
    FUNC void WRITEF_i32_##W(GLOBAL int *p, i64 i, const float *s) {                               \
        *(GLOBAL int##W *)(p + i) = convert_int##W##_sat_rte(vload##W(0, s));                      \
    }
K_FLOAT_READERS(2)
K_FLOAT_READERS(4)
K_FLOAT_READERS(8)
K_FLOAT_READERS(16)

#define K_INF INFINITY
FUNC float k_combine(int o, float a, float b) {
    return o == 0 ? a + b : o == 1 ? fmax(a, b) : fmin(a, b);
}
#define K_LANES 1
FUNC float k_identity(int o) { return o == 0 ? 0.0f : o == 1 ? -K_INF : K_INF; }
FUNC float k_group_reduce(int o, float x, int n, LOCAL float *scratch) {
    const int me = get_local_id(0);
    barrier(CLK_LOCAL_MEM_FENCE);
    scratch[me] = x;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int m = n / 2; m > 0; m /= 2) {
        if ((me & (n - 1)) < m) scratch[me] = k_combine(o, scratch[me], scratch[me + m]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return scratch[me & ~(n - 1)];
}
#define k_group_reduce_turn(o, x, n, scratch, turn) k_group_reduce(o, x, n, scratch)

/* Floats of one sign are ordered as their bits are: upwards as int from +0, downwards as uint from
 * -0, and any number of the other sign is smaller in the one and larger in the other order. */
FUNC void k_atomic_combine(int o, GLOBAL float *p, float x) {
    const int bits = x == 0.0f ? 0 : as_int(x);
    if (o == 1) {
        if (bits >= 0) atomic_max((volatile GLOBAL int *)p, bits);
        else atomic_min((volatile GLOBAL uint *)p, as_uint(bits));
    } else {
        if (bits >= 0) atomic_min((volatile GLOBAL int *)p, bits);
        else atomic_max((volatile GLOBAL uint *)p, as_uint(bits));
    }
}

#define KEEP(p)
#define PREFETCH(p)
#define HELD(T, W, name, n) float name[n][W]
#define HOLD(T, W, H, p, i, held) READ_F(T, W, H, p, i, held)
#define HOLD_ONE(T, p, i, held, e) ((held)[e] = (float)READ(T, p, i))
#define HELD_GET(T, held, e) ((held)[e])

/* exp, erf and tanh of our own, for float and its vectors: the built-ins of CPU drivers take a
 * scalar call per element, and these give the same numbers on every OpenCL device. Coefficients:
 * minimax fits of relative error (Lawson's iteration): e^r on |r| <= ln 2 / 2 to 9e-8; erf and tanh
 * as x P(x^2) / Q(x^2) up to where they round to 1, to 6e-8 and 2e-8. With rounding, each is within
 * 4 units in the last place (the family's bound). exp rounds x log2(e) by adding 3 * 2^22, which
 * leaves n in the low bits of t; results below the smallest normal number are 0. Comparisons are
 * written so that a NaN passes through.
 *
 * k_div_row(a, b) is a / b for a b that is the same along the row: all but two multiplications can
 * leave the loop. The scale keeps the reciprocal of a very large or small b in range. */
#define K_EXP_MATH(F, I)                                                                           \
    FUNC F __attribute__((overloadable)) k_exp(F x) {                                              \
        const F t = fma(x, (F)(1.44269504f), (F)(12582912.0f));                                    \
        const F r = fma(t - 12582912.0f, (F)(-0.693147182f), x);                                   \
        F p = fma(r, (F)(8.289885704e-3f), (F)(4.190023861e-2f));                                  \
        p = fma(p, r, (F)(0.1666765568f));                                                         \
        p = fma(p, r, (F)(0.4999913251f));                                                         \
        p = fma(p, r, (F)(0.9999996983f));                                                         \
        p = fma(p, r, (F)(1.0f));                                                                  \
        F y = CAT(as_, F)(CAT(as_, I)(p) + (CAT(as_, I)(t) << 23));                                \
        y = x <= 88.7228f ? y : x + K_INF;                                                         \
        return x < -87.3365f ? (F)(0.0f) : y;                                                      \
    }
#define K_MATH(F, I)                                                                               \
    FUNC F __attribute__((overloadable)) k_div_row(F a, F b) {                                     \
        const F s = fabs(b) > 0x1p100f   ? (F)(0x1p-64f)                                           \
                    : fabs(b) < 0x1p-100f ? (F)(0x1p64f)                                           \
                                          : (F)(1.0f);                                             \
        return (a * s) * (1.0f / (b * s));                                                         \
    }                                                                                              \
    FUNC F __attribute__((overloadable)) k_erf(F x) {                                              \
        x = x > 3.95f ? (F)(3.95f) : x;                                                            \
        x = x < -3.95f ? (F)(-3.95f) : x;                                                          \
        const F t = x * x;                                                                         \
        F p = fma(t, (F)(1.959601089e-8f), (F)(-1.949703107e-6f));                                 \
        p = fma(p, t, (F)(1.436551802e-4f));                                                       \
        p = fma(p, t, (F)(3.802693575e-3f));                                                       \
        p = fma(p, t, (F)(5.090798599e-2f));                                                       \
        p = fma(p, t, (F)(0.202471703f));                                                          \
        p = fma(p, t, (F)(1.128379105f));                                                          \
        F q = fma(t, (F)(9.784945238e-4f), (F)(1.456575995e-2f));                                  \
        q = fma(q, t, (F)(0.1160479895f));                                                         \
        q = fma(q, t, (F)(0.5127674212f));                                                         \
        q = fma(q, t, (F)(1.0f));                                                                  \
        return x * p / q;                                                                          \
    }                                                                                              \
    FUNC F __attribute__((overloadable)) k_tanh(F x) {                                             \
        x = x > 9.02f ? (F)(9.02f) : x;                                                            \
        x = x < -9.02f ? (F)(-9.02f) : x;                                                          \
        const F t = x * x;                                                                         \
        F p = fma(t, (F)(1.33194331e-8f), (F)(2.058393224e-5f));                                   \
        p = fma(p, t, (F)(3.494070942e-3f));                                                       \
        p = fma(p, t, (F)(0.1337975179f));                                                         \
        p = fma(p, t, (F)(0.9999999792f));                                                         \
        F q = fma(t, (F)(7.762222313e-7f), (F)(3.283145872e-4f));                                  \
        q = fma(q, t, (F)(2.587122148e-2f));                                                       \
        q = fma(q, t, (F)(0.4671306715f));                                                         \
        q = fma(q, t, (F)(1.0f));                                                                  \
        return x * p / q;                                                                          \
    }
K_EXP_MATH(float, int)
K_EXP_MATH(float2, int2)
K_EXP_MATH(float4, int4)
K_EXP_MATH(float8, int8)
#ifdef __AVX512F__ /* one instruction scales by 2^n, with overflow and underflow as they should be */
FUNC float16 __attribute__((overloadable)) k_exp(float16 x) {
    x = x > 89.0f ? (float16)(89.0f) : x;
    x = x < -104.0f ? (float16)(-104.0f) : x;
    const float16 n = fma(x, (float16)(1.44269504f), (float16)(12582912.0f)) - 12582912.0f;
    const float16 r = fma(n, (float16)(-0.693147182f), x);
    float16 p = fma(r, (float16)(8.289885704e-3f), (float16)(4.190023861e-2f));
    p = fma(p, r, (float16)(0.1666765568f));
    p = fma(p, r, (float16)(0.4999913251f));
    p = fma(p, r, (float16)(0.9999996983f));
    p = fma(p, r, (float16)(1.0f));
    return __builtin_ia32_scalefps512_mask(p, n, p, (ushort)0xffff, 4);
}
#else
K_EXP_MATH(float16, int16)
#endif
K_MATH(float, int)
K_MATH(float2, int2)
K_MATH(float4, int4)
K_MATH(float8, int8)
K_MATH(float16, int16)

#define K_DIV(a, b) ((a) / (b))
#define K_DIV_ROW(a, b) k_div_row(a, b)
#define K_ABS(x) fabs(x)
#define K_EXP(x) k_exp(x)
#define K_LOG(x) log(x)
#define K_SQRT(x) sqrt(x)
#define K_RSQRT(x) rsqrt(x)
#define K_TANH(x) k_tanh(x)
#define K_ERF(x) k_erf(x)
#define K_FLOOR(x) floor(x)
#define K_RINT(x) rint(x)
#define K_MAX2(a, b) fmax((REAL)(a), (REAL)(b))
#define K_MIN2(a, b) fmin((REAL)(a), (REAL)(b))
#define K_NEG(x) (-(x))
#define K_RELU(x) ((x) > 0.0f ? (REAL)(x) : (REAL)(0.0f))
#define K_SIGMOID(x) ((REAL)(1.0f) / ((REAL)(1.0f) + K_EXP(-(x))))
#define K_SILU(x) ((x) * K_SIGMOID(x))
#define K_GELU(x) ((x) * (REAL)(0.5f) * ((REAL)(1.0f) + K_ERF((x) * (REAL)(0.70710678118654752f))))
/* x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)): the tanh form by tanh(z) = 2 sigmoid(2z) - 1 */
#define K_GELU_TANH(x)                                                                             \
    ((x) * K_SIGMOID((REAL)(1.5957691216057308f) * (x) *                                           \
                     ((REAL)(1.0f) + (REAL)(0.044715f) * (x) * (x))))
/* comparisons are 1.0f or 0.0f; isless and select agree on truth for scalars and for vectors */
#define K_LT(a, b) select((REAL)(0.0f), (REAL)(1.0f), isless((REAL)(a), (REAL)(b)))
#define K_LE(a, b) select((REAL)(0.0f), (REAL)(1.0f), islessequal((REAL)(a), (REAL)(b)))
#define K_SELECT(c, a, b) select((REAL)(b), (REAL)(a), isnotequal((REAL)(c), (REAL)(0.0f)))

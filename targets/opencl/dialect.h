/* The neutral names in OpenCL C 1.2. Put before every program; bodies use these names only.
 *
 *   KERNEL(x, y, z)    an entry with this block size: KERNEL(TX, TY, 1) NAME(main)(...) {...}
 *   FUNC               a device function
 *   GLOBAL LOCAL       address spaces; LOCAL_ARRAY(float, tile, 256);  GLOBAL const f32 *RESTRICT p
 *   BARRIER()          all threads of the block, local memory visible
 *   THREAD(d) BLOCK(d) BLOCKS(d)   indices
 *   UNROLL             before a loop: unroll it completely; UNROLL_N(n): n times
 *   STORAGE(T)         what an element of type T is kept in; T is f32 f16 bf16 i8 i32 (a macro that
 *                      expands to one of them is fine)
 *   READ(T, p, i)      element i as float (i8, i32: int);  WRITE(T, p, i, v) rounds to nearest even
 *   READ_N(T, W, p, i, dst)   W = 1 2 4 8 16 adjacent elements into dst[0..W-1], aligned to W elements
 *   WRITE_N(T, W, p, i, src)  the same out
 *   K_EXP(x) ...       math on REAL
 */
#define DIALECT_OPENCL 1
#define KERNEL(x, y, z) __attribute__((reqd_work_group_size(x, y, z))) __kernel void
#define FUNC static inline
#define GLOBAL __global
#define LOCAL __local
#define LOCAL_ARRAY(type, name, n) __local type name[n]
#define RESTRICT restrict
#define BARRIER() barrier(CLK_LOCAL_MEM_FENCE)
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
typedef uint u32;
typedef ushort u16;
typedef uchar u8;

#define STORAGE(T) CAT(storage_, T)
typedef float storage_f32;
typedef half storage_f16;
typedef ushort storage_bf16;
typedef char storage_i8;
typedef int storage_i32;

FUNC float k_from_bf16(ushort x) { return as_float((uint)x << 16); }
FUNC ushort k_to_bf16(float x) {
    uint u = as_uint(x);
    uint r = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    return (ushort)((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : r);
}
#define READ(T, p, i) CAT(READ_, T)(p, i)
#define READ_f32(p, i) ((p)[i])
#define READ_f16(p, i) vload_half(i, p)
#define READ_bf16(p, i) k_from_bf16((p)[i])
#define READ_i8(p, i) ((int)(p)[i])
#define READ_i32(p, i) ((p)[i])
#define WRITE(T, p, i, v) CAT(WRITE_, T)(p, i, v)
#define WRITE_f32(p, i, v) ((p)[i] = (v))
#define WRITE_f16(p, i, v) vstore_half_rte((float)(v), i, p)
#define WRITE_bf16(p, i, v) ((p)[i] = k_to_bf16(v))
#define WRITE_i8(p, i, v) ((p)[i] = convert_char_sat_rte((float)(v)))
#define WRITE_i32(p, i, v) ((p)[i] = (int)(v))

/* W adjacent elements. The compiler turns the array into registers once loops are unrolled. */
#define READ_N(T, W, p, i, dst) CAT4(READ_, T, _, W)(p, i, dst)
#define WRITE_N(T, W, p, i, src) CAT4(WRITE_, T, _, W)(p, i, src)
#define READ_f32_1(p, i, d) ((d)[0] = (p)[i])
#define READ_f16_1(p, i, d) ((d)[0] = vload_half(i, p))
#define READ_bf16_1(p, i, d) ((d)[0] = k_from_bf16((p)[i]))
#define READ_i8_1(p, i, d) ((d)[0] = (p)[i])
#define READ_i32_1(p, i, d) ((d)[0] = (p)[i])
#define WRITE_f32_1(p, i, s) WRITE_f32(p, i, (s)[0])
#define WRITE_f16_1(p, i, s) WRITE_f16(p, i, (s)[0])
#define WRITE_bf16_1(p, i, s) WRITE_bf16(p, i, (s)[0])
#define WRITE_i8_1(p, i, s) WRITE_i8(p, i, (s)[0])
#define WRITE_i32_1(p, i, s) WRITE_i32(p, i, (s)[0])
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
    FUNC void WRITE_i32_##W(GLOBAL int *p, i64 i, const int *s) {                                  \
        *(GLOBAL int##W *)(p + i) = vload##W(0, s);                                                \
    }
K_READERS(2)
K_READERS(4)
K_READERS(8)
K_READERS(16)

/* Math on REAL, which a body defines as float or as a vector of float. */
#define K_ABS(x) fabs(x)
#define K_EXP(x) exp(x)
#define K_LOG(x) log(x)
#define K_SQRT(x) sqrt(x)
#define K_RSQRT(x) rsqrt(x)
#define K_TANH(x) tanh(x)
#define K_ERF(x) erf(x)
#define K_FLOOR(x) floor(x)
#define K_RINT(x) rint(x)
#define K_MAX2(a, b) fmax((REAL)(a), (REAL)(b))
#define K_MIN2(a, b) fmin((REAL)(a), (REAL)(b))
#define K_NEG(x) (-(x))
#define K_RELU(x) fmax((REAL)(x), (REAL)(0.0f))
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

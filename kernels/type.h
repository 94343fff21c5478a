/* Element types: one list feeds the enum, the names and the sizes. */
#ifndef KILN_KERNELS_TYPE_H
#define KILN_KERNELS_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, text, bytes, unit roundoff u: |round(x) - x| <= u |x|; 0 for integers). */
#define KILN_TYPES(X)                                                                              \
    X(NONE, "none", 0, 0)                                                                          \
    X(F64, "f64", 8, 0x1p-53)                                                                      \
    X(F32, "f32", 4, 0x1p-24)                                                                      \
    X(F16, "f16", 2, 0x1p-11)                                                                      \
    X(BF16, "bf16", 2, 0x1p-8)                                                                     \
    X(E4M3, "e4m3", 1, 0x1p-4)                                                                     \
    X(E5M2, "e5m2", 1, 0x1p-3)                                                                     \
    X(I32, "i32", 4, 0)                                                                            \
    X(I8, "i8", 1, 0)                                                                              \
    X(TF32, "tf32", 4, 0x1p-11)

typedef enum kiln_type {
#define X(name, text, bytes, u) KILN_##name,
    KILN_TYPES(X)
#undef X
        KILN_TYPE_COUNT
} kiln_type;

const char *kiln_type_name(kiln_type t);
/* KILN_TYPE_COUNT when the name is unknown. n is the length of name. */
kiln_type kiln_type_parse(const char *name, size_t n);
size_t kiln_type_bytes(kiln_type t);
/* e4m3 or e5m2 */
bool kiln_type_is_float8(kiln_type t);
double kiln_type_roundoff(kiln_type t);
/* Half the distance of the type's smallest numbers, which rounding may cost where roundoff says
 * less: f16, e4m3 and e5m2; 0 for the rest, whose smallest numbers nobody meets. */
double kiln_type_smallest_error(kiln_type t);
/* What a type that saturates (integers, e4m3, e5m2) makes of a value out of its range; NaN and
 * values of other types as they are. */
double kiln_type_saturate(kiln_type t, double value);

/* One element at p, as a double and back. Writing rounds to nearest even. What is out of range
 * becomes infinity in f32, tf32, f16 and bf16, and the largest value of its sign in integers, e4m3
 * (448) and e5m2 (57344): there infinity itself saturates, too, as GPUs' conversions do. NaN stays
 * NaN (integers: 0).
 * tf32 is kept as a float whose low 13 mantissa bits are 0: writing makes them so, reading does not
 * look. What multiplies tf32 may ignore or round these bits. */
double kiln_type_read(kiln_type t, const void *p);
/* n adjacent elements at once, many times faster than one by one. */
void kiln_type_read_many(kiln_type t, const void *from, int64_t n, double *to);
void kiln_type_write(kiln_type t, void *p, double value);

#endif

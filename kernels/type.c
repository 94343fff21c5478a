#include "kernels/type.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
    double roundoff;
} types[KILN_TYPE_COUNT] = {
#define X(name, text, bytes, u) [KILN_##name] = {text, bytes, u},
    KILN_TYPES(X)
#undef X
};

/* The float formats narrower than 32 bits: sign, exponent with this bias, mantissa. `top` is the
 * largest finite pattern, `infinity` what follows it (e4m3 has none), `over` what a value beyond
 * it is written as. tf32 has 19 bits, the upper ones of its 32. */
typedef struct format {
    int mantissa, bias;
    uint32_t sign, top, infinity, nan, over;
    double normal, steps; /* smallest normal number; 1 / smallest subnormal */
} format;

static const format formats[KILN_TYPE_COUNT] = {
    [KILN_F16] = {10, 15, 0x8000, 0x7bff, 0x7c00, 0x7e00, 0x7c00, 0x1p-14, 0x1p24},
    [KILN_BF16] = {7, 127, 0x8000, 0x7f7f, 0x7f80, 0x7fc0, 0x7f80, 0x1p-126, 0x1p133},
    [KILN_E4M3] = {3, 7, 0x80, 0x7e, 0, 0x7f, 0x7e, 0x1p-6, 0x1p9},
    [KILN_E5M2] = {2, 15, 0x80, 0x7b, 0x7c, 0x7e, 0x7b, 0x1p-14, 0x1p16},
    [KILN_TF32] = {10, 127, 0x40000, 0x3fbff, 0x3fc00, 0x3fe00, 0x3fc00, 0x1p-126, 0x1p136},
};
enum { TF32_SHIFT = 13 };

const char *kiln_type_name(kiln_type t) { return t < KILN_TYPE_COUNT ? types[t].name : "?"; }

kiln_type kiln_type_parse(const char *name, size_t n) {
    for (int t = KILN_NONE + 1; t < KILN_TYPE_COUNT; t++)
        if (strlen(types[t].name) == n && !memcmp(types[t].name, name, n)) return (kiln_type)t;
    return KILN_TYPE_COUNT;
}

size_t kiln_type_bytes(kiln_type t) {
    assert(t < KILN_TYPE_COUNT);
    return types[t].bytes;
}

bool kiln_type_is_float8(kiln_type t) { return t == KILN_E4M3 || t == KILN_E5M2; }

double kiln_type_roundoff(kiln_type t) {
    assert(t < KILN_TYPE_COUNT);
    return types[t].roundoff;
}

double kiln_type_smallest_error(kiln_type t) {
    return t == KILN_F16 ? 0x1p-25 : t == KILN_E4M3 ? 0x1p-10 : t == KILN_E5M2 ? 0x1p-17 : 0;
}

double kiln_type_saturate(kiln_type t, double value) {
    uint8_t room[8];
    kiln_type_write(t, room, value > 0 ? INFINITY : -INFINITY);
    double most = kiln_type_read(t, room);
    return fabs(value) > fabs(most) ? most : value;
}

/* A normal number is a double with the same exponent and fraction; ldexp would take most of the time
 * in which a reference checks a row. */
static double decode(const format *f, uint32_t bits) {
    uint32_t magnitude = bits & ~f->sign;
    double value;
    if (magnitude > f->top)
        value = magnitude == f->infinity ? INFINITY : NAN;
    else if (magnitude >> f->mantissa == 0)
        value = magnitude / f->steps;
    else {
        uint64_t wide = (((uint64_t)(1023 - f->bias) << f->mantissa) + magnitude)
                        << (52 - f->mantissa);
        memcpy(&value, &wide, sizeof value);
    }
    return bits & f->sign ? -value : value;
}

/* Rounds the double's own bits to nearest even, so that no value is rounded twice. Where the
 * result would be subnormal, adding a power of two lets the addition round at the right place. */
static uint32_t encode(const format *f, double x) {
    double magnitude = fabs(x);
    uint32_t sign = signbit(x) ? f->sign : 0;
    if (isnan(x)) return sign | f->nan;
    uint64_t bits;
    if (magnitude < f->normal) return sign | (uint32_t)((magnitude * f->steps + 0x1p52) - 0x1p52);
    memcpy(&bits, &magnitude, sizeof bits);
    int drop = 52 - f->mantissa;
    bits += (UINT64_C(1) << (drop - 1)) - 1 + (bits >> drop & 1);
    bits = (bits >> drop) - ((uint64_t)(1023 - f->bias) << f->mantissa);
    return sign | (bits > f->top ? f->over : (uint32_t)bits);
}

/* One case per type with a size of its own: a copy of a size known only here would be a call. */
double kiln_type_read(kiln_type t, const void *p) {
    double f64;
    float f32;
    uint16_t u16;
    int32_t i32;
    switch (t) {
    case KILN_F64:
        return memcpy(&f64, p, sizeof f64), f64;
    case KILN_F32:
    case KILN_TF32:
        return memcpy(&f32, p, sizeof f32), f32;
    case KILN_F16:
    case KILN_BF16:
        return memcpy(&u16, p, sizeof u16), decode(&formats[t], u16);
    case KILN_E4M3:
    case KILN_E5M2:
        return decode(&formats[t], *(const uint8_t *)p);
    case KILN_I32:
        return memcpy(&i32, p, sizeof i32), i32;
    case KILN_I8:
        return *(const int8_t *)p;
    default:
        assert(!"a type with elements");
        return NAN;
    }
}

/* A bf16 is the upper half of a float. */
static double bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* A copy before the conversion, because elements may lie at any address. */
#define READ_ALL(type, value)                                                                      \
    for (int64_t i = 0; i < n; i++) {                                                              \
        type x;                                                                                    \
        memcpy(&x, (const type *)from + i, sizeof x);                                              \
        to[i] = value;                                                                             \
    }

void kiln_type_read_many(kiln_type t, const void *from, int64_t n, double *to) {
    const format *f = &formats[t];
    switch (t) {
    case KILN_F64:
        memcpy(to, from, (size_t)n * sizeof *to);
        break;
    case KILN_F32:
    case KILN_TF32:
        READ_ALL(float, x)
        break;
    case KILN_BF16:
        READ_ALL(uint16_t, bf16_value(x))
        break;
    case KILN_F16:
        READ_ALL(uint16_t, decode(f, x))
        break;
    case KILN_E4M3:
    case KILN_E5M2:
        READ_ALL(uint8_t, decode(f, x))
        break;
    case KILN_I32:
        READ_ALL(int32_t, x)
        break;
    case KILN_I8:
        READ_ALL(int8_t, x)
        break;
    default:
        assert(!"a type with elements");
    }
}
#undef READ_ALL

/* NaN becomes 0: an integer has no better word for it. */
static int32_t saturate(double x, int32_t low, int32_t high) {
    if (isnan(x)) return 0;
    x = nearbyint(x);
    return x <= low ? low : x >= high ? high : (int32_t)x;
}

void kiln_type_write(kiln_type t, void *p, double value) {
    float f32 = (float)value;
    uint32_t u32;
    uint16_t u16;
    uint8_t u8;
    int32_t i32;
    int8_t i8;
    switch (t) {
    case KILN_F64:
        memcpy(p, &value, sizeof value);
        break;
    case KILN_F32:
        memcpy(p, &f32, sizeof f32);
        break;
    case KILN_F16:
    case KILN_BF16:
        u16 = (uint16_t)encode(&formats[t], value);
        memcpy(p, &u16, sizeof u16);
        break;
    case KILN_E4M3:
    case KILN_E5M2:
        u8 = (uint8_t)encode(&formats[t], value);
        memcpy(p, &u8, sizeof u8);
        break;
    case KILN_TF32:
        u32 = encode(&formats[t], value) << TF32_SHIFT;
        memcpy(p, &u32, sizeof u32);
        break;
    case KILN_I32:
        i32 = saturate(value, INT32_MIN, INT32_MAX);
        memcpy(p, &i32, sizeof i32);
        break;
    case KILN_I8:
        i8 = (int8_t)saturate(value, INT8_MIN, INT8_MAX);
        memcpy(p, &i8, sizeof i8);
        break;
    default:
        assert(!"a type with elements");
    }
}

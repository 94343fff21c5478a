#include "kernels/input.h"

#include "base/hash.h"

#include <string.h>

/* A prime: no row length or tile has a common measure with it, so that what is read from a wrong
 * place is wrong. */
enum { PERIOD = 1048583 };

static uint64_t operand_seed(uint64_t seed, int operand) {
    return kiln_random64(seed, (uint64_t)operand);
}

/* A multiple of 2^-23 in [-1, 1): exact in a float, so 16-bit types are rounded once. */
static double uniform(uint64_t seed, int64_t position) {
    int64_t bits = (int64_t)(kiln_random64(seed, (uint64_t)position) >> 40);
    return (double)(bits - (1 << 23)) * 0x1p-23;
}

static int integer(uint64_t seed, int64_t position) {
    return (int)(((kiln_random64(seed, (uint64_t)position) >> 32) * 255) >> 32) - 127;
}

/* All exponents from 2^-6 to 2^1 alike, the mantissa and the sign any; one in 64 is 0 or subnormal.
 * So every bit of the code is used, large products are as frequent as small ones, and sums stay far
 * from the largest number of either type. */
static uint8_t eight_bits(kiln_type t, uint64_t seed, int64_t position) {
    int mantissa = t == KILN_E4M3 ? 3 : 2, bias = t == KILN_E4M3 ? 7 : 15;
    uint64_t bits = kiln_random64(seed, (uint64_t)position) >> 40;
    uint64_t exponent = (bits >> 8 & 63) ? (uint64_t)(bias - 6) + (bits >> 16 & 7) : 0;
    uint64_t fraction = bits & ((1u << mantissa) - 1), sign = bits >> 7 & 1;
    return (uint8_t)(sign << 7 | exponent << mantissa | fraction);
}

static bool is_eight_bit_float(kiln_type t) { return t == KILN_E4M3 || t == KILN_E5M2; }

static bool is_integer(kiln_type t) { return t == KILN_I8 || t == KILN_I32; }

static void fill_f32(float *to, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)uniform(seed, i);
}

static void write_element(kiln_type t, uint64_t seed, int64_t position, void *to) {
    if (is_eight_bit_float(t))
        *(uint8_t *)to = eight_bits(t, seed, position);
    else
        kiln_type_write(t, to, is_integer(t) ? integer(seed, position) : uniform(seed, position));
}

static void fill_other(const kiln_operand *o, char *to, int64_t n, uint64_t seed) {
    size_t bytes = kiln_type_bytes(o->type);
    for (int64_t i = 0; i < n; i++) write_element(o->type, seed, i, to + (size_t)i * bytes);
}

/* Copies the first period over the rest, doubling what is there. */
static void repeat(char *to, int64_t bytes, int64_t period) {
    for (int64_t have = period; have < bytes; have += have)
        memcpy(to + have, to, (size_t)(have < bytes - have ? have : bytes - have));
}

void kiln_input_fill(const kiln_operand *o, uint64_t seed, int operand, void *host) {
    int64_t all = kiln_operand_elements(o), n = all < PERIOD ? all : PERIOD;
    uint64_t own = operand_seed(seed, operand);
    if (o->type == KILN_F32)
        fill_f32(host, n, own);
    else
        fill_other(o, host, n, own);
    int64_t bytes = (int64_t)kiln_type_bytes(o->type);
    if (all > n) repeat(host, all * bytes, n * bytes);
}

double kiln_input_element(const kiln_operand *o, uint64_t seed, int operand, int64_t position) {
    uint64_t own = operand_seed(seed, operand);
    double element;
    write_element(o->type, own, position % PERIOD, &element);
    return kiln_type_read(o->type, &element);
}

double kiln_input_scalar(uint64_t seed, int operand) {
    return uniform(operand_seed(seed, operand), 0);
}

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

static bool is_integer(kiln_type t) { return t == KILN_I8 || t == KILN_I32; }

static void fill_f32(float *to, int64_t n, uint64_t seed) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)uniform(seed, i);
}

static void fill_other(const kiln_operand *o, char *to, int64_t n, uint64_t seed) {
    size_t bytes = kiln_type_bytes(o->type);
    bool integers = is_integer(o->type);
    for (int64_t i = 0; i < n; i++)
        kiln_type_write(o->type, to + (size_t)i * bytes,
                        integers ? integer(seed, i) : uniform(seed, i));
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
    position %= PERIOD;
    kiln_type_write(o->type, &element,
                    is_integer(o->type) ? integer(own, position) : uniform(own, position));
    return kiln_type_read(o->type, &element);
}

double kiln_input_scalar(uint64_t seed, int operand) {
    return uniform(operand_seed(seed, operand), 0);
}

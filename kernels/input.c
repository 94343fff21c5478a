#include "kernels/input.h"

#include "base/hash.h"
#include "base/parallel.h"

#include <stdlib.h>
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

static bool is_integer(kiln_type t) { return t == KILN_I8 || t == KILN_I32; }

static void write_element(kiln_type t, uint64_t seed, int64_t position, void *to) {
    if (kiln_type_is_float8(t))
        *(uint8_t *)to = eight_bits(t, seed, position);
    else
        kiln_type_write(t, to, is_integer(t) ? integer(seed, position) : uniform(seed, position));
}

/* Elements [from, from + n). */
static void fill(kiln_type t, uint64_t seed, int64_t from, int64_t n, void *host) {
    size_t bytes = kiln_type_bytes(t);
    if (t == KILN_F32)
        for (int64_t i = 0; i < n; i++) ((float *)host)[i] = (float)uniform(seed, from + i);
    else
        for (int64_t i = 0; i < n; i++)
            write_element(t, seed, from + i, (char *)host + (size_t)i * bytes);
}

/* Copies the first period over the rest; it stays in a cache meanwhile. */
static void repeat(char *to, int64_t bytes, int64_t period) {
    for (int64_t at = period; at < bytes; at += period)
        memcpy(to + at, to, (size_t)(period < bytes - at ? period : bytes - at));
}

int64_t kiln_input_period(const kiln_operand *o) {
    int64_t all = kiln_operand_elements(o);
    return all < PERIOD ? all : PERIOD;
}

/* A period is 20 ms of one core's time: cores share it. */
typedef struct period_job {
    kiln_type type;
    uint64_t seed;
    char *raw;     /* as the type holds them */
    double *value; /* or as doubles */
} period_job;
enum { PIECE = 1024, PART = 64 * PIECE };

static void fill_raw(void *context, int64_t from, int64_t to) {
    const period_job *job = context;
    size_t bytes = kiln_type_bytes(job->type);
    fill(job->type, job->seed, from, to - from, job->raw + (size_t)from * bytes);
}

/* Through the type, a piece at a time. */
static void fill_values(void *context, int64_t from, int64_t to) {
    const period_job *job = context;
    double piece[PIECE]; /* of any type */
    for (int64_t at = from; at < to; at += PIECE) {
        int64_t n = to - at < PIECE ? to - at : PIECE;
        fill(job->type, job->seed, at, n, piece);
        kiln_type_read_many(job->type, piece, n, job->value + at);
    }
}

void kiln_input_fill_period(const kiln_operand *o, uint64_t seed, int operand, void *host) {
    period_job job = {.type = o->type, .seed = operand_seed(seed, operand), .raw = host};
    kiln_parallel(kiln_input_period(o), PART, fill_raw, &job);
}

void kiln_input_fill(const kiln_operand *o, uint64_t seed, int operand, void *host) {
    int64_t bytes = (int64_t)kiln_type_bytes(o->type);
    kiln_input_fill_period(o, seed, operand, host);
    repeat(host, kiln_operand_elements(o) * bytes, kiln_input_period(o) * bytes);
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

/* ---- a source */

/* Ranges that go beyond a period's end are put together in `room`. */
static const double *read_period(const kiln_source *s, int i, int64_t from, int64_t n,
                                 double *room) {
    const kiln_input *in = (const kiln_input *)s;
    int64_t period = kiln_input_period(&in->p->operand[i]), at = from % period;
    if (at + n <= period) return in->period[i] + at;
    for (int64_t have = 0; have < n; at = 0) {
        int64_t part = n - have < period - at ? n - have : period - at;
        memcpy(room + have, in->period[i] + at, (size_t)part * sizeof *room);
        have += part;
    }
    return room;
}

static double *make_period(const kiln_operand *o, uint64_t seed, int operand) {
    int64_t n = kiln_input_period(o);
    period_job job = {.type = o->type,
                      .seed = operand_seed(seed, operand),
                      .value = malloc((size_t)n * sizeof *job.value)};
    if (job.value) kiln_parallel(n, PART, fill_values, &job);
    return job.value;
}

int kiln_input_open(kiln_input *in, const kiln_problem *p, uint64_t seed, kiln_error *e) {
    *in = (kiln_input){.source = {.read = read_period, .scalar = in->scalar}, .p = p};
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) in->scalar[i] = kiln_input_scalar(seed, i);
        if (o->scalar || o->output) continue;
        in->period[i] = make_period(o, seed, i);
        if (in->period[i]) continue;
        kiln_input_close(in);
        return kiln_fail(e, KILN_NO_MEMORY, "no memory for the elements of operand %s", o->name);
    }
    return KILN_OK;
}

void kiln_input_close(kiln_input *in) {
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) free(in->period[i]);
    memset(in->period, 0, sizeof in->period);
}

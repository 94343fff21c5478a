/* Test vectors for a library: a few elements of each output, from the families' evaluator. */
#include "tuner/library.h"

#include "base/hash.h"
#include "kernels/input.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 3, COLS = 3, ROW_PRODUCTS = 1 << 27 };

typedef struct sampler {
    kiln_problem *p;
    kiln_library_entry *entry;
    kiln_library_sample *out;
    kiln_input input;
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX];
} sampler;

static int64_t widest(const kiln_problem *p) {
    int64_t most = 1;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].cols > most) most = p->operand[i].cols;
    return most;
}

static int open_sampler(sampler *s, kiln_error *e) {
    int outputs = 0;
    for (int i = 0; i < s->p->n_operands; i++) {
        if (!s->p->operand[i].output) continue;
        s->value[outputs] = malloc((size_t)widest(s->p) * sizeof(double));
        s->bound[outputs] = malloc((size_t)widest(s->p) * sizeof(double));
        if (!s->value[outputs] || !s->bound[outputs++])
            return kiln_fail(e, KILN_NO_MEMORY, "no memory for test vectors");
    }
    return kiln_input_open(&s->input, s->p, s->entry->seed, e);
}

/* How far a right result may be: the computation's bound and the rounding of the output's type. */
static double tolerance_of(kiln_type type, double value, double bound) {
    if (type == KILN_I8 || type == KILN_I32) return bound > 0 ? bound + 0.5 : 0;
    return bound + kiln_type_roundoff(type) * (fabs(value) + bound) +
           kiln_type_smallest_error(type) + 1e-38;
}

static int64_t pick(uint64_t seed, int i, int n, int64_t all) {
    if (i == 0 || all == 1) return 0;
    if (i == n - 1) return all - 1;
    return (int64_t)(kiln_random64(seed, (uint64_t)i + 1000) % (uint64_t)all);
}

static void take_row(sampler *s, int64_t batch, int64_t row) {
    for (int i = 0, j = 0; i < s->p->n_operands; i++) {
        const kiln_operand *o = &s->p->operand[i];
        if (!o->output) continue;
        for (int k = 0; k < COLS && row < o->rows; k++) {
            int64_t col = pick(s->entry->seed + (uint64_t)row, k, COLS, o->cols);
            double v = kiln_type_saturate(o->type, s->value[j][col]);
            double t = tolerance_of(o->type, v, s->bound[j][col]);
            if (!isfinite(v) || !isfinite(t)) continue; /* says nothing */
            s->out[s->entry->n_samples++] =
                (kiln_library_sample){i, batch * o->batch_stride + row * o->ld + col, v, t};
        }
        j++;
    }
}

/* A long row takes a core 0.1 s: one is enough then. */
static double products_in_row(const kiln_problem *p) {
    const kiln_generator *g = kiln_generator_of(p->family);
    int64_t rows = 1;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].output) rows = p->operand[i].rows * p->operand[i].batch;
    return g->flops(p) / 2 / (double)(rows > 0 ? rows : 1);
}

static int take_rows(sampler *s, kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(s->p->family);
    int64_t rows = 1, batch = 1;
    for (int i = 0; i < s->p->n_operands; i++) {
        const kiln_operand *o = &s->p->operand[i];
        if (o->output && o->rows > rows) rows = o->rows;
        if (o->output && o->batch > batch) batch = o->batch;
    }
    int status = 0, wanted = products_in_row(s->p) > ROW_PRODUCTS ? 1 : ROWS;
    for (int i = 0; i < wanted && !status; i++) {
        int64_t at = pick(s->entry->seed, i, wanted, rows * batch);
        status = g->evaluate(s->p, &s->input.source, at / rows, at % rows, s->value, s->bound, e);
        if (!status) take_row(s, at / rows, at % rows);
    }
    return status;
}

int kiln_library_take_samples(kiln_library_entry *entry, kiln_arena *arena, kiln_error *e) {
    sampler s = {.entry = entry};
    s.p = kiln_arena_alloc(arena, sizeof *s.p);
    s.out = kiln_arena_alloc(arena, KILN_OPERANDS_MAX * ROWS * COLS * sizeof *s.out);
    if (!s.p || !s.out) return kiln_fail(e, KILN_NO_MEMORY, "no memory for test vectors");
    entry->sample = s.out;
    entry->n_samples = 0;
    int status = kiln_problem_parse(s.p, entry->problem, e);
    if (!status) status = open_sampler(&s, e);
    if (!status) status = take_rows(&s, e);
    kiln_input_close(&s.input);
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) {
        free(s.value[i]);
        free(s.bound[i]);
    }
    if (status) entry->n_samples = 0;
    return status;
}

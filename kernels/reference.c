#include "kernels/reference.h"

#include <math.h>
#include <stdio.h>

/* Per block, as compare.k.c writes them. */
enum { WORST, INDEX, SQUARE_ERROR, SQUARE_REFERENCE, BAD, UNBOUNDED, SLOTS };
/* Positions of run-time values among the launch's arguments. */
enum { ARG_ROWS = 4, ARG_COLS, ARG_LD, ARG_BATCH_STRIDE, ARG_TOTAL, ARG_CHUNK, ARG_STEP, ARG_SPAN };

static int find_output(const kiln_problem *p, int j) {
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].output && !j--) return i;
    return -1;
}

static void add_pointer(kiln_launch *l, kiln_arg_kind kind, int index) {
    l->arg[l->n_args++] = (kiln_arg){.kind = (uint8_t)kind, .index = (uint8_t)index};
}

static void add_number(kiln_launch *l, int64_t value) {
    l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = value};
}

/* Threads of a GPU take adjacent elements, a CPU's work-items take a stretch each. */
int kiln_compare_launch(const kiln_problem *p, const kiln_caps *caps, int j, kiln_launch *out,
                        kiln_error *e) {
    int operand = find_output(p, j);
    if (operand < 0) return kiln_fail(e, KILN_BAD_INPUT, "the problem has no output number %d", j);
    const kiln_operand *o = &p->operand[operand];
    bool cpu = caps->kind == KILN_DEVICE_CPU;
    int64_t total = o->batch * o->rows * o->cols, units = caps->units > 0 ? caps->units : 1;
    int64_t block = cpu ? 1 : 128, grid = units * 8;
    if (grid > 4096) grid = 4096;
    int64_t threads = grid * block, chunk = (total + threads - 1) / threads;
    *out = (kiln_launch){.grid = {(uint32_t)grid, 1, 1}, .block = {(uint32_t)block, 1, 1}};
    snprintf(out->entry, sizeof out->entry, "compare_%d", j);
    add_pointer(out, KILN_ARG_OPERAND, operand);
    add_pointer(out, KILN_ARG_REFERENCE, j);
    add_pointer(out, KILN_ARG_BOUND, j);
    add_pointer(out, KILN_ARG_PARTIALS, 0);
    add_number(out, o->rows);
    add_number(out, o->cols);
    add_number(out, o->ld);
    add_number(out, o->batch_stride);
    add_number(out, total);
    add_number(out, cpu ? chunk : 1);
    add_number(out, cpu ? 1 : threads);
    add_number(out, cpu ? chunk : total);
    return 0;
}

int64_t kiln_compare_partial_bytes(const kiln_launch *l) {
    return (int64_t)l->grid[0] * SLOTS * (int64_t)sizeof(double);
}

kiln_verdict kiln_compare_verdict(const kiln_launch *l, const void *partials) {
    const double *part = partials;
    kiln_verdict v = {.elements = l->arg[ARG_TOTAL].value.i};
    for (uint32_t i = 0; i < l->grid[0]; i++, part += SLOTS) {
        if (part[WORST] > v.worst) {
            v.worst = part[WORST];
            v.worst_index = (int64_t)part[INDEX];
        }
        v.bad += (int64_t)part[BAD];
        v.unbounded += (int64_t)part[UNBOUNDED];
        v.square_error += part[SQUARE_ERROR];
        v.square_reference += part[SQUARE_REFERENCE];
    }
    if (v.bad) v.worst = INFINITY;
    v.right = v.worst <= 1 && !v.bad && (v.unbounded < v.elements || !v.elements);
    return v;
}

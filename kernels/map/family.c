/* What only the tuner needs of the map family: cost, features, reference. */
#include "kernels/map/map.h"

#include "kernels/emit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FLOAT_ROUNDOFF 0x1p-24

/* ---- cost and features */

static double flops(const kiln_problem *p) {
    return kiln_body_flops(&p->body) * (double)kiln_problem_get(p, "rows") *
           (double)kiln_problem_get(p, "cols");
}

static double bytes(const kiln_problem *p) {
    double sum = 0;
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->scalar) sum += (double)o->rows * (double)o->cols * (double)kiln_type_bytes(o->type);
    }
    return sum;
}

typedef struct feature {
    const char *name;
    double value;
} feature;

static double log2_of(double x) { return x > 0 ? log2(x) : 0; }

static int features(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                    const char **names, double *values, int max) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    kiln_program program;
    const bool known = s->variant->program(p, caps, s, &program, 0) == KILN_OK;
    const kiln_launch *l = &program.launch[0];
    const double blocks = known ? l->grid[0] : 0, threads = known ? blocks * l->block[0] : 0;
    const double elements = (double)m.rows * (double)m.cols;
    const double flight = (double)kiln_schedule_get(s, "v") * kiln_schedule_get(s, "u");
    const feature f[] = {
        {"log2_rows", log2_of((double)m.rows)},
        {"log2_cols", log2_of((double)m.cols)},
        {"log2_bytes", log2_of(bytes(p))},
        {"full_inputs", m.full_inputs},
        {"full_operands", m.full},
        {"phases", m.n_phases},
        {"widest_bytes", m.widest},
        {"flops_per_byte", flops(p) / fmax(bytes(p), 1)},
        {"log2_blocks", log2_of(blocks)},
        {"blocks_per_unit", blocks / fmax(caps->units, 1)},
        {"log2_elements_per_thread", log2_of(elements / fmax(threads, 1))},
        {"elements_in_flight", flight},
        {"bytes_in_flight", flight * m.widest * m.full_inputs},
        {"row_share_in_flight", flight / (double)m.cols},
    };
    const int n = (int)(sizeof f / sizeof *f);
    for (int i = 0; i < n && i < max; i++) {
        if (names) names[i] = f[i].name;
        values[i] = f[i].value;
    }
    return n < max ? n : max;
}

/* ---- the reference program */

static void operand_name(void *context, int operand, kiln_text *out) {
    kiln_text_printf(out, "q->x_%s", ((const kiln_problem *)context)->operand[operand].name);
}

static void emit_reference_parameters(const kiln_problem *p, kiln_text *out) {
    kiln_text_add(out, "#define PARAMETERS ");
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) kiln_text_printf(out, "const float p_%s, ", o->name);
        else if (!o->output)
            kiln_text_printf(out, "GLOBAL const STORAGE(%s) *RESTRICT p_%s, ",
                             kiln_type_name(o->type), o->name);
    }
    kiln_text_add(out, "const i64 rows, const i64 cols");
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].output)
            kiln_text_printf(out, ", GLOBAL double *RESTRICT v_%s, GLOBAL float *RESTRICT b_%s",
                             p->operand[i].name, p->operand[i].name);
    kiln_text_add(out, "\n");
}

static void emit_reference_point(const kiln_problem *p, int reductions, kiln_text *out) {
    kiln_text_add(out, "typedef struct NAME(point) {\n");
    for (int i = 0; i < p->n_operands; i++) {
        const char *name = p->operand[i].name;
        if (p->operand[i].output) kiln_text_printf(out, "    double o_%s, oe_%s;\n", name, name);
        else kiln_text_printf(out, "    double x_%s;\n", name);
    }
    for (int i = 0; i < reductions; i++)
        kiln_text_printf(out, "    double r%d, re%d, a%d, ae%d;\n", i, i, i, i);
    kiln_text_add(out, "} NAME(point);\n");
}

static void emit_reference_function(const kiln_problem *p, int phase, kiln_text *out) {
    int16_t node[KILN_NODES_MAX];
    const int n = kiln_body_reductions(&p->body, node, KILN_NODES_MAX);
    const bool last = phase == p->body.n_phases - 1;
    const kiln_emit_part part = {.phase = phase, .reductions = !last, .outputs = last,
                                 .indent = "    ", .operand = operand_name,
                                 .context = (void *)(uintptr_t)p};
    if (last) kiln_text_add(out, "FUNC void NAME(finish)(NAME(point) *q) {\n");
    else kiln_text_printf(out, "FUNC void NAME(phase_%d)(NAME(point) *q) {\n", phase);
    for (int i = 0; i < n; i++) {
        const int when = p->body.node[node[i]].phase;
        if (when < phase)
            kiln_text_printf(out, "    double r%d = q->r%d, re%d = q->re%d;\n", i, i, i, i);
        if (when == phase) kiln_text_printf(out, "    double a%d, ae%d;\n", i, i);
    }
    for (int i = 0; last && i < p->n_operands; i++)
        if (p->operand[i].output)
            kiln_text_printf(out, "    double o_%s, oe_%s;\n", p->operand[i].name,
                             p->operand[i].name);
    kiln_body_emit_bounded(&p->body, &part, out);
    for (int i = 0; i < n; i++)
        if (p->body.node[node[i]].phase == phase)
            kiln_text_printf(out, "    q->a%d = a%d;\n    q->ae%d = ae%d;\n", i, i, i, i);
    for (int i = 0; last && i < p->n_operands; i++) {
        const char *name = p->operand[i].name;
        if (p->operand[i].output)
            kiln_text_printf(out, "    q->o_%s = o_%s;\n    q->oe_%s = oe_%s;\n", name, name, name,
                             name);
    }
    kiln_text_add(out, "}\n");
}

static int reference_source(const kiln_problem *p, const kiln_caps *caps, kiln_text *out,
                            kiln_error *e) {
    int16_t node[KILN_NODES_MAX];
    kiln_text undefs = {0};
    (void)caps;
    kiln_text_add(out, "#define U 5.9604644775390625e-8\n");
    kiln_map_emit_lists(p, out, &undefs);
    kiln_text_add(out, "#undef PARAMETERS\n");
    emit_reference_parameters(p, out);
    emit_reference_point(p, kiln_body_reductions(&p->body, node, KILN_NODES_MAX), out);
    for (int phase = 0; phase < p->body.n_phases; phase++) emit_reference_function(p, phase, out);
    kiln_text_add(out, kiln_embedded("kernels/map/reference.k.c"));
    kiln_text_add(out, kiln_text_get(&undefs));
    const bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the reference's text") : KILN_OK;
}

static int reference_program(const kiln_problem *p, const kiln_caps *caps, kiln_program *out,
                             kiln_error *e) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int64_t tiles = m.by_row ? m.rows : (m.rows * m.cols + 63) / 64;
    (void)caps, (void)e;
    memset(out, 0, sizeof *out);
    out->n_launches = 1;
    kiln_launch *l = &out->launch[0];
    strcpy(l->entry, "main");
    l->grid[0] = (uint32_t)(tiles < 65536 ? tiles : 65536);
    l->grid[1] = l->grid[2] = l->block[1] = l->block[2] = 1;
    l->block[0] = 64;
    for (int i = 0; i < p->n_operands; i++)
        if (!p->operand[i].output)
            l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_OPERAND, .index = (uint8_t)i};
    l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = m.rows};
    l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = m.cols};
    for (int i = 0, j = 0; i < p->n_operands; i++) {
        if (!p->operand[i].output) continue;
        l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_REFERENCE, .index = (uint8_t)j};
        l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_BOUND, .index = (uint8_t)j};
        j++;
    }
    return KILN_OK;
}

/* ---- the same for one row, in C */

static double integer(double x, kiln_type t) {
    const double least = t == KILN_I8 ? -128.0 : -2147483648.0;
    return fmin(fmax(rint(x), least), -least - 1);
}

static void put(kiln_bounded r, kiln_type t, double *value, double *bound) {
    *value = r.value;
    *bound = r.error;
    if (t != KILN_I8 && t != KILN_I32) return;
    *value = integer(r.value, t);
    *bound = fmax(integer(r.value + r.error, t) - *value, *value - integer(r.value - r.error, t));
}

/* What operand i has for this row, as floats in double. */
static void get_row(const kiln_problem *p, const kiln_source *in, int i, int64_t row, double *to) {
    const kiln_operand *o = &p->operand[i];
    const int64_t start = o->axes & KILN_MAP_ROW ? row * o->ld : 0;
    if (o->scalar) {
        *to = in->scalar ? (double)(float)in->scalar[i] : 0;
        return;
    }
    const double *from = in->read(in, i, start, o->cols, to);
    for (int64_t c = 0; c < o->cols; c++) to[c] = (double)(float)from[c];
}

/* The last statement that stores to operand i. */
static int statement_of(const kiln_body *b, int operand) {
    int found = -1;
    for (int i = 0; i < b->n_statements; i++)
        if (b->statement[i].operand == operand) found = i;
    return found;
}

static int evaluate(const kiln_problem *p, const kiln_source *source, int64_t batch, int64_t row,
                    double *const *value, double *const *bound, kiln_error *e) {
    const int64_t cols = kiln_problem_get(p, "cols");
    double *in = calloc((size_t)p->n_operands * (size_t)cols, sizeof *in);
    kiln_bounded *result = calloc((size_t)p->n_operands * (size_t)cols, sizeof *result);
    const double *inputs[KILN_OPERANDS_MAX] = {0};
    kiln_bounded *out[KILN_STATEMENTS_MAX] = {0};
    int status = in && result ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a row of %lld",
                                                    (long long)cols);
    (void)batch;
    for (int i = 0; !status && i < p->n_operands; i++) {
        inputs[i] = in + i * cols;
        if (p->operand[i].output) out[statement_of(&p->body, i)] = result + i * cols;
        else get_row(p, source, i, row, in + i * cols);
    }
    if (!status) status = kiln_body_eval(&p->body, inputs, 0, cols, FLOAT_ROUNDOFF, out, e);
    for (int i = 0, j = 0; !status && i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->output) continue;
        for (int64_t c = 0; c < o->cols; c++)
            put(result[i * cols + c], o->type, &value[j][c], &bound[j][c]);
        j++;
    }
    free(in);
    free(result);
    return status;
}

static int evaluate_row(const kiln_problem *p, const void *const *host, const double *scalars,
                        int64_t batch, int64_t row, double *const *value, double *const *bound,
                        kiln_error *e) {
    const kiln_host_source in = kiln_source_host(p, host, scalars);
    return evaluate(p, &in.source, batch, row, value, bound, e);
}

/* ---- sizes at which a winner is verified again */

enum { ODD_MAX = 12, ODD_TEXT = 48 };

/* Around the columns that the schedule handles at once, single rows and columns, primes. */
static const char *const *odd_sizes(const kiln_problem *p, const kiln_schedule *s) {
    static _Thread_local char text[ODD_MAX][ODD_TEXT];
    static _Thread_local const char *list[ODD_MAX + 1];
    const bool blocks = s->variant == &kiln_map_simt;
    const long step = (long)kiln_schedule_get(s, "v") * kiln_schedule_get(s, "u");
    const long lanes = blocks ? kiln_schedule_get(s, "t") / kiln_schedule_get(s, "tr") : 1;
    const long span = step * lanes, v = kiln_schedule_get(s, "v");
    const long cols[] = {1, v, v + 1, 127, 1009, span > 1 ? span - 1 : 1, span, span + 1,
                         span > v ? span - v : v, span + v, 2 * span};
    const long rows[] = {1, 3, 7, 1, 13, 2, 5, 3, 17, 2, 1};
    (void)p;
    int n = 0;
    for (size_t i = 0; i < sizeof cols / sizeof *cols; i++, n++) {
        snprintf(text[n], ODD_TEXT, "rows=%ld cols=%ld", rows[i], cols[i]);
        list[n] = text[n];
    }
    list[n] = 0;
    return list;
}

#define GENERATOR(name)                                                                            \
    {                                                                                              \
        .variant = &kiln_map_##name, .applies = kiln_map_##name##_applies,                         \
        .space = kiln_map_##name##_space, .start = kiln_map_##name##_start,                        \
        .source = kiln_map_##name##_source                                                         \
    }
static const kiln_variant_generator variants[] = {GENERATOR(cpu), GENERATOR(simt), {0}};

const kiln_generator kiln_generator_map = {
    .family = &kiln_family_map,
    .variants = variants,
    .flops = flops,
    .bytes = bytes,
    .reference_source = reference_source,
    .reference_program = reference_program,
    .evaluate = evaluate,
    .evaluate_row = evaluate_row,
    .features = features,
    .odd_sizes = odd_sizes,
};

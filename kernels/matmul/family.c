/* What only the tuner knows of matmul: reference, cost, features, sizes to check again. */
#include "kernels/emit.h"
#include "kernels/matmul/evaluate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

/* ---- work */

static double flops(const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    double results = (double)v.m * (double)v.n * (double)v.batch;
    return results * (2.0 * (double)v.k + kiln_body_flops(&p->body));
}

static double bytes(const kiln_problem *p) {
    double sum = 0;
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->scalar)
            sum += (double)o->rows * (double)o->cols * (double)o->batch *
                   (double)kiln_type_bytes(o->type);
    }
    return sum;
}

/* ---- the reference (its bounds: evaluate.h) */

static bool on_cpu(const kiln_caps *caps) { return caps->kind == KILN_DEVICE_CPU; }

enum { CPU_PA = 8, CPU_PB = 16, GPU_PA = 64, GPU_PB = 64, SPREAD_STEPS = 64, GRID_Y_MAX = 65535 };

static void name_operand(void *context, int operand, kiln_text *out) {
    const kiln_problem *p = context;
    kiln_text_printf(out, "x_%s", p->operand[operand].name);
}

static void reference_list(kiln_text *out, const kiln_problem *p, bool declare) {
    kiln_text_add(out, declare ? "i64 m, i64 n" : "m, n");
    for (int i = MATMUL_EXTRA; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->output) continue;
        if (!declare)
            kiln_text_printf(out, ", p_%s", o->name);
        else if (o->scalar)
            kiln_text_printf(out, ", float p_%s", o->name);
        else
            kiln_text_printf(out, ", const GLOBAL STORAGE(%s) *RESTRICT p_%s",
                             kiln_type_name(o->type), o->name);
    }
    for (int i = MATMUL_OUT; i < p->n_operands; i++)
        if (p->operand[i].output)
            kiln_text_printf(out,
                             declare ? ", GLOBAL double *RESTRICT v_%s, GLOBAL float *RESTRICT b_%s"
                                     : ", v_%s, b_%s",
                             p->operand[i].name, p->operand[i].name);
}

static void read_operand(kiln_text *out, const kiln_operand *o) {
    bool m = o->axes & MATMUL_AXIS_M, n = o->axes & MATMUL_AXIS_N;
    if (o->scalar)
        kiln_text_printf(out, "    const double x_%s = (double)p_%s;\n", o->name, o->name);
    else
        kiln_text_printf(out, "    const double x_%s = (double)READ(%s, p_%s, %s);\n", o->name,
                         kiln_type_name(o->type), o->name,
                         m && n ? "at"
                         : n    ? "col"
                         : m    ? "row"
                                : "0");
}

static void emit_error(kiln_text *out, const matmul *v) {
    if (v->acc != KILN_F32) {
        kiln_text_printf(out, "    const double acc_error = %s;\n",
                         kiln_matmul_acc_error(v, 1, 1, 0) == 0 ? "0.0" : "U * fabs(acc)");
        return;
    }
    if (kiln_matmul_narrow(v))
        kiln_text_printf(out,
                         "    const double one_sided = fmin(1.0, fabs(acc) / magnitude);\n"
                         "    const double count = 0.5 * (ceil((double)k / %d.0) + (double)k * "
                         "one_sided) + %.1f * sqrt((double)k) + 1.0;\n",
                         NARROW_STEP, NARROW_SPREAD);
    kiln_text_printf(out,
                     "    const double acc_error = %.1f * sqrt((double)k) * U * magnitude + "
                     "(double)k * %g%s;\n",
                     ERROR_UNITS, TINY, kiln_matmul_narrow(v) ? " + narrow * count" : "");
}

static bool of_row(const kiln_operand *o) { return o->output && !(o->axes & MATMUL_AXIS_N); }

static int find_tops(const kiln_problem *p, int16_t node[KILN_STATEMENTS_MAX]) {
    return kiln_body_reductions(&p->body, node, KILN_STATEMENTS_MAX);
}

static bool largest(const kiln_problem *p, int node) {
    return p->body.node[node].op == KILN_OP_RMAX;
}

/* Maxima and minima of rows: NAME(top) combines two of number t, NAME(tops_begin) says with what
 * one begins, NAME(tops_end) stores a row's. The bound of a maximum is the largest of the bounds.
 */
static void emit_tops(kiln_text *out, const kiln_problem *p) {
    int16_t node[KILN_STATEMENTS_MAX];
    int n = find_tops(p, node);
    if (!n) return;
    kiln_text_add(out, "FUNC double NAME(top)(int t, double a, double b)\n{\n    return ");
    for (int i = 0; i < n; i++)
        kiln_text_printf(out, "t == %d ? %s(a, b) : ", i, largest(p, node[i]) ? "fmax" : "fmin");
    kiln_text_add(out, "a;\n}\nFUNC void NAME(tops_begin)(double *tops, double *errors)\n{\n");
    for (int i = 0; i < n; i++)
        kiln_text_printf(out, "    tops[%d] = %s(double)K_INF;\n    errors[%d] = 0.0;\n", i,
                         largest(p, node[i]) ? "-" : "", i);
    kiln_text_add(out, "}\nFUNC void NAME(tops_end)(REFERENCE_PARAMS, i64 at, const double *tops, "
                       "const double *errors)\n{\n");
    for (int s = 0; s < p->body.n_statements; s++)
        for (int i = 0; i < n && p->body.statement[s].operand >= 0; i++)
            if (p->body.statement[s].node == node[i])
                kiln_text_printf(out,
                                 "    v_%s[at] = tops[%d];\n"
                                 "    b_%s[at] = (float)(errors[%d] * 1.0001);\n",
                                 p->body.statement[s].name, i, p->body.statement[s].name, i);
    kiln_text_add(out, "}\n");
}

static void collect_tops(kiln_text *out, const kiln_problem *p) {
    int16_t node[KILN_STATEMENTS_MAX];
    int n = find_tops(p, node);
    for (int i = 0; i < n; i++)
        kiln_text_printf(out,
                         "    tops[%d] = %s(tops[%d], a%d);\n"
                         "    errors[%d] = fmax(errors[%d], ae%d);\n",
                         i, largest(p, node[i]) ? "fmax" : "fmin", i, i, i, i, i);
}

/* FUNC NAME(end): the statements of one element, in double and with bounds. */
static void emit_end(kiln_text *out, const kiln_problem *p) {
    int16_t node[KILN_STATEMENTS_MAX];
    int tops = find_tops(p, node);
    kiln_emit_part part = {.outputs = true,
                           .reductions = true,
                           .indent = "    ",
                           .operand = name_operand,
                           .context = (void *)(uintptr_t)p};
    bool read[KILN_OPERANDS_MAX] = {false};
    matmul v = kiln_matmul_view(p);
    kiln_body_reads(&p->body, &part, read, p->n_operands);
    kiln_text_add(out,
                  "#define U 5.9604644775390625e-8\n"
                  "FUNC void NAME(end)(REFERENCE_PARAMS, i64 batch, i64 row, i64 col, double acc, "
                  "double magnitude, double narrow, i64 k END_PARAM)\n{\n    const i64 at = "
                  "(batch * m + row) * n + col;\n");
    emit_error(out, &v);
    for (int i = 0; i < p->n_operands; i++) {
        const char *name = p->operand[i].name;
        if (read[i]) read_operand(out, &p->operand[i]);
        if (p->operand[i].output && !of_row(&p->operand[i]))
            kiln_text_printf(out, "    double o_%s, oe_%s;\n", name, name);
    }
    for (int i = 0; i < tops; i++) kiln_text_printf(out, "    double a%d, ae%d;\n", i, i);
    kiln_body_emit_bounded(&p->body, &part, out);
    collect_tops(out, p);
    for (int i = 0; i < p->n_operands; i++) {
        const char *name = p->operand[i].name;
        if (p->operand[i].output && !of_row(&p->operand[i]))
            kiln_text_printf(out, "    v_%s[at] = o_%s;\n    b_%s[at] = (float)(oe_%s * 1.0001);\n",
                             name, name, name, name);
    }
    kiln_text_add(out, "}\n#undef U\n");
}

static int reference_source(const kiln_problem *p, const kiln_caps *caps, kiln_text *out,
                            kiln_error *e) {
    kiln_text undefs = {0};
    kiln_matmul_emit_problem(out, &undefs, p);
    bool cpu = on_cpu(caps);
    matmul v = kiln_matmul_view(p);
    const struct {
        const char *name;
        int value;
    } shape[] = {{"RW", cpu ? 16 : 1},
                 {"RM", cpu ? 8 : 4},
                 {"RN", cpu ? 1 : 4},
                 {"TX", cpu ? 1 : 16},
                 {"TY", cpu ? 1 : 16},
                 {"SPREAD_THREADS", cpu ? 1 : 256},
                 {"NARROW", kiln_matmul_narrow(&v)},
                 {"NARROW_STEP", NARROW_STEP},
                 {"NARROW_WINDOW", v.fast ? 0 : NARROW_WINDOW}};
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        kiln_emit_define(out, &undefs, shape[i].name, "%d", shape[i].value);
    kiln_emit_define(out, &undefs, "NARROW_UNIT", "%.17g", NARROW_UNIT);
    kiln_emit_define(out, &undefs, "END_PARAM", "%s",
                     v.tops ? ", double *tops, double *errors" : "");
    kiln_emit_define(out, &undefs, "END_ARG", "%s", v.tops ? ", tops, errors" : "");
    kiln_text_add(out, "#define REFERENCE_PARAMS ");
    reference_list(out, p, true);
    kiln_text_add(out, "\n#define REFERENCE_ARGS ");
    reference_list(out, p, false);
    kiln_text_add(out, "\n");
    emit_tops(out, p);
    emit_end(out, p);
    kiln_text_add(out, kiln_embedded("kernels/matmul/reference.k.c"));
    kiln_text_add(
        out,
        "#undef REFERENCE_PARAMS\n#undef REFERENCE_ARGS\n#undef PA\n#undef PB\n"
        "#undef RV\n#undef RF\n#undef RV_OF\n#undef RF_OF\n#undef RV_PUT\n#undef SPREAD_STEPS\n"
        "#undef NARROW_SUM\n#undef NARROW_OF\n#undef PART\n#undef ROW_THREADS\n");
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of matmul's reference")
                  : KILN_OK;
}

static void set_launch(kiln_launch *l, const char *entry, int64_t x, int64_t y, int64_t z, int bx,
                       int by) {
    strcpy(l->entry, entry);
    l->grid[0] = (uint32_t)x;
    l->grid[1] = (uint32_t)(y < GRID_Y_MAX ? y : GRID_Y_MAX);
    l->grid[2] = (uint32_t)z;
    l->block[0] = (uint32_t)bx;
    l->block[1] = (uint32_t)by;
    l->block[2] = 1;
}

static void reference_args(kiln_launch *l, const kiln_problem *p) {
    kiln_matmul_arg_i64(l, kiln_matmul_view(p).m);
    kiln_matmul_arg_i64(l, kiln_matmul_view(p).n);
    for (int i = MATMUL_EXTRA; i < p->n_operands; i++)
        if (!p->operand[i].output) kiln_matmul_arg_operand(l, i);
    for (int i = MATMUL_OUT, j = 0; i < p->n_operands; i++)
        if (p->operand[i].output) {
            l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_REFERENCE, .index = (uint8_t)j};
            l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_BOUND, .index = (uint8_t)j++};
        }
}

static int reference_program(const kiln_problem *p, const kiln_caps *caps, kiln_program *out,
                             kiln_error *e) {
    (void)e;
    bool cpu = on_cpu(caps);
    matmul v = kiln_matmul_view(p);
    int pa = cpu ? CPU_PA : GPU_PA, pb = cpu ? CPU_PB : GPU_PB, side = cpu ? 1 : 16;
    int64_t panels_a = ceil_div(v.m, pa), panels_b = ceil_div(v.n, pb);
    memset(out, 0, sizeof *out);
    int64_t spread = (panels_a * pa + panels_b * pb) * v.k * v.batch; /* floats, an even number */
    int64_t parts = 2 * v.tops * v.m * v.batch * panels_b;            /* doubles */
    out->n_launches = v.tops ? 3 : 2;
    out->workspace_bytes = spread * 4 + parts * 8;
    kiln_launch *l = &out->launch[0];
    set_launch(l, "spread", ceil_div(v.k, SPREAD_STEPS), panels_a + panels_b, v.batch,
               cpu ? 1 : 256, 1);
    kiln_matmul_arg_operand(l, MATMUL_A);
    kiln_matmul_arg_operand(l, MATMUL_B);
    const int64_t numbers[] = {v.m,        v.n,        v.k,      v.lda,   v.ldb,
                               v.stride_a, v.stride_b, panels_a, panels_b};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        kiln_matmul_arg_i64(l, numbers[i]);
    kiln_matmul_arg_workspace(l);
    l = &out->launch[1];
    set_launch(l, "main", panels_a, panels_b, v.batch, side, side);
    reference_args(l, p);
    kiln_matmul_arg_i64(l, v.k);
    kiln_matmul_arg_i64(l, panels_a);
    kiln_matmul_arg_i64(l, panels_b);
    kiln_matmul_arg_workspace(l);
    if (!v.tops) return KILN_OK;
    kiln_matmul_arg_workspace(l);
    kiln_matmul_arg_i64(l, spread / 2);
    l = &out->launch[2];
    set_launch(l, "rows", ceil_div(v.m, cpu ? 1 : 64), 1, v.batch, cpu ? 1 : 64, 1);
    reference_args(l, p);
    kiln_matmul_arg_i64(l, panels_b);
    kiln_matmul_arg_workspace(l);
    kiln_matmul_arg_i64(l, spread / 2);
    return KILN_OK;
}

/* ---- features for the cost model: fixed names, 0 where a variant has no such thing */

static int knob_or(const kiln_schedule *s, const char *name, int otherwise) {
    for (int i = 0; s->variant->knobs[i].name; i++)
        if (!strcmp(s->variant->knobs[i].name, name)) return s->value[i];
    return otherwise;
}

typedef struct tile {
    double m, n, k, threads, registers, shared_bytes, split;
} tile;

static tile tile_of(const matmul *v, const kiln_schedule *s) {
    double element = (double)kiln_type_bytes(v->a);
    if (s->variant == &kiln_matmul_cpu) {
        double mr = knob_or(s, "mr", 1), nr = knob_or(s, "nv", 1) * knob_or(s, "vl", 1);
        tile t = {.m = mr * knob_or(s, "mp", 1),
                  .n = nr * knob_or(s, "np", 1),
                  .k = knob_or(s, "kc", 1),
                  .threads = 1,
                  .registers = mr * knob_or(s, "nv", 1) + knob_or(s, "nv", 1) + 1,
                  .split = 1};
        t.shared_bytes = t.k * (t.m + t.n) * 4; /* what wants to be in cache */
        return t;
    }
    tile t = {.m = knob_or(s, "tm", 1),
              .n = knob_or(s, "tn", 1),
              .k = knob_or(s, "tk", 1),
              .split = knob_or(s, "split", 1)};
    int warps = knob_or(s, "warps_m", 0) * knob_or(s, "warps_n", 0);
    t.threads = warps ? warps * 32.0 : t.m * t.n / (knob_or(s, "rm", 1) * knob_or(s, "rn", 1));
    t.registers = t.m * t.n / t.threads;
    t.shared_bytes = knob_or(s, "stages", knob_or(s, "buffers", 1)) * t.k * (t.m + t.n) * element;
    return t;
}

static int features(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                    const char **names, double *values, int max) {
    matmul v = kiln_matmul_view(p);
    tile t = tile_of(&v, s);
    double m = (double)v.m, n = (double)v.n, k = (double)v.k, batch = (double)v.batch;
    double tiles_m = ceil(m / t.m), tiles_n = ceil(n / t.n);
    double blocks = tiles_m * tiles_n * batch * t.split, units = caps->units > 0 ? caps->units : 1;
    double traffic = batch * (tiles_n * m * k + tiles_m * n * k) * (double)kiln_type_bytes(v.a);
    const struct {
        const char *name;
        double value;
    } list[] = {
        {"log_m", log2(m)},
        {"log_n", log2(n)},
        {"log_k", log2(k)},
        {"log_batch", log2(batch)},
        {"bytes_a", (double)kiln_type_bytes(v.a)},
        {"bytes_out", (double)kiln_type_bytes(v.out)},
        {"ta", v.ta},
        {"tb", v.tb},
        {"integer", v.acc == KILN_I32},
        {"plain", v.plain},
        {"intensity", flops(p) / bytes(p)},
        {"tile_m", t.m},
        {"tile_n", t.n},
        {"tile_k", t.k},
        {"tiles_m", tiles_m},
        {"tiles_n", tiles_n},
        {"log_blocks", log2(blocks)},
        {"waves", blocks / units},
        {"wave_use", blocks / units / ceil(blocks / units)},
        {"tile_use", m * n / (tiles_m * t.m * tiles_n * t.n)},
        {"k_use", k / (ceil(k / t.k) * t.k)},
        {"threads", t.threads},
        {"acc_registers", t.registers},
        {"tile_bytes", t.shared_bytes},
        {"tile_intensity", t.m * t.n / (t.m + t.n)},
        {"log_traffic", log2(traffic)},
        {"split", t.split},
        {"buffers", knob_or(s, "stages", knob_or(s, "buffers", 0))},
        {"micro_m", knob_or(s, "mr", knob_or(s, "rm", 0))},
        {"micro_n", knob_or(s, "nv", knob_or(s, "rn", 0))},
        {"vector", knob_or(s, "vl", knob_or(s, "va", 0))},
        {"vector_b", knob_or(s, "vb", 0)},
        {"store", knob_or(s, "vo", knob_or(s, "store", 0))},
        {"group", knob_or(s, "group", 0)},
        {"unroll", knob_or(s, "uk", 0)},
        {"prefetch", knob_or(s, "pfb", 0)},
        {"prefetch_out", knob_or(s, "pfc", 0)},
        {"order", knob_or(s, "order", 0)},
        {"part", knob_or(s, "part", 0)},
        {"pad", knob_or(s, "pad", 0)},
        {"warps_m", knob_or(s, "warps_m", 0)},
        {"warps_n", knob_or(s, "warps_n", 0)},
        {"resident", knob_or(s, "resident", 0)},
        {"copy", knob_or(s, "copy", 0)},
    };
    int count = (int)(sizeof list / sizeof *list);
    if (count > max) count = max;
    for (int i = 0; i < count; i++) {
        if (names) names[i] = list[i].name;
        values[i] = list[i].value;
    }
    return count;
}

/* ---- sizes at which a winner is checked again */

static const char *const *odd_sizes(const kiln_problem *p, const kiln_schedule *s) {
    /* Leading dimensions that were given stay: so no size grows beyond the problem's own. */
    static _Thread_local char text[5][96];
    static _Thread_local const char *list[6];
    matmul v = kiln_matmul_view(p);
    tile t = tile_of(&v, s);
    int64_t m = v.m, n = v.n, k = v.k, tm = (int64_t)t.m, tn = (int64_t)t.n, tk = (int64_t)t.k;
    /* the last one for schedules whose vectors need multiples of 16 */
    const int64_t size[5][3] = {{1, 1, 1},
                                {tm + 1, tn - 1, tk + 1},
                                {tm - 1, tn + 1, 2 * tk - 1},
                                {97, 101, 257},
                                {tm + 3, (tn + 16) / 16 * 16, (tk + 16) / 16 * 16}};
    for (int i = 0; i < 5; i++) {
        int64_t x[3];
        const int64_t most[3] = {m, n, k};
        for (int j = 0; j < 3; j++) {
            x[j] = size[i][j] < 1 ? 1 : size[i][j];
            if (x[j] > most[j]) x[j] = most[j];
        }
        snprintf(text[i], sizeof text[i], "m=%lld n=%lld k=%lld", (long long)x[0], (long long)x[1],
                 (long long)x[2]);
        list[i] = text[i];
    }
    list[5] = NULL;
    return list;
}

/* A row of the table holds a variant's functions; C cannot copy them from another file's constant
 * before the program runs, so each is called through its own. */
#define FORWARD(v)                                                                                 \
    static bool v##_applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {        \
        return kiln_matmul_##v##_generator.applies(p, caps, why);                                  \
    }                                                                                              \
    static void v##_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *space) {       \
        kiln_matmul_##v##_generator.space(p, caps, space);                                         \
    }                                                                                              \
    static kiln_schedule v##_start(const kiln_problem *p, const kiln_caps *caps) {                 \
        return kiln_matmul_##v##_generator.start(p, caps);                                         \
    }                                                                                              \
    static double v##_estimate(const kiln_problem *p, const kiln_caps *caps,                       \
                               const kiln_schedule *s) {                                           \
        return kiln_matmul_##v##_generator.estimate                                                \
                   ? kiln_matmul_##v##_generator.estimate(p, caps, s)                              \
                   : NAN;                                                                          \
    }                                                                                              \
    static double v##_power(const kiln_problem *p, const kiln_caps *caps,                          \
                            const kiln_schedule *s) {                                              \
        return kiln_matmul_##v##_generator.power ? kiln_matmul_##v##_generator.power(p, caps, s)   \
                                                 : 0;                                              \
    }                                                                                              \
    static int v##_source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,    \
                          kiln_text *out, kiln_error *e) {                                         \
        return kiln_matmul_##v##_generator.source(p, caps, s, out, e);                             \
    }
#define ROW(v)                                                                                     \
    { &kiln_matmul_##v, v##_applies, v##_space, v##_start, v##_source, v##_estimate, v##_power }

FORWARD(cpu)
FORWARD(simt)
FORWARD(mma_sm80)
FORWARD(wgmma_sm90)

static const kiln_variant_generator variants[] = {
    ROW(cpu), ROW(simt), ROW(mma_sm80), ROW(wgmma_sm90), {0}};

const kiln_generator kiln_generator_matmul = {
    .family = &kiln_family_matmul,
    .variants = variants,
    .flops = flops,
    .bytes = bytes,
    .reference_source = reference_source,
    .reference_program = reference_program,
    .evaluate = kiln_matmul_evaluate,
    .evaluate_row = kiln_matmul_evaluate_row,
    .features = features,
    .odd_sizes = odd_sizes,
};

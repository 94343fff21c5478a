/* The matmul family on the first OpenCL device: random problems and schedules against
 * evaluate_row, the device reference against the same, legality, spaces, bad texts. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/input.h"
#include "kernels/matmul/matmul.h"
#include "kernels/reference.h"
#include "targets/target.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const kiln_target *target;
static kiln_device *device;
static kiln_caps caps;
static uint64_t seed = 1, drawn;

static uint64_t draw(uint64_t below) { return kiln_random64(seed, drawn++) % below; }

/* ---- running a program on a problem */

enum { GUARD = 4096, OUTPUTS_MAX = 4 };

typedef struct bench {
    kiln_problem p;
    int n;
    void *host[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
    kiln_buffer buffer[KILN_OPERANDS_MAX];
} bench;

static int64_t bytes_of(const kiln_operand *o) {
    return o->scalar ? 4 : (kiln_operand_bytes(o) + 3) / 4 * 4;
}

static kiln_problem problem(const char *text) {
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    return p;
}

static void check(int status, const kiln_error *e) {
    if (status) fail_msg("%s", e->text);
}

static void open_bench(bench *b, const kiln_problem *p) {
    kiln_error e = {0};
    *b = (bench){.p = *p, .n = p->n_operands};
    for (int i = 0; i < b->n; i++) {
        const kiln_operand *o = &p->operand[i];
        int64_t bytes = bytes_of(o);
        b->host[i] = calloc(1, (size_t)bytes + GUARD);
        b->scalar[i] = kiln_input_scalar(seed, i);
        if (o->scalar) continue; /* by value: a NULL buffer says so */
        b->buffer[i] = target->alloc(device, bytes + GUARD, &e);
        assert_non_null(b->buffer[i]);
        if (!o->output) kiln_input_fill(o, seed, i, b->host[i]);
        check(target->write(device, b->buffer[i], 0, b->host[i], bytes, &e), &e);
    }
}

static void close_bench(bench *b) {
    for (int i = 0; i < b->n; i++) {
        free(b->host[i]);
        if (b->buffer[i]) target->release(device, b->buffer[i]);
    }
}

static void poison(bench *b) {
    kiln_error e = {0};
    for (int i = 0; i < b->n; i++)
        if (b->p.operand[i].output)
            check(target->fill(device, b->buffer[i], 0, bytes_of(&b->p.operand[i]) + GUARD,
                               0x7fc17fc1, &e),
                  &e);
}

static void run(const kiln_program *program, kiln_module *module, const char *suffix,
                const kiln_bindings *given) {
    kiln_error e = {0};
    kiln_bindings bindings = *given;
    bindings.workspace =
        program->workspace_bytes ? target->alloc(device, program->workspace_bytes, &e) : NULL;
    if (program->workspace_bytes) /* NaN: what is read before it is written shows */
        check(target->fill(device, bindings.workspace, 0, program->workspace_bytes / 4 * 4,
                           0x7fc17fc1, &e),
              &e);
    for (int l = 0; l < program->n_launches; l++) {
        char entry[96];
        snprintf(entry, sizeof entry, "kiln_%s_%s", suffix, program->launch[l].entry);
        kiln_kernel *k = target->kernel(device, module, entry, &e);
        if (!k) fail_msg("%s", e.text);
        check(target->launch(device, k, &program->launch[l], &bindings, NULL, &e), &e);
    }
    check(target->sync(device, &e), &e);
    if (bindings.workspace) target->release(device, bindings.workspace);
}

/* From source: only what is launched gets compiled to the end. */
static kiln_module *build(const char *source) {
    kiln_error e = {0};
    kiln_module *m = target->load(device, source, strlen(source), &e);
    if (!m) fail_msg("%s", e.text);
    return m;
}

/* ---- comparing with evaluate_row */

static double allowed(kiln_type t, double value, double bound) {
    double u = kiln_type_roundoff(t);
    if (u == 0) return bound > 0 ? bound + 0.5 : t == KILN_I8 ? 0.5 : 0;
    double smallest = t == KILN_F16    ? 3e-8
                      : t == KILN_E4M3 ? 0x1p-10
                      : t == KILN_E5M2 ? 0x1p-17
                                       : 1.2e-38;
    return bound + u * (fabs(value) + bound) + smallest;
}

static double saturated(kiln_type t, double v) {
    bool integer = t == KILN_I8 || t == KILN_I32;
    double most = t == KILN_I8     ? 127
                  : t == KILN_I32  ? 2147483647.0
                  : t == KILN_E4M3 ? 448
                  : t == KILN_E5M2 ? 57344
                                   : INFINITY;
    return v > most ? most : v < -most - integer ? -most - integer : v;
}

static void compare_row(const bench *b, int i, void *const *got, int64_t batch, int64_t row,
                        const double *value, const double *bound, const char *what) {
    const kiln_operand *o = &b->p.operand[i];
    for (int64_t j = 0; j < o->cols; j++) {
        int64_t at = batch * o->batch_stride + row * o->ld + j;
        double x = kiln_type_read(o->type, (char *)got[i] + at * (int64_t)kiln_type_bytes(o->type));
        double want = saturated(o->type, value[j]);
        bool nan = isnan(x) && isnan(want), infinite = isinf(want) && x == want;
        if (!nan && !infinite && !(fabs(x - want) <= allowed(o->type, want, bound[j])))
            fail_msg("%s: %s[%lld][%lld][%lld] is %.9g, not %.9g +- %.3g (seed %llu)", what,
                     o->name, (long long)batch, (long long)row, (long long)j, x, want, bound[j],
                     (unsigned long long)seed);
    }
}

/* The outputs as they are on the device; what lies between rows and behind must be untouched. */
static void fetch(const bench *b, void **got, const char *what) {
    kiln_error e = {0};
    for (int i = 0; i < b->n; i++) {
        const kiln_operand *o = &b->p.operand[i];
        got[i] = NULL;
        if (!o->output) continue;
        int64_t bytes = kiln_operand_bytes(o), room = bytes_of(o) + GUARD,
                size = (int64_t)kiln_type_bytes(o->type);
        got[i] = malloc((size_t)room);
        check(target->read(device, got[i], b->buffer[i], 0, room, &e), &e);
        const uint8_t pattern[4] = {0xc1, 0x7f, 0xc1, 0x7f}, *d = got[i];
        for (int64_t at = 0; at < room; at++) {
            bool gap = at >= bytes || at / size % o->ld >= o->cols;
            if (gap && d[at] != pattern[at % 4])
                fail_msg("%s: wrote outside %s at byte %lld", what, o->name, (long long)at);
        }
    }
}

static void compare(const bench *b, const char *what) {
    void *got[KILN_OPERANDS_MAX];
    matmul v = kiln_matmul_view(&b->p);
    double *value[OUTPUTS_MAX], *bound[OUTPUTS_MAX];
    kiln_error e = {0};
    fetch(b, got, what);
    for (int j = 0; j < OUTPUTS_MAX; j++) {
        value[j] = malloc((size_t)v.n * sizeof **value);
        bound[j] = malloc((size_t)v.n * sizeof **bound);
    }
    for (int64_t batch = 0; batch < v.batch; batch++)
        for (int64_t row = 0; row < v.m; row++) {
            check(kiln_generator_of(b->p.family)
                      ->evaluate_row(&b->p, (const void *const *)b->host, b->scalar, batch, row,
                                     value, bound, &e),
                  &e);
            for (int i = 0, j = 0; i < b->n; i++)
                if (b->p.operand[i].output) {
                    compare_row(b, i, got, batch, row, value[j], bound[j], what);
                    j++;
                }
        }
    for (int j = 0; j < OUTPUTS_MAX; j++) free(value[j]), free(bound[j]);
    for (int i = 0; i < b->n; i++) free(got[i]);
}

/* ---- random legal schedules */

static kiln_schedule random_schedule(const kiln_variant_generator *g, const kiln_problem *p) {
    kiln_space space = {0};
    g->space(p, &caps, &space);
    for (int tries = 0; tries < 2000; tries++) {
        kiln_schedule s = kiln_space_at(&space, (int64_t)draw((uint64_t)kiln_space_size(&space)));
        if (g->variant->legal(p, &caps, &s, NULL)) return s;
    }
    return g->start(p, &caps);
}

/* simt's space for CPUs is one point; its knobs matter elsewhere and are right or wrong anywhere.
 */
static kiln_schedule random_simt(const kiln_problem *p) {
    static const char *const texts[] = {
        "simt tm=32 tn=32 tk=8 rm=2 rn=4 va=1 vb=1 vo=1 buffers=2 split=1 group=2 pad=4",
        "simt tm=32 tn=64 tk=16 rm=4 rn=8 va=4 vb=4 vo=4 buffers=2 split=2 group=1 pad=0",
        "simt tm=64 tn=32 tk=8 rm=4 rn=4 va=2 vb=2 vo=2 buffers=1 split=3 group=8 pad=1",
        "simt tm=16 tn=64 tk=16 rm=2 rn=8 va=1 vb=8 vo=8 buffers=1 split=1 group=3 pad=0",
    };
    for (int tries = 0; tries < 20; tries++) {
        kiln_schedule s;
        kiln_error e = {0};
        check(kiln_schedule_parse(p->family, &s, texts[draw(4)], &e), &e);
        if (kiln_matmul_simt.legal(p, &caps, &s, NULL)) return s;
    }
    return kiln_variant_default(&kiln_matmul_simt);
}

enum { SCHEDULES = 3, SIZES = 3 };

static void check_schedules(const char *text, const char *const sizes[SIZES]) {
    kiln_problem p = problem(text);
    kiln_schedule s[SCHEDULES];
    char suffix[SCHEDULES][20];
    kiln_text unit = {0};
    kiln_error e = {0};
    s[0] = draw(2) ? kiln_matmul_cpu_generator.start(&p, &caps)
                   : kiln_variant_default(&kiln_matmul_cpu);
    s[1] = random_schedule(&kiln_matmul_cpu_generator, &p);
    s[2] = draw(2) ? kiln_variant_default(&kiln_matmul_simt) : random_simt(&p);
    check(kiln_emit_unit(&p, &caps, s, SCHEDULES, suffix, &unit, &e), &e);
    kiln_module *m = build(kiln_text_get(&unit));
    for (int j = 0; j < SIZES; j++) {
        bench b;
        check(kiln_problem_resize(&p, sizes[j], &e), &e);
        open_bench(&b, &p);
        for (int i = 0; i < SCHEDULES; i++) {
            kiln_program program;
            kiln_text what = {0};
            if (!s[i].variant->legal(&p, &caps, &s[i], NULL)) continue;
            kiln_problem_print(&p, &what);
            kiln_text_add(&what, " | ");
            kiln_schedule_print(&s[i], &what);
            check(s[i].variant->program(&p, &caps, &s[i], &program, &e), &e);
            poison(&b);
            run(&program, m, suffix[i], &(kiln_bindings){.operand = b.buffer, .scalar = b.scalar});
            compare(&b, kiln_text_get(&what));
            kiln_text_free(&what);
        }
        close_bench(&b);
    }
    target->unload(device, m);
    kiln_text_free(&unit);
}

static const char *const small[] = {"m=1 n=1 k=1", "m=37 n=53 k=29", "m=64 n=48 k=544"};

static void floats_in_every_layout(void **state) {
    (void)state;
    check_schedules("matmul m=8 n=8 k=8", small);
    check_schedules("matmul m=8 n=8 k=8 ta=1 tb=1 a=f16 b=bf16 out=f32", small);
    check_schedules("matmul m=8 n=8 k=8 tb=1 type=bf16",
                    (const char *const[]){"m=33 n=31 k=65",
                                          "m=13 n=100 k=7 lda=9 ldb=11 ldo=104 batch=3",
                                          "m=96 n=64 k=300 lda=304 ldb=0 ldo=0"});
}

static void statements_are_fused(void **state) {
    (void)state;
    const char *const sizes[] = {"m=3 n=70 k=5 batch=2", "m=61 n=31 k=640", "m=16 n=32 k=16"};
    check_schedules("matmul m=8 n=8 k=8 type=f16 bias=f32 alpha=scalar : out = gelu(acc * alpha + "
                    "bias[n]) + res[m,n]",
                    sizes);
    check_schedules(
        "matmul m=8 n=8 k=8 ta=1 s=bf16 raw=f32 : raw[m,n] = acc; out = silu(acc) * s[m]", sizes);
}

static void integers_are_exact(void **state) {
    (void)state;
    const char *const sizes[] = {"m=5 n=9 k=3", "m=40 n=33 k=1500 batch=2",
                                 "m=64 n=64 k=64 ldo=80"};
    check_schedules("matmul m=8 n=8 k=8 type=i8 out=i32", sizes);
    check_schedules(
        "matmul m=8 n=8 k=8 a=i8 b=i8 out=f16 tb=1 scale=f32 : out = acc * scale[n] * 0.001",
        sizes);
    check_schedules("matmul m=8 n=8 k=8 a=i8 b=i8 out=i8 ta=1 : out = acc * 0.01", sizes);
}

static void narrow_floats_and_tf32(void **state) {
    (void)state;
    check_schedules("matmul m=8 n=8 k=8 type=tf32 ta=1", small);
    check_schedules("matmul m=8 n=8 k=8 a=e4m3 b=e5m2 tb=1 fast=1", small);
    check_schedules(
        "matmul m=8 n=8 k=8 a=e5m2 b=e4m3 out=e4m3 ta=1 r=e5m2 h=e5m2 bias=f32 : "
        "h[m,n] = 1000 * acc; out = acc * 0.25 + bias[n] + r[m,n]",
        (const char *const[]){"m=1 n=1 k=1", "m=37 n=53 k=29 batch=2", "m=64 n=48 k=544"});
    check_schedules("matmul m=8 n=8 k=8 type=f16 out=e5m2 : out = 30000 * acc", small);
}

/* ---- values of a row */

static void row_maxima_are_stored(void **state) {
    (void)state;
    const char *const sizes[] = {"m=3 n=70 k=5 batch=2", "m=61 n=31 k=640", "m=16 n=512 k=16"};
    check_schedules("matmul m=8 n=8 k=8 type=bf16 out=e4m3 tb=1 inv=f32 : amax[m] = max(abs(acc)); "
                    "out = acc * inv[m]",
                    sizes);
    check_schedules("matmul m=8 n=8 k=8 type=f16 : t = gelu(acc + bias[n]) + res[m,n]; least[m] = "
                    "min(t); most[m] = max(t); same[m] = min(t); out = t",
                    sizes);
    check_schedules("matmul m=8 n=8 k=8 a=i8 b=i8 out=i32 ta=1 : most[m] = max(acc); out = acc",
                    sizes);
    check_schedules("matmul m=8 n=8 k=8 one=scalar : most[m] = max(one); out = acc", sizes);
}

/* Products with one column of a and one row of b, so that results are what the test says. */
static void run_special(const bench *b, const kiln_schedule *s, float *most, float *least) {
    kiln_error e = {0};
    kiln_text unit = {0};
    kiln_program program;
    char suffix[1][20];
    check(kiln_emit_unit(&b->p, &caps, s, 1, suffix, &unit, &e), &e);
    kiln_module *m = build(kiln_text_get(&unit));
    check(s->variant->program(&b->p, &caps, s, &program, &e), &e);
    run(&program, m, suffix[0], &(kiln_bindings){.operand = b->buffer});
    int rows = (int)b->p.operand[MATMUL_OUT].rows * 4;
    check(target->read(device, most, b->buffer[kiln_problem_operand(&b->p, "most")], 0, rows, &e),
          &e);
    check(target->read(device, least, b->buffer[kiln_problem_operand(&b->p, "least")], 0, rows, &e),
          &e);
    target->unload(device, m);
    kiln_text_free(&unit);
}

/* NaN is passed over, a row of nothing else leaves where the maximum began, and a zero is +0. */
static void rows_of_nan_infinity_and_zero(void **state) {
    (void)state;
    enum { ROWS = 7, COLS = 37 };
    static const float rows[ROWS] = {1, -2, 0, -0.0f, NAN, INFINITY, -1e-30f};
    static const char *const schedules[] = {
        "cpu vl=8 mr=6 nv=2 kc=256 mp=16 np=1 uk=4 pfb=0 pfc=0 order=0 part=1",
        "simt tm=64 tn=64 tk=16 rm=4 rn=4 va=1 vb=1 vo=1 buffers=1 split=1 group=8 pad=0"};
    kiln_problem p = problem("matmul m=7 n=37 k=1 : t = -acc; most[m] = max(t); least[m] = min(t); "
                             "out = t"); /* sums are never -0 */
    kiln_error e = {0};
    bench b;
    open_bench(&b, &p);
    float *a = b.host[MATMUL_A], *columns = b.host[MATMUL_B];
    memcpy(a, rows, sizeof rows);
    for (int j = 0; j < COLS; j++) columns[j] = j == 3 || j == 36 ? NAN : j % 2 ? 0.5f : -4.0f + j;
    check(target->write(device, b.buffer[MATMUL_A], 0, a, sizeof rows, &e), &e);
    check(target->write(device, b.buffer[MATMUL_B], 0, columns, COLS * 4, &e), &e);
    for (int i = 0; i < 2; i++) {
        kiln_schedule s;
        float most[ROWS], least[ROWS];
        check(kiln_schedule_parse(p.family, &s, schedules[i], &e), &e);
        poison(&b);
        run_special(&b, &s, most, least);
        for (int row = 0; row < ROWS; row++) {
            float high = -INFINITY, low = INFINITY;
            for (int j = 0; j < COLS; j++) {
                float x = -(rows[row] * columns[j]);
                if (x > high) high = x;
                if (x < low) low = x;
            }
            if (high == 0) high = 0.0f; /* -0 */
            if (low == 0) low = 0.0f;
            if (memcmp(&most[row], &high, 4) || memcmp(&least[row], &low, 4))
                fail_msg("%s: row %d is from %g to %g, not from %g to %g", schedules[i], row,
                         least[row], most[row], low, high);
        }
        compare(&b, schedules[i]); /* evaluate_row says the same */
    }
    close_bench(&b);
}

/* ---- the device reference */

static void compare_reference(const char *text) {
    kiln_problem p = problem(text);
    const kiln_generator *g = kiln_generator_of(p.family);
    kiln_text unit = {0};
    kiln_error e = {0};
    kiln_program program;
    bench b;
    check(kiln_emit_reference_unit(&p, &caps, &unit, &e), &e);
    check(g->reference_program(&p, &caps, &program, &e), &e);
    kiln_module *m = build(kiln_text_get(&unit));
    matmul v = kiln_matmul_view(&p);
    int64_t count = v.m * v.n * v.batch;
    kiln_buffer value[OUTPUTS_MAX], bound[OUTPUTS_MAX];
    double *want[OUTPUTS_MAX], *error[OUTPUTS_MAX], *got = malloc((size_t)count * 8);
    float *near = malloc((size_t)count * 4);
    open_bench(&b, &p);
    for (int j = 0; j < OUTPUTS_MAX; j++) {
        value[j] = target->alloc(device, count * 8, &e);
        bound[j] = target->alloc(device, count * 4, &e);
        want[j] = malloc((size_t)v.n * 8);
        error[j] = malloc((size_t)v.n * 8);
    }
    run(&program, m, "reference",
        &(kiln_bindings){
            .operand = b.buffer, .scalar = b.scalar, .reference = value, .bound = bound});
    for (int i = MATMUL_OUT, j = 0; i < p.n_operands; i++) {
        if (!p.operand[i].output) continue;
        int64_t cols = p.operand[i].cols, stored = v.m * v.batch * cols;
        check(target->read(device, got, value[j], 0, stored * 8, &e), &e);
        check(target->read(device, near, bound[j], 0, stored * 4, &e), &e);
        for (int64_t r = 0; r < v.m * v.batch; r++) {
            check(g->evaluate_row(&p, (const void *const *)b.host, b.scalar, r / v.m, r % v.m, want,
                                  error, &e),
                  &e);
            for (int64_t c = 0; c < cols; c++) {
                double x = got[r * cols + c], f = near[r * cols + c];
                double w = want[j][c], d = error[j][c];
                if (!(fabs(x - w) <= 1e-12 * (1 + fabs(w)) && f >= d * 0.999 &&
                      f <= d * 1.01 + 1e-30))
                    fail_msg("%s: reference %.17g +- %g, in C %.17g +- %g", text, x, f, w, d);
            }
        }
        j++;
    }
    for (int j = 0; j < OUTPUTS_MAX; j++) {
        target->release(device, value[j]), target->release(device, bound[j]);
        free(want[j]), free(error[j]);
    }
    free(got), free(near);
    close_bench(&b);
    target->unload(device, m);
    kiln_text_free(&unit);
}

static void reference_agrees_with_evaluate_row(void **state) {
    (void)state;
    compare_reference(
        "matmul m=19 n=37 k=131 ta=1 type=f16 batch=2 lda=24 ldo=40 h=f32 : t = acc + "
        "bias[n]; h[m,n] = t; out = gelu(t) * 0.5");
    compare_reference(
        "matmul m=9 n=17 k=70 tb=1 a=i8 b=i8 scale=f32 c=scalar : out = acc * scale[m] + c");
    compare_reference("matmul m=9 n=35 k=401 tb=1 type=e4m3 s=e5m2 : out = acc * s[n]");
    compare_reference("matmul m=9 n=35 k=401 a=e5m2 b=e4m3 out=e4m3 fast=1");
    compare_reference("matmul m=3 n=5 k=1 a=e5m2 b=e4m3 out=f32");
    compare_reference("matmul m=9 n=17 k=70 type=tf32");
    compare_reference("matmul m=19 n=85 k=33 type=bf16 batch=2 out=e4m3 inv=f32 : t = acc * "
                      "inv[m]; amax[m] = max(abs(acc)); least[m] = min(t + bias[n]); out = t");
}

/* ---- the comparison of outputs that saturate */

typedef struct compared {
    bench b;
    kiln_module *module;
    kiln_buffer value[2], bound[2];
    double want[2][256];
} compared;

enum { COMPARED = 256 };

static void open_compared(compared *c, const char *text) {
    kiln_problem p = problem(text);
    kiln_text unit = {0};
    kiln_error e = {0};
    kiln_program program;
    check(kiln_emit_reference_unit(&p, &caps, &unit, &e), &e);
    check(kiln_generator_of(p.family)->reference_program(&p, &caps, &program, &e), &e);
    c->module = build(kiln_text_get(&unit));
    open_bench(&c->b, &p);
    for (int j = 0; j < 2; j++) {
        c->value[j] = target->alloc(device, COMPARED * 8, &e);
        c->bound[j] = target->alloc(device, COMPARED * 4, &e);
    }
    run(&program, c->module, "reference",
        &(kiln_bindings){.operand = c->b.buffer,
                         .scalar = c->b.scalar,
                         .reference = c->value,
                         .bound = c->bound});
    for (int j = 0; j < 2; j++)
        check(target->read(device, c->want[j], c->value[j], 0, sizeof c->want[j], &e), &e);
    kiln_text_free(&unit);
}

static void close_compared(compared *c) {
    for (int j = 0; j < 2; j++)
        target->release(device, c->value[j]), target->release(device, c->bound[j]);
    close_bench(&c->b);
    target->unload(device, c->module);
}

/* Output j as codes, element `at` replaced by `code` (below 0: not). */
static kiln_verdict verdict_of(compared *c, int j, int at, int code) {
    int operand = MATMUL_OUT + j;
    kiln_error e = {0};
    kiln_launch l;
    kiln_program one = {.n_launches = 1};
    uint8_t *codes = c->b.host[operand];
    for (int i = 0; i < COMPARED; i++)
        kiln_type_write(c->b.p.operand[operand].type, &codes[i], c->want[j][i]);
    if (code >= 0) codes[at] = (uint8_t)code;
    check(target->write(device, c->b.buffer[operand], 0, codes, COMPARED, &e), &e);
    check(kiln_compare_launch(&c->b.p, &caps, j, &l, &e), &e);
    one.launch[0] = l;
    int64_t bytes = kiln_compare_partial_bytes(&l);
    kiln_buffer partials = target->alloc(device, bytes, &e);
    void *host = malloc((size_t)bytes);
    run(&one, c->module, "reference",
        &(kiln_bindings){.operand = c->b.buffer,
                         .scalar = c->b.scalar,
                         .reference = c->value,
                         .bound = c->bound,
                         .partials = partials});
    check(target->read(device, host, partials, 0, bytes, &e), &e);
    kiln_verdict v = kiln_compare_verdict(&l, host);
    target->release(device, partials);
    free(host);
    return v;
}

static void saturated_outputs_are_compared(void **state) {
    (void)state;
    static const struct {
        double most;
        int top, infinity, nan;
    } of[] = {{448, 0x7e, 0x7e, 0x7f}, {57344, 0x7b, 0x7c, 0x7f}};
    compared c = {0};
    open_compared(&c, "matmul m=16 n=16 k=8 type=e4m3 out=e4m3 h=e5m2 : out = 200 * acc; "
                      "h[m,n] = 30000 * acc");
    for (int j = 0; j < 2; j++) {
        int above = -1, inside = -1;
        for (int i = 0; i < COMPARED; i++) {
            if (c.want[j][i] > 2 * of[j].most) above = i;
            if (c.want[j][i] > 0.1 * of[j].most && c.want[j][i] < 0.5 * of[j].most) inside = i;
        }
        assert_true(above >= 0 && inside >= 0);
        assert_true(verdict_of(&c, j, 0, -1).right);
        assert_true(verdict_of(&c, j, above, of[j].top).right);
        kiln_verdict v = verdict_of(&c, j, above, of[j].nan);
        assert_true(!v.right && v.bad == 1 && v.worst_index == above);
        assert_false(verdict_of(&c, j, above, of[j].top | 0x80).right);
        assert_false(verdict_of(&c, j, inside, of[j].top).right);
        if (of[j].infinity != of[j].top) {
            v = verdict_of(&c, j, above, of[j].infinity);
            assert_true(!v.right && v.bad == 1 && v.worst_index == above);
        }
    }
    close_compared(&c);
}

/* ---- nothing happens at size 0: drivers warm kernels up like that */

static void zero_touches_nothing(const char *text) {
    kiln_problem p = problem(text);
    kiln_schedule s[2] = {kiln_matmul_cpu_generator.start(&p, &caps),
                          kiln_variant_default(&kiln_matmul_simt)};
    char suffix[2][20];
    kiln_text unit = {0};
    kiln_error e = {0};
    bench b;
    check(kiln_emit_unit(&p, &caps, s, 2, suffix, &unit, &e), &e);
    kiln_module *m = build(kiln_text_get(&unit));
    open_bench(&b, &p);
    poison(&b);
    for (int i = 0; i < 2; i++) {
        kiln_program program;
        check(s[i].variant->program(&p, &caps, &s[i], &program, &e), &e);
        for (int l = 0; l < program.n_launches; l++)
            for (int a = 0; a < program.launch[l].n_args; a++) program.launch[l].arg[a].value.i = 0;
        run(&program, m, suffix[i], &(kiln_bindings){.operand = b.buffer});
    }
    for (int i = MATMUL_OUT; i < p.n_operands; i++) {
        uint32_t out[600];
        check(target->read(device, out, b.buffer[i], 0, kiln_operand_bytes(&p.operand[i]), &e), &e);
        for (int64_t j = 0; j < kiln_operand_elements(&p.operand[i]); j++)
            assert_int_equal(out[j], 0x7fc17fc1);
    }
    close_bench(&b);
    target->unload(device, m);
    kiln_text_free(&unit);
}

static void size_zero_touches_nothing(void **state) {
    (void)state;
    zero_touches_nothing("matmul m=20 n=30 k=40");
    zero_touches_nothing("matmul m=20 n=30 k=40 : amax[m] = max(acc); out = acc");
}

/* ---- without a device */

static kiln_caps some_caps(kiln_device_kind kind) {
    kiln_caps c = {.kind = (int)kind,
                   .units = 4,
                   .warp = 1,
                   .max_threads = 1024,
                   .shared_bytes = 49152,
                   .max_alloc_bytes = (int64_t)1 << 30,
                   .align_bytes = 128,
                   .registers_unit = 65536};
    strcpy(c.target, "opencl");
    strcpy(c.name, "test device");
    if (kind == KILN_DEVICE_CPU) c.vector_bits = 128, c.vector_registers = 16, c.registers_unit = 0;
    return c;
}

static const char *const shapes[] = {
    "matmul m=1 n=1 k=1",
    "matmul m=4096 n=4096 k=4096 type=bf16",
    "matmul m=127 n=255 k=511 tb=1",
    "matmul m=16 n=28672 k=4096 type=f16 ta=1",
    "matmul m=33 n=7 k=100000 a=i8 b=i8",
    "matmul m=256 n=130 k=260 a=e4m3 b=e5m2 tb=1 fast=1",
    "matmul m=100 n=100 k=100 type=tf32",
    "matmul m=64 n=64 k=64 lda=67 batch=7 : out = relu(acc) + res[m,n]"};

static void assert_in_space(const kiln_space *space, const kiln_schedule *s, const char *text) {
    for (int i = 0; s->variant->knobs[i].name; i++) {
        const kiln_knob_values *k = &space->knob[i];
        bool found = k->n == 0 && s->value[i] == s->variant->knobs[i].fallback;
        for (int j = 0; j < k->n; j++) found |= k->value[j] == s->value[i];
        if (!found)
            fail_msg("%s: %s=%d is not in the space of %s", text, s->variant->knobs[i].name,
                     s->value[i], s->variant->name);
    }
}

static void starts_are_legal_and_in_the_space(void **state) {
    (void)state;
    kiln_caps devices[3] = {some_caps(KILN_DEVICE_CPU), some_caps(KILN_DEVICE_GPU), caps};
    const kiln_variant_generator *generators[] = {&kiln_matmul_cpu_generator,
                                                  &kiln_matmul_simt_generator};
    for (size_t t = 0; t < sizeof shapes / sizeof *shapes; t++)
        for (int d = 0; d < 3; d++)
            for (int g = 0; g < 2; g++) {
                kiln_problem p = problem(shapes[t]);
                kiln_text why = {0};
                if (!generators[g]->applies(&p, &devices[d], NULL)) continue;
                kiln_schedule s = generators[g]->start(&p, &devices[d]);
                kiln_schedule safe = kiln_variant_default(generators[g]->variant);
                if (!s.variant->legal(&p, &devices[d], &s, &why) ||
                    !safe.variant->legal(&p, &devices[d], &safe, &why))
                    fail_msg("%s on device %d: %s", shapes[t], d, kiln_text_get(&why));
                kiln_space space = {0};
                generators[g]->space(&p, &devices[d], &space);
                assert_in_space(&space, &s, shapes[t]);
                assert_in_space(&space, &safe, shapes[t]);
            }
}

static void illegal_schedules_say_why(void **state) {
    (void)state;
    static const char *const cases[][3] = {
        {"matmul m=64 n=64 k=64",
         "cpu vl=16 mr=14 nv=3 kc=256 mp=8 np=8 uk=4 pfb=0 pfc=0 order=0 part=1", "spill"},
        {"matmul m=64 n=64 k=64",
         "cpu vl=16 mr=12 nv=2 kc=100 mp=8 np=8 uk=4 pfb=0 pfc=0 order=0 part=1", "kc=100"},
        {"matmul m=64 n=64 k=64 a=i8 b=i8",
         "cpu vl=16 mr=6 nv=2 kc=1024 mp=8 np=8 uk=4 pfb=0 pfc=0 order=0 part=1", "2^24"},
        {"matmul m=64 n=64 k=64 type=f16",
         "cpu vl=16 mr=6 nv=2 kc=256 mp=8 np=8 uk=4 pfb=0 pfc=0 order=0 part=0", "part=0"},
        {"matmul m=64 n=64 k=63",
         "simt tm=64 tn=64 tk=16 rm=4 rn=4 va=4 vb=1 vo=1 buffers=1 split=1 group=8 pad=0",
         "4 elements of a"},
        {"matmul m=64 n=63 k=64",
         "simt tm=64 tn=64 tk=16 rm=4 rn=4 va=1 vb=1 vo=2 buffers=1 split=1 group=8 pad=0",
         "2 columns"},
        {"matmul m=64 n=64 k=16",
         "simt tm=64 tn=64 tk=16 rm=4 rn=4 va=1 vb=1 vo=1 buffers=1 split=2 group=8 pad=0",
         "too short"},
        {"matmul m=64 n=64 k=64",
         "simt tm=64 tn=64 tk=512 rm=4 rn=4 va=1 vb=1 vo=1 buffers=1 split=1 group=8 pad=0",
         "local memory"},
    };
    kiln_caps cpu = some_caps(KILN_DEVICE_CPU);
    cpu.vector_bits = 512, cpu.vector_registers = 32;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln_problem p = problem(cases[i][0]);
        kiln_schedule s;
        kiln_error e = {0};
        kiln_text why = {0};
        check(kiln_schedule_parse(p.family, &s, cases[i][1], &e), &e);
        assert_false(s.variant->legal(&p, &cpu, &s, &why));
        if (!strstr(kiln_text_get(&why), cases[i][2]))
            fail_msg("%s: %s", cases[i][1], kiln_text_get(&why));
        kiln_text_free(&why);
    }
}

static void bad_problems_are_refused(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"matmul m=4 n=4 k=0", "k"},
        {"matmul m=4 n=4", "k"},
        {"matmul m=4 n=4 k=4 lda=3", "lda=3"},
        {"matmul m=4 n=4 k=4 a=i8 b=f32", "a=i8"},
        {"matmul m=4 n=4 k=4 out=f64", "f64"},
        {"matmul m=4 n=4 k=4 type=tf32 out=tf32", "out=tf32"},
        {"matmul m=4 n=4 k=4 a=tf32 b=f32", "tf32 for both"},
        {"matmul m=4 n=4 k=4 a=e4m3 b=bf16", "b=bf16"},
        {"matmul m=4 n=4 k=4 fast=1", "fast=1"},
        {"matmul m=4 n=4 k=4 type=e4m3 fast=2", "fast=2"},
        {"matmul m=4 n=4 k=4 r=tf32 : out = acc + r[m,n]", "operand r has type tf32"},
        {"matmul m=4 n=4 k=4 : out = acc / sum(acc)", "reduce a row by sum"},
        {"matmul m=4 n=4 k=4 : s[m] = sum(acc); out = acc", "no fixed order"},
        {"matmul m=4 n=4 k=4 : s[m] = mean(acc); out = acc", "by mean"},
        {"matmul m=4 n=4 k=4 : t = max(abs(acc)); s[m] = t; out = acc / t", "only store"},
        {"matmul m=4 n=4 k=4 : s[m] = 2 * max(acc); out = acc", "assign it the max or min"},
        {"matmul m=4 n=4 k=4 : s[m] = 2 * w[m]; out = acc", "s[m] = max(abs(acc))"},
        {"matmul m=4 n=4 k=4 : out = max(acc)", "only store"},
        {"matmul m=4 n=4 k=4 : t = max(acc); out = t", "only store"},
        {"matmul m=4 n=4 k=4 : s[m] = max(acc - max(acc)); out = acc", "only store"},
        {"matmul m=4 n=4 k=4 : s[m] = max(acc) ; t[m] = min(sum(acc) * acc); out = acc", "by sum"},
        {"matmul m=4 n=4 k=4 s=bf16 : s[m] = max(acc); out = acc", "s=f32"},
        {"matmul m=4 n=4 k=4 : s[n] = max(acc); out = acc", "every one but the last"},
        {"matmul m=4 n=4 k=4 : out = acc + a[m,n]", "a"},
        {"matmul m=2147483647 n=2147483647 k=2147483647 batch=2147483647", "memory"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kiln_problem p;
        kiln_error e = {0};
        assert_int_not_equal(kiln_problem_parse(&p, cases[i][0], &e), 0);
        if (!strstr(e.text, cases[i][1])) fail_msg("%s: %s", cases[i][0], e.text);
    }
}

static void work_is_counted(void **state) {
    (void)state;
    kiln_problem p = problem("matmul m=10 n=20 k=30 a=f16 b=f16 out=f32");
    const kiln_generator *g = kiln_generator_of(p.family);
    assert_true(g->flops(&p) == 2.0 * 10 * 20 * 30);
    assert_true(g->bytes(&p) == 2.0 * (10 * 30 + 30 * 20) + 4.0 * 10 * 20);
    const char *names[64];
    double values[64];
    kiln_schedule s = kiln_variant_default(&kiln_matmul_simt);
    int n = g->features(&p, &s, &caps, names, values, 64);
    assert_true(n > 20 && n < 64);
    for (int i = 0; i < n; i++) assert_true(names[i] && isfinite(values[i]));
    assert_int_equal(g->features(&p, &s, &caps, NULL, values, 5), 5);
    const char *const *odd = g->odd_sizes(&p, &s);
    for (; *odd; odd++) {
        kiln_error e = {0};
        kiln_problem q = p;
        check(kiln_problem_resize(&q, *odd, &e), &e);
    }
}

static int open_device(void **state) {
    (void)state;
    kiln_error e = {0};
    const char *given = getenv("KILN_TEST_SEED");
    if (given) seed = strtoull(given, NULL, 10);
    printf("seed %llu (KILN_TEST_SEED=%llu repeats it)\n", (unsigned long long)seed,
           (unsigned long long)seed);
    target = kiln_target_find("opencl");
    if (!target || target->devices(&caps, 1, &e) < 1 || !(device = target->open(0, NULL, &e))) {
        printf("no OpenCL device: %s\n", e.text);
        return -1;
    }
    caps = *target->caps(device);
    return 0;
}

static int close_device(void **state) {
    (void)state;
    target->close(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_problems_are_refused),
        cmocka_unit_test(work_is_counted),
        cmocka_unit_test(starts_are_legal_and_in_the_space),
        cmocka_unit_test(illegal_schedules_say_why),
        cmocka_unit_test(size_zero_touches_nothing),
        cmocka_unit_test(reference_agrees_with_evaluate_row),
        cmocka_unit_test(floats_in_every_layout),
        cmocka_unit_test(statements_are_fused),
        cmocka_unit_test(row_maxima_are_stored),
        cmocka_unit_test(rows_of_nan_infinity_and_zero),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(narrow_floats_and_tf32),
        cmocka_unit_test(saturated_outputs_are_compared),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}

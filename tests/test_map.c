/* The map family: presets and random statements, random legal schedules of every variant, odd
 * sizes and all types, on the OpenCL device that is there, element by element against the C
 * evaluator with its bound; the device reference against the same; NVRTC compiles.
 *
 *     KILN_SEED=7 KILN_MAP_ROUNDS=10 build/tests/test_map     repeats or deepens the random tests */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/family.h"
#include "kernels/input.h"
#include "kernels/map/map.h"
#include "kernels/preset.h"
#include "targets/target.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { GUARD = 4096, BATCH = 24 };

static const kiln_target *target;
static kiln_device *device;
static const kiln_caps *caps;
static uint64_t seed, counter;

static int pick(int n) { return (int)(kiln_random64(seed, counter++) % (uint64_t)n); }

static int setup(void **state) {
    (void)state;
    kiln_error e = {0};
    const char *given = getenv("KILN_SEED");
    seed = given ? strtoull(given, 0, 0) : (uint64_t)time(0);
    print_message("seed %llu: KILN_SEED=%llu repeats this run\n", (unsigned long long)seed,
                  (unsigned long long)seed);
    target = kiln_target_find("opencl");
    assert_non_null(target);
    device = target->open(0, 0, &e);
    if (!device) print_message("SKIPPED on a device: %s\n", e.text);
    if (device) caps = target->caps(device);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (device) target->close(device);
    return 0;
}

/* ---- one problem on the device */

typedef struct arrays {
    kiln_problem p;
    void *host[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
    kiln_buffer whole[KILN_OPERANDS_MAX], part[KILN_OPERANDS_MAX];
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX]; /* by output */
} arrays;

static void must(int status, const kiln_error *e) {
    if (status) fail_msg("%s", e->text);
}

static void parse(kiln_problem *p, const char *text) {
    kiln_error e = {0};
    if (kiln_problem_parse(p, text, &e)) fail_msg("%s: %s", text, e.text);
}

static void make_arrays(arrays *a, const kiln_problem *p) {
    kiln_error e = {0};
    *a = (arrays){.p = *p};
    for (int i = 0, j = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        const int64_t bytes = kiln_operand_bytes(o), room = (bytes + 3) / 4 * 4;
        a->scalar[i] = kiln_input_scalar(seed, i);
        if (o->scalar) continue;
        a->host[i] = malloc((size_t)room);
        if (!o->output) kiln_input_fill(o, seed, i, a->host[i]);
        a->whole[i] = target->alloc(device, room + 2 * GUARD, &e);
        a->part[i] = target->view(device, a->whole[i], GUARD, room, &e);
        assert_non_null(a->part[i]);
        if (!o->output) must(target->write(device, a->part[i], 0, a->host[i], bytes, &e), &e);
        if (!o->output) continue;
        a->value[j] = malloc((size_t)(o->rows * o->cols) * sizeof(double));
        a->bound[j++] = malloc((size_t)(o->rows * o->cols) * sizeof(double));
    }
    for (int64_t r = 0; r < kiln_problem_get(p, "rows"); r++) {
        double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX];
        for (int i = 0, j = 0; i < p->n_operands; i++) {
            if (!p->operand[i].output) continue;
            value[j] = a->value[j] + r * p->operand[i].cols;
            bound[j] = a->bound[j] + r * p->operand[i].cols;
            j++;
        }
        must(kiln_generator_of(p->family)->evaluate_row(p, (const void *const *)a->host, a->scalar,
                                                        0, r, value, bound, &e), &e);
    }
}

static void free_arrays(arrays *a) {
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) {
        if (a->part[i]) target->release(device, a->part[i]);
        if (a->whole[i]) target->release(device, a->whole[i]);
        free(a->host[i]);
        free(a->value[i]);
        free(a->bound[i]);
    }
}

/* Outputs and guards hold NaN (integers: -1) until the kernel writes. */
static void poison(arrays *a) {
    kiln_error e = {0};
    for (int i = 0; i < a->p.n_operands; i++)
        if (a->p.operand[i].output) {
            const int64_t room = (kiln_operand_bytes(&a->p.operand[i]) + 3) / 4 * 4;
            must(target->fill(device, a->whole[i], 0, room + 2 * GUARD, 0xffffffffu, &e), &e);
        }
}

static void check_guards(const arrays *a, int i, const char *words) {
    kiln_error e = {0};
    static unsigned char guard[GUARD];
    const int64_t bytes = kiln_operand_bytes(&a->p.operand[i]), room = (bytes + 3) / 4 * 4;
    for (int side = 0; side < 2; side++) {
        must(target->read(device, guard, a->whole[i], side ? GUARD + room : 0, GUARD, &e), &e);
        for (int k = 0; k < GUARD; k++)
            if (guard[k] != 0xff) fail_msg("%s: wrote %s of %s", words, side ? "behind" : "before",
                                           a->p.operand[i].name);
    }
}

/* Returns how many elements had a finite bound. */
static int64_t check_output(const arrays *a, int i, int j, const char *words) {
    kiln_error e = {0};
    const kiln_operand *o = &a->p.operand[i];
    const double u = kiln_type_roundoff(o->type);
    const double smallest = o->type == KILN_F16 ? 3e-8 : u > 0 ? 1.2e-38 : 0;
    int64_t checked = 0;
    must(target->read(device, a->host[i], a->part[i], 0, kiln_operand_bytes(o), &e), &e);
    for (int64_t k = 0; k < o->rows * o->cols; k++) {
        const double got = kiln_type_read(o->type, (char *)a->host[i] +
                                                       (size_t)k * kiln_type_bytes(o->type));
        const double ref = a->value[j][k], bound = a->bound[j][k];
        if (!isfinite(bound) || bound > 1e30) continue;
        checked++;
        if (o->type == KILN_F16 && fabs(ref) > 65000) continue;
        if (!(fabs(got - ref) <= bound + u * (fabs(ref) + bound) + smallest))
            fail_msg("%s: %s[%lld] (of %lld x %lld) is %.9g, should be %.9g within %.3g", words,
                     o->name, (long long)k, (long long)o->rows, (long long)o->cols, got, ref,
                     bound + u * fabs(ref));
    }
    return checked;
}

static int64_t run_and_check(arrays *a, kiln_kernel *kernel, const kiln_schedule *s) {
    kiln_error e = {0};
    kiln_program program;
    kiln_text words = {0};
    int64_t checked = 0;
    const kiln_bindings b = {.operand = a->part, .scalar = a->scalar};
    kiln_problem_print(&a->p, &words);
    kiln_text_add(&words, " | ");
    kiln_schedule_print(s, &words);
    must(s->variant->program(&a->p, caps, s, &program, &e), &e);
    poison(a);
    must(target->launch(device, kernel, &program.launch[0], &b, 0, &e), &e);
    must(target->sync(device, &e), &e);
    for (int i = 0, j = 0; i < a->p.n_operands; i++) {
        if (!a->p.operand[i].output) continue;
        check_guards(a, i, kiln_text_get(&words));
        checked += check_output(a, i, j++, kiln_text_get(&words));
    }
    kiln_text_free(&words);
    return checked;
}

/* ---- many programs of many problems in one compilation */

typedef struct batch {
    int n;
    kiln_problem p[BATCH];
    kiln_schedule s[BATCH];
    char suffix[BATCH][20];
    kiln_text unit;
} batch;

static void add(batch *b, const kiln_problem *p, const kiln_schedule *s) {
    kiln_error e = {0};
    kiln_text unit = {0};
    assert_true(b->n < BATCH);
    must(kiln_emit_unit(p, caps, s, 1, &b->suffix[b->n], &unit, &e), &e);
    for (int i = 0; i < b->n; i++)
        if (!strcmp(b->suffix[i], b->suffix[b->n])) goto done; /* drawn twice */
    const size_t dialect = strlen(kiln_embedded("targets/opencl/dialect.h"));
    kiln_text_add(&b->unit, kiln_text_get(&unit) + (b->n ? dialect : 0));
    b->p[b->n] = *p;
    b->s[b->n++] = *s;
done:
    kiln_text_free(&unit);
}

static kiln_module *build(const char *source) {
    kiln_error e = {0};
    kiln_blob code;
    kiln_text log = {0};
    const kiln_compile_request request = {.source = source};
    if (target->compile(caps, &request, &code, 0, &log, &e))
        fail_msg("%s\n%.2000s", e.text, kiln_text_get(&log));
    kiln_module *m = target->load(device, code.data, code.size, &e);
    if (!m) fail_msg("%s", e.text);
    free(code.data);
    kiln_text_free(&log);
    return m;
}

static const char *const sizes[] = {"rows=5 cols=1",    "rows=3 cols=17",   "rows=1 cols=1009",
                                    "rows=37 cols=64",  "rows=4 cols=2047", "rows=2 cols=2049",
                                    "rows=9 cols=1024", "rows=67 cols=24"};

/* Its own sizes first, then every other size for which it is legal. */
static void run_program(const kiln_problem *p, const kiln_schedule *s, kiln_kernel *kernel) {
    kiln_error e = {0};
    int64_t checked = 0;
    for (int k = -1; k < (int)(sizeof sizes / sizeof *sizes); k++) {
        kiln_problem other = *p;
        arrays a;
        if (k >= 0) must(kiln_problem_resize(&other, sizes[k], &e), &e);
        if (!s->variant->legal(&other, caps, s, 0)) continue;
        make_arrays(&a, &other);
        checked += run_and_check(&a, kernel, s);
        free_arrays(&a);
    }
    if (!checked) print_message("note: no bounded element\n");
}

static void run_batch(batch *b) {
    kiln_error e = {0};
    if (!b->n) return;
    kiln_module *m = build(kiln_text_get(&b->unit));
    for (int i = 0; i < b->n; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "kiln_%s_main", b->suffix[i]);
        kiln_kernel *kernel = target->kernel(device, m, entry, &e);
        if (!kernel) fail_msg("%s", e.text);
        run_program(&b->p[i], &b->s[i], kernel);
    }
    target->unload(device, m);
    kiln_text_free(&b->unit);
    b->n = 0;
}

static bool draw(const kiln_problem *p, const kiln_variant_generator *g, kiln_schedule *s) {
    kiln_space space = {.variant = g->variant};
    g->space(p, caps, &space);
    const int64_t n = kiln_space_size(&space);
    for (int i = 0; i < 4000; i++) {
        *s = kiln_space_at(&space, (int64_t)(kiln_random64(seed, counter++) % (uint64_t)n));
        if (g->variant->legal(p, caps, s, 0)) return true;
    }
    return false;
}

/* The start schedule or the default now and then, otherwise a random legal one. */
static void add_random(batch *b, const char *text) {
    kiln_problem p;
    parse(&p, text);
    for (const kiln_variant_generator *g = kiln_generator_of(p.family)->variants; g->variant; g++) {
        kiln_schedule s;
        if (!g->applies(&p, caps, 0)) continue;
        const int kind = pick(6);
        if (kind == 0) s = g->start(&p, caps);
        else if (kind == 1) s = kiln_variant_default(g->variant);
        else if (!draw(&p, g, &s)) continue;
        if (b->n == BATCH) run_batch(b);
        add(b, &p, &s);
    }
}

static const char *const types[] = {"f32", "bf16", "f16", "i8", "i32"};
static const char *const shapes[] = {"rows=6 cols=256", "rows=3 cols=1000", "rows=16 cols=48",
                                     "rows=2 cols=4096", "rows=11 cols=333"};

static void test_presets(void **state) {
    (void)state;
    if (!device) skip();
    static batch b;
    for (const kiln_preset *preset = kiln_presets; preset->name; preset++) {
        if (strcmp(preset->family, "map")) continue;
        char text[256];
        snprintf(text, sizeof text, "%s %s type=%s", preset->name, shapes[pick(5)], types[pick(3)]);
        add_random(&b, text);
    }
    run_batch(&b);
}

/* ---- random statements: values stay moderate, so that bounds stay meaningful */

static const char *leaf(void) {
    static const char *const leaves[] = {"x", "y", "w[col]", "s[row]", "alpha", "0.75", "2", "x", "y"};
    return leaves[pick(9)];
}

static void expression(kiln_text *t, int depth, int reductions) {
    static const char *const calls[] = {"tanh", "sigmoid", "relu", "silu", "gelu", "gelu_tanh",
                                        "erf", "abs", "neg"};
    static const char *const shaped[] = {"exp(tanh(", "sqrt(1 + abs(", "rsqrt(1 + abs(",
                                         "log(2 + abs(", "(1 / (1.5 + abs("};
    static const char *const reduce[] = {"sum(", "mean(", "max(", "min("};
    if (depth == 0) {
        kiln_text_add(t, leaf());
        return;
    }
    const int kind = pick(reductions ? 7 : 6);
    if (kind < 2) {
        kiln_text_add(t, "(");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, (const char *const[]){" + ", " - ", " * "}[pick(3)]);
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ")");
    } else if (kind == 2) {
        const char *name = calls[pick(9)];
        kiln_text_printf(t, "%s(", strcmp(name, "neg") ? name : "-");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ")");
    } else if (kind == 3) {
        const int form = pick(5);
        kiln_text_add(t, shaped[form]);
        expression(t, depth - 1, reductions);
        kiln_text_add(t, form == 4 ? ")))" : "))");
    } else if (kind == 4) {
        kiln_text_add(t, pick(2) ? "max(" : "min(");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ", ");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ")");
    } else if (kind == 5) {
        kiln_text_add(t, "select(x < y, ");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ", ");
        expression(t, depth - 1, reductions);
        kiln_text_add(t, ")");
    } else {
        kiln_text_add(t, reduce[pick(4)]);
        expression(t, depth - 1, reductions - 1);
        kiln_text_add(t, ")");
    }
}

static const char *random_type(void) { return types[pick(5)]; }

static void random_problem(kiln_text *t) {
    const bool row_out = pick(4) == 0, two = pick(3) == 0;
    const int reductions = pick(4);
    kiln_text_printf(t, "map %s x=%s y=%s w=%s s=%s alpha=scalar out=%s", shapes[pick(5)],
                     random_type(), random_type(), types[pick(3)], types[pick(3)], random_type());
    if (two) kiln_text_printf(t, " more=%s", types[pick(3)]);
    kiln_text_add(t, " : h = ");
    expression(t, 3, reductions);
    if (two) {
        kiln_text_add(t, "; more = h + ");
        expression(t, 1, 0);
    }
    kiln_text_add(t, row_out ? "; out[row] = " : "; out = ");
    kiln_text_add(t, row_out ? "mean(" : "");
    kiln_text_add(t, "h * 0.5 + x * y + w[col] + s[row] * alpha");
    kiln_text_add(t, row_out ? ")" : "");
}

static void test_random_statements(void **state) {
    (void)state;
    if (!device) skip();
    static batch b;
    const char *rounds = getenv("KILN_MAP_ROUNDS");
    const int n = 12 * (rounds ? atoi(rounds) : 1);
    for (int i = 0; i < n; i++) {
        kiln_text t = {0};
        kiln_problem p;
        kiln_error e = {0};
        random_problem(&t);
        if (!kiln_problem_parse(&p, kiln_text_get(&t), &e)) add_random(&b, kiln_text_get(&t));
        else if (e.status != KILN_UNSUPPORTED) fail_msg("%s: %s", kiln_text_get(&t), e.text);
        kiln_text_free(&t);
    }
    run_batch(&b);
}

/* ---- the reference on the device says what the evaluator says */

static void compare_reference(const char *text) {
    kiln_error e = {0};
    kiln_text unit = {0};
    kiln_problem p;
    kiln_program program;
    kiln_buffer reference[KILN_OPERANDS_MAX] = {0}, bound[KILN_OPERANDS_MAX] = {0};
    arrays a;
    parse(&p, text);
    make_arrays(&a, &p);
    must(kiln_emit_reference_unit(&p, caps, &unit, &e), &e);
    kiln_module *m = build(kiln_text_get(&unit));
    kiln_kernel *kernel = target->kernel(device, m, "kiln_reference_main", &e);
    if (!kernel) fail_msg("%s", e.text);
    for (int i = 0, j = 0; i < p.n_operands; i++) {
        const int64_t n = p.operand[i].rows * p.operand[i].cols;
        if (!p.operand[i].output) continue;
        reference[j] = target->alloc(device, n * 8, &e);
        bound[j++] = target->alloc(device, n * 4, &e);
    }
    const kiln_bindings b = {.operand = a.part, .scalar = a.scalar, .reference = reference,
                             .bound = bound};
    must(kiln_generator_of(p.family)->reference_program(&p, caps, &program, &e), &e);
    must(target->launch(device, kernel, &program.launch[0], &b, 0, &e), &e);
    must(target->sync(device, &e), &e);
    for (int i = 0, j = 0; i < p.n_operands; i++) {
        const int64_t n = p.operand[i].rows * p.operand[i].cols;
        if (!p.operand[i].output) continue;
        double *value = malloc((size_t)n * 8);
        float *bounds = malloc((size_t)n * 4);
        must(target->read(device, value, reference[j], 0, n * 8, &e), &e);
        must(target->read(device, bounds, bound[j], 0, n * 4, &e), &e);
        for (int64_t k = 0; k < n; k++) {
            if (!(fabs(value[k] - a.value[j][k]) <= 1e-12 * (1 + fabs(value[k]))))
                fail_msg("%s: reference[%lld] is %.17g, the evaluator says %.17g", text,
                         (long long)k, value[k], a.value[j][k]);
            if (!(fabs(bounds[k] - a.bound[j][k]) <= 1e-4 * a.bound[j][k]))
                fail_msg("%s: bound[%lld] is %g, the evaluator says %g", text, (long long)k,
                         bounds[k], a.bound[j][k]);
        }
        free(value);
        free(bounds);
        target->release(device, reference[j]);
        target->release(device, bound[j++]);
    }
    target->unload(device, m);
    kiln_text_free(&unit);
    free_arrays(&a);
}

static void test_reference(void **state) {
    (void)state;
    if (!device || !caps->f64) skip();
    compare_reference("layernorm rows=5 cols=203 type=bf16");
    compare_reference("map rows=7 cols=129 x=f32 s=f16 w=f32 alpha=scalar out=i8 more=f32 : "
                      "h = x * alpha + s[row]; more[row] = max(h) - min(h); out = h * 100 * w[col]");
    compare_reference("gelu_bias_residual rows=3 cols=500 type=f32");
}

/* ---- legality gives reasons */

static void refuses(const char *problem, const char *schedule, const char *reason) {
    kiln_problem p;
    kiln_schedule s;
    kiln_error e = {0};
    kiln_text why = {0};
    const kiln_caps gpu = {.target = "cuda", .kind = KILN_DEVICE_GPU, .units = 132, .warp = 32,
                           .max_threads = 1024, .align_bytes = 256, .arch_number = 90};
    parse(&p, problem);
    must(kiln_schedule_parse(p.family, &s, schedule, &e), &e);
    assert_false(s.variant->legal(&p, &gpu, &s, &why));
    if (!strstr(kiln_text_get(&why), reason)) fail_msg("%s: %s", schedule, kiln_text_get(&why));
    kiln_text_free(&why);
}

static void test_legality(void **state) {
    (void)state;
    refuses("softmax rows=8 cols=1001 type=f32", "simt v=4", "1001");
    refuses("softmax rows=8 cols=4096 type=f32", "simt t=128 v=4 u=4 keep=1", "2048");
    refuses("softmax rows=8 cols=4096 type=f32", "simt t=96", "power of two");
    refuses("relu rows=8 cols=4096 type=f32", "simt tr=2", "flat");
    refuses("relu rows=8 cols=4096 type=f32", "simt keep=1", "phase");
    refuses("softmax rows=8 cols=8192 type=bf16", "simt t=64 v=8 u=16 keep=1 regs=20", "24 to 255");
    refuses("softmax rows=8 cols=8192 type=bf16", "simt t=1024 v=8 keep=1 regs=80", "65536");
    refuses("rmsnorm_residual rows=8 cols=8192 type=bf16", "simt t=64 v=8 u=16 keep=1", "128 words");
    refuses("relu rows=8 cols=4096 type=f32", "cpu", "processors");
}

static void test_bad_problems(void **state) {
    (void)state;
    static const char *const bad[] = {
        "map rows=4 cols=4 x=f32 out=f32 : out[col] = x",
        "map rows=4 cols=4 x=e4m3 out=f32 : out = x",
        "map rows=0 cols=4 x=f32 out=f32 : out = x",
        ("map rows=4 cols=4 x=f32 out=f32 : "
         "a = x - max(x); b = a - max(a); c = b - max(b); d = c - max(c); out = d - max(d)"),
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kiln_problem p;
        kiln_error e = {0};
        if (!kiln_problem_parse(&p, bad[i], &e)) fail_msg("accepted: %s", bad[i]);
        assert_true(strlen(e.text) > 10);
    }
}

/* ---- NVRTC: every preset, start (with hints) and default schedule */

/* ptxas may trade one or two words that are the same for a row for another resident block; elements
 * of the row must not spill. */
static void check_spills(const char *log) {
    int seen = 0;
    for (const char *at = log; (at = strstr(at, "bytes stack frame, ")); seen++) {
        at += strlen("bytes stack frame, ");
        if (atoi(at) > 8) fail_msg("spills: %.60s", at);
    }
    assert_true(seen > 0);
}

static void test_nvrtc(void **state) {
    (void)state;
    const kiln_target *cuda = kiln_target_find("cuda");
    const struct {
        const char *arch;
        int number;
    } archs[] = {{"sm_80", 80}, {"sm_90a", 90}};
    for (int k = 0; k < 2; k++) {
        kiln_caps gpu = {.target = "cuda", .kind = KILN_DEVICE_GPU, .units = 132, .warp = 32,
                         .max_threads = 1024, .align_bytes = 256, .f64 = true};
        kiln_text unit = {0}, log = {0};
        strcpy(gpu.arch, archs[k].arch);
        gpu.arch_number = archs[k].number;
        for (const kiln_preset *preset = kiln_presets; preset->name; preset++) {
            if (strcmp(preset->family, "map")) continue;
            for (int t = 0; t < 2; t++) {
                char text[256], suffix[2][20];
                kiln_problem p;
                kiln_error e = {0};
                snprintf(text, sizeof text, "%s rows=8192 cols=8192 type=%s", preset->name,
                         types[t]);
                parse(&p, text);
                kiln_schedule s[2] = {kiln_map_simt_start(&p, &gpu),
                                      kiln_variant_default(&kiln_map_simt)};
                kiln_schedule_set(&s[0], "ld", 1);
                kiln_text one = {0};
                must(kiln_emit_unit(&p, &gpu, s, 2, suffix, &one, &e), &e);
                const size_t dialect = strlen(kiln_embedded("targets/cuda/dialect.h"));
                kiln_text_add(&unit, kiln_text_get(&one) + (unit.size ? dialect : 0));
                kiln_text_free(&one);
            }
        }
        kiln_error e = {0};
        kiln_blob code = {0};
        const kiln_compile_request request = {.source = kiln_text_get(&unit)};
        const int status = cuda ? cuda->compile(&gpu, &request, &code, 0, &log, &e)
                                : kiln_fail(&e, KILN_NO_DEVICE, "no cuda target");
        if (status == KILN_NO_DEVICE || status == KILN_DRIVER) {
            print_message("SKIPPED: %s\n", e.text);
            skip();
        }
        if (status) fail_msg("%s\n%.3000s", e.text, kiln_text_get(&log));
        check_spills(kiln_text_get(&log));
        free(code.data);
        kiln_text_free(&unit);
        kiln_text_free(&log);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_legality),  cmocka_unit_test(test_bad_problems),
        cmocka_unit_test(test_presets),   cmocka_unit_test(test_random_statements),
        cmocka_unit_test(test_reference), cmocka_unit_test(test_nvrtc),
    };
    return cmocka_run_group_tests_name("map", tests, setup, teardown);
}

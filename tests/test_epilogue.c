/* The statements of a matmul as functions: read and finished in two steps (fetch, with), they give
 * the same bytes as in one, on an OpenCL device; and with NVRTC the loops that wgmma_sm90 makes of
 * them compile and spill nothing. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"
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

static kiln_problem problem_of(const char *text) {
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    return p;
}

/* ---- one step or two */

/* Two entries, which finish all of out: "direct" and "ahead". value: out comes back instead. */
static void write_unit(kiln_text *out, const kiln_problem *p, int width, bool value) {
    kiln_text undefs = {0};
    kiln_text_add(out, kiln_embedded("targets/opencl/dialect.h"));
    kiln_text_add(out, "#define NAME(x) x\n");
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_matmul_emit_tops(out, p);
    kiln_matmul_emit_ahead_facts(out, &undefs, p);
    (value ? kiln_matmul_emit_value : kiln_matmul_emit_epilogue)(out, p, "one", width);
    if (value)
        kiln_matmul_emit_value_ahead(out, p, "two", width, -1);
    else
        kiln_matmul_emit_epilogue_ahead(out, p, "two", width);
    for (int ahead = 0; ahead < 2; ahead++) {
        kiln_text_printf(out,
                         "KERNEL(1, 1, 1) %s(EPILOGUE_PARAMS) {\n"
                         "    const i64 row = BLOCK(0), batch = BLOCK(1);\n"
                         "    for (int col = 0; col < n; col += %d) {\n"
                         "        ACC sum[%d];\n        float value[%d];\n"
                         "        for (int e = 0; e < %d; e++)"
                         " sum[e] = (ACC)((row * 7 + (col + e) * 3 + batch) %% 13 - 6);\n",
                         ahead ? "ahead" : "direct", width, width, width, width);
        if (ahead)
            kiln_text_printf(out,
                             "        two_line line;\n        two_held held;\n"
                             "        two_begin(EPILOGUE_ARGS, batch, row, &line);\n"
                             "        matrix_soon(EPILOGUE_ARGS, batch, row, col);\n"
                             "        two_fetch(EPILOGUE_ARGS, &line, col, &held);\n"
                             "        two_with(EPILOGUE_ARGS, batch, row, col, sum%s, &held);\n",
                             value ? ", value" : "");
        else
            kiln_text_printf(out, "        one(EPILOGUE_ARGS, batch, row, col, sum%s);\n",
                             value ? ", value" : "");
        if (value)
            kiln_text_printf(out,
                             "        for (int e = 0; e < %d; e++)"
                             " WRITE(TO, p_out, batch * stride_o + row * ldo + col + e, "
                             "value[e]);\n",
                             width);
        kiln_text_add(out, "    }\n}\n");
    }
    kiln_text_free(&undefs);
}

typedef struct device {
    const kiln_target *t;
    kiln_device *d;
    kiln_buffer operand[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
} device;

static void fill(device *x, const kiln_problem *p) {
    kiln_error e = {0};
    for (int i = MATMUL_OUT; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        x->scalar[i] = 0.75;
        if (o->scalar) continue;
        const int64_t bytes = kiln_operand_bytes(o), each = (int64_t)kiln_type_bytes(o->type);
        uint8_t *host = malloc((size_t)bytes);
        for (int64_t at = 0; at < bytes / each; at++)
            kiln_type_write(o->type, host + at * each,
                            o->output ? 77 : (double)(at * 5 % 17) / 4 - 2);
        if (!x->operand[i]) x->operand[i] = x->t->alloc(x->d, bytes, &e);
        if (!x->operand[i] || x->t->write(x->d, x->operand[i], 0, host, bytes, &e))
            fail_msg("%s", e.text);
        free(host);
    }
}

/* The bytes of all outputs, one behind the other, after a run from fresh operands. */
static int64_t run(device *x, kiln_module *m, const kiln_problem *p, const char *entry,
                   uint8_t *to) {
    kiln_error e = {0};
    const matmul v = kiln_matmul_view(p);
    kiln_launch l = {.grid = {(uint32_t)v.m, (uint32_t)v.batch, 1}, .block = {1, 1, 1}};
    kiln_bindings bind = {.operand = x->operand, .scalar = x->scalar};
    int64_t used = 0;
    kiln_matmul_arg_epilogue(&l, p);
    fill(x, p);
    kiln_kernel *k = x->t->kernel(x->d, m, entry, &e);
    if (!k || x->t->launch(x->d, k, &l, &bind, NULL, &e) || x->t->sync(x->d, &e))
        fail_msg("%s: %s", entry, e.text);
    for (int i = MATMUL_OUT; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->output) continue;
        const int64_t bytes = kiln_operand_bytes(o);
        if (x->t->read(x->d, to + used, x->operand[i], 0, bytes, &e)) fail_msg("%s", e.text);
        used += bytes;
    }
    return used;
}

static void compare(device *x, const char *text, int width, bool value) {
    static uint8_t direct[1 << 16], ahead[1 << 16];
    kiln_problem p = problem_of(text);
    kiln_text unit = {0}, log = {0};
    kiln_blob blob = {0}, ptx = {0};
    kiln_error e = {0};
    write_unit(&unit, &p, width, value);
    kiln_compile_request request = {.source = kiln_text_get(&unit)};
    if (x->t->compile(x->t->caps(x->d), &request, &blob, &ptx, &log, &e))
        fail_msg("%s by %d: %s\n%.3000s", text, width, e.text, kiln_text_get(&log));
    kiln_module *m = x->t->load(x->d, blob.data, blob.size, &e);
    if (!m) fail_msg("%s", e.text);
    memset(x->operand, 0, sizeof x->operand);
    const int64_t bytes = run(x, m, &p, "direct", direct);
    assert_true(bytes > 0 && bytes <= (int64_t)sizeof direct);
    bool touched = false; /* 77 where nothing was stored */
    run(x, m, &p, "ahead", ahead);
    for (int64_t i = 1; i < bytes; i++) touched |= direct[i] != direct[0];
    if (!touched) fail_msg("%s by %d: nothing was computed", text, width);
    if (memcmp(direct, ahead, (size_t)bytes)) fail_msg("%s by %d: results differ", text, width);
    for (int i = 0; i < p.n_operands; i++)
        if (x->operand[i]) x->t->release(x->d, x->operand[i]);
    x->t->unload(x->d, m);
    free(blob.data);
    kiln_text_free(&unit);
    kiln_text_free(&log);
}

static void two_steps_are_one(void **state) {
    static const char *const problems[] = {
        "matmul m=6 n=48 k=8 type=bf16 : out = gelu(acc + bias[n]) + res[m,n]",
        "matmul m=5 n=32 k=8 type=f16 batch=2 alpha=scalar : out = acc * alpha * s[m] + res[m,n]",
        "matmul m=5 n=32 k=8 type=f32 : t = acc + res[m,n] * g[m,n]; h[m,n] = t; out = silu(t)",
        "matmul m=4 n=16 k=8 type=e4m3 out=bf16 res=e4m3 : out = acc * s[m] + res[m,n]",
        "matmul m=4 n=16 k=8 a=i8 b=i8 out=i8 : out = acc * s[n] + z[n]",
        "matmul m=4 n=16 k=8 type=f32 : out = acc * col[n] + row[m,n] * line[m,n] + held[m]",
    };
    device x = {.t = kiln_target_find("opencl")};
    kiln_caps caps[4];
    kiln_error e = {0};
    (void)state;
    if (!x.t || x.t->devices(caps, 4, &e) < 1 || !(x.d = x.t->open(0, NULL, &e))) {
        print_message("SKIPPED: no OpenCL device; emitted code was not run\n");
        skip();
    }
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        compare(&x, problems[i], 1, false);
        compare(&x, problems[i], 8, false);
        compare(&x, problems[i], 2, true);
    }
    x.t->close(x.d);
}

/* ---- wgmma_sm90 with statements, for the compiler alone */

static kiln_caps hopper(void) {
    return (kiln_caps){.target = "cuda",
                       .name = "test",
                       .arch = "sm_90a",
                       .kind = KILN_DEVICE_GPU,
                       .arch_number = 90,
                       .units = 132,
                       .warp = 32,
                       .max_threads = 1024,
                       .shared_bytes = 232448,
                       .shared_unit_bytes = 233472,
                       .registers_unit = 65536,
                       .threads_unit = 2048,
                       .align_bytes = 256,
                       .programs_per_unit = 1,
                       .clusters = true,
                       .tensor_maps = true};
}

static kiln_schedule schedule_of(const int *tile) {
    static const char *const knob[] = {"tm", "tn", "consumers", "pingpong", "swap", "tma_store"};
    kiln_schedule s = kiln_variant_default(&kiln_matmul_wgmma_sm90);
    for (int i = 0; i < 6; i++) kiln_schedule_set(&s, knob[i], tile[i]);
    kiln_schedule_set(&s, "stages", 0);
    kiln_schedule_set(&s, "store", 8);
    return s;
}

/* Bytes spilled, or -1 without NVRTC. tile: NULL for the variant's own start. */
static int spilled(const char *text, const int *tile) {
    char suffix[1][20];
    kiln_problem p = problem_of(text);
    kiln_caps caps = hopper();
    kiln_schedule s = tile ? schedule_of(tile) : kiln_matmul_wgmma_sm90_generator.start(&p, &caps);
    kiln_text source = {0}, log = {0}, why = {0};
    kiln_blob blob = {0};
    kiln_error e = {0};
    if (!s.variant->legal(&p, &caps, &s, &why)) fail_msg("%s: %s", text, kiln_text_get(&why));
    if (kiln_emit_unit(&p, &caps, &s, 1, suffix, &source, &e)) fail_msg("%s", e.text);
    kiln_compile_request request = {.source = kiln_text_get(&source)};
    const int rc = kiln_target_find("cuda")->compile(&caps, &request, &blob, NULL, &log, &e);
    if (rc && rc != KILN_NO_DEVICE) fail_msg("%s: %s", text, e.text);
    if (!rc && (strstr(kiln_text_get(&log), "C75") || strstr(kiln_text_get(&log), "warning")))
        fail_msg("%s: %s", text, kiln_text_get(&log));
    int bytes = 0, most = 0;
    for (const char *at = kiln_text_get(&log); (at = strstr(at, "stack frame, ")); at += 13)
        if (sscanf(at, "stack frame, %d bytes spill", &bytes) == 1 && bytes > most) most = bytes;
    free(blob.data);
    kiln_text_free(&source);
    kiln_text_free(&log);
    return rc ? -1 : most;
}

static void loops_compile_without_spills(void **state) {
    static const struct {
        const char *statements;
        int tile[6];
    } some[] = {
        {"out = gelu(acc + bias[n]) + res[m,n]", {128, 256, 2, 0, 0, 0}},
        {"out = gelu(acc + bias[n]) + res[m,n]", {128, 256, 2, 0, 0, 1}},
        {"out = gelu(acc + bias[n]) + res[m,n]", {128, 192, 2, 1, 0, 1}},
        {"out = gelu(acc + bias[n]) + res[m,n]", {32, 128, 2, 0, 1, 0}},
        {"t = acc * s[m] + res[m,n]; h[m,n] = t; out = silu(t)", {128, 128, 2, 1, 0, 1}},
        {"amax[m] = max(abs(acc)); out = acc * inv[m] + res[m,n]", {128, 128, 2, 1, 0, 0}},
        /* names that are a member's, a keyword and a macro in the kernel's text */
        {"out = acc * row[m,n] + new[m,n] * TM[m,n]", {128, 128, 2, 0, 0, 0}},
        {"new[m,n] = acc + TM[m,n]; out = acc * row[m,n]", {128, 128, 2, 0, 0, 1}},
        {"row[m] = max(acc); out = acc * new[m] + TM[n]", {32, 128, 2, 0, 1, 0}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char text[256];
        snprintf(text, sizeof text, "matmul m=256 n=512 k=512 type=bf16 tb=1 : %s",
                 some[i].statements);
        const int bytes = spilled(text, some[i].tile);
        if (bytes < 0) {
            print_message("SKIPPED: NVRTC is not installed, nothing was compiled\n");
            skip();
        }
        if (bytes) fail_msg("case %d, %s: %d bytes spilled", (int)i, text, bytes);
    }
}

/* Where the search begins, sums are few enough for the statements. */
static void starts_do_not_spill(void **state) {
    static const char *const some[] = {
        "matmul m=4096 n=4096 k=4096 type=bf16 tb=1 : out = gelu(acc + bias[n]) + res[m,n]",
        "matmul m=4096 n=14336 k=4096 type=bf16 tb=1 : out = gelu(acc + bias[n]) + res[m,n]",
        "matmul m=2304 n=1792 k=4096 type=f16 tb=1 : out = silu(acc) * g[m,n]",
    };
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const int bytes = spilled(some[i], NULL);
        if (bytes < 0) {
            print_message("SKIPPED: NVRTC is not installed, nothing was compiled\n");
            skip();
        }
        if (bytes) fail_msg("%s: %d bytes spilled", some[i], bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_steps_are_one),
        cmocka_unit_test(loops_compile_without_spills),
        cmocka_unit_test(starts_do_not_spill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

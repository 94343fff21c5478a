/* The reference unit on an OpenCL device: the reference program says what the evaluator says, and
 * the comparison accepts correctly rounded outputs and finds every kind of wrong one. */
#include "kernels/emit.h"
#include "kernels/input.h"
#include "kernels/reference.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char text[] =
    "map rows=37 cols=53 x=f32 y=f32 out=f32 g=f16 h=bf16 i=i32 j=i8 r=f32 : "
    "out = x * y + exp(x); g = out; h = out; i = 1000 * x; j = 100 * y; "
    "r[row] = sum(x * y)";
enum { ROWS = 37, COLS = 53, OUTPUTS = 6, SEED = 3 };

typedef struct setting {
    kiln_problem p;
    const kiln_target *t;
    kiln_device *d;
    kiln_module *m;
    int operand[OUTPUTS];
    kiln_buffer buffer[KILN_OPERANDS_MAX], reference[OUTPUTS], bound[OUTPUTS], partials, workspace;
    void *host[KILN_OPERANDS_MAX];
    double *value[OUTPUTS], *limit[OUTPUTS]; /* by the evaluator, dense */
} setting;

static setting s;

#define CHECK(call)                                                                                \
    do {                                                                                           \
        kiln_error e = {0};                                                                        \
        if (!(call)) fail_msg(#call ": %s", e.text);                                               \
    } while (0)

static kiln_bindings bind(void) {
    static const double scalar[KILN_OPERANDS_MAX];
    return (kiln_bindings){.operand = s.buffer,
                           .scalar = scalar,
                           .reference = s.reference,
                           .bound = s.bound,
                           .partials = s.partials,
                           .workspace = s.workspace};
}

static void launch(const kiln_launch *l) {
    char entry[80];
    kiln_bindings b = bind();
    kiln_kernel *k;
    snprintf(entry, sizeof entry, "kiln_reference_%s", l->entry);
    CHECK((k = s.t->kernel(s.d, s.m, entry, &e)));
    CHECK(!s.t->launch(s.d, k, l, &b, NULL, &e));
    CHECK(!s.t->sync(s.d, &e));
}

static void build(void) {
    kiln_text unit = {0}, log = {0};
    kiln_blob blob = {0}, ptx = {0};
    CHECK(!kiln_emit_reference_unit(&s.p, s.t->caps(s.d), &unit, &e));
    kiln_compile_request request = {.source = kiln_text_get(&unit)};
    kiln_error e = {0};
    if (s.t->compile(s.t->caps(s.d), &request, &blob, &ptx, &log, &e))
        fail_msg("%s\n%.2000s", e.text, kiln_text_get(&log));
    s.m = s.t->load(s.d, blob.data, blob.size, &e);
    if (!s.m) fail_msg("%s", e.text);
    free(blob.data);
    kiln_text_free(&unit);
    kiln_text_free(&log);
}

static void make_buffers(void) {
    int j = 0;
    for (int i = 0; i < s.p.n_operands; i++) {
        const kiln_operand *o = &s.p.operand[i];
        int64_t bytes = kiln_operand_bytes(o), elements = kiln_operand_elements(o);
        s.host[i] = calloc(1, (size_t)bytes);
        CHECK((s.buffer[i] = s.t->alloc(s.d, bytes, &e)));
        if (!o->output) kiln_input_fill(o, SEED, i, s.host[i]);
        CHECK(!s.t->write(s.d, s.buffer[i], 0, s.host[i], bytes, &e));
        if (!o->output) continue;
        s.operand[j] = i;
        s.value[j] = calloc((size_t)elements, sizeof(double));
        s.limit[j] = calloc((size_t)elements, sizeof(double));
        CHECK((s.reference[j] = s.t->alloc(s.d, elements * 8, &e)));
        CHECK((s.bound[j] = s.t->alloc(s.d, elements * 4, &e)));
        j++;
    }
    assert_int_equal(j, OUTPUTS);
    CHECK((s.partials = s.t->alloc(s.d, 1 << 20, &e)));
}

static void evaluate(void) {
    const kiln_generator *g = kiln_generator_of(s.p.family);
    const double scalar[KILN_OPERANDS_MAX] = {0};
    for (int row = 0; row < ROWS; row++) {
        double *value[OUTPUTS], *limit[OUTPUTS];
        for (int j = 0; j < OUTPUTS; j++) {
            value[j] = s.value[j] + row * s.p.operand[s.operand[j]].cols;
            limit[j] = s.limit[j] + row * s.p.operand[s.operand[j]].cols;
        }
        CHECK(
            !g->evaluate_row(&s.p, (const void *const *)s.host, scalar, 0, row, value, limit, &e));
    }
}

static int open_setting(void **state) {
    (void)state;
    kiln_caps caps[8];
    kiln_error e = {0};
    if (kiln_problem_parse(&s.p, text, &e)) return -1;
    s.t = kiln_target_find("opencl");
    int n = s.t ? s.t->devices(caps, 8, &e) : 0, index = 0;
    while (index < n && !caps[index].f64) index++;
    if (index >= n) {
        s.t = NULL;
        return 0;
    }
    s.d = s.t->open(index, NULL, &e);
    if (!s.d) return -1;
    build();
    make_buffers();
    evaluate();
    return 0;
}

static int close_setting(void **state) {
    (void)state;
    if (!s.t) return 0;
    for (int i = 0; i < s.p.n_operands; i++) s.t->release(s.d, s.buffer[i]), free(s.host[i]);
    for (int j = 0; j < OUTPUTS; j++) {
        s.t->release(s.d, s.reference[j]);
        s.t->release(s.d, s.bound[j]);
        free(s.value[j]);
        free(s.limit[j]);
    }
    s.t->release(s.d, s.partials);
    s.t->unload(s.d, s.m);
    s.t->close(s.d);
    return 0;
}

static void need_device(void) {
    if (s.t) return;
    print_message("SKIPPED: no OpenCL device with double arithmetic\n");
    skip();
}

/* ---- the tests, in this order: the comparison uses what the reference left */

static void reference_agrees_with_evaluator(void **state) {
    (void)state;
    need_device();
    const kiln_generator *g = kiln_generator_of(s.p.family);
    kiln_program program = {0};
    CHECK(!g->reference_program(&s.p, s.t->caps(s.d), &program, &e));
    assert_true(program.n_launches >= 1);
    if (program.workspace_bytes)
        CHECK((s.workspace = s.t->alloc(s.d, program.workspace_bytes, &e)));
    for (int i = 0; i < program.n_launches; i++) launch(&program.launch[i]);
    for (int j = 0; j < OUTPUTS; j++) {
        int64_t n = kiln_operand_elements(&s.p.operand[s.operand[j]]);
        double *value = calloc((size_t)n, sizeof *value);
        float *bound = calloc((size_t)n, sizeof *bound);
        CHECK(!s.t->read(s.d, value, s.reference[j], 0, n * 8, &e));
        CHECK(!s.t->read(s.d, bound, s.bound[j], 0, n * 4, &e));
        for (int64_t i = 0; i < n; i++) {
            if (fabs(value[i] - s.value[j][i]) > 1e-13 * (1 + fabs(s.value[j][i])))
                fail_msg("output %d element %d: %.17g, not %.17g", j, (int)i, value[i],
                         s.value[j][i]);
            if (fabs(bound[i] - s.limit[j][i]) > 1e-5 * s.limit[j][i])
                fail_msg("output %d element %d: bound %g, not %g", j, (int)i, bound[i],
                         s.limit[j][i]);
        }
        free(value);
        free(bound);
    }
}

static kiln_verdict compare(int j) {
    kiln_launch l;
    CHECK(!kiln_compare_launch(&s.p, s.t->caps(s.d), j, &l, &e));
    int64_t bytes = kiln_compare_partial_bytes(&l);
    assert_true(bytes > 0 && bytes <= 1 << 20);
    CHECK(!s.t->fill(s.d, s.partials, 0, bytes, 0xffffffffu, &e));
    launch(&l);
    void *partials = malloc((size_t)bytes);
    CHECK(!s.t->read(s.d, partials, s.partials, 0, bytes, &e));
    kiln_verdict v = kiln_compare_verdict(&l, partials);
    free(partials);
    return v;
}

static void *element(int j, int64_t i) {
    int k = s.operand[j];
    return (char *)s.host[k] + (size_t)i * kiln_type_bytes(s.p.operand[k].type);
}

/* Output j as the evaluator has it, with every element moved by `shift` bounds. */
static void write_output(int j, double shift) {
    const kiln_operand *o = &s.p.operand[s.operand[j]];
    for (int64_t i = 0; i < kiln_operand_elements(o); i++)
        kiln_type_write(o->type, element(j, i), s.value[j][i] + shift * s.limit[j][i]);
    CHECK(!s.t->write(s.d, s.buffer[s.operand[j]], 0, s.host[s.operand[j]], kiln_operand_bytes(o),
                      &e));
}

static kiln_verdict compare_with(int j, int64_t i, double value) {
    const kiln_operand *o = &s.p.operand[s.operand[j]];
    write_output(j, 0);
    kiln_type_write(o->type, element(j, i), value);
    CHECK(!s.t->write(s.d, s.buffer[s.operand[j]], 0, s.host[s.operand[j]], kiln_operand_bytes(o),
                      &e));
    return compare(j);
}

static void right_outputs_are_right(void **state) {
    (void)state;
    need_device();
    for (int j = 0; j < OUTPUTS; j++)
        for (double shift = -0.99; shift < 1; shift += 0.99) {
            write_output(j, shift);
            kiln_verdict v = compare(j);
            if (!v.right)
                fail_msg("output %d shifted by %g bounds: off by %g at %d", j, shift, v.worst,
                         (int)v.worst_index);
            assert_int_equal(v.elements, kiln_operand_elements(&s.p.operand[s.operand[j]]));
            assert_int_equal(v.unbounded, 0);
            assert_true(v.square_reference > 0);
            assert_true(v.square_error <= 1e-4 * v.square_reference || s.operand[j] >= 5);
        }
}

static void wrong_elements_are_found(void **state) {
    (void)state;
    need_device();
    for (int j = 0; j < OUTPUTS; j++) {
        int64_t n = kiln_operand_elements(&s.p.operand[s.operand[j]]);
        const int64_t places[] = {0, n / 3, n - 1};
        double u = kiln_type_roundoff(s.p.operand[s.operand[j]].type);
        for (int k = 0; k < 3; k++) {
            double v = s.value[j][places[k]], step = u > 0 ? 6 * u * fabs(v) : 2;
            step += 3 * s.limit[j][places[k]];
            kiln_verdict found = compare_with(j, places[k], v > 0 ? v + step : v - step);
            if (found.right || found.worst <= 1 || found.worst_index != places[k])
                fail_msg("output %d: element %d moved by %g, found %g at %d", j, (int)places[k],
                         step, found.worst, (int)found.worst_index);
        }
    }
}

static void nan_and_infinity_are_bad(void **state) {
    (void)state;
    need_device();
    for (int j = 0; j < 3; j++) {
        kiln_verdict v = compare_with(j, 7, NAN);
        assert_true(!v.right && v.bad == 1 && v.worst_index == 7 && isinf(v.worst));
        v = compare_with(j, 8, INFINITY);
        assert_true(!v.right && v.bad == 1 && v.worst_index == 8);
        v = compare_with(j, 9, -s.value[j][9]);
        assert_true(!v.right && v.bad == 0 && v.worst_index == 9);
    }
}

/* A buffer that nothing wrote holds the poison, NaN. */
static void unwritten_outputs_are_bad(void **state) {
    (void)state;
    need_device();
    const kiln_operand *o = &s.p.operand[s.operand[0]];
    CHECK(!s.t->fill(s.d, s.buffer[s.operand[0]], 0, kiln_operand_bytes(o), 0xffffffffu, &e));
    kiln_verdict v = compare(0);
    assert_true(!v.right && v.bad == ROWS * COLS);
}

static void unknown_things_are_refused(void **state) {
    (void)state;
    need_device();
    kiln_caps caps = *s.t->caps(s.d);
    kiln_text unit = {0};
    kiln_error e = {0};
    kiln_launch l;
    caps.f64 = false;
    assert_int_equal(kiln_emit_reference_unit(&s.p, &caps, &unit, &e), KILN_UNSUPPORTED);
    assert_non_null(strstr(e.text, "no double arithmetic"));
    caps.f64 = true;
    strcpy(caps.target, "abacus");
    assert_int_equal(kiln_emit_reference_unit(&s.p, &caps, &unit, &e), KILN_UNSUPPORTED);
    assert_non_null(strstr(e.text, "abacus"));
    assert_int_equal(kiln_compare_launch(&s.p, &caps, OUTPUTS, &l, &e), KILN_BAD_INPUT);
    kiln_text_free(&unit);
}

/* ---- units of programs need no device */

static void units_share_equal_programs(void **state) {
    (void)state;
    kiln_problem p;
    kiln_caps caps = {.target = "opencl",
                      .kind = KILN_DEVICE_CPU,
                      .units = 2,
                      .warp = 1,
                      .vector_bits = 256,
                      .vector_registers = 16,
                      .max_threads = 1024,
                      .shared_bytes = 65536,
                      .f64 = true};
    kiln_text unit = {0};
    char suffix[3][20];
    CHECK(!kiln_problem_parse(&p, "softmax rows=8 cols=64", &e));
    const kiln_variant *v = kiln_variant_find(p.family, "simt");
    assert_non_null(v);
    kiln_schedule schedule[3] = {kiln_variant_default(v), kiln_variant_default(v),
                                 kiln_variant_default(v)};
    schedule[2].value[0] *= 2;
    CHECK(!kiln_emit_unit(&p, &caps, schedule, 3, suffix, &unit, &e));
    assert_string_equal(suffix[0], suffix[1]);
    assert_string_not_equal(suffix[0], suffix[2]);
    assert_int_equal(strlen(suffix[0]), 16);
    for (int i = 0; i < 3; i++) {
        char definition[96], *first;
        snprintf(definition, sizeof definition, "#define NAME(x) kiln_%s_##x\n", suffix[i]);
        first = strstr(unit.data, definition);
        assert_non_null(first);
        assert_null(strstr(first + 1, definition));
    }
    kiln_text_free(&unit);
}

/* The same unit is CUDA C++; NVRTC needs no GPU. */
static void compiles_for_cuda(void **state) {
    (void)state;
    kiln_problem p;
    kiln_caps caps = {.target = "cuda",
                      .kind = KILN_DEVICE_GPU,
                      .units = 132,
                      .warp = 32,
                      .arch = "sm_90a",
                      .arch_number = 90,
                      .max_threads = 1024,
                      .shared_bytes = 232448,
                      .f64 = true};
    const kiln_target *t = kiln_target_find("cuda");
    kiln_text unit = {0}, log = {0};
    kiln_blob blob = {0}, ptx = {0};
    CHECK(!kiln_problem_parse(&p, text, &e));
    CHECK(!kiln_emit_reference_unit(&p, &caps, &unit, &e));
    kiln_error e = {0};
    kiln_compile_request request = {.source = kiln_text_get(&unit)};
    int status = t ? t->compile(&caps, &request, &blob, &ptx, &log, &e) : KILN_NOT_FOUND;
    if (status == KILN_COMPILE) fail_msg("%s\n%.2000s", e.text, kiln_text_get(&log));
    if (status)
        print_message("SKIPPED: the unit was not compiled for CUDA: %s\n", e.text);
    else
        assert_true(blob.size > 1000);
    free(blob.data);
    free(ptx.data);
    kiln_text_free(&unit);
    kiln_text_free(&log);
    if (status) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_agrees_with_evaluator),
        cmocka_unit_test(right_outputs_are_right),
        cmocka_unit_test(wrong_elements_are_found),
        cmocka_unit_test(nan_and_infinity_are_bad),
        cmocka_unit_test(unwritten_outputs_are_bad),
        cmocka_unit_test(unknown_things_are_refused),
        cmocka_unit_test(units_share_equal_programs),
        cmocka_unit_test(compiles_for_cuda),
    };
    return cmocka_run_group_tests(tests, open_setting, close_setting);
}

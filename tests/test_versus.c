/* `tune bench` on libraries that do not keep what they promise: a kernel that computes something else
 * or crashes its process gives no figure, and those of the others stand. Libraries are made here, with the code of one problem under the name of another. */
#include "kernels/emit.h"
#include "tests/process.h"
#include "tuner/candidates.h"
#include "tuner/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define TRUE_COPY "map rows=64 cols=64 x=f32 out=f32 : out = x"
#define PROMISED "map rows=64 cols=64 x=f32 out=f32 : out = x + 1"
#define DELIVERED "map rows=64 cols=64 x=f32 out=f32 : out = x + 1.001"

static const kiln_target *target;
static kiln_caps caps;
static const char *tune;

typedef struct made {
    kiln_text source;
    kiln_blob code;
    char suffix[1][20];
    char *schedule;
} made;

/* Generic schedule and code of a problem; `find` in its source is replaced first (NULL: nothing). */
static made make_code(const char *problem, const char *find, const char *instead) {
    made m = {0};
    kiln_problem p;
    kiln_schedule s;
    kiln_error e = {0};
    kiln_text text = {0}, log = {0};
    kiln_blob ptx = {0};
    if (kiln_problem_parse(&p, problem, &e)) fail_msg("%s", e.text);
    assert_true(kiln_generic_schedule(&p, &caps, &s));
    kiln_schedule_print(&s, &text);
    m.schedule = text.data;
    if (kiln_emit_unit(&p, &caps, &s, 1, m.suffix, &m.source, &e)) fail_msg("%s", e.text);
    if (find) {
        char *at = strstr(m.source.data, find);
        assert_non_null(at);
        kiln_text changed = {0};
        kiln_text_printf(&changed, "%.*s%s%s", (int)(at - m.source.data), m.source.data, instead,
                         at + strlen(find));
        kiln_text_free(&m.source);
        m.source = changed;
    }
    kiln_compile_request request = {.source = kiln_text_get(&m.source)};
    if (target->compile(&caps, &request, &m.code, &ptx, &log, &e))
        fail_msg("%s\n%s", e.text, kiln_text_get(&log));
    kiln_text_free(&log);
    free(ptx.data);
    return m;
}

static void free_code(made *m) {
    free(m->schedule);
    free(m->code.data);
    kiln_text_free(&m->source);
}

static kiln_library_entry entry(const char *problem, const made *m) {
    return (kiln_library_entry){.problem = problem,
                                .schedule = m->schedule,
                                .caps = &caps,
                                .source = kiln_text_get(&m->source),
                                .suffix = m->suffix[0],
                                .code = m->code.data,
                                .code_bytes = m->code.size,
                                .code_kind = m->code.kind,
                                .seconds = 1e-5,
                                .fallback = true,
                                .facts = {-1, -1, -1, -1, -1}};
}

/* A library of a good kernel and of `m` under the name of PROMISED, measured. */
static process_result bench(const made *m, const char *extra) {
    made good = make_code(TRUE_COPY, NULL, NULL);
    kiln_library_entry x[] = {entry(PROMISED, m), entry(TRUE_COPY, &good)};
    kiln_error e = {0};
    if (kiln_library_write(process_path("x.kiln"), x, 2, NULL, &e)) fail_msg("%s", e.text);
    free_code(&good);
    return PROCESS_RUN(100, tune, "bench", PROMISED, TRUE_COPY, "--library", process_path("x.kiln"), "--device",
                       "opencl:0", "--seconds", "0.01", extra);
}

/* Status 1 and a sentence; the good kernel after it is measured all the same. */
static void check(process_result r, const char *words, const char *sentence) {
    const char *good = strstr(r.out, TRUE_COPY "\n  kiln ");
    if (r.status != 1 || !strstr(r.out, words) || !good || !strstr(good, "exact: ") || !strstr(r.err, sentence))
        fail_msg("status %d, wanted 1 and '%s'\n%s\n%s", r.status, words, r.out, r.err);
    assert_null(strstr(r.out, PROMISED "\n  kiln "));
    process_free(&r);
}

static void test_right(void **state) {
    (void)state;
    made m = make_code(PROMISED, NULL, NULL);
    process_result r = bench(&m, NULL);
    if (r.status) fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    assert_true(strstr(r.out, PROMISED "\n  kiln ") && strstr(r.out, TRUE_COPY "\n  kiln "));
    process_free(&r);
    free_code(&m);
}

static void test_wrong(void **state) {
    (void)state;
    made m = make_code(DELIVERED, NULL, NULL);
    check(bench(&m, NULL), "our kernel is wrong (wrong): out[", "1 of 2 problems came out wrong");
    process_result r = bench(&m, "--json");
    assert_int_equal(r.status, 1);
    assert_non_null(strstr(r.out, "\"error\":\"our kernel is wrong (wrong): out["));
    process_free(&r);
    free_code(&m);
}

/* The process that measures dies with it; the next problem gets another. */
static void test_crash(void **state) {
    (void)state;
    made m = make_code(PROMISED, "+ (REAL)(1.0f)", "+ (REAL)(*(volatile GLOBAL float *)16)");
    check(bench(&m, NULL), "not measured: worker died: Segmentation fault", "1 of 2 problems were not measured");
    free_code(&m);
}

static int set_up(void **state) {
    kiln_error e = {0};
    (void)state;
    target = kiln_target_find("opencl");
    if (!target || target->devices(&caps, 1, &e) < 1) {
        print_message("no OpenCL device: %s\n", e.text);
        return -1;
    }
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_crash),
    };
    if (process_begin("versus")) return 1;
    tune = process_program("tune");
    int failed = cmocka_run_group_tests_name("versus", tests, set_up, NULL);
    process_end();
    return failed;
}

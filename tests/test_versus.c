/* `tune bench` on libraries that do not keep what they promise: a kernel that computes something else
 * or crashes its process gives no figure, and those of the others stand. And on two libraries at once,
 * of which the second may be as bad. And on matmuls with statements, beside which stands the product.
 * Libraries are made here, with the code of one problem under the name of another. */
#include "kernels/emit.h"
#include "tests/process.h"
#include "tuner/candidates.h"
#include "tuner/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>

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

/* ---- two libraries ---- */

/* A library NAME.kiln of a kernel for PROMISED and a good one for `copied`. */
static const char *write_library(const char *name, const made *m, const char *copied) {
    const char *path = process_path("%s.kiln", name);
    made good = make_code(copied, NULL, NULL);
    kiln_library_entry x[] = {entry(PROMISED, m), entry(copied, &good)};
    kiln_error e = {0};
    if (kiln_library_write(path, x, 2, NULL, &e)) fail_msg("%s", e.text);
    free_code(&good);
    return path;
}

static process_result against(const char *problem, const char *ours, const char *other, const char *extra) {
    return PROCESS_RUN(100, tune, "bench", "--library", ours, "--against", other, "--no-vendor", "--device", "opencl:0",
                       "--seconds", "0.05", problem ? problem : extra, problem ? extra : NULL);
}

static int count(const char *text, const char *words) {
    int n = 0;
    for (; (text = strstr(text, words)); text++) n++;
    return n;
}

/* The line that holds `key`, as JSON. */
static json_t *object_with(const process_result *r, const char *key) {
    const char *at = strstr(r->out, key);
    if (!at) fail_msg("no %s in\n%s\n%s", key, r->out, r->err);
    while (at > r->out && at[-1] != '\n') at--;
    json_t *j = json_loadb(at, strcspn(at, "\n"), 0, NULL);
    if (!j) fail_msg("no JSON: %s", at);
    return j;
}

static double number(const json_t *j, const char *key) { return json_number_value(json_object_get(j, key)); }
static const char *word(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

/* All problems of the first. The same kernel is not twice as fast as itself. */
static void test_against_itself(void **state) {
    (void)state;
    made m = make_code(PROMISED, NULL, NULL);
    const char *path = write_library("first", &m, TRUE_COPY);
    process_result r = against(NULL, path, path, NULL);
    if (r.status) fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    assert_non_null(strstr(r.out, "first.kiln against "));
    assert_int_equal(count(r.out, "\n  kiln  "), 2);
    assert_int_equal(count(r.out, "\n  first  "), 2);
    assert_int_equal(count(r.out, "  exact: "), 4);
    assert_true(strstr(r.out, "\n-                first ") && !strstr(r.out, "fastest"));
    process_free(&r);
    r = against(NULL, path, path, "--json");
    json_t *head = object_with(&r, "\"device\""), *sum = object_with(&r, "\"summary\"");
    json_t *j = object_with(&r, "\"problem\""), *other = json_object_get(j, "against");
    assert_string_equal(word(head, "against"), path);
    assert_string_equal(word(other, "name"), "first");
    assert_true(number(other, "seconds") > 0 && number(other, "rounds") >= 11);
    assert_true(number(other, "low") <= number(other, "ratio") && number(other, "ratio") <= number(other, "high"));
    if (fabs(log(number(other, "ratio"))) > log(2)) fail_msg("%s", r.out);
    assert_string_equal(word(other, "choice"), "exact");
    assert_string_equal(word(other, "schedule"), word(j, "schedule"));
    assert_string_equal(word(other, "kernel"), word(j, "kernel"));
    assert_int_equal(json_array_size(json_object_get(j, "vendors")), 0);
    assert_string_equal(word(sum, "vendor"), "first");
    assert_int_equal((int)number(sum, "problems"), 2);
    json_decref(head), json_decref(sum), json_decref(j);
    process_free(&r);
    free_code(&m);
}

/* Tuned for other sizes; for none that serve; and a name that is taken. */
static void test_against_another(void **state) {
    static const char larger[] = "map rows=128 cols=64 x=f32 out=f32 : out = x";
    (void)state;
    made m = make_code(PROMISED, NULL, NULL);
    const char *ours = write_library("first", &m, TRUE_COPY), *other = write_library("kiln", &m, larger);
    process_result r = against(TRUE_COPY, ours, other, "--json");
    assert_int_equal(r.status, 0);
    json_t *j = object_with(&r, "\"problem\""), *x = json_object_get(j, "against");
    assert_string_equal(word(j, "choice"), "exact");
    assert_string_equal(word(x, "name"), "against");
    assert_string_equal(word(x, "choice"), "nearest");
    assert_true(number(x, "ratio") > 0 && *word(x, "reason"));
    json_decref(j);
    process_free(&r);
    r = against("map rows=96 cols=64 x=f32 out=f32 : out = x", ours, other, NULL);
    if (r.status || count(r.out, "  nearest: ") != 2 || count(r.out, "not tuned: ") != 2)
        fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    process_free(&r);
    r = against("map rows=64 cols=64 x=f32 out=f32 : out = x + 2", other, ours, NULL); /* neither has it */
    assert_int_equal(r.status, 1);
    process_free(&r);
    other = write_library("second", &m, "map rows=64 cols=64 x=f32 out=f32 : out = x + x");
    r = against(NULL, ours, other, NULL); /* the second lacks one of two: no failure, and not counted */
    if (r.status || count(r.out, "\n  second          not measured: the library has no kernel") != 1 ||
        !strstr(r.out, "\n-                second                 1 "))
        fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    process_free(&r);
    free_code(&m);
}

/* With the second library's kernel for PROMISED made from `m`: ours is measured on both problems, the
 * second on one. */
static void check_against_bad(const made *m, const char *words) {
    made right = make_code(PROMISED, NULL, NULL);
    const char *ours = write_library("first", &right, TRUE_COPY), *other = write_library("second", m, TRUE_COPY);
    process_result r = against(NULL, ours, other, NULL);
    if (r.status != 1 || !strstr(r.out, words) || count(r.out, "\n  kiln  ") != 2 ||
        count(r.out, "\n  second  ") != 2 || count(r.out, "]  exact: ") != 1 ||
        !strstr(r.err, "1 of 2 problems came out wrong with ") || !strstr(r.err, other))
        fail_msg("status %d, wanted 1 and '%s'\n%s\n%s", r.status, words, r.out, r.err);
    process_free(&r);
    r = against(PROMISED, ours, other, "--json");
    assert_int_equal(r.status, 1);
    json_t *j = object_with(&r, "\"problem\""), *x = json_object_get(j, "against");
    assert_true(number(j, "seconds") > 0);
    assert_non_null(strstr(word(x, "error"), words));
    assert_null(json_object_get(x, "ratio"));
    json_decref(j);
    process_free(&r);
    free_code(&right);
}

static void test_against_wrong(void **state) {
    (void)state;
    made m = make_code(DELIVERED, NULL, NULL);
    check_against_bad(&m, "its kernel is wrong (wrong): out[");
    const char *bad = write_library("second", &m, TRUE_COPY);
    process_result r = against(PROMISED, bad, bad, NULL); /* ours as well: then there are no figures */
    assert_int_equal(r.status, 1);
    assert_non_null(strstr(r.out, "not measured: our kernel is wrong (wrong): out["));
    assert_null(strstr(r.out, "\n  second "));
    process_free(&r);
    free_code(&m);
}

static void test_against_crash(void **state) {
    (void)state;
    made m = make_code(PROMISED, "+ (REAL)(1.0f)", "+ (REAL)(*(volatile GLOBAL float *)16)");
    check_against_bad(&m, "its kernel is wrong (crash): worker died: Segmentation fault");
    free_code(&m);
}

/* Writes where it should not: ours must not be blamed for it. */
static void test_against_out_of_bounds(void **state) {
    (void)state;
    made m = make_code(PROMISED, "NAME(main)(PARAMETERS) {", "NAME(main)(PARAMETERS) { p_out[64 * 64 + 5] = 1.0f;");
    check_against_bad(&m, "its kernel is wrong (out-of-bounds): wrote ");
    free_code(&m);
}

/* ---- a matmul with statements, and the product without them ---- */

#define SIZES "matmul m=48 n=40 k=32 a=f32 b=f32 out=f32 tb=1"
#define FUSED SIZES " alpha=scalar bias=f16 : out = acc * alpha + bias[n]"
#define LACKING "the library has no kernel of its own for the product: tune it, too"

/* A library NAME.kiln of good kernels for FUSED and `other`. */
static const char *write_fused(const char *name, const char *other) {
    const char *path = process_path("%s.kiln", name);
    made fused = make_code(FUSED, NULL, NULL), m = make_code(other, NULL, NULL);
    kiln_library_entry x[] = {entry(FUSED, &fused), entry(other, &m)};
    kiln_error e = {0};
    if (kiln_library_write(path, x, 2, NULL, &e)) fail_msg("%s", e.text);
    free_code(&fused), free_code(&m);
    return path;
}

static process_result beside(const char *library, const char *extra) {
    process_result r = PROCESS_RUN(100, tune, "bench", SIZES, FUSED, "--library", library, "--device", "opencl:0",
                                   "--seconds", "0.05", extra, extra ? "--json" : NULL);
    if (r.status) fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    return r;
}

/* A row of the fused problem, none of the plain one; and no vendor, so no "fastest". */
static void test_product(void **state) {
    (void)state;
    const char *path = write_fused("product", SIZES);
    process_result r = beside(path, NULL);
    const char *row = strstr(r.out, "\n  product  "), *fused = strstr(r.out, "\n" FUSED "\n");
    if (!row || !fused || row < fused || count(r.out, "\n  product  ") != 1 || count(r.out, "exact: ") != 3 ||
        !strstr(r.out, "\n-                product                1 "))
        fail_msg("%s", r.out);
    process_free(&r);
    r = beside(path, "--no-vendor");
    json_t *sum = object_with(&r, "\"summary\""), *j = object_with(&r, "alpha"), *x = json_object_get(j, "product");
    assert_true(number(x, "ratio") > 0 && number(x, "seconds") > 0 && number(x, "rounds") >= 5);
    assert_true(number(x, "low") <= number(x, "ratio") && number(x, "ratio") <= number(x, "high"));
    assert_string_equal(word(x, "choice"), "exact");
    assert_true(*word(x, "schedule") && strcmp(word(x, "kernel"), word(j, "kernel")) != 0);
    assert_null(json_object_get(x, "error_bound")); /* nobody looked at its result */
    assert_int_equal(json_array_size(json_object_get(j, "vendors")), 0);
    assert_string_equal(word(sum, "vendor"), "product");
    assert_true(number(sum, "problems") == 1 && fabs(number(sum, "geomean") - number(x, "ratio")) < 1e-6);
    assert_int_equal(count(r.out, "\"product\":"), 1);
    assert_int_equal(count(r.out, "\"summary\""), 1);
    json_decref(sum), json_decref(j);
    process_free(&r);
}

/* Whatever vendors are here, they have the plain problem only, and so has the fastest of them. */
static void test_product_is_no_vendor(void **state) {
    (void)state;
    process_result r = beside(write_fused("fused", SIZES), "--json");
    assert_non_null(strstr(r.out, "\"vendor\":\"product\",\"problems\":1"));
    assert_int_equal(count(r.out, "\"vendor\":\"fastest\""), count(r.out, "\"vendor\":\"fastest\",\"problems\":1"));
    json_t *j = object_with(&r, "alpha"), *v;
    size_t i;
    json_array_foreach(json_object_get(j, "vendors"), i, v) assert_non_null(strstr(word(v, "refused"), "plain matmul"));
    json_decref(j);
    process_free(&r);
}

/* Tuned for another problem, for other sizes: said, and no failure. */
static void test_product_lacks(void **state) {
    static const char *const others[] = {TRUE_COPY, "matmul m=96 n=40 k=32 a=f32 b=f32 out=f32 tb=1"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *path = write_fused("fused", others[i]);
        process_result r = against(FUSED, path, path, NULL);
        if (r.status || count(r.out, "\n  product         not measured: " LACKING "\n") != 1 ||
            strstr(r.out, "\n-                product"))
            fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
        process_free(&r);
        r = PROCESS_RUN(100, tune, "bench", FUSED, "--library", path, "--device", "opencl:0", "--seconds", "0.01",
                        "--json");
        json_t *j = object_with(&r, "alpha"), *x = json_object_get(j, "product");
        assert_string_equal(word(x, "refused"), LACKING);
        assert_null(json_object_get(x, "ratio"));
        assert_true(number(j, "seconds") > 0);
        json_decref(j);
        process_free(&r);
    }
}

/* Another library stays where it was, and has a name of its own. */
static void test_product_against(void **state) {
    (void)state;
    const char *path = write_fused("product", SIZES);
    process_result r = against(FUSED, path, path, "--json");
    if (r.status) fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    json_t *j = object_with(&r, "alpha"), *x = json_object_get(j, "against"), *p = json_object_get(j, "product");
    assert_string_equal(word(x, "name"), "against");
    assert_string_equal(word(x, "kernel"), word(j, "kernel"));
    assert_string_equal(word(p, "name"), "product");
    assert_true(number(x, "ratio") > 0 && number(p, "ratio") > 0);
    assert_true(strcmp(word(p, "kernel"), word(j, "kernel")) != 0);
    assert_int_equal(count(r.out, "\"summary\""), 2);
    json_decref(j);
    process_free(&r);
}

/* ---- files that are no libraries ---- */

/* Before anything is measured, and by name. */
static void check_refused(process_result r, const char *words) {
    if (r.status != 2 || r.out[0] || count(r.err, "\n") != 1 || !strstr(r.err, words))
        fail_msg("status %d, wanted 2 and '%s'\n%s\n%s", r.status, words, r.out, r.err);
    process_free(&r);
}

static void test_against_damaged(void **state) {
    struct stat st;
    (void)state;
    made m = make_code(PROMISED, NULL, NULL);
    const char *ours = write_library("first", &m, TRUE_COPY), *bad = process_path("damaged.kiln");
    assert_int_equal(stat(ours, &st), 0);
    char *data = process_read(ours);
    check_refused(against(TRUE_COPY, ours, "/nonexistent.kiln", NULL), "/nonexistent.kiln");
    process_write(bad, data, (size_t)st.st_size / 2);
    check_refused(against(TRUE_COPY, ours, bad, NULL), "damaged.kiln");
    data[st.st_size - 100] ^= 4; /* in the code of a kernel, which is read last */
    process_write(bad, data, (size_t)st.st_size);
    check_refused(against(TRUE_COPY, ours, bad, "--json"), "damaged.kiln");
    check_refused(against(TRUE_COPY, bad, ours, NULL), "damaged.kiln");
    free(data);
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
    setenv("ASAN_OPTIONS", "handle_segv=0", 1); /* kernels crash here on purpose */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_against_itself),
        cmocka_unit_test(test_against_another),
        cmocka_unit_test(test_against_wrong),
        cmocka_unit_test(test_against_crash),
        cmocka_unit_test(test_against_out_of_bounds),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_product_is_no_vendor),
        cmocka_unit_test(test_product_lacks),
        cmocka_unit_test(test_product_against),
        cmocka_unit_test(test_against_damaged),
    };
    if (process_begin("versus")) return 1;
    tune = process_program("tune");
    int failed = cmocka_run_group_tests_name("versus", tests, set_up, NULL);
    process_end();
    return failed;
}

/* Suites: the files that come with Kiln say what they mean, groups belong to what follows them, and a
 * mistake is named with its line. */
#include "tuner/suite.h"

#include "kernels/family.h"
#include "tests/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>

static const kiln_caps gpu = {.target = "cuda", .kind = KILN_DEVICE_GPU};

static char *canonical(const char *text) {
    kiln_problem p;
    kiln_text t = {0};
    if (kiln_problem_parse(&p, text, NULL)) fail_msg("%s", text);
    kiln_problem_print(&p, &t);
    return t.data;
}

static void check_file(const char *path) {
    kiln_arena arena = {0};
    kiln_suite s;
    kiln_error e = {0};
    char *text[256];
    if (kiln_suite_load(path, &gpu, &arena, &s, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < s.n; i++) {
        text[i] = canonical(s.problem[i]);
        assert_non_null(s.group[i]); /* a summary by groups covers all of it */
        for (int k = 0; k < i; k++)
            if (!strcmp(text[i], text[k])) fail_msg("%s: twice: %s", path, text[i]);
    }
    print_message("%s: %d problems\n", path, s.n);
    for (int i = 0; i < s.n; i++) free(text[i]);
    kiln_arena_free(&arena);
}

static void test_files(void **state) {
    glob_t g;
    (void)state;
    assert_int_equal(glob("suites/*", 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++) check_file(g.gl_pathv[i]);
    globfree(&g);
}

/* The random half of a suite is what its seed says. */
static void test_random_sizes(void **state) {
    (void)state;
    if (access("/usr/bin/env", X_OK) || system("python3 -c '' 2>/dev/null")) {
        print_message("skipped: no python3\n");
        skip();
    }
    char *file = process_read("suites/hopper-odd"), *from = strstr(file, "[random]\n");
    process_result r = PROCESS_RUN(30, "scripts/random-suite", "3", "50");
    assert_true(r.status == 0 && from);
    assert_string_equal(from + strlen("[random]\n"), r.out);
    process_free(&r);
    free(file);
}

static int load(const char *text, kiln_arena *arena, kiln_suite *s, kiln_error *e) {
    process_write(process_path("suite"), text, strlen(text));
    return kiln_suite_load(process_path("suite"), &gpu, arena, s, e);
}

static void test_groups(void **state) {
    static const char text[] = "copy rows=1 cols=2 type=f32\n"
                               "  [first]  # the first\r\n"
                               "copy rows=1 cols=3 type=f32 # three\r\n"
                               "\n"
                               "copy rows=1 cols=4 type=f32\n"
                               "[second-2.0]\n"
                               "copy rows=1 cols=5 type=f32";
    static const char *const group[] = {NULL, "first", "first", "second-2.0"};
    kiln_arena arena = {0};
    kiln_suite s;
    kiln_error e = {0};
    (void)state;
    if (load(text, &arena, &s, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.n, 4);
    for (int i = 0; i < 4; i++) {
        char want[64];
        snprintf(want, sizeof want, "copy rows=1 cols=%d type=f32", i + 2);
        assert_string_equal(s.problem[i], want);
        if (group[i])
            assert_string_equal(s.group[i], group[i]);
        else
            assert_null(s.group[i]);
    }
    kiln_arena_free(&arena);
}

#define COPY "copy rows=4 cols=4 type=f32"

static void test_weights(void **state) {
    static const char text[] = COPY "\n weight=2.5 " COPY "  # twice and a half\n[g]\nweight=1e-3\t" COPY;
    static const double weight[] = {1, 2.5, 1e-3};
    kiln_arena arena = {0};
    kiln_suite s;
    kiln_error e = {0};
    (void)state;
    if (load(text, &arena, &s, &e)) fail_msg("%s", e.text);
    assert_int_equal(s.n, 3);
    for (int i = 0; i < 3; i++) {
        assert_true(s.weight[i] == weight[i]);
        assert_string_equal(s.problem[i], COPY);
    }
    assert_string_equal(s.group[2], "g");
    kiln_arena_free(&arena);
}

static void test_mistakes(void **state) {
    static const char *const wrong[] = {"[", "[]", "[a", "[a b]", "[a]x", "[a\"b]", "]", "[a]]",
                                        "[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]",
                                        "weight= " COPY, "weight=0 " COPY, "weight=-1 " COPY,
                                        "weight=nan " COPY, "weight=inf " COPY, "weight=2" COPY,
                                        "weight=2x " COPY, "weight=2", "weight=2 ", "weight=2 copy"};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[128];
        kiln_arena arena = {0};
        kiln_suite s;
        kiln_error e = {0};
        snprintf(text, sizeof text, "# one\n%s\ncopy rows=1 cols=1 type=f32\n", wrong[i]);
        assert_int_equal(load(text, &arena, &s, &e), KILN_BAD_INPUT);
        if (!strstr(e.text, "line 2")) fail_msg("%s: %s", wrong[i], e.text);
        kiln_arena_free(&arena);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_random_sizes),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_mistakes),
    };
    if (process_begin("suite")) return 1;
    int failed = cmocka_run_group_tests_name("suite", tests, NULL, NULL);
    process_end();
    return failed;
}

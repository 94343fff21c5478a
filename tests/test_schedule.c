#include "base/hash.h"
#include "kernels/family.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const kiln_knob fast_knobs[] = {
    {"tm", 64, "rows of a tile"}, {"tn", 32, "columns"}, {"u", 1, "unroll"}, {NULL, 0, NULL}};
static const kiln_knob plain_knobs[] = {{NULL, 0, NULL}};
static const kiln_variant fast = {.name = "fast", .knobs = fast_knobs};
static const kiln_variant plain = {.name = "plain", .knobs = plain_knobs};
static const kiln_variant *const variants[] = {&fast, &plain, NULL};
static const kiln_family family = {.name = "test", .variants = variants};

static kiln_schedule schedule_of(const char *text) {
    kiln_schedule s;
    kiln_error e = {0};
    if (kiln_schedule_parse(&family, &s, text, &e)) fail_msg("'%s': %s", text, e.text);
    return s;
}

static void expect_print(const char *text, const char *canonical) {
    kiln_schedule s = schedule_of(text);
    kiln_text out = {0};
    kiln_schedule_print(&s, &out);
    assert_string_equal(kiln_text_get(&out), canonical);
    kiln_schedule again = schedule_of(kiln_text_get(&out));
    assert_memory_equal(&s, &again, sizeof s);
    kiln_text_free(&out);
}

static void expect_error(const char *text, const char *part) {
    kiln_schedule s;
    kiln_error e = {0};
    assert_int_equal(kiln_schedule_parse(&family, &s, text, &e), KILN_BAD_INPUT);
    if (!strstr(e.text, part)) fail_msg("'%s': '%s' lacks '%s'", text, e.text, part);
}

static void texts_read_back(void **state) {
    (void)state;
    expect_print("fast tm=128 tn=8 u=4", "fast tm=128 tn=8 u=4");
    expect_print("  fast\tu=-4  tm=128 ", "fast tm=128 tn=32 u=-4");
    expect_print("fast", "fast tm=64 tn=32 u=1");
    expect_print("plain", "plain");
    for (uint64_t i = 0; i < 1000; i++) {
        kiln_schedule s = kiln_variant_default(&fast);
        for (int k = 0; k < 3; k++) s.value[k] = (int)kiln_random64(5, 3 * i + (uint64_t)k);
        kiln_text out = {0};
        kiln_schedule_print(&s, &out);
        kiln_schedule again = schedule_of(kiln_text_get(&out));
        assert_memory_equal(&s, &again, sizeof s);
        kiln_text_free(&out);
    }
}

static void says_what_is_wrong(void **state) {
    (void)state;
    expect_error("", "no variant '' (it has fast, plain)");
    expect_error("fas", "no variant 'fas'");
    expect_error("fast tm", "write tm=NUMBER");
    expect_error("fast tm=", "no value of knob tm");
    expect_error("fast tm=4k", "'4k' is no value");
    expect_error("fast tm= 4", "no value of knob tm");
    expect_error("fast tm=+4", "no value of knob tm");
    expect_error("fast tm=99999999999", "no value of knob tm");
    expect_error("fast tm=1 tm=2", "given twice");
    expect_error("fast tk=1", "no knob 'tk' (it has tm, tn, u)");
    expect_error("plain tm=1", "no knob 'tm'");
}

static void knobs_by_name(void **state) {
    (void)state;
    kiln_schedule s = kiln_variant_default(&fast);
    assert_int_equal(kiln_schedule_get(&s, "tn"), 32);
    kiln_schedule_set(&s, "tn", 5);
    assert_int_equal(kiln_schedule_get(&s, "tn"), 5);
    assert_int_equal(kiln_schedule_get(&s, "tm"), 64);
}

static void spaces_count_last_knob_fastest(void **state) {
    (void)state;
    kiln_space space = {.variant = &fast};
    assert_int_equal(kiln_space_size(&space), 1);
    kiln_space_add(&space, "tm", 3, (const int[]){16, 32, 64});
    kiln_space_add(&space, "u", 2, (const int[]){1, 2});
    kiln_space_add(&space, "u", 2, (const int[]){2, 4}); /* 2 is there already */
    assert_int_equal(kiln_space_size(&space), 9);
    static const int want[9][2] = {{16, 1}, {16, 2}, {16, 4}, {32, 1}, {32, 2},
                                   {32, 4}, {64, 1}, {64, 2}, {64, 4}};
    for (int i = 0; i < 9; i++) {
        kiln_schedule s = kiln_space_at(&space, i);
        assert_ptr_equal(s.variant, &fast);
        assert_int_equal(kiln_schedule_get(&s, "tm"), want[i][0]);
        assert_int_equal(kiln_schedule_get(&s, "tn"), 32);
        assert_int_equal(kiln_schedule_get(&s, "u"), want[i][1]);
    }
}

static void registry_is_sound(void **state) {
    (void)state;
    for (const kiln_family *const *f = kiln_families; *f; f++) {
        assert_ptr_equal(kiln_family_find((*f)->name), *f);
        for (const kiln_variant *const *v = (*f)->variants; *v; v++) {
            assert_ptr_equal(kiln_variant_find(*f, (*v)->name), *v);
            int n = 0;
            while ((*v)->knobs[n].name) n++;
            assert_true(n <= KILN_KNOBS_MAX);
            kiln_schedule s = kiln_variant_default(*v), again;
            kiln_text out = {0};
            kiln_error e = {0};
            kiln_schedule_print(&s, &out);
            assert_int_equal(kiln_schedule_parse(*f, &again, kiln_text_get(&out), &e), 0);
            assert_memory_equal(&s, &again, sizeof s);
            kiln_text_free(&out);
        }
    }
    assert_null(kiln_family_find("no such family"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_read_back),   cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(knobs_by_name),     cmocka_unit_test(spaces_count_last_knob_fastest),
        cmocka_unit_test(registry_is_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

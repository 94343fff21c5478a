/* Records: text form, strictness, summary. */
#include "base/hash.h"
#include "results/record.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const double times[] = {1.5e-3, 1.25e-3, 0.1, 1.0 / 3, 5e-324};

static kiln_record full(void) {
    return (kiln_record){
        .problem = "matmul m=4096 n=4096 k=4096 a=f32 b=f32 out=f32",
        .schedule = "cpu mr=12 nr=32",
        .device = "PoCL \"x\" \\ 2 units",
        .source = "abcdef",
        .protocol = "cold/1",
        .phase = "final",
        .outcome = KILN_OUTCOME_SLOW,
        .detail = "line one\nline\ttwo \x01 \xc3\xa9",
        .n_samples = 5,
        .samples = times,
        .median = 1.5e-3,
        .p05 = 1e-3,
        .p95 = 0.1,
        .error = 1.0 / 7,
        .error_bound = 0.25,
        .workspace_bytes = INT64_MAX,
        .registers = 128,
        .local_bytes = 0,
        .shared_bytes = -1,
        .blocks_per_unit = 2,
        .clock_mhz = 1980,
        .temperature_c = -5,
        .power_w = 690,
        .throttle = "power",
        .compile_seconds = 1.1,
        .verify_seconds = 0.2,
        .time_seconds = 3,
        .seed = UINT64_MAX,
        .date = "2026-01-02T03:04:05Z",
        .session = "s1",
        .vendor = "openblas",
        .vendor_ratio = 1.02,
        .vendor_ratio_low = 1.01,
        .vendor_ratio_high = 1.03,
    };
}

static void assert_equal(const kiln_record *a, const kiln_record *b) {
    assert_string_equal(a->problem, b->problem);
    assert_string_equal(a->schedule, b->schedule);
    assert_string_equal(a->device, b->device);
    assert_string_equal(a->source, b->source);
    assert_string_equal(a->protocol, b->protocol);
    assert_string_equal(a->phase, b->phase);
    assert_int_equal(a->outcome, b->outcome);
    assert_string_equal(a->detail, b->detail);
    assert_int_equal(a->n_samples, b->n_samples);
    for (int i = 0; i < a->n_samples; i++) assert_true(a->samples[i] == b->samples[i]);
    assert_true(a->median == b->median && a->p05 == b->p05 && a->p95 == b->p95);
    assert_true(a->error == b->error && a->error_bound == b->error_bound);
    assert_true(a->workspace_bytes == b->workspace_bytes);
    assert_int_equal(a->registers, b->registers);
    assert_int_equal(a->local_bytes, b->local_bytes);
    assert_int_equal(a->shared_bytes, b->shared_bytes);
    assert_int_equal(a->blocks_per_unit, b->blocks_per_unit);
    assert_int_equal(a->clock_mhz, b->clock_mhz);
    assert_int_equal(a->temperature_c, b->temperature_c);
    assert_int_equal(a->power_w, b->power_w);
    assert_string_equal(a->throttle, b->throttle);
    assert_true(a->compile_seconds == b->compile_seconds && a->time_seconds == b->time_seconds);
    assert_true(a->verify_seconds == b->verify_seconds && a->seed == b->seed);
    assert_string_equal(a->date, b->date);
    assert_string_equal(a->session, b->session);
    assert_string_equal(a->vendor, b->vendor);
    assert_true(a->vendor_ratio == b->vendor_ratio);
    assert_true(a->vendor_ratio_low == b->vendor_ratio_low);
    assert_true(a->vendor_ratio_high == b->vendor_ratio_high);
}

/* Prints, parses, compares, and prints again to the same text. */
static void round_trip(const kiln_record *r) {
    kiln_text text = {0}, again = {0};
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_record back;
    kiln_record_print(r, &text);
    assert_null(strchr(kiln_text_get(&text), '\n'));
    if (kiln_record_parse(&back, text.data, text.size, &arena, &e))
        fail_msg("%s: %s", e.text, text.data);
    assert_equal(r, &back);
    kiln_record_print(&back, &again);
    assert_string_equal(text.data, again.data);
    kiln_text_free(&text);
    kiln_text_free(&again);
    kiln_arena_free(&arena);
}

static void every_field_survives(void **state) {
    (void)state;
    kiln_record r = full();
    round_trip(&r);
    for (int o = 0; o < KILN_OUTCOME_COUNT; o++) {
        r.outcome = (kiln_outcome)o;
        round_trip(&r);
    }
}

static void random_records_survive(void **state) {
    (void)state;
    const char *env = getenv("KILN_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 10) : 20261122;
    print_message("KILN_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < 2000; i++) {
        kiln_record r = full();
        double samples[40];
        char detail[64];
        r.n_samples = (int)(kiln_random64(seed, i * 100) % 40);
        r.samples = samples;
        for (int k = 0; k < r.n_samples; k++)
            samples[k] = ldexp(kiln_random_unit(seed, i * 100 + (uint64_t)k + 1),
                               (int)(kiln_random64(seed, i * 100 + 50) % 2000) - 1000);
        for (int k = 0; k < 63; k++)
            detail[k] = (char)(1 + kiln_random64(seed, i * 777 + (uint64_t)k) % 127);
        detail[63] = 0;
        r.detail = detail;
        r.seed = kiln_random64(seed, i);
        r.registers = (int)kiln_random64(seed + 1, i);
        r.error = -kiln_random_unit(seed + 2, i);
        kiln_record_summarise(&r);
        round_trip(&r);
    }
}

static void foreign_bytes_are_replaced(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\xff",     "\xc3", "\xc0\x80",        "\xed\xa0\x80", "\xf5\x80\x80\x80",
        "\xe2\x82", "\x80", "\xf0\x80\x80\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kiln_text text = {0};
        kiln_arena arena = {0};
        kiln_error e = {0};
        kiln_record r = full(), back;
        r.detail = bad[i];
        kiln_record_print(&r, &text);
        assert_int_equal(kiln_record_parse(&back, text.data, text.size, &arena, &e), 0);
        assert_non_null(strstr(back.detail, "\xef\xbf\xbd"));
        kiln_text_free(&text);
        kiln_arena_free(&arena);
    }
}

static void numbers_that_json_lacks(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_record r = full(), back;
    r.outcome = KILN_OUTCOME_WRONG;
    r.error = NAN; /* a wrong result's error may be anything: kept as "beyond every bound" */
    r.error_bound = INFINITY;
    assert_int_equal(kiln_record_check(&r, &e), 0);
    kiln_record_print(&r, &text);
    assert_int_equal(kiln_record_parse(&back, text.data, text.size, &arena, &e), 0);
    assert_true(back.error == DBL_MAX && back.error_bound == DBL_MAX);
    r.median = NAN; /* a time may not */
    assert_int_equal(kiln_record_check(&r, &e), KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "median"));
    r = full();
    double inf[] = {1, INFINITY};
    r.samples = inf;
    r.n_samples = 2;
    assert_int_equal(kiln_record_check(&r, &e), KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "samples"));
    kiln_text_free(&text);
    kiln_arena_free(&arena);
}

#define HEAD "{\"version\":1,\"problem\":\"p\",\"schedule\":\"s\",\"device\":\"d\","
#define GOOD HEAD "\"protocol\":\"cold/1\",\"phase\":\"final\",\"outcome\":\"ok\""

static const struct {
    const char *line;
    int status;
    const char *says;
} refused[] = {
    {"", KILN_BAD_INPUT, "JSON"},
    {"nonsense", KILN_BAD_INPUT, "JSON"},
    {"[1]", KILN_BAD_INPUT, "object"},
    {"{}", KILN_BAD_INPUT, "version"},
    {"{\"version\":\"1\"}", KILN_BAD_INPUT, "version"},
    {"{\"version\":2}", KILN_VERSION, "newer"},
    {"{\"version\":1}", KILN_BAD_INPUT, "outcome"},
    {"{\"version\":1,\"outcome\":\"ok\"}", KILN_BAD_INPUT, "problem"},
    {HEAD "\"protocol\":\"c\",\"outcome\":\"ok\"}", KILN_BAD_INPUT, "phase"},
    {HEAD "\"outcome\":\"fine\"}", KILN_BAD_INPUT, "fine"},
    {HEAD "\"outcome\":3}", KILN_BAD_INPUT, "outcome"},
    {GOOD "} x", KILN_BAD_INPUT, "JSON"},
    {GOOD ",\"problem\":\"q\"}", KILN_BAD_INPUT, "JSON"}, /* twice */
    {GOOD ",\"source\":5}", KILN_BAD_INPUT, "source"},
    {GOOD ",\"detail\":\"a\\u0000b\"}", KILN_BAD_INPUT, "JSON"},
    {GOOD ",\"median\":\"1\"}", KILN_BAD_INPUT, "median"},
    {GOOD ",\"median\":-1}", KILN_BAD_INPUT, "median"},
    {GOOD ",\"median\":1e999}", KILN_BAD_INPUT, "JSON"},
    {GOOD ",\"median\":NaN}", KILN_BAD_INPUT, "JSON"},
    {GOOD ",\"median\":1,\"p05\":2,\"p95\":3}", KILN_BAD_INPUT, "p05"},
    {GOOD ",\"registers\":1.5}", KILN_BAD_INPUT, "registers"},
    {GOOD ",\"registers\":3000000000}", KILN_BAD_INPUT, "registers"},
    {GOOD ",\"workspace_bytes\":-1}", KILN_BAD_INPUT, "workspace_bytes"},
    {GOOD ",\"workspace_bytes\":99999999999999999999}", KILN_BAD_INPUT, "JSON"},
    {GOOD ",\"seed\":7}", KILN_BAD_INPUT, "seed"},
    {GOOD ",\"seed\":\"\"}", KILN_BAD_INPUT, "seed"},
    {GOOD ",\"seed\":\"-1\"}", KILN_BAD_INPUT, "seed"},
    {GOOD ",\"seed\":\"18446744073709551616\"}", KILN_BAD_INPUT, "seed"},
    {GOOD ",\"samples\":1}", KILN_BAD_INPUT, "samples"},
    {GOOD ",\"samples\":[1,\"2\"]}", KILN_BAD_INPUT, "element 1"},
    {GOOD ",\"samples\":[1,-2]}", KILN_BAD_INPUT, "element 1"},
    {GOOD ",\"vendor_ratio\":2,\"vendor_ratio_low\":5,\"vendor_ratio_high\":4}", KILN_BAD_INPUT,
     "vendor_ratio"},
};

static void bad_lines_name_the_field(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        kiln_arena arena = {0};
        kiln_error e = {0};
        kiln_record r;
        int status = kiln_record_parse(&r, refused[i].line, strlen(refused[i].line), &arena, &e);
        if (status != refused[i].status || !strstr(e.text, refused[i].says))
            fail_msg("%s gave %d: %s", refused[i].line, status, e.text);
        kiln_arena_free(&arena);
    }
}

static void every_truncation_is_refused(void **state) {
    (void)state;
    kiln_text text = {0};
    kiln_record r = full(), back;
    kiln_record_print(&r, &text);
    for (size_t n = 0; n < text.size; n++) {
        kiln_arena arena = {0};
        kiln_error e = {0};
        assert_int_equal(kiln_record_parse(&back, text.data, n, &arena, &e), KILN_BAD_INPUT);
        assert_true(strlen(e.text) > 0);
        kiln_arena_free(&arena);
    }
    kiln_text_free(&text);
}

static void too_many_samples_are_refused(void **state) {
    (void)state;
    kiln_text line = {0};
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_record r;
    kiln_text_add(&line, GOOD ",\"samples\":[0");
    for (int i = 0; i < KILN_SAMPLES_MAX; i++) kiln_text_add(&line, ",1");
    kiln_text_add(&line, "]}");
    assert_int_equal(kiln_record_parse(&r, line.data, line.size, &arena, &e), KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "samples"));
    kiln_text_free(&line);
    kiln_arena_free(&arena);
}

static void unknown_fields_are_ignored_and_absent_ones_unknown(void **state) {
    (void)state;
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_record r;
    const char *line = GOOD ",\"colour\":{\"a\":[1,2]}}";
    assert_int_equal(kiln_record_parse(&r, line, strlen(line), &arena, &e), 0);
    assert_int_equal(r.registers, -1);
    assert_int_equal(r.clock_mhz, -1);
    assert_string_equal(r.vendor, "");
    assert_string_equal(r.date, "");
    kiln_arena_free(&arena);
}

static void summary_is_the_textbook_quantile(void **state) {
    (void)state;
    double samples[21];
    kiln_record r = {.samples = samples};
    for (int i = 0; i < 21; i++) samples[i] = (i * 8) % 21; /* 0..20, shuffled */
    r.n_samples = 21;
    kiln_record_summarise(&r);
    assert_true(r.median == 10 && r.p05 == 1 && r.p95 == 19);
    r.n_samples = 2;
    samples[0] = 4, samples[1] = 2;
    kiln_record_summarise(&r);
    assert_true(r.median == 3 && fabs(r.p05 - 2.1) < 1e-12 && fabs(r.p95 - 3.9) < 1e-12);
    assert_true(samples[0] == 4); /* the samples keep their order */
    r.n_samples = 1;
    kiln_record_summarise(&r);
    assert_true(r.median == 4 && r.p05 == 4 && r.p95 == 4);
    r.n_samples = 0;
    kiln_record_summarise(&r);
    assert_true(r.median == 0 && r.p05 == 0 && r.p95 == 0);
}

/* Nothing is known of it, and it is a record all the same. */
static void a_blank_record_is_one(void **state) {
    (void)state;
    kiln_record r = kiln_record_blank(), back;
    kiln_arena arena = {0};
    kiln_text line = {0};
    kiln_error e = {0};
    assert_int_equal(kiln_record_check(&r, &e), 0);
    kiln_record_print(&r, &line);
    assert_int_equal(kiln_record_parse(&back, kiln_text_get(&line), line.size, &arena, &e), 0);
    const kiln_record *both[] = {&r, &back};
    for (int i = 0; i < 2; i++) {
        assert_string_equal(both[i]->problem, "-");
        assert_string_equal(both[i]->detail, "");
        assert_string_equal(both[i]->throttle, "");
        assert_int_equal(both[i]->registers, -1);
        assert_int_equal(both[i]->power_w, -1);
        assert_int_equal(both[i]->n_samples, 0);
    }
    kiln_text_free(&line);
    kiln_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_survives),
        cmocka_unit_test(random_records_survive),
        cmocka_unit_test(foreign_bytes_are_replaced),
        cmocka_unit_test(numbers_that_json_lacks),
        cmocka_unit_test(bad_lines_name_the_field),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(too_many_samples_are_refused),
        cmocka_unit_test(unknown_fields_are_ignored_and_absent_ones_unknown),
        cmocka_unit_test(summary_is_the_textbook_quantile),
        cmocka_unit_test(a_blank_record_is_one),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}

/* Recorded spaces in every format, and our own records as spaces. */
#include "search/replay.h"
#include "search/sizes.h"
#include "tuner/candidates.h"
#include "tuner/identity.h"
#include "tuner/recorded.h"

#include "base/hash.h"
#include "results/record.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static char path[64];

static const char *file_with(const char *text, size_t n) {
    strcpy(path, "/tmp/kiln-replay-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    close(fd);
    return path;
}

static kiln_recording *read_text(const char *text) {
    kiln_error e = {0};
    kiln_recording *r = kiln_recording_read(file_with(text, strlen(text)), &e);
    unlink(path);
    if (!r) fail_msg("%s", e.text);
    return r;
}

static void refuses(const char *text, const char *expected) {
    kiln_error e = {0};
    assert_null(kiln_recording_read(file_with(text, strlen(text)), &e));
    unlink(path);
    assert_true(e.status < 0);
    if (!strstr(e.text, path)) fail_msg("'%s' does not name the file", e.text);
    if (!strstr(e.text, expected)) fail_msg("'%s' does not say '%s'", e.text, expected);
    if (strchr(e.text, '\n')) fail_msg("'%s' is no single sentence", e.text);
}

static double ms(const kiln_recording *r, int64_t point) {
    return 1e3 * kiln_recording_seconds(r, point);
}

/* ---- Kernel Tuner ---- */

#define HEAD "{\"kernel_name\":\"k\",\"tune_params_keys\":[\"x\",\"mode\"],\"cache\":{"
#define FAST "\"16,a\":{\"x\":16,\"mode\":\"a\",\"time\":2.5,\"times\":[2.5,2.5],\"GFLOP/s\":7}"
#define SLOW "\"32,b\":{\"mode\":\"b\",\"x\":32,\"time\":4}"

static void reads_kernel_tuner(void **state) {
    (void)state;
    kiln_recording *r =
        read_text(HEAD FAST "," SLOW ",\"64,a\":{\"x\":64,\"mode\":\"a\",\"time\":"
                            "\"CompilationFailedConfig\"},\"64,b\":{\"x\":64,\"mode\":\"b\","
                            "\"time\":1e20},\"8,b\":{\"x\":8,\"mode\":\"b\",\"time\":NaN,"
                            "\"GFLOP/s\":-Infinity,\"log\":\"a \\\"NaN\\\" in a text\"}}}");
    kiln_search_space space = kiln_recording_space(r);
    float a[16], b[16];
    assert_int_equal(space.n, 5);
    assert_int_equal(kiln_recording_failures(r), 3);
    assert_true(fabs(ms(r, 0) - 2.5) < 1e-12 && fabs(ms(r, 1) - 4) < 1e-12);
    assert_string_equal(space.feature_names[0], "x");
    space.features(space.context, 0, a);
    space.features(space.context, 1, b);
    assert_true(a[0] == 16 && b[0] == 32 && a[1] != b[1]);
    kiln_recording_free(r);
}

/* While the tuner runs, its cache ends in the middle. */
static void reads_open_caches(void **state) {
    (void)state;
    const char *ends[] = {"}}", "", ",", ",\n", "\n}\n}\n", " \t"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s", HEAD FAST "," SLOW, ends[i]);
        kiln_recording *r = read_text(text);
        assert_int_equal(kiln_recording_space(r).n, 2);
        kiln_recording_free(r);
    }
}

static void refuses_broken_caches(void **state) {
    (void)state;
    refuses("{", "line 1");
    refuses("{}", "\"cache\"");
    refuses("[1,2]", "\"cache\"");
    refuses("{\"cache\":{}}", "tune_params_keys");
    refuses("{\"cache\":{},\"tune_params_keys\":[]}", "tune_params_keys");
    refuses("{\"cache\":{},\"tune_params_keys\":[7]}", "no string");
    refuses("{\"cache\":{},\"tune_params_keys\":[\"x\"]}", "0 points");
    refuses("{\"cache\":[1],\"tune_params_keys\":[\"x\"]}", "an object with an entry");
    refuses(HEAD "\"1,a\":7}}", "cache entry \"1,a\"");
    refuses(HEAD FAST ",\"1,a\":{\"x\":1,\"mode\":\"a\"}}}",
            "cache entry \"1,a\": time is missing");
    refuses(HEAD "\"1,a\":{\"x\":1,\"mode\":\"a\",\"time\":-2}}}", "no positive number");
    refuses(HEAD "\"1,a\":{\"x\":1,\"time\":2}}}", "parameter mode is missing");
    refuses(HEAD "\n" FAST ",\n" SLOW ",\n\"cut", "line 4");
}

/* ---- T4 ---- */

#define T4(results) "{\"schema_version\":\"1.0.0\",\"results\":[" results "]}"
#define GOOD(x, y, more)                                                                           \
    "{\"configuration\":{\"x\":" #x ",\"y\":" #y "},\"correctness\":1,"                            \
    "\"invalidity\":\"correct\"," more "}"
#define TIME(value, unit)                                                                          \
    "\"measurements\":[{\"name\":\"power\",\"value\":3,\"unit\":\"W\"},"                           \
    "{\"name\":\"time\",\"value\":" #value ",\"unit\":\"" unit "\"}]"

static void reads_t4(void **state) {
    (void)state;
    kiln_recording *r =
        read_text(T4(GOOD(1, 1, TIME(2, "")) "," GOOD(1, 2, TIME(2, "ms")) "," GOOD(
            2, 1,
            TIME(2, "s")) "," GOOD(2, 2,
                                   TIME(2000,
                                        "microseconds")) "," GOOD(3, 1,
                                                                  "\"times\":{\"runtimes\":[9,1,3]"
                                                                  "}") "," GOOD(3, 1,
                                                                                TIME(
                                                                                    77,
                                                                                    "ms")) ","
                                                                                           "{\"conf"
                                                                                           "igurati"
                                                                                           "on\":{"
                                                                                           "\"y\":"
                                                                                           "2,"
                                                                                           "\"x\":"
                                                                                           "3},"
                                                                                           "\"inval"
                                                                                           "idity\""
                                                                                           ":\"time"
                                                                                           "out\"},"
                                                                                           "{\"conf"
                                                                                           "igurati"
                                                                                           "on\":{"
                                                                                           "\"y\":"
                                                                                           "true,"
                                                                                           "\"x\":"
                                                                                           "null},"
                                                                                           "\"inval"
                                                                                           "idity\""
                                                                                           ":\"cons"
                                                                                           "traints"
                                                                                           "\"}"));
    kiln_search_space space = kiln_recording_space(r);
    assert_int_equal(space.n, 7); /* one configuration came twice: its first time counts */
    assert_int_equal(kiln_recording_failures(r), 2);
    const double expected[] = {2, 2, 2000, 2, 3};
    for (int i = 0; i < 5; i++)
        if (fabs(ms(r, i) - expected[i]) > 1e-9) fail_msg("point %d: %g ms", i, ms(r, i));
    kiln_recording_free(r);
}

static void refuses_broken_t4(void **state) {
    (void)state;
    refuses("{\"results\":{}}", "a list is expected");
    refuses(T4(""), "0 points");
    refuses(T4("7"), "result 1: configuration");
    refuses(T4("{\"configuration\":{},\"invalidity\":\"correct\"}"), "result 1: configuration");
    refuses(T4("{\"configuration\":{\"x\":1}}"), "result 1: invalidity");
    refuses(T4("{\"configuration\":{\"x\":1},\"invalidity\":\"fine\"}"), "result 1: invalidity");
    refuses(T4(GOOD(1, 1, "\"a\":1")), "result 1: it is correct, but");
    refuses(T4(GOOD(1, 1, TIME(0, "ms"))), "result 1: it is correct, but");
    refuses(T4(GOOD(1, 1, TIME(NaN, "ms"))), "result 1: it is correct, but");
    refuses(T4(GOOD(1, 1, TIME("fast", "ms"))), "result 1: it is correct, but");
    refuses(T4(GOOD(1, 1, TIME(1, "weeks"))), "result 1: the unit");
    refuses(
        T4(GOOD(1, 1, TIME(1, "s")) ",{\"configuration\":{\"x\":1},\"invalidity\":\"compile\"}"),
        "result 2: other parameters");
    refuses(
        T4(GOOD(1, 1,
                TIME(1, "s")) ",{\"configuration\":{\"x\":1,\"z\":1},\"invalidity\":\"compile\"}"),
        "result 2: parameter y is missing");
}

/* ---- one space in all formats ---- */

enum { POINTS = 60 };

static void print_all(uint64_t seed, kiln_text *csv, kiln_text *cache, kiln_text *t4) {
    kiln_text_add(csv, "tile,unroll,time_ms,status\n");
    kiln_text_add(cache, "{\"tune_params_keys\":[\"tile\",\"unroll\"],\"cache\":{");
    kiln_text_add(t4, "{\"results\":[");
    for (int i = 0; i < POINTS; i++) {
        const char *comma = i ? ",\n" : "";
        int tile = 1 << (i % 10), unroll = i / 10 * 3;
        double t = 0.5 + 1e-9 * (double)(kiln_random64(seed, (uint64_t)i) >> 32);
        bool ok = kiln_random64(seed + 1, (uint64_t)i) % 5;
        kiln_text_printf(csv, "%d,%d,%.17g,%s\n", tile, unroll, t, ok ? "ok" : "crash");
        kiln_text_printf(cache, "%s\"%d\":{\"tile\":%d,\"unroll\":%d,\"time\":", comma, i, tile,
                         unroll);
        kiln_text_printf(cache, ok ? "%.17g}" : "\"RuntimeFailedConfig\"}", t);
        kiln_text_printf(t4,
                         "%s{\"configuration\":{\"tile\":%d,\"unroll\":%d},\"invalidity\":\"%s\"",
                         comma, tile, unroll, ok ? "correct" : "runtime");
        kiln_text_printf(t4,
                         ",\"measurements\":[{\"name\":\"time\",\"value\":%.17g,\"unit\":"
                         "\"milliseconds\"}]}",
                         t);
    }
    kiln_text_add(cache, "}}");
    kiln_text_add(t4, "]}");
}

static void assert_same(kiln_recording *a, kiln_recording *b) {
    kiln_search_space x = kiln_recording_space(a), y = kiln_recording_space(b);
    assert_int_equal(x.n, y.n);
    assert_int_equal(x.n_features, y.n_features);
    assert_int_equal(kiln_recording_failures(a), kiln_recording_failures(b));
    for (int64_t i = 0; i < x.n; i++) {
        float p[64], q[64];
        double s = kiln_recording_seconds(a, i), t = kiln_recording_seconds(b, i);
        assert_true((isnan(s) && isnan(t)) || s == t);
        x.features(x.context, i, p);
        y.features(y.context, i, q);
        assert_memory_equal(p, q, sizeof *p * (size_t)x.n_features);
    }
}

static kiln_recording *read_zipped(const char *text) {
    kiln_error e = {0};
    gzFile f = gzopen(file_with("", 0), "wb");
    assert_int_equal(gzwrite(f, text, (unsigned)strlen(text)), (int)strlen(text));
    assert_int_equal(gzclose(f), Z_OK);
    kiln_recording *r = kiln_recording_read(path, &e);
    unlink(path);
    if (!r) fail_msg("%s", e.text);
    return r;
}

static void formats_agree(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    kiln_text csv = {0}, cache = {0}, t4 = {0};
    print_all(seed, &csv, &cache, &t4);
    kiln_recording *a = read_text(kiln_text_get(&csv)), *b = read_text(kiln_text_get(&cache)),
                   *c = read_zipped(kiln_text_get(&t4));
    assert_same(a, b);
    assert_same(a, c);
    kiln_recording_free(a), kiln_recording_free(b), kiln_recording_free(c);
    kiln_text_free(&csv), kiln_text_free(&cache), kiln_text_free(&t4);
}

static void cut_files_never_crash(void **state) {
    (void)state;
    static const char t4[] = T4(GOOD(1, 1, TIME(2, "")) "," GOOD(1, 2, TIME(2, "ms")));
    static const char cache[] = HEAD FAST "," SLOW "}}";
    for (int which = 0; which < 2; which++) {
        const char *text = which ? t4 : cache;
        for (size_t n = 1; n < strlen(text); n++) {
            kiln_error e = {0};
            kiln_recording *r = kiln_recording_read(file_with(text, n), &e);
            unlink(path);
            if (!r && !e.text[0]) fail_msg("cut at %zu: no sentence", n);
            if (r) assert_true(kiln_recording_space(r).n <= 2);
            kiln_recording_free(r);
        }
    }
}

/* ---- identities ---- */

#define H200                                                                                       \
    "cuda | NVIDIA H200 | sm_90a | 132 units | 143155 MiB | driver 580.1 CUDA 13.0 | NVRTC 13.0"
#define POCL "opencl | pthread-AMD EPYC | OpenCL 3.0 | 2 units | driver 3.1 | PoCL 3.1 LLVM 15"

static void identities_round_trip(void **state) {
    (void)state;
    const char *lines[] = {
        H200, POCL,
        "opencl | NVIDIA H200 | OpenCL 3.0 | 132 units | 143155 MiB | driver "
        "580.159.04 | CUDA 13.0.98",
        "cuda | NVIDIA GeForce RTX 4090 | sm_89 | 128 units | 24564 MiB | driver "
        "CUDA 12.4 | no NVRTC"};
    for (int i = 0; i < 4; i++) {
        kiln_caps c;
        kiln_error e = {0};
        kiln_text again = {0};
        if (kiln_identity_parse(lines[i], &c, NULL, &e)) fail_msg("%s", e.text);
        kiln_caps_identity(&c, &again);
        assert_string_equal(kiln_text_get(&again), lines[i]);
        kiln_text_free(&again);
    }
}

static void identities_fill_caps(void **state) {
    (void)state;
    kiln_caps c;
    bool guessed = true;
    assert_int_equal(kiln_identity_parse(H200, &c, &guessed, NULL), 0);
    assert_false(guessed);
    assert_true(c.arch_number == 90 && c.shared_bytes == 232448 && c.clusters && c.tensor_maps);
    assert_int_equal(c.kind, KILN_DEVICE_GPU);
    assert_int_equal(kiln_identity_parse(POCL, &c, &guessed, NULL), 0);
    assert_true(guessed && c.shared_host && c.kind == KILN_DEVICE_CPU && c.units == 2);
}

static void refuses_bad_identities(void **state) {
    (void)state;
    const char *lines[] = {"",
                           "x",
                           "cuda | a | sm_90a",
                           "cuda | a | sm_90a | 0 units | driver | x",
                           "cuda | a | sm_90a | 5 units | 7 MiB | no | x",
                           "cuda | a | sm_90a | 5 units | driver 1",
                           "a target of too many letters | a | sm_90a | 5 units | driver 1 | x",
                           "cuda | a | sm_90a | 99999999999999999999 units | driver 1 | x",
                           "cuda | a | b | 5 units | 9223372036854775807 MiB | driver 1 | x"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        kiln_caps c;
        kiln_error e = {0};
        assert_int_equal(kiln_identity_parse(lines[i], &c, NULL, &e), KILN_BAD_INPUT);
        assert_non_null(strstr(e.text, "units"));
    }
}

/* ---- our own records ---- */

#define PROBLEM "matmul m=512 n=512 k=512 a=bf16 b=bf16 out=bf16 tb=1"

static void print_record(kiln_text *out, const kiln_record *change) {
    static const double one[] = {1e-3};
    kiln_record r = {.device = H200,
                     .source = "ab",
                     .protocol = "cold/2",
                     .phase = "search",
                     .problem = PROBLEM,
                     .n_samples = 1,
                     .samples = one,
                     .date = "2026-01-02T03:04:05Z",
                     .session = "s",
                     .registers = -1,
                     .local_bytes = -1,
                     .shared_bytes = -1,
                     .blocks_per_unit = -1,
                     .clock_mhz = -1,
                     .temperature_c = -1,
                     .power_w = -1};
    double sample[] = {change->median};
    r.schedule = change->schedule;
    r.outcome = change->outcome;
    if (change->problem) r.problem = change->problem;
    if (change->phase) r.phase = change->phase;
    if (change->protocol) r.protocol = change->protocol;
    if (change->device) r.device = change->device;
    r.samples = sample;
    r.n_samples = change->median > 0;
    kiln_record_summarise(&r);
    kiln_record_print(&r, out);
    kiln_text_add(out, "\n");
}

/* Every 97th or so candidate of the problem on an H200. */
typedef struct made {
    kiln_problem p;
    kiln_caps caps;
    kiln_candidates c;
    int64_t point[POINTS];
} made;

static void make_candidates(made *m, uint64_t seed) {
    kiln_error e = {0};
    if (kiln_problem_parse(&m->p, PROBLEM, &e) || kiln_identity_parse(H200, &m->caps, NULL, &e) ||
        kiln_candidates_open(&m->c, &m->p, &m->caps, 2000, 1, &e))
        fail_msg("%s", e.text);
    m->point[0] = m->c.start[0];
    for (int i = 1; i < POINTS; i++) {
        bool fresh = false;
        for (uint64_t draw = 0; !fresh; draw++) {
            m->point[i] = (int64_t)(kiln_random64(seed + draw, (uint64_t)i) % (uint64_t)m->c.n);
            fresh = true;
            for (int k = 0; k < i; k++) fresh &= m->point[k] != m->point[i];
        }
    }
}

static const char *schedule_of(const made *m, int i, kiln_text *t) {
    kiln_text_clear(t);
    kiln_schedule_print(&m->c.schedule[m->point[i]], t);
    return kiln_text_get(t);
}

static double made_seconds(int i) { return 1e-3 + 1e-5 * i; }

/* POINTS schedules: every seventh failed; every fifth was measured three times, and once failed. */
static void print_made(const made *m, kiln_text *out) {
    kiln_text t = {0};
    for (int i = 0; i < POINTS; i++) {
        const char *s = schedule_of(m, i, &t);
        kiln_record r = {.schedule = s, .median = made_seconds(i)};
        if (i % 7 == 6) r = (kiln_record){.schedule = s, .outcome = KILN_OUTCOME_COMPILE_FAILED};
        print_record(out, &r);
        if (i % 7 == 6 || i % 5) continue;
        r.outcome = KILN_OUTCOME_SLOW;
        r.median *= 3;
        print_record(out, &r);
        r.median /= 300;
        print_record(out, &r);
        r = (kiln_record){.schedule = s, .outcome = KILN_OUTCOME_CRASH};
        print_record(out, &r);
        r = (kiln_record){
            .schedule = s, .median = 1e-9, .phase = "final"}; /* no trial of a search */
        print_record(out, &r);
    }
    kiln_text_free(&t);
}

static int read_records(const kiln_text *text, const kiln_recorded_options *o,
                        kiln_recording ***all, int *n, kiln_text *notes, kiln_error *e) {
    file_with(kiln_text_get(text), text->size);
    *all = NULL, *n = 0;
    bool ours = kiln_recorded_is(path);
    int status = kiln_recorded_read(path, o, all, n, notes, e);
    unlink(path);
    if (!status) assert_true(ours);
    return status;
}

static void free_all(kiln_recording **all, int n) {
    for (int i = 0; i < n; i++) kiln_recording_free(all[i]);
    free(all);
}

/* What a session sees of a candidate is what the recording says of it. */
static void compare_with_candidates(made *m, kiln_recording *r) {
    kiln_search_space live = kiln_candidates_space(&m->c), space = kiln_recording_space(r);
    float *a = malloc(sizeof *a * (size_t)live.n_features), *b = malloc(sizeof *b * 4096);
    kiln_text text = {0};
    int found = 0;
    assert_int_equal(space.n, POINTS);
    assert_non_null(space.prior);
    for (int64_t i = 0; i < space.n; i++) {
        /* Points are in the order of their texts; features tell which candidate one is. */
        space.features(space.context, i, b);
        for (int k = 0; k < POINTS; k++) {
            live.features(live.context, m->point[k], a);
            bool same = true;
            for (int f = 0; f < space.n_features; f++)
                for (int g = 0; g < live.n_features; g++)
                    if (!strcmp(space.feature_names[f], live.feature_names[g]))
                        same &= a[g] == b[f] || (isnan(a[g]) && isnan(b[f]));
            if (!same) continue;
            double s = kiln_recording_seconds(r, i);
            found++;
            if (k % 7 == 6)
                assert_true(isnan(s));
            else
                assert_true(fabs(s - made_seconds(k)) < 1e-12);
            double p = live.prior(live.context, m->point[k]), q = space.prior(space.context, i);
            assert_true(p == q || (isnan(p) && isnan(q)));
        }
    }
    assert_int_equal(found, POINTS);
    free(a), free(b);
    kiln_text_free(&text);
}

static void records_round_trip(void **state) {
    (void)state;
    uint64_t seed = (uint64_t)time(NULL);
    print_message("seed %llu\n", (unsigned long long)seed);
    made m = {0};
    kiln_text text = {0}, notes = {0};
    kiln_error e = {0};
    kiln_recording **all;
    int n;
    make_candidates(&m, seed);
    print_made(&m, &text);
    kiln_recorded_options o = {.prior = true};
    if (read_records(&text, &o, &all, &n, &notes, &e)) fail_msg("%s", e.text);
    assert_int_equal(n, 1);
    assert_non_null(strstr(kiln_text_get(&notes), "1 problem"));
    assert_non_null(strstr(kiln_recording_name(all[0]), "m=512"));
    assert_int_equal(kiln_recording_failures(all[0]), POINTS / 7);
    compare_with_candidates(&m, all[0]);
    assert_true(kiln_recording_space(all[0]).n_starts > 0); /* candidate 0 is a start */
    assert_int_equal(kiln_recording_transfer(all[0], (const kiln_recording *const *)all, 1, &e),
                     KILN_UNSUPPORTED);
    free_all(all, n);
    o.prior = false;
    if (read_records(&text, &o, &all, &n, &notes, &e)) fail_msg("%s", e.text);
    assert_null(kiln_recording_space(all[0]).prior);
    assert_int_equal(kiln_recording_space(all[0]).n_starts, 0);
    free_all(all, n);
    kiln_candidates_close(&m.c);
    kiln_text_free(&text), kiln_text_free(&notes);
}

/* Devices and regimes are spaces of their own; small problems are left out, and said. */
static void records_are_kept_apart(void **state) {
    (void)state;
    made m = {0};
    kiln_text text = {0}, notes = {0}, t = {0};
    kiln_error e = {0};
    kiln_recording **all;
    int n;
    make_candidates(&m, 5);
    for (int i = 0; i < 45; i++) {
        kiln_record r = {.schedule = schedule_of(&m, i, &t), .median = made_seconds(i)};
        print_record(&text, &r);
        r.protocol = "hot/2";
        print_record(&text, &r);
        r.protocol = NULL;
        r.device = POCL;
        print_record(&text, &r);
        r.problem = "matmul m=512 n=512 k=1024 a=bf16 b=bf16 out=bf16 tb=1";
        if (i < 39) print_record(&text, &r);
        r.schedule = "wgmma_sm07 a=1";
        print_record(&text, &r);
    }
    if (read_records(&text, &(kiln_recorded_options){.prior = true}, &all, &n, &notes, &e))
        fail_msg("%s", e.text);
    assert_int_equal(n, 3);
    assert_non_null(strstr(kiln_text_get(&notes), "1 more with under 40"));
    assert_non_null(strstr(kiln_text_get(&notes), "45 records of problems or knobs unknown"));
    assert_non_null(strstr(kiln_text_get(&notes), "ordinary one"));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(kiln_recording_name(all[i]), kiln_recording_name(all[k]));
    free_all(all, n);
    kiln_candidates_close(&m.c);
    kiln_text_free(&text), kiln_text_free(&notes), kiln_text_free(&t);
}

static void refuses_broken_records(void **state) {
    (void)state;
    kiln_text text = {0}, notes = {0};
    kiln_recording **all;
    int n;
    kiln_recorded_options o = {0};
    for (int which = 0; which < 3; which++) {
        static const char *const expected[] = {"no problem has 40", "line 2", "is not named as"};
        kiln_error e = {0};
        kiln_record r = {.schedule = "simt tm=64", .median = 1e-3};
        if (which == 2) r.device = "a toaster";
        kiln_text_clear(&text);
        print_record(&text, &r);
        if (which == 1) kiln_text_add(&text, "{\"version\":1,\"problem\":\n");
        assert_true(read_records(&text, &o, &all, &n, &notes, &e) < 0);
        if (!strstr(e.text, expected[which])) fail_msg("'%s'", e.text);
        free_all(all, n);
    }
    kiln_error e = {0};
    assert_int_equal(kiln_recorded_read("/nowhere.jsonl", &o, &all, &n, &notes, &e), KILN_IO);
    assert_false(kiln_recorded_is("/nowhere.jsonl"));
    assert_false(kiln_recorded_is("tests/data/spaces/coulomb_GTX1070.csv.gz"));
    kiln_text_free(&text), kiln_text_free(&notes);
}

/* What we published can be replayed: every strategy keeps its contract on every space of it. */
static void published_records_replay(void **state) {
    (void)state;
    static const char *const files[] = {"results/data/nvidia-h200.jsonl",
                                        "results/data/nvidia-h200-opencl.jsonl"};
    kiln_recording **all = NULL;
    int n = 0;
    kiln_text notes = {0}, table = {0};
    kiln_error e = {0};
    for (int i = 0; i < 2; i++)
        if (kiln_recorded_read(files[i], &(kiln_recorded_options){.prior = true}, &all, &n, &notes,
                               &e))
            fail_msg("%s", e.text);
    assert_true(n > 2);
    for (int i = 0; kiln_strategies[i]; i++) {
        kiln_replay_options o = {.strategy = kiln_strategies[i], .seeds = 1, .evaluations = 14};
        if (kiln_replay_compare(all, n, &o, true, &table, NULL, &e)) fail_msg("%s", e.text);
    }
    assert_non_null(strstr(kiln_text_get(&table), "geometric mean"));
    free_all(all, n);
    kiln_text_free(&notes), kiln_text_free(&table);
}

/* Neighbours of a recorded space differ in one knob, so they are mutual in kind, and few. */
static void recorded_neighbours(void **state) {
    (void)state;
    kiln_recording **all = NULL;
    int n = 0, total = 0;
    kiln_text notes = {0};
    kiln_error e = {0};
    if (kiln_recorded_read("results/data/nvidia-h200.jsonl", &(kiln_recorded_options){0}, &all, &n,
                           &notes, &e))
        fail_msg("%s", e.text);
    for (int i = 0; i < n; i++) {
        kiln_search_space space = kiln_recording_space(all[i]);
        for (int64_t p = 0; p < space.n; p++) {
            int64_t near[64], one;
            int count = space.neighbours(space.context, p, near, 64);
            assert_int_equal(space.neighbours(space.context, p, &one, 1), count > 0);
            total += count;
            for (int k = 0; k < count; k++) {
                assert_in_range(near[k], 0, space.n - 1);
                assert_true(near[k] != p);
            }
        }
    }
    assert_true(total > 0);
    free_all(all, n);
    kiln_text_free(&notes);
}

/* ---- across sizes ---- */

/* Tiles of m: a tile too large for it is padded, a small one costs more per element; tile 512 fails
 * for type b. No fixed list suits all sizes. */
static double tiled_ms(int m, int tile, bool b) {
    double tiles = ceil((double)m / tile);
    return b && tile == 512 ? NAN : 1e-3 * tiles * (tile + 40.0);
}

static void write_sizes(kiln_text *t, int rows) {
    kiln_text_add(t, "m,type,kind,tile,time_ms,reps\n");
    for (int i = 0; i < rows; i++) {
        int m = 16 + (int)(600 * kiln_random_unit(3, (uint64_t)i));
        bool b = i % 3 == 0;
        for (int tile = 16; tile <= 512; tile *= 2) {
            double ms = tiled_ms(m, tile, b);
            kiln_text_printf(t, "%d,%s,tiled,%d,", m, b ? "b" : "a", tile);
            if (isnan(ms)) kiln_text_add(t, "invalid,1\n");
            else kiln_text_printf(t, "%.6f,1\n", ms);
        }
        kiln_text_printf(t, "%d,%s,whole,,%.6f,1\n", m, b ? "b" : "a", 1.5e-3 * (m + 60));
    }
}

static int run_sizes(const char *text, const char *from, kiln_sizes_result *out, kiln_error *e) {
    int status = kiln_sizes_run(file_with(text, strlen(text)), from, out, e);
    unlink(path);
    return status;
}

static void sizes_are_foretold(void **state) {
    (void)state;
    kiln_text t = {0};
    kiln_sizes_result r;
    kiln_error e = {0};
    write_sizes(&t, 200);
    if (run_sizes(kiln_text_get(&t), "kind", &r, &e)) fail_msg("%s", e.text);
    assert_int_equal(r.configurations, 7);
    assert_true(r.problems > 150 && r.problems <= 200); /* some sizes come twice */
    assert_true(r.list.first < 0.93 && r.list.first <= r.list.three);
    assert_true(r.model.first > 0.97 && r.model.three > 0.99 && r.model.three <= 1);
    kiln_text_free(&t);
}

static void sizes_refuses(const char *text, const char *from, const char *expected) {
    kiln_sizes_result r;
    kiln_error e = {0};
    assert_true(run_sizes(text, from, &r, &e) < 0);
    if (!strstr(e.text, path)) fail_msg("'%s' does not name the file", e.text);
    if (!strstr(e.text, expected)) fail_msg("'%s' does not say '%s'", e.text, expected);
}

static void refuses_broken_sizes(void **state) {
    (void)state;
    sizes_refuses("", "tile", "--sizes");
    sizes_refuses("m,tile,time_ms\n16,16,1\n", "m", "--sizes"); /* no column of the problem */
    sizes_refuses("m,tile,time_ms\n16,16,1\n", "absent", "--sizes");
    sizes_refuses("m,tile\n16,16\n", "tile", "time_ms");
    sizes_refuses("m,tile,time_ms\n", "tile", "no rows");
    sizes_refuses("m,tile,time_ms\n16,16\n", "tile", "fewer columns");
    sizes_refuses("m,tile,time_ms\n16,16,1\n16,32,2\n", "tile", "too few");
    sizes_refuses("m,tile,time_ms\n16,16,no\n", "tile", "too few");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_kernel_tuner),     cmocka_unit_test(reads_open_caches),
        cmocka_unit_test(refuses_broken_caches),  cmocka_unit_test(reads_t4),
        cmocka_unit_test(refuses_broken_t4),      cmocka_unit_test(formats_agree),
        cmocka_unit_test(cut_files_never_crash),  cmocka_unit_test(identities_round_trip),
        cmocka_unit_test(identities_fill_caps),   cmocka_unit_test(refuses_bad_identities),
        cmocka_unit_test(records_round_trip),     cmocka_unit_test(records_are_kept_apart),
        cmocka_unit_test(refuses_broken_records), cmocka_unit_test(published_records_replay),
        cmocka_unit_test(recorded_neighbours),
        cmocka_unit_test(sizes_are_foretold),
        cmocka_unit_test(refuses_broken_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

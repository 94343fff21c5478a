/* The portfolio: time goes where it is worth most, problems finish, and what compilers report is read
 * before anything is loaded. */
#include "base/hash.h"
#include "search/search.h"
#include "targets/target.h"
#include "tuner/portfolio.h"
#include "tuner/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed, drawn;
static double uniform(void) { return (double)(kiln_random64(seed, drawn++) >> 11) * 0x1p-53; }

static kiln_stake stake(double seconds, double gain) {
    return (kiln_stake){.weight = 1, .seconds = seconds, .gain = gain, .trial_seconds = 0.1};
}

static void test_value(void **state) {
    kiln_stake k = stake(1e-3, 0.02), other;
    (void)state;
    assert_true(fabs(kiln_stake_value(&k, true) - 1e-3 * 0.02 / (KILN_HORIZON * 0.1)) < 1e-12);
    /* more weight, more seconds, more gain, cheaper trials: worth more; a set-up: less */
    other = k, other.weight = 2;
    assert_true(kiln_stake_value(&other, false) > kiln_stake_value(&k, false));
    other = k, other.seconds = 2e-3;
    assert_true(kiln_stake_value(&other, false) > kiln_stake_value(&k, false));
    other = k, other.gain = 0.03;
    assert_true(kiln_stake_value(&other, false) > kiln_stake_value(&k, false));
    other = k, other.trial_seconds = 0.05;
    assert_true(kiln_stake_value(&other, false) > kiln_stake_value(&k, false));
    other = k, other.setup_seconds = 2;
    assert_true(kiln_stake_value(&other, false) < kiln_stake_value(&k, false));
    assert_true(kiln_stake_value(&other, true) == kiln_stake_value(&k, true));
    other = k, other.finished = true;
    assert_true(kiln_stake_value(&other, true) == 0);
    k.ratio = true; /* a percent counts the same, however long it is */
    other = k, other.seconds = 2e-3;
    assert_true(kiln_stake_value(&other, false) == kiln_stake_value(&k, false));
    other = k, other.weight = 2;
    assert_true(kiln_stake_value(&other, false) > kiln_stake_value(&k, false));
}

/* Nothing right yet: before all others, as long as it has time. */
static void test_value_of_nothing(void **state) {
    kiln_stake k = stake(0, 0.05);
    (void)state;
    assert_true(kiln_stake_value(&k, false) == 0);
    k.left = 1;
    assert_true(isinf(kiln_stake_value(&k, false)));
    k.finished = true;
    assert_true(kiln_stake_value(&k, false) == 0);
}

static void test_next(void **state) {
    kiln_stake k[4] = {stake(1e-3, 0.01), stake(1e-3, 0.04), stake(1e-3, 0.02), stake(1e-3, 0)};
    double rival;
    (void)state;
    assert_int_equal(kiln_portfolio_next(k, 4, -1, &rival), 1);
    assert_true(rival == kiln_stake_value(&k[2], false));
    k[1].finished = true;
    assert_int_equal(kiln_portfolio_next(k, 4, -1, &rival), 2);
    assert_true(rival == kiln_stake_value(&k[0], false));
    /* the one that is set up stays while another is not worth its set-up more */
    k[0].gain = 0.019;
    k[0].setup_seconds = k[2].setup_seconds = 5;
    assert_int_equal(kiln_portfolio_next(k, 4, 0, &rival), 0);
    assert_int_equal(kiln_portfolio_next(k, 4, -1, &rival), 2);
    k[0].finished = k[2].finished = true; /* nothing expected, but not finished: there is time */
    assert_int_equal(kiln_portfolio_next(k, 4, -1, &rival), 3);
    for (int i = 0; i < 4; i++) k[i].finished = true;
    assert_int_equal(kiln_portfolio_next(k, 4, 0, &rival), -1);
    assert_true(rival == 0);
    assert_int_equal(kiln_portfolio_next(k, 0, -1, &rival), -1);
}

/* Of random stakes the choice is worth most and the rival is the best of the others. */
static void test_next_of_many(void **state) {
    (void)state;
    for (int round = 0; round < 500; round++) {
        kiln_stake k[12];
        int n = 1 + (int)(uniform() * 12), current = (int)(uniform() * 13) - 1;
        double rival, most = 0, second = 0;
        for (int i = 0; i < n; i++) {
            k[i] = stake(uniform() < 0.1 ? 0 : uniform(), uniform() * uniform());
            k[i].setup_seconds = 3 * uniform();
            k[i].finished = uniform() < 0.2;
        }
        int chosen = kiln_portfolio_next(k, n, current, &rival);
        for (int i = 0; i < n; i++) most = fmax(most, kiln_stake_value(&k[i], i == current));
        assert_int_equal(chosen < 0, most == 0);
        if (chosen < 0) continue;
        assert_true(kiln_stake_value(&k[chosen], chosen == current) == most);
        for (int i = 0; i < n; i++)
            if (i != chosen) second = fmax(second, kiln_stake_value(&k[i], i == current));
        assert_true(rival == second);
    }
}

/* ---- what steps promise ---- */

static void test_steps(void **state) {
    kiln_steps s = {0};
    (void)state;
    double nothing = kiln_steps_gain(&s, 0, 32);
    assert_true(nothing > 0.05 && nothing < 0.5);
    kiln_steps_add(&s, 1, 10);
    /* no step: it fades */
    assert_true(kiln_steps_gain(&s, 16, 32) < nothing);
    assert_true(kiln_steps_gain(&s, 64, 32) < 0.005);
    assert_true(kiln_steps_gain(&s, 1000, 32) > 0);
    /* a step of a tenth within the last three quarters; more trials, more gain; later, less */
    kiln_steps_add(&s, 60, 9);
    double gain = kiln_steps_gain(&s, 64, 32);
    assert_true(gain > 0.02 && gain < 0.1);
    assert_true(kiln_steps_gain(&s, 64, 64) > gain);
    assert_true(kiln_steps_gain(&s, 200, 32) < gain);
    assert_true(kiln_steps_gain(&s, 239, 32) > kiln_steps_gain(&s, 240, 32)); /* now it is old */
    /* more steps than are kept: the last ones count */
    for (int i = 0; i < 3 * KILN_STEPS_MAX; i++) kiln_steps_add(&s, 300 + i, 9 - 0.01 * i);
    gain = -expm1(-log(8.36 / 8.05) / log(4) * log(1.08));
    assert_true(kiln_steps_gain(&s, 400, 32) > gain && kiln_steps_gain(&s, 400, 32) < 1.1 * gain);
}

/* Random search on made-up spaces: the promise is of the size of what comes, on average over runs. */
static void test_steps_foretell(void **state) {
    enum { RUNS = 2000, SEEN = 64 };
    (void)state;
    for (int power = 1; power <= 3; power++) { /* few are near the best, then many */
        double foretold = 0, came = 0;
        for (int run = 0; run < RUNS; run++) {
            kiln_steps s = {0};
            double best = INFINITY, before = 0;
            for (int i = 0; i < SEEN + KILN_HORIZON; i++) {
                double t = 0.5 + pow(uniform(), power);
                if (i == SEEN) {
                    foretold += kiln_steps_gain(&s, SEEN, KILN_HORIZON);
                    before = best;
                }
                if (t < best) kiln_steps_add(&s, i, t);
                best = fmin(best, t);
            }
            came += 1 - best / before;
        }
        /* progress slows down here, so the promise is too high; it must not be too low */
        if (foretold < came || foretold / RUNS > 0.06)
            fail_msg("power %d: foretold %.4f, came %.4f", power, foretold / RUNS, came / RUNS);
    }
}

static void feature_of(void *context, int64_t point, float *out) {
    (void)context;
    out[0] = (float)point;
}

/* Every strategy that expects something: a share, 0 when nothing is left. Who asks for every point gets
 * every point. */
static void test_strategies_expect(void **state) {
    enum { POINTS = 48 };
    static const char *const names[] = {"x"};
    const kiln_search_space space = {.n = POINTS, .n_features = 1, .feature_names = names, .features = feature_of};
    (void)state;
    for (int i = 0; kiln_strategies[i]; i++) {
        const kiln_strategy *s = kiln_strategies[i];
        const kiln_search_options o = {.seed = seed, .batch = 8};
        kiln_error e = {0};
        int64_t p[8];
        double gain = 0;
        void *x = s->expected_gain ? s->create(&space, &o, &e) : NULL;
        if (!x) continue;
        for (int n = 0, got; (got = s->propose(x, 8, p)) > 0; n += got) {
            for (int k = 0; k < got; k++)
                s->observe(x, &(kiln_observation){p[k], 1 + uniform()}, 1);
            gain = s->expected_gain(x, KILN_HORIZON);
            if (!isnan(gain) && !(gain >= 0 && gain <= 1)) fail_msg("%s: %g", s->name, gain);
            if (!strcmp(s->name, "exhaustive") && n + got < POINTS) assert_true(gain == 1);
        }
        assert_true(gain == 0);
        s->destroy(x);
    }
}

/* ---- what compilers report ---- */

static void test_report(void **state) {
    static const char log[] =
        "ptxas info    : 0 bytes gmem\n"
        "ptxas info    : Compiling entry function 'kiln_ab_main' for 'sm_90a'\n"
        "ptxas info    : Function properties for helper\n"
        "    8 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Function properties for kiln_ab_main\n"
        "    352 bytes stack frame, 620 bytes spill stores, 700 bytes spill loads\n"
        "ptxas info    : Function properties for other\n"
        "    16 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n"
        "ptxas info    : Used 168 registers, used 7 barriers, 352 bytes cumulative stack size\n"
        "ptxas info    : Compiling entry function 'kiln_ab_main2' for 'sm_90a'\n"
        "ptxas info    : Function properties for kiln_ab_main2\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 32 registers, used 1 barriers";
    const kiln_target *cuda = kiln_target_find("cuda");
    kiln_kernel_facts f;
    (void)state;
    if (!cuda) skip();
    assert_true(cuda->report(log, "kiln_ab_main", &f));
    assert_true(f.registers == 168 && f.local_bytes == 352 && f.shared_bytes == -1);
    assert_true(cuda->report(log, "kiln_ab_main2", &f));
    assert_true(f.registers == 32 && f.local_bytes == 0);
    assert_false(cuda->report(log, "kiln_ab_mai", &f));
    assert_true(f.registers == -1 && f.local_bytes == -1);
    assert_false(cuda->report("", "kiln_ab_main", &f));
    /* whatever is cut off, nothing is read beyond it */
    for (size_t n = 0; n < sizeof log; n++) {
        char *part = strndup(log, n);
        cuda->report(part, "kiln_ab_main", &f);
        assert_true(f.registers == -1 || f.registers == 1 || f.registers == 16 || f.registers == 168);
        free(part);
    }
}

static json_t *compile(const kiln_caps *caps, const char *cache) {
    kiln_worker_context c = {kiln_target_find("cuda"), caps, cache};
    json_t *request = json_pack("{s:s, s:[s], s:s}", "problem", "copy rows=64 cols=64 type=f32",
                                "schedules", "simt t=128 tr=1 v=4 u=1 keep=0 wave=0 ld=0 st=0 regs=0",
                                "ptx", "");
    json_t *reply = kiln_compile_handle(&c, request);
    json_decref(request);
    return reply;
}

/* NVRTC's own words, from the worker, compiled and from the cache. */
static void test_compile_worker(void **state) {
    char cache[] = "/tmp/kiln-portfolio-XXXXXX", command[64];
    kiln_caps gpu = {.target = "cuda", .kind = KILN_DEVICE_GPU, .name = "none", .arch = "sm_90a",
                     .arch_number = 90, .warp = 32, .max_threads = 1024, .units = 132,
                     .registers_unit = 65536, .shared_bytes = 232448, .shared_unit_bytes = 233472,
                     .threads_unit = 2048, .cache_bytes = 50 << 20, .memory_bytes = (int64_t)1 << 36,
                     .max_alloc_bytes = (int64_t)1 << 36, .align_bytes = 256, .f16 = true};
    (void)state;
    if (!kiln_target_find("cuda")) skip();
    assert_non_null(mkdtemp(cache));
    for (int i = 0; i < 3; i++) {
        gpu.registers_unit = i == 2 ? 128 : 65536;
        json_t *reply = compile(&gpu, cache);
        const char *error = json_string_value(json_object_get(reply, "error"));
        int status = (int)json_integer_value(json_object_get(reply, "status"));
        if (status == KILN_NO_DEVICE) {
            print_message("SKIPPED: %s\n", error);
            json_decref(reply);
            break;
        }
        if (status) fail_msg("%s", error);
        json_t *facts = json_array_get(json_object_get(reply, "facts"), 0);
        assert_in_range(json_integer_value(json_object_get(facts, "registers")), 4, 255);
        assert_int_equal(json_integer_value(json_object_get(facts, "local_bytes")), 0);
        assert_int_equal(json_is_true(json_object_get(facts, "fits")), i < 2);
        json_decref(reply);
    }
    snprintf(command, sizeof command, "rm -rf %s", cache);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const char *given = getenv("KILN_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value),          cmocka_unit_test(test_value_of_nothing),
        cmocka_unit_test(test_next),           cmocka_unit_test(test_next_of_many),
        cmocka_unit_test(test_steps),          cmocka_unit_test(test_steps_foretell),
        cmocka_unit_test(test_strategies_expect),
        cmocka_unit_test(test_report),         cmocka_unit_test(test_compile_worker),
    };
    return cmocka_run_group_tests_name("portfolio", tests, NULL, NULL);
}

/* The choice among finalists: known winners, ties by rule, the same answer in any order. */
#include "tuner/finals.h"

#include "base/hash.h"

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

enum { ROUNDS = 30, FIELD = 6 };

static uint64_t seed, drawn;
static double uniform(void) { return (double)(kiln_random64(seed, drawn++) >> 11) * 0x1p-53; }
/* Roughly normal, of deviation 1. */
static double normal(void) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += uniform();
    return sum - 6;
}

/* Rounds of finalists that share the noise of the machine and have some of their own. */
typedef struct field {
    double samples[FIELD][ROUNDS];
    kiln_finalist f[FIELD];
    char name[FIELD][16];
} field;

static void draw(field *x, const double *mean, int n, double common, double own) {
    for (int r = 0; r < ROUNDS; r++) {
        double machine = 1 + common * fabs(normal());
        for (int i = 0; i < n; i++) x->samples[i][r] = mean[i] * machine * (1 + own * normal());
    }
    for (int i = 0; i < n; i++) {
        snprintf(x->name[i], sizeof x->name[i], "simt t=%d", i);
        x->f[i] = (kiln_finalist){.samples = x->samples[i], .schedule = x->name[i]};
    }
}

static void test_quantile(void **state) {
    const double s[] = {4, 1, 3, 2, 5};
    (void)state;
    assert_true(kiln_quantile(s, 5, 0) == 1);
    assert_true(kiln_quantile(s, 5, 1) == 5);
    assert_true(kiln_median(s, 5) == 3);
    assert_true(kiln_median(s, 4) == 2.5); /* of 4 1 3 2 */
    assert_true(fabs(kiln_quantile(s, 5, 0.1) - 1.4) < 1e-12);
    assert_true(kiln_median(s, 1) == 4);
    assert_true(kiln_median(s, 0) == 0);
    assert_true(s[0] == 4 && s[4] == 5); /* the samples stay as they were */
}

/* The order of the samples says nothing, however many they are. */
static void test_quantile_of_many(void **state) {
    enum { MANY = 3000 };
    static double up[MANY], down[MANY];
    (void)state;
    for (int i = 0; i < MANY; i++) up[i] = i, down[i] = MANY - 1 - i;
    for (int n = 500; n <= MANY; n += 500) {
        for (int i = 0; i < n; i++) down[i] = n - 1 - i;
        assert_true(kiln_median(up, n) == (n - 1) / 2.0);
        assert_true(kiln_median(down, n) == (n - 1) / 2.0);
        assert_true(fabs(kiln_quantile(down, n, 0.95) - 0.95 * (n - 1)) < 1e-6);
    }
}

static void test_ratio(void **state) {
    double a[ROUNDS], b[ROUNDS];
    (void)state;
    for (int i = 0; i < ROUNDS; i++) a[i] = 1 + uniform(), b[i] = 1.25 * a[i];
    kiln_ratio r = kiln_paired_ratio(a, b, ROUNDS, 1);
    /* paired: what the rounds have in common is no noise */
    assert_true(fabs(r.median - 1.25) < 1e-12 && fabs(r.low - 1.25) < 1e-12 &&
                fabs(r.high - 1.25) < 1e-12);
    for (int i = 0; i < ROUNDS; i++) b[i] = a[i] * (1.25 + 0.05 * normal());
    r = kiln_paired_ratio(a, b, ROUNDS, 1);
    assert_true(r.low <= r.median && r.median <= r.high && r.low < r.high);
    assert_true(r.low > 1.1 && r.high < 1.4);
    kiln_ratio same = kiln_paired_ratio(a, b, ROUNDS, 1), none = kiln_paired_ratio(a, b, 0, 1);
    assert_memory_equal(&r, &same, sizeof r);
    assert_true(none.median == 0 && none.low == 0 && none.high == 0);
    kiln_ratio one = kiln_paired_ratio(a, b, 1, 1);
    assert_true(one.low == one.median && one.high == one.median);
}

/* The interval holds the truth about 95 times in 100; far fewer, or always, would make it a wrong
 * one. */
static void test_interval(void **state) {
    enum { DRAWS = 300 };
    int covered = 0;
    (void)state;
    for (int d = 0; d < DRAWS; d++) {
        double a[ROUNDS], b[ROUNDS];
        for (int i = 0; i < ROUNDS; i++) {
            double machine = 1 + 0.2 * fabs(normal());
            a[i] = machine, b[i] = 1.1 * machine * (1 + 0.03 * normal());
        }
        kiln_ratio r = kiln_paired_ratio(a, b, ROUNDS, (uint64_t)d);
        covered += r.low <= 1.1 && 1.1 <= r.high;
    }
    printf("the 95 %% interval held the truth in %.1f %% of %d draws\n", 100.0 * covered / DRAWS,
           DRAWS);
    assert_true(covered > 0.85 * DRAWS && covered < DRAWS);
}

static void test_clear_winner(void **state) {
    static const double mean[FIELD] = {1.30, 1.06, 1.00, 1.06, 1.10, 2.00};
    (void)state;
    for (int d = 0; d < 200; d++) {
        field x;
        bool tied[FIELD];
        draw(&x, mean, FIELD, 0.1, 0.01);
        x.f[2].workspace_bytes = 1 << 20; /* being frugal does not help who is slower */
        x.f[2].shared_bytes = 1 << 16;
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 1, tied), 2);
        for (int i = 0; i < FIELD; i++) assert_int_equal(tied[i], i == 2);
    }
}

/* As fast as each other: less workspace, then less power, then less shared memory, then the
 * schedule's text. */
static void test_ties(void **state) {
    static const double mean[FIELD] = {1.0006, 1.000, 1.0012, 1.0009, 1.5, 1.6};
    (void)state;
    for (int d = 0; d < 50; d++) {
        field x;
        bool tied[FIELD];
        draw(&x, mean, FIELD, 0.1, 0.0005);
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 1, tied), 0); /* "simt t=0" */
        for (int i = 0; i < FIELD; i++) assert_int_equal(tied[i], i < 4);
        x.f[0].shared_bytes = x.f[1].shared_bytes = x.f[2].shared_bytes = 4096;
        x.f[3].shared_bytes = 2048;
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 1, NULL), 3);
        for (int i = 0; i < FIELD; i++) x.f[i].power = i == 1 ? 1.1 : 1.2;
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 1, NULL), 1);
        x.f[0].workspace_bytes = x.f[1].workspace_bytes = x.f[3].workspace_bytes = 64;
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 1, NULL), 2);
    }
}

/* Noise decides nothing: who is a little ahead in one run and behind in the next wins neither time
 * by that. */
static void test_noise(void **state) {
    static const double mean[2] = {1.001, 1.000};
    int first = 0;
    (void)state;
    for (int d = 0; d < 200; d++) {
        field x;
        draw(&x, mean, 2, 0.2, 0.001); /* 0.3 % is 6 standard errors off */
        first += kiln_finals_choose(x.f, 2, ROUNDS, 1, NULL) == 0;
    }
    assert_int_equal(first, 200);
}

static void shuffle(int *order, int n) {
    for (int i = 0; i < n; i++) order[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int k = (int)(uniform() * (i + 1)), swap = order[i];
        order[i] = order[k], order[k] = swap;
    }
}

/* Coarse clocks make equal medians common: they must not let the order in. */
static void test_any_order(void **state) {
    (void)state;
    for (int d = 0; d < 300; d++) {
        field x;
        double mean[FIELD];
        bool coarse = d % 2;
        for (int i = 0; i < FIELD; i++) mean[i] = 1 + 0.03 * uniform();
        draw(&x, mean, FIELD, 0.05, 0.02);
        for (int i = 0; i < FIELD; i++) {
            x.f[i].workspace_bytes = uniform() < 0.5 ? 0 : 4096;
            x.f[i].shared_bytes = uniform() < 0.5 ? 1024 : 2048;
            for (int r = 0; coarse && r < ROUNDS; r++)
                x.samples[i][r] = round(x.samples[i][r] * 50) / 50;
        }
        int winner = kiln_finals_choose(x.f, FIELD, ROUNDS, 7, NULL);
        assert_int_equal(kiln_finals_choose(x.f, FIELD, ROUNDS, 7, NULL), winner);
        for (int k = 0; k < 8; k++) {
            int order[FIELD];
            kiln_finalist other[FIELD];
            shuffle(order, FIELD);
            for (int i = 0; i < FIELD; i++) other[i] = x.f[order[i]];
            int again = kiln_finals_choose(other, FIELD, ROUNDS, 7, NULL);
            if (strcmp(other[again].schedule, x.f[winner].schedule))
                fail_msg("draw %d: %s, but %s in another order", d, x.f[winner].schedule,
                         other[again].schedule);
        }
    }
}

static void test_one(void **state) {
    const double s[] = {1, 2, 3};
    const kiln_finalist f = {.samples = s, .schedule = "only"};
    bool tied = false;
    (void)state;
    assert_int_equal(kiln_finals_choose(&f, 1, 3, 1, &tied), 0);
    assert_true(tied);
}

int main(void) {
    const char *given = getenv("KILN_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantile),     cmocka_unit_test(test_quantile_of_many),
        cmocka_unit_test(test_ratio),        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_clear_winner), cmocka_unit_test(test_ties),
        cmocka_unit_test(test_noise),        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_one),
    };
    return cmocka_run_group_tests_name("finals", tests, NULL, NULL);
}

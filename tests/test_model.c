/* The cost model and its features: that it learns, says how sure it is, survives saving, and
 * refuses what it cannot use. */
#include "cost-model/features.h"
#include "cost-model/gp.h"
#include "cost-model/model.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FEATURES = 6, ROWS = 300 };

typedef struct data {
    float rows[ROWS * FEATURES];
    double seconds[ROWS];
} data;

/* log t depends on features 0 to 2 with an interaction; 3 is noise, 4 constant, 5 often missing. */
static double truth(const float *x) { return 1e-3 * exp(x[0] + 0.5 * (x[1] > 2) * x[0] - 0.3 * x[2]); }

static void make_data(data *d, uint64_t seed) {
    for (int i = 0; i < ROWS; i++) {
        float *x = d->rows + i * FEATURES;
        for (int k = 0; k < 4; k++)
            x[k] = (float)(4 * kiln_random_unit(seed, (uint64_t)(i * FEATURES + k)));
        x[4] = 7;
        x[5] = i % 3 ? NAN : x[1];
        d->seconds[i] = truth(x);
    }
}

static kiln_model *train(const data *d, int64_t n, const kiln_model_options *o) {
    kiln_error e = {0};
    kiln_model *m = kiln_model_train(d->rows, d->seconds, n, FEATURES, o, &e);
    if (!m) fail_msg("%s", e.text);
    return m;
}

static double correlation_on(kiln_model *m, const data *d) {
    double mean[ROWS], expected[ROWS];
    assert_int_equal(kiln_model_predict(m, d->rows, ROWS, mean, NULL, NULL, NULL), 0);
    for (int i = 0; i < ROWS; i++) expected[i] = log(d->seconds[i]);
    return kiln_rank_correlation(mean, expected, ROWS);
}

static void learns(void **state) {
    (void)state;
    static data seen, unseen;
    make_data(&seen, 1);
    make_data(&unseen, 2);
    kiln_model *m = train(&seen, ROWS, NULL);
    double rank, recall, mean[ROWS];
    assert_true(correlation_on(m, &unseen) > 0.95);
    kiln_model_quality(m, &rank, &recall);
    assert_true(rank > 0.9);
    assert_true(recall >= 0.5 && recall <= 1);
    assert_int_equal(kiln_model_predict(m, unseen.rows, ROWS, mean, NULL, NULL, NULL), 0);
    double error = 0;
    for (int i = 0; i < ROWS; i++) error += fabs(mean[i] - log(unseen.seconds[i])) / ROWS;
    assert_true(error < 0.35); /* the spread of log seconds is about 2 */
    kiln_model_free(m);
}

/* The held-out judgement must be able to say "useless". */
static void admits_ignorance(void **state) {
    (void)state;
    static data d;
    make_data(&d, 3);
    for (int i = 0; i < ROWS; i++) d.seconds[i] = 1 + kiln_random_unit(9, (uint64_t)i);
    kiln_model *m = train(&d, ROWS, &(kiln_model_options){.members = 4});
    double rank;
    kiln_model_quality(m, &rank, NULL);
    assert_true(fabs(rank) < 0.3);
    kiln_model_free(m);
}

static void learns_validity(void **state) {
    (void)state;
    static data seen, unseen;
    make_data(&seen, 4);
    make_data(&unseen, 5);
    for (int i = 0; i < ROWS; i++)
        if (seen.rows[i * FEATURES + 1] > 3) seen.seconds[i] = NAN;
    kiln_model *m = train(&seen, ROWS, NULL);
    double mean[ROWS], valid[ROWS];
    assert_int_equal(kiln_model_predict(m, unseen.rows, ROWS, mean, NULL, valid, NULL), 0);
    int right = 0;
    for (int i = 0; i < ROWS; i++) {
        assert_true(valid[i] >= 0 && valid[i] <= 1);
        right += (valid[i] > 0.5) == (unseen.rows[i * FEATURES + 1] <= 3);
    }
    assert_true(right > ROWS * 95 / 100);
    kiln_model_free(m);
}

static void spread_of_members(void **state) {
    (void)state;
    static data d;
    make_data(&d, 6);
    double mean[ROWS], spread[ROWS], one[ROWS], sum = 0, by_member[ROWS] = {0};
    kiln_model *m = train(&d, 60, &(kiln_model_options){.members = 4, .seed = 5});
    assert_int_equal(kiln_model_predict(m, d.rows, ROWS, mean, spread, NULL, NULL), 0);
    for (int k = 0; k < 4; k++) {
        assert_int_equal(kiln_model_predict_member(m, k, d.rows, ROWS, one, NULL), 0);
        for (int i = 0; i < ROWS; i++) by_member[i] += one[i] / 4;
    }
    for (int i = 0; i < ROWS; i++) {
        sum += spread[i];
        assert_true(spread[i] >= 0);
        assert_true(fabs(by_member[i] - mean[i]) < 1e-9);
    }
    assert_true(sum > 0);
    kiln_model_free(m);
    m = train(&d, 60, NULL);
    assert_int_equal(kiln_model_predict(m, d.rows, ROWS, mean, spread, NULL, NULL), 0);
    for (int i = 0; i < ROWS; i++) assert_true(spread[i] == 0);
    kiln_model_free(m);
}

static void clips(void **state) {
    (void)state;
    static data d;
    make_data(&d, 7);
    double best = INFINITY, mean[ROWS];
    for (int i = 0; i < ROWS; i++) best = fmin(best, d.seconds[i]);
    kiln_model *m = train(&d, ROWS, &(kiln_model_options){.clip = 3});
    assert_int_equal(kiln_model_predict(m, d.rows, ROWS, mean, NULL, NULL, NULL), 0);
    for (int i = 0; i < ROWS; i++) assert_true(mean[i] < log(3.6 * best));
    kiln_model_free(m);
}

static void deterministic(void **state) {
    (void)state;
    static data d;
    make_data(&d, 8);
    kiln_model_options o = {.members = 3, .seed = 11};
    kiln_model *a = train(&d, 100, &o), *b = train(&d, 100, &o);
    void *x, *y;
    size_t nx, ny;
    assert_int_equal(kiln_model_save(a, &x, &nx, NULL), 0);
    assert_int_equal(kiln_model_save(b, &y, &ny, NULL), 0);
    assert_int_equal(nx, ny);
    assert_memory_equal(x, y, nx);
    o.seed++;
    kiln_model_free(b);
    free(y);
    b = train(&d, 100, &o);
    double p[ROWS], q[ROWS];
    kiln_model_predict(a, d.rows, ROWS, p, NULL, NULL, NULL);
    kiln_model_predict(b, d.rows, ROWS, q, NULL, NULL, NULL);
    assert_memory_not_equal(p, q, sizeof p);
    free(x);
    kiln_model_free(a);
    kiln_model_free(b);
}

static void few_rows(void **state) {
    (void)state;
    static data d;
    make_data(&d, 10);
    kiln_error e = {0};
    assert_null(kiln_model_train(d.rows, d.seconds, 0, FEATURES, NULL, &e));
    assert_int_equal(e.status, KILN_BAD_INPUT);
    for (int64_t n = 1; n <= 3; n++)
        for (int members = 1; members <= 3; members++) {
            kiln_model *m = train(&d, n, &(kiln_model_options){.members = members});
            double mean[3], spread[3], valid[3], rank;
            assert_int_equal(kiln_model_predict(m, d.rows, 3, mean, spread, valid, NULL), 0);
            for (int i = 0; i < 3; i++) {
                assert_true(isfinite(mean[i]) && isfinite(spread[i]));
                assert_true(valid[i] == 1); /* no failure was seen */
            }
            if (n == 1) assert_true(fabs(mean[0] - log(d.seconds[0])) < 1e-5);
            kiln_model_quality(m, &rank, NULL);
            assert_true(isnan(rank)); /* nothing held out, nothing claimed */
            kiln_model_free(m);
        }
}

static void all_failed(void **state) {
    (void)state;
    static data d;
    make_data(&d, 12);
    for (int i = 0; i < ROWS; i++) d.seconds[i] = NAN;
    kiln_model *m = train(&d, 20, &(kiln_model_options){.members = 2});
    double mean[2], spread[2], valid[2], member[2];
    assert_int_equal(kiln_model_predict(m, d.rows, 2, mean, spread, valid, NULL), 0);
    assert_int_equal(kiln_model_predict_member(m, 1, d.rows, 2, member, NULL), 0);
    assert_true(isnan(mean[0]) && isnan(spread[0]) && isnan(member[1]));
    assert_true(valid[0] > 0 && valid[0] < 0.1);
    kiln_model_free(m);
}

static void constant_columns(void **state) {
    (void)state;
    static data d;
    make_data(&d, 13);
    for (int i = 0; i < ROWS * FEATURES; i++) d.rows[i] = i % FEATURES ? 1 : NAN;
    kiln_model *m = train(&d, 100, NULL);
    double mean[2], average = 0;
    assert_int_equal(kiln_model_predict(m, d.rows, 2, mean, NULL, NULL, NULL), 0);
    for (int i = 0; i < 100; i++) average += log(d.seconds[i]) / 100;
    assert_true(mean[0] == mean[1]);
    assert_true(fabs(mean[0] - average) < 0.5);
    kiln_model_free(m);
}

static void bad_input(void **state) {
    (void)state;
    static data d;
    kiln_error e = {0};
    make_data(&d, 14);
    d.rows[7 * FEATURES + 2] = INFINITY;
    assert_null(kiln_model_train(d.rows, d.seconds, 20, FEATURES, NULL, &e));
    assert_int_equal(e.status, KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "feature 2 of row 7"));
    make_data(&d, 14);
    const double bad[] = {0, -1, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        d.seconds[5] = bad[i];
        e = (kiln_error){0};
        assert_null(kiln_model_train(d.rows, d.seconds, 20, FEATURES, NULL, &e));
        assert_int_equal(e.status, KILN_BAD_INPUT);
        assert_non_null(strstr(e.text, "row 5"));
    }
    assert_null(kiln_model_train(d.rows, d.seconds, 5, 0, NULL, NULL));
    make_data(&d, 14);
    kiln_model *m = train(&d, 50, NULL);
    double mean[1];
    d.rows[0] = -INFINITY;
    assert_int_equal(kiln_model_predict(m, d.rows, 1, mean, NULL, NULL, &e), KILN_BAD_INPUT);
    kiln_model_free(m);
}

/* ---- bytes ---- */

static kiln_model *saved(data *d, uint8_t **bytes, size_t *size) {
    make_data(d, 15);
    for (int i = 0; i < 20; i++) d->seconds[i * 3] = NAN; /* so that there is a validity booster */
    kiln_model *m = train(d, 120, &(kiln_model_options){.members = 2, .rounds = 10});
    void *out;
    assert_int_equal(kiln_model_save(m, &out, size, NULL), 0);
    *bytes = out;
    return m;
}

static void save_and_load(void **state) {
    (void)state;
    static data d;
    uint8_t *bytes;
    size_t size;
    kiln_model *m = saved(&d, &bytes, &size), *n = kiln_model_load(bytes, size, NULL);
    assert_non_null(n);
    double a[3][ROWS], b[3][ROWS], qa[2], qb[2];
    assert_int_equal(kiln_model_predict(m, d.rows, ROWS, a[0], a[1], a[2], NULL), 0);
    assert_int_equal(kiln_model_predict(n, d.rows, ROWS, b[0], b[1], b[2], NULL), 0);
    assert_memory_equal(a, b, sizeof a);
    kiln_model_quality(m, &qa[0], &qa[1]);
    kiln_model_quality(n, &qb[0], &qb[1]);
    assert_memory_equal(qa, qb, sizeof qa);
    assert_int_equal(kiln_model_features(n), FEATURES);
    void *again;
    size_t size_again;
    assert_int_equal(kiln_model_save(n, &again, &size_again, NULL), 0);
    assert_int_equal(size_again, size);
    assert_memory_equal(again, bytes, size);
    free(again);
    free(bytes);
    kiln_model_free(m);
    kiln_model_free(n);
}

static void every_flip_refused(void **state) {
    (void)state;
    static data d;
    uint8_t *bytes;
    size_t size;
    kiln_model *m = saved(&d, &bytes, &size);
    kiln_model_free(m);
    for (size_t i = 0; i < 300; i++) { /* the head wholly, the rest by samples */
        size_t at = i < 100 ? i : kiln_random64(16, i) % size;
        bytes[at] ^= (uint8_t)(1 << (i % 8));
        kiln_error e = {0};
        assert_null(kiln_model_load(bytes, size, &e));
        assert_true(e.status == KILN_CORRUPT || e.status == KILN_VERSION);
        assert_true(e.text[0]);
        bytes[at] ^= (uint8_t)(1 << (i % 8));
    }
    m = kiln_model_load(bytes, size, NULL);
    assert_non_null(m);
    kiln_model_free(m);
    free(bytes);
}

static void every_cut_refused(void **state) {
    (void)state;
    static data d;
    uint8_t *bytes;
    size_t size;
    kiln_model_free(saved(&d, &bytes, &size));
    for (size_t n = 0; n < size; n += n < 64 ? 1 : 997) {
        kiln_error e = {0};
        assert_null(kiln_model_load(bytes, n, &e));
        assert_int_equal(e.status, KILN_CORRUPT);
    }
    free(bytes);
}

/* ---- features ---- */

static const kiln_knob small_knobs[] = {{"tm", 64, ""}, {"tn", 32, ""}, {NULL, 0, NULL}};
static const kiln_knob large_knobs[] = {{"tn", 16, ""}, {"split", 0, ""}, {NULL, 0, NULL}};
static const kiln_variant small = {.name = "small", .knobs = small_knobs};
static const kiln_variant large = {.name = "large", .knobs = large_knobs};
static const kiln_family toy = {.name = "toy"};
static const kiln_variant_generator toy_variants[] = {{.variant = &small}, {.variant = &large}, {0}};

static int toy_features(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                        const char **names, double *values, int max) {
    (void)p, (void)caps;
    assert_true(max >= 2);
    if (names) names[0] = "depth", names[1] = "broken";
    values[0] = s->variant == &small ? 1 : 2;
    values[1] = INFINITY;
    return 2;
}
static const kiln_generator toy_generator = {
    .family = &toy, .variants = toy_variants, .features = toy_features};

static float column(const kiln_features *f, const float *row, const char *name) {
    for (int i = 0; i < kiln_features_count(f); i++)
        if (!strcmp(kiln_features_names(f)[i], name)) return row[i];
    fail_msg("no column %s", name);
    return 0;
}

static void features_of_variants(void **state) {
    (void)state;
    static kiln_problem p;
    kiln_caps caps = {.units = 4, .threads_unit = 2048};
    kiln_features *f = kiln_features_create(&toy_generator, NULL, 0, &p, &caps, KILN_FEATURES_ALL,
                                            NULL);
    assert_non_null(f);
    float row[128];
    assert_in_range(kiln_features_count(f), 1, 128);
    kiln_schedule s = {.variant = &small, .value = {128, 32}};
    kiln_features_row(f, &p, &s, &caps, NULL, row);
    assert_true(column(f, row, "variant.small") == 1 && column(f, row, "variant.large") == 0);
    assert_true(column(f, row, "knob.tm") == 128);
    assert_true(column(f, row, "knob.tm*knob.tn") == 4096);
    assert_true(column(f, row, "knob.tm/knob.tn") == 4);
    assert_true(isnan(column(f, row, "knob.split")));
    assert_true(column(f, row, "toy.depth") == 1);
    assert_true(isnan(column(f, row, "toy.broken"))); /* infinity would stop training */
    assert_true(column(f, row, "device.units") == 4);
    assert_true(isnan(column(f, row, "compiled.registers")));
    s = (kiln_schedule){.variant = &large, .value = {16, 0}};
    kiln_feature_facts facts = {.known = true,
                                .kernel = {.registers = 40, .blocks_per_unit = 2},
                                .blocks = 20,
                                .threads = 256};
    kiln_features_row(f, &p, &s, &caps, &facts, row);
    assert_true(column(f, row, "knob.tn") == 16 && isnan(column(f, row, "knob.tm")));
    assert_true(isnan(column(f, row, "knob.tn/knob.split"))); /* over 0 */
    assert_true(column(f, row, "compiled.registers") == 40);
    assert_true(column(f, row, "compiled.occupancy") == 0.25f);
    assert_true(column(f, row, "compiled.waves") == 2.5f);
    kiln_features_free(f);
}

static void groups_fill_their_columns(void **state) {
    (void)state;
    static kiln_problem p;
    kiln_caps caps = {0};
    kiln_schedule s = {.variant = &small, .value = {1, 2}};
    kiln_feature_facts facts = {.known = true};
    const kiln_variant *one[] = {&small};
    for (int groups = 0; groups <= KILN_FEATURES_ALL; groups++) {
        kiln_features *f = kiln_features_create(&toy_generator, one, 1, &p, &caps, groups, NULL);
        float row[129];
        int n = kiln_features_count(f);
        for (int i = 0; i < 129; i++) row[i] = -12345;
        kiln_features_row(f, &p, &s, &caps, &facts, row);
        for (int i = 0; i < 129; i++) assert_true((row[i] == -12345) == (i >= n));
        for (int i = 0; i < n; i++) assert_false(isinf(row[i]));
        kiln_features_free(f);
    }
}

/* ---- the Gaussian process ---- */

enum { GP_POINTS = 60 };

typedef struct gp_case {
    float row[GP_POINTS][4]; /* two inputs, two opinions */
    double target[GP_POINTS];
} gp_case;

static double bowl(const float *x) {
    return 0.5 * (x[0] - 0.3) * (x[0] - 0.3) + 0.8 * (x[1] - 0.6) * (x[1] - 0.6);
}

/* One opinion that knows the truth up to a constant, one by chance. */
static void make_gp_case(gp_case *c, uint64_t seed) {
    for (int i = 0; i < GP_POINTS; i++) {
        float *x = c->row[i];
        for (uint64_t k = 0; k < 2; k++)
            x[k] = (float)kiln_random_unit(seed, 10 * (uint64_t)i + k);
        c->target[i] = bowl(x) - 7;
        x[2] = (float)c->target[i] + 3;
        x[3] = (float)kiln_random_unit(seed, 10 * (uint64_t)i + 5);
    }
}

static void gp_interpolates(void **state) {
    (void)state;
    gp_case c;
    double mean[GP_POINTS], spread[GP_POINTS], worst_known = 0, worst_new = 0, known = 0, new = 0;
    make_gp_case(&c, 1);
    kiln_gp_shape shape = {.n_inputs = 2, .n_opinions = 2, .deaf = true};
    kiln_gp *g = kiln_gp_train(&shape, c.row[0], c.target, 40, NULL, NULL);
    assert_non_null(g);
    assert_int_equal(kiln_gp_predict(g, c.row[0], GP_POINTS, mean, spread, NULL), 0);
    for (int i = 0; i < GP_POINTS; i++) {
        double error = fabs(mean[i] - c.target[i]);
        if (i < 40) worst_known = fmax(worst_known, error), known += spread[i] / 40;
        else worst_new = fmax(worst_new, error), new += spread[i] / 20;
    }
    assert_true(worst_known < 0.03 && worst_new < 0.1);
    assert_true(new > known);
    kiln_gp_free(g);
}

/* With two outcomes only the opinions can order the rest; refuted, they lose the evidence. */
static void gp_weighs_opinions(void **state) {
    (void)state;
    gp_case c;
    make_gp_case(&c, 2);
    kiln_gp_shape hears = {.n_inputs = 2, .n_opinions = 1}, deaf = hears;
    deaf.deaf = true;
    float rows[GP_POINTS][3], wrong[GP_POINTS][3];
    for (int i = 0; i < GP_POINTS; i++)
        for (int k = 0; k < 3; k++) rows[i][k] = wrong[i][k] = k < 2 ? c.row[i][k] : 4 * c.row[i][2];
    for (int i = 0; i < GP_POINTS; i++) {
        c.target[i] *= 4;
        wrong[i][2] = rows[(i + 7) % GP_POINTS][2];
    }
    kiln_gp *few = kiln_gp_train(&hears, rows[0], c.target, 2, NULL, NULL);
    double mean[GP_POINTS];
    assert_int_equal(kiln_gp_predict(few, rows[0], GP_POINTS, mean, NULL, NULL), 0);
    assert_true(kiln_rank_correlation(mean, c.target, GP_POINTS) > 0.9);
    kiln_gp *right = kiln_gp_train(&hears, rows[0], c.target, 12, few, NULL);
    kiln_gp *misled = kiln_gp_train(&hears, wrong[0], c.target, 12, NULL, NULL);
    kiln_gp *alone = kiln_gp_train(&deaf, rows[0], c.target, 12, NULL, NULL);
    assert_true(kiln_gp_evidence(right) > kiln_gp_evidence(alone) + 2);
    assert_true(kiln_gp_evidence(misled) < kiln_gp_evidence(alone));
    assert_true(kiln_gp_trust(right) > kiln_gp_trust(misled));
    kiln_gp_free(few), kiln_gp_free(right), kiln_gp_free(misled), kiln_gp_free(alone);
}

static void gp_chooses(void **state) {
    (void)state;
    gp_case c;
    int64_t chosen[GP_POINTS];
    double gain[GP_POINTS], valid[GP_POINTS], best = INFINITY;
    make_gp_case(&c, 3);
    for (int i = 0; i < 20; i++) best = fmin(best, c.target[i]);
    for (int i = 0; i < GP_POINTS; i++) valid[i] = i >= 20;
    kiln_gp_shape shape = {.n_inputs = 2, .n_opinions = 2};
    kiln_gp *g = kiln_gp_train(&shape, c.row[0], c.target, 20, NULL, NULL);
    int n = kiln_gp_choose(g, c.row[0], GP_POINTS, best, valid, 4, chosen, gain, NULL);
    assert_int_equal(n, 4);
    for (int i = 0; i < n; i++) {
        assert_in_range(chosen[i], 20, GP_POINTS - 1);
        assert_true(gain[i] >= 0);
        for (int j = 0; j < i; j++) assert_int_not_equal(chosen[i], chosen[j]);
    }
    for (int i = 20; i < GP_POINTS; i++) /* the first is among the best */
        assert_true(c.target[chosen[0]] <= c.target[i] + 0.05);
    /* A point that will not work is worth less. */
    valid[chosen[0]] = 0.01;
    int64_t other;
    assert_int_equal(kiln_gp_choose(g, c.row[0], GP_POINTS, best, valid, 1, &other, NULL, NULL), 1);
    assert_int_not_equal(other, chosen[0]);
    assert_int_equal(kiln_gp_choose(g, c.row[0], GP_POINTS, best, valid, GP_POINTS, chosen, NULL,
                                    NULL),
                     GP_POINTS - 20);
    kiln_gp_free(g);
}

static void gp_knows_nothing(void **state) {
    (void)state;
    float rows[3][2] = {{0, NAN}, {NAN, NAN}, {1, -5}};
    double mean[3], spread[3], target[2] = {1, 1};
    int64_t chosen[3];
    kiln_gp_shape shape = {.n_inputs = 1, .n_opinions = 1};
    for (int n = 0; n < 3; n++) { /* nothing, one outcome, two alike */
        kiln_gp *g = kiln_gp_train(&shape, rows[0], target, n, NULL, NULL);
        assert_int_equal(kiln_gp_predict(g, rows[0], 3, mean, spread, NULL), 0);
        for (int i = 0; i < 3; i++) assert_true(isfinite(mean[i]) && spread[i] > 0);
        assert_int_equal(kiln_gp_choose(g, rows[0], 3, NAN, NULL, 3, chosen, NULL, NULL), 3);
        kiln_gp_free(g);
    }
    kiln_gp_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learns),
        cmocka_unit_test(admits_ignorance),
        cmocka_unit_test(learns_validity),
        cmocka_unit_test(spread_of_members),
        cmocka_unit_test(clips),
        cmocka_unit_test(deterministic),
        cmocka_unit_test(few_rows),
        cmocka_unit_test(all_failed),
        cmocka_unit_test(constant_columns),
        cmocka_unit_test(bad_input),
        cmocka_unit_test(save_and_load),
        cmocka_unit_test(every_flip_refused),
        cmocka_unit_test(every_cut_refused),
        cmocka_unit_test(features_of_variants),
        cmocka_unit_test(groups_fill_their_columns),
        cmocka_unit_test(gp_interpolates),
        cmocka_unit_test(gp_weighs_opinions),
        cmocka_unit_test(gp_chooses),
        cmocka_unit_test(gp_knows_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Strategies on replayed spaces with a known optimum: the contract for every strategy in the
 * registry, then what each promises of itself. */
#include "search/frontier.h"
#include "search/guide.h"
#include "search/replay.h"
#include "search/source.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIDE = 5, POINTS = SIDE * SIDE * SIDE };

/* A cube of three knobs with one best corner region and a wall of failures. */
static double cube_seconds(const double *v) {
    double d = v[0] - 3;
    if (v[0] * v[1] > 10) return NAN;
    return 1e-3 * (1 + d * d + 0.5 * fabs(v[1] - 3) + 0.3 * (v[2] - 1) * d + 0.05 * v[2]);
}

static kiln_recording *make_cube(double (*seconds)(const double *)) {
    static double value[POINTS * 3], time[POINTS];
    const char *names[] = {"a", "b", "c"};
    kiln_error e = {0};
    for (int i = 0; i < POINTS; i++) {
        double *v = value + 3 * i;
        v[0] = i / SIDE / SIDE, v[1] = i / SIDE % SIDE, v[2] = i % SIDE;
        time[i] = seconds(v);
    }
    kiln_recording *r = kiln_recording_new("cube_x", 3, names, POINTS, value, time, &e);
    if (!r) fail_msg("%s", e.text);
    return r;
}

/* Two fifths fail, and failing points look no worse than others by their neighbours. */
static double half_walled(const double *v) {
    return v[1] > 2 ? NAN : 1e-3 * (1 + (v[0] - 3) * (v[0] - 3) + 0.1 * v[2]);
}
static double always_fails(const double *v) { return (void)v, NAN; }
static double always_odd(const double *v) {
    const double odd[] = {0, -1, INFINITY, NAN, -INFINITY, 1e-300, 1e300};
    return odd[(int)(v[0] + v[1] + v[2]) % 7];
}

static void *create(const kiln_strategy *s, const kiln_search_space *space, uint64_t seed) {
    kiln_error e = {0};
    void *state = s->create(space, &(kiln_search_options){.seed = seed, .batch = 4}, &e);
    if (!state) fail_msg("%s: %s", s->name, e.text);
    return state;
}

/* Asks for batches of changing size until nothing comes; returns how many came, all different. */
static int64_t drain(const kiln_strategy *s, const kiln_search_space *space, uint64_t seed,
                     bool tell, double (*seconds)(void *, int64_t)) {
    void *state = create(s, space, seed);
    char *spent = calloc(1, (size_t)space->n + 1);
    int64_t count = 0, points[13];
    for (int round = 0;; round++) {
        int want = 1 + round % 13, n = s->propose(state, want, points);
        assert_in_range(n, 0, want);
        if (n == 0) break;
        for (int i = 0; i < n; i++) {
            assert_in_range(points[i], 0, space->n - 1);
            assert_false(spent[points[i]]++);
            kiln_observation o = {points[i], seconds(space->context, points[i])};
            if (tell) s->observe(state, &o, 1);
        }
        count += n;
    }
    assert_int_equal(s->propose(state, 5, points), 0);
    free(spent);
    s->destroy(state);
    return count;
}

static double of_recording(void *context, int64_t point) {
    return kiln_recording_seconds(context, point);
}

#define EACH_STRATEGY(s)                                                                           \
    for (int index_ = 0; kiln_strategies[index_]; index_++)                                        \
        for (const kiln_strategy *s = kiln_strategies[index_]; s; s = NULL)

static void every_strategy_exhausts(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 1, true, of_recording), POINTS);
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 2, false, of_recording), POINTS);
    kiln_recording_free(r);
}

static void every_strategy_survives_failures(void **state) {
    (void)state;
    kiln_recording *r = make_cube(always_fails);
    kiln_search_space space = kiln_recording_space(r);
    assert_true(isnan(kiln_recording_best(r)));
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 3, true, of_recording), POINTS);
    kiln_recording_free(r);
}

static double odd_outcome(void *context, int64_t point) {
    (void)context;
    double v[] = {(double)point, 0, 0};
    return always_odd(v);
}

static void every_strategy_survives_odd_numbers(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 4, true, odd_outcome), POINTS);
    kiln_recording_free(r);
}

static void no_neighbours_no_features(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    space.neighbours = NULL;
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 5, true, of_recording), POINTS);
    space.n_features = 0;
    space.features = NULL;
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 6, true, of_recording), POINTS);
    for (space.n = 0; space.n <= 3; space.n++)
        EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 7, true, of_recording), space.n);
    kiln_recording_free(r);
}

static void unknown_points_are_ignored(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    const kiln_observation strange[] = {{-1, 1}, {POINTS, 1}, {INT64_MAX, 1}, {INT64_MIN, 1}, {-7, NAN}};
    EACH_STRATEGY(s) {
        void *x = create(s, &space, 8);
        int64_t points[POINTS];
        s->observe(x, strange, 5);
        s->observe(x, strange, 0);
        assert_int_equal(s->propose(x, POINTS, points), POINTS);
        s->destroy(x);
    }
    kiln_recording_free(r);
}

static void starts_come_first(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    const int64_t starts[] = {100, 7, 100, -3, POINTS, 42}; /* doubles and strangers among them */
    space.starts = starts;
    space.n_starts = 6;
    EACH_STRATEGY(s) {
        void *x = create(s, &space, 9);
        int64_t points[3];
        assert_int_equal(s->propose(x, 3, points), 3);
        assert_int_equal(points[0], 100);
        assert_int_equal(points[1], 7);
        assert_int_equal(points[2], 42);
        s->destroy(x);
    }
    EACH_STRATEGY(s) assert_int_equal(drain(s, &space, 9, true, of_recording), POINTS);
    kiln_recording_free(r);
}

/* A resumed session tells its history first: none of it may come again. */
static void resume_repeats_nothing(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    EACH_STRATEGY(s) {
        void *first = create(s, &space, 10), *second = create(s, &space, 11);
        int64_t done[60], points[POINTS];
        kiln_observation o[60];
        assert_int_equal(s->propose(first, 60, done), 60);
        for (int i = 0; i < 60; i++)
            o[59 - i] = (kiln_observation){done[i], kiln_recording_seconds(r, done[i])};
        s->observe(second, o, 60);
        int n = s->propose(second, POINTS, points);
        assert_int_equal(n, POINTS - 60);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < 60; j++) assert_int_not_equal(points[i], done[j]);
        s->destroy(first);
        s->destroy(second);
    }
    kiln_recording_free(r);
}

static int trace(const kiln_strategy *s, kiln_recording *r, uint64_t seed, int n, int64_t *out) {
    kiln_search_space space = kiln_recording_space(r);
    void *x = create(s, &space, seed);
    int count = 0;
    while (count < n) {
        int got = s->propose(x, 4, out + count);
        for (int i = 0; i < got; i++) {
            int64_t p = out[count + i];
            s->observe(x, &(kiln_observation){p, kiln_recording_seconds(r, p)}, 1);
        }
        count += got;
    }
    s->destroy(x);
    return count;
}

static void seeds_reproduce(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    EACH_STRATEGY(s) {
        int64_t a[84], b[84], c[84];
        int n = trace(s, r, 21, 80, a);
        assert_int_equal(trace(s, r, 21, 80, b), n);
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
        trace(s, r, 22, 80, c);
        if (strcmp(s->name, "exhaustive"))
            assert_memory_not_equal(a, c, (size_t)n * sizeof *a);
    }
    kiln_recording_free(r);
}

/* ---- a space too large to score whole ---- */

enum { LARGE_SIDE = 200 };
static void large_features(void *context, int64_t point, float *out) {
    (void)context;
    out[0] = (float)(point / LARGE_SIDE / LARGE_SIDE);
    out[1] = (float)(point / LARGE_SIDE % LARGE_SIDE);
    out[2] = (float)(point % LARGE_SIDE);
}

static int large_neighbours(void *context, int64_t point, int64_t *out, int max) {
    (void)context;
    int n = 0;
    for (int64_t step = 1; step <= LARGE_SIDE * LARGE_SIDE; step *= LARGE_SIDE)
        for (int sign = -1; sign <= 1; sign += 2) {
            int64_t digit = point / step % LARGE_SIDE + sign;
            if (digit >= 0 && digit < LARGE_SIDE && n < max) out[n++] = point + sign * step;
        }
    return n;
}

static double large_seconds(int64_t point) {
    float x[3];
    large_features(NULL, point, x);
    return 1 + 0.01 * (fabsf(x[0] - 77) + fabsf(x[1] - 123) + fabsf(x[2] - 31));
}

/* Eight million points: 20,000 are scored, and the leaders' surroundings lead the rest of the way. */
static void large_space(void **state) {
    (void)state;
    const char *names[] = {"x", "y", "z"};
    kiln_search_space space = {.n = (int64_t)LARGE_SIDE * LARGE_SIDE * LARGE_SIDE,
                               .n_features = 3,
                               .feature_names = names,
                               .features = large_features,
                               .neighbours = large_neighbours};
    const kiln_strategy *s = kiln_strategy_find("model");
    void *x = create(s, &space, 30);
    double best = INFINITY;
    for (int round = 0; round < 20; round++) {
        int64_t points[8];
        assert_int_equal(s->propose(x, 8, points), 8);
        for (int i = 0; i < 8; i++) {
            double t = large_seconds(points[i]);
            best = fmin(best, t);
            s->observe(x, &(kiln_observation){points[i], t}, 1);
        }
    }
    s->destroy(x);
    assert_true(best < 1.15); /* chance: 160 draws come to about 1.45 */
}

/* ---- quality, with wide margins: behaviour, not a benchmark ---- */

static double median_to(kiln_recording *r, const char *strategy, int evaluations, int level) {
    kiln_replay_result x;
    kiln_error e = {0};
    kiln_replay_options o = {.strategy = kiln_strategy_find(strategy),
                             .seeds = 9,
                             .evaluations = evaluations,
                             .stop_when_found = true};
    if (kiln_replay_run(r, &o, &x, &e)) fail_msg("%s", e.text);
    double median = kiln_replay_median(&x, level);
    kiln_replay_result_free(&x);
    return median;
}

static void model_finds_the_optimum_sooner(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = kiln_recording_read("tests/data/spaces/convm1_A4000.csv.gz", &e);
    if (!r) fail_msg("%s", e.text);
    double model = median_to(r, "model", 60, 0), chance = median_to(r, "random", 60, 0);
    assert_true(model < 0.7 * chance);
    kiln_recording_free(r);
    r = make_cube(cube_seconds);
    assert_true(median_to(r, "model", 120, 2) < 0.6 * median_to(r, "random", 120, 2));
    assert_true(median_to(r, "evolve", 120, 2) < median_to(r, "random", 120, 2));
    kiln_recording_free(r);
}

static void model_avoids_failures(void **state) {
    (void)state;
    kiln_recording *r = make_cube(half_walled);
    kiln_replay_options o = {.seeds = 5, .evaluations = 60};
    kiln_replay_result x;
    double share[2];
    const char *names[] = {"random", "model"};
    for (int i = 0; i < 2; i++) {
        o.strategy = kiln_strategy_find(names[i]);
        assert_int_equal(kiln_replay_run(r, &o, &x, NULL), 0);
        share[i] = (double)x.failures / (double)x.proposed;
        kiln_replay_result_free(&x);
    }
    assert_true(share[1] < 0.6 * share[0]);
    kiln_recording_free(r);
}

static void model_predicts(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    const kiln_strategy *s = kiln_strategy_find("model");
    void *x = create(s, &space, 40);
    assert_true(isnan(s->predict(x, 0)));
    for (int64_t p = 0; p < POINTS; p += 2)
        s->observe(x, &(kiln_observation){p, kiln_recording_seconds(r, p)}, 1);
    int64_t one;
    double rank, recall;
    s->quality(x, &rank, &recall);
    assert_true(isnan(rank));
    s->propose(x, 1, &one);
    s->quality(x, &rank, &recall);
    assert_true(rank > 0.7 && rank <= 1);
    double t = s->predict(x, 3 * SIDE * SIDE + 3 * SIDE), best = kiln_recording_best(r);
    assert_true(t > 0.5 * best && t < 2 * best);
    assert_true(s->predict(x, 0) > 2 * best);
    assert_true(isnan(s->predict(x, POINTS)) && isnan(s->predict(x, -1)));
    s->destroy(x);
    kiln_recording_free(r);
}

/* ---- transfer ---- */

static void transfer_helps_and_does_not_harm(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = kiln_recording_read("tests/data/spaces/coulomb_GTX1070.csv.gz", &e);
    kiln_recording *other = kiln_recording_read("tests/data/spaces/coulomb_RTX2080Ti.csv.gz", &e);
    if (!r || !other) fail_msg("%s", e.text);
    const kiln_recording *sources[] = {other};
    double alone = median_to(r, "model", 120, 1);
    assert_int_equal(kiln_recording_transfer(r, sources, 1, &e), 0);
    assert_true(median_to(r, "model", 120, 1) <= 0.5 * alone);
    kiln_recording_free(r);
    kiln_recording_free(other);
    /* A prior that is exactly wrong costs little. */
    r = make_cube(cube_seconds);
    double value[POINTS * 3], upside_down[POINTS];
    for (int i = 0; i < POINTS; i++) {
        value[3 * i] = i / SIDE / SIDE, value[3 * i + 1] = i / SIDE % SIDE, value[3 * i + 2] = i % SIDE;
        upside_down[i] = 1e-6 / kiln_recording_seconds(r, i);
    }
    other = kiln_recording_new("cube_y", 3, (const char *const[]){"a", "b", "c"}, POINTS, value,
                               upside_down, &e);
    sources[0] = other;
    alone = median_to(r, "model", 120, 2);
    assert_int_equal(kiln_recording_transfer(r, sources, 1, &e), 0);
    double misled = median_to(r, "model", 120, 2);
    assert_true(misled <= alone + 16);
    kiln_recording_free(r);
    kiln_recording_free(other);
}

/* Two sources, one of them shuffled: the other is heard. Both shuffled: little is lost. */
static void sources_are_weighed(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = make_cube(cube_seconds), *truth = make_cube(cube_seconds), *false_;
    double value[POINTS * 3], shuffled[POINTS];
    for (int i = 0; i < POINTS; i++) {
        value[3 * i] = i / SIDE / SIDE, value[3 * i + 1] = i / SIDE % SIDE, value[3 * i + 2] = i % SIDE;
        shuffled[i] = kiln_recording_seconds(r, kiln_search_shuffled(POINTS, 9, i));
    }
    false_ = kiln_recording_new("cube_z", 3, (const char *const[]){"a", "b", "c"}, POINTS, value,
                                shuffled, &e);
    const kiln_recording *sources[] = {false_, truth};
    double alone = median_to(r, "model", 120, 2);
    assert_int_equal(kiln_recording_transfer(r, sources, 2, &e), 0);
    assert_int_equal(kiln_recording_space(r).n_opinions, 2);
    assert_true(median_to(r, "model", 120, 2) < alone);
    /* Shuffled opinions are seen for what they are, and cost nothing; those of another kernel cost
     * some. */
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_SHUFFLED, 1, &e), 0);
    assert_true(median_to(r, "model", 120, 2) == alone);
    assert_int_equal(kiln_recording_transfer(r, sources, 2, &e), 0);
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_INVENTED, 1, &e), 0);
    assert_true(median_to(r, "model", 120, 2) <= 1.3 * alone + 4);
    assert_int_equal(kiln_recording_transfer(r, NULL, 0, &e), 0);
    assert_int_equal(kiln_recording_space(r).n_opinions, 0);
    assert_true(kiln_recording_space(r).prior == NULL);
    kiln_recording_free(r), kiln_recording_free(truth), kiln_recording_free(false_);
}

static void sources_are_told_apart(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = make_cube(cube_seconds), *truth = make_cube(cube_seconds);
    const kiln_recording *sources[] = {truth, truth};
    int64_t point[POINTS], pairs;
    kiln_sources heard;
    for (int i = 0; i < POINTS; i++) point[i] = i;
    for (int how = KILN_MISLEAD_NOT; how <= KILN_MISLEAD_INVENTED; how++) {
        assert_int_equal(kiln_recording_transfer(r, sources, 2, &e), 0);
        assert_int_equal(kiln_recording_mislead(r, (enum kiln_mislead)how, 5, &e), 0);
        kiln_search_space space = kiln_recording_space(r);
        double regular = kiln_source_regularity(&space, 1, point, POINTS, &pairs);
        assert_true(how == KILN_MISLEAD_SHUFFLED ? fabs(regular) < 0.25 : regular > 0.6);
        kiln_sources_open(&heard, &space, point, POINTS);
        assert_int_equal(heard.n, how == KILN_MISLEAD_SHUFFLED ? 0 : 2);
        assert_true(heard.some == (how == KILN_MISLEAD_SHUFFLED));
        /* The same twice, two inventions, nobody left. */
        assert_true(how == KILN_MISLEAD_NOT        ? heard.agreement > 0.999
                    : how == KILN_MISLEAD_INVENTED ? fabs(heard.agreement) < 0.9
                                                   : isnan(heard.agreement));
        /* Where neighbours are unknown nothing is held against anyone. */
        space.neighbours = NULL;
        kiln_sources_open(&heard, &space, point, POINTS);
        assert_int_equal(heard.n, 2);
    }
    kiln_recording_free(r), kiln_recording_free(truth);
}

/* The probability that a guide gives opinions after it saw every `each`th outcome (0: none). */
static double belief_in(kiln_recording *r, int each) {
    kiln_search_space space = kiln_recording_space(r);
    kiln_sources heard;
    int64_t point[POINTS];
    double chance[POINTS];
    for (int i = 0; i < POINTS; i++) point[i] = i, chance[i] = 1;
    kiln_sources_open(&heard, &space, point, POINTS);
    kiln_guide *g = kiln_guide_open(&heard, point, POINTS, NULL);
    for (int i = 0; each && i < POINTS; i += each)
        kiln_guide_tell(g, i, kiln_recording_seconds(r, i));
    assert_true(kiln_guide_look(g, point, POINTS, chance));
    double belief = kiln_guide_belief(g);
    kiln_guide_close(g);
    return belief;
}

static void belief_follows_agreement_and_outcomes(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = make_cube(cube_seconds), *truth = make_cube(cube_seconds);
    const kiln_recording *sources[] = {truth, truth};
    assert_int_equal(kiln_recording_transfer(r, sources, 2, &e), 0);
    double agreed = belief_in(r, 0), borne_out = belief_in(r, 9);
    assert_true(agreed > 0.95 && borne_out > agreed);
    /* Two inventions agree by chance only, and outcomes refute them. */
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_INVENTED, 5, &e), 0);
    assert_true(belief_in(r, 0) < agreed - 0.01);
    assert_true(belief_in(r, 9) < 0.05);
    /* Of one alone it cannot be told before outcomes. */
    assert_int_equal(kiln_recording_transfer(r, sources, 1, &e), 0);
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_INVENTED, 5, &e), 0);
    assert_true(fabs(belief_in(r, 0) - agreed) < 1e-9);
    assert_true(belief_in(r, 4) < 0.5);
    kiln_recording_free(r), kiln_recording_free(truth);
}

/* Times change places and no more, and otherwise for another seed. */
static void inventions_keep_the_times(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = make_cube(cube_seconds), *truth = make_cube(cube_seconds);
    const kiln_recording *sources[] = {truth};
    double sum = 0, invented = 0, other = 0;
    assert_int_equal(kiln_recording_transfer(r, sources, 1, &e), 0);
    kiln_search_space space = kiln_recording_space(r);
    for (int64_t i = 0; i < POINTS; i++) sum += space.opinion(space.context, 0, i);
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_INVENTED, 1, &e), 0);
    double before = space.opinion(space.context, 0, 7);
    for (int64_t i = 0; i < POINTS; i++) invented += space.opinion(space.context, 0, i);
    assert_int_equal(kiln_recording_mislead(r, KILN_MISLEAD_INVENTED, 2, &e), 0);
    for (int64_t i = 0; i < POINTS; i++) other += space.opinion(space.context, 0, i);
    assert_true(fabs(invented / sum - 1) < 1e-9 && fabs(other / sum - 1) < 1e-9);
    assert_true(before != space.opinion(space.context, 0, 7));
    kiln_recording_free(r), kiln_recording_free(truth);
}

static void model_expects_less_and_less(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    kiln_search_space space = kiln_recording_space(r);
    const kiln_strategy *s = kiln_strategy_find("model");
    void *x = create(s, &space, 3);
    int64_t p[5];
    double gain = 0, early = NAN;
    assert_true(isnan(s->expected_gain(x, 4)));
    for (int n = 0, got; (got = s->propose(x, 5, p)) > 0; n += got) {
        for (int i = 0; i < got; i++)
            s->observe(x, &(kiln_observation){p[i], kiln_recording_seconds(r, p[i])}, 1);
        gain = s->expected_gain(x, 5);
        assert_true(gain >= 0 && gain < 1);
        if (n == 10) early = gain;
        if (n == 60) assert_true(gain < 0.5 * early);
    }
    assert_true(gain == 0); /* nothing is left */
    s->destroy(x);
    kiln_recording_free(r);
}

/* ---- replay itself ---- */

static void reads_recordings(void **state) {
    (void)state;
    kiln_error e = {0};
    kiln_recording *r = kiln_recording_read("tests/data/spaces/coulomb_GTX1070.csv.gz", &e);
    if (!r) fail_msg("%s", e.text);
    kiln_search_space space = kiln_recording_space(r);
    assert_int_equal(space.n, 210);
    assert_int_equal(kiln_recording_failures(r), 0);
    assert_string_equal(kiln_recording_name(r), "coulomb_GTX1070");
    assert_true(fabs(kiln_recording_best(r) - 5.089088e-3) < 1e-8);
    assert_string_equal(space.feature_names[0], "INNER_UNROLL_FACTOR");
    kiln_recording_free(r);
    r = kiln_recording_read("tests/data/spaces/convm1_A4000.csv.gz", &e);
    if (!r) fail_msg("%s", e.text);
    assert_int_equal(kiln_recording_space(r).n, 2442);
    assert_int_equal(kiln_recording_failures(r), 176);
    kiln_recording_free(r);
}

static void neighbours_are_mutual(void **state) {
    (void)state;
    kiln_recording *r = kiln_recording_read("tests/data/spaces/convm1_A4000.csv.gz", NULL);
    kiln_search_space space = kiln_recording_space(r);
    for (int64_t p = 0; p < space.n; p++) {
        int64_t near[64], back[64];
        int n = space.neighbours(space.context, p, near, 64), found = 0;
        assert_true(n > 0);
        assert_int_equal(space.neighbours(space.context, p, back, 1), 1);
        for (int i = 0; i < n; i++) {
            int m = space.neighbours(space.context, near[i], back, 64);
            for (int k = 0; k < m; k++) found += back[k] == p;
        }
        assert_int_equal(found, n);
    }
    kiln_recording_free(r);
}

static void refuses(const char *text, const char *expected) {
    char path[] = "/tmp/kiln-recording-XXXXXX";
    kiln_error e = {0};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    kiln_recording *r = kiln_recording_read(path, &e);
    unlink(path);
    assert_null(r);
    assert_true(e.status < 0);
    if (!strstr(e.text, expected)) fail_msg("'%s' does not say '%s'", e.text, expected);
}

static void refuses_bad_recordings(void **state) {
    (void)state;
    kiln_error e = {0};
    assert_null(kiln_recording_read("/nowhere/x.csv.gz", &e));
    assert_non_null(strstr(e.text, "/nowhere/x.csv.gz"));
    refuses("", "empty");
    refuses("a,b\n1,2\n", "time_ms");
    refuses("time_ms,status\n1,ok\n", "parameters");
    refuses("a,time_ms,status\n", "0 points");
    refuses("a,time_ms,status\n1,2,ok\n1,2\n", "line 3");
    refuses("a,time_ms,status\n1,fast,ok\n", "line 2");
    refuses("a,time_ms,status\n1,-2,ok\n", "line 2");
    refuses("a,time_ms,status\n1,nan,ok\n", "line 2");
    refuses("\x1f\x8b\x08garbage", "");
}

static void words_are_categories(void **state) {
    (void)state;
    char path[] = "/tmp/kiln-recording-XXXXXX";
    const char *text = "mode,n,time_ms,status\r\nfast,1,2,ok\r\nslow,1,,timeout\r\n\r\nfast,2,3,ok\r\n";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    kiln_error e = {0};
    kiln_recording *r = kiln_recording_read(path, &e);
    unlink(path);
    if (!r) fail_msg("%s", e.text);
    float a[8], b[8];
    kiln_search_space space = kiln_recording_space(r);
    assert_int_equal(space.n, 3);
    assert_int_equal(kiln_recording_failures(r), 1);
    space.features(space.context, 0, a);
    space.features(space.context, 2, b);
    assert_true(a[0] == b[0] && a[1] != b[1]);
    kiln_recording_free(r);
}

static void prints_a_table(void **state) {
    (void)state;
    const char *paths[] = {"tests/data/spaces/coulomb_GTX1070.csv.gz",
                           "tests/data/spaces/coulomb_RTX2080Ti.csv.gz"};
    kiln_text table = {0}, curves = {0};
    kiln_error e = {0};
    kiln_replay_options o = {.strategy = kiln_strategy_find("exhaustive"), .seeds = 3};
    if (kiln_replay_table(paths, 2, &o, true, &table, &curves, &e)) fail_msg("%s", e.text);
    assert_non_null(strstr(kiln_text_get(&table), "| coulomb_GTX1070 "));
    assert_non_null(strstr(kiln_text_get(&table), "| geometric mean "));
    /* The whole space was seen: the last line of its curve is the optimum. */
    assert_non_null(strstr(kiln_text_get(&curves), "coulomb_GTX1070 210 1.0000 1.0000 1.0000\n"));
    kiln_text_free(&table);
    kiln_text_free(&curves);
    o.strategy = NULL;
    assert_int_equal(kiln_replay_table(paths, 2, &o, false, &table, NULL, &e), KILN_BAD_INPUT);
    o.strategy = kiln_strategy_find("random");
    paths[1] = "tests/data/spaces/missing.csv.gz";
    assert_int_equal(kiln_replay_table(paths, 2, &o, false, &table, NULL, &e), KILN_IO);
    kiln_text_free(&table);
}

/* A replay must notice a strategy that cheats. */
static int propose_twice(void *state, int n, int64_t *points) {
    (void)state;
    for (int i = 0; i < n; i++) points[i] = 3;
    return n;
}
static int propose_outside(void *state, int n, int64_t *points) {
    (void)state;
    points[0] = POINTS;
    return n > 0;
}
static int propose_nothing(void *state, int n, int64_t *points) {
    (void)state, (void)n, (void)points;
    return 0;
}
static void *create_nothing(const kiln_search_space *s, const kiln_search_options *o, kiln_error *e) {
    (void)s, (void)o, (void)e;
    static int something;
    return &something;
}
static void observe_nothing(void *state, const kiln_observation *o, int n) {
    (void)state, (void)o, (void)n;
}
static void destroy_nothing(void *state) { (void)state; }

static void replay_catches_cheats(void **state) {
    (void)state;
    kiln_recording *r = make_cube(cube_seconds);
    int (*const cheats[])(void *, int, int64_t *) = {propose_twice, propose_outside, propose_nothing};
    for (int i = 0; i < 3; i++) {
        kiln_strategy s = {.name = "cheat",
                           .create = create_nothing,
                           .propose = cheats[i],
                           .observe = observe_nothing,
                           .destroy = destroy_nothing};
        kiln_replay_options o = {.strategy = &s};
        kiln_replay_result x;
        kiln_error e = {0};
        assert_int_equal(kiln_replay_run(r, &o, &x, &e), KILN_WRONG);
        assert_non_null(strstr(e.text, "cheat"));
    }
    kiln_recording_free(r);
}

static void shuffles_are_permutations(void **state) {
    (void)state;
    const int64_t sizes[] = {1, 2, 3, 4, 5, 16, 17, 1000, 4096, 4097};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++)
        for (uint64_t seed = 0; seed < 3; seed++) {
            char spent[5000] = {0};
            for (int64_t i = 0; i < sizes[k]; i++) {
                int64_t p = kiln_search_shuffled(sizes[k], seed, i);
                assert_in_range(p, 0, sizes[k] - 1);
                assert_false(spent[p]++);
            }
        }
    int64_t huge = (int64_t)1 << 60;
    assert_in_range(kiln_search_shuffled(huge, 1, huge - 1), 0, huge - 1);
}

static void strategies_are_found(void **state) {
    (void)state;
    EACH_STRATEGY(s) {
        assert_ptr_equal(kiln_strategy_find(s->name), s);
        assert_true(s->help[0]);
    }
    assert_non_null(kiln_strategy_find("model"));
    assert_non_null(kiln_strategy_find("random"));
    assert_non_null(kiln_strategy_find("evolve"));
    assert_non_null(kiln_strategy_find("exhaustive"));
    assert_null(kiln_strategy_find("magic"));
    kiln_error e = {0};
    EACH_STRATEGY(s) {
        assert_null(s->create(&(kiln_search_space){.n = -1}, NULL, &e));
        assert_int_equal(e.status, KILN_BAD_INPUT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strategies_are_found),
        cmocka_unit_test(every_strategy_exhausts),
        cmocka_unit_test(every_strategy_survives_failures),
        cmocka_unit_test(every_strategy_survives_odd_numbers),
        cmocka_unit_test(no_neighbours_no_features),
        cmocka_unit_test(unknown_points_are_ignored),
        cmocka_unit_test(starts_come_first),
        cmocka_unit_test(resume_repeats_nothing),
        cmocka_unit_test(seeds_reproduce),
        cmocka_unit_test(large_space),
        cmocka_unit_test(model_finds_the_optimum_sooner),
        cmocka_unit_test(model_avoids_failures),
        cmocka_unit_test(model_predicts),
        cmocka_unit_test(transfer_helps_and_does_not_harm),
        cmocka_unit_test(sources_are_weighed),
        cmocka_unit_test(sources_are_told_apart),
        cmocka_unit_test(belief_follows_agreement_and_outcomes),
        cmocka_unit_test(inventions_keep_the_times),
        cmocka_unit_test(model_expects_less_and_less),
        cmocka_unit_test(reads_recordings),
        cmocka_unit_test(neighbours_are_mutual),
        cmocka_unit_test(refuses_bad_recordings),
        cmocka_unit_test(words_are_categories),
        cmocka_unit_test(prints_a_table),
        cmocka_unit_test(replay_catches_cheats),
        cmocka_unit_test(shuffles_are_permutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

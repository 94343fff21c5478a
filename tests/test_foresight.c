/* The model that ships: forests as text, what a school learns, whom it advises. */
#include "base/hash.h"
#include "cost-model/slowdown.h"
#include "kernels/emit.h"
#include "tuner/identity.h"
#include "tuner/recorded.h"
#include "tuner/foresight.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 200, WIDTH = 3 };

static void make_rows(float *rows, double *target) {
    for (int i = 0; i < ROWS; i++) {
        float *x = rows + i * WIDTH;
        for (int k = 0; k < WIDTH; k++)
            x[k] = (float)kiln_random_unit(5, (uint64_t)(WIDTH * i + k));
        if (i % 7 == 0) x[2] = NAN;
        target[i] = (x[0] > 0.5 ? 1 : -1) + 0.5 * x[1] + (isnan(x[2]) ? 3 : 0);
    }
}

static kiln_forest *make_forest(const char *name, int rounds) {
    static float rows[ROWS * WIDTH];
    double target[ROWS];
    const char *const names[] = {"a", "b.c", "d e"};
    kiln_forest_options o = {.depth = 4, .rounds = rounds, .eta = 0.3};
    kiln_error e = {0};
    make_rows(rows, target);
    kiln_forest *f = kiln_forest_train(name, names, WIDTH, rows, target, NULL, ROWS, &o, &e);
    if (!f) fail_msg("%s", e.text);
    return f;
}

static void forest_learns(void **state) {
    (void)state;
    kiln_forest *f = make_forest("one", 300);
    const float low[] = {0.2f, 0.5f, 0.5f}, high[] = {0.8f, 0.5f, 0.5f}, none[] = {0.8f, 0.5f, NAN};
    /* -0.75, 1.25 and 4.25, drawn together: a tree sees half of the features. */
    double y = kiln_forest_predict(f, low);
    assert_true(fabs(y + 0.75) < 0.3);
    assert_true(kiln_forest_predict(f, high) > y + 1.5);
    assert_true(kiln_forest_predict(f, none) > y + 3.5);
    assert_string_equal(kiln_forest_feature(f, 2), "d e");
    kiln_forest_free(f);
    kiln_error e = {0};
    assert_null(kiln_forest_train("none", NULL, 0, NULL, NULL, NULL, 0, NULL, &e));
    assert_non_null(strstr(e.text, "at least a row"));
}

static void forests_round_trip(void **state) {
    (void)state;
    const kiln_forest *both[] = {make_forest("one", 20), make_forest("two", 5)};
    kiln_forest *read[3] = {0};
    kiln_text text = {0}, again = {0}, about = {0};
    kiln_forest_print(both, 2, "made here\nin two lines", &text);
    assert_int_equal(kiln_forest_parse(kiln_text_get(&text), read, 3, &about, NULL), 2);
    assert_string_equal(kiln_text_get(&about), "made here\nin two lines\n");
    assert_string_equal(kiln_forest_name(read[1]), "two");
    kiln_forest_print((const kiln_forest *const *)read, 2, kiln_text_get(&about), &again);
    assert_string_equal(kiln_text_get(&text), kiln_text_get(&again));
    for (int i = 0; i < 50; i++) {
        float x[WIDTH];
        for (int k = 0; k < WIDTH; k++) x[k] = (float)kiln_random_unit(6, (uint64_t)(3 * i + k));
        assert_true(kiln_forest_predict(both[0], x) == kiln_forest_predict(read[0], x));
    }
    kiln_error e = {0};
    assert_true(kiln_forest_parse(kiln_text_get(&text), read + 2, 1, NULL, &e) < 0);
    for (int i = 0; i < 2; i++) kiln_forest_free((kiln_forest *)both[i]), kiln_forest_free(read[i]);
    kiln_text_free(&text), kiln_text_free(&again), kiln_text_free(&about);
}

static bool refused(const char *text, const char *why) {
    kiln_forest *read[4];
    kiln_error e = {0};
    int n = kiln_forest_parse(text, read, 4, NULL, &e);
    for (int i = 0; i < n; i++) kiln_forest_free(read[i]);
    return n < 0 && e.text[0] && (!why || strstr(e.text, why));
}

static void changes_are_refused(void **state) {
    (void)state;
    kiln_forest *f = make_forest("one", 2);
    const kiln_forest *all[] = {f};
    kiln_text text = {0};
    kiln_forest_print(all, 1, NULL, &text);
    for (size_t i = 0; i < text.size; i++) {
        char old = text.data[i];
        text.data[i] = (char)(old ^ 1);
        assert_true(refused(text.data, NULL));
        text.data[i] = 0;
        assert_true(refused(text.data, NULL));
        text.data[i] = old;
    }
    kiln_text_free(&text);
    kiln_forest_free(f);
}

/* With a hash that fits. */
static bool forged_refused(const char *body, const char *why) {
    uint8_t digest[32];
    char hex[65], text[1024];
    kiln_sha256_of(body, strlen(body), digest);
    kiln_hex(digest, 32, hex);
    snprintf(text, sizeof text, "kiln-forest 1\nsha256 %s\n%s", hex, body);
    return refused(text, why);
}

static void forgeries_are_refused(void **state) {
    (void)state;
    const char *head = "forest x features 1 trees 1\nfeature a\n";
    char body[512];
    const char *trees[] = {
        "tree 3\n0 1 0 1 2\n= 1\n= 2\n",  /* a circle */
        "tree 3\n0 1 1 3 2\n= 1\n= 2\n",  /* out of the tree */
        "tree 3\n1 1 1 2 2\n= 1\n= 2\n",  /* no such feature */
        "tree 3\n-1 1 1 2 2\n= 1\n= 2\n", "tree 3\n0 nan 1 2 2\n= 1\n= 2\n",
        "tree 1\n= inf\n", "tree 1\n= 1 2\n", "tree 2\n= 1\n", "tree 0\n", "tree 99999999\n= 1\n",
        "",
    };
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        snprintf(body, sizeof body, "%s%s", head, trees[i]);
        if (!forged_refused(body, "line")) fail_msg("taken: %s", body);
    }
    assert_true(forged_refused("forest x features 0 trees 1\n", "line 3"));
    assert_true(forged_refused("forest x features 1 trees 1\nfeatur a\n", "line 4"));
    assert_true(forged_refused("nonsense\n", "line 3"));
    snprintf(body, sizeof body, "%stree 1\n= 1\n", head);
    assert_false(forged_refused(body, NULL));
}

/* ---- what is learnt of a problem */

static void lessons_are_about_order(void **state) {
    (void)state;
    const double seconds[] = {2, 1, NAN, 100, 4}, failed[] = {NAN, NAN};
    const double none[] = {0, 0, 0, 0, 0}, known[] = {0.5, 0, 0, 0, 0};
    double target[5], weight[5], slow[5], same[5], sum = 0;
    assert_true(kiln_slowdown_lesson(seconds, NULL, 5, target, weight));
    for (int i = 0; i < 5; i++) sum += weight[i] * target[i];
    assert_true(fabs(sum) < 1e-12);
    assert_true(fabs(target[0] - target[1] - log(2)) < 1e-12);
    assert_true(target[2] == target[3]); /* both as slow as anything */
    assert_true(fabs(target[3] - target[1] - log(kiln_slowdown_clip)) < 1e-12);
    assert_true(fabs(weight[1] / weight[4] - 64) < 1e-9);
    /* A problem that takes ten times as long teaches the same. */
    double tenfold[5];
    for (int i = 0; i < 5; i++) tenfold[i] = 10 * seconds[i];
    assert_true(kiln_slowdown_lesson(tenfold, none, 5, slow, same));
    for (int i = 0; i < 5; i++) assert_true(fabs(slow[i] - target[i]) < 1e-12 && same[i] == weight[i]);
    assert_true(kiln_slowdown_lesson(seconds, known, 5, slow, same));
    assert_true(fabs(slow[0] - slow[1] - (log(2) - 0.5)) < 1e-12);
    assert_false(kiln_slowdown_lesson(failed, NULL, 2, slow, same));
}

/* ---- what ships */

static kiln_caps h200(void) {
    kiln_caps caps;
    kiln_error e = {0};
    if (kiln_identity_parse("cuda | NVIDIA H200 | sm_90a | 132 units | 143155 MiB | "
                            "driver 580.159.04 CUDA 13.0 | NVRTC 13.0",
                            &caps, NULL, &e))
        fail_msg("%s", e.text);
    return caps;
}

static void it_ships(void **state) {
    (void)state;
    kiln_error e = {0};
    const kiln_shipped *m = kiln_shipped_embedded(&e);
    if (!m) fail_msg("no model is embedded: %s", e.text);
    kiln_text text = {0};
    kiln_shipped_print(m, &text);
    assert_string_equal(kiln_text_get(&text), kiln_embedded(KILN_SHIPPED_PATH));
    assert_true(text.size < 4000000);
    kiln_text_free(&text);
}

static double slowdown(kiln_foresight *f, const kiln_problem *p, const char *text) {
    kiln_schedule s;
    kiln_error e = {0};
    if (kiln_schedule_parse(p->family, &s, text, &e)) fail_msg("%s", e.text);
    return kiln_foresight_slowdown(f, &s);
}

/* A size that no record holds: tensor cores, and large tiles for large problems. */
static void it_orders_new_sizes(void **state) {
    (void)state;
    kiln_problem p;
    kiln_caps caps = h200();
    kiln_error e = {0};
    const char *text = "matmul m=6144 n=6144 k=6144 a=bf16 b=bf16 out=bf16 tb=1";
    assert_int_equal(kiln_problem_parse(&p, text, &e), 0);
    kiln_foresight *f = kiln_foresight_open(kiln_shipped_embedded(NULL), &p, &caps, &e);
    assert_non_null(f);
    double simt = slowdown(f, &p, "simt tm=128 tn=128 tk=16 rm=8 rn=8 va=4 vb=4 vo=4 buffers=2 "
                                  "split=1 group=8 pad=4");
    double small = slowdown(f, &p, "mma_sm80 tm=64 tn=64 tk=32 warps_m=2 warps_n=4 stages=5 "
                                   "group=4 split=1 resident=3 copy=16 store=8");
    double large = slowdown(f, &p, "mma_sm80 tm=128 tn=256 tk=64 warps_m=2 warps_n=4 stages=4 "
                                   "group=8 split=1 resident=1 copy=16 store=8");
    assert_true(large < small && small < simt);
    kiln_foresight_close(f);
    snprintf(caps.name, sizeof caps.name, "%s", "NVIDIA Unheard Of");
    assert_null(kiln_foresight_open(kiln_shipped_embedded(NULL), &p, &caps, &e));
    assert_null(kiln_foresight_open(NULL, &p, &caps, &e));
    assert_int_equal(e.status, 0);
}

static void left_out_problems_are_foretold(void **state) {
    (void)state;
    kiln_recording **all = NULL;
    int n = 0;
    kiln_text notes = {0};
    kiln_error e = {0};
    kiln_recorded_options o = {.prior = true, .model = true, .least = 8};
    const char *path = "results/data/amd-epyc-pocl.jsonl";
    if (kiln_recorded_read(path, &o, &all, &n, &notes, &e)) fail_msg("%s", e.text);
    const char *said = strstr(kiln_text_get(&notes), "By a model of the other problems");
    double first = 0, three = 0;
    assert_non_null(said);
    assert_int_equal(sscanf(said, "By a model of the other problems: the first pick has %lf of the "
                                  "best's speed, the best of three %lf", &first, &three), 2);
    assert_true(first > 0.5 && first <= three && three <= 1);
    for (int i = 0; i < n; i++) {
        assert_true(kiln_recording_space(all[i]).prior != NULL);
        kiln_recording_free(all[i]);
    }
    free(all);
    kiln_text_free(&notes);
}

static void a_model_is_made(void **state) {
    (void)state;
    const char *path[] = {"results/data/amd-epyc-pocl.jsonl"};
    const char *none[] = {"results/data/absent.jsonl"};
    char output[] = "/tmp/kiln_model_XXXXXX";
    kiln_text notes = {0};
    kiln_error e = {0};
    int fd = mkstemp(output);
    assert_true(fd >= 0);
    if (kiln_shipped_make(path, 1, output, &notes, &e)) fail_msg("%s", e.text);
    assert_non_null(strstr(kiln_text_get(&notes), "sha256 "));
    FILE *f = fopen(output, "r");
    char line[32] = "";
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_string_equal(line, "kiln-forest 1\n");
    fclose(f);
    remove(output);
    assert_true(kiln_shipped_make(none, 1, output, &notes, &e) < 0);
    assert_non_null(strstr(e.text, "absent.jsonl"));
    assert_true(kiln_shipped_make(path, 1, "/nonexistent/model", &notes, &e) < 0);
    assert_non_null(strstr(e.text, "/nonexistent/model"));
    kiln_text_free(&notes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forest_learns),         cmocka_unit_test(forests_round_trip),
        cmocka_unit_test(changes_are_refused),   cmocka_unit_test(forgeries_are_refused),
        cmocka_unit_test(lessons_are_about_order),
        cmocka_unit_test(it_ships),              cmocka_unit_test(it_orders_new_sizes),
        cmocka_unit_test(left_out_problems_are_foretold), cmocka_unit_test(a_model_is_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The evaluator of rows where it works in parts: shared among threads, in vectors, in pieces of
 * columns, from arrays and from the rule that makes inputs. What it must give is written down once
 * more, as plainly as can be. No device is needed. */
#include "base/hash.h"
#include "base/parallel.h"
#include "kernels/family.h"
#include "kernels/input.h"
#include "kernels/matmul/matmul.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEED = 5 };

static kiln_problem problem_of(const char *text) {
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    return p;
}

/* ---- parts of work */

typedef struct tally {
    int64_t n, grain;
    int *seen;
} tally;

/* Parts do not overlap, so nobody else writes here. */
static void count(void *context, int64_t from, int64_t to) {
    tally *t = context;
    for (int64_t i = from; i < to; i++) t->seen[i]++;
    if (from % t->grain || (to % t->grain && to != t->n)) t->seen[from] += 1000;
}

static void parts_make_up_the_whole(void **state) {
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 15, 16, 17, 100, 1023, 4096};
    static const int64_t grains[] = {1, 3, 16, 100, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof grains / sizeof *grains; k++) {
            tally t = {sizes[i], grains[k], calloc((size_t)sizes[i] + 1, sizeof(int))};
            kiln_parallel(t.n, t.grain, count, &t);
            for (int64_t at = 0; at < t.n; at++)
                if (t.seen[at] != 1)
                    fail_msg("%d of %d in parts of %d: seen %d times", (int)at, (int)t.n,
                             (int)t.grain, t.seen[at]);
            free(t.seen);
        }
}

/* ---- sources */

/* Ranges that end at, begin at and reach over the end of a period. */
static void a_source_gives_what_fill_gives(void **state) {
    (void)state;
    static const char *const texts[] = {"map rows=1500 cols=1024 x=bf16 out=f32 : out = x",
                                        "map rows=1500 cols=1024 x=f32 out=f32 : out = x",
                                        "map rows=1500 cols=1024 x=i8 out=f32 : out = x",
                                        "map rows=7 cols=33 x=f16 out=f32 : out = x"};
    enum { N = 3000 };
    static double room[N];
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++) {
        kiln_problem p = problem_of(texts[t]);
        const kiln_operand *o = &p.operand[0];
        kiln_input in;
        assert_int_equal(kiln_input_open(&in, &p, SEED, NULL), 0);
        void *host = malloc((size_t)kiln_operand_bytes(o));
        kiln_input_fill(o, SEED, 0, host);
        const void *const array[] = {host};
        kiln_host_source h = kiln_source_host(&p, array, NULL);
        int64_t all = kiln_operand_elements(o), period = kiln_input_period(o);
        assert_true(period <= all && (period == all) == (t == 3));
        const int64_t from[] = {0, 1, period - 1, period - N, period - N + 1, period, all - N};
        for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
            int64_t at = from[i] < 0 || from[i] >= all ? 0 : from[i];
            int64_t n = all - at < N ? all - at : N;
            const double *got = in.source.read(&in.source, 0, at, n, room);
            for (int64_t k = 0; k < n; k++) {
                assert_true(got[k] == kiln_source_element(&h.source, 0, at + k));
                assert_true(got[k] == kiln_input_element(o, SEED, 0, at + k));
            }
        }
        free(host);
        kiln_input_close(&in);
    }
}

/* ---- rows */

typedef struct plain {
    double sum, magnitude, unit;
} plain;

/* Column j of the product, one element after the other; the narrow accumulator's unit as
 * kernels/matmul/README.md has it. */
static plain column(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                    int64_t j) {
    matmul v = kiln_matmul_view(p);
    plain r = {0, 0, 0};
    double low = 0, high = 0, reach = 0, largest = 0;
    for (int64_t l = 0; l < v.k; l++) {
        int64_t a = batch * v.stride_a + (v.ta ? l * v.lda + row : row * v.lda + l);
        int64_t b = batch * v.stride_b + (v.tb ? j * v.ldb + l : l * v.ldb + j);
        double t = kiln_source_element(in, MATMUL_A, a) * kiln_source_element(in, MATMUL_B, b);
        r.sum += t;
        r.magnitude += fabs(t);
        largest = fmax(largest, fabs(t));
        bool last = l + 1 == v.k;
        if ((l + 1) % 32 && !last) continue;
        low = fmin(low, r.sum), high = fmax(high, r.sum);
        if (!last && (v.fast || (l + 1) % 128)) continue;
        reach = fmax(reach, high - low);
        low = high = r.sum;
    }
    r.unit = 0x1p-13 * fmax(reach * (v.fast ? 1 : 2), largest);
    return r;
}

static double bound_of(const kiln_problem *p, const plain *c) {
    matmul v = kiln_matmul_view(p);
    double k = (double)v.k;
    if (v.acc == KILN_I32) return 0;
    double error = 4 * sqrt(k) * 0x1p-24 * c->magnitude + k * 1.2e-38;
    if (v.a != KILN_E4M3 && v.a != KILN_E5M2) return error;
    double one_sided = fmin(1, fabs(c->sum) / c->magnitude);
    return error + c->unit * (0.5 * (ceil(k / 32) + k * one_sided) + 2 * sqrt(k) + 1);
}

static void expect(const kiln_problem *p, const char *text, const kiln_source *in, int64_t batch,
                   int64_t row, const double *value, const double *bound) {
    int64_t n = kiln_matmul_view(p).n;
    for (int64_t j = 0; j < n; j += j < 40 || j > n - 40 ? 1 : 7) {
        plain want = column(p, in, batch, row, j);
        double error = bound_of(p, &want);
        if (!(fabs(value[j] - want.sum) <= 1e-13 * want.magnitude) ||
            !(fabs(bound[j] - error) <= 1e-9 * error))
            fail_msg("%s: row %d, column %d: %.17g within %.9g, should be %.17g within %.9g", text,
                     (int)row, (int)j, value[j], bound[j], want.sum, error);
    }
}

static void evaluate_both_ways(const char *text) {
    kiln_problem p = problem_of(text);
    const kiln_generator *g = kiln_generator_of(p.family);
    matmul v = kiln_matmul_view(&p);
    size_t n = (size_t)v.n;
    void *host[MATMUL_EXTRA] = {NULL};
    double *row[4];
    kiln_input in;
    kiln_error e = {0};
    for (int i = 0; i < 4; i++) row[i] = malloc(n * sizeof *row[i]);
    assert_int_equal(kiln_input_open(&in, &p, SEED, &e), 0);
    for (int i = 0; i < MATMUL_OUT; i++) {
        host[i] = malloc((size_t)kiln_operand_bytes(&p.operand[i]));
        kiln_input_fill(&p.operand[i], SEED, i, host[i]);
    }
    const int64_t at[] = {0, v.m - 1};
    for (int i = 0; i < 2; i++) {
        int64_t batch = i ? v.batch - 1 : 0;
        if (g->evaluate(&p, &in.source, batch, at[i], &row[0], &row[1], &e) ||
            g->evaluate_row(&p, (const void *const *)host, NULL, batch, at[i], &row[2], &row[3],
                            &e))
            fail_msg("%s: %s", text, e.text);
        expect(&p, text, &in.source, batch, at[i], row[0], row[1]);
        assert_memory_equal(row[0], row[2], n * sizeof *row[0]);
        assert_memory_equal(row[1], row[3], n * sizeof *row[1]);
    }
    for (int i = 0; i < 4; i++) free(row[i]);
    for (int i = 0; i < MATMUL_OUT; i++) free(host[i]);
    kiln_input_close(&in);
}

/* More products than one thread is given; sizes that no vector, piece or block divides; columns
 * that reach over the end of the inputs' period. */
static void rows_are_right(void **state) {
    (void)state;
    static const char *const texts[] = {
        "matmul m=3 n=2003 k=2501 a=bf16 b=bf16 out=f32 tb=1",
        "matmul m=3 n=2003 k=2501 a=bf16 b=bf16 out=f32",
        "matmul m=5 n=1111 k=3000 a=f16 b=f16 out=f32 ta=1 lda=7 ldb=1200",
        "matmul m=5 n=1111 k=3000 a=f32 b=f32 out=f32 ta=1 tb=1 ldb=3003 batch=2",
        "matmul m=2 n=1030 k=4133 a=e4m3 b=e4m3 out=f32 tb=1",
        "matmul m=2 n=1030 k=4133 a=e5m2 b=e4m3 out=f32",
        "matmul m=2 n=1030 k=4133 a=e4m3 b=e4m3 out=f32 fast=1",
        "matmul m=2 n=700 k=4100 a=i8 b=i8 out=i32 tb=1",
        "matmul m=2 n=1 k=1 a=bf16 b=bf16 out=f32",
        "matmul m=2 n=7 k=31 a=e4m3 b=e4m3 out=f32 tb=1",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) evaluate_both_ways(texts[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_make_up_the_whole),
        cmocka_unit_test(a_source_gives_what_fill_gives),
        cmocka_unit_test(rows_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

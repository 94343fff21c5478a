/* A row of a matmul in C, in double and with the bound of its error: the text against which the
 * reference kernel is checked. Columns are shared among cores. */
#include "kernels/matmul/evaluate.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>

enum {
    LANES = 8,     /* sums at once: what compilers turn into vectors */
    RUN = 1024,    /* elements of a column fetched at once; a multiple of NARROW_STEP */
    WIDTH = 128,   /* columns handled at once where b's rows are contiguous; a multiple of LANES */
    PART = 1 << 21 /* products that are worth a thread */
};

bool kiln_matmul_narrow(const matmul *v) { return kiln_type_is_float8(v->a); }

static double narrow_count(const matmul *v, double acc, double magnitude) {
    double k = (double)v->k, one_sided = fmin(1, fabs(acc) / magnitude);
    return 0.5 * (ceil(k / NARROW_STEP) + k * one_sided) + NARROW_SPREAD * sqrt(k) + 1;
}

double kiln_matmul_acc_error(const matmul *v, double acc, double magnitude, double unit) {
    if (v->acc == KILN_I32) return v->plain && v->out == KILN_I32 ? 0 : FLOAT_ROUNDOFF * fabs(acc);
    double error = ERROR_UNITS * sqrt((double)v->k) * FLOAT_ROUNDOFF * magnitude;
    if (kiln_matmul_narrow(v)) error += unit * narrow_count(v, acc, magnitude);
    return error + (double)v->k * TINY;
}

/* ---- the narrow accumulator's unit: reference.k.c has the same */

typedef struct extent {
    double low, high, reach, largest;
} extent;

static void extend(extent *x, double sum, bool ends) {
    x->low = fmin(x->low, sum);
    x->high = fmax(x->high, sum);
    if (!ends) return;
    x->reach = fmax(x->reach, x->high - x->low);
    x->low = x->high = sum;
}

static double narrow_unit(const matmul *v, const extent *x) {
    return NARROW_UNIT * fmax(x->reach * (v->fast ? 1 : 2), x->largest);
}

/* Does the product before `done` end a stretch that the narrow accumulator sums alone? */
static bool stretch_ends(const matmul *v, int64_t done) {
    return done == v->k || (!v->fast && done % NARROW_WINDOW == 0);
}

/* ---- sums of products */

typedef struct row_job {
    matmul v;
    const kiln_source *in;
    int64_t b;       /* where this batch of b begins */
    const double *x; /* the row of a: k elements */
    kiln_bounded *acc;
} row_job;

/* One column: adds sum x y to *sum, sum |x y| to *magnitude. */
static void dot(const double *x, const double *y, int64_t n, double *sum, double *magnitude) {
    double s[LANES] = {0}, m[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int q = 0; q < LANES; q++) {
            double t = x[i + q] * y[i + q];
            s[q] += t;
            m[q] += fabs(t);
        }
    for (; i < n; i++) {
        s[0] += x[i] * y[i];
        m[0] += fabs(x[i] * y[i]);
    }
    for (int q = 0; q < LANES; q++) {
        *sum += s[q];
        *magnitude += m[q];
    }
}

static double largest_product(const double *x, const double *y, int64_t n, double most) {
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i] * y[i]));
    return most;
}

/* The column's next n products, [from, from + n) of k, as a narrow accumulator meets them. */
static void dot_narrow(const matmul *v, const double *x, const double *y, int64_t from, int64_t n,
                       double *sum, double *magnitude, extent *extents) {
    for (int64_t i = 0; i < n; i += NARROW_STEP) {
        int64_t step = n - i < NARROW_STEP ? n - i : NARROW_STEP;
        dot(x + i, y + i, step, sum, magnitude);
        extents->largest = largest_product(x + i, y + i, step, extents->largest);
        extend(extents, *sum, stretch_ends(v, from + i + step));
    }
}

/* b stored n x k: its columns are contiguous. */
static void sum_columns(void *context, int64_t from, int64_t to) {
    const row_job *r = context;
    const matmul *v = &r->v;
    double room[RUN];
    for (int64_t j = from; j < to; j++) {
        double sum = 0, magnitude = 0;
        extent x = {0};
        for (int64_t l = 0; l < v->k; l += RUN) {
            int64_t n = v->k - l < RUN ? v->k - l : RUN;
            const double *y = r->in->read(r->in, MATMUL_B, r->b + j * v->ldb + l, n, room);
            if (kiln_matmul_narrow(v))
                dot_narrow(v, r->x + l, y, l, n, &sum, &magnitude, &x);
            else
                dot(r->x + l, y, n, &sum, &magnitude);
        }
        double error = kiln_matmul_acc_error(v, sum, magnitude, narrow_unit(v, &x));
        r->acc[j] = (kiln_bounded){sum, error};
    }
}

/* Rows of b, n of them, `width` columns each, into the sums of these columns. */
static void add_lanes(const double *x, const double *const *y, int64_t n, int64_t at, double *sum,
                      double *magnitude) {
    double s[LANES], m[LANES];
    for (int q = 0; q < LANES; q++) s[q] = sum[at + q], m[q] = magnitude[at + q];
    for (int64_t l = 0; l < n; l++) {
        const double *from = y[l] + at;
        for (int q = 0; q < LANES; q++) {
            double t = x[l] * from[q];
            s[q] += t;
            m[q] += fabs(t);
        }
    }
    for (int q = 0; q < LANES; q++) sum[at + q] = s[q], magnitude[at + q] = m[q];
}

static void add_rows(const double *x, const double *const *y, int64_t n, int64_t width, double *sum,
                     double *magnitude) {
    int64_t at = 0;
    for (; at + LANES <= width; at += LANES) add_lanes(x, y, n, at, sum, magnitude);
    for (; at < width; at++)
        for (int64_t l = 0; l < n; l++) {
            sum[at] += x[l] * y[l][at];
            magnitude[at] += fabs(x[l] * y[l][at]);
        }
}

static void extend_columns(const matmul *v, const double *x, const double *const *y, int64_t from,
                           int64_t n, int64_t width, const double *sum, extent *extents) {
    for (int64_t j = 0; j < width; j++) {
        for (int64_t l = 0; l < n; l++)
            extents[j].largest = fmax(extents[j].largest, fabs(x[l] * y[l][j]));
        extend(&extents[j], sum[j], stretch_ends(v, from + n));
    }
}

static void sum_block(const row_job *r, int64_t column, int64_t width) {
    const matmul *v = &r->v;
    double sum[WIDTH] = {0}, magnitude[WIDTH] = {0}, room[NARROW_STEP][WIDTH];
    const double *y[NARROW_STEP];
    extent x[WIDTH] = {{0}};
    for (int64_t l = 0; l < v->k; l += NARROW_STEP) {
        int64_t n = v->k - l < NARROW_STEP ? v->k - l : NARROW_STEP;
        for (int64_t i = 0; i < n; i++)
            y[i] = r->in->read(r->in, MATMUL_B, r->b + (l + i) * v->ldb + column, width, room[i]);
        add_rows(r->x + l, y, n, width, sum, magnitude);
        if (kiln_matmul_narrow(v)) extend_columns(v, r->x + l, y, l, n, width, sum, x);
    }
    for (int64_t j = 0; j < width; j++) {
        double error = kiln_matmul_acc_error(v, sum[j], magnitude[j], narrow_unit(v, &x[j]));
        r->acc[column + j] = (kiln_bounded){sum[j], error};
    }
}

/* b stored k x n: its rows are. */
static void sum_blocks(void *context, int64_t from, int64_t to) {
    for (int64_t j = from; j < to; j += WIDTH)
        sum_block(context, j, to - j < WIDTH ? to - j : WIDTH);
}

static void multiply_row(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                         double *x, kiln_bounded *acc) {
    matmul v = kiln_matmul_view(p);
    row_job r = {.v = v, .in = in, .b = batch * v.stride_b, .x = x, .acc = acc};
    int64_t a = batch * v.stride_a + row * (v.ta ? 1 : v.lda);
    if (v.ta)
        for (int64_t l = 0; l < v.k; l++) x[l] = kiln_source_element(in, MATMUL_A, a + l * v.lda);
    else
        r.x = in->read(in, MATMUL_A, a, v.k, x);
    int64_t columns = (PART / v.k + WIDTH) / WIDTH * WIDTH;
    kiln_parallel(v.n, columns, v.tb ? sum_columns : sum_blocks, &r);
}

/* ---- the statements */

/* The elements of operand i that this row meets: n of them, or one. */
static const double *gather(const kiln_problem *p, const kiln_source *in, int i, int64_t batch,
                            int64_t row, double *room) {
    const kiln_operand *o = &p->operand[i];
    bool m = o->axes & MATMUL_AXIS_M, n = o->axes & MATMUL_AXIS_N;
    if (o->scalar) {
        room[0] = in->scalar ? (double)(float)in->scalar[i] : 0;
        return room;
    }
    int64_t at = batch * o->batch_stride + (m ? n ? row * o->ld : row : 0);
    return in->read(in, i, at, n ? o->cols : 1, room);
}

/* What a row takes while it is evaluated. */
typedef struct row_room {
    double *a, *in; /* k; n for every operand */
    kiln_bounded *acc, *store;
} row_room;

static void put(const kiln_operand *o, const kiln_bounded *from, double *value, double *bound) {
    for (int64_t j = 0; j < o->cols; j++) {
        value[j] = from[j].value;
        bound[j] = from[j].error;
    }
}

static int evaluate(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                    const row_room *room, double *const *value, double *const *bound,
                    kiln_error *e) {
    int64_t n = kiln_matmul_view(p).n;
    const double *inputs[KILN_OPERANDS_MAX] = {NULL};
    kiln_bounded *outputs[KILN_STATEMENTS_MAX] = {NULL};
    for (int i = MATMUL_EXTRA; i < p->n_operands; i++)
        inputs[i] = p->operand[i].output ? room->in + i * n
                                         : gather(p, in, i, batch, row, room->in + i * n);
    for (int s = 0; s < p->body.n_statements; s++)
        if (p->body.statement[s].operand >= 0)
            outputs[s] = room->store + p->body.statement[s].operand * n;
    multiply_row(p, in, batch, row, room->a, room->acc);
    int status = kiln_body_eval(&p->body, inputs, room->acc, n, FLOAT_ROUNDOFF, outputs, e);
    for (int i = MATMUL_OUT, j = 0; i < p->n_operands && !status; i++)
        if (p->operand[i].output) {
            put(&p->operand[i], room->store + i * n, value[j], bound[j]);
            j++;
        }
    return status;
}

int kiln_matmul_evaluate(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                         double *const *value, double *const *bound, kiln_error *e) {
    matmul v = kiln_matmul_view(p);
    size_t n = (size_t)v.n, operands = (size_t)p->n_operands;
    row_room room = {.a = calloc((size_t)v.k, sizeof *room.a),
                     .in = calloc(n * operands, sizeof *room.in),
                     .acc = calloc(n, sizeof *room.acc),
                     .store = calloc(n * operands, sizeof *room.store)};
    int status = room.a && room.in && room.acc && room.store
                     ? evaluate(p, in, batch, row, &room, value, bound, e)
                     : kiln_fail(e, KILN_NO_MEMORY, "no memory to evaluate a row of matmul");
    free(room.a);
    free(room.in);
    free(room.acc);
    free(room.store);
    return status;
}

int kiln_matmul_evaluate_row(const kiln_problem *p, const void *const *host, const double *scalars,
                             int64_t batch, int64_t row, double *const *value, double *const *bound,
                             kiln_error *e) {
    kiln_host_source in = kiln_source_host(p, host, scalars);
    return kiln_matmul_evaluate(p, &in.source, batch, row, value, bound, e);
}

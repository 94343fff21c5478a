#include "cost-model/gp.h"

#include "base/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SWEEPS_FIRST = 4, /* of the search for constants: from nothing, */
    SWEEPS = 2,       /* and from those of the process before, */
    SEARCH_EACH = 40, /* each time up to this many outcomes, then when they are an eighth more */
    OTHERS = 4,       /* constants besides the lengths */
    AXES_MAX = KILN_GP_INPUTS_MAX + KILN_GP_OPINIONS_MAX + 1,
};
static const double WORK_MAX = 4e7;       /* multiplications for the spread of points */
static const int64_t CELLS_MAX = 4000000; /* doubles that these may take */
static const float MISSING = -1;          /* as far from every setting as 0 from 1, or farther */

/* What is usual, learnt on none of the recorded spaces: lengths of half a range, a function that
 * changes times by half (by a fifth around opinions), 3 % of noise. Natural logarithms. */
static const double LENGTH = 0.4, LENGTH_SD = 1, OTHER_SD = 0.8;
static const double SWAY = 0.5, SWAY_BESIDE_OPINIONS = 0.2, NOISE = 0.03, WEIGHT = 0.3,
                    LIKENESS = 0.6;
static const double DISTRUST_COST = 2;  /* of believing nothing: natural logarithm of the odds */
static const double FAILURE_COST = 0.7; /* log seconds that -log(validity) of 1 adds */

typedef struct constants {
    double length[KILN_GP_INPUTS_MAX]; /* along each input; these and the next four: logarithms */
    double sway;                       /* size of the smooth function */
    double noise;
    double weight;   /* how far the weights of the blend may move */
    double likeness; /* length along the opinions */
    double trust;    /* share of the opinions' mean */
} constants;

/* A row is kept as axes: its inputs, then the mean of its opinions and how each deviates from it,
 * all relative to the outcomes' means. A row without any opinion, or a deaf process, has zeros
 * there. */
struct kiln_gp {
    kiln_gp_shape shape;
    int n_axes;
    int64_t n;
    float *axis; /* n_axes x n: one axis of all outcomes after the other */
    double *target;
    double mean;                         /* of the targets, without what opinions say */
    double centre[KILN_GP_OPINIONS_MAX]; /* of opinions, over the outcomes */
    constants c;
    double *factor; /* Cholesky's, n x n, lower triangle */
    double *alpha;  /* inverse of the covariance times the targets */
    double misfit;
    int64_t searched; /* outcomes when the constants were last searched */
};

static bool listens(const kiln_gp *g) { return g->shape.n_opinions && !g->shape.deaf; }
static int row_width(const kiln_gp *g) { return g->shape.n_inputs + g->shape.n_opinions; }
static double square(double x) { return x * x; }

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "cost model: out of memory; free some and run again");
}

/* ---------------------------------------------------------------- rows */

static void opinion_axes(const kiln_gp *g, const float *opinion, float *out) {
    double sum = 0;
    int n = 0;
    for (int k = 0; k < g->shape.n_opinions; k++)
        if (!isnan(opinion[k])) sum += opinion[k] - g->centre[k], n++;
    out[0] = n ? (float)(sum / n) : 0;
    for (int k = 0; k < g->shape.n_opinions; k++)
        out[k + 1] = isnan(opinion[k]) ? 0 : opinion[k] - (float)g->centre[k] - out[0];
}

static void to_axes(const kiln_gp *g, const float *row, float *out) {
    for (int i = 0; i < g->shape.n_inputs; i++) out[i] = isnan(row[i]) ? MISSING : row[i];
    if (listens(g)) opinion_axes(g, row + g->shape.n_inputs, out + g->shape.n_inputs);
}

/* What the opinions say together of a point. */
static double blend(const kiln_gp *g, const float *x) {
    return listens(g) ? g->c.trust * x[g->shape.n_inputs] : 0;
}

/* ---------------------------------------------------------------- covariance */

typedef struct kernel {
    double per_length[AXES_MAX]; /* 1 / length^2 */
    double sway, noise, weight;  /* squares */
} kernel;

static kernel prepare(const kiln_gp *g) {
    const constants *c = &g->c;
    kernel k = {.sway = exp(2 * c->sway), .noise = exp(2 * c->noise), .weight = exp(2 * c->weight)};
    for (int i = 0; i < g->n_axes; i++)
        k.per_length[i] = exp(-2 * (i < g->shape.n_inputs ? c->length[i] : c->likeness));
    return k;
}

/* Matern 5/2 over the distance, plus the constant and the weights of the blend. */
static double combine(const kernel *k, double distance, double linear) {
    double r = sqrt(5 * distance);
    return 1 + k->weight * linear + k->sway * (1 + r + r * r / 3) * exp(-r);
}

/* Of a point with the first n outcomes. One axis after the other: these loops are where time goes.
 */
static void covariances(const kiln_gp *g, const kernel *k, const float *x, int64_t n, double *out) {
    int inputs = g->shape.n_inputs;
    for (int64_t j = 0; j < n; j++) {
        double linear = 0;
        for (int i = inputs; i < g->n_axes; i++) linear += (double)x[i] * g->axis[i * g->n + j];
        out[j] = linear;
    }
    double distance[128];
    for (int64_t start = 0; start < n; start += 128) {
        int64_t count = n - start < 128 ? n - start : 128;
        memset(distance, 0, sizeof distance);
        for (int i = 0; i < g->n_axes; i++) {
            const float *a = g->axis + i * g->n + start;
            double scale = k->per_length[i];
            for (int64_t j = 0; j < count; j++) {
                double d = x[i] - a[j];
                distance[j] += d * d * scale;
            }
        }
        for (int64_t j = 0; j < count; j++)
            out[start + j] = combine(k, distance[j], out[start + j]);
    }
}

static double covariance(const kiln_gp *g, const kernel *k, const float *x, const float *y) {
    double distance = 0, linear = 0;
    for (int i = 0; i < g->n_axes; i++) {
        distance += square(x[i] - y[i]) * k->per_length[i];
        if (i >= g->shape.n_inputs) linear += (double)x[i] * y[i];
    }
    return combine(k, distance, linear);
}

/* ---------------------------------------------------------------- fitting */

/* Cholesky in place; false when rounding broke it. */
static bool factorise(double *a, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (int64_t k = 0; k < j; k++) sum -= a[i * n + k] * a[j * n + k];
            if (i > j)
                a[i * n + j] = sum / a[j * n + j];
            else if (!(sum > 1e-12))
                return false;
            else
                a[i * n + i] = sqrt(sum);
        }
    return true;
}

static void solve_lower(const double *l, int64_t n, double *x) {
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < i; k++) x[i] -= l[i * n + k] * x[k];
        x[i] /= l[i * n + i];
    }
}

static void solve_upper(const double *l, int64_t n, double *x) {
    for (int64_t i = n - 1; i >= 0; i--) {
        x[i] /= l[i * n + i];
        for (int64_t k = 0; k < i; k++) x[k] -= l[i * n + k] * x[i];
    }
}

/* What is thought of the constants before any outcome: minus log density, up to a constant. */
static double surprise(const kiln_gp *g) {
    const constants *c = &g->c;
    double s = square((c->sway - log(listens(g) ? SWAY_BESIDE_OPINIONS : SWAY)) / OTHER_SD) / 2;
    s += square((c->noise - log(NOISE)) / OTHER_SD) / 2;
    for (int i = 0; i < g->shape.n_inputs; i++)
        s += square((c->length[i] - LENGTH) / LENGTH_SD) / 2;
    if (!listens(g)) return s;
    s += square((c->likeness - log(LIKENESS)) / OTHER_SD) / 2;
    s += square((c->weight - log(WEIGHT)) / OTHER_SD) / 2;
    return s + DISTRUST_COST * (1 - c->trust);
}

static void outcome(const kiln_gp *g, int64_t j, float *x) {
    for (int i = 0; i < g->n_axes; i++) x[i] = g->axis[i * g->n + j];
}

/* Targets without the blend and their mean, into alpha. */
static void centre_targets(kiln_gp *g) {
    float x[AXES_MAX];
    g->mean = 0;
    for (int64_t i = 0; i < g->n; i++) {
        outcome(g, i, x);
        g->alpha[i] = g->target[i] - blend(g, x);
        g->mean += g->alpha[i] / (double)g->n;
    }
    for (int64_t i = 0; i < g->n; i++) g->alpha[i] -= g->mean;
}

/* Minus log of likelihood times prior at g->c; leaves factor and alpha behind. */
static double misfit(kiln_gp *g) {
    kernel k = prepare(g);
    float x[AXES_MAX];
    double sum = surprise(g);
    centre_targets(g);
    for (int64_t i = 0; i < g->n; i++) {
        outcome(g, i, x);
        covariances(g, &k, x, i + 1, g->factor + i * g->n);
        g->factor[i * g->n + i] += k.noise;
    }
    if (!factorise(g->factor, g->n)) return INFINITY;
    solve_lower(g->factor, g->n, g->alpha);
    for (int64_t i = 0; i < g->n; i++)
        sum += square(g->alpha[i]) / 2 + log(g->factor[i * g->n + i]);
    solve_upper(g->factor, g->n, g->alpha);
    return sum;
}

static double *constant_at(kiln_gp *g, int i) {
    double *others[OTHERS] = {&g->c.sway, &g->c.noise, &g->c.weight, &g->c.likeness};
    if (i < g->shape.n_inputs) return &g->c.length[i];
    i -= g->shape.n_inputs;
    return i < (listens(g) ? OTHERS : 2) ? others[i] : NULL;
}

/* Keeps a constant's new value where that explains the outcomes better. */
static bool try_value(kiln_gp *g, double *constant, double value) {
    double old = *constant;
    *constant = value;
    double m = misfit(g);
    if (m < g->misfit - 1e-3) return g->misfit = m, true;
    *constant = old;
    return false;
}

static void step(kiln_gp *g, double *constant, double size) {
    double old = *constant;
    if (!try_value(g, constant, old + size)) try_value(g, constant, old - size);
}

/* One constant after the other, a step up or down: few outcomes do not deserve more. */
static void search_constants(kiln_gp *g, int sweeps) {
    g->misfit = misfit(g);
    for (int sweep = 0; sweep < sweeps; sweep++) {
        double before = g->misfit;
        for (int i = 0; listens(g) && i < 3; i++) try_value(g, &g->c.trust, i / 2.0);
        for (int i = 0; constant_at(g, i); i++) step(g, constant_at(g, i), sweep ? 0.35 : 0.7);
        if (before - g->misfit < 0.05) break;
    }
    g->searched = g->n;
}

static void first_constants(kiln_gp *g) {
    for (int i = 0; i < g->shape.n_inputs; i++) g->c.length[i] = LENGTH;
    g->c.sway = log(listens(g) ? SWAY_BESIDE_OPINIONS : SWAY);
    g->c.noise = log(NOISE);
    g->c.weight = log(WEIGHT);
    g->c.likeness = log(LIKENESS);
    g->c.trust = listens(g);
}

static void find_centres(kiln_gp *g, const float *rows) {
    for (int k = 0; k < g->shape.n_opinions; k++) {
        double sum = 0;
        int64_t n = 0;
        for (int64_t i = 0; i < g->n; i++) {
            float o = rows[i * row_width(g) + g->shape.n_inputs + k];
            if (!isnan(o)) sum += o, n++;
        }
        g->centre[k] = n ? sum / (double)n : 0;
    }
}

static void keep_rows(kiln_gp *g, const float *rows) {
    float x[AXES_MAX];
    find_centres(g, rows);
    for (int64_t j = 0; j < g->n; j++) {
        to_axes(g, rows + j * row_width(g), x);
        for (int i = 0; i < g->n_axes; i++) g->axis[i * g->n + j] = x[i];
    }
}

static kiln_gp *allocate(const kiln_gp_shape *shape, int64_t n) {
    kiln_gp *g = calloc(1, sizeof *g);
    size_t room = (size_t)n + 1;
    if (!g) return NULL;
    g->shape = *shape, g->n = n;
    g->n_axes = shape->n_inputs + (listens(g) ? shape->n_opinions + 1 : 0);
    g->axis = malloc(room * (size_t)(g->n_axes + 1) * sizeof *g->axis);
    g->target = malloc(room * sizeof *g->target);
    g->alpha = malloc(room * sizeof *g->alpha);
    g->factor = malloc(room * room * sizeof *g->factor);
    if (g->axis && g->target && g->alpha && g->factor) return g;
    kiln_gp_free(g);
    return NULL;
}

kiln_gp *kiln_gp_train(const kiln_gp_shape *shape, const float *rows, const double *target,
                       int64_t n, const kiln_gp *before, kiln_error *e) {
    kiln_gp *g = allocate(shape, n);
    if (!g) return no_memory(e), NULL;
    if (n) memcpy(g->target, target, (size_t)n * sizeof *target);
    keep_rows(g, rows);
    if (before)
        g->c = before->c, g->searched = before->searched;
    else
        first_constants(g);
    if (!before || n <= SEARCH_EACH || n > g->searched + g->searched / 8)
        search_constants(g, before ? SWEEPS : SWEEPS_FIRST);
    g->misfit = misfit(g);
    return g;
}

void kiln_gp_free(kiln_gp *g) {
    if (!g) return;
    free(g->axis), free(g->target), free(g->alpha), free(g->factor);
    free(g);
}

double kiln_gp_evidence(const kiln_gp *g) { return -g->misfit; }
double kiln_gp_trust(const kiln_gp *g) { return g->c.trust; }

/* ---------------------------------------------------------------- predicting */

/* The mean of a point; `with` receives its covariances with the outcomes. */
static double mean_of(const kiln_gp *g, const kernel *k, const float *x, double *with) {
    double mean = g->mean + blend(g, x);
    covariances(g, k, x, g->n, with);
    for (int64_t i = 0; i < g->n; i++) mean += with[i] * g->alpha[i];
    return mean;
}

/* The variance of a point; `with`, its covariances, becomes its column of the factor. */
static double variance_of(const kiln_gp *g, const kernel *k, const float *x, double *with) {
    double v = covariance(g, k, x, x);
    solve_lower(g->factor, g->n, with);
    for (int64_t i = 0; i < g->n; i++) v -= square(with[i]);
    return fmax(v, 1e-12);
}

int kiln_gp_predict(const kiln_gp *g, const float *rows, int64_t n, double *mean, double *spread,
                    kiln_error *e) {
    double *with = malloc(((size_t)g->n + 1) * sizeof *with);
    float x[AXES_MAX];
    if (!with) return no_memory(e);
    kernel k = prepare(g);
    for (int64_t i = 0; i < n; i++) {
        to_axes(g, rows + i * row_width(g), x);
        mean[i] = mean_of(g, &k, x, with);
        if (spread) spread[i] = sqrt(variance_of(g, &k, x, with));
    }
    free(with);
    return KILN_OK;
}

/* ---------------------------------------------------------------- choosing */

typedef struct candidate {
    double mean, variance;
    bool taken;
    double *column; /* of the factor, then a cell for each that was chosen */
    int64_t point;
} candidate;

typedef struct choice {
    const kiln_gp *g;
    kernel k;
    const float *rows;
    candidate *all;
    int64_t n;
    int64_t height; /* of a column */
    double *columns;
    double best;
    /* of the step that all candidates take at once */
    const double *valid;
    const candidate *chosen;
    int64_t known;
} choice;

enum { GRAIN = 256 }; /* candidates worth a thread */

static const float *axes_of(const choice *c, const candidate *a, float x[AXES_MAX]) {
    to_axes(c->g, c->rows + a->point * row_width(c->g), x);
    return x;
}

static int by_mean(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->mean != y->mean) return x->mean < y->mean ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

static double improvement(const candidate *c, double best) {
    double sd = sqrt(c->variance), z = (best - c->mean) / sd;
    double density = exp(-z * z / 2) / 2.5066282746310002,
           below = erfc(-z / 1.4142135623730951) / 2;
    return fmax(sd * (z * below + density), 0);
}

static void condition_some(void *of, int64_t from, int64_t to) {
    choice *c = of;
    const candidate *chosen = c->chosen;
    double scale = 1 / sqrt(chosen->variance + c->k.noise);
    float x[AXES_MAX], y[AXES_MAX];
    axes_of(c, chosen, y);
    for (int64_t i = from; i < to; i++) {
        candidate *a = &c->all[i];
        if (a->taken) continue;
        double shared = covariance(c->g, &c->k, axes_of(c, a, x), y);
        for (int64_t j = 0; j < c->known; j++) shared -= a->column[j] * chosen->column[j];
        a->column[c->known] = shared * scale;
        a->variance = fmax(a->variance - square(shared * scale), 1e-12);
    }
}

/* Once the outcome of `chosen` is taken as known: means stay, what others share with it is certain.
 */
static void condition(choice *c, const candidate *chosen, int64_t known) {
    c->chosen = chosen, c->known = known;
    kiln_parallel(c->n, GRAIN, condition_some, c);
}

static candidate *most_promising(const choice *c, double *gain) {
    candidate *found = NULL;
    for (int64_t i = 0; i < c->n; i++) {
        if (c->all[i].taken) continue;
        double x = improvement(&c->all[i], c->best);
        if (!found || x > *gain) *gain = x, found = &c->all[i];
    }
    return found;
}

static int choose(choice *c, int most, int64_t *chosen, double *gain) {
    int count = 0;
    while (count < most) {
        double least;
        candidate *found = most_promising(c, &least);
        if (!found) break;
        chosen[count] = found->point;
        if (gain) gain[count] = least;
        found->taken = true;
        if (++count < most) condition(c, found, c->g->n + count - 1);
    }
    return count;
}

/* NaN: no memory. */
static void average_some(void *of, int64_t from, int64_t to) {
    choice *c = of;
    double *with = malloc((size_t)c->height * sizeof *with);
    float x[AXES_MAX];
    for (int64_t i = from; i < to; i++) {
        candidate *a = &c->all[i];
        a->mean = with ? mean_of(c->g, &c->k, axes_of(c, a, x), with) : NAN;
        if (c->valid) a->mean -= FAILURE_COST * log(fmin(c->valid[a->point], 1));
    }
    free(with);
}

/* Means of all; of those, as many of the best as the spreads' work allows. */
static bool narrow(choice *c, int64_t n) {
    double least = INFINITY, per_point = (double)(c->g->n * c->g->n) + 1;
    for (int64_t i = 0; i < n; i++)
        if (!c->valid || c->valid[i] > 0) c->all[c->n++] = (candidate){.point = i};
    kiln_parallel(c->n, GRAIN, average_some, c);
    for (int64_t i = 0; i < c->n; i++) {
        if (isnan(c->all[i].mean)) return false;
        least = fmin(least, c->all[i].mean);
    }
    if (isnan(c->best)) c->best = least;
    int64_t most = (int64_t)fmin(WORK_MAX / per_point + 100, (double)(CELLS_MAX / c->height));
    if (c->n <= most) return true;
    qsort(c->all, (size_t)c->n, sizeof *c->all, by_mean);
    c->n = most;
    return true;
}

static void measure_some(void *of, int64_t from, int64_t to) {
    choice *c = of;
    float x[AXES_MAX];
    for (int64_t i = from; i < to; i++) {
        candidate *a = &c->all[i];
        a->column = c->columns + i * c->height;
        covariances(c->g, &c->k, axes_of(c, a, x), c->g->n, a->column);
        a->variance = variance_of(c->g, &c->k, x, a->column);
    }
}

static bool measure_spreads(choice *c) {
    c->columns = malloc((size_t)(c->n * c->height + 1) * sizeof *c->columns);
    if (c->columns) kiln_parallel(c->n, GRAIN, measure_some, c);
    return c->columns;
}

int kiln_gp_choose(const kiln_gp *g, const float *rows, int64_t n, double best, const double *valid,
                   int most, int64_t *chosen, double *gain, kiln_error *e) {
    choice c = {.g = g,
                .k = prepare(g),
                .rows = rows,
                .best = best,
                .height = g->n + most + 1,
                .valid = valid};
    int count = -1;
    c.all = malloc(((size_t)n + 1) * sizeof *c.all);
    if (c.all && narrow(&c, n) && measure_spreads(&c)) count = choose(&c, most, chosen, gain);
    free(c.all), free(c.columns);
    return count < 0 ? no_memory(e) : count;
}

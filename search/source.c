#include "search/source.h"

#include "cost-model/model.h"
#include "search/frontier.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLE = 200, SAMPLE_LEAST = 40, NEAR_MAX = 64, NEAR_ASKED = 4 }; /* opinions cost time */
/* Of noise the correlation strays from 0 by 1 / sqrt(pairs): the bound is that many times this,
 * 0.28 for a full sample. */
static const double STRAYS = 4;

/* Logarithm, NaN: none. */
static double opinion(const kiln_search_space *space, int k, int64_t point) {
    double x = space->n_opinions ? space->opinion(space->context, k, point)
                                 : space->prior(space->context, point);
    return isfinite(x) && x > 0 ? log(x) : NAN;
}

/* Mean of what a source says of some of a point's neighbours, NaN: nothing. */
static double around(const kiln_search_space *space, int k, int64_t point) {
    int64_t near[NEAR_MAX];
    double sum = 0;
    int n = space->neighbours(space->context, point, near, NEAR_MAX), known = 0;
    int asked = n < NEAR_ASKED ? n : NEAR_ASKED;
    for (int i = 0; i < asked; i++) {
        double x = opinion(space, k, near[i * n / asked]);
        if (!isnan(x)) sum += x, known++;
    }
    return known ? sum / known : NAN;
}

/* Pairs of own and neighbours' opinions; returns how many. */
static int64_t pair_up(const kiln_search_space *space, int k, const int64_t *points, int64_t n,
                       double *own, double *others) {
    int64_t found = 0;
    for (int64_t i = 0; space->neighbours && i < n && found < SAMPLE && i < 4 * SAMPLE; i++) {
        int64_t p = points[kiln_search_shuffled(n, 1, i)];
        double x = opinion(space, k, p), y = isnan(x) ? NAN : around(space, k, p);
        if (!isnan(y)) own[found] = x, others[found++] = y;
    }
    return found;
}

double kiln_source_regularity(const kiln_search_space *space, int k, const int64_t *points,
                              int64_t n, int64_t *pairs) {
    double *own = malloc(2 * SAMPLE * sizeof *own);
    if (!own) return *pairs = 0, NAN;
    *pairs = pair_up(space, k, points, n, own, own + SAMPLE);
    double r = *pairs >= SAMPLE_LEAST ? kiln_rank_correlation(own, own + SAMPLE, *pairs) : NAN;
    free(own);
    return r;
}

static bool deserves_a_hearing(const kiln_search_space *space, int k, const int64_t *points,
                               int64_t n) {
    int64_t pairs;
    double r = kiln_source_regularity(space, k, points, n, &pairs);
    return !(r < STRAYS / sqrt((double)pairs)); /* not when it cannot be told */
}

static double level_of(const kiln_search_space *space, int k, const int64_t *points, int64_t n) {
    double sum = 0;
    int64_t known = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = opinion(space, k, points[i]);
        if (!isnan(x)) sum += x, known++;
    }
    return known ? sum / (double)known : 0;
}

/* Rank correlation of sources a and b over a sample of the points that both know; NaN: unknown. */
static double likeness(const kiln_search_space *space, int a, int b, const int64_t *points,
                       int64_t n) {
    double x[SAMPLE], y[SAMPLE];
    int64_t found = 0;
    for (int64_t i = 0; i < n && found < SAMPLE && i < 4 * SAMPLE; i++) {
        int64_t p = points[kiln_search_shuffled(n, 1, i)];
        x[found] = opinion(space, a, p), y[found] = opinion(space, b, p);
        found += !isnan(x[found]) && !isnan(y[found]);
    }
    return found >= SAMPLE_LEAST ? kiln_rank_correlation(x, y, found) : NAN;
}

static double agreement(const kiln_sources *s, const int64_t *points, int64_t n) {
    double sum = 0;
    int known = 0;
    for (int i = 0; i < s->n; i++)
        for (int k = i + 1; k < s->n; k++) {
            double r = likeness(s->space, s->source[i], s->source[k], points, n);
            if (!isnan(r)) sum += r, known++;
        }
    return known ? sum / known : NAN;
}

void kiln_sources_open(kiln_sources *s, const kiln_search_space *space, const int64_t *points,
                       int64_t n) {
    int count = space->n_opinions ? space->n_opinions : space->prior != NULL;
    *s = (kiln_sources){.space = space};
    for (int k = 0; k < count && s->n < KILN_GP_OPINIONS_MAX; k++) {
        if (!deserves_a_hearing(space, k, points, n)) {
            s->some = true;
            continue;
        }
        s->source[s->n++] = k;
    }
    s->agreement = agreement(s, points, n);
    for (int i = 0; s->some && i < s->n; i++)
        s->level[i] = level_of(space, s->source[i], points, n);
}

double kiln_sources_opinion(const kiln_sources *s, int i, int64_t point) {
    return opinion(s->space, s->source[i], point);
}

double kiln_sources_prior(const kiln_sources *s, int64_t point) {
    double sum = 0;
    int known = 0;
    if (!s->some) {
        double p = s->space->prior(s->space->context, point);
        return isfinite(p) && p > 0 ? log(p) : NAN;
    }
    for (int i = 0; i < s->n; i++) {
        double x = kiln_sources_opinion(s, i, point) - s->level[i];
        if (!isnan(x)) sum += x, known++;
    }
    return known ? sum / known : NAN;
}

#include "search/guide.h"

#include "search/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PICKS = 8, ROWS_MAX = 150 };
static const double CLIP = 5;       /* slower than this times the best is just slow */
static const double PRIOR_ODDS = 4; /* log odds for opinions before any outcome, when their sources */
static const double AGREED = 0.5;   /* agree so far or more (rank correlation), or there is one only */

typedef struct adviser {
    kiln_gp *gp;
    int n, next; /* of pick */
    int64_t pick[PICKS];
    double gain[PICKS];
} adviser;

typedef struct told {
    double seconds;
    int64_t at; /* of its row */
} told;

struct kiln_guide {
    kiln_view view;
    int64_t n_points; /* of those known at open */
    float *rows;      /* theirs, then those of the rest of the pool */
    int64_t n_told, capacity;
    told *timed;
    float *told_rows;
    float *lesson; /* ROWS_MAX rows */
    adviser deaf, listener;
};

/* ---------------------------------------------------------------- life */

static bool reserve_rows(kiln_guide *g, int64_t n) {
    size_t width = (size_t)g->view.width + 1;
    float *rows = realloc(g->rows, ((size_t)n + 1) * width * sizeof *rows);
    if (rows) g->rows = rows;
    return rows;
}

static void look_at(kiln_guide *g, const int64_t *points, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++)
        kiln_view_row(&g->view, points[i], g->rows + i * g->view.width);
}

kiln_guide *kiln_guide_open(const kiln_sources *sources, const int64_t *points, int64_t n,
                            kiln_error *e) {
    kiln_guide *g = calloc(1, sizeof *g);
    bool made = g && !kiln_view_open(&g->view, sources, points, n, NULL) && reserve_rows(g, n);
    if (made) g->lesson = malloc(ROWS_MAX * ((size_t)g->view.width + 1) * sizeof *g->lesson);
    if (!made || !g->lesson) {
        kiln_guide_close(g);
        kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some");
        return NULL;
    }
    g->n_points = n;
    look_at(g, points, 0, n);
    return g;
}

void kiln_guide_close(kiln_guide *g) {
    if (!g) return;
    kiln_gp_free(g->deaf.gp), kiln_gp_free(g->listener.gp);
    kiln_view_close(&g->view);
    free(g->rows), free(g->timed), free(g->told_rows), free(g->lesson);
    free(g);
}

/* ---------------------------------------------------------------- outcomes */

static bool reserve_told(kiln_guide *g) {
    if (g->n_told < g->capacity) return true;
    size_t n = g->capacity ? 2 * (size_t)g->capacity : 64, width = (size_t)g->view.width + 1;
    told *timed = realloc(g->timed, n * sizeof *timed);
    if (timed) g->timed = timed;
    float *rows = realloc(g->told_rows, n * width * sizeof *rows);
    if (rows) g->told_rows = rows;
    if (!timed || !rows) return false;
    g->capacity = (int64_t)n;
    return true;
}

bool kiln_guide_tell(kiln_guide *g, int64_t point, double seconds) {
    if (isnan(seconds)) return true; /* the strategy's model of validity knows */
    if (!reserve_told(g)) return false;
    int64_t at = g->n_told;
    kiln_view_row(&g->view, point, g->told_rows + at * g->view.width);
    /* Kept in order of time; those before stay where they are when times are equal. */
    for (; at > 0 && g->timed[at - 1].seconds > seconds; at--) g->timed[at] = g->timed[at - 1];
    g->timed[at] = (told){seconds, g->n_told};
    g->n_told++;
    return true;
}

bool kiln_guide_full(const kiln_guide *g) { return g->n_told > ROWS_MAX; }

/* Which outcome is number i of those to learn from: the faster two thirds of the room, then an even
 * choice of the rest. */
static int64_t lesson_at(const kiln_guide *g, int64_t i) {
    int64_t sure = ROWS_MAX * 2 / 3;
    if (!kiln_guide_full(g) || i < sure) return i;
    return sure + (i - sure) * (g->n_told - sure) / (ROWS_MAX - sure);
}

static int64_t make_lesson(kiln_guide *g, double target[ROWS_MAX]) {
    int64_t n = kiln_guide_full(g) ? ROWS_MAX : g->n_told;
    size_t width = (size_t)g->view.width;
    for (int64_t i = 0; i < n; i++) {
        told t = g->timed[lesson_at(g, i)];
        memcpy(g->lesson + (size_t)i * width, g->told_rows + (size_t)t.at * width,
               width * sizeof *g->lesson);
        target[i] = log(fmin(t.seconds, CLIP * g->timed[0].seconds));
    }
    return n;
}

/* ---------------------------------------------------------------- advice */

static bool consult(kiln_guide *g, adviser *a, bool deaf, const double *target, int64_t n_told,
                    int64_t n_pool, const double *valid) {
    kiln_gp_shape shape = g->view.shape;
    shape.deaf = deaf;
    a->n = a->next = 0;
    kiln_gp *gp = kiln_gp_train(&shape, g->lesson, target, n_told, a->gp, NULL);
    if (!gp) return false;
    kiln_gp_free(a->gp);
    a->gp = gp;
    double best = n_told ? target[0] : NAN;
    a->n = kiln_gp_choose(gp, g->rows, n_pool, best, valid, PICKS, a->pick, a->gain, NULL);
    if (a->n < 0) a->n = 0;
    return true;
}

static void name_points(adviser *a, const int64_t *pool) {
    for (int i = 0; i < a->n; i++) a->pick[i] = pool[a->pick[i]];
}

bool kiln_guide_look(kiln_guide *g, const int64_t *pool, int64_t n, const double *valid) {
    double target[ROWS_MAX];
    if (n > g->n_points) {
        if (!reserve_rows(g, n)) return false;
        look_at(g, pool, g->n_points, n);
    }
    int64_t n_told = make_lesson(g, target);
    bool done = consult(g, &g->deaf, true, target, n_told, n, valid);
    if (done && g->view.shape.n_opinions)
        done = consult(g, &g->listener, false, target, n_told, n, valid);
    name_points(&g->deaf, pool), name_points(&g->listener, pool);
    return done;
}

int64_t kiln_guide_next(kiln_guide *g, bool opinions) {
    adviser *a = opinions ? &g->listener : &g->deaf;
    return a->next < a->n ? a->pick[a->next++] : -1;
}

/* The device at hand is one more like those of the sources: what they cannot foretell of each other
 * they will hardly foretell of it. */
static double prior_odds(const kiln_guide *g) {
    double a = g->view.sources->agreement;
    return isnan(a) ? PRIOR_ODDS : PRIOR_ODDS * fmax(fmin(a / AGREED, 1), 0);
}

double kiln_guide_belief(const kiln_guide *g) {
    if (!g->listener.gp || !g->deaf.gp) return 0;
    /* When the outcomes are explained best by believing nothing, opinions do not help, however
     * well the rest of that process does. */
    if (!(kiln_gp_trust(g->listener.gp) > 0)) return 0;
    double odds =
        prior_odds(g) + kiln_gp_evidence(g->listener.gp) - kiln_gp_evidence(g->deaf.gp);
    return isnan(odds) ? 0 : 1 / (1 + exp(-odds));
}

double kiln_guide_gain(const kiln_guide *g, int n) {
    const adviser *a = kiln_guide_belief(g) > 0.5 ? &g->listener : &g->deaf;
    double sum = 0;
    if (!g->n_told || !a->gp) return NAN;
    for (int i = 0; i < n && a->n; i++) sum += a->gain[i < a->n ? i : a->n - 1];
    return sum;
}

/* The default strategy: models rank the whole space, or a sample of it and the surroundings of the
 * leaders, and learn from every outcome.
 *
 *   1. the starts,
 *   2. a few points spread over the space,
 *   3. rounds. Of four slots three take the pick of a Gaussian process by expected improvement
 *      (guide.h); the fourth takes the unspent point that ONE member of an ensemble of boosters
 *      likes best (members disagree where nothing is known, so they explore by themselves), and now
 *      and then another spread point. A small process knows best from few outcomes, trees from
 *      many.
 *
 * Opinions (a prior: seconds on other devices, of other problems) are heard as far as they deserve
 * it. Each slot from the first on goes to the process that listens to them with the probability
 * that they help, by the evidence of all outcomes; the rest is the search above. In the boosters
 * the prior is a feature, and at first a share of it is subtracted before training and added after:
 * they learn what it gets wrong. That share is fitted, fades, and is 0 once outcomes refute the
 * prior's ranking. */
#include "search/frontier.h"
#include "search/guide.h"

#include "cost-model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    POOL_MAX = 20000, /* points scored each round */
    LOCAL_MAX = 1024, /* and surroundings of leaders when the space is larger */
    LEADERS = 8,
    NEAR_MAX = 64,
    FIRST_MIN = 4,  /* points before the first model: a fifth of the expected trials, */
    FIRST_MAX = 8,  /* within these limits */
    SPREAD_TRIES = 32,
    SPREAD_KEPT = 64,
    MEMBERS = 4,
    DEPTH = 4,
    ROUNDS = 60,
    ROWS_MIN = 3,     /* timed outcomes before a model makes sense */
    TREES_TURN = 4,   /* one slot in so many is the boosters', */
    TREES_TURN_FULL = 2, /* or so many once the process cannot know all outcomes */
    PRIOR_JUDGES = 6, /* timed outcomes before a prior can be judged */
};
static const double ETA = 0.3;
static const double CLIP = 5; /* slower than this times the best is just slow */
static const double RANDOM_SHARE = 0.05;
static const double FAILURE_COST = 0.5;  /* log seconds that -log(validity) of 1 adds */
static const double PRIOR_RANK_MIN = 0.25; /* rank correlation below which a prior is refuted */
static const double HEARING = 0.2; /* with a belief of 0.98: the second slot is another's */
static const double FADE = 8;              /* outcomes that halve the weight of the prior */

typedef struct outcomes {
    int64_t *point;
    double *seconds; /* NaN: failed */
    double *prior;   /* log; only with a prior */
    float *rows;
    int64_t n, capacity, n_timed;
} outcomes;

typedef struct search {
    kiln_frontier frontier;
    const kiln_search_space *space;
    kiln_sources sources;
    uint64_t seed;
    int first;
    int width, *column; /* features that vary over the pool: the only ones worth a look */
    float *row;         /* all features of one point */
    int64_t n_pool, n_sampled; /* pool: the sample, then surroundings of leaders */
    int64_t *pool;
    float *pool_rows;
    double *pool_prior; /* log, NULL without a prior that is heard */
    double typical_prior;
    outcomes seen;
    kiln_model *model;
    int64_t trained_on; /* outcomes when the model was trained */
    double slope;       /* of the prior */
    double *score[MEMBERS]; /* per member: its ranking of the pool */
    bool scored[MEMBERS], judged;
    double *valid, *scale;
    kiln_guide *guide;
    /* outcomes when the guide looked, and when the surroundings were found */
    int64_t looked_at, refreshed_at;
    bool looked, refreshed;
    double *chance;  /* per point of the pool: that it works; 0 when spent */
    double hearing;  /* what opinions are still owed: at 1 they get a slot */
    int guided;      /* slots without opinions */
    int64_t spread[SPREAD_KEPT];
    int n_spread;
    int turn; /* which member chooses next */
} search;

/* ---------------------------------------------------------------- prior */

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Points without an opinion get an unpromising one: the upper quartile of the others. */
static void fill_prior(search *s) {
    double *sorted = s->score[0];
    int64_t n = 0;
    for (int64_t i = 0; i < s->n_pool; i++) {
        s->pool_prior[i] = kiln_sources_prior(&s->sources, s->pool[i]);
        if (!isnan(s->pool_prior[i])) sorted[n++] = s->pool_prior[i];
    }
    qsort(sorted, (size_t)n, sizeof *sorted, by_double);
    s->typical_prior = n ? sorted[n * 3 / 4] : 0;
    for (int64_t i = 0; i < s->n_pool; i++)
        if (isnan(s->pool_prior[i])) s->pool_prior[i] = s->typical_prior;
}

static double prior_or_typical(const search *s, int64_t point) {
    double p = kiln_sources_prior(&s->sources, point);
    return isnan(p) ? s->typical_prior : p;
}

/* Slope of log seconds over log prior by ridge regression towards 1, 0 when refuted. */
static double fit_slope(const double *target, const double *prior, int64_t n) {
    double x = 0, y = 0, xx = 0, xy = 0, pull = 1;
    if (n >= PRIOR_JUDGES && !(kiln_rank_correlation(prior, target, n) > PRIOR_RANK_MIN)) return 0;
    for (int64_t i = 0; i < n; i++) x += prior[i] / (double)n, y += target[i] / (double)n;
    for (int64_t i = 0; i < n; i++) {
        xx += (prior[i] - x) * (prior[i] - x);
        xy += (prior[i] - x) * (target[i] - y);
    }
    return fmin(fmax((xy + pull) / (xx + pull), 0), 1.5);
}

/* ---------------------------------------------------------------- pool */

static void get_row(search *s, int64_t point, float *out) {
    int n = s->space->n_features;
    if (n) s->space->features(s->space->context, point, s->row);
    if (s->pool_prior) s->row[n] = (float)kiln_sources_prior(&s->sources, point);
    for (int i = 0; i < s->width; i++) {
        float x = s->row[s->column[i]];
        out[i] = isfinite(x) ? x : NAN; /* the model refuses infinity */
    }
}

static void add_to_pool(search *s, int64_t point) {
    s->pool[s->n_pool] = point;
    get_row(s, point, s->pool_rows + s->n_pool * s->width);
    if (s->pool_prior) s->pool_prior[s->n_pool] = prior_or_typical(s, point);
    s->n_pool++;
}

static bool reserve_pool(search *s) {
    bool whole = s->space->n <= POOL_MAX;
    size_t n = whole ? (size_t)s->space->n : POOL_MAX + LOCAL_MAX;
    size_t width = (size_t)s->space->n_features + 1; /* and the prior */
    bool made = true;
    n += n == 0;
    made &= !!(s->pool = malloc(n * sizeof *s->pool));
    made &= !!(s->pool_rows = malloc(n * width * sizeof(float)));
    made &= !!(s->column = malloc(width * sizeof *s->column));
    made &= !!(s->row = malloc(width * sizeof *s->row));
    made &= !s->space->prior || (s->pool_prior = calloc(n, sizeof(double)));
    made &= !!(s->scale = malloc(width * sizeof(double)));
    made &= !!(s->valid = malloc(n * sizeof(double)));
    made &= !!(s->chance = malloc(n * sizeof(double)));
    for (int k = 0; k < MEMBERS; k++) made &= !!(s->score[k] = malloc(n * sizeof(double)));
    return made;
}

static bool varies(const search *s, int column) {
    const float *x = s->pool_rows + column;
    for (int64_t i = 1; i < s->n_pool; i++)
        if (memcmp(x, x + i * s->width, sizeof *x)) return true;
    return false;
}

/* Keeps the columns that vary, and moves the rows together. */
static void drop_constant_columns(search *s) {
    int kept = 0, width = s->width;
    for (int i = 0; i < width; i++)
        if (varies(s, i)) s->column[kept++] = i;
    if (kept == 0) return; /* of points that look all alike, one column will do as well as any */
    for (int64_t i = 0; i < s->n_pool; i++)
        for (int k = 0; k < kept; k++)
            s->pool_rows[i * kept + k] = s->pool_rows[i * width + s->column[k]];
    s->width = kept;
}

static void measure_scale(search *s) {
    for (int i = 0; i < s->width; i++) {
        double low = INFINITY, high = -INFINITY;
        for (int64_t j = 0; j < s->n_pool; j++) {
            double x = s->pool_rows[j * s->width + i];
            low = fmin(low, x), high = fmax(high, x);
        }
        s->scale[i] = high > low ? high - low : 1;
    }
}

/* Sources of which none is heard are as good as none. */
static void hear_sources(search *s, int64_t n) {
    if (!s->pool_prior) return;
    kiln_sources_open(&s->sources, s->space, s->pool, n);
    if (s->sources.n) return;
    free(s->pool_prior);
    s->pool_prior = NULL;
}

static void fill_pool(search *s) {
    bool whole = s->space->n <= POOL_MAX;
    int64_t n = whole ? s->space->n : POOL_MAX;
    for (int64_t i = 0; i < n; i++)
        s->pool[i] = whole ? i : kiln_search_shuffled(s->space->n, s->seed + 1, i);
    hear_sources(s, n);
    s->width = s->space->n_features + !!s->pool_prior;
    for (int i = 0; i < s->width; i++) s->column[i] = i;
    for (int64_t i = 0; i < n; i++) add_to_pool(s, s->pool[i]);
    s->n_sampled = s->n_pool;
    drop_constant_columns(s);
    measure_scale(s);
    if (s->pool_prior) fill_prior(s);
}

static bool in_surroundings(const search *s, int64_t point) {
    for (int64_t i = s->n_sampled; i < s->n_pool; i++)
        if (s->pool[i] == point) return true;
    return false;
}

static void add_neighbours(search *s, int64_t point) {
    int64_t near[NEAR_MAX];
    int n = s->space->neighbours(s->space->context, point, near, NEAR_MAX);
    for (int i = 0; i < n && s->n_pool < s->n_sampled + LOCAL_MAX; i++)
        if (!kiln_frontier_spent(&s->frontier, near[i]) && !in_surroundings(s, near[i]))
            add_to_pool(s, near[i]);
}

/* Fastest outcomes, best first. */
static int leaders(const search *s, int64_t *out, int max) {
    double time[LEADERS];
    int n = 0;
    for (int64_t i = 0; i < s->seen.n; i++) {
        double t = s->seen.seconds[i];
        if (isnan(t) || (n == max && t >= time[n - 1])) continue;
        int at = n < max ? n++ : max - 1;
        for (; at > 0 && t < time[at - 1]; at--) time[at] = time[at - 1], out[at] = out[at - 1];
        time[at] = t, out[at] = s->seen.point[i];
    }
    return n;
}

/* In a space larger than the pool: what lies one and two steps around the leaders. */
static void refresh_surroundings(search *s) {
    if (s->space->n <= POOL_MAX || !s->space->neighbours) return;
    if (s->refreshed && s->refreshed_at == s->seen.n) return;
    s->refreshed = true;
    s->refreshed_at = s->seen.n;
    int64_t leader[LEADERS];
    int n = leaders(s, leader, LEADERS);
    s->n_pool = s->n_sampled;
    for (int i = 0; i < n; i++) add_neighbours(s, leader[i]);
    int64_t end = s->n_pool;
    for (int64_t i = s->n_sampled; i < end; i++) add_neighbours(s, s->pool[i]);
}

/* ---------------------------------------------------------------- learning */

/* The timed outcomes side by side: log seconds, clipped, and log prior. Returns their number. */
static int64_t timed(const search *s, double *target, double *prior) {
    double best = INFINITY;
    int64_t n = 0;
    for (int64_t i = 0; i < s->seen.n; i++) best = fmin(best, s->seen.seconds[i]);
    for (int64_t i = 0; i < s->seen.n; i++) {
        if (isnan(s->seen.seconds[i])) continue;
        prior[n] = s->seen.prior[i];
        target[n++] = log(fmin(s->seen.seconds[i], CLIP * best));
    }
    return n;
}

/* Seconds as the model is to see them: clipped, and with the prior divided out. */
static void make_lesson(search *s, double *seconds, double *target, double *prior) {
    int64_t n = timed(s, target, prior), at = 0;
    s->slope = s->pool_prior ? fit_slope(target, prior, n) * FADE / (FADE + (double)n) : 0;
    for (int64_t i = 0; i < s->seen.n; i++) {
        seconds[i] = NAN;
        if (isnan(s->seen.seconds[i])) continue;
        seconds[i] = exp(target[at] - s->slope * prior[at]);
        at++;
    }
}

static void train(search *s) {
    /* No row is spared for early stopping: each is worth more as a lesson, and members that leave
     * out different rows check each other. */
    kiln_model_options o = {.depth = DEPTH, .rounds = ROUNDS, .eta = ETA, .held_out = -1,
                            .members = MEMBERS, .seed = s->seed + (uint64_t)s->seen.n};
    size_t n = (size_t)s->seen.n + 1;
    double *scratch = malloc(3 * n * sizeof *scratch);
    if (!scratch) return;
    make_lesson(s, scratch, scratch + n, scratch + 2 * n);
    kiln_model *m = kiln_model_train(s->seen.rows, scratch, s->seen.n, s->width, &o, NULL);
    free(scratch);
    if (!m) return;
    kiln_model_free(s->model);
    s->model = m;
    s->trained_on = s->seen.n;
    for (int k = 0; k < MEMBERS; k++) s->scored[k] = false;
    s->judged = false;
}

static bool model_ready(search *s) {
    if (s->seen.n_timed < ROWS_MIN || s->width < 1) return false;
    if (s->trained_on == s->seen.n) return s->model;
    refresh_surroundings(s);
    train(s);
    return s->model;
}

/* ---------------------------------------------------------------- choosing */

/* The probability that each point of the pool works, once the model knows failures. */
static bool judge(search *s) {
    if (s->judged) return true;
    if (kiln_model_predict(s->model, s->pool_rows, s->n_pool, NULL, NULL, s->valid, NULL))
        return false;
    return s->judged = true;
}

/* Expected log seconds of every point of the pool by one member; a likely failure costs time. */
static bool score_by(search *s, int k) {
    if (s->scored[k]) return true;
    double *score = s->score[k];
    if (kiln_model_predict_member(s->model, k, s->pool_rows, s->n_pool, score, NULL)) return false;
    if (!judge(s)) return false;
    for (int64_t i = 0; i < s->n_pool; i++) {
        score[i] -= FAILURE_COST * log(s->valid[i] + 1e-3);
        if (s->pool_prior) score[i] += s->slope * s->pool_prior[i];
    }
    return s->scored[k] = true;
}

static int64_t favourite(const search *s, const double *score) {
    int64_t best = -1;
    for (int64_t i = 0; i < s->n_pool; i++)
        if ((best < 0 || score[i] < score[best]) && !kiln_frontier_spent(&s->frontier, s->pool[i]))
            best = i;
    return best < 0 ? -1 : s->pool[best];
}

static double distance(const search *s, const float *a, const float *b) {
    double sum = 0;
    for (int i = 0; i < s->width; i++) {
        double x = (a[i] - b[i]) / s->scale[i];
        sum += isnan(x) ? (isnan(a[i]) != isnan(b[i])) : x * x;
    }
    return sum;
}

/* Of a few points by chance the one farthest from those chosen so before. */
static int64_t spread_choice(search *s) {
    int64_t best = -1;
    double farthest = -1;
    for (int i = 0; i < SPREAD_TRIES; i++) {
        int64_t at = (int64_t)kiln_frontier_draw(&s->frontier, (uint64_t)s->n_sampled);
        if (kiln_frontier_spent(&s->frontier, s->pool[at])) continue;
        double near = INFINITY;
        for (int64_t j = 0; j < s->n_spread; j++)
            near = fmin(near, distance(s, s->pool_rows + at * s->width,
                                       s->pool_rows + s->spread[j] * s->width));
        if (near > farthest) farthest = near, best = at;
    }
    if (best < 0) return kiln_frontier_random(&s->frontier);
    if (s->n_spread < SPREAD_KEPT) s->spread[s->n_spread++] = best;
    return s->pool[best];
}

static int64_t model_choice(search *s) {
    if (!model_ready(s)) return -1;
    if (kiln_frontier_unit(&s->frontier) < RANDOM_SHARE) return spread_choice(s);
    int k = s->turn++ % MEMBERS;
    return score_by(s, k) ? favourite(s, s->score[k]) : -1;
}

/* The guide sees the outcomes of all batches before; points proposed since are merely spent. */
static bool look(search *s) {
    if (s->looked && s->looked_at == s->seen.n) return true;
    refresh_surroundings(s);
    bool judged = s->seen.n_timed < s->seen.n && model_ready(s) && judge(s);
    for (int64_t i = 0; i < s->n_pool; i++) {
        bool spent = kiln_frontier_spent(&s->frontier, s->pool[i]);
        s->chance[i] = spent ? 0 : judged ? s->valid[i] + 1e-3 : 1;
    }
    s->looked = kiln_guide_look(s->guide, s->pool, s->n_pool, s->chance);
    s->looked_at = s->seen.n;
    return s->looked;
}

static int64_t pick(search *s, bool opinions) {
    int64_t p;
    do p = kiln_guide_next(s->guide, opinions);
    while (p >= 0 && kiln_frontier_spent(&s->frontier, p));
    return p;
}

/* Do opinions get this slot? Their share of slots is the belief in them, evenly. */
static bool opinions_turn(search *s) {
    if (!s->pool_prior || !look(s)) return false;
    s->hearing += kiln_guide_belief(s->guide);
    if (s->hearing < 1) return false;
    s->hearing -= 1;
    return true;
}

static bool spread_turn(const search *s) {
    int most = s->pool_prior ? 2 * s->first : s->first; /* what opinions chose teaches, too */
    return s->n_spread < s->first && s->frontier.spent < most;
}

static int64_t guided_choice(search *s) {
    if (opinions_turn(s)) return pick(s, true);
    if (spread_turn(s)) return spread_choice(s);
    if (!look(s)) return -1;
    int turn = kiln_guide_full(s->guide) ? TREES_TURN_FULL : TREES_TURN;
    return s->guided++ % turn ? pick(s, false) : -1;
}

static int propose(void *state, int n, int64_t *points) {
    search *s = state;
    int count = 0;
    while (count < n) {
        int64_t p = kiln_frontier_start(&s->frontier);
        if (p < 0) p = guided_choice(s);
        if (p < 0) p = model_choice(s);
        if (p < 0) p = kiln_frontier_random(&s->frontier);
        if (p < 0 || !kiln_frontier_take(&s->frontier, p)) break;
        points[count++] = p;
    }
    return count;
}

/* ---------------------------------------------------------------- outcomes */

static bool reserve_outcome(search *s) {
    outcomes *x = &s->seen;
    if (x->n < x->capacity) return true;
    size_t n = x->capacity ? 2 * (size_t)x->capacity : 64, width = (size_t)s->width + 1;
    void *point = realloc(x->point, n * sizeof *x->point);
    if (point) x->point = point;
    void *seconds = realloc(x->seconds, n * sizeof *x->seconds);
    if (seconds) x->seconds = seconds;
    void *prior = realloc(x->prior, n * sizeof *x->prior);
    if (prior) x->prior = prior;
    void *rows = realloc(x->rows, n * width * sizeof *x->rows);
    if (rows) x->rows = rows;
    if (!point || !seconds || !prior || !rows) return false;
    x->capacity = (int64_t)n;
    return true;
}

static void observe(void *state, const kiln_observation *o, int n) {
    search *s = state;
    outcomes *x = &s->seen;
    for (int i = 0; i < n; i++) {
        if (o[i].point < 0 || o[i].point >= s->space->n || !reserve_outcome(s)) continue;
        kiln_frontier_take(&s->frontier, o[i].point);
        x->point[x->n] = o[i].point;
        x->seconds[x->n] = kiln_search_timed(&o[i]) ? o[i].seconds : NAN;
        x->prior[x->n] = s->pool_prior ? prior_or_typical(s, o[i].point) : 0;
        get_row(s, o[i].point, x->rows + x->n * s->width);
        x->n_timed += !isnan(x->seconds[x->n]);
        kiln_guide_tell(s->guide, x->point[x->n], x->seconds[x->n]);
        x->n++;
    }
}

static double predict(void *state, int64_t point) {
    search *s = state;
    double mean = NAN;
    if (!s->model || point < 0 || point >= s->space->n) return NAN;
    float *row = malloc(sizeof *row * (size_t)(s->width + 1));
    if (!row) return NAN;
    get_row(s, point, row);
    if (kiln_model_predict(s->model, row, 1, &mean, NULL, NULL, NULL)) mean = NAN;
    free(row);
    return exp(mean + (s->pool_prior ? s->slope * prior_or_typical(s, point) : 0));
}

static void quality(void *state, double *rank_correlation, double *recall) {
    const search *s = state;
    *rank_correlation = *recall = NAN;
    if (s->model) kiln_model_quality(s->model, rank_correlation, recall);
}

static double expected_gain(void *state, int n) {
    search *s = state;
    if (s->frontier.spent >= s->space->n) return 0;
    return look(s) ? 1 - exp(-kiln_guide_gain(s->guide, n)) : NAN;
}

/* ---------------------------------------------------------------- life */

static void destroy(void *state) {
    search *s = state;
    kiln_frontier_free(&s->frontier);
    kiln_model_free(s->model);
    kiln_guide_close(s->guide);
    free(s->chance);
    free(s->pool), free(s->pool_rows), free(s->pool_prior), free(s->valid), free(s->scale);
    free(s->column), free(s->row);
    for (int k = 0; k < MEMBERS; k++) free(s->score[k]);
    free(s->seen.point), free(s->seen.seconds), free(s->seen.prior), free(s->seen.rows);
    free(s);
}

static void *create(const kiln_search_space *space, const kiln_search_options *o, kiln_error *e) {
    search *s = calloc(1, sizeof *s);
    if (!s) return kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some"), NULL;
    s->space = s->sources.space = space;
    s->seed = o ? o->seed : 0;
    int fifth = o && o->expected_trials > 0 ? o->expected_trials / 5 : FIRST_MAX;
    s->first = fifth < FIRST_MIN ? FIRST_MIN : fifth > FIRST_MAX ? FIRST_MAX : fifth;
    if (kiln_frontier_init(&s->frontier, space, o, e)) return destroy(s), NULL;
    if (!reserve_pool(s)) {
        kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some");
        return destroy(s), NULL;
    }
    fill_pool(s);
    s->hearing = HEARING;
    s->guide = kiln_guide_open(&s->sources, s->pool, s->n_pool, e);
    if (!s->guide) return destroy(s), NULL;
    return s;
}

extern const kiln_strategy kiln_strategy_model;
const kiln_strategy kiln_strategy_model = {
    .name = "model",
    .help = "cost models learn from every trial and rank the space (the default)",
    .create = create,
    .propose = propose,
    .observe = observe,
    .predict = predict,
    .quality = quality,
    .expected_gain = expected_gain,
    .destroy = destroy,
};

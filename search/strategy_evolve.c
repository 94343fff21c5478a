/* Steady-state evolution: a parent is the best of a few drawn from the leading points, a child is
 * some steps away from it along the space's neighbours. It sees no feature and no model: an honest
 * baseline beside `model`, and the better choice when features say nothing. */
#include "search/frontier.h"

#include <stdlib.h>
#include <string.h>

enum { LEADERS = 16, TOURNAMENT = 3, STEPS_MAX = 4, NEIGHBOURS_MAX = 64, ATTEMPTS = 8 };
static const double RANDOM_SHARE = 0.1;

typedef struct evolve {
    kiln_frontier frontier;
    int first; /* random points before evolution starts */
    int seen;  /* outcomes so far */
    kiln_observation leader[LEADERS]; /* fastest first */
    int n_leaders;
} evolve;

static void *create(const kiln_search_space *space, const kiln_search_options *o, kiln_error *e) {
    evolve *v = calloc(1, sizeof *v);
    if (!v) return kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some"), NULL;
    int expected = o ? o->expected_trials : 0;
    v->first = expected > 0 && expected < 80 ? 4 + expected / 5 : 20;
    if (!kiln_frontier_init(&v->frontier, space, o, e)) return v;
    free(v);
    return NULL;
}

static int64_t pick_parent(evolve *v) {
    uint64_t best = (uint64_t)v->n_leaders;
    for (int i = 0; i < TOURNAMENT; i++) {
        uint64_t k = kiln_frontier_draw(&v->frontier, (uint64_t)v->n_leaders);
        if (k < best) best = k;
    }
    return v->leader[best].point;
}

/* Walks one or more random steps; far walks are rarer, but leave a basin that is used up. */
static int64_t mutate(evolve *v, int64_t point) {
    const kiln_search_space *s = v->frontier.space;
    int64_t near[NEIGHBOURS_MAX];
    for (int step = 0; step < STEPS_MAX; step++) {
        int n = s->neighbours(s->context, point, near, NEIGHBOURS_MAX);
        if (n <= 0) return point;
        point = near[kiln_frontier_draw(&v->frontier, (uint64_t)n)];
        if (!kiln_frontier_spent(&v->frontier, point) && kiln_frontier_unit(&v->frontier) < 0.6)
            break;
    }
    return point;
}

static int64_t child(evolve *v) {
    if (!v->frontier.space->neighbours || !v->n_leaders || v->seen < v->first) return -1;
    if (kiln_frontier_unit(&v->frontier) < RANDOM_SHARE) return -1;
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t p = mutate(v, pick_parent(v));
        if (!kiln_frontier_spent(&v->frontier, p)) return p;
    }
    return -1;
}

static int propose(void *state, int n, int64_t *points) {
    evolve *v = state;
    int count = 0;
    while (count < n) {
        int64_t p = kiln_frontier_start(&v->frontier);
        if (p < 0) p = child(v);
        if (p < 0) p = kiln_frontier_random(&v->frontier);
        if (p < 0 || !kiln_frontier_take(&v->frontier, p)) break;
        points[count++] = p;
    }
    return count;
}

static void add_leader(evolve *v, kiln_observation o) {
    int at = v->n_leaders;
    while (at > 0 && o.seconds < v->leader[at - 1].seconds) at--;
    if (at == LEADERS) return;
    if (v->n_leaders < LEADERS) v->n_leaders++;
    memmove(v->leader + at + 1, v->leader + at,
            sizeof *v->leader * (size_t)(v->n_leaders - 1 - at));
    v->leader[at] = o;
}

static void observe(void *state, const kiln_observation *o, int n) {
    evolve *v = state;
    for (int i = 0; i < n; i++) {
        if (o[i].point < 0 || o[i].point >= v->frontier.space->n) continue;
        kiln_frontier_take(&v->frontier, o[i].point);
        v->seen++;
        if (kiln_search_timed(&o[i])) add_leader(v, o[i]);
    }
}

static void destroy(void *state) {
    evolve *v = state;
    kiln_frontier_free(&v->frontier);
    free(v);
}

extern const kiln_strategy kiln_strategy_evolve;
const kiln_strategy kiln_strategy_evolve = {
    .name = "evolve",
    .help = "mutates the leaders step by step along knobs; needs no model",
    .create = create,
    .propose = propose,
    .observe = observe,
    .destroy = destroy,
};

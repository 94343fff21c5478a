/* Every point once, in an order that the seed decides. What any cleverness must beat. */
#include "search/frontier.h"

#include <stdlib.h>

static void *create(const kiln_search_space *space, const kiln_search_options *o, kiln_error *e) {
    kiln_frontier *f = malloc(sizeof *f);
    if (!f) return kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some"), NULL;
    if (!kiln_frontier_init(f, space, o, e)) return f;
    free(f);
    return NULL;
}

static int propose(void *state, int n, int64_t *points) {
    kiln_frontier *f = state;
    int count = 0;
    while (count < n) {
        int64_t p = kiln_frontier_start(f);
        if (p < 0) p = kiln_frontier_random(f);
        if (p < 0 || !kiln_frontier_take(f, p)) break;
        points[count++] = p;
    }
    return count;
}

static void observe(void *state, const kiln_observation *o, int n) {
    for (int i = 0; i < n; i++) kiln_frontier_take(state, o[i].point);
}

static void destroy(void *state) {
    kiln_frontier_free(state);
    free(state);
}

extern const kiln_strategy kiln_strategy_random;
const kiln_strategy kiln_strategy_random = {
    .name = "random",
    .help = "random order, each point once: the baseline that needs no excuse",
    .create = create,
    .propose = propose,
    .observe = observe,
    .destroy = destroy,
};

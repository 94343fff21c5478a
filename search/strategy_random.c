/* Every point once, in an order that the seed decides. What any cleverness must beat. */
#include "search/frontier.h"

static int propose(void *state, int n, int64_t *points) {
    return kiln_frontier_walk(state, kiln_frontier_random, n, points);
}

extern const kiln_strategy kiln_strategy_random;
const kiln_strategy kiln_strategy_random = {
    .name = "random",
    .help = "random order, each point once: the baseline that needs no excuse",
    .create = kiln_frontier_create,
    .propose = propose,
    .observe = kiln_frontier_observe,
    .destroy = kiln_frontier_destroy,
};

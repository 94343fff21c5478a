/* Every point, in the order of the space: knobs change like the digits of a counter. Meant for
 * small spaces and for recordings; a budget that ends early has seen one corner only. */
#include "search/frontier.h"

static int propose(void *state, int n, int64_t *points) {
    return kiln_frontier_walk(state, kiln_frontier_in_order, n, points);
}

/* The best may be the last point: who asks for all of them is not told to stop. */
static double expected_gain(void *state, int n) {
    const kiln_frontier *f = state;
    (void)n;
    return f->spent < f->space->n ? 1 : 0;
}

extern const kiln_strategy kiln_strategy_exhaustive;
const kiln_strategy kiln_strategy_exhaustive = {
    .name = "exhaustive",
    .help = "every point in order, after the starts: sure and slow",
    .create = kiln_frontier_create,
    .propose = propose,
    .observe = kiln_frontier_observe,
    .expected_gain = expected_gain,
    .destroy = kiln_frontier_destroy,
};

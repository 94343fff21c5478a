/* What every strategy keeps: which points are spent, the starts not yet tried, and an order in
 * which chance visits the rest. A spent point was proposed or observed; it never comes again. */
#ifndef KILN_SEARCH_FRONTIER_H
#define KILN_SEARCH_FRONTIER_H

#include "search/search.h"

typedef struct kiln_frontier {
    const kiln_search_space *space;
    uint64_t seed;
    int64_t next_start, next_step, next_in_order;
    uint64_t draws; /* random numbers used */
    int64_t *slot;  /* hash set of spent points, open addressing; 0 is empty, else point + 1 */
    int64_t capacity, spent;
} kiln_frontier;

/* Fails with KILN_BAD_INPUT for a space without points or features behind its back. */
int kiln_frontier_init(kiln_frontier *f, const kiln_search_space *space,
                       const kiln_search_options *o, kiln_error *e);
void kiln_frontier_free(kiln_frontier *f);

bool kiln_frontier_spent(const kiln_frontier *f, int64_t point);
/* Spends a point; false when it was spent, lies outside, or memory ran out. */
bool kiln_frontier_take(kiln_frontier *f, int64_t point);

/* The next unspent point, not yet spent by this call; -1 when there is none. */
int64_t kiln_frontier_start(kiln_frontier *f);
int64_t kiln_frontier_in_order(kiln_frontier *f);
int64_t kiln_frontier_random(kiln_frontier *f); /* every point once, in an order set by the seed */

/* Chance, from the seed and a counter: equal histories draw equal numbers. */
uint64_t kiln_frontier_draw(kiln_frontier *f, uint64_t below);
double kiln_frontier_unit(kiln_frontier *f);

/* Point i of a random order of 0..n-1: a permutation, computed without memory. */
int64_t kiln_search_shuffled(int64_t n, uint64_t seed, int64_t i);

/* What strategies that only walk the frontier share: a frontier as their whole state. walk proposes
 * the starts, then what `next` gives. */
void *kiln_frontier_create(const kiln_search_space *space, const kiln_search_options *o,
                           kiln_error *e);
int kiln_frontier_walk(kiln_frontier *f, int64_t (*next)(kiln_frontier *), int n, int64_t *points);
void kiln_frontier_observe(void *frontier, const kiln_observation *o, int n);
void kiln_frontier_destroy(void *frontier);

/* Is the outcome a time (positive and finite)? Anything else is a failure. */
bool kiln_search_timed(const kiln_observation *o);

#endif

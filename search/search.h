/* Search: WHICH candidate next. It sees a space of numbered points with features, the outcomes of
 * earlier trials and a model; never a device, a problem or a store. A recorded space is as good as
 * a live one, so strategies are tested by replay, without a GPU.
 *
 * To add a strategy: a file search/strategy_NAME.c that exports `kiln_strategy_NAME`. */
#ifndef KILN_SEARCH_SEARCH_H
#define KILN_SEARCH_SEARCH_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* A finite space. Points are 0..n-1, all of them legal by the family's rules (they may still fail
 * to compile or run). Features are a function of the point alone. */
typedef struct kiln_search_space {
    int64_t n;
    int n_features;
    const char *const *feature_names;
    void (*features)(void *context, int64_t point, float *out);
    /* Neighbours: points that differ in one knob by one step; at most max, returns the count. */
    int (*neighbours)(void *context, int64_t point, int64_t *out, int max);
    void *context;
    int n_starts;          /* points to try first: default schedules, winners of similar problems */
    const int64_t *starts;
    /* Predicted seconds from earlier records of other problems or devices; NULL when there are
     * none. NaN: no opinion. */
    double (*prior)(void *context, int64_t point);
    /* Where several know something: what each of them says, 0 <= k < n_opinions, right up to a
     * factor of its own; NaN: nothing. A strategy may weigh them one by one; `prior`, which must
     * then be there, is what they say together. 0: the prior is the only one. */
    int n_opinions;
    double (*opinion)(void *context, int k, int64_t point);
} kiln_search_space;

/* One finished trial: seconds, or NaN when it failed. */
typedef struct kiln_observation {
    int64_t point;
    double seconds;
} kiln_observation;

typedef struct kiln_search_options {
    uint64_t seed;
    int batch;          /* proposals per round, default 8 */
    int expected_trials; /* how many trials the budget allows, 0 unknown: balances exploration */
} kiln_search_options;

typedef struct kiln_strategy {
    const char *name, *help;
    /* State lives until destroy; the space must outlive it. NULL: out of memory. */
    void *(*create)(const kiln_search_space *space, const kiln_search_options *o, kiln_error *e);
    /* At most n points not proposed before; returns how many, 0 when the space is exhausted. */
    int (*propose)(void *state, int n, int64_t *points);
    /* Tells outcomes, in any order, also of points it did not propose (resumed sessions). */
    void (*observe)(void *state, const kiln_observation *o, int n);
    /* The model's estimate for a point in seconds, NaN without a model; may be NULL. */
    double (*predict)(void *state, int64_t point);
    void (*destroy)(void *state);
    /* How well the model foretold trials it had not seen: Spearman's rank correlation, and the
     * share of the best tenth that it had put there; NaN each when unknown. May be NULL. */
    void (*quality)(void *state, double *rank_correlation, double *recall);
    /* By which share n further trials are expected to lower the best time so far (0.02: to 98 % of
     * it), judged by what the model and its spread say of points not yet proposed. At least 0; 0
     * when the space is exhausted; NaN while it cannot tell. Cheap: asked after every batch. May be
     * NULL. */
    double (*expected_gain)(void *state, int n);
} kiln_strategy;

extern const kiln_strategy *const kiln_strategies[]; /* NULL-terminated; generated */
const kiln_strategy *kiln_strategy_find(const char *name);

#endif

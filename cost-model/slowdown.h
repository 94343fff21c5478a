/* What a model across problems learns of one problem's times: which candidates are faster than the
 * others, never how fast the problem is. tuner/foresight.c learns so from our records,
 * search/sizes.c from recordings of many sizes. */
#ifndef KILN_COST_MODEL_SLOWDOWN_H
#define KILN_COST_MODEL_SLOWDOWN_H

#include "cost-model/forest.h"

#include <stdbool.h>

/* Of n candidates of one problem: seconds, NaN: failed. Writes for each
 *   target   log of times slower than the best, 8 at most (and for a failure), less what `known`
 *            (may be NULL) says of that already, less the weighted mean of the problem: what all
 *            candidates share says nothing about their order, and trees would try to fit it
 *   weight   1 / slowdown^3, so that what is fast is told apart, times 100 / (n + 50): long
 *            searches should not outvote short ones
 * Returns false, and writes nothing, when all failed. */
bool kiln_slowdown_lesson(const double *seconds, const double *known, int64_t n, double *target,
                          double *weight);

/* The most that a slowdown counts. */
extern const double kiln_slowdown_clip;
/* How such a forest grows. */
extern const kiln_forest_options kiln_slowdown_forest;

#endif

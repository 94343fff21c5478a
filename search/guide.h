/* What two Gaussian processes would try next (cost-model/gp.h): one that listens to the opinions
 * which come with a space, and one that does not. Both see every outcome; which explains them
 * better says whether the opinions deserve a hearing. */
#ifndef KILN_SEARCH_GUIDE_H
#define KILN_SEARCH_GUIDE_H

#include "search/source.h"

typedef struct kiln_guide kiln_guide;

/* points: those of the sources' space that the guide shall look at, n of them; the sources must
 * outlive the guide. NULL: no memory. */
kiln_guide *kiln_guide_open(const kiln_sources *sources, const int64_t *points, int64_t n,
                            kiln_error *e);
void kiln_guide_close(kiln_guide *g);

/* One more outcome; seconds NaN: failed. False: no memory, it is not known then. */
bool kiln_guide_tell(kiln_guide *g, int64_t point, double seconds);

/* Fits both processes to the outcomes and lets them pick from pool, n points that begin with those
 * of open. valid[i]: the probability that pool[i] works, 0 for spent points. False: no memory;
 * there is nothing to choose from then. */
bool kiln_guide_look(kiln_guide *g, const int64_t *pool, int64_t n, const double *valid);
/* The next pick since the last look, -1: no more. opinions: of the process that listens. */
int64_t kiln_guide_next(kiln_guide *g, bool opinions);

/* The probability that opinions help, by the last look; 0 without any. */
double kiln_guide_belief(const kiln_guide *g);
/* By how much n further picks are expected to lower log seconds, by the process believed; NaN
 * before the first timed outcome was looked at. */
double kiln_guide_gain(const kiln_guide *g, int n);
/* Timed outcomes that were too many for the processes: the slower of them they know in part. */
bool kiln_guide_full(const kiln_guide *g);

#endif

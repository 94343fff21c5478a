/* Private to search/: the sources whose opinions come with a space, and which of them can know
 * anything at all, told before any outcome.
 *
 * Times of kernels are regular: settings that lie next to each other take similar times, on every
 * device. A source whose opinion of a point has nothing to do with its opinions of the point's
 * neighbours (records mixed up, noise) says nothing about any device, and whoever follows it only
 * loses trials: it is not heard. Whether a regular source speaks of THIS kernel and device the
 * outcomes have to tell (guide.h). */
#ifndef KILN_SEARCH_SOURCE_H
#define KILN_SEARCH_SOURCE_H

#include "cost-model/gp.h"
#include "search/search.h"

typedef struct kiln_sources {
    const kiln_search_space *space;
    int n;                            /* that are heard */
    bool some;                        /* others are not */
    int source[KILN_GP_OPINIONS_MAX]; /* among the space's opinions */
    double
        agreement; /* mean rank correlation between those heard; NaN: fewer than two, or unknown */
    double level[KILN_GP_OPINIONS_MAX]; /* mean opinion over the points, when some are not heard */
} kiln_sources;

/* Hears the sources of a space (a prior alone is one), by what they say of n of its points. The
 * space must outlive the sources. */
void kiln_sources_open(kiln_sources *s, const kiln_search_space *space, const int64_t *points,
                       int64_t n);
/* Logarithm of what source i of those heard says of a point, NaN: nothing. */
double kiln_sources_opinion(const kiln_sources *s, int i, int64_t point);
/* What those heard say together: the space's prior when these are all, else their mean, up to a
 * constant. */
double kiln_sources_prior(const kiln_sources *s, int64_t point);

/* Rank correlation of what source k of a space says of points with the mean of what it says of
 * some of their neighbours, by a sample of `pairs` points; NaN: it cannot be told (no neighbours,
 * few opinions, all equal, no memory). */
double kiln_source_regularity(const kiln_search_space *space, int k, const int64_t *points,
                              int64_t n, int64_t *pairs);

#endif

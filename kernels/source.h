/* Where an evaluator reads the elements of operands: from arrays on the host, or from the rule that
 * made them (kernels/input.h), which needs no arrays of gigabytes. Read by several threads at once.
 */
#ifndef KILN_KERNELS_SOURCE_H
#define KILN_KERNELS_SOURCE_H

#include "kernels/problem.h"

typedef struct kiln_source kiln_source;
struct kiln_source {
    /* Elements [from, from + n) of the array of operand i, as doubles: in `room`, which has space
     * for n, or in memory of the source's own. Good until `room` is used again. */
    const double *(*read)(const kiln_source *s, int i, int64_t from, int64_t n, double *room);
    const double *scalar; /* by operand; NULL: all 0 */
};

static inline double kiln_source_element(const kiln_source *s, int i, int64_t at) {
    double room;
    return *s->read(s, i, at, 1, &room);
}

/* Arrays on the host: array[i] is operand i's, borrowed. */
typedef struct kiln_host_source {
    kiln_source source; /* first */
    const kiln_problem *p;
    const void *const *array;
} kiln_host_source;
kiln_host_source kiln_source_host(const kiln_problem *p, const void *const *array,
                                  const double *scalar);

#endif

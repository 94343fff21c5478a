/* The comparison of a program's output with its reference, on the device.
 *
 * The unit of kiln_emit_reference_unit (emit.h) holds the family's reference program and, for
 * every output operand j (counted among outputs, in operand order), the entry "compare_<j>" of
 * kernels/compare.k.c. It reads the output, the double array KILN_ARG_REFERENCE j and the float
 * array KILN_ARG_BOUND j, and leaves a few doubles per block in KILN_ARG_PARTIALS; the host makes
 * a verdict of them. Complete entry names begin with "kiln_reference_".
 *
 * An element is right when |out - ref| <= bound + u (|ref| + bound) + smallest, u and smallest
 * being those of the output's type; integers: when it is within the bound and one rounding.
 * NaN is right only where the reference is NaN, and infinity where the reference reaches the
 * largest value of the type. Types that saturate (integers, e4m3, e5m2) never hold infinity: there
 * the reference is cut to their range first. */
#ifndef KILN_KERNELS_REFERENCE_H
#define KILN_KERNELS_REFERENCE_H

#include "kernels/problem.h"
#include "targets/target.h"

typedef struct kiln_verdict {
    bool right;          /* no element is wrong, and at least one has a bound that says something */
    double worst;        /* largest error over its bound; infinity when `bad` is not 0 */
    int64_t worst_index; /* dense index (batch, row, col) of that element */
    int64_t bad;         /* NaN, infinities and never written elements */
    int64_t unbounded;   /* elements whose bound is not finite: they prove nothing */
    int64_t elements;
    double square_error, square_reference; /* sums over elements with a finite bound */
} kiln_verdict;

/* The launch for output j. The type must be one that the dialects store. */
int kiln_compare_launch(const kiln_problem *p, const kiln_caps *caps, int j, kiln_launch *out,
                        kiln_error *e);
int64_t kiln_compare_partial_bytes(const kiln_launch *l);
/* `partials` holds kiln_compare_partial_bytes bytes, 8-byte aligned. */
kiln_verdict kiln_compare_verdict(const kiln_launch *l, const void *partials);

#endif

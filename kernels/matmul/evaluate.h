/* What matmul's reference kernel (family.c) and its evaluator in C (evaluate.c) have in common: how
 * far a right sum may be from the exact one. README.md derives it.
 *
 * Bound of acc: ERROR_UNITS * sqrt(k) * 2^-24 * sum |a||b|. Rounding errors of a sum of k products
 * behave like a random walk: with probability 1 - 2 exp(-l^2 / 2) they stay below l sqrt(k) u times
 * that sum (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019). l = 4
 * also covers tensor cores, which truncate instead of rounding and so err by 2 units at a time.
 *
 * Sums of e4m3 and e5m2 products may pass through a narrow accumulator; README.md says how many
 * units of it a sum of k products may be off. */
#ifndef KILN_KERNELS_MATMUL_EVALUATE_H
#define KILN_KERNELS_MATMUL_EVALUATE_H

#include "kernels/matmul/matmul.h"

#define ERROR_UNITS 4.0
#define FLOAT_ROUNDOFF 0x1p-24
#define TINY 1.2e-38 /* what flushing a product to zero may cost */
enum { NARROW_STEP = 32, NARROW_WINDOW = 128 };
#define NARROW_UNIT 0x1p-13
#define NARROW_SPREAD 2.0

bool kiln_matmul_narrow(const matmul *v);
/* magnitude: the sum of |a||b|; unit: that of the narrow accumulator, 0 where there is none. */
double kiln_matmul_acc_error(const matmul *v, double acc, double magnitude, double unit);

/* kiln_generator's evaluate and evaluate_row. */
int kiln_matmul_evaluate(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                         double *const *value, double *const *bound, kiln_error *e);
int kiln_matmul_evaluate_row(const kiln_problem *p, const void *const *host, const double *scalars,
                             int64_t batch, int64_t row, double *const *value, double *const *bound,
                             kiln_error *e);

#endif

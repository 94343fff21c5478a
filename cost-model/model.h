/* The cost model: XGBoost through its C API. Two boosters: seconds (regression on log time) and
 * validity (logistic: does a candidate fail?). Early stopping on held-out rows. Single-threaded by
 * default: XGBoost's own threads are slower on busy cores (measured up to 4x).
 *
 * Rows are float features in a fixed order; the caller knows their meaning. Deterministic for equal
 * rows, options and seed. */
#ifndef KILN_COST_MODEL_MODEL_H
#define KILN_COST_MODEL_MODEL_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kiln_model kiln_model;

typedef struct kiln_model_options {
    int depth;         /* 0: 4 */
    int rounds;        /* most; 0: 60 */
    double eta;        /* 0: 0.3 */
    double clip;       /* times above clip x the best count as that; 0: no clipping */
    double held_out;   /* share of rows for early stopping; 0: 0.2 when 40 rows or more, else none;
                          negative: none */
    int members;       /* ensemble size for uncertainty; 0: 1. Each member leaves out a fifth of the
                          rows (or held_out of them), its own by chance */
    uint64_t seed;
} kiln_model_options;

/* seconds[i]: NaN for a failed trial. rows: n x n_features, row-major; NaN means missing. */
kiln_model *kiln_model_train(const float *rows, const double *seconds, int64_t n, int n_features,
                             const kiln_model_options *o, kiln_error *e);
/* Predicted log(seconds) mean and spread over members, and the probability that the candidate is
 * valid, for n rows. Each of mean, spread (which needs mean) and valid may be NULL. */
int kiln_model_predict(kiln_model *m, const float *rows, int64_t n, double *mean, double *spread,
                       double *valid, kiln_error *e);
/* log(seconds) by one member alone (modulo their number): a draw for Thompson sampling. */
int kiln_model_predict_member(kiln_model *m, int member, const float *rows, int64_t n, double *out,
                              kiln_error *e);
int kiln_model_features(const kiln_model *m); /* n_features it was trained with */
/* Self-contained bytes with our own checksum (XGBoost loads a bit-flipped model without error). */
int kiln_model_save(kiln_model *m, void **bytes, size_t *size, kiln_error *e); /* malloc'ed */
kiln_model *kiln_model_load(const void *bytes, size_t size, kiln_error *e);
void kiln_model_free(kiln_model *m);

/* How good it was on rows it did not see: rank correlation (Spearman) and recall of the true best
 * 10 % in the predicted best 10 %; NaN when nothing was held out. */
void kiln_model_quality(const kiln_model *m, double *rank_correlation, double *recall);
/* Spearman's rank correlation; NaN below two rows, without memory, or when one side is constant. */
double kiln_rank_correlation(const double *a, const double *b, int64_t n);

#endif

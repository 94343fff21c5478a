/* A Gaussian process over log seconds: the model for the first hundred outcomes, where trees have
 * too little to split, and the one that weighs what others say.
 *
 *   log seconds = constant + blend of opinions + smooth function of inputs and opinions + noise
 *
 * Inputs are a point's own settings in 0..1. Opinions are what others say of the point: log seconds
 * on another device, an estimate, a model of other problems; each right up to a constant. The blend
 * starts as their mean, and outcomes shift its weights; how much of it is believed, how fast the
 * function varies along each input, and the noise are those that explain the outcomes best, with a
 * pull towards what is usual. Fitted anew after every batch, it takes milliseconds; what is done for
 * every point is shared among the cores (base/parallel.h), with the same result on any number. */
#ifndef KILN_COST_MODEL_GP_H
#define KILN_COST_MODEL_GP_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct kiln_gp kiln_gp;

enum { KILN_GP_INPUTS_MAX = 64, KILN_GP_OPINIONS_MAX = 16 };

/* Rows of points are n_inputs + n_opinions floats. NaN: a setting that the point lacks, an opinion
 * that nobody holds. Inputs and opinions that do not vary are legal and say nothing. */
typedef struct kiln_gp_shape {
    int n_inputs, n_opinions;
    bool deaf; /* the opinions are in the rows, and not listened to */
} kiln_gp_shape;

/* target: log seconds of n >= 0 points, finite; work grows with n^3, 200 are many. `before`, may be
 * NULL, is a process of the same shape trained on fewer outcomes: the search for its constants goes
 * on from there. Deterministic. NULL: no memory. */
kiln_gp *kiln_gp_train(const kiln_gp_shape *shape, const float *rows, const double *target,
                       int64_t n, const kiln_gp *before, kiln_error *e);
void kiln_gp_free(kiln_gp *g);

/* Log seconds of n points, and how uncertain they are (standard deviation); spread may be NULL.
 * Without outcomes the level is arbitrary. */
int kiln_gp_predict(const kiln_gp *g, const float *rows, int64_t n, double *mean, double *spread,
                    kiln_error *e);

/* Picks up to `most` of n points, one after the other, by the expected improvement over `best` log
 * seconds (NaN: over the least mean); each next one as if the earlier had come out as predicted, so
 * that a batch spreads. valid, may be NULL: the probability that a point works, whose lack counts
 * as time; 0: never choose it. gain, may be NULL: what each is expected to lower log seconds by.
 * Returns how many, negative on failure. */
int kiln_gp_choose(const kiln_gp *g, const float *rows, int64_t n, double best, const double *valid,
                   int most, int64_t *chosen, double *gain, kiln_error *e);

/* Log of the likelihood of the outcomes times what was thought of the constants before: of two
 * processes on the same outcomes the one with more of it explains them better. */
double kiln_gp_evidence(const kiln_gp *g);
/* The share of the opinions' mean that is believed: 1 fully, 0 refuted. */
double kiln_gp_trust(const kiln_gp *g);

#endif

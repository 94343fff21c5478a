/* A trained model as a text that ships: trees over named features, read and evaluated without
 * XGBoost, so the file is the same for every version of it, and a person can look inside.
 *
 *   kiln-forest 1
 *   sha256 64 digits, of all that follows this line
 *   about any words            as many lines as one likes: what it was trained on
 *   forest NAME features N trees T
 *   feature NAME               N lines, in the order of their numbers
 *   tree M                     T times, each with M nodes, numbered from 0, the root:
 *   FEATURE THRESHOLD YES NO MISSING       below the threshold goes to YES; NaN to MISSING
 *   = VALUE                                a leaf
 *
 * One text may hold several forests. Reading checks everything: the hash, and that every path ends.
 */
#ifndef KILN_COST_MODEL_FOREST_H
#define KILN_COST_MODEL_FOREST_H

#include "base/text.h"
#include "base/status.h"

#include <stdint.h>

typedef struct kiln_forest kiln_forest;

typedef struct kiln_forest_options {
    int depth, rounds; /* 0: 6, 200 */
    double eta;        /* 0: 0.1 */
    uint64_t seed;
} kiln_forest_options;

/* Fits targets by squared error, rows n x n_features, NaN missing, weight NULL: all 1. Copies
 * names. */
kiln_forest *kiln_forest_train(const char *name, const char *const *features, int n_features,
                               const float *rows, const double *target, const double *weight,
                               int64_t n, const kiln_forest_options *o, kiln_error *e);
void kiln_forest_free(kiln_forest *f);

const char *kiln_forest_name(const kiln_forest *f);
int kiln_forest_features(const kiln_forest *f);
const char *kiln_forest_feature(const kiln_forest *f, int i);
/* The sum of the trees' leaves for one row. */
double kiln_forest_predict(const kiln_forest *f, const float *row);

/* about: lines without "about", may be NULL. parse(print(x)) == x. */
void kiln_forest_print(const kiln_forest *const *all, int n, const char *about, kiln_text *out);
/* At most `max` forests; returns how many, negative on failure. `about`, may be NULL, gets the
 * lines. */
int kiln_forest_parse(const char *text, kiln_forest **all, int max, kiln_text *about,
                      kiln_error *e);

#endif

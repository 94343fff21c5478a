/* Features: from a problem, a schedule and a device to the row that the cost model reads.
 *
 * A layout fixes the columns, with names that are stable as long as knobs keep theirs, so that rows
 * of different problems, sizes and devices fit one model:
 *   schedule   variant.NAME (1 or 0), knob.NAME, and per pair of knobs of one variant
 *              knob.A*knob.B and knob.A/knob.B: what a tree can only build in many splits.
 *              A knob that the variant lacks is missing (NaN)
 *   problem    what the family says (kiln_generator.features), named by the family
 *   device     device.NAME: units, clock, cache, shared memory, registers ...
 *   compiled   compiled.NAME: registers, local and shared bytes, occupancy, waves; NaN before
 *              compilation
 * Logarithms are not among them: trees split by order, which a logarithm does not change. */
#ifndef KILN_COST_MODEL_FEATURES_H
#define KILN_COST_MODEL_FEATURES_H

#include "kernels/family.h"
#include "targets/target.h"

enum kiln_feature_groups {
    KILN_FEATURES_SCHEDULE = 1,
    KILN_FEATURES_PROBLEM = 2,
    KILN_FEATURES_DEVICE = 4,
    KILN_FEATURES_COMPILED = 8,
    /* For a search within one problem on one device; the others are constant or unknown there.
     * (The family's features depend on the schedule too.) */
    KILN_FEATURES_SEARCH = KILN_FEATURES_SCHEDULE | KILN_FEATURES_PROBLEM,
    KILN_FEATURES_ALL = 15
};

/* What the compiler and the program's geometry say. Zeroed `known`: nothing yet. */
typedef struct kiln_feature_facts {
    bool known;
    kiln_kernel_facts kernel; /* of the main launch */
    double blocks, threads;   /* of the main launch: blocks in the grid, threads per block */
    int64_t workspace_bytes;
} kiln_feature_facts;

typedef struct kiln_features kiln_features;

/* Columns for the given variants of a generator; variants NULL: all of them. The problem and caps
 * are only asked for the family's feature names, which do not depend on their values. */
kiln_features *kiln_features_create(const kiln_generator *g, const kiln_variant *const *variants,
                                    int n_variants, const kiln_problem *p, const kiln_caps *caps,
                                    int groups, kiln_error *e);
void kiln_features_free(kiln_features *f);
int kiln_features_count(const kiln_features *f);
const char *const *kiln_features_names(const kiln_features *f);
/* facts may be NULL. out: kiln_features_count floats. */
void kiln_features_row(const kiln_features *f, const kiln_problem *p, const kiln_schedule *s,
                       const kiln_caps *caps, const kiln_feature_facts *facts, float *out);

/* The two numbers of a pair of knobs, shared with replay: product, and ratio (NaN over 0). */
void kiln_features_pair(double a, double b, float out[2]);

#endif

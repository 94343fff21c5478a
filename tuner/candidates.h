/* The candidates of a problem on a device: every legal schedule of every variant that applies, as
 * the numbered points that search/ works on. */
#ifndef KILN_TUNER_CANDIDATES_H
#define KILN_TUNER_CANDIDATES_H

#include "kernels/family.h"
#include "search/search.h"
#include "tuner/foresight.h"

enum { KILN_VARIANTS_MAX = 16 };

typedef struct kiln_candidates {
    const kiln_problem *problem;
    const kiln_caps *caps;
    int64_t n, raw;          /* legal points kept; points before legality */
    bool sampled;            /* the space was too large: n points of it were drawn */
    kiln_schedule *schedule; /* n */
    int n_spaces;
    kiln_space space[KILN_VARIANTS_MAX];
    int n_starts;
    int64_t start[KILN_VARIANTS_MAX * 2 + 1]; /* the variants' start schedules, the generic one */
    int32_t *table;                           /* open addressing: hash of a schedule -> point */
    int64_t table_size;
    kiln_foresight *foresight; /* the shipped model's, NULL: it knows nothing of this device */
    struct kiln_features *layout;
    float *features; /* n x n_features; NaN rows until first asked for */
    bool *have_features;
    int n_features;
} kiln_candidates;

/* Memory is malloc'ed and freed by close. KILN_UNSUPPORTED when no variant has a legal schedule;
 * the sentence then holds each variant's reason. */
int kiln_candidates_open(kiln_candidates *c, const kiln_problem *p, const kiln_caps *caps,
                         int64_t limit, uint64_t seed, kiln_error *e);
void kiln_candidates_close(kiln_candidates *c);
/* Seconds that the variant's estimate gives a point, NaN where it has none. */
double kiln_candidates_estimate(const kiln_candidates *c, int64_t point);
/* What the variant knows of the power that a point draws (kernels/family.h); 0: nothing. */
double kiln_candidates_power(const kiln_candidates *c, int64_t point);
/* Point of a schedule, or -1. */
int64_t kiln_candidates_find(const kiln_candidates *c, const kiln_schedule *s);
/* The schedule that serves every size of a problem's kind on a device, also those that no tile
 * divides: the library's fallback. False when there is none. */
bool kiln_generic_schedule(const kiln_problem *p, const kiln_caps *caps, kiln_schedule *out);
/* The view that strategies get; borrows c. */
kiln_search_space kiln_candidates_space(kiln_candidates *c);

#endif

/* The choice among finalists: paired comparison of interleaved rounds, ties by a stated rule, so
 * that two runs name the same winner. Pure arithmetic on samples. */
#ifndef KILN_TUNER_FINALS_H
#define KILN_TUNER_FINALS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kiln_ratio {
    double median, low, high; /* of b/a by rounds, with its bootstrap 95 % interval */
} kiln_ratio;

/* How much longer b took than a, over n rounds in which both ran. Deterministic for equal seeds. */
kiln_ratio kiln_paired_ratio(const double *a, const double *b, int n, uint64_t seed);

/* So many go through all rounds of the finals; when more enter, a few rounds choose them. */
enum { KILN_RACERS = 8 };

typedef struct kiln_finalist {
    const double *samples; /* by round, the same rounds for all */
    int64_t workspace_bytes;
    double power; /* that it draws, by what the variant knows; 0: nothing, and the last of all */
    int shared_bytes;
    const char *schedule; /* text: the last rule */
} kiln_finalist;

/* Index of the winner. Those whose median is within 0.3 % of the fastest, or whose paired interval
 * covers 1, tie with it; of these the one with least workspace, then least power (rounds share a
 * clock, so that they do not tell), then least shared memory, then the first schedule text. tied[i]
 * (may be NULL) tells who tied. */
int kiln_finals_choose(const kiln_finalist *f, int n, int rounds, uint64_t seed, bool *tied);

double kiln_median(const double *samples, int n);
double kiln_quantile(const double *samples, int n, double q);

#endif

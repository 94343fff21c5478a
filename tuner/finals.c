#include "tuner/finals.h"

#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 1000, ROUNDS_MAX = 512 };
/* Interleaved rounds under load tell 0.3 % apart. With 1 % instead, kernels that need less shared
 * memory won that were slower: 0.1 to 0.3 % in the mean of a suite of an H200, 2 % at worst (168
 * matmuls). */
static const double TIE = 0.003;

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_of_sorted(const double *s, int n, double q) {
    double at = q * (n - 1);
    int i = (int)at;
    return i + 1 < n ? s[i] + (at - i) * (s[i + 1] - s[i]) : s[n - 1];
}

double kiln_quantile(const double *samples, int n, double q) {
    double few[ROUNDS_MAX];
    if (n <= 0) return 0;
    double *sorted = n <= ROUNDS_MAX ? few : malloc((size_t)n * sizeof *sorted);
    if (!sorted) return NAN;
    memcpy(sorted, samples, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    double value = quantile_of_sorted(sorted, n, q);
    if (sorted != few) free(sorted);
    return value;
}

double kiln_median(const double *samples, int n) { return kiln_quantile(samples, n, 0.5); }

kiln_ratio kiln_paired_ratio(const double *a, const double *b, int n, uint64_t seed) {
    double ratio[ROUNDS_MAX], drawn[ROUNDS_MAX], medians[RESAMPLES];
    if (n > ROUNDS_MAX) n = ROUNDS_MAX;
    if (n <= 0) return (kiln_ratio){0};
    for (int i = 0; i < n; i++) ratio[i] = b[i] / a[i];
    for (int r = 0; r < RESAMPLES; r++) {
        for (int i = 0; i < n; i++)
            drawn[i] = ratio[kiln_random64(seed, (uint64_t)(r * n + i)) % (uint64_t)n];
        medians[r] = kiln_median(drawn, n);
    }
    qsort(medians, RESAMPLES, sizeof *medians, ascending);
    return (kiln_ratio){.median = kiln_median(ratio, n),
                        .low = quantile_of_sorted(medians, RESAMPLES, 0.025),
                        .high = quantile_of_sorted(medians, RESAMPLES, 0.975)};
}

/* Is a to be preferred to b when both are as fast? */
static bool preferred(const kiln_finalist *a, const kiln_finalist *b) {
    if (a->workspace_bytes != b->workspace_bytes) return a->workspace_bytes < b->workspace_bytes;
    double of_a = a->power > 0 ? a->power : INFINITY, of_b = b->power > 0 ? b->power : INFINITY;
    if (of_a != of_b) return of_a < of_b;
    if (a->shared_bytes != b->shared_bytes) return a->shared_bytes < b->shared_bytes;
    return strcmp(a->schedule, b->schedule) < 0;
}

int kiln_finals_choose(const kiln_finalist *f, int n, int rounds, uint64_t seed, bool *tied) {
    int fastest = 0;
    double best = 0;
    for (int i = 0; i < n; i++) {
        double median = kiln_median(f[i].samples, rounds);
        /* coarse clocks give equal medians: the order of the list must not decide */
        bool equal = i > 0 && median == best;
        if (i == 0 || median < best || (equal && preferred(&f[i], &f[fastest])))
            best = median, fastest = i;
    }
    int winner = fastest;
    for (int i = 0; i < n; i++) {
        kiln_ratio r = kiln_paired_ratio(f[fastest].samples, f[i].samples, rounds, seed);
        bool ties = i == fastest || r.median < 1 + TIE || r.low <= 1;
        if (tied) tied[i] = ties;
        if (ties && preferred(&f[i], &f[winner])) winner = i;
    }
    return winner;
}

#include "cost-model/slowdown.h"

#include <math.h>

const double kiln_slowdown_clip = 8;
const kiln_forest_options kiln_slowdown_forest = {.depth = 8, .rounds = 300, .eta = 0.1};

static double best_of(const double *seconds, int64_t n) {
    double best = INFINITY;
    for (int64_t i = 0; i < n; i++) best = fmin(best, seconds[i]); /* ignores NaN */
    return best;
}

bool kiln_slowdown_lesson(const double *seconds, const double *known, int64_t n, double *target,
                          double *weight) {
    double best = best_of(seconds, n), sum = 0, all = 0;
    if (!isfinite(best)) return false;
    for (int64_t i = 0; i < n; i++) {
        double slower = fmin(seconds[i] / best, kiln_slowdown_clip); /* a failure: the clip */
        target[i] = log(slower) - (known ? known[i] : 0);
        weight[i] = 100 / (double)(n + 50) / (slower * slower * slower);
        sum += weight[i] * target[i], all += weight[i];
    }
    for (int64_t i = 0; i < n; i++) target[i] -= sum / all;
    return true;
}

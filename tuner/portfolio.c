#include "tuner/portfolio.h"

#include <math.h>

double kiln_stake_value(const kiln_stake *k, bool here) {
    if (k->finished) return 0;
    if (!(k->seconds > 0)) return k->left > 0 ? INFINITY : 0;
    double takes = KILN_HORIZON * k->trial_seconds + (here ? 0 : k->setup_seconds);
    double saves = k->weight * (k->ratio ? 1 : k->seconds) * k->gain;
    return saves > 0 ? saves / fmax(takes, 1e-3) : 0;
}

int kiln_portfolio_next(const kiln_stake *k, int n, int current, double *rival) {
    int best = -1;
    double most = 0;
    *rival = 0;
    for (int i = 0; i < n; i++) {
        double value = kiln_stake_value(&k[i], i == current);
        if (value > most) {
            *rival = most;
            most = value;
            best = i;
        } else if (value > *rival)
            *rival = value;
    }
    return best;
}

void kiln_steps_add(kiln_steps *s, double best, double better) {
    if (!(best > 0) || !(better < best)) return;
    s->last[s->n++ % 3] = 1 - better / best;
}

double kiln_steps_gain(const kiln_steps *s, int64_t trials, int further) {
    double mean = 0;
    for (int i = 0; i < 3; i++) mean += (i < s->n ? s->last[i] : KILN_FIRST_STEP) / 3;
    if (trials < 1) return mean;
    return fmin(mean * log1p((double)further / (double)trials), 1);
}

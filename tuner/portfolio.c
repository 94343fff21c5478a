#include "tuner/portfolio.h"

#include <math.h>
#include <string.h>

double kiln_stake_value(const kiln_stake *k, bool here) {
    if (k->finished) return 0;
    if (!(k->seconds > 0)) return k->left > 0 ? INFINITY : 0;
    double takes = KILN_HORIZON * k->trial_seconds + (here ? 0 : k->setup_seconds);
    double gain = fmax(k->gain, KILN_GAIN_MIN);
    return k->weight * (k->ratio ? 1 : k->seconds) * gain / fmax(takes, 1e-3);
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

void kiln_steps_add(kiln_steps *s, int64_t trials, double best) {
    if (s->n == KILN_STEPS_MAX) {
        s->n--;
        memmove(s->trials, s->trials + 1, (size_t)s->n * sizeof *s->trials);
        memmove(s->best, s->best + 1, (size_t)s->n * sizeof *s->best);
    }
    s->trials[s->n] = trials;
    s->best[s->n++] = best;
}

double kiln_steps_gain(const kiln_steps *s, int64_t trials, int further) {
    double n = trials > 1 ? (double)trials : 1, fade = 8 / (8 + n);
    int from = 0;
    while (from + 1 < s->n && s->trials[from + 1] <= trials / 4) from++;
    double progress = s->n ? log(s->best[from] / s->best[s->n - 1]) / log(4) : 0;
    return -expm1(-(progress + KILN_FIRST_GAIN * fade) * log1p(further / n));
}

/* The portfolio: which problem of a session gets the next stretch of time. Pure arithmetic.
 *
 * After a first share for everyone, a second of tuning is worth
 *
 *     weight x seconds so far x expected relative improvement / the time that it takes
 *
 * in seconds of kernels saved, and the problem where it is worth most comes next. Where the aim is
 * the ratio (a percent of any problem is as good as one of another), seconds are left out. A
 * problem is finished when KILN_HORIZON further trials are expected to improve it by less than a
 * stated share (--finish). That is told by the strategy, where it can, and by the steps below: the
 * lesser counts for whose turn it is, and finished is what neither has hopes for. */
#ifndef KILN_TUNER_PORTFOLIO_H
#define KILN_TUNER_PORTFOLIO_H

#include <stdbool.h>
#include <stdint.h>

/* Trials that an expectation looks ahead; and before so many nothing is finished: neither a model
 * nor a history can tell. */
enum { KILN_HORIZON = 32, KILN_TRIALS_MIN = 32 };

/* What a problem is known to be worth. */
typedef struct kiln_stake {
    double weight;        /* how much a second of it counts; with `ratio`, a percent of it */
    bool ratio;
    double seconds;       /* of the best so far; 0: nothing is right yet */
    double gain;          /* expected relative improvement by KILN_HORIZON trials, carefully, */
    double gain_most;     /* and by the most hopeful of those who were asked */
    double trial_seconds; /* of a trial, all told */
    double setup_seconds; /* before the first trial of a visit */
    double left;          /* seconds it may use while nothing is right */
    bool finished;
} kiln_stake;

/* Who is not finished is worth something, also when nobody expects anything of it. */
#define KILN_GAIN_MIN 1e-6
/* Kernel seconds (with ratio: shares of them) saved per second of tuning. `here`: it is set up
 * already. A problem of which nothing is right yet comes before all others while it has time left;
 * 0 when finished. */
double kiln_stake_value(const kiln_stake *k, bool here);
/* Index of the stake worth most, -1 when all are finished or worth nothing; the first of equals.
 * `current` is set up already (-1: none). *rival is what a second is worth at the best other. */
int kiln_portfolio_next(const kiln_stake *k, int n, int current, double *rival);

/* Steps by which the best came down, and what they promise. Progress goes with the logarithm of the
 * trials: what it was per e-fold over the last three quarters of them is expected to go on, and at
 * first a little more (KILN_FIRST_GAIN per e-fold, fading), so that a lucky start is not taken for
 * the end. */
enum { KILN_STEPS_MAX = 32 };
#define KILN_FIRST_GAIN 0.05
typedef struct kiln_steps {
    int n;
    int64_t trials[KILN_STEPS_MAX]; /* how many there were when it was found */
    double best[KILN_STEPS_MAX];
} kiln_steps;
void kiln_steps_add(kiln_steps *s, int64_t trials, double best);
/* Expected relative improvement by `further` trials after so many. */
double kiln_steps_gain(const kiln_steps *s, int64_t trials, int further);

#endif

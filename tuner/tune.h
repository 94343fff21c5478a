/* The search for one problem, as a session sees it: opened, visited for a while, paused, visited
 * again, and ended by its finals. Between visits it holds no worker, so another problem can be
 * visited; what was proposed and not yet measured waits. */
#ifndef KILN_TUNER_TUNE_H
#define KILN_TUNER_TUNE_H

#include "tuner/portfolio.h"
#include "tuner/session.h"

typedef struct kiln_tuning kiln_tuning;

/* A stretch of time for one problem. It ends after `most` seconds, or when the problem is finished;
 * a first one when the starts and a batch of proposals are measured, any other when it has lasted
 * for `least` seconds and is worth less than `rival` (kiln_stake_value). Up to 3 seconds later what
 * was being compiled has been measured, too. */
typedef struct kiln_visit {
    double least, most, rival;
    bool first;
    bool starts_only; /* a first one without the batch, as soon as something is right */
} kiln_visit;

/* Lists the candidates, starts the strategy and tells it the store's earlier trials; r->trials and
 * r->failures count from these. NULL on failure: KILN_UNSUPPORTED when nothing applies. A search
 * that was closed and is opened again goes on in the same way. */
kiln_tuning *kiln_tuning_open(kiln_session *s, kiln_result *r, kiln_error *e);
void kiln_tuning_close(kiln_tuning *t);

/* At its end r->winner is the best so far, so that a session can stop between any two visits. */
int kiln_tuning_visit(kiln_tuning *t, const kiln_visit *v, kiln_error *e);
/* Worth, as known now; `left` is the caller's to fill. */
kiln_stake kiln_tuning_stake(kiln_tuning *t);
/* Memory that it holds, roughly. */
int64_t kiln_tuning_bytes(const kiln_tuning *t);

/* Finals of about `seconds`: r->winner, or r->failure. */
int kiln_tuning_finish(kiln_tuning *t, double seconds, kiln_error *e);

#endif

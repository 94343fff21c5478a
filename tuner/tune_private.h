/* What the tune*.c files share: tune.c searches one problem, tune_finals.c chooses its winner.
 * Nobody else includes this. */
#ifndef KILN_TUNER_TUNE_PRIVATE_H
#define KILN_TUNER_TUNE_PRIVATE_H

#include "tuner/candidates.h"
#include "tuner/tune.h"

/* What is remembered of a measured point until the finals. */
typedef struct kiln_known {
    double seconds;            /* NaN failed, 0 unknown */
    char unit[65], suffix[20]; /* "": no unit at hand */
    int64_t workspace_bytes;
    int shared_bytes;
} kiln_known;

/* What a search leaves to its finals, all of it still the search's own. */
typedef struct kiln_found {
    kiln_session *s;
    kiln_result *r;
    const kiln_candidates *c;
    kiln_known
        *known; /* by point, one right at least; finals compile what has no unit, and note it */
} kiln_found;

/* The fastest of n points, -1 when nothing was timed. */
int64_t kiln_tuning_fastest(const kiln_known *known, int64_t n);

/* Interleaves the best points, for about `seconds`, and the vendors' kernels. Stores every record;
 * r->winner, its unit and r->vendor, or r->failure when none was right everywhere. */
int kiln_tuning_finals(const kiln_found *f, double seconds, kiln_error *e);

/* ---- the measuring worker, for both (tune.c) ---- */

/* Makes it ready for a problem. Whether it still is: not when it died or went to another one. */
int kiln_tuning_set_up(kiln_session *s, const kiln_result *r, kiln_error *e);
bool kiln_tuning_is_set_up(kiln_session *s, const kiln_result *r);

/* Takes what it measured into a record; what names the trial stays as the session set it. False,
 * and r as it was, when there is no record in the line. */
bool kiln_tuning_take_measured(kiln_session *s, kiln_record *r, const char *line, kiln_error *e);

/* A schedule's text, in the session's arena. */
const char *kiln_tuning_schedule_text(kiln_session *s, const kiln_schedule *schedule);

#endif

/* Progress: one live line on a terminal, plain lines in a pipe, nothing with --quiet. Honours
 * NO_COLOR. Messages go to stderr, results to stdout. */
#ifndef KILN_TUNER_PROGRESS_H
#define KILN_TUNER_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct kiln_progress {
    bool quiet, live, colour;
    double last; /* when the line was last drawn */
    bool drawn;  /* a live line is on the screen */
} kiln_progress;

void kiln_progress_open(kiln_progress *p, bool quiet);
/* A line that stays. */
void kiln_progress_say(kiln_progress *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The line that changes: drawn at most 8 times a second; in a pipe, once in 10 seconds. */
void kiln_progress_show(kiln_progress *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Takes the live line away. */
void kiln_progress_clear(kiln_progress *p);

#endif

/* Our own records as recorded spaces: what was measured once, strategies can search again without
 * the device (search/replay.h).
 *
 * Every problem of one device (in one regime, cold or hot) becomes a space whose points are the
 * schedules measured in the search. A schedule measured several times counts with the median of its
 * medians, one that only ever failed is a failure. Features are those of a session; neighbours are
 * the nearest recorded schedules that differ in one knob. The prior and the starts are those that
 * the variants' estimates and start schedules of this build give on the device, as far as it can be
 * known from the record (identity.h): an estimate fitted to these very records flatters itself.
 * With `model` a model like the one that ships is a second opinion, for each problem one that was
 * trained on all other problems of the file; the notes then say how good its first picks are.
 *
 * Mind what the points are: schedules that earlier searches chose, so more good ones than by
 * chance. Strategies compare fairly with each other, not with figures on whole spaces. */
#ifndef KILN_TUNER_RECORDED_H
#define KILN_TUNER_RECORDED_H

#include "search/replay.h"
#include "tuner/foresight.h"

typedef struct kiln_recorded_options {
    bool prior; /* give the estimates and the starts */
    bool model; /* and a model of the other problems; needs prior */
    int least;  /* timed schedules that a problem needs; 0: 40 */
} kiln_recorded_options;

/* Is the file's first line one of our records? */
bool kiln_recorded_is(const char *path);
/* Appends the recordings to *all, which is realloc'ed (the caller frees it and each of them), and
 * to `notes` a sentence per device: what became a space, what was left out and why, what was
 * guessed. A broken line is an error that names file and line; a file without any space is one too.
 */
int kiln_recorded_read(const char *path, const kiln_recorded_options *o, kiln_recording ***all,
                       int *n, kiln_text *notes, kiln_error *e);

/* Teaches all problems of a file; `notes` as above. */
int kiln_recorded_teach(const char *path, kiln_school *school, kiln_text *notes, kiln_error *e);

#endif

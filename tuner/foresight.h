/* The model that ships: what published records say of schedules, for problems never measured. One
 * forest per family (cost-model/slowdown.h) predicts how many times slower than a problem's others
 * a schedule is, from the schedule, the family's features of problem and schedule, the device, and
 * the variant's own estimate. `make model` trains it from results/data and writes
 * cost-model/shipped.txt, which the next build embeds.
 *
 * It is asked only about devices whose records it was trained on. A search takes it as one opinion
 * beside the estimate, and listens to either as far as its own outcomes bear it out. */
#ifndef KILN_TUNER_FORESIGHT_H
#define KILN_TUNER_FORESIGHT_H

#include "base/text.h"
#include "kernels/family.h"

#define KILN_SHIPPED_PATH "cost-model/shipped.txt"

typedef struct kiln_shipped kiln_shipped;

/* ---- learning */

typedef struct kiln_school kiln_school;

kiln_school *kiln_school_open(void);
void kiln_school_close(kiln_school *s);
/* Outcomes of one problem on one device, n of them; seconds NaN: failed, ignored. `name` tells the
 * problem from others. Of fewer than 8 times nothing is learnt. */
int kiln_school_add(kiln_school *s, const char *name, const kiln_problem *p, const kiln_caps *caps,
                    const kiln_schedule *schedule, const double *seconds, int64_t n, kiln_error *e);
/* A model of everything but the problem named `without` (NULL: everything), on any device. Families
 * without rows are left out. */
kiln_shipped *kiln_school_train(const kiln_school *s, const char *without, kiln_error *e);

/* All of it: learns from files of records and writes the model to `output`; `notes` says from what,
 * and the model's size and hash. */
int kiln_shipped_make(const char *const *paths, int n, const char *output, kiln_text *notes,
                      kiln_error *e);

/* ---- the model */

/* What this build embeds, read once; NULL: none, or (with a sentence) one that is broken. */
const kiln_shipped *kiln_shipped_embedded(kiln_error *e);
kiln_shipped *kiln_shipped_parse(const char *text, kiln_error *e);
void kiln_shipped_print(const kiln_shipped *m, kiln_text *out);
void kiln_shipped_free(kiln_shipped *m);

/* ---- asking */

typedef struct kiln_foresight kiln_foresight;

/* For schedules of one problem on one device; p, caps and m must outlive it. NULL without a
 * failure: the model does not know the device or the family. */
kiln_foresight *kiln_foresight_open(const kiln_shipped *m, const kiln_problem *p,
                                    const kiln_caps *caps, kiln_error *e);
/* Times slower than others; right up to a factor of the problem's own, so that it only orders
 * schedules of the same problem. */
double kiln_foresight_slowdown(kiln_foresight *f, const kiln_schedule *s);
void kiln_foresight_close(kiln_foresight *f);

#endif

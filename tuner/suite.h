/* Suites: the problems of the main job. */
#ifndef KILN_TUNER_SUITE_H
#define KILN_TUNER_SUITE_H

#include "base/arena.h"
#include "targets/target.h"

typedef struct kiln_suite {
    int n;
    const char *const *problem;
    const double *weight;     /* how much a second of each counts */
    const char *const *group; /* label of each problem, NULL where it has none; or NULL */
} kiln_suite;

/* "default", "llm", or a file with one problem a line. There # starts a comment, and a line of its
 * own such as [squares] names the group of the problems after it; "weight=3" before a problem says
 * how much a second of it counts beside the others' (1 without: above 0, to 1e6). The built-in
 * suites have sizes of their own for CPUs. Memory comes from the arena. */
int kiln_suite_load(const char *name, const kiln_caps *caps, kiln_arena *arena, kiln_suite *out,
                    kiln_error *e);

#endif

/* `tune bench`: the kernels of a library, as the runtime chooses and launches them, against the
 * vendors of their target and another library's kernels, in one interleaved run.
 *
 * A measuring worker per command holds the device, the library and one problem at a time:
 * versus_measure.c is its side, versus.c the tuner's. For each problem ours is verified, warmed up,
 * measured in rounds in which everybody has a turn, and verified again. So is the other library's
 * kernel; where either is wrong, ours is measured again without it.
 *
 * In these rounds all sides share a GPU's clock, and what the ratio tells is cycles. Long rounds
 * (kiln_bench_long_rounds), on request, tell what each takes at the clock that its own power
 * leaves: "alone".
 *
 * Vendors have only plain matmul. Beside a matmul with statements stands "product", our library's
 * kernel for the same product without them, on the same operands: it shows what they cost. It is
 * not verified, and refused where the library was not tuned for it. */
#ifndef KILN_TUNER_VERSUS_H
#define KILN_TUNER_VERSUS_H

#include "tuner/suite.h"
#include "tuner/worker.h"

typedef struct kiln_versus_options {
    const char *library; /* path of a .kiln file */
    const char *name;    /* what to call it: where its kernels come from */
    const char *against; /* path of another one, or NULL */
    const kiln_caps *caps;
    double seconds; /* of rounds for each problem */
    double alone;   /* of a turn of each side in 7 long rounds, on a GPU; 0: none */
    uint64_t seed;
    bool hot, vendors;
    bool json; /* one JSON object a line instead of the text */
} kiln_versus_options;

/* Is it a library, and whole? The sentence names the file. */
int kiln_versus_check(const char *library, kiln_error *e);

/* The problems that a library was tuned for on a device, as a suite without groups. */
int kiln_versus_problems(const char *library, const kiln_caps *caps, kiln_arena *arena,
                         kiln_suite *out, kiln_error *e);

/* Measures and prints to stdout: a block per problem as it is done, then per group the geometric
 * mean and the worst of the ratios. A problem that cannot be measured is reported and passed over.
 * KILN_WRONG when a kernel of ours or of the other library was wrong, KILN_DRIVER when a problem
 * was not measured. A problem for which the other library has no kernel is no failure. */
int kiln_versus_run(const kiln_versus_options *o, const kiln_suite *suite, kiln_error *e);

/* The worker's side.
 * request  {"do":"versus", "libraries":[{"name", "path"}], "problem", "seconds", "alone", "seed",
 *           "hot", "vendors"}
 * reply    {"status", "error", "sets", "clock_mhz", "power_w",
 *           "sides":[{"name", "describe", "refused", "doubt", "batch", "rounds":[seconds],
 *                     "long_rounds":[seconds]}]}
 * The libraries come first, ours before the other; the side of one that takes part has "choice",
 * "reason", "variant", "schedule", "kernel", "outcome", "detail" and "error_bound", too. Then the
 * vendors, then "product", which has the first five of these. No rounds where a library's kernel is
 * wrong beforehand: then the libraries' are all the sides. */
json_t *kiln_versus_handle(const kiln_worker_context *c, json_t *request);

#endif

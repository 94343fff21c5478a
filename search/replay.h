/* Replay: recorded spaces stand in for a device, so that strategies are compared in seconds and
 * without a GPU, on the same numbers for everyone.
 *
 * A recording is a finite space with the outcome of every point. Its text form, gzipped or not, is
 *   - a CSV file: a header line, one column per parameter, `time_ms` and `status` (`ok`, anything
 *     else is a kind of failure),
 *   - a cache file of Kernel Tuner, or
 *   - a T4 results file (both: replay_json.h).
 * Values that are no numbers count as categories. Other modules make recordings from what they
 * know (tuner/recorded.h: our own records). */
#ifndef KILN_SEARCH_REPLAY_H
#define KILN_SEARCH_REPLAY_H

#include "base/text.h"
#include "search/search.h"

typedef struct kiln_recording kiln_recording;

/* The format is seen from the content. The name is the file's, without folder and endings. */
kiln_recording *kiln_recording_read(const char *path, kiln_error *e);
/* From anything else: n points of n_parameters values each (row-major), seconds NaN: failed. All
 * is copied. */
kiln_recording *kiln_recording_new(const char *name, int n_parameters,
                                   const char *const *parameters, int64_t n, const double *values,
                                   const double *seconds, kiln_error *e);
/* From a space of somebody else's making, with its features, neighbours, starts and prior, and the
 * seconds of its points (copied; NaN: failed). space->context is the recording's from now on, also
 * when this fails: `release` (may be NULL) frees it, and whatever else the space points to. */
kiln_recording *kiln_recording_wrap(const char *name, const kiln_search_space *space,
                                    const double *seconds, void (*release)(void *context),
                                    kiln_error *e);
void kiln_recording_free(kiln_recording *r);

const char *kiln_recording_name(const kiln_recording *r);
double kiln_recording_best(const kiln_recording *r); /* seconds; NaN when every point failed */
double kiln_recording_seconds(const kiln_recording *r, int64_t point);
int64_t kiln_recording_failures(const kiln_recording *r);
/* The space of a recording, which must outlive it. Features: each parameter, then products and
 * ratios of pairs. Neighbours: the nearest recorded point up and down each parameter. */
kiln_search_space kiln_recording_space(kiln_recording *r);
/* Gives the space opinions from recordings of the same kernel on other devices, matched by the
 * values of all parameters: the slowdowns there, and as its prior their geometric mean. They are
 * read now. Parameter names must agree. n 0 takes all away. Not for a wrapped space, which has its
 * own. */
int kiln_recording_transfer(kiln_recording *r, const kiln_recording *const *sources, int n,
                            kiln_error *e);
/* Makes the opinions ignorant, to see what transfer from a source that knows nothing costs. */
enum kiln_mislead {
    KILN_MISLEAD_NOT,
    KILN_MISLEAD_SHUFFLED, /* each source's opinions change places by chance: records mixed up */
    KILN_MISLEAD_INVENTED, /* they go in the order of a sum of numbers by chance, one per value of each
                              parameter: as regular as records of another kernel */
};
int kiln_recording_mislead(kiln_recording *r, enum kiln_mislead how, uint64_t seed,
                           kiln_error *e);

typedef struct kiln_replay_options {
    const kiln_strategy *strategy;
    int seeds;          /* runs, 0: 25 */
    uint64_t seed;      /* of the first run; the next has the next */
    int evaluations;    /* most per run, failures included; 0: 400 */
    int batch;          /* proposals per round, 0: 4 */
    bool stop_when_found; /* a run ends at the highest level: quicker, and its curve stays there */
    int expected_trials; /* what the strategy is told; 0: unknown */
    enum kiln_mislead mislead; /* with transfer: what becomes of the opinions, anew for each seed */
} kiln_replay_options;

enum { KILN_REPLAY_LEVELS = 3 };
extern const double kiln_replay_level[KILN_REPLAY_LEVELS]; /* 0.90, 0.95, 0.99 of the optimum */

typedef struct kiln_replay_result {
    int seeds, evaluations;
    int *reached[KILN_REPLAY_LEVELS]; /* per seed: evaluations until then; evaluations + 1: never */
    float *curve; /* seeds x evaluations: optimum over best so far, 0 before the first success */
    int64_t proposed, failures;
    double strategy_seconds; /* processor time in the strategy, all runs */
    double slowest_propose;  /* seconds */
} kiln_replay_result;

/* Fails when the strategy breaks its contract (a point twice or outside, stops early). */
int kiln_replay_run(kiln_recording *r, const kiln_replay_options *o, kiln_replay_result *out,
                    kiln_error *e);
void kiln_replay_result_free(kiln_replay_result *r);
/* Median of a level's evaluations over seeds; never reached counts as evaluations + 1. */
double kiln_replay_median(const kiln_replay_result *r, int level);

/* The table that `tune replay` prints: a line per recording (evaluations to each level with
 * quartiles, share of the optimum after 25, 50, 100, 200, failures, milliseconds per evaluation) and
 * the geometric means. transfer: every recording gets the others of the same kernel (the name up to
 * the last '_' before the device) as its prior. curves, may be NULL: quartiles of best so far for the
 * plot, one line per evaluation: recording, evaluation, three numbers; two empty lines between
 * recordings (gnuplot's index). */
int kiln_replay_compare(kiln_recording *const *all, int n, const kiln_replay_options *o,
                        bool transfer, kiln_text *table, kiln_text *curves, kiln_error *e);
/* The same for recordings in files. */
int kiln_replay_table(const char *const *paths, int n, const kiln_replay_options *o, bool transfer,
                      kiln_text *table, kiln_text *curves, kiln_error *e);

#endif

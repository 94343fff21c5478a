/* A record: what is kept of one trial, good or bad. It repeats itself: everything needed to run it
 * again is in it. Text form: one JSON object on one line (results/data/DEVICE.jsonl). */
#ifndef KILN_RESULTS_RECORD_H
#define KILN_RESULTS_RECORD_H

#include "base/arena.h"
#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, text): how a trial ended. */
#define KILN_OUTCOMES(X)                                                                           \
    X(OK, "ok")                                                                                    \
    X(REJECTED, "rejected")           /* compiled, but its report ruled it out (spills) */         \
    X(COMPILE_FAILED, "compile-failed")                                                            \
    X(COMPILE_TIMEOUT, "compile-timeout")                                                          \
    X(COMPILE_CRASH, "compile-crash") /* the compiler died */                                      \
    X(LAUNCH_FAILED, "launch-failed")                                                              \
    X(WRONG, "wrong")                 /* verification failed */                                    \
    X(OUT_OF_BOUNDS, "out-of-bounds") /* a guard zone was hit */                                   \
    X(DEVICE_ERROR, "device-error")   /* illegal address and the like */                           \
    X(TIMEOUT, "timeout")                                                                          \
    X(CRASH, "crash")                 /* the measuring worker died */                              \
    X(SLOW, "slow")                   /* correct; timing stopped early: cannot win */

typedef enum kiln_outcome {
#define X(name, text) KILN_OUTCOME_##name,
    KILN_OUTCOMES(X)
#undef X
        KILN_OUTCOME_COUNT
} kiln_outcome;
const char *kiln_outcome_name(kiln_outcome o);
kiln_outcome kiln_outcome_parse(const char *text); /* KILN_OUTCOME_COUNT: unknown */

enum { KILN_RECORD_VERSION = 1, KILN_SAMPLES_MAX = 65536, KILN_RECORD_LINE_MAX = 4 << 20 };

/* Strings are never NULL ("" instead) and live in the arena given when the record was read. */
typedef struct kiln_record {
    const char *problem;   /* canonical text */
    const char *schedule;  /* canonical text; vendors: "vendor openblas" */
    const char *device;    /* kiln_caps_identity */
    const char *source;    /* SHA-256 of the emitted program, hexadecimal */
    const char *protocol;  /* "cold" or "hot", then the version of the protocol: "cold/2" */
    const char *phase;     /* "search", "final", "vendor", "odd" */
    kiln_outcome outcome;
    const char *detail;    /* reason of a failure: first line of a log, a signal, a wrong element */
    int n_samples;
    const double *samples; /* seconds each */
    double median, p05, p95; /* seconds; 0 without samples */
    double error, error_bound; /* ||out-ref||/||ref||; largest element error over its bound (<=1) */
    int64_t workspace_bytes;
    int registers, local_bytes, shared_bytes, blocks_per_unit; /* -1 unknown */
    int clock_mhz, temperature_c, power_w;                     /* -1 unknown */
    const char *throttle;
    double compile_seconds, verify_seconds, time_seconds;
    uint64_t seed;
    const char *date;      /* ISO 8601 UTC */
    const char *session;   /* id of the session that made it */
    /* finalists: ratio of vendor's time to ours in the same interleaved run, 0 when absent */
    const char *vendor;
    double vendor_ratio, vendor_ratio_low, vendor_ratio_high;
} kiln_record;

/* A record of which nothing is known yet: "-" for the texts that every record must have, "" for the
 * others, numbers that are not known as such. */
kiln_record kiln_record_blank(void);

/* What measuring means today, tuner/README.md: "cold/2" or "hot/2". Version 1 timed trials at rest.
 * Version 3 (each by itself, results/data/nvidia-h200-alone.jsonl) was tried and taken back. */
const char *kiln_record_protocol(bool hot);

/* One line without the newline; fields at their default (empty, 0, unknown) are left out. Bytes
 * that are not UTF-8 (a compiler's words) become U+FFFD, and a NaN or infinite number the largest
 * finite one, because JSON has neither: everything else reads back equal. */
void kiln_record_print(const kiln_record *r, kiln_text *out);
/* Parses one line; the error names the field at fault. Unknown fields are ignored (a newer minor
 * version), a higher `version` is refused. */
int kiln_record_parse(kiln_record *r, const char *line, size_t n, kiln_arena *arena, kiln_error *e);

/* What parsing demands beyond syntax, for a record made in memory: required texts are there, times
 * are finite, not negative and in order, the sample count is bounded. The store asks this first. */
int kiln_record_check(const kiln_record *r, kiln_error *e);

/* Fills median, p05, p95 from samples (linear interpolation between order statistics). */
void kiln_record_summarise(kiln_record *r);

#endif

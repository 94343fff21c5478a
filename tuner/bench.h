/* A bench: one problem set up on an open device, ready to verify and time programs on it.
 *
 * It owns the operands (several sets of them, so that rotating through the sets keeps the caches
 * cold), the workspace, the reference values and the comparison kernel. Lives in the measuring
 * worker. Protocol: shared notes of the project are summed up in tuner/README.md. */
#ifndef KILN_TUNER_BENCH_H
#define KILN_TUNER_BENCH_H

#include "kernels/family.h"
#include "results/record.h"
#include "targets/vendor.h"

typedef struct kiln_bench kiln_bench;

typedef struct kiln_bench_options {
    uint64_t seed;
    bool hot;          /* one set, caches warm */
    const char *cache; /* directory that keeps compiled references for later processes, or NULL */
} kiln_bench_options;

/* Allocates, fills, computes the reference and checks it against the C evaluator on sampled rows.
 * `device` must outlive the bench. */
kiln_bench *kiln_bench_open(const kiln_target *target, kiln_device *device, const kiln_problem *p,
                            const kiln_bench_options *o, kiln_error *e);
void kiln_bench_close(kiln_bench *b);
/* How many operand sets are rotated, and their bytes together. */
int kiln_bench_sets(const kiln_bench *b, int64_t *bytes);

/* A program under test: a schedule with its loaded kernels. */
typedef struct kiln_subject kiln_subject;

/* Binds a schedule to a loaded module; entries carry the suffix. Fills the compiler's facts and the
 * workspace size of r. NULL: r->outcome and r->detail say why. */
kiln_subject *kiln_subject_open(kiln_bench *b, const kiln_schedule *s, kiln_module *m,
                                const char *suffix, kiln_record *r, kiln_arena *arena);
/* A vendor's kernel as a subject; NULL with a reason. */
kiln_subject *kiln_subject_vendor(kiln_bench *b, const kiln_vendor *v, kiln_error *e);
/* Anything else that computes the problem: `run` enqueues one execution on the device's stream. */
typedef struct kiln_bench_call {
    int (*run)(void *user, const kiln_buffer *operand, const double *scalar, kiln_buffer workspace,
               kiln_error *e);
    void *user;
    int64_t workspace_bytes, workspace_zeroed; /* so many of its first bytes are 0 at the start */
} kiln_bench_call;
kiln_subject *kiln_subject_call(kiln_bench *b, const kiln_bench_call *call, kiln_error *e);
const char *kiln_subject_describe(kiln_subject *s, kiln_arena *arena);
/* A vendor's that runs on the host's cores, whatever the device. */
bool kiln_subject_on_host(const kiln_subject *s);
/* Launches per sample. */
int kiln_subject_batch(const kiln_subject *s);
void kiln_subject_close(kiln_subject *s);

/* Poisons the outputs, runs once, compares every element with the reference and looks at the guard
 * zones; fills outcome, detail, error, error_bound. True when right. */
bool kiln_bench_verify(kiln_bench *b, kiln_subject *s, kiln_record *r, kiln_arena *arena);
/* Compares what the last timed run left in the first set. */
bool kiln_bench_verify_again(kiln_bench *b, kiln_subject *s, kiln_record *r, kiln_arena *arena);

/* Times: stops when the standard error of the median is below 0.5 %, at `seconds`, or as soon as
 * the candidate cannot come within 1.3x of `best` (outcome SLOW). Fills the samples. On a GPU what
 * is not slow is then timed under load instead: after a while of itself, enqueued without a pause.
 * At rest a GPU clocks higher than its power allows for long, and another schedule may be the
 * fastest. Where a subject is kept, the two take turns, and each sample is scaled by what the kept
 * one took beside it against what it took first. */
int kiln_bench_time(kiln_bench *b, kiln_subject *s, double seconds, double best, kiln_record *r,
                    kiln_arena *arena, kiln_error *e);
/* Keeps a subject that took `seconds` for others to be timed beside: the first that is offered on a
 * GPU, needs no workspace and takes less than 0.1 s; then one that takes less than half its time.
 * True: it is the bench's now, which closes it; its module must stay loaded. */
bool kiln_bench_keep(kiln_bench *b, kiln_subject *s, double seconds);
/* One sample in seconds (a batch where the kernel is short). Below 0: failed. */
double kiln_bench_sample(kiln_bench *b, kiln_subject *s, kiln_error *e);

/* What rounds are made of: warms the subject up and settles how many launches its samples have:
 * some 400 microseconds, and all operand sets where the same batch is replayed. *seconds receives
 * about how long a sample takes. */
int kiln_bench_pace(kiln_bench *b, kiln_subject *s, double *seconds, kiln_error *e);
/* Rounds in which every subject has its turn, a sample, in an order that rotates and reverses;
 * subject i takes part in the first rounds[i]. Where nothing runs on the host, rounds are enqueued
 * ahead, so that the device never waits for the host between a subject and the next.
 * samples[i][round] receives seconds per execution.
 *
 * A GPU at its power cap cannot move its clock within such a round: all of them share one, whoever
 * draws the power. What they tell is the ratio of clock cycles, to a thousandth. */
int kiln_bench_rounds(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds,
                      double *const *samples, kiln_error *e);
/* Rounds on a GPU in which a turn lasts turn_seconds, and the second half of it counts: long
 * enough, from 0.2 s on, for the clock to be what the subject's own power leaves, as where a kernel
 * is run in a loop. The clock hunts by some percent: a thousandth it does not tell.
 * KILN_UNSUPPORTED elsewhere, and where a subject that has rounds runs on the host. */
int kiln_bench_long_rounds(kiln_bench *b, kiln_subject *const *s, int n, const int *rounds,
                           double turn_seconds, double *const *samples, kiln_error *e);
/* Does the device's clock follow its load, so that there are long rounds? */
bool kiln_bench_clock_follows(const kiln_caps *caps);

/* Device-to-device copy, bytes read plus written per second: the ceiling of memory-bound work. */
double kiln_bench_copy(const kiln_target *target, kiln_device *device, int64_t bytes,
                       kiln_error *e);

#endif

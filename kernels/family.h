/* A family: a kind of problem (matmul, map, attention), in a folder of its own.
 *
 * launch.c exports `kiln_family_NAME`: keys, operands, legality, geometry. The runtime links it.
 * family.c exports `kiln_generator_NAME`: spaces, emission, reference, cost. Only the tuner does.
 * The Makefile finds both by wildcard and writes the registries; nothing else names a family.
 *
 * To add a family: a folder with the two files. To add a variant: its body file and one row in
 * each of the two tables. */
#ifndef KILN_KERNELS_FAMILY_H
#define KILN_KERNELS_FAMILY_H

#include "kernels/problem.h"
#include "kernels/program.h"
#include "kernels/schedule.h"
#include "kernels/source.h"
#include "targets/target.h"

/* One algorithm of a family. */
typedef struct kiln_variant {
    const char *name, *help;
    int revision;           /* raised whenever geometry or arguments change: libraries store it */
    const kiln_knob *knobs; /* ends with a NULL name */
    /* Is the schedule legal for this problem, with these sizes, on this device? If not, `why`
     * (when not NULL) receives one sentence with the numbers in it. Cheap: called for every point
     * of a space and by the runtime for every size. Must not look at anything but its arguments. */
    bool (*legal)(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why);
    /* Launches, arguments, workspace of a legal schedule. */
    int (*program)(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                   kiln_program *out, kiln_error *e);
} kiln_variant;

typedef struct kiln_family {
    const char *name, *help;
    const kiln_key *keys;                /* ends with a NULL name */
    const char *axis[KILN_AXES_MAX + 1]; /* of statements, slowest first; NULL-terminated */
    const char *result;                  /* name of RESULT in statements, or NULL */
    const char *statements;              /* default statements ("out = acc"), or NULL: required */
    /* Lists the operands that come from the keys (a, b, out), before statements are parsed. */
    int (*operands)(kiln_problem *p, kiln_error *e);
    /* Gives rows, cols, ld, batch and batch_stride to every operand from the sizes; checks that
     * keys fit together. Called after parsing and after every resize. */
    int (*shape)(kiln_problem *p, kiln_error *e);
    const kiln_variant *const *variants; /* NULL-terminated; the first legal one is the default */
} kiln_family;

extern const kiln_family *const kiln_families[]; /* NULL-terminated; generated */
const kiln_family *kiln_family_find(const char *name);
const kiln_variant *kiln_variant_find(const kiln_family *f, const char *name);
/* The variant's default schedule: every knob at its fallback. */
kiln_schedule kiln_variant_default(const kiln_variant *v);

/* ---- what only the tuner needs ---- */

typedef struct kiln_variant_generator {
    const kiln_variant *variant;
    /* Does the variant exist for this target at all? (Cheap; `why` as in legal.) */
    bool (*applies)(const kiln_problem *p, const kiln_caps *caps, kiln_text *why);
    /* Fills the values worth trying, the default schedule's among them. */
    void (*space)(const kiln_problem *p, const kiln_caps *caps, kiln_space *space);
    /* The schedule to start from on this device: legal, and good for a wide range of sizes. */
    kiln_schedule (*start)(const kiln_problem *p, const kiln_caps *caps);
    /* Appends the source of the program WITHOUT the dialect header. Every global name in it is
     * spelled NAME(x), so that many programs can share one compilation unit (emit.h). The text
     * depends on the problem's kernel key and the schedule only, never on run-time sizes. */
    int (*source)(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e);
    /* NULL, or seconds that a legal schedule should take, from arithmetic and bytes alone: ranks
     * schedules before any is measured. NaN: no opinion. */
    double (*estimate)(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s);
    /* How much longer it takes for the power it draws, where a power cap sets the clock: 1 for the
     * least thinkable, to tell schedules of the same cycles apart. NULL or 0: nothing is
     * known. */
    double (*power)(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s);
} kiln_variant_generator;

typedef struct kiln_generator {
    const kiln_family *family;
    const kiln_variant_generator *variants; /* ends with a NULL variant */
    /* Work of the problem, for rates and the roofline: each operand byte once. */
    double (*flops)(const kiln_problem *p);
    double (*bytes)(const kiln_problem *p);
    /* Multiply-accumulate depth behind one result, for tolerances and features; 1 for maps. */
    /* The reference: a plain program that writes, for every output operand j in order, a double
     * array `value` and a float array `bound` of rows*cols per batch (dense, row-major): bound is
     * how far a correct float kernel may be from value BEFORE the output's own rounding.
     * Launch arguments name operands as usual; KILN_ARG_REFERENCE j and KILN_ARG_BOUND j name the
     * two arrays. Dense: ld = cols. */
    int (*reference_source)(const kiln_problem *p, const kiln_caps *caps, kiln_text *out,
                            kiln_error *e);
    int (*reference_program)(const kiln_problem *p, const kiln_caps *caps, kiln_program *out,
                             kiln_error *e);
    /* The same for row (b, row) in C, to check the reference itself: value[j] and bound[j] receive
     * cols elements for output j. Large rows are shared among the process's cores. */
    int (*evaluate)(const kiln_problem *p, const kiln_source *in, int64_t batch, int64_t row,
                    double *const *value, double *const *bound, kiln_error *e);
    /* The same with host[i] as operand i's array on the host. */
    int (*evaluate_row)(const kiln_problem *p, const void *const *host, const double *scalars,
                        int64_t batch, int64_t row, double *const *value, double *const *bound,
                        kiln_error *e);
    /* Problem features for the cost model, as doubles with fixed names: fills at most max, returns
     * the count; names may be NULL. */
    int (*features)(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                    const char **names, double *values, int max);
    /* Size changes (for kiln_problem_resize) at which a winner is verified again: one below and
     * above tile multiples, 1, primes. NULL-terminated; `s` is the winner. */
    const char *const *(*odd_sizes)(const kiln_problem *p, const kiln_schedule *s);
} kiln_generator;

extern const kiln_generator *const kiln_generators[]; /* NULL-terminated; generated */
const kiln_generator *kiln_generator_of(const kiln_family *f);
const kiln_variant_generator *kiln_variant_generator_of(const kiln_variant *v);

#endif

/* The emitter: winners in, one .kiln file out (runtime/format.h describes it).
 *
 * Equal entries, in any order, give equal bytes: nothing of time, host or path goes in but what the
 * entries say. Equal schedules of one kernel key on one device are one kernel, however many
 * problems it serves. */
#ifndef KILN_TUNER_LIBRARY_H
#define KILN_TUNER_LIBRARY_H

#include "base/arena.h"
#include "kernels/family.h"

/* A stored test vector: the value that one element of an output must have. */
typedef struct kiln_library_sample {
    int operand;
    int64_t element; /* index into the operand's array, strides included */
    double value, tolerance;
} kiln_library_sample;

/* One verified measurement: a problem and the kernel that served it. */
typedef struct kiln_library_entry {
    const char *problem;   /* any text of the language; stored in canonical form */
    const char *schedule;  /* text */
    const kiln_caps *caps; /* the device it was compiled for and measured on */
    const char *source;    /* complete unit, for rebuilding; NULL: cannot be rebuilt */
    const char *suffix;    /* entries are kiln_<suffix>_<entry> (kernels/emit.h) */
    const void *code;      /* as the target's compile gave it */
    size_t code_bytes;
    const char *code_kind; /* "cubin", "opencl", "hsaco" */
    const void *ptx;       /* NULL: none. Must hold a ".target sm_NN" line */
    size_t ptx_bytes;
    double seconds;           /* median; 0: never measured (an unmeasured fallback) */
    double error_bound_ratio; /* worst element's share of the bound it may use */
    /* The generic kernel of its kernel key on its device: must be legal for every size. An entry
     * may be winner and fallback at once. */
    bool fallback;
    /* Not to be chosen for this very problem even if fastest here: a point for other sizes only. */
    bool point_only;
    const char *provenance;  /* JSON text, or NULL */
    kiln_kernel_facts facts; /* -1 where unknown */
    /* Test vectors: inputs are kiln_input data of this seed. */
    uint64_t seed;
    const kiln_library_sample *sample;
    int n_samples;
} kiln_library_entry;

/* Writes the library: aside, fsync, rename, so that a reader sees the old file or the new one.
 * Of several entries for one problem on one device, the fastest is its exact hit (ties: schedule
 * text) and all are measured points. Fails with KILN_BAD_INPUT, naming the entry, when a text is
 * wrong, and when a kernel key has no fallback on a device. `provenance` is JSON text or NULL. */
int kiln_library_write(const char *path, const kiln_library_entry *entries, int n,
                       const char *provenance, kiln_error *e);

/* Fills the entry's test vectors (seed is set already) from the family's evaluator: some elements
 * of every output, first and last among them. Takes the memory of the problem's inputs and about as
 * long as generating them. The samples live in the arena. */
int kiln_library_take_samples(kiln_library_entry *entry, kiln_arena *arena, kiln_error *e);

#endif

/* Inside the runtime: a library on a device, its plans, and what the files of this folder share.
 *
 *     reader.c    file -> tables            status.c   last error, version
 *     describe.c  tables -> JSON            problem.c  public problems
 *     library.c   open, close, verify       select.c   which kernel for a problem, and why
 *     context.c   attach, buffers           plan.c     remembering, loading, launching
 *     selftest.c  stored test vectors
 */
#ifndef KILN_RUNTIME_CONTEXT_H
#define KILN_RUNTIME_CONTEXT_H

#include "kernels/program.h"
#include "runtime/reader.h"

/* What a public `kiln_problem *` really points to: the value comes first. Only kiln_make_problem
 * makes them; a plain kiln_problem (kernels/problem.h) must not be handed to the public API. */
typedef struct problem {
    kiln_problem value;
    int n_keys;
    uint64_t hash;     /* of kernel key and sizes */
    uint64_t key_hash; /* of the kernel key: never changes */
    kiln_text key;     /* kernel key text */
    kiln_text text;    /* canonical text, printed when asked for */
    bool printed;
} problem;

static inline const problem *problem_of(const kiln_problem *p) { return (const problem *)p; }

/* One problem that had no exact entry. */
typedef struct miss {
    char *problem, *reason;
    int64_t times;
} miss;

typedef struct override {
    char *problem;
    uint32_t kernel;
} override;

enum {
    ENTRIES_MAX = 8,
    REMEMBERED_MAX = 1024,
    SLOTS = 2048,
    MISSES_MAX = 256,
    OVERRIDES_MAX = 256
};

/* A kernel of the library, loaded on the device. */
typedef struct loaded {
    kiln_module *module;
    int n;
    char name[ENTRIES_MAX][KILN_ENTRY_MAX];
    kiln_kernel *kernel[ENTRIES_MAX];
} loaded;

struct kiln_plan {
    kiln_context *context;
    kiln_plan *previous, *next; /* all plans of the context */
    int references;
    bool remembered, prepared;
    uint64_t hash;
    int64_t value[KILN_KEYS_MAX];
    char *key; /* kernel key */
    char *reason;
    miss *missed; /* NULL for exact hits and overrides */
    uint32_t kernel;
    int choice;
    double distance, predicted;
    int n_operands;
    uint32_t scalars; /* bit i: operand i is passed by value */
    kiln_program program;
    kiln_kernel *entry[KILN_LAUNCHES_MAX];
};

struct kiln_context {
    kiln_library *library;
    const kiln_target *target;
    kiln_device *device;
    const kiln_caps *caps;
    bool guest; /* the device is another context's */
    char id[32];
    bool *same;     /* per device of the library: is it this one? */
    loaded *loaded; /* per kernel of the library */
    kiln_plan *plans;
    kiln_plan *slot[SLOTS]; /* open addressing by hash */
    int n_remembered;
    miss miss[MISSES_MAX];
    int n_misses;
    int64_t misses_lost;
    override override[OVERRIDES_MAX];
    int n_overrides;
    void *workspace; /* of kiln_run_problem */
    int64_t workspace_bytes;
    kiln_stats stats;
};

/* status.c: the thread's last error, in which every public function reports. */
kiln_error *kiln_status_last(void);

/* Says a line to the application's log, if it has one. */
void kiln_status_log(const kiln_library *l, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Fills a caller's struct that may be of an older header: copies the part it has. */
int kiln_status_fill(void *to, const void *from, size_t known_bytes);

/* ---- context.c */

/* A library on the device of another context, on its very handle and stream: kernels of two
 * libraries in turn (`tune bench --against`). `host` must outlive it. */
int kiln_context_join(kiln_library *l, const kiln_context *host, kiln_context **out);

/* ---- select.c */

/* A kernel weighed for a problem on a device. */
typedef struct option {
    uint32_t kernel;
    bool legal, same_device;
    double distance, predicted; /* distance is INFINITY without a measured point */
    const char *nearest;        /* problem of the nearest point, or NULL */
    int64_t workspace_bytes;
    char why[240]; /* when not legal */
} option;

typedef struct choice {
    uint32_t kernel;
    int how;
    double distance, predicted;
    char reason[400];
} choice;

/* Does code in blob b, made for a device of the library, run here? */
bool kiln_select_fits(const library_blob *b, const kiln_caps *made_for, const kiln_caps *here);
/* Is it the same model of device? */
bool kiln_select_same(const kiln_caps *a, const kiln_caps *b);
/* All options for a problem, best first, in malloc'ed memory; returns how many, or a status. */
int kiln_select_options(kiln_context *c, const problem *p, option **out, kiln_error *e);
/* The choice, and its program. */
int kiln_select(kiln_context *c, const problem *p, const char *text, choice *out,
                kiln_program *program, kiln_error *e);

/* ---- plan.c */
void kiln_plan_forget(kiln_context *c); /* drops what is remembered; plans in use stay */
void kiln_plan_free_all(kiln_context *c);

#endif

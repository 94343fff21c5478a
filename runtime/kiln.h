/* kiln.h: run tuned GPU kernels from one .kiln file.
 *
 * A deployment takes three files: this header, libkiln.so (or libkiln.a) and one .kiln library
 * written by `tune`. No toolkit, no compiler, no environment variable. Drivers are opened when a
 * device is attached; a machine without one can still open, verify and describe a library.
 *
 *     kiln_library *library;
 *     kiln_context *context;
 *     kiln_problem *problem;
 *     kiln_plan *plan;
 *     kiln_open_library("H200.kiln", NULL, &library);
 *     kiln_attach_device(library, NULL, &context);                     // finds the device itself
 *     kiln_make_problem("matmul m=512 n=512 k=512 a=f32 b=f32 out=f32", &problem);
 *     kiln_get_plan(context, problem, &plan);                          // which kernel, and why
 *     kiln_prepare_plan(plan);                                         // loads it
 *     kiln_launch_plan(plan, &args);                                   // enqueues, as often as you
 * like
 *
 * runtime/example/example.c is that program in full. `kiln info FILE` shows what a library holds.
 *
 * FAILURE. Every function that returns int returns 0 or a negative status. kiln_last_error() then
 * gives one sentence that names the thing and the remedy; it belongs to the calling thread.
 * Kiln never prints, aborts, or reads the environment. NULL handles are accepted by every function
 * that frees one.
 *
 * THREADS. A library is immutable: any number of threads and contexts may use it at once. A
 * context, its problems and its plans belong to one thread at a time, because the drivers' kernel
 * objects hold arguments; attaching is cheap, so give each thread a context of its own.
 *
 * STRUCTS begin with their size: set `size = sizeof(the struct)`, zero the rest. Fields are only
 * ever added at the end, so that a program built with an older header keeps working.
 *
 * BUFFERS are the driver's: a device pointer (CUDA; aligned to 16 bytes) or a cl_mem (OpenCL). */
#ifndef KILN_H
#define KILN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- version and failure */

#define KILN_HEADER_VERSION 100 /* 10000 * major + 100 * minor + patch */

/* Version of the library that is linked, as in KILN_HEADER_VERSION, and as text. */
int kiln_get_version(void);
const char *kiln_get_version_text(void);

enum {
    KILN_STATUS_OK = 0,
    KILN_STATUS_BAD_INPUT = -1,   /* an argument or a text is wrong */
    KILN_STATUS_NOT_FOUND = -2,   /* no such file, kernel, device text */
    KILN_STATUS_UNSUPPORTED = -3, /* this build, device or file cannot do it */
    KILN_STATUS_NO_DEVICE = -4,   /* driver absent, or no device of the wanted kind */
    KILN_STATUS_DRIVER = -5,      /* the driver reported an error */
    KILN_STATUS_COMPILE = -6,     /* a kernel rebuilt from source did not compile */
    KILN_STATUS_NO_MEMORY = -7,
    KILN_STATUS_IO = -8,
    KILN_STATUS_CORRUPT = -9,  /* hashes or structure of the file are wrong */
    KILN_STATUS_VERSION = -10, /* file of another major version */
    KILN_STATUS_TIMEOUT = -11,
    KILN_STATUS_NOT_PREPARED = -12, /* launch before kiln_prepare_plan */
    KILN_STATUS_WRONG = -13,        /* a self-test found a wrong result */
    KILN_STATUS_INTERRUPTED = -14
};

/* The words of a status ("corrupt data"); never NULL. */
const char *kiln_get_status_text(int status);
/* The sentence of this thread's last failed call; "" when none failed. Valid until the next call
 * of this thread that fails. */
const char *kiln_last_error(void);

/* ---------------------------------------------------------------- libraries */

typedef struct kiln_library kiln_library;

enum { KILN_LOG_INFO = 0, KILN_LOG_WARNING = 1 };

typedef struct kiln_open_options {
    size_t size;
    /* Receives one line per event worth knowing (a fallback chosen, a kernel rebuilt from source).
     * Called from the thread that made the call. NULL: silence. */
    void (*log)(void *user, int level, const char *line);
    void *log_user;
    /* Reserved: public keys that a library must be signed with. n_keys other than 0 gives
     * KILN_STATUS_UNSUPPORTED in this version. */
    const unsigned char (*keys)[32];
    int n_keys;
} kiln_open_options;

/* Opens a library. The file is read into private memory, its structure and the hashes of all
 * tables are checked; a kernel's code is checked when it is first loaded. options may be NULL. */
int kiln_open_library(const char *path, const kiln_open_options *options, kiln_library **out);
/* The same from memory, which is copied. */
int kiln_open_memory(const void *data, size_t bytes, const kiln_open_options *options,
                     kiln_library **out);
/* Detach every context first. */
void kiln_close_library(kiln_library *library);

/* Checks every hash, of every kernel's code too, and that no byte lies outside the sections. */
int kiln_verify_library(const kiln_library *library);
/* What is inside as JSON: format, id, devices, kernels, problems, provenance. Free with
 * kiln_free_text. */
int kiln_describe_library(const kiln_library *library, char **json);
void kiln_free_text(char *text);

/* Reserved: user-tuned additions bound to kernel hashes. KILN_STATUS_UNSUPPORTED in this version.
 */
int kiln_add_overlay(kiln_library *library, const char *path);

/* ---------------------------------------------------------------- devices */

typedef struct kiln_context kiln_context; /* a library on one device */

typedef struct kiln_attach_options {
    size_t size;
    /* "cuda:0", "opencl:1": that device. "cuda", "opencl": the first of the target. NULL: the
     * device that the library was tuned on where it is present, else the first one that can run
     * its kernels. */
    const char *device;
    /* An application's own handles. Set `attach` to 1 to use them; `device` then names the target.
     *   cuda     context: CUcontext (NULL: the thread's current one); stream: CUstream (NULL: the
     *            default stream)
     *   opencl   context: cl_context; handle: cl_device_id; stream: cl_command_queue (in order) */
    int attach;
    void *context, *handle, *stream;
} kiln_attach_options;

/* Attaches a library to a device. options may be NULL. The handles must outlive the context. */
int kiln_attach_device(kiln_library *library, const kiln_attach_options *options,
                       kiln_context **out);
/* Unloads its kernels and frees its plans, those not yet released included. */
void kiln_detach_device(kiln_context *context);

/* The device as text, e.g. "opencl:0"; and the name that the driver gives it. */
const char *kiln_get_device(const kiln_context *context);
const char *kiln_get_device_name(const kiln_context *context);

/* Buffers for programs that have none of their own. Copies wait until they are done. */
int kiln_make_buffer(kiln_context *context, int64_t bytes, void **buffer);
void kiln_free_buffer(kiln_context *context, void *buffer);
int kiln_write_buffer(kiln_context *context, void *to, const void *from, int64_t bytes);
int kiln_read_buffer(kiln_context *context, void *to, void *from, int64_t bytes);
/* Waits for everything on the context's stream, and reports what went wrong there. */
int kiln_wait_context(kiln_context *context);

/* ---------------------------------------------------------------- problems */

/* One operation with sizes, types, layout and fused statements:
 *
 *     matmul m=4096 n=14336 k=4096 a=bf16 b=bf16 out=bf16 tb=1 : out = gelu(acc + bias[n])
 *     map rows=16384 cols=8192 x=f32 out=f32 : out = x * sigmoid(x)
 *
 * `tune show "PROBLEM"` explains the language. */
typedef struct kiln_problem kiln_problem;

int kiln_make_problem(const char *text, kiln_problem **out);
void kiln_free_problem(kiln_problem *problem);
/* Gives run-time sizes new values without parsing the text again: names and values in two
 * parallel arrays. On failure the problem is as it was before. */
int kiln_resize_problem(kiln_problem *problem, const char *const *names, const int64_t *values,
                        int n);
/* The canonical text: equal problems have equal texts. Valid until the next call on the problem. */
const char *kiln_print_problem(kiln_problem *problem);

typedef struct kiln_operand_info {
    size_t size;
    const char *name, *type; /* "bias", "bf16"; valid as long as the problem */
    int output, scalar;      /* scalar: a number in kiln_launch_args.scalar, not a buffer */
    /* element (batch, row, col) lies at batch * batch_stride + row * ld + col, in elements */
    int64_t batch, rows, cols, ld, batch_stride;
    int64_t bytes; /* the smallest buffer */
} kiln_operand_info;

/* Operands in the order of kiln_launch_args. */
int kiln_count_operands(const kiln_problem *problem);
int kiln_get_operand(const kiln_problem *problem, int index, kiln_operand_info *out);

/* ---------------------------------------------------------------- plans */

/* The runtime's choice for one problem on one device: a kernel and its launches. */
typedef struct kiln_plan kiln_plan;

/* How a plan was chosen. */
enum {
    KILN_CHOICE_EXACT = 0,    /* tuned for this very problem on this device */
    KILN_CHOICE_NEAREST = 1,  /* tuned for other sizes (or a sibling device); legal for these */
    KILN_CHOICE_FALLBACK = 2, /* the generic kernel */
    KILN_CHOICE_OVERRIDE = 3  /* asked for by kiln_override_problem */
};

typedef struct kiln_plan_info {
    size_t size;
    int choice;
    int launches, prepared;
    int64_t workspace_bytes;        /* kiln_launch_args.workspace must be this large */
    int64_t workspace_zeroed_bytes; /* this many first bytes must be 0 before the first launch with
                                       that workspace; the kernel leaves them 0 */
    double predicted_seconds;       /* measured (exact) or scaled by size (nearest); 0 unknown */
    double distance;                /* sum of |log2 ratio| of the sizes to the tuned problem */
    char kernel[65];                /* SHA-256 that names the kernel */
    const char *variant, *schedule; /* valid until the plan is released */
    const char *reason;             /* why this kernel, in a sentence */
} kiln_plan_info;

/* Chooses a kernel: an override; the exact table; else, of the kernels compiled for the same types,
 * layout and statements, legal for these sizes and loadable on this device, the one measured
 * nearest; else the generic one. A choice is remembered (1024 of them at most): asking again costs
 * tens of nanoseconds. No code is loaded. Release what you get. */
int kiln_get_plan(kiln_context *context, const kiln_problem *problem, kiln_plan **out);
int kiln_get_plan_info(const kiln_plan *plan, kiln_plan_info *out);
void kiln_release_plan(kiln_plan *plan);

/* Loads the kernel: from the code made for this device where it fits, from PTX, or rebuilt from
 * its stored source where a compiler is present. Milliseconds, or a second from source. */
int kiln_prepare_plan(kiln_plan *plan);

typedef struct kiln_launch_args {
    size_t size;
    void *const *operand; /* one buffer per operand; entries of scalars are ignored */
    const double *scalar; /* one number per operand, read for scalars; NULL when there is none */
    void *workspace;      /* NULL when the plan needs none */
    void *stream;         /* CUstream or cl_command_queue; NULL: the context's */
} kiln_launch_args;

/* Enqueues the launches and returns: no lock, no allocation, no waiting, no file, so it may be
 * captured in a graph. KILN_STATUS_NOT_PREPARED when kiln_prepare_plan has not succeeded.
 * Buffers' sizes are the caller's duty: kiln_get_operand says how large they must be. */
int kiln_launch_plan(kiln_plan *plan, const kiln_launch_args *args);

/* All in one, for a first try: plan, prepare, a workspace of the context, launch, wait. The
 * workspace in args is ignored; the stream must be NULL. */
int kiln_run_problem(kiln_context *context, const kiln_problem *problem,
                     const kiln_launch_args *args);

/* Prepares n problems given as texts; NULL: all that the library was tuned for on this device. */
int kiln_prewarm_context(kiln_context *context, const char *const *problems, int n);

/* ---------------------------------------------------------------- looking closer */

typedef struct kiln_candidate {
    size_t size; /* set in each element of the array; bytes per element */
    int legal;   /* 0: `why` says what rules it out here */
    double predicted_seconds, distance;
    int64_t workspace_bytes;
    char kernel[65];
    const char *variant, *schedule; /* valid as long as the library */
    char why[240];
} kiln_candidate;

/* Every kernel made for the problem's types, layout and statements, best first, illegal ones last.
 * Fills at most max elements; *n receives how many there are. */
int kiln_list_candidates(kiln_context *context, const kiln_problem *problem, kiln_candidate *out,
                         int max, int *n);

/* Uses the kernel with this hash (kiln_candidate.kernel; a unique beginning is enough) for this
 * very problem from now on. Legality is checked all the same. */
int kiln_override_problem(kiln_context *context, const kiln_problem *problem, const char *kernel);
/* problem NULL: all of them. */
int kiln_clear_override(kiln_context *context, const kiln_problem *problem);

/* Problems that had no exact entry, most often asked first, each with the number of plans made; the
 * list is emptied. Feed the texts to `tune run`. At most 256 are kept; *lost (may be NULL)
 * receives how many were not. */
int kiln_drain_misses(kiln_context *context,
                      void (*visit)(void *user, const char *problem, const char *reason,
                                    int64_t times),
                      void *user, int64_t *lost);

typedef struct kiln_stats {
    size_t size;
    int64_t plans_exact, plans_nearest, plans_fallback, plans_override; /* made, not remembered */
    int64_t plans_remembered;                                           /* answered from memory */
    int64_t kernels_loaded, kernels_rebuilt;
    int64_t launches; /* calls of kiln_launch_plan that succeeded */
} kiln_stats;
int kiln_get_stats(const kiln_context *context, kiln_stats *out);

/* Runs a problem that the library stores test vectors for, on seeded random data, and compares.
 * problem NULL: all of this device. *tested (may be NULL) receives how many were run.
 * KILN_STATUS_WRONG names the problem and the element. */
int kiln_test_context(kiln_context *context, const kiln_problem *problem, int *tested);

#ifdef __cplusplus
}
#endif

#endif

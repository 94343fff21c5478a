/* The library in memory: a .kiln file read, checked and turned into plain tables.
 *
 * After kiln_reader_open every index, offset and string in these tables is in bounds, so that the
 * rest of the runtime needs no checks. What kernels.c of this build does not know (another family,
 * another revision of a variant) is not an error: the kernel is kept and says why it is unusable.
 */
#ifndef KILN_RUNTIME_READER_H
#define KILN_RUNTIME_READER_H

#include "base/arena.h"
#include "kernels/family.h"
#include "runtime/format.h"
#include "runtime/kiln.h"

typedef struct library_blob {
    const char *kind; /* "cubin", "ptx", "opencl", "hsaco", "source" */
    uint32_t binding; /* kiln_binding */
    uint32_t arch_number;
    const uint8_t *data;
    uint64_t size;
    uint8_t hash[32];
} library_blob;

typedef struct library_point {
    const char *problem;
    double seconds;
    int n_sizes;
    double log2[KILN_SIZES_MAX]; /* of its sizes */
} library_point;

typedef struct library_kernel {
    uint8_t hash[32];
    char hex[65];
    const char *family, *variant, *schedule, *key, *suffix;
    uint64_t key_hash; /* kiln_format_hash(key, 0) */
    int revision;
    uint32_t device;
    int n_blobs;
    library_blob blob[KILN_BLOBS_MAX];
    kiln_kernel_facts facts;
    bool fallback;
    int n_points;
    const library_point *point;
    const kiln_variant *v; /* NULL: unusable here, and `unusable` says why */
    kiln_schedule s;
    const char *unusable;
} library_kernel;

typedef struct library_exact {
    const char *problem;
    uint32_t device, kernel;
    double seconds, error_ratio;
    const char *provenance;
} library_exact;

typedef struct library_test {
    uint32_t exact, operand;
    uint64_t seed;
    int64_t element;
    double value, tolerance;
} library_test;

typedef struct library_section {
    uint32_t type, flags;
    uint64_t offset, size, alignment;
    uint8_t hash[32];
} library_section;

struct kiln_library {
    kiln_arena arena;
    uint8_t *data; /* the whole file, 64-byte aligned, private */
    uint64_t bytes;
    uint16_t major, minor;
    uint8_t id[32];
    int n_sections;
    library_section section[KILN_SECTIONS_MAX];
    uint32_t n_devices, n_kernels, n_exact, n_points, n_tests, n_slots;
    kiln_caps *device;
    library_kernel *kernel;
    library_exact *exact;
    library_point *point;
    library_test *test;
    const uint8_t *slot; /* n_slots u32s */
    const char *provenance;
    void (*log)(void *user, int level, const char *line);
    void *log_user;
};

/* Takes ownership of data (from malloc), also when it fails. `name` is for messages. */
int kiln_reader_open(uint8_t *data, uint64_t bytes, const char *name, kiln_library **out,
                     kiln_error *e);
/* Hashes of all sections and blobs, and zeros between sections. */
int kiln_reader_verify(const kiln_library *l, kiln_error *e);
/* Hash of one blob. */
int kiln_reader_check_blob(const library_kernel *k, const library_blob *b, kiln_error *e);
/* The exact entry for a canonical text and one of the library's devices, or NULL. */
const library_exact *kiln_reader_find(const kiln_library *l, const char *problem, uint32_t device);

/* The sizes that distances are made of: run-time sizes but for leading dimensions. Returns how
 * many. The emitter stores them with every point. */
int kiln_reader_sizes(const kiln_problem *p, int64_t size[KILN_SIZES_MAX]);

#endif

/* The .kiln file. Written by tuner/library.c, read by runtime/reader.c; nothing else knows it.
 *
 *     header          128 bytes
 *     section table   64 bytes each
 *     sections        ascending offsets, no overlap, aligned as their entry says; zeros between
 *
 * Little-endian, no pointers, no padding that a compiler chose: every field is written and read one
 * by one. Header (byte: field):
 *
 *      0 magic[8]         12 u32 sections         32 u64 file bytes     64 library id[32]
 *      8 u16 major        16 u64 required bits    40 zero[24]           96 hash of section
 * table[32] 10 u16 minor        24 u64 optional bits
 *
 * The id is SHA-256(header bytes 0 to 63, then the hash of the section table), so that every byte
 * of the file is under the id: the table by its hash, sections by theirs, the rest is zero.
 * Section entry: u32 type, u32 flags, u64 offset, u64 size, u64 alignment, SHA-256[32].
 *
 * Every table is u32 count, u32 bytes per record, then records; a reader takes the fields that it
 * knows and steps by the stated size, so a newer minor version may add fields at the end. A string
 * is u32 offset, u32 length into TEXT, followed there by a NUL.
 *
 *   DEVICES   the caps that kernels were made for: strings, i32s, i64s, one u32 of flags
 *   KERNELS   hash[32]; strings family, variant, schedule, kernel key, suffix; u32 revision,
 *             device, blobs, zero; KILN_BLOBS_MAX x blob; i32 registers, local bytes, shared bytes,
 *             threads, blocks per unit, zero
 *     blob    string kind; u32 binding, arch number; u64 offset in BLOBS, size; SHA-256[32]
 *   EXACT     string problem; u32 device, kernel; f64 seconds, share of the error bound used;
 *             string provenance (JSON)
 *   INDEX     u32 count, u32 4, then slots: open addressing over EXACT, 0 empty, else entry + 1;
 *             the first slot is kiln_format_hash(problem, device) mod count (a power of two)
 *   FALLBACK  string kernel key; u32 device, kernel: the generic kernel of each key
 *   BLOBS     code and sources, each at a multiple of 4096
 *   POINTS    (optional) u32 kernel, sizes; f64 seconds; i64 size[KILN_SIZES_MAX]; string problem:
 *             what was measured, by kernel, for choosing at sizes never tuned
 *   TESTS     (optional) u32 exact entry, operand; u64 seed; i64 element; f64 value, tolerance
 *   PROVENANCE (optional) JSON text
 *
 * LAUNCHES, TREES, PERFORMANCE and SIGNATURE are reserved: a critical section that the reader does
 * not know is refused, an optional one skipped. */
#ifndef KILN_RUNTIME_FORMAT_H
#define KILN_RUNTIME_FORMAT_H

#include <stdint.h>
#include <stddef.h>

#define KILN_MAGIC "\x89KILN\r\n\x1a"

enum {
    KILN_FORMAT_MAJOR = 1,
    KILN_FORMAT_MINOR = 0,
    KILN_HEADER_BYTES = 128,
    KILN_SECTION_BYTES = 64,
    KILN_SECTIONS_MAX = 64,
    KILN_SECTION_CRITICAL = 1,
    KILN_TABLE_ALIGN = 64,
    KILN_BLOB_ALIGN = 4096,
    KILN_BLOBS_MAX = 4,
    KILN_SIZES_MAX = 8,
};
#define KILN_FILE_BYTES_MAX ((uint64_t)1 << 31)

/* X(name, number, critical, must be there) */
#define KILN_SECTIONS(X)                                                                           \
    X(TEXT, 1, 1, 1)                                                                               \
    X(DEVICES, 2, 1, 1)                                                                            \
    X(KERNELS, 3, 1, 1)                                                                            \
    X(EXACT, 4, 1, 1)                                                                              \
    X(INDEX, 5, 1, 1)                                                                              \
    X(FALLBACK, 6, 1, 1)                                                                           \
    X(BLOBS, 7, 1, 1)                                                                              \
    X(POINTS, 16, 0, 0)                                                                            \
    X(TESTS, 17, 0, 0)                                                                             \
    X(PROVENANCE, 18, 0, 0)
/* reserved: LAUNCHES 8, TREES 9 (critical); PERFORMANCE 19, SIGNATURE 20 */

enum {
#define X(name, number, critical, needed) KILN_SECTION_##name = number,
    KILN_SECTIONS(X)
#undef X
};

enum {
    KILN_DEVICE_RECORD = 144,
    KILN_BLOB_RECORD = 64,
    KILN_KERNEL_RECORD = 32 + 40 + 16 + KILN_BLOBS_MAX * KILN_BLOB_RECORD + 24,
    KILN_EXACT_RECORD = 40,
    KILN_FALLBACK_RECORD = 16,
    KILN_POINT_RECORD = 24 + 8 * KILN_SIZES_MAX,
    KILN_TEST_RECORD = 40,
};

/* Where a blob runs, besides on its own target. */
typedef enum kiln_binding {
    KILN_BIND_NONE,       /* source: anywhere with a compiler */
    KILN_BIND_DRIVER,     /* same device name, platform and driver: OpenCL binaries */
    KILN_BIND_ARCH,       /* same architecture text: "sm_90a", "gfx942" */
    KILN_BIND_ARCH_MAJOR, /* same major number, minor not below: plain cubins */
    KILN_BIND_ARCH_LEAST, /* architecture number not below `arch number`: PTX */
    KILN_BINDINGS
} kiln_binding;

/* The fields of kiln_caps that the DEVICES table keeps, in this order. */
#define KILN_CAPS_TEXTS(X) X(target) X(name) X(vendor) X(platform) X(arch) X(driver) X(compiler)
#define KILN_CAPS_I32S(X)                                                                          \
    X(index)                                                                                       \
    X(kind) X(arch_number) X(units) X(warp) X(vector_bits) X(vector_registers) X(max_threads)      \
        X(shared_bytes) X(shared_unit_bytes) X(registers_unit) X(threads_unit) X(clock_mhz)        \
            X(align_bytes)
#define KILN_CAPS_I64S(X) X(cache_bytes) X(memory_bytes) X(max_alloc_bytes)
#define KILN_CAPS_FLAGS(X) X(f64) X(f16) X(shared_host) X(clusters) X(tensor_maps) X(events)

/* FNV-1a: stored in files, so it never changes. */
static inline uint64_t kiln_format_hash(const char *text, uint32_t device) {
    uint64_t h = 0xcbf29ce484222325u ^ device;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        h = (h ^ *p) * 0x100000001b3u;
    return h ^ h >> 32;
}

static inline uint32_t kiln_format_get32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t kiln_format_get64(const uint8_t *p) {
    return kiln_format_get32(p) | (uint64_t)kiln_format_get32(p + 4) << 32;
}

static inline void kiln_format_put32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static inline void kiln_format_put64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

#endif

/* A target: one driver (cuda, hip, opencl) behind one table of functions.
 *
 * The first half is plain data (caps, launches): kernels/, search and cost-model may see only that.
 * The second half is the table: the tuner's workers and the runtime call it.
 *
 * To add a target: a folder with target.c that exports `kiln_target_NAME`, and dialect.h, the text
 * put before every program. The Makefile finds it. Driver libraries are opened at run time; when
 * one is absent, `devices` says so and the rest is never called. A driver may crash the process:
 * whatever compiles or runs a candidate does so in a worker process.
 *
 * Ownership: what open/alloc/load returns is released by close/release/unload of the same target.
 * Thread safety: none per device handle; different handles may be used from different threads. */
#ifndef KILN_TARGETS_TARGET_H
#define KILN_TARGETS_TARGET_H

#include "base/status.h"
#include "base/text.h"
#include "kernels/type.h"

#include <stdbool.h>
#include <stdint.h>

/* ---------------------------------------------------------------- plain data: caps, launches */

typedef enum kiln_device_kind { KILN_DEVICE_CPU, KILN_DEVICE_GPU } kiln_device_kind;

/* What one device can do. If a number tells two devices apart, it is a field here. */
typedef struct kiln_caps {
    char target[16];    /* "cuda", "opencl" */
    int index;          /* of the target's devices: "opencl:0" */
    char name[128];     /* as the driver says, trimmed: "NVIDIA H200" */
    char vendor[64];
    char platform[64];  /* OpenCL platform, else "" */
    char arch[48];      /* what the compiler is told: "sm_90a", "gfx942", OpenCL: device version */
    char driver[96];    /* driver version text */
    char compiler[96];  /* compiler and version: "NVRTC 13.0", "PoCL 3.1 LLVM 14" */
    char bus[32];       /* PCI "0000:1b:00.0", or "" */
    int kind;           /* kiln_device_kind */
    int arch_number;    /* CUDA: 10*major+minor; otherwise 0 */
    int units;          /* SMs, CUs, cores */
    int warp;           /* lanes that run together; 1 on a CPU */
    int vector_bits;    /* native SIMD register of a CPU device (128, 256, 512); 0 on a GPU */
    int vector_registers; /* of that width: 16 or 32; 0 on a GPU */
    int max_threads;    /* per block */
    int shared_bytes;   /* per block, the most a kernel may ask for */
    int shared_unit_bytes; /* per unit */
    int registers_unit; /* 32-bit registers per unit, 0 unknown */
    int threads_unit;   /* resident threads per unit, 0 unknown */
    int64_t cache_bytes;  /* last-level cache */
    int64_t memory_bytes;
    int64_t max_alloc_bytes;
    int clock_mhz;      /* highest, 0 unknown */
    int align_bytes;    /* alignment of fresh allocations and of views */
    bool f64, f16;      /* arithmetic on these types; storage of f16/bf16 is always there */
    int programs_per_unit; /* programs worth putting into one compilation: above 1 where a build has
                              a high fixed cost (PoCL: about a second) */
    bool shared_host;   /* the device is the host's cores: compiling disturbs measuring */
    bool clusters, tensor_maps; /* Hopper */
    bool events;        /* device timestamps usable (Rusticl's are all 0) */
} kiln_caps;

/* "cuda:0". */
void kiln_caps_id(const kiln_caps *c, char out[32]);
/* One line that names the device exactly: name, units, memory, driver, compiler. It keys records
 * in the store: two devices with equal identity may share measurements. */
void kiln_caps_identity(const kiln_caps *c, kiln_text *out);

typedef enum kiln_arg_kind {
    KILN_ARG_OPERAND,    /* pointer to operand `index`; by value (float) when it is scalar */
    KILN_ARG_WORKSPACE,  /* pointer to the workspace; offsets inside it travel as I64 */
    KILN_ARG_I32,        /* value.i */
    KILN_ARG_I64,
    KILN_ARG_F32,        /* value.f */
    KILN_ARG_TENSOR_MAP, /* `index` into the program's tensor maps, passed by value (64 bytes x2) */
    KILN_ARG_REFERENCE,  /* reference programs: double array of output `index` */
    KILN_ARG_BOUND,      /*                     float array of output `index` */
    KILN_ARG_PARTIALS,   /* comparison kernel: its result array */
} kiln_arg_kind;

typedef struct kiln_arg {
    uint8_t kind;
    uint8_t index;
    union {
        int64_t i;
        double f;
    } value;
} kiln_arg;

enum { KILN_ARGS_MAX = 40, KILN_ENTRY_MAX = 48 };

typedef struct kiln_launch {
    char entry[KILN_ENTRY_MAX]; /* without the program's prefix: "main", "pack_a" */
    uint32_t grid[3], block[3]; /* in blocks, in threads */
    uint32_t cluster[3];        /* blocks per cluster; 0 or 1: none */
    uint32_t shared_bytes;      /* dynamic shared memory */
    bool dependent;             /* may start before the launch before it ends (PDL) */
    int n_args;
    kiln_arg arg[KILN_ARGS_MAX];
} kiln_launch;

/* What a Hopper tensor map is made of; encoded by the target when a program is bound to buffers. */
typedef struct kiln_tensor_map {
    uint8_t operand;          /* index, or 255: the workspace at `offset` */
    uint8_t type;             /* kiln_type */
    uint8_t rank;             /* 1 to 5 */
    uint8_t swizzle_bytes;    /* 0, 32, 64, 128 */
    uint8_t l2_bytes;         /* promotion: 0, 64, 128; 255 = 256 */
    int64_t offset;           /* bytes */
    int64_t size[5];          /* elements, fastest first */
    int64_t stride_bytes[4];  /* of dimensions 1.. */
    int32_t box[5];
} kiln_tensor_map;

/* ---------------------------------------------------------------- the table */

typedef struct kiln_device kiln_device; /* an open device; each target has its own struct */
typedef struct kiln_module kiln_module; /* loaded code */
typedef struct kiln_kernel kiln_kernel; /* one entry of it; lives as long as its module */
typedef void *kiln_buffer;              /* device pointer (cuda), cl_mem (opencl) */

/* Handles of an application that already uses the device (runtime); all NULL: make our own. */
typedef struct kiln_attach {
    void *context; /* CUcontext or cl_context; cuda: NULL takes the thread's current one */
    void *device;  /* cl_device_id; unused by cuda */
    void *stream;  /* CUstream or cl_command_queue */
    bool attached; /* false: open a device of our own */
} kiln_attach;

typedef struct kiln_blob {
    void *data; /* malloc'ed; the receiver frees it */
    size_t size;
    char kind[16]; /* "cubin", "ptx", "opencl", "hsaco" */
} kiln_blob;

typedef struct kiln_kernel_facts {
    int registers;    /* per thread, -1 unknown */
    int local_bytes;  /* spills and stack per thread, -1 unknown */
    int shared_bytes; /* static */
    int max_threads;
    int blocks_per_unit; /* resident blocks of the given block size, -1 unknown */
} kiln_kernel_facts;

typedef struct kiln_sensors {
    int clock_mhz, memory_clock_mhz, temperature_c, power_w; /* -1 unknown */
    char throttle[64];                                       /* reasons, "" none */
} kiln_sensors;

/* The values behind a launch's arguments. */
typedef struct kiln_bindings {
    const kiln_buffer *operand; /* one per operand; NULL there marks a scalar */
    const double *scalar;       /* one per operand, read for scalars */
    kiln_buffer workspace;
    const kiln_buffer *reference, *bound; /* reference programs */
    kiln_buffer partials;
    const void *tensor_maps; /* encoded, 128 bytes each, in the program's order */
} kiln_bindings;

typedef struct kiln_compile_request {
    const char *source;         /* complete unit, dialect header included */
    const char *ptx_arch;       /* cuda: also produce PTX for this plain arch ("compute_80"), or NULL */
    /* OpenCL drivers finish a kernel at its first launch, per block size: run these once with all
     * sizes 0 before the binary is taken, so that a later load is instant. Others ignore them. */
    int n_warm;
    const kiln_launch *const *warm;   /* entry names are complete here */
    const char (*warm_entry)[64];     /* complete entry name of each */
} kiln_compile_request;

typedef struct kiln_target {
    const char *name;
    bool addresses; /* buffers are device addresses (cuda, hip), so their alignment can be seen */

    /* Fills at most max caps, returns their number (0 and a reason in e when the driver is absent
     * or finds nothing). Must not keep the driver busy. */
    int (*devices)(kiln_caps *caps, int max, kiln_error *e);
    kiln_device *(*open)(int index, const kiln_attach *attach, kiln_error *e);
    void (*close)(kiln_device *d);
    const kiln_caps *(*caps)(kiln_device *d);

    /* Buffers. copy is synchronous; exactly one side is a device buffer. view: a part of a buffer
     * (offset a multiple of caps.align_bytes) as a buffer of its own, released before its parent. */
    kiln_buffer (*alloc)(kiln_device *d, int64_t bytes, kiln_error *e);
    kiln_buffer (*view)(kiln_device *d, kiln_buffer b, int64_t offset, int64_t bytes, kiln_error *e);
    void (*release)(kiln_device *d, kiln_buffer b);
    int (*write)(kiln_device *d, kiln_buffer to, int64_t offset, const void *from, int64_t bytes,
                 kiln_error *e);
    int (*read)(kiln_device *d, void *to, kiln_buffer from, int64_t offset, int64_t bytes,
                kiln_error *e);
    int (*fill)(kiln_device *d, kiln_buffer to, int64_t offset, int64_t bytes, uint32_t pattern,
                kiln_error *e); /* 32-bit pattern; offset and bytes multiples of 4 */

    /* Enqueues a copy between two device buffers: the ceiling of memory-bound work. NULL: none. */
    int (*copy)(kiln_device *d, kiln_buffer to, kiln_buffer from, int64_t bytes, kiln_error *e);

    /* Compiles for the device that caps describes; needs no open device (cuda: needs no GPU).
     * log receives the compiler's words, also on success. KILN_COMPILE: the source is at fault. */
    int (*compile)(const kiln_caps *caps, const kiln_compile_request *request, kiln_blob *out,
                   kiln_blob *ptx, kiln_text *log, kiln_error *e);
    /* What that log says of one entry (its complete name), before any code is loaded: registers and
     * local_bytes, the others -1. False: nothing. NULL: this compiler's log never tells. */
    bool (*report)(const char *log, const char *entry, kiln_kernel_facts *out);

    kiln_module *(*load)(kiln_device *d, const void *code, size_t size, kiln_error *e);
    void (*unload)(kiln_device *d, kiln_module *m);
    kiln_kernel *(*kernel)(kiln_device *d, kiln_module *m, const char *entry, kiln_error *e);
    int (*facts)(kiln_device *d, kiln_kernel *k, const kiln_launch *l, kiln_kernel_facts *out);

    /* Encodes tensor maps for buffers, 128 bytes each; NULL where there are none. */
    int (*encode)(kiln_device *d, const kiln_tensor_map *maps, int n, const kiln_bindings *b,
                  void *out, kiln_error *e);
    /* Enqueues on `stream` (NULL: the device's own). No allocation, no synchronisation. */
    int (*launch)(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                  void *stream, kiln_error *e);
    int (*sync)(kiln_device *d, kiln_error *e); /* and reports what went wrong on the device */

    /* Timing: up to 64 open regions. begin and end are enqueued around launches (or vendor runs);
     * seconds waits for the region's end. On a device without usable events: host clock. */
    int (*begin)(kiln_device *d, int region, kiln_error *e);
    int (*end)(kiln_device *d, int region, kiln_error *e);
    double (*seconds)(kiln_device *d, int region, kiln_error *e); /* below 0: failed */

    /* Batches (CUDA graphs): what is enqueued between record_begin and record_end becomes one
     * replayable batch. All four NULL where the driver has none. */
    int (*record_begin)(kiln_device *d, kiln_error *e);
    void *(*record_end)(kiln_device *d, kiln_error *e);
    int (*replay)(kiln_device *d, void *batch, kiln_error *e);
    void (*forget)(kiln_device *d, void *batch);

    int (*sensors)(kiln_device *d, kiln_sensors *out); /* NULL: none */
    /* The driver's own handles, for vendors: cuda: stream; opencl: cl_command_queue. */
    void *(*stream)(kiln_device *d);
} kiln_target;

extern const kiln_target *const kiln_targets[]; /* NULL-terminated; generated */
const kiln_target *kiln_target_find(const char *name);

#endif

/* A vendor's matmul, as a peer to compare with: OpenBLAS, CLBlast, cuBLASLt, each opened at run
 * time. A file targets/TARGET/vendor_NAME.c exports `kiln_vendor_NAME`; the Makefile finds it.
 * Only the tuner links vendors.
 *
 * Row-major C = A B, alpha 1, beta 0, 32-bit float (int8: int32) accumulation. Operands of
 * KILN_TF32 are floats that the tensor cores may round to tf32; KILN_F32 stays out of them. 8-bit
 * floats have scales of 1. */
#ifndef KILN_TARGETS_VENDOR_H
#define KILN_TARGETS_VENDOR_H

#include "targets/target.h"

typedef struct kiln_gemm {
    int64_t m, n, k, batch, lda, ldb, ldc, stride_a, stride_b, stride_c; /* elements */
    kiln_type a, b, c;
    bool ta, tb; /* a is stored k x m, b is stored n x k */
    bool fast;   /* 8-bit floats: sums may stay in the tensor cores' narrow accumulator */
} kiln_gemm;

typedef struct kiln_vendor {
    const char *name; /* "openblas", "clblast", "cublaslt" (best of its heuristic's first 32, as its
                         user finds it), "cublaslt-first" */
    /* NULL with a reason in e when the library is absent or cannot do this problem. */
    void *(*open)(kiln_device *d, const kiln_gemm *g, kiln_error *e);
    /* Gets ready to run on buffers like these; may take a second. */
    int (*prepare)(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e);
    /* How many kernels, 1 or more, may be its fastest by what prepare saw, the likeliest first.
     * Which one is, shows when they are timed as everybody else is: a glance at a chip that rests
     * does not tell. NULL: it has one. */
    int (*choices)(void *v);
    /* From now on run takes, and describe describes, kernel 0 .. choices - 1. After prepare: 0. */
    void (*choose)(void *v, int choice);
    /* Enqueues one execution on the device's own stream; a host library runs it. */
    int (*run)(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e);
    bool host;                                 /* runs on the host: time it by the host's clock */
    void (*describe)(void *v, kiln_text *out); /* version, algorithm chosen */
    void (*close)(void *v);
} kiln_vendor;

typedef struct kiln_vendor_entry {
    const char *target;
    const kiln_vendor *vendor;
} kiln_vendor_entry;
extern const kiln_vendor_entry kiln_vendors[]; /* ends with NULL; generated */

#endif

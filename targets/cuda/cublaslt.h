/* cuBLASLt as two vendors: the best of its heuristic's first algorithms, and its first. The code is
 * in vendor_cublaslt.c, so that only the tuner links it. */
#ifndef KILN_TARGETS_CUDA_CUBLASLT_H
#define KILN_TARGETS_CUDA_CUBLASLT_H

#include "targets/vendor.h"

void *kiln_cublaslt_open(kiln_device *d, const kiln_gemm *g, kiln_error *e);
/* Runs the algorithms the heuristic names, and keeps those that may be the fastest. */
int kiln_cublaslt_prepare(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e);
/* Keeps the first. */
int kiln_cublaslt_prepare_first(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c,
                                kiln_error *e);
int kiln_cublaslt_run(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e);
void kiln_cublaslt_describe(void *v, kiln_text *out);
void kiln_cublaslt_close(void *v);

#endif

/* What an application gets from cuBLASLt without timing anything. */
#include "targets/cuda/cublaslt.h"

extern const kiln_vendor kiln_vendor_cublaslt_first;
const kiln_vendor kiln_vendor_cublaslt_first = {
    .name = "cublaslt-first",
    .open = kiln_cublaslt_open,
    .prepare = kiln_cublaslt_prepare_first,
    .run = kiln_cublaslt_run,
    .describe = kiln_cublaslt_describe,
    .close = kiln_cublaslt_close,
};

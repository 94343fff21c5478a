/* OpenBLAS beside an OpenCL device that is the host's cores: the same memory, the same number of
 * threads. */
#include "targets/driver.h"
#include "targets/opencl/opencl.h"
#include "targets/vendor.h"

#include <pthread.h>
#include <stdlib.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };

typedef struct openblas_api {
    void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a,
                  int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*set_num_threads)(int n);
    char *(*get_config)(void);
} openblas_api;

typedef struct openblas {
    kiln_device *d;
    kiln_gemm g;
} openblas;

static openblas_api blas;
static kiln_error failure;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Its idle threads spin for a while, which would slow whatever is measured next: 2^18 cycles
 * (0.1 ms) bridge the gap between two calls and no more. Read when the library starts. */
static void open_library(void) {
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", NULL};
    static const kiln_driver_symbol symbols[] = {
        {"cblas_sgemm", offsetof(openblas_api, sgemm), false},
        {"openblas_set_num_threads", offsetof(openblas_api, set_num_threads), false},
        {"openblas_get_config", offsetof(openblas_api, get_config), false},
    };
    setenv("OPENBLAS_THREAD_TIMEOUT", "18", 0);
    void *library = kiln_driver_open(names, NULL);
    if (library)
        kiln_driver_bind(library, "libopenblas.so.0", symbols, sizeof symbols / sizeof *symbols,
                         &blas, &failure);
    else
        kiln_fail(&failure, KILN_NO_DEVICE,
                  "libopenblas.so.0 is missing: install libopenblas0-pthread");
}

static int check(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    const int64_t size[] = {g->m, g->n, g->k, g->lda, g->ldb, g->ldc};
    if (!d->caps.shared_host)
        return kiln_fail(e, KILN_UNSUPPORTED, "OpenBLAS runs on the host, %s does not",
                         d->caps.name);
    if (g->a != KILN_F32 || g->b != KILN_F32 || g->c != KILN_F32)
        return kiln_fail(e, KILN_UNSUPPORTED, "OpenBLAS has matmul of f32 only");
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (size[i] > INT32_MAX)
            return kiln_fail(e, KILN_UNSUPPORTED, "OpenBLAS takes sizes of 31 bits, not %lld",
                             (long long)size[i]);
    return 0;
}

static void *open_vendor(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    pthread_once(&once, open_library);
    if (failure.status) {
        if (e) *e = failure;
        return NULL;
    }
    if (check(d, g, e)) return NULL;
    openblas *v = calloc(1, sizeof *v);
    if (!v) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for OpenBLAS");
        return NULL;
    }
    *v = (openblas){d, *g};
    blas.set_num_threads(d->caps.units);
    return v;
}

static void multiply(const kiln_gemm *g, const float *a, const float *b, float *c) {
    for (int64_t i = 0; i < (g->batch > 1 ? g->batch : 1); i++)
        blas.sgemm(ROW_MAJOR, g->ta ? TRANS : NO_TRANS, g->tb ? TRANS : NO_TRANS, (int)g->m,
                   (int)g->n, (int)g->k, 1.0f, a + i * g->stride_a, (int)g->lda,
                   b + i * g->stride_b, (int)g->ldb, 0.0f, c + i * g->stride_c, (int)g->ldc);
}

static void *map(openblas *v, kiln_buffer b, bool write, kiln_error *e) {
    size_t size = 0;
    cl_int rc = v->d->api->clGetMemObjectInfo(b, OCL_MEM_SIZE, sizeof size, &size, NULL);
    void *p = rc ? NULL
                 : v->d->api->clEnqueueMapBuffer(
                       v->d->queue, b, 1, write ? OCL_MAP_READ | OCL_MAP_WRITE : OCL_MAP_READ, 0,
                       size, 0, NULL, NULL, &rc);
    if (!p) kiln_fail(e, KILN_DRIVER, "mapping a buffer failed (%s)", kiln_opencl_error(rc));
    return p;
}

static void unmap(openblas *v, kiln_buffer b, void *p) {
    if (p) v->d->api->clEnqueueUnmapMemObject(v->d->queue, b, p, 0, NULL, NULL);
}

static int run(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    openblas *v = handle;
    void *pa = map(v, a, false, e), *pb = pa ? map(v, b, false, e) : NULL;
    void *pc = pb ? map(v, c, true, e) : NULL;
    if (pc) multiply(&v->g, pa, pb, pc);
    unmap(v, c, pc);
    unmap(v, b, pb);
    unmap(v, a, pa);
    cl_int rc = v->d->api->clFinish(v->d->queue);
    if (!pc) return KILN_DRIVER;
    return rc ? kiln_fail(e, KILN_DRIVER, "unmapping failed (%s)", kiln_opencl_error(rc)) : 0;
}

static void describe(void *handle, kiln_text *out) {
    const openblas *v = handle;
    char words[160];
    kiln_driver_trim(words, sizeof words, blas.get_config());
    kiln_text_printf(out, "%s, %d threads", words, v->d->caps.units);
}

extern const kiln_vendor kiln_vendor_openblas;
const kiln_vendor kiln_vendor_openblas = {
    .name = "openblas",
    .open = open_vendor,
    .prepare = run, /* starts its threads, touches its buffers */
    .run = run,
    .host = true,
    .describe = describe,
    .close = free,
};

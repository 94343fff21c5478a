/* CLBlast on the device's own queue. */
#include "targets/driver.h"
#include "targets/opencl/opencl.h"
#include "targets/vendor.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112, HALF_ONE = 0x3c00 };

/* cl_half travels as the 16 bits of a ushort. */
typedef struct clblast_api {
    int (*sgemm)(int layout, int ta, int tb, size_t m, size_t n, size_t k, float alpha, cl_mem a,
                 size_t a_offset, size_t lda, cl_mem b, size_t b_offset, size_t ldb, float beta,
                 cl_mem c, size_t c_offset, size_t ldc, cl_command_queue *queue, cl_event *event);
    int (*hgemm)(int layout, int ta, int tb, size_t m, size_t n, size_t k, uint16_t alpha, cl_mem a,
                 size_t a_offset, size_t lda, cl_mem b, size_t b_offset, size_t ldb, uint16_t beta,
                 cl_mem c, size_t c_offset, size_t ldc, cl_command_queue *queue, cl_event *event);
    int (*sgemm_batched)(int layout, int ta, int tb, size_t m, size_t n, size_t k, float alpha,
                         cl_mem a, size_t a_offset, size_t lda, size_t a_stride, cl_mem b,
                         size_t b_offset, size_t ldb, size_t b_stride, float beta, cl_mem c,
                         size_t c_offset, size_t ldc, size_t c_stride, size_t batch,
                         cl_command_queue *queue, cl_event *event);
    int (*hgemm_batched)(int layout, int ta, int tb, size_t m, size_t n, size_t k, uint16_t alpha,
                         cl_mem a, size_t a_offset, size_t lda, size_t a_stride, cl_mem b,
                         size_t b_offset, size_t ldb, size_t b_stride, uint16_t beta, cl_mem c,
                         size_t c_offset, size_t ldc, size_t c_stride, size_t batch,
                         cl_command_queue *queue, cl_event *event);
} clblast_api;

typedef struct clblast {
    kiln_device *d;
    kiln_gemm g;
} clblast;

static clblast_api api;
static char file[256]; /* the library's, which carries its version */
static kiln_error failure;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find_version(void) {
    Dl_info info;
    void *address;
    memcpy(&address, &api.sgemm, sizeof address);
    char *path = dladdr(address, &info) ? realpath(info.dli_fname, NULL) : NULL;
    const char *base = path ? strrchr(path, '/') : NULL;
    kiln_driver_trim(file, sizeof file, base ? base + 1 : "CLBlast");
    free(path);
}

static void open_library(void) {
    static const char *const names[] = {"libclblast.so.1", "libclblast.so", NULL};
    static const kiln_driver_symbol symbols[] = {
        {"CLBlastSgemm", offsetof(clblast_api, sgemm), false},
        {"CLBlastHgemm", offsetof(clblast_api, hgemm), false},
        {"CLBlastSgemmStridedBatched", offsetof(clblast_api, sgemm_batched), false},
        {"CLBlastHgemmStridedBatched", offsetof(clblast_api, hgemm_batched), false},
    };
    void *library = kiln_driver_open(names, NULL);
    if (!library)
        kiln_fail(&failure, KILN_NO_DEVICE, "libclblast.so.1 is missing: install libclblast1");
    else if (!kiln_driver_bind(library, names[0], symbols, sizeof symbols / sizeof *symbols, &api,
                               &failure))
        find_version();
}

static int check(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    bool half = g->a == KILN_F16;
    if ((g->a != KILN_F32 && !half) || g->b != g->a || g->c != g->a)
        return kiln_fail(e, KILN_UNSUPPORTED, "CLBlast has matmul of f32 or f16 throughout");
    if (half && !d->caps.f16)
        return kiln_fail(e, KILN_UNSUPPORTED, "CLBlast needs arithmetic on f16, which %s lacks",
                         d->caps.name);
    return 0;
}

static void *open_vendor(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    pthread_once(&once, open_library);
    if (failure.status) {
        if (e) *e = failure;
        return NULL;
    }
    if (check(d, g, e)) return NULL;
    clblast *v = calloc(1, sizeof *v);
    if (v)
        *v = (clblast){d, *g};
    else
        kiln_fail(e, KILN_NO_MEMORY, "no memory for CLBlast");
    return v;
}

static int call_single(const clblast *v, cl_mem a, cl_mem b, cl_mem c, int ta, int tb) {
    const kiln_gemm *g = &v->g;
    cl_command_queue queue = v->d->queue;
    size_t m = (size_t)g->m, n = (size_t)g->n, k = (size_t)g->k;
    size_t lda = (size_t)g->lda, ldb = (size_t)g->ldb, ldc = (size_t)g->ldc;
    return g->a == KILN_F16 ? api.hgemm(ROW_MAJOR, ta, tb, m, n, k, HALF_ONE, a, 0, lda, b, 0, ldb,
                                        0, c, 0, ldc, &queue, NULL)
                            : api.sgemm(ROW_MAJOR, ta, tb, m, n, k, 1.0f, a, 0, lda, b, 0, ldb,
                                        0.0f, c, 0, ldc, &queue, NULL);
}

static int call_batched(const clblast *v, cl_mem a, cl_mem b, cl_mem c, int ta, int tb) {
    const kiln_gemm *g = &v->g;
    cl_command_queue queue = v->d->queue;
    size_t m = (size_t)g->m, n = (size_t)g->n, k = (size_t)g->k, batch = (size_t)g->batch;
    size_t lda = (size_t)g->lda, ldb = (size_t)g->ldb, ldc = (size_t)g->ldc;
    size_t sa = (size_t)g->stride_a, sb = (size_t)g->stride_b, sc = (size_t)g->stride_c;
    return g->a == KILN_F16
               ? api.hgemm_batched(ROW_MAJOR, ta, tb, m, n, k, HALF_ONE, a, 0, lda, sa, b, 0, ldb,
                                   sb, 0, c, 0, ldc, sc, batch, &queue, NULL)
               : api.sgemm_batched(ROW_MAJOR, ta, tb, m, n, k, 1.0f, a, 0, lda, sa, b, 0, ldb, sb,
                                   0.0f, c, 0, ldc, sc, batch, &queue, NULL);
}

static int run(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    const clblast *v = handle;
    int ta = v->g.ta ? TRANS : NO_TRANS, tb = v->g.tb ? TRANS : NO_TRANS;
    int rc = v->g.batch > 1 ? call_batched(v, a, b, c, ta, tb) : call_single(v, a, b, c, ta, tb);
    return rc ? kiln_fail(e, KILN_DRIVER, "CLBlast failed (status %d)", rc) : 0;
}

/* The first call builds its kernels. */
static int prepare(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    const clblast *v = handle;
    int status = run(handle, a, b, c, e);
    if (status) return status;
    cl_int rc = v->d->api->clFinish(v->d->queue);
    return rc ? kiln_fail(e, KILN_DRIVER, "CLBlast's matmul failed (%s)", kiln_opencl_error(rc))
              : 0;
}

static void describe(void *handle, kiln_text *out) {
    (void)handle;
    kiln_text_printf(out, "CLBlast (%s), default parameters", file);
}

extern const kiln_vendor kiln_vendor_clblast;
const kiln_vendor kiln_vendor_clblast = {
    .name = "clblast",
    .open = open_vendor,
    .prepare = prepare,
    .run = run,
    .describe = describe,
    .close = free,
};

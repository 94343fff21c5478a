/* cuBLASLt at its best: every algorithm its heuristic names first is run a few times on the real
 * buffers, and those that are not far off are its choices. 32 is more than the heuristic usually
 * has for a problem; what it ranks lower is not worth the time.
 *
 * The library is column-major; row-major C = A B is column-major C' = B' A', so the operands change
 * places and a row-major matrix is its own transpose. Its 8-bit floats want "TN", which is then a
 * row-major m x k and b stored n x k. */
#include "targets/cuda/cublaslt.h"
#include "targets/cuda/cuda.h"
#include "targets/driver.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* The workspace is larger than any last-level cache here: filling it makes the operands cold. */
enum { ALGORITHMS = 32, WORKSPACE_BYTES = 64 << 20, GLANCES = 2, CHOICES = 8 };
static const float FAR_OFF = 1.3f; /* times the fastest: more than clocks and chance make of it */

typedef struct cublaslt {
    cublaslt_api *lt;
    kiln_device *d;
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t x, y, c, z; /* x: our b, y: our a, z: our c; c: what beta scales */
    CUdeviceptr workspace;
    cublasLtMatmulHeuristicResult_t found[ALGORITHMS];
    int n_found, chosen;
    int choice[CHOICES], n_choices; /* of those found, by a glance, fastest first */
    bool integer, tf32, fast, fp8_out;
} cublaslt;

/* ---------------------------------------------------------------- the library */

static cublaslt_api api;
static kiln_error failure;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void) {
    static const char *const files[4] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                         "libcublasLt.so.11", "libcublasLt.so"};
    static const kiln_driver_symbol symbols[] = {
#define X(result, name, parameters) {#name, offsetof(cublaslt_api, name), false},
        CUBLASLT_FUNCTIONS(X)
#undef X
    };
    void *library = kiln_cuda_open_toolkit(files, NULL);
    if (library)
        kiln_driver_bind(library, "libcublasLt.so", symbols, sizeof symbols / sizeof *symbols, &api,
                         &failure);
    else
        kiln_fail(&failure, KILN_NO_DEVICE,
                  "libcublasLt.so (13, 12 or 11) is missing: install cuBLAS or set CUDA_HOME");
}

static int fail_status(const cublaslt *v, const char *what, cublasStatus_t rc, kiln_error *e) {
    return kiln_fail(e, KILN_DRIVER, "cuBLASLt: %s failed (%s)", what,
                     v->lt->cublasLtGetStatusString(rc));
}

/* ---------------------------------------------------------------- describing the problem */

static int data_type(kiln_type t) {
    switch (t) {
    case KILN_F32:
    case KILN_TF32:
        return CUDA_R_32F;
    case KILN_F16:
        return CUDA_R_16F;
    case KILN_BF16:
        return CUDA_R_16BF;
    case KILN_E4M3:
        return CUDA_R_8F_E4M3;
    case KILN_E5M2:
        return CUDA_R_8F_E5M2;
    case KILN_I8:
        return CUDA_R_8I;
    case KILN_I32:
        return CUDA_R_32I;
    default:
        return -1;
    }
}

static bool is_fp8(kiln_type t) { return t == KILN_E4M3 || t == KILN_E5M2; }

static int check_types(const kiln_gemm *g, kiln_error *e) {
    bool integer = g->a == KILN_I8;
    if (data_type(g->a) < 0 || data_type(g->b) < 0 || data_type(g->c) < 0 ||
        integer != (g->b == KILN_I8) || integer != (g->c == KILN_I32) ||
        is_fp8(g->a) != is_fp8(g->b) || (g->a == KILN_E5M2 && g->b == KILN_E5M2) ||
        (is_fp8(g->c) && !is_fp8(g->a)))
        return kiln_fail(e, KILN_UNSUPPORTED, "cuBLASLt has no matmul of %s and %s to %s",
                         kiln_type_name(g->a), kiln_type_name(g->b), kiln_type_name(g->c));
    if (is_fp8(g->a) && (g->ta || !g->tb))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "cuBLASLt multiplies 8-bit floats only with a stored m x k and b stored "
                         "n x k: ta=0 tb=1");
    return 0;
}

static cublasStatus_t set_batch(const cublaslt *v, cublasLtMatrixLayout_t m, int64_t batch,
                                int64_t stride) {
    int32_t n = (int32_t)batch;
    if (batch <= 1) return 0;
    cublasStatus_t rc = v->lt->cublasLtMatrixLayoutSetAttribute(
        m, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n);
    return rc ? rc
              : v->lt->cublasLtMatrixLayoutSetAttribute(
                    m, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
}

/* A row-major matrix of rows x cols is a column-major one of cols x rows. */
static cublasStatus_t make_layout(const cublaslt *v, cublasLtMatrixLayout_t *m, kiln_type t,
                                  int64_t rows, int64_t cols, int64_t ld, int64_t batch,
                                  int64_t stride) {
    cublasStatus_t rc = v->lt->cublasLtMatrixLayoutCreate(m, (cudaDataType)data_type(t),
                                                          (uint64_t)cols, (uint64_t)rows, ld);
    return rc ? rc : set_batch(v, *m, batch, stride);
}

static cublasStatus_t make_layouts(cublaslt *v, const kiln_gemm *g) {
    cublasStatus_t rc = make_layout(v, &v->x, g->b, g->tb ? g->n : g->k, g->tb ? g->k : g->n,
                                    g->ldb, g->batch, g->stride_b);
    if (!rc)
        rc = make_layout(v, &v->y, g->a, g->ta ? g->k : g->m, g->ta ? g->m : g->k, g->lda, g->batch,
                         g->stride_a);
    /* nothing is read there with beta 0, but an 8-bit c is refused all the same */
    kiln_type c = is_fp8(g->c) ? KILN_BF16 : g->c;
    if (!rc) rc = make_layout(v, &v->c, c, g->m, g->n, g->ldc, g->batch, g->stride_c);
    if (!rc) rc = make_layout(v, &v->z, g->c, g->m, g->n, g->ldc, g->batch, g->stride_c);
    return rc;
}

/* Plain float accumulation: CUBLAS_COMPUTE_32F keeps f32 operands out of the tf32 units. */
static cublasComputeType_t compute_type(const cublaslt *v) {
    return v->integer ? CUBLAS_COMPUTE_32I
           : v->tf32  ? CUBLAS_COMPUTE_32F_FAST_TF32
                      : CUBLAS_COMPUTE_32F;
}

static cublasStatus_t make_operation(cublaslt *v, const kiln_gemm *g) {
    int32_t tx = g->tb ? CUBLAS_OP_T : CUBLAS_OP_N, ty = g->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    int8_t fast = 1;
    cublasStatus_t rc = v->lt->cublasLtMatmulDescCreate(&v->operation, compute_type(v),
                                                        v->integer ? CUDA_R_32I : CUDA_R_32F);
    if (!rc)
        rc = v->lt->cublasLtMatmulDescSetAttribute(v->operation, CUBLASLT_MATMUL_DESC_TRANSA, &tx,
                                                   sizeof tx);
    if (!rc)
        rc = v->lt->cublasLtMatmulDescSetAttribute(v->operation, CUBLASLT_MATMUL_DESC_TRANSB, &ty,
                                                   sizeof ty);
    if (!rc && v->fast)
        rc = v->lt->cublasLtMatmulDescSetAttribute(v->operation, CUBLASLT_MATMUL_DESC_FAST_ACCUM,
                                                   &fast, sizeof fast);
    return rc;
}

static cublasStatus_t ask_heuristic(cublaslt *v) {
    uint64_t bytes = WORKSPACE_BYTES;
    cublasLtMatmulPreference_t wish = NULL;
    cublasStatus_t rc = v->lt->cublasLtMatmulPreferenceCreate(&wish);
    if (rc) return rc;
    rc = v->lt->cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &bytes, sizeof bytes);
    if (!rc)
        rc = v->lt->cublasLtMatmulAlgoGetHeuristic(v->handle, v->operation, v->x, v->y, v->c, v->z,
                                                   wish, ALGORITHMS, v->found, &v->n_found);
    v->lt->cublasLtMatmulPreferenceDestroy(wish);
    return rc;
}

/* ---------------------------------------------------------------- opening */

void kiln_cublaslt_close(void *handle) {
    cublaslt *v = handle;
    if (!v) return;
    bool pushed = kiln_cuda_enter(v->d);
    if (v->x) v->lt->cublasLtMatrixLayoutDestroy(v->x);
    if (v->y) v->lt->cublasLtMatrixLayoutDestroy(v->y);
    if (v->c) v->lt->cublasLtMatrixLayoutDestroy(v->c);
    if (v->z) v->lt->cublasLtMatrixLayoutDestroy(v->z);
    if (v->operation) v->lt->cublasLtMatmulDescDestroy(v->operation);
    if (v->handle) v->lt->cublasLtDestroy(v->handle);
    if (v->workspace) v->d->cu->cuMemFree_v2(v->workspace);
    kiln_cuda_leave(v->d, pushed);
    free(v);
}

static int set_up(cublaslt *v, const kiln_gemm *g, kiln_error *e) {
    cublasStatus_t rc = v->lt->cublasLtCreate(&v->handle);
    if (rc) return fail_status(v, "starting", rc, e);
    CUresult failed = v->d->cu->cuMemAlloc_v2(&v->workspace, WORKSPACE_BYTES);
    if (failed) return kiln_cuda_fail(v->d, "allocating cuBLASLt's workspace", failed, e);
    rc = make_operation(v, g);
    if (!rc) rc = make_layouts(v, g);
    if (rc) return fail_status(v, "describing the problem", rc, e);
    rc = ask_heuristic(v);
    if (rc || !v->n_found)
        return kiln_fail(e, KILN_UNSUPPORTED, "cuBLASLt has no algorithm for this problem (%s)",
                         v->lt->cublasLtGetStatusString(rc));
    return 0;
}

void *kiln_cublaslt_open(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    pthread_once(&once, open_library);
    if (failure.status) {
        if (e) *e = failure;
        return NULL;
    }
    if (check_types(g, e)) return NULL;
    cublaslt *v = calloc(1, sizeof *v);
    if (!v) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for cuBLASLt");
        return NULL;
    }
    v->lt = &api;
    v->d = d;
    v->integer = g->a == KILN_I8;
    v->tf32 = g->a == KILN_TF32 && g->b == KILN_TF32;
    v->fast = g->fast && is_fp8(g->a);
    v->fp8_out = is_fp8(g->c);
    bool pushed = kiln_cuda_enter(d);
    int rc = set_up(v, g, e);
    kiln_cuda_leave(d, pushed);
    if (!rc) return v;
    kiln_cublaslt_close(v);
    return NULL;
}

/* ---------------------------------------------------------------- running */

static cublasStatus_t run_one(cublaslt *v, int i, kiln_buffer a, kiln_buffer b, kiln_buffer c) {
    static const float one = 1, zero = 0;
    static const int32_t one_int = 1, zero_int = 0;
    const void *alpha = v->integer ? (const void *)&one_int : &one;
    const void *beta = v->integer ? (const void *)&zero_int : &zero;
    /* c is not read with beta 0, but versions differ in what they refuse: NULL, or d with another
     * type than c's. */
    void *workspace = (void *)(uintptr_t)v->workspace;
    const void *unread = v->fp8_out ? workspace : c;
    return v->lt->cublasLtMatmul(v->handle, v->operation, alpha, b, v->x, a, v->y, beta, unread,
                                 v->c, c, v->z, &v->found[i].algo, workspace, WORKSPACE_BYTES,
                                 v->d->stream);
}

int kiln_cublaslt_run(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    cublaslt *v = handle;
    bool pushed = kiln_cuda_enter(v->d);
    cublasStatus_t rc = run_one(v, v->chosen, a, b, c);
    kiln_cuda_leave(v->d, pushed);
    return rc ? fail_status(v, "a matmul", rc, e) : 0;
}

/* What a glance needs: the buffers, and two events. */
typedef struct trial {
    cublaslt *v;
    CUevent begin, end;
    kiln_buffer a, b, c;
} trial;

/* One cold run in ms; below 0 when the algorithm fails. */
static float time_once(const trial *t, int i) {
    cuda_api *cu = t->v->d->cu;
    CUstream stream = t->v->d->stream;
    float ms = 0;
    if (cu->cuMemsetD32Async(t->v->workspace, 0, WORKSPACE_BYTES / 4, stream) ||
        cu->cuEventRecord(t->begin, stream) || run_one(t->v, i, t->a, t->b, t->c) ||
        cu->cuEventRecord(t->end, stream) || cu->cuEventSynchronize(t->end) ||
        cu->cuEventElapsedTime(&ms, t->begin, t->end))
        return -1;
    return ms;
}

/* The shorter of a few runs after one that loads its kernel; one will do where it is far off. */
static float glance(const trial *t, int i, float to_beat) {
    float ms = time_once(t, i);
    for (int run = 0; run < GLANCES && ms >= 0; run++) {
        float now = time_once(t, i);
        if (now < 0 || run == 0 || now < ms) ms = now;
        if (ms > FAR_OFF * to_beat) break;
    }
    return ms;
}

static int find_choices(const trial *t, kiln_error *e) {
    cublaslt *v = t->v;
    float ms[CHOICES];
    int n = 0;
    for (int i = 0; i < v->n_found; i++) {
        float now = v->found[i].state ? -1 : glance(t, i, n ? ms[0] : INFINITY);
        if (now < 0 || (n == CHOICES && now >= ms[n - 1])) continue;
        int at = n < CHOICES ? n++ : n - 1;
        for (; at > 0 && ms[at - 1] > now; at--)
            ms[at] = ms[at - 1], v->choice[at] = v->choice[at - 1];
        ms[at] = now;
        v->choice[at] = i;
    }
    if (!n)
        return kiln_fail(e, KILN_DRIVER, "cuBLASLt: none of its %d algorithms runs", v->n_found);
    while (ms[n - 1] > FAR_OFF * ms[0]) n--;
    v->n_choices = n;
    v->chosen = v->choice[0];
    return 0;
}

int kiln_cublaslt_prepare(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c,
                          kiln_error *e) {
    cublaslt *v = handle;
    trial t = {.v = v, .a = a, .b = b, .c = c};
    bool pushed = kiln_cuda_enter(v->d);
    CUresult rc = v->d->cu->cuEventCreate(&t.begin, 0);
    if (!rc) rc = v->d->cu->cuEventCreate(&t.end, 0);
    int status = rc ? kiln_cuda_fail(v->d, "a timing event", rc, e) : find_choices(&t, e);
    if (t.begin) v->d->cu->cuEventDestroy_v2(t.begin);
    if (t.end) v->d->cu->cuEventDestroy_v2(t.end);
    kiln_cuda_leave(v->d, pushed);
    return status;
}

static int choices(void *handle) { return ((cublaslt *)handle)->n_choices; }

static void choose(void *handle, int choice) {
    cublaslt *v = handle;
    v->chosen = v->choice[choice];
}

int kiln_cublaslt_prepare_first(void *handle, kiln_buffer a, kiln_buffer b, kiln_buffer c,
                                kiln_error *e) {
    cublaslt *v = handle;
    v->chosen = 0;
    int rc = kiln_cublaslt_run(v, a, b, c, e); /* loads its kernels outside the timing */
    if (rc) return rc;
    CUresult failed = v->d->cu->cuStreamSynchronize(v->d->stream);
    return failed ? kiln_cuda_fail(v->d, "cuBLASLt's matmul", failed, e) : 0;
}

static int config(const cublaslt *v, cublasLtMatmulAlgoConfigAttributes_t what) {
    int32_t value = -1;
    size_t written = 0;
    return v->lt->cublasLtMatmulAlgoConfigGetAttribute(&v->found[v->chosen].algo, what, &value,
                                                       sizeof value, &written)
               ? -1
               : value;
}

void kiln_cublaslt_describe(void *handle, kiln_text *out) {
    const cublaslt *v = handle;
    kiln_text_printf(
        out, "cuBLASLt %zu, choice %d of %d: algorithm %d tile %d stages %d split-k %d",
        v->lt->cublasLtGetVersion(), v->chosen + 1, v->n_found, config(v, CUBLASLT_ALGO_CONFIG_ID),
        config(v, CUBLASLT_ALGO_CONFIG_TILE_ID), config(v, CUBLASLT_ALGO_CONFIG_STAGES_ID),
        config(v, CUBLASLT_ALGO_CONFIG_SPLITK_NUM));
}

extern const kiln_vendor kiln_vendor_cublaslt;
const kiln_vendor kiln_vendor_cublaslt = {
    .name = "cublaslt",
    .open = kiln_cublaslt_open,
    .prepare = kiln_cublaslt_prepare,
    .choices = choices,
    .choose = choose,
    .run = kiln_cublaslt_run,
    .describe = kiln_cublaslt_describe,
    .close = kiln_cublaslt_close,
};

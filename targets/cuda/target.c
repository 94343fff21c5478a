/* CUDA through the driver API and NVRTC. */
#include "targets/cuda/cuda.h"

#include <stdlib.h>

/* ---------------------------------------------------------------- helpers */

bool kiln_cuda_enter(kiln_device *d) {
    CUcontext current = NULL;
    if (!d->cu->cuCtxGetCurrent(&current) && current == d->context) return false;
    return !d->cu->cuCtxPushCurrent_v2(d->context);
}

void kiln_cuda_leave(kiln_device *d, bool pushed) {
    CUcontext popped;
    if (pushed) d->cu->cuCtxPopCurrent_v2(&popped);
}

int kiln_cuda_fail(kiln_device *d, const char *what, CUresult code, kiln_error *e) {
    char words[200];
    kiln_cuda_error(d->cu, code, words, sizeof words);
    return kiln_fail(e, code == CUDA_ERROR_OUT_OF_MEMORY ? KILN_NO_MEMORY : KILN_DRIVER,
                     "cuda:%d: %s failed (%s)", d->caps.index, what, words);
}

/* ---------------------------------------------------------------- devices */

static void close_device(kiln_device *d) {
    if (!d) return;
    if (d->context) {
        bool pushed = kiln_cuda_enter(d);
        for (int i = 0; i < CUDA_REGIONS; i++) {
            if (d->begin[i]) d->cu->cuEventDestroy_v2(d->begin[i]);
            if (d->end[i]) d->cu->cuEventDestroy_v2(d->end[i]);
        }
        if (d->own_stream) d->cu->cuStreamDestroy_v2(d->stream);
        kiln_cuda_leave(d, pushed);
    }
    if (d->own_context) d->cu->cuDevicePrimaryCtxRelease_v2(d->id);
    free(d->views);
    free(d);
}

/* The application's context; its device follows from it, whatever the index says. */
static int use_context(kiln_device *d, const kiln_attach *a, kiln_error *e) {
    d->context = a->context;
    CUresult rc = d->context ? CUDA_SUCCESS : d->cu->cuCtxGetCurrent(&d->context);
    if (rc || !d->context)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "no CUDA context is current in this thread: make one "
                         "(cudaSetDevice, then cudaFree(0)) or attach one");
    bool pushed = kiln_cuda_enter(d);
    rc = d->cu->cuCtxGetDevice(&d->id);
    kiln_cuda_leave(d, pushed);
    if (rc) return kiln_cuda_fail(d, "the attached context", rc, e);
    d->stream = a->stream; /* NULL is CUDA's default stream, which such an application uses */
    return 0;
}

static int make_context(kiln_device *d, int index, kiln_error *e) {
    int n = 0;
    d->caps.index = index; /* for messages until the caps are filled */
    d->cu->cuDeviceGetCount(&n);
    if (index < 0 || index >= n)
        return kiln_fail(e, KILN_NO_DEVICE, "there is no device cuda:%d: the driver lists %d",
                         index, n);
    CUresult rc = d->cu->cuDeviceGet(&d->id, index);
    if (!rc) rc = d->cu->cuDevicePrimaryCtxRetain(&d->context, d->id);
    d->own_context = !rc;
    if (rc) return kiln_cuda_fail(d, "making a context", rc, e);
    bool pushed = kiln_cuda_enter(d);
    rc = d->cu->cuStreamCreate(&d->stream, CU_STREAM_NON_BLOCKING);
    kiln_cuda_leave(d, pushed);
    d->own_stream = !rc;
    return rc ? kiln_cuda_fail(d, "making a stream", rc, e) : 0;
}

static int index_of(cuda_api *cu, CUdevice id, int fallback) {
    CUdevice other;
    int n = 0;
    cu->cuDeviceGetCount(&n);
    for (int i = 0; i < n; i++)
        if (!cu->cuDeviceGet(&other, i) && other == id) return i;
    return fallback;
}

static kiln_device *open_device(int index, const kiln_attach *attach, kiln_error *e) {
    cuda_api *cu = kiln_cuda_api(e);
    if (!cu) return NULL;
    kiln_device *d = calloc(1, sizeof *d);
    if (!d) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory to open cuda:%d", index);
        return NULL;
    }
    d->cu = cu;
    int rc = attach && attach->attached ? use_context(d, attach, e) : make_context(d, index, e);
    if (!rc && kiln_cuda_caps(cu, index_of(cu, d->id, index), d->id, &d->caps))
        rc = kiln_fail(e, KILN_DRIVER, "cuda:%d does not say what it is", index);
    if (!rc) return d;
    close_device(d);
    return NULL;
}

static const kiln_caps *caps(kiln_device *d) { return &d->caps; }
static void *stream(kiln_device *d) { return d->stream; }

/* ---------------------------------------------------------------- buffers */

static CUdeviceptr address(kiln_buffer b) { return (CUdeviceptr)(uintptr_t)b; }

static kiln_buffer alloc(kiln_device *d, int64_t bytes, kiln_error *e) {
    CUdeviceptr p = 0;
    if (bytes <= 0 || bytes > d->caps.max_alloc_bytes) {
        kiln_fail(e, bytes <= 0 ? KILN_BAD_INPUT : KILN_NO_MEMORY,
                  "cuda:%d: a buffer of %lld bytes, the device has %lld", d->caps.index,
                  (long long)bytes, (long long)d->caps.max_alloc_bytes);
        return NULL;
    }
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuMemAlloc_v2(&p, (size_t)bytes);
    kiln_cuda_leave(d, pushed);
    if (rc) kiln_cuda_fail(d, "allocating a buffer", rc, e);
    return rc ? NULL : (kiln_buffer)(uintptr_t)p;
}

static bool note_view(kiln_device *d, CUdeviceptr p) {
    if (d->n_views == d->views_capacity) {
        int capacity = d->views_capacity ? 2 * d->views_capacity : 64;
        CUdeviceptr *views = realloc(d->views, (size_t)capacity * sizeof *views);
        if (!views) return false;
        d->views = views;
        d->views_capacity = capacity;
    }
    d->views[d->n_views++] = p;
    return true;
}

static kiln_buffer view(kiln_device *d, kiln_buffer b, int64_t offset, int64_t bytes,
                        kiln_error *e) {
    if (!b || offset < 0 || bytes <= 0 || offset % d->caps.align_bytes) {
        kiln_fail(e, KILN_BAD_INPUT,
                  "cuda:%d: a view of %lld bytes at offset %lld: offsets are multiples of %d and a "
                  "view is not empty",
                  d->caps.index, (long long)bytes, (long long)offset, d->caps.align_bytes);
        return NULL;
    }
    CUdeviceptr p = address(b) + (CUdeviceptr)offset;
    if (note_view(d, p)) return (kiln_buffer)(uintptr_t)p;
    kiln_fail(e, KILN_NO_MEMORY, "no memory for a view");
    return NULL;
}

/* Views go before their parents, so an address that is both is a view first. */
static void release(kiln_device *d, kiln_buffer b) {
    for (int i = d->n_views; b && i-- > 0;) {
        if (d->views[i] != address(b)) continue;
        d->views[i] = d->views[--d->n_views];
        return;
    }
    if (!b) return;
    bool pushed = kiln_cuda_enter(d);
    d->cu->cuMemFree_v2(address(b));
    kiln_cuda_leave(d, pushed);
}

/* Copies go through the device's stream: it does not wait for the default stream. */
static int finish_copy(kiln_device *d, CUresult rc, const char *what, kiln_error *e) {
    if (!rc) rc = d->cu->cuStreamSynchronize(d->stream);
    return rc ? kiln_cuda_fail(d, what, rc, e) : 0;
}

static int write_buffer(kiln_device *d, kiln_buffer to, int64_t offset, const void *from,
                        int64_t bytes, kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuMemcpyHtoDAsync_v2(address(to) + (CUdeviceptr)offset, from,
                                              (size_t)bytes, d->stream);
    int status = finish_copy(d, rc, "writing a buffer", e);
    kiln_cuda_leave(d, pushed);
    return status;
}

static int read_buffer(kiln_device *d, void *to, kiln_buffer from, int64_t offset, int64_t bytes,
                       kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuMemcpyDtoHAsync_v2(to, address(from) + (CUdeviceptr)offset,
                                              (size_t)bytes, d->stream);
    int status = finish_copy(d, rc, "reading a buffer", e);
    kiln_cuda_leave(d, pushed);
    return status;
}

static int fill(kiln_device *d, kiln_buffer to, int64_t offset, int64_t bytes, uint32_t pattern,
                kiln_error *e) {
    if (offset % 4 || bytes % 4)
        return kiln_fail(e, KILN_BAD_INPUT, "a fill of %lld bytes at %lld: both are multiples of 4",
                         (long long)bytes, (long long)offset);
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = bytes ? d->cu->cuMemsetD32Async(address(to) + (CUdeviceptr)offset, pattern,
                                                  (size_t)bytes / 4, d->stream)
                        : CUDA_SUCCESS;
    int status = finish_copy(d, rc, "filling a buffer", e);
    kiln_cuda_leave(d, pushed);
    return status;
}

static int copy(kiln_device *d, kiln_buffer to, kiln_buffer from, int64_t bytes, kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuMemcpyDtoDAsync_v2(address(to), address(from), (size_t)bytes, d->stream);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, "copying a buffer", rc, e) : 0;
}

static int sync_device(kiln_device *d, kiln_error *e) {
    bool pushed = kiln_cuda_enter(d);
    int status = finish_copy(d, CUDA_SUCCESS, "work on the device", e);
    kiln_cuda_leave(d, pushed);
    return status;
}

extern const kiln_target kiln_target_cuda;
const kiln_target kiln_target_cuda = {
    .name = "cuda",
    .addresses = true,
    .devices = kiln_cuda_devices,
    .open = open_device,
    .close = close_device,
    .caps = caps,
    .alloc = alloc,
    .view = view,
    .release = release,
    .write = write_buffer,
    .read = read_buffer,
    .fill = fill,
    .copy = copy,
    .compile = kiln_cuda_compile,
    .report = kiln_cuda_report,
    .load = kiln_cuda_load,
    .unload = kiln_cuda_unload,
    .kernel = kiln_cuda_kernel,
    .facts = kiln_cuda_facts,
    .encode = kiln_cuda_encode,
    .launch = kiln_cuda_launch,
    .sync = sync_device,
    .begin = kiln_cuda_begin,
    .end = kiln_cuda_end,
    .seconds = kiln_cuda_seconds,
    .record_begin = kiln_cuda_record_begin,
    .record_end = kiln_cuda_record_end,
    .replay = kiln_cuda_replay,
    .forget = kiln_cuda_forget,
    .sensors = kiln_cuda_sensors,
    .stream = stream,
};

/* OpenCL 1.2 and later, on any platform: CPUs through PoCL, GPUs through their drivers. */
#include "targets/opencl/opencl.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- devices */

static void close_device(kiln_device *d) {
    if (!d) return;
    kiln_opencl_drop_regions(d);
    if (d->queue) d->api->clReleaseCommandQueue(d->queue);
    if (d->context) d->api->clReleaseContext(d->context);
    free(d);
}

static int use_context(kiln_device *d, int index, const kiln_attach *a, kiln_error *e) {
    d->context = a && a->context ? a->context : kiln_opencl_context(index, e);
    if (!d->context) return KILN_DRIVER;
    d->api->clRetainContext(d->context);
    return 0;
}

static int use_queue(kiln_device *d, const kiln_attach *a, kiln_error *e) {
    cl_int rc = 0;
    if (a && a->stream) {
        uint64_t properties = 0;
        d->api->clGetCommandQueueInfo(a->stream, OCL_QUEUE_PROPERTIES, sizeof properties,
                                      &properties, NULL);
        if (properties & OCL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE)
            return kiln_fail(e, KILN_UNSUPPORTED,
                             "the application's command queue is out of order: attach an in-order "
                             "queue");
        d->queue = a->stream;
        d->api->clRetainCommandQueue(d->queue);
    } else {
        d->queue = d->api->clCreateCommandQueue(d->context, d->id, OCL_QUEUE_PROFILING_ENABLE, &rc);
    }
    return d->queue ? 0
                    : kiln_fail(e, KILN_DRIVER, "opencl:%d: no command queue (%s)", d->caps.index,
                                kiln_opencl_error(rc));
}

static int find_device(kiln_device *d, int index, const kiln_attach *a, kiln_error *e) {
    if (a && a->device) {
        d->id = a->device;
    } else if (a && a->stream) {
        cl_int rc =
            d->api->clGetCommandQueueInfo(a->stream, OCL_QUEUE_DEVICE, sizeof d->id, &d->id, NULL);
        if (rc)
            return kiln_fail(e, KILN_BAD_INPUT, "the attached stream is no command queue (%s)",
                             kiln_opencl_error(rc));
    } else {
        return kiln_opencl_device_id(index, &d->id, e);
    }
    return 0;
}

/* The position of an application's device in our list; its caps carry it. */
static int index_of(cl_device_id id, int fallback) {
    cl_device_id other;
    for (int i = 0; !kiln_opencl_device_id(i, &other, NULL); i++)
        if (other == id) return i;
    return fallback;
}

static int open_parts(kiln_device *d, int index, const kiln_attach *a, kiln_error *e) {
    int rc = find_device(d, index, a, e);
    if (rc) return rc;
    kiln_opencl_caps(d->api, d->id, &d->caps);
    d->caps.index = index_of(d->id, index);
    rc = use_context(d, d->caps.index, a, e);
    if (rc) return rc;
    rc = use_queue(d, a, e);
    if (rc) return rc;
    kiln_opencl_probe_events(d);
    return 0;
}

static kiln_device *open_device(int index, const kiln_attach *attach, kiln_error *e) {
    opencl_api *cl = kiln_opencl_api(e);
    if (!cl) return NULL;
    kiln_device *d = calloc(1, sizeof *d);
    if (!d) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory to open opencl:%d", index);
        return NULL;
    }
    d->api = cl;
    if (!open_parts(d, index, attach && attach->attached ? attach : NULL, e)) return d;
    close_device(d);
    return NULL;
}

static const kiln_caps *caps(kiln_device *d) { return &d->caps; }
static void *stream(kiln_device *d) { return d->queue; }

/* ---------------------------------------------------------------- buffers */

static int fail_driver(kiln_device *d, const char *what, cl_int rc, kiln_error *e) {
    bool memory = rc == OCL_MEM_OBJECT_ALLOCATION_FAILURE || rc == OCL_OUT_OF_HOST_MEMORY;
    return kiln_fail(e, memory ? KILN_NO_MEMORY : KILN_DRIVER, "opencl:%d: %s failed (%s)",
                     d->caps.index, what, kiln_opencl_error(rc));
}

static kiln_buffer alloc(kiln_device *d, int64_t bytes, kiln_error *e) {
    if (bytes <= 0 || bytes > d->caps.max_alloc_bytes) {
        kiln_fail(e, bytes <= 0 ? KILN_BAD_INPUT : KILN_NO_MEMORY,
                  "opencl:%d: a buffer of %lld bytes, the device allows 1 to %lld", d->caps.index,
                  (long long)bytes, (long long)d->caps.max_alloc_bytes);
        return NULL;
    }
    cl_int rc = 0;
    cl_mem m = d->api->clCreateBuffer(d->context, OCL_MEM_READ_WRITE, (size_t)bytes, NULL, &rc);
    if (m) return m;
    kiln_fail(e, KILN_NO_MEMORY, "opencl:%d: no memory for a buffer of %lld bytes (%s)",
              d->caps.index, (long long)bytes, kiln_opencl_error(rc));
    return NULL;
}

static int check_range(kiln_device *d, kiln_buffer b, int64_t offset, int64_t bytes,
                       kiln_error *e) {
    size_t size = 0;
    cl_int rc = b ? d->api->clGetMemObjectInfo(b, OCL_MEM_SIZE, sizeof size, &size, NULL)
                  : OCL_INVALID_VALUE;
    if (rc) return fail_driver(d, "access to a buffer", rc, e);
    if (offset >= 0 && bytes >= 0 && (uint64_t)offset <= size &&
        (uint64_t)bytes <= size - (uint64_t)offset)
        return 0;
    return kiln_fail(e, KILN_BAD_INPUT, "opencl:%d: bytes %lld to %lld of a buffer of %zu",
                     d->caps.index, (long long)offset, (long long)(offset + bytes), size);
}

static kiln_buffer view(kiln_device *d, kiln_buffer b, int64_t offset, int64_t bytes,
                        kiln_error *e) {
    opencl_region region = {(size_t)offset, (size_t)bytes};
    cl_int rc = 0;
    if (check_range(d, b, offset, bytes, e)) return NULL;
    if (offset % d->caps.align_bytes || !bytes) {
        kiln_fail(e, KILN_BAD_INPUT,
                  "opencl:%d: a view of %lld bytes at offset %lld: offsets are multiples of %d and "
                  "a view is not empty",
                  d->caps.index, (long long)bytes, (long long)offset, d->caps.align_bytes);
        return NULL;
    }
    cl_mem m = d->api->clCreateSubBuffer(b, 0, OCL_BUFFER_CREATE_TYPE_REGION, &region, &rc);
    if (!m) fail_driver(d, "a view of a buffer", rc, e);
    return m;
}

static void release(kiln_device *d, kiln_buffer b) {
    if (b) d->api->clReleaseMemObject(b);
}

static int write_buffer(kiln_device *d, kiln_buffer to, int64_t offset, const void *from,
                        int64_t bytes, kiln_error *e) {
    int rc = check_range(d, to, offset, bytes, e);
    if (rc || !bytes) return rc;
    cl_int failed = d->api->clEnqueueWriteBuffer(d->queue, to, 1, (size_t)offset, (size_t)bytes,
                                                 from, 0, NULL, NULL);
    return failed ? fail_driver(d, "writing a buffer", failed, e) : 0;
}

static int read_buffer(kiln_device *d, void *to, kiln_buffer from, int64_t offset, int64_t bytes,
                       kiln_error *e) {
    int rc = check_range(d, from, offset, bytes, e);
    if (rc || !bytes) return rc;
    cl_int failed = d->api->clEnqueueReadBuffer(d->queue, from, 1, (size_t)offset, (size_t)bytes,
                                                to, 0, NULL, NULL);
    return failed ? fail_driver(d, "reading a buffer", failed, e) : 0;
}

static int fill(kiln_device *d, kiln_buffer to, int64_t offset, int64_t bytes, uint32_t pattern,
                kiln_error *e) {
    int rc = check_range(d, to, offset, bytes, e);
    if (rc || !bytes) return rc;
    if (offset % 4 || bytes % 4)
        return kiln_fail(e, KILN_BAD_INPUT, "a fill of %lld bytes at %lld: both are multiples of 4",
                         (long long)bytes, (long long)offset);
    cl_int failed = d->api->clEnqueueFillBuffer(d->queue, to, &pattern, sizeof pattern,
                                                (size_t)offset, (size_t)bytes, 0, NULL, NULL);
    if (!failed) failed = d->api->clFinish(d->queue);
    return failed ? fail_driver(d, "filling a buffer", failed, e) : 0;
}

static int copy(kiln_device *d, kiln_buffer to, kiln_buffer from, int64_t bytes, kiln_error *e) {
    int rc = check_range(d, to, 0, bytes, e);
    if (!rc) rc = check_range(d, from, 0, bytes, e);
    if (rc || !bytes) return rc;
    cl_event event = NULL;
    cl_int failed = d->api->clEnqueueCopyBuffer(d->queue, from, to, 0, 0, (size_t)bytes, 0, NULL,
                                                d->open_regions ? &event : NULL);
    if (!failed && event) kiln_opencl_note_launch(d, event);
    return failed ? fail_driver(d, "copying a buffer", failed, e) : 0;
}

static int sync_device(kiln_device *d, kiln_error *e) {
    cl_int rc = d->api->clFinish(d->queue);
    return rc ? fail_driver(d, "work on the device", rc, e) : 0;
}

extern const kiln_target kiln_target_opencl;
const kiln_target kiln_target_opencl = {
    .name = "opencl",
    .devices = kiln_opencl_devices,
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
    .compile = kiln_opencl_compile,
    .load = kiln_opencl_load,
    .unload = kiln_opencl_unload,
    .kernel = kiln_opencl_kernel,
    .facts = kiln_opencl_facts,
    .launch = kiln_opencl_launch,
    .sync = sync_device,
    .begin = kiln_opencl_begin,
    .end = kiln_opencl_end,
    .seconds = kiln_opencl_seconds,
    .stream = stream,
};

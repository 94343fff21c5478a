#include "targets/opencl/opencl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the log */

/* Drivers name a temporary file; two builds of one source must give one text. */
static const char *end_of_path(const char *s) {
    const char *p = s;
    while (*p && !isspace((unsigned char)*p) && *p != ':' && *p != '\'' && *p != '"') p++;
    return *p == ':' && isdigit((unsigned char)p[1]) && p - s > 1 ? p : NULL;
}

static void add_normalised(kiln_text *log, const char *text) {
    bool boundary = true;
    for (const char *s = text; *s; s++) {
        const char *end = boundary && (*s == '/' || *s == '<') ? end_of_path(s) : NULL;
        if (end) {
            kiln_text_add(log, "source");
            s = end;
        }
        kiln_text_add_bytes(log, s, 1);
        boundary = isspace((unsigned char)*s) || *s == '"' || *s == '\'' || *s == '(';
    }
}

static void append_log(opencl_api *cl, cl_program p, cl_device_id id, kiln_text *log) {
    size_t size = 0;
    if (!log || cl->clGetProgramBuildInfo(p, id, OCL_PROGRAM_BUILD_LOG, 0, NULL, &size) || !size)
        return;
    char *text = calloc(1, size + 1);
    if (text && !cl->clGetProgramBuildInfo(p, id, OCL_PROGRAM_BUILD_LOG, size, text, NULL))
        add_normalised(log, text);
    free(text);
}

/* ---------------------------------------------------------------- building */

/* a*b+c may become one rounding, as on every GPU; nothing else departs from IEEE: no flushing of
 * denormals, no reassociation, division and square root correctly rounded where the device can. */
static const char *build_options(opencl_api *cl, cl_device_id id) {
    uint64_t fp = 0;
    cl->clGetDeviceInfo(id, OCL_DEVICE_SINGLE_FP_CONFIG, sizeof fp, &fp, NULL);
    return fp & OCL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT
               ? "-cl-std=CL1.2 -cl-mad-enable -cl-fp32-correctly-rounded-divide-sqrt"
               : "-cl-std=CL1.2 -cl-mad-enable";
}

static const char *first_error(const char *log) {
    const char *at = strstr(log, "error");
    while (at && at > log && at[-1] != '\n') at--;
    return at ? at : log;
}

static int fail_build(kiln_error *e, cl_int rc, const char *log) {
    const char *line = first_error(log);
    int n = (int)strcspn(line, "\n");
    int status = rc == OCL_OUT_OF_HOST_MEMORY ? KILN_NO_MEMORY : KILN_COMPILE;
    return kiln_fail(e, status, "the OpenCL compiler refused the source (%s): %.*s",
                     kiln_opencl_error(rc), n > 300 ? 300 : n, line);
}

cl_program kiln_opencl_build(opencl_api *cl, cl_context context, cl_device_id id,
                             const char *source, kiln_text *log, kiln_error *e) {
    cl_int rc = 0;
    cl_program p = cl->clCreateProgramWithSource(context, 1, &source, NULL, &rc);
    if (!p) {
        kiln_fail(e, KILN_DRIVER, "OpenCL does not take the source (%s)", kiln_opencl_error(rc));
        return NULL;
    }
    kiln_text own = {0}, *to = log ? log : &own;
    size_t before = to->size;
    rc = cl->clBuildProgram(p, 1, &id, build_options(cl, id), NULL, NULL);
    append_log(cl, p, id, to);
    if (rc) {
        fail_build(e, rc, to->size > before ? to->data + before : "(no log)");
        cl->clReleaseProgram(p);
        p = NULL;
    }
    kiln_text_free(&own);
    return p;
}

/* ---------------------------------------------------------------- warm launches */

typedef struct warmer {
    kiln_device device; /* just enough of one for kiln_opencl_kernel and its checks */
    kiln_module module;
    cl_mem dummy;
} warmer;

/* Which operands are scalars is not known here: a pointer parameter refuses 4 bytes, a float 8. */
static cl_int set_dummy(opencl_api *cl, cl_kernel k, cl_uint i, const kiln_arg *a, cl_mem dummy) {
    static const float zero_float;
    static const int32_t zero_int;
    static const int64_t zero_long;
    switch (a->kind) {
    case KILN_ARG_I32:
        return cl->clSetKernelArg(k, i, 4, &zero_int);
    case KILN_ARG_I64:
        return cl->clSetKernelArg(k, i, 8, &zero_long);
    case KILN_ARG_F32:
        return cl->clSetKernelArg(k, i, 4, &zero_float);
    }
    cl_int rc = cl->clSetKernelArg(k, i, sizeof dummy, &dummy);
    return rc ? cl->clSetKernelArg(k, i, 4, &zero_float) : 0;
}

static int warm_one(warmer *w, const kiln_launch *l, const char *entry, kiln_error *e) {
    opencl_api *cl = w->device.api;
    kiln_kernel *k = kiln_opencl_kernel(&w->device, &w->module, entry, e);
    if (!k) return e ? e->status : KILN_DRIVER;
    for (int i = 0; i < l->n_args; i++) {
        cl_int rc = set_dummy(cl, k->handle, (cl_uint)i, &l->arg[i], w->dummy);
        if (rc)
            return kiln_fail(e, KILN_DRIVER, "entry %s does not take argument %d (%s)", entry, i,
                             kiln_opencl_error(rc));
    }
    return kiln_opencl_enqueue(&w->device, k, l, NULL, e);
}

static int warm(warmer *w, const kiln_compile_request *r, kiln_error *e) {
    opencl_api *cl = w->device.api;
    enum { DUMMY_BYTES = 1 << 16 };
    cl_int rc = 0;
    w->device.queue = cl->clCreateCommandQueue(w->device.context, w->device.id, 0, &rc);
    if (!rc)
        w->dummy =
            cl->clCreateBuffer(w->device.context, OCL_MEM_READ_WRITE, DUMMY_BYTES, NULL, &rc);
    if (rc)
        return kiln_fail(e, KILN_DRIVER, "opencl:%d: no queue for warming (%s)",
                         w->device.caps.index, kiln_opencl_error(rc));
    for (int i = 0; i < r->n_warm; i++) {
        int failed = warm_one(w, r->warm[i], r->warm_entry[i], e);
        if (failed) return failed;
    }
    rc = cl->clFinish(w->device.queue);
    return rc ? kiln_fail(e, KILN_DRIVER, "a warm launch failed (%s)", kiln_opencl_error(rc)) : 0;
}

static int warm_up(opencl_api *cl, const kiln_caps *caps, cl_context context, cl_device_id id,
                   cl_program p, const kiln_compile_request *r, kiln_error *e) {
    if (!r->n_warm) return 0;
    warmer *w = calloc(1, sizeof *w);
    if (!w) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a warm launch");
    w->device = (kiln_device){.api = cl, .caps = *caps, .context = context, .id = id};
    w->module.program = p;
    int rc = warm(w, r, e);
    for (kiln_kernel *k = w->module.kernels, *next; k; k = next) {
        next = k->next;
        cl->clReleaseKernel(k->handle);
        free(k);
    }
    if (w->dummy) cl->clReleaseMemObject(w->dummy);
    if (w->device.queue) cl->clReleaseCommandQueue(w->device.queue);
    free(w);
    return rc;
}

/* ---------------------------------------------------------------- binaries */

static int take_source(const char *source, kiln_blob *out, kiln_error *e) {
    size_t n = strlen(source) + sizeof OPENCL_SOURCE_TAG;
    out->data = malloc(n);
    if (!out->data) return kiln_fail(e, KILN_NO_MEMORY, "no memory for %zu bytes of source", n);
    out->size = n; /* with the NUL */
    snprintf(out->data, n, "%s%s", OPENCL_SOURCE_TAG, source);
    snprintf(out->kind, sizeof out->kind, "opencl-source");
    return 0;
}

static int take_binary(opencl_api *cl, cl_program p, const char *source, kiln_blob *out,
                       kiln_error *e) {
    size_t size = 0;
    if (cl->clGetProgramInfo(p, OCL_PROGRAM_BINARY_SIZES, sizeof size, &size, NULL) || !size)
        return take_source(source, out, e);
    unsigned char *data = malloc(size);
    if (!data) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a binary of %zu bytes", size);
    if (cl->clGetProgramInfo(p, OCL_PROGRAM_BINARIES, sizeof data, &data, NULL)) {
        free(data);
        return take_source(source, out, e);
    }
    out->data = data;
    out->size = size;
    snprintf(out->kind, sizeof out->kind, "opencl");
    return 0;
}

int kiln_opencl_compile(const kiln_caps *caps, const kiln_compile_request *request, kiln_blob *out,
                        kiln_blob *ptx, kiln_text *log, kiln_error *e) {
    cl_device_id id = NULL;
    *out = (kiln_blob){0};
    if (ptx) *ptx = (kiln_blob){0};
    int rc = kiln_opencl_device_id(caps->index, &id, e);
    if (rc) return rc;
    cl_context context = kiln_opencl_context(caps->index, e);
    if (!context) return KILN_DRIVER;
    opencl_api *cl = kiln_opencl_api(e);
    kiln_error own = {0};
    if (!e) e = &own;
    cl_program p = kiln_opencl_build(cl, context, id, request->source, log, e);
    if (!p) return e->status;
    rc = warm_up(cl, caps, context, id, p, request, e);
    if (!rc) rc = take_binary(cl, p, request->source, out, e);
    cl->clReleaseProgram(p);
    return rc;
}

/* ---------------------------------------------------------------- loading */

/* Text with a kernel in it. (NVIDIA's binaries are text too, but PTX, which has no such word.) */
static bool is_source(const char *code, size_t size) {
    size_t n = size && !code[size - 1] ? size - 1 : size;
    if (memchr(code, 0, n)) return false;
    return memmem(code, n, "__kernel", 8) || memmem(code, n, OPENCL_SOURCE_TAG, 21);
}

static cl_program load_source(kiln_device *d, const char *code, size_t size, kiln_error *e) {
    char *text = strndup(code, size);
    if (!text) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for %zu bytes of source", size);
        return NULL;
    }
    cl_program p = kiln_opencl_build(d->api, d->context, d->id, text, NULL, e);
    free(text);
    return p;
}

static cl_program load_binary(kiln_device *d, const void *code, size_t size, kiln_error *e) {
    const unsigned char *bytes = code;
    cl_int rc = 0, status = 0;
    cl_program p =
        d->api->clCreateProgramWithBinary(d->context, 1, &d->id, &size, &bytes, &status, &rc);
    if (p && !rc)
        rc = d->api->clBuildProgram(p, 1, &d->id, build_options(d->api, d->id), NULL, NULL);
    if (p && !rc) return p;
    if (p) d->api->clReleaseProgram(p);
    kiln_fail(e, KILN_VERSION,
              "opencl:%d refuses this binary (%s): it was made by another driver or is damaged; "
              "build it again on this machine",
              d->caps.index, kiln_opencl_error(rc ? rc : status));
    return NULL;
}

kiln_module *kiln_opencl_load(kiln_device *d, const void *code, size_t size, kiln_error *e) {
    if (!code || !size) {
        kiln_fail(e, KILN_BAD_INPUT, "no code to load: 0 bytes");
        return NULL;
    }
    kiln_module *m = calloc(1, sizeof *m);
    if (!m) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for a module");
        return NULL;
    }
    m->program =
        is_source(code, size) ? load_source(d, code, size, e) : load_binary(d, code, size, e);
    if (m->program) return m;
    free(m);
    return NULL;
}

void kiln_opencl_unload(kiln_device *d, kiln_module *m) {
    if (!m) return;
    for (kiln_kernel *k = m->kernels, *next; k; k = next) {
        next = k->next;
        d->api->clReleaseKernel(k->handle);
        free(k);
    }
    d->api->clReleaseProgram(m->program);
    free(m);
}

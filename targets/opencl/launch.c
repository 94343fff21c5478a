#include "targets/opencl/opencl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- kernels */

static void kernel_limits(kiln_device *d, kiln_kernel *k) {
    opencl_api *cl = d->api;
    uint64_t local = 0;
    cl->clGetKernelWorkGroupInfo(k->handle, d->id, OCL_KERNEL_LOCAL_MEM_SIZE, sizeof local, &local,
                                 NULL);
    cl->clGetKernelWorkGroupInfo(k->handle, d->id, OCL_KERNEL_WORK_GROUP_SIZE,
                                 sizeof k->max_threads, &k->max_threads, NULL);
    cl->clGetKernelWorkGroupInfo(k->handle, d->id, OCL_KERNEL_COMPILE_WORK_GROUP_SIZE,
                                 sizeof k->block, k->block, NULL);
    k->local_bytes = (size_t)local;
}

kiln_kernel *kiln_opencl_kernel(kiln_device *d, kiln_module *m, const char *entry, kiln_error *e) {
    for (kiln_kernel *k = m->kernels; k; k = k->next)
        if (!strcmp(k->entry, entry)) return k;
    cl_int rc = 0;
    kiln_kernel *k = calloc(1, sizeof *k);
    if (k) k->handle = d->api->clCreateKernel(m->program, entry, &rc);
    if (!k || !k->handle) {
        free(k);
        kiln_fail(e, rc == OCL_INVALID_KERNEL_NAME ? KILN_NOT_FOUND : KILN_DRIVER,
                  "the module has no entry %s (%s)", entry, kiln_opencl_error(rc));
        return NULL;
    }
    snprintf(k->entry, sizeof k->entry, "%s", entry);
    kernel_limits(d, k);
    k->next = m->kernels;
    m->kernels = k;
    return k;
}

int kiln_opencl_facts(kiln_device *d, kiln_kernel *k, const kiln_launch *l,
                      kiln_kernel_facts *out) {
    uint64_t bytes = 0;
    (void)l;
    *out = (kiln_kernel_facts){.registers = -1, .local_bytes = -1, .blocks_per_unit = -1};
    out->shared_bytes = (int)k->local_bytes;
    out->max_threads = (int)k->max_threads;
    /* a CPU's private memory is its stack, which says nothing about spills */
    if (d->caps.kind == KILN_DEVICE_GPU &&
        !d->api->clGetKernelWorkGroupInfo(k->handle, d->id, OCL_KERNEL_PRIVATE_MEM_SIZE,
                                          sizeof bytes, &bytes, NULL))
        out->local_bytes = (int)bytes;
    return 0;
}

/* ---------------------------------------------------------------- arguments */

static cl_int set_buffer(kiln_device *d, cl_kernel k, cl_uint i, kiln_buffer b) {
    cl_mem m = b;
    return d->api->clSetKernelArg(k, i, sizeof m, &m);
}

static cl_int set_float(kiln_device *d, cl_kernel k, cl_uint i, double v) {
    float f = (float)v;
    return d->api->clSetKernelArg(k, i, sizeof f, &f);
}

static cl_int set_arg(kiln_device *d, cl_kernel k, cl_uint i, const kiln_arg *a,
                      const kiln_bindings *b) {
    switch (a->kind) {
    case KILN_ARG_OPERAND:
        if (b->operand && b->operand[a->index]) return set_buffer(d, k, i, b->operand[a->index]);
        return b->scalar ? set_float(d, k, i, b->scalar[a->index]) : OCL_INVALID_ARG_VALUE;
    case KILN_ARG_WORKSPACE:
        return set_buffer(d, k, i, b->workspace);
    case KILN_ARG_REFERENCE:
        return set_buffer(d, k, i, b->reference[a->index]);
    case KILN_ARG_BOUND:
        return set_buffer(d, k, i, b->bound[a->index]);
    case KILN_ARG_PARTIALS:
        return set_buffer(d, k, i, b->partials);
    case KILN_ARG_F32:
        return set_float(d, k, i, a->value.f);
    case KILN_ARG_I64:
        return d->api->clSetKernelArg(k, i, sizeof a->value.i, &a->value.i);
    case KILN_ARG_I32: {
        int32_t v = (int32_t)a->value.i;
        return d->api->clSetKernelArg(k, i, sizeof v, &v);
    }
    }
    return OCL_INVALID_ARG_VALUE; /* tensor maps: caps.tensor_maps is false */
}

/* ---------------------------------------------------------------- launching */

/* What a driver may answer with an abort (PoCL 3.1: too much local memory) is refused here. */
static int check_launch(kiln_device *d, const kiln_kernel *k, const kiln_launch *l, kiln_error *e) {
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (!threads || !l->grid[0] || !l->grid[1] || !l->grid[2])
        return kiln_fail(e, KILN_BAD_INPUT, "%s: a launch of %ux%ux%u blocks of %ux%ux%u threads",
                         k->entry, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                         l->block[2]);
    size_t most = k->max_threads ? k->max_threads : (size_t)d->caps.max_threads;
    if (threads > most || threads > (size_t)d->caps.max_threads)
        return kiln_fail(e, KILN_UNSUPPORTED, "%s: %llu threads in a block, %s allows %zu",
                         k->entry, (unsigned long long)threads, d->caps.name,
                         most < (size_t)d->caps.max_threads ? most : (size_t)d->caps.max_threads);
    if (k->local_bytes > (size_t)d->caps.shared_bytes)
        return kiln_fail(e, KILN_UNSUPPORTED, "%s: %zu bytes of local memory, %s has %d", k->entry,
                         k->local_bytes, d->caps.name, d->caps.shared_bytes);
    for (int i = 0; i < 3; i++)
        if (k->block[0] && k->block[i] != l->block[i])
            return kiln_fail(e, KILN_BAD_INPUT,
                             "%s: compiled for blocks of %zux%zux%zu threads, launched with "
                             "%ux%ux%u",
                             k->entry, k->block[0], k->block[1], k->block[2], l->block[0],
                             l->block[1], l->block[2]);
    return 0;
}

int kiln_opencl_enqueue(kiln_device *d, kiln_kernel *k, const kiln_launch *l, void *stream,
                        kiln_error *e) {
    int rc = check_launch(d, k, l, e);
    if (rc) return rc;
    size_t global[3], local[3];
    for (int i = 0; i < 3; i++) {
        local[i] = l->block[i];
        global[i] = (size_t)l->grid[i] * l->block[i];
    }
    cl_event event = NULL;
    bool timed = d->open_regions && !stream;
    cl_int failed = d->api->clEnqueueNDRangeKernel(stream ? stream : d->queue, k->handle, 3, NULL,
                                                   global, local, 0, NULL, timed ? &event : NULL);
    if (failed)
        return kiln_fail(e, KILN_DRIVER, "%s: the launch failed (%s)", k->entry,
                         kiln_opencl_error(failed));
    if (timed) kiln_opencl_note_launch(d, event);
    return 0;
}

int kiln_opencl_launch(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                       void *stream, kiln_error *e) {
    for (int i = 0; i < l->n_args; i++) {
        cl_int rc = set_arg(d, k->handle, (cl_uint)i, &l->arg[i], b);
        if (rc)
            return kiln_fail(e, KILN_BAD_INPUT, "%s: argument %d does not fit its parameter (%s)",
                             k->entry, i, kiln_opencl_error(rc));
    }
    return kiln_opencl_enqueue(d, k, l, stream, e);
}

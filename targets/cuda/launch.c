#include "targets/cuda/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- modules */

/* PTX must end with a NUL; a cubin carries its own length. */
static CUresult load_image(kiln_device *d, const void *code, size_t size, CUmodule *m) {
    const char *text = code;
    bool elf = size >= 4 && !memcmp(code, "\177ELF", 4);
    bool fat = size >= 4 && !memcmp(code, "\x50\xed\x55\xba", 4);
    if (elf || fat || !text[size - 1]) return d->cu->cuModuleLoadData(m, code);
    char *copy = strndup(text, size);
    if (!copy) return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult rc = d->cu->cuModuleLoadData(m, copy);
    free(copy);
    return rc;
}

static int fail_load(kiln_device *d, CUresult rc, kiln_error *e) {
    char words[200];
    bool foreign = rc == CUDA_ERROR_INVALID_IMAGE || rc == CUDA_ERROR_NO_BINARY_FOR_GPU ||
                   rc == CUDA_ERROR_UNSUPPORTED_PTX_VERSION || rc == CUDA_ERROR_INVALID_PTX;
    if (!foreign) return kiln_cuda_fail(d, "loading a module", rc, e);
    kiln_cuda_error(d->cu, rc, words, sizeof words);
    return kiln_fail(
        e, KILN_VERSION,
        "cuda:%d (%s, driver %s) refuses this code (%s): build it again on this machine",
        d->caps.index, d->caps.arch, d->caps.driver, words);
}

kiln_module *kiln_cuda_load(kiln_device *d, const void *code, size_t size, kiln_error *e) {
    if (!code || !size) {
        kiln_fail(e, KILN_BAD_INPUT, "no code to load: 0 bytes");
        return NULL;
    }
    kiln_module *m = calloc(1, sizeof *m);
    if (!m) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for a module");
        return NULL;
    }
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = load_image(d, code, size, &m->handle);
    kiln_cuda_leave(d, pushed);
    if (!rc) return m;
    fail_load(d, rc, e);
    free(m);
    return NULL;
}

void kiln_cuda_unload(kiln_device *d, kiln_module *m) {
    if (!m) return;
    bool pushed = kiln_cuda_enter(d);
    d->cu->cuModuleUnload(m->handle);
    kiln_cuda_leave(d, pushed);
    for (kiln_kernel *k = m->kernels, *next; k; k = next) {
        next = k->next;
        free(k);
    }
    free(m);
}

/* ---------------------------------------------------------------- kernels */

static int func_attribute(kiln_device *d, const kiln_kernel *k, CUfunction_attribute what,
                          int fallback) {
    int value = 0;
    return d->cu->cuFuncGetAttribute(&value, what, k->handle) ? fallback : value;
}

static CUresult find_entry(kiln_device *d, kiln_module *m, const char *entry, kiln_kernel *k) {
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = d->cu->cuModuleGetFunction(&k->handle, m->handle, entry);
    if (!rc) {
        k->max_threads =
            func_attribute(d, k, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, d->caps.max_threads);
        k->static_shared = func_attribute(d, k, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, 0);
        /* what a kernel may use without asking */
        k->dynamic_shared = k->static_shared < 48 << 10 ? (48 << 10) - k->static_shared : 0;
    }
    kiln_cuda_leave(d, pushed);
    return rc;
}

kiln_kernel *kiln_cuda_kernel(kiln_device *d, kiln_module *m, const char *entry, kiln_error *e) {
    for (kiln_kernel *k = m->kernels; k; k = k->next)
        if (!strcmp(k->entry, entry)) return k;
    kiln_kernel *k = calloc(1, sizeof *k);
    if (!k) {
        kiln_fail(e, KILN_NO_MEMORY, "no memory for the kernel %s", entry);
        return NULL;
    }
    CUresult rc = find_entry(d, m, entry, k);
    if (rc) {
        free(k);
        if (rc == CUDA_ERROR_NOT_FOUND)
            kiln_fail(e, KILN_NOT_FOUND, "the module has no entry %s", entry);
        else
            kiln_cuda_fail(d, entry, rc, e);
        return NULL;
    }
    snprintf(k->entry, sizeof k->entry, "%s", entry);
    k->next = m->kernels;
    m->kernels = k;
    return k;
}

static uint32_t blocks_of_cluster(const kiln_launch *l) {
    uint32_t n = 1;
    for (int i = 0; i < 3; i++) n *= l->cluster[i] ? l->cluster[i] : 1;
    return n;
}

/* More than 48 KiB of shared memory and more than 8 blocks in a cluster must be asked for. */
static CUresult ask_for_more(kiln_device *d, kiln_kernel *k, const kiln_launch *l) {
    if ((int)l->shared_bytes > k->dynamic_shared) {
        CUresult rc = d->cu->cuFuncSetAttribute(
            k->handle, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)l->shared_bytes);
        if (rc) return rc;
        k->dynamic_shared = (int)l->shared_bytes;
    }
    if (blocks_of_cluster(l) > 8 && !k->large_clusters) {
        CUresult rc = d->cu->cuFuncSetAttribute(
            k->handle, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1);
        if (rc) return rc;
        k->large_clusters = true;
    }
    return CUDA_SUCCESS;
}

int kiln_cuda_facts(kiln_device *d, kiln_kernel *k, const kiln_launch *l, kiln_kernel_facts *out) {
    bool pushed = kiln_cuda_enter(d);
    int blocks = -1, threads = (int)(l->block[0] * l->block[1] * l->block[2]);
    out->registers = func_attribute(d, k, CU_FUNC_ATTRIBUTE_NUM_REGS, -1);
    out->local_bytes = func_attribute(d, k, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, -1);
    out->shared_bytes = k->static_shared;
    out->max_threads = k->max_threads;
    if (ask_for_more(d, k, l) || d->cu->cuOccupancyMaxActiveBlocksPerMultiprocessor(
                                     &blocks, k->handle, threads, l->shared_bytes))
        blocks = -1;
    out->blocks_per_unit = blocks;
    kiln_cuda_leave(d, pushed);
    return 0;
}

/* ---------------------------------------------------------------- tensor maps */

static int map_type(uint8_t type) {
    switch (type) {
    case KILN_F64:
        return CU_TENSOR_MAP_DATA_TYPE_FLOAT64;
    case KILN_F32:
    case KILN_TF32: /* as it is: the tensor cores ignore the low bits */
        return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    case KILN_F16:
        return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    case KILN_BF16:
        return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    case KILN_I32:
        return CU_TENSOR_MAP_DATA_TYPE_INT32;
    case KILN_E4M3:
    case KILN_E5M2:
    case KILN_I8:
        return CU_TENSOR_MAP_DATA_TYPE_UINT8;
    }
    return -1;
}

static CUtensorMapSwizzle map_swizzle(uint8_t bytes) {
    return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
           : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
           : bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                         : CU_TENSOR_MAP_SWIZZLE_NONE;
}

static CUtensorMapL2promotion map_promotion(uint8_t bytes) {
    return bytes == 255   ? CU_TENSOR_MAP_L2_PROMOTION_L2_256B
           : bytes == 128 ? CU_TENSOR_MAP_L2_PROMOTION_L2_128B
           : bytes == 64  ? CU_TENSOR_MAP_L2_PROMOTION_L2_64B
                          : CU_TENSOR_MAP_L2_PROMOTION_NONE;
}

static CUresult encode_one(kiln_device *d, const kiln_tensor_map *t, char *base, CUtensorMap *out) {
    uint64_t size[5], stride[5];
    uint32_t box[5], element_stride[5];
    for (int i = 0; i < t->rank; i++) {
        size[i] = (uint64_t)t->size[i];
        box[i] = (uint32_t)t->box[i];
        element_stride[i] = 1;
        if (i < t->rank - 1) stride[i] = (uint64_t)t->stride_bytes[i];
    }
    return d->cu->cuTensorMapEncodeTiled(
        out, (CUtensorMapDataType)map_type(t->type), t->rank, base + t->offset, size, stride, box,
        element_stride, CU_TENSOR_MAP_INTERLEAVE_NONE, map_swizzle(t->swizzle_bytes),
        map_promotion(t->l2_bytes), CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

int kiln_cuda_encode(kiln_device *d, const kiln_tensor_map *maps, int n, const kiln_bindings *b,
                     void *out, kiln_error *e) {
    if (n && !d->caps.tensor_maps)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "%s has no tensor maps: they need Hopper and a driver "
                         "of CUDA 12 or newer",
                         d->caps.name);
    for (int i = 0; i < n; i++) {
        CUtensorMap map; /* aligned to 64, which `out` need not be */
        char *base = maps[i].operand == 255 ? b->workspace : b->operand[maps[i].operand];
        if (maps[i].rank < 1 || maps[i].rank > 5 || map_type(maps[i].type) < 0)
            return kiln_fail(e, KILN_BAD_INPUT, "tensor map %d: rank %d, type %d", i, maps[i].rank,
                             maps[i].type);
        bool pushed = kiln_cuda_enter(d);
        CUresult rc = encode_one(d, &maps[i], base, &map);
        kiln_cuda_leave(d, pushed);
        if (rc) {
            char what[200];
            snprintf(what, sizeof what, "tensor map %d (address %p, sizes %lld %lld, box %d %d)", i,
                     (void *)(base + maps[i].offset), (long long)maps[i].size[0],
                     (long long)maps[i].size[1], maps[i].box[0], maps[i].box[1]);
            return kiln_cuda_fail(d, what, rc, e);
        }
        memcpy((char *)out + i * (int)sizeof map, &map, sizeof map);
    }
    return 0;
}

/* ---------------------------------------------------------------- launching */

typedef union value {
    const void *pointer;
    int64_t i64;
    int32_t i32;
    float f32;
    _Alignas(64) char map[128]; /* the driver wants this alignment, which callers need not give */
} value;

static void *set_operand(const kiln_arg *a, const kiln_bindings *b, value *v) {
    if (b->operand && b->operand[a->index]) {
        v->pointer = b->operand[a->index];
    } else {
        if (!b->scalar) return NULL;
        v->f32 = (float)b->scalar[a->index];
    }
    return v;
}

/* Where the driver finds the argument; NULL when the bindings have none. */
static void *set_arg(const kiln_arg *a, const kiln_bindings *b, value *v) {
    switch (a->kind) {
    case KILN_ARG_OPERAND:
        return set_operand(a, b, v);
    case KILN_ARG_WORKSPACE:
        v->pointer = b->workspace;
        return v;
    case KILN_ARG_REFERENCE:
        v->pointer = b->reference[a->index];
        return v;
    case KILN_ARG_BOUND:
        v->pointer = b->bound[a->index];
        return v;
    case KILN_ARG_PARTIALS:
        v->pointer = b->partials;
        return v;
    case KILN_ARG_I32:
        v->i32 = (int32_t)a->value.i;
        return v;
    case KILN_ARG_I64:
        v->i64 = a->value.i;
        return v;
    case KILN_ARG_F32:
        v->f32 = (float)a->value.f;
        return v;
    case KILN_ARG_TENSOR_MAP:
        if (!b->tensor_maps) return NULL;
        return memcpy(v->map, (const char *)b->tensor_maps + 128 * a->index, sizeof v->map);
    }
    return NULL;
}

static int check_launch(kiln_device *d, const kiln_kernel *k, const kiln_launch *l, kiln_error *e) {
    uint64_t threads = (uint64_t)l->block[0] * l->block[1] * l->block[2];
    if (!threads || !l->grid[0] || !l->grid[1] || !l->grid[2])
        return kiln_fail(e, KILN_BAD_INPUT, "%s: a launch of %ux%ux%u blocks of %ux%ux%u threads",
                         k->entry, l->grid[0], l->grid[1], l->grid[2], l->block[0], l->block[1],
                         l->block[2]);
    if (threads > (uint64_t)k->max_threads)
        return kiln_fail(e, KILN_UNSUPPORTED, "%s: %llu threads in a block, the kernel allows %d",
                         k->entry, (unsigned long long)threads, k->max_threads);
    if ((int64_t)k->static_shared + l->shared_bytes > d->caps.shared_bytes)
        return kiln_fail(e, KILN_UNSUPPORTED, "%s: %d + %u bytes of shared memory, %s has %d",
                         k->entry, k->static_shared, l->shared_bytes, d->caps.name,
                         d->caps.shared_bytes);
    if (blocks_of_cluster(l) > 1 && !d->caps.clusters)
        return kiln_fail(e, KILN_UNSUPPORTED, "%s: %s has no clusters", k->entry, d->caps.name);
    return 0;
}

static unsigned fill_attributes(kiln_device *d, const kiln_launch *l, CUlaunchAttribute *a) {
    unsigned n = 0;
    if (blocks_of_cluster(l) > 1) {
        a[n].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
        a[n].value.clusterDim.x = l->cluster[0] ? l->cluster[0] : 1;
        a[n].value.clusterDim.y = l->cluster[1] ? l->cluster[1] : 1;
        a[n].value.clusterDim.z = l->cluster[2] ? l->cluster[2] : 1;
        n++;
    }
    if (l->dependent && d->caps.arch_number >= 90) {
        a[n].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
        a[n].value.programmaticStreamSerializationAllowed = 1;
        n++;
    }
    return n;
}

static CUresult enqueue(kiln_device *d, kiln_kernel *k, const kiln_launch *l, void **args,
                        CUstream stream) {
    CUlaunchAttribute attributes[2];
    memset(attributes, 0, sizeof attributes);
    CUresult rc = ask_for_more(d, k, l);
    if (rc) return rc;
    unsigned n = fill_attributes(d, l, attributes);
    if (!n || !d->cu->cuLaunchKernelEx)
        return d->cu->cuLaunchKernel(k->handle, l->grid[0], l->grid[1], l->grid[2], l->block[0],
                                     l->block[1], l->block[2], l->shared_bytes, stream, args, NULL);
    CUlaunchConfig c = {l->grid[0],  l->grid[1],      l->grid[2], l->block[0], l->block[1],
                        l->block[2], l->shared_bytes, stream,     attributes,  n};
    return d->cu->cuLaunchKernelEx(&c, k->handle, args, NULL);
}

int kiln_cuda_launch(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                     void *stream, kiln_error *e) {
    value values[KILN_ARGS_MAX];
    void *args[KILN_ARGS_MAX];
    int failed = check_launch(d, k, l, e);
    if (failed) return failed;
    for (int i = 0; i < l->n_args; i++) {
        args[i] = set_arg(&l->arg[i], b, &values[i]);
        if (!args[i])
            return kiln_fail(e, KILN_BAD_INPUT, "%s: nothing is bound to argument %d", k->entry, i);
    }
    bool pushed = kiln_cuda_enter(d);
    CUresult rc = enqueue(d, k, l, args, stream ? stream : d->stream);
    kiln_cuda_leave(d, pushed);
    return rc ? kiln_cuda_fail(d, k->entry, rc, e) : 0;
}

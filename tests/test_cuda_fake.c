/* The CUDA target against a pretended driver whose device memory is the host's: what is passed to
 * the driver, what is freed, what is refused before the driver sees it, and what is said when a
 * call fails. Runs without a GPU; the kernels' own work is tested where one is. */
#include "targets/cuda/api.h"
#include "targets/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- the pretended driver */

enum {
    OUR_CONTEXT = 0x100,
    APP_CONTEXT = 0x200,
    OUR_STREAM = 0x300,
    MODULE = 0x400,
    ENTRY = 0x500
};
#define HANDLE(type, n) ((type)(uintptr_t)(n))

static struct {
    CUresult answer; /* of the calls that may fail */
    int arch, contexts, streams, events, allocations, graphs, modules;
    CUcontext stack[8];
    int depth;
    int largest_shared, shared_calls, cluster_calls, launches, syncs;
    CUlaunchConfig config;
    CUlaunchAttribute attribute[2];
    unsigned char args[16][128];
    size_t arg_bytes[16];
    int n_args;
    CUtensorMapSwizzle swizzle;
    CUtensorMapL2promotion promotion;
    CUtensorMapDataType type;
    void *address;
} fake;

static CUresult f_version(int *v) { return *v = 13000, CUDA_SUCCESS; }
static CUresult f_name(CUresult c, const char **s) {
    return *s = c == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_SOMETHING", CUDA_SUCCESS;
}
static CUresult f_words(CUresult c, const char **s) {
    return *s = c == 700 ? "an illegal memory access was encountered" : "words", CUDA_SUCCESS;
}
static CUresult f_device(CUdevice *d, int i) { return *d = 40 + i, CUDA_SUCCESS; }
static CUresult f_count(int *n) { return *n = 2, CUDA_SUCCESS; }
static CUresult f_device_name(char *s, int n, CUdevice d) {
    snprintf(s, (size_t)n, "  NVIDIA  Pretended %d ", (int)d);
    return CUDA_SUCCESS;
}
static CUresult f_bus(char *s, int n, CUdevice d) {
    snprintf(s, (size_t)n, "0000:1B:%02X.0", (unsigned)d);
    return CUDA_SUCCESS;
}
static CUresult f_memory(size_t *n, CUdevice d) { return (void)d, *n = 1 << 30, CUDA_SUCCESS; }
static CUresult f_attribute(int *v, CUdevice_attribute a, CUdevice d) {
    (void)d;
    switch (a) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *v = fake.arch / 10;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
        *v = fake.arch % 10;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *v = 1024;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *v = 227 << 10;
        break;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE:
        *v = 1980000;
        break;
    default:
        *v = 32;
    }
    return CUDA_SUCCESS;
}
static CUresult f_retain(CUcontext *c, CUdevice d) {
    (void)d;
    fake.contexts++;
    return *c = HANDLE(CUcontext, OUR_CONTEXT), fake.answer;
}
static CUresult f_release(CUdevice d) { return (void)d, fake.contexts--, CUDA_SUCCESS; }
static CUresult f_current(CUcontext *c) {
    return *c = fake.depth ? fake.stack[fake.depth - 1] : NULL, CUDA_SUCCESS;
}
static CUresult f_push(CUcontext c) {
    assert_true(fake.depth < 8);
    return fake.stack[fake.depth++] = c, CUDA_SUCCESS;
}
static CUresult f_pop(CUcontext *c) {
    assert_true(fake.depth > 0);
    return *c = fake.stack[--fake.depth], CUDA_SUCCESS;
}
static CUresult f_context_device(CUdevice *d) {
    assert_true(fake.depth > 0);
    return *d = 41, CUDA_SUCCESS;
}
static CUresult f_alloc(CUdeviceptr *p, size_t n) {
    assert_true(fake.depth > 0);
    if (fake.answer) return fake.answer;
    fake.allocations++;
    return *p = (CUdeviceptr)(uintptr_t)aligned_alloc(256, (n + 255) / 256 * 256), CUDA_SUCCESS;
}
static CUresult f_free(CUdeviceptr p) {
    fake.allocations--;
    free((void *)(uintptr_t)p);
    return CUDA_SUCCESS;
}
static CUresult f_write(CUdeviceptr to, const void *from, size_t n, CUstream s) {
    assert_ptr_equal(s, HANDLE(CUstream, OUR_STREAM));
    memcpy((void *)(uintptr_t)to, from, n);
    return CUDA_SUCCESS;
}
static CUresult f_read(void *to, CUdeviceptr from, size_t n, CUstream s) {
    assert_ptr_equal(s, HANDLE(CUstream, OUR_STREAM));
    memcpy(to, (void *)(uintptr_t)from, n);
    return CUDA_SUCCESS;
}
static CUresult f_copy(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
    return (void)s, memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, n), CUDA_SUCCESS;
}
static CUresult f_fill(CUdeviceptr to, unsigned v, size_t n, CUstream s) {
    (void)s;
    for (size_t i = 0; i < n; i++) ((unsigned *)(uintptr_t)to)[i] = v;
    return CUDA_SUCCESS;
}
static CUresult f_stream(CUstream *s, unsigned flags) {
    assert_int_equal(flags, CU_STREAM_NON_BLOCKING);
    fake.streams++;
    return *s = HANDLE(CUstream, OUR_STREAM), CUDA_SUCCESS;
}
static CUresult f_destroy_stream(CUstream s) { return (void)s, fake.streams--, CUDA_SUCCESS; }
static CUresult f_sync(CUstream s) { return (void)s, fake.syncs++, fake.answer; }
static CUresult f_event(CUevent *e, unsigned flags) {
    (void)flags;
    return *e = HANDLE(CUevent, 0x1000 + fake.events++), CUDA_SUCCESS;
}
static CUresult f_destroy_event(CUevent e) { return (void)e, fake.events--, CUDA_SUCCESS; }
static CUresult f_record(CUevent e, CUstream s) { return (void)e, (void)s, CUDA_SUCCESS; }
static CUresult f_wait(CUevent e) { return (void)e, fake.answer; }
static CUresult f_elapsed(float *ms, CUevent a, CUevent b) {
    return (void)a, (void)b, *ms = 2.5f, CUDA_SUCCESS;
}
static CUresult f_load(CUmodule *m, const void *image) {
    (void)image;
    if (fake.answer) return fake.answer;
    return fake.modules++, *m = HANDLE(CUmodule, MODULE), CUDA_SUCCESS;
}
static CUresult f_unload(CUmodule m) { return (void)m, fake.modules--, CUDA_SUCCESS; }
static CUresult f_function(CUfunction *f, CUmodule m, const char *name) {
    (void)m;
    if (strcmp(name, "main")) return CUDA_ERROR_NOT_FOUND;
    return *f = HANDLE(CUfunction, ENTRY), CUDA_SUCCESS;
}
static CUresult f_get(int *v, CUfunction_attribute a, CUfunction f) {
    (void)f;
    *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 256
         : a == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES   ? 1024
         : a == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 90
                                                      : 0;
    return CUDA_SUCCESS;
}
static CUresult f_set(CUfunction f, CUfunction_attribute a, int v) {
    (void)f;
    if (a == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
        fake.largest_shared = v;
        fake.shared_calls++;
    } else {
        assert_int_equal(a, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED);
        fake.cluster_calls++;
    }
    return CUDA_SUCCESS;
}
static void keep_args(void **args) {
    for (int i = 0; i < fake.n_args; i++) memcpy(fake.args[i], args[i], fake.arg_bytes[i]);
    fake.launches++;
}
static CUresult f_launch(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                         unsigned by, unsigned bz, unsigned shared, CUstream s, void **args,
                         void **extra) {
    assert_ptr_equal(f, HANDLE(CUfunction, ENTRY));
    assert_null(extra);
    fake.config = (CUlaunchConfig){gx, gy, gz, bx, by, bz, shared, s, NULL, 0};
    keep_args(args);
    return fake.answer;
}
static CUresult f_launch_ex(const CUlaunchConfig *c, CUfunction f, void **args, void **extra) {
    (void)f, (void)extra;
    fake.config = *c;
    for (unsigned i = 0; i < c->numAttrs; i++) fake.attribute[i] = c->attrs[i];
    keep_args(args);
    return fake.answer;
}
static CUresult f_occupancy(int *n, CUfunction f, int threads, size_t shared) {
    (void)f, (void)shared;
    return *n = 2048 / threads, CUDA_SUCCESS;
}
static CUresult f_encode(CUtensorMap *m, CUtensorMapDataType type, uint32_t rank, void *address,
                         const uint64_t *size, const uint64_t *stride, const uint32_t *box,
                         const uint32_t *step, CUtensorMapInterleave interleave,
                         CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                         CUtensorMapFloatOOBfill fill) {
    assert_int_equal((uintptr_t)m % 64, 0);
    assert_int_equal(rank, 2);
    assert_true(size[0] == 64 && size[1] == 32 && stride[0] == 128 && box[0] == 64 && box[1] == 8);
    assert_true(step[0] == 1 && step[1] == 1 && !interleave && !fill);
    fake.type = type;
    fake.swizzle = swizzle;
    fake.promotion = promotion;
    fake.address = address;
    memset(m, 0x77, sizeof *m);
    return fake.answer;
}
static CUresult f_capture(CUstream s, CUstreamCaptureMode m) {
    return (void)s, (void)m, CUDA_SUCCESS;
}
static CUresult f_end_capture(CUstream s, CUgraph *g) {
    (void)s;
    return fake.graphs++, *g = HANDLE(CUgraph, 1), CUDA_SUCCESS;
}
static CUresult f_instantiate(CUgraphExec *x, CUgraph g, unsigned long long flags) {
    (void)g, (void)flags;
    return fake.graphs++, *x = HANDLE(CUgraphExec, 2), CUDA_SUCCESS;
}
static CUresult f_replay(CUgraphExec x, CUstream s) { return (void)x, (void)s, fake.answer; }
static CUresult f_drop_graph(CUgraph g) { return (void)g, fake.graphs--, CUDA_SUCCESS; }
static CUresult f_drop_exec(CUgraphExec x) { return (void)x, fake.graphs--, CUDA_SUCCESS; }
static CUresult f_init(unsigned flags) { return (void)flags, CUDA_SUCCESS; }

static const cuda_api driver = {f_init,          f_version,
                                f_name,          f_words,
                                f_device,        f_count,
                                f_device_name,   f_bus,
                                f_memory,        f_attribute,
                                f_retain,        f_release,
                                f_current,       f_context_device,
                                f_push,          f_pop,
                                f_alloc,         f_free,
                                f_write,         f_read,
                                f_copy,          f_fill,
                                f_stream,        f_destroy_stream,
                                f_sync,          f_event,
                                f_destroy_event, f_record,
                                f_wait,          f_elapsed,
                                f_load,          f_unload,
                                f_function,      f_get,
                                f_set,           f_launch,
                                f_launch_ex,     f_occupancy,
                                f_encode,        f_capture,
                                f_end_capture,   f_instantiate,
                                f_replay,        f_drop_graph,
                                f_drop_exec};

/* ---------------------------------------------------------------- a device for each test */

static const kiln_target *t;
static kiln_device *d;
static kiln_error e;

static int set_up(void **state) {
    (void)state;
    memset(&fake, 0, sizeof fake);
    fake.arch = 90;
    kiln_cuda_pretend(&driver);
    t = kiln_target_find("cuda");
    d = t->open(1, NULL, &e);
    return d ? 0 : -1;
}

/* Nothing stays behind, whatever the test did. */
static int tear_down(void **state) {
    (void)state;
    fake.answer = CUDA_SUCCESS;
    t->close(d);
    return fake.contexts || fake.streams || fake.events || fake.allocations || fake.graphs ||
           fake.modules || fake.depth;
}

static void test_caps(void **state) {
    (void)state;
    const kiln_caps *c = t->caps(d);
    assert_string_equal(c->name, "NVIDIA Pretended 41");
    assert_string_equal(c->arch, "sm_90a");
    assert_string_equal(c->bus, "0000:1b:29.0");
    assert_true(c->clusters && c->tensor_maps && c->events && c->f16 && c->f64 && !c->shared_host);
    assert_int_equal(c->index, 1);
    assert_int_equal(c->clock_mhz, 1980);
    kiln_caps all[4];
    fake.arch = 86;
    assert_int_equal(t->devices(all, 4, &e), 2);
    assert_string_equal(all[0].arch, "sm_86");
    assert_true(!all[0].clusters && !all[0].tensor_maps);
    fake.arch = 103;
    assert_int_equal(t->devices(all, 1, &e), 1);
    assert_string_equal(all[0].arch, "sm_103a");
    assert_null(t->open(2, NULL, &e));
    assert_int_equal(e.status, KILN_NO_DEVICE);
    assert_non_null(strstr(e.text, "cuda:2"));
}

static void test_views(void **state) {
    (void)state;
    kiln_buffer b = t->alloc(d, 4096, &e);
    kiln_buffer front = t->view(d, b, 0, 256, &e), back = t->view(d, b, 1024, 256, &e);
    assert_ptr_equal(front, b);
    assert_ptr_equal(back, (char *)b + 1024);
    assert_null(t->view(d, b, 100, 256, &e));
    assert_non_null(strstr(e.text, "multiples of 256"));
    assert_int_equal(t->fill(d, b, 0, 4096, 7, &e), 0);
    assert_int_equal(t->fill(d, b, 2, 4096, 7, &e), KILN_BAD_INPUT);
    t->release(d, front);
    t->release(d, back);
    assert_int_equal(fake.allocations, 1);
    t->release(d, b);
    assert_int_equal(fake.allocations, 0);
    fake.answer = CUDA_ERROR_OUT_OF_MEMORY;
    assert_null(t->alloc(d, 4096, &e));
    assert_int_equal(e.status, KILN_NO_MEMORY);
}

static kiln_launch plain(void) {
    return (kiln_launch){.entry = "main", .grid = {3, 2, 1}, .block = {64, 2, 1}};
}

static void test_arguments(void **state) {
    (void)state;
    kiln_module *m = t->load(d, "\177ELF code", 9, &e);
    kiln_kernel *k = t->kernel(d, m, "main", &e);
    float x, workspace, reference, bound, partials;
    kiln_buffer operands[2] = {&x, NULL}, references[1] = {&reference}, bounds[1] = {&bound};
    double scalars[2] = {0, 0.75};
    _Alignas(64) unsigned char maps[256];
    memset(maps, 1, 128);
    memset(maps + 128, 2, 128);
    kiln_bindings b = {operands, scalars, &workspace, references, bounds, &partials, maps};
    kiln_launch l = plain();
    kiln_arg args[] = {{.kind = KILN_ARG_OPERAND},
                       {.kind = KILN_ARG_OPERAND, .index = 1},
                       {.kind = KILN_ARG_WORKSPACE},
                       {.kind = KILN_ARG_I32, .value.i = -3},
                       {.kind = KILN_ARG_I64, .value.i = 1LL << 40},
                       {.kind = KILN_ARG_F32, .value.f = 1.5},
                       {.kind = KILN_ARG_TENSOR_MAP, .index = 1},
                       {.kind = KILN_ARG_REFERENCE},
                       {.kind = KILN_ARG_BOUND},
                       {.kind = KILN_ARG_PARTIALS}};
    static const size_t bytes[] = {8, 4, 8, 4, 8, 4, 128, 8, 8, 8};
    memcpy(l.arg, args, sizeof args);
    l.n_args = fake.n_args = 10;
    memcpy(fake.arg_bytes, bytes, sizeof bytes);
    assert_int_equal(t->launch(d, k, &l, &b, NULL, &e), 0);
    void *pointers[] = {&x, &workspace, &reference, &bound, &partials};
    static const int at[] = {0, 2, 7, 8, 9};
    for (int i = 0; i < 5; i++) assert_memory_equal(fake.args[at[i]], &pointers[i], 8);
    assert_true(*(float *)fake.args[1] == 0.75f && *(int32_t *)fake.args[3] == -3);
    assert_true(*(int64_t *)fake.args[4] == 1LL << 40 && *(float *)fake.args[5] == 1.5f);
    assert_memory_equal(fake.args[6], maps + 128, 128);
    assert_int_equal(fake.config.gridDimX, 3);
    assert_int_equal(fake.config.blockDimY, 2);
    assert_ptr_equal(fake.config.hStream, HANDLE(CUstream, OUR_STREAM));
    assert_int_equal(t->launch(d, k, &l, &b, HANDLE(void *, 0x999), &e), 0);
    assert_ptr_equal(fake.config.hStream, HANDLE(CUstream, 0x999));
    b.tensor_maps = NULL;
    assert_int_equal(t->launch(d, k, &l, &b, NULL, &e), KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "argument 6"));
    assert_int_equal(fake.launches, 2);
    t->unload(d, m);
}

static void test_launch_attributes(void **state) {
    (void)state;
    kiln_module *m = t->load(d, "\177ELF code", 9, &e);
    kiln_kernel *k = t->kernel(d, m, "main", &e);
    kiln_bindings b = {0};
    kiln_launch l = plain();
    l.shared_bytes = 40 << 10;
    assert_int_equal(t->launch(d, k, &l, &b, NULL, &e), 0);
    assert_int_equal(fake.shared_calls, 0); /* under 48 KiB nobody need ask */
    assert_int_equal(fake.config.numAttrs, 0);
    l.shared_bytes = 200 << 10;
    l.cluster[0] = 3;
    l.cluster[1] = 2;
    l.dependent = true;
    for (int i = 0; i < 2; i++) assert_int_equal(t->launch(d, k, &l, &b, NULL, &e), 0);
    assert_int_equal(fake.shared_calls, 1);
    assert_int_equal(fake.largest_shared, 200 << 10);
    assert_int_equal(fake.cluster_calls, 0);
    assert_int_equal(fake.config.numAttrs, 2);
    assert_int_equal(fake.attribute[0].id, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION);
    assert_true(fake.attribute[0].value.clusterDim.x == 3 &&
                fake.attribute[0].value.clusterDim.y == 2 &&
                fake.attribute[0].value.clusterDim.z == 1);
    assert_int_equal(fake.attribute[1].id, CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
    l.cluster[0] = 16;
    l.cluster[1] = 1;
    for (int i = 0; i < 2; i++) assert_int_equal(t->launch(d, k, &l, &b, NULL, &e), 0);
    assert_int_equal(fake.cluster_calls, 1);
    kiln_kernel_facts facts;
    assert_int_equal(t->facts(d, k, &l, &facts), 0);
    assert_true(facts.registers == 90 && facts.shared_bytes == 1024 && facts.max_threads == 256);
    assert_int_equal(facts.blocks_per_unit, 16);
    t->unload(d, m);
}

static void refuse(kiln_kernel *k, kiln_launch l, const char *words) {
    kiln_bindings b = {0};
    int before = fake.launches;
    assert_true(t->launch(d, k, &l, &b, NULL, &e) < 0);
    assert_non_null(strstr(e.text, words));
    assert_int_equal(fake.launches, before);
}

static void test_refusals(void **state) {
    (void)state;
    kiln_module *m = t->load(d, "\177ELF code", 9, &e);
    kiln_kernel *k = t->kernel(d, m, "main", &e);
    kiln_launch l = plain();
    l.grid[2] = 0;
    refuse(k, l, "3x2x0 blocks");
    l = plain();
    l.block[0] = 512;
    refuse(k, l, "the kernel allows 256");
    l = plain();
    l.shared_bytes = 227 << 10; /* and 1 KiB static */
    refuse(k, l, "shared memory");
    assert_null(t->kernel(d, m, "other", &e));
    assert_int_equal(e.status, KILN_NOT_FOUND);
    t->unload(d, m);
    fake.answer = CUDA_ERROR_NO_BINARY_FOR_GPU;
    assert_null(t->load(d, "\177ELF code", 9, &e));
    assert_int_equal(e.status, KILN_VERSION);
    assert_non_null(strstr(e.text, "build it again"));
}

static void test_sticky_error(void **state) {
    (void)state;
    fake.answer = 700;
    assert_int_equal(t->sync(d, &e), KILN_DRIVER);
    assert_non_null(strstr(e.text, "CUDA_ERROR_ILLEGAL_ADDRESS"));
    assert_non_null(strstr(e.text, "illegal memory access"));
    assert_int_equal(t->begin(d, 0, &e), 0);
    assert_true(t->seconds(d, 0, &e) < 0); /* no end yet */
    assert_int_equal(t->end(d, 0, &e), 0);
    assert_true(t->seconds(d, 0, &e) < 0);
    assert_non_null(strstr(e.text, "CUDA_ERROR_ILLEGAL_ADDRESS"));
    fake.answer = CUDA_SUCCESS;
    assert_true(t->seconds(d, 0, &e) == 1e-3 * 2.5);
}

static void test_tensor_maps(void **state) {
    (void)state;
    unsigned char out[257], *unaligned = out + 1;
    char data[64], workspace[64];
    kiln_buffer operands[1] = {data};
    kiln_bindings b = {.operand = operands, .workspace = workspace};
    kiln_tensor_map maps[2] = {{.operand = 0,
                                .type = KILN_BF16,
                                .rank = 2,
                                .swizzle_bytes = 128,
                                .l2_bytes = 255,
                                .size = {64, 32},
                                .stride_bytes = {128},
                                .box = {64, 8}}};
    maps[1] = maps[0];
    maps[1].operand = 255;
    maps[1].offset = 16;
    maps[1].swizzle_bytes = 32;
    maps[1].l2_bytes = 64;
    maps[1].type = KILN_E4M3;
    assert_int_equal(t->encode(d, maps, 1, &b, unaligned, &e), 0);
    assert_true(fake.address == data && fake.swizzle == CU_TENSOR_MAP_SWIZZLE_128B &&
                fake.promotion == CU_TENSOR_MAP_L2_PROMOTION_L2_256B &&
                fake.type == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16);
    assert_int_equal(t->encode(d, maps, 2, &b, unaligned, &e), 0);
    assert_true(fake.address == workspace + 16 && fake.swizzle == CU_TENSOR_MAP_SWIZZLE_32B &&
                fake.promotion == CU_TENSOR_MAP_L2_PROMOTION_L2_64B &&
                fake.type == CU_TENSOR_MAP_DATA_TYPE_UINT8);
    assert_true(unaligned[0] == 0x77 && unaligned[255] == 0x77);
    fake.answer = 1;
    assert_true(t->encode(d, maps, 1, &b, unaligned, &e) < 0);
    assert_non_null(strstr(e.text, "tensor map 0"));
    maps[0].rank = 6;
    assert_int_equal(t->encode(d, maps, 1, &b, unaligned, &e), KILN_BAD_INPUT);
}

static void test_attach(void **state) {
    (void)state;
    kiln_attach a = {.attached = true};
    assert_null(t->open(0, &a, &e)); /* nothing is current in this thread */
    assert_int_equal(e.status, KILN_BAD_INPUT);
    a.context = HANDLE(void *, APP_CONTEXT);
    kiln_device *other = t->open(0, &a, &e);
    assert_non_null(other);
    assert_int_equal(t->caps(other)->index, 1); /* the context's device, whatever was asked for */
    assert_null(t->stream(other));
    assert_int_equal(t->record_begin(other, &e), KILN_UNSUPPORTED);
    kiln_buffer b = t->alloc(other, 64, &e);
    t->release(other, b);
    assert_int_equal(fake.depth, 0); /* the application's stack of contexts is as it was */
    t->close(other);
    assert_int_equal(fake.contexts, 1); /* the application's context is not ours to release */
    assert_int_equal(fake.streams, 1);
}

static void test_batches(void **state) {
    (void)state;
    assert_int_equal(t->record_begin(d, &e), 0);
    void *batch = t->record_end(d, &e);
    assert_non_null(batch);
    assert_int_equal(t->replay(d, batch, &e), 0);
    fake.answer = 700;
    assert_true(t->replay(d, batch, &e) < 0);
    t->forget(d, batch);
    t->forget(d, NULL);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_caps),        TEST(test_views),
        TEST(test_arguments),   TEST(test_launch_attributes),
        TEST(test_refusals),    TEST(test_sticky_error),
        TEST(test_tensor_maps), TEST(test_attach),
        TEST(test_batches),
    };
    return cmocka_run_group_tests_name("cuda_fake", tests, NULL, NULL);
}

/* pack.k.c, which brings operands into the layout that tensor maps and wgmma take.
 *
 * 1. As C: every read is checked to be aligned and inside the operand, whose first element lies at
 * any multiple of its size.
 * 2. On the OpenCL device that is there: all entries in one unit.
 * 3. NVRTC, where it is installed: all types, both kinds, in one unit, without spills.
 *
 * Random shapes; the destination is poisoned, and every byte of it and around it is compared.
 *
 *     KILN_SEED=7 KILN_PACK_ROUNDS=500 build/tests/test_pack     repeats or deepens */
#include "base/hash.h"
#include "kernels/emit.h"
#include "targets/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- the body as C */

typedef int64_t i64;
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;
typedef struct uint4 {
    u32 x, y, z, w;
} __attribute__((aligned(16), may_alias)) uint4;

static struct {
    int thread, block, batch; /* who runs */
    bool to_barrier;
    const u8 *first, *end; /* the operand */
} now;

static const void *inside(const u8 *at, size_t bytes) {
    if (at < now.first || at + bytes > now.end)
        fail_msg("reads %zu bytes at %td of an operand of %td", bytes, at - now.first,
                 now.end - now.first);
    if ((uintptr_t)at % bytes) fail_msg("reads %zu bytes at an address that is not aligned", bytes);
    return at;
}

/* The part before the barrier runs for all threads, then everything again: it writes the same. */
#define AFTER_PREVIOUS()
#define BARRIER()                                                                                  \
    if (now.to_barrier) return
#define PACK_READ(type, at) (*(const type *)inside(at, sizeof(type)))
#define KERNEL_REGS(x, y, z, registers) static void
#define FUNC static inline
#define GLOBAL
#define LOCAL
#define LOCAL_ARRAY(type, name, n) static type name[n]
#define RESTRICT restrict
#define THREAD(d) now.thread
#define BLOCK(d) ((d) ? now.batch : now.block)
#define UNROLL
#define UNROLL_N(n)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

#define PACK_TYPE e5m2
#define PACK_TRANSPOSE 0
#define PACK_ENTRY copy_1
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE bf16
#define PACK_TRANSPOSE 0
#define PACK_ENTRY copy_2
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE tf32
#define PACK_TRANSPOSE 0
#define PACK_ENTRY copy_4
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE i8
#define PACK_TRANSPOSE 1
#define PACK_ENTRY transpose_1
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE f16
#define PACK_TRANSPOSE 1
#define PACK_ENTRY transpose_2
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE f32
#define PACK_TRANSPOSE 1
#define PACK_ENTRY transpose_4
#include "kernels/matmul/pack.k.c"

typedef void body(const u8 *, u8 *, i64, i64, i64, i64, i64, i64, i64);
static const struct entry {
    const char *name, *type;
    int bytes;
    bool transpose;
    body *run;
} entries[] = {
    {"copy_1", "e5m2", 1, false, copy_1},         {"copy_2", "bf16", 2, false, copy_2},
    {"copy_4", "tf32", 4, false, copy_4},         {"transpose_1", "i8", 1, true, transpose_1},
    {"transpose_2", "f16", 2, true, transpose_2}, {"transpose_4", "f32", 4, true, transpose_4},
};
enum { ENTRIES = sizeof entries / sizeof *entries };

/* ---------------------------------------------------------------- a case */

typedef struct pack_case {
    const struct entry *entry;
    i64 rows, cols, ld, stride, pitch, batch, offset; /* as the kernel's arguments */
    i64 source_bytes, shift, workspace_bytes;         /* shift: of the first element, bytes */
    u8 *memory, *source, *workspace, *expected;
} pack_case;

enum { GUARD = 256, POISON = 0xa5 };

static uint64_t seed, counter;
static i64 pick(i64 n) { return (i64)(kiln_random64(seed, counter++) % (uint64_t)n); }

static i64 size(void) {
    static const i64 near[] = {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257};
    const i64 kind = pick(8);
    return kind < 3   ? near[pick(16)]
           : kind < 6 ? 1 + pick(40)
           : kind < 7 ? 1 + pick(400)
                      : 1 + pick(1500);
}

static void draw(pack_case *c, const struct entry *entry) {
    const i64 v = 16 / entry->bytes;
    *c = (pack_case){.entry = entry, .rows = size(), .cols = size(), .batch = 1 + pick(3)};
    if (c->rows * c->cols > 200000) c->rows = 1 + pick(100);
    const i64 width = entry->transpose ? c->rows : c->cols;
    const i64 lines = entry->transpose ? c->cols : c->rows;
    c->ld = width + (pick(2) ? pick(24) : 0);
    c->stride = pick(8) ? lines * c->ld + (pick(2) ? pick(24) : 0) : 0;
    c->pitch = (c->cols + v - 1) / v * v + (pick(3) ? 0 : pick(12) * v);
    c->offset = pick(5) * 16;
    c->source_bytes = ((c->batch - 1) * c->stride + (lines - 1) * c->ld + width) * entry->bytes;
    c->shift = pick(v) * entry->bytes;
    c->workspace_bytes = c->offset + c->batch * c->rows * c->pitch * entry->bytes + GUARD;
}

static void expect(pack_case *c) {
    const struct entry *n = c->entry;
    for (i64 b = 0; b < c->batch; b++)
        for (i64 r = 0; r < c->rows; r++) {
            u8 *line = c->expected + c->offset + (b * c->rows + r) * c->pitch * n->bytes;
            memset(line, 0, (size_t)(c->pitch * n->bytes));
            for (i64 k = 0; k < c->cols; k++) {
                const i64 at = b * c->stride + (n->transpose ? k * c->ld + r : r * c->ld + k);
                memcpy(line + k * n->bytes, c->source + at * n->bytes, (size_t)n->bytes);
            }
        }
}

static void fill(pack_case *c) {
    c->memory = aligned_alloc(16, (size_t)(c->source_bytes + 64) / 16 * 16);
    c->workspace = aligned_alloc(16, (size_t)c->workspace_bytes);
    c->expected = malloc((size_t)c->workspace_bytes);
    assert_true(c->memory && c->workspace && c->expected);
    c->source = c->memory + c->shift;
    for (i64 i = 0; i < c->source_bytes; i++) c->source[i] = (u8)pick(256);
    memset(c->workspace, POISON, (size_t)c->workspace_bytes);
    memset(c->expected, POISON, (size_t)c->workspace_bytes);
    expect(c);
}

static void drop(pack_case *c) {
    free(c->memory);
    free(c->workspace);
    free(c->expected);
}

static void compare(const pack_case *c, const char *where) {
    if (!memcmp(c->workspace, c->expected, (size_t)c->workspace_bytes)) return;
    i64 at = 0;
    while (c->workspace[at] == c->expected[at]) at++;
    fail_msg("%s %s rows=%lld cols=%lld ld=%lld stride=%lld pitch=%lld batch=%lld offset=%lld "
             "shift=%lld: byte %lld is %d, should be %d",
             c->entry->name, where, (long long)c->rows, (long long)c->cols, (long long)c->ld,
             (long long)c->stride, (long long)c->pitch, (long long)c->batch, (long long)c->offset,
             (long long)c->shift, (long long)at, c->workspace[at], c->expected[at]);
}

/* As the body's picture says. */
static void pack_grid(const pack_case *c, u32 grid[3]) {
    const i64 v = 16 / c->entry->bytes;
    const i64 blocks = c->entry->transpose
                           ? (c->rows + 8 * v - 1) / (8 * v) * ((c->pitch + 127) / 128)
                           : (c->rows * (c->pitch / v) + 511) / 512;
    grid[0] = (u32)blocks;
    grid[1] = (u32)c->batch;
    grid[2] = 1;
}

static int rounds(int usual) {
    const char *given = getenv("KILN_PACK_ROUNDS");
    return given ? atoi(given) : usual;
}

/* ---------------------------------------------------------------- as C */

static void run_as_c(pack_case *c) {
    u32 grid[3];
    pack_grid(c, grid);
    now.first = c->source;
    now.end = c->source + c->source_bytes;
    for (u32 i = 0; i < grid[0] * grid[1] * 2; i++) {
        now.block = (int)(i / 2 % grid[0]);
        now.batch = (int)(i / 2 / grid[0]);
        now.to_barrier = i % 2 == 0;
        if (now.to_barrier && !c->entry->transpose) continue;
        for (now.thread = 0; now.thread < 256; now.thread++)
            c->entry->run(c->source, c->workspace, c->offset, c->rows, c->cols, c->ld, c->stride,
                          c->pitch, c->batch);
    }
}

static void test_as_c(void **state) {
    (void)state;
    for (int i = 0; i < rounds(60) * ENTRIES; i++) {
        pack_case c;
        draw(&c, &entries[i % ENTRIES]);
        fill(&c);
        run_as_c(&c);
        compare(&c, "as C");
        drop(&c);
    }
}

/* Beyond 2^32 pieces: one source row, read again for each of 2^28 and some rows; of the 64 GiB only
 * the pages of the last block are ever there. */
static void test_many_pieces(void **state) {
    (void)state;
    const i64 rows = ((i64)1 << 28) + 3, pitch = 256, cols = 250;
    u8 source[250];
    u8 *workspace = mmap(0, (size_t)(rows * pitch), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (workspace == MAP_FAILED) {
        print_message("SKIPPED: 64 GiB of addresses are not to be had\n");
        skip();
    }
    for (i64 i = 0; i < cols; i++) source[i] = (u8)(1 + pick(255));
    now.first = source;
    now.end = source + cols;
    now.block = (int)(rows * pitch / 16 / 512);
    now.batch = 0;
    for (now.thread = 0; now.thread < 256; now.thread++)
        copy_1(source, workspace, 0, rows, cols, 0, 0, pitch, 1);
    for (i64 r = rows - 3; r < rows; r++) {
        assert_memory_equal(workspace + r * pitch, source, (size_t)cols);
        assert_memory_equal(workspace + r * pitch + cols, "\0\0\0\0\0", 6);
    }
    munmap(workspace, (size_t)(rows * pitch));
}

/* ---------------------------------------------------------------- on a device */

static const kiln_target *target;
static kiln_device *device;

static int setup(void **state) {
    (void)state;
    kiln_error e = {0};
    const char *given = getenv("KILN_SEED");
    seed = given ? strtoull(given, 0, 0) : (uint64_t)time(0);
    print_message("seed %llu: KILN_SEED=%llu repeats this run\n", (unsigned long long)seed,
                  (unsigned long long)seed);
    target = kiln_target_find("opencl");
    assert_non_null(target);
    device = target->open(0, 0, &e);
    if (!device) print_message("SKIPPED on a device: %s\n", e.text);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    if (device) target->close(device);
    return 0;
}

static void must(int status, const kiln_error *e) {
    if (status) fail_msg("%s", e->text);
}

static void add_entry(kiln_text *unit, const char *name, const char *type, bool transpose) {
    kiln_text_printf(unit, "#define PACK_TYPE %s\n#define PACK_TRANSPOSE %d\n", type, transpose);
    kiln_text_printf(unit, "#define NAME(x) kiln_test_##x\n#define PACK_ENTRY NAME(%s)\n", name);
    kiln_text_add(unit, kiln_embedded("kernels/matmul/pack.k.c"));
    kiln_text_add(unit, "#undef NAME\n");
}

static kiln_module *build(void) {
    kiln_error e = {0};
    kiln_blob code;
    kiln_text unit = {0}, log = {0};
    kiln_text_add(&unit, kiln_embedded("targets/opencl/dialect.h"));
    for (int i = 0; i < ENTRIES; i++)
        add_entry(&unit, entries[i].name, entries[i].type, entries[i].transpose);
    const kiln_compile_request request = {.source = kiln_text_get(&unit)};
    if (target->compile(target->caps(device), &request, &code, 0, &log, &e))
        fail_msg("%s\n%.2000s", e.text, kiln_text_get(&log));
    kiln_module *m = target->load(device, code.data, code.size, &e);
    if (!m) fail_msg("%s", e.text);
    free(code.data);
    kiln_text_free(&unit);
    kiln_text_free(&log);
    return m;
}

static kiln_launch launch_of(const pack_case *c) {
    kiln_launch l = {.block = {256, 1, 1}};
    const i64 value[] = {c->offset, c->rows, c->cols, c->ld, c->stride, c->pitch, c->batch};
    pack_grid(c, l.grid);
    l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_OPERAND};
    l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_WORKSPACE};
    for (int i = 0; i < 7; i++)
        l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = value[i]};
    return l;
}

/* Where buffers are: the source's first element is as aligned as the device's views are. */
static void run_on_device(pack_case *c, kiln_kernel *kernel, const kiln_launch *l) {
    kiln_error e = {0};
    kiln_buffer source = target->alloc(device, (c->source_bytes + 3) / 4 * 4, &e);
    kiln_buffer whole = target->alloc(device, c->workspace_bytes + 4096, &e);
    kiln_buffer workspace = target->view(device, whole, 4096, c->workspace_bytes, &e);
    if (!source || !whole || !workspace) fail_msg("%s", e.text);
    const kiln_bindings b = {.operand = &source, .workspace = workspace};
    static u8 before[4096];
    must(target->write(device, source, 0, c->source, c->source_bytes, &e), &e);
    must(target->fill(device, whole, 0, c->workspace_bytes + 4096, POISON * 0x01010101u, &e), &e);
    must(target->launch(device, kernel, l, &b, 0, &e), &e);
    must(target->sync(device, &e), &e);
    must(target->read(device, before, whole, 0, sizeof before, &e), &e);
    must(target->read(device, c->workspace, workspace, 0, c->workspace_bytes, &e), &e);
    for (size_t i = 0; i < sizeof before; i++)
        if (before[i] != POISON) fail_msg("%s wrote before the workspace", c->entry->name);
    target->release(device, workspace);
    target->release(device, whole);
    target->release(device, source);
}

/* Drivers finish kernels in launches whose sizes are all 0: nothing may be touched. */
static void run_nothing(const struct entry *entry, kiln_kernel *kernel) {
    pack_case c = {.entry = entry, .rows = 8, .cols = 8, .ld = 8, .pitch = 16, .batch = 1};
    c.source_bytes = 64 * entry->bytes;
    c.workspace_bytes = 128 * entry->bytes + GUARD;
    fill(&c);
    memset(c.expected, POISON, (size_t)c.workspace_bytes);
    kiln_launch l = launch_of(&c);
    for (int i = 0; i < l.n_args; i++)
        if (l.arg[i].kind == KILN_ARG_I64) l.arg[i].value.i = 0;
    run_on_device(&c, kernel, &l);
    compare(&c, "with sizes 0");
    drop(&c);
}

static void test_on_device(void **state) {
    (void)state;
    if (!device) skip();
    kiln_error e = {0};
    kiln_module *m = build();
    kiln_kernel *kernel[ENTRIES];
    for (int i = 0; i < ENTRIES; i++) {
        char entry[64];
        snprintf(entry, sizeof entry, "kiln_test_%s", entries[i].name);
        kernel[i] = target->kernel(device, m, entry, &e);
        if (!kernel[i]) fail_msg("%s", e.text);
        run_nothing(&entries[i], kernel[i]);
    }
    for (int i = 0; i < rounds(60) * ENTRIES; i++) {
        pack_case c;
        draw(&c, &entries[i % ENTRIES]);
        fill(&c);
        const kiln_launch l = launch_of(&c);
        run_on_device(&c, kernel[i % ENTRIES], &l);
        compare(&c, "on the device");
        drop(&c);
    }
    target->unload(device, m);
}

/* ---------------------------------------------------------------- NVRTC */

static int compile_for(const char *arch, const char *source, kiln_text *log, kiln_error *e) {
    const kiln_target *cuda = kiln_target_find("cuda");
    kiln_caps gpu = {.target = "cuda", .kind = KILN_DEVICE_GPU, .warp = 32, .max_threads = 1024};
    kiln_blob code = {0};
    const kiln_compile_request request = {.source = source};
    snprintf(gpu.arch, sizeof gpu.arch, "%s", arch);
    const int status = cuda ? cuda->compile(&gpu, &request, &code, 0, log, e)
                            : kiln_fail(e, KILN_NO_DEVICE, "no cuda target");
    free(code.data);
    return status;
}

/* Returns how many entries ptxas reported on. */
static int check_facts(const char *log) {
    int seen = 0;
    for (const char *at = log; (at = strstr(at, "bytes stack frame, ")); seen++) {
        at += strlen("bytes stack frame, ");
        if (atoi(at)) fail_msg("spills: %.60s", at);
    }
    return seen;
}

static void test_nvrtc(void **state) {
    (void)state;
    static const char *const types[] = {"bf16", "f16", "e4m3", "e5m2", "i8", "i32", "f32", "tf32"};
    static const char *const archs[] = {"sm_80", "sm_90a"};
    kiln_text unit = {0}, log = {0};
    kiln_text_add(&unit, kiln_embedded("targets/cuda/dialect.h"));
    for (int i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "pack_%s_%d", types[i / 2], i % 2);
        add_entry(&unit, name, types[i / 2], i % 2);
    }
    for (int i = 0; i < 2; i++) {
        kiln_error e = {0};
        kiln_text_clear(&log);
        const int status = compile_for(archs[i], kiln_text_get(&unit), &log, &e);
        if (status == KILN_NO_DEVICE || status == KILN_DRIVER) {
            print_message("SKIPPED: %s\n", e.text);
            skip();
        }
        if (status) fail_msg("%s\n%.3000s", e.text, kiln_text_get(&log));
        assert_int_equal(check_facts(kiln_text_get(&log)), 16);
    }
    kiln_error e = {0};
    kiln_text_clear(&unit);
    kiln_text_add(&unit, kiln_embedded("targets/cuda/dialect.h"));
    add_entry(&unit, "pack_f64", "f64", false);
    assert_int_equal(compile_for("sm_90a", kiln_text_get(&unit), &log, &e), KILN_COMPILE);
    assert_non_null(strstr(e.text, "PACK_TYPE"));
    kiln_text_free(&unit);
    kiln_text_free(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_c),
        cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_on_device),
        cmocka_unit_test(test_nvrtc),
    };
    return cmocka_run_group_tests_name("pack", tests, setup, teardown);
}

/* pack.k.c, which brings operands into the layout that tensor maps and wgmma take.
 *
 * 1. As C: every read is checked to be aligned and inside the operand, whose first element lies at
 * any multiple of its size. One operand a launch or two; also with the geometry and the arguments
 * that a variant's program gives.
 * 2. On the OpenCL device that is there: all entries in one unit.
 * 3. NVRTC, where it is installed: all types, both kinds, in one unit, without spills.
 *
 * Random shapes; the destination is poisoned, and every byte of it and around it is compared.
 *
 *     KILN_SEED=7 KILN_PACK_ROUNDS=500 build/tests/test_pack     repeats or deepens */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"
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
    const u8 *first[2], *end[2]; /* the operands */
} now;

static const void *inside(const u8 *at, size_t bytes) {
    bool in = false;
    for (int i = 0; i < 2; i++) in |= at >= now.first[i] && at + bytes <= now.end[i];
    if (!in) fail_msg("reads %zu bytes at %td of an operand", bytes, at - now.first[0]);
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
#define PACK_PART copy_1_part
#define PACK_ENTRY copy_1
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE bf16
#define PACK_TRANSPOSE 0
#define PACK_PART copy_2_part
#define PACK_ENTRY copy_2
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE tf32
#define PACK_TRANSPOSE 0
#define PACK_PART copy_4_part
#define PACK_ENTRY copy_4
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE i8
#define PACK_TRANSPOSE 1
#define PACK_PART transpose_1_part
#define PACK_ENTRY transpose_1
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE f16
#define PACK_TRANSPOSE 1
#define PACK_PART transpose_2_part
#define PACK_ENTRY transpose_2
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE f32
#define PACK_TRANSPOSE 1
#define PACK_PART transpose_4_part
#define PACK_ENTRY transpose_4
#include "kernels/matmul/pack.k.c"
/* two operands */
#define PACK_TYPE f16
#define PACK_TRANSPOSE 0
#define PACK_PART cc_2_part
#define PACK_ENTRY cc_2
#define PACK_TWO
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE bf16
#define PACK_TRANSPOSE 1
#define PACK_PART ct_2_part
#define PACK_ENTRY ct_2
#define PACK_FIRST copy_2_part
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE bf16
#define PACK_TRANSPOSE 0
#define PACK_PART tc_2_part
#define PACK_ENTRY tc_2
#define PACK_FIRST transpose_2_part
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE f16
#define PACK_TRANSPOSE 1
#define PACK_PART tt_2_part
#define PACK_ENTRY tt_2
#define PACK_TWO
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE e4m3
#define PACK_TRANSPOSE 1
#define PACK_PART ct_1_part
#define PACK_ENTRY ct_1
#define PACK_FIRST copy_1_part
#include "kernels/matmul/pack.k.c"
#define PACK_TYPE i32
#define PACK_TRANSPOSE 0
#define PACK_PART tc_4_part
#define PACK_ENTRY tc_4
#define PACK_FIRST transpose_4_part
#include "kernels/matmul/pack.k.c"

#define OPERAND const u8 *, i64, i64, i64, i64, i64, i64, i64, i64, i64
typedef void one_body(u8 *, OPERAND);
typedef void two_body(u8 *, OPERAND, OPERAND, i64);
static const struct entry {
    const char *name, *type, *first; /* first: the operand before, when it is of another kind */
    int bytes, operands;
    bool transpose[2];
    one_body *one;
    two_body *two;
} entries[] = {
    {"copy_1", "e5m2", NULL, 1, 1, {false}, copy_1, NULL},
    {"copy_2", "bf16", NULL, 2, 1, {false}, copy_2, NULL},
    {"copy_4", "tf32", NULL, 4, 1, {false}, copy_4, NULL},
    {"transpose_1", "i8", NULL, 1, 1, {true}, transpose_1, NULL},
    {"transpose_2", "f16", NULL, 2, 1, {true}, transpose_2, NULL},
    {"transpose_4", "f32", NULL, 4, 1, {true}, transpose_4, NULL},
    {"cc_2", "f16", NULL, 2, 2, {false, false}, NULL, cc_2},
    {"ct_2", "bf16", "copy_2", 2, 2, {false, true}, NULL, ct_2},
    {"tc_2", "bf16", "transpose_2", 2, 2, {true, false}, NULL, tc_2},
    {"tt_2", "f16", NULL, 2, 2, {true, true}, NULL, tt_2},
    {"ct_1", "e4m3", "copy_1", 1, 2, {false, true}, NULL, ct_1},
    {"tc_4", "i32", "transpose_4", 4, 2, {true, false}, NULL, tc_4},
};
enum { ENTRIES = sizeof entries / sizeof *entries };

/* ---------------------------------------------------------------- a case */

typedef struct operand {
    bool transpose;
    i64 offset, rows, cols, ld, stride, pitch, bytes, reciprocal, work; /* the kernel's arguments */
    i64 shift, blocks; /* shift: of the first element, bytes */
    u8 *memory, *source;
} operand;

typedef struct pack_case {
    const struct entry *entry;
    i64 batch, workspace_bytes;
    operand operand[2];
    u8 *workspace, *expected;
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

static i64 ceiling(i64 a, i64 b) { return (a + b - 1) / b; }

/* As the body's picture says: the reciprocal, and the blocks. */
static i64 reciprocal_of(i64 d) {
    i64 s = 31;
    while ((i64)1 << (s - 31) < d) s++;
    return ceiling((i64)1 << s, d) + s * ((i64)1 << 32);
}

static void set_geometry(operand *q, int bytes) {
    const i64 v = 16 / bytes, pieces = q->rows * (q->pitch / v);
    q->work = q->transpose ? (pick(2) ? 4 : 4 / bytes) : 1 + pick(2);
    q->reciprocal = q->transpose ? reciprocal_of(ceiling(q->rows, 8 * v))
                    : pick(4)    ? reciprocal_of(q->pitch / v)
                                 : 0;
    q->blocks = q->transpose ? ceiling(q->rows, 8 * v) * ceiling(q->pitch, 32 * q->work)
                             : ceiling(pieces, 256 * q->work);
}

static void draw_operand(operand *q, int bytes, i64 batch) {
    const i64 v = 16 / bytes;
    q->rows = size(), q->cols = size();
    if (q->rows * q->cols > 200000) q->rows = 1 + pick(100);
    const i64 width = q->transpose ? q->rows : q->cols;
    const i64 lines = q->transpose ? q->cols : q->rows;
    q->ld = width + (pick(2) ? pick(24) : 0);
    q->stride = pick(8) ? lines * q->ld + (pick(2) ? pick(24) : 0) : 0;
    q->pitch = ceiling(q->cols, v) * v + (pick(3) ? 0 : pick(12) * v);
    q->bytes = ((batch - 1) * q->stride + (lines - 1) * q->ld + width) * bytes;
    q->shift = pick(v) * bytes;
    set_geometry(q, bytes);
}

static void draw(pack_case *c, const struct entry *entry) {
    *c = (pack_case){.entry = entry, .batch = 1 + pick(3)};
    for (int i = 0; i < entry->operands; i++) {
        operand *q = &c->operand[i];
        q->transpose = entry->transpose[i];
        draw_operand(q, entry->bytes, c->batch);
        q->offset = c->workspace_bytes + pick(5) * 16;
        c->workspace_bytes = q->offset + c->batch * q->rows * q->pitch * entry->bytes;
    }
    c->workspace_bytes += GUARD;
}

static void expect(pack_case *c, const operand *q) {
    const i64 bytes = c->entry->bytes;
    for (i64 b = 0; b < c->batch; b++)
        for (i64 r = 0; r < q->rows; r++) {
            u8 *line = c->expected + q->offset + (b * q->rows + r) * q->pitch * bytes;
            memset(line, 0, (size_t)(q->pitch * bytes));
            for (i64 k = 0; k < q->cols; k++) {
                const i64 at = b * q->stride + (q->transpose ? k * q->ld + r : r * q->ld + k);
                memcpy(line + k * bytes, q->source + at * bytes, (size_t)bytes);
            }
        }
}

static void fill_source(operand *q) {
    q->memory = aligned_alloc(16, (size_t)(q->bytes + 64) / 16 * 16);
    assert_non_null(q->memory);
    q->source = q->memory + q->shift;
    for (i64 i = 0; i < q->bytes; i++) q->source[i] = (u8)pick(256);
}

static void fill(pack_case *c) {
    c->workspace = aligned_alloc(16, (size_t)(c->workspace_bytes + 15) / 16 * 16);
    c->expected = malloc((size_t)c->workspace_bytes);
    assert_true(c->workspace && c->expected);
    memset(c->workspace, POISON, (size_t)c->workspace_bytes);
    memset(c->expected, POISON, (size_t)c->workspace_bytes);
    for (int i = 0; i < c->entry->operands; i++) {
        fill_source(&c->operand[i]);
        expect(c, &c->operand[i]);
    }
}

static void drop(pack_case *c) {
    for (int i = 0; i < 2; i++) free(c->operand[i].memory);
    free(c->workspace);
    free(c->expected);
}

static void compare(const pack_case *c, const char *where) {
    if (!memcmp(c->workspace, c->expected, (size_t)c->workspace_bytes)) return;
    i64 at = 0;
    while (c->workspace[at] == c->expected[at]) at++;
    for (int i = 0; i < c->entry->operands; i++) {
        const operand *q = &c->operand[i];
        print_message("operand %d: rows=%lld cols=%lld ld=%lld stride=%lld pitch=%lld offset=%lld "
                      "shift=%lld work=%lld blocks=%lld\n",
                      i, (long long)q->rows, (long long)q->cols, (long long)q->ld,
                      (long long)q->stride, (long long)q->pitch, (long long)q->offset,
                      (long long)q->shift, (long long)q->work, (long long)q->blocks);
    }
    fail_msg("%s %s batch=%lld: byte %lld is %d, should be %d", c->entry->name, where,
             (long long)c->batch, (long long)at, c->workspace[at], c->expected[at]);
}

static int rounds(int usual) {
    const char *given = getenv("KILN_PACK_ROUNDS");
    return given ? atoi(given) : usual;
}

/* ---------------------------------------------------------------- as C */

#define ARGS(q)                                                                                    \
    (q)->source, (q)->offset, (q)->rows, (q)->cols, (q)->ld, (q)->stride, (q)->pitch, (q)->bytes,  \
        (q)->reciprocal, (q)->work

static void run_thread(const pack_case *c) {
    const operand *q = c->operand;
    if (c->entry->one)
        c->entry->one(c->workspace, ARGS(q));
    else
        c->entry->two(c->workspace, ARGS(q), ARGS(q + 1), q->blocks);
}

static void run_block(const pack_case *c) {
    for (int pass = 0; pass < 2; pass++) {
        now.to_barrier = pass == 0;
        for (now.thread = 0; now.thread < 256; now.thread++) run_thread(c);
    }
}

static void run_as_c(const pack_case *c) {
    const i64 blocks = c->operand[0].blocks + c->operand[1].blocks;
    for (int i = 0; i < 2; i++) {
        now.first[i] = c->operand[i].source;
        now.end[i] = now.first[i] ? now.first[i] + c->operand[i].bytes : NULL;
    }
    for (now.batch = 0; now.batch < c->batch; now.batch++)
        for (now.block = 0; now.block < blocks; now.block++) run_block(c);
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
    now.first[0] = source;
    now.end[0] = source + cols;
    now.block = (int)(rows * pitch / 16 / 512);
    now.batch = 0;
    for (now.thread = 0; now.thread < 256; now.thread++)
        copy_1(workspace, source, 0, rows, cols, 0, 0, pitch, cols, 0, 2);
    for (i64 r = rows - 3; r < rows; r++) {
        assert_memory_equal(workspace + r * pitch, source, (size_t)cols);
        assert_memory_equal(workspace + r * pitch + cols, "\0\0\0\0\0", 6);
    }
    munmap(workspace, (size_t)(rows * pitch));
}

/* ---------------------------------------------------------------- as a program launches it */

typedef struct launch_case {
    kiln_problem problem;
    kiln_program program;
    char text[256];
} launch_case;

static void draw_program(launch_case *l) {
    kiln_error e = {0};
    const i64 m = size(), n = size(), k = 1 + pick(400);
    const int ta = (int)pick(2), tb = (int)pick(2), packs = 1 + (int)pick(3);
    snprintf(l->text, sizeof l->text,
             "matmul m=%lld n=%lld k=%lld batch=%lld lda=%lld ldb=%lld type=bf16 ta=%d tb=%d",
             (long long)m, (long long)n, (long long)k, (long long)(1 + pick(3)),
             (long long)((ta ? m : k) + pick(9)), (long long)((tb ? k : n) + pick(9)), ta, tb);
    if (kiln_problem_parse(&l->problem, l->text, &e)) fail_msg("%s: %s", l->text, e.text);
    const kiln_caps caps = {.target = "cuda",
                            .arch_number = 90,
                            .units = 1 + (int)pick(132),
                            .shared_bytes = 232448,
                            .align_bytes = 256};
    kiln_schedule s = kiln_variant_default(&kiln_matmul_wgmma_sm90);
    kiln_schedule_set(&s, "pack_a", packs & 1);
    kiln_schedule_set(&s, "pack_b", packs >> 1);
    kiln_schedule_set(&s, "swap", (int)pick(2));
    kiln_schedule_set(&s, "stream", (int)pick(2));
    assert_int_equal(kiln_matmul_wgmma_sm90.program(&l->problem, &caps, &s, &l->program, &e), 0);
}

/* The arguments from the launch; where results belong, from the tensor maps that read them. */
static void take_operand(operand *q, const launch_case *l, const kiln_arg *arg, int map) {
    const kiln_tensor_map *t = &l->program.tensor_map[map];
    const kiln_operand *o = &l->problem.operand[arg->index];
    const matmul v = kiln_matmul_view(&l->problem);
    i64 *to[] = {&q->offset, &q->rows,  &q->cols,       &q->ld,  &q->stride,
                 &q->pitch,  &q->bytes, &q->reciprocal, &q->work};
    for (int i = 0; i < 9; i++) *to[i] = arg[1 + i].value.i;
    q->transpose = arg->index == MATMUL_A ? v.ta : !v.tb;
    assert_int_equal(q->bytes, kiln_operand_bytes(o));
    assert_int_equal(q->rows, arg->index == MATMUL_A ? v.m : v.n);
    assert_int_equal(q->cols, v.k);
    assert_int_equal(q->offset % 256, 0);
    assert_true(q->offset >= l->program.workspace_zeroed);
    assert_int_equal(t->operand, 255);
    assert_int_equal(t->offset, q->offset);
    assert_int_equal(t->size[0], q->cols);
    assert_int_equal(t->size[1], q->rows);
    assert_int_equal(t->stride_bytes[0], q->pitch * 2);
    assert_int_equal(t->stride_bytes[1], q->rows * q->pitch * 2);
}

/* The entry that does what the emitter would give the program. */
static const struct entry *entry_for(const pack_case *c, int operands) {
    for (int i = 0; i < ENTRIES; i++) {
        const struct entry *n = &entries[i];
        bool same = n->bytes == 2 && n->operands == operands;
        for (int j = 0; same && j < operands; j++)
            same = n->transpose[j] == c->operand[j].transpose;
        if (same) return n;
    }
    fail_msg("no entry");
    return NULL;
}

static void take_launch(pack_case *c, const launch_case *l) {
    const kiln_launch *pack = &l->program.launch[0];
    int operands = 0;
    *c = (pack_case){.batch = pack->grid[1], .workspace_bytes = l->program.workspace_bytes};
    assert_string_equal(pack->entry, "pack");
    assert_int_equal(pack->block[0], 256);
    assert_true(pack->dependent);
    assert_int_equal(pack->arg[0].kind, KILN_ARG_WORKSPACE);
    for (int i = 1; i < pack->n_args; i += 10, operands++) {
        if (pack->arg[i].kind != KILN_ARG_OPERAND) break;
        int map = 0;
        while (l->program.tensor_map[map].offset != pack->arg[i + 1].value.i ||
               l->program.tensor_map[map].operand != 255)
            map++;
        take_operand(&c->operand[operands], l, &pack->arg[i], map);
    }
    assert_int_equal(pack->n_args, operands == 2 ? 22 : 11);
    c->entry = entry_for(c, operands);
    c->operand[0].blocks = operands == 2 ? pack->arg[21].value.i : pack->grid[0];
    c->operand[1].blocks = pack->grid[0] - c->operand[0].blocks;
}

static void test_programs(void **state) {
    (void)state;
    for (int i = 0; i < rounds(300); i++) {
        launch_case l = {0};
        pack_case c;
        draw_program(&l);
        take_launch(&c, &l);
        fill(&c);
        run_as_c(&c);
        compare(&c, l.text);
        drop(&c);
    }
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

static void add_entry(kiln_text *unit, const char *name, const char *type, bool transpose,
                      int operands, const char *first) {
    kiln_text_printf(unit, "#define PACK_TYPE %s\n#define PACK_TRANSPOSE %d\n", type, transpose);
    kiln_text_printf(unit, "#define NAME(x) kiln_test_##x\n#define PACK_ENTRY NAME(%s)\n", name);
    kiln_text_printf(unit, "#define PACK_PART NAME(%s_part)\n", name);
    if (first)
        kiln_text_printf(unit, "#define PACK_FIRST NAME(%s_part)\n", first);
    else if (operands == 2)
        kiln_text_add(unit, "#define PACK_TWO\n");
    kiln_text_add(unit, kiln_embedded("kernels/matmul/pack.k.c"));
    kiln_text_add(unit, "#undef NAME\n");
}

static kiln_module *build(void) {
    kiln_error e = {0};
    kiln_blob code;
    kiln_text unit = {0}, log = {0};
    kiln_text_add(&unit, kiln_embedded("targets/opencl/dialect.h"));
    for (int i = 0; i < ENTRIES; i++)
        add_entry(&unit, entries[i].name, entries[i].type,
                  entries[i].transpose[entries[i].operands - 1], entries[i].operands,
                  entries[i].first);
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
    kiln_launch l = {.grid = {0, (u32)c->batch, 1}, .block = {256, 1, 1}};
    l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_WORKSPACE};
    for (int o = 0; o < c->entry->operands; o++) {
        const operand *q = &c->operand[o];
        const i64 value[] = {q->offset, q->rows,  q->cols,       q->ld,  q->stride,
                             q->pitch,  q->bytes, q->reciprocal, q->work};
        l.grid[0] += (u32)q->blocks;
        l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_OPERAND, .index = (uint8_t)o};
        for (int i = 0; i < 9; i++)
            l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = value[i]};
    }
    if (c->entry->operands == 2)
        l.arg[l.n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = c->operand[0].blocks};
    return l;
}

/* The source's first element is as aligned as the device's buffers are. */
static kiln_buffer upload(const operand *q) {
    kiln_error e = {0};
    kiln_buffer to = target->alloc(device, (q->bytes + 3) / 4 * 4, &e);
    if (!to) fail_msg("%s", e.text);
    must(target->write(device, to, 0, q->source, q->bytes, &e), &e);
    return to;
}

static void run_on_device(pack_case *c, kiln_kernel *kernel, const kiln_launch *l) {
    kiln_error e = {0};
    kiln_buffer source[2] = {0};
    for (int i = 0; i < c->entry->operands; i++) source[i] = upload(&c->operand[i]);
    kiln_buffer whole = target->alloc(device, c->workspace_bytes + 4096, &e);
    kiln_buffer workspace = target->view(device, whole, 4096, c->workspace_bytes, &e);
    if (!whole || !workspace) fail_msg("%s", e.text);
    const kiln_bindings b = {.operand = source, .workspace = workspace};
    static u8 before[4096];
    must(target->fill(device, whole, 0, c->workspace_bytes + 4096, POISON * 0x01010101u, &e), &e);
    must(target->launch(device, kernel, l, &b, 0, &e), &e);
    must(target->sync(device, &e), &e);
    must(target->read(device, before, whole, 0, sizeof before, &e), &e);
    must(target->read(device, c->workspace, workspace, 0, c->workspace_bytes, &e), &e);
    for (size_t i = 0; i < sizeof before; i++)
        if (before[i] != POISON) fail_msg("%s wrote before the workspace", c->entry->name);
    target->release(device, workspace);
    target->release(device, whole);
    for (int i = 0; i < c->entry->operands; i++) target->release(device, source[i]);
}

/* Drivers finish kernels in launches whose sizes are all 0: nothing may be touched. */
static void run_nothing(const struct entry *entry, kiln_kernel *kernel) {
    pack_case c;
    draw(&c, entry);
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
        add_entry(&unit, name, types[i / 2], i % 2, 1, NULL);
    }
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "pack_both_%d", i);
        add_entry(&unit, name, "f16", i % 2, 2,
                  i < 2        ? NULL
                  : i % 2 == 0 ? "pack_bf16_1"
                               : "pack_bf16_0");
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
        assert_int_equal(check_facts(kiln_text_get(&log)), 20);
    }
    kiln_error e = {0};
    kiln_text_clear(&unit);
    kiln_text_add(&unit, kiln_embedded("targets/cuda/dialect.h"));
    add_entry(&unit, "pack_f64", "f64", false, 1, NULL);
    assert_int_equal(compile_for("sm_90a", kiln_text_get(&unit), &log, &e), KILN_COMPILE);
    assert_non_null(strstr(e.text, "PACK_TYPE"));
    kiln_text_free(&unit);
    kiln_text_free(&log);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_c),     cmocka_unit_test(test_many_pieces),
        cmocka_unit_test(test_programs), cmocka_unit_test(test_on_device),
        cmocka_unit_test(test_nvrtc),
    };
    return cmocka_run_group_tests_name("pack", tests, setup, teardown);
}

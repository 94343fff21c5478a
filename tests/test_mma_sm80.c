/* mma_sm80 without a GPU.
 *
 * 1. The whole kernel text runs on the CPU: kernels/matmul/mma_sm80.cuh is compiled as C, every
 *    thread of a block is a coroutine, and cp.async, ldmatrix and mma.sync are emulated from their
 *    definition in the PTX manual (asynchronous copies arrive as late as the waits allow, or at
 *    once; both orders must give the exact result). Every address is checked: inside the operand,
 *    aligned, inside shared memory, and an ldmatrix must not meet a bank twice.
 * 2. NVRTC, where it is installed, compiles schedules for sm_80 and sm_90a; the start schedule must
 *    not spill. Without NVRTC that part is skipped and says so. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"
#include "targets/target.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <cmocka.h>

/* ---- a block: coroutines that meet at barriers */

typedef int64_t i64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

enum { THREADS_MAX = 256, STACK = 96 << 10, GROUPS = 8, PENDING = 512 };

typedef struct pending_copy {
    u32 to;
    int size, group;
    u8 data[16];
} pending_copy;

typedef struct warp_state {
    int arrived, generation;
    u32 at[2][32], a[2][32][4], b[2][32][2];
    float top[2][32];
} warp_state;

typedef struct thread_state {
    ucontext_t context;
    bool done;
    int group, n_pending;
    pending_copy pending[PENDING];
} thread_state;

static struct {
    thread_state thread[THREADS_MAX];
    warp_state warp[THREADS_MAX / 32];
    int threads, now, arrived, generation;
    int block[3], blocks[3];
    ucontext_t scheduler;
    bool late; /* copies arrive when a wait demands them, not at once */
    kiln_type type;
    const u8 *low[2], *high[2]; /* the operands' memory */
    int64_t pool_bytes, out_elements;
    u8 *hits; /* per element of the result: times stored */
    int64_t conflicts, atomics;
} run;
static u8 *emulated_pool, *stacks;

static void pause_thread(void) { swapcontext(&run.thread[run.now].context, &run.scheduler); }

static void block_sync(void) {
    int generation = run.generation;
    if (++run.arrived == run.threads) run.arrived = 0, run.generation++;
    while (run.generation == generation) pause_thread();
}

/* What a lane leaves in the halves [generation % 2] before this call is there for all after it. */
static int warp_sync(void) {
    warp_state *w = &run.warp[run.now / 32];
    int generation = w->generation;
    if (++w->arrived == 32) w->arrived = 0, w->generation++;
    while (w->generation == generation) pause_thread();
    return generation % 2;
}

static void deliver(thread_state *t, int before_group) {
    int kept = 0;
    for (int i = 0; i < t->n_pending; i++) {
        pending_copy *c = &t->pending[i];
        if (c->group < before_group)
            memcpy(emulated_pool + c->to, c->data, (size_t)c->size);
        else
            t->pending[kept++] = *c;
    }
    t->n_pending = kept;
}

static void emulate_copy(u32 to, const u8 *from, int bytes, int size) {
    thread_state *t = &run.thread[run.now];
    assert_true(bytes >= 0 && bytes <= size && to % (u32)size == 0 && to + size <= run.pool_bytes);
    bool a = from >= run.low[0] && from + bytes <= run.high[0];
    bool b = from >= run.low[1] && from + bytes <= run.high[1];
    assert_true(bytes == 0 || ((a || b) && (uintptr_t)from % (uintptr_t)size == 0));
    assert_true(t->n_pending < PENDING);
    pending_copy *c = &t->pending[t->n_pending++];
    *c = (pending_copy){.to = to, .size = size, .group = t->group};
    if (bytes) memcpy(c->data, from, (size_t)bytes);
    if (!run.late) deliver(t, t->group + 1);
}

static void emulate_copies_end(void) { run.thread[run.now].group++; }

static void emulate_copies_wait(int left) {
    thread_state *t = &run.thread[run.now];
    deliver(t, t->group - left);
}

/* ldmatrix.x4: the 8 addresses of a matrix must lie in 8 different 16-byte columns of the banks. */
static void emulate_matrices(u32 *r, u32 at, bool trans) {
    warp_state *w = &run.warp[run.now / 32];
    int lane = run.now % 32;
    assert_true(at % 16 == 0 && at + 16 <= run.pool_bytes);
    w->at[w->generation % 2][lane] = at;
    const u32 *line = w->at[warp_sync()];
    for (int j = 0; j < 4; j++) {
        unsigned banks = 0;
        for (int i = 0; i < 8; i++) banks |= 1u << line[j * 8 + i] / 16 % 8;
        run.conflicts += banks != 255;
        u16 pair[2];
        for (int e = 0; e < 2; e++) {
            int row = trans ? lane % 4 * 2 + e : lane / 4,
                col = trans ? lane / 4 : lane % 4 * 2 + e;
            memcpy(&pair[e], emulated_pool + line[j * 8 + row] + col * 2, 2);
        }
        memcpy(&r[j], pair, 4);
    }
}

static int meet_mma(const u32 *a, const u32 *b) {
    warp_state *w = &run.warp[run.now / 32];
    int half = w->generation % 2, lane = run.now % 32;
    memcpy(w->a[half][lane], a, 16);
    memcpy(w->b[half][lane], b, 8);
    return warp_sync();
}

static double value_at(const void *word, int i) {
    size_t bytes = kiln_type_bytes(run.type);
    return kiln_type_read(run.type, (const u8 *)word + (size_t)i * bytes);
}

/* Row `row` of A (16 x 32 bytes) times column `col` of B, by the fragments' layout: register 0 row
 * g, 1 row g + 8, 2 and 3 the same 16 bytes further along k; lane g * 4 + t has bytes 4t..4t+3. */
static double dot(const warp_state *w, int half, int row, int col) {
    double sum = 0;
    int per_word = 4 / (int)kiln_type_bytes(run.type);
    for (int t = 0; t < 4; t++)
        for (int far = 0; far < 2; far++)
            for (int i = 0; i < per_word; i++)
                sum += value_at(&w->a[half][row % 8 * 4 + t][row / 8 + 2 * far], i) *
                       value_at(&w->b[half][col * 4 + t][far], i);
    return sum;
}

static void emulate_mma_float(float *c, const u32 *a, const u32 *b) {
    int half = meet_mma(a, b), lane = run.now % 32;
    for (int e = 0; e < 4; e++)
        c[e] +=
            (float)dot(&run.warp[run.now / 32], half, lane / 4 + e / 2 * 8, lane % 4 * 2 + e % 2);
}

static void emulate_mma_int(int *c, const u32 *a, const u32 *b) {
    int half = meet_mma(a, b), lane = run.now % 32;
    for (int e = 0; e < 4; e++)
        c[e] += (int)dot(&run.warp[run.now / 32], half, lane / 4 + e / 2 * 8, lane % 4 * 2 + e % 2);
}

/* Maxima (kind 0) or minima of each `lanes` adjacent lanes, which all must take part. */
static float emulate_group(int kind, float x, int lanes) {
    warp_state *w = &run.warp[run.now / 32];
    int lane = run.now % 32;
    assert_true(lanes > 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0);
    w->top[w->generation % 2][lane] = x;
    const float *of = w->top[warp_sync()] + lane / lanes * lanes;
    for (int i = 0; i < lanes; i++) x = kind ? fminf(x, of[i]) : fmaxf(x, of[i]);
    return x;
}

static void emulate_atomic(int kind, float *to, float x) {
    *to = kind ? fminf(*to, x) : fmaxf(*to, x);
    run.atomics++;
}

static void emulate_store(int64_t element, bool inside) {
    assert_true(inside && element >= 0 && element < run.out_elements);
    run.hits[element]++;
}

/* ---- the kernel text, compiled as C */

typedef struct instance {
    void (*run)(const kiln_launch *l, int which, void *const *operand, void *work);
    kiln_type type;
    int ta, tb, tops, value[KILN_KNOBS_MAX];
} instance;

#define FUNC static inline __attribute__((unused))
#define RESTRICT restrict
#define THREAD(d) ((d) == 0 ? run.now : 0)
#define BLOCK(d) run.block[d]
#define BLOCKS(d) run.blocks[d]
#define BARRIER() block_sync()
#define UNROLL
#define UNROLL_N(n)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define STORAGE(T) CAT(storage_, T)
typedef u16 storage_bf16, storage_f16;
typedef int8_t storage_i8;
#define KILN_TYPE_bf16 KILN_BF16
#define KILN_TYPE_f16 KILN_F16
#define KILN_TYPE_i8 KILN_I8
#define __align__(bytes) _Alignas(bytes)
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }

#define NAME(x) nn_##x
#include "tests/mma_sm80_emulated.h"
#define NAME(x) nt_##x
#define TRANSPOSE_B 1
#define TN 128
#define STAGES 2
#include "tests/mma_sm80_emulated.h"
#define NAME(x) tn_##x
#define TA f16
#define TRANSPOSE_A 1
#define TK 64
#define STAGES 4
#define STORE 4
#include "tests/mma_sm80_emulated.h"
#define NAME(x) tt_##x
#define TRANSPOSE_A 1
#define TRANSPOSE_B 1
#define TM 128
#define WARPS_M 4
#define WARPS_N 1
#define STORE 1
#include "tests/mma_sm80_emulated.h"
#define NAME(x) i8_##x
#define TA i8
#define ACC_INT 1
#define TRANSPOSE_B 1
#define TK 128
#define STORE 4
#include "tests/mma_sm80_emulated.h"
#define NAME(x) i8_small_##x
#define TA i8
#define ACC_INT 1
#define TRANSPOSE_B 1
#define TK 64
#define COPY 4
#define SPLIT 2
#define STORE 2
#include "tests/mma_sm80_emulated.h"
#define NAME(x) split_##x
#define SPLIT 3
#define COPY 8
#define STORE 4
#include "tests/mma_sm80_emulated.h"
#define NAME(x) flat_##x
#define TRANSPOSE_B 1
#define TM 16
#define TN 128
#define WARPS_M 1
#define WARPS_N 4
#define TK 64
#define STORE 2
#define COPY 4
#include "tests/mma_sm80_emulated.h"
#define NAME(x) large_##x
#define TM 128
#define TN 256
#define TK 64
#define WARPS_N 4
#define STAGES 4
#define GROUP 8
#include "tests/mma_sm80_emulated.h"
#define NAME(x) twin_##x
#define TM 128
#define TN 128
#define TK 64
#define GROUP 8
#define RESIDENT 2
#include "tests/mma_sm80_emulated.h"
#define NAME(x) large_tt_##x
#define TRANSPOSE_A 1
#define TRANSPOSE_B 1
#define TM 256
#define TN 128
#define WARPS_M 4
#define TK 32
#define STAGES 4
#include "tests/mma_sm80_emulated.h"

#define NAME(x) rows_##x
#define ROW_TOPS 2
#include "tests/mma_sm80_emulated.h"
#define NAME(x) rows_odd_##x
#define ROW_TOPS 2
#define TRANSPOSE_B 1
#define TN 96
#include "tests/mma_sm80_emulated.h"
#define NAME(x) rows_split_##x
#define ROW_TOPS 2
#define TA i8
#define ACC_INT 1
#define TRANSPOSE_B 1
#define TK 64
#define SPLIT 2
#define STORE 4
#include "tests/mma_sm80_emulated.h"

/* ---- running a problem */

static kiln_caps caps_of(int arch) {
    kiln_caps c = {.target = "cuda",
                   .kind = KILN_DEVICE_GPU,
                   .arch_number = arch,
                   .units = 132,
                   .warp = 32,
                   .max_threads = 1024,
                   .registers_unit = 65536,
                   .threads_unit = 2048,
                   .shared_bytes = 232448,
                   .shared_unit_bytes = 233472,
                   .align_bytes = 256,
                   .cache_bytes = 50 << 20,
                   .memory_bytes = 1ll << 37,
                   .clusters = arch >= 90,
                   .tensor_maps = arch >= 90};
    if (arch == 80) c.units = 108, c.shared_bytes = 166912, c.shared_unit_bytes = 167936;
    snprintf(c.arch, sizeof c.arch, arch == 90 ? "sm_90a" : "sm_%d", arch);
    return c;
}

static struct {
    const instance *x;
    const kiln_launch *launch;
    void *operand[5], *work;
    int which;
} job;

static void thread_main(void) {
    job.x->run(job.launch, job.which, job.operand, job.work);
    assert_int_equal(run.thread[run.now].n_pending,
                     0); /* they would land in the epilogue's memory */
    run.thread[run.now].done = true;
    pause_thread();
}

static void start_thread(int i) {
    thread_state *t = &run.thread[i];
    t->done = false, t->group = 0, t->n_pending = 0;
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = stacks + (size_t)i * STACK;
    t->context.uc_stack.ss_size = STACK;
    makecontext(&t->context, thread_main, 0);
}

static void run_block(void) {
    memset(run.warp, 0, sizeof run.warp);
    memset(emulated_pool, 0xff, (size_t)run.pool_bytes); /* NaN, -1 */
    run.arrived = run.generation = 0;
    for (int i = 0; i < run.threads; i++) start_thread(i);
    for (int left = run.threads; left;) {
        left = 0;
        for (run.now = 0; run.now < run.threads; run.now++) {
            if (run.thread[run.now].done) continue;
            swapcontext(&run.scheduler, &run.thread[run.now].context);
            left += !run.thread[run.now].done;
        }
    }
}

/* The kernel `clear` is made of the dialect's words alone; test_matmul.c runs it. */
static void clear_rows(const kiln_launch *l) {
    int64_t rows = l->arg[l->n_args - 1].value.i;
    for (int64_t i = 0; i < rows; i++)
        ((float *)job.operand[3])[i] = -INFINITY, ((float *)job.operand[4])[i] = INFINITY;
}

static void run_launch(const kiln_launch *l, int which) {
    job.launch = l, job.which = which;
    run.threads = (int)l->block[0];
    run.pool_bytes = l->shared_bytes;
    emulated_pool = aligned_alloc(1024, (l->shared_bytes + 1024) / 1024 * 1024);
    for (int i = 0; i < 3; i++) run.blocks[i] = (int)l->grid[i];
    for (run.block[2] = 0; run.block[2] < run.blocks[2]; run.block[2]++)
        for (run.block[1] = 0; run.block[1] < run.blocks[1]; run.block[1]++)
            for (run.block[0] = 0; run.block[0] < run.blocks[0]; run.block[0]++) run_block();
    free(emulated_pool);
}

/* Small integers: every sum is exact in float, so results must be equal, not near. */
static void fill(const kiln_operand *o, u8 *to, uint64_t seed) {
    size_t bytes = kiln_type_bytes(o->type);
    for (int64_t i = 0; i < kiln_operand_elements(o); i++)
        kiln_type_write(o->type, to + (size_t)i * bytes,
                        (double)(kiln_random64(seed, (uint64_t)i) % 9) - 4);
}

static double stored(const kiln_problem *p, int i, int64_t batch, int64_t row, int64_t col) {
    const kiln_operand *o = &p->operand[i];
    int64_t at = batch * o->batch_stride + row * o->ld + col;
    return kiln_type_read(o->type, (u8 *)job.operand[i] + (size_t)at * kiln_type_bytes(o->type));
}

static double expected(const kiln_problem *p, int64_t batch, int64_t row, int64_t col) {
    matmul v = kiln_matmul_view(p);
    double sum = 0;
    for (int64_t l = 0; l < v.k; l++)
        sum += (v.ta ? stored(p, 0, batch, l, row) : stored(p, 0, batch, row, l)) *
               (v.tb ? stored(p, 1, batch, col, l) : stored(p, 1, batch, l, col));
    return sum;
}

static void compare(const kiln_problem *p, const char *text) {
    matmul v = kiln_matmul_view(p);
    for (int64_t b = 0; b < v.batch; b++)
        for (int64_t i = 0; i < v.m; i++)
            for (int64_t j = 0; j < v.n; j++) {
                double want = expected(p, b, i, j), got = stored(p, 2, b, i, j);
                if (run.hits[b * v.stride_o + i * v.ldo + j] != 1 || got != want)
                    fail_msg("%s: out[%d, %d, %d] is %g, not %g, stored %d times", text, (int)b,
                             (int)i, (int)j, got, want, run.hits[b * v.stride_o + i * v.ldo + j]);
            }
}

static void compare_tops(const kiln_problem *p, const char *text) {
    matmul v = kiln_matmul_view(p);
    for (int64_t row = 0; row < v.m * v.batch; row++) {
        double most = -INFINITY, least = INFINITY;
        for (int64_t j = 0; j < v.n; j++) {
            double x = stored(p, 2, row / v.m, row % v.m, j);
            most = fmax(most, x), least = fmin(least, x);
        }
        double high = stored(p, 3, row / v.m, row % v.m, 0);
        double low = stored(p, 4, row / v.m, row % v.m, 0);
        if (high != most || low != least)
            fail_msg("%s: row %d is from %g to %g, not from %g to %g", text, (int)row, low, high,
                     least, most);
    }
}

/* One for each row, output and warp's columns: then the lanes of a row have combined theirs. */
static void compare_atomics(const kiln_problem *p, const instance *x, const char *text) {
    matmul v = kiln_matmul_view(p);
    int64_t wtn = x->value[1] / x->value[4], across = wtn / x->value[10];
    if (x->value[7] > 1 || across & (across - 1)) return;
    int64_t want = v.m * v.batch * x->tops * ((v.n + wtn - 1) / wtn);
    if (run.atomics != want)
        fail_msg("%s: %d atomics instead of %d", text, (int)run.atomics, (int)want);
}

static void hold_operands(const kiln_problem *p) {
    for (int i = 0; i < p->n_operands; i++) {
        size_t bytes = (size_t)kiln_operand_bytes(&p->operand[i]);
        job.operand[i] = aligned_alloc(256, (bytes + 255) / 256 * 256);
        fill(&p->operand[i], job.operand[i], 17 + (unsigned)i);
        if (i < 2) run.low[i] = job.operand[i], run.high[i] = run.low[i] + bytes;
    }
    run.out_elements = kiln_operand_elements(&p->operand[2]);
    run.hits = calloc((size_t)run.out_elements, 1);
}

static void check_instance(const instance *x, const char *sizes, bool late) {
    char text[256];
    snprintf(text, sizeof text, "matmul %s type=%s out=%s ta=%d tb=%d%s", sizes,
             kiln_type_name(x->type), x->type == KILN_I8 ? "i32" : "f32", x->ta, x->tb,
             x->tops ? " : most[m] = max(acc); least[m] = min(acc); out = acc" : "");
    kiln_problem p;
    kiln_error e;
    kiln_caps caps = caps_of(90);
    kiln_text why = {0};
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    kiln_schedule s = {.variant = &kiln_matmul_mma_sm80};
    memcpy(s.value, x->value, sizeof s.value);
    if (!s.variant->legal(&p, &caps, &s, &why)) fail_msg("%s: %s", text, kiln_text_get(&why));
    kiln_program program;
    assert_int_equal(s.variant->program(&p, &caps, &s, &program, &e), 0);
    hold_operands(&p);
    job.x = x;
    job.work = aligned_alloc(256, ((size_t)program.workspace_bytes + 511) / 256 * 256);
    run.late = late, run.type = x->type, run.conflicts = run.atomics = 0;
    if (x->tops) assert_string_equal(program.launch[0].entry, "clear");
    if (x->tops) clear_rows(&program.launch[0]);
    for (int i = x->tops > 0; i < program.n_launches; i++)
        run_launch(&program.launch[i], i - (x->tops > 0));
    compare(&p, text);
    if (x->tops) compare_tops(&p, text), compare_atomics(&p, x, text);
    if (run.conflicts) fail_msg("%s: %lld bank conflicts", text, (long long)run.conflicts);
    for (int i = 0; i < p.n_operands; i++) free(job.operand[i]);
    free(job.work);
    free(run.hits);
}

static void check_both(const instance *x, const char *sizes) {
    check_instance(x, sizes, true);
    check_instance(x, sizes, false);
}

static int prepare(void **state) {
    (void)state;
    stacks = malloc((size_t)THREADS_MAX * STACK);
    return stacks ? 0 : -1;
}

static int clean(void **state) {
    (void)state;
    free(stacks);
    return 0;
}

static void test_layouts(void **state) {
    (void)state;
    check_both(&nn_instance, "m=130 n=72 k=104");
    check_both(&nt_instance, "m=65 n=136 k=72");
    check_both(&tn_instance, "m=72 n=64 k=200");
    check_both(&tt_instance, "m=136 n=33 k=64");
    check_both(&nt_instance, "m=1 n=8 k=1 lda=8 ldb=8");
    check_both(&nn_instance, "m=3 n=8 k=33 batch=3 lda=40 ldb=16 ldo=24");
}

static void test_integers(void **state) {
    (void)state;
    check_both(&i8_instance, "m=70 n=68 k=400");
    check_both(&i8_small_instance, "m=33 n=66 k=132");
}

static void test_split_and_narrow(void **state) {
    (void)state;
    check_both(&split_instance, "m=66 n=68 k=300 batch=2");
    check_both(&flat_instance, "m=17 n=130 k=190");
}

static void test_row_outputs(void **state) {
    (void)state;
    check_both(&rows_instance, "m=130 n=72 k=40 batch=2");
    check_both(&rows_odd_instance, "m=70 n=104 k=40");
    check_both(&rows_split_instance, "m=66 n=68 k=144 batch=2");
    check_both(&rows_split_instance, "m=3 n=256 k=144");
}

static void test_large_tiles(void **state) {
    (void)state;
    check_both(&large_instance, "m=128 n=256 k=136");
    check_both(&twin_instance, "m=136 n=136 k=264");
    check_both(&large_tt_instance, "m=264 n=40 k=96");
}

/* ---- compiling for GPUs that are not here */

/* The number before `words` in a compiler's log, -1 when they are not there. */
static int number_before(const char *log, const char *words) {
    const char *at = strstr(log, words);
    if (!at) return -1;
    while (at > log && at[-1] != ',' && at[-1] != '\n') at--;
    return atoi(at);
}

/* Compiles one schedule; false when NVRTC is not installed. */
static bool compile(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                    bool start) {
    kiln_text source = {0}, log = {0}, words = {0};
    kiln_blob blob = {0};
    kiln_error e = {0};
    char suffix[1][20];
    kiln_schedule_print(s, &words);
    assert_int_equal(kiln_emit_unit(p, caps, s, 1, suffix, &source, &e), 0);
    kiln_compile_request request = {.source = kiln_text_get(&source)};
    int rc = kiln_target_find("cuda")->compile(caps, &request, &blob, NULL, &log, &e);
    if (rc && rc != KILN_NO_DEVICE)
        fail_msg("%s for %s: %s", kiln_text_get(&words), caps->arch, e.text);
    if (!rc) assert_true(blob.size > 1000);
    if (!rc && start && number_before(kiln_text_get(&log), "bytes spill stores") != 0)
        fail_msg("%s for %s spills or says nothing of spills", kiln_text_get(&words), caps->arch);
    free(blob.data);
    kiln_text_free(&source);
    kiln_text_free(&log);
    kiln_text_free(&words);
    return !rc;
}

static kiln_schedule any_legal(const kiln_problem *p, const kiln_caps *caps, uint64_t seed) {
    kiln_space space = {.variant = &kiln_matmul_mma_sm80};
    kiln_matmul_mma_sm80_generator.space(p, caps, &space);
    uint64_t size = (uint64_t)kiln_space_size(&space);
    for (uint64_t i = 0; i < 20000; i++) {
        kiln_schedule s = kiln_space_at(&space, (int64_t)(kiln_random64(seed, i) % size));
        if (s.variant->legal(p, caps, &s, NULL)) return s;
    }
    fail_msg("no legal schedule found");
    return kiln_variant_default(&kiln_matmul_mma_sm80);
}

static void test_compiles_without_spills(void **state) {
    static const char *const problems[] = {
        "matmul m=4096 n=4096 k=4096 type=bf16",
        "matmul m=4096 n=4096 k=4096 type=bf16 ta=1 tb=1 out=f32",
        "matmul m=4096 n=4096 k=4096 type=f16 ta=1 : out = gelu(acc + bias[n]) + res[m,n]",
        ("matmul m=4096 n=4096 k=4096 type=bf16 out=e4m3 inv=f32 tb=1 : amax[m] = max(abs(acc)); "
         "out = acc * inv[m]"),
        ("matmul m=64 n=512 k=8192 a=i8 b=i8 tb=1 : least[m] = min(acc); most[m] = max(acc); out = "
         "acc"),
        ("matmul m=512 n=512 k=4096 type=f16 tb=1 pre=f32 : pre[m,n] = acc * scale[m]; out = "
         "relu(acc)"),
        "matmul m=4096 n=4096 k=4096 a=i8 b=i8 tb=1",
        "matmul m=100 n=101 k=102 a=i8 b=i8 tb=1 lda=104 ldb=104 out=bf16 : out = acc * scale[m]",
        "matmul m=16 n=4096 k=4100 type=bf16 tb=1",
    };
    (void)state;
    int seed = 5;
    print_message("seed %d\n", seed);
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++)
        for (int arch = 80; arch <= 90; arch += 10) {
            kiln_problem p;
            kiln_error e;
            kiln_caps caps = caps_of(arch);
            if (kiln_problem_parse(&p, problems[i], &e)) fail_msg("%s: %s", problems[i], e.text);
            kiln_schedule start = kiln_matmul_mma_sm80_generator.start(&p, &caps);
            kiln_schedule other = any_legal(&p, &caps, (uint64_t)seed + i);
            if (!start.variant->legal(&p, &caps, &start, NULL))
                fail_msg("%s: illegal start", problems[i]);
            if (!compile(&p, &caps, &start, true)) {
                print_message("SKIPPED: NVRTC is not installed, nothing was compiled for sm_%d\n",
                              arch);
                skip();
            }
            if (arch == 90) compile(&p, &caps, &other, false);
        }
}

/* Every illegal point says why; there is enough to search and not too much. */
static void check_space(const char *text, const kiln_caps *caps) {
    kiln_problem p;
    kiln_error e;
    int64_t legal = 0, silent = 0;
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    kiln_space space = {.variant = &kiln_matmul_mma_sm80};
    kiln_matmul_mma_sm80_generator.space(&p, caps, &space);
    for (int64_t i = 0; i < kiln_space_size(&space); i++) {
        kiln_text why = {0};
        kiln_schedule s = kiln_space_at(&space, i);
        bool ok = s.variant->legal(&p, caps, &s, &why);
        legal += ok;
        silent += !ok && !why.size;
        kiln_text_free(&why);
    }
    if (legal < 200 || legal > 2000) fail_msg("%s: %d legal points", text, (int)legal);
    assert_int_equal(silent, 0);
}

static void test_space_and_reasons(void **state) {
    (void)state;
    kiln_problem p;
    kiln_error e;
    kiln_caps caps = caps_of(90);
    check_space("matmul m=4096 n=4096 k=4096 type=bf16", &caps);
    check_space("matmul m=1024 n=1024 k=1024 type=f16 ta=1 tb=1", &caps);
    check_space("matmul m=16 n=4096 k=4096 type=bf16 tb=1", &caps);
    check_space("matmul m=4096 n=100 k=512 a=i8 b=i8 tb=1", &caps);
    assert_int_equal(kiln_problem_parse(&p, "matmul m=64 n=64 k=99 type=bf16", &e), 0);
    kiln_text why = {0};
    assert_false(kiln_matmul_mma_sm80_generator.applies(&p, &caps, &why)); /* simt's */
    assert_non_null(strstr(kiln_text_get(&why), "198"));
    kiln_text_free(&why);
    caps.arch_number = 75;
    assert_false(kiln_matmul_mma_sm80_generator.applies(&p, &caps, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),           cmocka_unit_test(test_integers),
        cmocka_unit_test(test_split_and_narrow),  cmocka_unit_test(test_row_outputs),
        cmocka_unit_test(test_large_tiles),
        cmocka_unit_test(test_space_and_reasons), cmocka_unit_test(test_compiles_without_spills),
    };
    return cmocka_run_group_tests(tests, prepare, clean);
}

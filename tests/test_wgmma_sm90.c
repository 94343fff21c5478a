/* wgmma_sm90 without a GPU.
 *
 * The whole kernel text is compiled as C and runs on the machine of hopper_emulated.h: blocks and
 * clusters of coroutines, with TMA, mbarriers and wgmma as asynchronous as the hardware allows.
 * Operands are small integers, so that every sum is exact and results must be equal. Each problem
 * runs at several paces of the asynchronous units and with several numbers of resident clusters.
 * KILN_TEST_SEED=n repeats a run, KILN_TEST_TRIALS=n makes n instead of
 * three of each problem. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"
#include "targets/target.h"
#include "tests/hopper_emulated.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

/* ---- what an instance needs around it */

enum { GUARD = 512, POISON = 0xff };

typedef struct memory {
    u8 *begin, *data; /* data: GUARD bytes behind begin */
    i64 bytes;
} memory;

typedef struct knob_value {
    const char *name;
    int value;
} knob_value;

typedef struct instance {
    void (*body)(void), (*reduce)(void); /* reduce: of split schedules */
    kiln_type a, b, out;
    int ta, tb, fast, ints, tops, rolled, matrices, staged, beside, overlaps;
    knob_value knob[KILN_KNOBS_MAX];
} instance;

static struct {
    const kiln_arg *arg; /* of the launch that runs, behind the tensor maps */
    tensor map[3];
    memory operand[5], workspace;
    u8 *work, *hits;
    bool overlaps; /* columns may be stored twice */
} job;

/* What the statements add to the sum at a place. */
static int place_value(i64 batch, i64 row, i64 col) {
    return (int)((batch * 5 + row * 3 + col) % 11);
}

static float top_of(int kind, float a, float b) { return kind ? fminf(a, b) : fmaxf(a, b); }

/* Maxima (kind 0) or minima of each n adjacent lanes, which all must take part. */
static __attribute__((unused)) float emulate_group(int kind, float x, int n) {
    if (n < 1 || n > LANES || n & (n - 1)) broken("%d lanes combine", n);
    for (int lanes = n / 2; lanes; lanes /= 2) {
        u32 word;
        float other;
        memcpy(&word, &x, 4);
        word = emulate_exchange(word, lanes);
        memcpy(&other, &word, 4);
        x = top_of(kind, x, other);
    }
    return x;
}

static __attribute__((unused)) void emulate_atomic(int kind, float *to, float x, bool inside) {
    if (!inside || fabsf(x) > 1e30f) broken("a maximum of no row, or of nothing");
    *to = top_of(kind, *to, x);
}

#define FUNC static inline __attribute__((unused))
#define THREAD(d) ((d) == 0 ? run.now->index : 0)
#define BLOCK(d) ((d) == 0 ? run.now->block->index : 0)
#define BLOCKS(d) ((d) == 0 ? (int)run.set.launch->grid[0] : 1)
#define UNROLL
#define UNROLL_N(n)
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define STORAGE(T) CAT(storage_, T)
#define GLOBAL
/* results that leave in pieces, through shared memory */
#define LEAVES_IN_PIECES_bf16 1
#define LEAVES_IN_PIECES_f16 1
#define LEAVES_IN_PIECES_f32 1
#define LEAVES_IN_PIECES_e4m3 0
#define LEAVES_IN_PIECES_e5m2 0
#define LEAVES_IN_PIECES_i8 0
#define LEAVES_IN_PIECES_i32 0
typedef u16 storage_bf16, storage_f16;
typedef u8 storage_e4m3, storage_e5m2;
typedef int8_t storage_i8;
typedef int32_t storage_i32;
typedef float storage_f32, storage_tf32;
#define KILN_TYPE_bf16 KILN_BF16
#define KILN_TYPE_f16 KILN_F16
#define KILN_TYPE_e4m3 KILN_E4M3
#define KILN_TYPE_e5m2 KILN_E5M2
#define KILN_TYPE_i8 KILN_I8
#define KILN_TYPE_i32 KILN_I32
#define KILN_TYPE_f32 KILN_F32
#define KILN_TYPE_tf32 KILN_TF32
#define __align__(bytes) _Alignas(bytes)
static inline int min(int a, int b) { return a < b ? a : b; }
static inline __attribute__((unused)) int max(int a, int b) { return a > b ? a : b; }

/* ---- instances: schedules */

#define NAME(x) coop_##x
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) pingpong_##x
#define TM 64
#define TN 16
#define PINGPONG 1
#define STAGES 4
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) three_##x
#define TM 192
#define TN 24
#define CONSUMERS 3
#define STAGES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) one_##x
#define TM 64
#define TN 8
#define CONSUMERS 1
#define STORE 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) deep_##x /* two blocks of 64 rows a consumer, two lines of k a slot */
#define TM 256
#define TN 16
#define TK 128
#define STAGES 2
#define STORE 4
#include "tests/wgmma_sm90_emulated.h"
/* ---- clusters */
#define NAME(x) tall_##x
#define CLUSTER_M 2
#define TN 16
#define EVICT 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) wide_##x
#define CLUSTER_N 2
#define TN 8
#define EVICT 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tall_turns_##x /* the shared tile does not fall into parts */
#define CLUSTER_M 2
#define TN 24
#define STAGES 3
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) square_turns_##x
#define CLUSTER_M 2
#define CLUSTER_N 2
#define TM 192
#define TN 24
#define CONSUMERS 3
#define STAGES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) across_turns_##x
#define SWAP 1
#define CLUSTER_M 2
#define TM 16
#define TN 64
#define CONSUMERS 1
#define TRANSPOSE_B 0
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) square_##x
#define CLUSTER_M 2
#define CLUSTER_N 2
#define PINGPONG 1
#define TM 64
#define TN 32
#include "tests/wgmma_sm90_emulated.h"
/* ---- swapped */
#define NAME(x) swap_##x
#define SWAP 1
#define TM 16
#define TN 128
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) swap_flat_##x
#define SWAP 1
#define TM 16
#define TN 64
#define CONSUMERS 1
#define CLUSTER_N 2
#define TRANSPOSE_B 0
#define STORE 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) swap_stream_##x
#define SWAP 1
#define STREAM 1
#define PINGPONG 1
#define TM 32
#define TN 64
#define CLUSTER_M 2
#include "tests/wgmma_sm90_emulated.h"
/* ---- shared tiles */
#define NAME(x) stream_##x
#define STREAM 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) stream_more_##x
#define STREAM 2
#define CLUSTER_M 2
#define TN 16
#define ORDER 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) stream_tall_##x
#define STREAM 1
#define CLUSTER_M 2
#define TN 16
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) stream_pingpong_##x
#define STREAM 1
#define PINGPONG 1
#define TM 64
#define TN 16
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) stream_tma_##x
#define STREAM 1
#define TMA_STORE 1
#define CLUSTER_N 2
#define ORDER 1
#include "tests/wgmma_sm90_emulated.h"
/* ---- k in two halves, of a block each */
#define NAME(x) halves_##x
#define CLUSTER_K 2
#define TM 256
#define TN 24
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) halves_tma_##x
#define CLUSTER_K 2
#define TMA_STORE 1
#define TN 64
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) halves_swap_##x
#define CLUSTER_K 2
#define SWAP 1
#define TM 16
#define TN 128
#include "tests/wgmma_sm90_emulated.h"
/* ---- k in parts */
#define NAME(x) split_##x
#define SPLIT 3
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_pingpong_##x
#define SPLIT 2
#define PINGPONG 1
#define TM 64
#define TN 24
#define STORE 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_tall_##x
#define SPLIT 9
#define CLUSTER_M 2
#define TN 16
#define ORDER 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_packed_##x /* rows of odd lengths */
#define SPLIT 17
#define TM 64
#define TN 40
#define CONSUMERS 1
#define TRANSPOSE_B 0
#define PACK_A 1
#define PACK_B 1
#define STORE 1
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_swap_##x
#define SPLIT 4
#define SWAP 1
#define TM 24
#define TN 128
#define CLUSTER_M 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_turns_##x
#define SPLIT 33
#define SWAP 1
#define PINGPONG 1
#define TM 8
#define TN 128
#define STORE 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_i8_##x
#define SPLIT 5
#define TA i8
#define TO i32
#define ACC_INT 1
#define TM 256
#define TN 16
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) split_fp8_##x
#define SPLIT 2
#define TA e4m3
#define EIGHT_BIT_FLOAT 1
#include "tests/wgmma_sm90_emulated.h"
/* ---- orders */
#define NAME(x) columns_##x
#define TM 64
#define TN 8
#define CONSUMERS 1
#define ORDER 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) hilbert_##x
#define TM 64
#define TN 8
#define CONSUMERS 1
#define ORDER 2
#define GROUP 4
#include "tests/wgmma_sm90_emulated.h"
/* ---- stores from registers, as matrices are read beside them */
#define NAME(x) registers_##x
#define MATRICES 1
#define TN 40
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) registers_deep_##x
#define MATRICES 1
#define TM 256
#define TN 16
#define STAGES 4
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
/* ---- copies of staged pieces */
#define NAME(x) copy_##x
#define PINGPONG 1
#define TM 64
#define TN 112
#define TO f16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) copy_tall_##x
#define CLUSTER_M 2
#define TM 256
#define TN 48
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
/* ---- results that leave beside the next item's products: an odd number of pieces, an even one */
#define NAME(x) beside_##x
#define TN 72
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) beside_tma_##x
#define TN 72
#define TMA_STORE 1
#define STORE 1
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) beside_three_##x
#define TM 192
#define TN 32
#define CONSUMERS 3
#define CLUSTER_M 2
#define TMA_STORE 1
#define STORE 1
#define TO f16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
/* ---- stores by TMA */
#define NAME(x) tma_##x
#define TMA_STORE 1
#define TN 64
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tma_wide_##x
#define TMA_STORE 1
#define PINGPONG 1
#define TM 64
#define TN 64
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tma_overlap_##x /* a width of no whole number of pieces */
#define TMA_STORE 1
#define PINGPONG 1
#define TM 64
#define TN 72
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tma_narrow_##x /* pieces of 64 bytes */
#define TMA_STORE 1
#define TN 96
#define TA f16
#define TO f16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
/* ---- layouts */
#define NAME(x) nn_##x
#define TRANSPOSE_B 0
#define TN 64
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tn_##x
#define TA f16
#define TRANSPOSE_A 1
#define TRANSPOSE_B 0
#define CLUSTER_M 2
#define TN 128
#define TK 128
#define STAGES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tt_##x
#define TRANSPOSE_A 1
#define CLUSTER_N 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) packed_##x
#define TRANSPOSE_A 1
#define TRANSPOSE_B 0
#define PACK_A 1
#define PACK_B 1
#define STORE 1
#define STREAM 1
#include "tests/wgmma_sm90_emulated.h"
/* ---- row outputs, by every way out */
#define NAME(x) rows_##x
#define ROW_TOPS 2
#define STORE 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rows_stream_##x
#define ROW_TOPS 2
#define STREAM 1
#define PINGPONG 1
#define TM 64
#define TN 48
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rows_swap_##x
#define ROW_TOPS 2
#define SWAP 1
#define TM 24
#define TN 128
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rows_tma_##x
#define ROW_TOPS 2
#define TMA_STORE 1
#define TN 64
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rows_split_##x
#define ROW_TOPS 2
#define SPLIT 9
#define TA i8
#define TO i32
#define ACC_INT 1
#define STORE 4
#include "tests/wgmma_sm90_emulated.h"
/* ---- long statements: a loop over pieces, reading ahead, by every way out */
#define NAME(x) rolled_##x
#define ROLLED 1
#define TN 96
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_deep_##x /* two blocks of 64 rows, columns not multiples of 32 */
#define ROLLED 1
#define TM 256
#define TN 40
#define STAGES 2
#define STORE 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_stream_##x
#define ROLLED 1
#define ROW_TOPS 2
#define STREAM 1
#define PINGPONG 1
#define TM 64
#define TN 48
#define STORE 4
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_swap_##x
#define ROLLED 1
#define SWAP 1
#define TM 40
#define TN 128
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_swap_rows_##x /* two blocks of 64 columns */
#define ROLLED 1
#define ROW_TOPS 2
#define SWAP 1
#define TM 24
#define TN 256
#define STORE 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_tma_##x
#define ROLLED 1
#define TMA_STORE 1
#define TN 128
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_tma_narrow_##x /* an odd number of pieces of 64 bytes */
#define ROLLED 1
#define TMA_STORE 1
#define TM 256
#define TN 48
#include "tests/wgmma_sm90_emulated.h"
/* ---- a matrix by way of the results' places: as many pieces as places, fewer, more of 64 bytes */
#define NAME(x) staged_##x
#define ROLLED 1
#define MATRIX_STAGED 1
#define TMA_STORE 1
#define PINGPONG 1
#define TM 64
#define TN 192
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) staged_one_##x
#define ROLLED 1
#define MATRIX_STAGED 1
#define TMA_STORE 1
#define TN 64
#define CLUSTER_M 2
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) staged_deep_##x
#define ROLLED 1
#define MATRIX_STAGED 1
#define TMA_STORE 1
#define TM 256
#define TN 96
#define TA f16
#define TO f16
#define OUT_BYTES 2
#define STAGES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) staged_stream_##x
#define ROLLED 1
#define MATRIX_STAGED 1
#define TMA_STORE 1
#define STREAM 1
#define PINGPONG 1
#define TM 128
#define TN 32
#define TO bf16
#define OUT_BYTES 2
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) rolled_tma_rows_##x
#define ROLLED 1
#define ROW_TOPS 2
#define TMA_STORE 1
#define PINGPONG 1
#define TM 128
#define TN 64
#include "tests/wgmma_sm90_emulated.h"
/* ---- types */
#define NAME(x) i8_##x
#define TA i8
#define TO i32
#define ACC_INT 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) i8_stream_##x
#define TA i8
#define TO i32
#define ACC_INT 1
#define STREAM 1
#define SWAP 1
#define TM 16
#define TN 128
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) fp8_##x
#define TA e4m3
#define TO bf16
#define OUT_BYTES 2
#define EIGHT_BIT_FLOAT 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) fp8_pingpong_##x
#define TA e5m2
#define TB e4m3
#define EIGHT_BIT_FLOAT 1
#define PINGPONG 1
#define TM 128
#define TN 16
#define STREAM 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) fp8_fast_##x
#define TA e4m3
#define TB e5m2
#define EIGHT_BIT_FLOAT 1
#define FAST 1
#include "tests/wgmma_sm90_emulated.h"
#define NAME(x) tf32_##x
#define TA tf32
#define TM 128
#include "tests/wgmma_sm90_emulated.h"

/* ---- memory with guards */

static memory hold(i64 bytes) {
    size_t all = ((size_t)bytes + 2 * GUARD + 255) / 256 * 256;
    memory m = {.begin = aligned_alloc(256, all), .bytes = bytes};
    memset(m.begin, POISON, all);
    m.data = m.begin + GUARD;
    return m;
}

static bool poisoned(const u8 *from, i64 bytes) {
    for (i64 i = 0; i < bytes; i++)
        if (from[i] != POISON) return false;
    return true;
}

static bool guarded(const memory *m) {
    return poisoned(m->begin, GUARD) && poisoned(m->data + m->bytes, GUARD);
}

/* Element (row, col); what is not an element of the matrix stays poison: NaN, -1. */
static u8 *element_at(const kiln_problem *p, int i, i64 batch, i64 row, i64 col) {
    const kiln_operand *o = &p->operand[i];
    i64 at = batch * o->batch_stride + row * o->ld + col;
    return job.operand[i].data + at * (i64)kiln_type_bytes(o->type);
}

/* Sums of 8-bit floats soon need more bits than tensor cores keep, unless the problem allows that;
 * others are exact in float. */
static void fill(const kiln_problem *p, int i, u64 seed) {
    const kiln_operand *o = &p->operand[i];
    bool eight_bit = o->type == KILN_E4M3 || o->type == KILN_E5M2;
    u64 counter = 0, span = o->type == KILN_I8 ? 256 : 9;
    i64 least = eight_bit && !kiln_matmul_view(p).fast ? 0 : -(i64)(span / 2);
    for (i64 b = 0; b < o->batch; b++)
        for (i64 r = 0; r < o->rows; r++)
            for (i64 c = 0; c < o->cols; c++)
                kiln_type_write(o->type, element_at(p, i, b, r, c),
                                (double)((i64)(kiln_random64(seed, counter++) % span) + least));
}

static void hold_operands(const kiln_problem *p, const kiln_program *program, u64 seed) {
    for (int i = 0; i < p->n_operands; i++) {
        job.operand[i] = hold(kiln_operand_bytes(&p->operand[i]));
        if (!p->operand[i].output) fill(p, i, seed + 100 + (u64)i);
    }
    job.hits = calloc((size_t)kiln_operand_elements(&p->operand[MATMUL_OUT]), 1);
    job.workspace = hold(program->workspace_bytes);
    job.work = job.workspace.data;
    memset(job.work, 0, (size_t)program->workspace_zeroed);
}

static void free_operands(const kiln_problem *p) {
    for (int i = 0; i < p->n_operands; i++) free(job.operand[i].begin);
    free(job.workspace.begin);
    free(job.hits);
}

/* ---- what the program's launches do */

/* pack.k.c has a test of its own; here a loop does what its arguments say. */
static void pack(const kiln_arg *source, i64 batch, kiln_type type, bool transpose) {
    const kiln_arg *g = source + 1;
    i64 offset = g[0].value.i, rows = g[1].value.i, cols = g[2].value.i, ld = g[3].value.i,
        stride = g[4].value.i, pitch = g[5].value.i;
    i64 element = (i64)kiln_type_bytes(type);
    const u8 *from = job.operand[source->index].data;
    for (i64 b = 0; b < batch; b++)
        for (i64 r = 0; r < rows; r++)
            for (i64 c = 0; c < pitch; c++) {
                u8 *to = job.work + offset + ((b * rows + r) * pitch + c) * element;
                i64 at = b * stride + (transpose ? c * ld + r : r * ld + c);
                memset(to, 0, (size_t)element);
                if (c < cols) memcpy(to, from + at * element, (size_t)element);
            }
}

/* `clear` has words of the dialect alone: test_matmul.c runs it. */
static void clear(const kiln_launch *l) {
    i64 rows = l->arg[l->n_args - 1].value.i;
    for (i64 i = 0; i < rows; i++) {
        ((float *)job.operand[3].data)[i] = -INFINITY;
        ((float *)job.operand[4].data)[i] = INFINITY;
    }
}

static void bind_maps(const kiln_program *program) {
    for (int i = 0; i < program->n_tensor_maps; i++) {
        const kiln_tensor_map *m = &program->tensor_map[i];
        u8 *base = m->operand == 255 ? job.work : job.operand[m->operand].data;
        job.map[i] = (tensor){.map = m, .base = base + m->offset};
    }
}

/* The bodies name the arguments by position. */
static void check_arguments(const kiln_launch *l, int maps, const kiln_arg_kind *first, int firsts,
                            int rests) {
    static const kiln_arg_kind rest[] = {KILN_ARG_I64,    KILN_ARG_I64,     KILN_ARG_I64,
                                         KILN_ARG_I64,    KILN_ARG_OPERAND, KILN_ARG_OPERAND,
                                         KILN_ARG_OPERAND};
    assert_int_equal(l->n_args, maps + firsts + rests);
    for (int i = 0; i < maps; i++) {
        assert_int_equal(l->arg[i].kind, KILN_ARG_TENSOR_MAP);
        assert_int_equal(l->arg[i].index, i);
    }
    for (int i = 0; i < firsts; i++) assert_int_equal(l->arg[maps + i].kind, first[i]);
    for (int i = 0; i < rests; i++) assert_int_equal(l->arg[maps + firsts + i].kind, rest[i]);
}

/* ---- one run */

typedef struct trial {
    u64 seed;
    int units, resident;
    pace loads, stores, products;
    forgotten forget;
} trial;

static kiln_caps caps_of(int units) {
    kiln_caps c = {.target = "cuda",
                   .kind = KILN_DEVICE_GPU,
                   .arch_number = 90,
                   .arch = "sm_90a",
                   .units = units,
                   .warp = 32,
                   .max_threads = 1024,
                   .registers_unit = 65536,
                   .threads_unit = 2048,
                   .shared_bytes = 232448,
                   .shared_unit_bytes = 233472,
                   .align_bytes = 256,
                   .cache_bytes = 50 << 20,
                   .memory_bytes = 1ll << 37,
                   .clusters = true,
                   .tensor_maps = true};
    return c;
}

static kiln_problem problem_with(const instance *x, const char *sizes, const char *statements,
                                 char text[256]) {
    kiln_problem p;
    kiln_error e;
    snprintf(text, 256, "matmul %s a=%s b=%s out=%s ta=%d tb=%d%s%s", sizes, kiln_type_name(x->a),
             kiln_type_name(x->b), kiln_type_name(x->out), x->ta, x->tb, x->fast ? " fast=1" : "",
             statements);
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s: %s", text, e.text);
    return p;
}

static kiln_problem problem_of(const instance *x, const char *sizes, char text[256]) {
    return problem_with(x, sizes,
                        x->tops       ? " : most[m] = max(acc); least[m] = min(acc); out = acc"
                        : x->matrices ? " : out = acc + one[m,n] + two[m,n]"
                        : x->staged   ? " : out = acc + one[m,n]"
                                      : "",
                        text);
}

static kiln_schedule schedule_of(const instance *x) {
    kiln_schedule s = kiln_variant_default(&kiln_matmul_wgmma_sm90);
    for (int i = 0; x->knob[i].name; i++) kiln_schedule_set(&s, x->knob[i].name, x->knob[i].value);
    return s;
}

static emulation emulation_of(const instance *x, const kiln_problem *p, const kiln_schedule *s,
                              const kiln_program *program, const trial *t) {
    bool swap = kiln_schedule_get(s, "swap");
    bool a_across = x->ta && !kiln_schedule_get(s, "pack_a");
    bool b_across = !x->tb && !kiln_schedule_get(s, "pack_b");
    return (emulation){.seed = t->seed,
                       .loads = t->loads,
                       .stores = t->stores,
                       .products = t->products,
                       .resident = t->resident,
                       .forget = t->forget,
                       .x_type = swap ? x->b : x->a,
                       .y_type = swap ? x->a : x->b,
                       .x_across = swap ? b_across : a_across,
                       .y_across = swap ? a_across : b_across,
                       .ints = x->ints,
                       .result = job.operand[MATMUL_OUT].data,
                       .hits = job.hits,
                       .result_elements = kiln_operand_elements(&p->operand[MATMUL_OUT]),
                       .work = job.work,
                       .work_bytes = program->workspace_bytes,
                       .flags_bytes = program->workspace_zeroed};
}

/* A matrix as float, dense. */
static float *dense(const kiln_problem *p, int i, i64 batch, bool transpose, i64 rows, i64 cols) {
    float *to = malloc((size_t)(rows * cols) * sizeof *to);
    for (i64 r = 0; r < rows; r++)
        for (i64 c = 0; c < cols; c++)
            to[r * cols + c] = (float)kiln_type_read(p->operand[i].type,
                                                     transpose ? element_at(p, i, batch, c, r)
                                                               : element_at(p, i, batch, r, c));
    return to;
}

/* One row of results; the first that is wrong goes to `why`. */
static bool row_right(const kiln_problem *p, i64 batch, i64 row, const float *a, const float *b,
                      char why[256]) {
    matmul v = kiln_matmul_view(p);
    float top[2] = {-INFINITY, INFINITY};
    for (i64 j = 0; j < v.n; j++) {
        float sum = 0;
        for (i64 l = 0; l < v.k; l++) sum += a[row * v.k + l] * b[j * v.k + l];
        u8 want[8];
        const u8 *got = element_at(p, MATMUL_OUT, batch, row, j);
        int hits = job.hits[(got - job.operand[MATMUL_OUT].data) / (i64)kiln_type_bytes(v.out)];
        for (int i = 0; i < 2; i++) top[i] = top_of(i, top[i], sum + place_value(batch, row, j));
        kiln_type_write(v.out, want, (double)sum + place_value(batch, row, j));
        if (hits >= 1 && hits <= 1 + job.overlaps && !memcmp(got, want, kiln_type_bytes(v.out)))
            continue;
        snprintf(why, 256, "out[%d, %d, %d] is %g, not %g, stored %d times", (int)batch, (int)row,
                 (int)j, kiln_type_read(v.out, got), kiln_type_read(v.out, want), hits);
        return false;
    }
    for (int i = 0; i < v.tops; i++) {
        float got;
        memcpy(&got, element_at(p, 3 + i, batch, row, 0), 4);
        if (got == top[i]) continue;
        snprintf(why, 256, "%s[%d, %d] is %g, not %g", p->operand[3 + i].name, (int)batch, (int)row,
                 got, top[i]);
        return false;
    }
    return true;
}

static bool results_right(const kiln_problem *p, char why[256]) {
    matmul v = kiln_matmul_view(p);
    bool right = true;
    for (i64 batch = 0; batch < v.batch && right; batch++) {
        float *a = dense(p, MATMUL_A, batch, v.ta, v.m, v.k);
        float *b = dense(p, MATMUL_B, batch, !v.tb, v.n, v.k); /* n x k */
        for (i64 i = 0; i < v.m && right; i++) right = row_right(p, batch, i, a, b, why);
        free(a);
        free(b);
    }
    return right;
}

/* Between the rows and around the memory nothing has changed; the flags are down again. */
static bool rest_untouched(const kiln_problem *p, const kiln_program *program, char why[256]) {
    matmul v = kiln_matmul_view(p);
    i64 element = (i64)kiln_type_bytes(v.out);
    snprintf(why, 256, "a gap of the output was written");
    for (i64 b = 0; b < v.batch; b++)
        for (i64 i = 0; i < v.m; i++) {
            const u8 *end = element_at(p, MATMUL_OUT, b, i, v.n);
            const u8 *all = job.operand[MATMUL_OUT].data + job.operand[MATMUL_OUT].bytes;
            i64 gap = (v.ldo - v.n) * element;
            if (!poisoned(end, gap < all - end ? gap : all - end)) return false;
        }
    snprintf(why, 256, "memory around an operand or the workspace was written");
    for (int i = 0; i < p->n_operands; i++)
        if (!guarded(&job.operand[i])) return false;
    if (!guarded(&job.workspace)) return false;
    snprintf(why, 256, "the workspace's flags are not zero again");
    for (i64 i = 0; i < program->workspace_zeroed; i++)
        if (job.work[i]) return false;
    return true;
}

/* What runs before main, main, and what runs after it. NULL, or what went wrong. */
static const char *run_launches(const instance *x, const kiln_problem *p,
                                const kiln_program *program, emulation *set) {
    static const kiln_arg_kind main_kinds[] = {KILN_ARG_I32, KILN_ARG_I32, KILN_ARG_I32,
                                               KILN_ARG_WORKSPACE},
                               reduce_kinds[] = {KILN_ARG_WORKSPACE, KILN_ARG_I32, KILN_ARG_I32};
    const char *broke = NULL;
    for (int i = 0; i < program->n_launches && !broke; i++) {
        const kiln_launch *l = &program->launch[i];
        bool is_main = !strcmp(l->entry, "main"), is_reduce = !strcmp(l->entry, "reduce");
        int maps = is_main ? program->n_tensor_maps : 0;
        if (!strcmp(l->entry, "clear")) {
            clear(l);
            continue;
        }
        if (!is_main && !is_reduce) {
            for (int j = 0; j < l->n_args; j++) {
                int o = l->arg[j].index;
                if (l->arg[j].kind == KILN_ARG_OPERAND)
                    pack(&l->arg[j], l->grid[1], p->operand[o].type,
                         o == MATMUL_A ? x->ta : !x->tb);
            }
            continue;
        }
        check_arguments(l, maps, is_main ? main_kinds : reduce_kinds, is_main ? 4 : 3,
                        is_main && x->reduce ? 2
                                             : 5 + (x->matrices ? 2
                                                    : x->staged ? 1
                                                                : x->tops));
        job.arg = l->arg + maps;
        set->launch = l, set->body = is_main ? x->body : x->reduce;
        broke = emulated_run(set);
    }
    return broke;
}

/* False, and why, when the run breaks a rule or gives a wrong result. */
static bool try(const instance *x, const kiln_problem *p, const kiln_program *program,
                const kiln_schedule *s, const trial *t, char why[2048]) {
    hold_operands(p, program, t->seed);
    job.overlaps = x->overlaps;
    bind_maps(program);
    emulation set = emulation_of(x, p, s, program, t);
    const char *broke = run_launches(x, p, program, &set);
    if (broke) snprintf(why, 2048, "%s", broke);
    bool right = !broke && results_right(p, why) && rest_untouched(p, program, why);
    free_operands(p);
    return right;
}

static u64 first_seed(void) {
    const char *given = getenv("KILN_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : 20;
}

/* Boxes come at once and are read as late as possible: what is released too early is overwritten.
 * The reverse: what is not waited for is not there. And everything at random. */
static trial trial_of(int i, int units, u64 seed) {
    static const pace paces[][3] = {{AT_ONCE, AT_LAST, AT_LAST},
                                    {AT_LAST, AT_ONCE, AT_ONCE},
                                    {AT_RANDOM, AT_RANDOM, AT_RANDOM}};
    const pace *p = paces[i % 3];
    return (trial){.seed = seed + (u64)i,
                   .units = units,
                   .resident = i % 3 == 1   ? 1
                               : i % 3 == 2 ? 2
                                            : GRID_MAX,
                   .loads = p[0],
                   .stores = p[1],
                   .products = p[2]};
}

static bool is_legal(const instance *x, const char *sizes, int units) {
    char text[256];
    kiln_problem p = problem_of(x, sizes, text);
    kiln_caps caps = caps_of(units);
    kiln_schedule s = schedule_of(x);
    return s.variant->legal(&p, &caps, &s, NULL);
}

/* Runs trials [first, end); returns how many failed, the last with `why`. */
static int count_failures(const instance *x, const char *sizes, int units, int first, int end,
                          forgotten forget, char why[2048]) {
    char text[256];
    kiln_error e;
    kiln_problem p = problem_of(x, sizes, text);
    kiln_caps caps = caps_of(units);
    kiln_schedule s = schedule_of(x);
    kiln_text reason = {0};
    kiln_program program;
    int failures = 0;
    if (!s.variant->legal(&p, &caps, &s, &reason)) fail_msg("%s: %s", text, kiln_text_get(&reason));
    assert_int_equal(s.variant->program(&p, &caps, &s, &program, &e), 0);
    for (int i = first; i < end; i++) {
        trial t = trial_of(i, units, first_seed());
        char now[2048];
        t.forget = forget;
        if (try(x, &p, &program, &s, &t, now)) continue;
        failures++;
        snprintf(why, 2048, "%s\ntrial %d, seed %llu, %d units: %.1600s", text, i,
                 (unsigned long long)t.seed, units, now);
    }
    return failures;
}

static void check_trials(const instance *x, const char *sizes, int units, int first, int n) {
    char why[2048];
    const char *trials = getenv("KILN_TEST_TRIALS");
    if (trials) n = atoi(trials);
    if (count_failures(x, sizes, units, first, first + n, NOTHING, why)) fail_msg("%s", why);
}

static void check(const instance *x, const char *sizes, int units) {
    check_trials(x, sizes, units, 0, 3);
}

/* ---- tests */

static void test_schedules(void **state) {
    (void)state;
    check(&coop_instance, "m=260 n=72 k=200", 3);
    check(&coop_instance, "m=1 n=8 k=8", 3);
    check(&pingpong_instance, "m=200 n=40 k=136 batch=2", 2);
    check(&pingpong_instance, "m=64 n=16 k=64", 2);
    check(&three_instance, "m=200 n=48 k=320", 2);
    check(&one_instance, "m=130 n=17 k=72 ldo=19", 4);
    check(&deep_instance, "m=300 n=20 k=264 ldb=272", 2);
}

static void test_clusters(void **state) {
    (void)state;
    check(&tall_instance, "m=400 n=40 k=200", 4);
    check(&wide_instance, "m=200 n=40 k=264", 4);
    check(&square_instance, "m=300 n=136 k=200", 8);
    check(&tall_turns_instance, "m=400 n=40 k=264", 4);
    check(&square_turns_instance, "m=400 n=136 k=456", 8);
    check(&across_turns_instance, "m=72 n=200 k=200", 4);
}

static void test_swapped(void **state) {
    (void)state;
    check(&swap_instance, "m=20 n=264 k=200", 2);
    check(&swap_flat_instance, "m=3 n=200 k=136 batch=2", 4);
    check(&swap_stream_instance, "m=60 n=144 k=200", 4);
}

static void test_shared_tiles(void **state) {
    (void)state;
    check(&stream_instance, "m=260 n=40 k=400", 4);
    check(&stream_instance, "m=100 n=24 k=520", 5);
    check(&stream_instance, "m=768 n=32 k=128", 5); /* a share between two others is empty */
    check(&stream_more_instance, "m=500 n=72 k=136", 6);
    check(&stream_tall_instance, "m=600 n=40 k=304", 4);
    check(&stream_pingpong_instance, "m=260 n=24 k=260 lda=264 ldb=264", 4);
    check(&stream_tma_instance, "m=260 n=152 k=200", 4);
}

static void test_parts(void **state) {
    (void)state;
    check(&split_instance, "m=260 n=40 k=400", 4);
    check(&split_instance, "m=3 n=8 k=130 lda=136 ldb=136", 6);
    check(&split_pingpong_instance, "m=200 n=46 k=264 batch=2 ldo=50", 3);
    check(&split_tall_instance, "m=300 n=40 k=520", 6);
    check(&split_packed_instance, "m=67 n=41 k=1057", 5);
    check(&split_swap_instance, "m=40 n=264 k=500 lda=504 ldb=504", 4);
    check(&split_turns_instance, "m=5 n=131 k=2100 batch=2 lda=2104 ldb=2104", 7);
    check(&split_i8_instance, "m=300 n=24 k=1200 batch=2", 4);
    check(&split_fp8_instance, "m=140 n=40 k=400", 3);
}

static void test_orders(void **state) {
    (void)state;
    check(&columns_instance, "m=200 n=56 k=64", 5);
    check(&hilbert_instance, "m=420 n=72 k=64 batch=2", 6);
}

static void test_tma_stores(void **state) {
    (void)state;
    check(&tma_instance, "m=140 n=136 k=136", 3);
    check(&tma_wide_instance, "m=150 n=100 k=136 batch=2", 3);
    check(&tma_narrow_instance, "m=140 n=104 k=72 ldo=112", 2);
    check(&tma_overlap_instance, "m=140 n=152 k=136 batch=2", 3);
    check(&tma_overlap_instance, "m=64 n=72 k=64", 1);
    check(&registers_instance, "m=260 n=72 k=200 batch=2", 3);
    check(&registers_deep_instance, "m=300 n=24 k=136", 3);
    check(&copy_instance, "m=200 n=232 k=136 batch=2 ldo=240", 3);
    check(&copy_instance, "m=3 n=8 k=64", 1);
    check(&copy_tall_instance, "m=600 n=104 k=200", 4);
}

static void test_staged_matrix(void **state) {
    (void)state;
    check(&staged_instance, "m=150 n=400 k=136 batch=2", 3);
    check(&staged_instance, "m=3 n=8 k=64", 1);
    check(&staged_one_instance, "m=500 n=136 k=200", 4);
    check(&staged_deep_instance, "m=300 n=200 k=136 batch=2", 3);
    check(&staged_stream_instance, "m=300 n=72 k=400", 5);
}

/* Items with more slots than pieces, with fewer, and with one. */
static void test_beside(void **state) {
    static const instance *const all[] = {&beside_instance, &beside_tma_instance,
                                          &beside_three_instance, &copy_tall_instance};
    (void)state;
    for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) {
        check(all[i], "m=900 n=104 k=520", 2);
        check(all[i], "m=900 n=160 k=136 batch=2", 4);
        check(all[i], "m=900 n=80 k=56", 2);
        check(all[i], "m=5 n=8 k=520", 2);
    }
}

static void test_halves(void **state) {
    (void)state;
    check(&halves_instance, "m=300 n=40 k=200", 8);
    check(&halves_instance, "m=30 n=24 k=72 batch=3", 6);
    check(&halves_tma_instance, "m=140 n=136 k=400", 12);
    check(&halves_swap_instance, "m=18 n=304 k=264", 12);
}

static void test_row_outputs(void **state) {
    (void)state;
    check(&rows_instance, "m=260 n=42 k=136 batch=2", 3);
    check(&rows_stream_instance, "m=200 n=104 k=264", 5);
    check(&rows_swap_instance, "m=40 n=200 k=136", 2);
    check(&rows_tma_instance, "m=150 n=136 k=72 batch=2", 3);
    check(&rows_split_instance, "m=140 n=40 k=1200 batch=2", 4);
    check(&rows_split_instance, "m=3 n=128 k=1200", 2);
}

static void test_rolled(void **state) {
    (void)state;
    check(&rolled_instance, "m=260 n=200 k=136 batch=2", 3);
    check(&rolled_instance, "m=3 n=8 k=64", 2);
    check(&rolled_deep_instance, "m=300 n=90 k=136", 2);
    check(&rolled_stream_instance, "m=200 n=104 k=264", 5);
    check(&rolled_swap_instance, "m=70 n=200 k=136", 2);
    check(&rolled_swap_instance, "m=18 n=136 k=64 batch=3", 2);
    check(&rolled_swap_rows_instance, "m=41 n=299 k=72", 2);
    check(&rolled_tma_instance, "m=150 n=136 k=72 batch=2", 3);
    check(&rolled_tma_narrow_instance, "m=300 n=100 k=72 batch=2", 3);
    check(&rolled_tma_rows_instance, "m=300 n=100 k=136", 3);
}

static void test_layouts(void **state) {
    (void)state;
    check(&nn_instance, "m=140 n=72 k=100 lda=104", 3);
    check(&tn_instance, "m=264 n=136 k=200", 4);
    check(&tt_instance, "m=136 n=72 k=200", 4);
    check(&packed_instance, "m=135 n=41 k=99", 3);
}

static void test_types(void **state) {
    (void)state;
    check(&i8_instance, "m=140 n=40 k=400", 3);
    check(&i8_stream_instance, "m=20 n=200 k=400", 3);
    check(&fp8_instance, "m=128 n=32 k=1536", 1);
    check(&fp8_instance, "m=140 n=40 k=400", 3);
    check(&fp8_pingpong_instance, "m=200 n=24 k=1296", 3);
    check(&fp8_fast_instance, "m=140 n=40 k=400", 3);
    check(&tf32_instance, "m=140 n=40 k=100", 3);
}

static int split_of(const instance *x) {
    kiln_schedule s = schedule_of(x);
    return kiln_schedule_get(&s, "split");
}

/* Up to 6 slots, the last of any length; one for each part, and up to twice as many more. */
static int random_depth(int tk, int split, u64 random) {
    int slots = split == 1 ? 1 + (int)(random % 6) : split + (int)(random % (u64)(2 * split));
    return slots * tk - (int)(random / 1000 % (u64)tk);
}

/* Sizes at random for every schedule; rows of operands are as long as TMA wants them. */
static void random_sizes(const instance *x, u64 seed, int i, char sizes[160]) {
    u64 r = 100 * (u64)i;
    int tm = x->knob[0].value, tn = x->knob[1].value, tk = x->knob[2].value;
    int m = 1 + (int)(kiln_random64(seed, r) % (u64)(2 * tm + tm / 2));
    int n = 1 + (int)(kiln_random64(seed, r + 1) % (u64)(3 * tn));
    int k = random_depth(tk, split_of(x), kiln_random64(seed, r + 2));
    int lda = ((x->ta ? m : k) + 15) / 16 * 16, ldb = ((x->tb ? k : n) + 15) / 16 * 16;
    n = (n + 7) / 8 * 8;
    ldb = x->tb ? ldb : (n + 15) / 16 * 16;
    snprintf(sizes, 160, "m=%d n=%d k=%d batch=%d lda=%d ldb=%d ldo=%d", m, n, k,
             1 + (int)(kiln_random64(seed, r + 3) % 2), lda, ldb, n + 8);
}

static void test_random_sizes(void **state) {
    static const instance *const all[] = {&coop_instance,
                                          &pingpong_instance,
                                          &three_instance,
                                          &one_instance,
                                          &deep_instance,
                                          &tall_instance,
                                          &wide_instance,
                                          &square_instance,
                                          &tall_turns_instance,
                                          &square_turns_instance,
                                          &across_turns_instance,
                                          &swap_instance,
                                          &swap_flat_instance,
                                          &swap_stream_instance,
                                          &stream_instance,
                                          &stream_tall_instance,
                                          &stream_tma_instance,
                                          &columns_instance,
                                          &hilbert_instance,
                                          &tma_instance,
                                          &tma_wide_instance,
                                          &tma_narrow_instance,
                                          &tma_overlap_instance,
                                          &registers_instance,
                                          &copy_instance,
                                          &copy_tall_instance,
                                          &beside_instance,
                                          &beside_tma_instance,
                                          &beside_three_instance,
                                          &nn_instance,
                                          &tn_instance,
                                          &tt_instance,
                                          &packed_instance,
                                          &i8_instance,
                                          &i8_stream_instance,
                                          &fp8_instance,
                                          &fp8_pingpong_instance,
                                          &fp8_fast_instance,
                                          &tf32_instance,
                                          &stream_pingpong_instance,
                                          &stream_more_instance,
                                          &split_instance,
                                          &split_pingpong_instance,
                                          &split_tall_instance,
                                          &split_packed_instance,
                                          &split_swap_instance,
                                          &split_turns_instance,
                                          &split_i8_instance,
                                          &split_fp8_instance,
                                          &rows_instance,
                                          &rows_stream_instance,
                                          &rows_swap_instance,
                                          &rows_tma_instance,
                                          &rows_split_instance,
                                          &rolled_instance,
                                          &rolled_deep_instance,
                                          &rolled_stream_instance,
                                          &rolled_swap_instance,
                                          &rolled_swap_rows_instance,
                                          &rolled_tma_instance,
                                          &rolled_tma_narrow_instance,
                                          &rolled_tma_rows_instance,
                                          &staged_instance,
                                          &staged_one_instance,
                                          &staged_deep_instance,
                                          &staged_stream_instance,
                                          &halves_instance,
                                          &halves_tma_instance,
                                          &halves_swap_instance};
    (void)state;
    for (int i = 0; i < (int)(sizeof all / sizeof *all); i++) {
        int units = 4 + (int)(kiln_random64(first_seed(), (u64)i) % 5), tries = 0;
        char sizes[160];
        do {
            if (++tries == 100) fail_msg("no legal sizes for instance %d", i);
            random_sizes(all[i], first_seed(), i + 100 * tries, sizes);
        } while (!is_legal(all[i], sizes, units));
        check_trials(all[i], sizes, units, i, 1);
    }
}

/* Were the machine too kind, the tests above would prove little: each kind of instruction is left
 * out once, and that must be noticed. */
static void test_omissions_are_noticed(void **state) {
    static const struct {
        forgotten what;
        const instance *x;
        const char *sizes;
        int units;
    } omission[] = {
        {FULL_WAIT, &coop_instance, "m=128 n=32 k=200", 1},
        {EMPTY_WAIT, &coop_instance, "m=128 n=32 k=400", 1},
        {EMPTY_WAIT, &tall_instance, "m=256 n=16 k=64", 2}, /* the last one, for neighbours */
        {PRODUCT_WAIT, &coop_instance, "m=128 n=32 k=200", 1},
        {PRODUCT_FENCE, &coop_instance, "m=128 n=32 k=200", 1},
        {RELEASE, &coop_instance, "m=128 n=32 k=400", 1},
        {REGISTERS, &coop_instance, "m=128 n=32 k=64", 1},
        {PREVIOUS, &coop_instance, "m=128 n=32 k=64", 1},
        {BARRIERS_READY, &coop_instance, "m=128 n=32 k=64", 1},
        {CLUSTER_SYNC, &tall_instance, "m=256 n=16 k=200", 2},
        {CLUSTER_SYNC, &halves_instance, "m=300 n=40 k=400", 8},
        {WARP_SYNC, &tma_instance, "m=128 n=64 k=64", 1},
        {WARP_SYNC, &copy_instance, "m=128 n=112 k=64", 1},
        {WARP_SYNC, &beside_instance, "m=256 n=72 k=520", 1},
        {STORES_VISIBLE, &beside_tma_instance, "m=256 n=72 k=520", 1},
        {STORES_READ, &beside_tma_instance, "m=512 n=72 k=520", 1},
        {STORES_VISIBLE, &tma_instance, "m=128 n=64 k=64", 1},
        {STORES_READ, &tma_wide_instance, "m=64 n=256 k=64", 1},
        {STORES_READ, &tma_instance, "m=128 n=64 k=64", 1},
        {STORES_READ, &staged_deep_instance, "m=256 n=96 k=64", 1},
        {READS_AWAITED, &staged_one_instance, "m=256 n=64 k=64", 2},
        {WARP_SYNC, &staged_instance, "m=64 n=192 k=64", 1},
        {GROUP_SYNC, &swap_instance, "m=16 n=128 k=64", 1},
        {GROUP_SYNC, &stream_instance, "m=128 n=32 k=520", 3},
        {FLAG_TAKE, &stream_instance, "m=128 n=32 k=520", 3},
        {FLAG_CLEAR, &stream_instance, "m=128 n=32 k=520", 3},
        {GROUP_SYNC, &split_tall_instance, "m=256 n=16 k=576", 2},
        {PREVIOUS, &split_instance, "m=128 n=32 k=192", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof omission / sizeof *omission; i++) {
        char why[2048] = "";
        int failures = count_failures(omission[i].x, omission[i].sizes, omission[i].units, 0, 6,
                                      omission[i].what, why);
        if (!failures)
            fail_msg("omission %d of %s is not noticed", (int)omission[i].what, omission[i].sizes);
        if (getenv("KILN_TEST_VERBOSE"))
            print_message("omission %d: %d of 6: %s\n", (int)omission[i].what, failures, why);
    }
}

/* ---- the space, and what is refused */

/* The start is legal, and the space has widths beside the steps of 32: those that fill the last
 * wave. */
static void test_widths(void **state) {
    static const struct {
        const char *problem, *knob;
    } wide[] = {{"matmul m=4104 n=4120 k=4168 type=bf16 tb=1", "tn"},
                {"matmul m=2048 n=28672 k=4096 type=bf16 tb=1", "tn"},
                {"matmul m=200 n=8192 k=8192 a=e4m3 b=e4m3 out=bf16 tb=1", "tm"}};
    (void)state;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        kiln_problem p;
        kiln_error e;
        kiln_caps caps = caps_of(132);
        kiln_space space;
        if (kiln_problem_parse(&p, wide[i].problem, &e)) fail_msg("%s", e.text);
        const kiln_variant_generator *g = &kiln_matmul_wgmma_sm90_generator;
        kiln_schedule start = g->start(&p, &caps);
        assert_true(g->variant->legal(&p, &caps, &start, NULL));
        g->space(&p, &caps, &space);
        int odd = 0;
        for (int k = 0; g->variant->knobs[k].name; k++)
            for (int v = 0; v < space.knob[k].n && !strcmp(g->variant->knobs[k].name, wide[i].knob);
                 v++)
                odd += space.knob[k].value[v] % 32 != 0 && space.knob[k].value[v] > 32;
        assert_true(odd > 0);
    }
}

/* Two blocks can halve k only where each finishes the part of one consumer, in a single wave. */
static void test_refused_halves(void **state) {
    static const struct {
        const char *sizes, *knob;
        int value;
        const char *sentence;
    } refused[] = {{"m=128 n=32 k=640", "stream", 1, "neither stream nor split"},
                   {"m=128 n=32 k=640", "split", 2, "neither stream nor split"},
                   {"m=128 n=32 k=640", "consumers", 1, "2 consumers that share a tile"},
                   {"m=128 n=32 k=640", "cluster_m", 2, "which no other block does"},
                   {"m=128 n=32 k=64", "group", 8, "wants two slots of k"},
                   {"m=128 n=32768 k=640", "group", 8, "a single wave"}};
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char text[256];
        kiln_problem p = problem_of(&halves_instance, refused[i].sizes, text);
        kiln_caps caps = caps_of(132);
        kiln_schedule s = schedule_of(&halves_instance);
        kiln_text why = {0};
        kiln_schedule_set(&s, refused[i].knob, refused[i].value);
        if (s.variant->legal(&p, &caps, &s, &why)) fail_msg("%s: %s", text, refused[i].knob);
        if (!strstr(kiln_text_get(&why), refused[i].sentence)) fail_msg("%s", kiln_text_get(&why));
        kiln_text_free(&why);
    }
}

/* A walk counts the tiles of a group in an int. */
static void test_refused_groups(void **state) {
    static const struct {
        const char *sizes;
        int order, group;
        bool legal;
    } walk[] = {
        {"m=128 n=67108864 k=64", 0, 1024, false}, {"m=128 n=67108864 k=64", 0, 512, true},
        {"m=128 n=67108864 k=64", 1, 1024, true},  {"m=128 n=67108864 k=64", 2, 1024, false},
        {"m=268435456 n=32 k=64", 1, 1024, false}, {"m=268435456 n=32 k=64", 1, 512, true},
        {"m=268435456 n=32 k=64", 0, 1024, true}};
    (void)state;
    for (size_t i = 0; i < sizeof walk / sizeof *walk; i++) {
        char text[256];
        kiln_problem p = problem_of(&coop_instance, walk[i].sizes, text);
        kiln_caps caps = caps_of(132);
        kiln_schedule s = schedule_of(&coop_instance);
        kiln_text why = {0};
        kiln_schedule_set(&s, "order", walk[i].order);
        kiln_schedule_set(&s, "group", walk[i].group);
        if (s.variant->legal(&p, &caps, &s, &why) != walk[i].legal)
            fail_msg("walk %d: %s", (int)i, kiln_text_get(&why));
        if (!walk[i].legal && !strstr(kiln_text_get(&why), "group=1024: times 2097152 tiles"))
            fail_msg("walk %d: %s", (int)i, kiln_text_get(&why));
        kiln_text_free(&why);
    }
}

/* So many tiles of so deep a product that their slots of k exceed 64 bits (which a run with the
 * sanitizers sees): refused without having been counted. */
/* 208 sums a thread, which streamed tiles have no registers for. */
static void test_refused_sums(void **state) {
    char text[256];
    kiln_caps caps = caps_of(132);
    kiln_problem p = problem_of(&coop_instance, "m=384 n=27648 k=5120", text);
    kiln_schedule s = schedule_of(&coop_instance);
    kiln_text why = {0};
    (void)state;
    kiln_schedule_set(&s, "tn", 208);
    kiln_schedule_set(&s, "pingpong", 1);
    kiln_schedule_set(&s, "stages", 0);
    kiln_schedule_set(&s, "store", 8);
    if (!s.variant->legal(&p, &caps, &s, &why)) fail_msg("%s", kiln_text_get(&why));
    kiln_schedule_set(&s, "stream", 1);
    assert_false(s.variant->legal(&p, &caps, &s, &why));
    assert_non_null(strstr(kiln_text_get(&why), "with 2 consumers and stream=1"));
    kiln_text_free(&why);
}

static void test_refused_depth(void **state) {
    const char *sizes = "m=268435456 n=268435456 k=268435456";
    char text[256];
    kiln_problem p = problem_of(&stream_instance, sizes, text);
    kiln_caps caps = caps_of(132);
    kiln_schedule s = schedule_of(&stream_instance);
    kiln_text why = {0};
    (void)state;
    assert_false(s.variant->legal(&p, &caps, &s, &why));
    assert_non_null(strstr(kiln_text_get(&why), "must not exceed 1073741824"));
    kiln_text_free(&why);
}

/* ---- splits that make no sense, and the launch that adds parts */

static void test_refused_splits(void **state) {
    static const struct {
        const char *sizes, *with;
        int split, value;
        const char *sentence;
    } refused[] = {
        {"m=128 n=32 k=640", "stream", 2, 1, "both cut tiles along k"},
        {"m=128 n=64 k=640", "tma_store", 2, 1, "tma_store=0"},
        {"m=128 n=32 k=640", "stream", 129, 0, "split=129 is not between 1 and 128"},
        {"m=128 n=32 k=640", "stream", 0, 0, "split=0 is not between 1 and 128"},
        {"m=128 n=32 k=640", "stream", 11, 0, "has 10 slots of 64, which leaves parts empty"},
        {"m=100000 n=100000 k=65536", "stream", 128, 0, "too many to keep"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char text[256];
        kiln_problem p = problem_of(&coop_instance, refused[i].sizes, text);
        kiln_caps caps = caps_of(132);
        kiln_schedule s = schedule_of(&coop_instance);
        kiln_text why = {0};
        kiln_schedule_set(&s, "split", refused[i].split);
        kiln_schedule_set(&s, refused[i].with, refused[i].value);
        if (s.variant->legal(&p, &caps, &s, &why)) fail_msg("%s: split %d", text, refused[i].split);
        if (!strstr(kiln_text_get(&why), refused[i].sentence)) fail_msg("%s", kiln_text_get(&why));
        kiln_text_free(&why);
    }
}

/* Small results are added by as many small blocks as there are units, one on each; large ones by
 * large blocks. Every piece has a lane, and every part its room. */
static void test_reduction(void **state) {
    static const struct {
        int m, n, split, least_blocks, least_threads;
    } shape[] = {{128, 128, 32, 128, 256}, {128, 128, 2, 128, 32}, {190, 204, 13, 264, 64},
                 {155, 45, 63, 59, 256},   {1, 1, 9, 1, 64},       {4096, 4096, 2, 10000, 256}};
    (void)state;
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
        char sizes[100], text[256];
        kiln_program program;
        kiln_error e;
        kiln_caps caps = caps_of(132);
        kiln_schedule s = schedule_of(&coop_instance);
        int64_t m = shape[i].m, n = shape[i].n;
        snprintf(sizes, sizeof sizes, "m=%d n=%d k=65536", shape[i].m, shape[i].n);
        kiln_problem p = problem_of(&coop_instance, sizes, text);
        kiln_schedule_set(&s, "split", shape[i].split);
        kiln_schedule_set(&s, "store", 1);
        assert_int_equal(s.variant->program(&p, &caps, &s, &program, &e), 0);
        const kiln_launch *l = &program.launch[program.n_launches - 1];
        i64 groups = l->arg[2].value.i, blocks = l->grid[0], threads = l->block[0];
        assert_string_equal(l->entry, "reduce");
        assert_true(l->dependent && threads <= 256 && threads % (32 * groups) == 0);
        assert_true(blocks >= shape[i].least_blocks && threads >= shape[i].least_threads);
        assert_true(blocks * groups * 32 >= m * ((n + 3) / 4));
        assert_true((blocks - 1) * groups * 32 < m * ((n + 3) / 4));
        assert_true(l->shared_bytes >= 16 * threads || threads == 32 * groups);
        assert_true(l->shared_bytes <= (u32)caps.shared_bytes);
        assert_true(blocks > 132 || 2 * l->shared_bytes + 2048 > (u32)caps.shared_unit_bytes);
        assert_true(program.workspace_bytes >= shape[i].split * m * ((n + 7) / 8 * 8) * 4);
    }
}

/* A block alone on an SM computes no faster than one: where few blocks make a small product, simt
 * was thought to be up to 35 times faster than it is, and was tried first. */
static void test_rivals(void **state) {
    static const char *const small[] = {"m=155 n=45 k=4033", "m=170 n=38 k=4266",
                                        "m=89 n=150 k=3215", "m=96 n=306 k=1238",
                                        "m=162 n=2272 k=4418"};
    (void)state;
    for (size_t i = 0; i < sizeof small / sizeof *small; i++) {
        char text[256];
        kiln_caps caps = caps_of(132);
        kiln_problem p = problem_of(&coop_instance, small[i], text);
        const kiln_generator *g = kiln_generator_of(p.family);
        kiln_schedule ours = kiln_matmul_wgmma_sm90_generator.start(&p, &caps);
        double best = kiln_matmul_wgmma_sm90_generator.estimate(&p, &caps, &ours);
        for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
            if (v == &kiln_matmul_wgmma_sm90_generator || !v->applies(&p, &caps, NULL)) continue;
            kiln_schedule s = v->start(&p, &caps);
            for (int split = 1; split <= 8; split *= 2) {
                kiln_schedule_set(&s, "split", split);
                if (v->estimate(&p, &caps, &s) < best)
                    fail_msg("%s: split=%d of %s is thought to be faster", text, split,
                             v->variant->name);
            }
        }
    }
}

/* ---- the text for the compiler */

/* The machine above pretends that statements are long; for the compiler they are. */
static kiln_problem compiled_problem(const instance *x, const char *sizes, char text[256]) {
    if (!x->rolled) return problem_of(x, sizes, text);
    return problem_with(x, sizes,
                        x->staged ? " : out = gelu(acc + bias[n]) + res[m,n]"
                        : x->tops ? " : most[m] = max(acc); least[m] = min(acc); "
                                    "h[m,n] = acc + bias[n]; out = gelu(acc) + res[m,n]"
                                  : " : h[m,n] = acc + bias[n]; out = gelu(acc) + res[m,n]",
                        text);
}

static int emit(const instance *x, const char *sizes, kiln_text *source) {
    char text[256], suffix[1][20];
    kiln_error e;
    kiln_problem p = compiled_problem(x, sizes, text);
    kiln_caps caps = caps_of(132);
    kiln_schedule s = schedule_of(x);
    return kiln_emit_unit(&p, &caps, &s, 1, suffix, source, &e);
}

/* NAME(wgmma), which the machine above replaces: shape, types, which operands lie across k. */
static void test_instruction(void **state) {
    static const struct {
        const instance *x;
        const char *shape, *end;
    } expected[] = {
        {&coop_instance, "m64n32k16.f32.bf16.bf16 {", "%16, %17, keep, 1, 1, 0, 0;"},
        {&nn_instance, "m64n64k16.f32.bf16.bf16 {", "%32, %33, keep, 1, 1, 0, 1;"},
        {&tn_instance, "m64n128k16.f32.f16.f16 {", "%64, %65, keep, 1, 1, 1, 1;"},
        {&tt_instance, "m64n32k16.f32.bf16.bf16 {", "%16, %17, keep, 1, 1, 1, 0;"},
        {&swap_flat_instance, "m64n16k16.f32.bf16.bf16 {", "%8, %9, keep, 1, 1, 1, 0;"},
        {&packed_instance, "m64n32k16.f32.bf16.bf16 {", "%16, %17, keep, 1, 1, 0, 0;"},
        {&i8_instance, "m64n32k32.s32.s8.s8 {", "%16, %17, keep;"},
        {&i8_stream_instance, "m64n16k32.s32.s8.s8 {", "%8, %9, keep;"},
        {&fp8_fast_instance, "m64n32k32.f32.e4m3.e5m2 {", "%16, %17, keep, 1, 1;"},
        {&fp8_pingpong_instance, "m64n16k32.f32.e5m2.e4m3 {", "%8, %9, keep, 1, 1;"},
        {&tf32_instance, "m64n32k8.f32.tf32.tf32 {", "%16, %17, keep, 1, 1;"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        kiln_text source = {0};
        assert_int_equal(emit(expected[i].x, "m=256 n=256 k=256", &source), 0);
        if (!strstr(kiln_text_get(&source), expected[i].shape))
            fail_msg("no wgmma %s", expected[i].shape);
        if (!strstr(kiln_text_get(&source), expected[i].end))
            fail_msg("wgmma %s does not end in %s", expected[i].shape, expected[i].end);
        kiln_text_free(&source);
    }
}

static bool ends(const char *source, const char *name, size_t n) {
    for (const char *at = strstr(source, "#undef "); at; at = strstr(at + 7, "#undef "))
        if (!strncmp(at + 7, name, n) && strchr(" \n", at[7 + n])) return true;
    return false;
}

/* What the machine above was told of results, the emitter says too. */
static void test_decisions(void **state) {
    static const instance *const some[] = {
        &coop_instance,     &copy_instance,       &copy_tall_instance,   &tma_instance,
        &tma_wide_instance, &tma_narrow_instance, &beside_instance,      &beside_tma_instance,
        &swap_instance,     &stream_tma_instance, &registers_instance,   &beside_three_instance,
        &split_instance,    &fp8_instance,        &halves_tma_instance,  &rows_tma_instance,
        &staged_instance,   &staged_one_instance, &staged_deep_instance, &staged_stream_instance};
    int beside = 0;
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        kiln_text source = {0};
        char says[2][40];
        assert_int_equal(emit(some[i], "m=256 n=256 k=256", &source), 0);
        snprintf(says[0], sizeof says[0], "#define OVERLAP %d\n", some[i]->beside);
        snprintf(says[1], sizeof says[1], "#define MATRIX_STAGED %d\n", some[i]->staged);
        for (int k = 0; k < 2; k++)
            if (!strstr(kiln_text_get(&source), says[k]))
                fail_msg("schedule %d: no %s", (int)i, says[k]);
        beside += some[i]->beside;
        kiln_text_free(&source);
    }
    assert_true(beside >= 4);
}

/* Programs share a unit, and a macro that one leaves behind is kept by the compiler where the next
 * one defines it otherwise: a launch then has more parameters than arguments. */
static void test_macros_end(void **state) {
    static const instance *const some[] = {&square_instance, &swap_stream_instance,
                                           &tma_narrow_instance, &packed_instance,
                                           &split_packed_instance};
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        kiln_text source = {0};
        int macros = 0;
        assert_int_equal(emit(some[i], "m=256 n=256 k=256", &source), 0);
        const char *program = strstr(kiln_text_get(&source), "#define NAME(x)");
        assert_non_null(program);
        for (const char *at = strstr(program, "\n#define "); at;
             at = strstr(at + 9, "\n#define ")) {
            size_t n = strcspn(at + 9, "( \t\n");
            if (!ends(at, at + 9, n)) fail_msg("%.*s outlives its program", (int)n, at + 9);
            macros++;
        }
        assert_true(macros > 60);
        kiln_text_free(&source);
    }
}

/* What C accepts, CUDA may not. Without NVRTC nothing is compiled, and the test says so. */
static void test_compiles(void **state) {
    static const instance *const some[] = {&square_instance,
                                           &swap_stream_instance,
                                           &tma_narrow_instance,
                                           &square_turns_instance,
                                           &tn_instance,
                                           &fp8_pingpong_instance,
                                           &i8_stream_instance,
                                           &packed_instance,
                                           &split_packed_instance,
                                           &split_turns_instance,
                                           &split_i8_instance,
                                           &rows_stream_instance,
                                           &rows_swap_instance,
                                           &rows_tma_instance,
                                           &rows_split_instance,
                                           &rolled_deep_instance,
                                           &rolled_stream_instance,
                                           &rolled_swap_rows_instance,
                                           &rolled_tma_instance,
                                           &rolled_tma_rows_instance,
                                           &staged_instance,
                                           &staged_deep_instance,
                                           &halves_instance,
                                           &halves_tma_instance,
                                           &halves_swap_instance};
    (void)state;
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        kiln_text source = {0}, log = {0};
        kiln_blob blob = {0};
        kiln_error e = {0};
        kiln_caps caps = caps_of(132);
        assert_int_equal(emit(some[i], "m=256 n=256 k=256", &source), 0);
        kiln_compile_request request = {.source = kiln_text_get(&source)};
        int rc = kiln_target_find("cuda")->compile(&caps, &request, &blob, NULL, &log, &e);
        kiln_text_free(&source);
        if (!rc && strstr(kiln_text_get(&log), "C75"))
            fail_msg("schedule %d: ptxas complains: %s", (int)i, kiln_text_get(&log));
        if (!rc && strstr(kiln_text_get(&log), "warning"))
            fail_msg("schedule %d: %s", (int)i, kiln_text_get(&log));
        kiln_text_free(&log);
        free(blob.data);
        if (rc == KILN_NO_DEVICE) {
            print_message("SKIPPED: NVRTC is not installed, nothing was compiled\n");
            skip();
        }
        if (rc) fail_msg("schedule %d: %s", (int)i, e.text);
    }
}

int main(void) {
    print_message("seed %llu: KILN_TEST_SEED=%llu repeats this run\n",
                  (unsigned long long)first_seed(), (unsigned long long)first_seed());
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),      cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_swapped),        cmocka_unit_test(test_shared_tiles),
        cmocka_unit_test(test_parts),          cmocka_unit_test(test_orders),
        cmocka_unit_test(test_tma_stores),     cmocka_unit_test(test_beside),
        cmocka_unit_test(test_halves),         cmocka_unit_test(test_row_outputs),
        cmocka_unit_test(test_rolled),         cmocka_unit_test(test_staged_matrix),
        cmocka_unit_test(test_layouts),        cmocka_unit_test(test_types),
        cmocka_unit_test(test_random_sizes),   cmocka_unit_test(test_omissions_are_noticed),
        cmocka_unit_test(test_widths),         cmocka_unit_test(test_refused_halves),
        cmocka_unit_test(test_refused_groups), cmocka_unit_test(test_refused_depth),
        cmocka_unit_test(test_refused_splits), cmocka_unit_test(test_reduction),
        cmocka_unit_test(test_instruction),    cmocka_unit_test(test_decisions),
        cmocka_unit_test(test_macros_end),     cmocka_unit_test(test_compiles),
        cmocka_unit_test(test_rivals),         cmocka_unit_test(test_refused_sums),
    };
    return cmocka_run_group_tests(tests, prepare_stacks, free_stacks);
}

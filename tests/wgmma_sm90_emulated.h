/* One instance of kernels/matmul/wgmma_sm90, compiled as C for the machine of hopper_emulated.h.
 * Before each inclusion: NAME and what differs from the defaults here. Leaves NAME(instance). */
#ifndef TM
#define TM 128
#endif
#ifndef TN
#define TN 32
#endif
#ifndef CONSUMERS
#define CONSUMERS 2
#endif
#ifndef PINGPONG
#define PINGPONG 0
#endif
#ifndef SWAP
#define SWAP 0
#endif
#ifndef STAGES
#define STAGES 3
#endif
#ifndef CLUSTER_M
#define CLUSTER_M 1
#endif
#ifndef CLUSTER_N
#define CLUSTER_N 1
#endif
#ifndef CLUSTER_K
#define CLUSTER_K 1
#endif
#ifndef GROUP
#define GROUP 2
#endif
#ifndef ORDER
#define ORDER 0
#endif
#ifndef STREAM
#define STREAM 0
#endif
#ifndef SPLIT
#define SPLIT 1
#endif
#ifndef TMA_STORE
#define TMA_STORE 0
#endif
#ifndef STORE
#define STORE 8
#endif
#ifndef EVICT
#define EVICT 0
#endif
#ifndef TA
#define TA bf16
#endif
#ifndef TB
#define TB TA
#endif
#ifndef TO
#define TO f32
#endif
#ifndef TK
#define TK (128 / (int)sizeof(STORAGE(TA)))
#endif
#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 1
#endif
#ifndef EIGHT_BIT_FLOAT
#define EIGHT_BIT_FLOAT 0
#endif
#ifndef FAST
#define FAST 0
#endif
#ifndef OUT_BYTES
#define OUT_BYTES 4
#endif
#ifndef PACK_A
#define PACK_A 0
#endif
#ifndef PACK_B
#define PACK_B 0
#endif
#ifndef ACC_INT
#define ACC_INT 0
#define ACC float
#else
#define ACC int
#endif
#define PLAIN 1
#ifndef ROLLED /* as if the statements were long; what they read ahead is the place itself */
#define ROLLED 0
#endif
#define OTHER_OUTPUTS ROLLED
#define MATRIX_READS ROLLED
#define ARRAY_READS 1
#ifndef MATRICES /* the statements name some, which their emulation does not read */
#define MATRICES 0
#endif
#define COPY_STORE                                                                                 \
    (!TMA_STORE && !SWAP && SPLIT == 1 && !MATRICES && CAT(LEAVES_IN_PIECES_, TO) &&               \
     STORE * OUT_BYTES >= 16 && (TN * OUT_BYTES % 64 == 0 || (TN * OUT_BYTES > 64 && !ROW_TOPS)))
#define OVERLAP                                                                                    \
    ((TMA_STORE || COPY_STORE) && OUT_BYTES == 2 && !SWAP && !PINGPONG && !STREAM && SPLIT == 1 && \
     (!EIGHT_BIT_FLOAT || FAST) && CLUSTER_K == 1 && !ROLLED && !MATRICES && !ROW_TOPS &&          \
     TM * TN / CONSUMERS / 128 <= (CONSUMERS == 3 ? 80 : 128))
#ifndef MATRIX_STAGED /* the first operand behind the output is one */
#define MATRIX_STAGED 0
#endif
#define MATRIX_LINE 64
#ifdef ROW_TOPS /* 2: of what the statements give, the maximum and the minimum of a row */
#define TOPS_PARAM , float *tops
#define TOPS_ARG , tops
#else
#define ROW_TOPS 0
#define TOPS_PARAM
#define TOPS_ARG
#endif
#define EPILOGUE_PARAMS                                                                            \
    i64 m, i64 n, i64 ldo, i64 stride_o, STORAGE(TO) * p_out, float *p_most, float *p_least
#define EPILOGUE_ARGS m, n, ldo, stride_o, p_out, p_most, p_least

/* Statements that tell where they are evaluated. */
#define FINISH (SPLIT > 1 && STORE > 4 ? 4 : STORE)
FUNC void NAME(tops_begin)(float *tops) { tops[0] = -INFINITY, tops[1] = INFINITY; }
FUNC void NAME(tops_group)(float *tops, int n) {
    tops[0] = emulate_group(0, tops[0], n), tops[1] = emulate_group(1, tops[1], n);
}
FUNC void NAME(tops_end)(EPILOGUE_PARAMS, i64 batch, i64 row, const float *tops) {
    (void)n, (void)ldo, (void)stride_o, (void)p_out;
    emulate_atomic(0, p_most + batch * m + row, tops[0], row < m);
    emulate_atomic(1, p_least + batch * m + row, tops[1], row < m);
}
FUNC void NAME(collect_top)(float *tops, double x) {
    tops[0] = fmaxf(tops[0], (float)x), tops[1] = fminf(tops[1], (float)x);
}
FUNC void NAME(finish)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum TOPS_PARAM) {
    (void)p_most, (void)p_least;
    for (int e = 0; e < FINISH; e++) {
#if ROW_TOPS
        NAME(collect_top)(tops, (double)sum[e] + place_value(batch, row, col + e));
#endif
        i64 at = batch * stride_o + row * ldo + col + e;
        emulate_result(at, row < m && col + e < n);
        kiln_type_write(CAT(KILN_TYPE_, TO), &p_out[at],
                        (double)sum[e] + place_value(batch, row, col + e));
    }
}
/* Loads ahead may be of other places than those that are finished, but only inside. */
typedef struct {
    i64 batch, row, col;
    u32 pair;
} NAME(finish_held), NAME(value_held), NAME(finish_line), NAME(value_line);
FUNC void NAME(finish_begin)(EPILOGUE_PARAMS, i64 batch, i64 row, NAME(finish_line) * line) {
    (void)n, (void)ldo, (void)stride_o, (void)p_out, (void)p_most, (void)p_least;
    if (row < 0 || row >= m) broken("reads ahead outside");
    line->batch = batch, line->row = row;
}
FUNC void NAME(finish_fetch)(EPILOGUE_PARAMS, const NAME(finish_line) * line, int col,
                             NAME(finish_held) * held) {
    (void)m, (void)ldo, (void)stride_o, (void)p_out, (void)p_most, (void)p_least;
    if (col < 0 || col + FINISH > n || col % FINISH) broken("reads ahead outside");
    held->batch = line->batch, held->row = line->row, held->col = col;
}
FUNC void NAME(finish_with)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum,
                            const NAME(finish_held) * held TOPS_PARAM) {
    if (held->batch != batch || held->row != row || held->col != col)
        broken("finishes row %lld column %lld with what was read for row %lld column %lld",
               (long long)row, (long long)col, (long long)held->row, (long long)held->col);
    NAME(finish)(EPILOGUE_ARGS, batch, row, col, sum TOPS_ARG);
}
FUNC void NAME(matrix_soon)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col) {
    (void)ldo, (void)stride_o, (void)p_out, (void)p_most, (void)p_least, (void)batch;
    if (row < 0 || row >= m || col < 0 || col >= n) broken("asks for lines outside");
}
_Static_assert(sizeof(STORAGE(TO)) == OUT_BYTES, "OUT_BYTES goes with TO");
#if TMA_STORE || COPY_STORE
FUNC void NAME(value)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum,
                      float *value TOPS_PARAM) {
    (void)ldo, (void)stride_o, (void)p_out, (void)p_most, (void)p_least;
    if (row >= m || col + 1 >= n) broken("a value outside the output");
    for (int e = 0; e < 2; e++) value[e] = (float)sum[e] + (float)place_value(batch, row, col + e);
#if ROW_TOPS
    for (int e = 0; e < 2; e++) NAME(collect_top)(tops, (double)value[e]);
#endif
}
FUNC void NAME(value_begin)(EPILOGUE_PARAMS, i64 batch, i64 row, NAME(value_line) * line) {
    NAME(finish_begin)(EPILOGUE_ARGS, batch, row, line);
}
FUNC void NAME(value_fetch)(EPILOGUE_PARAMS, const NAME(value_line) * line, int col,
                            NAME(value_held) * held) {
    (void)m, (void)ldo, (void)stride_o, (void)p_out, (void)p_most, (void)p_least;
    if (col < 0 || col + 2 > n || col % 2) broken("reads ahead outside");
    held->batch = line->batch, held->row = line->row, held->col = col;
}
#if MATRIX_STAGED
FUNC const STORAGE(TO) * NAME(matrix_at)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col) {
    (void)ldo, (void)stride_o, (void)p_out, (void)p_least;
    if (row < 0 || row >= m || col < 0 || col >= n) broken("reads a matrix outside");
    return (const STORAGE(TO) *)p_most + (batch * m + row) * n + col;
}
FUNC void NAME(value_set)(NAME(value_held) * held, u32 pair) { held->pair = pair; }
#endif
FUNC void NAME(value_with)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum,
                           float *value, const NAME(value_held) * held TOPS_PARAM) {
    if (held->batch != batch || held->row != row || held->col != col)
        broken("a value with what was read for another place");
#if MATRIX_STAGED
    u32 pair;
    memcpy(&pair, NAME(matrix_at)(EPILOGUE_ARGS, batch, row, col), 4);
    if (pair != held->pair) broken("a value with another place's matrix");
#endif
    NAME(value)(EPILOGUE_ARGS, batch, row, col, sum, value TOPS_ARG);
}
#endif

#include "kernels/matmul/wgmma_sm90/parameters.cuh"

/* ---- instruction.cuh, emulated */
#define PRIMITIVES
#define MAP_PARAM(name) const NAME(tensor_map) name
#define POOL(name) u8 *name = run.now->block->pool
#define ENTRY(threads) static void
#define SHARED_BASE(pool) ((void)(pool), (u32)SHARED_AT)
#define WGMMA_WAIT(left) emulate_wgmma_wait(left)
#define REGISTERS_LESS(n) emulate_registers(n, false)
#define REGISTERS_MORE(n) emulate_registers(n, true)
#define EVICT_NORMAL 0x1000000000000000ull
#define EVICT_FIRST 0x12f0000000000000ull
#define EVICT_LAST 0x14f0000000000000ull
typedef tensor NAME(tensor_map);
typedef struct __attribute__((may_alias, aligned(16))) {
    ACC word[4]; /* the body looks at a quad as sums */
} NAME(quad);

FUNC void NAME(barrier_init)(u32 at, int arrivals) { emulate_barrier_init(at, arrivals); }
FUNC void NAME(barriers_ready)(void) { emulate_barriers_ready(); }
FUNC void NAME(barrier_expect)(u32 at, u32 bytes) { emulate_barrier_expect(at, bytes); }
FUNC void NAME(barrier_wait)(u32 at, u32 parity) { emulate_barrier_wait(at, parity); }
FUNC void NAME(barrier_arrive)(u32 at, int rank) { emulate_barrier_arrive(at, rank); }
FUNC void NAME(map_prefetch)(const NAME(tensor_map) * map) { (void)map; }
FUNC void NAME(load_box)(const NAME(tensor_map) * map, u32 barrier, u32 to, int c0, int c1, int c2,
                         int mask, u64 policy) {
    emulate_load_box(map, barrier, to, c0, c1, c2, mask, policy);
}
FUNC void NAME(box_soon)(const NAME(tensor_map) * map, int c0, int c1, int c2) {
    (void)map, (void)c0, (void)c1, (void)c2;
}
FUNC void NAME(store_box)(const NAME(tensor_map) * map, u32 from, int c0, int c1, int c2) {
    emulate_store_box(map, from, c0, c1, c2);
}
FUNC void NAME(stores_read)(void) { emulate_stores_read(1); }
FUNC void NAME(stores_all_read)(void) { emulate_stores_read(0); }
FUNC void NAME(stores_visible)(void) { emulate_stores_visible(); }
FUNC void NAME(wgmma)(ACC *sum, u64 x, u64 y, int keep) { emulate_wgmma(sum, SUMS, x, y, keep); }
FUNC void NAME(wgmma_fence)(void) { emulate_wgmma_fence(); }
FUNC void NAME(wgmma_commit)(void) { emulate_wgmma_commit(); }
FUNC void NAME(hold)(ACC *sum, int n) { (void)sum, (void)n; }
FUNC void NAME(hold_spot)(int *x, int *y, int *batch) { (void)x, (void)y, (void)batch; }
FUNC void NAME(launch_next)(void) {}
FUNC void NAME(wait_previous)(void) { emulate_wait_previous(); }
FUNC void NAME(group_sync)(int id, int threads) { emulate_group_sync(id, threads); }
FUNC void NAME(group_arrive)(int id, int threads) { emulate_group_arrive(id, threads); }
FUNC void NAME(warp_sync)(void) { emulate_warp_sync(); }
FUNC int NAME(cluster_rank)(void) { return run.now->block->rank; }
FUNC void NAME(cluster_sync)(void) {
    emulate_cluster_arrive();
    emulate_cluster_wait();
}
FUNC void NAME(cluster_arrive)(void) { emulate_cluster_arrive(); }
FUNC void NAME(cluster_wait)(void) { emulate_cluster_wait(); }
FUNC int NAME(uniform)(int v) { return v; }
FUNC ACC NAME(exchange)(ACC v, int lanes) {
    u32 word;
    memcpy(&word, &v, 4);
    word = emulate_exchange(word, lanes);
    memcpy(&v, &word, 4);
    return v;
}
FUNC void NAME(put_matrices)(u32 at, u32 r0, u32 r1, u32 r2, u32 r3) {
    const u32 r[4] = {r0, r1, r2, r3};
    emulate_put_matrices(at, r);
}
FUNC void NAME(take_matrices)(u32 at, u32 *r) { emulate_take_matrices(at, r); }
FUNC void NAME(read_quad)(u32 to, const void *from, bool inside) {
    emulate_read_quad(to, from, inside);
}
FUNC void NAME(reads_commit)(void) { emulate_reads_commit(); }
#define READS_WAIT(left) emulate_reads_wait(left)
FUNC u32 NAME(pack)(float low, float high) {
    STORAGE(TO) two[2] = {0, 0};
    u32 r;
    kiln_type_write(CAT(KILN_TYPE_, TO), &two[0], (double)low);
    kiln_type_write(CAT(KILN_TYPE_, TO), &two[1], (double)high);
    memcpy(&r, two, 4);
    return r;
}
FUNC void NAME(put_pair)(u32 at, float a, float b) { emulate_put_pair(at, a, b); }
FUNC NAME(quad) NAME(staged_quad)(u32 at) {
    NAME(quad) q;
    memcpy(&q, shared(run.now->block, at, sizeof q, "a copy"), sizeof q);
    return q;
}
FUNC void NAME(store_quad)(STORAGE(TO) * to, NAME(quad) q) {
    const i64 first = to - (STORAGE(TO) *)job.operand[MATMUL_OUT].data;
    if (first % (16 / OUT_BYTES)) broken("16 bytes stored across their alignment");
    for (int e = 0; e < 16 / OUT_BYTES; e++) emulate_result(first + e, true);
    memcpy(to, &q, sizeof q);
}
FUNC void NAME(flag_raise)(u32 *flag) { emulate_flag_raise(flag); }
FUNC void NAME(flag_take)(u32 *flag) { emulate_flag_take(flag); }
FUNC void NAME(flag_clear)(u32 *flag) { emulate_flag_clear(flag); }
FUNC NAME(quad) NAME(partial_read)(const NAME(quad) * p) {
    emulate_workspace(p, sizeof *p);
    return *p;
}
FUNC void NAME(partial_write)(NAME(quad) * p, NAME(quad) v) {
    emulate_workspace(p, sizeof *p);
    *p = v;
}

FUNC void NAME(give)(u32 at, int rank, NAME(quad) v) { emulate_give(at, rank, &v); }

#include "kernels/matmul/wgmma_sm90/instruction.cuh"
#include "kernels/matmul/wgmma_sm90/multiply.cuh"
#include "kernels/matmul/wgmma_sm90/order.cuh"
#include "kernels/matmul/wgmma_sm90/stage.cuh"
#include "kernels/matmul/wgmma_sm90/matrix.cuh"
#include "kernels/matmul/wgmma_sm90/epilogue.cuh"
#include "kernels/matmul/wgmma_sm90/overlap.cuh"
#include "kernels/matmul/wgmma_sm90/split.cuh"
#include "kernels/matmul/wgmma_sm90/cluster.cuh"
#include "kernels/matmul/wgmma_sm90/kernel.cuh"

/* One thread of the launch, with the arguments that the program gives it. */
static void NAME(body)(void) {
    const kiln_arg *g = job.arg;
    NAME(main)
    (job.map[0], job.map[1],
#if TMA_STORE
     job.map[2],
#endif
#if SPLIT > 1
     (int)g[0].value.i, (int)g[1].value.i, (int)g[2].value.i, job.work, g[4].value.i, g[5].value.i);
#else
     (int)g[0].value.i, (int)g[1].value.i, (int)g[2].value.i, job.work, g[4].value.i, g[5].value.i,
     g[6].value.i, g[7].value.i, (void *)job.operand[MATMUL_OUT].data, (void *)job.operand[3].data,
     (void *)job.operand[4].data);
#endif
}

#if SPLIT > 1
static void NAME(reduce_body)(void) {
    const kiln_arg *g = job.arg;
    NAME(reduce)
    (job.work, (int)g[1].value.i, (int)g[2].value.i, g[3].value.i, g[4].value.i, g[5].value.i,
     g[6].value.i, (void *)job.operand[MATMUL_OUT].data, (void *)job.operand[3].data,
     (void *)job.operand[4].data);
}
#endif

static const instance NAME(instance) = {
    .body = NAME(body),
#if SPLIT > 1
    .reduce = NAME(reduce_body),
#endif
    .a = CAT(KILN_TYPE_, TA),
    .b = CAT(KILN_TYPE_, TB),
    .out = CAT(KILN_TYPE_, TO),
    .ta = TRANSPOSE_A,
    .tb = TRANSPOSE_B,
    .fast = FAST,
    .ints = ACC_INT,
    .tops = ROW_TOPS,
    .rolled = ROLLED,
    .matrices = MATRICES,
    .staged = MATRIX_STAGED,
    .beside = OVERLAP,
    .overlaps = TMA_STORE && TN * OUT_BYTES % 64 != 0,
    .knob = {{"tm", TM},
             {"tn", TN},
             {"tk", TK},
             {"consumers", CONSUMERS},
             {"pingpong", PINGPONG},
             {"swap", SWAP},
             {"stages", STAGES},
             {"cluster_m", CLUSTER_M},
             {"cluster_n", CLUSTER_N},
             {"cluster_k", CLUSTER_K},
             {"group", GROUP},
             {"order", ORDER},
             {"stream", STREAM},
             {"split", SPLIT},
             {"tma_store", TMA_STORE},
             {"store", STORE},
             {"evict", EVICT},
             {"pack_a", PACK_A},
             {"pack_b", PACK_B}},
};

#undef PRIMITIVES
#undef MAP_PARAM
#undef POOL
#undef ENTRY
#undef SHARED_BASE
#undef WGMMA_WAIT
#undef READS_WAIT
#undef REGISTERS_LESS
#undef REGISTERS_MORE
#undef EVICT_NORMAL
#undef EVICT_FIRST
#undef EVICT_LAST
#undef MAIN_PARAMS /* the body has two of them */
#undef MAIN_EPILOGUE
#undef MAIN_EPILOGUE_ARGS
#undef TILE_OF
#undef DRAIN_SOON
#undef EPILOGUE_PARAMS
#undef EPILOGUE_ARGS
#undef ROW_TOPS
#undef TOPS_PARAM
#undef TOPS_ARG
#undef NAME
#undef TM
#undef TN
#undef TK
#undef CONSUMERS
#undef PINGPONG
#undef SWAP
#undef STAGES
#undef CLUSTER_M
#undef CLUSTER_N
#undef CLUSTER_K
#undef GROUP
#undef ORDER
#undef STREAM
#undef SPLIT
#undef TMA_STORE
#undef STORE
#undef EVICT
#undef TA
#undef TB
#undef TO
#undef TRANSPOSE_A
#undef TRANSPOSE_B
#undef PACK_A
#undef PACK_B
#undef PLAIN
#undef ROLLED
#undef OTHER_OUTPUTS
#undef MATRICES
#undef COPY_STORE
#undef OVERLAP
#undef MAP_OUT
#undef MATRIX_READS
#undef ARRAY_READS
#undef MATRIX_LINE
#undef MATRIX_STAGED
#undef EIGHT_BIT_FLOAT
#undef FAST
#undef OUT_BYTES
#undef ACC
#undef ACC_INT

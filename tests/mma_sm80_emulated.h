/* One instance of kernels/matmul/mma_sm80.cuh, compiled as C for the CPU with the instructions
 * emulated by test_mma_sm80.c. Before each inclusion: NAME and what differs from the defaults here.
 * Leaves NAME(instance). */
#ifndef TM
#define TM 64
#endif
#ifndef TN
#define TN 64
#endif
#ifndef TK
#define TK 32
#endif
#ifndef WARPS_M
#define WARPS_M 2
#endif
#ifndef WARPS_N
#define WARPS_N 2
#endif
#ifndef STAGES
#define STAGES 3
#endif
#ifndef GROUP
#define GROUP 2
#endif
#ifndef SPLIT
#define SPLIT 1
#endif
#ifndef RESIDENT
#define RESIDENT 1
#endif
#ifndef COPY
#define COPY 16
#endif
#ifndef STORE
#define STORE 8
#endif
#ifndef TA
#define TA bf16
#endif
#ifndef TRANSPOSE_A
#define TRANSPOSE_A 0
#endif
#ifndef TRANSPOSE_B
#define TRANSPOSE_B 0
#endif
#ifndef ACC_INT
#define ACC_INT 0
#define ACC float
#else
#define ACC int
#endif
#ifdef ROW_TOPS /* 2: most[m] = max(acc), least[m] = min(acc) */
#define TOPS_PARAM , float *tops
#define TOPS_ARG , tops
#else
#define ROW_TOPS 0
#define TOPS_PARAM
#define TOPS_ARG
#endif
#define TB TA
#define PRIMITIVES
#define EPILOGUE_PARAMS                                                                            \
    i64 m, i64 n, i64 ldo, i64 stride_o, ACC *p_out, float *p_most, float *p_least
#define EPILOGUE_ARGS m, n, ldo, stride_o, p_out, p_most, p_least
#define POOL(name) u8 *name = emulated_pool
#define ENTRY(threads, blocks) static void
#define SHARED_BASE(pool) 0u
#define COPIES_WAIT(left)                                                                          \
    do {                                                                                           \
        emulate_copies_wait(left);                                                                 \
        block_sync();                                                                              \
    } while (0)
typedef struct __attribute__((may_alias)) {
    u32 word[4];
} NAME(quad);

FUNC void NAME(copy)(u32 to, const u8 *from, int bytes) { emulate_copy(to, from, bytes, COPY); }
FUNC void NAME(copies_end)(void) { emulate_copies_end(); }
FUNC void NAME(matrices)(u32 *r, u32 at) { emulate_matrices(r, at, false); }
FUNC void NAME(matrices_trans)(u32 *r, u32 at) { emulate_matrices(r, at, true); }
FUNC void NAME(mma)(ACC *c, const u32 *a, const u32 *b) {
#if ACC_INT
    emulate_mma_int(c, a, b);
#else
    emulate_mma_float(c, a, b);
#endif
}
FUNC void NAME(warp_barrier)(void) { warp_sync(); }
FUNC void NAME(tops_begin)(float *tops) { tops[0] = -INFINITY, tops[1] = INFINITY; }
FUNC void NAME(tops_group)(float *tops, int lanes) {
    for (int t = 0; t < 2; t++) tops[t] = emulate_group(t, tops[t], lanes);
}
FUNC void NAME(tops_end)(EPILOGUE_PARAMS, i64 batch, i64 row, const float *tops) {
    (void)n, (void)ldo, (void)stride_o, (void)p_out;
    emulate_atomic(0, p_most + batch * m + row, tops[0]);
    emulate_atomic(1, p_least + batch * m + row, tops[1]);
}
FUNC void NAME(finish)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum TOPS_PARAM) {
    (void)p_most, (void)p_least;
    for (int e = 0; e < STORE; e++) {
#if ROW_TOPS
        tops[0] = fmaxf(tops[0], (float)sum[e]), tops[1] = fminf(tops[1], (float)sum[e]);
#endif
        emulate_store(batch * stride_o + row * ldo + col + e, row < m && col + e < n);
        p_out[batch * stride_o + row * ldo + col + e] = sum[e];
    }
}

#include "kernels/matmul/mma_sm80.cuh"

/* One thread's run of launch `which`, with the arguments that the program gives it. */
static void NAME(run)(const kiln_launch *l, int which, void *const *operand, void *work) {
    const kiln_arg *g = l->arg;
    int e = which ? 1 : 8 + 3 * (SPLIT > 1);
#if SPLIT > 1
    if (which == 1)
        NAME(reduce)
        (work, g[e].value.i, g[e + 1].value.i, g[e + 2].value.i, g[e + 3].value.i, operand[2],
         operand[3], operand[4]);
    else
        NAME(main)
        (operand[0], operand[1], (int)g[2].value.i, (int)g[3].value.i, g[4].value.i, g[5].value.i,
         g[6].value.i, g[7].value.i, g[8].value.i, g[9].value.i, work);
#else
    (void)work;
    NAME(main)
    (operand[0], operand[1], (int)g[2].value.i, (int)g[3].value.i, g[4].value.i, g[5].value.i,
     g[6].value.i, g[7].value.i, g[e].value.i, g[e + 1].value.i, g[e + 2].value.i, g[e + 3].value.i,
     operand[2], operand[3], operand[4]);
#endif
}

static const instance NAME(instance) = {
    .run = NAME(run),
    .type = CAT(KILN_TYPE_, TA),
    .ta = TRANSPOSE_A,
    .tb = TRANSPOSE_B,
    .tops = ROW_TOPS,
    .value = {TM, TN, TK, WARPS_M, WARPS_N, STAGES, GROUP, SPLIT, RESIDENT, COPY, STORE},
};

#undef PRIMITIVES
#undef EPILOGUE_PARAMS
#undef EPILOGUE_ARGS
#undef ROW_TOPS
#undef TOPS_PARAM
#undef TOPS_ARG
#undef NAME
#undef TM
#undef TN
#undef TK
#undef WARPS_M
#undef WARPS_N
#undef STAGES
#undef GROUP
#undef SPLIT
#undef RESIDENT
#undef COPY
#undef STORE
#undef TA
#undef TB
#undef TRANSPOSE_A
#undef TRANSPOSE_B
#undef ACC
#undef ACC_INT

/* matmul for any device with local memory: block tile, register tile, optional split of k.
 *
 *              TN                      a thread owns RM rows x RN columns of the tile:
 *           +-------+                    rows    ty * RM + i            i < RM
 *     b  TK | bs    |                    columns (j / VO) * TX * VO + tx * VO + j % VO
 *           +-------+                  so VO columns lie together for wide stores and the
 *     TK                               threads of a row read local memory without conflicts
 *    +----+ +-------+
 *  TM| as | | acc   |   a step: TK deep tiles of a and b go through registers into local memory
 *    +----+ +-------+   (as k-major floats, or ints for i8), then TK rank-1 updates.
 *     a                 BUFFERS 2: the next tile travels while this one is multiplied.
 *
 * SPLIT > 1: block y sums its part of k into a workspace, the launch `sum` adds the parts and ends
 * the statements. GROUP rows of tiles run side by side so that they share b in the cache.
 * Row outputs: the SHARE threads of a row combine their maxima, one of them adds these to memory.
 * Tails: what lies outside reads as 0 and is not stored. VA, VB, VO > 1 need sizes and leading
 * dimensions that are multiples of them (the launch side checks). Sizes of 0: nothing is touched. */
#ifndef TM
#define TM 64     /* rows of a block's tile */
#define TN 64     /* columns */
#define TK 16     /* depth of a step */
#define RM 4      /* rows of a thread */
#define RN 4      /* columns of a thread */
#define VA 1      /* elements of one load of a */
#define VB 1      /* ... of b */
#define VO 1      /* adjacent columns finished together */
#define BUFFERS 1 /* tiles in local memory: 1 or 2 */
#define SPLIT 1   /* parts of k */
#define GROUP 8   /* rows of tiles that run side by side */
#define PAD 0     /* unused floats at the end of a local row */
#endif
#ifndef TA /* compiled alone: f32, out = acc */
#define NAME(x) alone_##x
#define TA f32 /* types of a, b and out */
#define TB f32
#define TO f32
#define TRANSPOSE_A 0 /* 1: a is stored k x m */
#define TRANSPOSE_B 0 /* 1: b is stored n x k */
#define ACC float     /* int for i8 */
#define ACC_INT 0
#define PLAIN 1       /* the statements are just out = acc */
#define ROW_TOPS 0    /* maxima of rows that statements store */
#define TOPS_ARG
#define EPILOGUE_PARAMS i64 m, i64 n, i64 ldo, i64 stride_o, GLOBAL float *RESTRICT p_out
#define EPILOGUE_ARGS m, n, ldo, stride_o, p_out
FUNC void NAME(finish)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum)
{
    WRITE_N(f32, VO, p_out, batch * stride_o + row * ldo + col, sum);
}
#endif
#define TX (TN / RN)
#define TY (TM / RM)
#define THREADS (TX * TY)
/* Threads that combine what they have of a row: adjacent ones, where that needs no barrier. */
#define SHARE ((TX & (TX - 1)) || THREADS % 32 ? 1 : TX < K_LANES ? TX : K_LANES)
#define LOADS_A (TM * TK / VA / THREADS)
#define LOADS_B (TN * TK / VB / THREADS)
#define LDA_LOCAL (TM + PAD)
#define LDB_LOCAL (TN + PAD)
#define ELEMENT ACC

/* Group e of VA elements of a tile of a: its row in the tile and its first k. */
#if TRANSPOSE_A
#define A_ROW(e) ((e) % (TM / VA) * VA)
#define A_K(e) ((e) / (TM / VA))
#define A_AT(row, kk) ((i64)(kk) * lda + (row))
#define A_LOCAL(row, kk, j) ((kk) * LDA_LOCAL + (row) + (j))
#else
#define A_ROW(e) ((e) / (TK / VA))
#define A_K(e) ((e) % (TK / VA) * VA)
#define A_AT(row, kk) ((i64)(row) * lda + (kk))
#define A_LOCAL(row, kk, j) (((kk) + (j)) * LDA_LOCAL + (row))
#endif
#if TRANSPOSE_B
#define B_COL(e) ((e) / (TK / VB))
#define B_K(e) ((e) % (TK / VB) * VB)
#define B_AT(col, kk) ((i64)(col) * ldb + (kk))
#define B_LOCAL(col, kk, j) (((kk) + (j)) * LDB_LOCAL + (col))
#else
#define B_COL(e) ((e) % (TN / VB) * VB)
#define B_K(e) ((e) / (TN / VB))
#define B_AT(col, kk) ((i64)(kk) * ldb + (col))
#define B_LOCAL(col, kk, j) ((kk) * LDB_LOCAL + (col) + (j))
#endif

/* Global memory to registers: one tile that starts at k0, nothing from k_end on. */
#define FETCH(k0)                                                                                  \
    UNROLL for (int l = 0; l < LOADS_A; l++)                                                       \
    {                                                                                              \
        const int e = t + l * THREADS;                                                             \
        const i64 row = row0 + A_ROW(e), kk = (k0) + A_K(e);                                       \
        if (row < m && kk < k_end) READ_N(TA, VA, a, A_AT(row, kk), ra[l]);                        \
        else UNROLL for (int j = 0; j < VA; j++) ra[l][j] = 0;                                     \
    }                                                                                              \
    UNROLL for (int l = 0; l < LOADS_B; l++)                                                       \
    {                                                                                              \
        const int e = t + l * THREADS;                                                             \
        const i64 col = col0 + B_COL(e), kk = (k0) + B_K(e);                                       \
        if (col < n && kk < k_end) READ_N(TB, VB, b, B_AT(col, kk), rb[l]);                        \
        else UNROLL for (int j = 0; j < VB; j++) rb[l][j] = 0;                                     \
    }

/* Registers to local memory. */
#define KEEP(buffer)                                                                               \
    UNROLL for (int l = 0; l < LOADS_A; l++) UNROLL for (int j = 0; j < VA; j++)                   \
        as[(buffer) * TK * LDA_LOCAL + A_LOCAL(A_ROW(t + l * THREADS), A_K(t + l * THREADS), j)] = \
            ra[l][j];                                                                              \
    UNROLL for (int l = 0; l < LOADS_B; l++) UNROLL for (int j = 0; j < VB; j++)                   \
        bs[(buffer) * TK * LDB_LOCAL + B_LOCAL(B_COL(t + l * THREADS), B_K(t + l * THREADS), j)] = \
            rb[l][j];

/* TK rank-1 updates from one buffer. */
#define MULTIPLY(buffer)                                                                           \
    UNROLL for (int kk = 0; kk < TK; kk++)                                                         \
    {                                                                                              \
        ELEMENT av[RM], bv[RN];                                                                    \
        UNROLL for (int i = 0; i < RM; i++)                                                        \
            av[i] = as[((buffer) * TK + kk) * LDA_LOCAL + ty * RM + i];                            \
        UNROLL for (int j = 0; j < RN; j++)                                                        \
            bv[j] = bs[((buffer) * TK + kk) * LDB_LOCAL + j / VO * TX * VO + tx * VO + j % VO];    \
        UNROLL for (int i = 0; i < RM; i++) UNROLL for (int j = 0; j < RN; j++)                    \
            acc[i][j] += av[i] * bv[j];                                                            \
    }

KERNEL(THREADS, 1, 1)
NAME(main)(EPILOGUE_PARAMS, const GLOBAL STORAGE(TA) *RESTRICT a,
           const GLOBAL STORAGE(TB) *RESTRICT b, i64 k, i64 lda, i64 ldb, i64 stride_a,
           i64 stride_b, int tiles_m, int tiles_n, i64 k_part
#if SPLIT > 1
           , GLOBAL ACC *RESTRICT parts
#endif
)
{
    LOCAL_ARRAY(ELEMENT, as, BUFFERS * TK * LDA_LOCAL);
    LOCAL_ARRAY(ELEMENT, bs, BUFFERS * TK * LDB_LOCAL);
    const int t = THREAD(0), tx = t % TX, ty = t / TX;
    const i64 batch = BLOCK(2);
    ELEMENT ra[LOADS_A][VA], rb[LOADS_B][VB];
    ACC acc[RM][RN];
    if (tiles_m > 0) { /* the same for all threads */
        const int in_group = GROUP * tiles_n, first = BLOCK(0) / in_group * GROUP;
        const int rows = tiles_m - first < GROUP ? tiles_m - first : GROUP;
        const i64 row0 = (i64)(first + BLOCK(0) % in_group % rows) * TM;
        const i64 col0 = (i64)(BLOCK(0) % in_group / rows) * TN;
        const i64 k_begin = BLOCK(1) * k_part;
        const i64 k_end = k < k_begin + k_part ? k : k_begin + k_part;
        a += batch * stride_a;
        b += batch * stride_b;
        UNROLL for (int i = 0; i < RM; i++) UNROLL for (int j = 0; j < RN; j++) acc[i][j] = 0;
        FETCH(k_begin)
#if BUFFERS == 1
        for (i64 k0 = k_begin; k0 < k_end; k0 += TK) {
            BARRIER();
            KEEP(0)
            BARRIER();
            if (k0 + TK < k_end) { FETCH(k0 + TK) }
            MULTIPLY(0)
        }
#else
        KEEP(0)
        BARRIER();
        int now = 0;
        for (i64 k0 = k_begin; k0 < k_end; k0 += TK) {
            if (k0 + TK < k_end) { FETCH(k0 + TK) }
            MULTIPLY(now)
            now ^= 1;
            KEEP(now)
            BARRIER();
        }
#endif
        UNROLL for (int i = 0; i < RM; i++)
        {
            const i64 row = row0 + ty * RM + i;
#if ROW_TOPS && SPLIT == 1
            float tops[ROW_TOPS];
            NAME(tops_begin)(tops);
#endif
            UNROLL for (int j = 0; j < RN; j += VO)
            {
                const i64 col = col0 + j / VO * TX * VO + tx * VO;
                if (row < m && col < n) {
#if SPLIT > 1
                    GLOBAL ACC *to = parts + ((BLOCK(1) * (i64)BLOCKS(2) + batch) * m + row) * n + col;
                    UNROLL for (int c = 0; c < VO; c++) to[c] = acc[i][j + c];
#else
                    ACC sum[VO];
                    UNROLL for (int c = 0; c < VO; c++) sum[c] = acc[i][j + c];
                    NAME(finish)(EPILOGUE_ARGS, batch, row, col, sum TOPS_ARG);
#endif
                }
            }
#if ROW_TOPS && SPLIT == 1
#if SHARE > 1
            NAME(tops_group)(tops, SHARE);
#endif
            if (row < m && tx % SHARE == 0) NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
        }
    }
}

#if SPLIT > 1
/* Adds the parts in order (so results repeat) and ends the statements, VO columns a thread. */
KERNEL(256, 1, 1)
NAME(sum)(EPILOGUE_PARAMS, const GLOBAL ACC *RESTRICT parts)
{
    const i64 at = (BLOCK(0) * (i64)256 + THREAD(0)) * VO, batch = BLOCK(2), size = m * n;
#if ROW_TOPS
    float tops[ROW_TOPS];
    NAME(tops_begin)(tops);
#endif
    if (at < size) {
        ACC sum[VO];
        UNROLL for (int c = 0; c < VO; c++) sum[c] = 0;
        UNROLL for (int s = 0; s < SPLIT; s++) UNROLL for (int c = 0; c < VO; c++)
            sum[c] += parts[(s * (i64)BLOCKS(2) + batch) * size + at + c];
        NAME(finish)(EPILOGUE_ARGS, batch, at / n, at % n, sum TOPS_ARG);
    }
#if ROW_TOPS
    int share = K_LANES; /* threads that surely have one row */
    while (n / VO % share) share /= 2;
#if K_LANES > 1
    NAME(tops_group)(tops, share);
#endif
    if (at < size && THREAD(0) % share == 0) NAME(tops_end)(EPILOGUE_ARGS, batch, at / n, tops);
#endif
}
#endif

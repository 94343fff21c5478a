/* matmul on a CPU through OpenCL: packed panels, one work-item a block, accumulators in registers.
 *
 *   pack:  a, b -> floats in the order in which main reads them
 *          A  [ceil(k / KC)][panel of MR rows   ][KC][MR]
 *          B  [ceil(k / KC)][panel of NR columns][KC][NR]      NR = NV * VL, zero padded
 *   main:  a work-item owns MP x NP micro-tiles of MR x NR results
 *
 *            k panel of KC            NP panels of B
 *          +------------+        +----+----+----+----+
 *       MR | A panel    |        | NR |    |    |    |  KC
 *          +------------+        +----+----+----+----+
 *       MR | A panel    |           x   micro-tile: for each of KC steps NV vectors of B,
 *          +------------+               MR broadcasts of A, MR * NV multiply-adds in registers
 *
 *          ORDER 0: an A panel stays in L1 while the B panels stream from L2; 1: the other way.
 *          Partial sums between k panels wait in PART 0: out itself (f32, plain), 1: local memory,
 *          which on a CPU is a cached scratch of the thread. The last k panel ends the statements.
 *
 * i8 is multiplied as float too: with KC <= 1023 a panel's sum stays below 2^24 and is exact; the
 * panels are added as int. Sizes of 0: nothing is touched. */
#ifndef MR
#define MR 6     /* rows of a micro-tile */
#define NV 2     /* vectors of a micro-tile's row */
#define KC 256   /* depth of a k panel, a multiple of 32 */
#define MP 16    /* A panels of a block */
#define NP 8     /* B panels of a block */
#define UK 4     /* unrolled k steps */
#define PFB 0    /* prefetch B this many steps ahead; 0: no */
#define PFC 0    /* 1: prefetch the tile of out before the k loop */
#define ORDER 0
#define PART 1
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
#define VL 16 /* floats of a vector; what follows is vector.k.c for f32 */
#define REAL CAT(float, VL)
#define ACCV REAL
#define ACCV_OF(x) (x)
#define VLOAD(T, p, i) CAT(vload, VL)(0, (p) + (i))
#define VLOAD_f32(p, i) CAT(vload, VL)(0, (p) + (i))
#define VSTORE_f32(p, i, v) CAT(vstore, VL)(v, 0, (p) + (i))
FUNC void NAME(finish)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, ACCV sum)
{
    VSTORE_f32(p_out, batch * stride_o + row * ldo + col, sum);
}
FUNC void NAME(finish_one)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum)
{
    p_out[batch * stride_o + row * ldo + col] = *sum;
}
#endif
#define NR (NV * VL)
#define TILE (MR * NR)
#define PREFETCH(p, write) __builtin_prefetch((const void *)(uintptr_t)(p), write, 3)

/* ---- packing: a k-contiguous source is transposed, the other kind copied ---- */

enum { NAME(pack_rows) = 32, NAME(pack_width) = 512 }; /* copy: k steps and elements of an item */

/* Element (panel, step) of a packed operand of `panels` panels of R elements. */
#define PANEL_AT(R, panels, k, panel, step)                                                        \
    ((step) / KC * KC * (i64)(panels) * (R) +                                                      \
     ((i64)(panel) * min((i64)KC, (k) - (step) / KC * KC) + (step) % KC) * (R))

/* The source has R adjacent elements for each k step: rows k0..k1 of panels p0..p1. */
#define PACK_COPY(name, T, R)                                                                      \
    FUNC void NAME(name)(const GLOBAL STORAGE(T) *src, i64 ld, i64 size, i64 k, i64 panels,        \
                         i64 item, GLOBAL float *to)                                               \
    {                                                                                              \
        const i64 group = NAME(pack_width) / R > 1 ? NAME(pack_width) / R : 1;                     \
        const i64 groups = (panels + group - 1) / group;                                           \
        const i64 k0 = item / groups * NAME(pack_rows), k1 = min(k, k0 + NAME(pack_rows));         \
        const i64 p0 = item % groups * group, p1 = min(panels, p0 + group);                        \
        for (i64 kk = k0; kk < k1; kk++)                                                           \
            for (i64 p = p0; p < p1; p++) {                                                        \
                const GLOBAL STORAGE(T) *s = src + kk * ld + p * R;                                \
                GLOBAL float *d = to + PANEL_AT(R, panels, k, p, kk);                              \
                if ((p + 1) * R <= size) {                                                         \
                    UNROLL for (int v = 0; v < R / VL; v++)                                        \
                        VSTORE_f32(d, v * VL, VLOAD(T, s, v * VL));                                \
                    UNROLL for (int r = R / VL * VL; r < R; r++) d[r] = (float)READ(T, s, r);      \
                } else                                                                             \
                    for (int r = 0; r < R; r++)                                                    \
                        d[r] = p * R + r < size ? (float)READ(T, s, r) : 0.0f;                     \
            }                                                                                      \
    }

/* The source has k adjacent elements for each row: one panel, one k panel. */
#define PACK_TRANSPOSE(name, T, R)                                                                 \
    FUNC void NAME(name)(const GLOBAL STORAGE(T) *src, i64 ld, i64 size, i64 k, i64 panels,        \
                         i64 item, GLOBAL float *to)                                               \
    {                                                                                              \
        const i64 p = item % panels, k0 = item / panels * KC, len = min((i64)KC, k - k0);          \
        const GLOBAL STORAGE(T) *s = src + p * R * ld + k0;                                        \
        GLOBAL float *d = to + k0 * panels * R + p * len * R;                                      \
        i64 kk = 0;                                                                                \
        if ((p + 1) * R <= size)                                                                   \
            for (; kk + VL <= len; kk += VL)                                                       \
                for (int r0 = 0; r0 < R / 4 * 4; r0 += 4) {                                        \
                    const GLOBAL STORAGE(T) *s4 = s + r0 * ld + kk;                                \
                    NAME(transpose4)(VLOAD(T, s4, 0), VLOAD(T, s4, ld), VLOAD(T, s4, 2 * ld),      \
                                     VLOAD(T, s4, 3 * ld), d + kk * R + r0, R);                    \
                }                                                                                  \
        if ((p + 1) * R <= size)                                                                   \
            for (i64 q = 0; q < kk; q++)                                                           \
                for (int r = R / 4 * 4; r < R; r++) d[q * R + r] = (float)READ(T, s, r * ld + q);  \
        for (; kk < len; kk++)                                                                     \
            for (int r = 0; r < R; r++)                                                            \
                d[kk * R + r] = p * R + r < size ? (float)READ(T, s, r * ld + kk) : 0.0f;          \
    }

/* Four rows of VL steps become VL groups of four: d[j * step ..] = a[j] b[j] c[j] e[j]. Within
 * each 128-bit lane this is two rounds of interleaving, which compilers know. */
FUNC void NAME(transpose4)(REAL a, REAL b, REAL c, REAL e, GLOBAL float *d, int step)
{
    float ta[VL], tb[VL], tc[VL], te[VL];
    CAT(vstore, VL)(a, 0, ta);
    CAT(vstore, VL)(b, 0, tb);
    CAT(vstore, VL)(c, 0, tc);
    CAT(vstore, VL)(e, 0, te);
    UNROLL for (int j = 0; j < VL; j++)
        vstore4((float4)(ta[j], tb[j], tc[j], te[j]), 0, d + j * step);
}

#if TRANSPOSE_A
PACK_COPY(pack_a, TA, MR)
#else
PACK_TRANSPOSE(pack_a, TA, MR)
#endif
#if TRANSPOSE_B
PACK_TRANSPOSE(pack_b, TB, NR)
#else
PACK_COPY(pack_b, TB, NR)
#endif

/* The first items_a work-items pack a, the rest b; batches along z. */
KERNEL(1, 1, 1)
NAME(pack)(const GLOBAL STORAGE(TA) *RESTRICT a, const GLOBAL STORAGE(TB) *RESTRICT b, i64 m, i64 n,
           i64 k, i64 lda, i64 ldb, i64 stride_a, i64 stride_b, i64 items_a, i64 offset_b,
           i64 size_a, i64 size_b, GLOBAL float *RESTRICT panels)
{
    const i64 item = BLOCK(0), batch = BLOCK(2);
    if (k == 0) return;
    if (item < items_a)
        NAME(pack_a)(a + batch * stride_a, lda, m, k, (m + MR - 1) / MR, item,
                     panels + batch * size_a);
    else
        NAME(pack_b)(b + batch * stride_b, ldb, n, k, (n + NR - 1) / NR, item - items_a,
                     panels + offset_b + batch * size_b);
}

/* ---- the micro-tile ---- */

/* Adds len steps of two panels to nothing: MR x NV vectors in registers. */
#define MICRO(acc, ap, bp, len)                                                                    \
    UNROLL_N(UK)                                                                                   \
    for (int kk = 0; kk < (len); kk++) {                                                           \
        REAL bv[NV];                                                                               \
        UNROLL for (int v = 0; v < NV; v++) {                                                      \
            bv[v] = *(const GLOBAL REAL *)((bp) + v * VL);                                         \
            if (PFB && v * VL % 16 == 0) PREFETCH((bp) + v * VL + PFB * NR, 0);                    \
        }                                                                                          \
        UNROLL for (int i = 0; i < MR; i++)                                                        \
        {                                                                                          \
            const REAL av = (REAL)((ap)[i]);                                                       \
            UNROLL for (int v = 0; v < NV; v++) acc[i][v] = fma(av, bv[v], acc[i][v]);             \
        }                                                                                          \
        (ap) += MR;                                                                                \
        (bp) += NR;                                                                                \
    }

#if ROW_TOPS
#define TOPS_WIDE , wide
#else
#define TOPS_WIDE
#endif

/* Ends a tile whose sums are in t: whole vectors where they fit, single columns at the edge. */
FUNC void NAME(finish_tile)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *t)
{
    const int rows = (int)min((i64)MR, m - row), cols = (int)min((i64)NR, n - col);
    for (int i = 0; i < rows; i++) {
        int j = 0;
#if ROW_TOPS
        REAL wide[ROW_TOPS];
        float tops[ROW_TOPS];
        NAME(tops_spread)(wide);
        NAME(tops_begin)(tops);
#endif
        for (; j + VL <= cols; j += VL)
            NAME(finish)(EPILOGUE_ARGS, batch, row + i, col + j,
                         CAT(vload, VL)(0, t + i * NR + j) TOPS_WIDE);
        for (; j < cols; j++)
            NAME(finish_one)(EPILOGUE_ARGS, batch, row + i, col + j, t + i * NR + j TOPS_ARG);
#if ROW_TOPS
        NAME(tops_gather)(tops, wide);
        NAME(tops_end)(EPILOGUE_ARGS, batch, row + i, tops);
#endif
    }
}

/* One micro-tile of one k panel. */
FUNC void NAME(tile)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const GLOBAL float *ap,
                     const GLOBAL float *bp, int len, bool first, bool last, LOCAL ACC *part)
{
    REAL acc[MR][NV];
    const bool whole = row + MR <= m && col + NR <= n;
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++) acc[i][v] = (REAL)(0.0f);
#if PFC
    if (whole)
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NR; v += 16)
            PREFETCH(p_out + batch * stride_o + (row + i) * ldo + col + v, 1);
#endif
    MICRO(acc, ap, bp, len)
#if PLAIN && !ACC_INT && PART == 0
    if (whole) {
        GLOBAL float *o = p_out + batch * stride_o + row * ldo + col;
        if (!first)
            UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
                acc[i][v] += VLOAD_f32(o, i * ldo + v * VL);
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
            VSTORE_f32(o, i * ldo + v * VL, acc[i][v]);
        return;
    }
    float t[TILE];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
        VSTORE_f32(t, i * NR + v * VL, acc[i][v]);
    for (int i = 0; i < MR && row + i < m; i++)
        for (int j = 0; j < NR && col + j < n; j++) {
            GLOBAL float *o = p_out + batch * stride_o + (row + i) * ldo + col + j;
            *o = first ? t[i * NR + j] : *o + t[i * NR + j];
        }
#else
    LOCAL ACCV *sums = (LOCAL ACCV *)part;
    ACCV sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
        sum[i][v] = ACCV_OF(acc[i][v]);
    if (!first)
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
            sum[i][v] += sums[i * NV + v];
    if (!last) {
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
            sums[i * NV + v] = sum[i][v];
        return;
    }
#if PLAIN
    if (whole) {
        UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
            NAME(finish)(EPILOGUE_ARGS, batch, row + i, col + v * VL, sum[i][v]);
        return;
    }
#endif
    ACC t[TILE];
    UNROLL for (int i = 0; i < MR; i++) UNROLL for (int v = 0; v < NV; v++)
        CAT(vstore, VL)(sum[i][v], 0, t + i * NR + v * VL);
    NAME(finish_tile)(EPILOGUE_ARGS, batch, row, col, t);
#endif
}

KERNEL(1, 1, 1)
NAME(main)(EPILOGUE_PARAMS, i64 k, i64 offset_b, i64 size_a, i64 size_b,
           const GLOBAL float *RESTRICT panels)
{
    LOCAL_ARRAY(ACCV, part, PART ? MP * NP * MR * NV : 1);
    const i64 panels_m = (m + MR - 1) / MR, panels_n = (n + NR - 1) / NR, batch = BLOCK(2);
    const i64 i0 = (i64)BLOCK(0) * MP, i1 = min(panels_m, i0 + MP);
    const i64 j0 = (i64)BLOCK(1) * NP, j1 = min(panels_n, j0 + NP);
    const GLOBAL float *a = panels + batch * size_a, *b = panels + offset_b + batch * size_b;
    for (i64 k0 = 0; k0 < k; k0 += KC) {
        const int len = (int)min((i64)KC, k - k0);
        const GLOBAL float *ak = a + k0 * panels_m * MR, *bk = b + k0 * panels_n * NR;
#if ORDER == 0
        for (i64 i = i0; i < i1; i++)
            for (i64 j = j0; j < j1; j++)
#else
        for (i64 j = j0; j < j1; j++)
            for (i64 i = i0; i < i1; i++)
#endif
                NAME(tile)(EPILOGUE_ARGS, batch, i * MR, j * NR, ak + i * len * MR, bk + j * len * NR,
                           len, k0 == 0, k0 + KC >= k,
                           (LOCAL ACC *)(part + (PART ? ((i - i0) * NP + (j - j0)) * MR * NV : 0)));
    }
}

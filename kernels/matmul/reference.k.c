/* The reference of matmul: every product summed in double, next to the sum of the products'
 * magnitudes in float, from which follows how far a correct float kernel may be.
 *
 *   spread:  a, b -> floats (exact), [panel of PA rows][k][PA] and [panel of PB columns][k][PB],
 *            zero padded: one plain layout for all types and transposes
 *   main:    TX x TY threads share a PA x PB tile, RM x (RN vectors of RW) each
 *
 *            CPU: one work-item, 8 rows x double16      GPU: 16 x 16 threads, 4 x 4 doubles each
 *
 *   rows:    with row outputs: a thread combines the maxima that the blocks left of its row
 *
 * NARROW: for sums that may be kept in few bits (the README says which and why), also how far apart
 * partial sums lie and the largest product: the unit in which such sums err. */
#ifndef RW
#define RW 1   /* doubles of a vector */
#define RM 4   /* rows of a thread */
#define RN 4   /* vectors of a thread, TX * RW columns apart */
#define TX 16
#define TY 16
#define SPREAD_THREADS 256
#define NARROW 0        /* 1: look at partial sums, too */
#define NARROW_STEP 32  /* products between two of them */
#define NARROW_WINDOW 0 /* products after which such sums start anew; 0: never */
#define NARROW_UNIT 0x1p-13
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
#define END_ARG
#define REFERENCE_PARAMS i64 m, i64 n, GLOBAL double *v_out, GLOBAL float *b_out
#define REFERENCE_ARGS m, n, v_out, b_out
FUNC void NAME(end)(REFERENCE_PARAMS, i64 batch, i64 row, i64 col, double acc, double magnitude,
                    double narrow, i64 k)
{
    v_out[(batch * m + row) * n + col] = acc;
    b_out[(batch * m + row) * n + col] = (float)(4.0 * sqrt((double)k) * 5.96e-8 * magnitude + narrow);
}
#endif
#ifndef ROW_THREADS
#define ROW_THREADS (TX * TY > 1 ? 64 : 1)
#endif
#define PA (TY * RM)
#define PB (TX * RN * RW)
#define SPREAD_STEPS 64
#if RW > 1
#define RV CAT(double, RW)
#define RF CAT(float, RW)
#define RV_OF(x) CAT(convert_double, RW)(x)
#define RF_OF(x) CAT(convert_float, RW)(x)
#define RV_PUT(v, p) CAT(vstore, RW)(v, 0, p)
#else
#define RV double
#define RF float
#define RV_OF(x) (double)(x)
#define RF_OF(x) (float)(x)
#define RV_PUT(v, p) (*(p) = (v))
#endif

/* The partial sums of a window, low to high, and the widest window; s is the sum so far. A run of
 * products that is as long as a window lies in two. */
#if NARROW
#define NARROW_SUM(s, low, high, reach, ends)                                                      \
    {                                                                                              \
        const RF now = RF_OF(s);                                                                   \
        low = fmin(low, now);                                                                      \
        high = fmax(high, now);                                                                    \
        if (ends) {                                                                                \
            reach = fmax(reach, high - low);                                                       \
            low = high = now;                                                                      \
        }                                                                                          \
    }
#define NARROW_OF(reach, largest) \
    ((RF)(NARROW_UNIT) * fmax(reach * (NARROW_WINDOW ? 2.0f : 1.0f), largest))
#endif

/* Maximum t of a row, from a block's columns: its value, then its error. */
#define PART(t, at, pb) (((t) * (i64)BLOCKS(2) * m + (at)) * panels_b + (pb)) * 2

/* Block (x, y): steps x * SPREAD_STEPS on, panel y. The first panels_a panels are a's. */
KERNEL(SPREAD_THREADS, 1, 1)
NAME(spread)(const GLOBAL STORAGE(TA) *RESTRICT a, const GLOBAL STORAGE(TB) *RESTRICT b, i64 m,
             i64 n, i64 k, i64 lda, i64 ldb, i64 stride_a, i64 stride_b, i64 panels_a,
             i64 panels_b, GLOBAL float *RESTRICT to)
{
    const i64 k0 = (i64)BLOCK(0) * SPREAD_STEPS, batch = BLOCK(2);
    const int steps = (int)(k - k0 < SPREAD_STEPS ? k - k0 : SPREAD_STEPS);
    const i64 panels = panels_a * PA + panels_b * PB;
    GLOBAL float *d = to + batch * panels * k;
    for (i64 p = BLOCK(1); p < panels_a + panels_b; p += BLOCKS(1)) {
        if (p < panels_a)
            for (int e = THREAD(0); e < steps * PA; e += SPREAD_THREADS) {
                const i64 row = p * PA + e % PA, kk = k0 + e / PA;
                const i64 at = batch * stride_a + (TRANSPOSE_A ? kk * lda + row : row * lda + kk);
                d[(p * k + kk) * PA + e % PA] = row < m ? (float)READ(TA, a, at) : 0.0f;
            }
        else
            for (int e = THREAD(0); e < steps * PB; e += SPREAD_THREADS) {
                const i64 q = p - panels_a, col = q * PB + e % PB, kk = k0 + e / PB;
                const i64 at = batch * stride_b + (TRANSPOSE_B ? col * ldb + kk : kk * ldb + col);
                d[panels_a * PA * k + (q * k + kk) * PB + e % PB] =
                    col < n ? (float)READ(TB, b, at) : 0.0f;
            }
    }
}

KERNEL(TX, TY, 1)
NAME(main)(REFERENCE_PARAMS, i64 k, i64 panels_a, i64 panels_b, const GLOBAL float *RESTRICT spread
#if ROW_TOPS
           , GLOBAL double *parts, i64 parts_at
#endif
)
{
#if ROW_TOPS
    LOCAL_ARRAY(double, shared, TX * TY * ROW_TOPS * 2);
#endif
    const i64 pa = BLOCK(0), batch = BLOCK(2);
    const int tx = THREAD(0), ty = THREAD(1);
    const GLOBAL float *s = spread + batch * (panels_a * PA + panels_b * PB) * k;
    for (i64 pb = BLOCK(1); pb < panels_b; pb += BLOCKS(1)) {
        const GLOBAL float *ap = s + pa * PA * k + ty * RM;
        const GLOBAL float *bp = s + panels_a * PA * k + pb * PB * k + tx * RW;
        RV sum[RM][RN];
        RF magnitude[RM][RN];
        UNROLL for (int i = 0; i < RM; i++) UNROLL for (int j = 0; j < RN; j++) {
            sum[i][j] = (RV)(0.0);
            magnitude[i][j] = (RF)(0.0f);
        }
#if NARROW
        RF low[RM][RN], high[RM][RN], reach[RM][RN], largest[RM][RN];
        UNROLL for (int i = 0; i < RM; i++) UNROLL for (int j = 0; j < RN; j++)
            low[i][j] = high[i][j] = reach[i][j] = largest[i][j] = (RF)(0.0f);
#endif
        for (i64 kk = 0; kk < k; kk++) {
            RV bv[RN];
            RF bm[RN];
            UNROLL for (int j = 0; j < RN; j++) {
                const RF x = *(const GLOBAL RF *)(bp + j * TX * RW);
                bv[j] = RV_OF(x);
                bm[j] = fabs(x);
            }
            UNROLL for (int i = 0; i < RM; i++) {
                const float x = ap[i];
                UNROLL for (int j = 0; j < RN; j++) {
                    sum[i][j] = fma((RV)((double)x), bv[j], sum[i][j]);
                    magnitude[i][j] = fma((RF)(fabs(x)), bm[j], magnitude[i][j]);
#if NARROW
                    largest[i][j] = fmax(largest[i][j], (RF)(fabs(x)) * bm[j]);
#endif
                }
            }
#if NARROW
            if ((kk + 1) % NARROW_STEP == 0 || kk + 1 == k) {
                const int ends = kk + 1 == k || (NARROW_WINDOW > 0 && (kk + 1) % (NARROW_WINDOW + !NARROW_WINDOW) == 0);
                UNROLL for (int i = 0; i < RM; i++) UNROLL for (int j = 0; j < RN; j++)
                    NARROW_SUM(sum[i][j], low[i][j], high[i][j], reach[i][j], ends)
            }
#endif
            ap += PA;
            bp += PB;
        }
        UNROLL for (int i = 0; i < RM; i++) { /* unrolled: sums stay in registers */
            const i64 row = pa * PA + ty * RM + i;
#if ROW_TOPS
            double tops[ROW_TOPS], errors[ROW_TOPS];
            NAME(tops_begin)(tops, errors);
#endif
            UNROLL for (int j = 0; j < RN; j++) {
                const i64 col = pb * PB + (j * TX + tx) * RW;
                double v[RW];
                double g[RW];
                double u[RW];
                RV_PUT(sum[i][j], v);
                RV_PUT(RV_OF(magnitude[i][j]), g);
#if NARROW
                RV_PUT(RV_OF(NARROW_OF(reach[i][j], largest[i][j])), u);
#else
                RV_PUT((RV)(0.0), u);
#endif
                for (int w = 0; w < RW && row < m && col + w < n; w++)
                    NAME(end)(REFERENCE_ARGS, batch, row, col + w, v[w], g[w], u[w], k END_ARG);
            }
#if ROW_TOPS
            LOCAL double *mine = shared + (ty * TX + tx) * ROW_TOPS * 2;
            BARRIER();
            for (int t = 0; t < ROW_TOPS; t++) mine[2 * t] = tops[t], mine[2 * t + 1] = errors[t];
            BARRIER();
            for (int t = 0; t < ROW_TOPS && tx == 0 && row < m; t++) {
                GLOBAL double *to = parts + parts_at + PART(t, batch * m + row, pb);
                for (int x = 1; x < TX; x++) {
                    tops[t] = NAME(top)(t, tops[t], mine[(x * ROW_TOPS + t) * 2]);
                    errors[t] = fmax(errors[t], mine[(x * ROW_TOPS + t) * 2 + 1]);
                }
                to[0] = tops[t];
                to[1] = errors[t];
            }
#endif
        }
    }
}

#if ROW_TOPS
KERNEL(ROW_THREADS, 1, 1)
NAME(rows)(REFERENCE_PARAMS, i64 panels_b, const GLOBAL double *parts, i64 parts_at)
{
    const i64 row = BLOCK(0) * (i64)ROW_THREADS + THREAD(0), at = BLOCK(2) * m + row;
    if (row < m) {
        double tops[ROW_TOPS], errors[ROW_TOPS];
        NAME(tops_begin)(tops, errors);
        for (int t = 0; t < ROW_TOPS; t++)
            for (i64 pb = 0; pb < panels_b; pb++) {
                const GLOBAL double *part = parts + parts_at + PART(t, at, pb);
                tops[t] = NAME(top)(t, tops[t], part[0]);
                errors[t] = fmax(errors[t], part[1]);
            }
        NAME(tops_end)(REFERENCE_ARGS, at, tops, errors);
    }
}
#endif

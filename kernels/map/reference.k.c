/* map, reference: the statements in double, with the bound on the error that a float kernel may
 * make (kernels/expr_bounds.h). Plain and slow on purpose.
 *
 * Elements are converted to float first, as every kernel does. With reductions a block of T
 * threads has a row: thread t takes columns t, t + T, ... and the first thread adds up what all of
 * them found. Without, threads stride over all elements.
 *
 * For an integer output, value is what must be stored, and bound how far a float kernel may be from
 * it: not at all, unless the error before rounding reaches across a tie. */
#define T 64

/* alone: out = x - sum(x) */
#ifndef PHASES
#define NAME(x) map_reference_##x
#define U 5.9604644775390625e-8
#define PHASES 2
#define BY_ROW 1
#define PARAMETERS                                                                                 \
    GLOBAL const STORAGE(bf16) *RESTRICT p_x, const i64 rows, const i64 cols,                      \
        GLOBAL double *RESTRICT v_out, GLOBAL float *RESTRICT b_out
#define EACH_FULL(X) X(_x, bf16)
#define EACH_COL(X)
#define EACH_ROW(X)
#define EACH_SCALAR(X)
#define EACH_REDUCTION_0(X) X(0, 0, 0)
#define EACH_OUT(X) X(_out, bf16)
#define EACH_ROW_OUT(X)
#define OUTS 1
#define ROW_OUTS 0
typedef struct NAME(point) {
    double x_x, o_out, oe_out, r0, re0, a0, ae0;
} NAME(point);
FUNC void NAME(phase_0)(NAME(point) *q) {
    q->a0 = q->x_x;
    q->ae0 = 0.0;
}
FUNC void NAME(finish)(NAME(point) *q) {
    q->o_out = q->x_x - q->r0;
    q->oe_out = q->re0 + U * fabs(q->o_out);
}
#endif

#define ZERO(name, type) q.x##name = 0.0;
#define TAKE_SCALAR(name) q.x##name = (double)p##name;
#define TAKE_ROW(name, type, step) q.x##name = (double)(float)READ(type, p##name, row * step);
#define FETCH(name, type) q.x##name = (double)(float)READ(type, p##name, row * cols + c);
#define FETCH_COL(name, type) q.x##name = (double)(float)READ(type, p##name, c);

FUNC double NAME(upwards)(double x) { return x * 1.000001; } /* before it becomes a float */
FUNC double NAME(integer)(double x, double least, double most) {
    return fmin(fmax(rint(x), least), most);
}
#define STORE_INTEGER(name, at, least, most)                                                       \
    {                                                                                              \
        const double value = NAME(integer)(q.o##name, least, most);                                \
        const double low = NAME(integer)(q.o##name - q.oe##name, least, most);                     \
        const double high = NAME(integer)(q.o##name + q.oe##name, least, most);                    \
        v##name[at] = value;                                                                       \
        b##name[at] = (float)fmax(high - value, value - low);                                      \
    }
#define STORE_FLOAT(name, at)                                                                      \
    v##name[at] = q.o##name;                                                                       \
    b##name[at] = (float)NAME(upwards)(q.oe##name);
#define STORE_f32(name, at) STORE_FLOAT(name, at)
#define STORE_f16(name, at) STORE_FLOAT(name, at)
#define STORE_bf16(name, at) STORE_FLOAT(name, at)
#define STORE_i8(name, at) STORE_INTEGER(name, at, -128.0, 127.0)
#define STORE_i32(name, at) STORE_INTEGER(name, at, -2147483648.0, 2147483647.0)
#define STORE(name, type) CAT(STORE_, type)(name, row * cols + c)
#define STORE_ROW_OUT(name, type) CAT(STORE_, type)(name, row)

/* Sums grow an error of 2 sqrt(n) roundoffs of the sum of magnitudes (kiln_sum_growth). */
#define START(o) (o == 0 ? 0.0 : o == 1 ? -(double)K_INF : (double)K_INF)
#define JOIN(o, a, b) (o == 0 ? (a) + (b) : o == 1 ? fmax(a, b) : fmin(a, b))
#define JOIN_ERROR(o, a, b) (o == 0 ? (a) + (b) : fmax(a, b))
#define BEGIN(i, o, mean) double s##i = START(o), se##i = 0.0, sm##i = 0.0;
#define ADD(i, o, mean)                                                                            \
    s##i = JOIN(o, s##i, q.a##i);                                                                  \
    se##i = JOIN_ERROR(o, se##i, q.ae##i);                                                         \
    sm##i += fabs(q.a##i);
#define END(i, o, mean)                                                                            \
    BARRIER();                                                                                     \
    value[me] = s##i;                                                                              \
    error[me] = se##i;                                                                             \
    magnitude[me] = sm##i;                                                                         \
    BARRIER();                                                                                     \
    s##i = value[0];                                                                               \
    se##i = error[0];                                                                              \
    sm##i = magnitude[0];                                                                          \
    for (int k = 1; k < T; k++) {                                                                  \
        s##i = JOIN(o, s##i, value[k]);                                                            \
        se##i = JOIN_ERROR(o, se##i, error[k]);                                                    \
        sm##i += magnitude[k];                                                                     \
    }                                                                                              \
    if (o == 0 && cols > 1) se##i += 2.0 * sqrt((double)cols) * U * sm##i;                         \
    if (mean) {                                                                                    \
        s##i = s##i / (double)cols;                                                                \
        se##i = se##i / (double)cols + 5.0 * U * fabs(s##i);                                       \
    }                                                                                              \
    q.r##i = s##i;                                                                                 \
    q.re##i = se##i;
#define PHASE(number)                                                                              \
    {                                                                                              \
        EACH_REDUCTION_##number(BEGIN)                                                             \
        for (i64 c = me; c < cols; c += T) {                                                       \
            EACH_FULL(FETCH)                                                                       \
            EACH_COL(FETCH_COL)                                                                    \
            NAME(phase_##number)(&q);                                                              \
            EACH_REDUCTION_##number(ADD)                                                           \
        }                                                                                          \
        EACH_REDUCTION_##number(END)                                                               \
    }

KERNEL(T, 1, 1) NAME(main)(PARAMETERS) {
    const int me = THREAD(0);
    NAME(point) q;
    EACH_FULL(ZERO)
    EACH_COL(ZERO)
    EACH_SCALAR(TAKE_SCALAR)
#if BY_ROW
#if PHASES > 1
    LOCAL_ARRAY(double, value, T);
    LOCAL_ARRAY(double, error, T);
    LOCAL_ARRAY(double, magnitude, T);
#endif
    for (i64 row = BLOCK(0); row < rows; row += BLOCKS(0)) {
        EACH_ROW(TAKE_ROW)
#if PHASES > 1
        PHASE(0)
#endif
#if PHASES > 2
        PHASE(1)
#endif
#if PHASES > 3
        PHASE(2)
#endif
#if OUTS
        for (i64 c = me; c < cols; c += T) {
            EACH_FULL(FETCH)
            EACH_COL(FETCH_COL)
            NAME(finish)(&q);
            EACH_OUT(STORE)
        }
#endif
#if ROW_OUTS
        NAME(finish)(&q);
        if (me == 0) { EACH_ROW_OUT(STORE_ROW_OUT) }
#endif
    }
#else
    for (i64 at = BLOCK(0) * (i64)T + me; at < rows * cols; at += BLOCKS(0) * (i64)T) {
        const i64 row = at / cols, c = at % cols;
        EACH_ROW(TAKE_ROW)
        EACH_FULL(FETCH)
        EACH_COL(FETCH_COL)
        NAME(finish)(&q);
        EACH_OUT(STORE)
    }
#endif
}

#undef U
#undef T
#undef ZERO
#undef TAKE_SCALAR
#undef TAKE_ROW
#undef FETCH
#undef FETCH_COL
#undef STORE_INTEGER
#undef STORE_FLOAT
#undef STORE_f32
#undef STORE_f16
#undef STORE_bf16
#undef STORE_i8
#undef STORE_i32
#undef STORE
#undef STORE_ROW_OUT
#undef START
#undef JOIN
#undef JOIN_ERROR
#undef BEGIN
#undef ADD
#undef END
#undef PHASE

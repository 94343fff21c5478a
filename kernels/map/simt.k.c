/* map, simt: elementwise statements and row reductions by blocks of threads.
 *
 * One block, T threads, handles a tile of TR rows; T / TR = LANES threads share a row. A thread
 * takes V adjacent elements at a time, U of these before it computes:
 *
 *            |<- V ->|                          columns of one row (LANES = 4, U = 2)
 *            +-------+-------+-------+-------+-------+-------+-------+-------+
 *     u = 0  | lane0 | lane1 | lane2 | lane3 |       :       :       :       |
 *     u = 1  |       :       :       :       | lane0 | lane1 | lane2 | lane3 |  then the next
 *            +-------+-------+-------+-------+-------+-------+-------+-------+  LANES*V*U columns
 *
 * Without reductions a tile is TR rows by LANES*V*U columns. With reductions (BY_ROW) a tile is TR
 * whole rows: every phase walks along the row, LANES threads combine what they have, and the next
 * phase knows the result. KEEP = 1: the row fits LANES*V*U and is read once, into registers, where
 * it stays as it was stored. Accesses beyond the end of a row read its last V elements, which nobody counts: loads
 * without branches can all be in flight.
 *
 * FLAT: rows = 1, and only then may an access reach beyond the end of the row.
 *
 * The prologue gives NAME, the knobs, and, from the statements (emit.c): PARAMETERS, the lists
 * EACH_..., NAME(point) and the functions NAME(phase_<i>), NAME(finish). Alone, this file is the
 * row-wise x - max(x) in bf16. */
#ifndef T
#define NAME(x) map_##x
#define T 256
#define TR 1
#define V 1
#define U 1
#define KEEP 0
#define WAVE 0
#define LD 0
#define ST 0
#define REGS 0
#define PHASES 2
#define BY_ROW 1
#define FLAT 0
#define REAL float
#define PARAMETERS                                                                                 \
    GLOBAL const STORAGE(bf16) *RESTRICT p_x, GLOBAL STORAGE(bf16) *RESTRICT p_out,                \
        const i64 rows, const i64 cols
#define EACH_FULL(X) X(_x, bf16)
#define EACH_FULL_0(X) X(_x, bf16)
#define EACH_FULL_LAST(X) X(_x, bf16)
#define EACH_COL(X)
#define EACH_COL_0(X)
#define EACH_COL_LAST(X)
#define EACH_ROW(X)
#define EACH_SCALAR(X)
#define EACH_REDUCTION_0(X) X(0, 1, 0)
#define EACH_OUT(X) X(_out, bf16)
#define EACH_ROW_OUT(X)
#define OUTS 1
#define ROW_OUTS 0
typedef struct NAME(point) {
    REAL x_x, o_out, r0, a0;
} NAME(point);
FUNC void NAME(phase_0)(NAME(point) *q) { q->a0 = q->x_x; }
FUNC void NAME(finish)(NAME(point) *q) { q->o_out = q->x_x - q->r0; }
#endif

#define LANES (T / TR)
#define SPAN (LANES * V * U)

/* Walking a thread's columns; c is the first of V, counted from the tile's first column. */
#if KEEP || !BY_ROW
#define EACH_CHUNK(c0) for (int c0 = lane * V, once = 1; once; once = 0)
#else
#define EACH_CHUNK(c0) for (int c0 = lane * V; c0 < width; c0 += SPAN)
#endif
#define INSIDE(all, c) ((all) || (c) < width)

/* One entry of a list each. */
#define DECLARE(name, type) HELD(type, V, x##name, U);
#define ZERO(name, type) w.x##name = 0.0f;
#define TAKE_SCALAR(name) w.x##name = p##name;
#define TAKE_ROW(name, type, step)                                                                 \
    w.x##name = rows > 0 ? (float)READ(type, p##name, row * step) : 0.0f;
#define PUT(name, type) q.x##name = HELD_GET(type, x##name[u], e);
#define DECLARE_OUT(name, type) float o##name[V];
#define TAKE_OUT(name, type) o##name[e] = q.o##name;
#define STORE_ROW_OUT(name, type) WRITE_F(type, 1, 0, p##name, row, &q.o##name);
#if FLAT && V > 1
#define PARTIAL (c + V > width)
#define FETCH_PARTIAL(name, type)                                                                  \
    UNROLL for (int e = 0; e < V; e++) if (c + e < width)                                          \
        HOLD_ONE(type, p##name + start, c + e, x##name[u], e);
#define STORE_PARTIAL(name, type)                                                                  \
    for (int e = 0; e < V; e++)                                                                    \
        if (c + e < width) WRITE_F(type, 1, 0, p##name, start + c + e, &o##name[e]);
#define NEAREST(c) (c)
#else
#define PARTIAL 0
#define FETCH_PARTIAL(name, type)
#define STORE_PARTIAL(name, type)
#define NEAREST(c) (all || (c) < width ? (c) : width - V)
#endif
#define FETCH(name, type)                                                                          \
    if (PARTIAL && !all) {                                                                         \
        FETCH_PARTIAL(name, type)                                                                  \
    } else {                                                                                       \
        HOLD(type, V, LD, p##name + start, NEAREST(c), x##name[u]);                                \
    }
#define FETCH_COL(name, type) HOLD(type, V, 0, p##name + first, NEAREST(c), x##name[u]);
#define STORE(name, type)                                                                          \
    if (PARTIAL && !all) {                                                                         \
        STORE_PARTIAL(name, type)                                                                  \
    } else {                                                                                       \
        WRITE_F(type, V, ST, p##name, start + c, o##name);                                         \
    }

/* All of a chunk's loads of one phase, before anything is computed. Rows that are kept leave only
 * operands [col] to load: these come when their turn is, because registers are scarcer. */
#define LOAD_ALL(list, fetch)                                                                      \
    UNROLL for (int u = 0; u < U; u++) {                                                           \
        const int c = c0 + u * LANES * V;                                                          \
        if (!FLAT || INSIDE(all, c)) { list(fetch) }                                               \
    }
#if KEEP
#define LOAD_CHUNK(fulls, columns) columns(DECLARE)
#define LOAD_LATE(columns) columns(FETCH_COL)
#else
#define LOAD_CHUNK(fulls, columns)                                                                 \
    fulls(DECLARE) columns(DECLARE) LOAD_ALL(fulls, FETCH) LOAD_ALL(columns, FETCH_COL)
#define LOAD_LATE(columns)
#endif

/* Several chains per thread, because each step waits for the one before. */
#define CHAINS (V < 4 ? V : 4)
#define BEGIN(i, o, mean)                                                                          \
    float s##i[CHAINS];                                                                            \
    UNROLL for (int k = 0; k < CHAINS; k++) s##i[k] = k_identity(o);
#define ADD(i, o, mean) s##i[e % CHAINS] = k_combine(o, s##i[e % CHAINS], q.a##i);
#define END(i, o, mean)                                                                            \
    UNROLL for (int k = 1; k < CHAINS; k++) s##i[0] = k_combine(o, s##i[0], s##i[k]);              \
    w.r##i = k_group_reduce_turn(o, s##i[0], LANES, scratch, turn);                                \
    turn ^= 1;                                                                                     \
    if (mean) w.r##i = w.r##i / (float)cols;

#define PHASE(number)                                                                              \
    {                                                                                              \
        EACH_REDUCTION_##number(BEGIN)                                                             \
        EACH_CHUNK(c0) {                                                                           \
            const int all = 0;                                                                     \
            LOAD_CHUNK(EACH_FULL_##number, EACH_COL_##number)                                      \
            UNROLL for (int u = 0; u < U; u++) {                                                   \
                const int c = c0 + u * LANES * V;                                                  \
                LOAD_LATE(EACH_COL_##number)                                                       \
                if (INSIDE(all, c)) {                                                              \
                    UNROLL for (int e = 0; e < V; e++) {                                           \
                        NAME(point) q = w;                                                         \
                        EACH_FULL_##number(PUT)                                                    \
                        EACH_COL_##number(PUT)                                                     \
                        NAME(phase_##number)(&q);                                                  \
                        EACH_REDUCTION_##number(ADD)                                               \
                    }                                                                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        EACH_REDUCTION_##number(END)                                                               \
    }

#define FINISH(all_inside)                                                                         \
    EACH_CHUNK(c0) {                                                                               \
        const int all = all_inside;                                                                \
        LOAD_CHUNK(EACH_FULL_LAST, EACH_COL_LAST)                                                  \
        UNROLL for (int u = 0; u < U; u++) {                                                       \
            const int c = c0 + u * LANES * V;                                                      \
            LOAD_LATE(EACH_COL_LAST)                                                               \
            if (INSIDE(all, c)) {                                                                  \
                EACH_OUT(DECLARE_OUT)                                                              \
                UNROLL for (int e = 0; e < V; e++) {                                               \
                    NAME(point) q = w;                                                             \
                    EACH_FULL_LAST(PUT)                                                            \
                    EACH_COL_LAST(PUT)                                                             \
                    NAME(finish)(&q);                                                              \
                    EACH_OUT(TAKE_OUT)                                                             \
                }                                                                                  \
                if (inside) { EACH_OUT(STORE) }                                                    \
            }                                                                                      \
        }                                                                                          \
    }

/* A row beyond the end computes the last row again, and stores nothing. */
#define LAST_OF(row) ((row) < rows ? (row) : rows - 1)

KERNEL_REGS(T, 1, 1, REGS) NAME(main)(PARAMETERS) {
    const int lane = THREAD(0) % LANES;
    const i64 row_tiles = (rows + TR - 1) / TR;
#if PHASES > 1
    LOCAL_ARRAY(float, scratch, T);
    int turn = 0;
#endif
#if BY_ROW
    const i64 tiles = row_tiles;
    const i64 first = 0;
    const int width = (int)cols;
#else
    const u32 col_tiles = (u32)((cols + SPAN - 1) / SPAN);
    const i64 tiles = FLAT ? col_tiles : row_tiles * col_tiles;
#endif
#if WAVE
    for (i64 tile = BLOCK(0); tile < tiles; tile += BLOCKS(0))
#else
    const i64 tile = BLOCK(0); /* the grid is exact; only a launch with sizes 0 has too many */
#endif
    {
#if BY_ROW
        const i64 row_tile = tile;
#else
        const u32 row_tile = FLAT || col_tiles == 0 ? 0u : (u32)tile / col_tiles;
        const i64 first = (tile - (i64)row_tile * col_tiles) * SPAN;
        const int width = (int)(cols - first < SPAN ? cols - first : SPAN);
#endif
        const i64 my_row = (i64)row_tile * TR + THREAD(0) / LANES;
        const int inside = my_row < rows;
        const i64 row = LAST_OF(my_row);
        const i64 start = row * cols + first;
        NAME(point) w;
        EACH_FULL(ZERO)
        EACH_COL(ZERO)
        EACH_SCALAR(TAKE_SCALAR)
        EACH_ROW(TAKE_ROW)
#if KEEP
        EACH_FULL(DECLARE)
        UNROLL for (int u = 0; u < U; u++) {
            const int c = (u * LANES + lane) * V, all = 0;
            EACH_FULL(FETCH)
        }
#endif
#if PHASES > 1
        PHASE(0)
#endif
#if PHASES > 2
        PHASE(1)
#endif
#if PHASES > 3
        PHASE(2)
#endif
#if OUTS && BY_ROW
        FINISH(0)
#elif OUTS
        if (width == SPAN) FINISH(1)
        else FINISH(0)
#endif
#if ROW_OUTS
        NAME(point) q = w;
        NAME(finish)(&q);
        if (inside && lane == 0) { EACH_ROW_OUT(STORE_ROW_OUT) }
#endif
    }
}

#undef LANES
#undef SPAN
#undef EACH_CHUNK
#undef INSIDE
#undef DECLARE
#undef ZERO
#undef TAKE_SCALAR
#undef TAKE_ROW
#undef PUT
#undef DECLARE_OUT
#undef TAKE_OUT
#undef STORE_ROW_OUT
#undef PARTIAL
#undef FETCH_PARTIAL
#undef STORE_PARTIAL
#undef NEAREST
#undef FETCH
#undef FETCH_COL
#undef STORE
#undef LOAD_ALL
#undef LOAD_CHUNK
#undef LOAD_LATE
#undef LAST_OF
#undef CHAINS
#undef BEGIN
#undef ADD
#undef END
#undef PHASE
#undef FINISH

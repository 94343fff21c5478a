/* map, cpu: OpenCL on a processor. One work-item (the block is one thread) walks alone over a tile
 * of TR rows, in vectors of V floats, U of them per step:
 *
 *      first                                        first + width
 *     row  |=== V ===|=== V ===| ... |=== V ===|= part =|    a step is U vectors; what remains of
 *     row  |=== V ===|=== V ===| ... |=== V ===|= part =|    the row goes by single vectors, and
 *      :                                                     the last, incomplete one by elements
 *
 * Without reductions a tile is TR rows by TC columns. With reductions (BY_ROW) it is TR whole
 * rows; all phases of a row follow each other while it is in the caches.
 * NT = 1: outputs are stored around the caches. A store that misses reads its line first, so a
 * third of a copy's traffic is saved.
 *
 * PF = 1: each phase asks for its share of the next row, so that memory works while the phases
 * after the first one compute on a row that is already here. PF = 2: the first phase asks 4 KiB
 * ahead, where processors that follow a stream by themselves stop at the end of a page.
 *
 * KEEP = n: the argument of reduction KEPT stays in n floats of the work-item's own until the last
 * phase (FINISH is then NAME(finish_kept)), which need not compute it again.
 *
 * The prologue is that of simt.k.c, with REAL a vector of V floats. */
#ifndef V
#define NAME(x) map_##x
#define V 16
#define U 1
#define TR 1
#define TC 16384
#define NT 0
#define PF 0
#define KEEP 0
#define KEPT -1
#define PHASES 2
#define BY_ROW 1
#define FLAT 0
#define REAL float16
#define PARAMETERS                                                                                 \
    GLOBAL const STORAGE(bf16) *RESTRICT p_x, GLOBAL STORAGE(bf16) *RESTRICT p_out,                \
        const i64 rows, const i64 cols
#define EACH_FULL(X) X(_x, bf16)
#define EACH_FULL_0(X) X(_x, bf16)
#define EACH_FULL_LAST(X) X(_x, bf16)
#define EACH_COL(X)
#define EACH_COL_0(X)
#define EACH_COL_LAST(X)
#define FINISH NAME(finish)
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

/* V adjacent elements at any address, as floats. (PoCL's vload16 and vstore16 become
 * two or three accesses each.) */
typedef CAT(float, V) NAME(any_float) __attribute__((aligned(4)));
typedef CAT(int, V) NAME(any_int) __attribute__((aligned(4)));
typedef CAT(ushort, V) NAME(any_ushort) __attribute__((aligned(2)));
typedef CAT(char, V) NAME(any_char) __attribute__((aligned(1)));
#define LOAD(type, p, i) CAT(LOAD_, type)((p) + (i))
#define GET_VECTOR(kind, p) (*(const GLOBAL NAME(any_##kind) *)(p))
#define LOAD_f32(p) GET_VECTOR(float, p)
#define LOAD_f16(p) NAME(load_half)(p)
#define LOAD_bf16(p) CAT(as_float, V)(CAT(convert_uint, V)(GET_VECTOR(ushort, p)) << 16)
#define LOAD_i8(p) CAT(convert_float, V)(GET_VECTOR(char, p))
#define LOAD_i32(p) CAT(convert_float, V)(GET_VECTOR(int, p))
#define STORE(type, p, i, x) CAT(STORE_, type)((p) + (i), x)
#if NT
#define PUT_VECTOR(kind, p, x) __builtin_nontemporal_store(x, (GLOBAL CAT(kind, V) *)(p))
#else
#define PUT_VECTOR(kind, p, x) (*(GLOBAL NAME(any_##kind) *)(p) = (x))
#endif
#define STORE_f32(p, x) PUT_VECTOR(float, p, x)
#define STORE_bf16(p, x) PUT_VECTOR(ushort, p, CAT(k_to_bf16_, V)(x))
#define STORE_i8(p, x) PUT_VECTOR(char, p, CAT4(convert_char, V, _sat, _rte)(x))
#define STORE_i32(p, x) PUT_VECTOR(int, p, CAT4(convert_int, V, _sat, _rte)(x))
/* Halves go through memory of our own: PoCL's vload_half and vstore_half want aligned vectors. */
FUNC REAL NAME(load_half)(const GLOBAL half *p) {
    const CAT(ushort, V) bits = GET_VECTOR(ushort, p);
    return CAT(vload_half, V)(0, (const half *)&bits);
}
#define STORE_f16(p, x)                                                                            \
    {                                                                                              \
        CAT(ushort, V) bits;                                                                       \
        CAT4(vstore_half, V, _r, te)(x, 0, (half *)&bits);                                         \
        PUT_VECTOR(ushort, p, bits);                                                               \
    }

/* One entry of a list each; c is the column, counted from the tile's first. */
#define ZERO(name, type) w.x##name = (REAL)(0.0f);
#define TAKE_SCALAR(name) w.x##name = (REAL)(p##name);
#define TAKE_ROW(name, type, step) w.x##name = (REAL)((float)READ(type, p##name, row * step));
#define FETCH(name, type) q.x##name = LOAD(type, p##name, start + c);
#define FETCH_COL(name, type) q.x##name = LOAD(type, p##name, first + c);
#define FETCH_PART_(name, type, at)                                                                \
    for (int e = 0; e < V; e++) part[e] = e < left ? (float)READ(type, p##name, (at) + e) : 0.0f;  \
    q.x##name = CAT(vload, V)(0, part);
#define FETCH_PART(name, type) FETCH_PART_(name, type, start + c)
#define FETCH_COL_PART(name, type) FETCH_PART_(name, type, first + c)
#if KEEP
#define FETCH_KEPT CAT(q.a, KEPT) = *(const REAL *)(kept + c);
#define LAST_FULL(X) EACH_FULL_KEPT(X)
#define LAST_COL(X) EACH_COL_KEPT(X)
#else
#define FETCH_KEPT
#define LAST_FULL(X) EACH_FULL_LAST(X)
#define LAST_COL(X) EACH_COL_LAST(X)
#endif
#define STORE_OUT(name, type) STORE(type, p##name, start + c, q.o##name);
#define STORE_PART(name, type)                                                                     \
    CAT(vstore, V)(q.o##name, 0, part);                                                            \
    for (int e = 0; e < left; e++) WRITE_F(type, 1, 0, p##name, start + c + e, &part[e]);
#define STORE_ROW_OUT(name, type)                                                                  \
    CAT(vstore, V)(q.o##name, 0, part);                                                            \
    WRITE_F(type, 1, 0, p##name, row, part);

/* As k_combine, for vectors; a NaN never replaces what is there in max and min. */
#define COMBINE(o, s, a)                                                                           \
    if (o == 0) s += a;                                                                            \
    else if (o == 1) s = a > s ? a : s;                                                            \
    else s = a < s ? a : s;
/* All lanes of a vector combined, by halves. */
FUNC float NAME(across)(int o, REAL s) {
#if V == 16
    float8 s8 = s.lo;
    COMBINE(o, s8, s.hi)
    float4 s4 = s8.lo;
    COMBINE(o, s4, s8.hi)
#elif V == 8
    float4 s4 = s.lo;
    COMBINE(o, s4, s.hi)
#else
    float4 s4 = s;
#endif
    float2 s2 = s4.lo;
    COMBINE(o, s2, s4.hi)
    return k_combine(o, s2.x, s2.y);
}
#define BEGIN(i, o, mean)                                                                          \
    REAL s##i[U];                                                                                  \
    UNROLL for (int u = 0; u < U; u++) s##i[u] = (REAL)(k_identity(o));
#define ADD(i, o, mean)                                                                            \
    if (i == KEPT) *(REAL *)(kept + c) = q.a##i;                                                   \
    COMBINE(o, s##i[u], q.a##i)
/* Lanes beyond the row's end count as the neutral element. */
#define ADD_PART(i, o, mean)                                                                       \
    if (i == KEPT) *(REAL *)(kept + c) = q.a##i;                                                   \
    q.a##i = LANE < left ? q.a##i : (REAL)(k_identity(o));                                         \
    COMBINE(o, s##i[0], q.a##i)
#if V == 4
#define LANE ((int4)(0, 1, 2, 3))
#elif V == 8
#define LANE ((int8)(0, 1, 2, 3, 4, 5, 6, 7))
#else
#define LANE ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#endif
#define END(i, o, mean)                                                                            \
    {                                                                                              \
        UNROLL for (int u = 1; u < U; u++) { COMBINE(o, s##i[0], s##i[u]) }                        \
        const float s = NAME(across)(o, s##i[0]);                                                  \
        w.r##i = (REAL)(mean ? s / (float)cols : s);                                               \
    }

/* Into the second cache: the first one holds the row at work. */
#define ASK(address) __builtin_prefetch((const void *)(uintptr_t)(address), 0, 2);
#define WALKS (PHASES - 1 + (OUTS > 0))
#if PF == 1
#define AHEAD(name, type) ASK(p##name + start + cols + (share * width + c) / WALKS)
#elif PF == 2
#define AHEAD(name, type)                                                                          \
    if (share == 0) ASK((const GLOBAL char *)(p##name + start + c) + 4096)
#else
#define AHEAD(name, type)
#endif

/* Walks along the row: `whole` for vector u of a step at column c, `rest` for the `left` elements
 * at the end. */
#define WALK(number, whole, rest)                                                                  \
    {                                                                                              \
        const i64 share = number;                                                                  \
        i64 c0 = 0;                                                                                \
        for (; c0 + U * V <= width; c0 += U * V) {                                                 \
            UNROLL for (int u = 0; u < U; u++) {                                                   \
                const i64 c = c0 + u * V;                                                          \
                NAME(point) q = w;                                                                 \
                EACH_FULL(AHEAD)                                                                   \
                whole                                                                              \
            }                                                                                      \
        }                                                                                          \
        for (; c0 + V <= width; c0 += V) {                                                         \
            const i64 c = c0;                                                                      \
            const int u = 0;                                                                       \
            NAME(point) q = w;                                                                     \
            whole                                                                                  \
        }                                                                                          \
        if (c0 < width) {                                                                          \
            const i64 c = c0;                                                                      \
            const int left = (int)(width - c0);                                                    \
            NAME(point) q = w;                                                                     \
            rest                                                                                   \
        }                                                                                          \
    }
#define PHASE(number)                                                                              \
    {                                                                                              \
        EACH_REDUCTION_##number(BEGIN)                                                             \
        WALK(number,                                                                               \
             EACH_FULL_##number(FETCH) EACH_COL_##number(FETCH_COL) NAME(phase_##number)(&q);      \
             EACH_REDUCTION_##number(ADD),                                                         \
             EACH_FULL_##number(FETCH_PART) EACH_COL_##number(FETCH_COL_PART)                      \
             NAME(phase_##number)(&q);                                                             \
             EACH_REDUCTION_##number(ADD_PART))                                                    \
        EACH_REDUCTION_##number(END)                                                               \
    }

KERNEL(1, 1, 1) NAME(main)(PARAMETERS) {
    float part[V];
#if KEEP
    float kept[KEEP + V] __attribute__((aligned(64)));
#else
    float *const kept = part;
#endif
#if BY_ROW
    const i64 tile_row = BLOCK(0), first = 0, width = cols;
#else
    const i64 col_tiles = cols > TC ? (cols + TC - 1) / TC : 1;
    const i64 tile_row = FLAT ? 0 : BLOCK(0) / col_tiles;
    const i64 first = (BLOCK(0) - tile_row * col_tiles) * TC;
    const i64 width = cols - first < TC ? cols - first : TC;
#endif
    const i64 last = (tile_row + 1) * TR < rows ? (tile_row + 1) * TR : rows;
    for (i64 row = tile_row * TR; row < last; row++) {
        const i64 start = row * cols + first;
        NAME(point) w;
        EACH_FULL(ZERO)
        EACH_COL(ZERO)
        EACH_SCALAR(TAKE_SCALAR)
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
        WALK(WALKS - 1, LAST_FULL(FETCH) LAST_COL(FETCH_COL) FETCH_KEPT FINISH(&q);
             EACH_OUT(STORE_OUT),
             LAST_FULL(FETCH_PART) LAST_COL(FETCH_COL_PART) FETCH_KEPT FINISH(&q);
             EACH_OUT(STORE_PART))
#endif
#if ROW_OUTS
        NAME(point) q = w;
        NAME(finish)(&q);
        EACH_ROW_OUT(STORE_ROW_OUT)
#endif
    }
#if NT
    __sync_synchronize(); /* streamed stores are not ordered with the stores that tell "done" */
#endif
}

#undef LOAD
#undef GET_VECTOR
#undef LOAD_f32
#undef LOAD_f16
#undef LOAD_bf16
#undef LOAD_i8
#undef LOAD_i32
#undef STORE
#undef PUT_VECTOR
#undef STORE_f32
#undef STORE_f16
#undef STORE_bf16
#undef STORE_i8
#undef STORE_i32
#undef ZERO
#undef TAKE_SCALAR
#undef TAKE_ROW
#undef FETCH
#undef FETCH_COL
#undef FETCH_PART_
#undef FETCH_PART
#undef FETCH_COL_PART
#undef STORE_OUT
#undef STORE_PART
#undef STORE_ROW_OUT
#undef COMBINE
#undef BEGIN
#undef ADD
#undef ADD_PART
#undef LANE
#undef END
#undef FETCH_KEPT
#undef LAST_FULL
#undef LAST_COL
#undef ASK
#undef WALKS
#undef AHEAD
#undef WALK
#undef PHASE

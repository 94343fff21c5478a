/* ---- pieces of results on their way out
 *
 * Each warp on its own, in TMA's swizzle. What TMA stores lies in PLACES by turns or, if its block
 * has no item after this one, each piece in a place of its own in the ring, which nobody uses any
 * more: then none waits for another to be read. */
#if IN_PIECES && !SWAP && SPLIT == 1
#define RING_HOLDS                                                                                 \
    (TMA_STORE && !MATRIX_STAGED &&                                                                \
     (PINGPONG ? 1 : CONSUMERS) * 4 * X_BLOCKS * PIECES * PIECE_BYTES <= STAGES * SLOT)
#define FIRST_COLUMN(p) min((p)*PIECE, Y_TILE - PIECE)
typedef struct {
    u32 at;
    bool in_ring;
} NAME(stage);
FUNC NAME(stage) NAME(stage_of)(u32 pool, int wg, bool in_ring) {
    const int warp = THREAD(0) % 128 / 32;
    NAME(stage) s;
    s.in_ring = in_ring;
    s.at = in_ring ? pool + (u32)(((PINGPONG ? 0 : wg * 4) + warp) * X_BLOCKS * PIECES * PIECE_BYTES)
                   : pool + STAGING + (u32)((wg * 4 + warp) * PLACES * PIECE_BYTES);
    return s;
}
FUNC u32 NAME(stage_piece)(const NAME(stage) *s, int piece) {
    return s->at + (u32)((s->in_ring ? piece : piece % PLACES) * PIECE_BYTES);
}
/* Until the place of a piece may be written; all lanes. */
FUNC void NAME(stage_free)(const NAME(stage) *s, int lane) {
    if (s->in_ring || MATRIX_STAGED) return; /* matrix.cuh has waited */
    if (TMA_STORE && lane == 0) NAME(stores_read)();
    NAME(warp_sync)();
}
/* Before the first piece of a tile; all lanes. An odd number of pieces ends in the place in which the
 * next tile begins. */
FUNC void NAME(stage_begin)(int lane) {
    if (TMA_STORE && X_BLOCKS * PIECES % 2 && !MATRIX_STAGED && lane == 0) NAME(stores_all_read)();
}
/* Where 16 bytes `chunk` of a line lie: eight successive lines fall into different banks. */
FUNC u32 NAME(staged)(u32 at, int line, int chunk) {
    const int exchange = OUT_LINE == 128 ? line & 7 : line >> 1 & 3;
    return at + (u32)(line * OUT_LINE + ((chunk ^ exchange) << 4));
}
/* 16 columns from column j of a piece on: v[0, 1] of rows g and g + 8, v[2, 3] eight columns on. */
FUNC void NAME(put_columns)(u32 at, int j, int lane, float (*v)[2]) {
#if OUT_BYTES == 4
    const int g = lane / 4, t = lane % 4;
    UNROLL for (int e = 0; e < 4; e++) {
        const int chunk = j / 4 + e / 2 * 2 + t / 2;
        NAME(put_pair)(NAME(staged)(at, g + e % 2 * 8, chunk) + t % 2 * 8, v[e][0], v[e][1]);
    }
#else
    NAME(put_matrices)(NAME(staged)(at, lane % 16, j / 8 + lane / 16),
                       NAME(pack)(v[0][0], v[0][1]), NAME(pack)(v[1][0], v[1][1]),
                       NAME(pack)(v[2][0], v[2][1]), NAME(pack)(v[3][0], v[3][1]));
#endif
}

/* What a piece's sender is told of the result. */
#define RESULT_PARAMS i64 m, i64 n, i64 ldo, i64 stride_o, GLOBAL STORAGE(TO) *p_out
#define RESULT_ARGS m, n, ldo, stride_o, p_out
#if TMA_STORE
/* `piece` of block i of 64 rows, from row0 on of this warp. */
FUNC void NAME(send_piece)(const NAME(tensor_map) *map, const NAME(stage) *stage, int i, int piece,
                           int row0, int y0, int batch, RESULT_PARAMS) {
    (void)m, (void)n, (void)ldo, (void)stride_o, (void)p_out; /* all in the map */
    if (stage->in_ring) return; /* all of them at the end */
    NAME(stores_visible)();
    NAME(warp_sync)();
    if (THREAD(0) % 32 == 0)
        NAME(store_box)(map, NAME(stage_piece)(stage, i * PIECES + piece), y0 + FIRST_COLUMN(piece),
                        row0, batch);
}
#else
/* 16 bytes a lane, whole lines of the result together. */
FUNC void NAME(send_piece)(const NAME(tensor_map) *map, const NAME(stage) *stage, int i, int piece,
                           int row0, int y0, int batch, RESULT_PARAMS) {
    const int lane = THREAD(0) % 32, chunks = OUT_LINE / 16, chunk = lane % chunks;
    const int row = row0 + lane / chunks, c = FIRST_COLUMN(piece) + chunk * (16 / OUT_BYTES);
    const u32 at = NAME(stage_piece)(stage, i * PIECES + piece);
    GLOBAL STORAGE(TO) *to = p_out + batch * stride_o + row * ldo + y0 + c;
    (void)map;
    NAME(warp_sync)();
    UNROLL for (int line = 0; line < 16; line += 32 / chunks) {
        const NAME(quad) q = NAME(staged_quad)(NAME(staged)(at, line + lane / chunks, chunk));
        if (row + line < m && y0 + c < n && c >= piece * PIECE) NAME(store_quad)(to + line * ldo, q);
    }
}
#endif
/* The pieces in the ring, one for each lane. */
FUNC void NAME(send_ring)(const NAME(tensor_map) *map, const NAME(stage) *stage, int row0, int y0,
                          int batch) {
    const int lane = THREAD(0) % 32;
    if (!stage->in_ring) return;
    NAME(stores_visible)();
    NAME(warp_sync)();
    if (lane < X_BLOCKS * PIECES)
        NAME(store_box)(map, NAME(stage_piece)(stage, lane), y0 + FIRST_COLUMN(lane % PIECES),
                        row0 + lane / PIECES * 64, batch);
}
#endif

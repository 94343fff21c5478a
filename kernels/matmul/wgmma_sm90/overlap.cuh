/* ---- results that leave beside the next item's products
 *
 * Where consumers share a tile, nobody multiplies while they store it. Packed to 16 bits its results take
 * half the registers of the sums, so they can wait there until the next item's first slots are being
 * multiplied, and leave a piece a slot. Only packing is between two items' products then. */
#if OVERLAP
#define HELD_PIECES (X_BLOCKS * PIECES)
typedef struct {
    bool any;
    int row0, y0, batch; /* row0: the warp's first */
    u32 pair[X_BLOCKS][SUMS / 2]; /* by 8 columns: rows g and g + 8 */
} NAME(held);

FUNC void NAME(hold_results)(ACC (*sum)[SUMS], NAME(spot) at, NAME(held) *held, EPILOGUE_PARAMS) {
    const int warp = THREAD(0) % 128 / 32, g = THREAD(0) % 32 / 4, t = THREAD(0) % 4;
    held->any = true;
    held->row0 = at.x0 + warp * 16, held->y0 = at.y0, held->batch = at.batch;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int j = 0; j < SUMS / 2; j++) {
            float v[2];
            NAME(value_at)(EPILOGUE_ARGS, at.batch, held->row0 + i * 64 + g + j % 2 * 8,
                           at.y0 + j / 2 * 8 + 2 * t, sum[i] + j * 2, v);
            held->pair[i][j] = NAME(pack)(v[0], v[1]);
        }
    }
}

FUNC void NAME(send_held)(const NAME(held) *held, int piece, const NAME(stage) *stage,
                          const NAME(tensor_map) *map, RESULT_PARAMS) {
    const int lane = THREAD(0) % 32, i = piece / PIECES, p = piece % PIECES;
    const u32 at = NAME(stage_piece)(stage, piece), *pair = held->pair[i] + FIRST_COLUMN(p) / 4;
    NAME(stage_free)(stage, lane);
    UNROLL for (int j = 0; j < PIECE; j += 16)
        NAME(put_matrices)(NAME(staged)(at, lane % 16, j / 8 + lane / 16), pair[j / 4],
                           pair[j / 4 + 1], pair[j / 4 + 2], pair[j / 4 + 3]);
    NAME(send_piece)(map, stage, i, p, held->row0 + i * 64, held->y0, held->batch, RESULT_ARGS);
}

/* As multiply, and what is held leaves meanwhile. */
FUNC void NAME(multiply_beside)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring, int count, int first,
                                const NAME(reader) *reader, NAME(held) *held, int wg,
                                const NAME(tensor_map) *map, RESULT_PARAMS) {
    const NAME(stage) stage = NAME(stage_of)(pool, wg, false);
    if (held->any) NAME(stage_begin)(THREAD(0) % 32);
    NAME(multiply_begin)(sum, pool, ring, first);
    int slots = 1;
    if (held->any && count > HELD_PIECES) {
        UNROLL for (int p = 0; p < HELD_PIECES; p++) {
            NAME(multiply_next)(sum, pool, ring, first, reader);
            NAME(send_held)(held, p, &stage, map, RESULT_ARGS);
        }
        slots += HELD_PIECES;
    } else if (held->any) {
        UNROLL for (int p = 0; p < HELD_PIECES; p++)
            NAME(send_held)(held, p, &stage, map, RESULT_ARGS);
    }
    held->any = false;
    UNROLL_N(1) for (; slots < count; slots++) NAME(multiply_next)(sum, pool, ring, first, reader);
}
#endif

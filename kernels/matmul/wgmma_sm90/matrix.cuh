/* ---- a matrix that the statements read, by way of the results' places
 *
 * A piece of it, 16 rows and a line, comes into the place in which the same piece of the results is
 * staged then: whole lines, no registers, and the first pieces of a tile as early as the tile's
 * products begin. Read by those who use them, 4 bytes a lane, the lines of 4096^3's residual took the
 * L2 cache twice the sectors and a warp a wait each.
 *
 * Piece q has place q % PLACES. After piece q has left, piece q + 2 comes where q - 1 was: its store
 * has had a piece's time to be read. */
#if MATRIX_STAGED
#define MATRIX_PIECES (X_BLOCKS * PIECES)

/* Asks for a piece; without one, too, it counts. row0: the warp's first of the tile. */
FUNC void NAME(matrix_ask)(const NAME(stage) *stage, int piece, int row0, int y0, int batch,
                           EPILOGUE_PARAMS) {
    const int lane = THREAD(0) % 32, chunks = OUT_LINE / 16, chunk = lane % chunks;
    if (piece < MATRIX_PIECES) {
        const int row = row0 + piece / PIECES * 64 + lane / chunks;
        const int col = y0 + piece % PIECES * PIECE + chunk * 8;
        const u32 at = NAME(stage_piece)(stage, piece);
        UNROLL for (int line = 0; line < 16; line += 32 / chunks) {
            const bool inside = row + line < m && col < n;
            NAME(read_quad)(NAME(staged)(at, line + lane / chunks, chunk),
                            NAME(matrix_at)(EPILOGUE_ARGS, batch, inside ? row + line : 0,
                                            inside ? col : 0), inside);
        }
    }
    NAME(reads_commit)();
}

/* A tile's first pieces; the places' last stores may still be under way. */
FUNC void NAME(matrix_begin)(u32 pool, int wg, NAME(spot) at, EPILOGUE_PARAMS) {
    const NAME(stage) stage = NAME(stage_of)(pool, wg, false);
    const int row0 = at.x0 + THREAD(0) % 128 / 32 * 16;
    if (THREAD(0) % 32 == 0) NAME(stores_all_read)();
    NAME(warp_sync)();
    UNROLL_N(1) for (int q = 0; q < PLACES; q++)
        NAME(matrix_ask)(&stage, q, row0, at.y0, at.batch, EPILOGUE_ARGS);
}

/* Until piece q, which is to be worked on, is there. */
FUNC void NAME(matrix_await)(void) {
    READS_WAIT(PLACES - 2);
    NAME(warp_sync)();
}

/* What put_columns puts there, for the same lanes. */
FUNC void NAME(take_columns)(u32 at, int j, int lane, u32 *pair) {
    NAME(take_matrices)(NAME(staged)(at, lane % 16, j / 8 + lane / 16), pair);
}

/* After piece q has been sent. */
FUNC void NAME(matrix_next)(const NAME(stage) *stage, int q, int row0, int y0, int batch,
                            EPILOGUE_PARAMS) {
    if (q == 0) return;
    if (THREAD(0) % 32 == 0) NAME(stores_read)();
    NAME(warp_sync)();
    NAME(matrix_ask)(stage, q + PLACES - 1, row0, y0, batch, EPILOGUE_ARGS);
}
#endif

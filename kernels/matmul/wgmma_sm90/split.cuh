#if SPLIT > 1
/* ---- sums of a part of k, and the launch that adds them
 *
 * Workspace: a plane of m rows for every part and batch entry, parts slowest; a row is `pitch`
 * words, so that every 4 columns from a multiple of 4 on are 16 aligned bytes.
 *
 * reduce: a lane has 4 such columns of a row. ADDERS warps share the parts of 32 lanes' columns:
 * warp i adds parts i, i + ADDERS, ..., and the first warp adds the warps' sums and applies the
 * statements. The order is fixed, so results repeat bit by bit. */
#define PART_PITCH(n) (((i64)(n) + 7) / 8 * 8)
#define ADDERS (SPLIT >= 32 ? 8 : SPLIT >= 16 ? 4 : SPLIT >= 8 ? 2 : 1)
#define REDUCE_THREADS 256 /* at most: 32 * ADDERS times how many such groups the launch asks for */

FUNC ACC *NAME(part_at)(u8 *work, int plane, i64 m, i64 n) {
    return (ACC *)work + plane * m * PART_PITCH(n);
}

/* A consumer's sums into a part's plane. */
#if SWAP
FUNC void NAME(leave_part)(ACC (*sum)[SUMS], u8 *pool, int wg, int x0, int y0, int m, i64 n,
                           ACC *plane) {
    const int thread = THREAD(0) % 128;
    ACC *stage = (ACC *)(pool + STAGING) + wg * 16 * STAGE_PITCH;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        const int col = x0 + i * 64 + thread % 16 * 4;
        UNROLL for (int c = 0; c < Y_TILE; c += 16) {
            if (y0 + c >= m) break; /* nor has any thread of the consumer lines left */
            NAME(stage_lines)(sum[i], c, stage, wg);
            UNROLL for (int line = thread / 16; line < 16; line += 8) {
                const int row = y0 + c + line;
                if (c + line < Y_TILE && row < m && col < n)
                    NAME(partial_write)((NAME(quad) *)(plane + row * PART_PITCH(n) + col),
                                        *(const NAME(quad) *)(stage + line * STAGE_PITCH +
                                                              thread % 16 * 4));
            }
        }
    }
}
#else
/* Of 16 columns, the even lanes of a row get 4 of the first 8, the odd ones 4 of the other 8:
 * together they write 64 bytes. */
FUNC void NAME(leave_part)(ACC (*sum)[SUMS], u8 *pool, int wg, int x0, int y0, int m, i64 n,
                           ACC *plane) {
    const int thread = THREAD(0) % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    const int shift = t % 2 * 8 + t / 2 * 4, left = (int)n - y0 - shift;
    (void)pool, (void)wg;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int half = 0; half < 2; half++) {
            const int row = x0 + i * 64 + warp * 16 + half * 8 + g;
            ACC *to = plane + row * PART_PITCH(n) + y0 + shift;
            UNROLL for (int c = 0; c < Y_TILE; c += 16) {
                const ACC *low = sum[i] + c / 2 + half * 2;
                const ACC *high = c + 8 < Y_TILE ? low + 4 : low; /* or of no account */
                __align__(16) ACC v[4];
                v[0] = low[0], v[1] = low[1], v[2] = high[0], v[3] = high[1];
                NAME(trade)(v, v + 2, t % 2, 1);
                if (row < m && c < left && (c + 8 < Y_TILE || t % 2 == 0))
                    NAME(partial_write)((NAME(quad) *)(to + c), *(const NAME(quad) *)v);
            }
        }
    }
}
#endif

/* Parts first, first + ADDERS, ..., eight of them on their way at once. The last may not exist. */
#define TURNS ((SPLIT + ADDERS - 1) / ADDERS)
#define TURN_EXISTS(turn)                                                                          \
    ((turn) < TURNS && ((turn) * ADDERS + ADDERS <= SPLIT || first + (turn)*ADDERS < SPLIT))
FUNC void NAME(add_parts)(ACC *sum, const ACC *from, i64 part_words, int first) {
    UNROLL for (int turn = 0; turn < TURNS; turn += 8) {
        NAME(quad) q[8];
        UNROLL for (int i = 0; i < 8; i++) {
            const ACC *at = from + (first + (turn + i) * ADDERS) * part_words;
            if (TURN_EXISTS(turn + i)) q[i] = NAME(partial_read)((const NAME(quad) *)at);
        }
        UNROLL for (int i = 0; i < 8; i++) {
            if (TURN_EXISTS(turn + i)) NAME(add_quad)(sum, &q[i]);
        }
    }
}

/* Block: `groups` times ADDERS warps. Grid: as many groups of 32 lanes as rows of the result, of
 * all batches, have pieces of 4 columns. */
ENTRY(REDUCE_THREADS)
NAME(reduce)(u8 *work, int batches, int groups, EPILOGUE_PARAMS) {
#if SPLIT >= 8
    POOL(NAME(pool));
#endif
    if (m <= 0 || n <= 0) return;
    const int lane = THREAD(0) % 32, warp = THREAD(0) / 32;
    const int group = warp / ADDERS, adder = warp % ADDERS;
    const int across = ((int)n + 3) / 4, rows = (int)m * batches;
    const int piece = (BLOCK(0) * groups + group) * 32 + lane;
    const int line = piece / across, col = piece % across * 4;
    const int batch = line / (int)m, row = line % (int)m;
    const ACC *from = (const ACC *)work + line * PART_PITCH(n) + col;
    __align__(16) ACC sum[4];
    UNROLL for (int e = 0; e < 4; e++) sum[e] = 0;
    NAME(launch_next)();
    NAME(wait_previous)();

    if (line < rows) NAME(add_parts)(sum, from, rows * PART_PITCH(n), adder);
#if SPLIT >= 8
    NAME(quad) *stage = (NAME(quad) *)NAME(pool) + warp * 32 + lane;
    if (adder) *stage = *(const NAME(quad) *)sum;
    NAME(group_sync)(GROUP_BARRIER(0), groups * ADDERS * 32);
    if (adder) return;
    UNROLL for (int i = 1; i < ADDERS; i++) NAME(add_quad)(sum, stage + i * 32);
#endif
#if ROW_TOPS
    float tops[ROW_TOPS];
    NAME(tops_begin)(tops);
#endif
    UNROLL for (int e = 0; e < 4; e += FINISH) {
        if (line < rows && col + e < n)
            NAME(finish)(EPILOGUE_ARGS, batch, row, col + e, sum + e TOPS_ARG);
    }
#if ROW_TOPS
    int lanes = 32; /* that surely have one row */
    while (across % lanes) lanes /= 2;
    NAME(tops_group)(tops, lanes);
    if (line < rows && lane % lanes == 0) NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
}
#endif

/* ---- from accumulators to memory
 *
 * Lane l of warp w holds, of a 64-row block, rows 16 w + g and + 8 (g = l / 4) and of every 8
 * columns the two from 2 t on (t = l % 4): sum[4 c + 0, 1] row g, sum[4 c + 2, 3] row g + 8.
 * Row outputs: the lanes of a row combine their maxima, one of them adds these to memory. */
#define GROUP_BARRIER(wg) (1 + (wg)) /* named barriers; 0 is everybody's */
#define TURN_BARRIER(wg) (5 + (wg))

/* Two lanes whose numbers differ in the bits `lanes` exchange pairs: the lower one then has both
 * low pairs, the upper one both high pairs. */
FUNC void NAME(trade)(ACC *low, ACC *high, bool upper, int lanes) {
    UNROLL for (int e = 0; e < 2; e++) {
        const ACC got = NAME(exchange)(upper ? low[e] : high[e], lanes);
        if (upper) low[e] = got;
        else high[e] = got;
    }
}

/* Four of a thread's sums that lay elsewhere. */
FUNC void NAME(add_quad)(ACC *sum, const NAME(quad) *q) {
    const ACC *v = (const ACC *)q;
    UNROLL for (int e = 0; e < 4; e++) sum[e] += v[e];
}

#if ROW_TOPS
/* Maxima of two rows, row and row + 8, of four lanes each. */
FUNC void NAME(tops_begin_rows)(float (*both)[ROW_TOPS]) {
    NAME(tops_begin)(both[0]);
    NAME(tops_begin)(both[1]);
}
FUNC void NAME(tops_end_rows)(EPILOGUE_PARAMS, int batch, int row, int y0, int t,
                              float (*both)[ROW_TOPS]) {
    UNROLL for (int half = 0; half < 2; half++) {
        NAME(tops_group)(both[half], 4);
        if (t == 0 && row + half * 8 < m && y0 < n)
            NAME(tops_end)(EPILOGUE_ARGS, batch, row + half * 8, both[half]);
    }
}
#endif

#if ROLLED
/* Sums are registers, and only constants can index those. Statements of more than a few
 * instructions are a loop over pieces of the tile, `columns` of y each: every piece has its own
 * copy to where the one text of the statements finds it. Without that a tile is 70 KB of code that
 * runs once. */
FUNC void NAME(take_piece)(ACC (*sum)[SUMS], int piece, int columns, ACC *v) {
    const int pieces = (Y_TILE + columns - 1) / columns;
    const int i = piece / pieces, first = piece % pieces * (columns / 2);
    UNROLL for (int e = 0; e < columns / 2; e++)
        v[e] = i < X_BLOCKS && first + e < SUMS ? sum[i % X_BLOCKS][(first + e) % SUMS] : 0;
}
#define TAKE(q)                                                                                    \
    case q:                                                                                        \
        if ((q) < X_BLOCKS * ((Y_TILE + columns - 1) / columns))                                   \
            NAME(take_piece)(sum, q, columns, v);                                                  \
        break;
#define TAKE_4(q) TAKE(q) TAKE((q) + 1) TAKE((q) + 2) TAKE((q) + 3)
FUNC void NAME(take)(ACC (*sum)[SUMS], int piece, int columns, ACC *v) {
    switch (piece) {
        TAKE_4(0)
        TAKE_4(4)
        TAKE_4(8)
        TAKE_4(12)
        TAKE_4(16)
        TAKE_4(20)
        TAKE_4(24)
        TAKE_4(28)
    }
}
/* A loop keeps all sums to its end. Where that leaves no registers, pieces follow each other as
 * text, and sums go as they are finished. */
#define AS_TEXT (CROWDED && !SWAP)
#if AS_TEXT
#define EACH_PIECE UNROLL
#else
#define EACH_PIECE UNROLL_N(1)
#endif
/* Is there room for what the next piece reads while this one is finished? Without it every piece
 * waits for the L2 cache (8192^3 with gelu, bias and residual on an H200, 128x176: 3 %). */
#define AHEAD (X_BLOCKS * SUMS <= (AS_TEXT ? 176 : 128))
/* Addresses that are asked for ahead of the test whether they are needed. */
FUNC int NAME(inside)(int at, i64 extent, int width) {
    return min(at, (int)extent - width);
}
#endif

#if SWAP
/* x runs along the result's rows: 16 lines of y, from y line c of the tile on, lie in shared memory
 * as lines of the result, 4 words apart in banks. */
FUNC void NAME(stage_sums)(const ACC *first, int lines, ACC *stage, int wg) {
    const int thread = THREAD(0) % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
    UNROLL for (int j = 0; j < 16 && j < lines; j += 8) {
        const ACC *s = first + j / 2;
        ACC *at = stage + (j + 2 * t) * STAGE_PITCH + warp * 16 + g;
        at[0] = s[0], at[STAGE_PITCH] = s[1];
        at[8] = s[2], at[STAGE_PITCH + 8] = s[3];
    }
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
}
FUNC void NAME(stage_lines)(const ACC *sum, int c, ACC *stage, int wg) {
    NAME(stage_sums)(sum + c / 2, Y_TILE - c, stage, wg);
}
#endif

#if MATRIX_READS && !MATRIX_STAGED && SPLIT == 1
/* Matrices that the statements will read of an item's tile come as near as the L2 cache: a line for
 * each thread in turn. Best while the last products are under way: asked for when a deep tile begins,
 * they may be gone again before they are read. */
FUNC void NAME(drain_soon)(int x0, int y0, int batch, EPILOGUE_PARAMS) {
    const int rows = SWAP ? Y_TILE : X_WG, cols = SWAP ? X_WG : Y_TILE;
    const int lines = (cols + MATRIX_LINE - 1) / MATRIX_LINE;
    UNROLL_N(1) for (int i = THREAD(0) % 128; i < rows * lines; i += 128) {
        const int row = (SWAP ? y0 : x0) + i / lines;
        const int col = (SWAP ? x0 : y0) + i % lines * MATRIX_LINE;
        if (row < m && col < n) NAME(matrix_soon)(EPILOGUE_ARGS, batch, row, col);
    }
}
#endif

#if SPLIT > 1
/* split.cuh: sums go to the workspace */
#elif SWAP && ROLLED
FUNC void NAME(fetch_swapped)(EPILOGUE_PARAMS, int batch, int row, int col,
                              NAME(finish_held) *held) {
    NAME(finish_line) line;
    NAME(finish_begin)(EPILOGUE_ARGS, batch, NAME(inside)(row, m, 1), &line);
    UNROLL for (int e = 0; e < 8 / STORE; e++)
        NAME(finish_fetch)(EPILOGUE_ARGS, &line, NAME(inside)(col + e * STORE, n, STORE), held + e);
}
/* As below, in a loop; what the next lines need is asked for before these are finished. */
FUNC void NAME(drain)(ACC (*sum)[SUMS], u8 *pool, int wg, int x0, int y0, int batch,
                      EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, y = thread / 8;
    const int lines = min(Y_TILE, (int)m - y0); /* nor has any other thread of the consumer more */
    ACC *stage = (ACC *)(pool + STAGING) + wg * 16 * STAGE_PITCH;
    NAME(finish_held) next[8 / STORE];
    if (lines <= 0) return;
    NAME(fetch_swapped)(EPILOGUE_ARGS, batch, y0 + y, x0 + thread % 8 * 8, next);
    EACH_PIECE for (int i = 0; i < X_BLOCKS; i++) {
        const int col = x0 + i * 64 + thread % 8 * 8;
        EACH_PIECE for (int c = 0; c < lines; c += 16) {
            const int row = y0 + c + y;
            const bool last = c + 16 >= lines;
            __align__(16) ACC v[8];
            NAME(finish_held) now[8 / STORE];
            NAME(take)(sum, i * ((Y_TILE + 15) / 16) + c / 16, 16, v);
            NAME(stage_sums)(v, 16, stage, wg);
            UNROLL for (int e = 0; e < 8 / STORE; e++) now[e] = next[e];
            NAME(fetch_swapped)(EPILOGUE_ARGS, batch, last ? y0 + y : row + 16,
                                last ? col + 64 : col, next);
            const ACC *from = stage + y * STAGE_PITCH + thread % 8 * 8;
#if ROW_TOPS
            float tops[ROW_TOPS];
            NAME(tops_begin)(tops);
#endif
            if (c + y < Y_TILE && row < m) {
                *(NAME(quad) *)v = *(const NAME(quad) *)from;
                *(NAME(quad) *)(v + 4) = *(const NAME(quad) *)(from + 4);
                UNROLL for (int e = 0; e < 8; e += STORE) {
                    if (col + e < n)
                        NAME(finish_with)(EPILOGUE_ARGS, batch, row, col + e, v + e,
                                          now + e / STORE TOPS_ARG);
                }
            }
#if ROW_TOPS
            NAME(tops_group)(tops, 8);
            if (c + y < Y_TILE && row < m && col < n && thread % 8 == 0)
                NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
        }
    }
}
#elif SWAP
/* The staged lines are finished by all threads of the consumer. */
FUNC void NAME(drain)(ACC (*sum)[SUMS], u8 *pool, int wg, int x0, int y0, int batch,
                      EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128;
    ACC *stage = (ACC *)(pool + STAGING) + wg * 16 * STAGE_PITCH;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int c = 0; c < Y_TILE; c += 16) {
            if (y0 + c >= m) break; /* nor has any thread of the consumer lines left */
            NAME(stage_lines)(sum[i], c, stage, wg);
            const int y = c + thread / 8, row = y0 + y, col = x0 + i * 64 + thread % 8 * 8;
            const ACC *from = stage + thread / 8 * STAGE_PITCH + thread % 8 * 8;
#if ROW_TOPS
            float tops[ROW_TOPS];
            NAME(tops_begin)(tops);
#endif
            if (y < Y_TILE && row < m) {
                __align__(16) ACC v[8];
                *(NAME(quad) *)v = *(const NAME(quad) *)from;
                *(NAME(quad) *)(v + 4) = *(const NAME(quad) *)(from + 4);
                UNROLL for (int e = 0; e < 8; e += STORE) {
                    if (col + e < n)
                        NAME(finish)(EPILOGUE_ARGS, batch, row, col + e, v + e TOPS_ARG);
                }
            }
#if ROW_TOPS
            NAME(tops_group)(tops, 8);
            if (y < Y_TILE && row < m && col < n && thread % 8 == 0)
                NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
        }
    }
}
#elif IN_PIECES
#if ROLLED
/* Columns at a time: two rows of each 8. A whole piece would need more registers than there are. */
#define PART (AHEAD && PIECE > 32 ? 32 : !AHEAD && PIECE > 16 ? 16 : PIECE)
#define PARTS (PIECE / PART)
typedef struct {
    NAME(value_held) of[PART / 8][2];
} NAME(part_held);
FUNC void NAME(begin_rows)(EPILOGUE_PARAMS, int batch, int row, NAME(value_line) *line) {
    UNROLL for (int half = 0; half < 2; half++)
        NAME(value_begin)(EPILOGUE_ARGS, batch, NAME(inside)(row + half * 8, m, 1), line + half);
}
FUNC void NAME(fetch_part)(EPILOGUE_PARAMS, const NAME(value_line) *line, int col,
                           NAME(part_held) *held) {
    UNROLL for (int c = 0; c < PART / 8; c++) {
        const int inside = NAME(inside)(col + c * 8, n, 2);
        UNROLL for (int half = 0; half < 2; half++)
            NAME(value_fetch)(EPILOGUE_ARGS, line + half, inside, &held->of[c][half]);
    }
}
FUNC void NAME(drain)(ACC (*sum)[SUMS], const NAME(tensor_map) *map, const NAME(stage) *stage,
                      int x0, int y0, int batch, EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, warp = thread / 32, lane = thread % 32;
    const int g = lane / 4, t = lane % 4;
    NAME(part_held) next;
    NAME(value_line) line[2]; /* of what is fetched next */
    NAME(begin_rows)(EPILOGUE_ARGS, batch, x0 + warp * 16 + g, line);
    if (AHEAD) NAME(fetch_part)(EPILOGUE_ARGS, line, y0 + 2 * t, &next);
    NAME(stage_begin)(lane);
    EACH_PIECE for (int i = 0; i < X_BLOCKS; i++) {
        const int row0 = x0 + i * 64 + warp * 16, row = row0 + g;
#if ROW_TOPS
        float both[2][ROW_TOPS]; /* of rows g and g + 8 */
        NAME(tops_begin_rows)(both);
#endif
        EACH_PIECE for (int p = 0; p < Y_TILE / PART; p++) {
            const int j0 = p % PARTS * PART, col0 = y0 + p * PART;
            const u32 at = NAME(stage_piece)(stage, i * PIECES + p / PARTS);
            const bool last = p + 1 == Y_TILE / PART;
            ACC s[PART / 2];
            if (!AHEAD) NAME(fetch_part)(EPILOGUE_ARGS, line, col0 + 2 * t, &next);
            if (X_BLOCKS > 1 && last) NAME(begin_rows)(EPILOGUE_ARGS, batch, row + 64, line);
            if (j0 == 0) NAME(stage_free)(stage, lane);
#if MATRIX_STAGED
            if (j0 == 0) NAME(matrix_await)();
#endif
            NAME(take)(sum, i * (Y_TILE / PART) + p, PART, s);
            NAME(part_held) now = next;
            if (AHEAD)
                NAME(fetch_part)(EPILOGUE_ARGS, line, (last ? y0 : col0 + PART) + 2 * t, &next);
            UNROLL for (int j = 0; j < PART; j += 16) {
                float v[4][2];
#if MATRIX_STAGED
                u32 pair[4];
                NAME(take_columns)(at, j0 + j, lane, pair);
                UNROLL for (int e = 0; e < 4; e++)
                    NAME(value_set)(&now.of[j / 8 + e / 2][e % 2], pair[e]);
#endif
                UNROLL for (int e = 0; e < 4; e++) {
                    const int c = j + e / 2 * 8, y = row + e % 2 * 8, x = col0 + c + 2 * t;
#if ROW_TOPS
                    float *tops = both[e % 2];
#endif
                    v[e][0] = v[e][1] = 0;
                    if (EVERYWHERE || (y < m && x < n))
                        NAME(value_with)(EPILOGUE_ARGS, batch, y, x, s + c / 2 + e % 2 * 2, v[e],
                                         &now.of[c / 8][e % 2] TOPS_ARG);
                }
                NAME(put_columns)(at, j0 + j, lane, v);
            }
            if (j0 + PART < PIECE) continue;
            NAME(send_piece)(map, stage, i, p / PARTS, row0, y0, batch, RESULT_ARGS);
#if MATRIX_STAGED
            NAME(matrix_next)(stage, i * PIECES + p / PARTS, x0 + warp * 16, y0, batch,
                              EPILOGUE_ARGS);
#endif
        }
#if ROW_TOPS
        NAME(tops_end_rows)(EPILOGUE_ARGS, batch, row, y0, t, both);
#endif
    }
    NAME(send_ring)(map, stage, x0 + warp * 16, y0, batch);
}
#else
FUNC void NAME(value_at)(EPILOGUE_PARAMS, int batch, int row, int col, const ACC *s,
                         float *v TOPS_PARAM) {
    v[0] = v[1] = 0;
    if ((EVERYWHERE && !ARRAY_READS) || (row < m && col < n))
        NAME(value)(EPILOGUE_ARGS, batch, row, col, s, v TOPS_ARG);
}

FUNC void NAME(drain)(ACC (*sum)[SUMS], const NAME(tensor_map) *map, const NAME(stage) *stage,
                      int x0, int y0, int batch, EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, warp = thread / 32, lane = thread % 32;
    const int g = lane / 4, t = lane % 4;
    NAME(stage_begin)(lane);
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        const int row0 = x0 + i * 64 + warp * 16, row = row0 + g;
#if ROW_TOPS
        float both[2][ROW_TOPS]; /* of rows g and g + 8 */
        NAME(tops_begin_rows)(both);
#endif
        UNROLL for (int p = 0; p < PIECES; p++) {
            const u32 at = NAME(stage_piece)(stage, i * PIECES + p);
            const int first = FIRST_COLUMN(p);
            float v[4][2];
            NAME(stage_free)(stage, lane);
            UNROLL for (int j = 0; j < PIECE; j += 16) {
                UNROLL for (int e = 0; e < 4; e++) {
                    const int c = first + j + e / 2 * 8;
#if ROW_TOPS
                    float *tops = both[e % 2];
#endif
                    NAME(value_at)(EPILOGUE_ARGS, batch, row + e % 2 * 8, y0 + c + 2 * t,
                                   sum[i] + c / 2 + e % 2 * 2, v[e] TOPS_ARG);
                }
                NAME(put_columns)(at, j, lane, v);
            }
            NAME(send_piece)(map, stage, i, p, row0, y0, batch, RESULT_ARGS);
        }
#if ROW_TOPS
        NAME(tops_end_rows)(EPILOGUE_ARGS, batch, row, y0, t, both);
#endif
    }
    NAME(send_ring)(map, stage, x0 + warp * 16, y0, batch);
}
#endif
#else
/* Four lanes exchange what they hold of 32 columns, so that each has 8 adjacent ones: lane t those
 * from 8 t on. In v, pair j is of columns 8 j + 2 t before, of columns 2 j of lane t's 8 after. */
FUNC void NAME(transpose)(ACC *v, int t) {
    NAME(trade)(v, v + 2, t & 1, 1);
    NAME(trade)(v + 4, v + 6, t & 1, 1);
    NAME(trade)(v, v + 4, t & 2, 2);
    NAME(trade)(v + 2, v + 6, t & 2, 2);
}

#if ROLLED
FUNC void NAME(begin_rows)(EPILOGUE_PARAMS, int batch, int row, NAME(finish_line) *line) {
    UNROLL for (int half = 0; half < 2; half++)
        NAME(finish_begin)(EPILOGUE_ARGS, batch, NAME(inside)(row + half * 8, m, 1), line + half);
}
FUNC void NAME(fetch_rows)(EPILOGUE_PARAMS, const NAME(finish_line) *line, int col,
                           NAME(finish_held) (*held)[8 / STORE]) {
    UNROLL for (int e = 0; e < 8 / STORE; e++) {
        const int inside = NAME(inside)(col + e * STORE, n, STORE);
        UNROLL for (int half = 0; half < 2; half++)
            NAME(finish_fetch)(EPILOGUE_ARGS, line + half, inside, held[half] + e);
    }
}
/* 32 columns of rows g and g + 8 at a time. What the next ones need is asked for before these are
 * finished: without a branch, in front of the arithmetic, so that nothing waits for it here. */
FUNC void NAME(drain)(ACC (*sum)[SUMS], int x0, int y0, int batch, EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    NAME(finish_held) next[2][8 / STORE];
    NAME(finish_line) line[2]; /* of what is fetched next */
    NAME(begin_rows)(EPILOGUE_ARGS, batch, x0 + warp * 16 + g, line);
    if (AHEAD) NAME(fetch_rows)(EPILOGUE_ARGS, line, y0 + t * 8, next);
    EACH_PIECE for (int i = 0; i < X_BLOCKS; i++) {
        const int row0 = x0 + i * 64 + warp * 16 + g;
#if ROW_TOPS
        float both[2][ROW_TOPS];
        NAME(tops_begin_rows)(both);
#endif
        EACH_PIECE for (int c = 0; c < Y_TILE; c += 32) {
            const int col = y0 + c + t * 8;
            const bool last = c + 32 >= Y_TILE;
            NAME(finish_held) now[2][8 / STORE];
            ACC s[16];
            if (!AHEAD) NAME(fetch_rows)(EPILOGUE_ARGS, line, col, next);
            if (X_BLOCKS > 1 && last) NAME(begin_rows)(EPILOGUE_ARGS, batch, row0 + 64, line);
            NAME(take)(sum, i * ((Y_TILE + 31) / 32) + c / 32, 32, s);
            UNROLL for (int e = 0; e < 16 / STORE; e++)
                now[e / (8 / STORE)][e % (8 / STORE)] = next[e / (8 / STORE)][e % (8 / STORE)];
            if (AHEAD)
                NAME(fetch_rows)(EPILOGUE_ARGS, line, last ? y0 + t * 8 : col + 32, next);
            UNROLL for (int half = 0; half < 2; half++) {
                const int row = row0 + half * 8;
#if ROW_TOPS
                float *tops = both[half];
#endif
                __align__(16) ACC v[8];
                UNROLL for (int e = 0; e < 8; e++) v[e] = s[e / 2 * 4 + half * 2 + e % 2];
                NAME(transpose)(v, t);
                if (row < m && c + t * 8 < Y_TILE) {
                    UNROLL for (int e = 0; e < 8; e += STORE) {
                        if (col + e < n)
                            NAME(finish_with)(EPILOGUE_ARGS, batch, row, col + e, v + e,
                                              now[half] + e / STORE TOPS_ARG);
                    }
                }
            }
        }
#if ROW_TOPS
        NAME(tops_end_rows)(EPILOGUE_ARGS, batch, row0, y0, t, both);
#endif
    }
}
#else
FUNC void NAME(drain)(ACC (*sum)[SUMS], int x0, int y0, int batch, EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int half = 0; half < 2; half++) {
            const int row = x0 + i * 64 + warp * 16 + half * 8 + g;
#if ROW_TOPS
            float tops[ROW_TOPS];
            NAME(tops_begin)(tops);
#endif
            UNROLL for (int c = 0; c < Y_TILE; c += 32) {
                __align__(16) ACC v[8];
                UNROLL for (int j = 0; j < 4; j++) {
                    const bool inside = c + j * 8 < Y_TILE;
                    v[2 * j] = inside ? sum[i][(c / 2 + j * 4 + half * 2) % SUMS] : 0;
                    v[2 * j + 1] = inside ? sum[i][(c / 2 + j * 4 + half * 2 + 1) % SUMS] : 0;
                }
                NAME(transpose)(v, t);
                const int col = y0 + c + t * 8;
                if (row < m && c + t * 8 < Y_TILE) {
                    UNROLL for (int e = 0; e < 8; e += STORE) {
                        if (col + e < n)
                            NAME(finish)(EPILOGUE_ARGS, batch, row, col + e, v + e TOPS_ARG);
                    }
                }
            }
#if ROW_TOPS
            NAME(tops_group)(tops, 4);
            if (row < m && y0 < n && t == 0) NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
        }
    }
}
#endif
#endif

#if STREAM
/* ---- sums of a tile that several clusters share
 *
 * Whoever has slots [0, to) of the tile owns it, and adds what the following shares left in the
 * workspace, in their order: results repeat bit by bit. A block leaves at most one set of sums
 * behind, as only the first item of its share may begin inside a tile. */
#define SHARES (PINGPONG ? 1 : CONSUMERS) /* consumers that work on one tile */
#define FLAGS (((i64)BLOCKS(0) * SHARES * 4 + 255) / 256 * 256)

FUNC u32 *NAME(flag)(u8 *work, int block, int wg) {
    return (u32 *)work + block * SHARES + (PINGPONG ? 0 : wg);
}
FUNC NAME(quad) *NAME(partial)(u8 *work, int block, int wg) {
    const i64 set = (i64)block * SHARES + (PINGPONG ? 0 : wg);
    return (NAME(quad) *)(work + FLAGS + set * X_WG * Y_TILE * 4) + THREAD(0) % 128;
}

FUNC void NAME(leave)(ACC (*sum)[SUMS], u8 *work, int wg) {
    NAME(quad) *to = NAME(partial)(work, BLOCK(0), wg);
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int j = 0; j < SUMS; j += 4) {
            NAME(partial_write)(to + (i * SUMS + j) / 4 * 128, *(const NAME(quad) *)(sum[i] + j));
        }
    }
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
    if (THREAD(0) % 128 == 0) NAME(flag_raise)(NAME(flag)(work, BLOCK(0), wg));
}

/* The flag that share r raises when it leaves sums of this tile, else NULL. */
FUNC u32 *NAME(awaited)(const NAME(walk) *w, int r, int tile_end, int rank, u8 *work, int wg) {
    if (r >= w->clusters) return 0;
    const int from = NAME(share)(w, r), to = NAME(share)(w, r + 1);
    if (from >= tile_end || to == from) return 0;
    return NAME(flag)(work, (w->clusters - 1 - r) * CLUSTER + rank, wg);
}

FUNC void NAME(collect)(ACC (*sum)[SUMS], const NAME(walk) *w, int rank, u8 *work, int wg) {
    const int tile_end = (w->tile - w->whole + 1) * w->k_blocks, thread = THREAD(0) % 128;
    const int first = w->clusters - w->cluster; /* the share after this cluster's */
    /* All flags are waited for at once, a thread each; a flag is raised once in a launch, so whoever
     * has seen it may take it down. */
    for (int r = first + thread; r < w->clusters; r += 128) {
        u32 *flag = NAME(awaited)(w, r, tile_end, rank, work, wg);
        if (!flag) continue;
        NAME(flag_take)(flag);
        NAME(flag_clear)(flag);
    }
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
    for (int r = first; r < w->clusters && NAME(share)(w, r) < tile_end; r++) {
        if (NAME(share)(w, r + 1) == NAME(share)(w, r)) continue;
        const NAME(quad) *from =
            NAME(partial)(work, (w->clusters - 1 - r) * CLUSTER + rank, wg);
        UNROLL for (int i = 0; i < X_BLOCKS; i++) {
            UNROLL for (int j = 0; j < SUMS; j += 4) {
                const NAME(quad) q = NAME(partial_read)(from + (i * SUMS + j) / 4 * 128);
                NAME(add_quad)(sum[i] + j, &q);
            }
        }
    }
}
#endif

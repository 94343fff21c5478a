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

#if SWAP
/* x runs along the result's rows: 16 lines of y, from y line c of the tile on, lie in shared memory
 * as lines of the result, 4 words apart in banks. */
FUNC void NAME(stage_lines)(const ACC *sum, int c, ACC *stage, int wg) {
    const int thread = THREAD(0) % 128, warp = thread / 32, g = thread % 32 / 4, t = thread % 4;
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
    UNROLL for (int j = 0; j < 16 && c + j < Y_TILE; j += 8) {
        const ACC *s = sum + (c + j) / 2;
        ACC *at = stage + (j + 2 * t) * STAGE_PITCH + warp * 16 + g;
        at[0] = s[0], at[STAGE_PITCH] = s[1];
        at[8] = s[2], at[STAGE_PITCH + 8] = s[3];
    }
    NAME(group_sync)(GROUP_BARRIER(wg), 128);
}
#endif

#if SPLIT > 1
/* split.cuh: sums go to the workspace */
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
#elif TMA_STORE
/* Each warp on its own: pieces of 16 rows x 128 bytes (64 where the tile's width is no multiple of
 * that), in TMA's swizzle, in two places by turns. */
#define OUT_LINE (Y_TILE * OUT_BYTES % 128 ? 64 : 128)
#define PIECE (OUT_LINE / OUT_BYTES) /* columns */
/* Where 16 bytes `chunk` of a line lie: eight successive lines fall into different banks. */
FUNC u32 NAME(staged)(u32 at, int line, int chunk) {
    const int exchange = OUT_LINE == 128 ? line & 7 : line >> 1 & 3;
    return at + (u32)(line * OUT_LINE + ((chunk ^ exchange) << 4));
}
FUNC void NAME(value_at)(EPILOGUE_PARAMS, int batch, int row, int col, const ACC *s,
                         float *v TOPS_PARAM) {
    v[0] = v[1] = 0;
    if (row < m && col < n) NAME(value)(EPILOGUE_ARGS, batch, row, col, s, v TOPS_ARG);
}

FUNC void NAME(drain)(ACC (*sum)[SUMS], const NAME(tensor_map) *map, u32 pool, int wg, int x0,
                      int y0, int batch, EPILOGUE_PARAMS) {
    const int thread = THREAD(0) % 128, warp = thread / 32, lane = thread % 32;
    const int g = lane / 4, t = lane % 4;
    const u32 stage = pool + STAGING + (u32)((wg * 4 + warp) * 4096);
    /* an odd number of pieces ends in the place in which the next tile begins */
    if (X_BLOCKS * (Y_TILE / PIECE) % 2 && lane == 0) NAME(stores_all_read)();
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        const int row0 = x0 + i * 64 + warp * 16, row = row0 + g;
#if ROW_TOPS
        float both[2][ROW_TOPS]; /* of rows g and g + 8 */
        NAME(tops_begin)(both[0]);
        NAME(tops_begin)(both[1]);
#endif
        UNROLL for (int p = 0; p < Y_TILE / PIECE; p++) {
            const u32 at = stage + (i * (Y_TILE / PIECE) + p) % 2 * 2048;
            const int col0 = y0 + p * PIECE;
            float v[4][2];
            if (lane == 0) NAME(stores_read)();
            NAME(warp_sync)();
            UNROLL for (int j = 0; j < PIECE; j += 16) {
                UNROLL for (int e = 0; e < 4; e++) {
                    const int c = j + e / 2 * 8;
#if ROW_TOPS
                    float *tops = both[e % 2];
#endif
                    NAME(value_at)(EPILOGUE_ARGS, batch, row + e % 2 * 8, col0 + c + 2 * t,
                                   sum[i] + (p * PIECE + c) / 2 + e % 2 * 2, v[e] TOPS_ARG);
                }
#if OUT_BYTES == 4
                UNROLL for (int e = 0; e < 4; e++) {
                    const int chunk = j / 4 + e / 2 * 2 + t / 2;
                    NAME(put_pair)(NAME(staged)(at, g + e % 2 * 8, chunk) + t % 2 * 8, v[e][0],
                                   v[e][1]);
                }
#else
                NAME(put_matrices)(NAME(staged)(at, lane % 16, j / 8 + lane / 16),
                                   NAME(pack)(v[0][0], v[0][1]), NAME(pack)(v[1][0], v[1][1]),
                                   NAME(pack)(v[2][0], v[2][1]), NAME(pack)(v[3][0], v[3][1]));
#endif
            }
            NAME(stores_visible)();
            NAME(warp_sync)();
            if (lane == 0) NAME(store_box)(map, at, col0, row0, batch);
        }
#if ROW_TOPS
        UNROLL for (int half = 0; half < 2; half++) {
            NAME(tops_group)(both[half], 4);
            if (t == 0 && row + half * 8 < m && y0 < n)
                NAME(tops_end)(EPILOGUE_ARGS, batch, row + half * 8, both[half]);
        }
#endif
    }
}
#else
/* Four lanes exchange what they hold of 32 columns, so that each has 8 adjacent ones: lane t those
 * from 8 t on. In v, pair j is of columns 8 j + 2 t before, of columns 2 j of lane t's 8 after. */
FUNC void NAME(transpose)(ACC *v, int t) {
    NAME(trade)(v, v + 2, t & 1, 1);
    NAME(trade)(v + 4, v + 6, t & 1, 1);
    NAME(trade)(v, v + 4, t & 2, 2);
    NAME(trade)(v + 2, v + 6, t & 2, 2);
}

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
                const ACC *v = (const ACC *)&q;
                UNROLL for (int e = 0; e < 4; e++) sum[i][j + e] += v[e];
            }
        }
    }
}
#endif

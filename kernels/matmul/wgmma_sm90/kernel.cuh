/* ---- the producer: one thread asks for every slot of this block's items, in order
 *
 * Of an operand's tile that CLUSTER_Y (CLUSTER_X) blocks share, each loads its part and sends it to
 * all of them; a tile that does not fall into parts of whole swizzle atoms is loaded by one of them,
 * for every slot the next one. full[] expects the whole of both tiles. */
#define ATOM_X (X_ACROSS ? PER_LINE : 8) /* lines */
#define ATOM_Y (Y_ACROSS ? PER_LINE : 8)
#define TURNS_X (X_TILE % (CLUSTER_Y * ATOM_X) != 0)
#define TURNS_Y (Y_TILE % (CLUSTER_X * ATOM_Y) != 0)
#define PART_X (TURNS_X ? X_TILE : X_TILE / CLUSTER_Y)
#define PART_Y (TURNS_Y ? Y_TILE : Y_TILE / CLUSTER_X)
#define MY_TURN(turns, k, sharers, rank) (!(turns) || (k) % (sharers) == (rank))
#define POLICY_A (EVICT == 2 ? EVICT_FIRST : EVICT_NORMAL)
#define POLICY_B (EVICT == 1 ? EVICT_FIRST : EVICT_NORMAL)

/* Lines [part, part + count) of a tile of `lines`, whose first line is `line0` of the operand. soon:
 * only as near as the L2 cache. */
FUNC void NAME(load_lines)(const NAME(tensor_map) *map, bool soon, u32 barrier, u32 tile, int lines,
                           int across, int line0, int part, int count, int k0, int batch, int mask,
                           u64 policy) {
    const int boxes = across ? count / PER_LINE : SLABS;
    UNROLL for (int i = 0; i < boxes; i++) {
        const int to = across ? (part / PER_LINE + i) * TK * LINE : (i * lines + part) * LINE;
        const int c0 = (across ? line0 + part : k0) + i * PER_LINE;
        const int c1 = across ? k0 : line0 + part;
        if (soon) NAME(box_soon)(map, c0, c1, batch);
        else NAME(load_box)(map, barrier, tile + (u32)to, c0, c1, batch, mask, policy);
    }
}
/* Slot k of the item at `at`: what this block loads of it, at (rx, ry) in the cluster. */
FUNC void NAME(load_slot)(const NAME(tensor_map) *map_x, const NAME(tensor_map) *map_y, bool soon,
                          u32 full, u32 slot, NAME(spot) at, int k, int rx, int ry, int mask_x,
                          int mask_y) {
    if (MY_TURN(TURNS_X, k, CLUSTER_Y, ry))
        NAME(load_lines)(map_x, soon, full, slot, X_TILE, X_ACROSS, at.x0, TURNS_X ? 0 : ry * PART_X,
                         PART_X, k * TK, at.batch, mask_x, SWAP ? POLICY_B : POLICY_A);
    if (MY_TURN(TURNS_Y, k, CLUSTER_X, rx))
        NAME(load_lines)(map_y, soon, full, slot + SLOT_X, Y_TILE, Y_ACROSS, at.y0,
                         TURNS_Y ? 0 : rx * PART_Y, PART_Y, k * TK, at.batch, mask_y,
                         SWAP ? POLICY_A : POLICY_B);
}

/* The walk's first item is at `spot`; more: there is one. */
FUNC void NAME(produce)(const NAME(tensor_map) *map_x, const NAME(tensor_map) *map_y, u32 pool,
                        NAME(walk) *w, int rank, NAME(spot) spot, bool more) {
    const int rx = rank / CLUSTER_Y, ry = rank % CLUSTER_Y;
    int mask_x = 0, mask_y = 0;
    if (CLUSTER_Y > 1) mask_x = ((1 << CLUSTER_Y) - 1) << (rx * CLUSTER_Y);
    if (CLUSTER_X > 1) {
        UNROLL for (int i = 0; i < CLUSTER_X; i++) mask_y |= 1 << (i * CLUSTER_Y + ry);
    }
    NAME(ring) ring;
    ring.slot = 0, ring.parity = 1; /* the first round finds all slots empty */
    while (more) {
        UNROLL_N(1) for (int k = w->from; k < w->to; k++) {
            const u32 full = FULL(pool, ring.slot), slot = pool + ring.slot * SLOT;
            NAME(barrier_wait)(EMPTY(pool, ring.slot), ring.parity);
            NAME(barrier_expect)(full, SLOT);
            NAME(load_slot)(map_x, map_y, false, full, slot, spot, k, rx, ry, mask_x, mask_y);
            NAME(ring_next)(&ring);
        }
        more = NAME(walk_next)(w);
        if (more) spot = NAME(walk_place)(w, rank);
    }
    /* Neighbours tell this block's barriers of their last reads: it must not have ended then. */
    if (CLUSTER > CLUSTER_K) NAME(ring_drained)(pool, ring);
}

#if TMA_STORE
#define MAIN_PARAMS MAP_PARAM(map_x), MAP_PARAM(map_y), MAP_PARAM(map_out)
#define MAP_OUT &map_out
#else
#define MAIN_PARAMS MAP_PARAM(map_x), MAP_PARAM(map_y)
#define MAP_OUT 0
#endif

#if SPLIT > 1
#define MAIN_EPILOGUE i64 m, i64 n
#define MAIN_EPILOGUE_ARGS m, n
#else
#define MAIN_EPILOGUE EPILOGUE_PARAMS
#define MAIN_EPILOGUE_ARGS EPILOGUE_ARGS
#endif

/* Will this consumer finish the item? Other shares of a streamed tile are left to the first one's
 * owner; of two blocks that halve k each finishes one consumer's part. */
#define FINISHES(w, wg, rank) ((!STREAM || (w)->from == 0) && (CLUSTER_K == 1 || (wg) == (rank)))

/* While the last products are under way a tile's place is found, and what statements read is brought
 * near; in a crowded thread later, and earlier. What comes through the results' places comes when the
 * tile begins. */
#if MATRIX_STAGED
#define DRAIN_SOON(late, place)                                                                    \
    if (!(late) && FINISHES(&w, wg, rank)) {                                                       \
        NAME(spot) at = place;                                                                     \
        at.x0 += first;                                                                            \
        NAME(matrix_begin)(pool, wg, at, EPILOGUE_ARGS);                                           \
    }
#elif MATRIX_READS && SPLIT == 1
#define DRAIN_SOON(late, place)                                                                    \
    if ((late) == !CROWDED && FINISHES(&w, wg, rank)) {                                            \
        const NAME(spot) at = place;                                                               \
        NAME(drain_soon)(at.x0 + first, at.y0, at.batch, EPILOGUE_ARGS);                           \
    }
#else
#define DRAIN_SOON(late, place)
#endif

/* Nothing before it touches global memory or what other threads and blocks have prepared. */
FUNC void NAME(await_start)(void) {
    NAME(wait_previous)();
    NAME(cluster_wait)();
}

/* A consumer's sums of an item are complete, and go to where they belong. `ring` is behind the item. */
FUNC void NAME(finish_item)(ACC (*sum)[SUMS], const NAME(tensor_map) *map_out, u8 *shared, u32 pool,
                            int wg, NAME(ring) ring, const NAME(walk) *w, NAME(spot) at, u8 *work,
                            int batches, MAIN_EPILOGUE) {
    (void)map_out, (void)shared, (void)pool, (void)wg, (void)ring, (void)w, (void)work, (void)batches;
#if SPLIT > 1
    NAME(leave_part)(sum, shared, wg, at.x0, at.y0, (int)m, n,
                     NAME(part_at)(work, NAME(walk_part)(w) * batches + at.batch, m, n));
#elif SWAP
    NAME(drain)(sum, shared, wg, at.x0, at.y0, at.batch, EPILOGUE_ARGS);
#elif IN_PIECES
    const bool in_ring = RING_HOLDS && !CROWDED && NAME(walk_over)(w);
    const NAME(stage) stage = NAME(stage_of)(pool, wg, in_ring);
    ring.parity ^= 1; /* the producer's */
    if (in_ring) NAME(ring_drained)(pool, ring);
#if CLUSTER_K > 1
    NAME(group_sync)(GROUP_BARRIER(wg), 128); /* all have taken the sums they were given there */
#endif
    NAME(drain)(sum, map_out, &stage, at.x0, at.y0, at.batch, EPILOGUE_ARGS);
#else
    NAME(drain)(sum, at.x0, at.y0, at.batch, EPILOGUE_ARGS);
#endif
}

/* grid: a multiple of CLUSTER, at most what runs at once. soon: ask for the first slot before the
 * launch before this one has ended. */
ENTRY(THREADS)
NAME(main)(MAIN_PARAMS, int k, int batches, int soon, u8 *work, MAIN_EPILOGUE) {
    POOL(NAME(pool));
    if (m <= 0 || n <= 0) return;
    const u32 pool = SHARED_BASE(NAME(pool));
    const int rank = NAME(cluster_rank)();
    const int tile_rank = CLUSTER_K > 1 ? 0 : rank; /* among the cluster's tiles */
    NAME(walk) w;
    NAME(walk_start)(&w, (int)m, (int)n, k, batches);
    (void)work;
    NAME(launch_next)();
    if (THREAD(0) == 0) {
        NAME(map_prefetch)(&map_x);
        NAME(map_prefetch)(&map_y);
#if TMA_STORE
        NAME(map_prefetch)(&map_out);
#endif
        UNROLL_N(1) for (int s = 0; s < STAGES; s++) {
            NAME(barrier_init)(FULL(pool, s), 1);
            NAME(barrier_init)(EMPTY(pool, s),
                               (PINGPONG ? 1 : CONSUMERS) * (CLUSTER_X + CLUSTER_Y - 1));
        }
        NAME(barriers_ready)();
    }
    NAME(cluster_arrive)();

    const int group = NAME(uniform)(THREAD(0) / 128);
    if (group == 0) {
#if CONSUMERS > 1
        REGISTERS_LESS(REGISTERS_PRODUCER);
#endif
        const bool more = NAME(walk_next)(&w);
        const NAME(spot) spot = NAME(walk_place)(&w, tile_rank);
        /* more slots than the first gained no more on an H200 */
        if (THREAD(0) == 0 && more && soon)
            NAME(load_slot)(&map_x, &map_y, true, 0, 0, spot, w.from, tile_rank / CLUSTER_Y,
                            tile_rank % CLUSTER_Y, 0, 0);
        NAME(warp_sync)();
        NAME(await_start)();
        if (THREAD(0) == 0) NAME(produce)(&map_x, &map_y, pool, &w, tile_rank, spot, more);
        NAME(warp_sync)();
#if CLUSTER_K > 1
        NAME(cluster_sync)(); /* as the consumers do in exchange_sums */
        NAME(cluster_sync)();
#endif
    } else {
#if CONSUMERS > 1
        REGISTERS_MORE(REGISTERS_CONSUMER);
#endif
        const int wg = group - 1, first = PINGPONG ? 0 : wg * X_WG;
        const NAME(reader) reader = NAME(reader_of)(THREAD(0) % 128, rank);
        NAME(ring) ring;
        ring.slot = 0, ring.parity = 0;
        __align__(16) ACC sum[X_BLOCKS][SUMS];
#if OVERLAP
        NAME(held) held;
        held.any = false;
#endif
        NAME(await_start)();
#if PINGPONG
        int item = 0;
        if (wg == 1) NAME(group_arrive)(TURN_BARRIER(0), 256);
#endif
        UNROLL_N(1) while (NAME(walk_next)(&w)) {
#if PINGPONG
            if ((item++ & 1) != wg) {
                NAME(ring_skip)(&ring, w.to - w.from);
                continue;
            }
#endif
            DRAIN_SOON(false, NAME(walk_place)(&w, tile_rank));
#if PINGPONG
            NAME(group_sync)(TURN_BARRIER(wg), 256);
#endif
#if OVERLAP
            NAME(multiply_beside)(sum, pool, &ring, w.to - w.from, first, &reader, &held, wg, MAP_OUT,
                                  RESULT_ARGS);
#else
            NAME(multiply)(sum, pool, &ring, w.to - w.from, first, &reader);
#endif
#if PINGPONG
            NAME(group_arrive)(TURN_BARRIER(wg ^ 1), 256);
#endif
            NAME(spot) spot;
            if (!CROWDED) spot = NAME(walk_place)(&w, tile_rank);
            DRAIN_SOON(true, spot);
            NAME(multiply_end)(sum, pool, &ring, &reader);
            if (CROWDED) spot = NAME(walk_place)(&w, tile_rank);
            spot.x0 += first;
#if STREAM
            if (w.from > 0) {
                NAME(leave)(sum, work, wg);
                continue;
            }
            if (w.to < w.k_blocks) NAME(collect)(sum, &w, rank, work, wg);
#endif
#if CLUSTER_K > 1
            if (!NAME(exchange_sums)(sum, NAME(pool), pool, wg, rank)) continue;
#endif
#if OVERLAP
            if (!NAME(walk_over)(&w)) {
                NAME(hold_results)(sum, spot, &held, EPILOGUE_ARGS);
                continue;
            }
#endif
            NAME(finish_item)(sum, MAP_OUT, NAME(pool), pool, wg, ring, &w, spot, work, batches,
                              MAIN_EPILOGUE_ARGS);
        }
#if TMA_STORE
        NAME(stores_all_read)();
#endif
    }
}

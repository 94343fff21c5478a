/* ---- the ring of slots: where a role is, and the parity it waits for */
typedef struct {
    int slot;
    u32 parity;
} NAME(ring);

FUNC void NAME(ring_next)(NAME(ring) *r) {
    if (++r->slot == STAGES) r->slot = 0, r->parity ^= 1;
}
FUNC void NAME(ring_skip)(NAME(ring) *r, int slots) {
    const int to = r->slot + slots;
    r->parity ^= to / STAGES & 1;
    r->slot = to % STAGES;
}
#define FULL(pool, slot) ((pool) + BARRIERS + (slot)*8)
#define EMPTY(pool, slot) ((pool) + BARRIERS + (STAGES + (slot)) * 8)
/* Until all slots have been read, by all consumers and by the cluster's blocks that share them: `ring`
 * is where the producer, behind its last slot, would go on. */
FUNC void NAME(ring_drained)(u32 pool, NAME(ring) ring) {
    UNROLL_N(1) for (int s = 0; s < STAGES; s++) {
        NAME(barrier_wait)(EMPTY(pool, ring.slot), ring.parity);
        NAME(ring_next)(&ring);
    }
}

/* ---- descriptors: how wgmma finds an operand's tile in a slot
 *
 * Lines along k: X_TILE (Y_TILE) lines of 128 bytes for each slab of 128 bytes of k; eight lines
 * are a swizzle atom, 1024 bytes to the next. A wgmma takes 32 bytes of the line.
 * Lines across: TK lines of 64 elements for every 64 of x (y); a wgmma takes 16 lines, and the next
 * 64 elements lie `leading` bytes further. */
#define DESCRIPTOR_HIGH (1u << 30 | 1024 / 16)
FUNC u32 NAME(descriptor)(u32 at, u32 leading) {
    return (at & 0x3ffff) >> 4 | (leading >> 4) << 16;
}
FUNC u64 NAME(descriptor_at)(u32 low, int bytes) {
    return (u64)DESCRIPTOR_HIGH << 32 | (low + (u32)(bytes / 16));
}
#define STEP_AT(step, across, lines)                                                               \
    ((across) ? (step) * (32 / ELEMENT) * LINE : (step) / STEPS * (lines)*LINE + (step) % STEPS * 32)
#define BLOCK_AT(i) (X_ACROSS ? (i)*TK * LINE : (i)*64 * LINE)

/* All products of one slot into `sum`; fresh: forget what it held. `first`: this consumer's first
 * x line. */
FUNC void NAME(multiply_slot)(ACC (*sum)[SUMS], u32 slot, int first, bool fresh) {
    const u32 x = NAME(descriptor)(slot + BLOCK_AT(first / 64), X_ACROSS ? TK * LINE : 16);
    const u32 y = NAME(descriptor)(slot + SLOT_X, Y_ACROSS ? TK * LINE : 16);
    NAME(hold)(sum[0], X_BLOCKS * SUMS);
    NAME(wgmma_fence)();
    UNROLL for (int step = 0; step < SLABS * STEPS; step++) {
        UNROLL for (int i = 0; i < X_BLOCKS; i++) {
            NAME(wgmma)(sum[i],
                        NAME(descriptor_at)(x, BLOCK_AT(i) + STEP_AT(step, X_ACROSS, X_TILE)),
                        NAME(descriptor_at)(y, STEP_AT(step, Y_ACROSS, Y_TILE)),
                        !(fresh && step == 0));
        }
    }
    NAME(wgmma_commit)();
    NAME(hold)(sum[0], X_BLOCKS * SUMS);
}

/* ---- telling producers that a slot may be overwritten
 *
 * A slot is filled by every block of this one's row and column of the cluster, so all of them are
 * told: lane l of a consumer's first warp tells block l of that list. */
typedef struct {
    int rank; /* whom this thread tells; below 0: nobody */
} NAME(reader);

FUNC NAME(reader) NAME(reader_of)(int thread, int rank) {
    const int rx = rank / CLUSTER_Y, ry = rank % CLUSTER_Y;
    NAME(reader) r;
    r.rank = -1;
    if (thread < CLUSTER_Y) r.rank = rx * CLUSTER_Y + thread;
    else if (thread < CLUSTER_Y + CLUSTER_X - 1) {
        const int other = thread - CLUSTER_Y;
        r.rank = (other + (other >= rx)) * CLUSTER_Y + ry;
    }
    return r;
}
FUNC void NAME(release)(const NAME(reader) *r, u32 pool, int slot) {
    if (r->rank >= 0) NAME(barrier_arrive)(EMPTY(pool, slot), r->rank);
}

/* The products of `count` slots from *ring on, into `sum`. A slot is released when the products of the
 * next one are on their way, so that a wgmma always is. The last set of them may still be under way
 * when it returns: multiply_end waits for it. */
#if PROMOTE
/* The tensor cores' sums over one slot, and their float total. Where registers allow, one slot's sums
 * are added while the next slot's are computed. */
typedef ACC NAME(sums)[X_BLOCKS][SUMS];

FUNC void NAME(begin)(NAME(sums) part, u32 pool, const NAME(ring) *ring, int first) {
    NAME(barrier_wait)(FULL(pool, ring->slot), ring->parity);
    NAME(multiply_slot)(part, pool + ring->slot * SLOT, first, true);
}
FUNC void NAME(promote)(ACC (*sum)[SUMS], NAME(sums) part) {
    NAME(hold)(part[0], X_BLOCKS * SUMS);
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int j = 0; j < SUMS; j++) sum[i][j] += part[i][j];
    }
}
#if X_BLOCKS * SUMS * 3 <= (CONSUMERS == 3 ? 96 : 192)
/* The compiler keeps wgmma asynchronous only if all of them end where their loop's body does: hence
 * runs of 4 slots. */
FUNC void NAME(turn)(ACC (*sum)[SUMS], NAME(sums) now, NAME(sums) before, u32 pool,
                     NAME(ring) *ring, int first, const NAME(reader) *reader) {
    const int slot = ring->slot;
    NAME(ring_next)(ring);
    NAME(begin)(now, pool, ring, first);
    WGMMA_WAIT(1);
    NAME(release)(reader, pool, slot);
    NAME(promote)(sum, before);
}
FUNC void NAME(end)(ACC (*sum)[SUMS], NAME(sums) part, u32 pool, NAME(ring) *ring,
                    const NAME(reader) *reader) {
    WGMMA_WAIT(0);
    NAME(release)(reader, pool, ring->slot);
    NAME(ring_next)(ring);
    NAME(promote)(sum, part);
}
FUNC void NAME(multiply)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring, int count, int first,
                         const NAME(reader) *reader) {
    NAME(sums) even, odd;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int j = 0; j < SUMS; j++) sum[i][j] = 0;
    }
    int n = 0;
    UNROLL_N(1) for (; n + 4 <= count; n += 4) {
        NAME(begin)(even, pool, ring, first);
        NAME(turn)(sum, odd, even, pool, ring, first, reader);
        NAME(turn)(sum, even, odd, pool, ring, first, reader);
        NAME(turn)(sum, odd, even, pool, ring, first, reader);
        NAME(end)(sum, odd, pool, ring, reader);
    }
    UNROLL_N(1) for (; n < count; n++) {
        NAME(begin)(even, pool, ring, first);
        NAME(end)(sum, even, pool, ring, reader);
    }
}
#else
FUNC void NAME(multiply)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring, int count, int first,
                         const NAME(reader) *reader) {
    NAME(sums) part;
    UNROLL for (int i = 0; i < X_BLOCKS; i++) {
        UNROLL for (int j = 0; j < SUMS; j++) sum[i][j] = 0;
    }
    UNROLL_N(1) for (int n = 0; n < count; n++) {
        NAME(begin)(part, pool, ring, first);
        WGMMA_WAIT(0);
        NAME(release)(reader, pool, ring->slot);
        NAME(ring_next)(ring);
        NAME(promote)(sum, part);
    }
}
#endif
FUNC void NAME(multiply_end)(ACC (*sum)[SUMS], u32 pool, const NAME(ring) *ring,
                             const NAME(reader) *reader) {
    (void)sum, (void)pool, (void)ring, (void)reader;
}
#else
FUNC void NAME(multiply_begin)(ACC (*sum)[SUMS], u32 pool, const NAME(ring) *ring, int first) {
    NAME(barrier_wait)(FULL(pool, ring->slot), ring->parity);
    NAME(multiply_slot)(sum, pool + ring->slot * SLOT, first, true);
}
FUNC void NAME(multiply_next)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring, int first,
                              const NAME(reader) *reader) {
    const int before = ring->slot;
    NAME(ring_next)(ring);
    NAME(barrier_wait)(FULL(pool, ring->slot), ring->parity);
    NAME(multiply_slot)(sum, pool + ring->slot * SLOT, first, false);
    WGMMA_WAIT(1);
    NAME(release)(reader, pool, before);
}
FUNC void NAME(multiply)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring, int count, int first,
                         const NAME(reader) *reader) {
    NAME(multiply_begin)(sum, pool, ring, first);
    UNROLL_N(1) for (int n = 1; n < count; n++)
        NAME(multiply_next)(sum, pool, ring, first, reader);
}
FUNC void NAME(multiply_end)(ACC (*sum)[SUMS], u32 pool, NAME(ring) *ring,
                             const NAME(reader) *reader) {
    WGMMA_WAIT(0);
    NAME(hold)(sum[0], X_BLOCKS * SUMS);
    NAME(release)(reader, pool, ring->slot);
    NAME(ring_next)(ring);
}
#endif

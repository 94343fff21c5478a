#if CLUSTER_K > 1
/* ---- two blocks share a tile: each has sums of its half of k for both consumers' parts
 *
 *            block 0                block 1
 *  consumer 0   finishes  <- sums -   gives          the place: the ring, which nobody uses any more
 *  consumer 1   gives     - sums ->   finishes
 *
 * A thread's sums go to the same thread of the other block, 16 bytes of each of 128 threads
 * together. All threads of both blocks meet twice: before the first sum is given and after the last
 * one. Returns whether this consumer finishes. */
FUNC bool NAME(exchange_sums)(ACC (*sum)[SUMS], u8 *shared, u32 pool, int wg, int rank) {
    const int thread = THREAD(0) % 128;
    const NAME(quad) *given = (const NAME(quad) *)shared + thread;
    NAME(cluster_sync)();
    UNROLL for (int i = 0; i < X_BLOCKS && wg != rank; i++) {
        UNROLL for (int j = 0; j < SUMS; j += 4) {
            NAME(give)(pool + (u32)(((i * SUMS + j) / 4 * 128 + thread) * 16), wg,
                       *(const NAME(quad) *)(sum[i] + j));
        }
    }
    NAME(cluster_sync)();
    UNROLL for (int i = 0; i < X_BLOCKS && wg == rank; i++) {
        UNROLL for (int j = 0; j < SUMS; j += 4) {
            NAME(add_quad)(sum[i] + j, given + (i * SUMS + j) / 4 * 128);
        }
    }
    return wg == rank;
}
#endif

/* ---- which tile comes next
 *
 * The unit of order is the cluster's tile, TM * CLUSTER_M x TN * CLUSTER_N, of a batch entry. */
typedef struct {
    int rows, cols; /* of cluster tiles */
    int tiles, k_blocks;
    int cluster, clusters; /* this one, how many run */
    int next;              /* the whole tile that is next */
    int whole;             /* tiles before this one are taken whole, those after it in parts */
    int unit, end;         /* this cluster's part of those, in slots of k */
    int tile, from, to;    /* out: the current item, slots [from, to) of the tile; with SPLIT the
                              item's number */
} NAME(walk);

/* Parts of the streamed tiles, in equal shares. A cluster needs sums of the one before it in the
 * order of launch only, which is already running: no block waits for one that may not have begun.
 * Share r is therefore cluster (clusters - 1 - r)'s. */
FUNC int NAME(share)(const NAME(walk) *w, int r) {
    return (int)((i64)((w->tiles - w->whole) * w->k_blocks) * r / w->clusters);
}

FUNC void NAME(walk_start)(NAME(walk) *w, int m, int n, int k, int batch) {
    w->rows = (m + TM * CLUSTER_M - 1) / (TM * CLUSTER_M);
    w->cols = (n + TN * CLUSTER_N - 1) / (TN * CLUSTER_N);
    w->tiles = w->rows * w->cols * batch;
    w->k_blocks = (k + TK - 1) / TK;
    w->cluster = BLOCK(0) / CLUSTER;
    w->clusters = BLOCKS(0) / CLUSTER;
    w->next = w->cluster;
    w->tile = 0;
    w->whole = w->tiles * SPLIT;
#if STREAM
    /* What whole waves leave over is shared, with STREAM 2 together with the last whole wave. */
    w->whole = max(w->tiles / w->clusters - (STREAM - 1), 0) * w->clusters;
    const int r = w->clusters - 1 - w->cluster;
    w->unit = NAME(share)(w, r);
    w->end = NAME(share)(w, r + 1);
#endif
}

#if SPLIT > 1
/* All tiles of a part, then those of the next: clusters that run together share lines of operands.
 * Tile and part are calculated anew where they are used, as consumers have no registers to keep them
 * in. Parts differ by a slot at most. */
#define TILE_OF(w) ((w)->tile % (w)->tiles)
FUNC int NAME(walk_part)(const NAME(walk) *w) { return w->tile / w->tiles; }
FUNC int NAME(part_begin)(const NAME(walk) *w, int part) {
    return (int)((i64)w->k_blocks * part / SPLIT);
}
#else
#define TILE_OF(w) ((w)->tile)
#endif

FUNC bool NAME(walk_next)(NAME(walk) *w) {
    if (w->next < w->whole) {
        w->tile = w->next;
        w->from = 0, w->to = w->k_blocks;
#if CLUSTER_K > 1
        if (BLOCK(0) % CLUSTER_K) w->from = w->k_blocks / 2;
        else w->to = w->k_blocks / 2;
#elif SPLIT > 1
        w->from = NAME(part_begin)(w, NAME(walk_part)(w));
        w->to = NAME(part_begin)(w, NAME(walk_part)(w) + 1);
#endif
        w->next += w->clusters;
        return true;
    }
#if STREAM
    if (w->unit < w->end) {
        w->tile = w->whole + w->unit / w->k_blocks;
        w->from = w->unit % w->k_blocks;
        w->to = min(w->from + (w->end - w->unit), w->k_blocks);
        w->unit += w->to - w->from;
        return true;
    }
#endif
    return false;
}

/* Does no item follow the current one? */
FUNC bool NAME(walk_over)(const NAME(walk) *w) {
#if STREAM
    if (w->unit < w->end) return false;
#endif
    return w->next >= w->whole;
}

/* ---- from tile number to place, so that tiles that run together share operands in the L2 cache
 *
 * ORDER 0: GROUP rows of tiles, walked column by column. ORDER 1: the same with rows and columns
 * exchanged. ORDER 2: as 0, in squares of GROUP x GROUP (a power of 2) along Hilbert's curve. */
FUNC void NAME(hilbert)(int d, int *row, int *col) {
    int x = 0, y = 0;
    UNROLL for (int s = 1; s < GROUP; s *= 2) {
        const int rx = d >> 1 & 1, ry = (d ^ rx) & 1;
        if (!ry) {
            if (rx) x = s - 1 - x, y = s - 1 - y;
            const int t = x;
            x = y, y = t;
        }
        x += s * rx, y += s * ry;
        d >>= 2;
    }
    *row = x, *col = y;
}

/* Divisions are dear: those by constants are none, and the one by `tall` is for the last group only. */
FUNC void NAME(place)(int tile, int rows, int cols, int *row, int *col) {
    const int first = rows <= GROUP ? 0 : (int)((u32)tile / (u32)(GROUP * cols)) * GROUP;
    const int inside = tile - first * cols, tall = min(rows - first, GROUP);
#if ORDER == 2
    const int square = tall == GROUP ? (int)((u32)inside / (GROUP * GROUP)) : cols;
    if ((square + 1) * GROUP <= cols) {
        NAME(hilbert)(inside - square * (GROUP * GROUP), row, col);
        *row += first, *col += square * GROUP;
        return;
    }
#endif
    *col = (int)(tall == GROUP ? (u32)inside / GROUP : (u32)inside / (u32)tall);
    *row = first + inside - *col * tall;
}

/* First x line, y line and batch entry of a tile. */
typedef struct {
    int x0, y0, batch;
} NAME(spot);

/* That of the walk's tile for block `rank` of the cluster. */
FUNC NAME(spot) NAME(walk_place)(const NAME(walk) *w, int rank) {
    const int plane = w->rows * w->cols, tile = TILE_OF(w);
    int row, col;
    NAME(spot) s;
    s.batch = tile < plane ? 0 : (int)((u32)tile / (u32)plane);
#if ORDER == 1
    NAME(place)(tile - s.batch * plane, w->cols, w->rows, &col, &row);
#else
    NAME(place)(tile - s.batch * plane, w->rows, w->cols, &row, &col);
#endif
    const int rx = rank / CLUSTER_Y, ry = rank % CLUSTER_Y;
    s.x0 = ((SWAP ? col : row) * CLUSTER_X + rx) * X_TILE;
    s.y0 = ((SWAP ? row : col) * CLUSTER_Y + ry) * Y_TILE;
    /* While something else is waited for: callers place it so. */
    NAME(hold_spot)(&s.x0, &s.y0, &s.batch);
    return s;
}

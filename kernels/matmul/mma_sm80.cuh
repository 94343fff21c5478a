/* mma_sm80: matmul on the tensor cores of Ampere and everything after it, with mma.sync.
 *
 * A block computes a TM x TN tile of the result. A ring of STAGES shared-memory slots, filled by
 * cp.async, holds the operands' tiles along k; warps read them with ldmatrix one k-step (32 bytes
 * along k) ahead of the mma that uses them, also across the border of two slots.
 *
 *      ring slot s                      warps of a block (WARPS_M x WARPS_N)
 *   +-------------+-----------+           n ->
 *   | A tile      | B tile    |         m +-------+-------+    each: WTM x WTN, i.e. MI x NI
 *   | TM x TK     | TK x TN   |         | | w 0   | w 1   |    fragments of 16 x 8, 4 accumulators
 *   +-------------+-----------+         v +-------+-------+    a lane:
 *   slot k is read while slots           | w 2   | w 3   |      row g, g+8; columns 2t, 2t+1
 *   k+1 .. k+STAGES-1 are in flight      +-------+-------+      (g = lane / 4, t = lane % 4)
 *
 * A tile lies in shared memory as it lies in memory: LINES of LINE bytes, along k where the operand
 * is k-contiguous (A plain, B transposed), otherwise along m or n, one line a k. 16-byte chunk c of
 * line r is kept at chunk c ^ SWIZZLE(r), so that the 8 lines an ldmatrix reads (one chunk, lines r
 * to r+7) and the 8 chunks that cp.async writes lie in different banks. ldmatrix.trans turns the
 * second kind of tile into the same fragments; it moves 16-bit elements, hence i8 needs k-lines.
 *
 * Edges: a copy outside the operand has source size 0 and writes zeros, so every tile is full.
 *
 * Epilogue: the warp puts its accumulators into the ring's memory, SLABS times 16 rows a pass, and
 * takes them back as STORE neighbours of a row, which the statements (NAME(finish)) turn into
 * stores of up to 16 bytes. With SPLIT > 1 partial sums go to the workspace instead and
 * NAME(reduce) finishes: the sum runs in a fixed order, so results repeat bit by bit. Row outputs:
 * lanes whose pieces are of one row combine their maxima, one of them adds these to memory.
 *
 * The emitter puts before this file: the parameters below, what matmul.h's
 * kiln_matmul_emit_problem lists, and NAME(finish) for STORE elements. The file is kept in the
 * common part of C and CUDA C++, with the instructions in one place (PRIMITIVES), so that tests
 * run all of it on a CPU. */
#ifndef TM
#define TM 128 /* tile of the result */
#define TN 256
#define TK 64 /* depth of a slot, in elements */
#define WARPS_M 2
#define WARPS_N 4
#define STAGES 4
#define GROUP 8  /* tiles along m that run side by side, for the L2 cache */
#define SPLIT 1  /* parts of k in blocks of their own */
#define RESIDENT 1 /* blocks per SM that registers must allow */
#define COPY 16  /* bytes of a cp.async: 16, 8 or 4, what the operands' alignment allows */
#define STORE 8  /* neighbours of a row finished together */
#endif
#ifndef TA
#define TA bf16 /* types of a, b and out */
#define TB bf16
#define TO bf16
#define TRANSPOSE_A 0 /* a is stored k x m */
#define TRANSPOSE_B 0 /* b is stored n x k */
#define ACC float
#define ACC_INT 0
#define ROW_TOPS 0 /* maxima of rows that statements store */
#define TOPS_ARG
#define NAME(x) mma_##x
#define EPILOGUE_PARAMS i64 m, i64 n, i64 ldo, i64 stride_o, STORAGE(TO) *RESTRICT out
#define EPILOGUE_ARGS m, n, ldo, stride_o, out
FUNC void NAME(finish)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const float *sum) {
    (void)m, (void)n;
    WRITE_N(bf16, STORE, out, batch * stride_o + row * ldo + col, sum);
}
#endif

#define ELEMENT ((int)sizeof(STORAGE(TA)))
#define WARPS (WARPS_M * WARPS_N)
#define THREADS (WARPS * 32)
#define WTM (TM / WARPS_M)
#define WTN (TN / WARPS_N)
#define MI (WTM / 16)
#define NI (WTN / 8)
#define KS (TK * ELEMENT / 32) /* k-steps of a slot: even, so that fragment buffers alternate */
#define LINES_A (TRANSPOSE_A ? TK : TM)
#define LINES_B (TRANSPOSE_B ? TN : TK)
#define LINE_A ((TRANSPOSE_A ? TM : TK) * ELEMENT)
#define LINE_B ((TRANSPOSE_B ? TK : TN) * ELEMENT)
#define TILE_A (TM * TK * ELEMENT)
#define TILE_B (TN * TK * ELEMENT)
#define SLOT (TILE_A + TILE_B)
#define ROUNDS_A (TILE_A / COPY / THREADS)
#define ROUNDS_B (TILE_B / COPY / THREADS)
#define PITCH (WTN + 8) /* words of a staged row: 8 more, so that rows start 32 bytes apart */
#define ROOM (STAGES * SLOT / WARPS / (16 * PITCH * 4))
#define SLABS (ROOM >= MI ? MI : ROOM >= 4 && MI % 4 == 0 ? 4 : ROOM >= 2 && MI % 2 == 0 ? 2 : 1)

/* Which chunk a chunk is exchanged with: lines of 128 bytes and their multiples pass 8 chunk
 * columns, lines of 64 bytes 4 (two lines fill the banks), lines of 32 bytes 2. */
#define SWIZZLE(line, r)                                                                           \
    ((line) / 16 % 8 == 0 ? (r)&7 : (line) / 16 % 8 == 4 ? (r) >> 1 & 3 : (r) >> 2 & 1)
#define PLACE(line, r, chunk) ((r) * (line) + (((chunk) ^ SWIZZLE(line, r)) << 4))

/* ---- PRIMITIVES: the instructions, and nothing else in this file knows them */
#ifndef PRIMITIVES
#define MMA_bf16 "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#define MMA_f16 "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#define MMA_i8 "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32"
#if ACC_INT
#define SUM_REGISTER "+r"
#else
#define SUM_REGISTER "+f"
#endif
FUNC u32 NAME(shared_at)(void *p) { return (u32)__cvta_generic_to_shared(p); }

/* COPY bytes to shared memory, of which the first `bytes` are read and the rest are 0. */
FUNC void NAME(copy)(u32 to, const u8 *from, int bytes) {
#if COPY == 16
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes)
                 : "memory");
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(COPY),
                 "r"(bytes)
                 : "memory");
#endif
}
FUNC void NAME(copies_end)() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until at most `left` of this thread's groups are under way; then for all threads. */
#define COPIES_WAIT(left)                                                                          \
    do {                                                                                           \
        asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");                            \
        BARRIER();                                                                                 \
    } while (0)

/* Four 8x8 matrices of 16-bit elements; lane l gives the address of line l % 8 of matrix l / 8. */
FUNC void NAME(matrices)(u32 *r, u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
FUNC void NAME(matrices_trans)(u32 *r, u32 at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
FUNC void NAME(mma)(ACC *c, const u32 *a, const u32 *b) {
    asm volatile(CAT(MMA_, TA) " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                                 "{%0, %1, %2, %3};"
                 : SUM_REGISTER(c[0]), SUM_REGISTER(c[1]), SUM_REGISTER(c[2]), SUM_REGISTER(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
FUNC void NAME(warp_barrier)() { __syncwarp(); }
#define POOL(name) extern __shared__ __align__(128) u8 name[]
#define ENTRY(threads, blocks)                                                                     \
    extern "C" __global__ void __launch_bounds__((threads), (blocks))
typedef uint4 NAME(quad);
#define SHARED_BASE(pool) NAME(shared_at)(pool)
#endif

/* ---- one thread's share of the copies of one operand */
typedef struct {
    const u8 *from;  /* source of round 0 of the next tile */
    i64 round, tile; /* bytes from a round, a tile to the next */
    int line, part;  /* of round 0; round r is `lines` lines further */
    int bytes;       /* along m or n: how much of a copy lies inside the operand */
    u32 inside;      /* lines along k: bit r set when the line of round r is inside */
} NAME(feed);

/* base: the operand at k = k0; ld in bytes; mn0 and mn: this block's first and the last+1 row of A
 * (column of B). by_k: one line a k. */
FUNC void NAME(feed_at)(NAME(feed) *to, const u8 *base, i64 ld, int mn0, int mn, int line_bytes,
                        int rounds, bool by_k) {
    const int parts = line_bytes / COPY, lines = THREADS / parts;
    NAME(feed) f;
    f.line = THREAD(0) / parts;
    f.part = THREAD(0) % parts * COPY;
    f.round = lines * ld;
    f.inside = 0;
    if (by_k) {
        f.from = base + f.line * ld + (i64)mn0 * ELEMENT + f.part;
        f.tile = TK * ld;
        f.bytes = min(max((mn - mn0) * ELEMENT - f.part, 0), COPY);
    } else {
        f.from = base + (i64)(mn0 + f.line) * ld + f.part;
        f.tile = TK * ELEMENT;
        f.bytes = 0;
        UNROLL for (int r = 0; r < rounds; r++) {
            f.inside |= (u32)(mn0 + f.line + r * lines < mn) << r;
        }
    }
    *to = f;
}

/* Round r of the next tile into the tile at `to`; k_left elements of k are still to come. */
FUNC void NAME(feed_round)(const NAME(feed) *f, u32 to, int r, int k_left, int line_bytes,
                           bool by_k) {
    const int lines = THREADS / (line_bytes / COPY), line = f->line + r * lines;
    const int along = min(max(k_left * ELEMENT - f->part, 0), COPY);
    const int bytes = by_k ? (line < k_left ? f->bytes : 0) : (f->inside >> r & 1 ? along : 0);
    const u32 at = to + PLACE(line_bytes, line, f->part / 16) + f->part % 16;
    NAME(copy)(at, f->from + r * f->round, bytes);
}

/* Piece `piece` of `pieces` of the next slot: spread over the k-steps, copies hide behind mma. */
FUNC void NAME(feed_piece)(const NAME(feed) *a, const NAME(feed) *b, u32 slot, int k_left,
                           int piece, int pieces) {
    UNROLL for (int r = 0; r < ROUNDS_A; r++) {
        if (r * pieces / (ROUNDS_A + ROUNDS_B) == piece)
            NAME(feed_round)(a, slot, r, k_left, LINE_A, TRANSPOSE_A);
    }
    UNROLL for (int r = 0; r < ROUNDS_B; r++) {
        if ((ROUNDS_A + r) * pieces / (ROUNDS_A + ROUNDS_B) == piece)
            NAME(feed_round)(b, slot + TILE_A, r, k_left, LINE_B, !TRANSPOSE_B);
    }
}

/* ---- fragments. Offsets of a lane inside a tile: an array entry where the swizzle changes with
 * the index (k-step along a k-line, fragment along the other kind), else a constant distance. */
#define OFFSETS_A (TRANSPOSE_A ? MI : KS)
#define OFFSETS_B (TRANSPOSE_B ? KS : NI / 2)

FUNC void NAME(offsets)(u32 *a, u32 *b, int warp_m, int warp_n) {
    const int lane = THREAD(0) % 32, low = lane & 7, mid = lane >> 3 & 1, high = lane >> 4;
    UNROLL for (int i = 0; i < OFFSETS_A; i++) {
        a[i] = TRANSPOSE_A ? PLACE(LINE_A, low + high * 8, (warp_m * WTM + i * 16) / 8 + mid)
                  : PLACE(LINE_A, warp_m * WTM + low + mid * 8, i * 2 + high);
    }
    UNROLL for (int i = 0; i < OFFSETS_B; i++) {
        b[i] = TRANSPOSE_B ? PLACE(LINE_B, warp_n * WTN + low + high * 8, i * 2 + mid)
                  : PLACE(LINE_B, low + mid * 8, (warp_n * WTN + i * 16) / 8 + high);
    }
}

FUNC void NAME(load)(u32 (*fa)[4], u32 (*fb)[2], const u32 *off_a, const u32 *off_b, u32 slot,
                     int ks) {
    UNROLL for (int i = 0; i < MI; i++) {
        const u32 lane = slot + off_a[TRANSPOSE_A ? i : ks];
        if (TRANSPOSE_A) NAME(matrices_trans)(fa[i], lane + ks * 16 * LINE_A);
        else NAME(matrices)(fa[i], lane + i * 16 * LINE_A);
    }
    UNROLL for (int j = 0; j < NI / 2; j++) {
        const u32 lane = slot + TILE_A + off_b[TRANSPOSE_B ? ks : j];
        if (TRANSPOSE_B) NAME(matrices)(fb[2 * j], lane + j * 16 * LINE_B);
        else NAME(matrices_trans)(fb[2 * j], lane + ks * 16 * LINE_B);
    }
}

/* Every second row of fragments runs backwards: neighbours in time share an operand. */
FUNC void NAME(multiply)(ACC (*sum)[NI][4], u32 (*fa)[4], u32 (*fb)[2]) {
    UNROLL for (int i = 0; i < MI; i++) {
        UNROLL for (int jj = 0; jj < NI; jj++) {
            const int j = i % 2 ? NI - 1 - jj : jj;
            NAME(mma)(sum[i][j], fa[i], fb[j]);
        }
    }
}

/* ---- from tile number to place: GROUP rows of tiles are walked column by column */
FUNC void NAME(tile_place)(int tile, int m, int n, int *row, int *col) {
    const int rows = (m + TM - 1) / TM, cols = (n + TN - 1) / TN;
    const int first = tile / (GROUP * cols) * GROUP, inside = tile % (GROUP * cols);
    const int tall = min(rows - first, GROUP);
    *row = (first + inside % tall) * TM;
    *col = inside / tall * TN;
}

FUNC void NAME(take)(ACC *to, const ACC *from) {
#if STORE >= 4
    UNROLL for (int e = 0; e < STORE; e += 4) {
        *(NAME(quad) *)(to + e) = *(const NAME(quad) *)(from + e);
    }
#else
    UNROLL for (int e = 0; e < STORE; e++) to[e] = from[e];
#endif
}

/* Partial sums: dense rows of `pitch` words, a multiple of 8, per part and batch entry. */
FUNC i64 NAME(work_at)(int part, int batch, int row, int col, i64 m, i64 n) {
    const i64 pitch = (n + 7) / 8 * 8;
    return (((i64)part * BLOCKS(1) + batch) * m + row) * pitch + col;
}

#if SPLIT > 1
#define DRAIN_PARAMS i64 m, i64 n, ACC *RESTRICT work
#define DRAIN_ARGS m, n, work
#define DRAIN_TOPS 0
#else
#define DRAIN_PARAMS EPILOGUE_PARAMS
#define DRAIN_ARGS EPILOGUE_ARGS
#define DRAIN_TOPS ROW_TOPS
#endif

/* STORE neighbours of a row: n is a multiple of STORE. */
FUNC void NAME(drain_row)(DRAIN_PARAMS, int batch, int row, int col, const ACC *at
#if DRAIN_TOPS
                          , float *tops
#endif
) {
#if SPLIT > 1
    NAME(take)(work + NAME(work_at)(BLOCK(2), batch, row, col, m, n), at);
#else
    __align__(16) ACC v[STORE];
    NAME(take)(v, at);
    NAME(finish)(DRAIN_ARGS, batch, row, col, v TOPS_ARG);
#endif
}

/* The warp's accumulators, through `stage` (its own SLABS * 16 * PITCH words), into the result.
 * row0, col0: of the warp's tile. */
FUNC void NAME(drain)(ACC (*sum)[NI][4], ACC *stage, int batch, int row0, int col0,
                      DRAIN_PARAMS) {
    const int lane = THREAD(0) % 32, g = lane / 4, t = lane % 4;
    const int across = WTN / STORE; /* pieces of a row */
    UNROLL for (int pass = 0; pass < MI / SLABS; pass++) {
        NAME(warp_barrier)();
        UNROLL for (int i = 0; i < SLABS; i++) {
            UNROLL for (int j = 0; j < NI; j++) {
                ACC *at = stage + (i * 16 + g) * PITCH + j * 8 + t * 2;
                const ACC *s = sum[pass * SLABS + i][j];
                at[0] = s[0], at[1] = s[1];
                at[8 * PITCH] = s[2], at[8 * PITCH + 1] = s[3];
            }
        }
        NAME(warp_barrier)();
        UNROLL_N(2) for (int x = lane; x < SLABS * 16 * across; x += 32) {
            const int r = x / across, c = x % across * STORE;
            const int row = row0 + pass * SLABS * 16 + r, col = col0 + c;
#if DRAIN_TOPS
            const int even = across & -across, share = even < 32 ? even : 32; /* lanes of a row */
            float tops[ROW_TOPS];
            NAME(tops_begin)(tops);
            if (row < m && col < n)
                NAME(drain_row)(DRAIN_ARGS, batch, row, col, stage + r * PITCH + c, tops);
            NAME(tops_group)(tops, share);
            if (row < m && col < n && lane % share == 0)
                NAME(tops_end)(DRAIN_ARGS, batch, row, tops);
#else
            if (row < m && col < n)
                NAME(drain_row)(DRAIN_ARGS, batch, row, col, stage + r * PITCH + c);
#endif
        }
    }
}

/* grid: tiles, batch, parts of k. part_k: elements of k per part, a multiple of TK. */
ENTRY(THREADS, RESIDENT)
NAME(main)(const STORAGE(TA) *RESTRICT a, const STORAGE(TB) *RESTRICT b, int k, int part_k,
           i64 lda, i64 ldb, i64 stride_a, i64 stride_b, DRAIN_PARAMS) {
    POOL(NAME(pool));
    if (m <= 0 || n <= 0) return;
    const int batch = BLOCK(1), k0 = BLOCK(2) * part_k, k1 = min(k, k0 + part_k);
    const int warp = THREAD(0) / 32, warp_m = warp / WARPS_N, warp_n = warp % WARPS_N;
    const u32 pool = SHARED_BASE(NAME(pool));
    int row0, col0;
    NAME(tile_place)(BLOCK(0), (int)m, (int)n, &row0, &col0);

    a += batch * stride_a + k0 * (TRANSPOSE_A ? lda : 1);
    b += batch * stride_b + k0 * (TRANSPOSE_B ? 1 : ldb);
    NAME(feed) feed_a, feed_b;
    NAME(feed_at)(&feed_a, (const u8 *)a, lda * ELEMENT, row0, (int)m, LINE_A, ROUNDS_A,
                  TRANSPOSE_A);
    NAME(feed_at)(&feed_b, (const u8 *)b, ldb * ELEMENT, col0, (int)n, LINE_B, ROUNDS_B,
                  !TRANSPOSE_B);
    u32 off_a[OFFSETS_A], off_b[OFFSETS_B];
    NAME(offsets)(off_a, off_b, warp_m, warp_n);

    ACC sum[MI][NI][4];
    UNROLL for (int i = 0; i < MI; i++) {
        UNROLL for (int j = 0; j < NI; j++) {
            UNROLL for (int e = 0; e < 4; e++) sum[i][j][e] = 0;
        }
    }

    int k_left = k1 - k0; /* of the next tile to be copied; below 0: copies write zeros */
    UNROLL for (int s = 0; s < STAGES - 1; s++) {
        NAME(feed_piece)(&feed_a, &feed_b, pool + s * SLOT, k_left, 0, 1);
        NAME(copies_end)();
        feed_a.from += feed_a.tile, feed_b.from += feed_b.tile, k_left -= TK;
    }
    COPIES_WAIT(STAGES - 2);

    u32 fa[2][MI][4], fb[2][NI][2];
    u32 reads = pool, writes = pool + (STAGES - 1) * SLOT;
    NAME(load)(fa[0], fb[0], off_a, off_b, reads, 0);

    /* Before its last k-step an iteration waits for the next slot: 1 + STAGES - 1 groups were begun
     * since the slot's own, so all but STAGES - 2 must have arrived. The same barrier says that
     * all warps have read this slot, which the next iteration overwrites. */
    UNROLL_N(1) for (int left = k1 - k0; left > 0; left -= TK) {
        UNROLL for (int ks = 0; ks < KS; ks++) {
            if (ks < KS - 1) {
                NAME(load)(fa[(ks + 1) % 2], fb[(ks + 1) % 2], off_a, off_b, reads, ks + 1);
                NAME(feed_piece)(&feed_a, &feed_b, writes, k_left, ks, KS - 1);
            }
            if (ks == KS - 2) {
                NAME(copies_end)();
                feed_a.from += feed_a.tile, feed_b.from += feed_b.tile, k_left -= TK;
                writes = reads;
                reads = reads == pool + (STAGES - 1) * SLOT ? pool : reads + SLOT;
            }
            if (ks == KS - 1) {
                COPIES_WAIT(STAGES - 2);
                NAME(load)(fa[0], fb[0], off_a, off_b, reads, 0);
            }
            NAME(multiply)(sum, fa[ks % 2], fb[ks % 2]);
        }
    }
    COPIES_WAIT(0); /* zeros may still be on their way into the memory that drain uses */
    NAME(drain)(sum, (ACC *)NAME(pool) + warp * SLABS * 16 * PITCH, batch, row0 + warp_m * WTM,
                col0 + warp_n * WTN, DRAIN_ARGS);
}

#if SPLIT > 1
/* grid: 256 threads over rows x pieces of STORE columns, batch. */
ENTRY(256, 1)
NAME(reduce)(const ACC *RESTRICT work, EPILOGUE_PARAMS) {
    const i64 across = n / STORE, x = (i64)BLOCK(0) * 256 + THREAD(0);
    if (m <= 0 || n <= 0) return;
    const int batch = BLOCK(1), row = (int)(x / across), col = (int)(x % across) * STORE;
#if ROW_TOPS
    float tops[ROW_TOPS];
    NAME(tops_begin)(tops);
#endif
    if (row < m) {
        __align__(16) ACC v[STORE], part[STORE];
        UNROLL for (int e = 0; e < STORE; e++) v[e] = 0;
        UNROLL for (int s = 0; s < SPLIT; s++) {
            NAME(take)(part, work + NAME(work_at)(s, batch, row, col, m, n));
            UNROLL for (int e = 0; e < STORE; e++) v[e] += part[e];
        }
        NAME(finish)(EPILOGUE_ARGS, batch, row, col, v TOPS_ARG);
    }
#if ROW_TOPS
    int share = 32; /* lanes that surely have one row */
    while (across % share) share /= 2;
    NAME(tops_group)(tops, share);
    if (row < m && THREAD(0) % share == 0) NAME(tops_end)(EPILOGUE_ARGS, batch, row, tops);
#endif
}
#endif

/* Several programs share a unit. */
#undef ELEMENT
#undef WARPS
#undef THREADS
#undef WTM
#undef WTN
#undef MI
#undef NI
#undef KS
#undef LINES_A
#undef LINES_B
#undef LINE_A
#undef LINE_B
#undef TILE_A
#undef TILE_B
#undef SLOT
#undef ROUNDS_A
#undef ROUNDS_B
#undef PITCH
#undef ROOM
#undef SLABS
#undef SWIZZLE
#undef PLACE
#undef MMA_bf16
#undef MMA_f16
#undef MMA_i8
#undef SUM_REGISTER
#undef COPIES_WAIT
#undef POOL
#undef ENTRY
#undef SHARED_BASE
#undef OFFSETS_A
#undef OFFSETS_B
#undef DRAIN_PARAMS
#undef DRAIN_ARGS
#undef DRAIN_TOPS

/* pack: copies an operand into the workspace, so that its lines are aligned and contiguous along k.
 *
 *     source, any element alignment               destination: lines of `pitch` elements, pitch a
 *                                                 multiple of 16 bytes, zeros from `cols` on
 *     PACK_TRANSPOSE 0                 ld
 *     |<- cols ->|<- gap ->|                      |<- cols ->|0|
 *     | row 0    |         | row 1 ...            | row 0    |0| row 1    |0| ...
 *
 *     PACK_TRANSPOSE 1: stored cols x rows        written rows x cols
 *     |<- rows ->|<- gap ->|                      |<- cols ->|0|
 *     | column 0 |         | column 1 ...         | row 0    |0| row 1    |0| ...
 *
 * Bits move as they are: of the element's type only the size counts. Every 16 bytes of the
 * destination are one store. To make them, a thread loads the one or two aligned 16-byte words in
 * which the elements lie, and shifts them into place (the second word is the neighbour's first: the
 * cache has it). Words that reach before the operand's first element or behind its last one are not
 * touched: there, elements are read singly. The gaps between rows and batches may be read.
 *
 *     word  |..............AA|AAAAAAAAAAAAAA..|     shift = 14 bytes
 *     piece                 |AAAAAAAAAAAAAAAA|
 *
 * Transposing: a tile is 128 bytes of each of 128 source lines (32 * work: fewer, where tiles are
 * few), 16 KB of local memory.
 *
 *     thread t: piece j = t % 8 of four lines around g = t / 8; PACK_E = 4 / size adjacent lines
 *     become words of one destination line each (2x2 or 4x4 exchanges in registers).
 *     Local line r holds chunk x (16 bytes) at x ^ (r / PACK_V): the 32 words that a warp stores (8
 *     values of j, 4 of g) fall into 32 banks, and 8 threads that read a line's chunks do as well.
 *
 * One launch packs one operand or two: a part of its blocks for each.
 *
 *     PACK_PART   function that packs one operand; any block of any launch may call it
 *     PACK_ENTRY  the kernel; not defined: no kernel yet, only the part
 *     PACK_FIRST  part of a former inclusion: the kernel packs two operands, that one in its first
 *                 blocks, this one in the rest
 *     PACK_TWO    the same, but both are of this kind: one text for both
 *
 * Geometry, the same for all types but for V = 16 / size:
 *     block  (256, 1, 1), no dynamic shared memory
 *     grid   (blocks, batch, 1); of two operands the sum of their blocks, and equal batches
 *            PACK_TRANSPOSE 0: blocks = ceil(rows * (pitch / V) / (256 * work))
 *            PACK_TRANSPOSE 1: blocks = ceil(rows / (8 * V)) * ceil(pitch / (32 * work))
 *     work   what a thread has on its way. PACK_TRANSPOSE 0: pieces, 1 to PACK_PIECES; 1: lines,
 *            4 / size (128 bytes of a destination line in a tile) or 4
 *     limits grid x, rows and cols below 2^31, batch at most 65535
 *
 * Arguments: workspace; then of each operand: source; offset in the workspace (bytes, a multiple of
 * 16); rows and cols of the destination; ld and stride of the source (elements from line to line
 * and from batch to batch); pitch (elements, pitch * size a multiple of 16, at least cols); bytes
 * of the source from its first element to its last; reciprocal (below); work; and for two operands
 * the number of the first one's blocks. All but pointers are I64. Batches follow each other in the
 * destination without a gap. The source is aligned to its element. Sizes of 0: nothing is touched.
 *
 * `reciprocal` spares a division: of d = pitch / V (PACK_TRANSPOSE 1: d = ceil(rows / (8 * V)),
 * the tiles along rows) it is ceil(2^s / d) + s * 2^32 with s = 31 + ceil(log2(d)), so that the
 * quotient of any number below 2^31 is (number * low half) >> s. Copies of 2^31 pieces and more
 * divide: reciprocal 0.
 *
 * Operands of a few MB are a matter of latency, not of bandwidth: all blocks run at once, and the
 * time is one chain of place -> load -> shift -> (exchange ->) store, behind the launch itself. On
 * that chain stand no division and one load; a second piece of a thread only lengthens it, so
 * `work` is for operands that fill the device anyway. All blocks share the instruction slots of
 * their SM, so few instructions a piece count as much as few that wait for each other: a copy has at
 * most 160 on sm_90a (NVRTC 13.0) away from the operand's ends.
 *
 * The file may be put into one unit several times: it undefines its parameters at the end. */
#ifndef PACK_TYPE
#define PACK_TYPE bf16      /* bf16 f16 e4m3 e5m2 i8 f32 tf32 i32 */
#define PACK_TRANSPOSE 1    /* 1: the source is stored cols x rows */
#define PACK_PART alone_part
#define PACK_ENTRY alone_pack
#endif
#ifndef PACK_PIECES
#define PACK_PIECES 2       /* most 16-byte pieces of a thread, PACK_TRANSPOSE 0 */
#endif

#ifndef PACK_READ /* every read of the source: a test looks on here */
#define PACK_READ(type, at) (*(const GLOBAL type *)(at))
#endif

#define PACK_BYTES_e4m3 1
#define PACK_BYTES_e5m2 1
#define PACK_BYTES_i8 1
#define PACK_BYTES_f16 2
#define PACK_BYTES_bf16 2
#define PACK_BYTES_f32 4
#define PACK_BYTES_tf32 4
#define PACK_BYTES_i32 4
#define PACK_BYTES CAT(PACK_BYTES_, PACK_TYPE)
#if PACK_BYTES == 1
#define PACK_ELEMENT u8
#elif PACK_BYTES == 2
#define PACK_ELEMENT u16
#elif PACK_BYTES == 4
#define PACK_ELEMENT u32
#else
#error PACK_TYPE is none of bf16 f16 e4m3 e5m2 i8 f32 tf32 i32
#endif
#define PACK_V (16 / PACK_BYTES) /* elements of a piece */
#define PACK_E (4 / PACK_BYTES)  /* ... of a word */
#define PACK_THREADS 256
#define PACK_LOAD CAT(PACK_PART, _load)
#define PACK_NONE CAT(PACK_PART, _none)
#define PACK_START CAT(PACK_PART, _start)
#define PACK_FINISH CAT(PACK_PART, _finish)
#define PACK_GATHER CAT(PACK_PART, _gather)
#define PACK_PUT CAT(PACK_PART, _put)
#define PACK_SURE CAT(PACK_PART, _sure)

/* Not RESTRICT: what is known to be constant may be read ahead of AFTER_PREVIOUS. */
#define PACK_OPERAND(x)                                                                            \
    const GLOBAL u8 *x##source, i64 x##offset, i64 x##rows, i64 x##cols, i64 x##ld, i64 x##stride, \
        i64 x##pitch, i64 x##bytes, i64 x##reciprocal, i64 x##work
#define PACK_SAME(x)                                                                               \
    x##source, x##offset, x##rows, x##cols, x##ld, x##stride, x##pitch, x##bytes, x##reciprocal,   \
        x##work

#define PACK_QUOTIENT(n, reciprocal)                                                               \
    ((i64)((u64)(u32)(n) * (u32)(reciprocal) >> (int)((reciprocal) >> 32)))

/* A piece on its way. */
typedef struct {
    uint4 low, high; /* the aligned words around it */
    int shift;       /* bytes from the word's begin to the piece's */
} PACK_LOAD;

FUNC void PACK_NONE(PACK_LOAD *p)
{
    p->low.x = p->low.y = p->low.z = p->low.w = 0;
    p->high = p->low;
    p->shift = 0;
}

/* At the operand's ends, where words reach out of it: all elements at once, not one after the
 * other, as the whole launch waits for them. */
FUNC void PACK_GATHER(PACK_LOAD *p, const GLOBAL u8 *from, int n)
{
    u32 w[4] = {0, 0, 0, 0};
    UNROLL for (int e = 0; e < PACK_V; e++)
        if (e < n)
            w[e / PACK_E] |= (u32)PACK_READ(PACK_ELEMENT, from + e * PACK_BYTES)
                             << e % PACK_E * 8 * PACK_BYTES;
    p->low.x = w[0];
    p->low.y = w[1];
    p->low.z = w[2];
    p->low.w = w[3];
}

/* Starts the loads; `bytes` are the operand's, from its first element to its last. */
FUNC void PACK_START(PACK_LOAD *p, const GLOBAL u8 *source, i64 at, i64 bytes, int n)
{
    PACK_NONE(p);
    if (n <= 0) return;
    const int shift = (int)((u32)(size_t)(source + at) & 15u);
    const int two = shift + n * PACK_BYTES > 16;
    const i64 first = at - shift;
    if (first >= 0 && first + (two ? 32 : 16) <= bytes) {
        p->shift = shift;
        p->low = PACK_READ(uint4, source + first);
        if (two) p->high = PACK_READ(uint4, source + first + 16);
    } else {
        PACK_GATHER(p, source + at, n);
    }
}

#if PACK_TRANSPOSE
/* The same for PACK_V elements whose words are known to lie inside. */
FUNC void PACK_SURE(PACK_LOAD *p, const GLOBAL u8 *source, i64 at)
{
    const GLOBAL u8 *from = source + at;
    p->shift = (int)((u32)(size_t)from & 15u);
    p->low = PACK_READ(uint4, from - p->shift);
    p->high = p->low; /* of no account without a shift */
    if (p->shift) p->high = PACK_READ(uint4, from - p->shift + 16);
}
#endif

/* The piece's four words; what lies behind its n elements is not defined. */
FUNC void PACK_FINISH(const PACK_LOAD *p, u32 *to)
{
    u32 w[8] = {p->low.x, p->low.y, p->low.z, p->low.w, p->high.x, p->high.y, p->high.z, p->high.w};
    UNROLL for (int i = 0; i < 6; i++) w[i] = p->shift & 8 ? w[i + 2] : w[i];
    UNROLL for (int i = 0; i < 5; i++) w[i] = p->shift & 4 ? w[i + 1] : w[i];
    UNROLL for (int i = 0; i < 4; i++)
        to[i] = (u32)(((u64)w[i + 1] << 32 | w[i]) >> ((p->shift & (4 - PACK_BYTES)) * 8));
}

#if PACK_TRANSPOSE

#define PACK_LINES 128                     /* destination columns of a tile */
#define PACK_ROWS (8 * PACK_V)             /* destination rows of a tile */
#define PACK_CHUNKS (PACK_LINES / PACK_V)  /* 16-byte chunks of a local line */
/* Line l of a thread, counted from its first. */
#define PACK_LINE(l) ((l) / PACK_E * 32 * PACK_E + (l) % PACK_E)

/* Word c / PACK_E of local line r. */
FUNC void PACK_PUT(LOCAL u32 *tile, int r, int word, u32 value)
{
    tile[(r * PACK_CHUNKS + (word / 4 ^ r / PACK_V)) * 4 + word % 4] = value;
}

/* Lines of a thread: 0 to E - 1, or all 4. */
#define PACK_DOES(l) ((l) < PACK_E || work > PACK_E)

FUNC void PACK_PART(LOCAL uint4 *tile, int block, GLOBAL u8 *workspace, PACK_OPERAND())
{
    const int t = THREAD(0), j = t % 8, g = t / 8;
    const i64 tiles = (i64)((u64)(rows + PACK_ROWS - 1) / PACK_ROWS);
    const i64 tile_col = PACK_QUOTIENT(block, reciprocal);
    const i64 row0 = (block - tile_col * tiles) * PACK_ROWS;
    const i64 col0 = tile_col * 32 * work;
    const i64 left = rows - row0 - j * PACK_V;
    const int n = left > PACK_V ? PACK_V : left > 0 ? (int)left : 0;

    const i64 col = col0 + g * PACK_E;
    const i64 at = (BLOCK(1) * stride + col * ld + row0 + j * PACK_V) * PACK_BYTES;
    const i64 line_bytes = ld * PACK_BYTES;
    const int last = PACK_DOES(3) ? PACK_LINE(3) : PACK_LINE(PACK_E - 1);
    PACK_LOAD load[4];
    /* one check for all lines of nearly every thread */
    if (n > 0 && col + last < cols && at >= 15 && at + last * line_bytes + 32 <= bytes)
        UNROLL for (int l = 0; l < 4; l++) {
            PACK_NONE(&load[l]);
            if (PACK_DOES(l)) PACK_SURE(&load[l], source, at + PACK_LINE(l) * line_bytes);
        }
    else
        UNROLL for (int l = 0; l < 4; l++)
            PACK_START(&load[l], source, at + PACK_LINE(l) * line_bytes, bytes,
                       PACK_DOES(l) && col + PACK_LINE(l) < cols ? n : 0);
    u32 line[4][4];
    UNROLL for (int l = 0; l < 4; l++)
        if (PACK_DOES(l)) PACK_FINISH(&load[l], line[l]);

    LOCAL u32 *words = (LOCAL u32 *)tile;
    UNROLL for (int i = 0; i < 4; i++) {
        const int r = j * PACK_V + i * PACK_E;
#if PACK_BYTES == 1
        const u32 mask = 0x00ff00ffu; /* bytes 0 2 of two lines in one word, 1 3 in the other */
        const u32 ab02 = (line[0][i] & mask) | (line[1][i] & mask) << 8;
        const u32 ab13 = (line[0][i] >> 8 & mask) | (line[1][i] & ~mask);
        const u32 cd02 = (line[2][i] & mask) | (line[3][i] & mask) << 8;
        const u32 cd13 = (line[2][i] >> 8 & mask) | (line[3][i] & ~mask);
        PACK_PUT(words, r, g, (ab02 & 0xffffu) | cd02 << 16);
        PACK_PUT(words, r + 1, g, (ab13 & 0xffffu) | cd13 << 16);
        PACK_PUT(words, r + 2, g, ab02 >> 16 | (cd02 & 0xffff0000u));
        PACK_PUT(words, r + 3, g, ab13 >> 16 | (cd13 & 0xffff0000u));
#elif PACK_BYTES == 2
        UNROLL for (int l = 0; l < 4; l += 2) {
            if (!PACK_DOES(l)) continue;
            const u32 a = line[l][i], b = line[l + 1][i];
            PACK_PUT(words, r, g + l / 2 * 32, (a & 0xffffu) | b << 16);
            PACK_PUT(words, r + 1, g + l / 2 * 32, a >> 16 | (b & 0xffff0000u));
        }
#else
        UNROLL for (int l = 0; l < 4; l++)
            if (PACK_DOES(l)) PACK_PUT(words, r, g + l * 32, line[l][i]);
#endif
    }
    BARRIER();
    workspace += offset + BLOCK(1) * rows * pitch * PACK_BYTES;
    UNROLL for (int k = 0; k < 4; k++) {
        const int x = t + k * PACK_THREADS, chunks = PACK_DOES(3) ? PACK_CHUNKS : 8;
        const int r = PACK_DOES(3) ? x / PACK_CHUNKS : x / 8, chunk = x & (chunks - 1);
        const i64 row = row0 + r, to = col0 + chunk * PACK_V;
        if (k < work && row < rows && to < pitch)
            *(GLOBAL uint4 *)(workspace + (row * pitch + to) * PACK_BYTES) =
                tile[r * PACK_CHUNKS + (chunk ^ r / PACK_V)];
    }
}

#undef PACK_LINES
#undef PACK_ROWS
#undef PACK_CHUNKS
#undef PACK_LINE
#undef PACK_DOES

#else

/* Word i of a piece of which n elements count. */
#define PACK_KEPT(i, n) ((n) * PACK_BYTES - 4 * (i)) /* bytes, below 0 and above 4 as well */
#define PACK_MASK(kept) ((kept) >= 4 ? ~0u : (kept) <= 0 ? 0u : (1u << 8 * (kept)) - 1u)

/* The destination is one run of pieces: thread t of a block has t, t + 256, ... of its part. */
FUNC void PACK_PART(LOCAL uint4 *tile, int block, GLOBAL u8 *workspace, PACK_OPERAND())
{
    (void)tile;
    const i64 across = (i64)((u64)pitch / PACK_V), pieces = rows * across;
    const i64 first = (i64)((u64)(u32)block * (u32)work * PACK_THREADS) + THREAD(0);
    const i64 begin = BLOCK(1) * stride * PACK_BYTES, line_bytes = ld * PACK_BYTES;
    PACK_LOAD load[PACK_PIECES];
    int n[PACK_PIECES];
    UNROLL for (int u = 0; u < PACK_PIECES; u++) {
        const i64 q = first + u * PACK_THREADS;
        n[u] = 0;
        PACK_NONE(&load[u]);
        if (u < work && q < pieces) {
            const u32 row = (u32)(reciprocal ? PACK_QUOTIENT(q, reciprocal) : q / across);
            const int col = (int)(((u32)q - row * (u32)across) * PACK_V), left = (int)cols - col;
            n[u] = left > PACK_V ? PACK_V : left;
            PACK_START(&load[u], source, begin + row * line_bytes + col * PACK_BYTES, bytes, n[u]);
        }
    }
    workspace += offset + BLOCK(1) * pieces * 16;
    UNROLL for (int u = 0; u < PACK_PIECES; u++) {
        const i64 q = first + u * PACK_THREADS;
        if (u >= work || q >= pieces) return;
        u32 w[4];
        PACK_FINISH(&load[u], w);
        if (n[u] < PACK_V)
            UNROLL for (int i = 0; i < 4; i++) w[i] &= PACK_MASK(PACK_KEPT(i, n[u]));
        uint4 v;
        v.x = w[0];
        v.y = w[1];
        v.z = w[2];
        v.w = w[3];
        *(GLOBAL uint4 *)(workspace + q * 16) = v;
    }
}

#undef PACK_KEPT
#undef PACK_MASK

#endif

#ifdef PACK_ENTRY
#if defined(PACK_FIRST) || defined(PACK_TWO)
KERNEL_REGS(PACK_THREADS, 1, 1, 64)
PACK_ENTRY(GLOBAL u8 *workspace, PACK_OPERAND(a_), PACK_OPERAND(b_), i64 blocks)
{
    LOCAL_ARRAY(uint4, tile, 1024); /* copies leave it alone: no compiler keeps it then */
    AFTER_PREVIOUS();
    const int first = BLOCK(0) < blocks;
#ifdef PACK_TWO
    PACK_PART(tile, (int)(first ? BLOCK(0) : BLOCK(0) - blocks), workspace,
              first ? a_source : b_source, first ? a_offset : b_offset, first ? a_rows : b_rows,
              first ? a_cols : b_cols, first ? a_ld : b_ld, first ? a_stride : b_stride,
              first ? a_pitch : b_pitch, first ? a_bytes : b_bytes,
              first ? a_reciprocal : b_reciprocal, first ? a_work : b_work);
#else
    if (first)
        PACK_FIRST(tile, BLOCK(0), workspace, PACK_SAME(a_));
    else
        PACK_PART(tile, (int)(BLOCK(0) - blocks), workspace, PACK_SAME(b_));
#endif
}
#else
KERNEL_REGS(PACK_THREADS, 1, 1, PACK_TRANSPOSE || PACK_PIECES > 2 ? 64 : 40)
PACK_ENTRY(GLOBAL u8 *workspace, PACK_OPERAND())
{
    LOCAL_ARRAY(uint4, tile, 1024);
    AFTER_PREVIOUS();
    PACK_PART(tile, BLOCK(0), workspace, PACK_SAME());
}
#endif
#endif

#undef PACK_TYPE
#undef PACK_TRANSPOSE
#undef PACK_PART
#undef PACK_ENTRY
#undef PACK_FIRST
#undef PACK_TWO
#undef PACK_PIECES
#undef PACK_BYTES_e4m3
#undef PACK_BYTES_e5m2
#undef PACK_BYTES_i8
#undef PACK_BYTES_f16
#undef PACK_BYTES_bf16
#undef PACK_BYTES_f32
#undef PACK_BYTES_tf32
#undef PACK_BYTES_i32
#undef PACK_BYTES
#undef PACK_ELEMENT
#undef PACK_V
#undef PACK_E
#undef PACK_THREADS
#undef PACK_LOAD
#undef PACK_OPERAND
#undef PACK_SAME
#undef PACK_QUOTIENT
#undef PACK_NONE
#undef PACK_START
#undef PACK_FINISH
#undef PACK_GATHER
#undef PACK_PUT
#undef PACK_SURE

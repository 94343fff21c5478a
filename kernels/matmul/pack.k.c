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
 * touched: there, elements are read one by one. The gaps between rows and batches may be read.
 *
 *     word  |..............AA|AAAAAAAAAAAAAA..|     shift = 14 bytes
 *     piece                 |AAAAAAAAAAAAAAAA|
 *
 * Transposing: a tile is 128 source lines of 128 bytes, 16 KB of local memory.
 *
 *     thread t: piece j = t % 8 of four lines around g = t / 8; PACK_E = 4 / size adjacent lines
 *     become words of one destination line each (2x2 or 4x4 exchanges in registers).
 *     Local line r holds chunk x (16 bytes) at x ^ (r / PACK_V): the 32 words that a warp stores (8
 *     values of j, 4 of g) fall into 32 banks, and 8 threads that read a line's chunks do as well.
 *
 * Geometry, the same for all types but for V = 16 / size:
 *     block  (256, 1, 1), no dynamic shared memory
 *     grid   PACK_TRANSPOSE 0: (ceil(rows * (pitch / V) / (256 * PACK_PIECES)), batch, 1)
 *            PACK_TRANSPOSE 1: (ceil(rows / (8 * V)) * ceil(pitch / 128), batch, 1)
 *     limits grid x below 2^31, batch at most 65535
 *     in C   void pack_grid(int64_t rows, int64_t pitch, int64_t batch, int bytes, bool transpose,
 *                           uint32_t grid[3]);
 *
 * Arguments: source; workspace; offset in it (bytes, a multiple of 16); rows and cols of the
 * destination; ld and stride of the source (elements from line to line and from batch to batch);
 * pitch (elements, pitch * size a multiple of 16, at least cols); batch. Batches follow each other
 * in the destination without a gap. The source is aligned to its element. Sizes of 0: nothing is
 * touched.
 *
 * The file may be put into one unit several times: it undefines its parameters at the end. It takes
 * 40 registers without spills (64 to transpose), so 6 (4) blocks share an SM, and each thread has 2
 * to 4 (8) loads on their way. */
#ifndef PACK_TYPE
#define PACK_TYPE bf16      /* bf16 f16 e4m3 e5m2 i8 f32 tf32 i32 */
#define PACK_TRANSPOSE 1    /* 1: the source is stored cols x rows */
#define PACK_ENTRY alone_pack
#endif
#ifndef PACK_PIECES
#define PACK_PIECES 2       /* 16-byte pieces of a thread, PACK_TRANSPOSE 0 */
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
#define PACK_LOAD CAT(PACK_ENTRY, _load)
#define PACK_START CAT(PACK_ENTRY, _start)
#define PACK_FINISH CAT(PACK_ENTRY, _finish)
#define PACK_SINGLY CAT(PACK_ENTRY, _singly)
#define PACK_PUT CAT(PACK_ENTRY, _put)
#define PACK_SURE CAT(PACK_ENTRY, _sure)

/* A piece on its way. */
typedef struct {
    uint4 low, high; /* the aligned words around it */
    int shift;       /* bytes from the word's begin to the piece's */
    int singly;      /* elements to read one by one, as the words reach out of the operand */
} PACK_LOAD;

/* Starts the loads; `end` is the number of bytes from the operand's first element to its last. */
FUNC void PACK_START(PACK_LOAD *p, const GLOBAL u8 *RESTRICT source, i64 at, i64 end, int n)
{
    p->shift = (int)(((u32)(size_t)source + (u32)at) & 15u);
    const i64 first = at - p->shift;
    const int two = p->shift + n * PACK_BYTES > 16;
    const int whole = n > 0 && first >= 0 && first + (two ? 32 : 16) <= end;
    p->singly = whole ? 0 : n;
    p->low.x = p->low.y = p->low.z = p->low.w = 0;
    p->high = p->low;
    if (whole) p->low = PACK_READ(uint4, source + first);
    if (whole && two) p->high = PACK_READ(uint4, source + first + 16);
}

#if PACK_TRANSPOSE
/* The same for PACK_V elements whose words are known to lie inside. */
FUNC void PACK_SURE(PACK_LOAD *p, const GLOBAL u8 *RESTRICT source, i64 at)
{
    p->shift = (int)(((u32)(size_t)source + (u32)at) & 15u);
    p->singly = 0;
    p->low = PACK_READ(uint4, source + (at - p->shift));
    p->high = p->low; /* of no account without a shift */
    if (p->shift) p->high = PACK_READ(uint4, source + (at - p->shift) + 16);
}
#endif

/* At the operand's ends: the first element goes in last, behind it come zeros. */
FUNC void PACK_SINGLY(int n, const GLOBAL u8 *RESTRICT source, i64 at, u32 *w)
{
    u64 low = 0, high = 0;
    UNROLL_N(1)
    for (int e = n - 1; e >= 0; e--) {
        high = high << 8 * PACK_BYTES | low >> (64 - 8 * PACK_BYTES);
        low = low << 8 * PACK_BYTES | PACK_READ(PACK_ELEMENT, source + at + e * PACK_BYTES);
    }
    w[0] = (u32)low;
    w[1] = (u32)(low >> 32);
    w[2] = (u32)high;
    w[3] = (u32)(high >> 32);
}

/* The piece's four words; what lies behind its n elements is not defined. */
FUNC void PACK_FINISH(const PACK_LOAD *p, const GLOBAL u8 *RESTRICT source, i64 at, u32 *to)
{
    u32 w[8] = {p->low.x, p->low.y, p->low.z, p->low.w, p->high.x, p->high.y, p->high.z, p->high.w};
    UNROLL for (int i = 0; i < 6; i++) w[i] = p->shift & 8 ? w[i + 2] : w[i];
    UNROLL for (int i = 0; i < 5; i++) w[i] = p->shift & 4 ? w[i + 1] : w[i];
    UNROLL for (int i = 0; i < 4; i++)
        to[i] = (u32)(((u64)w[i + 1] << 32 | w[i]) >> ((p->shift & (4 - PACK_BYTES)) * 8));
    if (p->singly) PACK_SINGLY(p->singly, source, at, to);
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

KERNEL_REGS(PACK_THREADS, 1, 1, 64)
PACK_ENTRY(const GLOBAL u8 *RESTRICT source, GLOBAL u8 *RESTRICT workspace, i64 offset, i64 rows,
           i64 cols, i64 ld, i64 stride, i64 pitch, i64 batch)
{
    LOCAL_ARRAY(uint4, tile, PACK_ROWS * PACK_CHUNKS);
    AFTER_PREVIOUS();
    const int t = THREAD(0), j = t % 8, g = t / 8;
    const u32 tiles = rows > 0 ? (u32)((rows + PACK_ROWS - 1) / PACK_ROWS) : 1u;
    const i64 row0 = (i64)((u32)BLOCK(0) % tiles) * PACK_ROWS;
    const i64 col0 = (i64)((u32)BLOCK(0) / tiles) * PACK_LINES;
    const i64 end = ((batch - 1) * stride + (cols - 1) * ld + rows) * PACK_BYTES;
    const i64 left = rows - row0 - j * PACK_V;
    const int n = left > PACK_V ? PACK_V : left > 0 ? (int)left : 0;

    const i64 col = col0 + g * PACK_E;
    const i64 at = (BLOCK(1) * stride + col * ld + row0 + j * PACK_V) * PACK_BYTES;
    const i64 line_bytes = ld * PACK_BYTES;
    PACK_LOAD load[4];
    /* one check for all lines of nearly every thread */
    if (n > 0 && col + PACK_LINE(3) < cols && at >= 15 &&
        at + PACK_LINE(3) * line_bytes + 32 <= end)
        UNROLL for (int l = 0; l < 4; l++)
            PACK_SURE(&load[l], source, at + PACK_LINE(l) * line_bytes);
    else
        UNROLL for (int l = 0; l < 4; l++)
            PACK_START(&load[l], source, at + PACK_LINE(l) * line_bytes, end,
                       col + PACK_LINE(l) < cols ? n : 0);
    u32 line[4][4];
    UNROLL for (int l = 0; l < 4; l++) 
        PACK_FINISH(&load[l], source, at + PACK_LINE(l) * line_bytes, line[l]);

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
            const u32 a = line[l][i], b = line[l + 1][i];
            PACK_PUT(words, r, g + l / 2 * 32, (a & 0xffffu) | b << 16);
            PACK_PUT(words, r + 1, g + l / 2 * 32, a >> 16 | (b & 0xffff0000u));
        }
#else
        UNROLL for (int l = 0; l < 4; l++) PACK_PUT(words, r, g + l * 32, line[l][i]);
#endif
    }
    BARRIER();
    workspace += offset + BLOCK(1) * rows * pitch * PACK_BYTES;
    UNROLL for (int k = 0; k < 4; k++) {
        const int x = t + k * PACK_THREADS, r = x / PACK_CHUNKS, chunk = x % PACK_CHUNKS;
        const i64 row = row0 + r, to = col0 + chunk * PACK_V;
        if (row < rows && to < pitch)
            *(GLOBAL uint4 *)(workspace + (row * pitch + to) * PACK_BYTES) =
                tile[r * PACK_CHUNKS + (chunk ^ r / PACK_V)];
    }
}

#undef PACK_LINES
#undef PACK_ROWS
#undef PACK_CHUNKS
#undef PACK_LINE

#else

/* Word i of a piece of which n elements count. */
#define PACK_KEPT(i, n) ((n) * PACK_BYTES - 4 * (i)) /* bytes, below 0 and above 4 as well */
#define PACK_MASK(kept) ((kept) >= 4 ? ~0u : (kept) <= 0 ? 0u : (1u << 8 * (kept)) - 1u)

/* The destination is one run of pieces: thread t of a block has t, t + 256, ... of its part. */
KERNEL_REGS(PACK_THREADS, 1, 1, PACK_PIECES > 2 ? 64 : 40)
PACK_ENTRY(const GLOBAL u8 *RESTRICT source, GLOBAL u8 *RESTRICT workspace, i64 offset, i64 rows,
           i64 cols, i64 ld, i64 stride, i64 pitch, i64 batch)
{
    AFTER_PREVIOUS();
    const i64 across = pitch / PACK_V, pieces = rows * across;
    const i64 first = BLOCK(0) * (i64)(PACK_THREADS * PACK_PIECES) + THREAD(0);
    const i64 end = ((batch - 1) * stride + (rows - 1) * ld + cols) * PACK_BYTES;
    PACK_LOAD load[PACK_PIECES];
    i64 at[PACK_PIECES];
    int n[PACK_PIECES];
    UNROLL for (int u = 0; u < PACK_PIECES; u++) {
        const i64 q = first + u * PACK_THREADS;
        i64 left = 0;
        at[u] = 0;
        if (q < pieces) {
            /* a division of 64 bits takes a hundred instructions */
            const i64 row = pieces >> 32 == 0 ? (i64)((u32)q / (u32)across) : q / across;
            const i64 col = (q - row * across) * PACK_V;
            at[u] = (BLOCK(1) * stride + row * ld + col) * PACK_BYTES;
            left = cols - col;
        }
        n[u] = left > PACK_V ? PACK_V : left > 0 ? (int)left : 0;
        PACK_START(&load[u], source, at[u], end, n[u]);
    }
    UNROLL for (int u = 0; u < PACK_PIECES; u++) {
        const i64 q = first + u * PACK_THREADS;
        u32 w[4];
        PACK_FINISH(&load[u], source, at[u], w);
        if (n[u] < PACK_V)
            UNROLL for (int i = 0; i < 4; i++) w[i] &= PACK_MASK(PACK_KEPT(i, n[u]));
        uint4 v;
        v.x = w[0];
        v.y = w[1];
        v.z = w[2];
        v.w = w[3];
        if (q < pieces)
            *(GLOBAL uint4 *)(workspace + offset + (BLOCK(1) * pieces + q) * 16) = v;
    }
}

#undef PACK_KEPT
#undef PACK_MASK

#endif

#undef PACK_TYPE
#undef PACK_TRANSPOSE
#undef PACK_ENTRY
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
#undef PACK_START
#undef PACK_FINISH
#undef PACK_SINGLY
#undef PACK_PUT
#undef PACK_SURE

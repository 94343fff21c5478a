/* wgmma_sm90: matmul on Hopper's tensor cores, with wgmma, TMA and warp specialisation.
 *
 *   warp group 0      one thread asks TMA for slots of the ring          (produce, kernel.cuh)
 *   warp groups 1..   multiply slots with wgmma and finish tiles         (consume, kernel.cuh)
 *
 *   ring slot: x tile | y tile         full[s]:  the slot's bytes have arrived
 *   X_TILE x TK       TK x Y_TILE      empty[s]: all who read it, in the whole cluster, are done
 *
 * The result's tile is TM x TN. `x` is the side of wgmma's 64 rows, `y` the side of its 8 to 256
 * columns: rows and columns of the result or, with SWAP, columns and rows (few rows then fill the
 * short side). With PINGPONG each of two consumers owns a tile, and one multiplies while the other
 * finishes; otherwise the consumers share the x side of one tile.
 *
 * The files, in the order in which the emitter joins them:
 *   parameters.cuh   this: knobs, what follows from them
 *   instruction.cuh  the instructions, and nothing else knows them
 *   multiply.cuh     ring, descriptors, the k loop of a tile
 *   order.cuh        which tile, and which part of k, comes next
 *   stage.cuh        pieces of results in shared memory, and out of it
 *   matrix.cuh       a matrix that statements read, into those places before
 *   epilogue.cuh     from accumulators to memory
 *   overlap.cuh      results that leave beside the next item's products
 *   split.cuh        sums of parts of k, and the launch that adds them
 *   cluster.cuh      sums of two blocks that share a tile's k
 *   kernel.cuh       the two roles
 * The emitter puts before them: the knobs below, what matmul.h's kiln_matmul_emit_problem lists,
 * NAME(finish) for FINISH elements, NAME(value) for 2, NAME(wgmma), and what it decides of results:
 *   COPY_STORE       warps stage them and copy them out, 16 bytes a thread
 *   OVERLAP          they leave beside the next tile's products
 *   MATRIX_STAGED    the matrix that the statements read comes through their places; then also
 *                    NAME(matrix_at), NAME(value_set)
 *
 * The blocks are persistent: block c takes tiles c, c + blocks, ... With STREAM the tiles that
 * would not fill a last wave (STREAM 2: and one wave more) are cut along k instead, in equal parts
 * for all blocks (order.cuh). With SPLIT every tile is that many items, each a run of slots of k;
 * their sums go to the workspace, and a second launch adds them and finishes (split.cuh). With
 * CLUSTER_K two blocks take half of k each, and exchange sums through shared memory (cluster.cuh). */
#define ELEMENT ((int)sizeof(STORAGE(TA)))
#define LINE 128 /* bytes of a line of a tile: what TMA's widest swizzle spans */
#define PER_LINE (LINE / ELEMENT)
#define X_TILE (SWAP ? TN : TM)
#define Y_TILE (SWAP ? TM : TN)
#define CLUSTER_X (SWAP ? CLUSTER_N : CLUSTER_M)
#define CLUSTER_Y (SWAP ? CLUSTER_M : CLUSTER_N)
#define CLUSTER (CLUSTER_M * CLUSTER_N * CLUSTER_K)
/* Do lines run along x (y) instead of along k? Packed operands run along k. */
#define LINES_A_M (TRANSPOSE_A && !PACK_A)
#define LINES_B_N (!TRANSPOSE_B && !PACK_B)
#define X_ACROSS (SWAP ? LINES_B_N : LINES_A_M)
#define Y_ACROSS (SWAP ? LINES_A_M : LINES_B_N)

#define X_WG (PINGPONG ? X_TILE : X_TILE / CONSUMERS) /* x side of one consumer */
#define X_BLOCKS (X_WG / 64)
#define SUMS (Y_TILE / 2) /* sums of a thread in one 64-row block */
#define SLABS (TK / PER_LINE)
#define STEPS 4 /* wgmma of a line: 32 bytes along k each */
#define SLOT_X (X_TILE * TK * ELEMENT)
#define SLOT_Y (Y_TILE * TK * ELEMENT)
#define SLOT (SLOT_X + SLOT_Y)
#define THREADS (128 + 128 * CONSUMERS)
/* Registers a thread, after setmaxnreg: producer + consumers * consumer must fit into what the block
 * got at launch (168 for each of 384 threads, 128 of 512), or the instruction waits for ever. */
#define REGISTERS_PRODUCER                                                                         \
    (CONSUMERS == 3 ? 32 : X_BLOCKS * SUMS * (PROMOTE ? 2 : 1) > 192 || OVERLAP ? 24 : 40)
#define REGISTERS_CONSUMER (CONSUMERS == 3 ? 160 : REGISTERS_PRODUCER == 24 ? 240 : 232)
/* Long statements beside so many sums: no registers are left for what could be had early. */
#define CROWDED (ROLLED && X_BLOCKS * SUMS > 160)
/* Sums of fp8 leave the tensor cores' narrow accumulator after every slot. */
#define PROMOTE (EIGHT_BIT_FLOAT && !FAST)

/* Results leave in pieces of 16 rows and a line each: 128 bytes, or 64 where a row of the tile does
 * not leave more than that over. The last piece of a tile that leaves something over begins earlier. */
#define IN_PIECES (TMA_STORE || COPY_STORE)
#define OUT_ROW (Y_TILE * OUT_BYTES)
#define OUT_LINE (OUT_ROW % 128 == 0 || (OUT_ROW > 128 && OUT_ROW % 128 > 64) ? 128 : 64)
#define PIECE (OUT_LINE / OUT_BYTES) /* columns */
#define PIECES ((Y_TILE + PIECE - 1) / PIECE)
#define PIECE_BYTES (16 * OUT_LINE)

/* What lies outside is left out when a piece is sent; other outputs and row outputs have to be told. */
#define EVERYWHERE (!OTHER_OUTPUTS && !ROW_TOPS)

/* Shared memory: ring, staging, barriers. Staging of pieces: two of them for every warp, three if they
 * bring a matrix's pieces first, one if the warp copies them itself; of swapped tiles: 16 lines of
 * 64 + 4 words for every consumer. */
#define PLACES (MATRIX_STAGED ? 3 : TMA_STORE ? 2 : 1)
#define STAGE_PITCH 68
#define STAGED                                                                                     \
    (SWAP        ? CONSUMERS * 16 * STAGE_PITCH * 4                                                \
     : IN_PIECES ? CONSUMERS * 4 * PLACES * PIECE_BYTES                                            \
                 : 0)
#define STAGING (STAGES * SLOT)
#define BARRIERS (STAGING + (STAGED + 1023) / 1024 * 1024)

/* Columns that NAME(finish) takes: of added parts a thread has 4. */
#define FINISH (SPLIT > 1 && STORE > 4 ? 4 : STORE)

/* What the files of the matmul family share.
 *
 *     acc[i, j] = sum over l of a[i, l] * b[l, j]         m x n, depth k, for each of `batch`
 *
 * a is stored m x k, or k x m with ta=1; b is stored k x n, or n x k with tb=1; all row-major with
 * leading dimensions lda, ldb, ldo. Batches follow each other without a gap: the stride is
 * stored rows * leading dimension. Operands of statements are dense: bias[n] and scale[m] are
 * shared by all batches, res[m,n] and outputs other than `out` have a matrix per batch. An output
 * amax[m] has one f32 per row and batch entry: the maximum or minimum that its statement takes over
 * the row. Tiles of a row are finished in any order, so each adds its part by an atomic maximum. */
#ifndef KILN_KERNELS_MATMUL_MATMUL_H
#define KILN_KERNELS_MATMUL_MATMUL_H

#include "kernels/family.h"

enum { MATMUL_A, MATMUL_B, MATMUL_OUT, MATMUL_EXTRA }; /* operands; from EXTRA on: statements' */
enum { MATMUL_AXIS_M = 1, MATMUL_AXIS_N = 2 };         /* bits of kiln_operand.axes */

/* A problem as numbers; kiln_matmul_view fills it. */
typedef struct matmul {
    int64_t m, n, k, batch;
    int64_t lda, ldb, ldo, stride_a, stride_b, stride_o; /* elements */
    kiln_type a, b, out;
    kiln_type acc; /* F32, or I32 for i8 x i8 */
    bool ta, tb;
    bool fast;  /* 8-bit floats: sums may stay in the tensor cores' narrow accumulator */
    bool plain; /* the statements are just "out = acc": an I32 result is stored exactly */
    int tops;   /* maxima and minima of rows that the statements store */
} matmul;

matmul kiln_matmul_view(const kiln_problem *p);

/* ---- launches (linked into the runtime) ---- */

void kiln_matmul_arg_operand(kiln_launch *l, int operand);
void kiln_matmul_arg_i64(kiln_launch *l, int64_t value);
void kiln_matmul_arg_i32(kiln_launch *l, int32_t value);
void kiln_matmul_arg_workspace(kiln_launch *l);
/* The arguments that EPILOGUE_PARAMS names, in its order: m, n, ldo, stride_o (I64), then every
 * operand from `out` on. */
void kiln_matmul_arg_epilogue(kiln_launch *l, const kiln_problem *p);
/* With row outputs, adds the launch `clear`, which must come before what finishes tiles: a maximum
 * begins at -infinity, a minimum at infinity. */
enum { MATMUL_CLEAR_THREADS = 64 };
void kiln_matmul_launch_clear(kiln_program *out, const kiln_problem *p);
/* Appends a sentence to why (may be NULL) and returns false: `return kiln_matmul_no(why, ...)`. */
bool kiln_matmul_no(kiln_text *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* May rows of `out` and of every [m,n] and [n] operand be accessed `width` elements at a time? */
bool kiln_matmul_epilogue_aligned(const kiln_problem *p, const kiln_caps *caps, int width,
                                  kiln_text *why);

/* An operand of m x n elements, not one of a row, of a column, or a scalar. */
bool kiln_matmul_is_matrix(const kiln_operand *o);

/* wgmma_sm90. Does wgmma multiply these types? Must operand MATMUL_A or MATMUL_B be packed, as TMA
 * or wgmma cannot take it as it lies? May TMA store tiles of the result, tn wide? Do warps stage
 * results in shared memory and copy them from there, 16 bytes a thread? How many clusters run at
 * once? */
bool kiln_matmul_wgmma_sm90_types(const matmul *v, kiln_text *why);
bool kiln_matmul_wgmma_sm90_packs(const kiln_problem *p, int operand);
bool kiln_matmul_wgmma_sm90_copies(const kiln_problem *p, const kiln_schedule *s);
/* The operand whose pieces come into those places before the results' do, or -1. */
int kiln_matmul_wgmma_sm90_staged(const kiln_problem *p, const kiln_schedule *s);
bool kiln_matmul_wgmma_sm90_stores(const kiln_problem *p, const kiln_caps *caps, int tn,
                                   kiln_text *why);
int64_t kiln_matmul_wgmma_sm90_resident(const kiln_caps *caps, int cluster);
/* Replaces stages=0 by what shared memory holds; 0 stays where nothing fits. */
void kiln_matmul_wgmma_sm90_stages(const kiln_problem *p, const kiln_caps *caps, kiln_schedule *s);

/* ---- emission (tuner only) ----
 * Defines TA TB TO (type names: READ(TA, a, i)), TRANSPOSE_A, TRANSPOSE_B, ACC (float or int),
 * ACC_INT, PLAIN, EPILOGUE_PARAMS (a parameter list), EPILOGUE_ARGS (the same names as arguments),
 * ROW_TOPS (their number, 0 mostly), TOPS_PARAM and TOPS_ARG: ", float *tops" and
 * ", tops" with row outputs, otherwise nothing. */
void kiln_matmul_emit_problem(kiln_text *out, kiln_text *undefs, const kiln_problem *p);
/* Nothing without row outputs. With them, before the other functions:
 *     FUNC void NAME(tops_begin)(float *tops)            ROW_TOPS neutral elements
 *     FUNC void NAME(tops_group)(float *tops, int n)     combines those of each n adjacent threads,
 *                                                        a power of 2 up to K_LANES (if above 1)
 *     FUNC void NAME(tops_end)(EPILOGUE_PARAMS, i64 batch, i64 row, const float *tops)
 *                                                        into the outputs, atomically
 *     KERNEL NAME(clear)                                 for kiln_matmul_launch_clear
 * A body calls tops_begin, then finishes any number of columns of ONE row (TOPS_ARG collects their
 * maxima), may combine threads that share the row, and calls tops_end. */
void kiln_matmul_emit_tops(kiln_text *out, const kiln_problem *p);
/* A device function that finishes `width` adjacent columns (1, 2, 4, 8, 16) of one row:
 *     FUNC void NAME(<name>)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum
 *                            TOPS_PARAM)
 * reads what the statements read, evaluates them in float and stores. The caller has checked
 * that row < m and col + width <= n; a width above 1 needs kiln_matmul_epilogue_aligned. */
void kiln_matmul_emit_epilogue(kiln_text *out, const kiln_problem *p, const char *name, int width);

/* The same, but `out` is left, before rounding, in value[width] instead of being stored:
 *     FUNC void NAME(<name>)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, const ACC *sum,
 *                            float *value TOPS_PARAM) */
void kiln_matmul_emit_value(kiln_text *out, const kiln_problem *p, const char *name, int width);

/* Either in two steps, so that loads can be asked for long before they are needed:
 *     NAME(<name>_line)     where the matrices' rows begin
 *     NAME(<name>_held)     what the statements read of `width` columns of a row, unconverted
 *     FUNC void NAME(<name>_begin)(EPILOGUE_PARAMS, batch, row, NAME(<name>_line) *line)
 *     FUNC void NAME(<name>_fetch)(EPILOGUE_PARAMS, const NAME(<name>_line) *line, int col,
 *                                  NAME(<name>_held) *held)
 *     FUNC void NAME(<name>_with)(EPILOGUE_PARAMS, batch, row, col, const ACC *sum[, float *value],
 *                                 const NAME(<name>_held) *held TOPS_PARAM)
 * begin and fetch have to be given a row and columns of the result. */
void kiln_matmul_emit_epilogue_ahead(kiln_text *out, const kiln_problem *p, const char *name,
                                     int width);
/* staged: a matrix that the body itself brings, two of its elements a time (width 2), or -1; then
 *     FUNC ... *NAME(matrix_at)(EPILOGUE_PARAMS, batch, row, col)     where they lie
 *     FUNC void NAME(<name>_set)(NAME(<name>_held) *held, u32 pair)   after fetch */
void kiln_matmul_emit_value_ahead(kiln_text *out, const kiln_problem *p, const char *name,
                                  int width, int staged);
/* Are the statements long enough, or do they read so much, that a tile is finished in a loop over
 * pieces of it? The loop keeps sums in registers longer than plain statements do. */
bool kiln_matmul_worth_a_loop(const kiln_problem *p);
/* Are the statements short, and read no matrix and give nothing but `out`, so that results can be
 * packed without waiting for anything? */
bool kiln_matmul_is_brief(const kiln_problem *p);
/* ROLLED: kiln_matmul_worth_a_loop; OTHER_OUTPUTS: element outputs beside `out`; ARRAY_READS:
 * operands that are read and no scalars; MATRIX_READS: those that are matrices; MATRIX_LINE:
 * columns of 128 bytes of the widest of them; and NAME(matrix_soon)(EPILOGUE_PARAMS, batch, row,
 * col), which brings their lines at a place nearer. */
void kiln_matmul_emit_ahead_facts(kiln_text *out, kiln_text *undefs, const kiln_problem *p);

/* emit_epilogue for one vector of a CPU: (EPILOGUE_PARAMS, batch, row, col, ACCV sum), any
 * alignment. With row outputs it collects vectors (", REAL *tops") and comes with
 *     FUNC void NAME(tops_spread)(REAL *wide)                           neutral elements
 *     FUNC void NAME(tops_gather)(float *tops, const REAL *wide)        adds the lanes' maxima */
void kiln_matmul_emit_epilogue_vector(kiln_text *out, const kiln_problem *p, const char *name);

extern const kiln_family kiln_family_matmul;
extern const kiln_variant kiln_matmul_cpu, kiln_matmul_simt, kiln_matmul_mma_sm80,
    kiln_matmul_wgmma_sm90;
extern const kiln_variant_generator kiln_matmul_cpu_generator, kiln_matmul_simt_generator,
    kiln_matmul_mma_sm80_generator, kiln_matmul_wgmma_sm90_generator;

#endif

/* mma_sm80: where it applies, its space, where to start, its source. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <math.h>

/* Types, layout, device, and rows that cp.async can copy at all: then some schedule is legal. */
static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    int64_t element = (int64_t)kiln_type_bytes(v.a);
    if (caps->arch_number < 80)
        return kiln_matmul_no(why, "mma.sync with cp.async needs compute capability 8.0 or newer");
    if (v.a != v.b || (v.a != KILN_F16 && v.a != KILN_BF16 && v.a != KILN_I8))
        return kiln_matmul_no(why,
                              "mma.sync here multiplies f16 by f16, bf16 by bf16 or i8 by i8, not "
                              "%s by %s",
                              kiln_type_name(v.a), kiln_type_name(v.b));
    if (v.a == KILN_I8 && (v.ta || !v.tb))
        return kiln_matmul_no(why, "i8 operands must be contiguous along k (ta=0 tb=1)");
    if ((v.lda | v.ldb) * element % 4)
        return kiln_matmul_no(why, "rows of %lld and %lld bytes: cp.async copies multiples of 4",
                              (long long)(v.lda * element), (long long)(v.ldb * element));
    return true;
}

/* Widest copy that rows allow. */
static int widest_copy(const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    int64_t element = (int64_t)kiln_type_bytes(v.a), rows = (v.lda | v.ldb) * element;
    return rows % 16 == 0 ? 16 : rows % 8 == 0 ? 8 : 4;
}

/* Widest piece of a row: 16 bytes of `out`, at most 8 columns. */
static int widest_store(const kiln_problem *p, const kiln_caps *caps) {
    int width = 16 / (int)kiln_type_bytes(kiln_matmul_view(p).out);
    if (width > 8) width = 8;
    while (width > 1 && !kiln_matmul_epilogue_aligned(p, caps, width, NULL)) width /= 2;
    return width;
}

#define ADD(space, knob, ...)                                                                      \
    kiln_space_add(space, knob, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                 \
                   (int[]){__VA_ARGS__})

/* Few tiles leave SMs idle: then k is worth splitting, and the order of tiles hardly matters. */
static void add_splits(const matmul *v, const kiln_caps *caps, kiln_space *space) {
    int64_t blocks = (v->m + 127) / 128 * ((v->n + 127) / 128) * v->batch;
    if (blocks >= 2 * caps->units) {
        ADD(space, "stages", 2, 3, 4, 5, 6);
        ADD(space, "group", 4, 8, 16);
        ADD(space, "split", 1);
        return;
    }
    ADD(space, "stages", 3, 4, 6);
    ADD(space, "group", 8);
    if (blocks >= caps->units / 2)
        ADD(space, "split", 1, 2, 3, 4);
    else
        ADD(space, "split", 1, 2, 4, 8);
}

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    *out = (kiln_space){.variant = &kiln_matmul_mma_sm80};
    matmul v = kiln_matmul_view(p);
    if (v.m <= 64)
        ADD(out, "tm", 16, 32, 64, 128);
    else
        ADD(out, "tm", 64, 128, 256);
    if (v.n <= 64)
        ADD(out, "tn", 16, 32, 64, 128);
    else
        ADD(out, "tn", 64, 128, 256);
    if (v.a == KILN_I8)
        ADD(out, "tk", 64, 128);
    else
        ADD(out, "tk", 32, 64);
    ADD(out, "warps_m", 1, 2, 4);
    ADD(out, "warps_n", 1, 2, 4);
    ADD(out, "resident", 1, 2, 3);
    ADD(out, "copy", widest_copy(p));
    ADD(out, "store", widest_store(p, caps));
    add_splits(&v, caps, out);
}

/* ---- where to start: the least estimated time over shapes known to be good. `rate`: how well a
 * shape feeds the tensor cores, relative; an estimate from bytes of ldmatrix per mma (64x64 warp
 * tiles read 2 bytes a lane and mma, 32x32 twice that), to be replaced by measurements. */
typedef struct candidate {
    int tm, tn, warps_m, warps_n, resident;
    double rate;
} candidate;

static const candidate candidates[] = {
    {128, 256, 2, 4, 1, 1.00}, {256, 128, 4, 2, 1, 0.99}, {128, 128, 2, 2, 2, 0.97},
    {128, 128, 2, 2, 1, 0.70}, {128, 64, 2, 2, 2, 0.75},  {64, 128, 2, 2, 2, 0.75},
    {64, 256, 1, 4, 2, 0.90},  {64, 64, 2, 2, 3, 0.55},   {64, 64, 2, 2, 1, 0.35},
    {32, 128, 1, 4, 2, 0.40},  {16, 128, 1, 4, 2, 0.25},  {128, 32, 4, 1, 2, 0.40},
};

static kiln_schedule schedule_of(const candidate *c, const kiln_problem *p, const kiln_caps *caps,
                                 int tk, int stages, int split) {
    kiln_schedule s = kiln_variant_default(&kiln_matmul_mma_sm80);
    kiln_schedule_set(&s, "tm", c->tm);
    kiln_schedule_set(&s, "tn", c->tn);
    kiln_schedule_set(&s, "tk", tk);
    kiln_schedule_set(&s, "warps_m", c->warps_m);
    kiln_schedule_set(&s, "warps_n", c->warps_n);
    kiln_schedule_set(&s, "resident", c->resident);
    kiln_schedule_set(&s, "stages", stages);
    kiln_schedule_set(&s, "split", split);
    kiln_schedule_set(&s, "copy", widest_copy(p));
    kiln_schedule_set(&s, "store", widest_store(p, caps));
    return s;
}

/* In multiply-adds of one SM. Partial sums cost their bytes: 8 each, at 64 multiply-adds a byte
 * (about what an SM does in the time its share of the memory moves one). */
static double estimate(const candidate *c, const matmul *v, const kiln_caps *caps, int split) {
    double tiles =
        ceil((double)v->m / c->tm) * ceil((double)v->n / c->tn) * (double)v->batch * split;
    double units = caps->units > 0 ? caps->units : 1;
    double waves = ceil(tiles / (units * c->resident));
    double depth = (double)v->k / split + 64; /* the ring fills before the first mma */
    double sums = split > 1 ? 8.0 * 64 * split * (double)(v->m * v->n * v->batch) / units : 0;
    return waves * c->resident * c->tm * c->tn * depth / c->rate + sums;
}

/* The deepest ring of 4 or fewer slots that is legal, first with long slots. */
static bool fit(const candidate *c, const kiln_problem *p, const kiln_caps *caps, int split,
                kiln_schedule *out) {
    int element = (int)kiln_type_bytes(kiln_matmul_view(p).a);
    for (int bytes = 128; bytes >= 64; bytes /= 2)
        for (int stages = 4; stages >= 3; stages--) {
            *out = schedule_of(c, p, caps, bytes / element, stages, split);
            if (kiln_matmul_mma_sm80.legal(p, caps, out, NULL)) return true;
        }
    return false;
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps) {
    matmul v = kiln_matmul_view(p);
    kiln_schedule best = kiln_variant_default(&kiln_matmul_mma_sm80), s;
    double least = INFINITY;
    for (int i = 0; i < (int)(sizeof candidates / sizeof *candidates); i++)
        for (int split = 1; split <= 8; split *= 2) {
            double time = estimate(&candidates[i], &v, caps, split);
            if (time >= least || !fit(&candidates[i], p, caps, split, &s)) continue;
            best = s, least = time;
        }
    return best;
}

/* Seconds at 1.7 GHz with 1000 multiply-adds of 16 bits a cycle and SM, what mma.sync reaches on
 * Hopper with warp tiles of 64 x 64; smaller ones read more fragments for the same products. Copies
 * of 4 bytes cost 0.4 of all that again (405 schedules on an H200, results/data). A launch takes
 * 5 us, of which wgmma_sm90's estimate has the same, the one that adds parts 3. */
static double seconds(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s) {
    matmul v = kiln_matmul_view(p);
    double wtm = kiln_schedule_get(s, "tm") / (double)kiln_schedule_get(s, "warps_m");
    double wtn = kiln_schedule_get(s, "tn") / (double)kiln_schedule_get(s, "warps_n");
    candidate c = {.tm = kiln_schedule_get(s, "tm"),
                   .tn = kiln_schedule_get(s, "tn"),
                   .resident = kiln_schedule_get(s, "resident"),
                   .rate = fmin(1, wtm * wtn / (wtm + wtn) / 32)};
    double eight = v.a == KILN_I8 ? 2 : 1;
    double bytes = (double)(v.m + v.n) * (double)v.k * (double)v.batch *
                   (double)kiln_type_bytes(v.a);
    double busy = estimate(&c, &v, caps, kiln_schedule_get(s, "split")) / (1000 * 1.7e9 * eight);
    double launches = kiln_schedule_get(s, "split") > 1 ? 8e-6 : 5e-6;
    double narrow = kiln_schedule_get(s, "copy") == 4 ? 1.4 : 1;
    return (fmax(busy, bytes / 3.8e12) + 0.1 * busy) * narrow + launches;
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_matmul_emit_tops(out, p);
    kiln_matmul_emit_epilogue(out, p, "finish", kiln_schedule_get(s, "store"));
    kiln_text_add(out, kiln_embedded("kernels/matmul/mma_sm80.cuh"));
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of mma_sm80") : KILN_OK;
}

const kiln_variant_generator kiln_matmul_mma_sm80_generator = {
    .variant = &kiln_matmul_mma_sm80,
    .applies = applies,
    .space = space,
    .start = start,
    .estimate = seconds,
    .source = source,
};

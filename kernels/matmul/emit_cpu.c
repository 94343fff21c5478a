/* Space, start and source of the packed CPU kernel. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    (void)p;
    if (caps->kind == KILN_DEVICE_CPU) return true;
    return kiln_matmul_no(why, "variant cpu is for CPUs, not for %s", caps->name);
}

#define ADD(space, name, ...)                                                                      \
    kiln_space_add(space, name, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                 \
                   (int[]){__VA_ARGS__})

/* Micro-tiles that keep 10 or more accumulators, enough to hide the latency of multiply-adds, and
 * fit the registers; short ones only where m is short too. */
static void add_micro_tiles(const matmul *v, const kiln_caps *caps, kiln_space *out) {
    if (caps->vector_registers < 32) {
        ADD(out, "vl", 8, 4);
        ADD(out, "nv", 1, 2, 3);
        if (v->m < 4)
            ADD(out, "mr", 1, 2, 4, 6);
        else
            ADD(out, "mr", 3, 4, 5, 6);
        return;
    }
    ADD(out, "vl", 8, 16);
    ADD(out, "nv", 2, 4);
    if (v->m < 6)
        ADD(out, "mr", 1, 2, 4, 6);
    else
        ADD(out, "mr", 6, 8, 12, 13);
}

/* Every core should have several blocks; large problems want large blocks for the caches. */
static void add_blocks(const matmul *v, const kiln_caps *caps, kiln_space *out) {
    double tiles = (double)v->m * (double)v->n * (double)v->batch / (12 * 32);
    if (tiles < 256.0 * caps->units) {
        ADD(out, "mp", 2, 4, 8, 16);
        ADD(out, "np", 2, 4, 8);
    } else {
        ADD(out, "mp", 4, 8, 16);
        ADD(out, "np", 4, 8, 16);
    }
}

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    matmul v = kiln_matmul_view(p);
    *out = (kiln_space){.variant = &kiln_matmul_cpu};
    add_micro_tiles(&v, caps, out);
    add_blocks(&v, caps, out);
    if (v.k <= 256)
        ADD(out, "kc", 256);
    else
        ADD(out, "kc", 256, 384, 512);
    ADD(out, "uk", 4, 8);
    ADD(out, "pfb", 0, 16);
    ADD(out, "order", 0, 1);
    if (v.plain && v.out == KILN_F32 && v.acc == KILN_F32 && v.k > 256) ADD(out, "part", 1, 0);
}

/* Rows that a micro-tile computes for nothing cost as much as the others; 12 rows of two vectors
 * use the registers best, 8 follow at 0.95 or more. */
static int best_rows(int64_t m) {
    static const struct {
        int rows;
        double cost;
    } choice[] = {{12, 1.0}, {13, 1.01}, {8, 1.04}, {6, 1.1}};
    int best = 12;
    double least = 1e300;
    for (size_t i = 0; i < sizeof choice / sizeof *choice; i++) {
        double cost =
            (double)((m + choice[i].rows - 1) / choice[i].rows * choice[i].rows) * choice[i].cost;
        if (cost < least) least = cost, best = choice[i].rows;
    }
    return best;
}

/* The depth that leaves the fullest last panel: fewest panels first, then the smaller depth. */
static int best_depth(int64_t k) {
    static const int choice[] = {512, 384, 256};
    int best = 512;
    for (int i = 1; i < 3; i++)
        if ((k + choice[i] - 1) / choice[i] == (k + best - 1) / best) best = choice[i];
    return best;
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps) {
    matmul v = kiln_matmul_view(p);
    kiln_schedule s = kiln_variant_default(&kiln_matmul_cpu), wide = s;
    if (caps->vector_registers < 32) return s;
    kiln_schedule_set(&wide, "vl", caps->vector_bits >= 512 ? 16 : 8);
    kiln_schedule_set(&wide, "mr", best_rows(v.m));
    kiln_schedule_set(&wide, "kc", best_depth(v.k));
    kiln_schedule_set(&wide, "mp", 8);
    kiln_schedule_set(&wide, "pfb", 16);
    return kiln_matmul_cpu.legal(p, caps, &wide, NULL) ? wide : s;
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_matmul_emit_tops(out, p);
    kiln_matmul_emit_epilogue(out, p, "finish_one", 1);
    kiln_text_add(out, kiln_embedded("kernels/matmul/vector.k.c"));
    kiln_matmul_emit_epilogue_vector(out, p, "finish");
    kiln_text_add(out, kiln_embedded("kernels/matmul/cpu.k.c"));
    kiln_text_add(out, "#undef TOPS_WIDE\n#undef REAL\n#undef INTV\n#undef UINTV\n#undef VLOAD\n#undef VSTORE\n");
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of a matmul kernel")
                  : KILN_OK;
}

const kiln_variant_generator kiln_matmul_cpu_generator = {
    .variant = &kiln_matmul_cpu,
    .applies = applies,
    .space = space,
    .start = start,
    .source = source,
};

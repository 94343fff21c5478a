/* Geometry of the packed CPU kernel: see cpu.k.c for the picture. */
#include "kernels/matmul/matmul.h"

#include <string.h>

enum { PACK_ROWS = 32, PACK_WIDTH = 512 }; /* as in cpu.k.c */
enum { VL, MR, NV, KC, MP, NP, UK, PFB, PFC, ORDER, PART };

static const kiln_knob knobs[] = {
    [VL] = {"vl", 8, "floats of a vector"},
    [MR] = {"mr", 6, "rows of a micro-tile"},
    [NV] = {"nv", 2, "vectors in a micro-tile's row"},
    [KC] = {"kc", 256, "depth of a k panel"},
    [MP] = {"mp", 16, "panels of a in a block"},
    [NP] = {"np", 8, "panels of b in a block"},
    [UK] = {"uk", 4, "unrolled k steps"},
    [PFB] = {"pfb", 0, "prefetch b this many k steps ahead; 0: no"},
    [PFC] = {"pfc", 0, "1: prefetch the tile of out"},
    [ORDER] = {"order", 0, "0: a's panel stays in L1, 1: b's"},
    [PART] = {"part", 1, "partial sums in 0: out itself, 1: local memory"},
    {0},
};

static int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

/* Floats of one packed operand, a multiple of 32 so that what follows stays aligned. */
static int64_t packed_floats(int64_t panels, int64_t r, int64_t k) {
    return ceil_div(panels * r * k, 32) * 32;
}

/* Work-items that pack one operand: transposed panel by panel, or copied stripe by stripe. */
static int64_t pack_items(bool transposed, int64_t panels, int64_t r, int64_t k, int64_t kc) {
    int64_t group = PACK_WIDTH / r > 1 ? PACK_WIDTH / r : 1;
    return transposed ? panels * ceil_div(k, kc) : ceil_div(panels, group) * ceil_div(k, PACK_ROWS);
}

typedef struct plan {
    matmul p;
    int64_t panels_m, panels_n, size_a, size_b, items_a, items_b, bytes;
} plan;

static plan make_plan(const kiln_problem *problem, const kiln_schedule *s) {
    plan q = {.p = kiln_matmul_view(problem)};
    int mr = s->value[MR], nr = s->value[NV] * s->value[VL], kc = s->value[KC];
    q.panels_m = ceil_div(q.p.m, mr);
    q.panels_n = ceil_div(q.p.n, nr);
    q.size_a = packed_floats(q.panels_m, mr, q.p.k);
    q.size_b = packed_floats(q.panels_n, nr, q.p.k);
    q.items_a = pack_items(!q.p.ta, q.panels_m, mr, q.p.k, kc);
    q.items_b = pack_items(q.p.tb, q.panels_n, nr, q.p.k, kc);
    q.bytes = (q.size_a + q.size_b) * q.p.batch * 4;
    return q;
}

static bool legal_knobs(const kiln_caps *caps, const kiln_schedule *s, kiln_text *why) {
    const int *v = s->value;
    if (v[VL] != 4 && v[VL] != 8 && v[VL] != 16)
        return kiln_matmul_no(why, "vl=%d is no vector length: use 4, 8 or 16", v[VL]);
    if (v[MR] < 1 || v[NV] < 1 || v[MP] < 1 || v[NP] < 1 || v[UK] < 1 || v[PFB] < 0)
        return kiln_matmul_no(why, "mr, nv, mp, np and uk start at 1, pfb at 0");
    if (v[KC] < PACK_ROWS || v[KC] % PACK_ROWS)
        return kiln_matmul_no(
            why, "kc=%d is not a multiple of the %d k steps that a packing item copies", v[KC],
            PACK_ROWS);
    int bits = caps->vector_bits ? caps->vector_bits : 128;
    int split = v[VL] * 32 > bits ? v[VL] * 32 / bits : 1;
    int need = (v[MR] * v[NV] + v[NV] + 1) * split, have = caps->vector_registers;
    if (need > (have > 32 ? have : 32))
        return kiln_matmul_no(why,
                              "%d x %d accumulators, %d vectors of b and one of a need %d vector "
                              "registers: they would spill",
                              v[MR], v[NV], v[NV], need);
    int64_t local = v[PART] ? (int64_t)v[MP] * v[NP] * v[MR] * v[NV] * v[VL] * 4 : 0;
    if (local > caps->shared_bytes)
        return kiln_matmul_no(why,
                              "partial sums of a block take %lld bytes of local memory, the device "
                              "has %d",
                              (long long)local, caps->shared_bytes);
    return true;
}

static bool legal(const kiln_problem *problem, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why) {
    const int *v = s->value;
    if (caps->kind != KILN_DEVICE_CPU)
        return kiln_matmul_no(why, "variant cpu is for CPUs, not for %s", caps->name);
    if (!legal_knobs(caps, s, why)) return false;
    plan q = make_plan(problem, s);
    if (v[PART] == 0 && !(q.p.plain && q.p.out == KILN_F32 && q.p.acc == KILN_F32))
        return kiln_matmul_no(
            why, "part=0 keeps partial sums in out, which needs out=f32, floats and no "
                 "statements");
    if (q.p.acc == KILN_I32 && v[KC] >= 1024)
        return kiln_matmul_no(
            why,
            "i8 sums over kc=%d steps may exceed 2^24 and round as float: use less "
            "than 1024",
            v[KC]);
    if (q.bytes > caps->max_alloc_bytes && caps->max_alloc_bytes)
        return kiln_matmul_no(why,
                              "packed a and b take %lld bytes, more than one buffer of the device "
                              "may have (%lld)",
                              (long long)q.bytes, (long long)caps->max_alloc_bytes);
    int64_t groups = ceil_div(q.panels_n, v[NP]), batch = q.p.batch;
    if (q.items_a + q.items_b > UINT32_MAX || groups > UINT32_MAX || batch > UINT32_MAX)
        return kiln_matmul_no(why, "the grid exceeds 2^32 work-items: reduce the sizes");
    return true;
}

static void pack_launch(kiln_launch *l, const plan *q) {
    strcpy(l->entry, "pack");
    l->grid[0] = (uint32_t)(q->items_a + q->items_b);
    l->grid[1] = 1;
    l->grid[2] = (uint32_t)q->p.batch;
    l->block[0] = l->block[1] = l->block[2] = 1;
    kiln_matmul_arg_operand(l, MATMUL_A);
    kiln_matmul_arg_operand(l, MATMUL_B);
    const int64_t numbers[] = {q->p.m,        q->p.n,     q->p.k,
                               q->p.lda,      q->p.ldb,   q->p.stride_a,
                               q->p.stride_b, q->items_a, q->size_a * q->p.batch,
                               q->size_a,     q->size_b};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        kiln_matmul_arg_i64(l, numbers[i]);
    kiln_matmul_arg_workspace(l);
}

static void main_launch(kiln_launch *l, const kiln_problem *problem, const plan *q,
                        const kiln_schedule *s) {
    strcpy(l->entry, "main");
    l->grid[0] = (uint32_t)ceil_div(q->panels_m, s->value[MP]);
    l->grid[1] = (uint32_t)ceil_div(q->panels_n, s->value[NP]);
    l->grid[2] = (uint32_t)q->p.batch;
    l->block[0] = l->block[1] = l->block[2] = 1;
    kiln_matmul_arg_epilogue(l, problem);
    kiln_matmul_arg_i64(l, q->p.k);
    kiln_matmul_arg_i64(l, q->size_a * q->p.batch);
    kiln_matmul_arg_i64(l, q->size_a);
    kiln_matmul_arg_i64(l, q->size_b);
    kiln_matmul_arg_workspace(l);
}

static int program(const kiln_problem *problem, const kiln_caps *caps, const kiln_schedule *s,
                   kiln_program *out, kiln_error *e) {
    (void)caps;
    (void)e;
    plan q = make_plan(problem, s);
    memset(out, 0, sizeof *out);
    out->workspace_bytes = q.bytes;
    pack_launch(&out->launch[out->n_launches++], &q);
    kiln_matmul_launch_clear(out, problem);
    main_launch(&out->launch[out->n_launches++], problem, &q, s);
    return KILN_OK;
}

const kiln_variant kiln_matmul_cpu = {
    .name = "cpu",
    .help = "packed panels and register tiles for CPUs through OpenCL",
    .revision = 1,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

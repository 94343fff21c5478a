/* simt: legality, geometry and arguments. simt.k.c has the picture and the parameters. */
#include "kernels/matmul/matmul.h"

#include <string.h>

enum { TM, TN, TK, RM, RN, VA, VB, VO, BUFFERS, SPLIT, GROUP, PAD };
enum { STATIC_LOCAL_MAX = 48 * 1024, GRID_YZ_MAX = 65535, SUM_THREADS = 256 };

static const kiln_knob knobs[] = {
    [TM] = {"tm", 64, "rows of a block's tile"},
    [TN] = {"tn", 64, "columns of a block's tile"},
    [TK] = {"tk", 16, "depth of a step"},
    [RM] = {"rm", 4, "rows of a thread"},
    [RN] = {"rn", 4, "columns of a thread"},
    [VA] = {"va", 1, "elements of one load of a"},
    [VB] = {"vb", 1, "elements of one load of b"},
    [VO] = {"vo", 1, "adjacent columns finished together"},
    [BUFFERS] = {"buffers", 1, "tiles in local memory; 2: load the next while multiplying"},
    [SPLIT] = {"split", 1, "parts of k in blocks of their own, summed by a second launch"},
    [GROUP] = {"group", 8, "rows of tiles that run side by side, for the cache"},
    [PAD] = {"pad", 0, "unused floats at the end of a row in local memory"},
    {0},
};

static int64_t ceil_div(int64_t x, int64_t y) { return (x + y - 1) / y; }

static int threads_of(const kiln_schedule *s) {
    const int *v = s->value;
    return v[TM] / v[RM] * (v[TN] / v[RN]);
}

static bool is_width(int w) { return w == 1 || w == 2 || w == 4 || w == 8; }

static bool legal_tiles(const kiln_schedule *s, kiln_text *why) {
    const int *v = s->value;
    for (int i = TM; i <= GROUP; i++)
        if (v[i] < 1 || v[i] > 1024)
            return kiln_matmul_no(why, "%s=%d is not between 1 and 1024", knobs[i].name, v[i]);
    if (!is_width(v[VA]) || !is_width(v[VB]) || !is_width(v[VO]))
        return kiln_matmul_no(why, "va, vb and vo are 1, 2, 4 or 8");
    if (v[BUFFERS] > 2 || v[PAD] < 0 || v[PAD] > 32)
        return kiln_matmul_no(why, "buffers is 1 or 2, pad 0 to 32");
    if (v[TM] % v[RM] || v[TN] % v[RN] || v[RN] % v[VO])
        return kiln_matmul_no(why,
                              "a %dx%d tile does not divide into threads of %dx%d, %d columns at "
                              "once",
                              v[TM], v[TN], v[RM], v[RN], v[VO]);
    return true;
}

static bool legal_loads(const kiln_schedule *s, const matmul *p, kiln_text *why) {
    const int *v = s->value, threads = threads_of(s);
    int along_a = p->ta ? v[TM] : v[TK], along_b = p->tb ? v[TK] : v[TN];
    if (along_a % v[VA] || along_b % v[VB])
        return kiln_matmul_no(why,
                              "a tile %d deep does not divide into loads of %d and %d elements",
                              v[TK], v[VA], v[VB]);
    if (v[TM] * v[TK] % (v[VA] * threads) || v[TN] * v[TK] % (v[VB] * threads))
        return kiln_matmul_no(why,
                              "%d threads cannot share the loads of %dx%d and %dx%d tiles evenly",
                              threads, v[TM], v[TK], v[TK], v[TN]);
    return true;
}

static bool legal_device(const kiln_schedule *s, const kiln_caps *caps, kiln_text *why) {
    const int *v = s->value, threads = threads_of(s);
    int local = v[BUFFERS] * v[TK] * (v[TM] + v[TN] + 2 * v[PAD]) * 4;
    int limit = caps->shared_bytes < STATIC_LOCAL_MAX ? caps->shared_bytes : STATIC_LOCAL_MAX;
    int staged = (v[TM] + v[TN]) * v[TK] / threads;
    int registers = v[RM] * v[RN] + v[RM] + v[RN] + staged + 30;
    if (threads > caps->max_threads)
        return kiln_matmul_no(why, "%d threads: a block has at most %d", threads,
                              caps->max_threads);
    if (v[SPLIT] > 1 && caps->max_threads < SUM_THREADS)
        return kiln_matmul_no(why, "split needs blocks of %d threads, the device has %d",
                              SUM_THREADS, caps->max_threads);
    if (local > limit)
        return kiln_matmul_no(why, "%d bytes of local memory, of which a kernel may declare %d",
                              local, limit);
    int room = caps->registers_unit > 0 ? caps->registers_unit / threads : 255;
    if (registers > (room < 255 ? room : 255))
        return kiln_matmul_no(
            why,
            "about %d registers a thread where %d are left for %d threads: it would "
            "spill",
            registers, room < 255 ? room : 255, threads);
    return true;
}

/* Loads of `width` elements along the contiguous side of an operand. */
static bool legal_load(const char *name, int width, int64_t contiguous, int64_t ld, kiln_type type,
                       const kiln_caps *caps, kiln_text *why) {
    int64_t access = width * (int64_t)kiln_type_bytes(type);
    if (contiguous % width || ld % width)
        return kiln_matmul_no(
            why,
            "%d elements of %s at once need %lld columns and leading dimension %lld "
            "to be multiples of %d",
            width, name, (long long)contiguous, (long long)ld, width);
    if (width > 1 && caps->align_bytes % (access < 16 ? access : 16))
        return kiln_matmul_no(why,
                              "%d elements of %s at once need buffers aligned to %lld bytes; the "
                              "device promises %d",
                              width, name, (long long)access, caps->align_bytes);
    return true;
}

typedef struct plan {
    matmul p;
    int64_t tiles_m, tiles_n, k_part, parts_bytes, sum_blocks;
} plan;

static plan make_plan(const kiln_problem *problem, const kiln_schedule *s) {
    plan q = {.p = kiln_matmul_view(problem)};
    const int *v = s->value;
    q.tiles_m = ceil_div(q.p.m, v[TM]);
    q.tiles_n = ceil_div(q.p.n, v[TN]);
    q.k_part = ceil_div(ceil_div(q.p.k, v[SPLIT]), v[TK]) * v[TK];
    q.parts_bytes = v[SPLIT] > 1 ? v[SPLIT] * q.p.batch * q.p.m * q.p.n * 4 : 0;
    q.sum_blocks = ceil_div(ceil_div(q.p.m * q.p.n, v[VO]), SUM_THREADS);
    return q;
}

static bool legal_sizes(const kiln_problem *problem, const kiln_caps *caps, const kiln_schedule *s,
                        kiln_text *why) {
    plan q = make_plan(problem, s);
    const int *v = s->value;
    if (q.p.batch > GRID_YZ_MAX || q.tiles_m * q.tiles_n > INT32_MAX || q.sum_blocks > INT32_MAX)
        return kiln_matmul_no(why, "%lld tiles and a batch of %lld exceed the grid",
                              (long long)(q.tiles_m * q.tiles_n), (long long)q.p.batch);
    if (v[SPLIT] > 1 && q.k_part * (v[SPLIT] - 1) >= q.p.k)
        return kiln_matmul_no(why, "k=%lld is too short for %d parts of whole %d deep tiles",
                              (long long)q.p.k, v[SPLIT], v[TK]);
    if (caps->max_alloc_bytes && q.parts_bytes > caps->max_alloc_bytes)
        return kiln_matmul_no(why, "partial sums take %lld bytes, one buffer may have %lld",
                              (long long)q.parts_bytes, (long long)caps->max_alloc_bytes);
    return legal_load("a", v[VA], q.p.ta ? q.p.m : q.p.k, q.p.lda, q.p.a, caps, why) &&
           legal_load("b", v[VB], q.p.tb ? q.p.k : q.p.n, q.p.ldb, q.p.b, caps, why) &&
           kiln_matmul_epilogue_aligned(problem, caps, v[VO], why);
}

static bool legal(const kiln_problem *problem, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why) {
    matmul p = kiln_matmul_view(problem);
    return legal_tiles(s, why) && legal_loads(s, &p, why) && legal_device(s, caps, why) &&
           legal_sizes(problem, caps, s, why);
}

static void set_launch(kiln_launch *l, const char *entry, int64_t x, int64_t y, int64_t z,
                       int threads) {
    strcpy(l->entry, entry);
    l->grid[0] = (uint32_t)x;
    l->grid[1] = (uint32_t)y;
    l->grid[2] = (uint32_t)z;
    l->block[0] = (uint32_t)threads;
    l->block[1] = l->block[2] = 1;
}

static int program(const kiln_problem *problem, const kiln_caps *caps, const kiln_schedule *s,
                   kiln_program *out, kiln_error *e) {
    (void)caps;
    (void)e;
    plan q = make_plan(problem, s);
    int split = s->value[SPLIT];
    memset(out, 0, sizeof *out);
    out->workspace_bytes = q.parts_bytes;
    kiln_matmul_launch_clear(out, problem);
    kiln_launch *l = &out->launch[out->n_launches++];
    set_launch(l, "main", q.tiles_m * q.tiles_n, split, q.p.batch, threads_of(s));
    kiln_matmul_arg_epilogue(l, problem);
    kiln_matmul_arg_operand(l, MATMUL_A);
    kiln_matmul_arg_operand(l, MATMUL_B);
    const int64_t numbers[] = {q.p.k, q.p.lda, q.p.ldb, q.p.stride_a, q.p.stride_b};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        kiln_matmul_arg_i64(l, numbers[i]);
    kiln_matmul_arg_i32(l, (int32_t)q.tiles_m);
    kiln_matmul_arg_i32(l, (int32_t)q.tiles_n);
    kiln_matmul_arg_i64(l, q.k_part);
    if (split == 1) return KILN_OK;
    kiln_matmul_arg_workspace(l);
    l = &out->launch[out->n_launches++];
    set_launch(l, "sum", q.sum_blocks, 1, q.p.batch, SUM_THREADS);
    kiln_matmul_arg_epilogue(l, problem);
    kiln_matmul_arg_workspace(l);
    return KILN_OK;
}

const kiln_variant kiln_matmul_simt = {
    .name = "simt",
    .help = "local-memory and register tiles for every device; its default serves every size",
    .revision = 1,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

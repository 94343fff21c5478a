/* mma_sm80: legality, geometry and arguments. mma_sm80.cuh has the picture and the parameters. */
#include "kernels/matmul/matmul.h"

enum { TM, TN, TK, WARPS_M, WARPS_N, STAGES, GROUP, SPLIT, RESIDENT, COPY, STORE };

static const kiln_knob knobs[] = {
    [TM] = {"tm", 128, "rows of a block's tile"},
    [TN] = {"tn", 256, "columns of a block's tile"},
    [TK] = {"tk", 64, "elements of k in a slot of the ring"},
    [WARPS_M] = {"warps_m", 2, "warps along m"},
    [WARPS_N] = {"warps_n", 4, "warps along n"},
    [STAGES] = {"stages", 4, "slots of the ring"},
    [GROUP] = {"group", 8, "rows of tiles that run side by side, for the L2 cache"},
    [SPLIT] = {"split", 1, "parts of k in blocks of their own, summed by a second launch"},
    [RESIDENT] = {"resident", 1, "blocks per SM that registers and shared memory must allow"},
    [COPY] = {"copy", 16, "bytes of one asynchronous copy: 16, 8 or 4"},
    [STORE] = {"store", 8, "columns finished together: 8, 4, 2 or 1"},
    {0},
};

/* What follows from the knobs; the names are those of mma_sm80.cuh. */
typedef struct shape {
    int element, threads, wtm, wtn, mi, ni, line_a, line_b, lines_a, lines_b;
    int slot_bytes, shared_bytes, registers;
} shape;

static int slabs_of(int room, int mi) {
    if (room >= mi) return mi;
    if (room >= 4 && mi % 4 == 0) return 4;
    return room >= 2 && mi % 2 == 0 ? 2 : 1;
}

static int shared_bytes(const shape *x, int stages, int warps) {
    int slab = 16 * (x->wtn + 8) * 4, ring = stages * x->slot_bytes;
    int staged = warps * slabs_of(ring / warps / slab, x->mi) * slab;
    return ring > staged ? ring : staged;
}

static shape shape_of(const matmul *v, const kiln_schedule *s) {
    const int *k = s->value, warps = k[WARPS_M] * k[WARPS_N];
    shape x = {.element = (int)kiln_type_bytes(v->a), .threads = warps * 32};
    x.wtm = k[TM] / k[WARPS_M], x.wtn = k[TN] / k[WARPS_N];
    x.mi = x.wtm / 16, x.ni = x.wtn / 8;
    x.line_a = (v->ta ? k[TM] : k[TK]) * x.element, x.lines_a = v->ta ? k[TK] : k[TM];
    x.line_b = (v->tb ? k[TK] : k[TN]) * x.element, x.lines_b = v->tb ? k[TN] : k[TK];
    x.slot_bytes = (k[TM] + k[TN]) * k[TK] * x.element;
    x.shared_bytes = shared_bytes(&x, k[STAGES], warps);
    /* accumulators, two sets of fragments, and what sm_90a needed beside them (ptxas: 48..60, of
     * which it gives back about 15 before it spills) */
    x.registers = x.mi * x.ni * 4 + 2 * (x.mi * 4 + x.ni * 2) + 40;
    return x;
}

static bool legal_types(const matmul *v, kiln_text *why) {
    bool sixteen = v->a == v->b && (v->a == KILN_F16 || v->a == KILN_BF16);
    bool eight = v->a == KILN_I8 && v->b == KILN_I8;
    if (!sixteen && !eight)
        return kiln_matmul_no(why,
                              "mma.sync here multiplies f16 by f16, bf16 by bf16 or i8 by i8, not "
                              "%s by %s",
                              kiln_type_name(v->a), kiln_type_name(v->b));
    if (eight && (v->ta || !v->tb))
        return kiln_matmul_no(why, "i8 operands must be contiguous along k (ta=0 tb=1): ldmatrix "
                                   "transposes 16-bit elements only");
    return true;
}

static bool legal_device(const kiln_caps *caps, kiln_text *why) {
    if (caps->arch_number >= 80) return true;
    return kiln_matmul_no(why, "mma.sync with cp.async needs compute capability 8.0 or newer");
}

static bool positive(const kiln_schedule *s, kiln_text *why) {
    for (int i = 0; knobs[i].name; i++)
        if (s->value[i] < 1 || s->value[i] > 1024)
            return kiln_matmul_no(why, "%s=%d is not between 1 and 1024", knobs[i].name,
                                  s->value[i]);
    return true;
}

static bool legal_tiles(const kiln_schedule *s, const matmul *v, kiln_text *why) {
    const int *k = s->value, element = (int)kiln_type_bytes(v->a);
    if (k[TM] % (16 * k[WARPS_M]) || k[TN] % (16 * k[WARPS_N]))
        return kiln_matmul_no(why,
                              "a %dx%d tile does not divide into %dx%d warps of whole 16x16 "
                              "fragments",
                              k[TM], k[TN], k[WARPS_M], k[WARPS_N]);
    if (k[TK] * element % 64)
        return kiln_matmul_no(why, "tk=%d: a slot needs an even number of 32-byte steps along k",
                              k[TK]);
    if (k[STAGES] < 2) return kiln_matmul_no(why, "the ring needs 2 slots or more");
    if (k[COPY] != 16 && k[COPY] != 8 && k[COPY] != 4)
        return kiln_matmul_no(why, "copy=%d: cp.async moves 16, 8 or 4 bytes", k[COPY]);
    if (k[STORE] != 8 && k[STORE] != 4 && k[STORE] != 2 && k[STORE] != 1)
        return kiln_matmul_no(why, "store=%d: columns are finished by 8, 4, 2 or 1", k[STORE]);
    return true;
}

static bool legal_warps(const kiln_schedule *s, const shape *x, const kiln_caps *caps,
                        kiln_text *why) {
    const int *k = s->value;
    int room = caps->registers_unit > 0 ? caps->registers_unit : 65536;
    room = room / (x->threads * k[RESIDENT]) / 8 * 8;
    if (room > 255) room = 255;
    if (x->threads < 128)
        return kiln_matmul_no(why,
                              "%d warps: an SM has four schedulers, a block needs 4 warps or more",
                              x->threads / 32);
    if (x->threads > caps->max_threads)
        return kiln_matmul_no(why, "%d threads: a block has at most %d", x->threads,
                              caps->max_threads);
    if (x->wtm < 16 || x->wtn < 16 || x->registers > room)
        return kiln_matmul_no(
            why,
            "a %dx%d warp tile takes about %d registers a thread; %d blocks of %d "
            "threads leave %d",
            x->wtm, x->wtn, x->registers, k[RESIDENT], x->threads, room);
    return true;
}

static bool legal_shared(const kiln_schedule *s, const shape *x, const kiln_caps *caps,
                         kiln_text *why) {
    int resident = s->value[RESIDENT], reserved = 1024; /* the driver's own part of a block's */
    if (x->shared_bytes > caps->shared_bytes)
        return kiln_matmul_no(why, "%d bytes of shared memory: a block has at most %d",
                              x->shared_bytes, caps->shared_bytes);
    if (caps->shared_unit_bytes > 0 &&
        resident * (x->shared_bytes + reserved) > caps->shared_unit_bytes)
        return kiln_matmul_no(why,
                              "%d resident blocks of %d bytes: an SM has %d bytes of shared memory",
                              resident, x->shared_bytes, caps->shared_unit_bytes);
    return true;
}

/* All threads copy alike: whole rounds of whole lines. */
static bool legal_copies(int line, int lines, int copy, int threads, char operand, kiln_text *why) {
    int parts = line / copy;
    bool fits = line % copy == 0 && parts <= threads && threads % parts == 0;
    int rounds = fits && lines % (threads / parts) == 0 ? lines / (threads / parts) : 0;
    if (rounds >= 1 && rounds <= 32) return true;
    return kiln_matmul_no(why,
                          "%c's tile, %d lines of %d bytes, does not divide evenly into %d-byte "
                          "copies by %d threads",
                          operand, lines, line, copy, threads);
}

static bool legal_alignment(const kiln_problem *p, const matmul *v, const kiln_schedule *s,
                            const kiln_caps *caps, kiln_text *why) {
    int64_t copy = s->value[COPY], element = (int64_t)kiln_type_bytes(v->a);
    if (v->lda * element % copy || v->ldb * element % copy || caps->align_bytes % copy)
        return kiln_matmul_no(why,
                              "%d-byte copies need rows of a and b (%lld and %lld bytes) and their "
                              "buffers aligned to that",
                              (int)copy, (long long)(v->lda * element),
                              (long long)(v->ldb * element));
    return kiln_matmul_epilogue_aligned(p, caps, s->value[STORE], why);
}

static int64_t tiles(const matmul *v, const kiln_schedule *s) {
    int64_t tm = s->value[TM], tn = s->value[TN];
    return ((v->m + tm - 1) / tm) * ((v->n + tn - 1) / tn);
}

/* Elements of k in a part. */
static int64_t part_of(const matmul *v, const kiln_schedule *s) {
    int64_t tk = s->value[TK], steps = (v->k + tk - 1) / tk, split = s->value[SPLIT];
    return (steps + split - 1) / split * tk;
}

static bool legal_sizes(const matmul *v, const kiln_schedule *s, kiln_text *why) {
    int64_t most = 1 << 29; /* byte counts along an axis are ints in the kernel */
    if (v->m > most || v->n > most || v->k > most)
        return kiln_matmul_no(why, "m, n and k must not exceed %lld here", (long long)most);
    if (v->batch > 65535) return kiln_matmul_no(why, "batch is more than 65535, the grid's limit");
    if (tiles(v, s) > INT32_MAX) return kiln_matmul_no(why, "more than 2^31 - 1 tiles");
    if (part_of(v, s) * (s->value[SPLIT] - 1) >= v->k && s->value[SPLIT] > 1)
        return kiln_matmul_no(why, "k=%lld does not give each of %d parts a slot of %d",
                              (long long)v->k, s->value[SPLIT], s->value[TK]);
    if (s->value[SPLIT] > 1 && (v->m * (v->n / s->value[STORE]) + 255) / 256 > INT32_MAX)
        return kiln_matmul_no(why, "the result is too large for the launch that sums the parts");
    return true;
}

static bool legal(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    if (!legal_device(caps, why) || !legal_types(&v, why) || !positive(s, why) ||
        !legal_tiles(s, &v, why))
        return false;
    shape x = shape_of(&v, s);
    int copy = s->value[COPY];
    return legal_warps(s, &x, caps, why) && legal_shared(s, &x, caps, why) &&
           legal_copies(x.line_a, x.lines_a, copy, x.threads, 'a', why) &&
           legal_copies(x.line_b, x.lines_b, copy, x.threads, 'b', why) &&
           legal_alignment(p, &v, s, caps, why) && legal_sizes(&v, s, why);
}

/* ---- launches */

static kiln_launch *launch(kiln_program *out, const char *entry, int64_t grid, int64_t batch,
                           int split, int threads) {
    kiln_launch *l = &out->launch[out->n_launches++];
    *l = (kiln_launch){.grid = {(uint32_t)grid, (uint32_t)batch, (uint32_t)split},
                       .block = {(uint32_t)threads, 1, 1}};
    for (int i = 0; entry[i]; i++) l->entry[i] = entry[i];
    return l;
}

static void operand_args(kiln_launch *l, const matmul *v, int64_t part_k) {
    kiln_matmul_arg_operand(l, MATMUL_A);
    kiln_matmul_arg_operand(l, MATMUL_B);
    kiln_matmul_arg_i32(l, (int32_t)v->k);
    kiln_matmul_arg_i32(l, (int32_t)part_k);
    kiln_matmul_arg_i64(l, v->lda);
    kiln_matmul_arg_i64(l, v->ldb);
    kiln_matmul_arg_i64(l, v->stride_a);
    kiln_matmul_arg_i64(l, v->stride_b);
}

static void split_args(kiln_program *out, kiln_launch *l, const kiln_problem *p, const matmul *v,
                       const kiln_schedule *s) {
    kiln_matmul_arg_i64(l, v->m);
    kiln_matmul_arg_i64(l, v->n);
    kiln_matmul_arg_workspace(l);
    int64_t pieces = v->m * (v->n / s->value[STORE]);
    l = launch(out, "reduce", (pieces + 255) / 256, v->batch, 1, 256);
    kiln_matmul_arg_workspace(l);
    kiln_matmul_arg_epilogue(l, p);
    out->workspace_bytes = s->value[SPLIT] * v->batch * v->m * ((v->n + 7) / 8 * 8) * 4;
}

static int program(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                   kiln_program *out, kiln_error *e) {
    (void)caps, (void)e;
    matmul v = kiln_matmul_view(p);
    shape x = shape_of(&v, s);
    *out = (kiln_program){0};
    kiln_matmul_launch_clear(out, p);
    kiln_launch *l = launch(out, "main", tiles(&v, s), v.batch, s->value[SPLIT], x.threads);
    l->shared_bytes = (uint32_t)x.shared_bytes;
    operand_args(l, &v, part_of(&v, s));
    if (s->value[SPLIT] > 1)
        split_args(out, l, p, &v, s);
    else
        kiln_matmul_arg_epilogue(l, p);
    return KILN_OK;
}

const kiln_variant kiln_matmul_mma_sm80 = {
    .name = "mma_sm80",
    .help = "tensor cores through mma.sync: f16, bf16, i8 on NVIDIA GPUs from Ampere on",
    .revision = 1,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

/* wgmma_sm90: legality, geometry and arguments. wgmma_sm90/parameters.cuh has the picture. */
#include "kernels/matmul/matmul.h"

enum {
    TM,
    TN,
    TK,
    CONSUMERS,
    PINGPONG,
    SWAP,
    STAGES,
    CLUSTER_M,
    CLUSTER_N,
    CLUSTER_K,
    GROUP,
    ORDER,
    STREAM,
    SPLIT,
    TMA_STORE,
    STORE,
    EVICT,
    PACK_A,
    PACK_B
};

static const kiln_knob knobs[] = {
    [TM] = {"tm", 128, "rows of a tile"},
    [TN] = {"tn", 256, "columns of a tile"},
    [TK] = {"tk", 64, "elements of k in a slot of the ring"},
    [CONSUMERS] = {"consumers", 2, "warp groups that multiply"},
    [PINGPONG] = {"pingpong", 0, "1: each of two consumers owns a tile, 0: they share one"},
    [SWAP] = {"swap", 0, "1: columns of the result on wgmma's side of 64, rows on its side of 8"},
    [STAGES] = {"stages", 0, "slots of the ring; 0: as many as shared memory holds"},
    [CLUSTER_M] = {"cluster_m", 1, "blocks along m that share tiles of b by multicast"},
    [CLUSTER_N] = {"cluster_n", 1, "blocks along n that share tiles of a by multicast"},
    [CLUSTER_K] = {"cluster_k", 1, "2: two blocks take half of k each and add in shared memory"},
    [GROUP] = {"group", 8, "tiles across the walk that run side by side, for the L2 cache"},
    [ORDER] = {"order", 0, "walk of the tiles: 0 groups of rows, 1 of columns, 2 Hilbert's curve"},
    [STREAM] = {"stream", 0,
                "1: tiles beyond whole waves are cut along k, equally for all; 2: and a wave more"},
    [SPLIT] = {"split", 1, "parts of k, whose sums a second launch adds"},
    [TMA_STORE] = {"tma_store", 0, "1: results are stored by TMA, 0: by the threads"},
    [STORE] = {"store", 8, "columns finished together: 8, 4, 2 or 1"},
    [EVICT] = {"evict", 0, "operand that the L2 cache drops first: 0 neither, 1 b, 2 a"},
    [PACK_A] = {"pack_a", 0, "1: a is first copied into aligned lines along k"},
    [PACK_B] = {"pack_b", 0, "1: b is"},
    {0},
};

enum { LINE = 128, STAGES_MOST = 32, BARRIER_BYTES = 2 * 8 };

/* What TMA asks L2 for at once. Measured on an H200: with 256 instead rows that begin inside lines
 * come slower (4104x4120x4168 208 us to 228), and so do large weights of few rows (16x8192x28672
 * 107.8 us to 110.5); others do not care. */
enum { L2_BYTES = 128 };

/* What follows from the knobs; the names are those of parameters.cuh. */
typedef struct shape {
    int element, threads, x_tile, y_tile, x_wg, sums, cluster, cluster_x, cluster_y;
    bool x_across, y_across, promote;
    int out_bytes, slot_bytes, staged_bytes, shared_bytes;
} shape;

/* Of a row of `bytes` in a tile, what leaves at once. */
static int out_line(int bytes) {
    return bytes % 128 == 0 || (bytes > 128 && bytes % 128 > 64) ? 128 : 64;
}

static bool leaves_in_pieces(kiln_type out) {
    return out == KILN_F16 || out == KILN_BF16 || out == KILN_F32;
}

/* Pieces of 64 bytes of a row or more; only those of plain products may overlap. */
static bool has_pieces(const matmul *v, int tn) {
    int row = tn * (int)kiln_type_bytes(v->out);
    return row % 64 == 0 || (row > 64 && v->plain);
}

bool kiln_matmul_wgmma_sm90_copies(const kiln_problem *p, const kiln_schedule *s) {
    const int *k = s->value;
    matmul v = kiln_matmul_view(p);
    if (k[TMA_STORE] || k[SWAP] || k[SPLIT] > 1 || !leaves_in_pieces(v.out) ||
        !has_pieces(&v, k[TN]) || k[STORE] * (int)kiln_type_bytes(v.out) < 16)
        return false;
    for (int i = MATMUL_EXTRA; i < p->n_operands; i++)
        if (kiln_matmul_is_matrix(&p->operand[i])) return false;
    return true;
}

/* The only matrix beside the result: read, and of elements of its size. */
int kiln_matmul_wgmma_sm90_staged(const kiln_problem *p, const kiln_schedule *s) {
    const int *k = s->value;
    int found = -1;
    if (!k[TMA_STORE] || k[SWAP] || k[SPLIT] > 1 || k[STORE] < 8) return -1;
    if (kiln_type_bytes(p->operand[MATMUL_OUT].type) != 2) return -1;
    for (int i = MATMUL_EXTRA; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!kiln_matmul_is_matrix(o)) continue;
        if (found >= 0 || o->output || kiln_type_bytes(o->type) != 2) return -1;
        found = i;
    }
    return found;
}

static int staged_bytes(const int *k, bool copies, bool matrix, int out_bytes) {
    if (k[SWAP]) return k[CONSUMERS] * 16 * 68 * 4;
    int places = matrix ? 3 : k[TMA_STORE] ? 2 : copies;
    return k[CONSUMERS] * 4 * places * 16 * out_line(k[TN] * out_bytes);
}

static shape shape_of(const kiln_problem *p, const kiln_schedule *s) {
    const int *k = s->value;
    matmul v = kiln_matmul_view(p);
    bool a_across = v.ta && !k[PACK_A], b_across = !v.tb && !k[PACK_B];
    shape x = {.element = (int)kiln_type_bytes(v.a),
               .threads = 128 + 128 * k[CONSUMERS],
               .x_tile = k[SWAP] ? k[TN] : k[TM],
               .y_tile = k[SWAP] ? k[TM] : k[TN],
               .cluster = k[CLUSTER_M] * k[CLUSTER_N] * k[CLUSTER_K],
               .cluster_x = k[SWAP] ? k[CLUSTER_N] : k[CLUSTER_M],
               .cluster_y = k[SWAP] ? k[CLUSTER_M] : k[CLUSTER_N],
               .x_across = k[SWAP] ? b_across : a_across,
               .y_across = k[SWAP] ? a_across : b_across,
               .promote = kiln_type_is_float8(v.a) && !v.fast,
               .out_bytes = (int)kiln_type_bytes(v.out)};
    x.x_wg = k[PINGPONG] ? x.x_tile : x.x_tile / k[CONSUMERS];
    x.sums = x.x_wg / 64 * (x.y_tile / 2);
    x.slot_bytes = (x.x_tile + x.y_tile) * k[TK] * x.element;
    x.staged_bytes = staged_bytes(k, kiln_matmul_wgmma_sm90_copies(p, s),
                                  kiln_matmul_wgmma_sm90_staged(p, s) >= 0, x.out_bytes);
    x.staged_bytes = (x.staged_bytes + 1023) / 1024 * 1024;
    x.shared_bytes = k[STAGES] * (x.slot_bytes + BARRIER_BYTES) + x.staged_bytes;
    return x;
}

void kiln_matmul_wgmma_sm90_stages(const kiln_problem *p, const kiln_caps *caps, kiln_schedule *s) {
    if (s->value[STAGES]) return;
    shape x = shape_of(p, s);
    int fit = (caps->shared_bytes - x.staged_bytes) / (x.slot_bytes + BARRIER_BYTES);
    s->value[STAGES] = fit > STAGES_MOST ? STAGES_MOST : fit;
}

/* ---- legality */

static bool legal_device(const kiln_caps *caps, kiln_text *why) {
    if (caps->arch_number == 90 && caps->tensor_maps && caps->clusters) return true;
    return kiln_matmul_no(why, "wgmma is an instruction of compute capability 9.0 alone (sm_90a), "
                               "with a driver that has tensor maps");
}

bool kiln_matmul_wgmma_sm90_types(const matmul *v, kiln_text *why) {
    bool same = v->a == v->b &&
                (v->a == KILN_F16 || v->a == KILN_BF16 || v->a == KILN_I8 || v->a == KILN_TF32);
    if (same || (kiln_type_is_float8(v->a) && kiln_type_is_float8(v->b))) return true;
    return kiln_matmul_no(why, "wgmma has no product of %s and %s", kiln_type_name(v->a),
                          kiln_type_name(v->b));
}

/* Is an operand stored across k, which wgmma takes of 16-bit types only? */
static bool across_k(const matmul *v, int operand) { return operand == MATMUL_A ? v->ta : !v->tb; }

static bool legal_types(const matmul *v, const kiln_schedule *s, kiln_text *why) {
    bool unpacked = (across_k(v, MATMUL_A) && !s->value[PACK_A]) ||
                    (across_k(v, MATMUL_B) && !s->value[PACK_B]);
    if (!kiln_matmul_wgmma_sm90_types(v, why)) return false;
    if (unpacked && kiln_type_bytes(v->a) != 2)
        return kiln_matmul_no(why, "wgmma takes %s only where it is contiguous along k: pack it",
                              kiln_type_name(v->a));
    return true;
}

static bool in_range(const kiln_schedule *s, int knob, int least, int most, kiln_text *why) {
    int value = s->value[knob];
    if (value >= least && value <= most) return true;
    return kiln_matmul_no(why, "%s=%d is not between %d and %d", knobs[knob].name, value, least,
                          most);
}

static bool legal_ranges(const kiln_schedule *s, kiln_text *why) {
    static const struct {
        int knob, least, most;
    } range[] = {{TM, 8, 512},
                 {TN, 8, 512},
                 {TK, 16, 256},
                 {CONSUMERS, 1, 3},
                 {PINGPONG, 0, 1},
                 {SWAP, 0, 1},
                 {STAGES, 2, STAGES_MOST},
                 {CLUSTER_M, 1, 8},
                 {CLUSTER_N, 1, 8},
                 {CLUSTER_K, 1, 2},
                 {GROUP, 1, 1024},
                 {ORDER, 0, 2},
                 {STREAM, 0, 2},
                 {SPLIT, 1, 128},
                 {TMA_STORE, 0, 1},
                 {STORE, 1, 8},
                 {EVICT, 0, 2},
                 {PACK_A, 0, 1},
                 {PACK_B, 0, 1}};
    for (int i = 0; i < (int)(sizeof range / sizeof *range); i++)
        if (!in_range(s, range[i].knob, range[i].least, range[i].most, why)) return false;
    int store = s->value[STORE], group = s->value[GROUP];
    if (store & (store - 1)) return kiln_matmul_no(why, "store=%d is not 1, 2, 4 or 8", store);
    if (s->value[ORDER] == 2 && group & (group - 1))
        return kiln_matmul_no(why, "Hilbert's curve needs a group that is a power of 2, not %d",
                              group);
    return true;
}

static bool legal_together(const kiln_schedule *s, kiln_text *why) {
    const int *k = s->value;
    if (k[CLUSTER_K] > 1 && (k[STREAM] || k[SPLIT] > 1))
        return kiln_matmul_no(why, "cluster_k=%d cuts tiles along k: neither stream nor split",
                              k[CLUSTER_K]);
    if (k[CLUSTER_K] > 1 && (k[CONSUMERS] != 2 || k[PINGPONG] || k[CLUSTER_M] * k[CLUSTER_N] > 1))
        return kiln_matmul_no(why,
                              "cluster_k=%d: each of two blocks finishes the part of one of 2 "
                              "consumers that share a tile, which no other block does",
                              k[CLUSTER_K]);
    if (k[SPLIT] == 1) return true;
    if (k[STREAM])
        return kiln_matmul_no(why, "split=%d and stream=%d both cut tiles along k: use one of them",
                              k[SPLIT], k[STREAM]);
    if (k[TMA_STORE])
        return kiln_matmul_no(why,
                              "split=%d leaves sums to be added, which TMA does not store: "
                              "tma_store=0",
                              k[SPLIT]);
    return true;
}

static bool legal_tile(const matmul *v, const kiln_schedule *s, const shape *x, kiln_text *why) {
    const int *k = s->value, owners = k[PINGPONG] ? 1 : k[CONSUMERS];
    if (k[PINGPONG] && k[CONSUMERS] != 2)
        return kiln_matmul_no(why, "pingpong is between 2 consumers, not %d", k[CONSUMERS]);
    if (x->x_tile % (64 * owners))
        return kiln_matmul_no(why,
                              "%d lines on the side of 64 do not divide into wgmma's 64 for each "
                              "of %d consumers",
                              x->x_tile, owners);
    if (x->y_tile % 8 || x->y_tile > 256)
        return kiln_matmul_no(why, "%d lines on the side of 8: wgmma takes 8 to 256, by 8",
                              x->y_tile);
    if (v->a == KILN_I8 && x->y_tile > 24 && x->y_tile % 16)
        return kiln_matmul_no(why,
                              "%d lines on the side of 8: of i8 wgmma takes 8, 24 and multiples "
                              "of 16",
                              x->y_tile);
    if (k[TK] * x->element % LINE)
        return kiln_matmul_no(why, "tk=%d: a slot holds whole lines of %d bytes along k", k[TK],
                              LINE);
    if (x->promote && k[TK] > 128)
        return kiln_matmul_no(why, "tk=%d: promoted sums leave the tensor cores after 128 of k",
                              k[TK]);
    return true;
}

/* Registers: the pool is what a block gets at launch (168 a thread of 384, 128 of 512), and the
 * producer keeps 40 or 24 (3 consumers: 32). Beside its sums a consumer needs about 30; measured
 * with ptxas: 224 sums spill and make it serialise wgmma. 208 fit 240 registers under plain
 * statements; long ones may spill a few beside the products, which costs time but is right: the
 * estimate avoids them. With stream more than 192 spill among the products, and take 2 to 3 times
 * as long (384x27648x5120 on an H200). */
static bool legal_registers(const kiln_schedule *s, const shape *x, kiln_text *why) {
    int consumers = s->value[CONSUMERS], sums = x->sums * (x->promote ? 2 : 1);
    int most = consumers == 3 ? 128 : s->value[STREAM] ? 192 : 208;
    if (sums > most)
        return kiln_matmul_no(why,
                              "%d sums a thread%s: with %d consumers and stream=%d a thread has "
                              "registers for %d",
                              sums, x->promote ? ", twice for promotion," : "", consumers,
                              s->value[STREAM], most);
    if (consumers == 3 && x->y_tile > 192)
        return kiln_matmul_no(why,
                              "with 3 consumers the compiler takes wgmma of up to 192 columns, "
                              "not %d",
                              x->y_tile);
    return true;
}

static bool legal_shared(const kiln_schedule *s, const shape *x, const kiln_caps *caps,
                         kiln_text *why) {
    if (s->value[CLUSTER_K] > 1 && x->x_wg * x->y_tile * 4 > s->value[STAGES] * x->slot_bytes)
        return kiln_matmul_no(why, "cluster_k=%d: the ring has no room for the other block's sums",
                              s->value[CLUSTER_K]);
    if (x->shared_bytes > 0 && x->shared_bytes <= caps->shared_bytes) return true;
    return kiln_matmul_no(why, "%d bytes of shared memory: a block has at most %d", x->shared_bytes,
                          caps->shared_bytes);
}

/* Lines of a shared tile that a block of a cluster loads at a time: its part, or where parts are
 * not whole swizzle atoms the whole tile (kernel.cuh). */
static int part_of(int tile, int sharers, bool across, int element) {
    int unit = across ? LINE / element : 8;
    return tile % (sharers * unit) ? tile : tile / sharers;
}

static bool legal_part(int tile, int sharers, bool across, int element, kiln_text *why) {
    int part = part_of(tile, sharers, across, element), unit = across ? LINE / element : 8;
    if (part % unit == 0 && part <= 256) return true;
    return kiln_matmul_no(why,
                          "a tile side of %d, loaded by %d blocks, is not at most 256 lines in "
                          "units of %d",
                          tile, sharers, unit);
}

static bool legal_cluster(const shape *x, const kiln_caps *caps, kiln_text *why) {
    if (x->cluster > 8 || x->cluster > caps->units)
        return kiln_matmul_no(why, "a cluster has at most 8 blocks, not %d", x->cluster);
    return legal_part(x->x_tile, x->cluster_y, x->x_across, x->element, why) &&
           legal_part(x->y_tile, x->cluster_x, x->y_across, x->element, why);
}

/* What TMA asks of an operand in memory. */
static bool has_map(const kiln_operand *o) {
    int64_t element = (int64_t)kiln_type_bytes(o->type);
    return o->ld * element % 16 == 0 && (o->batch == 1 || o->batch_stride * element % 16 == 0);
}

static bool legal_map(const kiln_operand *o, const kiln_caps *caps, kiln_text *why) {
    if (caps->align_bytes % 16 == 0 && has_map(o)) return true;
    return kiln_matmul_no(why,
                          "TMA needs rows and batches of %s, and its buffer, at multiples of 16 "
                          "bytes; its rows have %lld",
                          o->name, (long long)(o->ld * (int64_t)kiln_type_bytes(o->type)));
}

static bool legal_maps(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                       kiln_text *why) {
    return (s->value[PACK_A] || legal_map(&p->operand[MATMUL_A], caps, why)) &&
           (s->value[PACK_B] || legal_map(&p->operand[MATMUL_B], caps, why));
}

bool kiln_matmul_wgmma_sm90_packs(const kiln_problem *p, int operand) {
    matmul v = kiln_matmul_view(p);
    return !has_map(&p->operand[operand]) || (across_k(&v, operand) && kiln_type_bytes(v.a) != 2);
}

bool kiln_matmul_wgmma_sm90_stores(const kiln_problem *p, const kiln_caps *caps, int tn,
                                   kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    if (!leaves_in_pieces(v.out))
        return kiln_matmul_no(why, "TMA stores results in f16, bf16 or f32 here, not %s",
                              kiln_type_name(v.out));
    if (!has_pieces(&v, tn))
        return kiln_matmul_no(why,
                              "tn=%d: TMA stores pieces of 64 bytes of a row or more, which only "
                              "plain products may overlap",
                              tn);
    return legal_map(&p->operand[MATMUL_OUT], caps, why) &&
           kiln_matmul_epilogue_aligned(p, caps, 2, why);
}

static bool legal_store(const kiln_problem *p, const kiln_schedule *s, const kiln_caps *caps,
                        kiln_text *why) {
    if (!s->value[TMA_STORE]) return kiln_matmul_epilogue_aligned(p, caps, s->value[STORE], why);
    if (s->value[SWAP]) return kiln_matmul_no(why, "swapped tiles are not stored by TMA");
    return kiln_matmul_wgmma_sm90_stores(p, caps, s->value[TN], why);
}

/* ---- geometry: persistent blocks */

typedef struct grid {
    int64_t tiles, items, k_blocks, clusters; /* tiles: of a cluster; items: their parts */
} grid;

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* How many run at once. A pair shares a TPC and always fits; larger clusters must find their SMs in
 * one GPC, which have unequal numbers: of 33 clusters of 4 that an H200 could hold by its 132 SMs,
 * fewer than 32 ran together. */
int64_t kiln_matmul_wgmma_sm90_resident(const kiln_caps *caps, int cluster) {
    int64_t all = (caps->units > 0 ? caps->units : 1) / cluster;
    if (cluster > 2) all = all * 9 / 10;
    return all > 0 ? all : 1;
}

/* Cluster tiles side by side in one of the walk's groups. */
static int64_t across_walk(const matmul *v, const kiln_schedule *s) {
    const int *k = s->value;
    return k[ORDER] == 1 ? ceiling(v->m, (int64_t)k[TM] * k[CLUSTER_M])
                         : ceiling(v->n, (int64_t)k[TN] * k[CLUSTER_N]);
}

/* Whole tiles: as few clusters as finish in the same number of waves. Streamed: all, as long as
 * each has a slot of k to do. */
static grid grid_of(const matmul *v, const kiln_caps *caps, const kiln_schedule *s,
                    const shape *x) {
    const int *k = s->value;
    grid g = {.tiles = ceiling(v->m, (int64_t)k[TM] * k[CLUSTER_M]) *
                       ceiling(v->n, (int64_t)k[TN] * k[CLUSTER_N]) * v->batch,
              .k_blocks = ceiling(v->k, k[TK])};
    g.items = g.tiles * k[SPLIT];
    int64_t room = kiln_matmul_wgmma_sm90_resident(caps, x->cluster);
    if (k[STREAM])
        g.clusters = g.tiles >= room || g.k_blocks >= room || g.tiles * g.k_blocks >= room
                         ? room
                         : g.tiles * g.k_blocks;
    else
        g.clusters = ceiling(g.items, ceiling(g.items, room));
    return g;
}

/* The launch that adds parts: a lane has 4 columns of a row. `groups` of `adders` warps each make a
 * block, as many as leave each unit two blocks. The names are those of split.cuh. */
typedef struct reduction {
    int64_t pieces, part_bytes;
    int adders, groups;
} reduction;

static reduction reduction_of(const matmul *v, const kiln_caps *caps, int split) {
    int64_t rows = v->m * v->batch;
    reduction r = {.pieces = rows * ceiling(v->n, 4),
                   .part_bytes = rows * ceiling(v->n, 8) * 8 * 4,
                   .adders = 1};
    for (int least = 8; least <= 32 && least <= split; least *= 2) r.adders *= 2;
    r.groups = 8 / r.adders;
    while (r.groups > 1 && r.pieces / (32 * r.groups) < 2 * caps->units) r.groups /= 2;
    return r;
}

static bool legal_split(const matmul *v, const kiln_schedule *s, const grid *g,
                        const kiln_caps *caps, kiln_text *why) {
    int split = s->value[SPLIT];
    if (split == 1) return true;
    if (split > g->k_blocks)
        return kiln_matmul_no(why,
                              "split=%d: k=%lld has %lld slots of %d, which leaves parts empty",
                              split, (long long)v->k, (long long)g->k_blocks, s->value[TK]);
    reduction r = reduction_of(v, caps, split);
    int64_t room = caps->memory_bytes > 0 ? caps->memory_bytes / 4 : INT64_MAX;
    if (r.pieces > 1 << 30 || r.part_bytes > room / split)
        return kiln_matmul_no(why, "split=%d: the sums of %lld x %lld results are too many to keep",
                              split, (long long)(v->m * v->batch), (long long)v->n);
    return true;
}

static bool legal_sizes(const matmul *v, const kiln_schedule *s, const grid *g, kiln_text *why) {
    int64_t most = 1 << 30;
    if (v->m > most || v->n > most || v->k > most || g->items > most)
        return kiln_matmul_no(why,
                              "m, n, k and the number of tiles and their parts must not exceed "
                              "%lld here",
                              (long long)most);
    if (across_walk(v, s) > most / s->value[GROUP])
        return kiln_matmul_no(why, "group=%d: times %lld tiles it exceeds %lld; take a smaller one",
                              s->value[GROUP], (long long)across_walk(v, s), (long long)most);
    if ((s->value[PACK_A] || s->value[PACK_B]) && v->batch > 65535)
        return kiln_matmul_no(why, "batch is more than 65535: too many to pack");
    if (s->value[CLUSTER_K] > 1 && (g->clusters < g->tiles || g->k_blocks < 2))
        return kiln_matmul_no(why,
                              "cluster_k=%d wants two slots of k and a single wave, and here are "
                              "%lld tiles of %lld slots",
                              s->value[CLUSTER_K], (long long)g->tiles, (long long)g->k_blocks);
    if (s->value[STREAM] && 2 * g->clusters * g->k_blocks > most)
        return kiln_matmul_no(why, "k=%lld is too deep to be shared", (long long)v->k);
    if (s->value[STREAM] == 2 && g->tiles < g->clusters)
        return kiln_matmul_no(why, "stream=2 wants a whole wave, and %lld tiles are none",
                              (long long)g->tiles);
    if (s->value[STREAM] && g->tiles % g->clusters == 0)
        return kiln_matmul_no(why, "%lld tiles fill their waves of %lld: nothing to share",
                              (long long)g->tiles, (long long)g->clusters);
    return true;
}

static bool legal(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *schedule,
                  kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    kiln_schedule filled = *schedule, *s = &filled;
    if (!s->value[STAGES]) s->value[STAGES] = 2; /* until the other ranges are known to be good */
    if (!legal_device(caps, why) || !legal_ranges(s, why) || !legal_types(&v, s, why)) return false;
    s->value[STAGES] = schedule->value[STAGES];
    kiln_matmul_wgmma_sm90_stages(p, caps, s);
    if (!in_range(s, STAGES, 2, STAGES_MOST, why)) return false;
    shape x = shape_of(p, s);
    if (!legal_together(s, why) || !legal_tile(&v, s, &x, why) || !legal_registers(s, &x, why) ||
        !legal_shared(s, &x, caps, why) || !legal_cluster(&x, caps, why) ||
        !legal_maps(p, s, caps, why) || !legal_store(p, s, caps, why))
        return false;
    grid g = grid_of(&v, caps, s, &x);
    return legal_sizes(&v, s, &g, why) && legal_split(&v, s, &g, caps, why);
}

/* ---- launches */

static void arg_map(kiln_launch *l, int index) {
    kiln_arg *a = &l->arg[l->n_args++];
    a->kind = KILN_ARG_TENSOR_MAP;
    a->index = (uint8_t)index;
}

/* A matrix in memory as boxes of `across` elements of a row, 64 or 128 bytes, and `lines` rows. */
static void add_map(kiln_program *out, const kiln_operand *q, int operand, int64_t offset,
                    int across, int lines, int l2_bytes) {
    int64_t element = (int64_t)kiln_type_bytes(q->type);
    int64_t plane = q->batch > 1 ? q->batch_stride : q->rows * q->ld;
    out->tensor_map[out->n_tensor_maps++] = (kiln_tensor_map){
        .operand = (uint8_t)operand,
        .type = (uint8_t)q->type,
        .rank = 3,
        .swizzle_bytes = (uint8_t)(across * element),
        .l2_bytes = (uint8_t)l2_bytes,
        .offset = offset,
        .size = {q->cols, q->rows, q->batch},
        .stride_bytes = {q->ld * element, plane * element},
        .box = {across, lines, 1},
    };
}

static kiln_launch *launch(kiln_program *out, const char *entry, int64_t blocks, int64_t batch,
                           int threads) {
    kiln_launch *l = &out->launch[out->n_launches++];
    *l = (kiln_launch){.grid = {(uint32_t)blocks, (uint32_t)batch, 1},
                       .block = {(uint32_t)threads, 1, 1}};
    for (int i = 0; entry[i]; i++) l->entry[i] = entry[i];
    return l;
}

/* What spares pack.k.c its divisions by `by`; s and the quotient's bound are explained there. */
static int64_t reciprocal(int64_t by) {
    int bits = 0;
    while ((int64_t)1 << bits < by) bits++;
    uint64_t whole = (uint64_t)1 << (31 + bits), d = by > 0 ? (uint64_t)by : 1;
    return (int64_t)((whole + d - 1) / d + ((uint64_t)(31 + bits) << 32));
}

/* The blocks that copy rows x cols into lines of `pitch`, a piece (some lines) of each thread, as
 * long as all run at once: 6 of 40 registers share an SM (transposing: 3, of which more would
 * only wait for each other). Larger operands take more per thread. */
static int64_t pack_blocks(int64_t rows, int64_t pitch, int64_t batch, int64_t element,
                           bool transpose, int units, int64_t *by, int64_t *work) {
    int64_t v = 16 / element, tiles = ceiling(rows, 8 * v), pieces = rows * (pitch / v);
    int64_t once =
        batch * (transpose ? tiles * ceiling(pitch * element, 128) : ceiling(pieces, 256));
    bool small = once <= (int64_t)units * (transpose ? 3 : 6);
    *work = transpose ? (small ? 4 / element : 4) : small ? 1 : 2;
    *by = transpose ? reciprocal(tiles) : pieces >> 31 ? 0 : reciprocal(pitch / v);
    return transpose ? tiles * ceiling(pitch, 32 * *work) : ceiling(pieces, 256 * *work);
}

/* Adds an operand to the launch that copies into the workspace, rows by k; pack.k.c says how. The
 * launch is the first one, made for the first operand. Returns the copy's place as an operand. */
static kiln_operand pack(kiln_program *out, const kiln_problem *p, const kiln_caps *caps, int o,
                         bool transpose, int64_t *offset) {
    kiln_operand q = p->operand[o];
    int64_t element = (int64_t)kiln_type_bytes(q.type), line = LINE / element, by, work;
    int64_t rows = transpose ? q.cols : q.rows, cols = transpose ? q.rows : q.cols;
    int64_t pitch = ceiling(cols, line) * line;
    int64_t blocks = pack_blocks(rows, pitch, q.batch, element, transpose, caps->units, &by, &work);
    *offset = out->workspace_bytes;
    kiln_launch *l = &out->launch[0];
    bool second = out->n_launches > 0;
    if (!second) {
        l = launch(out, "pack", 0, q.batch, 256);
        l->dependent = true;
        kiln_matmul_arg_workspace(l);
    }
    kiln_matmul_arg_operand(l, o);
    int64_t bytes = ((q.batch - 1) * q.batch_stride + (q.rows - 1) * q.ld + q.cols) * element;
    const int64_t rest[] = {*offset, rows, cols, q.ld, q.batch_stride, pitch, bytes, by, work};
    for (int i = 0; i < (int)(sizeof rest / sizeof *rest); i++) kiln_matmul_arg_i64(l, rest[i]);
    if (second) kiln_matmul_arg_i64(l, l->grid[0]);
    l->grid[0] += (uint32_t)blocks;
    out->workspace_bytes += ceiling(q.batch * rows * pitch * element, 256) * 256;
    q.rows = rows, q.cols = cols, q.ld = pitch, q.batch_stride = rows * pitch;
    return q;
}

/* One of a and b: `tile` lines of it for a block, of which it loads a part. */
static void add_operand(kiln_program *out, const kiln_problem *p, const kiln_caps *caps, int o,
                        const kiln_schedule *s, bool packed, int tile, int sharers, bool across) {
    matmul v = kiln_matmul_view(p);
    int element = (int)kiln_type_bytes(v.a);
    int64_t offset = 0;
    kiln_operand q = p->operand[o];
    if (packed) q = pack(out, p, caps, o, across_k(&v, o), &offset);
    add_map(out, &q, packed ? 255 : o, offset, LINE / element,
            across ? s->value[TK] : part_of(tile, sharers, across, element), L2_BYTES);
}

/* Flags and partial sums lie first, packed operands behind them. */
static void add_shared_sums(kiln_program *out, const matmul *v, const kiln_caps *caps,
                            const kiln_schedule *s, const shape *x, const grid *g) {
    const int *k = s->value;
    if (k[SPLIT] > 1)
        out->workspace_bytes =
            ceiling(k[SPLIT] * reduction_of(v, caps, k[SPLIT]).part_bytes, 256) * 256;
    if (!k[STREAM]) return;
    int64_t sets = g->clusters * x->cluster * (k[PINGPONG] ? 1 : k[CONSUMERS]);
    out->workspace_zeroed = ceiling(sets * 4, 256) * 256;
    out->workspace_bytes =
        out->workspace_zeroed + ceiling(sets * x->x_wg * x->y_tile * 4, 256) * 256;
}

/* Its blocks start while those of main run, and wait for them: where few are enough for the whole
 * result, each asks for so much shared memory that idle units do not take more than their share
 * (one more would not fit). */
static void add_reduction(kiln_program *out, const kiln_problem *p, const kiln_caps *caps,
                          const kiln_schedule *s) {
    matmul v = kiln_matmul_view(p);
    reduction r = reduction_of(&v, caps, s->value[SPLIT]);
    int64_t blocks = ceiling(r.pieces, 32 * r.groups), units = caps->units > 0 ? caps->units : 1;
    int64_t share = caps->shared_unit_bytes / (ceiling(blocks, units) + 1);
    int threads = 32 * r.groups * r.adders, staged = r.adders > 1 ? threads * 16 : 0;
    kiln_launch *l = launch(out, "reduce", blocks, 1, threads);
    l->shared_bytes = (uint32_t)(share > staged ? share / 16 * 16 : staged);
    l->dependent = true;
    kiln_matmul_arg_workspace(l);
    kiln_matmul_arg_i32(l, (int32_t)v.batch);
    kiln_matmul_arg_i32(l, r.groups);
    kiln_matmul_arg_epilogue(l, p);
}

/* Do the rows of both operands begin where lines of the cache do? */
static bool whole_lines(const kiln_program *out) {
    return out->tensor_map[0].stride_bytes[0] % LINE == 0 &&
           out->tensor_map[1].stride_bytes[0] % LINE == 0;
}

static int program(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *schedule,
                   kiln_program *out, kiln_error *e) {
    (void)e;
    matmul v = kiln_matmul_view(p);
    kiln_schedule filled = *schedule, *s = &filled;
    kiln_matmul_wgmma_sm90_stages(p, caps, s);
    shape x = shape_of(p, s);
    grid g = grid_of(&v, caps, s, &x);
    const int *k = s->value;
    *out = (kiln_program){0};
    add_shared_sums(out, &v, caps, s, &x, &g);
    int side_x = k[SWAP] ? MATMUL_B : MATMUL_A, side_y = k[SWAP] ? MATMUL_A : MATMUL_B;
    add_operand(out, p, caps, side_x, s, k[SWAP] ? k[PACK_B] : k[PACK_A], x.x_tile, x.cluster_y,
                x.x_across);
    add_operand(out, p, caps, side_y, s, k[SWAP] ? k[PACK_A] : k[PACK_B], x.y_tile, x.cluster_x,
                x.y_across);
    if (k[TMA_STORE])
        add_map(out, &p->operand[MATMUL_OUT], MATMUL_OUT, 0,
                out_line(k[TN] * x.out_bytes) / x.out_bytes, 16, 0);

    kiln_matmul_launch_clear(out, p);
    kiln_launch *l = launch(out, "main", g.clusters * x.cluster, 1, x.threads);
    l->cluster[0] = (uint32_t)x.cluster, l->cluster[1] = l->cluster[2] = 1;
    l->shared_bytes = (uint32_t)x.shared_bytes;
    l->dependent = true;
    for (int i = 0; i < out->n_tensor_maps; i++) arg_map(l, i);
    kiln_matmul_arg_i32(l, (int32_t)v.k);
    kiln_matmul_arg_i32(l, (int32_t)v.batch);
    kiln_matmul_arg_i32(l, whole_lines(out));
    kiln_matmul_arg_workspace(l);
    if (k[SPLIT] == 1) {
        kiln_matmul_arg_epilogue(l, p);
    } else {
        kiln_matmul_arg_i64(l, v.m);
        kiln_matmul_arg_i64(l, v.n);
        add_reduction(out, p, caps, s);
    }
    return KILN_OK;
}

const kiln_variant kiln_matmul_wgmma_sm90 = {
    .name = "wgmma_sm90",
    .help = "Hopper: wgmma fed by TMA, warp-specialised and persistent; f16 bf16 fp8 tf32 i8",
    .revision = 4,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

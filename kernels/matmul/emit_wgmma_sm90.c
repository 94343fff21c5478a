/* wgmma_sm90: where it applies, its space, where to start, its source. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    if (caps->arch_number != 90)
        return kiln_matmul_no(why, "wgmma is an instruction of compute capability 9.0 alone");
    return kiln_matmul_wgmma_sm90_types(&v, why);
}

/* Widest piece of a row: 8 columns where alignment allows. */
static int widest_store(const kiln_problem *p, const kiln_caps *caps) {
    int width = 8;
    while (width > 1 && !kiln_matmul_epilogue_aligned(p, caps, width, NULL)) width /= 2;
    return width;
}

#define ADD(space, knob, ...)                                                                      \
    kiln_space_add(space, knob, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                 \
                   (int[]){__VA_ARGS__})

/* With few rows every element of b is read once: it would only push a out of the L2 cache. */
static bool few_rows(const matmul *v) { return v->m <= 64; }

/* Rows of 128 bytes that begin inside a line of the cache come slowly; packed ones do not. */
static bool slow_row(const matmul *v, int64_t ld, bool packed) {
    return !packed && ld * (int64_t)kiln_type_bytes(v->a) % 128;
}

/* Then more blocks should share what one of them loads. */
static bool slow_rows(const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    return slow_row(&v, v.lda, kiln_matmul_wgmma_sm90_packs(p, MATMUL_A)) ||
           slow_row(&v, v.ldb, kiln_matmul_wgmma_sm90_packs(p, MATMUL_B));
}

/* ---- the space: many combinations are illegal, which costs nothing */

static kiln_knob_values y_sides(const kiln_problem *p, const kiln_caps *caps, bool swap);

enum { SIDE_MAX = 256 }; /* of a tile: wgmma's widest */

static void insert(kiln_knob_values *list, int value) {
    int at = 0;
    while (at < list->n && list->value[at] < value) at++;
    if (value < 8 || value > SIDE_MAX || list->n == KILN_KNOB_VALUES_MAX ||
        (at < list->n && list->value[at] == value))
        return;
    memmove(list->value + at + 1, list->value + at, (size_t)(list->n - at) * sizeof(int));
    list->value[at] = value;
    list->n++;
}

/* A side may be wgmma's side of 64, or its side of 8 with the widths `y`. */
static void add_sides(kiln_space *out, const char *knob, kiln_knob_values y) {
    for (int side = 64; side <= 256; side += 64) insert(&y, side);
    kiln_space_add(out, knob, y.n, y.value);
}

static void add_tiles(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    add_sides(out, "tm", y_sides(p, caps, true));
    add_sides(out, "tn", y_sides(p, caps, false));
    ADD(out, "swap", 0, 1);
}

/* Orders differ where many tiles share the L2 cache; with few, they all run at once. */
static void add_order(const matmul *v, const kiln_caps *caps, kiln_space *out) {
    int64_t blocks = (v->m + 127) / 128 * ((v->n + 127) / 128) * v->batch;
    if (blocks >= 4 * caps->units) {
        ADD(out, "group", 4, 8, 16);
        ADD(out, "order", 0, 1, 2);
    } else {
        ADD(out, "group", 8);
        ADD(out, "order", 0, 1);
    }
    if (v->m <= 256)
        ADD(out, "evict", 0, 1);
    else
        ADD(out, "evict", 0);
}

/* Few tiles of a deep product: parts of k give every SM something to do. */
static void add_splits(const matmul *v, const kiln_caps *caps, kiln_space *out) {
    int64_t tiles = (v->m + 127) / 128 * ((v->n + 127) / 128) * v->batch;
    ADD(out, "split", 1);
    for (int split = 2; split <= 128 && split * tiles <= 4 * caps->units; split *= 2)
        kiln_space_add(out, "split", 1, &split);
    int even = (int)(caps->units / (tiles > 0 ? tiles : 1)); /* one wave of them */
    if (even > 1 && even <= 128) kiln_space_add(out, "split", 1, &even);
}

/* Do pairs of blocks that halve k find a single wave of tiles? */
static bool few_tiles(const matmul *v, const kiln_caps *caps) {
    return (v->m + 255) / 256 * ((v->n + 255) / 256) * v->batch <= caps->units / 2;
}

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    matmul v = kiln_matmul_view(p);
    int line = 128 / (int)kiln_type_bytes(v.a);
    *out = (kiln_space){.variant = &kiln_matmul_wgmma_sm90};
    add_tiles(p, caps, out);
    if (v.m <= 1024 || v.n <= 1024)
        ADD(out, "tk", line, 2 * line);
    else
        ADD(out, "tk", line);
    ADD(out, "consumers", 1, 2, 3);
    ADD(out, "pingpong", 0, 1);
    ADD(out, "stages", 0);
    if (few_rows(&v)) { /* the shared tile would be the small one */
        ADD(out, "cluster_m", 1);
        ADD(out, "cluster_n", 1);
    } else if (slow_rows(p)) {
        ADD(out, "cluster_m", 1, 2, 4);
        ADD(out, "cluster_n", 1, 2, 4);
    } else {
        ADD(out, "cluster_m", 1, 2);
        ADD(out, "cluster_n", 1, 2);
    }
    if (few_tiles(&v, caps))
        ADD(out, "cluster_k", 1, 2);
    else
        ADD(out, "cluster_k", 1);
    add_order(&v, caps, out);
    ADD(out, "stream", 0, 1, 2);
    add_splits(&v, caps, out);
    if (kiln_matmul_wgmma_sm90_stores(p, caps, 0, NULL))
        ADD(out, "tma_store", 0, 1);
    else
        ADD(out, "tma_store", 0);
    ADD(out, "store", widest_store(p, caps));
    ADD(out, "pack_a", kiln_matmul_wgmma_sm90_packs(p, MATMUL_A));
    ADD(out, "pack_b", kiln_matmul_wgmma_sm90_packs(p, MATMUL_B));
}

/* ---- results that leave beside the next tile's products (wgmma_sm90/overlap.cuh)
 *
 * Those of consumers that share a tile, 16 bits each, where registers are left for them. */
static bool overlaps(const kiln_problem *p, const kiln_schedule *s) {
    if (kiln_schedule_get(s, "pingpong") || kiln_schedule_get(s, "swap") ||
        kiln_schedule_get(s, "stream") || kiln_schedule_get(s, "split") > 1 ||
        kiln_schedule_get(s, "cluster_k") > 1)
        return false; /* as most of the many that are estimated: what follows asks the problem */
    matmul v = kiln_matmul_view(p);
    int consumers = kiln_schedule_get(s, "consumers");
    int tile = kiln_schedule_get(s, "tm") * kiln_schedule_get(s, "tn");
    bool pieces = kiln_schedule_get(s, "tma_store") || kiln_matmul_wgmma_sm90_copies(p, s);
    bool promotes = kiln_type_is_float8(v.a) && !v.fast;
    return pieces && !promotes && kiln_type_bytes(v.out) == 2 && kiln_matmul_is_brief(p) &&
           tile / consumers / 128 <= (consumers == 3 ? 80 : 128);
}

/* ---- an estimate, to rank schedules before any is measured
 *
 * In cycles of an SM at 1.7 GHz. The structure is arithmetic: what the tensor cores, shared memory,
 * the L2 cache and memory must move, in whole waves. The constants were fitted to 3027 schedules of
 * 168 problems, measured on an H200 under load (results/data): its first choice is 3.9 % from the
 * best measured (geometric mean), the best of its first three 1.4 %; over problems left out of the
 * fit 4.2 and 1.5 %. */
static const double CLOCK = 1.7e9;   /* Hz: between the boost clock and that at the power cap */
static const double SHARED = 171;    /* bytes a cycle: wgmma's reads and TMA's writes together */
static const double L2 = 159;        /* bytes a cycle and SM; neighbours' requests coalesce */
static const double L2_ACROSS = 39;  /* where rows begin inside lines of 128 bytes */
static const double MEMORY = 4.4e12; /* bytes a second */
static const double SHALLOW = 0.18;  /* per slot that a ring has less than 4 */
static const double COOPERATIVE = 1.044; /* where consumers share a tile */
static const double OVERLAPS = 1.02;     /* and its results leave beside the next one's products */
static const double POWER_L2 = 8.7;      /* see power_factor */
static const double POWER_SHARED = 6.3;
static const double COLD_TWICE = 1.19; /* see cold_waits */
static const double COLD_PAIR = 0.98;
static const double CROWDED = 1.15;      /* not fitted: enough to prefer what does not spill */
static const double STORE = 25;          /* bytes a cycle and consumer, of results */
static const double STORE_SWAP = 7.7;    /* those of swapped tiles */
static const double STATEMENTS = 2;      /* times as long, with statements of some length */
static const double TMA_STORE = 1.5;     /* times as long, through TMA */
static const double EPILOGUE = 20;       /* cycles whatever its size */
static const double SHOWS = 0.26;        /* of an epilogue, when products are under way beside it */
static const double SHARE_FIXED = 11900; /* flags and fences between blocks */
static const double SHARE_EACH = 50;     /* for every share of a tile */
static const double SHARE_BYTES = 20;    /* a cycle, of sums handed over */
static const double PACK_LAUNCH = 2560;  /* a launch before this one */
static const double ADDING_LAUNCH = 1100; /* one behind it */
static const double MEETING = 625;        /* of two blocks, twice */
static const double EXCHANGE = 10;        /* bytes a cycle between two blocks */
static const double CLUSTER = 271;        /* of blocks that start and end together, each doubling */
static const double LAUNCH = 9000;

static double larger(double a, double b) { return a > b ? a : b; }

typedef struct tile {
    double m, n, cluster_m, cluster_n, cluster_k, k_slot,
        owners;        /* owners: consumers that share a tile */
    double l2_a, l2_b; /* bytes a cycle that come from the L2 */
    int stages, stream, split;
    bool swap, pingpong, tma_store, overlaps;
} tile;

static double l2_rate(const matmul *v, int64_t ld, bool packed) {
    return slow_row(v, ld, packed) ? L2_ACROSS : L2;
}

static tile tile_of(const kiln_problem *p, const kiln_schedule *s, const matmul *v) {
    bool pingpong = kiln_schedule_get(s, "pingpong");
    return (tile){.m = kiln_schedule_get(s, "tm"),
                  .n = kiln_schedule_get(s, "tn"),
                  .cluster_m = kiln_schedule_get(s, "cluster_m"),
                  .cluster_n = kiln_schedule_get(s, "cluster_n"),
                  .cluster_k = kiln_schedule_get(s, "cluster_k"),
                  .k_slot = kiln_schedule_get(s, "tk"),
                  .l2_a = l2_rate(v, v->lda, kiln_schedule_get(s, "pack_a")),
                  .l2_b = l2_rate(v, v->ldb, kiln_schedule_get(s, "pack_b")),
                  .owners = pingpong ? 1 : kiln_schedule_get(s, "consumers"),
                  .stages = kiln_schedule_get(s, "stages"),
                  .stream = kiln_schedule_get(s, "stream"),
                  .split = kiln_schedule_get(s, "split"),
                  .swap = kiln_schedule_get(s, "swap"),
                  .pingpong = pingpong,
                  .tma_store = kiln_schedule_get(s, "tma_store"),
                  .overlaps = overlaps(p, s)};
}

/* The products of a block's tile over the whole of k, by steps of 32 bytes. */
static double body_cycles(const tile *t, const matmul *v) {
    double element = (double)kiln_type_bytes(v->a);
    double x = t->swap ? t->n : t->m, y = t->swap ? t->m : t->n;
    double multiply = larger(y / 2, 16 + y / 4) * (x / 64);
    double shared = (x / 64 * (2048 + 32 * y) + 32 * (x + y)) / SHARED;
    double l2 = t->m / t->cluster_n * 32 / t->l2_a + t->n / t->cluster_m * 32 / t->l2_b;
    double steps =
        ceil((double)v->k / t->k_slot / (t->split * t->cluster_k)) * t->k_slot * element / 32;
    double ring = 1 + SHALLOW * larger(0, 4 - t->stages);
    return larger(multiply, larger(shared, l2)) * steps * ring;
}

static double epilogue_cycles(const tile *t, const matmul *v, double waves) {
    double bytes = t->m * t->n * (double)kiln_type_bytes(v->out);
    double cycles = bytes / ((t->swap ? STORE_SWAP : STORE) * t->owners) + EPILOGUE;
    bool beside = (t->pingpong || t->overlaps) && waves > 1; /* then nobody waits for TMA */
    return cycles * (v->plain ? 1 : STATEMENTS) * (beside ? SHOWS : t->tma_store ? TMA_STORE : 1);
}

/* Sums of shared tiles are written once and read by the tile's owner. */
static double sharing_cycles(const tile *t, double waves) {
    double shares = larger(1, 1 / waves);
    if (!t->stream) return 0;
    return SHARE_FIXED + SHARE_EACH * shares + t->m * t->n * 4 / SHARE_BYTES * (1 + shares);
}

/* A split product: sums of every part are written and read, and a launch adds them. */
static double adding_cycles(const tile *t, const matmul *v, double units) {
    double bytes = 4.0 * t->split * (double)v->m * (double)v->n * (double)v->batch;
    return t->split > 1 ? ADDING_LAUNCH + 2 * bytes / (SHARE_BYTES * units) : 0;
}

/* Two blocks meet, and exchange half of their sums. */
static double exchange_cycles(const tile *t) {
    return t->cluster_k > 1 ? MEETING + t->m * t->n * 2 / EXCHANGE : 0;
}

static double packing_cycles(const kiln_schedule *s, const matmul *v) {
    int a = kiln_schedule_get(s, "pack_a"), b = kiln_schedule_get(s, "pack_b");
    double elements = (double)(a ? v->m : 0) + (double)(b ? v->n : 0);
    double bytes = 2 * elements * (double)v->k * (double)v->batch * (double)kiln_type_bytes(v->a);
    return (a || b ? PACK_LAUNCH : 0) + bytes / (MEMORY / CLOCK);
}

/* At the power cap cycles are not all: a product draws power for its arithmetic, which no schedule
 * changes, and for every element that comes from the L2 cache and from shared memory, and the clock
 * falls with the power. As longer products, so that the least power is 1. What timings alone say of
 * the two constants: README.md, Power; here they are part of the fit. */
static double power_factor(const tile *t) {
    double y = t->swap ? t->m : t->n; /* a wgmma reads 64 lines of x and these */
    double l2 = (t->m / t->cluster_n + t->n / t->cluster_m) / (t->m * t->n);
    double shared = (64 + y) / (64 * y);
    return (1 + POWER_L2 * l2 + POWER_SHARED * shared) /
           (1 + POWER_L2 * 0.0078 + POWER_SHARED * 0.0195);
}

/* With few rows b comes from memory, not from the cache, and best if one cluster asks for all of a
 * column's tiles. */
static double cold_waits(const tile *t, const matmul *v) {
    if (v->m > 256) return 1;
    return (t->m * t->cluster_m < (double)v->m ? COLD_TWICE : 1) *
           (t->cluster_n > 1 ? COLD_PAIR : 1);
}

/* Long statements need registers that many sums do not leave: ptxas spills some of these. With
 * split the sums are stored as they are. */
static double crowded(const tile *t, bool loop) {
    double x = t->swap ? t->n : t->m, y = t->swap ? t->m : t->n;
    double sums = x / t->owners / 64 * y / 2;
    return loop && t->split == 1 && sums > (t->stream ? 128 : 192) ? CROWDED : 1;
}

/* Knobs that the arithmetic says nothing about: others than the usual are tried later. */
static double unusual(const kiln_schedule *s, const matmul *v) {
    int n = (kiln_schedule_get(s, "order") != 0) + (kiln_schedule_get(s, "group") != 8) +
            (kiln_schedule_get(s, "evict") != few_rows(v)) + (kiln_schedule_get(s, "stages") != 0);
    return 1 + 0.05 * n;
}

static double estimate(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s) {
    matmul v = kiln_matmul_view(p);
    kiln_schedule filled = *s;
    kiln_matmul_wgmma_sm90_stages(p, caps, &filled);
    tile t = tile_of(p, &filled, &v);
    double units = caps->units > 0 ? caps->units : 1;
    double tiles = ceil((double)v.m / (t.m * t.cluster_m)) *
                   ceil((double)v.n / (t.n * t.cluster_n)) * (double)v.batch * t.split;
    double cluster = t.cluster_m * t.cluster_n * t.cluster_k,
           resident = (double)kiln_matmul_wgmma_sm90_resident(caps, (int)cluster);
    double waves = tiles / resident;
    double rounds = t.stream ? waves : ceil(waves);
    double shares = t.pingpong || waves <= 1 ? 1 : t.overlaps ? OVERLAPS : COOPERATIVE;
    double body = body_cycles(&t, &v) * shares * power_factor(&t);
    double busy = rounds * (body + epilogue_cycles(&t, &v, waves));
    double before_and_behind = sharing_cycles(&t, waves) + exchange_cycles(&t) +
                               packing_cycles(s, &v) + adding_cycles(&t, &v, units) +
                               CLUSTER * log2(cluster);
    double bytes = (double)(v.m + v.n) * (double)v.k * (double)kiln_type_bytes(v.a) +
                   (double)v.m * (double)v.n * (double)kiln_type_bytes(v.out);
    double memory = bytes * (double)v.batch / (MEMORY / CLOCK);
    /* where memory decides, the less work */
    return (larger(busy, memory) * cold_waits(&t, &v) + 0.02 * busy + before_and_behind + LAUNCH) *
           unusual(s, &v) * crowded(&t, kiln_matmul_worth_a_loop(p)) / CLOCK;
}

static double power(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s) {
    matmul v = kiln_matmul_view(p);
    (void)caps;
    tile t = tile_of(p, s, &v);
    return power_factor(&t);
}

/* ---- where to start: the least estimate over shapes that fit the hardware */

typedef struct candidate {
    int tm, tn, consumers, pingpong, swap, cluster_m, cluster_n, cluster_k, stream, slabs, split;
} candidate;

/* TMA takes longer and leaves the threads free: nobody waits for it if products are multiplied
 * meanwhile, by another consumer or, where a block has several tiles, by the same. */
static bool leaves_by_tma(const candidate *c, const kiln_schedule *s, const kiln_problem *p,
                          const kiln_caps *caps) {
    matmul v = kiln_matmul_view(p);
    int64_t tiles = (v.m + c->tm - 1) / c->tm * ((v.n + c->tn - 1) / c->tn) * v.batch;
    return !c->swap && c->split == 1 && kiln_matmul_wgmma_sm90_stores(p, caps, c->tn, NULL) &&
           (c->pingpong || (tiles > caps->units && overlaps(p, s)));
}

static kiln_schedule schedule_of(const candidate *c, const kiln_problem *p, const kiln_caps *caps) {
    kiln_schedule s = kiln_variant_default(&kiln_matmul_wgmma_sm90);
    matmul v = kiln_matmul_view(p);
    kiln_schedule_set(&s, "tm", c->tm);
    kiln_schedule_set(&s, "tn", c->tn);
    kiln_schedule_set(&s, "tk", c->slabs * 128 / (int)kiln_type_bytes(v.a));
    kiln_schedule_set(&s, "consumers", c->consumers);
    kiln_schedule_set(&s, "pingpong", c->pingpong);
    kiln_schedule_set(&s, "swap", c->swap);
    kiln_schedule_set(&s, "cluster_m", c->cluster_m);
    kiln_schedule_set(&s, "cluster_n", c->cluster_n);
    kiln_schedule_set(&s, "cluster_k", c->cluster_k);
    kiln_schedule_set(&s, "stream", c->stream);
    kiln_schedule_set(&s, "split", c->split);
    kiln_schedule_set(&s, "store", widest_store(p, caps));
    kiln_schedule_set(&s, "evict", few_rows(&v));
    kiln_schedule_set(&s, "pack_a", kiln_matmul_wgmma_sm90_packs(p, MATMUL_A));
    kiln_schedule_set(&s, "pack_b", kiln_matmul_wgmma_sm90_packs(p, MATMUL_B));
    kiln_schedule_set(&s, "tma_store", leaves_by_tma(c, &s, p, caps));
    return s;
}

static void consider(const candidate *c, const kiln_problem *p, const kiln_caps *caps,
                     double *least, kiln_schedule *best) {
    kiln_schedule s = schedule_of(c, p, caps);
    double time = estimate(p, caps, &s);
    if (time >= *least) return;
    if (kiln_matmul_wgmma_sm90.legal(p, caps, &s, NULL)) *best = s, *least = time;
}

/* The split that gives every SM one part of a tile. */
static int even_split(const candidate *c, const matmul *v, const kiln_caps *caps) {
    int64_t tiles = (v->m + c->tm - 1) / c->tm * ((v->n + c->tn - 1) / c->tn) * v->batch;
    int64_t split = caps->units / (tiles > 0 ? tiles : 1);
    return split < 1 ? 1 : split > 128 ? 128 : (int)split;
}

/* A tile whole, halved along k between two blocks, with its last wave shared, and split. */
static void consider_sharing(candidate c, const kiln_problem *p, const kiln_caps *caps,
                             double *least, kiln_schedule *best) {
    matmul v = kiln_matmul_view(p);
    c.split = 1, c.stream = 0, c.cluster_k = 2;
    if (c.consumers == 2 && !c.pingpong && c.cluster_m * c.cluster_n == 1)
        consider(&c, p, caps, least, best);
    c.cluster_k = 1;
    for (c.stream = 0; c.stream <= 1; c.stream++) consider(&c, p, caps, least, best);
    c.stream = 0;
    c.split = c.cluster_m * c.cluster_n == 1 ? even_split(&c, &v, caps) : 1;
    if (c.split > 1) consider(&c, p, caps, least, best);
}

/* x: the side of 64, y: the side of 8. Alone and in clusters; each consumer with a tile of its own
 * (0) or 1 to 3 that share one. Longer lines pay where memory decides. */
static void consider_tile(int x, int y, bool swap, const kiln_problem *p, const kiln_caps *caps,
                          double *least, kiln_schedule *best) {
    static const int clusters[][2] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {1, 4}};
    matmul v = kiln_matmul_view(p);
    int most = few_rows(&v) ? 1 : slow_rows(p) ? 6 : 3;
    for (int slabs = 1; slabs <= (v.m > 128 && v.n > 128 ? 1 : 2); slabs++)
        for (int sharers = 0; sharers <= 3; sharers++)
            for (int cluster = 0; cluster < most; cluster++) {
                candidate c = {.tm = swap ? y : x,
                               .tn = swap ? x : y,
                               .consumers = sharers ? sharers : 2,
                               .pingpong = !sharers,
                               .swap = swap,
                               .cluster_m = clusters[cluster][0],
                               .cluster_n = clusters[cluster][1],
                               .slabs = slabs};
                if (x % (64 * (sharers ? sharers : 1)) == 0)
                    consider_sharing(c, p, caps, least, best);
            }
}

/* The least estimate of tiles that are `y` wide on the side of 8. */
static double consider_width(int y, bool swap, const kiln_problem *p, const kiln_caps *caps,
                             kiln_schedule *best) {
    double least = INFINITY;
    for (int x = 64; x <= 256; x += 64) consider_tile(x, y, swap, p, caps, &least, best);
    return least;
}

/* The side of 8: widths in steps of 32, and a few more that waste least of the last wave. */
static kiln_knob_values y_sides(const kiln_problem *p, const kiln_caps *caps, bool swap) {
    enum { EXTRA = 6 };
    matmul v = kiln_matmul_view(p);
    int64_t extent = swap ? v.m : v.n;
    double time[SIDE_MAX / 8 + 1];
    kiln_schedule unused;
    kiln_knob_values out = {.n = 0};
    for (int side = 64; side <= SIDE_MAX; side += 32) insert(&out, side);
    for (int side = 8; side <= 32 && extent <= 256; side *= 2) insert(&out, side);
    for (int i = 1; i <= SIDE_MAX / 8; i++) time[i] = consider_width(8 * i, swap, p, caps, &unused);
    for (int extra = 0; extra < EXTRA; extra++) {
        int best = 1;
        for (int i = 1; i <= SIDE_MAX / 8; i++)
            if (time[i] < time[best]) best = i;
        if (!(time[best] < INFINITY)) break;
        insert(&out, 8 * best);
        time[best] = INFINITY;
    }
    return out;
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps) {
    kiln_schedule best = kiln_variant_default(&kiln_matmul_wgmma_sm90), found = best;
    double least = INFINITY;
    for (int swap = 0; swap <= 1; swap++)
        for (int y = 8; y <= SIDE_MAX; y += 8) {
            double time = consider_width(y, swap, p, caps, &found);
            if (time < least) best = found, least = time;
        }
    return best;
}

/* ---- the instruction for the tile's width: its operands cannot be a loop */

static const char *wgmma_type(kiln_type t) { return t == KILN_I8 ? "s8" : kiln_type_name(t); }

static void emit_wgmma(kiln_text *out, const matmul *v, const kiln_schedule *s) {
    bool swap = kiln_schedule_get(s, "swap"), sixteen = v->a == KILN_F16 || v->a == KILN_BF16;
    int width = kiln_schedule_get(s, swap ? "tm" : "tn"), sums = width / 2;
    bool a_across = v->ta && !kiln_schedule_get(s, "pack_a"); /* packed operands lie along k */
    bool b_across = !v->tb && !kiln_schedule_get(s, "pack_b");
    bool x_across = swap ? b_across : a_across, y_across = swap ? a_across : b_across;
    kiln_text_printf(out,
                     "#ifndef PRIMITIVES\n"
                     "/* keep: the products are added to d, otherwise they replace it. */\n"
                     "FUNC void NAME(wgmma)(ACC *d, u64 x, u64 y, int keep) {\n"
                     "    asm volatile(\"{\\n.reg .pred keep;\\nsetp.ne.b32 keep, %%%d, 0;\\n\"\n"
                     "                 \"wgmma.mma_async.sync.aligned.m64n%dk%d.%s.%s.%s {\"\n"
                     "                 \"",
                     sums + 2, width, 32 / (int)kiln_type_bytes(v->a),
                     v->acc == KILN_I32 ? "s32" : "f32", wgmma_type(swap ? v->b : v->a),
                     wgmma_type(swap ? v->a : v->b));
    for (int i = 0; i < sums; i++) kiln_text_printf(out, "%%%d%s", i, i + 1 < sums ? "," : "}, ");
    kiln_text_printf(out, "%%%d, %%%d, keep", sums, sums + 1);
    if (v->acc != KILN_I32) kiln_text_add(out, ", 1, 1");
    if (sixteen) kiln_text_printf(out, ", %d, %d", x_across, y_across);
    kiln_text_add(out, ";\\n}\"\n                 : ");
    for (int i = 0; i < sums; i++)
        kiln_text_printf(out, "\"+%s\"(d[%d])%s", v->acc == KILN_I32 ? "r" : "f", i,
                         i + 1 < sums ? (i % 6 == 5 ? ",\n                   " : ", ") : "\n");
    kiln_text_add(out, "                 : \"l\"(x), \"l\"(y), \"r\"(keep));\n}\n#endif\n");
}

/* One kernel for what is packed, in the order of program(): the side of 64 first. */
static void emit_pack(kiln_text *out, kiln_text *undefs, const matmul *v, const kiln_schedule *s) {
    bool swap = kiln_schedule_get(s, "swap"), transpose[] = {v->ta, !v->tb};
    bool packed[] = {kiln_schedule_get(s, "pack_a"), kiln_schedule_get(s, "pack_b")};
    bool two = packed[0] && packed[1], same = two && transpose[0] == transpose[1];
    for (int i = 0; i < 2; i++) {
        int o = swap ? 1 - i : i;
        bool last = i == 1 || !two;
        if (!packed[o] || (same && !last)) continue;
        kiln_text_printf(out,
                         "#define PACK_TYPE %s\n#define PACK_TRANSPOSE %d\n"
                         "#define PACK_PART NAME(pack_%c)\n",
                         kiln_type_name(v->a), transpose[o], "ab"[o]);
        if (last) kiln_text_add(out, "#define PACK_ENTRY NAME(pack)\n");
        if (last && same) kiln_text_add(out, "#define PACK_TWO\n");
        if (last && two && !same)
            kiln_text_printf(out, "#define PACK_FIRST NAME(pack_%c)\n", "ba"[o]);
        kiln_emit_body(out, undefs, "kernels/matmul/pack.k.c");
    }
}

/* FINISH of parameters.cuh */
static int finish_columns(const kiln_schedule *s) {
    int store = kiln_schedule_get(s, "store");
    return kiln_schedule_get(s, "split") > 1 && store > 4 ? 4 : store;
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *schedule,
                  kiln_text *out, kiln_error *e) {
    static const char *const layers[] = {"parameters", "instruction", "multiply", "order",
                                         "stage",      "matrix",      "epilogue", "overlap",
                                         "split",      "cluster",     "kernel"};
    kiln_schedule filled = *schedule, *s = &filled;
    kiln_matmul_wgmma_sm90_stages(p, caps, s);
    matmul v = kiln_matmul_view(p);
    kiln_text undefs = {0};
    emit_pack(out, &undefs, &v, s);
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_emit_define(out, &undefs, "EIGHT_BIT_FLOAT", "%d", kiln_type_is_float8(v.a));
    kiln_emit_define(out, &undefs, "FAST", "%d", v.fast);
    kiln_emit_define(out, &undefs, "OUT_BYTES", "%d", (int)kiln_type_bytes(v.out));
    kiln_matmul_emit_tops(out, p);
    kiln_matmul_emit_epilogue(out, p, "finish", finish_columns(s));
    bool copies = kiln_matmul_wgmma_sm90_copies(p, s);
    bool pieces = copies || kiln_schedule_get(s, "tma_store");
    kiln_emit_define(out, &undefs, "COPY_STORE", "%d", copies);
    int staged = kiln_matmul_wgmma_sm90_staged(p, s);
    kiln_emit_define(out, &undefs, "OVERLAP", "%d", overlaps(p, s));
    kiln_emit_define(out, &undefs, "MATRIX_STAGED", "%d", staged >= 0);
    if (pieces) kiln_matmul_emit_value(out, p, "value", 2);
    kiln_matmul_emit_ahead_facts(out, &undefs, p);
    if (pieces)
        kiln_matmul_emit_value_ahead(out, p, "value", 2, staged);
    else
        kiln_matmul_emit_epilogue_ahead(out, p, "finish", finish_columns(s));
    emit_wgmma(out, &v, s);
    for (int i = 0; i < (int)(sizeof layers / sizeof *layers); i++) {
        char path[64];
        snprintf(path, sizeof path, "kernels/matmul/wgmma_sm90/%s.cuh", layers[i]);
        kiln_emit_body(out, &undefs, path);
    }
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of wgmma_sm90")
                  : KILN_OK;
}

const kiln_variant_generator kiln_matmul_wgmma_sm90_generator = {
    .variant = &kiln_matmul_wgmma_sm90,
    .applies = applies,
    .space = space,
    .start = start,
    .estimate = estimate,
    .power = power,
    .source = source,
};

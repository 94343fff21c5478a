/* simt: blocks of threads, for every dialect. */
#include "kernels/map/map.h"

#include <string.h>

enum {
    REGISTERS_KEPT = 64, /* words of a row that one thread may hold between phases */
    IN_FLIGHT = 96,      /* words that a thread may have asked for */
    REGISTERS_UNIT = 65536,
    GRID_MAX = INT32_MAX,
};

static const kiln_knob knobs[] = {
    {"t", 256, "threads in a block"},
    {"tr", 1, "rows that a block handles side by side; t / tr threads share a row"},
    {"v", 1, "adjacent elements per access"},
    {"u", 1, "accesses of each operand that a thread has in flight"},
    {"keep", 0, "1: a row stays in registers between phases; 0: read again, from cache"},
    {"wave", 0, "0: a block for every tile; k: k blocks per unit, which loop over tiles"},
    {"ld", 0, "1: operands read once bypass the first-level cache (PTX devices)"},
    {"st", 0, "1: outputs are written as streams (PTX devices)"},
    {"regs", 0, "registers per thread to compile for; 0: the compiler's choice (PTX devices)"},
    {0},
};

typedef struct view {
    int t, tr, v, u, keep, wave, ld, st, regs;
    int per_row;       /* threads that share a row */
    int64_t span;      /* columns that these cover at once */
    int64_t row_tiles; /* tiles down and across */
    int64_t col_tiles;
    kiln_map_shape m;
} view;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static view view_of(const kiln_problem *p, const kiln_schedule *s) {
    view w = {.t = s->value[0], .tr = s->value[1], .v = s->value[2], .u = s->value[3],
              .keep = s->value[4], .wave = s->value[5], .ld = s->value[6], .st = s->value[7],
              .regs = s->value[8], .m = kiln_map_shape_of(p)};
    w.per_row = w.tr > 0 ? w.t / w.tr : 0;
    w.span = (int64_t)w.per_row * w.v * w.u;
    if (w.span <= 0) return w;
    w.row_tiles = ceil_div(w.m.rows, w.tr);
    w.col_tiles = w.m.by_row ? 1 : ceil_div(w.m.cols, w.span);
    return w;
}

#define REFUSE(...)                                                                                \
    do {                                                                                           \
        if (why) kiln_text_printf(why, __VA_ARGS__);                                               \
        return false;                                                                              \
    } while (0)

static bool power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

static bool block_legal(const view *w, const kiln_caps *caps, kiln_text *why) {
    if (!power_of_two(w->t) || w->t < 32 || w->t > 1024)
        REFUSE("t=%d: a block is a power of two from 32 to 1024 threads", w->t);
    if (w->t > caps->max_threads)
        REFUSE("t=%d: the device allows %d threads in a block", w->t, caps->max_threads);
    if (!power_of_two(w->tr) || w->tr > w->t)
        REFUSE("tr=%d: rows side by side are a power of two and at most the %d threads", w->tr,
               w->t);
    if (w->m.flat && w->tr != 1) REFUSE("tr=%d: a flat range has one row", w->tr);
    if (w->ld < 0 || w->ld > 1 || w->st < 0 || w->st > 1) REFUSE("ld=%d st=%d: 0 or 1", w->ld, w->st);
    if ((w->ld || w->st) && !caps->arch_number)
        REFUSE("ld=%d st=%d: this device has no cache hints", w->ld, w->st);
    if (w->regs && !caps->arch_number)
        REFUSE("regs=%d: only for PTX devices can the number of registers be asked for", w->regs);
    if (w->regs && (w->regs < 24 || w->regs > 255))
        REFUSE("regs=%d: 0, or 24 to 255 registers per thread", w->regs);
    if (w->regs * w->t > REGISTERS_UNIT)
        REFUSE("regs=%d: %d threads with so many need more than the %d registers of a unit",
               w->regs, w->t, REGISTERS_UNIT);
    return true;
}

static bool vector_legal(const view *w, kiln_text *why) {
    if (!power_of_two(w->v) || w->v > 16) REFUSE("v=%d: 1, 2, 4, 8 or 16 elements", w->v);
    if (!power_of_two(w->u) || w->u > 16) REFUSE("u=%d: 1, 2, 4, 8 or 16 accesses", w->u);
    if (w->v * w->m.widest > 32)
        REFUSE("v=%d: an access of %d bytes is more than two loads of 16", w->v,
               w->v * w->m.widest);
    if (!w->m.flat && w->m.cols % w->v)
        REFUSE("v=%d: rows of %lld elements are not aligned to %d elements", w->v,
               (long long)w->m.cols, w->v);
    return true;
}

/* 32-bit words that a thread's loads return before it computes. */
static int words_of(const view *w) {
    const int inputs = w->m.full_inputs ? w->m.full_inputs : 1;
    return w->v * w->u * inputs * w->m.widest / 4;
}

static bool rows_legal(const view *w, kiln_text *why) {
    if (w->keep && w->m.n_phases == 1) REFUSE("keep=1: there is only one phase");
    if (w->keep && w->m.cols > w->span)
        REFUSE("keep=1: %d threads keep %lld elements, a row has %lld", w->per_row,
               (long long)w->span, (long long)w->m.cols);
    const int words = words_of(w), most = w->keep ? REGISTERS_KEPT : IN_FLIGHT;
    if (words > most)
        REFUSE("v=%d u=%d: %d words in flight per thread, more than %d registers", w->v, w->u,
               words, most);
    return true;
}

static bool legal(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why) {
    const view w = view_of(p, s);
    if (!block_legal(&w, caps, why) || !vector_legal(&w, why) || !rows_legal(&w, why))
        return false;
    const int64_t tiles = w.row_tiles * w.col_tiles;
    if (w.wave < 0 || w.wave > 64) REFUSE("wave=%d: 0 to 64 blocks per unit", w.wave);
    if (w.wave == 0 && tiles > GRID_MAX)
        REFUSE("wave=0: %lld tiles are more than a grid has blocks", (long long)tiles);
    return true;
}

static int program(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                   kiln_program *out, kiln_error *e) {
    kiln_text why = {0};
    if (!legal(p, caps, s, &why)) {
        const int status = kiln_fail(e, KILN_UNSUPPORTED, "%s", kiln_text_get(&why));
        kiln_text_free(&why);
        return status;
    }
    const view w = view_of(p, s);
    const int64_t tiles = w.row_tiles * w.col_tiles;
    const int64_t most = (int64_t)w.wave * (caps->units > 0 ? caps->units : 1);
    memset(out, 0, sizeof *out);
    out->n_launches = 1;
    kiln_launch *l = &out->launch[0];
    strcpy(l->entry, "main");
    l->grid[0] = (uint32_t)(w.wave && tiles > most ? most : tiles);
    l->grid[1] = l->grid[2] = 1;
    l->block[0] = (uint32_t)w.t;
    l->block[1] = l->block[2] = 1;
    kiln_map_arguments(p, l);
    return KILN_OK;
}

const kiln_variant kiln_map_simt = {
    .name = "simt",
    .help = "blocks of threads over tiles of elements or over rows",
    .revision = 2,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

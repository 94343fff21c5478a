/* cpu: OpenCL on a CPU device. One work-item handles a tile of rows and columns alone, in explicit
 * vectors. */
#include "kernels/map/map.h"

#include <string.h>

static const kiln_knob knobs[] = {
    {"v", 8, "floats in a vector"},
    {"u", 1, "vectors of each operand in flight"},
    {"tr", 1, "rows of a work-item"},
    {"tc", 16384, "columns of a work-item, where rows can be split"},
    {"nt", 0, "1: outputs [row,col] bypass the caches"},
    {"pf", 0, "1: a row is asked for while the one before it is computed; 2: 4 KiB ahead"},
    {"keep", 0, "floats to keep a row's dearest value in between phases, 0: compute it again"},
    {0},
};

typedef struct view {
    int v, u, tr, tc, nt, pf, keep;
    int64_t row_tiles, col_tiles;
    kiln_map_shape m;
} view;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static view view_of(const kiln_problem *p, const kiln_schedule *s) {
    view w = {.v = s->value[0], .u = s->value[1], .tr = s->value[2], .tc = s->value[3],
              .nt = s->value[4], .pf = s->value[5], .keep = s->value[6],
              .m = kiln_map_shape_of(p)};
    if (w.tr <= 0 || w.tc <= 0) return w;
    w.row_tiles = ceil_div(w.m.rows, w.tr);
    w.col_tiles = w.m.by_row ? 1 : ceil_div(w.m.cols, w.tc);
    return w;
}

#define REFUSE(...)                                                                                \
    do {                                                                                           \
        if (why) kiln_text_printf(why, __VA_ARGS__);                                               \
        return false;                                                                              \
    } while (0)

static bool power_of_two(int n) { return n > 0 && (n & (n - 1)) == 0; }

static bool stream_legal(const kiln_problem *p, const view *w, const kiln_caps *caps,
                         kiln_text *why) {
    if (!w->m.full_output) REFUSE("nt=1: no output has the columns' axis");
    if (!w->m.flat && w->m.cols % w->v)
        REFUSE("nt=1: rows of %lld elements are not aligned to vectors of %d",
               (long long)w->m.cols, w->v);
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        const int bytes = w->v * (int)kiln_type_bytes(o->type);
        if (!o->output || o->axes != KILN_MAP_FULL) continue;
        if (bytes < 16) REFUSE("nt=1: stores of %d bytes cannot bypass the caches", bytes);
        if (bytes > caps->align_bytes)
            REFUSE("nt=1: stores of %d bytes, buffers are aligned to %d", bytes,
                   caps->align_bytes);
    }
    return true;
}

enum { KEEP_MAX = 65536 }; /* floats on the stack of a work-item */

static bool keep_legal(const kiln_problem *p, const view *w, kiln_text *why) {
    if (kiln_map_kept(p) < 0) REFUSE("keep=%d: no value is worth keeping between phases", w->keep);
    if (w->keep < 16 || w->keep % 16 || w->keep > KEEP_MAX)
        REFUSE("keep=%d: a multiple of 16 up to %d", w->keep, KEEP_MAX);
    if (w->keep < w->m.cols)
        REFUSE("keep=%d: rows have %lld elements", w->keep, (long long)w->m.cols);
    return true;
}

static bool legal(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *why) {
    const view w = view_of(p, s);
    if (caps->kind != KILN_DEVICE_CPU) REFUSE("cpu is for devices that are processors");
    if (w.v != 4 && w.v != 8 && w.v != 16) REFUSE("v=%d: a vector has 4, 8 or 16 floats", w.v);
    if (!power_of_two(w.u) || w.u > 8) REFUSE("u=%d: 1, 2, 4 or 8 vectors", w.u);
    if (w.tr < 1) REFUSE("tr=%d: a work-item has at least one row", w.tr);
    if (w.m.flat && w.tr != 1) REFUSE("tr=%d: a flat range has one row", w.tr);
    if (w.tc < 16 || w.tc % 16) REFUSE("tc=%d: columns of a work-item are a multiple of 16", w.tc);
    if (w.nt != 0 && w.nt != 1) REFUSE("nt=%d: 0 or 1", w.nt);
    if (w.pf < 0 || w.pf > 2) REFUSE("pf=%d: 0, 1 or 2", w.pf);
    if (w.pf == 1 && !w.m.by_row) REFUSE("pf=1: nothing here goes by whole rows");
    if (w.keep && !keep_legal(p, &w, why)) return false;
    if (w.row_tiles * w.col_tiles > INT32_MAX)
        REFUSE("tr=%d tc=%d: %lld work-items are too many", w.tr, w.tc,
               (long long)(w.row_tiles * w.col_tiles));
    return !w.nt || stream_legal(p, &w, caps, why);
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
    memset(out, 0, sizeof *out);
    out->n_launches = 1;
    kiln_launch *l = &out->launch[0];
    strcpy(l->entry, "main");
    l->grid[0] = (uint32_t)(w.row_tiles * w.col_tiles);
    l->grid[1] = l->grid[2] = 1;
    l->block[0] = l->block[1] = l->block[2] = 1;
    kiln_map_arguments(p, l);
    return KILN_OK;
}

const kiln_variant kiln_map_cpu = {
    .name = "cpu",
    .help = "one work-item per tile, explicit vectors, for OpenCL on processors",
    /* revision 2: keep */
    .revision = 2,
    .knobs = knobs,
    .legal = legal,
    .program = program,
};

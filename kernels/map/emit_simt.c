/* simt: which schedules are worth trying, where to start, the program's text. */
#include "kernels/map/map.h"

#include "kernels/emit.h"

bool kiln_map_simt_applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    (void)p, (void)caps, (void)why;
    return true; /* every device runs blocks of threads */
}

/* Elements in 16 bytes of the widest operand, if rows stay aligned. */
static int widest_vector(const kiln_map_shape *m) {
    return m->flat ? 16 / m->widest : kiln_map_divisor(m->cols, 16 / m->widest);
}

/* Vectors as wide as an access, half of that, and for a flat range two accesses; no more than rows
 * are aligned to. */
static void add_vectors(const kiln_map_shape *m, kiln_space *out) {
    int values[3], n = 0;
    const int widest = widest_vector(m);
    if (widest > 1) values[n++] = widest / 2;
    values[n++] = widest;
    if (m->flat && 2 * widest <= 16) values[n++] = 2 * widest;
    kiln_space_add(out, "v", n, values);
}

/* Rows side by side only where a row is too short for a block. */
static void add_rows(const kiln_map_shape *m, kiln_space *out) {
    static const int rows[] = {1, 2, 4, 8, 16, 32};
    if (!m->flat) kiln_space_add(out, "tr", m->cols >= 4096 ? 1 : m->cols >= 1024 ? 3 : 6, rows);
}

void kiln_map_simt_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    static const int threads[] = {64, 128, 256, 512, 1024}, flights[] = {1, 2, 4, 8, 16},
                     waves[] = {0, 8}, either[] = {0, 1}, registers[] = {0, 32, 48, 64};
    *out = (kiln_space){.variant = &kiln_map_simt};
    kiln_space_add(out, "t", 5, threads);
    add_rows(&m, out);
    add_vectors(&m, out);
    kiln_space_add(out, "u", m.by_row ? 5 : 4, flights);
    if (m.n_phases > 1) kiln_space_add(out, "keep", 2, either);
    kiln_space_add(out, "wave", 2, waves);
    if (!caps->arch_number) return;
    kiln_space_add(out, "ld", 2, either);
    if (m.full_output) kiln_space_add(out, "st", 2, either);
    kiln_space_add(out, "regs", 4, registers);
}

static bool fits(const kiln_map_shape *m, int lanes, int step) {
    return (int64_t)lanes * step >= m->cols;
}

/* Whole rows in registers: 16 words of each operand in up to 256 threads, because many small
 * blocks hide each other's reductions best; then more words, then larger blocks. */
static void start_rows(const kiln_map_shape *m, const kiln_caps *caps, kiln_schedule *s) {
    const int v = kiln_schedule_get(s, "v"), inputs = m->full_inputs ? m->full_inputs : 1;
    const int words = v * m->widest * inputs / 4; /* of an access; at most 64 are kept */
    int lanes = 8, u = 1;
    while (u < 4 && !fits(m, lanes, v * u)) u *= 2;
    while (lanes < 256 && !fits(m, lanes, v * u)) lanes *= 2;
    if (!fits(m, lanes, v * u) && words * u <= 16) u *= 2;
    while (lanes < 1024 && lanes < caps->max_threads && !fits(m, lanes, v * u) &&
           fits(m, 1024, v * u))
        lanes *= 2;
    const bool keep = m->n_phases > 1 && fits(m, lanes, v * u);
    if (!fits(m, lanes, v * u)) u = words <= 8 ? 4 : 1;
    const int t = lanes > 128 ? lanes : 128;
    kiln_schedule_set(s, "t", t);
    kiln_schedule_set(s, "tr", t / lanes);
    kiln_schedule_set(s, "u", u);
    kiln_schedule_set(s, "keep", keep);
    if (caps->arch_number && keep && t == 512) kiln_schedule_set(s, "regs", 64); /* two blocks */
}

/* Two accesses of each operand, and room for five blocks of 256: a statement that takes more registers
 * than that is faster with fewer of them (the README has figures). */
static void start_tiles(const kiln_map_shape *m, const kiln_caps *caps, kiln_schedule *s) {
    kiln_schedule_set(s, "u", m->full_inputs > 2 ? 1 : 2);
    if (caps->arch_number && m->widest == 2 && m->full_inputs <= 2)
        kiln_schedule_set(s, "regs", 48);
}

kiln_schedule kiln_map_simt_start(const kiln_problem *p, const kiln_caps *caps) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    kiln_schedule s = kiln_variant_default(&kiln_map_simt);
    const kiln_schedule plain = s;
    kiln_schedule_set(&s, "v", widest_vector(&m));
    if (m.by_row) start_rows(&m, caps, &s);
    else start_tiles(&m, caps, &s);
    const bool once = m.n_phases == 1 || kiln_schedule_get(&s, "keep"); /* else L1 helps */
    if (caps->arch_number) kiln_schedule_set(&s, "ld", once);
    if (caps->arch_number) kiln_schedule_set(&s, "st", m.full_output);
    return kiln_map_simt.legal(p, caps, &s, 0) ? s : plain;
}

int kiln_map_simt_source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_emit_define(out, &undefs, "REAL", "float");
    kiln_map_emit_lists(p, out, &undefs);
    kiln_map_emit_functions(p, out);
    kiln_text_add(out, kiln_embedded("kernels/map/simt.k.c"));
    kiln_text_add(out, kiln_text_get(&undefs));
    const bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the program's text") : KILN_OK;
}

/* cpu: which schedules are worth trying, where to start, the program's text. */
#include "kernels/map/map.h"

#include "kernels/emit.h"

bool kiln_map_cpu_applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    (void)p;
    if (caps->kind == KILN_DEVICE_CPU) return true;
    if (why) kiln_text_add(why, "cpu is for devices that are processors");
    return false;
}

/* What `keep` must be for this row: a power of two, so that one kernel serves many sizes. */
static int keep_of(const kiln_problem *p) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    int keep = 1024;
    if (m.cols > 65536 || kiln_map_kept(p) < 0) return 0;
    while (keep < m.cols) keep *= 2;
    return keep;
}

void kiln_map_cpu_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int vectors[] = {caps->vector_bits < 256 ? 4 : 8, caps->vector_bits < 256 ? 8 : 16};
    const int flights[] = {1, 2, 4}, rows[] = {1, 4, 16, 64}, either[] = {0, 1};
    const int columns[] = {4096, 16384, 65536}, flat[] = {1024, 4096, 16384, 65536, 262144};
    const int ahead[] = {0, 2, 1}, keep[] = {0, keep_of(p)};
    *out = (kiln_space){.variant = &kiln_map_cpu};
    kiln_space_add(out, "v", 2, vectors);
    kiln_space_add(out, "u", 3, flights);
    if (!m.flat) kiln_space_add(out, "tr", 4, rows);
    if (!m.by_row) kiln_space_add(out, "tc", m.flat ? 5 : 3, m.flat ? flat : columns);
    if (m.full_output) kiln_space_add(out, "nt", 2, either);
    kiln_space_add(out, "pf", m.by_row ? 3 : 2, ahead);
    if (keep[1]) kiln_space_add(out, "keep", 2, keep);
}

/* Rows of a work-item: about 256 K elements, and enough work-items to keep all cores busy. */
static int start_rows(const kiln_map_shape *m, const kiln_caps *caps) {
    int rows = 1;
    if (m->flat) return 1;
    while (rows < 64 && 4 * rows * m->cols <= 262144 && 32 * rows * caps->units <= m->rows)
        rows *= 4;
    return rows;
}

/* The device's own vectors, two in flight, stores around the caches, reads asked for early. */
kiln_schedule kiln_map_cpu_start(const kiln_problem *p, const kiln_caps *caps) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int own = caps->vector_bits / 32;
    kiln_schedule s = kiln_variant_default(&kiln_map_cpu);
    kiln_schedule_set(&s, "v", own < 4 ? 4 : own > 16 ? 16 : own);
    kiln_schedule_set(&s, "u", 2);
    kiln_schedule_set(&s, "tr", start_rows(&m, caps));
    kiln_schedule_set(&s, "nt", 1);
    kiln_schedule_set(&s, "pf", m.n_phases > 1 && m.full_output ? 1 : 2);
    kiln_schedule_set(&s, "keep", keep_of(p));
    if (kiln_map_cpu.legal(p, caps, &s, 0)) return s;
    kiln_schedule_set(&s, "nt", 0);
    return s;
}

static void emit_kept(const kiln_problem *p, const kiln_schedule *s, kiln_text *out,
                      kiln_text *undefs) {
    const int kept = kiln_schedule_get(s, "keep") ? kiln_map_kept(p) : -1;
    kiln_emit_define(out, undefs, "KEPT", "%d", kept);
    kiln_emit_define(out, undefs, "FINISH", kept < 0 ? "NAME(finish)" : "NAME(finish_kept)");
    if (kept < 0) return;
    kiln_map_emit_kept(p, kept, out, undefs);
}

int kiln_map_cpu_source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_emit_define(out, &undefs, "REAL", "float%d", kiln_schedule_get(s, "v"));
    kiln_map_emit_lists(p, out, &undefs);
    kiln_map_emit_functions(p, out);
    emit_kept(p, s, out, &undefs);
    kiln_text_add(out, kiln_embedded("kernels/map/cpu.k.c"));
    kiln_text_add(out, kiln_text_get(&undefs));
    const bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the program's text") : KILN_OK;
}

/* cpu: which schedules are worth trying, where to start, the program's text. */
#include "kernels/map/map.h"

#include "kernels/emit.h"

bool kiln_map_cpu_applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    (void)p;
    if (caps->kind == KILN_DEVICE_CPU) return true;
    if (why) kiln_text_add(why, "cpu is for devices that are processors");
    return false;
}

void kiln_map_cpu_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int vectors[] = {4, 8, 16}, flights[] = {1, 2, 4, 8}, rows[] = {1, 2, 4, 8, 16, 32, 64};
    const int columns[] = {1024, 4096, 16384, 65536, 262144}, either[] = {0, 1};
    (void)caps;
    *out = (kiln_space){.variant = &kiln_map_cpu};
    kiln_space_add(out, "v", 3, vectors);
    kiln_space_add(out, "u", 4, flights);
    if (!m.flat) kiln_space_add(out, "tr", 7, rows);
    if (!m.by_row) kiln_space_add(out, "tc", 5, columns);
    if (m.full_output) kiln_space_add(out, "nt", 2, either);
    if (m.by_row) kiln_space_add(out, "pf", 2, either);
}

/* The device's own vectors, two in flight, work-items of about 64 K elements. */
kiln_schedule kiln_map_cpu_start(const kiln_problem *p, const kiln_caps *caps) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int own = caps->vector_bits / 32;
    kiln_schedule s = kiln_variant_default(&kiln_map_cpu);
    kiln_schedule_set(&s, "v", own < 4 ? 4 : own > 16 ? 16 : own);
    kiln_schedule_set(&s, "u", 2);
    int rows = 1;
    while (!m.flat && rows < 64 && rows * m.cols < 65536 && rows * 16 < m.rows) rows *= 2;
    kiln_schedule_set(&s, "tr", rows);
    kiln_schedule_set(&s, "nt", 1);
    kiln_schedule_set(&s, "pf", m.n_phases > 2);
    if (kiln_map_cpu.legal(p, caps, &s, 0)) return s;
    kiln_schedule_set(&s, "nt", 0);
    return s;
}

int kiln_map_cpu_source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_emit_define(out, &undefs, "REAL", "float%d", kiln_schedule_get(s, "v"));
    kiln_map_emit_lists(p, out, &undefs);
    kiln_map_emit_functions(p, out);
    kiln_text_add(out, kiln_embedded("kernels/map/cpu.k.c"));
    kiln_text_add(out, kiln_text_get(&undefs));
    const bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the program's text") : KILN_OK;
}

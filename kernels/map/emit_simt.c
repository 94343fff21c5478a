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

void kiln_map_simt_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    const int threads[] = {32, 64, 128, 256, 512, 1024}, vectors[] = {1, 2, 4, 8, 16};
    const int rows[] = {1, 2, 4, 8, 16, 32}, flights[] = {1, 2, 4, 8}, waves[] = {0, 1, 2, 4, 8, 16};
    const int either[] = {0, 1};
    int n_vectors = 1;
    while (n_vectors < 5 && vectors[n_vectors - 1] < widest_vector(&m)) n_vectors++;
    if (n_vectors < 5 && vectors[n_vectors] * m.widest <= 32) n_vectors++; /* two accesses of 16 */
    *out = (kiln_space){.variant = &kiln_map_simt};
    kiln_space_add(out, "t", 6, threads);
    if (!m.flat) kiln_space_add(out, "tr", 6, rows);
    kiln_space_add(out, "v", n_vectors, vectors);
    kiln_space_add(out, "u", 4, flights);
    if (m.n_phases > 1) kiln_space_add(out, "keep", 2, either);
    kiln_space_add(out, "wave", 6, waves);
    if (!caps->arch_number) return;
    kiln_space_add(out, "ld", 2, either);
    if (m.full_output) kiln_space_add(out, "st", 2, either);
}

/* Whole rows in registers when 16 elements per thread and 1024 threads hold them. */
static void start_rows(const kiln_map_shape *m, const kiln_caps *caps, kiln_schedule *s) {
    const int v = kiln_schedule_get(s, "v"), most = 16;
    int lanes = 8, u = 1;
    while (u < 4 && v * u * 2 <= most && (int64_t)lanes * v * u < m->cols) u *= 2;
    while (lanes < 256 && (int64_t)lanes * v * u < m->cols) lanes *= 2;
    while (lanes < 1024 && lanes < caps->max_threads && (int64_t)lanes * v * u < m->cols &&
           (int64_t)1024 * v * u >= m->cols)
        lanes *= 2;
    const int t = lanes > 128 ? lanes : 128;
    kiln_schedule_set(s, "t", t);
    kiln_schedule_set(s, "tr", t / lanes);
    kiln_schedule_set(s, "u", u);
    kiln_schedule_set(s, "keep", m->n_phases > 1 && (int64_t)lanes * v * u >= m->cols);
}

kiln_schedule kiln_map_simt_start(const kiln_problem *p, const kiln_caps *caps) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    kiln_schedule s = kiln_variant_default(&kiln_map_simt);
    const kiln_schedule plain = s;
    kiln_schedule_set(&s, "v", widest_vector(&m));
    if (m.by_row) start_rows(&m, caps, &s);
    else kiln_schedule_set(&s, "u", m.full_inputs > 2 ? 1 : 2);
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

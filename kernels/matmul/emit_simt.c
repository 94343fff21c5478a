/* Space, start and source of the simt kernel. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <math.h>

static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    (void)p;
    (void)caps;
    (void)why;
    return true;
}

#define ADD(space, name, ...)                                                                      \
    kiln_space_add(space, name, (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)),                 \
                   (int[]){__VA_ARGS__})

/* The widest legal width up to 16 bytes of each operand; 1 always is. */
typedef struct widths {
    int a, b, out;
} widths;

static int widest(int64_t contiguous, int64_t ld, kiln_type t, const kiln_caps *caps) {
    int bytes = (int)kiln_type_bytes(t), w = 16 / bytes < 8 ? 16 / bytes : 8;
    while (w > 1 && (contiguous % w || ld % w || caps->align_bytes % (w * bytes))) w /= 2;
    return w;
}

static widths widths_of(const kiln_problem *p, const kiln_caps *caps) {
    matmul v = kiln_matmul_view(p);
    widths w = {widest(v.ta ? v.m : v.k, v.lda, v.a, caps),
                widest(v.tb ? v.k : v.n, v.ldb, v.b, caps), 4};
    while (w.out > 1 && !kiln_matmul_epilogue_aligned(p, caps, w.out, NULL)) w.out /= 2;
    return w;
}

static void add_width(kiln_space *out, const char *name, int widest_legal) {
    int values[4] = {1}, n = 1;
    if (widest_legal >= 4) values[n++] = 4;
    if (widest_legal != 4 && widest_legal > 1) values[n++] = widest_legal;
    kiln_space_add(out, name, n, values);
}

static bool needs_split(const matmul *v, const kiln_caps *caps) {
    return (v->m + 63) / 64 * ((v->n + 63) / 64) * v->batch < 2 * caps->units && v->k >= 256;
}

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    *out = (kiln_space){.variant = &kiln_matmul_simt};
    if (caps->kind == KILN_DEVICE_CPU) return; /* one point: it only shows that cpu is better */
    matmul v = kiln_matmul_view(p);
    widths w = widths_of(p, caps);
    if (v.m <= 16)
        ADD(out, "tm", 16, 64);
    else
        ADD(out, "tm", 32, 64, 128);
    ADD(out, "tn", 64, 128);
    ADD(out, "tk", 8, 16);
    if (v.m <= 16)
        ADD(out, "rm", 1, 2, 4);
    else
        ADD(out, "rm", 4, 8);
    ADD(out, "rn", 4, 8);
    add_width(out, "va", w.a);
    add_width(out, "vb", w.b);
    add_width(out, "vo", w.out);
    ADD(out, "buffers", 1, 2);
    if (needs_split(&v, caps)) ADD(out, "split", 1, 2, 4, 8);
    ADD(out, "pad", 0, 4);
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps) {
    kiln_schedule s = kiln_variant_default(&kiln_matmul_simt), best = s;
    if (caps->kind == KILN_DEVICE_CPU) return s;
    matmul v = kiln_matmul_view(p);
    widths w = widths_of(p, caps);
    int64_t big_blocks = (v.m + 127) / 128 * ((v.n + 127) / 128) * v.batch;
    bool big = big_blocks >= caps->units && v.m > 16;
    kiln_schedule_set(&s, "tm", v.m <= 16 ? 16 : big ? 128 : 64);
    kiln_schedule_set(&s, "tn", big ? 128 : 64);
    kiln_schedule_set(&s, "rm", big ? 8 : 4);
    kiln_schedule_set(&s, "rn", big ? 8 : 4);
    kiln_schedule_set(&s, "va", w.a > 4 ? 4 : w.a);
    kiln_schedule_set(&s, "vb", w.b > 4 ? 4 : w.b);
    kiln_schedule_set(&s, "vo", w.out);
    kiln_schedule_set(&s, "buffers", 2);
    kiln_schedule_set(&s, "pad", 4);
    if (needs_split(&v, caps)) kiln_schedule_set(&s, "split", 4);
    if (kiln_matmul_simt.legal(p, caps, &s, NULL)) return s;
    kiln_schedule_set(&s, "split", 1);
    return kiln_matmul_simt.legal(p, caps, &s, NULL) ? s : best;
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_matmul_emit_tops(out, p);
    kiln_matmul_emit_epilogue(out, p, "finish", kiln_schedule_get(s, "vo"));
    kiln_text_add(out, kiln_embedded("kernels/matmul/simt.k.c"));
    kiln_text_add(out, "#undef TX\n#undef TY\n#undef SHARE\n#undef THREADS\n#undef ELEMENT\n");
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of a matmul kernel")
                  : KILN_OK;
}

/* Seconds on a GPU whose tensor cores other variants use: a quarter of the rate of its float units
 * where a unit has 8 warps and more, in whole rounds of blocks. Fitted to 631 schedules of 16-bit
 * products on an H200 (results/data), which it meets within a factor of 1.6 (standard deviation).
 * Without such a rival there is nothing to rank by this. */
static double estimate(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s) {
    matmul v = kiln_matmul_view(p);
    if (caps->arch_number < 80 || v.a == KILN_F32 || v.a != v.b) return NAN;
    double tm = kiln_schedule_get(s, "tm"), tn = kiln_schedule_get(s, "tn");
    double split = kiln_schedule_get(s, "split"), units = caps->units > 0 ? caps->units : 1;
    double blocks = ceil((double)v.m / tm) * ceil((double)v.n / tn) * (double)v.batch * split;
    double each = fmax(1, blocks / units); /* of a unit; up to 4 at once */
    double threads = tm * tn / (kiln_schedule_get(s, "rm") * kiln_schedule_get(s, "rn"));
    double full = fmin(1, fmin(each, 4) * threads / 256);
    return ceil(each) * tm * tn * (double)v.k / split / (128 * 0.26 * 1.7e9 * full) + 5e-6 +
           (split > 1 ? 3e-6 : 0);
}

const kiln_variant_generator kiln_matmul_simt_generator = {
    .variant = &kiln_matmul_simt,
    .applies = applies,
    .space = space,
    .start = start,
    .source = source,
    .estimate = estimate,
};

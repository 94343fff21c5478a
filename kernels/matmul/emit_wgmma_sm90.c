/* wgmma_sm90: where it applies, its space, where to start, its source. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <stdio.h>

static bool eight_bit_float(kiln_type t) { return t == KILN_E4M3 || t == KILN_E5M2; }

static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why) {
    matmul v = kiln_matmul_view(p);
    if (caps->arch_number != 90)
        return kiln_matmul_no(why, "wgmma is an instruction of compute capability 9.0 alone");
    bool sixteen = v.a == v.b && (v.a == KILN_F16 || v.a == KILN_BF16);
    bool rest = (eight_bit_float(v.a) && eight_bit_float(v.b)) ||
                (v.a == v.b && (v.a == KILN_I8 || v.a == KILN_TF32));
    if (!sixteen && !rest)
        return kiln_matmul_no(why, "wgmma has no product of %s and %s", kiln_type_name(v.a),
                              kiln_type_name(v.b));
    if (rest && (v.ta || !v.tb))
        return kiln_matmul_no(why, "wgmma takes %s only where it is contiguous along k",
                              kiln_type_name(v.a));
    int64_t element = (int64_t)kiln_type_bytes(v.a);
    if ((v.lda | v.ldb) * element % 16)
        return kiln_matmul_no(why, "rows of %lld and %lld bytes: TMA needs multiples of 16",
                              (long long)(v.lda * element), (long long)(v.ldb * element));
    return true;
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

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out) {
    matmul v = kiln_matmul_view(p);
    int line = 128 / (int)kiln_type_bytes(v.a);
    *out = (kiln_space){.variant = &kiln_matmul_wgmma_sm90};
    if (v.m <= 256)
        ADD(out, "tm", 8, 16, 32, 64, 128, 256);
    else
        ADD(out, "tm", 64, 128, 192, 256);
    if (v.n <= 256)
        ADD(out, "tn", 8, 16, 32, 64, 128, 256);
    else
        ADD(out, "tn", 64, 128, 192, 256);
    ADD(out, "tk", line, 2 * line);
    ADD(out, "consumers", 1, 2, 3);
    ADD(out, "pingpong", 0, 1);
    if (v.m <= 256)
        ADD(out, "swap", 0, 1);
    else
        ADD(out, "swap", 0);
    ADD(out, "stages", 3, 4, 5, 6, 8, 12);
    ADD(out, "cluster_m", 1, 2, 4);
    ADD(out, "cluster_n", 1, 2, 4);
    ADD(out, "group", 4, 8, 16);
    ADD(out, "order", 0, 1, 2);
    ADD(out, "stream", 0, 1);
    ADD(out, "tma_store", 0, 1);
    ADD(out, "store", widest_store(p, caps));
    ADD(out, "evict", 0, 1, 2);
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps) {
    kiln_schedule s = kiln_variant_default(&kiln_matmul_wgmma_sm90);
    matmul v = kiln_matmul_view(p);
    kiln_schedule_set(&s, "tk", 128 / (int)kiln_type_bytes(v.a));
    kiln_schedule_set(&s, "store", widest_store(p, caps));
    return s;
}

/* ---- the instruction for the tile's width: its operands cannot be a loop */

static const char *wgmma_type(kiln_type t) {
    return t == KILN_I8 ? "s8" : kiln_type_name(t);
}

static void emit_wgmma(kiln_text *out, const matmul *v, const kiln_schedule *s) {
    bool swap = kiln_schedule_get(s, "swap"), sixteen = v->a == KILN_F16 || v->a == KILN_BF16;
    int width = kiln_schedule_get(s, swap ? "tm" : "tn"), sums = width / 2;
    bool x_across = swap ? !v->tb : v->ta, y_across = swap ? v->ta : !v->tb;
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
    for (int i = 0; i < sums; i++)
        kiln_text_printf(out, "%%%d%s", i, i + 1 < sums ? "," : "}, ");
    kiln_text_printf(out, "%%%d, %%%d, keep", sums, sums + 1);
    if (v->acc != KILN_I32) kiln_text_add(out, ", 1, 1");
    if (sixteen) kiln_text_printf(out, ", %d, %d", x_across, y_across);
    kiln_text_add(out, ";\\n}\"\n                 : ");
    for (int i = 0; i < sums; i++)
        kiln_text_printf(out, "\"+%s\"(d[%d])%s", v->acc == KILN_I32 ? "r" : "f", i,
                         i + 1 < sums ? (i % 6 == 5 ? ",\n                   " : ", ") : "\n");
    kiln_text_add(out, "                 : \"l\"(x), \"l\"(y), \"r\"(keep));\n}\n#endif\n");
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e) {
    static const char *const layers[] = {"parameters", "instruction", "multiply",
                                         "order",      "epilogue",    "kernel"};
    (void)caps;
    matmul v = kiln_matmul_view(p);
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_emit_define(out, &undefs, "PACK_A", "0");
    kiln_emit_define(out, &undefs, "PACK_B", "0");
    kiln_emit_define(out, &undefs, "EIGHT_BIT_FLOAT", "%d", eight_bit_float(v.a));
    kiln_emit_define(out, &undefs, "FAST", "%d", v.fast);
    kiln_emit_define(out, &undefs, "WIDE_OUT", "%d", kiln_type_bytes(v.out) == 4);
    kiln_matmul_emit_epilogue(out, p, "finish", kiln_schedule_get(s, "store"));
    if (kiln_schedule_get(s, "tma_store")) kiln_matmul_emit_value(out, p, "value", 2);
    emit_wgmma(out, &v, s);
    for (int i = 0; i < (int)(sizeof layers / sizeof *layers); i++) {
        char path[64];
        snprintf(path, sizeof path, "kernels/matmul/wgmma_sm90/%s.cuh", layers[i]);
        kiln_text_add(out, kiln_embedded(path));
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
    .source = source,
};

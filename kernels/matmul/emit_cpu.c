/* Space, start and source of the packed CPU kernel. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <string.h>

static bool applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why)
{
    (void)p;
    if (caps->kind == KILN_DEVICE_CPU && !strcmp(caps->target, "opencl")) return true;
    return kiln_matmul_no(why, "variant cpu is for CPUs through OpenCL, not for %s", caps->name);
}

#define ADD(space, name, ...)                                                                      \
    kiln_space_add(space, name, (int)(sizeof(int[]){__VA_ARGS__} / sizeof(int)),                   \
                   (int[]){__VA_ARGS__})

static void space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out)
{
    matmul v = kiln_matmul_view(p);
    out->variant = &kiln_matmul_cpu;
    if (caps->vector_bits >= 512)
        ADD(out, "vl", 16, 8);
    else
        ADD(out, "vl", 8, 4);
    ADD(out, "mr", 4, 6, 8, 9, 12, 13, 14);
    ADD(out, "nv", 1, 2, 3);
    ADD(out, "kc", 128, 256, 384, 512, 768);
    ADD(out, "mp", 4, 8, 16, 32);
    ADD(out, "np", 2, 4, 8, 16);
    ADD(out, "uk", 1, 4, 8);
    ADD(out, "pfb", 0, 8, 16);
    ADD(out, "order", 0, 1);
    if (v.plain && v.out == KILN_F32 && v.acc == KILN_F32)
        ADD(out, "part", 0, 1);
}

static kiln_schedule start(const kiln_problem *p, const kiln_caps *caps)
{
    (void)p;
    kiln_schedule s = kiln_variant_default(&kiln_matmul_cpu);
    if (caps->vector_bits < 512) return s;
    kiln_schedule_set(&s, "vl", 16);
    kiln_schedule_set(&s, "mr", 12);
    kiln_schedule_set(&s, "kc", 384);
    kiln_schedule_set(&s, "mp", 8);
    kiln_schedule_set(&s, "pfb", 16);
    return s;
}

static int source(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                  kiln_text *out, kiln_error *e)
{
    (void)caps;
    kiln_text undefs = {0};
    kiln_emit_knobs(out, &undefs, s);
    kiln_matmul_emit_problem(out, &undefs, p);
    kiln_matmul_emit_epilogue(out, p, "finish_one", 1);
    kiln_text_add(out, kiln_embedded("kernels/matmul/vector.k.c"));
    kiln_matmul_emit_epilogue_vector(out, p, "finish");
    kiln_text_add(out, kiln_embedded("kernels/matmul/cpu.k.c"));
    kiln_text_add(out, "#undef REAL\n#undef INTV\n#undef UINTV\n#undef VLOAD\n#undef VSTORE\n");
    kiln_text_add(out, kiln_text_get(&undefs));
    bool failed = out->failed || undefs.failed;
    kiln_text_free(&undefs);
    return failed ? kiln_fail(e, KILN_NO_MEMORY, "no memory for the source of a matmul kernel") : KILN_OK;
}

const kiln_variant_generator kiln_matmul_cpu_generator = {
    .variant = &kiln_matmul_cpu,
    .applies = applies,
    .space = space,
    .start = start,
    .source = source,
};

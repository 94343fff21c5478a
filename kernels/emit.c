#include "kernels/emit.h"

#include "base/hash.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SUFFIX_BYTES = 8 };

const kiln_generator *kiln_generator_of(const kiln_family *f) {
    for (const kiln_generator *const *g = kiln_generators; *g; g++)
        if ((*g)->family == f) return *g;
    return NULL;
}

const kiln_variant_generator *kiln_variant_generator_of(const kiln_variant *v) {
    for (const kiln_generator *const *g = kiln_generators; *g; g++)
        for (const kiln_variant_generator *vg = (*g)->variants; vg->variant; vg++)
            if (vg->variant == v) return vg;
    return NULL;
}

/* ---- macros */

void kiln_emit_define(kiln_text *out, kiln_text *undefs, const char *name, const char *format,
                      ...) {
    char value[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(value, sizeof value, format, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof value) out->failed = true;
    kiln_text_printf(out, "#define %s %s\n", name, value);
    kiln_text_printf(undefs, "#undef %s\n", name);
}

/* Macros may be defined twice, in branches of an #if: to undefine one again does no harm. */
void kiln_emit_body(kiln_text *out, kiln_text *undefs, const char *path) {
    const char *body = kiln_embedded(path);
    kiln_text_add(out, body);
    for (const char *line = body; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, "#define ", 8))
            kiln_text_printf(undefs, "#undef %.*s\n", (int)strcspn(line + 8, "( \t\n"), line + 8);
}

void kiln_emit_knobs(kiln_text *out, kiln_text *undefs, const kiln_schedule *s) {
    for (int i = 0; s->variant->knobs[i].name; i++) {
        char name[64];
        size_t n = 0;
        for (const char *c = s->variant->knobs[i].name; *c && n + 1 < sizeof name; c++)
            name[n++] = (char)toupper((unsigned char)*c);
        name[n] = 0;
        kiln_emit_define(out, undefs, name, "%d", s->value[i]);
    }
}

/* ---- units */

static int add_dialect(const kiln_caps *caps, kiln_text *out, kiln_error *e) {
    char path[64];
    snprintf(path, sizeof path, "targets/%s/dialect.h", caps->target);
    const char *dialect = kiln_embedded(path);
    if (!dialect)
        return kiln_fail(e, KILN_UNSUPPORTED, "target %s has no %s in this build", caps->target,
                         path);
    kiln_text_add(out, dialect);
    return 0;
}

static void name_program(const kiln_text *program, char suffix[20]) {
    uint8_t digest[32];
    kiln_sha256_of(kiln_text_get(program), program->size, digest);
    kiln_hex(digest, SUFFIX_BYTES, suffix);
}

static int finish(kiln_text *out, kiln_error *e) {
    if (!out->failed) return 0;
    return kiln_fail(e, KILN_NO_MEMORY, "out of memory while writing a program's source");
}

static int write_program(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                         kiln_text *program, kiln_error *e) {
    const kiln_variant_generator *g = kiln_variant_generator_of(s->variant);
    if (!g)
        return kiln_fail(e, KILN_UNSUPPORTED, "variant %s has no generator in this build",
                         s->variant->name);
    kiln_text_clear(program);
    int status = g->source(p, caps, s, program, e);
    return status ? status : finish(program, e);
}

/* Two schedules may give the same text: their program stands in the unit once. */
static bool is_new(char (*suffix)[20], int i) {
    for (int k = 0; k < i; k++)
        if (!strcmp(suffix[k], suffix[i])) return false;
    return true;
}

int kiln_emit_unit(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *schedules,
                   int n, char (*suffix)[20], kiln_text *out, kiln_error *e) {
    kiln_text program = {0};
    int status = add_dialect(caps, out, e);
    for (int i = 0; i < n && !status; i++) {
        status = write_program(p, caps, &schedules[i], &program, e);
        if (status) break;
        name_program(&program, suffix[i]);
        if (!is_new(suffix, i)) continue;
        kiln_text_printf(out, "\n#define NAME(x) kiln_%s_##x\n", suffix[i]);
        kiln_text_add(out, kiln_text_get(&program));
        kiln_text_add(out, "\n#undef NAME\n");
    }
    kiln_text_free(&program);
    return status ? status : finish(out, e);
}

/* ---- the reference unit */

/* Integers: half a unit of rounding, whatever the size. A float type's smallest error is that of
 * its subnormals, or all of the smallest normal number where devices flush to zero. lowest: types
 * that saturate, where a result beyond their range is right at its end. */
static const struct {
    const char *roundoff, *smallest, *limit, *lowest;
    bool integer;
} comparison[KILN_TYPE_COUNT] = {
    [KILN_F32] = {"5.9604644775390625e-8", "1.2e-38", "3.4028234663852886e38", NULL, false},
    [KILN_F16] = {"4.8828125e-4", "3.0e-8", "65504.0", NULL, false},
    [KILN_BF16] = {"3.90625e-3", "1.2e-38", "3.3895313892515355e38", NULL, false},
    [KILN_E4M3] = {"0.0625", "9.765625e-4", "448.0", "(-448.0)", false},
    [KILN_E5M2] = {"0.125", "7.62939453125e-6", "57344.0", "(-57344.0)", false},
    [KILN_I32] = {"0.5", "0.0", "2147483647.0", "(-2147483648.0)", true},
    [KILN_I8] = {"0.5", "0.0", "127.0", "(-128.0)", true},
};

static int add_comparison(const kiln_operand *o, const kiln_caps *caps, int j, kiln_text *out,
                          kiln_error *e) {
    kiln_text undefs = {0};
    if (!comparison[o->type].limit)
        return kiln_fail(e, KILN_UNSUPPORTED, "output %s: type %s cannot be compared on a device",
                         o->name, kiln_type_name(o->type));
    kiln_emit_define(out, &undefs, "T", "%s", kiln_type_name(o->type));
    kiln_emit_define(out, &undefs, "U_T", "%s", comparison[o->type].roundoff);
    kiln_emit_define(out, &undefs, "SMALLEST", "%s", comparison[o->type].smallest);
    kiln_emit_define(out, &undefs, "LIMIT", "%s", comparison[o->type].limit);
    kiln_emit_define(out, &undefs, "SATURATES", "%d", comparison[o->type].lowest != NULL);
    if (comparison[o->type].lowest)
        kiln_emit_define(out, &undefs, "LOWEST", "%s", comparison[o->type].lowest);
    kiln_emit_define(out, &undefs, "INTEGER", "%d", comparison[o->type].integer);
    kiln_emit_define(out, &undefs, "THREADS", "%d", caps->kind == KILN_DEVICE_CPU ? 1 : 128);
    kiln_emit_define(out, &undefs, "ENTRY", "NAME(compare_%d)", j);
    kiln_text_add(out, kiln_embedded("kernels/compare.k.c"));
    kiln_text_printf(out, "#undef HUGE_DOUBLE\n%s", kiln_text_get(&undefs));
    out->failed |= undefs.failed;
    kiln_text_free(&undefs);
    return 0;
}

int kiln_emit_reference_unit(const kiln_problem *p, const kiln_caps *caps, kiln_text *out,
                             kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(p->family);
    if (!caps->f64)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "%s has no double arithmetic, which the reference "
                         "needs; rows are checked on the host instead",
                         caps->name);
    if (!g || !g->reference_source)
        return kiln_fail(e, KILN_UNSUPPORTED, "family %s has no reference in this build",
                         p->family->name);
    int status = add_dialect(caps, out, e);
    kiln_text_add(out, "\n#define NAME(x) kiln_reference_##x\n");
    if (!status) status = g->reference_source(p, caps, out, e);
    for (int i = 0, j = 0; i < p->n_operands && !status; i++)
        if (p->operand[i].output) status = add_comparison(&p->operand[i], caps, j++, out, e);
    kiln_text_add(out, "\n#undef NAME\n");
    return status ? status : finish(out, e);
}

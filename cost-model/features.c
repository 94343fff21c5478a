#include "cost-model/features.h"

#include "base/arena.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 1024, KNOBS_MAX = 96, VARIANTS_MAX = 32, FAMILY_MAX = 64, PAIRS_MAX = 400 };

typedef struct pair {
    int a, b; /* into knob[] */
} pair;

struct kiln_features {
    kiln_arena arena;
    const kiln_generator *generator;
    int groups;
    int n_variants, n_knobs, n_pairs, n_family, n_columns;
    const kiln_variant *variant[VARIANTS_MAX];
    const char *knob[KNOBS_MAX]; /* union over variants, in order of first sight */
    pair pair[PAIRS_MAX]; /* knobs of one variant; later variants do without when it is full */
    const char *name[COLUMNS_MAX];
};

int kiln_features_count(const kiln_features *f) { return f->n_columns; }
const char *const *kiln_features_names(const kiln_features *f) { return f->name; }

void kiln_features_free(kiln_features *f) {
    if (!f) return;
    kiln_arena_free(&f->arena);
    free(f);
}

void kiln_features_pair(double a, double b, float out[2]) {
    out[0] = (float)(a * b);
    out[1] = b != 0 ? (float)(a / b) : NAN;
}

/* ---------------------------------------------------------------- device and compiled columns */

static double or_missing(double value) { return value > 0 ? value : NAN; }

/* X(name, value of caps c) */
#define DEVICE_COLUMNS(X)                                                                          \
    X("kind", c->kind)                                                                             \
    X("arch", or_missing(c->arch_number))                                                          \
    X("units", c->units)                                                                           \
    X("warp", c->warp)                                                                             \
    X("vector_bits", c->vector_bits)                                                               \
    X("vector_registers", c->vector_registers)                                                     \
    X("clock_mhz", or_missing(c->clock_mhz))                                                       \
    X("cache_bytes", or_missing((double)c->cache_bytes))                                           \
    X("shared_bytes", c->shared_bytes)                                                             \
    X("shared_unit_bytes", or_missing(c->shared_unit_bytes))                                       \
    X("registers_unit", or_missing(c->registers_unit))                                             \
    X("threads_unit", or_missing(c->threads_unit))                                                 \
    X("max_threads", c->max_threads)

#define X(name, value) "device." name,
static const char *const device_names[] = {DEVICE_COLUMNS(X)};
#undef X
enum { N_DEVICE = sizeof device_names / sizeof *device_names };

static void device_values(const kiln_caps *c, float *out) {
#define X(name, value) *out++ = (float)(value);
    DEVICE_COLUMNS(X)
#undef X
}

/* Threads resident on a unit over the most that fit; waves: grid over what runs at once. */
static double occupancy(const kiln_feature_facts *f, const kiln_caps *c) {
    if (f->kernel.blocks_per_unit < 0 || c->threads_unit <= 0) return NAN;
    return f->kernel.blocks_per_unit * f->threads / c->threads_unit;
}

static double waves(const kiln_feature_facts *f, const kiln_caps *c) {
    int at_once = f->kernel.blocks_per_unit > 0 ? f->kernel.blocks_per_unit : 1;
    return c->units > 0 ? f->blocks / (double)((int64_t)at_once * c->units) : NAN;
}

static double known(int value) { return value >= 0 ? value : NAN; }

/* X(name, value of facts f and caps c) */
#define COMPILED_COLUMNS(X)                                                                        \
    X("registers", known(f->kernel.registers))                                                     \
    X("local_bytes", known(f->kernel.local_bytes))                                                 \
    X("shared_bytes", known(f->kernel.shared_bytes))                                               \
    X("blocks_per_unit", known(f->kernel.blocks_per_unit))                                         \
    X("occupancy", occupancy(f, c))                                                                \
    X("blocks", f->blocks)                                                                         \
    X("threads", f->threads)                                                                       \
    X("waves", waves(f, c))                                                                        \
    X("tail", ceil(waves(f, c)) / waves(f, c))                                                     \
    X("workspace_bytes", (double)f->workspace_bytes)

#define X(name, value) "compiled." name,
static const char *const compiled_names[] = {COMPILED_COLUMNS(X)};
#undef X
enum { N_COMPILED = sizeof compiled_names / sizeof *compiled_names };

static void compiled_values(const kiln_feature_facts *f, const kiln_caps *c, float *out) {
    if (!f || !f->known) {
        for (int i = 0; i < N_COMPILED; i++) out[i] = NAN;
        return;
    }
#define X(name, value) *out++ = (float)(value);
    COMPILED_COLUMNS(X)
#undef X
}

/* ---------------------------------------------------------------- the layout */

static int knob_at(const kiln_features *f, const char *name) {
    for (int i = 0; i < f->n_knobs; i++)
        if (!strcmp(f->knob[i], name)) return i;
    return -1;
}

static bool pair_known(const kiln_features *f, int a, int b) {
    for (int i = 0; i < f->n_pairs; i++)
        if (f->pair[i].a == a && f->pair[i].b == b) return true;
    return false;
}

static void add_knobs(kiln_features *f, const kiln_variant *v) {
    for (const kiln_knob *k = v->knobs; k->name; k++)
        if (knob_at(f, k->name) < 0 && f->n_knobs < KNOBS_MAX) f->knob[f->n_knobs++] = k->name;
}

static void add_pairs(kiln_features *f, const kiln_variant *v) {
    for (const kiln_knob *k = v->knobs; k->name; k++)
        for (const kiln_knob *l = k + 1; l->name; l++) {
            int x = knob_at(f, k->name), y = knob_at(f, l->name);
            int a = x < y ? x : y, b = x < y ? y : x;
            if (a >= 0 && f->n_pairs < PAIRS_MAX && !pair_known(f, a, b))
                f->pair[f->n_pairs++] = (pair){a, b};
        }
}

/* The limits on variants, knobs, pairs and family columns add up to less than COLUMNS_MAX. */
static void add_name(kiln_features *f, const char *name) {
    assert(f->n_columns < COLUMNS_MAX);
    f->name[f->n_columns++] = name ? name : "";
}

static void name_schedule(kiln_features *f) {
    for (int i = 0; i < f->n_variants; i++)
        add_name(f, kiln_arena_printf(&f->arena, "variant.%s", f->variant[i]->name));
    for (int i = 0; i < f->n_knobs; i++)
        add_name(f, kiln_arena_printf(&f->arena, "knob.%s", f->knob[i]));
    for (int i = 0; i < f->n_pairs; i++) {
        const char *a = f->knob[f->pair[i].a], *b = f->knob[f->pair[i].b];
        add_name(f, kiln_arena_printf(&f->arena, "knob.%s*knob.%s", a, b));
        add_name(f, kiln_arena_printf(&f->arena, "knob.%s/knob.%s", a, b));
    }
}

static void name_family(kiln_features *f, const kiln_problem *p, const kiln_caps *caps) {
    const char *names[FAMILY_MAX] = {0};
    double values[FAMILY_MAX];
    if (!f->generator->features || f->n_variants == 0) return;
    kiln_schedule s = kiln_variant_default(f->variant[0]);
    f->n_family = f->generator->features(p, &s, caps, names, values, FAMILY_MAX);
    for (int i = 0; i < f->n_family; i++) {
        const char *name = names[i] ? names[i] : "";
        add_name(f, kiln_arena_printf(&f->arena, "%s.%s", f->generator->family->name, name));
    }
}

static void choose_variants(kiln_features *f, const kiln_variant *const *variants, int n) {
    for (int i = 0; variants && i < n && i < VARIANTS_MAX; i++)
        f->variant[f->n_variants++] = variants[i];
    const kiln_variant_generator *v = f->generator->variants;
    for (; !variants && v->variant && f->n_variants < VARIANTS_MAX; v++)
        f->variant[f->n_variants++] = v->variant;
}

static void lay_out(kiln_features *f, const kiln_problem *p, const kiln_caps *caps) {
    for (int i = 0; i < f->n_variants; i++) add_knobs(f, f->variant[i]);
    for (int i = 0; i < f->n_variants; i++) add_pairs(f, f->variant[i]);
    if (f->groups & KILN_FEATURES_SCHEDULE) name_schedule(f);
    if (f->groups & KILN_FEATURES_PROBLEM) name_family(f, p, caps);
    for (int i = 0; f->groups & KILN_FEATURES_DEVICE && i < N_DEVICE; i++)
        add_name(f, device_names[i]);
    for (int i = 0; f->groups & KILN_FEATURES_COMPILED && i < N_COMPILED; i++)
        add_name(f, compiled_names[i]);
}

kiln_features *kiln_features_create(const kiln_generator *g, const kiln_variant *const *variants,
                                    int n_variants, const kiln_problem *p, const kiln_caps *caps,
                                    int groups, kiln_error *e) {
    kiln_features *f = calloc(1, sizeof *f);
    if (!f) {
        kiln_fail(e, KILN_NO_MEMORY, "features: out of memory; free some and run again");
        return NULL;
    }
    f->generator = g;
    f->groups = groups;
    choose_variants(f, variants, n_variants);
    lay_out(f, p, caps);
    return f;
}

/* ---------------------------------------------------------------- a row */

/* The schedule's knobs by the layout's order; NaN where its variant has none of that name. */
static void knob_values(const kiln_features *f, const kiln_schedule *s, double *out) {
    for (int i = 0; i < f->n_knobs; i++) out[i] = NAN;
    const kiln_knob *k = s->variant->knobs;
    for (int i = 0; k[i].name; i++) {
        int at = knob_at(f, k[i].name);
        if (at >= 0) out[at] = s->value[i];
    }
}

static float *put_schedule(const kiln_features *f, const kiln_schedule *s, float *out) {
    double value[KNOBS_MAX];
    knob_values(f, s, value);
    for (int i = 0; i < f->n_variants; i++) *out++ = s->variant == f->variant[i];
    for (int i = 0; i < f->n_knobs; i++) *out++ = (float)value[i];
    for (int i = 0; i < f->n_pairs; i++, out += 2)
        kiln_features_pair(value[f->pair[i].a], value[f->pair[i].b], out);
    return out;
}

static float *put_family(const kiln_features *f, const kiln_problem *p, const kiln_schedule *s,
                         const kiln_caps *caps, float *out) {
    double value[FAMILY_MAX];
    int n = f->n_family ? f->generator->features(p, s, caps, NULL, value, FAMILY_MAX) : 0;
    /* XGBoost refuses infinity; a family that divides by zero has no number to give. */
    for (int i = 0; i < f->n_family; i++)
        *out++ = i < n && isfinite((float)value[i]) ? (float)value[i] : NAN;
    return out;
}

void kiln_features_row(const kiln_features *f, const kiln_problem *p, const kiln_schedule *s,
                       const kiln_caps *caps, const kiln_feature_facts *facts, float *out) {
    if (f->groups & KILN_FEATURES_SCHEDULE) out = put_schedule(f, s, out);
    if (f->groups & KILN_FEATURES_PROBLEM) out = put_family(f, p, s, caps, out);
    if (f->groups & KILN_FEATURES_DEVICE) {
        device_values(caps, out);
        out += N_DEVICE;
    }
    if (f->groups & KILN_FEATURES_COMPILED) compiled_values(facts, caps, out);
}

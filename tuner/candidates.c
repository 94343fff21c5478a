#include "tuner/candidates.h"

#include "base/hash.h"
#include "cost-model/features.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RAW_MAX = 3000000 };

static uint64_t hash(const kiln_schedule *s) {
    int n = 0;
    while (s->variant->knobs[n].name) n++;
    return kiln_random64(kiln_hash64(s->value, (size_t)n * sizeof *s->value),
                         (uint64_t)(uintptr_t)s->variant);
}

static bool same(const kiln_schedule *a, const kiln_schedule *b) {
    if (a->variant != b->variant) return false;
    for (int i = 0; a->variant->knobs[i].name; i++)
        if (a->value[i] != b->value[i]) return false;
    return true;
}

int64_t kiln_candidates_find(const kiln_candidates *c, const kiln_schedule *s) {
    for (uint64_t i = hash(s);; i++) {
        int32_t point = c->table[i & (uint64_t)(c->table_size - 1)];
        if (point < 0) return -1;
        if (same(&c->schedule[point], s)) return point;
    }
}

static void add(kiln_candidates *c, const kiln_schedule *s) {
    if (kiln_candidates_find(c, s) >= 0) return;
    uint64_t i = hash(s);
    while (c->table[i & (uint64_t)(c->table_size - 1)] >= 0) i++;
    c->table[i & (uint64_t)(c->table_size - 1)] = (int32_t)c->n;
    c->schedule[c->n++] = *s;
}

static double estimate(const kiln_candidates *c, const kiln_schedule *s) {
    const kiln_variant_generator *g = kiln_variant_generator_of(s->variant);
    return g->estimate ? g->estimate(c->problem, c->caps, s) : NAN;
}

/* Adds the start and the default schedule where legal; where an estimate found the start, the
 * default has nothing to add. */
static void add_starts(kiln_candidates *c, const kiln_variant_generator *g) {
    kiln_schedule tries[2] = {g->start(c->problem, c->caps), kiln_variant_default(g->variant)};
    int n_tries = isnan(estimate(c, &tries[0])) ? 2 : 1;
    for (int i = 0; i < n_tries; i++) {
        if (!g->variant->legal(c->problem, c->caps, &tries[i], NULL)) continue;
        int64_t before = c->n;
        add(c, &tries[i]);
        /* On the host's own cores a later variant is a GPU's kernel: legal, and a hundred times
         * slower than the budget of seconds allows as a first try. */
        if (c->n > before && !(c->n_starts && c->caps->shared_host && c->n_spaces))
            c->start[c->n_starts++] = c->n - 1;
    }
}

/* A session may be interrupted at any time, and its library needs the generic kernel then. */
static void add_generic(kiln_candidates *c) {
    kiln_schedule generic;
    if (c->caps->shared_host || !kiln_generic_schedule(c->problem, c->caps, &generic)) return;
    add(c, &generic);
    int64_t point = kiln_candidates_find(c, &generic);
    for (int i = 0; i < c->n_starts; i++)
        if (c->start[i] == point) return;
    c->start[c->n_starts++] = point;
}

/* Starts in the order of their estimates, those without one last; what should take several times as
 * long as another is left to the search. */
static void order_starts(kiln_candidates *c) {
    int n = 0;
    double least = INFINITY;
    for (int i = 0; i < c->n_starts; i++) {
        int64_t start = c->start[i];
        double time = kiln_candidates_estimate(c, start);
        int at = i;
        for (; at > 0 && !(time >= kiln_candidates_estimate(c, c->start[at - 1])) && !isnan(time);
             at--)
            c->start[at] = c->start[at - 1];
        c->start[at] = start;
        least = fmin(least, time);
    }
    for (int i = 0; i < c->n_starts; i++)
        if (!(kiln_candidates_estimate(c, c->start[i]) > 4 * least)) c->start[n++] = c->start[i];
    c->n_starts = n;
}

/* Legal points of one variant's space: all of them, or an even sample when there are too many. */
static int add_space(kiln_candidates *c, const kiln_space *space, int64_t limit, uint64_t seed,
                     kiln_error *e) {
    int64_t size = kiln_space_size(space);
    bool all = size <= RAW_MAX;
    int64_t tries = all ? size : RAW_MAX, n_legal = 0;
    bool *legal = malloc((size_t)tries + 1); /* asked once: there may be a million */
    if (!legal)
        return kiln_fail(e, KILN_NO_MEMORY, "no memory for a space of %lld", (long long)size);
    c->raw += size;
    for (int64_t i = 0; i < tries; i++) {
        int64_t at = all ? i : (int64_t)(kiln_random64(seed, (uint64_t)i) % (uint64_t)size);
        kiln_schedule s = kiln_space_at(space, at);
        legal[i] = space->variant->legal(c->problem, c->caps, &s, NULL);
        n_legal += legal[i];
    }
    uint64_t keep =
        n_legal <= limit ? UINT64_MAX : (uint64_t)((double)limit / (double)n_legal * 0x1p64);
    c->sampled |= !all || n_legal > limit;
    int64_t room = c->n + limit;
    for (int64_t i = 0; i < tries && c->n < room; i++) {
        if (!legal[i] || kiln_random64(seed + 1, (uint64_t)i) > keep) continue;
        int64_t at = all ? i : (int64_t)(kiln_random64(seed, (uint64_t)i) % (uint64_t)size);
        kiln_schedule s = kiln_space_at(space, at);
        add(c, &s);
    }
    free(legal);
    return KILN_OK;
}

static int none_legal(const kiln_candidates *c, kiln_error *e) {
    kiln_text why = {0};
    const kiln_generator *g = kiln_generator_of(c->problem->family);
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        kiln_text reason = {0};
        if (v->applies(c->problem, c->caps, &reason)) {
            kiln_schedule s = v->start(c->problem, c->caps);
            v->variant->legal(c->problem, c->caps, &s, &reason);
        }
        kiln_text_printf(&why, "; %s: %s", v->variant->name, kiln_text_get(&reason));
        kiln_text_free(&reason);
    }
    int status = kiln_fail(e, KILN_UNSUPPORTED, "no kernel of %s can do this problem on %s%s",
                           c->problem->family->name, c->caps->name, kiln_text_get(&why));
    kiln_text_free(&why);
    return status;
}

static int allocate(kiln_candidates *c, int64_t most, kiln_error *e) {
    c->table_size = 64;
    while (c->table_size < 2 * most) c->table_size *= 2;
    c->schedule = calloc((size_t)most, sizeof *c->schedule);
    c->table = malloc((size_t)c->table_size * sizeof *c->table);
    if (!c->schedule || !c->table)
        return kiln_fail(e, KILN_NO_MEMORY, "no memory for %lld candidates", (long long)most);
    memset(c->table, -1, (size_t)c->table_size * sizeof *c->table);
    return KILN_OK;
}

int kiln_candidates_open(kiln_candidates *c, const kiln_problem *p, const kiln_caps *caps,
                         int64_t limit, uint64_t seed, kiln_error *e) {
    *c = (kiln_candidates){.problem = p, .caps = caps};
    const kiln_generator *g = kiln_generator_of(p->family);
    if (!g) return kiln_fail(e, KILN_UNSUPPORTED, "family %s has no generator", p->family->name);
    int status = allocate(c, KILN_VARIANTS_MAX * (limit + 2) + 1, e);
    for (const kiln_variant_generator *v = g->variants; v->variant && !status; v++) {
        if (c->n_spaces == KILN_VARIANTS_MAX || !v->applies(p, caps, NULL)) continue;
        add_starts(c, v);
        kiln_space *space = &c->space[c->n_spaces++];
        *space = (kiln_space){.variant = v->variant};
        v->space(p, caps, space);
        status = add_space(c, space, limit, seed, e);
    }
    if (!status && !c->n) status = none_legal(c, e);
    if (!status) order_starts(c), add_generic(c);
    if (!status) {
        const kiln_variant *variants[KILN_VARIANTS_MAX];
        for (int i = 0; i < c->n_spaces; i++) variants[i] = c->space[i].variant;
        c->layout =
            kiln_features_create(g, variants, c->n_spaces, p, caps, KILN_FEATURES_SEARCH, e);
        if (!c->layout) status = e->status;
    }
    if (!status) {
        c->n_features = kiln_features_count(c->layout);
        c->features = malloc((size_t)c->n * (size_t)c->n_features * sizeof *c->features);
        c->have_features = calloc((size_t)c->n, 1);
        if (!c->features || !c->have_features)
            status = kiln_fail(e, KILN_NO_MEMORY, "no memory for the candidates' features");
    }
    /* Without it the search merely takes longer. */
    if (!status) c->foresight = kiln_foresight_open(kiln_shipped_embedded(NULL), p, caps, NULL);
    if (status) kiln_candidates_close(c);
    return status;
}

void kiln_candidates_close(kiln_candidates *c) {
    free(c->schedule);
    free(c->table);
    free(c->features);
    free(c->have_features);
    if (c->layout) kiln_features_free(c->layout);
    kiln_foresight_close(c->foresight);
    *c = (kiln_candidates){0};
}

static void features(void *context, int64_t point, float *out) {
    kiln_candidates *c = context;
    float *row = c->features + point * c->n_features;
    if (!c->have_features[point]) {
        kiln_features_row(c->layout, c->problem, &c->schedule[point], c->caps, NULL, row);
        c->have_features[point] = true;
    }
    memcpy(out, row, (size_t)c->n_features * sizeof *row);
}

static int step(const kiln_knob_values *values, int value, int direction, int *out) {
    for (int i = 0; i < values->n; i++)
        if (values->value[i] == value && i + direction >= 0 && i + direction < values->n)
            return *out = values->value[i + direction], 1;
    return 0;
}

static int neighbours(void *context, int64_t point, int64_t *out, int max) {
    const kiln_candidates *c = context;
    const kiln_schedule *s = &c->schedule[point];
    const kiln_space *space = NULL;
    int n = 0;
    for (int i = 0; i < c->n_spaces; i++)
        if (c->space[i].variant == s->variant) space = &c->space[i];
    for (int k = 0; space && s->variant->knobs[k].name; k++)
        for (int direction = -1; direction <= 1 && n < max; direction += 2) {
            kiln_schedule near = *s;
            if (!step(&space->knob[k], s->value[k], direction, &near.value[k])) continue;
            int64_t at = kiln_candidates_find(c, &near);
            if (at >= 0) out[n++] = at;
        }
    return n;
}

double kiln_candidates_estimate(const kiln_candidates *c, int64_t point) {
    return estimate(c, &c->schedule[point]);
}

double kiln_candidates_power(const kiln_candidates *c, int64_t point) {
    const kiln_schedule *s = &c->schedule[point];
    const kiln_variant_generator *g = kiln_variant_generator_of(s->variant);
    return g->power ? g->power(c->problem, c->caps, s) : 0;
}

static double prior(void *context, int64_t point) {
    return kiln_candidates_estimate(context, point);
}

static double slowdown(void *context, int64_t point) {
    const kiln_candidates *c = context;
    return kiln_foresight_slowdown(c->foresight, &c->schedule[point]);
}

static double opinion(void *context, int k, int64_t point) {
    return k ? slowdown(context, point) : prior(context, point);
}

static bool any_estimate(const kiln_candidates *c) {
    for (int i = 0; i < c->n_starts; i++)
        if (!isnan(kiln_candidates_estimate(c, c->start[i]))) return true;
    return false;
}

kiln_search_space kiln_candidates_space(kiln_candidates *c) {
    bool estimated = any_estimate(c);
    return (kiln_search_space){.n = c->n,
                               .prior = estimated      ? prior
                                        : c->foresight ? slowdown
                                                       : NULL,
                               .n_opinions = estimated && c->foresight ? 2 : 0,
                               .opinion = opinion,
                               .n_features = c->n_features,
                               .feature_names = kiln_features_names(c->layout),
                               .features = features,
                               .neighbours = neighbours,
                               .context = c,
                               .n_starts = c->n_starts,
                               .starts = c->start};
}

/* ---- the generic schedule ---- */

/* Legal at sizes that fit nothing? All run-time sizes that must be given are set to the same. */
static bool serves_every_size(const kiln_problem *p, const kiln_caps *caps,
                              const kiln_schedule *s) {
    static const int sizes[] = {1, 2, 31, 1021, 4099};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        kiln_text text = {0};
        kiln_problem odd = *p;
        for (const kiln_key *k = p->family->keys; k->name; k++)
            if (k->kind == KILN_KEY_SIZE && !k->compiled && k->fallback == KILN_REQUIRED)
                kiln_text_printf(&text, "%s=%d ", k->name, sizes[i]);
        bool resized = !kiln_problem_resize(&odd, kiln_text_get(&text), NULL);
        kiln_text_free(&text);
        if (resized && !s->variant->legal(&odd, caps, s, NULL)) return false;
    }
    return true;
}

bool kiln_generic_schedule(const kiln_problem *p, const kiln_caps *caps, kiln_schedule *out) {
    const kiln_generator *g = kiln_generator_of(p->family);
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        if (!v->applies(p, caps, NULL)) continue;
        for (int i = 0; i < 2; i++) {
            *out = i ? kiln_variant_default(v->variant) : v->start(p, caps);
            if (v->variant->legal(p, caps, out, NULL) && serves_every_size(p, caps, out))
                return true;
        }
    }
    return false;
}

/* Which kernel for a problem on a device, and why. No code is loaded here.
 *
 * Legality is asked with the device that is here, geometry with the device that the kernel was made
 * for: its source was written for those numbers (vector width, block limits), and both must agree.
 */
#include "runtime/context.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool kiln_select_same(const kiln_caps *a, const kiln_caps *b) {
    return !strcmp(a->target, b->target) && !strcmp(a->name, b->name) &&
           !strcmp(a->arch, b->arch) && a->units == b->units;
}

bool kiln_select_fits(const library_blob *b, const kiln_caps *made_for, const kiln_caps *here) {
    if (strcmp(made_for->target, here->target)) return false;
    switch (b->binding) {
    case KILN_BIND_NONE:
        return true;
    case KILN_BIND_DRIVER:
        return !strcmp(made_for->name, here->name) && !strcmp(made_for->driver, here->driver) &&
               !strcmp(made_for->platform, here->platform);
    case KILN_BIND_ARCH:
        return !strcmp(made_for->arch, here->arch);
    case KILN_BIND_ARCH_MAJOR:
        return made_for->arch_number / 10 == here->arch_number / 10 &&
               made_for->arch_number <= here->arch_number;
    case KILN_BIND_ARCH_LEAST:
        return (int64_t)b->arch_number <= here->arch_number;
    }
    return false;
}

static bool loadable(const kiln_context *c, const library_kernel *k) {
    for (int i = 0; i < k->n_blobs; i++)
        if (kiln_select_fits(&k->blob[i], &c->library->device[k->device], c->caps)) return true;
    return false;
}

static int make_program(const kiln_context *c, const problem *p, const library_kernel *k,
                        kiln_program *out, kiln_error *e) {
    memset(out, 0, sizeof *out);
    int status = k->v->program(&p->value, &c->library->device[k->device], &k->s, out, e);
    if (!status && (out->n_launches < 1 || out->n_launches > KILN_LAUNCHES_MAX))
        status = kiln_fail(e, KILN_CORRUPT, "kernel %.16s has no launches here", k->hex);
    return status;
}

static bool same_key(const library_kernel *k, const problem *p) {
    return k->key_hash == p->key_hash && !strcmp(k->key, kiln_text_get(&p->key));
}

/* ---------------------------------------------------------------- weighing one kernel */

/* Makes the program, or says why the kernel cannot serve the problem here. */
static bool check_legal(const kiln_context *c, const problem *p, const library_kernel *k,
                        kiln_program *program, char why_not[240]) {
    const kiln_caps *made_for = &c->library->device[k->device];
    kiln_text why = {0};
    kiln_error e = {0};
    bool legal = false;
    if (!k->v)
        kiln_text_add(&why, k->unusable);
    else if (!loadable(c, k))
        kiln_text_printf(&why, "its code was made for %s (%s, %s) and does not run on %s (%s, %s)",
                         made_for->name, made_for->arch, made_for->driver, c->caps->name,
                         c->caps->arch, c->caps->driver);
    else if (k->v->legal(&p->value, c->caps, &k->s, &why)) {
        legal = !make_program(c, p, k, program, &e);
        if (!legal) kiln_text_add(&why, e.text);
    }
    if (!legal) snprintf(why_not, 240, "%s", kiln_text_get(&why));
    kiln_text_free(&why);
    return legal;
}

/* log2 of the sizes, as points keep theirs. */
typedef struct place {
    int n;
    double log2[KILN_SIZES_MAX];
} place;

static place place_of(const problem *p) {
    int64_t size[KILN_SIZES_MAX];
    place at = {.n = kiln_reader_sizes(&p->value, size)};
    for (int i = 0; i < at.n; i++) at.log2[i] = log2(size[i] > 1 ? (double)size[i] : 1);
    return at;
}

/* The nearest measured point under sum |log2 ratio|. Its time is scaled by the product of the size
 * ratios: work grows so, near enough to order kernels at one distance. */
static void find_nearest(const place *here, const library_kernel *k, option *o) {
    o->distance = INFINITY;
    for (int i = 0; i < k->n_points; i++) {
        const library_point *at = &k->point[i];
        double distance = at->n_sizes == here->n ? 0 : INFINITY, growth = 0;
        for (int j = 0; j < here->n; j++) {
            double d = here->log2[j] - at->log2[j];
            distance += fabs(d);
            growth += d;
        }
        if (distance >= o->distance) continue;
        o->distance = distance;
        o->nearest = at->problem;
        o->predicted = at->seconds * exp2(growth);
    }
}

/* Everything but legality, which costs more: it is asked in the order of preference. */
static option weigh(const kiln_context *c, const place *here, uint32_t kernel) {
    const library_kernel *k = &c->library->kernel[kernel];
    option o = {.kernel = kernel, .legal = true, .same_device = c->same[k->device]};
    find_nearest(here, k, &o);
    return o;
}

/* ---------------------------------------------------------------- comparing them */

static int order(double a, double b) { return a < b ? -1 : a > b; }

/* The same order in every process: see notes on the choice in runtime/README.md. */
static int compare(const kiln_library *l, const option *a, const option *b) {
    int answers[] = {(int)b->legal - (int)a->legal,
                     (int)b->same_device - (int)a->same_device,
                     order(a->distance, b->distance),
                     order(a->predicted, b->predicted),
                     (int)l->kernel[b->kernel].fallback - (int)l->kernel[a->kernel].fallback,
                     memcmp(l->kernel[a->kernel].hash, l->kernel[b->kernel].hash, 32)};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (answers[i]) return answers[i];
    return 0;
}

static void sort(const kiln_library *l, option *o, int n) {
    for (int i = 1; i < n; i++) {
        option x = o[i];
        int j = i;
        for (; j > 0 && compare(l, &x, &o[j - 1]) < 0; j--) o[j] = o[j - 1];
        o[j] = x;
    }
}

static int no_kernel(const kiln_context *c, const problem *p, kiln_error *e) {
    const kiln_library *l = c->library;
    kiln_text held = {0};
    for (uint32_t i = 0; i < l->n_kernels && held.size < 160; i++)
        if (!i || strcmp(l->kernel[i].key, l->kernel[i - 1].key))
            kiln_text_printf(&held, "%s\"%s\"", held.size ? ", " : "", l->kernel[i].key);
    int status = kiln_fail(e, KILN_NOT_FOUND,
                           "the library has no kernel for \"%.120s\"; it holds %.200s; tune the "
                           "problem with `tune run` and emit again",
                           kiln_text_get(&p->key), kiln_text_get(&held));
    kiln_text_free(&held);
    return status;
}

/* Every kernel made for the problem's key, in the order of preference, not asked if legal. */
static int rank(const kiln_context *c, const problem *p, option **out, kiln_error *e) {
    const kiln_library *l = c->library;
    int n = 0;
    for (uint32_t i = 0; i < l->n_kernels; i++) n += same_key(&l->kernel[i], p);
    if (!n) return no_kernel(c, p, e);
    option *o = malloc((size_t)n * sizeof *o);
    if (!o) return kiln_fail(e, KILN_NO_MEMORY, "no memory to choose a kernel");
    place here = place_of(p);
    n = 0;
    for (uint32_t i = 0; i < l->n_kernels; i++)
        if (same_key(&l->kernel[i], p)) o[n++] = weigh(c, &here, i);
    sort(l, o, n);
    *out = o;
    return n;
}

int kiln_select_options(kiln_context *c, const problem *p, option **out, kiln_error *e) {
    kiln_program *program = malloc(sizeof *program);
    if (!program) return kiln_fail(e, KILN_NO_MEMORY, "no memory to choose a kernel");
    int n = rank(c, p, out, e);
    for (int i = 0; i < n; i++) {
        option *o = &(*out)[i];
        o->legal = check_legal(c, p, &c->library->kernel[o->kernel], program, o->why);
        if (o->legal) o->workspace_bytes = program->workspace_bytes;
    }
    free(program);
    if (n > 0) sort(c->library, *out, n);
    return n;
}

/* ---------------------------------------------------------------- the choice */

/* The fastest exact entry among this device's; `why` receives what rules out an illegal one. */
static bool choose_exact(kiln_context *c, const problem *p, const char *text, choice *out,
                         kiln_program *program, char why[240]) {
    const kiln_library *l = c->library;
    for (uint32_t d = 0; d < l->n_devices; d++) {
        const library_exact *x = c->same[d] ? kiln_reader_find(l, text, d) : NULL;
        if (!x || !same_key(&l->kernel[x->kernel], p)) continue;
        if (check_legal(c, p, &l->kernel[x->kernel], program, why)) {
            *out = (choice){x->kernel, KILN_CHOICE_EXACT, 0, x->seconds, ""};
            snprintf(out->reason, sizeof out->reason, "tuned for this problem on %s",
                     c->caps->name);
            return true;
        }
    }
    return false;
}

static bool choose_override(const kiln_context *c, const problem *p, const char *text, choice *out,
                            kiln_program *program) {
    for (int i = 0; i < c->n_overrides; i++) {
        const override *v = &c->override[i];
        char why[240];
        if (strcmp(v->problem, text)) continue;
        if (!check_legal(c, p, &c->library->kernel[v->kernel], program, why)) return false;
        place here = place_of(p);
        option o = weigh(c, &here, v->kernel);
        *out = (choice){v->kernel, KILN_CHOICE_OVERRIDE, o.distance, o.predicted,
                        "asked for by kiln_override_problem"};
        return true;
    }
    return false;
}

static void explain(const kiln_context *c, const option *o, const char *refused, choice *out) {
    char *t = out->reason;
    size_t size = sizeof out->reason;
    int n;
    if (!o->nearest)
        n = snprintf(t, size, "the generic kernel: nothing that was measured is legal here");
    else if (o->distance > 0)
        n = snprintf(t, size, "nearest tuned problem is \"%.120s\", %.2f doublings away",
                     o->nearest, o->distance);
    else
        n = snprintf(t, size, "measured for this problem");
    if (!o->same_device)
        n += snprintf(t + n, size - (size_t)n, ", on another device (%.100s)",
                      c->library->device[c->library->kernel[o->kernel].device].name);
    if (*refused && (size_t)n < size)
        snprintf(t + n, size - (size_t)n, "; not the kernel tuned for it: %s", refused);
}

/* With a measured point: nearest. Without: generic. */
static void choose_option(const kiln_context *c, const option *o, const char *refused,
                          choice *out) {
    bool near = isfinite(o->distance);
    *out = (choice){o->kernel, near ? KILN_CHOICE_NEAREST : KILN_CHOICE_FALLBACK,
                    near ? o->distance : 0, o->predicted, ""};
    explain(c, o, refused, out);
}

int kiln_select(kiln_context *c, const problem *p, const char *text, choice *out,
                kiln_program *program, kiln_error *e) {
    char refused[240] = "";
    if (choose_override(c, p, text, out, program)) return 0;
    if (choose_exact(c, p, text, out, program, refused)) return 0;
    option *o;
    int n = rank(c, p, &o, e), i = 0;
    if (n < 0) return n;
    while (i < n && !check_legal(c, p, &c->library->kernel[o[i].kernel], program, o[i].why)) i++;
    int status = 0;
    if (i < n)
        choose_option(c, &o[i], refused, out);
    else
        status = kiln_fail(e, KILN_UNSUPPORTED,
                           "none of the %d kernels made for \"%.120s\" can serve it on %s: %s", n,
                           text, c->id, o[0].why);
    free(o);
    return status;
}

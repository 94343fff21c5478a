#include "tuner/foresight.h"

#include "cost-model/features.h"
#include "cost-model/slowdown.h"
#include "kernels/emit.h"
#include "tuner/recorded.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES_MAX = 8, LEAST = 8, N_ESTIMATE = 4, DEVICES_MAX = 64 };
/* What the trees learn is the slowdown without this share of what the estimate says of it. Of 0,
 * 1/2 and 1 the half picked best for problems left out, on the H200's records. */
static const double ESTIMATE_SHARE = 0.5;

struct kiln_shipped {
    int n;
    kiln_forest *forest[FAMILIES_MAX];
    kiln_text about; /* a line per device and family: "device TARGET | NAME | FAMILY" and counts */
};

/* ---------------------------------------------------------------- rows */

/* All that is known of a schedule before it runs: the layout's columns, without those that are made
 * of others, then what the variant's estimate says. */
typedef struct rows {
    const kiln_generator *generator;
    kiln_features *layout;
    int n_all, n; /* columns of the layout; of a row */
    int *column;  /* n - N_ESTIMATE: of the layout */
    const char **name;
    float *all;
    double least; /* estimate of the variants' start schedules: what others are held against */
} rows;

static const char *const estimate_name[N_ESTIMATE] = {"estimate", "estimate.per_flop",
                                                      "estimate.per_byte", "estimate.relative"};

static void rows_close(rows *r) {
    kiln_features_free(r->layout);
    free(r->column), free(r->name), free(r->all);
    *r = (rows){0};
}

static int rows_open(rows *r, const kiln_problem *p, const kiln_caps *caps, kiln_error *e) {
    *r = (rows){.generator = kiln_generator_of(p->family)};
    int groups = KILN_FEATURES_SEARCH | KILN_FEATURES_DEVICE;
    r->layout = kiln_features_create(r->generator, NULL, 0, p, caps, groups, e);
    if (!r->layout) return e ? e->status : KILN_NO_MEMORY;
    size_t n = (size_t)kiln_features_count(r->layout) + N_ESTIMATE;
    r->n_all = (int)n - N_ESTIMATE;
    r->column = malloc(n * sizeof *r->column);
    r->name = malloc(n * sizeof *r->name);
    r->all = malloc(n * sizeof *r->all);
    if (!r->column || !r->name || !r->all) {
        rows_close(r);
        return kiln_fail(e, KILN_NO_MEMORY, "model: out of memory; free some and run again");
    }
    for (int i = 0; i < r->n_all; i++) {
        const char *name = kiln_features_names(r->layout)[i];
        if (!strpbrk(name, "*/")) r->column[r->n] = i, r->name[r->n++] = name;
    }
    for (int i = 0; i < N_ESTIMATE; i++) r->name[r->n++] = estimate_name[i];
    return KILN_OK;
}

/* NaN for a schedule that this build holds illegal: an estimate may not be asked about it. */
static double estimate(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s) {
    const kiln_variant_generator *g = kiln_variant_generator_of(s->variant);
    if (!g->estimate || !s->variant->legal(p, caps, s, NULL)) return NAN;
    double t = g->estimate(p, caps, s);
    return t > 0 ? t : NAN;
}

static void rows_for(rows *r, const kiln_problem *p, const kiln_caps *caps) {
    r->least = NAN;
    for (const kiln_variant_generator *v = r->generator->variants; v->variant; v++) {
        if (!v->applies(p, caps, NULL)) continue;
        kiln_schedule s = v->start(p, caps);
        r->least = fmin(r->least, estimate(p, caps, &s));
    }
}

/* After rows_for the same problem. */
static void rows_get(rows *r, const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *s,
                     float *out) {
    double t = log(estimate(p, caps, s));
    int n = r->n - N_ESTIMATE;
    kiln_features_row(r->layout, p, s, caps, NULL, r->all);
    for (int i = 0; i < n; i++)
        out[i] = isfinite(r->all[r->column[i]]) ? r->all[r->column[i]] : NAN;
    out[n] = (float)t;
    out[n + 1] = (float)(t - log(fmax(r->generator->flops(p), 1)));
    out[n + 2] = (float)(t - log(fmax(r->generator->bytes(p), 1)));
    out[n + 3] = (float)(t - log(r->least));
}

/* What the estimate says of a row's logarithm of slowdown, as far as it is believed. */
static double estimated(const rows *r, const float *row) {
    float relative = row[r->n - 1];
    return isnan(relative) ? 0 : ESTIMATE_SHARE * fmin(relative, log(kiln_slowdown_clip));
}

/* ---------------------------------------------------------------- learning */

typedef struct class {
    rows rows;
    float *row;
    double *target, *weight;
    int *problem; /* into the school's names */
    int64_t n, capacity;
} class;

struct kiln_school {
    class class[FAMILIES_MAX];
    int n_classes;
    int n_names, n_devices;
    char **name;
    char *device[DEVICES_MAX];
};

kiln_school *kiln_school_open(void) { return calloc(1, sizeof(kiln_school)); }

void kiln_school_close(kiln_school *s) {
    if (!s) return;
    for (int i = 0; i < s->n_classes; i++) {
        class *c = &s->class[i];
        rows_close(&c->rows);
        free(c->row), free(c->target), free(c->weight), free(c->problem);
    }
    for (int i = 0; i < s->n_names; i++) free(s->name[i]);
    for (int i = 0; i < s->n_devices; i++) free(s->device[i]);
    free(s->name);
    free(s);
}

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "model: out of memory; free some and run again");
}

static class *class_of(kiln_school *s, const kiln_problem *p, const kiln_caps *caps,
                       kiln_error *e) {
    for (int i = 0; i < s->n_classes; i++)
        if (s->class[i].rows.generator->family == p->family) return &s->class[i];
    if (s->n_classes == FAMILIES_MAX) return no_memory(e), NULL;
    class *c = &s->class[s->n_classes];
    if (rows_open(&c->rows, p, caps, e)) return NULL;
    s->n_classes++;
    return c;
}

static int name_at(kiln_school *s, const char *name) {
    for (int i = 0; i < s->n_names; i++)
        if (!strcmp(s->name[i], name)) return i;
    char **more = realloc(s->name, (size_t)(s->n_names + 1) * sizeof *more);
    if (more) s->name = more;
    char *copy = more ? strdup(name) : NULL;
    if (!copy) return -1;
    s->name[s->n_names] = copy;
    return s->n_names++;
}

static int keep_device(kiln_school *s, const kiln_problem *p, const kiln_caps *caps) {
    char line[400];
    snprintf(line, sizeof line, "device %s | %s | %s", caps->target, caps->name, p->family->name);
    for (int i = 0; i < s->n_devices; i++)
        if (!strcmp(s->device[i], line)) return KILN_OK;
    if (s->n_devices == DEVICES_MAX || !(s->device[s->n_devices] = strdup(line)))
        return KILN_NO_MEMORY;
    s->n_devices++;
    return KILN_OK;
}

static bool reserve(class *c, int64_t more) {
    if (c->n + more <= c->capacity) return true;
    size_t n = 2 * (size_t)(c->n + more);
    float *row = realloc(c->row, n * (size_t)c->rows.n * sizeof *row);
    if (row) c->row = row;
    double *target = realloc(c->target, n * sizeof *target);
    if (target) c->target = target;
    double *weight = realloc(c->weight, n * sizeof *weight);
    if (weight) c->weight = weight;
    int *problem = realloc(c->problem, n * sizeof *problem);
    if (problem) c->problem = problem;
    if (!row || !target || !weight || !problem) return false;
    c->capacity = (int64_t)n;
    return true;
}

/* Adds n timed schedules' rows, with room for them and for what the estimates say; false: no
 * memory. */
static bool learn(class *c, const kiln_problem *p, const kiln_caps *caps,
                  const kiln_schedule *const *schedule, const double *seconds, int64_t n) {
    double *known = malloc((size_t)n * sizeof *known);
    if (!known) return false;
    rows_for(&c->rows, p, caps);
    for (int64_t i = 0; i < n; i++) {
        float *row = c->row + (c->n + i) * c->rows.n;
        rows_get(&c->rows, p, caps, schedule[i], row);
        known[i] = estimated(&c->rows, row);
    }
    kiln_slowdown_lesson(seconds, known, n, c->target + c->n, c->weight + c->n);
    free(known);
    return true;
}

/* The timed ones of n schedules, side by side; returns how many. */
static int64_t pick_timed(const kiln_schedule *schedule, const double *seconds, int64_t n,
                          const kiln_schedule **which, double *time) {
    int64_t timed = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(seconds[i])) which[timed] = &schedule[i], time[timed++] = seconds[i];
    return timed;
}

static int add_timed(kiln_school *s, const char *name, const kiln_problem *p, const kiln_caps *caps,
                     const kiln_schedule *const *schedule, const double *seconds, int64_t n,
                     kiln_error *e) {
    if (n < LEAST) return KILN_OK;
    class *c = class_of(s, p, caps, e);
    int problem = name_at(s, name);
    if (!c) return e ? e->status : KILN_NO_MEMORY;
    if (problem < 0 || keep_device(s, p, caps) || !reserve(c, n) ||
        !learn(c, p, caps, schedule, seconds, n))
        return no_memory(e);
    for (int64_t i = 0; i < n; i++) c->problem[c->n++] = problem;
    return KILN_OK;
}

int kiln_school_add(kiln_school *s, const char *name, const kiln_problem *p, const kiln_caps *caps,
                    const kiln_schedule *schedule, const double *seconds, int64_t n,
                    kiln_error *e) {
    const kiln_schedule **which = malloc(((size_t)n + 1) * sizeof *which);
    double *time = malloc(((size_t)n + 1) * sizeof *time);
    int status = which && time ? KILN_OK : no_memory(e);
    if (!status)
        status = add_timed(s, name, p, caps, which, time,
                           pick_timed(schedule, seconds, n, which, time), e);
    free(which), free(time);
    return status;
}

/* The rows of all problems but one, side by side. */
typedef struct lesson {
    float *row;
    double *target, *weight;
    int64_t n;
} lesson;

static int make_lesson(const kiln_school *s, const class *c, const char *without, lesson *l) {
    size_t n = (size_t)c->n + 1, width = (size_t)c->rows.n;
    *l = (lesson){.row = malloc(n * width * sizeof *l->row),
                  .target = malloc(n * sizeof *l->target),
                  .weight = malloc(n * sizeof *l->weight)};
    if (!l->row || !l->target || !l->weight) return KILN_NO_MEMORY;
    for (int64_t i = 0; i < c->n; i++) {
        if (without && !strcmp(s->name[c->problem[i]], without)) continue;
        memcpy(l->row + (size_t)l->n * width, c->row + (size_t)i * width, width * sizeof *l->row);
        l->target[l->n] = c->target[i];
        l->weight[l->n++] = c->weight[i];
    }
    return KILN_OK;
}

static int teach(const kiln_school *s, const class *c, const char *without, kiln_shipped *m,
                 kiln_error *e) {
    lesson l;
    int status = make_lesson(s, c, without, &l) ? no_memory(e) : KILN_OK;
    if (!status && l.n) {
        kiln_forest *f = kiln_forest_train(c->rows.generator->family->name, c->rows.name, c->rows.n,
                                           l.row, l.target, l.weight, l.n,
                                           &kiln_slowdown_forest, e);
        if (f)
            m->forest[m->n++] = f;
        else
            status = e ? e->status : KILN_NO_MEMORY;
    }
    free(l.row), free(l.target), free(l.weight);
    return status;
}

kiln_shipped *kiln_school_train(const kiln_school *s, const char *without, kiln_error *e) {
    kiln_shipped *m = calloc(1, sizeof *m);
    if (!m) return no_memory(e), NULL;
    int status = KILN_OK;
    for (int i = 0; i < s->n_classes && !status; i++)
        status = teach(s, &s->class[i], without, m, e);
    for (int i = 0; i < s->n_devices; i++) kiln_text_printf(&m->about, "%s\n", s->device[i]);
    if (!status && !m->about.failed) return m;
    kiln_shipped_free(m);
    return NULL;
}

/* ---------------------------------------------------------------- text */

void kiln_shipped_free(kiln_shipped *m) {
    if (!m) return;
    for (int i = 0; i < m->n; i++) kiln_forest_free(m->forest[i]);
    kiln_text_free(&m->about);
    free(m);
}

/* Another file of the same name stays whole until the new one is. */
static int write_file(const char *path, const kiln_text *t, kiln_error *e) {
    char part[512];
    snprintf(part, sizeof part, "%.500s.part", path);
    FILE *f = fopen(part, "w");
    bool ok = f && fwrite(kiln_text_get(t), 1, t->size, f) == t->size;
    if (f && fclose(f)) ok = false;
    if (ok && !rename(part, path)) return KILN_OK;
    int why = errno;
    if (f) remove(part);
    return kiln_fail(e, KILN_IO, "model: %s cannot be written (%s)", path, strerror(why));
}

void kiln_shipped_print(const kiln_shipped *m, kiln_text *out) {
    kiln_forest_print((const kiln_forest *const *)m->forest, m->n, m->about.data, out);
}

int kiln_shipped_make(const char *const *paths, int n, const char *output, kiln_text *notes,
                      kiln_error *e) {
    kiln_school *s = kiln_school_open();
    kiln_shipped *m = NULL;
    kiln_text text = {0};
    int status = s ? KILN_OK : no_memory(e);
    for (int i = 0; i < n && !status; i++) status = kiln_recorded_teach(paths[i], s, notes, e);
    if (!status && !s->n_classes)
        status = kiln_fail(e, KILN_NOT_FOUND,
                           "model: no problem in these records has %d timed "
                           "schedules; give records of longer searches",
                           LEAST);
    if (!status && !(m = kiln_school_train(s, NULL, e))) status = e ? e->status : KILN_NO_MEMORY;
    if (m) kiln_shipped_print(m, &text);
    if (!status) status = text.failed ? no_memory(e) : write_file(output, &text, e);
    if (!status)
        kiln_text_printf(notes, "%s: %zu bytes, %.*s\n", output, text.size, 71,
                         strchr(kiln_text_get(&text), '\n') + 1);
    kiln_text_free(&text);
    kiln_shipped_free(m);
    kiln_school_close(s);
    return status;
}

kiln_shipped *kiln_shipped_parse(const char *text, kiln_error *e) {
    kiln_shipped *m = calloc(1, sizeof *m);
    if (!m) return no_memory(e), NULL;
    m->n = kiln_forest_parse(text, m->forest, FAMILIES_MAX, &m->about, e);
    if (m->n >= 0) return m;
    m->n = 0;
    kiln_shipped_free(m);
    return NULL;
}

const kiln_shipped *kiln_shipped_embedded(kiln_error *e) {
    static kiln_shipped *read;
    const char *text = read ? NULL : kiln_embedded(KILN_SHIPPED_PATH);
    if (text) read = kiln_shipped_parse(text, e);
    return read;
}

/* ---------------------------------------------------------------- asking */

struct kiln_foresight {
    const kiln_forest *forest;
    const kiln_problem *problem;
    const kiln_caps *caps;
    rows rows;
    int *from; /* per feature of the forest: the row's column, -1: this build has none */
    float *row, *asked;
};

static bool knows(const kiln_shipped *m, const kiln_problem *p, const kiln_caps *caps) {
    char line[400];
    int n = snprintf(line, sizeof line, "device %s | %s | %s\n", caps->target, caps->name,
                     p->family->name);
    for (const char *at = kiln_text_get(&m->about); (at = strstr(at, line)); at += n)
        if (at == m->about.data || at[-1] == '\n') return true;
    return false;
}

static int column_named(const rows *r, const char *name) {
    for (int i = 0; i < r->n; i++)
        if (!strcmp(r->name[i], name)) return i;
    return -1;
}

static int connect(kiln_foresight *f, kiln_error *e) {
    int n = kiln_forest_features(f->forest);
    f->from = malloc((size_t)n * sizeof *f->from);
    f->asked = malloc((size_t)n * sizeof *f->asked);
    f->row = malloc((size_t)f->rows.n * sizeof *f->row);
    if (!f->from || !f->asked || !f->row) return no_memory(e);
    for (int i = 0; i < n; i++)
        f->from[i] = column_named(&f->rows, kiln_forest_feature(f->forest, i));
    return KILN_OK;
}

kiln_foresight *kiln_foresight_open(const kiln_shipped *m, const kiln_problem *p,
                                    const kiln_caps *caps, kiln_error *e) {
    const kiln_forest *forest = NULL;
    for (int i = 0; m && i < m->n; i++)
        if (!strcmp(kiln_forest_name(m->forest[i]), p->family->name)) forest = m->forest[i];
    if (!forest || !knows(m, p, caps)) return NULL;
    kiln_foresight *f = calloc(1, sizeof *f);
    if (!f) return no_memory(e), NULL;
    *f = (kiln_foresight){.forest = forest, .problem = p, .caps = caps};
    if (rows_open(&f->rows, p, caps, e) || connect(f, e)) return kiln_foresight_close(f), NULL;
    rows_for(&f->rows, p, caps);
    return f;
}

double kiln_foresight_slowdown(kiln_foresight *f, const kiln_schedule *s) {
    rows_get(&f->rows, f->problem, f->caps, s, f->row);
    for (int i = 0; i < kiln_forest_features(f->forest); i++)
        f->asked[i] = f->from[i] < 0 ? NAN : f->row[f->from[i]];
    return exp(kiln_forest_predict(f->forest, f->asked) + estimated(&f->rows, f->row));
}

void kiln_foresight_close(kiln_foresight *f) {
    if (!f) return;
    rows_close(&f->rows);
    free(f->from), free(f->row), free(f->asked);
    free(f);
}

#include "tuner/recorded.h"

#include "cost-model/features.h"
#include "kernels/family.h"
#include "results/record.h"
#include "tuner/identity.h"

#include <zlib.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST = 40, VARIANTS = 16, STARTS = 2 * VARIANTS };

/* One measurement, as the file has it. Texts are canonical for this build. */
typedef struct trial {
    const char *device, *problem, *regime, *schedule;
    double seconds; /* NaN: failed */
} trial;

typedef struct reader {
    const char *path;
    const kiln_recorded_options *o;
    kiln_arena arena; /* texts of trials */
    trial *trials;
    int64_t n, capacity;
    int64_t
        strangers; /* records that this build cannot read: another problem language, old knobs */
    char last_text[1024], *last_problem; /* records of a problem come together */
    kiln_problem problem;
    kiln_recording ***all;
    int *n_all;
    kiln_school *school; /* to teach, or to take models from */
    bool teaching;
    kiln_shipped *model; /* of all but the problem named below */
    const char *without;
    struct picks {
        double first, three; /* sums of logarithms: best over what was picked */
        int n;
    } by_estimate, by_model;
} reader;

/* ---------------------------------------------------------------- a recorded space */

/* What a recording's space points to. */
typedef struct recorded {
    kiln_problem problem;
    kiln_caps caps;
    int64_t n;
    kiln_schedule *schedule;
    double *seconds, *prior;
    double *slowdown; /* by the model; NULL: none */
    kiln_features *layout;
    int n_features;
    float *rows;
    int n_starts;
    int64_t start[STARTS];
} recorded;

static void release(void *context) {
    recorded *r = context;
    free(r->schedule), free(r->seconds), free(r->prior), free(r->slowdown), free(r->rows);
    if (r->layout) kiln_features_free(r->layout);
    free(r);
}

static void features(void *context, int64_t point, float *out) {
    const recorded *r = context;
    memcpy(out, r->rows + point * r->n_features, (size_t)r->n_features * sizeof *out);
}

static double prior(void *context, int64_t point) {
    return ((const recorded *)context)->prior[point];
}

static double slowdown(void *context, int64_t point) {
    return ((const recorded *)context)->slowdown[point];
}

static double opinion(void *context, int k, int64_t point) {
    const recorded *r = context;
    return k ? r->slowdown[point] : r->prior[point];
}

/* The only knob in which two schedules of one variant differ, -1: none or several. */
static int lone_difference(const kiln_schedule *a, const kiln_schedule *b) {
    int found = -1;
    if (a->variant != b->variant) return -1;
    for (int k = 0; a->variant->knobs[k].name; k++) {
        if (a->value[k] == b->value[k]) continue;
        if (found >= 0) return -1;
        found = k;
    }
    return found;
}

/* The nearest below and above in each knob. */
static int neighbours(void *context, int64_t point, int64_t *out, int max) {
    const recorded *r = context;
    const kiln_schedule *s = &r->schedule[point];
    int64_t near[KILN_KNOBS_MAX][2];
    int count = 0;
    memset(near, -1, sizeof near);
    for (int64_t i = 0; i < r->n; i++) {
        int k = lone_difference(s, &r->schedule[i]);
        if (k < 0) continue;
        int v = r->schedule[i].value[k];
        int64_t *best = &near[k][v > s->value[k]];
        if (*best < 0 || abs(v - s->value[k]) < abs(r->schedule[*best].value[k] - s->value[k]))
            *best = i;
    }
    for (int k = 0; k < KILN_KNOBS_MAX; k++)
        for (int side = 0; side < 2; side++)
            if (near[k][side] >= 0 && count < max) out[count++] = near[k][side];
    return count;
}

static int64_t find(const recorded *r, const kiln_schedule *s) {
    for (int64_t i = 0; i < r->n; i++)
        if (r->schedule[i].variant == s->variant && lone_difference(&r->schedule[i], s) < 0 &&
            !memcmp(r->schedule[i].value, s->value, sizeof s->value))
            return i;
    return -1;
}

/* NaN for a schedule that this build holds illegal: an estimate may not be asked about it. */
static double estimate(const recorded *r, const kiln_schedule *s) {
    const kiln_variant_generator *g = kiln_variant_generator_of(s->variant);
    if (!g->estimate || !s->variant->legal(&r->problem, &r->caps, s, NULL)) return NAN;
    return g->estimate(&r->problem, &r->caps, s);
}

static void add_start(recorded *r, int64_t point) {
    int at = r->n_starts;
    for (int i = 0; i < r->n_starts; i++)
        if (r->start[i] == point) return;
    for (; at > 0 && r->prior[point] < r->prior[r->start[at - 1]]; at--)
        r->start[at] = r->start[at - 1];
    r->start[at] = point;
    r->n_starts++;
}

/* The variants' start schedules that were measured, in the order of their estimates. */
static void add_starts(recorded *r) {
    const kiln_generator *g = kiln_generator_of(r->problem.family);
    double least = INFINITY;
    int n = 0;
    for (const kiln_variant_generator *v = g->variants; v->variant; v++) {
        if (r->n_starts == STARTS || !v->applies(&r->problem, &r->caps, NULL)) continue;
        kiln_schedule s = v->start(&r->problem, &r->caps);
        int64_t point = find(r, &s);
        if (point >= 0) add_start(r, point);
    }
    /* As in a session: what should take several times as long as another waits. */
    for (int i = 0; i < r->n_starts; i++) least = fmin(least, r->prior[r->start[i]]);
    for (int i = 0; i < r->n_starts; i++)
        if (!(r->prior[r->start[i]] > 4 * least)) r->start[n++] = r->start[i];
    r->n_starts = n;
}

static int add_prior(recorded *r) {
    if (!(r->prior = malloc((size_t)r->n * sizeof *r->prior))) return KILN_NO_MEMORY;
    for (int64_t i = 0; i < r->n; i++) r->prior[i] = estimate(r, &r->schedule[i]);
    add_starts(r);
    return KILN_OK;
}

static bool any_opinion(const recorded *r) {
    for (int64_t i = 0; r->prior && i < r->n; i++)
        if (!isnan(r->prior[i])) return true;
    return false;
}

/* ---------------------------------------------------------------- the model's word */

/* How near to the best the first pick comes, and the best of three. */
static void judge_picks(const recorded *r, const double *said, struct picks *out) {
    int64_t picked[3] = {-1, -1, -1};
    double best = INFINITY, seconds = INFINITY;
    for (int64_t i = 0; i < r->n; i++) {
        best = fmin(best, r->seconds[i]);
        int at = 3;
        while (at > 0 && (picked[at - 1] < 0 || said[i] < said[picked[at - 1]])) at--;
        if (isnan(said[i]) || at == 3) continue;
        for (int k = 2; k > at; k--) picked[k] = picked[k - 1];
        picked[at] = i;
    }
    for (int k = 0; k < 3; k++) {
        if (picked[k] >= 0) seconds = fmin(seconds, r->seconds[picked[k]]);
        if (k == 0) out->first += log(fmax(best / seconds, 0.01)); /* a failure: as good as none */
    }
    out->three += log(fmax(best / seconds, 0.01));
    out->n++;
}

/* A model that has not seen the problem. */
static const kiln_shipped *model_without(reader *x, const char *problem, kiln_error *e) {
    if (x->without && !strcmp(x->without, problem)) return x->model;
    kiln_shipped_free(x->model);
    x->model = kiln_school_train(x->school, problem, e);
    x->without = x->model ? problem : NULL;
    return x->model;
}

static int ask_model(reader *x, recorded *r, const char *problem, kiln_error *e) {
    const kiln_shipped *m = model_without(x, problem, e);
    kiln_foresight *f = m ? kiln_foresight_open(m, &r->problem, &r->caps, e) : NULL;
    if (!f) return m ? KILN_OK : e->status; /* nothing was learnt about its family */
    r->slowdown = malloc((size_t)r->n * sizeof *r->slowdown);
    for (int64_t i = 0; r->slowdown && i < r->n; i++)
        r->slowdown[i] = kiln_foresight_slowdown(f, &r->schedule[i]);
    kiln_foresight_close(f);
    if (!r->slowdown) return KILN_NO_MEMORY;
    if (any_opinion(r)) judge_picks(r, r->prior, &x->by_estimate);
    judge_picks(r, r->slowdown, &x->by_model);
    return KILN_OK;
}

static int add_features(recorded *r, kiln_error *e) {
    const kiln_variant *variants[VARIANTS];
    int n_variants = 0;
    for (int64_t i = 0; i < r->n; i++) {
        int k = 0;
        while (k < n_variants && variants[k] != r->schedule[i].variant) k++;
        if (k == n_variants && k < VARIANTS) variants[n_variants++] = r->schedule[i].variant;
    }
    r->layout = kiln_features_create(kiln_generator_of(r->problem.family), variants, n_variants,
                                     &r->problem, &r->caps, KILN_FEATURES_SEARCH, e);
    if (!r->layout) return e->status;
    r->n_features = kiln_features_count(r->layout);
    r->rows = malloc((size_t)r->n * (size_t)r->n_features * sizeof *r->rows);
    for (int64_t i = 0; r->rows && i < r->n; i++)
        kiln_features_row(r->layout, &r->problem, &r->schedule[i], &r->caps, NULL,
                          r->rows + i * r->n_features);
    return r->rows ? KILN_OK : KILN_NO_MEMORY;
}

static kiln_recording *wrap(recorded *r, const char *name, kiln_error *e) {
    kiln_search_space space = {.n = r->n,
                               .n_features = r->n_features,
                               .feature_names = kiln_features_names(r->layout),
                               .features = features,
                               .neighbours = neighbours,
                               .context = r,
                               .n_starts = r->n_starts,
                               .starts = r->start,
                               .prior = any_opinion(r) ? prior : r->slowdown ? slowdown : NULL,
                               .n_opinions = r->slowdown && any_opinion(r) ? 2 : 0,
                               .opinion = opinion};
    return kiln_recording_wrap(name, &space, r->seconds, release, e);
}

/* ---------------------------------------------------------------- from trials to points */

static int by_text(const void *a, const void *b) {
    const trial *x = a, *y = b;
    int order = strcmp(x->device, y->device);
    if (!order) order = strcmp(x->problem, y->problem);
    if (!order) order = strcmp(x->regime, y->regime);
    if (!order) order = strcmp(x->schedule, y->schedule);
    /* Failures behind the timed ones. */
    return order ? order
           : isnan(x->seconds) || isnan(y->seconds)
               ? isnan(x->seconds) - isnan(y->seconds)
               : (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

static bool same_space(const trial *a, const trial *b) {
    return !strcmp(a->device, b->device) && !strcmp(a->problem, b->problem) &&
           !strcmp(a->regime, b->regime);
}

/* Median of one schedule's n sorted trials; failures say something only where nothing was timed. */
static double median(const trial *t, int64_t n) {
    int64_t timed = 0;
    while (timed < n && !isnan(t[timed].seconds)) timed++;
    return timed ? (t[(timed - 1) / 2].seconds + t[timed / 2].seconds) / 2 : NAN;
}

/* Points from n sorted trials of one space; returns how many of them were timed. */
static int64_t add_points(recorded *r, const trial *t, int64_t n) {
    int64_t timed = 0;
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && !strcmp(t[end].schedule, t[i].schedule);) end++;
        kiln_schedule_parse(r->problem.family, &r->schedule[r->n], t[i].schedule, NULL);
        r->seconds[r->n] = median(t + i, end - i);
        timed += !isnan(r->seconds[r->n++]);
    }
    return timed;
}

static void name_of(const trial *t, const kiln_caps *caps, bool alone, kiln_text *out) {
    const char *words = t->problem;
    kiln_text_add(out, words);
    if (strcmp(t->regime, kiln_record_protocol(false))) kiln_text_printf(out, " %s", t->regime);
    if (!alone) kiln_text_printf(out, " @%s:%s", caps->target, caps->name);
    for (size_t i = 0; i < out->size; i++) /* one word, for tables and gnuplot */
        if (strchr(" |", out->data[i])) out->data[i] = '_';
}

static int keep(reader *x, kiln_recording *r) {
    kiln_recording **more = realloc(*x->all, sizeof *more * (size_t)(*x->n_all + 1));
    if (!more) return KILN_NO_MEMORY;
    *x->all = more;
    more[(*x->n_all)++] = r;
    return KILN_OK;
}

static int fill(reader *x, recorded *r, const trial *t, int64_t n, kiln_error *e) {
    r->schedule = calloc((size_t)n, sizeof *r->schedule);
    r->seconds = malloc((size_t)n * sizeof *r->seconds);
    if (!r->schedule || !r->seconds) return KILN_NO_MEMORY;
    int status = kiln_problem_parse(&r->problem, t->problem, e);
    if (status) return status;
    int64_t timed = add_points(r, t, n);
    if (x->teaching)
        return kiln_school_add(x->school, t->problem, &r->problem, &r->caps, r->schedule,
                               r->seconds, r->n, e);
    if (timed < (x->o->least > 0 ? x->o->least : LEAST)) return KILN_NOT_FOUND;
    status = add_features(r, e);
    if (!status && x->o->prior) status = add_prior(r);
    return !status && x->o->prior && x->o->model ? ask_model(x, r, t->problem, e) : status;
}

/* 1: n sorted trials became a recording; 0: they are too few; below 0: an error. */
static int add_space(reader *x, const kiln_caps *caps, const trial *t, int64_t n, bool alone,
                     kiln_error *e) {
    recorded *r = calloc(1, sizeof *r);
    if (!r) return KILN_NO_MEMORY;
    r->caps = *caps;
    int status = fill(x, r, t, n, e);
    if (status || x->teaching) return release(r), status == KILN_NOT_FOUND ? 0 : status;
    kiln_text name = {0};
    name_of(t, caps, alone, &name);
    kiln_recording *made = wrap(r, kiln_text_get(&name), e);
    kiln_text_free(&name);
    if (!made) return e->status;
    status = keep(x, made);
    if (status) kiln_recording_free(made);
    return status ? status : 1;
}

/* ---------------------------------------------------------------- reading */

static int reserve(reader *x) {
    if (x->n < x->capacity) return KILN_OK;
    int64_t capacity = x->capacity ? 2 * x->capacity : 1024;
    trial *more = realloc(x->trials, sizeof *more * (size_t)capacity);
    if (!more) return KILN_NO_MEMORY;
    x->trials = more;
    x->capacity = capacity;
    return KILN_OK;
}

/* The canonical text of a problem in x->last_problem, parsed in x->problem; NULL: not this build's.
 */
static const char *problem_text(reader *x, const char *text) {
    if (x->last_problem && !strcmp(x->last_text, text)) return x->last_problem;
    x->last_problem = NULL;
    if (strlen(text) >= sizeof x->last_text || kiln_problem_parse(&x->problem, text, NULL))
        return NULL;
    kiln_text t = {0};
    kiln_problem_print(&x->problem, &t);
    x->last_problem = kiln_arena_strdup(&x->arena, kiln_text_get(&t));
    kiln_text_free(&t);
    strcpy(x->last_text, text);
    return x->last_problem;
}

static const char *schedule_text(reader *x, const char *text) {
    kiln_schedule s;
    kiln_text t = {0};
    if (kiln_schedule_parse(x->problem.family, &s, text, NULL)) return NULL;
    kiln_schedule_print(&s, &t);
    const char *kept = kiln_arena_strdup(&x->arena, kiln_text_get(&t));
    kiln_text_free(&t);
    return kept;
}

static int add_trial(reader *x, const kiln_record *r) {
    if (strcmp(r->phase, "search")) return KILN_OK;
    bool timed =
        (r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW) && r->median > 0;
    const char *problem = problem_text(x, r->problem);
    const char *schedule = problem ? schedule_text(x, r->schedule) : NULL;
    if (!schedule) return x->strangers++, KILN_OK;
    if (reserve(x)) return KILN_NO_MEMORY;
    trial *t = &x->trials[x->n];
    *t = (trial){
        .device = kiln_arena_strdup(&x->arena, r->device),
        .problem = problem,
        .regime = kiln_arena_strdup(&x->arena, r->protocol),
        .schedule = schedule,
        .seconds = timed ? r->median : NAN};
    if (!t->device || !t->regime) return KILN_NO_MEMORY;
    x->n++;
    return KILN_OK;
}

/* The line's length without its newline; 0: the end; below 0: longer than a record may be. */
static int64_t next_line(gzFile file, char *line) {
    if (!gzgets(file, line, KILN_RECORD_LINE_MAX)) return 0;
    int64_t n = (int64_t)strlen(line);
    if (n && line[n - 1] == '\n') return n;
    return gzeof(file) ? n : -1;
}

static int read_line(reader *x, const char *line, int64_t n, int64_t number, kiln_error *e) {
    kiln_arena arena = {0};
    kiln_record record;
    kiln_error why = {0};
    if (strspn(line, " \t\r\n") == (size_t)n) return KILN_OK;
    int status = n < 0 ? kiln_fail(&why, KILN_BAD_INPUT, "longer than a record may be")
                       : kiln_record_parse(&record, line, (size_t)n, &arena, &why);
    if (status)
        kiln_fail(e, status, "records %s, line %lld: %s", x->path, (long long)number, why.text);
    else
        status = add_trial(x, &record);
    kiln_arena_free(&arena);
    return status;
}

static int read_lines(reader *x, gzFile file, char *line, kiln_error *e) {
    int64_t n, number = 0;
    int status = KILN_OK, code = 0;
    while (!status && (n = next_line(file, line))) status = read_line(x, line, n, ++number, e);
    const char *why = gzerror(file, &code);
    if (!status && code != Z_OK && code != Z_STREAM_END)
        return kiln_fail(e, KILN_CORRUPT, "records %s cannot be unpacked (%s); fetch them again",
                         x->path, why);
    return status;
}

static int read_file(reader *x, kiln_error *e) {
    gzFile file = gzopen(x->path, "rb");
    if (!file) return kiln_fail(e, KILN_IO, "records %s cannot be opened; check the path", x->path);
    char *line = malloc(KILN_RECORD_LINE_MAX);
    int status = line ? read_lines(x, file, line, e) : KILN_NO_MEMORY;
    free(line);
    gzclose(file);
    return status;
}

/* ---------------------------------------------------------------- devices */

static void note_device(const reader *x, const char *device, int made, int64_t small, bool guessed,
                        kiln_text *notes) {
    kiln_text_printf(notes, "%s, %s: %d problem%s", x->path, device, made, made == 1 ? "" : "s");
    if (small)
        kiln_text_printf(notes, ", %lld more with under %d timed schedules left out",
                         (long long)small, x->o->least > 0 ? x->o->least : LEAST);
    if (guessed)
        kiln_text_add(notes, "; beyond units and memory the device is taken for an ordinary one, "
                             "its record says no more");
    kiln_text_add(notes, ".\n");
}

/* All spaces of the device whose n sorted trials these are. */
static int add_device(reader *x, const trial *t, int64_t n, kiln_text *notes, kiln_error *e) {
    kiln_caps caps;
    bool guessed, alone = n == x->n;
    int64_t small = 0;
    int status = kiln_identity_parse(t->device, &caps, &guessed, e), made = 0;
    for (int64_t i = 0, end; i < n && status >= 0; i = end) {
        for (end = i + 1; end < n && same_space(&t[end], &t[i]);) end++;
        status = add_space(x, &caps, t + i, end - i, alone, e);
        made += status > 0;
        small += status == 0;
    }
    if (status >= 0 && notes) note_device(x, t->device, made, small, guessed, notes);
    return status < 0 ? status : KILN_OK;
}

static void note_picks(const char *whose, const struct picks *p, kiln_text *notes) {
    if (p->n)
        kiln_text_printf(notes,
                         "%s: the first pick has %.4f of the best's speed, the best of three %.4f "
                         "(geometric means over %d problems).\n",
                         whose, exp(p->first / p->n), exp(p->three / p->n), p->n);
}

static int each_device(reader *x, kiln_text *notes, kiln_error *e) {
    int status = KILN_OK;
    for (int64_t i = 0, end; i < x->n && !status; i = end) {
        for (end = i + 1; end < x->n && !strcmp(x->trials[end].device, x->trials[i].device);) end++;
        status = add_device(x, x->trials + i, end - i, notes, e);
    }
    return status;
}

static int teach_all(reader *x, kiln_error *e) {
    x->teaching = true;
    int status = each_device(x, NULL, e);
    x->teaching = false;
    return status;
}

static int add_devices(reader *x, kiln_text *notes, kiln_error *e) {
    int before = *x->n_all, status = x->o->model ? teach_all(x, e) : KILN_OK;
    if (!status) status = each_device(x, notes, e);
    note_picks("By the estimates alone", &x->by_estimate, notes);
    note_picks("By a model of the other problems", &x->by_model, notes);
    if (x->strangers)
        kiln_text_printf(notes,
                         "%s: %lld records of problems or knobs unknown to this build were "
                         "left out.\n",
                         x->path, (long long)x->strangers);
    if (!status && *x->n_all == before)
        status =
            kiln_fail(e, KILN_NOT_FOUND,
                      "records %s: no problem has %d timed schedules of a search; give records "
                      "of a longer one",
                      x->path, x->o->least > 0 ? x->o->least : LEAST);
    return status;
}

bool kiln_recorded_is(const char *path) {
    gzFile file = gzopen(path, "rb");
    char start[64] = "";
    if (!file) return false;
    int n = gzread(file, start, sizeof start - 1);
    gzclose(file);
    const char *at = start + strspn(start, " \t\r\n");
    return n > 0 && !strncmp(at, "{\"version\":", 11);
}

static int read_sorted(reader *x, kiln_error *e) {
    int status = read_file(x, e);
    if (!status && x->n) qsort(x->trials, (size_t)x->n, sizeof *x->trials, by_text);
    return status;
}

static void close_reader(reader *x) {
    kiln_arena_free(&x->arena);
    kiln_shipped_free(x->model);
    free(x->trials);
    free(x);
}

int kiln_recorded_teach(const char *path, kiln_school *school, kiln_text *notes, kiln_error *e) {
    static const kiln_recorded_options usual = {0};
    reader *x = calloc(1, sizeof *x);
    kiln_error why = {0};
    int status = KILN_NO_MEMORY;
    if (x) {
        *x = (reader){.path = path, .o = &usual, .school = school};
        status = read_sorted(x, &why);
        if (!status) status = teach_all(x, &why);
        if (!status)
            kiln_text_printf(notes,
                             "%s: %lld trials, %lld records unknown to this build left out\n",
                             path, (long long)x->n, (long long)x->strangers);
        close_reader(x);
    }
    if (status && !why.text[0]) kiln_fail(&why, status, "records %s: out of memory", path);
    if (status && e) *e = why;
    return status;
}

int kiln_recorded_read(const char *path, const kiln_recorded_options *o, kiln_recording ***all,
                       int *n, kiln_text *notes, kiln_error *e) {
    reader *x = calloc(1, sizeof *x);
    kiln_error why = {0};
    int status = KILN_NO_MEMORY;
    if (x) {
        *x = (reader){.path = path, .o = o, .all = all, .n_all = n};
        status = read_sorted(x, &why);
        if (!status && o->model && !(x->school = kiln_school_open())) status = KILN_NO_MEMORY;
        if (!status) status = add_devices(x, notes, &why);
        kiln_school_close(x->school);
        close_reader(x);
    }
    if (status && !why.text[0]) kiln_fail(&why, status, "records %s: out of memory", path);
    if (status && e) *e = why;
    return status;
}

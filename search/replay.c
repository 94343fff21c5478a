#include "search/csv.h"
#include "search/frontier.h"
#include "search/replay_json.h"

#include "base/hash.h"
#include "cost-model/features.h"

#include <zlib.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEEDS = 25, EVALUATIONS = 400, BATCH = 4 };
const double kiln_replay_level[KILN_REPLAY_LEVELS] = {0.90, 0.95, 0.99};

/* A parameter's distinct values, ascending. */
typedef struct axis {
    const char *name;
    double *value;
    int n;
    uint64_t weight; /* of its index in a point's key */
} axis;

typedef struct keyed {
    uint64_t key;
    int64_t point;
} keyed;

struct kiln_recording {
    kiln_arena arena;
    const char *name;
    int n_axes;
    axis *axes;
    int64_t n, failures;
    double *value; /* n x n_axes */
    double *seconds;
    double best;
    keyed *by_key; /* sorted */
    uint64_t key_range;
    int n_features;
    const char **feature_name;
    double *prior; /* per point, NULL: none */
    int n_opinions;
    double *opinion; /* per source and point */
    bool wrapped;  /* the space is somebody else's: */
    kiln_search_space space;
    void (*release)(void *context);
};

const char *kiln_recording_name(const kiln_recording *r) { return r->name; }
double kiln_recording_best(const kiln_recording *r) { return r->best; }
double kiln_recording_seconds(const kiln_recording *r, int64_t point) { return r->seconds[point]; }
int64_t kiln_recording_failures(const kiln_recording *r) { return r->failures; }

void kiln_recording_free(kiln_recording *r) {
    if (!r) return;
    if (r->release) r->release(r->space.context);
    free(r->prior), free(r->opinion);
    kiln_arena_free(&r->arena);
    free(r);
}

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "replay: out of memory; give fewer or smaller recordings");
}

/* ---------------------------------------------------------------- making one */

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_key(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

static int index_axis(kiln_recording *r, int k) {
    axis *x = &r->axes[k];
    x->value = kiln_arena_alloc(&r->arena, sizeof(double) * (size_t)(r->n + 1));
    if (!x->value) return -1;
    for (int64_t i = 0; i < r->n; i++) x->value[i] = r->value[i * r->n_axes + k];
    qsort(x->value, (size_t)r->n, sizeof(double), by_double);
    for (int64_t i = 0; i < r->n; i++)
        if (i == 0 || x->value[i] != x->value[x->n - 1]) x->value[x->n++] = x->value[i];
    return 0;
}

static int step_of(const axis *x, double v) {
    const double *found = bsearch(&v, x->value, (size_t)x->n, sizeof v, by_double);
    return found ? (int)(found - x->value) : -1;
}

static uint64_t key_of(const kiln_recording *r, int64_t point) {
    uint64_t key = 0;
    for (int k = 0; k < r->n_axes; k++)
        key += (uint64_t)step_of(&r->axes[k], r->value[point * r->n_axes + k]) * r->axes[k].weight;
    return key;
}

static int64_t point_of(const kiln_recording *r, uint64_t key) {
    int64_t low = 0, high = r->n;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        if (r->by_key[mid].key < key) low = mid + 1;
        else high = mid;
    }
    return low < r->n && r->by_key[low].key == key ? r->by_key[low].point : -1;
}

static int index_points(kiln_recording *r, kiln_error *e) {
    uint64_t weight = 1;
    for (int k = 0; k < r->n_axes; k++) {
        if (index_axis(r, k)) return no_memory(e);
        r->axes[k].weight = weight;
        if (r->axes[k].n && weight > UINT64_MAX / 4 / (uint64_t)r->axes[k].n)
            return kiln_fail(e, KILN_UNSUPPORTED,
                             "recording %s: its parameters span more than 2^62 combinations; "
                             "leave out columns that follow from others",
                             r->name);
        weight *= (uint64_t)r->axes[k].n;
    }
    r->key_range = weight;
    r->by_key = kiln_arena_alloc(&r->arena, sizeof *r->by_key * (size_t)(r->n + 1));
    if (!r->by_key) return no_memory(e);
    for (int64_t i = 0; i < r->n; i++) r->by_key[i] = (keyed){key_of(r, i), i};
    qsort(r->by_key, (size_t)r->n, sizeof *r->by_key, by_key);
    return 0;
}

/* Pairs of switches say nothing that their values do not. */
static bool pairs_up(const axis *x) { return x->n > 2; }

static int name_features(kiln_recording *r) {
    int n = r->n_axes, at = n;
    r->n_features = n;
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++)
            if (pairs_up(&r->axes[a]) && pairs_up(&r->axes[b])) r->n_features += 2;
    r->feature_name = kiln_arena_alloc(&r->arena, sizeof(char *) * (size_t)(r->n_features + 1));
    if (!r->feature_name) return -1;
    for (int a = 0; a < n; a++) r->feature_name[a] = r->axes[a].name;
    for (int a = 0; a < n; a++)
        for (int b = a + 1; b < n; b++) {
            if (!pairs_up(&r->axes[a]) || !pairs_up(&r->axes[b])) continue;
            const char *p = r->axes[a].name, *q = r->axes[b].name;
            r->feature_name[at++] = kiln_arena_printf(&r->arena, "%s*%s", p, q);
            r->feature_name[at++] = kiln_arena_printf(&r->arena, "%s/%s", p, q);
        }
    return 0;
}

static int copy_seconds(kiln_recording *r, const double *seconds) {
    r->seconds = kiln_arena_alloc(&r->arena, sizeof(double) * (size_t)(r->n + 1));
    if (!r->seconds) return -1;
    r->best = NAN;
    for (int64_t i = 0; i < r->n; i++) {
        bool ok = isfinite(seconds[i]) && seconds[i] > 0;
        r->seconds[i] = ok ? seconds[i] : NAN;
        r->failures += !ok;
        r->best = fmin(r->best, r->seconds[i]); /* ignores NaN */
    }
    return 0;
}

static int copy_in(kiln_recording *r, const char *const *parameters, const double *values,
                   const double *seconds) {
    size_t cells = (size_t)(r->n * r->n_axes);
    r->axes = kiln_arena_alloc(&r->arena, sizeof *r->axes * (size_t)(r->n_axes + 1));
    r->value = kiln_arena_alloc(&r->arena, sizeof(double) * (cells + 1));
    if (!r->axes || !r->value || copy_seconds(r, seconds)) return -1;
    for (size_t i = 0; i < cells; i++) r->value[i] = values[i];
    for (int k = 0; k < r->n_axes; k++)
        if (!(r->axes[k].name = kiln_arena_strdup(&r->arena, parameters[k]))) return -1;
    return 0;
}

kiln_recording *kiln_recording_new(const char *name, int n_parameters,
                                   const char *const *parameters, int64_t n, const double *values,
                                   const double *seconds, kiln_error *e) {
    if (n_parameters < 1 || n_parameters > KILN_PARAMETERS_MAX || n < 1) {
        kiln_fail(e, KILN_BAD_INPUT,
                  "recording %s: %lld points of %d parameters; give at least one point and 1 to "
                  "%d parameters",
                  name, (long long)n, n_parameters, KILN_PARAMETERS_MAX);
        return NULL;
    }
    kiln_recording *r = calloc(1, sizeof *r);
    if (!r) return no_memory(e), NULL;
    r->n_axes = n_parameters;
    r->n = n;
    r->name = kiln_arena_strdup(&r->arena, name);
    int status = !r->name || copy_in(r, parameters, values, seconds) ? no_memory(e) : 0;
    if (!status) status = index_points(r, e);
    if (!status && name_features(r)) status = no_memory(e);
    if (!status) return r;
    kiln_recording_free(r);
    return NULL;
}

kiln_recording *kiln_recording_wrap(const char *name, const kiln_search_space *space,
                                    const double *seconds, void (*release)(void *context),
                                    kiln_error *e) {
    kiln_recording *r = space->n > 0 ? calloc(1, sizeof *r) : NULL;
    if (!r) {
        if (release) release(space->context);
        if (space->n > 0) return no_memory(e), NULL;
        return kiln_fail(e, KILN_BAD_INPUT, "recording %s has no points; give at least one", name),
               NULL;
    }
    r->space = *space;
    r->release = release;
    r->wrapped = true;
    r->n = space->n;
    r->name = kiln_arena_strdup(&r->arena, name);
    if (r->name && !copy_seconds(r, seconds)) return r;
    kiln_recording_free(r);
    return no_memory(e), NULL;
}

/* ---------------------------------------------------------------- reading CSV */

/* What a file of points becomes. */
typedef struct reader {
    kiln_csv *csv;
    int time_at, status_at; /* fields */
    double *values, *seconds;
    int64_t n, capacity;
} reader;

static int read_header(reader *x, const char *names[], kiln_error *e) {
    kiln_csv *c = x->csv;
    int status = kiln_csv_line(c, e), n = 0;
    if (status < 0) return status;
    if (status == 0) return kiln_csv_fail(c, e, "empty; a header line is expected");
    x->time_at = x->status_at = -1;
    for (int i = 0; i < c->n_fields; i++) {
        if (!strcmp(c->field[i], "time_ms")) x->time_at = i;
        else if (!strcmp(c->field[i], "status")) x->status_at = i;
        else if (!(names[n++] = kiln_arena_strdup(&c->arena, c->field[i]))) return no_memory(e);
    }
    if (x->time_at < 0 || x->status_at < 0 || n == 0)
        return kiln_csv_fail(c, e, "the header needs parameters and the columns time_ms and status");
    return n;
}

static int reserve_row(reader *x, int n_names) {
    if (x->n < x->capacity) return 0;
    int64_t capacity = x->capacity ? 2 * x->capacity : 1024;
    double *values = realloc(x->values, sizeof(double) * (size_t)(capacity * n_names));
    if (values) x->values = values;
    double *seconds = realloc(x->seconds, sizeof(double) * (size_t)capacity);
    if (seconds) x->seconds = seconds;
    if (!values || !seconds) return -1;
    x->capacity = capacity;
    return 0;
}

static int read_row(reader *x, int n_names, kiln_error *e) {
    kiln_csv *c = x->csv;
    if (c->n_fields != n_names + 2)
        return kiln_csv_fail(c, e, "another number of columns than line 1");
    if (reserve_row(x, n_names)) return no_memory(e);
    double *out = x->values + x->n * n_names, ms = NAN;
    for (int i = 0; i < c->n_fields; i++) {
        if (i == x->time_at || i == x->status_at) continue;
        int status = kiln_csv_value(c, c->field[i], out++, e);
        if (status) return status;
    }
    if (!strcmp(c->field[x->status_at], "ok")) {
        char *end;
        ms = strtod(c->field[x->time_at], &end);
        if (*end || !isfinite(ms) || ms <= 0)
            return kiln_csv_fail(c, e, "status is ok but time_ms is no positive number");
    }
    x->seconds[x->n++] = ms * 1e-3;
    return 0;
}

void kiln_recording_file_name(const char *path, char out[64]) {
    static const char *const endings[] = {".gz", ".csv", ".json"};
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t n = strlen(name);
    for (int i = 0; i < 3; i++) {
        size_t m = strlen(endings[i]);
        if (n > m && !strncmp(name + n - m, endings[i], m)) n -= m;
    }
    snprintf(out, 64, "%.*s", (int)n, name);
}

static kiln_recording *read_rows(reader *x, kiln_error *e) {
    const char *names[KILN_CSV_FIELDS_MAX];
    char name[64];
    int n = read_header(x, names, e), more;
    if (n < 0) return NULL;
    while ((more = kiln_csv_line(x->csv, e)) > 0)
        if (read_row(x, n, e)) return NULL;
    if (more < 0) return NULL;
    kiln_recording_file_name(x->csv->path, name);
    return kiln_recording_new(name, n, names, x->n, x->values, x->seconds, e);
}

static kiln_recording *read_csv(const char *path, kiln_error *e) {
    reader x = {.csv = kiln_csv_open(path, e)};
    if (!x.csv) return NULL;
    kiln_recording *r = read_rows(&x, e);
    kiln_csv_close(x.csv);
    free(x.values), free(x.seconds);
    return r;
}

static bool starts_as_json(const char *path) {
    gzFile file = gzopen(path, "rb");
    int c = ' ';
    if (!file) return false; /* the reader of CSV says so */
    while (c >= 0 && strchr(" \t\r\n", c)) c = gzgetc(file);
    gzclose(file);
    return c == '{' || c == '[';
}

kiln_recording *kiln_recording_read(const char *path, kiln_error *e) {
    return starts_as_json(path) ? kiln_recording_read_json(path, e) : read_csv(path, e);
}

/* ---------------------------------------------------------------- as a space */

static void space_features(void *context, int64_t point, float *out) {
    const kiln_recording *r = context;
    const double *v = r->value + point * r->n_axes;
    for (int a = 0; a < r->n_axes; a++) *out++ = (float)v[a];
    for (int a = 0; a < r->n_axes; a++)
        for (int b = a + 1; b < r->n_axes; b++)
            if (pairs_up(&r->axes[a]) && pairs_up(&r->axes[b])) {
                kiln_features_pair(v[a], v[b], out);
                out += 2;
            }
}

static int space_neighbours(void *context, int64_t point, int64_t *out, int max) {
    const kiln_recording *r = context;
    uint64_t key = key_of(r, point);
    int count = 0;
    for (int k = 0; k < r->n_axes; k++) {
        const axis *x = &r->axes[k];
        int at = (int)(key / x->weight % (uint64_t)x->n);
        for (int direction = -1; direction <= 1; direction += 2)
            for (int i = at + direction; i >= 0 && i < x->n; i += direction) {
                int64_t p = point_of(r, key + (uint64_t)(i - at) * x->weight);
                if (p < 0) continue;
                if (count < max) out[count++] = p;
                break;
            }
    }
    return count;
}

static double space_prior(void *context, int64_t point) {
    return ((const kiln_recording *)context)->prior[point];
}

static double space_opinion(void *context, int k, int64_t point) {
    const kiln_recording *r = context;
    return r->opinion[k * r->n + point];
}

kiln_search_space kiln_recording_space(kiln_recording *r) {
    if (r->wrapped) return r->space;
    return (kiln_search_space){
        .n = r->n,
        .n_features = r->n_features,
        .feature_names = r->feature_name,
        .features = space_features,
        .neighbours = space_neighbours,
        .context = r,
        .prior = r->prior ? space_prior : NULL,
        .n_opinions = r->prior ? r->n_opinions : 0,
        .opinion = space_opinion,
    };
}

static int axis_named(const kiln_recording *r, const char *name) {
    for (int k = 0; k < r->n_axes; k++)
        if (!strcmp(r->axes[k].name, name)) return k;
    return -1;
}

/* Recordings list parameters in their own order: by[k] is the axis of `source` for axis k. */
static bool match_axes(const kiln_recording *r, const kiln_recording *source,
                       int by[KILN_PARAMETERS_MAX]) {
    bool match = r->n_axes == source->n_axes && !r->wrapped && !source->wrapped;
    for (int k = 0; match && k < r->n_axes; k++)
        match = (by[k] = axis_named(source, r->axes[k].name)) >= 0;
    return match;
}

/* The point of `source` with the values that `point` has in r, or -1. */
static int64_t same_point(const kiln_recording *r, int64_t point, const kiln_recording *source,
                          const int by[KILN_PARAMETERS_MAX]) {
    uint64_t key = 0;
    for (int k = 0; k < r->n_axes; k++) {
        const axis *x = &source->axes[by[k]];
        int step = step_of(x, r->value[point * r->n_axes + k]);
        if (step < 0) return -1;
        key += (uint64_t)step * x->weight;
    }
    return point_of(source, key);
}

/* A source's opinions: slowdowns there; a failure counts as 20 times slower. */
static void ask(const kiln_recording *r, const kiln_recording *source,
                const int by[KILN_PARAMETERS_MAX], double *out) {
    for (int64_t i = 0; i < r->n; i++) {
        int64_t p = isnan(source->best) ? -1 : same_point(r, i, source, by);
        double t = p < 0 ? NAN : source->seconds[p];
        out[i] = p < 0 ? NAN : isnan(t) ? 20 : t / source->best;
    }
}

static int ask_all(kiln_recording *r, const kiln_recording *const *sources, int n, kiln_error *e) {
    for (int i = 0; i < n; i++) {
        int by[KILN_PARAMETERS_MAX];
        if (!match_axes(r, sources[i], by))
            return kiln_fail(e, KILN_BAD_INPUT,
                             "recordings %s and %s have different parameters; transfer needs the "
                             "same kernel",
                             r->name, sources[i]->name);
        ask(r, sources[i], by, r->opinion + i * r->n);
    }
    return 0;
}

/* The geometric mean of those who have an opinion. */
static double common_opinion(const kiln_recording *r, int64_t point) {
    double sum = 0;
    int n = 0;
    for (int k = 0; k < r->n_opinions; k++) {
        double x = r->opinion[k * r->n + point];
        if (!isnan(x)) sum += log(x), n++;
    }
    return n ? exp(sum / n) : NAN;
}

int kiln_recording_transfer(kiln_recording *r, const kiln_recording *const *sources, int n,
                            kiln_error *e) {
    if (r->wrapped && n > 0)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "recording %s brings its own prior; transfer is for files of values",
                         r->name);
    free(r->prior), free(r->opinion);
    r->prior = r->opinion = NULL;
    r->n_opinions = n > 0 ? n : 0;
    if (n <= 0) return 0;
    r->prior = calloc((size_t)r->n, sizeof *r->prior);
    r->opinion = calloc((size_t)r->n * (size_t)n, sizeof *r->opinion);
    int status = r->prior && r->opinion ? ask_all(r, sources, n, e) : no_memory(e);
    for (int64_t i = 0; !status && i < r->n; i++) r->prior[i] = common_opinion(r, i);
    if (status) free(r->prior), free(r->opinion), r->prior = r->opinion = NULL;
    return status;
}

static void shuffle(const double *kept, int64_t n, uint64_t seed, double *out) {
    for (int64_t i = 0; i < n; i++) out[i] = kept[kiln_search_shuffled(n, seed, i)];
}

typedef struct ranked {
    double score;
    int64_t point;
} ranked;

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    return (x->point > y->point) - (x->point < y->point);
}

/* A sum over the parameters of a number by chance for each of their values. */
static double chance_kernel(const kiln_recording *r, uint64_t seed, int64_t point) {
    double sum = 0;
    for (int k = 0; k < r->n_axes; k++) {
        int step = step_of(&r->axes[k], r->value[point * r->n_axes + k]);
        sum += kiln_random_unit(seed, (uint64_t)(k * 1000003 + step));
    }
    return sum;
}

/* The known opinions, ascending, given out in the order of the chance kernel's times. */
static int invent(const kiln_recording *r, const double *kept, uint64_t seed, double *out) {
    ranked *order = malloc(((size_t)r->n + 1) * sizeof *order);
    double *sorted = malloc(((size_t)r->n + 1) * sizeof *sorted);
    int64_t n = 0;
    for (int64_t i = 0; order && sorted && i < r->n; i++) {
        if (isnan(kept[i])) continue;
        order[n] = (ranked){chance_kernel(r, seed, i), i};
        sorted[n++] = kept[i];
    }
    bool made = order && sorted;
    if (made) qsort(order, (size_t)n, sizeof *order, by_score);
    if (made) qsort(sorted, (size_t)n, sizeof *sorted, by_double);
    for (int64_t i = 0; made && i < n; i++) out[order[i].point] = sorted[i];
    free(order), free(sorted);
    return made ? 0 : -1;
}

int kiln_recording_mislead(kiln_recording *r, enum kiln_mislead how, uint64_t seed,
                           kiln_error *e) {
    double *kept = malloc((size_t)r->n * sizeof *kept);
    int status = kept ? 0 : no_memory(e);
    for (int k = 0; !status && how && k < r->n_opinions; k++) {
        double *opinion = r->opinion + k * r->n;
        uint64_t chance = seed + 100 * (uint64_t)k;
        memcpy(kept, opinion, (size_t)r->n * sizeof *kept);
        if (how == KILN_MISLEAD_SHUFFLED) shuffle(kept, r->n, chance, opinion);
        else if (invent(r, kept, chance, opinion)) status = no_memory(e);
    }
    for (int64_t i = 0; !status && i < r->n && r->n_opinions; i++)
        r->prior[i] = common_opinion(r, i);
    free(kept);
    return status;
}

/* ---------------------------------------------------------------- running */

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int out_of_contract(const kiln_replay_options *o, const kiln_recording *r, kiln_error *e,
                           const char *what, int64_t point) {
    return kiln_fail(e, KILN_WRONG, "strategy %s on %s %s (point %lld): a bug in the strategy",
                     o->strategy->name, r->name, what, (long long)point);
}

/* One seed's run, as far as it got. */
typedef struct run {
    kiln_recording *r;
    const kiln_replay_options *o;
    kiln_replay_result *out;
    int seed_index, count;
    double best;
    uint8_t *spent; /* per point */
    int64_t *points;
    kiln_observation *outcomes;
} run;

static void note(run *x, double seconds) {
    kiln_replay_result *out = x->out;
    x->best = fmin(x->best, seconds);
    double share = x->best > 0 ? x->r->best / x->best : 0; /* false for NaN */
    out->curve[x->seed_index * out->evaluations + x->count++] = (float)share;
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++) {
        int *reached = &out->reached[k][x->seed_index];
        if (share >= kiln_replay_level[k] && *reached > x->count) *reached = x->count;
    }
    out->proposed++;
    out->failures += isnan(seconds);
}

/* Evaluates what was proposed; 1 when the run goes on, 0 at its end. */
static int evaluate(run *x, int n, kiln_error *e) {
    for (int i = 0; i < n; i++) {
        int64_t p = x->points[i];
        if (p < 0 || p >= x->r->n) return out_of_contract(x->o, x->r, e, "left the space", p);
        if (x->spent[p]++) return out_of_contract(x->o, x->r, e, "proposed twice", p);
        x->outcomes[i] = (kiln_observation){p, x->r->seconds[p]};
        note(x, x->r->seconds[p]);
    }
    return n > 0;
}

static int step(run *x, void *state, kiln_error *e) {
    int batch = x->o->batch, left = x->out->evaluations - x->count;
    double before = processor_seconds();
    int n = x->o->strategy->propose(state, batch < left ? batch : left, x->points);
    double took = processor_seconds() - before;
    if (n == 0) return out_of_contract(x->o, x->r, e, "stopped before the end", -1);
    int status = evaluate(x, n, e);
    if (status < 0) return status;
    before = processor_seconds();
    x->o->strategy->observe(state, x->outcomes, n);
    x->out->strategy_seconds += took + processor_seconds() - before;
    x->out->slowest_propose = fmax(x->out->slowest_propose, took);
    return status;
}

static bool finished(const run *x) {
    bool found = x->out->reached[KILN_REPLAY_LEVELS - 1][x->seed_index] <= x->count;
    return x->count >= x->out->evaluations || (x->o->stop_when_found && found);
}

static void extend_curve(run *x) {
    float *curve = x->out->curve + x->seed_index * x->out->evaluations;
    for (int i = x->count; i > 0 && i < x->out->evaluations; i++) curve[i] = curve[i - 1];
}

static int run_seed(run *x, const kiln_search_space *space, kiln_error *e) {
    kiln_search_options so = {.seed = x->o->seed + (uint64_t)x->seed_index,
                              .batch = x->o->batch,
                              .expected_trials = x->o->expected_trials};
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++)
        x->out->reached[k][x->seed_index] = x->out->evaluations + 1;
    void *state = x->o->strategy->create(space, &so, e);
    if (!state) return e ? e->status : KILN_NO_MEMORY;
    int status = 1;
    x->best = NAN;
    while (status > 0 && !finished(x)) status = step(x, state, e);
    extend_curve(x);
    x->o->strategy->destroy(state);
    return status < 0 ? status : 0;
}

/* Chance has one lie for each seed: of a single one for all the figures would tell of its luck. */
static int mislead_seed(const run *x, kiln_error *e) {
    if (!x->o->mislead || !x->r->n_opinions) return 0;
    return kiln_recording_mislead(x->r, x->o->mislead, x->o->seed + (uint64_t)x->seed_index, e);
}

static int run_seeds(kiln_recording *r, const kiln_replay_options *o, kiln_replay_result *out,
                     kiln_error *e) {
    kiln_search_space space = kiln_recording_space(r);
    run x = {.r = r, .o = o, .out = out};
    x.spent = malloc((size_t)r->n);
    x.points = malloc(sizeof *x.points * (size_t)o->batch);
    x.outcomes = malloc(sizeof *x.outcomes * (size_t)o->batch);
    int status = x.spent && x.points && x.outcomes ? 0 : no_memory(e);
    for (; !status && x.seed_index < out->seeds; x.seed_index++) {
        memset(x.spent, 0, (size_t)r->n);
        x.count = 0;
        status = mislead_seed(&x, e);
        if (!status) status = run_seed(&x, &space, e);
    }
    free(x.spent);
    free(x.points);
    free(x.outcomes);
    return status;
}

static kiln_replay_options with_defaults(const kiln_replay_options *given) {
    kiln_replay_options o = *given;
    if (o.seeds <= 0) o.seeds = SEEDS;
    if (o.evaluations <= 0) o.evaluations = EVALUATIONS;
    if (o.batch <= 0) o.batch = BATCH;
    return o;
}

int kiln_replay_run(kiln_recording *r, const kiln_replay_options *given, kiln_replay_result *out,
                    kiln_error *e) {
    kiln_replay_options o = with_defaults(given);
    *out = (kiln_replay_result){.seeds = o.seeds, .evaluations = o.evaluations};
    if (out->evaluations > r->n) out->evaluations = (int)r->n;
    bool made = true;
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++)
        made &= !!(out->reached[k] = calloc((size_t)o.seeds, sizeof(int)));
    out->curve = calloc((size_t)o.seeds * (size_t)out->evaluations, sizeof(float));
    int status = made && out->curve ? run_seeds(r, &o, out, e) : no_memory(e);
    if (status) kiln_replay_result_free(out);
    return status;
}

void kiln_replay_result_free(kiln_replay_result *r) {
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++) free(r->reached[k]);
    free(r->curve);
    *r = (kiln_replay_result){0};
}

/* ---------------------------------------------------------------- the table */

static double quantile(double *values, int n, double q) {
    qsort(values, (size_t)n, sizeof *values, by_double);
    double at = q * (n - 1);
    int low = (int)at;
    double high = values[low + 1 < n ? low + 1 : low];
    return values[low] + (at - low) * (high - values[low]);
}

static double reached_at(const kiln_replay_result *r, int level, double q) {
    double *v = malloc(sizeof *v * (size_t)r->seeds);
    if (!v) return NAN;
    for (int i = 0; i < r->seeds; i++) v[i] = r->reached[level][i];
    double value = quantile(v, r->seeds, q);
    free(v);
    return value;
}

double kiln_replay_median(const kiln_replay_result *r, int level) {
    return reached_at(r, level, 0.5);
}

/* Quartile q of best so far after `evaluations`. */
static double curve_at(const kiln_replay_result *r, int evaluations, double q) {
    double *v = malloc(sizeof *v * (size_t)r->seeds);
    if (!v) return NAN;
    int at = evaluations < r->evaluations ? evaluations : r->evaluations;
    for (int i = 0; i < r->seeds; i++) v[i] = r->curve[i * r->evaluations + at - 1];
    double value = quantile(v, r->seeds, q);
    free(v);
    return value;
}

enum { SHARES = 4 };
static const int share_after[SHARES] = {25, 50, 100, 200};

typedef struct totals {
    double log_evaluations[KILN_REPLAY_LEVELS], share[SHARES], seconds, slowest;
    int64_t proposed;
    int n;
} totals;

/* "  12.5", or " > 400" for what was never reached. */
static void add_evaluations(double n, int most, kiln_text *table) {
    if (n > most) kiln_text_printf(table, " >%4d", most);
    else kiln_text_printf(table, " %5.*f", n == floor(n) ? 0 : 1, n);
}

static void add_quartiles(const kiln_replay_result *x, int level, kiln_text *table) {
    add_evaluations(kiln_replay_median(x, level), x->evaluations, table);
    kiln_text_add(table, " [");
    add_evaluations(reached_at(x, level, 0.25), x->evaluations, table);
    add_evaluations(reached_at(x, level, 0.75), x->evaluations, table);
    kiln_text_add(table, " ] |");
}

static void add_line(const kiln_recording *r, const kiln_replay_result *x, totals *t,
                     kiln_text *table) {
    kiln_text_printf(table, "| %-20s | %6lld |", r->name, (long long)r->n);
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++) {
        t->log_evaluations[k] += log(kiln_replay_median(x, k));
        add_quartiles(x, k, table);
    }
    for (int k = 0; k < SHARES; k++) {
        double share = curve_at(x, share_after[k], 0.5);
        t->share[k] += share;
        kiln_text_printf(table, " %.3f |", share);
    }
    t->seconds += x->strategy_seconds;
    t->slowest = fmax(t->slowest, x->slowest_propose);
    t->proposed += x->proposed;
    t->n++;
    kiln_text_printf(table, " %4.1f %% | %6.2f |\n",
                     100.0 * (double)x->failures / (double)x->proposed,
                     1e3 * x->strategy_seconds / (double)x->proposed);
}

static void add_totals(const totals *t, kiln_text *table) {
    kiln_text_printf(table, "| %-20s | %6d |", "geometric mean", t->n);
    for (int k = 0; k < KILN_REPLAY_LEVELS; k++)
        kiln_text_printf(table, " %5.1f                |", exp(t->log_evaluations[k] / t->n));
    for (int k = 0; k < SHARES; k++) kiln_text_printf(table, " %.3f |", t->share[k] / t->n);
    kiln_text_printf(table, "        | %6.2f |\n", 1e3 * t->seconds / (double)t->proposed);
    kiln_text_printf(table, "Slowest proposal: %.0f ms. In brackets: quartiles over the seeds. Shares "
                            "are medians, and their means.\n", 1e3 * t->slowest);
}

static void add_header(const kiln_replay_options *o, bool transfer, kiln_text *table) {
    kiln_text_printf(table,
                     "Strategy %s%s: medians over %d seeds, at most %d evaluations, batches of "
                     "%d.\n\n",
                     o->strategy->name,
                     !transfer    ? ""
                     : o->mislead == KILN_MISLEAD_SHUFFLED ? " with misleading transfer (shuffled)"
                     : o->mislead                          ? " with misleading transfer (invented)"
                                  : " with transfer",
                     o->seeds, o->evaluations, o->batch);
    kiln_text_add(table, "| space                | points |   90 % [quartiles]    |  95 % [quartiles]    |  99 % [quartiles]    "
                         "|  @25  |  @50  | @100  | @200  | failed | ms/ev. |\n"
                         "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
}

static void add_curve(const kiln_recording *r, const kiln_replay_result *x, kiln_text *curves) {
    if (curves->size) kiln_text_add(curves, "\n\n");
    for (int i = 1; i <= x->evaluations; i++)
        kiln_text_printf(curves, "%s %d %.4f %.4f %.4f\n", r->name, i, curve_at(x, i, 0.25),
                         curve_at(x, i, 0.5), curve_at(x, i, 0.75));
}

/* Are the words of two names up to '_' equal? */
static bool same_word(const char *a, const char *b) {
    size_t n = strcspn(a, "_");
    return n == strcspn(b, "_") && !strncmp(a, b, n);
}

static const char *device_of(const char *name) {
    size_t n = strcspn(name, "_");
    return name[n] ? name + n + 1 : "";
}

/* "conv_RTX2080Ti_b" is the kernel conv on an RTX2080Ti: it may learn from conv_A100, and not from
 * conv_RTX2080Ti, which would be no transfer but an answer. */
static bool may_learn_from(const kiln_recording *a, const kiln_recording *b) {
    int by[KILN_PARAMETERS_MAX];
    return same_word(a->name, b->name) && !same_word(device_of(a->name), device_of(b->name)) &&
           match_axes(a, b, by);
}

static int give_transfer(kiln_recording *const *all, int n, int target, kiln_error *e) {
    const kiln_recording **sources = malloc(sizeof *sources * (size_t)n);
    if (!sources) return no_memory(e);
    int count = 0;
    for (int i = 0; i < n; i++)
        if (may_learn_from(all[target], all[i]))
            sources[count++] = all[i];
    int status = kiln_recording_transfer(all[target], sources, count, e);
    free(sources);
    return status;
}

/* One recording's line. */
static int compare(kiln_recording *r, const kiln_replay_options *o, totals *t, kiln_text *table,
                   kiln_text *curves, kiln_error *e) {
    kiln_replay_result x;
    if (isnan(r->best)) {
        kiln_text_printf(table, "| %-20s | every point failed |\n", r->name);
        return 0;
    }
    int status = kiln_replay_run(r, o, &x, e);
    if (status) return status;
    add_line(r, &x, t, table);
    if (curves) add_curve(r, &x, curves);
    kiln_replay_result_free(&x);
    return 0;
}

static int check_options(const kiln_replay_options *o, int n, kiln_error *e) {
    if (o->strategy && n > 0) return 0;
    return kiln_fail(e, KILN_BAD_INPUT, "replay: give a strategy (model, evolve, random or "
                                        "exhaustive) and at least one recording");
}

int kiln_replay_compare(kiln_recording *const *all, int n, const kiln_replay_options *given,
                        bool transfer, kiln_text *table, kiln_text *curves, kiln_error *e) {
    totals t = {0};
    int status = check_options(given, n, e);
    if (status) return status;
    kiln_replay_options o = with_defaults(given);
    add_header(&o, transfer, table);
    for (int i = 0; !status && i < n; i++) {
        if (transfer && !all[i]->wrapped) status = give_transfer(all, n, i, e);
        if (!status) status = compare(all[i], &o, &t, table, curves, e);
    }
    if (!status && t.n) add_totals(&t, table);
    return status;
}

int kiln_replay_table(const char *const *paths, int n, const kiln_replay_options *o, bool transfer,
                      kiln_text *table, kiln_text *curves, kiln_error *e) {
    int status = check_options(o, n, e);
    if (status) return status;
    kiln_recording **all = calloc((size_t)n + 1, sizeof *all);
    if (!all) status = no_memory(e);
    for (int i = 0; !status && i < n; i++)
        if (!(all[i] = kiln_recording_read(paths[i], e))) status = e ? e->status : KILN_IO;
    if (!status) status = kiln_replay_compare(all, n, o, transfer, table, curves, e);
    for (int i = 0; all && i < n; i++) kiln_recording_free(all[i]);
    free(all);
    return status;
}

#include "search/sizes.h"

#include "base/hash.h"
#include "cost-model/slowdown.h"
#include "search/csv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOLDS = 5, PICKS = 3, SIZE_VALUES = 5, TILE_VALUES = 3, RECIPES_MAX = 2000, EVEN_MAX = 256 };
static const double FAILED = 0.01; /* of the best's speed */

typedef struct column {
    const char *name;
    bool words, size;
    double *value; /* the different ones, ascending */
    int n_values;
} column;

typedef struct row {
    double *value; /* one per column, NaN: empty */
    double seconds;
    int configuration;
} row;

/* How a feature follows from a row: columns a to d; of IS, b is one of the values of a. */
typedef struct recipe {
    enum kind { VALUE, IS, PRODUCT, RATIO, VOLUME, EVEN, TILES, FILL, BLOCKS } kind;
    int a, b, c, d;
} recipe;

typedef struct sizes {
    kiln_csv *csv;            /* its arena holds names and values */
    int n_columns, n_problem; /* columns; those of the problem come first */
    column column[KILN_PARAMETERS_MAX];
    row *rows; /* by problem */
    int64_t n, capacity;
    int n_problems, n_configurations;
    int64_t *first; /* per problem its first row, and the end */
    int *fold;      /* per problem */
    int n_recipes;
    recipe recipe[RECIPES_MAX];
    float *features;         /* n x n_recipes */
    double *target, *weight; /* per row; of a problem that all failed: weight 0 */
    double *said;            /* per row: what is thought of it; the least is chosen */
} sizes;

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "replay: out of memory; give fewer or smaller files");
}

/* ---------------------------------------------------------------- reading */

static int read_header(sizes *x, const char *from, kiln_error *e) {
    kiln_csv *c = x->csv;
    int status = kiln_csv_line(c, e);
    if (status < 0) return status;
    while (x->n_columns < c->n_fields && strcmp(c->field[x->n_columns], "time_ms")) {
        const char *name = c->field[x->n_columns];
        if (x->n_columns == KILN_PARAMETERS_MAX)
            return kiln_csv_fail(c, e, "more than 64 columns before time_ms; leave some out");
        if (!strcmp(name, from)) x->n_problem = x->n_columns;
        if (!(x->column[x->n_columns++].name = kiln_arena_strdup(&c->arena, name)))
            return no_memory(e);
    }
    if (x->n_columns < c->n_fields && x->n_problem > 0) return 0;
    return kiln_csv_fail(c, e,
                         "the header needs columns of the problem, then those of the "
                         "configuration, whose first --sizes names, then time_ms");
}

static bool is_number(const char *text) {
    char *end;
    return isfinite(strtod(text, &end)) && end != text && !*end;
}

static int read_row(sizes *x, kiln_error *e) {
    kiln_csv *c = x->csv;
    if (c->n_fields <= x->n_columns) return kiln_csv_fail(c, e, "fewer columns than line 1");
    if (x->n == x->capacity) {
        int64_t capacity = x->capacity ? 2 * x->capacity : 4096;
        row *rows = realloc(x->rows, (size_t)capacity * sizeof *rows);
        if (!rows) return no_memory(e);
        x->rows = rows, x->capacity = capacity;
    }
    row *r = &x->rows[x->n];
    if (!(r->value = kiln_arena_alloc(&c->arena, sizeof(double) * (size_t)x->n_columns)))
        return no_memory(e);
    for (int i = 0; i < x->n_columns; i++) {
        const char *text = c->field[i];
        r->value[i] = NAN;
        if (!*text) continue;
        int status = kiln_csv_value(c, text, &r->value[i], e);
        if (status) return status;
        x->column[i].words |= !is_number(text);
    }
    const char *time = c->field[x->n_columns];
    double ms = is_number(time) ? strtod(time, NULL) : NAN;
    r->seconds = ms > 0 ? ms * 1e-3 : NAN;
    x->n++;
    return 0;
}

static int read_file(sizes *x, const char *path, const char *from, kiln_error *e) {
    if (!(x->csv = kiln_csv_open(path, e))) return e ? e->status : KILN_IO;
    int status = read_header(x, from, e), more = 0;
    while (!status && (more = kiln_csv_line(x->csv, e)) > 0) status = read_row(x, e);
    if (!status && more < 0) return more;
    return !status && !x->n ? kiln_csv_fail(x->csv, e, "no rows; give at least one") : status;
}

/* ---------------------------------------------------------------- problems and configurations */

static int order_of(const double *a, const double *b, int from, int to) {
    for (int i = from; i < to; i++) {
        if (isnan(a[i]) || isnan(b[i])) {
            if (isnan(a[i]) != isnan(b[i])) return isnan(a[i]) ? -1 : 1;
        } else if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return 0;
}

static int by_problem(const void *a, const void *b, void *of) {
    const sizes *x = of;
    return order_of(((const row *)a)->value, ((const row *)b)->value, 0, x->n_columns);
}

static int by_configuration(const void *a, const void *b, void *of) {
    const sizes *x = of;
    return order_of((*(row *const *)a)->value, (*(row *const *)b)->value, x->n_problem,
                    x->n_columns);
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int describe_column(sizes *x, int k) {
    column *c = &x->column[k];
    int64_t n = 0;
    double *v = kiln_arena_alloc(&x->csv->arena, sizeof *v * (size_t)(x->n + 1));
    if (!v) return -1;
    for (int64_t i = 0; i < x->n; i++)
        if (!isnan(x->rows[i].value[k])) v[n++] = x->rows[i].value[k];
    qsort(v, (size_t)n, sizeof *v, by_double);
    for (int64_t i = 0; i < n; i++)
        if (!c->n_values || v[i] != v[c->n_values - 1]) v[c->n_values++] = v[i];
    c->value = v;
    c->size =
        k < x->n_problem && !c->words && c->n_values >= SIZE_VALUES && !strstr(c->name, "stride");
    return 0;
}

static int fold_of(const sizes *x, const row *r) {
    uint64_t h = 0;
    for (int k = 0; k < x->n_problem; k++)
        if (x->column[k].size) h = kiln_random64(h, (uint64_t)(int64_t)r->value[k]);
    return (int)(h % FOLDS);
}

static void find_problems(sizes *x) {
    qsort_r(x->rows, (size_t)x->n, sizeof *x->rows, by_problem, x);
    for (int64_t i = 0; i < x->n; i++) {
        const row *r = &x->rows[i];
        if (i && !order_of(r[-1].value, r->value, 0, x->n_problem)) continue;
        x->fold[x->n_problems] = fold_of(x, r);
        x->first[x->n_problems++] = i;
    }
    x->first[x->n_problems] = x->n;
}

static void find_configurations(sizes *x, row **scratch) {
    for (int64_t i = 0; i < x->n; i++) scratch[i] = &x->rows[i];
    qsort_r(scratch, (size_t)x->n, sizeof *scratch, by_configuration, x);
    for (int64_t i = 0; i < x->n; i++) {
        if (!i || by_configuration(&scratch[i - 1], &scratch[i], x)) x->n_configurations++;
        scratch[i]->configuration = x->n_configurations - 1;
    }
}

static int index_rows(sizes *x, kiln_error *e) {
    size_t n = (size_t)x->n + 1;
    row **scratch = malloc(n * sizeof *scratch);
    x->first = malloc(n * sizeof *x->first);
    x->fold = malloc(n * sizeof *x->fold);
    x->said = malloc(n * sizeof *x->said);
    bool made = scratch && x->first && x->fold && x->said;
    for (int k = 0; made && k < x->n_columns; k++) made = !describe_column(x, k);
    if (made) find_problems(x), find_configurations(x, scratch);
    free(scratch);
    return made ? 0 : no_memory(e);
}

/* ---------------------------------------------------------------- features */

static void add(sizes *x, recipe r) {
    if (x->n_recipes < RECIPES_MAX) x->recipe[x->n_recipes++] = r;
}

/* May the column be a tile's extent, or how many there are of something? */
static bool counts(const sizes *x, int k) {
    return k >= x->n_problem && !x->column[k].words && x->column[k].n_values >= TILE_VALUES;
}

static void add_values(sizes *x) {
    for (int k = 0; k < x->n_columns; k++) {
        const column *c = &x->column[k];
        if (c->n_values && (!c->words || c->n_values == 2)) add(x, (recipe){.kind = VALUE, .a = k});
        for (int v = 0; c->words && c->n_values > 2 && v < c->n_values; v++)
            add(x, (recipe){.kind = IS, .a = k, .b = v});
        if (k < x->n_problem && !c->words && c->n_values >= SIZE_VALUES)
            add(x, (recipe){.kind = EVEN, .a = k});
    }
}

static void add_pairs(sizes *x) {
    for (int a = 0; a < x->n_columns; a++)
        for (int b = a + 1; b < x->n_columns; b++) {
            bool both = x->column[a].size && x->column[b].size;
            if (!both && !(counts(x, a) && counts(x, b))) continue;
            add(x, (recipe){.kind = PRODUCT, .a = a, .b = b});
            add(x, (recipe){.kind = RATIO, .a = a, .b = b});
        }
}

static void add_blocks(sizes *x, int a, int b) {
    for (int c = a + 1; c < x->n_problem; c++)
        for (int d = x->n_problem; d < x->n_columns; d++)
            if (d != b && x->column[c].size && counts(x, d))
                add(x, (recipe){.kind = BLOCKS, .a = a, .b = b, .c = c, .d = d});
}

static void add_tiles(sizes *x) {
    for (int a = 0; a < x->n_problem; a++)
        for (int b = x->n_problem; b < x->n_columns; b++) {
            if (!x->column[a].size || !counts(x, b)) continue;
            add(x, (recipe){.kind = TILES, .a = a, .b = b});
            add(x, (recipe){.kind = FILL, .a = a, .b = b});
            add_blocks(x, a, b);
        }
}

static double evenness(double v) {
    double two = 1;
    if (!(v > 0) || v != floor(v)) return NAN;
    while (two < EVEN_MAX && fmod(v, 2 * two) == 0) two *= 2;
    return two;
}

static double volume(const sizes *x, const double *v) {
    double y = 1;
    for (int k = 0; k < x->n_problem; k++)
        if (x->column[k].size) y *= v[k];
    return y;
}

static double follow(const sizes *x, const recipe *r, const double *v) {
    double a = v[r->a], b = v[r->b];
    switch (r->kind) {
    case VALUE:
        return a;
    case IS:
        return isnan(a) ? NAN : a == x->column[r->a].value[r->b];
    case PRODUCT:
        return a * b;
    case RATIO:
        return a / b;
    case VOLUME:
        return volume(x, v);
    case EVEN:
        return evenness(a);
    case TILES:
        return ceil(a / b);
    case FILL:
        return a / b / ceil(a / b);
    case BLOCKS:
        return ceil(a / b) * ceil(v[r->c] / v[r->d]);
    }
    return NAN;
}

static int make_features(sizes *x, kiln_error *e) {
    add_values(x), add_pairs(x), add(x, (recipe){.kind = VOLUME}), add_tiles(x);
    float *out = x->features = malloc((size_t)x->n * (size_t)x->n_recipes * sizeof *out);
    if (!out) return no_memory(e);
    for (int64_t i = 0; i < x->n; i++)
        for (int k = 0; k < x->n_recipes; k++) {
            double y = follow(x, &x->recipe[k], x->rows[i].value);
            *out++ = isfinite(y) ? (float)y : NAN;
        }
    return 0;
}

/* ---------------------------------------------------------------- learning */

static int make_lessons(sizes *x, kiln_error *e) {
    double *seconds = malloc((size_t)x->n * sizeof *seconds);
    x->target = calloc((size_t)x->n, sizeof *x->target);
    x->weight = calloc((size_t)x->n, sizeof *x->weight);
    bool made = seconds && x->target && x->weight;
    for (int64_t i = 0; made && i < x->n; i++) seconds[i] = x->rows[i].seconds;
    for (int p = 0; made && p < x->n_problems; p++) {
        int64_t at = x->first[p];
        kiln_slowdown_lesson(seconds + at, NULL, x->first[p + 1] - at, x->target + at,
                             x->weight + at);
    }
    free(seconds);
    return made ? 0 : no_memory(e);
}

static kiln_forest *grow(const sizes *x, const float *rows, const double *target,
                         const double *weight, int64_t n, kiln_error *e) {
    const char *name[RECIPES_MAX];
    for (int i = 0; i < x->n_recipes; i++) name[i] = "made"; /* nobody reads this forest's text */
    return kiln_forest_train("sizes", name, x->n_recipes, rows, target, weight, n,
                             &kiln_slowdown_forest, e);
}

/* The rows of all folds but one, side by side, in the scratch given. */
static kiln_forest *train_without(const sizes *x, int fold, float *rows, double *target,
                                  double *weight, kiln_error *e) {
    size_t width = (size_t)x->n_recipes;
    int64_t n = 0;
    for (int p = 0; p < x->n_problems; p++)
        for (int64_t i = x->first[p]; x->fold[p] != fold && i < x->first[p + 1]; i++) {
            if (!(x->weight[i] > 0)) continue;
            memcpy(rows + (size_t)n * width, x->features + (size_t)i * width, width * sizeof *rows);
            target[n] = x->target[i], weight[n++] = x->weight[i];
        }
    if (n) return grow(x, rows, target, weight, n, e);
    kiln_csv_fail(x->csv, e, "its problems are too few, all have the same sizes; give more");
    return NULL;
}

static int ask_model(sizes *x, int fold, kiln_error *e) {
    size_t n = (size_t)x->n, width = (size_t)x->n_recipes;
    float *rows = malloc(n * width * sizeof *rows);
    double *scratch = malloc(2 * n * sizeof *scratch);
    if (!rows || !scratch) return free(rows), free(scratch), no_memory(e);
    kiln_forest *f = train_without(x, fold, rows, scratch, scratch + n, e);
    free(rows), free(scratch);
    if (!f) return e ? e->status : KILN_NO_MEMORY;
    for (int p = 0; p < x->n_problems; p++)
        for (int64_t i = x->first[p]; x->fold[p] == fold && i < x->first[p + 1]; i++)
            x->said[i] = kiln_forest_predict(f, x->features + (size_t)i * width);
    kiln_forest_free(f);
    return 0;
}

static double best_of(const sizes *x, int problem) {
    double best = INFINITY;
    for (int64_t i = x->first[problem]; i < x->first[problem + 1]; i++)
        best = fmin(best, x->rows[i].seconds);
    return best;
}

/* Of each configuration its mean slowdown over the problems of the other folds. */
static int ask_list(sizes *x, int fold, kiln_error *e) {
    double *sum = calloc(2 * (size_t)x->n_configurations, sizeof *sum);
    double *n = sum + x->n_configurations;
    if (!sum) return no_memory(e);
    for (int p = 0; p < x->n_problems; p++) {
        double best = best_of(x, p);
        for (int64_t i = x->first[p]; i < x->first[p + 1]; i++) {
            const row *r = &x->rows[i];
            if (x->fold[p] == fold || !isfinite(best)) continue;
            sum[r->configuration] += fmin(r->seconds / best, kiln_slowdown_clip);
            n[r->configuration]++;
        }
    }
    for (int p = 0; p < x->n_problems; p++)
        for (int64_t i = x->first[p]; x->fold[p] == fold && i < x->first[p + 1]; i++)
            x->said[i] = sum[x->rows[i].configuration] / n[x->rows[i].configuration];
    free(sum);
    return 0;
}

/* ---------------------------------------------------------------- judging */

/* The rows of a problem that are thought best, in order; -1: there are fewer. */
static void choose(const sizes *x, int problem, int64_t pick[PICKS]) {
    for (int k = 0; k < PICKS; k++) pick[k] = -1;
    for (int64_t i = x->first[problem]; i < x->first[problem + 1]; i++) {
        int at = PICKS;
        if (isnan(x->said[i])) continue; /* a configuration that the list does not know */
        while (at > 0 && (pick[at - 1] < 0 || x->said[i] < x->said[pick[at - 1]])) at--;
        for (int k = PICKS - 1; k > at; k--) pick[k] = pick[k - 1];
        if (at < PICKS) pick[at] = i;
    }
}

/* Adds up logarithms. */
static void judge(const sizes *x, int fold, kiln_sizes_score *sum) {
    for (int p = 0; p < x->n_problems; p++) {
        int64_t pick[PICKS];
        double best = best_of(x, p), got = INFINITY;
        if (x->fold[p] != fold || !isfinite(best)) continue;
        choose(x, p, pick);
        for (int k = 0; k < PICKS; k++) {
            if (pick[k] >= 0) got = fmin(got, x->rows[pick[k]].seconds);
            if (k == 0) sum->first += log(fmax(best / got, FAILED));
        }
        sum->three += log(fmax(best / got, FAILED));
    }
}

static kiln_sizes_score mean(kiln_sizes_score sum, int n) {
    return (kiln_sizes_score){exp(sum.first / n), exp(sum.three / n)};
}

static int run_folds(sizes *x, kiln_sizes_result *out, kiln_error *e) {
    kiln_sizes_score list = {0}, model = {0};
    int status = 0;
    for (int fold = 0; !status && fold < FOLDS; fold++) {
        status = ask_list(x, fold, e);
        if (!status) judge(x, fold, &list), status = ask_model(x, fold, e);
        if (!status) judge(x, fold, &model);
    }
    *out = (kiln_sizes_result){.configurations = x->n_configurations};
    for (int p = 0; p < x->n_problems; p++) out->problems += isfinite(best_of(x, p));
    if (!status && !out->problems) return kiln_csv_fail(x->csv, e, "every row failed");
    out->list = mean(list, out->problems), out->model = mean(model, out->problems);
    return status;
}

int kiln_sizes_run(const char *path, const char *from, kiln_sizes_result *out, kiln_error *e) {
    sizes *x = calloc(1, sizeof *x);
    if (!x) return no_memory(e);
    int status = read_file(x, path, from, e);
    if (!status) status = index_rows(x, e);
    if (!status) status = make_features(x, e);
    if (!status) status = make_lessons(x, e);
    if (!status) status = run_folds(x, out, e);
    kiln_csv_close(x->csv);
    free(x->rows), free(x->first), free(x->fold), free(x->said);
    free(x->features), free(x->target), free(x->weight), free(x);
    return status;
}

/* ---------------------------------------------------------------- the table */

static void add_score(kiln_sizes_score s, kiln_sizes_score *sum, kiln_text *table) {
    kiln_text_printf(table, " %.4f | %.4f |", s.first, s.three);
    sum->first += log(s.first), sum->three += log(s.three);
}

int kiln_sizes_table(const char *const *paths, int n, const char *from, kiln_text *table,
                     kiln_error *e) {
    kiln_sizes_score list = {0}, model = {0}, none = {0};
    kiln_text_printf(
        table,
        "New sizes: models and lists of the problems in the other of %d folds by size; "
        "speed of their\nfirst pick and of the best of their first %d, relative to "
        "the best measured (geometric means).\n\n"
        "| file                 | problems | config. |  list  | of %d   | model  | "
        "of %d   |\n|---|--:|--:|--:|--:|--:|--:|\n",
        FOLDS, PICKS, PICKS, PICKS);
    for (int i = 0; i < n; i++) {
        kiln_sizes_result r;
        char name[64];
        int status = kiln_sizes_run(paths[i], from, &r, e);
        if (status) return status;
        kiln_recording_file_name(paths[i], name);
        kiln_text_printf(table, "| %-20s | %8d | %7d |", name, r.problems, r.configurations);
        add_score(r.list, &list, table), add_score(r.model, &model, table);
        kiln_text_add(table, "\n");
    }
    kiln_text_printf(table, "| %-20s | %8s | %7s |", "geometric mean", "", "");
    if (n) add_score(mean(list, n), &none, table), add_score(mean(model, n), &none, table);
    kiln_text_add(table, "\n");
    return 0;
}

#include "search/view.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static bool is_setting(const kiln_search_space *space, int i) {
    return !space->feature_names || !strpbrk(space->feature_names[i], "*/");
}

/* Keeps the different values of n, ascending; returns how many. */
static int keep_different(float *value, int64_t n) {
    int kept = 0;
    qsort(value, (size_t)n, sizeof *value, by_float);
    for (int64_t i = 0; i < n; i++)
        if (!kept || value[i] != value[kept - 1]) value[kept++] = value[i];
    return kept;
}

static int add_input(kiln_view *v, int column, const float *rows, int64_t n) {
    int k = v->shape.n_inputs, width = v->space->n_features;
    int64_t known = 0;
    float *value = malloc(((size_t)n + 1) * sizeof *value);
    if (!value) return KILN_NO_MEMORY;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(rows[i * width + column])) value[known++] = rows[i * width + column];
    int different = keep_different(value, known);
    if (different + (known < n) < 2) return free(value), KILN_OK; /* says nothing */
    v->value[k] = value;
    v->n_values[k] = different;
    v->column[k] = column;
    v->shape.n_inputs++;
    return KILN_OK;
}

static int find_inputs(kiln_view *v, const int64_t *points, int64_t n) {
    int width = v->space->n_features, status = KILN_OK;
    float *rows = malloc(((size_t)n * (size_t)width + 1) * sizeof *rows);
    if (!rows) return KILN_NO_MEMORY;
    for (int64_t i = 0; i < n && width; i++)
        v->space->features(v->space->context, points[i], rows + i * width);
    for (int i = 0; !status && i < width && v->shape.n_inputs < KILN_GP_INPUTS_MAX; i++)
        if (is_setting(v->space, i)) status = add_input(v, i, rows, n);
    free(rows);
    return status;
}

int kiln_view_open(kiln_view *v, const kiln_sources *sources, const int64_t *points, int64_t n,
                   kiln_error *e) {
    *v = (kiln_view){.space = sources->space, .sources = sources};
    v->row = malloc(((size_t)v->space->n_features + 1) * sizeof *v->row);
    int status = v->row ? find_inputs(v, points, n) : KILN_NO_MEMORY;
    v->shape.n_opinions = sources->n;
    v->width = v->shape.n_inputs + v->shape.n_opinions;
    if (!status) return KILN_OK;
    kiln_view_close(v);
    return kiln_fail(e, KILN_NO_MEMORY, "search: out of memory; free some");
}

void kiln_view_close(kiln_view *v) {
    for (int i = 0; i < v->shape.n_inputs; i++) free(v->value[i]);
    free(v->row);
    *v = (kiln_view){0};
}

/* Where a value stands among those that occur: 0 the least, 1 the greatest. */
static float place(const float *value, int n, float x) {
    int low = 0, high = n;
    if (!isfinite(x)) return NAN;
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (value[mid] < x)
            low = mid + 1;
        else
            high = mid;
    }
    return n > 1 ? (float)(low < n ? low : n - 1) / (float)(n - 1) : 0;
}

void kiln_view_row(kiln_view *v, int64_t point, float *out) {
    if (v->shape.n_inputs) v->space->features(v->space->context, point, v->row);
    for (int i = 0; i < v->shape.n_inputs; i++)
        *out++ = place(v->value[i], v->n_values[i], v->row[v->column[i]]);
    for (int k = 0; k < v->shape.n_opinions; k++)
        *out++ = (float)kiln_sources_opinion(v->sources, k, point);
}

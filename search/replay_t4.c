/* T4, the exchange format for results of auto-tuners (results-schema 1.0.0). */
#include "search/replay_json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The parameters are those of the first configuration; another must have the same. */
static int names(kiln_json_rows *x, const json_t *configuration, kiln_error *e) {
    void *at = json_object_iter((json_t *)configuration);
    for (; at; at = json_object_iter_next((json_t *)configuration, at)) {
        int status = kiln_json_name(x, json_object_iter_key(at), e);
        if (status) return status;
    }
    return KILN_OK;
}

/* Seconds in a unit; NAN: an unknown one. Tuners that give none mean milliseconds. */
static double unit_seconds(const char *unit) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"", 1e-3},
                 {"ms", 1e-3},
                 {"milliseconds", 1e-3},
                 {"millisecond", 1e-3},
                 {"s", 1},
                 {"seconds", 1},
                 {"second", 1},
                 {"us", 1e-6},
                 {"microseconds", 1e-6},
                 {"ns", 1e-9},
                 {"nanoseconds", 1e-9}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(unit, units[i].name)) return units[i].seconds;
    return NAN;
}

/* The measurement named time, or NULL. */
static const json_t *measured_time(const json_t *result) {
    const json_t *all = json_object_get(result, "measurements");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *m = json_array_get(all, i);
        const char *name = json_string_value(json_object_get(m, "name"));
        if (name && !strcmp(name, "time")) return m;
    }
    return NULL;
}

static int by_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Milliseconds: the median of the runs' times, NAN without any. */
static double median_run(const json_t *result) {
    const json_t *runs = json_object_get(json_object_get(result, "times"), "runtimes");
    size_t n = json_array_size(runs);
    double *ms = n ? malloc(n * sizeof *ms) : NULL;
    if (!ms) return NAN;
    for (size_t i = 0; i < n; i++) ms[i] = json_number_value(json_array_get(runs, i));
    qsort(ms, n, sizeof *ms, by_double);
    double median = (ms[(n - 1) / 2] + ms[n / 2]) / 2;
    free(ms);
    return median;
}

static int seconds_of(const kiln_json_rows *x, const json_t *result, const char *where,
                      double *seconds, kiln_error *e) {
    const json_t *time = measured_time(result);
    const char *unit = json_string_value(json_object_get(time, "unit"));
    double scale = unit_seconds(time && unit ? unit : "");
    if (isnan(scale)) return kiln_json_fail(x, e, where, "the unit of time is none of s ms us ns");
    const json_t *value = json_object_get(time, "value");
    *seconds = time ? scale * (json_is_number(value) ? json_number_value(value) : NAN)
                    : scale * median_run(result);
    if (*seconds > 0 && isfinite(*seconds)) return KILN_OK;
    return kiln_json_fail(
        x, e, where,
        "it is correct, but has neither a measurement \"time\" that is a positive "
        "number nor runtimes");
}

static bool known_failure(const char *word) {
    static const char *const known[] = {"timeout", "compile", "runtime", "correctness",
                                        "constraints"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(word, known[i])) return true;
    return false;
}

static int add_result(kiln_json_rows *x, const json_t *result, int64_t index, kiln_error *e) {
    const json_t *configuration = json_object_get(result, "configuration");
    const char *invalidity = json_string_value(json_object_get(result, "invalidity"));
    double seconds = NAN;
    char where[64];
    int status = KILN_OK;
    snprintf(where, sizeof where, "result %lld", (long long)index + 1);
    if (!json_is_object(configuration) || !json_object_size(configuration))
        return kiln_json_fail(x, e, where, "configuration: an object of parameters is expected");
    if (!invalidity || (strcmp(invalidity, "correct") && !known_failure(invalidity)))
        return kiln_json_fail(x, e, where,
                              "invalidity is none of correct, timeout, compile, runtime, "
                              "correctness, constraints");
    if (!index) status = names(x, configuration, e);
    if (!status && (int)json_object_size(configuration) != x->n_names)
        return kiln_json_fail(x, e, where, "other parameters than result 1");
    if (!status && !strcmp(invalidity, "correct"))
        status = seconds_of(x, result, where, &seconds, e);
    return status ? status : kiln_json_point(x, configuration, seconds, where, e);
}

int kiln_json_t4(kiln_json_rows *x, const json_t *root, kiln_error *e) {
    const json_t *results = json_object_get(root, "results");
    int status = KILN_OK;
    if (!json_is_array(results)) return kiln_json_fail(x, e, "results", "a list is expected");
    for (size_t i = 0; i < json_array_size(results) && !status; i++)
        status = add_result(x, json_array_get(results, i), (int64_t)i, e);
    return status;
}

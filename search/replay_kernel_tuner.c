/* Kernel Tuner's cache files, of every schema version so far: they differ in what this leaves
 * unread. Its simulation mode reads the same files. */
#include "search/replay_json.h"

#include <math.h>
#include <stdio.h>

/* Older versions wrote this in place of the name of a failure. */
static const double FAILED_TIME = 1e20;

static int names(kiln_json_rows *x, const json_t *root, kiln_error *e) {
    const json_t *keys = json_object_get(root, "tune_params_keys");
    if (!json_is_array(keys) || !json_array_size(keys))
        return kiln_json_fail(x, e, "tune_params_keys", "a list of parameters' names is expected");
    for (size_t i = 0; i < json_array_size(keys); i++) {
        int status = kiln_json_name(x, json_string_value(json_array_get(keys, i)), e);
        if (status) return status;
    }
    return KILN_OK;
}

static int entry(kiln_json_rows *x, const char *key, const json_t *point, kiln_error *e) {
    const json_t *time = json_object_get(point, "time");
    char where[160];
    snprintf(where, sizeof where, "cache entry \"%.120s\"", key);
    if (!json_is_object(point)) return kiln_json_fail(x, e, where, "an object is expected");
    if (!time) return kiln_json_fail(x, e, where, "time is missing: a number, or a failure's name");
    double ms = json_is_number(time) ? json_number_value(time) : NAN;
    if (ms <= 0) return kiln_json_fail(x, e, where, "time is no positive number of milliseconds");
    return kiln_json_point(x, point, ms < FAILED_TIME ? ms * 1e-3 : NAN, where, e);
}

int kiln_json_kernel_tuner(kiln_json_rows *x, const json_t *root, kiln_error *e) {
    const json_t *cache = json_object_get(root, "cache");
    int status = names(x, root, e);
    if (!status && !json_is_object(cache))
        return kiln_json_fail(x, e, "cache", "an object with an entry for each point is expected");
    void *at = json_object_iter((json_t *)cache);
    for (; at && !status; at = json_object_iter_next((json_t *)cache, at))
        status = entry(x, json_object_iter_key(at), json_object_iter_value(at), e);
    return status;
}

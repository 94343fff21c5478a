/* Private to search/: the JSON formats of recorded spaces.
 *
 *   Kernel Tuner's cache  {"tune_params_keys": [...], "cache": {"16,1": {"block_size_x": 16, ...,
 *                         "time": 3.87 or "CompilationFailedConfig"}, ...}}, times in milliseconds.
 *                         A cache that is still being written lacks its end, and is read all the
 *                         same. Python writes NaN and Infinity: no number, so a failure.
 *   T4                    {"results": [{"configuration": {...}, "invalidity": "correct" or a kind
 * of failure, "measurements": [{"name": "time", "value": 3.87, "unit": "ms"}], "times":
 * {"runtimes": [...]}}, ...]}, milliseconds where no unit is given.
 *
 * To add a format: a file replay_NAME.c with a function of the type below, and a row in
 * replay_json.c. */
#ifndef KILN_SEARCH_REPLAY_JSON_H
#define KILN_SEARCH_REPLAY_JSON_H

#include "base/arena.h"
#include "search/replay.h"

#include <jansson.h>

enum { KILN_PARAMETERS_MAX = 64 };

/* What a format's reader fills, point by point. */
typedef struct kiln_json_rows {
    const char *path;
    kiln_arena arena; /* names and categories */
    int n_names;
    const char *name[KILN_PARAMETERS_MAX];
    double *values, *seconds;
    int64_t n, capacity;
    const char *category[256]; /* words seen in place of numbers */
    int n_categories;
} kiln_json_rows;

/* Gives the parameters' names (strings), in order; before the first point. */
int kiln_json_name(kiln_json_rows *x, const char *name, kiln_error *e);
/* Adds a point: its values by name from `configuration`. `where` names it in errors. */
int kiln_json_point(kiln_json_rows *x, const json_t *configuration, double seconds,
                    const char *where, kiln_error *e);
int kiln_json_fail(const kiln_json_rows *x, kiln_error *e, const char *where, const char *what);

int kiln_json_kernel_tuner(kiln_json_rows *x, const json_t *root, kiln_error *e);
int kiln_json_t4(kiln_json_rows *x, const json_t *root, kiln_error *e);

/* A file of any of these formats, gzipped or not. */
kiln_recording *kiln_recording_read_json(const char *path, kiln_error *e);
/* "folder/conv_A100.csv.gz" is the recording conv_A100. */
void kiln_recording_file_name(const char *path, char out[64]);

#endif

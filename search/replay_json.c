#include "search/replay_json.h"

#include <zlib.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 20 };
static const size_t FILE_MAX = (size_t)2 << 30;

typedef struct format {
    const char *key; /* of the root: tells the formats apart */
    int (*read)(kiln_json_rows *x, const json_t *root, kiln_error *e);
} format;

static const format formats[] = {
    {"cache", kiln_json_kernel_tuner},
    {"results", kiln_json_t4},
};

int kiln_json_fail(const kiln_json_rows *x, kiln_error *e, const char *where, const char *what) {
    return kiln_fail(e, KILN_BAD_INPUT, "recording %s, %s: %s", x->path, where, what);
}

static int no_memory(const kiln_json_rows *x, kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "recording %s: out of memory; give a smaller one", x->path);
}

/* ---------------------------------------------------------------- points */

int kiln_json_name(kiln_json_rows *x, const char *name, kiln_error *e) {
    if (!name) return kiln_json_fail(x, e, "parameters", "a name is no string");
    if (x->n_names == KILN_PARAMETERS_MAX)
        return kiln_json_fail(x, e, "parameters",
                              "more than 64; leave out those that never change");
    x->name[x->n_names] = kiln_arena_strdup(&x->arena, name);
    return x->name[x->n_names++] ? KILN_OK : no_memory(x, e);
}

/* Words count down from -1, where they meet no number of a tuning parameter. */
static int category(kiln_json_rows *x, const char *word, double *out, kiln_error *e) {
    int k = 0;
    while (k < x->n_categories && strcmp(x->category[k], word)) k++;
    *out = -1 - k;
    if (k < x->n_categories) return KILN_OK;
    if (k == (int)(sizeof x->category / sizeof *x->category))
        return kiln_json_fail(x, e, "values", "more than 256 different words in place of numbers");
    x->category[k] = kiln_arena_strdup(&x->arena, word);
    x->n_categories++;
    return x->category[k] ? KILN_OK : no_memory(x, e);
}

static int value_of(kiln_json_rows *x, const json_t *v, double *out, kiln_error *e) {
    if (json_is_number(v)) return *out = json_number_value(v), KILN_OK;
    if (json_is_boolean(v)) return *out = json_is_true(v), KILN_OK;
    if (json_is_string(v)) return category(x, json_string_value(v), out, e);
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    int status = text ? category(x, text, out, e) : no_memory(x, e);
    free(text);
    return status;
}

static int reserve(kiln_json_rows *x, kiln_error *e) {
    if (x->n < x->capacity) return KILN_OK;
    int64_t capacity = x->capacity ? 2 * x->capacity : 1024;
    void *values = realloc(x->values, sizeof(double) * (size_t)(capacity * (x->n_names + 1)));
    if (values) x->values = values;
    void *seconds = realloc(x->seconds, sizeof(double) * (size_t)capacity);
    if (seconds) x->seconds = seconds;
    if (!values || !seconds) return no_memory(x, e);
    x->capacity = capacity;
    return KILN_OK;
}

int kiln_json_point(kiln_json_rows *x, const json_t *configuration, double seconds,
                    const char *where, kiln_error *e) {
    int status = reserve(x, e);
    for (int i = 0; i < x->n_names && !status; i++) {
        const json_t *v = json_object_get(configuration, x->name[i]);
        char what[160];
        snprintf(what, sizeof what, "parameter %.80s is missing", x->name[i]);
        if (!v) return kiln_json_fail(x, e, where, what);
        status = value_of(x, v, &x->values[x->n * x->n_names + i], e);
    }
    if (!status) x->seconds[x->n++] = seconds;
    return status;
}

/* ---------------------------------------------------------------- the file's text */

static int read_all(const char *path, kiln_text *out, kiln_error *e) {
    static const char broken[] = "recording %s cannot be unpacked (%s); fetch it again";
    gzFile file = gzopen(path, "rb");
    if (!file) return kiln_fail(e, KILN_IO, "recording %s cannot be opened; check the path", path);
    char *chunk = malloc(CHUNK);
    int n = 0, code = 0, status = chunk ? KILN_OK : KILN_NO_MEMORY;
    while (!status && (n = gzread(file, chunk, CHUNK)) > 0) {
        kiln_text_add_bytes(out, chunk, (size_t)n);
        if (out->failed || out->size > FILE_MAX) status = KILN_NO_MEMORY;
    }
    const char *why = gzerror(file, &code);
    if (status)
        kiln_fail(e, status, "recording %s: too large for the memory here", path);
    else if (n < 0 || (code != Z_OK && code != Z_STREAM_END))
        status = kiln_fail(e, KILN_CORRUPT, broken, path, why);
    free(chunk);
    gzclose(file);
    return status;
}

/* Python's NaN, Infinity and -Infinity become what JSON has and no format here takes for a number:
 * an empty list, padded to their length so that the place in an error stays right. */
static void blank_numbers(char *text) {
    static const char *const odd[] = {"NaN", "-Infinity", "Infinity"};
    bool quoted = false;
    for (char *s = text; *s; s++) {
        if (quoted && *s == '\\' && s[1])
            s++;
        else if (*s == '"')
            quoted = !quoted;
        for (int i = 0; i < 3 && !quoted; i++)
            if (!strncmp(s, odd[i], strlen(odd[i]))) memcpy(s, "[]       ", strlen(odd[i]));
    }
}

/* A cache that is being written ends after an entry, with or without its comma: what is missing is
 * the end of the object with the entries and that of the root. */
static json_t *parse_open(kiln_text *text, json_error_t *why) {
    size_t n = text->size;
    while (n && strchr(" \t\r\n,", text->data[n - 1])) n--;
    if (!n || text->data[n - 1] != '}') return NULL;
    kiln_text closed = {0};
    kiln_text_add_bytes(&closed, text->data, n);
    kiln_text_add(&closed, "}}");
    json_t *root = closed.failed ? NULL : json_loadb(closed.data, closed.size, 0, why);
    kiln_text_free(&closed);
    return root;
}

static json_t *parse(const char *path, kiln_text *text, kiln_error *e) {
    json_error_t why, again;
    if (strlen(kiln_text_get(text)) != text->size)
        return kiln_fail(e, KILN_BAD_INPUT, "recording %s has zero bytes in it: it is no text",
                         path),
               NULL;
    blank_numbers(text->data);
    json_t *root = json_loadb(text->data, text->size, 0, &why);
    if (!root) root = parse_open(text, &again);
    if (!root)
        kiln_fail(e, KILN_BAD_INPUT, "recording %s, line %d, column %d: %s; fetch it again", path,
                  why.line, why.column, why.text);
    return root;
}

/* ---------------------------------------------------------------- the recording */

/* Rows of a file by their values, and in the file's order where these are equal. */
static int by_values(const void *a, const void *b, void *context) {
    const kiln_json_rows *x = context;
    int64_t i = *(const int64_t *)a, j = *(const int64_t *)b;
    for (int k = 0; k < x->n_names; k++) {
        double p = x->values[i * x->n_names + k], q = x->values[j * x->n_names + k];
        if (p != q) return p < q ? -1 : 1;
    }
    return (i > j) - (i < j);
}

static bool equal_rows(const kiln_json_rows *x, int64_t i, int64_t j) {
    return !memcmp(x->values + i * x->n_names, x->values + j * x->n_names,
                   (size_t)x->n_names * sizeof *x->values);
}

/* A tuner's log has a configuration as often as it was asked for: the first answer counts, and
 * `later` marks the others. */
static void mark_repeated(kiln_json_rows *x, int64_t *order, bool *later) {
    for (int64_t i = 0; i < x->n; i++) order[i] = i;
    qsort_r(order, (size_t)x->n, sizeof *order, by_values, x);
    for (int64_t i = 1; i < x->n; i++) later[order[i]] = equal_rows(x, order[i], order[i - 1]);
}

static int drop_repeated(kiln_json_rows *x, kiln_error *e) {
    int64_t *order = malloc((size_t)(x->n + 1) * sizeof *order), kept = 0;
    bool *later = calloc((size_t)x->n + 1, sizeof *later);
    size_t width = (size_t)x->n_names;
    int status = order && later ? KILN_OK : no_memory(x, e);
    if (!status) mark_repeated(x, order, later);
    for (int64_t i = 0; i < x->n && !status; i++) {
        if (later[i]) continue;
        memmove(x->values + (size_t)kept * width, x->values + (size_t)i * width,
                width * sizeof *x->values);
        x->seconds[kept++] = x->seconds[i];
    }
    if (!status) x->n = kept;
    free(order);
    free(later);
    return status;
}

static int read_points(kiln_json_rows *x, const format *f, const json_t *root, kiln_error *e) {
    int status = f->read(x, root, e);
    if (!status && !x->n) return kiln_json_fail(x, e, f->key, "0 points; at least one is needed");
    return status ? status : drop_repeated(x, e);
}

static int read_rows(kiln_json_rows *x, const json_t *root, kiln_error *e) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (json_object_get(root, formats[i].key)) return read_points(x, &formats[i], root, e);
    return kiln_fail(e, KILN_BAD_INPUT,
                     "recording %s is JSON without \"cache\" (Kernel Tuner) or \"results\" (T4) at "
                     "its root; give one of these, CSV, or records of tune export",
                     x->path);
}

kiln_recording *kiln_recording_read_json(const char *path, kiln_error *e) {
    kiln_json_rows x = {.path = path};
    kiln_text text = {0};
    kiln_recording *r = NULL;
    char name[64];
    json_t *root = read_all(path, &text, e) ? NULL : parse(path, &text, e);
    kiln_text_free(&text);
    kiln_recording_file_name(path, name);
    if (root && !read_rows(&x, root, e))
        r = kiln_recording_new(name, x.n_names, x.name, x.n, x.values, x.seconds, e);
    json_decref(root);
    kiln_arena_free(&x.arena);
    free(x.values);
    free(x.seconds);
    return r;
}

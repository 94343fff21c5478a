#include "search/csv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(kiln_error *e) {
    return kiln_fail(e, KILN_NO_MEMORY, "replay: out of memory; give fewer or smaller recordings");
}

int kiln_csv_fail(const kiln_csv *c, kiln_error *e, const char *what) {
    return kiln_fail(e, KILN_BAD_INPUT, "recording %s, line %lld: %s", c->path, (long long)c->line,
                     what);
}

kiln_csv *kiln_csv_open(const char *path, kiln_error *e) {
    kiln_csv *c = calloc(1, sizeof *c);
    if (!c) return no_memory(e), NULL;
    c->path = path;
    if ((c->file = gzopen(path, "rb"))) return c;
    kiln_fail(e, KILN_IO, "recording %s cannot be opened; check the path", path);
    return free(c), NULL;
}

void kiln_csv_close(kiln_csv *c) {
    if (!c) return;
    gzclose(c->file);
    kiln_arena_free(&c->arena);
    free(c);
}

static int read_line(kiln_csv *c, kiln_error *e) {
    do {
        c->line++;
        if (!gzgets(c->file, c->text, sizeof c->text)) {
            int code;
            const char *why = gzerror(c->file, &code);
            if (code == Z_OK || code == Z_STREAM_END) return 0;
            return kiln_fail(e, KILN_CORRUPT,
                             "recording %s cannot be unpacked (%s); fetch it again", c->path, why);
        }
        size_t n = strlen(c->text);
        if (n + 1 == sizeof c->text)
            return kiln_csv_fail(c, e, "longer than 16 KB; is it a CSV file?");
        while (n && strchr("\r\n", c->text[n - 1])) c->text[--n] = 0;
    } while (!c->text[0]);
    return 1;
}

int kiln_csv_line(kiln_csv *c, kiln_error *e) {
    int status = read_line(c, e);
    c->n_fields = 0;
    for (char *s = c->text; status > 0 && s;) {
        if (c->n_fields == KILN_CSV_FIELDS_MAX)
            return kiln_csv_fail(c, e, "more than 66 columns; leave some out");
        c->field[c->n_fields++] = s;
        s = strchr(s, ',');
        if (s) *s++ = 0;
    }
    return status;
}

int kiln_csv_value(kiln_csv *c, const char *text, double *out, kiln_error *e) {
    char *end;
    *out = strtod(text, &end);
    if (end != text && !*end && isfinite(*out)) return 0;
    int k = 0;
    while (k < c->n_categories && strcmp(c->category[k], text)) k++;
    *out = k;
    if (k < c->n_categories) return 0;
    if (k == 256) return kiln_csv_fail(c, e, "more than 256 different words in place of numbers");
    c->category[c->n_categories] = kiln_arena_strdup(&c->arena, text);
    return c->category[c->n_categories] ? c->n_categories++, 0 : no_memory(e);
}

/* Private to search/: CSV files, gzipped or not, a line at a time. A header line, then values:
 * numbers, or words, which count as categories. No quoting: recordings need none. */
#ifndef KILN_SEARCH_CSV_H
#define KILN_SEARCH_CSV_H

#include "base/arena.h"
#include "search/replay_json.h"

#include <zlib.h>

enum { KILN_CSV_LINE_MAX = 16384, KILN_CSV_FIELDS_MAX = KILN_PARAMETERS_MAX + 2 };

typedef struct kiln_csv {
    const char *path;
    gzFile file;
    int64_t line;
    char text[KILN_CSV_LINE_MAX];
    char *field[KILN_CSV_FIELDS_MAX]; /* of the line read last; into text */
    int n_fields;
    char *category[256]; /* words seen in place of numbers; their index is the value */
    int n_categories;
    kiln_arena arena; /* of the categories; others may use it for names */
} kiln_csv;

/* NULL: no memory, or the file cannot be opened. */
kiln_csv *kiln_csv_open(const char *path, kiln_error *e);
void kiln_csv_close(kiln_csv *c);
/* The next line that is not empty, in c->field. 1: there is one; 0: the end; negative: an error. */
int kiln_csv_line(kiln_csv *c, kiln_error *e);
/* A field as a number, or as the index of its word. */
int kiln_csv_value(kiln_csv *c, const char *text, double *out, kiln_error *e);
/* An error that names file and line. */
int kiln_csv_fail(const kiln_csv *c, kiln_error *e, const char *what);

#endif

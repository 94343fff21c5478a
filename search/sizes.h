/* Across sizes: how well a model that has seen other problems chooses for a new one. Recordings of
 * many problems with a few configurations each stand in for our own records, of which there are
 * fewer; what learns is what trains the model that ships (cost-model/slowdown.h).
 *
 * A file is CSV, gzipped or not: the columns of the problem, those of the configuration, `time_ms`
 * (anything but a positive number is a failure), then whatever else, which is ignored. A cell may
 * be empty: that configuration has no such parameter. Words count as categories. A size is a column
 * of the problem with five different numbers or more, and no stride, which follows from sizes.
 *
 * Features come from the columns by rules that hold for any kernel: values, products and ratios of
 * sizes and of parameters, the powers of two in sizes and strides, and for a size and a parameter,
 * were it a tile: how many of them, how full the last, and blocks of two such. */
#ifndef KILN_SEARCH_SIZES_H
#define KILN_SEARCH_SIZES_H

#include "base/status.h"
#include "base/text.h"

/* Geometric means over the problems: speed of the first pick, and of the best of the first three,
 * relative to the best that was measured; a failure counts as 0.01. */
typedef struct kiln_sizes_score {
    double first, three;
} kiln_sizes_score;

typedef struct kiln_sizes_result {
    int problems, configurations; /* problems that all failed are not counted */
    kiln_sizes_score list;        /* a fixed list: configurations by their mean slowdown */
    kiln_sizes_score model;       /* for each problem a forest of those in other folds */
} kiln_sizes_result;

/* `from`: the first column of the configuration. Problems are dealt into 5 folds by their sizes:
 * those that differ in types, strides or switches alone share a fold. Deterministic. */
int kiln_sizes_run(const char *path, const char *from, kiln_sizes_result *out, kiln_error *e);
/* The table that `tune replay --sizes` prints: a line per file, then their geometric means. */
int kiln_sizes_table(const char *const *paths, int n, const char *from, kiln_text *table,
                     kiln_error *e);

#endif

/* A space as the Gaussian process sees it: a point's own settings in 0..1, by the order of the
 * values that occur, and the opinions that others hold of it.
 *
 * Settings are the features whose names hold neither '*' nor '/': those are made of others. */
#ifndef KILN_SEARCH_VIEW_H
#define KILN_SEARCH_VIEW_H

#include "cost-model/gp.h"
#include "search/source.h"

typedef struct kiln_view {
    const kiln_search_space *space;
    const kiln_sources *sources;
    kiln_gp_shape shape;
    int width;                        /* of a row: inputs and opinions */
    int column[KILN_GP_INPUTS_MAX];   /* of the inputs, among the space's features */
    float *value[KILN_GP_INPUTS_MAX]; /* per input: the different values, ascending */
    int n_values[KILN_GP_INPUTS_MAX];
    float *row; /* all features of one point */
} kiln_view;

/* Looks at n points of the sources' space; the sources must outlive the view. */
int kiln_view_open(kiln_view *v, const kiln_sources *sources, const int64_t *points, int64_t n,
                   kiln_error *e);
void kiln_view_close(kiln_view *v);
/* v->width floats, for any point of the space. */
void kiln_view_row(kiln_view *v, int64_t point, float *out);

#endif

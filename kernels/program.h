/* A program: what runs for a schedule on a problem. Source text plus 1 to 4 launches. The geometry
 * is computed by the family's launch.c, for tuner and runtime alike, so they cannot disagree. */
#ifndef KILN_KERNELS_PROGRAM_H
#define KILN_KERNELS_PROGRAM_H

#include "targets/target.h"

#include <stdint.h>

enum { KILN_LAUNCHES_MAX = 4, KILN_TENSOR_MAPS_MAX = 4 };

typedef struct kiln_program {
    int n_launches;
    kiln_launch launch[KILN_LAUNCHES_MAX];
    int64_t workspace_bytes;  /* contents need not survive between calls */
    int64_t workspace_zeroed; /* this many of its first bytes must be 0 before the first call and
                                 are 0 again after each */
    int n_tensor_maps;
    kiln_tensor_map tensor_map[KILN_TENSOR_MAPS_MAX];
} kiln_program;

#endif

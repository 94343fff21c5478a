/* Work shared among the cores that this process may use, for what is pure arithmetic. */
#ifndef KILN_BASE_PARALLEL_H
#define KILN_BASE_PARALLEL_H

#include <stdint.h>

/* Calls work(context, from, to) for parts of at least `grain` that make up [0, n), at most 16 at
 * once, and returns when all are done. What fits one part, and everything where no thread can be
 * had, runs in the caller. A part's bounds are multiples of `grain`, so that results that depend on
 * how a part begins do not depend on the number of cores. */
void kiln_parallel(int64_t n, int64_t grain, void (*work)(void *context, int64_t from, int64_t to),
                   void *context);

#endif

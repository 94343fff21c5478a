/* The last word on a library: load it through the runtime, as a deployment would, run problems on
 * random data and compare rows with the C evaluator. */
#ifndef KILN_TUNER_CHECK_H
#define KILN_TUNER_CHECK_H

#include "base/status.h"

/* Runs each problem text on the device ("opencl:0") with the library at path. KILN_WRONG names the
 * problem and the element. */
int kiln_check_library(const char *path, const char *device, const char *const *problems, int n,
                       kiln_error *e);

#endif

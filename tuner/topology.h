/* Where workers run: one compile worker a core, the measuring worker on the cores nearest its
 * device. Facts and binding through hwloc. */
#ifndef KILN_TUNER_TOPOLOGY_H
#define KILN_TUNER_TOPOLOGY_H

#include "targets/target.h"

/* Cores this process may use, at least 1. */
int kiln_topology_cores(void);
/* Binds the calling process to the i-th core (modulo their number). Best effort: a machine that
 * forbids binding still works. */
void kiln_topology_bind_core(int i);
/* Binds the calling process to the cores closest to the device's bus; a device that is the host's
 * own cores needs them all and is left alone. */
void kiln_topology_bind_near(const kiln_caps *caps);
/* One line: "2 cores, 23 GiB, AMD EPYC". */
void kiln_topology_describe(kiln_text *out);

#endif

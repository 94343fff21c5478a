#include "targets/target.h"

#include <stdio.h>
#include <string.h>

const kiln_target *kiln_target_find(const char *name) {
    for (int i = 0; kiln_targets[i]; i++)
        if (!strcmp(kiln_targets[i]->name, name)) return kiln_targets[i];
    return NULL;
}

void kiln_caps_id(const kiln_caps *c, char out[32]) {
    snprintf(out, 32, "%.15s:%d", c->target, c->index);
}

/* Neither index nor bus: records of one of eight equal GPUs hold for the other seven. A CPU
 * device's memory is the host's and no part of it: PoCL derives it from what a virtual machine has
 * just now. */
void kiln_caps_identity(const kiln_caps *c, kiln_text *out) {
    kiln_text_printf(out, "%s | %s | %s | %d units", c->target, c->name, c->arch, c->units);
    if (!c->shared_host) kiln_text_printf(out, " | %lld MiB", (long long)(c->memory_bytes >> 20));
    kiln_text_printf(out, " | driver %s | %s", c->driver, c->compiler);
}

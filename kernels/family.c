#include "kernels/family.h"

#include <string.h>

const kiln_family *kiln_family_find(const char *name) {
    for (const kiln_family *const *f = kiln_families; *f; f++)
        if (!strcmp((*f)->name, name)) return *f;
    return NULL;
}

const kiln_variant *kiln_variant_find(const kiln_family *f, const char *name) {
    for (const kiln_variant *const *v = f->variants; *v; v++)
        if (!strcmp((*v)->name, name)) return *v;
    return NULL;
}

kiln_schedule kiln_variant_default(const kiln_variant *v) {
    kiln_schedule s = {.variant = v};
    for (int i = 0; v->knobs[i].name; i++) s.value[i] = v->knobs[i].fallback;
    return s;
}

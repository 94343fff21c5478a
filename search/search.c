#include "search/search.h"

#include <string.h>

const kiln_strategy *kiln_strategy_find(const char *name) {
    for (int i = 0; kiln_strategies[i]; i++)
        if (!strcmp(kiln_strategies[i]->name, name)) return kiln_strategies[i];
    return NULL;
}

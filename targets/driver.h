/* Driver libraries are opened at run time, so that one build starts on any machine: a driver is a
 * struct of function pointers, filled by name from the library. Shared by the targets and by the
 * vendors; nothing outside targets/ includes this.
 *
 * A test makes a driver call fail by replacing an entry of such a struct. */
#ifndef KILN_TARGETS_DRIVER_H
#define KILN_TARGETS_DRIVER_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct kiln_driver_symbol {
    const char *name;
    size_t offset; /* of the function pointer in the driver's struct */
    bool optional; /* stays NULL where the library has none */
} kiln_driver_symbol;

/* Opens the first of the NULL-terminated names that can be opened. On failure NULL, and e says in
 * the loader's words why the first name failed. Libraries stay open: drivers start threads. */
void *kiln_driver_open(const char *const *names, kiln_error *e);

/* Fills `table`. KILN_VERSION, naming the first missing function, when the library is too old. */
int kiln_driver_bind(void *library, const char *what, const kiln_driver_symbol *symbols, size_t n,
                     void *table, kiln_error *e);

/* Copies without leading, trailing and repeated blanks; cuts at the end of `to`. */
void kiln_driver_trim(char *to, size_t size, const char *from);

/* Bytes of the host's last-level cache as seen by its first core, 0 when unknown. Read from sysfs:
 * the runtime links nothing for it. */
long long kiln_driver_host_cache(void);

#endif

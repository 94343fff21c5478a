/* Compiled units in the session's cache directory, named by the SHA-256 of everything that
 * determines them: source text, architecture, compiler and driver.
 *
 *     HASH.src   the complete source       HASH.bin   what the driver loads
 *     HASH.kind  its kind ("cubin")      HASH.log   what the compiler said
 *     HASH.ptx   CUDA: PTX for a plain architecture, when it was asked for
 *     HASH.reference   what the driver loads of a reference (bench.c), which has nothing else
 *
 * Files appear by rename, so a file that exists was whole. What the driver loads (.bin, .reference)
 * ends with its SHA-256 all the same: drivers crash on damaged code instead of refusing it. */
#ifndef KILN_TUNER_UNIT_H
#define KILN_TUNER_UNIT_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>

enum { KILN_UNIT_NAME = 65 };

/* Reads DIR/NAME.KIND whole; malloc'ed, NUL-terminated. NULL with a reason when it is not there, or
 * damaged. */
void *kiln_unit_read(const char *dir, const char *name, const char *kind, size_t *size,
                     kiln_error *e);
int kiln_unit_write(const char *dir, const char *name, const char *kind, const void *data,
                    size_t size, kiln_error *e);
/* Is it there, and undamaged? */
bool kiln_unit_whole(const char *dir, const char *name, const char *kind);

/* Any file, the same two ways. */
void *kiln_file_read(const char *path, size_t *size, kiln_error *e);
int kiln_file_write(const char *path, const void *data, size_t size, kiln_error *e);

#endif

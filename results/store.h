/* The store: every trial the moment it ends, in one SQLite file in WAL mode.
 *
 * kill -9 at any moment loses no finished record. Several processes may read while one writes.
 * A store of another schema version is refused with one sentence and left untouched. */
#ifndef KILN_RESULTS_STORE_H
#define KILN_RESULTS_STORE_H

#include "results/record.h"

typedef struct kiln_store kiln_store;

/* Opens or creates. read_only: never creates, never writes. */
kiln_store *kiln_store_open(const char *path, bool read_only, kiln_error *e);
void kiln_store_close(kiln_store *s);

/* Adds one record, durably, in a transaction of its own; `id` may be NULL. */
int kiln_store_add(kiln_store *s, const kiln_record *r, int64_t *id, kiln_error *e);

/* A trial that is about to run, and its end. A trial begun several times without an end was running
 * each time that the tuner, its worker or the machine went down: kiln_store_begun returns how often,
 * so that it is not tried forever. kiln_store_add of the same (problem, schedule, device, protocol, phase) ends it. */
int kiln_store_begin(kiln_store *s, const kiln_record *r, kiln_error *e);
int kiln_store_begun(kiln_store *s, const kiln_record *r);

/* Selection: NULL or "" fields match everything. Records come in the order they were added;
 * `visit` returns nonzero to stop. Records live until the visit returns. */
typedef struct kiln_query {
    const char *problem, *schedule, *device, *protocol, *phase, *source;
    bool ok_only;
} kiln_query;
int kiln_store_each(kiln_store *s, const kiln_query *q,
                    int (*visit)(void *context, int64_t id, const kiln_record *r), void *context,
                    kiln_error *e);

/* Facts of the session (key-value): model files, distinct problems of a suite, ceilings
 * measured ("copy-bandwidth/DEVICE"). value is NUL-terminated text. */
int kiln_store_put(kiln_store *s, const char *key, const char *value, kiln_error *e);
/* NULL when absent; lives in the arena. */
const char *kiln_store_get(kiln_store *s, const char *key, kiln_arena *arena);

/* JSON lines. Export writes aside and renames. Import is one transaction: malformed lines are
 * reported one by one through `bad` (line number, sentence) and skipped, duplicates (equal text)
 * are skipped; nothing is half-written. `skipped` counts both kinds. */
int kiln_store_export(kiln_store *s, const kiln_query *q, const char *path, int64_t *n,
                      kiln_error *e);
int kiln_store_import(kiln_store *s, const char *path,
                      void (*bad)(void *context, int64_t line, const char *why), void *context,
                      int64_t *added, int64_t *skipped, kiln_error *e);

#endif

/* An arena: memory of one lifetime (process, session or candidate), freed at once.
 * A zeroed kiln_arena is ready for use. Not thread-safe. */
#ifndef KILN_BASE_ARENA_H
#define KILN_BASE_ARENA_H

#include <stddef.h>

typedef struct kiln_arena {
    struct kiln_arena_chunk *chunks;
} kiln_arena;

/* Zeroed, 64-byte aligned memory, or NULL when the system has none left. */
void *kiln_arena_alloc(kiln_arena *a, size_t bytes);
char *kiln_arena_strdup(kiln_arena *a, const char *s);
char *kiln_arena_printf(kiln_arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Frees everything; the arena is ready for use again. */
void kiln_arena_free(kiln_arena *a);

#endif

#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64, CHUNK = 64 << 10 };

struct kiln_arena_chunk {
    struct kiln_arena_chunk *next;
    size_t used, size;
};

static size_t round_up(size_t n) { return (n + ALIGN - 1) / ALIGN * ALIGN; }

static struct kiln_arena_chunk *add_chunk(kiln_arena *a, size_t bytes) {
    size_t header = round_up(sizeof(struct kiln_arena_chunk));
    size_t size = header + (bytes > CHUNK ? bytes : CHUNK);
    struct kiln_arena_chunk *c = aligned_alloc(ALIGN, size);
    if (!c) return NULL;
    *c = (struct kiln_arena_chunk){.next = a->chunks, .used = header, .size = size};
    return a->chunks = c;
}

void *kiln_arena_alloc(kiln_arena *a, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return NULL;
    bytes = round_up(bytes ? bytes : 1);
    struct kiln_arena_chunk *c = a->chunks;
    if (!c || c->size - c->used < bytes) c = add_chunk(a, bytes);
    if (!c) return NULL;
    void *p = (char *)c + c->used;
    c->used += bytes;
    return memset(p, 0, bytes);
}

char *kiln_arena_strdup(kiln_arena *a, const char *s) { return kiln_arena_printf(a, "%s", s); }

char *kiln_arena_printf(kiln_arena *a, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *s = n < 0 ? NULL : kiln_arena_alloc(a, (size_t)n + 1);
    if (s) vsnprintf(s, (size_t)n + 1, format, again);
    va_end(again);
    va_end(args);
    return s;
}

void kiln_arena_free(kiln_arena *a) {
    for (struct kiln_arena_chunk *c = a->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    a->chunks = NULL;
}

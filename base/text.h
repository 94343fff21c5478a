/* A growing text with a sticky failure: append as often as you like, ask `failed` once. */
#ifndef KILN_BASE_TEXT_H
#define KILN_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct kiln_text {
    char *data; /* NUL-terminated once anything was appended; NULL before */
    size_t size, capacity;
    bool failed; /* memory ran out; data holds what was appended before */
} kiln_text;

void kiln_text_add(kiln_text *t, const char *s);
void kiln_text_add_bytes(kiln_text *t, const void *bytes, size_t n);
void kiln_text_printf(kiln_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text, "" when empty; valid until the next call on t. */
const char *kiln_text_get(const kiln_text *t);
/* Empties it and keeps the memory. */
void kiln_text_clear(kiln_text *t);
void kiln_text_free(kiln_text *t);

#endif

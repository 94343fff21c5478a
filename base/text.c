#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(kiln_text *t, size_t more) {
    if (t->failed) return false;
    if (t->size + more + 1 <= t->capacity) return true;
    size_t capacity = t->capacity ? t->capacity : 256;
    while (capacity < t->size + more + 1) capacity *= 2;
    char *data = realloc(t->data, capacity);
    if (!data) return !(t->failed = true);
    t->data = data;
    t->capacity = capacity;
    return true;
}

void kiln_text_add_bytes(kiln_text *t, const void *bytes, size_t n) {
    if (!reserve(t, n)) return;
    if (n) memcpy(t->data + t->size, bytes, n);
    t->size += n;
    t->data[t->size] = 0;
}

void kiln_text_add(kiln_text *t, const char *s) { kiln_text_add_bytes(t, s, strlen(s)); }

void kiln_text_printf(kiln_text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && reserve(t, (size_t)n)) {
        vsnprintf(t->data + t->size, (size_t)n + 1, format, again);
        t->size += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

const char *kiln_text_get(const kiln_text *t) { return t->data ? t->data : ""; }

void kiln_text_clear(kiln_text *t) {
    t->size = 0;
    t->failed = false;
    if (t->data) t->data[0] = 0;
}

void kiln_text_free(kiln_text *t) {
    free(t->data);
    *t = (kiln_text){0};
}

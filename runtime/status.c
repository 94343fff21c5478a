#include "runtime/context.h"

#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define X(name, value, text)                                                                       \
    _Static_assert((int)KILN_STATUS_##name == (int)KILN_##name, "kiln.h and base/status.h "        \
                                                                "differ");
KILN_STATUSES(X)
#undef X

static _Thread_local kiln_error last;

kiln_error *kiln_status_last(void) { return &last; }

const char *kiln_last_error(void) { return last.text; }

const char *kiln_get_status_text(int status) { return kiln_status_words(status); }

int kiln_get_version(void) { return KILN_HEADER_VERSION; }

const char *kiln_get_version_text(void) { return KILN_RELEASE; }

void kiln_status_log(const kiln_library *l, int level, const char *format, ...) {
    if (!l->log) return;
    char line[640];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    l->log(l->log_user, level, line);
}

int kiln_status_fill(void *to, const void *from, size_t known_bytes) {
    size_t size;
    if (!to) return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "the struct to fill is NULL");
    memcpy(&size, to, sizeof size);
    if (size < 2 * sizeof size)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "a struct's size is %zu; set its first member to sizeof the struct", size);
    size_t n = size < known_bytes ? size : known_bytes;
    memcpy((char *)to + sizeof size, (const char *)from + sizeof size, n - sizeof size);
    return 0;
}

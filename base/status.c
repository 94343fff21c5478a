#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

int kiln_fail(kiln_error *e, int status, const char *format, ...) {
    if (e) {
        va_list args;
        va_start(args, format);
        e->status = status;
        vsnprintf(e->text, sizeof e->text, format, args);
        va_end(args);
    }
    return status;
}

const char *kiln_status_words(int status) {
    switch (status) {
#define X(name, value, text)                                                                       \
    case value: return text;
        KILN_STATUSES(X)
#undef X
    }
    return "unknown status";
}

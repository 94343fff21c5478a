#include "tuner/progress.h"

#include "tuner/worker.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

void kiln_progress_open(kiln_progress *p, bool quiet) {
    const char *no_color = getenv("NO_COLOR");
    *p = (kiln_progress){.quiet = quiet, .live = isatty(STDERR_FILENO) == 1};
    p->colour = p->live && !(no_color && no_color[0]);
}

void kiln_progress_clear(kiln_progress *p) {
    if (p->drawn) fputs("\r\033[K", stderr);
    p->drawn = false;
}

void kiln_progress_say(kiln_progress *p, const char *format, ...) {
    if (p->quiet) return;
    va_list args;
    va_start(args, format);
    kiln_progress_clear(p);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static int columns(void) {
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 20 ? w.ws_col : 100;
}

void kiln_progress_show(kiln_progress *p, const char *format, ...) {
    double now = kiln_now();
    if (p->quiet || now - p->last < (p->live ? 0.125 : 10)) return;
    p->last = now;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (!p->live) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    fprintf(stderr, "\r\033[K%s%.*s%s", p->colour ? "\033[36m" : "", columns() - 1, line,
            p->colour ? "\033[0m" : "");
    fflush(stderr);
    p->drawn = true;
}

#include "targets/driver.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

void *kiln_driver_open(const char *const *names, kiln_error *e) {
    for (int i = 0; names[i]; i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library) return library;
        const char *why = dlerror();
        if (!i) kiln_fail(e, KILN_NO_DEVICE, "%.300s", why ? why : names[i]);
    }
    return NULL;
}

int kiln_driver_bind(void *library, const char *what, const kiln_driver_symbol *symbols, size_t n,
                     void *table, kiln_error *e) {
    for (size_t i = 0; i < n; i++) {
        void *f = dlsym(library, symbols[i].name);
        if (!f && !symbols[i].optional)
            return kiln_fail(e, KILN_VERSION, "%s has no function %s: install a newer version",
                             what, symbols[i].name);
        memcpy((char *)table + symbols[i].offset, &f, sizeof f);
    }
    return 0;
}

void kiln_driver_trim(char *to, size_t size, const char *from) {
    size_t n = 0;
    while (isspace((unsigned char)*from)) from++;
    for (; *from && n + 1 < size; from++) {
        if (isspace((unsigned char)*from) && (!from[1] || isspace((unsigned char)from[1])))
            continue;
        to[n++] = isspace((unsigned char)*from) ? ' ' : *from;
    }
    while (n && to[n - 1] == ' ') n--;
    to[n] = 0;
}

static bool cache_file(int index, const char *name, char *out, size_t size) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool read = fgets(out, (int)size, f) != NULL;
    fclose(f);
    return read;
}

static long long parse_size(const char *text) {
    long long n = 0;
    char unit = 0;
    if (sscanf(text, "%lld%c", &n, &unit) < 1) return 0;
    return unit == 'K' ? n << 10 : unit == 'M' ? n << 20 : n;
}

long long kiln_driver_host_cache(void) {
    long long bytes = 0;
    int best = 0;
    char text[64];
    for (int i = 0; i < 16 && cache_file(i, "level", text, sizeof text); i++) {
        int level = 0;
        if (sscanf(text, "%d", &level) != 1 || level < best) continue;
        if (!cache_file(i, "size", text, sizeof text)) continue;
        best = level;
        bytes = parse_size(text);
    }
    return bytes;
}

#include "tuner/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the drivers report for an architecture, so that it need not be in every record: most shared
 * memory of a block and of a unit, resident threads (CUDA programming guide, table of compute
 * capabilities). Every one has 65536 registers and 1024 threads a block. */
typedef struct architecture {
    int number, shared_bytes, shared_unit_bytes, threads_unit;
} architecture;

static const architecture architectures[] = {
    {70, 98304, 98304, 2048},    {75, 65536, 65536, 1024},    {80, 166912, 167936, 2048},
    {86, 101376, 102400, 1536},  {87, 166912, 167936, 1536},  {89, 101376, 102400, 1536},
    {90, 232448, 233472, 2048},  {100, 232448, 233472, 2048}, {103, 232448, 233472, 2048},
    {120, 101376, 102400, 1536}, {121, 101376, 102400, 1536},
};

/* What OpenCL promises of a device, more or less: enough for features, too little for legality. */
static const architecture any_device = {0, 49152, 49152, 2048};

static const architecture *architecture_of(const char *arch) {
    int number = 0;
    if (sscanf(arch, "sm_%d", &number) == 1)
        for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++)
            if (architectures[i].number == number) return &architectures[i];
    return &any_device;
}

static void fill_by_architecture(kiln_caps *c) {
    const architecture *a = architecture_of(c->arch);
    c->arch_number = a->number;
    c->warp = c->kind == KILN_DEVICE_GPU ? 32 : 1;
    c->max_threads = 1024;
    c->shared_bytes = a->shared_bytes;
    c->shared_unit_bytes = a->shared_unit_bytes;
    c->threads_unit = a->threads_unit;
    c->registers_unit = a->number ? 65536 : 0;
    c->align_bytes = a->number ? 256 : 128;
    c->f64 = true;
    c->f16 = a->number > 0;
    c->clusters = c->tensor_maps = a->number >= 90;
    c->programs_per_unit = 1;
    c->events = true;
}

/* Cuts the next field off at " | ". */
static bool next_field(const char **at, char *out, size_t size) {
    const char *end = strstr(*at, " | ");
    size_t n = end ? (size_t)(end - *at) : strlen(*at);
    if (!n || n >= size) return false;
    memcpy(out, *at, n);
    out[n] = 0;
    *at += end ? n + 3 : n;
    return true;
}

static bool next_number(const char **at, const char *unit, int64_t *out) {
    char *end;
    long long v = strtoll(*at, &end, 10);
    size_t n = strlen(unit);
    if (end == *at || v < 1 || strncmp(end, unit, n)) return false;
    *out = v;
    *at = end + n;
    return true;
}

static bool parse(const char *at, kiln_caps *c) {
    static const char driver[] = "driver ";
    int64_t units, mib = 0;
    bool ok = next_field(&at, c->target, sizeof c->target) &&
              next_field(&at, c->name, sizeof c->name) &&
              next_field(&at, c->arch, sizeof c->arch) && next_number(&at, " units | ", &units) &&
              units <= 1 << 20;
    if (!ok) return false;
    c->units = (int)units;
    c->shared_host = !next_number(&at, " MiB | ", &mib); /* a host's memory is no part of it */
    if (mib > INT64_MAX >> 20 || strncmp(at, driver, sizeof driver - 1)) return false;
    at += sizeof driver - 1;
    c->memory_bytes = c->max_alloc_bytes = (c->shared_host ? 4096 : mib) << 20;
    const char *compiler = strstr(at, " | ");
    if (!compiler) return false;
    snprintf(c->driver, sizeof c->driver, "%.*s", (int)(compiler - at), at);
    snprintf(c->compiler, sizeof c->compiler, "%s", compiler + 3);
    return true;
}

int kiln_identity_parse(const char *line, kiln_caps *caps, bool *guessed, kiln_error *e) {
    *caps = (kiln_caps){0};
    if (!parse(line, caps))
        return kiln_fail(e, KILN_BAD_INPUT,
                         "the device \"%.200s\" is not named as \"target | name | architecture | N "
                         "units | N MiB | driver ... | compiler\"",
                         line);
    caps->kind = caps->shared_host ? KILN_DEVICE_CPU : KILN_DEVICE_GPU;
    fill_by_architecture(caps);
    if (guessed) *guessed = !caps->arch_number;
    return KILN_OK;
}

/* What a library holds, as JSON. The runtime has no JSON library: it only ever writes. */
#include "runtime/context.h"

#include "base/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void put_quoted(kiln_text *t, const char *s) {
    kiln_text_add(t, "\"");
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            kiln_text_printf(t, "\\%c", c);
        else if (c < 32)
            kiln_text_printf(t, "\\u%04x", c);
        else
            kiln_text_add_bytes(t, s, 1);
    }
    kiln_text_add(t, "\"");
}

static void put_text(kiln_text *t, const char *name, const char *value) {
    kiln_text_printf(t, "\"%s\": ", name);
    put_quoted(t, value);
}

static void put_number(kiln_text *t, const char *name, double value) {
    if (isfinite(value))
        kiln_text_printf(t, "\"%s\": %.9g", name, value);
    else
        kiln_text_printf(t, "\"%s\": null", name);
}

static void put_device(kiln_text *t, const kiln_caps *c) {
    kiln_text_add(t, "{");
#define X(field)                                                                                   \
    put_text(t, #field, c->field);                                                                 \
    kiln_text_add(t, ", ");
    KILN_CAPS_TEXTS(X)
#undef X
    kiln_text_printf(t, "\"units\": %d, \"memory_bytes\": %lld}", c->units,
                     (long long)c->memory_bytes);
}

static void put_kernel(kiln_text *t, const library_kernel *k) {
    kiln_text_add(t, "{");
    put_text(t, "hash", k->hex);
    const char *name[] = {"family", "variant", "schedule", "key"};
    const char *value[] = {k->family, k->variant, k->schedule, k->key};
    for (int i = 0; i < 4; i++) {
        kiln_text_add(t, ", ");
        put_text(t, name[i], value[i]);
    }
    kiln_text_printf(t,
                     ", \"revision\": %d, \"device\": %u, \"fallback\": %s, \"points\": %d, "
                     "\"registers\": %d, \"code\": [",
                     k->revision, k->device, k->fallback ? "true" : "false", k->n_points,
                     k->facts.registers);
    for (int i = 0; i < k->n_blobs; i++) {
        kiln_text_printf(t, "%s{", i ? ", " : "");
        put_text(t, "kind", k->blob[i].kind);
        kiln_text_printf(t, ", \"bytes\": %llu}", (unsigned long long)k->blob[i].size);
    }
    kiln_text_add(t, "]");
    if (k->unusable) {
        kiln_text_add(t, ", ");
        put_text(t, "unusable", k->unusable);
    }
    kiln_text_add(t, "}");
}

static void put_exact(kiln_text *t, const kiln_library *l, const library_exact *x) {
    kiln_text_add(t, "{");
    put_text(t, "problem", x->problem);
    kiln_text_printf(t, ", \"device\": %u, ", x->device);
    put_text(t, "kernel", l->kernel[x->kernel].hex);
    kiln_text_add(t, ", ");
    put_number(t, "seconds", x->seconds);
    kiln_text_add(t, ", ");
    put_number(t, "error_bound_ratio", x->error_ratio);
    if (*x->provenance) {
        kiln_text_add(t, ", ");
        put_text(t, "provenance", x->provenance);
    }
    kiln_text_add(t, "}");
}

static void put_head(kiln_text *t, const kiln_library *l) {
    char id[65];
    kiln_hex(l->id, 32, id);
    kiln_text_printf(t, "{\"format\": \"%d.%d\", \"id\": \"%s\", \"bytes\": %llu", l->major,
                     l->minor, id, (unsigned long long)l->bytes);
}

int kiln_describe_library(const kiln_library *l, char **json) {
    kiln_text t = {0};
    if (!l || !json)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_describe_library: an argument is NULL");
    put_head(&t, l);
    kiln_text_add(&t, ",\n \"devices\": [");
    for (uint32_t i = 0; i < l->n_devices; i++) {
        kiln_text_add(&t, i ? ",\n  " : "\n  ");
        put_device(&t, &l->device[i]);
    }
    kiln_text_add(&t, "],\n \"kernels\": [");
    for (uint32_t i = 0; i < l->n_kernels; i++) {
        kiln_text_add(&t, i ? ",\n  " : "\n  ");
        put_kernel(&t, &l->kernel[i]);
    }
    kiln_text_add(&t, "],\n \"problems\": [");
    for (uint32_t i = 0; i < l->n_exact; i++) {
        kiln_text_add(&t, i ? ",\n  " : "\n  ");
        put_exact(&t, l, &l->exact[i]);
    }
    kiln_text_printf(&t, "],\n \"tests\": %u, ", l->n_tests);
    put_text(&t, "provenance", l->provenance);
    kiln_text_add(&t, "}\n");
    if (t.failed) {
        kiln_text_free(&t);
        return kiln_fail(kiln_status_last(), KILN_NO_MEMORY, "no memory to describe the library");
    }
    *json = t.data;
    return 0;
}

void kiln_free_text(char *text) { free(text); }

/* A library on a device: attach, detach, buffers. */
#include "runtime/context.h"

#include <stdlib.h>
#include <string.h>

enum { DEVICES_MAX = 32 };

/* ---------------------------------------------------------------- which device */

/* "cuda:1" -> target, 1; "cuda" -> target, 0; index stays -1 when none is given. */
static const kiln_target *parse_device(const char *text, int *index, kiln_error *e) {
    char name[16];
    size_t n = strcspn(text, ":");
    *index = -1;
    if (n < sizeof name) {
        memcpy(name, text, n);
        name[n] = 0;
        const kiln_target *t = kiln_target_find(name);
        char *end = NULL;
        if (t && text[n]) *index = (int)strtol(text + n + 1, &end, 10);
        if (t && (!text[n] || (end != text + n + 1 && !*end && *index >= 0 && *index < 1024)))
            return t;
    }
    kiln_text known = {0};
    for (int i = 0; kiln_targets[i]; i++)
        kiln_text_printf(&known, "%s%s:0", i ? ", " : "", kiln_targets[i]->name);
    kiln_fail(e, KILN_BAD_INPUT, "\"%.60s\" is not a device; write one like %s", text,
              kiln_text_get(&known));
    kiln_text_free(&known);
    return NULL;
}

/* How well the library suits a device: 3 tuned on this model, 2 code runs as it is, 1 must be
 * rebuilt from source, 0 not at all. */
static int suits(const kiln_library *l, const kiln_caps *here) {
    int best = 0;
    for (uint32_t i = 0; i < l->n_kernels; i++) {
        const library_kernel *k = &l->kernel[i];
        const kiln_caps *made_for = &l->device[k->device];
        for (int j = 0; j < k->n_blobs; j++) {
            if (!kiln_select_fits(&k->blob[j], made_for, here)) continue;
            int how = kiln_select_same(made_for, here)       ? 3
                      : k->blob[j].binding == KILN_BIND_NONE ? 1
                                                             : 2;
            if (how > best) best = how;
        }
    }
    return best;
}

typedef struct found {
    const kiln_target *target;
    int index, how;
} found;

static void look_at_target(const kiln_library *l, const kiln_target *t, found *best,
                           kiln_text *absent) {
    kiln_caps *caps = calloc(DEVICES_MAX, sizeof *caps);
    kiln_error e = {0};
    int n = caps ? t->devices(caps, DEVICES_MAX, &e) : 0;
    if (n <= 0) kiln_text_printf(absent, "%s%s: %s", absent->size ? "; " : "", t->name, e.text);
    for (int i = 0; i < n; i++) {
        int how = suits(l, &caps[i]);
        if (how > best->how) *best = (found){t, caps[i].index, how};
        if (!how)
            kiln_text_printf(absent, "%s%s does not suit", absent->size ? "; " : "", caps[i].name);
    }
    free(caps);
}

/* The best device of all targets that the library has kernels for, or of one target. */
static int find_device(const kiln_library *l, const kiln_target *only, found *out, kiln_error *e) {
    kiln_text absent = {0};
    *out = (found){0};
    for (int i = 0; kiln_targets[i]; i++)
        if (only ? kiln_targets[i] == only : true) look_at_target(l, kiln_targets[i], out, &absent);
    int status = 0;
    if (!out->how)
        status = kiln_fail(e, KILN_NO_DEVICE,
                           "no device here can run this library, which was made for %s (%s, %s): "
                           "%.300s",
                           l->device[0].name, l->device[0].target, l->device[0].arch,
                           kiln_text_get(&absent));
    kiln_text_free(&absent);
    return status;
}

/* ---------------------------------------------------------------- attach */

static int open_attached(kiln_context *c, const kiln_attach_options *o, kiln_error *e) {
    int index;
    const char *name = o->device ? o->device : c->library->device[0].target;
    c->target = parse_device(name, &index, e);
    if (!c->target) return e->status;
    kiln_attach a = {o->context, o->handle, o->stream, true};
    c->device = c->target->open(index < 0 ? 0 : index, &a, e);
    return c->device ? 0 : e->status;
}

static int open_own(kiln_context *c, const char *text, kiln_error *e) {
    found f = {0};
    int index = -1;
    const kiln_target *t = text ? parse_device(text, &index, e) : NULL;
    if (text && !t) return e->status;
    if (index >= 0)
        f = (found){t, index, 1};
    else {
        int status = find_device(c->library, t, &f, e);
        if (status) return status;
    }
    c->target = f.target;
    c->device = f.target->open(f.index, NULL, e);
    return c->device ? 0 : e->status;
}

static int take_tables(kiln_context *c, kiln_error *e) {
    const kiln_library *l = c->library;
    c->same = calloc(l->n_devices, sizeof *c->same);
    c->loaded = calloc(l->n_kernels ? l->n_kernels : 1, sizeof *c->loaded);
    if (!c->same || !c->loaded) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a context");
    c->caps = c->target->caps(c->device);
    kiln_caps_id(c->caps, c->id);
    for (uint32_t i = 0; i < l->n_devices; i++)
        c->same[i] = kiln_select_same(&l->device[i], c->caps);
    return 0;
}

int kiln_attach_device(kiln_library *l, const kiln_attach_options *options, kiln_context **out) {
    kiln_error *e = kiln_status_last();
    kiln_attach_options o = {0};
    if (!l || !out) return kiln_fail(e, KILN_BAD_INPUT, "kiln_attach_device: an argument is NULL");
    *out = NULL;
    if (options && options->size < sizeof o)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "kiln_attach_options.size is %zu; set it to "
                         "sizeof(kiln_attach_options)",
                         options->size);
    if (options) o = *options;
    kiln_context *c = calloc(1, sizeof *c);
    if (!c) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a context");
    c->library = l;
    int status = o.attach ? open_attached(c, &o, e) : open_own(c, o.device, e);
    if (!status) status = take_tables(c, e);
    if (status) {
        kiln_detach_device(c);
        return status;
    }
    *out = c;
    return 0;
}

int kiln_context_join(kiln_library *l, const kiln_context *host, kiln_context **out) {
    kiln_error *e = kiln_status_last();
    kiln_context *c = calloc(1, sizeof *c);
    *out = NULL;
    if (!c) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a context");
    c->library = l;
    c->target = host->target;
    c->device = host->device;
    c->guest = true;
    int status = take_tables(c, e);
    if (!status)
        *out = c;
    else
        kiln_detach_device(c);
    return status;
}

void kiln_detach_device(kiln_context *c) {
    if (!c) return;
    kiln_plan_free_all(c);
    if (c->device) {
        if (c->workspace) c->target->release(c->device, c->workspace);
        for (uint32_t i = 0; c->loaded && i < c->library->n_kernels; i++)
            if (c->loaded[i].module) c->target->unload(c->device, c->loaded[i].module);
        if (!c->guest) c->target->close(c->device);
    }
    for (int i = 0; i < c->n_misses; i++) {
        free(c->miss[i].problem);
        free(c->miss[i].reason);
    }
    for (int i = 0; i < c->n_overrides; i++) free(c->override[i].problem);
    free(c->same);
    free(c->loaded);
    free(c);
}

/* ---------------------------------------------------------------- small things */

const char *kiln_get_device(const kiln_context *c) { return c ? c->id : ""; }

const char *kiln_get_device_name(const kiln_context *c) { return c ? c->caps->name : ""; }

int kiln_make_buffer(kiln_context *c, int64_t bytes, void **buffer) {
    kiln_error *e = kiln_status_last();
    if (!c || !buffer || bytes <= 0)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "kiln_make_buffer: give a context, a positive size and where to put it");
    e->status = 0;
    *buffer = c->target->alloc(c->device, bytes, e);
    return *buffer ? 0 : e->status ? e->status : KILN_NO_MEMORY;
}

void kiln_free_buffer(kiln_context *c, void *buffer) {
    if (c && buffer) c->target->release(c->device, buffer);
}

int kiln_write_buffer(kiln_context *c, void *to, const void *from, int64_t bytes) {
    if (!c || !to || !from)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_write_buffer: an argument is NULL");
    return c->target->write(c->device, to, 0, from, bytes, kiln_status_last());
}

int kiln_read_buffer(kiln_context *c, void *to, void *from, int64_t bytes) {
    if (!c || !to || !from)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT,
                         "kiln_read_buffer: an argument is NULL");
    return c->target->read(c->device, to, from, 0, bytes, kiln_status_last());
}

int kiln_wait_context(kiln_context *c) {
    if (!c)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "kiln_wait_context: context is NULL");
    return c->target->sync(c->device, kiln_status_last());
}

int kiln_get_stats(const kiln_context *c, kiln_stats *out) {
    if (!c) return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "kiln_get_stats: context is NULL");
    return kiln_status_fill(out, &c->stats, sizeof c->stats);
}

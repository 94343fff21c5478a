#include "runtime/reader.h"

#include "base/hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A walk over one record. Bounds were checked for the whole table, so fields need no checks. */
typedef struct cursor {
    const uint8_t *at;
} cursor;

static uint32_t next32(cursor *c) {
    c->at += 4;
    return kiln_format_get32(c->at - 4);
}

static uint64_t next64(cursor *c) {
    c->at += 8;
    return kiln_format_get64(c->at - 8);
}

static double next_double(cursor *c) {
    uint64_t bits = next64(c);
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static void next_bytes(cursor *c, void *to, size_t n) {
    memcpy(to, c->at, n);
    c->at += n;
}

/* What the loaders share: where strings live, and the first thing that was wrong. */
typedef struct load {
    kiln_library *l;
    const char *name;
    kiln_error *e;
} load;

static int corrupt(const load *o, const char *what, const char *which) {
    return kiln_fail(o->e, KILN_CORRUPT, "%s: %s%s; the file is damaged, fetch or emit it again",
                     o->name, what, which);
}

static const char *section_name(uint32_t type) {
    switch (type) {
#define X(name, number, critical, needed)                                                          \
    case number:                                                                                   \
        return #name;
        KILN_SECTIONS(X)
#undef X
    }
    return "an unknown section";
}

static const library_section *find_section(const kiln_library *l, uint32_t type) {
    for (int i = 0; i < l->n_sections; i++)
        if (l->section[i].type == type) return &l->section[i];
    return NULL;
}

static int next_string(cursor *c, const load *o, const char **out) {
    const library_section *text = find_section(o->l, KILN_SECTION_TEXT);
    uint64_t offset = next32(c), length = next32(c);
    if (offset + length >= text->size) return corrupt(o, "a string lies outside TEXT", "");
    const char *s = (const char *)o->l->data + text->offset + offset;
    if (memchr(s, 0, length + 1) != s + length)
        return corrupt(o, "a string does not end where its length says", "");
    for (const char *p = s; *p; p++) /* nor may it drive a terminal */
        if ((unsigned char)*p < 32 || *p == 127)
            return corrupt(o, "a string holds control characters", "");
    *out = s;
    return 0;
}

/* ---------------------------------------------------------------- header and sections */

static int check_header(load *o) {
    kiln_library *l = o->l;
    const uint8_t *h = l->data;
    if (l->bytes < 8 || memcmp(h, KILN_MAGIC, 8))
        return kiln_fail(o->e, KILN_CORRUPT,
                         "%s is not a Kiln library (it does not begin with the Kiln mark); give a "
                         ".kiln file written by `tune emit`",
                         o->name);
    if (l->bytes < KILN_HEADER_BYTES) return corrupt(o, "the header is cut short", "");
    l->major = (uint16_t)(h[8] | h[9] << 8);
    l->minor = (uint16_t)(h[10] | h[11] << 8);
    if (l->major != KILN_FORMAT_MAJOR)
        return kiln_fail(o->e, KILN_VERSION,
                         "%s has library format %d.%d and this runtime reads %d.x; emit it again "
                         "with a matching `tune emit` or use a matching runtime",
                         o->name, l->major, l->minor, KILN_FORMAT_MAJOR);
    if (kiln_format_get64(h + 32) != l->bytes)
        return kiln_fail(o->e, KILN_CORRUPT,
                         "%s has %" PRIu64 " bytes but its header says %" PRIu64 "; it is cut "
                         "short or damaged, fetch or emit it again",
                         o->name, l->bytes, kiln_format_get64(h + 32));
    return 0;
}

/* The id binds header and table; checked before anything in them is believed. */
static int check_id(load *o) {
    kiln_library *l = o->l;
    const uint8_t *h = l->data;
    uint64_t n = kiln_format_get32(h + 12);
    if (n > KILN_SECTIONS_MAX || KILN_HEADER_BYTES + n * KILN_SECTION_BYTES > l->bytes)
        return corrupt(o, "the section table is too long", "");
    uint8_t bound[96], digest[32];
    kiln_sha256_of(h + KILN_HEADER_BYTES, n * KILN_SECTION_BYTES, digest);
    if (memcmp(digest, h + 96, 32)) return corrupt(o, "the section table's hash is wrong", "");
    memcpy(bound, h, 64);
    memcpy(bound + 64, digest, 32);
    kiln_sha256_of(bound, sizeof bound, l->id);
    if (memcmp(l->id, h + 64, 32)) return corrupt(o, "the header's hash is wrong", "");
    l->n_sections = (int)n;
    uint64_t required = kiln_format_get64(h + 16);
    if (required)
        return kiln_fail(o->e, KILN_VERSION,
                         "%s needs features (bits %" PRIx64 ") that this runtime does not have; "
                         "use a newer runtime",
                         o->name, required);
    return 0;
}

static library_section read_section(const uint8_t *p) {
    library_section s = {.type = kiln_format_get32(p),
                         .flags = kiln_format_get32(p + 4),
                         .offset = kiln_format_get64(p + 8),
                         .size = kiln_format_get64(p + 16),
                         .alignment = kiln_format_get64(p + 24)};
    memcpy(s.hash, p + 32, 32);
    return s;
}

static bool is_known(uint32_t type) {
    switch (type) {
#define X(name, number, critical, needed)                                                          \
    case number:                                                                                   \
        return true;
        KILN_SECTIONS(X)
#undef X
    }
    return false;
}

static bool power_of_two(uint64_t x) { return x && !(x & (x - 1)); }

static int check_section(load *o, int i, uint64_t *end) {
    library_section *s = &o->l->section[i];
    if (!power_of_two(s->alignment) || s->alignment > KILN_BLOB_ALIGN || s->offset % s->alignment)
        return corrupt(o, "wrong alignment of ", section_name(s->type));
    if (s->offset < *end || s->offset > o->l->bytes || s->size > o->l->bytes - s->offset)
        return corrupt(o, "wrong place or size of ", section_name(s->type));
    for (int j = 0; j < i; j++)
        if (o->l->section[j].type == s->type) return corrupt(o, "two of ", section_name(s->type));
    if (!is_known(s->type) && s->flags & KILN_SECTION_CRITICAL)
        return kiln_fail(o->e, KILN_VERSION,
                         "%s needs section %u, which this runtime does not know; use a newer "
                         "runtime",
                         o->name, s->type);
    *end = s->offset + s->size;
    return 0;
}

static int check_section_hash(const load *o, const library_section *s) {
    uint8_t digest[32];
    kiln_sha256_of(o->l->data + s->offset, s->size, digest);
    if (memcmp(digest, s->hash, 32))
        return corrupt(o, "the hash is wrong of ", section_name(s->type));
    return 0;
}

static int check_needed(load *o) {
#define X(name, number, critical, needed)                                                          \
    if (needed && !find_section(o->l, number)) return corrupt(o, "there is no section ", #name);
    KILN_SECTIONS(X)
#undef X
    return 0;
}

/* All hashes but that of BLOBS, whose parts are hashed when they are loaded. */
static int load_sections(load *o) {
    uint64_t end = KILN_HEADER_BYTES + (uint64_t)o->l->n_sections * KILN_SECTION_BYTES;
    for (int i = 0; i < o->l->n_sections; i++) {
        o->l->section[i] = read_section(o->l->data + KILN_HEADER_BYTES + i * KILN_SECTION_BYTES);
        int status = check_section(o, i, &end);
        if (!status && o->l->section[i].type != KILN_SECTION_BLOBS)
            status = check_section_hash(o, &o->l->section[i]);
        if (status) return status;
    }
    if (end != o->l->bytes) return corrupt(o, "bytes follow the last section", "");
    return check_needed(o);
}

/* ---------------------------------------------------------------- tables */

typedef struct table {
    const uint8_t *first;
    uint32_t count, step;
} table;

/* The table of a section; count 0 when the section is absent. `step` is at least `bytes`. */
static int open_table(const load *o, uint32_t type, uint32_t bytes, table *t) {
    const library_section *s = find_section(o->l, type);
    *t = (table){.step = bytes};
    if (!s) return 0;
    if (s->size < 8) return corrupt(o, "cut short: ", section_name(type));
    const uint8_t *p = o->l->data + s->offset;
    t->count = kiln_format_get32(p);
    t->step = kiln_format_get32(p + 4);
    t->first = p + 8;
    if (t->step < bytes || t->step > 1 << 16 || (s->size - 8) / t->step < t->count)
        return corrupt(o, "wrong count or record size in ", section_name(type));
    return 0;
}

static void *take_array(const load *o, uint32_t n, size_t bytes, int *status) {
    void *p = kiln_arena_alloc(&o->l->arena, (n ? n : 1) * bytes);
    if (!p) *status = kiln_fail(o->e, KILN_NO_MEMORY, "no memory for the tables of %s", o->name);
    return p;
}

static cursor at_record(const table *t, uint32_t i) {
    return (cursor){t->first + (size_t)i * t->step};
}

static int copy_text(const load *o, cursor *c, char *to, size_t size) {
    const char *s;
    int status = next_string(c, o, &s);
    if (status) return status;
    if (strlen(s) >= size) return corrupt(o, "too long a device text: ", s);
    memcpy(to, s, strlen(s) + 1);
    return 0;
}

static int load_device(const load *o, cursor c, kiln_caps *caps) {
    int status;
#define X(field)                                                                                   \
    if ((status = copy_text(o, &c, caps->field, sizeof caps->field))) return status;
    KILN_CAPS_TEXTS(X)
#undef X
#define X(field) caps->field = (int32_t)next32(&c);
    KILN_CAPS_I32S(X)
#undef X
#define X(field) caps->field = (int64_t)next64(&c);
    KILN_CAPS_I64S(X)
#undef X
    uint32_t flags = next32(&c), bit = 0;
#define X(field) caps->field = flags >> bit++ & 1;
    KILN_CAPS_FLAGS(X)
#undef X
    return 0;
}

static int load_devices(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_DEVICES, KILN_DEVICE_RECORD, &t);
    if (status) return status;
    if (!t.count) return corrupt(o, "no device in DEVICES", "");
    o->l->n_devices = t.count;
    o->l->device = take_array(o, t.count, sizeof *o->l->device, &status);
    for (uint32_t i = 0; i < t.count && !status; i++)
        status = load_device(o, at_record(&t, i), &o->l->device[i]);
    return status;
}

static int load_blob(const load *o, cursor *c, library_blob *b) {
    const library_section *blobs = find_section(o->l, KILN_SECTION_BLOBS);
    int status = next_string(c, o, &b->kind);
    if (status) return status;
    b->binding = next32(c);
    b->arch_number = next32(c);
    uint64_t offset = next64(c);
    b->size = next64(c);
    next_bytes(c, b->hash, 32);
    if (offset % KILN_BLOB_ALIGN || offset > blobs->size || b->size > blobs->size - offset ||
        !b->size)
        return corrupt(o, "code lies outside BLOBS", "");
    b->data = o->l->data + blobs->offset + offset;
    return 0;
}

static int load_blobs(const load *o, cursor *c, library_kernel *k) {
    for (int i = 0; i < KILN_BLOBS_MAX; i++) {
        cursor start = *c;
        int status = i < k->n_blobs ? load_blob(o, c, &k->blob[i]) : 0;
        if (status) return status;
        c->at = start.at + KILN_BLOB_RECORD;
    }
    return 0;
}

/* Ties the kernel to the variant of this build, or says why it cannot be. */
static void resolve(const load *o, library_kernel *k) {
    const kiln_family *f = kiln_family_find(k->family);
    const kiln_variant *v = f ? kiln_variant_find(f, k->variant) : NULL;
    kiln_error e = {0};
    if (!v)
        k->unusable = kiln_arena_printf(&o->l->arena, "this runtime has no variant %s of %s",
                                        k->variant, k->family);
    else if (v->revision != k->revision)
        k->unusable = kiln_arena_printf(&o->l->arena,
                                        "made by revision %d of variant %s, this runtime has %d",
                                        k->revision, k->variant, v->revision);
    else if (kiln_schedule_parse(f, &k->s, k->schedule, &e))
        k->unusable = kiln_arena_printf(&o->l->arena, "its schedule cannot be read: %s", e.text);
    else if (k->s.variant != v)
        k->unusable = "its schedule names another variant";
    else
        k->v = v;
    if (!k->v && !k->unusable) k->unusable = "no memory";
}

static int load_kernel(const load *o, cursor c, library_kernel *k) {
    int status = 0;
    next_bytes(&c, k->hash, 32);
    kiln_hex(k->hash, 32, k->hex);
    const char **text[] = {&k->family, &k->variant, &k->schedule, &k->key, &k->suffix};
    for (int i = 0; i < 5 && !status; i++) status = next_string(&c, o, text[i]);
    if (status) return status;
    k->key_hash = kiln_format_hash(k->key, 0);
    k->revision = (int)next32(&c);
    k->device = next32(&c);
    uint32_t n_blobs = next32(&c);
    next32(&c);
    if (k->device >= o->l->n_devices || !n_blobs || n_blobs > KILN_BLOBS_MAX)
        return corrupt(o, "a kernel record is wrong: ", k->hex);
    if (strlen(k->suffix) > 20) return corrupt(o, "a kernel's suffix is too long: ", k->hex);
    k->n_blobs = (int)n_blobs;
    if ((status = load_blobs(o, &c, k))) return status;
    int *fact[] = {&k->facts.registers, &k->facts.local_bytes, &k->facts.shared_bytes,
                   &k->facts.max_threads, &k->facts.blocks_per_unit};
    for (int i = 0; i < 5; i++) *fact[i] = (int32_t)next32(&c);
    resolve(o, k);
    return 0;
}

static int load_kernels(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_KERNELS, KILN_KERNEL_RECORD, &t);
    if (status) return status;
    o->l->n_kernels = t.count;
    o->l->kernel = take_array(o, t.count, sizeof *o->l->kernel, &status);
    for (uint32_t i = 0; i < t.count && !status; i++)
        status = load_kernel(o, at_record(&t, i), &o->l->kernel[i]);
    return status;
}

static int load_exact(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_EXACT, KILN_EXACT_RECORD, &t);
    if (status) return status;
    o->l->n_exact = t.count;
    o->l->exact = take_array(o, t.count, sizeof *o->l->exact, &status);
    for (uint32_t i = 0; i < t.count && !status; i++) {
        cursor c = at_record(&t, i);
        library_exact *x = &o->l->exact[i];
        if ((status = next_string(&c, o, &x->problem))) break;
        x->device = next32(&c);
        x->kernel = next32(&c);
        x->seconds = next_double(&c);
        x->error_ratio = next_double(&c);
        if ((status = next_string(&c, o, &x->provenance))) break;
        if (x->device >= o->l->n_devices || x->kernel >= o->l->n_kernels)
            status = corrupt(o, "the entry is wrong of ", x->problem);
    }
    return status;
}

/* Every slot is read once here, so that a probe can trust what it finds. */
static int load_index(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_INDEX, 4, &t);
    if (status) return status;
    if (t.step != 4 || !power_of_two(t.count) || t.count <= o->l->n_exact)
        return corrupt(o, "the table of problems has a wrong size", "");
    for (uint32_t i = 0; i < t.count; i++)
        if (kiln_format_get32(t.first + 4 * (size_t)i) > o->l->n_exact)
            return corrupt(o, "the table of problems points nowhere", "");
    o->l->slot = t.first;
    o->l->n_slots = t.count;
    return 0;
}

static int load_fallbacks(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_FALLBACK, KILN_FALLBACK_RECORD, &t);
    for (uint32_t i = 0; i < t.count && !status; i++) {
        cursor c = at_record(&t, i);
        const char *key;
        if ((status = next_string(&c, o, &key))) break;
        uint32_t device = next32(&c), kernel = next32(&c);
        if (kernel >= o->l->n_kernels || o->l->kernel[kernel].device != device ||
            strcmp(o->l->kernel[kernel].key, key))
            return corrupt(o, "the fallback is wrong of ", key);
        o->l->kernel[kernel].fallback = true;
    }
    if (!status && !t.count) return corrupt(o, "there is no fallback kernel", "");
    return status;
}

static int load_point(const load *o, cursor c, uint32_t *kernel, library_point *p) {
    *kernel = next32(&c);
    uint32_t n = next32(&c);
    p->seconds = next_double(&c);
    for (int i = 0; i < KILN_SIZES_MAX; i++) {
        int64_t size = (int64_t)next64(&c);
        p->log2[i] = log2(size > 1 ? (double)size : 1);
    }
    int status = next_string(&c, o, &p->problem);
    if (status) return status;
    if (*kernel >= o->l->n_kernels || n > KILN_SIZES_MAX || !(p->seconds > 0))
        return corrupt(o, "a measured point is wrong", "");
    p->n_sizes = (int)n;
    return 0;
}

/* Points are grouped by kernel. */
static int load_points(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_POINTS, KILN_POINT_RECORD, &t);
    if (status) return status;
    o->l->n_points = t.count;
    o->l->point = take_array(o, t.count, sizeof *o->l->point, &status);
    for (uint32_t i = 0, last = 0; i < t.count && !status; i++) {
        uint32_t kernel;
        if ((status = load_point(o, at_record(&t, i), &kernel, &o->l->point[i]))) break;
        library_kernel *k = &o->l->kernel[kernel];
        if (kernel < last) return corrupt(o, "measured points are not grouped", "");
        if (!k->n_points++) k->point = &o->l->point[i];
        last = kernel;
    }
    return status;
}

static int load_tests(load *o) {
    table t;
    int status = open_table(o, KILN_SECTION_TESTS, KILN_TEST_RECORD, &t);
    if (status) return status;
    o->l->n_tests = t.count;
    o->l->test = take_array(o, t.count, sizeof *o->l->test, &status);
    for (uint32_t i = 0; i < t.count && !status; i++) {
        cursor c = at_record(&t, i);
        library_test *x = &o->l->test[i];
        x->exact = next32(&c);
        x->operand = next32(&c);
        x->seed = next64(&c);
        x->element = (int64_t)next64(&c);
        x->value = next_double(&c);
        x->tolerance = next_double(&c);
        if (x->exact >= o->l->n_exact) status = corrupt(o, "a test vector points nowhere", "");
    }
    return status;
}

static int load_provenance(load *o) {
    const library_section *s = find_section(o->l, KILN_SECTION_PROVENANCE);
    const char *text = s ? (const char *)o->l->data + s->offset : "";
    if (s && (!s->size || memchr(text, 0, s->size) != text + s->size - 1))
        return corrupt(o, "the provenance is not one text", "");
    o->l->provenance = text;
    return 0;
}

int kiln_reader_open(uint8_t *data, uint64_t bytes, const char *name, kiln_library **out,
                     kiln_error *e) {
    static int (*const step[])(load *) = {check_header, check_id,   load_sections,  load_devices,
                                          load_kernels, load_exact, load_index,     load_fallbacks,
                                          load_points,  load_tests, load_provenance};
    kiln_library *l = calloc(1, sizeof *l);
    if (!l) {
        free(data);
        return kiln_fail(e, KILN_NO_MEMORY, "no memory to open %s", name);
    }
    l->data = data;
    l->bytes = bytes;
    load o = {l, name, e};
    int status = 0;
    for (size_t i = 0; i < sizeof step / sizeof *step && !status; i++) status = step[i](&o);
    if (status) {
        kiln_close_library(l);
        return status;
    }
    *out = l;
    return 0;
}

/* ---------------------------------------------------------------- later checks */

int kiln_reader_check_blob(const library_kernel *k, const library_blob *b, kiln_error *e) {
    uint8_t digest[32];
    kiln_sha256_of(b->data, b->size, digest);
    if (!memcmp(digest, b->hash, 32)) return 0;
    return kiln_fail(e, KILN_CORRUPT,
                     "the %s code of kernel %.16s has a wrong hash; the file is damaged, fetch or "
                     "emit it again",
                     b->kind, k->hex);
}

static int check_zeros(const load *o, uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to; i++)
        if (o->l->data[i]) return corrupt(o, "bytes outside the sections are not zero", "");
    return 0;
}

int kiln_reader_verify(const kiln_library *l, kiln_error *e) {
    load o = {(kiln_library *)l, "the library", e}; /* nothing below writes to it */
    uint64_t end = KILN_HEADER_BYTES + (uint64_t)l->n_sections * KILN_SECTION_BYTES;
    int status = 0;
    for (int i = 0; i < l->n_sections && !status; i++) {
        status = check_zeros(&o, end, l->section[i].offset);
        if (!status) status = check_section_hash(&o, &l->section[i]);
        end = l->section[i].offset + l->section[i].size;
    }
    for (uint32_t i = 0; i < l->n_kernels; i++)
        for (int j = 0; j < l->kernel[i].n_blobs && !status; j++)
            status = kiln_reader_check_blob(&l->kernel[i], &l->kernel[i].blob[j], e);
    return status;
}

const library_exact *kiln_reader_find(const kiln_library *l, const char *problem, uint32_t device) {
    uint64_t mask = l->n_slots - 1, at = kiln_format_hash(problem, device) & mask;
    for (uint32_t tries = 0; tries < l->n_slots; tries++, at = (at + 1) & mask) {
        uint32_t slot = kiln_format_get32(l->slot + 4 * at);
        if (!slot) return NULL;
        const library_exact *x = &l->exact[slot - 1];
        if (x->device == device && !strcmp(x->problem, problem)) return x;
    }
    return NULL;
}

int kiln_reader_sizes(const kiln_problem *p, int64_t size[KILN_SIZES_MAX]) {
    int n = 0;
    for (int i = 0; p->family->keys[i].name && n < KILN_SIZES_MAX; i++) {
        const kiln_key *k = &p->family->keys[i];
        if (k->kind == KILN_KEY_SIZE && !k->compiled && k->fallback != 0) size[n++] = p->value[i];
    }
    return n;
}

#include "tuner/library.h"

#include "base/arena.h"
#include "base/hash.h"
#include "runtime/format.h"
#include "runtime/reader.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* An entry with its texts in canonical form. */
typedef struct item {
    const kiln_library_entry *entry;
    int index; /* in the caller's array, for messages */
    kiln_problem *problem;
    kiln_schedule schedule;
    char *device, *key, *schedule_text, *text;
    uint8_t code_hash[32];
    uint32_t device_index, kernel;
} item;

typedef struct section {
    uint32_t type, critical, alignment;
    kiln_text bytes;
} section;

enum { SECTIONS = 10 };

typedef struct emitter {
    kiln_arena arena;
    kiln_error *e;
    int n;
    item *item;
    uint32_t n_devices, n_kernels;
    item **kernel; /* the item that stands for each kernel */
    uint32_t n_exact;
    item **exact;
    kiln_text text;  /* TEXT */
    kiln_text blobs; /* BLOBS */
    struct {
        uint64_t hash;
        uint32_t offset, length;
    } * string;
    uint32_t n_strings, max_strings;
    struct {
        uint8_t hash[32];
        uint64_t offset;
    } * blob;
    uint32_t n_blobs;
    section section[SECTIONS];
    int n_sections;
} emitter;

/* ---------------------------------------------------------------- bytes */

static void put32(kiln_text *t, uint32_t v) {
    uint8_t b[4];
    kiln_format_put32(b, v);
    kiln_text_add_bytes(t, b, sizeof b);
}

static void put64(kiln_text *t, uint64_t v) {
    uint8_t b[8];
    kiln_format_put64(b, v);
    kiln_text_add_bytes(t, b, sizeof b);
}

static void put_double(kiln_text *t, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put64(t, bits);
}

static void put_zeros(kiln_text *t, uint64_t n) {
    static const uint8_t zeros[256];
    for (; n > sizeof zeros; n -= sizeof zeros) kiln_text_add_bytes(t, zeros, sizeof zeros);
    kiln_text_add_bytes(t, zeros, n);
}

static void pad_to(kiln_text *t, uint64_t alignment) {
    put_zeros(t, (alignment - t->size % alignment) % alignment);
}

/* Each text is kept once. */
static void put_string(emitter *m, kiln_text *t, const char *s) {
    uint32_t length = (uint32_t)strlen(s);
    uint64_t hash = kiln_hash64(s, length);
    uint32_t i = 0;
    for (; i < m->n_strings; i++)
        if (m->string[i].hash == hash && m->string[i].length == length &&
            !memcmp(m->text.data + m->string[i].offset, s, length))
            break;
    if (i == m->n_strings && !m->text.failed) {
        assert(m->n_strings < m->max_strings);
        m->string[m->n_strings].hash = hash;
        m->string[m->n_strings].offset = (uint32_t)m->text.size;
        m->string[m->n_strings++].length = length;
        kiln_text_add_bytes(&m->text, s, length + 1);
    }
    put32(t, i < m->n_strings ? m->string[i].offset : 0);
    put32(t, length);
}

static kiln_text *add_section(emitter *m, uint32_t type, uint32_t critical, uint32_t alignment) {
    section *s = &m->section[m->n_sections++];
    *s = (section){type, critical, alignment, {0}};
    return &s->bytes;
}

static kiln_text *add_table(emitter *m, uint32_t type, uint32_t critical, uint32_t count,
                            uint32_t record) {
    kiln_text *t = add_section(m, type, critical, KILN_TABLE_ALIGN);
    put32(t, count);
    put32(t, record);
    return t;
}

/* ---------------------------------------------------------------- reading the entries */

static int refuse(emitter *m, const item *x, const char *why) {
    return kiln_fail(m->e, KILN_BAD_INPUT, "library entry %d (\"%.120s\"): %.280s", x->index,
                     x->entry->problem ? x->entry->problem : "no problem", why);
}

/* Every field that the file keeps, as one text: it identifies and orders devices. */
static char *device_text(emitter *m, const kiln_caps *c) {
    kiln_text t = {0};
#define X(field) kiln_text_printf(&t, "%s\x1f", c->field);
    KILN_CAPS_TEXTS(X)
#undef X
#define X(field) kiln_text_printf(&t, "%d ", c->field);
    KILN_CAPS_I32S(X)
#undef X
#define X(field) kiln_text_printf(&t, "%lld ", (long long)c->field);
    KILN_CAPS_I64S(X)
#undef X
#define X(field) kiln_text_printf(&t, "%d", c->field);
    KILN_CAPS_FLAGS(X)
#undef X
    char *copy = t.failed ? NULL : kiln_arena_strdup(&m->arena, kiln_text_get(&t));
    kiln_text_free(&t);
    return copy;
}

static char *keep(emitter *m, kiln_text *t) {
    char *copy = t->failed ? NULL : kiln_arena_strdup(&m->arena, kiln_text_get(t));
    kiln_text_free(t);
    return copy;
}

static int read_texts(emitter *m, item *x) {
    kiln_error e = {0};
    kiln_text text = {0}, key = {0}, schedule = {0};
    x->problem = kiln_arena_alloc(&m->arena, sizeof *x->problem);
    if (!x->problem) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    if (kiln_problem_parse(x->problem, x->entry->problem, &e)) return refuse(m, x, e.text);
    if (kiln_schedule_parse(x->problem->family, &x->schedule, x->entry->schedule, &e))
        return refuse(m, x, e.text);
    kiln_problem_print(x->problem, &text);
    kiln_problem_print_kernel_key(x->problem, &key);
    kiln_schedule_print(&x->schedule, &schedule);
    x->text = keep(m, &text);
    x->key = keep(m, &key);
    x->schedule_text = keep(m, &schedule);
    x->device = device_text(m, x->entry->caps);
    if (x->text && x->key && x->schedule_text && x->device) return 0;
    return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
}

static bool is_printable(const char *s) {
    for (; s && *s; s++)
        if ((unsigned char)*s < 32 || *s == 127) return false;
    return true;
}

/* Is the schedule legal for the sizes that it was measured at? A fallback must be everywhere. */
static int check_legal(emitter *m, const item *x) {
    kiln_text why = {0};
    int status = 0;
    if (!x->schedule.variant->legal(x->problem, x->entry->caps, &x->schedule, &why))
        status = refuse(m, x, kiln_text_get(&why));
    kiln_text_free(&why);
    return status;
}

static int read_entry(emitter *m, item *x) {
    const kiln_library_entry *n = x->entry;
    if (!n->problem || !n->schedule || !n->caps || !n->suffix)
        return refuse(m, x, "problem, schedule, caps or suffix is NULL");
    if (!(n->code && n->code_bytes && n->code_kind) && !n->source)
        return refuse(m, x, "it has neither code nor source");
    if (strlen(n->suffix) > 20) return refuse(m, x, "its suffix is longer than 20");
    if (!is_printable(n->provenance)) return refuse(m, x, "its provenance is not one line");
    if (!(n->seconds >= 0) || n->seconds > 1e9) return refuse(m, x, "its seconds are not a time");
    int status = read_texts(m, x);
    if (!status) status = check_legal(m, x);
    if (n->code) kiln_sha256_of(n->code, n->code_bytes, x->code_hash);
    return status;
}

/* ---------------------------------------------------------------- order */

static int by_kernel(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    int c = strcmp(a->device, b->device);
    if (!c) c = strcmp(a->key, b->key);
    if (!c) c = strcmp(a->schedule_text, b->schedule_text);
    return c;
}

static int by_all(const void *pa, const void *pb) {
    const item *a = pa, *b = pb;
    int c = by_kernel(a, b);
    if (!c) c = memcmp(a->code_hash, b->code_hash, 32);
    if (!c)
        c = strcmp(a->entry->source ? a->entry->source : "",
                   b->entry->source ? b->entry->source : "");
    if (!c) c = strcmp(a->text, b->text);
    if (!c) c = (a->entry->seconds > b->entry->seconds) - (a->entry->seconds < b->entry->seconds);
    if (!c)
        c = strcmp(a->entry->provenance ? a->entry->provenance : "",
                   b->entry->provenance ? b->entry->provenance : "");
    return c;
}

static int number_kernels(emitter *m) {
    m->kernel = kiln_arena_alloc(&m->arena, (size_t)m->n * sizeof *m->kernel);
    if (!m->kernel) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    for (int i = 0; i < m->n; i++) {
        item *x = &m->item[i];
        if (!i || strcmp(x->device, x[-1].device)) m->n_devices++;
        x->device_index = m->n_devices - 1;
        if (!i || by_kernel(x, &x[-1])) m->kernel[m->n_kernels++] = x;
        x->kernel = m->n_kernels - 1;
        if (strcmp(x->entry->suffix, m->kernel[x->kernel]->entry->suffix))
            return refuse(m, x,
                          "another entry has the same schedule and another suffix; emit both "
                          "again from one version of the kernels");
    }
    return 0;
}

/* Exact hits, ordered by device and text. */
static int by_problem(const void *pa, const void *pb) {
    const item *a = *(item *const *)pa, *b = *(item *const *)pb;
    int c = (a->device_index > b->device_index) - (a->device_index < b->device_index);
    if (!c) c = strcmp(a->text, b->text);
    if (!c) c = (a->entry->seconds > b->entry->seconds) - (a->entry->seconds < b->entry->seconds);
    return c ? c : by_all(a, b);
}

static int choose_exact(emitter *m) {
    m->exact = kiln_arena_alloc(&m->arena, (size_t)m->n * sizeof *m->exact);
    if (!m->exact) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    uint32_t n = 0;
    for (int i = 0; i < m->n; i++)
        if (m->item[i].entry->seconds > 0 && !m->item[i].entry->point_only)
            m->exact[n++] = &m->item[i];
    qsort(m->exact, n, sizeof *m->exact, by_problem);
    for (uint32_t i = 0; i < n; i++) {
        item *last = m->n_exact ? m->exact[m->n_exact - 1] : NULL;
        if (last && last->device_index == m->exact[i]->device_index &&
            !strcmp(last->text, m->exact[i]->text))
            continue;
        m->exact[m->n_exact++] = m->exact[i];
    }
    return 0;
}

/* ---------------------------------------------------------------- sections */

static void write_device(emitter *m, kiln_text *t, const kiln_caps *c) {
    size_t start = t->size;
#define X(field) put_string(m, t, c->field);
    KILN_CAPS_TEXTS(X)
#undef X
#define X(field) put32(t, (uint32_t)c->field);
    KILN_CAPS_I32S(X)
#undef X
#define X(field) put64(t, (uint64_t)c->field);
    KILN_CAPS_I64S(X)
#undef X
    uint32_t flags = 0, bit = 0;
#define X(field) flags |= (uint32_t)c->field << bit++;
    KILN_CAPS_FLAGS(X)
#undef X
    put32(t, flags);
    put_zeros(t, start + KILN_DEVICE_RECORD - t->size);
}

static void write_devices(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_DEVICES, 1, m->n_devices, KILN_DEVICE_RECORD);
    for (int i = 0; i < m->n; i++)
        if (!i || m->item[i].device_index != m->item[i - 1].device_index)
            write_device(m, t, m->item[i].entry->caps);
}

/* "sm_90a" -> 90 and whether it is bound to that architecture. */
static uint32_t read_arch(const char *arch, bool *bound) {
    size_t at = strcspn(arch, "0123456789"), end = at + strspn(arch + at, "0123456789");
    *bound = isalpha((unsigned char)arch[end]) != 0;
    return (uint32_t)strtoul(arch + at, NULL, 10);
}

static int bind(emitter *m, const item *x, const char *kind, const void *data, size_t bytes,
                uint32_t *binding, uint32_t *arch) {
    bool bound = false;
    *arch = 0;
    *binding = KILN_BIND_NONE;
    if (!strcmp(kind, "source")) return 0;
    if (!strcmp(kind, "opencl"))
        *binding = KILN_BIND_DRIVER;
    else if (!strcmp(kind, "hsaco"))
        *binding = KILN_BIND_ARCH;
    else if (!strcmp(kind, "cubin")) {
        *arch = read_arch(x->entry->caps->arch, &bound);
        *binding = bound ? KILN_BIND_ARCH : KILN_BIND_ARCH_MAJOR;
    } else if (!strcmp(kind, "ptx")) {
        const char *at = memmem(data, bytes, ".target", 7);
        if (!at) return refuse(m, x, "its PTX has no .target line");
        *arch = read_arch(at, &bound);
        *binding = bound ? KILN_BIND_ARCH : KILN_BIND_ARCH_LEAST;
    } else
        return refuse(m, x, "its code_kind is none of cubin, opencl, hsaco");
    return 0;
}

/* Equal code is stored once. */
static uint64_t store_blob(emitter *m, const void *data, size_t bytes, bool text,
                           uint8_t hash[32]) {
    kiln_sha256 h;
    kiln_sha256_init(&h);
    kiln_sha256_add(&h, data, bytes);
    if (text) kiln_sha256_add(&h, "", 1);
    kiln_sha256_end(&h, hash);
    for (uint32_t i = 0; i < m->n_blobs; i++)
        if (!memcmp(m->blob[i].hash, hash, 32)) return m->blob[i].offset;
    pad_to(&m->blobs, KILN_BLOB_ALIGN);
    uint64_t offset = m->blobs.size;
    kiln_text_add_bytes(&m->blobs, data, bytes);
    if (text) put_zeros(&m->blobs, 1);
    memcpy(m->blob[m->n_blobs].hash, hash, 32);
    m->blob[m->n_blobs++].offset = offset;
    return offset;
}

static int write_blob(emitter *m, kiln_text *t, const item *x, const char *kind, const void *data,
                      size_t bytes) {
    bool text = !strcmp(kind, "ptx") || !strcmp(kind, "source");
    uint32_t binding, arch;
    uint8_t hash[32];
    while (text && bytes && !((const char *)data)[bytes - 1]) bytes--;
    int status = bind(m, x, kind, data, bytes, &binding, &arch);
    if (status) return status;
    uint64_t offset = store_blob(m, data, bytes, text, hash);
    put_string(m, t, kind);
    put32(t, binding);
    put32(t, arch);
    put64(t, offset);
    put64(t, bytes + text);
    kiln_text_add_bytes(t, hash, 32);
    return 0;
}

/* What names a kernel: everything its code follows from. */
static void hash_kernel(const item *x, uint8_t hash[32]) {
    kiln_text t = {0};
    kiln_text_printf(&t, "kiln kernel 1\n%s\n%s\n%s\n%d\n%s\n%s\n%s\n", x->device,
                     x->problem->family->name, x->schedule.variant->name,
                     x->schedule.variant->revision, x->schedule_text, x->key, x->entry->suffix);
    kiln_sha256_of(kiln_text_get(&t), t.size, hash);
    kiln_text_free(&t);
}

static int write_blobs(emitter *m, kiln_text *t, const item *x) {
    const kiln_library_entry *n = x->entry;
    size_t start = t->size;
    int status = 0;
    if (n->code) status = write_blob(m, t, x, n->code_kind, n->code, n->code_bytes);
    if (!status && n->ptx) status = write_blob(m, t, x, "ptx", n->ptx, n->ptx_bytes);
    if (!status && n->source) status = write_blob(m, t, x, "source", n->source, strlen(n->source));
    put_zeros(t, start + KILN_BLOBS_MAX * KILN_BLOB_RECORD - t->size);
    return status;
}

static int write_kernel(emitter *m, kiln_text *t, const item *x) {
    const kiln_library_entry *n = x->entry;
    uint8_t hash[32];
    hash_kernel(x, hash);
    kiln_text_add_bytes(t, hash, 32);
    put_string(m, t, x->problem->family->name);
    put_string(m, t, x->schedule.variant->name);
    put_string(m, t, x->schedule_text);
    put_string(m, t, x->key);
    put_string(m, t, n->suffix);
    put32(t, (uint32_t)x->schedule.variant->revision);
    put32(t, x->device_index);
    put32(t, (n->code != NULL) + (n->ptx != NULL) + (n->source != NULL));
    put32(t, 0);
    int status = write_blobs(m, t, x);
    const kiln_kernel_facts *f = &n->facts;
    put32(t, (uint32_t)f->registers);
    put32(t, (uint32_t)f->local_bytes);
    put32(t, (uint32_t)f->shared_bytes);
    put32(t, (uint32_t)f->max_threads);
    put32(t, (uint32_t)f->blocks_per_unit);
    put32(t, 0);
    return status;
}

static int write_kernels(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_KERNELS, 1, m->n_kernels, KILN_KERNEL_RECORD);
    int status = 0;
    for (uint32_t i = 0; i < m->n_kernels && !status; i++)
        status = write_kernel(m, t, m->kernel[i]);
    return status;
}

static void write_exact(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_EXACT, 1, m->n_exact, KILN_EXACT_RECORD);
    for (uint32_t i = 0; i < m->n_exact; i++) {
        const item *x = m->exact[i];
        put_string(m, t, x->text);
        put32(t, x->device_index);
        put32(t, x->kernel);
        put_double(t, x->entry->seconds);
        put_double(t, x->entry->error_bound_ratio);
        put_string(m, t, x->entry->provenance ? x->entry->provenance : "");
    }
}

/* At most half full, so that a probe is short and always meets an empty slot. */
static int write_index(emitter *m) {
    uint32_t n = 2;
    while (n < 2 * m->n_exact + 1) n *= 2;
    uint32_t *slot = kiln_arena_alloc(&m->arena, n * sizeof *slot);
    if (!slot) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    for (uint32_t i = 0; i < m->n_exact; i++) {
        uint64_t at = kiln_format_hash(m->exact[i]->text, m->exact[i]->device_index) % n;
        while (slot[at]) at = (at + 1) % n;
        slot[at] = i + 1;
    }
    kiln_text *t = add_table(m, KILN_SECTION_INDEX, 1, n, 4);
    for (uint32_t i = 0; i < n; i++) put32(t, slot[i]);
    return 0;
}

/* One per kernel key and device: the first of the sorted items that says so. */
static int write_fallbacks(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_FALLBACK, 1, 0, KILN_FALLBACK_RECORD);
    uint32_t count = 0;
    for (int i = 0; i < m->n;) {
        const item *first = &m->item[i], *found = NULL;
        for (; i < m->n && m->item[i].device_index == first->device_index &&
               !strcmp(m->item[i].key, first->key);
             i++)
            if (m->item[i].entry->fallback && !found) found = &m->item[i];
        if (!found)
            return refuse(m, first,
                          "no entry of its kernel key on this device is a fallback; add "
                          "the default schedule's kernel with fallback set");
        put_string(m, t, found->key);
        put32(t, found->device_index);
        put32(t, found->kernel);
        count++;
    }
    kiln_format_put32((uint8_t *)t->data, count);
    return 0;
}

static void write_points(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_POINTS, 0, 0, KILN_POINT_RECORD);
    uint32_t count = 0;
    for (int i = 0; i < m->n; i++) {
        const item *x = &m->item[i];
        int64_t size[KILN_SIZES_MAX] = {0};
        if (!(x->entry->seconds > 0)) continue;
        put32(t, x->kernel);
        put32(t, (uint32_t)kiln_reader_sizes(x->problem, size));
        put_double(t, x->entry->seconds);
        for (int j = 0; j < KILN_SIZES_MAX; j++) put64(t, (uint64_t)size[j]);
        put_string(m, t, x->text);
        count++;
    }
    if (!t->failed) kiln_format_put32((uint8_t *)t->data, count);
}

static void write_tests(emitter *m) {
    kiln_text *t = add_table(m, KILN_SECTION_TESTS, 0, 0, KILN_TEST_RECORD);
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->n_exact; i++) {
        const kiln_library_entry *x = m->exact[i]->entry;
        for (int j = 0; j < x->n_samples; j++, count++) {
            put32(t, i);
            put32(t, (uint32_t)x->sample[j].operand);
            put64(t, x->seed);
            put64(t, (uint64_t)x->sample[j].element);
            put_double(t, x->sample[j].value);
            put_double(t, x->sample[j].tolerance);
        }
    }
    if (!t->failed) kiln_format_put32((uint8_t *)t->data, count);
}

static int write_sections(emitter *m, const char *provenance) {
    write_devices(m);
    int status = write_kernels(m);
    if (status) return status;
    write_exact(m);
    if ((status = write_index(m)) || (status = write_fallbacks(m))) return status;
    write_points(m);
    write_tests(m);
    kiln_text *t = add_section(m, KILN_SECTION_PROVENANCE, 0, KILN_TABLE_ALIGN);
    kiln_text_add_bytes(t, provenance ? provenance : "", strlen(provenance ? provenance : "") + 1);
    *add_section(m, KILN_SECTION_TEXT, 1, KILN_TABLE_ALIGN) = m->text;
    *add_section(m, KILN_SECTION_BLOBS, 1, KILN_BLOB_ALIGN) = m->blobs;
    m->text = m->blobs = (kiln_text){0};
    for (int i = 0; i < m->n_sections; i++)
        if (m->section[i].bytes.failed)
            return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    return 0;
}

/* ---------------------------------------------------------------- the file */

static void place_sections(emitter *m, kiln_text *table, uint64_t *end) {
    *end = KILN_HEADER_BYTES + (uint64_t)m->n_sections * KILN_SECTION_BYTES;
    for (int i = 0; i < m->n_sections; i++) {
        const section *s = &m->section[i];
        uint8_t hash[32];
        uint64_t offset = (*end + s->alignment - 1) / s->alignment * s->alignment;
        kiln_sha256_of(s->bytes.data, s->bytes.size, hash);
        put32(table, s->type);
        put32(table, s->critical ? KILN_SECTION_CRITICAL : 0);
        put64(table, offset);
        put64(table, s->bytes.size);
        put64(table, s->alignment);
        kiln_text_add_bytes(table, hash, 32);
        *end = offset + s->bytes.size;
    }
}

static void put_header(emitter *m, const kiln_text *table, uint64_t bytes, kiln_text *out) {
    kiln_text_add_bytes(out, KILN_MAGIC, 8);
    put32(out, KILN_FORMAT_MAJOR | KILN_FORMAT_MINOR << 16);
    put32(out, (uint32_t)m->n_sections);
    put64(out, 0);
    put64(out, 0);
    put64(out, bytes);
    put_zeros(out, 24);
    uint8_t hash[32], bound[96] = {0}, id[32];
    kiln_sha256_of(table->data, table->size, hash);
    if (!out->failed) memcpy(bound, out->data, 64);
    memcpy(bound + 64, hash, 32);
    kiln_sha256_of(bound, sizeof bound, id);
    kiln_text_add_bytes(out, id, 32);
    kiln_text_add_bytes(out, hash, 32);
}

static int assemble(emitter *m, kiln_text *out) {
    kiln_text table = {0};
    uint64_t bytes;
    place_sections(m, &table, &bytes);
    put_header(m, &table, bytes, out);
    kiln_text_add_bytes(out, table.data, table.size);
    for (int i = 0; i < m->n_sections; i++) {
        pad_to(out, m->section[i].alignment);
        kiln_text_add_bytes(out, m->section[i].bytes.data, m->section[i].bytes.size);
    }
    bool failed = table.failed || out->failed;
    kiln_text_free(&table);
    if (failed) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    if (bytes > KILN_FILE_BYTES_MAX)
        return kiln_fail(m->e, KILN_UNSUPPORTED,
                         "the library would have %llu bytes, more than a file may; emit fewer "
                         "problems or devices into one file",
                         (unsigned long long)bytes);
    return 0;
}

static int write_bytes(int fd, const char *path, const char *data, size_t size, kiln_error *e) {
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return kiln_fail(e, KILN_IO, "cannot write %s: %s", path, strerror(errno));
        data += n;
        size -= (size_t)n;
    }
    if (fsync(fd)) return kiln_fail(e, KILN_IO, "cannot write %s: %s", path, strerror(errno));
    return 0;
}

/* The name lives in the folder, so the folder must reach the disk too. */
static void sync_folder(emitter *m, const char *path) {
    char *folder = kiln_arena_strdup(&m->arena, path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash) slash[slash == folder] = 0;
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int write_file(emitter *m, const char *path, const kiln_text *bytes) {
    char *aside = kiln_arena_printf(&m->arena, "%s.%ld.new", path, (long)getpid());
    if (!aside) return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return kiln_fail(m->e, KILN_IO, "cannot create %s: %s", aside, strerror(errno));
    int status = write_bytes(fd, path, bytes->data, bytes->size, m->e);
    if (close(fd) && !status)
        status = kiln_fail(m->e, KILN_IO, "cannot write %s: %s", path, strerror(errno));
    if (!status && rename(aside, path))
        status =
            kiln_fail(m->e, KILN_IO, "cannot rename %s to %s: %s", aside, path, strerror(errno));
    if (status)
        unlink(aside);
    else
        sync_folder(m, path);
    return status;
}

static int read_entries(emitter *m, const kiln_library_entry *entries, int n) {
    if (n <= 0)
        return kiln_fail(m->e, KILN_BAD_INPUT, "there is nothing to emit; tune a problem first");
    m->n = n;
    m->item = kiln_arena_alloc(&m->arena, (size_t)n * sizeof *m->item);
    m->max_strings = (uint32_t)n * 20 + 64;
    m->string = kiln_arena_alloc(&m->arena, m->max_strings * sizeof *m->string);
    m->blob = kiln_arena_alloc(&m->arena, (size_t)n * KILN_BLOBS_MAX * sizeof *m->blob);
    if (!m->item || !m->string || !m->blob)
        return kiln_fail(m->e, KILN_NO_MEMORY, "no memory to emit a library");
    int status = 0;
    for (int i = 0; i < n && !status; i++) {
        m->item[i].entry = &entries[i];
        m->item[i].index = i;
        status = read_entry(m, &m->item[i]);
    }
    if (!status) qsort(m->item, (size_t)n, sizeof *m->item, by_all);
    return status;
}

int kiln_library_write(const char *path, const kiln_library_entry *entries, int n,
                       const char *provenance, kiln_error *e) {
    emitter m = {.e = e};
    kiln_text bytes = {0};
    int status = read_entries(&m, entries, n);
    if (!status) status = number_kernels(&m);
    if (!status) status = choose_exact(&m);
    if (!status) status = write_sections(&m, provenance);
    if (!status) status = assemble(&m, &bytes);
    if (!status) status = write_file(&m, path, &bytes);
    for (int i = 0; i < m.n_sections; i++) kiln_text_free(&m.section[i].bytes);
    kiln_text_free(&m.text);
    kiln_text_free(&m.blobs);
    kiln_text_free(&bytes);
    kiln_arena_free(&m.arena);
    return status;
}

/* The .kiln file: what the emitter writes the reader reads, equal input gives equal bytes, and no
 * damage, cut or forgery gets past a sentence. No device is used. */
#include "base/hash.h"
#include "kernels/family.h"
#include "runtime/format.h"
#include "runtime/kiln.h"
#include "runtime/reader.h"
#include "tuner/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ENTRIES = 6 };

static char folder[] = "/tmp/kiln-test-library-XXXXXX";
static kiln_caps card, sibling;
static kiln_library_entry entry[ENTRIES];
static char schedule[2][256];
static const kiln_library_sample samples[] = {{1, 0, 0.5, 0.01}, {1, 7, -0.25, 0.01}};

static const char *const problems[] = {"map rows=64 cols=256 x=f32 out=f32 : out = x + 1",
                                       "map rows=1024 cols=256 x=f32 out=f32 : out = x + 1",
                                       "map rows=64 cols=4096 x=f32 out=f32 : out = relu(x)"};

static char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void make_caps(kiln_caps *c, const char *name) {
    *c = (kiln_caps){.target = "cuda",
                     .arch = "sm_90a",
                     .driver = "580.1",
                     .compiler = "NVRTC 13.0",
                     .kind = KILN_DEVICE_GPU,
                     .arch_number = 90,
                     .units = 132,
                     .warp = 32,
                     .max_threads = 1024,
                     .shared_bytes = 227 << 10,
                     .shared_unit_bytes = 228 << 10,
                     .registers_unit = 65536,
                     .threads_unit = 2048,
                     .cache_bytes = 50 << 20,
                     .memory_bytes = (int64_t)140 << 30,
                     .max_alloc_bytes = (int64_t)140 << 30,
                     .clock_mhz = 1980,
                     .align_bytes = 256,
                     .f64 = true,
                     .f16 = true,
                     .clusters = true,
                     .tensor_maps = true,
                     .events = true};
    snprintf(c->name, sizeof c->name, "%s", name);
}

/* Two schedules that are legal for all the problems: the default and one other. */
static void make_schedules(void) {
    const kiln_family *f = kiln_family_find("map");
    const kiln_variant *v = kiln_variant_find(f, "simt");
    kiln_problem p;
    int found = 0;
    kiln_text t = {0};
    for (int knob = -1; v->knobs[knob < 0 ? 0 : knob].name && found < 2; knob++)
        for (int value = 0; value <= 256 && found < 2; value = value ? 2 * value : 1) {
            kiln_schedule s = kiln_variant_default(v);
            if (knob >= 0) s.value[knob] = value;
            bool legal = true;
            for (int i = 0; i < 3; i++) {
                kiln_error e;
                assert_int_equal(kiln_problem_parse(&p, problems[i], &e), 0);
                legal = legal && v->legal(&p, &card, &s, NULL);
            }
            kiln_text_clear(&t);
            kiln_schedule_print(&s, &t);
            if (legal && (!found || strcmp(schedule[0], kiln_text_get(&t))))
                snprintf(schedule[found++], sizeof schedule[0], "%s", kiln_text_get(&t));
            if (knob < 0) break;
        }
    kiln_text_free(&t);
    assert_int_equal(found, 2);
}

static kiln_library_entry make_entry(int problem, int s, const kiln_caps *caps, double seconds) {
    static const char ptx[] = "//\n.version 8.0\n.target sm_80\n";
    return (kiln_library_entry){.problem = problems[problem],
                                .schedule = schedule[s],
                                .caps = caps,
                                .source = "the whole unit",
                                .suffix = "0123456789abcdef",
                                .code = s ? "other code" : "machine code",
                                .code_bytes = 10,
                                .code_kind = "cubin",
                                .ptx = ptx,
                                .ptx_bytes = sizeof ptx,
                                .seconds = seconds,
                                .error_bound_ratio = 0.25,
                                .provenance = "{\"date\": \"then\"}",
                                .facts = {32, 0, 1024, 1024, -1},
                                .seed = 7,
                                .sample = samples,
                                .n_samples = 2};
}

static int set_up(void **state) {
    (void)state;
    assert_non_null(mkdtemp(folder));
    make_caps(&card, "NVIDIA H200");
    make_caps(&sibling, "NVIDIA H100");
    make_schedules();
    entry[0] = make_entry(0, 0, &card, 2e-6);
    entry[1] = make_entry(0, 1, &card, 1e-6);
    entry[2] = make_entry(1, 1, &card, 9e-6);
    entry[3] = make_entry(2, 0, &card, 3e-6);
    entry[4] = make_entry(0, 0, &sibling, 4e-6);
    entry[5] = make_entry(2, 1, &card, 5e-6);
    entry[0].fallback = entry[3].fallback = entry[4].fallback = true;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path_of("a.kiln"));
    unlink(path_of("b.kiln"));
    return rmdir(folder);
}

static void emit(const char *name, const kiln_library_entry *entries, int n) {
    kiln_error e = {0};
    int status = kiln_library_write(path_of(name), entries, n, "{\"kiln\": \"test\"}", &e);
    if (status) fail_msg("%s", e.text);
}

static uint8_t *read_bytes(const char *name, size_t *n) {
    FILE *f = fopen(path_of(name), "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*n);
    assert_int_equal(fread(data, 1, *n, f), *n);
    fclose(f);
    return data;
}

/* ---------------------------------------------------------------- writing and reading */

static void what_is_written_is_read(void **state) {
    (void)state;
    emit("a.kiln", entry, ENTRIES);
    kiln_library *l;
    assert_int_equal(kiln_open_library(path_of("a.kiln"), NULL, &l), 0);
    assert_int_equal(kiln_verify_library(l), 0);
    assert_int_equal(l->n_devices, 2);
    assert_int_equal(l->n_kernels, 5); /* 2 keys x 2 schedules, and one on the sibling */
    assert_int_equal(l->n_exact, 4);
    assert_int_equal(l->n_points, 6);
    assert_int_equal(l->n_tests, 8);
    assert_string_equal(l->provenance, "{\"kiln\": \"test\"}");
    uint32_t d = strcmp(l->device[0].name, card.name) ? 1 : 0;
    assert_memory_equal(&l->device[d], &card, sizeof card);
    const library_exact *x = kiln_reader_find(l, problems[0], d);
    assert_non_null(x);
    assert_true(x->seconds == 1e-6); /* the faster of two */
    assert_string_equal(l->kernel[x->kernel].schedule, schedule[1]);
    assert_string_equal(x->provenance, "{\"date\": \"then\"}");
    assert_int_equal(l->kernel[x->kernel].facts.registers, 32);
    assert_int_equal(l->kernel[x->kernel].n_points, 2);
    assert_true(kiln_reader_find(l, problems[0], 1 - d)->seconds == 4e-6);
    assert_null(kiln_reader_find(l, problems[1], 1 - d));
    assert_null(kiln_reader_find(l, "map rows=65 cols=256 x=f32 out=f32 : out = x + 1", d));
    for (uint32_t i = 0; i < l->n_kernels; i++) assert_null(l->kernel[i].unusable);
    kiln_close_library(l);
}

static void blobs_say_where_they_run(void **state) {
    (void)state;
    kiln_library *l;
    emit("a.kiln", entry, ENTRIES);
    assert_int_equal(kiln_open_library(path_of("a.kiln"), NULL, &l), 0);
    const library_kernel *k = &l->kernel[0];
    assert_int_equal(k->n_blobs, 3);
    assert_string_equal(k->blob[0].kind, "cubin");
    assert_int_equal(k->blob[0].binding, KILN_BIND_ARCH); /* sm_90a runs on 9.0 alone */
    assert_string_equal(k->blob[1].kind, "ptx");
    assert_int_equal(k->blob[1].binding, KILN_BIND_ARCH_LEAST);
    assert_int_equal(k->blob[1].arch_number, 80);
    assert_string_equal((const char *)k->blob[2].data, "the whole unit");
    assert_ptr_equal(k->blob[2].data, l->kernel[1].blob[2].data); /* stored once */
    kiln_close_library(l);
}

static void equal_entries_give_equal_bytes(void **state) {
    (void)state;
    kiln_library_entry shuffled[ENTRIES];
    for (int i = 0; i < ENTRIES; i++) shuffled[i] = entry[(i * 5 + 3) % ENTRIES];
    emit("a.kiln", entry, ENTRIES);
    emit("b.kiln", shuffled, ENTRIES);
    size_t na, nb;
    uint8_t *a = read_bytes("a.kiln", &na), *b = read_bytes("b.kiln", &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(a, b, na);
    free(a);
    free(b);
}

static void refuse(const kiln_library_entry *entries, int n, const char *word) {
    kiln_error e = {0};
    unlink(path_of("b.kiln"));
    assert_int_equal(kiln_library_write(path_of("b.kiln"), entries, n, NULL, &e), KILN_BAD_INPUT);
    if (!strstr(e.text, word)) fail_msg("\"%s\" does not speak of \"%s\"", e.text, word);
    assert_int_not_equal(access(path_of("b.kiln"), F_OK), 0);
}

static void bad_entries_are_refused(void **state) {
    (void)state;
    kiln_library_entry x[ENTRIES];
    memcpy(x, entry, sizeof x);
    refuse(x, 0, "nothing");
    x[3].fallback = false;
    refuse(x, ENTRIES, "fallback");
    memcpy(x, entry, sizeof x);
    x[2].problem = "map rows=64 cols=256 x=f32 out=f32 : out = y";
    refuse(x, ENTRIES, "entry 2");
    memcpy(x, entry, sizeof x);
    x[1].schedule = "simt nonsense=1";
    refuse(x, ENTRIES, "entry 1");
    memcpy(x, entry, sizeof x);
    x[1].suffix = "another";
    x[5].suffix = "another";
    x[2].suffix = "0123456789abcdef";
    refuse(x, ENTRIES, "suffix");
    memcpy(x, entry, sizeof x);
    x[4].code_kind = "elf";
    refuse(x, ENTRIES, "code_kind");
    memcpy(x, entry, sizeof x);
    x[4].seconds = -1;
    refuse(x, ENTRIES, "seconds");
    x[4].seconds = 1e-6;
    x[4].ptx = "no target";
    x[4].ptx_bytes = 9;
    refuse(x, ENTRIES, ".target");
}

static void a_folder_that_is_not_there(void **state) {
    (void)state;
    kiln_error e = {0};
    assert_int_equal(kiln_library_write("/no/such/folder/x.kiln", entry, ENTRIES, NULL, &e),
                     KILN_IO);
    assert_non_null(strstr(e.text, "/no/such/folder/x.kiln"));
}

/* ---------------------------------------------------------------- damage */

/* Opens and, where that works, uses everything that needs no device. 0: nothing was noticed. */
static int open_and_use(const uint8_t *data, size_t n) {
    kiln_library *l = NULL;
    char *json = NULL;
    int status = kiln_open_memory(data, n, NULL, &l);
    if (!status) {
        assert_int_equal(kiln_describe_library(l, &json), 0);
        status = kiln_verify_library(l);
        kiln_free_text(json);
    }
    kiln_close_library(l);
    if (status) assert_true(strlen(kiln_last_error()) > 20);
    return status;
}

static void every_flipped_bit_is_noticed(void **state) {
    (void)state;
    uint64_t seed = 20240229;
    print_message("flips: seed %llu\n", (unsigned long long)seed);
    emit("a.kiln", entry, ENTRIES);
    size_t n;
    uint8_t *data = read_bytes("a.kiln", &n);
    assert_int_equal(open_and_use(data, n), 0);
    size_t dense = 6000 < n ? 6000 : n; /* header and tables byte by byte, the rest sampled */
    for (uint64_t i = 0; i < dense + 2000; i++) {
        size_t at = i < dense ? i : kiln_random64(seed, i) % n;
        uint8_t bit = (uint8_t)(1 << kiln_random64(seed, ~i) % 8);
        data[at] ^= bit;
        int status = open_and_use(data, n);
        data[at] ^= bit;
        if (!status) fail_msg("a flipped bit of byte %zu was not noticed", at);
        assert_true(status == KILN_CORRUPT || status == KILN_VERSION);
    }
    free(data);
}

static void every_cut_is_noticed(void **state) {
    (void)state;
    emit("a.kiln", entry, ENTRIES);
    size_t n;
    uint8_t *data = read_bytes("a.kiln", &n);
    for (size_t cut = 0; cut < n; cut += cut < 5000 ? 1 : 97) {
        uint8_t *exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, data, cut);
        assert_int_equal(open_and_use(exact, cut), KILN_CORRUPT);
        free(exact);
    }
    free(data);
}

/* Makes all hashes right again, as a forger would. */
static void forge(uint8_t *data, size_t n) {
    uint32_t count = kiln_format_get32(data + 12);
    uint8_t bound[96];
    for (uint32_t i = 0; i < count && KILN_HEADER_BYTES + (i + 1) * KILN_SECTION_BYTES <= n; i++) {
        uint8_t *s = data + KILN_HEADER_BYTES + i * KILN_SECTION_BYTES;
        uint64_t offset = kiln_format_get64(s + 8), size = kiln_format_get64(s + 16);
        if (offset <= n && size <= n - offset) kiln_sha256_of(data + offset, size, s + 32);
    }
    if (KILN_HEADER_BYTES + (uint64_t)count * KILN_SECTION_BYTES > n) return;
    kiln_sha256_of(data + KILN_HEADER_BYTES, (size_t)count * KILN_SECTION_BYTES, data + 96);
    memcpy(bound, data, 64);
    memcpy(bound + 64, data + 96, 32);
    kiln_sha256_of(bound, sizeof bound, data + 64);
}

/* With right hashes a change may be harmless (another size of a cache), but never a crash. */
static void forged_tables_are_survived(void **state) {
    (void)state;
    uint64_t seed = 77;
    static const uint32_t wild[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8, 1 << 20};
    int refused = 0;
    print_message("forgeries: seed %llu\n", (unsigned long long)seed);
    emit("a.kiln", entry, ENTRIES);
    size_t n, tables;
    uint8_t *data = read_bytes("a.kiln", &n), *copy = malloc(n);
    uint32_t last = kiln_format_get32(data + 12) - 1;
    tables = kiln_format_get64(data + KILN_HEADER_BYTES + last * KILN_SECTION_BYTES + 8);
    for (uint64_t i = 0; i < 6000; i++) {
        memcpy(copy, data, n);
        size_t at = kiln_random64(seed, i) % (tables / 4) * 4;
        uint32_t v = wild[kiln_random64(seed, ~i) % 7];
        if (i % 3 == 0) v = kiln_format_get32(copy + at) + (uint32_t)(i % 7) - 3;
        kiln_format_put32(copy + at, v);
        forge(copy, n);
        refused += open_and_use(copy, n) != 0;
    }
    assert_true(refused > 1500);
    free(data);
    free(copy);
}

static void put16(uint8_t *p, int v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void versions_are_told_apart(void **state) {
    (void)state;
    emit("a.kiln", entry, ENTRIES);
    size_t n;
    uint8_t *data = read_bytes("a.kiln", &n);
    put16(data + 8, KILN_FORMAT_MAJOR + 1);
    assert_int_equal(open_and_use(data, n), KILN_VERSION);
    put16(data + 8, KILN_FORMAT_MAJOR);
    put16(data + 10, KILN_FORMAT_MINOR + 7); /* a newer minor loads */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), 0);
    data[16] = 1; /* a required feature */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), KILN_VERSION);
    data[16] = 0;
    data[24] = 1; /* an optional one */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), 0);
    free(data);
}

static uint8_t *find_entry(uint8_t *data, uint32_t type) {
    for (uint32_t i = 0; i < kiln_format_get32(data + 12); i++)
        if (kiln_format_get32(data + KILN_HEADER_BYTES + i * KILN_SECTION_BYTES) == type)
            return data + KILN_HEADER_BYTES + i * KILN_SECTION_BYTES;
    fail_msg("there is no section %u", type);
    return NULL;
}

static void unknown_sections(void **state) {
    (void)state;
    emit("a.kiln", entry, ENTRIES);
    size_t n;
    uint8_t *data = read_bytes("a.kiln", &n), *points = find_entry(data, KILN_SECTION_POINTS);
    kiln_format_put32(points, 999); /* optional: skipped */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), 0);
    kiln_format_put32(points + 4, KILN_SECTION_CRITICAL); /* critical: refused */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), KILN_VERSION);
    kiln_format_put32(points, KILN_SECTION_TEXT); /* twice the same */
    forge(data, n);
    assert_int_equal(open_and_use(data, n), KILN_CORRUPT);
    free(data);
}

static void strange_files(void **state) {
    (void)state;
    kiln_library *l;
    assert_int_equal(kiln_open_library("/no/such/file.kiln", NULL, &l), KILN_NOT_FOUND);
    assert_non_null(strstr(kiln_last_error(), "/no/such/file.kiln"));
    assert_int_equal(kiln_open_library("/tmp", NULL, &l), KILN_BAD_INPUT);
    assert_int_equal(kiln_open_library("/dev/zero", NULL, &l), KILN_BAD_INPUT);
    assert_int_equal(kiln_open_library("Makefile", NULL, &l), KILN_CORRUPT);
    assert_non_null(strstr(kiln_last_error(), "not a Kiln library"));
    assert_int_equal(kiln_open_library(NULL, NULL, &l), KILN_BAD_INPUT);
    kiln_close_library(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(blobs_say_where_they_run),
        cmocka_unit_test(equal_entries_give_equal_bytes),
        cmocka_unit_test(bad_entries_are_refused),
        cmocka_unit_test(a_folder_that_is_not_there),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(forged_tables_are_survived),
        cmocka_unit_test(versions_are_told_apart),
        cmocka_unit_test(unknown_sections),
        cmocka_unit_test(strange_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

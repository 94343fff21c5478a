/* Fuzzes the library reader: anything may come in, nothing but a status and a sentence comes out.
 * Half of the inputs get right hashes first, as a forger would give them, because a fuzzer will not
 * find SHA-256 by itself. */
#include "base/hash.h"
#include "runtime/format.h"
#include "runtime/kiln.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void hash_sections(uint8_t *data, size_t n, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *s = data + KILN_HEADER_BYTES + (size_t)i * KILN_SECTION_BYTES;
        uint64_t offset = kiln_format_get64(s + 8), bytes = kiln_format_get64(s + 16);
        if (offset <= n && bytes <= n - offset) kiln_sha256_of(data + offset, bytes, s + 32);
    }
}

static void forge(uint8_t *data, size_t n) {
    uint8_t bound[96];
    if (n < KILN_HEADER_BYTES) return;
    memcpy(data, KILN_MAGIC, 8);
    kiln_format_put32(data + 8, KILN_FORMAT_MAJOR);
    kiln_format_put64(data + 16, 0);
    kiln_format_put64(data + 32, n);
    uint32_t count = kiln_format_get32(data + 12) % (KILN_SECTIONS_MAX + 1);
    if (count > (n - KILN_HEADER_BYTES) / KILN_SECTION_BYTES) return;
    kiln_format_put32(data + 12, count);
    hash_sections(data, n, count);
    kiln_sha256_of(data + KILN_HEADER_BYTES, (size_t)count * KILN_SECTION_BYTES, data + 96);
    memcpy(bound, data, 64);
    memcpy(bound + 64, data + 96, 32);
    kiln_sha256_of(bound, sizeof bound, data + 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_library *l = NULL;
    char *json = NULL;
    if (!size) return 0;
    uint8_t *copy = malloc(size);
    if (!copy) return 0;
    memcpy(copy, data, size);
    if (data[size - 1] & 1) forge(copy, size);
    if (!kiln_open_memory(copy, size, NULL, &l)) {
        kiln_describe_library(l, &json);
        kiln_verify_library(l);
    }
    kiln_free_text(json);
    kiln_close_library(l);
    free(copy);
    return 0;
}

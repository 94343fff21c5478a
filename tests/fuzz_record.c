/* Fuzzes the record parser: whatever parses must pass its own check, print, and read back equal. */
#include "results/record.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Half of the inputs are put into a whole record, because a fuzzer takes long to find the required
 * fields by itself. */
static void wrap(const uint8_t *data, size_t size, kiln_text *line) {
    if (size && data[0] == '{') {
        kiln_text_add_bytes(line, data, size);
        return;
    }
    kiln_text_add(line, "{\"version\":1,\"problem\":\"p\",\"schedule\":\"s\",\"device\":\"d\","
                        "\"protocol\":\"cold/1\",\"phase\":\"final\",\"outcome\":\"ok\",");
    kiln_text_add_bytes(line, data, size);
    kiln_text_add(line, "}");
}

static void round_trip(const kiln_record *r) {
    kiln_text text = {0}, again = {0};
    kiln_arena arena = {0};
    kiln_record back;
    if (kiln_record_check(r, NULL)) abort();
    kiln_record_print(r, &text);
    if (!text.failed && text.size <= KILN_RECORD_LINE_MAX) {
        if (kiln_record_parse(&back, text.data, text.size, &arena, NULL)) abort();
        kiln_record_print(&back, &again);
        if (!again.failed && strcmp(text.data, again.data)) abort();
    }
    kiln_text_free(&text);
    kiln_text_free(&again);
    kiln_arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kiln_text line = {0};
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_record r;
    wrap(data, size, &line);
    int status = kiln_record_parse(&r, kiln_text_get(&line), line.size, &arena, &e);
    if (status && (e.status != status || !e.text[0])) abort(); /* no failure without a sentence */
    if (!status) round_trip(&r);
    kiln_text_free(&line);
    kiln_arena_free(&arena);
    return 0;
}

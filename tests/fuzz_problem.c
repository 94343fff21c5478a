/* Fuzzes problem and schedule texts: what is read must print, read back as the same bytes, resize,
 * evaluate and emit; what is refused must come with a sentence. */
#include "kernels/family.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds) abort();
}

static void read_back(const kiln_problem *p) {
    kiln_text text = {0}, again = {0};
    kiln_problem q;
    kiln_error e = {0};
    kiln_problem_print(p, &text);
    must(!kiln_problem_parse(&q, kiln_text_get(&text), &e));
    must(!memcmp(p, &q, sizeof q));
    kiln_problem_print(&q, &again);
    must(!strcmp(kiln_text_get(&text), kiln_text_get(&again)));
    kiln_text_clear(&text);
    kiln_problem_print_kernel_key(p, &text);
    must(text.size > 0);
    kiln_text_free(&text);
    kiln_text_free(&again);
}

static void name_operand(void *context, int i, kiln_text *out) {
    kiln_text_printf(out, "x_%s", ((kiln_problem *)context)->operand[i].name);
}

static void emit(kiln_problem *p) {
    kiln_text text = {0};
    for (int phase = 0; phase < p->body.n_phases; phase++) {
        kiln_emit_part part = {phase, true, true, "  ", name_operand, p};
        bool read[KILN_OPERANDS_MAX] = {false};
        kiln_body_reads(&p->body, &part, read, KILN_OPERANDS_MAX);
        for (int i = p->n_operands; i < KILN_OPERANDS_MAX; i++) must(!read[i]);
        kiln_body_emit(&p->body, &part, &text);
        kiln_body_emit_bounded(&p->body, &part, &text);
    }
    must(kiln_body_flops(&p->body) >= 0);
    kiln_text_free(&text);
}

static void evaluate(const kiln_problem *p) {
    enum { COLS = 3 };
    const double values[COLS] = {-1.5, 0, 2};
    const kiln_bounded result[COLS] = {{1, 1e-7}, {-2, 0}, {0, 1e-3}};
    const double *in[KILN_OPERANDS_MAX];
    kiln_bounded out[COLS], *to[KILN_STATEMENTS_MAX];
    kiln_error e = {0};
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) in[i] = values;
    for (int i = 0; i < KILN_STATEMENTS_MAX; i++) to[i] = out;
    must(!kiln_body_eval(&p->body, in, result, COLS, 0x1p-24, to, &e));
}

static void resize(const kiln_problem *p) {
    kiln_problem q = *p;
    kiln_error e = {0};
    const char *sizes = kiln_family_find("matmul") == p->family ? "m=1 n=17 k=3" : "rows=3 cols=1";
    if (!kiln_problem_resize(&q, sizes, &e))
        read_back(&q);
    else
        must(*e.text);
}

static void schedules(const char *text) {
    for (const kiln_family *const *f = kiln_families; *f; f++) {
        kiln_schedule s, again;
        kiln_error e = {0};
        kiln_text out = {0};
        if (kiln_schedule_parse(*f, &s, text, &e)) {
            must(*e.text);
            continue;
        }
        kiln_schedule_print(&s, &out);
        must(!kiln_schedule_parse(*f, &again, kiln_text_get(&out), &e));
        must(!memcmp(&s, &again, sizeof s));
        kiln_text_free(&out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    kiln_problem p;
    kiln_error e = {0};
    if (kiln_problem_parse(&p, text, &e)) {
        must(*e.text && e.status < 0);
    } else {
        read_back(&p);
        emit(&p);
        evaluate(&p);
        resize(&p);
    }
    schedules(text);
    free(text);
    return 0;
}

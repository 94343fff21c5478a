/* Problems of the public API: a parsed value with what finding its plan needs. */
#include "runtime/context.h"

#include "base/hash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int count_keys(const kiln_problem *p) {
    int n = 0;
    while (p->family->keys[n].name) n++;
    return n;
}

static void hash_sizes(problem *p) {
    p->hash = kiln_random64(p->key_hash, kiln_hash64(p->value.value, (size_t)p->n_keys * 8));
    p->printed = false;
}

int kiln_make_problem(const char *text, kiln_problem **out) {
    kiln_error *e = kiln_status_last();
    if (!text || !out)
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_make_problem: an argument is NULL");
    *out = NULL;
    problem *p = calloc(1, sizeof *p);
    if (!p) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a problem");
    int status = kiln_problem_parse(&p->value, text, e);
    if (status) {
        free(p);
        return status;
    }
    kiln_problem_print_kernel_key(&p->value, &p->key);
    p->n_keys = count_keys(&p->value);
    p->key_hash = kiln_format_hash(kiln_text_get(&p->key), 0);
    hash_sizes(p);
    *out = &p->value;
    if (!p->key.failed) return 0;
    kiln_free_problem(*out);
    *out = NULL;
    return kiln_fail(e, KILN_NO_MEMORY, "no memory for a problem");
}

void kiln_free_problem(kiln_problem *public) {
    problem *p = (problem *)public;
    if (!p) return;
    kiln_text_free(&p->key);
    kiln_text_free(&p->text);
    free(p);
}

static int find_size(const kiln_problem *p, const char *name, kiln_error *e) {
    for (int i = 0; p->family->keys[i].name; i++) {
        const kiln_key *k = &p->family->keys[i];
        if (!name || strcmp(k->name, name)) continue;
        if (k->kind == KILN_KEY_SIZE && !k->compiled) return i;
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s is part of what kernels are compiled for; make another problem",
                         k->name);
    }
    return kiln_fail(e, KILN_BAD_INPUT, "%s has no size %s", p->family->name, name ? name : "NULL");
}

static int set_size(problem *p, const char *name, int64_t value, kiln_error *e) {
    int i = find_size(&p->value, name, e);
    if (i < 0) return i;
    const kiln_key *k = &p->value.family->keys[i];
    if (value < k->min || value > k->max)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s=%" PRId64 " is out of range: %" PRId64 " to %" PRId64, name, value,
                         k->min, k->max);
    p->value.value[i] = value;
    return 0;
}

int kiln_resize_problem(kiln_problem *public, const char *const *names, const int64_t *values,
                        int n) {
    kiln_error *e = kiln_status_last();
    problem *p = (problem *)public;
    if (!p || (n && (!names || !values)) || n < 0)
        return kiln_fail(e, KILN_BAD_INPUT, "kiln_resize_problem: an argument is NULL or negative");
    int64_t before[KILN_KEYS_MAX];
    memcpy(before, p->value.value, sizeof before);
    int status = 0;
    for (int i = 0; i < n && !status; i++) status = set_size(p, names[i], values[i], e);
    if (!status) status = p->value.family->shape(&p->value, e);
    if (status) {
        memcpy(p->value.value, before, sizeof before);
        kiln_error ignored;
        p->value.family->shape(&p->value, &ignored); /* it was right before */
    }
    hash_sizes(p);
    return status;
}

const char *kiln_print_problem(kiln_problem *public) {
    problem *p = (problem *)public;
    if (!p) return "";
    if (!p->printed) {
        kiln_text_clear(&p->text);
        kiln_problem_print(&p->value, &p->text);
        p->printed = true;
    }
    return kiln_text_get(&p->text);
}

int kiln_count_operands(const kiln_problem *p) { return p ? p->n_operands : 0; }

int kiln_get_operand(const kiln_problem *p, int index, kiln_operand_info *out) {
    if (!p || index < 0 || index >= p->n_operands)
        return kiln_fail(kiln_status_last(), KILN_BAD_INPUT, "there is no operand %d; it has %d",
                         index, kiln_count_operands(p));
    const kiln_operand *o = &p->operand[index];
    kiln_operand_info info = {.name = o->name,
                              .type = kiln_type_name(o->type),
                              .output = o->output,
                              .scalar = o->scalar,
                              .batch = o->batch,
                              .rows = o->rows,
                              .cols = o->cols,
                              .ld = o->ld,
                              .batch_stride = o->batch_stride,
                              .bytes = o->scalar ? 0 : kiln_operand_bytes(o)};
    return kiln_status_fill(out, &info, sizeof info);
}

#include "kernels/schedule.h"
#include "kernels/family.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static int find_knob(const kiln_variant *v, const char *name, size_t n) {
    for (int i = 0; v->knobs[i].name; i++)
        if (strlen(v->knobs[i].name) == n && !memcmp(v->knobs[i].name, name, n)) return i;
    return -1;
}

static int must_find(const kiln_variant *v, const char *name) {
    int i = find_knob(v, name, strlen(name));
    assert(i >= 0 && "the variant has this knob");
    return i;
}

int kiln_schedule_get(const kiln_schedule *s, const char *knob) {
    return s->value[must_find(s->variant, knob)];
}

void kiln_schedule_set(kiln_schedule *s, const char *knob, int value) {
    s->value[must_find(s->variant, knob)] = value;
}

void kiln_schedule_print(const kiln_schedule *s, kiln_text *out) {
    kiln_text_add(out, s->variant->name);
    for (int i = 0; s->variant->knobs[i].name; i++)
        kiln_text_printf(out, " %s=%d", s->variant->knobs[i].name, s->value[i]);
}

/* ---- parsing */

static int fail_variant(const kiln_family *f, const char *name, size_t n, kiln_error *e) {
    kiln_text known = {0};
    for (const kiln_variant *const *v = f->variants; *v; v++)
        kiln_text_printf(&known, "%s%s", v == f->variants ? "" : ", ", (*v)->name);
    kiln_fail(e, KILN_BAD_INPUT, "schedule: %s has no variant '%.*s' (it has %s)", f->name,
              n > 40 ? 40 : (int)n, name, kiln_text_get(&known));
    kiln_text_free(&known);
    return KILN_BAD_INPUT;
}

static int fail_knob(const kiln_variant *v, const char *name, size_t n, kiln_error *e) {
    kiln_text known = {0};
    for (int i = 0; v->knobs[i].name; i++)
        kiln_text_printf(&known, "%s%s", i ? ", " : "", v->knobs[i].name);
    kiln_fail(e, KILN_BAD_INPUT, "schedule: variant %s has no knob '%.*s' (it has %s)", v->name,
              n > 40 ? 40 : (int)n, name, kiln_text_get(&known));
    kiln_text_free(&known);
    return KILN_BAD_INPUT;
}

static const char *skip_spaces(const char *at) { return at + strspn(at, " \t\r\n"); }

/* One "knob=value" at *at; `seen` has a bit per knob. */
static int parse_knob(kiln_schedule *s, const char **at, uint32_t *seen, kiln_error *e) {
    size_t n = strcspn(*at, "= \t\r\n");
    int i = find_knob(s->variant, *at, n);
    if (i < 0) return fail_knob(s->variant, *at, n, e);
    const char *name = s->variant->knobs[i].name, *value = *at + n + 1;
    if ((*at)[n] != '=')
        return kiln_fail(e, KILN_BAD_INPUT, "schedule: knob %s lacks a value; write %s=NUMBER",
                         name, name);
    if (*seen >> i & 1)
        return kiln_fail(e, KILN_BAD_INPUT, "schedule: knob %s is given twice; keep one", name);
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    bool starts = (*value >= '0' && *value <= '9') || *value == '-';
    if (!starts || end == value || errno || number < INT_MIN || number > INT_MAX ||
        (*end && !strchr(" \t\r\n", *end)))
        return kiln_fail(e, KILN_BAD_INPUT,
                         "schedule: '%.*s' is no value of knob %s; write an "
                         "integer",
                         (int)(strcspn(value, " \t\r\n") % 40), value, name);
    *seen |= UINT32_C(1) << i;
    s->value[i] = (int)number;
    *at = skip_spaces(end);
    return 0;
}

int kiln_schedule_parse(const kiln_family *f, kiln_schedule *s, const char *text, kiln_error *e) {
    const char *at = skip_spaces(text);
    size_t n = strcspn(at, " \t\r\n");
    const kiln_variant *variant = NULL;
    for (const kiln_variant *const *v = f->variants; *v; v++)
        if (strlen((*v)->name) == n && !memcmp((*v)->name, at, n)) variant = *v;
    if (!variant) return fail_variant(f, at, n, e);
    *s = kiln_variant_default(variant); /* knobs not named keep their default */
    uint32_t seen = 0;
    for (at = skip_spaces(at + n); *at;) {
        int status = parse_knob(s, &at, &seen, e);
        if (status) return status;
    }
    return 0;
}

/* ---- spaces */

void kiln_space_add(kiln_space *space, const char *knob, int n, const int values[]) {
    kiln_knob_values *k = &space->knob[must_find(space->variant, knob)];
    for (int i = 0; i < n; i++) {
        bool known = false;
        for (int j = 0; j < k->n; j++) known |= k->value[j] == values[i];
        if (known) continue;
        assert(k->n < KILN_KNOB_VALUES_MAX);
        k->value[k->n++] = values[i];
    }
}

int64_t kiln_space_size(const kiln_space *space) {
    int64_t size = 1;
    for (int i = 0; space->variant->knobs[i].name; i++)
        if (space->knob[i].n && __builtin_mul_overflow(size, space->knob[i].n, &size))
            return INT64_MAX;
    return size;
}

kiln_schedule kiln_space_at(const kiln_space *space, int64_t index) {
    kiln_schedule s = kiln_variant_default(space->variant);
    int n = 0;
    while (space->variant->knobs[n].name) n++;
    for (int i = n - 1; i >= 0; i--) {
        const kiln_knob_values *k = &space->knob[i];
        if (!k->n) continue;
        s.value[i] = k->value[index % k->n];
        index /= k->n;
    }
    return s;
}

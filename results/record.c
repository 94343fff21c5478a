#include "results/record.h"

#include <float.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- outcomes */

static const char *const outcome_name[] = {
#define X(name, text) text,
    KILN_OUTCOMES(X)
#undef X
};

const char *kiln_outcome_name(kiln_outcome o) {
    return (unsigned)o < KILN_OUTCOME_COUNT ? outcome_name[o] : "unknown";
}

kiln_outcome kiln_outcome_parse(const char *text) {
    int i = 0;
    while (i < KILN_OUTCOME_COUNT && strcmp(outcome_name[i], text)) i++;
    return (kiln_outcome)i;
}

/* ---- the fields: one table prints, parses and checks */

typedef enum field_kind { TEXT, REQUIRED, OUTCOME, SECONDS, REAL, BYTES, INT, SEED } field_kind;

typedef struct field {
    const char *name;
    field_kind kind;
    size_t offset;
    int fallback; /* what an absent INT means */
} field;

#define F(kind, name)                                                                              \
    { #name, kind, offsetof(kiln_record, name), 0 }
#define UNKNOWN(name)                                                                              \
    { #name, INT, offsetof(kiln_record, name), -1 }
static const field fields[] = {
    F(REQUIRED, problem),
    F(REQUIRED, schedule),
    F(REQUIRED, device),
    F(TEXT, source),
    F(REQUIRED, protocol),
    F(REQUIRED, phase),
    F(OUTCOME, outcome),
    F(TEXT, detail),
    F(SECONDS, median),
    F(SECONDS, p05),
    F(SECONDS, p95),
    F(REAL, error),
    F(REAL, error_bound),
    F(BYTES, workspace_bytes),
    UNKNOWN(registers),
    UNKNOWN(local_bytes),
    UNKNOWN(shared_bytes),
    UNKNOWN(blocks_per_unit),
    UNKNOWN(clock_mhz),
    UNKNOWN(temperature_c),
    UNKNOWN(power_w),
    F(TEXT, throttle),
    F(SECONDS, compile_seconds),
    F(SECONDS, verify_seconds),
    F(SECONDS, time_seconds),
    F(SEED, seed),
    F(TEXT, date),
    F(TEXT, session),
    F(TEXT, vendor),
    F(SECONDS, vendor_ratio),
    F(SECONDS, vendor_ratio_low),
    F(SECONDS, vendor_ratio_high),
};
enum { N_FIELDS = sizeof fields / sizeof fields[0] };

/* The place of a field in a record; constness is the caller's matter. */
#define AT(type, r, f) (*(type *)((char *)(uintptr_t)(r) + (f)->offset))

/* ---- blank records */

static void set_default(const field *f, kiln_record *r) {
    if (f->kind == TEXT || f->kind == REQUIRED) AT(const char *, r, f) = "";
    if (f->kind == INT) AT(int, r, f) = f->fallback;
}

const char *kiln_record_protocol(bool hot) { return hot ? "hot/2" : "cold/2"; }

kiln_record kiln_record_blank(void) {
    kiln_record r = {0};
    for (const field *f = fields; f < fields + N_FIELDS; f++) {
        set_default(f, &r);
        if (f->kind == REQUIRED) AT(const char *, &r, f) = "-";
    }
    return r;
}

/* ---- printing */

/* Length of the UTF-8 sequence at s, 0 when malformed (overlong, surrogate, truncated). */
static int utf8_length(const unsigned char *s) {
    if (s[0] < 0x80) return 1;
    int n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (s[0] >= 0xf5) return 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    return overlong || outside ? 0 : n;
}

static void print_string(kiln_text *out, const char *text) {
    kiln_text_add(out, "\"");
    for (const unsigned char *s = (const unsigned char *)(text ? text : ""); *s;) {
        int n = utf8_length(s);
        if (*s == '"' || *s == '\\')
            kiln_text_printf(out, "\\%c", *s);
        else if (*s < 0x20)
            kiln_text_printf(out, "\\u%04x", *s);
        else if (n)
            kiln_text_add_bytes(out, s, (size_t)n);
        else
            kiln_text_add(out, "\\ufffd");
        s += n ? n : 1;
    }
    kiln_text_add(out, "\"");
}

/* The shortest of 15 to 17 digits that reads back equal. */
static void print_number(kiln_text *out, double x) {
    char text[40];
    if (!isfinite(x)) x = x < 0 ? -DBL_MAX : DBL_MAX;
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    kiln_text_add(out, text);
}

static bool is_default(const field *f, const kiln_record *r) {
    switch (f->kind) {
    case TEXT:
        return !AT(const char *, r, f) || !*AT(const char *, r, f);
    case SECONDS:
    case REAL:
        return AT(double, r, f) == 0;
    case BYTES:
        return AT(int64_t, r, f) == 0;
    case INT:
        return AT(int, r, f) == f->fallback;
    case SEED:
        return AT(uint64_t, r, f) == 0;
    case REQUIRED:
    case OUTCOME:
        break;
    }
    return false;
}

static void print_field(const field *f, const kiln_record *r, kiln_text *out) {
    kiln_text_printf(out, ",\"%s\":", f->name);
    switch (f->kind) {
    case TEXT:
    case REQUIRED:
        print_string(out, AT(const char *, r, f));
        break;
    case OUTCOME:
        print_string(out, kiln_outcome_name(r->outcome));
        break;
    case SECONDS:
    case REAL:
        print_number(out, AT(double, r, f));
        break;
    case BYTES:
        kiln_text_printf(out, "%" PRId64, AT(int64_t, r, f));
        break;
    case INT:
        kiln_text_printf(out, "%d", AT(int, r, f));
        break;
    /* a text, because many readers of JSON hold numbers as doubles and would round 64 bits */
    case SEED:
        kiln_text_printf(out, "\"%" PRIu64 "\"", AT(uint64_t, r, f));
        break;
    }
}

void kiln_record_print(const kiln_record *r, kiln_text *out) {
    kiln_text_printf(out, "{\"version\":%d", KILN_RECORD_VERSION);
    for (const field *f = fields; f < fields + N_FIELDS; f++)
        if (!is_default(f, r)) print_field(f, r, out);
    if (r->n_samples > 0) {
        kiln_text_add(out, ",\"samples\":[");
        for (int i = 0; i < r->n_samples; i++) {
            if (i) kiln_text_add(out, ",");
            print_number(out, r->samples[i]);
        }
        kiln_text_add(out, "]");
    }
    kiln_text_add(out, "}");
}

/* ---- checking */

static int check_field(const field *f, const kiln_record *r, kiln_error *e) {
    const char *text = f->kind == REQUIRED ? AT(const char *, r, f) : "x";
    if (!text || !*text)
        return kiln_fail(e, KILN_BAD_INPUT, "field \"%s\" is missing: every record names it",
                         f->name);
    if (f->kind == SECONDS && !(AT(double, r, f) >= 0 && AT(double, r, f) <= DBL_MAX))
        return kiln_fail(e, KILN_BAD_INPUT, "field \"%s\" must be a finite number of 0 or more",
                         f->name);
    if (f->kind == BYTES && AT(int64_t, r, f) < 0)
        return kiln_fail(e, KILN_BAD_INPUT, "field \"%s\" must be 0 or more", f->name);
    return 0;
}

static int check_samples(const kiln_record *r, kiln_error *e) {
    if (r->n_samples < 0 || r->n_samples > KILN_SAMPLES_MAX)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "field \"samples\" has %d elements: 0 to %d are allowed", r->n_samples,
                         KILN_SAMPLES_MAX);
    for (int i = 0; i < r->n_samples; i++)
        if (!(r->samples[i] >= 0 && r->samples[i] <= DBL_MAX))
            return kiln_fail(e, KILN_BAD_INPUT,
                             "field \"samples\": element %d must be a finite number of 0 or more",
                             i);
    return 0;
}

int kiln_record_check(const kiln_record *r, kiln_error *e) {
    int status = 0;
    for (const field *f = fields; !status && f < fields + N_FIELDS; f++)
        status = check_field(f, r, e);
    if (!status) status = check_samples(r, e);
    if (status) return status;
    if ((unsigned)r->outcome >= KILN_OUTCOME_COUNT)
        return kiln_fail(e, KILN_BAD_INPUT, "field \"outcome\" is not one of the known outcomes");
    if (r->p05 > r->median || r->median > r->p95)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "fields \"p05\", \"median\" and \"p95\" must not decrease in this order");
    if (r->vendor_ratio_low > r->vendor_ratio_high)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "field \"vendor_ratio_low\" must not exceed \"vendor_ratio_high\"");
    return 0;
}

/* ---- parsing */

static int wrong_type(const field *f, const char *want, kiln_error *e) {
    return kiln_fail(e, KILN_BAD_INPUT, "field \"%s\" must be %s", f->name, want);
}

static int parse_integer(const field *f, const json_t *v, int64_t min, int64_t max, int64_t *out,
                         kiln_error *e) {
    if (!json_is_integer(v)) return wrong_type(f, "an integer", e);
    *out = json_integer_value(v);
    if (*out >= min && *out <= max) return 0;
    return kiln_fail(e, KILN_BAD_INPUT,
                     "field \"%s\" is %" PRId64 ": it must lie in %" PRId64 "..%" PRId64, f->name,
                     *out, min, max);
}

static int parse_seed(const field *f, const json_t *v, uint64_t *out, kiln_error *e) {
    const char *text = json_string_value(v), *p = text;
    *out = 0;
    for (; p && *p >= '0' && *p <= '9'; p++) {
        unsigned digit = (unsigned)(*p - '0');
        if (*out > (UINT64_MAX - digit) / 10) break;
        *out = *out * 10 + digit;
    }
    if (!p || *p || p == text) return wrong_type(f, "a text of decimal digits below 2^64", e);
    return 0;
}

static int parse_text(const field *f, const json_t *v, kiln_arena *arena, const char **out,
                      kiln_error *e) {
    if (!json_is_string(v)) return wrong_type(f, "a text", e);
    *out = json_string_length(v) ? kiln_arena_strdup(arena, json_string_value(v)) : "";
    return *out ? 0 : kiln_fail(e, KILN_NO_MEMORY, "out of memory reading field \"%s\"", f->name);
}

static int parse_outcome(const field *f, const json_t *v, kiln_outcome *out, kiln_error *e) {
    if (!json_is_string(v)) return wrong_type(f, "a text", e);
    *out = kiln_outcome_parse(json_string_value(v));
    if (*out != KILN_OUTCOME_COUNT) return 0;
    return kiln_fail(e, KILN_BAD_INPUT,
                     "field \"%s\": \"%.40s\" is not an outcome (ok, wrong, ...)", f->name,
                     json_string_value(v));
}

static int parse_field(const field *f, const json_t *v, kiln_record *r, kiln_arena *arena,
                       kiln_error *e) {
    int64_t i = 0;
    int status = 0;
    switch (f->kind) {
    case TEXT:
    case REQUIRED:
        return parse_text(f, v, arena, &AT(const char *, r, f), e);
    case OUTCOME:
        return parse_outcome(f, v, &r->outcome, e);
    case SECONDS:
    case REAL:
        if (!json_is_number(v)) return wrong_type(f, "a number", e);
        AT(double, r, f) = json_number_value(v);
        return 0;
    case BYTES:
        return parse_integer(f, v, 0, INT64_MAX, &AT(int64_t, r, f), e);
    case INT:
        status = parse_integer(f, v, INT_MIN, INT_MAX, &i, e);
        AT(int, r, f) = (int)i;
        return status;
    case SEED:
        return parse_seed(f, v, &AT(uint64_t, r, f), e);
    }
    return 0;
}

static int parse_samples(const json_t *v, kiln_record *r, kiln_arena *arena, kiln_error *e) {
    if (!v) return 0;
    size_t n = json_array_size(v);
    if (!json_is_array(v) || n > KILN_SAMPLES_MAX)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "field \"samples\" must be a list of at most %d numbers",
                         KILN_SAMPLES_MAX);
    double *samples = kiln_arena_alloc(arena, n * sizeof *samples);
    if (!samples) return kiln_fail(e, KILN_NO_MEMORY, "out of memory reading field \"samples\"");
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_number(x))
            return kiln_fail(e, KILN_BAD_INPUT, "field \"samples\": element %zu is not a number",
                             i);
        samples[i] = json_number_value(x);
    }
    r->samples = samples;
    r->n_samples = (int)n;
    return 0;
}

static int parse_version(const json_t *root, kiln_error *e) {
    const json_t *v = json_object_get(root, "version");
    if (!json_is_integer(v) || json_integer_value(v) < 1)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "field \"version\" must be an integer of 1 or more: is this a record?");
    if (json_integer_value(v) <= KILN_RECORD_VERSION) return 0;
    return kiln_fail(e, KILN_VERSION,
                     "the record has version %" JSON_INTEGER_FORMAT
                     " and this Kiln reads up to %d: use a newer Kiln",
                     json_integer_value(v), KILN_RECORD_VERSION);
}

static int parse_object(const json_t *root, kiln_record *r, kiln_arena *arena, kiln_error *e) {
    int status = parse_version(root, e);
    for (const field *f = fields; !status && f < fields + N_FIELDS; f++) {
        const json_t *v = json_object_get(root, f->name);
        set_default(f, r);
        if (v)
            status = parse_field(f, v, r, arena, e);
        else if (f->kind == OUTCOME)
            status = kiln_fail(e, KILN_BAD_INPUT, "field \"%s\" is missing", f->name);
    }
    if (!status) status = parse_samples(json_object_get(root, "samples"), r, arena, e);
    return status ? status : kiln_record_check(r, e);
}

int kiln_record_parse(kiln_record *r, const char *line, size_t n, kiln_arena *arena,
                      kiln_error *e) {
    *r = (kiln_record){0};
    if (n > KILN_RECORD_LINE_MAX)
        return kiln_fail(e, KILN_BAD_INPUT, "the line is longer than %d bytes: it is no record",
                         KILN_RECORD_LINE_MAX);
    json_error_t why;
    json_t *root = json_loadb(line, n, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        return kiln_fail(e, KILN_BAD_INPUT, "not valid JSON at byte %d: %s", why.position,
                         why.text);
    int status = json_is_object(root)
                     ? parse_object(root, r, arena, e)
                     : kiln_fail(e, KILN_BAD_INPUT, "the line is not a JSON object");
    json_decref(root);
    return status;
}

/* ---- summary */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(const double *sorted, int n, double q) {
    double at = q * (n - 1);
    int below = (int)at;
    if (below + 1 >= n) return sorted[n - 1];
    return sorted[below] + (at - below) * (sorted[below + 1] - sorted[below]);
}

void kiln_record_summarise(kiln_record *r) {
    r->median = r->p05 = r->p95 = 0;
    double *sorted = r->n_samples > 0 ? malloc((size_t)r->n_samples * sizeof *sorted) : NULL;
    if (!sorted) return;
    memcpy(sorted, r->samples, (size_t)r->n_samples * sizeof *sorted);
    qsort(sorted, (size_t)r->n_samples, sizeof *sorted, by_value);
    r->median = quantile(sorted, r->n_samples, 0.5);
    r->p05 = quantile(sorted, r->n_samples, 0.05);
    r->p95 = quantile(sorted, r->n_samples, 0.95);
    free(sorted);
}

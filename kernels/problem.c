/* Reading goes: words -> family and its keys -> declarations -> statements (which find and create
 * operands through `resolve`) -> the family's shapes -> the canonical text, whose length is bounded
 * so that everything that was read can be printed and read again. */
#include "kernels/problem.h"
#include "kernels/family.h"
#include "kernels/preset.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 4096, WORDS_MAX = KILN_KEYS_MAX + KILN_OPERANDS_MAX + 1 };
static const char spaces[] = " \t\r\n";

/* One "name=value" of the text. */
typedef struct word {
    char name[KILN_NAME_MAX];
    char value[24];
    bool used, scalar;
    kiln_type type;
} word;

typedef struct reader {
    kiln_problem *p;
    kiln_error *e;
    const char *family_word; /* as written, for messages */
    int n_words, n_from_keys;
    word words[WORDS_MAX];
    bool read[KILN_OPERANDS_MAX], assigned[KILN_OPERANDS_MAX]; /* so axes are known, too */
} reader;

/* ---- small helpers */

static int find_key(const kiln_family *f, const char *name) {
    for (int i = 0; f->keys[i].name; i++)
        if (!strcmp(f->keys[i].name, name)) return i;
    return -1;
}

static int count_axes(const kiln_family *f) {
    int n = 0;
    while (f->axis[n]) n++;
    return n;
}

static uint8_t all_axes(const kiln_family *f) { return (uint8_t)((1u << count_axes(f)) - 1); }
static uint8_t last_axis(const kiln_family *f) { return (uint8_t)(1u << (count_axes(f) - 1)); }

int kiln_problem_operand(const kiln_problem *p, const char *name) {
    for (int i = 0; i < p->n_operands; i++)
        if (!strcmp(p->operand[i].name, name)) return i;
    return -1;
}

/* In families that compute something first, an operand that only statements name has the type of
 * `out`; elsewhere there is no default. */
static kiln_type default_type(const kiln_problem *p) {
    int out = kiln_problem_operand(p, "out");
    return p->family->result && out >= 0 ? p->operand[out].type : KILN_NONE;
}

/* Operands that a key of their own declares (a, b, out) are printed with the keys. */
static bool has_key(const kiln_problem *p, const char *name) {
    int key = find_key(p->family, name);
    return key >= 0 && p->family->keys[key].kind == KILN_KEY_TYPE;
}

static bool printed_bare(const kiln_problem *p, const kiln_operand *o) {
    return o->scalar || has_key(p, o->name) ||
           (!p->family->result && o->axes == all_axes(p->family));
}

int64_t kiln_operand_elements(const kiln_operand *o) {
    if (o->scalar || o->batch < 1 || o->rows < 1 || o->cols < 1) return 0;
    return (o->batch - 1) * o->batch_stride + (o->rows - 1) * o->ld + o->cols;
}

int64_t kiln_operand_bytes(const kiln_operand *o) {
    return kiln_operand_elements(o) * (int64_t)kiln_type_bytes(o->type);
}

int64_t kiln_problem_get(const kiln_problem *p, const char *key) {
    int i = find_key(p->family, key);
    assert(i >= 0 && "the family has this key");
    return p->value[i];
}

/* ---- printing */

static void print_operand(void *context, int operand, kiln_text *out) {
    const kiln_problem *p = context;
    const kiln_operand *o = &p->operand[operand];
    kiln_text_add(out, o->name);
    if (printed_bare(p, o)) return;
    const char *before = "[";
    for (int i = 0; p->family->axis[i]; i++) {
        if (!(o->axes >> i & 1)) continue;
        kiln_text_printf(out, "%s%s", before, p->family->axis[i]);
        before = ",";
    }
    kiln_text_add(out, "]");
}

static void print_statements(const kiln_problem *p, kiln_text *out) {
    kiln_text body = {0};
    kiln_problem copy = *p; /* the callback's context is not const */
    kiln_names names = {print_operand, &copy, p->family->result};
    kiln_body_print(&p->body, &names, &body);
    const char *text = kiln_text_get(&body), *fallback = p->family->statements;
    if (!fallback || strcmp(text, fallback)) kiln_text_printf(out, " : %s", text);
    out->failed |= body.failed;
    kiln_text_free(&body);
}

static void print_key(const kiln_problem *p, int i, kiln_text *out) {
    const kiln_key *k = &p->family->keys[i];
    bool is_default = k->fallback != KILN_REQUIRED && p->value[i] == k->fallback;
    if (is_default && !(k->kind == KILN_KEY_TYPE && k->fallback == KILN_NONE)) return;
    if (k->kind == KILN_KEY_TYPE)
        kiln_text_printf(out, " %s=%s", k->name, kiln_type_name((kiln_type)p->value[i]));
    else
        kiln_text_printf(out, " %s=%lld", k->name, (long long)p->value[i]);
}

static void print_declarations(const kiln_problem *p, kiln_text *out) {
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (has_key(p, o->name)) continue;
        if (o->scalar)
            kiln_text_printf(out, " %s=scalar", o->name);
        else if (o->type != default_type(p))
            kiln_text_printf(out, " %s=%s", o->name, kiln_type_name(o->type));
    }
}

static void print(const kiln_problem *p, bool sizes, kiln_text *out) {
    kiln_text_add(out, p->family->name);
    for (int i = 0; p->family->keys[i].name; i++)
        if (sizes || p->family->keys[i].compiled) print_key(p, i, out);
    print_declarations(p, out);
    print_statements(p, out);
}

void kiln_problem_print(const kiln_problem *p, kiln_text *out) { print(p, true, out); }
void kiln_problem_print_kernel_key(const kiln_problem *p, kiln_text *out) { print(p, false, out); }

/* ---- words */

static const char *skip_spaces(const char *at) { return at + strspn(at, spaces); }

static int quoted(size_t n) { return n > 40 ? 40 : (int)n; }

/* Messages repeat what the user wrote, but only what a terminal can show. */
static const char *shown(const char *at, size_t n, char out[44]) {
    n = (size_t)quoted(n);
    for (size_t i = 0; i < n; i++) out[i] = isprint((unsigned char)at[i]) ? at[i] : '?';
    out[n] = 0;
    return out;
}

static bool is_name(const char *at, size_t n) {
    if (!n || n >= KILN_NAME_MAX || isdigit((unsigned char)*at)) return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)at[i]) && at[i] != '_') return false;
    return true;
}

static word *find_word(reader *r, const char *name) {
    for (int i = 0; i < r->n_words; i++)
        if (!strcmp(r->words[i].name, name)) return &r->words[i];
    return NULL;
}

/* A word that is there already stays: the user's declaration wins over the preset's. */
static int add_word(reader *r, const char *name, size_t n, const char *value, size_t m) {
    char text[44];
    if (r->n_words == WORDS_MAX)
        return kiln_fail(r->e, KILN_BAD_INPUT, "problem: more than %d keys", WORDS_MAX);
    bool plain = m && m < sizeof r->words[0].value;
    for (size_t i = 0; plain && i < m; i++) plain = isgraph((unsigned char)value[i]);
    if (!plain)
        return kiln_fail(r->e, KILN_BAD_INPUT, "problem: '%s' is no value for %.*s",
                         shown(value, m, text), (int)n, name);
    word *w = &r->words[r->n_words++];
    memset(w, 0, sizeof *w);
    memcpy(w->name, name, n);
    memcpy(w->value, value, m);
    return 0;
}

static int read_words(reader *r, const char *at, const char *end) {
    char text[44];
    while ((at = skip_spaces(at)) < end) {
        size_t length = strcspn(at, " \t\r\n:"), n = strcspn(at, " \t\r\n:=");
        if (at[n] != '=')
            return kiln_fail(r->e, KILN_BAD_INPUT,
                             "problem: '%s' is no key=value; statements "
                             "follow a colon",
                             shown(at, length, text));
        if (!is_name(at, n))
            return kiln_fail(r->e, KILN_BAD_INPUT,
                             "problem: '%s' is no name; use letters, digits "
                             "and _, at most %d",
                             shown(at, n, text), KILN_NAME_MAX - 1);
        char name[KILN_NAME_MAX] = "";
        memcpy(name, at, n);
        if (find_word(r, name))
            return kiln_fail(r->e, KILN_BAD_INPUT, "problem: %s is given twice; keep one", name);
        int status = add_word(r, at, n, at + n + 1, length - n - 1);
        if (status) return status;
        at += length;
    }
    return 0;
}

/* ---- presets: their declarations come first, with the user's types where these are given */

static int expand_preset(reader *r, const kiln_preset *preset) {
    reader user = *r;
    const word *type = find_word(&user, "type");
    r->n_words = 0;
    for (const char *at = preset->keys; *(at = skip_spaces(at));) {
        size_t length = strcspn(at, spaces), n = strcspn(at, "=");
        char name[KILN_NAME_MAX] = "";
        memcpy(name, at, n);
        const word *own = find_word(&user, name);
        const char *value = own ? own->value : at + n + 1;
        size_t m = own ? strlen(own->value) : length - n - 1;
        if (!own && !memcmp(value, "$T", 2)) {
            value = type ? type->value : "f32";
            m = strlen(value);
        }
        int status = add_word(r, at, n, value, m);
        if (status) return status;
        at += length;
    }
    for (int i = 0; i < user.n_words; i++)
        if (!find_word(r, user.words[i].name)) {
            if (r->n_words == WORDS_MAX)
                return kiln_fail(r->e, KILN_BAD_INPUT, "problem: more than %d keys", WORDS_MAX);
            r->words[r->n_words++] = user.words[i];
        }
    return 0;
}

static const kiln_preset *find_preset(const char *name) {
    for (const kiln_preset *p = kiln_presets; p->name; p++)
        if (!strcmp(p->name, name)) return p;
    return NULL;
}

static int fail_family(reader *r, const char *name, size_t n) {
    kiln_text known = {0};
    char text[44];
    for (const kiln_family *const *f = kiln_families; *f; f++)
        kiln_text_printf(&known, " %s", (*f)->name);
    for (const kiln_preset *p = kiln_presets; p->name; p++)
        kiln_text_printf(&known, " %s", p->name);
    if (n)
        kiln_fail(r->e, KILN_BAD_INPUT, "problem: '%s' is no family or preset; there are%s",
                  shown(name, n, text), kiln_text_get(&known));
    else
        kiln_fail(r->e, KILN_BAD_INPUT, "problem: the text is empty; begin with one of%s",
                  kiln_text_get(&known));
    kiln_text_free(&known);
    return KILN_BAD_INPUT;
}

/* ---- keys */

static int fail_key(reader *r, const word *w) {
    kiln_text known = {0};
    const kiln_family *f = r->p->family;
    for (int i = 0; f->keys[i].name; i++) kiln_text_printf(&known, " %s", f->keys[i].name);
    kiln_fail(r->e, KILN_BAD_INPUT,
              "problem: '%s=%.24s' is neither a key of %s (%s type) nor the "
              "type of an operand (f32 f16 bf16 i8 ... or scalar)",
              w->name, w->value, f->name,
              kiln_text_get(&known)[0] ? kiln_text_get(&known) + 1 : "");
    kiln_text_free(&known);
    return KILN_BAD_INPUT;
}

static int read_integer(reader *r, const word *w, int64_t min, int64_t max, int64_t *out) {
    const char *digits = w->value + (*w->value == '-');
    size_t n = strspn(digits, "0123456789");
    if (!n || digits[n])
        return kiln_fail(r->e, KILN_BAD_INPUT, "problem: %s=%s is no integer; write plain digits",
                         w->name, w->value);
    long long value = n > 18 ? INT64_MAX : strtoll(w->value, NULL, 10);
    if (value < min || value > max)
        return kiln_fail(r->e, KILN_BAD_INPUT, "problem: %s=%s is outside %lld to %lld", w->name,
                         w->value, (long long)min, (long long)max);
    *out = value;
    return 0;
}

static int read_type(reader *r, const word *w, kiln_type *out) {
    *out = kiln_type_parse(w->value, strlen(w->value));
    if (*out != KILN_TYPE_COUNT) return 0;
    return kiln_fail(r->e, KILN_BAD_INPUT,
                     "problem: %s=%s is no type; types are f64 f32 tf32 f16 bf16 "
                     "e4m3 e5m2 i32 i8",
                     w->name, w->value);
}

static int fail_missing(reader *r, const kiln_key *k) {
    return kiln_fail(r->e, KILN_BAD_INPUT, "problem: %s needs %s=%s (%s)", r->family_word, k->name,
                     k->kind == KILN_KEY_TYPE ? "TYPE" : "NUMBER", k->help ? k->help : k->name);
}

static int default_key(reader *r, const kiln_key *k, int64_t *out) {
    *out = k->fallback;
    return k->fallback == KILN_REQUIRED ? fail_missing(r, k) : 0;
}

static int read_key(reader *r, const kiln_key *k, int64_t *out) {
    word *w = find_word(r, k->name);
    if (!w) return default_key(r, k, out);
    w->used = true;
    if (k->kind == KILN_KEY_FLAG) return read_integer(r, w, 0, 1, out);
    if (k->kind == KILN_KEY_SIZE) return read_integer(r, w, k->min, k->max, out);
    kiln_type type;
    int status = read_type(r, w, &type);
    *out = type;
    return status;
}

static int read_keys(reader *r) {
    const kiln_family *f = r->p->family;
    word *type = find_word(r, "type");
    if (type) {
        type->used = true;
        int status = read_type(r, type, &r->p->type);
        if (status) return status;
    }
    for (int i = 0; f->keys[i].name; i++) {
        int status = read_key(r, &f->keys[i], &r->p->value[i]);
        if (status) return status;
    }
    return 0;
}

/* A type that no key gave: the family's choice for the operand of that name (it sees `type=`, and
 * may know better: i8 products are summed in i32), then `type=`. */
static int settle_types(reader *r) {
    kiln_problem *p = r->p;
    for (int i = 0; p->family->keys[i].name; i++) {
        const kiln_key *k = &p->family->keys[i];
        if (k->kind != KILN_KEY_TYPE || p->value[i] != KILN_NONE) continue;
        int operand = kiln_problem_operand(p, k->name);
        p->value[i] = operand >= 0 ? (int64_t)p->operand[operand].type : (int64_t)p->type;
        if (p->value[i] == KILN_NONE) return fail_missing(r, k);
    }
    return 0;
}

/* ---- operands */

static int add_operand(reader *r, const char *name, kiln_type type, bool scalar) {
    kiln_problem *p = r->p;
    if (p->n_operands == KILN_OPERANDS_MAX)
        return kiln_fail(r->e, KILN_BAD_INPUT, "problem: more than %d operands", KILN_OPERANDS_MAX);
    kiln_operand *o = &p->operand[p->n_operands];
    memset(o, 0, sizeof *o);
    strcpy(o->name, name);
    o->type = scalar ? KILN_F32 : type;
    o->scalar = scalar;
    return p->n_operands++;
}

/* Every other word declares an operand. One declared with the type it has anyway stands where the
 * statements first name it, as if it had not been declared: the canonical text leaves it out. */
static int read_declarations(reader *r) {
    for (int i = 0; i < r->n_words; i++) {
        word *w = &r->words[i];
        if (w->used) continue;
        w->scalar = !strcmp(w->value, "scalar");
        w->type = kiln_type_parse(w->value, strlen(w->value));
        if (!w->scalar && w->type == KILN_TYPE_COUNT) return fail_key(r, w);
        if (r->p->family->result && !strcmp(w->name, r->p->family->result))
            return kiln_fail(r->e, KILN_BAD_INPUT,
                             "problem: '%s' is what %s computes; give the "
                             "operand another name",
                             w->name, r->p->family->name);
        if (kiln_problem_operand(r->p, w->name) >= 0)
            return kiln_fail(r->e, KILN_BAD_INPUT, "problem: %s is an operand already", w->name);
        if (!w->scalar && w->type == default_type(r->p)) continue;
        int added = add_operand(r, w->name, w->type, w->scalar);
        if (added < 0) return added;
    }
    return 0;
}

/* ---- names in statements */

static int fail_name(reader *r, const char *name) {
    kiln_text known = {0};
    const kiln_problem *p = r->p;
    if (p->family->result) kiln_text_printf(&known, " %s", p->family->result);
    for (int i = r->n_from_keys; i < p->n_operands; i++)
        if (!p->operand[i].output) kiln_text_printf(&known, " %s", p->operand[i].name);
    kiln_fail(r->e, KILN_BAD_INPUT, "statements: '%s' is unknown here; known are%s%s; %s", name,
              kiln_text_get(&known), p->n_operands || p->family->result ? "" : " no operands",
              p->family->result ? "operands carry axes, as in bias[n], and a name must be assigned "
                                  "before it is read"
                                : "declare operands as NAME=TYPE before the colon, and assign "
                                  "names before they are read");
    kiln_text_free(&known);
    return KILN_SCOPE_ERROR;
}

static int scope_error(reader *r, const char *name, const char *words) {
    kiln_fail(r->e, KILN_BAD_INPUT, "statements: '%s' %s", name, words);
    return KILN_SCOPE_ERROR;
}

/* The type of a name that no operand has yet; KILN_NONE when it cannot be one. */
static kiln_type undeclared_type(reader *r, const char *name, int axes, bool output) {
    const word *w = find_word(r, name);
    if (w && !w->used) return w->type; /* declared with the default type */
    if (output && axes < 0 && strcmp(name, "out")) return KILN_NONE;
    if (!output && axes < 0 && r->p->family->result) return KILN_NONE;
    /* what a product leaves behind of a row, its maximum, is no element like those of `out` */
    if (output && axes >= 0 && axes != all_axes(r->p->family) && r->p->family->result)
        return KILN_F32;
    return r->p->type != KILN_NONE ? r->p->type : default_type(r->p);
}

static int fix_axes(reader *r, int i, int axes) {
    kiln_operand *o = &r->p->operand[i];
    bool first = !r->read[i] && !r->assigned[i];
    uint8_t all = all_axes(r->p->family);
    if (o->scalar) return axes < 0 ? 0 : scope_error(r, o->name, "is a scalar and has no axes");
    if (i < r->n_from_keys) {
        if (!o->axes) o->axes = all;
        return axes < 0 || axes == o->axes ? 0 : scope_error(r, o->name, "has every axis");
    }
    if (axes < 0 && r->p->family->result)
        return scope_error(r, o->name, "needs its axes, as in bias[n] or res[m,n]");
    if (axes < 0) axes = all;
    if (first) o->axes = (uint8_t)axes;
    return o->axes == axes ? 0 : scope_error(r, o->name, "is used with different axes");
}

static int read_operand(reader *r, int i, int axes) {
    kiln_operand *o = &r->p->operand[i];
    if (i < r->n_from_keys && !o->output)
        return scope_error(r, o->name,
                           "is consumed by the family and cannot be read in statements");
    if (o->output || !strcmp(o->name, "out"))
        return scope_error(r, o->name,
                           "is an output and has no value before it is assigned; read "
                           "an input of another name");
    if (fix_axes(r, i, axes)) return KILN_SCOPE_ERROR;
    r->read[i] = true;
    return i;
}

static int assign_operand(reader *r, int i, int axes) {
    kiln_operand *o = &r->p->operand[i];
    uint8_t rows = (uint8_t)(all_axes(r->p->family) & ~last_axis(r->p->family));
    if (o->scalar) return scope_error(r, o->name, "is a scalar input and cannot be assigned");
    if (r->read[i]) return scope_error(r, o->name, "was read as an input; assign another name");
    if (i < r->n_from_keys && !o->output)
        return scope_error(r, o->name, "is an input and cannot be assigned");
    if (fix_axes(r, i, axes)) return KILN_SCOPE_ERROR;
    if ((o->axes & rows) != rows)
        return scope_error(r, o->name,
                           "is an output and needs every axis, or every one but the "
                           "last");
    o->output = r->assigned[i] = true;
    return i;
}

static int resolve(void *context, const char *name, int axes, bool output, kiln_error *e) {
    reader *r = context;
    (void)e; /* the same as r->e */
    const kiln_family *f = r->p->family;
    if (f->result && !strcmp(name, f->result)) {
        if (axes < 0) return KILN_SCOPE_RESULT;
        return scope_error(r, name, "stands without axes");
    }
    int i = kiln_problem_operand(r->p, name);
    if (i < 0) {
        kiln_type type = undeclared_type(r, name, axes, output);
        if (type == KILN_NONE && output && !strcmp(name, "out"))
            return scope_error(r, name,
                               "has no type; write out=TYPE or type=TYPE before the colon");
        if (type == KILN_NONE) return output ? KILN_SCOPE_NONE : fail_name(r, name);
        i = add_operand(r, name, type, false);
        if (i < 0) return KILN_SCOPE_ERROR;
    }
    return output ? assign_operand(r, i, axes) : read_operand(r, i, axes);
}

static bool is_wide(void *context, int operand) {
    const reader *r = context;
    return r->p->operand[operand].axes & last_axis(r->p->family);
}

static int check_operands(reader *r) {
    int outputs = 0;
    for (int i = 0; i < r->p->n_operands; i++) {
        const kiln_operand *o = &r->p->operand[i];
        outputs += o->output;
        if (o->output && !r->assigned[i])
            return kiln_fail(r->e, KILN_BAD_INPUT, "statements: nothing is assigned to '%s'",
                             o->name);
        if (i >= r->n_from_keys && !r->read[i] && !r->assigned[i])
            return kiln_fail(r->e, KILN_BAD_INPUT,
                             "problem: %s is declared, but no statement "
                             "uses it; remove it or check its spelling",
                             o->name);
    }
    for (int i = 0; i < r->n_words; i++)
        if (!r->words[i].used && kiln_problem_operand(r->p, r->words[i].name) < 0)
            return kiln_fail(r->e, KILN_BAD_INPUT,
                             "problem: %s is declared, but no statement "
                             "uses it; remove it or check its spelling",
                             r->words[i].name);
    if (outputs) return 0;
    return kiln_fail(r->e, KILN_BAD_INPUT, "statements: no output is assigned; assign to 'out'");
}

static int read_statements(reader *r, const char *text) {
    const kiln_family *f = r->p->family;
    kiln_scope scope = {resolve, r, f->axis, is_wide};
    if (!text && !f->statements)
        return kiln_fail(r->e, KILN_BAD_INPUT,
                         "problem: %s needs statements after a colon, as in "
                         "'%s ... : out = x'",
                         f->name, f->name);
    int status = kiln_body_parse(&r->p->body, text ? text : f->statements, &scope, r->e);
    return status ? status : check_operands(r);
}

/* ---- the whole */

/* Sizes multiply: what cannot be addressed is refused here, for every family. */
static int check_sizes(const kiln_problem *p, kiln_error *e) {
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        double bytes = ((double)o->batch * (double)o->batch_stride +
                        (double)o->rows * (double)o->ld + (double)o->cols) *
                       (double)kiln_type_bytes(o->type);
        if (!o->scalar && bytes > 0x1p60)
            return kiln_fail(e, KILN_BAD_INPUT,
                             "problem: operand %s would have %.3g bytes; choose "
                             "smaller sizes",
                             o->name, bytes);
    }
    return 0;
}

static int derive_shapes(kiln_problem *p, kiln_error *e) {
    int status = p->family->shape(p, e);
    return status ? status : check_sizes(p, e);
}

static int check_length(const kiln_text *text, kiln_error *e) {
    if (text->failed)
        return kiln_fail(e, KILN_NO_MEMORY, "problem: out of memory while reading it");
    if (text->size <= TEXT_MAX) return 0;
    return kiln_fail(e, KILN_BAD_INPUT,
                     "problem: its canonical text is longer than %d characters; "
                     "split it",
                     TEXT_MAX);
}

/* The family of the first word; a preset's keys and statements replace what the user left out. */
static int read_head(reader *r, const char *head, size_t n, const char *end,
                     const char **statements, char name[KILN_NAME_MAX + 16]) {
    if (n >= KILN_NAME_MAX + 16) return fail_family(r, head, n);
    memcpy(name, head, n);
    name[n] = 0;
    r->family_word = name;
    const kiln_preset *preset = find_preset(name);
    r->p->family = kiln_family_find(preset ? preset->family : name);
    if (!r->p->family) return fail_family(r, head, n);
    int status = read_words(r, head + n, end);
    if (status || !preset) return status;
    if (*statements)
        return kiln_fail(r->e, KILN_BAD_INPUT,
                         "problem: the preset %s has its own statements; "
                         "write '%s ... : ...' for others",
                         name, preset->family);
    *statements = preset->statements;
    return expand_preset(r, preset);
}

static int parse(kiln_problem *p, const char *text, kiln_error *e) {
    reader r = {.p = p, .e = e};
    memset(p, 0, sizeof *p);
    char name[KILN_NAME_MAX + 16] = "";
    const char *head = skip_spaces(text), *colon = strchr(head, ':');
    const char *statements = colon ? colon + 1 : NULL, *end = colon ? colon : head + strlen(head);
    int status = read_head(&r, head, strcspn(head, " \t\r\n:"), end, &statements, name);
    if (!status) status = read_keys(&r);
    if (!status && p->family->operands) status = p->family->operands(p, e);
    r.n_from_keys = p->n_operands;
    if (!status) status = settle_types(&r);
    if (!status) status = read_declarations(&r);
    if (!status) status = read_statements(&r, statements);
    p->type = KILN_NONE; /* every operand knows its type now */
    return status ? status : derive_shapes(p, e);
}

int kiln_problem_parse(kiln_problem *p, const char *text, kiln_error *e) {
    if (strnlen(text, TEXT_MAX + 1) > TEXT_MAX)
        return kiln_fail(e, KILN_BAD_INPUT, "problem: the text is longer than %d characters",
                         TEXT_MAX);
    int status = parse(p, text, e);
    if (status) return status;
    kiln_text canonical = {0};
    kiln_problem_print(p, &canonical);
    status = check_length(&canonical, e);
    /* Operands are ordered by first appearance, and the canonical text may name them in another
     * order than the given one (a > b is printed b < a): the canonical one counts. */
    if (!status) status = parse(p, kiln_text_get(&canonical), e);
    kiln_text_free(&canonical);
    return status;
}

int kiln_problem_resize(kiln_problem *p, const char *sizes, kiln_error *e) {
    reader r = {.p = p, .e = e};
    kiln_problem before = *p;
    int status = read_words(&r, sizes, sizes + strlen(sizes));
    for (int i = 0; i < r.n_words && !status; i++) {
        const word *w = &r.words[i];
        int key = find_key(p->family, w->name);
        if (key < 0 || p->family->keys[key].kind != KILN_KEY_SIZE || p->family->keys[key].compiled)
            status = kiln_fail(e, KILN_BAD_INPUT, "resize: %s is no run-time size of %s", w->name,
                               p->family->name);
        else
            status = read_integer(&r, w, p->family->keys[key].min, p->family->keys[key].max,
                                  &p->value[key]);
    }
    if (!status) status = derive_shapes(p, e);
    if (status) *p = before;
    return status;
}

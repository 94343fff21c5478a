/* Recursive descent over the statements; nodes are shared and folded as they are made, and a last
 * pass drops what folding left behind and numbers nodes by first use. So the numbering depends on
 * the meaning only, and reading the canonical text again gives the same body. */
#include "kernels/expr.h"
#include "kernels/expr_private.h"

#include <assert.h>
#include <ctype.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, NUMBER_MAX = 60, NO_AXES = -1 };

/* A name that was assigned: a statement, or an alias of a value that has a name already. */
typedef struct assigned {
    char name[KILN_NAME_MAX];
    int16_t node;
    int axes;
    bool stored, used;
} assigned;

typedef struct parser {
    const char *start, *at;
    kiln_body *b;
    const kiln_scope *scope;
    kiln_error *e;
    int depth, n_assigned;
    assigned assigned[KILN_STATEMENTS_MAX];
} parser;

__attribute__((format(printf, 3, 4))) static int fail(parser *ps, const char *at,
                                                      const char *format, ...) {
    char words[400];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    kiln_fail(ps->e, KILN_BAD_INPUT, "statements, column %d: %s", (int)(at - ps->start) + 1, words);
    return -1;
}

static void skip_spaces(parser *ps) { ps->at += strspn(ps->at, " \t\r\n"); }

static bool accept(parser *ps, char c) {
    skip_spaces(ps);
    if (*ps->at != c) return false;
    ps->at++;
    return true;
}

/* What stands at the cursor, for messages: a printable piece, never the raw bytes. */
static const char *found(const parser *ps, char text[24]) {
    size_t n = 0;
    while (n < 16 && isprint((unsigned char)ps->at[n]) && ps->at[n] != ' ' && ps->at[n] != ';') n++;
    if (n)
        snprintf(text, 24, "'%.*s'", (int)n, ps->at);
    else if (!*ps->at)
        strcpy(text, "the end");
    else if (*ps->at == ';')
        strcpy(text, "';'");
    else
        snprintf(text, 24, "byte 0x%02x", (unsigned char)*ps->at);
    return text;
}

static int expected(parser *ps, const char *what) {
    char text[24];
    return fail(ps, ps->at, "expected %s, found %s", what, found(ps, text));
}

/* ---- nodes */

static int add_node(parser *ps, kiln_node node) {
    kiln_body *b = ps->b;
    for (int i = 0; i < b->n_nodes; i++)
        if (!memcmp(&b->node[i], &node, sizeof node)) return i;
    if (b->n_nodes == KILN_NODES_MAX)
        return fail(ps, ps->at, "more than %d operations; split the problem", KILN_NODES_MAX);
    b->node[b->n_nodes] = node;
    return b->n_nodes++;
}

/* memset first: nodes are compared as bytes, padding included. */
static kiln_node blank_node(kiln_op op) {
    kiln_node node;
    memset(&node, 0, sizeof node);
    node.op = (uint8_t)op;
    for (int k = 0; k < 3; k++) node.arg[k] = -1;
    return node;
}

static int add_constant(parser *ps, double value) {
    if (!(fabs(value) <= FLT_MAX))
        return fail(ps, ps->at, "the constant here is %g, which is no 32-bit float", value);
    kiln_node node = blank_node(KILN_OP_CONST);
    node.value = value;
    return add_node(ps, node);
}

static int add_operation(parser *ps, kiln_op op, int n, const int arg[]) {
    kiln_node node = blank_node(op);
    double value[3] = {0, 0, 0};
    bool constant = !kiln_op_reduces(op);
    for (int k = 0; k < n; k++) {
        const kiln_node *from = &ps->b->node[arg[k]];
        int ready = kiln_node_ready(ps->b, arg[k]);
        node.arg[k] = (int16_t)arg[k];
        node.wide |= from->wide;
        if (ready > node.phase) node.phase = (uint8_t)ready;
        constant &= from->op == KILN_OP_CONST;
        value[k] = from->value;
    }
    if (constant) return add_constant(ps, kiln_op_value(op, value[0], value[1], value[2]));
    if (kiln_op_reduces(op)) node.wide = 0;
    return add_node(ps, node);
}

static int add_binary(parser *ps, kiln_op op, int a, int b) {
    return a < 0 || b < 0 ? -1 : add_operation(ps, op, 2, (const int[]){a, b});
}

/* ---- names */

static size_t name_length(const char *at) {
    size_t n = 0;
    if (isalpha((unsigned char)*at) || *at == '_')
        while (isalnum((unsigned char)at[n]) || at[n] == '_') n++;
    return n;
}

static bool names_function(const char *name) {
    for (int op = KILN_OP_ABS; op < KILN_OP_COUNT; op++)
        if (!strcmp(kiln_op_name((kiln_op)op), name)) return true;
    return false;
}

static bool parse_name(parser *ps, char name[KILN_NAME_MAX]) {
    skip_spaces(ps);
    size_t n = name_length(ps->at);
    if (!n) return expected(ps, "a name") >= 0;
    if (n >= KILN_NAME_MAX)
        return fail(ps, ps->at, "the name '%.*s' is longer than %d characters",
                    n > 40 ? 40 : (int)n, ps->at, KILN_NAME_MAX - 1) >= 0;
    memcpy(name, ps->at, n);
    name[n] = 0;
    ps->at += n;
    return true;
}

static int find_axis(const kiln_scope *scope, const char *name) {
    for (int i = 0; scope->axis[i]; i++)
        if (!strcmp(scope->axis[i], name)) return i;
    return -1;
}

static int fail_axis(parser *ps, const char *at, const char *name) {
    char known[80] = "";
    for (int i = 0; ps->scope->axis[i]; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", i ? "," : "", ps->scope->axis[i]);
    }
    return fail(ps, at, "'%s' is no axis here; axes are [%s], each once and in this order", name,
                known);
}

/* "[m,n]" if it follows; *axes becomes NO_AXES without brackets. */
static bool parse_axes(parser *ps, int *axes) {
    *axes = NO_AXES;
    if (!accept(ps, '[')) return true;
    *axes = 0;
    do {
        skip_spaces(ps);
        const char *at = ps->at;
        char name[KILN_NAME_MAX];
        if (!parse_name(ps, name)) return false;
        int axis = find_axis(ps->scope, name);
        if (axis < 0 || *axes >> axis) return fail_axis(ps, at, name) >= 0;
        *axes |= 1 << axis;
    } while (accept(ps, ','));
    return accept(ps, ']') || expected(ps, "']'") >= 0;
}

static assigned *find_assigned(parser *ps, const char *name) {
    for (int i = 0; i < ps->n_assigned; i++)
        if (!strcmp(ps->assigned[i].name, name)) return &ps->assigned[i];
    return NULL;
}

static int read_assigned(parser *ps, const char *at, assigned *a, int axes) {
    if (axes != NO_AXES && axes != a->axes)
        return fail(ps, at, "'%s' was assigned with other axes; read it as it was assigned",
                    a->name);
    a->used = true;
    return a->node;
}

static int read_name(parser *ps, const char *at, const char *name) {
    int axes;
    if (!parse_axes(ps, &axes)) return -1;
    assigned *a = find_assigned(ps, name);
    if (a) return read_assigned(ps, at, a, axes);
    int operand = ps->scope->resolve(ps->scope->context, name, axes, false, ps->e);
    if (operand == KILN_SCOPE_ERROR) return -1;
    if (operand == KILN_SCOPE_NONE) return fail(ps, at, "unknown name '%s'", name);
    kiln_node node = blank_node(operand == KILN_SCOPE_RESULT ? KILN_OP_RESULT : KILN_OP_OPERAND);
    node.wide = 1;
    if (operand != KILN_SCOPE_RESULT) {
        node.operand = (uint8_t)operand;
        node.wide = ps->scope->is_wide(ps->scope->context, operand);
    }
    return add_node(ps, node);
}

/* ---- expressions */

static int parse_expression(parser *ps);

static kiln_op find_call(const char *name, int n_args) {
    for (int op = KILN_OP_ABS; op < KILN_OP_COUNT; op++)
        if (!strcmp(kiln_op_name((kiln_op)op), name) && kiln_op_arity((kiln_op)op) == n_args)
            return (kiln_op)op;
    return KILN_OP_COUNT;
}

static int parse_call(parser *ps, const char *at, const char *name) {
    int arg[3], n = 0;
    do {
        if (n == 3) return fail(ps, ps->at, "%s has too many arguments", name);
        arg[n] = parse_expression(ps);
        if (arg[n++] < 0) return -1;
    } while (accept(ps, ','));
    if (!accept(ps, ')')) return expected(ps, "',' or ')'");
    kiln_op op = find_call(name, n);
    if (op == KILN_OP_COUNT) return fail(ps, at, "%s does not take %d arguments", name, n);
    return add_operation(ps, op, n, arg);
}

static int fail_function(parser *ps, const char *at, const char *name) {
    char known[260] = "";
    for (int op = KILN_OP_ABS; op < KILN_OP_RMAX; op++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, " %s", kiln_op_name((kiln_op)op));
    }
    return fail(ps, at, "there is no function '%s'; there are%s", name, known);
}

static int parse_named(parser *ps) {
    skip_spaces(ps);
    const char *at = ps->at;
    char name[KILN_NAME_MAX];
    if (!parse_name(ps, name)) return -1;
    bool function = names_function(name);
    if (accept(ps, '(')) return function ? parse_call(ps, at, name) : fail_function(ps, at, name);
    if (function) return fail(ps, at, "the function %s needs its arguments in parentheses", name);
    return read_name(ps, at, name);
}

/* Digits are scanned here, because strtod would also take "0x", "inf" and "nan". */
static int parse_number(parser *ps, double sign) {
    const char *at = ps->at;
    size_t n = strspn(at, "0123456789");
    if (at[n] == '.') n += 1 + strspn(at + n + 1, "0123456789");
    if (at[n] == 'e' || at[n] == 'E') {
        size_t from = n + 1 + (at[n + 1] == '-' || at[n + 1] == '+');
        size_t digits = strspn(at + from, "0123456789");
        if (!digits) return fail(ps, at, "this number lacks the digits of its exponent");
        n = from + digits;
    }
    if (n > NUMBER_MAX || isalnum((unsigned char)at[n]) || at[n] == '_' || at[n] == '.')
        return fail(ps, at, "this is no number; write for example 0.5 or 1e-5");
    char text[NUMBER_MAX + 1];
    memcpy(text, at, n);
    text[n] = 0;
    int node = add_constant(ps, sign * kiln_number_parse(text, NULL));
    ps->at = at + n;
    return node;
}

static bool at_number(const parser *ps) {
    const char *at = ps->at;
    return isdigit((unsigned char)*at) || (*at == '.' && isdigit((unsigned char)at[1]));
}

static int parse_primary(parser *ps) {
    skip_spaces(ps);
    if (at_number(ps)) return parse_number(ps, 1);
    if (name_length(ps->at)) return parse_named(ps);
    if (!accept(ps, '(')) return expected(ps, "a number, a name or '('");
    int node = parse_expression(ps);
    if (node >= 0 && !accept(ps, ')')) return expected(ps, "')'");
    return node;
}

static int parse_unary(parser *ps);

/* "-5" is a number at once, so that reading a printed constant nests no deeper than its name. */
static int parse_negative(parser *ps) {
    skip_spaces(ps);
    if (at_number(ps)) return parse_number(ps, -1);
    int node = parse_unary(ps);
    return node < 0 ? -1 : add_operation(ps, KILN_OP_NEG, 1, &node);
}

static int parse_unary(parser *ps) {
    if (ps->depth == DEPTH_MAX)
        return fail(ps, ps->at,
                    "nested deeper than %d; name parts of it in statements of their own",
                    DEPTH_MAX);
    ps->depth++;
    int node = accept(ps, '-') ? parse_negative(ps) : parse_primary(ps);
    ps->depth--;
    return node;
}

static int parse_product(parser *ps) {
    int node = parse_unary(ps);
    while (node >= 0) {
        if (accept(ps, '*'))
            node = add_binary(ps, KILN_OP_MUL, node, parse_unary(ps));
        else if (accept(ps, '/'))
            node = add_binary(ps, KILN_OP_DIV, node, parse_unary(ps));
        else
            break;
    }
    return node;
}

static int parse_sum(parser *ps) {
    int node = parse_product(ps);
    while (node >= 0) {
        if (accept(ps, '+'))
            node = add_binary(ps, KILN_OP_ADD, node, parse_product(ps));
        else if (accept(ps, '-'))
            node = add_binary(ps, KILN_OP_SUB, node, parse_product(ps));
        else
            break;
    }
    return node;
}

/* Comparisons do not chain: a < b < c is rarely what its author means. > and >= swap sides. */
static int parse_expression(parser *ps) {
    int a = parse_sum(ps);
    skip_spaces(ps);
    if (a < 0 || (*ps->at != '<' && *ps->at != '>')) return a;
    bool swapped = *ps->at++ == '>';
    kiln_op op = *ps->at == '=' ? KILN_OP_LE : KILN_OP_LT;
    if (op == KILN_OP_LE) ps->at++;
    int b = parse_sum(ps);
    skip_spaces(ps);
    if (b >= 0 && (*ps->at == '<' || *ps->at == '>'))
        return fail(ps, ps->at, "comparisons do not chain; use parentheses");
    return swapped ? add_binary(ps, op, b, a) : add_binary(ps, op, a, b);
}

/* ---- statements */

static bool is_leaf(const kiln_body *b, int node) {
    return kiln_op_arity((kiln_op)b->node[node].op) == 0;
}

static bool is_named(const parser *ps, int node) {
    for (int i = 0; i < ps->b->n_statements; i++)
        if (ps->b->statement[i].node == node) return true;
    return false;
}

static int add_store(parser *ps, const char *at, const char *name, int operand, int node) {
    if (!ps->scope->is_wide(ps->scope->context, operand) && ps->b->node[node].wide)
        return fail(ps, at,
                    "'%s' has one element per row, but this value differs along the row; "
                    "reduce it with sum, mean, max or min",
                    name);
    kiln_statement *s = &ps->b->statement[ps->b->n_statements++];
    strcpy(s->name, name);
    s->operand = (int16_t)operand;
    s->node = (int16_t)node;
    return 0;
}

/* A local that only renames something (x, 2, or an expression that has a name already) becomes no
 * statement: wherever it is read, the other stands in the canonical text. */
static void add_local(parser *ps, const char *name, int node) {
    if (is_leaf(ps->b, node) || is_named(ps, node)) return;
    kiln_statement *s = &ps->b->statement[ps->b->n_statements++];
    strcpy(s->name, name);
    s->operand = -1;
    s->node = (int16_t)node;
}

static int assign(parser *ps, const char *at, const char *name, int axes, int node) {
    int operand = ps->scope->resolve(ps->scope->context, name, axes, true, ps->e);
    if (operand == KILN_SCOPE_ERROR) return -1;
    if (operand == KILN_SCOPE_RESULT)
        return fail(ps, at, "'%s' is what the kernel computes and cannot be assigned", name);
    if (operand == KILN_SCOPE_NONE && axes != NO_AXES)
        return fail(ps, at, "'%s' has axes but no type; declare it as %s=TYPE before the colon",
                    name, name);
    if (operand >= 0 && add_store(ps, at, name, operand, node)) return -1;
    if (operand < 0) add_local(ps, name, node);
    assigned *a = &ps->assigned[ps->n_assigned++];
    *a = (assigned){.node = (int16_t)node, .axes = axes, .stored = operand >= 0};
    strcpy(a->name, name);
    return 0;
}

static int parse_statement(parser *ps) {
    skip_spaces(ps);
    const char *at = ps->at;
    char name[KILN_NAME_MAX];
    int axes;
    if (!parse_name(ps, name) || !parse_axes(ps, &axes)) return -1;
    if (names_function(name)) return fail(ps, at, "'%s' is a function; assign another name", name);
    if (find_assigned(ps, name)) return fail(ps, at, "'%s' is assigned twice", name);
    if (ps->n_assigned == KILN_STATEMENTS_MAX)
        return fail(ps, at, "more than %d statements", KILN_STATEMENTS_MAX);
    if (!accept(ps, '=')) return expected(ps, "'='");
    int node = parse_expression(ps);
    if (node < 0) return -1;
    skip_spaces(ps);
    if (*ps->at && *ps->at != ';') return expected(ps, "an operator, ';' or the end");
    return assign(ps, at, name, axes, node);
}

static int check_uses(parser *ps) {
    for (int i = 0; i < ps->n_assigned; i++) {
        const assigned *a = &ps->assigned[i];
        if (!a->stored && !a->used)
            return kiln_fail(ps->e, KILN_BAD_INPUT,
                             "statements: '%s' is assigned but never used; "
                             "use it, or declare it as %s=TYPE to store it",
                             a->name, a->name);
    }
    return 0;
}

/* ---- numbering by first use */

static int copy_node(const kiln_body *from, int i, kiln_body *to, int16_t map[]) {
    if (map[i] >= 0) return map[i];
    kiln_node node = from->node[i];
    for (int k = 0; k < kiln_op_arity((kiln_op)node.op); k++)
        node.arg[k] = (int16_t)copy_node(from, node.arg[k], to, map);
    to->node[to->n_nodes] = node;
    return map[i] = (int16_t)to->n_nodes++;
}

static void renumber(kiln_body *b) {
    kiln_body from = *b;
    int16_t map[KILN_NODES_MAX];
    memset(map, -1, sizeof map);
    memset(b->node, 0, sizeof b->node);
    b->n_nodes = 0;
    b->n_phases = 1;
    for (int i = 0; i < b->n_statements; i++)
        b->statement[i].node = (int16_t)copy_node(&from, from.statement[i].node, b, map);
    for (int i = 0; i < b->n_nodes; i++) {
        int ready = kiln_node_ready(b, i);
        if (ready >= b->n_phases) b->n_phases = ready + 1;
    }
}

int kiln_body_parse(kiln_body *b, const char *text, const kiln_scope *scope, kiln_error *e) {
    parser ps = {.start = text, .at = text, .b = b, .scope = scope, .e = e};
    memset(b, 0, sizeof *b);
    do {
        if (parse_statement(&ps)) return KILN_BAD_INPUT;
        accept(&ps, ';');
        skip_spaces(&ps);
    } while (*ps.at);
    if (check_uses(&ps)) return KILN_BAD_INPUT;
    renumber(b);
    return 0;
}

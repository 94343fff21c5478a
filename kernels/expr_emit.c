#include "kernels/expr.h"
#include "kernels/expr_bounds.h"
#include "kernels/expr_private.h"

#include <ctype.h>
#include <string.h>

typedef struct emitter {
    const kiln_body *b;
    const kiln_emit_part *part;
    kiln_text *out;
    bool bounded;
    bool needed[KILN_NODES_MAX];
    int16_t reduction[KILN_NODES_MAX]; /* node to its number among reductions, or -1 */
} emitter;

/* ---- which nodes a part needs */

static void need(emitter *em, int i) {
    const kiln_node *n = &em->b->node[i];
    if (em->needed[i]) return;
    em->needed[i] = true;
    if (kiln_op_reduces((kiln_op)n->op)) return; /* it is finished: r<i> */
    for (int k = 0; k < kiln_op_arity((kiln_op)n->op); k++) need(em, n->arg[k]);
}

static bool accumulates(const emitter *em, int i) {
    return em->part->reductions && em->reduction[i] >= 0 && em->b->node[i].phase == em->part->phase;
}

static bool stores(const emitter *em, const kiln_statement *s) {
    return em->part->outputs && s->operand >= 0 &&
           kiln_node_ready(em->b, s->node) <= em->part->phase;
}

static void prepare(emitter *em) {
    int n = 0;
    for (int i = 0; i < em->b->n_nodes; i++)
        em->reduction[i] = kiln_op_reduces((kiln_op)em->b->node[i].op) ? (int16_t)n++ : -1;
    for (int i = 0; i < em->b->n_nodes; i++)
        if (accumulates(em, i)) need(em, em->b->node[i].arg[0]);
    for (int i = 0; i < em->b->n_statements; i++)
        if (stores(em, &em->b->statement[i])) need(em, em->b->statement[i].node);
}

void kiln_body_reads(const kiln_body *b, const kiln_emit_part *part, bool read[], int n) {
    emitter em = {.b = b, .part = part};
    prepare(&em);
    for (int i = 0; i < b->n_nodes; i++)
        if (em.needed[i] && b->node[i].op == KILN_OP_OPERAND && b->node[i].operand < n)
            read[b->node[i].operand] = true;
}

/* ---- values */

/* "(REAL)(1e-5f)" so that it is a vector where REAL is one; "(1e-5)" in double. */
static void print_constant(const emitter *em, double value) {
    kiln_text number = {0};
    kiln_number_print(value, !em->bounded, &number);
    const char *digits = kiln_text_get(&number), *point = strpbrk(digits, ".e") ? "" : ".0";
    if (em->bounded)
        kiln_text_printf(em->out, "(%s%s)", digits, point);
    else
        kiln_text_printf(em->out, "(REAL)(%s%sf)", digits, point);
    em->out->failed |= number.failed;
    kiln_text_free(&number);
}

static void print_value(const emitter *em, int i) {
    const kiln_node *n = &em->b->node[i];
    if (n->op == KILN_OP_CONST)
        print_constant(em, n->value);
    else if (n->op == KILN_OP_RESULT)
        kiln_text_add(em->out, "acc");
    else if (n->op == KILN_OP_OPERAND)
        em->part->operand(em->part->context, n->operand, em->out);
    else if (em->reduction[i] >= 0)
        kiln_text_printf(em->out, "r%d", em->reduction[i]);
    else
        kiln_text_printf(em->out, "t%d", i);
}

static void print_error(const emitter *em, int i) {
    const kiln_node *n = &em->b->node[i];
    if (n->op == KILN_OP_CONST && (double)(float)n->value != n->value) {
        kiln_text_add(em->out, "(U * fabs(");
        print_value(em, i);
        kiln_text_add(em->out, "))");
    } else if (n->op == KILN_OP_CONST || n->op == KILN_OP_OPERAND) {
        kiln_text_add(em->out, "0.0");
    } else if (n->op == KILN_OP_RESULT) {
        kiln_text_add(em->out, "acc_error");
    } else {
        kiln_text_printf(em->out, em->reduction[i] >= 0 ? "re%d" : "e%d",
                         em->reduction[i] >= 0 ? em->reduction[i] : i);
    }
}

/* ---- float emission */

/* A divisor that is one value for the whole row has a macro of its own: its reciprocal can leave
 * the loop along the row. */
static void print_macro(kiln_op op, bool row_divisor, kiln_text *out) {
    kiln_text_add(out, "K_");
    if (op == KILN_OP_DIV) {
        kiln_text_add(out, row_divisor ? "DIV_ROW" : "DIV");
        return;
    }
    if (op == KILN_OP_LT || op == KILN_OP_LE) {
        kiln_text_add(out, op == KILN_OP_LT ? "LT" : "LE");
        return;
    }
    for (const char *c = kiln_op_name(op); *c; c++)
        kiln_text_printf(out, "%c", toupper((unsigned char)*c));
    if (op == KILN_OP_MAX2 || op == KILN_OP_MIN2) kiln_text_add(out, "2");
}

static void emit_node(emitter *em, int i) {
    const kiln_node *n = &em->b->node[i];
    kiln_op op = (kiln_op)n->op;
    kiln_text_printf(em->out, "%sREAL t%d = ", em->part->indent, i);
    if (op >= KILN_OP_ADD && op <= KILN_OP_MUL) {
        print_value(em, n->arg[0]);
        kiln_text_printf(em->out, " %s ", kiln_op_name(op));
        print_value(em, n->arg[1]);
        kiln_text_add(em->out, ";\n");
        return;
    }
    print_macro(op, op == KILN_OP_DIV && n->wide && !em->b->node[n->arg[1]].wide, em->out);
    for (int k = 0; k < kiln_op_arity(op); k++) {
        kiln_text_add(em->out, k ? ", " : "(");
        print_value(em, n->arg[k]);
    }
    kiln_text_add(em->out, ");\n");
}

/* ---- bounded emission: the rules of expr_bounds.h as text, their one-letter names replaced */

#define STRING_(x) #x
#define TEXT(...) STRING_((__VA_ARGS__))
static const struct {
    const char *value, *error;
} rules[KILN_OP_COUNT] = {
#define X(name, value, error) [KILN_OP_##name] = {TEXT(value), TEXT(error)},
    KILN_BOUNDS(X)
#undef X
};

static bool in_word(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.'; }

static void print_letter(const emitter *em, int i, char letter) {
    const kiln_node *n = &em->b->node[i];
    if (letter == 't')
        kiln_text_printf(em->out, "t%d", i);
    else if (letter >= 'x')
        print_error(em, n->arg[letter - 'x']);
    else
        print_value(em, n->arg[letter - 'a']);
}

static void print_rule(const emitter *em, int i, const char *rule) {
    for (const char *at = rule; *at;) {
        size_t n = 1;
        if (in_word(*at))
            while (in_word(at[n])) n++;
        if (n == 1 && strchr("abctxyz", *at))
            print_letter(em, i, *at);
        else
            kiln_text_add_bytes(em->out, at, n);
        at += n;
    }
}

static void emit_bounded_node(emitter *em, int i) {
    kiln_op op = (kiln_op)em->b->node[i].op;
    kiln_text_printf(em->out, "%sdouble t%d = ", em->part->indent, i);
    print_rule(em, i, rules[op].value);
    kiln_text_printf(em->out, ";\n%sdouble e%d = ", em->part->indent, i);
    print_rule(em, i, rules[op].error);
    kiln_text_add(em->out, ";\n");
}

/* ---- parts */

static void assign(emitter *em, char letter, const char *name, int number, int value) {
    kiln_text_printf(em->out, "%s%c%s", em->part->indent, letter, name);
    if (number >= 0) kiln_text_printf(em->out, "%d", number);
    kiln_text_add(em->out, " = ");
    print_value(em, value);
    kiln_text_add(em->out, ";\n");
    if (!em->bounded) return;
    kiln_text_printf(em->out, "%s%ce%s", em->part->indent, letter, name);
    if (number >= 0) kiln_text_printf(em->out, "%d", number);
    kiln_text_add(em->out, " = ");
    print_error(em, value);
    kiln_text_add(em->out, ";\n");
}

static void emit(const kiln_body *b, const kiln_emit_part *part, bool bounded, kiln_text *out) {
    emitter em = {.b = b, .part = part, .out = out, .bounded = bounded};
    prepare(&em);
    for (int i = 0; i < b->n_nodes; i++) {
        if (!em.needed[i] || em.reduction[i] >= 0 || !kiln_op_arity((kiln_op)b->node[i].op))
            continue;
        if (bounded)
            emit_bounded_node(&em, i);
        else
            emit_node(&em, i);
    }
    for (int i = 0; i < b->n_nodes; i++)
        if (accumulates(&em, i)) assign(&em, 'a', "", em.reduction[i], b->node[i].arg[0]);
    for (int i = 0; i < b->n_statements; i++)
        if (stores(&em, &b->statement[i])) {
            char name[KILN_NAME_MAX + 2] = "_";
            strcat(name, b->statement[i].name);
            assign(&em, 'o', name, -1, b->statement[i].node);
        }
}

void kiln_body_emit(const kiln_body *b, const kiln_emit_part *part, kiln_text *out) {
    emit(b, part, false, out);
}

void kiln_body_emit_bounded(const kiln_body *b, const kiln_emit_part *part, kiln_text *out) {
    emit(b, part, true, out);
}

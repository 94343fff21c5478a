#include "kernels/expr.h"
#include "kernels/expr_private.h"

#include <string.h>

typedef struct printer {
    const kiln_body *b;
    const kiln_names *names;
    kiln_text *out;
    int statement; /* the one being printed: earlier ones have names to use */
} printer;

/* How tightly the text of an operation binds. */
enum { LOOSE, COMPARE, SUM, PRODUCT, UNARY, PRIMARY };

static int binding(kiln_op op) {
    switch (op) {
    case KILN_OP_LT:
    case KILN_OP_LE:
        return COMPARE;
    case KILN_OP_ADD:
    case KILN_OP_SUB:
        return SUM;
    case KILN_OP_MUL:
    case KILN_OP_DIV:
        return PRODUCT;
    case KILN_OP_NEG:
        return UNARY;
    default:
        return PRIMARY;
    }
}

static const char *earlier_name(const printer *pr, int node) {
    if (!kiln_op_arity((kiln_op)pr->b->node[node].op)) return NULL;
    for (int i = 0; i < pr->statement; i++)
        if (pr->b->statement[i].node == node) return pr->b->statement[i].name;
    return NULL;
}

static void print_node(const printer *pr, int i, int context);

static void print_leaf(const printer *pr, const kiln_node *n) {
    if (n->op == KILN_OP_CONST)
        kiln_number_print(n->value, false, pr->out);
    else if (n->op == KILN_OP_RESULT)
        kiln_text_add(pr->out, pr->names->result);
    else
        pr->names->operand(pr->names->context, n->operand, pr->out);
}

/* Left operands may bind as tightly as the operator itself, right ones must bind tighter; neither
 * side of a comparison may be a comparison. */
static void print_infix(const printer *pr, const kiln_node *n) {
    int own = binding((kiln_op)n->op);
    print_node(pr, n->arg[0], own == COMPARE ? SUM : own);
    kiln_text_printf(pr->out, " %s ", kiln_op_name((kiln_op)n->op));
    print_node(pr, n->arg[1], own + 1);
}

static void print_call(const printer *pr, const kiln_node *n) {
    kiln_text_printf(pr->out, "%s(", kiln_op_name((kiln_op)n->op));
    for (int k = 0; k < kiln_op_arity((kiln_op)n->op); k++) {
        if (k) kiln_text_add(pr->out, ", ");
        print_node(pr, n->arg[k], LOOSE);
    }
    kiln_text_add(pr->out, ")");
}

static void print_node(const printer *pr, int i, int context) {
    const kiln_node *n = &pr->b->node[i];
    const char *name = earlier_name(pr, i);
    int own = binding((kiln_op)n->op);
    if (name) {
        kiln_text_add(pr->out, name);
        return;
    }
    if (own < context) kiln_text_add(pr->out, "(");
    if (!kiln_op_arity((kiln_op)n->op)) {
        print_leaf(pr, n);
    } else if (own == UNARY) {
        kiln_text_add(pr->out, "-");
        print_node(pr, n->arg[0], UNARY);
    } else if (own < UNARY) {
        print_infix(pr, n);
    } else {
        print_call(pr, n);
    }
    if (own < context) kiln_text_add(pr->out, ")");
}

void kiln_body_print(const kiln_body *b, const kiln_names *names, kiln_text *out) {
    printer pr = {.b = b, .names = names, .out = out};
    for (; pr.statement < b->n_statements; pr.statement++) {
        const kiln_statement *s = &b->statement[pr.statement];
        if (pr.statement) kiln_text_add(out, "; ");
        if (s->operand >= 0)
            names->operand(names->context, s->operand, out);
        else
            kiln_text_add(out, s->name);
        kiln_text_add(out, " = ");
        print_node(&pr, s->node, LOOSE);
    }
}

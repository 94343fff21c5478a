#include "kernels/expr.h"
#include "kernels/expr_bounds.h"
#include "kernels/expr_private.h"

#include <math.h>
#include <string.h>

/* What is known of one row: finished reductions, and sums of absolute values for their errors. */
typedef struct row {
    const kiln_body *b;
    const double *const *in;
    const kiln_bounded *result;
    double u;
    kiln_bounded reduced[KILN_NODES_MAX]; /* by node */
    double magnitude[KILN_NODES_MAX];
    kiln_bounded node[KILN_NODES_MAX];
} row;

static kiln_bounded apply(kiln_op op, const kiln_bounded arg[3], double U) {
    double a = arg[0].value, b = arg[1].value, c = arg[2].value;
    double x = arg[0].error, y = arg[1].error, z = arg[2].error, t = 0, e = 0;
    switch (op) {
#define X(name, rule, error)                                                                       \
    case KILN_OP_##name:                                                                           \
        t = rule;                                                                                  \
        e = error;                                                                                 \
        break;
        KILN_BOUNDS(X)
#undef X
    default:
        break;
    }
    return (kiln_bounded){t, e};
}

double kiln_op_value(kiln_op op, double a, double b, double c) {
    const kiln_bounded arg[3] = {{a, 0}, {b, 0}, {c, 0}};
    return apply(op, arg, 0).value;
}

double kiln_sum_growth(int64_t n) { return n > 1 ? 2 * sqrt((double)n) : 0; }

static kiln_bounded node_value(const row *r, int i, int64_t col) {
    const kiln_node *n = &r->b->node[i];
    kiln_bounded arg[3] = {{0, 0}, {0, 0}, {0, 0}};
    switch (n->op) {
    case KILN_OP_CONST: {
        bool exact = (double)(float)n->value == n->value;
        return (kiln_bounded){n->value, exact ? 0 : r->u * fabs(n->value)};
    }
    case KILN_OP_OPERAND:
        return (kiln_bounded){r->in[n->operand][n->wide ? col : 0], 0};
    case KILN_OP_RESULT:
        return r->result ? r->result[col] : (kiln_bounded){NAN, 0};
    default:
        break;
    }
    if (kiln_op_reduces((kiln_op)n->op)) return r->reduced[i];
    for (int k = 0; k < kiln_op_arity((kiln_op)n->op); k++) arg[k] = r->node[n->arg[k]];
    return apply((kiln_op)n->op, arg, r->u);
}

static void start_reductions(row *r, int phase) {
    for (int i = 0; i < r->b->n_nodes; i++) {
        kiln_op op = (kiln_op)r->b->node[i].op;
        if (!kiln_op_reduces(op) || r->b->node[i].phase != phase) continue;
        r->reduced[i] = (kiln_bounded){op == KILN_OP_RMAX   ? -INFINITY
                                       : op == KILN_OP_RMIN ? INFINITY
                                                            : 0,
                                       0};
        r->magnitude[i] = 0;
    }
}

static void accumulate(row *r, int phase) {
    for (int i = 0; i < r->b->n_nodes; i++) {
        kiln_op op = (kiln_op)r->b->node[i].op;
        if (!kiln_op_reduces(op) || r->b->node[i].phase != phase) continue;
        kiln_bounded a = r->node[r->b->node[i].arg[0]], *to = &r->reduced[i];
        if (op == KILN_OP_RMAX)
            *to = (kiln_bounded){fmax(to->value, a.value), fmax(to->error, a.error)};
        else if (op == KILN_OP_RMIN)
            *to = (kiln_bounded){fmin(to->value, a.value), fmax(to->error, a.error)};
        else
            *to = (kiln_bounded){to->value + a.value, to->error + a.error};
        r->magnitude[i] += fabs(a.value);
    }
}

static void finish_reductions(row *r, int phase, int64_t cols) {
    for (int i = 0; i < r->b->n_nodes; i++) {
        kiln_op op = (kiln_op)r->b->node[i].op;
        if ((op != KILN_OP_SUM && op != KILN_OP_MEAN) || r->b->node[i].phase != phase) continue;
        r->reduced[i].error += kiln_sum_growth(cols) * r->u * r->magnitude[i];
        if (op == KILN_OP_SUM) continue;
        r->reduced[i].value /= (double)cols;
        r->reduced[i].error /= (double)cols;
        r->reduced[i].error += 5 * r->u * fabs(r->reduced[i].value);
    }
}

static void store(const row *r, int64_t col, kiln_bounded *const *out) {
    for (int i = 0; i < r->b->n_statements; i++)
        if (out[i]) out[i][col] = r->node[r->b->statement[i].node];
}

/* One pass over the row per phase; a pass computes whatever is known by then. */
int kiln_body_eval(const kiln_body *b, const double *const *in, const kiln_bounded *result,
                   int64_t cols, double float_roundoff, kiln_bounded *const *out, kiln_error *e) {
    row r = {.b = b, .in = in, .result = result, .u = float_roundoff};
    for (int i = 0; i < b->n_nodes; i++)
        if (b->node[i].op == KILN_OP_RESULT && !result)
            return kiln_fail(e, KILN_BAD_INPUT,
                             "the statements read the family's result, and "
                             "none was given to evaluate them with");
    for (int phase = 0; phase < b->n_phases; phase++) {
        start_reductions(&r, phase);
        for (int64_t col = 0; col < cols; col++) {
            for (int i = 0; i < b->n_nodes; i++)
                if (kiln_node_ready(b, i) <= phase) r.node[i] = node_value(&r, i, col);
            accumulate(&r, phase);
            if (phase == b->n_phases - 1) store(&r, col, out);
        }
        finish_reductions(&r, phase, cols);
    }
    return 0;
}

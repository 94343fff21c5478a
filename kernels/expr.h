/* The fusion language: the statements of a problem.
 *
 *     h = x + y; out = h * rsqrt(mean(h*h) + 1e-5) * w[col]
 *
 * A statement assigns to a name. A name is
 *   - an operand of the problem, read (input) or written (output), with its axes in brackets:
 *     bias[n], res[m,n]; no brackets means every axis of the family ("x" is x[row,col]),
 *   - a local, assigned before it is used,
 *   - in families that compute something first, its result: `acc` in matmul, `score` in attention.
 * Operators: + - * / unary -, comparisons < <= > >= (1 or 0), parentheses. Functions: the list
 * below. sum, mean, and max or min of ONE argument reduce over the last axis (a row); their value
 * is the same for the whole row. Arithmetic is float on the device, double in the evaluator.
 *
 * Parsed statements are plain values without pointers: copy them freely. Nodes are shared (equal
 * subexpressions are one node), constants are folded, and parse(print(b)) == b. */
#ifndef KILN_KERNELS_EXPR_H
#define KILN_KERNELS_EXPR_H

#include "base/status.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, text, number of arguments, kind): kind is LEAF, INFIX, CALL or REDUCE. */
#define KILN_OPS(X)                                                                                \
    X(CONST, "const", 0, LEAF)                                                                     \
    X(OPERAND, "operand", 0, LEAF)                                                                 \
    X(RESULT, "result", 0, LEAF)                                                                   \
    X(ADD, "+", 2, INFIX)                                                                          \
    X(SUB, "-", 2, INFIX)                                                                          \
    X(MUL, "*", 2, INFIX)                                                                          \
    X(DIV, "/", 2, INFIX)                                                                          \
    X(LT, "<", 2, INFIX)                                                                           \
    X(LE, "<=", 2, INFIX)                                                                          \
    X(NEG, "neg", 1, CALL)                                                                         \
    X(ABS, "abs", 1, CALL)                                                                         \
    X(EXP, "exp", 1, CALL)                                                                         \
    X(LOG, "log", 1, CALL)                                                                         \
    X(SQRT, "sqrt", 1, CALL)                                                                       \
    X(RSQRT, "rsqrt", 1, CALL)                                                                     \
    X(TANH, "tanh", 1, CALL)                                                                       \
    X(ERF, "erf", 1, CALL)                                                                         \
    X(SIGMOID, "sigmoid", 1, CALL)                                                                 \
    X(RELU, "relu", 1, CALL)                                                                       \
    X(SILU, "silu", 1, CALL)                                                                       \
    X(GELU, "gelu", 1, CALL)           /* exact: x (1 + erf(x / sqrt 2)) / 2 */                    \
    X(GELU_TANH, "gelu_tanh", 1, CALL) /* the tanh form of Hendrycks and Gimpel */                 \
    X(FLOOR, "floor", 1, CALL)                                                                     \
    X(MAX2, "max", 2, CALL)                                                                        \
    X(MIN2, "min", 2, CALL)                                                                        \
    X(SELECT, "select", 3, CALL) /* select(c, a, b): a where c is not 0 */                         \
    X(SUM, "sum", 1, REDUCE)                                                                       \
    X(MEAN, "mean", 1, REDUCE)                                                                     \
    X(RMAX, "max", 1, REDUCE)                                                                      \
    X(RMIN, "min", 1, REDUCE)

typedef enum kiln_op {
#define X(name, text, arity, kind) KILN_OP_##name,
    KILN_OPS(X)
#undef X
        KILN_OP_COUNT
} kiln_op;

const char *kiln_op_name(kiln_op op);
int kiln_op_arity(kiln_op op);
bool kiln_op_reduces(kiln_op op);

enum { KILN_NODES_MAX = 192, KILN_STATEMENTS_MAX = 24, KILN_NAME_MAX = 16 };

typedef struct kiln_node {
    uint8_t op;      /* kiln_op */
    uint8_t phase;   /* how many row reductions must be finished before this value exists; of a
                        reduction: before its argument does (its own value comes one later) */
    uint8_t wide;    /* 1: differs along the row; 0: one value for the whole row */
    uint8_t operand; /* OPERAND: index into the problem's operands */
    int16_t arg[3];  /* nodes, all smaller than this node's index: nodes are in SSA order */
    double value;    /* CONST */
} kiln_node;

typedef struct kiln_statement {
    char name[KILN_NAME_MAX]; /* as written */
    int16_t operand;          /* output operand it stores to, or -1 for a local */
    int16_t node;             /* its value */
} kiln_statement;

/* All statements of a problem. */
typedef struct kiln_body {
    int n_nodes, n_statements;
    int n_phases; /* 1 + the longest chain of row reductions; 1 for elementwise */
    kiln_node node[KILN_NODES_MAX];
    kiln_statement statement[KILN_STATEMENTS_MAX];
} kiln_body;

/* How the parser learns what a name is. */
typedef struct kiln_scope {
    /* Resolves a name with axes (bit i: axis i was named; -1: no brackets) to an operand index,
     * or KILN_SCOPE_RESULT for the family's own result, or KILN_SCOPE_NONE. output: it is the
     * target of an assignment (a local when the answer is NONE). */
    int (*resolve)(void *context, const char *name, int axes, bool output, kiln_error *e);
    void *context;
    const char *const *axis; /* the family's axis names, NULL-terminated */
    /* bit of the axis along which rows run (the last): decides node.wide of an operand */
    bool (*is_wide)(void *context, int operand);
} kiln_scope;
enum { KILN_SCOPE_NONE = -1, KILN_SCOPE_RESULT = -2, KILN_SCOPE_ERROR = -3 };

/* Parses `text` (statements separated by ';'). An error names the column and what was expected. */
int kiln_body_parse(kiln_body *b, const char *text, const kiln_scope *scope, kiln_error *e);

/* Canonical text: minimal parentheses, one space around infix operators, "; " between statements,
 * constants so that they read back equal. `operand` prints operand i with its axes ("bias[n]");
 * `result` is the name of RESULT. */
typedef struct kiln_names {
    void (*operand)(void *context, int operand, kiln_text *out);
    void *context;
    const char *result;
} kiln_names;
void kiln_body_print(const kiln_body *b, const kiln_names *names, kiln_text *out);

/* ---- evaluation in double, with a running bound on the error a float evaluation may make ---- */

typedef struct kiln_bounded {
    double value, error; /* |float result - value| <= error, to first order */
} kiln_bounded;

/* Evaluates one row. in[operand] points to `cols` doubles (wide) or to one (not wide); result may
 * be NULL or hold `cols` values with their error; out[i] receives the `cols` values of statement i
 * that stores (others NULL). float_roundoff is that of the device's arithmetic (2^-24).
 * The rules of the bound are those of running error analysis (Higham, Accuracy and Stability of
 * Numerical Algorithms, section 3.3), 4 units for elementary functions, and the probabilistic
 * sqrt(n) growth (Higham and Mary 2019) for sums. */
int kiln_body_eval(const kiln_body *b, const double *const *in, const kiln_bounded *result,
                   int64_t cols, double float_roundoff, kiln_bounded *const *out, kiln_error *e);

/* A float sum of n terms is off by at most kiln_sum_growth(n) * u * (sum of |terms|), whatever its
 * order, with a probability so high that no test of ours will see the exception: 2 sqrt(n) is
 * lambda = 2 in Higham and Mary's bound, six standard deviations of a plain loop over equal terms.
 * mean adds 5 u of its value for the division. Reference kernels use the same. */
double kiln_sum_growth(int64_t n);

/* ---- emission ----
 * Text of C statements, one per node that is needed, in SSA order: `REAL t7 = t3 + t5;`.
 * The kernel body has, before this text:
 *   - x_NAME    a REAL holding the element of operand NAME (already converted to float),
 *   - acc       a REAL holding RESULT,
 *   - r0, r1 .. REALs holding finished row reductions, numbered by kiln_body_reductions order.
 * and after it finds o_NAME (declared before as REAL) assigned for every output operand whose
 * value is known in this phase range. Math is spelled K_EXP(x) .. K_MAX2(a, b): targets' dialect
 * headers define those for the type REAL (float, or a float vector in OpenCL). */

/* The reduction nodes, in SSA order; returns their number. phase of reduction i = node.phase, the
 * phase in which its ARGUMENT is accumulated: an argument of phase p is available once all
 * reductions of phase < p are finished. */
int kiln_body_reductions(const kiln_body *b, int16_t node[], int max);

typedef struct kiln_emit_part {
    int phase;       /* reductions of a lower phase are r<i>; */
    bool reductions; /* emit the arguments of reductions of this phase: a<i> = value; */
    bool outputs;    /* emit o_NAME = value for every stored statement */
    const char *indent;
    /* operand i's variable name, e.g. "x_bias" */
    void (*operand)(void *context, int operand, kiln_text *out);
    void *context;
} kiln_emit_part;
void kiln_body_emit(const kiln_body *b, const kiln_emit_part *part, kiln_text *out);

/* The same for a reference kernel: values in double with their error bound, names t<i> and e<i>
 * (double); inputs x_NAME (error 0), acc and acc_error, r<i> and re<i>; outputs o_NAME, oe_NAME;
 * reduction arguments a<i>, ae<i>. U is the macro for the float unit roundoff. */
void kiln_body_emit_bounded(const kiln_body *b, const kiln_emit_part *part, kiln_text *out);

/* Which operands the values of a part read: sets read[i]. */
void kiln_body_reads(const kiln_body *b, const kiln_emit_part *part, bool read[], int n);

/* Float operations per row element, for the roofline: + - * / min max compare count 1, functions
 * count 8, reductions 1. */
double kiln_body_flops(const kiln_body *b);

#endif

/* The fusion language: reading, printing, evaluating; and, on an OpenCL device, that emitted code
 * computes what the evaluator says, within the bound that both derive. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/expr.h"
#include "targets/target.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* ---- a scope of its own: wide x y w, one per row s[row], a scalar c, outputs out h r[row] */

static const struct {
    const char *name;
    int axes;
    bool output;
} operands[] = {{"x", 3, false}, {"y", 3, false},  {"w", 2, false}, {"s", 1, false},
                {"c", 0, false}, {"out", 3, true}, {"h", 3, true},  {"r", 1, true}};
enum { N_OPERANDS = 8, N_INPUTS = 5, OUT = 5 };

static int resolve(void *context, const char *name, int axes, bool output, kiln_error *e) {
    (void)context;
    if (!strcmp(name, "acc")) return KILN_SCOPE_RESULT;
    for (int i = 0; i < N_OPERANDS; i++) {
        if (strcmp(operands[i].name, name)) continue;
        int bare = operands[i].axes == 3 || operands[i].axes == 0 ? operands[i].axes : -2;
        if (operands[i].output == output && (axes < 0 ? bare : axes) == operands[i].axes) return i;
        kiln_fail(e, KILN_BAD_INPUT, "scope: wrong use of %s", name);
        return KILN_SCOPE_ERROR;
    }
    return KILN_SCOPE_NONE;
}

static bool is_wide(void *context, int operand) {
    (void)context;
    return operands[operand].axes & 2;
}

static void print_operand(void *context, int i, kiln_text *out) {
    (void)context;
    kiln_text_add(out, operands[i].name);
    if (operands[i].axes == 1) kiln_text_add(out, "[row]");
    if (operands[i].axes == 2) kiln_text_add(out, "[col]");
}

static const char *const axes[] = {"row", "col", NULL};
static const kiln_scope scope = {resolve, NULL, axes, is_wide};
static const kiln_names names = {print_operand, NULL, "acc"};

static kiln_body body_of(const char *text) {
    kiln_body b;
    kiln_error e = {0};
    if (kiln_body_parse(&b, text, &scope, &e)) fail_msg("'%s': %s", text, e.text);
    return b;
}

static void expect_print(const char *text, const char *canonical) {
    kiln_text out = {0}, again = {0};
    kiln_body b = body_of(text);
    kiln_body_print(&b, &names, &out);
    assert_string_equal(kiln_text_get(&out), canonical);
    kiln_body c = body_of(kiln_text_get(&out));
    assert_memory_equal(&b, &c, sizeof b);
    kiln_body_print(&c, &names, &again);
    assert_string_equal(kiln_text_get(&again), canonical);
    kiln_text_free(&out);
    kiln_text_free(&again);
}

static void expect_error(const char *text, const char *part) {
    kiln_body b;
    kiln_error e = {0};
    if (kiln_body_parse(&b, text, &scope, &e) != KILN_BAD_INPUT) fail_msg("'%s' was read", text);
    if (!strstr(e.text, part)) fail_msg("'%s': '%s' lacks '%s'", text, e.text, part);
}

/* ---- reading and printing */

static void prints_canonically(void **state) {
    (void)state;
    expect_print("out=x+y*2", "out = x + y * 2");
    expect_print("out = ((x) + (y)) * (x - (y - x))", "out = (x + y) * (x - (y - x))");
    expect_print("out = x/(y*x)/y", "out = x / (y * x) / y");
    expect_print("out = -(x*y) - -x;", "out = -(x * y) - -x");
    expect_print("out = - - x", "out = --x");
    expect_print("out = x > y", "out = y < x");
    expect_print("out = (x >= y) <= (x < 2)", "out = (y <= x) <= (x < 2)");
    expect_print("out = select(x < 0, -1, max(x, y))", "out = select(x < 0, -1, max(x, y))");
    expect_print("out = x * w[ col ] + s[row] * c", "out = x * w[col] + s[row] * c");
    expect_print("r[row] = sum(x); out = acc", "r[row] = sum(x); out = acc");
    expect_print("out = max(x) + min(x, y) + mean(x)", "out = max(x) + min(x, y) + mean(x)");
}

static void folds_constants(void **state) {
    (void)state;
    expect_print("out = x * (1 + 2 * 3)", "out = x * 7");
    expect_print("out = x * 1e-05 + 2.50 + 1E20", "out = x * 1e-5 + 2.5 + 1e20");
    expect_print("out = x + sqrt(4) - -3", "out = x + 2 - -3");
    expect_print("out = x * (1 / 3)", "out = x * 0.3333333333333333");
    expect_print("out = -(2) * x + .5", "out = -2 * x + 0.5");
    expect_print("out = 0.1 + 0.2 + x", "out = 0.30000000000000004 + x");
    expect_print("out = 7", "out = 7");
    expect_print("k = 3; out = x * k", "out = x * 3");
}

static void shares_and_names(void **state) {
    (void)state;
    expect_print("t = x + y; out = t * t", "t = x + y; out = t * t");
    expect_print("t = x + y; out = (x + y) * t", "t = x + y; out = t * t");
    expect_print("t = x; out = t + y", "out = x + y");
    expect_print("h = x + y; out = h * 2", "h = x + y; out = h * 2");
    expect_print("h = x; out = h * 2", "h = x; out = x * 2");
    expect_print("t = x + y; h = t; out = t", "t = x + y; h = t; out = t");
    kiln_body b = body_of("out = (x + y) * (x + y)");
    assert_int_equal(b.n_nodes, 4);
}

static void knows_phases_and_width(void **state) {
    (void)state;
    kiln_body b = body_of("e = exp(x - max(x)); out = e / sum(e)");
    int16_t node[8];
    assert_int_equal(b.n_phases, 3);
    assert_int_equal(kiln_body_reductions(&b, node, 8), 2);
    assert_int_equal(b.node[node[0]].phase, 0);
    assert_int_equal(b.node[node[1]].phase, 1);
    assert_int_equal(b.node[node[1]].wide, 0);
    assert_int_equal(b.node[b.statement[1].node].phase, 2);
    assert_int_equal(b.node[b.statement[1].node].wide, 1);
    b = body_of("out = x * 2");
    assert_int_equal(b.n_phases, 1);
    b = body_of("h = x - mean(x); out = h * rsqrt(mean(h * h) + 1e-5)");
    assert_int_equal(b.n_phases, 3);
    b = body_of("r[row] = s[row] * 2 + sum(x * sum(y))");
    assert_int_equal(b.n_phases, 3);
    for (int i = 0; i < b.n_nodes; i++)
        for (int k = 0; k < kiln_op_arity((kiln_op)b.node[i].op); k++)
            assert_true(b.node[i].arg[k] >= 0 && b.node[i].arg[k] < i);
}

static void says_what_is_wrong(void **state) {
    (void)state;
    expect_error("", "column 1: expected a name, found the end");
    expect_error("out = x +", "column 10: expected a number, a name or '('");
    expect_error("out = x y", "column 9: expected an operator, ';' or the end, found 'y'");
    expect_error("out = (x", "expected ')'");
    expect_error("out x", "column 5: expected '='");
    expect_error("out = zz", "unknown name 'zz'");
    expect_error("out = foo(x)", "no function 'foo'; there are abs exp");
    expect_error("out = exp(x, y)", "exp does not take 2 arguments");
    expect_error("out = max(x, y, x, y)", "too many arguments");
    expect_error("out = exp", "needs its arguments in parentheses");
    expect_error("sum = x", "'sum' is a function");
    expect_error("out = x; out = y", "assigned twice");
    expect_error("oot = x", "'oot' is assigned but never used");
    expect_error("acc = x", "cannot be assigned");
    expect_error("t[row] = x", "has axes but no type");
    expect_error("out = out + x", "scope: wrong use of out");
    expect_error("r[row] = x", "one element per row");
    expect_error("r[row] = x * mean(x)", "one element per row");
    expect_error("out = w[clo]", "'clo' is no axis here; axes are [row,col]");
    expect_error("out = x[col,row]", "'row' is no axis here");
    expect_error("out = 0 < x < 1", "do not chain");
    expect_error("out = 1e", "lacks the digits");
    expect_error("out = 1.2.3", "no number");
    expect_error("out = 0x10", "no number");
    expect_error("out = 1e39", "no 32-bit float");
    expect_error("out = x / (1 / 0)", "no 32-bit float");
    expect_error("out = log(-1) * x", "no 32-bit float");
    expect_error("out = x;; h = y", "expected a name, found ';'");
    expect_error("out = x \x01", "found byte 0x01");
    expect_error("averyverylongname = x", "longer than 15");
    expect_error("out = nan + x", "unknown name 'nan'");
}

static void bounds_its_resources(void **state) {
    (void)state;
    char text[4000] = "out = ";
    for (int i = 0; i < 70; i++) strcat(text, "(");
    expect_error(text, "nested deeper");
    strcpy(text, "out = ");
    for (int i = 0; i < 70; i++) strcat(text, "-");
    expect_error(strcat(text, "x"), "nested deeper");
    strcpy(text, "out = x");
    for (int i = 0; i < 200; i++) sprintf(text + strlen(text), " + %d", i);
    expect_error(text, "more than 192 operations");
    *text = 0;
    for (int i = 0; i < 25; i++) sprintf(text + strlen(text), "t%d = x; ", i);
    expect_error(text, "more than 24 statements");
}

static void flops_and_reads(void **state) {
    (void)state;
    kiln_body b = body_of("out = gelu(acc + w[col]) * s[row]");
    kiln_emit_part part = {.outputs = true, .indent = ""};
    bool read[N_OPERANDS] = {false};
    kiln_body_reads(&b, &part, read, N_OPERANDS);
    assert_true(read[2] && read[3] && !read[0] && !read[1] && !read[4]);
    assert_true(kiln_body_flops(&b) == 10);
    b = body_of("out = x - mean(x)");
    assert_true(kiln_body_flops(&b) == 2);
}

/* ---- evaluation */

enum { COLS = 13 };
typedef struct row_data {
    double x[COLS], y[COLS], w[COLS], s, c;
    const double *in[N_OPERANDS];
    kiln_bounded acc[COLS];
} row_data;

static void fill_row(row_data *d, uint64_t seed) {
    uint64_t n = 0;
    double *const arrays[] = {d->x, d->y, d->w};
    for (int a = 0; a < 3; a++)
        for (int i = 0; i < COLS; i++) arrays[a][i] = (float)(2 * kiln_random_unit(seed, n++) - 1);
    d->s = (float)kiln_random_unit(seed, n++);
    d->c = (float)(2 * kiln_random_unit(seed, n++) - 1);
    for (int i = 0; i < COLS; i++)
        d->acc[i] = (kiln_bounded){(float)(2 * kiln_random_unit(seed, n++) - 1), 0};
    const double *in[N_OPERANDS] = {d->x, d->y, d->w, &d->s, &d->c, NULL, NULL, NULL};
    memcpy(d->in, in, sizeof in);
}

static void eval(const char *text, const row_data *d, kiln_bounded out[COLS]) {
    kiln_body b = body_of(text);
    kiln_bounded *to[KILN_STATEMENTS_MAX] = {NULL};
    kiln_error e = {0};
    to[b.n_statements - 1] = out;
    assert_int_equal(kiln_body_eval(&b, d->in, d->acc, COLS, 0x1p-24, to, &e), 0);
}

static void evaluates(void **state) {
    (void)state;
    row_data d;
    kiln_bounded out[COLS], norm[COLS];
    double sum = 0, mean = 0, square = 0;
    fill_row(&d, 1);
    eval("e = exp(x - max(x)); out = e / sum(e)", &d, out);
    for (int i = 0; i < COLS; i++) sum += out[i].value;
    assert_true(fabs(sum - 1) < 1e-14);
    eval("t = x - mean(x); out = t * rsqrt(mean(t * t))", &d, norm);
    for (int i = 0; i < COLS; i++)
        mean += norm[i].value / COLS, square += norm[i].value * norm[i].value;
    assert_true(fabs(mean) < 1e-14 && fabs(square / COLS - 1) < 1e-13);
    eval("out = select(x < y, gelu(acc), silu(acc)) + min(w[col]) * c", &d, out);
    double least = d.w[0];
    for (int i = 1; i < COLS; i++) least = fmin(least, d.w[i]);
    for (int i = 0; i < COLS; i++) {
        double a = d.acc[i].value, g = a * 0.5 * (1 + erf(a / sqrt(2))), s = a / (1 + exp(-a));
        double want = (d.x[i] < d.y[i] ? g : s) + least * d.c;
        assert_true(fabs(out[i].value - want) < 1e-14);
        assert_true(out[i].error > 0 && out[i].error < 1e-5);
    }
}

/* The bound says "unknown" where an error reaches a jump or the end of a domain. */
static void bounds_jumps(void **state) {
    (void)state;
    row_data d;
    kiln_bounded out[COLS];
    fill_row(&d, 2);
    for (int i = 0; i < COLS; i++) d.acc[i] = (kiln_bounded){0, 1e-6};
    eval("out = acc < 0", &d, out);
    assert_true(out[0].error == 1);
    eval("out = select(acc, 3, 5)", &d, out);
    assert_true(out[0].error >= 2);
    eval("out = floor(acc)", &d, out);
    assert_true(out[0].error >= 1);
    eval("out = 1 / acc", &d, out);
    assert_true(!(out[0].error < 1e30));
    eval("out = sqrt(acc)", &d, out);
    assert_true(!(out[0].error < 1e30));
    eval("out = log(acc)", &d, out);
    assert_true(!(out[0].error < 1e30));
    eval("out = exp(x + 100)", &d, out);
    assert_true(!(out[0].error < 1e30));
    eval("out = x < 3", &d, out);
    assert_true(out[0].error == 0);
}

/* ---- random texts */

typedef struct generator {
    uint64_t seed, n;
    kiln_text *out;
    int locals, room;
    bool reduce;
} generator;

static int dice(generator *g, int n) { return (int)(kiln_random64(g->seed, g->n++) % (uint64_t)n); }

static void random_leaf(generator *g) {
    static const char *const leaves[] = {"x", "y", "w[col]", "s[row]", "c", "acc"};
    static const char *const numbers[] = {"1", "0.5", "3", "1e-3", "2.25", "0.1"};
    int k = dice(g, 9);
    if (k == 8 && g->locals)
        kiln_text_printf(g->out, "t%d", dice(g, g->locals));
    else if (k >= 6)
        kiln_text_add(g->out, numbers[dice(g, 6)]);
    else
        kiln_text_add(g->out, leaves[k]);
}

static void random_expression(generator *g, int depth) {
    static const char *const infix[] = {" + ", "-", "*", " / ", " < ", ">=", "<=", " > ", "+", "*"};
    int k = depth ? dice(g, 10) : 0;
    if (k < 2 || --g->room < 0) {
        random_leaf(g);
    } else if (k < 6) {
        kiln_text_add(g->out, "(");
        random_expression(g, depth - 1);
        kiln_text_add(g->out, infix[dice(g, 10)]);
        random_expression(g, depth - 1);
        kiln_text_add(g->out, ")");
    } else if (k == 6) {
        kiln_text_add(g->out, "-");
        random_expression(g, depth - 1);
    } else {
        int op = KILN_OP_ABS + dice(g, KILN_OP_COUNT - KILN_OP_ABS);
        if (kiln_op_reduces((kiln_op)op) && !g->reduce) op = KILN_OP_TANH;
        kiln_text_printf(g->out, "%s(", kiln_op_name((kiln_op)op));
        for (int i = 0; i < kiln_op_arity((kiln_op)op); i++) {
            if (i) kiln_text_add(g->out, ",");
            random_expression(g, depth - 1);
        }
        kiln_text_add(g->out, ")");
    }
}

/* Locals t0 t1 .., all of them used by the last statement. */
static void random_text(uint64_t seed, kiln_text *out) {
    generator g = {.seed = seed, .out = out, .room = 30, .reduce = true};
    int n = dice(&g, 4);
    kiln_text_clear(out);
    for (; g.locals < n; g.locals++) {
        kiln_text_printf(out, "t%d = ", g.locals);
        random_expression(&g, 3);
        kiln_text_add(out, ";");
    }
    kiln_text_add(out, "out = ");
    random_expression(&g, 4);
    for (int i = 0; i < n; i++) kiln_text_printf(out, " + t%d", i);
}

static uint64_t base_seed(void) {
    const char *given = getenv("KILN_TEST_SEED");
    return given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
}

static void random_texts_read_back(void **state) {
    (void)state;
    uint64_t seed = base_seed();
    kiln_text text = {0}, printed = {0};
    int read = 0;
    printf("seed: KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    for (uint64_t i = 0; i < 3000; i++) {
        kiln_body b;
        kiln_error e = {0};
        random_text(kiln_random64(seed, i), &text);
        if (kiln_body_parse(&b, kiln_text_get(&text), &scope, &e)) continue; /* 1/0 and the like */
        read++;
        kiln_text_clear(&printed);
        kiln_body_print(&b, &names, &printed);
        kiln_body c = body_of(kiln_text_get(&printed));
        if (memcmp(&b, &c, sizeof b))
            fail_msg("'%s' printed as '%s' reads differently", kiln_text_get(&text),
                     kiln_text_get(&printed));
    }
    assert_true(read > 1500);
    kiln_text_free(&text);
    kiln_text_free(&printed);
}

/* ---- emission */

static void operand_variable(void *context, int i, kiln_text *out) {
    (void)context;
    kiln_text_printf(out, "x_%s", operands[i].name);
}

static void emits_what_it_says(void **state) {
    (void)state;
    kiln_body b = body_of("h = x + y; out = h * rsqrt(mean(h * h) + 1e-5) - max(x, 1)");
    kiln_emit_part part = {
        .phase = 0, .reductions = true, .indent = " ", .operand = operand_variable};
    kiln_text out = {0};
    kiln_body_emit(&b, &part, &out);
    assert_string_equal(kiln_text_get(&out),
                        " REAL t2 = x_x + x_y;\n REAL t3 = t2 * t2;\n a0 = t3;\n");
    part = (kiln_emit_part){.phase = 1, .outputs = true, .indent = "", .operand = operand_variable};
    kiln_text_clear(&out);
    kiln_body_emit(&b, &part, &out);
    assert_string_equal(kiln_text_get(&out),
                        "REAL t2 = x_x + x_y;\nREAL t6 = r0 + (REAL)(1e-5f);\n"
                        "REAL t7 = K_RSQRT(t6);\nREAL t8 = t2 * t7;\n"
                        "REAL t10 = K_MAX2(x_x, (REAL)(1.0f));\nREAL t11 = t8 - t10;\n"
                        "o_h = t2;\no_out = t11;\n");
    part = (kiln_emit_part){.phase = 0, .outputs = true, .indent = "", .operand = operand_variable};
    kiln_text_clear(&out);
    kiln_body_emit(&b, &part, &out);
    assert_string_equal(kiln_text_get(&out), "REAL t2 = x_x + x_y;\no_h = t2;\n");
    kiln_text_free(&out);
}

/* One kernel that runs a body on one row, in float or in double with bounds. */
static void write_inputs(kiln_text *out, const char *type) {
    static const char *const from[] = {"j", "COLS + j", "2 * COLS + j", "4 * COLS", "4 * COLS + 1"};
    for (int i = 0; i < N_INPUTS; i++)
        kiln_text_printf(out, "const %s x_%s = in_[%s];\n", type, operands[i].name, from[i]);
    kiln_text_printf(out, "const %s acc = in_[3 * COLS + j], acc_error = 0;\n(void)acc_error;\n",
                     type);
}

static const char *combine(kiln_op op) {
    return op == KILN_OP_RMAX ? "fmax" : op == KILN_OP_RMIN ? "fmin" : "ADD";
}

static void write_reductions(const kiln_body *b, int phase, const char *type, bool bounded,
                             kiln_emit_part part, kiln_text *out) {
    int16_t node[KILN_NODES_MAX];
    int n = kiln_body_reductions(b, node, KILN_NODES_MAX);
    for (int i = 0; i < n; i++) {
        kiln_op op = (kiln_op)b->node[node[i]].op;
        const char *start = op == KILN_OP_RMAX   ? "-INFINITY"
                            : op == KILN_OP_RMIN ? "INFINITY"
                                                 : "0";
        if (b->node[node[i]].phase == phase)
            kiln_text_printf(out, "%s r%d = %s, re%d = 0, m%d = 0;\n", type, i, start, i, i);
    }
    kiln_text_add(out, "for (int j = 0; j < COLS; j++) {\n");
    write_inputs(out, type);
    for (int i = 0; i < n; i++)
        if (b->node[node[i]].phase == phase)
            kiln_text_printf(out, "%s a%d, ae%d = 0;\n", type, i, i);
    part.phase = phase;
    part.reductions = true;
    (bounded ? kiln_body_emit_bounded : kiln_body_emit)(b, &part, out);
    for (int i = 0; i < n; i++) {
        kiln_op op = (kiln_op)b->node[node[i]].op;
        if (b->node[node[i]].phase == phase)
            kiln_text_printf(out, "r%d = %s(r%d, a%d); m%d += fabs(a%d); re%d = %s(re%d, ae%d);\n",
                             i, combine(op), i, i, i, i, i,
                             op == KILN_OP_RMAX || op == KILN_OP_RMIN ? "fmax" : "ADD", i, i);
    }
    kiln_text_add(out, "}\n");
    for (int i = 0; i < n; i++) {
        kiln_op op = (kiln_op)b->node[node[i]].op;
        if (b->node[node[i]].phase != phase || op == KILN_OP_RMAX || op == KILN_OP_RMIN) continue;
        kiln_text_printf(out, "re%d += %.17g * U * m%d;\n", i, kiln_sum_growth(COLS), i);
        if (op == KILN_OP_MEAN)
            kiln_text_printf(out, "r%d /= COLS; re%d = re%d / COLS + 5 * U * fabs(r%d);\n", i, i, i,
                             i);
    }
}

static void write_kernel(const kiln_body *b, int number, bool bounded, kiln_text *out) {
    const char *type = bounded ? "double" : "float";
    kiln_emit_part part = {.indent = "    ", .operand = operand_variable};
    kiln_text_printf(out, "KERNEL(1, 1, 1) %s_%d(GLOBAL const float *in_, GLOBAL %s *to) {\n",
                     bounded ? "bounded" : "plain", number, type);
    for (int phase = 0; phase + 1 < b->n_phases; phase++)
        write_reductions(b, phase, type, bounded, part, out);
    kiln_text_add(out, "for (int j = 0; j < COLS; j++) {\n");
    write_inputs(out, type);
    kiln_text_printf(out, "%s o_out, oe_out = 0;\n", type);
    part.phase = b->n_phases - 1;
    part.outputs = true;
    (bounded ? kiln_body_emit_bounded : kiln_body_emit)(b, &part, out);
    kiln_text_add(out, "to[2 * j] = o_out; to[2 * j + 1] = oe_out; }\n}\n");
}

enum { BODIES = 24 };
typedef struct device_test {
    const kiln_target *t;
    kiln_device *d;
    kiln_module *m;
    kiln_buffer in, out;
    float input[4 * COLS + 2];
} device_test;

static void make_bodies(uint64_t seed, kiln_body body[BODIES], kiln_text *unit) {
    kiln_text text = {0};
    kiln_text_add(unit, kiln_embedded("targets/opencl/dialect.h"));
    kiln_text_printf(unit,
                     "#define REAL float\n#define U 5.9604644775390625e-8\n#define COLS %d\n"
                     "#define ADD(a, b) ((a) + (b))\n",
                     COLS);
    for (uint64_t n = 0, i = 0; n < BODIES; i++) {
        kiln_error e = {0};
        random_text(kiln_random64(seed, 100000 + i), &text);
        if (kiln_body_parse(&body[n], kiln_text_get(&text), &scope, &e)) continue;
        kiln_text_printf(unit, "/* %s */\n", kiln_text_get(&text));
        write_kernel(&body[n], (int)n, false, unit);
        write_kernel(&body[n], (int)n, true, unit);
        n++;
    }
    kiln_text_free(&text);
}

static void run_kernel(device_test *s, const char *entry, void *out, int64_t bytes) {
    kiln_error e = {0};
    kiln_launch l = {.grid = {1, 1, 1}, .block = {1, 1, 1}, .n_args = 2};
    l.arg[0] = (kiln_arg){.kind = KILN_ARG_OPERAND, .index = 0};
    l.arg[1] = (kiln_arg){.kind = KILN_ARG_OPERAND, .index = 1};
    kiln_buffer operand[] = {s->in, s->out};
    double scalar[2] = {0, 0};
    kiln_bindings bind = {.operand = operand, .scalar = scalar};
    kiln_kernel *k = s->t->kernel(s->d, s->m, entry, &e);
    if (!k || s->t->launch(s->d, k, &l, &bind, NULL, &e) || s->t->sync(s->d, &e) ||
        s->t->read(s->d, out, s->out, 0, bytes, &e))
        fail_msg("%s: %s", entry, e.text);
}

/* The emitted double code says what the evaluator says; the float code is within the bound.
 * Returns how many elements had a bound that could fail. */
static int check_body(device_test *s, const kiln_body *b, int n, const row_data *d) {
    char entry[32];
    float plain[2 * COLS];
    double bounded[2 * COLS];
    kiln_bounded want[COLS], *to[KILN_STATEMENTS_MAX] = {NULL};
    kiln_error e = {0};
    int checked = 0;
    snprintf(entry, sizeof entry, "plain_%d", n);
    run_kernel(s, entry, plain, sizeof plain);
    snprintf(entry, sizeof entry, "bounded_%d", n);
    run_kernel(s, entry, bounded, sizeof bounded);
    to[b->n_statements - 1] = want;
    assert_int_equal(kiln_body_eval(b, d->in, d->acc, COLS, 0x1p-24, to, &e), 0);
    for (int j = 0; j < COLS; j++) {
        double value = bounded[2 * j], bound = bounded[2 * j + 1];
        if (isnan(want[j].value) || fabs(want[j].value) > 1e30 || !(want[j].error < 1e3)) continue;
        checked++;
        double scale = fabs(want[j].value) + want[j].error / 0x1p-24;
        if (!(fabs(value - want[j].value) <= 1e-12 * scale &&
              fabs(bound - want[j].error) <= 1e-6 * want[j].error + 1e-30))
            fail_msg("body %d col %d: emitted %.17g +- %g, evaluated %.17g +- %g", n, j, value,
                     bound, want[j].value, want[j].error);
        if (!(fabs(plain[2 * j] - value) <= bound + 1.2e-38))
            fail_msg("body %d col %d: float %.9g, double %.17g, bound %g", n, j, plain[2 * j],
                     value, bound);
    }
    return checked;
}

static bool open_device(device_test *s, const char *source) {
    kiln_error e = {0};
    kiln_blob blob = {0}, ptx = {0};
    kiln_text log = {0};
    kiln_compile_request request = {.source = source};
    kiln_caps caps[4];
    s->t = kiln_target_find("opencl");
    if (!s->t || s->t->devices(caps, 4, &e) < 1) return false;
    s->d = s->t->open(0, NULL, &e);
    if (!s->d) fail_msg("%s", e.text);
    if (s->t->compile(s->t->caps(s->d), &request, &blob, &ptx, &log, &e))
        fail_msg("%s\n%.3000s", e.text, kiln_text_get(&log));
    s->m = s->t->load(s->d, blob.data, blob.size, &e);
    if (!s->m) fail_msg("%s", e.text);
    s->in = s->t->alloc(s->d, sizeof s->input, &e);
    s->out = s->t->alloc(s->d, 2 * COLS * sizeof(double), &e);
    free(blob.data);
    kiln_text_free(&log);
    return s->in && s->out;
}

static void emitted_code_agrees(void **state) {
    (void)state;
    static kiln_body body[BODIES];
    uint64_t seed = base_seed();
    device_test s = {0};
    kiln_text unit = {0};
    row_data d;
    kiln_error e = {0};
    printf("seed: KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    make_bodies(seed, body, &unit);
    if (!open_device(&s, kiln_text_get(&unit))) {
        print_message("SKIPPED: no OpenCL device; emitted code was not run\n");
        skip();
    }
    int checked = 0;
    fill_row(&d, seed);
    const double *const arrays[] = {d.x, d.y, d.w};
    for (int i = 0; i < COLS; i++) {
        for (int a = 0; a < 3; a++) s.input[a * COLS + i] = (float)arrays[a][i];
        s.input[3 * COLS + i] = (float)d.acc[i].value;
    }
    s.input[4 * COLS] = (float)d.s;
    s.input[4 * COLS + 1] = (float)d.c;
    assert_int_equal(s.t->write(s.d, s.in, 0, s.input, sizeof s.input, &e), 0);
    for (int n = 0; n < BODIES; n++) checked += check_body(&s, &body[n], n, &d);
    assert_true(checked > BODIES * COLS / 4);
    s.t->release(s.d, s.in);
    s.t->release(s.d, s.out);
    s.t->unload(s.d, s.m);
    s.t->close(s.d);
    kiln_text_free(&unit);
}

/* ---- the CUDA dialect's short functions, without a GPU: their constants are read out of the
 * header, their steps repeated in C, and the special unit errs by as much as its manual allows */

/* The first `count` float constants of a function of the dialect, in their order. */
static void constants_of(const char *function, float *to, int count) {
    const char *at = strstr(kiln_embedded("targets/cuda/dialect.h"), function);
    int n = 0;
    assert_non_null(at);
    at = strchr(at, '{');
    for (const char *end = strstr(at, "\n}"); at < end && n < count; at++) {
        char *behind;
        if (!strchr("(, ", *at) || !strchr("-0123456789", at[1])) continue;
        const float value = strtof(at + 1, &behind);
        if (behind == at + 1 || *behind != 'f') continue;
        to[n++] = value;
        at = behind;
    }
    assert_int_equal(n, count);
}

static float flushed(double x) { return x < 0x1p-126 ? 0.0f : (float)x; }

static float gelu_near(const float *k, float x, double slip) {
    const float a = fminf(fabsf(x), k[0]);
    float q = fmaf(a, k[1], k[2]);
    for (int i = 3; i < 7; i++) q = fmaf(q, a, k[i]);
    return fmaf(-a, flushed(exp2((double)q) * (1 + slip)), fmaxf(x, 0));
}

static float logistic_near(float x, double slip) {
    const float below = 1 + flushed(exp2((double)x) * (1 + slip));
    return flushed(1 / (double)below * (1 + slip / 2));
}

static float gelu_tanh_near(const float *k, float x, double slip) {
    return x * logistic_near(x * fmaf(x * x, k[0], k[1]), slip);
}

/* (value, bound) of a function at COLS floats. */
static void compare_near(const char *text, float (*near)(const float *, float, double),
                         const float *k, const float *x) {
    row_data d;
    kiln_bounded out[COLS];
    fill_row(&d, 3);
    for (int i = 0; i < COLS; i++) d.acc[i] = (kiln_bounded){(double)x[i], 0};
    eval(text, &d, out);
    for (int i = 0; i < COLS; i++)
        for (int side = -1; side <= 1; side++) {
            const double got = (double)near(k, x[i], side * 0x1p-22);
            if (!(fabs(got - out[i].value) <= out[i].error))
                fail_msg("%s at %.9g: %.9g, not %.9g within %.3g", text, (double)x[i], got,
                         out[i].value, out[i].error);
        }
}

static void cuda_gelu_keeps_its_bound(void **state) {
    float k[7], kt[2], x[COLS];
    (void)state;
    constants_of("FUNC float k_gelu(float x)", k, 7);
    constants_of("FUNC float k_gelu_tanh(float x)", kt, 2);
    for (uint32_t bits = 0x38000000u, n = 0; bits < 0x42c80000u; bits += 97) { /* 2^-15 to 100 */
        const uint32_t both = bits | (bits / 97 % 2) << 31;
        memcpy(&x[n++], &both, 4);
        if (n < COLS) continue;
        compare_near("out = gelu(acc)", gelu_near, k, x);
        compare_near("out = gelu_tanh(acc)", gelu_tanh_near, kt, x);
        n = 0;
    }
    assert_true(isinf(gelu_near(k, INFINITY, 0)) && gelu_near(k, -INFINITY, 0) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prints_canonically), cmocka_unit_test(folds_constants),
        cmocka_unit_test(shares_and_names),   cmocka_unit_test(knows_phases_and_width),
        cmocka_unit_test(says_what_is_wrong), cmocka_unit_test(bounds_its_resources),
        cmocka_unit_test(flops_and_reads),    cmocka_unit_test(evaluates),
        cmocka_unit_test(bounds_jumps),       cmocka_unit_test(random_texts_read_back),
        cmocka_unit_test(emits_what_it_says), cmocka_unit_test(emitted_code_agrees),
        cmocka_unit_test(cuda_gelu_keeps_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

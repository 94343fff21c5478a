#include "kernels/expr.h"
#include "kernels/expr_private.h"

#include <assert.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEAF, INFIX, CALL, REDUCE };
static const struct {
    const char *text;
    uint8_t arity, kind;
} ops[KILN_OP_COUNT] = {
#define X(name, text, arity, kind) [KILN_OP_##name] = {text, arity, kind},
    KILN_OPS(X)
#undef X
};

const char *kiln_op_name(kiln_op op) { return op < KILN_OP_COUNT ? ops[op].text : "?"; }
int kiln_op_arity(kiln_op op) { return op < KILN_OP_COUNT ? ops[op].arity : 0; }
bool kiln_op_reduces(kiln_op op) { return op < KILN_OP_COUNT && ops[op].kind == REDUCE; }

int kiln_node_ready(const kiln_body *b, int i) {
    return b->node[i].phase + kiln_op_reduces((kiln_op)b->node[i].op);
}

int kiln_body_reductions(const kiln_body *b, int16_t node[], int max) {
    int n = 0;
    for (int i = 0; i < b->n_nodes; i++) {
        if (!kiln_op_reduces((kiln_op)b->node[i].op)) continue;
        if (n < max) node[n] = (int16_t)i;
        n++;
    }
    return n < max ? n : max;
}

static double op_flops(kiln_op op) {
    switch (op) {
    case KILN_OP_CONST:
    case KILN_OP_OPERAND:
    case KILN_OP_RESULT:
        return 0;
    case KILN_OP_EXP:
    case KILN_OP_LOG:
    case KILN_OP_SQRT:
    case KILN_OP_RSQRT:
    case KILN_OP_TANH:
    case KILN_OP_ERF:
    case KILN_OP_SIGMOID:
    case KILN_OP_SILU:
    case KILN_OP_GELU:
    case KILN_OP_GELU_TANH:
        return 8;
    default:
        return 1;
    }
}

double kiln_body_flops(const kiln_body *b) {
    double flops = 0;
    for (int i = 0; i < b->n_nodes; i++)
        if (b->node[i].wide || kiln_op_reduces((kiln_op)b->node[i].op))
            flops += op_flops((kiln_op)b->node[i].op);
    return flops;
}

/* ---- numbers */

static locale_t plain_locale;
static void make_plain_locale(void) { plain_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static locale_t enter_plain_locale(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_plain_locale);
    return plain_locale ? uselocale(plain_locale) : (locale_t)0;
}

static void leave_plain_locale(locale_t before) {
    if (before) uselocale(before);
}

double kiln_number_parse(const char *text, char **end) {
    locale_t before = enter_plain_locale();
    double value = strtod(text, end);
    leave_plain_locale(before);
    return value;
}

/* "1e-05" and "1e+20" become "1e-5" and "1e20". */
static void shorten_exponent(char *text) {
    char *from = strchr(text, 'e');
    if (!from) return;
    char *to = ++from;
    if (*from == '-') to++;
    if (*from == '-' || *from == '+') from++;
    while (*from == '0' && from[1]) from++;
    memmove(to, from, strlen(from) + 1);
}

void kiln_number_print(double value, bool as_float, kiln_text *out) {
    char text[40];
    int digits = as_float ? FLT_DECIMAL_DIG - 3 : DBL_DECIMAL_DIG - 2;
    int most = as_float ? FLT_DECIMAL_DIG : DBL_DECIMAL_DIG;
    locale_t before = enter_plain_locale();
    for (; digits <= most; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, as_float ? (double)(float)value : value);
        if (as_float ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value) break;
    }
    leave_plain_locale(before);
    shorten_exponent(text);
    kiln_text_add(out, text);
}

/* A problem: one operation with sizes, types, layout and its fused statements.
 *
 *     matmul m=4096 n=14336 k=4096 a=bf16 b=bf16 out=bf16 tb=1 : out = gelu(acc + bias[n])
 *     map rows=16384 cols=8192 x=bf16 y=bf16 out=bf16 : out = x * y
 *     softmax rows=4096 cols=4096 type=f16            (a preset: see kernels/preset.h)
 *
 *   problem  := family (key '=' value)* [':' statements]
 *
 * Keys are those the family declares (sizes, types, flags) and, for any other name, the type of an
 * operand with that name ("bias=f32"); `type=T` gives the type of all operands not named
 * otherwise (matmul's outputs of a row, amax[m], are f32); NAME=scalar declares a run-time float
 * passed by value. The canonical text is the problem's identity everywhere: keys in the family's order, those at their default left out,
 * then operand types that differ from the default, then statements unless they are the default.
 *
 * A kiln_problem is a plain value without owned memory: copy it freely. */
#ifndef KILN_KERNELS_PROBLEM_H
#define KILN_KERNELS_PROBLEM_H

#include "base/status.h"
#include "base/text.h"
#include "kernels/expr.h"
#include "kernels/type.h"

#include <stdbool.h>
#include <stdint.h>

enum { KILN_KEYS_MAX = 20, KILN_OPERANDS_MAX = 12, KILN_AXES_MAX = 4 };

typedef enum kiln_key_kind { KILN_KEY_SIZE, KILN_KEY_TYPE, KILN_KEY_FLAG } kiln_key_kind;

#define KILN_REQUIRED INT64_MIN

typedef struct kiln_key {
    const char *name;
    kiln_key_kind kind;
    int64_t
        fallback;     /* KILN_REQUIRED: must be given. Types: a kiln_type, or KILN_NONE: what
                         the family's operands() chooses for the operand of that name, else `type=` */
    int64_t min, max; /* sizes */
    bool compiled;    /* part of what a kernel is compiled for; otherwise a run-time argument */
    const char *help;
} kiln_key;

/* One array that a program reads or writes. Its element (batch, row, col) lies at
 * batch * batch_stride + row * ld + col, in elements. */
typedef struct kiln_operand {
    char name[KILN_NAME_MAX];
    kiln_type type;
    bool output, scalar; /* scalar: a float passed by value, no array */
    uint8_t axes;        /* statements: bit i set when it has the family's axis i */
    int64_t batch, rows, cols, ld, batch_stride;
} kiln_operand;

typedef struct kiln_problem {
    const struct kiln_family *family;
    int64_t value[KILN_KEYS_MAX]; /* by the family's keys; types as kiln_type */
    kiln_type type;               /* `type=` while operands() runs; KILN_NONE once parsed */
    int n_operands;
    kiln_operand operand[KILN_OPERANDS_MAX]; /* in the order of kernel and API arguments */
    kiln_body body;
} kiln_problem;

/* Parses any text of the language, presets included. The error says what is wrong, where, and
 * what would be right. On failure *p is undefined. */
int kiln_problem_parse(kiln_problem *p, const char *text, kiln_error *e);

/* Appends the canonical text. */
void kiln_problem_print(const kiln_problem *p, kiln_text *out);

/* Appends what compiled code depends on: the canonical text without run-time sizes. Two problems
 * with equal kernel keys can run the same program source. */
void kiln_problem_print_kernel_key(const kiln_problem *p, kiln_text *out);

/* Value of a key by name (an assert when the family has no such key). */
int64_t kiln_problem_get(const kiln_problem *p, const char *key);
/* Changes run-time sizes and derives operands again: used for odd-size checks. Names and values
 * as "m=1023 k=7". */
int kiln_problem_resize(kiln_problem *p, const char *sizes, kiln_error *e);

/* Index of an operand, or -1. */
int kiln_problem_operand(const kiln_problem *p, const char *name);
/* Elements and bytes from the first to the last element of an operand, padding included. */
int64_t kiln_operand_elements(const kiln_operand *o);
int64_t kiln_operand_bytes(const kiln_operand *o);

#endif

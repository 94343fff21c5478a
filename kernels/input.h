/* Input data of problems: uniform in [-1, 1], rounded to the operand's type (i8 and i32: integers
 * from -127 to 127; e4m3 and e5m2: exponents from 2^-6 to 2^1 alike, now and then 0 or subnormal, so
 * that all their bits are in use). Every element is a function of (seed, operand index, position in the array),
 * so that any element can be made again alone, anywhere; positions count modulo a prime near 2^20,
 * which makes filling a gigabyte a matter of copying. Never zeros and never small integers in
 * floats: these draw less power and read too fast (notes in the README of measuring). */
#ifndef KILN_KERNELS_INPUT_H
#define KILN_KERNELS_INPUT_H

#include "kernels/source.h"

/* Elements after which an operand's array begins anew: all of them where it is shorter. */
int64_t kiln_input_period(const kiln_operand *o);
/* Fills just these. */
void kiln_input_fill_period(const kiln_operand *o, uint64_t seed, int operand, void *host);
/* Fills kiln_operand_elements(o) elements at host, padding between rows included. */
void kiln_input_fill(const kiln_operand *o, uint64_t seed, int operand, void *host);
/* One element of the same array: `position` counts elements from its start. */
double kiln_input_element(const kiln_operand *o, uint64_t seed, int operand, int64_t position);
/* The value of a scalar operand: exactly a float, in [-1, 1]. */
double kiln_input_scalar(uint64_t seed, int operand);

/* All inputs of a problem, for an evaluator: holds one period of each as doubles, 8 MB at most. */
typedef struct kiln_input {
    kiln_source source; /* first */
    const kiln_problem *p;
    double *period[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
} kiln_input;
/* p must outlive it; it stays where it was opened. On failure there is nothing to close. */
int kiln_input_open(kiln_input *in, const kiln_problem *p, uint64_t seed, kiln_error *e);
void kiln_input_close(kiln_input *in);

#endif

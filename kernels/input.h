/* Input data of problems: uniform in [-1, 1], rounded to the operand's type (i8 and i32: integers
 * from -127 to 127; e4m3 and e5m2: exponents from 2^-6 to 2^1 alike, now and then 0 or subnormal, so
 * that all their bits are in use). Every element is a function of (seed, operand index, position in the array),
 * so that any element can be made again alone, anywhere; positions count modulo a prime near 2^20,
 * which makes filling a gigabyte a matter of copying. Never zeros and never small integers in
 * floats: these draw less power and read too fast (notes in the README of measuring). */
#ifndef KILN_KERNELS_INPUT_H
#define KILN_KERNELS_INPUT_H

#include "kernels/problem.h"

/* Fills kiln_operand_elements(o) elements at host, padding between rows included. */
void kiln_input_fill(const kiln_operand *o, uint64_t seed, int operand, void *host);
/* One element of the same array: `position` counts elements from its start. */
double kiln_input_element(const kiln_operand *o, uint64_t seed, int operand, int64_t position);
/* The value of a scalar operand: exactly a float, in [-1, 1]. */
double kiln_input_scalar(uint64_t seed, int operand);

#endif

/* What the expr_*.c files share. Nobody else includes this. */
#ifndef KILN_KERNELS_EXPR_PRIVATE_H
#define KILN_KERNELS_EXPR_PRIVATE_H

#include "kernels/expr.h"

/* The operation's value in double; reductions have none. */
double kiln_op_value(kiln_op op, double a, double b, double c);

/* Decimal text and back, whatever the process's locale says. Printing gives the shortest text
 * that reads back equal ("1e-5"); as_float prints the nearest float. */
double kiln_number_parse(const char *text, char **end);
void kiln_number_print(double value, bool as_float, kiln_text *out);

/* The phase from which on node i may be used: a reduction's value comes one phase after its
 * argument was accumulated. */
int kiln_node_ready(const kiln_body *b, int i);

#endif

/* The map family's own view of a problem, shared by launch.c and family.c.
 *
 * A problem is a grid of `rows` by `cols` elements. Where nothing depends on where a row begins
 * (no reduction, every operand [row,col]), the grid is flattened into one row: vectors and tiles
 * then cross row ends, and sizes need not divide. */
#ifndef KILN_KERNELS_MAP_MAP_H
#define KILN_KERNELS_MAP_MAP_H

#include "kernels/family.h"

enum { KILN_MAP_ROW = 1, KILN_MAP_COL = 2, KILN_MAP_FULL = 3 }; /* axes of an operand */
enum { KILN_MAP_PHASES_MAX = 4 };

typedef struct kiln_map_shape {
    int64_t rows, cols; /* as the kernel sees them: 1 and rows*cols when flat */
    bool flat;          /* one long row */
    bool by_row;        /* a block or work-item sees whole rows: reductions, or an output [row] */
    int n_phases;
    int full_inputs; /* inputs [row,col] */
    int full;        /* operands [row,col] */
    int widest;      /* bytes of the largest element type of an operand that vectors touch */
    bool full_output;
} kiln_map_shape;

kiln_map_shape kiln_map_shape_of(const kiln_problem *p);
/* The reduction whose argument is worth keeping in memory until the last phase, because the last
 * phase wants the same value and it is dear (softmax: exp(x - max)); -1 if there is none. */
int kiln_map_kept(const kiln_problem *p);
/* Largest power of two that divides n, at most `most`: what vectors may be wide in rows of n. */
int kiln_map_divisor(int64_t n, int most);

extern const kiln_family kiln_family_map;
extern const kiln_variant kiln_map_simt, kiln_map_cpu;

/* Their generators' functions (family.h, kiln_variant_generator). */
#define KILN_MAP_GENERATOR(name)                                                                   \
    bool kiln_map_##name##_applies(const kiln_problem *p, const kiln_caps *caps, kiln_text *why);  \
    void kiln_map_##name##_space(const kiln_problem *p, const kiln_caps *caps, kiln_space *out);   \
    kiln_schedule kiln_map_##name##_start(const kiln_problem *p, const kiln_caps *caps);           \
    int kiln_map_##name##_source(const kiln_problem *p, const kiln_caps *caps,                     \
                                 const kiln_schedule *s, kiln_text *out, kiln_error *e);
KILN_MAP_GENERATOR(simt)
KILN_MAP_GENERATOR(cpu)

/* What both emitters share (emit.c): the kernel's parameter list, the lists of operands and
 * reductions that the bodies walk through, the statements as device functions on REAL. */
void kiln_map_emit_lists(const kiln_problem *p, kiln_text *out, kiln_text *undefs);
void kiln_map_emit_functions(const kiln_problem *p, kiln_text *out);
/* The last phase for a body that kept the argument of reduction `kept`: NAME(finish_kept) finds it
 * in q->a<kept>; EACH_FULL_KEPT and EACH_COL_KEPT list what it still reads. */
void kiln_map_emit_kept(const kiln_problem *p, int kept, kiln_text *out, kiln_text *undefs);
/* Arguments of the launch: operands in order, then rows and cols. */
void kiln_map_arguments(const kiln_problem *p, kiln_launch *l);

#endif

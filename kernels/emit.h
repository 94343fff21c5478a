/* The emitter: from a problem and a schedule to one compilation unit.
 *
 * A unit is: the target's dialect header once, then per program
 *     #define NAME(x) kiln_<suffix>_##x       so that programs can share a unit
 *     #define TM 64 ...                       one per knob, upper case
 *     #define ...                             what the family adds: types, flags, sizes of types
 *     statements as device functions
 *     the body file
 *     #undef of all of the above
 * Bodies are real files (.k.c and .cuh in kernels/FAMILY) embedded by the Makefile. */
#ifndef KILN_KERNELS_EMIT_H
#define KILN_KERNELS_EMIT_H

#include "kernels/family.h"

/* A file embedded at build time; path from the root, e.g. "kernels/matmul/simt.k.c". NULL if
 * there is none (a bug). */
const char *kiln_embedded(const char *path);

/* #define with automatic #undef at the end of the program. */
void kiln_emit_define(kiln_text *out, kiln_text *undefs, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* An embedded file, whose macros end with the program: another program of the unit may define them
 * otherwise, and a compiler that only warns of that keeps the first. For bodies without #undefs of
 * their own. */
void kiln_emit_body(kiln_text *out, kiln_text *undefs, const char *path);
/* Knobs as upper-case macros. */
void kiln_emit_knobs(kiln_text *out, kiln_text *undefs, const kiln_schedule *s);

/* The unit for n schedules of one problem. suffix[i] (at least 17 chars) receives the hexadecimal
 * name that entries carry: entry "main" of program i is "kiln_<suffix>_main". It is derived from
 * the program's own text, so equal programs have equal names. */
int kiln_emit_unit(const kiln_problem *p, const kiln_caps *caps, const kiln_schedule *schedules,
                   int n, char (*suffix)[20], kiln_text *out, kiln_error *e);
/* The unit with the reference program and the comparison kernel; entries "kiln_reference_...". */
int kiln_emit_reference_unit(const kiln_problem *p, const kiln_caps *caps, kiln_text *out,
                             kiln_error *e);

#endif

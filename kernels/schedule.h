/* A schedule: a variant with a value for each of its knobs. Text: "cpu mr=12 nr=32 kc=512 ...",
 * every knob in the variant's order; parse(print(s)) == s. */
#ifndef KILN_KERNELS_SCHEDULE_H
#define KILN_KERNELS_SCHEDULE_H

#include "base/status.h"
#include "base/text.h"

#include <stdint.h>

enum { KILN_KNOBS_MAX = 24, KILN_KNOB_VALUES_MAX = 24 };

/* One name everywhere: in the space, in the text, and (upper case) as the kernel's macro. */
typedef struct kiln_knob {
    const char *name;
    int fallback; /* value in the default schedule and in the kernel file's own #ifndef */
    const char *help;
} kiln_knob;

struct kiln_variant;
struct kiln_family;

typedef struct kiln_schedule {
    const struct kiln_variant *variant;
    int value[KILN_KNOBS_MAX];
} kiln_schedule;

int kiln_schedule_get(const kiln_schedule *s, const char *knob); /* assert: the knob exists */
void kiln_schedule_set(kiln_schedule *s, const char *knob, int value);
void kiln_schedule_print(const kiln_schedule *s, kiln_text *out);
int kiln_schedule_parse(const struct kiln_family *f, kiln_schedule *s, const char *text,
                        kiln_error *e);

/* The values each knob may take for one problem on one device; a candidate is one of each. The
 * product is the raw space; the family's legality rules cut it down. Point i of the raw space is
 * the mixed-radix number i, last knob fastest. */
typedef struct kiln_knob_values {
    int n, value[KILN_KNOB_VALUES_MAX];
} kiln_knob_values;

typedef struct kiln_space {
    const struct kiln_variant *variant;
    kiln_knob_values knob[KILN_KNOBS_MAX]; /* a knob left empty has its fallback only */
} kiln_space;

void kiln_space_add(kiln_space *space, const char *knob, int n, const int values[]);
int64_t kiln_space_size(const kiln_space *space);
kiln_schedule kiln_space_at(const kiln_space *space, int64_t index);

#endif

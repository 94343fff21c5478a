/* A device from the line that names it in a record (kiln_caps_identity): replay, reports and models
 * need a device's numbers where no such device is. */
#ifndef KILN_TUNER_IDENTITY_H
#define KILN_TUNER_IDENTITY_H

#include "targets/target.h"

/* Names, units, memory and versions are the line's; the rest follows from the architecture where it
 * is known ("sm_90a"), and is what any GPU or CPU has where it is not: *guessed, which may be NULL,
 * says which. The identity of the result is the line again. */
int kiln_identity_parse(const char *line, kiln_caps *caps, bool *guessed, kiln_error *e);

#endif

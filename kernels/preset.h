/* Presets: names for often used problems. A preset is a text, not code: "softmax rows=.. cols=.."
 * is read as the preset's family and statements with the given keys. */
#ifndef KILN_KERNELS_PRESET_H
#define KILN_KERNELS_PRESET_H

typedef struct kiln_preset {
    const char *name;
    const char *family;
    const char *keys; /* operand declarations; $T stands for the value of type= (f32) */
    const char *statements;
    const char *help;
} kiln_preset;

extern const kiln_preset kiln_presets[]; /* ends with a NULL name */

#endif

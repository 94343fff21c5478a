/* What the bodies cannot write themselves: the parameter list, lists of operands and reductions
 * that macros walk through, and the statements as device functions.
 *
 * A list is a macro EACH_...(X) that expands to X(...) for every entry. Operand NAME is passed as
 * _NAME, so that no operand's name can meet a macro: p_NAME is its pointer (a scalar: its value),
 * x_NAME an input's element, o_NAME an output's. */
#include "kernels/map/map.h"

#include "kernels/emit.h"

#include <stdio.h>

/* A kept value stands in the body as an operand behind the last (kiln_map_emit_kept). */
static void operand_name(void *context, int operand, kiln_text *out) {
    const kiln_problem *p = context;
    if (operand < p->n_operands) kiln_text_printf(out, "q->x_%s", p->operand[operand].name);
    else kiln_text_printf(out, "q->a%d", operand - p->n_operands);
}

static kiln_emit_part part_of(const kiln_problem *p, int phase) {
    const bool last = phase == p->body.n_phases - 1;
    return (kiln_emit_part){.phase = phase,
                            .reductions = !last,
                            .outputs = last,
                            .indent = "    ",
                            .operand = operand_name,
                            .context = (void *)(uintptr_t)p};
}

static void define(kiln_text *out, kiln_text *undefs, const char *name, int phase, int last,
                   kiln_text *value) {
    kiln_text full = {0};
    kiln_text_add(&full, name);
    if (phase >= 0 && phase == last) kiln_text_add(&full, "_LAST");
    if (phase >= 0 && phase != last) kiln_text_printf(&full, "_%d", phase);
    kiln_text_printf(out, "#define %s%s %s\n", kiln_text_get(&full), phase == -2 ? "" : "(X)",
                     kiln_text_get(value));
    kiln_text_printf(undefs, "#undef %s\n", kiln_text_get(&full));
    if (full.failed || value->failed) out->failed = true;
    kiln_text_free(&full);
    kiln_text_free(value);
}

static void emit_parameters(const kiln_problem *p, kiln_text *out, kiln_text *undefs) {
    kiln_text list = {0};
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar)
            kiln_text_printf(&list, "const float p_%s, ", o->name);
        else
            kiln_text_printf(&list, "GLOBAL %sSTORAGE(%s) *RESTRICT p_%s, ",
                             o->output ? "" : "const ", kiln_type_name(o->type), o->name);
    }
    kiln_text_add(&list, "const i64 rows, const i64 cols");
    define(out, undefs, "PARAMETERS", -2, 0, &list);
}

/* Inputs with these axes that `read` marks (NULL: all). */
static void emit_inputs(const kiln_problem *p, const char *name, int phase, int axes,
                        const bool *read, kiln_text *out, kiln_text *undefs) {
    kiln_text list = {0};
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->output && !o->scalar && o->axes == axes && (!read || read[i]))
            kiln_text_printf(&list, "X(_%s, %s) ", o->name, kiln_type_name(o->type));
    }
    define(out, undefs, name, phase, p->body.n_phases - 1, &list);
}

static void emit_narrow(const kiln_problem *p, kiln_text *out, kiln_text *undefs) {
    kiln_text rows = {0}, scalars = {0};
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) kiln_text_printf(&scalars, "X(_%s) ", o->name);
        if (!o->scalar && !o->output && !(o->axes & KILN_MAP_COL))
            kiln_text_printf(&rows, "X(_%s, %s, %d) ", o->name, kiln_type_name(o->type),
                             o->axes & KILN_MAP_ROW);
    }
    define(out, undefs, "EACH_ROW", -1, 0, &rows);
    define(out, undefs, "EACH_SCALAR", -1, 0, &scalars);
}

static void emit_outputs(const kiln_problem *p, kiln_text *out, kiln_text *undefs) {
    kiln_text full = {0}, narrow = {0};
    int n_full = 0, n_narrow = 0;
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (!o->output) continue;
        const bool wide = o->axes & KILN_MAP_COL;
        *(wide ? &n_full : &n_narrow) += 1;
        kiln_text_printf(wide ? &full : &narrow, "X(_%s, %s) ", o->name, kiln_type_name(o->type));
    }
    define(out, undefs, "EACH_OUT", -1, 0, &full);
    define(out, undefs, "EACH_ROW_OUT", -1, 0, &narrow);
    kiln_emit_define(out, undefs, "OUTS", "%d", n_full);
    kiln_emit_define(out, undefs, "ROW_OUTS", "%d", n_narrow);
}

/* X(index, operation: 0 sum 1 max 2 min, 1 for a mean) */
static void emit_reductions(const kiln_problem *p, int phase, kiln_text *out, kiln_text *undefs) {
    int16_t node[KILN_NODES_MAX];
    const int n = kiln_body_reductions(&p->body, node, KILN_NODES_MAX);
    kiln_text list = {0};
    for (int i = 0; i < n; i++) {
        const kiln_node *r = &p->body.node[node[i]];
        if (r->phase != phase) continue;
        kiln_text_printf(&list, "X(%d, %d, %d) ", i,
                         r->op == KILN_OP_RMAX ? 1 : r->op == KILN_OP_RMIN ? 2 : 0,
                         r->op == KILN_OP_MEAN);
    }
    define(out, undefs, "EACH_REDUCTION", phase, -1, &list);
}

void kiln_map_emit_lists(const kiln_problem *p, kiln_text *out, kiln_text *undefs) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    kiln_emit_define(out, undefs, "PHASES", "%d", m.n_phases);
    kiln_emit_define(out, undefs, "BY_ROW", "%d", m.by_row);
    kiln_emit_define(out, undefs, "FLAT", "%d", m.flat);
    emit_parameters(p, out, undefs);
    emit_inputs(p, "EACH_FULL", -1, KILN_MAP_FULL, 0, out, undefs);
    emit_inputs(p, "EACH_COL", -1, KILN_MAP_COL, 0, out, undefs);
    for (int phase = 0; phase < m.n_phases; phase++) {
        const kiln_emit_part part = part_of(p, phase);
        bool read[KILN_OPERANDS_MAX] = {false};
        kiln_body_reads(&p->body, &part, read, p->n_operands);
        emit_inputs(p, "EACH_FULL", phase, KILN_MAP_FULL, read, out, undefs);
        emit_inputs(p, "EACH_COL", phase, KILN_MAP_COL, read, out, undefs);
        if (part.reductions) emit_reductions(p, phase, out, undefs);
    }
    emit_narrow(p, out, undefs);
    emit_outputs(p, out, undefs);
}

/* ---- statements */

static void emit_point(const kiln_problem *p, int reductions, kiln_text *out) {
    kiln_text_add(out, "typedef struct NAME(point) {\n");
    for (int i = 0; i < p->n_operands; i++)
        kiln_text_printf(out, "    REAL %c_%s;\n", p->operand[i].output ? 'o' : 'x',
                         p->operand[i].name);
    for (int i = 0; i < reductions; i++) kiln_text_printf(out, "    REAL r%d, a%d;\n", i, i);
    kiln_text_add(out, "} NAME(point);\n");
}

/* Declares r<i> of finished reductions, a<i> of this phase's. */
static void emit_reduction_names(const kiln_problem *p, const int16_t *node, int n, int phase,
                                 kiln_text *out) {
    for (int i = 0; i < n; i++) {
        const int when = p->body.node[node[i]].phase;
        if (when < phase) kiln_text_printf(out, "    REAL r%d = q->r%d;\n", i, i);
        if (when == phase) kiln_text_printf(out, "    REAL a%d = (REAL)(0.0f);\n", i);
    }
}

static void emit_function(const kiln_problem *p, const char *name, const int16_t *node, int n,
                          int phase, kiln_text *out) {
    const kiln_emit_part part = part_of(p, phase);
    kiln_text_printf(out, "FUNC void NAME(%s)(NAME(point) *q) {\n", name);
    emit_reduction_names(p, node, n, phase, out);
    for (int i = 0; part.outputs && i < p->n_operands; i++)
        if (p->operand[i].output)
            kiln_text_printf(out, "    REAL o_%s = (REAL)(0.0f);\n", p->operand[i].name);
    kiln_body_emit(&p->body, &part, out);
    for (int i = 0; part.outputs && i < p->n_operands; i++)
        if (p->operand[i].output)
            kiln_text_printf(out, "    q->o_%s = o_%s;\n", p->operand[i].name,
                             p->operand[i].name);
    for (int i = 0; i < n; i++)
        if (p->body.node[node[i]].phase == phase)
            kiln_text_printf(out, "    q->a%d = a%d;\n", i, i);
    kiln_text_add(out, "}\n");
}

void kiln_map_emit_functions(const kiln_problem *p, kiln_text *out) {
    int16_t node[KILN_NODES_MAX];
    const int n = kiln_body_reductions(&p->body, node, KILN_NODES_MAX);
    emit_point(p, n, out);
    for (int phase = 0; phase < p->body.n_phases; phase++) {
        char name[24] = "finish";
        if (phase < p->body.n_phases - 1) snprintf(name, sizeof name, "phase_%d", phase);
        emit_function(p, name, node, n, phase, out);
    }
}

void kiln_map_emit_kept(const kiln_problem *p, int kept, kiln_text *out, kiln_text *undefs) {
    int16_t node[KILN_NODES_MAX];
    bool read[KILN_OPERANDS_MAX] = {false};
    kiln_problem q = *p;
    const int n = kiln_body_reductions(&q.body, node, KILN_NODES_MAX), last = q.body.n_phases - 1;
    kiln_node *value = &q.body.node[q.body.node[node[kept]].arg[0]];
    value->op = KILN_OP_OPERAND;
    value->operand = (uint8_t)(p->n_operands + kept);
    const kiln_emit_part part = part_of(&q, last);
    kiln_body_reads(&q.body, &part, read, p->n_operands);
    emit_inputs(p, "EACH_FULL_KEPT", -1, KILN_MAP_FULL, read, out, undefs);
    emit_inputs(p, "EACH_COL_KEPT", -1, KILN_MAP_COL, read, out, undefs);
    emit_function(&q, "finish_kept", node, n, last, out);
}

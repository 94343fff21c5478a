#include "kernels/map/map.h"

#include <assert.h>
#include <string.h>

enum { SIZE_MAX_ = 1 << 30 };

static const kiln_key keys[] = {
    {"rows", KILN_KEY_SIZE, KILN_REQUIRED, 1, SIZE_MAX_, false, "rows"},
    {"cols", KILN_KEY_SIZE, KILN_REQUIRED, 1, SIZE_MAX_, false, "elements in a row"},
    {0},
};

/* All operands of a map come from its keys and statements. */
static int operands(kiln_problem *p, kiln_error *e) {
    (void)p, (void)e;
    return KILN_OK;
}

static bool type_known(kiln_type t) {
    return t == KILN_F32 || t == KILN_F16 || t == KILN_BF16 || t == KILN_I8 || t == KILN_I32;
}

static int check_operand(const kiln_operand *o, kiln_error *e) {
    if (!o->scalar && !type_known(o->type))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "operand %s has type %s; map takes f32, f16, bf16, i8 and i32", o->name,
                         kiln_type_name(o->type));
    if (o->output && o->scalar)
        return kiln_fail(e, KILN_BAD_INPUT, "%s is a scalar and cannot be assigned to", o->name);
    if (o->output && !(o->axes & KILN_MAP_ROW))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "output %s must have the row axis (%s or %s[row]): every row writes it",
                         o->name, o->name, o->name);
    return KILN_OK;
}

static int check(const kiln_problem *p, kiln_error *e) {
    int inputs = 0, outputs = 0;
    for (int i = 0; i < p->n_operands; i++) {
        int status = check_operand(&p->operand[i], e);
        if (status) return status;
        *(p->operand[i].output ? &outputs : &inputs) += 1;
    }
    if (outputs == 0)
        return kiln_fail(e, KILN_BAD_INPUT, "no statement writes an output: assign to out");
    if (inputs > 8)
        return kiln_fail(e, KILN_UNSUPPORTED, "%d inputs; map takes at most 8", inputs);
    if (p->body.n_phases > KILN_MAP_PHASES_MAX)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "a chain of %d row reductions; map takes at most %d, one after the other",
                         p->body.n_phases - 1, KILN_MAP_PHASES_MAX - 1);
    return KILN_OK;
}

static int shape(kiln_problem *p, kiln_error *e) {
    const int64_t rows = kiln_problem_get(p, "rows"), cols = kiln_problem_get(p, "cols");
    for (int i = 0; i < p->n_operands; i++) {
        kiln_operand *o = &p->operand[i];
        o->batch = 1;
        o->rows = !o->scalar && (o->axes & KILN_MAP_ROW) ? rows : 1;
        o->cols = !o->scalar && (o->axes & KILN_MAP_COL) ? cols : 1;
        o->ld = o->cols;
        o->batch_stride = o->rows * o->ld;
    }
    return check(p, e);
}

kiln_map_shape kiln_map_shape_of(const kiln_problem *p) {
    kiln_map_shape m = {.rows = kiln_problem_get(p, "rows"),
                        .cols = kiln_problem_get(p, "cols"),
                        .n_phases = p->body.n_phases,
                        .by_row = p->body.n_phases > 1,
                        .widest = 1};
    bool broadcast = false;
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar) continue;
        const bool full = o->axes == KILN_MAP_FULL;
        m.full += full;
        m.full_inputs += full && !o->output;
        m.full_output |= full && o->output;
        broadcast |= !full && o->axes;
        m.by_row |= o->output && !full;
        const int bytes = (int)kiln_type_bytes(o->type);
        if ((o->axes & KILN_MAP_COL) && bytes > m.widest) m.widest = bytes;
    }
    m.flat = !m.by_row && !broadcast;
    if (m.flat) m.cols *= m.rows, m.rows = 1;
    return m;
}

/* Marks what the stores of the last phase are computed from, up to finished reductions. */
static void mark(const kiln_body *b, int i, bool *used) {
    const kiln_node *n = &b->node[i];
    if (used[i]) return;
    used[i] = true;
    if (kiln_op_reduces((kiln_op)n->op)) return;
    for (int k = 0; k < kiln_op_arity((kiln_op)n->op); k++) mark(b, n->arg[k], used);
}

/* Is a function of more than a few instructions behind each value? Nodes come after their args. */
static void mark_dear(const kiln_body *b, bool *dear) {
    for (int i = 0; i < b->n_nodes; i++) {
        const kiln_node *n = &b->node[i];
        const kiln_op op = (kiln_op)n->op;
        dear[i] = op == KILN_OP_DIV || (op >= KILN_OP_EXP && op <= KILN_OP_SIGMOID) ||
                  (op >= KILN_OP_SILU && op <= KILN_OP_GELU_TANH);
        for (int k = 0; k < kiln_op_arity(op); k++) dear[i] |= dear[n->arg[k]];
        dear[i] &= n->wide && !kiln_op_reduces(op);
    }
}

int kiln_map_kept(const kiln_problem *p) {
    const kiln_body *b = &p->body;
    int16_t node[KILN_NODES_MAX];
    bool used[KILN_NODES_MAX] = {false}, dear[KILN_NODES_MAX];
    const int n = kiln_body_reductions(b, node, KILN_NODES_MAX);
    mark_dear(b, dear);
    for (int i = 0; i < b->n_statements; i++)
        if (b->statement[i].operand >= 0) mark(b, b->statement[i].node, used);
    for (int i = 0; i < n; i++) {
        const int argument = b->node[node[i]].arg[0];
        if (used[argument] && dear[argument]) return i;
    }
    return -1;
}

int kiln_map_divisor(int64_t n, int most) {
    int v = 1;
    while (v < most && n % (2 * v) == 0) v *= 2;
    return v;
}

void kiln_map_arguments(const kiln_problem *p, kiln_launch *l) {
    const kiln_map_shape m = kiln_map_shape_of(p);
    l->n_args = 0;
    for (int i = 0; i < p->n_operands; i++)
        l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_OPERAND, .index = (uint8_t)i};
    l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = m.rows};
    l->arg[l->n_args++] = (kiln_arg){.kind = KILN_ARG_I64, .value.i = m.cols};
    assert(l->n_args <= KILN_ARGS_MAX);
}

static const kiln_variant *const variants[] = {&kiln_map_cpu, &kiln_map_simt, 0};

const kiln_family kiln_family_map = {
    .name = "map",
    .help = "elementwise statements and row reductions",
    .keys = keys,
    .axis = {"row", "col"},
    .operands = operands,
    .shape = shape,
    .variants = variants,
};

/* Text that every variant shares: what the problem compiles in, and its statements as functions. */
#include "kernels/emit.h"
#include "kernels/matmul/matmul.h"

#include <stdio.h>
#include <string.h>

static bool has(const kiln_operand *o, int axis) { return o->axes & axis; }

/* Stored per element; the other outputs are values of a row. */
static bool stores_elements(const kiln_operand *o) { return o->output && has(o, MATMUL_AXIS_N); }

static void parameters(kiln_text *out, const kiln_problem *p) {
    kiln_text_add(out, "i64 m, i64 n, i64 ldo, i64 stride_o");
    for (int i = MATMUL_OUT; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar)
            kiln_text_printf(out, ", float p_%s", o->name);
        else
            kiln_text_printf(out, ", %sGLOBAL STORAGE(%s) *RESTRICT p_%s",
                             o->output ? "" : "const ", kiln_type_name(o->type), o->name);
    }
}

static void arguments(kiln_text *out, const kiln_problem *p) {
    kiln_text_add(out, "m, n, ldo, stride_o");
    for (int i = MATMUL_OUT; i < p->n_operands; i++)
        kiln_text_printf(out, ", p_%s", p->operand[i].name);
}

static void define_list(kiln_text *out, kiln_text *undefs, const kiln_problem *p, const char *name,
                        void (*list)(kiln_text *, const kiln_problem *)) {
    kiln_text_printf(out, "#define %s ", name); /* may be longer than kiln_emit_define allows */
    list(out, p);
    kiln_text_add(out, "\n");
    kiln_text_printf(undefs, "#undef %s\n", name);
}

void kiln_matmul_emit_problem(kiln_text *out, kiln_text *undefs, const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    kiln_emit_define(out, undefs, "TA", "%s", kiln_type_name(v.a));
    kiln_emit_define(out, undefs, "TB", "%s", kiln_type_name(v.b));
    kiln_emit_define(out, undefs, "TO", "%s", kiln_type_name(v.out));
    kiln_emit_define(out, undefs, "TRANSPOSE_A", "%d", v.ta);
    kiln_emit_define(out, undefs, "TRANSPOSE_B", "%d", v.tb);
    kiln_emit_define(out, undefs, "ACC", "%s", v.acc == KILN_I32 ? "int" : "float");
    kiln_emit_define(out, undefs, "ACC_INT", "%d", v.acc == KILN_I32);
    kiln_emit_define(out, undefs, "PLAIN", "%d", v.plain);
    kiln_emit_define(out, undefs, "ROW_TOPS", "%d", v.tops);
    kiln_emit_define(out, undefs, "TOPS_PARAM", "%s", v.tops ? ", float *tops" : "");
    kiln_emit_define(out, undefs, "TOPS_ARG", "%s", v.tops ? ", tops" : "");
    define_list(out, undefs, p, "EPILOGUE_PARAMS", parameters);
    define_list(out, undefs, p, "EPILOGUE_ARGS", arguments);
}

/* ---- maxima and minima of rows: a register for each, an atomic where a tile's part of a row ends
 * (combine is k_combine's o: 1 max, 2 min) */

typedef struct tops {
    int n, combine[KILN_STATEMENTS_MAX];
    int16_t node[KILN_STATEMENTS_MAX];
} tops;

static tops tops_of(const kiln_problem *p) {
    tops t;
    t.n = kiln_body_reductions(&p->body, t.node, KILN_STATEMENTS_MAX);
    for (int i = 0; i < t.n; i++) t.combine[i] = p->body.node[t.node[i]].op == KILN_OP_RMAX ? 1 : 2;
    return t;
}

/* Which of them statement s stores, or -1. */
static int top_stored(const kiln_problem *p, const tops *t, int s) {
    for (int i = 0; i < t->n; i++)
        if (p->body.statement[s].operand >= 0 && p->body.statement[s].node == t->node[i]) return i;
    return -1;
}

static void emit_tops_end(kiln_text *out, const kiln_problem *p, const tops *t) {
    kiln_text_add(out, "FUNC void NAME(tops_end)(EPILOGUE_PARAMS, i64 batch, i64 row, "
                       "const float *tops)\n{\n");
    for (int s = 0; s < p->body.n_statements; s++) {
        int i = top_stored(p, t, s);
        if (i < 0) continue;
        kiln_text_printf(out, "    k_atomic_combine(%d, p_%s + batch * m + row, tops[%d]);\n",
                         t->combine[i], p->body.statement[s].name, i);
    }
    kiln_text_add(out, "}\n");
}

static void emit_clear(kiln_text *out, const kiln_problem *p, const tops *t) {
    kiln_text_printf(out,
                     "KERNEL(%d, 1, 1)\nNAME(clear)(EPILOGUE_PARAMS, i64 rows)\n{\n"
                     "    AFTER_PREVIOUS();\n"
                     "    for (i64 i = BLOCK(0) * (i64)%d + THREAD(0); i < rows; "
                     "i += BLOCKS(0) * (i64)%d) {\n",
                     MATMUL_CLEAR_THREADS, MATMUL_CLEAR_THREADS, MATMUL_CLEAR_THREADS);
    for (int s = 0; s < p->body.n_statements; s++) {
        int i = top_stored(p, t, s);
        if (i >= 0)
            kiln_text_printf(out, "        p_%s[i] = k_identity(%d);\n", p->body.statement[s].name,
                             t->combine[i]);
    }
    kiln_text_add(out, "    }\n}\n");
}

void kiln_matmul_emit_tops(kiln_text *out, const kiln_problem *p) {
    tops t = tops_of(p);
    if (!t.n) return;
    kiln_text_add(out, "FUNC void NAME(tops_begin)(float *tops)\n{\n");
    for (int i = 0; i < t.n; i++)
        kiln_text_printf(out, "    tops[%d] = k_identity(%d);\n", i, t.combine[i]);
    kiln_text_add(out, "}\n#if K_LANES > 1\nFUNC void NAME(tops_group)(float *tops, int n)\n{\n");
    for (int i = 0; i < t.n; i++)
        kiln_text_printf(out, "    tops[%d] = k_group_reduce(%d, tops[%d], n, 0);\n", i,
                         t.combine[i], i);
    kiln_text_add(out, "}\n#endif\n");
    emit_tops_end(out, p, &t);
    emit_clear(out, p, &t);
}

static void declare_tops(kiln_text *out, const tops *t, const char *indent) {
    for (int i = 0; i < t->n; i++) kiln_text_printf(out, "%sREAL a%d;\n", indent, i);
}

/* REAL is a float or a vector of them; a NaN is ignored, as the language's max does. */
static void collect_tops(kiln_text *out, const tops *t, const char *indent) {
    for (int i = 0; i < t->n; i++)
        kiln_text_printf(out, "%stops[%d] = K_%s2(tops[%d], a%d);\n", indent, i,
                         t->combine[i] == 1 ? "MAX" : "MIN", i, i);
}

/* ---- one function per width */

static void name_operand(void *context, int operand, kiln_text *out) {
    const kiln_problem *p = context;
    kiln_text_printf(out, "x_%s", p->operand[operand].name);
}

/* Where the first of the columns lies. */
static const char *position(const kiln_problem *p, int operand) {
    const kiln_operand *o = &p->operand[operand];
    if (operand == MATMUL_OUT) return "batch * stride_o + row * ldo + col";
    if (has(o, MATMUL_AXIS_M) && has(o, MATMUL_AXIS_N)) return "(batch * m + row) * n + col";
    return has(o, MATMUL_AXIS_N) ? "col" : has(o, MATMUL_AXIS_M) ? "row" : "0";
}

static const char *element(kiln_type t) { return t == KILN_I8 || t == KILN_I32 ? "int" : "float"; }

static void read_operand(kiln_text *out, const kiln_problem *p, int i, int width) {
    const kiln_operand *o = &p->operand[i];
    const char *type = kiln_type_name(o->type), *at = position(p, i);
    if (o->scalar)
        kiln_text_printf(out, "    const float s_%s = p_%s;\n", o->name, o->name);
    else if (has(o, MATMUL_AXIS_N))
        kiln_text_printf(out, "    %s v_%s[%d];\n    READ_N(%s, %d, p_%s, %s, v_%s);\n",
                         element(o->type), o->name, width, type, width, o->name, at, o->name);
    else
        kiln_text_printf(out, "    const float s_%s = (float)READ(%s, p_%s, %s);\n", o->name, type,
                         o->name, at);
}

static void pick_operand(kiln_text *out, const kiln_operand *o, bool held) {
    if (held && !o->scalar)
        kiln_text_printf(out, "        const float x_%s = HELD_GET(%s, held->h_%s[0], %s);\n",
                         o->name, kiln_type_name(o->type), o->name,
                         has(o, MATMUL_AXIS_N) ? "i" : "0");
    else if (!o->scalar && has(o, MATMUL_AXIS_N))
        kiln_text_printf(out, "        const float x_%s = (float)v_%s[i];\n", o->name, o->name);
    else
        kiln_text_printf(out, "        const float x_%s = s_%s;\n", o->name, o->name);
}

/* Converting to int saturates by the contract of types; 2147483520 is the last float below 2^31. */
static void keep_output(kiln_text *out, const kiln_operand *o) {
    kiln_text_printf(out, "        w_%s[i] = ", o->name);
    if (o->type == KILN_I32)
        kiln_text_printf(out, "(int)K_RINT(K_MAX2(K_MIN2(o_%s, 2147483520.0f), -2147483648.0f))",
                         o->name);
    else
        kiln_text_printf(out, "o_%s", o->name);
    kiln_text_add(out, ";\n");
}

static void write_output(kiln_text *out, const kiln_problem *p, int i, int width) {
    const kiln_operand *o = &p->operand[i];
    kiln_text_printf(out, "    WRITE_N(%s, %d, p_%s, %s, w_%s);\n", kiln_type_name(o->type), width,
                     o->name, position(p, i), o->name);
}

/* Is operand i stored per element, by an emit_elements that may keep `out`? */
static bool stores_here(const kiln_problem *p, int i, bool keep) {
    return stores_elements(&p->operand[i]) && !(keep && i == MATMUL_OUT);
}

/* An i32 product is stored as it is; float would lose bits above 2^24. */
static bool exact(const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    return v.plain && v.acc == KILN_I32 && v.out == KILN_I32;
}

static void open_function(kiln_text *out, const char *name, const char *rest) {
    kiln_text_printf(out,
                     "FUNC void NAME(%s)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col, %s)\n{\n",
                     name, rest);
}

/* keep: `out` goes to value[] instead of memory. held: operands come from there. */
static void emit_elements(kiln_text *out, const kiln_problem *p, const char *name, int width,
                          bool keep, const char *held) {
    tops t = tops_of(p);
    kiln_emit_part part = {.outputs = true,
                           .reductions = true,
                           .indent = "        ",
                           .operand = name_operand,
                           .context = (void *)(uintptr_t)p};
    bool read[KILN_OPERANDS_MAX] = {false};
    kiln_body_reads(&p->body, &part, read, p->n_operands);
    kiln_text_add(out, "#define REAL float\n");
    char rest[200];
    snprintf(rest, sizeof rest, "const ACC *sum%s%s TOPS_PARAM", keep ? ", float *value" : "",
             held);
    open_function(out, name, rest);
    if (exact(p) && !keep) {
        kiln_text_printf(out, "    WRITE_N(i32, %d, p_out, %s, sum);\n}\n#undef REAL\n", width,
                         position(p, MATMUL_OUT));
        return;
    }
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (read[i] && (!*held || o->scalar)) read_operand(out, p, i, width);
        if (stores_here(p, i, keep))
            kiln_text_printf(out, "    %s w_%s[%d];\n", o->type == KILN_I32 ? "int" : "float",
                             o->name, width);
    }
    kiln_text_printf(out, "    UNROLL\n    for (int i = 0; i < %d; i++) {\n", width);
    kiln_text_add(out, "        const float acc = (float)sum[i];\n");
    for (int i = 0; i < p->n_operands; i++) {
        if (read[i]) pick_operand(out, &p->operand[i], *held);
        if (stores_elements(&p->operand[i]))
            kiln_text_printf(out, "        float o_%s;\n", p->operand[i].name);
    }
    declare_tops(out, &t, "        ");
    kiln_body_emit(&p->body, &part, out);
    collect_tops(out, &t, "        ");
    for (int i = 0; i < p->n_operands; i++)
        if (stores_here(p, i, keep)) keep_output(out, &p->operand[i]);
    if (keep) kiln_text_add(out, "        value[i] = o_out;\n");
    kiln_text_add(out, "    }\n");
    for (int i = 0; i < p->n_operands; i++)
        if (stores_here(p, i, keep)) write_output(out, p, i, width);
    kiln_text_add(out, "}\n#undef REAL\n");
}

void kiln_matmul_emit_epilogue(kiln_text *out, const kiln_problem *p, const char *name, int width) {
    emit_elements(out, p, name, width, false, "");
}

void kiln_matmul_emit_value(kiln_text *out, const kiln_problem *p, const char *name, int width) {
    emit_elements(out, p, name, width, true, "");
}

/* ---- loads apart from the arithmetic */

static void reads_of(const kiln_problem *p, bool read[KILN_OPERANDS_MAX]) {
    kiln_emit_part part = {.outputs = true, .reductions = true};
    memset(read, 0, KILN_OPERANDS_MAX * sizeof *read);
    kiln_body_reads(&p->body, &part, read, p->n_operands);
    for (int i = 0; i < p->n_operands; i++) read[i] &= !p->operand[i].scalar;
}

static int held_width(const kiln_operand *o, int width) {
    return has(o, MATMUL_AXIS_N) ? width : 1;
}

/* Lines of a matrix that pass once leave the first cache alone; parts of a line meet there. */
static int hint_of(const kiln_operand *o, int width) {
    if (!kiln_matmul_is_matrix(o)) return 0;
    return width * (int)kiln_type_bytes(o->type) >= 16 ? 1 : 2;
}

/* Where matrices' rows begin. Operands' names stand behind a prefix here as everywhere: alone they
 * may be a member's, a keyword or a macro (row, new, TM). */
static void emit_line(kiln_text *out, const kiln_problem *p, const char *name, const bool read[],
                      int staged) {
    kiln_text_add(out, "typedef struct {\n    i64 row;\n");
    for (int i = 0; i < p->n_operands; i++)
        if (read[i] && i != staged && kiln_matmul_is_matrix(&p->operand[i]))
            kiln_text_printf(out, "    const GLOBAL STORAGE(%s) *l_%s;\n",
                             kiln_type_name(p->operand[i].type), p->operand[i].name);
    kiln_text_printf(out,
                     "} NAME(%s_line);\n"
                     "FUNC void NAME(%s_begin)(EPILOGUE_PARAMS, i64 batch, i64 row, "
                     "NAME(%s_line) *line)\n{\n    line->row = row;\n",
                     name, name, name);
    for (int i = 0; i < p->n_operands; i++)
        if (read[i] && i != staged && kiln_matmul_is_matrix(&p->operand[i]))
            kiln_text_printf(out,
                             "    line->l_%s = p_%s + (batch * m + row) * n;\n"
                             "    KEEP(line->l_%s);\n",
                             p->operand[i].name, p->operand[i].name, p->operand[i].name);
    kiln_text_add(out, "}\n");
}

static void emit_hold(kiln_text *out, const kiln_operand *o, int width) {
    const char *name = o->name;
    kiln_text_printf(out, "    HOLD(%s, %d, %d, %s%s, %s, held->h_%s[0]);\n",
                     kiln_type_name(o->type), held_width(o, width), hint_of(o, width),
                     kiln_matmul_is_matrix(o) ? "line->l_" : "p_", name,
                     has(o, MATMUL_AXIS_N)   ? "col"
                     : has(o, MATMUL_AXIS_M) ? "line->row"
                                             : "0",
                     name);
}

static void emit_fetch(kiln_text *out, const kiln_problem *p, const char *name, int width,
                       const bool read[], int staged) {
    kiln_text_add(out, "typedef struct {\n    int nothing;\n");
    for (int i = 0; i < p->n_operands; i++)
        if (read[i])
            kiln_text_printf(out, "    HELD(%s, %d, h_%s, 1);\n",
                             kiln_type_name(p->operand[i].type), held_width(&p->operand[i], width),
                             p->operand[i].name);
    kiln_text_printf(out,
                     "} NAME(%s_held);\n"
                     "FUNC void NAME(%s_fetch)(EPILOGUE_PARAMS, const NAME(%s_line) *line, "
                     "int col, NAME(%s_held) *held)\n{\n    held->nothing = 0;\n",
                     name, name, name, name);
    for (int i = 0; i < p->n_operands; i++)
        if (read[i] && i != staged) emit_hold(out, &p->operand[i], width);
    kiln_text_add(out, "}\n");
}

/* What the body brings by way of shared memory. */
static void emit_staged(kiln_text *out, const kiln_problem *p, const char *name, int staged) {
    const kiln_operand *o = &p->operand[staged];
    kiln_text_printf(out,
                     "FUNC const GLOBAL STORAGE(%s) *NAME(matrix_at)(EPILOGUE_PARAMS, i64 batch, "
                     "i64 row, i64 col)\n{\n    return p_%s + %s;\n}\n"
                     "FUNC void NAME(%s_set)(NAME(%s_held) *held, u32 pair)\n{\n"
                     "    held->h_%s[0].w[0] = pair;\n}\n",
                     kiln_type_name(o->type), o->name, position(p, staged), name, name, o->name);
}

static void emit_ahead(kiln_text *out, const kiln_problem *p, const char *name, int width,
                       bool keep, int staged) {
    char with[80], held[120];
    bool read[KILN_OPERANDS_MAX];
    reads_of(p, read);
    snprintf(with, sizeof with, "%s_with", name);
    snprintf(held, sizeof held, ", const NAME(%s_held) *held", name);
    emit_line(out, p, name, read, staged);
    emit_fetch(out, p, name, width, read, staged);
    if (staged >= 0) emit_staged(out, p, name, staged);
    emit_elements(out, p, with, width, keep, held);
}

void kiln_matmul_emit_epilogue_ahead(kiln_text *out, const kiln_problem *p, const char *name,
                                     int width) {
    emit_ahead(out, p, name, width, false, -1);
}

void kiln_matmul_emit_value_ahead(kiln_text *out, const kiln_problem *p, const char *name,
                                  int width, int staged) {
    emit_ahead(out, p, name, width, true, staged);
}

static bool dear(kiln_op op) {
    return op == KILN_OP_DIV || (op >= KILN_OP_EXP && op <= KILN_OP_SIGMOID) ||
           (op >= KILN_OP_SILU && op <= KILN_OP_GELU_TANH);
}

/* A copy of sums costs a move each, and code that is fetched but once costs the more the longer it
 * is: statements of a few instructions stay unrolled, unless they have loads to ask for early. */
bool kiln_matmul_worth_a_loop(const kiln_problem *p) {
    bool worth = p->body.n_nodes > 16, read[KILN_OPERANDS_MAX];
    reads_of(p, read);
    for (int i = 0; i < p->n_operands; i++) worth |= read[i] && has(&p->operand[i], MATMUL_AXIS_N);
    for (int i = 0; i < p->body.n_nodes; i++) worth |= dear((kiln_op)p->body.node[i].op);
    return worth;
}

/* What statements touch beside sums and `out`. */
typedef struct touched {
    int others;   /* element outputs */
    int arrays;   /* operands that are read and no scalars */
    int matrices; /* those of them that are matrices */
    int bytes;    /* of the widest matrix's element */
} touched;

static touched touched_by(const kiln_problem *p) {
    bool read[KILN_OPERANDS_MAX];
    touched t = {.bytes = 1};
    reads_of(p, read);
    for (int i = MATMUL_OUT; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        t.others += i != MATMUL_OUT && stores_elements(o);
        t.arrays += read[i];
        if (!read[i] || !kiln_matmul_is_matrix(o)) continue;
        t.matrices++;
        if ((int)kiln_type_bytes(o->type) > t.bytes) t.bytes = (int)kiln_type_bytes(o->type);
    }
    return t;
}

bool kiln_matmul_is_brief(const kiln_problem *p) {
    touched t = touched_by(p);
    return !t.others && !t.matrices && !kiln_matmul_view(p).tops && !kiln_matmul_worth_a_loop(p);
}

void kiln_matmul_emit_ahead_facts(kiln_text *out, kiln_text *undefs, const kiln_problem *p) {
    bool read[KILN_OPERANDS_MAX];
    touched t = touched_by(p);
    reads_of(p, read);
    kiln_emit_define(out, undefs, "ROLLED", "%d", kiln_matmul_worth_a_loop(p));
    kiln_emit_define(out, undefs, "OTHER_OUTPUTS", "%d", t.others);
    kiln_emit_define(out, undefs, "ARRAY_READS", "%d", t.arrays);
    kiln_emit_define(out, undefs, "MATRIX_READS", "%d", t.matrices);
    kiln_emit_define(out, undefs, "MATRIX_LINE", "%d", 128 / t.bytes);
    kiln_text_add(out, "FUNC void NAME(matrix_soon)(EPILOGUE_PARAMS, i64 batch, i64 row, i64 col)"
                       "\n{\n");
    for (int i = MATMUL_OUT; i < p->n_operands; i++)
        if (read[i] && kiln_matmul_is_matrix(&p->operand[i]))
            kiln_text_printf(out, "    PREFETCH(p_%s + %s);\n", p->operand[i].name, position(p, i));
    kiln_text_add(out, "}\n");
}

/* ---- the same on one vector (REAL) of a CPU: VLOAD and VSTORE take any alignment */

static void vector_read(kiln_text *out, const kiln_problem *p, int i) {
    const kiln_operand *o = &p->operand[i];
    const char *type = kiln_type_name(o->type);
    if (o->scalar)
        kiln_text_printf(out, "    const REAL x_%s = (REAL)(p_%s);\n", o->name, o->name);
    else if (has(o, MATMUL_AXIS_N))
        kiln_text_printf(out, "    const REAL x_%s = VLOAD(%s, p_%s, %s);\n", o->name, type,
                         o->name, position(p, i));
    else
        kiln_text_printf(out, "    const REAL x_%s = (REAL)((float)READ(%s, p_%s, %s));\n", o->name,
                         type, o->name, position(p, i));
}

/* From one vector of maxima to a float of each, and before that their beginning. */
static void emit_vector_tops(kiln_text *out, const tops *t) {
    if (!t->n) return;
    kiln_text_add(out, "FUNC void NAME(tops_spread)(REAL *wide)\n{\n");
    for (int i = 0; i < t->n; i++)
        kiln_text_printf(out, "    wide[%d] = (REAL)(k_identity(%d));\n", i, t->combine[i]);
    kiln_text_add(out, "}\nFUNC void NAME(tops_gather)(float *tops, const REAL *wide)\n{\n"
                       "    float lane[VL];\n");
    for (int i = 0; i < t->n; i++)
        kiln_text_printf(out,
                         "    CAT(vstore, VL)(wide[%d], 0, lane);\n"
                         "    for (int l = 0; l < VL; l++) tops[%d] = k_combine(%d, tops[%d], "
                         "lane[l]);\n",
                         i, i, t->combine[i], i);
    kiln_text_add(out, "}\n");
}

void kiln_matmul_emit_epilogue_vector(kiln_text *out, const kiln_problem *p, const char *name) {
    tops t = tops_of(p);
    kiln_emit_part part = {.outputs = true,
                           .reductions = true,
                           .indent = "    ",
                           .operand = name_operand,
                           .context = (void *)(uintptr_t)p};
    bool read[KILN_OPERANDS_MAX] = {false};
    kiln_body_reads(&p->body, &part, read, p->n_operands);
    emit_vector_tops(out, &t);
    open_function(out, name, t.n ? "ACCV sum, REAL *tops" : "ACCV sum");
    if (exact(p)) {
        kiln_text_printf(out, "    VSTORE_INT(p_out, %s, sum);\n}\n", position(p, MATMUL_OUT));
        return;
    }
    kiln_text_add(out, "    const REAL acc = ACCV_FLOAT(sum);\n");
    for (int i = 0; i < p->n_operands; i++) {
        if (read[i]) vector_read(out, p, i);
        if (stores_elements(&p->operand[i]))
            kiln_text_printf(out, "    REAL o_%s;\n", p->operand[i].name);
    }
    declare_tops(out, &t, "    ");
    kiln_body_emit(&p->body, &part, out);
    collect_tops(out, &t, "    ");
    for (int i = 0; i < p->n_operands; i++) {
        const kiln_operand *o = &p->operand[i];
        if (stores_elements(o))
            kiln_text_printf(out, "    VSTORE(%s, p_%s, %s, o_%s);\n", kiln_type_name(o->type),
                             o->name, position(p, i), o->name);
    }
    kiln_text_add(out, "}\n");
}

#include "kernels/matmul/matmul.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { M, N, K, BATCH, A, B, OUT, TA, TB, FAST, LDA, LDB, LDO };

/* 2^31 - 1 keeps a size in an int; products are formed in 64 bits. */
#define SIZE(name_, fallback_, min_, compiled_, help_)                                             \
    {                                                                                              \
        .name = name_, .kind = KILN_KEY_SIZE, .fallback = fallback_, .min = min_,                  \
        .max = INT32_MAX, .compiled = compiled_, .help = help_                                     \
    }
#define TYPE(name_, help_)                                                                         \
    { .name = name_, .kind = KILN_KEY_TYPE, .fallback = KILN_NONE, .compiled = true, .help = help_ }
#define FLAG(name_, help_)                                                                         \
    {                                                                                              \
        .name = name_, .kind = KILN_KEY_FLAG, .fallback = 0, .max = 1, .compiled = true,           \
        .help = help_                                                                              \
    }

static const kiln_key keys[] = {
    [M] = SIZE("m", KILN_REQUIRED, 1, false, "rows of a and out"),
    [N] = SIZE("n", KILN_REQUIRED, 1, false, "columns of b and out"),
    [K] = SIZE("k", KILN_REQUIRED, 1, false, "columns of a, rows of b"),
    [BATCH] = SIZE("batch", 1, 1, false, "independent products, one after the other in memory"),
    [A] = TYPE("a", "type of a: f32 tf32 f16 bf16 e4m3 e5m2 i8 (f32 unless type= says otherwise)"),
    [B] = TYPE("b", "type of b (that of a)"),
    [OUT] = TYPE("out", "type of out: f32 f16 bf16 e4m3 e5m2 i8 i32 (that of a; i32 for i8, f32 "
                        "for tf32, bf16 for e4m3 and e5m2)"),
    [TA] = FLAG("ta", "1: a is stored k x m"),
    [TB] = FLAG("tb", "1: b is stored n x k"),
    [FAST] = FLAG("fast", "1: e4m3 and e5m2 may be summed in the tensor cores' narrow registers"),
    [LDA] = SIZE("lda", 0, 0, false, "elements between stored rows of a; 0: no gap"),
    [LDB] = SIZE("ldb", 0, 0, false, "elements between stored rows of b; 0: no gap"),
    [LDO] = SIZE("ldo", 0, 0, false, "elements between rows of out; 0: no gap"),
    {0},
};

/* ---- types */

static kiln_type type_or(int64_t given, kiln_type otherwise) {
    return given != KILN_NONE ? (kiln_type)given : otherwise;
}


static bool plain_float(kiln_type t) { return t == KILN_F32 || t == KILN_F16 || t == KILN_BF16; }

/* What only operands are made of is no type for a result: who says type= means a and b. */
static kiln_type default_out(kiln_type a, kiln_type type) {
    if (a == KILN_I8) return KILN_I32;
    if (a == KILN_TF32) return KILN_F32;
    return kiln_type_is_float8(a) ? KILN_BF16 : type_or(type, a);
}

static void types(const kiln_problem *p, kiln_type *a, kiln_type *b, kiln_type *out) {
    *a = type_or(p->value[A], type_or(p->type, KILN_F32));
    *b = type_or(p->value[B], type_or(p->type, *a));
    *out = type_or(p->value[OUT], default_out(*a, p->type));
}

static bool multiplies(kiln_type a, kiln_type b) {
    return (plain_float(a) && plain_float(b)) || (kiln_type_is_float8(a) && kiln_type_is_float8(b)) ||
           (a == b && (a == KILN_I8 || a == KILN_TF32));
}

/* What a kernel can store and a statement read. */
static bool stores(kiln_type t) {
    return plain_float(t) || kiln_type_is_float8(t) || t == KILN_I8 || t == KILN_I32;
}

static int check_types(kiln_type a, kiln_type b, kiln_type out, bool fast, kiln_error *e) {
    if (!multiplies(a, b))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul cannot multiply a=%s by b=%s: use f32, f16 or bf16 in any mix, "
                         "e4m3 or e5m2 in any mix, tf32 for both, or i8 for both",
                         kiln_type_name(a), kiln_type_name(b));
    if (!stores(out))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul cannot store out=%s: use f32, f16, bf16, e4m3, e5m2, i8 or i32",
                         kiln_type_name(out));
    if (fast && !kiln_type_is_float8(a))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul: fast=1 is about the sums of e4m3 and e5m2 products, and a is %s; "
                         "leave it out",
                         kiln_type_name(a));
    return KILN_OK;
}

/* ---- operands */

static void declare(kiln_problem *p, int i, const char *name, kiln_type type, bool output) {
    kiln_operand *o = &p->operand[i];
    memset(o, 0, sizeof *o);
    strcpy(o->name, name);
    o->type = type;
    o->output = output;
    o->axes = MATMUL_AXIS_M | MATMUL_AXIS_N;
}

static int operands(kiln_problem *p, kiln_error *e) {
    kiln_type a, b, out;
    types(p, &a, &b, &out);
    int status = check_types(a, b, out, p->value[FAST], e);
    if (status) return status;
    /* statements' operands get `type=` unless they say otherwise; these types they cannot mean */
    if (p->type == KILN_TF32 || kiln_type_is_float8(p->type)) p->type = out;
    declare(p, MATMUL_A, "a", a, false);
    declare(p, MATMUL_B, "b", b, false);
    declare(p, MATMUL_OUT, "out", out, true);
    p->n_operands = MATMUL_EXTRA;
    return KILN_OK;
}

/* Rows, columns and leading dimension of one matrix; ld names the key when it is too small. */
static int set_matrix(const kiln_problem *p, kiln_operand *o, int64_t rows, int64_t cols,
                      int64_t ld, const char *key, kiln_error *e) {
    if (ld && ld < cols)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "matmul: %s=%lld is smaller than the %lld columns stored in a row of %s; "
                         "give at least that, or 0 for no gap",
                         key, (long long)ld, (long long)cols, o->name);
    o->batch = p->value[BATCH];
    o->rows = rows;
    o->cols = cols;
    o->ld = ld ? ld : cols;
    if (rows > INT64_MAX / 16 / o->ld / o->batch)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "matmul: %s has more elements than fit in memory: "
                         "reduce m, n, k or batch",
                         o->name);
    o->batch_stride = rows * o->ld;
    return KILN_OK;
}

static int shape_extra(const kiln_problem *p, kiln_operand *o, kiln_error *e) {
    bool has_m = o->axes & MATMUL_AXIS_M, has_n = o->axes & MATMUL_AXIS_N;
    if (o->output && !has_m)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul stores matrices and values of a row: give output %s both axes, "
                         "%s[m,n], or %s[m]",
                         o->name, o->name, o->name);
    if (o->output && !has_n && o->type != KILN_F32)
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul: %s[m] holds a row's maximum or minimum in f32, not in %s; write "
                         "%s=f32",
                         o->name, kiln_type_name(o->type), o->name);
    if (!stores(o->type))
        return kiln_fail(
            e, KILN_UNSUPPORTED,
            "matmul: operand %s has type %s, which statements cannot read or store; use "
            "f32, f16, bf16, e4m3, e5m2, i8 or i32",
            o->name, kiln_type_name(o->type));
    int status = set_matrix(p, o, has_m ? p->value[M] : 1, has_n ? p->value[N] : 1, 0, "", e);
    if (!o->output && !(has_m && has_n)) o->batch = 1, o->batch_stride = 0;
    return status;
}

/* One value per row and batch entry: what is known only when all tiles of the row are. */
static bool of_row(const kiln_operand *o) { return o->output && o->axes == MATMUL_AXIS_M; }

static bool largest_or_smallest(const kiln_node *n) {
    return n->op == KILN_OP_RMAX || n->op == KILN_OP_RMIN;
}

static int fail_reduction(const kiln_node *n, kiln_error *e) {
    if (!largest_or_smallest(n))
        return kiln_fail(e, KILN_UNSUPPORTED,
                         "matmul: statements may not reduce a row by %s: tiles would add their "
                         "floats in no fixed order; use max or min, as in amax[m] = max(abs(acc)), "
                         "or put the reduction into a map problem of its own",
                         kiln_op_name((kiln_op)n->op));
    return kiln_fail(e, KILN_UNSUPPORTED,
                     "matmul: statements may only store the reduction of a row, as in amax[m] = "
                     "max(abs(acc)), not compute with it; put what needs its value into a map "
                     "problem of its own");
}

/* Row outputs take a reduction as it is, everything else takes none. */
static int check_stores(const kiln_problem *p, bool stored[], kiln_error *e) {
    for (int i = 0; i < p->body.n_statements; i++) {
        const kiln_statement *s = &p->body.statement[i];
        const kiln_node *value = &p->body.node[s->node];
        bool row = s->operand >= 0 && of_row(&p->operand[s->operand]);
        if (row && !kiln_op_reduces((kiln_op)value->op))
            return kiln_fail(e, KILN_UNSUPPORTED,
                             "matmul: %s[m] is one value for a row: assign it the max or min of "
                             "one argument, as in %s[m] = max(abs(acc))",
                             s->name, s->name);
        if (s->operand >= 0 && !row && kiln_op_reduces((kiln_op)value->op))
            return fail_reduction(value, e);
        stored[s->node] |= row;
    }
    return KILN_OK;
}

static int check_reductions(const kiln_problem *p, kiln_error *e) {
    const kiln_node *node = p->body.node;
    bool stored[KILN_NODES_MAX] = {false};
    int status = check_stores(p, stored, e);
    for (int i = 0; i < p->body.n_nodes && !status; i++) {
        bool reduces = kiln_op_reduces((kiln_op)node[i].op);
        if (reduces && (!stored[i] || !largest_or_smallest(&node[i])))
            status = fail_reduction(&node[i], e);
        for (int k = 0; k < kiln_op_arity((kiln_op)node[i].op) && !status; k++)
            if (kiln_op_reduces((kiln_op)node[node[i].arg[k]].op))
                status = fail_reduction(&node[node[i].arg[k]], e);
    }
    return status;
}

static int check_statements(const kiln_problem *p, kiln_error *e) {
    int status = check_reductions(p, e);
    if (status) return status;
    for (int i = 0; i < p->body.n_nodes; i++) {
        const kiln_node *node = &p->body.node[i];
        if (node->op == KILN_OP_OPERAND && node->operand < MATMUL_OUT)
            return kiln_fail(e, KILN_UNSUPPORTED,
                             "matmul: statements may not read %s itself, only its product acc",
                             p->operand[node->operand].name);
        if (node->op == KILN_OP_OPERAND && p->operand[node->operand].output)
            return kiln_fail(e, KILN_UNSUPPORTED,
                             "matmul: output %s is read by a statement; name its value in a local "
                             "first and read that",
                             p->operand[node->operand].name);
    }
    return KILN_OK;
}

static int shape(kiln_problem *p, kiln_error *e) {
    const int64_t *v = p->value;
    int64_t m = v[M], n = v[N], k = v[K];
    kiln_operand *o = p->operand;
    int status = set_matrix(p, &o[MATMUL_A], v[TA] ? k : m, v[TA] ? m : k, v[LDA], "lda", e);
    if (!status)
        status = set_matrix(p, &o[MATMUL_B], v[TB] ? n : k, v[TB] ? k : n, v[LDB], "ldb", e);
    if (!status) status = set_matrix(p, &o[MATMUL_OUT], m, n, v[LDO], "ldo", e);
    for (int i = MATMUL_EXTRA; i < p->n_operands && !status; i++)
        if (!o[i].scalar) status = shape_extra(p, &o[i], e);
    return status ? status : check_statements(p, e);
}

/* ---- the view */

static bool is_plain(const kiln_problem *p) {
    const kiln_body *b = &p->body;
    return b->n_statements == 1 && b->statement[0].operand == MATMUL_OUT &&
           b->node[b->statement[0].node].op == KILN_OP_RESULT;
}

static int count_tops(const kiln_body *b) {
    int16_t node[KILN_STATEMENTS_MAX];
    return kiln_body_reductions(b, node, KILN_STATEMENTS_MAX);
}

matmul kiln_matmul_view(const kiln_problem *p) {
    const kiln_operand *o = p->operand;
    return (matmul){
        .m = p->value[M],
        .n = p->value[N],
        .k = p->value[K],
        .batch = p->value[BATCH],
        .lda = o[MATMUL_A].ld,
        .ldb = o[MATMUL_B].ld,
        .ldo = o[MATMUL_OUT].ld,
        .stride_a = o[MATMUL_A].batch_stride,
        .stride_b = o[MATMUL_B].batch_stride,
        .stride_o = o[MATMUL_OUT].batch_stride,
        .a = o[MATMUL_A].type,
        .b = o[MATMUL_B].type,
        .out = o[MATMUL_OUT].type,
        .acc = o[MATMUL_A].type == KILN_I8 ? KILN_I32 : KILN_F32,
        .ta = p->value[TA],
        .tb = p->value[TB],
        .fast = p->value[FAST],
        .plain = is_plain(p),
        .tops = count_tops(&p->body),
    };
}

/* ---- arguments */

static kiln_arg *next(kiln_launch *l, kiln_arg_kind kind) {
    assert(l->n_args < KILN_ARGS_MAX);
    kiln_arg *a = &l->arg[l->n_args++];
    a->kind = (uint8_t)kind;
    return a;
}

void kiln_matmul_arg_operand(kiln_launch *l, int operand) {
    next(l, KILN_ARG_OPERAND)->index = (uint8_t)operand;
}

void kiln_matmul_arg_i64(kiln_launch *l, int64_t value) { next(l, KILN_ARG_I64)->value.i = value; }

void kiln_matmul_arg_i32(kiln_launch *l, int32_t value) { next(l, KILN_ARG_I32)->value.i = value; }

void kiln_matmul_arg_workspace(kiln_launch *l) { next(l, KILN_ARG_WORKSPACE); }

void kiln_matmul_arg_epilogue(kiln_launch *l, const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    kiln_matmul_arg_i64(l, v.m);
    kiln_matmul_arg_i64(l, v.n);
    kiln_matmul_arg_i64(l, v.ldo);
    kiln_matmul_arg_i64(l, v.stride_o);
    for (int i = MATMUL_OUT; i < p->n_operands; i++) kiln_matmul_arg_operand(l, i);
}

void kiln_matmul_launch_clear(kiln_program *out, const kiln_problem *p) {
    matmul v = kiln_matmul_view(p);
    if (!v.tops) return;
    int64_t rows = v.m * v.batch, blocks = (rows + MATMUL_CLEAR_THREADS - 1) / MATMUL_CLEAR_THREADS;
    kiln_launch *l = &out->launch[out->n_launches++];
    *l = (kiln_launch){.entry = "clear",
                       .grid = {(uint32_t)(blocks < UINT16_MAX ? blocks : UINT16_MAX), 1, 1},
                       .block = {MATMUL_CLEAR_THREADS, 1, 1},
                       .dependent = true};
    kiln_matmul_arg_epilogue(l, p);
    kiln_matmul_arg_i64(l, rows);
}

/* ---- legality */

bool kiln_matmul_no(kiln_text *why, const char *format, ...) {
    if (!why) return false;
    char sentence[320];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    kiln_text_add(why, sentence);
    return false;
}

bool kiln_matmul_is_matrix(const kiln_operand *o) {
    return !o->scalar && o->axes & MATMUL_AXIS_M && o->axes & MATMUL_AXIS_N;
}

bool kiln_matmul_epilogue_aligned(const kiln_problem *p, const kiln_caps *caps, int width,
                                  kiln_text *why) {
    for (int i = MATMUL_OUT; i < p->n_operands && width > 1; i++) {
        const kiln_operand *o = &p->operand[i];
        if (o->scalar || !(o->axes & MATMUL_AXIS_N)) continue;
        if (o->cols % width || o->ld % width)
            return kiln_matmul_no(why,
                                  "%d columns at once need n and the leading dimension of %s to be "
                                  "multiples of %d, not %lld and %lld",
                                  width, o->name, width, (long long)o->cols, (long long)o->ld);
        int64_t access = width * (int64_t)kiln_type_bytes(o->type);
        if (access > 16) access = 16;
        if (caps->align_bytes % access)
            return kiln_matmul_no(
                why,
                "%d columns of %s at once need buffers aligned to %lld bytes; the "
                "device promises %d",
                width, o->name, (long long)access, caps->align_bytes);
    }
    return true;
}

static const kiln_variant *const variants[] = {&kiln_matmul_cpu, &kiln_matmul_simt,
                                               &kiln_matmul_mma_sm80,
                                               &kiln_matmul_wgmma_sm90, NULL};

const kiln_family kiln_family_matmul = {
    .name = "matmul",
    .help = "acc = a b, then statements on every element (default: out = acc)",
    .keys = keys,
    .axis = {"m", "n"},
    .result = "acc",
    .statements = "out = acc",
    .operands = operands,
    .shape = shape,
    .variants = variants,
};

#include "tuner/suite.h"

#include "tuner/session.h"
#include "tuner/unit.h"

#include <stdlib.h>
#include <string.h>

typedef struct line {
    const char *problem;
    double weight;
} line;

/* Sizes a CPU can search in minutes; maps move 64 MB and more. */
static const line default_cpu[] = {
    {"matmul m=512 n=512 k=512 type=f32", 1.2},
    {"matmul m=1024 n=1024 k=1024 type=f32", 1.4},
    {"matmul m=2048 n=2048 k=2048 type=f32", 2.2},
    {"matmul m=8192 n=128 k=256 type=f32", 0.8},
    {"matmul m=16 n=4096 k=1024 type=f32 tb=1", 0.8},
    {"matmul m=501 n=777 k=333 type=f32", 0.7},
    {"matmul m=512 n=512 k=512 a=bf16 b=bf16 out=bf16", 0.8},
    {"matmul m=1024 n=1024 k=512 type=f32 : out = gelu(acc + bias[n]) + res[m,n]", 1},
    {"copy rows=4096 cols=4096 type=f32", 0.6},
    {"gelu_bias_residual rows=4096 cols=4096 type=f32", 0.8},
    {"swiglu rows=4096 cols=4096 type=f32", 0.8},
    {"softmax rows=4096 cols=4096 type=f32", 0.8},
    {"layernorm rows=4096 cols=4096 type=f32", 0.8},
    {"rmsnorm_residual rows=4096 cols=4096 type=f32", 0.8},
    {"row_sum rows=4096 cols=4096 type=f32", 0.6},
};

/* Maps move 256 MB and more. */
static const line default_gpu[] = {
    {"matmul m=4096 n=4096 k=4096 type=bf16 tb=1", 1.5},
    {"matmul m=4096 n=4096 k=4096 type=bf16", 1},
    {"matmul m=8192 n=8192 k=8192 type=bf16 tb=1", 1.5},
    {"matmul m=2048 n=2048 k=2048 type=f16", 1},
    {"matmul m=4096 n=4096 k=4096 a=i8 b=i8 out=i32 tb=1", 1},
    {"matmul m=2048 n=2048 k=2048 type=f32", 1},
    {"matmul m=65536 n=64 k=256 type=bf16", 0.8},
    {"matmul m=16 n=14336 k=4096 type=bf16 tb=1", 0.8},
    {"matmul m=1000 n=3000 k=776 type=bf16", 0.8},
    {"matmul m=4096 n=4096 k=4096 type=bf16 tb=1 : out = gelu(acc + bias[n]) + res[m,n]", 1},
    {"copy rows=16384 cols=8192 type=bf16", 0.6},
    {"gelu_bias_residual rows=16384 cols=8192 type=bf16", 0.8},
    {"swiglu rows=16384 cols=8192 type=bf16", 0.8},
    {"softmax rows=16384 cols=8192 type=bf16", 0.8},
    {"layernorm rows=16384 cols=8192 type=bf16", 0.8},
    {"rmsnorm_residual rows=16384 cols=8192 type=bf16", 0.8},
    {"row_sum rows=16384 cols=8192 type=bf16", 0.6},
};

/* The layers of an 8-billion-parameter Llama: qkv, attention output, gate and up, down. */
static const line llm_gpu[] = {
    {"matmul m=2048 n=6144 k=4096 type=bf16 tb=1", 1},
    {"matmul m=2048 n=4096 k=4096 type=bf16 tb=1 : out = acc + res[m,n]", 1},
    {"matmul m=2048 n=28672 k=4096 type=bf16 tb=1", 1},
    {"matmul m=2048 n=4096 k=14336 type=bf16 tb=1 : out = acc + res[m,n]", 1},
    {"matmul m=16 n=6144 k=4096 type=bf16 tb=1", 1},
    {"matmul m=16 n=4096 k=4096 type=bf16 tb=1", 1},
    {"matmul m=16 n=28672 k=4096 type=bf16 tb=1", 1},
    {"matmul m=16 n=4096 k=14336 type=bf16 tb=1", 1},
    {"rmsnorm_residual rows=2048 cols=4096 type=bf16", 0.6},
    {"swiglu rows=2048 cols=14336 type=bf16", 0.6},
    {"softmax rows=65536 cols=2048 type=bf16", 0.6},
};
static const line llm_cpu[] = {
    {"matmul m=64 n=6144 k=4096 type=f32 tb=1", 1},
    {"matmul m=64 n=4096 k=4096 type=f32 tb=1 : out = acc + res[m,n]", 1},
    {"matmul m=1 n=4096 k=4096 type=f32 tb=1", 1},
    {"matmul m=1 n=14336 k=4096 type=f32 tb=1", 1},
    {"rmsnorm_residual rows=2048 cols=4096 type=f32", 0.6},
    {"swiglu rows=2048 cols=14336 type=f32", 0.6},
    {"softmax rows=8192 cols=2048 type=f32", 0.6},
};

static int take(const line *lines, size_t n, kiln_arena *arena, kiln_suite *out, kiln_error *e) {
    const char **problem = kiln_arena_alloc(arena, n * sizeof *problem);
    double *weight = kiln_arena_alloc(arena, n * sizeof *weight);
    if (!problem || !weight) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a suite");
    for (size_t i = 0; i < n; i++) problem[i] = lines[i].problem, weight[i] = lines[i].weight;
    *out = (kiln_suite){.n = (int)n, .problem = problem, .weight = weight};
    return KILN_OK;
}
#define TAKE(lines) take(lines, sizeof(lines) / sizeof *(lines), arena, out, e)

/* A file in work. */
typedef struct reading {
    const char *path;
    kiln_arena *arena;
    int n, number;
    const char **problem, **group, *label;
    double *weight;
} reading;

static int start(reading *r, kiln_error *e) {
    r->problem = kiln_arena_alloc(r->arena, KILN_PROBLEMS_MAX * sizeof *r->problem);
    r->group = kiln_arena_alloc(r->arena, KILN_PROBLEMS_MAX * sizeof *r->group);
    r->weight = kiln_arena_alloc(r->arena, KILN_PROBLEMS_MAX * sizeof *r->weight);
    bool enough = r->problem && r->group && r->weight;
    return enough ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a suite");
}

/* "[squares]" */
static int take_label(reading *r, char *one, kiln_error *e) {
    size_t n = strlen(one), inner = strspn(one + 1, "abcdefghijklmnopqrstuvwxyz"
                                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    if (inner < 1 || inner > 40 || n != inner + 2 || one[n - 1] != ']')
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s, line %d: a group is one word of letters, digits, - _ . in brackets, "
                         "like [squares]",
                         r->path, r->number);
    one[n - 1] = 0;
    r->label = kiln_arena_strdup(r->arena, one + 1);
    return r->label ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a suite");
}

/* "weight=3 matmul ...": moves *one behind it. */
static int take_weight(reading *r, const char **one, double *weight, kiln_error *e) {
    static const char key[] = "weight=";
    char *end;
    *weight = 1;
    if (strncmp(*one, key, sizeof key - 1)) return KILN_OK;
    const char *number = *one + sizeof key - 1;
    *weight = strtod(number, &end);
    if (end == number || (*end != ' ' && *end != '\t') || !(*weight > 0) || *weight > 1e6)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s, line %d: a weight is a number above 0, to 1e6, and a problem follows "
                         "it, like weight=2.5 copy rows=64 cols=64 type=f32",
                         r->path, r->number);
    *one = end + strspn(end, " \t");
    return KILN_OK;
}

static int take_problem(reading *r, const char *one, kiln_error *e) {
    kiln_problem p;
    kiln_error why;
    if (r->n == KILN_PROBLEMS_MAX)
        return kiln_fail(e, KILN_BAD_INPUT, "%s holds more than %d problems", r->path, r->n);
    if (take_weight(r, &one, &r->weight[r->n], e)) return e->status;
    if (kiln_problem_parse(&p, one, &why))
        return kiln_fail(e, KILN_BAD_INPUT, "%s, line %d: %.400s", r->path, r->number, why.text);
    r->group[r->n] = r->label;
    r->problem[r->n++] = kiln_arena_strdup(r->arena, one);
    return KILN_OK;
}

static int take_line(reading *r, char *one, kiln_error *e) {
    r->number++;
    one[strcspn(one, "#\r")] = 0;
    one += strspn(one, " \t");
    size_t n = strlen(one);
    while (n && (one[n - 1] == ' ' || one[n - 1] == '\t')) one[--n] = 0;
    if (!n) return KILN_OK;
    return *one == '[' ? take_label(r, one, e) : take_problem(r, one, e);
}

/* Every line is parsed here, so that a mistake costs nothing but a message. */
static int read_file(const char *path, kiln_arena *arena, kiln_suite *out, kiln_error *e) {
    size_t size;
    reading r = {.path = path, .arena = arena};
    char *text = kiln_file_read(path, &size, e);
    if (!text) return e->status;
    char *rest = text, *one;
    int status = start(&r, e);
    while (!status && (one = strsep(&rest, "\n"))) status = take_line(&r, one, e);
    free(text);
    if (!status && !r.n) status = kiln_fail(e, KILN_BAD_INPUT, "%s holds no problem", path);
    *out = (kiln_suite){.n = r.n, .problem = r.problem, .weight = r.weight, .group = r.group};
    return status;
}

int kiln_suite_load(const char *name, const kiln_caps *caps, kiln_arena *arena, kiln_suite *out,
                    kiln_error *e) {
    bool cpu = caps->kind == KILN_DEVICE_CPU;
    if (!strcmp(name, "default")) return cpu ? TAKE(default_cpu) : TAKE(default_gpu);
    if (!strcmp(name, "llm")) return cpu ? TAKE(llm_cpu) : TAKE(llm_gpu);
    return read_file(name, arena, out, e);
}

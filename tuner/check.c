#include "tuner/check.h"

#include "base/hash.h"
#include "kernels/family.h"
#include "kernels/input.h"
#include "runtime/kiln.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 4 };
static const uint64_t SEED =
    20260; /* not the tuner's: the winner must be right on other data too */

/* Memory on the host that every operand of every problem passes through: fresh memory would cost
 * more time than copying it. */
typedef struct staging {
    char *data;
    int64_t bytes;
} staging;

static char *stage(staging *s, int64_t bytes) {
    if (bytes > s->bytes) {
        free(s->data);
        s->data = malloc((size_t)bytes);
        s->bytes = s->data ? bytes : 0;
    }
    return s->data;
}

/* One problem: its buffers on the device, its inputs for the evaluator, rows of its outputs. */
typedef struct arrays {
    kiln_problem *p;
    char *host;
    int64_t at[KILN_OPERANDS_MAX]; /* where outputs lie in `host`, side by side */
    void *device[KILN_OPERANDS_MAX];
    kiln_input input;
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX];
} arrays;

static int runtime_failed(kiln_error *e, const char *problem, int status) {
    return kiln_fail(e, status, "%s: %s", problem, kiln_last_error());
}

static int64_t whole_words(const kiln_operand *o) { return (kiln_operand_bytes(o) + 3) / 4 * 4; }

/* Room for the largest input, and later for all outputs. */
static int open_host(arrays *a, staging *host, kiln_error *e) {
    int64_t largest = 0, outputs = 0;
    for (int i = 0; i < a->p->n_operands; i++) {
        const kiln_operand *o = &a->p->operand[i];
        if (o->scalar) continue;
        a->at[i] = outputs;
        if (o->output) outputs += (kiln_operand_bytes(o) + 63) / 64 * 64;
        if (whole_words(o) > largest) largest = whole_words(o);
    }
    a->host = stage(host, largest > outputs ? largest : outputs);
    return a->host ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory to check the library");
}

static int open_rows(arrays *a, kiln_error *e) {
    for (int i = 0, j = 0; i < a->p->n_operands; i++) {
        const kiln_operand *o = &a->p->operand[i];
        if (!o->output) continue;
        a->value[j] = malloc((size_t)o->cols * sizeof(double));
        a->bound[j] = malloc((size_t)o->cols * sizeof(double));
        if (!a->value[j] || !a->bound[j])
            return kiln_fail(e, KILN_NO_MEMORY, "no memory to check %s", o->name);
        j++;
    }
    return KILN_OK;
}

static int open_buffer(kiln_context *context, arrays *a, int i, kiln_error *e) {
    const kiln_operand *o = &a->p->operand[i];
    int64_t bytes = whole_words(o);
    if (o->output)
        memset(a->host, 0xff, (size_t)bytes); /* NaN where nothing is written */
    else
        kiln_input_fill(o, SEED, i, a->host);
    int status = kiln_make_buffer(context, bytes, &a->device[i]);
    if (!status) status = kiln_write_buffer(context, a->device[i], a->host, bytes);
    return status ? runtime_failed(e, o->name, status) : KILN_OK;
}

static int open_arrays(kiln_context *context, arrays *a, staging *host, kiln_error *e) {
    int status = open_host(a, host, e);
    if (!status) status = kiln_input_open(&a->input, a->p, SEED, e);
    if (!status) status = open_rows(a, e);
    for (int i = 0; i < a->p->n_operands && !status; i++)
        if (!a->p->operand[i].scalar) status = open_buffer(context, a, i, e);
    return status;
}

static void close_arrays(kiln_context *context, arrays *a) {
    kiln_input_close(&a->input);
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) {
        free(a->value[i]), free(a->bound[i]);
        if (a->device[i]) kiln_free_buffer(context, a->device[i]);
    }
}

static int compare_output(const arrays *a, const char *text, int i, int j, int64_t batch,
                          int64_t row, kiln_error *e) {
    const kiln_operand *o = &a->p->operand[i];
    const char *at = a->host + a->at[i] +
                     (size_t)(batch * o->batch_stride + row * o->ld) * kiln_type_bytes(o->type);
    double u = kiln_type_roundoff(o->type);
    for (int64_t c = 0; c < o->cols; c++) {
        double got = kiln_type_read(o->type, at + (size_t)c * kiln_type_bytes(o->type));
        double want = kiln_type_saturate(o->type, a->value[j][c]);
        double allowed = a->bound[j][c] + u * (fabs(want) + a->bound[j][c]) + 1e-30 +
                         kiln_type_smallest_error(o->type) + (u == 0) * 0.5;
        if (!(fabs(got - want) <= allowed) && !(isnan(got) && isnan(want)))
            return kiln_fail(e, KILN_WRONG, "%s: %s[%lld,%lld] is %.9g, should be %.9g within %.3g",
                             text, o->name, (long long)row, (long long)c, got, want, allowed);
    }
    return KILN_OK;
}

static int compare_row(const arrays *a, const char *text, int64_t batch, int64_t row,
                       kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(a->p->family);
    int status = g->evaluate(a->p, &a->input.source, batch, row, a->value, a->bound, e);
    for (int i = 0, j = 0; i < a->p->n_operands && !status; i++)
        if (a->p->operand[i].output) status = compare_output(a, text, i, j++, batch, row, e);
    return status;
}

static int check_rows(kiln_context *context, arrays *a, const char *text, kiln_error *e) {
    int first = -1;
    for (int i = 0; i < a->p->n_operands; i++) {
        const kiln_operand *o = &a->p->operand[i];
        if (!o->output) continue;
        if (first < 0) first = i;
        int status =
            kiln_read_buffer(context, a->host + a->at[i], a->device[i], kiln_operand_bytes(o));
        if (status) return runtime_failed(e, text, status);
    }
    const kiln_operand *o = &a->p->operand[first];
    int status = KILN_OK;
    for (uint64_t i = 0; i < ROWS && !status; i++) {
        int64_t last = o->rows - 1; /* first and last row, and two drawn ones */
        int64_t row = i == 0   ? 0
                      : i == 1 ? last
                               : (int64_t)(kiln_random64(SEED, i) % (uint64_t)o->rows);
        status = compare_row(a, text, i == 1 ? o->batch - 1 : 0, row, e);
    }
    return status;
}

static int check_problem(kiln_context *context, const char *text, staging *host, kiln_error *e) {
    arrays a = {0};
    int status = kiln_make_problem(text, &a.p);
    if (status) return runtime_failed(e, text, status);
    status = open_arrays(context, &a, host, e);
    if (!status) {
        kiln_launch_args args = {
            .size = sizeof args, .operand = a.device, .scalar = a.input.scalar};
        int ran = kiln_run_problem(context, a.p, &args);
        status = ran ? runtime_failed(e, text, ran) : check_rows(context, &a, text, e);
    }
    close_arrays(context, &a);
    kiln_free_problem(a.p);
    return status;
}

int kiln_check_library(const char *path, const char *device, const char *const *problems, int n,
                       kiln_error *e) {
    kiln_library *library = NULL;
    kiln_context *context = NULL;
    staging host = {0};
    kiln_attach_options where = {.size = sizeof where, .device = device};
    int status = kiln_open_library(path, NULL, &library);
    if (!status) status = kiln_verify_library(library);
    if (!status) status = kiln_attach_device(library, &where, &context);
    if (status) status = runtime_failed(e, path, status);
    for (int i = 0; i < n && !status; i++) status = check_problem(context, problems[i], &host, e);
    kiln_detach_device(context);
    kiln_close_library(library);
    free(host.data);
    return status;
}

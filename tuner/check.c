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

/* One problem's arrays, on the host and on the device. */
typedef struct arrays {
    kiln_problem *p;
    void *host[KILN_OPERANDS_MAX];
    void *device[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
    double *value[KILN_OPERANDS_MAX], *bound[KILN_OPERANDS_MAX];
} arrays;

static int runtime_failed(kiln_error *e, const char *problem, int status) {
    return kiln_fail(e, status, "%s: %s", problem, kiln_last_error());
}

static int open_arrays(kiln_context *context, arrays *a, kiln_error *e) {
    int n_out = 0;
    for (int i = 0; i < a->p->n_operands; i++) {
        const kiln_operand *o = &a->p->operand[i];
        int64_t bytes = (kiln_operand_bytes(o) + 3) / 4 * 4;
        a->scalar[i] = kiln_input_scalar(SEED, i);
        if (o->scalar) continue;
        a->host[i] = malloc((size_t)bytes);
        if (o->output) {
            a->value[n_out] = malloc((size_t)o->cols * sizeof(double));
            a->bound[n_out++] = malloc((size_t)o->cols * sizeof(double));
        }
        if (!a->host[i]) return kiln_fail(e, KILN_NO_MEMORY, "no memory to check %s", o->name);
        memset(a->host[i], 0xff, (size_t)bytes); /* NaN where nothing is written */
        if (!o->output) kiln_input_fill(o, SEED, i, a->host[i]);
        int status = kiln_make_buffer(context, bytes, &a->device[i]);
        if (!status) status = kiln_write_buffer(context, a->device[i], a->host[i], bytes);
        if (status) return runtime_failed(e, o->name, status);
    }
    return KILN_OK;
}

static void close_arrays(kiln_context *context, arrays *a) {
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) {
        free(a->host[i]), free(a->value[i]), free(a->bound[i]);
        if (a->device[i]) kiln_free_buffer(context, a->device[i]);
    }
}

static int compare_row(const arrays *a, const char *text, int64_t batch, int64_t row,
                       kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(a->p->family);
    int status = g->evaluate_row(a->p, (const void *const *)a->host, a->scalar, batch, row,
                                 a->value, a->bound, e),
        j = 0;
    for (int i = 0; i < a->p->n_operands && !status; i++) {
        const kiln_operand *o = &a->p->operand[i];
        if (!o->output) continue;
        const char *at = (const char *)a->host[i] +
                         (size_t)(batch * o->batch_stride + row * o->ld) * kiln_type_bytes(o->type);
        double u = kiln_type_roundoff(o->type);
        for (int64_t c = 0; c < o->cols && !status; c++) {
            double got = kiln_type_read(o->type, at + (size_t)c * kiln_type_bytes(o->type));
            double want = kiln_type_saturate(o->type, a->value[j][c]);
            double allowed = a->bound[j][c] + u * (fabs(want) + a->bound[j][c]) + 1e-30 +
                             kiln_type_smallest_error(o->type) + (u == 0) * 0.5;
            if (!(fabs(got - want) <= allowed) && !(isnan(got) && isnan(want)))
                status = kiln_fail(e, KILN_WRONG,
                                   "%s: %s[%lld,%lld] is %.9g, should be %.9g within "
                                   "%.3g",
                                   text, o->name, (long long)row, (long long)c, got, want, allowed);
        }
        j++;
    }
    return status;
}

static int check_rows(kiln_context *context, arrays *a, const char *text, kiln_error *e) {
    int first = -1;
    for (int i = 0; i < a->p->n_operands; i++) {
        const kiln_operand *o = &a->p->operand[i];
        if (!o->output) continue;
        if (first < 0) first = i;
        int status = kiln_read_buffer(context, a->host[i], a->device[i], kiln_operand_bytes(o));
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

static int check_problem(kiln_context *context, const char *text, kiln_error *e) {
    arrays a = {0};
    int status = kiln_make_problem(text, &a.p);
    if (status) return runtime_failed(e, text, status);
    status = open_arrays(context, &a, e);
    if (!status) {
        kiln_launch_args args = {.size = sizeof args, .operand = a.device, .scalar = a.scalar};
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
    kiln_attach_options where = {.size = sizeof where, .device = device};
    int status = kiln_open_library(path, NULL, &library);
    if (!status) status = kiln_verify_library(library);
    if (!status) status = kiln_attach_device(library, &where, &context);
    if (status) status = runtime_failed(e, path, status);
    for (int i = 0; i < n && !status; i++) status = check_problem(context, problems[i], e);
    kiln_detach_device(context);
    kiln_close_library(library);
    return status;
}

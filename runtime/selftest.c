/* Runs problems that the library keeps test vectors for, and compares. */
#include "runtime/context.h"

#include "kernels/input.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct run {
    kiln_context *c;
    const kiln_problem *p;
    uint64_t seed;
    void *host[KILN_OPERANDS_MAX];
    void *buffer[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
} run;

static int make_operand(run *r, int i, kiln_error *e) {
    const kiln_operand *o = &r->p->operand[i];
    if (o->scalar) {
        r->scalar[i] = kiln_input_scalar(r->seed, i);
        return 0;
    }
    int64_t bytes = kiln_operand_bytes(o);
    r->host[i] = malloc((size_t)bytes);
    if (!r->host[i]) return kiln_fail(e, KILN_NO_MEMORY, "no memory for operand %s", o->name);
    if (o->output)
        memset(r->host[i], 0xff, (size_t)bytes); /* NaN: what is not written shows */
    else
        kiln_input_fill(o, r->seed, i, r->host[i]);
    int status = kiln_make_buffer(r->c, bytes, &r->buffer[i]);
    return status ? status : kiln_write_buffer(r->c, r->buffer[i], r->host[i], bytes);
}

static int read_outputs(run *r) {
    int status = 0;
    for (int i = 0; i < r->p->n_operands && !status; i++)
        if (r->p->operand[i].output)
            status = kiln_read_buffer(r->c, r->host[i], r->buffer[i],
                                      kiln_operand_bytes(&r->p->operand[i]));
    return status;
}

static int check_element(const run *r, const char *text, const library_test *t, kiln_error *e) {
    const kiln_operand *o =
        t->operand < (uint32_t)r->p->n_operands ? &r->p->operand[t->operand] : NULL;
    if (!o || !o->output || t->element < 0 || t->element >= kiln_operand_elements(o))
        return kiln_fail(e, KILN_CORRUPT, "a test vector of \"%.200s\" names no element", text);
    const char *at =
        (const char *)r->host[t->operand] + (size_t)t->element * kiln_type_bytes(o->type);
    double got = kiln_type_read(o->type, at);
    if (fabs(got - t->value) <= t->tolerance || (isnan(got) && isnan(t->value))) return 0;
    return kiln_fail(e, KILN_WRONG,
                     "\"%.200s\": element %lld of %s is %.9g and must be %.9g within %.3g; do not "
                     "use this library on this device and driver",
                     text, (long long)t->element, o->name, got, t->value, t->tolerance);
}

static int run_test(run *r, uint32_t exact, kiln_error *e) {
    const kiln_library *l = r->c->library;
    kiln_launch_args args = {sizeof args, r->buffer, r->scalar, NULL, NULL};
    int status = 0;
    for (int i = 0; i < r->p->n_operands && !status; i++) status = make_operand(r, i, e);
    if (!status) status = kiln_run_problem(r->c, r->p, &args);
    if (!status) status = read_outputs(r);
    for (uint32_t i = 0; i < l->n_tests && !status; i++)
        if (l->test[i].exact == exact)
            status = check_element(r, l->exact[exact].problem, &l->test[i], e);
    for (int i = 0; i < r->p->n_operands; i++) {
        kiln_free_buffer(r->c, r->buffer[i]);
        free(r->host[i]);
    }
    return status;
}

static const library_test *first_test(const kiln_library *l, uint32_t exact) {
    for (uint32_t i = 0; i < l->n_tests; i++)
        if (l->test[i].exact == exact) return &l->test[i];
    return NULL;
}

static int test_exact(kiln_context *c, uint32_t exact, kiln_error *e) {
    kiln_problem *p = NULL;
    int status = kiln_make_problem(c->library->exact[exact].problem, &p);
    if (!status) {
        run *r = calloc(1, sizeof *r);
        if (!r)
            status = kiln_fail(e, KILN_NO_MEMORY, "no memory for a test");
        else {
            *r = (run){.c = c, .p = p, .seed = first_test(c->library, exact)->seed};
            status = run_test(r, exact, e);
        }
        free(r);
    }
    kiln_free_problem(p);
    return status;
}

int kiln_test_context(kiln_context *c, const kiln_problem *public, int *tested) {
    kiln_error *e = kiln_status_last();
    if (!c) return kiln_fail(e, KILN_BAD_INPUT, "kiln_test_context: context is NULL");
    const char *only = public ? kiln_print_problem((kiln_problem *)public) : NULL;
    int n = 0, status = 0;
    for (uint32_t i = 0; i < c->library->n_exact && !status; i++) {
        const library_exact *x = &c->library->exact[i];
        if (!c->same[x->device] || (only && strcmp(only, x->problem))) continue;
        if (!first_test(c->library, i)) continue;
        status = test_exact(c, i, e);
        n++;
    }
    if (tested) *tested = n;
    if (only && !n && !status)
        return kiln_fail(e, KILN_NOT_FOUND, "the library has no test vectors for \"%.200s\" on %s",
                         only, c->id);
    return status;
}

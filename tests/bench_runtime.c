/* What the runtime adds to a launch: bench_runtime FILE.kiln. Not a test: it prints figures.
 *
 * The driver's launch is replaced by a function that does nothing, so what is timed is Kiln alone.
 * Each figure is the median of 21 rounds. */
#include "runtime/context.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 21, CALLS = 20000 };

static int no_launch(kiln_device *d, kiln_kernel *k, const kiln_launch *l, const kiln_bindings *b,
                     void *stream, kiln_error *e) {
    (void)d, (void)k, (void)l, (void)b, (void)stream, (void)e;
    return 0;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct bench {
    kiln_context *c;
    kiln_problem *p;
    kiln_plan *plan;
    kiln_launch_args args;
    const char *size_name; /* the first run-time size */
    int64_t size;
} bench;

static void remembered(bench *b, int i) {
    kiln_plan *plan;
    (void)i;
    kiln_get_plan(b->c, b->p, &plan);
    kiln_release_plan(plan);
}

static void resized(bench *b, int i) {
    int64_t size = b->size + i % 2;
    kiln_resize_problem(b->p, &b->size_name, &size, 1);
    remembered(b, i);
}

static void launched(bench *b, int i) {
    (void)i;
    kiln_launch_plan(b->plan, &b->args);
}

static void probed(bench *b, int i) {
    (void)i;
    kiln_reader_find(b->c->library, kiln_print_problem(b->p), 0);
}

static void chosen(bench *b, int i) {
    (void)i;
    kiln_plan_forget(b->c);
    remembered(b, i);
}

static void report(const char *what, bench *b, void (*call)(bench *, int), int calls) {
    double ns[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double start = now();
        for (int i = 0; i < calls; i++) call(b, i);
        ns[r] = (now() - start) / calls;
    }
    qsort(ns, ROUNDS, sizeof *ns, compare);
    printf("%-62s %8.1f ns  (%.1f to %.1f)\n", what, ns[ROUNDS / 2], ns[0], ns[ROUNDS - 1]);
}

static void fail(void) {
    fprintf(stderr, "bench_runtime: %s\n", kiln_last_error());
    exit(2);
}

static void find_size(bench *b) {
    const kiln_key *k = b->p->family->keys;
    int i = 0;
    while (k[i].kind != KILN_KEY_SIZE || k[i].compiled) i++;
    b->size_name = k[i].name;
    b->size = b->p->value[i];
}

int main(int argc, char **argv) {
    kiln_library *l;
    bench b = {0};
    void *operand[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX] = {0};
    if (argc != 2) return fprintf(stderr, "usage: bench_runtime FILE.kiln\n"), 2;
    double start = now();
    if (kiln_open_library(argv[1], NULL, &l)) fail();
    printf("open: %.2f ms for %" PRIu64 " bytes\n", (now() - start) * 1e-6, l->bytes);
    if (!l->n_exact) return fprintf(stderr, "bench_runtime: the library is empty\n"), 2;
    if (kiln_attach_device(l, NULL, &b.c) || kiln_make_problem(l->exact[0].problem, &b.p) ||
        kiln_get_plan(b.c, b.p, &b.plan) || kiln_prepare_plan(b.plan))
        fail();
    kiln_target nothing = *b.c->target;
    const kiln_target *real = b.c->target;
    nothing.launch = no_launch;
    for (int i = 0; i < KILN_OPERANDS_MAX; i++) operand[i] = &b;
    b.args = (kiln_launch_args){sizeof b.args, operand, scalar, &b, NULL};
    find_size(&b);
    printf("%s, %u kernels, %d launches\n", l->exact[0].problem, l->n_kernels,
           b.plan->program.n_launches);
    report("get and release a remembered plan", &b, remembered, CALLS);
    report("exact table: print the problem once, probe", &b, probed, CALLS);
    report("resize the problem, get and release a remembered plan", &b, resized, CALLS);
    kiln_resize_problem(b.p, &b.size_name, &b.size, 1);
    report("choose anew, exact", &b, chosen, CALLS / 20);
    b.size += 3;
    kiln_resize_problem(b.p, &b.size_name, &b.size, 1);
    report("choose anew, a size never tuned", &b, chosen, CALLS / 20);
    b.c->target = &nothing;
    report("launch, without the driver's part", &b, launched, CALLS);
    b.c->target = real;
    kiln_release_plan(b.plan);
    kiln_free_problem(b.p);
    kiln_detach_device(b.c);
    kiln_close_library(l);
    return 0;
}

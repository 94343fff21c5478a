/* kiln: what a library holds, whether it is whole, and a problem run through it and checked.
 * Unlike the runtime it links the families' references, to check results against. */
#include "kernels/family.h"
#include "kernels/input.h"
#include "runtime/context.h"

#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
    "kiln: look into a Kiln library and run it\n"
    "\n"
    "  kiln info FILE [--json]       devices, kernels and problems of a library\n"
    "  kiln verify FILE              every hash, of tables and of code\n"
    "  kiln run FILE [\"PROBLEM\"] [--device cuda:0|opencl:0] [--seed N] [--repeat N]\n"
    "                                run a problem on random data and check sampled rows against "
    "a\n"
    "                                reference in double precision; without a problem, all that "
    "the\n"
    "                                library was tuned for on this device\n"
    "  kiln test FILE [--device T:N] run the library's stored test vectors on this device\n"
    "\n"
    "A library (.kiln) is written by `tune emit` or by the main job, `tune --device auto`. A "
    "problem\n"
    "is one operation with its sizes, types and fused statements:\n"
    "\n"
    "  kiln run my.kiln \"matmul m=1000 n=512 k=512 a=f32 b=f32 out=f32 : out = relu(acc + "
    "bias[n])\"\n"
    "\n"
    "It need not have been tuned at these sizes: kiln says which kernel was chosen, and why.\n"
    "Exit status: 0 well, 1 a result is wrong, 2 anything else, with one sentence on stderr.\n";

typedef struct arguments {
    const char *command, *file, *problem, *device;
    bool json, help;
    uint64_t seed;
    int repeat;
} arguments;

static int complain(const char *sentence) {
    fprintf(stderr, "kiln: %s\n", sentence);
    return 2;
}

static int usage(const char *what, const char *which) {
    fprintf(stderr, "kiln: %s%s; see kiln --help\n", what, which);
    return 2;
}

/* ---------------------------------------------------------------- arguments */

static bool take_value(const char *name, int argc, char **argv, int *i, const char **out) {
    size_t n = strlen(name);
    if (!strncmp(argv[*i], name, n) && argv[*i][n] == '=') {
        *out = argv[*i] + n + 1;
        return true;
    }
    if (strcmp(argv[*i], name)) return false;
    *out = *i + 1 < argc ? argv[++*i] : "";
    return true;
}

static bool take_number(const char *text, uint64_t most, uint64_t *out) {
    char *end;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && *out <= most;
}

static int take_word(arguments *a, const char *word) {
    const char **place = !a->command ? &a->command : !a->file ? &a->file : &a->problem;
    if (*place) return usage("one problem at a time, in quotes; too many words at ", word);
    *place = word;
    return 0;
}

static int parse(arguments *a, int argc, char **argv) {
    *a = (arguments){.seed = 1, .repeat = 5};
    for (int i = 1; i < argc; i++) {
        const char *value = NULL;
        uint64_t number;
        int status = 0;
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            a->help = true;
        else if (!strcmp(argv[i], "--json"))
            a->json = true;
        else if (take_value("--device", argc, argv, &i, &value))
            a->device = value;
        else if (take_value("--seed", argc, argv, &i, &value)) {
            if (!take_number(value, UINT64_MAX, &a->seed))
                return usage("--seed needs a number, not ", value);
        } else if (take_value("--repeat", argc, argv, &i, &value)) {
            if (!take_number(value, 100000, &number) || !number)
                return usage("--repeat needs a number from 1 to 100000, not ", value);
            a->repeat = (int)number;
        } else if (argv[i][0] == '-')
            return usage("unknown option ", argv[i]);
        else
            status = take_word(a, argv[i]);
        if (status) return status;
    }
    if (!a->command || a->help)
        a->help = true;
    else if (!a->file)
        return usage("name a library file after ", a->command);
    return 0;
}

/* ---------------------------------------------------------------- info */

static const char *bytes_text(uint64_t bytes, char out[32]) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB"};
    double v = (double)bytes;
    int i = 0;
    for (; v >= 1024 && i < 3; i++) v /= 1024;
    snprintf(out, 32, i ? "%.1f %s" : "%.0f %s", v, unit[i]);
    return out;
}

static const char *time_text(double s, char out[32]) {
    if (s <= 0)
        snprintf(out, 32, "-");
    else if (s < 1e-3)
        snprintf(out, 32, "%.2f us", s * 1e6);
    else if (s < 1)
        snprintf(out, 32, "%.3f ms", s * 1e3);
    else
        snprintf(out, 32, "%.3f s", s);
    return out;
}

static void print_devices(const kiln_library *l) {
    printf("\nmade for\n");
    for (uint32_t i = 0; i < l->n_devices; i++) {
        const kiln_caps *c = &l->device[i];
        printf("  %u  %s (%s, %s, %d units), driver %s, compiler %s\n", i, c->name, c->target,
               c->arch, c->units, c->driver, c->compiler);
    }
}

static void print_problems(const kiln_library *l) {
    char t[32];
    printf("\ntuned problems: kernel, device, measured time, share of the error bound\n");
    for (uint32_t i = 0; i < l->n_exact; i++) {
        const library_exact *x = &l->exact[i];
        printf("  %.8s  %u  %10s  %5.3f  %s\n", l->kernel[x->kernel].hex, x->device,
               time_text(x->seconds, t), x->error_ratio, x->problem);
    }
}

static void print_kernels(const kiln_library *l) {
    char size[32];
    printf("\nkernels\n");
    for (uint32_t i = 0; i < l->n_kernels; i++) {
        const library_kernel *k = &l->kernel[i];
        printf("  %.8s  %s %s%s\n            for %s\n            code:", k->hex, k->family,
               k->schedule, k->fallback ? "  [generic]" : "", k->key);
        for (int j = 0; j < k->n_blobs; j++)
            printf(" %s %s%s", k->blob[j].kind, bytes_text(k->blob[j].size, size),
                   j + 1 < k->n_blobs ? "," : "\n");
        if (k->unusable) printf("            not usable: %s\n", k->unusable);
    }
}

static int info(const arguments *a, const kiln_library *l) {
    if (a->json) {
        char *json;
        if (kiln_describe_library(l, &json)) return complain(kiln_last_error());
        fputs(json, stdout);
        kiln_free_text(json);
        return 0;
    }
    char id[65], size[32];
    kiln_hex(l->id, 32, id);
    printf("%s: Kiln library %d.%d, %s, id %.16s\n", a->file, l->major, l->minor,
           bytes_text(l->bytes, size), id);
    printf("%u problems, %u kernels, %u measured points, %u test vectors\n", l->n_exact,
           l->n_kernels, l->n_points, l->n_tests);
    print_devices(l);
    print_problems(l);
    print_kernels(l);
    if (*l->provenance) printf("\nprovenance: %s\n", l->provenance);
    return 0;
}

static int verify(const arguments *a, const kiln_library *l) {
    char size[32];
    if (kiln_verify_library(l)) {
        fprintf(stderr, "kiln: %s: %s\n", a->file, kiln_last_error());
        return 2;
    }
    printf("%s: whole; %s, %d sections, %u kernels, %u problems, every hash is right\n", a->file,
           bytes_text(l->bytes, size), l->n_sections, l->n_kernels, l->n_exact);
    return 0;
}

/* ---------------------------------------------------------------- run */

enum { ROWS_CHECKED = 24 };

/* One problem with its data on host and device. */
typedef struct trial {
    kiln_context *c;
    kiln_problem *p;
    kiln_plan *plan;
    uint64_t seed;
    void *host[KILN_OPERANDS_MAX], *buffer[KILN_OPERANDS_MAX], *workspace;
    double scalar[KILN_OPERANDS_MAX];
    kiln_launch_args args;
} trial;

static int make_operand(trial *t, int i) {
    const kiln_operand *o = &t->p->operand[i];
    if (o->scalar) {
        t->scalar[i] = kiln_input_scalar(t->seed, i);
        return 0;
    }
    int64_t bytes = kiln_operand_bytes(o);
    t->host[i] = malloc((size_t)bytes);
    if (!t->host[i])
        return kiln_fail(kiln_status_last(), KILN_NO_MEMORY, "no memory for %s", o->name);
    if (o->output)
        memset(t->host[i], 0xff, (size_t)bytes);
    else
        kiln_input_fill(o, t->seed, i, t->host[i]);
    int status = kiln_make_buffer(t->c, bytes, &t->buffer[i]);
    return status ? status : kiln_write_buffer(t->c, t->buffer[i], t->host[i], bytes);
}

static int make_workspace(trial *t) {
    kiln_plan_info info = {.size = sizeof info};
    int status = kiln_get_plan_info(t->plan, &info);
    if (status || !info.workspace_bytes) return status;
    status = kiln_make_buffer(t->c, info.workspace_bytes, &t->workspace);
    int64_t zeroed = (info.workspace_zeroed_bytes + 3) / 4 * 4;
    if (!status && zeroed)
        status = t->c->target->fill(t->c->device, t->workspace, 0, zeroed, 0, kiln_status_last());
    return status;
}

static int set_up(trial *t, const char *text) {
    int status = kiln_make_problem(text, &t->p);
    if (!status) status = kiln_get_plan(t->c, t->p, &t->plan);
    if (!status) status = kiln_prepare_plan(t->plan);
    for (int i = 0; !status && i < t->p->n_operands; i++) status = make_operand(t, i);
    if (!status) status = make_workspace(t);
    t->args = (kiln_launch_args){sizeof t->args, t->buffer, t->scalar, t->workspace, NULL};
    return status;
}

static void tear_down(trial *t) {
    for (int i = 0; t->p && i < t->p->n_operands; i++) {
        kiln_free_buffer(t->c, t->buffer[i]);
        free(t->host[i]);
    }
    kiln_free_buffer(t->c, t->workspace);
    kiln_release_plan(t->plan);
    kiln_free_problem(t->p);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The fastest of a few, by the host's clock: an impression, not a measurement (that is `tune`). */
static int time_runs(trial *t, int repeat, double *best) {
    *best = INFINITY;
    for (int i = 0; i < repeat; i++) {
        double start = now();
        int status = kiln_launch_plan(t->plan, &t->args);
        if (!status) status = kiln_wait_context(t->c);
        if (status) return status;
        double seconds = now() - start;
        if (seconds < *best) *best = seconds;
    }
    return 0;
}

/* What the check of one problem found. */
typedef struct verdict {
    int64_t elements, wrong;
    double worst; /* largest error over its allowance */
    char first[160];
} verdict;

static void check_element(const trial *t, int operand, int64_t batch, int64_t row, int64_t col,
                          double value, double bound, verdict *v) {
    const kiln_operand *o = &t->p->operand[operand];
    int64_t at = batch * o->batch_stride + row * o->ld + col;
    double got =
        kiln_type_read(o->type, (char *)t->host[operand] + (size_t)at * kiln_type_bytes(o->type));
    value = kiln_type_saturate(o->type, value);
    /* rounding to the output's type on top of the computation's bound */
    double allowed = bound + kiln_type_roundoff(o->type) * (fabs(value) + bound) + 1e-38;
    if (o->type == KILN_I8 || o->type == KILN_I32) allowed = bound > 0 ? bound + 0.5 : 0;
    allowed += kiln_type_smallest_error(o->type);
    double error = fabs(got - value);
    v->elements++;
    if (isnan(value) && isnan(got)) return;
    if (o->type == KILN_F16 && isinf(got) && fabs(value) + allowed >= 65504) return;
    if (error <= allowed) {
        if (allowed > 0 && error / allowed > v->worst) v->worst = error / allowed;
        return;
    }
    if (!v->wrong++)
        snprintf(v->first, sizeof v->first, "%s[%lld,%lld] is %.9g and must be %.9g within %.3g",
                 o->name, (long long)row, (long long)col, got, value, allowed);
}

static int check_row(const trial *t, int64_t batch, int64_t row, double *const *value,
                     double *const *bound, verdict *v) {
    const kiln_generator *g = kiln_generator_of(t->p->family);
    int status = g->evaluate_row(t->p, (const void *const *)t->host, t->scalar, batch, row, value,
                                 bound, kiln_status_last());
    if (status) return status;
    for (int i = 0, j = 0; i < t->p->n_operands; i++) {
        const kiln_operand *o = &t->p->operand[i];
        if (!o->output) continue;
        for (int64_t c = 0; c < o->cols && row < o->rows; c++)
            check_element(t, i, batch, row, c, value[j][c], bound[j][c], v);
        j++;
    }
    return 0;
}

/* First, last and random rows. */
static int check_rows(const trial *t, double *const *value, double *const *bound, verdict *v) {
    int64_t rows = 0, batch = 1;
    for (int i = 0; i < t->p->n_operands; i++)
        if (t->p->operand[i].output) {
            rows = t->p->operand[i].rows;
            batch = t->p->operand[i].batch > 0 ? t->p->operand[i].batch : 1;
        }
    int64_t all = rows * batch, n = all < ROWS_CHECKED ? all : ROWS_CHECKED;
    int status = 0;
    for (int64_t i = 0; i < n && !status; i++) {
        int64_t at = n == all     ? i
                     : i == 0     ? 0
                     : i + 1 == n ? all - 1
                                  : (int64_t)(kiln_random64(t->seed, (uint64_t)i) % (uint64_t)all);
        status = check_row(t, at / rows, at % rows, value, bound, v);
    }
    return status;
}

static int64_t widest(const kiln_problem *p) {
    int64_t most = 1;
    for (int i = 0; i < p->n_operands; i++)
        if (p->operand[i].cols > most) most = p->operand[i].cols;
    return most;
}

static int check(trial *t, verdict *v) {
    double *value[KILN_OPERANDS_MAX] = {0}, *bound[KILN_OPERANDS_MAX] = {0};
    kiln_arena arena = {0};
    int status = 0, n = 0;
    *v = (verdict){0};
    for (int i = 0; i < t->p->n_operands && !status; i++) {
        const kiln_operand *o = &t->p->operand[i];
        if (!o->output) continue;
        status = kiln_read_buffer(t->c, t->host[i], t->buffer[i], kiln_operand_bytes(o));
        value[n] = kiln_arena_alloc(&arena, (size_t)widest(t->p) * sizeof(double));
        bound[n++] = kiln_arena_alloc(&arena, (size_t)widest(t->p) * sizeof(double));
        if (!status && (!value[n - 1] || !bound[n - 1]))
            status = kiln_fail(kiln_status_last(), KILN_NO_MEMORY, "no memory for the reference");
    }
    if (!status) status = check_rows(t, value, bound, v);
    kiln_arena_free(&arena);
    return status;
}

static void print_result(const trial *t, const verdict *v, double seconds) {
    static const char *const how[] = {"exact", "nearest", "generic", "override"};
    kiln_plan_info info = {.size = sizeof info};
    char text[32];
    kiln_get_plan_info(t->plan, &info);
    double flops = kiln_generator_of(t->p->family)->flops(t->p);
    printf("%s\n  %-7s %s %.12s: %s\n", kiln_print_problem(t->p), how[info.choice], info.schedule,
           info.kernel, info.reason);
    printf("  %s, %.2f GFLOP/s by the host's clock, waiting included; %lld elements checked, ",
           time_text(seconds, text), flops / seconds * 1e-9, (long long)v->elements);
    if (v->wrong)
        printf("%lld WRONG: %s\n", (long long)v->wrong, v->first);
    else
        printf("all right, worst at %.3f of its bound\n", v->worst);
}

/* 0 right, 1 wrong, 2 failed. */
static int run_one(kiln_context *c, const char *text, const arguments *a) {
    trial t = {.c = c, .seed = a->seed};
    verdict v;
    double seconds = 0;
    int status = set_up(&t, text);
    if (!status) status = time_runs(&t, a->repeat, &seconds);
    if (!status) status = check(&t, &v);
    if (!status)
        print_result(&t, &v, seconds);
    else
        complain(kiln_last_error());
    fflush(stdout);
    tear_down(&t);
    return status ? 2 : v.wrong ? 1 : 0;
}

static int run_all(kiln_context *c, const arguments *a) {
    const kiln_library *l = c->library;
    int worst = 0, n = 0;
    for (uint32_t i = 0; i < l->n_exact; i++) {
        if (!c->same[l->exact[i].device]) continue;
        int status = run_one(c, l->exact[i].problem, a);
        if (status > worst) worst = status;
        n++;
    }
    if (!n)
        return complain("nothing in this library was tuned on this device; give a problem, or tune "
                        "here");
    return worst;
}

static int run(const arguments *a, kiln_library *l) {
    kiln_attach_options o = {.size = sizeof o, .device = a->device};
    kiln_context *c;
    if (kiln_attach_device(l, &o, &c)) return complain(kiln_last_error());
    printf("device %s: %s\n", kiln_get_device(c), kiln_get_device_name(c));
    int status = a->problem ? run_one(c, a->problem, a) : run_all(c, a);
    kiln_detach_device(c);
    return status;
}

static int test(const arguments *a, kiln_library *l) {
    kiln_attach_options o = {.size = sizeof o, .device = a->device};
    kiln_context *c;
    int n = 0;
    if (a->problem) return usage("kiln test runs all stored test vectors; it takes no problem", "");
    if (kiln_attach_device(l, &o, &c)) return complain(kiln_last_error());
    int status = kiln_test_context(c, NULL, &n);
    if (status)
        complain(kiln_last_error());
    else if (!n)
        complain("the library has no test vectors for this device; use kiln run");
    else
        printf("device %s: %d problems tested, all right\n", kiln_get_device(c), n);
    kiln_detach_device(c);
    return status == KILN_STATUS_WRONG ? 1 : status || !n ? 2 : 0;
}

/* ---------------------------------------------------------------- main */

static void print_log(void *user, int level, const char *line) {
    (void)user;
    if (level == KILN_LOG_WARNING) fprintf(stderr, "kiln: note: %s\n", line);
}

static int act(const arguments *a, kiln_library *l) {
    if (!strcmp(a->command, "run")) return run(a, l);
    if (!strcmp(a->command, "test")) return test(a, l);
    if (a->problem || a->device)
        return usage("a problem or a device is for `kiln run`, not for ", a->command);
    return !strcmp(a->command, "info") ? info(a, l) : verify(a, l);
}

int main(int argc, char **argv) {
    arguments a;
    int status = parse(&a, argc, argv);
    if (status) return status;
    if (a.help) {
        fputs(help, stdout);
        return 0;
    }
    if (strcmp(a.command, "info") && strcmp(a.command, "verify") && strcmp(a.command, "run") &&
        strcmp(a.command, "test"))
        return usage("unknown command ", a.command);
    kiln_open_options o = {.size = sizeof o, .log = print_log};
    kiln_library *l;
    if (kiln_open_library(a.file, &o, &l)) return complain(kiln_last_error());
    status = act(&a, l);
    kiln_close_library(l);
    return status;
}

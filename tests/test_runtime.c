/* The runtime end to end, on the first OpenCL device (PoCL): a library is emitted from two real
 * kernels of a small map, opened, attached, and its plans are run and compared with plain C. */
#include "base/hash.h"
#include "kernels/emit.h"
#include "kernels/input.h"
#include "runtime/format.h"
#include "runtime/kiln.h"
#include "tuner/library.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CL_SILENCE_DEPRECATION
#include <CL/cl.h>

#include <cmocka.h>

#define TUNED "map rows=64 cols=256 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s"
#define MORE "map rows=4096 cols=256 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s"

enum { FAST, GENERIC };

static char folder[] = "/tmp/kiln-test-runtime-XXXXXX";
static kiln_caps caps;
static kiln_text source;
static kiln_blob code;
static char suffix[2][20];
static char schedule[2][256];
static kiln_library_sample sample[3];
static int lines; /* of log */

static const char *tuned_text(void) { return TUNED; }

static char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

#define OK(call)                                                                                   \
    do {                                                                                           \
        if (call) fail_msg("%s: %s", #call, kiln_last_error());                                    \
    } while (0)

/* ---------------------------------------------------------------- the library under test */

static void make_schedules(const kiln_problem *p, kiln_schedule s[2]) {
    const kiln_variant *v = kiln_variant_find(p->family, "simt");
    s[GENERIC] = s[FAST] = kiln_variant_default(v);
    kiln_schedule_set(&s[FAST], "v", 4);
    kiln_schedule_set(&s[FAST], "t", 64);
    kiln_schedule_set(&s[GENERIC], "t", 64);
    for (int i = 0; i < 2; i++) {
        kiln_text t = {0};
        kiln_schedule_print(&s[i], &t);
        snprintf(schedule[i], sizeof schedule[i], "%s", kiln_text_get(&t));
        kiln_text_free(&t);
    }
}

static void compile_unit(const kiln_target *t) {
    kiln_problem p;
    kiln_schedule s[2];
    kiln_error e = {0};
    kiln_program program[2];
    char name[2][64];
    if (kiln_problem_parse(&p, tuned_text(), &e)) fail_msg("%s", e.text);
    make_schedules(&p, s);
    if (kiln_emit_unit(&p, &caps, s, 2, suffix, &source, &e)) fail_msg("%s", e.text);
    const kiln_launch *warm[2];
    for (int i = 0; i < 2; i++) {
        memset(&program[i], 0, sizeof program[i]);
        if (s[i].variant->program(&p, &caps, &s[i], &program[i], &e)) fail_msg("%s", e.text);
        warm[i] = &program[i].launch[0];
        snprintf(name[i], sizeof name[i], "kiln_%s_%s", suffix[i], program[i].launch[0].entry);
    }
    kiln_compile_request request = {.source = kiln_text_get(&source),
                                    .n_warm = 2,
                                    .warm = warm,
                                    .warm_entry = (const char(*)[64])name};
    kiln_text words = {0};
    if (t->compile(&caps, &request, &code, NULL, &words, &e))
        fail_msg("%s\n%s", e.text, kiln_text_get(&words));
    kiln_text_free(&words);
}

/* What elements of the tuned problem must be, by plain C. */
static void make_samples(void) {
    kiln_problem p;
    kiln_error e;
    assert_int_equal(kiln_problem_parse(&p, tuned_text(), &e), 0);
    int x = kiln_problem_operand(&p, "x"), w = kiln_problem_operand(&p, "w"),
        s = kiln_problem_operand(&p, "s"), out = kiln_problem_operand(&p, "out");
    static const int64_t at[3] = {0, 257, 64 * 256 - 1};
    for (int i = 0; i < 3; i++) {
        double value = kiln_input_element(&p.operand[x], 5, x, at[i]) *
                           kiln_input_element(&p.operand[w], 5, w, at[i] % 256) +
                       kiln_input_scalar(5, s);
        sample[i] = (kiln_library_sample){out, at[i], value, 1e-6};
    }
}

static kiln_library_entry make_entry(const char *problem, int which, double seconds) {
    return (kiln_library_entry){.problem = problem,
                                .schedule = schedule[which],
                                .caps = &caps,
                                .source = kiln_text_get(&source),
                                .suffix = suffix[which],
                                .code = code.data,
                                .code_bytes = code.size,
                                .code_kind = "opencl",
                                .seconds = seconds,
                                .fallback = which == GENERIC,
                                .facts = {-1, -1, -1, -1, -1},
                                .seed = 5,
                                .sample = sample,
                                .n_samples = strcmp(problem, TUNED) ? 0 : 3};
}

static void emit(const char *name, const kiln_caps *as, bool measured, const char *kind) {
    kiln_library_entry x[3] = {make_entry(TUNED, FAST, 1e-5), make_entry(TUNED, GENERIC, 0),
                               make_entry(MORE, FAST, 6e-4)};
    kiln_error e = {0};
    for (int i = 0; i < 3; i++) {
        x[i].caps = as;
        if (!kind)
            x[i].code = NULL;
        else
            x[i].code_kind = kind;
        if (!measured) x[i].seconds = 0;
    }
    if (kiln_library_write(path_of(name), x, 3, NULL, &e)) fail_msg("%s", e.text);
}

static int set_up(void **state) {
    (void)state;
    kiln_error e = {0};
    assert_non_null(mkdtemp(folder));
    const kiln_target *t = kiln_target_find("opencl");
    assert_non_null(t);
    if (t->devices(&caps, 1, &e) < 1) fail_msg("%s", e.text);
    compile_unit(t);
    make_samples();
    emit("a.kiln", &caps, true, "opencl");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path_of("a.kiln"));
    unlink(path_of("b.kiln"));
    kiln_text_free(&source);
    free(code.data);
    return rmdir(folder);
}

/* ---------------------------------------------------------------- helpers */

typedef struct bench {
    kiln_library *l;
    kiln_context *c;
    kiln_problem *p;
    int n;
    void *buffer[KILN_OPERANDS_MAX];
    double scalar[KILN_OPERANDS_MAX];
    float *host[KILN_OPERANDS_MAX];
    int64_t bytes[KILN_OPERANDS_MAX];
    kiln_launch_args args;
} bench;

static void note_line(void *user, int level, const char *line) {
    (void)user;
    assert_true(level == KILN_LOG_INFO || level == KILN_LOG_WARNING);
    assert_true(strlen(line) > 10);
    lines++;
}

static void open_bench(bench *b, const char *name) {
    *b = (bench){0};
    kiln_open_options o = {.size = sizeof o, .log = note_line};
    OK(kiln_open_library(path_of(name), &o, &b->l));
    OK(kiln_attach_device(b->l, NULL, &b->c));
}

static void drop_problem(bench *b) {
    for (int i = 0; i < b->n; i++) {
        kiln_free_buffer(b->c, b->buffer[i]);
        free(b->host[i]);
        b->buffer[i] = b->host[i] = NULL;
    }
    kiln_free_problem(b->p);
    b->p = NULL;
    b->n = 0;
}

static void close_bench(bench *b) {
    drop_problem(b);
    kiln_detach_device(b->c);
    kiln_close_library(b->l);
}

static void set_problem(bench *b, const char *text) {
    drop_problem(b);
    OK(kiln_make_problem(text, &b->p));
    b->n = kiln_count_operands(b->p);
    for (int i = 0; i < b->n; i++) {
        kiln_operand_info o = {.size = sizeof o};
        OK(kiln_get_operand(b->p, i, &o));
        b->scalar[i] = 0.5;
        if (o.scalar) continue;
        b->bytes[i] = o.bytes;
        b->host[i] = malloc((size_t)o.bytes);
        for (int64_t j = 0; j < o.bytes / 4; j++)
            b->host[i][j] = o.output ? NAN : (float)(j % 17) * (i + 1) / 16;
        OK(kiln_make_buffer(b->c, o.bytes, &b->buffer[i]));
        OK(kiln_write_buffer(b->c, b->buffer[i], b->host[i], o.bytes));
    }
    b->args = (kiln_launch_args){.size = sizeof b->args, .operand = b->buffer, .scalar = b->scalar};
}

static int index_of(const bench *b, const char *name) {
    for (int i = 0; i < b->n; i++) {
        kiln_operand_info o = {.size = sizeof o};
        OK(kiln_get_operand(b->p, i, &o));
        if (!strcmp(o.name, name)) return i;
    }
    fail_msg("no operand %s", name);
    return -1;
}

static void check_result(bench *b) {
    int x = index_of(b, "x"), w = index_of(b, "w"), out = index_of(b, "out");
    kiln_operand_info o = {.size = sizeof o};
    OK(kiln_get_operand(b->p, out, &o));
    OK(kiln_read_buffer(b->c, b->host[out], b->buffer[out], b->bytes[out]));
    for (int64_t r = 0; r < o.rows; r++)
        for (int64_t c = 0; c < o.cols; c++) {
            float want = b->host[x][r * o.cols + c] * b->host[w][c] + 0.5f;
            float got = b->host[out][r * o.ld + c];
            if (!(fabsf(got - want) <= 1e-5f * (1 + fabsf(want))))
                fail_msg("element %lld, %lld is %g and must be %g", (long long)r, (long long)c,
                         (double)got, (double)want);
        }
}

static kiln_plan_info info_of(const kiln_plan *plan) {
    kiln_plan_info info = {.size = sizeof info};
    OK(kiln_get_plan_info(plan, &info));
    return info;
}

/* Plans, runs, compares; returns the choice. */
static int run_text(bench *b, const char *text) {
    kiln_plan *plan;
    set_problem(b, text);
    OK(kiln_get_plan(b->c, b->p, &plan));
    int how = info_of(plan).choice;
    assert_true(strlen(info_of(plan).reason) > 10);
    kiln_release_plan(plan);
    OK(kiln_run_problem(b->c, b->p, &b->args));
    check_result(b);
    return how;
}

/* ---------------------------------------------------------------- choosing and running */

static void exact_hit(void **state) {
    (void)state;
    bench b;
    open_bench(&b, "a.kiln");
    assert_int_equal(run_text(&b, TUNED), KILN_CHOICE_EXACT);
    /* another spelling of the same problem */
    assert_int_equal(
        run_text(&b, "map cols=256 rows=64 x=f32 w=f32 out=f32 s=scalar : out=(x*w[col])+s"),
        KILN_CHOICE_EXACT);
    kiln_stats s = {.size = sizeof s};
    OK(kiln_get_stats(b.c, &s));
    assert_int_equal(s.plans_exact, 1);
    assert_int_equal(s.plans_remembered, 3);
    assert_int_equal(s.kernels_loaded, 1);
    assert_int_equal(s.kernels_rebuilt, 0);
    assert_int_equal(s.launches, 2);
    close_bench(&b);
}

static void nearest_and_generic(void **state) {
    (void)state;
    bench b;
    open_bench(&b, "a.kiln");
    lines = 0;
    assert_int_equal(run_text(&b, "map rows=100 cols=512 x=f32 w=f32 out=f32 s=scalar : "
                                  "out = x * w[col] + s"),
                     KILN_CHOICE_NEAREST);
    assert_int_equal(lines, 1);
    /* 255 columns: the fast kernel takes four at once and is not legal */
    assert_int_equal(run_text(&b, "map rows=64 cols=255 x=f32 w=f32 out=f32 s=scalar : "
                                  "out = x * w[col] + s"),
                     KILN_CHOICE_FALLBACK);
    assert_int_equal(
        run_text(&b, "map rows=1 cols=1 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s"),
        KILN_CHOICE_FALLBACK);
    close_bench(&b);
}

static void nearest_scales_the_time(void **state) {
    (void)state;
    bench b;
    kiln_plan *plan;
    open_bench(&b, "a.kiln");
    set_problem(&b, "map rows=2048 cols=256 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s");
    OK(kiln_get_plan(b.c, b.p, &plan));
    kiln_plan_info info = info_of(plan);
    assert_true(fabs(info.distance - 1) < 1e-9); /* half of MORE, not 32 times TUNED */
    assert_true(fabs(info.predicted_seconds - 3e-4) < 1e-9);
    kiln_release_plan(plan);
    close_bench(&b);
}

static void no_kernel_at_all(void **state) {
    (void)state;
    bench b;
    kiln_plan *plan;
    open_bench(&b, "a.kiln");
    OK(kiln_make_problem("map rows=4 cols=4 x=f32 out=f32 : out = exp(x)", &b.p));
    assert_int_equal(kiln_get_plan(b.c, b.p, &plan), KILN_STATUS_NOT_FOUND);
    assert_null(plan);
    assert_non_null(strstr(kiln_last_error(), "exp(x)"));
    assert_non_null(strstr(kiln_last_error(), "x * w[col] + s"));
    close_bench(&b);
}

static void note_miss(void *user, const char *problem, const char *reason, int64_t times) {
    int64_t *seen = user;
    assert_true(strlen(reason) > 10);
    if (strstr(problem, "cols=512"))
        seen[0] = times;
    else if (strstr(problem, "cols=255"))
        seen[1] = times;
    else
        fail_msg("%s was no miss", problem);
}

static void misses_are_drained(void **state) {
    (void)state;
    bench b;
    int64_t seen[2] = {0}, lost = -1;
    open_bench(&b, "a.kiln");
    run_text(&b, TUNED);
    run_text(&b, "map rows=100 cols=512 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s");
    run_text(&b, "map rows=64 cols=255 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s");
    OK(kiln_drain_misses(b.c, note_miss, seen, &lost));
    assert_int_equal(seen[0], 2);
    assert_int_equal(seen[1], 2);
    assert_int_equal(lost, 0);
    seen[0] = seen[1] = 0;
    OK(kiln_drain_misses(b.c, note_miss, seen, NULL));
    assert_int_equal(seen[0], 0);
    run_text(&b, "map rows=64 cols=255 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s");
    OK(kiln_drain_misses(b.c, note_miss, seen, NULL));
    assert_int_equal(seen[1], 2);
    close_bench(&b);
}

static void override_and_candidates(void **state) {
    (void)state;
    bench b;
    kiln_plan *plan;
    kiln_candidate c[4] = {{.size = sizeof *c}};
    int n;
    open_bench(&b, "a.kiln");
    set_problem(&b, TUNED);
    OK(kiln_list_candidates(b.c, b.p, c, 4, &n));
    assert_int_equal(n, 2);
    assert_true(c[0].legal && c[1].legal);
    assert_string_equal(c[0].schedule, schedule[FAST]);
    assert_string_equal(c[1].schedule, schedule[GENERIC]);
    OK(kiln_override_problem(b.c, b.p, c[1].kernel));
    OK(kiln_get_plan(b.c, b.p, &plan));
    assert_int_equal(info_of(plan).choice, KILN_CHOICE_OVERRIDE);
    assert_string_equal(info_of(plan).schedule, schedule[GENERIC]);
    kiln_release_plan(plan);
    OK(kiln_run_problem(b.c, b.p, &b.args));
    check_result(&b);
    OK(kiln_clear_override(b.c, b.p));
    assert_int_equal(run_text(&b, TUNED), KILN_CHOICE_EXACT);
    assert_int_equal(kiln_clear_override(b.c, b.p), KILN_STATUS_NOT_FOUND);
    assert_int_equal(kiln_override_problem(b.c, b.p, "xyz"), KILN_STATUS_NOT_FOUND);
    set_problem(&b, "map rows=64 cols=255 x=f32 w=f32 out=f32 s=scalar : out = x * w[col] + s");
    assert_int_equal(kiln_override_problem(b.c, b.p, c[0].kernel), KILN_STATUS_UNSUPPORTED);
    OK(kiln_list_candidates(b.c, b.p, c, 4, &n));
    assert_false(c[1].legal);
    assert_non_null(strstr(c[1].why, "255"));
    close_bench(&b);
}

static void plans_are_remembered_and_bounded(void **state) {
    (void)state;
    bench b;
    kiln_plan *first, *again;
    open_bench(&b, "a.kiln");
    OK(kiln_make_problem(TUNED, &b.p));
    OK(kiln_get_plan(b.c, b.p, &first));
    OK(kiln_get_plan(b.c, b.p, &again));
    assert_ptr_equal(first, again);
    kiln_release_plan(again);
    static const char *const names[] = {"rows"};
    for (int64_t rows = 1; rows < 3000; rows++) {
        OK(kiln_resize_problem(b.p, names, &rows, 1));
        OK(kiln_get_plan(b.c, b.p, &again));
        kiln_release_plan(again);
    }
    assert_int_equal(info_of(first).choice, KILN_CHOICE_EXACT); /* still ours */
    kiln_release_plan(first);
    close_bench(&b);
}

static void sizes_change_without_parsing(void **state) {
    (void)state;
    bench b;
    open_bench(&b, "a.kiln");
    OK(kiln_make_problem(MORE, &b.p));
    const char *names[] = {"rows", "cols"};
    int64_t sizes[] = {64, 256};
    OK(kiln_resize_problem(b.p, names, sizes, 2));
    char *text = strdup(kiln_print_problem(b.p));
    set_problem(&b, TUNED);
    assert_string_equal(text, kiln_print_problem(b.p));
    sizes[1] = -4;
    assert_int_equal(kiln_resize_problem(b.p, names, sizes, 2), KILN_STATUS_BAD_INPUT);
    assert_string_equal(text, kiln_print_problem(b.p));
    names[0] = "depth";
    assert_int_equal(kiln_resize_problem(b.p, names, sizes, 1), KILN_STATUS_BAD_INPUT);
    assert_non_null(strstr(kiln_last_error(), "depth"));
    free(text);
    close_bench(&b);
}

/* ---------------------------------------------------------------- launching */

static void launch_wants_what_it_needs(void **state) {
    (void)state;
    bench b;
    kiln_plan *plan;
    open_bench(&b, "a.kiln");
    set_problem(&b, TUNED);
    OK(kiln_get_plan(b.c, b.p, &plan));
    assert_int_equal(kiln_launch_plan(plan, &b.args), KILN_STATUS_NOT_PREPARED);
    OK(kiln_prepare_plan(plan));
    OK(kiln_prepare_plan(plan));
    assert_int_equal(kiln_launch_plan(plan, NULL), KILN_STATUS_BAD_INPUT);
    b.args.size = 8;
    assert_int_equal(kiln_launch_plan(plan, &b.args), KILN_STATUS_BAD_INPUT);
    b.args.size = sizeof b.args;
    b.args.scalar = NULL;
    assert_int_equal(kiln_launch_plan(plan, &b.args), KILN_STATUS_BAD_INPUT);
    b.args.scalar = b.scalar;
    void *kept = b.buffer[0];
    b.buffer[0] = NULL;
    assert_int_equal(kiln_launch_plan(plan, &b.args), KILN_STATUS_BAD_INPUT);
    assert_non_null(strstr(kiln_last_error(), "operand 0"));
    b.buffer[0] = kept;
    OK(kiln_launch_plan(plan, &b.args));
    OK(kiln_wait_context(b.c));
    check_result(&b);
    kiln_release_plan(plan);
    close_bench(&b);
}

static void an_application_s_own_queue(void **state) {
    (void)state;
    cl_platform_id platform;
    cl_device_id device;
    assert_int_equal(clGetPlatformIDs(1, &platform, NULL), 0);
    assert_int_equal(clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL), 0);
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, NULL);
    bench b = {0};
    kiln_attach_options o = {.size = sizeof o,
                             .device = "opencl",
                             .attach = 1,
                             .context = context,
                             .handle = device,
                             .stream = queue};
    OK(kiln_open_library(path_of("a.kiln"), NULL, &b.l));
    OK(kiln_attach_device(b.l, &o, &b.c));
    set_problem(&b, TUNED);
    float first = b.host[index_of(&b, "w")][0];
    int w = index_of(&b, "w"), out = index_of(&b, "out");
    for (int64_t j = 0; j < b.bytes[w] / 4; j++) b.host[w][j] = first + (float)j;
    cl_mem own = clCreateBuffer(context, CL_MEM_COPY_HOST_PTR, (size_t)b.bytes[w], b.host[w], NULL);
    void *made = b.buffer[w];
    b.buffer[w] = own;
    kiln_plan *plan;
    OK(kiln_get_plan(b.c, b.p, &plan));
    OK(kiln_prepare_plan(plan));
    OK(kiln_launch_plan(plan, &b.args));
    assert_int_equal(clEnqueueReadBuffer(queue, b.buffer[out], CL_TRUE, 0, (size_t)b.bytes[out],
                                         b.host[out], 0, NULL, NULL),
                     0);
    check_result(&b);
    b.buffer[w] = made;
    kiln_release_plan(plan);
    close_bench(&b);
    clReleaseMemObject(own);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
}

/* Of runtime/context.h, whose short names are taken here. */
int kiln_context_join(kiln_library *l, const kiln_context *host, kiln_context **out);

/* A second library on a context's device: its kernel runs on the host's buffers and stream, and
 * leaves the device open when it goes. */
static void two_libraries_on_one_device(void **state) {
    (void)state;
    bench b;
    kiln_library *l;
    kiln_context *guest;
    kiln_plan *plan;
    open_bench(&b, "a.kiln");
    set_problem(&b, TUNED);
    OK(kiln_open_library(path_of("a.kiln"), NULL, &l));
    OK(kiln_context_join(l, b.c, &guest));
    assert_string_equal(kiln_get_device(guest), kiln_get_device(b.c));
    OK(kiln_get_plan(guest, b.p, &plan));
    OK(kiln_prepare_plan(plan));
    OK(kiln_launch_plan(plan, &b.args));
    OK(kiln_wait_context(b.c));
    check_result(&b);
    kiln_release_plan(plan);
    kiln_detach_device(guest);
    kiln_close_library(l);
    OK(kiln_run_problem(b.c, b.p, &b.args));
    check_result(&b);
    close_bench(&b);
}

static void prewarmed_plans_are_ready(void **state) {
    (void)state;
    bench b;
    kiln_plan *plan;
    open_bench(&b, "a.kiln");
    OK(kiln_prewarm_context(b.c, NULL, 0));
    OK(kiln_make_problem(TUNED, &b.p));
    OK(kiln_get_plan(b.c, b.p, &plan));
    assert_true(info_of(plan).prepared);
    kiln_release_plan(plan);
    static const char *const texts[] = {"map rows=2 cols=3 nonsense"};
    assert_int_equal(kiln_prewarm_context(b.c, texts, 1), KILN_STATUS_BAD_INPUT);
    close_bench(&b);
}

/* ---------------------------------------------------------------- other devices */

static void another_driver_rebuilds_from_source(void **state) {
    (void)state;
    kiln_caps older = caps;
    strcpy(older.driver, "an older driver");
    emit("b.kiln", &older, true, "opencl");
    bench b;
    open_bench(&b, "b.kiln");
    lines = 0;
    assert_int_equal(run_text(&b, TUNED), KILN_CHOICE_EXACT);
    assert_true(lines >= 1); /* it says so */
    kiln_stats s = {.size = sizeof s};
    OK(kiln_get_stats(b.c, &s));
    assert_int_equal(s.kernels_rebuilt, 1);
    close_bench(&b);
}

static void another_device_is_never_exact(void **state) {
    (void)state;
    kiln_caps other = caps;
    strcpy(other.name, "Another Device");
    emit("b.kiln", &other, true, NULL); /* source alone */
    bench b;
    kiln_plan *plan;
    open_bench(&b, "b.kiln");
    OK(kiln_make_problem(TUNED, &b.p));
    OK(kiln_get_plan(b.c, b.p, &plan));
    assert_int_equal(info_of(plan).choice, KILN_CHOICE_NEAREST);
    assert_non_null(strstr(info_of(plan).reason, "Another Device"));
    kiln_release_plan(plan);
    close_bench(&b);
}

static void no_suitable_device(void **state) {
    (void)state;
    kiln_caps cuda = caps;
    strcpy(cuda.target, "cuda");
    strcpy(cuda.name, "NVIDIA Imaginary");
    strcpy(cuda.arch, "sm_990a");
    cuda.arch_number = 990;
    emit("b.kiln", &cuda, true, "cubin");
    kiln_library *l;
    kiln_context *c;
    OK(kiln_open_library(path_of("b.kiln"), NULL, &l));
    kiln_attach_options o = {.size = sizeof o, .device = "opencl"};
    assert_int_equal(kiln_attach_device(l, &o, &c), KILN_STATUS_NO_DEVICE);
    assert_non_null(strstr(kiln_last_error(), "NVIDIA Imaginary"));
    o.device = "opencl:banana";
    assert_int_equal(kiln_attach_device(l, &o, &c), KILN_STATUS_BAD_INPUT);
    o.device = "abacus:0";
    assert_int_equal(kiln_attach_device(l, &o, &c), KILN_STATUS_BAD_INPUT);
    assert_non_null(strstr(kiln_last_error(), "opencl:0"));
    o.device = "opencl:99";
    assert_true(kiln_attach_device(l, &o, &c) < 0);
    assert_null(c);
    kiln_close_library(l);
}

/* ---------------------------------------------------------------- trust */

static void damaged_code_is_never_loaded(void **state) {
    (void)state;
    FILE *f = fopen(path_of("a.kiln"), "rb");
    fseek(f, 0, SEEK_END);
    size_t n = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(n);
    assert_int_equal(fread(data, 1, n, f), n);
    fclose(f);
    uint8_t *blobs = NULL;
    for (uint32_t i = 0; i < kiln_format_get32(data + 12); i++) {
        const uint8_t *s = data + KILN_HEADER_BYTES + i * KILN_SECTION_BYTES;
        if (kiln_format_get32(s) == KILN_SECTION_BLOBS) blobs = data + kiln_format_get64(s + 8);
    }
    assert_non_null(blobs);
    blobs[100] ^= 4; /* of the first blob */
    bench b = {0};
    kiln_plan *plan;
    OK(kiln_open_memory(data, n, NULL, &b.l));
    assert_int_equal(kiln_verify_library(b.l), KILN_STATUS_CORRUPT);
    OK(kiln_attach_device(b.l, NULL, &b.c));
    OK(kiln_make_problem(TUNED, &b.p));
    OK(kiln_get_plan(b.c, b.p, &plan));
    assert_int_equal(kiln_prepare_plan(plan), KILN_STATUS_CORRUPT);
    assert_int_equal(kiln_launch_plan(plan, &(kiln_launch_args){.size = sizeof(kiln_launch_args)}),
                     KILN_STATUS_NOT_PREPARED);
    kiln_release_plan(plan);
    close_bench(&b);
    free(data);
}

static void stored_tests(void **state) {
    (void)state;
    bench b;
    int tested = 0;
    open_bench(&b, "a.kiln");
    OK(kiln_test_context(b.c, NULL, &tested));
    assert_int_equal(tested, 1);
    OK(kiln_make_problem(MORE, &b.p));
    assert_int_equal(kiln_test_context(b.c, b.p, &tested), KILN_STATUS_NOT_FOUND);
    close_bench(&b);
    sample[1].value += 0.01;
    emit("b.kiln", &caps, true, "opencl");
    sample[1].value -= 0.01;
    open_bench(&b, "b.kiln");
    assert_int_equal(kiln_test_context(b.c, NULL, &tested), KILN_STATUS_WRONG);
    assert_non_null(strstr(kiln_last_error(), "element 257"));
    close_bench(&b);
}

/* The samples that the emitter takes by itself agree with a run. */
static void taken_samples(void **state) {
    (void)state;
    kiln_arena arena = {0};
    kiln_error e = {0};
    kiln_library_entry x[2] = {make_entry(TUNED, FAST, 1e-5), make_entry(TUNED, GENERIC, 0)};
    if (kiln_library_take_samples(&x[0], &arena, &e)) fail_msg("%s", e.text);
    assert_int_equal(x[0].n_samples, 9);
    if (kiln_library_write(path_of("b.kiln"), x, 2, NULL, &e)) fail_msg("%s", e.text);
    bench b;
    int tested = 0;
    open_bench(&b, "b.kiln");
    OK(kiln_test_context(b.c, NULL, &tested));
    assert_int_equal(tested, 1);
    close_bench(&b);
    kiln_arena_free(&arena);
}

static void reserved_and_misused(void **state) {
    (void)state;
    kiln_library *l;
    unsigned char key[1][32] = {{0}};
    kiln_open_options o = {.size = sizeof o, .keys = (const unsigned char(*)[32])key, .n_keys = 1};
    assert_int_equal(kiln_open_library(path_of("a.kiln"), &o, &l), KILN_STATUS_UNSUPPORTED);
    assert_int_equal(kiln_add_overlay(NULL, "x"), KILN_STATUS_UNSUPPORTED);
    kiln_problem *p;
    assert_int_equal(kiln_make_problem("matmul m=", &p), KILN_STATUS_BAD_INPUT);
    assert_int_equal(kiln_make_problem(NULL, &p), KILN_STATUS_BAD_INPUT);
    kiln_detach_device(NULL);
    kiln_release_plan(NULL);
    kiln_free_problem(NULL);
    assert_string_equal(kiln_get_status_text(KILN_STATUS_CORRUPT), "corrupt data");
    /* a struct of an older header: what it does not have is not touched */
    OK(kiln_make_problem(TUNED, &p));
    struct {
        kiln_operand_info info;
        int guard;
    } s = {.info.size = offsetof(kiln_operand_info, batch), .info.bytes = -7};
    OK(kiln_get_operand(p, 0, &s.info));
    assert_int_equal(s.info.bytes, -7);
    assert_string_equal(s.info.name, "x");
    s.info.size = 0;
    assert_int_equal(kiln_get_operand(p, 0, &s.info), KILN_STATUS_BAD_INPUT);
    assert_int_equal(kiln_get_operand(p, 99, &s.info), KILN_STATUS_BAD_INPUT);
    kiln_free_problem(p);
}

/* kiln.map exports what kiln.h declares, nothing more. */
static void the_map_is_the_header(void **state) {
    (void)state;
    char line[256], name[64];
    kiln_text header = {0}, map = {0};
    FILE *f = fopen("runtime/kiln.h", "r");
    if (!f) skip(); /* run outside the repository's root */
    while (fgets(line, sizeof line, f)) kiln_text_add(&header, line);
    fclose(f);
    f = fopen("runtime/kiln.map", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, " kiln_%60[a-z_];", name) != 1) continue;
        kiln_text_printf(&map, " kiln_%s;", name);
        snprintf(line, sizeof line, "kiln_%s(", name);
        if (!strstr(kiln_text_get(&header), line)) fail_msg("kiln.h does not declare %s", line);
    }
    fclose(f);
    for (const char *at = kiln_text_get(&header); (at = strstr(at, "kiln_")); at++) {
        int used = 0;
        if (sscanf(at, "kiln_%60[a-z_]%n", name, &used) != 1 || at[used] != '(') continue;
        snprintf(line, sizeof line, " kiln_%s;", name);
        if (!strstr(kiln_text_get(&map), line)) fail_msg("kiln.map does not export%s", line);
    }
    kiln_text_free(&header);
    kiln_text_free(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_hit),
        cmocka_unit_test(nearest_and_generic),
        cmocka_unit_test(nearest_scales_the_time),
        cmocka_unit_test(no_kernel_at_all),
        cmocka_unit_test(misses_are_drained),
        cmocka_unit_test(override_and_candidates),
        cmocka_unit_test(plans_are_remembered_and_bounded),
        cmocka_unit_test(sizes_change_without_parsing),
        cmocka_unit_test(launch_wants_what_it_needs),
        cmocka_unit_test(an_application_s_own_queue),
        cmocka_unit_test(two_libraries_on_one_device),
        cmocka_unit_test(prewarmed_plans_are_ready),
        cmocka_unit_test(another_driver_rebuilds_from_source),
        cmocka_unit_test(another_device_is_never_exact),
        cmocka_unit_test(no_suitable_device),
        cmocka_unit_test(damaged_code_is_never_loaded),
        cmocka_unit_test(stored_tests),
        cmocka_unit_test(taken_samples),
        cmocka_unit_test(reserved_and_misused),
        cmocka_unit_test(the_map_is_the_header),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* Isolation, shown with real broken kernels on a real driver: an endless loop, writes out of
 * bounds (near: into the guard zones; wild: a segmentation fault), a wrong result, a kernel that
 * writes nothing. Each costs its own trial and nothing else. Runs on every device that is here. */
#include "kernels/emit.h"
#include "tuner/unit.h"
#include "tuner/worker.h"

#include "results/record.h"
#include "targets/target.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char problem_text[] = "map rows=64 cols=64 x=f32 out=f32 : out = x + 1";
static char cache[64];

typedef struct broken {
    const char *name, *body; /* statements of the kernel, with x and out its operands */
    const char *outcome;     /* that must come of it; two are allowed where drivers differ */
    const char *or_outcome;
    int arch;                /* CUDA: only from this architecture on */
} broken;

static const broken kernels[] = {
    {"writes nothing", "", "wrong", NULL, 0},
    {"wrong by one element", "if (FIRST) { for (int i = 0; i < 4096; i++) out[i] = x[i] + 1.0f; "
                             "out[777] += 0.5f; }", "wrong", NULL, 0},
    {"one element behind", "if (FIRST) { for (int i = 0; i <= 4096; i++) out[i] = 1.0f + "
                           "(i < 4096 ? x[i] : 0.0f); }", "out-of-bounds", "device-error", 0},
    {"one element before", "if (FIRST) { for (int i = -1; i < 4096; i++) out[i] = 1.0f + "
                           "(i >= 0 ? x[i] : 0.0f); }", "out-of-bounds", "device-error", 0},
    {"wild store", "out[((long)1 << 40)] = 1.0f;", "crash", "device-error", 0},
    {"endless loop", "volatile GLOBAL float *on = out; while (on[0] != 3.0f) {} out[0] = 1.0f;", "timeout", NULL, 0},
    /* asks for more registers than the block was launched with: waits for ever */
    {"setmaxnreg deadlock", "asm volatile(\"setmaxnreg.inc.sync.aligned.u32 240;\"); out[0] = 1.0f;",
     "timeout", "wrong", 90},
};

/* A kernel with the launch's arguments, whose body is as broken as asked. */
static char *write_source(const kiln_caps *caps, const kiln_launch *l, const kiln_problem *p,
                          const char *suffix, const char *body) {
    kiln_text t = {0};
    char path[64];
    snprintf(path, sizeof path, "targets/%s/dialect.h", caps->target);
    kiln_text_add(&t, kiln_embedded(path));
    if (strstr(body, "setmaxnreg")) /* obeyed only with a register cap at entry: 64 a thread here */
        kiln_text_add(&t, "\n#undef KERNEL\n#define KERNEL(x, y, z) extern \"C\" __global__ void "
                          "__launch_bounds__(1024, 1)\n");
    kiln_text_printf(&t, "\n#define FIRST (THREAD(0) == 0 && THREAD(1) == 0 && BLOCK(0) == 0 && BLOCK(1) == 0)\n"
                     "KERNEL(%u, %u, %u) kiln_%s_%s(", l->block[0], l->block[1], l->block[2], suffix, l->entry);
    for (int i = 0; i < l->n_args; i++) {
        const kiln_arg *a = &l->arg[i];
        kiln_text_add(&t, i ? ", " : "");
        switch (a->kind) {
        case KILN_ARG_OPERAND: kiln_text_printf(&t, "GLOBAL float *%s", p->operand[a->index].name); break;
        case KILN_ARG_WORKSPACE: kiln_text_printf(&t, "GLOBAL char *a%d", i); break;
        case KILN_ARG_I32: kiln_text_printf(&t, "int a%d", i); break;
        case KILN_ARG_I64: kiln_text_printf(&t, "i64 a%d", i); break;
        default: kiln_text_printf(&t, "float a%d", i); break;
        }
    }
    kiln_text_printf(&t, ") { %s }\n", body);
    return t.data;
}

/* Compiles it under a name of its own, without running it. */
static void make_unit(const kiln_target *target, const kiln_caps *caps, const char *source,
                      const char *name) {
    kiln_blob code = {0}, ptx = {0};
    kiln_text log = {0};
    kiln_error e = {0};
    kiln_compile_request request = {.source = source};
    int status = target->compile(caps, &request, &code, &ptx, &log, &e);
    if (status) fail_msg("%s: %s\n%s", name, e.text, kiln_text_get(&log));
    assert_int_equal(kiln_unit_write(cache, name, "bin", code.data, code.size, &e), 0);
    free(code.data), free(ptx.data);
    kiln_text_free(&log);
}

static json_t *ask(kiln_worker *w, json_t *request, double seconds, kiln_worker_event *event) {
    json_t *reply = NULL;
    kiln_text detail = {0};
    kiln_error e = {0};
    int which;
    assert_int_equal(kiln_worker_send(w, request, seconds, &e), 0);
    json_decref(request);
    while ((*event = kiln_worker_wait(w, 1, 1, &which, &reply, &detail)) == KILN_EVENT_NONE) {}
    kiln_text_free(&detail);
    return reply;
}

static void set_up(kiln_worker *w) {
    kiln_worker_event event;
    json_t *reply = ask(w, json_pack("{s:s, s:s, s:i, s:b}", "do", "setup", "problem", problem_text,
                                     "seed", 7, "hot", 1), 60, &event);
    assert_int_equal(event, KILN_EVENT_REPLY);
    if (json_integer_value(json_object_get(reply, "status")))
        fail_msg("setup: %s", json_string_value(json_object_get(reply, "error")));
    json_decref(reply);
}

/* The outcome's name of one trial of a unit; what the tuner would write into the record. */
static void try_unit(kiln_worker *w, const char *schedule, const char *unit, const char *suffix,
                     double seconds, char out[32]) {
    kiln_worker_event event;
    json_t *reply = ask(w, json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "do", "trial", "schedule",
                                     schedule, "unit", unit, "suffix", suffix, "best", 0.0,
                                     "seconds", 0.05), seconds, &event);
    snprintf(out, 32, "%s", event == KILN_EVENT_TIMEOUT ? "timeout" : "crash");
    if (event == KILN_EVENT_REPLY) {
        kiln_arena arena = {0};
        kiln_record r;
        const char *line = json_string_value(json_object_get(reply, "record"));
        assert_non_null(line);
        assert_int_equal(kiln_record_parse(&r, line, strlen(line), &arena, NULL), 0);
        snprintf(out, 32, "%s", kiln_outcome_name(r.outcome));
        kiln_arena_free(&arena);
        if (r.outcome != KILN_OUTCOME_OK) kiln_worker_stop(w); /* as the tuner does */
    }
    json_decref(reply);
}

static void check_device(const kiln_target *target, const kiln_caps *caps) {
    kiln_problem p;
    kiln_error e = {0};
    assert_int_equal(kiln_problem_parse(&p, problem_text, &e), 0);
    kiln_schedule s;
    bool found = false;
    for (const kiln_variant_generator *v = kiln_generator_of(p.family)->variants; v->variant && !found; v++) {
        s = v->start(&p, caps);
        found = v->applies(&p, caps, NULL) && v->variant->legal(&p, caps, &s, NULL);
    }
    assert_true(found);
    kiln_program program;
    assert_int_equal(s.variant->program(&p, caps, &s, &program, &e), 0);
    kiln_text schedule = {0};
    kiln_schedule_print(&s, &schedule);
    kiln_worker w = {.role = KILN_WORKER_MEASURE};
    kiln_caps_id(caps, w.device);
    snprintf(w.cache, sizeof w.cache, "%s", cache);

    /* the real kernel, before and after everything that goes wrong */
    char suffix[1][20], outcome[32], name[64];
    kiln_text source = {0};
    assert_int_equal(kiln_emit_unit(&p, caps, &s, 1, suffix, &source, &e), 0);
    make_unit(target, caps, kiln_text_get(&source), "good");
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++) {
        const broken *k = &kernels[i];
        if (k->arch > caps->arch_number) continue;
        char *text = write_source(caps, &program.launch[0], &p, suffix[0], k->body);
        snprintf(name, sizeof name, "broken-%zu", i);
        make_unit(target, caps, text, name);
        free(text);
        set_up(&w);
        try_unit(&w, kiln_text_get(&schedule), name, suffix[0], 3, outcome);
        printf("%s:%d  %-22s -> %s\n", caps->target, caps->index, k->name, outcome);
        if (strcmp(outcome, k->outcome) && !(k->or_outcome && !strcmp(outcome, k->or_outcome)))
            fail_msg("%s came out as %s, not %s", k->name, outcome, k->outcome);
        set_up(&w);
        try_unit(&w, kiln_text_get(&schedule), "good", suffix[0], 30, outcome);
        assert_string_equal(outcome, "ok");
    }
    kiln_worker_stop(&w);
    kiln_text_free(&source);
    kiln_text_free(&schedule);
}

static void test_broken_kernels(void **state) {
    static kiln_caps caps[16];
    int tried = 0;
    (void)state;
    for (int t = 0; kiln_targets[t]; t++) {
        kiln_error why = {0};
        int n = kiln_targets[t]->devices(caps, 16, &why);
        if (n <= 0) printf("%s skipped: %s\n", kiln_targets[t]->name, why.text);
        for (int i = 0; i < n; i++, tried++) check_device(kiln_targets[t], &caps[i]);
    }
    assert_true(tried > 0);
}

/* A worker that is killed while idle is replaced unseen; one that is busy is reported. */
static void test_killed_worker(void **state) {
    static kiln_caps caps[16];
    kiln_worker w = {.role = KILN_WORKER_MEASURE};
    kiln_error e = {0};
    (void)state;
    for (int t = 0; kiln_targets[t] && !w.device[0]; t++)
        if (kiln_targets[t]->devices(caps, 16, &e) > 0) kiln_caps_id(&caps[0], w.device);
    snprintf(w.cache, sizeof w.cache, "%s", cache);
    set_up(&w);
    pid_t first = w.pid;
    kill(first, SIGKILL);
    usleep(50000);
    set_up(&w);
    assert_int_not_equal(w.pid, first);

    json_t *request = json_pack("{s:s, s:s, s:i, s:b}", "do", "setup", "problem",
                                "map rows=2048 cols=2048 x=f32 out=f32 : out = x", "seed", 1, "hot", 1);
    assert_int_equal(kiln_worker_send(&w, request, 60, &e), 0);
    json_decref(request);
    kill(w.pid, SIGKILL);
    int which;
    json_t *reply;
    kiln_text detail = {0};
    kiln_worker_event event;
    while ((event = kiln_worker_wait(&w, 1, 1, &which, &reply, &detail)) == KILN_EVENT_NONE) {}
    assert_int_equal(event, KILN_EVENT_DIED);
    assert_non_null(strstr(kiln_text_get(&detail), "Killed"));
    kiln_text_free(&detail);
    kiln_worker_stop(&w);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "worker")) return kiln_worker_main(argc - 2, argv + 2);
    snprintf(cache, sizeof cache, "/tmp/kiln-test-XXXXXX");
    if (!mkdtemp(cache)) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_broken_kernels),
                                       cmocka_unit_test(test_killed_worker)};
    int failed = cmocka_run_group_tests_name("worker", tests, NULL, NULL);
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", cache);
    return failed + (system(command) != 0);
}

/* Resilience, with real processes on PoCL: kill -9 of tuner and workers at random moments, Ctrl-C,
 * SIGTERM, and the same command again. Takes one to three minutes.
 *
 * KILN_TEST_SEED repeats the kills of a run (their moments depend on the machine, too). */
#include "base/hash.h"
#include "results/store.h"
#include "tests/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>
#include <time.h>

enum { KILLS = 54, LINES_MAX = 4096 };

static uint64_t seed, drawn;
static double chance(void) { return (double)(kiln_random64(seed, drawn++) >> 11) * 0x1p-53; }

/* ---- what a store holds ---- */

/* One record: its whole line, and which trial it is. */
typedef struct kept {
    char *line, *trial;
    bool search, right, blamed;
} kept;

typedef struct kept_list {
    int n;
    kept at[LINES_MAX];
} kept_list;

static int keep_record(void *context, int64_t id, const kiln_record *r) {
    kept_list *list = context;
    kiln_text line = {0}, trial = {0};
    (void)id;
    if (list->n == LINES_MAX) return 1;
    kiln_record_print(r, &line);
    kiln_text_printf(&trial, "%s | %s | %s", r->problem, r->schedule, r->protocol);
    list->at[list->n++] = (kept){
        .line = line.data,
        .trial = trial.data,
        .search = !strcmp(r->phase, "search"),
        .right = r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW,
        .blamed = r->outcome == KILN_OUTCOME_CRASH || r->outcome == KILN_OUTCOME_COMPILE_CRASH,
    };
    return 0;
}

static void forget(kept_list *list) {
    for (int i = 0; i < list->n; i++) free(list->at[i].line), free(list->at[i].trial);
    list->n = 0;
}

/* All records, read beside a tuner that may be writing, or after one that was killed. */
static void read_store(const char *path, kept_list *list) {
    kiln_error e = {0};
    forget(list);
    kiln_store *s = kiln_store_open(path, true, &e);
    if (!s && e.status == KILN_NOT_FOUND) return; /* killed before there was one */
    if (!s) fail_msg("%s", e.text);
    if (kiln_store_each(s, NULL, keep_record, list, &e)) fail_msg("%s", e.text);
    kiln_store_close(s);
}

static int searches(const kept_list *list) {
    int n = 0;
    for (int i = 0; i < list->n; i++) n += list->at[i].search;
    return n;
}

/* Everything in `earlier` is in `now`, letter for letter. */
static void check_nothing_lost(const kept_list *earlier, const kept_list *now) {
    for (int i = 0; i < earlier->n; i++) {
        bool found = false;
        for (int k = 0; k < now->n && !found; k++) found = !strcmp(earlier->at[i].line, now->at[k].line);
        if (!found) fail_msg("lost: %s", earlier->at[i].line);
    }
}

/* No trial of the search is there twice. */
static void check_nothing_twice(const kept_list *list) {
    for (int i = 0; i < list->n; i++)
        for (int k = i + 1; list->at[i].search && k < list->n; k++)
            if (list->at[k].search && !strcmp(list->at[i].trial, list->at[k].trial))
                fail_msg("twice: %s\n%s\n%s", list->at[i].trial, list->at[i].line, list->at[k].line);
}

/* ---- kills ---- */

static kept_list before, after;

/* The one file in `out` that ends so; NULL when there is none. */
static const char *find_file(const char *out, const char *ending) {
    static char found[1024];
    glob_t g;
    char pattern[1100];
    snprintf(pattern, sizeof pattern, "%s/*%s", out, ending);
    bool one = glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc == 1;
    if (one) snprintf(found, sizeof found, "%s", g.gl_pathv[0]);
    globfree(&g);
    return one ? found : NULL;
}

static void check_library(const char *out) {
    const char *library = find_file(out, ".kiln");
    assert_non_null(library);
    process_result r = PROCESS_RUN(60, process_program("kiln"), "verify", library);
    if (r.status) fail_msg("kiln verify: %s", r.err);
    process_free(&r);
    r = PROCESS_RUN(60, process_program("kiln"), "run", library, "--device", "opencl:0");
    if (r.status) fail_msg("kiln run: status %d: %s%s", r.status, r.out, r.err);
    process_free(&r);
}

typedef struct session {
    const char *argv[24];
    const char *out, *store;
    pid_t pid;
    int compile_killed_at; /* records when a compile worker was killed last */
} session;

static void start(session *s) {
    s->pid = process_start(s->argv, process_path("session.out"), process_path("session.err"));
    assert_true(s->pid > 0);
}

static void fail_with_words(const char *what, int status) {
    char *out = process_read(process_path("session.out")), *err = process_read(process_path("session.err"));
    fail_msg("%s: exit status %d\n%s\n%s", what, status, out, err);
}

/* Waits until the store has more records than `n`, the session ends, or the time is over. */
static bool wait_for_record(session *s, int n, double seconds, int *status) {
    for (double end = kiln_now() + seconds; kiln_now() < end; usleep(20000)) {
        if (process_ended(s->pid, status)) return s->pid = 0, false;
        read_store(s->store, &after);
        if (after.n > n) return true;
    }
    return true;
}

enum { TUNER, MEASURE, COMPILE, N_VICTIMS };

static pid_t choose_victim(const session *s, int kind) {
    static const char *const role[] = {"", "measure", "compile"};
    pid_t worker[64];
    if (kind == TUNER) return s->pid;
    int n = process_workers(s->pid, role[kind], worker, 64);
    return n ? worker[(int)(chance() * n)] : 0;
}

/* One kill at a random moment after the next record. A compile job is tried again at once: on a slow or
 * busy machine the next kill would find it again, and the third blames it. So compile workers have
 * peace for a few records. False when the session ended by itself. */
enum { PEACE = 4 };
static bool kill_once(session *s, int killed[N_VICTIMS], int *status) {
    read_store(s->store, &after);
    if (!wait_for_record(s, after.n, 8, status)) return false;
    usleep((useconds_t)(chance() * 0.7e6));
    if (process_ended(s->pid, status)) return s->pid = 0, false;
    int kind = (int)(chance() * N_VICTIMS);
    if (kind == COMPILE && s->compile_killed_at && after.n < s->compile_killed_at + PEACE) kind = MEASURE;
    if (kind == COMPILE) s->compile_killed_at = after.n;
    pid_t victim = choose_victim(s, kind);
    if (!victim) return true; /* no such worker at this moment */
    if (kind == TUNER) read_store(s->store, &before);
    kill(victim, SIGKILL);
    killed[kind]++;
    if (kind != TUNER) return true;
    assert_int_equal(process_wait(s->pid, 10), 128 + SIGKILL);
    read_store(s->store, &after);
    check_nothing_lost(&before, &after);
    start(s);
    return true;
}

/* A command under fire until it ends or has got its kills, then left alone. */
static void run_under_fire(session *s, int killed[N_VICTIMS], int most) {
    int status = 0;
    start(s);
    while (s->pid && killed[0] + killed[1] + killed[2] < most && kill_once(s, killed, &status)) {}
    read_store(s->store, &before);
    if (s->pid) status = process_wait(s->pid, 240);
    s->pid = 0;
    if (status) fail_with_words("the session after its kills", status);
    read_store(s->store, &after);
    check_nothing_lost(&before, &after);
    check_nothing_twice(&after);
    assert_non_null(find_file(s->out, ".md"));
    check_library(s->out);
}

/* A finished session again: nothing new, the table, success. */
static void check_again(session *s) {
    read_store(s->store, &before);
    double begun = kiln_now();
    start(s);
    int status = process_wait(s->pid, 60);
    if (status) fail_with_words("a finished session again", status);
    printf("a finished session again took %.1f s\n", kiln_now() - begun);
    char *table = process_read(process_path("session.out"));
    assert_non_null(strstr(table, "map rows=64"));
    free(table);
    read_store(s->store, &after);
    assert_int_equal(before.n, after.n);
    check_nothing_lost(&before, &after);
}

static void test_kills(void **state) {
    static const char *const problems[][2] = {
        {"map rows=64 cols=256 x=f32 out=f32 : out = x + 1", "map rows=64 cols=300 x=f32 out=f32 : out[row] = sum(x)"},
        {"map rows=64 cols=128 x=f32 y=f32 out=f32 : out = x * y", "softmax rows=64 cols=512 type=f32"},
        {"map rows=64 cols=100 x=f32 out=f32 : out = gelu(x)", "rmsnorm rows=64 cols=256 type=f32"},
        {"map rows=64 cols=64 x=f32 out=f32 : out = relu(x)", "silu rows=64 cols=256 type=f32"},
        {"map rows=64 cols=96 x=f32 out=f32 : out = x - 3", "swiglu rows=64 cols=256 type=f32"},
        {"map rows=64 cols=80 x=f32 out=f32 : out = x * 5", "layernorm rows=64 cols=256 type=f32"},
    };
    int killed[N_VICTIMS] = {0}, blamed = 0, rounds = 0, kills = 0;
    (void)state;
    char out[96], store[96];
    snprintf(out, sizeof out, "%s/out", process_root);
    snprintf(store, sizeof store, "%s/out/kiln.db", process_root);
    session s = {.out = out, .store = store};
    for (; kills < KILLS && rounds < 6; rounds++) {
        const char *const argv[] = {process_program("tune"), "run", problems[rounds][0],
                                    problems[rounds][1], "--device", "opencl:0", "--trials", "48",
                                    "--budget", "600", "--strategy", "random", "--no-vendor", "--out", out, NULL};
        memcpy(s.argv, argv, sizeof argv);
        run_under_fire(&s, killed, KILLS);
        kills = killed[TUNER] + killed[MEASURE] + killed[COMPILE];
    }
    for (int i = 0; i < after.n; i++)
        if (after.at[i].blamed) blamed++, printf("blamed: %s\n", after.at[i].line);
    printf("%d kills (tuner %d, measuring worker %d, compile worker %d) in %d commands, %d trials, %d blamed\n",
           kills, killed[TUNER], killed[MEASURE], killed[COMPILE], rounds, searches(&after), blamed);
    assert_true(kills >= 50);
    for (int i = 0; i < N_VICTIMS; i++) assert_true(killed[i] >= 5);
    /* only a candidate that was running at three kills may be blamed */
    assert_true(blamed <= 1);
    check_again(&s);
}

/* ---- signals ---- */

/* Sends a signal to the whole group once the store has more than `n` records of searches. */
static double interrupt(session *s, int signal_number, int n, double extra) {
    int status = 0;
    start(s);
    for (double end = kiln_now() + 60; n >= 0 && kiln_now() < end; usleep(20000)) {
        read_store(s->store, &after);
        if (searches(&after) > n) break;
    }
    usleep((useconds_t)(extra * 1e6));
    if (process_ended(s->pid, &status)) fail_with_words("ended before the signal", status);
    double sent = kiln_now();
    kill(-s->pid, signal_number);
    status = process_wait(s->pid, 20);
    double took = kiln_now() - sent;
    printf("signal %d: ended after %.2f s\n", signal_number, took);
    if (status != 130) fail_with_words("after a signal", status);
    assert_true(took <= 4); /* 2 s on a machine that has nothing else to do */
    return took;
}

static void test_signals(void **state) {
    char out[96], store[96];
    (void)state;
    snprintf(out, sizeof out, "%s/signals", process_root);
    snprintf(store, sizeof store, "%s/signals/kiln.db", process_root);
    session s = {.out = out, .store = store};
    const char *const argv[] = {process_program("tune"), "run", "softmax rows=2048 cols=2048 type=f32",
                                "--device", "opencl:0", "--budget", "300", "--no-vendor", "--out", out, NULL};
    memcpy(s.argv, argv, sizeof argv);

    interrupt(&s, SIGINT, -1, 0.05 + 0.4 * chance()); /* before anything is measured */
    interrupt(&s, SIGINT, 3, chance());
    check_library(out);
    read_store(store, &before);
    kept_list *first = malloc(sizeof *first);
    first->n = 0;
    read_store(store, first);

    interrupt(&s, SIGTERM, searches(first) + 3, chance()); /* goes on: more trials, none again */
    check_library(out);
    read_store(store, &after);
    check_nothing_lost(first, &after);
    check_nothing_twice(&after);
    for (int i = 0; i < after.n; i++) assert_false(after.at[i].blamed);

    /* killed, started again and stopped before it finds anything new: the earlier best is there */
    const char *library = find_file(out, ".kiln");
    assert_non_null(library);
    assert_int_equal(unlink(library), 0);
    interrupt(&s, SIGINT, -1, 2.5);
    check_library(out);
    forget(first);
    free(first);
}

int main(void) {
    const char *given = getenv("KILN_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    if (process_begin("session")) return 1;
    setenv("POCL_CACHE_DIR", process_path("pocl"), 1);
    mkdir(getenv("POCL_CACHE_DIR"), 0700);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_kills), cmocka_unit_test(test_signals)};
    int failed = cmocka_run_group_tests_name("session", tests, NULL, NULL);
    forget(&before), forget(&after);
    process_end();
    return failed;
}

/* Rounds of the bench, through calls that log who ran on which operands: everybody has the turns
 * that were promised, in an order that favours nobody, on operands that rotate, with a workspace as
 * promised; wrong results are seen. On an OpenCL device (PoCL), as it is, and made to look like a
 * GPU with graphs, where rounds are enqueued ahead. */
#include "tuner/bench.h"

#include "kernels/input.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_MAX = 1 << 20, SUBJECTS = 4, BATCH_MAX = 4096 };

static const kiln_target *real;
static kiln_target target; /* the real one, or one with graphs */
static kiln_device *device;
static kiln_caps caps;

/* ---- the log ---- */

typedef struct entry {
    int who; /* BEGIN, END or a subject */
    kiln_buffer from;
} entry;
enum { BEGIN = -1, END = -2 };
static entry journal[LOG_MAX];
static int n_journal;

static void note(int who, kiln_buffer from) {
    assert_true(n_journal < LOG_MAX);
    journal[n_journal++] = (entry){who, from};
}

/* ---- a target that is no host and has graphs: what is called while it records is called again at
 * every replay ---- */

typedef struct batch {
    int n;
    entry entry[BATCH_MAX];
} batch;
static batch *recording;
static int n_recorded, n_alive;

static int record_begin(kiln_device *d, kiln_error *e) {
    (void)d, (void)e;
    assert_null(recording);
    recording = calloc(1, sizeof *recording);
    return recording ? KILN_OK : KILN_NO_MEMORY;
}
static void *record_end(kiln_device *d, kiln_error *e) {
    (void)d, (void)e;
    batch *done = recording;
    recording = NULL;
    n_recorded++, n_alive++;
    return done;
}
static int replay(kiln_device *d, void *which, kiln_error *e) {
    const batch *b = which;
    (void)d, (void)e;
    for (int i = 0; i < b->n; i++) note(b->entry[i].who, b->entry[i].from);
    return KILN_OK;
}
static void forget(kiln_device *d, void *which) {
    (void)d;
    n_alive--;
    free(which);
}
static const kiln_caps *looks(kiln_device *d) {
    caps = *real->caps(d);
    caps.shared_host = false;
    return &caps;
}
static int open_regions, most_regions; /* begun and not yet asked for */
static int begin(kiln_device *d, int region, kiln_error *e) {
    note(BEGIN, NULL);
    if (++open_regions > most_regions) most_regions = open_regions;
    return real->begin(d, region, e);
}
static int end(kiln_device *d, int region, kiln_error *e) {
    note(END, NULL);
    return real->end(d, region, e);
}
static double seconds(kiln_device *d, int region, kiln_error *e) {
    open_regions--;
    return real->seconds(d, region, e);
}

static void use_target(bool gpu) {
    target = *real;
    target.begin = begin;
    target.end = end;
    target.seconds = seconds;
    if (!gpu) return;
    target.caps = looks;
    target.record_begin = record_begin;
    target.record_end = record_end;
    target.replay = replay;
    target.forget = forget;
}

/* ---- subjects ---- */

typedef struct caller {
    int who;
    const void *copy; /* what it writes into the output, or NULL: nothing */
    int64_t bytes, offset;
    kiln_buffer workspace;
} caller;

static int call(void *user, const kiln_buffer *operand, const double *scalar, kiln_buffer workspace,
                kiln_error *e) {
    caller *c = user;
    (void)scalar;
    c->workspace = workspace;
    if (c->copy) return real->write(device, operand[1], c->offset, c->copy, c->bytes, e);
    if (!recording)
        note(c->who, operand[0]);
    else if (recording->n < BATCH_MAX)
        recording->entry[recording->n++] = (entry){c->who, operand[0]};
    return KILN_OK;
}

static kiln_bench *open_bench(const char *text, bool hot) {
    kiln_problem p;
    kiln_error e = {0};
    kiln_bench_options o = {.seed = 5, .hot = hot};
    kiln_bench *b =
        kiln_problem_parse(&p, text, &e) ? NULL : kiln_bench_open(&target, device, &p, &o, &e);
    if (!b) fail_msg("%s", e.text);
    return b;
}

static kiln_subject *subject(kiln_bench *b, caller *c, int64_t workspace, int64_t zeroed) {
    kiln_error e = {0};
    kiln_bench_call what = {call, c, workspace, zeroed};
    kiln_subject *s = kiln_subject_call(b, &what, &e);
    if (!s) fail_msg("%s", e.text);
    return s;
}

/* Subjects without work, paced so that each has samples of its own length. */
static void enter(kiln_bench *b, int n, caller c[], kiln_subject *s[]) {
    kiln_error e = {0};
    double sample;
    for (int i = 0; i < n; i++) {
        c[i] = (caller){.who = i};
        s[i] = subject(b, &c[i], 0, 0);
        if (kiln_bench_pace(b, s[i], &sample, &e)) fail_msg("%s", e.text);
    }
    n_journal = 0;
}

/* ---- rounds ---- */

/* The journal as turns: who was timed, in order. Each timed stretch must hold one subject's whole
 * batch and nothing else; what lies outside is what keeps the device busy at the start. */
static int turns(int n, kiln_subject *const s[], int *turn) {
    int found = 0, untimed = 0;
    for (int i = 0; i < n_journal; i++) {
        if (journal[i].who != BEGIN) {
            untimed++;
            continue;
        }
        int who = journal[i + 1].who, launches = 0;
        assert_in_range(who, 0, n - 1);
        while (journal[++i].who == who) launches++;
        assert_int_equal(journal[i].who, END);
        assert_int_equal(launches, kiln_subject_batch(s[who]));
        turn[found++] = who;
    }
    print_message("%d turns, %d launches untimed\n", found, untimed);
    return found;
}

/* In every round everybody that takes part has one turn; who follows whom is balanced. */
static void check_turns(int n, const int *rounds, const int *turn, int found) {
    int at = 0, follows[SUBJECTS][SUBJECTS] = {{0}}, most = 0;
    for (int i = 0; i < n; i++) most = rounds[i] > most ? rounds[i] : most;
    for (int round = 0; round < most; round++) {
        int part = 0, seen = 0;
        for (int i = 0; i < n; i++) part += round < rounds[i];
        for (int i = 0; i < part; i++, at++) {
            assert_true(at < found && round < rounds[turn[at]] && !(seen & 1 << turn[at]));
            seen |= 1 << turn[at];
            if (i) follows[turn[at - 1]][turn[at]]++;
        }
    }
    assert_int_equal(at, found);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++) /* neither goes before the other more often */
            if (rounds[i] == rounds[k]) assert_in_range(follows[i][k] - follows[k][i] + 3, 0, 6);
}

static void check_rounds(bool gpu, int n, const int *rounds) {
    static double sample[SUBJECTS][300];
    static int turn[LOG_MAX];
    double *samples[SUBJECTS];
    caller c[SUBJECTS];
    kiln_subject *s[SUBJECTS];
    kiln_error e = {0};
    use_target(gpu);
    kiln_bench *b = open_bench("copy rows=512 cols=512 type=f32", false);
    enter(b, n, c, s);
    for (int i = 0; i < n; i++) {
        samples[i] = sample[i];
        for (int r = 0; r < 300; r++) sample[i][r] = NAN;
    }
    int recorded = n_recorded;
    most_regions = open_regions = 0;
    if (kiln_bench_rounds(b, s, n, rounds, samples, &e)) fail_msg("%s", e.text);
    assert_int_equal(n_recorded, recorded); /* no recording between timed stretches */
    assert_int_equal(open_regions, 0);
    if (gpu) /* ahead of the device; one by one on the host's own cores */
        assert_true(most_regions > n);
    else
        assert_int_equal(most_regions, 1);
    for (int i = 0; i < n; i++)
        for (int r = 0; r < 300; r++) assert_int_equal(isnan(sample[i][r]), r >= rounds[i]);
    check_turns(n, rounds, turn, turns(n, s, turn));
    for (int i = 0; i < n; i++) kiln_subject_close(s[i]);
    kiln_bench_close(b);
    assert_int_equal(n_alive, 0);
}

static void test_rounds(void **state) {
    (void)state;
    for (int gpu = 0; gpu < 2; gpu++) {
        check_rounds(gpu, 1, (const int[]){7});
        check_rounds(gpu, 2, (const int[]){101, 101});
        check_rounds(gpu, 3, (const int[]){61, 61, 61});
        check_rounds(gpu, 3, (const int[]){67, 5, 67});
        check_rounds(gpu, 4, (const int[]){48, 48, 48, 48});
    }
}

/* A recorded batch is the same at every replay: it must visit every set, or its few would stay in
 * the cache. */
static void test_batches_are_cold(void **state) {
    caller c[1];
    kiln_subject *s[1];
    int64_t bytes;
    (void)state;
    use_target(true);
    kiln_bench *b = open_bench("copy rows=512 cols=512 type=f32", false);
    int sets = kiln_bench_sets(b, &bytes);
    assert_true(sets >= 2 && bytes > 3 * caps.cache_bytes);
    enter(b, 1, c, s);
    assert_true(kiln_subject_batch(s[0]) >= sets);
    double one, *samples[] = {&one};
    kiln_error e = {0};
    assert_int_equal(kiln_bench_rounds(b, s, 1, (const int[]){1}, samples, &e), 0);
    int again = 0;
    while (journal[again].who != 0) again++;
    const entry *first = &journal[again];
    for (int i = 0; i < sets; i++)
        for (int k = 0; k < i; k++) assert_ptr_not_equal(first[i].from, first[k].from);
    kiln_subject_close(s[0]);
    kiln_bench_close(b);
}

/* ---- verification and workspace of a call ---- */

/* ---- a clock that dips: time is what was asked for, times what the device is slower for now */

static struct {
    double each[SUBJECTS]; /* seconds of a launch */
    double slower, region[1024];
    int from; /* of the journal: where the region began */
    /* A chip whose clock follows its load: whoever runs takes `each`, but in its first `lag`
     * seconds what the one before left: times slows[before] */
    bool follows;
    double lag, slows[SUBJECTS], begun;
    int before, now;
} clockwork;

/* How much slower a launch is for what ran before it. */
static double drag(int who) {
    if (!clockwork.follows) return clockwork.slower;
    if (who != clockwork.now)
        clockwork.before = clockwork.now, clockwork.now = who, clockwork.begun = 0;
    double factor =
        clockwork.begun < clockwork.lag ? clockwork.slows[clockwork.before] : clockwork.slows[who];
    clockwork.begun += clockwork.each[who] * factor;
    return factor;
}

static const kiln_caps *looks_gpu(kiln_device *d) {
    looks(d);
    caps.kind = KILN_DEVICE_GPU;
    return &caps;
}
static int clock_begin(kiln_device *d, int region, kiln_error *e) {
    (void)d, (void)region, (void)e;
    clockwork.from = n_journal;
    return KILN_OK;
}
static int clock_end(kiln_device *d, int region, kiln_error *e) {
    (void)d, (void)e;
    assert_in_range(region, 0, 1023);
    clockwork.region[region] = 0;
    for (int i = clockwork.from; i < n_journal; i++)
        clockwork.region[region] += clockwork.each[journal[i].who] * drag(journal[i].who);
    n_journal = 0;
    return KILN_OK;
}
static double clock_seconds(kiln_device *d, int region, kiln_error *e) {
    (void)d, (void)e;
    return clockwork.region[region];
}

static kiln_outcome judged(kiln_bench *b, kiln_subject *s, double best, double *median) {
    kiln_error e = {0};
    kiln_arena arena = {0};
    kiln_record r = {.outcome = KILN_OUTCOME_OK};
    if (kiln_bench_time(b, s, 0.01, best, &r, &arena, &e)) fail_msg("%s", e.text);
    *median = r.median;
    kiln_arena_free(&arena);
    return r.outcome;
}

static kiln_bench *open_clockwork_for(const char *text) {
    use_target(true);
    target.caps = looks_gpu;
    target.begin = clock_begin, target.end = clock_end, target.seconds = clock_seconds;
    target.sensors = NULL;
    memset(&clockwork, 0, sizeof clockwork);
    clockwork.slower = 1;
    return open_bench(text, false);
}

static kiln_bench *open_clockwork(int n, caller c[], kiln_subject *s[]) {
    kiln_bench *b = open_clockwork_for("map rows=512 cols=512 x=f32 out=f32 : out = x");
    for (int i = 0; i < n; i++) {
        c[i] = (caller){.who = i};
        s[i] = subject(b, &c[i], 0, 0);
    }
    n_journal = 0;
    return b;
}

/* When the device takes twice as long for everything, nothing is slow for that; what is slow beside
 * the anchor still is. */
static void test_dips_condemn_nobody(void **state) {
    (void)state;
    double best, median;
    caller c[3];
    kiln_subject *s[3];
    kiln_bench *b = open_clockwork(3, c, s);
    clockwork.each[0] = clockwork.each[1] = 100e-6, clockwork.each[2] = 150e-6;
    assert_int_equal(judged(b, s[0], 0, &best), KILN_OUTCOME_OK);
    assert_true(kiln_bench_keep(b, s[0], best));
    clockwork.slower = 2;
    assert_int_equal(judged(b, s[1], best, &median), KILN_OUTCOME_OK);
    assert_true(fabs(median / best - 1) < 1e-6); /* beside the anchor it takes as long as it does */
    assert_int_equal(judged(b, s[2], best, &median), KILN_OUTCOME_SLOW);
    kiln_subject_close(s[1]);
    kiln_subject_close(s[2]);
    kiln_bench_close(b);
}

/* The first takes fewer cycles and draws more power: at one clock, which is whoever's, it is
 * faster; at the clock that each leaves itself the second is. */
static void test_clock_follows(void **state) {
    (void)state;
    double sample[2][9], *samples[] = {sample[0], sample[1]}, length;
    const int rounds[] = {9, 7};
    caller c[2];
    kiln_subject *s[2];
    kiln_error e = {0};
    kiln_bench *b = open_clockwork(2, c, s);
    clockwork.follows = true, clockwork.lag = 0.09;
    clockwork.each[0] = 100e-6, clockwork.each[1] = 103e-6;
    clockwork.slows[0] = 1.2, clockwork.slows[1] = 1.1;
    for (int i = 0; i < 2; i++)
        if (kiln_bench_pace(b, s[i], &length, &e)) fail_msg("%s", e.text);
    n_journal = 0;
    assert_int_equal(kiln_bench_long_rounds(b, s, 2, rounds, 0.2, samples, &e), KILN_OK);
    for (int i = 0; i < 2; i++)
        for (int r = 0; r < rounds[i]; r++)
            assert_true(fabs(sample[i][r] / clockwork.each[i] / clockwork.slows[i] - 1) < 1e-6);
    clockwork.follows = false; /* a launch that fills turns is one sample of each */
    clockwork.each[0] = 0.7;
    if (kiln_bench_pace(b, s[0], &length, &e)) fail_msg("%s", e.text);
    n_journal = 0;
    assert_int_equal(kiln_bench_long_rounds(b, s, 1, (const int[]){2}, 0.2, samples, &e), KILN_OK);
    assert_true(fabs(sample[0][0] / 0.7 - 1) < 1e-9 && fabs(sample[0][1] / 0.7 - 1) < 1e-9);
    clockwork.each[0] = 0; /* a driver that makes no sense is no endless loop */
    assert_int_equal(kiln_bench_long_rounds(b, s, 1, (const int[]){2}, 0.2, samples, &e),
                     KILN_DRIVER);
    caps.kind = KILN_DEVICE_CPU;
    assert_int_equal(kiln_bench_long_rounds(b, s, 1, (const int[]){2}, 0.2, samples, &e),
                     KILN_UNSUPPORTED);
    for (int i = 0; i < 2; i++) kiln_subject_close(s[i]);
    kiln_bench_close(b);
}

/* A vendor of three kernels, which log and say who they are. */
static struct {
    int chosen, closed;
    bool fails;
} trio;
static void *trio_open(kiln_device *d, const kiln_gemm *g, kiln_error *e) {
    (void)d, (void)g, (void)e;
    return &trio;
}
static int trio_prepare(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    (void)v, (void)a, (void)b, (void)c, (void)e;
    return KILN_OK;
}
static int trio_choices(void *v) { return v == &trio ? 3 : 0; }
static void trio_choose(void *v, int choice) {
    assert_ptr_equal(v, &trio);
    trio.chosen = choice;
}
static int trio_run(void *v, kiln_buffer a, kiln_buffer b, kiln_buffer c, kiln_error *e) {
    caller who = {.who = trio.chosen};
    (void)v, (void)b, (void)c;
    if (trio.fails && trio.chosen == 1) return kiln_fail(e, KILN_DRIVER, "no kernel 1");
    return call(&who, &a, NULL, NULL, e);
}
static void trio_describe(void *v, kiln_text *out) {
    assert_ptr_equal(v, &trio);
    kiln_text_printf(out, "kernel %d", trio.chosen);
}
static void trio_close(void *v) {
    assert_ptr_equal(v, &trio);
    trio.closed++;
}
static const kiln_vendor three_kernels = {.name = "trio",
                                          .open = trio_open,
                                          .prepare = trio_prepare,
                                          .choices = trio_choices,
                                          .choose = trio_choose,
                                          .run = trio_run,
                                          .describe = trio_describe,
                                          .close = trio_close};

/* Of a vendor's kernels the one is measured that rounds tell to be the fastest, whichever the
 * vendor was set to last. */
static void test_vendor_chooses(void **state) {
    kiln_error e = {0};
    kiln_arena arena = {0};
    (void)state;
    memset(&trio, 0, sizeof trio);
    kiln_bench *b = open_clockwork_for("matmul m=64 n=64 k=64 type=f32");
    int alive = n_alive;
    clockwork.each[0] = 101e-6, clockwork.each[1] = 102e-6, clockwork.each[2] = 100e-6;
    kiln_subject *s = kiln_subject_vendor(b, &three_kernels, &e);
    if (!s) fail_msg("%s", e.text);
    assert_int_equal(n_alive, alive); /* batches of the trials are forgotten */
    trio.chosen = 0;
    assert_string_equal(kiln_subject_describe(s, &arena), "kernel 2");
    trio.chosen = 0;
    assert_true(fabs(kiln_bench_sample(b, s, &e) / 100e-6 - 1) < 1e-6);
    kiln_subject_close(s);
    assert_int_equal(trio.closed, 1);
    trio.fails = true;
    assert_null(kiln_subject_vendor(b, &three_kernels, &e));
    assert_string_equal(e.text, "no kernel 1");
    assert_int_equal(trio.closed, 2);
    assert_int_equal(n_alive, alive);
    kiln_arena_free(&arena);
    kiln_bench_close(b);
}

static void verify(kiln_bench *b, caller c, kiln_outcome want) {
    kiln_record r = {.detail = ""};
    kiln_arena arena = {0};
    kiln_subject *s = subject(b, &c, 0, 0);
    assert_int_equal(kiln_bench_verify(b, s, &r, &arena), want == KILN_OUTCOME_OK);
    if (r.outcome != want) fail_msg("%s: %s", kiln_outcome_name(r.outcome), r.detail);
    kiln_subject_close(s);
    kiln_arena_free(&arena);
}

static void test_wrong_is_seen(void **state) {
    enum { SIDE = 32, BYTES = SIDE * SIDE * 4 };
    static float right[SIDE * SIDE], wrong[SIDE * SIDE];
    kiln_problem p;
    (void)state;
    use_target(false);
    kiln_bench *b = open_bench("copy rows=32 cols=32 type=f32", true);
    assert_int_equal(kiln_problem_parse(&p, "copy rows=32 cols=32 type=f32", NULL), 0);
    for (int i = 0; i < SIDE * SIDE; i++)
        right[i] = wrong[i] = (float)kiln_input_element(&p.operand[0], 5, 0, i);
    wrong[SIDE * SIDE - 1] += 1e-3f;
    verify(b, (caller){0}, KILN_OUTCOME_WRONG); /* writes nothing: poison is there */
    verify(b, (caller){.copy = wrong, .bytes = BYTES}, KILN_OUTCOME_WRONG);
    verify(b, (caller){.copy = right, .bytes = BYTES}, KILN_OUTCOME_OK);
    verify(b, (caller){0}, KILN_OUTCOME_WRONG); /* what another left does not help */
    verify(b, (caller){.copy = right, .bytes = BYTES - 4}, KILN_OUTCOME_WRONG);
    kiln_bench_close(b);
}

static void test_workspace(void **state) {
    enum { BYTES = 1000, ZEROED = 40 };
    unsigned char got[BYTES];
    kiln_error e = {0};
    (void)state;
    use_target(false);
    kiln_bench *b = open_bench("copy rows=32 cols=32 type=f32", true);
    for (int time = 0; time < 2; time++) { /* the second finds what the first had: made anew */
        caller c = {0};
        kiln_subject *s = subject(b, &c, BYTES, ZEROED);
        assert_true(kiln_bench_sample(b, s, &e) >= 0);
        assert_non_null(c.workspace);
        assert_int_equal(real->read(device, got, c.workspace, 0, BYTES, &e), 0);
        for (int i = 0; i < BYTES; i++) assert_int_equal(got[i], i < ZEROED ? 0 : 0xff);
        memset(got, 1, sizeof got);
        assert_int_equal(real->write(device, c.workspace, 0, got, BYTES, &e), 0);
        kiln_subject_close(s);
    }
    kiln_bench_close(b);
}

/* Zeros that one left in its workspace are there at its next turn, whoever came between. */
static void test_workspaces_in_turn(void **state) {
    enum { BYTES = 1000, ZEROED = 40 };
    unsigned char got[BYTES], other[2 * BYTES];
    kiln_error e = {0};
    caller c = {0}, d = {0};
    (void)state;
    use_target(false);
    kiln_bench *b = open_bench("copy rows=32 cols=32 type=f32", true);
    kiln_subject *first = subject(b, &c, BYTES, ZEROED);
    kiln_subject *second = subject(b, &d, sizeof other, 0); /* poisons and fills what it has */
    memset(other, 1, sizeof other);
    assert_true(kiln_bench_sample(b, second, &e) >= 0);
    assert_int_equal(real->write(device, d.workspace, 0, other, sizeof other, &e), 0);
    assert_true(kiln_bench_sample(b, first, &e) >= 0);
    assert_int_equal(real->read(device, got, c.workspace, 0, BYTES, &e), 0);
    for (int i = 0; i < BYTES; i++) assert_int_equal(got[i], i < ZEROED ? 0 : 0xff);
    kiln_subject_close(second);
    kiln_subject_close(first);
    kiln_bench_close(b);
}

/* ---- the reference's code ---- */

static int n_compiled;

static int compile(const kiln_caps *c, const kiln_compile_request *request, kiln_blob *out,
                   kiln_blob *ptx, kiln_text *log, kiln_error *e) {
    n_compiled++;
    return real->compile(c, request, out, ptx, log, e);
}

/* How often it was compiled for another bench of problem `text`. */
static int compiled_for(const char *text, const char *cache) {
    kiln_problem p;
    kiln_error e = {0};
    kiln_bench_options o = {.seed = 5, .hot = true, .cache = cache};
    int before = n_compiled;
    if (kiln_problem_parse(&p, text, &e)) fail_msg("%s", e.text);
    kiln_bench *b = kiln_bench_open(&target, device, &p, &o, &e);
    if (!b) fail_msg("%s: %s", text, e.text);
    kiln_bench_close(b);
    return n_compiled - before;
}

/* So many kinds that the process forgets all others. */
static void forget_others(void) {
    char text[80];
    for (int i = 1; i <= 4; i++) {
        snprintf(text, sizeof text, "map rows=2 cols=8 x=f32 out=f32 : out = x + %d", i);
        compiled_for(text, NULL);
    }
}

static void write_file(const char *path, const char *words) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fputs(words, f);
    fclose(f);
}

/* Compiled once for all processes: until its file is damaged or gone. */
static void test_reference_is_kept(void **state) {
    (void)state;
    static const char one[] = "map rows=3 cols=5 x=f32 out=f32 : out = x * x";
    static const char same[] = "map rows=30 cols=7 x=f32 out=f32 : out = x * x";
    char cache[] = "/tmp/kiln-test-bench-XXXXXX";
    glob_t files;
    use_target(false);
    target.compile = compile;
    assert_non_null(mkdtemp(cache));
    assert_int_equal(compiled_for(one, cache), 1);
    assert_int_equal(compiled_for(same, cache), 0); /* from memory */
    forget_others();
    assert_int_equal(compiled_for(same, cache), 0); /* from the file */
    forget_others();
    assert_int_equal(compiled_for(same, NULL), 1);
    char pattern[64];
    snprintf(pattern, sizeof pattern, "%s/*.reference", cache);
    assert_int_equal(glob(pattern, 0, NULL, &files), 0);
    assert_int_equal(files.gl_pathc, 1);
    forget_others();
    write_file(files.gl_pathv[0], "no program");
    assert_int_equal(compiled_for(one, cache), 1);
    forget_others();
    assert_int_equal(compiled_for(one, cache), 0); /* the file is whole again */
    forget_others();
    assert_int_equal(truncate(files.gl_pathv[0], 100),
                     0); /* a driver may crash on half a program */
    assert_int_equal(compiled_for(one, cache), 1);
    unlink(files.gl_pathv[0]);
    forget_others();
    assert_int_equal(compiled_for(one, cache), 1);
    unlink(files.gl_pathv[0]);
    globfree(&files);
    assert_int_equal(rmdir(cache), 0);
}

static int open_device(void **state) {
    kiln_error e = {0};
    (void)state;
    real = kiln_target_find("opencl");
    device = real ? real->open(0, NULL, &e) : NULL;
    if (!device) print_message("no OpenCL device: %s\n", e.text);
    return device ? 0 : -1;
}
static int close_device(void **state) {
    (void)state;
    real->close(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_batches_are_cold),
        cmocka_unit_test(test_dips_condemn_nobody),
        cmocka_unit_test(test_clock_follows),
        cmocka_unit_test(test_vendor_chooses),
        cmocka_unit_test(test_wrong_is_seen),
        cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_workspaces_in_turn),
        cmocka_unit_test(test_reference_is_kept),
    };
    return cmocka_run_group_tests_name("bench", tests, open_device, close_device);
}

/* The command line as its users meet it: whatever is wrong gives one sentence that names it and exit
 * status 2, and leaves files as they were. Runs the programs; PoCL or another OpenCL device is there.
 * Full and read-only disks are small mounts in a mount namespace of this test's own; where that is
 * not allowed, these parts say that they are skipped. */
#include "base/hash.h"
#include "results/store.h"
#include "tests/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <glob.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <sys/mount.h>
#include <time.h>

static uint64_t seed, drawn;
static const char *tune, *kiln;
static bool may_mount;

#define COPY "copy rows=4 cols=4 type=f32"

static int lines(const char *text) {
    int n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

/* Status 2 and one line on stderr with `needle` in it, nothing on stdout. */
static void check_refused(process_result r, const char *what, const char *needle) {
    if (r.status != 2 || lines(r.err) != 1 || !strstr(r.err, needle) || r.out[0])
        fail_msg("%s: status %d, wanted 2 and one line with '%s'; stderr:\n%s\nstdout:\n%s", what, r.status,
                 needle, r.err, r.out);
    process_free(&r);
}

static void test_wrong_words(void **state) {
    static const struct {
        const char *needle;
        const char *word[8];
    } table[] = {
        {"needs k=NUMBER", {"run", "matmul m=4 n=4"}},
        {"empty", {"run", ""}},
        {"f33", {"run", "softmax rows=4 cols=4 type=f33"}},
        {"softmx", {"run", "softmx rows=4 cols=4"}},
        {"z=3", {"run", "map rows=4 cols=4 z=3 : out = x"}},
        {"statements, column", {"run", "map rows=4 cols=4 x=f32 out=f32 : out = x +"}},
        {"problem", {"run", COPY, "matmul"}},
        {"rows", {"run", "copy rows=0 cols=4 type=f32"}},
        {"rows", {"run", "copy rows=99999999999999999999 cols=4 type=f32"}},
        {"'foo'", {"run", COPY, "--device", "foo"}},
        {"'foo:0'", {"run", COPY, "--device", "foo:0"}},
        {"opencl:77", {"run", COPY, "--device", "opencl:77"}},
        {"opencl:-1", {"run", COPY, "--device", "opencl:-1"}},
        {"opencl:1x", {"run", COPY, "--device", "opencl:1x"}},
        {"--frob", {"--frob"}},
        {"--frob", {"run", COPY, "--frob"}},
        {"-x", {"run", COPY, "-x"}},
        {"--budget", {"--budget"}},
        {"foo", {"run", COPY, "--strategy", "foo"}},
        {"warm", {"run", COPY, "--regime", "warm"}},
        {"not 0", {"--budget", "0"}},
        {"5x", {"--budget", "5x"}},
        {"nan", {"--budget", "nan"}},
        {"-5", {"--budget", "-5"}},
        {"1e99", {"--budget", "1e99"}},
        {"--seed", {"run", COPY, "--seed", "-1"}},
        {"--trials", {"run", COPY, "--trials", "many"}},
        {"101", {"run", COPY, "--finish", "101"}},
        {"soon", {"run", COPY, "--finish", "soon"}},
        {"-1", {"run", COPY, "--finish", "-1"}},
        {"nan", {"run", COPY, "--finish", "nan"}},
        {"speed", {"run", COPY, "--aim", "speed"}},
        {"frob", {"frob"}},
        {"needs a problem", {"run"}},
        {"/nonexistent", {"--suite", "/nonexistent/suite"}},
        {"/tmp", {"--suite", "/tmp"}},
        {"/proc/none", {"run", COPY, "--out", "/proc/none"}},
        {"/nonexistent", {"replay", "/nonexistent.csv"}},
        {"replay needs", {"replay"}},
        {"--mislead is", {"replay", "/nonexistent.csv", "--mislead=bogus"}},
        {"/nonexistent", {"replay", "/nonexistent.csv", "--sizes", "BM"}},
        {"--sizes", {"replay", "tests/data/spaces/coulomb_GTX1070.csv.gz", "--sizes", "absent"}},
        {"nothing", {"show", "nothing"}},
        {"frob", {"show", COPY, "--dump", "frob"}},
        {"check needs", {"check"}},
        {"import needs", {"import"}},
        {"/nonexistent.kiln", {"bench", "--library", "/nonexistent.kiln"}},
        {"not both", {"bench", "--library", "x.kiln", "--store", "x.db"}},
        {"not both", {"bench", COPY, "--suite", "llm"}},
        {"not 11m", {"bench", COPY, "--seconds", "11m"}},
        {"soon", {"bench", COPY, "--seconds", "soon"}},
        {"needs k=NUMBER", {"bench", "matmul m=4 n=4"}},
        {"--library", {"bench", COPY, "--library"}},
        {"--against", {"bench", COPY, "--against"}},
        {"/nonexistent.kiln", {"bench", COPY, "--against", "/nonexistent.kiln"}},
        {"export needs", {"export"}},
    };
    struct stat st;
    int had_none = stat("kiln-out", &st); /* `make tune` may have been run here */
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *argv[12] = {tune};
        for (int k = 0; table[i].word[k]; k++) argv[k + 1] = table[i].word[k];
        check_refused(process_run_list(30, argv), table[i].word[0], table[i].needle);
    }
    assert_int_equal(stat("kiln-out", &st), had_none); /* what is refused leaves nothing behind */
}

static void test_suite_files(void **state) {
    static const char bad[] = "# a suite\n" COPY "\n\nmatmul m=4\n";
    (void)state;
    process_write(process_path("empty"), "", 0);
    process_write(process_path("comments"), "# none\n\n", 8);
    process_write(process_path("bad"), bad, sizeof bad - 1);
    check_refused(PROCESS_RUN(30, tune, "--suite", process_path("empty")), "empty suite", "holds no problem");
    check_refused(PROCESS_RUN(30, tune, "--suite", process_path("comments")), "suite of comments", "holds no problem");
    check_refused(PROCESS_RUN(30, tune, "--suite", process_path("bad")), "suite", "bad, line 4:");
}

static void test_help_and_devices(void **state) {
    static const char *const help[][3] = {{"--help"}, {"-h"}, {"help"}, {"run", "--help"}, {"devices", "--help"}};
    (void)state;
    for (int i = 0; i < 5; i++) {
        process_result r = PROCESS_RUN(30, tune, help[i][0], help[i][1]);
        assert_int_equal(r.status, 0);
        assert_true(strstr(r.out, "tune run") && strstr(r.out, "--budget") && !r.err[0]);
        process_free(&r);
    }
    process_result r = PROCESS_RUN(30, kiln, "--help");
    assert_true(r.status == 0 && strstr(r.out, "kiln verify") && !r.err[0]);
    process_free(&r);
    r = PROCESS_RUN(60, tune, "devices", "--json");
    assert_int_equal(r.status, 0);
    json_error_t why;
    json_t *all = json_loads(r.out, 0, &why);
    if (!all) fail_msg("devices --json: %s\n%s", why.text, r.out);
    json_t *first = json_array_get(json_object_get(all, "devices"), 0);
    assert_non_null(json_string_value(json_object_get(first, "id")));
    assert_true(json_integer_value(json_object_get(first, "units")) > 0);
    assert_true(json_is_object(json_object_get(all, "absent")));
    json_decref(all);
    process_free(&r);
}

/* ---- a small session: the library and the store that the rest works on ---- */

static char library[512], out[96];

static process_result tune_copy(const char *where, const char *trials, const char *extra) {
    return PROCESS_RUN(120, tune, "run", COPY, "--device", "opencl:0", "--out", where, "--trials", trials,
                       "--budget", "60", "--no-vendor", "--strategy", "random", extra);
}

static void test_quiet(void **state) {
    (void)state;
    snprintf(out, sizeof out, "%s/out", process_root);
    process_result r = tune_copy(out, "6", "--quiet");
    if (r.status || r.out[0] || r.err[0]) fail_msg("--quiet: status %d\n%s\n%s", r.status, r.out, r.err);
    process_free(&r);
    r = tune_copy(out, "6", NULL); /* finished: the table again, in a pipe without a single escape */
    assert_int_equal(r.status, 0);
    assert_non_null(strstr(r.out, "map rows=4"));
    assert_null(strchr(r.out, '\033'));
    assert_null(strchr(r.err, '\033'));
    assert_null(strchr(r.err, '\r'));
    process_free(&r);
    glob_t g;
    assert_int_equal(glob(process_path("out/*.kiln"), 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    snprintf(library, sizeof library, "%s", g.gl_pathv[0]);
    globfree(&g);
}

/* The id of the session, from what it says. */
static void session_of(const char *words, char id[17]) {
    const char *at = strstr(words, "store: session ");
    assert_non_null(at);
    snprintf(id, 17, "%s", at + strlen("store: session "));
}

static void put_done(const char *where, const char *id, const char *value) {
    char path[512], key[256];
    kiln_error e = {0};
    snprintf(path, sizeof path, "%s/kiln.db", where);
    snprintf(key, sizeof key, "done/%s/map rows=4 cols=4 x=f32 out=f32 : out = x", id);
    kiln_store *s = kiln_store_open(path, false, &e);
    kiln_arena arena = {0};
    if (!s) fail_msg("%s", e.text);
    assert_non_null(kiln_store_get(s, key, &arena)); /* that is how it is remembered */
    assert_int_equal(kiln_store_put(s, key, value, &e), 0);
    kiln_store_close(s);
    kiln_arena_free(&arena);
}

/* What cannot be had stays so, is named, and is status 1; a passing fault is tried again. */
static void test_without_winner(void **state) {
    char where[512], id[17];
    (void)state;
    snprintf(where, sizeof where, "%s/without", process_root);
    process_result r = tune_copy(where, "4", NULL);
    assert_int_equal(r.status, 0);
    session_of(r.err[0] ? r.err : r.out, id);
    process_free(&r);
    put_done(where, id, "none nothing applies");
    r = tune_copy(where, "4", NULL);
    if (r.status != 1 || !strstr(r.err, "no winner for map rows=4") ||
        !strstr(r.err, "nothing applies"))
        fail_msg("status %d: %s", r.status, r.err);
    process_free(&r);
    put_done(where, id, "failed worker died: Killed");
    r = tune_copy(where, "4", NULL);
    if (r.status || strstr(r.err, "no winner")) fail_msg("status %d: %s", r.status, r.err);
    process_free(&r);
}

/* Operands that no device holds are named, and the other problem is tuned. */
static void test_too_large(void **state) {
    static const char suite[] = "map rows=100000000 cols=10000 x=f32 out=f32 : out = x\n" COPY "\n";
    const char *file = process_path("large"), *where = process_path("large.out");
    const char *argv[] = {tune,       "--quiet", "--suite",     file,       "--device", "opencl:0",
                          "--budget", "600",     "--trials",    "4",        "--out",    where,
                          "--no-vendor", "--strategy", "random", NULL};
    (void)state;
    process_write(file, suite, sizeof suite - 1);
    process_result r = process_run_list(300, argv);
    if (r.status != 1 || !strstr(r.err, "no winner for map rows=100000000") ||
        !strstr(r.err, "a buffer of 4000000008192 bytes") || strstr(r.err, "no winner for map rows=4 "))
        fail_msg("status %d: %s", r.status, r.err);
    process_free(&r);
    const char *const report[] = {tune, "report", "--suite", file, "--out", where, "--device", "opencl:0", NULL};
    r = process_run_list(60, report);
    if (r.status || !strstr(r.out, "map rows=4")) fail_msg("status %d: %s%s", r.status, r.out, r.err);
    process_free(&r);
}

/* A suite in turns: no problem needs its budget, each gets its winner, and the report tells how. */
static void test_portfolio(void **state) {
    static const char suite[] = COPY "\nweight=3 map rows=4 cols=8 x=f32 out=f32 : out = x + 1\n";
    const char *file = process_path("two"), *where = process_path("turns");
    const char *argv[] = {tune,       "",      "--suite", file,         "--device", "opencl:0",
                          "--budget", "600",   "--finish", "100",        "--out",    where,
                          "--strategy", "random", "--no-vendor", NULL};
    (void)state;
    process_write(file, suite, sizeof suite - 1);
    argv[1] = "--quiet";
    double begun = kiln_now();
    process_result r = process_run_list(300, argv);
    if (r.status) fail_msg("status %d: %s", r.status, r.err);
    process_free(&r);
    assert_true(kiln_now() - begun < 300); /* not the whole budget */
    argv[1] = "report";
    r = process_run_list(60, argv);
    if (r.status) fail_msg("status %d: %s", r.status, r.err);
    for (char *c = r.out; *c; c++)
        if (*c == '\n') *c = ' ';
    int ended = 0;
    for (const char *c = r.out; (c = strstr(c, "more are expected to gain")); c++) ended++;
    assert_int_equal(ended, 2);
    assert_null(strstr(r.out, "no winner"));
    assert_non_null(strstr(r.out, "search   "));
    process_free(&r);
}

/* What a session writes to a terminal. */
static char *on_terminal(const char *where) {
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) return NULL;
    const char *const argv[] = {tune, "run", COPY, "--device", "opencl:0", "--out", where, "--trials", "4",
                                "--budget", "60", "--no-vendor", "--strategy", "random", NULL};
    pid_t pid = process_start(argv, "/dev/null", ptsname(master));
    char *text = calloc(1, 1 << 16);
    size_t n = 0;
    for (ssize_t got; n + 1 < 1 << 16 && (got = read(master, text + n, (1 << 16) - 1 - n)) > 0;) n += (size_t)got;
    assert_int_equal(process_wait(pid, 60), 0);
    close(master);
    return text;
}

static void test_no_color(void **state) {
    (void)state;
    unsetenv("NO_COLOR");
    char *colour = on_terminal(process_path("terminal-1"));
    setenv("NO_COLOR", "1", 1);
    char *plain = on_terminal(process_path("terminal-2"));
    unsetenv("NO_COLOR");
    if (!colour || !plain) {
        print_message("skipped: no pseudo-terminal here\n");
        skip();
    }
    assert_non_null(strstr(colour, "\033[36m")); /* the live line, and coloured */
    assert_non_null(strstr(plain, "\033[K"));    /* still live */
    for (const char *c = plain; (c = strstr(c, "\033[")); c++)
        assert_memory_equal(c, "\033[K", 3); /* but nothing of colour */
    free(colour);
    free(plain);
}

/* ---- bench ---- */

/* Every line is an object; the one with `key`, of which there is one, or NULL. */
static json_t *line_with(const char *text, const char *key) {
    json_t *found = NULL;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, "\n");
        json_error_t why;
        json_t *j = json_loadb(at, n, 0, &why);
        if (!j) fail_msg("%s: %.*s", why.text, (int)n, at);
        if (!found && json_object_get(j, key))
            found = j;
        else
            json_decref(j);
        at += n + (at[n] == '\n');
    }
    return found;
}

/* Tuned and not tuned, from the library and from the store that it came from; a map has no vendor. */
static void test_bench(void **state) {
    static const char other[] = "copy rows=5 cols=7 type=f32", missing[] = "copy rows=5 cols=7 type=f16";
    (void)state;
    process_result r = PROCESS_RUN(60, tune, "bench", "--library", library, "--seconds", "0.01", "--device", "opencl:0");
    if (r.status) fail_msg("bench: status %d, %s", r.status, r.err);
    assert_true(strstr(r.out, "exact: ") && strstr(r.out, "B/s") && strstr(r.out, "openblas"));
    assert_true(strstr(r.out, "only plain matmul") && !strstr(r.out, "geomean"));
    process_free(&r);
    r = PROCESS_RUN(60, tune, "bench", COPY, other, "--out", out, "--seconds", "0.01", "--device", "opencl:0", "--json",
                    "--no-vendor");
    if (r.status) fail_msg("bench from the store: status %d, %s", r.status, r.err);
    assert_int_equal(lines(r.out), 3);
    json_t *head = line_with(r.out, "device"), *first = line_with(r.out, "problem");
    assert_non_null(strstr(json_string_value(json_object_get(head, "library")), "kiln.db"));
    assert_string_equal(json_string_value(json_object_get(first, "choice")), "exact");
    assert_true(json_number_value(json_object_get(first, "seconds")) > 0);
    assert_true(strstr(r.out, "\"choice\":\"nearest\"") || strstr(r.out, "\"choice\":\"fallback\""));
    json_decref(head);
    json_decref(first);
    process_free(&r);
    r = PROCESS_RUN(60, tune, "bench", missing, COPY, "--library", library, "--seconds", "0.01", "--device", "opencl:0");
    assert_int_equal(r.status, 1); /* one is missing, the other is measured all the same */
    assert_true(strstr(r.out, "not measured: the library has no kernel") && strstr(r.out, "exact: "));
    assert_true(lines(r.err) == 1 && strstr(r.err, "1 of 2"));
    process_free(&r);
    assert_int_equal(glob(process_path("out/cache/bench-*"), 0, NULL, &(glob_t){0}), GLOB_NOMATCH);
    check_refused(PROCESS_RUN(60, tune, "bench", missing, "--out", out, "--device", "opencl:0"), "bench, never tuned",
                  "run tune first");
}

/* Against vendors, where there are some: ratios, their intervals, and the summary's arithmetic. */
static void test_bench_vendors(void **state) {
    static const char suite[] = "[small]\nmatmul m=48 n=40 k=32 type=f32\n"
                                "[other]\nmatmul m=40 n=48 k=32 type=f32\n";
    const char *where = process_path("versus"), *file = process_path("pair");
    (void)state;
    process_write(file, suite, sizeof suite - 1);
    process_result r = PROCESS_RUN(200, tune, "--suite", file, "--device", "opencl:0", "--out", where, "--trials", "3",
                                   "--budget", "60", "--no-vendor", "--strategy", "random", "--quiet");
    if (r.status) fail_msg("tuning: status %d, %s", r.status, r.err);
    process_free(&r);
    glob_t g;
    assert_int_equal(glob(process_path("versus/*.kiln"), 0, NULL, &g), 0);
    const char *against = process_path("openblas.kiln"); /* a name that is taken */
    assert_int_equal(rename(g.gl_pathv[0], against), 0);
    globfree(&g);
    r = PROCESS_RUN(60, tune, "bench", "--suite", file, "--device", "opencl:0", "--out", where, "--seconds", "0.02",
                    "--json", "--against", against);
    if (r.status) fail_msg("bench: status %d, %s", r.status, r.err);
    json_t *all = NULL;
    double logs[8] = {0}, fastest = 0, other = 0;
    char names[8][32] = {""};
    int measured = 0, rows = 0;
    size_t i;
    for (char *at = r.out, *line; (line = strsep(&at, "\n")) && *line;) {
        json_t *j = json_loads(line, 0, NULL), *v;
        assert_non_null(j);
        double least = INFINITY, its = json_number_value(json_object_get(json_object_get(j, "against"), "ratio"));
        if (its > 0) other += log(its) / 2;
        json_array_foreach(json_object_get(j, "vendors"), i, v) {
            double ratio = json_number_value(json_object_get(v, "ratio"));
            if (!(ratio > 0) || i >= 8) continue;
            assert_true(json_number_value(json_object_get(v, "low")) <= ratio);
            assert_true(json_number_value(json_object_get(v, "high")) >= ratio);
            snprintf(names[i], sizeof names[i], "%s", json_string_value(json_object_get(v, "name")));
            logs[i] += log(ratio) / 2;
            least = fmin(least, ratio);
            measured++;
        }
        if (isfinite(least)) fastest += log(least) / 2;
        const char *group = json_string_value(json_object_get(j, "summary"));
        if (group && !strcmp(group, "all")) {
            const char *name = json_string_value(json_object_get(j, "vendor"));
            double mean = log(json_number_value(json_object_get(j, "geomean")));
            if (!strcmp(name, "against")) assert_true(fabs(mean - other) < 1e-5);
            if (!strcmp(name, "fastest")) assert_true(fabs(mean - fastest) < 1e-5); /* of the vendors */
            if (!strcmp(name, "against")) rows++;
        }
        for (i = 0; group && !strcmp(group, "all") && i < 8; i++)
            if (!strcmp(names[i], json_string_value(json_object_get(j, "vendor"))))
                assert_true(fabs(log(json_number_value(json_object_get(j, "geomean"))) - logs[i]) < 1e-5);
        if (group && !strcmp(group, "all") && !all) all = json_incref(j);
        json_decref(j);
    }
    process_free(&r);
    assert_int_equal(rows, 1);
    if (!measured) {
        print_message("skipped: neither OpenBLAS nor CLBlast here\n");
        skip();
    }
    assert_int_equal(json_integer_value(json_object_get(all, "problems")), 2);
    json_decref(all);
}

/* The bindings of the comparison with PyTorch, without it. */
static void test_bench_pytorch(void **state) {
    char script[] = "scripts/bench-pytorch", shared[PATH_MAX];
    (void)state;
    if (access(script, X_OK) || system("python3 -c '' 2>/dev/null")) {
        print_message("skipped: no python3, or not run from the tree\n");
        skip();
    }
    snprintf(shared, sizeof shared, "%.*s/libkiln.so", (int)(strrchr(tune, '/') - tune), tune);
    glob_t g;
    assert_int_equal(glob(process_path("openblas.kiln"), 0, NULL, &g), 0);
    process_result r = PROCESS_RUN(60, script, "--selftest", "--lib", shared, g.gl_pathv[0]);
    if (r.status || !strstr(r.out, "2 matmuls right")) fail_msg("status %d\n%s%s", r.status, r.out, r.err);
    process_free(&r);
    check_refused(PROCESS_RUN(60, script, "--selftest", "--lib", shared, "/nonexistent.kiln"), "bench-pytorch",
                  "/nonexistent.kiln");
    check_refused(PROCESS_RUN(60, script, "--selftest", "--lib", shared, library), "bench-pytorch, maps only",
                  "no plain matmul");
    check_refused(PROCESS_RUN(60, script, "--lib", "/nonexistent.so", "--selftest", library), "bench-pytorch, no runtime",
                  "--lib");
    globfree(&g);
}

/* ---- damaged libraries ---- */

static void write_damaged(const char *data, size_t n) { process_write(process_path("damaged.kiln"), data, n); }

static size_t size_of(const char *path) {
    struct stat st;
    return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static void test_damaged_library(void **state) {
    size_t n = size_of(library);
    char *data = process_read(library);
    const char *damaged = process_path("damaged.kiln");
    (void)state;
    assert_true(n > 1000);
    process_result r = PROCESS_RUN(30, kiln, "verify", library);
    assert_int_equal(r.status, 0);
    process_free(&r);
    const size_t cuts[] = {0, 1, 7, 64, n / 3, n / 2, n - 1};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        write_damaged(data, cuts[i]);
        check_refused(PROCESS_RUN(30, kiln, "info", damaged), "info, cut", "damaged.kiln");
        check_refused(PROCESS_RUN(30, kiln, "verify", damaged), "verify, cut", "damaged.kiln");
        check_refused(PROCESS_RUN(30, kiln, "run", damaged), "run, cut", "damaged.kiln");
    }
    for (int i = 0; i < 150; i++) { /* one bit, anywhere: verify sees it, the others never fall */
        size_t at = i < 40 ? (size_t)i * 8 : kiln_random64(seed, drawn++) % n;
        char bit = (char)(1 << kiln_random64(seed, drawn++) % 8);
        data[at] ^= bit;
        write_damaged(data, n);
        char what[64];
        snprintf(what, sizeof what, "byte %zu, bit %02x", at, (unsigned char)bit);
        check_refused(PROCESS_RUN(30, kiln, "verify", damaged), what, "damaged.kiln"); /* by name */
        for (int k = 0; k < 2 && i % 10 == 0; k++) {
            r = PROCESS_RUN(60, kiln, k ? "run" : "info", damaged);
            bool whole = r.status == 0, refused = r.status == 2 && lines(r.err) >= 1;
            if (!whole && !refused) fail_msg("%s, %s: status %d, %s", what, k ? "run" : "info", r.status, r.err);
            process_free(&r);
        }
        data[at] ^= bit;
    }
    check_refused(PROCESS_RUN(30, kiln, "info", "/nonexistent.kiln"), "info", "/nonexistent.kiln");
    check_refused(PROCESS_RUN(30, kiln, "frob", library), "kiln frob", "frob");
    free(data);
}

/* ---- stores ---- */

static void check_unchanged(const char *path, const char *data, size_t n) {
    char *now = process_read(path);
    assert_int_equal(size_of(path), n);
    assert_memory_equal(now, data, n);
    free(now);
}

static void test_import(void **state) {
    const char *store = process_path("import.db"), *all = process_path("all.jsonl"), *mixed = process_path("mixed.jsonl");
    const char *other = process_path("out/kiln.db");
    (void)state;
    process_result r = PROCESS_RUN(30, tune, "export", all, "--store", other, "--quiet");
    assert_true(r.status == 0 && !r.out[0] && !r.err[0]);
    process_free(&r);
    char *good = process_read(all);
    assert_true(lines(good) > 2);
    FILE *f = fopen(mixed, "w");
    size_t first = strcspn(good, "\n") + 1;
    fprintf(f, "not json\n%.*s{}\n\n%s{\"version\":99}\n", (int)first, good, good + first);
    fclose(f);
    r = PROCESS_RUN(30, tune, "import", mixed, "--store", store);
    assert_int_equal(r.status, 2);
    char last[64];
    snprintf(last, sizeof last, "line %d:", lines(good) + 4);
    assert_int_equal(lines(r.err), 3); /* one for each line that is wrong */
    assert_true(strstr(r.err, "line 1:") && strstr(r.err, "line 3:") && strstr(r.err, last));
    process_free(&r);
    r = PROCESS_RUN(30, tune, "export", process_path("back.jsonl"), "--store", store);
    assert_int_equal(r.status, 0);
    process_free(&r);
    char *back = process_read(process_path("back.jsonl"));
    assert_string_equal(back, good); /* every good line is there */
    r = PROCESS_RUN(30, tune, "import", all, "--store", store); /* again: nothing twice */
    assert_true(r.status == 0 && strstr(r.out, "0 records added"));
    process_free(&r);
    check_refused(PROCESS_RUN(30, tune, "import", "/nonexistent.jsonl", "--store", store), "import", "/nonexistent.jsonl");
    check_refused(PROCESS_RUN(30, tune, "export", "/nonexistent/x", "--store", store), "export", "/nonexistent/x");
    check_refused(PROCESS_RUN(30, tune, "export", process_path("x"), "--store", "/nonexistent.db"), "export", "/nonexistent.db");
    free(good);
    free(back);
}

static void test_foreign_stores(void **state) {
    const char *path = process_path("foreign.db");
    (void)state;
    size_t n = size_of(process_path("import.db"));
    char *data = process_read(process_path("import.db"));
    assert_true(n >= 100);
    data[63] = 9; /* SQLite's user_version: the schema of a Kiln to come */
    process_write(path, data, n);
    check_refused(PROCESS_RUN(30, tune, "run", COPY, "--out", process_path("v"), "--store", path), "newer store", "schema 9");
    check_refused(PROCESS_RUN(30, tune, "import", process_path("all.jsonl"), "--store", path), "newer store", "schema 9");
    check_refused(PROCESS_RUN(30, tune, "export", process_path("y"), "--store", path), "newer store", "schema 9");
    check_unchanged(path, data, n);
    data[68] ^= 1; /* application_id */
    process_write(path, data, n);
    check_refused(PROCESS_RUN(30, tune, "run", COPY, "--out", process_path("v"), "--store", path), "foreign file", "another program");
    check_unchanged(path, data, n);
    process_write(path, "a diary\n", 8);
    check_refused(PROCESS_RUN(30, tune, "run", COPY, "--out", process_path("v"), "--store", path), "no store", "not a store");
    check_unchanged(path, "a diary\n", 8);
    assert_int_equal(size_of(process_path("y")), 0);
    free(data);
}

/* ---- disks ---- */

static bool mount_small(const char *where, const char *options, unsigned long flags) {
    if (!may_mount) return false;
    mkdir(where, 0700);
    return mount("kiln-test", where, "tmpfs", flags, options) == 0;
}

static void skip_mounts(void) {
    print_message("skipped: mounting is not allowed here (%s)\n", strerror(errno));
    skip();
}

static void test_read_only(void **state) {
    const char *where = process_path("ro");
    (void)state;
    if (!mount_small(where, "size=64k", MS_RDONLY)) skip_mounts();
    check_refused(tune_copy(where, "4", NULL), "read-only --out", "ro");
    check_refused(PROCESS_RUN(30, tune, "export", process_path("ro/x"), "--store", process_path("out/kiln.db")), "export", "ro/x");
    check_refused(PROCESS_RUN(60, tune, "emit", "-o", process_path("ro/x.kiln"), "--out", out, "--device", "opencl:0",
                              "--quiet"), "emit without its suite", "tune");
    umount(where);
}

/* Leaves no byte free. */
static void fill_up(const char *where) {
    static char block[4096];
    char path[1100];
    snprintf(path, sizeof path, "%s/filler", where);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    while (write(fd, block, sizeof block) > 0) {}
    close(fd);
}

static int files_in(const char *where) {
    glob_t g;
    char pattern[1100];
    snprintf(pattern, sizeof pattern, "%s/*", where);
    int n = glob(pattern, 0, NULL, &g) ? 0 : (int)g.gl_pathc;
    globfree(&g);
    return n;
}

static void test_full_disk_files(void **state) {
    const char *where = process_path("full");
    static const char old[] = "the old one\n";
    (void)state;
    if (!mount_small(where, "size=128k", 0)) skip_mounts();
    process_write(process_path("full/x"), old, sizeof old - 1);
    fill_up(where);
    check_refused(PROCESS_RUN(30, tune, "export", process_path("full/x"), "--store", process_path("out/kiln.db")),
                  "export to a full disk", "full/x");
    check_unchanged(process_path("full/x"), old, sizeof old - 1);
    assert_int_equal(files_in(where), 2);
    umount(where);
}

static int count_record(void *context, int64_t id, const kiln_record *r) {
    (void)id, (void)r;
    ++*(int *)context;
    return 0;
}

static int records(const char *path) {
    kiln_error e = {0};
    int n = 0;
    kiln_store *s = kiln_store_open(path, true, &e);
    if (!s || kiln_store_each(s, NULL, count_record, &n, &e)) fail_msg("%s", e.text);
    kiln_store_close(s);
    return n;
}

/* The disk fills while a session runs: it ends with a sentence, what was measured stays, and with
 * room again the same command goes on to its end. */
static void test_full_disk_session(void **state) {
    const char *where = process_path("small");
    (void)state;
    if (!mount_small(where, "size=1536k", 0)) skip_mounts();
    process_result r = tune_copy(where, "60", "--quiet");
    check_refused(r, "a session on a small disk", "small");
    int n = size_of(process_path("small/kiln.db")) ? records(process_path("small/kiln.db")) : 0;
    print_message("%d records when the disk was full\n", n);
    assert_int_equal(mount("kiln-test", where, "tmpfs", MS_REMOUNT, "size=256m"), 0);
    r = tune_copy(where, "60", "--quiet");
    if (r.status) fail_msg("with room again: status %d, %s", r.status, r.err);
    process_free(&r);
    assert_true(records(process_path("small/kiln.db")) > n);
    umount(where);
}

/* ---- new folders ---- */

static void test_new_folders(void **state) {
    char script[PATH_MAX + 64] = "", tree[PATH_MAX], build[PATH_MAX];
    struct stat st;
    (void)state;
    assert_non_null(realpath(tune, build));
    *strrchr(build, '/') = 0;
    strcpy(tree, build);
    for (char *slash; (slash = strrchr(tree, '/')) && slash > tree;) { /* the tree is above the build */
        snprintf(script, sizeof script, "%s/tests/scratch_folders.sh", tree);
        if (stat(script, &st) == 0) break;
        *slash = 0;
        script[0] = 0;
    }
    if (!script[0]) {
        print_message("skipped: the build is not inside its tree\n");
        skip();
    }
    process_result r = PROCESS_RUN(300, script, build);
    if (r.status) fail_msg("status %d\n%s\n%s", r.status, r.out, r.err);
    process_free(&r);
}

int main(void) {
    const char *given = getenv("KILN_TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("KILN_TEST_SEED=%llu\n", (unsigned long long)seed);
    if (process_begin("cli")) return 1;
    tune = process_program("tune");
    kiln = process_program("kiln");
    may_mount = unshare(CLONE_NEWNS) == 0 && mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    setenv("POCL_CACHE_DIR", process_path("pocl"), 1);
    mkdir(getenv("POCL_CACHE_DIR"), 0700);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_words),      cmocka_unit_test(test_suite_files),
        cmocka_unit_test(test_help_and_devices), cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_without_winner),   cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_portfolio),        cmocka_unit_test(test_no_color),
        cmocka_unit_test(test_bench),
        cmocka_unit_test(test_bench_vendors),    cmocka_unit_test(test_bench_pytorch),
        cmocka_unit_test(test_damaged_library),
        cmocka_unit_test(test_import),           cmocka_unit_test(test_foreign_stores),
        cmocka_unit_test(test_read_only),        cmocka_unit_test(test_full_disk_files),
        cmocka_unit_test(test_full_disk_session), cmocka_unit_test(test_new_folders),
    };
    int failed = cmocka_run_group_tests_name("cli", tests, NULL, NULL);
    process_end();
    return failed;
}

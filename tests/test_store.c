/* The store: durability, refusals, queries, exchange. Everything happens in a scratch directory. */
#include "base/hash.h"
#include "results/store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static char scratch[] = "/tmp/kiln-store-XXXXXX";

static int make_scratch(void **state) {
    (void)state;
    return mkdtemp(scratch) ? chmod(scratch, 0755) : -1;
}

static int remove_scratch(void **state) {
    char command[64];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    return system(command);
}

/* A path of the scratch directory; the text lives until the fourth call after. */
static const char *in_scratch(const char *name) {
    static char path[4][256];
    static int turn;
    snprintf(path[turn = (turn + 1) % 4], sizeof path[0], "%s/%s", scratch, name);
    return path[turn];
}

static kiln_record record(const char *problem, const char *schedule, double seconds) {
    kiln_record r = kiln_record_blank();
    r.problem = problem;
    r.schedule = schedule;
    r.device = "device A";
    r.source = "00ff";
    r.protocol = "cold/1";
    r.phase = "search";
    r.median = r.p05 = r.p95 = seconds;
    return r;
}

static kiln_store *opened(const char *path, bool read_only) {
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(path, read_only, &e);
    if (!s) fail_msg("%s", e.text);
    return s;
}

static void add(kiln_store *s, const kiln_record *r) {
    kiln_error e = {0};
    if (kiln_store_add(s, r, NULL, &e)) fail_msg("%s", e.text);
}

typedef struct seen {
    int n, stop_at;
    int64_t last;
    char order[64]; /* first letter of each problem */
    double sum;
} seen;

static int note(void *context, int64_t id, const kiln_record *r) {
    seen *x = context;
    assert_true(id > x->last);
    x->last = id;
    x->order[x->n % 63] = r->problem[0];
    x->sum += r->median;
    return ++x->n == x->stop_at;
}

static seen look(kiln_store *s, const kiln_query *q) {
    kiln_error e = {0};
    seen x = {0};
    if (kiln_store_each(s, q, note, &x, &e)) fail_msg("%s", e.text);
    return x;
}

static void refused(const char *path, bool read_only, int status, const char *says) {
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(path, read_only, &e);
    kiln_store_close(s);
    if (s || e.status != status || !strstr(e.text, says) || !strstr(e.text, path))
        fail_msg("%s: status %d: %s", path, e.status, e.text);
}

static void write_file(const char *path, const char *text, size_t n) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *text = calloc(1, 1 << 20);
    *n = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    return text;
}

/* ---- records and facts */

static void records_come_back_in_order(void **state) {
    (void)state;
    const char *path = in_scratch("order.db");
    kiln_store *s = opened(path, false);
    kiln_record b = record("b", "x=1", 2), a = record("a", "x=2", 1);
    kiln_error e = {0};
    int64_t first = 0, second = 0;
    assert_int_equal(kiln_store_add(s, &b, &first, &e), 0);
    assert_int_equal(kiln_store_add(s, &a, &second, &e), 0);
    assert_true(second > first);
    assert_string_equal(look(s, NULL).order, "ba");
    kiln_store_close(s);
    s = opened(path, true); /* also by a reader, later */
    assert_string_equal(look(s, NULL).order, "ba");
    assert_int_equal(kiln_store_add(s, &a, NULL, &e), KILN_IO);
    assert_non_null(strstr(e.text, "writable"));
    kiln_store_close(s);
}

static void queries_select_by_every_field(void **state) {
    (void)state;
    kiln_store *s = opened(in_scratch("query.db"), false);
    kiln_record r = record("a", "x=1", 1);
    add(s, &r);
    r.schedule = "x=2", add(s, &r);
    r.device = "device B", add(s, &r);
    r.protocol = "hot/1", add(s, &r);
    r.phase = "final", add(s, &r);
    r.source = "11", add(s, &r);
    r.outcome = KILN_OUTCOME_WRONG, add(s, &r);
    r.problem = "c", add(s, &r);
    assert_int_equal(look(s, &(kiln_query){0}).n, 8);
    assert_int_equal(look(s, &(kiln_query){.problem = "a"}).n, 7);
    assert_int_equal(look(s, &(kiln_query){.problem = "a", .schedule = "x=2"}).n, 6);
    assert_int_equal(look(s, &(kiln_query){.device = "device B", .schedule = ""}).n, 6);
    assert_int_equal(look(s, &(kiln_query){.protocol = "hot/1"}).n, 5);
    assert_int_equal(look(s, &(kiln_query){.phase = "final"}).n, 4);
    assert_int_equal(look(s, &(kiln_query){.source = "11"}).n, 3);
    assert_int_equal(look(s, &(kiln_query){.source = "11", .ok_only = true}).n, 1);
    assert_int_equal(look(s, &(kiln_query){.problem = "' OR 1=1 --"}).n, 0);
    seen x = {.stop_at = 3};
    kiln_error e = {0};
    assert_int_equal(kiln_store_each(s, NULL, note, &x, &e), 0);
    assert_int_equal(x.n, 3);
    kiln_store_close(s);
}

static int add_more(void *context, int64_t id, const kiln_record *r) {
    (void)id;
    add(context, r);
    return 0;
}

static void a_visitor_may_add(void **state) {
    (void)state;
    kiln_store *s = opened(in_scratch("visitor.db"), false);
    kiln_record r = record("a", "x=1", 1);
    kiln_error e = {0};
    for (int i = 0; i < 5; i++) add(s, &r);
    assert_int_equal(kiln_store_each(s, NULL, add_more, s, &e), 0);
    assert_int_equal(look(s, NULL).n, 10);
    kiln_store_close(s);
}

static void a_bad_record_is_refused(void **state) {
    (void)state;
    kiln_store *s = opened(in_scratch("bad.db"), false);
    kiln_record r = record("", "x=1", 1);
    kiln_error e = {0};
    assert_int_equal(kiln_store_add(s, &r, NULL, &e), KILN_BAD_INPUT);
    assert_non_null(strstr(e.text, "problem"));
    assert_int_equal(look(s, NULL).n, 0);
    kiln_store_close(s);
}

static void begun_trials_are_counted_until_their_end(void **state) {
    (void)state;
    const char *path = in_scratch("begun.db");
    kiln_store *s = opened(path, false);
    kiln_record r = record("a", "x=1", 1), other = record("a", "x=2", 1);
    kiln_error e = {0};
    assert_int_equal(kiln_store_begun(s, &r), 0);
    assert_int_equal(kiln_store_begin(s, &r, &e), 0);
    assert_int_equal(kiln_store_begun(s, &r), 1);
    kiln_store_close(s); /* the tuner died */
    s = opened(path, false);
    assert_int_equal(kiln_store_begin(s, &r, &e), 0);
    assert_int_equal(kiln_store_begun(s, &r), 2);
    assert_int_equal(kiln_store_begun(s, &other), 0);
    add(s, &other);
    assert_int_equal(kiln_store_begun(s, &r), 2);
    add(s, &r);
    assert_int_equal(kiln_store_begun(s, &r), 0);
    kiln_store_close(s);
}

static void facts_are_kept_and_replaced(void **state) {
    (void)state;
    const char *path = in_scratch("facts.db");
    kiln_store *s = opened(path, false);
    kiln_arena arena = {0};
    kiln_error e = {0};
    assert_null(kiln_store_get(s, "copy-bandwidth/A", &arena));
    assert_int_equal(kiln_store_put(s, "copy-bandwidth/A", "1", &e), 0);
    assert_int_equal(kiln_store_put(s, "copy-bandwidth/A", "2e10", &e), 0);
    assert_int_equal(kiln_store_put(s, "empty", "", &e), 0);
    kiln_store_close(s);
    s = opened(path, true);
    assert_string_equal(kiln_store_get(s, "copy-bandwidth/A", &arena), "2e10");
    assert_string_equal(kiln_store_get(s, "empty", &arena), "");
    kiln_store_close(s);
    kiln_arena_free(&arena);
}

/* ---- refusals */

/* Changes the schema number in place, as a Kiln of another version would have written it. */
static void set_header(const char *path, long at, unsigned char value) {
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(value, f), value);
    assert_int_equal(fclose(f), 0);
}

static void another_version_is_refused_and_untouched(void **state) {
    (void)state;
    const char *path = in_scratch("version.db");
    kiln_store *s = opened(path, false);
    kiln_record r = record("a", "x=1", 1);
    add(s, &r);
    kiln_store_close(s);
    set_header(path, 63, 2);
    size_t n = 0, m = 0;
    char *before = read_file(path, &n);
    refused(path, false, KILN_VERSION, "schema 2");
    refused(path, true, KILN_VERSION, "schema 2");
    char *after = read_file(path, &m);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    assert_int_not_equal(access(in_scratch("version.db-wal"), F_OK), 0);
    free(before);
    free(after);
    set_header(path, 63, 1);
    set_header(path, 68, 'X');
    refused(path, false, KILN_BAD_INPUT, "another program");
}

static void what_is_no_store_is_refused(void **state) {
    (void)state;
    const char *path = in_scratch("text.db");
    write_file(path, "hello\n", 6);
    refused(path, false, KILN_BAD_INPUT, "not a store");
    size_t n = 0;
    char *text = read_file(path, &n);
    assert_string_equal(text, "hello\n");
    free(text);
    refused(in_scratch("absent.db"), true, KILN_NOT_FOUND, "no store");
    assert_int_not_equal(access(in_scratch("absent.db"), F_OK), 0);
    refused(in_scratch("no/such/dir.db"), false, KILN_IO, "writable");
    refused(scratch, false, KILN_BAD_INPUT, "regular");
    assert_int_equal(mkfifo(in_scratch("pipe"), 0600), 0);
    refused(in_scratch("pipe"), false, KILN_BAD_INPUT, "regular"); /* and does not hang */
    write_file(in_scratch("empty.db"), "", 0);
    refused(in_scratch("empty.db"), true, KILN_NOT_FOUND, "empty");
}

static void damage_never_crashes(void **state) {
    (void)state;
    const char *path = in_scratch("whole.db"), *copy = in_scratch("damaged.db");
    const char *env = getenv("KILN_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 10) : 7;
    print_message("KILN_SEED=%" PRIu64 "\n", seed);
    kiln_store *s = opened(path, false);
    kiln_record r = record("a", "x=1", 1);
    for (int i = 0; i < 30; i++) add(s, &r);
    kiln_store_close(s);
    size_t n = 0;
    char *bytes = read_file(path, &n);
    for (uint64_t i = 0; i < 150; i++) {
        uint64_t at = kiln_random64(seed, 2 * i) % n;
        bool cut = i % 3 == 0;
        bytes[at] ^= (char)(1 << i % 8);
        write_file(copy, bytes, cut ? at : n);
        bytes[at] ^= (char)(1 << i % 8);
        kiln_error e = {0};
        seen x = {0};
        kiln_store *d = kiln_store_open(copy, true, &e);
        if (!d || kiln_store_each(d, NULL, note, &x, &e)) assert_true(strlen(e.text) > 20);
        kiln_store_close(d);
    }
    free(bytes);
}

/* ---- a full disk and a directory that cannot be written
 * Tried on a small tmpfs where the test may mount one, else with a file size limit and another
 * user, so that no machine skips them. Each runs in a child, which exits with its verdict. */

static int verdict_of(int (*child)(void *), void *context) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(child(context));
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Adds until the disk is full: one clear sentence, and all that was added is still there. */
static int fill(void *context) {
    const char *path = context;
    char detail[2000] = "";
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(path, false, &e);
    if (!s) return 1;
    memset(detail, 'x', sizeof detail - 1);
    kiln_record r = record("a", "x=1", 1);
    r.detail = detail;
    int added = 0;
    while (added < 5000 && kiln_store_add(s, &r, NULL, &e) == 0) added++;
    if (added < 10 || added == 5000 || e.status != KILN_IO || !strstr(e.text, "no space")) {
        fprintf(stderr, "%d added, status %d: %s\n", added, e.status, e.text);
        return 2;
    }
    seen x = {0};
    if (kiln_store_each(s, NULL, note, &x, &e) || x.n != added) return 3;
    kiln_store_close(s);
    s = kiln_store_open(path, true, &e);
    x = (seen){0};
    if (!s || kiln_store_each(s, NULL, note, &x, &e) || x.n != added) {
        fprintf(stderr, "%d of %d: %s\n", x.n, added, e.text);
        return 4;
    }
    kiln_store_close(s);
    return 0;
}

static int fill_limited(void *path) {
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){300000, 300000})) return 9;
    return fill(path);
}

static void a_full_disk_loses_nothing(void **state) {
    (void)state;
    const char *dir = in_scratch("small");
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(verdict_of(fill_limited, (void *)(uintptr_t)in_scratch("limited.db")), 0);
    if (mount("tmpfs", dir, "tmpfs", 0, "size=400k")) {
        print_message("no tmpfs here (%s): the size limit alone was tested\n", strerror(errno));
        return;
    }
    int verdict = verdict_of(fill, (void *)(uintptr_t)in_scratch("small/full.db"));
    umount(dir);
    assert_int_equal(verdict, 0);
}

static bool become_nobody(void) { return getuid() != 0 || setresuid(65534, 65534, 65534) == 0; }

static int open_in_read_only(void *context) {
    const char *path = context;
    kiln_error e = {0};
    if (!become_nobody()) return 9;
    if (kiln_store_open(path, false, &e) || e.status != KILN_IO || !strstr(e.text, "writable"))
        return 1;
    kiln_store *s = kiln_store_open(path, true, &e);
    seen x = {0};
    if (!s || kiln_store_each(s, NULL, note, &x, &e) || x.n != 1) {
        fprintf(stderr, "%s\n", e.text);
        return 2;
    }
    if (kiln_store_export(s, NULL, in_scratch("fixed/out.jsonl"), NULL, &e) != KILN_IO) return 3;
    kiln_store_close(s);
    return 0;
}

static int create_in_read_only(void *context) {
    kiln_error e = {0};
    if (!become_nobody()) return 9;
    if (kiln_store_open(context, false, &e)) return 1;
    return e.status == KILN_IO && strstr(e.text, "writable") ? 0 : 2;
}

static void a_read_only_directory_can_be_read(void **state) {
    (void)state;
    const char *dir = in_scratch("fixed"), *path = in_scratch("fixed/a.db");
    assert_int_equal(mkdir(dir, 0755), 0);
    kiln_store *s = opened(path, false);
    kiln_record r = record("a", "x=1", 1);
    add(s, &r);
    kiln_store_close(s);
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    assert_int_equal(verdict_of(open_in_read_only, (void *)(uintptr_t)path), 0);
    assert_int_equal(verdict_of(create_in_read_only, (void *)(uintptr_t)in_scratch("fixed/new.db")),
                     0);
    assert_int_equal(chmod(dir, 0755), 0);
}

/* ---- kill -9 */

/* Adds records for ever and names each on the pipe once it is stored. */
static void add_for_ever(const char *path, int pipe_end, int start) {
    kiln_store *s = kiln_store_open(path, false, NULL);
    char schedule[32];
    for (int i = start; s; i++) {
        snprintf(schedule, sizeof schedule, "x=%d", i);
        kiln_record r = record("a", schedule, 1);
        if (kiln_store_begin(s, &r, NULL) || kiln_store_add(s, &r, NULL, NULL)) break;
        if (write(pipe_end, &i, sizeof i) != sizeof i) break;
    }
    _exit(1);
}

static int killed_after(const char *path, long ns, int start) {
    int ends[2], i = 0, last = start - 1;
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) add_for_ever(path, ends[1], start);
    close(ends[1]);
    nanosleep(&(struct timespec){0, ns}, NULL);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    while (read(ends[0], &i, sizeof i) == sizeof i) last = i;
    close(ends[0]);
    return last;
}

static int mark(void *context, int64_t id, const kiln_record *r) {
    bool *there = context;
    (void)id;
    int i = atoi(r->schedule + 2);
    assert_true(i >= 0 && i < 1 << 20 && !there[i]);
    return there[i] = true, 0;
}

static void kill_9_loses_nothing(void **state) {
    (void)state;
    const char *path = in_scratch("kill.db");
    const char *env = getenv("KILN_SEED");
    uint64_t seed = env ? strtoull(env, NULL, 10) : (uint64_t)time(NULL);
    print_message("KILN_SEED=%" PRIu64 "\n", seed);
    static bool there[1 << 20], printed[1 << 20];
    int total = 0;
    for (int round = 0; round < 20; round++) {
        int start = round * 50000;
        int last = killed_after(
            path, 1000000 + (long)(kiln_random64(seed, (uint64_t)round) % 90000000), start);
        for (int i = start; i <= last; i++) printed[i] = true, total++;
        memset(there, 0, sizeof there);
        kiln_error e = {0};
        kiln_store *s = opened(path, round % 2); /* readers recover too */
        if (kiln_store_each(s, NULL, mark, there, &e)) fail_msg("%s", e.text);
        kiln_store_close(s);
        for (int i = 0; i <= last; i++)
            if (printed[i] && !there[i]) fail_msg("record %d was reported and is lost", i);
    }
    print_message("%d records were reported before 20 kills, all are there\n", total);
    assert_true(total > 20);
}

/* ---- several processes */

static int add_many(void *context) {
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(context, false, &e);
    for (int i = 0; s && i < 50; i++) {
        kiln_record r = record("a", "x=1", 1);
        if (kiln_store_add(s, &r, NULL, &e)) break;
    }
    if (e.status) fprintf(stderr, "%s\n", e.text);
    kiln_store_close(s);
    return e.status != 0;
}

static void processes_share_a_store(void **state) {
    (void)state;
    for (int round = 0; round < 5; round++) { /* the store is created by all at once */
        char name[32];
        snprintf(name, sizeof name, "shared%d.db", round);
        const char *path = in_scratch(name);
        fflush(NULL);
        for (int i = 0; i < 4; i++)
            if (fork() == 0) _exit(add_many((void *)(uintptr_t)path));
        for (int i = 0, status; i < 4; i++) {
            wait(&status);
            assert_int_equal(status, 0);
        }
        kiln_store *s = opened(path, true);
        assert_int_equal(look(s, NULL).n, 200);
        kiln_store_close(s);
    }
}

/* ---- JSON lines */

typedef struct complaints {
    int n;
    int64_t line[8];
    char why[480];
} complaints;

static void complain(void *context, int64_t line, const char *why) {
    complaints *c = context;
    c->line[c->n++ % 8] = line;
    snprintf(c->why, sizeof c->why, "%s", why);
}

static void export_and_import_agree(void **state) {
    (void)state;
    const char *out = in_scratch("out.jsonl");
    kiln_store *s = opened(in_scratch("from.db"), false);
    kiln_record r = record("a", "x=1", 1.0 / 3);
    kiln_error e = {0};
    int64_t n = 0, added = 0, skipped = 0;
    add(s, &r);
    r.problem = "b", add(s, &r);
    r.problem = "c", r.outcome = KILN_OUTCOME_CRASH, add(s, &r);
    assert_int_equal(kiln_store_export(s, NULL, out, &n, &e), 0);
    assert_int_equal(n, 3);
    assert_int_equal(kiln_store_import(s, out, NULL, NULL, &added, &skipped, &e), 0);
    assert_true(added == 0 && skipped == 3);
    kiln_store *t = opened(in_scratch("to.db"), false);
    assert_int_equal(kiln_store_import(t, out, NULL, NULL, &added, &skipped, &e), 0);
    assert_true(added == 3 && skipped == 0);
    assert_string_equal(look(t, NULL).order, "abc");
    assert_true(look(t, &(kiln_query){.ok_only = true}).sum == 2.0 / 3);
    assert_int_equal(kiln_store_export(t, NULL, in_scratch("again.jsonl"), &n, &e), 0);
    size_t a = 0, b = 0;
    char *one = read_file(out, &a), *two = read_file(in_scratch("again.jsonl"), &b);
    assert_string_equal(one, two);
    assert_int_equal(kiln_store_export(t, &(kiln_query){.problem = "b"}, out, &n, &e), 0);
    assert_int_equal(n, 1);
    free(one);
    free(two);
    kiln_store_close(s);
    kiln_store_close(t);
}

static void bad_lines_are_named_and_skipped(void **state) {
    (void)state;
    const char *path = in_scratch("mixed.jsonl");
    kiln_text text = {0};
    kiln_record r = record("a", "x=1", 1);
    kiln_record_print(&r, &text);
    kiln_text_add(&text, "\n{\"version\":1}\r\n\n");
    r.problem = "b";
    kiln_record_print(&r, &text);
    kiln_text_add(&text, "\r\n{\"version\":9}\n");
    for (int i = 0; i < KILN_RECORD_LINE_MAX + 100; i++) kiln_text_add(&text, "x");
    kiln_text_add(&text, "\n");
    r.problem = "a";
    kiln_record_print(&r, &text);
    kiln_text_add(&text, "\n{\"version\":1,\"prob"); /* torn at the end */
    write_file(path, text.data, text.size);
    kiln_store *s = opened(in_scratch("mixed.db"), false);
    complaints c = {0};
    kiln_error e = {0};
    int64_t added = 0, skipped = 0;
    assert_int_equal(kiln_store_import(s, path, complain, &c, &added, &skipped, &e), 0);
    assert_int_equal(added, 2);
    assert_int_equal(skipped, 5);
    assert_int_equal(c.n, 4);
    const int64_t lines[] = {2, 5, 6, 8};
    for (int i = 0; i < 4; i++) assert_int_equal(c.line[i], lines[i]);
    assert_string_equal(look(s, NULL).order, "ab");
    assert_int_equal(kiln_store_import(s, in_scratch("none"), NULL, NULL, NULL, NULL, &e), KILN_IO);
    assert_int_equal(kiln_store_import(s, scratch, NULL, NULL, NULL, NULL, &e), KILN_IO);
    kiln_store_close(s);
    kiln_text_free(&text);
}

static int import_limited(void *context) {
    kiln_error e = {0};
    kiln_store *s = kiln_store_open(context, false, &e);
    int64_t added = 7;
    signal(SIGXFSZ, SIG_IGN);
    if (!s || setrlimit(RLIMIT_FSIZE, &(struct rlimit){200000, 200000})) return 1;
    int status = kiln_store_import(s, in_scratch("large.jsonl"), NULL, NULL, &added, NULL, &e);
    if (status != KILN_IO || added || !strstr(e.text, "no space")) return 2;
    seen x = {0};
    if (kiln_store_each(s, NULL, note, &x, &e) || x.n != 1) return 3;
    return 0;
}

static void a_failed_import_leaves_nothing(void **state) {
    (void)state;
    const char *path = in_scratch("half.db");
    kiln_store *s = opened(path, false);
    kiln_record r = record("a", "x=1", 1);
    add(s, &r);
    kiln_store_close(s);
    FILE *f = fopen(in_scratch("large.jsonl"), "w");
    kiln_text text = {0};
    for (int i = 0; i < 30000; i++) {
        char schedule[16];
        snprintf(schedule, sizeof schedule, "x=%d", i);
        r.schedule = schedule;
        kiln_text_clear(&text);
        kiln_record_print(&r, &text);
        fprintf(f, "%s\n", text.data);
    }
    fclose(f);
    kiln_text_free(&text);
    assert_int_equal(verdict_of(import_limited, (void *)(uintptr_t)path), 0);
    s = opened(path, false);
    assert_int_equal(look(s, NULL).n, 1);
    kiln_store_close(s);
}

static void a_failed_export_leaves_the_old_file(void **state) {
    (void)state;
    kiln_store *s = opened(in_scratch("keep.db"), false);
    kiln_record r = record("a", "x=1", 1);
    kiln_error e = {0};
    add(s, &r);
    const char *dir = in_scratch("is-a-directory");
    assert_int_equal(mkdir(dir, 0755), 0);
    assert_int_equal(kiln_store_export(s, NULL, dir, NULL, &e), KILN_IO);
    assert_non_null(strstr(e.text, dir));
    char name[300];
    snprintf(name, sizeof name, "%s.new-%ld", dir, (long)getpid());
    assert_int_not_equal(access(name, F_OK), 0);
    kiln_store_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_back_in_order),
        cmocka_unit_test(queries_select_by_every_field),
        cmocka_unit_test(a_visitor_may_add),
        cmocka_unit_test(a_bad_record_is_refused),
        cmocka_unit_test(begun_trials_are_counted_until_their_end),
        cmocka_unit_test(facts_are_kept_and_replaced),
        cmocka_unit_test(another_version_is_refused_and_untouched),
        cmocka_unit_test(what_is_no_store_is_refused),
        cmocka_unit_test(damage_never_crashes),
        cmocka_unit_test(a_full_disk_loses_nothing),
        cmocka_unit_test(a_read_only_directory_can_be_read),
        cmocka_unit_test(kill_9_loses_nothing),
        cmocka_unit_test(processes_share_a_store),
        cmocka_unit_test(export_and_import_agree),
        cmocka_unit_test(bad_lines_are_named_and_skipped),
        cmocka_unit_test(a_failed_import_leaves_nothing),
        cmocka_unit_test(a_failed_export_leaves_the_old_file),
    };
    return cmocka_run_group_tests_name("store", tests, make_scratch, remove_scratch);
}

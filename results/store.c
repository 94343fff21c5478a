#include "results/store.h"

#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* application_id says whose file it is ("Kiln" in ASCII), user_version which schema it has. Both
 * lie at fixed places of the file's first page, so that a foreign file is refused before SQLite
 * may touch it. */
enum { APPLICATION = 0x4b696c6e, SCHEMA_VERSION = 1, BUSY_MS = 10000, DIGEST_BYTES = 16 };

/* The record's own line is the only truth; the columns are computed from it, so they cannot
 * disagree, and sqlite3 at a prompt shows them like any others. */
static const char schema[] =
    "CREATE TABLE record("
    "  id INTEGER PRIMARY KEY,"
    "  line TEXT NOT NULL,"
    "  digest BLOB NOT NULL,"
    "  problem TEXT AS (json_extract(line, '$.problem')),"
    "  schedule TEXT AS (json_extract(line, '$.schedule')),"
    "  device TEXT AS (json_extract(line, '$.device')),"
    "  protocol TEXT AS (json_extract(line, '$.protocol')),"
    "  phase TEXT AS (json_extract(line, '$.phase')),"
    "  source TEXT AS (json_extract(line, '$.source')),"
    "  outcome TEXT AS (json_extract(line, '$.outcome')),"
    "  median REAL AS (json_extract(line, '$.median')),"
    "  date TEXT AS (json_extract(line, '$.date')));"
    "CREATE INDEX record_digest ON record(digest);"
    "CREATE INDEX record_problem ON record(problem, device);"
    "CREATE INDEX record_device ON record(device);"
    "CREATE INDEX record_source ON record(source);"
    "CREATE TABLE begun("
    "  problem TEXT, schedule TEXT, device TEXT, protocol TEXT, phase TEXT,"
    "  times INTEGER NOT NULL,"
    "  PRIMARY KEY(problem, schedule, device, protocol, phase)) WITHOUT ROWID;"
    "CREATE TABLE fact(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

enum statement { INSERT, HAS, BEGIN_TRIAL, END_TRIAL, BEGUN, PUT, GET, N_STATEMENTS };

#define TRIAL "problem=?1 AND schedule=?2 AND device=?3 AND protocol=?4 AND phase=?5"
static const char *const statement_text[N_STATEMENTS] = {
    [INSERT] = "INSERT INTO record(line, digest) VALUES(?1, ?2)",
    [HAS] = "SELECT 1 FROM record WHERE digest=?2 AND line=?1",
    [BEGIN_TRIAL] = "INSERT INTO begun VALUES(?1, ?2, ?3, ?4, ?5, 1)"
                    " ON CONFLICT DO UPDATE SET times=times+1",
    [END_TRIAL] = "DELETE FROM begun WHERE " TRIAL,
    [BEGUN] = "SELECT times FROM begun WHERE " TRIAL,
    [PUT] = "INSERT INTO fact VALUES(?1, ?2) ON CONFLICT DO UPDATE SET value=?2",
    [GET] = "SELECT value FROM fact WHERE key=?1",
};

struct kiln_store {
    sqlite3 *db;
    char *path;
    sqlite3_stmt *statement[N_STATEMENTS]; /* prepared when first used */
    kiln_text line;                        /* scratch of add and import */
};

/* ---- failure: SQLite's codes as sentences with a remedy */

/* SQLite tells a full disk apart, but not a quota or a file size limit: those are write errors. */
static bool write_failed(sqlite3 *db) {
    switch (sqlite3_extended_errcode(db)) {
    case SQLITE_IOERR_WRITE:
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_SHMSIZE:
    case SQLITE_IOERR_TRUNCATE:
        return true;
    }
    return (sqlite3_errcode(db) & 0xff) == SQLITE_FULL;
}

static int fail(kiln_store *s, kiln_error *e) {
    sqlite3 *db = s->db;
    if (write_failed(db))
        return kiln_fail(
            e, KILN_IO,
            "the store %s cannot grow (%s): no space, a quota, or a failing disk; free "
            "some and run the same command again, all finished trials are kept",
            s->path, sqlite3_errmsg(db));
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return kiln_fail(e, KILN_TIMEOUT,
                         "another process has kept the store %s locked for %d s: wait for it or "
                         "give this one its own --store",
                         s->path, BUSY_MS / 1000);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return kiln_fail(e, KILN_IO,
                         "the store %s cannot be written (%s): make the file and its directory "
                         "writable or choose another --store",
                         s->path, sqlite3_errmsg(db));
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return kiln_fail(
            e, KILN_CORRUPT,
            "the store %s is damaged (%s): move it away, or save what is readable with "
            "`sqlite3 %s .recover`",
            s->path, sqlite3_errmsg(db), s->path);
    case SQLITE_NOMEM:
        return kiln_fail(e, KILN_NO_MEMORY, "out of memory in the store %s", s->path);
    }
    return kiln_fail(e, KILN_IO, "the store %s: %s", s->path, sqlite3_errmsg(db));
}

static int run(kiln_store *s, const char *sql, kiln_error *e) {
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(s, e);
}

/* Ends a transaction: commits when status is 0, takes everything back otherwise. */
static int finish(kiln_store *s, int status, kiln_error *e) {
    if (!status) status = run(s, "COMMIT", e);
    if (status && !sqlite3_get_autocommit(s->db)) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* ---- opening */

static uint32_t big_endian(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int refuse_version(const char *path, int version, kiln_error *e) {
    return kiln_fail(e, KILN_VERSION,
                     "the store %s has schema %d and this Kiln knows schema %d: use the Kiln that "
                     "wrote it (`tune export` there, `tune import` here) or another --store",
                     path, version, SCHEMA_VERSION);
}

static int check_header(const char *path, const unsigned char *h, size_t n, kiln_error *e) {
    if (n == 0) return 0; /* to be created */
    if (n < 100 || memcmp(h, "SQLite format 3", 16))
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s is not a store (no SQLite file): choose another --store, or read JSON "
                         "lines with `tune import`",
                         path);
    if (big_endian(h + 68) != APPLICATION)
        return kiln_fail(e, KILN_BAD_INPUT,
                         "%s is an SQLite file of another program: choose another --store", path);
    int version = (int)big_endian(h + 60);
    return version == SCHEMA_VERSION ? 0 : refuse_version(path, version, e);
}

/* Looks at the file without SQLite, so that what is refused stays untouched byte for byte. */
static int check_file(const char *path, bool read_only, kiln_error *e) {
    unsigned char header[100];
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe must not hang */
    if (fd < 0 && errno == ENOENT && !read_only) return 0;
    if (fd < 0 && errno == ENOENT)
        return kiln_fail(e, KILN_NOT_FOUND,
                         "there is no store at %s: run `tune` first, or name "
                         "another with --store",
                         path);
    if (fd < 0)
        return kiln_fail(e, KILN_IO, "the store %s cannot be read: %s", path, strerror(errno));
    struct stat st;
    ssize_t n = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? read(fd, header, sizeof header) : -1;
    close(fd);
    if (n < 0)
        return kiln_fail(e, KILN_BAD_INPUT, "%s is no regular file: choose another --store", path);
    if (n == 0 && read_only)
        return kiln_fail(e, KILN_NOT_FOUND, "the store %s is empty: run `tune` first", path);
    return check_header(path, header, (size_t)n, e);
}

static int number_of(kiln_store *s, const char *sql, int *out, kiln_error *e) {
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) *out = sqlite3_column_int(q, 0);
    int status = rc == SQLITE_ROW ? 0 : fail(s, e);
    sqlite3_finalize(q);
    return status;
}

/* In a rollback journal and one transaction, before WAL: whoever sees a file of ours sees its
 * identity in the first page, wherever a kill falls. */
static int create(kiln_store *s, kiln_error *e) {
    char identity[96];
    int version = 0, status = run(s, "BEGIN IMMEDIATE", e);
    if (status) return status;
    status = number_of(s, "PRAGMA user_version", &version, e);
    snprintf(identity, sizeof identity, "PRAGMA application_id=%d; PRAGMA user_version=%d",
             APPLICATION, SCHEMA_VERSION);
    if (!status && version == 0) { /* else another process was faster */
        status = run(s, schema, e);
        if (!status) status = run(s, identity, e);
    }
    return finish(s, status, e);
}

/* FULL: every commit reaches the disk before add returns, so neither a kill nor a power cut loses
 * a finished trial, and `begin` is known after a trial that took the whole machine down. It costs
 * two synced writes per trial, beside trials of 100 ms and more. NORMAL would survive kills only.
 */
static int prepare_writing(kiln_store *s, kiln_error *e) {
    int version = 0, status = number_of(s, "PRAGMA user_version", &version, e);
    if (!status && version == 0) status = create(s, e);
    if (!status) status = number_of(s, "PRAGMA user_version", &version, e);
    if (!status && version != SCHEMA_VERSION) status = refuse_version(s->path, version, e);
    if (!status) status = run(s, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL", e);
    return status;
}

/* The path as a URI, for SQLite's `immutable`: a store in a directory that cannot be written has
 * no place for the shared memory of WAL. Safe while there is no log left to replay. */
static char *immutable_uri(const char *path) {
    kiln_text t = {0};
    kiln_text_add(&t, "file:");
    for (const char *p = path; *p; p++)
        if (strchr("?#%", *p))
            kiln_text_printf(&t, "%%%02x", (unsigned)(unsigned char)*p);
        else
            kiln_text_add_bytes(&t, p, 1);
    kiln_text_add(&t, "?immutable=1");
    if (t.failed) kiln_text_free(&t);
    return t.data;
}

static bool has_log(const char *path) {
    kiln_text t = {0};
    struct stat st;
    kiln_text_printf(&t, "%s-wal", path);
    bool yes = !t.failed && stat(t.data, &st) == 0 && st.st_size > 0;
    kiln_text_free(&t);
    return yes;
}

static int open_at(kiln_store *s, const char *name, int flags, kiln_error *e) {
    if (sqlite3_open_v2(name, &s->db, flags | SQLITE_OPEN_URI * (name != s->path), NULL))
        return s->db ? fail(s, e) : kiln_fail(e, KILN_NO_MEMORY, "out of memory");
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    return 0;
}

static int open_reading(kiln_store *s, kiln_error *e) {
    int n = 0, status = open_at(s, s->path, SQLITE_OPEN_READONLY, e);
    if (!status) status = number_of(s, "SELECT count(*) FROM sqlite_schema", &n, e);
    int code = sqlite3_errcode(s->db) & 0xff;
    if (!status || has_log(s->path) || (code != SQLITE_CANTOPEN && code != SQLITE_READONLY))
        return status;
    sqlite3_close(s->db);
    s->db = NULL;
    char *uri = immutable_uri(s->path);
    status = uri ? open_at(s, uri, SQLITE_OPEN_READONLY, e)
                 : kiln_fail(e, KILN_NO_MEMORY, "out of memory");
    free(uri);
    if (!status) status = number_of(s, "SELECT count(*) FROM sqlite_schema", &n, e);
    return status;
}

static int open_writing(kiln_store *s, kiln_error *e) {
    int status = open_at(s, s->path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, e);
    if (!status && sqlite3_db_readonly(s->db, "main") == 1)
        status = kiln_fail(e, KILN_IO,
                           "the store %s is read-only: make the file and its directory writable or "
                           "choose another --store",
                           s->path);
    return status ? status : prepare_writing(s, e);
}

kiln_store *kiln_store_open(const char *path, bool read_only, kiln_error *e) {
    if (check_file(path, read_only, e)) return NULL;
    kiln_store *s = calloc(1, sizeof *s);
    if (s) s->path = strdup(path);
    int status = s && s->path ? 0 : kiln_fail(e, KILN_NO_MEMORY, "out of memory opening a store");
    if (!status) status = read_only ? open_reading(s, e) : open_writing(s, e);
    if (!status) return s;
    kiln_store_close(s);
    return NULL;
}

void kiln_store_close(kiln_store *s) {
    if (!s) return;
    for (int i = 0; i < N_STATEMENTS; i++) sqlite3_finalize(s->statement[i]);
    sqlite3_close(s->db);
    kiln_text_free(&s->line);
    free(s->path);
    free(s);
}

/* ---- statements */

static sqlite3_stmt *statement(kiln_store *s, enum statement which) {
    sqlite3_stmt **q = &s->statement[which];
    if (!*q &&
        sqlite3_prepare_v3(s->db, statement_text[which], -1, SQLITE_PREPARE_PERSISTENT, q, NULL))
        return NULL;
    return *q;
}

static void bind_text(sqlite3_stmt *q, int at, const char *text) {
    sqlite3_bind_text(q, at, text ? text : "", -1, SQLITE_STATIC);
}

/* One step of a statement that is bound; SQLITE_ROW or SQLITE_DONE are good. The reset drops the
 * bindings, which belong to the caller. */
static int step_once(sqlite3_stmt *q) {
    int rc = sqlite3_step(q);
    if (rc != SQLITE_ROW) sqlite3_reset(q);
    return rc;
}

static int step_done(kiln_store *s, sqlite3_stmt *q, kiln_error *e) {
    int rc = step_once(q), status = rc == SQLITE_DONE ? 0 : fail(s, e);
    sqlite3_reset(q);
    return status;
}

static sqlite3_stmt *trial_statement(kiln_store *s, enum statement which, const kiln_record *r) {
    sqlite3_stmt *q = statement(s, which);
    if (!q) return NULL;
    const char *key[] = {r->problem, r->schedule, r->device, r->protocol, r->phase};
    for (int i = 0; i < 5; i++) bind_text(q, i + 1, key[i]);
    return q;
}

static int step_trial(kiln_store *s, enum statement which, const kiln_record *r, kiln_error *e) {
    sqlite3_stmt *q = trial_statement(s, which, r);
    return q ? step_done(s, q, e) : fail(s, e);
}

static sqlite3_stmt *line_statement(kiln_store *s, enum statement which, const kiln_text *line) {
    uint8_t digest[32];
    sqlite3_stmt *q = statement(s, which);
    if (!q) return NULL;
    kiln_sha256_of(line->data, line->size, digest);
    sqlite3_bind_text(q, 1, line->data, (int)line->size, SQLITE_STATIC);
    sqlite3_bind_blob(q, 2, digest, DIGEST_BYTES, SQLITE_TRANSIENT);
    return q;
}

static int insert(kiln_store *s, kiln_error *e) {
    sqlite3_stmt *q = line_statement(s, INSERT, &s->line);
    return q ? step_done(s, q, e) : fail(s, e);
}

/* Prints the record into the scratch line. */
static int print_line(kiln_store *s, const kiln_record *r, kiln_error *e) {
    kiln_text_clear(&s->line);
    kiln_record_print(r, &s->line);
    if (s->line.failed) return kiln_fail(e, KILN_NO_MEMORY, "out of memory printing a record");
    if (s->line.size <= KILN_RECORD_LINE_MAX) return 0;
    return kiln_fail(e, KILN_BAD_INPUT, "the record is longer than %d bytes: shorten its texts",
                     KILN_RECORD_LINE_MAX);
}

/* ---- records */

int kiln_store_add(kiln_store *s, const kiln_record *r, int64_t *id, kiln_error *e) {
    int status = kiln_record_check(r, e);
    if (!status) status = print_line(s, r, e);
    if (!status) status = run(s, "BEGIN IMMEDIATE", e);
    if (status) return status;
    status = insert(s, e);
    int64_t added = sqlite3_last_insert_rowid(s->db);
    if (!status) status = step_trial(s, END_TRIAL, r, e);
    status = finish(s, status, e);
    if (!status && id) *id = added;
    return status;
}

int kiln_store_begin(kiln_store *s, const kiln_record *r, kiln_error *e) {
    return step_trial(s, BEGIN_TRIAL, r, e);
}

int kiln_store_begun(kiln_store *s, const kiln_record *r) {
    sqlite3_stmt *q = trial_statement(s, BEGUN, r);
    if (!q) return 0;
    int times = step_once(q) == SQLITE_ROW ? sqlite3_column_int(q, 0) : 0;
    sqlite3_reset(q);
    return times;
}

typedef int (*line_visitor)(void *context, int64_t id, const char *line, size_t n, kiln_error *e);

static void add_condition(kiln_text *sql, const char *column, int at, const char *value) {
    if (value && *value) kiln_text_printf(sql, " AND %s=?%d", column, at);
}

/* The records known at the start, in their order; a visitor may add to the store meanwhile. */
static sqlite3_stmt *select_lines(kiln_store *s, const kiln_query *q) {
    static const char *const column[] = {"problem",  "schedule", "device",
                                         "protocol", "phase",    "source"};
    const kiln_query all = {0};
    if (!q) q = &all;
    const char *value[] = {q->problem, q->schedule, q->device, q->protocol, q->phase, q->source};
    kiln_text sql = {0};
    sqlite3_stmt *found = NULL;
    kiln_text_add(&sql, "SELECT id, line FROM record WHERE id<=(SELECT max(id) FROM record)");
    for (int i = 0; i < 6; i++) add_condition(&sql, column[i], i + 1, value[i]);
    if (q->ok_only) kiln_text_add(&sql, " AND outcome='ok'");
    kiln_text_add(&sql, " ORDER BY id");
    if (!sql.failed) sqlite3_prepare_v2(s->db, kiln_text_get(&sql), -1, &found, NULL);
    for (int i = 0; found && i < 6; i++)
        if (value[i] && *value[i]) sqlite3_bind_text(found, i + 1, value[i], -1, SQLITE_TRANSIENT);
    kiln_text_free(&sql);
    return found;
}

/* visit: 0 goes on, above 0 stops, below 0 is a failure that it has described in e. */
static int each_line(kiln_store *s, const kiln_query *q, line_visitor visit, void *context,
                     kiln_error *e) {
    sqlite3_stmt *found = select_lines(s, q);
    int rc = found ? SQLITE_ROW : SQLITE_ERROR, answer = 0;
    while (!answer && found && (rc = sqlite3_step(found)) == SQLITE_ROW)
        answer = visit(context, sqlite3_column_int64(found, 0),
                       (const char *)sqlite3_column_text(found, 1),
                       (size_t)sqlite3_column_bytes(found, 1), e);
    int status = answer < 0 ? answer : answer || rc == SQLITE_DONE ? 0 : fail(s, e);
    sqlite3_finalize(found);
    return status;
}

typedef struct record_visit {
    int (*visit)(void *context, int64_t id, const kiln_record *r);
    void *context;
    const char *path;
    kiln_arena arena;
} record_visit;

static int visit_record(void *context, int64_t id, const char *line, size_t n, kiln_error *e) {
    record_visit *v = context;
    kiln_record r;
    kiln_error why;
    int status = kiln_record_parse(&r, line, n, &v->arena, &why), answer = 0;
    if (status)
        kiln_fail(e, KILN_CORRUPT, "the store %s: record %" PRId64 " is unreadable: %s", v->path,
                  id, why.text);
    else
        answer = v->visit(v->context, id, &r);
    kiln_arena_free(&v->arena);
    return status ? KILN_CORRUPT : answer != 0;
}

int kiln_store_each(kiln_store *s, const kiln_query *q,
                    int (*visit)(void *context, int64_t id, const kiln_record *r), void *context,
                    kiln_error *e) {
    record_visit v = {.visit = visit, .context = context, .path = s->path};
    return each_line(s, q, visit_record, &v, e);
}

/* ---- facts */

int kiln_store_put(kiln_store *s, const char *key, const char *value, kiln_error *e) {
    sqlite3_stmt *q = statement(s, PUT);
    if (!q) return fail(s, e);
    bind_text(q, 1, key);
    bind_text(q, 2, value);
    return step_done(s, q, e);
}

const char *kiln_store_get(kiln_store *s, const char *key, kiln_arena *arena) {
    sqlite3_stmt *q = statement(s, GET);
    if (!q) return NULL;
    bind_text(q, 1, key);
    const char *value = step_once(q) == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (value) value = kiln_arena_strdup(arena, value);
    sqlite3_reset(q);
    return value;
}

/* ---- JSON lines */

typedef struct export {
    FILE *file;
    int64_t n;
}
export;

static int export_line(void *context, int64_t id, const char *line, size_t n, kiln_error *e) {
    export *x = context;
    (void)id;
    (void)e;
    x->n++;
    fwrite(line, 1, n, x->file); /* a failed write is seen by ferror at the end */
    return putc('\n', x->file) == EOF;
}

static int sync_directory_of(const char *path) {
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;
    if (slash) slash[slash == copy] = 0;
    int fd = copy ? open(slash ? copy : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    int rc = fd < 0 ? 0 : fsync(fd);
    if (fd >= 0) close(fd);
    free(copy);
    return rc;
}

static int export_failed(const char *path, kiln_error *e) {
    return kiln_fail(e, KILN_IO, "%s cannot be written: %s; nothing was left behind", path,
                     strerror(errno));
}

static int export_to(kiln_store *s, const kiln_query *q, const char *aside, const char *path,
                     int64_t *n, kiln_error *e) {
    export x = {.file = fopen(aside, "we")};
    if (!x.file) return export_failed(path, e);
    int status = each_line(s, q, export_line, &x, e);
    if (!status && (ferror(x.file) || fflush(x.file) || fsync(fileno(x.file))))
        status = export_failed(path, e);
    if (fclose(x.file) && !status) status = export_failed(path, e);
    if (!status && (rename(aside, path) || sync_directory_of(path)))
        status = export_failed(path, e);
    if (status) unlink(aside);
    if (!status && n) *n = x.n;
    return status;
}

int kiln_store_export(kiln_store *s, const kiln_query *q, const char *path, int64_t *n,
                      kiln_error *e) {
    kiln_text aside = {0};
    kiln_text_printf(&aside, "%s.new-%ld", path, (long)getpid());
    int status = aside.failed ? kiln_fail(e, KILN_NO_MEMORY, "out of memory exporting to %s", path)
                              : export_to(s, q, aside.data, path, n, e);
    kiln_text_free(&aside);
    return status;
}

/* Reads a line of any length but keeps at most one byte more than a record may have. False at the
 * end of the file. */
static bool read_line(FILE *f, kiln_text *line) {
    int c = EOF;
    bool any = false;
    kiln_text_clear(line);
    while ((c = getc_unlocked(f)) != EOF && c != '\n') {
        char byte = (char)c;
        any = true;
        if (line->size <= KILN_RECORD_LINE_MAX) kiln_text_add_bytes(line, &byte, 1);
    }
    return any || c == '\n';
}

static bool is_blank(const kiln_text *line) {
    return line->size == 0 || strspn(line->data, " \t\r") == line->size;
}

/* 1: added, 0: there already, below 0: failed (KILN_BAD_INPUT, KILN_VERSION: the line's fault). */
static int import_line(kiln_store *s, const kiln_text *line, kiln_arena *arena, kiln_error *e) {
    kiln_record r;
    int status = kiln_record_parse(&r, line->data, line->size, arena, e);
    if (!status) status = print_line(s, &r, e);
    if (status) return status;
    sqlite3_stmt *q = line_statement(s, HAS, &s->line);
    int rc = q ? step_once(q) : SQLITE_ERROR;
    if (rc == SQLITE_ROW) sqlite3_reset(q);
    if (rc == SQLITE_ROW) return 0;
    if (rc != SQLITE_DONE) return fail(s, e);
    status = insert(s, e);
    return status ? status : 1;
}

typedef struct import {
    void (*bad)(void *context, int64_t line, const char *why);
    void *context;
    int64_t line, added, skipped;
} import;

static int import_next(kiln_store *s, const kiln_text *line, import *m, kiln_error *e) {
    kiln_arena arena = {0};
    kiln_error why;
    int answer = line->failed ? kiln_fail(&why, KILN_NO_MEMORY, "out of memory reading a line")
                              : import_line(s, line, &arena, &why);
    kiln_arena_free(&arena);
    m->added += answer == 1;
    m->skipped += answer <= 0;
    if (answer >= 0) return 0;
    if (answer != KILN_BAD_INPUT && answer != KILN_VERSION)
        return kiln_fail(e, answer, "%s", why.text);
    if (m->bad) m->bad(m->context, m->line, why.text);
    return 0;
}

static int import_from(kiln_store *s, FILE *f, const char *path, import *m, kiln_error *e) {
    kiln_text line = {0};
    int status = run(s, "BEGIN IMMEDIATE", e);
    if (status) return status;
    while (!status && read_line(f, &line)) {
        m->line++;
        if (!is_blank(&line)) status = import_next(s, &line, m, e);
    }
    if (!status && ferror(f))
        status = kiln_fail(e, KILN_IO, "%s cannot be read: %s", path, strerror(errno));
    kiln_text_free(&line);
    return finish(s, status, e);
}

int kiln_store_import(kiln_store *s, const char *path,
                      void (*bad)(void *context, int64_t line, const char *why), void *context,
                      int64_t *added, int64_t *skipped, kiln_error *e) {
import m = {.bad = bad, .context = context };
    FILE *f = fopen(path, "re");
    if (!f) return kiln_fail(e, KILN_IO, "%s cannot be read: %s", path, strerror(errno));
    int status = import_from(s, f, path, &m, e);
    fclose(f);
    if (status) m.added = 0;
    if (added) *added = m.added;
    if (skipped) *skipped = m.skipped;
    return status;
}

/* The search for one problem: propose, compile ahead, measure, record, learn; then finals. */
#include "tuner/candidates.h"
#include "tuner/finals.h"
#include "tuner/session.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    ITEMS_MAX = 64,
    JOB_MAX = 16,
    CANDIDATES_LIMIT = 20000,
    DRIFT_TRIALS = 50,
    RELATED_MAX = 4 /* winners of other problems tried first */
};
static const double DRIFT = 0.03; /* of the anchor's time */

/* A candidate on its way. */
typedef struct item {
    int64_t point;
    enum { FREE, PROPOSED, COMPILING, READY, MEASURING } state;
    bool alone; /* its unit failed with others in it: compile it by itself */
    bool again; /* timed before: a check for drift, or a trial that drift put in doubt */
    int kills;  /* compile workers that were killed from outside while they had it */
    char unit[65], suffix[20];
    double compile_seconds;
} item;

typedef struct job {
    int n;
    item *item[JOB_MAX];
} job;

/* What is remembered of a measured point until the finals. */
typedef struct known {
    double seconds; /* NaN failed, 0 unknown */
    char unit[65], suffix[20];
    int64_t workspace_bytes;
    int shared_bytes;
} known;

typedef struct search {
    kiln_session *s;
    kiln_result *r;
    kiln_candidates c;
    kiln_search_space space;
    const kiln_strategy *strategy;
    void *state;
    item items[ITEMS_MAX];
    job jobs[64];
    known *known;
    double best, until;
    int64_t best_point;
    bool exhausted;
    int64_t anchor; /* the point that is timed again and again, -1 none yet */
    double anchor_seconds;
    int64_t recent[DRIFT_TRIALS * 2]; /* points timed since the anchor was */
    int n_recent;
} search;

static const char *schedule_text(search *f, int64_t point) {
    kiln_text t = {0};
    kiln_schedule_print(&f->c.schedule[point], &t);
    char *copy = kiln_arena_strdup(&f->s->arena, kiln_text_get(&t));
    kiln_text_free(&t);
    return copy ? copy : "";
}

static int count(const search *f, int state) {
    int n = 0;
    for (int i = 0; i < ITEMS_MAX; i++) n += (int)f->items[i].state == state;
    return n;
}

static bool compiling(const search *f) {
    for (int i = 1; i <= f->s->n_compilers; i++)
        if (f->s->worker[i].busy) return true;
    return false;
}

/* ---- outcomes ---- */

static void learn(search *f, int64_t point, const kiln_record *r) {
    bool timed = r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW;
    kiln_observation o = {.point = point, .seconds = timed ? r->median : NAN};
    f->known[point].seconds = o.seconds;
    f->known[point].workspace_bytes = r->workspace_bytes;
    f->known[point].shared_bytes = r->shared_bytes;
    f->r->trials++;
    f->r->failures[r->outcome]++;
    if (r->outcome == KILN_OUTCOME_OK && (!(f->best > 0) || r->median < f->best)) {
        f->best = r->median;
        f->best_point = point;
    }
    double start = kiln_now();
    f->strategy->observe(f->state, &o, 1);
    f->s->time_search += kiln_now() - start;
}

/* Where the compiled unit of a program is; a later run of the command need not compile it again. */
static char *unit_key(search *f, const char *suffix) {
    const kiln_caps *c = &f->s->caps;
    return kiln_arena_printf(&f->s->arena, "unit/%s/%s/%s/%s", f->s->identity, c->driver,
                             c->compiler, suffix);
}

static int keep_unit(search *f, const item *it, const kiln_record *r, kiln_error *e) {
    bool right = r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW;
    char *key = right && it->unit[0] ? unit_key(f, it->suffix) : NULL;
    return key ? kiln_store_put(f->s->store, key, it->unit, e) : KILN_OK;
}

static void recall_unit(search *f, known *k, const char *suffix) {
    const char *unit =
        *suffix ? kiln_store_get(f->s->store, unit_key(f, suffix), &f->s->arena) : NULL;
    char *path = unit ? kiln_arena_printf(&f->s->arena, "%s/%s.bin", f->s->cache, unit) : NULL;
    if (!path || access(path, R_OK)) return;
    snprintf(k->unit, sizeof k->unit, "%s", unit);
    snprintf(k->suffix, sizeof k->suffix, "%s", suffix);
}

/* Compilers and drivers write files, and report a full disk as a fault of the program. */
static bool disk_is_full(const search *f) {
    struct statvfs v;
    return statvfs(f->s->cache, &v) == 0 && v.f_blocks &&
           (double)v.f_bavail * (double)v.f_frsize < 65536;
}

/* ---- drift: a machine that has become slower or faster makes trials incomparable ---- */

static void add_again(search *f, int64_t point) {
    for (int i = 0; i < ITEMS_MAX; i++) {
        if (f->items[i].state != FREE) continue;
        f->items[i] = (item){.point = point, .state = READY, .again = true};
        memcpy(f->items[i].unit, f->known[point].unit, sizeof f->items[i].unit);
        memcpy(f->items[i].suffix, f->known[point].suffix, sizeof f->items[i].suffix);
        return;
    }
}

/* After every 50 trials the anchor is timed again. */
static void watch_drift(search *f, int64_t point, const kiln_record *r) {
    if (r->outcome != KILN_OUTCOME_OK) return;
    if (f->anchor < 0) {
        f->anchor = point;
        f->anchor_seconds = r->median;
    }
    if (f->n_recent < 2 * DRIFT_TRIALS) f->recent[f->n_recent++] = point;
    if (f->n_recent == DRIFT_TRIALS) add_again(f, f->anchor);
}

/* The anchor drifted: what was timed since then and could win is timed again. */
static void timed_again(search *f, int64_t point, const kiln_record *r) {
    if (r->outcome != KILN_OUTCOME_OK && r->outcome != KILN_OUTCOME_SLOW) return;
    if (point != f->anchor) {
        f->known[point].seconds = r->median;
        return;
    }
    double drift = r->median / f->anchor_seconds - 1;
    int64_t recent[DRIFT_TRIALS * 2];
    int n = f->n_recent;
    memcpy(recent, f->recent, sizeof recent);
    f->n_recent = 0;
    f->anchor_seconds = r->median;
    if (fabs(drift) <= DRIFT) return;
    kiln_progress_say(&f->s->progress,
                      "  the device drifted by %+.1f %%: leading trials are timed again",
                      100 * drift);
    for (int i = 0; i < n; i++)
        if (recent[i] != f->anchor && f->known[recent[i]].seconds <= 1.1 * f->best)
            add_again(f, recent[i]);
}

/* A trial that was begun ends with a record of the same phase. */
static const char *phase_of(const item *it) { return it->again ? "retime" : "search"; }

/* Stores the trial's end, tells the strategy, frees the item. */
static int finish(search *f, item *it, kiln_record *r, kiln_error *e) {
    kiln_session_note_time(f->s);
    r->compile_seconds = it->again ? 0 : it->compile_seconds;
    f->s->time_verify += r->verify_seconds;
    f->s->time_measure += r->time_seconds;
    bool right = r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW;
    if (!right && disk_is_full(f))
        return kiln_fail(e, KILN_IO,
                         "the disk of %s is full: free some space and run the same command "
                         "again, all finished trials are kept",
                         f->s->cache);
    if (it->again) {
        r->phase = phase_of(it);
        it->state = FREE;
        timed_again(f, it->point, r);
        return kiln_store_add(f->s->store, r, NULL, e);
    }
    int status = keep_unit(f, it, r, e);
    if (!status) status = kiln_store_add(f->s->store, r, NULL, e);
    memcpy(f->known[it->point].unit, it->unit, sizeof it->unit);
    memcpy(f->known[it->point].suffix, it->suffix, sizeof it->suffix);
    learn(f, it->point, r);
    it->state = FREE;
    watch_drift(f, it->point, r);
    return status;
}

static int fail(search *f, item *it, kiln_outcome outcome, const char *detail, kiln_error *e) {
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, it->point), "search");
    r.outcome = outcome;
    r.source = kiln_arena_strdup(&f->s->arena, it->suffix);
    char *first_line = kiln_arena_printf(&f->s->arena, "%.240s", detail);
    if (first_line) r.detail = first_line;
    return finish(f, it, &r, e);
}

/* ---- proposing ---- */

static bool already_running(const search *f, int64_t point) {
    for (int i = 0; i < ITEMS_MAX; i++)
        if (f->items[i].state != FREE && f->items[i].point == point) return true;
    return false;
}

static void propose(search *f, int n) {
    int64_t points[ITEMS_MAX];
    double start = kiln_now();
    n = n > ITEMS_MAX ? ITEMS_MAX : n;
    int got = f->strategy->propose(f->state, n, points);
    f->s->time_search += kiln_now() - start;
    if (got <= 0) f->exhausted = true;
    for (int k = 0; k < got; k++) {
        if (f->known[points[k]].seconds != 0 || already_running(f, points[k])) continue;
        for (int i = 0; i < ITEMS_MAX; i++) {
            if (f->items[i].state != FREE) continue;
            f->items[i] = (item){.point = points[k], .state = PROPOSED};
            break;
        }
    }
}

/* ---- compiling ---- */

static json_t *compile_request(search *f, const job *j) {
    json_t *schedules = json_array();
    for (int i = 0; i < j->n; i++)
        json_array_append_new(schedules, json_string(schedule_text(f, j->item[i]->point)));
    return json_pack("{s:s, s:o, s:s}", "problem", f->r->text, "schedules", schedules, "ptx", "");
}

static int start_job(search *f, int worker, int most, kiln_error *e) {
    job *j = &f->jobs[worker];
    j->n = 0;
    for (int i = 0; i < ITEMS_MAX && j->n < most; i++) {
        item *it = &f->items[i];
        if (it->state != PROPOSED || (it->alone && j->n)) continue;
        j->item[j->n++] = it;
        it->state = COMPILING;
        if (it->alone) break;
    }
    if (!j->n) return KILN_OK;
    json_t *request = compile_request(f, j);
    int status = kiln_worker_send(&f->s->worker[worker], request, 30 + 6 * j->n, e);
    json_decref(request);
    return status;
}

static int start_jobs(search *f, kiln_error *e) {
    const kiln_session *s = f->s;
    bool exclusive = s->caps.shared_host; /* compiling would disturb measuring */
    if (exclusive && (s->worker[0].busy || count(f, READY))) return KILN_OK;
    int waiting = count(f, PROPOSED), per_unit = s->caps.programs_per_unit;
    int share = (waiting + s->n_compilers - 1) / s->n_compilers;
    int most = share < per_unit ? share : per_unit;
    most = most < 1 ? 1 : most > JOB_MAX ? JOB_MAX : most;
    int status = KILN_OK;
    for (int i = 1; i <= s->n_compilers && !status && count(f, PROPOSED); i++)
        if (!s->worker[i].busy) status = start_job(f, i, most, e);
    return status;
}

/* A unit failed. With several programs in it nobody knows whose fault it is: each goes alone. */
static int job_failed(search *f, job *j, kiln_outcome outcome, const char *detail, kiln_error *e) {
    int status = KILN_OK;
    if (j->n == 1) status = fail(f, j->item[0], outcome, detail, e);
    for (int i = 0; i < j->n && j->n > 1; i++) {
        j->item[i]->state = PROPOSED;
        j->item[i]->alone = true;
    }
    j->n = 0;
    return status;
}

/* Killed from outside: the same again, then each alone; false when that is enough. */
static bool retry_job(job *j) {
    bool again = j->n > 0;
    for (int i = 0; i < j->n; i++) again &= ++j->item[i]->kills < KILN_ATTEMPTS;
    for (int i = 0; i < j->n && again; i++) {
        j->item[i]->state = PROPOSED;
        j->item[i]->alone |= j->item[i]->kills > 1;
    }
    if (again) j->n = 0;
    return again;
}

static int job_done(search *f, int worker, json_t *reply, kiln_error *e) {
    job *j = &f->jobs[worker];
    double seconds = json_number_value(json_object_get(reply, "seconds"));
    f->s->time_compile += seconds;
    int failed = (int)json_integer_value(json_object_get(reply, "status"));
    if (failed) {
        const char *why = json_string_value(json_object_get(reply, "error"));
        if (failed == KILN_IO) return kiln_fail(e, failed, "%s", why ? why : "");
        return job_failed(f, j, KILN_OUTCOME_COMPILE_FAILED, why ? why : "", e);
    }
    const char *unit = json_string_value(json_object_get(reply, "unit"));
    json_t *suffixes = json_object_get(reply, "suffixes");
    for (int i = 0; i < j->n; i++) {
        const char *suffix = json_string_value(json_array_get(suffixes, (size_t)i));
        item *it = j->item[i];
        snprintf(it->unit, sizeof it->unit, "%s", unit ? unit : "");
        snprintf(it->suffix, sizeof it->suffix, "%s", suffix ? suffix : "");
        it->compile_seconds = seconds / j->n;
        it->state = READY;
    }
    j->n = 0;
    return KILN_OK;
}

/* ---- measuring ---- */

static double trial_seconds(const search *f) { return f->s->caps.shared_host ? 0.30 : 0.15; }

/* A worker that died idle is replaced by one that knows of no problem: the process is in the key.
 */
static void print_setup(const search *f, char key[64]) {
    snprintf(key, 64, "%p %d", (void *)f->r, (int)f->s->worker[0].pid);
}

static int setup(search *f, kiln_error *e) {
    json_t *reply = NULL;
    json_t *request = json_pack("{s:s, s:s, s:I, s:b}", "do", "setup", "problem", f->r->text,
                                "seed", (json_int_t)f->s->options.seed, "hot", f->s->options.hot);
    int status = kiln_session_ask(f->s, request, 240, &reply, e);
    json_decref(request);
    json_decref(reply);
    if (!status) print_setup(f, f->s->measuring);
    return status;
}

static bool is_set_up(const search *f) {
    char key[sizeof f->s->measuring];
    print_setup(f, key);
    return kiln_worker_alive(&f->s->worker[0]) && !strcmp(key, f->s->measuring);
}

static int start_trial(search *f, kiln_error *e) {
    kiln_session *s = f->s;
    if (s->worker[0].busy || (s->caps.shared_host && compiling(f))) return KILN_OK;
    item *it = NULL;
    for (int i = 0; i < ITEMS_MAX && !it; i++)
        if (f->items[i].state == READY) it = &f->items[i];
    if (!it) return KILN_OK;
    int status = is_set_up(f) ? KILN_OK : setup(f, e);
    if (status) return status;
    const char *schedule = schedule_text(f, it->point);
    kiln_record r = kiln_session_record(s, f->r, schedule, phase_of(it));
    if (kiln_store_begun(s->store, &r) >= KILN_ATTEMPTS)
        return fail(f, it, KILN_OUTCOME_CRASH,
                    "was running each time that the tuner or its worker was "
                    "killed; not tried again",
                    e);
    status = kiln_store_begin(s->store, &r, e);
    if (status) return status;
    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s, s:f, s:f}", "do", "trial", "schedule", schedule, "unit",
                  it->unit, "suffix", it->suffix, "best", f->best, "seconds", trial_seconds(f));
    double deadline = 6 + 40 * f->best + (f->best > 0 ? 0 : 20);
    pid_t pid = s->worker[0].pid;
    status = kiln_worker_send(&s->worker[0], request, deadline, e);
    json_decref(request);
    if (!status &&
        s->worker[0].pid != pid) /* died since it was asked, and replaced: set up again */
        kiln_worker_stop(&s->worker[0]);
    else
        it->state = MEASURING;
    return status;
}

static item *measured_item(search *f) {
    for (int i = 0; i < ITEMS_MAX; i++)
        if (f->items[i].state == MEASURING) return &f->items[i];
    return NULL;
}

/* What a candidate may have left behind decides whether its worker can go on. */
static bool worker_tainted(kiln_outcome o) {
    return o == KILN_OUTCOME_OUT_OF_BOUNDS || o == KILN_OUTCOME_DEVICE_ERROR ||
           o == KILN_OUTCOME_LAUNCH_FAILED || o == KILN_OUTCOME_WRONG;
}

/* Takes what a worker measured into a record; what names the trial stays as the session set it.
 * False, and r as it was, when there is no record in the line. */
static bool take_measured(kiln_session *s, kiln_record *r, const char *line, kiln_error *e) {
    kiln_record got;
    if (!line || kiln_record_parse(&got, line, strlen(line), &s->arena, e)) return false;
    got.problem = r->problem, got.schedule = r->schedule, got.device = r->device;
    got.protocol = r->protocol, got.phase = r->phase, got.seed = r->seed;
    got.session = r->session, got.date = r->date, got.source = r->source;
    *r = got;
    return true;
}

static int trial_done(search *f, json_t *reply, kiln_error *e) {
    item *it = measured_item(f);
    const char *line = json_string_value(json_object_get(reply, "record"));
    if (!it) return KILN_OK;
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, it->point), "search");
    kiln_error why = {0};
    if (!take_measured(f->s, &r, line, &why)) {
        const char *error = json_string_value(json_object_get(reply, "error"));
        return fail(f, it, KILN_OUTCOME_DEVICE_ERROR, error ? error : why.text, e);
    }
    r.source = kiln_arena_strdup(&f->s->arena, it->suffix);
    if (worker_tainted(r.outcome)) kiln_worker_stop(&f->s->worker[0]);
    return finish(f, it, &r, e);
}

/* ---- the loop ---- */

static void show(search *f) {
    kiln_session *s = f->s;
    kiln_text failures = {0};
    for (int i = 0; i < KILN_OUTCOME_COUNT; i++)
        if (i != KILN_OUTCOME_OK && i != KILN_OUTCOME_SLOW && f->r->failures[i])
            kiln_text_printf(&failures, " %s %d", kiln_outcome_name((kiln_outcome)i),
                             f->r->failures[i]);
    double left = f->until - kiln_now();
    const kiln_generator *g = kiln_generator_of(f->r->problem.family);
    double flops = g->flops(&f->r->problem), bytes = g->bytes(&f->r->problem);
    bool compute = flops > 16 * bytes;
    kiln_progress_show(&s->progress, "[%d/%d] %.60s | %lld trials%s | best %.4g %s | %.0f s left",
                       (int)(f->r - s->result) + 1, s->n_results, f->r->text,
                       (long long)f->r->trials, kiln_text_get(&failures),
                       f->best > 0 ? (compute ? flops : bytes) / f->best * 1e-9 : 0,
                       compute ? "GFLOP/s" : "GB/s", left > 0 ? left : 0);
    kiln_text_free(&failures);
}

static bool may_try_again(search *f, const item *it) {
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, it->point), phase_of(it));
    return kiln_store_begun(f->s->store, &r) < KILN_ATTEMPTS;
}

static int handle(search *f, kiln_worker_event event, int which, json_t *reply, kiln_text *detail,
                  kiln_error *e) {
    const char *words = kiln_text_get(detail);
    bool killed = event == KILN_EVENT_DIED && f->s->worker[which].killed;
    if (which > 0) {
        if (event == KILN_EVENT_REPLY) return job_done(f, which, reply, e);
        if (killed && retry_job(&f->jobs[which])) return KILN_OK;
        return job_failed(f, &f->jobs[which],
                          event == KILN_EVENT_DIED ? KILN_OUTCOME_COMPILE_CRASH
                                                   : KILN_OUTCOME_COMPILE_TIMEOUT,
                          words, e);
    }
    if (event == KILN_EVENT_REPLY) return trial_done(f, reply, e);
    item *it = measured_item(f);
    f->s->measuring[0] = 0;
    if (!it) return KILN_OK;
    if (killed && may_try_again(f, it)) return it->state = READY, KILN_OK;
    return fail(f, it, event == KILN_EVENT_DIED ? KILN_OUTCOME_CRASH : KILN_OUTCOME_TIMEOUT, words,
                e);
}

static int wait(search *f, kiln_error *e) {
    int which = -1;
    json_t *reply = NULL;
    kiln_text detail = {0};
    kiln_worker_event event =
        kiln_worker_wait(f->s->worker, f->s->n_compilers + 1, 0.2, &which, &reply, &detail);
    int status = event == KILN_EVENT_NONE ? KILN_OK : handle(f, event, which, reply, &detail, e);
    json_decref(reply);
    kiln_text_free(&detail);
    return status;
}

static int loop(search *f, kiln_error *e) {
    kiln_session *s = f->s;
    /* GPU: keep every compile worker fed and a few units ready; CPU: one batch after another. */
    int ahead = s->caps.shared_host ? s->caps.programs_per_unit : 2 * s->n_compilers;
    if (ahead < 8) ahead = 8;
    if (ahead > ITEMS_MAX) ahead = ITEMS_MAX;
    int status = KILN_OK;
    while (!status && !kiln_interrupted) {
        bool more = kiln_now() < f->until && !f->exhausted &&
                    (!s->options.max_trials || f->r->trials < s->options.max_trials);
        int busy = ITEMS_MAX - count(f, FREE), room = ahead - busy;
        if (s->options.max_trials && room > s->options.max_trials - f->r->trials - busy)
            room = (int)(s->options.max_trials - f->r->trials - busy);
        /* in batches: a proposal trains the model, and nothing is handed out meanwhile */
        if (more && room > 0 && (s->caps.shared_host ? busy == 0 : busy <= ahead - 8))
            propose(f, room);
        if (!more && kiln_now() >= f->until)
            for (int i = 0; i < ITEMS_MAX; i++) /* too late for what is not compiled */
                if (f->items[i].state == PROPOSED) f->items[i].state = FREE;
        busy = ITEMS_MAX - count(f, FREE);
        if (!busy && (!more || f->exhausted)) break;
        if (kiln_now() > f->until + 5 && !s->worker[0].busy && f->best > 0) break;
        status = start_jobs(f, e);
        if (!status) status = start_trial(f, e);
        if (!status) status = wait(f, e);
        show(f);
    }
    /* Compile workers still on something for this problem would answer into the next one. */
    for (int i = 1; i <= s->n_compilers; i++)
        if (s->worker[i].busy) kiln_worker_stop(&s->worker[i]);
    if (s->worker[0].busy) kiln_worker_stop(&s->worker[0]);
    return status;
}

/* Earlier trials of this problem: the strategy learns them, none is repeated. */
static int resume_visit(void *context, int64_t id, const kiln_record *r) {
    search *f = context;
    (void)id;
    kiln_schedule schedule;
    if (kiln_schedule_parse(f->r->problem.family, &schedule, r->schedule, NULL)) return 0;
    int64_t point = kiln_candidates_find(&f->c, &schedule);
    if (point < 0 || f->known[point].seconds != 0) return 0;
    learn(f, point, r);
    if (f->known[point].seconds > 0) recall_unit(f, &f->known[point], r->source);
    return 0;
}

/* Winners of related problems are good places to start. Of many, those that should be fastest here
 * are tried: where an estimate has an opinion, what it thinks slower than the first start by half is
 * left out. Problems that share their kernels come before others, later ones before earlier. */
static bool worth_trying(const search *f, int64_t point, const int64_t *starts, int n) {
    double mine = kiln_candidates_estimate(&f->c, point);
    double first = n ? kiln_candidates_estimate(&f->c, starts[0]) : NAN;
    for (int i = 0; i < n; i++)
        if (starts[i] == point) return false;
    return !(mine > 1.5 * first);
}

static bool shares_kernels(const kiln_problem *a, const kiln_problem *b) {
    kiln_text x = {0}, y = {0};
    kiln_problem_print_kernel_key(a, &x);
    kiln_problem_print_kernel_key(b, &y);
    bool same = !strcmp(kiln_text_get(&x), kiln_text_get(&y));
    kiln_text_free(&x);
    kiln_text_free(&y);
    return same;
}

static void add_related_starts(search *f, int64_t *starts) {
    int n = f->c.n_starts, most = n + RELATED_MAX;
    memcpy(starts, f->c.start, (size_t)n * sizeof *starts);
    for (int same = 1; same >= 0; same--)
        for (kiln_result *r = f->r - 1; r >= f->s->result && n < most; r--) {
            kiln_schedule schedule;
            if (!r->have_winner || r->problem.family != f->r->problem.family) continue;
            if (shares_kernels(&r->problem, &f->r->problem) != same) continue;
            if (kiln_schedule_parse(r->problem.family, &schedule, r->winner.schedule, NULL))
                continue;
            int64_t point = kiln_candidates_find(&f->c, &schedule);
            if (point >= 0 && worth_trying(f, point, starts, n)) starts[n++] = point;
        }
    f->space.starts = starts;
    f->space.n_starts = n;
}

/* ---- finals ---- */

typedef struct finals {
    int n;
    int64_t point[KILN_FINALISTS_MAX];
    json_t *request;
} finals;

static int fastest_first(const void *a, const void *b, void *context) {
    const search *f = context;
    double x = f->known[*(const int64_t *)a].seconds, y = f->known[*(const int64_t *)b].seconds;
    return (x > y) - (x < y);
}

/* How many finalists differ from a point in at most one knob. */
static int alike(const search *f, const finals *out, int64_t point) {
    const kiln_schedule *s = &f->c.schedule[point];
    int n = 0;
    for (int i = 0; i < out->n; i++) {
        const kiln_schedule *t = &f->c.schedule[out->point[i]];
        int differ = s->variant != t->variant ? 2 : 0;
        for (int k = 0; s->variant == t->variant && s->variant->knobs[k].name; k++)
            differ += s->value[k] != t->value[k];
        n += differ <= 1;
    }
    return n;
}

/* The best within 8 %, first those that are not all alike, as many as the time allows, and the start
 * schedule: the order may be another one under the load of the finals. */
static void choose_finalists(search *f, finals *out, double seconds) {
    int64_t *good = malloc((size_t)f->c.n * sizeof *good), n = 0;
    for (int64_t i = 0; good && i < f->c.n; i++)
        if (f->known[i].seconds > 0 && f->known[i].seconds <= 1.08 * f->best) good[n++] = i;
    if (good) qsort_r(good, (size_t)n, sizeof *good, fastest_first, f);
    double cost = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n && out->n < 8; i++) {
            bool varies = !pass;
            if (good[i] < 0 || (varies && alike(f, out, good[i]) >= 2)) continue;
            cost += 33 * f->known[good[i]].seconds + 0.1;
            if (out->n && cost > seconds) break;
            out->point[out->n++] = good[i];
            good[i] = -1;
        }
    free(good);
    int64_t start = f->c.start[0];
    bool in = !(f->known[start].seconds > 0);
    for (int i = 0; i < out->n; i++) in |= out->point[i] == start;
    if (!in && f->known[start].seconds * 33 < seconds) out->point[out->n++] = start;
}

static int finals_request(search *f, finals *out, double seconds, kiln_error *e) {
    json_t *list = json_array();
    int status = KILN_OK;
    for (int i = 0; i < out->n && !status; i++) {
        known *k = &f->known[out->point[i]];
        const char *schedule = schedule_text(f, out->point[i]);
        if (!k->unit[0]) /* from an earlier run of this command */
            status = kiln_session_compile(f->s, f->r->text, schedule, "", k->unit, k->suffix, e);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "schedule", schedule, "unit",
                                              k->unit, "suffix", k->suffix));
    }
    out->request = json_pack("{s:s, s:o, s:b, s:i, s:f, s:I}", "do", "finals", "candidates", list,
                             "vendors", f->s->options.vendors, "rounds", 30, "seconds", seconds,
                             "seed", (json_int_t)f->s->options.seed);
    return status;
}

static int read_rounds(json_t *subject, double *samples) {
    json_t *rounds = json_object_get(subject, "rounds");
    int n = (int)json_array_size(rounds);
    if (n > 512) n = 512;
    for (int i = 0; i < n; i++) samples[i] = json_number_value(json_array_get(rounds, (size_t)i));
    return n;
}

static kiln_record final_record(search *f, json_t *subject, const char *schedule) {
    kiln_session *s = f->s;
    kiln_record r = kiln_session_record(s, f->r, schedule, "final");
    const char *line = json_string_value(json_object_get(subject, "record"));
    double *samples = kiln_arena_alloc(&s->arena, 512 * sizeof *samples);
    take_measured(s, &r, line, NULL);
    r.n_samples = samples ? read_rounds(subject, samples) : 0;
    r.samples = samples;
    kiln_record_summarise(&r);
    return r;
}

/* Reads the vendors' rounds; the fastest one is what the winner is compared with. */
static void read_vendors(search *f, json_t *reply, kiln_record *winner) {
    size_t i;
    json_t *v;
    double best = 0;
    json_array_foreach(json_object_get(reply, "vendors"), i, v) {
        if (f->r->n_vendors == 4) break;
        const char *name = json_string_value(json_object_get(v, "vendor"));
        const char *words = json_string_value(json_object_get(v, "describe"));
        kiln_record *r = &f->r->vendor[f->r->n_vendors];
        *r = final_record(f, v, kiln_arena_printf(&f->s->arena, "vendor %s", name));
        r->phase = "vendor";
        r->detail = kiln_arena_strdup(&f->s->arena, words ? words : "");
        if (!r->n_samples) continue;
        f->r->n_vendors++;
        int n = r->n_samples < winner->n_samples ? r->n_samples : winner->n_samples;
        kiln_ratio ratio = kiln_paired_ratio(winner->samples, r->samples, n, f->s->options.seed);
        r->vendor_ratio = ratio.median;
        r->vendor_ratio_low = ratio.low, r->vendor_ratio_high = ratio.high;
        if (best == 0 || r->median < best) {
            best = r->median;
            winner->vendor = kiln_arena_strdup(&f->s->arena, name);
            winner->vendor_ratio = ratio.median;
            winner->vendor_ratio_low = ratio.low, winner->vendor_ratio_high = ratio.high;
        }
    }
}

/* The winner again at sizes nobody tuned: its program must be right there too, or it is out. */
static bool right_at_odd_sizes(search *f, int64_t point, kiln_error *e) {
    const kiln_generator *g = kiln_generator_of(f->r->problem.family);
    const kiln_schedule *schedule = &f->c.schedule[point];
    const char *const *sizes = g->odd_sizes ? g->odd_sizes(&f->r->problem, schedule) : NULL;
    for (; sizes && *sizes && !kiln_interrupted; sizes++) {
        kiln_problem p = f->r->problem;
        if (kiln_problem_resize(&p, *sizes, NULL)) continue;
        if (!schedule->variant->legal(&p, &f->s->caps, schedule, NULL)) continue;
        kiln_text text = {0};
        kiln_problem_print(&p, &text);
        json_t *reply = NULL,
               *request = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I}", "do", "odd", "problem",
                                    kiln_text_get(&text), "schedule", schedule_text(f, point),
                                    "unit", f->known[point].unit, "suffix", f->known[point].suffix,
                                    "seed", (json_int_t)f->s->options.seed);
        int status = kiln_session_ask(f->s, request, 60, &reply, e);
        f->s->measuring[0] = 0;
        json_decref(request);
        kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, point), "odd"), got;
        r.problem = kiln_arena_strdup(&f->s->arena, kiln_text_get(&text));
        kiln_text_free(&text);
        const char *line = json_string_value(json_object_get(reply, "record"));
        r.outcome = KILN_OUTCOME_CRASH;
        if (!status && line && !kiln_record_parse(&got, line, strlen(line), &f->s->arena, NULL))
            r.outcome = got.outcome, r.detail = got.detail, r.error = got.error,
            r.error_bound = got.error_bound;
        json_decref(reply);
        kiln_store_add(f->s->store, &r, NULL, e);
        if (r.outcome != KILN_OUTCOME_OK) {
            kiln_progress_say(&f->s->progress, "  %s is wrong at %s (%s): not a winner",
                              schedule_text(f, point), *sizes, r.detail);
            return false;
        }
    }
    return true;
}

/* Chooses among the finalists that are right and right at odd sizes; stores all. */
static int crown(search *f, finals *fin, json_t *reply, kiln_error *e) {
    kiln_finalist list[KILN_FINALISTS_MAX];
    kiln_record record[KILN_FINALISTS_MAX];
    int64_t point[KILN_FINALISTS_MAX];
    int n = 0, rounds = 512, status = KILN_OK;
    json_t *subjects = json_object_get(reply, "candidates");
    for (int i = 0; i < fin->n; i++) {
        kiln_record r =
            final_record(f, json_array_get(subjects, (size_t)i), schedule_text(f, fin->point[i]));
        r.source = kiln_arena_strdup(&f->s->arena, f->known[fin->point[i]].suffix);
        if (r.outcome != KILN_OUTCOME_OK || !r.n_samples) {
            status = kiln_store_add(f->s->store, &r, NULL, e);
            continue;
        }
        if (r.n_samples < rounds) rounds = r.n_samples;
        record[n] = r;
        point[n] = fin->point[i];
        list[n++] = (kiln_finalist){r.samples, r.workspace_bytes, r.shared_bytes, r.schedule};
    }
    while (n > 0 && !status) {
        int w = kiln_finals_choose(list, n, rounds, f->s->options.seed, NULL);
        if (right_at_odd_sizes(f, point[w], e)) {
            read_vendors(f, reply, &record[w]);
            for (int i = 0; i < n && !status; i++)
                status = kiln_store_add(f->s->store, &record[i], NULL, e);
            for (int i = 0; i < f->r->n_vendors && !status; i++)
                status = kiln_store_add(f->s->store, &f->r->vendor[i], NULL, e);
            f->r->winner = record[w];
            f->r->have_winner = true;
            f->r->unit = kiln_arena_strdup(&f->s->arena, f->known[point[w]].unit);
            f->r->suffix = kiln_arena_strdup(&f->s->arena, f->known[point[w]].suffix);
            return status;
        }
        record[w].outcome = KILN_OUTCOME_WRONG;
        record[w].detail = "wrong at an odd size";
        status = kiln_store_add(f->s->store, &record[w], NULL, e);
        n--;
        memmove(list + w, list + w + 1, (size_t)(n - w) * sizeof *list);
        memmove(record + w, record + w + 1, (size_t)(n - w) * sizeof *record);
        memmove(point + w, point + w + 1, (size_t)(n - w) * sizeof *point);
    }
    if (!status)
        f->r->failure = kiln_arena_strdup(&f->s->arena, "no finalist was right everywhere");
    return status;
}

/* Set up and asked as one: a worker that is killed in between takes the set-up with it. */
static int ask_finals(search *f, json_t *request, double seconds, json_t **reply, kiln_error *e) {
    int status = KILN_OK;
    for (int attempt = 0; attempt < KILN_ATTEMPTS; attempt++) {
        json_decref(*reply);
        *reply = NULL;
        status = setup(f, e);
        if (!status) status = kiln_session_ask(f->s, request, seconds, reply, e);
        bool crashed = !f->s->worker[0].pid && !f->s->worker[0].killed;
        if (!status || kiln_interrupted || crashed || is_set_up(f)) break;
    }
    return status;
}

static int run_finals(search *f, double seconds, kiln_error *e) {
    finals fin = {0};
    choose_finalists(f, &fin, seconds);
    int status = finals_request(f, &fin, seconds, e);
    json_t *reply = NULL;
    kiln_worker_stop(&f->s->worker[0]); /* a fresh one: nothing left behind by the search */
    kiln_progress_show(&f->s->progress, "[%d/%d] %.60s | finals: %d candidates interleaved",
                       (int)(f->r - f->s->result) + 1, f->s->n_results, f->r->text, fin.n);
    if (!status) status = ask_finals(f, fin.request, 60 + 6 * seconds, &reply, e);
    if (!status) status = crown(f, &fin, reply, e);
    json_decref(fin.request);
    json_decref(reply);
    return status;
}

/* What the search itself knows, when there is no time for finals. */
static void take_best(search *f) {
    if (!(f->best > 0) || f->r->have_winner) return;
    known *k = &f->known[f->best_point];
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, f->best_point), "search");
    r.median = k->seconds;
    r.workspace_bytes = k->workspace_bytes;
    f->r->winner = r;
    f->r->have_winner = true;
    f->r->unit = kiln_arena_strdup(&f->s->arena, k->unit);
    f->r->suffix = kiln_arena_strdup(&f->s->arena, k->suffix);
}

/* Remembers the compiled generic schedule: a library can be written without compiling it again. */
static void keep_generic(search *f) {
    kiln_schedule generic;
    if (!kiln_generic_schedule(&f->r->problem, &f->s->caps, &generic)) return;
    int64_t point = kiln_candidates_find(&f->c, &generic);
    if (point < 0 || !(f->known[point].seconds > 0) || !f->known[point].unit[0]) return;
    f->r->generic_unit = kiln_arena_strdup(&f->s->arena, f->known[point].unit);
    f->r->generic_suffix = kiln_arena_strdup(&f->s->arena, f->known[point].suffix);
}

int kiln_tune_problem(kiln_session *s, kiln_result *r, double until, kiln_error *e) {
    search *f = calloc(1, sizeof *f);
    int64_t starts[KILN_VARIANTS_MAX * 2 + 1 + RELATED_MAX];
    if (!f) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a search");
    double begun = kiln_now(), share = until - begun;
    /* Finals and odd sizes take about a fifth of the time. */
    *f = (search){.s = s, .r = r, .until = until - 0.2 * share, .best_point = -1, .anchor = -1};
    int status =
        kiln_candidates_open(&f->c, &r->problem, &s->caps, CANDIDATES_LIMIT, s->options.seed, e);
    if (status) {
        free(f);
        return status;
    }
    r->space = f->c.n;
    r->raw = f->c.raw;
    f->known = calloc((size_t)f->c.n, sizeof *f->known);
    f->space = kiln_candidates_space(&f->c);
    add_related_starts(f, starts);
    f->strategy = kiln_strategy_find(s->options.strategy);
    kiln_search_options o = {
        .seed = s->options.seed, .batch = 8, .expected_trials = s->caps.shared_host ? 30 : 120};
    f->state = f->known ? f->strategy->create(&f->space, &o, e) : NULL;
    if (!f->state) status = kiln_fail(e, KILN_NO_MEMORY, "no memory for a search");
    kiln_query earlier = {.problem = r->text,
                          .device = s->identity,
                          .phase = "search",
                          .protocol = s->options.hot ? "hot/1" : "cold/1"};
    if (!status) status = kiln_store_each(s->store, &earlier, resume_visit, f, e);
    if (!status) status = loop(f, e);
    if (!status && !kiln_interrupted && f->best > 0) status = run_finals(f, 0.2 * share + 2, e);
    if (!status && !(f->best > 0) && !kiln_interrupted)
        r->failure = kiln_arena_strdup(&s->arena, "no candidate was right");
    if (f->state) {
        take_best(f);
        keep_generic(f);
    }
    r->finished = !status && !kiln_interrupted;
    if (f->state) f->strategy->destroy(f->state);
    free(f->known);
    kiln_candidates_close(&f->c);
    free(f);
    return status;
}

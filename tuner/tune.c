/* The search for one problem: propose, compile ahead, measure, record, learn. Its finals are in
 * tune_finals.c. */
#include "tuner/tune.h"
#include "tuner/tune_private.h"

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
    BATCH = 8,
    RELATED_MAX = 4 /* winners of other problems tried first */
};
static const double DRIFT = 0.03;        /* of the anchor's time */
static const double DRAIN_SECONDS = 3;   /* for what is on its way when a visit ends */

/* Bytes a thread: of our records, nothing that spilled more came within 1.8 times of the best. */
enum { SPILL_MAX = 256 };

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

typedef struct kiln_tuning {
    kiln_session *s;
    kiln_result *r;
    kiln_candidates c;
    kiln_search_space space;
    const kiln_strategy *strategy;
    void *state;
    item items[ITEMS_MAX];
    job jobs[KILN_WORKERS_MAX];
    kiln_known *known; /* by point */
    double best;
    int64_t best_point;
    int64_t starts[KILN_VARIANTS_MAX * 2 + 1 + RELATED_MAX];
    int64_t earlier; /* trials that were in the store */
    bool exhausted;
    kiln_visit visit;
    double begun, ended; /* of this visit; ended: nothing new is started, 0 not yet */
    double spent, setup_seconds;
    kiln_steps steps;
    double gain;     /* expected by the model of KILN_HORIZON trials, */
    int64_t gain_at; /* when there were so many; -1 not asked in this visit */
    int64_t anchor; /* the point that is timed again and again, -1 none yet */
    double anchor_seconds;
    int64_t recent[DRIFT_TRIALS * 2]; /* points timed since the anchor was */
    int n_recent;
} search;

const char *kiln_tuning_schedule_text(kiln_session *s, const kiln_schedule *schedule) {
    kiln_text t = {0};
    kiln_schedule_print(schedule, &t);
    char *copy = kiln_arena_strdup(&s->arena, kiln_text_get(&t));
    kiln_text_free(&t);
    return copy ? copy : "";
}

static const char *schedule_text(search *f, int64_t point) {
    return kiln_tuning_schedule_text(f->s, &f->c.schedule[point]);
}

static int count(const search *f, int state) {
    int n = 0;
    for (int i = 0; i < ITEMS_MAX; i++) n += (int)f->items[i].state == state;
    return n;
}

/* The strategy has been at work since `start`. */
static void searched_since(search *f, double start) {
    f->s->time_search += kiln_now() - start;
    f->r->search_seconds += kiln_now() - start;
}

static int in_work(const search *f) { return ITEMS_MAX - count(f, FREE); }

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
        kiln_steps_add(&f->steps, f->r->trials, r->median);
        f->best = r->median;
        f->best_point = point;
    }
    double start = kiln_now();
    f->strategy->observe(f->state, &o, 1);
    searched_since(f, start);
}

/* A later run of the command need not compile it again. */
static int keep_unit(search *f, const item *it, const kiln_record *r, kiln_error *e) {
    bool right = r->outcome == KILN_OUTCOME_OK || r->outcome == KILN_OUTCOME_SLOW;
    return right && it->unit[0] ? kiln_session_keep_unit(f->s, it->suffix, it->unit, e) : KILN_OK;
}

static void recall_unit(search *f, kiln_known *k, const char *suffix) {
    const char *unit = kiln_session_find_unit(f->s, suffix);
    if (!unit) return;
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

int64_t kiln_tuning_fastest(const kiln_known *known, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (known[i].seconds > 0 && (best < 0 || known[i].seconds < known[best].seconds)) best = i;
    return best;
}

/* A point was timed again: it may have been the best, or be it now. */
static void find_best(search *f) {
    int64_t point = kiln_tuning_fastest(f->known, f->c.n);
    if (point < 0) return;
    f->best_point = point;
    f->best = f->known[point].seconds;
}

/* The anchor drifted: what was timed since then and could win is timed again. */
static void timed_again(search *f, int64_t point, const kiln_record *r) {
    if (r->outcome != KILN_OUTCOME_OK && r->outcome != KILN_OUTCOME_SLOW) return;
    f->known[point].seconds = r->median;
    find_best(f);
    if (point != f->anchor) return;
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

static void try_point(search *f, int64_t point) {
    int64_t most = f->s->options.max_trials;
    if (f->known[point].seconds != 0 || already_running(f, point)) return;
    if (most && f->r->trials + in_work(f) >= most) return;
    for (int i = 0; i < ITEMS_MAX; i++) {
        if (f->items[i].state != FREE) continue;
        f->items[i] = (item){.point = point, .state = PROPOSED};
        return;
    }
}

static void propose(search *f, int n) {
    int64_t points[ITEMS_MAX];
    double start = kiln_now();
    n = n > ITEMS_MAX ? ITEMS_MAX : n;
    int got = f->strategy->propose(f->state, n, points);
    searched_since(f, start);
    if (got <= 0) f->exhausted = true;
    for (int k = 0; k < got; k++) try_point(f, points[k]);
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

/* ---- what the compiler's report rules out, before any run ---- */

/* The model's word, else the estimate; NaN: none. */
static double foretold(search *f, int64_t point) {
    double t = f->strategy->predict ? f->strategy->predict(f->state, point) : NAN;
    return isnan(t) ? kiln_candidates_estimate(&f->c, point) : t;
}

/* Whether a point is thought faster than the best so far and all that are on their way. */
static bool ranked_first(search *f, int64_t point) {
    double mine = foretold(f, point);
    if (!(mine <= foretold(f, f->best_point))) return false;
    for (int i = 0; i < ITEMS_MAX; i++)
        if (f->items[i].state != FREE && foretold(f, f->items[i].point) < mine) return false;
    return true;
}

static bool is_start(const search *f, int64_t point) {
    for (int i = 0; i < f->space.n_starts; i++)
        if (f->starts[i] == point) return true;
    return false;
}

/* Stores a candidate that is not run for what its compiler says; false: it is. */
static bool rule_out(search *f, item *it, json_t *facts, int *status, kiln_error *e) {
    int registers = -1, local = -1, fits = true;
    json_unpack(facts, "{s:i, s:i, s:b}", "registers", &registers, "local_bytes", &local, "fits",
                &fits);
    bool spills = local > SPILL_MAX && f->best > 0 && !is_start(f, it->point);
    if (fits && !(spills && !ranked_first(f, it->point))) return false;
    kiln_record r = kiln_session_record(f->s, f->r, schedule_text(f, it->point), "search");
    kiln_arena *arena = &f->s->arena;
    char *why = kiln_arena_printf(arena, "spills %d bytes a thread, over %d", local, SPILL_MAX);
    if (!fits) why = kiln_arena_printf(arena, "%d registers a thread: too many", registers);
    r.outcome = KILN_OUTCOME_REJECTED;
    r.source = kiln_arena_strdup(&f->s->arena, it->suffix);
    r.registers = registers;
    r.local_bytes = local;
    if (why) r.detail = why;
    *status = finish(f, it, &r, e);
    return true;
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
    json_t *suffixes = json_object_get(reply, "suffixes"), *facts = json_object_get(reply, "facts");
    int status = KILN_OK;
    for (int i = 0; i < j->n && !status; i++) {
        const char *suffix = json_string_value(json_array_get(suffixes, (size_t)i));
        item *it = j->item[i];
        snprintf(it->unit, sizeof it->unit, "%s", unit ? unit : "");
        snprintf(it->suffix, sizeof it->suffix, "%s", suffix ? suffix : "");
        it->compile_seconds = seconds / j->n;
        if (!rule_out(f, it, json_array_get(facts, (size_t)i), &status, e)) it->state = READY;
    }
    j->n = 0;
    return status;
}

/* ---- measuring ---- */

static double trial_seconds(const search *f) { return f->s->caps.shared_host ? 0.30 : 0.15; }

/* A worker that died idle is replaced by one that knows of no problem: the process is in the key.
 */
static void print_setup(const kiln_session *s, const kiln_result *r, char key[64]) {
    snprintf(key, 64, "%p %d", (const void *)r, (int)s->worker[0].pid);
}

int kiln_tuning_set_up(kiln_session *s, const kiln_result *r, kiln_error *e) {
    json_t *reply = NULL;
    json_t *request = json_pack("{s:s, s:s, s:I, s:b}", "do", "setup", "problem", r->text, "seed",
                                (json_int_t)s->options.seed, "hot", s->options.hot);
    int status = kiln_session_ask(s, request, 240, &reply, e);
    json_decref(request);
    json_decref(reply);
    if (!status) print_setup(s, r, s->measuring);
    return status;
}

bool kiln_tuning_is_set_up(kiln_session *s, const kiln_result *r) {
    char key[sizeof s->measuring];
    print_setup(s, r, key);
    return kiln_worker_alive(&s->worker[0]) && !strcmp(key, s->measuring);
}

static int setup(search *f, kiln_error *e) {
    double start = kiln_now();
    int status = kiln_tuning_set_up(f->s, f->r, e);
    f->setup_seconds = kiln_now() - start;
    return status;
}

static bool is_set_up(search *f) { return kiln_tuning_is_set_up(f->s, f->r); }

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

bool kiln_tuning_take_measured(kiln_session *s, kiln_record *r, const char *line, kiln_error *e) {
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
    if (!kiln_tuning_take_measured(f->s, &r, line, &why)) {
        const char *error = json_string_value(json_object_get(reply, "error"));
        return fail(f, it, KILN_OUTCOME_DEVICE_ERROR, error ? error : why.text, e);
    }
    r.source = kiln_arena_strdup(&f->s->arena, it->suffix);
    if (worker_tainted(r.outcome)) kiln_worker_stop(&f->s->worker[0]);
    return finish(f, it, &r, e);
}

/* ---- events ---- */

static void show(search *f) {
    kiln_session *s = f->s;
    kiln_text failures = {0};
    for (int i = 0; i < KILN_OUTCOME_COUNT; i++)
        if (i != KILN_OUTCOME_OK && i != KILN_OUTCOME_SLOW && f->r->failures[i])
            kiln_text_printf(&failures, " %s %d", kiln_outcome_name((kiln_outcome)i),
                             f->r->failures[i]);
    double left = s->end - kiln_now();
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

/* ---- what further trials are worth ---- */

static double gain_by_steps(const search *f) {
    return kiln_steps_gain(&f->steps, f->r->trials, KILN_HORIZON);
}

/* What the strategy expects of its model. To ask it takes as long as a proposal: now and then. */
static double gain_by_model(search *f) {
    if (!f->strategy->expected_gain) return NAN;
    if (f->gain_at >= 0 && f->r->trials < f->gain_at + KILN_HORIZON / 2) return f->gain;
    double start = kiln_now();
    f->gain = f->strategy->expected_gain(f->state, KILN_HORIZON);
    f->gain_at = f->r->trials;
    searched_since(f, start);
    return f->gain;
}

/* Why there is nothing more to do here, or NULL. */
static const char *why_finished(search *f) {
    int64_t trials = f->r->trials, most = f->s->options.max_trials;
    double enough = f->s->options.finish;
    if (f->exhausted && !in_work(f)) return "every candidate was tried";
    if (most && trials >= most) return "as many trials as allowed";
    if (trials < KILN_TRIALS_MIN || !(f->best > 0) || gain_by_steps(f) >= enough) return NULL;
    double gain = fmax(gain_by_model(f), gain_by_steps(f)); /* a NaN is the other one */
    if (gain >= enough) return NULL;
    return kiln_arena_printf(&f->s->arena, "%d more are expected to gain %.2g %% at most",
                             KILN_HORIZON, 100 * gain);
}

/* On recorded spaces the lesser of the two is nearer to what comes, and ranks better; but what
 * neither of them expects is sure to be little. */
kiln_stake kiln_tuning_stake(search *f) {
    /* what is compiled and waits is nearly a trial */
    int64_t n = f->r->trials - f->earlier + count(f, READY);
    double guess = f->s->caps.shared_host ? 1 : 0.1;
    double model = gain_by_model(f), steps = gain_by_steps(f);
    return (kiln_stake){.weight = f->r->weight,
                        .ratio = f->s->options.ratio,
                        .seconds = f->best > 0 ? f->best : 0,
                        .gain = fmin(model, steps), /* a NaN is the other one */
                        .gain_most = fmax(model, steps),
                        .trial_seconds = n > 0 ? f->spent / (double)n : guess,
                        .setup_seconds = f->setup_seconds,
                        .finished = why_finished(f) != NULL};
}

/* So many a first visit is for. */
static int64_t first_trials(const search *f) {
    bool enough = f->visit.starts_only && f->best > 0;
    return f->space.n_starts + (enough ? 0 : BATCH);
}

/* Whether this visit starts anything new. */
static bool goes_on(search *f) {
    const kiln_visit *v = &f->visit;
    double lasted = kiln_now() - f->begun;
    if (f->ended > 0 || lasted >= v->most || why_finished(f)) return false;
    if (v->first) return f->r->trials < first_trials(f);
    if (lasted < v->least) return true;
    kiln_stake stake = kiln_tuning_stake(f);
    stake.left = v->most - lasted;
    return kiln_stake_value(&stake, true) >= v->rival;
}

/* ---- the loop ---- */

/* GPU: keep every compile worker fed and a few units ready; CPU: one batch after another. */
static int look_ahead(const kiln_session *s) {
    int ahead = s->caps.shared_host ? s->caps.programs_per_unit : 2 * s->n_compilers;
    return ahead < BATCH ? BATCH : ahead > ITEMS_MAX ? ITEMS_MAX : ahead;
}

/* In batches: a proposal trains the model, and nothing is handed out meanwhile. */
static void propose_ahead(search *f) {
    const kiln_session *s = f->s;
    int ahead = look_ahead(s), busy = in_work(f), room = ahead - busy;
    int64_t first = first_trials(f) - f->r->trials - busy;
    if (f->visit.first && room > first) room = (int)first; /* no more than it is for */
    int64_t allowed = s->options.max_trials - f->r->trials - busy;
    if (s->options.max_trials && room > allowed) room = (int)allowed;
    if (room > 0 && (s->caps.shared_host ? busy == 0 : busy <= ahead - BATCH)) propose(f, room);
}

/* A GPU is made ready for the problem while the first candidates are compiled. */
static int setup_early(search *f, kiln_error *e) {
    bool wanted = !f->s->caps.shared_host && compiling(f) && !f->s->worker[0].busy;
    return wanted && !is_set_up(f) ? setup(f, e) : KILN_OK;
}

/* Compile workers still on something would answer into the next problem's visit: what they were on
 * is started anew in the next visit of this one. */
static void release_workers(search *f) {
    for (int i = 1; i <= f->s->n_compilers; i++)
        if (f->s->worker[i].busy) kiln_worker_stop(&f->s->worker[i]);
    if (f->s->worker[0].busy) kiln_worker_stop(&f->s->worker[0]);
    for (int i = 0; i < ITEMS_MAX; i++)
        if (f->items[i].state == COMPILING)
            f->items[i].state = PROPOSED;
        else if (f->items[i].state == MEASURING)
            f->items[i].state = READY;
    for (size_t i = 0; i < sizeof f->jobs / sizeof *f->jobs; i++) f->jobs[i].n = 0;
}

static int loop(search *f, kiln_error *e) {
    int status = KILN_OK;
    while (!status && !kiln_interrupted) {
        bool going = goes_on(f);
        if (going && !f->exhausted) propose_ahead(f);
        int left = in_work(f) - (going ? 0 : count(f, PROPOSED));
        if (!left && (!going || f->exhausted)) break;
        if (!going && !(f->ended > 0)) f->ended = kiln_now();
        bool late = !going && kiln_now() > f->ended + DRAIN_SECONDS;
        if (late && !f->s->worker[0].busy && f->best > 0) break;
        if (going) status = start_jobs(f, e);
        if (!status && going) status = setup_early(f, e);
        if (!status) status = start_trial(f, e);
        if (!status) status = wait(f, e);
        show(f);
    }
    release_workers(f);
    return status;
}

/* ---- starting, and starting again ---- */

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

/* Appends what is worth trying of the best of r to the points; returns their number. */
static int add_related(const search *f, const kiln_result *r, bool same, int64_t *points, int n) {
    kiln_schedule schedule;
    if (r == f->r || !r->have_winner || r->problem.family != f->r->problem.family) return n;
    if (shares_kernels(&r->problem, &f->r->problem) != same) return n;
    if (kiln_schedule_parse(r->problem.family, &schedule, r->winner.schedule, NULL)) return n;
    int64_t point = kiln_candidates_find(&f->c, &schedule);
    if (point >= 0 && worth_trying(f, point, points, n)) points[n++] = point;
    return n;
}

/* The start schedules, then what related problems found. */
static int gather_starts(const search *f, int64_t *points) {
    const kiln_result *first = f->s->result, *end = first + f->s->n_results;
    int n = f->c.n_starts, most = n + RELATED_MAX;
    memcpy(points, f->c.start, (size_t)n * sizeof *points);
    for (int same = 1; same >= 0; same--) {
        for (const kiln_result *r = f->r - 1; r >= first && n < most; r--)
            n = add_related(f, r, same, points, n);
        for (const kiln_result *r = f->r + 1; r < end && n < most; r++)
            n = add_related(f, r, same, points, n);
    }
    return n;
}

/* Since the last visit other problems have found something, too. */
static void try_related(search *f) {
    int64_t points[sizeof f->starts / sizeof *f->starts];
    int n = gather_starts(f, points);
    for (int i = f->c.n_starts; i < n; i++) try_point(f, points[i]);
}

/* ---- what a visit leaves in the result ---- */

/* What the search itself knows, until there are finals. */
static void take_best(search *f) {
    bool final = f->r->have_winner && !strcmp(f->r->winner.phase, "final");
    if (!(f->best > 0) || final) return;
    kiln_known *k = &f->known[f->best_point];
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

/* What is told of the search afterwards. A search that was opened again has no model yet. */
static void take_quality(search *f) {
    double rank = NAN, recall = NAN;
    if (f->strategy->quality) f->strategy->quality(f->state, &rank, &recall);
    if (isnan(rank)) return;
    f->r->rank_correlation = rank;
    f->r->recall = recall;
}

/* ---- life ---- */

static int start_strategy(search *f, kiln_error *e) {
    kiln_search_options o = {.seed = f->s->options.seed,
                             .batch = BATCH,
                             .expected_trials = f->s->caps.shared_host ? 30 : 120};
    f->known = calloc((size_t)f->c.n, sizeof *f->known);
    f->space = kiln_candidates_space(&f->c);
    f->space.n_starts = gather_starts(f, f->starts);
    f->space.starts = f->starts;
    f->strategy = kiln_strategy_find(f->s->options.strategy);
    f->state = f->known ? f->strategy->create(&f->space, &o, e) : NULL;
    return f->state ? KILN_OK : kiln_fail(e, KILN_NO_MEMORY, "no memory for a search");
}

static int learn_earlier(search *f, kiln_error *e) {
    kiln_query earlier = {.problem = f->r->text,
                          .device = f->s->identity,
                          .phase = "search",
                          .protocol = kiln_record_protocol(f->s->options.hot)};
    int status = kiln_store_each(f->s->store, &earlier, resume_visit, f, e);
    f->earlier = f->r->trials;
    return status;
}

kiln_tuning *kiln_tuning_open(kiln_session *s, kiln_result *r, kiln_error *e) {
    search *f = calloc(1, sizeof *f);
    if (!f) return kiln_fail(e, KILN_NO_MEMORY, "no memory for a search"), NULL;
    *f = (search){.s = s, .r = r, .best_point = -1, .anchor = -1, .gain_at = -1};
    int status =
        kiln_candidates_open(&f->c, &r->problem, &s->caps, CANDIDATES_LIMIT, s->options.seed, e);
    if (status) return free(f), NULL;
    r->space = f->c.n;
    r->raw = f->c.raw;
    r->trials = 0;
    memset(r->failures, 0, sizeof r->failures);
    status = start_strategy(f, e);
    if (!status) status = learn_earlier(f, e);
    if (!status) return f;
    kiln_tuning_close(f);
    return NULL;
}

void kiln_tuning_close(search *f) {
    if (f->state) f->strategy->destroy(f->state);
    free(f->known);
    kiln_candidates_close(&f->c);
    free(f);
}

int64_t kiln_tuning_bytes(const search *f) {
    /* the strategy holds features once more, and some figures per point */
    int64_t point = (int64_t)(sizeof(kiln_schedule) + sizeof(kiln_known) + 16 * sizeof(double)) +
                    2 * f->c.n_features * (int64_t)sizeof(float);
    return f->c.n * point;
}

int kiln_tuning_visit(search *f, const kiln_visit *v, kiln_error *e) {
    f->visit = *v;
    f->begun = kiln_now();
    f->ended = 0;
    f->gain_at = -1;
    try_related(f);
    int status = loop(f, e);
    f->spent += kiln_now() - f->begun;
    take_best(f);
    take_quality(f);
    keep_generic(f);
    return status;
}

int kiln_tuning_finish(search *f, double seconds, kiln_error *e) {
    const char *why = why_finished(f);
    f->r->ended = why ? why : "the budget was used up";
    kiln_found found = {f->s, f->r, &f->c, f->known};
    int status = f->best > 0 ? kiln_tuning_finals(&found, seconds, e) : KILN_OK;
    if (!(f->best > 0)) f->r->failure = kiln_arena_strdup(&f->s->arena, "no candidate was right");
    if (f->r->failure) f->r->have_winner = false;
    f->r->finished = !status && !kiln_interrupted;
    return status;
}
